//! Adapter folders, good and spoilt.
#![allow(clippy::unwrap_used)]

use ls_files::FileError;

use super::*;
use serde_json::{Value, json};
use std::error::Error as _;

const Q0: &str = "model.layers.0.self_attn.q_proj";
const V0: &str = "model.layers.0.self_attn.v_proj";

fn tensor(shape: [usize; 2], first: f32) -> HostTensor {
    let values: Vec<f32> = (0..shape[0] * shape[1])
        .map(|i| first + i as f32 * 0.25)
        .collect();
    HostTensor::from_f32(shape, &values)
}

fn lora_key(module: &str, part: &str) -> String {
    format!("{PREFIX}{module}.lora_{part}.weight")
}

fn pair(r: usize, inputs: usize, outputs: usize) -> AdapterTensors {
    AdapterTensors::linear(tensor([r, inputs], 1.0), tensor([outputs, r], -2.0))
}

/// A sequence classifier with grouped heads and a rank of its own for `v_proj`.
fn sample() -> PeftAdapter {
    let mut config = LoraConfig::new(2, 8.0)
        .with_lora_dropout(0.1)
        .with_task_type(TaskType::SeqCls)
        .with_modules_to_save(["classifier", "score"]);
    config.rank_pattern = vec![("v_proj".into(), 3)];
    PeftAdapter {
        config,
        lora: BTreeMap::from([(Q0.into(), pair(2, 4, 4)), (V0.into(), pair(3, 4, 1))]),
        saved_modules: BTreeMap::from([("score.weight".into(), tensor([3, 4], 0.5))]),
        warnings: Vec::new(),
    }
}

fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// The sample as file content, to be spoilt by a test.
fn files() -> (Value, BTreeMap<String, HostTensor>) {
    let sample = sample();
    let mut tensors = BTreeMap::new();
    for (module, pair) in sample.lora {
        tensors.insert(lora_key(&module, "A"), pair.a);
        tensors.insert(lora_key(&module, "B"), pair.b);
    }
    for (name, tensor) in sample.saved_modules {
        tensors.insert(key(&name), tensor);
    }
    (sample.config.to_json(), tensors)
}

fn written(config: &Value, tensors: &BTreeMap<String, HostTensor>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(CONFIG_FILE), config.to_string()).unwrap();
    let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    write_tensors(dir.path().join(WEIGHTS_FILE), tensors).unwrap();
    dir
}

fn load(config: &Value, tensors: &BTreeMap<String, HostTensor>) -> Result<PeftAdapter> {
    PeftAdapter::load(written(config, tensors).path())
}

/// Loads the sample after a change to its tensors.
fn load_spoilt(spoil: impl FnOnce(&mut BTreeMap<String, HostTensor>)) -> LoraError {
    let (config, mut tensors) = files();
    spoil(&mut tensors);
    load(&config, &tensors).unwrap_err()
}

fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_saved_folder_is_read_back_equal_and_holds_three_files() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("new/best");
    let adapter = sample();
    adapter.save(&dir).unwrap();
    assert_eq!(listing(&dir), ["README.md", CONFIG_FILE, WEIGHTS_FILE]);
    assert_eq!(PeftAdapter::load(&dir).unwrap(), adapter);

    let bytes = fs::read(dir.join(CONFIG_FILE)).unwrap();
    adapter.save(&dir).unwrap();
    assert_eq!(fs::read(dir.join(CONFIG_FILE)).unwrap(), bytes);
}

#[test]
fn half_precision_and_keys_with_the_adapters_name_are_read() {
    let (config, tensors) = files();
    let tensors: BTreeMap<String, HostTensor> = tensors
        .iter()
        .map(|(name, tensor)| {
            let name = name
                .replace("_A.weight", "_A.default.weight")
                .replace("_B.weight", "_B.default.weight");
            (name, tensor.to_dtype(Dtype::BF16).unwrap())
        })
        .collect();
    let adapter = load(&config, &tensors).unwrap();
    assert_eq!(
        adapter.lora[Q0].a.to_f32().unwrap(),
        sample().lora[Q0].a.to_f32().unwrap()
    );
    assert_eq!(adapter.saved_modules["score.weight"].dtype, Dtype::BF16);
}

