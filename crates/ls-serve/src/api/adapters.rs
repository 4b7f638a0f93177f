//! `/adapters`: models that come and go while the service works; with its token alone.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::info::ModelInfo;
use super::{Body, Named, Of, Question};
use crate::error::{ErrorBody, Result, ServeError};
use crate::models::{Model, Source};

/// An adapter to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAdapter {
    /// By which requests will choose it: 1 to 128 letters, digits, `.`, `_` and `-`.
    #[schema(example = "topics")]
    pub name: String,
    /// A run folder or a PEFT folder on the machine of the service, trained on its base.
    #[schema(value_type = String, example = "/srv/runs/topics")]
    pub path: PathBuf,
}

impl Question for NewAdapter {
    fn inputs(&self) -> usize {
        0
    }
}

/// An adapter, and where it is from.
#[derive(Debug, Serialize, ToSchema)]
pub struct Adapter {
    /// What it answers.
    #[serde(flatten)]
    pub model: ModelInfo,
    /// The folder that it was loaded from.
    #[schema(example = "/srv/runs/topics")]
    pub path: String,
    /// What of base and tokenizer is not as it was in its training: its answers may be wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl From<&Model> for Adapter {
    fn from(model: &Model) -> Self {
        let (Source::Run(path) | Source::Adapter(path) | Source::Model(path)) = &model.source;
        Self {
            model: model.into(),
            path: path.display().to_string(),
            warnings: model.predictor.warnings.clone(),
        }
    }
}

/// The adapters, by name.
#[utoipa::path(
    get,
    path = "/adapters",
    tag = "Adapters",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "All of them", body = [Adapter]),
        (status = "4XX", description = "There is no token, or another", body = ErrorBody),
        (status = "5XX", description = "It is stopping", body = ErrorBody),
    )
)]
pub(crate) async fn list(State(service): Of) -> Json<Vec<Adapter>> {
    let models = service.models.all();
    Json(models.iter().map(|model| Adapter::from(&**model)).collect())
}

/// Loads an adapter and puts it beside the others.
///
/// One is loaded at a time, and also where who asked for it has gone meanwhile: whoever asks again
/// is told that there is one of this name.
#[utoipa::path(
    post,
    path = "/adapters",
    tag = "Adapters",
    security(("bearer" = [])),
    request_body = NewAdapter,
    responses(
        (status = 201, description = "It answers from now on", body = Adapter),
        (status = 409, description = "There is one of this name", body = ErrorBody),
        (status = "4XX", description = "It cannot be loaded, or there is no token", body = ErrorBody),
        (status = "5XX", description = "It is stopping, or failed; the log says why", body = ErrorBody),
    )
)]
pub(crate) async fn add(
    State(service): Of,
    Body(new): Body<NewAdapter>,
) -> Result<(StatusCode, Json<Adapter>)> {
    let NewAdapter { name, path } = new;
    let load = move || {
        let source = if ls_train::is_run(&path)? {
            Source::Run(path)
        } else {
            Source::Adapter(path)
        };
        let model = service.models.add(&name, source)?;
        // Here, since who asked may have gone meanwhile.
        tracing::info!(model = model.name, "added");
        Ok::<_, ServeError>(model)
    };
    let added = tokio::task::spawn_blocking(load).await;
    let unexpected = |_| ServeError::Failed("loading ended unexpectedly".into());
    let model = added.map_err(unexpected)??;
    Ok((StatusCode::CREATED, Json(Adapter::from(&*model))))
}

/// Takes an adapter out. Requests that it is at work for are still answered.
#[utoipa::path(
    delete,
    path = "/adapters/{name}",
    tag = "Adapters",
    security(("bearer" = [])),
    params(("name" = String, Path, description = "Name of the adapter")),
    responses(
        (status = 204, description = "It is gone"),
        (status = "4XX", description = "There is none of this name, or no token", body = ErrorBody),
        (status = "5XX", description = "It is stopping", body = ErrorBody),
    )
)]
pub(crate) async fn remove(State(service): Of, Named(name): Named) -> Result<StatusCode> {
    let model = service.models.remove(&name)?;
    tracing::info!(model = model.name, "removed");
    Ok(StatusCode::NO_CONTENT)
}
