//! [`LoraModule`]: a model whose layers can carry adapters; placing adapters on it and taking them off.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleDisplay, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::adapter::{Dora, LayerKind, LoraAdapter, LoraLayer, column_norm_squared};
use crate::config::{Bias, LoraConfig};
use crate::embedding::LoraEmbedding;
use crate::error::{LoraError, Result};
use crate::init::{fresh_adapter, saved_start, trainable};
use crate::linear::LoraLinear;
use crate::peft::{AdapterTensors, PREFIX, PeftAdapter, WEIGHTS_FILE};
use crate::saved;
use crate::target::{ModuleMatcher, select_modules};
use crate::tensor_file::{HostTensor, missing};

/// A model whose layers can carry adapters.
///
/// [`lora_module!`](crate::lora_module) implements it for a struct from the names of its fields, as do [`LoraLinear`],
/// [`LoraEmbedding`], `Vec` and `Option` for themselves. A layer's full name is the path of fields to it, so fields named as
/// in the Hugging Face module tree (`model.layers.0.self_attn.q_proj`) make files that PEFT's models take.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use ls_lora::{LoraLayer, LoraLinear, LoraModule, ModulePath};
///
/// /// The macro knows no type parameters, so this one is implemented by hand.
/// #[derive(Module, Debug)]
/// struct Residual<M: LoraModule> { inner: M }
///
/// impl<M: LoraModule> LoraModule for Residual<M> {
///     fn visit_layers<'a>(&'a self, path: &mut ModulePath, f: &mut dyn FnMut(&str, &'a dyn LoraLayer)) {
///         path.enter("inner", |path| self.inner.visit_layers(path, f));
///     }
///     fn visit_layers_mut<'a>(&'a mut self, path: &mut ModulePath, f: &mut dyn FnMut(&str, &'a mut dyn LoraLayer)) {
///         path.enter("inner", |path| self.inner.visit_layers_mut(path, f));
///     }
///     fn visit_heads(&self, path: &mut ModulePath, f: &mut dyn FnMut(&str)) {
///         path.enter("inner", |path| self.inner.visit_heads(path, f));
///     }
/// }
///
/// let layer = LoraLinear::from(LinearConfig::new(8, 8).init(&Device::flex()));
/// let net = Residual { inner: vec![layer.clone(), layer] };
/// let names: Vec<String> = net.layers().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["inner.0", "inner.1"]);
/// ```
pub trait LoraModule: Module + ModuleDisplay {
    /// Calls `f` with every layer below this module and its full name; `path` is this module's own.
    fn visit_layers<'a>(
        &'a self,
        path: &mut ModulePath,
        f: &mut dyn FnMut(&str, &'a dyn LoraLayer),
    );

    /// The same, to change the layers.
    fn visit_layers_mut<'a>(
        &'a mut self,
        path: &mut ModulePath,
        f: &mut dyn FnMut(&str, &'a mut dyn LoraLayer),
    );

    /// Calls `f` with the full name of every head below this module.
    fn visit_heads(&self, path: &mut ModulePath, f: &mut dyn FnMut(&str)) {
        let _ = (path, f);
    }

    /// Full names of the heads, which `all-linear` never takes.
    fn head_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.visit_heads(&mut ModulePath::default(), &mut |name| {
            names.push(name.to_owned())
        });
        names
    }

    /// Every layer with its full name, in the order of the fields.
    ///
    /// ```
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::Device;
    /// # use ls_lora::LoraLinear;
    /// use ls_lora::LoraModule;
    ///
    /// # let device = Device::flex();
    /// # let linear = |d_in, d_out| LoraLinear::from(LinearConfig::new(d_in, d_out).init(&device));
    /// let net = vec![linear(8, 16), linear(16, 2)];       // a list is a module too
    /// let shapes = net.layers().into_iter().map(|(name, layer)| (name, layer.shape()));
    /// assert_eq!(shapes.collect::<Vec<_>>(), [("0".to_owned(), [8, 16]), ("1".to_owned(), [16, 2])]);
    /// ```
    fn layers(&self) -> Vec<(String, &dyn LoraLayer)> {
        let mut layers = Vec::new();
        self.visit_layers(&mut ModulePath::default(), &mut |name, layer| {
            layers.push((name.to_owned(), layer));
        });
        layers
    }

    /// The same, to change the layers.
    ///
    /// ```
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::Device;
    /// # use ls_lora::LoraLinear;
    /// use ls_lora::{BaseLayer, LoraModule, Quantization};
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// # let device = Device::flex();
    /// # let linear = |d_in, d_out| LoraLinear::from(LinearConfig::new(d_in, d_out).init(&device));
    /// let mut net = vec![linear(8, 16), linear(16, 2)];
    /// for (name, layer) in net.layers_mut() {
    ///     if name != "1" {
    ///         layer.quantize(Quantization::Nf4)?;
    ///     }
    /// }
    /// assert!(matches!(net[0].base_layer, BaseLayer::Quantized(_)));
    /// assert!(matches!(net[1].base_layer, BaseLayer::Dense(_)));
    /// # Ok(())
    /// # }
    /// ```
    fn layers_mut(&mut self) -> Vec<(String, &mut dyn LoraLayer)> {
        let mut layers = Vec::new();
        self.visit_layers_mut(&mut ModulePath::default(), &mut |name, layer| {
            layers.push((name.to_owned(), layer));
        });
        layers
    }
}