#[test]
fn five_config_keys_suffice() {
    let (_, mut tensors) = files();
    tensors.insert(lora_key(V0, "A"), tensor([2, 4], 0.0));
    tensors.insert(lora_key(V0, "B"), tensor([1, 2], 0.0));
    let config = json!({
        "peft_type": "LORA", "task_type": "SEQ_CLS", "r": 2, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"],
    });
    let adapter = load(&config, &tensors).unwrap();
    assert_eq!(adapter.config.scaling_of(Q0), 4.0);
    assert!(adapter.warnings.is_empty());
}

#[test]
fn an_a_without_its_b_and_the_reverse_are_named() {
    for (gone, there) in [("A", "B"), ("B", "A")] {
        let error = load_spoilt(|tensors| {
            tensors.remove(&lora_key(Q0, gone));
        });
        let LoraError::File(FileError::TensorMissing { name, nearest, .. }) = error else {
            panic!("{error}");
        };
        assert_eq!(name, lora_key(Q0, gone));
        assert_eq!(nearest.as_deref(), Some(&*lora_key(Q0, there)));
    }
}

#[test]
fn a_classifier_without_a_head_and_a_folder_without_lora_are_refused() {
    let error = load_spoilt(|tensors| {
        tensors.remove(&key("score.weight"));
    });
    assert!(
        matches!(error, LoraError::File(FileError::TensorMissing { name, .. }) if name == "base_model.model.score.weight")
    );
    let error = load_spoilt(|tensors| tensors.retain(|name, _| name.contains("score")));
    assert!(
        matches!(error, LoraError::File(FileError::TensorMissing { name, .. }) if name == "base_model.model.*.lora_A.weight")
    );
}

#[test]
fn training_goes_on_without_a_head_but_not_without_anything_else() {
    let (config, mut tensors) = files();
    let whole = written(&config, &tensors);
    let loaded = PeftAdapter::load_for_training(whole.path()).unwrap();
    assert_eq!(loaded, PeftAdapter::load(whole.path()).unwrap());
    tensors.remove(&key("score.weight"));
    let headless = written(&config, &tensors);
    let loaded = PeftAdapter::load_for_training(headless.path()).unwrap();
    assert!(loaded.saved_modules.is_empty());
    let (read, warnings) = LoraConfig::from_folder(headless.path()).unwrap();
    assert_eq!((read, warnings), (loaded.config, Vec::new()));
    tensors.remove(&lora_key(Q0, "B"));
    let error = PeftAdapter::load_for_training(written(&config, &tensors).path()).unwrap_err();
    assert!(
        matches!(error, LoraError::File(FileError::TensorMissing { name, .. }) if name == lora_key(Q0, "B"))
    );
}

#[test]
fn shapes_are_held_against_layers_before_there_are_any() {
    let adapter = sample();
    let layers: Vec<(String, [usize; 2])> = adapter
        .lora
        .iter()
        .map(|(name, pair)| (name.clone(), [pair.a.shape[1], pair.b.shape[0]]))
        .collect();
    let expect = |layers: &[(String, [usize; 2])]| {
        let dir = Path::new("adapter");
        adapter.expect_layers(dir, layers, &[], &["score"])
    };
    expect(&layers).unwrap();
    for axis in [0, 1] {
        let mut others = layers.clone();
        others[1].1[axis] += 1;
        let error = expect(&others).unwrap_err();
        assert!(
            matches!(error, LoraError::File(FileError::TensorShape { .. })),
            "{error}"
        );
    }
    let error = expect(&layers[1..]).unwrap_err();
    assert!(matches!(error, LoraError::SurplusTensors { .. }), "{error}");
}

#[test]
fn an_adapter_in_a_folder_below_is_pointed_at() {
    let root = tempfile::tempdir().unwrap();
    sample().save(root.path().join("sentiment")).unwrap();
    fs::create_dir(root.path().join("logs")).unwrap();
    let error = PeftAdapter::load(root.path()).unwrap_err().to_string();
    assert!(error.contains("no adapter_config.json in it"), "{error}");
    assert!(error.ends_with("sentiment"), "{error}");
}

