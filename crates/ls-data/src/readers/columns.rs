//! The formats of files, and which columns or keys of them hold texts, tokens, labels and tags.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::row::Place;
use super::span_rules::{BadSpans, Offsets};
use crate::error::{DataError, Result};
use crate::text_label::LabelKind;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// Separated by commas, semicolons, tabs or bars, quoted as RFC 4180 says: fields in `"` may
    /// hold delimiters, line ends and `""`.
    Csv,
    /// Tab-separated without quoting: a `"` is a plain character, as in the files of GLUE and of
    /// the Stanford Sentiment Treebank.
    Tsv,
    /// JSON objects: one a line, or one list of them over any number of lines.
    Jsonl,
    /// One word per line with columns, a blank line after each sentence; CoNLL-U too.
    Conll,
    /// The columns of CoNLL 2012 (`*_gold_conll`): the word is column 3, names are in brackets in
    /// column 10 and become IOB2 tags.
    Conll2012,
    /// A table with columns by type, as on the Hugging Face Hub. Needs the feature `parquet`.
    Parquet,
    /// Lines of fastText: `__label__` with the label, then the text.
    FastText,
    /// Trees of the Stanford Sentiment Treebank, one a line; the label is that of the root.
    Trees,
}

impl FileFormat {
    /// The format that the extension stands for.
    ///
    /// # Errors
    /// Another extension, or none.
    pub fn from_path(path: &Path) -> Result<Self> {
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .map(str::to_ascii_lowercase);
        match extension.as_deref() {
            Some("csv") => Ok(Self::Csv),
            Some("tsv") => Ok(Self::Tsv),
            Some("jsonl" | "json" | "ndjson") => Ok(Self::Jsonl),
            Some(
                "conll" | "conllu" | "conllup" | "iob" | "iob2" | "bio" | "bio2" | "ner" | "txt",
            ) => Ok(Self::Conll),
            Some("parquet") => Ok(Self::Parquet),
            Some("ft") => Ok(Self::FastText),
            Some(other) if other.ends_with("gold_conll") => Ok(Self::Conll2012),
            _ => Err(DataError::UnknownFormat {
                path: path.to_path_buf(),
            }),
        }
    }

    /// The name used in configs and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
            Self::Conll => "conll",
            Self::Conll2012 => "conll2012",
            Self::Parquet => "parquet",
            Self::FastText => "fasttext",
            Self::Trees => "trees",
        }
    }

    /// The format of this name, as in configs; `json` is `jsonl` and `conllu` is `conll`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Jsonl),
            "conllu" => Some(Self::Conll),
            _ => Self::ALL.into_iter().find(|format| format.name() == name),
        }
    }

    /// Every format.
    pub const ALL: [Self; 8] = [
        Self::Csv,
        Self::Tsv,
        Self::Jsonl,
        Self::Conll,
        Self::Conll2012,
        Self::Parquet,
        Self::FastText,
        Self::Trees,
    ];
}

/// A column: by the name in the header (or the JSON key), or by its index from 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ColumnRef {
    /// Position, from 0.
    Index(usize),
    /// Name in the header, or JSON key.
    Name(String),
}

impl From<&str> for ColumnRef {
    fn from(name: &str) -> Self {
        Self::Name(name.to_string())
    }
}

impl From<usize> for ColumnRef {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl fmt::Display for ColumnRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A column of a table, or a key of JSON objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// How it is named in a configuration.
    pub at: ColumnRef,
    /// What its first value is.
    pub holds: Holds,
}

/// What stands in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// A text or a name, or an integer that stands for one.
    One,
    /// Numbers, of which one is a fraction.
    Number,
    /// A list of what is one.
    List,
    /// A list of objects or of lists, as the spans of a text are.
    Spans,
    /// Anything else.
    Other,
}

/// Where a sequence example's parts stand. The default is `text` and `label`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SequenceColumns {
    /// The text, or the first of a pair.
    pub text: ColumnRef,
    /// Columns whose text is put behind that of `text`, in this order: a description behind its
    /// title. They may be empty.
    pub append: Vec<ColumnRef>,
    /// What stands between texts that are put together.
    pub separator: String,
    /// Whether backslashes in texts become spaces. The original files of AG News have a backslash
    /// where their source had a line break; the texts on the Hub have it still, so it stays unless
    /// this is asked for.
    pub backslash_is_space: bool,
    /// The second text of a pair.
    pub text_pair: Option<ColumnRef>,
    /// The label; `None` reads examples without labels and needs no such column.
    pub label: Option<ColumnRef>,
    /// What the labels are.
    pub label_kind: LabelKind,
    /// What parts the classes of a text where they stand in one string: `a;b`. Without, the string
    /// is a JSON list.
    pub label_delimiter: Option<String>,
    /// Names of integer labels: `i` becomes the `i`-th name. `None` leaves labels as they are.
    pub label_map: Option<Vec<String>>,
    /// The integer of the first name: 1 where classes count from 1.
    pub first_label: i64,
    /// Whether examples of JSON files keep their whole object, so that predictions can be written
    /// with its other fields. Without, only the wanted keys are parsed, which is faster.
    pub keep_extra: bool,
    /// Whether a blank text is an example, not a fault: who predicts answers every input.
    pub blank: bool,
}

