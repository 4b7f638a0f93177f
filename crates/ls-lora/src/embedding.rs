//! [`LoraEmbedding`]: a frozen embedding table that may carry low-rank adapters.

use burn::module::{Module, Param};
use burn::nn::Embedding;
use burn::tensor::{DType, Int, Tensor};
use ls_ops::linear;

use crate::adapter::{LoraAdapter, merged_weight};
use crate::dtype::{plain, to_dtype};
use crate::error::Result;
use crate::layer::{LayerKind, LoraLayer, MergeDrift};

/// An embedding with a frozen table and any number of named adapters: a drop-in for
/// [`burn::nn::Embedding`].
///
/// An adapter adds `scaling * A[id] B` to the row of an id, with A `[vocabulary, r]` and B `[r,
/// width]`. As in PEFT a fresh adapter has A zero and B normal (the other way round than a linear
/// layer), and no dropout.
///
/// ```
/// use burn::nn::EmbeddingConfig;
/// use burn::tensor::{Device, Int, Tensor};
/// use ls_lora::LoraEmbedding;
///
/// let device = Device::flex();
/// let table = LoraEmbedding::from(EmbeddingConfig::new(10, 4).init(&device));
/// let ids = Tensor::<2, Int>::from_data([[1, 2, 9], [0, 0, 3]], &device);
/// assert_eq!(table.forward(ids).dims(), [2, 3, 4]);
/// ```
#[derive(Module, Debug)]
pub struct LoraEmbedding {
    /// The frozen table; `weight` is `[vocabulary, width]`, in the model's dtype.
    pub base_layer: Embedding,
    /// The adapters, in the order in which they were added.
    pub adapters: Vec<LoraAdapter>,
    /// The table before the adapters were folded into it. Not a parameter; it stays on its device.
    #[module(skip)]
    unmerged: Option<Param<Tensor<2>>>,
}

impl From<Embedding> for LoraEmbedding {
    fn from(base_layer: Embedding) -> Self {
        Self::new(base_layer)
    }
}

impl LoraEmbedding {
    /// Wraps a table, freezing it, without an adapter.
    #[must_use]
    pub fn new(base_layer: Embedding) -> Self {
        Self {
            base_layer: base_layer.no_grad(),
            adapters: Vec::new(),
            unmerged: None,
        }
    }

    /// The rows of ids: `[batch, tokens]` -> `[batch, tokens, width]`, in the table's dtype.
    ///
    /// # Panics
    ///
    /// Panics if an id is not below the vocabulary's size.
    #[must_use]
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [batch, tokens] = ids.dims();
        let width = self.shape()[1];
        if batch * tokens == 0 {
            // Reshaping takes a zero for "as it was".
            let weight = self.base_layer.weight.val();
            return Tensor::zeros([batch, tokens, width], (&weight.device(), weight.dtype()));
        }
        self.rows(ids.reshape([batch * tokens]))
            .reshape([batch, tokens, width])
    }

    /// The rows of ids laid end to end: `[tokens]` -> `[tokens, width]`, in the table's dtype.
    ///
    /// # Panics
    ///
    /// Panics if an id is not below the vocabulary's size.
    #[must_use]
    pub fn rows(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        let rows = self.base_layer.weight.val().select(0, ids.clone());
        if self.is_merged() || !self.adapters.iter().any(|adapter| adapter.active) {
            return rows;
        }
        let dtype = rows.dtype();
        let mut y = to_dtype(rows, DType::F32);
        for adapter in self.adapters.iter().filter(|adapter| adapter.active) {
            let thin = adapter.lora_a.val().select(0, ids.clone());
            let thin = thin.mul_scalar(adapter.scaling);
            // As the layers' products, whose rows do not depend on how many there are.
            let delta = linear(thin, adapter.lora_b.val());
            let delta = to_dtype(delta, DType::F32);
            y = match &adapter.dora {
                None => y + delta,
                Some(dora) => {
                    let scale = adapter.dora_scale(dora, |x| x.matmul(self.weight()));
                    scale * (y + delta)
                }
            };
        }
        to_dtype(y, dtype)
    }
}

impl LoraLayer for LoraEmbedding {
    fn kind(&self) -> LayerKind {
        LayerKind::Embedding
    }

    fn shape(&self) -> [usize; 2] {
        self.base_layer.weight.lazy_shape().dims()
    }

    fn weight(&self) -> Tensor<2> {
        let weight = self.unmerged.as_ref().unwrap_or(&self.base_layer.weight);
        to_dtype(plain(weight.val()), DType::F32)
    }

    fn adapters(&self) -> &[LoraAdapter] {
        &self.adapters
    }

    fn adapters_mut(&mut self) -> &mut Vec<LoraAdapter> {
        &mut self.adapters
    }

    fn merge(&mut self) -> Result<Option<MergeDrift>> {
        if self.is_merged() || !self.adapters.iter().any(|adapter| adapter.active) {
            return Ok(None);
        }
        let base = self.weight();
        let exact = merged_weight(base.clone(), &self.adapters);
        let original = self.base_layer.weight.clone();
        let merged = original
            .clone()
            .map(|weight| {
                let (dtype, on_graph) = (weight.dtype(), weight.is_autodiff());
                let merged = to_dtype(exact.clone(), dtype);
                if on_graph { merged.autodiff() } else { merged }
            })
            .set_require_grad(false);
        let stored = to_dtype(plain(merged.val()), DType::F32);
        let drift = MergeDrift::between(base, exact, stored)?;
        self.base_layer.weight = merged;
        self.unmerged = Some(original);
        Ok(Some(drift))
    }

    fn unmerge(&mut self) {
        if let Some(weight) = self.unmerged.take() {
            let device = self.base_layer.weight.val().device();
            self.base_layer.weight = weight.to_device(&device);
        }
    }

    fn unload(&mut self) {
        self.unmerged = None;
        self.adapters.clear();
    }

    fn is_merged(&self) -> bool {
        self.unmerged.is_some()
    }
}
