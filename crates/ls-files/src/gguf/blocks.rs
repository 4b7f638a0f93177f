//! [`GgufType`]: how a GGUF file packs the values of a tensor, and unpacking them.
//!
//! A row is a chain of blocks of 32 or 256 values. A block holds a scale (and, in some types, an
//! offset), and for each value a few bits. The larger blocks have a scale of a few bits for each 16
//! or 32 of their values beside it. The order of operations is ggml's, so that unpacked values are
//! the reference's to the bit.

use std::fmt;

use half::{bf16, f16};

/// The type of a tensor in a GGUF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types, missing_docs)]
pub enum GgufType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
}

use GgufType::*;

/// Number in files, name, values of a block and bytes of a block.
const TYPES: [(u32, GgufType, usize, usize); 13] = [
    (0, F32, 1, 4),
    (1, F16, 1, 2),
    (2, Q4_0, 32, 18),
    (3, Q4_1, 32, 20),
    (6, Q5_0, 32, 22),
    (7, Q5_1, 32, 24),
    (8, Q8_0, 32, 34),
    (10, Q2_K, 256, 84),
    (11, Q3_K, 256, 110),
    (12, Q4_K, 256, 144),
    (13, Q5_K, 256, 176),
    (14, Q6_K, 256, 210),
    (30, BF16, 1, 2),
];

