//! Placing an adapter on a model, fresh or from a file, and taking it off as PEFT's file has it.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Param;
use burn::tensor::{DType, Device, Tensor, TensorData};
use ls_files::{FileError, HostTensor};

use crate::adapter::{Dora, LoraAdapter, column_norm_squared};
use crate::config::{Bias, LoraConfig};
use crate::draws::Draws;
use crate::dtype::{host_values, plain, to_dtype};
use crate::error::{LoraError, Result, in_module};
use crate::init::{fresh_adapter, saved_start, trainable};
use crate::layer::{LayerKind, LoraLayer};
use crate::module::LoraModule;
use crate::parameters;
use crate::peft::{AdapterTensors, PREFIX, PeftAdapter, weights_file};
use crate::target::{self, ModuleMatcher, Unmatched};
/// Places fresh adapters on the layers that `config` selects and returns the layers' names.
///
/// The factors are drawn from `seed`, the same on every device, and are trainable when it is an
/// autodiff device. Whatever is neither adapted nor named by `modules_to_save` or `bias` is frozen.
///
/// # Errors
///
/// If the configuration is invalid, a requested name matches nothing, a rank exceeds a layer's
/// size, or a layer has an adapter of this name. The model is then as it was.
pub fn add_adapter<M: LoraModule>(
    module: &mut M,
    name: &str,
    config: &LoraConfig,
    seed: u64,
    device: &Device,
) -> Result<Vec<String>> {
    config.validate()?;
    let selected = select(module, config, Unmatched::Refused)?;
    let mut fresh = Vec::with_capacity(selected.len());
    for (full_name, layer) in module.layers() {
        if selected.contains(&full_name) {
            expect_room(layer, name)?;
            let [d_in, d_out] = layer.shape();
            config.checked_rank_of(&full_name, d_in, d_out)?;
        }
    }
    let mut draws = Draws::new(seed);
    for (full_name, layer) in module.layers() {
        if selected.contains(&full_name) {
            let adapter = fresh_adapter(layer, name, &full_name, config, &mut draws, device)
                .map_err(|error| in_module(&full_name, error))?;
            fresh.push((full_name, adapter));
        }
    }
    place(module, fresh);
    mark_trainable(module, config, &selected, device.is_autodiff())?;
    Ok(selected)
}

/// Places a loaded adapter on a model, with the modules that it holds in full, and returns the
/// adapted layers' names.
///
/// The layers that the adapter's configuration selects and those that its file holds must be the
/// same; nothing is placed if they are not. Names in the configuration that nothing in the model
/// has (`lm_head` on a classifier) are passed over, as in peft. `dir` is the folder the adapter
/// came from, for messages. On an autodiff device everything that came from the file is trainable
/// and the rest of the model frozen.
///
/// # Errors
///
/// If a tensor is missing, belongs to nothing in the model, or has the wrong shape. The model is
/// then as it was.
pub fn load_adapter<M: LoraModule>(
    module: &mut M,
    name: &str,
    adapter: &PeftAdapter,
    dir: &Path,
    device: &Device,
) -> Result<Vec<String>> {
    let config = &adapter.config;
    let selected = select(module, config, Unmatched::PassedOver)?;
    adapter.expect_modules(dir, &selected)?;
    let weights = weights_file(dir)?;
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
        // peft saves the frozen table of an adapted embedding too, and would put it in the base's
        // place.
        let key = format!("{full_name}.base_layer.weight");
        if let Some(table) = in_full.remove(&key) {
            expect_table(layer, &table, &key, &weights)?;
        }
    }
    let present: Vec<String> = in_full
        .keys()
        .map(|key| parameters::without_wrapper(key))
        .collect();
    if let Some(name) = names_in_full(module, config, &selected)
        .into_iter()
        .find(|name| !present.contains(name))
    {
        let keys = adapter.tensors().map(|(key, _)| key).collect::<Vec<_>>();
        let keys = keys.iter().map(String::as_str);
        return Err(FileError::tensor_missing(
            &weights,
            &format!("{PREFIX}{}", name_in_file(&name, &selected)),
            keys,
        )
        .into());
    }
    // A clone shares its tensors; it becomes the model when nothing failed.
    let mut changed = parameters::put(module.clone(), &in_full, &weights, false)?;
    place(&mut changed, loaded);
    mark_trainable(&mut changed, config, &selected, device.is_autodiff())?;
    *module = changed;
    Ok(selected)
}

/// The tensors of one adapter by module name, on the host in PEFT's layout. Adapters with a start
/// are in the converted form.
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

/// The adapter of this name with everything that `config` says belongs to it, ready to be saved as
/// PEFT's folder.
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

/// The names of the parameters outside the adapters that `config` trains, where it adapts the
/// `adapted` layers.
pub(crate) fn names_in_full<M: LoraModule>(
    module: &M,
    config: &LoraConfig,
    adapted: &[String],
) -> Vec<String> {
    trained_in_full(parameters::names(module), config, adapted)
}

