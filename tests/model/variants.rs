//! Every variant of LoRA on LLaMA classifiers gives peft's logits, losses and gradients, from
//! peft's files and through our own (`fixtures/variants/make.py`); and, where Python has peft at
//! hand, peft gives ours (`loop.py`).

use std::path::{Path, PathBuf};
use std::process::Command;

use burn::module::Module;
use burn::tensor::Device;
use ls_files::TensorFile;
use ls_lora::{HostTensor, LoraModel, PeftAdapter};
use ls_model::{
    AttentionMode, Checkpoint, ComputeType, LlamaClassifier, ModelInput, Pooling, Task,
};
use ls_ops::device::of_tests;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::golden::{Expected, assert_close, at_tokens, check_training, values};

/// f32 against f32, of the largest logit.
const LOGITS: f32 = 1e-5;
/// The same of values that are drawn anew, and computed on both sides by whatever processor is
/// there.
const DRAWN_ANEW: f32 = 1e-4;

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    variant: String,
    model: String,
    task: String,
    num_labels: usize,
    /// The folder of the adapter, in `adapters`.
    adapter: PathBuf,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

fn models() -> PathBuf {
    fixtures().join("parity/models")
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(fixtures().join("variants/cases.json")).unwrap();
    let Cases { cases } = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 46);
    cases
}

struct Loaded {
    model: LlamaClassifier,
    adapter: PeftAdapter,
    checkpoint: Checkpoint,
}

/// An adapter folder on its base.
fn load(model: &str, task: &str, dir: &Path, device: &Device) -> Loaded {
    let checkpoint =
        Checkpoint::open(&models().join(Path::new(model).file_name().unwrap())).unwrap();
    let task = match task {
        "token" => Task::Token { dropout: 0.0 },
        _ => Task::Sequence(Pooling::Last),
    };
    let base = checkpoint
        .load_model(&AttentionMode::Causal, ComputeType::F32, device, |_, _| ())
        .unwrap();
    let adapter = PeftAdapter::load(dir).unwrap();
    let model =
        LlamaClassifier::with_adapter(base, &checkpoint.config, task, &adapter, dir, device)
            .unwrap();
    Loaded {
        model,
        adapter,
        checkpoint,
    }
}

/// The batch of a file as the model takes it, and its mask.
fn input(
    expected: &Expected,
    checkpoint: &Checkpoint,
    device: &Device,
) -> (ModelInput, Vec<Vec<u8>>) {
    let (ids, mask) = (expected.ids(), expected.mask());
    let input = ModelInput::from_padded(&ids, &mask, &checkpoint.config, device).unwrap();
    (input, mask)
}

/// The logits of a file at real tokens, in our order.
fn wanted(expected: &Expected, task: &str, mask: &[Vec<u8>], num_labels: usize) -> Vec<f32> {
    let rows = expected.rows("logits");
    if task == "token" {
        at_tokens(&rows, mask, num_labels)
    } else {
        rows.concat()
    }
}

#[test]
fn logits_losses_and_gradients_are_pefts() {
    let device = of_tests().autodiff();
    for case in cases() {
        let what = &case.name;
        let expected =
            Expected::open(&fixtures().join(format!("variants/cases/{what}.safetensors")));
        let dir = fixtures().join("variants/adapters").join(&case.adapter);
        let Loaded {
            model,
            adapter,
            checkpoint,
        } = load(&case.model, &case.task, &dir, &device);
        let (input, mask) = input(&expected, &checkpoint, &device);
        let reference = wanted(&expected, &case.task, &mask, case.num_labels);
        let logits = model.forward(&input);
        assert_close(what, &values(logits.clone()), &reference, LOGITS, true);
        let plain = values(model.valid().forward(&input));
        assert_close(
            &format!("{what}, off the graph"),
            &plain,
            &reference,
            LOGITS,
            true,
        );

        let labels = if case.task == "token" {
            at_tokens(&expected.rows("labels"), &mask, 1)
        } else {
            expected.get("labels").1
        };
        let trained = (&model, &adapter.config);
        check_training(what, trained, logits, &labels, &expected, (LOGITS, true));
    }
}

#[test]
fn merged_and_saved_and_reloaded_say_the_same() {
    let device = of_tests();
    for case in cases() {
        let what = &case.name;
        let expected =
            Expected::open(&fixtures().join(format!("variants/cases/{what}.safetensors")));
        let dir = fixtures().join("variants/adapters").join(&case.adapter);
        let loaded = load(&case.model, &case.task, &dir, &device);
        let (input, _) = input(&expected, &loaded.checkpoint, &device);
        let before = values(loaded.model.forward(&input));

        let folder = tempfile::tempdir().unwrap();
        let saved = loaded.model.to_adapter(&loaded.adapter.config);
        saved.save(folder.path()).unwrap();
        // It is the file that peft itself wrote, so that peft reads it; but for what peft writes
        // twice (a head's bias, by other names) and what is the base's (the table that an adapter
        // of embeddings stands on).
        let [theirs, ours] = [dir.as_path(), folder.path()]
            .map(|dir| TensorFile::open(dir.join("adapter_model.safetensors")).unwrap());
        let names = theirs.names().filter(|name| {
            let twice = [".modules_to_save.", ".original_module."];
            !name.ends_with(".base_layer.weight") && !twice.iter().any(|of| name.contains(of))
        });
        assert!(ours.names().eq(names), "{what}");
        for name in ours.names() {
            // In f32, whatever peft's are in.
            let [ours, theirs] = [&ours, &theirs].map(|file| {
                let tensor = file.read(name).unwrap();
                (tensor.to_f32().unwrap(), tensor.shape)
            });
            assert_eq!(ours, theirs, "{what}: {name}");
        }
        let again = load(&case.model, &case.task, folder.path(), &device);
        let found = values(again.model.forward(&input));
        // The same bits on the CPU; elsewhere another kernel may be chosen.
        let exact = if ls_ops::is_host(&device) {
            0.0
        } else {
            LOGITS
        };
        assert_close(&format!("{what}, reloaded"), &found, &before, exact, true);

        let (merged, _) = LoraModel::new(loaded.model).merge_and_unload().unwrap();
        let found = values(merged.forward(&input));
        assert_close(&format!("{what}, merged"), &found, &before, LOGITS, true);
    }
}

