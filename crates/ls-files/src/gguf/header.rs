//! The header of a GGUF file: what is said of the model, and where each tensor is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use super::blocks::GgufType;
use super::tensor::GgufTensor;
use crate::error::{FileError, Result};
use crate::{Bounds, shown};

/// What is longer is no header: the largest vocabularies take a tenth of it.
const MAX_HEADER_BYTES: u64 = 100_000_000;
const VERSIONS: Bounds = Bounds::new(2, 3);
/// Entries of either list.
const ENTRIES: Bounds = Bounds::new(0, 1 << 16);
/// Values in all lists of the metadata together: four for each token of the largest vocabularies
/// are a million.
const LISTED: Bounds = Bounds::new(0, 1 << 24);
const DIMENSIONS: Bounds = Bounds::new(1, 4);
const ALIGNMENTS: Bounds = Bounds::new(1, 1 << 16);
const ALIGNMENT: &str = "general.alignment";

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum GgufValue {
    /// Of any type of number. One of 32 bits is the decimal that it was most likely written from.
    Number(f64),
    /// True or false.
    Bool(bool),
    /// Text.
    String(String),
    /// A list of numbers, or of true (1) and false (0).
    Numbers(Vec<f64>),
    /// A list of texts.
    Strings(Vec<String>),
}

pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, GgufValue>,
    pub(super) tensors: BTreeMap<String, GgufTensor>,
}

impl Header {
    /// Reads the header of a file of `size` bytes from its beginning, and checks it against that.
    pub(super) fn read(file: &File, size: u64, path: &Path) -> Result<Self> {
        let mut bytes = Bytes {
            input: BufReader::new(file),
            at: 0,
            listed: 0,
            size,
            path,
        };
        let magic: [u8; 4] = bytes.array()?;
        if &magic != b"GGUF" {
            return Err(unusable(
                path,
                format!("it begins with {:?}, not GGUF", {
                    String::from_utf8_lossy(&magic)
                }),
            ));
        }
        let version = bytes.u32()?;
        if VERSIONS.hold(u64::from(version.swap_bytes())) {
            return Err(unusable(path, "it is of a big-endian machine"));
        }
        if !VERSIONS.hold(u64::from(version)) {
            let reason = format!("expected version {VERSIONS}, found {version}");
            return Err(unusable(path, reason));
        }
        let tensors = bytes.count("tensors")?;
        let entries = bytes.count("entries of metadata")?;
        let mut metadata = BTreeMap::new();
        for _ in 0..entries {
            let key = bytes.string("a key")?;
            let kind = bytes.u32()?;
            let value = bytes.value(kind, &key)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(unusable(path, format!("{} stands twice in it", shown(key))));
            }
        }
        let alignment = match metadata.get(ALIGNMENT) {
            None => 32,
            Some(GgufValue::Number(number)) if ALIGNMENTS.hold(*number as u64) => *number as u64,
            Some(_) => {
                let reason = format!("{ALIGNMENT}: expected a number from {ALIGNMENTS}");
                return Err(unusable(path, reason));
            }
        };
        let mut places = Vec::new();
        for _ in 0..tensors {
            places.push(bytes.tensor()?);
        }
        let start = bytes.at.next_multiple_of(alignment);
        let mut tensors = BTreeMap::new();
        for (name, mut tensor) in places {
            let end = tensor.start.checked_add(start);
            let end = end.and_then(|at| at.checked_add(tensor.bytes()));
            let Some(end) = end else {
                let reason = format!("tensor {}: its place is past every file", shown(name));
                return Err(unusable(path, reason));
            };
            if end > size {
                return Err(FileError::Truncated {
                    path: path.to_owned(),
                    found: size,
                    expected: end,
                });
            }
            tensor.start += start;
            if tensors.insert(name.clone(), tensor).is_some() {
                let reason = format!("two tensors are named {}", shown(name));
                return Err(unusable(path, reason));
            }
        }
        let mut places: Vec<_> = tensors.iter().collect();
        places.sort_by_key(|(_, tensor)| tensor.start);
        for pair in places.windows(2) {
            let [(name, tensor), (next, behind)] = [pair[0], pair[1]];
            if tensor.start + tensor.bytes() > behind.start {
                let reason = format!("tensors {} and {} overlap", shown(name), shown(next));
                return Err(unusable(path, reason));
            }
        }
        Ok(Self { metadata, tensors })
    }
}

