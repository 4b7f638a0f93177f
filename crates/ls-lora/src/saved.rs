//! Parameters outside the adapters, under PyTorch's names: modules trained in full, and biases.
//!
//! Names are the paths of a module's fields with PyTorch's words for what burn calls otherwise (`gamma` is `weight`), and
//! without what this crate puts between a layer and its frozen weight. A linear layer's weight is `[out, in]` in files and
//! `[in, out]` here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};

use crate::error::{LoraError, Result};
use crate::tensor_file::{Dtype, HostTensor};

/// Where a walk over a module's parameters is.
#[derive(Default)]
struct Walk {
    /// Names of the fields, and the type that has each.
    path: Vec<(String, String)>,
}

/// A parameter as PyTorch knows it.
struct Named {
    name: String,
    /// Whether files hold its transpose.
    transposed: bool,
}

impl Walk {
    fn enter(&mut self, name: &str, container: &str) {
        self.path.push((name.to_owned(), container.to_owned()));
    }

    fn exit(&mut self) {
        self.path.pop();
    }

    /// The parameter that the walk is at, unless it is an adapter's.
    fn named(&self) -> Option<Named> {
        let mut parts: Vec<&str> = Vec::with_capacity(self.path.len());
        for (name, container) in &self.path {
            match (container.as_str(), name.as_str()) {
                ("Struct:LoraLinear" | "Struct:LoraEmbedding", "adapters") => return None,
                ("Struct:LoraLinear" | "Struct:LoraEmbedding", "base_layer")
                | ("Struct:LoraModel", "model") => {}
                // The name of an enum's variant is no field.
                (container, _) if container.starts_with("Enum:") => {}
                _ => parts.push(name),
            }
        }
        let owner = self.path.last().map_or("", |(_, container)| container);
        let is_norm = owner.ends_with("Norm");
        if let Some(last) = parts.last_mut() {
            *last = match *last {
                "gamma" if is_norm => "weight",
                "beta" if is_norm => "bias",
                other => other,
            };
        }
        Some(Named {
            transposed: owner == "Struct:Linear" && parts.last() == Some(&"weight"),
            name: parts.join("."),
        })
    }
}

/// The parameters whose names are wanted, in PyTorch's layout and their own dtype.
pub(crate) fn collect<M: Module>(
    module: &M,
    wanted: &dyn Fn(&str) -> bool,
) -> BTreeMap<String, HostTensor> {
    struct Collect<'a> {
        walk: Walk,
        wanted: &'a dyn Fn(&str) -> bool,
        found: BTreeMap<String, HostTensor>,
    }
    impl ModuleVisitor for Collect<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.walk.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.walk.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(Named { name, transposed }) = self.walk.named()
                && (self.wanted)(&name)
            {
                let value = param.val();
                let value = if transposed { value.transpose() } else { value };
                self.found.insert(name, host(value));
            }
        }
        fn visit_int<const D: usize>(&mut self, _: &Param<Tensor<D, Int>>) {}
        fn visit_bool<const D: usize>(&mut self, _: &Param<Tensor<D, Bool>>) {}
    }
    let mut collect = Collect {
        walk: Walk::default(),
        wanted,
        found: BTreeMap::new(),
    };
    module.visit(&mut collect);
    collect.found
}

/// The names of all parameters outside the adapters, in the order of the fields.
pub(crate) fn parameters<M: Module>(module: &M) -> Vec<String> {
    #[derive(Default)]
    struct Names {
        walk: Walk,
        found: Vec<String>,
    }
    impl ModuleVisitor for Names {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.walk.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.walk.exit();
        }
        fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {
            self.found.extend(self.walk.named().map(|named| named.name));
        }
        fn visit_int<const D: usize>(&mut self, _: &Param<Tensor<D, Int>>) {}
        fn visit_bool<const D: usize>(&mut self, _: &Param<Tensor<D, Bool>>) {}
    }
    let mut names = Names::default();
    module.visit(&mut names);
    names.found
}

/// The names of all modules with parameters of their own or below, adapters left out.
pub(crate) fn modules<M: Module>(module: &M) -> Vec<String> {
    let mut found = BTreeSet::new();
    for name in parameters(module) {
        found.extend(
            name.match_indices('.')
                .map(|(end, _)| name[..end].to_owned()),
        );
    }
    found.into_iter().collect()
}

