//! [`Run`]: what a run folder says of its run, read from its files. What is not there yet, or was
//! not kept by an earlier version, is missing and no error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ls_files::{
    FileError, exists, for_each_line, is_file, is_folder, optional, parse_json, parse_toml, read,
    read_text, standing_folder,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::answers::Answers;
use crate::distribution::Distribution;
use crate::error::{ReportError, Result};
use crate::scores::Scored;
use crate::settings::Settings;
use crate::suspects::Suspects;

/// The page of a run, in its folder.
pub const PAGE: &str = "report.html";
/// What cross-validation said of the labels of the training split, in the run folder.
pub const LABEL_ERRORS: &str = "label_errors.json";

/// `report.json`, as far as it is shown.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Finished {
    #[serde(default)]
    pub(crate) version: String,
    pub(crate) protocol: String,
    pub(crate) metric: String,
    pub(crate) best: Evaluated,
    pub(crate) reported_split: String,
    #[serde(default)]
    pub(crate) reported_split_chose: bool,
    #[serde(default)]
    pub(crate) reported_split_fitted: bool,
    pub(crate) loss: Option<f64>,
    pub(crate) scores: Map<String, Value>,
    #[serde(default)]
    pub(crate) baselines: Vec<Baseline>,
    #[serde(default)]
    pub(crate) cut: BTreeMap<String, Map<String, Value>>,
    /// Runs from before it was kept have none.
    #[serde(default)]
    pub(crate) distributions: BTreeMap<String, Distribution>,
    pub(crate) trainable_parameters: Option<u64>,
    pub(crate) all_parameters: Option<u64>,
    pub(crate) steps: Option<u64>,
    #[serde(default)]
    pub(crate) skipped_steps: u64,
    pub(crate) train_seconds: Option<f64>,
    pub(crate) tokens_per_second: Option<f64>,
    pub(crate) peak_memory: Option<u64>,
}

impl Finished {
    /// A score of the whole, or the loss.
    pub(crate) fn score(&self, key: &str) -> Option<f64> {
        match key {
            "loss" => self.loss,
            key => self.scores.get(key).and_then(Value::as_f64),
        }
    }

    /// How many examples the reported split has, where that was kept.
    pub(crate) fn examples(&self) -> Option<usize> {
        let examples = self.cut.get(&self.reported_split)?.get("examples")?;
        usize::try_from(examples.as_u64()?).ok()
    }

    /// Whether these scores are those reported, as far as they are. They are not where the answers
    /// were written by an earlier version by the protocol `paper`, and say not which words it
    /// leaves out.
    pub(crate) fn agrees_with(
        &self,
        scores: impl IntoIterator<Item = (&'static str, f64)>,
    ) -> bool {
        scores.into_iter().all(|(key, value)| {
            let reported = self.score(key);
            reported
                .is_none_or(|reported| (reported - value).abs() < 1e-6 * reported.abs().max(1.0))
        })
    }
}

/// What a simple answer, or a head on the frozen model, comes to.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Baseline {
    pub(crate) name: String,
    pub(crate) scores: Map<String, Value>,
}

/// A line of `metrics.jsonl`: a step that was done.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Step {
    pub(crate) step: u64,
    pub(crate) loss: f64,
    pub(crate) learning_rate: f64,
    pub(crate) grad_norm: f64,
}

/// A line of `metrics.jsonl`: an evaluation.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Evaluated {
    pub(crate) step: u64,
    pub(crate) epoch: f64,
    pub(crate) loss: Option<f64>,
    pub(crate) metric: String,
    pub(crate) value: Option<f64>,
    #[serde(default)]
    pub(crate) best: bool,
}

/// What a run folder says.
#[derive(Debug, Clone)]
pub struct Run {
    pub(crate) path: PathBuf,
    /// The resolved configuration, and the same as text.
    pub(crate) config: toml::Table,
    pub(crate) config_text: String,
    pub(crate) environment: Option<Map<String, Value>>,
    pub(crate) settings: Option<Settings>,
    pub(crate) finished: Option<Finished>,
    pub(crate) steps: Vec<Step>,
    pub(crate) evaluations: Vec<Evaluated>,
    pub(crate) answers: Option<Answers>,
    pub(crate) suspects: Option<Suspects>,
}

