//! Names that columns usually have. Case, and what parts the words of a name, are of no account.

/// Of a text.
pub(crate) const TEXT: [&str; 14] = [
    "text",
    "sentence",
    "review",
    "content",
    "comment",
    "tweet",
    "message",
    "utterance",
    "document",
    "body",
    "query",
    "question",
    "review_text",
    "comment_text",
];
/// Usual names of two texts that are read together.
pub(crate) const PAIRS: [[&str; 2]; 10] = [
    ["premise", "hypothesis"],
    ["sentence1", "sentence2"],
    ["question", "sentence"],
    ["question1", "question2"],
    ["question", "passage"],
    ["question", "context"],
    ["text1", "text2"],
    ["text_a", "text_b"],
    ["text", "text_pair"],
    ["sentence_1", "sentence_2"],
];
/// Usual names of the class of a text.
pub(crate) const LABEL: [&str; 10] = [
    "label",
    "labels",
    "sentiment",
    "category",
    "class",
    "target",
    "intent",
    "topic",
    "emotion",
    "polarity",
];
/// Usual names of a list of words.
pub(crate) const TOKENS: [&str; 2] = ["tokens", "words"];
/// Usual names of their tags; those behind count where none of these is there.
pub(crate) const TAGS: [&[&str]; 2] = [
    &["tags", "ner_tags", "labels"],
    &["pos_tags", "upos", "xpos", "pos", "chunk_tags", "ner"],
];

/// Of the spans of a text, in the order in which they are looked for.
pub(crate) const SPANS: [&str; 4] = ["entities", "spans", "label", "labels"];

/// The same name, whatever its case and whatever parts its words.
pub(crate) fn same(name: &str, usual: &str) -> bool {
    let plain = |name: &str| name.trim().to_lowercase().replace([' ', '-', '.'], "_");
    plain(name) == usual
}
