//! How sure a score is: intervals by resampling the examples, and a paired test of two systems.

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::mean::check_length;
use crate::error::{DataError, Result};

/// Counts of each example, of which most are 0. A score is a function of their sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Number of different counts.
    slots: usize,
    /// Where the entries of each example begin, and the end of the last.
    starts: Vec<usize>,
    /// Which count, and how much the example adds to it.
    entries: Vec<(usize, usize)>,
}

impl Tally {
    /// Of no example yet; each adds to some of `slots` counts.
    pub fn new(slots: usize) -> Self {
        Self {
            slots,
            starts: vec![0],
            entries: Vec::new(),
        }
    }

    /// Adds an example by its counts: which, and how many.
    ///
    /// # Panics
    /// If a slot is past the number that [`Tally::new`] was given.
    pub fn push(&mut self, counts: impl IntoIterator<Item = (usize, usize)>) {
        let counts = counts.into_iter().filter(|(_, count)| *count > 0);
        self.entries.extend(counts);
        let new = &self.entries[self.starts[self.len()]..];
        assert!(new.iter().all(|(slot, _)| *slot < self.slots));
        self.starts.push(self.entries.len());
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sums over all examples.
    pub fn totals(&self) -> Vec<usize> {
        let mut totals = vec![0; self.slots];
        for (slot, count) in &self.entries {
            totals[*slot] += count;
        }
        totals
    }

    fn add(&self, example: usize, totals: &mut [usize]) {
        for (slot, count) in &self.entries[self.starts[example]..self.starts[example + 1]] {
            totals[*slot] += count;
        }
    }
}

/// How often and with which random numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resampling {
    /// Resamples, at least 1.
    pub samples: usize,
    /// Fixes the random numbers: the same seed gives the same intervals on every machine.
    pub seed: u64,
    /// Part of the resamples that an interval holds, between 0 and 1.
    pub level: f64,
}

impl Default for Resampling {
    /// 1,000 resamples, seed 42, 95 %.
    fn default() -> Self {
        Self {
            samples: 1000,
            seed: 42,
            level: 0.95,
        }
    }
}

impl Resampling {
    fn check(&self, examples: usize) -> Result<()> {
        let level = self.level > 0.0 && self.level < 1.0;
        if level && self.samples > 0 && examples > 0 {
            return Ok(());
        }
        Err(DataError::Resampling {
            samples: self.samples,
            level: self.level,
            examples,
        })
    }

    fn rng(&self, stream: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(stream);
        rng
    }
}

/// A range of values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// The middle part of the values: the quantiles `(1 - level) / 2` and `(1 + level) / 2`,
    /// interpolated as `numpy.quantile` does by default. NaN of no values.
    pub fn of(mut values: Vec<f64>, level: f64) -> Self {
        values.sort_by(f64::total_cmp);
        let quantile = |q: f64| {
            let at = q * values.len().saturating_sub(1) as f64;
            let get = |i: usize| values.get(i).or(values.last()).copied().unwrap_or(f64::NAN);
            let (below, above) = (get(at.floor() as usize), get(at.floor() as usize + 1));
            below + (above - below) * at.fract()
        };
        Self {
            low: quantile((1.0 - level) / 2.0),
            high: quantile((1.0 + level) / 2.0),
        }
    }
}

/// The percentile interval of each statistic over resamples of the examples, drawn with
/// replacement (Efron 1979). `statistics` turns sums of counts into any number of values.
///
/// # Errors
/// No samples, no examples, or a level that is not between 0 and 1.
pub fn bootstrap(
    tally: &Tally,
    resampling: &Resampling,
    statistics: impl Fn(&[usize]) -> Vec<f64>,
) -> Result<Vec<Interval>> {
    resampling.check(tally.len())?;
    let mut rng = resampling.rng(0);
    let mut columns = Columns::default();
    let mut totals = vec![0; tally.slots];
    for _ in 0..resampling.samples {
        totals.fill(0);
        for _ in 0..tally.len() {
            tally.add(rng.random_range(0..tally.len()), &mut totals);
        }
        columns.push(statistics(&totals));
    }
    Ok(columns.intervals(resampling.level))
}

/// What two systems' answers to the same examples say about the difference of a score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Comparison {
    /// Score of the first system less that of the second.
    pub difference: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end of its interval.
    pub high: f64,
    /// How likely a difference at least as large in either direction is if the systems are alike.
    pub p_value: f64,
}

