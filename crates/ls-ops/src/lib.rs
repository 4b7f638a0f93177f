//! Fused operations for LLaMA fine-tuning on [burn](https://burn.dev), each with a backward pass of
//! its own.
//!
//! burn composes a model of small operations. On its CPU backend most of them run on one thread and
//! allocate their result, and the graph keeps every result until the backward pass. This crate has
//! the few that matter, each as one operation: forward and backward run on all cores, and the graph
//! keeps only the inputs.
//!
//! | operation | what it computes |
//! |---|---|
//! | [`linear`] | `x W`, the weight in f32, f16 or bf16 in memory |
//! | [`TiledWeight`] | `x W`, the weight cut into the tiles of the CPU's product |
//! | [`add_low_rank`] | `y + scaling * (dropout(x) A) B` |
//! | [`rms_norm`] | root mean square normalisation |
//! | [`glu`], [`joined_glu`] | `silu(gate) * up`, or GELU for SiLU |
//! | [`attention`] | grouped-query attention with rotary embedding over rows laid end to end |
//! | [`dropout`] | dropout whose mask is a seed |
//! | [`join`] | many small tensors as one buffer |
//! | [`adam_moments`], [`adam_values`] | a step of AdamW over such a buffer |
//!
//! On the CPU (`flex`) they are kernels over slices: matrix products by rten-gemm, and loops
//! compiled for the instruction set that is found at run time. On burn's Cube backend (`cuda`,
//! `wgpu`) they are burn's matrix products and CubeCL kernels. On other backends they are burn's
//! own operations, and burn's backward pass. [`device`] has what a program settles before its first
//! use of one.

mod activation;
mod adam;
mod attention;
mod autodiff;
pub mod device;
mod dropout;
mod dtype;
mod glu;
mod join;
mod linear;
mod low_rank;
mod norm_scale;
mod pull_back;
mod rms_norm;
mod tiled;

#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "flex")]
mod gemm;
#[cfg(feature = "flex")]
mod host;
#[cfg(feature = "flex")]
mod uninit;

pub use activation::Activation;
pub use adam::{AdamStep, adam_moments, adam_values};
pub use attention::{AttentionPlan, PlacedPlan, RotaryTable, Segment, attention};
pub use dropout::{Dropout, dropout, seed_dropout};
pub use glu::{glu, joined_glu};
pub use join::join;
pub use linear::{LinearOps, linear, linear_graph};
pub use low_rank::add_low_rank;
pub use norm_scale::NormScale;
pub use pull_back::pull_back;
pub use rms_norm::rms_norm;
pub use tiled::TiledWeight;

use burn::backend::DispatchDevice;
use burn::tensor::Device;

/// Whether the operations were built for a device. If not, the functions fall back to burn's own
/// operations.
#[must_use]
pub fn is_supported(device: &Device) -> bool {
    match device.clone().inner().as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => true,
        #[allow(unreachable_patterns)]
        _ => false,
    }
}

/// Whether a device computes on the host, where the kernels run.
#[must_use]
pub fn is_host(device: &Device) -> bool {
    match device.clone().inner().as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[allow(unreachable_patterns)]
        _ => false,
    }
}

/// Makes tensors that stay, such as frozen weights, in memory of their own where the device's
/// allocator has such: of their exact size, and apart from the pages that a step uses again and
/// again.
pub fn allocate_to_stay<T: Send>(device: &Device, make: impl FnOnce() -> T + Send) -> T {
    #[cfg(feature = "cube")]
    if let DispatchDevice::Cube(cube) = device.clone().inner().as_dispatch() {
        // Values from the host are placed by this thread; those that operations make, by fusion's.
        let make = std::sync::Mutex::new(Some(make));
        let made = device.memory_persistent_allocations((), |()| {
            let make = make.lock().ok().and_then(|mut make| make.take());
            make.map(|make| cube.client().memory_persistent_allocation((), |()| make()))
        });
        return made.expect("the closure is called once");
    }
    // Other backends have one kind of memory.
    let _ = device;
    make()
}

#[cfg(all(doctest, feature = "flex"))]
#[doc = include_str!("../README.md")]
struct Readme;
