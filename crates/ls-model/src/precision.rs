//! Element types of a model's weights and activations.

use std::fmt;

use burn::tensor::{DType, Device};
use ls_lora::Quantization;
use serde::{Deserialize, Serialize};

use crate::trained::Trained;

/// Element type of the frozen weights, and of the activations except on the CPU, where these are
/// f32. Loss and everything that trains are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComputeType {
    /// 32-bit floats.
    F32,
    /// Brain floats: half the memory.
    Bf16,
}

/// As configurations write it.
impl fmt::Display for ComputeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl ComputeType {
    /// Size of a value, in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// Element type of the activations on `device` if the frozen weights are of this type.
    #[must_use]
    pub fn of_activations(self, device: &Device) -> Self {
        if ls_ops::is_host(device) {
            Self::F32
        } else {
            self
        }
    }

    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// How weights are stored: those that are frozen, and those that train in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precision {
    /// Element type of unpacked weights, and of the activations except on the CPU.
    pub compute: ComputeType,
    /// Packs the weights of the linear layers in this format (QLoRA). Embeddings and norms are not
    /// packed.
    pub quantization: Option<Quantization>,
    /// What is unpacked and f32 in any case, because it trains or was trained.
    pub in_f32: Trained,
}

impl Precision {
    /// Element type of a tensor of the decoder, by its name in a checkpoint.
    pub fn of(&self, name: &str) -> ComputeType {
        if self.in_f32.holds(name) {
            ComputeType::F32
        } else {
            self.compute
        }
    }
}

/// What weights are in memory: `bf16`, `f32 packed as int8`.
impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.quantization {
            None => write!(f, "{}", self.compute),
            Some(format) => write!(f, "{} packed as {format}", self.compute),
        }
    }
}

impl From<ComputeType> for Precision {
    fn from(compute: ComputeType) -> Self {
        Self {
            compute,
            quantization: None,
            in_f32: Trained::Head,
        }
    }
}
