//! `POST /batch`: any number of JSON lines in, a line out for each, as `ls-cli predict` has them.
//!
//! Nothing is kept: lines are read as they come and answered in their order, and where nobody reads
//! the answers, no more lines are read.

use std::io;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use http_body_util::BodyExt;
use ls_data::{Arrivals, BadRows, ChunkLimits, FileFormat, InputRow, Patience, RowSieve};
use ls_train::TrainError;
use ls_train::dataset::Examples;
use ls_train::inputs::{InputFormat, Inputs, Rows};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Named, Of, model};
use crate::answers::Cost;
use crate::error::{ErrorBody, Result, ServeError};
use crate::metrics::Metrics;
use crate::models::Model;
use crate::request_id::RequestId;
use crate::requests::media_type;
use crate::service::Service;

/// Parts of a stream that are at work or wait to be written: the next one waits while one is
/// computed.
const PARTS: usize = 4;
/// Lines that are answered together, and until when more are waited for.
const LINES: ChunkLimits = ChunkLimits {
    rows: 64,
    bytes: 1 << 18,
    patience: Some(Patience {
        quiet: Duration::from_millis(5),
        most: Duration::from_millis(50),
    }),
};
/// What is read of a body or written to one ahead of the other side.
const AHEAD: usize = 4;
const TYPES: [&str; 3] = [
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
];

/// A stream of lines at work.
struct Stream {
    service: Arc<Service>,
    id: RequestId,
    model: Arc<Model>,
    runtime: Handle,
    /// Its parts, in their order.
    parts: mpsc::Sender<Part>,
    refusal: Refusal,
}

/// Why no more of a body is read, where it is not the body's fault.
type Refusal = Arc<Mutex<Option<ServeError>>>;

/// A part of the answers.
enum Part {
    Answers(Work<Answered>),
    /// Of a line that has no answer, and why.
    Refused(ServeError),
    /// Behind which nothing comes.
    Fault(ServeError),
    /// All lines were handed on. Where it is missing, who read them ended unexpectedly.
    End,
}

/// The answers to a part, and by what they ended if they did before the part's end.
type Answered = (Lines, Option<ServeError>);

/// Answers as they are written, a line each.
#[derive(Default)]
struct Lines {
    text: String,
    cost: Cost,
}

/// Work that ends where nobody waits for it any more: so it leaves the queue.
struct Work<T>(JoinHandle<T>);

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn answer(service: Arc<Service>, path: Option<&Named>, request: Request) -> Result<Response> {
    if !is_lines(request.headers()) {
        return Err(ServeError::Body {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            reason: format!("expected the header `Content-Type: {}`", TYPES[0]),
        });
    }
    let model = model(&service, path, None)?;
    let Ok(place) = service.streams.clone().try_acquire_owned() else {
        let most = service.limits.max_streams;
        return Err(ServeError::BusyStreams { most });
    };
    let limit = service.limits.timeout;
    // One more is with who writes.
    let (parts, in_order) = mpsc::channel(PARTS - 1);
    let (out, lines) = mpsc::channel(AHEAD);
    let refusal = Refusal::default();
    let id: RequestId = request.extensions().get().cloned().unwrap_or_default();
    let (reader, reading) = reader(request.into_body(), service.clone(), refusal.clone());
    let told = Told {
        id: id.clone(),
        model: model.name.clone(),
        began: Instant::now(),
        cost: Cost::default(),
        fault: None,
        metrics: service.metrics.clone(),
    };
    let stream = Stream {
        service,
        id,
        model,
        runtime: Handle::current(),
        parts,
        refusal,
    };
    let thread = std::thread::Builder::new().name("batch".into());
    thread
        .spawn(move || stream.run(reader))
        .map_err(ServeError::Thread)?;
    tokio::spawn(async move {
        let _place = place;
        write(in_order, reading, out, limit, told).await;
    });
    let lines = unfold(Some(lines), |lines| async {
        let mut lines = lines?;
        match lines.recv().await {
            Some(Piece::Text(text)) => Some((Ok(text), Some(lines))),
            Some(Piece::End) => None,
            // Nobody is to take what came for all.
            None => Some((Err(io::Error::other("a stream was cut")), None)),
        }
    });
    Ok(([(header::CONTENT_TYPE, TYPES[0])], Body::from_stream(lines)).into_response())
}

fn is_lines(headers: &HeaderMap) -> bool {
    let kind = media_type(headers);
    TYPES.iter().any(|known| kind.eq_ignore_ascii_case(known))
}

