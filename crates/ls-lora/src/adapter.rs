//! [`LoraAdapter`]: what one named adapter adds to one layer, and what linear layers and embeddings share.
//!
//! A weight is `[in, out]` here (`[vocabulary, width]` for an embedding), so that one set of formulas serves both:
//! `W + scaling * A B`, with A `[in, r]` and B `[r, out]`.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use ls_ops::{Dropout, add_low_rank, dropout};

use crate::error::{LoraError, Result};
use crate::quantized::Quantization;

/// The low-rank factors of one adapter on one layer, with their scaling and dropout.
///
/// Factors are f32 whatever the base layer's dtype, unless [`cast_adapters`](crate::LoraModel::cast_adapters) was asked
/// for another.
///
/// ```
/// use burn::module::Param;
/// use burn::nn::LinearConfig;
/// use burn::tensor::{Device, Tensor};
/// use ls_lora::{LoraAdapter, LoraLinear};
///
/// let device = Device::flex();
/// let mut layer = LoraLinear::from(LinearConfig::new(8, 4).init(&device));
/// let x = Tensor::<2>::ones([3, 8], &device);
/// let base = layer.forward(x.clone());
///
/// let mut adapter = LoraAdapter::fresh("mine", [8, 4], 2, 0.5, 0.0, &device);
/// adapter.lora_a = Param::from_tensor(Tensor::ones([8, 2], &device));
/// adapter.lora_b = Param::from_tensor(Tensor::ones([2, 4], &device));
/// layer.adapters.push(adapter);
/// let added = layer.forward(x) - base;                // 0.5 * (x A) B
/// assert!(added.all_close(Tensor::full([3, 4], 8.0, &device), None, Some(1e-5)));
/// ```
#[derive(Module, Debug)]
pub struct LoraAdapter {
    /// Down projection, `[in, r]` (`lora_A.weight` in PEFT's files, there `[r, in]`).
    pub lora_a: Param<Tensor<2>>,
    /// Up projection, `[r, out]` (`lora_B.weight` in PEFT's files, there `[out, r]`).
    pub lora_b: Param<Tensor<2>>,
    /// The magnitude of DoRA, if it is one.
    pub dora: Option<Dora>,
    /// Where the factors started, for initialisations that start with a product that is not zero (PiSSA, OLoRA).
    pub start: Option<Start>,
    /// Factor of the low-rank product: `lora_alpha / r`, or `lora_alpha / sqrt(r)` with rsLoRA.
    pub scaling: f64,
    /// Probability with which an input element of the adapter is zeroed in training. Embeddings have none, as in PEFT.
    pub dropout: f64,
    /// Whether it takes part in the forward pass.
    pub active: bool,
    /// The adapter's name, the same on every layer.
    #[module(skip)]
    pub name: String,
}

/// Weight-decomposed adaptation (DoRA, arXiv 2402.09353): the length of each column of the effective weight is trained by
/// itself.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use ls_lora::{LoraConfig, LoraLayer, LoraLinear, TargetModules, add_adapter, host_values};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// let device = Device::flex();
/// let mut layer = LoraLinear::from(LinearConfig::new(8, 4).init(&device));
/// let config = LoraConfig::new(2, 4.0).with_dora(true).with_target_modules(TargetModules::AllLinear);
/// add_adapter(&mut layer, "mine", &config, &device)?;
///
/// // It starts with the lengths that the frozen weight's columns have.
/// let dora = layer.adapters[0].dora.as_ref();
/// let lengths = layer.weight().square().sum_dim(0).sqrt();
/// assert_eq!(dora.map(|dora| host_values(dora.magnitude.val())), Some(host_values(lengths)));
/// # Ok(())
/// # }
/// ```
#[derive(Module, Debug)]
pub struct Dora {
    /// The trained lengths, `[out]` (`lora_magnitude_vector` in PEFT's files).
    pub magnitude: Param<Tensor<1>>,
    /// The squared length of each column of the frozen weight, `[out]`; computed once.
    pub base_norm_squared: Tensor<1>,
}

