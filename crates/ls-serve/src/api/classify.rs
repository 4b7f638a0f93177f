//! `POST /classify`, as vLLM has it: the likeliest label of a text, and the probabilities of all.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use ls_train::Encoded;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::predict::{check_readable, kind, of_texts};
use super::{Body, Named, Of, Question, model, number, objects};
use crate::answers::{Answered, Answers, Shape};
use crate::error::{ErrorBody, Result};
use crate::models::Model;
use crate::request_id::RequestId;
use crate::service::Service;

/// Texts to be classified.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassifyRequest {
    /// A text, or a list of texts.
    pub input: Texts,
    /// Which of the models answers, where there are several and the path does not say it.
    #[serde(default)]
    pub model: Option<String>,
    /// `false`: the outputs of the head are wanted as they are, and no probabilities.
    #[serde(default)]
    pub use_activation: Option<bool>,
    /// Says nothing here.
    #[serde(default)]
    #[expect(dead_code, reason = "known, and of no effect")]
    pub user: Option<String>,
    /// Says nothing here.
    #[serde(default)]
    #[expect(dead_code, reason = "known, and of no effect")]
    pub priority: Option<i64>,
}

/// A text, or a list of texts.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
pub enum Texts {
    /// A text.
    #[schema(example = "a film that stays with you")]
    One(String),
    /// A list of texts.
    List(Vec<String>),
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // By way of a value, so that a fault is told in our words.
        Self::try_from(Value::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl TryFrom<Value> for Texts {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let expected =
            |value: &Value| format!("expected a text or a list of texts, found {}", kind(value));
        match value {
            Value::String(text) => Ok(Self::One(text)),
            Value::Array(values) => {
                let text = |value| match value {
                    Value::String(text) => Ok(text),
                    other => Err(format!("{} in a list", expected(&other))),
                };
                Ok(Self::List(
                    values.into_iter().map(text).collect::<Result<_, _>>()?,
                ))
            }
            other => Err(expected(&other)),
        }
    }
}

/// What `/classify` answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClassifyResponse {
    /// The request's.
    #[schema(example = "classify-7d2f91c0-1")]
    pub id: String,
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    /// The model that answered.
    #[schema(example = "sentiment")]
    pub model: String,
    /// One for each text.
    pub data: Vec<Classification>,
    /// Tokens that were read.
    pub usage: Usage,
}

/// The answer for one text.
#[derive(Debug, Serialize, ToSchema)]
pub struct Classification {
    /// Place of the text in the list, from 0.
    pub index: usize,
    /// The likeliest label; of a regression the name of its number.
    #[schema(example = "positive")]
    pub label: Option<String>,
    /// The probability of each label, in the model's order; of a regression its number; without
    /// `use_activation` the outputs of the head.
    pub probs: Vec<f32>,
    /// How many labels the model has.
    pub num_classes: usize,
    /// Those that hold, of a model for which any number of labels may.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub labels: Option<Vec<String>>,
}

/// Tokens that were read.
#[derive(Debug, Serialize, ToSchema)]
pub struct Usage {
    /// Of all texts together.
    pub prompt_tokens: usize,
    /// The same.
    pub total_tokens: usize,
    /// None: a classifier writes no text.
    pub completion_tokens: usize,
}

impl Question for ClassifyRequest {
    fn inputs(&self) -> usize {
        match &self.input {
            Texts::One(_) => 1,
            Texts::List(texts) => texts.len(),
        }
    }
}

/// The likeliest label of each text, in the answer to the request of this id.
struct Likeliest {
    id: RequestId,
    raw_scores: bool,
}

impl Shape for Likeliest {
    type Body = ClassifyResponse;

    fn check(&self, _: &Model, encoded: &Encoded) -> Result<()> {
        check_readable(encoded)
    }

    fn body(self, model: &Model, answers: &Answers) -> Result<ClassifyResponse> {
        let names = model.predictor.settings.labels.names();
        let classification = |(index, object): (usize, &Map<String, Value>)| {
            let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
            let labels = object.get("labels").and_then(Value::as_array);
            let raw = answers.raw_scores.get(index).and_then(Option::as_ref);
            let probability = |name| number(&object["scores"][name]);
            Classification {
                index,
                label: text(&object["label"]),
                probs: match raw {
                    Some(raw) if self.raw_scores => raw.clone(),
                    _ => names.iter().map(probability).collect(),
                },
                num_classes: names.len(),
                labels: labels.map(|labels| labels.iter().filter_map(text).collect()),
            }
        };
        let tokens = answers.cost.tokens;
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let RequestId(id) = &self.id;
        Ok(ClassifyResponse {
            id: format!("classify-{id}"),
            object: "list",
            created: since.map_or(0, |since| since.as_secs()),
            model: model.name.clone(),
            data: objects(answers).enumerate().map(classification).collect(),
            usage: Usage {
                prompt_tokens: tokens,
                total_tokens: tokens,
                completion_tokens: 0,
            },
        })
    }
}

async fn answer(
    service: &Service,
    id: &RequestId,
    path: Option<&Named>,
    request: ClassifyRequest,
) -> Result<Answered> {
    let model = model(service, path, request.model.as_deref())?;
    let texts = match request.input {
        Texts::One(text) => vec![vec![text]],
        Texts::List(texts) => texts.into_iter().map(|text| vec![text]).collect(),
    };
    let shape = Likeliest {
        id: id.clone(),
        raw_scores: request.use_activation == Some(false),
    };
    of_texts(service, id, &model, texts, shape).await
}

/// Classifies texts with the only model, or the one that `model` names.
#[utoipa::path(
    post,
    path = "/classify",
    tag = "Texts",
    request_body = ClassifyRequest,
    responses(
        (status = 200, description = "The likeliest label of each text", body = ClassifyResponse),
        (status = "4XX", description = "The request cannot be answered", body = ErrorBody),
        (status = "5XX", description = "Try again later", body = ErrorBody),
    )
)]
pub(crate) async fn classify(
    State(service): Of,
    id: RequestId,
    Body(request): Body<ClassifyRequest>,
) -> Result<Answered> {
    answer(&service, &id, None, request).await
}

/// Classifies texts with the model that the path names.
#[utoipa::path(
    post,
    path = "/models/{model}/classify",
    tag = "Texts",
    params(("model" = String, Path, description = "Name of the model")),
    request_body = ClassifyRequest,
    responses(
        (status = 200, description = "The likeliest label of each text", body = ClassifyResponse),
        (status = "4XX", description = "The request cannot be answered", body = ErrorBody),
        (status = "5XX", description = "Try again later", body = ErrorBody),
    )
)]
pub(crate) async fn classify_with(
    State(service): Of,
    id: RequestId,
    model: Named,
    Body(request): Body<ClassifyRequest>,
) -> Result<Answered> {
    answer(&service, &id, Some(&model), request).await
}