/// The module with parameters replaced by these tensors, under the names of a file; each keeps its dtype, id and device.
/// `any_shape` is for tensors that came from the module itself. `path` is for messages.
pub(crate) fn put<M: Module>(
    module: M,
    tensors: &BTreeMap<String, HostTensor>,
    path: &Path,
    any_shape: bool,
) -> Result<M> {
    struct Put<'a> {
        walk: Walk,
        /// By the name without PEFT's wrapper: the name in the file, and the tensor.
        tensors: BTreeMap<String, (&'a str, &'a HostTensor)>,
        any_shape: bool,
        path: &'a Path,
        error: Option<LoraError>,
    }
    impl Put<'_> {
        fn value<const D: usize>(
            &self,
            old: &Tensor<D>,
            key: &str,
            tensor: &HostTensor,
            transposed: bool,
        ) -> Result<Tensor<D>> {
            let mut expected = old.dims().to_vec();
            if transposed {
                expected.reverse();
            }
            let fits = if self.any_shape {
                tensor.shape.len() == D
            } else {
                tensor.shape == expected
            };
            if !fits {
                return Err(LoraError::TensorShape {
                    path: self.path.to_owned(),
                    name: key.to_owned(),
                    expected,
                    found: tensor.shape.clone(),
                });
            }
            let data = TensorData::new(tensor.to_f32()?, tensor.shape.clone());
            let device = old.device().inner();
            let value: Tensor<D> = Tensor::from_data(data, (&device, DType::F32));
            let value = if transposed {
                // Copied, so that products find rows where they expect them.
                let turned = value.transpose();
                let shape = turned.dims();
                let values = crate::host_values(turned);
                Tensor::from_data(TensorData::new(values, shape), (&device, DType::F32))
            } else {
                value
            };
            let value = crate::adapter::to_dtype(value, old.dtype());
            Ok(if old.is_autodiff() {
                value.autodiff().set_require_grad(old.is_require_grad())
            } else {
                value
            })
        }
    }
    impl ModuleMapper for Put<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.walk.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.walk.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(Named { name, transposed }) = self.walk.named() else {
                return param;
            };
            let Some((key, tensor)) = self.tensors.remove(&name) else {
                return param;
            };
            match self.value(&param.val(), key, tensor, transposed) {
                Ok(value) => param.map(|_| value),
                Err(error) => {
                    self.error.get_or_insert(error);
                    param
                }
            }
        }
    }
    if tensors.is_empty() {
        return Ok(module);
    }
    let by_name = tensors
        .iter()
        .map(|(key, tensor)| (without_wrapper(key), (key.as_str(), tensor)));
    let mut put = Put {
        walk: Walk::default(),
        tensors: by_name.collect(),
        any_shape,
        path,
        error: None,
    };
    let module = module.map(&mut put);
    if let Some(error) = put.error {
        return Err(error);
    }
    if put.tensors.is_empty() {
        return Ok(module);
    }
    Err(LoraError::SurplusTensors {
        path: path.to_owned(),
        names: put
            .tensors
            .values()
            .map(|(key, _)| (*key).to_owned())
            .collect(),
    })
}

/// The trainable parameters outside the adapters with their shapes in PyTorch's layout.
pub(crate) fn trainable<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    #[derive(Default)]
    struct Trainable {
        walk: Walk,
        found: Vec<(String, Vec<usize>)>,
    }
    impl ModuleVisitor for Trainable {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.walk.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.walk.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(Named { name, transposed }) = self.walk.named()
                && param.val().is_require_grad()
            {
                let mut shape = param.val().dims().to_vec();
                if transposed {
                    shape.reverse();
                }
                self.found.push((name, shape));
            }
        }
        fn visit_int<const D: usize>(&mut self, _: &Param<Tensor<D, Int>>) {}
        fn visit_bool<const D: usize>(&mut self, _: &Param<Tensor<D, Bool>>) {}
    }
    let mut trainable = Trainable::default();
    module.visit(&mut trainable);
    trainable.found
}

/// A name in a file without the wrapper that PEFT puts around an adapted layer.
pub(crate) fn without_wrapper(key: &str) -> String {
    key.replace(".base_layer.", ".")
}

/// The module with exactly the wanted parameters, of those outside the adapters, trainable.
pub(crate) fn set_trainable<M: Module>(
    module: M,
    wanted: &dyn Fn(&str) -> bool,
    on_graph: bool,
) -> M {
    struct Mark<'a> {
        walk: Walk,
        wanted: &'a dyn Fn(&str) -> bool,
        on_graph: bool,
    }
    impl ModuleMapper for Mark<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.walk.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.walk.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(Named { name, .. }) = self.walk.named() else {
                return param;
            };
            let trained = (self.wanted)(&name);
            // What is frozen may lie on the plain device; what trains cannot.
            let param = if trained && self.on_graph {
                param.map(|value| {
                    if value.is_autodiff() {
                        value
                    } else {
                        value.autodiff()
                    }
                })
            } else {
                param
            };
            param.set_require_grad(trained)
        }
    }
    module.map(&mut Mark {
        walk: Walk::default(),
        wanted,
        on_graph,
    })
}

/// A device tensor on the host, in its own dtype.
pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> HostTensor {
    let dtype = match tensor.dtype() {
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        _ => Dtype::F32,
    };
    let shape = tensor.dims().to_vec();
    let values = HostTensor::from_f32(shape, &crate::host_values(tensor));
    // Only types that cannot be converted fail.
    values.to_dtype(dtype).unwrap_or(values)
}

/// A stored `[rows, columns]` matrix as its transpose `[columns, rows]` on the device, off the graph, in f32.
pub(crate) fn transposed_to_device(
    tensor: &HostTensor,
    [rows, columns]: [usize; 2],
    device: &Device,
) -> Result<Tensor<2>> {
    let values = tensor.to_f32()?;
    let mut transposed = vec![0.0f32; values.len()];
    for row in 0..rows {
        for column in 0..columns {
            transposed[column * rows + row] = values[row * columns + column];
        }
    }
    Ok(crate::adapter::matrix(
        transposed,
        [columns, rows],
        &device.clone().inner(),
    ))
}
