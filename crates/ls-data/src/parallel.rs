//! Work on rows on all cores, in their order and with bounded memory.

use std::sync::mpsc::sync_channel;

use rayon::prelude::*;

use crate::error::Result;

/// Rows that are worked on at once: enough for every core, few enough that their encodings stay
/// small.
const CHUNK: usize = 1024;
/// Chunks that may wait for the next stage.
const AHEAD: usize = 2;

/// Calls `each` with the rows on which `work` was done on all cores, in their order, while rows
/// behind them are worked on and others still are read. Some thousand are held at most, however
/// many there are.
pub fn in_parallel<T, R, I, W, X>(
    rows: I,
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
                let chunk: Vec<_> = rows.by_ref().take(CHUNK).collect();
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
