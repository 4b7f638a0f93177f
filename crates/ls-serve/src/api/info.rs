//! What a service tells of itself: `/health`, `/info`, `/metrics`.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use ls_data::TaskKind;
use ls_train::Problem;
use serde::Serialize;
use utoipa::ToSchema;

use super::Of;
use crate::engine::NOBODY;
use crate::error::{ErrorBody, Result, ServeError};
use crate::models::Model;

/// Whether the service answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    #[schema(example = "ok")]
    pub status: &'static str,
}

/// What the service answers with, and how much it takes.
#[derive(Debug, Serialize, ToSchema)]
pub struct Info {
    /// Version of the program.
    #[schema(example = "0.1.0")]
    pub version: &'static str,
    /// Element type of the base's weights, and how they are packed; absent of a whole model.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "f32")]
    pub base_dtype: Option<String>,
    /// The models, by name.
    pub models: Vec<ModelInfo>,
    /// Tokens of one pass over the weights.
    pub max_batch_tokens: usize,
    /// Tokens of all requests that are taken and not answered, and words of one for a tagger.
    pub max_queue_tokens: usize,
    /// Requests at once.
    pub max_concurrent_requests: usize,
    /// Streams of lines at once.
    pub max_streams: usize,
    /// Inputs of one request.
    pub max_client_batch_size: usize,
    /// Bytes of the body of one request, and of a line of a stream.
    pub max_body_bytes: usize,
    /// Seconds from a request to its answer.
    pub timeout: f32,
}

/// A model that answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelInfo {
    /// By which requests choose it.
    #[schema(example = "sentiment")]
    pub name: String,
    /// `sequence` or `token`.
    #[schema(example = "sequence")]
    pub task: String,
    /// What it has learnt: `single_label_classification`, `multi_label_classification`,
    /// `regression` or `token_classification`.
    #[schema(example = "single_label_classification")]
    pub problem_type: &'static str,
    /// Its labels, in the order of its outputs.
    pub labels: Vec<String>,
    /// Whether it has learnt pairs of texts; absent of a tagger, and where nothing tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub pairs: Option<bool>,
    /// Tokens of an input at most; what it does with longer ones is its own.
    pub max_input_length: usize,
    /// Where any number of labels may hold: the score from which on each of them does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub thresholds: Option<Vec<f32>>,
    /// The score under which it answers nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub abstain_below: Option<f32>,
    /// The scheme that the tags of a sentence are of together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "iob2")]
    pub constrained: Option<&'static str>,
    /// Which layers see to the right.
    #[schema(example = "bidirectional")]
    pub attention: String,
}

impl From<&Model> for ModelInfo {
    fn from(model: &Model) -> Self {
        let settings = &model.predictor.settings;
        let (problem, decoding) = (model.predictor.problem(), model.predictor.decoding());
        let thresholds = || settings.calibration.thresholds(settings.labels.len());
        Self {
            name: model.name.clone(),
            task: match settings.task {
                TaskKind::Sequence => "sequence".into(),
                TaskKind::Token => "token".into(),
            },
            problem_type: match problem {
                Problem::SingleLabel => "single_label_classification",
                Problem::MultiLabel => "multi_label_classification",
                Problem::Regression => "regression",
                Problem::Tags(_) => "token_classification",
            },
            labels: settings.labels.names().to_vec(),
            pairs: model.pairs.filter(|_| settings.task == TaskKind::Sequence),
            max_input_length: settings.max_length,
            thresholds: (problem == Problem::MultiLabel).then(thresholds),
            abstain_below: decoding.abstain_below,
            constrained: decoding.constrained.map(|scheme| scheme.name()),
            attention: settings.attention.to_string(),
        }
    }
}

/// Whether the service answers; it wants no token.
#[utoipa::path(
    get,
    path = "/health",
    tag = "Service",
    security(()),
    responses(
        (status = 200, description = "It does", body = Health),
        (status = 500, description = "It cannot any more: start it anew", body = ErrorBody),
        (status = 503, description = "It is stopping", body = ErrorBody),
    )
)]
pub(crate) async fn health(State(service): Of) -> Result<Json<Health>> {
    if !service.engine.is_alive() {
        return Err(ServeError::Failed(NOBODY.into()));
    }
    Ok(Json(Health { status: "ok" }))
}

/// What the service answers with, and how much it takes.
#[utoipa::path(
    get,
    path = "/info",
    tag = "Service",
    responses(
        (status = 200, description = "Models and limits", body = Info),
        (status = "4XX", description = "There is no token, or another", body = ErrorBody),
        (status = "5XX", description = "It is stopping", body = ErrorBody),
    )
)]
pub(crate) async fn info(State(service): Of) -> Json<Info> {
    let (limits, models) = (&service.limits, service.models.all());
    Json(Info {
        version: env!("CARGO_PKG_VERSION"),
        base_dtype: service
            .models
            .base()
            .map(|base| base.precision().to_string()),
        models: models
            .iter()
            .map(|model| ModelInfo::from(&**model))
            .collect(),
        max_batch_tokens: limits.max_batch_tokens,
        max_queue_tokens: limits.max_queue_tokens,
        max_concurrent_requests: limits.max_concurrent_requests,
        max_streams: limits.max_streams,
        max_client_batch_size: limits.max_client_batch_size,
        max_body_bytes: limits.max_body_bytes,
        timeout: limits.timeout.as_secs_f32(),
    })
}

/// Counters and histograms, in the text format that Prometheus reads.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Service",
    responses(
        (status = 200, description = "Metrics", body = String, content_type = "application/openmetrics-text"),
        (status = "4XX", description = "There is no token, or another", body = ErrorBody),
        (status = "5XX", description = "It is stopping", body = ErrorBody),
    )
)]
pub(crate) async fn metrics(State(service): Of) -> Response {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let waiting = service.engine.waiting_tokens();
    let text = service.metrics.text(waiting, service.models.count());
    ([(header::CONTENT_TYPE, TYPE)], text).into_response()
}