impl Stream {
    /// Reads the lines and hands them on, part by part.
    fn run(self, reader: impl io::Read + Send + 'static) {
        let (name, task) = (FilePath::new("request"), self.model.task());
        let format = InputFormat::File(FileFormat::Jsonl);
        let answered = match Inputs::open(reader, name, format, task, &self.model.columns) {
            Ok(Inputs::Sequence(rows)) => self.all(rows, Examples::Sequence),
            Ok(Inputs::Token(rows)) => self.all(rows, Examples::Token),
            Err(error) => Err(error.into()),
        };
        let last = match answered {
            Ok(()) => Part::End,
            Err(error) => {
                let refusal = lock(&self.refusal).take();
                Part::Fault(match refusal.unwrap_or(error) {
                    ServeError::Model(TrainError::Data(fault)) => {
                        ServeError::Value(fault.to_string())
                    }
                    other => other,
                })
            }
        };
        // Who no longer waits does not hear it.
        let _ = self.parts.blocking_send(last);
    }

    fn all<T: InputRow>(&self, rows: Rows<T>, examples: fn(Vec<T>) -> Examples) -> Result<()> {
        let mut arrivals = Arrivals::of(rows).map_err(ServeError::Thread)?;
        let mut sieve = RowSieve::new(FilePath::new("request"), BadRows::default());
        loop {
            let chunk = arrivals.chunk(&LINES, &mut sieve, || self.parts.is_closed());
            if chunk.is_empty() {
                break;
            }
            for part in by_words(chunk, self.service.limits.max_queue_tokens) {
                // Not begun before there is room for its answers.
                let Ok(place) = self.runtime.block_on(self.parts.reserve()) else {
                    return Ok(());
                };
                let part = match part {
                    Ok(rows) => self.begin(rows, examples).map(Part::Answers),
                    Err(refused) => Some(Part::Refused(refused)),
                };
                let Some(part) = part else {
                    return Ok(());
                };
                place.send(part);
            }
        }
        sieve.finish().map_err(TrainError::from)?;
        Ok(())
    }

    /// Begins to answer, once there is room for as many words; not where nobody is there any more
    /// to write the answers.
    fn begin<T: InputRow>(
        &self,
        rows: Vec<T>,
        examples: fn(Vec<T>) -> Examples,
    ) -> Option<Work<Answered>> {
        let words = rows.iter().map(T::words).sum();
        let words = self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.parts.closed() => None,
                words = self.service.words_of_stream(words) => Some(words),
            }
        })?;
        let examples = examples(rows);
        self.service.write_texts(&self.id, &self.model, &examples);
        let (service, model) = (self.service.clone(), self.model.clone());
        Some(Work(self.runtime.spawn(async move {
            let _held = words;
            answered(service, model, examples).await
        })))
    }
}

/// Rows in their order, so many words at a time, and why where a row alone has more.
fn by_words<T: InputRow>(rows: Vec<T>, most: usize) -> Vec<Result<Vec<T>>> {
    let (mut parts, mut part, mut words) = (Vec::new(), Vec::new(), 0);
    for row in rows {
        let found = row.words();
        if !part.is_empty() && words + found > most {
            parts.push(Ok(std::mem::take(&mut part)));
            words = 0;
        }
        if found > most {
            parts.push(Err(ServeError::TooManyWords { found, most }));
        } else {
            part.push(row);
            words += found;
        }
    }
    if !part.is_empty() {
        parts.push(Ok(part));
    }
    parts
}

/// Answers a part. Where something in it cannot be answered, its lines are answered one by one: one
/// that is longer than the queue has no answer but why, and one by which the service fails ends the
/// stream, behind the answers to those before it.
async fn answered(service: Arc<Service>, model: Arc<Model>, examples: Examples) -> Answered {
    let examples = Arc::new(examples);
    let mut lines = Lines::default();
    match service.lines_in_turn(&model, examples.clone()).await {
        Ok(all) => {
            lines.push(all);
            return (lines, None);
        }
        Err(ServeError::Stopping) => return (lines, Some(ServeError::Stopping)),
        Err(_) => {}
    }
    for one in one_by_one(&examples) {
        match service.lines_in_turn(&model, Arc::new(one)).await {
            Ok(one) => lines.push(one),
            Err(error @ ServeError::TooLong { .. }) => lines.push_error(&error),
            Err(error) => return (lines, Some(error)),
        }
    }
    (lines, None)
}

