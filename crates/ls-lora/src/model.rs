//! [`LoraModel`]: a model and its named adapters, as things to add, switch, combine, merge, save and load.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, FloatDType, Tensor};

use crate::adapter::{LoraAdapter, LoraLayer, MergeDrift, to_dtype};
use crate::combine::combined;
use crate::config::LoraConfig;
use crate::error::{LoraError, Result};
use crate::module::{
    LoraModule, ModulePath, add_adapter, in_module, load_adapter, mark_trainable, names_in_full,
    to_peft,
};
use crate::peft::PeftAdapter;
use crate::quantized::Quantization;
use crate::saved::{self, without_wrapper};
use crate::target::TargetModules;
use crate::tensor_file::HostTensor;
use crate::trainable::{ParameterCount, TrainableTensor, trainable_tensors};

/// A model with any number of named adapters, of which any number is active. It derefs to the model, so
/// `model.forward(x)` is the model's own.
///
/// What an adapter trains in full (`modules_to_save`, biases) is switched with it: each adapter has values of its own, and
/// with no adapter active the base has its own again.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::LinearConfig;
/// use burn::tensor::{Device, Tensor};
/// use ls_lora::{LoraConfig, LoraLinear, LoraModel, TargetModules, lora_module};
///
/// #[derive(Module, Debug)]
/// struct Net { fc1: LoraLinear, fc2: LoraLinear }
/// lora_module!(Net { fc1, fc2 });
///
/// impl Net {
///     fn forward(&self, x: Tensor<2>) -> Tensor<2> {
///         self.fc2.forward(self.fc1.forward(x).tanh())
///     }
/// }
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// # let device = Device::flex().autodiff();
/// # let linear = |d_in, d_out| LinearConfig::new(d_in, d_out).init(&device).into();
/// let mut model = LoraModel::new(Net { fc1: linear(8, 16), fc2: linear(16, 2) });
/// let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::AllLinear);
/// model.add_adapter("first", &config, &device)?;
/// model.add_adapter("second", &config, &device)?;     // the active one from now on
/// assert_eq!(model.active_adapters(), ["second"]);
/// model.set_adapter(&["first", "second"])?;
/// assert_eq!(model.forward(Tensor::ones([3, 8], &device)).dims(), [3, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Module, Debug)]
pub struct LoraModel<M: LoraModule> {
    model: M,
    #[module(skip)]
    book: Book,
}

/// What is known of the adapters beside their tensors.
#[derive(Debug, Clone, Default)]
struct Book {
    adapters: BTreeMap<String, Entry>,
    /// In the order in which they take part.
    active: Vec<String>,
    /// The active adapter whose full modules are in the model now.
    owner: Option<String>,
    /// The base's values of everything that some adapter has in full.
    base: BTreeMap<String, HostTensor>,
    /// What merging said, while adapters are merged.
    report: Option<MergeReport>,
}

#[derive(Debug, Clone)]
struct Entry {
    config: LoraConfig,
    /// The layers that it adapts.
    modules: Vec<String>,
    /// Its full modules while they are not in the model.
    saved: BTreeMap<String, HostTensor>,
}

/// How [`LoraModel::add_weighted_adapter`] combines.
///
/// ```
/// # use burn::module::{Module, Param};
/// # use burn::nn::LinearConfig;
/// # use burn::tensor::Device;
/// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, lora_module};
/// use ls_lora::{Combination, LoraModel};
/// # #[derive(Module, Debug)]
/// # struct Net { fc: LoraLinear }
/// # lora_module!(Net { fc });
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// # let device = Device::flex().autodiff();
/// # let net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
/// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
/// let mut model = LoraModel::new(net);
/// model.add_adapter("a", &config, &device)?;
/// model.add_adapter("b", &config, &device)?;
/// model.add_weighted_adapter("exact", &[("a", 0.5), ("b", 0.5)], Combination::Cat)?;
/// model.add_weighted_adapter("thin", &[("a", 0.5), ("b", 0.5)], Combination::Linear)?;
/// let ranks: Vec<usize> = model.fc.adapters.iter().map(|adapter| adapter.rank()).collect();
/// assert_eq!(ranks, [2, 2, 4, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combination {
    /// A and B are summed apart, each with the root of the weight: the rank stays, the result is rough. All ranks must agree.
    Linear,
    /// A and B are laid side by side: the rank is the sum of the ranks, the result is exact.
    Cat,
}

/// What merging changed by casting, layer by layer.
///
/// ```
/// # use burn::module::{Module, Param};
/// # use burn::nn::LinearConfig;
/// # use burn::tensor::{Device, Tensor};
/// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, lora_module};
/// use ls_lora::LoraModel;
/// # #[derive(Module, Debug)]
/// # struct Net { fc: LoraLinear }
/// # lora_module!(Net { fc });
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// # let device = Device::flex().autodiff();
/// # let net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
/// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
/// let mut model = LoraModel::new(net);
/// model.add_adapter("mine", &config, &device)?;
/// # model.fc.adapters[0].lora_b = Param::from_tensor(Tensor::ones([2, 4], &device));   // stands for training
/// let report = model.merge()?;
/// println!("{report}");
/// assert_eq!(report.layers[0].module, "fc");
/// assert_eq!(report.worst().map(|layer| layer.relative), Some(0.0));      // the weight is f32
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MergeReport {
    /// The merged layers.
    pub layers: Vec<MergeDrift>,
}

