//! Scores from plain slices: no device, no model.

mod classification;
mod spans;

pub use classification::{ClassScores, ClassificationScores};
pub use spans::{SpanMode, SpanScores};

use serde::ser::{Serialize, SerializeMap, Serializer};

/// `a / b`, and 0 where nothing was counted (scikit-learn's `zero_division=0`).
fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}

/// Mean, 0 of nothing.
fn mean(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count();
    ratio(values.sum(), count as f64)
}

/// A JSON object that keeps the order of the labels.
fn as_map<T: Serialize, S: Serializer>(
    entries: &[(String, T)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(entries.len()))?;
    for (name, value) in entries {
        map.serialize_entry(name, value)?;
    }
    map.end()
}
