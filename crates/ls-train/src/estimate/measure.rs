//! The time of a run by a few of its steps, and the memory that they took.

use std::collections::VecDeque;
use std::time::Instant;

use burn::module::Module;
use ls_data::{epoch_order, sequential_order};
use ls_model::LlamaClassifier;
use ls_model::input::mixed_seed;
use serde::Serialize;

use crate::backward::{Backward, Step};
use crate::context::{Context, stop_if_asked};
use crate::environment::peak_memory;
use crate::error::Result;
use crate::evaluate::full_in_evaluation;
use crate::events::{Event, Observer};
use crate::largest::EPOCHS;
use crate::memory::is_host;
use crate::optim::AdamW;
use crate::out_of_memory::{advice, caught};
use crate::tensors::model_input;

/// Steps and batches that are timed, spaced evenly over an epoch or a split.
const TIMED: usize = 5;

/// What was measured, and what follows from it for the whole run.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Measured {
    /// Steps that were timed, beside the one with the largest pass.
    pub steps: usize,
    /// Seconds of the step with the largest pass.
    pub largest_step_seconds: f64,
    /// Seconds of a step in the mean.
    pub step_seconds: f64,
    /// Of training.
    pub tokens_per_second: f64,
    /// All steps of the run.
    pub train_seconds: f64,
    /// All its evaluations, and the scores of the split that is reported.
    pub evaluation_seconds: f64,
    /// On the CPU, where the system tells, the highest resident memory of this process so far, in
    /// bytes. A run takes more: its checkpoints and its best model are not there.
    pub peak_memory: Option<u64>,
}

/// Takes the step with the largest pass, and a few others, and evaluates the largest batch and a
/// few others.
///
/// # Errors
///
/// If the data can no longer be read, or the device has no memory left; if the observer asks to
/// stop.
pub(super) fn measure(
    mut model: LlamaClassifier,
    context: &Context<'_>,
    observer: &mut dyn Observer,
) -> Result<Measured> {
    let (steps, first) = steps(context);
    observer.event(&Event::Phase("timed steps"));
    let train = &context.run.config.train;
    let options = context
        .settings
        .batch_options(train.micro_batch_size.largest(), train.group_by_length);
    let mut optimizer = AdamW::new(&model, train);
    // As the loop keeps it, until the values of the step before are known.
    let mut before = VecDeque::new();
    let (mut seconds, mut tokens, mut largest_step_seconds) = (0.0, 0, 0.0);
    // The first one finds memory that nothing has used yet: it is not timed.
    let all = [&first, &first].into_iter().chain(&steps);
    for (at, passes) in all.enumerate() {
        stop_if_asked(observer, context)?;
        before.push_back(optimizer.state());
        let step = Step {
            passes: passes.clone(),
            seed: mixed_seed(train.seed, at),
        };
        let began = Instant::now();
        let work = Backward {
            context,
            optimizer: &optimizer,
            options: &options,
        };
        let outcome = caught(|| work.run(&model, &step)).map_err(|full| {
            let during = format!("a step, in passes of {} inputs", context.pass_size);
            let advice = advice(context.run, context.pass_size);
            full.error(during, context.expected_memory, advice, None)
        })??;
        let (next, norm) = optimizer.step(model, outcome.gradient, train.learning_rate);
        model = next;
        // A device may only have queued it.
        ls_lora::host_values(norm);
        let took = began.elapsed().as_secs_f64();
        match at {
            0 => {}
            1 => largest_step_seconds = took,
            _ => {
                seconds += took;
                tokens += outcome.tokens;
            }
        }
        if before.len() > 1 {
            before.pop_front();
        }
    }
    let tokens_per_second = tokens as f64 / seconds;
    let all_tokens: usize = context.splits.train.lengths().iter().sum();
    let train_seconds = (all_tokens * train.epochs) as f64 / tokens_per_second;

    observer.event(&Event::Phase("timed evaluation"));
    let (validation, reported) = (&context.splits.validation, context.splits.reported().1);
    let per_token = evaluated_per_token(&model, context, observer)?;
    let tokens = |lengths: &[usize]| lengths.iter().sum::<usize>();
    let scored = context.evaluations() * tokens(validation.lengths()) + tokens(reported.lengths());
    Ok(Measured {
        steps: steps.len(),
        largest_step_seconds,
        step_seconds: train_seconds / context.steps() as f64,
        tokens_per_second,
        train_seconds,
        evaluation_seconds: per_token * scored as f64,
        peak_memory: peak_memory().filter(|_| is_host(context.device)),
    })
}

