//! A tensor in host memory, as a file holds it.

use half::{bf16, f16};
use safetensors::Dtype;

use crate::finite::{NotAFloat, NotFinite, values};

/// A tensor in host memory, as a file holds it: little endian, row-major.
///
/// ```
/// use ls_files::{Dtype, HostTensor, NotAFloat};
///
/// # fn main() -> Result<(), NotAFloat> {
/// let tensor = HostTensor::from_f32([2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 1.001]);
/// assert_eq!((tensor.dtype, tensor.len(), tensor.bytes.len()), (Dtype::F32, 6, 24));
/// let half = tensor.to_dtype(Dtype::BF16)?;
/// assert_eq!((half.bytes.len(), half.to_f32()?), (12, vec![1.0, 2.0, 3.0, 4.0, 5.0, 1.0]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTensor {
    /// The type of each value.
    pub dtype: Dtype,
    /// The size of each dimension; empty for a scalar.
    pub shape: Vec<usize>,
    /// The values.
    pub bytes: Vec<u8>,
}

impl HostTensor {
    /// A 32-bit tensor with these values.
    ///
    /// # Panics
    ///
    /// When the number of values is not the product of the shape.
    #[must_use]
    pub fn from_f32(shape: impl Into<Vec<usize>>, values: &[f32]) -> Self {
        let shape = shape.into();
        assert_eq!(
            shape.iter().product::<usize>(),
            values.len(),
            "shape {shape:?} and {} values",
            values.len()
        );
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self {
            dtype: Dtype::F32,
            shape,
            bytes,
        }
    }

    /// The values as 32-bit floats: exact for F32, F16 and BF16, rounded to nearest for F64.
    ///
    /// # Errors
    ///
    /// [`NotAFloat`] for every other type.
    pub fn to_f32(&self) -> Result<Vec<f32>, NotAFloat> {
        let bytes = &self.bytes;
        Ok(match self.dtype {
            Dtype::F32 => values(bytes, f32::from_le_bytes).collect(),
            Dtype::F16 => values(bytes, f16::from_le_bytes).map(f16::to_f32).collect(),
            Dtype::BF16 => values(bytes, bf16::from_le_bytes)
                .map(bf16::to_f32)
                .collect(),
            Dtype::F64 => values(bytes, f64::from_le_bytes)
                .map(|v| v as f32)
                .collect(),
            found => return Err(NotAFloat { found }),
        })
    }

    /// The same values in another float type, rounded to nearest once.
    ///
    /// # Errors
    ///
    /// [`NotAFloat`] when this type or the wanted one is not F32, F16 or BF16 (F64 only as the
    /// source).
    pub fn to_dtype(&self, dtype: Dtype) -> Result<Self, NotAFloat> {
        if dtype == self.dtype {
            return Ok(self.clone());
        }
        let values = self.to_f32()?;
        let bytes = match dtype {
            Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Dtype::F16 => values
                .iter()
                .flat_map(|v| f16::from_f32(*v).to_le_bytes())
                .collect(),
            Dtype::BF16 => values
                .iter()
                .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
                .collect(),
            found => return Err(NotAFloat { found }),
        };
        Ok(Self {
            dtype,
            shape: self.shape.clone(),
            bytes,
        })
    }

    /// The number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether a dimension is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values that are NaN or infinite, or that become so in the type `into`.
    ///
    /// # Errors
    ///
    /// [`NotAFloat`] for types other than F64, F32, F16 and BF16.
    pub fn not_finite(&self, into: Dtype) -> Result<Option<NotFinite>, NotAFloat> {
        NotFinite::find(&self.bytes, self.dtype, into)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn half_types_round_to_nearest_and_others_are_refused() {
        let tensor = HostTensor::from_f32([3], &[1.0, 1.003_907, -65504.0]);
        let bf16 = tensor.to_dtype(Dtype::BF16).unwrap();
        assert_eq!(bf16.to_f32().unwrap(), [1.0, 1.007_812_5, -65536.0]);
        let f16 = tensor.to_dtype(Dtype::F16).unwrap();
        assert_eq!(f16.to_f32().unwrap()[2], -65504.0);
        let ints = HostTensor {
            dtype: Dtype::I64,
            shape: vec![1],
            bytes: vec![0; 8],
        };
        assert_eq!(ints.to_f32(), Err(NotAFloat { found: Dtype::I64 }));
        assert!(tensor.to_dtype(Dtype::U8).is_err());
    }
}
