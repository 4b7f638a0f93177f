//! [`Outcome`]: the runs of a sweep side by side, and the best combination.

use std::path::Path;

use ls_files::read_own_json;
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use crate::error::Result;
use crate::fit::better;
use crate::run_dir::RunDir;
use crate::scores::Scores;

/// What a finished run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scored {
    /// The score that chose its best checkpoint.
    pub(super) metric: String,
    /// Its value on the validation split; nothing where it is no number.
    pub(super) validation: Option<f64>,
    /// The same score on the test split, where there is one.
    pub(super) test: Option<f64>,
    /// Whether the test split also chose the checkpoint, as by the protocol `paper`.
    pub(super) test_chose: bool,
}

/// What a run left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Left<'a> {
    Scores(&'a Scored),
    Error(&'a str),
    Nothing,
}

/// Mean and deviation of a score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// Of the runs.
    pub mean: f64,
    /// Sample deviation, which divides by one less than the runs; nothing of a single run.
    pub deviation: Option<f64>,
}

/// The runs of a combination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Combination {
    /// The keys that take several values, by the short names of them, and their values.
    pub values: Vec<(String, String)>,
    /// The score on the validation split, over the runs that finished.
    pub validation: Option<Spread>,
    /// The same score on the test split. It chooses nothing.
    pub test: Option<Spread>,
    /// Runs that finished.
    pub finished: usize,
    /// Of how many.
    pub runs: usize,
}

/// What a sweep came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The score that the runs are compared by; nothing where none finished, or where they were
    /// scored by different ones.
    pub metric: Option<String>,
    /// Every combination.
    pub combinations: Vec<Combination>,
    /// The one whose mean on the validation split is the best, of those of which every run
    /// finished; the first of equal ones.
    pub best: Option<usize>,
    /// Of its runs, the name of the one with the best score on the validation split.
    pub best_run: Option<String>,
    /// Whether the test split had a part in what is told of the validation split.
    pub test_chose: bool,
    /// Runs that failed: name and error.
    pub failed: Vec<(String, String)>,
}

impl Scored {
    /// What a run came to, if it is finished.
    ///
    /// # Errors
    ///
    /// If its report cannot be read.
    pub(super) fn of_run(run: &Path) -> Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Best {
            value: Option<f64>,
        }
        #[derive(Deserialize)]
        struct Report {
            metric: String,
            best: Best,
            reported_split: String,
            reported_split_chose: bool,
            loss: Option<f64>,
            scores: Scores,
        }
        let folder = RunDir::at(run);
        if !folder.is_finished()? {
            return Ok(None);
        }
        let report: Report = read_own_json(folder.report())?;
        let has_test = report.reported_split == "test";
        let test = match report.metric.as_str() {
            "loss" => report.loss,
            metric => report.scores.get(metric),
        };
        Ok(Some(Self {
            metric: report.metric,
            validation: report.best.value,
            test: test.filter(|value| has_test && value.is_finite()),
            test_chose: has_test && report.reported_split_chose,
        }))
    }
}

impl Spread {
    /// Of values; nothing if there are none, or one is no number.
    fn of(values: impl IntoIterator<Item = Option<f64>>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect::<Option<_>>()?;
        if values.is_empty() {
            return None;
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
        Some(Self { mean, deviation })
    }
}

impl Outcome {
    /// Of the runs of a plan, in its order.
    pub(super) fn new(plan: &Plan, left: &[Left<'_>]) -> Self {
        let runs = || plan.runs().iter().zip(left);
        let scored = || runs().filter_map(|(run, left)| Some((run, left.scores()?)));
        let count = plan.choices().combinations();
        let combinations: Vec<Combination> = (0..count)
            .map(|combination| {
                let own = || scored().filter(move |(run, _)| run.combination == combination);
                Combination {
                    values: plan.values(combination),
                    validation: Spread::of(own().map(|(_, scored)| scored.validation)),
                    test: Spread::of(own().map(|(_, scored)| scored.test)),
                    finished: own().count(),
                    runs: plan.runs().len() / count,
                }
            })
            .collect();
        let first = scored().next().map(|(_, scored)| scored.metric.clone());
        let metric = first.filter(|first| scored().all(|(_, scored)| scored.metric == *first));
        let best = metric.as_deref().and_then(|metric| {
            let means = combinations.iter().map(|one| match one.validation {
                Some(spread) if one.finished == one.runs => spread.mean,
                _ => f64::NAN,
            });
            first_best(metric, means)
        });
        let best_run = metric.as_deref().zip(best).and_then(|(metric, best)| {
            let own: Vec<_> = scored()
                .filter(|(run, _)| run.combination == best)
                .collect();
            let values = own
                .iter()
                .map(|(_, scored)| scored.validation.unwrap_or(f64::NAN));
            Some(own[first_best(metric, values)?].0.name.clone())
        });
        let failed = runs().filter_map(|(run, left)| match left {
            Left::Error(error) => Some((run.name.clone(), (*error).to_owned())),
            _ => None,
        });
        Self {
            metric,
            combinations,
            best,
            best_run,
            test_chose: scored().any(|(_, scored)| scored.test_chose),
            failed: failed.collect(),
        }
    }
}

impl<'a> Left<'a> {
    fn scores(&self) -> Option<&'a Scored> {
        match self {
            Self::Scores(scored) => Some(scored),
            _ => None,
        }
    }
}

/// The place of the first value that none beats; nothing where none is a number.
fn first_best(metric: &str, values: impl IntoIterator<Item = f64>) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (at, value) in values.into_iter().enumerate() {
        if !value.is_nan() && best.is_none_or(|(_, best)| better(metric, value, best)) {
            best = Some((at, value));
        }
    }
    best.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::super::choices::Choices;
    use super::*;
    use crate::config::RunConfig;

