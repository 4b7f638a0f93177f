//! [`Stopping`]: that a service was asked to end, as all who answer hear it.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use crate::api::Of;
use crate::error::ServeError;

/// Whether a service was asked to end. What it took before is answered.
#[derive(Default)]
pub(crate) struct Stopping(watch::Sender<bool>);

impl Stopping {
    /// Asks for it, which cannot be taken back.
    pub(crate) fn ask(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is asked for.
    pub(crate) async fn asked(&self) {
        // The sender is here for as long as this waits.
        let _ = self.0.subscribe().wait_for(|asked| *asked).await;
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
