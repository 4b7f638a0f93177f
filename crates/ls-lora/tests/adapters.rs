//! Adapters as things: named, switched with what they train in full, deleted, cast, and refused
//! when they cannot be had.
//!
//! Over 700 lines because the cases share one model with named adapters.
#![allow(clippy::unwrap_used)]

mod net;

use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, FloatDType, Tensor};
use ls_files::{FileError, TensorFile, write_tensors};
use ls_lora::{
    Bias, Combination, InitLoraWeights, LoraConfig, LoraError, LoraModel, LoraModule,
    ParameterCount, PeftAdapter, Quantization, TargetModules, host_values,
};
use net::{NAME, Net, Tensors, cross_entropy, fixtures, seeded};
use serde_json::{Value, json};

fn config(modules_to_save: &[&str]) -> LoraConfig {
    LoraConfig::new(2, 5.0)
        .with_target_modules(TargetModules::list(["fc1", "fc2"]))
        .with_modules_to_save(modules_to_save.iter().copied())
}

fn inputs() -> Tensors {
    Tensors::open(&fixtures().join("cases/lora/expected.safetensors"))
}

fn logits(model: &Net) -> Vec<f32> {
    host_values(model.forward(inputs().ids("input_ids", &Device::flex())))
}

fn trained(mut model: LoraModel<Net>, steps: usize) -> LoraModel<Net> {
    let mut optimizer = SgdConfig::new().init();
    for _ in 0..steps {
        let logits = model.forward(inputs().ids("input_ids", &Device::flex()));
        let loss = cross_entropy(logits, inputs().ids("labels", &Device::flex()));
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(0.5, model, gradients);
    }
    model
}

#[test]
fn each_adapter_has_a_head_of_its_own_and_training_one_leaves_the_others() {
    let device = Device::flex().autodiff();
    let _turn = seeded(&device, 1);
    // burn computes layer norms in other steps on and off the graph: the last bits differ.
    let base = logits(&Net::base(&device));
    let mut model = LoraModel::new(Net::base(&device));
    model
        .add_adapter("a", &config(&["score", "norm"]), 1, &device)
        .unwrap();
    model = trained(model, 3);
    let a = logits(&model);
    assert_ne!(a, base);

    // The next one starts from the base, not from where the first one is.
    model
        .add_adapter(
            "b",
            &config(&["score"]).with_bias(Bias::LoraOnly),
            2,
            &device,
        )
        .unwrap();
    net::assert_close("base", &logits(&model), &base, 1e-6);
    assert_eq!(model.active_adapters(), ["b"]);
    model = trained(model, 2);
    let b = logits(&model);
    assert!(b != base && b != a);

    model.set_adapter(&["a"]).unwrap();
    assert_eq!(logits(&model), a);
    model.set_adapter(&[]).unwrap();
    net::assert_close("base", &logits(&model), &base, 1e-6);
    model.set_adapter(&["b"]).unwrap();
    assert_eq!(logits(&model), b);
    // Both have a head: which one should it be?
    let error = model.set_adapter(&["a", "b"]).unwrap_err().to_string();
    assert!(error.contains("\"a\" and \"b\""), "{error}");
    assert_eq!(logits(&model), b);

    // An inactive adapter is saved as it is, from wherever the model is.
    let dir = tempfile::tempdir().unwrap();
    model.save_adapter("a", dir.path().join("a")).unwrap();
    let mut again = LoraModel::new(Net::base(&device));
    again
        .load_adapter("a", dir.path().join("a"), &device)
        .unwrap();
    assert_eq!(logits(&again), a);

    // Training a again goes on where it was.
    model.set_adapter(&["a"]).unwrap();
    model = trained(model, 1);
    assert_ne!(logits(&model), a);
    model.set_adapter(&["b"]).unwrap();
    assert_eq!(logits(&model), b);

    model.delete_adapter("b").unwrap();
    net::assert_close("base", &logits(&model), &base, 1e-6);
    assert!(matches!(
        model.set_adapter(&["b"]),
        Err(LoraError::UnknownAdapter { name, available }) if name == "b" && available == ["a"]
    ));
    let base_again = model.unload().unwrap();
    net::assert_close("base", &logits(&base_again), &base, 1e-6);
    assert!(
        base_again
            .layers()
            .iter()
            .all(|(_, layer)| layer.adapters().is_empty())
    );
}

