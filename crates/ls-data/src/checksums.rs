//! Checksums of the blocks of a file, by which damage is found before anything in it is believed.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use crc32fast::Hasher;
use ls_files::{FileError, read_exact_at};
use rayon::prelude::*;

use crate::error::Result;

/// Bytes that have a checksum of their own: a page, so that reading a few bytes reads no more from
/// the disk than it would without.
pub(crate) const BLOCK: usize = 4096;
/// Blocks that are checked together.
const TOGETHER: usize = 256;

/// Bytes on their way to a file, and the checksums of their blocks.
#[derive(Debug)]
pub(crate) struct Summing<W> {
    inner: W,
    whole: Vec<u32>,
    current: Hasher,
    filled: usize,
}

impl<W: Write> Summing<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            inner,
            whole: Vec::new(),
            current: Hasher::new(),
            filled: 0,
        }
    }

    /// The writer, and the checksum of each block; the last may be shorter than the others.
    pub(crate) fn finish(mut self) -> (W, Vec<u32>) {
        if self.filled > 0 {
            self.whole.push(self.current.finalize());
        }
        (self.inner, self.whole)
    }
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        let mut rest = &bytes[..written];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOCK - self.filled));
            self.current.update(now);
            self.filled += now.len();
            rest = later;
            if self.filled == BLOCK {
                let done = std::mem::replace(&mut self.current, Hasher::new());
                self.whole.push(done.finalize());
                self.filled = 0;
            }
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The first `len` bytes of a file with the checksums of their blocks. Whatever is read was checked
/// first.
#[derive(Debug)]
pub(crate) struct Summed {
    pub(crate) file: File,
    /// For messages.
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
    pub(crate) sums: Vec<u32>,
}

impl Summed {
    /// Fills `bytes` from byte `at` on.
    ///
    /// # Errors
    /// The file cannot be read, ends before, or is damaged there.
    pub(crate) fn read(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        Ok(self
            .fill(at, bytes)
            .map_err(FileError::reading(&self.path))?)
    }

    fn fill(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = at.checked_add(bytes.len() as u64);
        let end = end.filter(|end| *end <= self.len);
        let end = end.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
        let first = at / BLOCK as u64;
        let start = first * BLOCK as u64;
        let past = end.div_ceil(BLOCK as u64) * BLOCK as u64;
        let mut blocks = vec![0; (past.min(self.len) - start) as usize];
        read_exact_at(&self.file, &mut blocks, start)?;
        let sums = self.sums.iter().skip(first as usize);
        for (number, (block, sum)) in blocks.chunks(BLOCK).zip(sums).enumerate() {
            if crc32fast::hash(block) != *sum {
                let place = start + (number * BLOCK) as u64;
                let what = format!("damaged: the {} bytes from {place} on", block.len());
                return Err(io::Error::new(ErrorKind::InvalidData, what));
            }
        }
        let offset = (at - start) as usize;
        bytes.copy_from_slice(&blocks[offset..offset + bytes.len()]);
        Ok(())
    }

    /// Checks all of it, on all cores.
    pub(crate) fn check(&self) -> io::Result<()> {
        let step = (BLOCK * TOGETHER) as u64;
        (0..self.len.div_ceil(step))
            .into_par_iter()
            .try_for_each_init(Vec::new, |buffer, part| {
                let at = part * step;
                buffer.resize(step.min(self.len - at) as usize, 0);
                self.fill(at, buffer)
            })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_checked_and_damage_is_named_by_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let bytes: Vec<u8> = (0..BLOCK * 2 + 100).map(|i| (i * 7 % 251) as u8).collect();
        let mut writer = Summing::new(File::create(&path).unwrap());
        // In parts that do not end where blocks do.
        for part in bytes.chunks(1000) {
            writer.write_all(part).unwrap();
        }
        let (_, sums) = writer.finish();
        assert_eq!(sums.len(), 3);
        let open = |sums: &[u32]| Summed {
            file: File::open(&path).unwrap(),
            path: path.clone(),
            len: bytes.len() as u64,
            sums: sums.to_vec(),
        };
        let whole = open(&sums);
        whole.check().unwrap();
        for (at, len) in [
            (0, 1),
            (BLOCK - 1, 2),
            (5, BLOCK * 2),
            (bytes.len() - 1, 1),
            (7, 0),
        ] {
            let mut part = vec![0; len];
            whole.read(at as u64, &mut part).unwrap();
            assert_eq!(part, bytes[at..at + len]);
        }
        assert!(whole.read(bytes.len() as u64, &mut [0]).is_err());
        assert!(whole.read(u64::MAX, &mut [0]).is_err());

        let mut damaged = bytes.clone();
        damaged[BLOCK + 3] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let broken = open(&sums);
        let error = broken.check().unwrap_err().to_string();
        assert_eq!(error, "damaged: the 4096 bytes from 4096 on");
        assert!(broken.read(BLOCK as u64, &mut [0]).is_err());
        broken.read(0, &mut [0]).unwrap();
    }
}
