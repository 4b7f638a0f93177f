//! A model's prediction for one example, and its JSON object.

use std::borrow::Cow;

use ls_data::{
    LabelSet, NoLabel, SequenceExample, TagKind, TokenExample, bilou_as_iobes, decode_spans,
    has_bilou_tags, place_words,
};
use serde_json::{Map, Value, json};

use crate::dataset::{Example, Gold, Unreadable};
use crate::decision::Decision;

/// The model's answer for one example.
#[derive(Debug, Clone, PartialEq)]
pub enum Prediction {
    /// Of the whole: a class, or the number of a regression.
    Sequence(Decision),
    /// Of the whole, where any number of labels may hold.
    MultiLabel {
        /// The scores of all.
        decision: Decision,
        /// Those that hold, in the label set's order.
        labels: Vec<usize>,
    },
    /// No answer: what would have been one is less sure than was asked for.
    Abstained(Decision),
    /// Of each word; `None` for a word that was cut off, has no sub-word, or has no sure label.
    Token(Vec<Option<Decision>>),
}

/// The tags as lenient reading knows them: those of BILOU as IOBES writes them.
pub(crate) fn lenient_names(labels: &LabelSet, tags: TagKind) -> Vec<Cow<'_, str>> {
    let names = labels.names().iter().map(String::as_str);
    if tags == TagKind::Spans && has_bilou_tags(names.clone()) {
        names.map(bilou_as_iobes).collect()
    } else {
        names.map(Cow::from).collect()
    }
}

/// The tag of a word without a decision: where tags are labels, none of them.
pub(crate) fn without_decision(labels: &LabelSet, tags: TagKind, why: NoLabel) -> &'static str {
    match tags {
        TagKind::Spans => "O",
        TagKind::Labels => why.beside(|mark| labels.id(mark).is_some()),
    }
}

/// The tag of each word.
fn tags_of<'a, N: AsRef<str>>(
    words: &[Option<Decision>],
    names: &'a [N],
    none: &'a str,
) -> Vec<&'a str> {
    let name = |decision: &Decision| names[decision.label].as_ref();
    let tag = |word: &Option<Decision>| word.as_ref().map_or(none, name);
    words.iter().map(tag).collect()
}

/// The answer for an example as a JSON object.
///
/// Sequence: `text`, `label` (`null` beside `abstained`), `score`, `scores`, and `labels` where any
/// number may hold; token: `tokens`, `tags`, `entities` with character offsets into the text (words
/// given without one count as joined by single spaces), unless tags are labels; `why` a word may
/// have none. Other fields of an
/// input object are kept: a label it came with as `gold`, and a field that has the name of an
/// answer's under `input_` and that name. `gold` is its label, if it has one.
pub(crate) fn prediction_object(
    example: Example<'_>,
    gold: Option<&Gold>,
    prediction: &Prediction,
    labels: &LabelSet,
    tags: TagKind,
    why: NoLabel,
) -> Value {
    match (example, prediction) {
        (Example::Sequence(example), Prediction::Sequence(decision)) => {
            sequence_object(example, gold, Answer::Label(decision), labels)
        }
        (
            Example::Sequence(example),
            Prediction::MultiLabel {
                decision,
                labels: holding,
            },
        ) => sequence_object(example, gold, Answer::Labels(decision, holding), labels),
        (Example::Sequence(example), Prediction::Abstained(decision)) => {
            sequence_object(example, gold, Answer::None(decision), labels)
        }
        (Example::Token(example), Prediction::Token(words)) => token_object(
            example,
            gold.map_or(&[], Gold::classes),
            words,
            labels,
            (tags, why),
        ),
        // A model answers by its task, which is that of the examples.
        _ => Value::Null,
    }
}

/// The answer for an example of which the model can read nothing: why, in the place of a label.
pub(crate) fn unreadable_object(
    example: Example<'_>,
    why: Unreadable,
    labels: &LabelSet,
    tags: TagKind,
) -> Value {
    let mut answer = Map::new();
    let object = match example {
        Example::Sequence(example) => {
            let mut object = example.extra.clone().unwrap_or_default();
            set_aside_gold(&mut object, "label", None);
            // What is missing stays so.
            let text = |key: &str, text: &str| match object.get(key) {
                Some(Value::Null) if text.trim().is_empty() => Value::Null,
                _ => json!(text),
            };
            answer.insert("text".into(), text("text", &example.text));
            if let Some(pair) = &example.text_pair {
                answer.insert("text_pair".into(), text("text_pair", pair));
            }
            answer.insert("label".into(), Value::Null);
            object
        }
        Example::Token(example) => {
            let mut object = example.extra.clone().unwrap_or_default();
            set_aside_gold(&mut object, "tags", None);
            if let Some(text) = object.get("text") {
                answer.insert("text".into(), text.clone());
            }
            if why == Unreadable::Missing("tokens") {
                object.remove("tokens");
            }
            let none = vec![without_decision(labels, tags, NoLabel::Unread); example.tokens.len()];
            answer.insert("tokens".into(), json!(example.tokens));
            answer.insert("tags".into(), json!(none));
            if tags == TagKind::Spans {
                answer.insert("entities".into(), json!([]));
            }
            object
        }
    };
    answer.insert(ERROR.into(), json!(why.to_string()));
    merge(answer, object)
}