#[test]
fn only_what_is_asked_for_trains() {
    let device = Device::flex().autodiff();
    let _turn = seeded(&device, 1);
    let names = |config: LoraConfig| -> Vec<String> {
        // Everything trainable before, as burn makes it.
        let mut model = LoraModel::new(Net::base(&device));
        model.add_adapter("x", &config, 3, &device).unwrap();
        let tensors = model.trainable_tensors();
        let count: usize = tensors
            .iter()
            .map(|t| t.shape.iter().product::<usize>())
            .sum();
        assert_eq!(model.parameters().trainable, count);
        tensors.into_iter().map(|t| t.name).collect()
    };
    let two = LoraConfig::new(2, 5.0).with_target_modules(TargetModules::list(["1.fc1"]));
    let factors = [
        "layers.1.fc1.lora_A.x.weight",
        "layers.1.fc1.lora_B.x.weight",
    ];
    assert_eq!(names(two.clone()), factors);
    assert_eq!(
        names(two.clone().with_bias(Bias::LoraOnly)),
        [&factors[..], &["layers.1.fc1.bias"]].concat()
    );
    assert_eq!(
        names(two.clone().with_modules_to_save(["score", "0.norm"])),
        [
            &factors[..],
            &[
                "layers.0.norm.weight",
                "layers.0.norm.bias",
                "score.weight",
                "score.bias"
            ]
        ]
        .concat()
    );
    assert_eq!(
        names(two.with_bias(Bias::All).with_dora(true)),
        [
            &factors[..],
            &[
                "layers.1.fc1.lora_magnitude_vector.x.weight",
                "layers.0.fc1.bias",
                "layers.0.norm.bias",
                "layers.1.fc1.bias",
                "layers.1.norm.bias",
                "score.bias"
            ]
        ]
        .concat()
    );
}

#[test]
fn factors_may_be_bf16_and_are_saved_so() {
    let device = Device::flex().autodiff();
    let _turn = seeded(&device, 1);
    let mut model = LoraModel::new(Net::base(&Device::flex()));
    model.add_adapter(NAME, &config(&[]), 4, &device).unwrap();
    model = trained(model, 2);
    let exact = logits(&model);
    model.cast_adapters(FloatDType::BF16);
    let rounded = logits(&model);
    assert_ne!(rounded, exact);
    net::assert_close("bf16", &rounded, &exact, 0.02);
    // They train in bf16 too.
    let further = trained(model.clone(), 3);
    assert_ne!(logits(&further), rounded);
    let dir = tempfile::tempdir().unwrap();
    model.save_adapter(NAME, dir.path()).unwrap();
    let file = TensorFile::open(dir.path().join("adapter_model.safetensors")).unwrap();
    for name in file.names() {
        assert_eq!(file.get(name).unwrap().0, ls_lora::Dtype::BF16, "{name}");
    }
}

#[test]
fn a_model_stays_itself_when_it_is_moved_and_taken_off_the_graph_and_put_back() {
    let device = Device::flex().autodiff();
    let _turn = seeded(&device, 1);
    let mut model = LoraModel::new(Net::base(&Device::flex()));
    model.quantize(Quantization::Nf4).unwrap();
    let config = config(&["score"]).with_dora(true);
    model.add_adapter(NAME, &config, 5, &device).unwrap();
    model = trained(model, 2);
    let expected = logits(&model);
    assert_eq!(logits(&model.clone().to_device(&device)), expected);
    let plain = model.valid();
    let moved = logits(&plain.clone().to_device(&Device::flex()));
    net::assert_close("off the graph", &moved, &expected, 1e-6);
    assert_eq!(ParameterCount::of(&plain).trainable, 0);
    // And back to training.
    let again = plain.train();
    assert_eq!(again.parameters(), model.parameters());
    assert_ne!(logits(&trained(again, 1)), expected);
}

