//! The header of a file that `torch.save` wrote: its pickle, taken apart by pytorch-reader.
//!
//! It reads the containers that PyTorch has written (zip since 1.6, a stream of pickles before) and
//! any strides, knows the few calls that make a tensor, and executes nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use pytorch_reader::{DType, PickleError, PytorchError, PytorchReader};
use safetensors::Dtype;
use zip::ZipArchive;

use super::entry::{Entry, Source, unusable};
use super::header::{Header, known_other_format};
use crate::error::{FileError, Result};
use crate::{MAX_TEXT_BYTES, guarded, open_regular, shown};

/// All tensors together have at most this many times the bytes of their file. Tied weights count
/// twice; more than that is a view that repeats values, of any size at no cost in the file.
const MOST_OF_FILE: u64 = 4;
/// What marks a tar archive, and where.
const TAR_MAGIC: (&[u8], u64) = (b"ustar", 257);

/// Reads what the pickle says of each tensor, and checks that they can be read one by one.
pub(super) fn read(path: &Path) -> Result<Header> {
    let (file, size) = open_regular(path)?;
    expect_bounded(&file, path)?;
    let reader = guarded(|| PytorchReader::new(path))
        .map_err(|panicked| unusable(path, panicked))?
        .map_err(|error| fault(path, error))?;
    let mut all = 0u64;
    let mut tensors = BTreeMap::new();
    for (name, tensor) in reader.into_tensors() {
        let bytes = tensor.byte_len();
        all = all.saturating_add(bytes as u64);
        let entry = Entry {
            dtype: dtype(tensor.dtype()),
            shape: tensor.shape().to_vec(),
            bytes,
            source: Source::Pickled(tensor),
        };
        tensors.insert(name, entry);
    }
    if all > size.saturating_mul(MOST_OF_FILE) {
        let reason = format!(
            "its tensors would have {all} bytes together, more than {MOST_OF_FILE} times the \
             {size} of the file: they repeat values by their strides; save contiguous ones"
        );
        return Err(unusable(path, reason));
    }
    Ok(Header {
        tensors,
        metadata: BTreeMap::new(),
    })
}

/// Refuses what is no such file, and what would take memory by a size that the file only states.
fn expect_bounded(file: &File, path: &Path) -> Result<()> {
    let mut start = Vec::new();
    let read = file.take(TAR_MAGIC.1 + 5).read_to_end(&mut start);
    read.map_err(FileError::reading(path))?;
    if start.starts_with(b"PK") {
        return guarded(|| expect_stored(file, path)).map_err(|panic| unusable(path, panic))?;
    }
    // A tar archive may hold zeros without end.
    if start.get(TAR_MAGIC.1 as usize..) == Some(TAR_MAGIC.0) {
        return Err(unusable(
            path,
            "it is a tar archive, as PyTorch wrote before 0.1.10",
        ));
    }
    match start
        .first_chunk()
        .and_then(|start| known_other_format(*start))
    {
        Some(reason) => Err(unusable(path, reason)),
        None => Ok(()),
    }
}

/// `torch.save` stores what it puts into an archive as it is. Compressed it could be a thousand
/// times its bytes.
fn expect_stored(file: &File, path: &Path) -> Result<()> {
    // What is no archive is for the reader to refuse.
    let Ok(mut archive) = ZipArchive::new(BufReader::new(file)) else {
        return Ok(());
    };
    for at in 0..archive.len() {
        let Ok(entry) = archive.by_index_raw(at) else {
            continue;
        };
        let name = entry.name().unwrap_or_default();
        if entry.size() > entry.compressed_size() {
            let reason = format!("{} in it is compressed", shown(name));
            return Err(unusable(path, reason));
        }
        if name.ends_with("data.pkl") && entry.size() > MAX_TEXT_BYTES {
            let reason = format!("{} in it has more than {MAX_TEXT_BYTES} bytes", shown(name));
            return Err(unusable(path, reason));
        }
    }
    Ok(())
}

/// What the reader says of a file, unless it is the system that does not let it be read.
fn fault(path: &Path, error: PytorchError) -> FileError {
    match error {
        PytorchError::Io(error) | PytorchError::Pickle(PickleError::Io(error))
            if error.raw_os_error().is_some() =>
        {
            FileError::reading(path)(error)
        }
        error => unusable(path, shown(error)),
    }
}

fn dtype(of: DType) -> Dtype {
    match of {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}
