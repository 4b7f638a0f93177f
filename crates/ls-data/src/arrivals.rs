//! Rows as they arrive: a thread reads ahead, and who works on them takes what is there, in chunks
//! that are bounded in rows, in bytes and in time.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::example::InputRow;
use crate::readers::RowSieve;

/// Bytes of rows that wait to be taken. One more row may be on its way, whatever its size.
const AHEAD: usize = 1 << 20;
/// How often whoever waits for rows looks whether it should still wait.
const LOOK: Duration = Duration::from_millis(50);

/// Rows that a thread reads.
///
/// It is not waited for when this is dropped: it may hang in a read that no one will answer.
pub struct Arrivals<T> {
    shared: Arc<Shared<T>>,
    reader: Option<JoinHandle<()>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    rows: VecDeque<(Result<T>, usize)>,
    bytes: usize,
    /// The thread has read its last row.
    ended: bool,
    /// Nobody takes rows any more.
    abandoned: bool,
}

/// How much is taken at a time. A chunk has at least one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Rows of a chunk, at most.
    pub rows: usize,
    /// A chunk ends behind the row with which it has so many bytes.
    pub bytes: usize,
    /// For rows that come as somebody makes them. Without, a chunk is always full but for the last
    /// one, so that it depends on the rows alone.
    pub patience: Option<Patience>,
}

/// How long a chunk waits for rows that may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Behind its last row.
    pub quiet: Duration,
    /// Behind its first one.
    pub most: Duration,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in here panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that the thread is done, also if it panics.
struct Ending<T>(Arc<Shared<T>>);

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        self.0.state().ended = true;
        self.0.changed.notify_all();
    }
}

impl<T: InputRow> Arrivals<T> {
    /// Begins to read.
    ///
    /// # Errors
    /// The system's, if there can be no further thread.
    pub fn of(rows: impl Iterator<Item = Result<T>> + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                rows: VecDeque::new(),
                bytes: 0,
                ended: false,
                abandoned: false,
            }),
            changed: Condvar::new(),
        });
        let ending = Ending(shared.clone());
        let read = move || {
            for row in rows {
                let bytes = row.as_ref().map_or(size_of::<Result<T>>(), T::bytes);
                let mut state = ending.0.state();
                while state.bytes >= AHEAD && !state.abandoned {
                    state = wait(&ending.0.changed, state, LOOK);
                }
                if state.abandoned {
                    return;
                }
                state.bytes += bytes;
                state.rows.push_back((row, bytes));
                drop(state);
                ending.0.changed.notify_all();
            }
        };
        let reader = std::thread::Builder::new()
            .name("inputs".into())
            .spawn(read)?;
        Ok(Self {
            shared,
            reader: Some(reader),
        })
    }

    /// The next good rows. There are none at the end, once `stop` says so, and behind a row that
    /// ended the work (`sieve` knows it).
    ///
    /// The rows behind such a row are read for their faults: all of them where rows do not have to
    /// be waited for, else those that are there.
    ///
    /// # Panics
    /// If reading panicked, with what it said.
    pub fn chunk(
        &mut self,
        limits: &ChunkLimits,
        sieve: &mut RowSieve,
        stop: impl Fn() -> bool,
    ) -> Vec<T> {
        let mut chunk = Vec::new();
        let mut bytes = 0;
        let began = Instant::now();
        // Of the rows, or of looking at those behind a bad one.
        let mut first = sieve.has_failed().then_some(began);
        let mut last = began;
        while chunk.len() < limits.rows && bytes < limits.bytes && !sieve.is_over() {
            if stop() {
                return Vec::new();
            }
            let until = match (first, limits.patience) {
                (Some(first), Some(Patience { quiet, most })) => (last + quiet).min(first + most),
                _ => Instant::now() + LOOK,
            };
            match self.next(until) {
                Next::Row(row, of_row) => {
                    if let Some(row) = sieve.sift(row) {
                        chunk.push(row);
                        bytes += of_row;
                    } else if sieve.has_failed() && !chunk.is_empty() {
                        // These are answered before anything else.
                        return chunk;
                    } else if !sieve.has_failed() {
                        continue;
                    }
                    last = Instant::now();
                    first.get_or_insert(last);
                }
                Next::NotYet if first.is_some() && limits.patience.is_some() => return chunk,
                Next::NotYet => {}
                Next::End => return chunk,
            }
            // A stream may have no end.
            if let (true, Some(Patience { most, .. })) = (sieve.has_failed(), limits.patience)
                && first.is_some_and(|first| first.elapsed() >= most)
            {
                return chunk;
            }
        }
        chunk
    }

    fn next(&mut self, until: Instant) -> Next<T> {
        let mut state = self.shared.state();
        loop {
            if let Some((row, bytes)) = state.rows.pop_front() {
                let full = state.bytes >= AHEAD;
                state.bytes -= bytes;
                drop(state);
                if full {
                    self.shared.changed.notify_all();
                }
                return Next::Row(row, bytes);
            }
            if state.ended {
                break;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::NotYet;
            }
            state = wait(&self.shared.changed, state, left);
        }
        drop(state);
        if let Some(Err(panic)) = self.reader.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        Next::End
    }
}

enum Next<T> {
    Row(Result<T>, usize),
    NotYet,
    End,
}

impl<T> Drop for Arrivals<T> {
    fn drop(&mut self) {
        self.shared.state().abandoned = true;
        self.shared.changed.notify_all();
    }
}