/// The dotted name of the module that a visit is at.
///
/// ```
/// use ls_lora::ModulePath;
///
/// let mut path = ModulePath::default();
/// let inside = path.enter("layers", |path| path.enter("0", |path| path.as_str().to_owned()));
/// assert_eq!((inside.as_str(), path.as_str()), ("layers.0", ""));
/// ```
#[derive(Debug, Clone, Default)]
pub struct ModulePath(String);

impl ModulePath {
    /// Goes into a field, or an element of a list, for the time of `f`.
    pub fn enter<T>(&mut self, name: &str, f: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.0.len();
        if length > 0 {
            self.0.push('.');
        }
        self.0.push_str(name);
        let result = f(self);
        self.0.truncate(length);
        result
    }

    /// The name so far.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Implements [`LoraModule`] for a struct: the fields that are or hold adaptable layers, then, after `heads`, those that are
/// heads.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{LayerNorm, Linear};
/// use ls_lora::{LoraLinear, LoraModule, lora_module};
/// # use burn::nn::{LayerNormConfig, LinearConfig};
/// # use burn::tensor::Device;
///
/// #[derive(Module, Debug)]
/// struct Block {
///     fc1: LoraLinear,
///     norm: LayerNorm,
///     fc2: LoraLinear,
/// }
/// lora_module!(Block { fc1, fc2 });
///
/// #[derive(Module, Debug)]
/// struct Net {
///     layers: Vec<Block>,
///     score: Linear,
/// }
/// lora_module!(Net { layers } heads { score });
///
/// # let device = Device::flex();
/// # let linear = |d_in, d_out| LinearConfig::new(d_in, d_out).init(&device);
/// # let norm = LayerNormConfig::new(8).init(&device);
/// # let block = Block { fc1: linear(4, 8).into(), norm, fc2: linear(8, 4).into() };
/// # let net = Net { layers: vec![block], score: linear(4, 2) };
/// let names: Vec<String> = net.layers().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["layers.0.fc1", "layers.0.fc2"]);
/// assert_eq!(net.head_names(), ["score"]);
/// ```
#[macro_export]
macro_rules! lora_module {
    ($type:ty { $($field:ident),* $(,)? } $(heads { $($head:ident),* $(,)? })?) => {
        impl $crate::LoraModule for $type {
            #[allow(unused_variables)]
            fn visit_layers<'a>(
                &'a self,
                path: &mut $crate::ModulePath,
                f: &mut dyn FnMut(&str, &'a dyn $crate::LoraLayer),
            ) {
                $(path.enter(stringify!($field), |path| {
                    $crate::LoraModule::visit_layers(&self.$field, path, f);
                });)*
            }

            #[allow(unused_variables)]
            fn visit_layers_mut<'a>(
                &'a mut self,
                path: &mut $crate::ModulePath,
                f: &mut dyn FnMut(&str, &'a mut dyn $crate::LoraLayer),
            ) {
                $(path.enter(stringify!($field), |path| {
                    $crate::LoraModule::visit_layers_mut(&mut self.$field, path, f);
                });)*
            }

            #[allow(unused_variables)]
            fn visit_heads(&self, path: &mut $crate::ModulePath, f: &mut dyn FnMut(&str)) {
                $(path.enter(stringify!($field), |path| {
                    $crate::LoraModule::visit_heads(&self.$field, path, f);
                });)*
                $($(path.enter(stringify!($head), |path| f(path.as_str()));)*)?
            }
        }
    };
}

macro_rules! leaf {
    ($type:ty) => {
        impl LoraModule for $type {
            fn visit_layers<'a>(
                &'a self,
                path: &mut ModulePath,
                f: &mut dyn FnMut(&str, &'a dyn LoraLayer),
            ) {
                f(path.as_str(), self);
            }

            fn visit_layers_mut<'a>(
                &'a mut self,
                path: &mut ModulePath,
                f: &mut dyn FnMut(&str, &'a mut dyn LoraLayer),
            ) {
                f(path.as_str(), self);
            }
        }
    };
}

leaf!(LoraLinear);
leaf!(LoraEmbedding);

impl<M: LoraModule> LoraModule for Vec<M> {
    fn visit_layers<'a>(
        &'a self,
        path: &mut ModulePath,
        f: &mut dyn FnMut(&str, &'a dyn LoraLayer),
    ) {
        for (at, module) in self.iter().enumerate() {
            path.enter(&at.to_string(), |path| module.visit_layers(path, f));
        }
    }

