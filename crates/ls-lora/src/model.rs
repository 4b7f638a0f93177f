//! [`LoraModel`]: a model and its named adapters, as things to add, switch, combine, merge, save and load.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor};

use crate::adapter::{LoraLayer, MergeDrift, to_dtype};
use crate::combine::combined;
use crate::config::LoraConfig;
use crate::error::{LoraError, Result};
use crate::module::{
    LoraModule, ModulePath, add_adapter, in_module, load_adapter, mark_trainable, to_peft,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combination {
    /// A and B are summed apart, each with the root of the weight: the rank stays, the result is rough. All ranks must agree.
    Linear,
    /// A and B are laid side by side: the rank is the sum of the ranks, the result is exact.
    Cat,
}

/// What merging changed by casting, layer by layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MergeReport {
    /// The merged layers.
    pub layers: Vec<MergeDrift>,
}

impl MergeReport {
    /// The layer whose rounding is largest beside the change.
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

    fn head_names(&self) -> Vec<String> {
        self.model.head_names()
    }
}

impl<M: LoraModule> LoraModel<M> {
    /// A model without adapters.
    pub fn new(model: M) -> Self {
        Self {
            model,
            book: Book::default(),
        }
    }

    /// Adds a fresh adapter and makes it the active one; returns the names of the adapted layers.
    ///
    /// # Errors
    ///
    /// As [`add_adapter`](crate::add_adapter); the model is then as it was.
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
    /// # Errors
    ///
    /// As [`PeftAdapter::load`] and [`load_adapter`](crate::load_adapter); the model is then as it was.
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
        for key in to_peft(&next.model, name, config).saved_modules.keys() {
            let parameter = without_wrapper(key);
            let base = saved::collect(&before, &|name| name == parameter);
            for (parameter, tensor) in base {
                next.book.base.entry(parameter).or_insert(tensor);
            }
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
    /// what the base computes. Merged adapters are unmerged first. The others keep their values and do not train.
    ///
    /// # Errors
    ///
    /// [`LoraError::UnknownAdapter`]; [`LoraError::Incompatible`] if two of them have the same module in full.
    pub fn set_adapter(&mut self, names: &[&str]) -> Result<()> {
        self.unmerge();
        self.set_active(names)
    }

    fn set_active(&mut self, names: &[&str]) -> Result<()> {
        let mut owner: Option<&str> = None;
        for &name in names {
            self.entry(name)?;
            if self.saved_keys(name).is_empty() {
                continue;
            }
            if let Some(other) = owner.filter(|other| *other != name) {
                return Err(LoraError::Incompatible {
                    action: "activate several adapters",
                    reason: format!("{other:?} and {name:?} both have modules saved in full"),
                });
            }
            owner = Some(name);
        }
        self.swap_full_modules(owner)?;
        let on_graph = self.is_on_graph();
        for (_, layer) in self.model.layers_mut() {
            for adapter in layer.adapters_mut() {
                adapter.active = names.contains(&adapter.name.as_str());
                let trains = adapter.active && on_graph;
                let mark = |p: &Param<Tensor<2>>| p.clone().set_require_grad(trains);
                adapter.lora_a = mark(&adapter.lora_a);
                adapter.lora_b = mark(&adapter.lora_b);
                if let Some(dora) = &mut adapter.dora {
                    dora.magnitude = dora.magnitude.clone().set_require_grad(trains);
                }
            }
        }
        self.book.active = names.iter().map(|&name| name.to_owned()).collect();
        Ok(())
    }

    /// Puts the full modules of `owner`, or the base's, into the model.
    fn swap_full_modules(&mut self, owner: Option<&str>) -> Result<()> {
        if self.book.owner.as_deref() == owner {
            return Ok(());
        }
        if let Some(old) = self.book.owner.take() {
            let keys = self.saved_keys(&old);
            let values = saved::collect(&self.model, &|name| keys.contains(&name.to_owned()));
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
        let adapter = to_peft(&self.model, name, &entry.config);
        adapter
            .saved_modules
            .keys()
            .map(|key| without_wrapper(key))
            .collect()
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
        let rest: Vec<String> = self
            .book
            .active
            .iter()
            .filter(|n| *n != name)
            .cloned()
            .collect();
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        self.set_adapter(&rest)?;
        for (_, layer) in self.model.layers_mut() {
            layer.adapters_mut().retain(|adapter| adapter.name != name);
        }
        self.book.adapters.remove(name);
        Ok(())
    }

    /// Adds an adapter that is the weighted sum of others, as peft's `add_weighted_adapter` makes it, without making it
    /// active. Weights may be negative. What one of them has in full goes with it.
    ///
    /// # Errors
    ///
    /// [`LoraError::UnknownAdapter`], [`LoraError::DuplicateAdapter`]; [`LoraError::Incompatible`] for DoRA, for ranks that
    /// differ under [`Combination::Linear`], for targets of different kinds, and if two adapters have modules in full.
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
        let mut configs = Vec::new();
        let mut owners = Vec::new();
        for (part, _) in adapters {
            let entry = self.entry(part)?;
            if entry.config.use_dora {
                return Err(refuse(format!(
                    "{part:?} has DoRA magnitudes, which do not add up"
                )));
            }
            configs.push(entry.config.converted());
            if !self.saved_keys(part).is_empty() {
                owners.push(*part);
            }
        }
        if let [first, second, ..] = owners[..] {
            return Err(refuse(format!(
                "{first:?} and {second:?} both have modules saved in full"
            )));
        }
        let Some(first) = configs.first() else {
            return Err(refuse("none was named".to_owned()));
        };
        let largest = |config: &LoraConfig| {
            let patterns = config.rank_pattern.iter().map(|(_, r)| *r);
            patterns.fold(config.r, usize::max)
        };
        let ranks: Vec<usize> = configs.iter().map(largest).collect();
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
        let mut config = first.clone();
        config.r = r;
        config.lora_alpha = r as f64;
        // The scalings are in the factors, so this one must be 1.
        config.use_rslora = false;
        config.rank_pattern.clear();
        config.alpha_pattern.clear();
        config.target_modules = union(&configs).map_err(refuse)?;
        if let Some(owner) = owners.first() {
            config.modules_to_save = self.entry(owner)?.config.modules_to_save.clone();
            config.task_type = self.entry(owner)?.config.task_type;
            config.bias = self.entry(owner)?.config.bias;
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
    /// # Errors
    ///
    /// [`LoraError::InModule`] if a packed layer would get NaN; nothing is merged then.
    pub fn merge(&mut self) -> Result<MergeReport> {
        let mut report = MergeReport::default();
        let mut merged = self.model.clone();
        for (module, layer) in merged.layers_mut() {
            if let Some(drift) = layer.merge().map_err(|error| in_module(&module, error))? {
                report.layers.push(MergeDrift { module, ..drift });
            }
        }
        self.model = merged;
        Ok(report)
    }

    /// Takes merged adapters out again by putting the weights back that were there, bit for bit.
    pub fn unmerge(&mut self) {
        for (_, layer) in self.model.layers_mut() {
            layer.unmerge();
        }
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
    /// # Errors
    ///
    /// As [`LoraModel::merge`].
    pub fn merge_and_unload(mut self) -> Result<(M, MergeReport)> {
        let report = self.merge()?;
        for (_, layer) in self.model.layers_mut() {
            layer.unload();
        }
        Ok((self.model, report))
    }

    /// The base model, all adapters gone.
    ///
    /// # Errors
    ///
    /// None that a user can cause.
    pub fn unload(mut self) -> Result<M> {
        self.set_adapter(&[])?;
        for (_, layer) in self.model.layers_mut() {
            layer.unload();
        }
        Ok(self.model)
    }

    /// Packs the frozen weight of every linear layer into 4 or 8 bits a value (QLoRA). Do it before adding adapters whose
    /// start depends on the weight (DoRA, PiSSA, OLoRA). Heads, embeddings and norms stay as they are.
    ///
    /// # Errors
    ///
    /// [`LoraError::InModule`] with [`LoraError::BackendNotBuilt`] or [`LoraError::NonFiniteWeight`].
    pub fn quantize(&mut self, format: Quantization) -> Result<()> {
        quantize_layers(&mut self.model, format)
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

    /// Holds the factors of all adapters in another float type, for less memory. They are f32 otherwise.
    pub fn cast_adapters(&mut self, dtype: DType) {
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

/// Packs the frozen weight of every linear layer of a model; see [`LoraModel::quantize`].
pub(crate) fn quantize_layers<M: LoraModule>(model: &mut M, format: Quantization) -> Result<()> {
    for (module, layer) in model.layers_mut() {
        layer
            .quantize(format)
            .map_err(|error| in_module(&module, error))?;
    }
    Ok(())
}

/// The targets of several adapters together.
fn union(configs: &[LoraConfig]) -> std::result::Result<TargetModules, String> {
    let mut names = Vec::new();
    let mut patterns = Vec::new();
    let mut all_linear = false;
    for config in configs {
        match &config.target_modules {
            TargetModules::List(list) => names.extend(list.iter().cloned()),
            TargetModules::Pattern(pattern) => patterns.push(format!("({pattern})")),
            TargetModules::AllLinear => all_linear = true,
        }
    }
    match (names.is_empty(), patterns.is_empty(), all_linear) {
        (false, true, false) => {
            names.sort();
            names.dedup();
            Ok(TargetModules::List(names))
        }
        (true, false, false) => Ok(TargetModules::Pattern(patterns.join("|"))),
        (true, true, true) => Ok(TargetModules::AllLinear),
        _ => Err("their `target_modules` are a list here and a pattern there".to_owned()),
    }
}