    fn plan() -> Plan {
        let text = "task = 'sequence'\nmodel.path = 'm'\ndata.train = 'a.csv'\n";
        let choices = Choices::new(&["lora.r=4,8,16".into()], Some(2), None).unwrap();
        Plan::new(choices, |set| RunConfig::from_toml(text, "", set)).unwrap()
    }

    fn scored(metric: &str, validation: f64, test: f64) -> Scored {
        Scored {
            metric: metric.into(),
            validation: Some(validation).filter(|value| value.is_finite()),
            test: Some(test),
            test_chose: false,
        }
    }

    fn outcome(metric: &str, values: [f64; 6]) -> Outcome {
        let all = values.map(|value| scored(metric, value, 1.0 - value));
        Outcome::new(&plan(), &all.each_ref().map(Left::Scores))
    }

    #[test]
    fn the_best_mean_on_the_validation_split_wins() {
        let found = outcome("accuracy", [0.9, 0.5, 0.75, 0.75, 0.7, 0.8]);
        assert_eq!(
            (found.best, found.best_run.as_deref()),
            (Some(1), Some("02_r=8_seed=1"))
        );
        let first = &found.combinations[0];
        let spread = first.validation.unwrap();
        assert!((spread.mean - 0.7).abs() < 1e-12);
        // By hand: the root of (0.2^2 + 0.2^2) / (2 - 1).
        assert!((spread.deviation.unwrap() - 0.08f64.sqrt()).abs() < 1e-12);
        assert!((first.test.unwrap().mean - 0.3).abs() < 1e-12);
        assert_eq!(first.values, [("r".into(), "4".into())]);
        // Of equal means the first; a lower loss is better.
        let found = outcome("loss", [0.5, 0.5, 0.25, 0.5, 0.5, 0.25]);
        assert_eq!(
            (found.best, found.best_run.as_deref()),
            (Some(1), Some("02_r=8_seed=1"))
        );
        let found = outcome("loss", [0.5, 0.5, 0.6, 0.5, f64::NAN, 0.1]);
        assert_eq!(found.best, Some(0));
        assert_eq!(found.combinations[2].validation, None);
    }

    #[test]
    fn a_combination_with_a_run_that_failed_does_not_win() {
        let (high, low) = (scored("accuracy", 0.9, 0.1), scored("accuracy", 0.5, 0.5));
        let mut left = [Left::Scores(&low); 6];
        left[0] = Left::Scores(&high);
        left[1] = Left::Error("no number");
        left[5] = Left::Nothing;
        let found = Outcome::new(&plan(), &left);
        assert_eq!(found.best, Some(1));
        assert_eq!(found.failed, [("01_r=4_seed=2".into(), "no number".into())]);
        let counts = found
            .combinations
            .iter()
            .map(|one| (one.finished, one.runs));
        assert!(counts.eq([(1, 2), (2, 2), (1, 2)]));
        // Nor is a mean taken over different scores.
        let other = scored("f1_macro", 0.9, 0.9);
        left[3] = Left::Scores(&other);
        let found = Outcome::new(&plan(), &left);
        assert_eq!((found.metric, found.best), (None, None));
        let json = serde_json::to_string(&outcome("accuracy", [0.1; 6])).unwrap();
        let again: Outcome = serde_json::from_str(&json).unwrap();
        assert_eq!(again.best, Some(0));
    }
}
