//! Cosines and sines of the rotary embedding for the tokens of a batch.
//!
//! Pairs are `(i, i + head_dim / 2)`, as `rotate_half` of transformers has them, so that
//! checkpoints and adapters for q and k load without permuting rows.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use ls_ops::RotaryTable;

use crate::rope::RopeConfig;

impl RopeConfig {
    /// Cosines and sines for rows of these lengths laid end to end; positions start at 0 in each
    /// row.
    pub(crate) fn table(&self, lengths: &[usize]) -> RotaryTable {
        let half = self.head_dim / 2;
        let tokens: usize = lengths.iter().sum();
        let mut cos = Vec::with_capacity(tokens * half);
        let mut sin = Vec::with_capacity(tokens * half);
        // Rows share their angles unless a row is stretched, so most rows copy the start of one
        // table.
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

    /// The same as tensors on a device.
    pub(crate) fn rotation(&self, lengths: &[usize], device: &Device) -> Rotation {
        let half = self.head_dim / 2;
        let RotaryTable { cos, sin } = self.table(lengths);
        let tokens: usize = lengths.iter().sum();
        let tensor = |values| Tensor::from_data(TensorData::new(values, [tokens, 1, half]), device);
        Rotation {
            cos: tensor(cos),
            sin: tensor(sin),
        }
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
pub(crate) struct Rotation {
    cos: Tensor<3>,
    sin: Tensor<3>,
}

impl Rotation {
    /// The same in another float dtype.
    pub(crate) fn cast(self, dtype: DType) -> Self {
        Self {
            cos: self.cos.cast(dtype),
            sin: self.sin.cast(dtype),
        }
    }

    /// The angles of some tokens, by their places among all.
    pub(crate) fn select(&self, tokens: Tensor<1, Int>) -> Self {
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
    pub(crate) fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        ls_ops::rotary(x, self.cos.clone(), self.sin.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rope::RopeScaling;

    fn rope(theta: f64, scaling: RopeScaling, head_dim: usize, max: usize) -> RopeConfig {
        RopeConfig {
            theta,
            scaling,
            head_dim,
            max_position_embeddings: max,
        }
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
