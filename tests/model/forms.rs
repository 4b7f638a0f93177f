//! A model in every form that transformers, peft and `torch.save` leave on a disk
//! (`fixtures/forms/make.py`) computes what the reference computes from it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ls_files::{HostTensor, TensorFile};
use ls_lora::{PeftAdapter, TaskType, WEIGHTS_FILE};
use ls_model::{
    AttentionMode, Checkpoint, ComputeType, LlamaClassifier, ModelInput, Pooling, Task,
};
use ls_ops::device::of_tests;

use crate::golden::{Expected, assert_close, values};

/// f32 against f32.
const LOGITS: f32 = 1e-5;
const SEQUENCE: Task = Task::Sequence(Pooling::Last);

fn forms() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/forms")
}

fn expected() -> Expected {
    Expected::open(&forms().join("expected.safetensors"))
}

fn input(checkpoint: &Checkpoint) -> ModelInput {
    ModelInput::new(&expected().ids(), &checkpoint.config, &of_tests()).unwrap()
}

fn logits(dir: &Path, task: Task) -> Vec<f32> {
    let checkpoint = Checkpoint::open(dir).unwrap();
    assert!(checkpoint.surplus().is_empty());
    let model = checkpoint
        .load_classifier(&AttentionMode::Causal, task, ComputeType::F32, &of_tests())
        .unwrap();
    values(model.forward(&input(&checkpoint)))
}

#[test]
fn whole_classifiers_of_transformers_load_with_their_heads() {
    for (form, task) in [
        ("sequence", SEQUENCE),
        ("token", Task::Token { dropout: 0.1 }),
        ("pickled", SEQUENCE),
        ("pickled-old", SEQUENCE),
        ("pickled-shards", SEQUENCE),
    ] {
        let (_, expected) = expected().get(form);
        let found = logits(&forms().join(form), task);
        assert_close(form, &found, &expected, LOGITS, false);
    }
}

/// What transformers calls the head of each family is what is read as one.
#[test]
fn heads_of_every_family_load() {
    type Heads = BTreeMap<String, BTreeMap<String, BTreeMap<String, Vec<usize>>>>;
    let heads = std::fs::read(forms().join("heads.json")).unwrap();
    let heads: Heads = serde_json::from_slice(&heads).unwrap();
    let mut loaded = 0;
    for (model, tasks) in &heads {
        let decoder = forms().join("../parity/models").join(model);
        let file = TensorFile::open(decoder.join("model.safetensors")).unwrap();
        for (task, head) in tasks {
            let case = format!("{model} {task}");
            let dir = tempfile::tempdir().unwrap();
            std::fs::copy(decoder.join("config.json"), dir.path().join("config.json")).unwrap();
            let of_decoder = file.names().map(|name| (name, file.read(name).unwrap()));
            let mut tensors: BTreeMap<&str, HostTensor> = of_decoder.collect();
            for (name, shape) in head {
                let count = shape.iter().product::<usize>();
                let values: Vec<f32> = (0..count).map(|at| at as f32 / 8.0 - 1.0).collect();
                tensors.insert(name, HostTensor::from_f32(shape.clone(), &values));
            }
            let written = tensors.iter().map(|(name, tensor)| (*name, tensor));
            ls_files::write_tensors(dir.path().join("model.safetensors"), written).unwrap();
            let checkpoint = Checkpoint::open(dir.path()).unwrap();
            assert_eq!(checkpoint.surplus(), [""; 0], "{case}");
            let (task, has_bias) = match task.as_str() {
                "sequence" => (SEQUENCE, false),
                _ => (Task::Token { dropout: 0.1 }, true),
            };
            let (causal, f32) = (AttentionMode::Causal, ComputeType::F32);
            let model = checkpoint.load_classifier(&causal, task, f32, &of_tests());
            let score = model.unwrap().score;
            assert_eq!(score.weight.dims()[1], 3, "{case}");
            let weight = tensors["score.weight"].to_f32().unwrap();
            assert_eq!(values(score.weight.val().transpose()), weight, "{case}");
            assert_eq!(score.bias.is_some(), has_bias, "{case}");
            loaded += 1;
        }
    }
    assert_eq!(loaded, 16);
}

