//! `--device`: selects one of the backends that the program was built with.

use std::path::PathBuf;

use anyhow::Result;
use burn::tensor::Device;

use crate::error::UsageError;

/// Names of the backends that this program was built with.
const BUILT_IN: &[&str] = &[
    #[cfg(feature = "flex")]
    "cpu",
    #[cfg(feature = "cuda")]
    "cuda",
    #[cfg(feature = "wgpu")]
    "wgpu",
];

/// Where kernels of a GPU are kept.
pub fn kernels() -> Option<PathBuf> {
    ls_data::default_cache().map(|cache| cache.join("kernels"))
}

/// The device without `--device`: the first backend that is built in.
pub fn default_name() -> &'static str {
    BUILT_IN.first().copied().unwrap_or("none")
}

/// Whether the device of a name computes on the host. A GPU need not be built in to be spoken of.
///
/// # Errors
///
/// As [`select`], if the name is none of a device.
pub fn is_host(name: Option<&str>) -> Result<bool> {
    let name = name.unwrap_or(default_name());
    let number = name.strip_prefix("cuda:");
    let numbered = number.is_some_and(|number| number.parse::<usize>().is_ok());
    match name {
        "cpu" => Ok(true),
        "cuda" | "wgpu" => Ok(false),
        _ if numbered => Ok(false),
        _ => Ok(ls_ops::is_host(&select(Some(name))?)),
    }
}

/// The device of a name: `cpu`, `cuda`, `cuda:1`, `wgpu`.
///
/// # Errors
///
/// If the name is unknown or its backend is not built in (the message lists those that are), or the
/// machine lacks the device or what its kernels are made with.
pub fn select(name: Option<&str>) -> Result<Device> {
    let name = name.unwrap_or(default_name());
    let (kind, index) = match name.split_once(':') {
        Some((kind, index)) => {
            let index = index.parse::<usize>();
            (
                kind,
                Some(index.map_err(|_| {
                    UsageError::new(format!(
                        "device {name:?}: expected a number after the colon"
                    ))
                })?),
            )
        }
        None => (name, None),
    };
    match (kind, index) {
        #[cfg(feature = "flex")]
        ("cpu", None) => return Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        ("cuda", index) => {
            return Ok(ls_ops::device::cuda(
                index.unwrap_or(0),
                kernels().as_deref(),
            )?);
        }
        #[cfg(feature = "wgpu")]
        ("wgpu", None) => return Ok(ls_ops::device::wgpu(kernels().as_deref())?),
        _ => {}
    }
    if matches!(kind, "cpu" | "wgpu") && index.is_some() && BUILT_IN.contains(&kind) {
        return Err(UsageError::new(format!("device {name:?}: {kind} takes no number")).into());
    }
    let feature = if kind == "cpu" { "flex" } else { kind };
    let known = matches!(kind, "cpu" | "cuda" | "wgpu");
    Err(UsageError {
        message: format!(
            "device {name:?} is not built in (built in: {})",
            BUILT_IN.join(", ")
        ),
        hint: (known && !BUILT_IN.contains(&kind))
            .then(|| format!("build with --features {feature}")),
    }
    .into())
}
