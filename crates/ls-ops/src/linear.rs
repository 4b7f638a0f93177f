//! [`linear`]: the product with a weight that is usually frozen.

#[cfg(feature = "flex")]
use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};

use crate::autodiff::register;
use crate::dtype::cast_like;

/// `x W`, in the dtype of `x`. A weight that is not on the graph is frozen: no gradient of it is
/// formed, and the graph does not keep `x`.
///
/// The weight may be f16 or bf16 with an f32 input: the CPU widens it a part at a time, so that
/// memory never holds the whole of it in f32.
///
/// ```
/// use burn::tensor::{DType, Device, Tensor};
///
/// let device = Device::flex();
/// let x = Tensor::<2>::from_data([[1.0, 2.0]], &device);
/// let weight = Tensor::<2>::from_data([[1.0, 0.5, -1.0], [0.0, 0.25, 2.0]], &device);
/// let y = ls_ops::linear(x, weight.cast(DType::BF16));
/// assert_eq!(y.into_data().try_into_vec::<f32>().ok(), Some(vec![1.0, 1.0, 3.0]));
/// ```
///
/// # Shapes
///
/// - `x`: `[tokens, in]`; `weight`: `[in, out]`; output: `[tokens, out]`
///
/// # Panics
///
/// If the shapes do not fit each other.
#[must_use]
pub fn linear(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    check(&x, &weight);
    if !crate::is_supported(&x.device()) {
        let dtype = x.dtype();
        return x.matmul(weight.cast(dtype));
    }
    Tensor::from_dispatch(<Dispatch as LinearOps>::product(
        x.into_dispatch(),
        weight.into_dispatch(),
    ))
}

/// [`linear`] without its value: the gradients are those of [`linear`], the result is zeros.
///
/// Gradient checkpointing uses it for the last product of a block that runs again only for its
/// backward pass.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let x = Tensor::<2>::from_data([[1.0, 2.0]], &Device::flex().autodiff()).require_grad();
/// let weight = Tensor::<2>::from_data([[3.0], [4.0]], &Device::flex());
/// let gradients = ls_ops::linear_graph(x.clone(), weight).sum().backward();
/// let gradient = x.grad(&gradients).map(|gradient| gradient.into_data());
/// let gradient = gradient.and_then(|data| data.try_into_vec::<f32>().ok());
/// assert_eq!(gradient, Some(vec![3.0, 4.0]));
/// ```
///
/// # Shapes
///
/// As those of [`linear`].
///
/// # Panics
///
/// If the shapes do not fit each other.
#[must_use]
pub fn linear_graph(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    check(&x, &weight);
    if !crate::is_supported(&x.device()) {
        return linear(x, weight);
    }
    Tensor::from_dispatch(<Dispatch as LinearOps>::product_graph(
        x.into_dispatch(),
        weight.into_dispatch(),
    ))
}

fn check(x: &Tensor<2>, weight: &Tensor<2>) {
    let (input, rows) = (x.dims()[1], weight.dims()[0]);
    assert_eq!(input, rows, "the input's last axis is the weight's first");
}

/// The products below the graph, for operations of other crates that multiply by a weight, on every
/// backend that this crate is built for. The default bodies are portable.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "cube"),
    Autodiff
)]
pub trait LinearOps: Backend {
    /// `x W`, in the dtype of `x`; `x` is `[tokens, in]`, the weight `[in, out]`.
    fn product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let weight = cast_like::<Self>(weight, &x);
        Self::float_matmul(x, weight)
    }

    /// Zeros in the shape of [`LinearOps::product`], as the value of a node of the graph.
    fn product_graph(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let ([tokens, _], [_, columns]) = (x.shape().dims(), weight.shape().dims());
        let shape = Shape::new([tokens, columns]);
        Self::float_zeros(shape, &x.device(), x.dtype().into())
    }

    /// `y Wᵀ`, in the dtype of `y`; `y` is `[tokens, out]`, the weight `[in, out]`.
    fn product_transposed(y: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let weight = cast_like::<Self>(weight, &y);
        Self::float_matmul(y, Self::float_transpose(weight))
    }

    /// The gradient of the weight: `xᵀ dy`, in the dtype of `x`.
    fn weight_gradient(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(Self::float_transpose(x), dy)
    }
}

