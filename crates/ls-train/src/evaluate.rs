//! One pass over a split: logits, loss, predictions and scores.

use std::borrow::Cow;

use burn::tensor::Device;
use ls_data::{
    ClassTally, ClassificationScores, ExampleLabels, IGNORE_INDEX, LabelSet, MultiLabelScores,
    NoLabel, RegressionScores, SpanMode, SpanScores, TagGrammar, TagKind, sequential_order,
};
use ls_model::{LlamaClassifier, LlamaConfig};

use crate::calibration::Calibration;
use crate::config::Protocol;
use crate::dataset::{Dataset, DatasetExample};
use crate::decision::Decision;
use crate::decoding::{Coverage, Decoding, constrain};
use crate::error::{Result, TrainError};
use crate::inference::InferenceSettings;
use crate::out_of_memory::{OutOfMemory, caught};
use crate::overflow::wider;
use crate::prediction::{Prediction, lenient_names, without_decision};
use crate::problem::Problem;
use crate::scores::{Baseline, Scores};
use crate::tensors::model_input;

/// Result of a pass over a labelled split.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Mean loss of the labels that count: cross-entropy, binary cross-entropy of each label, or
    /// the squared error of a number; without weights, smoothing and focus.
    pub loss: f64,
    /// Scores.
    pub scores: Scores,
    /// In the split's order.
    pub predictions: Vec<Prediction>,
    /// With which the scores became answers.
    pub calibration: Calibration,
    /// How much is answered, where unsure answers are left out: texts and words without one are not
    /// scored, and entities that are left out are not found.
    pub coverage: Option<Coverage>,
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
    /// How answers are chosen by scores.
    pub(crate) decoding: Decoding,
    /// That of `decoding.constrained`.
    pub(crate) grammar: Option<&'a TagGrammar>,
    /// What of the calibration is fitted to the split.
    pub(crate) fits: Fits,
    /// Without autodiff.
    pub(crate) device: &'a Device,
}

/// What is fitted to a split before it is scored.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fits {
    /// A threshold for each label where any number may hold, if none are said.
    pub(crate) thresholds: bool,
    /// The temperature.
    pub(crate) temperature: bool,
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
    let problem = pass.settings.problem();
    let mut calibration = pass.settings.calibration.clone();
    if pass.fits.temperature && problem != Problem::Regression {
        let rows = labelled(problem, dataset, &examples, &logits, num_labels, true)?;
        calibration = calibration.with_temperature_of(&rows);
    }
    let (mut predictions, coverage) =
        predictions(dataset, &examples, &logits, num_labels, pass, &calibration)?;
    if pass.fits.thresholds && problem == Problem::MultiLabel && calibration.thresholds.is_none() {
        calibration = fitted(&examples, &mut predictions, num_labels, calibration);
    }
    Ok(Evaluation {
        loss: mean_loss(problem, dataset, &examples, &logits, num_labels)?,
        scores: score(
            problem,
            &examples,
            &predictions,
            labels,
            pass.protocol,
            coverage,
        )?,
        predictions,
        calibration,
        coverage,
    })
}

/// Fits thresholds to the examples, and answers by them.
fn fitted(
    examples: &[DatasetExample],
    predictions: &mut [Prediction],
    num_labels: usize,
    calibration: Calibration,
) -> Calibration {
    let decisions = predictions
        .iter()
        .filter_map(|prediction| match prediction {
            Prediction::MultiLabel { decision, .. } => Some(decision.clone()),
            _ => None,
        });
    let decisions: Vec<Decision> = decisions.collect();
    let gold = examples.iter().map(|one| one.gold.classes().to_vec());
    let gold: Vec<Vec<usize>> = gold.collect();
    let calibration = calibration.with_thresholds_of(&decisions, &gold, num_labels);
    for prediction in predictions {
        if let Prediction::MultiLabel { decision, labels } = prediction {
            *labels = calibration.holding(decision);
        }
    }
    calibration
}

