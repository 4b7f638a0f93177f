//! What a run minimises: [`Objective`], and the cross-entropy that it is for most.

use burn::tensor::activation::{log_sigmoid, log_softmax, sigmoid};
use burn::tensor::{Device, Int, Tensor, TensorData};
use ls_data::{IGNORE_INDEX, LabelSet};
use ls_files::{did_you_mean, nearest};

use crate::config::{Balanced, ClassWeight, TrainSettings};
use crate::dataset::Dataset;
use crate::error::{Result, TrainError};
use crate::problem::Problem;

/// Powers of less than this are those of this: the gradient of a root of 0 is infinite.
const LEAST_BASE: f32 = 1e-12;

/// What a batch is compared with, one for each row of the model's output.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// A class each, or [`IGNORE_INDEX`].
    Classes(Vec<i64>),
    /// A number for each output of the head: `[rows, outputs]`.
    Outputs(Vec<Vec<f32>>),
}

/// What a run minimises, as transformers' heads and torch's losses define it: cross-entropy of
/// classes (`CrossEntropyLoss`), binary cross-entropy of labels (`BCEWithLogitsLoss`), or the mean
/// squared error of a regression (`MSELoss`).
///
/// A focal loss multiplies the cross-entropy of each decision by `(1 - p)^gamma`, `p` being the
/// probability of what is right ("Focal Loss for Dense Object Detection", arXiv 1708.02002).
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    /// What is learnt.
    pub problem: Problem,
    /// Weight of each class (`weight` of `CrossEntropyLoss`), or of each label where it holds
    /// (`pos_weight` of `BCEWithLogitsLoss`); all weigh 1 without.
    pub class_weight: Option<Vec<f32>>,
    /// Part of a target that is spread over all classes (`label_smoothing` of `CrossEntropyLoss`).
    pub label_smoothing_factor: f64,
    /// Exponent of the focal loss; 0 for none.
    pub focal_gamma: f64,
}

impl Objective {
    /// The plain loss of a problem.
    pub fn new(problem: Problem) -> Self {
        Self {
            problem,
            class_weight: None,
            label_smoothing_factor: 0.0,
            focal_gamma: 0.0,
        }
    }

    /// That of a run, which learns from `train`.
    ///
    /// # Errors
    ///
    /// If a weight is that of a label which there is none of, or the split's file can no longer be
    /// read.
    pub(crate) fn of_run(
        settings: &TrainSettings,
        problem: Problem,
        labels: &LabelSet,
        train: &Dataset,
    ) -> Result<Self> {
        let class_weight = match &settings.class_weight {
            None => None,
            Some(ClassWeight::Named(Balanced::Balanced)) => {
                let counts = train.label_counts(labels.len())?;
                Some(match problem {
                    Problem::MultiLabel => balanced_labels(&counts, train.len()),
                    _ => balanced_classes(&counts),
                })
            }
            Some(ClassWeight::Table(table)) => {
                check_weights(settings, labels)?;
                let names = || labels.names().iter().map(String::as_str);
                let weight = |name: &str| table.get(name).map_or(1.0, |weight| *weight as f32);
                Some(names().map(weight).collect())
            }
        };
        Ok(Self {
            problem,
            class_weight,
            label_smoothing_factor: settings.label_smoothing_factor,
            focal_gamma: settings.focal_gamma,
        })
    }

    /// The sum of the losses of what counts, in f32. Its mean, which is what is minimised, is this
    /// over [`Objective::count`]: under gradient accumulation that of the whole step, not of one
    /// pass. Each row weighs as `rows` says; all weigh 1 where that is empty.
    ///
    /// # Shapes
    ///
    /// - `logits`: `[n, outputs]`, f32; `targets`: `n` rows; `rows`: `n` values, or none
    /// - output: `[1]`
    ///
    /// # Panics
    ///
    /// If the lengths differ, or a class is past the outputs.
    pub fn sum(&self, logits: Tensor<2>, targets: &Targets, rows: &[f64]) -> Tensor<1> {
        match targets {
            Targets::Classes(labels) if self.is_plain() && rows.is_empty() => {
                cross_entropy_sum(logits, labels)
            }
            Targets::Classes(labels) if self.is_plain() => {
                weighted_cross_entropy_sum(logits, labels, rows)
            }
            Targets::Classes(labels) => self.of_classes(logits, labels, rows),
            Targets::Outputs(outputs) => {
                let losses = match self.problem {
                    Problem::Regression => squared(logits, outputs),
                    _ => self.of_labels(logits, outputs),
                };
                if rows.is_empty() {
                    return losses.sum();
                }
                let rows = rows.iter().map(|weight| *weight as f32).collect();
                let rows = column(rows, &losses.device());
                (losses * rows).sum()
            }
        }
    }

