//! Texts with spans to words with tags: JSON objects as spaCy, Prodigy, doccano and label-studio
//! write them, and as `predict` does.
//!
//! The words are those that a tagger sees when it is given the raw text
//! ([`split_words`](crate::split_words)), and the tags are IOB2. A span must be whole words: one
//! that ends inside a word, or stands where another one does, is refused with its place or, if that
//! is asked for, widened to the words that it touches, of which the longer span keeps them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

use super::bad_rows::{BadRows, SkippedRows};
use super::columns::TokenColumns;
use super::json_value::{missing_key, wrong_type};
use super::lines::Line;
use super::row::{Labels, Place};
use super::span_rules::{BadSpans, Offsets};
use crate::error::{DataError, Result};
use crate::span::{bilou_as_iobes, decode_spans, has_bilou_tags};
use crate::tag_names::prefix_and_type;
use crate::words::{TextWord, locate_words, split_words};

/// What was done to spans, shared by a reader and whoever reports it.
#[derive(Debug, Clone, Default)]
pub struct SpanRepairs(Arc<Mutex<SkippedRows>>);

impl SpanRepairs {
    /// The first messages, and how many there are.
    pub fn seen(&self) -> SkippedRows {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    fn add(&self, messages: Vec<String>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = BadRows::default().limit;
        seen.count += messages.len();
        let room = limit.saturating_sub(seen.shown.len());
        seen.shown.extend(messages.into_iter().take(room));
    }
}

/// Keys that spans are looked for under, in this order.
pub(super) use super::usual_names::SPANS;
/// Where label-studio has the text, and the spans.
pub(super) const DATA: &str = "data";
pub(super) const ANNOTATIONS: &str = "annotations";

/// The object of a line: an object, or the pair that spaCy's older training data is written in,
/// `["text", {"entities": [...]}]`.
pub(super) fn object(line: Line<'_>, columns: &TokenColumns) -> Result<Map<String, Value>> {
    if !line.text.trim_start().starts_with('[') {
        return line.object();
    }
    let pair = serde_json::from_str::<(String, Map<String, Value>)>(line.text);
    let (text, mut object) = pair.map_err(|error| line.malformed(&error))?;
    object.insert(columns.text_key.clone(), Value::String(text));
    Ok(object)
}

/// Whether an object is a text with spans, not a list of words.
pub(super) fn is_text(object: &Map<String, Value>, columns: &TokenColumns) -> bool {
    let of_objects = |value: &Value| {
        let list = value.as_array();
        list.and_then(|list| list.first())
            .is_some_and(Value::is_object)
    };
    let words = object.get(&columns.tokens_key);
    let asked = columns.tags_key.as_ref().and_then(|key| object.get(key));
    let asked_for_spans = columns.tagged
        && asked.and_then(Value::as_array).is_some_and(|list| {
            let first = list.first();
            first.is_none_or(|first| first.is_object() || first.is_array())
        });
    let has_text = text_in(object, columns).is_some();
    // Prodigy has the words beside the text, with their places.
    let no_words = words.is_none_or(|words| words.is_null() || of_objects(words));
    has_text && (no_words || asked_for_spans)
}

fn text_in<'v>(object: &'v Map<String, Value>, columns: &TokenColumns) -> Option<&'v Value> {
    object.get(&columns.text_key).or_else(|| {
        let data = object.get(DATA)?.as_object()?;
        data.get(&columns.text_key)
    })
}

/// A text in words.
pub(super) struct TextRow {
    /// Nothing where it is `null`.
    pub(super) text: Option<String>,
    pub(super) tokens: Vec<String>,
    pub(super) tags: Option<Vec<String>>,
}

