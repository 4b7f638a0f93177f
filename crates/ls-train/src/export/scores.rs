//! The scores of a finished run with their intervals, for its model card.

use std::path::Path;

use ls_data::{
    AnswerColumn, AnswerOptions, Answers, ClassTally, Drawn, Interval, LabelKind, LabelSet,
    MultiLabelAnswer, Resampling, SpanMode, SpanTally, TagKind, TaskKind, TextLabel,
    bilou_as_iobes, bootstrap, has_bilou_tags, probability_rows, read_answers,
};
use ls_files::{optional, read};

use crate::error::Result;
use crate::inference::InferenceSettings;
use crate::scores::Scores;

/// A score of the whole.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// For people.
    pub title: &'static str,
    /// The Hub's name of the metric.
    pub metric: &'static str,
    /// The score.
    pub value: f64,
    /// Where it lies in 95 of 100 resamples of the examples.
    pub interval: Option<Interval>,
}

/// Keys of scores, their titles and the Hub's names, the one that counts most first.
const CLASSES: [[&str; 3]; 3] = [
    ["accuracy", "Accuracy", "accuracy"],
    ["f1_macro", "F1 (macro)", "f1"],
    ["mcc", "Matthews correlation", "matthews_correlation"],
];
const LABELS: [[&str; 3]; 4] = [
    ["f1_micro", "F1 (micro)", "f1"],
    ["f1_macro", "F1 (macro)", "f1"],
    ["average_precision_macro", "Mean average precision", "map"],
    [
        "subset_accuracy",
        "Accuracy of whole label sets",
        "accuracy",
    ],
];
const NUMBERS: [[&str; 3]; 4] = [
    ["pearson", "Pearson correlation", "pearsonr"],
    ["spearman", "Spearman correlation", "spearmanr"],
    ["mae", "Mean absolute error", "mae"],
    ["mse", "Mean squared error", "mse"],
];
const SPANS: [[&str; 3]; 4] = [
    ["span_f1_micro", "Span F1 (micro)", "f1"],
    [
        "span_precision_micro",
        "Span precision (micro)",
        "precision",
    ],
    ["span_recall_micro", "Span recall (micro)", "recall"],
    ["token_accuracy", "Accuracy of words", "accuracy"],
];

/// The scores of a report, with intervals where `predictions` are there and have these very scores:
/// by the protocol `paper` words that were cut off are in the file, but were not scored.
///
/// # Errors
///
/// If the predictions are there and cannot be read.
pub(super) fn measured(
    scores: &Scores,
    predictions: &Path,
    settings: &InferenceSettings,
) -> Result<Vec<Measured>> {
    let rows: &[[&str; 3]] = match scores {
        Scores::Classification(_) => &CLASSES,
        Scores::MultiLabel(_) => &LABELS,
        Scores::Regression(_) => &NUMBERS,
        Scores::Spans(_) => &SPANS,
    };
    let resampled = match optional(read(predictions))? {
        Some(bytes) => resampled(&bytes, predictions, rows, settings)?,
        None => None,
    };
    let known = rows.iter().enumerate().filter_map(|(at, row)| {
        let [key, title, metric] = *row;
        let value = scores.get(key)?;
        let same = |found: &&(f64, Interval)| (found.0 - value).abs() < 1e-9;
        let found = resampled.as_ref().and_then(|all| all.get(at)).filter(same);
        Some(Measured {
            title,
            metric,
            value,
            interval: found.map(|(_, interval)| *interval),
        })
    });
    Ok(known.collect())
}

