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
//! | [`add_low_rank`] | `y + scaling * (dropout(x) A) B` |
//! | [`rms_norm`] | root mean square normalisation |
//! | [`swiglu`] | `silu(gate) * up` |
//! | [`attention`] | grouped-query attention with rotary embedding over rows laid end to end |
//! | [`rotary`], [`attention_over_rectangle`] | the same over padded rows, on any backend |
//!
//! On the CPU (`flex`) they are kernels over slices: matrix products by rten-gemm, and loops
//! compiled for the instruction set that is found at run time. On other backends they are burn's
//! own operations under the same backward pass; [`attention`] and the dropout of [`add_low_rank`]
//! exist on the CPU only.

mod attention;
mod autodiff;
mod dropout;
mod dtype;
mod linear;
mod low_rank;
mod pull_back;
mod rectangle;
mod rms_norm;
mod swiglu;

#[cfg(feature = "flex")]
mod gemm;
#[cfg(feature = "flex")]
mod host;

pub use attention::{AttentionPlan, RotaryTable, Segment, attention};
pub use dropout::dropout;
pub use linear::{LinearOps, linear, linear_graph};
pub use low_rank::{Dropout, add_low_rank};
pub use pull_back::pull_back;
pub use rectangle::{attention_over_rectangle, rotary};
pub use rms_norm::rms_norm;
pub use swiglu::swiglu;

use burn::backend::DispatchDevice;
use burn::tensor::Device;

/// Whether the operations were built for a device. If not, the functions fall back to burn's own
/// operations.
#[must_use]
pub fn is_supported(device: &Device) -> bool {
    match device.clone().inner().as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[cfg(any(feature = "cuda", feature = "wgpu"))]
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

#[cfg(all(doctest, feature = "flex"))]
#[doc = include_str!("../README.md")]
struct Readme;