/// What is answered to a text by the scores of its labels.
#[derive(Clone, Copy)]
enum Answer<'a> {
    /// That of the highest score.
    Label(&'a Decision),
    /// Those that hold.
    Labels(&'a Decision, &'a [usize]),
    /// None is sure enough.
    None(&'a Decision),
}

fn sequence_object(
    example: &SequenceExample,
    gold: Option<&Gold>,
    answer: Answer<'_>,
    labels: &LabelSet,
) -> Value {
    let (decision, holding) = match answer {
        Answer::Label(decision) | Answer::None(decision) => (decision, None),
        Answer::Labels(decision, holding) => (decision, Some(holding)),
    };
    let is_given = !matches!(answer, Answer::None(_));
    let mut object = example.extra.clone().unwrap_or_default();
    // A list is what such an example is labelled with.
    let listed = object.get("label").is_some_and(Value::is_array);
    let key = match holding {
        Some(_) if object.contains_key("labels") && !listed => "labels",
        _ => "label",
    };
    let gold = match gold {
        // A list may have another order in the input, and a number other digits.
        Some(Gold::Value(value)) => {
            object.remove(key);
            Some(number(*value))
        }
        Some(Gold::Classes(classes)) if holding.is_some() => {
            let names = names_of(labels, classes);
            // It was read of either key, or of one that has another name.
            let found = ["label", "labels"].into_iter().find(|key| {
                let value = object.get(*key);
                value.is_some_and(|value| value.is_string() && !listed || lists(value, &names))
            });
            if let Some(found) = found {
                object.remove(found);
            }
            Some(json!(names))
        }
        Some(Gold::Classes(classes)) => classes.first().map(|class| json!(labels.name(*class))),
        None => None,
    };
    set_aside_gold(&mut object, key, gold);
    let mut answer = Map::new();
    answer.insert("text".into(), json!(example.text));
    if let Some(pair) = &example.text_pair {
        answer.insert("text_pair".into(), json!(pair));
    }
    let label = is_given.then(|| labels.name(decision.label));
    answer.insert("label".into(), json!(label));
    if !is_given {
        answer.insert(ABSTAINED.into(), true.into());
    }
    answer.insert("score".into(), number(decision.score));
    if let Some(holding) = holding {
        answer.insert("labels".into(), json!(names_of(labels, holding)));
    }
    let scores = labels.names().iter().zip(&decision.probabilities);
    let scores = scores.map(|(name, probability)| (name.clone(), number(*probability)));
    answer.insert("scores".into(), Value::Object(scores.collect()));
    merge(answer, object)
}

/// Whether a value is a list of these names, in any order.
fn lists(value: &Value, names: &[&str]) -> bool {
    let Value::Array(values) = value else {
        return false;
    };
    let listed = |value: &Value| match value {
        Value::String(name) => names.contains(&name.trim()),
        // Integers may stand for names.
        value => value.is_i64(),
    };
    values.len() == names.len() && values.iter().all(listed)
}

fn names_of<'a>(labels: &'a LabelSet, classes: &[usize]) -> Vec<&'a str> {
    classes.iter().map(|class| labels.name(*class)).collect()
}

fn token_object(
    example: &TokenExample,
    gold: &[usize],
    words: &[Option<Decision>],
    labels: &LabelSet,
    (tags, why): (TagKind, NoLabel),
) -> Value {
    let mut object = example.extra.clone().unwrap_or_default();
    let names = gold.iter().map(|&tag| labels.name(tag));
    let gold = (!gold.is_empty()).then(|| json!(names.collect::<Vec<_>>()));
    set_aside_gold(&mut object, "tags", gold);
    let mut answer = Map::new();
    let given = object.get("text").and_then(Value::as_str);
    let (text, places) = place_words(given, &example.tokens);
    if object.contains_key("text") {
        answer.insert("text".into(), json!(text));
    }
    answer.insert("tokens".into(), json!(example.tokens));
    let none = without_decision(labels, tags, why);
    let names = tags_of(words, labels.names(), none);
    answer.insert("tags".into(), json!(names));
    if tags == TagKind::Spans {
        let names = lenient_names(labels, tags);
        let entities = entities(words, &tags_of(words, &names, none), &text, &places);
        answer.insert("entities".into(), Value::Array(entities));
    }
    merge(answer, object)
}

