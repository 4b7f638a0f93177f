//! The kinds of rotary position embedding: which `rope_type` of `config.json` gives which
//! frequencies.
//!
//! All that is known of a kind is in this file. A new one is a variant of [`RopeScaling`], an arm
//! in `RopeScaling::read` with its name in the list of supported kinds there, and an arm in
//! `RopeConfig::inverse_frequencies`, with a test; if its frequencies depend
//! on the input's length, `RopeConfig::stretches` says from which length on. Angles are computed in
//! f64.

use serde_json::{Map, Value};

use crate::error::Result;
use crate::fields::Fields;

/// How frequencies are stretched beyond the pretraining length; the names are those of
/// transformers' `modeling_rope_utils.py`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    Default,
    /// All frequencies divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// NTK: for an input longer than `max_position_embeddings` the base grows with its length.
    ///
    /// transformers uses the longest input of the batch for all; here each input uses its own
    /// length, so that a result does not depend on the rest of the batch.
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
}

impl RopeScaling {
    /// Reads the kind that `rope_type` names (`type` in the oldest files), with its parameters.
    fn read(fields: &Fields<'_>, head_dim: usize, max_position_embeddings: usize) -> Result<Self> {
        let kind = fields.string("rope_type")?.or(fields.string("type")?);
        Ok(match kind.as_deref().unwrap_or("default") {
            "default" => Self::Default,
            "linear" => Self::Linear {
                factor: fields.required_of_rope("factor")?,
            },
            "dynamic" if head_dim <= 2 => {
                let reason = format!("dynamic needs a head_dim over 2, found {head_dim}");
                return Err(fields.error("rope_type", reason));
            }
            "dynamic" => Self::Dynamic {
                factor: fields.required_of_rope("factor")?,
            },
            "llama3" => Self::Llama3 {
                factor: fields.required_of_rope("factor")?,
                low_freq_factor: fields.required_of_rope("low_freq_factor")?,
                high_freq_factor: Self::high_freq_factor(fields)?,
                original_max_position_embeddings: fields
                    .of_rope("original_max_position_embeddings")?
                    .unwrap_or(max_position_embeddings as f64),
            },
            other => {
                let supported = "default, linear, dynamic, llama3";
                return Err(fields.unsupported("rope_type", other, supported));
            }
        })
    }

    /// Between the two factors frequencies are blended by their distance from both.
    fn high_freq_factor(fields: &Fields<'_>) -> Result<f64> {
        let (low, high) = (
            fields.required_of_rope("low_freq_factor")?,
            fields.required_of_rope("high_freq_factor")?,
        );
        if high > low {
            return Ok(high);
        }
        let reason = format!("expected more than low_freq_factor ({low}), found {high}");
        Err(fields.error("high_freq_factor", reason))
    }
}

/// Rotary embedding of one checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// The base.
    pub theta: f64,
    /// The scaling.
    pub scaling: RopeScaling,
    /// Width of one head.
    pub head_dim: usize,
    /// The pretraining length, in tokens; longer inputs are stretched by `dynamic`.
    pub max_position_embeddings: usize,
}

