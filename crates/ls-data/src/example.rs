//! One example of each kind, as a file holds it: text and names, no ids yet.

use serde_json::{Map, Value};

/// A text, or a pair of texts, with at most one label.
#[derive(Debug, Clone, PartialEq)]
pub struct SequenceExample {
    /// The text, or the first of a pair.
    pub text: String,
    /// The second text of a pair.
    pub text_pair: Option<String>,
    /// Name of the class; absent when the label column was not asked for.
    pub label: Option<String>,
    /// Line of the file on which the example begins, from 1.
    pub line: usize,
    /// The whole JSON object the example came from, so that predictions keep its other fields.
    pub extra: Option<Map<String, Value>>,
}

/// A list of words with at most one tag each.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenExample {
    /// The words.
    pub tokens: Vec<String>,
    /// One tag per word; absent when tags were not asked for.
    pub tags: Option<Vec<String>>,
    /// Line of the file on which the example begins, from 1.
    pub line: usize,
    /// The whole JSON object the example came from, so that predictions keep its other fields.
    pub extra: Option<Map<String, Value>>,
}