#[test]
fn adapters_that_cannot_be_had_leave_the_model_as_it_was() {
    let device = Device::flex().autodiff();
    let _turn = seeded(&device, 1);
    let mut model = LoraModel::new(Net::base(&Device::flex()));
    model.add_adapter("a", &config(&[]), 6, &device).unwrap();
    model = trained(model, 1);
    let before = (logits(&model), model.trainable_tensors());
    let check = |what: &str, error: Result<Vec<String>, LoraError>, model: &LoraModel<Net>| {
        let error = error.unwrap_err();
        let chain = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
        let text: Vec<String> = chain.map(ToString::to_string).collect();
        assert!(
            text.join(": ").contains(what),
            "{text:?} does not say {what}"
        );
        assert_eq!((logits(model), model.trainable_tensors()), before, "{what}");
        assert_eq!(model.active_adapters(), ["a"]);
    };
    let add = |model: &mut LoraModel<Net>, name: &str, config: &LoraConfig| {
        model.add_adapter(name, config, 7, &device)
    };
    let error = add(&mut model, "a", &config(&[]));
    check("an adapter \"a\" already", error, &model);
    let error = add(&mut model, "b", &config(&["socre"]));
    check("`modules_to_save`: socre", error, &model);
    let mut over = config(&[]);
    over.r = 7;
    let error = add(&mut model, "b", &over);
    check("r = 7 is larger than layers.0.fc1", error, &model);
    over.r = 0;
    let error = add(&mut model, "b", &over);
    check("`r` = 0", error, &model);
    let mut odd = config(&[]).with_init_lora_weights(InitLoraWeights::Orthogonal);
    odd.r = 3;
    let error = add(&mut model, "b", &odd);
    check("`r` = 3 is invalid: orthogonal", error, &model);
    let both = config(&[])
        .with_dora(true)
        .with_init_lora_weights(InitLoraWeights::Olora);
    let error = add(&mut model, "b", &both);
    check("`init_lora_weights` = \"olora\"", error, &model);
    let mut negative = config(&[]).with_init_lora_weights(InitLoraWeights::Pissa { niter: None });
    negative.lora_alpha = -1.0;
    let error = add(&mut model, "b", &negative);
    check("`lora_alpha` = -1", error, &model);

    // Files: each is the fixture's with one thing wrong.
    let spoilt = |spoil: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            fs::copy(
                fixtures().join("cases/dora").join(file),
                dir.path().join(file),
            )
            .unwrap();
        }
        spoil(dir.path());
        dir
    };
    let with_field = |field: &'static str, value: Value| {
        spoilt(&move |dir: &Path| {
            let path = dir.join("adapter_config.json");
            let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            config[field] = value.clone();
            fs::write(&path, config.to_string()).unwrap();
        })
    };
    #[allow(clippy::type_complexity)]
    let with_tensors = |change: &dyn Fn(&mut Vec<(String, ls_lora::HostTensor)>)| {
        spoilt(&|dir: &Path| {
            let path = dir.join("adapter_model.safetensors");
            let file = TensorFile::open(&path).unwrap();
            let mut tensors: Vec<(String, ls_lora::HostTensor)> = file
                .names()
                .map(|name| (name.to_owned(), file.read(name).unwrap()))
                .collect();
            change(&mut tensors);
            write_tensors(&path, tensors.iter().map(|(name, t)| (name.as_str(), t))).unwrap();
        })
    };
    let magnitude = "base_model.model.layers.0.fc1.lora_magnitude_vector";
    let cases = [
        (
            spoilt(&|dir| {
                let path = dir.join("adapter_model.safetensors");
                let bytes = fs::read(&path).unwrap();
                fs::write(&path, &bytes[..bytes.len() - 7]).unwrap();
            }),
            "truncated",
        ),
        (with_field("r", json!(4)), "lora_A.weight has shape"),
        (with_field("r", json!(0)), "`r` = 0"),
        (
            with_field("r", json!(u64::MAX)),
            "no layer takes a rank over",
        ),
        (
            with_field("rank_pattern", json!({"nowhere": u64::MAX})),
            "no layer takes a rank over",
        ),
        (with_field("lora_bias", json!(true)), "`lora_bias`"),
        (
            with_field("init_lora_weights", json!("pissa_niter_4")),
            "pissa_niter_4",
        ),
        (with_field("init_lora_weights", json!("corda")), "corda"),
        (with_field("bias", json!("some")), "`bias` = some"),
        (with_field("use_dora", json!(false)), magnitude),
        (with_field("use_dora", json!("yes")), "`use_dora`"),
        (
            with_field("target_modules", json!(["fc1"])),
            "does not account for",
        ),
        (
            with_tensors(&|tensors| tensors.retain(|(name, _)| name != magnitude)),
            magnitude,
        ),
        (
            with_tensors(&|tensors| {
                for (name, tensor) in tensors {
                    if name == magnitude {
                        tensor.bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
                    }
                }
            }),
            "1 of 10 values is NaN or infinite, the first NaN at [0]",
        ),
        (
            with_tensors(&|tensors| {
                for (name, tensor) in tensors {
                    if name == magnitude {
                        tensor.shape = vec![5, 2];
                    }
                }
            }),
            "lora_magnitude_vector has shape [5, 2]",
        ),
    ];
    for (dir, what) in cases {
        let error = model.load_adapter("b", dir.path(), &device);
        check(what, error, &model);
    }
    // The last one that is read: its names are of this model, its sizes are not.
    let narrow = with_tensors(&|tensors| {
        for (name, tensor) in tensors {
            if name == "base_model.model.layers.1.fc2.lora_B.weight" {
                *tensor = ls_lora::HostTensor::from_f32([5, 3], &[0.0; 15]);
            }
            if name == "base_model.model.layers.1.fc2.lora_magnitude_vector" {
                *tensor = ls_lora::HostTensor::from_f32([5], &[1.0; 5]);
            }
        }
    });
    let error = model.load_adapter("b", narrow.path(), &device);
    check(
        "layers.1.fc2.lora_B.weight has shape [5, 3], expected [6, 3]",
        error,
        &model,
    );
}

