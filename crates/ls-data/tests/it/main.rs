//! Everything that files, tokenizers and scores must do, in one program; `memory.rs` and
//! `encoding_memory.rs` beside it count what a process allocates and are programs of their own.

// clippy.toml allows it in the tests themselves only, not in what they share.
#![allow(clippy::unwrap_used)]

mod answers;
mod any_bytes;
mod beginnings;
mod bytes;
mod cache;
mod catalog;
mod encoded;
mod forms;
mod golden;
#[path = "../../../../tests/cli/mutate.rs"]
mod mutate;
#[cfg(feature = "parquet")]
mod parquet;
mod profile;
mod python_forms;
mod readers;
#[path = "../../../../tests/cli/smoke.rs"]
mod smoke;
mod spans;
mod text_labels;
mod tokenizer;
mod words;
