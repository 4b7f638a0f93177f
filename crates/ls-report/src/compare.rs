//! [`Compared`]: several runs side by side: scores, what sets each apart from the first and how
//! likely that is by chance, settings that differ, time and memory.

use std::collections::BTreeMap;
use std::path::Path;

use ls_data::Comparison;
use serde::Serialize;

use crate::answers::{Answers, PAPER};
use crate::error::{ReportError, Result};
use crate::folder::{Finished, Run};
use crate::settings::Settings;

/// Runs side by side.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// What the scores are of: `test`, or `validation`.
    pub split: String,
    /// Its examples.
    pub examples: usize,
    /// The metric that chose the first run's checkpoint.
    pub metric: String,
    /// The runs, in the order of the command.
    pub runs: Vec<ComparedRun>,
    /// Settings that differ: the key, and its value in each run, where it has one.
    pub settings: Vec<(String, Vec<Option<String>>)>,
}

/// A run among others.
#[derive(Debug, Clone, Serialize)]
pub struct ComparedRun {
    /// Its folder.
    pub run: String,
    /// Whether the split that the scores are of also chose the run's checkpoint.
    pub reported_split_chose: bool,
    /// Scores of the whole by their JSON keys.
    pub scores: BTreeMap<&'static str, f64>,
    /// Of each score how it differs from the first run's; empty for the first.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub differences: BTreeMap<&'static str, Comparison>,
    /// McNemar's exact test of the right answers of this run and of the first, where an answer is
    /// one class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcnemar: Option<McNemar>,
    /// Time in steps.
    pub train_seconds: Option<f64>,
    /// Highest resident memory, in bytes.
    pub peak_memory: Option<u64>,
    /// Parameters that train.
    pub trainable_parameters: Option<u64>,
}

/// McNemar's test (1947) of two systems' answers to the same questions, exact: only those count
/// that one of the two has right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct McNemar {
    /// Questions that only this run has right.
    pub only_this: usize,
    /// Questions that only the first has right.
    pub only_first: usize,
    /// How likely numbers at least as far apart are if the systems are alike: two-sided, binomial.
    pub p_value: f64,
}

impl McNemar {
    /// Of which questions each has right.
    pub fn new(this: &[bool], first: &[bool]) -> Self {
        let pairs = || this.iter().zip(first);
        let only_this = pairs().filter(|(this, first)| **this && !**first).count();
        let only_first = pairs().filter(|(this, first)| !**this && **first).count();
        Self {
            only_this,
            only_first,
            p_value: two_sided(only_this.min(only_first), only_this + only_first),
        }
    }
}

/// Twice the probability of at most so many heads in `tosses` of a fair coin, at most 1.
fn two_sided(heads: usize, tosses: usize) -> f64 {
    // As logarithms, since powers of a half vanish from 1,075 tosses on.
    let mut term = -(tosses as f64) * std::f64::consts::LN_2;
    let mut sum = term.exp();
    for k in 1..=heads {
        term += ((tosses - k + 1) as f64 / k as f64).ln();
        sum += term.exp();
    }
    (2.0 * sum).min(1.0)
}