/// The answer for the words of an example with how sure each tag is (`tag_scores`), and how sure it
/// was before the temperature where one divides the logits (`tag_scores_untempered`).
pub(crate) fn with_tag_scores(
    object: Value,
    prediction: &Prediction,
    temperature: Option<f32>,
) -> Value {
    let Prediction::Token(words) = prediction else {
        return object;
    };
    let Value::Object(mut object) = object else {
        return object;
    };
    let mut set = |key: &str, score: &dyn Fn(&Decision) -> f32| {
        let scores = words.iter();
        let scores = scores.map(|word| word.as_ref().map_or(Value::Null, |one| number(score(one))));
        if let Some(input) = object.insert(key.into(), scores.collect()) {
            object.insert(format!("input_{key}"), input);
        }
    };
    set("tag_scores", &|decision| decision.score);
    if let Some(temperature) = temperature {
        set("tag_scores_untempered", &|decision| {
            decision.untempered(temperature)
        });
    }
    Value::Object(object)
}

/// A probability with the digits that an f32 has; widened to f64 it would print noise after them.
fn number(value: f32) -> Value {
    value.to_string().parse().map_or(Value::Null, Value::Number)
}

/// The fields that only answers without a label have: what an input has there is put aside.
const ERROR: &str = "error";
const ABSTAINED: &str = "abstained";

/// The fields of the answer first, then what the input had beside them.
fn merge(mut answer: Map<String, Value>, input: Map<String, Value>) -> Value {
    for (key, value) in input {
        match answer.get(&key) {
            None if key != ERROR && key != ABSTAINED => answer.insert(key, value),
            Some(same) if *same == value => None,
            _ => answer.insert(format!("input_{key}"), value),
        };
    }
    Value::Object(answer)
}

/// Puts the gold answer under `gold`: the example's own label, else (where none were wanted) what
/// the input has under the name of an answer. What the input has there besides keeps its value
/// under `input_` and its name.
fn set_aside_gold(object: &mut Map<String, Value>, key: &str, gold: Option<Value>) {
    match gold {
        Some(gold) => {
            if object.get(key) == Some(&gold) {
                object.remove(key);
            }
            if let Some(other) = object.insert("gold".into(), gold.clone())
                && other != gold
            {
                object.insert("input_gold".into(), other);
            }
        }
        None if object.contains_key("gold") => {}
        None => {
            if let Some(given) = object.remove(key) {
                object.insert("gold".into(), given);
            }
        }
    }
}

fn entities(
    words: &[Option<Decision>],
    tags: &[&str],
    text: &str,
    places: &[(usize, usize)],
) -> Vec<Value> {
    let characters: Vec<char> = text.chars().collect();
    decode_spans(tags)
        .into_iter()
        .map(|span| {
            let (start, end) = (places[span.start].0, places[span.end - 1].1);
            let scores = words[span.start..span.end]
                .iter()
                .flatten()
                .map(|decision| decision.score);
            let score = scores.sum::<f32>() / (span.end - span.start) as f32;
            json!({
                "type": span.entity_type,
                "start": start,
                "end": end,
                "text": characters[start..end].iter().collect::<String>(),
                "score": number(score),
                "first_token": span.start,
                "last_token": span.end - 1,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_without_a_label_gets_none_of_the_labels() {
        let none = |names: &[&str], tags, why| {
            let names = names.iter().map(|name| name.to_string()).collect();
            without_decision(&LabelSet::from_names(names).unwrap(), tags, why)
        };
        let [unread, unsure] = [NoLabel::Unread, NoLabel::Unsure];
        assert_eq!(none(&["O", "B-PER"], TagKind::Spans, unread), "O");
        assert_eq!(none(&["O", "B-PER"], TagKind::Spans, unsure), "O");
        assert_eq!(none(&["NOUN", "O"], TagKind::Labels, unread), "_");
        assert_eq!(none(&["NOUN", "_"], TagKind::Labels, unread), "__");
        assert_eq!(none(&["NOUN", "_"], TagKind::Labels, unsure), "?");
        assert_eq!(none(&["?", "??"], TagKind::Labels, unsure), "???");
    }

    #[test]
    fn no_field_of_the_input_is_lost() {
        let map = |value: Value| value.as_object().cloned().unwrap();
        let mut input = map(json!({"text": "a", "id": 7, "score": 4.5, "label": "x", "gold": "g"}));
        set_aside_gold(&mut input, "label", None);
        let answer = map(json!({"text": "a", "label": "y", "score": 0.5}));
        let expected = json!({
            "text": "a", "label": "y", "score": 0.5, "id": 7, "input_score": 4.5, "input_label": "x", "gold": "g",
        });
        assert_eq!(merge(answer, input), expected);
    }
}
