//! [`Workers`]: threads that read questions, turn texts into ids and write answers, apart from the
//! pool in which the kernels compute and from the threads that hear connections. A text may take
//! long, and neither a pass nor another request waits for it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::{Semaphore, oneshot};

use crate::error::{Result, ServeError};

/// Bytes from which on a request has a large text.
const LARGE: usize = 1 << 16;

/// The threads.
pub(crate) struct Workers {
    pool: ThreadPool,
    /// Large texts have all threads but one, in turn: that one is left to those that take no time.
    large: Arc<Semaphore>,
}

impl Workers {
    /// Starts as many as there are cores, two at least.
    ///
    /// # Errors
    ///
    /// If the system has none.
    pub(crate) fn start() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.max(2);
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|_| "work".into());
        Ok(Self {
            pool: pool.build().map_err(io::Error::other)?,
            large: Arc::new(Semaphore::new(threads - 1)),
        })
    }

    /// Does work on so many bytes: what is little at once, where it is asked for.
    ///
    /// # Errors
    ///
    /// As [`Workers::run`].
    pub(crate) async fn run_if_large<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        if bytes < LARGE {
            return Ok(work());
        }
        self.run(bytes, work).await
    }

    /// Does work on so many bytes of text. It is not begun where nobody waits for it any more.
    ///
    /// # Errors
    ///
    /// If it panics.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let turn = if bytes < LARGE {
            None
        } else {
            // It is never closed.
            self.large.clone().acquire_owned().await.ok()
        };
        let (done, found) = oneshot::channel();
        self.pool.spawn(move || {
            let _turn = turn;
            if done.is_closed() {
                return;
            }
            if let Ok(found) = catch_unwind(AssertUnwindSafe(work)) {
                // Who no longer waits does not hear it.
                let _ = done.send(found);
            }
        });
        let unexpected = |_| ServeError::Failed("the work ended unexpectedly".into());
        found.await.map_err(unexpected)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn small_texts_do_not_wait_for_large_ones() {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.enable_time().build().unwrap();
        let workers = Arc::new(Workers::start().unwrap());
        let is_over = Arc::new(AtomicBool::new(false));
        let (begins, has_begun) = mpsc::channel();
        let large = |_| {
            let (workers, is_over) = (workers.clone(), is_over.clone());
            let begins = begins.clone();
            let work = move || {
                let _ = begins.send(());
                while !is_over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            };
            runtime.spawn(async move { workers.run(LARGE, work).await })
        };
        // More of them than there are threads.
        let all: Vec<_> = (0..64).map(large).collect();
        has_begun.recv_timeout(Duration::from_secs(30)).unwrap();
        let limit = Duration::from_secs(20);
        let small = async { tokio::time::timeout(limit, workers.run(LARGE - 1, || 7)).await };
        let small = runtime.block_on(small);
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(small.unwrap().unwrap(), 7);
        for one in all {
            runtime.block_on(one).unwrap().unwrap();
        }
        let panics = runtime.block_on(workers.run(1, || panic!("in a test")));
        assert!(matches!(panics, Err::<(), _>(ServeError::Failed(_))));
    }
}