/// Reads the object of a text.
pub(super) fn row(
    object: &Map<String, Value>,
    place: Place<'_>,
    columns: &TokenColumns,
    labels: &Labels,
    repairs: &SpanRepairs,
) -> Result<TextRow> {
    let reader = SpanReader {
        object,
        place,
        columns,
    };
    let text = match text_in(object, columns) {
        Some(Value::String(text)) if columns.blank => Some(text.as_str()),
        // So pandas writes what is missing.
        Some(Value::Null) if columns.blank => None,
        Some(Value::String(text)) => Some(place.required(text, "text")?),
        Some(other) => {
            return Err(reader.wrong_type(columns.text_key.clone(), other, "a string"));
        }
        None => return Err(reader.missing(&columns.text_key)),
    };
    let words = split_words(text.unwrap_or_default());
    let tags = if columns.tagged {
        let text = text.unwrap_or_default();
        let spans = reader.spans(text)?;
        let unit = || reader.other_unit(text, &words);
        let (tags, repaired) = tag_words(&words, &spans, columns.bad_spans)
            .map_err(|faults| reader.bad_spans(&faults, columns.bad_spans, text, unit()))?;
        let mut repaired = repaired;
        if let Some(unit) = (!repaired.is_empty()).then(unit).flatten() {
            let fits = format!(" ({})", fits(unit));
            repaired
                .iter_mut()
                .for_each(|repair| repair.push_str(&fits));
        }
        let line = |repair| format!("{}:{}: {repair}", place.path.display(), place.line);
        repairs.add(repaired.into_iter().map(line).collect());
        let named = tags.iter().map(|tag| labels.resolve(tag, place));
        Some(named.collect::<Result<_>>()?)
    } else {
        None
    };
    Ok(TextRow {
        text: text.map(str::to_string),
        tokens: words.into_iter().map(|word| word.token).collect(),
        tags,
    })
}

/// A span of a text, in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TextSpan {
    start: usize,
    end: usize,
    kind: String,
    text: String,
}

impl fmt::Display for TextSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            start,
            end,
            kind,
            text,
        } = self;
        write!(f, "span {start}-{end} {text:?} ({kind})")
    }
}

struct SpanReader<'a> {
    object: &'a Map<String, Value>,
    place: Place<'a>,
    columns: &'a TokenColumns,
}

