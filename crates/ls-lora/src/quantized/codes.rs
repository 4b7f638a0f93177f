//! [`Quantization`]: the codes of packed values, and packing and unpacking them on the host.

use std::fmt;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Values that share a scale, along the input axis.
pub(super) const BLOCK: usize = 64;

/// How a frozen weight's values are packed; `nf4` and `int8` in configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Quantization {
    /// 4 bits: the 16 quantiles of a normal distribution (NormalFloat, arXiv 2305.14314).
    Nf4,
    /// 8 bits: 255 evenly spaced values.
    Int8,
}

/// NF4's values, as bitsandbytes has them.
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// The code of zero in 8 bits; codes below it are negative.
const INT8_ZERO: i32 = 128;

/// As configurations write it.
impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nf4 => "nf4",
            Self::Int8 => "int8",
        })
    }
}

impl Quantization {
    /// The bits of one code.
    #[must_use]
    pub fn bits(self) -> usize {
        match self {
            Self::Nf4 => 4,
            Self::Int8 => 8,
        }
    }

    /// What each code stands for, as a part of the block's scale.
    pub(super) fn table(self) -> Vec<f32> {
        match self {
            Self::Nf4 => NF4.to_vec(),
            Self::Int8 => (0..256)
                .map(|code| (code - INT8_ZERO) as f32 / 127.0)
                .collect(),
        }
    }

    /// The code of the nearest value to `x`, a part of the block's scale.
    fn encode(self, x: f32) -> u32 {
        match self {
            // Midpoints; a tie goes to the lower value, as in bitsandbytes.
            Self::Nf4 => NF4
                .windows(2)
                .map(|pair| u32::from(x > f32::midpoint(pair[0], pair[1])))
                .sum(),
            Self::Int8 => ((x * 127.0).round() as i32)
                .clamp(-127, 127)
                .wrapping_add(INT8_ZERO) as u32,
        }
    }
}

/// A packed weight on the host.
pub(super) struct Packed {
    /// Words of codes, `[in rounded up to a block / codes per word, out]`.
    pub(super) codes: Vec<i32>,
    /// The largest magnitude of each block, `[blocks, out]`.
    pub(super) scales: Vec<f32>,
}

/// Packs the values of an `[in, out]` weight. Blocks are independent of each other, so they are
/// packed in parallel.
pub(super) fn pack(values: &[f32], [rows, columns]: [usize; 2], format: Quantization) -> Packed {
    let bits = format.bits();
    let per_word = 32 / bits;
    let blocks = rows.div_ceil(BLOCK);
    let words_per_block = BLOCK / per_word;
    let mut codes = vec![0i32; blocks * words_per_block * columns];
    let mut scales = vec![0.0f32; blocks * columns];
    if columns == 0 {
        return Packed { codes, scales };
    }
    codes
        .par_chunks_mut(words_per_block * columns)
        .zip(scales.par_chunks_mut(columns))
        .enumerate()
        .for_each(|(block, (codes, scales))| {
            let rows = block * BLOCK..((block + 1) * BLOCK).min(rows);
            for row in rows.clone() {
                let values = &values[row * columns..][..columns];
                for (scale, value) in scales.iter_mut().zip(values) {
                    *scale = scale.max(value.abs());
                }
            }
            for (at, row) in rows.enumerate() {
                let values = &values[row * columns..][..columns];
                let words = &mut codes[at / per_word * columns..][..columns];
                let shift = at % per_word * bits;
                for ((word, value), &scale) in words.iter_mut().zip(values).zip(&*scales) {
                    let part = if scale == 0.0 { 0.0 } else { value / scale };
                    *word |= (format.encode(part) << shift) as i32;
                }
            }
        });
    Packed { codes, scales }
}

/// Unpacks words into the rows of a weight, a row of words at a time.
#[cfg(feature = "flex")]
pub(super) fn unpack(
    weight: &mut [f32],
    codes: &[i32],
    scales: &[f32],
    table: &[f32],
    columns: usize,
    bits: usize,
) {
    let per_word = 32 / bits;
    let mask = (1u32 << bits) - 1;
    weight
        .par_chunks_mut(per_word * columns)
        .enumerate()
        .for_each(|(at, rows)| {
            let words = &codes[at * columns..][..columns];
            let scales = &scales[at * per_word / BLOCK * columns..][..columns];
            for (within, row) in rows.chunks_mut(columns).enumerate() {
                let shift = within * bits;
                for ((value, &word), scale) in row.iter_mut().zip(words).zip(scales) {
                    let code = (word as u32 >> shift) & mask;
                    *value = table[code as usize] * scale;
                }
            }
        });
}
