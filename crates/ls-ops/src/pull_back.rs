//! [`pull_back`]: a backward pass that begins in the middle.

#[cfg(feature = "flex")]
use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Gradients as Found, Shape, Tensor};

/// The gradients of the inputs of `y`, given the gradient `dy` of `y`: those of
/// `(y * dy).sum().backward()`, without computing that sum.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let x = Tensor::<2>::from_data([[1.0, 2.0]], &Device::flex().autodiff()).require_grad();
/// let dy = Tensor::<2>::from_data([[10.0, 20.0]], &Device::flex());
/// let gradients = ls_ops::pull_back(x.clone() * 3.0, dy);
/// let gradient = x.grad(&gradients).map(|gradient| gradient.into_data());
/// let gradient = gradient.and_then(|data| data.try_into_vec::<f32>().ok());
/// assert_eq!(gradient, Some(vec![30.0, 60.0]));
/// ```
///
/// # Shapes
///
/// - `y` and `dy` have one shape; `dy` is off the graph
///
/// # Panics
///
/// If the shapes differ, or `y` is not on the graph.
#[must_use]
pub fn pull_back(y: Tensor<2>, dy: Tensor<2>) -> Found {
    assert_eq!(y.dims(), dy.dims(), "a gradient for each element");
    if !crate::is_supported(&y.device()) {
        return (y * dy).sum().backward();
    }
    let scalar: Tensor<1> = Tensor::from_dispatch(<Dispatch as PullBackOps>::scalar_with_gradient(
        y.into_dispatch(),
        dy.into_dispatch(),
    ));
    scalar.backward()
}

/// On every backend that this crate is built for.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "cube"),
    Autodiff
)]
pub(crate) trait PullBackOps: Backend {
    /// A zero, `[1]`, whose gradient with respect to `y` is `dy`.
    fn scalar_with_gradient(y: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        drop(dy);
        Self::float_zeros(Shape::new([1]), &y.device(), y.dtype().into())
    }
}

#[cfg(feature = "cube")]
impl PullBackOps for burn::backend::Cube {}

#[cfg(feature = "flex")]
impl PullBackOps for Flex {}

impl<B: PullBackOps, C: CheckpointStrategy> PullBackOps for Autodiff<B, C> {
    fn scalar_with_gradient(y: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct ScalarBackward;

        impl<B: PullBackOps> Backward<B, 1> for ScalarBackward {
            type State = FloatTensor<B>;

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let dy = ops.state;
                unary::<B, _>(ops.parents, ops.node, grads, |_one| dy);
            }
        }

        let prep = ScalarBackward.prepare::<C>([y.node()]);
        let (y, dy) = (y.into_primitive(), dy.into_primitive());
        match prep.compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(dy.clone(), B::scalar_with_gradient(y, dy)),
            OpsKind::UnTracked(prep) => prep.finish(B::scalar_with_gradient(y, dy)),
        }
    }
}
