//! Peak resident memory of loading a checkpoint, and of cutting its weights into tiles as for a
//! model that only answers: at most 1.2 times its size in the compute type plus 200 MB.
//!
//! `cargo test -p ls-cli --test model memory -- --nocapture` shows the numbers.

use std::path::{Path, PathBuf};
use std::process::Command;

use burn::tensor::Device;
use ls_lora::{Dtype, HostTensor};
use ls_model::{AttentionMode, Checkpoint, ComputeType};

/// Set for the child process, which only loads: the folder, and the compute type as `config.toml`
/// has it.
const CHILD_FOLDER: &str = "LS_LLAMA_MEMORY_FOLDER";
const CHILD_COMPUTE: &str = "LS_LLAMA_MEMORY_COMPUTE";

const MB: f64 = 1e6;
const HIDDEN: usize = 2048;
const INTERMEDIATE: usize = 5632;
const LAYERS: usize = 3;
const VOCABULARY: usize = 512;

/// Few layers of TinyLlama's width, one key/value head for two query heads.
const CONFIG: &str = r#"{"model_type": "llama", "vocab_size": 512, "hidden_size": 2048, "intermediate_size": 5632,
    "num_hidden_layers": 3, "num_attention_heads": 16, "num_key_value_heads": 8}"#;

/// Uniform within ±0.03; a xorshift generator is enough.
fn random(shape: &[usize], dtype: Dtype) -> HostTensor {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let values: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 0.06
        })
        .collect();
    HostTensor::from_f32(shape, &values)
        .to_dtype(dtype)
        .unwrap()
}

/// Writes a checkpoint. Layers share their values, so that the writer stays small.
fn write(dir: &Path, dtype: Dtype) {
    std::fs::write(dir.join("config.json"), CONFIG).unwrap();
    let square = random(&[HIDDEN, HIDDEN], dtype);
    let keys = random(&[HIDDEN / 2, HIDDEN], dtype);
    let up = random(&[INTERMEDIATE, HIDDEN], dtype);
    let down = random(&[HIDDEN, INTERMEDIATE], dtype);
    let norm = random(&[HIDDEN], dtype);
    let embeddings = random(&[VOCABULARY, HIDDEN], dtype);
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_string(), &embeddings),
        ("model.norm.weight".to_string(), &norm),
    ];
    for layer in 0..LAYERS {
        for (name, tensor) in [
            ("self_attn.q_proj", &square),
            ("self_attn.k_proj", &keys),
            ("self_attn.v_proj", &keys),
            ("self_attn.o_proj", &square),
            ("mlp.gate_proj", &up),
            ("mlp.up_proj", &up),
            ("mlp.down_proj", &down),
            ("input_layernorm", &norm),
            ("post_attention_layernorm", &norm),
        ] {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), tensor));
        }
    }
    let tensors = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), *tensor));
    ls_files::write_tensors(dir.join("model.safetensors"), tensors).unwrap();
}

fn compute_type(name: &str) -> ComputeType {
    serde_json::from_value(name.into()).unwrap()
}

/// The child's part: loads, cuts into tiles what tiles are for, and prints the peak in kilobytes as
/// the kernel counts it.
fn load_and_report(dir: &Path, compute: &str) {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let model = checkpoint.load_model(
        &AttentionMode::Causal,
        compute_type(compute),
        &Device::flex(),
        |_, _| (),
    );
    let mut model = model.unwrap();
    ls_lora::tile(&mut model);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    drop(model);
    let peak = status.lines().find(|line| line.starts_with("VmHWM:"));
    println!("\n{}", peak.unwrap());
}

/// Peak resident bytes of a process that loads the folder and does nothing else.
fn peak_of_loading(dir: &Path, compute: &str) -> f64 {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "memory::loading_stays_near_the_size_of_the_weights",
            "--nocapture",
        ])
        .env(CHILD_FOLDER, dir)
        .env(CHILD_COMPUTE, compute)
        .output()
        .unwrap();
    let output = String::from_utf8(child.stdout).unwrap();
    assert!(child.status.success(), "{output}");
    let line = output.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<f64>().unwrap() * 1024.0
}

#[test]
fn loading_stays_near_the_size_of_the_weights() {
    if let (Some(dir), Ok(compute)) = (std::env::var_os(CHILD_FOLDER), std::env::var(CHILD_COMPUTE))
    {
        return load_and_report(&PathBuf::from(dir), &compute);
    }
    if !ls_ops::device::tests_are_on_the_cpu("what is counted is memory of the process") {
        return;
    }
    println!("file  compute  size MB  peak MB  limit MB");
    for (name, dtype, computes) in [
        ("f32", Dtype::F32, &["f32"][..]),
        ("bf16", Dtype::BF16, &["f32", "bf16"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), dtype);
        let parameters = Checkpoint::open(dir.path()).unwrap().num_parameters();
        for compute in computes {
            let size = (parameters * compute_type(compute).size()) as f64;
            let limit = 1.2 * size + 200.0 * MB;
            let peak = peak_of_loading(dir.path(), compute);
            println!(
                "{name:>4}  {compute:>7}  {:>7.0}  {:>7.0}  {:>8.0}",
                size / MB,
                peak / MB,
                limit / MB
            );
            assert!(peak >= size, "{name} in {compute}: nothing was loaded");
            assert!(peak <= limit, "{name} in {compute}: {:.0} MB", peak / MB);
        }
    }
}
