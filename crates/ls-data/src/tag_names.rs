//! What a set of tags says: spans or labels of words, and which of its tags fit no scheme.
//!
//! Everything here goes by the names alone. How their sequences are read stands in
//! [`crate::span`] and [`crate::convert`].

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::scheme::TagScheme;
use crate::span::{NO_TYPE, lenient_type};

/// What the tags of words say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TagKind {
    /// Which words belong together, and as what: `B-PER`, `I-PER`, `O`.
    Spans,
    /// Something of each word by itself: `NOUN`, `VERB`.
    Labels,
}

/// What is known of the tags of a file: the scheme of their spans, or that they are labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scheme {
    /// They are no spans: each is the label of its word.
    Labels,
    /// They are spans in this scheme.
    Spans(TagScheme),
}

impl Scheme {
    /// What such tags say.
    pub fn kind(self) -> TagKind {
        match self {
            Self::Labels => TagKind::Labels,
            Self::Spans(_) => TagKind::Spans,
        }
    }

    /// The scheme of the spans, if the tags are spans.
    pub fn of_spans(self) -> Option<TagScheme> {
        match self {
            Self::Labels => None,
            Self::Spans(scheme) => Some(scheme),
        }
    }
}

/// `labels`, or the name of a [`TagScheme`].
impl FromStr for Scheme {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name.eq_ignore_ascii_case("labels") {
            return Ok(Self::Labels);
        }
        match name.parse() {
            Ok(scheme) => Ok(Self::Spans(scheme)),
            Err(error) => Err(format!("{error}, or labels for tags that are no spans")),
        }
    }
}

impl TryFrom<String> for Scheme {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Labels => "labels",
            Self::Spans(scheme) => scheme.name(),
        })
    }
}

impl From<Scheme> for String {
    fn from(scheme: Scheme) -> Self {
        scheme.to_string()
    }
}

/// Why a word has no label where tags are labels. Where they are spans, such a word is `O`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoLabel {
    /// It was cut off, or has no sub-word: `_`, as CoNLL-U writes it.
    Unread,
    /// The model was less sure than was asked for: `?`.
    Unsure,
}

impl NoLabel {
    /// What stands in the label's place, doubled (or more) where that is a label itself.
    pub fn beside(self, is_label: impl Fn(&str) -> bool) -> &'static str {
        let marks = match self {
            Self::Unread => ["_", "__", "___", "____"],
            Self::Unsure => ["?", "??", "???", "????"],
        };
        let free = marks.into_iter().find(|mark| !is_label(mark));
        free.unwrap_or(marks[3])
    }
}

/// The prefixes of all schemes; `O` is none.
pub(crate) const PREFIXES: &str = "BIESLU";

/// The prefix of a tag of spans, and the type behind its hyphen, which may be empty: `B-PER`, `B-`.
pub(crate) fn prefix_and_type(tag: &str) -> Option<(char, &str)> {
    let (prefix, entity_type) = tag.split_once('-')?;
    let mut chars = prefix.chars();
    match (chars.next(), chars.next()) {
        (Some(prefix), None) if PREFIXES.contains(prefix) => Some((prefix, entity_type)),
        _ => None,
    }
}

/// Whether a field looks like a tag of spans: `O`, or a prefix, a hyphen and a type.
pub(crate) fn is_span_tag(field: &str) -> bool {
    field == "O" || prefix_and_type(field).is_some_and(|(_, entity_type)| !entity_type.is_empty())
}

/// How a tag is written.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    /// `O`.
    Outside,
    /// `B-PER`.
    Typed,
    /// `B`.
    Bare,
    /// `B-`.
    EmptyType,
    /// `O-PER`.
    OutsideTyped,
    /// `B_PER`, with what stands in the hyphen's place.
    Separated(char),
    /// `b-PER`.
    LowerPrefix,
    /// `o`.
    LowerOutside,
    /// Anything else.
    Plain,
}

