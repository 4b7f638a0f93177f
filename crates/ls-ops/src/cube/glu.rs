//! The kernels of [`glu`](crate::glu()), computed in f32 whatever the dtype.

use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::{by_unit, contiguous, element, empty};
use crate::activation::{Activation, GELU, GELU_CUBED};

/// What the sigmoid is of.
#[cube]
fn inner<N: Size>(gate: Vector<f32, N>, #[comptime] activation: Activation) -> Vector<f32, N> {
    match comptime!(activation) {
        Activation::Silu => gate,
        Activation::GeluTanh => gate * (Vector::new(GELU) + Vector::new(GELU_CUBED) * gate * gate),
    }
}

/// The slope of that.
#[cube]
fn inner_slope<N: Size>(
    gate: Vector<f32, N>,
    #[comptime] activation: Activation,
) -> Vector<f32, N> {
    match comptime!(activation) {
        Activation::Silu => Vector::new(1.0f32),
        Activation::GeluTanh => Vector::new(GELU) + Vector::new(3.0f32 * GELU_CUBED) * gate * gate,
    }
}

/// A unit for each vector of elements.
#[cube(launch)]
fn forward_kernel<F: Float, N: Size>(
    gate: &Tensor<Vector<F, N>>,
    up: &Tensor<Vector<F, N>>,
    y: &mut Tensor<Vector<F, N>>,
    len: u32,
    #[comptime] activation: Activation,
    #[define(F)] _element: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at as u32 >= len {
        terminate!();
    }
    let one = Vector::<f32, N>::new(1.0f32);
    let gate = Vector::<f32, N>::cast_from(gate[at]);
    let sigmoid = one / (one + (Vector::new(0.0f32) - inner::<N>(gate, activation)).exp());
    y[at] = Vector::cast_from(gate * sigmoid * Vector::<f32, N>::cast_from(up[at]));
}

/// The gradients of both: `(x sigmoid(k))' = sigmoid + x sigmoid (1 - sigmoid) k'`.
#[cube(launch)]
fn backward_kernel<F: Float, N: Size>(
    gate: &Tensor<Vector<F, N>>,
    up: &Tensor<Vector<F, N>>,
    dy: &Tensor<Vector<F, N>>,
    d_gate: &mut Tensor<Vector<F, N>>,
    d_up: &mut Tensor<Vector<F, N>>,
    len: u32,
    #[comptime] activation: Activation,
    #[define(F)] _element: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at as u32 >= len {
        terminate!();
    }
    let one = Vector::<f32, N>::new(1.0f32);
    let gate = Vector::<f32, N>::cast_from(gate[at]);
    let dy = Vector::<f32, N>::cast_from(dy[at]);
    let sigmoid = one / (one + (Vector::new(0.0f32) - inner::<N>(gate, activation)).exp());
    let value = gate * sigmoid;
    let slope = sigmoid + value * (one - sigmoid) * inner_slope::<N>(gate, activation);
    d_gate[at] = Vector::cast_from(dy * Vector::<f32, N>::cast_from(up[at]) * slope);
    d_up[at] = Vector::cast_from(dy * value);
}

/// Elements that a unit takes at a time.
fn vector_size(len: usize) -> usize {
    if len.is_multiple_of(4) { 4 } else { 1 }
}

pub(crate) fn forward(gate: CubeTensor, up: CubeTensor, activation: Activation) -> CubeTensor {
    let [gate, up] = [gate, up].map(contiguous);
    let y = empty(&gate, gate.meta.shape().clone(), gate.dtype);
    let len = y.meta.num_elements();
    if len == 0 {
        return y;
    }
    let vector = vector_size(len);
    let (count, dim) = by_unit(&gate, len / vector);
    let dtype = element(gate.dtype);
    forward_kernel::launch(
        &y.client,
        count,
        dim,
        vector,
        gate.into_tensor_arg(),
        up.into_tensor_arg(),
        y.clone().into_tensor_arg(),
        (len / vector) as u32,
        activation,
        dtype,
    );
    y
}

pub(crate) fn backward(
    gate: CubeTensor,
    up: CubeTensor,
    dy: CubeTensor,
    activation: Activation,
) -> (CubeTensor, CubeTensor) {
    let [gate, up, dy] = [gate, up, dy].map(contiguous);
    let shape = gate.meta.shape().clone();
    let d_gate = empty(&gate, shape.clone(), gate.dtype);
    let d_up = empty(&gate, shape, gate.dtype);
    let len = d_up.meta.num_elements();
    if len == 0 {
        return (d_gate, d_up);
    }
    let vector = vector_size(len);
    let (count, dim) = by_unit(&gate, len / vector);
    let dtype = element(gate.dtype);
    backward_kernel::launch(
        &d_up.client,
        count,
        dim,
        vector,
        gate.into_tensor_arg(),
        up.into_tensor_arg(),
        dy.into_tensor_arg(),
        d_gate.clone().into_tensor_arg(),
        d_up.clone().into_tensor_arg(),
        (len / vector) as u32,
        activation,
        dtype,
    );
    (d_gate, d_up)
}
