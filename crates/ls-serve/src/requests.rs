//! What happens to every request around its answer: an id, the token, limits, the log.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::api::{Account, Of};
use crate::error::ServeError;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A name that no other request of this process has, nor likely one of another.
pub(crate) fn request_id() -> String {
    static PROCESS: LazyLock<u32> = LazyLock::new(|| RandomState::new().hash_one(0) as u32);
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!(
        "{:08x}-{:x}",
        *PROCESS,
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Gives a request the id that it came with or a new one, counts it, and writes a line about it
/// into the log: never its text.
pub(crate) async fn watched(State(service): Of, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = id_of(request.headers());
    let method = request.method().clone();
    // Of a path that is not there nothing is kept: whoever asks makes these up.
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or("other", MatchedPath::as_str).to_owned();
    let mut response = next.run(request).await;
    let (took, status) = (began.elapsed(), response.status());
    service.metrics.answered(&path, status.as_u16(), took);
    let account = response.extensions().get::<Account>().cloned();
    let headers = response.headers_mut();
    headers.insert("x-total-time", milliseconds(took));
    match account {
        Some(Account { model, cost }) => {
            headers.insert("x-queue-time", milliseconds(cost.queued));
            headers.insert("x-inference-time", milliseconds(cost.computing));
            headers.insert("x-compute-tokens", cost.tokens.into());
            tracing::info!(
                request_id = id,
                %method,
                path,
                status = status.as_u16(),
                model,
                inputs = cost.inputs,
                tokens = cost.tokens,
                queue_ms = cost.queued.as_millis() as u64,
                compute_ms = cost.computing.as_millis() as u64,
                total_ms = took.as_millis() as u64,
                "answered"
            );
        }
        None => {
            let total_ms = took.as_millis() as u64;
            let status = status.as_u16();
            tracing::info!(request_id = id, %method, path, status, total_ms, "answered");
        }
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// The id that a request came with, if it may stand in a log.
fn id_of(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let usable =
        |id: &&str| (1..=128).contains(&id.len()) && id.chars().all(|c| c.is_ascii_graphic());
    given
        .filter(usable)
        .map_or_else(request_id, ToOwned::to_owned)
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

/// Gives each request as long as the limit says, from its headers to its answer. One that is given
/// up leaves the queue.
pub(crate) async fn timed(State(service): Of, request: Request, next: Next) -> Response {
    let limit = service.limits.timeout;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ServeError::Timeout { limit }.into_response(),
    }
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
