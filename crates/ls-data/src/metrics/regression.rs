//! Scores of a regression, equal to scipy's and scikit-learn's.

use serde::{Deserialize, Serialize};

use super::mean::{check_length, mean, ratio};
use crate::error::Result;

/// Scores of predicted numbers over a split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegressionScores {
    /// Pearson correlation; 0 where all gold values, or all predictions, are the same (scipy: NaN).
    pub pearson: f64,
    /// Spearman correlation: that of the ranks, where equal values share the mean of theirs.
    pub spearman: f64,
    /// Mean absolute error.
    pub mae: f64,
    /// Mean squared error.
    pub mse: f64,
}

impl RegressionScores {
    /// Compares numbers.
    ///
    /// # Errors
    /// `gold` and `predicted` differ in length.
    pub fn compute(gold: &[f64], predicted: &[f64]) -> Result<Self> {
        check_length("examples", None, gold.len(), predicted.len())?;
        let differences = gold.iter().zip(predicted).map(|(g, p)| p - g);
        let absolute: Vec<f64> = differences.clone().map(f64::abs).collect();
        let squared: Vec<f64> = differences.map(|difference| difference.powi(2)).collect();
        Ok(Self {
            pearson: pearson(gold, predicted),
            spearman: pearson(&ranks(gold), &ranks(predicted)),
            mae: mean(&absolute),
            mse: mean(&squared),
        })
    }

    /// The scores by their JSON keys.
    pub fn metrics(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("pearson", self.pearson),
            ("spearman", self.spearman),
            ("mae", self.mae),
            ("mse", self.mse),
        ]
    }
}

fn pearson(a: &[f64], b: &[f64]) -> f64 {
    // Their mean may be another number in its last digits.
    let same = |values: &[f64]| values.iter().all(|value| *value == values[0]);
    if same(a) || same(b) {
        return 0.0;
    }
    let centred = |values: &[f64]| -> Vec<f64> {
        let middle = mean(values);
        values.iter().map(|value| value - middle).collect()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (a, b) = (centred(a), centred(b));
    // Root by root: the product of the sums may be past the range of numbers.
    let spread = dot(&a, &a).sqrt() * dot(&b, &b).sqrt();
    ratio(dot(&a, &b), spread).clamp(-1.0, 1.0)
}

/// The rank of each value from 1; equal ones have the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let shared = before as f64 + (equal.len() + 1) as f64 / 2.0;
        for value in equal {
            ranks[*value] = shared;
        }
        before += equal.len();
    }
    ranks
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_order_has_no_correlation() {
        let constant = RegressionScores::compute(&[1.0, 2.0, 6.0], &[0.1; 3]).unwrap();
        assert_eq!((constant.pearson, constant.spearman), (0.0, 0.0));
        assert!((constant.mae - 2.9).abs() < 1e-12);
        let none = RegressionScores::compute(&[], &[]).unwrap();
        assert_eq!((none.pearson, none.mse), (0.0, 0.0));
        let error = RegressionScores::compute(&[1.0], &[]).unwrap_err();
        assert_eq!(error.to_string(), "0 predictions for 1 gold examples");
    }

    #[test]
    fn equal_values_share_a_rank() {
        assert_eq!(ranks(&[0.5, 9.0, 0.5, -1.0]), [2.5, 4.0, 2.5, 1.0]);
    }
}