    fn visit_layers_mut<'a>(
        &'a mut self,
        path: &mut ModulePath,
        f: &mut dyn FnMut(&str, &'a mut dyn LoraLayer),
    ) {
        for (at, module) in self.iter_mut().enumerate() {
            path.enter(&at.to_string(), |path| module.visit_layers_mut(path, f));
        }
    }

    fn visit_heads(&self, path: &mut ModulePath, f: &mut dyn FnMut(&str)) {
        for (at, module) in self.iter().enumerate() {
            path.enter(&at.to_string(), |path| module.visit_heads(path, f));
        }
    }
}

impl<M: LoraModule> LoraModule for Option<M> {
    fn visit_layers<'a>(
        &'a self,
        path: &mut ModulePath,
        f: &mut dyn FnMut(&str, &'a dyn LoraLayer),
    ) {
        if let Some(module) = self {
            module.visit_layers(path, f);
        }
    }

    fn visit_layers_mut<'a>(
        &'a mut self,
        path: &mut ModulePath,
        f: &mut dyn FnMut(&str, &'a mut dyn LoraLayer),
    ) {
        if let Some(module) = self {
            module.visit_layers_mut(path, f);
        }
    }

    fn visit_heads(&self, path: &mut ModulePath, f: &mut dyn FnMut(&str)) {
        if let Some(module) = self {
            module.visit_heads(path, f);
        }
    }
}

/// Places fresh adapters on the layers that `config` selects and returns the layers' names.
///
/// The factors are drawn from `device`'s seeded generator and are trainable when it is an autodiff device. Whatever is
/// neither adapted nor named by `modules_to_save` or `bias` is frozen.
///
/// ```
/// # use burn::module::Module;
/// # use burn::nn::LinearConfig;
/// # use burn::tensor::Device;
/// use ls_lora::{LoraConfig, LoraLinear, ParameterCount, TargetModules, add_adapter, lora_module};
///
/// #[derive(Module, Debug)]
/// struct Net { fc1: LoraLinear, fc2: LoraLinear }
/// lora_module!(Net { fc1, fc2 });
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// # let device = Device::flex().autodiff();
/// # let linear = |d_in, d_out| LinearConfig::new(d_in, d_out).init(&device).into();
/// let mut net = Net { fc1: linear(8, 16), fc2: linear(16, 2) };
/// let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc2"]));
/// assert_eq!(add_adapter(&mut net, "mine", &config, &device)?, ["fc2"]);
/// assert_eq!(ParameterCount::of(&net).trainable, 2 * (16 + 2));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// If the configuration is invalid, a requested name matches nothing, a rank exceeds a layer's size, or a layer has an
/// adapter of this name. The model is then as it was.
pub fn add_adapter<M: LoraModule>(
    module: &mut M,
    name: &str,
    config: &LoraConfig,
    device: &Device,
) -> Result<Vec<String>> {
    config.validate()?;
    let selected = select(module, config)?;
    let mut fresh = Vec::with_capacity(selected.len());
    for (full_name, layer) in module.layers() {
        if selected.contains(&full_name) {
            expect_room(layer, name)?;
            let [d_in, d_out] = layer.shape();
            config.checked_rank_of(&full_name, d_in, d_out)?;
        }
    }
    for (full_name, layer) in module.layers() {
        if selected.contains(&full_name) {
            let adapter = fresh_adapter(layer, name, &full_name, config, device)
                .map_err(|error| in_module(&full_name, error))?;
            fresh.push((full_name, adapter));
        }
    }
    place(module, fresh);
    mark_trainable(module, config, &selected, device.is_autodiff())?;
    Ok(selected)
}

/// Places a loaded adapter on a model, with the modules that it holds in full, and returns the adapted layers' names.
///
/// The layers that the adapter's configuration selects and those that its file holds must be the same; nothing is placed
/// if they are not. `dir` is the folder the adapter came from, for messages. On an autodiff device everything that came from
/// the file is trainable and the rest of the model frozen.
///
/// ```
/// # use burn::module::{Module, Param};
/// # use burn::nn::LinearConfig;
/// # use burn::tensor::{Device, Tensor};
/// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, add_adapter, lora_module};
/// # #[derive(Module, Debug)]
/// # struct Net { fc: LoraLinear }
/// # lora_module!(Net { fc });
/// use ls_lora::{PeftAdapter, load_adapter, to_peft};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// # let device = Device::flex();
/// # let base = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
/// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
/// # let dir = tempfile::tempdir().unwrap();
/// # let folder = dir.path();
/// let mut trained = base.clone();
/// add_adapter(&mut trained, "mine", &config, &device)?;
/// trained.fc.adapters[0].lora_b = Param::from_tensor(Tensor::ones([2, 4], &device));
/// to_peft(&trained, "mine", &config).save(folder)?;
///
/// let mut net = base;
/// load_adapter(&mut net, "again", &PeftAdapter::load(folder)?, folder, &device)?;
/// let x = Tensor::<2>::ones([1, 8], &device);
/// assert!(net.fc.forward(x.clone()).all_close(trained.fc.forward(x), None, None));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// If a tensor is missing, belongs to nothing in the model, or has the wrong shape. The model is then as it was.
pub fn load_adapter<M: LoraModule>(
    module: &mut M,
    name: &str,
    adapter: &PeftAdapter,
    dir: &Path,
    device: &Device,
) -> Result<Vec<String>> {
    let config = &adapter.config;
    let selected = select(module, config)?;
    adapter.expect_modules(dir, &selected)?;
    let weights = dir.join(WEIGHTS_FILE);
    let mut loaded = Vec::with_capacity(selected.len());
    for (full_name, layer) in module.layers() {
        if let Some(tensors) = adapter.lora.get(&full_name) {
            expect_room(layer, name)?;
            let placed = from_tensors(layer, name, &full_name, tensors, config, &weights, device)?;
            loaded.push((full_name, placed));
        }
    }
    let mut in_full = adapter.saved_modules.clone();
    for (full_name, layer) in module.layers() {
        // peft saves the frozen table of an adapted embedding too, and would put it in the base's place.
        let key = format!("{full_name}.base_layer.weight");
        if let Some(table) = in_full.remove(&key) {
            expect_table(layer, &table, &key, &weights)?;
        }
    }
    let present: Vec<String> = in_full
        .keys()
        .map(|key| saved::without_wrapper(key))
        .collect();
    if let Some(name) = names_in_full(module, config, &selected)
        .into_iter()
        .find(|name| !present.contains(name))
    {
        let keys = adapter.tensors().map(|(key, _)| key).collect::<Vec<_>>();
        let keys = keys.iter().map(String::as_str);
        return Err(missing(
            &weights,
            &format!("{PREFIX}{}", name_in_file(&name, &selected)),
            keys,
        ));
    }
    // A clone shares its tensors; it becomes the model when nothing failed.
    let mut changed = saved::put(module.clone(), &in_full, &weights, false)?;
    place(&mut changed, loaded);
    mark_trainable(&mut changed, config, &selected, device.is_autodiff())?;
    *module = changed;
    Ok(selected)
}

/// The tensors of one adapter by module name, on the host in PEFT's layout. Adapters with a start are in the converted form.
///
/// ```
/// # use burn::module::{Module, Param};
/// # use burn::nn::LinearConfig;
/// # use burn::tensor::{Device, Tensor};
/// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, add_adapter, lora_module};
/// # #[derive(Module, Debug)]
/// # struct Net { fc: LoraLinear }
/// # lora_module!(Net { fc });
/// use ls_lora::adapter_tensors;
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// # let device = Device::flex();
/// # let mut net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
/// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
/// add_adapter(&mut net, "mine", &config, &device)?;
/// let tensors = adapter_tensors(&net, "mine");
/// assert_eq!((tensors["fc"].a.shape.as_slice(), tensors["fc"].b.shape.as_slice()), (&[2, 8][..], &[4, 2][..]));
/// assert!(adapter_tensors(&net, "yours").is_empty());
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn adapter_tensors<M: LoraModule>(module: &M, name: &str) -> BTreeMap<String, AdapterTensors> {
    let layers = module.layers().into_iter();
    layers
        .filter_map(|(full_name, layer)| {
            let adapter = layer.adapter(name)?;
            Some((full_name, to_tensors(layer, adapter)))
        })
        .collect()
}

/// The adapter of this name with everything that `config` says belongs to it, ready to be saved as PEFT's folder.
///
/// ```
/// # use burn::module::{Module, Param};
/// # use burn::nn::LinearConfig;
/// # use burn::tensor::{Device, Tensor};
/// # use ls_lora::{LoraConfig, LoraLinear, TargetModules, add_adapter, lora_module};
/// # #[derive(Module, Debug)]
/// # struct Net { fc: LoraLinear }
/// # lora_module!(Net { fc });
/// use ls_lora::to_peft;
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// # let device = Device::flex();
/// # let mut net = Net { fc: LinearConfig::new(8, 4).init(&device).into() };
/// # let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["fc"]));
/// add_adapter(&mut net, "mine", &config, &device)?;
/// let keys: Vec<String> = to_peft(&net, "mine", &config).tensors().map(|(key, _)| key).collect();
/// assert_eq!(keys, ["base_model.model.fc.lora_A.weight", "base_model.model.fc.lora_B.weight"]);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn to_peft<M: LoraModule>(module: &M, name: &str, config: &LoraConfig) -> PeftAdapter {
    let mut lora = adapter_tensors(module, name);
    let converted = config.converted();
    if config.init_lora_weights.has_start() {
        // Embeddings have no start; zeros fill them up to the rank that the configuration now says.
        for (full_name, tensors) in &mut lora {
            tensors.pad_rank(converted.rank_of(full_name));
        }
    }
    let selected: Vec<String> = lora.keys().cloned().collect();
    PeftAdapter {
        saved_modules: collect_saved(module, config, &selected),
        config: converted,
        lora,
        warnings: Vec::new(),
    }
}