impl MergeReport {
    /// The layer whose rounding is largest beside the change.
    ///
    /// ```
    /// use ls_lora::{MergeDrift, MergeReport};
    ///
    /// let layer = |name: &str, relative| MergeDrift { module: name.to_owned(), max_abs: 1e-4, relative };
    /// let report = MergeReport { layers: vec![layer("fc1", 0.01), layer("fc2", 0.2)] };
    /// assert_eq!(report.worst().map(|layer| layer.module.as_str()), Some("fc2"));
    /// ```
    #[must_use]
    pub fn worst(&self) -> Option<&MergeDrift> {
        self.layers
            .iter()
            .max_by(|a, b| a.relative.total_cmp(&b.relative))
    }
}

impl fmt::Display for MergeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.worst() {
            None => f.write_str("no layer had an active adapter"),
            Some(worst) => write!(
                f,
                "{} layers merged; rounding is at most {:.2e} of the change (in {}, {:.1e} in one weight)",
                self.layers.len(),
                worst.relative,
                worst.module,
                worst.max_abs
            ),
        }
    }
}

impl<M: LoraModule> Deref for LoraModel<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.model
    }
}

impl<M: LoraModule> DerefMut for LoraModel<M> {
    fn deref_mut(&mut self) -> &mut M {
        &mut self.model
    }
}

impl<M: LoraModule> LoraModule for LoraModel<M> {
    fn visit_layers<'a>(
        &'a self,
        path: &mut ModulePath,
        f: &mut dyn FnMut(&str, &'a dyn LoraLayer),
    ) {
        self.model.visit_layers(path, f);
    }

    fn visit_layers_mut<'a>(
        &'a mut self,
        path: &mut ModulePath,
        f: &mut dyn FnMut(&str, &'a mut dyn LoraLayer),
    ) {
        self.model.visit_layers_mut(path, f);
    }

    fn visit_heads(&self, path: &mut ModulePath, f: &mut dyn FnMut(&str)) {
        self.model.visit_heads(path, f);
    }
}

impl<M: LoraModule> LoraModel<M> {
    /// A model without adapters.
    ///
    /// ```
    /// # use burn::module::{Module, Param};
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::{Device, Tensor};
    /// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, lora_module};
    /// use ls_lora::{LoraModel, host_values};
    /// # #[derive(Module, Debug)]
    /// # struct Net { fc: LoraLinear }
    /// # lora_module!(Net { fc });
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex().autodiff();
    /// # let net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
    /// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
    /// # let x = Tensor::<2>::ones([3, 8], &device);
    /// let y = net.fc.forward(x.clone());
    /// let model = LoraModel::new(net);
    /// assert_eq!(model.adapter_names().count(), 0);
    /// assert_eq!(host_values(model.fc.forward(x)), host_values(y));
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(model: M) -> Self {
        Self {
            model,
            book: Book::default(),
        }
    }

    /// Adds a fresh adapter and makes it the active one; returns the names of the adapted layers.
    ///
    /// ```
    /// # use burn::module::{Module, Param};
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::Device;
    /// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, lora_module};
    /// use ls_lora::{LoraError, LoraModel};
    /// # #[derive(Module, Debug)]
    /// # struct Net { fc: LoraLinear }
    /// # lora_module!(Net { fc });
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex().autodiff();
    /// # let net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
    /// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
    /// let mut model = LoraModel::new(net);
    /// assert_eq!(model.add_adapter("mine", &config, &device)?, ["fc"]);
    ///
    /// let misspelt = config.with_target_modules(TargetModules::list(["fc_1"]));
    /// let refused = model.add_adapter("other", &misspelt, &device);
    /// assert!(matches!(refused, Err(LoraError::UnmatchedTargets { requested, .. }) if requested == ["fc_1"]));
    /// assert_eq!(model.active_adapters(), ["mine"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`add_adapter`]; the model is then as it was.
    pub fn add_adapter(
        &mut self,
        name: &str,
        config: &LoraConfig,
        device: &Device,
    ) -> Result<Vec<String>> {
        self.adopt(name, config, |model| {
            add_adapter(model, name, config, device)
        })
    }

