//! Tags from one scheme to another: what each scheme allows, and how it writes spans.
//!
//! The rules are those of Tjong Kim Sang and Veenstra (1999), "Representing text chunks", for IOB
//! and IOE, and the usual ones for IOBES and BILOU.

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::scheme::TagScheme;
use crate::span::{Span, decode_spans, not_of_scheme};
use crate::tag_names::PREFIXES;

/// What to do with a sequence that its scheme does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Malformed {
    /// Read it leniently, as [`decode_spans`] does. A tag of no scheme at all (`-DOCSTART-`,
    /// `NOUN`) stays as it is and parts spans, as `O` does.
    Repair,
    /// An error.
    #[default]
    Refuse,
}

/// A tag in its parts.
#[derive(Clone, Copy, PartialEq)]
struct Parts<'a> {
    prefix: char,
    /// Empty for a prefix alone.
    entity_type: &'a str,
}

const OUTSIDE: Parts<'static> = Parts {
    prefix: 'O',
    entity_type: "",
};

/// `None` of a tag in no scheme's form, which is `O`, a prefix alone, or a prefix, a hyphen and a
/// type.
fn parts(tag: &str) -> Option<Parts<'_>> {
    let mut chars = tag.chars();
    let known = |prefix: &char| *prefix == 'O' || PREFIXES.contains(*prefix);
    let prefix = chars.next().filter(known)?;
    let rest = chars.as_str();
    let entity_type = match rest.strip_prefix('-') {
        None if rest.is_empty() => "",
        Some(entity_type) if prefix != 'O' => entity_type,
        _ => return None,
    };
    Some(Parts {
        prefix,
        entity_type,
    })
}

fn written(prefix: char, entity_type: &str) -> String {
    match entity_type {
        "" => prefix.to_string(),
        entity_type => format!("{prefix}-{entity_type}"),
    }
}

/// The prefixes, one of which must stand directly before and directly after a tag with the same
/// type; `None` where anything may.
fn neighbours(scheme: TagScheme, prefix: char) -> [Option<&'static str>; 2] {
    match (scheme, prefix) {
        (TagScheme::Iob1, 'B') => [Some("BI"), None],
        (TagScheme::Iob2, 'I') => [Some("BI"), None],
        (TagScheme::Ioe1, 'E') => [None, Some("IE")],
        (TagScheme::Ioe2, 'I') => [None, Some("IE")],
        (TagScheme::Iobes, 'B') => [None, Some("IE")],
        (TagScheme::Iobes, 'I') => [Some("BI"), Some("IE")],
        (TagScheme::Iobes, 'E') => [Some("BI"), None],
        (TagScheme::Bilou, 'B') => [None, Some("IL")],
        (TagScheme::Bilou, 'I') => [Some("BI"), Some("IL")],
        (TagScheme::Bilou, 'L') => [Some("BI"), None],
        _ => [None, None],
    }
}

/// Whether a tag may stand beside `of`, which needs one of some prefixes there.
fn fits(beside: Parts<'_>, needed: &str, of: Parts<'_>) -> bool {
    needed.contains(beside.prefix) && beside.entity_type == of.entity_type
}

/// The parts of a tag, if the scheme has it.
fn parts_in(tag: &str, scheme: TagScheme) -> Option<Parts<'_>> {
    parts(tag).filter(|parts| scheme.table().prefixes.contains(parts.prefix))
}

/// Whether a tag is one of the scheme's.
pub(crate) fn is_of_scheme(tag: &str, scheme: TagScheme) -> bool {
    parts_in(tag, scheme).is_some()
}

/// Whether the scheme allows two tags side by side; none is the edge of the sentence. A tag that
/// the scheme does not have is as `O`.
pub(crate) fn may_stand_between(
    before: Option<&str>,
    here: Option<&str>,
    scheme: TagScheme,
) -> bool {
    let in_scheme = |tag| parts_in(tag, scheme).unwrap_or(OUTSIDE);
    let [before, here] = [before.map(in_scheme), here.map(in_scheme)];
    let content = |tag: Option<Parts<'_>>, beside: Option<Parts<'_>>, side: usize| {
        let Some(tag) = tag else { return true };
        match neighbours(scheme, tag.prefix)[side] {
            Some(needed) => beside.is_some_and(|beside| fits(beside, needed, tag)),
            None => true,
        }
    };
    content(before, here, 1) && content(here, before, 0)
}

