//! [`GgufFile`]: an open GGUF file.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::header::{GgufValue, Header};
use super::tensor::GgufTensor;
use crate::error::{FileError, Result};
use crate::{open_regular, read_exact_at};

/// An open GGUF file, its header read and checked; tensors are read when asked for.
///
/// May be shared by threads: reads carry their own position.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    file: File,
    metadata: BTreeMap<String, GgufValue>,
    tensors: BTreeMap<String, GgufTensor>,
}

impl GgufFile {
    /// Opens a file and checks its header against its size; no tensor is read.
    ///
    /// # Errors
    ///
    /// As [`open_regular`]; [`FileError::Truncated`] when the file ends before its header or one of
    /// its tensors does; [`FileError::Unusable`] when it is no GGUF file of version 2 or 3, or has
    /// a tensor of a type that is not unpacked here.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (file, size) = open_regular(path)?;
        let Header { metadata, tensors } = Header::read(&file, size, path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            metadata,
            tensors,
        })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says of the model, by key.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, GgufValue> {
        &self.metadata
    }

    /// The tensors by name.
    #[must_use]
    pub fn tensors(&self) -> &BTreeMap<String, GgufTensor> {
        &self.tensors
    }

    /// A tensor by its name.
    ///
    /// # Errors
    ///
    /// [`FileError::TensorMissing`] with a similar name.
    pub fn tensor(&self, name: &str) -> Result<&GgufTensor> {
        let names = self.tensors.keys().map(String::as_str);
        let missing = || FileError::tensor_missing(&self.path, name, names);
        self.tensors.get(name).ok_or_else(missing)
    }

    /// Reads whole rows of a tensor, from row `first` on, as 32-bit floats.
    ///
    /// # Errors
    ///
    /// [`FileError::Read`].
    ///
    /// # Panics
    ///
    /// If `values` are no whole rows, or the tensor has fewer.
    pub fn read_rows(&self, tensor: &GgufTensor, first: usize, values: &mut [f32]) -> Result<()> {
        let count = values.len() / tensor.width();
        assert!(
            count * tensor.width() == values.len() && first + count <= tensor.rows(),
            "rows lie within their tensor"
        );
        let row = tensor.row_bytes();
        let mut bytes = vec![0; count * row];
        let start = tensor.start + first as u64 * row as u64;
        read_exact_at(&self.file, &mut bytes, start).map_err(FileError::reading(&self.path))?;
        tensor.kind.unpack(&bytes, values);
        Ok(())
    }
}