/// The part of a score that the order of sums and divisions may make of it.
const ROUNDING: f64 = 1e-12;
/// The part of a difference within which another is as large.
const AS_LARGE: f64 = 1e-9;

/// The scores of two systems.
type Pair = (f64, f64);

/// Whether these scores differ at least as much as those. What rounding makes of a score grows with
/// it, and scores may be of any scale, as errors of large numbers are.
fn as_far_apart(these: Pair, those: Pair) -> bool {
    let [these_differ, those_differ] = [these, those].map(|(a, b)| (a - b).abs());
    let scores = [these.0, these.1, those.0, those.1];
    let scale = scores.map(f64::abs).into_iter().fold(0.0, f64::max);
    these_differ >= those_differ - (ROUNDING * scale).max(AS_LARGE * those_differ)
}

/// Compares two systems by approximate randomisation (Noreen 1989; Yeh 2000): the answers to each
/// example change sides with probability 1/2, and `p = (1 + #{|difference| >= observed}) / (1 +
/// n)`. The interval is that of the difference over resamples of the examples, which both systems
/// share.
///
/// # Errors
/// As [`bootstrap`]; the systems answer different numbers of examples.
///
/// # Panics
/// If the tallies differ in their number of counts.
pub fn compare(
    first: &Tally,
    second: &Tally,
    resampling: &Resampling,
    statistics: impl Fn(&[usize]) -> Vec<f64>,
) -> Result<Vec<Comparison>> {
    check_length("examples", None, first.len(), second.len())?;
    assert_eq!(first.slots, second.slots, "tallies of the same counts");
    resampling.check(first.len())?;
    let scores = |a: &[usize], b: &[usize]| -> Vec<Pair> {
        statistics(a).into_iter().zip(statistics(b)).collect()
    };
    let differences = |pairs: &[Pair]| pairs.iter().map(|(a, b)| a - b).collect::<Vec<f64>>();
    let observed = scores(&first.totals(), &second.totals());
    let mut at_least = vec![0; observed.len()];
    let mut resampled = Columns::default();
    let (mut swaps, mut draws) = (resampling.rng(1), resampling.rng(0));
    let mut totals = [vec![0; first.slots], vec![0; first.slots]];
    for _ in 0..resampling.samples {
        totals.iter_mut().for_each(|totals| totals.fill(0));
        for example in 0..first.len() {
            let side = usize::from(swaps.random::<bool>());
            first.add(example, &mut totals[side]);
            second.add(example, &mut totals[1 - side]);
        }
        let swapped = scores(&totals[0], &totals[1]);
        for ((count, swapped), observed) in at_least.iter_mut().zip(swapped).zip(&observed) {
            *count += usize::from(as_far_apart(swapped, *observed));
        }

        totals.iter_mut().for_each(|totals| totals.fill(0));
        for _ in 0..first.len() {
            let example = draws.random_range(0..first.len());
            first.add(example, &mut totals[0]);
            second.add(example, &mut totals[1]);
        }
        resampled.push(differences(&scores(&totals[0], &totals[1])));
    }
    let intervals = resampled.intervals(resampling.level);
    let rows = differences(&observed).into_iter();
    let rows = rows.zip(intervals).zip(at_least);
    Ok(rows
        .map(|((difference, Interval { low, high }), count)| Comparison {
            difference,
            low,
            high,
            p_value: (1 + count) as f64 / (1 + resampling.samples) as f64,
        })
        .collect())
}

/// The values of each statistic over the samples.
#[derive(Default)]
struct Columns(Vec<Vec<f64>>);

impl Columns {
    fn push(&mut self, row: Vec<f64>) {
        self.0.resize(row.len(), Vec::new());
        for (column, value) in self.0.iter_mut().zip(row) {
            column.push(value);
        }
    }