/// Scores predictions against what the examples are labelled with. With a coverage, texts and words
/// without an answer were left out.
fn score(
    problem: Problem,
    examples: &[DatasetExample],
    predictions: &[Prediction],
    labels: &LabelSet,
    protocol: Protocol,
    coverage: Option<Coverage>,
) -> Result<Scores> {
    match problem {
        Problem::SingleLabel => score_classes(examples, predictions, labels),
        Problem::MultiLabel => score_labels(examples, predictions, labels),
        Problem::Regression => score_values(examples, predictions),
        Problem::Tags(tags) => {
            let names = labels.names().iter().map(String::as_str);
            let tags = tags.unwrap_or_else(|| TagKind::of(names));
            let of_all = match tags {
                TagKind::Spans => protocol == Protocol::Strict,
                TagKind::Labels => protocol == Protocol::Strict && coverage.is_none(),
            };
            score_tags(examples, predictions, labels, tags, of_all)
        }
    }
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
        let batch = dataset.batch(&indices, &options)?;
        let input = model_input(&batch, pass.config, pass.settings.not_pooled(), pass.device)?;
        let rows = caught(|| ls_lora::host_values(model.forward(&input)));
        let rows = rows.map_err(|full| full_in_evaluation(full, indices.len()))?;
        if let Some(&value) = rows.iter().find(|value| !value.is_finite()) {
            // Pooling may multiply rows by zeros, so that another row than its own is at fault.
            return Err(not_finite(model, dataset, pass, &indices, value)?);
        }
        let mut rows = rows.as_slice();
        for (&seen, &index) in input.lengths.iter().zip(&indices) {
            all[index] = dataset
                .logits_of_input(index, seen, num_labels, &mut rows)
                .to_vec();
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

/// Predicts each example of a split from the logits of its inputs, and counts what is answered
/// where unsure answers are left out. A text that was read in windows
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
    pass: Pass<'_>,
    calibration: &Calibration,
) -> Result<(Vec<Prediction>, Option<Coverage>)> {
    let settings = pass.settings;
    let (problem, tags) = (settings.problem(), settings.tag_kind());
    let function = problem.function_to_apply(num_labels);
    let of_example = |example: &DatasetExample| {
        let inputs = example.inputs.clone();
        if !dataset.is_words() {
            let logits = calibration.scaled(mean(&logits[inputs]));
            let decision = Decision::of(&logits, function);
            return Ok(match problem {
                Problem::MultiLabel => Prediction::MultiLabel {
                    labels: calibration.holding(&decision),
                    decision,
                },
                _ => Prediction::Sequence(decision),
            });
        }
        let mut rows = vec![None; example.words];
        for input in inputs {
            for (at, word) in dataset.words_read(input)?.into_iter().enumerate() {
                let Some(word) = word else { continue };
                rows[word] = Some(&logits[input][at * num_labels..(at + 1) * num_labels]);
            }
        }
        let decision = |row: &[f32]| Decision::of(&calibration.scaled(row.to_vec()), function);
        let mut words: Vec<Option<Decision>> = rows.iter().map(|row| row.map(decision)).collect();
        if let (Some(grammar), Some(outside)) = (pass.grammar, settings.labels.id("O")) {
            constrain(&mut words, &rows, outside, grammar);
        }
        Ok(Prediction::Token(words))
    };
    let (decoding, mut coverage) = (pass.decoding, Coverage::default());
    let mut chosen =
        |prediction| decoding.choose(prediction, &settings.labels, tags, &mut coverage);
    let all = examples.iter().map(of_example);
    let all = all.map(|prediction| prediction.map(&mut chosen));
    let all = all.collect::<Result<_>>()?;
    Ok((all, decoding.abstain_below.map(|_| coverage)))
}

/// Element by element; the only row itself.
pub(crate) fn mean(rows: &[Vec<f32>]) -> Vec<f32> {
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
            gold.extend(example.gold.classes());
            predicted.push(decision.label);
            let probabilities = decision.probabilities.iter();
            rows.push(probabilities.map(|p| f64::from(*p)).collect::<Vec<f64>>());
        }
    }
    let names = labels.names();
    // Nothing has no mean loss.
    let known = !rows.is_empty() && rows.iter().all(|row| row.len() == names.len());
    Ok(Scores::Classification(if known {
        ClassificationScores::with_probabilities(&gold, &predicted, &rows, names)?
    } else {
        ClassificationScores::compute(&gold, &predicted, names)?
    }))
}

