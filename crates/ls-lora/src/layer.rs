//! [`LoraLayer`]: what a linear layer and an embedding have in common, so that a model can treat
//! them alike.

use burn::tensor::Tensor;

use crate::adapter::{LoraAdapter, merged_weight};
use crate::dtype::host_values;
use crate::error::{LoraError, Result};
use crate::quantized::Quantization;

/// Whether a layer multiplies its input or looks rows up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// [`LoraLinear`](crate::LoraLinear).
    Linear,
    /// [`LoraEmbedding`](crate::LoraEmbedding).
    Embedding,
}

/// A layer that can carry adapters.
pub trait LoraLayer {
    /// What kind of layer it is.
    fn kind(&self) -> LayerKind;
    /// `[in, out]`; `[vocabulary, width]` of an embedding.
    fn shape(&self) -> [usize; 2];
    /// The frozen weight in f32, off the graph, as the layer would use it without adapters.
    fn weight(&self) -> Tensor<2>;
    /// The adapters on this layer, in the order in which they were added.
    fn adapters(&self) -> &[LoraAdapter];
    /// The same, to change them.
    fn adapters_mut(&mut self) -> &mut Vec<LoraAdapter>;
    /// The weight as the layer uses it with its active adapters, in f32 and off the graph: what
    /// [`LoraLayer::merge`] would store if it neither cast nor packed it again. Of a packed weight
    /// it is what that unpacks to, with the adapters.
    fn merged(&self) -> Tensor<2> {
        merged_weight(self.weight(), self.adapters())
    }
    /// Folds the active adapters into the weight: computed in f32 and cast once. `None` if there is
    /// nothing to fold in, or they are folded in already.
    ///
    /// # Errors
    ///
    /// [`LoraError::NonFiniteWeight`] if the layer would get NaN or an infinity, such as a
    /// sum that f16 cannot hold; the layer is then as it was.
    fn merge(&mut self) -> Result<Option<MergeDrift>>;
    /// Takes the adapters out again by putting the weight back that was there, bit for bit.
    fn unmerge(&mut self);
    /// Drops the weight that [`LoraLayer::unmerge`] would put back, and the adapters.
    fn unload(&mut self);
    /// Whether adapters are folded into the weight.
    fn is_merged(&self) -> bool;
    /// Packs the frozen weight; does nothing to a layer that is not linear.
    ///
    /// # Errors
    ///
    /// As [`QuantizedWeight::quantize`](crate::QuantizedWeight::quantize).
    fn quantize(&mut self, format: Quantization) -> Result<()> {
        let _ = format;
        Ok(())
    }
    /// Cuts the frozen weight into the tiles that the CPU's product reads, as [`TiledWeight`] has
    /// it: for a model that only answers, as the weight is no parameter from then on, and stays on
    /// the host wherever the module moves. Does nothing where that is of no use, nor to a layer
    /// that is not linear.
    ///
    /// [`TiledWeight`]: ls_ops::TiledWeight
    fn tile(&mut self) {}
    /// How many values the frozen weight has if it is packed or in tiles, which burn does not count
    /// as parameters; else 0.
    fn packed_parameters(&self) -> usize {
        0
    }
}

impl dyn LoraLayer + '_ {
    /// The adapter of this name.
    pub(crate) fn adapter(&self, name: &str) -> Option<&LoraAdapter> {
        self.adapters().iter().find(|adapter| adapter.name == name)
    }
}

/// What casting a merged weight once changed, in one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeDrift {
    /// The layer's full name; empty for a layer merged by itself.
    pub module: String,
    /// The largest difference between a weight as stored and as computed in f32.
    pub max_abs: f64,
    /// The length of that difference over the length of what the adapters change: 0 where the
    /// weight is f32, near 1 where the change is lost in rounding.
    pub relative: f64,
}

impl MergeDrift {
    /// Fails if the stored weight holds NaN or an infinity.
    pub(crate) fn between(base: Tensor<2>, exact: Tensor<2>, stored: Tensor<2>) -> Result<Self> {
        let value = |tensor: Tensor<1>| {
            let values = host_values(tensor);
            f64::from(values.first().copied().unwrap_or(0.0))
        };
        let drift = stored - exact.clone();
        let change = value((exact - base).square().sum());
        let size = value(drift.clone().square().sum());
        let max_abs = value(drift.abs().max());
        if !size.is_finite() {
            return Err(LoraError::NonFiniteWeight);
        }
        Ok(Self {
            module: String::new(),
            max_abs,
            relative: if size == 0.0 {
                0.0
            } else {
                (size / change).sqrt()
            },
        })
    }
}
