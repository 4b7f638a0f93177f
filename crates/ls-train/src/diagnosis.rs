//! Where a step went wrong whose loss, gradient or update is no number.
//!
//! The step is taken again from the parameters before it, example by example, and everything that
//! the failing step left on the device is read.

use burn::module::Module;
use burn::tensor::Tensor;
use ls_model::LlamaClassifier;
use ls_model::input::mixed_seed;

use crate::backward::{Backward, Step};
use crate::context::Context;
use crate::error::{Result, TrainError};
use crate::overflow::wider;

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    /// A clause: which module or parameter, and for which example.
    pub(crate) what: String,
    /// What may mend it.
    pub(crate) hint: String,
    /// `key=value` with which the run may go on behind the step.
    pub(crate) set: Option<String>,
}

/// What stopped being a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Culprit {
    /// The output of a module, or the loss of finite logits.
    Forward,
    /// A gradient of finite outputs, or their sum.
    Backward,
    /// A parameter after the step.
    Update,
}

impl Culprit {
    /// Whether other examples may have other values: an update does not depend on them.
    fn is_of_examples(self) -> bool {
        self != Self::Update
    }
}

/// Looks for the first value of a step that is no number. `model` has the parameters from before
/// the step; `after` is the optimizer's buffer behind it, where loss and gradient were numbers.
pub(crate) fn of_step(
    work: &Backward<'_>,
    model: &LlamaClassifier,
    number: usize,
    step: &Step,
    after: Option<&Tensor<1>>,
) -> Result<Finding> {
    let (culprit, what) = find(work, model, step, after)?;
    let hint = hint(work.context, culprit, number);
    let skip = work.context.run.config.train.skip_nonfinite_steps + 1;
    let set = culprit.is_of_examples();
    let set = set.then(|| format!("train.skip_nonfinite_steps={skip}"));
    Ok(Finding { what, hint, set })
}

fn find(
    work: &Backward<'_>,
    model: &LlamaClassifier,
    step: &Step,
    after: Option<&Tensor<1>>,
) -> Result<(Culprit, String)> {
    let train = &work.context.splits.train;
    let inputs = step.inputs();
    let alone: Vec<Vec<usize>> = inputs.iter().map(|&input| vec![input]).collect();

    // Each example by itself without dropout, then each pass as it was.
    let plain = model.valid();
    for (example, place) in alone.iter().map(|one| (one, train.place(one))) {
        let read = work.read(std::slice::from_ref(example))?;
        if let Some(module) = plain.first_not_finite(&work.input(&read[0], step.seed)?) {
            return Ok((Culprit::Forward, output(&module, &place)));
        }
    }
    let passes = work.read(&step.passes)?;
    for (at, (read, inputs)) in passes.iter().zip(&step.passes).enumerate() {
        let input = work.input(read, mixed_seed(step.seed, at))?;
        if let Some(module) = model.first_not_finite(&input) {
            return Ok((Culprit::Forward, output(&module, &train.place(inputs))));
        }
    }

    let count = work.count(&passes);
    let singles = work.read(&alone)?;
    let singly = singles.iter().zip(&alone).map(|one| (one, step.seed));
    let passes = passes.iter().zip(&step.passes).enumerate();
    let passes = passes.map(|(at, pass)| (pass, mixed_seed(step.seed, at)));
    let mut sum: Option<Tensor<1>> = None;
    for (((read, inputs), seed), is_pass) in singly
        .map(|one| (one, false))
        .chain(passes.map(|pass| (pass, true)))
    {
        let [loss, gradient] = work.pass(model, read, seed, count)?;
        let place = train.place(inputs);
        if !ls_lora::host_values(loss)[0].is_finite() {
            let what = format!("every output is a number, but the loss of {place} is not");
            return Ok((Culprit::Forward, what));
        }
        if let Some(name) = work.optimizer.first_not_finite(&gradient) {
            let what = format!(
                "every output is a number, but the gradient of {} is not, for {place}",
                peft_name(name)
            );
            return Ok((Culprit::Backward, what));
        }
        if is_pass {
            sum = Some(match sum {
                None => gradient,
                Some(sum) => sum + gradient,
            });
        }
    }
    if let Some(sum) = sum {
        if let Some(name) = work.optimizer.first_not_finite(&sum) {
            let what = format!(
                "every pass is finite, but their sum in the gradient of {} is not",
                peft_name(name)
            );
            return Ok((Culprit::Backward, what));
        }
        if !ls_lora::host_values(sum.clone().square().sum())[0].is_finite() {
            let (name, value) = work.optimizer.largest(&sum);
            let what = format!(
                "every gradient is finite, but their norm is not; the largest, {value:e}, is of {}",
                peft_name(name)
            );
            return Ok((Culprit::Backward, what));
        }
    }
    Ok(
        match after.and_then(|after| work.optimizer.first_not_finite(after)) {
            Some(name) => (
                Culprit::Update,
                format!(
                    "loss and gradient are finite, but {} is not after the update",
                    peft_name(name)
                ),
            ),
            // The device gave other values the second time.
            None => (
                Culprit::Forward,
                "the step taken again gives numbers: the device or its memory may be at fault"
                    .into(),
            ),
        },
    )
}

