//! PEFT's adapter folder: `adapter_config.json` and `adapter_model.safetensors`, both ways, on host
//! tensors; `adapter_model.bin` is read only.
//!
//! Shapes are those of the files: A is `[r, in]`, B is `[out, r]`, heads are `[out, in]`.
//! `place.rs` puts them into a model, transposed to burn's `[in, out]`.

mod config;
mod folder;
mod tensors;

pub use folder::{CONFIG_FILE, PICKLED_WEIGHTS_FILE, PeftAdapter, WEIGHTS_FILE, weights_file};
pub use tensors::AdapterTensors;
pub(crate) use tensors::{PREFIX, is_vocabulary};
