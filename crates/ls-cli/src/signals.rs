//! Ctrl-C and its kin: the first asks a run to stop, a second ends the program at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// What has been asked for by a signal.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    asked: Arc<AtomicBool>,
    /// The last signal, 0 before the first.
    signal: Arc<AtomicUsize>,
}

impl Signals {
    /// Listens from now on. A signal that is ignored stays so: of `nohup` and of a script's
    /// background.
    pub fn listen() -> Self {
        let signals = Self::default();
        #[cfg(unix)]
        let all = [SIGINT, SIGTERM, signal_hook::consts::SIGHUP];
        #[cfg(not(unix))]
        let all = [SIGINT, SIGTERM];
        for signal in all.into_iter().filter(|signal| !is_ignored(*signal)) {
            let asked = || Arc::clone(&signals.asked);
            // In this order, so that only a second one finds that one came before. Where a handler
            // cannot be had, the signal does what it does to every program.
            let _ = flag::register_conditional_shutdown(signal, exit_code(signal), asked())
                .and_then(|_| {
                    let last = Arc::clone(&signals.signal);
                    flag::register_usize(signal, last, signal as usize)
                })
                .and_then(|_| flag::register(signal, asked()));
        }
        signals
    }

    /// Whether a signal has come.
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// The exit code of a program that a signal ended, as shells have it.
    pub fn exit_code(&self) -> u8 {
        128 + self.signal.load(Ordering::Relaxed) as u8
    }
}

fn exit_code(signal: i32) -> i32 {
    128 + signal
}

/// Whether the process was started with the signal ignored, where the system tells it in `/proc`.
/// Elsewhere only the end of a terminal is taken for ignored: its default ends the program.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    match mask {
        Some(mask) => mask >> (signal - 1) & 1 == 1,
        None => ![SIGINT, SIGTERM].contains(&signal),
    }
}