#[cfg(feature = "cube")]
impl LinearOps for burn::backend::Cube {}

#[cfg(feature = "flex")]
impl LinearOps for Flex {
    fn product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = x.dtype();
        let ([tokens, _], [_, columns]) = (host::dims(&x), host::dims(&weight));
        let x = host::Values::of(x);
        let y = flex::multiply(x.as_slice(), tokens, weight);
        host::in_dtype(host::tensor(y, [tokens, columns]), dtype)
    }

    fn product_transposed(y: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = y.dtype();
        let ([tokens, _], [rows, _]) = (host::dims(&y), host::dims(&weight));
        let y = host::Values::of(y);
        let x = flex::multiply_transposed(y.as_slice(), tokens, weight);
        host::in_dtype(host::tensor(x, [tokens, rows]), dtype)
    }

    fn weight_gradient(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        use crate::gemm::{Matrix, product};

        let dtype = x.dtype();
        let ([tokens, rows], [_, columns]) = (host::dims(&x), host::dims(&dy));
        let (x, dy) = (host::Values::of(x), host::Values::of(dy));
        let gradient = product(
            Matrix::new(x.as_slice(), [tokens, rows]).t(),
            Matrix::new(dy.as_slice(), [tokens, columns]),
        );
        host::in_dtype(host::tensor(gradient, [rows, columns]), dtype)
    }
}

#[cfg(feature = "flex")]
use crate::host;

/// The products on the CPU. A weight of two bytes per value is widened a part at a time, so that
/// the buffer stays in the cache.
#[cfg(feature = "flex")]
mod flex {
    use std::ops::Range;

    use burn::backend::Flex;
    use burn::backend::tensor::FloatTensor;
    use burn::tensor::{DType, bf16, f16};

    use crate::gemm::{Matrix, accumulate, product};
    use crate::host::{dims, vectorised};
    use crate::uninit::filled;

    /// Number of a weight's values that are widened at a time.
    const PART: usize = 1 << 20;

    /// `x W` for `x` of `[tokens, in]`.
    pub(super) fn multiply(x: &[f32], tokens: usize, weight: FloatTensor<Flex>) -> Vec<f32> {
        let [rows, columns] = dims(&weight);
        if tokens == 0 {
            return Vec::new();
        }
        let weight = contiguous(weight);
        if let Some(weight) = weight.as_slice::<f32>() {
            return product(
                Matrix::new(x, [tokens, rows]),
                Matrix::new(weight, [rows, columns]),
            );
        }
        let mut y = vec![0.0; tokens * columns];
        let step = (PART / columns.max(1)).max(1);
        for start in (0..rows).step_by(step) {
            let part = start..(start + step).min(rows);
            let len = part.len();
            let values = widened(&weight, columns, part, 0..columns);
            let x = Matrix::strided(&x[start..], [tokens, len], rows);
            let beta = if start == 0 { 0.0 } else { 1.0 };
            accumulate(&mut y, 1.0, x, Matrix::new(&values, [len, columns]), beta);
        }
        y
    }

    /// `y Wᵀ` for `y` of `[tokens, out]`.
    pub(super) fn multiply_transposed(
        y: &[f32],
        tokens: usize,
        weight: FloatTensor<Flex>,
    ) -> Vec<f32> {
        let [rows, columns] = dims(&weight);
        if tokens == 0 {
            return Vec::new();
        }
        let weight = contiguous(weight);
        if let Some(weight) = weight.as_slice::<f32>() {
            return product(
                Matrix::new(y, [tokens, columns]),
                Matrix::new(weight, [rows, columns]).t(),
            );
        }
        let mut x = vec![0.0; tokens * rows];
        let step = (PART / rows.max(1)).max(1);
        for start in (0..columns).step_by(step) {
            let part = start..(start + step).min(columns);
            let len = part.len();
            let values = widened(&weight, columns, 0..rows, part);
            let y = Matrix::strided(&y[start..], [tokens, len], columns);
            let beta = if start == 0 { 0.0 } else { 1.0 };
            accumulate(&mut x, 1.0, y, Matrix::new(&values, [rows, len]).t(), beta);
        }
        x
    }

