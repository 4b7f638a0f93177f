//! Tags to spans: leniently, as the conlleval script counts, and strictly, by a scheme.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::scheme::{Tag, TagScheme};

/// A run of words with a type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// Type, such as `PER`; `_` where tags carry none.
    pub entity_type: String,
    /// First word.
    pub start: usize,
    /// One past the last word.
    pub end: usize,
}

/// Type of a tag that is only a prefix.
pub(crate) const NO_TYPE: &str = "_";

/// Reads spans from any tags, repaired as conlleval and the default mode of seqeval 1.2.2
/// (`get_entities`) repair them: `I-` after `O` or after another type begins a span. It reads IOB1,
/// IOB2, IOE and IOBES alike.
pub fn decode_spans<S: AsRef<str>>(tags: &[S]) -> Vec<Span> {
    let outside = Tag {
        prefix: 'O',
        entity_type: NO_TYPE,
    };
    let mut spans = Vec::new();
    let mut before = Tag {
        prefix: 'O',
        entity_type: "",
    };
    let mut start = 0;
    let here = tags
        .iter()
        .map(|tag| lenient_tag(tag.as_ref()))
        .chain([outside]);
    for (i, here) in here.enumerate() {
        if chunk_ends(before, here) {
            spans.push(Span {
                entity_type: before.entity_type.to_string(),
                start,
                end: i,
            });
        }
        if chunk_starts(before, here) {
            start = i;
        }
        before = here;
    }
    spans
}

/// A tag of BILOU as IOBES writes it (`L-` as `E-`, `U-` as `S-`); any other as it is.
/// [`decode_spans`] knows, like seqeval and conlleval, only the latter, and would run spans of the
/// former together.
pub fn bilou_as_iobes(tag: &str) -> Cow<'_, str> {
    match tag.split_at_checked(1) {
        Some(("L", rest)) if rest.is_empty() || rest.starts_with('-') => format!("E{rest}").into(),
        Some(("U", rest)) if rest.is_empty() || rest.starts_with('-') => format!("S{rest}").into(),
        _ => tag.into(),
    }
}

/// Whether any of these tags is one that only BILOU has: `L-` or `U-` and a type.
pub fn has_bilou_tags<'a>(tags: impl IntoIterator<Item = &'a str>) -> bool {
    tags.into_iter()
        .any(|tag| tag.starts_with("L-") || tag.starts_with("U-"))
}

fn chunk_ends(before: Tag, here: Tag) -> bool {
    matches!(
        (before.prefix, here.prefix),
        ('E' | 'S', _) | ('B' | 'I', 'B' | 'S' | 'O')
    ) || (!matches!(before.prefix, 'O' | '.') && before.entity_type != here.entity_type)
}

fn chunk_starts(before: Tag, here: Tag) -> bool {
    matches!(
        (before.prefix, here.prefix),
        (_, 'B' | 'S') | ('E' | 'S' | 'O', 'E' | 'I')
    ) || (!matches!(here.prefix, 'O' | '.') && before.entity_type != here.entity_type)
}

/// The type that lenient reading gives a tag.
pub(crate) fn lenient_type(tag: &str) -> &str {
    lenient_tag(tag).entity_type
}

/// The first character, and what follows the first hyphen after it.
fn lenient_tag(tag: &str) -> Tag<'_> {
    let (prefix, rest) = first_char(tag);
    let entity_type = rest
        .split_once('-')
        .map_or(rest, |(_, entity_type)| entity_type);
    Tag {
        prefix,
        entity_type: if entity_type.is_empty() {
            NO_TYPE
        } else {
            entity_type
        },
    }
}

/// An empty tag is read as `O`.
fn first_char(tag: &str) -> (char, &str) {
    let mut chars = tag.chars();
    (chars.next().unwrap_or('O'), chars.as_str())
}

