//! How far the reading of a file has come, for whoever shows it.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that were read of a file, shared by its reader and whoever shows them. Parquet is read by
/// jumps: of its bytes there are as many as of its rows.
#[derive(Debug, Clone, Default)]
pub struct Position(Arc<AtomicU64>);

impl Position {
    /// How many there are so far.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// So many parts of `all` of a file of so many bytes are read.
    #[cfg(feature = "parquet")]
    pub(super) fn at(&self, done: u64, all: u64, bytes: u64) {
        let share = u128::from(bytes) * u128::from(done.min(all)) / u128::from(all.max(1));
        // Not more than the bytes.
        let share = u64::try_from(share).unwrap_or(bytes);
        self.0.store(share, Ordering::Relaxed);
    }

    /// A reader whose bytes are counted here.
    pub(super) fn of<R: Read>(&self, reader: R) -> Counted<R> {
        Counted {
            reader,
            position: self.clone(),
        }
    }
}

/// A reader whose bytes are counted.
pub(super) struct Counted<R> {
    reader: R,
    position: Position,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.position.0.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