    /// What sums of losses are divided by: the targets that count, each as much as its class
    /// weighs.
    pub fn count(&self, targets: &Targets) -> f64 {
        match targets {
            Targets::Classes(labels) => labels
                .iter()
                .filter(|label| **label != IGNORE_INDEX)
                .map(|label| f64::from(self.weight(*label as usize)))
                .sum(),
            Targets::Outputs(outputs) => outputs.iter().map(|one| one.len() as f64).sum(),
        }
    }

    fn weight(&self, class: usize) -> f32 {
        self.class_weight.as_ref().map_or(1.0, |all| all[class])
    }

    /// Whether it is the loss that transformers has without a word.
    fn is_plain(&self) -> bool {
        self.class_weight.is_none() && self.label_smoothing_factor == 0.0 && self.focal_gamma == 0.0
    }

    /// Cross-entropy of classes.
    fn of_classes(&self, logits: Tensor<2>, labels: &[i64], rows: &[f64]) -> Tensor<1> {
        let device = logits.device();
        let counted: Vec<usize> = (0..labels.len())
            .filter(|row| labels[*row] != IGNORE_INDEX)
            .collect();
        if counted.is_empty() {
            return logits.sum().mul_scalar(0.0);
        }
        let places: Vec<i32> = counted.iter().map(|row| *row as i32).collect();
        let logits = if counted.len() == labels.len() {
            logits
        } else {
            logits.select(0, index(places, &device))
        };
        let classes = logits.dims()[1];
        let classes_of: Vec<usize> = counted.iter().map(|row| labels[*row] as usize).collect();
        let weight_of_row = |row: usize| rows.get(row).map_or(1.0, |weight| *weight as f32);
        let weights = classes_of.iter().zip(&counted);
        let weights = weights.map(|(class, row)| self.weight(*class) * weight_of_row(*row));
        let weights = column(weights.collect(), &device);

        let targets = classes_of.iter().map(|class| *class as i32).collect();
        let log_p = log_softmax(logits, 1); // [counted, classes]
        let picked = log_p
            .clone()
            .gather(1, index(targets, &device).unsqueeze_dim(1));
        let mut losses = picked.clone().neg() * weights;
        if self.focal_gamma > 0.0 {
            let rest = picked.exp().neg().add_scalar(1.0).clamp_min(LEAST_BASE);
            losses = losses * rest.powf_scalar(self.focal_gamma as f32);
        }
        let sum = losses.sum();
        let smoothing = self.label_smoothing_factor;
        if smoothing == 0.0 {
            return sum;
        }
        // A part of each target is spread over all classes, each as much as it weighs.
        let of_class: Vec<f32> = (0..classes).map(|class| self.weight(class)).collect();
        let of_class = Tensor::<2>::from_data(TensorData::new(of_class, [1, classes]), &device);
        let of_row = column(
            counted.iter().map(|row| weight_of_row(*row)).collect(),
            &device,
        );
        let spread = (log_p * of_class * of_row).sum().neg();
        sum.mul_scalar(1.0 - smoothing) + spread.mul_scalar(smoothing / classes as f64)
    }

    /// Binary cross-entropies, `[n, outputs]`.
    fn of_labels(&self, logits: Tensor<2>, outputs: &[Vec<f32>]) -> Tensor<2> {
        let device = logits.device();
        let shape = logits.dims();
        let matrix = |value: &dyn Fn(usize, f32) -> f32| {
            let rows = outputs.iter();
            let values = rows.flat_map(|row| row.iter().enumerate());
            let values: Vec<f32> = values.map(|(label, holds)| value(label, *holds)).collect();
            Tensor::<2>::from_data(TensorData::new(values, shape), &device)
        };
        // -w y ln(s(x)) - (1 - y) ln(1 - s(x)), where ln(1 - s(x)) = ln(s(x)) - x.
        let absent = matrix(&|_, holds| 1.0 - holds);
        let weight = matrix(&|label, holds| 1.0 + (self.weight(label) - 1.0) * holds);
        let losses = absent * logits.clone() - weight * log_sigmoid(logits.clone());
        if self.focal_gamma == 0.0 {
            return losses;
        }
        // 1 - p, of what is right.
        let away = matrix(&|_, holds| 1.0 - 2.0 * holds);
        let rest = sigmoid(logits * away).clamp_min(LEAST_BASE);
        losses * rest.powf_scalar(self.focal_gamma as f32)
    }
}

