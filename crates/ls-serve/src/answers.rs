//! What a request gets: its [`Answers`], what they took, and how the question has them written.

use std::ops::AddAssign;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use ls_train::dataset::Examples;
use ls_train::{Encoded, Predicted};
use serde::Serialize;

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
        let mut response = (kind, self.body).into_response();
        response.extensions_mut().insert(self.account);
        response
    }
}
