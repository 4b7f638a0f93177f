//! The model, its adapters and its training steps against golden values of transformers + peft, and
//! the memory that loading takes.

// clippy.toml allows them in the tests themselves only, not in what they share.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod forms;
mod gguf;
mod golden;
mod losses;
#[cfg(target_os = "linux")]
mod memory;
mod parity;
mod train30;
mod variants;