/// Whether the scheme allows the sequence.
///
/// # Errors
/// The first tag that the scheme does not have; else the first in a place where the scheme does not
/// allow it, and what may stand there.
pub(crate) fn check_tags<S: AsRef<str>>(tags: &[S], scheme: TagScheme) -> Result<()> {
    let parsed = tags
        .iter()
        .enumerate()
        .map(|(position, tag)| {
            let tag = tag.as_ref();
            parts_in(tag, scheme).ok_or_else(|| not_of_scheme(tag, position, scheme))
        })
        .collect::<Result<Vec<_>>>()?;
    for (position, here) in parsed.iter().enumerate() {
        let before = position.checked_sub(1).map(|before| parsed[before]);
        let after = parsed.get(position + 1).copied();
        let [needed_before, needed_after] = neighbours(scheme, here.prefix);
        for (side, edge, beside, needed) in [
            ("after", "the start of the sentence", before, needed_before),
            ("before", "the end of the sentence", after, needed_after),
        ] {
            let Some(needed) = needed else { continue };
            let found = match beside {
                Some(beside) if fits(beside, needed, *here) => continue,
                Some(beside) => format!("`{}`", written(beside.prefix, beside.entity_type)),
                None => edge.to_string(),
            };
            let allowed = needed
                .chars()
                .map(|prefix| written(prefix, here.entity_type));
            let allowed: Vec<String> = allowed.map(|tag| format!("`{tag}`")).collect();
            return Err(DataError::TagOrder {
                tag: tags[position].as_ref().to_string(),
                position,
                side,
                found,
                allowed: allowed.join(" or "),
                scheme: scheme.name(),
            });
        }
    }
    Ok(())
}

/// Writes the spans of one sentence by another scheme. What `from` allows comes out as the same
/// spans, whatever their types hold; types may be missing (`B`, `I`).
///
/// # Errors
/// With [`Malformed::Refuse`], those of [`check_tags`].
pub(crate) fn convert_tags<S: AsRef<str>>(
    tags: &[S],
    from: TagScheme,
    to: TagScheme,
    malformed: Malformed,
) -> Result<Vec<String>> {
    if malformed == Malformed::Refuse {
        check_tags(tags, from)?;
    }
    let parsed: Vec<Option<Parts>> = tags.iter().map(|tag| parts(tag.as_ref())).collect();
    // Lenient decoding knows the letters of IOBES, not those of BILOU.
    let known: Vec<String> = parsed
        .iter()
        .map(|parts| {
            let Parts {
                prefix,
                entity_type,
            } = parts.unwrap_or(OUTSIDE);
            let prefix = match prefix {
                'L' => 'E',
                'U' => 'S',
                prefix => prefix,
            };
            written(prefix, entity_type)
        })
        .collect();
    let spans = decode_spans(&known);
    let touch = |a: &Span, b: &Span| a.end == b.start && a.entity_type == b.entity_type;
    let mut converted: Vec<String> = tags.iter().map(|tag| tag.as_ref().to_string()).collect();
    for (i, span) in spans.iter().enumerate() {
        // The type as the file writes it: a missing one is not the type `_`.
        let entity_type = parsed[span.start].unwrap_or(OUTSIDE).entity_type;
        let follows = i > 0 && touch(&spans[i - 1], span);
        let is_followed = spans.get(i + 1).is_some_and(|next| touch(span, next));
        for (word, tag) in converted
            .iter_mut()
            .enumerate()
            .take(span.end)
            .skip(span.start)
        {
            let (first, last) = (word == span.start, word + 1 == span.end);
            let prefix = match (to, first, last) {
                (TagScheme::Iob1, true, _) if follows => 'B',
                (TagScheme::Iob2, true, _) => 'B',
                (TagScheme::Ioe1, _, true) if is_followed => 'E',
                (TagScheme::Ioe2, _, true) => 'E',
                (TagScheme::Iobes, true, true) => 'S',
                (TagScheme::Bilou, true, true) => 'U',
                (TagScheme::Iobes | TagScheme::Bilou, true, false) => 'B',
                (TagScheme::Iobes, false, true) => 'E',
                (TagScheme::Bilou, false, true) => 'L',
                _ => 'I',
            };
            *tag = written(prefix, entity_type);
        }
    }
    Ok(converted)
}

impl TagScheme {
    /// The spans of a sentence, read leniently, as this scheme writes them.
    pub fn written<S: AsRef<str>>(self, tags: &[S]) -> Vec<String> {
        // What is repaired is not refused.
        convert_tags(tags, self, self, Malformed::Repair).unwrap_or_default()
    }

