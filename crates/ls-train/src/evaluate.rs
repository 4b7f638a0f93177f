//! One pass over a split: logits, loss, predictions and scores.

use std::borrow::Cow;

use burn::tensor::Device;
use ls_data::{
    ClassificationScores, ExampleLabels, IGNORE_INDEX, LabelPosition, LabelSet, SpanMode,
    SpanScores, TaskKind, bilou_as_iobes, has_bilou_tags, sequential_order,
};
use ls_model::{LlamaClassifier, LlamaConfig};
use serde::Serialize;

use crate::config::Protocol;
use crate::dataset::Dataset;
use crate::error::{Result, TrainError};
use crate::inference::InferenceSettings;
use crate::tensors::model_input;

/// Probabilities of every label for one unit: an example, or a word.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The likeliest label.
    pub label: usize,
    /// Its probability.
    pub score: f32,
    /// Of each label, in the label set's order.
    pub probabilities: Vec<f32>,
}

/// What the model says of one example.
#[derive(Debug, Clone, PartialEq)]
pub enum Prediction {
    /// Of the whole.
    Sequence(Decision),
    /// Of each word; `None` for a word that was cut off or has no sub-word.
    Token(Vec<Option<Decision>>),
}

/// Scores by task.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Scores {
    /// Of classes.
    Classification(ClassificationScores),
    /// Of spans, lenient as conlleval and seqeval count them by default.
    Spans(SpanScores),
}

impl Scores {
    /// A score by its JSON key.
    pub fn get(&self, metric: &str) -> Option<f64> {
        let metrics = match self {
            Self::Classification(scores) => scores.metrics(),
            Self::Spans(scores) => scores.metrics(),
        };
        let found = metrics.into_iter().find(|(key, _)| *key == metric);
        found.map(|(_, value)| value)
    }

    /// The keys that [`Scores::get`] knows for a task, and `loss`.
    pub fn metrics(task: TaskKind) -> &'static [&'static str] {
        match task {
            TaskKind::Sequence => &[
                "accuracy",
                "precision_macro",
                "recall_macro",
                "f1_macro",
                "precision_micro",
                "recall_micro",
                "f1_micro",
                "precision_weighted",
                "recall_weighted",
                "f1_weighted",
                "mcc",
                "loss",
            ],
            TaskKind::Token => &[
                "span_precision_micro",
                "span_recall_micro",
                "span_f1_micro",
                "span_precision_macro",
                "span_recall_macro",
                "span_f1_macro",
                "span_precision_weighted",
                "span_recall_weighted",
                "span_f1_weighted",
                "token_accuracy",
                "loss",
            ],
        }
    }
}

/// Result of a pass over a labelled split.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Mean cross-entropy of the labels that count.
    pub loss: f64,
    /// Scores.
    pub scores: Scores,
    /// In the split's order.
    pub predictions: Vec<Prediction>,
}

impl Evaluation {
    /// A score by its JSON key, or `loss`.
    pub fn get(&self, metric: &str) -> Option<f64> {
        if metric == "loss" {
            Some(self.loss)
        } else {
            self.scores.get(metric)
        }
    }
}

/// How a model is run over a split.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// Of the checkpoint.
    pub config: &'a LlamaConfig,
    /// Padding, and which sub-word speaks for a word.
    pub settings: &'a InferenceSettings,
    /// Inputs at a time.
    pub batch_size: usize,
    /// How scores are taken.
    pub protocol: Protocol,
    /// Where.
    pub device: &'a Device,
}

/// The logits of every input, in the split's order: `num_labels` values for a text, `num_labels` for each of its ids for
/// words. `tick` hears how many inputs are done.
///
/// # Errors
///
/// If an output is NaN or infinite, or the split's file can no longer be read.
pub fn logits(
    model: &LlamaClassifier,
    dataset: &Dataset,
    pass: Pass<'_>,
    mut tick: impl FnMut(usize),
) -> Result<Vec<Vec<f32>>> {
    let lengths = dataset.lengths();
    let mut all = vec![Vec::new(); lengths.len()];
    let num_labels = model.num_labels();
    let mut done = 0;
    let options = pass.settings.batch_options(pass.batch_size, true);
    for indices in sequential_order(lengths, options.batch_size, true) {
        let batch = dataset.batch(&indices, &options)?;
        let input = model_input(&batch, pass.config, pass.device)?;
        let rows = ls_lora::host_values(model.forward(&input));
        let mut rows = rows.chunks_exact(num_labels);
        for (row, &index) in indices.iter().enumerate() {
            // A text has one row of logits; words have one for each token that the model saw.
            let (seen, text) = match dataset.is_words() {
                false => (1, 1),
                true => (input.lengths[row], lengths[index]),
            };
            let of_row: Vec<f32> = rows.by_ref().take(seen).flatten().copied().collect();
            if let Some(&value) = of_row.iter().find(|value| !value.is_finite()) {
                return Err(TrainError::OutputNotFinite {
                    value: value.into(),
                    examples: dataset.place(&[index]),
                });
            }
            all[index] = of_row[..text * num_labels].to_vec();
        }
        done += indices.len();
        tick(done);
    }
    Ok(all)
}

