//! The kinds of rotary position embedding: which `rope_type` of `config.json` gives which
//! frequencies.
//!
//! All that is known of a kind is in this file. A new one is a variant of [`RopeScaling`], an arm
//! in `Parameters::scaling` with its name in the list of supported kinds there, and an arm in
//! `RopeConfig::inverse_frequencies`, with its tables in `tests/fixtures/rope`; if its frequencies
//! depend on the input's length, `RopeConfig::stretches` says from which length on. Angles are
//! computed in f64.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::Result;
use crate::fields::Fields;

/// How frequencies are stretched beyond the pretraining length; the names are those of
/// transformers' `modeling_rope_utils.py`.
///
/// Two kinds go by the length of the input. transformers takes the longest input of the batch for
/// all; here each input has its own length, so that a result does not depend on the rest of the
/// batch. Both agree on an input that is alone.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    Default,
    /// All frequencies divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// NTK: for an input longer than `max_position_embeddings` the base grows with its length.
    Dynamic {
        /// How fast the base grows.
        factor: f64,
    },
    /// LLaMA 3.1: divides low frequencies by `factor`, keeps high ones, and blends between.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths over `original_max_position_embeddings / low_freq_factor` are low
        /// frequencies.
        low_freq_factor: f64,
        /// Wavelengths under `original_max_position_embeddings / high_freq_factor` are high
        /// frequencies.
        high_freq_factor: f64,
        /// The pretraining length, in tokens.
        original_max_position_embeddings: f64,
    },
    /// YaRN: as LLaMA 3.1, but blends along the place of a pair instead of its frequency.
    Yarn {
        /// The divisor of low frequencies.
        factor: f64,
        /// What cosines and sines are multiplied by.
        attention_factor: f64,
        /// Pairs that turn so often within the pretraining length keep their frequency.
        beta_fast: f64,
        /// Those that turn so seldom have it divided.
        beta_slow: f64,
        /// The pretraining length, in tokens.
        original_max_position_embeddings: f64,
        /// Whether the two places between which it blends are rounded to whole pairs.
        truncate: bool,
    },
    /// LongRoPE: each frequency divided by a factor of its own, of one list or the other, which all
    /// layers share.
    LongRope {
        /// The divisors for an input up to the pretraining length, one for each pair that turns.
        short_factor: Arc<[f64]>,
        /// Those for a longer one.
        long_factor: Arc<[f64]>,
        /// What cosines and sines are multiplied by, whatever the length.
        attention_factor: f64,
        /// The pretraining length, in tokens.
        original_max_position_embeddings: f64,
    },
}

/// How a family's files write down their rotary embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RopeDialect {
    /// As LLaMA, Mistral and Qwen2 do: any kind, and a head turns as a whole.
    Llama,
    /// As Phi-3 does: `default` or `longrope`, which it also calls `su` or `yarn`, the pretraining
    /// length beside the parameters, and maybe only a part of each head turns.
    Phi3,
}

impl RopeDialect {
    /// The pretraining length that a file without one means, before any in the parameters.
    fn original_max_position_embeddings(self) -> Option<f64> {
        match self {
            Self::Llama => None,
            Self::Phi3 => Some(4096.0),
        }
    }
}

/// Rotary embedding of one checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// The base.
    pub theta: f64,
    /// The scaling.
    pub scaling: RopeScaling,
    /// Channels of a head that turn, an even number: the first ones.
    pub rotary_dim: usize,
    /// The pretraining length, in tokens; longer inputs are stretched by `dynamic`.
    pub max_position_embeddings: usize,
}

/// Whether it is an object without fields, which in Python is false.
fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