impl SpanReader<'_> {
    fn wrong_type(&self, key: String, found: &Value, expected: &'static str) -> DataError {
        wrong_type(self.place, key, found, expected)
    }

    fn missing(&self, key: &str) -> DataError {
        missing_key(self.place, key, self.object)
    }

    /// The error of faults, with the ways out that there are.
    fn bad_spans(
        &self,
        faults: &SpanFaults,
        policy: BadSpans,
        text: &str,
        unit: Option<Offsets>,
    ) -> DataError {
        let SpanFaults {
            hopeless,
            others,
            until,
        } = faults;
        // Those that are widened anyway are no faults.
        let widened = policy == BadSpans::Widen;
        let others = if widened { &[][..] } else { others };
        let mut advice = Vec::new();
        // Of characters that count more than one in another unit, the places behind may be wrong.
        let before: String = text.chars().take(*until).collect();
        let longer = before.chars().find(|c| c.len_utf8() > 1);
        match (unit, longer) {
            (Some(unit), _) => advice.push(fits(unit)),
            (None, Some(c)) => advice.push(format!(
                "{c:?} before it is 1 character, {} of UTF-16 and {} bytes: data.offsets says what \
                 the numbers count (characters, utf16 or bytes)",
                c.len_utf16(),
                c.len_utf8()
            )),
            (None, None) => {}
        }
        if !others.is_empty() {
            let widen = "data.bad_spans = \"widen\" takes whole words, and of overlapping spans the \
                         longest";
            advice.push(widen.to_string());
        }
        if !hopeless.is_empty() {
            advice.push("a span without a word must be corrected, or taken out".to_string());
        }
        let all = || hopeless.iter().chain(others);
        DataError::BadSpans {
            path: self.place.path.to_path_buf(),
            line: self.place.line,
            shown: all().take(3).cloned().collect(),
            count: all().count(),
            advice: advice.join("; "),
        }
    }

    /// Another unit of offsets by which every span is whole words, if the text tells the units
    /// apart.
    fn other_unit(&self, text: &str, words: &[TextWord]) -> Option<Offsets> {
        let units = [Offsets::Characters, Offsets::Utf16, Offsets::Bytes];
        units.into_iter().find(|unit| {
            let columns = TokenColumns {
                offsets: *unit,
                ..self.columns.clone()
            };
            let reader = SpanReader {
                columns: &columns,
                ..*self
            };
            *unit != self.columns.offsets
                && reader
                    .spans(text)
                    .is_ok_and(|spans| tag_words(words, &spans, BadSpans::Refuse).is_ok())
        })
    }

    fn span_fault(&self, key: String, reason: String) -> DataError {
        DataError::Span {
            path: self.place.path.to_path_buf(),
            line: self.place.line,
            key,
            reason,
        }
    }

    /// The spans of the object, wherever they stand.
    fn spans(&self, text: &str) -> Result<Vec<TextSpan>> {
        let places = Places::new(text, self.columns.offsets);
        let (key, list) = match &self.columns.tags_key {
            Some(key) => (
                key.as_str(),
                self.object.get(key).ok_or_else(|| self.missing(key))?,
            ),
            None => {
                let lists = SPANS.iter().filter_map(|key| {
                    let value = self.object.get(*key)?;
                    value.is_array().then_some((*key, value))
                });
                match lists.into_iter().next() {
                    Some(found) => found,
                    None if self.object.contains_key(ANNOTATIONS) => {
                        return self.annotations(&places);
                    }
                    None => return Err(self.missing(SPANS[0])),
                }
            }
        };
        if key == ANNOTATIONS {
            return self.annotations(&places);
        }
        let Value::Array(list) = list else {
            return Err(self.wrong_type(key.to_string(), list, "a list of spans"));
        };
        let span = |(i, value)| self.span(format!("{key}[{i}]"), value, &places);
        list.iter().enumerate().map(span).collect()
    }

    /// The spans of label-studio: those of the one annotation that was not cancelled.
    fn annotations(&self, places: &Places) -> Result<Vec<TextSpan>> {
        let key = ANNOTATIONS;
        let value = &self.object[key];
        let Value::Array(list) = value else {
            return Err(self.wrong_type(key.to_string(), value, "a list"));
        };
        // doccano once wrote its spans under this key.
        let placed = |value: &Value| value.get("start_offset").or(value.get("start")).is_some();
        if list.iter().any(placed) {
            let span = |(i, value)| self.span(format!("{key}[{i}]"), value, places);
            return list.iter().enumerate().map(span).collect();
        }
        let is = |value: &Value, flag: &str| value.get(flag) == Some(&Value::Bool(true));
        let mut done: Vec<(usize, &Value)> = list
            .iter()
            .enumerate()
            .filter(|(_, value)| !is(value, "was_cancelled"))
            .collect();
        if done.len() > 1 && done.iter().any(|(_, value)| is(value, "ground_truth")) {
            done.retain(|(_, value)| is(value, "ground_truth"));
        }
        let [(at, annotation)] = done[..] else {
            let reason = format!(
                "found {} annotations, expected one that was not cancelled, or one with \
                 `ground_truth`",
                done.len()
            );
            return Err(self.span_fault(key.to_string(), reason));
        };
        let key = format!("{key}[{at}].result");
        let result = match annotation.get("result") {
            Some(Value::Array(result)) => result,
            Some(other) => return Err(self.wrong_type(key, other, "a list")),
            None => return Err(self.span_fault(key, "there is none".into())),
        };
        let mut spans = Vec::new();
        for (i, region) in result.iter().enumerate() {
            // Other results are choices and relations, which are no spans.
            if let Some(value) = region.get("value").filter(|v| v.get("start").is_some()) {
                spans.push(self.span(format!("{key}[{i}].value"), value, places)?);
            }
        }
        Ok(spans)
    }

    /// A span: `[start, end, label]`, or an object with these under one of their usual names.
    fn span(&self, key: String, value: &Value, places: &Places) -> Result<TextSpan> {
        const FORM: &str = "a span: [start, end, label], or an object with start, end and label";
        let (start, end, kind, text) = match value {
            Value::Array(parts) => match &parts[..] {
                [start, end, kind] => (start, end, kind, None),
                _ => return Err(self.wrong_type(key, value, FORM)),
            },
            Value::Object(parts) => {
                let part = |names: &[&str]| names.iter().find_map(|name| parts.get(*name));
                let start = part(&["start", "start_offset"]);
                let end = part(&["end", "end_offset"]);
                let kind = part(&["label", "type", "entity_group", "tag", "labels"]);
                let (Some(start), Some(end), Some(kind)) = (start, end, kind) else {
                    return Err(self.wrong_type(key, value, FORM));
                };
                (start, end, kind, parts.get("text"))
            }
            other => return Err(self.wrong_type(key, other, FORM)),
        };
        let kind = match kind {
            Value::Array(kinds) if kinds.len() == 1 => &kinds[0],
            kind => kind,
        };
        let Value::String(kind) = kind else {
            let expected = "one string, the label of the span";
            return Err(self.wrong_type(key, kind, expected));
        };
        let kind = self.place.required(kind, "label")?.trim().to_string();
        let number = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        let (Some(from), Some(to)) = (number(start), number(end)) else {
            let reason = format!("found {start} to {end}, expected two integers from 0 on");
            return Err(self.span_fault(key, reason));
        };
        let (start, end) = places
            .characters(from, to)
            .map_err(|reason| self.span_fault(key.clone(), reason))?;
        let found: String = places.text[start..end].iter().collect();
        // What the span itself says of its text shows offsets that count something else.
        if let Some(Value::String(said)) = text
            && said.trim() != found.trim()
        {
            let reason = format!(
                "its text is {said:?}, but {} {from} to {to} of the text are {found:?}; correct \
                 one of them, or say in data.offsets what the numbers count (characters, utf16 or \
                 bytes)",
                places.offsets.name()
            );
            return Err(self.span_fault(key, reason));
        }
        Ok(TextSpan {
            start,
            end,
            kind,
            text: found,
        })
    }
}

