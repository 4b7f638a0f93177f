//! One pass over a split: logits, loss, predictions and scores.

use burn::tensor::Device;
use ls_data::{
    ClassTally, ClassificationScores, ExampleLabels, IGNORE_INDEX, LabelSet, SpanMode, SpanScores,
    TagKind, sequential_order,
};
use ls_model::{LlamaClassifier, LlamaConfig, ProblemType};

use crate::config::Protocol;
use crate::dataset::{Dataset, DatasetExample};
use crate::error::{Result, TrainError};
use crate::inference::InferenceSettings;
use crate::out_of_memory::{OutOfMemory, caught};
use crate::overflow::wider;
use crate::prediction::{Decision, Prediction, lenient_names, without_decision};
use crate::scores::Scores;
use crate::tensors::model_input;

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
    pub(crate) fn get(&self, metric: &str) -> Option<f64> {
        if metric == "loss" {
            Some(self.loss)
        } else {
            self.scores.get(metric)
        }
    }
}

/// How a model is run over a split.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass<'a> {
    /// Of the checkpoint.
    pub(crate) config: &'a LlamaConfig,
    /// Padding, and which sub-word speaks for a word.
    pub(crate) settings: &'a InferenceSettings,
    /// Inputs at a time.
    pub(crate) batch_size: usize,
    /// How scores are taken.
    pub(crate) protocol: Protocol,
    /// Without autodiff.
    pub(crate) device: &'a Device,
}

/// One pass over a labelled split. `tick` hears how many inputs are done, from none on, and may end
/// it.
///
/// # Errors
///
/// If the split is empty or unlabelled, or an output is NaN or infinite; what `tick` says.
pub(crate) fn evaluate(
    model: &LlamaClassifier,
    dataset: &Dataset,
    labels: &LabelSet,
    pass: Pass<'_>,
    mut tick: impl FnMut(usize) -> Result<()>,
) -> Result<Evaluation> {
    if dataset.is_empty() {
        return Err(TrainError::EmptySplit {
            split: dataset.place(&[]),
        });
    }
    // Before the first batch, whose time counts too.
    tick(0)?;
    let logits = logits(model, dataset, pass, tick)?;
    let examples = dataset.examples()?;
    let num_labels = model.num_labels();
    let predictions = predictions(dataset, &examples, &logits, num_labels, pass.settings)?;
    let scores = if dataset.is_words() {
        let tags = pass.settings.tag_kind();
        score_tags(&examples, &predictions, labels, tags, pass.protocol)?
    } else {
        score_classes(&examples, &predictions, labels)?
    };
    Ok(Evaluation {
        loss: mean_loss(dataset, &examples, &logits, num_labels)?,
        scores,
        predictions,
    })
}