impl RopeConfig {
    /// Reads `rope_parameters` (transformers 5), or `rope_scaling` beside `rope_theta` (before), of
    /// a `config.json`; `theta` is the base of a file without one.
    pub(crate) fn read(
        fields: &Fields<'_>,
        head_dim: usize,
        max_position_embeddings: usize,
        theta: f64,
        dialect: RopeDialect,
    ) -> Result<Self> {
        let (name, map) = match (
            fields.map.get("rope_parameters"),
            fields
                .map
                .get("rope_scaling")
                .filter(|scaling| !is_empty(scaling)),
        ) {
            // transformers prefers the old spelling where it says something.
            (_, Some(Value::Object(map))) => ("rope_scaling", Some(map)),
            (Some(Value::Object(map)), _) => ("rope_parameters", Some(map)),
            (None | Some(Value::Null), None | Some(Value::Null)) => ("rope_parameters", None),
            _ => return Err(fields.error("rope_parameters", "expected an object")),
        };
        let empty = Map::new();
        let rope = Fields {
            path: fields.path,
            within: &format!("{name}."),
            map: map.unwrap_or(&empty),
        };
        if let Some(value) = rope.map.values().find(|value| value.is_object()) {
            let supported = "one set of parameters for all layers";
            return Err(fields.unsupported(name, &value.to_string(), supported));
        }
        let theta = fields.of_rope("rope_theta")?.unwrap_or(theta);
        Self::of(
            &rope,
            fields,
            head_dim,
            max_position_embeddings,
            theta,
            dialect,
        )
    }

    /// Reads the two embeddings of a model whose layers with a window have one of their own, the
    /// global one first: `rope_parameters` with both by the names of `layer_types` (transformers
    /// 5), or `rope_theta`, which `rope_scaling` stretches, and `rope_local_base_freq` (before).
    /// `thetas` are the bases of a file without one.
    pub(crate) fn read_of_kinds(
        fields: &Fields<'_>,
        head_dim: usize,
        max_position_embeddings: usize,
        thetas: [f64; 2],
    ) -> Result<[Self; 2]> {
        let map = |of: &Fields<'_>, name: &str| match of.map.get(name) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map.clone()),
            Some(_) => Err(of.error(name, "expected an object")),
        };
        let name = "rope_parameters";
        let both = map(fields, name)?;
        let both = Fields {
            path: fields.path,
            within: &format!("{name}."),
            map: &both,
        };
        let kinds = ["full_attention", "sliding_attention"];
        if let Some(other) = both.map.keys().find(|key| !kinds.contains(&key.as_str())) {
            return Err(both.error(other, "expected full_attention and sliding_attention"));
        }
        let read = |kind: &str, beside: &str, theta: f64, scaling: Map<String, Value>| {
            let mut parameters = map(&both, kind)?;
            parameters.extend(scaling);
            let rope = Fields {
                path: fields.path,
                within: &format!("{name}.{kind}."),
                map: &parameters,
            };
            let theta = fields.of_rope(beside)?.unwrap_or(theta);
            let dialect = RopeDialect::Llama;
            Self::of(
                &rope,
                fields,
                head_dim,
                max_position_embeddings,
                theta,
                dialect,
            )
        };
        let scaling = map(fields, "rope_scaling")?;
        Ok([
            read(kinds[0], "rope_theta", thetas[0], scaling)?,
            read(kinds[1], "rope_local_base_freq", thetas[1], Map::new())?,
        ])
    }

    /// Of one set of parameters. `fields` stand beside them, `theta` is the base without one.
    fn of(
        rope: &Fields<'_>,
        fields: &Fields<'_>,
        head_dim: usize,
        max_position_embeddings: usize,
        theta: f64,
        dialect: RopeDialect,
    ) -> Result<Self> {
        let theta = rope.of_rope("rope_theta")?.unwrap_or(theta);
        let parameters = Parameters {
            rope,
            beside: fields,
            theta,
            max_position_embeddings: max_position_embeddings as f64,
            dialect,
        };
        let rotary_dim = parameters.rotary_dim(head_dim)?;
        Ok(Self {
            theta,
            scaling: parameters.scaling(rotary_dim)?,
            rotary_dim,
            max_position_embeddings,
        })
    }

    /// Whether an input of `length` tokens has other frequencies than a short one.
    pub(crate) fn stretches(&self, length: usize) -> bool {
        match self.scaling {
            RopeScaling::Dynamic { .. } => length > self.max_position_embeddings,
            RopeScaling::LongRope {
                original_max_position_embeddings: original,
                ..
            } => length as f64 > original,
            _ => false,
        }
    }

    /// What cosines and sines are multiplied by.
    pub(crate) fn attention_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn {
                attention_factor, ..
            }
            | RopeScaling::LongRope {
                attention_factor, ..
            } => attention_factor,
            _ => 1.0,
        }
    }

    /// Radians per token of each of the `rotary_dim / 2` pairs, for an input of `length` tokens.
    pub(crate) fn inverse_frequencies(&self, length: usize) -> Vec<f64> {
        let dim = self.rotary_dim as f64;
        let base = match self.scaling {
            RopeScaling::Dynamic { factor } if self.stretches(length) => {
                let stretch =
                    factor * length as f64 / self.max_position_embeddings as f64 - (factor - 1.0);
                self.theta * stretch.powf(dim / (dim - 2.0))
            }
            _ => self.theta,
        };
        let plain = (0..self.rotary_dim / 2).map(|i| base.powf(-2.0 * i as f64 / dim));
        match &self.scaling {
            RopeScaling::Default | RopeScaling::Dynamic { .. } => plain.collect(),
            RopeScaling::Linear { factor } => plain.map(|frequency| frequency / factor).collect(),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => plain
                .map(|frequency| {
                    let wavelength = 2.0 * std::f64::consts::PI / frequency;
                    let turns = original_max_position_embeddings / wavelength;
                    if turns < *low_freq_factor {
                        frequency / factor
                    } else if turns > *high_freq_factor {
                        frequency
                    } else {
                        let smooth =
                            (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                        (1.0 - smooth) * frequency / factor + smooth * frequency
                    }
                })
                .collect(),
            RopeScaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                original_max_position_embeddings: original,
                truncate,
                ..
            } => {
                // The place of the pair that turns so many times within the pretraining length.
                let place = |turns: f64| {
                    let longest = original / (turns * 2.0 * std::f64::consts::PI);
                    dim * longest.ln() / (2.0 * base.ln())
                };
                let (kept, divided) = match (place(*beta_fast), place(*beta_slow)) {
                    (kept, divided) if *truncate => (kept.floor(), divided.ceil()),
                    exact => exact,
                };
                let (kept, mut divided) = (kept.max(0.0), divided.min(dim - 1.0));
                if kept == divided {
                    divided += 0.001; // a step, without a division by 0
                }
                plain
                    .enumerate()
                    .map(|(pair, frequency)| {
                        let part = ((pair as f64 - kept) / (divided - kept)).clamp(0.0, 1.0);
                        part * frequency / factor + (1.0 - part) * frequency
                    })
                    .collect()
            }
            RopeScaling::LongRope {
                short_factor,
                long_factor,
                ..
            } => {
                let factors = if self.stretches(length) {
                    long_factor
                } else {
                    short_factor
                };
                let divided = plain.zip(factors.iter());
                divided.map(|(frequency, by)| frequency / by).collect()
            }
        }
    }
}

