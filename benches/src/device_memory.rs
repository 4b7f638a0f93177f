//! The memory of a GPU while a program runs, as `nvidia-smi` sees it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Milliseconds between two readings.
const INTERVAL: &str = "100";

/// Watches the GPUs from [`DeviceMemory::watch`] until it is dropped. Start it before the first use
/// of a device.
pub struct DeviceMemory {
    watchers: Vec<Child>,
    /// Peak of this process, MiB; 0 while `nvidia-smi` has not listed it, as in a container with
    /// process ids of its own.
    process: Arc<AtomicU64>,
    /// Peak of the whole device over what was used at the start, MiB.
    device: Arc<AtomicU64>,
}

impl DeviceMemory {
    /// Starts watching GPU `index`. `None` without `nvidia-smi`.
    pub fn watch(index: usize) -> Option<Self> {
        let before = used(index)?;
        let mut memory = Self {
            watchers: Vec::new(),
            process: Arc::default(),
            device: Arc::default(),
        };
        let own = u64::from(std::process::id());
        memory.follow(index, "--query-compute-apps=pid,used_memory", {
            let peak = memory.process.clone();
            move |line| {
                if let Some((pid, used)) = line.split_once(',')
                    && number(pid) == Some(own)
                    && let Some(used) = number(used)
                {
                    peak.fetch_max(used, Ordering::Relaxed);
                }
            }
        });
        memory.follow(index, "--query-gpu=memory.used", {
            let peak = memory.device.clone();
            move |line| {
                if let Some(used) = number(line) {
                    peak.fetch_max(used.saturating_sub(before), Ordering::Relaxed);
                }
            }
        });
        Some(memory)
    }

    /// The peak so far in MiB: of this process where it is known, else of the device over what was
    /// used at the start.
    pub fn peak_mib(&self) -> u64 {
        match self.process.load(Ordering::Relaxed) {
            0 => self.device.load(Ordering::Relaxed),
            peak => peak,
        }
    }

    fn follow(&mut self, index: usize, query: &str, mut line: impl FnMut(&str) + Send + 'static) {
        let Ok(mut watcher) = smi(index, query)
            .args(["-lms", INTERVAL])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
        else {
            return;
        };
        if let Some(out) = watcher.stdout.take() {
            // Ends with the watcher's output.
            std::thread::spawn(move || {
                for text in BufReader::new(out).lines().map_while(Result::ok) {
                    line(&text);
                }
            });
        }
        self.watchers.push(watcher);
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        for watcher in &mut self.watchers {
            // One that has ended by itself is no loss.
            let _ = watcher.kill();
            let _ = watcher.wait();
        }
    }
}

fn smi(index: usize, query: &str) -> Command {
    let mut command = Command::new("nvidia-smi");
    // `nvidia-smi` does not go by CUDA_VISIBLE_DEVICES.
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
    let visible = visible.split(',').nth(index).map(str::trim);
    let gpu = match visible {
        Some(gpu) if !gpu.is_empty() => gpu.to_string(),
        _ => index.to_string(),
    };
    command.args([query, "--format=csv,noheader,nounits", "-i", &gpu]);
    command
}

/// MiB of the device that are in use.
fn used(index: usize) -> Option<u64> {
    let output = smi(index, "--query-gpu=memory.used").output().ok()?;
    number(&String::from_utf8(output.stdout).ok()?)
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}
