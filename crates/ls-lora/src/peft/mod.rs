//! PEFT's adapter folder: `adapter_config.json` and `adapter_model.safetensors`, both ways, on host
//! tensors.
//!
//! Shapes are those of the files: A is `[r, in]`, B is `[out, r]`, heads are `[out, in]`.
//! `place.rs` puts them into a model, transposed to burn's `[in, out]`.

mod config;
mod folder;
mod tensors;

pub use folder::{PeftAdapter, WEIGHTS_FILE};
pub use tensors::AdapterTensors;
pub(crate) use tensors::{PREFIX, is_vocabulary};
