//! Whether there is something to tell apart in the data, before a model is loaded.

use std::path::PathBuf;

use ls_data::LabelSet;

use crate::dataset::Dataset;
use crate::error::{Result, TrainError};

/// A split's name, and how many examples or words of it have each label.
pub(crate) type Counted = (&'static str, Vec<usize>);

/// Names that are listed in a warning.
const LISTED: usize = 10;

/// Refuses training data in which everything has the same label.
///
/// # Errors
///
/// [`TrainError::OneClass`].
pub(crate) fn check_train(labels: &LabelSet, train: &Dataset) -> Result<()> {
    let counts = train.label_counts(labels.len())?;
    check_counts(labels, &counts, train.files(), train.is_words())
}

/// The same by the count of each label; `words` says whether words are labelled.
///
/// # Errors
///
/// [`TrainError::OneClass`].
pub(crate) fn check_counts(
    labels: &LabelSet,
    counts: &[usize],
    files: &[PathBuf],
    words: bool,
) -> Result<()> {
    let known = names(labels, &|label| counts[label] > 0);
    let [only] = known.as_slice() else {
        return Ok(());
    };
    let files = files.iter().map(|file| file.display().to_string());
    Err(TrainError::OneClass {
        files: ls_files::listed(files, LISTED),
        label: only.clone(),
        count: counts.iter().sum(),
        words,
    })
}

/// Warns of labels that some splits have and others lack. The first split is the one to learn from;
/// `lists` says whether any number of labels may hold.
pub(crate) fn warn_of_missing(labels: &LabelSet, splits: &[Counted], lists: bool) {
    let names = |wanted: &dyn Fn(usize) -> bool| names(labels, wanted);
    let Some(((_, learnt), others)) = splits.split_first() else {
        return;
    };
    let warn = |what: &str, labels: Vec<String>| {
        if !labels.is_empty() {
            tracing::warn!("{what}: {}", ls_files::listed(labels, LISTED));
        }
    };
    let never = names(&|label| learnt[label] == 0);
    warn(
        "labels that train has no example of, so that they are never answered",
        never,
    );
    // Each label of a list is scored by itself, also where it holds nowhere.
    let [lacked, new] = if lists {
        ["each counts as 0 in the macro scores", "they are missed"]
    } else {
        ["they are not scored", "they are wrong"]
    };
    for (split, counts) in others {
        let absent = names(&|label| learnt[label] > 0 && counts[label] == 0);
        let what = format!("labels of train that {split} has no example of, so that {lacked}");
        warn(&what, absent);
        let only_here = names(&|label| learnt[label] == 0 && counts[label] > 0);
        let what = format!("labels of {split} that train has no example of, so that {new}");
        warn(&what, only_here);
    }
}

/// The names of the labels that are `wanted`, quoted.
fn names(labels: &LabelSet, wanted: &dyn Fn(usize) -> bool) -> Vec<String> {
    let all = labels.names().iter().enumerate();
    let wanted = all.filter(|(label, _)| wanted(*label));
    wanted.map(|(_, name)| format!("{name:?}")).collect()
}
