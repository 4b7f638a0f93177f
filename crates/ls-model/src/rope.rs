//! Rotary position embedding in Hugging Face's half-split layout.
//!
//! Pairs are `(i, i + head_dim / 2)`, as `rotate_half` of transformers has them, so that checkpoints and adapters for q
//! and k load without permuting rows. Angles are computed in f64.

use burn::tensor::{Device, Int, Tensor, TensorData};
use ls_ops::RotaryTable;

/// How frequencies are stretched beyond the pretraining length (names of transformers' `modeling_rope_utils.py`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// None.
    Default,
    /// All frequencies divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// NTK: for an input longer than `max_position_embeddings` the base grows with its length.
    ///
    /// transformers takes the longest input of the batch for all of them; here each input goes by its own length, so
    /// that its result does not depend on its neighbours.
    Dynamic {
        /// How fast the base grows.
        factor: f64,
    },
    /// LLaMA 3.1: low frequencies divided by `factor`, high ones kept, a smooth band between.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths over `original_max_position_embeddings / low_freq_factor` are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths under `original_max_position_embeddings / high_freq_factor` are high frequencies.
        high_freq_factor: f64,
        /// The pretraining length, in tokens.
        original_max_position_embeddings: f64,
    },
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
    /// Length from which `dynamic` acts, in tokens.
    pub max_position_embeddings: usize,
}