/// Lists are copied from one architecture to the next: peft loads an adapter whose configuration
/// names more than its model has, and so do we, because the file says what there is.
#[test]
fn a_saved_adapter_may_name_modules_and_layers_that_the_model_lacks() {
    let device = Device::flex();
    let _turn = seeded(&device, 1);
    let load = |fields: Value| {
        let dir = tempfile::tempdir().unwrap();
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            fs::copy(
                fixtures().join("cases/dora").join(file),
                dir.path().join(file),
            )
            .unwrap();
        }
        let path = dir.path().join("adapter_config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for (field, value) in fields.as_object().unwrap() {
            config[field.as_str()] = value.clone();
        }
        fs::write(&path, config.to_string()).unwrap();
        let mut model = LoraModel::new(Net::base(&device));
        let names = model.load_adapter("a", dir.path(), &device).unwrap();
        assert_eq!(names.len(), 4, "{fields}");
        logits(&model)
    };
    let expected = load(json!({}));
    assert_ne!(expected, logits(&Net::base(&device)));
    for fields in [
        json!({"target_modules": ["query", "fc1", "fc2", "lm_head"]}),
        json!({"modules_to_save": ["lm_head"]}),
        json!({"layers_to_transform": [0, 1, 31], "layers_pattern": ["layers"]}),
    ] {
        assert_eq!(load(fields.clone()), expected, "{fields}");
    }
    // A fresh one must be what was asked for.
    let config = config(&[]).with_target_modules(TargetModules::list(["fc1", "lm_head"]));
    let mut model = LoraModel::new(Net::base(&device));
    let error = model.add_adapter("a", &config, 1, &device).unwrap_err();
    assert!(
        error.to_string().contains("lm_head matches no module"),
        "{error}"
    );
}

