//! What happens to every request around its answer: an id, the token, limits, the log.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use crate::answers::Account;
use crate::api::Of;
use crate::error::{Refused, Result, ServeError};
use crate::request_id::{REQUEST_ID, RequestId};
use crate::service::{SMALL_BODY, Service};

/// How fast a large body has to come, in bytes a second, where others wait for its place; and how
/// often that is looked at.
const LEAST_RATE: usize = 1 << 16;
const LOOK: Duration = Duration::from_millis(250);

/// Gives a request the id that it came with or a new one, counts it, and writes a line about it
/// into the log: never its text. Also of one that nobody waited for, and of one whose work ended
/// in a panic.
pub(crate) async fn watched(State(service): Of, mut request: Request, next: Next) -> Response {
    // Of a path that is not there nothing is kept: whoever asks makes these up.
    let path = request.extensions().get::<MatchedPath>();
    let mut watch = Watch {
        id: RequestId::of(request.headers()),
        method: request.method().clone(),
        path: path.map_or("other", MatchedPath::as_str).to_owned(),
        began: Instant::now(),
        service,
        is_answered: false,
    };
    request.extensions_mut().insert(watch.id.clone());
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answered.unwrap_or_else(|_| {
        ServeError::Failed("the work ended unexpectedly".into()).into_response()
    });
    watch.answered(&mut response);
    response
}

/// A request on its way.
struct Watch {
    id: RequestId,
    method: Method,
    path: String,
    began: Instant,
    service: Arc<Service>,
    is_answered: bool,
}

/// What proxies call a request whose client has gone.
const CLIENT_CLOSED_REQUEST: u16 = 499;

impl Watch {
    fn answered(&mut self, response: &mut Response) {
        self.is_answered = true;
        let (took, status) = (self.began.elapsed(), response.status().as_u16());
        self.service.metrics.answered(&self.path, status, took);
        let account = response.extensions().get::<Account>().cloned();
        let refused = response.extensions().get::<Refused>().cloned();
        let headers = response.headers_mut();
        headers.insert("x-total-time", milliseconds(took));
        if let Ok(id) = HeaderValue::from_str(&self.id.0) {
            headers.insert(REQUEST_ID, id);
        }
        let Self {
            id: RequestId(id),
            method,
            path,
            ..
        } = self;
        let total_ms = took.as_millis() as u64;
        match (account, refused) {
            (Some(Account { model, cost }), _) => {
                headers.insert("x-queue-time", milliseconds(cost.queued));
                headers.insert("x-inference-time", milliseconds(cost.computing));
                headers.insert("x-compute-tokens", cost.tokens.into());
                let (inputs, tokens) = (cost.inputs, cost.tokens);
                let queue_ms = cost.queued.as_millis() as u64;
                let compute_ms = cost.computing.as_millis() as u64;
                tracing::info!(
                    request_id = id,
                    %method,
                    path,
                    status,
                    model,
                    inputs,
                    tokens,
                    queue_ms,
                    compute_ms,
                    total_ms,
                    "answered"
                );
            }
            (None, Some(Refused { code, reason })) => match reason {
                None => {
                    let error_type = code;
                    tracing::info!(request_id = id, %method, path, status, error_type, total_ms, "refused");
                }
                Some(reason) => {
                    tracing::error!(request_id = id, %method, path, status, total_ms, reason, "failed");
                }
            },
            (None, None) => {
                tracing::info!(request_id = id, %method, path, status, total_ms, "answered");
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        let (took, status) = (self.began.elapsed(), CLIENT_CLOSED_REQUEST);
        self.service.metrics.answered(&self.path, status, took);
        let Self {
            id: RequestId(id),
            method,
            path,
            ..
        } = self;
        let total_ms = took.as_millis() as u64;
        tracing::info!(request_id = id, %method, path, status, total_ms, "nobody waited for it");
    }
}

/// Milliseconds as text-embeddings-inference writes them.
fn milliseconds(time: Duration) -> HeaderValue {
    (time.as_millis() as u64).into()
}

/// Wants the token, where the service has one.
pub(crate) async fn guarded(State(service): Of, request: Request, next: Next) -> Response {
    match &service.token {
        Some(token) if !token.is_in(request.headers()) => ServeError::Unauthorized.into_response(),
        _ => next.run(request).await,
    }
}

/// Wants the token, and that the service has one.
pub(crate) async fn with_token_alone(State(service): Of, request: Request, next: Next) -> Response {
    match &service.token {
        None => ServeError::NoToken.into_response(),
        Some(token) if !token.is_in(request.headers()) => ServeError::Unauthorized.into_response(),
        Some(_) => next.run(request).await,
    }
}

/// Whether all of a request's body is there.
#[derive(Clone, Default)]
struct IsRead(Arc<AtomicBool>);

/// Gives each request as long as the limit says, from its headers to its answer. One that is given
/// up leaves the queue. Whose fault it was depends on whether its body was there.
pub(crate) async fn timed(State(service): Of, mut request: Request, next: Next) -> Response {
    let (limit, is_read) = (service.limits.timeout, IsRead::default());
    request.extensions_mut().insert(is_read.clone());
    match timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) if is_read.0.load(Ordering::Relaxed) => {
            ServeError::Timeout { limit }.into_response()
        }
        Err(_) => late(limit).into_response(),
    }
}

