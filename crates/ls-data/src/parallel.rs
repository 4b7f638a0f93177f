//! Work on rows on all cores, in their order and with bounded memory.

use std::sync::mpsc::sync_channel;

use rayon::prelude::*;

use crate::error::Result;

/// Rows that are worked on at once, at most: enough for every core, few enough that their encodings
/// stay small.
const CHUNK: usize = 1024;
/// A chunk ends behind the row with which it has so many bytes, because a single row may be a book.
const CHUNK_BYTES: usize = 4 << 20;
/// Chunks that may wait for the next stage.
const AHEAD: usize = 2;

/// Calls `each` with the rows on which `work` was done on all cores, in their order, while rows
/// behind them are worked on and others still are read. Some thousand are held at most, and some
/// megabytes by what `size` says of each, however many there are.
pub fn in_parallel<T, R, I, W, X>(
    rows: I,
    size: impl Fn(&T) -> usize + Send,
    work: W,
    each: impl FnOnce(&mut dyn Iterator<Item = Result<R>>) -> X,
) -> X
where
    T: Send,
    R: Send,
    I: Iterator<Item = Result<T>> + Send,
    W: Fn(T) -> Result<R> + Sync,
{
    std::thread::scope(|scope| {
        let (read, to_work) = sync_channel::<Vec<Result<T>>>(AHEAD);
        let (worked, to_take) = sync_channel::<Vec<Result<R>>>(AHEAD);
        // A stage whose next has stopped listening stops too.
        scope.spawn(move || {
            let mut rows = rows;
            loop {
                let (mut chunk, mut bytes) = (Vec::new(), 0);
                while chunk.len() < CHUNK
                    && bytes < CHUNK_BYTES
                    && let Some(row) = rows.next()
                {
                    bytes += row.as_ref().map_or(0, &size);
                    chunk.push(row);
                }
                if chunk.is_empty() || read.send(chunk).is_err() {
                    return;
                }
            }
        });
        let work = &work;
        scope.spawn(move || {
            for chunk in to_work {
                let rows = chunk.into_par_iter().map(|row| row.and_then(work));
                if worked.send(rows.collect()).is_err() {
                    return;
                }
            }
        });
        each(&mut to_take.into_iter().flatten())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// The most rows that were read and not yet taken, of so many bytes each, and the rows in the
    /// order in which they came.
    fn most_held(rows: usize, bytes: usize) -> (usize, Vec<usize>) {
        let (read, taken, most) = (
            AtomicUsize::new(0),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        let source = (0..rows).map(|row| {
            let held = 1 + read.fetch_add(1, Ordering::SeqCst) - taken.load(Ordering::SeqCst);
            most.fetch_max(held, Ordering::SeqCst);
            Ok(row)
        });
        let order = in_parallel(
            source,
            |_| bytes,
            Ok,
            |rows| {
                // The stages before it run as far ahead as they may.
                std::thread::sleep(std::time::Duration::from_millis(300));
                let rows = rows.map(|row| {
                    taken.fetch_add(1, Ordering::SeqCst);
                    row.unwrap()
                });
                rows.collect()
            },
        );
        (most.into_inner(), order)
    }

    #[test]
    fn large_rows_are_held_by_their_bytes_and_small_ones_by_their_number() {
        // A chunk is read, one worked on, one taken, and two wait between the stages each.
        let chunks = 3 + 2 * AHEAD;
        let (most, order) = most_held(100, CHUNK_BYTES);
        assert!(most <= chunks, "{most} large rows");
        assert!(order.into_iter().eq(0..100));
        let (most, order) = most_held(20 * CHUNK, 1);
        assert!(
            (CHUNK..=chunks * CHUNK).contains(&most),
            "{most} small rows"
        );
        assert!(order.into_iter().eq(0..20 * CHUNK));
    }
}