/// What the logits of a split's inputs say of its examples. A text that was read in windows gets the mean of their logits, a
/// word the logits of the window that it is labelled in.
///
/// # Errors
///
/// If the split's file can no longer be read.
pub fn predictions(
    dataset: &Dataset,
    logits: &[Vec<f32>],
    num_labels: usize,
    position: LabelPosition,
) -> Result<Vec<Prediction>> {
    (0..dataset.len())
        .map(|example| {
            let inputs = dataset.inputs_of(example)?;
            if !dataset.is_words() {
                return Ok(Prediction::Sequence(decide(&mean(&logits[inputs]))));
            }
            let words = dataset.words_of(example)?;
            let mut decisions = vec![None; words];
            for input in inputs {
                for (at, word) in dataset.word_ids(input)?.into_iter().enumerate() {
                    let Some(word) = word else { continue };
                    if decisions[word].is_none() || position == LabelPosition::Last {
                        let logits = &logits[input][at * num_labels..(at + 1) * num_labels];
                        decisions[word] = Some(decide(logits));
                    }
                }
            }
            Ok(Prediction::Token(decisions))
        })
        .collect()
}

/// Element by element; the only row itself.
fn mean(rows: &[Vec<f32>]) -> Vec<f32> {
    match rows {
        [row] => row.clone(),
        rows => {
            let width = rows.first().map_or(0, Vec::len);
            let count = rows.len() as f64;
            let column = |at: usize| rows.iter().map(|row| f64::from(row[at])).sum::<f64>();
            (0..width).map(|at| (column(at) / count) as f32).collect()
        }
    }
}

/// Scores predictions against the split's gold labels. By [`Protocol::Strict`] a word without a prediction counts as `O`; by
/// [`Protocol::Paper`] it is left out, gold tag and all.
///
/// # Errors
///
/// If the split has no labels or its file can no longer be read.
pub fn score(
    dataset: &Dataset,
    predictions: &[Prediction],
    labels: &LabelSet,
    protocol: Protocol,
) -> Result<Scores> {
    if !dataset.is_words() {
        let (mut gold, mut predicted, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for (example, prediction) in predictions.iter().enumerate() {
            if let Prediction::Sequence(decision) = prediction {
                gold.extend(dataset.gold(example)?);
                predicted.push(decision.label);
                let probabilities = decision.probabilities.iter();
                rows.push(probabilities.map(|p| f64::from(*p)).collect::<Vec<f64>>());
            }
        }
        let names = labels.names();
        let known = rows.iter().all(|row| row.len() == names.len());
        return Ok(Scores::Classification(if known {
            ClassificationScores::with_probabilities(&gold, &predicted, &rows, names)?
        } else {
            ClassificationScores::compute(&gold, &predicted, names)?
        }));
    }
    let names = lenient_names(labels);
    let (mut gold, mut predicted) = (Vec::new(), Vec::new());
    for (example, prediction) in predictions.iter().enumerate() {
        let Prediction::Token(words) = prediction else {
            continue;
        };
        let tags = dataset.gold(example)?;
        let counted = |word: &Option<Decision>| protocol == Protocol::Strict || word.is_some();
        let kept = words.iter().zip(&tags).filter(|(word, _)| counted(word));
        let name = |tag: usize| names[tag].as_ref();
        let (of_model, of_file): (Vec<&str>, Vec<&str>) = kept
            .map(|(word, tag)| (word.as_ref().map_or("O", |d| name(d.label)), name(*tag)))
            .unzip();
        gold.push(of_file);
        predicted.push(of_model);
    }
    Ok(Scores::Spans(SpanScores::compute(
        &gold,
        &predicted,
        SpanMode::Default,
    )?))
}

/// The tags as lenient reading knows them: those of BILOU as IOBES writes them.
pub fn lenient_names(labels: &LabelSet) -> Vec<Cow<'_, str>> {
    let names = labels.names().iter().map(String::as_str);
    match has_bilou_tags(names.clone()) {
        true => names.map(bilou_as_iobes).collect(),
        false => names.map(Cow::from).collect(),
    }
}