impl Compared {
    /// Compares finished runs.
    ///
    /// # Errors
    ///
    /// If a folder holds no finished run with its predictions, or the runs were scored on another
    /// split or other examples, for another task, by another protocol, or with other labels.
    pub fn new(runs: &[Run]) -> Result<Self> {
        let each = runs.iter().map(Scored::of).collect::<Result<Vec<_>>>()?;
        let Some(first) = each.first() else {
            return Ok(Self {
                split: String::new(),
                examples: 0,
                metric: String::new(),
                runs: Vec::new(),
                settings: Vec::new(),
            });
        };
        for other in &each[1..] {
            first.check_same(other)?;
        }
        let labels = &first.settings.labels;
        let mut compared = Vec::new();
        for (at, one) in each.iter().enumerate() {
            // Each run numbers its labels in an order of its own.
            let answers = one.answers.renumbered(&one.settings.labels, labels);
            let (scores, differences) = answers.compared_with(first.answers, labels)?;
            if !one.finished.agrees_with(scores.iter().copied()) {
                return Err(ReportError::Lacks {
                    path: one.path.into(),
                    reason: "predictions.jsonl has other scores than report.json",
                    way_out: "both must be of one training; by the protocol paper those of earlier \
                              versions do not say which words it leaves out: train again",
                });
            }
            let keys: Vec<&'static str> = scores.iter().map(|(key, _)| *key).collect();
            let differences = keys.into_iter().zip(differences).collect();
            let right = answers.right().zip(first.answers.right());
            compared.push(ComparedRun {
                run: one.path.display().to_string(),
                reported_split_chose: one.finished.reported_split_chose,
                scores: scores.into_iter().collect(),
                differences: if at == 0 {
                    BTreeMap::new()
                } else {
                    differences
                },
                mcnemar: right
                    .filter(|_| at > 0)
                    .map(|(this, first)| McNemar::new(&this, &first)),
                train_seconds: one.finished.train_seconds,
                peak_memory: one.finished.peak_memory,
                trainable_parameters: one.finished.trainable_parameters,
            });
        }
        Ok(Self {
            split: first.finished.reported_split.clone(),
            examples: first.answers.len(),
            metric: first.finished.metric.clone(),
            settings: differing(runs),
            runs: compared,
        })
    }

    /// What has to be known of the split, where it chose a checkpoint.
    pub fn note(&self) -> Option<String> {
        let chose = self.runs.iter().filter(|run| run.reported_split_chose);
        let chose: Vec<&str> = chose.map(|run| run.run.as_str()).collect();
        if chose.is_empty() {
            return None;
        }
        let of = if chose.len() == self.runs.len() {
            "every run".into()
        } else {
            chose.join(", ")
        };
        Some(format!(
            "The {} split also chose the checkpoint of {of}, which favours its scores: a test split \
             (data.test) has no part in that.",
            self.split
        ))
    }

    /// The scores that are shown to people: without those that are the accuracy in another guise.
    pub fn shown_scores(&self) -> Vec<&'static str> {
        let Some(first) = self.runs.first() else {
            return Vec::new();
        };
        let one_class = first.scores.contains_key("accuracy");
        let keys = first.scores.keys().copied();
        let own = |key: &&str| !(one_class && key.ends_with("_micro"));
        let mut keys: Vec<&'static str> = keys.filter(own).collect();
        // What chose the checkpoint comes first.
        keys.sort_by_key(|key| *key != self.metric);
        keys
    }
}

/// A run with all that a comparison needs.
struct Scored<'a> {
    path: &'a Path,
    settings: &'a Settings,
    finished: &'a Finished,
    answers: &'a Answers,
}

impl<'a> Scored<'a> {
    fn of(run: &'a Run) -> Result<Self> {
        let lacks = |reason, way_out| ReportError::Lacks {
            path: run.path.clone(),
            reason,
            way_out,
        };
        Ok(Self {
            path: &run.path,
            finished: run
                .finished
                .as_ref()
                .ok_or(lacks(
                    "the run is not finished (no report.json)",
                    "finish it: train --resume RUN",
                ))?,
            settings: run
                .settings
                .as_ref()
                .ok_or(lacks(
                    "no best/ls_llama.json",
                    "a training writes best/ with its best checkpoint: take it from a copy of the \
                     run, or train again",
                ))?,
            answers: run.answers.as_ref().ok_or(lacks(
                "no predictions.jsonl",
                "a training writes predictions.jsonl at its end: take it from a copy of the run, or \
                 train again",
            ))?,
        })
    }