#[test]
fn a_tensor_that_was_never_gathered_is_named() {
    let error = load_spoilt(|tensors| {
        tensors.insert(lora_key(V0, "B"), HostTensor::from_f32([0], &[]));
    });
    let text = error.to_string();
    assert!(text.contains(&lora_key(V0, "B")), "{text}");
    assert!(text.contains("is empty (shape [0])"), "{text}");
    // No bytes, and as many labels as nobody has room for.
    let error = load_spoilt(|tensors| {
        let head = HostTensor::from_f32([1 << 40, 0], &[]);
        tensors.insert(format!("{PREFIX}score.weight"), head);
    });
    let text = error.to_string();
    assert!(
        text.contains("score.weight is empty (shape [1099511627776, 0])"),
        "{text}"
    );
}

/// peft's two ways to write a key that matches nothing: an anchor that the start of the full name
/// does not fit, and a typing error.
#[test]
fn pattern_keys_without_effect_are_noted() {
    let (mut config, tensors) = files();
    config["alpha_pattern"] =
        json!({"^q_proj": 100, "vproj": 3, "^model.layers.0.self_attn.q_proj": 4});
    let adapter = load(&config, &tensors).unwrap();
    assert_eq!(adapter.config.scaling_of(Q0), 2.0);
    assert_eq!(adapter.warnings.len(), 2, "{:?}", adapter.warnings);
    for (key, warning) in ["^q_proj", "vproj"].iter().zip(&adapter.warnings) {
        assert!(warning.contains("`alpha_pattern`"), "{warning}");
        assert!(warning.contains(key), "{warning}");
    }
}

/// As peft writes it after `resize_token_embeddings`; with `modules_to_save = ["embed_tokens"]`
/// there are two copies beside it.
#[test]
fn the_table_of_a_changed_vocabulary_is_read() {
    let (config, mut tensors) = files();
    let (table, copy) = (tensor([9, 4], 0.0), tensor([9, 4], 1.0));
    tensors.insert(key("model.embed_tokens.weight"), table.clone());
    for copies in [false, true] {
        if copies {
            for part in ["modules_to_save", "original_module"] {
                let name = format!("model.embed_tokens.{part}.weight");
                tensors.insert(key(&name), copy.clone());
            }
        }
        let adapter = load(&config, &tensors).unwrap();
        assert_eq!(adapter.vocab_size(), Some(9));
        assert_eq!(adapter.saved_modules.len(), 2);
        assert_eq!(adapter.saved_modules["model.embed_tokens.weight"], table);
    }
    assert_eq!(sample().vocab_size(), None);
    // A copy alone says nothing.
    tensors.remove(&key("model.embed_tokens.weight"));
    assert!(matches!(
        load(&config, &tensors),
        Err(LoraError::UnsupportedTensor { .. })
    ));
}

#[test]
fn surplus_tensors_are_listed() {
    let k0 = "model.layers.0.self_attn.k_proj";
    let cases = [
        // Without the prefix, twice the same factor, a module that is not targeted, one that is
        // not saved.
        vec!["score.weight".to_owned()],
        vec![format!("{PREFIX}{Q0}.lora_A.weight")],
        vec![lora_key(k0, "A"), lora_key(k0, "B")],
        vec![key("model.norm.weight"), key("weight")],
        // Of variants that the configuration does not have.
        vec![key(&format!("{Q0}.lora_magnitude_vector"))],
        vec![key(&format!("{Q0}.base_layer.bias"))],
        vec![key(&format!("{Q0}.base_layer.weight"))],
        vec![key(&format!("{Q0}.lora_embedding_A"))],
    ];
    for names in cases {
        let error = load_spoilt(|tensors| {
            if names[0] == lora_key(Q0, "A") {
                tensors.insert(
                    key(&format!("{Q0}.lora_A.default.weight")),
                    tensor([2, 4], 0.0),
                );
            }
            for name in &names {
                tensors
                    .entry(name.clone())
                    .or_insert_with(|| tensor([2, 2], 0.0));
            }
        });
        assert!(
            matches!(&error, LoraError::SurplusTensors { names: found, .. } if *found == names),
            "{error}"
        );
    }
}

#[test]
fn tensors_of_other_kinds_of_adapter_are_refused_by_name() {
    let cases = [
        (format!("{Q0}.lora_B.bias"), "bias on B"),
        (
            "model.embed_tokens.token_adapter.trainable_tokens_delta".to_owned(),
            "trainable tokens",
        ),
        ("score.modules_to_save.weight".to_owned(), "peft's name"),
        (format!("{Q0}.lora_A.sentiment.weight"), "unknown kind"),
    ];
    for (name, kind) in cases {
        let error = load_spoilt(|tensors| {
            tensors.insert(key(&name), tensor([2, 2], 0.0));
        });
        let text = error.to_string();
        assert!(
            matches!(&error, LoraError::UnsupportedTensor { name: n, .. } if *n == key(&name)),
            "{text}"
        );
        assert!(text.contains(kind), "{text}");
    }
}