/// Why a request is given up whose body does not come.
fn late(limit: Duration) -> ServeError {
    let seconds = limit.as_secs_f32();
    ServeError::Body {
        status: StatusCode::REQUEST_TIMEOUT,
        reason: format!("not all of the body came in {seconds} s"),
    }
}

/// Reads the body of a request, which has to be JSON where there is one, and has a place for one
/// that is large, until the request is answered and what was made of it is gone.
pub(crate) async fn with_body(State(service): Of, request: Request, next: Next) -> Response {
    if request.method() == Method::POST && !is_json(media_type(request.headers())) {
        return ServeError::Body {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            reason: "expected the header `Content-Type: application/json`".into(),
        }
        .into_response();
    }
    let ((parts, body), limit) = (request.into_parts(), service.limits.timeout);
    match timeout(limit, read(body, &service)).await {
        Ok(Ok((bytes, _place))) => {
            if let Some(IsRead(is_read)) = parts.extensions.get() {
                is_read.store(true, Ordering::Relaxed);
            }
            let request = Request::from_parts(parts, Body::from(bytes));
            next.run(request).await
        }
        Ok(Err(error)) => error.into_response(),
        Err(_) => late(limit).into_response(),
    }
}

async fn read(mut body: Body, service: &Service) -> Result<(Vec<u8>, Option<SemaphorePermit<'_>>)> {
    let most = service.limits.max_body_bytes;
    // So that it need not be sent first.
    if body.size_hint().lower() > most as u64 {
        return Err(ServeError::TooLarge { most });
    }
    let (mut bytes, mut place) = (Vec::new(), None);
    let mut since = Instant::now();
    loop {
        let frame = match place {
            None => body.frame().await,
            Some(_) => {
                let beyond = bytes.len() - SMALL_BODY;
                let is_slow = beyond < since.elapsed().as_secs() as usize * LEAST_RATE;
                if is_slow && service.large_bodies.available_permits() == 0 {
                    return Err(ServeError::Body {
                        status: StatusCode::REQUEST_TIMEOUT,
                        reason: format!(
                            "less than {} KiB of the body came in a second, and all places for \
                             large bodies are taken",
                            LEAST_RATE >> 10
                        ),
                    });
                }
                match timeout(LOOK, body.frame()).await {
                    Ok(frame) => frame,
                    Err(_) => continue,
                }
            }
        };
        let Some(frame) = frame else {
            return Ok((bytes, place));
        };
        let frame = frame.map_err(|error| ServeError::Body {
            status: StatusCode::BAD_REQUEST,
            reason: format!("the body cannot be read: {error}"),
        })?;
        // Trailers say nothing here.
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        bytes.extend_from_slice(&piece);
        if bytes.len() > most {
            return Err(ServeError::TooLarge { most });
        }
        // Not before: who sends slowly takes no more of it than anybody may.
        if bytes.len() > SMALL_BODY && place.is_none() {
            let free = service.large_bodies.try_acquire();
            place = Some(free.map_err(|_| ServeError::BusyBodies)?);
            since = Instant::now();
        }
    }
}

/// What kind of thing a body is, by the header that says it.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let given = headers.get(header::CONTENT_TYPE);
    let given = given.and_then(|given| given.to_str().ok());
    let kind = given.and_then(|given| given.split(';').next());
    kind.unwrap_or_default().trim()
}

/// `application/json`, and what is JSON by its suffix.
fn is_json(media_type: &str) -> bool {
    let kind = media_type.to_ascii_lowercase();
    let subtype = kind.strip_prefix("application/");
    subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

/// Refuses what comes once the service was asked to end, and then closes the connection.
pub(crate) async fn before_stopping(State(service): Of, request: Request, next: Next) -> Response {
    if !service.stopping.is_asked() {
        return next.run(request).await;
    }
    let mut response = ServeError::Stopping.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Refuses what is at no path.
pub(crate) async fn nowhere(request: Request) -> ServeError {
    let path = request.uri().path().into();
    ServeError::NoSuchPath { path }
}

/// Refuses what a path does not take.
pub(crate) async fn otherwise(request: Request) -> ServeError {
    ServeError::NoSuchMethod {
        path: request.uri().path().into(),
        method: request.method().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_by_its_header() {
        let is_json = |kind: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
            super::is_json(media_type(&headers))
        };
        for kind in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/ld+json",
        ] {
            assert!(is_json(kind), "{kind}");
        }
        for kind in [
            "",
            "json",
            "text/json",
            "application/x-ndjson",
            "application/jsonl",
        ] {
            assert!(!is_json(kind), "{kind}");
        }
        assert_eq!(media_type(&HeaderMap::new()), "");
    }
}