/// Sees that the labels of a table of weights are there.
///
/// # Errors
///
/// If one is not.
pub(crate) fn check_weights(settings: &TrainSettings, labels: &LabelSet) -> Result<()> {
    let Some(ClassWeight::Table(table)) = &settings.class_weight else {
        return Ok(());
    };
    let unknown = table.keys().filter(|name| labels.id(name).is_none());
    let names = || labels.names().iter().map(String::as_str);
    let fault = |name: &String| {
        let nearest = nearest(name, names());
        let known: Vec<String> = names().map(|name| format!("`{name}`")).collect();
        format!(
            "no label {name:?}; the labels are {}{}",
            ls_files::listed(known, 20),
            did_you_mean(&nearest)
        )
    };
    let faults: Vec<String> = unknown.map(fault).collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(TrainError::Config {
        origin: "train.class_weight".into(),
        faults,
    })
}

/// scikit-learn's `class_weight="balanced"`: examples over classes and over the examples of each. A
/// class that no example has, which scikit-learn does not know, weighs 1.
fn balanced_classes(counts: &[usize]) -> Vec<f32> {
    let present = counts.iter().filter(|count| **count > 0).count();
    let total: usize = counts.iter().sum();
    let weight = |count: &usize| match count {
        0 => 1.0,
        count => (total as f64 / (present as f64 * *count as f64)) as f32,
    };
    counts.iter().map(weight).collect()
}

/// The same of each label by itself, of which the one side weighs 1: examples without it over those
/// with it. A label that all examples have, or none, weighs 1.
fn balanced_labels(counts: &[usize], examples: usize) -> Vec<f32> {
    let weight = |count: &usize| match (count, examples - count) {
        (0, _) | (_, 0) => 1.0,
        (with, without) => (without as f64 / *with as f64) as f32,
    };
    counts.iter().map(weight).collect()
}

/// Squared errors, `[n, outputs]`.
fn squared(logits: Tensor<2>, outputs: &[Vec<f32>]) -> Tensor<2> {
    let data = TensorData::new(outputs.concat(), logits.dims());
    let targets = Tensor::<2>::from_data(data, &logits.device());
    (logits - targets).square()
}

