//! Values of a tensor that are no numbers, found in its bytes; and types whose values are none.

use half::{bf16, f16};
use safetensors::Dtype;

/// A value type that has no conversion to or from 32-bit floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{found} values are not converted to or from 32-bit floats; F64, F32, F16 and BF16 are")]
pub struct NotAFloat {
    /// The type found.
    pub found: Dtype,
}

/// Values that are NaN or infinite, or that become infinite in a narrower type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NotFinite {
    /// How many there are.
    pub count: usize,
    /// The flat index of the first.
    pub first: usize,
    /// The first, as it stands in the file.
    pub value: f64,
}

impl NotFinite {
    /// Looks through the bytes of values of the type `from`, which will be converted to `into`.
    ///
    /// The common case, that there are none, costs little: the largest magnitude is taken, which
    /// compilers turn into vector instructions.
    ///
    /// ```
    /// use ls_files::{Dtype, NotFinite};
    ///
    /// let bytes: Vec<u8> = [1.0, 3.4e38, f32::NAN].iter().flat_map(|v: &f32| v.to_le_bytes()).collect();
    /// let found = NotFinite::find(&bytes, Dtype::F32, Dtype::F32).unwrap().unwrap();
    /// assert_eq!((found.count, found.first), (1, 2));
    /// // bf16 has the range of f32, but not its largest values.
    /// let found = NotFinite::find(&bytes, Dtype::F32, Dtype::BF16).unwrap().unwrap();
    /// assert_eq!((found.count, found.first, found.value as f32), (2, 1, 3.4e38));
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotAFloat`] for types other than F64, F32, F16 and BF16.
    pub fn find(bytes: &[u8], from: Dtype, into: Dtype) -> Result<Option<Self>, NotAFloat> {
        // The bits without the sign are in the order of the magnitudes, and those of infinities and
        // NaN come last.
        Ok(match from {
            Dtype::F64 => {
                // Halfway between the largest value of the narrower type and the next one, from
                // which on values are rounded up.
                let limit = match into {
                    Dtype::F64 => f64::INFINITY.to_bits(),
                    _ => (f64::from(f32::MAX) + 2f64.powi(103)).to_bits(),
                };
                find(bytes, from, limit, |b| u64::from_le_bytes(b) << 1 >> 1)
            }
            Dtype::F32 => {
                let limit = match into {
                    Dtype::BF16 => 0x7f7f_8000,
                    _ => f32::INFINITY.to_bits(),
                };
                find(bytes, from, limit, |b| u32::from_le_bytes(b) << 1 >> 1)
            }
            Dtype::F16 => find(bytes, from, 0x7c00, |b| u16::from_le_bytes(b) << 1 >> 1),
            Dtype::BF16 => find(bytes, from, 0x7f80, |b| u16::from_le_bytes(b) << 1 >> 1),
            found => return Err(NotAFloat { found }),
        })
    }

    /// The same for a part of a tensor that begins at the flat index `at`.
    #[must_use]
    pub fn from(self, at: usize) -> Self {
        Self {
            first: self.first + at,
            ..self
        }
    }

    /// Those of two parts of a tensor together.
    #[must_use]
    pub fn both(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let (Some(one), Some(other)) = (one, other) else {
            return one.or(other);
        };
        let first = if other.first < one.first { other } else { one };
        Some(Self {
            count: one.count + other.count,
            ..first
        })
    }
}

/// Values whose `magnitude` is `limit` or more.
fn find<const N: usize, T: Copy + Ord + Default>(
    bytes: &[u8],
    dtype: Dtype,
    limit: T,
    magnitude: impl Fn([u8; N]) -> T,
) -> Option<NotFinite> {
    let values = bytes.as_chunks::<N>().0;
    let largest = values
        .iter()
        .fold(T::default(), |max, value| max.max(magnitude(*value)));
    if largest < limit {
        return None;
    }
    let mut past = values
        .iter()
        .enumerate()
        .filter(|(_, value)| magnitude(**value) >= limit);
    let (first, value) = past.next()?;
    Some(NotFinite {
        count: 1 + past.count(),
        first,
        value: float(dtype, value),
    })
}

/// One value of a float type, from its bytes; NaN if it is of no such type.
fn float(dtype: Dtype, bytes: &[u8]) -> f64 {
    let value = match dtype {
        Dtype::F64 => values(bytes, f64::from_le_bytes).next(),
        Dtype::F32 => values(bytes, f32::from_le_bytes).next().map(f64::from),
        Dtype::F16 => values(bytes, f16::from_le_bytes).next().map(f16::to_f64),
        Dtype::BF16 => values(bytes, bf16::from_le_bytes).next().map(bf16::to_f64),
        _ => None,
    };
    value.unwrap_or(f64::NAN)
}

/// The values in the bytes of a tensor.
pub(crate) fn values<const N: usize, T>(
    bytes: &[u8],
    from: fn([u8; N]) -> T,
) -> impl Iterator<Item = T> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(move |chunk| from(*chunk))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::HostTensor;

    fn find_in(values: &[f32], dtype: Dtype, into: Dtype) -> Option<NotFinite> {
        let tensor = HostTensor::from_f32([values.len()], values);
        let bytes = tensor.to_dtype(dtype).unwrap().bytes;
        NotFinite::find(&bytes, dtype, into).unwrap()
    }

    #[test]
    fn the_first_and_the_number_are_found_in_every_float_type() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let values = [1.0, f32::NEG_INFINITY, -0.0, f32::NAN, -f32::NAN];
            let found = find_in(&values, dtype, dtype).unwrap();
            let expected = NotFinite {
                count: 3,
                first: 1,
                value: f64::NEG_INFINITY,
            };
            assert_eq!(found, expected);
            let found = find_in(&[f32::NAN], dtype, dtype).unwrap();
            assert!(found.value.is_nan());
            assert_eq!(find_in(&[1.0, -1.0], dtype, dtype), None);
            assert_eq!(find_in(&[], dtype, dtype), None);
        }
        let bytes: Vec<u8> = [1.0, f64::INFINITY]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let found = NotFinite::find(&bytes, Dtype::F64, Dtype::F64).unwrap();
        assert_eq!(found.unwrap().first, 1);
        let ints = NotFinite::find(&[0; 4], Dtype::I32, Dtype::F32);
        assert_eq!(ints, Err(NotAFloat { found: Dtype::I32 }));
    }

    #[test]
    fn every_bit_pattern_is_told_as_its_type_does() {
        for bits in 0..=u16::MAX {
            let bytes = bits.to_le_bytes();
            for (dtype, finite) in [
                (Dtype::F16, f16::from_bits(bits).is_finite()),
                (Dtype::BF16, bf16::from_bits(bits).is_finite()),
            ] {
                let found = NotFinite::find(&bytes, dtype, Dtype::F32).unwrap();
                assert_eq!(found.is_none(), finite, "{dtype} {bits:#06x}");
            }
            // The upper half of an f32, with lower halves around where rounding goes up.
            for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let value = f32::from_bits(u32::from(bits) << 16 | low);
                let found = |into| NotFinite::find(&value.to_le_bytes(), Dtype::F32, into).unwrap();
                assert_eq!(found(Dtype::F32).is_none(), value.is_finite());
                let rounded = bf16::from_f32(value);
                assert_eq!(
                    found(Dtype::BF16).is_none(),
                    rounded.is_finite(),
                    "{value:e}"
                );
            }
        }
        let max = f64::from(f32::MAX);
        for value in [max, max * (1.0 + 1e-9), max * (1.0 + 1e-7), -max * 2.0] {
            let found = NotFinite::find(&value.to_le_bytes(), Dtype::F64, Dtype::F32).unwrap();
            assert_eq!(found.is_none(), (value as f32).is_finite(), "{value:e}");
        }
    }

    #[test]
    fn parts_of_a_tensor_add_up() {
        let values: Vec<f32> = (0..100)
            .map(|i| if i % 30 == 29 { f32::NAN } else { 1.0 })
            .collect();
        let parts = values.chunks(7).enumerate();
        let parts = parts.map(|(at, part)| {
            let found = find_in(part, Dtype::F32, Dtype::F32);
            found.map(|found| found.from(at * 7))
        });
        // In any order.
        let all = parts.rev().fold(None, NotFinite::both).unwrap();
        assert_eq!((all.count, all.first), (3, 29));
    }
}
