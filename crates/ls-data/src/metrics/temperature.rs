//! [`fit_temperature`]: the temperature at which probabilities say how often they are right.

/// Lowest and highest temperature. Answers that are all right would be surer without end.
const BOUNDS: [f64; 2] = [1e-2, 1e2];

/// The temperature `T` for which the mean of `-ln softmax(logits / T)[gold]` is lowest: "On
/// calibration of modern neural networks", Guo et al. 2017. It is within 0.01 and 100; 1 of
/// nothing.
///
/// The loss is convex in `1 / T`, so the root of its derivative is found by halving what holds it.
///
/// # Panics
/// If a gold class is past its logits.
pub fn fit_temperature<'a>(rows: impl Iterator<Item = (&'a [f32], usize)> + Clone) -> f64 {
    // Each halves a range of 10^4 on a scale of ratios: less than 1e-13 is left.
    const HALVES: usize = 48;
    if rows.clone().next().is_none() {
        return 1.0;
    }
    let [mut low, mut high] = BOUNDS.map(f64::ln);
    for _ in 0..HALVES {
        let middle = (low + high) / 2.0;
        let scale = (-middle).exp();
        let slopes = rows.clone().map(|(row, gold)| slope_of(row, gold, scale));
        // Where the loss rises with the scale, the temperature has to be higher.
        if slopes.sum::<f64>() > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    ((low + high) / 2.0).exp()
}

/// The derivative of `-ln softmax(scale * logits)[gold]` by `scale`: the mean logit less the gold
/// one.
fn slope_of(logits: &[f32], gold: usize, scale: f64) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // From the largest, so that nothing overflows.
    let below = |logit: f32| f64::from(logit) - f64::from(most);
    let (mut total, mut sum) = (0.0, 0.0);
    for logit in logits {
        let weight = (scale * below(*logit)).exp();
        total += weight;
        sum += weight * below(*logit);
    }
    sum / total - below(logits[gold])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(rows: &[(&[f32], usize)]) -> f64 {
        fit_temperature(rows.iter().copied())
    }

    #[test]
    fn temperatures_end_at_their_bounds() {
        assert_eq!(fit(&[]), 1.0);
        // Always right: the surer, the better.
        assert!((fit(&[(&[2.0, 0.0], 0), (&[0.0, 3.0], 1)]) - 0.01).abs() < 1e-9);
        // Always wrong: the less sure, the better.
        assert!((fit(&[(&[2.0, 0.0], 1), (&[0.0, 3.0], 0)]) - 100.0).abs() < 1e-6);
        // Right in three of four: ln 3 apart is what that says.
        let row: &[f32] = &[4.0, 0.0];
        let found = fit(&[(row, 0), (row, 0), (row, 0), (row, 1)]);
        assert!((found - 4.0 / 3f64.ln()).abs() < 1e-9, "{found}");
        // Where all logits are the same, nothing depends on it.
        assert!(fit(&[(&[1.0, 1.0], 0)]).is_finite());
        // Numbers past the range of their exponentials.
        assert!(fit(&[(&[3e38, -3e38], 0), (&[1.0, 0.0], 1)]).is_finite());
    }
}