/// `[n]`
fn index(values: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// `[n, 1]`
fn column(values: Vec<f32>, device: &Device) -> Tensor<2> {
    let shape = [values.len(), 1];
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// How many labels count: those that are not [`IGNORE_INDEX`].
pub fn counted(labels: &[i64]) -> usize {
    labels
        .iter()
        .filter(|&&label| label != IGNORE_INDEX)
        .count()
}

/// The sum of the cross-entropies of the labels that count, in f32; divide by their number for the
/// mean.
///
/// # Shapes
///
/// - `logits`: `[n, num_labels]`, f32; `labels`: `n` values
/// - output: `[1]`
///
/// # Panics
///
/// If `labels` has another length than `logits`, or a label is past `num_labels`.
pub fn cross_entropy_sum(logits: Tensor<2>, labels: &[i64]) -> Tensor<1> {
    let device = logits.device();
    let (rows, targets): (Vec<i32>, Vec<i32>) = labels
        .iter()
        .enumerate()
        .filter(|(_, label)| **label != IGNORE_INDEX)
        .map(|(row, label)| (row as i32, *label as i32))
        .unzip();
    if rows.is_empty() {
        return logits.sum().mul_scalar(0.0);
    }
    let logits = if rows.len() == labels.len() {
        logits
    } else {
        logits.select(0, index(rows, &device))
    };
    log_softmax(logits, 1)
        .gather(1, index(targets, &device).unsqueeze_dim(1))
        .sum()
        .neg()
}

/// As [`cross_entropy_sum`] where every label counts, each as much as its weight says.
fn weighted_cross_entropy_sum(logits: Tensor<2>, labels: &[i64], weights: &[f64]) -> Tensor<1> {
    let device = logits.device();
    let targets = labels.iter().map(|label| *label as i32).collect();
    let weights = weights.iter().map(|weight| *weight as f32).collect();
    let targets = index(targets, &device).unsqueeze_dim(1);
    let picked = log_softmax(logits, 1).gather(1, targets);
    (picked * column(weights, &device)).sum().neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [[f32; 3]; 2] = [[1.0, 2.0, 3.0], [5.0, -1.0, 0.5]];

    fn logits() -> Tensor<2> {
        Tensor::from_data(LOGITS, &Device::flex())
    }

    fn loss(labels: &[i64]) -> f32 {
        cross_entropy_sum(logits(), labels).into_scalar()
    }

    #[test]
    fn rows_count_in_parts() {
        let [first, second] = [[1, IGNORE_INDEX], [IGNORE_INDEX, 0]].map(|l| loss(&l));
        let plain = Objective::new(Problem::SingleLabel);
        // As the general form has it, with weights that change nothing.
        let general = Objective {
            class_weight: Some(vec![1.0; 3]),
            ..plain.clone()
        };
        let (targets, rows) = (Targets::Classes(vec![1, 0]), [0.5, 2.0]);
        for objective in [plain, general] {
            let sum: f32 = objective.sum(logits(), &targets, &rows).into_scalar();
            assert!((sum - (0.5 * first + 2.0 * second)).abs() < 1e-5);
            assert_eq!(objective.count(&targets), 2.0);
        }
        // Of numbers too.
        let objective = Objective::new(Problem::MultiLabel);
        let outputs = vec![vec![1.0, 0.0, 1.0], vec![0.0, 0.0, 1.0]];
        let targets = Targets::Outputs(outputs);
        let sum = |rows: &[f64]| -> f32 { objective.sum(logits(), &targets, rows).into_scalar() };
        let [first, second] = [[1.0, 0.0], [0.0, 1.0]].map(|rows| sum(&rows));
        assert!((sum(&rows) - (0.5 * first + 2.0 * second)).abs() < 1e-5);
        assert!((sum(&[]) - (first + second)).abs() < 1e-5);
        assert_eq!(objective.count(&targets), 6.0);
    }

    #[test]
    fn ignored_labels_add_nothing() {
        let first = 3f32.exp() + 2f32.exp() + 1f32.exp();
        assert!((loss(&[1, IGNORE_INDEX]) - (first.ln() - 2.0)).abs() < 1e-6);
        assert_eq!(loss(&[IGNORE_INDEX, IGNORE_INDEX]), 0.0);
        let both = loss(&[1, 0]);
        assert!((both - loss(&[1, IGNORE_INDEX]) - loss(&[IGNORE_INDEX, 0])).abs() < 1e-6);
        let objective = Objective {
            label_smoothing_factor: 0.1,
            ..Objective::new(Problem::Tags(None))
        };
        let sum = |labels: &[i64]| -> f32 {
            let targets = Targets::Classes(labels.to_vec());
            objective.sum(logits(), &targets, &[]).into_scalar()
        };
        assert_eq!(sum(&[IGNORE_INDEX, IGNORE_INDEX]), 0.0);
        let parts = sum(&[1, IGNORE_INDEX]) + sum(&[IGNORE_INDEX, 0]);
        assert!((sum(&[1, 0]) - parts).abs() < 1e-5);
    }

    #[test]
    fn balanced_weights_are_those_of_scikit_learn() {
        // compute_class_weight("balanced", classes=np.arange(3), y=[0]*6 + [1]*3 + [2])
        let found = balanced_classes(&[6, 3, 1]);
        for (found, expected) in found.iter().zip([0.5555556, 1.1111112, 3.3333333]) {
            assert!((found - expected).abs() < 1e-6, "{found}");
        }
        assert_eq!(balanced_classes(&[4, 0, 4]), [1.0, 1.0, 1.0]);
        assert_eq!(balanced_labels(&[2, 0, 8, 4], 8), [3.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn sure_answers_have_numbers_as_gradients() {
        let device = Device::flex().autodiff();
        let sure = [[90.0, -90.0, 0.0], [-90.0, 90.0, 0.0]];
        for gamma in [0.5, 1.0, 2.0] {
            for (problem, targets) in [
                (Problem::SingleLabel, Targets::Classes(vec![0, 1])),
                (
                    Problem::MultiLabel,
                    Targets::Outputs(vec![vec![1.0, 0.0, 0.0], vec![1.0, 0.0, 1.0]]),
                ),
            ] {
                let objective = Objective {
                    focal_gamma: gamma,
                    ..Objective::new(problem)
                };
                let logits = Tensor::<2>::from_data(sure, &device).require_grad();
                let loss = objective.sum(logits.clone(), &targets, &[]);
                let gradient = logits.grad(&loss.backward()).unwrap();
                let values = gradient.into_data().try_into_vec::<f32>().unwrap();
                assert!(values.iter().all(|value| value.is_finite()), "{values:?}");
            }
        }
    }
}