    /// # Errors
    ///
    /// With the first difference.
    fn check_same(&self, other: &Self) -> Result<()> {
        let differ = |reason: String| {
            Err(ReportError::Differ {
                first: self.path.into(),
                other: other.path.into(),
                reason,
            })
        };
        let kinds = [self, other].map(|one| one.settings.kind());
        if kinds[0] != kinds[1] {
            let [a, b] = kinds.map(|kind| format!("{kind:?}").to_lowercase());
            return differ(format!("they answer {a} and {b}"));
        }
        let [a, b] = [self, other].map(|one| &one.finished.protocol);
        if a != b {
            return differ(format!("their protocols are {a} and {b}"));
        }
        let [a, b] = [self, other].map(|one| &one.finished.reported_split);
        if a != b {
            return differ(format!("they report the {a} and the {b} split"));
        }
        let [a, b] = [self, other].map(|one| one.answers.len());
        if a != b {
            return differ(format!("their splits have {a} and {b} examples"));
        }
        let [mine, theirs] = [self, other].map(|one| {
            let mut names = one.settings.labels.names().to_vec();
            names.sort();
            names
        });
        if mine != theirs {
            let of = |one: &[String], other: &[String]| {
                let own = one.iter().find(|name| !other.contains(name));
                own.map(|name| format!("{name:?}"))
            };
            let only = of(&mine, &theirs).or(of(&theirs, &mine));
            let only = only.unwrap_or_default();
            return differ(format!("only one of them has the label {only}"));
        }
        let [mine, theirs] = [self, other].map(|one| one.answers.questions(&one.settings.labels));
        let at = mine.iter().zip(&theirs).position(|(a, b)| a != b);
        let Some(at) = at else {
            return Ok(());
        };
        let tags = matches!(self.answers, Answers::Spans(_) | Answers::Words(_));
        let what = if mine[at].0 == theirs[at].0 {
            "the same text is labelled otherwise"
        } else if tags && self.finished.protocol == PAPER {
            "the words that are scored differ (by the protocol paper, those that were cut off are \
             not)"
        } else {
            "their texts differ"
        };
        differ(format!("example {} of their splits: {what}", at + 1))
    }
}

/// Settings by their dotted keys.
fn flat(prefix: &str, table: &toml::Table, into: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = match prefix {
            "" => key.clone(),
            prefix => format!("{prefix}.{key}"),
        };
        match value {
            toml::Value::Table(table) => flat(&key, table, into),
            value => {
                into.insert(key, value.to_string());
            }
        }
    }
}

/// The settings that are not the same in all runs. Where a run stands is none.
fn differing(runs: &[Run]) -> Vec<(String, Vec<Option<String>>)> {
    let all: Vec<BTreeMap<String, String>> = runs
        .iter()
        .map(|run| {
            let mut settings = BTreeMap::new();
            flat("", &run.config, &mut settings);
            settings.remove("run");
            settings
        })
        .collect();
    let mut keys: Vec<&String> = all.iter().flat_map(BTreeMap::keys).collect();
    keys.sort();
    keys.dedup();
    let rows = keys.into_iter().map(|key| {
        let values = all.iter().map(|settings| settings.get(key).cloned());
        (key.clone(), values.collect::<Vec<_>>())
    });
    rows.filter(|(_, values)| values.iter().any(|value| *value != values[0]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_test_is_the_binomial_one() {
        // scipy.stats.binomtest(k, n).pvalue
        for (heads, tosses, expected) in [
            (0, 0, 1.0),
            (0, 1, 1.0),
            (0, 5, 0.0625),
            (3, 10, 0.34375),
            (5, 10, 1.0),
            (40, 100, 0.056_887_933_640_980_89),
            (900, 2000, 8.457_089_535_503_81e-6),
        ] {
            let found = two_sided(heads, tosses);
            let off = (found - expected).abs();
            assert!(off <= 1e-9 * expected, "{heads} of {tosses}: {found}");
        }
        let test = McNemar::new(&[true, true, false, true], &[true, false, true, false]);
        assert_eq!((test.only_this, test.only_first, test.p_value), (2, 1, 1.0));
    }

    #[test]
    fn settings_are_compared_by_their_keys() {
        let mut found = BTreeMap::new();
        let table = "task = 'token'\n[train]\nepochs = 2\n[lora]\nr = 8"
            .parse()
            .unwrap();
        flat("", &table, &mut found);
        let keys: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(keys, ["lora.r", "task", "train.epochs"]);
        assert_eq!(found["task"], "\"token\"");
    }
}