    /// The scheme that tags by these names are of: the one with all their prefixes and no more than
    /// it needs, and of `B-` and `I-` alone IOB2, or IOB1 where a type has `I-` and no `B-`.
    pub fn of_names<S: AsRef<str>>(names: &[S]) -> Self {
        let parsed = names.iter().filter_map(|name| parts(name.as_ref()));
        let parsed: Vec<Parts<'_>> = parsed.collect();
        let has = |prefix: char| parsed.iter().any(|parts| parts.prefix == prefix);
        let begins = |inside: &Parts<'_>| {
            parsed.contains(&Parts {
                prefix: 'B',
                ..*inside
            })
        };
        let mut inside = parsed.iter().filter(|parts| parts.prefix == 'I');
        if has('L') || has('U') {
            Self::Bilou
        } else if has('S') || (has('B') && has('E')) {
            Self::Iobes
        } else if has('E') {
            Self::Ioe2
        } else if has('B') && inside.all(begins) {
            Self::Iob2
        } else {
            Self::Iob1
        }
    }

    /// The scheme that allows all of these sentences; `None` if none does.
    ///
    /// Where several do, they read these tags as the same spans (tags that are all `O`, or the `I-`
    /// tags of IOB1 and IOE1), and the more usual one is the answer.
    pub fn infer<T: AsRef<[S]>, S: AsRef<str>>(
        sentences: impl IntoIterator<Item = T>,
    ) -> Option<Self> {
        let mut left = vec![
            Self::Iob2,
            Self::Iobes,
            Self::Bilou,
            Self::Iob1,
            Self::Ioe2,
            Self::Ioe1,
        ];
        for tags in sentences {
            left.retain(|scheme| check_tags(tags.as_ref(), *scheme).is_ok());
        }
        left.first().copied()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rand::RngExt;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn converted(tags: &str, from: TagScheme, to: TagScheme, malformed: Malformed) -> String {
        let tags: Vec<&str> = tags.split(' ').collect();
        convert_tags(&tags, from, to, malformed).unwrap().join(" ")
    }

    #[test]
    fn each_scheme_writes_as_it_is_defined() {
        // Two neighbours of one type, one of another, a lone word, types with a hyphen and none.
        let iob2 = "B-P I-P B-P B-L I-L I-L O B-P B-work-of-art I-work-of-art B I O";
        for (to, expected) in [
            (
                TagScheme::Iob1,
                "I-P I-P B-P I-L I-L I-L O I-P I-work-of-art I-work-of-art I I O",
            ),
            (
                TagScheme::Ioe1,
                "I-P E-P I-P I-L I-L I-L O I-P I-work-of-art I-work-of-art I I O",
            ),
            (
                TagScheme::Ioe2,
                "I-P E-P E-P I-L I-L E-L O E-P I-work-of-art E-work-of-art I E O",
            ),
            (
                TagScheme::Iobes,
                "B-P E-P S-P B-L I-L E-L O S-P B-work-of-art E-work-of-art B E O",
            ),
            (
                TagScheme::Bilou,
                "B-P L-P U-P B-L I-L L-L O U-P B-work-of-art L-work-of-art B L O",
            ),
            (TagScheme::Iob2, iob2),
        ] {
            assert_eq!(
                converted(iob2, TagScheme::Iob2, to, Malformed::Refuse),
                expected
            );
            assert_eq!(
                converted(expected, to, TagScheme::Iob2, Malformed::Refuse),
                iob2
            );
        }
    }

    #[test]
    fn random_spans_survive_every_pair_of_schemes() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for _ in 0..400 {
            // Spans of few types and often without a gap: neighbours of one type are the hard case.
            let length = rng.random_range(1..10);
            let mut tags = Vec::new();
            while tags.len() < length {
                let entity_type = ["", "-P", "-L", "-a-b", "-Ä"][rng.random_range(0..5)];
                match rng.random_range(0..3) {
                    0 => tags.push("O".to_string()),
                    more => {
                        tags.push(format!("B{entity_type}"));
                        tags.extend(vec![format!("I{entity_type}"); more - 1]);
                    }
                }
            }
            let spans = decode_spans(&tags);
            let iob2 = TagScheme::Iob2;
            for from in TagScheme::ALL {
                let first = convert_tags(&tags, iob2, from, Malformed::Refuse).unwrap();
                check_tags(&first, from).unwrap();
                let strict = crate::decode_spans_strict(&tags, iob2).unwrap();
                assert_eq!(strict, spans);
                for to in TagScheme::ALL {
                    for malformed in [Malformed::Refuse, Malformed::Repair] {
                        let second = convert_tags(&first, from, to, malformed).unwrap();
                        check_tags(&second, to).unwrap();
                        let back = convert_tags(&second, to, iob2, malformed).unwrap();
                        assert_eq!(back, tags, "{from:?} {first:?} {to:?} {second:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_malformed_sequence_is_repaired_or_refused() {
        let tags = "O I-PER I-PER I-LOC -DOCSTART- I-LOC NOUN";
        assert_eq!(
            converted(tags, TagScheme::Iob2, TagScheme::Iobes, Malformed::Repair),
            "O B-PER E-PER S-LOC -DOCSTART- S-LOC NOUN"
        );
        let refused = |tags: &str, scheme| {
            let tags: Vec<&str> = tags.split(' ').filter(|tag| !tag.is_empty()).collect();
            convert_tags(&tags, scheme, TagScheme::Iob2, Malformed::Refuse)
                .map_err(|error| error.to_string())
        };
        for (tags, scheme, message) in [
            (
                "O I-PER I-PER",
                TagScheme::Iob2,
                "tag `I-PER` at word 1 stands after `O`; iob2 allows it only after `B-PER` or `I-PER`",
            ),
            (
                "B-PER I-LOC",
                TagScheme::Iob2,
                "tag `I-LOC` at word 1 stands after `B-PER`; iob2 allows it only after `B-LOC` or `I-LOC`",
            ),
            (
                "B I-",
                TagScheme::Bilou,
                "tag `I-` at word 1 stands before the end of the sentence; bilou allows it only before `I` or `L`",
            ),
            (
                "B-P",
                TagScheme::Iob1,
                "tag `B-P` at word 0 stands after the start of the sentence; iob1 allows it only after `B-P` or `I-P`",
            ),
            (
                "I-P E-P O",
                TagScheme::Ioe1,
                "tag `E-P` at word 1 stands before `O`; ioe1 allows it only before `I-P` or `E-P`",
            ),
            (
                "I-P I-L",
                TagScheme::Ioe2,
                "tag `I-P` at word 0 stands before `I-L`; ioe2 allows it only before `I-P` or `E-P`",
            ),
            (
                "O S-P",
                TagScheme::Ioe2,
                "tag `S-P` at word 1 is not an ioe2 tag; ioe2 tags begin with one of IOE",
            ),
            (
                "O-P",
                TagScheme::Iob2,
                "tag `O-P` at word 0 is not an iob2 tag; iob2 tags begin with one of IOB",
            ),
            (
                "BPER",
                TagScheme::Iob2,
                "tag `BPER` at word 0 is not an iob2 tag; iob2 tags begin with one of IOB",
            ),
        ] {
            assert_eq!(refused(tags, scheme).unwrap_err(), message);
        }
        assert!(refused("", TagScheme::Iob2).unwrap().is_empty());
    }

    #[test]
    fn schemes_that_allow_a_sequence_read_it_alike() {
        // Every sequence of up to four of these tags.
        let alphabet = [
            "O", "B-P", "I-P", "E-P", "S-P", "L-P", "U-P", "I-L", "B-L", "E-L",
        ];
        let mut sequences: Vec<Vec<&str>> = vec![Vec::new()];
        for from in 0.. {
            let Some(shorter) = sequences.get(from).cloned() else {
                break;
            };
            if shorter.len() < 4 {
                sequences.extend(alphabet.map(|tag| [&shorter[..], &[tag]].concat()));
            }
        }
        for tags in sequences {
            let read: Vec<Vec<String>> = TagScheme::ALL
                .into_iter()
                .filter_map(|from| {
                    convert_tags(&tags, from, TagScheme::Iob2, Malformed::Refuse).ok()
                })
                .collect();
            assert!(read.windows(2).all(|pair| pair[0] == pair[1]), "{tags:?}");
            let inferred = TagScheme::infer(std::slice::from_ref(&tags));
            assert_eq!(inferred.is_some(), !read.is_empty(), "{tags:?}");
            assert!(inferred.is_none_or(|scheme| check_tags(&tags, scheme).is_ok()));
        }
        let infer = |tags: &str| TagScheme::infer(&[tags.split(' ').collect::<Vec<_>>()]);
        assert_eq!(infer("I-P B-P O I-L"), Some(TagScheme::Iob1));
        assert_eq!(infer("B-P B-P O"), Some(TagScheme::Iob2));
        assert_eq!(infer("B-P S-P"), None);
        let of_names = |names: &str| TagScheme::of_names(&names.split(' ').collect::<Vec<_>>());
        assert_eq!(of_names("O B-P I-P B-L"), TagScheme::Iob2);
        // The names of CoNLL-2003's training file: no person begins where another ends.
        let conll = "O I-PER B-ORG I-ORG B-LOC I-LOC";
        assert_eq!(of_names(conll), TagScheme::Iob1);
    }
}