/// Scores predictions of texts for which any number of labels may hold.
fn score_labels(
    examples: &[DatasetExample],
    predictions: &[Prediction],
    labels: &LabelSet,
) -> Result<Scores> {
    let (mut gold, mut predicted, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for (example, prediction) in examples.iter().zip(predictions) {
        if let Prediction::MultiLabel { decision, labels } = prediction {
            gold.push(example.gold.classes().to_vec());
            predicted.push(labels.clone());
            let probabilities = decision.probabilities.iter();
            rows.push(probabilities.map(|p| f64::from(*p)).collect::<Vec<f64>>());
        }
    }
    let scores = MultiLabelScores::compute(&gold, &predicted, &rows, labels.names())?;
    Ok(Scores::MultiLabel(scores))
}

/// Scores predicted numbers.
fn score_values(examples: &[DatasetExample], predictions: &[Prediction]) -> Result<Scores> {
    let (mut gold, mut predicted) = (Vec::new(), Vec::new());
    for (example, prediction) in examples.iter().zip(predictions) {
        if let (Some(value), Prediction::Sequence(decision)) = (example.gold.value(), prediction) {
            gold.push(f64::from(value));
            predicted.push(f64::from(decision.score));
        }
    }
    Ok(Scores::Regression(RegressionScores::compute(
        &gold, &predicted,
    )?))
}

/// Scores predictions of words against their gold tags. If all are scored, as by
/// [`Protocol::Strict`], a word without a prediction counts as `O`, or as wrong where tags are
/// labels; else, as by [`Protocol::Paper`], it is left out, gold tag and all.
fn score_tags(
    examples: &[DatasetExample],
    predictions: &[Prediction],
    labels: &LabelSet,
    tags: TagKind,
    of_all: bool,
) -> Result<Scores> {
    let names = lenient_names(labels, tags);
    let none = without_decision(labels, tags, NoLabel::Unread);
    let name = |tag: usize| names[tag].as_ref();
    let counted = |word: &Option<Decision>| of_all || word.is_some();
    let (mut gold, mut predicted) = (Vec::new(), Vec::new());
    for (example, prediction) in examples.iter().zip(predictions) {
        let Prediction::Token(words) = prediction else {
            continue;
        };
        let kept = words.iter().zip(example.gold.classes());
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

/// Scores of one answer to every example, or to every word that is scored by the protocol: what
/// most of `train` has. That is its commonest label; where any number of labels may hold, those
/// that more than half of it has; of numbers their mean.
///
/// # Errors
///
/// If a split has no labels or its file can no longer be read.
pub(crate) fn score_constant(
    dataset: &Dataset,
    train: &Dataset,
    labels: &LabelSet,
    problem: Problem,
    protocol: Protocol,
) -> Result<Baseline> {
    let counts = train.label_counts(labels.len())?;
    let most = (0..counts.len()).rev().max_by_key(|label| counts[*label]);
    let mut decision = Decision {
        label: most.unwrap_or(0),
        score: 1.0,
        probabilities: Vec::new(),
    };
    let examples = dataset.examples()?;
    let mut name = "majority class";
    let predictions = match problem {
        Problem::SingleLabel => vec![Prediction::Sequence(decision); examples.len()],
        Problem::MultiLabel => {
            let holds = |count: &usize| *count * 2 > train.len();
            let probability = |count: &usize| if holds(count) { 1.0 } else { 0.0 };
            decision.probabilities = counts.iter().map(probability).collect();
            let labels = (0..counts.len()).filter(|label| holds(&counts[*label]));
            let labels = labels.collect();
            vec![Prediction::MultiLabel { decision, labels }; examples.len()]
        }
        Problem::Regression => {
            name = "mean value";
            decision.score = train.mean_value()? as f32;
            vec![Prediction::Sequence(decision); examples.len()]
        }
        Problem::Tags(_) => {
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
            examples.iter().map(constant).collect::<Result<_>>()?
        }
    };
    Ok(Baseline {
        name: name.into(),
        scores: score(problem, &examples, &predictions, labels, protocol, None)?,
    })
}

/// Mean loss of the labels that count, from logits on the host: of a text's logits as they are
/// predicted from, of each word's where it is labelled.
fn mean_loss(
    problem: Problem,
    dataset: &Dataset,
    examples: &[DatasetExample],
    logits: &[Vec<f32>],
    num_labels: usize,
) -> Result<f64> {
    if matches!(problem, Problem::MultiLabel | Problem::Regression) {
        return Ok(mean_loss_of_outputs(examples, logits));
    }
    let rows = labelled(problem, dataset, examples, logits, num_labels, false)?;
    let losses = rows.iter().map(|(logits, label)| {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponentials = logits.iter().map(|&logit| f64::from(logit - max).exp());
        exponentials.sum::<f64>().ln() - f64::from(logits[*label] - max)
    });
    Ok(losses.sum::<f64>() / rows.len().max(1) as f64)
}

/// The logits of a choice between classes, and the one that is right.
type Choice<'a> = (Cow<'a, [f32]>, usize);

/// Every choice between classes that a model makes of a labelled split: its logits, and what is
/// right. A label by itself is one between 0, which says that it does not hold, and its logit. Of
/// words each labelled sub-word is one, or with `answers_alone` the one that speaks for its word.
///
/// # Errors
///
/// If the split's file can no longer be read.
fn labelled<'a>(
    problem: Problem,
    dataset: &Dataset,
    examples: &[DatasetExample],
    logits: &'a [Vec<f32>],
    num_labels: usize,
    answers_alone: bool,
) -> Result<Vec<Choice<'a>>> {
    let mut rows: Vec<Choice<'a>> = Vec::new();
    if dataset.is_words() {
        for (input, logits) in logits.iter().enumerate() {
            let ExampleLabels::Tokens(tags) = dataset.targets(input)? else {
                continue;
            };
            let read = if answers_alone {
                dataset.words_read(input)?
            } else {
                Vec::new()
            };
            let counts = |at: usize, tag: i64| {
                tag != IGNORE_INDEX && (!answers_alone || read.get(at).is_some_and(Option::is_some))
            };
            let each = logits.chunks_exact(num_labels).zip(tags).enumerate();
            let counted = each.filter(|(at, (_, tag))| counts(*at, *tag));
            rows.extend(counted.map(|(_, (logits, tag))| (Cow::from(logits), tag as usize)));
        }
        return Ok(rows);
    }
    for example in examples {
        let of_example = mean(&logits[example.inputs.clone()]);
        let gold = example.gold.classes();
        if problem == Problem::MultiLabel {
            let each = of_example.iter().enumerate();
            rows.extend(each.map(|(at, logit)| {
                let holds = usize::from(gold.contains(&at));
                (Cow::from(vec![0.0, *logit]), holds)
            }));
        } else if let Some(class) = gold.first() {
            rows.push((Cow::from(of_example), *class));
        }
    }
    Ok(rows)
}

/// Mean over all outputs: squared error of a number, or binary cross-entropy of a label.
fn mean_loss_of_outputs(examples: &[DatasetExample], logits: &[Vec<f32>]) -> f64 {
    let (mut sum, mut count) = (0.0, 0usize);
    for example in examples {
        for (at, logit) in mean(&logits[example.inputs.clone()])
            .into_iter()
            .enumerate()
        {
            let logit = f64::from(logit);
            sum += match example.gold.value() {
                Some(value) => (logit - f64::from(value)).powi(2),
                None => {
                    let holds = example.gold.classes().contains(&at);
                    let away = if holds { -logit } else { logit };
                    // ln(1 + exp(x)), without overflow.
                    away.max(0.0) + (-away.abs()).exp().ln_1p()
                }
            };
            count += 1;
        }
    }
    sum / count.max(1) as f64
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
