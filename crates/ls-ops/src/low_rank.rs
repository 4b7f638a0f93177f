//! [`add_low_rank`]: what a LoRA adapter adds to a layer's output.

#[cfg(feature = "flex")]
use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
#[cfg(feature = "flex")]
use burn::tensor::DType;
use burn::tensor::Tensor;

use crate::autodiff::register;
use crate::dtype::{cast_like, cast_to};

/// Dropout of an adapter's input. The mask is kept as its seed, and made again in the backward
/// pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    probability: f64,
    seed: u64,
}

impl Dropout {
    /// Draws a mask's seed from the device's generator. `None` where masks cannot be made from one,
    /// which is everywhere but on the CPU: apply [`dropout`](crate::dropout()) to the input there.
    #[must_use]
    pub fn draw(probability: f64, device: &burn::tensor::Device) -> Option<Self> {
        crate::is_host(device).then(|| Self {
            probability,
            seed: crate::dropout::draw_seed(&device.clone().inner()),
        })
    }
}

/// `y + scaling * (dropout(x) A) B` (arXiv 2106.09685). The graph keeps `x` as it is, and the thin
/// product `x A`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let tensor = |values: [[f32; 2]; 1]| Tensor::<2>::from_data(values, &device);
/// let (y, x) = (tensor([[1.0, 1.0]]), tensor([[2.0, 3.0]]));
/// let (a, b) = (tensor([[1.0, 1.0]]).transpose(), tensor([[1.0, -1.0]]));
/// let y = ls_ops::add_low_rank(y, x, a, b, 0.5, None);
/// assert_eq!(y.into_data().try_into_vec::<f32>().ok(), Some(vec![3.5, -1.5]));
/// ```
///
/// # Shapes
///
/// - `y` and the output: `[tokens, out]`; `x`: `[tokens, in]`; `a`: `[in, r]`; `b`: `[r, out]`; one
///   dtype but for `x`, which is kept in its own and widened for one product at a time
///
/// # Panics
///
/// If the shapes do not fit each other, or a [`Dropout`] comes with a tensor that is not on the
/// CPU.
#[must_use]
pub fn add_low_rank(
    y: Tensor<2>,
    x: Tensor<2>,
    a: Tensor<2>,
    b: Tensor<2>,
    scaling: f64,
    dropout: Option<Dropout>,
) -> Tensor<2> {
    let ([tokens, d_out], [rows, d_in]) = (y.dims(), x.dims());
    let rank = a.dims()[1];
    assert_eq!(tokens, rows, "inputs and outputs are of the same tokens");
    assert_eq!(a.dims(), [d_in, rank], "A is [in, r]");
    assert_eq!(b.dims(), [rank, d_out], "B is [r, out]");
    if !crate::is_supported(&y.device()) {
        assert!(dropout.is_none(), "seeded dropout is made on the CPU alone");
        let x = x.cast(a.dtype());
        return y + x.matmul(a).mul_scalar(scaling).matmul(b);
    }
    Tensor::from_dispatch(<Dispatch as LowRankOps>::add_low_rank(
        y.into_dispatch(),
        x.into_dispatch(),
        a.into_dispatch(),
        b.into_dispatch(),
        scaling,
        dropout,
    ))
}