#[test]
fn combinations_that_mean_nothing_are_refused() {
    let device = Device::flex();
    let _turn = seeded(&device, 1);
    let mut model = LoraModel::new(Net::base(&device));
    let mut wider = config(&[]);
    wider.r = 4;
    model
        .add_adapter("a", &config(&["score"]), 8, &device)
        .unwrap();
    model.add_adapter("wide", &wider, 9, &device).unwrap();
    model
        .add_adapter("head", &config(&["score"]), 10, &device)
        .unwrap();
    model
        .add_adapter("dora", &config(&[]).with_dora(true), 11, &device)
        .unwrap();
    let mut check = |parts: &[(&str, f64)], how, what: &str| {
        let error = model
            .add_weighted_adapter("sum", parts, how)
            .unwrap_err()
            .to_string();
        assert!(error.contains(what), "{error} / {what}");
        assert!(model.adapter_names().all(|name| name != "sum"));
    };
    check(&[("a", 1.0), ("wide", 1.0)], Combination::Linear, "[2, 4]");
    check(
        &[("a", 1.0), ("head", 1.0)],
        Combination::Cat,
        "\"a\" and \"head\"",
    );
    check(
        &[("dora", 1.0), ("a", 1.0)],
        Combination::Cat,
        "\"dora\" has DoRA",
    );
    check(&[("wide", f64::NAN), ("a", 1.0)], Combination::Cat, "NaN");
    check(&[("nobody", 1.0)], Combination::Cat, "\"nobody\"");
    check(&[], Combination::Cat, "none");
    let taken = model.add_weighted_adapter("a", &[("wide", 1.0)], Combination::Cat);
    assert!(matches!(taken, Err(LoraError::DuplicateAdapter { name }) if name == "a"));
    // One with a head may be in a sum: its head goes with it.
    model
        .add_weighted_adapter("sum", &[("a", 1.0), ("wide", 0.5)], Combination::Cat)
        .unwrap();
    let adapter = model.adapter("sum").unwrap();
    assert!(adapter.saved_modules.contains_key("score.weight"));
    assert_eq!(adapter.config.r, 6);
}

#[test]
fn a_sum_of_adapters_with_a_start_is_their_sum() {
    let device = Device::flex().autodiff();
    let _turn = seeded(&device, 1);
    let mut model = LoraModel::new(Net::base(&Device::flex()));
    for (name, init) in [("p", "pissa"), ("o", "olora")] {
        let config = config(&[]).with_init_lora_weights(init.parse().unwrap());
        model.add_adapter(name, &config, 12, &device).unwrap();
        model = trained(model, 2);
    }
    model
        .add_weighted_adapter("sum", &[("p", 0.5), ("o", -1.5)], Combination::Cat)
        .unwrap();
    for (name, layer) in model.layers() {
        let delta = |adapter: &str| {
            let mut adapters = layer.adapters().iter();
            adapters
                .find(|a| a.name == adapter)
                .map(|a| a.delta_weight())
        };
        let (Some(p), Some(o), Some(sum)) = (delta("p"), delta("o"), delta("sum")) else {
            continue;
        };
        let expected: Tensor<2> = p.mul_scalar(0.5) - o.mul_scalar(1.5);
        net::assert_close(&name, &host_values(sum), &host_values(expected), 1e-6);
    }
}

#[test]
fn a_pissa_adapter_that_peft_saved_unconverted_is_read() {
    // As peft has it: the start is found again from the base, and the file holds what training made
    // of it.
    let device = Device::flex().autodiff();
    let _turn = seeded(&device, 1);
    let config = config(&[]).with_init_lora_weights(InitLoraWeights::Pissa { niter: None });
    let mut model = LoraModel::new(Net::base(&Device::flex()));
    model.add_adapter(NAME, &config, 13, &device).unwrap();
    model = trained(model, 2);
    let expected = logits(&model);
    let mut adapter = PeftAdapter {
        config,
        ..model.adapter(NAME).unwrap()
    };
    for tensors in adapter.lora.values_mut() {
        // The first half of the converted form.
        let (r, d_in) = (tensors.a.shape[0] / 2, tensors.a.shape[1]);
        let a = tensors.a.to_f32().unwrap()[..r * d_in].to_vec();
        let b: Vec<f32> = tensors
            .b
            .to_f32()
            .unwrap()
            .chunks(2 * r)
            .flat_map(|row| row[..r].to_vec())
            .collect();
        *tensors = ls_lora::AdapterTensors::linear(
            ls_lora::HostTensor::from_f32([r, d_in], &a),
            ls_lora::HostTensor::from_f32([b.len() / r, r], &b),
        );
    }
    let dir = tempfile::tempdir().unwrap();
    adapter.save(dir.path()).unwrap();
    let mut again = LoraModel::new(Net::base(&Device::flex()));
    again
        .load_adapter(NAME, dir.path(), &Device::flex())
        .unwrap();
    net::assert_close("unconverted", &logits(&again), &expected, 1e-5);
    // Saved from here it is converted.
    assert_eq!(again.adapter(NAME).unwrap().config.r, 4);
}