/// Reads only the spans that are whole by the scheme, as the strict mode of seqeval 1.2.2 does: in
/// IOB2 an `I-` that no `B-` of its type begins belongs to no span.
///
/// # Errors
/// A tag whose prefix the scheme does not have.
pub fn decode_spans_strict<S: AsRef<str>>(tags: &[S], scheme: TagScheme) -> Result<Vec<Span>> {
    let table = scheme.table();
    let outside = Tag {
        prefix: 'O',
        entity_type: NO_TYPE,
    };
    let mut tags = tags
        .iter()
        .enumerate()
        .map(|(position, tag)| strict_tag(tag.as_ref(), position, scheme))
        .collect::<Result<Vec<_>>>()?;
    tags.push(outside);

    let mut spans = Vec::new();
    let mut before = outside;
    let mut i = 0;
    while i < tags.len() {
        let mut end = i + 1;
        if table.starts(before, tags[i]) {
            while end < tags.len() && table.continues(tags[end - 1], tags[end]) {
                end += 1;
            }
            if end < tags.len() && table.ends(tags[end - 1], tags[end]) {
                let entity_type = tags[i].entity_type.to_string();
                spans.push(Span {
                    entity_type,
                    start: i,
                    end,
                });
            }
        }
        before = tags[end - 1];
        i = end;
    }
    Ok(spans)
}

/// The first character, and what follows it without hyphens at either end.
fn strict_tag(tag: &str, position: usize, scheme: TagScheme) -> Result<Tag<'_>> {
    let (prefix, rest) = first_char(tag);
    if !scheme.table().prefixes.contains(prefix) {
        return Err(not_of_scheme(tag, position, scheme));
    }
    let entity_type = match rest.trim_matches('-') {
        "" => NO_TYPE,
        entity_type => entity_type,
    };
    Ok(Tag {
        prefix,
        entity_type,
    })
}

pub(crate) fn not_of_scheme(tag: &str, position: usize, scheme: TagScheme) -> DataError {
    DataError::TagScheme {
        tag: tag.to_string(),
        position,
        scheme: scheme.name(),
        prefixes: scheme.table().prefixes,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn written(spans: Vec<Span>) -> Vec<String> {
        spans
            .iter()
            .map(|s| format!("{}:{}-{}", s.entity_type, s.start, s.end))
            .collect()
    }

    #[test]
    fn lenient_decoding_repairs_and_strict_decoding_drops() {
        let check = |tags: &str, lenient: &[&str], strict: &[&str]| {
            let tags: Vec<&str> = tags.split(' ').collect();
            assert_eq!(written(decode_spans(&tags)), lenient, "{tags:?}");
            let spans = decode_spans_strict(&tags, TagScheme::Iob2).unwrap();
            assert_eq!(written(spans), strict, "{tags:?}");
        };
        check(
            "B-PER I-PER O B-LOC",
            &["PER:0-2", "LOC:3-4"],
            &["PER:0-2", "LOC:3-4"],
        );
        check("O I-PER I-PER", &["PER:1-3"], &[]);
        check("B-PER I-LOC", &["PER:0-1", "LOC:1-2"], &["PER:0-1"]);
        check(
            "B-PER B-PER",
            &["PER:0-1", "PER:1-2"],
            &["PER:0-1", "PER:1-2"],
        );
        check(
            "B-creative-work I-creative-work",
            &["creative-work:0-2"],
            &["creative-work:0-2"],
        );
    }

    #[test]
    fn other_schemes_have_their_own_prefixes() {
        let tags = ["S-PER", "B-LOC", "I-LOC", "E-LOC"];
        let expected = ["PER:0-1", "LOC:1-4"];
        assert_eq!(
            written(decode_spans_strict(&tags, TagScheme::Iobes).unwrap()),
            expected
        );
        assert_eq!(written(decode_spans(&tags)), expected);
        let error = decode_spans_strict(&tags, TagScheme::Iob2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tag `S-PER` at word 0 is not an iob2 tag; iob2 tags begin with one of IOB"
        );
    }

    #[test]
    fn bilou_is_read_leniently_once_its_prefixes_are_the_usual_ones() {
        let tags = [
            "U-PER", "U-PER", "O", "B-PER", "L-PER", "B-LOC", "L-LOC", "L", "LOC",
        ];
        assert!(has_bilou_tags(tags));
        assert!(!has_bilou_tags(["B-PER", "LOC", "U", "E-L"]));
        let usual: Vec<_> = tags.iter().map(|tag| bilou_as_iobes(tag)).collect();
        assert_eq!(usual[7..], ["E", "LOC"]);
        let expected = ["PER:0-1", "PER:1-2", "PER:3-5", "LOC:5-7"];
        assert_eq!(written(decode_spans(&usual[..7])), expected);
    }

    #[test]
    fn odd_tags_do_not_panic() {
        for tags in [vec![], vec![""], vec!["é-X", "-", "B", "NOUN", "O-"]] {
            decode_spans(&tags);
            let _ = decode_spans_strict(&tags, TagScheme::Bilou);
        }
    }
}
