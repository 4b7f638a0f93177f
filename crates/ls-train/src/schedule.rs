//! The learning rate over the steps, as transformers schedules it.

use crate::config::{LrScheduler, TrainSettings};

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
