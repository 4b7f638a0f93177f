//! The kernel of [`dropout`](crate::dropout()): the mask made from its seed, and the cast that
//! follows it.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::{CubeBackend, by_unit, contiguous, element, empty};
use crate::dropout::{Dropout, DropoutOps};

#[cube(launch)]
fn kernel<F: Float, O: Float>(
    x: &Tensor<F>,
    y: &mut Tensor<O>,
    len: u32,
    threshold: u32,
    scale: f32,
    first_key: u32,
    second_key: u32,
    #[define(F, O)] _elements: [ElemType; 2],
) {
    let place = ABSOLUTE_POS as u32;
    if place >= len {
        terminate!();
    }
    // `hash` of `dropout.rs`.
    let mut h = place ^ first_key;
    h = (h ^ (h >> 17u32)) * 0xED5A_D4BBu32;
    h = ((h ^ (h >> 11u32)) + second_key) * 0xAC4C_1B51u32;
    h = (h ^ (h >> 15u32)) * 0x3184_8BABu32;
    h = h ^ (h >> 14u32);
    let mut value = 0.0f32;
    if h < threshold {
        value = f32::cast_from(x[place as usize]) * scale;
    }
    y[place as usize] = O::cast_from(value);
}

impl DropoutOps for CubeBackend {
    fn drop_elements(x: CubeTensor, dropout: Dropout, dtype: DType) -> CubeTensor {
        let x = contiguous(x);
        let y = empty(&x, x.meta.shape().clone(), dtype);
        let len = y.meta.num_elements();
        if len == 0 {
            return y;
        }
        let (count, dim) = by_unit(&x, len);
        let elements = [element(x.dtype), element(dtype)];
        let [first_key, second_key] = dropout.keys;
        kernel::launch(
            &y.client,
            count,
            dim,
            x.into_tensor_arg(),
            y.clone().into_tensor_arg(),
            len as u32,
            dropout.threshold,
            dropout.scale,
            first_key,
            second_key,
            elements,
        );
        y
    }
}