fn wait<'a, T>(changed: &Condvar, state: MutexGuard<'a, T>, most: Duration) -> MutexGuard<'a, T> {
    let waited = changed.wait_timeout(state, most);
    waited.unwrap_or_else(PoisonError::into_inner).0
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::error::DataError;
    use crate::example::SequenceExample;
    use crate::readers::BadRows;

    fn row(text: &str, line: usize) -> Result<SequenceExample> {
        if text.is_empty() {
            let (path, what) = ("f".into(), "text");
            return Err(DataError::EmptyField { path, line, what });
        }
        Ok(SequenceExample {
            text: text.into(),
            text_pair: None,
            label: None,
            line,
            extra: None,
        })
    }

    fn rows(texts: &[&str]) -> Arrivals<SequenceExample> {
        let rows: Vec<_> = (1..)
            .zip(texts)
            .map(|(line, text)| row(text, line))
            .collect();
        Arrivals::of(rows.into_iter()).unwrap()
    }

    fn sieve(skip: bool) -> RowSieve {
        let policy = BadRows {
            skip,
            ..BadRows::default()
        };
        RowSieve::new(Path::new("f"), policy)
    }

    const FULL: ChunkLimits = ChunkLimits {
        rows: 3,
        bytes: 10_000,
        patience: None,
    };
    const LIVE: ChunkLimits = ChunkLimits {
        patience: Some(Patience {
            quiet: Duration::from_millis(20),
            most: Duration::from_millis(200),
        }),
        ..FULL
    };

    fn lines(chunk: Vec<SequenceExample>) -> Vec<usize> {
        chunk.iter().map(|row| row.line).collect()
    }

    fn all(
        mut arrivals: Arrivals<SequenceExample>,
        limits: &ChunkLimits,
        sieve: &mut RowSieve,
    ) -> Vec<Vec<usize>> {
        let mut chunks = Vec::new();
        loop {
            let chunk = lines(arrivals.chunk(limits, sieve, || false));
            if chunk.is_empty() {
                return chunks;
            }
            chunks.push(chunk);
        }
    }

    #[test]
    fn chunks_are_full_in_rows_or_in_bytes_and_bad_rows_count_for_nothing() {
        let mut skipping = sieve(true);
        let found = all(rows(&["a", "", "", "b", "c", "d"]), &FULL, &mut skipping);
        assert_eq!(found, [vec![1, 4, 5], vec![6]]);
        assert_eq!(skipping.finish().unwrap().count, 2);
        let long = "a".repeat(9_990);
        let found = all(rows(&["a", &long, "b", "c"]), &FULL, &mut sieve(true));
        assert_eq!(found, [vec![1, 2], vec![3, 4]]);
        // A row that is larger than everything.
        let huge = "a".repeat(3 * AHEAD);
        let found = all(rows(&[&huge, &huge, "b"]), &FULL, &mut sieve(true));
        assert_eq!(found, [[1], [2], [3]]);
    }

    #[test]
    fn rows_before_a_bad_one_come_first_and_then_all_bad_ones_are_counted() {
        for limits in [FULL, LIVE] {
            let mut failing = sieve(false);
            let found = all(rows(&["a", "b", "", "c", ""]), &limits, &mut failing);
            assert_eq!(found, [[1, 2]]);
            let said = failing.finish().unwrap_err().to_string();
            assert_eq!(said, "f:3: text is empty\nf:5: text is empty");
        }
    }

    #[test]
    fn a_slow_row_does_not_wait_for_the_next_and_a_stream_ends_at_its_bad_row() {
        let (send, receive) = channel();
        let mut arrivals = Arrivals::of(receive.into_iter()).unwrap();
        let mut failing = sieve(false);
        send.send(row("a", 1)).unwrap();
        assert_eq!(lines(arrivals.chunk(&LIVE, &mut failing, || false)), [1]);
        send.send(row("b", 2)).unwrap();
        send.send(row("", 3)).unwrap();
        assert_eq!(lines(arrivals.chunk(&LIVE, &mut failing, || false)), [2]);
        // The other side still holds the stream open.
        assert!(arrivals.chunk(&LIVE, &mut failing, || false).is_empty());
        assert!(failing.has_failed());
        // Without a row, only `stop` ends it.
        let (send, receive) = channel::<Result<SequenceExample>>();
        let mut arrivals = Arrivals::of(receive.into_iter()).unwrap();
        let looks = std::cell::Cell::new(0);
        let stop = || {
            looks.set(looks.get() + 1);
            looks.get() > 2
        };
        assert!(arrivals.chunk(&LIVE, &mut sieve(false), stop).is_empty());
        drop(send);
        assert!(
            arrivals
                .chunk(&LIVE, &mut sieve(false), || false)
                .is_empty()
        );
    }

    #[test]
    fn a_stream_of_bad_rows_without_an_end_ends() {
        let mut line = 0;
        let endless = std::iter::from_fn(move || {
            line += 1;
            Some(row("", line))
        });
        let mut arrivals = Arrivals::of(endless).unwrap();
        let mut failing = sieve(false);
        assert!(arrivals.chunk(&LIVE, &mut failing, || false).is_empty());
    }

    #[test]
    #[should_panic(expected = "of the reader")]
    fn a_panic_of_the_reader_is_not_waited_for() {
        let rows = std::iter::from_fn(|| -> Option<Result<SequenceExample>> {
            std::panic::resume_unwind(Box::new("of the reader"))
        });
        let mut arrivals = Arrivals::of(rows).unwrap();
        arrivals.chunk(&FULL, &mut sieve(false), || false);
    }
}
