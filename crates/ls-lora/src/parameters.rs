//! Parameters outside the adapters, under PyTorch's names: modules trained in full, and biases.
//!
//! Names are the paths of a module's fields with PyTorch's words for what burn calls otherwise
//! (`gamma` is `weight`), and without what this crate puts between a layer and its frozen weight. A
//! linear layer's weight is `[out, in]` in files and `[in, out]` here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use ls_files::{Dtype, FileError, HostTensor};

use crate::dtype::{host_values, matrix, to_dtype};
use crate::error::{LoraError, Result};
use crate::peft::is_vocabulary;

/// A walk over a module that hands its parameters outside the adapters to `F`.
struct Walk<F> {
    /// Names of the fields, and the type that has each.
    path: Vec<(String, String)>,
    f: F,
}

/// A parameter as PyTorch knows it.
struct Named {
    name: String,
    /// Whether files hold its transpose.
    transposed: bool,
}

impl<F> Walk<F> {
    fn new(f: F) -> Self {
        Self {
            path: Vec::new(),
            f,
        }
    }

    fn enter(&mut self, name: &str, container: &str) {
        self.path.push((name.to_owned(), container.to_owned()));
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

/// What a visit asks of a parameter of any number of dimensions.
trait Parameter {
    /// The value in PyTorch's layout and its own dtype.
    fn host(&self, transposed: bool) -> HostTensor;
    /// The shape in PyTorch's layout, if it is trainable.
    fn trainable_shape(&self, transposed: bool) -> Option<Vec<usize>>;
}

impl<const D: usize> Parameter for Param<Tensor<D>> {
    fn host(&self, transposed: bool) -> HostTensor {
        let value = self.val();
        host(if transposed { value.transpose() } else { value })
    }

    fn trainable_shape(&self, transposed: bool) -> Option<Vec<usize>> {
        let value = self.val();
        let mut shape = value.dims().to_vec();
        if transposed {
            shape.reverse();
        }
        value.is_require_grad().then_some(shape)
    }
}

impl<F: FnMut(Named, &dyn Parameter)> ModuleVisitor for Walk<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(named) = self.named() {
            (self.f)(named, param);
        }
    }
}

/// A change of parameters of any number of dimensions.
trait Change {
    fn change<const D: usize>(&mut self, named: Named, param: Param<Tensor<D>>)
    -> Param<Tensor<D>>;
}

impl<F: Change> ModuleMapper for Walk<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.named() {
            Some(named) => self.f.change(named, param),
            None => param,
        }
    }
}

/// The parameters outside the adapters whose names are wanted, in PyTorch's layout (a linear weight
/// is `[out, in]`) and their own dtype, by PyTorch's names.
#[must_use]
pub fn parameters<M: Module>(
    module: &M,
    wanted: &dyn Fn(&str) -> bool,
) -> BTreeMap<String, HostTensor> {
    let mut found = BTreeMap::new();
    module.visit(&mut Walk::new(|named: Named, param: &dyn Parameter| {
        if wanted(&named.name) {
            found.insert(named.name, param.host(named.transposed));
        }
    }));
    found
}

/// The names of all parameters outside the adapters, in the order of the fields.
pub(crate) fn names<M: Module>(module: &M) -> Vec<String> {
    let mut found = Vec::new();
    module.visit(&mut Walk::new(|named: Named, _: &dyn Parameter| {
        found.push(named.name);
    }));
    found
}

/// The trainable parameters outside the adapters with their shapes in PyTorch's layout.
pub(crate) fn trainable<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    let mut found = Vec::new();
    module.visit(&mut Walk::new(|named: Named, param: &dyn Parameter| {
        let shape = param.trainable_shape(named.transposed);
        found.extend(shape.map(|shape| (named.name, shape)));
    }));
    found
}

/// The names of all modules with parameters of their own or below, adapters left out.
pub(crate) fn modules<M: Module>(module: &M) -> Vec<String> {
    let mut found = BTreeSet::new();
    for name in names(module) {
        found.extend(
            name.match_indices('.')
                .map(|(end, _)| name[..end].to_owned()),
        );
    }
    found.into_iter().collect()
}

