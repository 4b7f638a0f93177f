//! Unpacking a weight on burn's Cube backend (CUDA, wgpu): one kernel, from words to the dtype of
//! the product that reads it.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::codes::BLOCK;

/// A unit for each word: neighbours read and write neighbouring columns.
#[cube(launch)]
fn unpack_kernel<S: Float, F: Float>(
    scales: &Tensor<S>,
    codes: &Tensor<i32>,
    table: &Tensor<f32>,
    weight: &mut Tensor<F>,
    words: u32,
    columns: u32,
    rows: u32,
    #[comptime] bits: u32,
    #[define(S, F)] _elements: [ElemType; 2],
) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= words * columns {
        terminate!();
    }
    let column = unit % columns;
    let per_word = comptime!(32 / bits);
    let row = unit / columns * per_word;
    // Words do not cross blocks.
    let scale = row / comptime!(BLOCK as u32) * columns + column;
    let scale = f32::cast_from(scales[scale as usize]);
    let word = codes[unit as usize] as u32;
    #[unroll]
    for at in 0..per_word {
        if row + at < rows {
            let code = (word >> (at * bits)) & comptime!((1u32 << bits) - 1);
            let value = table[code as usize] * scale;
            weight[((row + at) * columns + column) as usize] = F::cast_from(value);
        }
    }
}

/// The unpacked weight, `[rows, columns]`, in `dtype`.
pub(super) fn unpack_weight(
    scales: CubeTensor,
    codes: CubeTensor,
    table: CubeTensor,
    rows: usize,
    bits: usize,
    dtype: DType,
) -> CubeTensor {
    let [scales, codes, table] = [scales, codes, table].map(into_contiguous);
    let [words, columns] = codes.meta.shape().dims();
    let weight = empty_device_contiguous_dtype(
        codes.client.clone(),
        codes.device.clone(),
        Shape::new([rows, columns]),
        dtype,
    );
    if words * columns == 0 {
        return weight;
    }
    let dim = CubeDim::new(&codes.client, words * columns);
    let count = cubecl::calculate_cube_count_elemwise(&codes.client, words * columns, dim);
    let elements = [scales.dtype, dtype].map(dtype_to_storage_type);
    unpack_kernel::launch(
        &weight.client,
        count,
        dim,
        scales.into_tensor_arg(),
        codes.into_tensor_arg(),
        table.into_tensor_arg(),
        weight.clone().into_tensor_arg(),
        words as u32,
        columns as u32,
        rows as u32,
        bits as u32,
        elements,
    );
    weight
}
