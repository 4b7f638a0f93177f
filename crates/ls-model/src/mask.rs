//! Which tokens attend to which: attention modes, and what follows from them for a layer.

use std::fmt;
use std::ops::Range;

use ls_files::shown;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{ModelError, Result};
use crate::trained::ranges;

/// Which layers are bidirectional, that is, without a causal mask.
///
/// LS-LLaMA (arXiv 2310.01208) is [`AttentionMode::Causal`], LS-unLLaMA
/// [`AttentionMode::Bidirectional`]; arXiv 2401.14556 removes the mask in chosen layers only. As
/// text a mode is
///
/// - `causal` or `bidirectional`,
/// - `from:16`: layer 16 and all above,
/// - `layers:0-7,24-31`: inclusive ranges,
/// - `groups:0011`: the layers in as many groups as there are bits, of equal size or, where the
///   layers do not divide evenly, one layer apart; the first bit is the lowest layers', 1 =
///   bidirectional.
///
/// ```
/// use ls_model::AttentionMode;
///
/// let mode: AttentionMode = "layers:0-7,24-31".parse()?;
/// assert_eq!(mode, AttentionMode::Layers(vec![0..8, 24..32]));
/// assert_eq!(mode.to_string(), "layers:0-7,24-31");
/// # Ok::<(), ls_model::ModelError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AttentionMode {
    /// No layer is bidirectional.
    #[default]
    Causal,
    /// Every layer is bidirectional.
    Bidirectional,
    /// The layers from this one on are bidirectional.
    From(usize),
    /// The layers in these ranges are bidirectional.
    Layers(Vec<Range<usize>>),
    /// One bit per group of layers, lowest group first.
    Groups(Vec<bool>),
}

impl AttentionMode {
    /// Sees that the mode fits a model of so many layers.
    ///
    /// # Errors
    ///
    /// If it names a layer that is not there, or there are more groups than layers.
    pub fn check(&self, num_hidden_layers: usize) -> Result<()> {
        self.bidirectional_layers(num_hidden_layers).map(|_| ())
    }

    /// Whether each of `num_hidden_layers` layers is bidirectional.
    ///
    /// # Errors
    ///
    /// If the mode names a layer that is not there, or there are more groups than layers.
    pub fn bidirectional_layers(&self, num_hidden_layers: usize) -> Result<Vec<bool>> {
        let error = |reason: String| ModelError::AttentionMode {
            mode: shown(self),
            reason,
        };
        let past = |layer: usize| {
            error(format!(
                "layer {layer} is past the last of {num_hidden_layers} layers"
            ))
        };
        match self {
            Self::Causal => Ok(vec![false; num_hidden_layers]),
            Self::Bidirectional => Ok(vec![true; num_hidden_layers]),
            Self::From(first) if *first >= num_hidden_layers => Err(past(*first)),
            Self::From(first) => Ok((0..num_hidden_layers)
                .map(|layer| layer >= *first)
                .collect()),
            Self::Layers(ranges) => match ranges.iter().find(|range| range.end > num_hidden_layers)
            {
                Some(range) => Err(past(range.end - 1)),
                None => Ok((0..num_hidden_layers)
                    .map(|layer| ranges.iter().any(|r| r.contains(&layer)))
                    .collect()),
            },
            Self::Groups(bits) => {
                if bits.is_empty() || bits.len() > num_hidden_layers {
                    return Err(error(format!(
                        "{} groups of {num_hidden_layers} layers",
                        bits.len()
                    )));
                }
                Ok((0..num_hidden_layers)
                    .map(|layer| bits[layer * bits.len() / num_hidden_layers])
                    .collect())
            }
        }
    }
}

impl std::str::FromStr for AttentionMode {
    type Err = ModelError;

    fn from_str(mode: &str) -> Result<Self> {
        let error = |reason: &str| ModelError::AttentionMode {
            mode: shown(mode),
            reason: reason.into(),
        };
        let layer = |text: &str| {
            text.trim()
                .parse::<usize>()
                .map_err(|_| error("expected a layer number"))
        };
        match mode.split_once(':') {
            None if mode == "causal" => Ok(Self::Causal),
            None if mode == "bidirectional" => Ok(Self::Bidirectional),
            Some(("from", first)) => Ok(Self::From(layer(first)?)),
            Some(("layers", list)) => ranges(list).map(Self::Layers).map_err(error),
            Some(("groups", bits)) => bits
                .chars()
                .map(|bit| match bit {
                    '0' => Ok(false),
                    '1' => Ok(true),
                    _ => Err(error("expected bits 0 and 1 after groups:")),
                })
                .collect::<Result<_>>()
                .map(Self::Groups),
            _ => Err(error(
                "expected causal, bidirectional, from:LAYER, layers:FIRST-LAST,... or groups:BITS",
            )),
        }
    }
}

