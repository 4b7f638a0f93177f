//! Scores of answers with their bootstrap intervals, and of two systems how they differ.

use ls_data::{
    ClassScores, ClassTally, Comparison, Drawn, Interval, LabelSet, MultiLabelAnswer, Resampling,
    SpanMode, SpanTally, Tally, bootstrap, compare,
};

use crate::answers::{Answers, TagsAnswer};
use crate::error::Result;

/// Answers that all resamples together draw, so that a page is there in seconds: larger splits have
/// fewer resamples, and narrower intervals.
const MOST_COUNTED: usize = 100_000_000;
/// The same of scores that follow from no counts, such as a mean average precision: each resample
/// sorts its answers anew.
const MOST_SORTED: usize = 10_000_000;
/// Fewest resamples.
const FEWEST: usize = 100;

/// Scores of a split.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scored {
    /// Of the whole, by their JSON keys.
    pub metrics: Vec<Score>,
    /// By class, label or entity type.
    pub classes: Vec<ClassScore>,
    /// `confusion[gold][found]`, where one label of several is answered and these are not too many.
    pub confusion: Vec<Vec<usize>>,
    /// Resamples behind each interval.
    pub resamples: usize,
}

/// A score of the whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Its key in `report.json`.
    pub key: &'static str,
    /// The score.
    pub value: f64,
    /// Where it lies in 95 of 100 resamples of the examples (of taggers, of the sentences).
    pub interval: Interval,
}

/// Scores of a class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassScore {
    /// Its name.
    pub name: String,
    /// Precision, recall, F1 and counts.
    pub scores: ClassScores,
    /// Of its F1; nothing where no resample has the class.
    pub f1: Option<Interval>,
}

