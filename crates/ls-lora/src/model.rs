//! [`LoraModel`]: a model and its named adapters, as things to add, switch, combine, merge, save
//! and load.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, FloatDType, Tensor};
use ls_files::HostTensor;

use crate::adapter::LoraAdapter;
use crate::combine::{Combination, Plan, Summand};
use crate::config::LoraConfig;
use crate::dtype::to_dtype;
use crate::error::{LoraError, Result, in_module};
use crate::layer::LoraLayer;
use crate::merge::{MergeReport, merge_layers};
use crate::module::{LoraModule, ModulePath};
use crate::parameters::{self, without_wrapper};
use crate::peft::PeftAdapter;
use crate::place::{
    add_adapter, check_name, load_adapter, mark_trainable, names_in_full, place, to_peft,
};
use crate::quantized::Quantization;
use crate::trainable::{ParameterCount, TrainableTensor, trainable_tensors};

/// A model with any number of named adapters, of which any number is active. It derefs to the
/// model, so `model.forward(x)` is the model's own.
///
/// Switching adapters also switches what they train in full (`modules_to_save`, biases): each
/// adapter has its own values, and the base's come back when no adapter is active.
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
/// model.add_adapter("first", &config, 1, &device)?;
/// model.add_adapter("second", &config, 2, &device)?;  // the active one from now on
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
    registry: AdapterRegistry,
}

/// The adapters of a model by name: their configurations, which are active, and what they train in
/// full.
#[derive(Debug, Clone, Default)]
struct AdapterRegistry {
    adapters: BTreeMap<String, Entry>,
    /// In the order in which they take part.
    active: Vec<String>,
    /// The active adapter whose full modules are in the model now.
    owner: Option<String>,
    /// The base's values of everything that some adapter trains in full.
    base: BTreeMap<String, HostTensor>,
    /// The report of the merge, while adapters are merged.
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
    pub fn new(model: M) -> Self {
        Self {
            model,
            registry: AdapterRegistry::default(),
        }
    }

    /// Adds a fresh adapter, drawn from `seed`, and makes it the active one; returns the names of
    /// the adapted layers.
    ///
    /// # Errors
    ///
    /// As [`add_adapter`]; the model is then as it was.
    pub fn add_adapter(
        &mut self,
        name: &str,
        config: &LoraConfig,
        seed: u64,
        device: &Device,
    ) -> Result<Vec<String>> {
        self.adopt(name, config, |model| {
            add_adapter(model, name, config, seed, device)
        })
    }

    /// Adds the adapter of a PEFT folder and makes it the active one; returns the names of the
    /// adapted layers.
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

    /// Adds an adapter by `add`, which starts from the base's own modules.
    fn adopt(
        &mut self,
        name: &str,
        config: &LoraConfig,
        add: impl FnOnce(&mut M) -> Result<Vec<String>>,
    ) -> Result<Vec<String>> {
        self.expect_new(name)?;
        let mut next = self.clone();
        next.unmerge();
        next.set_active(&[])?;
        // What the adapter has in full is only known once it is placed, and then no longer the
        // base's.
        let before = next.model.clone();
        let modules = add(&mut next.model)?;
        let in_full = names_in_full(&next.model, config, &modules);
        for (parameter, tensor) in
            parameters::parameters(&before, &|name| in_full.iter().any(|n| n == name))
        {
            next.registry.base.entry(parameter).or_insert(tensor);
        }
        let entry = Entry {
            config: config.clone(),
            modules: modules.clone(),
            saved: BTreeMap::new(),
        };
        next.registry.adapters.insert(name.to_owned(), entry);
        next.registry.owner = Some(name.to_owned());
        next.registry.active = vec![name.to_owned()];
        *self = next;
        Ok(modules)
    }

    /// Writes an adapter as PEFT's folder: see [`PeftAdapter::save`].
    ///
    /// # Errors
    ///
    /// [`LoraError::UnknownAdapter`]; else as [`PeftAdapter::save`].
    pub fn save_adapter(&self, name: &str, dir: impl AsRef<Path>) -> Result<()> {
        self.adapter(name)?.save(dir)
    }

