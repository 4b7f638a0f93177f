//! A connection: what it is at, so that it can be ended without loss, and how long it may keep what
//! it has.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

/// Who was refused before all was sent sends on before it reads why. So much of it is read and
/// dropped, for so long: a connection that is closed before may lose the answer.
const DROPPED: usize = 8 << 20;
const DROPPING: Duration = Duration::from_secs(2);
/// Nothing is done for so long by who is closed for another one.
const IDLE: Duration = Duration::from_secs(1);
/// How fast an answer has to be taken, in bytes a second, beyond the time that anything may take.
const LEAST_RATE: f64 = 65536.0;

/// What a connection is at.
#[derive(Debug)]
pub(crate) struct State {
    /// Requests whose answers are not made.
    at_work: AtomicUsize,
    /// The other side does not read, and something is left to be written.
    is_blocked: AtomicBool,
    /// It did not read for as long as it may take.
    has_stalled: AtomicBool,
    /// Until when all of the answer is to be taken; none of a stream, which may go on for ever.
    until: Mutex<Option<Instant>>,
    /// The body of the last request was not read to its end.
    is_unread: AtomicBool,
    /// Since when it is at nothing, if it is.
    idle_since: Mutex<Instant>,
    /// Another one is to have its place.
    is_to_end: Notify,
}

impl Default for State {
    fn default() -> Self {
        Self {
            at_work: AtomicUsize::default(),
            is_blocked: AtomicBool::default(),
            has_stalled: AtomicBool::default(),
            until: Mutex::default(),
            is_unread: AtomicBool::default(),
            idle_since: Mutex::new(Instant::now()),
            is_to_end: Notify::new(),
        }
    }
}

