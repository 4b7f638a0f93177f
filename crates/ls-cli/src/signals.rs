//! Ctrl-C and its kin: while a run trains, the first asks it to stop and a second ends the program
//! at once; before, where there is nothing to save, the first does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
#[cfg(unix)]
use std::time::Duration;

#[cfg(unix)]
use crate::screen;

/// How long words have, before the program ends without them.
#[cfg(unix)]
const PATIENCE: Duration = Duration::from_secs(1);

/// What has been asked for by a signal. On systems without them, nothing ever is.
#[derive(Debug, Clone, Default)]
pub struct Signals(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// What is said.
    words: Words,
    /// Whether there is something to save.
    training: AtomicBool,
    /// The exit code of the signal that came, 0 before the first.
    code: AtomicU8,
}

/// What the first signal is answered with.
#[derive(Debug)]
struct Words {
    /// Before there is something to save, when it ends the program.
    before: &'static str,
    /// From then on.
    after: &'static str,
}

impl Default for Words {
    fn default() -> Self {
        Self {
            before: "stopped before the training began, so that nothing had to be saved: the same \
                     command starts it again",
            after: "stopping as soon as what is done is saved (a second signal ends it at once)",
        }
    }
}

impl Signals {
    /// Listens for a command that writes a folder, and removes what it began when it is stopped.
    pub fn listen_while_writing() -> Self {
        Self::listen_with(Words {
            before: "stopped before anything was written",
            after: "stopping, and removing what is written so far (a second signal ends it at once \
                    and leaves it)",
        })
    }

    /// Listens for a command that answers a question, and may have unpacked files to do so.
    pub fn listen_while_answering() -> Self {
        Self::listen_with(Words {
            before: "stopped before the answer",
            after: "stopping, and removing what was unpacked (a second signal ends it at once and \
                    leaves it)",
        })
    }

    fn listen_with(words: Words) -> Self {
        let state = State {
            words,
            ..State::default()
        };
        let signals = Self(Arc::new(state));
        #[cfg(unix)]
        signals.hear();
        signals
    }

    /// Listens from now on. A signal that is ignored stays so: of `nohup` and of a script's
    /// background.
    pub fn listen() -> Self {
        let signals = Self::default();
        #[cfg(unix)]
        signals.hear();
        signals
    }

    /// From now on there is something to save, or to remove.
    pub fn training(&self) {
        self.0.training.store(true, Ordering::SeqCst);
    }

    /// Whether a signal has come.
    pub fn asked(&self) -> bool {
        self.exit_code() != 0
    }

    /// The exit code of a program that the signal ended, as shells have it; 0 before one came.
    pub fn exit_code(&self) -> u8 {
        self.0.code.load(Ordering::SeqCst)
    }

    #[cfg(unix)]
    fn hear(&self) {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

        let heeded = [SIGINT, SIGTERM, SIGHUP]
            .into_iter()
            .filter(|signal| !is_ignored(*signal));
        // Where no handler can be had, a signal does what it does to every program.
        let Ok(mut signals) = signal_hook::iterator::Signals::new(heeded) else {
            return;
        };
        let state = Arc::clone(&self.0);
        std::thread::spawn(move || {
            for signal in signals.forever() {
                state.heard(signal);
            }
        });
    }
}

#[cfg(unix)]
impl State {
    fn heard(&self, signal: i32) {
        let code = 128 + signal;
        let first = self.code.swap(code as u8, Ordering::SeqCst) == 0;
        if first && self.training.load(Ordering::SeqCst) {
            // A step may be long, so it is said here.
            let after = self.words.after;
            aside(move || screen::say(after));
            return;
        }
        let before = first.then_some(self.words.before);
        let exit = move || signal_hook::low_level::exit(code);
        aside(move || screen::leave(before, exit));
        exit();
    }
}

/// Does something with the screen on a thread of its own, and waits for it a second at most: where
/// nobody reads what is written, it never ends.
#[cfg(unix)]
fn aside(work: impl FnOnce() + Send + 'static) {
    let (done, ends) = std::sync::mpsc::channel::<()>();
    let work = move || {
        work();
        drop(done);
    };
    // Without a thread the channel is closed at once, and nothing is said.
    let _ = std::thread::Builder::new().name("words".into()).spawn(work);
    let _ = ends.recv_timeout(PATIENCE);
}

/// Whether the process was started with the signal ignored, where the system tells it in `/proc`.
/// Elsewhere only the end of a terminal is taken for ignored: its default ends the program.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    match mask {
        Some(mask) => mask >> (signal - 1) & 1 == 1,
        None => signal == signal_hook::consts::SIGHUP,
    }
}
