//! Cosines and sines of the rotary embedding for the tokens of a batch.
//!
//! Pairs are `(i, i + rotary_dim / 2)`, as `rotate_half` of transformers has them, so that
//! checkpoints and adapters for q and k load without permuting rows.

use ls_ops::RotaryTable;

use crate::rope::RopeConfig;

impl RopeConfig {
    /// Cosines and sines for rows of these lengths laid end to end; positions start at 0 in each
    /// row.
    pub(crate) fn table(&self, lengths: &[usize]) -> RotaryTable {
        let pairs = self.rotary_dim / 2;
        let tokens: usize = lengths.iter().sum();
        let mut cos = Vec::with_capacity(tokens * pairs);
        let mut sin = Vec::with_capacity(tokens * pairs);
        // Rows share their angles unless a row is stretched, so most rows copy the start of one
        // table.
        let longest_plain = lengths
            .iter()
            .copied()
            .filter(|&length| !self.stretches(length))
            .max()
            .unwrap_or(0);
        let (plain_cos, plain_sin) = self.row(0, longest_plain);
        for &length in lengths {
            if self.stretches(length) {
                let (row_cos, row_sin) = self.row(length, length);
                cos.extend(row_cos);
                sin.extend(row_sin);
            } else {
                cos.extend_from_slice(&plain_cos[..length * pairs]);
                sin.extend_from_slice(&plain_sin[..length * pairs]);
            }
        }
        RotaryTable { pairs, cos, sin }
    }

    /// The first `tokens` positions with the frequencies of an input of `length` tokens.
    fn row(&self, length: usize, tokens: usize) -> (Vec<f32>, Vec<f32>) {
        let frequencies = self.inverse_frequencies(length);
        let factor = self.attention_factor();
        (0..tokens)
            .flat_map(|position| {
                frequencies
                    .iter()
                    .map(move |frequency| position as f64 * frequency)
            })
            .map(|angle| ((factor * angle.cos()) as f32, (factor * angle.sin()) as f32))
            .unzip()
    }
}

/// The table of a layer without rotary embedding, which turns nothing.
pub(crate) fn unturned() -> RotaryTable {
    RotaryTable {
        pairs: 0,
        cos: Vec::new(),
        sin: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rope::RopeScaling;

    fn rope(theta: f64, scaling: RopeScaling, rotary_dim: usize, max: usize) -> RopeConfig {
        RopeConfig {
            theta,
            scaling,
            rotary_dim,
            max_position_embeddings: max,
        }
    }

    #[test]
    fn positions_start_at_zero_in_each_row_and_turn_by_their_frequency() {
        let rope = rope(100.0, RopeScaling::Default, 6, 32);
        let RotaryTable { pairs, cos, sin } = rope.table(&[3, 2]);
        let half = 3;
        assert_eq!((pairs, cos.len(), sin.len()), (half, 5 * half, 5 * half));
        for (token, position) in [0, 1, 2, 0, 1].into_iter().enumerate() {
            for pair in 0..half {
                let angle = f64::from(position) * 100f64.powf(-2.0 * pair as f64 / 6.0);
                let at = token * half + pair;
                assert!((f64::from(cos[at]) - angle.cos()).abs() < 1e-7);
                assert!((f64::from(sin[at]) - angle.sin()).abs() < 1e-7);
            }
        }
    }

    #[test]
    fn rows_go_by_their_own_length() {
        let dynamic = RopeScaling::Dynamic { factor: 2.0 };
        let longrope = RopeScaling::LongRope {
            short_factor: [1.0; 3].into(),
            long_factor: [1.5, 2.0, 3.0].into(),
            attention_factor: 1.0,
            original_max_position_embeddings: 8.0,
        };
        for scaling in [dynamic, longrope] {
            let stretched = rope(100.0, scaling, 6, 8);
            let plain = rope(100.0, RopeScaling::Default, 6, 8);
            let angles = |rope: &RopeConfig, lengths: &[usize]| rope.table(lengths).sin;
            let together = angles(&stretched, &[5, 20, 8]);
            let half = 3;
            assert_eq!(together[..5 * half], angles(&plain, &[5]));
            assert_eq!(together[5 * half..25 * half], angles(&stretched, &[20]));
            assert_eq!(together[25 * half..], angles(&plain, &[8]));
            assert_ne!(angles(&stretched, &[20]), angles(&plain, &[20]));
        }
    }
}