/// The pieces, on every backend that this crate is built for. Bodies are the portable form.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(any(feature = "cuda", feature = "wgpu")),
    Autodiff
)]
pub(crate) trait LowRankOps: Backend {
    /// `y + scaling * (dropout(x) A) B`.
    fn add_low_rank(
        y: FloatTensor<Self>,
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scaling: f64,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self> {
        let thin = Self::low_rank_down(x, a, dropout);
        Self::low_rank_up(y, thin, b, scaling)
    }

    /// `dropout(x) A`, `[tokens, r]`.
    fn low_rank_down(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self> {
        assert!(dropout.is_none(), "seeded dropout is made on the CPU alone");
        Self::float_matmul(cast_like::<Self>(x, &a), a)
    }

    /// `y + scaling * thin B`.
    fn low_rank_up(
        y: FloatTensor<Self>,
        thin: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scaling: f64,
    ) -> FloatTensor<Self> {
        let thin = Self::float_mul_scalar(thin, scaling.into());
        Self::float_add(y, Self::float_matmul(thin, b))
    }

    /// The gradient of the thin product: `scaling * dy Bᵀ`.
    fn low_rank_up_backward(
        dy: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scaling: f64,
    ) -> FloatTensor<Self> {
        let thin = Self::float_matmul(dy, Self::float_transpose(b));
        Self::float_mul_scalar(thin, scaling.into())
    }

    /// The gradient of B: `scaling * thinᵀ dy`.
    fn low_rank_b_backward(
        dy: FloatTensor<Self>,
        thin: FloatTensor<Self>,
        scaling: f64,
    ) -> FloatTensor<Self> {
        let db = Self::float_matmul(Self::float_transpose(thin), dy);
        Self::float_mul_scalar(db, scaling.into())
    }

    /// The gradient of A: `dropout(x)ᵀ d_thin`.
    fn low_rank_a_backward(
        x: FloatTensor<Self>,
        d_thin: FloatTensor<Self>,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self> {
        assert!(dropout.is_none(), "seeded dropout is made on the CPU alone");
        let x = cast_like::<Self>(x, &d_thin);
        Self::float_matmul(Self::float_transpose(x), d_thin)
    }

    /// The gradient of x: `dropout(d_thin Aᵀ)`.
    fn low_rank_x_backward(
        d_thin: FloatTensor<Self>,
        a: FloatTensor<Self>,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self> {
        assert!(dropout.is_none(), "seeded dropout is made on the CPU alone");
        Self::float_matmul(d_thin, Self::float_transpose(a))
    }
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
impl LowRankOps for burn::backend::Cube {}

#[cfg(feature = "flex")]
use {
    crate::dropout::Mask,
    crate::gemm::{Matrix, accumulate, product},
    crate::host::{Values, dims, in_dtype, tensor},
};

#[cfg(feature = "flex")]
impl Dropout {
    /// The values with the mask on.
    fn applied(self, x: &[f32]) -> Vec<f32> {
        Mask::new(self.probability, self.seed).applied(x)
    }
}

#[cfg(feature = "flex")]
impl LowRankOps for Flex {
    fn low_rank_down(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self> {
        let (dtype, [tokens, d_in], [_, rank]) = (a.dtype(), dims(&x), dims(&a));
        let (x, a) = (Values::of(x), Values::of(a));
        let a = Matrix::new(a.as_slice(), [d_in, rank]);
        let thin = match dropout {
            None => product(Matrix::new(x.as_slice(), [tokens, d_in]), a),
            Some(dropout) => product(
                Matrix::new(&dropout.applied(x.as_slice()), [tokens, d_in]),
                a,
            ),
        };
        in_dtype(tensor(thin, [tokens, rank]), dtype)
    }

    fn low_rank_up(
        mut y: FloatTensor<Self>,
        thin: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scaling: f64,
    ) -> FloatTensor<Self> {
        let (dtype, [tokens, d_out], [_, rank]) = (y.dtype(), dims(&y), dims(&thin));
        let (thin, b) = (Values::of(thin), Values::of(b));
        let (thin, b) = (
            Matrix::new(thin.as_slice(), [tokens, rank]),
            Matrix::new(b.as_slice(), [rank, d_out]),
        );
        // The layer's product is nobody else's: it is added to in place.
        let whole =
            |y: &FloatTensor<Self>| y.is_contiguous() && y.storage::<f32>().len() == tokens * d_out;
        if dtype == DType::F32
            && whole(&y)
            && let Some(y) = y.try_storage_mut::<f32>()
        {
            accumulate(y, scaling as f32, thin, b, 1.0);
        } else {
            let mut sum = Values::of(y).as_slice().to_vec();
            accumulate(&mut sum, scaling as f32, thin, b, 1.0);
            return in_dtype(tensor(sum, [tokens, d_out]), dtype);
        }
        y
    }

    fn low_rank_up_backward(
        dy: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scaling: f64,
    ) -> FloatTensor<Self> {
        let (dtype, [tokens, d_out], [rank, _]) = (dy.dtype(), dims(&dy), dims(&b));
        let (dy, b) = (Values::of(dy), Values::of(b));
        let mut thin = vec![0.0; tokens * rank];
        accumulate(
            &mut thin,
            scaling as f32,
            Matrix::new(dy.as_slice(), [tokens, d_out]),
            Matrix::new(b.as_slice(), [rank, d_out]).t(),
            0.0,
        );
        in_dtype(tensor(thin, [tokens, rank]), dtype)
    }

    fn low_rank_b_backward(
        dy: FloatTensor<Self>,
        thin: FloatTensor<Self>,
        scaling: f64,
    ) -> FloatTensor<Self> {
        let (dtype, [tokens, d_out], [_, rank]) = (dy.dtype(), dims(&dy), dims(&thin));
        let (dy, thin) = (Values::of(dy), Values::of(thin));
        let mut db = vec![0.0; rank * d_out];
        accumulate(
            &mut db,
            scaling as f32,
            Matrix::new(thin.as_slice(), [tokens, rank]).t(),
            Matrix::new(dy.as_slice(), [tokens, d_out]),
            0.0,
        );
        in_dtype(tensor(db, [rank, d_out]), dtype)
    }

    fn low_rank_a_backward(
        x: FloatTensor<Self>,
        d_thin: FloatTensor<Self>,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self> {
        let (dtype, [tokens, d_in], [_, rank]) = (d_thin.dtype(), dims(&x), dims(&d_thin));
        let (x, d_thin) = (Values::of(x), Values::of(d_thin));
        let d_thin = Matrix::new(d_thin.as_slice(), [tokens, rank]);
        let da = match dropout {
            None => product(Matrix::new(x.as_slice(), [tokens, d_in]).t(), d_thin),
            Some(dropout) => {
                let x = dropout.applied(x.as_slice());
                product(Matrix::new(&x, [tokens, d_in]).t(), d_thin)
            }
        };
        in_dtype(tensor(da, [d_in, rank]), dtype)
    }

    fn low_rank_x_backward(
        d_thin: FloatTensor<Self>,
        a: FloatTensor<Self>,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self> {
        let (dtype, [tokens, rank], [d_in, _]) = (d_thin.dtype(), dims(&d_thin), dims(&a));
        let (d_thin, a) = (Values::of(d_thin), Values::of(a));
        let dx = product(
            Matrix::new(d_thin.as_slice(), [tokens, rank]),
            Matrix::new(a.as_slice(), [d_in, rank]).t(),
        );
        let dx = match dropout {
            None => dx,
            Some(dropout) => dropout.applied(&dx),
        };
        in_dtype(tensor(dx, [tokens, d_in]), dtype)
    }
}

impl<B: LowRankOps, C: CheckpointStrategy> LowRankOps for Autodiff<B, C> {
    fn add_low_rank(
        y: FloatTensor<Self>,
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scaling: f64,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct LowRankBackward;

        #[derive(Debug, Clone)]
        struct State<B: Backend> {
            x: FloatTensor<B>,
            a: FloatTensor<B>,
            b: FloatTensor<B>,
            thin: FloatTensor<B>,
            scaling: f64,
            dropout: Option<Dropout>,
        }

        impl<B: LowRankOps> Backward<B, 4> for LowRankBackward {
            type State = State<B>;

            fn backward(
                self,
                ops: Ops<Self::State, 4>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let dy = grads.consume::<B>(&ops.node);
                let [node_y, node_x, node_a, node_b] = ops.parents.map(|node| node.map(|n| n.id));
                let State {
                    x,
                    a,
                    b,
                    thin,
                    scaling,
                    dropout,
                } = ops.state;
                register::<B>(grads, node_b, || {
                    B::low_rank_b_backward(dy.clone(), thin, scaling)
                });
                if node_x.is_some() || node_a.is_some() {
                    let dtype = x.dtype();
                    let d_thin = B::low_rank_up_backward(dy.clone(), b, scaling);
                    register::<B>(grads, node_a, || {
                        B::low_rank_a_backward(x, d_thin.clone(), dropout)
                    });
                    register::<B>(grads, node_x, || {
                        let dx = B::low_rank_x_backward(d_thin, a, dropout);
                        cast_to::<B>(dx, dtype)
                    });
                }
                register::<B>(grads, node_y, || dy);
            }
        }

        let prep = LowRankBackward.prepare::<C>([y.node(), x.node(), a.node(), b.node()]);
        let (y, x, a, b) = (
            y.into_primitive(),
            x.into_primitive(),
            a.into_primitive(),
            b.into_primitive(),
        );
        match prep.compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let thin = B::low_rank_down(x.clone(), a.clone(), dropout);
                let out = B::low_rank_up(y, thin.clone(), b.clone(), scaling);
                let state = State::<B> {
                    x,
                    a,
                    b,
                    thin,
                    scaling,
                    dropout,
                };
                prep.finish(state, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::add_low_rank(y, x, a, b, scaling, dropout)),
        }
    }
}