    /// Adds the adapter of a PEFT folder and makes it the active one; returns the names of the adapted layers.
    ///
    /// ```
    /// # use burn::module::{Module, Param};
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::{Device, Tensor};
    /// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, lora_module};
    /// use ls_lora::{LoraModel, host_values};
    /// # #[derive(Module, Debug)]
    /// # struct Net { fc: LoraLinear }
    /// # lora_module!(Net { fc });
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex().autodiff();
    /// # let net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
    /// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
    /// # let x = Tensor::<2>::ones([3, 8], &device);
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let folder = dir.path().join("adapter");
    /// let mut model = LoraModel::new(net.clone());
    /// model.add_adapter("mine", &config, &device)?;
    /// # model.fc.adapters[0].lora_b = Param::from_tensor(Tensor::ones([2, 4], &device));   // stands for training
    /// model.save_adapter("mine", &folder)?;
    ///
    /// let mut again = LoraModel::new(net);
    /// assert_eq!(again.load_adapter("from peft", &folder, &device)?, ["fc"]);
    /// assert_eq!(host_values(again.fc.forward(x.clone())), host_values(model.fc.forward(x)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`PeftAdapter::load`] and [`load_adapter`]; the model is then as it was.
    pub fn load_adapter(
        &mut self,
        name: &str,
        dir: impl AsRef<Path>,
        device: &Device,
    ) -> Result<Vec<String>> {
        let dir = dir.as_ref();
        let adapter = PeftAdapter::load(dir)?;
        let config = adapter.config.clone();
        self.adopt(name, &config, |model| {
            load_adapter(model, name, &adapter, dir, device)
        })
    }

    /// Adds an adapter by `place`, which starts from the base's own modules.
    fn adopt(
        &mut self,
        name: &str,
        config: &LoraConfig,
        place: impl FnOnce(&mut M) -> Result<Vec<String>>,
    ) -> Result<Vec<String>> {
        if self.book.adapters.contains_key(name) {
            return Err(LoraError::DuplicateAdapter {
                name: name.to_owned(),
            });
        }
        let mut next = self.clone();
        next.unmerge();
        next.set_active(&[])?;
        // What the adapter has in full is only known once it is placed, and then no longer the base's.
        let before = next.model.clone();
        let modules = place(&mut next.model)?;
        let in_full = names_in_full(&next.model, config, &modules);
        for (parameter, tensor) in
            saved::collect(&before, &|name| in_full.iter().any(|n| n == name))
        {
            next.book.base.entry(parameter).or_insert(tensor);
        }
        let entry = Entry {
            config: config.clone(),
            modules: modules.clone(),
            saved: BTreeMap::new(),
        };
        next.book.adapters.insert(name.to_owned(), entry);
        next.book.owner = Some(name.to_owned());
        next.book.active = vec![name.to_owned()];
        *self = next;
        Ok(modules)
    }

    /// Writes an adapter as PEFT's folder: see [`PeftAdapter::save`].
    ///
    /// ```
    /// # use burn::module::{Module, Param};
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::Device;
    /// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, lora_module};
    /// use ls_lora::LoraModel;
    /// # #[derive(Module, Debug)]
    /// # struct Net { fc: LoraLinear }
    /// # lora_module!(Net { fc });
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex().autodiff();
    /// # let net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
    /// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let folder = dir.path().join("adapter");
    /// let mut model = LoraModel::new(net);
    /// model.add_adapter("mine", &config, &device)?;
    /// model.save_adapter("mine", &folder)?;
    /// assert!(folder.join("adapter_config.json").exists() && folder.join("adapter_model.safetensors").exists());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::UnknownAdapter`]; else as [`PeftAdapter::save`].
    pub fn save_adapter(&self, name: &str, dir: impl AsRef<Path>) -> Result<()> {
        self.adapter(name)?.save(dir)
    }

    /// An adapter on the host, as PEFT's folder would hold it.
    ///
    /// ```
    /// # use burn::module::{Module, Param};
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::Device;
    /// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, lora_module};
    /// use ls_lora::LoraModel;
    /// # #[derive(Module, Debug)]
    /// # struct Net { fc: LoraLinear }
    /// # lora_module!(Net { fc });
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex().autodiff();
    /// # let net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
    /// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
    /// let mut model = LoraModel::new(net);
    /// model.add_adapter("mine", &config, &device)?;
    /// let adapter = model.adapter("mine")?;
    /// assert_eq!(adapter.lora["fc"].a.shape, [2, 8]);     // PEFT's layout, [r, in]
    /// assert!(model.adapter("yours").is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::UnknownAdapter`].
    pub fn adapter(&self, name: &str) -> Result<PeftAdapter> {
        let entry = self.entry(name)?;
        let mut adapter = to_peft(&self.model, name, &entry.config);
        if self.book.owner.as_deref() != Some(name) {
            let rename = |key: &String| (without_wrapper(key), key.clone());
            let keys: BTreeMap<String, String> = adapter.saved_modules.keys().map(rename).collect();
            let own = entry.saved.iter();
            adapter.saved_modules = own
                .filter_map(|(name, tensor)| Some((keys.get(name)?.clone(), tensor.clone())))
                .collect();
        }
        Ok(adapter)
    }

    /// The names of the adapters, sorted.
    pub fn adapter_names(&self) -> impl Iterator<Item = &str> {
        self.book.adapters.keys().map(String::as_str)
    }

    /// The active adapters; none while they are disabled.
    #[must_use]
    pub fn active_adapters(&self) -> &[String] {
        &self.book.active
    }

