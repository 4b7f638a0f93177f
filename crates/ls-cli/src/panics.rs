//! A panic, which is a fault of this program: one clear line in place of Rust's own text.
//!
//! The exit code stays Rust's, 101, which no other end of a command has.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::screen;

/// Says of the first panic what went wrong, and where. With `RUST_BACKTRACE=1` the backtrace
/// follows. Others after it (of those who waited for the thread) say nothing new.
pub fn report() {
    static SAID: AtomicBool = AtomicBool::new(false);
    panic::set_hook(Box::new(|info| {
        if SAID.swap(true, Ordering::Relaxed) {
            return;
        }
        let message = what_and_where(info);
        let backtrace = Backtrace::capture();
        let backtrace =
            (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        screen::fault(&screen::Fault {
            message,
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

/// Says it of every panic: for a program that goes on after one.
pub fn report_each() {
    panic::set_hook(Box::new(|info| screen::warn(what_and_where(info))));
}

fn what_and_where(info: &PanicHookInfo<'_>) -> String {
    let message = ls_files::message_of(info.payload());
    let place = info.location().map(|at| format!(" ({at})"));
    format!("internal error: {message}{}", place.unwrap_or_default())
}
