//! [`rms_norm`]: root mean square normalisation.

#[cfg(feature = "flex")]
use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, FloatDType, Shape, Tensor};

use crate::autodiff::register;
use crate::norm_scale::NormScale;

/// `x / sqrt(mean(x²) + eps)` over the last axis (arXiv 1910.07467), times the weight as `scale`
/// says, in the dtype of `x`; the mean is taken in f32.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use ls_ops::NormScale;
///
/// let device = Device::flex();
/// let x = Tensor::<2>::from_data([[3.0, -4.0]], &device);
/// let weight = Tensor::<1>::from_data([1.0, 2.0], &device);
/// let y = ls_ops::rms_norm(x, weight, NormScale::Weight, 0.0);
/// // The root of the mean square is sqrt(12.5).
/// let expected = Tensor::<2>::from_data([[0.8485281, -2.2627417]], &device);
/// assert!(y.all_close(expected, None, Some(1e-6)));
/// ```
///
/// # Shapes
///
/// - `x` and the output: `[tokens, width]`; `weight`: `[width]`
///
/// # Panics
///
/// If the shapes do not fit each other.
#[must_use]
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, scale: NormScale, eps: f64) -> Tensor<2> {
    let (width, scales) = (x.dims()[1], weight.dims()[0]);
    assert_eq!(width, scales, "one scale for each channel");
    if !crate::is_supported(&x.device()) {
        let dtype = x.dtype();
        let x = x.cast(DType::F32);
        let root = x.clone().square().mean_dim(1).add_scalar(eps).sqrt();
        let normal = x / root;
        if scale.rounds_first() {
            return normal.cast(dtype) * weight.cast(dtype).unsqueeze();
        }
        let factors = weight.cast(DType::F32).add_scalar(scale.offset());
        return (normal * factors.unsqueeze()).cast(dtype);
    }
    Tensor::from_dispatch(<Dispatch as RmsNormOps>::rms_norm(
        x.into_dispatch(),
        weight.into_dispatch(),
        scale,
        eps,
    ))
}

/// The normalisation and its gradient, on every backend that this crate is built for. Bodies are
/// the portable form.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "cube"),
    Autodiff
)]
pub(crate) trait RmsNormOps: Backend {
    /// The normalised values.
    #[fusion(dtype = x, shape = x)]
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: NormScale,
        eps: f64,
    ) -> FloatTensor<Self> {
        portable::<Self>(x, weight, scale, eps)
    }

    /// The gradient of `x`.
    #[fusion(dtype = x, shape = x)]
    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        scale: NormScale,
        eps: f64,
    ) -> FloatTensor<Self> {
        let dtype = x.dtype();
        let [_, width] = x.shape().dims();
        let x = Self::float_cast(x, FloatDType::F32);
        let dy = Self::float_cast(dy, FloatDType::F32);
        let factors = factors::<Self>(weight, scale);
        let dy = Self::float_mul(dy, Self::float_reshape(factors, Shape::new([1, width])));
        let root = inverse_root::<Self>(x.clone(), eps);
        let normal = Self::float_mul(x, root.clone());
        let along = Self::float_mean_dim(Self::float_mul(dy.clone(), normal.clone()), 1);
        let dx = Self::float_mul(Self::float_sub(dy, Self::float_mul(normal, along)), root);
        Self::float_cast(dx, dtype.into())
    }

    /// The gradient of the scale, in f32.
    #[fusion(default)]
    fn rms_norm_weight_backward(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let [_, width] = x.shape().dims();
        let x = Self::float_cast(x, FloatDType::F32);
        let dy = Self::float_cast(dy, FloatDType::F32);
        let scale = inverse_root::<Self>(x.clone(), eps);
        let along = Self::float_mul(dy, Self::float_mul(x, scale));
        Self::float_reshape(Self::float_sum_dim(along, 0), Shape::new([width]))
    }
}

/// The normalisation by operations that every backend has.
fn portable<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    scale: NormScale,
    eps: f64,
) -> FloatTensor<B> {
    let dtype = x.dtype();
    let [_, width] = x.shape().dims();
    let x = B::float_cast(x, FloatDType::F32);
    let root = inverse_root::<B>(x.clone(), eps);
    let normal = B::float_mul(x, root);
    let row = Shape::new([1, width]);
    if scale.rounds_first() {
        let normal = B::float_cast(normal, dtype.into());
        let weight = B::float_cast(weight, dtype.into());
        return B::float_mul(normal, B::float_reshape(weight, row));
    }
    let factors = B::float_reshape(factors::<B>(weight, scale), row);
    B::float_cast(B::float_mul(normal, factors), dtype.into())
}

/// The factors of these weights, in f32.
fn factors<B: Backend>(weight: FloatTensor<B>, scale: NormScale) -> FloatTensor<B> {
    let weight = B::float_cast(weight, FloatDType::F32);
    match scale {
        NormScale::Weight | NormScale::WeightInF32 => weight,
        NormScale::OnePlusWeight => B::float_add_scalar(weight, scale.offset().into()),
    }
}

