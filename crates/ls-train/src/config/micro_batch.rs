//! [`MicroBatchSize`]: `train.micro_batch_size`, a number or `auto`.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where `auto` begins: the number that is taken where none is given.
const DEFAULT: usize = 8;
const AUTO: &str = "auto";

/// Inputs of one forward pass in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MicroBatchSize {
    /// So many.
    Fixed(usize),
    /// As many as memory has room for: 8, or a half, a quarter or an eighth of that in as many more
    /// passes. A step takes the same examples and divides by the same number of labels, whichever
    /// it is.
    Auto,
}

impl MicroBatchSize {
    /// The number, or the largest that `auto` takes. It decides which examples share a step.
    pub fn largest(self) -> usize {
        match self {
            Self::Fixed(size) => size,
            Self::Auto => DEFAULT,
        }
    }
}

impl Default for MicroBatchSize {
    fn default() -> Self {
        Self::Fixed(DEFAULT)
    }
}

impl Serialize for MicroBatchSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(size) => size.serialize(serializer),
            Self::Auto => AUTO.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for MicroBatchSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;

        impl Visitor<'_> for Size {
            type Value = MicroBatchSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of inputs or \"auto\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                if text == AUTO {
                    Ok(MicroBatchSize::Auto)
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
                }
            }

            fn visit_i64<E: Error>(self, size: i64) -> Result<Self::Value, E> {
                let fault = || E::invalid_value(serde::de::Unexpected::Signed(size), &self);
                usize::try_from(size)
                    .map(MicroBatchSize::Fixed)
                    .map_err(|_| fault())
            }

            fn visit_u64<E: Error>(self, size: u64) -> Result<Self::Value, E> {
                let fault = || E::invalid_value(serde::de::Unexpected::Unsigned(size), &self);
                usize::try_from(size)
                    .map(MicroBatchSize::Fixed)
                    .map_err(|_| fault())
            }
        }

        deserializer.deserialize_any(Size)
    }
}