impl Run {
    /// Reads a run folder.
    ///
    /// # Errors
    ///
    /// If there is no folder or no `config.toml` in it, or a file of the run is damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("report.json");
        Self::with_report(folder, || json(&path))
    }

    /// The same of a run whose report is not written yet, but known.
    ///
    /// # Errors
    ///
    /// As [`Run::read`].
    pub(crate) fn ending_with(folder: &Path, report: &impl Serialize) -> Result<Self> {
        let path = folder.join("report.json");
        let fault = |error| FileError::json(&path, 1, &error);
        Self::with_report(folder, || {
            let report = serde_json::to_value(report).map_err(fault)?;
            Ok(Some(serde_json::from_value(report).map_err(fault)?))
        })
    }

    fn with_report(
        folder: &Path,
        report: impl FnOnce() -> Result<Option<Finished>>,
    ) -> Result<Self> {
        let none = |reason| ReportError::NotARun {
            path: folder.into(),
            reason,
        };
        if !is_folder(folder)? {
            return Err(none(if exists(folder)? {
                "it is a file, expected the folder that a training made"
            } else {
                "no such folder"
            }));
        }
        let config = folder.join("config.toml");
        if !is_file(&config)? {
            return Err(none("no config.toml"));
        }
        let config_text = read_text(&config)?;
        let (settings, finished, answers) = answered(folder, report)?;
        let (steps, evaluations) = records(&folder.join("metrics.jsonl"))?;
        Ok(Self {
            path: folder.into(),
            config: parse_toml(&config_text, &config)?,
            config_text,
            environment: json(&folder.join("environment.json"))?,
            settings,
            finished,
            steps,
            evaluations,
            answers,
            suspects: json(&folder.join(LABEL_ERRORS))?,
        })
    }

    /// Scores with intervals, where the answers of the run folder are those that its report scores.
    ///
    /// # Errors
    ///
    /// If the answers cannot be scored.
    pub(crate) fn scored(&self) -> Result<Option<Scored>> {
        scored_of(&self.settings, &self.finished, &self.answers)
    }

    /// What it is called: the last part of its folder's path.
    pub(crate) fn name(&self) -> String {
        let path = self.path.canonicalize();
        let path = path.as_deref().unwrap_or(&self.path);
        let name = path.file_name().unwrap_or(self.path.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// A value of the configuration by its dotted key.
    pub(crate) fn setting(&self, key: &str) -> Option<&toml::Value> {
        let (table, key) = key.split_once('.')?;
        self.config.get(table)?.get(key)
    }
}

/// What a run says of its answers: what they mean, its report, and themselves.
type Answered = (Option<Settings>, Option<Finished>, Option<Answers>);

fn answered(folder: &Path, report: impl FnOnce() -> Result<Option<Finished>>) -> Result<Answered> {
    let settings = match standing_folder(folder.join("best"))? {
        Some(best) => json(&best.join("ls_llama.json"))?,
        None => None,
    };
    let finished = report()?;
    let predictions = folder.join("predictions.jsonl");
    let answers = match (&settings, &finished) {
        // Those of an unfinished run are of an earlier end.
        (Some(settings), Some(finished)) if is_file(&predictions)? => {
            Some(Answers::read(&predictions, settings, &finished.protocol)?)
        }
        _ => None,
    };
    Ok((settings, finished, answers))
}

fn scored_of(
    settings: &Option<Settings>,
    finished: &Option<Finished>,
    answers: &Option<Answers>,
) -> Result<Option<Scored>> {
    let (Some(settings), Some(finished), Some(answers)) = (settings, finished, answers) else {
        return Ok(None);
    };
    let scored = answers.scored(&settings.labels)?;
    let metrics = scored.metrics.iter();
    let same = finished.agrees_with(metrics.map(|score| (score.key, score.value)));
    Ok(same.then_some(scored))
}

/// The scores of a finished run with their intervals, as its page has them; nothing where its
/// answers are not there, or are not those that its report scores.
///
/// # Errors
///
/// If what a run keeps for that is damaged.
pub fn scored(folder: &Path) -> Result<Option<Scored>> {
    let report = || json(&folder.join("report.json"));
    let (settings, finished, answers) = answered(folder, report)?;
    scored_of(&settings, &finished, &answers)
}

/// A JSON file, if it is there.
fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = optional(read(path))?;
    let value = bytes.map(|bytes| parse_json(&bytes, path)).transpose();
    Ok(value?)
}

/// The steps and evaluations of `metrics.jsonl`. A last line without an end is one that a stop cut.
fn records(path: &Path) -> Result<(Vec<Step>, Vec<Evaluated>)> {
    let (mut steps, mut evaluations) = (Vec::new(), Vec::new());
    let read = for_each_line(path, |number, line, has_end| {
        if !has_end {
            return Ok(());
        }
        let fault = |error: serde_json::Error| FileError::json(path, number, &error);
        let record: Value = serde_json::from_slice(line).map_err(fault)?;
        match record["kind"].as_str() {
            Some("step") => steps.push(serde_json::from_value(record).map_err(fault)?),
            Some("evaluation") => evaluations.push(serde_json::from_value(record).map_err(fault)?),
            _ => {}
        }
        Ok(())
    });
    optional(read)?;
    Ok((steps, evaluations))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_a_stop_cut_is_passed_over_and_a_damaged_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        assert!(records(&path).unwrap().0.is_empty());
        let step = r#"{"kind":"step","step":1,"loss":0.5,"learning_rate":0.1,"grad_norm":1.0}"#;
        let other = r#"{"kind":"skipped","step":2}"#;
        std::fs::write(&path, format!("{step}\n{other}\n{{\"kind\":")).unwrap();
        let (steps, evaluations) = records(&path).unwrap();
        assert_eq!((steps.len(), evaluations.len()), (1, 0));
        assert_eq!(steps[0].loss, 0.5);
        std::fs::write(&path, format!("{step}\n{{\"kind\":\n{step}\n")).unwrap();
        let error = records(&path).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl:2:"), "{error}");
    }
}
