//! The kernels that a piece of work launches, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use burn::tensor::Device;
use cubecl::config::{TypeNameFormatLevel, type_name_format};
use cubecl::logging::{LaunchObservation, LaunchObserver};

/// Launches by the kernel's name.
pub type Launches = BTreeMap<String, usize>;

#[derive(Default)]
struct Counter(Mutex<Launches>);

impl LaunchObserver for Counter {
    fn launched(&self, kernel: &'static str) {
        let name = type_name_format(kernel, TypeNameFormatLevel::Short);
        let mut launches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *launches.entry(name).or_default() += 1;
    }
}

/// Runs `work` and counts what it launches, from an idle device to an idle device. What was not
/// tuned before is tuned within, and counted.
///
/// # Errors
///
/// If the device fails.
pub fn launches<T>(device: &Device, work: impl FnOnce() -> Result<T>) -> Result<(Launches, T)> {
    device.sync().context("wait for the device")?;
    let counter = Arc::new(Counter::default());
    let observation = LaunchObservation::new(counter.clone());
    let result = work()?;
    device.sync().context("wait for the device")?;
    drop(observation);
    let launches = counter.0.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((launches.clone(), result))
}
