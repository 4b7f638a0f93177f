//! What must hold of the files of a model and a run for any bytes at all. The fuzz targets of
//! `fuzz/` with the feature `model`, and the test `bytes.rs`, run these functions. Those of
//! tokenizers, weights and data stand in `crates/ls-data/tests/it/any_bytes.rs`.

use std::ops::ControlFlow;
use std::path::Path;

use ls_lora::{LoraConfig, PeftAdapter, WEIGHTS_FILE, select_modules};
use ls_model::{Checkpoint, GgufModel, LlamaConfig};
use ls_train::{InferenceSettings, RunConfig};

/// A function of this module with the name of its fuzz target.
pub type Target = (&'static str, fn(&[u8]));

/// Every function.
pub const TARGETS: &[Target] = &[
    ("config_json", config_json),
    ("adapter_config", adapter_config),
    ("adapter_weights", adapter_weights),
    ("gguf_model", gguf_model),
    ("ls_llama_json", ls_llama_json),
    ("run_toml", run_toml),
    ("checkpoint", checkpoint),
];

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// `config.json`: no size in it is past all sense, and none of their products overflows.
pub fn config_json(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok(config) = LlamaConfig::from_json(text, Path::new("config.json")) else {
        return;
    };
    let mut parameters = 0u64;
    for projection in config.projections().all() {
        let [d_in, d_out] = projection.shape;
        let size = (d_in as u64).checked_mul(d_out as u64).unwrap();
        let size = size.checked_mul(config.num_hidden_layers as u64).unwrap();
        parameters = parameters.checked_add(size).unwrap();
    }
    assert!(parameters > 0 && config.vocab_size <= 1 << 24);
    assert_eq!(config.sliding_window.len(), config.num_hidden_layers);
    assert_eq!(config.rope.len(), config.num_hidden_layers);
    for rope in config.rope.iter().flatten() {
        assert!(rope.theta > 0.0 && rope.theta.is_finite());
    }
    if config.num_hidden_layers < 64 {
        assert!(config.tensors().len() > config.num_hidden_layers);
    }
}

/// `adapter_config.json`: what is read is read again the same from what is written.
pub fn adapter_config(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok((config, _)) = LoraConfig::from_json(text) else {
        return;
    };
    let names = [
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.mlp.up_proj",
        "score",
    ];
    if let Ok(selected) = select_modules(&config, &names, &["model.embed_tokens"], &["score"]) {
        assert!(!selected.is_empty());
    }
    let rank = config.rank_of(names[0]);
    assert!(rank > 0 && config.scaling_of(names[0]).is_finite());
    let (again, _) = LoraConfig::from_json(&config.to_json().to_string()).unwrap();
    assert_eq!(again.r, config.r);
}

/// `adapter_model.safetensors` beside a good configuration.
pub fn adapter_weights(data: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let config = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}"#;
    std::fs::write(dir.path().join("adapter_config.json"), config).unwrap();
    std::fs::write(dir.path().join(WEIGHTS_FILE), data).unwrap();
    if let Ok(adapter) = PeftAdapter::load(dir.path()) {
        for tensors in adapter.lora.values() {
            assert_eq!(tensors.a.shape[0], 2);
            assert_eq!(tensors.b.shape[1], 2);
        }
    }
}

/// A GGUF file of a model: what opens is written, or is an error.
pub fn gguf_model(data: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, data).unwrap();
    let Ok(model) = GgufModel::open(&path) else {
        return;
    };
    let to = dir.path().join("model.safetensors");
    let progress = |_, _| ControlFlow::Continue(());
    if model.write_weights(&to, model.dtype(), progress).is_ok() {
        std::fs::write(
            dir.path().join("config.json"),
            model.config_json(model.dtype()),
        )
        .unwrap();
        assert!(Checkpoint::open(dir.path()).is_ok());
    }
}

/// `ls_llama.json`: what is taken can be allocated by.
pub fn ls_llama_json(data: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ls_llama.json"), data).unwrap();
    if let Ok(Some(settings)) = InferenceSettings::load(dir.path()) {
        assert!((1..=1 << 16).contains(&settings.batch_size));
        assert!((1..=1 << 24).contains(&settings.max_length));
        assert!(settings.pad_to.unwrap_or(1) * settings.batch_size <= 1 << 20);
        assert!(!settings.labels.is_empty());
    }
}

/// A run's configuration.
pub fn run_toml(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(config) = RunConfig::from_toml(text, "run.toml", &[]) {
        assert!(config.train.epochs > 0 && config.train.micro_batch_size.largest() <= 1 << 16);
        assert!(config.train.learning_rate.is_finite());
        assert!(config.data.pad_to.is_none_or(|pad_to| pad_to <= 1 << 20));
    }
}

/// The state in a checkpoint of a run: what is said of where it stands can be.
pub fn checkpoint(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("checkpoints");
    std::fs::create_dir(&folder).unwrap();
    for file in ["config.toml", "metrics.jsonl"] {
        std::fs::write(dir.path().join(file), "").unwrap();
    }
    let path = folder.join("checkpoint-1.safetensors");
    let metadata = [("format_version", "1"), ("state", text)];
    ls_files::write_tensors_with(&path, std::iter::empty::<(&str, _)>(), &metadata).unwrap();
    let progress = ls_train::unfinished(dir.path()).unwrap().unwrap();
    if let Some((step, steps)) = progress.at {
        assert!(steps > 0 && step <= steps && steps <= 1 << 40);
    }
}
