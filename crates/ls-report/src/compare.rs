//! [`Compared`]: several runs side by side: scores, what sets each apart from the first and how
//! likely that is by chance, settings that differ, time and memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ls_data::Comparison;
use serde::Serialize;

use crate::answers::{Answers, PAPER};
use crate::error::{ReportError, Result};
use crate::folder::{Finished, Run};
use crate::scores::Metrics;
use crate::settings::{Kind, Settings};

/// Scores that are shown as the runs report them, without a test: answers do not say them.
pub const REPORTED: [&str; 3] = ["loss", "log_loss", "ece"];

/// Runs side by side.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// What the scores are of: `test`, or `validation`.
    pub split: String,
    /// Its examples.
    pub examples: usize,
    /// Resamples behind each interval, and shuffles behind each p: fewer of many examples.
    pub resamples: usize,
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
    /// Scores of the whole by their JSON keys, and those of [`REPORTED`] that the run reports.
    pub scores: BTreeMap<&'static str, f64>,
    /// Of each score but [`REPORTED`] how it differs from the first run's; empty for the first.
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
                resamples: 0,
                metric: String::new(),
                runs: Vec::new(),
                settings: Vec::new(),
            });
        };
        let labels = &first.settings.labels;
        let mut resamples = 0;
        let mut compared = Vec::new();
        for (at, one) in each.iter().enumerate() {
            let mut run = one.alone();
            if at > 0 {
                first.check_same(one)?;
                // Each run numbers its labels in an order of its own.
                let answers = one.answers.renumbered(&one.settings.labels, labels);
                let (differences, taken) = answers.compared_with(first.answers, labels)?;
                resamples = taken;
                let keys = one.metrics.iter().map(|(key, _)| *key);
                run.differences = keys.zip(differences).collect();
                let right = answers.right().zip(first.answers.right());
                run.mcnemar = right.map(|(this, first)| McNemar::new(&this, &first));
            }
            compared.push(run);
        }
        Ok(Self {
            split: first.finished.reported_split.clone(),
            examples: first.answers.len(),
            resamples,
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
            "The {} split also chose the checkpoint of {of}, which favours its scores: those of a \
             test split of other examples (data.test) would not be favoured.",
            self.split
        ))
    }

    /// The scores that are shown to people: without those that are the accuracy in another guise.
    pub fn shown_scores(&self) -> Vec<&'static str> {
        let keys = self.runs.iter().flat_map(|run| run.scores.keys().copied());
        let keys: BTreeSet<&'static str> = keys.collect();
        let one_class = keys.contains("accuracy");
        let own = |key: &&str| !(one_class && key.ends_with("_micro"));
        let mut keys: Vec<&'static str> = keys.into_iter().filter(own).collect();
        // What chose the checkpoint comes first, and what has no test comes last.
        keys.sort_by_key(|key| (*key != self.metric, REPORTED.contains(key)));
        keys
    }
}

/// A run with all that a comparison needs.
struct Scored<'a> {
    path: &'a Path,
    settings: &'a Settings,
    finished: &'a Finished,
    answers: &'a Answers,
    metrics: Metrics,
}

