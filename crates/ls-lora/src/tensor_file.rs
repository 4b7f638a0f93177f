//! Safetensors files and the host tensors in them: header-only opening, one tensor read at a time,
//! atomic writing.
//!
//! Nothing here knows adapters or devices. Files are read by position rather than mapped, because
//! mapped pages would count as resident memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use ls_files::{AtomicFile, FileError, nearest, open_regular, read_exact_at};
use safetensors::tensor::Metadata;
use serde_json::{Map, Value, json};

use crate::error::{LoraError, Result};

/// ```
/// use ls_lora::{Dtype, HostTensor};
///
/// let tensor = HostTensor { dtype: Dtype::BF16, shape: vec![2], bytes: vec![0x80, 0x3f, 0, 0] };
/// assert!(tensor.to_f32().is_ok_and(|values| values == [1.0, 0.0]));
/// ```
pub use safetensors::Dtype;

/// The header limit of the format's reference implementation.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// The file starts with the header's length as a little-endian 64-bit number.
const LENGTH_BYTES: u64 = 8;

/// A tensor in host memory, as a file holds it: little endian, row-major.
///
/// ```
/// use ls_lora::{Dtype, HostTensor};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// let tensor = HostTensor::from_f32([2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// assert_eq!((tensor.dtype, tensor.len(), tensor.bytes.len()), (Dtype::F32, 6, 24));
/// let half = tensor.to_dtype(Dtype::F16)?;
/// assert_eq!((half.bytes.len(), half.to_f32()?), (12, tensor.to_f32()?));
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
    /// ```
    /// use ls_lora::HostTensor;
    ///
    /// let scalar = HostTensor::from_f32([], &[1.0]);
    /// assert_eq!((scalar.shape.len(), scalar.len()), (0, 1));
    /// assert_eq!(scalar.bytes, 1.0f32.to_le_bytes());
    /// ```
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
    /// ```
    /// use ls_lora::{Dtype, HostTensor, LoraError};
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// let mut tensor = HostTensor::from_f32([2], &[1.5, -2.0]);
    /// assert_eq!(tensor.to_f32()?, [1.5, -2.0]);
    /// tensor.dtype = Dtype::I32;
    /// assert!(matches!(tensor.to_f32(), Err(LoraError::NotAFloat { found: Dtype::I32 })));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::NotAFloat`] for every other type.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
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
            found => return Err(LoraError::NotAFloat { found }),
        })
    }

    /// The same values in another float type, rounded to nearest once.
    ///
    /// ```
    /// use ls_lora::{Dtype, HostTensor};
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// let rounded = HostTensor::from_f32([2], &[1.0, 1.001]).to_dtype(Dtype::BF16)?;
    /// assert_eq!(rounded.to_f32()?, [1.0, 1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::NotAFloat`] when this type or the wanted one is not F32, F16 or BF16 (F64 only
    /// as the source).
    pub fn to_dtype(&self, dtype: Dtype) -> Result<Self> {
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
            found => return Err(LoraError::NotAFloat { found }),
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

    /// The flat index and value of the first NaN or infinity.
    ///
    /// ```
    /// use ls_lora::HostTensor;
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// let tensor = HostTensor::from_f32([2, 2], &[1.0, 2.0, f32::INFINITY, f32::NAN]);
    /// assert_eq!(tensor.first_non_finite()?, Some((2, f64::INFINITY)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::NotAFloat`] for types other than F64, F32, F16 and BF16.
    pub fn first_non_finite(&self) -> Result<Option<(usize, f64)>> {
        fn first(values: impl Iterator<Item = f64>) -> Option<(usize, f64)> {
            values.enumerate().find(|(_, v)| !v.is_finite())
        }
        let bytes = &self.bytes;
        Ok(match self.dtype {
            Dtype::F64 => first(values(bytes, f64::from_le_bytes)),
            Dtype::F32 => first(values(bytes, f32::from_le_bytes).map(f64::from)),
            Dtype::F16 => first(values(bytes, f16::from_le_bytes).map(f16::to_f64)),
            Dtype::BF16 => first(values(bytes, bf16::from_le_bytes).map(bf16::to_f64)),
            found => return Err(LoraError::NotAFloat { found }),
        })
    }
}

