//! LLaMA-family decoders with sequence and token classification heads, on [burn](https://burn.dev).
//!
//! A Hugging Face folder goes in, logits come out:
//!
//! ```no_run
//! use std::path::Path;
//! use burn::tensor::Device;
//! use ls_model::{AttentionMode, Checkpoint, ComputeType, ModelInput, Pooling, Task};
//!
//! # fn main() -> Result<(), ls_model::ModelError> {
//! let device = Device::default();
//! let checkpoint = Checkpoint::open(Path::new("my-classifier"))?;
//! let model = checkpoint.load_classifier(
//!     &AttentionMode::Causal,
//!     Task::Sequence(Pooling::Last),
//!     ComputeType::F32,
//!     &device,
//! )?;
//! let input = ModelInput::new(&[vec![1u32, 345, 99], vec![1, 7]], &checkpoint.config, &device)?;
//! let logits = model.forward(&input); // [2, num_labels]
//! # Ok(())
//! # }
//! ```
//!
//! Reading order: [`llama`] (the forward pass), [`mask`] (which token attends to which), [`input`]
//! (how padding is kept out), [`heads`], [`checkpointing`] (gradients in little memory),
//! [`pretrained`] (from files to a model), [`config`] and [`rope`].

#![forbid(unsafe_code)]

mod adapted;
mod assemble;
mod attention;
mod bounds;
pub mod checkpointing;
pub mod config;
mod diagnosis;
pub mod error;
mod export;
mod fields;
mod gguf;
pub mod heads;
pub mod input;
pub mod llama;
pub mod mask;
pub mod mixed;
mod precision;
pub mod pretrained;
pub mod random;
pub mod rope;
mod rotation;
mod saved_head;
#[cfg(test)]
mod tiny;
mod trained;

pub use config::{LlamaConfig, ProblemType, Projection, Projections};
pub use error::{ModelError, Result};
pub use gguf::GgufModel;
pub use heads::{ADAPTER, LlamaClassifier, Pooling, Task};
pub use input::ModelInput;
pub use llama::LlamaModel;
pub use mask::AttentionMode;
pub use mixed::{SharedClassifier, SharedDecoder, forward_mixed};
pub use precision::{ComputeType, Precision};
pub use pretrained::Checkpoint;
pub use saved_head::SavedHead;
pub use trained::{LayerList, Trained};