/// `1 / sqrt(mean(x²) + eps)`, `[tokens, 1]`.
fn inverse_root<B: Backend>(x: FloatTensor<B>, eps: f64) -> FloatTensor<B> {
    let mean = B::float_mean_dim(B::float_mul(x.clone(), x), 1);
    B::float_recip(B::float_sqrt(B::float_add_scalar(mean, eps.into())))
}

#[cfg(feature = "cube")]
impl RmsNormOps for crate::cube::CubeBackend {
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: NormScale,
        eps: f64,
    ) -> FloatTensor<Self> {
        crate::cube::rms_norm::forward(x, weight, scale, eps)
    }

    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        scale: NormScale,
        eps: f64,
    ) -> FloatTensor<Self> {
        crate::cube::rms_norm::backward(x, weight, dy, scale, eps)
    }
}

#[cfg(feature = "flex")]
impl RmsNormOps for Flex {
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: NormScale,
        eps: f64,
    ) -> FloatTensor<Self> {
        use crate::host::{CHUNK, Values, dims, sum, tensor, vectorised};
        use crate::uninit::filled;

        if x.dtype() != DType::F32 {
            return portable::<Self>(x, weight, scale, eps);
        }
        let [tokens, width] = dims(&x);
        let (x, weight) = (Values::of(x), Values::of(weight));
        let (x, factors) = (x.as_slice(), &*scale.factors(weight.as_slice()));
        let rows = CHUNK.div_ceil(width.max(1));
        let y = filled(tokens * width, rows * width, |task, out| {
            let end = ((task + 1) * rows).min(tokens);
            for row in task * rows..end {
                let x = &x[row * width..][..width];
                vectorised(
                    #[inline(always)]
                    || {
                        let mean = sum(
                            width,
                            #[inline(always)]
                            |i| x[i] * x[i],
                        ) / width as f32;
                        let root = 1.0 / (mean + eps as f32).sqrt();
                        out.write(
                            width,
                            #[inline(always)]
                            |i| x[i] * root * factors[i],
                        );
                    },
                );
            }
        });
        tensor(y, [tokens, width])
    }

    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        scale: NormScale,
        eps: f64,
    ) -> FloatTensor<Self> {
        use crate::host::{CHUNK, Values, dims, in_dtype, sum, tensor, vectorised};
        use crate::uninit::filled;

        let (dtype, [tokens, width]) = (x.dtype(), dims(&x));
        let (x, weight, dy) = (Values::of(x), Values::of(weight), Values::of(dy));
        let (x, dy) = (x.as_slice(), dy.as_slice());
        let factors = &*scale.factors(weight.as_slice());
        let rows = CHUNK.div_ceil(width.max(1));
        let dx = filled(tokens * width, rows * width, |task, out| {
            let end = ((task + 1) * rows).min(tokens);
            for row in task * rows..end {
                let x = &x[row * width..][..width];
                let dy = &dy[row * width..][..width];
                vectorised(
                    #[inline(always)]
                    || {
                        let count = width as f32;
                        let mean = sum(
                            width,
                            #[inline(always)]
                            |i| x[i] * x[i],
                        ) / count;
                        let root = 1.0 / (mean + eps as f32).sqrt();
                        let along = sum(
                            width,
                            #[inline(always)]
                            |i| dy[i] * factors[i] * x[i],
                        ) / count;
                        let along = along * root * root;
                        out.write(
                            width,
                            #[inline(always)]
                            |i| root * (dy[i] * factors[i] - along * x[i]),
                        );
                    },
                );
            }
        });
        in_dtype(tensor(dx, [tokens, width]), dtype)
    }
}

impl<B: RmsNormOps, C: CheckpointStrategy> RmsNormOps for Autodiff<B, C> {
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: NormScale,
        eps: f64,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct RmsNormBackward;

        impl<B: RmsNormOps> Backward<B, 2> for RmsNormBackward {
            type State = (FloatTensor<B>, FloatTensor<B>, NormScale, f64);

            fn backward(
                self,
                ops: Ops<Self::State, 2>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let dy = grads.consume::<B>(&ops.node);
                let [node_x, node_weight] = ops.parents.map(|node| node.map(|node| node.id));
                let (x, weight, scale, eps) = ops.state;
                register::<B>(grads, node_weight, || {
                    let gradient = B::rms_norm_weight_backward(x.clone(), dy.clone(), eps);
                    B::float_cast(gradient, weight.dtype().into())
                });
                register::<B>(grads, node_x, || {
                    B::rms_norm_backward(x, weight, dy, scale, eps)
                });
            }
        }

        let prep = RmsNormBackward.prepare::<C>([x.node(), weight.node()]);
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        match prep.compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::rms_norm(x.clone(), weight.clone(), scale, eps);
                prep.finish((x, weight, scale, eps), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::rms_norm(x, weight, scale, eps)),
        }
    }
}
