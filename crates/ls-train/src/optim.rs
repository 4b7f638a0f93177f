//! AdamW as PyTorch has it, the learning rate over the steps, and clipping by the norm over all
//! gradients.

use burn::module::{Module, ModuleVisitor, Param, ParamGroup};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::Tensor;

use crate::config::{LrScheduler, TrainSettings};

/// AdamW with decoupled weight decay on everything but biases and norms, as Hugging Face's Trainer
/// groups parameters.
pub fn adamw(settings: &TrainSettings) -> ModuleOptimizer {
    let config = |weight_decay: f64| {
        AdamWConfig::new()
            .with_beta_1(settings.adam_beta1 as f32)
            .with_beta_2(settings.adam_beta2 as f32)
            .with_epsilon(settings.adam_epsilon as f32)
            .with_weight_decay(weight_decay as f32)
    };
    let undecayed = ParamGroup::from_regex(r"(^|\.)bias$|norm\.weight$").expect("a valid pattern");
    config(settings.weight_decay)
        .init()
        .with_group(undecayed, config(0.0).build(), None)
}

/// The learning rate of an optimizer step, counted from 0, by the formulas of transformers'
/// `optimization.py`.
pub fn learning_rate(settings: &TrainSettings, step: usize, total_steps: usize) -> f64 {
    let warmup = match settings.warmup_steps {
        0 => (settings.warmup_ratio * total_steps as f64).ceil() as usize,
        steps => steps,
    };
    if step < warmup {
        return settings.learning_rate * step as f64 / warmup as f64;
    }
    let left =
        total_steps.saturating_sub(step) as f64 / total_steps.saturating_sub(warmup).max(1) as f64;
    settings.learning_rate
        * match settings.lr_scheduler {
            LrScheduler::Constant => 1.0,
            LrScheduler::Linear => left,
            LrScheduler::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * (1.0 - left)).cos()),
        }
}

/// Scales the gradients so that the norm over all of them is at most `max_norm` (0 for no limit),
/// as `torch.nn.utils.clip_grad_norm_` does, and returns the norm before that. Waits for the device
/// once.
pub fn clip_grad_norm<M: Module>(module: &M, grads: &mut GradientsParams, max_norm: f64) -> f64 {
    let mut squares = Squares {
        grads,
        sums: Vec::new(),
    };
    module.visit(&mut squares);
    if squares.sums.is_empty() {
        return 0.0;
    }
    let norm = f64::from(
        Tensor::cat(squares.sums, 0)
            .sum()
            .sqrt()
            .into_scalar::<f32>(),
    );
    if max_norm > 0.0 && norm > max_norm {
        // PyTorch's epsilon.
        module.visit(&mut Scale {
            grads,
            factor: max_norm / (norm + 1e-6),
        });
    }
    norm
}

struct Squares<'a> {
    grads: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            self.sums.push(grad.square().sum());
        }
    }
}

struct Scale<'a> {
    grads: &'a mut GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.remove::<D>(param.id) {
            self.grads.register(param.id, grad.mul_scalar(self.factor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(scheduler: LrScheduler, warmup_steps: usize, total: usize) -> Vec<f64> {
        let settings = TrainSettings {
            learning_rate: 1.0,
            lr_scheduler: scheduler,
            warmup_steps,
            ..TrainSettings::default()
        };
        (0..total)
            .map(|step| learning_rate(&settings, step, total))
            .collect()
    }

    /// Values of `get_linear_schedule_with_warmup` and `get_cosine_schedule_with_warmup` of
    /// transformers 5.23.0.
    #[test]
    fn schedules_are_those_of_transformers() {
        assert_eq!(rates(LrScheduler::Linear, 0, 4), [1.0, 0.75, 0.5, 0.25]);
        assert_eq!(rates(LrScheduler::Linear, 2, 4), [0.0, 0.5, 1.0, 0.5]);
        assert_eq!(rates(LrScheduler::Constant, 1, 3), [0.0, 1.0, 1.0]);
        let cosine = rates(LrScheduler::Cosine, 0, 4);
        for (rate, expected) in cosine.iter().zip([1.0, 0.853_553, 0.5, 0.146_447]) {
            assert!((rate - expected).abs() < 1e-6, "{cosine:?}");
        }
    }

    #[test]
    fn a_warmup_longer_than_the_run_divides_by_nothing() {
        assert_eq!(rates(LrScheduler::Linear, 8, 2), [0.0, 0.125]);
    }
}
