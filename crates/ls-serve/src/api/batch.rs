//! `POST /batch`: any number of JSON lines in, a line out for each, as `ls-cli predict` has them.
//!
//! Nothing is kept: lines are read as they come and answered in their order, and where nobody reads
//! the answers, no more lines are read.

use std::io::{self, Read};
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

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
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Named, Of, model};
use crate::error::{ErrorBody, Result, ServeError};
use crate::models::Model;
use crate::service::{Answers, Service};

/// Parts of a stream that are at work at once: the next one waits while one is computed.
const PARTS: usize = 3;
/// Lines that are answered together, and until when more are waited for.
const LINES: ChunkLimits = ChunkLimits {
    rows: 64,
    bytes: 1 << 18,
    patience: Some(Patience {
        quiet: Duration::from_millis(5),
        most: Duration::from_millis(50),
    }),
};
/// How long is waited for room in the queue before it is asked again.
const BREATH: Duration = Duration::from_millis(20);
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
    model: Arc<Model>,
    runtime: Handle,
    /// Its parts, in their order.
    parts: mpsc::Sender<Part>,
    _place: OwnedSemaphorePermit,
}

/// A part of the answers.
enum Part {
    Answers(JoinHandle<Result<Answers>>),
    /// Behind which nothing comes.
    Fault(ServeError),
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
        return Err(ServeError::Busy { most });
    };
    let limit = service.limits.timeout;
    let (parts, in_order) = mpsc::channel(PARTS);
    let (out, lines) = mpsc::channel::<Bytes>(AHEAD);
    let reader = reader(request.into_body(), limit);
    let name = model.name.clone();
    let stream = Stream {
        service,
        model,
        runtime: Handle::current(),
        parts,
        _place: place,
    };
    let thread = std::thread::Builder::new().name("batch".into());
    thread
        .spawn(move || stream.run(reader))
        .map_err(ServeError::Thread)?;
    tokio::spawn(write(in_order, out, limit, name));
    let lines = unfold(lines, |mut lines| async {
        let line = lines.recv().await?;
        Some((Ok::<_, io::Error>(line), lines))
    });
    Ok(([(header::CONTENT_TYPE, TYPES[0])], Body::from_stream(lines)).into_response())
}

fn is_lines(headers: &HeaderMap) -> bool {
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|of| of.to_str().ok());
    let kind = given
        .and_then(|given| given.split(';').next())
        .unwrap_or_default();
    TYPES
        .iter()
        .any(|known| kind.trim().eq_ignore_ascii_case(known))
}

impl Stream {
    /// Reads the lines and hands them on, part by part.
    fn run(self, reader: impl Read + Send + 'static) {
        let (name, task) = (FilePath::new("request"), self.model.task());
        let format = InputFormat::File(FileFormat::Jsonl);
        let answered = match Inputs::open(reader, name, format, task, &self.model.columns) {
            Ok(Inputs::Sequence(rows)) => self.all(rows, Examples::Sequence),
            Ok(Inputs::Token(rows)) => self.all(rows, Examples::Token),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = answered {
            let error = match error {
                ServeError::Model(TrainError::Data(fault)) => ServeError::Value(fault.to_string()),
                other => other,
            };
            // Who no longer waits does not hear it.
            let _ = self.parts.blocking_send(Part::Fault(error));
        }
    }

    fn all<T: InputRow>(&self, rows: Rows<T>, examples: fn(Vec<T>) -> Examples) -> Result<()> {
        let mut arrivals = Arrivals::of(rows).map_err(ServeError::Thread)?;
        let mut sieve = RowSieve::new(FilePath::new("request"), BadRows::default());
        loop {
            let chunk = arrivals.chunk(&LINES, &mut sieve, || self.parts.is_closed());
            if chunk.is_empty() {
                break;
            }
            let answers = answers(self.service.clone(), self.model.clone(), examples(chunk));
            let part = Part::Answers(self.runtime.spawn(answers));
            if self.parts.blocking_send(part).is_err() {
                return Ok(());
            }
        }
        sieve.finish().map_err(TrainError::from)?;
        Ok(())
    }
}

/// The answers to a part, which waits where the queue is full.
async fn answers(service: Arc<Service>, model: Arc<Model>, examples: Examples) -> Result<Answers> {
    let examples = Arc::new(examples);
    let encoded = service.encoded(&model, &examples, None).await?;
    loop {
        let (examples, encoded) = (examples.clone(), encoded.clone());
        let answered = service.answers_to_encoded(&model, examples, encoded, false, None);
        match answered.await {
            Err(ServeError::QueueFull { .. }) => tokio::time::sleep(BREATH).await,
            answered => return answered,
        }
    }
}

/// Writes the answers of the parts in their order, until they end or nobody reads them.
async fn write(
    mut parts: mpsc::Receiver<Part>,
    out: mpsc::Sender<Bytes>,
    limit: Duration,
    model: String,
) {
    let (mut inputs, mut tokens) = (0, 0);
    while let Some(part) = parts.recv().await {
        let answered = match part {
            Part::Fault(error) => Err(error),
            Part::Answers(work) => match work.await {
                Ok(answered) => answered,
                Err(_) => Err(ServeError::Failed("the work ended unexpectedly".into())),
            },
        };
        let is_fault = answered.is_err();
        let text = match answered {
            Ok(answers) => {
                inputs += answers.cost.inputs;
                tokens += answers.cost.tokens;
                let objects = answers.predicted.objects.iter();
                objects.map(|object| format!("{object}\n")).collect()
            }
            Err(error) => format!("{}\n", json!(error.json())),
        };
        let sent = timeout(limit, out.send(Bytes::from(text))).await;
        if is_fault || !matches!(sent, Ok(Ok(()))) {
            break;
        }
    }
    tracing::info!(model, inputs, tokens, "streamed");
}

/// A body to be read where reading may wait: on a thread of its own, and no longer than the limit
/// for each piece.
fn reader(mut body: Body, limit: Duration) -> impl Read + Send + 'static {
    let (pieces, read) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    tokio::spawn(async move {
        loop {
            let piece = match timeout(limit, body.frame()).await {
                Ok(None) => return,
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => Ok(data),
                    // Trailers say nothing here.
                    Err(_) => continue,
                },
                Ok(Some(Err(error))) => Err(io::Error::other(error)),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            let is_last = piece.is_err();
            if pieces.send(piece).await.is_err() || is_last {
                return;
            }
        }
    });
    Pieces {
        read,
        piece: Bytes::new(),
    }
}

/// The pieces of a body, end to end.
struct Pieces {
    read: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Pieces {
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
/// Each line is a JSON object with `text` (and `text_pair`), for a tagger with `text` or `tokens`;
/// what else is in it is kept. There may be any number of them: answers come while lines are sent,
/// in their order, and are those of `ls-cli predict`. A line that cannot be used ends the stream,
/// with an error as its last line.
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
