//! Scores of the probabilities that a classifier gives, not only of its choice.

use super::mean::{check_length, mean, ratio};
use crate::error::{DataError, Result};

/// Bins of [`expected_calibration_error`] in Guo et al. (2017).
pub const ECE_BINS: usize = 15;

/// How far the probabilities of an example may be from 1 together: more than rounding to f16 or
/// to a few decimals.
const SUM_TOLERANCE: f64 = 1e-2;

/// Mean of `-ln(p)` over the examples, `p` being the probability of the gold class, in nats.
///
/// As `sklearn.metrics.log_loss` on f64 values: each probability is first brought into
/// `[eps, 1 - eps]`, `eps` being that of f64.
///
/// # Errors
/// The numbers of rows and of gold classes differ; rows of different length; a gold class past
/// them; values that are no probabilities.
pub fn log_loss(probabilities: &[Vec<f64>], gold: &[usize]) -> Result<f64> {
    check(probabilities, gold)?;
    let losses: Vec<f64> = probabilities
        .iter()
        .zip(gold)
        .map(|(row, gold)| -row[*gold].clamp(f64::EPSILON, 1.0 - f64::EPSILON).ln())
        .collect();
    Ok(mean(&losses))
}

/// Expected calibration error (Guo et al. 2017, "On calibration of modern neural networks"): how
/// far the confidence in the predicted class is from the accuracy, over `bins` of equal width and
/// weighted by their examples. The bins are open below and closed above.
///
/// # Errors
/// As [`log_loss`]; a predicted class past the rows; no bins.
pub fn expected_calibration_error(
    probabilities: &[Vec<f64>],
    predicted: &[usize],
    gold: &[usize],
    bins: usize,
) -> Result<f64> {
    check(probabilities, gold)?;
    check(probabilities, predicted)?;
    if bins == 0 {
        return Err(DataError::NoBins);
    }
    // Confidences and right answers of each bin.
    let mut sums = vec![(0.0, 0.0); bins];
    for ((row, predicted), gold) in probabilities.iter().zip(predicted).zip(gold) {
        let confidence = row[*predicted];
        let bin = (confidence * bins as f64).ceil() as usize;
        let (confidences, right) = &mut sums[bin.clamp(1, bins) - 1];
        *confidences += confidence;
        *right += f64::from(u8::from(predicted == gold));
    }
    let gaps = sums
        .iter()
        .map(|(confidences, right)| (confidences - right).abs());
    Ok(ratio(gaps.sum(), gold.len() as f64))
}

fn check(probabilities: &[Vec<f64>], classes: &[usize]) -> Result<()> {
    check_length("examples", None, classes.len(), probabilities.len())?;
    let count = probabilities.first().map_or(0, Vec::len);
    for (example, (row, class)) in probabilities.iter().zip(classes).enumerate() {
        if row.len() != count {
            let (found, expected) = (row.len(), count);
            return Err(DataError::ProbabilityCount {
                example,
                found,
                expected,
            });
        }
        if *class >= count {
            return Err(DataError::ClassId { id: *class, count });
        }
        let sum: f64 = row.iter().sum();
        let each = row.iter().all(|value| (0.0..=1.0).contains(value));
        if !each || (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(DataError::NotProbabilities { example, sum });
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn confidence_on_an_edge_belongs_to_the_bin_below_it() {
        // (0, 0.5] holds both; their mean confidence is 0.5 and one of two is right.
        let rows = [vec![0.5, 0.5], vec![0.5, 0.5]];
        let error = |predicted: &[usize], gold: &[usize], bins| {
            expected_calibration_error(&rows, predicted, gold, bins).unwrap()
        };
        assert_eq!(error(&[0, 0], &[0, 1], 2), 0.0);
        assert_eq!(error(&[0, 0], &[0, 0], 2), 0.5);
        let sure = [vec![1.0, 0.0], vec![0.25, 0.75]];
        // The second predicts what it gives 0.25: far from the first, in a bin of its own.
        let found = expected_calibration_error(&sure, &[0, 0], &[0, 0], ECE_BINS).unwrap();
        assert_eq!(found, 0.375);
        // A confidence of 0 is in the lowest bin.
        let found = expected_calibration_error(&sure[..1], &[1], &[0], ECE_BINS).unwrap();
        assert_eq!(found, 0.0);
        assert_eq!(expected_calibration_error(&[], &[], &[], 15).unwrap(), 0.0);
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        let error = |row: Vec<f64>| log_loss(&[row], &[0]).unwrap_err().to_string();
        assert_eq!(
            error(vec![0.5, 0.2]),
            "the probabilities of example 0 add up to 0.7; expected values from 0 to 1 that add up to 1"
        );
        for row in [vec![f64::NAN, 1.0], vec![-0.5, 1.5], vec![2.0, -1.0]] {
            error(row);
        }
        assert_eq!(error(vec![]), "class 0 is past the 0 labels");
        let rows = [vec![0.5, 0.5], vec![1.0]];
        assert_eq!(
            log_loss(&rows, &[0, 0]).unwrap_err().to_string(),
            "example 1 has 1 probabilities, expected 2"
        );
        assert!(log_loss(&rows, &[0]).is_err());
        assert!(expected_calibration_error(&[vec![1.0]], &[0], &[0], 0).is_err());
    }
}
