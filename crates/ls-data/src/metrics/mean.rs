//! Means that equal those of seqeval and scikit-learn to the last bit, and what else the scores
//! share.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::error::{DataError, Result};

/// `a / b`, and 0 where nothing was counted (scikit-learn's `zero_division=0`).
pub(super) fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}

/// Mean, 0 of nothing.
pub(super) fn mean(values: &[f64]) -> f64 {
    ratio(sum(values), values.len() as f64)
}

/// Mean weighted by counts, 0 where they are all 0.
pub(super) fn weighted_mean(values: &[f64], weights: &[usize]) -> f64 {
    let weighted: Vec<f64> = values
        .iter()
        .zip(weights)
        .map(|(value, weight)| value * *weight as f64)
        .collect();
    ratio(sum(&weighted), weights.iter().sum::<usize>() as f64)
}

/// The sum in numpy's order (eight running sums, halves of what is longer than 128), so that means
/// equal those of seqeval and scikit-learn to the last bit.
pub(super) fn sum(values: &[f64]) -> f64 {
    match values.len() {
        0..8 => values.iter().sum(),
        8..=128 => {
            let (eights, rest) = values.as_chunks::<8>();
            let mut sums = [0.0; 8];
            for eight in eights {
                for (sum, value) in sums.iter_mut().zip(eight) {
                    *sum += value;
                }
            }
            let [a, b, c, d, e, f, g, h] = sums;
            let all = ((a + b) + (c + d)) + ((e + f) + (g + h));
            rest.iter().fold(all, |all, value| all + value)
        }
        length => {
            let half = length / 2;
            let (left, right) = values.split_at(half - half % 8);
            sum(left) + sum(right)
        }
    }
}

pub(super) fn check_length(
    what: &'static str,
    sentence: Option<usize>,
    expected: usize,
    found: usize,
) -> Result<()> {
    if expected == found {
        Ok(())
    } else {
        Err(DataError::ScoreLength {
            what,
            sentence,
            found,
            expected,
        })
    }
}

/// An object that keeps the order of the labels.
pub(super) mod as_map {
    use super::*;

    pub(in super::super) fn serialize<T: Serialize, S: Serializer>(
        entries: &[(String, T)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(entries.len()))?;
        for (name, value) in entries {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }

    pub(in super::super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(String, T)>, D::Error> {
        struct Entries<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Vec<(String, T)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("values by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}