impl State {
    /// Since when it is at nothing, if for as long as lets another one have its place: its request
    /// may be on the way, or it may still send a body that was refused, and read why.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let since = *self.since();
        let is_told = self.is_unread.load(Ordering::Relaxed);
        let least = if is_told { 2 * DROPPING } else { IDLE };
        (self.is_idle() && since.elapsed() >= least).then_some(since)
    }

    fn since(&self) -> MutexGuard<'_, Instant> {
        lock(&self.idle_since)
    }

    /// An answer is made, and now to be taken within the limit, or as long as its bytes may last.
    pub(crate) fn answers(&self, body: &impl HttpBody, limit: Duration) {
        let bytes = body.size_hint().exact();
        let rest = |bytes| Duration::from_secs_f64(bytes as f64 / LEAST_RATE);
        let until = |bytes| Instant::now().checked_add(limit.saturating_add(rest(bytes)));
        *lock(&self.until) = bytes.and_then(until);
    }

    /// Asks it to end, if it is still at nothing then.
    pub(crate) fn ask_to_end(&self) {
        self.is_to_end.notify_one();
    }

    /// Waits until it is asked to end.
    pub(crate) async fn is_asked_to_end(&self) {
        self.is_to_end.notified().await;
    }

    /// Whether nothing is lost if it ends now.
    pub(crate) fn is_idle(&self) -> bool {
        self.at_work.load(Ordering::Relaxed) == 0 && !self.is_blocked.load(Ordering::Relaxed)
    }

    /// The same, and who was refused before all was sent had the time to read why.
    pub(crate) fn is_done(&self) -> bool {
        let is_told = self.is_unread.load(Ordering::Relaxed);
        self.is_idle() && (!is_told || self.since().elapsed() >= DROPPING)
    }

    /// Whether it ended because the other side did not read.
    pub(crate) fn has_stalled(&self) -> bool {
        self.has_stalled.load(Ordering::Relaxed)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request at work, until this ends.
#[derive(Debug)]
pub(crate) struct AtWork(Arc<State>);

impl AtWork {
    pub(crate) fn at(state: &Arc<State>) -> Self {
        state.at_work.fetch_add(1, Ordering::Relaxed);
        Self(state.clone())
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        *self.0.since() = Instant::now();
        self.0.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of a request, which tells whether it was read to its end.
pub(crate) struct Asked<B> {
    body: B,
    state: Arc<State>,
}

impl<B: HttpBody> Asked<B> {
    pub(crate) fn new(body: B, state: &Arc<State>) -> Self {
        let is_unread = !body.is_end_stream();
        state.is_unread.store(is_unread, Ordering::Relaxed);
        Self {
            body,
            state: state.clone(),
        }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Asked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let is_unread = frame.is_some() && !self.body.is_end_stream();
        self.state.is_unread.store(is_unread, Ordering::Relaxed);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, with which a request is at work no longer.
pub(crate) struct Answer<B> {
    pub(crate) body: B,
    pub(crate) _at_work: AtWork,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The bytes of a connection. Where the other side takes none of them for longer than the limit, or
/// not all of an answer in its time, it is at an end.
pub(crate) struct Wire {
    stream: TcpStream,
    state: Arc<State>,
    limit: Duration,
    /// Until when something has to be taken; none where nothing waits.
    stalled: Option<Pin<Box<Sleep>>>,
    dropping: Option<Dropping>,
}

/// What is read and dropped behind the last answer.
struct Dropping {
    until: Pin<Box<Sleep>>,
    left: usize,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, state: Arc<State>, limit: Duration) -> Self {
        Self {
            stream,
            state,
            limit,
            stalled: None,
            dropping: None,
        }
    }

    fn written(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let is_blocked = written.is_pending();
        self.state.is_blocked.store(is_blocked, Ordering::Relaxed);
        if !is_blocked {
            self.stalled = None;
            return written;
        }
        let (limit, until) = (self.limit, *lock(&self.state.until));
        let stalled = self.stalled.get_or_insert_with(|| {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            Box::pin(sleep(left.map_or(limit, |left| left.min(limit))))
        });
        ready!(stalled.as_mut().poll(context));
        self.state.has_stalled.store(true, Ordering::Relaxed);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            stream,
            state,
            dropping,
            ..
        } = &mut *self;
        if dropping.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
            if !state.is_unread.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let Dropping { until, left } = dropping.get_or_insert_with(|| Dropping {
            until: Box::pin(sleep(DROPPING)),
            left: DROPPED,
        });
        if until.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [0; 1 << 14];
        while *left > 0 {
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer));
            let count = buffer.filled().len();
            if read.is_err() || count == 0 {
                break;
            }
            *left = left.saturating_sub(count);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Read;

    use http_body_util::Full;
    use tokio::net::TcpListener;

    use super::*;

    /// How writing so much ends, where something of it is taken now and then; for an answer that
    /// says its size.
    async fn written(bytes: usize, size: Option<usize>) -> io::Result<()> {
        let limit = Duration::from_secs(1);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut reader = std::net::TcpStream::connect(listener.local_addr()?)?;
        let (stream, _) = listener.accept().await?;
        let state = Arc::new(State::default());
        if let Some(size) = size {
            state.answers(&Full::new(Bytes::from(vec![0; size])), limit);
        }
        let mut wire = Wire::new(stream, state, limit);
        let reading = std::thread::spawn(move || {
            let mut piece = vec![0; 1 << 20];
            // Until it is cut off.
            while reader.read(&mut piece).is_ok_and(|count| count > 0) {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let (bytes, mut sent) = (vec![0; bytes], 0);
        while sent < bytes.len() {
            let write =
                |context: &mut Context<'_>| Pin::new(&mut wire).poll_write(context, &bytes[sent..]);
            sent += poll_fn(write).await?;
        }
        drop(wire);
        reading.join().unwrap();
        Ok(())
    }

    #[test]
    fn an_answer_is_taken_in_its_time_and_a_stream_as_it_goes_on() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        const LITTLE: usize = 64 << 20;
        runtime.block_on(written(LITTLE, None)).unwrap();
        runtime.block_on(written(LITTLE, Some(LITTLE))).unwrap();
        // More than is read in a second and any buffer on the way holds.
        let cut = runtime.block_on(written(4 * LITTLE, Some(1)));
        let cut = cut.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::TimedOut);
    }
}
