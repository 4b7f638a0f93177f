//! Writing a safetensors file.

use std::io::{self, Write};
use std::path::Path;

use super::head::TensorHead;
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
    let tensors: Vec<(&str, &HostTensor)> = tensors.into_iter().collect();
    let heads = tensors.iter().map(|(name, tensor)| TensorHead {
        name,
        dtype: tensor.dtype,
        shape: &tensor.shape,
    });
    write_with(path, heads.collect(), metadata, |at, file| {
        file.write_all(&tensors[at].1.bytes)
            .map_err(FileError::writing(path))
    })
}

/// As [`write_tensors`], of tensors that are made one after the other: `values` writes the bytes of
/// the tensor at a place of `tensors`, in as many parts as it likes.
///
/// # Errors
///
/// As [`write_tensors`], and what `values` says.
pub fn write_tensors_in_parts<E: From<FileError>>(
    path: impl AsRef<Path>,
    tensors: Vec<TensorHead<'_>>,
    values: impl FnMut(usize, &mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    write_with(path.as_ref(), tensors, &[], values)
}

fn write_with<E: From<FileError>>(
    path: &Path,
    tensors: Vec<TensorHead<'_>>,
    metadata: &[(&str, &str)],
    mut values: impl FnMut(usize, &mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    // The reference order: widest type first, which keeps every tensor aligned, then by name.
    order.sort_by(|a, b| {
        let (a, b) = (&tensors[*a], &tensors[*b]);
        b.dtype.cmp(&a.dtype).then(a.name.cmp(b.name))
    });
    let sorted: Vec<TensorHead<'_>> = order.iter().map(|at| tensors[*at]).collect();
    let header = header::to_bytes(path, &sorted, metadata)?;
    let mut file = AtomicFile::create(path)?;
    file.write_all(&header).map_err(FileError::writing(path))?;
    for (at, tensor) in order.into_iter().zip(sorted) {
        let mut counted = Counted(&mut file, 0);
        values(at, &mut counted)?;
        let (found, expected) = (counted.1, tensor.bytes());
        if found != expected {
            let name = tensor.name;
            let reason =
                format!("tensor {name} has {found} bytes, its shape and type need {expected}");
            return Err(header::unusable(path, reason).into());
        }
    }
    Ok(file.commit()?)
}

/// A writer that counts.
struct Counted<'a>(&'a mut AtomicFile, usize);

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1 += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