fn output(module: &str, place: &str) -> String {
    format!("the first output that is no number is that of {module}, for {place}")
}

/// A parameter by its path in the module, in the words of PEFT and of checkpoints.
fn peft_name(path: &str) -> String {
    let Some((layer, rest)) = path.split_once(".adapters.") else {
        // The layer that adapters may be put on.
        return path.replace(".base_layer", "");
    };
    let part = rest.split_once('.').map_or(rest, |(_, part)| part);
    let is_table = layer.ends_with("embed_tokens");
    let part = match (part, is_table) {
        ("lora_a", false) => "lora_A.weight",
        ("lora_b", false) => "lora_B.weight",
        ("lora_a", true) => "lora_embedding_A",
        ("lora_b", true) => "lora_embedding_B",
        ("dora.magnitude", _) => "lora_magnitude_vector",
        (other, _) => other,
    };
    format!("{layer}.{part}")
}

/// What may mend a step, of what is not set already.
fn hint(context: &Context<'_>, culprit: Culprit, number: usize) -> String {
    let train = &context.run.config.train;
    let mut ways = Vec::new();
    // Before the first step nothing has been learnt yet.
    if number > 1 || culprit == Culprit::Update {
        let ratio = train.loraplus_lr_ratio;
        let ratio = ratio.map(|ratio| format!(" or train.loraplus_lr_ratio ({ratio:e})"));
        let rate = train.learning_rate;
        let decays = culprit == Culprit::Update && rate * train.weight_decay > 1.0;
        let decay = decays.then(|| format!(" or train.weight_decay ({:e})", train.weight_decay));
        ways.push(format!(
            "lower train.learning_rate ({rate:e} at its peak){}{}",
            ratio.unwrap_or_default(),
            decay.unwrap_or_default()
        ));
    }
    if train.max_grad_norm == 0.0 && number > 1 {
        ways.push("clip gradients (train.max_grad_norm = 1)".into());
    }
    let wider = wider(&context.run.precision, context.device);
    ways.extend(wider.into_iter().map(str::to_owned));
    if culprit.is_of_examples() {
        ways.push(format!(
            "pass over such steps (train.skip_nonfinite_steps, now {})",
            train.skip_nonfinite_steps
        ));
    }
    if number == 1 && culprit != Culprit::Update {
        ways.push(
            "look at the example: nothing was learnt before this step, so the model itself cannot \
             take it"
                .into(),
        );
    }
    ways.join("; or ")
}

/// An error of an evaluation in training, as one of the step before it.
pub(crate) fn in_evaluation(error: TrainError, step: usize, context: &Context<'_>) -> TrainError {
    match error {
        TrainError::OutputNotFinite {
            value,
            examples,
            found,
            ..
        } => TrainError::NotFinite {
            quantity: "an output in the evaluation",
            value,
            step,
            examples,
            found,
            // Its steps gave numbers, so what they learnt is too large.
            hint: hint(context, Culprit::Update, step),
            set: None,
        },
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_their_names_in_peft() {
        for (path, name) in [
            (
                "model.layers.0.self_attn.q_proj.adapters.0.lora_a",
                "model.layers.0.self_attn.q_proj.lora_A.weight",
            ),
            (
                "model.layers.11.mlp.up_proj.adapters.0.lora_b",
                "model.layers.11.mlp.up_proj.lora_B.weight",
            ),
            (
                "model.layers.0.mlp.up_proj.adapters.0.dora.magnitude",
                "model.layers.0.mlp.up_proj.lora_magnitude_vector",
            ),
            (
                "model.embed_tokens.adapters.0.lora_b",
                "model.embed_tokens.lora_embedding_B",
            ),
            (
                "model.layers.0.mlp.up_proj.base_layer.bias",
                "model.layers.0.mlp.up_proj.bias",
            ),
            (
                "model.embed_tokens.base_layer.weight",
                "model.embed_tokens.weight",
            ),
            ("score.weight", "score.weight"),
            ("model.norm.weight", "model.norm.weight"),
        ] {
            assert_eq!(peft_name(path), name);
        }
    }
}