    fn intervals(self, level: f64) -> Vec<Interval> {
        let columns = self.0.into_iter();
        columns.map(|values| Interval::of(values, level)).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// One count, of right answers.
    fn right(answers: &[usize]) -> Tally {
        let mut tally = Tally::new(1);
        for right in answers {
            tally.push([(0, *right)]);
        }
        tally
    }

    fn share(examples: usize) -> impl Fn(&[usize]) -> Vec<f64> {
        move |totals| vec![totals[0] as f64 / examples as f64]
    }

    #[test]
    fn intervals_follow_the_seed_and_nothing_else() {
        let answers: Vec<usize> = (0..211).map(|i| usize::from(i % 3 > 0)).collect();
        let tally = right(&answers);
        let with = |seed| {
            let resampling = Resampling {
                seed,
                ..Default::default()
            };
            bootstrap(&tally, &resampling, share(1)).unwrap()[0]
        };
        assert_eq!(with(1), with(1));
        assert_ne!(with(1), with(2));
        // A change of the generator would change every interval that was ever reported.
        let (low, high) = (125.0, 153.0);
        assert_eq!(with(42), Interval { low, high });
        let wide = Resampling {
            level: 0.99,
            ..Default::default()
        };
        let wide = bootstrap(&tally, &wide, share(1)).unwrap()[0];
        assert!(wide.low <= with(42).low && wide.high >= with(42).high);
    }

    #[test]
    fn what_cannot_be_resampled_is_an_error() {
        let default = Resampling::default();
        let error = |tally: &Tally, resampling| {
            bootstrap(tally, &resampling, share(1))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            error(&right(&[]), default),
            "cannot resample 0 examples 1000 times for an interval of 0.95; at least one example, one sample and a level between 0 and 1 are needed"
        );
        error(
            &right(&[1]),
            Resampling {
                samples: 0,
                ..default
            },
        );
        for level in [0.0, 1.0, 95.0, f64::NAN] {
            error(&right(&[1]), Resampling { level, ..default });
        }
        assert_eq!(
            compare(&right(&[1]), &right(&[1, 0]), &default, share(1))
                .unwrap_err()
                .to_string(),
            "2 predictions for 1 gold examples"
        );
    }

    /// Mean squared and absolute errors of two systems' numbers, as regressions compare them.
    fn errors_compared(gold: &[f64], found: [&[f64]; 2]) -> [Comparison; 2] {
        let pairs = |found: &[f64]| gold.iter().zip(found).map(|(g, f)| [*g, *f]).collect();
        let drawn = super::super::Drawn::<[f64; 2]>::of_systems(found.map(pairs));
        let statistics = |totals: &[usize]| {
            let scores = drawn.scores_of(totals).unwrap();
            vec![scores.mse, scores.mae]
        };
        let resampling = Resampling::default();
        let found = compare(drawn.tally(0), drawn.tally(1), &resampling, statistics);
        found.unwrap().try_into().unwrap()
    }

    /// Whichever side it is on, the one differing answer makes the same difference.
    #[test]
    fn one_differing_answer_says_nothing_at_any_scale() {
        let gold: Vec<f64> = (0..40).map(|i| (f64::from(i) * 0.7).sin()).collect();
        let one: Vec<f64> = gold.iter().map(|g| g + (g * 57.0).cos() / 3.0).collect();
        let mut other = one.clone();
        other[6] *= 1.02;
        for scale in [1e-9, 1e-6, 1.0, 1e6, 1e12] {
            let [gold, one, other] =
                [&gold, &one, &other].map(|all| all.iter().map(|x| x * scale).collect::<Vec<_>>());
            for found in errors_compared(&gold, [&one, &other]) {
                assert!(found.difference != 0.0);
                assert_eq!(found.p_value, 1.0, "{scale}: {found:?}");
            }
        }
    }

    #[test]
    fn systems_that_differ_clearly_do_so_at_any_scale() {
        let gold: Vec<f64> = (0..40).map(|i| (f64::from(i) * 0.7).sin()).collect();
        let off = |part: f64| {
            let off = move |g: &f64| g + part * (g * 57.0).cos();
            gold.iter().map(off).collect::<Vec<_>>()
        };
        for scale in [1e-9, 1e-6, 1.0, 1e6, 1e12] {
            let [gold, one, other] = [&gold, &off(0.1), &off(0.9)]
                .map(|all| all.iter().map(|x| x * scale).collect::<Vec<_>>());
            for found in errors_compared(&gold, [&one, &other]) {
                assert_eq!(found.p_value, 1.0 / 1001.0, "{scale}: {found:?}");
            }
        }
    }

    #[test]
    fn equal_systems_do_not_differ() {
        let tally = right(&[1, 0, 1]);
        let found = compare(&tally, &tally, &Resampling::default(), share(3)).unwrap()[0];
        let expected = Comparison {
            difference: 0.0,
            low: 0.0,
            high: 0.0,
            p_value: 1.0,
        };
        assert_eq!(found, expected);
    }
}
