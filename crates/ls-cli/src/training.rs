//! What is seen of a training: its smoothed loss, rates, the best score and when the next
//! evaluation comes.

use ls_train::environment::resident_memory;
use ls_train::events::{EvaluationRecord, StepRecord};
use serde_json::json;

use crate::numbers::{bytes, clock};
use crate::screen::fields;
use crate::task::{Standing, Task, Unit};

/// Weight of what was before in the mean that is shown of the loss: about ten steps count.
const SMOOTHING: f64 = 0.9;
/// Two lines beside the bar: what a step brought, and what is to come.
const TEMPLATE: &str = "{prefix} [{bar:24}] {pos}/{len}, {left} left\n  {msg}";

/// A training that goes on.
pub struct Training {
    task: Task,
    numbers: Numbers,
}

/// What the steps so far say.
struct Numbers {
    steps: usize,
    /// From one evaluation to the next.
    eval_steps: usize,
    loss: Smoothed,
    tokens: usize,
    seconds: f64,
    /// Steps that these are of.
    counted: usize,
    best: Option<Best>,
}

/// The best evaluation so far.
struct Best {
    metric: String,
    value: f64,
    step: usize,
}

impl Training {
    /// Begins to show a training of so many steps.
    pub fn begin(name: &str, steps: usize, eval_steps: usize) -> Self {
        Self {
            task: Task::with_template(name, Unit::Of("steps"), steps as u64, TEMPLATE),
            numbers: Numbers {
                steps,
                eval_steps: eval_steps.max(1),
                loss: Smoothed::default(),
                tokens: 0,
                seconds: 0.0,
                counted: 0,
                best: None,
            },
        }
    }

    /// What is trained.
    pub fn name(&self) -> &str {
        self.task.name()
    }

    /// So many steps were done before it goes on, and this was their best evaluation.
    pub fn goes_on_at(&mut self, step: usize, best: Option<&EvaluationRecord>) {
        self.task.goes_on_at(step as u64);
        self.numbers.best = best.map(Best::of);
    }

    /// A step that was passed over.
    pub fn skipped(&mut self, step: usize) {
        let numbers = &self.numbers;
        self.task.at_with(step as u64, |task| {
            let mut standing = task.standing();
            if task.has_bar() {
                standing.line = numbers.ahead(step);
            }
            standing
        });
    }

    /// A step.
    pub fn step(&mut self, record: &StepRecord) {
        let numbers = &mut self.numbers;
        numbers.add(record);
        self.task.at_with(record.step as u64, |task| Standing {
            event: "step",
            line: if task.has_bar() {
                numbers.beside_a_bar(record)
            } else {
                numbers.line(record, task)
            },
            fields: fields(numbers.object(record, task)),
        });
    }

    /// An evaluation.
    pub fn evaluated(&mut self, record: &EvaluationRecord) {
        if record.best {
            self.numbers.best = Some(Best::of(record));
        }
        self.task.is_outdated();
    }
}

impl Best {
    fn of(record: &EvaluationRecord) -> Self {
        Self {
            metric: record.metric.clone(),
            value: record.value,
            step: record.step,
        }
    }
}

impl Numbers {
    fn add(&mut self, record: &StepRecord) {
        self.loss.add(record.loss);
        self.tokens += record.tokens;
        self.seconds += record.seconds;
        self.counted += 1;
    }

    fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds.max(1e-9)
    }

    /// The step behind which the next evaluation comes, unless this is the last.
    fn next_evaluation(&self, step: usize) -> Option<usize> {
        let next = (step / self.eval_steps + 1) * self.eval_steps;
        (step < self.steps).then(|| next.min(self.steps))
    }

    /// Time until it comes; nothing before the first step.
    fn seconds_to(&self, step: usize, next: usize) -> Option<f64> {
        let each = self.seconds / self.counted as f64;
        (self.counted > 0).then(|| each * (next - step) as f64)
    }

    /// What a step brought.
    fn of_step(&self, record: &StepRecord) -> String {
        format!(
            "loss {:.4} lr {:.2e} grad norm {:.3} {:.0} tokens/s",
            self.loss.mean(),
            record.learning_rate,
            record.grad_norm,
            self.tokens_per_second()
        )
    }

    /// The best so far, what is to come, and the memory that is taken.
    fn ahead(&self, step: usize) -> String {
        let mut parts = Vec::new();
        if let Some(Best {
            metric,
            value,
            step,
        }) = &self.best
        {
            parts.push(format!("best {metric} {value:.4} (step {step})"));
        }
        if let Some(next) = self.next_evaluation(step) {
            let seconds = self.seconds_to(step, next);
            let seconds = seconds.map(|seconds| format!(" in {}", clock(seconds)));
            let seconds = seconds.unwrap_or_default();
            parts.push(format!("evaluation{seconds} (step {next})"));
        }
        parts.extend(resident_memory().map(|memory| format!("memory {}", bytes(memory))));
        parts.join(", ")
    }

    fn beside_a_bar(&self, record: &StepRecord) -> String {
        format!("{}\n  {}", self.of_step(record), self.ahead(record.step))
    }

    fn line(&self, record: &StepRecord, task: &Task) -> String {
        let left = task.seconds_left();
        let left = left.map(|left| format!(", {} left", clock(left)));
        format!(
            "{}: step {} epoch {:.2} {}, {}{}",
            task.name(),
            task.count(),
            record.epoch,
            self.of_step(record),
            self.ahead(record.step),
            left.unwrap_or_default()
        )
    }

    fn object(&self, record: &StepRecord, task: &Task) -> serde_json::Value {
        let next = self.next_evaluation(record.step);
        json!({
            "task": task.name(),
            "step": record.step,
            "steps": self.steps,
            "epoch": record.epoch,
            "loss": record.loss,
            "loss_smoothed": self.loss.mean(),
            "learning_rate": record.learning_rate,
            "grad_norm": record.grad_norm,
            "tokens_per_second": self.tokens_per_second(),
            "memory": resident_memory(),
            "metric": self.best.as_ref().map(|best| &best.metric),
            "best": self.best.as_ref().map(|best| best.value),
            "best_step": self.best.as_ref().map(|best| best.step),
            "next_evaluation": next,
            "seconds_to_evaluation": next.and_then(|next| self.seconds_to(record.step, next)),
            "seconds_left": task.seconds_left(),
        })
    }
}

/// A mean in which the last values weigh most, and the first alone is itself.
#[derive(Debug, Clone, Copy, Default)]
struct Smoothed {
    sum: f64,
    weight: f64,
}

impl Smoothed {
    fn add(&mut self, value: f64) {
        self.sum = SMOOTHING * self.sum + (1.0 - SMOOTHING) * value;
        self.weight = SMOOTHING * self.weight + (1.0 - SMOOTHING);
    }

    fn mean(self) -> f64 {
        self.sum / self.weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(step: usize, loss: f64) -> StepRecord {
        StepRecord {
            kind: "step",
            step,
            epoch: step as f64 / 10.0,
            loss,
            learning_rate: 1e-4,
            grad_norm: 0.5,
            tokens: 100,
            seconds: 0.5,
            data_seconds: 0.0,
        }
    }

    #[test]
    fn the_smoothed_loss_begins_with_the_first_and_follows_the_last() {
        let mut loss = Smoothed::default();
        loss.add(3.0);
        assert!((loss.mean() - 3.0).abs() < 1e-12);
        loss.add(1.0);
        // (0.09 * 3 + 0.1 * 1) / 0.19
        assert!((loss.mean() - 0.37 / 0.19).abs() < 1e-12);
        (0..200).for_each(|_| loss.add(1.0));
        assert!((loss.mean() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_line_says_what_a_step_brought_and_what_comes() {
        let mut training = Training::begin("training", 25, 10);
        let numbers = &mut training.numbers;
        assert_eq!(numbers.next_evaluation(0), Some(10));
        assert_eq!(numbers.next_evaluation(10), Some(20));
        assert_eq!(numbers.next_evaluation(24), Some(25));
        assert_eq!(numbers.next_evaluation(25), None);
        assert_eq!(numbers.seconds_to(0, 10), None);
        (1..=12).for_each(|step| numbers.add(&record(step, 0.25)));
        numbers.best = Some(Best {
            metric: "accuracy".into(),
            value: 0.75,
            step: 10,
        });
        training.task.at(12);
        let numbers = &training.numbers;
        let line = numbers.line(&record(12, 0.25), &training.task);
        let expected = "training: step 12 of 25 (48 %) epoch 1.20 loss 0.2500 lr 1.00e-4 grad norm \
                        0.500 200 tokens/s, best accuracy 0.7500 (step 10), evaluation in 0:04 \
                        (step 20)";
        assert!(line.starts_with(expected), "{line}");
        let object = numbers.object(&record(12, 0.25), &training.task);
        assert_eq!(object["next_evaluation"], 20);
        assert_eq!(object["seconds_to_evaluation"], 4.0);
        assert_eq!(object["best"], 0.75);
        assert_eq!(object["tokens_per_second"], 200.0);
    }
}