/// The names, in the model, of the parameters outside the adapters that `config` trains beside the `adapted` layers.
pub(crate) fn names_in_full<M: LoraModule>(
    module: &M,
    config: &LoraConfig,
    adapted: &[String],
) -> Vec<String> {
    let Ok(matcher) = ModuleMatcher::new(config) else {
        return Vec::new();
    };
    let mut names = saved::parameters(module);
    names.retain(|name| is_trained_in_full(name, config.bias, &matcher, adapted));
    names
}

/// The parameters outside the adapters that `config` trains, under the names that PEFT's files have for them.
fn collect_saved<M: LoraModule>(
    module: &M,
    config: &LoraConfig,
    adapted: &[String],
) -> BTreeMap<String, HostTensor> {
    let Ok(matcher) = ModuleMatcher::new(config) else {
        return BTreeMap::new();
    };
    let wanted = |name: &str| is_trained_in_full(name, config.bias, &matcher, adapted);
    let tensors = saved::collect(module, &wanted).into_iter();
    tensors
        .map(|(name, tensor)| (name_in_file(&name, adapted), tensor))
        .collect()
}

/// Whether a parameter outside the adapters is trained: it belongs to a saved module, or is a bias that is trained.
fn is_trained_in_full(
    parameter: &str,
    bias: Bias,
    matcher: &ModuleMatcher<'_>,
    adapted: &[String],
) -> bool {
    let is_bias = parameter == "bias" || parameter.ends_with(".bias");
    let owner = || parameter.rsplit_once('.').map_or("", |(owner, _)| owner);
    let trained_bias = match bias {
        Bias::None => false,
        Bias::LoraOnly => is_bias && adapted.iter().any(|module| module == owner()),
        Bias::All => is_bias,
    };
    trained_bias || matcher.is_in_saved(parameter)
}

