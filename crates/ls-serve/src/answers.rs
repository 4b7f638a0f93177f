//! What a request gets: its [`Answers`], what they took, and how the question has them written.

use std::convert::Infallible;
use std::ops::AddAssign;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use ls_train::dataset::Examples;
use ls_train::{Encoded, Predicted};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use crate::engine::Computed;
use crate::error::Result;
use crate::models::Model;

/// The answers to a request, and what they took.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) predicted: Predicted,
    /// Of each text, before anything makes scores of it; empty of a tagger.
    pub(crate) raw_scores: Vec<Option<Vec<f32>>>,
    pub(crate) cost: Cost,
}

/// What a request took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) inputs: usize,
    pub(crate) tokens: usize,
    pub(crate) queued: Duration,
    pub(crate) computing: Duration,
}

impl Cost {
    /// Of examples whose logits are computed.
    pub(crate) fn of(examples: &Examples, encoded: &Encoded, computed: &Computed) -> Self {
        Self {
            inputs: examples.len(),
            tokens: encoded.lengths().iter().sum(),
            queued: computed.queued,
            computing: computed.computing,
        }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.inputs += other.inputs;
        self.tokens += other.tokens;
        self.queued += other.queued;
        self.computing += other.computing;
    }
}

/// What a kind of question makes of its answers.
pub(crate) trait Shape: Send + 'static {
    /// What is written of them.
    type Body: Serialize;

    /// Refuses what need not be computed to be refused.
    ///
    /// # Errors
    ///
    /// If it does.
    fn check(&self, _model: &Model, _encoded: &Encoded) -> Result<()> {
        Ok(())
    }

    /// Writes them.
    ///
    /// # Errors
    ///
    /// If they cannot be had so.
    fn body(self, model: &Model, answers: &Answers) -> Result<Self::Body>;
}

/// An answer as JSON, and what is written about it in the log and in the headers.
pub(crate) struct Answered {
    pub(crate) body: Bytes,
    /// Of one that is large.
    pub(crate) place: Option<OwnedSemaphorePermit>,
    pub(crate) account: Account,
}

/// What is written about a request.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) model: String,
    pub(crate) cost: Cost,
}

impl IntoResponse for Answered {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "application/json")];
        let body = Pieces {
            left: self.body,
            _place: self.place,
        };
        let mut response = (kind, Body::new(body)).into_response();
        response.extensions_mut().insert(self.account);
        response
    }
}

/// Bytes of an answer that are handed to a connection at a time.
const PIECE: usize = 1 << 16;

/// What is left of an answer. It is handed on as it is taken, and has its place until then: at once
/// it would be the connection's, and nobody would know how much waits there.
struct Pieces {
    left: Bytes,
    _place: Option<OwnedSemaphorePermit>,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let count = self.left.len().min(PIECE);
        let piece = self.left.split_to(count);
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}
