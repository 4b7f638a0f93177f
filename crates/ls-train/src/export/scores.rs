//! The scores of a finished run with their intervals, for its model card.

use std::path::Path;

use ls_data::Interval;

use crate::error::Result;
use crate::scores::Scores;

/// What a run was measured to be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// The scores that a card names.
    pub scores: Vec<MeasuredScore>,
    /// Resamples behind each interval; nothing where there are none.
    pub resamples: Option<usize>,
}

/// A score of the whole.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MeasuredScore {
    /// For people.
    pub title: String,
    /// The Hub's name of the metric.
    pub metric: &'static str,
    /// The score.
    pub value: f64,
    /// Where it lies in 95 of 100 resamples of the examples.
    pub interval: Option<Interval>,
}

/// Keys of scores and the Hub's names of them, the one that counts most first.
const CLASSES: [[&str; 2]; 3] = [
    ["accuracy", "accuracy"],
    ["f1_macro", "f1"],
    ["mcc", "matthews_correlation"],
];
const LABELS: [[&str; 2]; 4] = [
    ["f1_micro", "f1"],
    ["f1_macro", "f1"],
    ["average_precision_macro", "map"],
    ["subset_accuracy", "accuracy"],
];
const NUMBERS: [[&str; 2]; 4] = [
    ["pearson", "pearsonr"],
    ["spearman", "spearmanr"],
    ["mae", "mae"],
    ["mse", "mse"],
];
const SPANS: [[&str; 2]; 4] = [
    ["span_f1_micro", "f1"],
    ["span_precision_micro", "precision"],
    ["span_recall_micro", "recall"],
    ["token_accuracy", "accuracy"],
];

/// The scores of a run's report, with the intervals that its page has.
///
/// # Errors
///
/// If the predictions are there and cannot be read.
pub(super) fn measured(scores: &Scores, run: &Path) -> Result<Measured> {
    let rows: &[[&str; 2]] = match scores {
        Scores::Classification(_) => &CLASSES,
        Scores::MultiLabel(_) => &LABELS,
        Scores::Regression(_) => &NUMBERS,
        Scores::Spans(_) => &SPANS,
    };
    let scored = ls_report::scored(run)?;
    let interval = |key: &str| {
        let mut metrics = scored.iter().flat_map(|scored| &scored.metrics);
        let found = metrics.find(|score| score.key == key)?;
        Some(found.interval)
    };
    let known = rows.iter().filter_map(|[key, metric]| {
        Some(MeasuredScore {
            title: ls_report::title(key),
            metric,
            value: scores.get(key)?,
            interval: interval(key),
        })
    });
    Ok(Measured {
        scores: known.collect(),
        resamples: scored.as_ref().map(|scored| scored.resamples),
    })
}
