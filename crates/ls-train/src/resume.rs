//! Going on with a run: what it was, what of it may have changed since, and from which checkpoint.

use std::path::Path;

use toml::Value;

use crate::checkpoint::{self, Saved, State};
use crate::config::{RunConfig, keys_of};
use crate::error::{Result, TrainError};
use crate::identity::Identity;
use crate::inference::InferenceSettings;
use crate::read_files::ReadFiles;
use crate::run_dir::{MetricsLog, RunDir};

/// Keys that cannot change what is done already, nor what a step computes.
pub(crate) const FREE: [&str; 12] = [
    "train.epochs",
    "train.early_stopping_patience",
    "train.eval_steps",
    "train.eval_batch_size",
    "train.gradient_checkpointing",
    "train.skip_nonfinite_steps",
    "train.save_steps",
    "train.save_seconds",
    "train.save_total_limit",
    "train.tensorboard",
    "train.report",
    "data.cache",
];
/// What divides the examples of a step into passes. Whoever has no memory left could not go on
/// without it; that what follows may round otherwise is said.
pub(crate) const DIVIDES: &str = "train.pass_size";
/// It may change where the examples of a step stay the same.
pub(crate) const SHARES: &str = "train.micro_batch_size";
/// Those of [`FREE`] that may lead a finished run further.
const LENGTH: [&str; 2] = ["train.epochs", "train.early_stopping_patience"];
/// Where something stands. What stands there is compared by [`Identity`].
pub(crate) const PLACES: [&str; 7] = [
    "run",
    "model.path",
    "model.adapter",
    "data.train",
    "data.validation",
    "data.test",
    "data.dir",
];

/// How far a run has come that is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The step of the best model so far, if there is one.
    pub best: Option<usize>,
    /// The step of the newest checkpoint, and of how many; nothing before the first.
    pub at: Option<(usize, usize)>,
}

/// How far a run has come, unless it is finished.
///
/// # Errors
///
/// If the system does not say, or the best model's settings cannot be read.
pub fn unfinished(run: &Path) -> Result<Option<Progress>> {
    let folder = RunDir::at(run);
    if !folder.is_begun()? || folder.is_finished()? {
        return Ok(None);
    }
    let settings = InferenceSettings::load(&folder.standing_best()?)?;
    Ok(Some(Progress {
        best: settings.and_then(|settings| settings.step),
        at: folder.last_step(),
    }))
}

/// Whether a run was begun in a folder, finished or not.
///
/// # Errors
///
/// If the system does not say.
pub fn is_run(folder: &Path) -> Result<bool> {
    RunDir::at(folder).is_begun()
}

/// The configuration that a run was begun with, and `key=value` overrides.
///
/// # Errors
///
/// If there is no run, or with all faults of the overrides.
pub fn config_of_run(run: &Path, overrides: &[String]) -> Result<RunConfig> {
    let folder = RunDir::at(run);
    folder.check_config()?;
    let path = folder.config();
    RunConfig::of_begun(&path, overrides)
}

/// A run that is to go on, claimed by its log.
pub(crate) struct Earlier {
    pub(crate) log: MetricsLog,
    pub(crate) finished: bool,
    recorded: RunConfig,
}

impl Earlier {
    /// Claims the folder, and removes what a killed process left in it.
    ///
    /// # Errors
    ///
    /// If it is no run folder, or another process trains there.
    pub(crate) fn open(folder: &RunDir) -> Result<Self> {
        if !folder.is_begun()? {
            let reason = if ls_files::is_file(folder.config())? {
                "no metrics.jsonl, and no checkpoint to go on from without it".into()
            } else {
                "no config.toml".into()
            };
            let path = folder.root().into();
            return Err(TrainError::NotARun { path, reason });
        }
        let metrics = folder.metrics();
        let log = if ls_files::exists(&metrics)? {
            MetricsLog::reopen(metrics)?
        } else {
            MetricsLog::create(metrics)?
        };
        for left in [folder.root(), &folder.checkpoints()] {
            ls_files::sweep(left);
        }
        Ok(Self {
            log,
            finished: folder.is_finished()?,
            recorded: RunConfig::of_finished(&folder.config())?,
        })
    }

