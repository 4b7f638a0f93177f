//! What is asked for and answered, one file for each kind of question.

pub(crate) mod adapters;
pub(crate) mod batch;
pub(crate) mod classify;
pub(crate) mod info;
pub(crate) mod ner;
pub(crate) mod predict;

use std::sync::Arc;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::answers::Answers;
use crate::error::{Result, ServeError};
use crate::models::Model;
use crate::service::Service;

/// The service that a handler works for.
pub(crate) type Of = State<Arc<Service>>;

/// The JSON body of a request.
pub(crate) struct Body<T>(pub(crate) T);

/// What is asked for.
pub(crate) trait Question: DeserializeOwned + Send + 'static {
    /// Inputs that are to be answered.
    fn inputs(&self) -> usize;
}

impl<T: Question> FromRequest<Arc<Service>> for Body<T> {
    type Rejection = ServeError;

    /// Of what `with_body` has read: whether it is JSON was seen there. What is made of a large
    /// body takes long, and many times its size: it is made, and refused, by a worker.
    async fn from_request(request: Request, service: &Arc<Service>) -> Result<Self> {
        let bytes = to_bytes(request.into_body(), usize::MAX).await;
        let bytes = bytes.map_err(|error| ServeError::Body {
            status: StatusCode::BAD_REQUEST,
            reason: error.to_string(),
        })?;
        let (size, most) = (bytes.len(), service.limits.max_client_batch_size);
        let read = move || {
            let body = Json::<T>::from_bytes(&bytes);
            let Json(body) = body.map_err(|rejected| ServeError::Body {
                status: rejected.status(),
                reason: rejected.body_text(),
            })?;
            match body.inputs() {
                found if found > most => Err(ServeError::TooMany { found, most }),
                _ => Ok(Self(body)),
            }
        };
        service.workers.run_if_large(size, read).await?
    }
}

/// A name in the path of a request.
pub(crate) struct Named(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ServeError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(rejected) => Err(ServeError::Value(rejected.body_text())),
        }
    }
}

/// The model that a request names: in its path or in its body, or else the only one.
pub(crate) fn model(
    service: &Service,
    path: Option<&Named>,
    body: Option<&str>,
) -> Result<Arc<Model>> {
    let path = path.map(|Named(name)| name.as_str());
    if let (Some(path), Some(body)) = (path, body)
        && path != body
    {
        let reason = format!("the path names the model {path:?}, and `model` {body:?}: name one");
        return Err(ServeError::Value(reason));
    }
    service.models.get(path.or(body))
}

/// The objects of the answers, which say of each text what is answered.
pub(crate) fn objects(answers: &Answers) -> impl Iterator<Item = &Map<String, Value>> {
    answers
        .predicted
        .objects
        .iter()
        .filter_map(Value::as_object)
}

/// A number of an answer. They were written from f32, and are these again.
pub(crate) fn number(value: &Value) -> f32 {
    value.as_f64().unwrap_or_default() as f32
}