fn values<const N: usize, T>(bytes: &[u8], from: fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(move |chunk| from(*chunk))
}

/// An open safetensors file whose header has been read and checked; tensors are read when asked
/// for.
///
/// May be shared by threads: reads carry their own position.
///
/// ```
/// use ls_lora::{Dtype, HostTensor, TensorFile, write_tensors};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("model.safetensors");
/// let weight = HostTensor::from_f32([2, 2], &[1.0, 2.0, 3.0, 4.0]);
/// write_tensors(&path, [("fc1.weight", &weight)])?;
/// let file = TensorFile::open(&path)?;
/// assert_eq!(file.names().collect::<Vec<_>>(), ["fc1.weight"]);
/// assert_eq!(file.get("fc1.weight"), Some((Dtype::F32, &[2, 2][..])));
/// assert_eq!(file.read("fc1.weight")?, weight);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    data_start: u64,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Counted from the end of the header.
    start: u64,
    bytes: usize,
}

impl TensorFile {
    /// Opens a file and checks its header against its size; no tensor is read.
    ///
    /// ```
    /// use ls_lora::{LoraError, TensorFile};
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("model.safetensors");
    /// std::fs::write(&path, b"PK\x03\x04 is how a zip file starts").unwrap();
    /// assert!(matches!(TensorFile::open(&path), Err(LoraError::CorruptFile { .. })));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::File`]; [`LoraError::TruncatedFile`] when the file ends too early;
    /// [`LoraError::CorruptFile`] when the header is not one, its offsets overlap or leave holes, a
    /// shape does not fit its bytes, or data follow the last tensor.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (mut file, found) = open_regular(path)?;
        let reading = FileError::reading(path);
        let truncated = |expected: u64| LoraError::TruncatedFile {
            path: path.to_owned(),
            expected,
            found,
        };
        if found < LENGTH_BYTES {
            return Err(truncated(LENGTH_BYTES));
        }
        let mut length = [0; LENGTH_BYTES as usize];
        file.read_exact(&mut length).map_err(&reading)?;
        if let Some(reason) = known_other_format(length) {
            return Err(corrupt(path, reason));
        }
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(corrupt(
                path,
                format!(
                    "its header would be {header_bytes} bytes long, more than {MAX_HEADER_BYTES}"
                ),
            ));
        }
        let data_start = LENGTH_BYTES + header_bytes;
        if found < data_start {
            return Err(truncated(data_start));
        }
        // At most MAX_HEADER_BYTES, and the file is known to hold them.
        let mut header = vec![0; header_bytes as usize];
        file.read_exact(&mut header).map_err(&reading)?;
        // Deserialising also checks that offsets are contiguous and that shapes fill them.
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|e| corrupt(path, format!("its header is wrong: {e}")))?;

        let expected = data_start.saturating_add(metadata.data_len() as u64);
        if found < expected {
            return Err(truncated(expected));
        }
        if found > expected {
            return Err(corrupt(
                path,
                format!("{} bytes follow the last tensor", found - expected),
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
                    start: start as u64,
                    bytes: end - start,
                };
                (name, entry)
            })
            .collect();
        Ok(Self {
            path: path.to_owned(),
            file,
            data_start,
            tensors,
        })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the tensors, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The type and shape of a tensor, if the file has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<(Dtype, &[usize])> {
        let entry = self.tensors.get(name)?;
        Some((entry.dtype, &entry.shape))
    }

    /// Reads one tensor.
    ///
    /// ```
    /// use ls_lora::{HostTensor, LoraError, TensorFile, write_tensors};
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("model.safetensors");
    /// # write_tensors(&path, [("fc1.weight", &HostTensor::from_f32([2], &[1.0, 2.0]))])?;
    /// let file = TensorFile::open(&path)?;
    /// assert_eq!(file.read("fc1.weight")?.to_f32()?, [1.0, 2.0]);
    /// let missing = file.read("fc2.weight");
    /// assert!(matches!(missing, Err(LoraError::TensorMissing { nearest, .. }) if nearest.as_deref() == Some("fc1.weight")));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::TensorMissing`] with a similar name; [`LoraError::File`].
    pub fn read(&self, name: &str) -> Result<HostTensor> {
        let entry = self.entry(name)?;
        let mut bytes = vec![0; entry.bytes];
        self.read_part(name, 0, &mut bytes)?;
        Ok(HostTensor {
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            bytes,
        })
    }

    /// Reads a part of one tensor's bytes, from the byte `from` on: who converts a tensor as it
    /// comes needs no room for it twice.
    ///
    /// ```
    /// # use ls_lora::{HostTensor, TensorFile, write_tensors};
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("model.safetensors");
    /// # write_tensors(&path, [("b", &HostTensor::from_f32([3], &[1.0, 2.0, 3.0]))])?;
    /// let file = TensorFile::open(&path)?;
    /// let mut third = [0; 4];
    /// file.read_part("b", 2 * 4, &mut third)?;
    /// assert_eq!(f32::from_le_bytes(third), 3.0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`TensorFile::read`]; the buffer's content is then unspecified.
    ///
    /// # Panics
    ///
    /// If the part ends past the tensor.
    pub fn read_part(&self, name: &str, from: usize, buffer: &mut [u8]) -> Result<()> {
        let entry = self.entry(name)?;
        assert!(
            from + buffer.len() <= entry.bytes,
            "a part lies within its tensor"
        );
        let at = self.data_start + entry.start + from as u64;
        Ok(read_exact_at(&self.file, buffer, at).map_err(FileError::reading(&self.path))?)
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.tensors
            .get(name)
            .ok_or_else(|| missing(&self.path, name, self.names()))
    }
}

