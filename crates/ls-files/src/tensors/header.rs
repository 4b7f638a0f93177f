//! The header of a safetensors file: where each tensor is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::Metadata;
use serde_json::{Map, Value, json};

use super::entry::{Entry, Source};
use super::head::TensorHead;
use crate::error::{FileError, Result};

/// The header limit of the format's reference implementation.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// The file starts with the header's length as a little-endian 64-bit number.
const LENGTH_BYTES: u64 = 8;

/// Where the tensors of a file are, checked against the file's size.
#[derive(Debug)]
pub(super) struct Header {
    /// By name.
    pub(super) tensors: BTreeMap<String, Entry>,
    /// What the writer said of the file.
    pub(super) metadata: BTreeMap<String, String>,
}

impl Header {
    /// Reads the header of a file of `size` bytes, from its beginning.
    pub(super) fn read(shared: &Arc<File>, size: u64, path: &Path) -> Result<Self> {
        let mut file: &File = shared;
        let truncated = |expected: u64| FileError::Truncated {
            path: path.to_owned(),
            expected,
            found: size,
        };
        let reading = FileError::reading(path);
        if size < LENGTH_BYTES {
            return Err(truncated(LENGTH_BYTES));
        }
        let mut length = [0; LENGTH_BYTES as usize];
        file.read_exact(&mut length).map_err(&reading)?;
        if let Some(reason) = known_other_format(length) {
            return Err(unusable(path, reason));
        }
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(unusable(
                path,
                format!(
                    "its header would be {header_bytes} bytes long, more than {MAX_HEADER_BYTES}"
                ),
            ));
        }
        let data_start = LENGTH_BYTES + header_bytes;
        if size < data_start {
            return Err(truncated(data_start));
        }
        // At most MAX_HEADER_BYTES, and the file is known to hold them.
        let mut header = vec![0; header_bytes as usize];
        file.read_exact(&mut header).map_err(&reading)?;
        // Deserialising also checks that offsets are contiguous and that shapes fill them.
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| unusable(path, format!("its header is wrong: {error}")))?;

        let expected = data_start.saturating_add(metadata.data_len() as u64);
        if size < expected {
            return Err(truncated(expected));
        }
        if size > expected {
            let surplus = size - expected;
            return Err(unusable(
                path,
                format!("{surplus} bytes follow the last tensor"),
            ));
        }
        let tensors = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| {
                let (start, end) = info.data_offsets;
                let entry = Entry {
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                    bytes: end - start,
                    source: Source::At(Arc::clone(shared), data_start + start as u64),
                };
                (name, entry)
            })
            .collect();
        let said = metadata.metadata().clone().unwrap_or_default();
        Ok(Self {
            tensors,
            metadata: said.into_iter().collect(),
        })
    }
}

/// The beginning of a file with `tensors` in this order: length and header.
pub(super) fn to_bytes(
    path: &Path,
    tensors: &[TensorHead<'_>],
    metadata: &[(&str, &str)],
) -> Result<Vec<u8>> {
    let mut header = Map::new();
    // What transformers and peft ask for.
    let mut said = Map::from_iter([("format".to_owned(), "pt".into())]);
    said.extend(
        metadata
            .iter()
            .map(|(key, text)| ((*key).to_owned(), (*text).into())),
    );
    header.insert("__metadata__".to_owned(), Value::Object(said));
    let mut offset = 0;
    for tensor in tensors {
        let TensorHead { name, dtype, shape } = tensor;
        let end = offset + tensor.bytes();
        let info = json!({
            "dtype": dtype.to_string(), "shape": shape, "data_offsets": [offset, end],
        });
        if header.insert((*name).to_owned(), info).is_some() {
            return Err(unusable(path, format!("two tensors would be named {name}")));
        }
        offset = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    // Spaces after the header align the data to 8 bytes.
    text.resize(text.len().next_multiple_of(LENGTH_BYTES as usize), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    Ok(bytes)
}

pub(super) fn unusable(path: &Path, reason: impl Into<String>) -> FileError {
    FileError::Unusable {
        path: path.to_owned(),
        what: "safetensors file",
        reason: reason.into(),
    }
}

/// What people hand over in place of weights, by its first bytes.
pub(super) fn known_other_format(start: [u8; 8]) -> Option<&'static str> {
    if &start == b"version " {
        Some("it is a git-lfs pointer, so the weights were not downloaded (git lfs pull)")
    } else if start.starts_with(b"PK\x03\x04") {
        Some("it is a zip archive, probably a pickled PyTorch file: call it pytorch_model.bin")
    } else if start.starts_with(b"GGUF") {
        Some("it is a GGUF file: `ls-cli convert` makes a folder of it")
    } else {
        None
    }
}