/// A file with one tensor taken out, on a fresh base.
fn without(case: &str, gone: &str) -> LoraError {
    let dir = tempfile::tempdir().unwrap();
    let from = fixtures().join("cases").join(case);
    fs::copy(
        from.join("adapter_config.json"),
        dir.path().join("adapter_config.json"),
    )
    .unwrap();
    let file = TensorFile::open(from.join("adapter_model.safetensors")).unwrap();
    let tensors: Vec<(String, ls_lora::HostTensor)> = file
        .names()
        .filter(|name| *name != format!("base_model.model.{gone}"))
        .map(|name| (name.to_owned(), file.read(name).unwrap()))
        .collect();
    assert_eq!(tensors.len() + 1, file.names().len(), "{gone}");
    let path = dir.path().join("adapter_model.safetensors");
    write_tensors(&path, tensors.iter().map(|(name, t)| (name.as_str(), t))).unwrap();
    let mut model = LoraModel::new(Net::base(&Device::flex()));
    model
        .load_adapter(NAME, dir.path(), &Device::flex())
        .unwrap_err()
}

#[test]
fn what_is_trained_in_full_must_be_in_the_file() {
    for (case, gone) in [
        ("save-norm", "score.bias"),
        ("save-norm", "layers.0.norm.weight"),
        ("save-score", "score.weight"),
        ("bias-lora_only", "layers.1.fc1.base_layer.bias"),
        ("bias-all", "layers.0.norm.bias"),
        ("lora", "layers.0.fc2.lora_B.weight"),
    ] {
        let error = without(case, gone);
        assert!(
            matches!(&error, LoraError::File(FileError::TensorMissing { name, .. }) if name.ends_with(gone)),
            "{case} without {gone}: {error}"
        );
    }
}

#[test]
fn the_order_of_active_adapters_counts_with_dora() {
    let device = Device::flex();
    let _turn = seeded(&device, 1);
    let mut model = LoraModel::new(Net::base(&device));
    model
        .load_adapter("lora", fixtures().join("cases/lora"), &device)
        .unwrap();
    model
        .load_adapter("dora", fixtures().join("cases/dora"), &device)
        .unwrap();
    // As in peft: DoRA scales what the adapters before it made of the base.
    let one = |model: &LoraModel<Net>, order: [&str; 2]| {
        let layer = &model.layers[0].fc1;
        let names: Vec<&str> = layer.adapters.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(names, order);
        logits(model)
    };
    model.set_adapter(&["lora", "dora"]).unwrap();
    let lora_first = one(&model, ["lora", "dora"]);
    model.set_adapter(&["dora", "lora"]).unwrap();
    let dora_first = one(&model, ["dora", "lora"]);
    assert!((lora_first[0] - dora_first[0]).abs() > 1e-2);
    // And merged as they are active.
    let (merged, _) = model.merge_and_unload().unwrap();
    net::assert_close("merged", &logits(&merged), &dora_first, 1e-5);
}

#[test]
fn switching_between_validation_and_training_keeps_what_trains() {
    let device = Device::flex().autodiff();
    let _turn = seeded(&device, 1);
    let mut model = LoraModel::new(Net::base(&Device::flex()));
    let config = config(&["score"]).with_dora(true);
    model.add_adapter("a", &config, 14, &device).unwrap();
    model = trained(model, 1);
    let before = (model.trainable_tensors(), logits(&model));
    // The base's own scores, in between.
    let mut plain = model.valid();
    plain.set_adapter(&[]).unwrap();
    plain.set_adapter(&["a"]).unwrap();
    let again = plain.train();
    assert_eq!(again.trainable_tensors(), before.0);
    net::assert_close("again", &logits(&again), &before.1, 1e-6);
    // One that was loaded off the graph trains too, once it is the active one.
    let mut again = again;
    let dir = tempfile::tempdir().unwrap();
    again.save_adapter("a", dir.path()).unwrap();
    again
        .load_adapter("b", dir.path(), &Device::flex())
        .unwrap();
    again.set_adapter(&["a"]).unwrap();
    again.set_adapter(&["b"]).unwrap();
    assert_eq!(again.trainable_tensors().len(), before.0.len());
}

