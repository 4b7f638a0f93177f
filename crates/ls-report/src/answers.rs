//! What a run answered to each example of the split that it reports, from its `predictions.jsonl`:
//! as its protocol scores it, without words that this leaves out.

use std::path::Path;

use ls_data::{LabelSet, bilou_as_iobes, has_bilou_tags};
use ls_files::{FileError, for_each_line, listed, shown};
use serde::Deserialize;
use serde_json::Value;

use crate::error::{ReportError, Result};
use crate::settings::{Kind, Settings};

/// The protocol that does not score words that were cut off.
pub(crate) const PAPER: &str = "paper";

/// Most labels that a message lists.
const LISTED: usize = 10;

/// A text, or two, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    /// The text.
    pub(crate) text: String,
    /// The second one of a pair.
    pub(crate) pair: Option<String>,
}

/// One class of several.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClassAnswer {
    pub(crate) text: Text,
    pub(crate) gold: usize,
    pub(crate) found: usize,
    /// Probability of every class.
    pub(crate) scores: Vec<f64>,
}

/// Any number of labels.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LabelsAnswer {
    pub(crate) text: Text,
    pub(crate) gold: Vec<usize>,
    pub(crate) found: Vec<usize>,
    /// Score of every label.
    pub(crate) scores: Vec<f64>,
}

/// A number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NumberAnswer {
    pub(crate) text: Text,
    pub(crate) gold: f64,
    pub(crate) found: f64,
}

/// A tag for each word: those of spans as they are scored, BILOU's as IOBES writes them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TagsAnswer {
    /// The text in which the words stand, where it came with them.
    pub(crate) text: Option<String>,
    pub(crate) words: Vec<String>,
    pub(crate) gold: Vec<String>,
    pub(crate) found: Vec<String>,
    /// How sure each tag is; nothing in runs from before it was kept, nor of a word that was cut.
    pub(crate) scores: Vec<Option<f64>>,
    /// The same before a temperature, where one was fitted.
    pub(crate) untempered: Vec<Option<f64>>,
}

/// Every answer of a run, by what is answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answers {
    Classes(Vec<ClassAnswer>),
    Labels(Vec<LabelsAnswer>),
    Numbers(Vec<NumberAnswer>),
    /// Tags of spans.
    Spans(Vec<TagsAnswer>),
    /// Labels of words.
    Words(Vec<TagsAnswer>),
}

/// A line of the file. It has the data's own fields too, and those may have any of these names and
/// hold anything: what a field must be is asked only where this kind of run writes it.
#[derive(Deserialize)]
struct Row {
    text: Option<Value>,
    text_pair: Option<Value>,
    label: Option<Value>,
    score: Option<Value>,
    scores: Option<Value>,
    labels: Option<Value>,
    gold: Option<Value>,
    tokens: Option<Value>,
    tags: Option<Value>,
    tag_scores: Option<Value>,
    tag_scores_untempered: Option<Value>,
}

/// The answers of a file, a line each, of which there may be any number.
fn all<T>(path: &Path, read: impl Fn(Row) -> Result<T, String>) -> Result<Vec<T>> {
    let mut answers = Vec::new();
    for_each_line(path, |number, line, _| {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let row: Row =
            serde_json::from_slice(line).map_err(|error| FileError::json(path, number, &error))?;
        let answer = read(row).map_err(|reason| ReportError::Line {
            path: path.into(),
            line: number,
            reason,
        })?;
        answers.push(answer);
        Ok::<_, ReportError>(())
    })?;
    Ok(answers)
}

impl Answers {
    /// Reads the answers of a run.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or a line is not what a run of these settings writes.
    pub(crate) fn read(path: &Path, settings: &Settings, protocol: &str) -> Result<Self> {
        let labels = &settings.labels;
        let kind = settings.kind();
        let of_tags = OfTags {
            bilou: kind == Kind::Spans && has_bilou_tags(labels.names().iter().map(String::as_str)),
            without_cut: protocol == PAPER,
            tempered: settings.calibration.temperature.is_some(),
        };
        let answers = match kind {
            Kind::Class => Self::Classes(all(path, |row| row.class(labels))?),
            Kind::Labels => Self::Labels(all(path, |row| row.labels(labels))?),
            Kind::Number => Self::Numbers(all(path, |row| row.number())?),
            Kind::Spans => Self::Spans(all(path, |row| row.tags(of_tags))?),
            Kind::Words => Self::Words(all(path, |row| row.tags(of_tags))?),
        };
        if answers.len() == 0 {
            let reason = "no answers, expected one a line".into();
            let (path, line) = (path.into(), 1);
            return Err(ReportError::Line { path, line, reason });
        }
        Ok(answers)
    }

