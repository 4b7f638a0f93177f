//! Writing a safetensors file.

use std::io::Write as _;
use std::path::Path;

use super::{HostTensor, header};
use crate::AtomicFile;
use crate::error::{FileError, Result};

/// Writes a safetensors file with the metadata `{"format": "pt"}`, as transformers and peft ask.
///
/// The same tensors give the same bytes in any order: those of the reference implementation. The
/// file appears whole or not at all.
///
/// # Errors
///
/// [`FileError::Unusable`] when a tensor's bytes do not fill its shape, or a name occurs twice or
/// is reserved; [`FileError::Write`].
pub fn write_tensors<'a>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (&'a str, &'a HostTensor)>,
) -> Result<()> {
    write_tensors_with(path, tensors, &[])
}

/// As [`write_tensors`], with metadata beside `format`: [`TensorFile::metadata`] gives it back.
///
/// [`TensorFile::metadata`]: crate::TensorFile::metadata
///
/// # Errors
///
/// As [`write_tensors`].
pub fn write_tensors_with<'a>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (&'a str, &'a HostTensor)>,
    metadata: &[(&str, &str)],
) -> Result<()> {
    let path = path.as_ref();
    let mut tensors: Vec<(&str, &HostTensor)> = tensors.into_iter().collect();
    // The reference order: widest type first, which keeps every tensor aligned, then by name.
    tensors.sort_by(|(a_name, a), (b_name, b)| b.dtype.cmp(&a.dtype).then(a_name.cmp(b_name)));

    let header = header::to_bytes(path, &tensors, metadata)?;
    let mut file = AtomicFile::create(path)?;
    let parts = tensors.iter().map(|(_, tensor)| &tensor.bytes);
    for part in std::iter::once(&header).chain(parts) {
        file.write_all(part).map_err(FileError::writing(path))?;
    }
    file.commit()
}