impl fmt::Display for AttentionMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Causal => f.write_str("causal"),
            Self::Bidirectional => f.write_str("bidirectional"),
            Self::From(first) => write!(f, "from:{first}"),
            Self::Layers(ranges) => {
                let list: Vec<String> = ranges
                    .iter()
                    .map(|range| format!("{}-{}", range.start, range.end.saturating_sub(1)))
                    .collect();
                write!(f, "layers:{}", list.join(","))
            }
            Self::Groups(bits) => {
                f.write_str("groups:")?;
                bits.iter()
                    .try_for_each(|&bit| f.write_str(if bit { "1" } else { "0" }))
            }
        }
    }
}

impl Serialize for AttentionMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AttentionMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Which tokens a token of one layer attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Visibility {
    /// Whether it attends to tokens on its right.
    pub bidirectional: bool,
    /// Sliding window in tokens, if the layer has one.
    pub window: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(mode: &str) -> AttentionMode {
        mode.parse().unwrap()
    }

    fn layers(mode: &str, num_hidden_layers: usize) -> String {
        let layers = parse(mode).bidirectional_layers(num_hidden_layers).unwrap();
        layers
            .iter()
            .map(|&on| if on { '1' } else { '0' })
            .collect()
    }

    #[test]
    fn modes_are_written_as_they_are_read() {
        for (text, mode) in [
            ("causal", AttentionMode::Causal),
            ("bidirectional", AttentionMode::Bidirectional),
            ("from:16", AttentionMode::From(16)),
            (
                "layers:0-7,24-31",
                AttentionMode::Layers(vec![0..8, 24..32]),
            ),
            ("layers:1-1,3-3", AttentionMode::Layers(vec![1..2, 3..4])),
            (
                "groups:0011",
                AttentionMode::Groups(vec![false, false, true, true]),
            ),
        ] {
            assert_eq!(parse(text), mode);
            assert_eq!(mode.to_string(), text);
            let json = serde_json::to_string(&mode).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<AttentionMode>(&json).unwrap(), mode);
        }
        assert_eq!(
            parse("layers:5, 1-2"),
            AttentionMode::Layers(vec![5..6, 1..3])
        );
        assert_eq!(AttentionMode::default(), AttentionMode::Causal);
    }

    #[test]
    fn what_is_no_mode_is_an_error_that_shows_it() {
        for (text, reason) in [
            ("", "expected causal, bidirectional"),
            ("Causal", "expected causal, bidirectional"),
            ("causal:1", "expected causal, bidirectional"),
            ("none", "expected causal, bidirectional"),
            ("from:", "layer number"),
            ("from:-1", "layer number"),
            ("from:half", "layer number"),
            ("layers:", "layer number"),
            ("layers:1-", "layer number"),
            ("layers:1,,2", "layer number"),
            ("layers:0-18446744073709551615", "layer number"),
            ("layers:7-3", "backwards"),
            ("groups:012", "bits 0 and 1"),
        ] {
            let error = text.parse::<AttentionMode>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn every_pattern_of_four_groups_starts_at_the_lowest_layers() {
        assert_eq!(layers("groups:0011", 8), "00001111");
        assert_eq!(layers("groups:1000", 8), "11000000");
        for pattern in 0..16 {
            let bits = format!("{pattern:04b}");
            let doubled: String = bits.chars().flat_map(|bit| [bit, bit]).collect();
            assert_eq!(layers(&format!("groups:{bits}"), 8), doubled);
        }
        assert_eq!(layers("groups:1", 3), "111");
    }

    #[test]
    fn groups_that_do_not_divide_the_layers_are_one_layer_apart() {
        assert_eq!(layers("groups:0101", 30), "000000001111111000000001111111");
        assert_eq!(layers("groups:011", 8), "00011111");
        assert_eq!(layers("groups:01010", 5), "01010");
    }

    #[test]
    fn ranges_name_their_layers() {
        assert_eq!(layers("causal", 3), "000");
        assert_eq!(layers("bidirectional", 3), "111");
        assert_eq!(layers("from:0", 3), "111");
        assert_eq!(layers("from:2", 3), "001");
        assert_eq!(layers("layers:0-1,4-4", 6), "110010");
        assert_eq!(layers("layers:1-3,2-4", 6), "011110");
    }

    #[test]
    fn layers_that_are_not_there_are_errors() {
        for (mode, count, reason) in [
            ("from:8", 8, "layer 8 is past the last of 8 layers"),
            ("layers:0-3,6-8", 8, "layer 8 is past the last of 8 layers"),
            ("groups:", 8, "0 groups of 8 layers"),
            ("groups:0000000000", 5, "10 groups of 5 layers"),
        ] {
            let error = parse(mode).bidirectional_layers(count).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
            assert!(error.to_string().contains(mode), "{error}");
        }
    }
}
