//! The device that a benchmark of devices is told to use.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;

/// Makes the process ready for devices; before its first thread starts, which an argument parser
/// does not.
pub fn prepare() {
    ls_ops::device::prepare(kernels().as_deref());
}

/// Where kernels are kept.
fn kernels() -> Option<PathBuf> {
    ls_data::default_cache().map(|cache| cache.join("kernels"))
}

/// The device of a name (`cpu`, `cuda`, `cuda:N`, `wgpu`), and the number of the GPU.
///
/// # Errors
///
/// If the name is none, its backend is not built in, or the device is not there.
pub fn select(name: &str) -> Result<(Device, Option<usize>)> {
    let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
    let index: usize = index.parse().with_context(|| format!("device {name:?}"))?;
    match kind {
        "cpu" => Ok((Device::flex(), None)),
        #[cfg(feature = "cuda")]
        "cuda" => Ok((
            ls_ops::device::cuda(index, kernels().as_deref())?,
            Some(index),
        )),
        #[cfg(not(feature = "cuda"))]
        "cuda" => bail!("device {index} of CUDA: build with --features cuda"),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok((ls_ops::device::wgpu(kernels().as_deref())?, None)),
        #[cfg(not(feature = "wgpu"))]
        "wgpu" => bail!("device wgpu: build with --features wgpu"),
        _ => bail!("device {name:?} is none of cpu, cuda, cuda:N and wgpu"),
    }
}
