//! Variables of this process's environment, set where that is safe.
//!
//! Besides `uninit.rs` only this module of the crate is `unsafe`: the C library's `setenv` races
//! with threads that read the environment. Miri cannot stand in for the system here, which alone
//! knows how many threads there are.
#![allow(unsafe_code)]

use std::ffi::OsStr;

/// Sets a variable, unless another thread could be reading it; only Linux tells.
pub(super) fn set_variable(name: &str, value: impl AsRef<OsStr>) {
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
    if alone {
        // SAFETY: no other thread reads the environment, since there is none.
        unsafe {
            std::env::set_var(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// A test has a thread of its own beside the first, so that it can only be refused.
    #[test]
    fn beside_another_thread_nothing_is_set() {
        let (end, ended) = channel::<()>();
        let other = std::thread::spawn(move || ended.recv());
        set_variable("LS_OPS_NOT_SET", "1");
        assert_eq!(std::env::var_os("LS_OPS_NOT_SET"), None);
        drop(end);
        assert!(other.join().is_ok_and(|received| received.is_err()));
    }
}