    fn contiguous(weight: FloatTensor<Flex>) -> FloatTensor<Flex> {
        if weight.is_contiguous() {
            weight
        } else {
            weight.to_contiguous()
        }
    }

    /// A part of a weight of two bytes per value as f32.
    fn widened(
        weight: &FloatTensor<Flex>,
        stride: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Vec<f32> {
        let width = columns.len();
        // Whole rows, some ten thousand values a task.
        let rows_of_task = (1usize << 14).div_ceil(width.max(1));
        let widen = |read: &(dyn Fn(usize, &mut crate::uninit::Uninit<'_>) + Sync)| {
            filled(rows.len() * width, rows_of_task * width, |task, out| {
                let first = rows.start + task * rows_of_task;
                let count = rows_of_task.min(rows.end - first);
                for row in first..first + count {
                    read(row * stride + columns.start, out);
                }
            })
        };
        match weight.dtype() {
            DType::BF16 => {
                let values = weight.as_slice::<bf16>().unwrap_or_default();
                widen(&|start, out| {
                    let values = &values[start..][..width];
                    vectorised(
                        #[inline(always)]
                        || {
                            out.write(
                                width,
                                #[inline(always)]
                                |i| f32::from_bits(u32::from(values[i].to_bits()) << 16),
                            );
                        },
                    );
                })
            }
            DType::F16 => {
                let values = weight.as_slice::<f16>().unwrap_or_default();
                widen(&|start, out| {
                    let values = &values[start..][..width];
                    out.write(width, |i| values[i].to_f32());
                })
            }
            other => panic!("a weight is f32, f16 or bf16, not {other:?}"),
        }
    }
}

impl<B: LinearOps, C: CheckpointStrategy> LinearOps for Autodiff<B, C> {
    fn product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        tracked::<B, C>(x, weight, B::product)
    }

    fn product_graph(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        tracked::<B, C>(x, weight, B::product_graph)
    }
}

/// The node of a product; `forward` gives its value.
fn tracked<B: LinearOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    forward: fn(FloatTensor<B>, FloatTensor<B>) -> FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    #[derive(Debug)]
    struct LinearBackward;

    #[derive(Debug, Clone)]
    struct State<B: Backend> {
        /// Only for a weight that trains.
        x: Option<FloatTensor<B>>,
        weight: FloatTensor<B>,
    }

    impl<B: LinearOps> Backward<B, 2> for LinearBackward {
        type State = State<B>;

        fn backward(
            self,
            ops: Ops<Self::State, 2>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            let dy = grads.consume::<B>(&ops.node);
            let [node_x, node_weight] = ops.parents.map(|node| node.map(|node| node.id));
            let State { x, weight } = ops.state;
            if let Some(x) = x {
                register::<B>(grads, node_weight, || {
                    cast_like::<B>(B::weight_gradient(x, dy.clone()), &weight)
                });
            }
            register::<B>(grads, node_x, || B::product_transposed(dy, weight));
        }
    }

    let trains = weight.is_tracked();
    let prep = LinearBackward.prepare::<C>([x.node(), weight.node()]);
    let (x, weight) = (x.into_primitive(), weight.into_primitive());
    match prep.compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let state = State::<B> {
                x: trains.then(|| x.clone()),
                weight: weight.clone(),
            };
            prep.finish(state, forward(x, weight))
        }
        OpsKind::UnTracked(prep) => prep.finish(forward(x, weight)),
    }
}