impl Default for SequenceColumns {
    fn default() -> Self {
        Self {
            text: "text".into(),
            append: Vec::new(),
            separator: " ".to_string(),
            backslash_is_space: false,
            text_pair: None,
            label: Some("label".into()),
            label_kind: LabelKind::Class,
            label_delimiter: None,
            label_map: None,
            first_label: 0,
            keep_extra: true,
            blank: false,
        }
    }
}

impl SequenceColumns {
    /// The columns of the text, in their order.
    pub(super) fn texts(&self) -> impl Iterator<Item = &ColumnRef> {
        std::iter::once(&self.text).chain(&self.append)
    }

    pub(super) fn text_rule(&self) -> TextRule {
        TextRule {
            separator: self.separator.clone(),
            backslash_is_space: self.backslash_is_space,
            blank: self.blank,
        }
    }
}

/// How the texts of one or more columns become one.
pub(super) struct TextRule {
    separator: String,
    backslash_is_space: bool,
    blank: bool,
}

impl TextRule {
    /// Whether a blank text is an example.
    pub(super) fn blank(&self) -> bool {
        self.blank
    }

    pub(super) fn text(
        &self,
        parts: impl IntoIterator<Item = String>,
        place: Place<'_>,
    ) -> Result<String> {
        let mut parts = parts.into_iter();
        let mut text = parts.next().unwrap_or_default();
        for part in parts {
            text.push_str(&self.separator);
            text.push_str(&part);
        }
        if self.backslash_is_space && text.contains('\\') {
            text = text.replace('\\', " ");
        }
        if !self.blank {
            place.required(&text, "text")?;
        }
        Ok(text)
    }
}

/// Where a token example's parts stand. The default is the first and the last column of a CoNLL
/// file, and `tokens` with `tags` or `ner_tags` in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenColumns {
    /// Column of the word in a CoNLL file, from 0; behind the numbers of the words, if there are
    /// any, where this is 0.
    pub token: usize,
    /// Column of the tag in a CoNLL file, from 0; `None` is the last one, or what `tags_key` names.
    pub tag: Option<usize>,
    /// JSON key of the words.
    pub tokens_key: String,
    /// JSON key of the tags or spans; `None` is `tags`, or else `ner_tags`, or for texts
    /// `entities`, `spans`, `label` or `labels`. In a CoNLL-U file the name of a column (`upos`),
    /// or a key of MISC.
    pub tags_key: Option<String>,
    /// JSON key of a text with spans.
    pub text_key: String,
    /// What the places of spans count.
    pub offsets: Offsets,
    /// What happens to spans that are no whole words, or overlap.
    pub bad_spans: BadSpans,
    /// Whether tags are read; without, a file needs none.
    pub tagged: bool,
    /// Names of integer tags: `i` becomes the `i`-th name.
    pub label_names: Option<Vec<String>>,
    /// As [`SequenceColumns::keep_extra`].
    pub keep_extra: bool,
    /// Whether an empty list is an example, not a fault: who predicts answers every input.
    pub blank: bool,
}

impl Default for TokenColumns {
    fn default() -> Self {
        Self {
            token: 0,
            tag: None,
            tokens_key: "tokens".to_string(),
            tags_key: None,
            text_key: "text".to_string(),
            offsets: Offsets::default(),
            bad_spans: BadSpans::default(),
            tagged: true,
            label_names: None,
            keep_extra: true,
            blank: false,
        }
    }
}

/// Where tags are looked for if no key is given: the first that is there.
pub(super) const DEFAULT_TAGS: [&str; 2] = ["tags", "ner_tags"];

impl TokenColumns {
    /// Words and tags at these places: a number is a column of CoNLL files, a name a key of JSON or
    /// a column of Parquet.
    pub fn at(tokens: Option<&ColumnRef>, tags: Option<&ColumnRef>) -> Self {
        let mut columns = Self::default();
        match tokens {
            Some(ColumnRef::Index(column)) => columns.token = *column,
            Some(ColumnRef::Name(key)) => columns.tokens_key = key.clone(),
            None => {}
        }
        match tags {
            Some(ColumnRef::Index(column)) => columns.tag = Some(*column),
            Some(ColumnRef::Name(key)) => columns.tags_key = Some(key.clone()),
            None => {}
        }
        columns
    }

    /// The key of the tags in an object or table whose keys `has` knows.
    pub(super) fn tags_key_among(&self, has: impl Fn(&str) -> bool) -> &str {
        match &self.tags_key {
            Some(key) => key,
            None => DEFAULT_TAGS
                .into_iter()
                .find(|key| has(key))
                .unwrap_or(DEFAULT_TAGS[0]),
        }
    }
}