pub(super) fn unusable(path: &Path, reason: impl Into<String>) -> FileError {
    FileError::Unusable {
        path: path.to_owned(),
        what: "GGUF file",
        reason: reason.into(),
    }
}

/// The header as it is read. Every length is held against what is left of the file before anything
/// is allocated by it.
struct Bytes<'a> {
    input: BufReader<&'a File>,
    at: u64,
    /// Values in the lists so far.
    listed: u64,
    size: u64,
    path: &'a Path,
}

impl Bytes<'_> {
    /// Passes over `length` bytes that are about to be read.
    fn claim(&mut self, length: u64) -> Result<()> {
        let end = self.at.saturating_add(length);
        if end > self.size {
            return Err(FileError::Truncated {
                path: self.path.to_owned(),
                found: self.size,
                expected: end,
            });
        }
        if end > MAX_HEADER_BYTES {
            let reason = format!("its header is longer than {MAX_HEADER_BYTES} bytes");
            return Err(unusable(self.path, reason));
        }
        self.at = end;
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        let read = self.input.read_exact(buffer);
        read.map_err(FileError::reading(self.path))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.claim(N as u64)?;
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn count(&mut self, of: &str) -> Result<u64> {
        let count = self.u64()?;
        if ENTRIES.hold(count) {
            return Ok(count);
        }
        let reason = format!("expected {ENTRIES} {of}, found {count}");
        Err(unusable(self.path, reason))
    }

    fn string(&mut self, what: &str) -> Result<String> {
        let length = self.u64()?;
        self.claim(length)?;
        // At most MAX_HEADER_BYTES.
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        let not_text = |_| unusable(self.path, format!("{} in it is not UTF-8", shown(what)));
        String::from_utf8(bytes).map_err(not_text)
    }

    /// A value of the type of this number.
    fn value(&mut self, kind: u32, key: &str) -> Result<GgufValue> {
        Ok(match kind {
            7 => GgufValue::Bool(self.number(7, key)? != 0.0),
            8 => GgufValue::String(self.string(key)?),
            9 => {
                let kind = self.u32()?;
                let length = self.u64()?;
                self.listed = self.listed.saturating_add(length);
                if !LISTED.hold(self.listed) {
                    let (key, all) = (shown(key), self.listed);
                    let reason = format!(
                        "{key}: expected {LISTED} values in all lists of it, found {all} so far"
                    );
                    return Err(unusable(self.path, reason));
                }
                // Each entry has at least one byte; the lists grow as they are read.
                self.claim(length)?;
                self.at -= length;
                if kind == 8 {
                    let strings = (0..length).map(|_| self.string(key));
                    GgufValue::Strings(strings.collect::<Result<_>>()?)
                } else {
                    let numbers = (0..length).map(|_| self.number(kind, key));
                    GgufValue::Numbers(numbers.collect::<Result<_>>()?)
                }
            }
            kind => GgufValue::Number(self.number(kind, key)?),
        })
    }

    fn number(&mut self, kind: u32, key: &str) -> Result<f64> {
        Ok(match kind {
            0 | 7 => f64::from(self.array().map(u8::from_le_bytes)?),
            1 => f64::from(self.array().map(i8::from_le_bytes)?),
            2 => f64::from(self.array().map(u16::from_le_bytes)?),
            3 => f64::from(self.array().map(i16::from_le_bytes)?),
            4 => f64::from(self.array().map(u32::from_le_bytes)?),
            5 => f64::from(self.array().map(i32::from_le_bytes)?),
            6 => {
                let value = self.array().map(f32::from_le_bytes)?;
                // 1e-5 as a float of 32 bits is 9.99999974737875e-6 as one of 64.
                value.to_string().parse().unwrap_or(f64::from(value))
            }
            10 => self.u64()? as f64,
            11 => self.array().map(i64::from_le_bytes)? as f64,
            12 => self.array().map(f64::from_le_bytes)?,
            other => {
                let key = shown(key);
                let reason = match other {
                    9 => format!("{key}: found a list of lists"),
                    _ => format!("{key}: found a value of type {other}, which is none"),
                };
                return Err(unusable(self.path, reason));
            }
        })
    }

    /// The name of a tensor and where it is, counted from the beginning of all of them.
    fn tensor(&mut self) -> Result<(String, GgufTensor)> {
        let name = self.string("the name of a tensor")?;
        let path = self.path;
        let wrong = |reason: String| unusable(path, format!("tensor {} {reason}", shown(&name)));
        let dimensions = self.u32()?;
        if !DIMENSIONS.hold(u64::from(dimensions)) {
            let reason = format!("has {dimensions} dimensions, expected {DIMENSIONS}");
            return Err(wrong(reason));
        }
        let mut sizes = Vec::new();
        let mut all = Some(1usize);
        for _ in 0..dimensions {
            let size = self.u64()?;
            let fits = usize::try_from(size).ok().filter(|size| *size > 0);
            all = all.and_then(|all| all.checked_mul(fits?));
            sizes.push(size as usize);
        }
        // Four bytes a value are what it takes unpacked.
        if all.and_then(|all| all.checked_mul(4)).is_none() {
            return Err(wrong(format!("has the sizes {sizes:?}")));
        }
        let kind = GgufType::of(self.u32()?).map_err(&wrong)?;
        let (values, _) = kind.block();
        if sizes[0] % values != 0 {
            return Err(wrong(format!(
                "has rows of {} values, which are no blocks of {values} ({kind})",
                sizes[0]
            )));
        }
        let start = self.u64()?;
        // The file names the size of a row first.
        sizes.reverse();
        let tensor = GgufTensor {
            kind,
            shape: sizes,
            start,
        };
        Ok((name, tensor))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    /// Reads a header whose metadata are lists of bytes: their keys, their lengths, and the values
    /// that are there.
    fn read(lists: &[(&str, u64, &[u8])]) -> Result<Header> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        bytes.extend((lists.len() as u64).to_le_bytes());
        for (key, length, values) in lists {
            bytes.extend((key.len() as u64).to_le_bytes());
            bytes.extend(key.bytes());
            bytes.extend([9u32, 0].map(u32::to_le_bytes).concat());
            bytes.extend(length.to_le_bytes());
            bytes.extend(*values);
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.rewind().unwrap();
        Header::read(&file, bytes.len() as u64, Path::new("a.gguf"))
    }

    #[test]
    fn lists_are_read_up_to_a_number_of_values_in_all() {
        let header = read(&[("a", 3, &[1, 2, 3]), ("b", 0, &[])]).unwrap();
        let numbers = GgufValue::Numbers(vec![1.0, 2.0, 3.0]);
        assert_eq!(header.metadata["a"], numbers);
        let most = LISTED.most;
        for (lists, key) in [
            (&[("a", most + 1, &[][..])][..], "a"),
            (&[("a", 2, &[1, 2]), ("b", most - 1, &[])], "b"),
            (&[("a", 2, &[1, 2]), ("b", u64::MAX, &[])], "b"),
        ] {
            let error = read(lists).err().unwrap().to_string();
            let expected = format!("{key}: expected 0 to 16777216 values in all lists");
            assert!(error.contains(&expected), "{error}");
        }
        // What is within is still held against the file.
        let error = read(&[("a", most, &[])]).err().unwrap();
        assert!(matches!(error, FileError::Truncated { .. }), "{error}");
    }
}
