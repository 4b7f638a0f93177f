//! [`Drawn`]: answers whose scores follow from no counts, such as a correlation or an average
//! precision. Each answer is a count of its own: sums say how often it was drawn.

use super::multi_label::{MultiLabelAnswer, MultiLabelScores};
use super::regression::RegressionScores;
use super::resample::Tally;
use crate::error::Result;

/// The answers of several systems to the same examples.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn<A> {
    /// Those of a system one after the other, and of the next behind them.
    answers: Vec<A>,
    tallies: Vec<Tally>,
}

impl<A: Clone> Drawn<A> {
    /// Of these systems.
    pub fn of_systems(systems: impl IntoIterator<Item = Vec<A>>) -> Self {
        let systems: Vec<Vec<A>> = systems.into_iter().collect();
        let slots = systems.iter().map(Vec::len).sum();
        let mut begin = 0;
        let tally = |answers: &Vec<A>| {
            let mut tally = Tally::new(slots);
            for slot in begin..begin + answers.len() {
                tally.push([(slot, 1)]);
            }
            begin += answers.len();
            tally
        };
        Self {
            tallies: systems.iter().map(tally).collect(),
            answers: systems.concat(),
        }
    }

    /// The tally of a system, for [`bootstrap`](super::bootstrap) and [`compare`](super::compare).
    ///
    /// # Panics
    /// If there are not so many systems.
    pub fn tally(&self, system: usize) -> &Tally {
        &self.tallies[system]
    }

    /// The answers that sums speak of, each as often as it was drawn.
    fn of(&self, totals: &[usize]) -> Vec<A> {
        let drawn = self.answers.iter().zip(totals);
        let drawn = drawn.flat_map(|(answer, times)| std::iter::repeat_n(answer, *times));
        drawn.cloned().collect()
    }
}

impl Drawn<MultiLabelAnswer> {
    /// The scores of the answers that sums speak of; `names` are the labels.
    ///
    /// # Errors
    /// As [`MultiLabelScores::compute`].
    pub fn scores_of(&self, totals: &[usize], names: &[String]) -> Result<MultiLabelScores> {
        MultiLabelScores::of_answers(self.of(totals), names)
    }
}

impl Drawn<[f64; 2]> {
    /// The scores of the answers that sums speak of: gold and predicted numbers.
    ///
    /// # Errors
    /// None: there is a prediction for each.
    pub fn scores_of(&self, totals: &[usize]) -> Result<RegressionScores> {
        let pairs = self
            .of(totals)
            .into_iter()
            .map(|[gold, found]| (gold, found));
        let (gold, predicted): (Vec<f64>, Vec<f64>) = pairs.unzip();
        RegressionScores::compute(&gold, &predicted)
    }
}
