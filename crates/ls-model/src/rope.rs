//! Rotary position embedding in Hugging Face's half-split layout.
//!
//! Pairs are `(i, i + head_dim / 2)`, as `rotate_half` of transformers has them, so that checkpoints and adapters for q
//! and k load without permuting rows. Angles are computed in f64.

use burn::tensor::{Device, Tensor, TensorData};

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
    pub fn rotation(&self, lengths: &[usize], device: &Device) -> Rotation {
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
        let (plain_cos, plain_sin) = table(&self.inverse_frequencies(0), longest_plain);
        for &length in lengths {
            if self.stretches(length) {
                let (row_cos, row_sin) = table(&self.inverse_frequencies(length), length);
                cos.extend(row_cos);
                sin.extend(row_sin);
            } else {
                cos.extend_from_slice(&plain_cos[..length * half]);
                sin.extend_from_slice(&plain_sin[..length * half]);
            }
        }
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

fn table(frequencies: &[f64], length: usize) -> (Vec<f32>, Vec<f32>) {
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

    /// Rotates every head of every token.
    ///
    /// # Shapes
    ///
    /// - input, output: `[tokens, heads, head_dim]`
    pub fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        let [tokens, heads, head_dim] = x.dims();
        let half = head_dim / 2;
        let first = x.clone().slice([0..tokens, 0..heads, 0..half]);
        let second = x.slice([0..tokens, 0..heads, half..head_dim]);
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        Tensor::cat(
            vec![
                first.clone() * cos.clone() - second.clone() * sin.clone(),
                second * cos + first * sin,
            ],
            2,
        )
    }
}
