//! [`ServeError`]: why there is no service, or no answer; as HTTP says it.

use std::path::PathBuf;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ls_files::FileError;
use ls_train::TrainError;
use serde::Serialize;
use utoipa::ToSchema;

/// Result of this crate.
pub type Result<T, E = ServeError> = std::result::Result<T, E>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Nothing to serve.
    #[error("no model to serve: name a run, or a model with adapters")]
    NoModels,
    /// A model is on other weights than the one before it.
    #[error("{}: it stands on {}, and the service on {}: serve it by a process of its own", path.display(), found.display(), base.display())]
    OtherBase {
        /// The run.
        path: PathBuf,
        /// The folder of its decoder.
        found: PathBuf,
        /// That of the service.
        base: PathBuf,
    },
    /// A name that cannot be part of an address.
    #[error("{name:?} is no name for a model: expected 1 to 128 letters, digits, `.`, `_` and `-`")]
    Name {
        /// The name.
        name: String,
    },
    /// There is a model of this name.
    #[error("there is a model {name:?} already: remove it first, or take another name")]
    Exists {
        /// The name.
        name: String,
    },
    /// There is no model of this name.
    #[error("there is no model {name:?}; there are: {}", .known.join(", "))]
    NoSuchModel {
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// There are several models, and none was named.
    #[error("{}", which(.known))]
    ModelNeeded {
        /// Those that there are.
        known: Vec<String>,
    },
    /// A whole model takes no adapters.
    #[error("this service answers with the weights of one whole model, on which no adapter stands")]
    NoBase,
    /// A model of another task.
    #[error("the model {name:?} labels {found}: ask {instead}")]
    OtherTask {
        /// Its name.
        name: String,
        /// What it labels.
        found: &'static str,
        /// What answers for it.
        instead: &'static str,
    },
    /// There is nothing in the request.
    #[error("there is nothing to label: the list is empty")]
    Nothing,
    /// An input in which the model can read nothing.
    #[error("input {index}: {reason}")]
    Unreadable {
        /// Counted from 0.
        index: usize,
        /// Why.
        reason: String,
    },
    /// A value of the request that is not to be.
    #[error("{0}")]
    Value(String),
    /// A request with too many inputs.
    #[error(
        "{found} inputs in one request, and {most} are the most: send them in parts, or to /batch"
    )]
    TooMany {
        /// In it.
        found: usize,
        /// Allowed.
        most: usize,
    },
    /// A request with more tokens than the queue ever takes.
    #[error("{tokens} tokens in one request, and {most} are the most that wait: send it in parts")]
    TooLong {
        /// In it.
        tokens: usize,
        /// The queue's.
        most: usize,
    },
    /// A request with more words than the queue has tokens.
    #[error("{found} words in one request, and {most} are the most: send it in parts")]
    TooManyWords {
        /// In it.
        found: usize,
        /// Allowed.
        most: usize,
    },
    /// The queue is full.
    #[error("{waiting} tokens wait already")]
    QueueFull {
        /// Tokens in it.
        waiting: usize,
        /// Until there is room.
        retry_after: Duration,
    },
    /// As many requests as are taken at once.
    #[error("{most} requests are at work already, which is the most (`max_concurrent_requests`)")]
    Busy {
        /// Allowed.
        most: usize,
    },
    /// As many streams of lines as are taken at once.
    #[error("{most} streams of lines are at work already, which is the most (`max_streams`)")]
    BusyStreams {
        /// Allowed.
        most: usize,
    },
    /// As many large bodies, large answers, or words, as there may be at once.
    #[error(
        "too many large requests are at work already, or their answers are not read: send this \
         one later, or in parts"
    )]
    BusyBodies,
    /// It took too long.
    #[error("no answer in {} s, which is how long one may take", limit.as_secs_f32())]
    Timeout {
        /// Allowed.
        limit: Duration,
    },
    /// The service ends.
    #[error("the service is stopping")]
    Stopping,
    /// No token, or another.
    #[error("expected the header `Authorization: Bearer TOKEN` with the token of this service")]
    Unauthorized,
    /// What is done with a token alone, in a service without one.
    #[error(
        "adapters are added and removed with a token alone, and this service was started without one"
    )]
    NoToken,
    /// A file that cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A token with which nothing could be guarded.
    #[error("{origin}: {reason}")]
    Token {
        /// The file, or the variable.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The body of a request is larger than is taken.
    #[error(
        "the body has more than {most} bytes, which are the most: send it in parts, or to /batch"
    )]
    TooLarge {
        /// Allowed.
        most: usize,
    },
    /// A line of a stream is longer than a body may be.
    #[error("a line has more than {most} bytes, which are the most")]
    LineTooLong {
        /// Allowed.
        most: usize,
    },
    /// The body of a request cannot be used.
    #[error("{reason}")]
    Body {
        /// What HTTP calls that.
        status: StatusCode,
        /// What is wrong with it.
        reason: String,
    },
    /// A model cannot answer as it is asked to.
    #[error("the model {name:?} cannot answer so: {source}")]
    Answering {
        /// Its name.
        name: String,
        /// Why.
        source: Box<TrainError>,
    },
    /// Something is asked of models that is for none of them.
    #[error("{flag}: there is no model here {models}")]
    ForNone {
        /// What.
        flag: &'static str,
        /// The models that it is for.
        models: &'static str,
    },
    /// Nothing is there.
    #[error("nothing is at {path}: see /docs")]
    NoSuchPath {
        /// What was asked for.
        path: String,
    },
    /// It is asked for otherwise.
    #[error("{path} does not take {method}: see /docs")]
    NoSuchMethod {
        /// What was asked for.
        path: String,
        /// How.
        method: String,
    },
    /// A model cannot be loaded.
    #[error(transparent)]
    Model(#[from] TrainError),
    /// It cannot be listened there.
    #[error("{address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The system has no thread.
    #[error("no thread can be had: {0}")]
    Thread(std::io::Error),
    /// The fault is not the request's.
    #[error("{0}")]
    Failed(String),
}

