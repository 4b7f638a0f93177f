//! Kernels of our own for burn's Cube backend (CUDA, wgpu), written in CubeCL, and what they share.
//!
//! Products of matrices stay burn's, which are tuned to the device. These kernels are what lies
//! between: where burn would launch one small kernel for each step of a formula, and round to the
//! activations' dtype after each, one kernel computes it in f32. An operation reaches them through
//! its extension trait: implemented for [`CubeBackend`], and queued by the implementation for
//! `Fusion` that the macro writes.

mod attention;
mod dropout;
pub(crate) mod glu;
pub(crate) mod join;
pub(crate) mod layout;
pub(crate) mod low_rank;
pub(crate) mod rms_norm;

pub(crate) use burn_cubecl::CubeBackend;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

/// Units of a cube that computes one row together: enough for a width of some thousands, and few
/// enough for any device.
const UNITS: usize = 256;

/// A new tensor beside another, row-major without gaps, its values not set.
pub(crate) fn empty(beside: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    burn_cubecl::ops::numeric::empty_device_contiguous_dtype(
        beside.client.clone(),
        beside.device.clone(),
        shape.into(),
        dtype,
    )
}

/// Row-major without gaps, as the kernels index.
pub(crate) fn contiguous(tensor: CubeTensor) -> CubeTensor {
    burn_cubecl::kernel::into_contiguous(tensor)
}

/// Row-major, and the distance between the beginnings of rows of the last axis. CUDA's matrix
/// products leave room between rows, so that each begins at a whole number of memory accesses.
pub(crate) fn rows(tensor: CubeTensor) -> (CubeTensor, usize) {
    let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
    let axes = shape.num_dims();
    let width = shape[axes - 1];
    let pitch = if axes > 1 { strides[axes - 2] } else { width };
    let mut expected = pitch;
    let evenly = (0..axes - 1).rev().all(|axis| {
        let fits = shape[axis] == 1 || strides[axis] == expected;
        expected *= shape[axis];
        fits
    });
    if evenly && pitch >= width && (width == 1 || strides[axes - 1] == 1) {
        return (tensor, pitch);
    }
    (contiguous(tensor), width)
}

/// The element type of a dtype, as a launch takes it.
pub(crate) fn element(dtype: DType) -> ElemType {
    dtype_to_storage_type(dtype)
}

/// Cubes and units for a kernel in which each unit does one piece of `work`.
pub(crate) fn by_unit(tensor: &CubeTensor, work: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(&tensor.client, work);
    let count = cubecl::calculate_cube_count_elemwise(&tensor.client, work, dim);
    (count, dim)
}

/// Cubes and units for a kernel in which each cube does one of `rows`, of `width` elements. The
/// number of units is a power of two, and each has an element if there are as many.
pub(crate) fn by_row(tensor: &CubeTensor, rows: usize, width: usize) -> (CubeCount, CubeDim) {
    let most = tensor.client.properties().hardware.max_units_per_cube as usize;
    let units = (width.next_power_of_two() / 2).clamp(32, UNITS);
    // The largest power of two that the device has room for.
    let units = units.min(1 << most.max(1).ilog2());
    let dim = CubeDim::new_1d(units as u32);
    let count = cubecl::calculate_cube_count_elemwise(&tensor.client, rows * units, dim);
    (count, dim)
}

/// How [`together`] combines the units' values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Combine {
    Sum,
    Max,
}

/// The sum or the maximum of a value of each unit of the cube, known to all of them. `shared` has a
/// place for each unit; their number is a power of two.
#[cube]
pub(crate) fn together(
    shared: &mut Shared<[f32]>,
    value: f32,
    #[comptime] units: u32,
    #[comptime] combine: Combine,
) -> f32 {
    // What was read of an earlier round is read.
    sync_cube();
    shared[UNIT_POS as usize] = value;
    sync_cube();
    let mut active = comptime!(units / 2).runtime();
    while active > 0 {
        if UNIT_POS < active {
            let other = shared[(UNIT_POS + active) as usize];
            let own = shared[UNIT_POS as usize];
            if comptime!(combine == Combine::Sum) {
                shared[UNIT_POS as usize] = own + other;
            } else {
                shared[UNIT_POS as usize] = max(own, other);
            }
        }
        sync_cube();
        active /= 2;
    }
    shared[0]
}
