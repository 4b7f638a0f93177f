//! [`LoraLinear`]: a frozen linear layer that may carry low-rank adapters (arXiv 2106.09685).
//!
//! An adapter acts on the activations: `y = x W + b + scaling * (dropout(x) A) B`. The dense
//! product `A B` is only formed to merge, and the frozen weight never receives a gradient, because
//! it is an untracked constant in the graph.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{DType, Tensor};
use ls_ops::TiledWeight;

use crate::adapter::{LoraAdapter, column_norm_squared, merged_weight};
use crate::base_layer::{BaseLayer, QuantizedLinear, TiledLinear};
use crate::dtype::to_dtype;
use crate::error::{LoraError, Result};
use crate::layer::{LayerKind, LoraLayer, MergeDrift};
use crate::quantized::{Quantization, QuantizedWeight};

/// A linear layer with frozen base weights and any number of named adapters: a drop-in for
/// [`burn::nn::Linear`].
///
/// Without an adapter it computes what the base computes, so that a model is written once.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::{Device, Tensor};
/// use ls_lora::{LoraAdapter, LoraLinear, host_values};
///
/// let device = Device::flex();
/// let mut layer = LoraLinear::from(LinearConfig::new(8, 4).init(&device));
/// let x = Tensor::<3>::ones([2, 5, 8], &device);
/// let base = host_values(layer.forward(x.clone()));
///
/// // B starts at zero, so a fresh adapter of rank 2 changes nothing yet.
/// layer.adapters.push(LoraAdapter::fresh("default", [8, 4], 2, 0.5, 0.0, 42, &device));
/// assert_eq!(host_values(layer.forward(x)), base);
/// ```
#[derive(Module, Debug)]
pub struct LoraLinear {
    /// The frozen layer; a weight is `[in, out]`, in the model's dtype or packed.
    pub base_layer: BaseLayer,
    /// The adapters, in the order in which they were added.
    pub adapters: Vec<LoraAdapter>,
    /// The layer before the adapters were folded into it. Not a parameter; it stays on its device.
    #[module(skip)]
    unmerged: Option<Box<BaseLayer>>,
}

impl From<Linear> for LoraLinear {
    fn from(base_layer: Linear) -> Self {
        Self::new(base_layer)
    }
}

impl LoraLinear {
    /// Wraps a layer, freezing it, without an adapter.
    #[must_use]
    pub fn new(base_layer: Linear) -> Self {
        Self {
            base_layer: BaseLayer::Dense(base_layer.no_grad()),
            adapters: Vec::new(),
            unmerged: None,
        }
    }