/// The factors that an initialisation started from. Their product is taken off again, so that a fresh adapter changes
/// nothing.
///
/// PEFT subtracts it from the frozen weight instead, which is the same sum with one rounding more; here the base keeps its
/// bits.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use ls_lora::{InitLoraWeights, LoraConfig, LoraLinear, TargetModules, add_adapter, host_values};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// let device = Device::flex();
/// let mut layer = LoraLinear::from(LinearConfig::new(8, 4).init(&device));
/// let config = LoraConfig::new(2, 4.0)
///     .with_init_lora_weights(InitLoraWeights::Olora)
///     .with_target_modules(TargetModules::AllLinear);
/// add_adapter(&mut layer, "mine", &config, &device)?;
///
/// let adapter = &layer.adapters[0];
/// assert!(adapter.start.is_some());
/// assert!(host_values(adapter.lora_b.val()).iter().any(|b| *b != 0.0));
/// assert!(host_values(adapter.delta_weight()).iter().all(|change| *change == 0.0));
/// # Ok(())
/// # }
/// ```
#[derive(Module, Debug)]
pub struct Start {
    /// As [`LoraAdapter::lora_a`].
    pub lora_a: Tensor<2>,
    /// As [`LoraAdapter::lora_b`].
    pub lora_b: Tensor<2>,
}