/// Scores of the whole by their JSON keys.
pub(crate) type Metrics = Vec<(&'static str, f64)>;

/// Scores without intervals.
struct Found {
    metrics: Metrics,
    classes: Vec<(String, ClassScores)>,
    confusion: Vec<Vec<usize>>,
}

/// The counts of `N` systems' answers to the same examples.
enum Counts<const N: usize> {
    Classes([ClassTally; N]),
    Spans([SpanTally; N]),
    Labels(Drawn<MultiLabelAnswer>, Vec<String>),
    Numbers(Drawn<[f64; 2]>),
}

impl<const N: usize> Counts<N> {
    /// # Errors
    ///
    /// If the systems answer other examples, or other kinds of them.
    fn of(systems: [&Answers; N], labels: &LabelSet) -> Result<Self> {
        let names = labels.names();
        Ok(match systems[0] {
            Answers::Classes(first) => {
                let gold: Vec<usize> = first.iter().map(|one| one.gold).collect();
                let found = systems.map(|answers| match answers {
                    Answers::Classes(answers) => answers.iter().map(|one| one.found).collect(),
                    _ => Vec::new(),
                });
                Self::Classes(ClassTally::of_systems(
                    &gold,
                    found.each_ref().map(|all| &all[..]),
                    names,
                )?)
            }
            Answers::Labels(_) => {
                let answers = systems.map(|answers| match answers {
                    Answers::Labels(answers) => answers
                        .iter()
                        .map(|one| MultiLabelAnswer {
                            gold: one.gold.clone(),
                            predicted: one.found.clone(),
                            probabilities: one.scores.clone(),
                        })
                        .collect(),
                    _ => Vec::new(),
                });
                Self::Labels(
                    Drawn::<MultiLabelAnswer>::of_systems(answers),
                    names.to_vec(),
                )
            }
            Answers::Numbers(_) => {
                let answers = systems.map(|answers| match answers {
                    Answers::Numbers(answers) => {
                        answers.iter().map(|one| [one.gold, one.found]).collect()
                    }
                    _ => Vec::new(),
                });
                Self::Numbers(Drawn::<[f64; 2]>::of_systems(answers))
            }
            Answers::Spans(first) => {
                let (gold, found) = tags(first, systems);
                let found = found.each_ref().map(|all| &all[..]);
                Self::Spans(SpanTally::of_systems(&gold, found, SpanMode::Default)?)
            }
            Answers::Words(first) => {
                let (gold, found) = tags(first, systems);
                let found = found.each_ref().map(|all| &all[..]);
                Self::Classes(ClassTally::of_words(&gold, found, names)?)
            }
        })
    }

    fn tally(&self, system: usize) -> &Tally {
        match self {
            Self::Classes(tallies) => tallies[system].tally(),
            Self::Spans(tallies) => tallies[system].tally(),
            Self::Labels(drawn, _) => drawn.tally(system),
            Self::Numbers(drawn) => drawn.tally(system),
        }
    }

    /// The scores of any sums of the counts.
    fn scores_of(&self, totals: &[usize]) -> Result<Found> {
        Ok(match self {
            Self::Classes(tallies) => {
                let scores = tallies[0].scores_of(totals);
                Found {
                    metrics: scores.metrics(),
                    classes: scores.per_class,
                    confusion: scores.confusion,
                }
            }
            Self::Spans(tallies) => {
                let scores = tallies[0].scores_of(totals);
                Found {
                    metrics: scores.metrics(),
                    classes: scores.per_type,
                    confusion: Vec::new(),
                }
            }
            Self::Labels(drawn, names) => {
                let scores = drawn.scores_of(totals, names)?;
                Found {
                    metrics: scores.metrics(),
                    classes: scores.per_class,
                    confusion: Vec::new(),
                }
            }
            Self::Numbers(drawn) => Found {
                metrics: drawn.scores_of(totals)?.metrics(),
                classes: Vec::new(),
                confusion: Vec::new(),
            },
        })
    }

    /// How often it is resampled.
    fn resampling(&self) -> Resampling {
        let default = Resampling::default();
        let examples = self.tally(0).len();
        let most = match self {
            Self::Classes(_) | Self::Spans(_) => MOST_COUNTED / examples.max(1),
            Self::Labels(_, names) => MOST_SORTED / (examples * names.len()).max(1),
            Self::Numbers(_) => MOST_SORTED / examples.max(1),
        };
        let samples = most.clamp(FEWEST, default.samples);
        Resampling { samples, ..default }
    }
}

/// Tags of the examples and of each system, sentence by sentence.
type Tags<'a, const N: usize> = (Vec<Vec<&'a str>>, [Vec<Vec<&'a str>>; N]);

fn tags<'a, const N: usize>(first: &'a [TagsAnswer], systems: [&'a Answers; N]) -> Tags<'a, N> {
    fn all(tags: &[String]) -> Vec<&str> {
        tags.iter().map(String::as_str).collect()
    }
    let found = systems.map(|answers| match answers {
        Answers::Spans(answers) | Answers::Words(answers) => {
            answers.iter().map(|one| all(&one.found)).collect()
        }
        _ => Vec::new(),
    });
    (first.iter().map(|one| all(&one.gold)).collect(), found)
}

impl Answers {
    /// Scores with intervals of 95 %, over resamples of the examples.
    ///
    /// # Errors
    ///
    /// If the answers cannot be scored.
    pub(crate) fn scored(&self, labels: &LabelSet) -> Result<Scored> {
        let counts = Counts::of([self], labels)?;
        let whole = counts.scores_of(&counts.tally(0).totals())?;
        let resampling = counts.resampling();
        let statistics = |totals: &[usize]| {
            // The same answers were scored just now.
            let Ok(found) = counts.scores_of(totals) else {
                return Vec::new();
            };
            let mut values: Vec<f64> = found.metrics.iter().map(|(_, value)| *value).collect();
            // In the same order, but a resample may lack some.
            let mut drawn = found.classes.into_iter().peekable();
            values.extend(whole.classes.iter().map(|(name, _)| {
                let same = drawn.next_if(|(other, _)| other == name);
                same.map_or(0.0, |(_, scores)| scores.f1)
            }));
            values
        };
        let intervals = bootstrap(counts.tally(0), &resampling, statistics)?;
        let (of_metrics, of_classes) = intervals.split_at(whole.metrics.len());
        let metrics = whole.metrics.iter().zip(of_metrics);
        let metrics = metrics.map(|((key, value), interval)| Score {
            key,
            value: *value,
            interval: *interval,
        });
        let classes = whole.classes.into_iter().zip(of_classes);
        let classes = classes.map(|((name, scores), interval)| ClassScore {
            f1: (scores.support + scores.predicted > 0).then_some(*interval),
            name,
            scores,
        });
        Ok(Scored {
            metrics: metrics.collect(),
            classes: classes.collect(),
            confusion: whole.confusion,
            resamples: resampling.samples,
        })
    }

    /// The scores of the whole.
    ///
    /// # Errors
    ///
    /// If the answers cannot be scored.
    pub(crate) fn metrics(&self, labels: &LabelSet) -> Result<Metrics> {
        let counts = Counts::of([self], labels)?;
        Ok(counts.scores_of(&counts.tally(0).totals())?.metrics)
    }

    /// How each score of [`Answers::metrics`] differs from that of `first`, whose examples are the
    /// same: by approximate randomisation, with an interval over paired resamples. Also how many
    /// resamples that were.
    ///
    /// # Errors
    ///
    /// If the answers cannot be scored.
    pub(crate) fn compared_with(
        &self,
        first: &Answers,
        labels: &LabelSet,
    ) -> Result<(Vec<Comparison>, usize)> {
        let counts = Counts::of([self, first], labels)?;
        let statistics = |totals: &[usize]| {
            let found = counts.scores_of(totals).map(|found| found.metrics);
            let values = found.unwrap_or_default().into_iter();
            values.map(|(_, value)| value).collect()
        };
        let resampling = counts.resampling();
        let differences = compare(counts.tally(0), counts.tally(1), &resampling, statistics)?;
        Ok((differences, resampling.samples))
    }

    /// Which examples have exactly the right answer, where that is one label.
    pub(crate) fn right(&self) -> Option<Vec<bool>> {
        match self {
            Self::Classes(answers) => {
                let right = answers.iter().map(|one| one.gold == one.found);
                Some(right.collect())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::{NumberAnswer, Text};

    /// Numbers, of which the second half is found otherwise by the second of two runs.
    fn numbers(examples: usize, off: f64) -> Answers {
        let answer = |at: usize| NumberAnswer {
            text: Text {
                text: at.to_string(),
                pair: None,
            },
            gold: at as f64,
            found: at as f64 + if at * 2 < examples { 0.0 } else { off },
        };
        Answers::Numbers((0..examples).map(answer).collect())
    }

    #[test]
    fn large_splits_have_fewer_resamples_and_say_so() {
        let labels = LabelSet::from_names(vec!["label".into()]).unwrap();
        for (examples, expected) in [(40, 1000), (10_000, 1000), (20_000, 500), (1_000_000, 100)] {
            let answers = numbers(examples, 0.0);
            let counts = Counts::of([&answers], &labels).unwrap();
            assert_eq!(counts.resampling().samples, expected, "{examples}");
        }
        let (first, other) = (numbers(40, 0.0), numbers(40, 2.0));
        let (differences, resamples) = other.compared_with(&first, &labels).unwrap();
        assert_eq!((differences.len(), resamples), (4, 1000));
    }

    #[test]
    fn differences_are_those_of_the_scores() {
        let labels = LabelSet::from_names(vec!["label".into()]).unwrap();
        let (first, other) = (numbers(40, 0.0), numbers(40, 2.0));
        let metrics = [&first, &other].map(|answers| answers.metrics(&labels).unwrap());
        let (differences, _) = other.compared_with(&first, &labels).unwrap();
        for ((found, (key, old)), (_, new)) in differences.iter().zip(&metrics[0]).zip(&metrics[1])
        {
            assert!((found.difference - (new - old)).abs() < 1e-12, "{key}");
        }
        let mse = metrics[1]
            .iter()
            .position(|(key, _)| *key == "mse")
            .unwrap();
        assert_eq!(
            (metrics[1][mse].1, differences[mse].p_value),
            (2.0, 1.0 / 1001.0)
        );
    }
}