    /// Takes over what the data decided when the run began, where the configuration leaves it open.
    pub(crate) fn settle(&self, config: &mut RunConfig) {
        let recorded = &self.recorded;
        config.data.scheme = config.data.scheme.or(recorded.data.scheme);
        let metric = &mut config.train.metric_for_best_model;
        *metric = metric
            .take()
            .or_else(|| recorded.train.metric_for_best_model.clone());
        let pass_size = &mut config.train.pass_size;
        *pass_size = pass_size.or(recorded.train.pass_size);
    }

    /// Takes over the size of a pass that a checkpoint had come to, unless a smaller one was chosen
    /// since, or another is asked for now.
    pub(crate) fn settle_passes(&self, saved: &State, config: &mut RunConfig) {
        let train = &mut config.train;
        let asked = train.pass_size != self.recorded.train.pass_size;
        if !asked && saved.pass_size < train.largest_pass() {
            train.pass_size = Some(saved.pass_size);
        }
    }

    /// What the configuration says otherwise than the run's own and may, a phrase each. Both have
    /// every choice made.
    ///
    /// # Errors
    ///
    /// If it says something else that the run cannot go on with; if the run is finished, and no
    /// change leads it further.
    pub(crate) fn changes(&self, folder: &RunDir, now: &RunConfig) -> Result<Vec<String>> {
        let differences = differences(&keys(&self.recorded)?, &keys(now)?);
        let path = folder.root().to_path_buf();
        let largest = now.train.micro_batch_size.largest();
        let (free, others): (Vec<_>, Vec<_>) =
            differences
                .into_iter()
                .partition(|(key, _)| match key.as_str() {
                    DIVIDES => true,
                    SHARES => self.recorded.train.micro_batch_size.largest() == largest,
                    key => FREE.contains(&key),
                });
        if !others.is_empty() {
            let differences = others.into_iter().map(|(_, said)| said).collect();
            return Err(TrainError::Differs { path, differences });
        }
        let further = free.iter().any(|(key, _)| LENGTH.contains(&key.as_str()));
        if self.finished && !further {
            return Err(TrainError::Finished { path });
        }
        Ok(free.into_iter().map(|(_, said)| said).collect())
    }

    /// The checkpoint to go on from, the newest that is whole; none where the run was ended before
    /// its first.
    ///
    /// # Errors
    ///
    /// If none of those there are can be used; if the newest that may be whole cannot be read, is
    /// of another version, of other data, another tokenizer or another model, or knows of records
    /// that are gone in part.
    pub(crate) fn checkpoint(
        &self,
        folder: &RunDir,
        now: &Identity,
        read: &ReadFiles,
    ) -> Result<Option<Saved>> {
        let found = checkpoint::list(&folder.checkpoints())?;
        let mut last = None;
        for (_, path) in &found {
            let saved = match Saved::read(path) {
                Ok(saved) => saved,
                Err(error @ TrainError::Checkpoint { .. }) => {
                    tracing::warn!("{error}: the checkpoint before it is looked for");
                    last = Some(error);
                    continue;
                }
                // Nothing says that it is damaged: steps that are done are not thrown away.
                Err(error) => return Err(error),
            };
            let path_of = |sha256: &str| read.path_of(sha256);
            let differences = saved.state.identity.differences(now, path_of);
            if !differences.is_empty() {
                let path = folder.root().into();
                return Err(TrainError::Differs { path, differences });
            }
            let (found, expected) = (self.log.bytes(), saved.state.metrics_bytes);
            if (1..expected).contains(&found) {
                return Err(TrainError::RecordsCut {
                    path: folder.metrics(),
                    found,
                    expected,
                    step: saved.state.step,
                });
            }
            return Ok(Some(saved));
        }
        match last {
            Some(error) => Err(error),
            None if self.finished => Err(TrainError::Checkpoint {
                path: folder.checkpoints(),
                reason: "no checkpoint in it that the finished run could go on from".into(),
            }),
            None => Ok(None),
        }
    }
}

/// Every key of a configuration that has a value, in order.
fn keys(config: &RunConfig) -> Result<Vec<(String, Value)>> {
    let text = config.to_toml()?;
    Ok(keys_of(ls_files::parse_toml(
        &text,
        Path::new("config.toml"),
    )?))
}