impl LoraAdapter {
    /// The rank.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.lora_a.lazy_shape().dims::<2>()[1]
    }

    /// A fresh adapter as PEFT starts it by default: A ~ U(±1/sqrt(in)) (Kaiming uniform with a = sqrt 5), B zero.
    ///
    /// Draws from the device's seeded generator; the factors are trainable when it is an autodiff device. Other starts are
    /// made by [`add_adapter`](crate::add_adapter) from a configuration.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use ls_lora::{LoraAdapter, host_values};
    ///
    /// let adapter = LoraAdapter::fresh("mine", [16, 4], 2, 0.5, 0.0, &Device::flex());
    /// assert_eq!((adapter.lora_a.dims(), adapter.lora_b.dims()), ([16, 2], [2, 4]));
    /// assert!(host_values(adapter.lora_a.val()).iter().all(|a| a.abs() <= 0.25));
    /// assert!(host_values(adapter.lora_b.val()).iter().all(|b| *b == 0.0));
    /// ```
    #[must_use]
    pub fn fresh(
        name: &str,
        [d_in, d_out]: [usize; 2],
        r: usize,
        scaling: f64,
        dropout: f64,
        device: &Device,
    ) -> Self {
        let bound = 1.0 / (d_in as f64).sqrt();
        let options = (device, DType::F32);
        Self {
            lora_a: Param::from_tensor(Tensor::random(
                [d_in, r],
                Distribution::Uniform(-bound, bound),
                options,
            )),
            lora_b: Param::from_tensor(Tensor::zeros([r, d_out], options)),
            dora: None,
            start: None,
            scaling,
            dropout,
            active: true,
            name: name.to_owned(),
        }
    }

    /// Whether this is training: `Module::valid` takes the parameters off the autodiff graph. (The input of the first
    /// layers is a plain tensor even in training.)
    fn is_training(&self) -> bool {
        self.lora_a.val().is_autodiff()
    }

    /// The input with dropout, in the factors' dtype, and whether anything was dropped.
    pub(crate) fn input(&self, x: Tensor<2>) -> (Tensor<2>, bool) {
        let x = to_dtype(x, self.lora_a.val().dtype());
        if self.dropout > 0.0 && self.is_training() {
            (dropout(x, self.dropout), true)
        } else {
            (x, false)
        }
    }

    /// `y` with the adapter's share added, f32. `x` is the layer's input, before dropout.
    pub(crate) fn add_to(&self, y: Tensor<2>, mut x: Tensor<2>) -> Tensor<2> {
        let (a, b) = (self.lora_a.val(), self.lora_b.val());
        if self.start.is_some() || a.dtype() != DType::F32 {
            return y + self.delta(self.input(x).0);
        }
        // Without dropout the graph keeps the input in its own dtype.
        let mut mask = None;
        if self.dropout > 0.0 && self.is_training() {
            mask = Dropout::draw(self.dropout, &x.device());
            if mask.is_none() {
                x = dropout(to_dtype(x, DType::F32), self.dropout);
            }
        }
        add_low_rank(y, x, a, b, self.scaling, mask)
    }

    /// The adapter's share of a linear layer's output, f32 `[tokens, out]`, for an input from [`LoraAdapter::input`].
    pub(crate) fn delta(&self, x: Tensor<2>) -> Tensor<2> {
        // The scaling goes on the thin product.
        let apply = |x: Tensor<2>, a: Tensor<2>, b: Tensor<2>| {
            x.matmul(a).mul_scalar(self.scaling).matmul(b)
        };
        let mut y = apply(x.clone(), self.lora_a.val(), self.lora_b.val());
        if let Some(start) = &self.start {
            let x = to_dtype(x, DType::F32);
            let started = apply(x, start.lora_a.clone(), start.lora_b.clone());
            y = to_dtype(y, DType::F32) - started;
        }
        to_dtype(y, DType::F32)
    }

    /// `scaling * A B`, off the graph, f32 `[in, out]`: dense, for merging only.
    ///
    /// ```
    /// use burn::module::Param;
    /// use burn::tensor::{Device, Tensor};
    /// use ls_lora::{LoraAdapter, host_values};
    ///
    /// let device = Device::flex();
    /// let mut adapter = LoraAdapter::fresh("mine", [2, 2], 1, 10.0, 0.0, &device);
    /// adapter.lora_a = Param::from_tensor(Tensor::from_data([[1.0], [2.0]], &device));
    /// adapter.lora_b = Param::from_tensor(Tensor::from_data([[3.0, 4.0]], &device));
    /// assert_eq!(host_values(adapter.delta_weight()), [30.0, 40.0, 60.0, 80.0]);
    /// ```
    #[must_use]
    pub fn delta_weight(&self) -> Tensor<2> {
        let (a, b) = self.plain_factors();
        let mut delta = a.matmul(b);
        if let Some(start) = &self.start {
            delta = delta - plain(start.lora_a.clone()).matmul(plain(start.lora_b.clone()));
        }
        delta.mul_scalar(self.scaling)
    }

    /// The factors off the graph in f32.
    pub(crate) fn plain_factors(&self) -> (Tensor<2>, Tensor<2>) {
        let factor = |p: &Param<Tensor<2>>| to_dtype(plain(p.val()), DType::F32);
        (factor(&self.lora_a), factor(&self.lora_b))
    }

    /// What DoRA multiplies the adapted output with: `magnitude / |W + scaling A B|` by column, `[1, out]`. The length is a
    /// constant of the graph, as in the paper's section 4.3. `base` is the product of its argument with the frozen weight.
    pub(crate) fn dora_scale(
        &self,
        dora: &Dora,
        base: impl FnOnce(Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let norm = self.weight_norm(plain(dora.base_norm_squared.clone()), base);
        (dora.magnitude.val() / norm).unsqueeze()
    }

    /// The length of each column of `W + scaling A B`, `[out]`, without forming it: `|w|² + 2 s w·d + s² |d|²`, where the
    /// products come from `Aᵀ W` `[r, out]` and `Aᵀ A` `[r, r]`.
    pub(crate) fn weight_norm(
        &self,
        base_norm_squared: Tensor<1>,
        base: impl FnOnce(Tensor<2>) -> Tensor<2>,
    ) -> Tensor<1> {
        let (a, b) = self.plain_factors();
        let a_t = a.clone().transpose();
        let cross = (base(a_t.clone()) * b.clone()).sum_dim(0); // [1, out]
        let square = (a_t.matmul(a).matmul(b.clone()) * b).sum_dim(0); // [1, out]
        let low_rank =
            cross.mul_scalar(2.0 * self.scaling) + square.mul_scalar(self.scaling * self.scaling);
        // A sum of squares, but for rounding.
        (base_norm_squared + low_rank.squeeze_dim(0))
            .clamp_min(0.0)
            .sqrt()
    }
}

/// The squared length of each column, `[out]`, f32.
pub(crate) fn column_norm_squared(weight: Tensor<2>) -> Tensor<1> {
    weight.square().sum_dim(0).squeeze_dim(0)
}