/// Names of numbers whose values are not unpacked here, for messages.
const OTHERS: [(u32, &str); 19] = [
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

impl fmt::Display for GgufType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl GgufType {
    /// The type of a number in a file, or what is wrong with it.
    pub(super) fn of(number: u32) -> Result<Self, String> {
        if let Some((_, found, ..)) = TYPES.iter().find(|of| of.0 == number) {
            return Ok(*found);
        }
        let other = OTHERS.iter().find(|(of, _)| *of == number);
        let other = other.map_or_else(|| format!("{number}, which is none"), |(_, n)| (*n).into());
        let read: Vec<String> = TYPES.iter().map(|of| of.1.to_string()).collect();
        Err(format!("is of type {other}; read are {}", read.join(", ")))
    }

    /// Values and bytes of a block.
    pub(super) fn block(self) -> (usize, usize) {
        let of = TYPES.iter().find(|of| of.1 == self);
        of.map_or((1, 4), |(_, _, values, bytes)| (*values, *bytes))
    }

    /// Unpacks whole blocks; `values` has room for what they hold.
    pub(super) fn unpack(self, bytes: &[u8], values: &mut [f32]) {
        match self {
            F32 => each(bytes, values, |b, out: &mut [f32; 1]| {
                out[0] = f32::from_le_bytes(*b);
            }),
            F16 => each(bytes, values, |b, out: &mut [f32; 1]| {
                out[0] = f16::from_le_bytes(*b).to_f32();
            }),
            BF16 => each(bytes, values, |b, out: &mut [f32; 1]| {
                out[0] = bf16::from_le_bytes(*b).to_f32();
            }),
            Q4_0 => each(bytes, values, q4_0),
            Q4_1 => each(bytes, values, q4_1),
            Q5_0 => each(bytes, values, q5_0),
            Q5_1 => each(bytes, values, q5_1),
            Q8_0 => each(bytes, values, q8_0),
            Q2_K => each(bytes, values, q2_k),
            Q3_K => each(bytes, values, q3_k),
            Q4_K => each(bytes, values, q4_k),
            Q5_K => each(bytes, values, q5_k),
            Q6_K => each(bytes, values, q6_k),
        }
    }
}

/// Block by block.
fn each<const B: usize, const V: usize>(
    bytes: &[u8],
    values: &mut [f32],
    unpack: impl Fn(&[u8; B], &mut [f32; V]),
) {
    let blocks = bytes.as_chunks::<B>().0.iter();
    for (block, values) in blocks.zip(values.as_chunks_mut::<V>().0) {
        unpack(block, values);
    }
}

fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Of a byte the lower four bits are a value of the first half, the upper four one of the second.
fn nibbles(packed: &[u8; 16], values: &mut [f32; 32], of: impl Fn(usize, u8) -> f32) {
    for (at, byte) in packed.iter().enumerate() {
        values[at] = of(at, byte & 15);
        values[at + 16] = of(at + 16, byte >> 4);
    }
}

fn q4_0(block: &[u8; 18], values: &mut [f32; 32]) {
    let (scale, packed) = (half(block, 0), part(block, 2));
    nibbles(packed, values, |_, value| (f32::from(value) - 8.0) * scale);
}

fn q4_1(block: &[u8; 20], values: &mut [f32; 32]) {
    let (scale, least, packed) = (half(block, 0), half(block, 2), part(block, 4));
    nibbles(packed, values, |_, value| f32::from(value) * scale + least);
}

/// The fifth bit of each value.
fn fifth(bits: &[u8; 4], at: usize) -> u8 {
    ((u32::from_le_bytes(*bits) >> at & 1) as u8) << 4
}

fn q5_0(block: &[u8; 22], values: &mut [f32; 32]) {
    let (scale, bits, packed) = (half(block, 0), part(block, 2), part(block, 6));
    nibbles(packed, values, |at, value| {
        (f32::from(value | fifth(bits, at)) - 16.0) * scale
    });
}

fn q5_1(block: &[u8; 24], values: &mut [f32; 32]) {
    let (scale, least) = (half(block, 0), half(block, 2));
    let (bits, packed) = (part(block, 4), part(block, 8));
    nibbles(packed, values, |at, value| {
        f32::from(value | fifth(bits, at)) * scale + least
    });
}

fn q8_0(block: &[u8; 34], values: &mut [f32; 32]) {
    let scale = half(block, 0);
    for (value, byte) in values.iter_mut().zip(&block[2..]) {
        *value = f32::from(byte.cast_signed()) * scale;
    }
}

/// Two bits a value; a scale and an offset of four bits each for 16 of them.
fn q2_k(block: &[u8; 84], values: &mut [f32; 256]) {
    let (scales, packed) = block.split_at(16);
    let (scale, least) = (half(block, 80), half(block, 82));
    for (at, value) in values.iter_mut().enumerate() {
        let of = scales[at / 16];
        let two = packed[crumb(at)] >> shift(at) & 3;
        let (scale, least) = (scale * f32::from(of & 15), least * f32::from(of >> 4));
        *value = scale * f32::from(two) - least;
    }
}

/// Where two bits of value `at` are: 128 values share 32 bytes, each byte four that lie 32 apart.
fn crumb(at: usize) -> usize {
    at / 128 * 32 + at % 32
}

fn shift(at: usize) -> usize {
    at % 128 / 32 * 2
}

/// Three bits a value, the highest apart from the others; a signed scale of six bits for 16.
fn q3_k(block: &[u8; 110], values: &mut [f32; 256]) {
    let (highest, packed, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let scale = half(block, 108);
    for (at, value) in values.iter_mut().enumerate() {
        let of = at / 16;
        let low = scales[of % 8] >> (of / 8 * 4) & 15;
        let high = scales[8 + of % 4] >> (of / 4 * 2) & 3;
        let scale = scale * (f32::from(low | high << 4) - 32.0);
        let two = packed[crumb(at)] >> shift(at) & 3;
        let set = highest[at % 32] >> (at / 32) & 1 == 1;
        *value = scale * (f32::from(two) - if set { 0.0 } else { 4.0 });
    }
}

/// Scale and offset of 32 values, six bits each, in twelve bytes for eight pairs.
fn scale_and_least(packed: &[u8; 12], of: usize) -> (f32, f32) {
    let (scale, least) = if of < 4 {
        (packed[of] & 63, packed[of + 4] & 63)
    } else {
        (
            packed[of + 4] & 15 | packed[of - 4] >> 6 << 4,
            packed[of + 4] >> 4 | packed[of] >> 6 << 4,
        )
    };
    (f32::from(scale), f32::from(least))
}

/// The lower four bits of value `at`: 64 values share 32 bytes.
fn low_four(packed: &[u8], at: usize) -> u8 {
    packed[at / 64 * 32 + at % 32] >> (at % 64 / 32 * 4) & 15
}

fn q4_k(block: &[u8; 144], values: &mut [f32; 256]) {
    let (scale, least, scales) = (half(block, 0), half(block, 2), part(block, 4));
    for (of, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (of_scale, of_least) = scale_and_least(scales, of);
        let (scale, least) = (scale * of_scale, least * of_least);
        for (at, value) in values.iter_mut().enumerate() {
            *value = scale * f32::from(low_four(&block[16..], of * 32 + at)) - least;
        }
    }
}

fn q5_k(block: &[u8; 176], values: &mut [f32; 256]) {
    let (scale, least, scales) = (half(block, 0), half(block, 2), part(block, 4));
    let highest = &block[16..48];
    for (of, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (of_scale, of_least) = scale_and_least(scales, of);
        let (scale, least) = (scale * of_scale, least * of_least);
        for (at, value) in values.iter_mut().enumerate() {
            let low = low_four(&block[48..], of * 32 + at);
            let five = low | (highest[at] >> of & 1) << 4;
            *value = scale * f32::from(five) - least;
        }
    }
}

/// Six bits a value, four and two; a signed scale of eight bits for 16.
fn q6_k(block: &[u8; 210], values: &mut [f32; 256]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let scale = half(block, 208);
    for (at, value) in values.iter_mut().enumerate() {
        // 128 values share 64 bytes of `low`: the lower bits of all come before the upper ones.
        let low = low[at / 128 * 64 + at % 64] >> (at % 128 / 64 * 4) & 15;
        let high = high[crumb(at)] >> shift(at) & 3;
        let scale = scale * f32::from(scales[at / 16].cast_signed());
        *value = scale * (f32::from(low | high << 4) - 32.0);
    }
}

/// `N` bytes of a block.
fn part<const B: usize, const N: usize>(block: &[u8; B], at: usize) -> &[u8; N] {
    const { assert!(N <= B) };
    block[at..].first_chunk().unwrap_or_else(|| unreachable!())
}