/// Freezes what `config` does not train and, on the graph, makes the rest trainable.
pub(crate) fn mark_trainable<M: LoraModule>(
    module: &mut M,
    config: &LoraConfig,
    adapted: &[String],
    on_graph: bool,
) -> Result<()> {
    let matcher = ModuleMatcher::new(config)?;
    let wanted = |name: &str| is_trained_in_full(name, config.bias, &matcher, adapted);
    *module = saved::set_trainable(module.clone(), &wanted, on_graph);
    Ok(())
}

/// The name in a file, without the prefix, of a parameter that is trained in full.
fn name_in_file(parameter: &str, adapted: &[String]) -> String {
    match parameter.rsplit_once('.') {
        // PEFT's wrapper stands between an adapted layer and its bias.
        Some((owner, part)) if adapted.iter().any(|module| module == owner) => {
            format!("{owner}.base_layer.{part}")
        }
        _ => parameter.to_owned(),
    }
}

/// The table of an adapted embedding in a file is the base's, to what the base's type can hold.
fn expect_table(layer: &dyn LoraLayer, table: &HostTensor, key: &str, path: &Path) -> Result<()> {
    let shape = layer.shape();
    if table.shape != shape {
        return Err(LoraError::TensorShape {
            path: path.to_owned(),
            name: key.to_owned(),
            expected: shape.to_vec(),
            found: table.shape.clone(),
        });
    }
    let base = crate::host_values(layer.weight());
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= a.abs().max(b.abs()) / 100.0;
    if table.to_f32()?.iter().zip(&base).all(near) {
        return Ok(());
    }
    Err(LoraError::Incompatible {
        action: "load the adapter",
        reason: format!(
            "{}: {key} is another table than the base's; put it into the base model first",
            path.display()
        ),
    })
}

