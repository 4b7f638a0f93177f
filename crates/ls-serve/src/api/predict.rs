//! `POST /predict`, as text-embeddings-inference has it: the score of every label of a text.

use std::sync::Arc;

use axum::extract::State;
use ls_data::{SequenceExample, TaskKind};
use ls_train::Encoded;
use ls_train::dataset::Examples;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Body, Named, Of, Question, model, number, objects};
use crate::answers::{Answered, Answers, Shape};
use crate::error::{ErrorBody, Result, ServeError};
use crate::models::Model;
use crate::request_id::RequestId;
use crate::service::Service;

/// Texts to be classified.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictRequest {
    /// A text, a pair of texts, or a list of lists of one text or two.
    pub inputs: Inputs,
    /// Which of the models answers, where there are several and the path does not say it.
    #[serde(default)]
    pub model: Option<String>,
    /// Whether the outputs of the head are wanted as they are, and no probabilities.
    #[serde(default)]
    pub raw_scores: bool,
    /// `false`: a text that is longer than the model reads is refused. Otherwise what it does not
    /// read is left out, as in its training.
    #[serde(default)]
    pub truncate: Option<bool>,
    /// At which end of a text that is: models of this project leave out what is on the right.
    #[serde(default)]
    #[expect(dead_code, reason = "known, and of no effect")]
    pub truncation_direction: Option<Direction>,
}

/// An end of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
pub enum Direction {
    /// Its end.
    #[serde(alias = "right")]
    Right,
}

/// A text, a pair of texts, or a list of these.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
pub enum Inputs {
    /// A text.
    #[schema(example = "a film that stays with you")]
    Text(String),
    /// A pair of texts; a list of one is that text.
    Pair(Vec<String>),
    /// A list of texts, each a list of one, and of pairs.
    Batch(Vec<Vec<String>>),
}

/// The score of one label.
#[derive(Debug, Serialize, ToSchema)]
pub struct Prediction {
    /// Its probability, or the number of a regression, or with `raw_scores` the output of the head.
    #[schema(example = 0.97)]
    pub score: f32,
    /// Its name.
    #[schema(example = "positive")]
    pub label: String,
}

/// The labels of a text, the likeliest first; of a list, one such list for each.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum PredictResponse {
    /// Of one text.
    Single(Vec<Prediction>),
    /// Of a list.
    Batch(Vec<Vec<Prediction>>),
}

const EXPECTED: &str = "expected a text, a pair of texts [text, text], or a list of them \
                        [[text], [text, text], ...]";

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // By way of a value, so that a fault is told in our words.
        Self::try_from(Value::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl TryFrom<Value> for Inputs {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let texts = |values: Vec<Value>| match values.len() {
            1 | 2 => values.into_iter().map(text).collect::<Result<Vec<_>, _>>(),
            found => Err(format!("{EXPECTED}; found a list of {found} values")),
        };
        match value {
            Value::Array(values) if values.first().is_some_and(Value::is_array) => {
                let of_list = |value| match value {
                    Value::Array(values) => texts(values),
                    other => text(other).map(|text| vec![text]),
                };
                Ok(Self::Batch(
                    values.into_iter().map(of_list).collect::<Result<_, _>>()?,
                ))
            }
            Value::Array(values) if values.is_empty() => Ok(Self::Batch(Vec::new())),
            Value::Array(values) if values.len() > 2 && values.iter().all(Value::is_string) => {
                let found = values.len();
                Err(format!(
                    "{EXPECTED}; a list of {found} texts is written [[text], [text], ...]"
                ))
            }
            Value::Array(values) => Ok(Self::Pair(texts(values)?)),
            value => text(value).map(Self::Text),
        }
    }
}

fn text(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(format!("{EXPECTED}; found {}", kind(&other))),
    }
}

/// What a value is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl Inputs {
    /// The texts of each input, and whether they came as a list.
    fn parts(self) -> (Vec<Vec<String>>, bool) {
        match self {
            Self::Text(text) => (vec![vec![text]], false),
            Self::Pair(texts) => (vec![texts], false),
            Self::Batch(all) => (all, true),
        }
    }
}

impl Question for PredictRequest {
    fn inputs(&self) -> usize {
        match &self.inputs {
            Inputs::Batch(all) => all.len(),
            Inputs::Text(_) | Inputs::Pair(_) => 1,
        }
    }
}

/// The labels of texts, the likeliest first.
struct Labels {
    is_list: bool,
    raw_scores: bool,
    /// Whether a text is refused of which not all is read.
    whole: bool,
}

impl Shape for Labels {
    type Body = PredictResponse;

    fn check(&self, model: &Model, encoded: &Encoded) -> Result<()> {
        check_readable(encoded)?;
        let longer = encoded.cut().cut_examples;
        if self.whole && longer > 0 {
            let most = model.predictor.settings.max_length;
            return Err(ServeError::Value(format!(
                "the model reads {most} tokens of a text at most, and {longer} of these are \
                 longer: shorten them, or leave `truncate` out"
            )));
        }
        Ok(())
    }

    fn body(self, model: &Model, answers: &Answers) -> Result<PredictResponse> {
        let labels = model.predictor.settings.labels.names();
        let of_text = |(index, object): (usize, &Map<String, Value>)| {
            let raw = answers.raw_scores.get(index).and_then(Option::as_ref);
            let score = |(at, label): (usize, &String)| match raw {
                Some(raw) if self.raw_scores => raw[at],
                _ => number(&object["scores"][label]),
            };
            let all = labels.iter().enumerate().map(|(at, label)| Prediction {
                score: score((at, label)),
                label: label.clone(),
            });
            let mut all: Vec<_> = all.collect();
            // Of equal ones the first stays the first, as it does in `label`.
            all.sort_by(|a, b| b.score.total_cmp(&a.score));
            all
        };
        let mut all: Vec<_> = objects(answers).enumerate().map(of_text).collect();
        Ok(match all.pop() {
            Some(only) if !self.is_list => PredictResponse::Single(only),
            last => {
                all.extend(last);
                PredictResponse::Batch(all)
            }
        })
    }
}

