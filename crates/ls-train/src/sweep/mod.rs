//! Sweeps: one run after the other for every combination of values, seeds and folds, and which
//! combination is the best.
//!
//! [`Choices`] says what varies, [`Plan`] which runs these are, [`sweep`] trains them, and
//! [`Outcome`] has the means. A run is to the bit the one that [`train`](crate::train) makes of its
//! configuration, but what runs have in common is read, encoded and loaded once.
//!
//! The folder of a sweep:
//!
//! | path | holds |
//! |---|---|
//! | `sweep.json` | what is to be run, what is done and what came of it |
//! | `NUMBER_KEY=VALUE_...` | a run folder for each run |
//! | `best.toml` | the configuration of the best combination, once all runs have been taken |

mod choices;
mod compared;
mod fixed;
mod outcome;
mod plan;
mod record;

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use ls_files::{FileError, create_folder, exists, is_folder, write_atomic};
use toml::{Table, Value};

pub use choices::{Choices, Key};
pub use outcome::{Combination, Outcome, Spread};
pub use plan::{Plan, Planned};

use crate::error::{Result, TrainError};
use crate::events::{Event, Observer};
use crate::run_dir::RunDir;
use crate::shared::Shared;
use crate::trainer::begin_or_go_on;
use outcome::Scored;
use record::{Failed, Record};

/// The configuration of the best combination.
pub const BEST: &str = "best.toml";

/// Trains the runs of a plan into folders in `folder`, one after the other, or goes on where the
/// same sweep was ended: finished runs are passed over, and a run that was interrupted goes on from
/// its last checkpoint. A run that fails is recorded with its error and the others go on; the next
/// start takes it again, unless what failed was that something is no number: then that folder has
/// to be removed first.
///
/// # Errors
///
/// If the folder holds something else or another process has it; [`TrainError::SweepDiffers`] if it
/// is of another sweep; [`TrainError::Interrupted`] if the observer asked to stop, and
/// [`TrainError::FileChanged`] if a file is no longer what the runs before have read.
pub fn sweep(
    plan: &Plan,
    folder: &Path,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let mut record = Record::new(plan)?;
    if !is_folder(folder)? {
        create_folder(folder)?;
    }
    let _held = RunDir::at(folder).hold()?;
    match Record::read(folder)? {
        Some(began) => {
            began.check_same(&record, folder)?;
            record = began;
        }
        None if RunDir::at(folder).is_free()? => record.write(folder)?,
        None => {
            let path = folder.into();
            return Err(TrainError::RunNotEmpty { path });
        }
    }
    ls_files::sweep(folder);
    let mut shared = Shared::by_runs(record.files.clone());
    for at in 0..plan.runs().len() {
        let before = record.runs[at].clone();
        let taken = take(plan, at, folder, &mut record, device, &mut shared, observer);
        if taken.is_err() || record.runs[at] != before {
            record.files.clone_from(shared.seen());
            let written = record.write(folder);
            // Why it stops comes first.
            taken?;
            written?;
        }
    }
    let left: Vec<_> = record.runs.iter().map(|run| run.left()).collect();
    let outcome = Outcome::new(plan, &left);
    write_best(plan, &outcome, folder)?;
    record.outcome = Some(outcome.clone());
    record.write(folder)?;
    Ok(outcome)
}

