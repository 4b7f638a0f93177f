//! Files of weights, and the host tensors in them.

mod entry;
mod file;
mod fingerprint;
mod head;
mod header;
mod host;
mod pickled;
mod write;

pub use entry::OpenTensor;
pub use file::TensorFile;
pub use fingerprint::{Fingerprint, Hashed};
pub use head::TensorHead;
pub use host::HostTensor;
pub use safetensors::Dtype;
pub use write::{write_tensors, write_tensors_in_parts, write_tensors_with};
