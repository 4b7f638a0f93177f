//! Variables of this process's environment, set where that is safe.

use std::ffi::OsStr;

/// Sets a variable, unless another thread could be reading it; only Linux tells.
pub(super) fn set_variable(name: &str, value: impl AsRef<OsStr>) {
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
    if alone {
        // SAFETY: no other thread reads the environment, since there is none.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(name, value);
        }
    }
}