    /// The configuration of an adapter.
    #[must_use]
    pub fn config(&self, name: &str) -> Option<&LoraConfig> {
        self.book.adapters.get(name).map(|entry| &entry.config)
    }

    /// Makes exactly these adapters active; their shares add up. An empty list disables all of them: the model then computes
    /// what the base computes. Merged adapters are unmerged first. The others keep their values and do not train. With DoRA
    /// among them the order counts: it scales what those before it made of the base.
    ///
    /// Modules in full keep their parameter ids from adapter to adapter, and an optimizer its moments by id: begin a new one
    /// when another adapter is to train.
    ///
    /// ```
    /// # use burn::module::{Module, Param};
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::{Device, Tensor};
    /// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, lora_module};
    /// use ls_lora::{LoraModel, host_values};
    /// # #[derive(Module, Debug)]
    /// # struct Net { fc: LoraLinear }
    /// # lora_module!(Net { fc });
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex().autodiff();
    /// # let net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
    /// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
    /// # let x = Tensor::<2>::ones([3, 8], &device);
    /// let base = host_values(net.fc.forward(x.clone()));
    /// let mut model = LoraModel::new(net);
    /// model.add_adapter("mine", &config, &device)?;
    /// # model.fc.adapters[0].lora_b = Param::from_tensor(Tensor::ones([2, 4], &device));   // stands for training
    /// let adapted = host_values(model.fc.forward(x.clone()));
    ///
    /// model.set_adapter(&[])?;
    /// assert_eq!(host_values(model.fc.forward(x.clone())), base);
    /// model.set_adapter(&["mine"])?;
    /// assert_eq!(host_values(model.fc.forward(x)), adapted);
    /// # assert_ne!(base, adapted);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::UnknownAdapter`]; [`LoraError::Incompatible`] if two of them have modules in full, or one has in full what
    /// another adapts. The model is then as it was.
    pub fn set_adapter(&mut self, names: &[&str]) -> Result<()> {
        let mut names: Vec<&str> = names.to_vec();
        let mut seen = Vec::new();
        names.retain(|name| {
            !seen.contains(name) && {
                seen.push(*name);
                true
            }
        });
        self.expect_together(&names)?;
        self.unmerge();
        self.set_active(&names)
    }

    /// Checks that these adapters can be active at once.
    fn expect_together(&self, names: &[&str]) -> Result<()> {
        let refuse = |reason: String| {
            Err(LoraError::Incompatible {
                action: "activate several adapters",
                reason,
            })
        };
        let mut owner: Option<&str> = None;
        for &name in names {
            self.entry(name)?;
            if self.saved_keys(name).is_empty() {
                continue;
            }
            if let Some(other) = owner {
                return refuse(format!("{other:?} and {name:?} both have modules in full"));
            }
            owner = Some(name);
        }
        let Some(owner) = owner else {
            return Ok(());
        };
        let in_full = self.saved_keys(owner);
        for &name in names.iter().filter(|name| **name != owner) {
            let adapted = self.entry(name)?.modules.iter();
            let mut both = adapted.filter(|module| in_full.contains(&format!("{module}.weight")));
            if let Some(module) = both.next() {
                return refuse(format!(
                    "{owner:?} has {module} in full, {name:?} adapts it"
                ));
            }
        }
        Ok(())
    }

    fn set_active(&mut self, names: &[&str]) -> Result<()> {
        let owner = names
            .iter()
            .copied()
            .find(|name| !self.saved_keys(name).is_empty());
        self.swap_full_modules(owner)?;
        let on_graph = self.is_on_graph();
        for (_, layer) in self.model.layers_mut() {
            for adapter in layer.adapters_mut() {
                adapter.active = names.contains(&adapter.name.as_str());
                adapter.lora_a = marked(&adapter.lora_a, adapter.active, on_graph);
                adapter.lora_b = marked(&adapter.lora_b, adapter.active, on_graph);
                if let Some(dora) = &mut adapter.dora {
                    dora.magnitude = marked(&dora.magnitude, adapter.active, on_graph);
                }
            }
            // They take part in the order asked for, which with DoRA matters.
            let place = |adapter: &LoraAdapter| names.iter().position(|name| *name == adapter.name);
            layer
                .adapters_mut()
                .sort_by_key(|adapter| place(adapter).unwrap_or(names.len()));
        }
        self.book.active = names.iter().map(|&name| name.to_owned()).collect();
        Ok(())
    }

    /// Puts the full modules of `owner`, or the base's, into the model.
    fn swap_full_modules(&mut self, owner: Option<&str>) -> Result<()> {
        if self.book.owner.as_deref() == owner {
            return Ok(());
        }
        if let Some(old) = self.book.owner.clone() {
            let values = self.full_modules(&old);
            if let Some(entry) = self.book.adapters.get_mut(&old) {
                entry.saved = values;
            }
        }
        let here = Path::new("");
        let mut model = saved::put(self.model.clone(), &self.book.base, here, true)?;
        let on_graph = self.is_on_graph();
        match owner.and_then(|name| self.book.adapters.get(name)) {
            Some(entry) => {
                model = saved::put(model, &entry.saved, here, true)?;
                mark_trainable(&mut model, &entry.config, &entry.modules, on_graph)?;
            }
            None => model = saved::set_trainable(model, &|_| false, on_graph),
        }
        self.model = model;
        self.book.owner = owner.map(str::to_owned);
        Ok(())
    }

