//! [`NormScale`]: what a norm multiplies by.

#[cfg(feature = "flex")]
use std::borrow::Cow;

/// What a norm multiplies by. The families differ in where the product is rounded to the
/// activations' dtype; in f32 the first two are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NormScale {
    /// The weight. The normalised value is rounded before it is multiplied: LLaMA.
    Weight,
    /// The weight. Only the product is rounded: OLMo 2.
    WeightInF32,
    /// One more than the weight. Only the product is rounded: Gemma.
    OnePlusWeight,
}

impl NormScale {
    /// What is added to the weight, in f32.
    pub(crate) fn offset(self) -> f32 {
        if self == Self::OnePlusWeight {
            1.0
        } else {
            0.0
        }
    }

    /// Whether the normalised value is rounded, and the weight with it.
    pub(crate) fn rounds_first(self) -> bool {
        self == Self::Weight
    }

    /// The factors of these weights.
    #[cfg(feature = "flex")]
    pub(crate) fn factors(self, weight: &[f32]) -> Cow<'_, [f32]> {
        match self {
            Self::Weight | Self::WeightInF32 => Cow::Borrowed(weight),
            Self::OnePlusWeight => Cow::Owned(weight.iter().map(|weight| 1.0 + weight).collect()),
        }
    }
}