/// Writes a safetensors file with the metadata `{"format": "pt"}` that transformers and peft ask
/// for.
///
/// The same tensors give the same bytes in any order; they are those of the reference
/// implementation. The file appears whole or not at all.
///
/// ```
/// use std::collections::BTreeMap;
/// use ls_lora::{HostTensor, TensorFile, write_tensors};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("model.safetensors");
/// let tensors = BTreeMap::from([
///     ("fc1.weight", HostTensor::from_f32([1, 2], &[1.0, 2.0])),
///     ("fc1.bias", HostTensor::from_f32([1], &[0.5])),
/// ]);
/// write_tensors(&path, tensors.iter().map(|(name, tensor)| (*name, tensor)))?;
/// assert_eq!(TensorFile::open(&path)?.read("fc1.bias")?, tensors["fc1.bias"]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`LoraError::TensorBytes`] when a tensor's bytes do not fill its shape,
/// [`LoraError::CorruptFile`] when a name occurs twice or is reserved, [`LoraError::File`].
pub fn write_tensors<'a>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (&'a str, &'a HostTensor)>,
) -> Result<()> {
    let path = path.as_ref();
    let mut tensors: Vec<(&str, &HostTensor)> = tensors.into_iter().collect();
    // The reference order: widest type first, which keeps every tensor aligned, then by name.
    tensors.sort_by(|(a_name, a), (b_name, b)| b.dtype.cmp(&a.dtype).then(a_name.cmp(b_name)));

    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut offset = 0;
    for (name, tensor) in &tensors {
        let expected = (tensor.len() * tensor.dtype.bitsize()).div_ceil(8);
        if tensor.bytes.len() != expected {
            return Err(LoraError::TensorBytes {
                name: (*name).to_owned(),
                expected,
                found: tensor.bytes.len(),
            });
        }
        let end = offset + expected;
        let info = json!({"dtype": tensor.dtype.to_string(), "shape": tensor.shape, "data_offsets": [offset, end]});
        if header.insert((*name).to_owned(), info).is_some() {
            return Err(corrupt(path, format!("two tensors would be named {name}")));
        }
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // Spaces after the header align the data to 8 bytes.
    header.resize(header.len().next_multiple_of(LENGTH_BYTES as usize), b' ');

    let mut file = AtomicFile::create(path)?;
    let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(FileError::writing(path));
    write(&(header.len() as u64).to_le_bytes())?;
    write(&header)?;
    for (_, tensor) in &tensors {
        write(&tensor.bytes)?;
    }
    Ok(file.commit()?)
}

/// A missing-tensor error with the most similar of the names that are there.
pub(crate) fn missing<'a>(
    path: &Path,
    name: &str,
    available: impl Iterator<Item = &'a str>,
) -> LoraError {
    LoraError::TensorMissing {
        path: path.to_owned(),
        name: name.to_owned(),
        nearest: nearest(name, available),
    }
}

