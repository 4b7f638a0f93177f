//! A hash by which weights are known again, wherever they are moved and however they are spread
//! over files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::TensorFile;
use crate::error::Result;
use crate::hex;

/// Changes with everything that changes what is hashed.
const VERSION: &[u8] = b"ls-llama weights 1";
/// A sample has this many bytes at each of its places.
const PART: usize = 1024;
/// From the first to the last byte of a tensor, at equal distances.
const PLACES: usize = 4;
/// Weights of at most this many bytes are hashed whole where nothing is said: in less than a second
/// where the processor has instructions for SHA-256.
const WHOLE: u64 = 1 << 29;

/// How much of each tensor goes into a [`Fingerprint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hashed {
    /// A kibibyte at each of four places, and all of a tensor that is no larger than that together.
    /// Training, merging and rounding change every tensor that they touch, so that a sample shows
    /// them; it takes milliseconds. A few edited values may escape it.
    Sample,
    /// Every byte.
    Whole,
}

/// A SHA-256 over names, types, shapes and bytes of tensors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// How much went into it. Only fingerprints of one kind can be compared.
    pub hashed: Hashed,
    /// In hexadecimal.
    pub sha256: String,
}

impl Fingerprint {
    /// The fingerprint of tensors in files. Their order, and which of them share a file, change
    /// nothing. Without `hashed` it is of the whole where that is at most 512 MiB, else of a
    /// sample.
    ///
    /// # Errors
    ///
    /// As [`TensorFile::read`].
    pub fn of<'a>(
        tensors: impl IntoIterator<Item = (&'a str, &'a TensorFile)>,
        hashed: Option<Hashed>,
    ) -> Result<Self> {
        let tensors: BTreeMap<&str, &TensorFile> = tensors.into_iter().collect();
        let hashed = match hashed {
            Some(hashed) => hashed,
            None => {
                let mut bytes = 0u64;
                for (name, file) in &tensors {
                    bytes = bytes.saturating_add(file.entry(name)?.bytes as u64);
                }
                by_size(bytes)
            }
        };
        let mut hash = Sha256::new();
        hash.update(VERSION);
        let mut buffer = Vec::new();
        for (name, file) in tensors {
            let entry = file.entry(name)?;
            // With its length, so that no two lists of tensors run together to the same bytes.
            let head = format!("{} {name}{}{:?}", name.len(), entry.dtype, entry.shape);
            hash.update(head);
            let tensor = file.tensor(name)?;
            for (from, length) in parts(entry.bytes, hashed) {
                buffer.resize(length, 0);
                tensor.read_part(from, &mut buffer)?;
                hash.update(&buffer);
            }
        }
        Ok(Self {
            hashed,
            sha256: hex(&hash.finalize()),
        })
    }
}

/// How much is hashed of so many bytes where nothing is said.
fn by_size(bytes: u64) -> Hashed {
    match bytes {
        0..=WHOLE => Hashed::Whole,
        _ => Hashed::Sample,
    }
}