fn which(known: &[String]) -> String {
    match known {
        [] => "there is no model: add one at /adapters".into(),
        known => format!(
            "which model? Name one of them as `model`, or in the path (/models/NAME/...): {}",
            known.join(", ")
        ),
    }
}

/// Of an answer that is none, for the log.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) code: &'static str,
    /// Where the fault is the service's.
    pub(crate) reason: Option<String>,
}

/// The body of every answer that is none.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// What was found, what was expected, and the way out.
    #[schema(example = "there is no model \"spam\"; there are: sentiment, topics")]
    pub error: String,
    /// The same for programs.
    #[schema(example = "model_not_found")]
    pub error_type: String,
}

impl ServeError {
    /// What HTTP calls it, and what programs know it by.
    pub fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoSuchModel { .. } => (StatusCode::NOT_FOUND, "model_not_found"),
            Self::NoSuchPath { .. } => (StatusCode::NOT_FOUND, "not_found"),
            Self::NoSuchMethod { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Exists { .. } => (StatusCode::CONFLICT, "model_exists"),
            Self::NoBase => (StatusCode::CONFLICT, "no_base"),
            Self::ModelNeeded { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "model_needed"),
            Self::OtherTask { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "other_task"),
            Self::Nothing | Self::Unreadable { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "empty_input")
            }
            Self::Value(_) | Self::Name { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "value"),
            Self::Model(_) | Self::Answering { .. } | Self::OtherBase { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "model_refused")
            }
            Self::TooMany { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_many_inputs"),
            Self::TooLong { .. } | Self::TooManyWords { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too_many_tokens")
            }
            Self::QueueFull { .. } => (StatusCode::TOO_MANY_REQUESTS, "queue_full"),
            Self::Busy { .. } | Self::BusyStreams { .. } | Self::BusyBodies => {
                (StatusCode::TOO_MANY_REQUESTS, "overloaded")
            }
            Self::Timeout { .. } => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::NoToken => (StatusCode::FORBIDDEN, "no_token"),
            Self::TooLarge { .. } | Self::LineTooLong { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body")
            }
            Self::Body { status, .. } => (*status, "body"),
            Self::NoModels
            | Self::ForNone { .. }
            | Self::File(_)
            | Self::Token { .. }
            | Self::Listen { .. }
            | Self::Thread(_)
            | Self::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        }
    }

    /// The same as the body of an answer.
    pub(crate) fn json(&self) -> ErrorBody {
        ErrorBody {
            error: self.to_string(),
            error_type: self.status().1.into(),
        }
    }

    /// When to ask again, in whole seconds.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::QueueFull { retry_after, .. } => Some(retry_after.as_secs_f64().ceil() as u64),
            Self::Busy { .. }
            | Self::BusyStreams { .. }
            | Self::BusyBodies
            | Self::Timeout { .. } => Some(1),
            Self::Stopping => Some(10),
            _ => None,
        }
        .map(|seconds| seconds.clamp(1, 600))
    }
}

impl IntoResponse for ServeError {
    fn into_response(self) -> Response {
        let (status, code) = self.status();
        let mut response = (status, Json(self.json())).into_response();
        let is_ours = status == StatusCode::INTERNAL_SERVER_ERROR;
        let reason = is_ours.then(|| self.to_string());
        response.extensions_mut().insert(Refused { code, reason });
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