impl RopeConfig {
    /// Reads `rope_parameters` (transformers 5), or `rope_scaling` beside `rope_theta` (before), of
    /// a `config.json`; `theta` is the base of a file without one.
    pub(crate) fn read(
        fields: &Fields<'_>,
        head_dim: usize,
        max_position_embeddings: usize,
        theta: f64,
    ) -> Result<Self> {
        let (name, map) = match (
            fields.map.get("rope_parameters"),
            fields.map.get("rope_scaling"),
        ) {
            // transformers prefers the old spelling.
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
        Self::of(&rope, fields, head_dim, max_position_embeddings, theta)
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
            Self::of(&rope, fields, head_dim, max_position_embeddings, theta)
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
    ) -> Result<Self> {
        let theta = rope.of_rope("rope_theta")?.unwrap_or(theta);
        let partial = rope
            .number("partial_rotary_factor")?
            .or(fields.number("partial_rotary_factor")?)
            .unwrap_or(1.0);
        if partial != 1.0 {
            let found = partial.to_string();
            return Err(rope.unsupported("partial_rotary_factor", &found, "1.0"));
        }
        Ok(Self {
            theta,
            scaling: RopeScaling::read(rope, head_dim, max_position_embeddings)?,
            head_dim,
            max_position_embeddings,
        })
    }

    /// Whether an input of `length` tokens has other frequencies than a short one.
    pub(crate) fn stretches(&self, length: usize) -> bool {
        matches!(self.scaling, RopeScaling::Dynamic { .. }) && length > self.max_position_embeddings
    }

    /// Radians per token of each of the `head_dim / 2` pairs, for an input of `length` tokens.
    pub(crate) fn inverse_frequencies(&self, length: usize) -> Vec<f64> {
        let dim = self.head_dim as f64;
        let base = match self.scaling {
            RopeScaling::Dynamic { factor } if self.stretches(length) => {
                let stretch =
                    factor * length as f64 / self.max_position_embeddings as f64 - (factor - 1.0);
                self.theta * stretch.powf(dim / (dim - 2.0))
            }
            _ => self.theta,
        };
        let plain = (0..self.head_dim / 2).map(|i| base.powf(-2.0 * i as f64 / dim));
        match self.scaling {
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
                    if turns < low_freq_factor {
                        frequency / factor
                    } else if turns > high_freq_factor {
                        frequency
                    } else {
                        let smooth =
                            (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                        (1.0 - smooth) * frequency / factor + smooth * frequency
                    }
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn rope(theta: f64, scaling: RopeScaling, head_dim: usize, max: usize) -> RopeConfig {
        RopeConfig {
            theta,
            scaling,
            head_dim,
            max_position_embeddings: max,
        }
    }

    /// The reference computes in f32.
    #[track_caller]
    fn assert_frequencies(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found / expected - 1.0).abs() < 1e-6,
                "{found} is not {expected}"
            );
        }
    }

    // The numbers are transformers' 5.23.0, from
    // `ROPE_INIT_FUNCTIONS[rope_type](config, "cpu", seq_len=length)[0]` with
    // `LlamaConfig(hidden_size=2*head_dim, num_attention_heads=2, head_dim=...,
    // max_position_embeddings=..., rope_parameters={...})`.

    #[test]
    fn linear_divides_every_frequency() {
        let rope = rope(10_000.0, RopeScaling::Linear { factor: 4.0 }, 8, 16);
        let expected = [0.25, 0.0250000004, 0.00249999994, 0.000250000012];
        assert_frequencies(&rope.inverse_frequencies(5), &expected);
        assert_frequencies(&rope.inverse_frequencies(500), &expected);
    }

    #[test]
    fn dynamic_stretches_past_the_pretraining_length() {
        let rope = rope(10_000.0, RopeScaling::Dynamic { factor: 2.0 }, 8, 16);
        let plain = [1.0, 0.100000001, 0.00999999978, 0.00100000005];
        assert_frequencies(&rope.inverse_frequencies(1), &plain);
        assert_frequencies(&rope.inverse_frequencies(16), &plain);
        let at_24 = [1.0, 0.0793700516, 0.00629960513, 0.000500000024];
        assert_frequencies(&rope.inverse_frequencies(24), &at_24);
        let at_40 = [1.0, 0.0629960522, 0.00396850286, 0.000250000012];
        assert_frequencies(&rope.inverse_frequencies(40), &at_40);
    }

    #[test]
    fn llama3_keeps_high_frequencies_divides_low_ones_and_blends_between() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 64.0,
        };
        // max_position_embeddings was 128.
        let found = rope(500_000.0, scaling, 16, 128).inverse_frequencies(7);
        let expected = [
            1.0,
            0.079403013,
            0.00470075384,
            0.000911583134,
            0.000176776681,
            3.42810235e-05,
            6.64786967e-06,
            1.28917316e-06,
        ];
        assert_frequencies(&found, &expected);
    }

    /// Of a `config.json` with these fields.
    fn read(fields: &Value) -> Result<RopeConfig> {
        let fields = Fields {
            path: Path::new("folder/config.json"),
            within: "",
            map: fields.as_object().unwrap(),
        };
        RopeConfig::read(&fields, 8, 2048, 10_000.0)
    }

    #[test]
    fn both_spellings_of_rope_mean_the_same() {
        let llama3 = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        });
        let llama = |fields: Value| read(&fields).unwrap();
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
                json!({"rope_scaling": {"type": "yarn", "factor": 2.0}}),
                ["rope_scaling.rope_type", "yarn"],
            ),
            (
                json!({"rope_parameters": {"rope_type": "longrope"}}),
                ["rope_parameters.rope_type", "longrope"],
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
                ["partial_rotary_factor", "0.5"],
            ),
        ] {
            let error = read(&fields).unwrap_err().to_string();
            for part in parts.iter().chain(&["folder/config.json"]) {
                assert!(error.contains(part), "{error} / {part}");
            }
        }
    }
}
