//! [`Room`]: tokens that may wait, and who is next to have some of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Slices of streams that wait at once, where streams leave room for no more.
const SLICES: usize = 4;

/// The room of a queue. Requests take of it what is free, or are refused. Streams of lines wait for
/// theirs in their order, and what is given back meanwhile is kept for the first of them: so small
/// requests that never end keep no stream out. Streams together have half of it at most: so they
/// keep no request out either.
#[derive(Debug)]
pub(crate) struct Room {
    tokens: Arc<Semaphore>,
    of_streams: Arc<Semaphore>,
    most: usize,
    most_of_streams: usize,
    /// Tokens that have a place.
    held: Arc<AtomicUsize>,
}

/// What somebody has of the room. It is given back wherever this ends.
#[derive(Debug)]
pub(crate) struct Place {
    _tokens: Option<OwnedSemaphorePermit>,
    _of_streams: Option<OwnedSemaphorePermit>,
    count: usize,
    held: Arc<AtomicUsize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.held.fetch_sub(self.count, Ordering::Relaxed);
    }
}

impl Room {
    /// For so many tokens.
    pub(crate) fn of(tokens: usize) -> Self {
        // As many as can be asked for at once.
        let most = tokens.min(u32::MAX as usize);
        let most_of_streams = (most / 2).max(1);
        Self {
            tokens: Arc::new(Semaphore::new(most)),
            of_streams: Arc::new(Semaphore::new(most_of_streams)),
            most,
            most_of_streams,
            held: Arc::default(),
        }
    }

    fn place(
        &self,
        count: usize,
        tokens: Option<OwnedSemaphorePermit>,
        of_streams: Option<OwnedSemaphorePermit>,
    ) -> Place {
        self.held.fetch_add(count, Ordering::Relaxed);
        Place {
            _tokens: tokens,
            _of_streams: of_streams,
            count,
            held: self.held.clone(),
        }
    }

    /// Tokens that it ever takes.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Tokens that it has taken, or keeps for who waits.
    pub(crate) fn taken(&self) -> usize {
        self.most - self.tokens.available_permits()
    }

    /// Tokens that it has taken.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Tokens that a stream asks for at once, so that it neither waits for an empty queue nor makes
    /// others wait long.
    pub(crate) fn slice(&self) -> usize {
        (self.most_of_streams / SLICES).max(1)
    }

    /// A place for so many tokens, if it is free.
    pub(crate) fn take(&self, tokens: usize) -> Option<Place> {
        let count = u32::try_from(tokens).ok()?;
        let taken = self.tokens.clone().try_acquire_many_owned(count).ok()?;
        Some(self.place(tokens, Some(taken), None))
    }

    /// A place for so many tokens of a stream, no more than there ever are, once they are free.
    pub(crate) async fn wait_for(&self, tokens: usize) -> Place {
        let of_streams = tokens.min(self.most_of_streams) as u32;
        // They are never closed.
        let of_streams = self.of_streams.clone().acquire_many_owned(of_streams).await;
        let count = tokens.min(self.most);
        let tokens = self.tokens.clone().acquire_many_owned(count as u32).await;
        self.place(count, tokens.ok(), of_streams.ok())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_ready<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(done) => Some(done),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn what_is_given_back_is_kept_for_the_stream_that_waits() {
        let room = Room::of(100);
        let small: Vec<_> = (0..10).map(|_| room.take(10).unwrap()).collect();
        assert!(room.take(1).is_none());
        let mut stream = pin!(room.wait_for(30));
        assert!(is_ready(stream.as_mut()).is_none());
        let mut small = small.into_iter();
        for place in small.by_ref().take(3) {
            // Requests that come meanwhile do not get it.
            assert!(room.take(1).is_none());
            drop(place);
        }
        // What is kept for the stream is not taken yet.
        assert_eq!((room.taken(), room.held()), (100, 70));
        drop(small);
        let place = is_ready(stream).unwrap();
        assert_eq!((room.taken(), room.held()), (30, 30));
        drop(place);
        assert_eq!((room.taken(), room.held()), (0, 0));
    }

    #[test]
    fn streams_leave_half_of_it_and_one_that_goes_away_keeps_nothing() {
        let room = Room::of(100);
        let first = is_ready(pin!(room.wait_for(50))).unwrap();
        {
            let mut second = pin!(room.wait_for(50));
            assert!(is_ready(second.as_mut()).is_none());
            assert_eq!(room.taken(), 50);
            drop(room.take(50).unwrap());
        }
        drop(first);
        // An input that is longer than their half has a turn too.
        let long = is_ready(pin!(room.wait_for(90))).unwrap();
        assert_eq!(room.taken(), 90);
        drop(long);
        assert_eq!(room.taken(), 0);
        assert!(room.slice() <= 50 / SLICES);
    }
}