/// Those of these parameters outside the adapters that `config` trains, where it adapts the
/// `adapted` layers: what can be said of a model by its names, before it is there. Of a
/// configuration that is not valid there are none.
#[must_use]
pub fn trained_in_full(
    mut parameters: Vec<String>,
    config: &LoraConfig,
    adapted: &[String],
) -> Vec<String> {
    let Ok(matcher) = ModuleMatcher::new(config) else {
        return Vec::new();
    };
    parameters.retain(|name| is_trained_in_full(name, config.bias, &matcher, adapted));
    parameters
}

/// The parameters outside the adapters that `config` trains, under the names that PEFT's files have
/// for them.
fn collect_saved<M: LoraModule>(
    module: &M,
    config: &LoraConfig,
    adapted: &[String],
) -> BTreeMap<String, HostTensor> {
    let names = names_in_full(module, config, adapted);
    let tensors = parameters::parameters(module, &|name| names.iter().any(|n| n == name));
    let tensors = tensors.into_iter();
    tensors
        .map(|(name, tensor)| (name_in_file(&name, adapted), tensor))
        .collect()
}

/// Whether a parameter outside the adapters is trained: it belongs to a saved module, or is a bias
/// that is trained.
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
    *module = parameters::set_trainable(module.clone(), &wanted, on_graph);
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
        return Err(FileError::TensorShape {
            path: path.to_owned(),
            name: key.to_owned(),
            expected: shape.to_vec(),
            found: table.shape.clone(),
        }
        .into());
    }
    let base = host_values(layer.weight());
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

/// Refuses a name that cannot be a part of dotted parameter names.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.contains('.') {
        return Err(LoraError::Incompatible {
            action: "add an adapter",
            reason: format!("{name:?} is no name: it is a part of dotted parameter names"),
        });
    }
    Ok(())
}

fn expect_room(layer: &dyn LoraLayer, name: &str) -> Result<()> {
    check_name(name)?;
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

/// Puts adapters on the layers with these full names.
pub(crate) fn place<M: LoraModule>(module: &mut M, mut adapters: Vec<(String, LoraAdapter)>) {
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
    tensors.expect_shape(full_name, [d_in, d_out], path)?;
    let r = tensors.a.shape.first().copied().unwrap_or(0);
    let factor = |tensor: &HostTensor, shape: [usize; 2]| -> Result<Param<Tensor<2>>> {
        Ok(trainable(
            parameters::transposed_to_device(tensor, shape, device)?,
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
            let options = (&device.clone().inner(), DType::F32);
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

/// An adapter of a layer as PEFT stores it: A `[r, in]` and B `[out, r]`, in the factors' own
/// dtype. With a start, the converted form: `[A | A0]`, `[B | -B0]`.
fn to_tensors(layer: &dyn LoraLayer, adapter: &LoraAdapter) -> AdapterTensors {
    let (mut a, mut b) = (adapter.lora_a.val(), adapter.lora_b.val());
    if let Some(start) = &adapter.start {
        let (start_a, start_b) = (
            plain(start.lora_a.clone()),
            plain(start.lora_b.clone()).neg(),
        );
        a = Tensor::cat(vec![plain(a.clone()), to_dtype(start_a, a.dtype())], 1);
        b = Tensor::cat(vec![plain(b.clone()), to_dtype(start_b, b.dtype())], 0);
    }
    AdapterTensors {
        a: parameters::host(a.transpose()),
        b: parameters::host(b.transpose()),
        magnitude: adapter
            .dora
            .as_ref()
            .map(|dora| parameters::host(dora.magnitude.val())),
        kind: layer.kind(),
    }
}

/// The layers that a configuration selects in a model.
fn select<M: LoraModule>(
    module: &M,
    config: &LoraConfig,
    unmatched: Unmatched,
) -> Result<Vec<String>> {
    let layers = module.layers();
    let of_kind = |kind: LayerKind| -> Vec<&str> {
        let layers = layers.iter().filter(|(_, layer)| layer.kind() == kind);
        layers.map(|(name, _)| name.as_str()).collect()
    };
    let heads = module.head_names();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let selected = target::select(
        config,
        &of_kind(LayerKind::Linear),
        &of_kind(LayerKind::Embedding),
        &heads,
        unmatched,
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
            reason: format!("the weight of {name} is packed or in tiles, and such do not train"),
        });
    }
    if unmatched == Unmatched::Refused {
        expect_saved_modules(module, config)?;
    }
    Ok(selected)
}

/// Every module that `modules_to_save` names is there. (The heads of a task need not be: PEFT
/// always lists two.)
fn expect_saved_modules<M: LoraModule>(module: &M, config: &LoraConfig) -> Result<()> {
    let modules = parameters::modules(module);
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