    /// Applies the layer.
    ///
    /// # Shapes
    ///
    /// - input: `[.., in]`, f32 or in the base layer's dtype (of a packed weight: any)
    /// - output: `[.., out]`, in the input's dtype; the base's and the adapters' shares are added
    ///   in f32
    ///
    /// # Panics
    ///
    /// Panics if the input's last axis is not `in`.
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.apply(x, BaseLayer::matmul)
    }

    /// Builds the autodiff graph of [`LoraLinear::forward`] without computing the frozen weight's
    /// product: gradients are the same, the returned values are meaningless.
    ///
    /// Gradient checkpointing uses it: nobody reads the last product of a block that is computed
    /// again.
    ///
    /// # Shapes
    ///
    /// As those of [`LoraLinear::forward`].
    ///
    /// # Panics
    ///
    /// Panics if the input's last axis is not `in`.
    #[must_use]
    pub fn forward_graph<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        // DoRA's gradients need the value.
        let active = || self.adapters.iter().filter(|adapter| adapter.active);
        let reads = !self.is_merged() && active().any(|adapter| adapter.dora.is_some());
        self.apply(
            x,
            if reads {
                BaseLayer::matmul
            } else {
                BaseLayer::matmul_graph
            },
        )
    }

    /// Applies layers that share their frozen weight, each to rows of its own: the product with the
    /// weight is one for all, and each layer adds what its adapters make of its rows. PEFT calls
    /// this inference with mixed batches of adapters.
    ///
    /// Layers share a weight if they are clones of one layer, or of one model. Whether they do is
    /// not seen here: the first one's weight is taken for all.
    ///
    /// # Shapes
    ///
    /// - `parts`: layers with the number of rows of each, in the order of the rows
    /// - `x`: `[rows, in]`; output `[rows, out]`; dtypes as those of [`LoraLinear::forward`], of
    ///   which each row has the result
    ///
    /// # Panics
    ///
    /// If there is no part, the parts do not have as many rows as `x`, or adapters are merged into
    /// the weight of one of several layers.
    #[must_use]
    pub fn forward_mixed(parts: &[(&Self, usize)], x: Tensor<2>) -> Tensor<2> {
        let rows: usize = parts.iter().map(|(_, rows)| rows).sum();
        assert_eq!(rows, x.dims()[0], "every row is some layer's");
        if let [(layer, _)] = parts {
            return layer.forward(x);
        }
        assert!(
            !parts.iter().any(|(layer, _)| layer.is_merged()),
            "a weight with adapters in it is not shared"
        );
        let base = &parts[0].0.base_layer;
        if rows == 0 {
            return Tensor::zeros([0, base.shape()[1]], (&x.device(), x.dtype()));
        }
        let y = base.matmul(x.clone());
        let mut start = 0;
        let outputs = parts
            .iter()
            .filter(|(_, rows)| *rows > 0)
            .map(|&(layer, rows)| {
                let part = |all: &Tensor<2>| all.clone().narrow(0, start, rows);
                let output = layer.adapted(part(&y), part(&x));
                start += rows;
                output
            });
        Tensor::cat(outputs.collect(), 0)
    }

    fn apply<const D: usize>(
        &self,
        x: Tensor<D>,
        product: fn(&BaseLayer, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<D> {
        let mut shape = x.dims();
        let [d_in, d_out] = self.base_layer.shape();
        assert_eq!(
            shape[D - 1],
            d_in,
            "the input's last axis is the layer's `in`"
        );
        let tokens: usize = shape[..D - 1].iter().product();
        if tokens == 0 {
            // Reshaping takes a zero for "as it was".
            shape[D - 1] = d_out;
            return Tensor::zeros(shape, (&x.device(), x.dtype()));
        }
        // Rows end to end: products of two-dimensional tensors are burn's fast ones.
        let y = self.apply_rows(x.reshape([tokens, d_in]), product);
        shape[D - 1] = d_out;
        y.reshape(shape)
    }

    fn apply_rows(
        &self,
        x: Tensor<2>,
        product: fn(&BaseLayer, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        self.adapted(product(&self.base_layer, x.clone()), x)
    }

    /// The layer's output, of the product of its input with the frozen weight.
    fn adapted(&self, mut y: Tensor<2>, x: Tensor<2>) -> Tensor<2> {
        let bias = self.base_layer.bias().map(|bias| bias.val());
        if let Some(bias) = &bias {
            y = y + to_dtype(bias.clone(), x.dtype()).unsqueeze();
        }
        let active = || self.adapters.iter().filter(|adapter| adapter.active);
        if self.is_merged() || active().next().is_none() {
            return y;
        }
        let dtype = y.dtype();
        // What one adapter adds is rounded with it; of several, or where more follows, the sum is.
        if active().count() > 1 || active().any(|adapter| adapter.dora.is_some()) {
            y = to_dtype(y, DType::F32);
        }
        for adapter in active() {
            y = match &adapter.dora {
                None => adapter.add_to(y, x.clone()),
                Some(dora) => {
                    let (dropped, has_dropped) = adapter.input(x.clone());
                    let scale = adapter.dora_scale(dora, |x| self.base_layer.matmul_f32(x));
                    // As PEFT has it: with dropout, the base's part is of the dropped input too.
                    let base = if has_dropped {
                        let dropped = to_dtype(dropped.clone(), dtype);
                        to_dtype(self.base_layer.matmul(dropped), DType::F32)
                    } else {
                        match &bias {
                            Some(bias) => {
                                y.clone() - to_dtype(bias.clone(), DType::F32).unsqueeze()
                            }
                            None => y.clone(),
                        }
                    };
                    let delta = adapter.delta(dropped);
                    y + scale.clone().sub_scalar(1.0) * base + scale * delta
                }
            };
        }
        to_dtype(y, dtype)
    }
}

impl LoraLayer for LoraLinear {
    fn kind(&self) -> LayerKind {
        LayerKind::Linear
    }

    fn shape(&self) -> [usize; 2] {
        self.base_layer.shape()
    }

    fn weight(&self) -> Tensor<2> {
        self.unmerged
            .as_deref()
            .unwrap_or(&self.base_layer)
            .weight()
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
        let base = self.base_layer.weight();
        let exact = merged_weight(base.clone(), &self.adapters);
        let merged = match &self.base_layer {
            BaseLayer::Dense(linear) => {
                let weight = linear.weight.clone().map(|weight| {
                    let (dtype, on_graph) = (weight.dtype(), weight.is_autodiff());
                    let merged = to_dtype(exact.clone(), dtype);
                    if on_graph { merged.autodiff() } else { merged }
                });
                BaseLayer::Dense(Linear {
                    weight: weight.set_require_grad(false),
                    bias: linear.bias.clone(),
                })
            }
            BaseLayer::Quantized(linear) => BaseLayer::Quantized(QuantizedLinear {
                weight: QuantizedWeight::quantize(exact.clone(), linear.weight.format())?,
                bias: linear.bias.clone(),
            }),
            BaseLayer::Tiled(linear) => BaseLayer::Dense(Linear {
                weight: Param::from_tensor(exact.clone()).set_require_grad(false),
                bias: linear.bias.clone(),
            }),
        };
        let drift = MergeDrift::between(base, exact, merged.weight())?;
        self.unmerged = Some(Box::new(std::mem::replace(&mut self.base_layer, merged)));
        Ok(Some(drift))
    }

    fn unmerge(&mut self) {
        if let Some(base_layer) = self.unmerged.take() {
            // The bias is not merged, and may have been moved or trained.
            let bias = self.base_layer.bias().cloned();
            let devices = self.base_layer.devices();
            let base_layer = match devices.first() {
                Some(device) => base_layer.to_device(device),
                None => *base_layer,
            };
            self.base_layer = match base_layer {
                BaseLayer::Dense(Linear { weight, .. }) => {
                    BaseLayer::Dense(Linear { weight, bias })
                }
                BaseLayer::Quantized(QuantizedLinear { weight, .. }) => {
                    BaseLayer::Quantized(QuantizedLinear { weight, bias })
                }
                BaseLayer::Tiled(TiledLinear { weight, .. }) => {
                    BaseLayer::Tiled(TiledLinear { weight, bias })
                }
            };
        }
    }

    fn unload(&mut self) {
        self.unmerged = None;
        self.adapters.clear();
    }

    fn is_merged(&self) -> bool {
        self.unmerged.is_some()
    }

    fn quantize(&mut self, format: Quantization) -> Result<()> {
        if self.is_merged() {
            return Err(LoraError::Incompatible {
                action: "pack a weight",
                reason: "adapters are merged into it: unmerge first".to_owned(),
            });
        }
        if !matches!(self.base_layer, BaseLayer::Quantized(_)) {
            self.base_layer = BaseLayer::Quantized(QuantizedLinear {
                weight: QuantizedWeight::quantize(self.base_layer.weight(), format)?,
                bias: self.base_layer.bias().cloned(),
            });
            let norm = column_norm_squared(self.base_layer.weight());
            for dora in self
                .adapters
                .iter_mut()
                .filter_map(|adapter| adapter.dora.as_mut())
            {
                dora.base_norm_squared = norm.clone();
            }
        }
        Ok(())
    }

    fn tile(&mut self) {
        if let BaseLayer::Dense(linear) = &mut self.base_layer
            && TiledWeight::is_for(&linear.weight.val())
        {
            // Taken out, as a weight that the layer still had would be copied.
            let nothing = Param::from_tensor(Tensor::empty([0, 0], &linear.weight.val().device()));
            let weight = std::mem::replace(&mut linear.weight, nothing).into_value();
            let bias = linear.bias.take();
            let weight = TiledWeight::of(weight).expect("tiles are for this weight");
            self.base_layer = BaseLayer::Tiled(TiledLinear { weight, bias });
        }
    }

    fn packed_parameters(&self) -> usize {
        match &self.base_layer {
            BaseLayer::Dense(_) => 0,
            BaseLayer::Quantized(_) | BaseLayer::Tiled(_) => self.shape().iter().product(),
        }
    }
}
