//! [`glu`]: the gated product of the MLP; [`joined_glu`]: of gate and up in one tensor.

#[cfg(feature = "flex")]
use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Shape, Slice, Tensor};

use crate::activation::{Activation, GELU, GELU_CUBED};
use crate::autodiff::register;

/// `activation(gate) * up` (arXiv 2002.05202).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use ls_ops::Activation;
///
/// let device = Device::flex();
/// let gate = Tensor::<2>::from_data([[0.0, 1.0, -2.0]], &device);
/// let up = Tensor::<2>::from_data([[5.0, 2.0, 3.0]], &device);
/// let y = ls_ops::glu(gate, up, Activation::Silu);
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
pub fn glu(gate: Tensor<2>, up: Tensor<2>, activation: Activation) -> Tensor<2> {
    assert_eq!(gate.dims(), up.dims(), "gate and up have one shape");
    assert_eq!(gate.dtype(), up.dtype(), "gate and up have one dtype");
    if !crate::is_supported(&gate.device()) {
        let inner = match activation {
            Activation::Silu => gate.clone(),
            Activation::GeluTanh => {
                let factor = gate.clone().square().mul_scalar(GELU_CUBED);
                gate.clone() * factor.add_scalar(GELU)
            }
        };
        return gate * sigmoid(inner) * up;
    }
    Tensor::from_dispatch(<Dispatch as GluOps>::glu(
        gate.into_dispatch(),
        up.into_dispatch(),
        activation,
    ))
}

/// [`glu`] of the two halves of each row, the gate first. The gradient is put together once: those
/// of two parts of a tensor would both be as wide as the whole, with zeros.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use ls_ops::Activation;
///
/// let device = Device::flex();
/// let gate_up = Tensor::<2>::from_data([[0.0, 1.0, 5.0, 2.0]], &device);
/// let y = ls_ops::joined_glu(gate_up, Activation::Silu);
/// let expected = Tensor::<2>::from_data([[0.0, 2.0 * 0.7310586]], &device);
/// assert!(y.all_close(expected, None, Some(1e-6)));
/// ```
///
/// # Shapes
///
/// - `gate_up`: `[tokens, 2 * width]`; output: `[tokens, width]`
///
/// # Panics
///
/// If rows have no halves.
#[must_use]
pub fn joined_glu(gate_up: Tensor<2>, activation: Activation) -> Tensor<2> {
    let [_, both] = gate_up.dims();
    assert!(both.is_multiple_of(2), "{both} columns have no halves");
    if !crate::is_supported(&gate_up.device()) {
        let gate = gate_up.clone().narrow(1, 0, both / 2);
        return glu(gate, gate_up.narrow(1, both / 2, both / 2), activation);
    }
    Tensor::from_dispatch(<Dispatch as JoinedGluOps>::joined_glu(
        gate_up.into_dispatch(),
        activation,
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
pub(crate) trait GluOps: Backend {
    /// `activation(gate) * up`.
    #[fusion(dtype = gate, shape = gate)]
    fn glu(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let (inner, _) = inner::<Self>(gate.clone(), activation);
        Self::float_mul(Self::float_mul(gate, Self::sigmoid(inner)), up)
    }

    /// The gradients of gate and up.
    #[fusion(meta = |gate, up, _dy, _activation| (Clone::clone(gate), Clone::clone(up)))]
    fn glu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (inner, slope) = inner::<Self>(gate.clone(), activation);
        let sigmoid = Self::sigmoid(inner);
        let value = Self::float_mul(gate, sigmoid.clone());
        let d_up = Self::float_mul(dy.clone(), value.clone());
        // (x sigmoid(k))' = sigmoid + x sigmoid (1 - sigmoid) k'
        let rest = Self::float_mul(value.clone(), sigmoid.clone());
        let mut rest = Self::float_sub(value, rest);
        if let Some(slope) = slope {
            rest = Self::float_mul(rest, slope);
        }
        let d_gate = Self::float_mul(dy, up);
        (
            Self::float_mul(d_gate, Self::float_add(sigmoid, rest)),
            d_up,
        )
    }
}

/// What the sigmoid is of, and its slope where that is not 1.
fn inner<B: Backend>(
    gate: FloatTensor<B>,
    activation: Activation,
) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    match activation {
        Activation::Silu => (gate, None),
        Activation::GeluTanh => {
            let square = B::float_mul(gate.clone(), gate.clone());
            let with = |cubed: f32| {
                let scaled = B::float_mul_scalar(square.clone(), cubed.into());
                B::float_add_scalar(scaled, GELU.into())
            };
            (
                B::float_mul(gate, with(GELU_CUBED)),
                Some(with(3.0 * GELU_CUBED)),
            )
        }
    }
}

#[cfg(feature = "cube")]
impl GluOps for crate::cube::CubeBackend {
    fn glu(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        crate::cube::glu::forward(gate, up, activation)
    }

    fn glu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        crate::cube::glu::backward(gate, up, dy, activation)
    }
}

#[cfg(feature = "flex")]
impl GluOps for Flex {
    fn glu(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        use crate::host::{gelu_tanh, silu};

        // A loop of its own for each.
        match activation {
            Activation::Silu => on_host::forward(
                gate,
                up,
                #[inline(always)]
                |x| silu(x).0,
            ),
            Activation::GeluTanh => on_host::forward(
                gate,
                up,
                #[inline(always)]
                |x| gelu_tanh(x).0,
            ),
        }
    }