    /// The parameters that an adapter has in full.
    fn saved_keys(&self, name: &str) -> Vec<String> {
        let Some(entry) = self.book.adapters.get(name) else {
            return Vec::new();
        };
        names_in_full(&self.model, &entry.config, &entry.modules)
    }

    fn is_on_graph(&self) -> bool {
        self.model.layers().iter().any(|(_, layer)| {
            layer
                .adapters()
                .iter()
                .any(|a| a.lora_a.val().is_autodiff())
        })
    }

    /// Removes an adapter. If it was active, the others stay active.
    ///
    /// ```
    /// # use burn::module::{Module, Param};
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::Device;
    /// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, lora_module};
    /// use ls_lora::LoraModel;
    /// # #[derive(Module, Debug)]
    /// # struct Net { fc: LoraLinear }
    /// # lora_module!(Net { fc });
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex().autodiff();
    /// # let net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
    /// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
    /// let mut model = LoraModel::new(net);
    /// model.add_adapter("first", &config, &device)?;
    /// model.add_adapter("second", &config, &device)?;
    /// model.delete_adapter("second")?;
    /// assert_eq!(model.adapter_names().collect::<Vec<_>>(), ["first"]);
    /// assert!(model.active_adapters().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::UnknownAdapter`].
    pub fn delete_adapter(&mut self, name: &str) -> Result<()> {
        self.entry(name)?;
        if self.book.active.iter().any(|active| active == name) {
            let rest: Vec<String> = self
                .book
                .active
                .iter()
                .filter(|n| *n != name)
                .cloned()
                .collect();
            let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
            self.set_adapter(&rest)?;
        }
        for (_, layer) in self.model.layers_mut() {
            layer.adapters_mut().retain(|adapter| adapter.name != name);
        }
        self.book.adapters.remove(name);
        Ok(())
    }

    /// Adds an adapter that is the weighted sum of others, as peft's `add_weighted_adapter` makes it, without making it
    /// active. Weights may be negative. What one of them has in full goes with it.
    ///
    /// ```
    /// # use burn::module::{Module, Param};
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::{Device, Tensor};
    /// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, lora_module};
    /// use ls_lora::{Combination, LoraModel};
    /// # #[derive(Module, Debug)]
    /// # struct Net { fc: LoraLinear }
    /// # lora_module!(Net { fc });
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex().autodiff();
    /// # let net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
    /// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
    /// # let x = Tensor::<2>::ones([3, 8], &device);
    /// let base = net.fc.forward(x.clone());
    /// let mut model = LoraModel::new(net);
    /// model.add_adapter("mine", &config, &device)?;
    /// # model.fc.adapters[0].lora_b = Param::from_tensor(Tensor::ones([2, 4], &device));   // stands for training
    /// let change = model.fc.forward(x.clone()) - base.clone();
    ///
    /// model.add_weighted_adapter("half", &[("mine", 0.5)], Combination::Linear)?;
    /// model.set_adapter(&["half"])?;
    /// let half = model.fc.forward(x) - base;
    /// assert!(half.all_close(change * 0.5, Some(1e-4), Some(1e-5)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::UnknownAdapter`], [`LoraError::DuplicateAdapter`]; [`LoraError::Incompatible`] for DoRA, for ranks that
    /// differ under [`Combination::Linear`], for weights that are no numbers, and if two adapters have modules in full.
    pub fn add_weighted_adapter(
        &mut self,
        name: &str,
        adapters: &[(&str, f64)],
        combination: Combination,
    ) -> Result<()> {
        if self.book.adapters.contains_key(name) {
            return Err(LoraError::DuplicateAdapter {
                name: name.to_owned(),
            });
        }
        let refuse = |reason: String| LoraError::Incompatible {
            action: "combine adapters",
            reason,
        };
        let mut owners = Vec::new();
        let mut ranks = Vec::new();
        for (part, weight) in adapters {
            let entry = self.entry(part)?;
            if entry.config.use_dora {
                return Err(refuse(format!(
                    "{part:?} has DoRA magnitudes, which do not add up"
                )));
            }
            if !weight.is_finite() {
                return Err(refuse(format!("the weight of {part:?} is {weight}")));
            }
            let config = entry.config.converted();
            let of_layers = entry.modules.iter().map(|module| config.rank_of(module));
            ranks.push(of_layers.max().unwrap_or(config.r));
            if !self.saved_keys(part).is_empty() {
                owners.push(*part);
            }
        }
        if let [first, second, ..] = owners[..] {
            return Err(refuse(format!(
                "{first:?} and {second:?} both have modules in full"
            )));
        }
        let Some((first, _)) = adapters.first() else {
            return Err(refuse("none was named".to_owned()));
        };
        // As in peft, one adapter alone is scaled rather than laid beside nothing.
        let combination = if adapters.len() == 1 {
            Combination::Linear
        } else {
            combination
        };
        let r = match combination {
            Combination::Cat => ranks.iter().sum(),
            Combination::Linear if ranks.iter().all(|r| *r == ranks[0]) => ranks[0],
            Combination::Linear => {
                return Err(refuse(format!(
                    "a linear combination needs one rank, not {ranks:?}"
                )));
            }
        };
        let mut config = self.entry(first)?.config.converted();
        config.r = r;
        config.lora_alpha = r as f64;
        // The scalings are in the factors, so this one must be 1.
        config.use_rslora = false;
        config.rank_pattern.clear();
        config.alpha_pattern.clear();
        // Exactly the layers that any of them adapts, whatever selected them.
        let mut modules: Vec<String> = Vec::new();
        for (part, _) in adapters {
            modules.extend(self.entry(part)?.modules.iter().cloned());
        }
        modules.sort();
        modules.dedup();
        let exact: Vec<String> = modules.iter().map(|module| regex::escape(module)).collect();
        config.target_modules = TargetModules::Pattern(exact.join("|"));
        config.exclude_modules = None;
        config.layers_to_transform = None;
        config.layers_pattern = None;
        if let Some(owner) = owners.first() {
            let in_full = self.saved_keys(owner);
            if let Some(module) = modules
                .iter()
                .find(|module| in_full.contains(&format!("{module}.weight")))
            {
                return Err(refuse(format!(
                    "{owner:?} has {module} in full, another adapts it"
                )));
            }
            let own = &self.entry(owner)?.config;
            config.modules_to_save = own.modules_to_save.clone();
            config.task_type = own.task_type;
            config.bias = own.bias;
        }

        let mut placed = Vec::new();
        for (module, layer) in self.model.layers() {
            let parts: Vec<_> = adapters
                .iter()
                .filter_map(|(part, weight)| Some((layer.adapter(part)?, *weight)))
                .collect();
            if !parts.is_empty() {
                let adapter = combined(name, &parts, combination, r)
                    .map_err(|error| in_module(&module, error))?;
                placed.push((module, adapter));
            }
        }
        let saved = match owners.first() {
            Some(owner) => self.full_modules(owner),
            None => BTreeMap::new(),
        };
        let entry = Entry {
            config,
            modules: placed.iter().map(|(module, _)| module.clone()).collect(),
            saved,
        };
        for (module, layer) in self.model.layers_mut() {
            if let Some(at) = placed.iter().position(|(name, _)| *name == module) {
                layer.adapters_mut().push(placed.swap_remove(at).1);
            }
        }
        self.book.adapters.insert(name.to_owned(), entry);
        Ok(())
    }