    /// Number of examples.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Classes(answers) => answers.len(),
            Self::Labels(answers) => answers.len(),
            Self::Numbers(answers) => answers.len(),
            Self::Spans(answers) | Self::Words(answers) => answers.len(),
        }
    }

    /// The same with the numbers that `to` gives to labels which `from` has by the same names. Tags
    /// are names already.
    pub(crate) fn renumbered(&self, from: &LabelSet, to: &LabelSet) -> Self {
        let names = from.names().iter().enumerate();
        let numbers: Vec<usize> = names.map(|(at, name)| to.id(name).unwrap_or(at)).collect();
        let each = |ids: &[usize]| {
            let mut ids: Vec<usize> = ids.iter().map(|id| numbers[*id]).collect();
            ids.sort_unstable();
            ids
        };
        let placed = |scores: &[f64]| {
            let mut placed = vec![0.0; scores.len()];
            for (number, score) in numbers.iter().zip(scores) {
                placed[*number] = *score;
            }
            placed
        };
        match self {
            Self::Classes(answers) => {
                let each = answers.iter().map(|one| ClassAnswer {
                    text: one.text.clone(),
                    gold: numbers[one.gold],
                    found: numbers[one.found],
                    scores: placed(&one.scores),
                });
                Self::Classes(each.collect())
            }
            Self::Labels(answers) => {
                let each = answers.iter().map(|one| LabelsAnswer {
                    text: one.text.clone(),
                    gold: each(&one.gold),
                    found: each(&one.found),
                    scores: placed(&one.scores),
                });
                Self::Labels(each.collect())
            }
            Self::Numbers(_) | Self::Spans(_) | Self::Words(_) => self.clone(),
        }
    }

    /// What was asked, without what was answered: of each example its text and its gold label.
    pub(crate) fn questions(&self, labels: &LabelSet) -> Vec<(String, String)> {
        let text = |text: &Text| match &text.pair {
            Some(pair) => format!("{}\n{pair}", text.text),
            None => text.text.clone(),
        };
        match self {
            Self::Classes(answers) => {
                let each = answers.iter();
                each.map(|one| (text(&one.text), labels.name(one.gold).into()))
                    .collect()
            }
            Self::Labels(answers) => {
                let names = |gold: &[usize]| {
                    let mut names: Vec<&str> = gold.iter().map(|id| labels.name(*id)).collect();
                    names.sort_unstable();
                    names.join("\n")
                };
                let each = answers.iter();
                each.map(|one| (text(&one.text), names(&one.gold)))
                    .collect()
            }
            Self::Numbers(answers) => {
                let each = answers.iter();
                each.map(|one| (text(&one.text), one.gold.to_string()))
                    .collect()
            }
            Self::Spans(answers) | Self::Words(answers) => {
                let each = answers.iter();
                each.map(|one| (one.words.join(" "), one.gold.join(" ")))
                    .collect()
            }
        }
    }
}

/// A number as it was before it was written: with the digits of an f32.
fn widened(value: f64) -> f64 {
    f64::from(value as f32)
}

fn id(labels: &LabelSet, value: Option<&Value>, key: &str) -> Result<usize, String> {
    match value {
        Some(Value::String(name)) => labels.id(name).ok_or_else(|| {
            let known = listed(labels.names(), LISTED);
            format!("{key}: found {name:?}, expected one of the model's labels: {known}")
        }),
        Some(other) => Err(format!("{key}: found {}, expected a label", shown(other))),
        None => Err(format!("no `{key}`")),
    }
}

fn ids(labels: &LabelSet, value: Option<&Value>, key: &str) -> Result<Vec<usize>, String> {
    match value {
        Some(Value::Array(values)) => values
            .iter()
            .map(|value| id(labels, Some(value), key))
            .collect(),
        Some(other) => Err(format!(
            "{key}: found {}, expected a list of labels",
            shown(other)
        )),
        None => Err(format!("no `{key}`")),
    }
}