/// From offsets to characters.
struct Places {
    text: Vec<char>,
    offsets: Offsets,
    /// Offset at which each character begins, and the end of the text.
    begins: Vec<usize>,
}

impl Places {
    fn new(text: &str, offsets: Offsets) -> Self {
        let text: Vec<char> = text.chars().collect();
        let mut at = 0;
        let mut begins = vec![0];
        begins.extend(text.iter().map(|c| {
            at += offsets.length(*c);
            at
        }));
        Self {
            text,
            offsets,
            begins,
        }
    }

    /// The characters from one offset to another, or what is wrong with these.
    fn characters(&self, from: usize, to: usize) -> Result<(usize, usize), String> {
        let name = self.offsets.name();
        let length = self.begins.last().copied().unwrap_or_default();
        if from >= to || to > length {
            return Err(format!(
                "found {from} to {to}, expected a span of at least one inside the text, which has \
                 {length} {name}; data.offsets says what the numbers count (characters, utf16 or \
                 bytes)"
            ));
        }
        let find = |offset: usize| {
            self.begins
                .binary_search(&offset)
                .map_err(|_| format!("{offset} is inside a character, counted in {name}"))
        };
        Ok((find(from)?, find(to)?))
    }
}

/// What is wrong with the spans of a text.
#[derive(Debug, Default)]
struct SpanFaults {
    /// Of spans without a word, which no choice mends.
    hopeless: Vec<String>,
    /// Of spans that cut words, or have words of others.
    others: Vec<String>,
    /// Where the last span ends that holds no word, or cuts one.
    until: usize,
}

/// That spans fit where they count something else.
fn fits(unit: Offsets) -> String {
    format!(
        "counted in {} each span is whole words: data.offsets = \"{}\"",
        unit.name(),
        unit.key()
    )
}

