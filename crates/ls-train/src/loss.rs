//! Cross-entropy over the labels that count.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use ls_data::IGNORE_INDEX;

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
/// A sum, because under gradient accumulation the divisor is the count of the whole step, not of
/// one pass.
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
    let index = |values: Vec<i32>| {
        let shape = [values.len()];
        Tensor::<1, Int>::from_data(TensorData::new(values, shape), &device)
    };
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
        logits.select(0, index(rows))
    };
    log_softmax(logits, 1)
        .gather(1, index(targets).unsqueeze_dim(1))
        .sum()
        .neg()
}

/// As [`cross_entropy_sum`] where every label counts, each as much as its weight says.
///
/// # Shapes
///
/// - `logits`: `[n, num_labels]`, f32; `labels`, `weights`: `n` values
/// - output: `[1]`
///
/// # Panics
///
/// If the lengths differ, or a label is past `num_labels`.
pub(crate) fn weighted_cross_entropy_sum(
    logits: Tensor<2>,
    labels: &[i64],
    weights: &[f64],
) -> Tensor<1> {
    let device = logits.device();
    let shape = [labels.len(), 1];
    let targets: Vec<i32> = labels.iter().map(|label| *label as i32).collect();
    let targets = Tensor::<2, Int>::from_data(TensorData::new(targets, shape), &device);
    let weights: Vec<f32> = weights.iter().map(|weight| *weight as f32).collect();
    let weights = Tensor::<2>::from_data(TensorData::new(weights, shape), &device);
    let picked = log_softmax(logits, 1).gather(1, targets);
    (picked * weights).sum().neg()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn loss(logits: [[f32; 3]; 2], labels: &[i64]) -> f32 {
        cross_entropy_sum(Tensor::from_data(logits, &Device::flex()), labels).into_scalar()
    }

    #[test]
    fn weights_count_labels_in_parts() {
        let logits = [[1.0, 2.0, 3.0], [5.0, -1.0, 0.5]];
        let tensor = Tensor::from_data(logits, &Device::flex());
        let weighted: f32 = weighted_cross_entropy_sum(tensor, &[1, 0], &[0.5, 2.0]).into_scalar();
        let [first, second] = [[1, IGNORE_INDEX], [IGNORE_INDEX, 0]].map(|l| loss(logits, &l));
        assert!((weighted - (0.5 * first + 2.0 * second)).abs() < 1e-6);
    }

    #[test]
    fn ignored_labels_add_nothing() {
        let logits = [[1.0, 2.0, 3.0], [5.0, -1.0, 0.5]];
        let first = 3f32.exp() + 2f32.exp() + 1f32.exp();
        assert!((loss(logits, &[1, IGNORE_INDEX]) - (first.ln() - 2.0)).abs() < 1e-6);
        assert_eq!(loss(logits, &[IGNORE_INDEX, IGNORE_INDEX]), 0.0);
        let both = loss(logits, &[1, 0]);
        assert!(
            (both - loss(logits, &[1, IGNORE_INDEX]) - loss(logits, &[IGNORE_INDEX, 0])).abs()
                < 1e-6
        );
    }
}
