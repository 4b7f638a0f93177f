//! [`LoraAdapter`]: what one named adapter adds to one layer, and what linear layers and embeddings
//! share.
//!
//! A weight is `[in, out]` here (`[vocabulary, width]` for an embedding), so that one set of
//! formulas serves both: `W + scaling * A B`, with A `[in, r]` and B `[r, out]`.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Distribution, Tensor};
use ls_ops::{Dropout, add_low_rank, dropout};

use crate::draws::Draws;
use crate::dtype::{plain, to_dtype};

/// The low-rank factors of one adapter on one layer, with their scaling and dropout.
///
/// Factors are f32 whatever the base layer's dtype, unless
/// [`cast_adapters`](crate::LoraModel::cast_adapters) was asked for another.
#[derive(Module, Debug)]
pub struct LoraAdapter {
    /// Down projection, `[in, r]` (`lora_A.weight` in PEFT's files, there `[r, in]`).
    pub lora_a: Param<Tensor<2>>,
    /// Up projection, `[r, out]` (`lora_B.weight` in PEFT's files, there `[out, r]`).
    pub lora_b: Param<Tensor<2>>,
    /// The magnitude of DoRA, if it is one.
    pub dora: Option<Dora>,
    /// Where the factors started, for initialisations that start with a product that is not zero
    /// (PiSSA, OLoRA).
    pub start: Option<Start>,
    /// Factor of the low-rank product: `lora_alpha / r`, or `lora_alpha / sqrt(r)` with rsLoRA.
    pub scaling: f64,
    /// Probability with which an input element of the adapter is zeroed in training. Embeddings
    /// have none, as in PEFT.
    pub dropout: f64,
    /// Whether it takes part in the forward pass.
    pub active: bool,
    /// The adapter's name, the same on every layer.
    #[module(skip)]
    pub name: String,
}

/// Weight-decomposed adaptation (DoRA, arXiv 2402.09353): the length of each column of the
/// effective weight is trained by itself.
#[derive(Module, Debug)]
pub struct Dora {
    /// The trained lengths, `[out]` (`lora_magnitude_vector` in PEFT's files).
    pub magnitude: Param<Tensor<1>>,
    /// The squared length of each column of the frozen weight, `[out]`; computed once.
    pub base_norm_squared: Tensor<1>,
}

/// The factors that an initialisation started from. Their product is taken off again, so that a
/// fresh adapter changes nothing.
///
/// PEFT subtracts it from the frozen weight instead, which is the same sum with one rounding more;
/// here the base keeps its bits.
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

    /// A fresh adapter as PEFT starts it by default: A ~ U(±1/sqrt(in)) (Kaiming uniform with a =
    /// sqrt 5), B zero.
    ///
    /// A seed draws the same values on every device; the factors are trainable when it is an
    /// autodiff device. Other starts are made by [`add_adapter`](crate::add_adapter) from a
    /// configuration.
    #[must_use]
    pub fn fresh(
        name: &str,
        [d_in, d_out]: [usize; 2],
        r: usize,
        scaling: f64,
        dropout: f64,
        seed: u64,
        device: &Device,
    ) -> Self {
        let bound = 1.0 / (d_in as f64).sqrt();
        let values = Distribution::Uniform(-bound, bound);
        Self {
            lora_a: Param::from_tensor(Draws::new(seed).next([d_in, r], values, device)),
            lora_b: Param::from_tensor(Tensor::zeros([r, d_out], (device, DType::F32))),
            dora: None,
            start: None,
            scaling,
            dropout,
            active: true,
            name: name.to_owned(),
        }
    }

    /// Whether this is training: `Module::valid` takes the parameters off the autodiff graph. (The
    /// input of the first layers is a plain tensor even in training.)
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

    /// Adds the adapter's output to `y`, in f32 or in the dtype of `y`. `x` is the layer's input,
    /// before dropout.
    pub(crate) fn add_to(&self, y: Tensor<2>, x: Tensor<2>) -> Tensor<2> {
        let (a, b) = (self.lora_a.val(), self.lora_b.val());
        if self.start.is_some() || a.dtype() != DType::F32 {
            return to_dtype(y, DType::F32) + self.delta(self.input(x).0);
        }
        let drops = self.dropout > 0.0 && self.is_training();
        let mask = drops.then(|| Dropout::draw(self.dropout));
        add_low_rank(y, x, a, b, self.scaling, mask)
    }

    /// What the adapter adds to a linear layer's output, f32 `[tokens, out]`, for an input from
    /// [`LoraAdapter::input`].
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

    /// The factor of DoRA on the adapted output: `magnitude / |W + scaling A B|` by column, `[1,
    /// out]`. The length is a constant of the graph, as in the paper's section 4.3. `base` is the
    /// product of its argument with the frozen weight.
    pub(crate) fn dora_scale(
        &self,
        dora: &Dora,
        base: impl FnOnce(Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let norm = self.weight_norm(plain(dora.base_norm_squared.clone()), base);
        (dora.magnitude.val() / norm).unsqueeze()
    }

    /// The length of each column of `W + scaling A B`, `[out]`, without forming the sum:
    /// `|w|² + 2 s w·d + s² |d|²`, where the products come from `Aᵀ W` `[r, out]` and `Aᵀ A`
    /// `[r, r]`.
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

/// The weight with every active adapter folded in, f32. `weight` is the frozen one in f32, off the
/// graph.
pub(crate) fn merged_weight(weight: Tensor<2>, adapters: &[LoraAdapter]) -> Tensor<2> {
    let mut merged = weight.clone();
    for adapter in adapters.iter().filter(|adapter| adapter.active) {
        let delta = adapter.delta_weight();
        merged = merged + delta.clone();
        if let Some(dora) = &adapter.dora {
            // By the frozen weight's length, whatever else was merged before, as the forward pass
            // has it.
            let norm = column_norm_squared(weight.clone() + delta).sqrt();
            merged = merged * (plain(dora.magnitude.val()) / norm).unsqueeze();
        }
    }
    merged
}