/// Refuses texts in which the model can read nothing.
pub(super) fn check_readable(encoded: &Encoded) -> Result<()> {
    match encoded.unreadable().next() {
        Some((index, reason)) => Err(ServeError::Unreadable { index, reason }),
        None => Ok(()),
    }
}

/// Answers with the model that the path or the body names.
async fn answer(
    service: &Service,
    id: &RequestId,
    path: Option<&Named>,
    request: PredictRequest,
) -> Result<Answered> {
    let model = model(service, path, request.model.as_deref())?;
    let (texts, is_list) = request.inputs.parts();
    let shape = Labels {
        is_list,
        raw_scores: request.raw_scores,
        whole: request.truncate == Some(false),
    };
    of_texts(service, id, &model, texts, shape).await
}

/// Answers for texts, each of one part or two.
pub(super) async fn of_texts(
    service: &Service,
    id: &RequestId,
    model: &Arc<Model>,
    texts: Vec<Vec<String>>,
    shape: impl Shape,
) -> Result<Answered> {
    if model.task() != TaskKind::Sequence {
        return Err(ServeError::OtherTask {
            name: model.name.clone(),
            found: "words",
            instead: "/ner",
        });
    }
    let example = |(index, parts): (usize, Vec<String>)| {
        let mut parts = parts.into_iter();
        SequenceExample {
            text: parts.next().unwrap_or_default(),
            text_pair: parts.next(),
            label: None,
            line: index + 1,
            extra: None,
        }
    };
    let examples: Vec<_> = texts.into_iter().enumerate().map(example).collect();
    if let Some(pairs) = model.pairs
        && let Some(at) = examples
            .iter()
            .position(|of| of.text_pair.is_some() != pairs)
    {
        let name = &model.name;
        let reason = if pairs {
            format!(
                "input {at}: the model {name:?} has learnt pairs of texts: ask /predict for [text, \
                 text]"
            )
        } else {
            format!(
                "input {at}: the model {name:?} has learnt single texts, and this is a pair: a list \
                 of texts is written [[text], [text], ...]"
            )
        };
        return Err(ServeError::Value(reason));
    }
    let examples = Examples::Sequence(examples);
    service.answers(id, model, examples, shape).await
}

/// Classifies texts with the only model, or the one that `model` names.
#[utoipa::path(
    post,
    path = "/predict",
    tag = "Texts",
    request_body = PredictRequest,
    responses(
        (status = 200, description = "The labels of each text, the likeliest first", body = PredictResponse),
        (status = "4XX", description = "The request cannot be answered", body = ErrorBody),
        (status = "5XX", description = "Try again later", body = ErrorBody),
    )
)]
pub(crate) async fn predict(
    State(service): Of,
    id: RequestId,
    Body(request): Body<PredictRequest>,
) -> Result<Answered> {
    answer(&service, &id, None, request).await
}

/// Classifies texts with the model that the path names.
#[utoipa::path(
    post,
    path = "/models/{model}/predict",
    tag = "Texts",
    params(("model" = String, Path, description = "Name of the model")),
    request_body = PredictRequest,
    responses(
        (status = 200, description = "The labels of each text, the likeliest first", body = PredictResponse),
        (status = "4XX", description = "The request cannot be answered", body = ErrorBody),
        (status = "5XX", description = "Try again later", body = ErrorBody),
    )
)]
pub(crate) async fn predict_with(
    State(service): Of,
    id: RequestId,
    model: Named,
    Body(request): Body<PredictRequest>,
) -> Result<Answered> {
    answer(&service, &id, Some(&model), request).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parts(value: Value) -> Result<(Vec<Vec<String>>, bool), String> {
        Inputs::try_from(value).map(Inputs::parts)
    }

    #[test]
    fn inputs_are_read_as_text_embeddings_inference_reads_them() {
        let list = |texts: &[&[&str]]| -> Vec<Vec<String>> {
            let texts = texts.iter();
            texts
                .map(|of| of.iter().map(ToString::to_string).collect())
                .collect()
        };
        assert_eq!(parts(json!("a")), Ok((list(&[&["a"]]), false)));
        assert_eq!(parts(json!(["a"])), Ok((list(&[&["a"]]), false)));
        assert_eq!(parts(json!(["a", "b"])), Ok((list(&[&["a", "b"]]), false)));
        assert_eq!(parts(json!([["a"]])), Ok((list(&[&["a"]]), true)));
        let mixed = parts(json!([["a"], ["b", "c"], "d"]));
        assert_eq!(mixed, Ok((list(&[&["a"], &["b", "c"], &["d"]]), true)));
        assert_eq!(parts(json!([])), Ok((Vec::new(), true)));
        for (bad, said) in [
            (
                json!(["a", "b", "c"]),
                "a list of 3 texts is written [[text], [text], ...]",
            ),
            (json!([["a", "b", "c"]]), "found a list of 3 values"),
            (json!([[]]), "found a list of 0 values"),
            (json!(7), "found a number"),
            (json!(["a", 7]), "found a number"),
            (json!({"text": "a"}), "found an object"),
            (json!(null), "found null"),
        ] {
            let error = parts(bad.clone()).unwrap_err();
            assert!(error.contains(said), "{bad}: {error}");
        }
    }
}
