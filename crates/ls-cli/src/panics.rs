//! A panic, which is a fault of this program: one clear line in place of Rust's own text.
//!
//! The exit code stays Rust's, 101, which no other end of a command has.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::screen;

/// Whether all of them are told of.
static EACH: AtomicBool = AtomicBool::new(false);

/// Says of the first panic what went wrong, and where. With `RUST_BACKTRACE=1` the backtrace
/// follows. Others after it (of those who waited for the thread) say nothing new, unless
/// [`of_each`] was called.
pub fn report() {
    static SAID: AtomicBool = AtomicBool::new(false);
    panic::set_hook(Box::new(|info| {
        if SAID.swap(true, Ordering::Relaxed) && !EACH.load(Ordering::Relaxed) {
            return;
        }
        let message = ls_files::message_of(info.payload());
        let place = info
            .location()
            .map(|at| format!(" ({at})"))
            .unwrap_or_default();
        let backtrace = Backtrace::capture();
        let backtrace =
            (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        screen::fault(&screen::Fault {
            message: format!("internal error: {message}{place}"),
            causes: Vec::new(),
            hint: Some(format!(
                "this is a fault of ls-cli {}, please report it with the command; \
                 RUST_BACKTRACE=1 shows where it comes from",
                env!("CARGO_PKG_VERSION")
            )),
            code: 101,
            backtrace,
        });
    }));
}

/// From now on each panic is told of: the program goes on after one. It sets no other hook, since
/// that of [`ls_files::guarded`] stands around this one.
pub fn of_each() {
    EACH.store(true, Ordering::Relaxed);
}