/// The logits of every input, in the split's order: `num_labels` values for a text, `num_labels`
/// for each of its ids for words. `tick` hears how many inputs are done, and may end it.
///
/// # Errors
///
/// If an output is NaN or infinite, or the split's file can no longer be read.
pub(crate) fn logits(
    model: &LlamaClassifier,
    dataset: &Dataset,
    pass: Pass<'_>,
    mut tick: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<Vec<f32>>> {
    let lengths = dataset.lengths();
    let mut all = vec![Vec::new(); lengths.len()];
    let num_labels = model.num_labels();
    let mut done = 0;
    let options = pass.settings.batch_options(pass.batch_size, true);
    for indices in sequential_order(lengths, options.batch_size, true) {
        // Products of a single row are summed in another order than those of several. So what would
        // be computed alone is computed twice, and no answer depends on its neighbours.
        let alone = indices.len() == 1 && (!dataset.is_words() || lengths[indices[0]] == 1);
        let batch = if alone {
            dataset.batch(&[indices[0]; 2], &options)?
        } else {
            dataset.batch(&indices, &options)?
        };
        let input = model_input(&batch, pass.config, pass.settings.not_pooled(), pass.device)?;
        let rows = caught(|| ls_lora::host_values(model.forward(&input)));
        let rows = rows.map_err(|full| full_in_evaluation(full, indices.len()))?;
        let mut rows = rows.chunks_exact(num_labels);
        for (row, &index) in indices.iter().enumerate() {
            // A text has one row of logits; words have one for each token that the model saw.
            let (seen, text) = if dataset.is_words() {
                (input.lengths[row], lengths[index])
            } else {
                (1, 1)
            };
            let of_row: Vec<f32> = rows.by_ref().take(seen).flatten().copied().collect();
            if let Some(&value) = of_row.iter().find(|value| !value.is_finite()) {
                // Pooling multiplies rows by zeros, so that another row may be at fault.
                return Err(not_finite(model, dataset, pass, &indices, value)?);
            }
            all[index] = of_row[..text * num_labels].to_vec();
        }
        done += indices.len();
        tick(done)?;
    }
    Ok(all)
}

/// An output of a model for these inputs is no number: which module gave the first, and for which
/// input.
///
/// # Errors
///
/// If the split's file can no longer be read.
pub(crate) fn not_finite(
    model: &LlamaClassifier,
    dataset: &Dataset,
    pass: Pass<'_>,
    inputs: &[usize],
    value: f32,
) -> Result<TrainError> {
    let options = pass.settings.batch_options(1, false);
    let mut wider = wider(&pass.settings.precision(), pass.device);
    wider.push(
        "look at the weights of that module: they are numbers, but too large for what they are \
         multiplied with",
    );
    let error = |inputs: &[usize], found: String| TrainError::OutputNotFinite {
        value: value.into(),
        examples: dataset.place(inputs),
        found,
        hint: wider.join("; or "),
    };
    for input in inputs {
        let one = std::slice::from_ref(input);
        let batch = dataset.batch(one, &options)?;
        let read = model_input(&batch, pass.config, pass.settings.not_pooled(), pass.device)?;
        if let Some(module) = model.first_not_finite(&read) {
            let found = format!("the first output that is no number is that of {module}");
            return Ok(error(one, found));
        }
    }
    Ok(error(inputs, "each of them alone gives numbers".into()))
}

/// The device has no memory left for a batch of an evaluation.
pub(crate) fn full_in_evaluation(full: OutOfMemory, inputs: usize) -> TrainError {
    full.error(
        format!("a batch of {inputs} inputs that are scored or answered"),
        0,
        format!("take fewer than {inputs} at a time (train.eval_batch_size), or shorter ones"),
        (inputs > 1).then(|| format!("train.eval_batch_size={}", inputs.div_ceil(2))),
    )
}

/// Predicts each example of a split from the logits of its inputs. A text that was read in windows
/// gets the mean of their logits, a word the logits of the window that it is labelled in.
///
/// # Errors
///
/// If the split's file can no longer be read.
pub(crate) fn predictions(
    dataset: &Dataset,
    examples: &[DatasetExample],
    logits: &[Vec<f32>],
    num_labels: usize,
    settings: &InferenceSettings,
) -> Result<Vec<Prediction>> {
    let function = settings.function_to_apply(num_labels);
    let of_example = |example: &DatasetExample| {
        let inputs = example.inputs.clone();
        if !dataset.is_words() {
            let decision = Decision::of(&mean(&logits[inputs]), function);
            return Ok(match settings.problem_type {
                Some(ProblemType::MultiLabelClassification) => Prediction::MultiLabel(decision),
                _ => Prediction::Sequence(decision),
            });
        }
        let mut decisions = vec![None; example.words];
        for input in inputs {
            for (at, word) in dataset.words_read(input)?.into_iter().enumerate() {
                let Some(word) = word else { continue };
                let logits = &logits[input][at * num_labels..(at + 1) * num_labels];
                decisions[word] = Some(Decision::of(logits, function));
            }
        }
        Ok(Prediction::Token(decisions))
    };
    examples.iter().map(of_example).collect()
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

/// Scores predictions of texts against their gold classes.
fn score_classes(
    examples: &[DatasetExample],
    predictions: &[Prediction],
    labels: &LabelSet,
) -> Result<Scores> {
    let (mut gold, mut predicted, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for (example, prediction) in examples.iter().zip(predictions) {
        if let Prediction::Sequence(decision) = prediction {
            gold.extend(&example.gold);
            predicted.push(decision.label);
            let probabilities = decision.probabilities.iter();
            rows.push(probabilities.map(|p| f64::from(*p)).collect::<Vec<f64>>());
        }
    }
    let names = labels.names();
    let known = rows.iter().all(|row| row.len() == names.len());
    Ok(Scores::Classification(if known {
        ClassificationScores::with_probabilities(&gold, &predicted, &rows, names)?
    } else {
        ClassificationScores::compute(&gold, &predicted, names)?
    }))
}

/// Scores predictions of words against their gold tags. By [`Protocol::Strict`] a word without a
/// prediction counts as `O`, or as wrong where tags are labels; by [`Protocol::Paper`] it is left
/// out, gold tag and all.
fn score_tags(
    examples: &[DatasetExample],
    predictions: &[Prediction],
    labels: &LabelSet,
    tags: TagKind,
    protocol: Protocol,
) -> Result<Scores> {
    let names = lenient_names(labels, tags);
    let none = without_decision(labels, tags);
    let name = |tag: usize| names[tag].as_ref();
    let counted = |word: &Option<Decision>| protocol == Protocol::Strict || word.is_some();
    let (mut gold, mut predicted) = (Vec::new(), Vec::new());
    for (example, prediction) in examples.iter().zip(predictions) {
        let Prediction::Token(words) = prediction else {
            continue;
        };
        let kept = words.iter().zip(&example.gold);
        let (of_model, of_file): (Vec<&str>, Vec<&str>) = kept
            .filter(|(word, _)| counted(word))
            .map(|(word, tag)| (word.as_ref().map_or(none, |d| name(d.label)), name(*tag)))
            .unzip();
        gold.push(of_file);
        predicted.push(of_model);
    }
    Ok(match tags {
        TagKind::Spans => Scores::Spans(SpanScores::compute(&gold, &predicted, SpanMode::Default)?),
        TagKind::Labels => {
            let [tally] = ClassTally::of_words(&gold, [&predicted], labels.names())?;
            Scores::Classification(tally.scores())
        }
    })
}

/// Scores of answering `label` for every example, or every word that is scored by the protocol.
///
/// # Errors
///
/// If the split has no labels or its file can no longer be read.
pub(crate) fn score_constant(
    dataset: &Dataset,
    label: usize,
    labels: &LabelSet,
    tags: TagKind,
    protocol: Protocol,
) -> Result<Scores> {
    let decision = Decision {
        label,
        score: 1.0,
        probabilities: Vec::new(),
    };
    let examples = dataset.examples()?;
    if !dataset.is_words() {
        let predictions = vec![Prediction::Sequence(decision); examples.len()];
        return score_classes(&examples, &predictions, labels);
    }
    let constant = |example: &DatasetExample| {
        // Also of a constant answer, only words of which the model would see something.
        let mut words = vec![None; example.words];
        for input in example.inputs.clone() {
            for word in dataset.words_read(input)?.into_iter().flatten() {
                words[word] = Some(decision.clone());
            }
        }
        Ok(Prediction::Token(words))
    };
    let predictions = examples.iter().map(constant).collect::<Result<Vec<_>>>()?;
    score_tags(&examples, &predictions, labels, tags, protocol)
}

/// Mean cross-entropy of the labels that count, from logits on the host: of a text's logits as they
/// are predicted from, of each word's where it is labelled.
fn mean_loss(
    dataset: &Dataset,
    examples: &[DatasetExample],
    logits: &[Vec<f32>],
    num_labels: usize,
) -> Result<f64> {
    let (mut sum, mut count) = (0.0, 0usize);
    let mut add = |logits: &[f32], label: usize| {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponentials = logits.iter().map(|&logit| f64::from(logit - max).exp());
        sum += exponentials.sum::<f64>().ln() - f64::from(logits[label] - max);
        count += 1;
    };
    if !dataset.is_words() {
        for example in examples {
            let of_example = mean(&logits[example.inputs.clone()]);
            for class in &example.gold {
                add(&of_example, *class);
            }
        }
    } else {
        for (input, logits) in logits.iter().enumerate() {
            if let ExampleLabels::Tokens(tags) = dataset.targets(input)? {
                let counted = logits.chunks_exact(num_labels).zip(tags);
                for (logits, tag) in counted.filter(|(_, tag)| *tag != IGNORE_INDEX) {
                    add(logits, tag as usize);
                }
            }
        }
    }
    Ok(sum / count.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_windows_is_of_their_logits() {
        assert_eq!(mean(&[vec![1.0, 4.0], vec![3.0, -4.0]]), [2.0, 0.0]);
        assert_eq!(mean(&[vec![0.1, 0.2]]), [0.1, 0.2]);
    }
}