    /// The values of what an adapter has in full.
    fn full_modules(&self, name: &str) -> BTreeMap<String, HostTensor> {
        if self.book.owner.as_deref() == Some(name) {
            let keys = self.saved_keys(name);
            return saved::collect(&self.model, &|name| keys.contains(&name.to_owned()));
        }
        let entry = self.book.adapters.get(name);
        entry.map(|entry| entry.saved.clone()).unwrap_or_default()
    }

    /// Folds the active adapters into the frozen weights: computed in f32, cast once. The weights as they were are kept for
    /// [`LoraModel::unmerge`], so that the merged layers take twice their memory until [`LoraModel::merge_and_unload`].
    ///
    /// ```
    /// # use burn::module::{Module, Param};
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::{Device, Tensor};
    /// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, lora_module};
    /// use ls_lora::LoraModel;
    /// # #[derive(Module, Debug)]
    /// # struct Net { fc: LoraLinear }
    /// # lora_module!(Net { fc });
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex().autodiff();
    /// # let net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
    /// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
    /// # let x = Tensor::<2>::ones([3, 8], &device);
    /// let mut model = LoraModel::new(net);
    /// model.add_adapter("mine", &config, &device)?;
    /// # model.fc.adapters[0].lora_b = Param::from_tensor(Tensor::ones([2, 4], &device));   // stands for training
    /// let y = model.fc.forward(x.clone());
    /// println!("{}", model.merge()?);                     // what rounding cost
    /// assert!(model.is_merged() && model.fc.forward(x.clone()).all_close(y.clone(), Some(1e-4), Some(1e-5)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::InModule`] if a packed layer would get NaN; nothing is merged then.
    pub fn merge(&mut self) -> Result<MergeReport> {
        if let Some(report) = &self.book.report {
            return Ok(report.clone());
        }
        let mut merged = self.model.clone();
        let report = merge_layers(&mut merged, false)?;
        self.model = merged;
        self.book.report = Some(report.clone());
        Ok(report)
    }