fn expect_room(layer: &dyn LoraLayer, name: &str) -> Result<()> {
    if name.is_empty() || name.contains('.') {
        return Err(LoraError::Incompatible {
            action: "add an adapter",
            reason: format!("{name:?} is no name: it is a part of dotted parameter names"),
        });
    }
    if layer.adapter(name).is_some() {
        return Err(LoraError::DuplicateAdapter {
            name: name.to_owned(),
        });
    }
    if layer.is_merged() {
        return Err(LoraError::Incompatible {
            action: "add an adapter",
            reason: "adapters are merged into the model: unmerge first".to_owned(),
        });
    }
    Ok(())
}

fn place<M: LoraModule>(module: &mut M, mut adapters: Vec<(String, LoraAdapter)>) {
    for (full_name, layer) in module.layers_mut() {
        if let Some(at) = adapters.iter().position(|(name, _)| *name == full_name) {
            layer.adapters_mut().push(adapters.swap_remove(at).1);
        }
    }
}

/// An adapter's tensors on a layer that they must fit.
fn from_tensors(
    layer: &dyn LoraLayer,
    name: &str,
    full_name: &str,
    tensors: &AdapterTensors,
    config: &LoraConfig,
    path: &Path,
    device: &Device,
) -> Result<LoraAdapter> {
    let [d_in, d_out] = layer.shape();
    if tensors.kind != layer.kind() {
        let keys = tensors.named(full_name).map(|(key, _)| key);
        return Err(LoraError::SurplusTensors {
            path: path.to_owned(),
            names: keys.collect(),
        });
    }
    let r = tensors.a.shape.first().copied().unwrap_or(0);
    let expected = [vec![r, d_in], vec![d_out, r], vec![d_out]];
    for ((key, tensor), expected) in tensors.named(full_name).zip(expected) {
        if tensor.shape != expected {
            return Err(LoraError::TensorShape {
                path: path.to_owned(),
                name: key,
                expected,
                found: tensor.shape.clone(),
            });
        }
    }
    let factor = |tensor: &HostTensor, shape: [usize; 2]| -> Result<Param<Tensor<2>>> {
        Ok(trainable(
            saved::transposed_to_device(tensor, shape, device)?,
            device,
        ))
    };
    let scaling = config.scaling_of(full_name);
    let start = saved_start(
        layer,
        full_name,
        r,
        scaling,
        config.init_lora_weights,
        device,
    )
    .map_err(|error| in_module(full_name, error))?;
    let dora = match &tensors.magnitude {
        None => None,
        Some(magnitude) => {
            let data = TensorData::new(magnitude.to_f32()?, [d_out]);
            let options = (&device.clone().inner(), burn::tensor::DType::F32);
            Some(Dora {
                magnitude: trainable(Tensor::from_data(data, options), device),
                base_norm_squared: column_norm_squared(layer.weight()),
            })
        }
    };
    Ok(LoraAdapter {
        lora_a: factor(&tensors.a, [r, d_in])?,
        lora_b: factor(&tensors.b, [d_out, r])?,
        dora,
        start,
        scaling,
        dropout: match layer.kind() {
            LayerKind::Linear => config.lora_dropout,
            LayerKind::Embedding => 0.0,
        },
        active: true,
        name: name.to_owned(),
    })
}

