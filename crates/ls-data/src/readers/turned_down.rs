//! Examples that an annotator turned down: Prodigy says so in `answer`, label-studio in
//! `was_cancelled`. They are no gold answers: a reader of labels passes over them, and counts them.
//! `score` does not: two files are compared row by row there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value};

use super::columns::TokenColumns;
use super::spans::ANNOTATIONS;

/// Where Prodigy has what the annotator decided.
pub(super) const ANSWER: &str = "answer";

/// How many examples were turned down, shared by a reader and whoever reports it.
#[derive(Debug, Clone, Default)]
pub struct TurnedDown(Arc<AtomicUsize>);

impl TurnedDown {
    /// How many there are among the rows that were read.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether Prodigy's annotator rejected or ignored an example.
pub(super) fn by_answer(object: &Map<String, Value>) -> bool {
    let answer = object.get(ANSWER).and_then(Value::as_str);
    answer.is_some_and(|answer| matches!(answer, "reject" | "ignore"))
}

/// Whether a text with spans was turned down: by its answer, or because each annotation of it was
/// cancelled. A task without any is none of these: nobody looked at it.
pub(super) fn spans(object: &Map<String, Value>, columns: &TokenColumns) -> bool {
    let key = columns.tags_key.as_deref();
    let cancelled = |value: &Value| value.get("was_cancelled") == Some(&Value::Bool(true));
    let annotations = object.get(ANNOTATIONS).and_then(Value::as_array);
    let annotations = annotations.filter(|_| key.is_none_or(|key| key == ANNOTATIONS));
    by_answer(object)
        || annotations.is_some_and(|list| !list.is_empty() && list.iter().all(cancelled))
}
