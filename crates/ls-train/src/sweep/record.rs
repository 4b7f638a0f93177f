//! [`Record`]: `sweep.json`, what is to be run and what is done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ls_files::{exists, optional, read_own_json, write_json};
use serde::{Deserialize, Serialize};
use toml::Table;

use super::choices::Choices;
use super::outcome::{Left, Outcome, Scored};
use super::plan::{Plan, Planned};
use crate::config::{RunConfig, keys_of};
use crate::error::{Result, TrainError};
use crate::resume::differing_keys;

/// Version of the format.
const VERSION: u32 = 1;

/// What is to be run and what is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    format_version: u32,
    /// The version of the program that began it.
    ls_llama: String,
    choices: Choices,
    pub(super) runs: Vec<RunRecord>,
    /// Once every run has been taken.
    pub(super) outcome: Option<Outcome>,
    /// SHA-256 of what the runs have read.
    pub(super) files: BTreeMap<String, String>,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunRecord {
    pub(super) name: String,
    /// What it came to, once it is finished.
    pub(super) scored: Option<Scored>,
    /// Why it failed, where it did.
    pub(super) failed: Option<Failed>,
    /// Its configuration, with absolute paths.
    config: Table,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Failed {
    pub(super) error: String,
    /// Whether it would fail again.
    pub(super) lasting: bool,
}

impl Failed {
    /// By an error. What is no number stays none; a disk that is full may have room again.
    pub(super) fn by(error: &TrainError) -> Self {
        let lasting = matches!(
            error,
            TrainError::NotFinite { .. } | TrainError::OutputNotFinite { .. }
        );
        Self {
            error: error.chain(),
            lasting,
        }
    }
}

impl RunRecord {
    pub(super) fn left(&self) -> Left<'_> {
        match (&self.scored, &self.failed) {
            (Some(scored), _) => Left::Scores(scored),
            (None, Some(failed)) => Left::Error(&failed.error),
            (None, None) => Left::Nothing,
        }
    }
}

impl Record {
    /// Of a sweep that begins.
    ///
    /// # Errors
    ///
    /// If a configuration is no TOML: a path is not Unicode.
    pub(super) fn new(plan: &Plan) -> Result<Self> {
        let run = |planned: &Planned| {
            Ok(RunRecord {
                name: planned.name.clone(),
                scored: None,
                failed: None,
                config: planned.config.to_table()?,
            })
        };
        Ok(Self {
            format_version: VERSION,
            ls_llama: env!("CARGO_PKG_VERSION").into(),
            choices: plan.choices().clone(),
            runs: plan.runs().iter().map(run).collect::<Result<_>>()?,
            outcome: None,
            files: BTreeMap::new(),
        })
    }

    /// That of a folder, if there is one.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is of another version.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let path = path(folder);
        let Some(Version { format_version }) = optional(read_own_json(&path))? else {
            return Ok(None);
        };
        if format_version != VERSION {
            return Err(TrainError::Settings {
                path,
                reason: format!(
                    "its format_version is {format_version}, and this version of the program reads \
                     {VERSION}"
                ),
            });
        }
        Ok(Some(read_own_json(&path)?))
    }

    /// # Errors
    ///
    /// If it cannot be written.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        Ok(write_json(path(folder), self)?)
    }

    /// Sees that this is of the same runs as another.
    ///
    /// # Errors
    ///
    /// [`TrainError::SweepDiffers`].
    pub(super) fn check_same(&self, now: &Self, folder: &Path) -> Result<()> {
        let mut differences = choices_that_differ(&self.choices, &now.choices);
        if differences.is_empty() {
            let now = now.as_written(folder)?;
            let (was, is) = (self.runs.len(), now.runs.len());
            if was != is {
                differences.push(format!("sweep.json had {was} runs, now there are {is}"));
            }
            for (was, is) in self.runs.iter().zip(&now.runs) {
                if was.name != is.name {
                    differences.push(format!("the run {} was {}", is.name, was.name));
                }
                let (was, is) = (keys_of(was.config.clone()), keys_of(is.config.clone()));
                for differing in differing_keys(&was, &is) {
                    let said = differing.to_string();
                    if !differences.contains(&said) {
                        differences.push(said);
                    }
                }
            }
        }
        if differences.is_empty() {
            return Ok(());
        }
        let path = folder.into();
        Err(TrainError::SweepDiffers { path, differences })
    }

    /// As it is read again: JSON may round a number in its last digit, the same one always in the
    /// same way.
    fn as_written(&self, folder: &Path) -> Result<Self> {
        let path = path(folder);
        let text = serde_json::to_vec(self);
        let text = text.map_err(|error| ls_files::FileError::json(&path, 1, &error))?;
        Ok(ls_files::parse_json(&text, &path)?)
    }
}

