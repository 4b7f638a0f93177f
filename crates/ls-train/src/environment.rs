//! The machine, versions and memory of a run, for `environment.json`.

use std::path::Path;

use burn::tensor::Device;
use ls_data::TextTokenizer;
use ls_model::Checkpoint;
use serde::Serialize;

use crate::config::RunConfig;
use crate::read_files::ReadFiles;

/// Versions, machine, device and the hashes of what went in.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Environment {
    /// Of this crate.
    pub(crate) ls_llama: &'static str,
    /// Of burn.
    pub(crate) burn: &'static str,
    /// Operating system.
    pub(crate) os: &'static str,
    /// Processor architecture.
    pub(crate) arch: &'static str,
    /// Threads that compute: the cores, or what `RAYON_NUM_THREADS` says.
    pub(crate) threads: usize,
    /// The device, as burn names it.
    pub(crate) device: String,
    /// Element type of the frozen weights.
    pub(crate) dtype: ls_model::ComputeType,
    /// The run's seed.
    pub(crate) seed: u64,
    /// SHA-256 of the data files, of the file that describes them if there is one, of the adapter
    /// that it began from, and of the model's configuration and tokenizer, by path.
    pub(crate) sha256: Vec<(String, String)>,
}

impl Environment {
    /// Looks around. What is hashed is what was read, whatever became of the files.
    pub(crate) fn capture(
        config: &RunConfig,
        device: &Device,
        data: &ReadFiles,
        checkpoint: &Checkpoint,
        (tokenizer, tokenizer_dir): (&TextTokenizer, &Path),
    ) -> Self {
        let model = [
            (
                config.model.path.join("config.json"),
                checkpoint.config_sha256.clone(),
            ),
            (tokenizer_dir.join("tokenizer.json"), tokenizer.sha256()),
        ];
        let model = model.into_iter();
        let model = model.map(|(path, sha256)| (path.display().to_string(), sha256));
        Self {
            ls_llama: env!("CARGO_PKG_VERSION"),
            burn: "0.22.1",
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            threads: rayon::current_num_threads(),
            device: format!("{device:?}"),
            dtype: config.model.dtype,
            seed: config.train.seed,
            sha256: data.sha256().chain(model).collect(),
        }
    }
}

/// Highest resident memory of this process so far, in bytes, on systems that tell it in `/proc`.
pub fn peak_memory() -> Option<u64> {
    memory("VmHWM:")
}

/// The resident memory of this process at the moment, in bytes, where the system tells it.
pub fn resident_memory() -> Option<u64> {
    memory("VmRSS:")
}

/// A field of the process's state that is in kB, in bytes.
fn memory(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
