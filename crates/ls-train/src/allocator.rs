//! What a program that computes asks of the system's allocator.
//!
//! Of this crate only this module is `unsafe`: Rust cannot check a function of the C library. Miri
//! cannot run it either; it takes two numbers and gives one back.
#![allow(unsafe_code)]

/// Bytes from which on a buffer is mapped by itself, and given back to the system when it is let go
/// of: the largest that glibc takes, half of what a thread's heap may be. What is smaller stays
/// with the process.
pub(crate) const MAPPED: usize = 32 << 20;

/// Lets glibc's allocator keep what is freed for what comes next: a program that computes should
/// say so once, at its beginning.
///
/// Every step takes and frees the same buffers. By default glibc gives large ones back to the
/// system at once, and each is mapped and zeroed anew, page by page, when it is next written. Does
/// nothing elsewhere.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: settings of the allocator, which take any value, from any thread.
        unsafe {
            libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED as libc::c_int);
        }
    }
}
