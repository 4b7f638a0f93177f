//! Timing on a machine whose speed varies: turns and medians.

use std::time::Instant;

/// Seconds of each of `runs`, which have their turn in each of `rounds`: `[run][round]`.
pub fn by_turns(rounds: usize, runs: &[&dyn Fn()]) -> Vec<Vec<f64>> {
    let mut times = vec![Vec::with_capacity(rounds); runs.len()];
    for _ in 0..rounds {
        for (run, times) in runs.iter().zip(&mut times) {
            times.push(seconds(run));
        }
    }
    times
}

/// Seconds of one call.
pub fn seconds(run: impl Fn()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

/// The value that a part `at` (0 to 1) of the values lies below. NaN of no values.
pub fn quantile(mut values: Vec<f64>, at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = (values.len() as f64 * at) as usize;
    let last = values.len().saturating_sub(1);
    values.get(place.min(last)).copied().unwrap_or(f64::NAN)
}

/// The middle value; of an even number the mean of the two in the middle, of none NaN.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len => (sorted[(len - 1) / 2] + sorted[len / 2]) / 2.0,
    }
}

/// The median of the ratios within a round, so that what slows the machine for a while slows both
/// sides of a ratio.
pub fn ratio(times: &[f64], over: &[f64]) -> f64 {
    let ratios: Vec<f64> = times.iter().zip(over).map(|(a, b)| a / b).collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_of_the_list() {
        let values = vec![5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(quantile(values.clone(), 0.0), 1.0);
        assert_eq!(quantile(values, 1.0), 5.0);
        assert!(quantile(Vec::new(), 0.5).is_nan());
        assert_eq!(ratio(&[2.0, 9.0, 6.0], &[1.0, 1.0, 3.0]), 2.0);
    }

    #[test]
    fn the_median_stands_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
