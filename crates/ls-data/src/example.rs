//! One example of each kind, as a file holds it: text and names, no ids yet.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::text_label::TextLabel;

/// A text, or a pair of texts, with its label.
#[derive(Debug, Clone, PartialEq)]
pub struct SequenceExample {
    /// The text, or the first of a pair.
    pub text: String,
    /// The second text of a pair.
    pub text_pair: Option<String>,
    /// Its label; absent when the label column was not asked for.
    pub label: Option<TextLabel>,
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

/// What both kinds of examples have in common as inputs.
pub trait InputRow: Send + 'static {
    /// About the bytes that it takes in memory.
    fn bytes(&self) -> usize;

    /// Its words, each of which is in memory by itself; none of a text.
    fn words(&self) -> usize;

    /// Adds everything that is answered or handed on with the answer to a hash. Where the example
    /// stands is no part of that.
    fn digest(&self, hash: &mut Sha256);
}

impl SequenceExample {
    /// The name of its class, where its label is one.
    pub fn class(&self) -> Option<&str> {
        match &self.label {
            Some(TextLabel::Class(name)) => Some(name),
            _ => None,
        }
    }
}

impl InputRow for SequenceExample {
    fn bytes(&self) -> usize {
        let pair = self.text_pair.as_ref().map_or(0, String::len);
        size_of::<Self>() + self.text.len() + pair + bytes_of(&self.extra)
    }

    fn words(&self) -> usize {
        0
    }

    fn digest(&self, hash: &mut Sha256) {
        add(hash, self.text.as_bytes());
        add(hash, self.text_pair.as_deref().unwrap_or("\0").as_bytes());
        add_object(hash, &self.extra);
    }
}

impl InputRow for TokenExample {
    fn bytes(&self) -> usize {
        let tokens = self.tokens.iter().map(|token| PART + token.len());
        size_of::<Self>() + tokens.sum::<usize>() + bytes_of(&self.extra)
    }

    fn words(&self) -> usize {
        self.tokens.len()
    }

    fn digest(&self, hash: &mut Sha256) {
        hash.update((self.tokens.len() as u64).to_le_bytes());
        for token in &self.tokens {
            add(hash, token.as_bytes());
        }
        add_object(hash, &self.extra);
    }
}

/// What a string or a value costs beside its bytes: itself, and its place in the heap.
const PART: usize = 48;

fn bytes_of(object: &Option<Map<String, Value>>) -> usize {
    fn of(value: &Value) -> usize {
        PART + match value {
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(of).sum(),
            Value::Object(object) => of_object(object),
            _ => 0,
        }
    }
    fn of_object(object: &Map<String, Value>) -> usize {
        let fields = object
            .iter()
            .map(|(key, value)| PART + key.len() + of(value));
        fields.sum()
    }
    object.as_ref().map_or(0, of_object)
}

/// With its length first, so that no two lists of parts are the same bytes.
fn add(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn add_object(hash: &mut Sha256, object: &Option<Map<String, Value>>) {
    let text = object.as_ref().and_then(|map| serde_json::to_vec(map).ok());
    add(hash, &text.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_answered_changes_the_hash_and_its_place_does_not() {
        let hash = |example: &dyn Fn(&mut SequenceExample)| {
            let mut of = SequenceExample {
                text: "ab".into(),
                text_pair: None,
                label: None,
                line: 1,
                extra: None,
            };
            example(&mut of);
            let mut hash = Sha256::new();
            of.digest(&mut hash);
            ls_files::hex(&hash.finalize())
        };
        let plain = hash(&|_| ());
        assert_eq!(hash(&|example| example.line = 7), plain);
        assert_ne!(hash(&|example| example.text = "a".into()), plain);
        assert_ne!(
            hash(&|example| example.text_pair = Some(String::new())),
            plain
        );
        assert_ne!(hash(&|example| example.extra = Some(Map::new())), plain);
        let words = |tokens: &[&str]| {
            let tokens = tokens.iter().map(|token| token.to_string()).collect();
            let mut hash = Sha256::new();
            let example = TokenExample {
                tokens,
                tags: None,
                line: 1,
                extra: None,
            };
            example.digest(&mut hash);
            ls_files::hex(&hash.finalize())
        };
        assert_ne!(words(&["ab", "c"]), words(&["a", "bc"]));
        assert_ne!(words(&["ab"]), words(&["ab", ""]));
    }
}