/// Steps of the first epoch, spaced evenly, and the one with the largest pass, each as the inputs
/// of its passes.
fn steps(context: &Context<'_>) -> (Vec<Vec<Vec<usize>>>, Vec<Vec<usize>>) {
    let train = &context.run.config.train;
    let lengths = context.splits.train.lengths();
    let options = context
        .settings
        .batch_options(train.micro_batch_size.largest(), train.group_by_length);
    let of_epoch = |epoch| -> Vec<Vec<Vec<usize>>> {
        let order = epoch_order(lengths, &options, train.seed, epoch);
        let steps = order.chunks(train.gradient_accumulation_steps);
        let passes = |batch: &Vec<usize>| -> Vec<Vec<usize>> {
            batch
                .chunks(context.pass_size)
                .map(<[usize]>::to_vec)
                .collect()
        };
        steps
            .map(|batches| batches.iter().flat_map(passes).collect())
            .collect()
    };
    let tokens = |pass: &Vec<usize>| pass.iter().map(|input| lengths[*input]).sum::<usize>();
    let largest = (0..train.epochs.min(EPOCHS)).filter_map(|epoch| {
        let steps = of_epoch(epoch).into_iter();
        steps.max_by_key(|step| step.iter().map(tokens).max())
    });
    let largest = largest.max_by_key(|step| step.iter().map(tokens).max());
    (spaced(&of_epoch(0)), largest.unwrap_or_default())
}

/// A few of many, spaced evenly.
fn spaced<T: Clone>(all: &[T]) -> Vec<T> {
    let count = all.len().min(TIMED);
    let middle = |at: usize| (2 * at + 1) * all.len() / (2 * count);
    (0..count).map(|at| all[middle(at)].clone()).collect()
}

/// Seconds that an evaluation takes for each token.
fn evaluated_per_token(
    model: &LlamaClassifier,
    context: &Context<'_>,
    observer: &dyn Observer,
) -> Result<f64> {
    let model = model.valid();
    let size = context.run.config.train.eval_batch_size;
    let options = context.settings.batch_options(size, true);
    let run = |dataset: &crate::dataset::Dataset, inputs: &[usize]| -> Result<(f64, usize)> {
        stop_if_asked(observer, context)?;
        let began = Instant::now();
        let batch = dataset.batch(inputs, &options)?;
        let not_pooled = context.settings.not_pooled();
        let input = model_input(&batch, context.model_config, not_pooled, context.device)?;
        let values = caught(|| ls_lora::host_values(model.forward(&input)));
        values.map_err(|full| full_in_evaluation(full, inputs.len()))?;
        Ok((began.elapsed().as_secs_f64(), batch.real_tokens()))
    };
    let splits = context.splits;
    for dataset in [Some(&splits.validation), splits.test.as_ref()]
        .into_iter()
        .flatten()
    {
        // For its memory.
        if let Some(largest) = sequential_order(dataset.lengths(), size, true).first() {
            run(dataset, largest)?;
        }
    }
    let dataset = &splits.validation;
    let order = sequential_order(dataset.lengths(), size, true);
    let (mut seconds, mut tokens) = (0.0, 0);
    for inputs in spaced(&order) {
        let (took, of) = run(dataset, &inputs)?;
        seconds += took;
        tokens += of;
    }
    Ok(seconds / tokens.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_spaced_evenly() {
        let all: Vec<usize> = (0..100).collect();
        assert_eq!(spaced(&all), [10, 30, 50, 70, 90]);
        assert_eq!(spaced(&all[..3]), [0, 1, 2]);
        assert_eq!(spaced(&all[..1]), [0]);
        assert!(spaced(&all[..0]).is_empty());
    }
}