/// Scores of answering `label` for every example, or every word that is scored by the protocol.
///
/// # Errors
///
/// If the split has no labels or its file can no longer be read.
pub fn score_constant(
    dataset: &Dataset,
    label: usize,
    labels: &LabelSet,
    protocol: Protocol,
) -> Result<Scores> {
    let decision = Decision {
        label,
        score: 1.0,
        probabilities: Vec::new(),
    };
    let constant = |example: usize| {
        Ok(match dataset.is_words() {
            false => Prediction::Sequence(decision.clone()),
            true => {
                // Also of a constant answer, only words of which the model would see something.
                let mut words = vec![None; dataset.words_of(example)?];
                for input in dataset.inputs_of(example)? {
                    for word in dataset.word_ids(input)?.into_iter().flatten() {
                        words[word] = Some(decision.clone());
                    }
                }
                Prediction::Token(words)
            }
        })
    };
    let predictions = (0..dataset.len())
        .map(constant)
        .collect::<Result<Vec<_>>>()?;
    score(dataset, &predictions, labels, protocol)
}

/// The tags of a prediction, `O` for words without one.
pub fn tags<'a>(prediction: &Prediction, labels: &'a LabelSet) -> Vec<&'a str> {
    match prediction {
        Prediction::Sequence(_) => Vec::new(),
        Prediction::Token(words) => words
            .iter()
            .map(|word| {
                word.as_ref()
                    .map_or("O", |decision| labels.name(decision.label))
            })
            .collect(),
    }
}

/// One pass over a labelled split.
///
/// # Errors
///
/// If the split is empty or unlabelled, or an output is NaN or infinite.
pub fn evaluate(
    model: &LlamaClassifier,
    dataset: &Dataset,
    labels: &LabelSet,
    pass: Pass<'_>,
    tick: impl FnMut(usize),
) -> Result<Evaluation> {
    if dataset.is_empty() {
        return Err(TrainError::EmptySplit {
            split: dataset.place(&[]),
        });
    }
    let logits = logits(model, dataset, pass, tick)?;
    let predictions = predictions(
        dataset,
        &logits,
        model.num_labels(),
        pass.settings.label_position,
    )?;
    let scores = score(dataset, &predictions, labels, pass.protocol)?;
    Ok(Evaluation {
        loss: mean_loss(dataset, &logits, model.num_labels())?,
        scores,
        predictions,
    })
}

/// Mean cross-entropy of the labels that count, from logits on the host: of a text's logits as they are predicted from, of
/// each word's where it is labelled.
fn mean_loss(dataset: &Dataset, logits: &[Vec<f32>], num_labels: usize) -> Result<f64> {
    let (mut sum, mut count) = (0.0, 0usize);
    let mut add = |logits: &[f32], label: i64| {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponentials = logits.iter().map(|&logit| f64::from(logit - max).exp());
        sum += exponentials.sum::<f64>().ln() - f64::from(logits[label as usize] - max);
        count += 1;
    };
    if !dataset.is_words() {
        for example in 0..dataset.len() {
            let of_example = mean(&logits[dataset.inputs_of(example)?]);
            for class in dataset.gold(example)? {
                add(&of_example, class as i64);
            }
        }
    } else {
        for (input, logits) in logits.iter().enumerate() {
            if let ExampleLabels::Tokens(tags) = dataset.targets(input)? {
                let counted = logits.chunks_exact(num_labels).zip(tags);
                for (logits, tag) in counted.filter(|(_, tag)| *tag != IGNORE_INDEX) {
                    add(logits, tag);
                }
            }
        }
    }
    Ok(sum / count.max(1) as f64)
}

/// Softmax and its largest entry.
fn decide(logits: &[f32]) -> Decision {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = logits.iter().map(|logit| (logit - max).exp()).collect();
    let total: f32 = exponentials.iter().sum();
    let probabilities: Vec<f32> = exponentials.iter().map(|value| value / total).collect();
    let label = (0..logits.len())
        .rev()
        .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
        .unwrap_or(0);
    Decision {
        label,
        score: probabilities.get(label).copied().unwrap_or(0.0),
        probabilities,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_of_a_task_are_those_of_its_scores() {
        let classes = ["a".to_string()];
        let classes = ClassificationScores::compute(&[0], &[0], &classes).unwrap();
        let tags = [vec!["O"]];
        let spans = SpanScores::compute(&tags, &tags, SpanMode::Default).unwrap();
        for (task, scores) in [
            (TaskKind::Sequence, Scores::Classification(classes)),
            (TaskKind::Token, Scores::Spans(spans)),
        ] {
            let (loss, others) = Scores::metrics(task).split_last().unwrap();
            assert_eq!(*loss, "loss");
            assert!(others.iter().all(|metric| scores.get(metric).is_some()));
            let json = serde_json::to_value(&scores).unwrap();
            let floats = json.as_object().unwrap().iter().filter(|(_, v)| v.is_f64());
            let keys: Vec<&str> = floats.map(|(key, _)| key.as_str()).collect();
            assert_eq!(keys, others, "{task:?}");
        }
    }

    #[test]
    fn the_mean_of_windows_is_of_their_logits() {
        assert_eq!(mean(&[vec![1.0, 4.0], vec![3.0, -4.0]]), [2.0, 0.0]);
        assert_eq!(mean(&[vec![0.1, 0.2]]), [0.1, 0.2]);
    }
}