#[test]
fn a_rank_that_is_not_the_configurations_is_a_wrong_shape() {
    let cases = [
        (lora_key(Q0, "A"), vec![3, 4], vec![2, 4]),
        (lora_key(Q0, "B"), vec![4, 3], vec![4, 2]),
        (lora_key(V0, "A"), vec![2, 4], vec![3, 4]),
        (lora_key(Q0, "A"), vec![8], vec![2, 0]),
        (lora_key(Q0, "B"), vec![4, 2, 1], vec![4, 2]),
    ];
    for (name, wrong, right) in cases {
        let error = load_spoilt(|tensors| {
            let values = vec![0.0; wrong.iter().product()];
            tensors.insert(name.clone(), HostTensor::from_f32(wrong.clone(), &values));
        });
        assert!(
            matches!(&error, LoraError::File(FileError::TensorShape { name: n, expected, found, .. })
                if *n == name && *expected == right && *found == wrong),
            "{error}"
        );
    }
}

#[test]
fn nan_and_infinities_are_named_and_neither_read_nor_written() {
    for name in [lora_key(Q0, "B"), key("score.weight")] {
        let error = load_spoilt(|tensors| {
            let tensor = tensors.get_mut(&name).unwrap();
            tensor.bytes[12..16].copy_from_slice(&f32::NAN.to_le_bytes());
        });
        assert!(
            matches!(&error, LoraError::File(FileError::TensorNotFinite { name: n, found, .. })
                if *n == name && (found.first, found.count) == (3, 1)),
            "{error}"
        );
    }
    let mut adapter = sample();
    adapter.lora.get_mut(Q0).unwrap().a.bytes[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let root = tempfile::tempdir().unwrap();
    let error = adapter.save(root.path().join("out")).unwrap_err();
    assert!(
        matches!(&error, LoraError::File(FileError::TensorNotFinite { found, .. }) if found.first == 0),
        "{error}"
    );
    assert!(listing(root.path()).is_empty());
}

#[test]
fn whole_numbers_are_no_weights() {
    let error = load_spoilt(|tensors| {
        tensors.get_mut(&lora_key(Q0, "A")).unwrap().dtype = Dtype::I32;
    });
    assert!(matches!(
        error,
        LoraError::File(FileError::TensorDtype {
            found: Dtype::I32,
            ..
        })
    ));
}

#[test]
fn missing_files_are_named() {
    let root = tempfile::tempdir().unwrap();
    let missing_file = |path: &Path| match PeftAdapter::load(path).unwrap_err() {
        LoraError::File(FileError::NotFound { path } | FileError::NoFolder { path }) => path,
        other => panic!("{other}"),
    };
    let absent = root.path().join("absent");
    assert_eq!(missing_file(&absent), absent);

    let dir = root.path().join("adapter");
    sample().save(&dir).unwrap();
    fs::rename(dir.join(WEIGHTS_FILE), root.path().join("w")).unwrap();
    assert_eq!(missing_file(&dir), dir.join(WEIGHTS_FILE));
    let pickle = dir.join(PICKLED_WEIGHTS_FILE);
    fs::write(&pickle, b"").unwrap();
    assert!(matches!(
        PeftAdapter::load(&dir),
        Err(LoraError::File(FileError::Unusable { path, .. })) if path == pickle
    ));
    fs::remove_file(dir.join(CONFIG_FILE)).unwrap();
    assert_eq!(missing_file(&dir), dir.join(CONFIG_FILE));
}

#[test]
fn a_bad_configuration_is_reported_with_its_path_and_cause() {
    let (mut config, tensors) = files();
    config["use_qalora"] = json!(true);
    let error = load(&config, &tensors).unwrap_err();
    assert!(matches!(&error, LoraError::AdapterConfig { path, .. } if path.ends_with(CONFIG_FILE)));
    assert!(
        error
            .source()
            .unwrap()
            .to_string()
            .contains("`use_qalora` = true")
    );

    let dir = tempfile::tempdir().unwrap();
    for bytes in [&b""[..], b"{", b"{\"peft_type\": \"LO\xffRA\"}"] {
        fs::write(dir.path().join(CONFIG_FILE), bytes).unwrap();
        let error = PeftAdapter::load(dir.path()).unwrap_err();
        assert!(
            matches!(&error, LoraError::File(FileError::Malformed { path, .. }) if path.ends_with(CONFIG_FILE)),
            "{error}"
        );
    }
}

#[test]
fn a_truncated_weights_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    sample().save(dir.path()).unwrap();
    let path = dir.path().join(WEIGHTS_FILE);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
    assert!(matches!(
        PeftAdapter::load(dir.path()),
        Err(LoraError::File(FileError::Truncated { .. }))
    ));
}