/// Beginning and length of each part of a tensor that is hashed.
fn parts(bytes: usize, hashed: Hashed) -> Vec<(usize, usize)> {
    const PIECE: usize = 1 << 20;
    if hashed == Hashed::Whole || bytes <= PLACES * PART {
        let pieces = (0..bytes).step_by(PIECE);
        return pieces.map(|from| (from, PIECE.min(bytes - from))).collect();
    }
    let last = bytes - PART;
    let from = |place| (last as u128 * place as u128 / (PLACES as u128 - 1)) as usize;
    (0..PLACES).map(|place| (from(place), PART)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Dtype, HostTensor, write_tensors};

    fn large() -> HostTensor {
        let values: Vec<f32> = (0..5000).map(|value| value as f32).collect();
        HostTensor::from_f32([50, 100], &values)
    }

    /// Fingerprints of tensors, each list in a file of its own.
    fn of(files: &[&[(&str, &HostTensor)]], hashed: Hashed) -> String {
        let dir = tempfile::tempdir().unwrap();
        let open = |(at, tensors): (usize, &&[(&str, &HostTensor)])| {
            let path = dir.path().join(at.to_string());
            write_tensors(&path, tensors.iter().copied()).unwrap();
            TensorFile::open(&path).unwrap()
        };
        let files: Vec<TensorFile> = files.iter().enumerate().map(open).collect();
        let tensors = files
            .iter()
            .flat_map(|file| file.names().map(move |name| (name, file)));
        Fingerprint::of(tensors, Some(hashed)).unwrap().sha256
    }

    #[test]
    fn how_tensors_are_spread_over_files_changes_nothing() {
        let (a, b) = (large(), HostTensor::from_f32([2], &[1.0, 2.0]));
        for hashed in [Hashed::Sample, Hashed::Whole] {
            let one = of(&[&[("a", &a), ("b", &b)]], hashed);
            assert_eq!(one, of(&[&[("b", &b)], &[("a", &a)]], hashed));
            assert_ne!(one, of(&[&[("a", &a)]], hashed));
            assert_ne!(one, of(&[&[("a", &a), ("c", &b)]], hashed));
        }
    }

    #[test]
    fn another_shape_type_or_value_shows() {
        let one = large();
        let mut turned = one.clone();
        turned.shape = vec![100, 50];
        let mut scaled = one.clone();
        for value in scaled.bytes.as_chunks_mut::<4>().0 {
            *value = (f32::from_le_bytes(*value) * 1.5).to_le_bytes();
        }
        let others = [turned, scaled, one.to_dtype(Dtype::BF16).unwrap()];
        for hashed in [Hashed::Sample, Hashed::Whole] {
            let before = of(&[&[("a", &one)]], hashed);
            for other in &others {
                assert_ne!(before, of(&[&[("a", other)]], hashed));
            }
        }
    }

    #[test]
    fn a_single_byte_shows_in_the_whole_and_in_a_small_tensor() {
        let sampled = |tensor: &HostTensor, at: usize, hashed| {
            let mut changed = tensor.clone();
            changed.bytes[at] ^= 1;
            of(&[&[("a", tensor)]], hashed) != of(&[&[("a", &changed)]], hashed)
        };
        let tensor = large();
        let end = tensor.bytes.len() - 1;
        for at in [0, 1023, end - 1023, end] {
            assert!(sampled(&tensor, at, Hashed::Sample), "{at}");
        }
        assert!(!sampled(&tensor, 2000, Hashed::Sample));
        assert!(sampled(&tensor, 2000, Hashed::Whole));
        let small = HostTensor::from_f32([1024], &[0.5; 1024]);
        for at in [0, 2000, 4095] {
            assert!(sampled(&small, at, Hashed::Sample), "{at}");
        }
    }

    #[test]
    fn what_is_small_is_hashed_whole_unless_something_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write_tensors(&path, [("a", &large())]).unwrap();
        let file = TensorFile::open(&path).unwrap();
        let of = |hashed| Fingerprint::of([("a", &file)], hashed).unwrap();
        assert_eq!(of(None), of(Some(Hashed::Whole)));
        assert_eq!(of(Some(Hashed::Sample)).hashed, Hashed::Sample);
        for (bytes, hashed) in [
            (0, Hashed::Whole),
            (WHOLE, Hashed::Whole),
            (WHOLE + 1, Hashed::Sample),
            (u64::MAX, Hashed::Sample),
        ] {
            assert_eq!(by_size(bytes), hashed, "{bytes}");
        }
    }

    #[test]
    fn the_parts_of_the_whole_are_all_of_it() {
        for bytes in [0, 1, 4096, 4097, (1 << 20) + 1] {
            let whole = parts(bytes, Hashed::Whole);
            let mut next = 0;
            for (from, length) in whole {
                assert_eq!(from, next);
                next += length;
            }
            assert_eq!(next, bytes);
            let sample = parts(bytes, Hashed::Sample);
            assert_eq!(
                sample.last().map_or(0, |(from, length)| from + length),
                bytes
            );
        }
    }
}
