//! GGUF files give the values that the gguf package and transformers read from them
//! (`fixtures/gguf/make.py`).

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ls_data::{InputLimits, Reading, SpecialTokensAs, TextTokenizer, tokenizer_from_gguf};
use ls_files::{Dtype, GgufFile, GgufValue, TensorFile, sha256};
use ls_model::{AttentionMode, Checkpoint, ComputeType, ModelInput};
use ls_ops::device::of_tests;
use ls_train::convert_gguf;
use serde_json::Value;

use crate::golden::{Expected, assert_close, values};

const MODELS: [&str; 3] = ["llama", "qwen2", "qwen3"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/gguf")
}

fn json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixtures().join(name)).unwrap()).unwrap()
}

fn converted(name: &str, dtype: Option<Dtype>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let file = fixtures().join(format!("{name}.gguf"));
    convert_gguf(&file, &dir.path().join("out"), None, dtype, |_, _| {
        ControlFlow::Continue(())
    })
    .unwrap();
    dir
}

#[test]
fn a_conversion_that_is_broken_off_leaves_nothing() {
    let file = fixtures().join("llama.gguf");
    for last in [0, 3] {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = Vec::new();
        let broken = convert_gguf(&file, &dir.path().join("out"), None, None, |done, all| {
            seen.push((done, all > 3));
            if done == last {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert!(broken.unwrap_err().is_stopped());
        let expected: Vec<_> = (0..=last).map(|done| (done, true)).collect();
        assert_eq!(seen, expected);
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }
}

#[test]
fn every_kind_of_block_is_unpacked_to_the_bit() {
    let file = GgufFile::open(fixtures().join("blocks.gguf")).unwrap();
    let expected = Expected::open(&fixtures().join("blocks.safetensors"));
    assert_eq!(file.tensors().len(), 10);
    for (name, tensor) in file.tensors() {
        assert_eq!(&tensor.kind.to_string(), name);
        let (shape, reference) = expected.get(name);
        assert_eq!(tensor.shape, shape);
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let mut all = vec![0.0; reference.len()];
        file.read_rows(tensor, 0, &mut all).unwrap();
        assert_eq!(bits(&all), bits(&reference), "{name}");
        // A row in the middle of the others.
        let width = tensor.width();
        let mut row = vec![0.0; width];
        file.read_rows(tensor, 1, &mut row).unwrap();
        assert_eq!(row, reference[width..2 * width], "{name}");
    }
}

#[test]
fn converted_weights_are_those_that_transformers_reads() {
    let expected = json("weights.json");
    for name in MODELS {
        let dir = converted(name, Some(Dtype::F32));
        let path = dir.path().join("out/model.safetensors");
        let file = TensorFile::open(&path).unwrap();
        let of_name = expected.as_object().unwrap().iter();
        let of_name: BTreeMap<&str, &Value> = of_name
            .filter_map(|(key, hash)| Some((key.strip_prefix(name)?.strip_prefix('.')?, hash)))
            .collect();
        assert!(file.names().eq(of_name.keys().copied()), "{name}");
        for (key, hash) in of_name {
            let tensor = file.read(key).unwrap();
            assert_eq!(&sha256(&tensor.bytes), hash, "{name}: {key}");
        }
    }
}

#[test]
fn converted_models_compute_what_transformers_computes() {
    let expected = Expected::open(&fixtures().join("expected.safetensors"));
    for name in MODELS {
        let dir = converted(name, Some(Dtype::F32));
        let checkpoint = Checkpoint::open(&dir.path().join("out")).unwrap();
        assert!(checkpoint.surplus().is_empty());
        let (mode, device) = (AttentionMode::Causal, of_tests());
        let model = checkpoint.load_model(&mode, ComputeType::F32, &device, |_, _| ());
        let input = ModelInput::new(&expected.ids(), &checkpoint.config, &device).unwrap();
        let found = values(model.unwrap().forward(&input));
        assert_close(name, &found, &expected.get(name).1, 1e-5, true);
    }
}

#[test]
fn weights_are_rounded_once_to_the_type_that_is_asked_for_or_fits() {
    let exact = converted("llama", Some(Dtype::F32));
    let exact = TensorFile::open(exact.path().join("out/model.safetensors")).unwrap();
    // The embedding table of the one is packed, that of the other f16.
    for (name, asked, dtype) in [
        ("llama", None, Dtype::BF16),
        ("llama", Some(Dtype::F16), Dtype::F16),
        ("qwen2", None, Dtype::F16),
    ] {
        let dir = converted(name, asked);
        let file = TensorFile::open(dir.path().join("out/model.safetensors")).unwrap();
        let config = std::fs::read_to_string(dir.path().join("out/config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        let named = if dtype == Dtype::F16 {
            "float16"
        } else {
            "bfloat16"
        };
        assert_eq!(config["dtype"], named);
        for key in file.names() {
            let tensor = file.read(key).unwrap();
            assert_eq!(tensor.dtype, dtype);
            if name == "llama" {
                assert_eq!(tensor, exact.read(key).unwrap().to_dtype(dtype).unwrap());
            }
        }
    }
}

/// The ids of every text, its special tokens read as what they are.
fn ids(dir: &Path) -> Vec<Vec<u32>> {
    let reading = Reading {
        special_tokens: SpecialTokensAs::Parse,
        ..Reading::default()
    };
    let tokenizer = TextTokenizer::for_reading(dir, reading).unwrap();
    let texts: Vec<String> = serde_json::from_value(json("tokens.json")["texts"].clone()).unwrap();
    let limits = InputLimits::truncate(512);
    let inputs = texts
        .iter()
        .map(|text| tokenizer.sequence_inputs(text, None, &limits).unwrap());
    inputs
        .map(|inputs| inputs.inputs.into_iter().next().unwrap_or_default())
        .collect()
}

fn expected_ids(name: &str) -> Vec<Vec<u32>> {
    serde_json::from_value(json("tokens.json")[name].clone()).unwrap()
}

#[test]
fn a_vocabulary_becomes_the_tokenizer_that_it_was_made_from() {
    for (name, tokenizer) in [
        ("llama", "llama"),
        ("qwen2", "llama-bpe"),
        ("qwen3", "qwen2"),
    ] {
        let dir = converted(name, None);
        assert_eq!(
            ids(&dir.path().join("out")),
            expected_ids(tokenizer),
            "{name}"
        );
    }
    // The same vocabulary under the name of another family, which puts no token in front.
    let file = GgufFile::open(fixtures().join("qwen2.gguf")).unwrap();
    let mut metadata = file.metadata().clone();
    let mut pre = |name: &str| {
        let key = "tokenizer.ggml.pre".to_owned();
        metadata.insert(key, GgufValue::String(name.into()));
        tokenizer_from_gguf(&metadata, file.path())
    };
    let files = pre("smollm").unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), files.tokenizer).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), files.config).unwrap();
    assert_eq!(ids(dir.path()), expected_ids("smollm"));
    // What nobody has compared is no tokenizer.
    for name in ["gpt-2", "tekken", "command-r", "dbrx", ""] {
        let error = pre(name).unwrap_err().to_string();
        assert!(error.contains("tokenizer.ggml.pre: "), "{error}");
        assert!(error.contains("(known: llama-bpe, qwen2, smollm)"));
    }
}