    /// Takes merged adapters out again by putting the weights back that were there, bit for bit.
    ///
    /// ```
    /// # use burn::module::{Module, Param};
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::{Device, Tensor};
    /// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, lora_module};
    /// use ls_lora::{LoraModel, host_values};
    /// # #[derive(Module, Debug)]
    /// # struct Net { fc: LoraLinear }
    /// # lora_module!(Net { fc });
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex().autodiff();
    /// # let net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
    /// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
    /// # let x = Tensor::<2>::ones([3, 8], &device);
    /// let mut model = LoraModel::new(net);
    /// model.add_adapter("mine", &config, &device)?;
    /// # model.fc.adapters[0].lora_b = Param::from_tensor(Tensor::ones([2, 4], &device));   // stands for training
    /// let y = host_values(model.fc.forward(x.clone()));
    /// model.merge()?;
    /// model.unmerge();
    /// assert!(!model.is_merged());
    /// assert_eq!(host_values(model.fc.forward(x)), y);
    /// # Ok(())
    /// # }
    /// ```
    pub fn unmerge(&mut self) {
        for (_, layer) in self.model.layers_mut() {
            layer.unmerge();
        }
        self.book.report = None;
    }

    /// Whether adapters are folded into the weights.
    #[must_use]
    pub fn is_merged(&self) -> bool {
        self.model
            .layers()
            .iter()
            .any(|(_, layer)| layer.is_merged())
    }

    /// The model with the active adapters folded in for good and all adapters gone.
    ///
    /// ```
    /// # use burn::module::{Module, Param};
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::{Device, Tensor};
    /// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, lora_module};
    /// use ls_lora::LoraModel;
    /// # #[derive(Module, Debug)]
    /// # struct Net { fc: LoraLinear }
    /// # lora_module!(Net { fc });
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex().autodiff();
    /// # let net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
    /// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
    /// # let x = Tensor::<2>::ones([3, 8], &device);
    /// let mut model = LoraModel::new(net);
    /// model.add_adapter("mine", &config, &device)?;
    /// # model.fc.adapters[0].lora_b = Param::from_tensor(Tensor::ones([2, 4], &device));   // stands for training
    /// let y = model.fc.forward(x.clone());
    /// let (net, report) = model.merge_and_unload()?;
    /// assert!(net.fc.adapters.is_empty() && report.layers.len() == 1);
    /// assert!(net.fc.forward(x).all_close(y, Some(1e-4), Some(1e-5)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`LoraModel::merge`].
    pub fn merge_and_unload(mut self) -> Result<(M, MergeReport)> {
        // Merged before, only the weights for unmerging are left to be dropped.
        let merged_before = self.book.report.take();
        let report = merge_layers(&mut self.model, true)?;
        let report = merged_before.unwrap_or(report);
        Ok((self.model, report))
    }

    /// The base model, all adapters gone.
    ///
    /// ```
    /// # use burn::module::{Module, Param};
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::{Device, Tensor};
    /// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, lora_module};
    /// use ls_lora::{LoraModel, host_values};
    /// # #[derive(Module, Debug)]
    /// # struct Net { fc: LoraLinear }
    /// # lora_module!(Net { fc });
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex().autodiff();
    /// # let net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
    /// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
    /// # let x = Tensor::<2>::ones([3, 8], &device);
    /// let base = host_values(net.fc.forward(x.clone()));
    /// let mut model = LoraModel::new(net);
    /// model.add_adapter("mine", &config, &device)?;
    /// # model.fc.adapters[0].lora_b = Param::from_tensor(Tensor::ones([2, 4], &device));   // stands for training
    /// model.merge()?;
    /// let net = model.unload()?;
    /// assert!(net.fc.adapters.is_empty());
    /// assert_eq!(host_values(net.fc.forward(x)), base);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`LoraModel::set_adapter`] with an empty list.
    pub fn unload(mut self) -> Result<M> {
        self.set_adapter(&[])?;
        for (_, layer) in self.model.layers_mut() {
            layer.unload();
        }
        Ok(self.model)
    }

    /// Packs the frozen weight of every linear layer into 4 or 8 bits a value (QLoRA). Heads, what an adapter has in full,
    /// embeddings and norms stay as they are.
    ///
    /// ```
    /// # use burn::module::{Module, Param};
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::{Device, Tensor};
    /// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, lora_module};
    /// use ls_lora::{BaseLayer, LoraModel, Quantization};
    /// # #[derive(Module, Debug)]
    /// # struct Net { fc: LoraLinear }
    /// # lora_module!(Net { fc });
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex().autodiff();
    /// # let net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
    /// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
    /// # let x = Tensor::<2>::ones([3, 8], &device);
    /// let mut model = LoraModel::new(net);
    /// model.quantize(Quantization::Nf4)?;
    /// model.add_adapter("mine", &config, &device)?;
    /// assert!(matches!(model.fc.base_layer, BaseLayer::Quantized(_)));
    /// let gradients = model.fc.forward(x).sum().backward();
    /// assert!(model.fc.adapters[0].lora_b.val().grad(&gradients).is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::InModule`] with [`LoraError::BackendNotBuilt`], [`LoraError::NonFiniteWeight`], or [`LoraError::Incompatible`]
    /// while adapters are merged. The model is then as it was.
    pub fn quantize(&mut self, format: Quantization) -> Result<()> {
        let mut kept = self.model.head_names();
        for entry in self.book.adapters.values() {
            let in_full = names_in_full(&self.model, &entry.config, &entry.modules);
            kept.extend(
                in_full
                    .iter()
                    .filter_map(|name| name.strip_suffix(".weight"))
                    .map(str::to_owned),
            );
        }
        let mut packed = self.model.clone();
        for (module, layer) in packed.layers_mut() {
            if !kept.contains(&module) {
                layer
                    .quantize(format)
                    .map_err(|error| in_module(&module, error))?;
            }
        }
        self.model = packed;
        Ok(())
    }

