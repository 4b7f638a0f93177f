//! [`OldHead`]: the head that a run begins with beside its adapter or its model, and which rows of
//! it the run's labels keep.

use std::path::PathBuf;

use ls_data::LabelSet;
use ls_files::listed;
use ls_lora::TaskType;
use ls_model::{Checkpoint, LlamaClassifier, ProblemType, SavedHead};
use serde::Serialize;

use crate::config::ResolvedRun;
use crate::error::Result;
use crate::inference::InferenceSettings;
use crate::problem::Problem;
use crate::set_otherwise::{set_otherwise, solves_otherwise};

/// Names that are listed in a message.
const LISTED: usize = 10;

/// What a run begins from besides a bare decoder, as `report.json` has it.
#[derive(Debug, Clone, Serialize)]
pub struct BegunFrom {
    /// The folder of the adapter, or of the whole classifier.
    pub path: PathBuf,
    /// SHA-256 of the adapter's file of weights; of a classifier that by which its tensors are
    /// known again.
    pub sha256: String,
    /// Labels that kept their rows of its head.
    pub kept_labels: Vec<String>,
    /// Labels whose rows were drawn.
    pub new_labels: Vec<String>,
    /// Labels of its head that the run has not; nothing where it names none.
    pub dropped_labels: Vec<String>,
}

/// A head that was trained before.
pub(crate) struct OldHead {
    /// Its folder.
    pub(crate) place: PathBuf,
    /// What the run begins from, and its hash: of an adapter without a head that is the adapter,
    /// though the head is its model's.
    pub(crate) path: PathBuf,
    pub(crate) sha256: String,
    /// None of the run's task may be there.
    pub(crate) head: Option<SavedHead>,
    /// The names of its rows, where they are known.
    pub(crate) names: Option<Vec<String>>,
    /// Whether its only row gives a number.
    pub(crate) of_number: bool,
}

/// Of each label of a run which row of an old head it keeps.
pub(crate) struct Kept {
    head: Option<(SavedHead, Vec<Option<usize>>)>,
    from: BegunFrom,
    /// What was decided, for people.
    pub(crate) said: String,
}

impl OldHead {
    /// That of a whole classifier, if the model is one for this task.
    ///
    /// # Errors
    ///
    /// If its files cannot be read.
    pub(crate) fn of_model(
        checkpoint: &Checkpoint,
        sha256: &str,
        task: TaskType,
    ) -> Result<Option<Self>> {
        let Some(head) = checkpoint.saved_head(task)? else {
            return Ok(None);
        };
        let record = InferenceSettings::load(&checkpoint.dir)?;
        let problem = match &record {
            Some(record) => record.problem_type,
            None => checkpoint.config.problem_type,
        };
        let names = record.map(|record| record.labels.names().to_vec());
        let names = names.or_else(|| checkpoint.config.labels.clone());
        // What transformers calls labels that nobody named.
        let is_default = |(at, name): (usize, &String)| *name == format!("LABEL_{at}");
        let names = names.filter(|names| !names.iter().enumerate().all(is_default));
        let place = std::path::absolute(&checkpoint.dir);
        let place = place.unwrap_or_else(|_| checkpoint.dir.clone());
        Ok(Some(Self {
            path: place.clone(),
            place,
            sha256: sha256.into(),
            head: Some(head),
            names,
            of_number: problem == Some(ProblemType::Regression),
        }))
    }

    /// Which rows the labels of a run keep: those of the same name. A head without names (peft
    /// writes none) is kept where it has as many rows, and that of a number by a number, whatever
    /// column either is called by.
    pub(crate) fn kept(self, labels: &LabelSet, problem: Problem) -> Kept {
        let Self {
            place,
            path,
            sha256,
            head,
            names,
            of_number,
        } = self;
        let same_number = of_number && problem == Problem::Regression;
        let names = if same_number {
            Some(labels.names().to_vec())
        } else {
            names
        };
        let place = place.display();
        let is_named = names.is_some();
        let (old, why) = match &head {
            None => (None, format!("{place} has no head for such labels")),
            Some(head) => {
                let (rows, count) = (head.num_labels(), labels.len());
                let (names, why) = match names {
                    Some(names) => {
                        let named = names.len();
                        let why = format!("{place} names {named} labels, and its head has {rows}");
                        (names, why)
                    }
                    None => {
                        let why = format!(
                            "{place} names no labels, and its head has {rows}, not {count}"
                        );
                        (labels.names().to_vec(), why)
                    }
                };
                (Some(names).filter(|names| names.len() == rows), why)
            }
        };
        let row = |name: &String| old.as_ref()?.iter().position(|old| old == name);
        let rows: Vec<Option<usize>> = labels.names().iter().map(row).collect();
        let of = |is_kept: bool| -> Vec<String> {
            let names = labels.names().iter().zip(&rows);
            let wanted = names.filter(|(_, row)| row.is_some() == is_kept);
            wanted.map(|(name, _)| name.clone()).collect()
        };
        let (kept, new) = (of(true), of(false));
        let gone = |name: &&String| labels.id(name).is_none();
        let dropped: Vec<String> = old.iter().flatten().filter(gone).cloned().collect();
        let said = match &old {
            None => format!("every row of the head is drawn: {why}"),
            Some(_) if !is_named => format!(
                "{place} names no labels: the rows of its head are taken for {} in this order \
                 (data.labels says another)",
                quoted(labels.names())
            ),
            Some(_) => {
                let parts = [
                    ("keep their rows of the head", &kept),
                    ("new, their rows are drawn", &new),
                    ("dropped", &dropped),
                ];
                let parts = parts.iter().filter(|(_, names)| !names.is_empty());
                let parts = parts.map(|(what, names)| format!("{what}: {}", quoted(names)));
                format!(
                    "labels of {place}: {}",
                    parts.collect::<Vec<_>>().join("; ")
                )
            }
        };
        let is_kept = !kept.is_empty();
        Kept {
            head: head.filter(|_| is_kept).map(|head| (head, rows)),
            said,
            from: BegunFrom {
                path,
                sha256,
                kept_labels: kept,
                new_labels: new,
                dropped_labels: dropped,
            },
        }
    }
}

impl Kept {
    /// Puts the rows that are kept into a head that is drawn, and says what the run begins from.
    ///
    /// # Errors
    ///
    /// If the old head is of another width.
    pub(crate) fn put(self, model: &mut LlamaClassifier) -> Result<BegunFrom> {
        if let Some((head, rows)) = &self.head {
            model.keep_rows(head, rows)?;
        }
        Ok(self.from)
    }
}

/// What the record beside a whole classifier says otherwise than a run of it, a phrase each.
///
/// # Errors
///
/// If the record cannot be read.
pub(crate) fn set_otherwise_than_model(
    run: &ResolvedRun,
    checkpoint: &Checkpoint,
) -> Result<Vec<String>> {
    let dir = &checkpoint.dir;
    Ok(match InferenceSettings::load(dir)? {
        Some(record) => set_otherwise(&record, dir, run),
        None => Vec::from_iter(solves_otherwise(&checkpoint.config, dir, run)),
    })
}

fn quoted(names: &[String]) -> String {
    listed(names.iter().map(|name| format!("`{name}`")), LISTED)
}