/// Scores of predictions and their intervals, row by row; nothing where the file holds answers that
/// are none of the model's.
fn resampled(
    bytes: &[u8],
    path: &Path,
    rows: &[[&str; 3]],
    settings: &InferenceSettings,
) -> Result<Option<Vec<(f64, Interval)>>> {
    let kind = settings.problem().label_kind();
    let answers = |column| {
        let options = AnswerOptions {
            task: Some(settings.task),
            kind,
            delimiter: None,
            column,
            names: None,
            header: true,
        };
        read_answers(bytes, path, &options)
    };
    let (gold, predicted) = (answers(AnswerColumn::Gold)?, answers(AnswerColumn::Usual)?);
    let resampling = Resampling::default();
    let of = |metrics: Vec<(&'static str, f64)>| -> Vec<f64> {
        let value = |key: &str| metrics.iter().find(|(name, _)| *name == key);
        let values = rows.iter().map(|row| value(row[0]));
        values
            .map(|found| found.map_or(f64::NAN, |found| found.1))
            .collect()
    };
    let (values, intervals) = match (gold, predicted) {
        (Answers::Labels(gold), Answers::Labels(predicted)) if kind == LabelKind::Number => {
            let pairs = gold.iter().zip(&predicted);
            let pairs = pairs.map(|pair| match (&pair.0.label, &pair.1.label) {
                (TextLabel::Number(gold), TextLabel::Number(found)) => {
                    [f64::from(*gold), f64::from(*found)]
                }
                _ => [f64::NAN; 2],
            });
            let drawn = Drawn::<[f64; 2]>::of_systems([pairs.collect()]);
            let scores = |totals: &[usize]| drawn.scores_of(totals).map(|scores| scores.metrics());
            let whole = of(scores(&drawn.tally(0).totals())?);
            // The same numbers were scored just now.
            let statistics = |totals: &[usize]| of(scores(totals).unwrap_or_default());
            (whole, bootstrap(drawn.tally(0), &resampling, statistics)?)
        }
        (Answers::Labels(gold), Answers::Labels(predicted)) => {
            let labels = &settings.labels;
            let ids = |answers: &[ls_data::LabelAnswer]| {
                let ids = |answer: &ls_data::LabelAnswer| {
                    let ids = answer.label.names().iter().map(|name| labels.id(name));
                    ids.collect::<Option<Vec<usize>>>()
                };
                answers.iter().map(ids).collect::<Option<Vec<Vec<usize>>>>()
            };
            let (Some(gold), Some(found)) = (ids(&gold), ids(&predicted)) else {
                return Ok(None);
            };
            if kind == LabelKind::Classes {
                let Some(rows) = probability_rows(&predicted, labels) else {
                    return Ok(None);
                };
                let answers = gold.into_iter().zip(found).zip(rows);
                let answers = answers.map(|((gold, predicted), probabilities)| MultiLabelAnswer {
                    gold,
                    predicted,
                    probabilities,
                });
                let drawn = Drawn::<MultiLabelAnswer>::of_systems([answers.collect()]);
                let scores = |totals: &[usize]| {
                    let scores = drawn.scores_of(totals, labels.names());
                    scores.map(|scores| scores.metrics())
                };
                let whole = of(scores(&drawn.tally(0).totals())?);
                let statistics = |totals: &[usize]| of(scores(totals).unwrap_or_default());
                let intervals = bootstrap(drawn.tally(0), &resampling, statistics)?;
                return Ok(Some(whole.into_iter().zip(intervals).collect()));
            }
            let (gold, predicted) = (gold.concat(), found.concat());
            let tally = ClassTally::new(&gold, &predicted, labels.names())?;
            let statistics = |totals: &[usize]| of(tally.scores_of(totals).metrics());
            let intervals = bootstrap(tally.tally(), &resampling, statistics)?;
            (of(tally.scores().metrics()), intervals)
        }
        (Answers::Tags(gold), Answers::Tags(predicted)) => {
            let [gold, predicted] = [gold, predicted].map(|answers| tags(answers, settings));
            if settings.tag_kind() == TagKind::Labels {
                let names = settings.labels.names();
                let [tally] = ClassTally::of_words(&gold, [&predicted], names)?;
                let statistics = |totals: &[usize]| of(tally.scores_of(totals).metrics());
                let intervals = bootstrap(tally.tally(), &resampling, statistics)?;
                (of(tally.scores().metrics()), intervals)
            } else {
                let tally = SpanTally::new(&gold, &predicted, SpanMode::Default)?;
                let statistics = |totals: &[usize]| of(tally.scores_of(totals).metrics());
                let intervals = bootstrap(tally.tally(), &resampling, statistics)?;
                (of(tally.scores().metrics()), intervals)
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(values.into_iter().zip(intervals).collect()))
}

/// The tags as they are scored: those of BILOU as IOBES writes them.
fn tags(answers: Vec<ls_data::TagAnswer>, settings: &InferenceSettings) -> Vec<Vec<String>> {
    let bilou = settings.tag_kind() == TagKind::Spans && has_bilou(&settings.labels);
    let read = |tag: String| {
        if bilou {
            bilou_as_iobes(&tag).into_owned()
        } else {
            tag
        }
    };
    let tags = answers.into_iter().map(|answer| answer.tags);
    tags.map(|tags| tags.into_iter().map(read).collect())
        .collect()
}

fn has_bilou(labels: &LabelSet) -> bool {
    has_bilou_tags(labels.names().iter().map(String::as_str))
}

/// What the Hub calls a task.
pub(super) fn pipeline_tag(task: TaskKind) -> &'static str {
    match task {
        TaskKind::Sequence => "text-classification",
        TaskKind::Token => "token-classification",
    }
}
