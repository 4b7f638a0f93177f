//! [`LoraLinear`]: a frozen linear layer that may carry a low-rank adapter (arXiv 2106.09685).
//!
//! The adapter acts on the activations: `y = x W + b + scaling * (dropout(x) A) B`. The dense product `A B` is only
//! formed by [`LoraLinear::merge`], and the frozen weight never receives a gradient, because it is an untracked constant
//! in the graph.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};

use crate::error::{LoraError, Result};
use crate::peft::LoraPair;
use crate::tensor_file::HostTensor;

/// The two low-rank factors of one adapted layer, with their scaling and dropout.
///
/// Both factors are f32 whatever the base layer's dtype.
#[derive(Module, Debug)]
pub struct LoraFactors {
    /// Down projection, `[in, r]` (`lora_A.weight` in PEFT's files, there `[r, in]`).
    pub lora_a: Param<Tensor<2>>,
    /// Up projection, `[r, out]` (`lora_B.weight` in PEFT's files, there `[out, r]`).
    pub lora_b: Param<Tensor<2>>,
    /// Factor of the low-rank product: `lora_alpha / r`, or `lora_alpha / sqrt(r)` with rsLoRA.
    pub scaling: f64,
    /// Probability with which an input element of the adapter is zeroed in training.
    pub dropout: f64,
}

impl LoraFactors {
    /// Fresh factors as PEFT initialises them: A ~ U(±1/sqrt(in)) (Kaiming uniform with a = sqrt 5), or N(0, 1/r) when
    /// `gaussian`; B zero. Draws from the device's seeded generator.
    pub fn init(
        shape: [usize; 2],
        r: usize,
        gaussian: bool,
        scaling: f64,
        dropout: f64,
        device: &Device,
    ) -> Self {
        let [d_in, d_out] = shape;
        let distribution = if gaussian {
            Distribution::Normal(0.0, 1.0 / r as f64)
        } else {
            let bound = 1.0 / (d_in as f64).sqrt();
            Distribution::Uniform(-bound, bound)
        };
        let options = (device, DType::F32);
        Self {
            lora_a: Param::from_tensor(Tensor::random([d_in, r], distribution, options)),
            lora_b: Param::from_tensor(Tensor::zeros([r, d_out], options)),
            scaling,
            dropout,
        }
    }

    /// The adapter's share of the output, f32 `[tokens, out]`, for inputs `[tokens, in]` of any float dtype.
    fn delta(&self, x: Tensor<2>) -> Tensor<2> {
        let lora_a = self.lora_a.val();
        // The input of the first layers is a plain tensor even in training, so whether this is training is read off the
        // adapter's own parameters: `Module::valid` takes them off the autodiff graph.
        let training = lora_a.is_autodiff();
        let mut x = to_dtype(x, DType::F32);
        if training && self.dropout > 0.0 {
            let keep = 1.0 - self.dropout;
            let mask = x.random_like(Distribution::Bernoulli(keep));
            x = x * mask.mul_scalar(1.0 / keep);
        }
        // The scaling goes on the thin product.
        x.matmul(lora_a)
            .mul_scalar(self.scaling)
            .matmul(self.lora_b.val())
    }
}

/// A linear layer with frozen base weights and an adapter that may be absent.
///
/// Being one type in both states, it lets a model be written once: without an adapter it computes what the base computes.
#[derive(Module, Debug)]
pub struct LoraLinear {
    /// The frozen layer; `weight` is `[in, out]`, in the model's dtype.
    pub base_layer: Linear,
    /// The adapter, if the layer has one.
    pub lora: Option<LoraFactors>,
}

impl LoraLinear {
    /// Wraps a layer, freezing it, without an adapter.
    pub fn new(base_layer: Linear) -> Self {
        Self {
            base_layer: base_layer.no_grad(),
            lora: None,
        }
    }

    /// `[in, out]` of the layer.
    pub fn shape(&self) -> [usize; 2] {
        self.base_layer.weight.lazy_shape().dims()
    }