    /// The tensors that receive gradients, with PEFT's names and shapes.
    ///
    /// ```
    /// # use burn::module::{Module, Param};
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::Device;
    /// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, lora_module};
    /// use ls_lora::LoraModel;
    /// # #[derive(Module, Debug)]
    /// # struct Net { fc: LoraLinear }
    /// # lora_module!(Net { fc });
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex().autodiff();
    /// # let net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
    /// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
    /// let mut model = LoraModel::new(net);
    /// model.add_adapter("mine", &config, &device)?;
    /// let names: Vec<String> = model.trainable_tensors().into_iter().map(|tensor| tensor.name).collect();
    /// assert_eq!(names, ["fc.lora_A.mine.weight", "fc.lora_B.mine.weight"]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn trainable_tensors(&self) -> Vec<TrainableTensor> {
        trainable_tensors(&self.model)
    }

    /// How many parameters there are and how many train.
    ///
    /// ```
    /// # use burn::module::{Module, Param};
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::Device;
    /// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, lora_module};
    /// use ls_lora::LoraModel;
    /// # #[derive(Module, Debug)]
    /// # struct Net { fc: LoraLinear }
    /// # lora_module!(Net { fc });
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex().autodiff();
    /// # let net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
    /// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
    /// let mut model = LoraModel::new(net);                // 8 inputs, 4 outputs and a bias
    /// model.add_adapter("mine", &config, &device)?;       // of rank 2
    /// let line = model.parameters().to_string();
    /// assert_eq!(line, "trainable params: 24 || all params: 60 || trainable%: 40.0000");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn parameters(&self) -> ParameterCount {
        ParameterCount::of(&self.model)
    }

    /// Holds the factors of all adapters in another float type, for less memory. They are f32 otherwise.
    ///
    /// ```
    /// # use burn::module::{Module, Param};
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::{Device, Tensor};
    /// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, lora_module};
    /// use burn::tensor::{DType, FloatDType};
    /// use ls_lora::LoraModel;
    /// # #[derive(Module, Debug)]
    /// # struct Net { fc: LoraLinear }
    /// # lora_module!(Net { fc });
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex().autodiff();
    /// # let net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
    /// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
    /// # let x = Tensor::<2>::ones([3, 8], &device);
    /// let mut model = LoraModel::new(net);
    /// model.add_adapter("mine", &config, &device)?;
    /// model.cast_adapters(FloatDType::BF16);
    /// assert_eq!(model.fc.adapters[0].lora_a.val().dtype(), DType::BF16);
    /// assert_eq!(model.fc.forward(x).dtype(), DType::F32);
    /// # Ok(())
    /// # }
    /// ```
    pub fn cast_adapters(&mut self, dtype: FloatDType) {
        let dtype = DType::from(dtype);
        for (_, layer) in self.model.layers_mut() {
            for adapter in layer.adapters_mut() {
                let cast = |param: &Param<Tensor<2>>| {
                    let trains = param.val().is_require_grad();
                    param.clone().map(|value| {
                        let value = to_dtype(value.detach(), dtype).detach();
                        value.set_require_grad(trains)
                    })
                };
                adapter.lora_a = cast(&adapter.lora_a);
                adapter.lora_b = cast(&adapter.lora_b);
            }
        }
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.book
            .adapters
            .get(name)
            .ok_or_else(|| LoraError::UnknownAdapter {
                name: name.to_owned(),
                available: self.book.adapters.keys().cloned().collect(),
            })
    }
}

/// Merges layer by layer, if asked letting go of what unmerging would need as it goes.
fn merge_layers<M: LoraModule>(model: &mut M, unload: bool) -> Result<MergeReport> {
    let mut report = MergeReport::default();
    for (module, layer) in model.layers_mut() {
        if let Some(drift) = layer.merge().map_err(|error| in_module(&module, error))? {
            report.layers.push(MergeDrift { module, ..drift });
        }
        if unload {
            layer.unload();
        }
    }
    Ok(report)
}

/// A parameter of an adapter, lifted onto the graph with the others, that trains or does not.
fn marked<const D: usize>(
    param: &Param<Tensor<D>>,
    active: bool,
    on_graph: bool,
) -> Param<Tensor<D>> {
    let lifted = param.clone().map(|value| {
        if on_graph && !value.is_autodiff() {
            value.autodiff()
        } else {
            value
        }
    });
    // Also off the graph, where it says what trains when the model is put back on it.
    lifted.set_require_grad(active)
}
