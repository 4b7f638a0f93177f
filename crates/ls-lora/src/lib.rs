//! LoRA (arXiv 2106.09685) for [burn](https://burn.dev) modules, with PEFT's files.
//!
//! burn has an `apply_lora` of its own. It composes the dense effective weight on every forward pass and back-propagates a
//! gradient of the weight's size; it has no dropout and does not read or write PEFT's files. Here the adapter acts on the
//! activations, so a step costs little more than the frozen layer, and an adapter folder is PEFT's.
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
//! model.add_adapter("mine", &config, &device)?;       // freezes the rest
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
//! Reading order: [`linear`] and [`adapter`] (what an adapter computes), [`module`] (placing adapters on a model), [`model`]
//! (several adapters as things), [`config`] and [`target`] (PEFT's fields and matching rules), [`peft`] (the files), [`quantized`] (4 and 8 bits).

pub mod adapter;
mod combine;
pub mod config;
pub mod embedding;
pub mod error;
mod init;
pub mod linear;
pub mod model;
pub mod module;
pub mod optim;
pub mod peft;
// Without a backend there is nothing that its operations could be made for.
#[cfg_attr(
    not(any(feature = "flex", feature = "cuda", feature = "wgpu")),
    allow(unused)
)]
pub mod quantized;
mod saved;
pub mod target;
pub mod tensor_file;
pub mod trainable;

use burn::tensor::{DType, Tensor};

pub use adapter::{Dora, LayerKind, LoraAdapter, LoraLayer, MergeDrift, Start};
pub use config::{Bias, InitLoraWeights, LoraConfig, TaskType};
pub use embedding::LoraEmbedding;
pub use error::{LoraError, Result};
pub use linear::LoraLinear;
pub use ls_ops::dropout;
pub use model::{Combination, LoraModel, MergeReport};
pub use module::{LoraModule, ModulePath, adapter_tensors, add_adapter, load_adapter, to_peft};
pub use optim::{LoraPlus, LoraPlusGroups};
pub use peft::{AdapterTensors, PeftAdapter};
pub use quantized::{BaseLayer, Quantization, QuantizedLinear, QuantizedWeight};
pub use target::{ModuleMatcher, TargetModules, select_modules};
pub use tensor_file::{Dtype, HostTensor, TensorFile, write_tensors};
pub use trainable::{ParameterCount, TrainableTensor, trainable_tensors};

/// The values of a float tensor on the host, in f32 and row-major order. Waits for the device.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use ls_lora::host_values;
///
/// let x = Tensor::<2>::from_data([[1.0, 2.0], [3.0, 4.0]], &Device::flex());
/// assert_eq!(host_values(x.transpose()), [1.0, 3.0, 2.0, 4.0]);
/// ```
pub fn host_values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data().convert_dtype(DType::F32);
    data.try_to_vec::<f32>().unwrap_or_default()
}

/// The README's example is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