    /// Applies the layer.
    ///
    /// # Shapes
    ///
    /// - input: `[tokens, in]`, in the base layer's dtype
    /// - output: `[tokens, out]`, in the same dtype; the base's and the adapter's shares are added in f32
    ///
    /// # Panics
    ///
    /// Panics if the input's last axis is not `in`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let delta = self.lora.as_ref().map(|lora| lora.delta(x.clone()));
        let mut y = x.matmul(self.base_layer.weight.val());
        if let Some(bias) = &self.base_layer.bias {
            y = y + bias.val().unsqueeze();
        }
        match delta {
            None => y,
            Some(delta) => {
                let dtype = y.dtype();
                to_dtype(to_dtype(y, DType::F32) + delta, dtype)
            }
        }
    }

    /// The same layer with the adapter folded into its weight: `W + scaling * A B`, computed in f32 and cast once.
    pub fn merge(self) -> Self {
        let Some(lora) = self.lora else { return self };
        let dense = lora
            .lora_a
            .val()
            .inner_or_self()
            .matmul(lora.lora_b.val().inner_or_self());
        let weight = self.base_layer.weight.map(|weight| {
            let dtype = weight.dtype();
            to_dtype(
                to_dtype(weight, DType::F32) + dense.mul_scalar(lora.scaling),
                dtype,
            )
        });
        Self {
            base_layer: Linear {
                weight,
                bias: self.base_layer.bias,
            }
            .no_grad(),
            lora: None,
        }
    }

    /// Puts the factors of a PEFT file on this layer.
    ///
    /// `path` and `name` (the module's) are for messages. The factors become trainable parameters when `device` is an
    /// autodiff device.
    ///
    /// # Errors
    ///
    /// If a factor does not fit the layer's shape, or is not a float tensor.
    pub fn load(
        &mut self,
        path: &Path,
        name: &str,
        pair: &LoraPair,
        scaling: f64,
        dropout: f64,
        device: &Device,
    ) -> Result<()> {
        let [d_in, d_out] = self.shape();
        let r = pair.a.shape.first().copied().unwrap_or(0);
        for (tensor, suffix, expected) in [
            (&pair.a, "lora_A.weight", [r, d_in]),
            (&pair.b, "lora_B.weight", [d_out, r]),
        ] {
            if tensor.shape != expected {
                return Err(LoraError::TensorShape {
                    path: path.to_path_buf(),
                    name: format!("{name}.{suffix}"),
                    expected: expected.to_vec(),
                    found: tensor.shape.clone(),
                });
            }
        }
        let param = |tensor: &HostTensor| -> Result<Param<Tensor<2>>> {
            Ok(Param::from_tensor(matrix(tensor, device)?))
        };
        self.lora = Some(LoraFactors {
            lora_a: param(&pair.a)?,
            lora_b: param(&pair.b)?,
            scaling,
            dropout,
        });
        Ok(())
    }

    /// The factors as PEFT stores them, if the layer has an adapter: A `[r, in]` and B `[out, r]` in f32.
    pub fn factors(&self) -> Option<LoraPair> {
        let lora = self.lora.as_ref()?;
        Some(LoraPair {
            a: host_transposed(lora.lora_a.val()),
            b: host_transposed(lora.lora_b.val()),
        })
    }
}

/// A stored `[rows, columns]` matrix as its transpose `[columns, rows]` on the device, in f32.
fn matrix(tensor: &HostTensor, device: &Device) -> Result<Tensor<2>> {
    let [rows, columns] = [tensor.shape[0], tensor.shape[1]];
    let values = tensor.to_f32()?;
    let mut transposed = vec![0.0f32; values.len()];
    for row in 0..rows {
        for column in 0..columns {
            transposed[column * rows + row] = values[row * columns + column];
        }
    }
    Ok(Tensor::from_data(
        TensorData::new(transposed, [columns, rows]),
        (device, DType::F32),
    ))
}

/// A device matrix as its transpose on the host.
fn host_transposed(tensor: Tensor<2>) -> HostTensor {
    let tensor = tensor.transpose();
    let shape = tensor.dims().to_vec();
    HostTensor::from_f32(shape, &crate::host_values(tensor))
}

/// Casts only where the dtype differs.
fn to_dtype<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Tensor<D> {
    if tensor.dtype() == dtype {
        tensor
    } else {
        tensor.cast(dtype)
    }
}

/// Taking a tensor off the graph panics on one that was never on it.
trait InnerOrSelf {
    fn inner_or_self(self) -> Self;
}

impl<const D: usize> InnerOrSelf for Tensor<D> {
    fn inner_or_self(self) -> Self {
        if self.is_autodiff() {
            self.inner()
        } else {
            self
        }
    }
}
