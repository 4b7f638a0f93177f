//! `POST /ner`: the entities in a text or in given words, as the pipeline of transformers has them.

use axum::extract::State;
use ls_data::{SequenceExample, TaskKind, TokenExample, place_words};
use ls_train::Encoded;
use ls_train::dataset::Examples;
use ls_train::inputs::words_of;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::predict::kind;
use super::{Body, Named, Of, Question, model, number, objects};
use crate::answers::{Answered, Answers, Shape};
use crate::error::{ErrorBody, Result, ServeError};
use crate::models::Model;
use crate::request_id::RequestId;
use crate::service::Service;

/// Texts in which entities are looked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NerRequest {
    /// A text or a list of texts; with `is_split_into_words` the words of a text, or of several.
    pub inputs: Words,
    /// Which of the models answers, where there are several and the path does not say it.
    #[serde(default)]
    pub model: Option<String>,
    /// Whether a list of texts is the words of one.
    #[serde(default)]
    pub is_split_into_words: bool,
    /// What becomes of words that stand together. By default `simple` of a tagger of spans, and
    /// `none` of one whose tags are labels.
    #[serde(default)]
    pub aggregation_strategy: Option<Aggregation>,
}

/// A text, a list of texts or words, or a list of lists of words.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
pub enum Words {
    /// A text.
    #[schema(example = "Ada Lovelace met Babbage in London")]
    Text(String),
    /// Texts, or the words of one.
    Texts(Vec<String>),
    /// The words of several.
    Lists(Vec<Vec<String>>),
}

/// What becomes of words that stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Aggregation {
    /// Each word with a tag of its own.
    None,
    /// The words of an entity are one, and its score is their mean.
    Simple,
    /// The same: a model of this project gives each word one tag, by the sub-word that it was
    /// trained on.
    First,
    /// The same.
    Average,
    /// The same.
    Max,
}

/// An entity, or with `none` a tagged word.
#[derive(Debug, Serialize, ToSchema)]
pub struct Entity {
    /// Its type.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "PER")]
    pub entity_group: Option<String>,
    /// With `none`: the word's tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "B-PER")]
    pub entity: Option<String>,
    /// How sure it is: of several words the mean.
    #[schema(example = 0.98)]
    pub score: f32,
    /// With `none`: the word's place among the words, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub index: Option<usize>,
    /// Its text.
    #[schema(example = "Ada Lovelace")]
    pub word: String,
    /// Its first character, counted in Unicode characters from 0.
    pub start: usize,
    /// Behind its last character.
    pub end: usize,
}

/// The entities of a text; of a list, one such list for each.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum NerResponse {
    /// Of one text.
    Single(Vec<Entity>),
    /// Of a list.
    Batch(Vec<Vec<Entity>>),
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // By way of a value, so that a fault is told in our words.
        Self::try_from(Value::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl TryFrom<Value> for Words {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        const EXPECTED: &str = "expected a text, a list of texts, or lists of words";
        let text = |value| match value {
            Value::String(text) => Ok(text),
            other => Err(format!("{EXPECTED}; found {} in a list", kind(&other))),
        };
        match value {
            Value::String(text) => Ok(Self::Text(text)),
            Value::Array(values) if values.first().is_some_and(Value::is_array) => {
                let words = |value| match value {
                    Value::Array(words) => words.into_iter().map(text).collect(),
                    other => Err(format!("{EXPECTED}; found {} among lists", kind(&other))),
                };
                let lists = values.into_iter().map(words).collect::<Result<_, _>>()?;
                Ok(Self::Lists(lists))
            }
            Value::Array(values) => Ok(Self::Texts(
                values.into_iter().map(text).collect::<Result<_, _>>()?,
            )),
            other => Err(format!("{EXPECTED}; found {}", kind(&other))),
        }
    }
}

impl Words {
    /// Bytes of text, and one for each word, which may be empty.
    fn bytes(&self) -> usize {
        let of = |texts: &Vec<String>| texts.iter().map(|text| text.len() + 1).sum::<usize>();
        match self {
            Self::Text(text) => text.len(),
            Self::Texts(texts) => of(texts),
            Self::Lists(lists) => lists.iter().map(of).sum(),
        }
    }

    /// The words of each text, and whether the texts came as a list.
    fn examples(self, is_split: bool) -> Result<(Vec<TokenExample>, bool)> {
        let (texts, is_list) = match (self, is_split) {
            (Self::Text(text), false) => (vec![text], false),
            (Self::Texts(texts), false) => (texts, true),
            (Self::Texts(words), true) => return Ok((vec![of_words(0, words)], false)),
            (Self::Lists(lists), true) => {
                let lists = lists.into_iter().enumerate();
                return Ok((lists.map(|(at, words)| of_words(at, words)).collect(), true));
            }
            (Self::Text(_), true) => {
                let reason = "is_split_into_words: expected a list of words, found a text";
                return Err(ServeError::Value(reason.into()));
            }
            (Self::Lists(_), false) => {
                let reason = "lists of words: say `\"is_split_into_words\": true`";
                return Err(ServeError::Value(reason.into()));
            }
        };
        let example = |(index, text)| {
            words_of(SequenceExample {
                text,
                text_pair: None,
                label: None,
                line: index + 1,
                extra: None,
            })
        };
        Ok((
            texts.into_iter().enumerate().map(example).collect(),
            is_list,
        ))
    }
}

fn of_words(index: usize, tokens: Vec<String>) -> TokenExample {
    TokenExample {
        tokens,
        tags: None,
        line: index + 1,
        extra: None,
    }
}

