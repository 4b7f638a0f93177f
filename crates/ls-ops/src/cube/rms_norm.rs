//! The kernels of [`rms_norm`](crate::rms_norm()): a cube of units for each token.

use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::{Combine, by_row, contiguous, element, empty, together};
use crate::norm_scale::NormScale;

/// `x / sqrt(mean(x²) + eps)` times the weight and `offset`; with `rounds_first` both factors are
/// rounded to the dtype of `x`.
#[cube(launch)]
fn forward_kernel<F: Float, W: Float>(
    x: &Tensor<F>,
    weight: &Tensor<W>,
    y: &mut Tensor<F>,
    tokens: u32,
    width: u32,
    eps: f32,
    offset: f32,
    #[comptime] rounds_first: bool,
    #[comptime] units: u32,
    #[define(F, W)] _elements: [ElemType; 2],
) {
    let token = CUBE_POS as u32;
    if token >= tokens {
        terminate!();
    }
    let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
    let start = token * width;
    let mut square = 0.0f32;
    let mut at = UNIT_POS;
    while at < width {
        let value = f32::cast_from(x[(start + at) as usize]);
        square += value * value;
        at += units;
    }
    let square = together(&mut shared, square, units, Combine::Sum);
    let scale = 1.0f32 / (square / f32::cast_from(width) + eps).sqrt();
    let mut at = UNIT_POS;
    while at < width {
        let value = f32::cast_from(x[(start + at) as usize]);
        if comptime!(rounds_first) {
            // As they are multiplied in the activations' dtype.
            let normal = f32::cast_from(F::cast_from(value * scale));
            let factor = f32::cast_from(F::cast_from(weight[at as usize]));
            y[(start + at) as usize] = F::cast_from(normal * factor);
        } else {
            let factor = f32::cast_from(weight[at as usize]) + offset;
            y[(start + at) as usize] = F::cast_from(value * scale * factor);
        }
        at += units;
    }
}

/// The gradient of x, with `f` the weight and `offset`:
/// `scale * (dy * f - mean(dy * f * x) * scale² * x)`.
#[cube(launch)]
fn backward_kernel<F: Float, W: Float>(
    x: &Tensor<F>,
    weight: &Tensor<W>,
    dy: &Tensor<F>,
    dx: &mut Tensor<F>,
    tokens: u32,
    width: u32,
    eps: f32,
    offset: f32,
    #[comptime] units: u32,
    #[define(F, W)] _elements: [ElemType; 2],
) {
    let token = CUBE_POS as u32;
    if token >= tokens {
        terminate!();
    }
    let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
    let start = token * width;
    let mut square = 0.0f32;
    let mut along = 0.0f32;
    let mut at = UNIT_POS;
    while at < width {
        let value = f32::cast_from(x[(start + at) as usize]);
        let factor = f32::cast_from(weight[at as usize]) + offset;
        let gradient = f32::cast_from(dy[(start + at) as usize]) * factor;
        square += value * value;
        along += value * gradient;
        at += units;
    }
    let square = together(&mut shared, square, units, Combine::Sum);
    let along = together(&mut shared, along, units, Combine::Sum);
    let count = f32::cast_from(width);
    let scale = 1.0f32 / (square / count + eps).sqrt();
    let along = along / count * scale * scale;
    let mut at = UNIT_POS;
    while at < width {
        let value = f32::cast_from(x[(start + at) as usize]);
        let factor = f32::cast_from(weight[at as usize]) + offset;
        let gradient = f32::cast_from(dy[(start + at) as usize]) * factor;
        dx[(start + at) as usize] = F::cast_from(scale * (gradient - along * value));
        at += units;
    }
}

pub(crate) fn forward(x: CubeTensor, weight: CubeTensor, scale: NormScale, eps: f64) -> CubeTensor {
    let (x, weight) = (contiguous(x), contiguous(weight));
    let [tokens, width] = sizes(&x);
    let y = empty(&x, [tokens, width], x.dtype);
    if tokens * width == 0 {
        return y;
    }
    let (count, dim) = by_row(&x, tokens, width);
    let elements = [element(x.dtype), element(weight.dtype)];
    forward_kernel::launch(
        &y.client,
        count,
        dim,
        x.into_tensor_arg(),
        weight.into_tensor_arg(),
        y.clone().into_tensor_arg(),
        tokens as u32,
        width as u32,
        eps as f32,
        scale.offset(),
        scale.rounds_first(),
        dim.num_elems(),
        elements,
    );
    y
}

pub(crate) fn backward(
    x: CubeTensor,
    weight: CubeTensor,
    dy: CubeTensor,
    scale: NormScale,
    eps: f64,
) -> CubeTensor {
    let (x, weight, dy) = (contiguous(x), contiguous(weight), contiguous(dy));
    let [tokens, width] = sizes(&x);
    let dx = empty(&x, [tokens, width], x.dtype);
    if tokens * width == 0 {
        return dx;
    }
    let (count, dim) = by_row(&x, tokens, width);
    let elements = [element(x.dtype), element(weight.dtype)];
    backward_kernel::launch(
        &dx.client,
        count,
        dim,
        x.into_tensor_arg(),
        weight.into_tensor_arg(),
        dy.into_tensor_arg(),
        dx.clone().into_tensor_arg(),
        tokens as u32,
        width as u32,
        eps as f32,
        scale.offset(),
        dim.num_elems(),
        elements,
    );
    dx
}

fn sizes(x: &CubeTensor) -> [usize; 2] {
    x.meta.shape().dims()
}
