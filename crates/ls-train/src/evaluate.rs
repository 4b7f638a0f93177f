//! One pass over a split: logits, loss, predictions and scores.

use burn::tensor::Device;
use ls_data::{
    ClassificationScores, ExampleLabels, IGNORE_INDEX, LabelPosition, LabelSet, SpanMode,
    SpanScores, collate, sequential_order, word_predictions,
};
use ls_model::{LlamaClassifier, LlamaConfig};
use serde::Serialize;

use crate::config::TaskKind;
use crate::dataset::{Dataset, Examples};
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
        match (self, metric) {
            (Self::Classification(scores), "accuracy") => Some(scores.accuracy),
            (Self::Classification(scores), "f1_macro") => Some(scores.f1_macro),
            (Self::Classification(scores), "f1_micro") => Some(scores.f1_micro),
            (Self::Classification(scores), "f1_weighted") => Some(scores.f1_weighted),
            (Self::Classification(scores), "mcc") => Some(scores.mcc),
            (Self::Spans(scores), "span_precision_micro") => Some(scores.span_precision_micro),
            (Self::Spans(scores), "span_recall_micro") => Some(scores.span_recall_micro),
            (Self::Spans(scores), "span_f1_micro") => Some(scores.span_f1_micro),
            (Self::Spans(scores), "span_f1_macro") => Some(scores.span_f1_macro),
            (Self::Spans(scores), "token_accuracy") => Some(scores.token_accuracy),
            _ => None,
        }
    }

    /// The keys that [`Scores::get`] knows for a task, and `loss`.
    pub fn metrics(task: TaskKind) -> &'static [&'static str] {
        match task {
            TaskKind::Sequence => &[
                "accuracy",
                "f1_macro",
                "f1_micro",
                "f1_weighted",
                "mcc",
                "loss",
            ],
            TaskKind::Token => &[
                "span_f1_micro",
                "span_f1_macro",
                "span_precision_micro",
                "span_recall_micro",
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
    /// Examples at a time.
    pub batch_size: usize,
    /// Where.
    pub device: &'a Device,
}

/// The logits of every example, in the split's order: `num_labels` values for a sequence, `num_labels` for each of its
/// ids for tokens. `tick` hears how many examples are done.
///
/// # Errors
///
/// If an output is NaN or infinite.
pub fn logits(
    model: &LlamaClassifier,
    dataset: &Dataset,
    pass: Pass<'_>,
    mut tick: impl FnMut(usize),
) -> Result<Vec<Vec<f32>>> {
    let mut all = vec![Vec::new(); dataset.len()];
    let num_labels = model.num_labels();
    let mut done = 0;
    let options = pass.settings.batch_options(pass.batch_size, true);
    for indices in sequential_order(&dataset.lengths(), options.batch_size, true) {
        let batch = collate(&dataset.encoded, &indices, &options);
        let input = model_input(&batch, pass.config, pass.device)?;
        let rows = ls_lora::host_values(model.forward(&input));
        let mut rows = rows.chunks_exact(num_labels);
        for (row, &index) in indices.iter().enumerate() {
            // A sequence has one row of logits; tokens have one for each token that the model saw.
            let (seen, text) = match dataset.word_ids.get(index) {
                None => (1, 1),
                Some(word_ids) => (input.lengths[row], word_ids.len()),
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

/// What the logits of a split say.
pub fn predictions(
    dataset: &Dataset,
    logits: &[Vec<f32>],
    num_labels: usize,
    position: LabelPosition,
) -> Vec<Prediction> {
    logits
        .iter()
        .enumerate()
        .map(|(index, logits)| match dataset.word_ids.get(index) {
            None => Prediction::Sequence(decide(logits)),
            Some(word_ids) => {
                let words = match &dataset.examples {
                    Examples::Token(examples) => examples[index].tokens.len(),
                    Examples::Sequence(_) => 0,
                };
                let tokens: Vec<usize> = (0..word_ids.len()).collect();
                let places = word_predictions(word_ids, words, position, &tokens);
                let decide_at = |at: usize| decide(&logits[at * num_labels..(at + 1) * num_labels]);
                Prediction::Token(
                    places
                        .into_iter()
                        .map(|place| place.map(decide_at))
                        .collect(),
                )
            }
        })
        .collect()
}

/// Scores predictions against the split's gold labels. A word without a prediction counts as `O`.
///
/// # Errors
///
/// If the split has no labels.
pub fn score(dataset: &Dataset, predictions: &[Prediction], labels: &LabelSet) -> Result<Scores> {
    if dataset.word_ids.is_empty() {
        let gold: Vec<usize> = dataset.gold.iter().flatten().copied().collect();
        let predicted: Vec<usize> = predictions
            .iter()
            .filter_map(|prediction| match prediction {
                Prediction::Sequence(decision) => Some(decision.label),
                Prediction::Token(_) => None,
            })
            .collect();
        return Ok(Scores::Classification(ClassificationScores::compute(
            &gold,
            &predicted,
            labels.names(),
        )?));
    }
    let gold: Vec<Vec<&str>> = dataset
        .gold
        .iter()
        .map(|tags| tags.iter().map(|&tag| labels.name(tag)).collect())
        .collect();
    let predicted: Vec<Vec<&str>> = predictions
        .iter()
        .map(|prediction| tags(prediction, labels))
        .collect();
    Ok(Scores::Spans(SpanScores::compute(
        &gold,
        &predicted,
        SpanMode::Default,
    )?))
}

/// Scores of answering `label` for every example, or every word.
///
/// # Errors
///
/// If the split has no labels.
pub fn score_constant(dataset: &Dataset, label: usize, labels: &LabelSet) -> Result<Scores> {
    let decision = Decision {
        label,
        score: 1.0,
        probabilities: Vec::new(),
    };
    let constant = |gold: &Vec<usize>| match dataset.examples {
        Examples::Sequence(_) => Prediction::Sequence(decision.clone()),
        Examples::Token(_) => Prediction::Token(vec![Some(decision.clone()); gold.len()]),
    };
    let predictions: Vec<Prediction> = dataset.gold.iter().map(constant).collect();
    score(dataset, &predictions, labels)
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
            split: dataset.path.display().to_string(),
        });
    }
    let logits = logits(model, dataset, pass, tick)?;
    let predictions = predictions(
        dataset,
        &logits,
        model.num_labels(),
        pass.settings.label_position,
    );
    let scores = score(dataset, &predictions, labels)?;
    Ok(Evaluation {
        loss: mean_loss(dataset, &logits, model.num_labels()),
        scores,
        predictions,
    })
}

/// Mean cross-entropy of the labels that count, from logits on the host.
fn mean_loss(dataset: &Dataset, logits: &[Vec<f32>], num_labels: usize) -> f64 {
    let (mut sum, mut count) = (0.0, 0usize);
    for (example, logits) in dataset.encoded.iter().zip(logits) {
        let labels = match &example.labels {
            ExampleLabels::None => &[][..],
            ExampleLabels::Class(class) => std::slice::from_ref(class),
            ExampleLabels::Tokens(tags) => tags,
        };
        for (logits, &label) in logits
            .chunks_exact(num_labels)
            .zip(labels)
            .filter(|(_, label)| **label != IGNORE_INDEX)
        {
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f64 = logits
                .iter()
                .map(|&logit| f64::from(logit - max).exp())
                .sum();
            sum += total.ln() - f64::from(logits[label as usize] - max);
            count += 1;
        }
    }
    sum / count.max(1) as f64
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
