//! Whether there is something to tell apart in the data, before a model is loaded.

use ls_data::LabelSet;

use crate::dataset::Dataset;
use crate::error::{Result, TrainError};

/// A split's name, the split, and how many examples or words of it have each label.
pub(crate) type Counted<'a> = (&'static str, &'a Dataset, Vec<usize>);

/// Names that are listed in a warning.
const LISTED: usize = 10;

/// Refuses training data in which everything has the same label, and warns of labels that some
/// splits have and others lack. The first split is the one to learn from.
///
/// # Errors
///
/// [`TrainError::OneClass`].
pub(crate) fn check(labels: &LabelSet, splits: &[Counted<'_>]) -> Result<()> {
    let names = |wanted: &dyn Fn(usize) -> bool| -> Vec<String> {
        let all = labels.names().iter().enumerate();
        let wanted = all.filter(|(label, _)| wanted(*label));
        wanted.map(|(_, name)| format!("{name:?}")).collect()
    };
    let Some(((_, train, learnt), others)) = splits.split_first() else {
        return Ok(());
    };
    let known = names(&|label| learnt[label] > 0);
    if let [only] = known.as_slice() {
        let files = train.files().iter().map(|file| file.display().to_string());
        return Err(TrainError::OneClass {
            files: ls_files::listed(files, LISTED),
            label: only.clone(),
            count: learnt.iter().sum(),
            words: train.is_words(),
        });
    }
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
    for (split, _, counts) in others {
        let absent = names(&|label| learnt[label] > 0 && counts[label] == 0);
        let what =
            format!("labels of train that {split} has no example of, so that they are not scored");
        warn(&what, absent);
        let only_here = names(&|label| learnt[label] == 0 && counts[label] > 0);
        let what =
            format!("labels of {split} that train has no example of, so that they are wrong");
        warn(&what, only_here);
    }
    Ok(())
}
