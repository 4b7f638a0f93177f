//! Scores from plain slices: no device, no model.
//!
//! Every score is a function of counts that add up over examples, so one place counts (`*Tally`,
//! [`Drawn`]), one place turns sums into scores, and [`bootstrap`] and [`compare`] only choose what
//! is summed.

mod classification;
mod conlleval;
mod drawn;
mod mean;
mod multi_label;
mod probabilities;
mod regression;
mod resample;
mod spans;
mod temperature;

pub use classification::{CONFUSION_CLASSES, ClassScores, ClassTally, ClassificationScores};
pub use conlleval::{conlleval_report, span_report};
pub use drawn::Drawn;
pub use multi_label::{MultiLabelAnswer, MultiLabelScores, average_precision, best_f1_threshold};
pub use probabilities::{ECE_BINS, expected_calibration_error, log_loss};
pub use regression::RegressionScores;
pub use resample::{Comparison, Interval, Resampling, Tally, bootstrap, compare};
pub use spans::{SpanMode, SpanScores, SpanTally};
pub use temperature::{TEMPERATURES, fit_temperature};
