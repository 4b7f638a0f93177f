//! Logits, losses, gradients, starts and combinations equal those of peft
//! (`fixtures/peft/make.py`).
#![allow(clippy::unwrap_used)]

mod net;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};
use ls_lora::{
    Combination, HostTensor, LayerKind, LoraConfig, LoraModel, LoraModule, LoraPlus, PeftAdapter,
    host_values,
};
use net::{NAME, Net, Tensors, assert_close, cross_entropy, fixtures, seeded};
use serde_json::Value;

/// f32 against f32.
const TOLERANCE: f32 = 1e-5;
const PREFIX: &str = "base_model.model.";

fn cases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixtures().join("cases")).unwrap();
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 23, "{cases:?}");
    cases
}

fn name_of(case: &Path) -> String {
    case.file_name().unwrap().to_string_lossy().into_owned()
}

fn loaded(case: &Path, device: &Device) -> LoraModel<Net> {
    // The base as a frozen model has it: off the graph.
    let mut model = LoraModel::new(Net::base(&device.clone().without_autodiff()));
    model.load_adapter(NAME, case, device).unwrap();
    model
}

fn logits(model: &Net, expected: &Tensors, device: &Device) -> Vec<f32> {
    host_values(model.forward(expected.ids("input_ids", device)))
}

#[test]
fn logits_are_pefts_and_stay_when_merged_saved_and_reloaded() {
    let device = Device::flex();
    for case in cases() {
        let what = name_of(&case);
        let expected = Tensors::open(&case.join("expected.safetensors"));
        let model = loaded(&case, &device);
        let found = logits(&model, &expected, &device);
        assert_close(&what, &found, &expected.values("logits"), TOLERANCE);
        let base = logits(&Net::base(&device), &expected, &device);
        assert!((base[0] - found[0]).abs() > 1e-3, "{what}: nothing adapted");

        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("adapter");
        model.save_adapter(NAME, &folder).unwrap();
        let again = logits(&loaded(&folder, &device), &expected, &device);
        assert_close(&format!("{what}, reloaded"), &again, &found, 0.0);

        let (merged, report) = model.clone().merge_and_unload().unwrap();
        assert!(report.layers.iter().all(|layer| layer.relative == 0.0));
        let merged = logits(&merged, &expected, &device);
        assert_close(&format!("{what}, merged"), &merged, &found, TOLERANCE);
        if expected.has("merged_logits") {
            let pefts = expected.values("merged_logits");
            assert_close(
                &format!("{what}, merged by peft"),
                &merged,
                &pefts,
                TOLERANCE,
            );
        }
    }
}

/// Gradients by the key that the parameter has in an adapter file.
fn gradients(model: &LoraModel<Net>, gradients: &Gradients) -> BTreeMap<String, HostTensor> {
    // Files hold transposes, so the model's own saving is asked which parameter goes where:
    // parameters are replaced by their gradients and saved.
    struct Replace<'a>(&'a Gradients, usize);
    impl burn::module::ModuleMapper for Replace<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match param.val().grad(self.0) {
                Some(gradient) => {
                    self.1 += 1;
                    param.map(|_| Tensor::from_inner(gradient))
                }
                None => param,
            }
        }
    }
    let mut replace = Replace(gradients, 0);
    let with_gradients = model.clone().map(&mut replace);
    let adapter = with_gradients.adapter(NAME).unwrap();
    let named: BTreeMap<String, HostTensor> = adapter
        .tensors()
        .map(|(key, tensor)| (key, tensor.clone()))
        .collect();
    assert_eq!(
        named.len(),
        replace.1,
        "gradients without a key, or keys without a gradient"
    );
    named
}

