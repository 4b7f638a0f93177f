//! A device that has no memory left: how that is known, and what can be done about it.
//!
//! Off the CPU an allocation that fails is a panic, at the operation or, as work is queued, at the
//! first read of what depends on it: cubecl keeps its values from being read, and the device goes
//! on. So the panic can be caught, and the step taken again from tensors that it did not touch. On
//! the CPU the system ends the process instead; there the estimate is compared with what is left
//! before the training.

use ls_files::{Panicked, guarded};
use ls_model::Trained;

use crate::config::ResolvedRun;
use crate::error::TrainError;

/// What cubecl, CUDA and wgpu say of an allocation that failed.
const SAID: [&str; 7] = [
    "out of device memory",
    "out-of-memory",
    "out of memory",
    "not enough memory",
    "out_of_memory",
    "outofmemory",
    "can't allocate",
];

/// An allocation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutOfMemory {
    /// Bytes that were asked for, where it was told.
    asked: Option<u64>,
    /// What was said.
    message: String,
}

impl OutOfMemory {
    /// Reads a panic's message.
    fn of(message: &str) -> Option<Self> {
        let lower = message.to_lowercase();
        let at = SAID.iter().filter_map(|said| lower.find(said)).min()?;
        // `allocating 7 bytes`, `allocate buffer of size: 7`, `allocate 7 bytes`.
        let digits = |text: &str| {
            let text = text.trim_start_matches(|c: char| !c.is_ascii_digit());
            let end = text
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(text.len());
            text[..end].parse().ok()
        };
        let asked = lower[at..]
            .find("allocat")
            .and_then(|word| digits(&lower[at + word..]));
        Some(Self {
            asked,
            message: message.to_owned(),
        })
    }
}

impl OutOfMemory {
    /// What was asked for, as the end of a clause.
    pub(crate) fn asked_for(&self) -> String {
        self.asked
            .map(|bytes| format!(", which asked for {}", gigabytes(bytes)))
            .unwrap_or_default()
    }

    /// The same as an error: what was going on, how many bytes were expected in all (0 where nobody
    /// has counted), what can be done about it, and what of that a run may do that goes on.
    pub(crate) fn error(
        self,
        during: String,
        expected: usize,
        advice: String,
        set: Option<String>,
    ) -> TrainError {
        TrainError::OutOfMemory {
            asked: self.asked_for(),
            during,
            expected: match expected {
                0 => String::new(),
                bytes => format!("; {} were expected in all", gigabytes(bytes as u64)),
            },
            message: self.message,
            advice,
            set,
        }
    }
}

/// Bytes as people read them.
pub(crate) fn gigabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{bytes} bytes"),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// Runs work on a device. Nothing that it was changing may be used after it failed.
///
/// # Errors
///
/// If the device has no memory left.
///
/// # Panics
///
/// Where the work does, for another reason.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, OutOfMemory> {
    guarded(work).map_err(
        |Panicked { message, place }| match (OutOfMemory::of(&message), place) {
            (Some(out_of_memory), _) => out_of_memory,
            // Caught without a word, so it is said here, with the place that it came from.
            (None, Some(place)) => panic!("{message}, at {place}"),
            (None, None) => panic!("{message}"),
        },
    )
}

/// What makes a step take less memory whose passes have so many inputs, and does not change which
/// examples are in it: what a run that goes on may set.
pub(crate) fn smaller_passes(run: &ResolvedRun, pass_size: usize) -> Option<String> {
    match pass_size {
        2.. => Some(format!("train.pass_size={}", pass_size.div_ceil(2))),
        _ if !run.config.train.gradient_checkpointing => {
            Some("train.gradient_checkpointing=true".into())
        }
        _ => None,
    }
}

/// What makes a run take less memory whose passes have so many inputs, of what it does not do yet.
pub(crate) fn advice(run: &ResolvedRun, pass_size: usize) -> String {
    let train = &run.config.train;
    let mut advice = Vec::new();
    if pass_size > 1 {
        let half = pass_size.div_ceil(2);
        advice.push(format!(
            "train.pass_size = {half} or less (the same examples in each step)"
        ));
    }
    if !train.gradient_checkpointing {
        advice.push("train.gradient_checkpointing = true".into());
    }
    advice.push(format!("data.max_length below {}", run.limits.max_length));
    match run.trained {
        Trained::All => advice.push("train.layers to the highest alone, or train adapters".into()),
        _ if run.precision.quantization.is_none() => {
            advice.push("model.quantization = \"nf4\"".into());
        }
        _ => {}
    }
    format!("set {}", advice.join("; or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As cubecl 0.11.3 (`IoError`, `LaunchError`), CUDA and wgpu say it.
    #[test]
    fn what_backends_say_is_known_with_its_bytes() {
        for (said, asked) in [
            (
                "out of device memory allocating 1048576 bytes\n   0: alloc",
                Some(1 << 20),
            ),
            (
                "called `Result::unwrap()` on an `Err` value: can't allocate buffer of size: 77",
                Some(77),
            ),
            (
                "Can't allocate 5000 bytes: every page size the memory tracks still holds",
                Some(5000),
            ),
            (
                "An out-of-memory error happened during launch\nCaused by:\n  x",
                None,
            ),
            (
                "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
                None,
            ),
            ("wgpu error: Out of Memory", None),
            ("Not enough memory left", None),
        ] {
            let found = OutOfMemory::of(said).unwrap();
            assert_eq!(found.asked, asked, "{said}");
            assert_eq!(
                caught(|| panic!("{said}")),
                Err::<(), _>(
                    OutOfMemory::of(&said.split_whitespace().collect::<Vec<_>>().join(" "))
                        .unwrap()
                )
            );
        }
        assert_eq!(OutOfMemory::of("index out of bounds: the len is 3"), None);
        assert_eq!(caught(|| 3), Ok(3));
    }

    #[test]
    fn another_panic_stays_one_with_its_message() {
        let other = guarded(|| caught(|| panic!("shapes differ")));
        let said = other.unwrap_err().message;
        let place = said.strip_prefix("shapes differ, at ").unwrap();
        assert!(place.contains("out_of_memory.rs:"), "{said}");
    }
}