    /// An adapter on the host, as PEFT's folder would hold it.
    ///
    /// # Errors
    ///
    /// [`LoraError::UnknownAdapter`].
    pub fn adapter(&self, name: &str) -> Result<PeftAdapter> {
        let entry = self.entry(name)?;
        let mut adapter = to_peft(&self.model, name, &entry.config);
        if self.registry.owner.as_deref() != Some(name) {
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
        self.registry.adapters.keys().map(String::as_str)
    }

    /// The active adapters; none while they are disabled.
    #[must_use]
    pub fn active_adapters(&self) -> &[String] {
        &self.registry.active
    }

    /// The configuration of an adapter.
    #[must_use]
    pub fn config(&self, name: &str) -> Option<&LoraConfig> {
        self.registry.adapters.get(name).map(|entry| &entry.config)
    }

    /// Activates exactly these adapters; their outputs add up. An empty list disables all of them:
    /// the model then computes what the base computes. Merged adapters are unmerged first. The
    /// others keep their values and do not train. The order matters with DoRA, which scales the sum
    /// of the base and the adapters before it.
    ///
    /// Modules trained in full keep their parameter ids when adapters are switched, and an
    /// optimizer keeps its moments by id: create a new optimizer before another adapter trains.
    ///
    /// # Errors
    ///
    /// [`LoraError::UnknownAdapter`]; [`LoraError::Incompatible`] if two of them train modules in
    /// full, or one trains in full what another adapts. The model is then as it was.
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
        self.registry.active = names.iter().map(|&name| name.to_owned()).collect();
        Ok(())
    }

    /// Puts the full modules of `owner`, or the base's, into the model.
    fn swap_full_modules(&mut self, owner: Option<&str>) -> Result<()> {
        if self.registry.owner.as_deref() == owner {
            return Ok(());
        }
        if let Some(old) = self.registry.owner.clone() {
            let values = self.full_modules(&old);
            if let Some(entry) = self.registry.adapters.get_mut(&old) {
                entry.saved = values;
            }
        }
        let here = Path::new("");
        let mut model = parameters::put(self.model.clone(), &self.registry.base, here, true)?;
        let on_graph = self.is_on_graph();
        match owner.and_then(|name| self.registry.adapters.get(name)) {
            Some(entry) => {
                model = parameters::put(model, &entry.saved, here, true)?;
                mark_trainable(&mut model, &entry.config, &entry.modules, on_graph)?;
            }
            None => model = parameters::set_trainable(model, &|_| false, on_graph),
        }
        self.model = model;
        self.registry.owner = owner.map(str::to_owned);
        Ok(())
    }