/// A list of strings.
fn strings(key: &str, value: Option<Value>) -> Result<Vec<String>, String> {
    let value = value.ok_or_else(|| format!("no `{key}`"))?;
    Vec::deserialize(&value)
        .map_err(|_| format!("{key}: found {}, expected a list of strings", shown(&value)))
}

/// How a tagger's rows are read.
#[derive(Clone, Copy)]
struct OfTags {
    /// Its tags are BILOU's.
    bilou: bool,
    /// Words without a probability are left out, where a row says which these are.
    without_cut: bool,
    /// A temperature divides its logits, so that it writes what was before.
    tempered: bool,
}

impl Row {
    fn text(&mut self) -> Result<Text, String> {
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let pair = text(self.text_pair.take());
        let text = text(self.text.take()).ok_or("no `text`")?;
        Ok(Text { text, pair })
    }

    /// The score of every label, in their order.
    fn scores(&self, labels: &LabelSet) -> Result<Vec<f64>, String> {
        let scores = self.scores.as_ref().ok_or("no `scores`")?;
        let score = |name: &String| {
            let found = scores.get(name);
            let value = found.and_then(Value::as_f64);
            let value = value.filter(|value| (0.0..=1.0).contains(value));
            value.map(widened).ok_or_else(|| {
                let found = found.map_or("nothing".into(), shown);
                format!("scores: found {found} for {name:?}, expected a probability from 0 to 1")
            })
        };
        labels.names().iter().map(score).collect()
    }

    fn class(mut self, labels: &LabelSet) -> Result<ClassAnswer, String> {
        Ok(ClassAnswer {
            gold: id(labels, self.gold.as_ref(), "gold")?,
            found: id(labels, self.label.as_ref(), "label")?,
            scores: self.scores(labels)?,
            text: self.text()?,
        })
    }

    fn labels(mut self, labels: &LabelSet) -> Result<LabelsAnswer, String> {
        Ok(LabelsAnswer {
            gold: ids(labels, self.gold.as_ref(), "gold")?,
            found: ids(labels, self.labels.as_ref(), "labels")?,
            scores: self.scores(labels)?,
            text: self.text()?,
        })
    }

    fn number(mut self) -> Result<NumberAnswer, String> {
        let number = |value: Option<&Value>, key: &str| match value {
            Some(found) => {
                let value = found.as_f64().filter(|value| value.is_finite());
                value
                    .map(widened)
                    .ok_or_else(|| format!("{key}: found {}, expected a number", shown(found)))
            }
            None => Err(format!("no `{key}`")),
        };
        Ok(NumberAnswer {
            gold: number(self.gold.as_ref(), "gold")?,
            found: number(self.score.as_ref(), "score")?,
            text: self.text()?,
        })
    }

