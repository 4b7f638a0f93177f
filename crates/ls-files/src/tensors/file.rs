//! Reading single tensors of a file of weights: safetensors, or what `torch.save` wrote.
//!
//! Files are read by position rather than mapped, because mapped pages would count as resident
//! memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::Dtype;

use super::entry::{Entry, OpenTensor};
use super::header::Header;
use super::{HostTensor, pickled};
use crate::error::{FileError, Result};
use crate::open_regular;

/// An open file of weights, its header read and checked; tensors are read when asked for.
///
/// May be shared by threads: reads carry their own position.
///
/// ```
/// use ls_files::{Dtype, FileError, HostTensor, TensorFile, write_tensors};
///
/// # fn main() -> ls_files::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("model.safetensors");
/// let weight = HostTensor::from_f32([2, 2], &[1.0, 2.0, 3.0, 4.0]);
/// write_tensors(&path, [("fc1.weight", &weight)])?;
/// let file = TensorFile::open(&path)?;
/// assert_eq!(file.names().collect::<Vec<_>>(), ["fc1.weight"]);
/// assert_eq!(file.get("fc1.weight"), Some((Dtype::F32, &[2, 2][..])));
/// assert_eq!(file.read("fc1.weight")?, weight);
/// let missing = file.read("fc2.weight").unwrap_err().to_string();
/// assert!(missing.ends_with("tensor fc2.weight is missing; did you mean `fc1.weight`?"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    header: Header,
}

impl TensorFile {
    /// Opens a safetensors file and checks its header against its size; no tensor is read.
    ///
    /// # Errors
    ///
    /// As [`open_regular`]; [`FileError::Truncated`] when the file ends too early;
    /// [`FileError::Unusable`] when the header is not one, its offsets overlap or leave holes, a
    /// shape does not fit its bytes, or data follow the last tensor.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (file, size) = open_regular(path)?;
        Ok(Self {
            header: Header::read(&Arc::new(file), size, path)?,
            path: path.to_owned(),
        })
    }

    /// Opens a file that `torch.save` wrote (`pytorch_model.bin`, `adapter_model.bin`), of PyTorch
    /// 0.1.10 or later; no tensor is read.
    ///
    /// The pickle in it is taken apart, never executed: what it asks to call is refused by its
    /// name unless it makes a tensor.
    ///
    /// # Errors
    ///
    /// As [`open_regular`]; [`FileError::Unusable`] when the file is damaged or holds something
    /// else, holds tensors of a kind that is no plain array (sparse, quantised), or values that
    /// repeat by their strides until they are several times the file.
    pub fn open_pickled(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Ok(Self {
            header: pickled::read(path)?,
            path: path.to_owned(),
        })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the tensors, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.header.tensors.keys().map(String::as_str)
    }

    /// What the writer said of the file under a key, if it did.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata.get(key).map(String::as_str)
    }

    /// The type and shape of a tensor, if the file has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<(Dtype, &[usize])> {
        let entry = self.header.tensors.get(name)?;
        Some((entry.dtype, &entry.shape))
    }

    /// Reads one tensor.
    ///
    /// # Errors
    ///
    /// [`FileError::TensorMissing`] with a similar name; [`FileError::Read`]; of a pickled file
    /// [`FileError::Unusable`] where its values are damaged.
    pub fn read(&self, name: &str) -> Result<HostTensor> {
        let entry = self.entry(name)?;
        Ok(HostTensor {
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            bytes: entry.read(&self.path)?,
        })
    }

    /// Opens one tensor to read it in parts: a caller that converts it piece by piece needs no room
    /// for it twice. Of a pickled file it is read here, and whole.
    ///
    /// # Errors
    ///
    /// As [`TensorFile::read`].
    pub fn tensor(&self, name: &str) -> Result<OpenTensor<'_>> {
        OpenTensor::new(&self.path, self.entry(name)?)
    }

    pub(super) fn entry(&self, name: &str) -> Result<&Entry> {
        let entry = self.header.tensors.get(name);
        entry.ok_or_else(|| FileError::tensor_missing(&self.path, name, self.names()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::write_tensors;

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
                file.tensor("b")
                    .unwrap()
                    .read_part(from, &mut part)
                    .unwrap();
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
    fn what_is_said_of_a_file_is_read_back() {
        in_folder(|path| {
            let tensor = HostTensor::from_f32([1], &[1.0]);
            let said = "step = 3\n\"ü\"";
            crate::write_tensors_with(path, [("x", &tensor)], &[("state", said)]).unwrap();
            let file = TensorFile::open(path).unwrap();
            assert_eq!(file.metadata("state"), Some(said));
            assert_eq!(file.metadata("format"), Some("pt"));
            assert_eq!(file.metadata("other"), None);
            assert_eq!(file.read("x").unwrap(), tensor);
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
                let FileError::Truncated {
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
                assert!(matches!(error, FileError::Unusable { .. }), "{error}");
                assert!(error.to_string().contains(reason), "{error} / {reason}");
            });
        }
    }

    #[test]
    fn a_missing_file_and_a_folder_are_named() {
        in_folder(|path| {
            assert!(matches!(
                TensorFile::open(path).unwrap_err(),
                FileError::NotFound { path: p } if p == path
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
            let FileError::TensorMissing { name, nearest, .. } = file.read("scaler").unwrap_err()
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
                error
                    .to_string()
                    .ends_with("tensor short has 7 bytes, its shape and type need 8"),
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
}