#[test]
fn losses_and_all_gradients_are_pefts() {
    let device = Device::flex().autodiff();
    for case in cases() {
        let what = name_of(&case);
        let expected = Tensors::open(&case.join("expected.safetensors"));
        let mut model = loaded(&case, &device);
        // Files that hold a float type of their own train in f32, as in peft.
        for (_, layer) in model.layers_mut() {
            assert!(layer.adapters().iter().all(|a| a.dropout == 0.0));
        }
        let ids = expected.ids("input_ids", &Device::flex());
        let loss = cross_entropy(model.forward(ids), expected.ids("labels", &Device::flex()));
        let value = host_values(loss.clone());
        assert_close(
            &format!("{what}, loss"),
            &value,
            &expected.values("loss"),
            TOLERANCE,
        );

        let found = gradients(&model, &loss.backward());
        let wanted = expected.below("grad.");
        let keys = |map: Vec<&String>| map.into_iter().cloned().collect::<Vec<_>>();
        assert_eq!(
            keys(found.keys().collect()),
            keys(wanted.keys().collect()),
            "{what}"
        );
        for (key, wanted) in wanted {
            let gradient = found[&key].to_f32().unwrap();
            assert_close(&format!("{what}, {key}"), &gradient, &wanted, TOLERANCE);
        }
        // The listing of what trains has exactly these, with their shapes in the file.
        let listed: BTreeMap<String, Vec<usize>> = model
            .trainable_tensors()
            .into_iter()
            .map(|tensor| {
                let name = tensor.name.replace(&format!(".{NAME}"), "");
                (
                    name.replace("magnitude_vector.weight", "magnitude_vector"),
                    tensor.shape,
                )
            })
            .collect();
        for (key, tensor) in &found {
            let name = key
                .strip_prefix(PREFIX)
                .unwrap()
                .replace(".base_layer.", ".");
            assert_eq!(listed.get(&name), Some(&tensor.shape), "{what}: {name}");
        }
        assert_eq!(listed.len(), found.len(), "{what}");
    }
}

/// The configuration that peft started from, before it converted it.
fn unconverted(case: &Path, init: &str) -> LoraConfig {
    let (mut config, _) =
        LoraConfig::from_json(&std::fs::read_to_string(case.join("adapter_config.json")).unwrap())
            .unwrap();
    let factor = if config.use_rslora { 2f64.sqrt() } else { 2.0 };
    config.r /= 2;
    config.lora_alpha /= factor;
    config.rank_pattern.iter_mut().for_each(|(_, r)| *r /= 2);
    config
        .alpha_pattern
        .iter_mut()
        .for_each(|(_, alpha)| *alpha /= factor);
    config.init_lora_weights = init.parse().unwrap();
    config
}

#[test]
fn pissa_and_olora_start_where_peft_does_change_nothing_and_convert() {
    let device = Device::flex().autodiff();
    let mut seen = 0;
    for case in cases() {
        let what = name_of(&case);
        let Some(init) = ["pissa", "olora"]
            .into_iter()
            .find(|init| what.starts_with(init))
        else {
            continue;
        };
        let expected = Tensors::open(&case.join("expected.safetensors"));
        let starts = expected.below("start.");
        let config = unconverted(&case, init);
        let _turn = seeded(&device, 3);
        let mut model = LoraModel::new(Net::base(&Device::flex()));
        model.add_adapter(NAME, &config, 1, &device).unwrap();
        for (name, layer) in model.layers() {
            let Some(adapter) = layer.adapters().first() else {
                continue;
            };
            // scaling * A B, before the start is taken off; `[in, out]` here.
            let product = adapter.lora_a.val().matmul(adapter.lora_b.val());
            let product = host_values(product.mul_scalar(adapter.scaling).transpose());
            let start = &starts[&format!("{name}.delta")];
            assert_close(&format!("{what}, {name}"), &product, start, 2e-5);
            seen += 1;
        }
        let found = logits(&model, &expected, &device);
        let base = logits(&Net::base(&device), &expected, &device);
        assert_close(&format!("{what}, fresh"), &found, &base, TOLERANCE);

        // A trained one is saved as a plain adapter that says the same.
        for (_, layer) in model.layers_mut() {
            for adapter in layer.adapters_mut() {
                adapter.lora_a = adapter.lora_a.clone().map(|a| a.mul_scalar(1.1).detach());
            }
        }
        let trained = logits(&model, &expected, &device);
        let dir = tempfile::tempdir().unwrap();
        model.save_adapter(NAME, dir.path()).unwrap();
        let saved = PeftAdapter::load(dir.path()).unwrap();
        assert_eq!(saved.config.r, 2 * config.r);
        assert!(!saved.config.init_lora_weights.has_start());
        let again = logits(&loaded(dir.path(), &device), &expected, &device);
        assert_close(&format!("{what}, converted"), &again, &trained, TOLERANCE);
    }
    assert!(seen >= 16, "{seen}");
}

#[test]
fn an_approximate_pissa_is_near_the_exact_one_and_changes_nothing() {
    let device = Device::flex();
    let _turn = seeded(&device, 3);
    let case = fixtures().join("cases/pissa");
    let starts = Tensors::open(&case.join("expected.safetensors")).below("start.");
    let config = unconverted(&case, "pissa_niter_64");
    let mut model = LoraModel::new(Net::base(&device));
    model.add_adapter(NAME, &config, 2, &device).unwrap();
    for (name, layer) in model.layers() {
        let Some(adapter) = layer.adapters().first() else {
            continue;
        };
        let product = adapter.lora_a.val().matmul(adapter.lora_b.val());
        let product = host_values(product.mul_scalar(adapter.scaling).transpose());
        assert_close(&name, &product, &starts[&format!("{name}.delta")], 1e-2);
        assert!(
            host_values(adapter.delta_weight())
                .iter()
                .all(|v| v.abs() < 1e-6)
        );
    }
}