impl Plan {
    /// What the sweep in a folder recorded, if it is one of these choices and has begun from an
    /// adapter that is gone: nobody can plan it again, and what is done of it stays.
    ///
    /// # Errors
    ///
    /// If the record cannot be read.
    pub fn recorded(choices: &Choices, folder: &Path) -> Result<Option<Self>> {
        let Some(record) = Record::read(folder)? else {
            return Ok(None);
        };
        if record.choices != *choices {
            return Ok(None);
        }
        let of_combination = (record.runs.len() / choices.combinations().max(1)).max(1);
        let (mut runs, mut is_gone) = (Vec::new(), false);
        for (at, run) in record.runs.into_iter().enumerate() {
            let config = RunConfig::of_begun_table(&run.config, &path(folder))?;
            if let Some(adapter) = &config.model.adapter {
                is_gone |= !exists(adapter)?;
            }
            runs.push(Planned {
                name: run.name,
                combination: at / of_combination,
                config,
            });
        }
        Ok(is_gone.then(|| Self::of_runs(record.choices, runs)))
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join("sweep.json")
}

/// What two commands say otherwise of their runs, a phrase each.
fn choices_that_differ(was: &Choices, is: &Choices) -> Vec<String> {
    let values = |choices: &Choices, wanted: &str| {
        let found = choices.keys.iter().find(|key| key.key == wanted);
        found.map_or("not set".into(), |key| key.values.join(","))
    };
    let number = |given: Option<usize>| given.map_or("not given".into(), |n| n.to_string());
    let all = was.keys.iter().chain(&is.keys).map(|key| key.key.as_str());
    let mut names: Vec<&str> = Vec::new();
    for name in all {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let keys = names
        .iter()
        .map(|name| (*name, values(was, name), values(is, name)));
    let flags = [
        ("--seeds", number(was.seeds), number(is.seeds)),
        ("--folds", number(was.folds), number(is.folds)),
    ];
    let mut found: Vec<String> = keys
        .chain(flags)
        .filter(|(_, was, is)| was != is)
        .map(|(what, was, is)| format!("{what} was {was}, is {is}"))
        .collect();
    if found.is_empty() && was != is {
        found.push("the keys were set in another order".into());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(set: &[&str], seeds: Option<usize>, more: &str) -> Record {
        let set: Vec<String> = set.iter().map(|text| text.to_string()).collect();
        let text = format!("task = 'sequence'\nmodel.path = 'm'\ndata.train = 'a.csv'\n{more}");
        let choices = Choices::new(&set, seeds, None).unwrap();
        let plan = Plan::new(choices, |set| RunConfig::from_toml(&text, "", set)).unwrap();
        Record::new(&plan).unwrap()
    }

    #[test]
    fn another_sweep_is_told_by_what_differs() {
        // A number that JSON could round.
        let set = ["train.learning_rate=1.2345678901234567e-5,0.1", "lora.r=4"];
        let folder = tempfile::tempdir().unwrap();
        let began = record(&set, Some(2), "");
        assert_eq!(Record::read(folder.path()).unwrap(), None);
        began.write(folder.path()).unwrap();
        let began = Record::read(folder.path()).unwrap().unwrap();
        let check = |now: &Record| began.check_same(now, folder.path());
        check(&record(&set, Some(2), "")).unwrap();
        for (now, differences) in [
            (record(&set, Some(3), ""), &["--seeds was 2, is 3"][..]),
            (
                record(&set[..1], Some(2), ""),
                &["lora.r was 4, is not set"],
            ),
            (
                record(&["train.learning_rate=0.1,1.0", "lora.r=8"], Some(2), ""),
                &["train.learning_rate was 1.2", "lora.r was 4, is 8"],
            ),
            (
                record(&set, Some(2), "train.epochs = 5\ndata.max_length = 8"),
                &[
                    "data.max_length was not set, is 8",
                    "train.epochs was 3, is 5",
                ],
            ),
            (record(&[set[1], set[0]], Some(2), ""), &["another order"]),
        ] {
            let error = check(&now).unwrap_err();
            assert!(error.is_usage() && error.hint().is_some());
            let error = error.to_string();
            for part in differences {
                assert_eq!(error.matches(part).count(), 1, "{part:?} in {error}");
            }
        }
        // Nor is a record whose runs are not those of its choices.
        let whole = record(&set, Some(2), "");
        let mut changed = began.clone();
        changed.runs.pop();
        let error = changed.check_same(&whole, folder.path()).unwrap_err();
        assert!(error.to_string().contains("had 3 runs, now there are 4"));
        let mut changed = began.clone();
        changed.runs[1].name = "else".into();
        let error = changed.check_same(&whole, folder.path()).unwrap_err();
        assert!(error.to_string().contains("seed=2 was else"), "{error}");
        std::fs::write(path(folder.path()), "{\"format_version\": 2}").unwrap();
        let error = Record::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("format_version is 2"), "{error}");
    }
}