    fn glu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        use crate::host::{gelu_tanh, silu};

        match activation {
            Activation::Silu => on_host::backward(gate, up, dy, silu),
            Activation::GeluTanh => on_host::backward(gate, up, dy, gelu_tanh),
        }
    }
}

#[cfg(feature = "flex")]
mod on_host {
    use burn::backend::Flex;
    use burn::backend::tensor::FloatTensor;

    use crate::host::{CHUNK, Values, dims, filled_pair, in_dtype, tensor, vectorised};
    use crate::uninit::filled;

    /// `value(gate) * up`; `value` is marked `#[inline(always)]`.
    pub(super) fn forward(
        gate: FloatTensor<Flex>,
        up: FloatTensor<Flex>,
        value: impl Fn(f32) -> f32 + Sync,
    ) -> FloatTensor<Flex> {
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
                        |i| value(gate[i]) * up[i],
                    );
                },
            );
        });
        in_dtype(tensor(y, shape), dtype)
    }

    /// The gradients of both; `value` gives its value and its slope, and is marked
    /// `#[inline(always)]`.
    pub(super) fn backward(
        gate: FloatTensor<Flex>,
        up: FloatTensor<Flex>,
        dy: FloatTensor<Flex>,
        value: impl Fn(f32) -> (f32, f32) + Sync + Copy,
    ) -> (FloatTensor<Flex>, FloatTensor<Flex>) {
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
                    let (value, slope) = value(gate[i]);
                    (dy[i] * up[i] * slope, dy[i] * value)
                }
            },
        );
        (
            in_dtype(tensor(d_gate, shape), dtype),
            in_dtype(tensor(d_up, shape), dtype),
        )
    }
}

impl<B: GluOps, C: CheckpointStrategy> GluOps for Autodiff<B, C> {
    fn glu(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct GluBackward;

        impl<B: GluOps> Backward<B, 2> for GluBackward {
            type State = (FloatTensor<B>, FloatTensor<B>, Activation);

            fn backward(
                self,
                ops: Ops<Self::State, 2>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let dy = grads.consume::<B>(&ops.node);
                let (gate, up, activation) = ops.state;
                let (d_gate, d_up) = B::glu_backward(gate, up, dy, activation);
                let [gate, up] = ops.parents;
                register::<B>(grads, gate.map(|node| node.id), || d_gate);
                register::<B>(grads, up.map(|node| node.id), || d_up);
            }
        }

        let prep = GluBackward.prepare::<C>([gate.node(), up.node()]);
        let (gate, up) = (gate.into_primitive(), up.into_primitive());
        match prep.compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::glu(gate.clone(), up.clone(), activation);
                prep.finish((gate, up, activation), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::glu(gate, up, activation)),
        }
    }
}

/// The gate over halves of one tensor.
#[backend_extension(Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"), Autodiff)]
pub(crate) trait JoinedGluOps: Backend {
    /// `activation(gate) * up` of `[gate, up]`.
    fn joined_glu(gate_up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;
}

#[cfg(feature = "cube")]
impl JoinedGluOps for burn::backend::Cube {
    fn joined_glu(gate_up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        of_halves::<Self>(gate_up, activation)
    }
}

#[cfg(feature = "flex")]
impl JoinedGluOps for Flex {
    fn joined_glu(gate_up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        of_halves::<Self>(gate_up, activation)
    }
}

fn of_halves<B: GluOps>(gate_up: FloatTensor<B>, activation: Activation) -> FloatTensor<B> {
    let [gate, up] = halves::<B>(gate_up);
    B::glu(gate, up, activation)
}

fn halves<B: Backend>(gate_up: FloatTensor<B>) -> [FloatTensor<B>; 2] {
    let [tokens, both] = gate_up.shape().dims();
    if tokens == 0 {
        // A part of nothing is no slice on the CPU.
        let empty = Shape::new([0, both / 2]);
        let empty = B::float_zeros(empty, &gate_up.device(), gate_up.dtype().into());
        return [empty.clone(), empty];
    }
    [0..both / 2, both / 2..both].map(|columns| {
        let slices = [Slice::from(0..tokens), Slice::from(columns)];
        B::float_slice(gate_up.clone(), &slices)
    })
}

impl<B: GluOps, C: CheckpointStrategy> JoinedGluOps for Autodiff<B, C> {
    fn joined_glu(gate_up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct JoinedGluBackward;

        impl<B: GluOps> Backward<B, 1> for JoinedGluBackward {
            type State = (FloatTensor<B>, Activation);

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let (gate_up, activation) = ops.state;
                unary::<B, _>(ops.parents, ops.node, grads, |dy| {
                    let [gate, up] = halves::<B>(gate_up);
                    let (d_gate, d_up) = B::glu_backward(gate, up, dy, activation);
                    B::float_cat(vec![d_gate, d_up], 1)
                });
            }
        }

        let prep = JoinedGluBackward.prepare::<C>([gate_up.node()]);
        let gate_up = gate_up.into_primitive();
        match prep.compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = of_halves::<B>(gate_up.clone(), activation);
                prep.finish((gate_up, activation), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(of_halves::<B>(gate_up, activation)),
        }
    }
}
