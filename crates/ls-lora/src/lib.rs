//! LoRA (arXiv 2106.09685) for [burn](https://burn.dev) modules, with PEFT's files.
//!
//! burn has an `apply_lora` of its own. It composes the dense effective weight on every forward
//! pass and back-propagates a gradient of the weight's size; it has no dropout and does not read or
//! write PEFT's files. Here the adapter acts on the activations, so a step costs little more than
//! the frozen layer, and an adapter folder is PEFT's.
//!
//! ```
//! use burn::module::Module;
//! use burn::nn::LinearConfig;
//! use burn::tensor::{Device, Tensor};
//! use ls_lora::{LoraConfig, LoraLinear, LoraModel, TargetModules, lora_module};
//!
//! #[derive(Module, Debug)]
//! struct Net { fc1: LoraLinear, fc2: LoraLinear }     // `LoraLinear` in place of `nn::Linear`
//! lora_module!(Net { fc1, fc2 });
//!
//! # fn main() -> Result<(), ls_lora::LoraError> {
//! let device = Device::flex().autodiff();
//! let net = Net {
//!     fc1: LinearConfig::new(8, 16).init(&device).into(),
//!     fc2: LinearConfig::new(16, 2).init(&device).into(),
//! };
//! let config = LoraConfig::new(2, 8.0).with_target_modules(TargetModules::AllLinear);
//! let mut model = LoraModel::new(net);
//! model.add_adapter("mine", &config, 42, &device)?;   // freezes the rest
//! let y = model.fc2.forward(model.fc1.forward(Tensor::<2>::ones([3, 8], &device)).tanh());
//! println!("{}", model.parameters());                 // trainable params: 84 || all params: 262 || ...
//! # let dir = tempfile::tempdir().unwrap();
//! # let folder = dir.path().join("adapter");
//! model.save_adapter("mine", &folder)?;               // a folder that PEFT reads
//! # assert_eq!(y.dims(), [3, 2]);
//! # Ok(())
//! # }
//! ```
//!
//! Reading order: `linear.rs`, `base_layer.rs` and `adapter.rs` (what a layer and an adapter
//! compute), `module.rs` and `place.rs` (placing adapters on a model), `model.rs` (several named
//! adapters), `config.rs` and `target.rs` (PEFT's fields and matching rules), `peft/` (the files),
//! `quantized/` (4 and 8 bits).

#![forbid(unsafe_code)]

mod adapter;
mod base_layer;
mod combine;
mod config;
mod draws;
mod dtype;
mod embedding;
mod error;
mod init;
mod layer;
mod linear;
mod merge;
mod model;
mod module;
mod optim;
mod parameters;
mod peft;
mod place;
// Without a backend there is nothing that its operations could be made for.
#[cfg_attr(not(any(feature = "flex", feature = "cube")), allow(unused))]
mod quantized;
mod target;
mod trainable;

pub use adapter::{Dora, LoraAdapter, Start};
pub use base_layer::{BaseLayer, QuantizedLinear, TiledLinear};
pub use combine::Combination;
pub use config::{Bias, InitLoraWeights, LoraConfig, TargetModules, TaskType};
pub use dtype::host_values;
pub use embedding::LoraEmbedding;
pub use error::{LoraError, Result};
pub use layer::{LayerKind, LoraLayer, MergeDrift};
pub use linear::LoraLinear;
pub use ls_files::{Dtype, HostTensor};
pub use ls_ops::{dropout, seed_dropout};
pub use merge::MergeReport;
pub use model::LoraModel;
pub use module::{LoraModule, ModulePath, tile};
pub use optim::{LoraPlus, LoraPlusGroups};
pub use parameters::{parameters, set_trainable};
pub use peft::{
    AdapterTensors, CONFIG_FILE, PICKLED_WEIGHTS_FILE, PeftAdapter, WEIGHTS_FILE, weights_file,
};
pub use place::{adapter_tensors, add_adapter, load_adapter, to_peft, trained_in_full};
pub use quantized::{Quantization, QuantizedWeight};
pub use target::{
    LARGEST_ALPHA, LARGEST_RANK, MOST_PATTERNS, ModuleMatcher, modules_of_adapter, select_modules,
};
pub use trainable::{ParameterCount, TrainableTensor, trainable_tensors};

/// The README's example is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
