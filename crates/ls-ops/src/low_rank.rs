//! [`add_low_rank`]: what a LoRA adapter adds to a layer's output.

#[cfg(feature = "flex")]
use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor};

use crate::autodiff::register;
use crate::dropout::{Dropout, DropoutOps};
use crate::dtype::{cast_like, cast_to};

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
/// - `y` and the output: `[tokens, out]`; `x`: `[tokens, in]`; `a`: `[in, r]`; `b`: `[r, out]`
/// - `a` and `b` are of one dtype; the graph keeps `x` in its own, which is widened for one product
///   at a time; the sum is in the dtype of `y`, rounded once
///
/// # Panics
///
/// If the shapes do not fit each other.
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
        let x = match dropout {
            Some(dropout) => dropout.apply(x, a.dtype()),
            None => x.cast(a.dtype()),
        };
        let dtype = y.dtype();
        let y = y.cast(b.dtype());
        return (y + x.matmul(a).mul_scalar(scaling).matmul(b)).cast(dtype);
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
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "cube"),
    Autodiff
)]
pub(crate) trait LowRankOps: DropoutOps {
    /// `y + scaling * (dropout(x) A) B`.
    #[fusion(default)]
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
    #[fusion(default)]
    fn low_rank_down(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self> {
        Self::float_matmul(dropped::<Self>(x, dropout, a.dtype()), a)
    }

    /// `y + scaling * thin B`, in the dtype of `y`.
    #[fusion(dtype = y, shape = y)]
    fn low_rank_up(
        y: FloatTensor<Self>,
        thin: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scaling: f64,
    ) -> FloatTensor<Self> {
        portable_up::<Self>(y, thin, b, scaling)
    }

    /// The gradient of the thin product: `scaling * dy Bᵀ`.
    #[fusion(default)]
    fn low_rank_up_backward(
        dy: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scaling: f64,
    ) -> FloatTensor<Self> {
        let thin = Self::float_matmul(dy, Self::float_transpose(b));
        Self::float_mul_scalar(thin, scaling.into())
    }

    /// The gradient of B: `scaling * thinᵀ dy`.
    #[fusion(default)]
    fn low_rank_b_backward(
        dy: FloatTensor<Self>,
        thin: FloatTensor<Self>,
        scaling: f64,
    ) -> FloatTensor<Self> {
        let db = Self::float_matmul(Self::float_transpose(thin), dy);
        Self::float_mul_scalar(db, scaling.into())
    }

    /// The gradient of A: `dropout(x)ᵀ d_thin`.
    #[fusion(default)]
    fn low_rank_a_backward(
        x: FloatTensor<Self>,
        d_thin: FloatTensor<Self>,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self> {
        let x = dropped::<Self>(x, dropout, d_thin.dtype());
        Self::float_matmul(Self::float_transpose(x), d_thin)
    }

    /// The gradient of x: `dropout(d_thin Aᵀ)`, in `dtype`.
    #[fusion(default)]
    fn low_rank_x_backward(
        d_thin: FloatTensor<Self>,
        a: FloatTensor<Self>,
        dropout: Option<Dropout>,
        dtype: DType,
    ) -> FloatTensor<Self> {
        let dx = Self::float_matmul(d_thin, Self::float_transpose(a));
        dropped::<Self>(dx, dropout, dtype)
    }
}

/// `y + scaling * thin B` by operations that every backend has.
fn portable_up<B: Backend>(
    y: FloatTensor<B>,
    thin: FloatTensor<B>,
    b: FloatTensor<B>,
    scaling: f64,
) -> FloatTensor<B> {
    let dtype = y.dtype();
    let wide = B::float_matmul(B::float_mul_scalar(thin, scaling.into()), b);
    let y = cast_like::<B>(y, &wide);
    cast_to::<B>(B::float_add(y, wide), dtype)
}

/// `dropout(x)` in a dtype.
fn dropped<B: DropoutOps>(
    x: FloatTensor<B>,
    dropout: Option<Dropout>,
    dtype: DType,
) -> FloatTensor<B> {
    match dropout {
        Some(dropout) => B::drop_elements(x, dropout, dtype),
        None => cast_to::<B>(x, dtype),
    }
}

#[cfg(feature = "cube")]
impl LowRankOps for crate::cube::CubeBackend {
    fn low_rank_up(
        y: FloatTensor<Self>,
        thin: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scaling: f64,
    ) -> FloatTensor<Self> {
        /// Up to this rank the kernel reads and writes `y` longer than it multiplies.
        const THIN: usize = 64;
        let [_, rank] = thin.shape().dims();
        if rank <= THIN {
            crate::cube::low_rank::up(y, thin, b, scaling)
        } else {
            portable_up::<Self>(y, thin, b, scaling)
        }
    }
}

#[cfg(feature = "flex")]
use {
    crate::gemm::{Matrix, accumulate, product},
    crate::host::{Values, dims, in_dtype, tensor},
};

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
        dtype: DType,
    ) -> FloatTensor<Self> {
        let ([tokens, rank], [d_in, _]) = (dims(&d_thin), dims(&a));
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
                let wide = cast_like::<B>(dy.clone(), &b);
                register::<B>(grads, node_b, || {
                    B::low_rank_b_backward(wide.clone(), thin, scaling)
                });
                if node_x.is_some() || node_a.is_some() {
                    let dtype = x.dtype();
                    let d_thin = B::low_rank_up_backward(wide, b, scaling);
                    register::<B>(grads, node_a, || {
                        B::low_rank_a_backward(x, d_thin.clone(), dropout)
                    });
                    register::<B>(grads, node_x, || {
                        B::low_rank_x_backward(d_thin, a, dropout, dtype)
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