#[test]
fn orthogonal_factors_are_not_zero_and_their_product_is() {
    let device = Device::flex();
    let _turn = seeded(&device, 5);
    let mut model = LoraModel::new(Net::base(&device));
    let config = LoraConfig::new(4, 6.0)
        .with_target_modules(ls_lora::TargetModules::AllLinear)
        .with_init_lora_weights(ls_lora::InitLoraWeights::Orthogonal);
    model.add_adapter(NAME, &config, 3, &device).unwrap();
    for (_, layer) in model.layers() {
        for adapter in layer.adapters() {
            let [a, b] = [&adapter.lora_a, &adapter.lora_b].map(|p| host_values(p.val()));
            assert!(a.iter().chain(&b).any(|v| v.abs() > 0.05));
            assert!(
                host_values(adapter.delta_weight())
                    .iter()
                    .all(|v| v.abs() < 1e-6)
            );
        }
    }
}

#[test]
fn fresh_magnitudes_are_the_lengths_of_the_columns_as_pefts() {
    let device = Device::flex();
    for name in ["dora", "embedding-dora"] {
        let case = fixtures().join("cases").join(name);
        let starts = Tensors::open(&case.join("expected.safetensors")).below("start.");
        let config = PeftAdapter::load(&case).unwrap().config;
        let _turn = seeded(&device, 1);
        let mut model = LoraModel::new(Net::base(&device));
        model.add_adapter(NAME, &config, 4, &device).unwrap();
        for (module, layer) in model.layers() {
            if let Some(adapter) = layer.adapters().first() {
                let magnitude = host_values(adapter.dora.as_ref().unwrap().magnitude.val());
                let start = &starts[&format!("{module}.magnitude")];
                assert_close(&format!("{name}, {module}"), &magnitude, start, TOLERANCE);
            }
        }
    }
}