/// What a file says of its rotary embedding.
struct Parameters<'a> {
    /// `rope_parameters` or `rope_scaling`.
    rope: &'a Fields<'a>,
    /// The whole file.
    beside: &'a Fields<'a>,
    theta: f64,
    max_position_embeddings: f64,
    dialect: RopeDialect,
}

impl Parameters<'_> {
    /// Channels of a head that turn.
    fn rotary_dim(&self, head_dim: usize) -> Result<usize> {
        const FIELD: &str = "partial_rotary_factor";
        let (place, part) = match self.rope.of_rope(FIELD)? {
            Some(part) => (self.rope, part),
            None => (self.beside, self.beside.of_rope(FIELD)?.unwrap_or(1.0)),
        };
        if part == 1.0 {
            return Ok(head_dim);
        }
        if self.dialect != RopeDialect::Phi3 {
            return Err(place.unsupported(FIELD, &part.to_string(), "1.0"));
        }
        if part > 1.0 {
            return Err(place.error(FIELD, format!("expected at most 1, found {part}")));
        }
        let turned = (head_dim as f64 * part) as usize;
        if turned == 0 || !turned.is_multiple_of(2) {
            let reason = format!(
                "expected a part of head_dim {head_dim} that is an even number of channels, found \
                 {part}, which is {turned}"
            );
            return Err(place.error(FIELD, reason));
        }
        Ok(turned)
    }

    /// The kind that `rope_type` names (`type` in the oldest files), with its parameters.
    fn scaling(&self, rotary_dim: usize) -> Result<RopeScaling> {
        let rope = self.rope;
        let kind = rope.string("rope_type")?.or(rope.string("type")?);
        match (self.dialect, kind.as_deref().unwrap_or("default")) {
            (_, "default") => Ok(RopeScaling::Default),
            (_, "longrope") | (RopeDialect::Phi3, "su" | "yarn") => self.longrope(rotary_dim),
            (RopeDialect::Phi3, other) => {
                Err(rope.unsupported("rope_type", other, "default, longrope"))
            }
            (_, "linear") => Ok(RopeScaling::Linear {
                factor: rope.required_of_rope("factor")?,
            }),
            (_, "dynamic") if rotary_dim <= 2 => {
                let reason = format!("dynamic needs a head_dim over 2, found {rotary_dim}");
                Err(rope.error("rope_type", reason))
            }
            (_, "dynamic") => Ok(RopeScaling::Dynamic {
                factor: rope.required_of_rope("factor")?,
            }),
            (_, "llama3") => Ok(RopeScaling::Llama3 {
                factor: rope.required_of_rope("factor")?,
                low_freq_factor: rope.required_of_rope("low_freq_factor")?,
                high_freq_factor: self.high_freq_factor()?,
                original_max_position_embeddings: self.original()?,
            }),
            (_, "yarn") => self.yarn(),
            (_, other) => {
                let supported = "default, linear, dynamic, llama3, yarn, longrope";
                Err(rope.unsupported("rope_type", other, supported))
            }
        }
    }

    /// Between the two factors frequencies are blended by their distance from both.
    fn high_freq_factor(&self) -> Result<f64> {
        let (low, high) = (
            self.rope.required_of_rope("low_freq_factor")?,
            self.rope.required_of_rope("high_freq_factor")?,
        );
        if high > low {
            return Ok(high);
        }
        let reason = format!("expected more than low_freq_factor ({low}), found {high}");
        Err(self.rope.error("high_freq_factor", reason))
    }

    fn yarn(&self) -> Result<RopeScaling> {
        let rope = self.rope;
        if self.theta <= 1.0 {
            let reason = format!("yarn needs more than 1, found {}", self.theta);
            return Err(rope.error("rope_theta", reason));
        }
        let original = self.original()?;
        // Null, unlike a field that is absent, is the ratio of the lengths.
        let factor = match rope.map.get("factor") {
            Some(Value::Null) => self.max_position_embeddings / original,
            _ => rope.required_of_rope("factor")?,
        };
        // A default stands in for null and, as in Python, for 0.
        let unless_zero = |field| match rope.number(field)? {
            Some(0.0) => Ok(None),
            _ => rope.of_rope(field),
        };
        let scale = |by: f64| 0.1 * by * factor.max(1.0).ln() + 1.0;
        let scales = (unless_zero("mscale")?, unless_zero("mscale_all_dim")?);
        let attention_factor = match (rope.of_rope("attention_factor")?, scales) {
            (Some(given), _) => given,
            (None, (Some(mscale), Some(all_dim))) => scale(mscale) / scale(all_dim),
            (None, _) => scale(1.0),
        };
        let beta_fast = unless_zero("beta_fast")?.unwrap_or(32.0);
        let beta_slow = unless_zero("beta_slow")?.unwrap_or(1.0);
        if beta_fast < beta_slow {
            let reason = format!("expected at least beta_slow ({beta_slow}), found {beta_fast}");
            return Err(rope.error("beta_fast", reason));
        }
        Ok(RopeScaling::Yarn {
            factor,
            attention_factor,
            beta_fast,
            beta_slow,
            original_max_position_embeddings: original,
            // In Python null is false.
            truncate: match rope.map.get("truncate") {
                None => true,
                Some(_) => rope.flag("truncate")?.unwrap_or(false),
            },
        })
    }

    fn longrope(&self, rotary_dim: usize) -> Result<RopeScaling> {
        let rope = self.rope;
        let original = self.original()?;
        let factor = match rope.of_rope("factor")? {
            Some(factor) => factor,
            None => self.max_position_embeddings / original,
        };
        let attention_factor = match rope.of_rope("attention_factor")? {
            Some(given) => given,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / original.ln()).sqrt(),
        };
        Ok(RopeScaling::LongRope {
            short_factor: rope.list_of_rope("short_factor", rotary_dim / 2)?.into(),
            long_factor: rope.list_of_rope("long_factor", rotary_dim / 2)?.into(),
            attention_factor,
            original_max_position_embeddings: original,
        })
    }

    /// The pretraining length. In transformers one beside the parameters goes before theirs.
    fn original(&self) -> Result<f64> {
        const FIELD: &str = "original_max_position_embeddings";
        let beside = self.beside.of_rope(FIELD)?;
        let (place, length) = match beside.or(self.dialect.original_max_position_embeddings()) {
            Some(length) => (self.beside, length),
            None => {
                let within = self.rope.of_rope(FIELD)?;
                (self.rope, within.unwrap_or(self.max_position_embeddings))
            }
        };
        if length > 1.0 {
            return Ok(length);
        }
        Err(place.error(FIELD, format!("expected more than 1, found {length}")))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::config::LlamaConfig;

    /// `tests/fixtures/rope`.
    #[derive(Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        name: String,
        config: Value,
        tables: Vec<Table>,
    }

    #[derive(Deserialize)]
    struct Table {
        length: usize,
        inv_freq: Vec<f64>,
        attention_factor: f64,
        cos: Vec<f64>,
        sin: Vec<f64>,
    }

    /// transformers computes in f32: frequencies to 1e-6 of their size, and cosines of angles below
    /// 13 to 1e-5.
    #[test]
    fn every_kind_has_transformers_frequencies_and_angles() {
        let text = include_str!("../tests/fixtures/rope/tables.json");
        let Golden { cases } = serde_json::from_str(text).unwrap();
        assert_eq!(cases.len(), 23);
        for Case {
            name,
            config,
            tables,
        } in cases
        {
            let path = Path::new("config.json");
            let config = LlamaConfig::from_json(&config.to_string(), path).unwrap();
            let rope = config.rope[0].as_ref().unwrap();
            for expected in tables {
                let what = format!("{name} at {}", expected.length);
                let found = rope.inverse_frequencies(expected.length);
                assert_eq!(found.len(), expected.inv_freq.len(), "{what}");
                for (found, expected) in found.iter().zip(&expected.inv_freq) {
                    let gap = (found / expected - 1.0).abs();
                    assert!(gap < 1e-6, "{what}: {found} is not {expected}");
                }
                let gap = (rope.attention_factor() - expected.attention_factor).abs();
                assert!(gap < 1e-12, "{what}: {gap}");
                let table = rope.table(&[expected.length]);
                assert_eq!(table.pairs, expected.inv_freq.len(), "{what}");
                for (found, expected) in [(&table.cos, &expected.cos), (&table.sin, &expected.sin)]
                {
                    assert_eq!(found.len(), expected.len(), "{what}");
                    for (found, expected) in found.iter().zip(expected) {
                        let gap = (f64::from(*found) - expected).abs();
                        assert!(gap < 1e-5, "{what}: {found} is not {expected}");
                    }
                }
            }
        }
    }

    /// Of a `config.json` with these fields.
    fn read(fields: &Value, dialect: RopeDialect) -> Result<RopeConfig> {
        let fields = Fields {
            path: Path::new("folder/config.json"),
            within: "",
            map: fields.as_object().unwrap(),
        };
        RopeConfig::read(&fields, 8, 2048, 10_000.0, dialect)
    }

    #[test]
    fn both_spellings_of_rope_mean_the_same() {
        let llama3 = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        });
        let llama = |fields: Value| read(&fields, RopeDialect::Llama).unwrap();
        let old = llama(json!({"rope_theta": 500_000.0, "rope_scaling": llama3}));
        let mut parameters = llama3.clone();
        parameters["rope_theta"] = json!(500_000.0);
        let new = llama(json!({"rope_parameters": parameters}));
        assert_eq!(old, new);
        assert_eq!(old.theta, 500_000.0);
        assert_eq!(
            old.scaling,
            RopeScaling::Llama3 {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 64.0,
            }
        );
        // The oldest spelling says `type`.
        let linear = llama(json!({"rope_scaling": {"type": "linear", "factor": 4}}));
        assert_eq!(linear.scaling, RopeScaling::Linear { factor: 4.0 });
        let dynamic = llama(json!({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}));
        assert_eq!(dynamic.scaling, RopeScaling::Dynamic { factor: 2.0 });
        let plain = llama(json!({"rope_scaling": null, "rope_parameters": null, "rope_theta": 7}));
        assert_eq!((plain.theta, plain.scaling), (7.0, RopeScaling::Default));
    }

    /// Of LLaMA's dialect.
    #[track_caller]
    fn refused(fields: &Value, parts: [&str; 2]) {
        refused_in(RopeDialect::Llama, fields, parts);
    }

    #[track_caller]
    fn refused_in(dialect: RopeDialect, fields: &Value, parts: [&str; 2]) {
        let error = read(fields, dialect).unwrap_err().to_string();
        for part in parts.iter().chain(&["folder/config.json"]) {
            assert!(error.contains(part), "{error} / {part}");
        }
    }

    fn rope(theta: f64, scaling: RopeScaling, rotary_dim: usize, max: usize) -> RopeConfig {
        RopeConfig {
            theta,
            scaling,
            rotary_dim,
            max_position_embeddings: max,
        }
    }

    /// The two of a `config.json` with these fields.
    fn read_two(fields: &Value) -> Result<[RopeConfig; 2]> {
        let fields = Fields {
            path: Path::new("folder/config.json"),
            within: "",
            map: fields.as_object().unwrap(),
        };
        RopeConfig::read_of_kinds(&fields, 8, 2048, [700.0, 70.0])
    }

    #[test]
    fn layers_with_a_window_may_have_an_embedding_of_their_own() {
        let two = |fields: Value| read_two(&fields).unwrap();
        let kind = |theta, scaling| rope(theta, scaling, 8, 2048);
        let plain = [700.0, 70.0].map(|theta| kind(theta, RopeScaling::Default));
        assert_eq!(two(json!({})), plain);
        assert_eq!(
            two(json!({"rope_scaling": null, "rope_parameters": {}})),
            plain
        );
        // Both spellings, and the scaling of the global one alone.
        let old = json!({
            "rope_theta": 900, "rope_local_base_freq": 90,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        });
        let new = json!({"rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 900},
            "sliding_attention": {"rope_type": "default", "rope_theta": 90},
        }});
        let scaled = kind(900.0, RopeScaling::Linear { factor: 8.0 });
        let expected = [scaled, kind(90.0, RopeScaling::Default)];
        assert_eq!(two(old), expected);
        assert_eq!(two(new), expected);

        for (fields, parts) in [
            (
                json!({"rope_parameters": {"rope_type": "default", "rope_theta": 7}}),
                [
                    "rope_parameters.rope_t",
                    "expected full_attention and sliding_attention",
                ],
            ),
            (
                json!({"rope_parameters": {"full_attention": 7}}),
                ["rope_parameters.full_attention", "expected an object"],
            ),
            (
                json!({"rope_parameters": {"sliding_attention": {"rope_type": "warped"}}}),
                ["rope_parameters.sliding_attention.rope_type", "warped"],
            ),
            (
                json!({"rope_local_base_freq": 0}),
                ["rope_local_base_freq", "not positive"],
            ),
        ] {
            let error = read_two(&fields).unwrap_err().to_string();
            for part in parts.iter().chain(&["folder/config.json"]) {
                assert!(error.contains(part), "{error} / {part}");
            }
        }
    }

    #[test]
    fn rope_that_cannot_be_is_refused() {
        for (fields, parts) in [
            (
                json!({"rope_scaling": {"type": "proportional", "factor": 2.0}}),
                ["rope_scaling.rope_type", "proportional"],
            ),
            (
                json!({"rope_scaling": {"type": "su"}}),
                ["rope_scaling.rope_type", "llama3, yarn, longrope"],
            ),
            (
                json!({"rope_scaling": {"type": "linear"}}),
                ["rope_scaling.factor", "is missing"],
            ),
            (
                json!({"rope_scaling": {"type": "linear", "factor": 0}}),
                ["rope_scaling.factor", "not positive"],
            ),
            (
                json!({"rope_scaling": {"type": "linear", "factor": "4"}}),
                ["rope_scaling.factor", "expected a number, found \"4\""],
            ),
            (json!({"rope_theta": -1}), ["rope_theta", "not positive"]),
            (
                json!({"rope_scaling": 4}),
                ["rope_parameters", "expected an object"],
            ),
            (
                json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}}),
                ["rope_parameters", "one set"],
            ),
            (
                json!({"partial_rotary_factor": 0.5}),
                ["config.json: partial_rotary_factor", "0.5"],
            ),
        ] {
            refused(&fields, parts);
        }
    }

    #[test]
    fn yarn_that_cannot_be_is_refused() {
        for (field, value, expected) in [
            ("factor", json!(-4.0), "-4 is not positive"),
            ("factor", json!(1e300), "expected at most 1e15"),
            ("attention_factor", json!(0), "0 is not positive"),
            ("attention_factor", json!([1.2]), "expected a number"),
            ("beta_fast", json!(0.5), "expected at least beta_slow (1)"),
            ("beta_slow", json!(-1), "not positive"),
            ("mscale", json!(-0.7), "not positive"),
            ("mscale_all_dim", json!("1"), "expected a number"),
            ("truncate", json!(1), "expected true or false"),
            ("rope_theta", json!(1.0), "yarn needs more than 1"),
            ("original_max_position_embeddings", json!(1), "more than 1"),
        ] {
            let mut yarn = json!({"rope_type": "yarn", "factor": 4.0});
            assert!(read(&json!({"rope_scaling": yarn}), RopeDialect::Llama).is_ok());
            yarn[field] = value;
            let key = format!("rope_scaling.{field}");
            refused(&json!({"rope_scaling": yarn}), [&key, expected]);
        }
        let missing = json!({"rope_scaling": {"rope_type": "yarn"}});
        refused(&missing, ["rope_scaling.factor", "is missing"]);
    }

    #[test]
    fn longrope_that_cannot_be_is_refused() {
        let four = json!([1, 1.5, 2, 4]);
        for (field, value, expected) in [
            ("short_factor", json!(null), "is missing"),
            ("long_factor", json!(2.0), "expected a list of 4 numbers"),
            (
                "long_factor",
                json!([1, 1, 1]),
                "expected 4 numbers, one for each pair of channels that turns, found 3",
            ),
            ("long_factor", json!([1, 1, 1, 1, 1]), "found 5"),
            (
                "short_factor",
                json!([1, 1, 0, 1]),
                "[2]: 0 is not positive",
            ),
            ("short_factor", json!([1, 1, 1, 1e16]), "at most 1e15"),
            ("short_factor", json!([1, "1", 1, 1]), "found [1,\"1\",1,1]"),
            ("factor", json!(0.0), "not positive"),
            ("attention_factor", json!(-1), "not positive"),
        ] {
            let mut longrope =
                json!({"rope_type": "longrope", "short_factor": four, "long_factor": four});
            assert!(read(&json!({"rope_parameters": longrope}), RopeDialect::Llama).is_ok());
            longrope[field] = value;
            let key = format!("rope_parameters.{field}");
            for dialect in [RopeDialect::Llama, RopeDialect::Phi3] {
                let fields = json!({"rope_parameters": longrope});
                refused_in(dialect, &fields, [&key, expected]);
            }
        }
    }

    #[test]
    fn phi3_that_cannot_be_is_refused() {
        for (fields, parts) in [
            (
                json!({"rope_scaling": {"type": "linear", "factor": 2.0}}),
                ["rope_scaling.rope_type", "linear"],
            ),
            (
                json!({"partial_rotary_factor": 1.5}),
                ["config.json: partial_rotary_factor", "at most 1"],
            ),
            (
                json!({"partial_rotary_factor": 0.4}),
                ["partial_rotary_factor", "found 0.4, which is 3"],
            ),
            (
                json!({"rope_parameters": {"partial_rotary_factor": 0.1}}),
                ["rope_parameters.partial_rotary_factor", "which is 0"],
            ),
            (
                json!({
                    "rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 0.5,
                }),
                [
                    "config.json: original_max_position_embeddings",
                    "more than 1",
                ],
            ),
        ] {
            refused_in(RopeDialect::Phi3, &fields, parts);
        }
    }
}