/// A Python with the packages of `loop.py`: `LS_LLAMA_PYTHON`, or `python3` if it has them.
fn python() -> Option<PathBuf> {
    let given = std::env::var_os("LS_LLAMA_PYTHON").map(PathBuf::from);
    let python = given.clone().unwrap_or_else(|| "python3".into());
    let found = Command::new(&python)
        .args(["-c", "import peft, transformers, safetensors.torch"])
        .output()
        .is_ok_and(|output| output.status.success());
    assert!(
        found || given.is_none(),
        "LS_LLAMA_PYTHON has no peft: {}",
        python.display()
    );
    found.then_some(python)
}

fn run(python: &Path, arguments: &[&str]) {
    let script = fixtures().join("variants/loop.py");
    let output = Command::new(python)
        .arg(script)
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Fresh adapters by peft give their logits here; saved from here, they give the same logits in
/// peft.
#[test]
fn the_loop_through_real_peft_is_closed() {
    let Some(python) = python() else {
        eprintln!("skipped: no python3 with peft; LS_LLAMA_PYTHON names one");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let text = |path: &Path| path.display().to_string();
    run(&python, &["write", &text(dir.path()), "--seed", "7"]);
    let listed: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("cases.json")).unwrap()).unwrap();
    let device = of_tests();
    let (mut ours, mut compared) = (Vec::new(), Vec::new());
    for case in listed.as_array().unwrap() {
        let field = |key: &str| case[key].as_str().unwrap();
        let num_labels = case["num_labels"].as_u64().unwrap() as usize;
        let expected = Expected::open(Path::new(field("expected")));
        let Loaded {
            model,
            adapter,
            checkpoint,
        } = load(
            field("model"),
            field("task"),
            Path::new(field("adapter")),
            &device,
        );
        let (input, mask) = input(&expected, &checkpoint, &device);
        let found = values(model.forward(&input));
        let reference = wanted(&expected, field("task"), &mask, num_labels);
        assert_close(field("name"), &found, &reference, DRAWN_ANEW, true);

        // Other values than peft's, so that nothing of its own files could pass for ours.
        let mut saved = model.to_adapter(&adapter.config);
        for tensors in saved.lora.values_mut() {
            let values: Vec<f32> = tensors
                .b
                .to_f32()
                .unwrap()
                .iter()
                .map(|v| v * 1.5 + 0.01)
                .collect();
            tensors.b = HostTensor::from_f32(tensors.b.shape.clone(), &values);
        }
        let folder = dir.path().join(format!("ours/{}", field("name")));
        saved.save(&folder).unwrap();
        let again = load(field("model"), field("task"), &folder, &device);
        let output = folder.with_extension("safetensors");
        compared.push((
            field("name").to_owned(),
            field("task").to_owned(),
            values(again.model.forward(&input)),
            mask,
            num_labels,
            output.clone(),
        ));
        ours.push(json!({
            "name": field("name"),
            "model": text(&models().join(Path::new(field("model")).file_name().unwrap())),
            "task": field("task"),
            "num_labels": num_labels,
            "adapter": text(&folder),
            "inputs": field("expected"),
            "output": text(&output),
        }));
    }
    let list = dir.path().join("ours.json");
    std::fs::write(&list, Value::from(ours).to_string()).unwrap();
    run(&python, &["read", &text(&list)]);
    assert_eq!(compared.len(), 46);
    for (name, task, found, mask, num_labels, output) in compared {
        assert!(TensorFile::open(&output).unwrap().get("logits").is_some());
        let pefts = wanted(&Expected::open(&output), &task, &mask, num_labels);
        assert_close(
            &format!("{name}, read by peft"),
            &found,
            &pefts,
            DRAWN_ANEW,
            true,
        );
    }
}

#[test]
fn every_variant_is_there_for_both_tasks() {
    let cases = cases();
    for variant in [
        "lora",
        "rslora",
        "dora",
        "orthogonal",
        "pissa",
        "olora",
        "embedding",
        "embedding-dora",
        "save-norm",
        "save-embed",
        "bias-all",
        "bias-lora_only",
        "fused",
        "lora-bf16",
        "lora-f16",
        "olmo2-save-norm",
        "gemma3-save-norm",
        "gemma3-embedding-dora",
    ] {
        let tasks = cases.iter().filter(|case| case.variant == variant);
        assert_eq!(tasks.count(), 2, "{variant}");
    }
}