impl Question for NerRequest {
    fn inputs(&self) -> usize {
        match &self.inputs {
            Words::Text(_) => 1,
            Words::Texts(_) if self.is_split_into_words => 1,
            Words::Texts(texts) => texts.len(),
            Words::Lists(lists) => lists.len(),
        }
    }
}

/// The entities of texts, or their tagged words.
struct Entities {
    is_list: bool,
    aggregation: Option<Aggregation>,
}

impl Shape for Entities {
    type Body = NerResponse;

    fn check(&self, model: &Model, _: &Encoded) -> Result<()> {
        let are_spans = model.predictor.problem().is_of_spans();
        match self.aggregation {
            None | Some(Aggregation::None) => Ok(()),
            Some(_) if are_spans => Ok(()),
            Some(_) => Err(ServeError::Value(format!(
                "the tags of the model {:?} are labels of words, and no spans: take the \
                 aggregation_strategy none",
                model.name
            ))),
        }
    }

    fn body(self, _: &Model, answers: &Answers) -> Result<NerResponse> {
        let entities = |object: &Map<String, Value>| -> Vec<Entity> {
            match (self.aggregation, object.get("entities")) {
                (Some(Aggregation::None), _) => tagged(object),
                (_, Some(Value::Array(entities))) => entities.iter().map(entity).collect(),
                _ => tagged(object),
            }
        };
        let mut all: Vec<_> = objects(answers).map(entities).collect();
        Ok(match all.pop() {
            Some(only) if !self.is_list => NerResponse::Single(only),
            last => {
                all.extend(last);
                NerResponse::Batch(all)
            }
        })
    }
}

async fn answer(
    service: &Service,
    id: &RequestId,
    path: Option<&Named>,
    request: NerRequest,
) -> Result<Answered> {
    let model = model(service, path, request.model.as_deref())?;
    if model.task() != TaskKind::Token {
        return Err(ServeError::OtherTask {
            name: model.name.clone(),
            found: "texts",
            instead: "/predict or /classify",
        });
    }
    let NerRequest {
        inputs,
        is_split_into_words: is_split,
        aggregation_strategy: aggregation,
        ..
    } = request;
    let bytes = inputs.bytes();
    let split = move || inputs.examples(is_split);
    let (examples, is_list) = service.workers.run_if_large(bytes, split).await??;
    let shape = Entities {
        is_list,
        aggregation,
    };
    let examples = Examples::Token(examples);
    service.answers(id, &model, examples, shape).await
}

/// An entity as `predict` writes it.
fn entity(entity: &Value) -> Entity {
    let at = |key: &str| entity[key].as_u64().unwrap_or_default() as usize;
    let text = |key: &str| entity[key].as_str().unwrap_or_default().to_owned();
    Entity {
        entity_group: Some(text("type")),
        entity: None,
        score: number(&entity["score"]),
        index: None,
        word: text("text"),
        start: at("start"),
        end: at("end"),
    }
}

/// The words of an answer that have a tag, and of spans one that is not `O`.
fn tagged(object: &Map<String, Value>) -> Vec<Entity> {
    let texts = |key: &str| -> Vec<String> {
        let values = object.get(key).and_then(Value::as_array);
        let texts = values.into_iter().flatten();
        texts
            .map(|text| text.as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let (words, tags) = (texts("tokens"), texts("tags"));
    let given = object.get("text").and_then(Value::as_str);
    let (_, places) = place_words(given, &words);
    let are_spans = object.contains_key("entities");
    let scores = object.get("tag_scores").and_then(Value::as_array);
    let mut all = Vec::new();
    for (index, (word, (start, end))) in words.into_iter().zip(places).enumerate() {
        let score = scores.and_then(|scores| scores.get(index));
        let (Some(tag), Some(score)) = (tags.get(index), score.filter(|score| !score.is_null()))
        else {
            continue;
        };
        if are_spans && tag == "O" {
            continue;
        }
        all.push(Entity {
            entity_group: None,
            entity: Some(tag.clone()),
            score: number(score),
            index: Some(index),
            word,
            start,
            end,
        });
    }
    all
}

/// Finds entities with the only model, or the one that `model` names.
#[utoipa::path(
    post,
    path = "/ner",
    tag = "Words",
    request_body = NerRequest,
    responses(
        (status = 200, description = "The entities of each text, in its order", body = NerResponse),
        (status = "4XX", description = "The request cannot be answered", body = ErrorBody),
        (status = "5XX", description = "Try again later", body = ErrorBody),
    )
)]
pub(crate) async fn ner(
    State(service): Of,
    id: RequestId,
    Body(request): Body<NerRequest>,
) -> Result<Answered> {
    answer(&service, &id, None, request).await
}

/// Finds entities with the model that the path names.
#[utoipa::path(
    post,
    path = "/models/{model}/ner",
    tag = "Words",
    params(("model" = String, Path, description = "Name of the model")),
    request_body = NerRequest,
    responses(
        (status = 200, description = "The entities of each text, in its order", body = NerResponse),
        (status = "4XX", description = "The request cannot be answered", body = ErrorBody),
        (status = "5XX", description = "Try again later", body = ErrorBody),
    )
)]
pub(crate) async fn ner_with(
    State(service): Of,
    id: RequestId,
    model: Named,
    Body(request): Body<NerRequest>,
) -> Result<Answered> {
    answer(&service, &id, Some(&model), request).await
}
