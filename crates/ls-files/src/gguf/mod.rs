//! GGUF files, the form of llama.cpp: [`GgufFile`].

mod blocks;
mod file;
mod header;

pub use blocks::GgufType;
pub use file::{GgufFile, GgufTensor};
pub use header::GgufValue;
