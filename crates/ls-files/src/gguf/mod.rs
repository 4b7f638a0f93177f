//! GGUF files, the form of llama.cpp: [`GgufFile`].

mod blocks;
mod file;
mod header;
mod tensor;

pub use blocks::GgufType;
pub use file::GgufFile;
pub use header::GgufValue;
pub use tensor::GgufTensor;