/// Trains a run, unless it is done, and records what came of it.
fn take(
    plan: &Plan,
    at: usize,
    folder: &Path,
    record: &mut Record,
    device: &Device,
    shared: &mut Shared,
    observer: &mut dyn Observer,
) -> Result<()> {
    let planned = &plan.runs()[at];
    let own = &mut record.runs[at];
    let place = folder.join(&planned.name);
    own.scored = Scored::of_run(&place)?;
    if own.scored.is_some() {
        own.failed = None;
        return Ok(());
    }
    if own.failed.as_ref().is_some_and(|failed| failed.lasting) && exists(&place)? {
        return Ok(());
    }
    record.outcome = None;
    if observer.stop_requested() {
        return Err(TrainError::Interrupted {
            run: place,
            at: None,
            saved: None,
        });
    }
    observer.event(&Event::Run {
        number: at + 1,
        runs: plan.runs().len(),
        name: &planned.name,
    });
    let own = &mut record.runs[at];
    own.failed = None;
    match begin_or_go_on(&planned.config, &place, device, shared, observer) {
        // What lacks are its predictions: it has its scores.
        Ok(_) | Err(TrainError::NoPredictions { .. }) => own.scored = Scored::of_run(&place)?,
        // Whoever asked to stop means the sweep; and what was read before cannot be compared with
        // what follows.
        Err(
            error @ (TrainError::Interrupted { .. }
            | TrainError::NotSaved { .. }
            | TrainError::FileChanged { .. }),
        ) => return Err(error),
        Err(error) => {
            let name = &planned.name;
            observer.event(&Event::RunFailed {
                name,
                error: &error,
            });
            own.failed = Some(Failed::by(&error));
        }
    }
    Ok(())
}

/// Writes the configuration of the best combination, with its first seed and without a fold: what
/// its runs recorded, every choice made.
fn write_best(plan: &Plan, outcome: &Outcome, folder: &Path) -> Result<()> {
    let path = folder.join(BEST);
    let Some(best) = outcome.best else {
        if exists(&path)? {
            fs::remove_file(&path).map_err(FileError::writing(&path))?;
        }
        return Ok(());
    };
    let mut runs = plan.runs().iter();
    let Some(first) = runs.find(|run| run.combination == best) else {
        return Ok(());
    };
    let mut config: Table = ls_files::read_toml(RunDir::at(&folder.join(&first.name)).config())?;
    config.remove("run");
    if let Some(Value::Table(data)) = config.get_mut("data") {
        data.remove("fold");
    }
    let values: Vec<String> = plan
        .values(best)
        .iter()
        .map(|(key, value)| format!("{key} = {}", ls_files::shown(value.replace('\n', " "))))
        .collect();
    let text = toml::to_string(&config).map_err(|error| TrainError::Config {
        origin: path.display().to_string(),
        faults: vec![error.to_string()],
    })?;
    let head = match values.len() {
        0 => String::new(),
        _ => format!("# {}\n", values.join(", ")),
    };
    Ok(write_atomic(path, head + &text)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::RunConfig;

    #[test]
    fn splits_that_are_read_alike_are_encoded_once() {
        let dir = tempfile::tempdir().unwrap();
        let rows = "text,label\nthe film was good,a\na sad play,b\n".repeat(4);
        for name in ["train.csv", "validation.csv"] {
            std::fs::write(dir.path().join(name), &rows).unwrap();
        }
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/demo/model");
        let [train, validation] = ["train.csv", "validation.csv"].map(|name| dir.path().join(name));
        let text = format!(
            "task = \"sequence\"\nmodel.path = {model:?}\ndata.train = {train:?}\n\
             data.validation = {validation:?}\ndata.test = {validation:?}\ndata.cache = false\n\
             train.epochs = 1\n"
        );
        let mut shared = Shared::by_runs(BTreeMap::new());
        let mut encoded = |name: &str, set: &str| {
            let config = RunConfig::from_toml(&text, "", &[set.into()]).unwrap();
            let run = dir.path().join(name);
            begin_or_go_on(&config, &run, &Device::flex(), &mut shared, &mut ()).unwrap();
            shared.encoded()
        };
        // The validation split is the test split too.
        assert_eq!(encoded("a", "train.seed=1"), 2);
        assert_eq!(encoded("b", "train.seed=2"), 2);
        assert_eq!(encoded("c", "lora.r=2"), 2);
        assert_eq!(encoded("d", "data.fold=2/4"), 2);
        assert_eq!(encoded("e", "data.max_length=5"), 4);
        assert_eq!(encoded("f", "data.special_tokens=parse"), 6);
        assert_eq!(encoded("g", "lora.r=3"), 6);
    }
}