impl RopeConfig {
    /// Radians per token of each of the `head_dim / 2` pairs, for an input of `length` tokens.
    pub fn inverse_frequencies(&self, length: usize) -> Vec<f64> {
        let dim = self.head_dim as f64;
        let base = match self.scaling {
            RopeScaling::Dynamic { factor } if length > self.max_position_embeddings => {
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

    /// Cosines and sines for rows of the given lengths laid end to end, positions starting at 0 in each row.
    pub fn table(&self, lengths: &[usize]) -> RotaryTable {
        let half = self.head_dim / 2;
        let tokens: usize = lengths.iter().sum();
        let mut cos = Vec::with_capacity(tokens * half);
        let mut sin = Vec::with_capacity(tokens * half);
        // Rows share their angles unless `dynamic` stretches one, so most rows are copies of a longest table's start.
        let longest_plain = lengths
            .iter()
            .copied()
            .filter(|&length| !self.stretches(length))
            .max()
            .unwrap_or(0);
        let (plain_cos, plain_sin) = angles(&self.inverse_frequencies(0), longest_plain);
        for &length in lengths {
            if self.stretches(length) {
                let (row_cos, row_sin) = angles(&self.inverse_frequencies(length), length);
                cos.extend(row_cos);
                sin.extend(row_sin);
            } else {
                cos.extend_from_slice(&plain_cos[..length * half]);
                sin.extend_from_slice(&plain_sin[..length * half]);
            }
        }
        RotaryTable { cos, sin }
    }

    /// The same on a device.
    pub fn rotation(&self, lengths: &[usize], device: &Device) -> Rotation {
        let half = self.head_dim / 2;
        let RotaryTable { cos, sin } = self.table(lengths);
        let tokens: usize = lengths.iter().sum();
        let tensor = |values| Tensor::from_data(TensorData::new(values, [tokens, 1, half]), device);
        Rotation {
            cos: tensor(cos),
            sin: tensor(sin),
        }
    }

    fn stretches(&self, length: usize) -> bool {
        matches!(self.scaling, RopeScaling::Dynamic { .. }) && length > self.max_position_embeddings
    }
}

fn angles(frequencies: &[f64], length: usize) -> (Vec<f32>, Vec<f32>) {
    (0..length)
        .flat_map(|position| {
            frequencies
                .iter()
                .map(move |frequency| position as f64 * frequency)
        })
        .map(|angle| (angle.cos() as f32, angle.sin() as f32))
        .unzip()
}

/// Cosines and sines of every token of a batch, `[tokens, 1, head_dim / 2]`.
#[derive(Debug, Clone)]
pub struct Rotation {
    cos: Tensor<3>,
    sin: Tensor<3>,
}

impl Rotation {
    /// The same in another float dtype.
    pub fn cast(self, dtype: burn::tensor::DType) -> Self {
        Self {
            cos: self.cos.cast(dtype),
            sin: self.sin.cast(dtype),
        }
    }

    /// Those of some tokens alone.
    pub fn select(&self, tokens: Tensor<1, Int>) -> Self {
        Self {
            cos: self.cos.clone().select(0, tokens.clone()),
            sin: self.sin.clone().select(0, tokens),
        }
    }

    /// Rotates every head of every token.
    ///
    /// # Shapes
    ///
    /// - input, output: `[tokens, heads, head_dim]`
    pub fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        ls_ops::rotary(x, self.cos.clone(), self.sin.clone())
    }
}

#[cfg(test)]
mod tests {
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

    // The numbers are transformers' 5.23.0, from `ROPE_INIT_FUNCTIONS[rope_type](config, "cpu", seq_len=length)[0]` with
    // `LlamaConfig(hidden_size=2*head_dim, num_attention_heads=2, head_dim=..., max_position_embeddings=...,
    // rope_parameters={...})`.

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

    /// Rows of the given lengths laid end to end, two heads.
    fn heads(tokens: usize, head_dim: usize) -> Tensor<3> {
        let values: Vec<f32> = (0..tokens * 2 * head_dim)
            .map(|i| (i as f32 * 0.7).sin() + 0.1)
            .collect();
        Tensor::from_data(
            TensorData::new(values, [tokens, 2, head_dim]),
            &Device::flex(),
        )
    }

    fn rotated(rope: &RopeConfig, lengths: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let x = heads(lengths.iter().sum(), rope.head_dim);
        let rotation = rope.rotation(lengths, &Device::flex());
        let y = rotation.apply(x.clone());
        (ls_lora::host_values(x), ls_lora::host_values(y))
    }

    #[test]
    fn position_zero_is_left_alone_and_norms_are_kept() {
        let rope = rope(100.0, RopeScaling::Default, 6, 32);
        // Two rows: tokens 0 and 3 stand at position 0.
        let (x, y) = rotated(&rope, &[3, 2]);
        let token = 2 * 6;
        for at in [0, 3] {
            assert_eq!(y[at * token..][..token], x[at * token..][..token]);
        }
        assert_ne!(y[token..2 * token], x[token..2 * token]);
        for (x, y) in x.chunks(6).zip(y.chunks(6)) {
            let norm = |v: &[f32]| v.iter().map(|v| v * v).sum::<f32>().sqrt();
            assert!((norm(x) - norm(y)).abs() < 1e-6 * norm(x).max(1.0));
        }
    }

    #[test]
    fn pairs_are_half_a_head_apart() {
        let rope = rope(100.0, RopeScaling::Default, 6, 32);
        let (x, y) = rotated(&rope, &[4]);
        for (at, (x, y)) in x.chunks(6).zip(y.chunks(6)).enumerate() {
            let position = (at / 2) as f32;
            for pair in 0..3 {
                let angle = position * 100.0f32.powf(-2.0 * pair as f32 / 6.0);
                let (a, b) = (x[pair], x[pair + 3]);
                assert!((y[pair] - (a * angle.cos() - b * angle.sin())).abs() < 1e-6);
                assert!((y[pair + 3] - (b * angle.cos() + a * angle.sin())).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn dynamic_rows_go_by_their_own_length() {
        let dynamic = rope(100.0, RopeScaling::Dynamic { factor: 2.0 }, 6, 8);
        let plain = rope(100.0, RopeScaling::Default, 6, 8);
        let angles = |rope: &RopeConfig, lengths: &[usize]| {
            let rotation = rope.rotation(lengths, &Device::flex());
            ls_lora::host_values(rotation.sin)
        };
        let together = angles(&dynamic, &[5, 20, 8]);
        let half = 3;
        assert_eq!(together[..5 * half], angles(&plain, &[5]));
        assert_eq!(together[5 * half..25 * half], angles(&dynamic, &[20]));
        assert_eq!(together[25 * half..], angles(&plain, &[8]));
        assert_ne!(angles(&dynamic, &[20]), angles(&plain, &[20]));
    }
}