/// The keys whose values differ, places aside, each with what is said of it.
fn differences(was: &[(String, Value)], is: &[(String, Value)]) -> Vec<(String, String)> {
    // A data set that a file describes has the file's path for a name.
    let described = |value: Option<&Value>| {
        let path = value.and_then(Value::as_str);
        path.is_some_and(|path| path.ends_with(".toml"))
    };
    differing_keys(was, is)
        .into_iter()
        .filter(|differing| !PLACES.contains(&differing.key.as_str()))
        .filter(|differing| {
            differing.key != "data.dataset"
                || !(described(differing.was) && described(differing.is))
        })
        .map(|differing| (differing.key.clone(), differing.to_string()))
        .collect()
}

/// A key whose values differ.
pub(crate) struct Differing<'a> {
    pub(crate) key: &'a String,
    was: Option<&'a Value>,
    is: Option<&'a Value>,
}

impl std::fmt::Display for Differing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown =
            |value: Option<&Value>| value.map_or("not set".into(), |value| value.to_string());
        let (key, was, is) = (self.key, shown(self.was), shown(self.is));
        write!(f, "{key} was {was}, is {is}")
    }
}

/// The keys whose values differ.
pub(crate) fn differing_keys<'a>(
    was: &'a [(String, Value)],
    is: &'a [(String, Value)],
) -> Vec<Differing<'a>> {
    let value = |keys: &'a [(String, Value)], wanted: &str| {
        let found = keys.iter().find(|(key, _)| key == wanted);
        found.map(|(_, value)| value)
    };
    let mut seen = std::collections::BTreeSet::new();
    let all = was.iter().chain(is).map(|(key, _)| key);
    all.filter(|key| seen.insert(*key))
        .map(|key| Differing {
            key,
            was: value(was, key),
            is: value(is, key),
        })
        .filter(|differing| differing.was != differing.is)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(set: &[&str]) -> RunConfig {
        let text = "task = 'sequence'\nmodel.path = 'm'\ndata.train = 'a.csv'\n";
        let set: Vec<String> = set.iter().map(|text| text.to_string()).collect();
        RunConfig::from_toml(text, "", &set).unwrap()
    }

    #[test]
    fn what_differs_is_named_by_key_unless_it_is_a_place() {
        let was = config(&["train.learning_rate=1e-3", "train.eval_steps=4"]);
        let is = config(&[
            "train.learning_rate=2e-3",
            "data.train=b.csv",
            "model.path=n",
            "run=elsewhere",
            "lora.bias=all",
        ]);
        let found = differences(&keys(&was).unwrap(), &keys(&is).unwrap());
        let said: Vec<&str> = found.iter().map(|(_, said)| said.as_str()).collect();
        assert_eq!(
            said,
            [
                "lora.bias was \"none\", is \"all\"",
                "train.learning_rate was 0.001, is 0.002",
                "train.eval_steps was 4, is not set",
            ]
        );
        assert!(differences(&keys(&was).unwrap(), &keys(&was).unwrap()).is_empty());
        let of_dataset = |name: &str| {
            let mut config = config(&[]);
            config.data.dataset = Some(name.into());
            keys(&config).unwrap()
        };
        let count = |was, is| differences(&of_dataset(was), &of_dataset(is)).len();
        assert_eq!(count("/a/x.toml", "/b/x.toml"), 0);
        assert_eq!(count("sst2", "sst5"), 1);
    }

    #[test]
    fn every_key_that_may_change_is_a_key() {
        let set = ["early_stopping_patience", "eval_steps", "save_steps"];
        let set = set.map(|key| format!("train.{key}=1"));
        let all = keys(&config(&set.each_ref().map(String::as_str))).unwrap();
        for key in FREE.iter().chain(&LENGTH) {
            assert!(all.iter().any(|(found, _)| found == key), "{key}");
        }
        assert!(LENGTH.iter().all(|key| FREE.contains(key)));
        // And whoever is refused another is told which may.
        let (path, differences) = ("run".into(), Vec::new());
        let hint = TrainError::Differs { path, differences }.hint().unwrap();
        for key in FREE.iter().chain([&DIVIDES]) {
            let told = hint.contains(key) || key.starts_with("train.save_");
            assert!(told, "{key}: {hint}");
        }
    }
}
