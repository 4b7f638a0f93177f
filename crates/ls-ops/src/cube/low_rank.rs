//! The kernel of [`add_low_rank`](crate::add_low_rank()) that widens the thin product and adds it:
//! one pass over the output, where products of matrices would write it, read it and round it again.

use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::{by_unit, contiguous, element, empty, rows};

/// Tokens that a unit computes for its column, so that it reads the column of B once for all.
const TOKENS: usize = 4;

/// `y + scaling * thin B`; a unit for each column of some tokens.
#[cube(launch)]
fn up_kernel<F: Float, T: Float, B: Float>(
    y: &Tensor<F>,
    thin: &Tensor<T>,
    b: &Tensor<B>,
    out: &mut Tensor<F>,
    tokens: u32,
    rank: u32,
    pitch: u32,
    width: u32,
    scaling: f32,
    #[define(F, T, B)] _elements: [ElemType; 3],
) {
    let unit = ABSOLUTE_POS as u32;
    let column = unit % width;
    let first = unit / width * comptime!(TOKENS as u32);
    if first >= tokens {
        terminate!();
    }
    let mut sums = Array::<f32>::new(TOKENS);
    #[unroll]
    for at in 0..TOKENS {
        sums[at] = 0.0f32;
    }
    for r in 0..rank {
        let weight = f32::cast_from(b[(r * width + column) as usize]);
        #[unroll]
        for at in 0..TOKENS {
            // The last tokens again where there are no more.
            let token = min(first + at as u32, tokens - 1);
            sums[at] += f32::cast_from(thin[(token * pitch + r) as usize]) * weight;
        }
    }
    #[unroll]
    for at in 0..TOKENS {
        let token = first + at as u32;
        if token < tokens {
            let place = (token * width + column) as usize;
            let value = f32::cast_from(y[place]) + sums[at] * scaling;
            out[place] = F::cast_from(value);
        }
    }
}

/// `y + scaling * thin B`, in the dtype of `y`.
pub(crate) fn up(y: CubeTensor, thin: CubeTensor, b: CubeTensor, scaling: f64) -> CubeTensor {
    let [y, b] = [y, b].map(contiguous);
    let (thin, pitch) = rows(thin);
    let ([tokens, width], [rank, _]) = (y.meta.shape().dims(), b.meta.shape().dims());
    let out = empty(&y, [tokens, width], y.dtype);
    if tokens * width == 0 {
        return out;
    }
    let (count, dim) = by_unit(&y, tokens.div_ceil(TOKENS) * width);
    let elements = [element(y.dtype), element(thin.dtype), element(b.dtype)];
    up_kernel::launch(
        &out.client,
        count,
        dim,
        y.into_tensor_arg(),
        thin.into_tensor_arg(),
        b.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        tokens as u32,
        rank as u32,
        pitch as u32,
        width as u32,
        scaling as f32,
        elements,
    );
    out
}