/// The module with parameters replaced by these tensors, under the names of a file; each keeps its
/// dtype, id and device. The table of a vocabulary may have another number of rows. `any_shape` is
/// for tensors that came from the module itself. `path` is for messages.
pub(crate) fn put<M: Module>(
    module: M,
    tensors: &BTreeMap<String, HostTensor>,
    path: &Path,
    any_shape: bool,
) -> Result<M> {
    if tensors.is_empty() {
        return Ok(module);
    }
    let by_name = tensors
        .iter()
        .map(|(key, tensor)| (without_wrapper(key), (key.as_str(), tensor)));
    let mut walk = Walk::new(Put {
        tensors: by_name.collect(),
        any_shape,
        path,
        error: None,
    });
    let module = module.map(&mut walk);
    let Put { tensors, error, .. } = walk.f;
    if let Some(error) = error {
        return Err(error);
    }
    if tensors.is_empty() {
        return Ok(module);
    }
    Err(LoraError::SurplusTensors {
        path: path.to_owned(),
        names: tensors.values().map(|(key, _)| (*key).to_owned()).collect(),
    })
}

struct Put<'a> {
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
        } else if is_vocabulary(key) {
            // As many rows as it has tokens.
            tensor.shape.len() == D && tensor.shape.get(1..) == expected.get(1..)
        } else {
            tensor.shape == expected
        };
        if !fits {
            return Err(FileError::TensorShape {
                path: self.path.to_owned(),
                name: key.to_owned(),
                expected,
                found: tensor.shape.clone(),
            }
            .into());
        }
        let data = TensorData::new(tensor.to_f32()?, tensor.shape.clone());
        let device = old.device().inner();
        let value: Tensor<D> = Tensor::from_data(data, (&device, DType::F32));
        let value = if transposed {
            // Copied, so that products find rows where they expect them.
            let turned = value.transpose();
            let shape = turned.dims();
            let values = host_values(turned);
            Tensor::from_data(TensorData::new(values, shape), (&device, DType::F32))
        } else {
            value
        };
        let value = to_dtype(value, old.dtype());
        Ok(if old.is_autodiff() {
            value.autodiff().set_require_grad(old.is_require_grad())
        } else {
            value
        })
    }
}

impl Change for Put<'_> {
    fn change<const D: usize>(
        &mut self,
        Named { name, transposed }: Named,
        param: Param<Tensor<D>>,
    ) -> Param<Tensor<D>> {
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

/// A name in a file without the wrapper that PEFT puts around an adapted layer.
pub(crate) fn without_wrapper(key: &str) -> String {
    key.replace(".base_layer.", ".")
}

/// The module with exactly the parameters trainable, of those outside the adapters, whose names
/// are wanted: PyTorch's, such as `model.norm.weight`. `on_graph` lifts them onto the autodiff
/// graph; off it, the mark decides what trains once the module is put there.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use ls_lora::{LoraLinear, lora_module, set_trainable, trainable_tensors};
///
/// #[derive(Module, Debug)]
/// struct Net { fc1: LoraLinear, fc2: LoraLinear }
/// lora_module!(Net { fc1, fc2 });
///
/// let linear = |d_in, d_out| LinearConfig::new(d_in, d_out).init(&Device::flex()).into();
/// let net = set_trainable(Net { fc1: linear(8, 4), fc2: linear(4, 2) }, &|name| name.starts_with("fc2."), true);
/// let names: Vec<String> = trainable_tensors(&net).into_iter().map(|tensor| tensor.name).collect();
/// assert_eq!(names, ["fc2.weight", "fc2.bias"]);
/// ```
#[must_use]
pub fn set_trainable<M: Module>(module: M, wanted: &dyn Fn(&str) -> bool, on_graph: bool) -> M {
    module.map(&mut Walk::new(Mark { wanted, on_graph }))
}

struct Mark<'a> {
    wanted: &'a dyn Fn(&str) -> bool,
    on_graph: bool,
}

impl Change for Mark<'_> {
    fn change<const D: usize>(
        &mut self,
        named: Named,
        param: Param<Tensor<D>>,
    ) -> Param<Tensor<D>> {
        let trained = (self.wanted)(&named.name);
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

/// A device tensor on the host, in its own dtype.
pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> HostTensor {
    let dtype = match tensor.dtype() {
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        _ => Dtype::F32,
    };
    let shape = tensor.dims().to_vec();
    let values = HostTensor::from_f32(shape, &host_values(tensor));
    // Only types that cannot be converted fail.
    values.to_dtype(dtype).unwrap_or(values)
}

/// A stored `[rows, columns]` matrix as its transpose `[columns, rows]` on the device, off the
/// graph, in f32.
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
    Ok(matrix(transposed, [columns, rows], &device.clone().inner()))
}