fn form(tag: &str) -> Form {
    let mut chars = tag.chars();
    let Some(prefix) = chars.next() else {
        return Form::Outside;
    };
    let rest = chars.as_str();
    let separator = chars.next();
    let entity_type = chars.as_str();
    let upper = prefix.to_ascii_uppercase();
    if prefix != upper && (PREFIXES.contains(upper) || upper == 'O') {
        // `i` is a word in some tag sets; only `o` stands for `O` by itself.
        let typed = separator == Some('-') && !entity_type.is_empty();
        return match tag {
            "o" => Form::LowerOutside,
            _ if typed => Form::LowerPrefix,
            _ => Form::Plain,
        };
    }
    match (prefix, separator) {
        ('O', None) => Form::Outside,
        ('O', Some('-')) => Form::OutsideTyped,
        (prefix, None) if PREFIXES.contains(prefix) => Form::Bare,
        (prefix, Some('-')) if PREFIXES.contains(prefix) => {
            if rest.trim_matches('-').is_empty() {
                Form::EmptyType
            } else {
                Form::Typed
            }
        }
        (prefix, Some(separator))
            if PREFIXES.contains(prefix)
                && !separator.is_alphanumeric()
                && !entity_type.is_empty() =>
        {
            Form::Separated(separator)
        }
        _ => Form::Plain,
    }
}

impl TagKind {
    /// The name in configurations: `spans` or `labels`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spans => "spans",
            Self::Labels => "labels",
        }
    }

    /// What tags of these names say: labels where none has a prefix and a hyphen, unless all of
    /// them are `O`, prefixes alone (`B`, `I`) or prefixes that are written otherwise (`B_PER`).
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let forms: Vec<Form> = names.into_iter().map(form).collect();
        let typed = |form: &Form| matches!(form, Form::Typed | Form::EmptyType);
        if forms.iter().any(typed) || forms.iter().all(|form| *form != Form::Plain) {
            Self::Spans
        } else {
            Self::Labels
        }
    }
}

/// A tag with a hyphen behind its prefix where it has `separator` there: `B_PER` as `B-PER`.
pub fn with_hyphen<'a>(tag: &'a str, separator: &str) -> Cow<'a, str> {
    let typed = tag.split_at_checked(1).and_then(|(prefix, rest)| {
        let entity_type = rest.strip_prefix(separator)?;
        PREFIXES
            .contains(prefix)
            .then(|| format!("{prefix}-{entity_type}"))
    });
    typed.map_or(tag.into(), Cow::from)
}

/// Tags that fit no scheme in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OddTags {
    /// The tags, sorted.
    pub names: Vec<String>,
    /// How they are read.
    pub reading: String,
    /// What stands in the place of the hyphen, if that is what is odd.
    pub separator: Option<String>,
}

impl OddTags {
    /// Whether they are prefixes of a scheme without a type (`B`, `I`), which a scheme may have.
    pub fn are_prefixes(&self) -> bool {
        self.names.iter().all(|name| form(name) == Form::Bare)
    }
}

/// The first of the tags and how they are read, for a note to people.
impl fmt::Display for OddTags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", quoted(&self.names), self.reading)
    }
}

/// The first few of many names, as they are shown to people.
pub fn quoted<S: fmt::Display>(names: impl IntoIterator<Item = S>) -> String {
    ls_files::listed(names.into_iter().map(|name| format!("`{name}`")), 5)
}

/// The tags among these that fit no scheme, or not that of the others. For tags that are spans.
pub fn odd_tags<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<OddTags> {
    let names: BTreeSet<&str> = names.into_iter().collect();
    let mut odd = Vec::new();
    let of = |wanted: &dyn Fn(Form) -> bool| -> Vec<&str> {
        let names = names.iter().copied();
        names.filter(|name| wanted(form(name))).collect()
    };
    let mut add =
        |names: Vec<&str>, separator: Option<&String>, reading: &dyn Fn(&str) -> String| {
            if let Some(first) = names.first() {
                odd.push(OddTags {
                    reading: reading(first),
                    names: names.iter().map(|name| name.to_string()).collect(),
                    separator: separator.cloned(),
                });
            }
        };
    let separators: BTreeSet<String> = names
        .iter()
        .filter_map(|name| match form(name) {
            Form::Separated(separator) => Some(separator.to_string()),
            _ => None,
        })
        .collect();
    for separator in &separators {
        let wanted = |form| matches!(form, Form::Separated(found) if separator.contains(found));
        add(of(&wanted), Some(separator), &|first| {
            let read = lenient_type(first);
            format!(
                "no hyphen behind the prefix, so that the type of `{first}` is read as `{read}`"
            )
        });
    }
    add(of(&|form| form == Form::LowerPrefix), None, &|first| {
        format!(
            "the prefix is in lower case and is not known: neighbouring words of the type `{}` \
             run together to one span; write `{}{}`",
            lenient_type(first),
            first[..1].to_ascii_uppercase(),
            &first[1..]
        )
    });
    add(of(&|form| form == Form::LowerOutside), None, &|_| {
        "is not `O`, and before a span it is read as one without a type; write `O`".to_string()
    });
    add(of(&|form| form == Form::Plain), None, &|first| {
        format!(
            "no prefix, so that the first letter is taken for one and `{first}` is read as a span \
             of the type `{}`; write `B-{first}` or `I-{first}`",
            lenient_type(first)
        )
    });
    add(of(&|form| form == Form::EmptyType), None, &|_| {
        "no type behind the hyphen: read as spans of one type without a name; write the type"
            .to_string()
    });
    add(of(&|form| form == Form::Bare), None, &|_| {
        "no type behind the prefix: read as spans of one type without a name".to_string()
    });
    add(of(&|form| form == Form::OutsideTyped), None, &|_| {
        "a type behind `O` is not read: the same as `O`".to_string()
    });
    let prefixed = |prefixes: &str| -> Vec<&str> {
        of(&|form| form == Form::Typed)
            .into_iter()
            .filter(|name| name.starts_with(|first| prefixes.contains(first)))
            .collect()
    };
    let has = |prefixes: &str| prefixed(prefixes).first().copied();
    if let (Some(longer), None) = (has("BI"), has("LE")) {
        for (prefix, scheme, end) in [("U", "bilou", "L-"), ("S", "iobes", "E-")] {
            add(prefixed(prefix), None, &|_| {
                format!(
                    "of no one scheme with `{longer}` ({scheme} ends longer spans in `{end}`, which \
                     no tag has): read as spans of one word each"
                )
            });
        }
    }
    if has("LU").is_some() {
        add(prefixed("ES"), None, &|_| {
            "of no one scheme with `L-` and `U-`: those are read as `E-` and `S-`".to_string()
        });
    }
    odd
}