fn one_by_one(examples: &Examples) -> Vec<Examples> {
    match examples {
        Examples::Sequence(all) => {
            let one = |of: &_| Examples::Sequence(vec![Clone::clone(of)]);
            all.iter().map(one).collect()
        }
        Examples::Token(all) => {
            let one = |of: &_| Examples::Token(vec![Clone::clone(of)]);
            all.iter().map(one).collect()
        }
    }
}

impl Lines {
    fn push(&mut self, (text, cost): (String, Cost)) {
        self.text.push_str(&text);
        self.cost += cost;
    }

    fn push_error(&mut self, error: &ServeError) {
        self.text.push_str(&format!("{}\n", json!(error.json())));
    }
}

const UNREAD: &str = "a stream was cut: nobody reads it";

/// What is written of a stream.
enum Piece {
    Text(Bytes),
    /// It has all that was to be written. Where it is missing, the stream was cut.
    End,
}

/// What is written about a stream into the log, once it has ended.
struct Told {
    id: RequestId,
    model: String,
    began: Instant,
    /// Of what was handed on.
    cost: Cost,
    /// By which it ended, if there was one.
    fault: Option<ServeError>,
    metrics: Arc<Metrics>,
}

/// How a stream ended, where no fault says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// Why.
    Cut(&'static str),
}

impl Told {
    fn tell(self, end: End) {
        let Self {
            id: RequestId(id),
            model,
            began,
            cost,
            fault,
            metrics,
        } = self;
        let Cost { inputs, tokens, .. } = cost;
        let [queue_ms, compute_ms, total_ms] =
            [cost.queued, cost.computing, began.elapsed()].map(|time| time.as_millis() as u64);
        let fault = fault.map(|fault| (fault.status(), fault));
        let is_ours = |status| status == StatusCode::INTERNAL_SERVER_ERROR;
        metrics.streamed(match (end, &fault) {
            (End::Cut(_), _) => "cut",
            (End::Whole, None) => "whole",
            (End::Whole, Some((_, ServeError::Stopping))) => "stopped",
            (End::Whole, Some(((status, _), _))) if is_ours(*status) => "failed",
            (End::Whole, Some(_)) => "refused",
        });
        // An info has no reason, which may be of its text.
        let error_type = fault.as_ref().map(|((_, error_type), _)| *error_type);
        match fault {
            Some(((status, _), reason)) if is_ours(status) => {
                tracing::error!(
                    request_id = id,
                    model,
                    inputs,
                    tokens,
                    queue_ms,
                    compute_ms,
                    total_ms,
                    error_type,
                    %reason,
                    "a stream failed"
                );
            }
            refused => tracing::info!(
                request_id = id,
                model,
                inputs,
                tokens,
                queue_ms,
                compute_ms,
                total_ms,
                error_type,
                "{}",
                match end {
                    End::Cut(why) => why,
                    End::Whole => match refused {
                        None => "streamed",
                        Some((_, ServeError::Stopping)) => "a stream was stopped",
                        Some(_) => "a stream was refused",
                    },
                }
            ),
        }
    }
}

/// Writes the answers of the parts in their order, until they end or nobody reads them. Then the
/// parts that are left end, and leave the queue.
async fn write(
    mut parts: mpsc::Receiver<Part>,
    mut reading: Work<Read>,
    out: mpsc::Sender<Piece>,
    limit: Duration,
    mut told: Told,
) {
    let end = tokio::select! {
        // What was cut is not to be taken for whole.
        biased;
        () = out.closed() => End::Cut(UNREAD),
        () = reading.is_broken() => End::Cut("a stream was cut: its lines have no end"),
        end = written(&mut parts, &out, limit, &mut told) => end,
    };
    told.tell(end);
}

/// How it ended; what was handed on is added to what is told.
async fn written(
    parts: &mut mpsc::Receiver<Part>,
    out: &mpsc::Sender<Piece>,
    limit: Duration,
    told: &mut Told,
) -> End {
    let is_sent = async |piece| matches!(timeout(limit, out.send(piece)).await, Ok(Ok(())));
    loop {
        let (mut lines, fault) = match parts.recv().await {
            None => {
                return End::Cut("a stream was cut: who read its lines ended unexpectedly");
            }
            Some(Part::End) => break,
            Some(Part::Fault(error)) => (Lines::default(), Some(error)),
            Some(Part::Refused(error)) => {
                let mut lines = Lines::default();
                lines.push_error(&error);
                (lines, None)
            }
            Some(Part::Answers(mut work)) => (&mut work.0).await.unwrap_or_else(|_| {
                let error = ServeError::Failed("the work ended unexpectedly".into());
                (Lines::default(), Some(error))
            }),
        };
        if let Some(error) = &fault {
            lines.push_error(error);
        }
        told.fault = fault;
        if !is_sent(Piece::Text(lines.text.into())).await {
            return End::Cut(UNREAD);
        }
        told.cost += lines.cost;
        if told.fault.is_some() {
            break;
        }
    }
    if is_sent(Piece::End).await {
        End::Whole
    } else {
        End::Cut(UNREAD)
    }
}

