//! [`Trained`]: which parameters of a classifier train in full.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use ls_files::shown;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{ModelError, Result};

/// Which parameters of a classifier train in full, not through an adapter. The head always does.
///
/// What trains in full is f32, whatever the rest is held in ([`Precision::in_f32`]).
///
/// ```
/// use ls_model::Trained;
///
/// let trained: Trained = "0,4-7".parse()?;
/// assert!(trained.holds("model.layers.5.mlp.up_proj.weight") && trained.holds("score.weight"));
/// assert!(!trained.holds("model.layers.1.mlp.up_proj.weight"));
/// assert!(!trained.holds("model.embed_tokens.weight"));
/// assert_eq!(trained.to_string(), "0,4-7");
/// # Ok::<(), ls_model::ModelError>(())
/// ```
///
/// [`Precision::in_f32`]: crate::Precision::in_f32
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Trained {
    /// No parameter of the decoder; as text `head`.
    #[default]
    Head,
    /// Those of these blocks; as text their numbers. Embeddings and the last norm are frozen.
    Layers(LayerList),
    /// Every one; as text `all`.
    All,
}

impl Trained {
    /// Whether a parameter trains, by its name in a checkpoint, with `model.` or without.
    pub fn holds(&self, parameter: &str) -> bool {
        let name = parameter.strip_prefix("model.").unwrap_or(parameter);
        match self {
            Self::Head => name.starts_with("score."),
            Self::Layers(list) => match layer_of(name) {
                Some(layer) => list.contains(layer),
                None => name.starts_with("score."),
            },
            Self::All => true,
        }
    }

    /// Whether it is the head alone.
    pub fn is_head(&self) -> bool {
        *self == Self::Head
    }
}

/// The block that a parameter is of, by its name without `model.`.
fn layer_of(name: &str) -> Option<usize> {
    let (number, _) = name.strip_prefix("layers.")?.split_once('.')?;
    number.parse().ok()
}

impl FromStr for Trained {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "head" => Ok(Self::Head),
            "all" => Ok(Self::All),
            list => list.parse().map(Self::Layers),
        }
    }
}

impl fmt::Display for Trained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("head"),
            Self::Layers(list) => list.fmt(f),
            Self::All => f.write_str("all"),
        }
    }
}

impl Serialize for Trained {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Trained {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Blocks by their numbers, counted from 0: `16-31`, `0,4-7`; at least one. Files may also hold a
/// number, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerList {
    /// In order, apart from each other.
    ranges: Vec<Range<usize>>,
}

impl LayerList {
    fn new(mut ranges: Vec<Range<usize>>) -> Self {
        ranges.sort_unstable_by_key(|range| range.start);
        let mut apart: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match apart.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => apart.push(range),
            }
        }
        Self { ranges: apart }
    }

    /// Whether a block is among them.
    pub fn contains(&self, layer: usize) -> bool {
        self.ranges.iter().any(|range| range.contains(&layer))
    }

    /// Sees that a model of so many blocks has them.
    ///
    /// # Errors
    ///
    /// If it has not.
    pub fn check(&self, num_hidden_layers: usize) -> Result<()> {
        match self.ranges.last() {
            Some(last) if last.end > num_hidden_layers => Err(ModelError::Layers {
                list: shown(self),
                reason: format!(
                    "the model has {num_hidden_layers} layers, 0 to {}",
                    num_hidden_layers.saturating_sub(1)
                ),
            }),
            _ => Ok(()),
        }
    }
}

impl FromStr for LayerList {
    type Err = ModelError;

    fn from_str(list: &str) -> Result<Self> {
        match ranges(list) {
            Ok(ranges) => Ok(Self::new(ranges)),
            Err(reason) => Err(ModelError::Layers {
                list: shown(list),
                reason: format!("{reason}; layers are written as 16-31 or 0,4-7"),
            }),
        }
    }
}

/// Inclusive ranges and single numbers, parted by commas: `0,4-7`.
///
/// # Errors
///
/// With what is wrong.
pub(crate) fn ranges(list: &str) -> Result<Vec<Range<usize>>, &'static str> {
    let layer = |text: &str| {
        let number = text.trim().parse::<usize>();
        number.map_err(|_| "expected a layer number")
    };
    list.split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (layer(first)?, layer(last)?);
            if first > last {
                return Err("a range runs backwards");
            }
            let end = last.checked_add(1).ok_or("expected a layer number")?;
            Ok(first..end)
        })
        .collect()
}

impl fmt::Display for LayerList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.ranges.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let last = range.end.saturating_sub(1);
            if range.start == last {
                write!(f, "{comma}{last}")?;
            } else {
                write!(f, "{comma}{}-{last}", range.start)?;
            }
        }
        Ok(())
    }
}

impl Serialize for LayerList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LayerList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "expected layers such as \"16-31\", \"0,4-7\" or [0, 4, 5]"
        )]
        enum Written {
            Text(String),
            One(usize),
            Several(Vec<usize>),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Text(text) => text,
            Written::One(layer) => layer.to_string(),
            Written::Several(layers) => {
                let layers: Vec<String> = layers.iter().map(usize::to_string).collect();
                layers.join(",")
            }
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<LayerList, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn layers_are_text_a_number_or_a_list_and_overlaps_are_one_range() {
        for (json, shown) in [
            ("\"16-31\"", "16-31"),
            ("\" 7, 0 , 4-6\"", "0,4-7"),
            ("\"0-3,2-5,9\"", "0-5,9"),
            ("3", "3"),
            ("[5, 0, 4, 4]", "0,4-5"),
        ] {
            let list = read(json).unwrap();
            assert_eq!(list.to_string(), shown);
            assert_eq!(read(&serde_json::to_string(&list).unwrap()).unwrap(), list);
        }
    }

    #[test]
    fn what_names_no_layer_is_refused() {
        for (json, reason) in [
            ("\"\"", "layers \"\": expected a layer number"),
            ("[]", "layers \"\": expected a layer number"),
            ("\"3-\"", "layers \"3-\": expected a layer number"),
            ("\"top\"", "layers are written as 16-31 or 0,4-7"),
            ("\"7-4\"", "a range runs backwards"),
            ("[-1]", "expected layers such as"),
            ("1.5", "expected layers such as"),
            ("\"18446744073709551615\"", "expected a layer number"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(reason), "{json}: {error}");
        }
        let list: LayerList = "0,4-7".parse().unwrap();
        list.check(8).unwrap();
        let error = list.check(7).unwrap_err().to_string();
        assert_eq!(error, "layers \"0,4-7\": the model has 7 layers, 0 to 6");
    }

    #[test]
    fn a_choice_holds_its_parameters_with_the_prefix_or_without() {
        let names = [
            "embed_tokens.weight",
            "layers.1.mlp.up_proj.weight",
            "layers.11.input_layernorm.weight",
            "norm.weight",
            "score.bias",
        ];
        for (text, expected) in [
            ("head", [false, false, false, false, true]),
            ("1-10", [false, true, false, false, true]),
            ("all", [true; 5]),
        ] {
            let trained: Trained = text.parse().unwrap();
            assert_eq!(trained.to_string(), text);
            assert_eq!(names.map(|name| trained.holds(name)), expected);
            let prefixed = names.map(|name| trained.holds(&format!("model.{name}")));
            assert_eq!(prefixed, expected);
        }
    }
}
