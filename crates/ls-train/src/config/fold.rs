//! [`Fold`]: `data.fold`, a part of the training split that is held out in cross-validation.

use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A part of several, written as `2/5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fold {
    /// Its number, from 1.
    part: usize,
    /// How many parts there are, at least 2.
    parts: usize,
}

impl Fold {
    /// Most parts.
    pub const MOST: usize = 9999;

    /// A part, counted from 1, of `parts`. `None` where there is no such part.
    pub fn new(part: usize, parts: usize) -> Option<Self> {
        let ok = (2..=Self::MOST).contains(&parts) && (1..=parts).contains(&part);
        ok.then_some(Self { part, parts })
    }

    /// Its number, from 1.
    pub fn part(self) -> usize {
        self.part
    }

    /// How many parts there are.
    pub fn parts(self) -> usize {
        self.parts
    }
}

impl fmt::Display for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.part, self.parts)
    }
}

impl FromStr for Fold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
            plain.then(|| text.parse::<usize>().ok()).flatten()
        };
        let both = text.split_once('/');
        let both = both.and_then(|(part, parts)| Some((number(part)?, number(parts)?)));
        both.and_then(|(part, parts)| Self::new(part, parts))
            .ok_or_else(|| {
                format!(
                    "expected a part of 2 to {} parts, such as \"1/5\" to \"5/5\", found {}",
                    Self::MOST,
                    ls_files::shown(format!("{text:?}"))
                )
            })
    }
}

impl Serialize for Fold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_one_of_those_there_are() {
        for text in ["1/2", "5/5", "9999/9999"] {
            assert_eq!(text.parse::<Fold>().unwrap().to_string(), text);
        }
        for text in [
            "", "1", "0/2", "3/2", "1/1", "01/2", "+1/2", "1/2/3", "1/10000", "a/b",
        ] {
            let error = text.parse::<Fold>().unwrap_err();
            assert!(error.contains("such as"), "{error}");
        }
    }
}
