//! Safetensors files and the host tensors in them.

mod file;
mod fingerprint;
mod header;
mod host;
mod write;

pub use file::TensorFile;
pub use fingerprint::{Fingerprint, Hashed};
pub use host::HostTensor;
pub use safetensors::Dtype;
pub use write::{write_tensors, write_tensors_with};
