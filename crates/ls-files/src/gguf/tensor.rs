//! [`GgufTensor`]: where a tensor of a GGUF file is, and how it is packed.

use super::blocks::GgufType;

/// Where a tensor is, and how it is packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufTensor {
    /// How its values are packed.
    pub kind: GgufType,
    /// The size of each dimension, rows first and the values of a row last, as in safetensors (the
    /// file has them the other way round).
    pub shape: Vec<usize>,
    /// Position in the file.
    pub(super) start: u64,
}

impl GgufTensor {
    /// Values of a row: the last dimension.
    #[must_use]
    pub fn width(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows, over all dimensions before the last.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// Bytes of a row in the file.
    pub(super) fn row_bytes(&self) -> usize {
        let (values, bytes) = self.kind.block();
        self.width() / values * bytes
    }

    /// Bytes in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.rows() as u64 * self.row_bytes() as u64
    }
}
