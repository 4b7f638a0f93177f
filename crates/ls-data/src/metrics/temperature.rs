//! [`fit_temperature`]: the temperature at which probabilities say how often they are right.

/// Lowest and highest temperature that is one. Answers that are all right would be surer without
/// end, and answers that say nothing less sure.
pub const TEMPERATURES: [f64; 2] = [1e-2, 1e2];

/// The temperature `T` for which the mean of `-ln softmax(logits / T)[gold]` is lowest: "On
/// calibration of modern neural networks", Guo et al. 2017. `None` where none within
/// [`TEMPERATURES`] is best: of nothing, where every answer is right (or as good as), where answers
/// say nothing of what is right, and where logits do not differ.
///
/// The loss is convex in `1 / T`, so the root of its derivative is found by Newton's steps within
/// what holds it, which is halved where a step would leave it or shrinks too slowly.
///
/// # Panics
/// If a gold class is past its logits.
pub fn fit_temperature<'a>(rows: impl Iterator<Item = (&'a [f32], usize)> + Clone) -> Option<f64> {
    // Halving alone would need fewer.
    const STEPS: usize = 100;
    const PRECISION: f64 = 1e-12;
    let derivatives = |scale: f64| {
        let each = rows
            .clone()
            .map(|(row, gold)| derivatives_of(row, gold, scale));
        each.fold((0.0, 0.0), |sums, one| (sums.0 + one.0, sums.1 + one.1))
    };
    let [mut high, mut low] = TEMPERATURES.map(|temperature| 1.0 / temperature);
    if derivatives(low).0 >= 0.0 || derivatives(high).0 <= 0.0 {
        return None;
    }
    let (mut scale, mut last) = (1.0, f64::INFINITY);
    for _ in 0..STEPS {
        let (slope, curvature) = derivatives(scale);
        if slope > 0.0 {
            high = scale;
        } else {
            low = scale;
        }
        let newton = scale - slope / curvature;
        let shrinks = (newton - scale).abs() <= last / 2.0;
        let next = if newton >= low && newton <= high && shrinks {
            newton
        } else {
            (low * high).sqrt()
        };
        last = (next - scale).abs();
        scale = next;
        if last <= PRECISION * scale {
            break;
        }
    }
    Some(1.0 / scale)
}

/// The derivatives of `-ln softmax(scale * logits)[gold]` by `scale`: the mean logit less the gold
/// one, and the variance of the logits.
fn derivatives_of(logits: &[f32], gold: usize, scale: f64) -> (f64, f64) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // From the largest, so that nothing overflows.
    let below = |logit: f32| f64::from(logit) - f64::from(most);
    let (mut total, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for logit in logits {
        let weight = (scale * below(*logit)).exp();
        total += weight;
        sum += weight * below(*logit);
        squares += weight * below(*logit) * below(*logit);
    }
    let mean = sum / total;
    (mean - below(logits[gold]), squares / total - mean * mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(rows: &[(&[f32], usize)]) -> Option<f64> {
        fit_temperature(rows.iter().copied())
    }

    #[test]
    fn a_temperature_that_would_be_without_end_is_none() {
        assert_eq!(fit(&[]), None);
        // Always right: the surer, the better.
        assert_eq!(fit(&[(&[2.0, 0.0], 0), (&[0.0, 3.0], 1)]), None);
        assert_eq!(fit(&[(&[2e4, 0.0], 0)]), None);
        // Always wrong: the less sure, the better.
        assert_eq!(fit(&[(&[2.0, 0.0], 1), (&[0.0, 3.0], 0)]), None);
        // Where all logits are the same, nothing depends on it.
        assert_eq!(fit(&[(&[1.0, 1.0], 0)]), None);
        // Numbers past the range of their exponentials.
        assert_eq!(fit(&[(&[3e38, -3e38], 0), (&[1.0, 0.0], 1)]), None);
        assert_eq!(fit(&[(&[3e38, -3e38], 1), (&[1.0, 0.0], 0)]), None);
        // Right in three of four: ln 3 apart is what that says.
        for logit in [0.5, 4.0, 60.0] {
            let row: &[f32] = &[logit, 0.0];
            let found = fit(&[(row, 0), (row, 0), (row, 0), (row, 1)]).unwrap_or_default();
            let expected = f64::from(logit) / 3f64.ln();
            assert!((found / expected - 1.0).abs() < 1e-9, "{found}");
        }
    }
}