/// An adapter of a layer as PEFT stores it: A `[r, in]` and B `[out, r]`, in the factors' own dtype. With a start, the
/// converted form: `[A | A0]`, `[B | -B0]`.
fn to_tensors(layer: &dyn LoraLayer, adapter: &LoraAdapter) -> AdapterTensors {
    let (mut a, mut b) = (adapter.lora_a.val(), adapter.lora_b.val());
    if let Some(start) = &adapter.start {
        let like = |tensor: Tensor<2>, other: &Tensor<2>| {
            crate::adapter::to_dtype(crate::adapter::plain(tensor), other.dtype())
        };
        let (plain_a, plain_b) = (
            crate::adapter::plain(a.clone()),
            crate::adapter::plain(b.clone()),
        );
        let start_a = like(start.lora_a.clone(), &a);
        let start_b = like(start.lora_b.clone(), &b).neg();
        a = Tensor::cat(vec![plain_a, start_a], 1);
        b = Tensor::cat(vec![plain_b, start_b], 0);
    }
    AdapterTensors {
        a: saved::host(a.transpose()),
        b: saved::host(b.transpose()),
        magnitude: adapter
            .dora
            .as_ref()
            .map(|dora| saved::host(dora.magnitude.val())),
        kind: layer.kind(),
    }
}

pub(crate) fn in_module(module: &str, source: LoraError) -> LoraError {
    LoraError::InModule {
        module: module.to_owned(),
        source: Box::new(source),
    }
}

/// The layers that a configuration selects in a model.
fn select<M: LoraModule>(module: &M, config: &LoraConfig) -> Result<Vec<String>> {
    let layers = module.layers();
    let of_kind = |kind: LayerKind| -> Vec<&str> {
        let layers = layers.iter().filter(|(_, layer)| layer.kind() == kind);
        layers.map(|(name, _)| name.as_str()).collect()
    };
    let heads = module.head_names();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let selected = select_modules(
        config,
        &of_kind(LayerKind::Linear),
        &of_kind(LayerKind::Embedding),
        &heads,
    )?;
    let matcher = ModuleMatcher::new(config)?;
    let packed = layers
        .iter()
        .filter(|(_, layer)| layer.packed_parameters() > 0);
    if let Some((name, _)) = packed
        .into_iter()
        .find(|(name, _)| matcher.is_in_saved(&format!("{name}.weight")))
    {
        return Err(LoraError::Incompatible {
            action: "train a module in full",
            reason: format!("the weight of {name} is packed, and packed weights do not train"),
        });
    }
    expect_saved_modules(module, config)?;
    Ok(selected)
}

/// Every module that `modules_to_save` names is there. (The heads of a task need not be: PEFT always lists two.)
fn expect_saved_modules<M: LoraModule>(module: &M, config: &LoraConfig) -> Result<()> {
    let modules = saved::modules(module);
    let is_there = |name: &String| modules.iter().any(|module| module.ends_with(name.as_str()));
    let of_task = config.task_type.map_or(&[][..], |task| task.head_modules());
    let requested: Vec<String> = config
        .modules_to_save
        .iter()
        .filter(|name| !is_there(name) && !of_task.contains(&name.as_str()))
        .cloned()
        .collect();
    if requested.is_empty() {
        return Ok(());
    }
    Err(LoraError::UnmatchedTargets {
        field: "modules_to_save".to_owned(),
        requested,
        available: modules,
    })
}