/// The weight with every active adapter folded in, f32. `weight` is the frozen one in f32, off the graph.
pub(crate) fn merged_weight(weight: Tensor<2>, adapters: &[LoraAdapter]) -> Tensor<2> {
    let mut merged = weight.clone();
    for adapter in adapters.iter().filter(|adapter| adapter.active) {
        let delta = adapter.delta_weight();
        merged = merged + delta.clone();
        if let Some(dora) = &adapter.dora {
            // By the frozen weight's length, whatever else was merged before, as the forward pass has it.
            let norm = column_norm_squared(weight.clone() + delta).sqrt();
            merged = merged * (plain(dora.magnitude.val()) / norm).unsqueeze();
        }
    }
    merged
}

/// What casting a merged weight once changed, in one layer.
///
/// ```
/// use burn::nn::{Initializer, LinearConfig};
/// use burn::tensor::{DType, Device, Tensor};
/// use ls_lora::{LoraAdapter, LoraLayer, LoraLinear};
/// # use burn::module::Param;
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// let device = Device::flex();
/// let mut linear = LinearConfig::new(2, 2).with_initializer(Initializer::Ones).init(&device);
/// linear.weight = linear.weight.map(|weight| weight.cast(DType::BF16));
/// let mut layer = LoraLinear::from(linear);
/// let mut adapter = LoraAdapter::fresh("mine", [2, 2], 1, 0.001, 0.0, &device);
/// # adapter.lora_a = Param::from_tensor(Tensor::ones([2, 1], &device));
/// adapter.lora_b = Param::from_tensor(Tensor::ones([1, 2], &device));
/// layer.adapters.push(adapter);
///
/// // The next bf16 value above 1 is 1.0078, so a change of 0.001 is lost.
/// let drift = layer.merge()?;
/// assert!(drift.is_some_and(|drift| drift.relative > 0.99));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MergeDrift {
    /// The layer's full name; empty for a layer merged by itself.
    pub module: String,
    /// The largest difference between a weight as stored and as computed in f32.
    pub max_abs: f64,
    /// The length of that difference over the length of what the adapters change: 0 where the weight is f32, near 1 where
    /// the change is lost in rounding.
    pub relative: f64,
}

