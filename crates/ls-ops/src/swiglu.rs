//! [`swiglu`]: the gate of LLaMA's MLP.

#[cfg(feature = "flex")]
use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn::tensor::activation::silu;

use crate::autodiff::register;

/// `silu(gate) * up` (arXiv 2002.05202).
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// let gate = Tensor::<2>::from_data([[0.0, 1.0, -2.0]], &device);
/// let up = Tensor::<2>::from_data([[5.0, 2.0, 3.0]], &device);
/// let y = ls_ops::swiglu(gate, up);
/// let expected = Tensor::<2>::from_data([[0.0, 2.0 * 0.7310586, -6.0 * 0.1192029]], &device);
/// assert!(y.all_close(expected, None, Some(1e-6)));
/// ```
///
/// # Shapes
///
/// - both and the output: `[tokens, width]`
///
/// # Panics
///
/// If the shapes or dtypes differ.
#[must_use]
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    assert_eq!(gate.dims(), up.dims(), "gate and up have one shape");
    assert_eq!(gate.dtype(), up.dtype(), "gate and up have one dtype");
    if !crate::is_supported(&gate.device()) {
        return silu(gate) * up;
    }
    Tensor::from_dispatch(<Dispatch as SwigluOps>::swiglu(
        gate.into_dispatch(),
        up.into_dispatch(),
    ))
}

/// The gate and its gradients, on every backend that this crate is built for. Bodies are the
/// portable form.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "cube"),
    Autodiff
)]
pub(crate) trait SwigluOps: Backend {
    /// `silu(gate) * up`.
    #[fusion(dtype = gate, shape = gate)]
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let sigmoid = Self::sigmoid(gate.clone());
        Self::float_mul(Self::float_mul(gate, sigmoid), up)
    }

    /// The gradients of gate and up.
    #[fusion(meta = |gate, up, _dy| (Clone::clone(gate), Clone::clone(up)))]
    fn swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        dy: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let sigmoid = Self::sigmoid(gate.clone());
        let silu = Self::float_mul(gate, sigmoid.clone());
        let d_up = Self::float_mul(dy.clone(), silu.clone());
        // silu' = sigmoid + silu (1 - sigmoid)
        let rest = Self::float_mul(silu.clone(), sigmoid.clone());
        let slope = Self::float_add(sigmoid, Self::float_sub(silu, rest));
        let d_gate = Self::float_mul(Self::float_mul(dy, up), slope);
        (d_gate, d_up)
    }
}

#[cfg(feature = "cube")]
impl SwigluOps for crate::cube::CubeBackend {
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        crate::cube::swiglu::forward(gate, up)
    }

    fn swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        dy: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        crate::cube::swiglu::backward(gate, up, dy)
    }
}

#[cfg(feature = "flex")]
impl SwigluOps for Flex {
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        use crate::host::{CHUNK, Values, dims, in_dtype, sigmoid, tensor, vectorised};
        use crate::uninit::filled;

        let (dtype, shape) = (gate.dtype(), dims(&gate));
        let (gate, up) = (Values::of(gate), Values::of(up));
        let (gate, up) = (gate.as_slice(), up.as_slice());
        let y = filled(gate.len(), CHUNK, |at, out| {
            let end = (at * CHUNK + CHUNK).min(gate.len());
            let (gate, up) = (&gate[at * CHUNK..end], &up[at * CHUNK..end]);
            vectorised(
                #[inline(always)]
                || {
                    out.write(
                        gate.len(),
                        #[inline(always)]
                        |i| gate[i] * sigmoid(gate[i]) * up[i],
                    );
                },
            );
        });
        in_dtype(tensor(y, shape), dtype)
    }

    fn swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        dy: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        use crate::host::{Values, dims, filled_pair, in_dtype, sigmoid, tensor};

        let (dtype, shape) = (gate.dtype(), dims(&gate));
        let (gate, up, dy) = (Values::of(gate), Values::of(up), Values::of(dy));
        let (gate, up, dy) = (gate.as_slice(), up.as_slice(), dy.as_slice());
        let (d_gate, d_up) = filled_pair(
            gate.len(),
            #[inline(always)]
            |part| {
                let (gate, up) = (&gate[part.clone()], &up[part.clone()]);
                let dy = &dy[part];
                #[inline(always)]
                move |i| {
                    let s = sigmoid(gate[i]);
                    let silu = gate[i] * s;
                    (dy[i] * up[i] * (s + silu * (1.0 - s)), dy[i] * silu)
                }
            },
        );
        (
            in_dtype(tensor(d_gate, shape), dtype),
            in_dtype(tensor(d_up, shape), dtype),
        )
    }
}

impl<B: SwigluOps, C: CheckpointStrategy> SwigluOps for Autodiff<B, C> {
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct SwigluBackward;

        impl<B: SwigluOps> Backward<B, 2> for SwigluBackward {
            type State = (FloatTensor<B>, FloatTensor<B>);

            fn backward(
                self,
                ops: Ops<Self::State, 2>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let dy = grads.consume::<B>(&ops.node);
                let (gate, up) = ops.state;
                let (d_gate, d_up) = B::swiglu_backward(gate, up, dy);
                let [gate, up] = ops.parents;
                register::<B>(grads, gate.map(|node| node.id), || d_gate);
                register::<B>(grads, up.map(|node| node.id), || d_up);
            }
        }

        let prep = SwigluBackward.prepare::<C>([gate.node(), up.node()]);
        let (gate, up) = (gate.into_primitive(), up.into_primitive());
        match prep.compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::swiglu(gate.clone(), up.clone());
                prep.finish((gate, up), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::swiglu(gate, up)),
        }
    }
}
