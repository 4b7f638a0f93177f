//! LoRA (arXiv 2106.09685) for [burn](https://burn.dev) modules, with PEFT's files.
//!
//! burn has an `apply_lora` of its own. It composes the dense effective weight on every forward pass and back-propagates a
//! gradient of the weight's size; it has no dropout and does not read or write PEFT's files. Here the adapter acts on the
//! activations, so a step costs little more than the frozen layer, and an adapter folder is PEFT's.
//!
//! Reading order: [`linear`] (the layer), [`trainable`] (placing adapters on a model), [`config`] and [`target`] (PEFT's
//! fields and matching rules), [`peft`] (the files).

pub mod config;
pub mod error;
pub mod linear;
pub mod peft;
pub mod target;
pub mod tensor_file;
pub mod trainable;

use burn::tensor::{DType, Tensor};

pub use config::{InitLoraWeights, LoraConfig, TaskType};
pub use error::{LoraError, Result};
pub use linear::{LoraFactors, LoraLinear};
pub use peft::{LoraPair, PeftAdapter};
pub use target::{TargetModules, select_modules};
pub use tensor_file::{Dtype, HostTensor, TensorFile, write_atomic, write_tensors};
pub use trainable::{
    LoraModule, ParameterCount, adapter_tensors, add_adapters, load_adapters, merge_adapters,
};

/// The values of a float tensor on the host, in f32 and row-major order. Waits for the device.
pub fn host_values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data().convert_dtype(DType::F32);
    data.try_to_vec::<f32>().unwrap_or_default()
}