impl<'a> Scored<'a> {
    /// # Errors
    ///
    /// If something is missing, or the answers are not those that the run reports.
    fn of(run: &'a Run) -> Result<Self> {
        let lacks = |reason: &str, way_out| ReportError::Lacks {
            path: run.path.clone(),
            reason: reason.into(),
            way_out,
        };
        let finished = run.finished.as_ref().ok_or_else(|| {
            let reason = "the run is not finished (no report.json)";
            lacks(reason, "finish it: train --resume RUN")
        })?;
        let settings = run.settings.as_ref().ok_or_else(|| {
            lacks(
                "no best/ls_llama.json, which says what the answers mean",
                "a training writes best/ with its best checkpoint: take it from a copy of the run, \
                 or train again",
            )
        })?;
        let answers = run.answers.as_ref().ok_or_else(|| {
            lacks(
                "no predictions.jsonl, which has the answers",
                "a training writes predictions.jsonl at its end: take it from a copy of the run, or \
                 train again",
            )
        })?;
        // Before runs are compared: a file that was cut off is no other split.
        let found = answers.len();
        if let Some(expected) = finished.examples().filter(|expected| *expected != found) {
            let reason = format!(
                "predictions.jsonl has {found} answers, and report.json tells of {expected} examples"
            );
            let way_out = "take predictions.jsonl from a copy of the run, or train again";
            return Err(lacks(&reason, way_out));
        }
        let metrics = answers.metrics(&settings.labels)?;
        if !finished.agrees_with(metrics.iter().copied()) {
            return Err(lacks(
                "predictions.jsonl has other scores than report.json",
                "both must be of one training; by the protocol paper those of earlier versions do \
                 not say which words it leaves out: train again",
            ));
        }
        Ok(Self {
            path: &run.path,
            settings,
            finished,
            answers,
            metrics,
        })
    }

    /// The run without what sets it apart from others.
    fn alone(&self) -> ComparedRun {
        let reported = REPORTED.into_iter();
        let reported = reported.filter_map(|key| Some((key, self.finished.score(key)?)));
        ComparedRun {
            run: self.path.display().to_string(),
            reported_split_chose: self.finished.reported_split_chose,
            scores: self.metrics.iter().copied().chain(reported).collect(),
            differences: BTreeMap::new(),
            mcnemar: None,
            train_seconds: self.finished.train_seconds,
            peak_memory: self.finished.peak_memory,
            trainable_parameters: self.finished.trainable_parameters,
        }
    }

    /// # Errors
    ///
    /// With the first difference.
    fn check_same(&self, other: &Self) -> Result<()> {
        let differ_in = |reason: String, by_answers| {
            Err(ReportError::Differ {
                first: self.path.into(),
                other: other.path.into(),
                reason,
                by_answers,
            })
        };
        let differ = |reason| differ_in(reason, false);
        let kinds = [self, other].map(|one| one.settings.kind());
        if kinds[0] != kinds[1] {
            let [a, b] = kinds;
            return differ(format!("the first answers {a}, the other {b}"));
        }
        let [a, b] = [self, other].map(|one| &one.finished.protocol);
        if a != b {
            return differ(format!("their protocols are {a} and {b}"));
        }
        // What is predicted is a column's name, and two columns may hold the same numbers.
        let [mine, theirs] = [self, other].map(|one| {
            let mut names = one.settings.labels.names().to_vec();
            names.sort();
            names
        });
        if mine != theirs && kinds[0] != Kind::Number {
            let of = |one: &[String], other: &[String]| {
                let own = one.iter().find(|name| !other.contains(name));
                own.map(|name| format!("{name:?}"))
            };
            let only = of(&mine, &theirs).or(of(&theirs, &mine));
            let only = only.unwrap_or_default();
            return differ(format!("only one of them has the label {only}"));
        }
        let [a, b] = [self, other].map(|one| &one.finished.reported_split);
        if a != b {
            return differ_in(format!("they report the {a} and the {b} split"), true);
        }
        let [a, b] = [self, other].map(|one| one.answers.len());
        if a != b {
            return differ_in(format!("their splits have {a} and {b} examples"), true);
        }
        let [mine, theirs] = [self, other].map(|one| one.answers.questions(&one.settings.labels));
        let at = mine.iter().zip(&theirs).position(|(a, b)| a != b);
        let Some(at) = at else {
            return Ok(());
        };
        let tags = matches!(self.answers, Answers::Spans(_) | Answers::Words(_));
        let (what, by_answers) = if mine[at].0 == theirs[at].0 {
            ("the same text is labelled otherwise", true)
        } else if tags && self.finished.protocol == PAPER {
            let what = "the words that are scored differ (by the protocol paper, those that were \
                        cut off are not)";
            (what, false)
        } else {
            ("their texts differ", true)
        };
        let reason = format!("example {} of their splits: {what}", at + 1);
        differ_in(reason, by_answers)
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