#[test]
fn a_bare_decoder_is_the_base_of_an_adapter_in_either_form() {
    let checkpoint = Checkpoint::open(&forms().join("bare")).unwrap();
    assert!(checkpoint.surplus().is_empty());
    let device = of_tests();
    let load = || {
        let loaded =
            checkpoint.load_model(&AttentionMode::Causal, ComputeType::F32, &device, |_, _| ());
        loaded.unwrap()
    };
    let (_, hidden) = expected().get("bare");
    let found = values(load().forward(&input(&checkpoint)));
    assert_close("bare", &found, &hidden, LOGITS, false);

    let (_, with_adapter) = expected().get("adapter");
    let read = |form: &str| PeftAdapter::load(forms().join(form)).unwrap();
    assert_eq!(read("adapter"), read("adapter-pickled"));
    for form in ["adapter", "adapter-pickled"] {
        let (dir, adapter) = (forms().join(form), read(form));
        assert_eq!(adapter.config.task_type, Some(TaskType::SeqCls));
        let model = LlamaClassifier::with_adapter(
            load(),
            &checkpoint.config,
            SEQUENCE,
            &adapter,
            &dir,
            &device,
        );
        let found = values(model.unwrap().forward(&input(&checkpoint)));
        assert_close(form, &found, &with_adapter, LOGITS, false);
    }
}

#[test]
fn the_same_weights_are_known_again_in_another_form() {
    let of = |form: &str| {
        let checkpoint = Checkpoint::open(&forms().join(form)).unwrap();
        checkpoint.fingerprint(None).unwrap()
    };
    assert_eq!(of("sequence"), of("pickled-shards"));
    assert_ne!(of("sequence"), of("pickled"));
}

/// A copy of a folder of the fixture.
fn copy(form: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(forms().join(form)).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    dir
}

#[test]
fn safetensors_are_preferred_where_both_are_there() {
    let dir = copy("sequence");
    std::fs::write(dir.path().join("pytorch_model.bin"), b"no pickle").unwrap();
    assert!(Checkpoint::open(dir.path()).is_ok());
    let dir = copy("adapter-pickled");
    std::fs::write(dir.path().join(WEIGHTS_FILE), b"no safetensors").unwrap();
    let error = PeftAdapter::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("not a usable safetensors file"), "{error}");
}

#[test]
fn a_pickle_that_asks_to_call_something_is_read_without_it() {
    let error = Checkpoint::open(&forms().join("hostile")).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("pytorch_model.bin: tensor "), "{error}");
    assert!(error.contains("embed_tokens.weight is missing"), "{error}");
}

#[test]
fn what_would_take_memory_by_a_stated_size_is_refused() {
    for (name, expected) in [
        (
            "expanded.bin",
            "would have 4294967296 bytes together, more than 4 times the",
        ),
        ("compressed.bin", "in it is compressed"),
    ] {
        let path = forms().join("hostile").join(name);
        let error = TensorFile::open_pickled(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_damaged_pickle_is_refused_by_its_name() {
    for form in ["pickled", "pickled-old"] {
        let dir = copy(form);
        let path = dir.path().join("pytorch_model.bin");
        let whole = std::fs::read(&path).unwrap();
        let refused = |what: &str| {
            let loaded = Checkpoint::open(dir.path()).and_then(|checkpoint| {
                checkpoint.load_classifier(
                    &AttentionMode::Causal,
                    SEQUENCE,
                    ComputeType::F32,
                    &of_tests(),
                )
            });
            let error = loaded.err().map(|error| error.to_string());
            let error = error.unwrap_or_else(|| panic!("{form} {what} loads"));
            assert!(
                error.contains("pytorch_model.bin: "),
                "{form} {what}: {error}"
            );
        };
        for cut in (0..whole.len()).step_by(97) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            refused(&format!("cut at {cut}"));
        }
        std::fs::write(&path, b"version https://git-lfs.github.com/spec/v1\n").unwrap();
        refused("as a git-lfs pointer");
    }
}

/// The check value that the archive keeps of each storage shows a changed weight.
#[test]
fn a_changed_weight_in_a_pickle_is_refused() {
    let dir = copy("pickled");
    let path = dir.path().join("pytorch_model.bin");
    let mut bytes = std::fs::read(&path).unwrap();
    let data = b"pytorch_model/data/0";
    let at = bytes.windows(data.len()).position(|found| found == data);
    // Well behind the padding that follows the name.
    bytes[at.unwrap() + 150] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let loaded = checkpoint.load_model(
        &AttentionMode::Causal,
        ComputeType::F32,
        &of_tests(),
        |_, _| (),
    );
    let error = loaded.unwrap_err().to_string();
    assert!(
        error.contains("tensor 'model.") && error.contains("checksum"),
        "{error}"
    );
}
