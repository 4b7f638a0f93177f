//! One tensor of a file: where its bytes are, and reading them.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use safetensors::Dtype;

use crate::error::{FileError, Result};
use crate::{guarded, read_exact_at};

/// What the header of a file says of a tensor.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: usize,
    pub(super) source: Source,
}

/// Where the bytes of a tensor come from.
#[derive(Debug)]
pub(super) enum Source {
    /// They lie in a file, row-major, from this position on.
    At(Arc<File>, u64),
    /// They may lie in any order of rows and columns, and perhaps compressed.
    Pickled(pytorch_reader::Tensor),
}

impl Entry {
    /// All bytes; `path` is the file, for messages.
    pub(super) fn read(&self, path: &Path) -> Result<Vec<u8>> {
        match &self.source {
            Source::At(file, start) => {
                let mut bytes = vec![0; self.bytes];
                read_exact_at(file, &mut bytes, *start).map_err(FileError::reading(path))?;
                Ok(bytes)
            }
            Source::Pickled(tensor) => {
                let read = guarded(|| tensor.read()).map_err(|panic| unusable(path, panic))?;
                read.map_err(|error| match error.kind() {
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                        unusable(path, error)
                    }
                    _ => FileError::reading(path)(error),
                })
            }
        }
    }
}

/// A file of pickled tensors that cannot be used.
pub(super) fn unusable(path: &Path, reason: impl ToString) -> FileError {
    FileError::Unusable {
        path: path.to_owned(),
        what: "PyTorch file",
        reason: reason.to_string(),
    }
}

/// A tensor of an open file, to be read in parts.
///
/// May be shared by threads.
#[derive(Debug)]
pub struct OpenTensor<'a> {
    path: &'a Path,
    bytes: usize,
    source: Parts<'a>,
}

#[derive(Debug)]
enum Parts<'a> {
    At(&'a File, u64),
    Held(Vec<u8>),
}

impl<'a> OpenTensor<'a> {
    pub(super) fn new(path: &'a Path, entry: &'a Entry) -> Result<Self> {
        let source = match &entry.source {
            Source::At(file, start) => Parts::At(file, *start),
            Source::Pickled(_) => Parts::Held(entry.read(path)?),
        };
        Ok(Self {
            path,
            bytes: entry.bytes,
            source,
        })
    }

    /// Reads the bytes from `from` on into a buffer.
    ///
    /// # Errors
    ///
    /// [`FileError::Read`]; the buffer's content is then unspecified.
    ///
    /// # Panics
    ///
    /// If the part ends past the tensor.
    pub fn read_part(&self, from: usize, buffer: &mut [u8]) -> Result<()> {
        assert!(
            from + buffer.len() <= self.bytes,
            "a part lies within its tensor"
        );
        match &self.source {
            Parts::At(file, start) => read_exact_at(file, buffer, start + from as u64)
                .map_err(FileError::reading(self.path)),
            Parts::Held(bytes) => {
                buffer.copy_from_slice(&bytes[from..from + buffer.len()]);
                Ok(())
            }
        }
    }
}