#[test]
fn all_linear_is_written_as_the_modules_it_meant() {
    let dir = tempfile::tempdir().unwrap();
    let mut adapter = sample();
    adapter.config.target_modules = TargetModules::AllLinear;
    adapter.save(dir.path()).unwrap();
    let loaded = PeftAdapter::load(dir.path()).unwrap();
    assert_eq!(loaded.config.target_modules, TargetModules::list([Q0, V0]));
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let mut adapter = sample();
    adapter
        .saved_modules
        .insert("model.norm.weight".into(), tensor([1, 4], 1.0));
    let root = tempfile::tempdir().unwrap();
    let error = adapter.save(root.path().join("out")).unwrap_err();
    assert!(
        matches!(error, LoraError::SurplusTensors { names, .. } if names == [key("model.norm.weight")])
    );
    assert!(listing(root.path()).is_empty());
}

#[test]
fn no_adapter_is_written_beside_a_config_json() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), b"{}").unwrap();
    assert!(matches!(
        sample().save(dir.path()),
        Err(LoraError::ConfigJsonPresent { .. })
    ));
    assert_eq!(listing(dir.path()), ["config.json"]);
}

#[test]
fn a_card_is_written_once_and_replaced_only_when_given() {
    let dir = tempfile::tempdir().unwrap();
    let card = || fs::read_to_string(dir.path().join(CARD_FILE)).unwrap();
    let mut adapter = sample();
    adapter.config.base_model_name_or_path = Some("org/base: \"x\"".into());
    adapter.save(dir.path()).unwrap();
    assert!(
        card().starts_with("---\nbase_model: \"org/base: \\\"x\\\"\"\nlibrary_name: peft\n"),
        "{}",
        card()
    );
    adapter.save_with_card(dir.path(), "mine").unwrap();
    adapter.save(dir.path()).unwrap();
    assert_eq!(card(), "mine");
}

#[test]
fn modules_are_compared_with_those_of_the_model() {
    let adapter = sample();
    let selected: Vec<String> = vec![Q0.into(), V0.into()];
    adapter.expect_modules("dir", &selected).unwrap();
    let fewer = adapter.expect_modules("dir", &selected[..1]).unwrap_err();
    assert!(
        matches!(fewer, LoraError::SurplusTensors { names, .. } if names == [lora_key(V0, "A")])
    );
    let more = [selected, vec!["model.layers.1.self_attn.q_proj".into()]].concat();
    let error = adapter.expect_modules("dir", &more).unwrap_err();
    assert!(
        matches!(error, LoraError::File(FileError::TensorMissing { name, nearest, .. })
        if name.contains("layers.1.") && nearest.as_deref() == Some(&*lora_key(Q0, "A")))
    );
}

#[test]
fn an_adapter_for_another_task_is_refused() {
    let mut adapter = sample();
    adapter.expect_task(TaskType::SeqCls).unwrap();
    let error = adapter.expect_task(TaskType::TokenCls).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the adapter is for task SEQ_CLS, the model is for task TOKEN_CLS"
    );
    adapter.config.task_type = None;
    adapter.expect_task(TaskType::TokenCls).unwrap();
}

#[test]
fn json_is_written_as_python_does() {
    let value = json!({"a": "è😀\u{1}\n", "b": [1, []], "c": {}});
    let expected = "{\n  \"a\": \"\\u00e8\\ud83d\\ude00\\u0001\\n\",\n  \"b\": [\n    1,\n    []\n  ],\n  \"c\": {}\n}";
    assert_eq!(python_json(&value), expected);
    assert_eq!(serde_json::from_str::<Value>(expected).unwrap(), value);
}