/// The name of a type as it is shown to people: one that tags do not name is said to be none.
pub fn shown_type(entity_type: &str) -> &str {
    match entity_type {
        NO_TYPE => "(no type)",
        name => name,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn kind(names: &str) -> TagKind {
        TagKind::of(names.split_whitespace())
    }

    #[test]
    fn tags_without_prefixes_are_labels() {
        for labels in [
            "NOUN VERB",
            "NOUN I O X",
            "PER LOC O",
            "LABEL_0 LABEL_1",
            // Of the Penn Treebank, STTS and mystem.
            "-LRB- IN LS UH NN . , ``",
            "ITJ KOUI $. $, NE",
            "S V A ADV ADVPRO",
            "B_x NOUN",
            "i o",
        ] {
            assert_eq!(kind(labels), TagKind::Labels, "{labels}");
        }
        for spans in [
            "O",
            "B I O",
            "B-PER PER NOUN",
            "O B-",
            "B_PER I_PER O",
            "b-org i-org o",
            "U-PER B-PER",
            "",
        ] {
            assert_eq!(kind(spans), TagKind::Spans, "{spans}");
        }
    }

    #[test]
    fn a_scheme_may_be_labels() {
        let scheme = |name: &str| name.parse::<Scheme>();
        assert_eq!(scheme("Labels"), Ok(Scheme::Labels));
        assert_eq!(scheme("bio"), Ok(Scheme::Spans(TagScheme::Iob2)));
        let unknown = scheme("label").unwrap_err();
        assert!(
            unknown.starts_with("unknown tag scheme `label`; "),
            "{unknown}"
        );
        assert!(
            unknown.ends_with(", or labels for tags that are no spans"),
            "{unknown}"
        );
        for scheme in [Scheme::Labels, Scheme::Spans(TagScheme::Bilou)] {
            let json = serde_json::to_string(&scheme).unwrap();
            assert_eq!(serde_json::from_str::<Scheme>(&json).unwrap(), scheme);
        }
    }

    #[test]
    fn a_separator_becomes_a_hyphen_behind_a_prefix_only() {
        for (tag, separator, expected) in [
            ("B_PER", "_", "B-PER"),
            ("I_work_of_art", "_", "I-work_of_art"),
            ("B-PER", "_", "B-PER"),
            ("NOUN_x", "_", "NOUN_x"),
            ("O", "_", "O"),
            ("B::PER", "::", "B-PER"),
            ("Ä_PER", "_", "Ä_PER"),
            ("", "_", ""),
        ] {
            assert_eq!(with_hyphen(tag, separator), expected);
        }
    }

    #[test]
    fn each_odd_tag_is_named_with_its_reading() {
        let odd = |names: &str| -> Vec<String> {
            odd_tags(names.split_whitespace())
                .into_iter()
                .map(|odd| format!("{}: {}", odd.names.join(" "), odd.reading))
                .collect()
        };
        for whole in [
            "O B-PER I-PER",
            "O I-PER E-PER",
            "O B-PER I-PER E-PER S-PER",
            "O B-PER L-PER U-PER",
            "U-PER O",
        ] {
            assert_eq!(odd(whole), [""; 0], "{whole}");
        }
        let check = |names: &str, parts: &[&str]| {
            let found = odd(names);
            assert_eq!(found.len(), parts.len(), "{found:?}");
            for (found, part) in found.iter().zip(parts) {
                assert!(found.contains(part), "{part:?} is not in {found:?}");
            }
        };
        check(
            "O B_PER I_PER B:LOC",
            &[
                "B:LOC: no hyphen behind the prefix, so that the type of `B:LOC` is read as `:LOC`",
                "B_PER I_PER: no hyphen",
            ],
        );
        check(
            "O B-PER b-org",
            &[
                "b-org: the prefix is in lower case and is not known: neighbouring words of the type `org` run together to one span; write `B-org`",
            ],
        );
        check(
            "B-PER o",
            &["o: is not `O`, and before a span it is read as one without a type; write `O`"],
        );
        check(
            "O B-PER PER",
            &[
                "PER: no prefix, so that the first letter is taken for one and `PER` is read as a span of the type `ER`; write `B-PER` or `I-PER`",
            ],
        );
        check(
            "O B-PER I-PER U-PER",
            &[
                "U-PER: of no one scheme with `B-PER` (bilou ends longer spans in `L-`, which no tag has)",
            ],
        );
        check("O B-PER S-PER", &["S-PER: of no one scheme with `B-PER`"]);
        check(
            "B-PER L-PER E-PER",
            &["E-PER: of no one scheme with `L-` and `U-`"],
        );
        // Each has a reading of its own.
        check(
            "b-PER i-PER o",
            &[
                "b-PER i-PER: the prefix is in lower case",
                "o: is not `O`, and before a span",
            ],
        );
        check("O B- B-PER", &["B-: no type behind the hyphen"]);
        check("O B I", &["B I: no type behind the prefix"]);
        check("O O-PER B-PER", &["O-PER: a type behind `O`"]);
    }

    #[test]
    fn many_odd_tags_are_shown_in_part() {
        let odd = odd_tags("B-PER F A B C D E".split(' '));
        let shown: Vec<String> = odd.iter().map(ToString::to_string).collect();
        assert!(
            shown[0].starts_with("`A`, `C`, `D`, `F`: no prefix"),
            "{shown:?}"
        );
        assert!(shown[1].starts_with("`B`, `E`: no type"), "{shown:?}");
        let prefixes: Vec<bool> = odd.iter().map(OddTags::are_prefixes).collect();
        assert_eq!(prefixes, [false, true]);
        assert_eq!(quoted(["a"; 7]), "`a`, `a`, `a`, `a`, `a` and 2 more");
    }

    #[test]
    fn a_tag_of_spans_has_a_prefix_a_hyphen_and_a_type() {
        for tag in ["O", "B-PER", "U-x", "I--"] {
            assert!(is_span_tag(tag), "{tag}");
        }
        for field in [
            "", "B", "B-", "NOUN", "O-PER", "b-PER", "BI-PER", "-PER", "Ä-PER",
        ] {
            assert!(!is_span_tag(field), "{field}");
        }
        assert_eq!(prefix_and_type("B-"), Some(('B', "")));
    }

    #[test]
    fn what_is_said_of_a_reading_is_how_it_is_read() {
        let spans = |tags: &str| -> Vec<(String, usize, usize)> {
            let tags: Vec<&str> = tags.split(' ').collect();
            crate::decode_spans(&tags)
                .into_iter()
                .map(|span| (span.entity_type, span.start, span.end))
                .collect()
        };
        let one = |name: &str, start, end| (name.to_string(), start, end);
        assert_eq!(spans("B_PER I_PER O"), [one("_PER", 0, 2)]);
        assert_eq!(spans("b-org b-org O"), [one("org", 0, 2)]);
        assert_eq!(spans("O PER O"), [one("ER", 1, 2)]);
        assert_eq!(spans("o B-PER"), [one("_", 0, 1), one("PER", 1, 2)]);
        assert_eq!(spans("B- I O-PER"), [one("_", 0, 2)]);
        assert_eq!(
            spans("B-PER I-PER S-PER"),
            [one("PER", 0, 2), one("PER", 2, 3)]
        );
    }
}