/// A body to be read where reading may wait: on a thread of its own, no longer than the limit for
/// each line, and until the service stops.
fn reader(mut body: Body, service: Arc<Service>, refusal: Refusal) -> (Pieces, Work<Read>) {
    let (pieces, read) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    let (limit, most) = (service.limits.timeout, service.limits.max_body_bytes);
    let read_on = async move {
        let mut patience = PatienceForLines::new(limit);
        let mut line = LineLength::default();
        loop {
            let waits = Instant::now();
            let piece = tokio::select! {
                piece = timeout(patience.left, body.frame()) => piece,
                () = service.stopping.asked() => {
                    *lock(&refusal) = Some(ServeError::Stopping);
                    let _ = pieces.send(Err(io::Error::other("the service is stopping"))).await;
                    return Read::Ended;
                }
            };
            let piece = match piece {
                Ok(None) => return Read::Ended,
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        patience.heard(&data, waits.elapsed());
                        match line.heard(&data, most) {
                            None => Ok(data),
                            Some(at) => {
                                // The lines before it are answered.
                                let before = data.slice(..at);
                                if pieces.send(Ok(before)).await.is_err() {
                                    return Read::Ended;
                                }
                                *lock(&refusal) = Some(ServeError::LineTooLong { most });
                                Err(io::ErrorKind::FileTooLarge.into())
                            }
                        }
                    }
                    // Trailers say nothing here.
                    Err(_) => continue,
                },
                Ok(Some(Err(_))) => return Read::Broken { _pieces: pieces },
                Err(_) => {
                    let seconds = limit.as_secs_f32();
                    *lock(&refusal) = Some(ServeError::Body {
                        status: StatusCode::REQUEST_TIMEOUT,
                        reason: format!(
                            "no whole line in {seconds} s, which is how long one may take"
                        ),
                    });
                    Err(io::ErrorKind::TimedOut.into())
                }
            };
            let is_last = piece.is_err();
            if pieces.send(piece).await.is_err() || is_last {
                return Read::Ended;
            }
        }
    };
    let pieces = Pieces {
        read,
        piece: Bytes::new(),
    };
    (pieces, Work(tokio::spawn(read_on)))
}

/// How reading a body ended.
enum Read {
    Ended,
    /// In the middle of it: the other side is gone. The pieces stay open, so that what came is not
    /// taken for all.
    Broken {
        _pieces: mpsc::Sender<io::Result<Bytes>>,
    },
}

impl Work<Read> {
    /// Waits until it is, or has ended unexpectedly; for ever where it is not.
    async fn is_broken(&mut self) {
        if matches!((&mut self.0).await, Ok(Read::Ended)) {
            std::future::pending::<()>().await;
        }
    }
}

/// How long is still waited for a line. Lines in which nothing stands do not count, and neither do
/// bytes: who sends one of them now and then would hold a stream for ever.
struct PatienceForLines {
    limit: Duration,
    left: Duration,
    /// Whether something stands in the line that is not whole.
    has_begun: bool,
}

impl PatienceForLines {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            left: limit,
            has_begun: false,
        }
    }

    /// This came after so long.
    fn heard(&mut self, bytes: &[u8], after: Duration) {
        self.left = self.left.saturating_sub(after);
        for byte in bytes {
            if !byte.is_ascii_whitespace() {
                self.has_begun = true;
            } else if *byte == b'\n' && std::mem::take(&mut self.has_begun) {
                self.left = self.limit;
            }
        }
    }
}

/// How long the line is that is not whole.
#[derive(Default)]
struct LineLength(usize);

impl LineLength {
    /// These came. Where among them the first line begins, or goes on, that is longer than it may
    /// be.
    fn heard(&mut self, bytes: &[u8], most: usize) -> Option<usize> {
        let mut begins = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (length, is_whole) = match line.strip_suffix(b"\n") {
                Some(text) => (text.len(), true),
                None => (line.len(), false),
            };
            self.0 += length;
            if self.0 > most {
                return Some(begins);
            }
            begins += line.len();
            if is_whole {
                self.0 = 0;
            }
        }
        None
    }
}