impl MergeDrift {
    /// Fails if the stored weight holds what is no number.
    pub(crate) fn between(base: Tensor<2>, exact: Tensor<2>, stored: Tensor<2>) -> Result<Self> {
        let value = |tensor: Tensor<1>| {
            let values = crate::host_values(tensor);
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

/// Whether a layer multiplies its input or looks rows up.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{EmbeddingConfig, LinearConfig};
/// use burn::tensor::Device;
/// use ls_lora::{LayerKind, LoraEmbedding, LoraLinear, LoraModule, lora_module};
///
/// #[derive(Module, Debug)]
/// struct Net { embed: LoraEmbedding, fc: LoraLinear }
/// lora_module!(Net { embed, fc });
///
/// let device = Device::flex();
/// let net = Net {
///     embed: EmbeddingConfig::new(10, 4).init(&device).into(),
///     fc: LinearConfig::new(4, 2).init(&device).into(),
/// };
/// let kinds: Vec<LayerKind> = net.layers().iter().map(|(_, layer)| layer.kind()).collect();
/// assert_eq!(kinds, [LayerKind::Embedding, LayerKind::Linear]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// [`LoraLinear`](crate::LoraLinear).
    Linear,
    /// [`LoraEmbedding`](crate::LoraEmbedding).
    Embedding,
}

/// A layer that can carry adapters.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use ls_lora::{LoraLinear, LoraModule};
///
/// let device = Device::flex();
/// let linear = |d_in, d_out| LoraLinear::from(LinearConfig::new(d_in, d_out).init(&device));
/// let net = vec![linear(8, 16), linear(16, 2)];
/// // What adapters of rank 4 on every layer would train.
/// let parameters = net.layers().into_iter().map(|(_, layer)| 4 * layer.shape().iter().sum::<usize>());
/// assert_eq!(parameters.sum::<usize>(), 4 * (8 + 16) + 4 * (16 + 2));
/// ```
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
    /// Folds the active adapters into the weight: computed in f32 and cast once. `None` if there is nothing to fold in, or
    /// they are folded in already.
    ///
    /// ```
    /// # use burn::module::Param;
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::{Device, Tensor};
    /// # use ls_lora::{LoraAdapter, LoraLinear};
    /// use ls_lora::{LoraLayer, host_values};
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex();
    /// # let mut layer = LoraLinear::from(LinearConfig::new(8, 4).init(&device));
    /// # let mut adapter = LoraAdapter::fresh("mine", [8, 4], 2, 0.5, 0.0, &device);
    /// # adapter.lora_b = Param::from_tensor(Tensor::ones([2, 4], &device));
    /// # layer.adapters.push(adapter);
    /// # let x = Tensor::<2>::ones([3, 8], &device);
    ///
    /// let base = layer.base_layer.weight();
    /// let y = layer.forward(x.clone());
    /// layer.merge()?;
    /// assert!(layer.is_merged() && layer.forward(x).all_close(y, Some(1e-4), Some(1e-5)));
    ///
    /// layer.unmerge();
    /// assert_eq!(host_values(layer.base_layer.weight()), host_values(base));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::NonFiniteWeight`] if the layer would get NaN or an infinity, such as a
    /// sum that f16 cannot hold; the layer is then as it was.
    fn merge(&mut self) -> Result<Option<MergeDrift>>;
    /// Takes the adapters out again by putting the weight back that was there, bit for bit.
    fn unmerge(&mut self);
    /// Drops the weight that [`LoraLayer::unmerge`] would put back, and the adapters.
    ///
    /// ```
    /// # use burn::module::Param;
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::{Device, Tensor};
    /// # use ls_lora::{LoraAdapter, LoraLinear};
    /// use ls_lora::{LoraLayer, host_values};
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex();
    /// # let mut layer = LoraLinear::from(LinearConfig::new(8, 4).init(&device));
    /// # let mut adapter = LoraAdapter::fresh("mine", [8, 4], 2, 0.5, 0.0, &device);
    /// # adapter.lora_b = Param::from_tensor(Tensor::ones([2, 4], &device));
    /// # layer.adapters.push(adapter);
    /// # let x = Tensor::<2>::ones([3, 8], &device);
    ///
    /// layer.merge()?;
    /// let y = host_values(layer.forward(x.clone()));
    /// layer.unload();                                     // merged for good
    /// assert!(layer.adapters().is_empty() && !layer.is_merged());
    /// assert_eq!(host_values(layer.forward(x)), y);
    /// # Ok(())
    /// # }
    /// ```
    fn unload(&mut self);
    /// Whether adapters are folded into the weight.
    fn is_merged(&self) -> bool;
    /// Packs the frozen weight; does nothing to a layer that is not linear.
    ///
    /// ```
    /// use burn::nn::LinearConfig;
    /// use burn::tensor::Device;
    /// use ls_lora::{LoraLayer, LoraLinear, Quantization};
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// let mut layer = LoraLinear::from(LinearConfig::new(64, 4).init(&Device::flex()));
    /// let dense = layer.weight();                         // within ±1/sqrt(64)
    /// layer.quantize(Quantization::Int8)?;
    /// assert_eq!(layer.packed_parameters(), 64 * 4);
    /// assert!(layer.weight().all_close(dense, None, Some(0.002)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`QuantizedWeight::quantize`](crate::QuantizedWeight::quantize).
    fn quantize(&mut self, format: Quantization) -> Result<()> {
        let _ = format;
        Ok(())
    }
    /// How many values the frozen weight has if it is packed, which burn does not count as parameters; else 0.
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

/// Casts only where the dtype differs.
pub(crate) fn to_dtype<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Tensor<D> {
    if tensor.dtype() == dtype {
        tensor
    } else {
        tensor.cast(dtype)
    }
}

/// Off the graph. (`inner` panics on a tensor that was never on it.)
pub(crate) fn plain<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.is_autodiff() {
        tensor.inner()
    } else {
        tensor
    }
}

/// Values in row-major order as a device matrix, f32.
pub(crate) fn matrix(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}