fn corrupt(path: &Path, reason: impl Into<String>) -> LoraError {
    LoraError::CorruptFile {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

/// What people hand over in place of weights, by its first bytes.
fn known_other_format(start: [u8; 8]) -> Option<&'static str> {
    if &start == b"version " {
        Some("it is a git-lfs pointer, so the weights were not downloaded (git lfs pull)")
    } else if start.starts_with(b"PK\x03\x04") {
        Some("it is a zip archive, probably a pickled PyTorch file under another name")
    } else if start.starts_with(b"GGUF") {
        Some("it is a GGUF file")
    } else {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    fn sample() -> BTreeMap<String, HostTensor> {
        let half = HostTensor::from_f32([3], &[0.5, -1.5, 3.0]);
        BTreeMap::from([
            (
                "b".into(),
                HostTensor::from_f32([2, 3], &[1., 2., 3., 4., 5., 6.]),
            ),
            ("a.bf16".into(), half.to_dtype(Dtype::BF16).unwrap()),
            ("c.f16".into(), half.to_dtype(Dtype::F16).unwrap()),
            ("scalar".into(), HostTensor::from_f32([], &[7.0])),
            ("empty".into(), HostTensor::from_f32([0, 4], &[])),
        ])
    }

    fn write(path: &Path, tensors: &BTreeMap<String, HostTensor>) {
        write_tensors(path, tensors.iter().map(|(n, t)| (n.as_str(), t))).unwrap();
    }

    fn in_folder(check: impl FnOnce(&Path)) {
        let folder = tempfile::tempdir().unwrap();
        check(&folder.path().join("t.safetensors"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        in_folder(|path| {
            let tensors = sample();
            write(path, &tensors);
            let file = TensorFile::open(path).unwrap();
            assert!(file.names().eq(tensors.keys().map(String::as_str)));
            assert_eq!(file.get("b"), Some((Dtype::F32, [2, 3].as_slice())));
            assert_eq!(file.get("absent"), None);
            for (name, tensor) in &tensors {
                assert_eq!(&file.read(name).unwrap(), tensor);
            }
            let bytes = &tensors["b"].bytes;
            for from in [0, 3, bytes.len()] {
                let mut part = vec![9; bytes.len() - from];
                file.read_part("b", from, &mut part).unwrap();
                assert_eq!(part, bytes[from..]);
            }
        });
    }

    #[test]
    fn the_bytes_are_those_of_the_reference_implementation_in_any_order() {
        in_folder(|path| {
            let tensors = sample();
            let views = tensors.iter().map(|(n, t)| {
                (
                    n,
                    safetensors::tensor::TensorView::new(t.dtype, t.shape.clone(), &t.bytes)
                        .unwrap(),
                )
            });
            let format = [("format".to_owned(), "pt".to_owned())].into();
            let reference = safetensors::serialize(views, Some(format)).unwrap();
            write_tensors(path, tensors.iter().rev().map(|(n, t)| (n.as_str(), t))).unwrap();
            assert_eq!(fs::read(path).unwrap(), reference);
        });
    }

    #[test]
    fn every_truncation_is_refused_with_both_sizes() {
        in_folder(|path| {
            write(path, &sample());
            let whole = fs::read(path).unwrap();
            for cut in 0..whole.len() {
                fs::write(path, &whole[..cut]).unwrap();
                let error = TensorFile::open(path).unwrap_err();
                let LoraError::TruncatedFile {
                    expected, found, ..
                } = error
                else {
                    panic!("cut at {cut}: {error}");
                };
                assert_eq!(found, cut as u64);
                assert!(
                    expected > found && expected <= whole.len() as u64,
                    "{expected}"
                );
            }
        });
    }

    #[test]
    fn corrupt_headers_are_refused() {
        let with_header = |header: &str, data: usize| {
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.extend(vec![0; data]);
            bytes
        };
        let cases: &[(Vec<u8>, &str)] = &[
            (
                b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
                "git-lfs pointer",
            ),
            (b"PK\x03\x04\x00\x00\x08\x08archive".to_vec(), "zip archive"),
            (b"{\"a\": {\"dtype\"}}".to_vec(), "header would be"),
            (with_header("not json", 0), "header is wrong"),
            (with_header("[]", 0), "header is wrong"),
            (with_header("\u{fffd}", 0), "header is wrong"),
            (
                with_header(
                    r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
                    4,
                ),
                "invalid shape",
            ),
            (
                with_header(
                    r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                    8,
                ),
                "invalid offset for tensor `a`",
            ),
            (
                with_header(
                    r#"{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}"#,
                    4,
                ),
                "X9",
            ),
            (
                with_header(
                    r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,4]}}"#,
                    4,
                ),
                "overflow",
            ),
            (
                with_header(
                    r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                    7,
                ),
                "3 bytes follow",
            ),
        ];
        for (bytes, reason) in cases {
            in_folder(|path| {
                fs::write(path, bytes).unwrap();
                let error = TensorFile::open(path).unwrap_err();
                assert!(matches!(error, LoraError::CorruptFile { .. }), "{error}");
                assert!(error.to_string().contains(reason), "{error} / {reason}");
            });
        }
    }

    #[test]
    fn a_missing_file_and_a_folder_are_named() {
        in_folder(|path| {
            assert!(matches!(
                TensorFile::open(path).unwrap_err(),
                LoraError::File(FileError::NotFound { path: p }) if p == path
            ));
            let error = TensorFile::open(path.parent().unwrap()).unwrap_err();
            assert!(
                error.to_string().contains("expected a regular file"),
                "{error}"
            );
        });
    }

    #[test]
    fn a_missing_tensor_comes_with_similar_names() {
        in_folder(|path| {
            write(path, &sample());
            let file = TensorFile::open(path).unwrap();
            let LoraError::TensorMissing { name, nearest, .. } = file.read("scaler").unwrap_err()
            else {
                panic!();
            };
            assert_eq!(
                (name.as_str(), nearest),
                ("scaler", Some("scalar".to_owned()))
            );
        });
    }

    #[test]
    fn a_refused_write_leaves_the_old_file_and_no_rubbish() {
        in_folder(|path| {
            write(path, &sample());
            let before = fs::read(path).unwrap();
            let short = HostTensor {
                dtype: Dtype::F32,
                shape: vec![2],
                bytes: vec![0; 7],
            };
            let error = write_tensors(path, [("short", &short)]).unwrap_err();
            assert!(
                matches!(
                    error,
                    LoraError::TensorBytes {
                        expected: 8,
                        found: 7,
                        ..
                    }
                ),
                "{error}"
            );
            let good = HostTensor::from_f32([1], &[1.0]);
            let error = write_tensors(path, [("x", &good), ("x", &good)]).unwrap_err();
            assert!(
                error.to_string().contains("two tensors would be named x"),
                "{error}"
            );
            assert!(write_tensors(path, [("__metadata__", &good)]).is_err());
            assert_eq!(fs::read(path).unwrap(), before);
            assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        });
    }

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
        assert!(matches!(
            ints.to_f32(),
            Err(LoraError::NotAFloat { found: Dtype::I64 })
        ));
        assert!(tensor.to_dtype(Dtype::U8).is_err());
    }

    #[test]
    fn the_first_non_finite_value_is_found_in_every_float_type() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let tensor = HostTensor::from_f32([3], &[1.0, f32::NEG_INFINITY, f32::NAN]);
            let tensor = tensor.to_dtype(dtype).unwrap();
            assert_eq!(
                tensor.first_non_finite().unwrap(),
                Some((1, f64::NEG_INFINITY))
            );
        }
        let nan = HostTensor::from_f32([1], &[f32::NAN])
            .to_dtype(Dtype::BF16)
            .unwrap();
        assert!(nan.first_non_finite().unwrap().unwrap().1.is_nan());
        assert_eq!(
            HostTensor::from_f32([1], &[1.0])
                .first_non_finite()
                .unwrap(),
            None
        );
    }
}