/// The tags of words by spans, and what was repaired; or what is wrong with the spans.
fn tag_words(
    words: &[TextWord],
    spans: &[TextSpan],
    policy: BadSpans,
) -> Result<(Vec<String>, Vec<String>), SpanFaults> {
    let mut faults = SpanFaults::default();
    // Each span with the words that it touches.
    let mut placed: Vec<(&TextSpan, usize, usize)> = Vec::new();
    for span in spans {
        let first = words.partition_point(|word| word.end <= span.start);
        let last = words.partition_point(|word| word.start < span.end);
        if first >= last {
            faults.hopeless.push(format!("{span} holds no word"));
            faults.until = faults.until.max(span.end);
            continue;
        }
        let (begin, end) = (words[first].start, words[last - 1].end);
        let cut = if begin < span.start {
            Some(&words[first])
        } else {
            (end > span.end).then_some(&words[last - 1])
        };
        if let Some(word) = cut {
            let cut = format!("{span} cuts the word {:?}", word.token);
            faults.others.push(cut);
            faults.until = faults.until.max(span.end);
        }
        placed.push((span, first, last));
    }
    // The longest first; among equals the order in which they begin, and are written.
    placed.sort_by_key(|(span, ..)| (std::cmp::Reverse(span.end - span.start), span.start));
    let mut tags = vec!["O".to_string(); words.len()];
    let mut owner: Vec<Option<&TextSpan>> = vec![None; words.len()];
    for (span, first, last) in placed {
        match owner[first..last].iter().flatten().next() {
            // Said twice.
            Some(other) if *other == span => continue,
            Some(other) => {
                let shared = format!("{span} has words of {other}");
                faults.others.push(shared);
                continue;
            }
            None => {}
        }
        for at in first..last {
            owner[at] = Some(span);
            let prefix = if at == first { 'B' } else { 'I' };
            tags[at] = format!("{prefix}-{}", span.kind);
        }
    }
    let mended = policy == BadSpans::Widen || faults.others.is_empty();
    if faults.hopeless.is_empty() && mended {
        Ok((tags, faults.others))
    } else {
        Err(faults)
    }
}

/// Sees that an object with words, tags, a text and entities, as `predict` writes them, says the
/// same by both: who corrects only one of them would train on the other.
pub(super) fn check_agreement(
    object: &Map<String, Value>,
    tokens: &[String],
    tags: &[String],
    place: Place<'_>,
    columns: &TokenColumns,
) -> Result<()> {
    if columns.tags_key.is_some() {
        return Ok(());
    }
    let key = SPANS[0];
    let of_text = object.get(&columns.text_key).and_then(Value::as_str);
    let (Some(Value::Array(list)), Some(text)) = (object.get(key), of_text) else {
        return Ok(());
    };
    // Something else of that name; tags that are no spans.
    let placed = |value: &Value| value.get("start").is_some() && value.get("end").is_some();
    let of_span = |tag: &String| tag == "O" || prefix_and_type(tag).is_some();
    if !list.iter().all(placed) || !tags.iter().all(of_span) {
        return Ok(());
    }
    let Some(places) = locate_words(text, tokens) else {
        return Ok(());
    };
    let of_entities = TokenColumns {
        tags_key: Some(key.to_string()),
        ..columns.clone()
    };
    let reader = SpanReader {
        object,
        place,
        columns: &of_entities,
    };
    let mut by_entities: Vec<(usize, usize, String)> = reader
        .spans(text)?
        .into_iter()
        .map(|span| (span.start, span.end, span.kind))
        .collect();
    let known: Vec<_> = if has_bilou_tags(tags.iter().map(String::as_str)) {
        tags.iter().map(|tag| bilou_as_iobes(tag)).collect()
    } else {
        tags.iter().map(|tag| tag.as_str().into()).collect()
    };
    let mut by_tags: Vec<(usize, usize, String)> = decode_spans(&known)
        .into_iter()
        .map(|span| {
            let (start, end) = (places[span.start].0, places[span.end - 1].1);
            (start, end, span.entity_type)
        })
        .collect();
    by_entities.sort();
    by_tags.sort();
    let only = |these: &[(usize, usize, String)], those: &[(usize, usize, String)]| {
        let other = these.iter().find(|span| !those.contains(span));
        other.map(|(start, end, kind)| format!("{kind} {start}-{end}"))
    };
    match (only(&by_entities, &by_tags), only(&by_tags, &by_entities)) {
        (None, None) => Ok(()),
        (entity, tag) => Err(DataError::TwoAnswers {
            path: place.path.to_path_buf(),
            line: place.line,
            found: match (&entity, &tag) {
                (Some(entity), _) => format!("{entity} only by `{key}`"),
                (None, tag) => format!("{} only by the tags", tag.as_deref().unwrap_or_default()),
            },
        }),
    }
}