fn lock(refusal: &Refusal) -> MutexGuard<'_, Option<ServeError>> {
    // Nothing panics while it holds one.
    refusal.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pieces of a body, end to end.
struct Pieces {
    read: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl io::Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.read.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece?,
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

/// Answers lines with the only model.
///
/// Each line is a JSON object with `text`, for a tagger with `text` or `tokens`; the model of a run
/// reads the fields that its data have, as that of the second text of a pair. What else is in it is
/// kept. There may be any number of them: answers come while lines are sent,
/// in their order, and are those of `ls-cli predict`. A line that cannot be used ends the stream,
/// with an error as its last line, and so does a service that stops. Where the body has no proper
/// end, answers are missing.
#[utoipa::path(
    post,
    path = "/batch",
    tag = "Lines",
    request_body(content = String, content_type = "application/x-ndjson"),
    responses(
        (status = 200, description = "A line for each line", body = String, content_type = "application/x-ndjson"),
        (status = "4XX", description = "The request cannot be answered", body = ErrorBody),
        (status = "5XX", description = "Try again later", body = ErrorBody),
    )
)]
pub(crate) async fn batch(State(service): Of, request: Request) -> Result<Response> {
    answer(service, None, request)
}

/// Answers lines with the model that the path names, as `/batch` does.
#[utoipa::path(
    post,
    path = "/models/{model}/batch",
    tag = "Lines",
    params(("model" = String, Path, description = "Name of the model")),
    request_body(content = String, content_type = "application/x-ndjson"),
    responses(
        (status = 200, description = "A line for each line", body = String, content_type = "application/x-ndjson"),
        (status = "4XX", description = "The request cannot be answered", body = ErrorBody),
        (status = "5XX", description = "Try again later", body = ErrorBody),
    )
)]
pub(crate) async fn batch_with(
    State(service): Of,
    model: Named,
    request: Request,
) -> Result<Response> {
    answer(service, Some(&model), request)
}

#[cfg(test)]
mod tests {
    use ls_data::TokenExample;

    use super::*;

    #[test]
    fn only_a_line_with_something_in_it_gives_more_time() {
        let second = Duration::from_secs(1);
        let mut patience = PatienceForLines::new(5 * second);
        let mut left = |bytes: &[u8]| {
            patience.heard(bytes, second);
            patience.left.as_secs()
        };
        assert_eq!(left(b" "), 4);
        assert_eq!(left(b"\n \r\n"), 3);
        assert_eq!(left(b"{"), 2);
        assert_eq!(left(b"}\n {"), 5);
        assert_eq!(left(b"}"), 4);
        assert_eq!(left(b"\n"), 5);
    }

    #[test]
    fn a_line_that_is_too_long_is_found_where_it_begins() {
        let found = |pieces: &[&[u8]]| -> Vec<Option<usize>> {
            let mut line = LineLength::default();
            pieces.iter().map(|piece| line.heard(piece, 4)).collect()
        };
        assert_eq!(found(&[b"abcd\n", b"", b"ab", b"cd\n\nab"]), [None; 4]);
        assert_eq!(found(&[b"a\nbcd\nabcde\nf\n"]), [Some(6)]);
        assert_eq!(found(&[b"a\nbcd", b"ef\n"]), [None, Some(0)]);
        assert_eq!(found(&[b"ab", b"cd", b"e"]), [None, None, Some(0)]);
    }

    #[test]
    fn parts_have_as_many_words_as_they_may_and_keep_their_order() {
        let row = |words: usize| TokenExample {
            tokens: vec!["a".into(); words],
            tags: None,
            line: words,
            extra: None,
        };
        let rows = [3, 2, 9, 5, 0, 1].map(row).to_vec();
        let found: Vec<_> = by_words(rows, 5)
            .into_iter()
            .map(|part| match part {
                Ok(rows) => rows.iter().map(InputRow::words).collect(),
                Err(ServeError::TooManyWords { found, most: 5 }) => vec![found],
                Err(other) => panic!("{other}"),
            })
            .collect();
        assert_eq!(found, [vec![3, 2], vec![9], vec![5, 0], vec![1]]);
        assert!(by_words(Vec::<TokenExample>::new(), 5).is_empty());
    }
}