    fn tags(self, of: OfTags) -> Result<TagsAnswer, String> {
        let words = strings("tokens", self.tokens)?;
        let found = strings("tags", self.tags)?;
        let gold = strings("gold", self.gold)?;
        let count = words.len();
        let same = |what: &str, length: usize| {
            let differs =
                format!("{what}: found {length}, expected one for each of {count} tokens");
            (length == count).then_some(()).ok_or(differs)
        };
        same("tags", found.len())?;
        same("gold", gold.len())?;
        let sure = |what: &str, scores: Option<Value>| {
            let Some(scores) = scores else {
                return Ok(vec![None; count]);
            };
            let expected = "expected a list of numbers, and null where a word was cut off";
            let scores: Vec<Option<f64>> = Vec::deserialize(&scores)
                .map_err(|_| format!("{what}: found {}, {expected}", shown(&scores)))?;
            same(what, scores.len())?;
            let scores = scores.into_iter();
            Ok::<_, String>(scores.map(|score| score.map(widened)).collect::<Vec<_>>())
        };
        let read = |tag: String| {
            if of.bilou {
                bilou_as_iobes(&tag).into_owned()
            } else {
                tag
            }
        };
        let tells = self.tag_scores.is_some();
        let scores = sure("tag_scores", self.tag_scores)?;
        let untempered = self.tag_scores_untempered.filter(|_| of.tempered);
        let untempered = sure("tag_scores_untempered", untempered)?;
        let kept: Vec<bool> = scores
            .iter()
            .map(|score| score.is_some() || !(of.without_cut && tells))
            .collect();
        fn left<T>(all: Vec<T>, kept: &[bool]) -> impl Iterator<Item = T> {
            let all = all.into_iter().zip(kept);
            all.filter_map(|(one, kept)| kept.then_some(one))
        }
        Ok(TagsAnswer {
            text: self.text.and_then(|text| text.as_str().map(str::to_string)),
            words: left(words, &kept).collect(),
            gold: left(gold, &kept).map(read).collect(),
            found: left(found, &kept).map(read).collect(),
            untempered: left(untempered, &kept).collect(),
            scores: left(scores, &kept).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(task: &str, labels: &[&str]) -> Settings {
        let settings = json!({"task": task, "labels": labels});
        serde_json::from_value(settings).unwrap()
    }

    fn read(settings: &Settings, protocol: &str, rows: &[Value]) -> Answers {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("predictions.jsonl");
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        Answers::read(&path, settings, protocol).unwrap()
    }

    #[test]
    fn labels_are_numbered_by_their_names() {
        let row = json!({"text": "é", "gold": "a", "label": "c",
                         "scores": {"a": 0.25, "b": 0.125, "c": 0.625}});
        let [one, other] = [["a", "b", "c"], ["c", "a", "b"]].map(|labels| {
            let settings = settings("sequence", &labels);
            let answers = read(&settings, "strict", std::slice::from_ref(&row));
            (answers, settings.labels)
        });
        assert_ne!(one.0, other.0);
        assert_eq!(one.0, other.0.renumbered(&other.1, &one.1));
        assert_eq!(other.0, one.0.renumbered(&one.1, &other.1));
        // Of any number of labels they stay in order.
        let text = Text {
            text: "é".into(),
            pair: None,
        };
        let lists = Answers::Labels(vec![LabelsAnswer {
            text: text.clone(),
            gold: vec![0, 2],
            found: vec![1],
            scores: vec![0.25, 0.5, 0.75],
        }]);
        let expected = Answers::Labels(vec![LabelsAnswer {
            text,
            gold: vec![0, 1],
            found: vec![2],
            scores: vec![0.75, 0.25, 0.5],
        }]);
        assert_eq!(lists.renumbered(&one.1, &other.1), expected);
    }

    /// Where no temperature was fitted, a field of its name is the data's own.
    #[test]
    fn what_was_before_a_temperature_is_read_where_there_is_one() {
        let row = |before: Value| {
            json!({"tokens": ["a"], "tags": ["O"], "gold": ["O"], "tag_scores": [0.5],
                   "tag_scores_untempered": before})
        };
        let untempered = |calibration: Value, before: Value| {
            let settings =
                json!({"task": "token", "labels": ["O", "B-X"], "calibration": calibration});
            let settings = serde_json::from_value(settings).unwrap();
            match read(&settings, "strict", &[row(before)]) {
                Answers::Spans(answers) => answers[0].untempered.clone(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            untempered(json!({"temperature": 2.0}), json!([0.25])),
            [Some(0.25)]
        );
        assert_eq!(untempered(json!({}), json!("mine")), [None]);
    }

    #[test]
    fn the_protocol_paper_leaves_out_words_that_were_cut_off_where_a_row_tells() {
        let settings = settings("token", &["O", "B-X"]);
        let mut row = json!({"tokens": ["a", "b", "c"], "tags": ["O", "B-X", "O"],
                             "gold": ["O", "O", "B-X"], "tag_scores": [0.5, 0.75, null]});
        let words = |protocol, row: &Value| {
            let answers = read(&settings, protocol, std::slice::from_ref(row));
            let Answers::Spans(answers) = answers else {
                panic!("{answers:?}");
            };
            answers.into_iter().next().unwrap()
        };
        assert_eq!(words("strict", &row).words, ["a", "b", "c"]);
        let of_paper = words("paper", &row);
        assert_eq!(of_paper.words, ["a", "b"]);
        assert_eq!(
            (of_paper.gold, of_paper.found),
            (
                vec!["O".to_owned(), "O".into()],
                vec!["O".to_owned(), "B-X".into()],
            )
        );
        assert_eq!(of_paper.scores, [Some(0.5), Some(0.75)]);
        assert_eq!(of_paper.untempered, [None, None]);
        row.as_object_mut().unwrap().remove("tag_scores");
        assert_eq!(words("paper", &row).words, ["a", "b", "c"]);
    }
}
