//! What trains: placing adapters on a model's linear layers, taking them off again, counting parameters.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, Device, Int, Tensor};

use crate::config::{InitLoraWeights, LoraConfig};
use crate::error::Result;
use crate::linear::{LoraFactors, LoraLinear};
use crate::peft::{LoraPair, PeftAdapter, WEIGHTS_FILE};
use crate::target::select_modules;

/// A model whose linear layers can carry adapters.
///
/// The names are those of the Hugging Face module tree (`model.layers.0.self_attn.q_proj`): they are what
/// `target_modules` matches and what PEFT's files are keyed by.
pub trait LoraModule {
    /// Every adaptable layer with its name, in the order of the forward pass.
    fn lora_layers(&self) -> Vec<(String, &LoraLinear)>;
    /// The same, mutable.
    fn lora_layers_mut(&mut self) -> Vec<(String, &mut LoraLinear)>;
    /// Names of the head modules, which `all-linear` never takes.
    fn head_names(&self) -> Vec<String>;
}

/// Places fresh adapters on the layers that `config` selects and returns their names.
///
/// The factors are drawn from `device`'s seeded generator and are trainable when it is an autodiff device.
///
/// # Errors
///
/// If the configuration is invalid, a requested name matches nothing, or a rank exceeds a layer's size. The model is then
/// as it was.
pub fn add_adapters<M: LoraModule>(
    module: &mut M,
    config: &LoraConfig,
    device: &Device,
) -> Result<Vec<String>> {
    config.validate()?;
    let selected = select(module, config)?;
    for (name, layer) in module.lora_layers() {
        if selected.contains(&name) {
            let [d_in, d_out] = layer.shape();
            config.checked_rank_of(&name, d_in, d_out)?;
        }
    }
    for (name, layer) in module.lora_layers_mut() {
        if !selected.contains(&name) {
            continue;
        }
        let shape = layer.shape();
        let r = config.rank_of(&name);
        let gaussian = config.init_lora_weights == InitLoraWeights::Gaussian;
        layer.lora = Some(LoraFactors::init(
            shape,
            r,
            gaussian,
            config.scaling_of(&name),
            config.lora_dropout,
            device,
        ));
    }
    Ok(selected)
}

/// Places a loaded adapter on a model and returns the adapted layers' names.
///
/// The layers that the adapter's configuration selects and those that its file holds must be the same; nothing is placed
/// if they are not. `dir` is the folder the adapter came from, for messages.
///
/// # Errors
///
/// If a tensor is missing, belongs to no selected layer, or has the wrong shape.
pub fn load_adapters<M: LoraModule>(
    module: &mut M,
    adapter: &PeftAdapter,
    dir: &Path,
    device: &Device,
) -> Result<Vec<String>> {
    let selected = select(module, &adapter.config)?;
    adapter.expect_modules(dir, &selected)?;
    let weights = dir.join(WEIGHTS_FILE);
    let mut loaded = Vec::with_capacity(selected.len());
    for (name, layer) in module.lora_layers() {
        if let Some(pair) = adapter.lora.get(&name) {
            let mut layer = LoraLinear {
                base_layer: layer.base_layer.clone(),
                lora: None,
            };
            let config = &adapter.config;
            layer.load(
                &weights,
                &name,
                pair,
                config.scaling_of(&name),
                config.lora_dropout,
                device,
            )?;
            loaded.push((name, layer.lora));
        }
    }
    for (name, layer) in module.lora_layers_mut() {
        if let Some(at) = loaded.iter().position(|(loaded, _)| *loaded == name) {
            layer.lora = loaded.swap_remove(at).1;
        }
    }
    Ok(selected)
}

/// The adapters of a model by module name, on the host in PEFT's layout.
pub fn adapter_tensors<M: LoraModule>(module: &M) -> BTreeMap<String, LoraPair> {
    module
        .lora_layers()
        .into_iter()
        .filter_map(|(name, layer)| Some((name, layer.factors()?)))
        .collect()
}

/// Folds every adapter into its base layer (see [`LoraLinear::merge`]).
pub fn merge_adapters<M: LoraModule>(module: &mut M) {
    for (_, layer) in module.lora_layers_mut() {
        *layer = layer.clone().merge();
    }
}

fn select<M: LoraModule>(module: &M, config: &LoraConfig) -> Result<Vec<String>> {
    let names: Vec<String> = module
        .lora_layers()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let heads = module.head_names();
    select_modules(
        config,
        &names.iter().map(String::as_str).collect::<Vec<_>>(),
        &heads.iter().map(String::as_str).collect::<Vec<_>>(),
    )
}

/// How many parameters a model has and how many of them train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ParameterCount {
    /// Parameters that receive gradients.
    pub trainable: usize,
    /// All parameters, one copy of each.
    pub all: usize,
}

impl ParameterCount {
    /// Counts a model's parameters. Trainable are those that require gradients, so count on the model that trains.
    pub fn of<M: Module>(module: &M) -> Self {
        let mut counter = Counter::default();
        module.visit(&mut counter);
        counter.0
    }
}

/// PEFT's line: `trainable params: 6,299,648 || all params: 6,613,643,264 || trainable%: 0.0953`.
///
/// (For this LLaMA-2-7B with a head of two classes PEFT itself says 6,613,651,456: it keeps and counts the head twice.)
impl std::fmt::Display for ParameterCount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = if self.all == 0 {
            0.0
        } else {
            100.0 * self.trainable as f64 / self.all as f64
        };
        write!(
            f,
            "trainable params: {} || all params: {} || trainable%: {percent:.4}",
            thousands(self.trainable),
            thousands(self.all)
        )
    }
}

fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[derive(Default)]
struct Counter(ParameterCount);

impl ModuleVisitor for Counter {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let n = param.lazy_shape().num_elements();
        self.0.all += n;
        if param.val().is_require_grad() {
            self.0.trainable += n;
        }
    }
    fn visit_int<const D: usize>(&mut self, _: &Param<Tensor<D, Int>>) {}
    fn visit_bool<const D: usize>(&mut self, _: &Param<Tensor<D, Bool>>) {}
}
