//! What is asked for and answered, one file for each kind of question.

pub(crate) mod adapters;
pub(crate) mod batch;
pub(crate) mod classify;
pub(crate) mod info;
pub(crate) mod ner;
pub(crate) mod predict;

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Result, ServeError};
use crate::models::Model;
use crate::service::{Cost, Service};

/// The service that a handler works for.
pub(crate) type Of = State<Arc<Service>>;

/// The JSON body of a request.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Service>> for Body<T> {
    type Rejection = ServeError;

    async fn from_request(request: Request, service: &Arc<Service>) -> Result<Self> {
        match Json::<T>::from_request(request, service).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejected) => Err(ServeError::Body {
                status: rejected.status(),
                reason: rejected.body_text(),
            }),
        }
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

/// An answer, and what is written about it in the log and in the headers.
pub(crate) struct Answered<T> {
    pub(crate) body: T,
    pub(crate) account: Account,
}

/// What is written about a request.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) model: String,
    pub(crate) cost: Cost,
}

impl<T: Serialize> IntoResponse for Answered<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.body).into_response();
        response.extensions_mut().insert(self.account);
        response
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

/// The objects of the answers. One input in which the model can read nothing refuses all.
pub(crate) fn readable<'a>(objects: &'a [Value]) -> Result<Vec<&'a Map<String, Value>>> {
    let object = |(index, object): (usize, &'a Value)| {
        let object = object.as_object();
        let fault = object.and_then(|object| object.get("error")?.as_str());
        match (object, fault) {
            (Some(object), None) => Ok(object),
            (_, fault) => Err(ServeError::Unreadable {
                index,
                reason: fault.unwrap_or("there is no answer").into(),
            }),
        }
    };
    objects.iter().enumerate().map(object).collect()
}

/// A number of an answer. They were written from f32, and are these again.
pub(crate) fn number(value: &Value) -> f32 {
    value.as_f64().unwrap_or_default() as f32
}