    /// The names of the parameters that an adapter trains in full.
    fn saved_keys(&self, name: &str) -> Vec<String> {
        let Some(entry) = self.registry.adapters.get(name) else {
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
    /// # Errors
    ///
    /// [`LoraError::UnknownAdapter`].
    pub fn delete_adapter(&mut self, name: &str) -> Result<()> {
        self.entry(name)?;
        if self.registry.active.iter().any(|active| active == name) {
            let rest: Vec<String> = self
                .registry
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
        self.registry.adapters.remove(name);
        Ok(())
    }

    /// Adds an adapter that is the weighted sum of others, as peft's `add_weighted_adapter` makes
    /// it, without making it active. Weights may be negative. If one of them trains modules in
    /// full, the sum takes them over.
    ///
    /// # Errors
    ///
    /// [`LoraError::UnknownAdapter`], [`LoraError::DuplicateAdapter`]; [`LoraError::Incompatible`]
    /// for a name that is empty or has a dot, for DoRA, for ranks that differ under
    /// [`Combination::Linear`], for weights that are NaN or infinite, and if two adapters train
    /// modules in full.
    pub fn add_weighted_adapter(
        &mut self,
        name: &str,
        adapters: &[(&str, f64)],
        combination: Combination,
    ) -> Result<()> {
        check_name(name)?;
        self.expect_new(name)?;
        let mut summands = Vec::with_capacity(adapters.len());
        for &(name, weight) in adapters {
            let entry = self.entry(name)?;
            summands.push(Summand {
                name,
                weight,
                config: &entry.config,
                modules: &entry.modules,
                in_full: self.saved_keys(name),
            });
        }
        let plan = Plan::new(&summands, combination)?;
        let mut placed = Vec::new();
        for (module, layer) in self.model.layers() {
            let parts: Vec<_> = adapters
                .iter()
                .filter_map(|(part, weight)| Some((layer.adapter(part)?, *weight)))
                .collect();
            let adapter = plan
                .adapter(name, &parts)
                .map_err(|error| in_module(&module, error))?;
            placed.extend(adapter.map(|adapter| (module, adapter)));
        }
        let entry = Entry {
            modules: placed.iter().map(|(module, _)| module.clone()).collect(),
            saved: plan
                .owner
                .map_or_else(BTreeMap::new, |owner| self.full_modules(owner)),
            config: plan.config,
        };
        place(&mut self.model, placed);
        self.registry.adapters.insert(name.to_owned(), entry);
        Ok(())
    }

    /// The values of the parameters that an adapter trains in full.
    fn full_modules(&self, name: &str) -> BTreeMap<String, HostTensor> {
        if self.registry.owner.as_deref() == Some(name) {
            let keys = self.saved_keys(name);
            return parameters::parameters(&self.model, &|name| keys.contains(&name.to_owned()));
        }
        let entry = self.registry.adapters.get(name);
        entry.map(|entry| entry.saved.clone()).unwrap_or_default()
    }

    /// Folds the active adapters into the frozen weights: computed in f32, cast once. The weights
    /// as they were are kept for [`LoraModel::unmerge`], so that the merged layers take twice their
    /// memory until [`LoraModel::merge_and_unload`].
    ///
    /// # Errors
    ///
    /// [`LoraError::InModule`] if a packed layer would get NaN; nothing is merged then.
    pub fn merge(&mut self) -> Result<MergeReport> {
        if let Some(report) = &self.registry.report {
            return Ok(report.clone());
        }
        let mut merged = self.model.clone();
        let report = merge_layers(&mut merged, false)?;
        self.model = merged;
        self.registry.report = Some(report.clone());
        Ok(report)
    }

    /// Takes merged adapters out again by putting the weights back that were there, bit for bit.
    pub fn unmerge(&mut self) {
        for (_, layer) in self.model.layers_mut() {
            layer.unmerge();
        }
        self.registry.report = None;
    }

    /// Whether adapters are folded into the weights.
    #[must_use]
    pub fn is_merged(&self) -> bool {
        self.model
            .layers()
            .iter()
            .any(|(_, layer)| layer.is_merged())
    }

    /// Folds the active adapters in for good, drops all adapters, and returns the model with the
    /// report of the merge.
    ///
    /// # Errors
    ///
    /// As [`LoraModel::merge`].
    pub fn merge_and_unload(mut self) -> Result<(M, MergeReport)> {
        // Merged before, only the weights for unmerging are left to be dropped.
        let merged_before = self.registry.report.take();
        let report = merge_layers(&mut self.model, true)?;
        let report = merged_before.unwrap_or(report);
        Ok((self.model, report))
    }

    /// Drops all adapters and returns the base model.
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

    /// Packs the frozen weight of every linear layer into 4 or 8 bits a value (QLoRA). Heads,
    /// modules that an adapter trains in full, embeddings and norms stay as they are.
    ///
    /// # Errors
    ///
    /// [`LoraError::InModule`] with [`LoraError::BackendNotBuilt`], [`LoraError::NonFiniteWeight`],
    /// or [`LoraError::Incompatible`] while adapters are merged. The model is then as it was.
    pub fn quantize(&mut self, format: Quantization) -> Result<()> {
        let mut kept = self.model.head_names();
        for entry in self.registry.adapters.values() {
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
    #[must_use]
    pub fn trainable_tensors(&self) -> Vec<TrainableTensor> {
        trainable_tensors(&self.model)
    }

    /// How many parameters there are and how many train.
    #[must_use]
    pub fn parameters(&self) -> ParameterCount {
        ParameterCount::of(&self.model)
    }

    /// Holds the factors of all adapters in another float type, for less memory. They are f32
    /// otherwise.
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

    fn expect_new(&self, name: &str) -> Result<()> {
        if self.registry.adapters.contains_key(name) {
            return Err(LoraError::DuplicateAdapter {
                name: name.to_owned(),
            });
        }
        Ok(())
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.registry
            .adapters
            .get(name)
            .ok_or_else(|| LoraError::UnknownAdapter {
                name: name.to_owned(),
                available: self.registry.adapters.keys().cloned().collect(),
            })
    }
}

/// A parameter of an adapter, lifted onto the graph if the others are there, trainable if the
/// adapter is active.
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
    // Off the graph the mark decides what trains when the model is put back on it.
    lifted.set_require_grad(active)
}