fn json(name: &str) -> Value {
    let text = std::fs::read_to_string(fixtures().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn with_adapters(names: &[&str], device: &Device) -> LoraModel<Net> {
    let mut model = LoraModel::new(Net::base(device));
    for name in names {
        let dir = fixtures().join("combine").join(name);
        model.load_adapter(name, dir, device).unwrap();
    }
    model
}

#[test]
fn combinations_are_pefts() {
    let device = Device::flex();
    let expected = Tensors::open(&fixtures().join("combine/expected.safetensors"));
    for case in json("combine.json").as_array().unwrap() {
        let what = case["name"].as_str().unwrap();
        let strings = |key: &str| -> Vec<&str> {
            case[key]
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v.as_str().unwrap())
                .collect()
        };
        let adapters = strings("adapters");
        let mut model = with_adapters(&adapters, &device);
        let weights = case["weights"].as_array().unwrap().iter();
        let parts: Vec<(&str, f64)> = adapters
            .iter()
            .copied()
            .zip(weights.map(|w| w.as_f64().unwrap()))
            .collect();
        let combination = match case["type"].as_str().unwrap() {
            "cat" => Combination::Cat,
            _ => Combination::Linear,
        };
        model
            .add_weighted_adapter("sum", &parts, combination)
            .unwrap();
        model.set_adapter(&["sum"]).unwrap();
        let config = model.config("sum").unwrap();
        assert_eq!(config.r as u64, case["r"].as_u64().unwrap(), "{what}");

        // peft takes over rsLoRA from the first adapter and then scales by the root of the rank
        // once more; here the sum is the sum.
        let too_much = case["scaling"].as_f64().unwrap() as f32;
        for (module, layer) in model.layers() {
            let key = format!("{what}.{module}.delta");
            let adapter = layer.adapters().iter().find(|a| a.name == "sum");
            let Some(adapter) = adapter else {
                assert!(!expected.has(&key));
                continue;
            };
            let delta = adapter.delta_weight();
            let delta = match layer.kind() {
                LayerKind::Linear => delta.transpose(),
                LayerKind::Embedding => delta,
            };
            let pefts: Vec<f32> = expected.values(&key).iter().map(|v| v / too_much).collect();
            assert_close(&key, &host_values(delta), &pefts, TOLERANCE);
        }
        if too_much == 1.0 {
            let found = logits(&model, &expected, &device);
            assert_close(
                what,
                &found,
                &expected.values(&format!("{what}.logits")),
                TOLERANCE,
            );
        }
        // The sum is an adapter like any other.
        let dir = tempfile::tempdir().unwrap();
        model.save_adapter("sum", dir.path()).unwrap();
        let again = loaded(dir.path(), &device);
        assert_close(
            &format!("{what}, reloaded"),
            &logits(&again, &expected, &device),
            &logits(&model, &expected, &device),
            0.0,
        );
    }
}

#[test]
fn several_active_adapters_and_none_are_as_in_peft() {
    let device = Device::flex();
    let expected = Tensors::open(&fixtures().join("combine/expected.safetensors"));
    let mut model = with_adapters(&["a", "b", "c"], &device);
    let cases: [(&[&str], &str); 6] = [
        (&["a"], "only-a"),
        (&["b"], "only-b"),
        (&["a", "b"], "active-a-b"),
        (&["a", "b", "c"], "active-a-b-c"),
        (&[], "disabled"),
        (&["c"], "only-c"),
    ];
    for (active, what) in cases {
        model.set_adapter(active).unwrap();
        let found = logits(&model, &expected, &device);
        assert_close(
            what,
            &found,
            &expected.values(&format!("{what}.logits")),
            TOLERANCE,
        );
    }
}

#[test]
fn lora_plus_gives_each_parameter_pefts_learning_rate_and_decay() {
    struct Ids(BTreeMap<String, burn::module::ParamId>, Vec<String>);
    impl ModuleVisitor for Ids {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.1.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.1.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.val().is_require_grad() {
                self.0.insert(self.1.join("."), param.id);
            }
        }
    }
    let device = Device::flex().autodiff();
    let mut checked = 0;
    for case in json("loraplus.json").as_array().unwrap() {
        let mut fields = case["config"].clone();
        fields["peft_type"] = "LORA".into();
        let (config, _) = LoraConfig::from_json_value(&fields).unwrap();
        let _turn = seeded(&device, 2);
        let mut model = LoraModel::new(Net::base(&Device::flex()));
        model.add_adapter(NAME, &config, 5, &device).unwrap();
        let argument = |key: &str| case["arguments"][key].as_f64();
        let lr = argument("lr").unwrap();
        let mut plus = LoraPlus::new(argument("loraplus_lr_ratio").unwrap());
        if let Some(embedding) = argument("loraplus_lr_embedding") {
            plus.lr_embedding = embedding;
        }
        let rates = plus.learning_rates(&model, lr);
        let groups = plus.groups(&model);
        let mut ids = Ids(BTreeMap::new(), Vec::new());
        model.visit(&mut ids);
        // burn's paths in peft's words.
        let by_key: BTreeMap<String, burn::module::ParamId> = ids
            .0
            .into_iter()
            .map(|(path, id)| {
                let path = path
                    .strip_prefix("model.")
                    .unwrap()
                    .replace(".adapters.0", "");
                let embedding = path.starts_with("embed.");
                let path = path
                    .replace(".base_layer.Dense", "")
                    .replace(".base_layer", "")
                    .replace("dora.magnitude", "lora_magnitude_vector")
                    .replace("norm.gamma", "norm.weight")
                    .replace("norm.beta", "norm.bias");
                let path = if embedding {
                    path.replace("lora_a", "lora_embedding_A")
                        .replace("lora_b", "lora_embedding_B")
                } else {
                    path.replace("lora_a", "lora_A.weight")
                        .replace("lora_b", "lora_B.weight")
                };
                (format!("{PREFIX}{path}"), id)
            })
            .collect();
        let decay = argument("loraplus_weight_decay").unwrap_or(0.0);
        let parameters = case["parameters"].as_object().unwrap();
        assert_eq!(parameters.len(), by_key.len(), "{by_key:?}");
        for parameter in parameters.values() {
            let key = parameter["key"]
                .as_str()
                .unwrap()
                .replace(".base_layer.", ".");
            let id = by_key
                .get(&key)
                .unwrap_or_else(|| panic!("{key}: {by_key:?}"));
            let found = rates.lr_from_param(*id, None);
            let wanted = parameter["lr"].as_f64().unwrap();
            assert!(
                (found / wanted - 1.0).abs() < 1e-9,
                "{key}: {found} is not {wanted}"
            );
            let decays = !groups.no_decay.matches(id, None);
            let wanted = parameter["weight_decay"].as_f64().unwrap();
            assert_eq!(if decays { decay } else { 0.0 }, wanted, "{key}");
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked}");
}