#[test]
fn what_trains_is_never_packed() {
    let device = Device::flex().autodiff();
    let _turn = seeded(&device, 1);
    let packed = |model: &LoraModel<Net>| -> Vec<String> {
        let layers = model.layers().into_iter();
        layers
            .filter(|(_, layer)| layer.packed_parameters() > 0)
            .map(|(name, _)| name)
            .collect()
    };
    let fc1 = || LoraConfig::new(2, 5.0).with_target_modules(TargetModules::list(["fc1"]));
    // Before the adapter, after it, and with a module in full that is no head.
    let mut before = LoraModel::new(Net::base(&Device::flex()));
    before.quantize(Quantization::Nf4).unwrap();
    before
        .add_adapter("a", &fc1().with_modules_to_save(["score"]), 15, &device)
        .unwrap();
    let names: Vec<String> = before
        .trainable_tensors()
        .into_iter()
        .map(|t| t.name)
        .collect();
    assert!(names.contains(&"score.weight".to_owned()), "{names:?}");
    let all = [
        "layers.0.fc1",
        "layers.0.fc2",
        "layers.1.fc1",
        "layers.1.fc2",
    ];
    assert_eq!(packed(&before), all);
    let error = before
        .add_adapter("b", &fc1().with_modules_to_save(["fc2"]), 16, &device)
        .unwrap_err()
        .to_string();
    assert!(error.contains("layers.0.fc2 is packed"), "{error}");

    let mut after = LoraModel::new(Net::base(&Device::flex()));
    after
        .add_adapter(
            "a",
            &fc1().with_modules_to_save(["0.fc2", "score"]),
            1,
            &device,
        )
        .unwrap();
    after.quantize(Quantization::Nf4).unwrap();
    assert_eq!(
        packed(&after),
        ["layers.0.fc1", "layers.1.fc1", "layers.1.fc2"]
    );
    let expected = logits(&after);
    after = trained(after, 1);
    assert_ne!(logits(&after), expected);
    after.set_adapter(&[]).unwrap();
    after.set_adapter(&["a"]).unwrap();

    // A magnitude's norm is of the weight as it is then.
    let dora = fixtures().join("cases/dora");
    let mut late = LoraModel::new(Net::base(&Device::flex()));
    late.load_adapter("d", &dora, &Device::flex()).unwrap();
    late.quantize(Quantization::Int8).unwrap();
    let mut early = LoraModel::new(Net::base(&Device::flex()));
    early.quantize(Quantization::Int8).unwrap();
    early.load_adapter("d", &dora, &Device::flex()).unwrap();
    assert_eq!(logits(&late), logits(&early));

    // Merged weights are not packed: unmerging would bring the others back.
    late.merge().unwrap();
    let report = late.merge().unwrap();
    assert_eq!(report.layers.len(), 4);
    assert!(late.quantize(Quantization::Nf4).is_err());
}

