//! What is said of the spans of a file beside it: what their places count, and what happens to
//! those that are no whole words.

use serde::{Deserialize, Serialize};

/// What the start and the end of a span count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Offsets {
    /// Unicode characters, as Python does.
    #[default]
    Characters,
    /// Code units of UTF-16, as JavaScript and Java do.
    Utf16,
    /// Bytes of UTF-8.
    Bytes,
}

impl Offsets {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Characters => "characters",
            Self::Utf16 => "units of UTF-16",
            Self::Bytes => "bytes of UTF-8",
        }
    }

    /// Its name in a configuration.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Characters => "characters",
            Self::Utf16 => "utf16",
            Self::Bytes => "bytes",
        }
    }

    pub(super) fn length(self, c: char) -> usize {
        match self {
            Self::Characters => 1,
            Self::Utf16 => c.len_utf16(),
            Self::Bytes => c.len_utf8(),
        }
    }
}

/// What happens to spans that cut a word or stand where others do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BadSpans {
    /// Their example is a bad row.
    #[default]
    Refuse,
    /// A span takes every word that it touches; of spans that share words the longest is kept, or
    /// the first of equals. Each one is listed.
    Widen,
}
