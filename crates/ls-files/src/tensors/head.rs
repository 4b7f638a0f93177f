//! [`TensorHead`]: what the header of a file says of a tensor that is to be written.

use safetensors::Dtype;

/// A tensor that is to be written: what the header says of it.
#[derive(Debug, Clone, Copy)]
pub struct TensorHead<'a> {
    /// Its name.
    pub name: &'a str,
    /// The type of each value.
    pub dtype: Dtype,
    /// The size of each dimension; empty for a scalar.
    pub shape: &'a [usize],
}

impl TensorHead<'_> {
    /// The bytes that its values have.
    #[must_use]
    pub fn bytes(&self) -> usize {
        (self.shape.iter().product::<usize>() * self.dtype.bitsize()).div_ceil(8)
    }
}