#[test]
fn sums_are_of_exactly_the_layers_of_their_parts() {
    let device = Device::flex();
    let _turn = seeded(&device, 1);
    let mut model = LoraModel::new(Net::base(&device));
    let mut first = config(&[]);
    first.exclude_modules = Some(TargetModules::list(["1.fc2"]));
    let mut only = config(&[]).with_target_modules(TargetModules::list(["fc1"]));
    only.layers_pattern = Some(vec!["layers".into()]);
    only.layers_to_transform = Some(vec![0]);
    only.r = 6;
    only.rank_pattern = vec![("fc1".into(), 2)];
    model.add_adapter("first", &first, 17, &device).unwrap();
    model.add_adapter("only", &only, 18, &device).unwrap();
    model
        .add_adapter(
            "full",
            &only.clone().with_modules_to_save(["fc2"]),
            19,
            &device,
        )
        .unwrap();
    for (name, parts) in [("x", ["first", "only"]), ("y", ["only", "first"])] {
        let parts = parts.map(|part| (part, 0.5));
        model
            .add_weighted_adapter(name, &parts, Combination::Linear)
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        model.save_adapter(name, dir.path()).unwrap();
        let mut again = LoraModel::new(Net::base(&device));
        let modules = again.load_adapter(name, dir.path(), &device).unwrap();
        assert_eq!(modules, ["layers.0.fc1", "layers.0.fc2", "layers.1.fc1"]);
    }
    // What one has in full another must not adapt.
    let both = [("first", 1.0), ("full", 1.0)];
    let error = model
        .add_weighted_adapter("z", &both, Combination::Cat)
        .unwrap_err();
    assert!(
        error.to_string().contains("layers.0.fc2 in full"),
        "{error}"
    );
    let error = model.set_adapter(&["first", "full"]).unwrap_err();
    assert!(
        error.to_string().contains("layers.0.fc2 in full"),
        "{error}"
    );
    for name in ["", "a.b"] {
        assert!(model.add_adapter(name, &first, 20, &device).is_err());
        let error = model
            .add_weighted_adapter(name, &[("first", 1.0)], Combination::Cat)
            .unwrap_err();
        assert!(error.to_string().contains("is no name"), "{error}");
        assert!(model.adapter_names().all(|there| there != name));
    }
}

#[test]
fn bf16_factors_of_every_variant_stay_near_their_f32_values() {
    let device = Device::flex().autodiff();
    let _turn = seeded(&device, 1);
    for variant in ["default", "orthogonal", "pissa", "olora"] {
        let mut model = LoraModel::new(Net::base(&Device::flex()));
        let config = config(&[]).with_init_lora_weights(variant.parse().unwrap());
        model.add_adapter(NAME, &config, 21, &device).unwrap();
        model = trained(model, 1);
        let exact = logits(&model);
        model.cast_adapters(FloatDType::BF16);
        net::assert_close(variant, &logits(&model), &exact, 0.05);
        trained(model, 1);
    }
}

#[test]
fn the_functions_see_a_wrapped_model_as_the_model_itself() {
    let device = Device::flex().autodiff();
    let _turn = seeded(&device, 1);
    let mut model = LoraModel::new(Net::base(&Device::flex()));
    let config = config(&["score"]).with_bias(Bias::LoraOnly);
    model.add_adapter(NAME, &config, 22, &device).unwrap();
    assert_eq!(
        ls_lora::trainable_tensors(&model),
        model.trainable_tensors()
    );
    assert_eq!(
        ls_lora::to_peft(&model, NAME, &config),
        model.adapter(NAME).unwrap()
    );
}

/// Both factors of every layer, on a device whose generator stands at `generator`.
fn start(init: &str, seed: u64, generator: u64) -> Vec<Vec<f32>> {
    let device = Device::flex();
    let _turn = seeded(&device, generator);
    let mut model = LoraModel::new(Net::base(&device));
    let config = LoraConfig::new(2, 4.0)
        .with_target_modules(TargetModules::list(["embed", "fc1", "fc2"]))
        .with_init_lora_weights(init.parse().unwrap());
    model.add_adapter(NAME, &config, seed, &device).unwrap();
    let layers = model.layers().into_iter();
    layers
        .flat_map(|(_, layer)| layer.adapters())
        .flat_map(|adapter| [&adapter.lora_a, &adapter.lora_b].map(|p| host_values(p.val())))
        .collect()
}

#[test]
fn a_start_is_its_seeds_and_not_the_devices() {
    for init in [
        "default",
        "gaussian",
        "orthogonal",
        "pissa_niter_2",
        "olora",
    ] {
        let first = start(init, 1, 5);
        assert_eq!(first, start(init, 1, 6), "{init}");
        assert_ne!(first, start(init, 2, 5), "{init}");
    }
    // Layers of one shape differ, and so do adapters of other seeds in each.
    let (first, second) = (start("gaussian", 1, 0), start("gaussian", 2, 0));
    for (at, factor) in first.iter().enumerate() {
        let zero = factor.iter().all(|&value| value == 0.0);
        assert!(zero || first.iter().skip(at + 1).all(|other| other != factor));
        assert!(zero || second.iter().all(|other| other != factor));
    }
}
