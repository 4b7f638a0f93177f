//! `ls-bench-gpu`: a training step, an inference pass and their results beside the CPU's, on a GPU,
//! as JSON lines.
//!
//! It reads no file: weights and batches are made on the device. The other side is
//! `benches/gpu/peft.py`; `benches/gpu/all.sh` runs both. With `--device cpu` everything runs on
//! the CPU, which is how it is tested without a GPU.

// Its result is what it prints, and nothing is lost with it.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Distribution, Tensor};
use clap::{Parser, ValueEnum};
use ls_benches::device;
use ls_benches::device_memory::DeviceMemory;
use ls_benches::flops::Work;
use ls_benches::gpu_table;
use ls_benches::profile;
use ls_benches::timing::median;
use ls_benches::{
    Dtype, LLAMA_1_1B, LLAMA_7B, LLAMA_15M, LLAMA_135M, Record, Shape, Timing, Tuning, batch,
    mean_loss, name, peak_rss_mib, random_classifier,
};
use ls_lora::{LoraModel, LoraModule, Quantization, host_values};
use ls_model::{AttentionMode, LlamaClassifier, LlamaConfig};
use ls_ops::device::cuda_toolkit;
use ls_train::allocator::keep_freed_memory;
use serde_json::{Value, json};

/// A classifier with an adapter, timed on a GPU and compared with the CPU
#[derive(Debug, Parser)]
// The last word counts, so that a script can add to what it always says.
#[command(name = "ls-bench-gpu", args_override_self = true)]
struct Args {
    /// What to do
    #[arg(value_enum)]
    what: What,
    /// cpu, cuda, cuda:N or wgpu
    #[arg(long, default_value = "cuda")]
    device: String,
    /// Shape of the decoder
    #[arg(long, value_enum, default_value_t = Named::B7)]
    shape: Named,
    /// Element type of the frozen weights and of the activations; bf16 if the device has it
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
    /// Pack the frozen weights: nf4 or int8
    #[arg(long, value_parser = quantization)]
    quantization: Option<Quantization>,
    /// Share of the adapter's inputs that is dropped in a step
    #[arg(long, default_value_t = 0.0)]
    dropout: f64,
    /// Who sees whom: causal, bidirectional, from:LAYER, ...
    #[arg(long, default_value = "causal")]
    attention: AttentionMode,
    /// Rows of the batch
    #[arg(long, default_value_t = 8)]
    rows: usize,
    /// Tokens of a row
    #[arg(long, default_value_t = 64)]
    length: usize,
    /// Rows of several lengths up to that, others in every batch
    #[arg(long)]
    ragged: bool,
    /// Compute each block again in the backward pass
    #[arg(long)]
    gradient_checkpointing: bool,
    /// Iterations before the ones that count; kernels are chosen and compiled in them
    #[arg(long, default_value_t = 5)]
    warmup: usize,
    /// Iterations that count
    #[arg(long, default_value_t = 7)]
    iterations: usize,
    /// Further steps in which the device is waited for after each part
    #[arg(long, default_value_t = 3)]
    profile: usize,
    /// Rows and columns of the matrix product that the rate is compared with
    #[arg(long, default_value_t = 8192)]
    matrix: usize,
    /// For `table`: the results
    #[arg(long, value_name = "FILE", required_if_eq("what", "table"))]
    results: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum What {
    /// Forward, cross-entropy, backward and AdamW
    Step,
    /// Forward with the adapter merged
    Infer,
    /// Whether the device computes at all, and how soon
    Device,
    /// Logits and gradients of small models beside those of the CPU; exits with 1 if one is too far
    /// off
    Parity,
    /// The results of all.sh as Markdown; exits with 1 if a limit is missed
    Table,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Named {
    /// Small enough for a test
    Tiny,
    /// stories15M
    #[value(name = "15m")]
    M15,
    /// SmolLM-135M
    #[value(name = "135m")]
    M135,
    /// TinyLlama
    #[value(name = "1.1b")]
    B1,
    /// LLaMA-2-7B
    #[value(name = "7b")]
    B7,
}

impl Named {
    fn shape(self) -> Shape {
        match self {
            Self::Tiny => TINY,
            Self::M15 => LLAMA_15M,
            Self::M135 => LLAMA_135M,
            Self::B1 => LLAMA_1_1B,
            Self::B7 => LLAMA_7B,
        }
    }
}

/// Grouped heads, and sizes that are no powers of two.
const TINY: Shape = Shape {
    hidden_size: 96,
    intermediate_size: 136,
    num_hidden_layers: 3,
    num_attention_heads: 6,
    num_key_value_heads: 3,
    vocab_size: 200,
};

/// Heads of their own keys, of the width of LLaMA's.
const WIDE: Shape = Shape {
    hidden_size: 256,
    intermediate_size: 400,
    num_attention_heads: 2,
    num_key_value_heads: 2,
    ..TINY
};

/// A format by its name in a configuration.
fn quantization(name: &str) -> Result<Quantization, String> {
    serde_json::from_value(name.into()).map_err(|_| "neither nf4 nor int8".into())
}

fn main() -> Result<ExitCode> {
    // Before the first thread starts, which the parser does not.
    device::prepare();
    let args = Args::parse();
    keep_freed_memory();
    if let (What::Table, Some(results)) = (args.what, &args.results) {
        let text = std::fs::read_to_string(results)
            .with_context(|| format!("read {}", results.display()))?;
        let (table, kept) = gpu_table::table(&text)?;
        println!("{table}");
        return Ok(exit_code(kept));
    }
    ensure!(args.rows > 0 && args.length > 0, "the batch is empty");
    let (device, gpu) = device::select(&args.device)?;
    match args.what {
        What::Device => {
            println!("{}", first_kernels(&args, &device)?);
            Ok(ExitCode::SUCCESS)
        }
        What::Parity => parity(&args, &device),
        What::Step | What::Infer | What::Table => {
            let memory = gpu.and_then(DeviceMemory::watch);
            println!("{}", timed(&args, &device, memory)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A product and an exponential, which on CUDA is the first to need a file of the toolkit.
fn first_kernels(args: &Args, device: &Device) -> Result<Value> {
    let started = Instant::now();
    let ones = Tensor::<2>::ones([8, 8], device);
    let sum = ones.clone().matmul(ones).mul_scalar(-1.0).exp().sum();
    let (found, expected) = (sum.into_scalar::<f32>(), 64.0 * (-8.0f32).exp());
    ensure!(
        (found - expected).abs() < 1e-4 * expected,
        "the device computes {found} for {expected}"
    );
    Ok(json!({
        "what": name(args.what),
        "device": args.device,
        "bf16": device.supports_dtype(DType::BF16),
        "toolkit": cuda_toolkit(),
        "seconds": started.elapsed().as_secs_f64(),
    }))
}

/// `step` and `infer`.
fn timed(args: &Args, device: &Device, memory: Option<DeviceMemory>) -> Result<Value> {
    device.seed(1);
    let bf16 = device.supports_dtype(DType::BF16);
    let dtype = args
        .dtype
        .unwrap_or(if bf16 { Dtype::Bf16 } else { Dtype::F32 });
    let tuning = Tuning {
        dropout: args.dropout,
        quantization: args.quantization,
        ..Tuning::default()
    };
    let shape = args.shape.shape();
    let config = shape.config()?;
    let timing = Timing {
        rows: args.rows,
        length: args.length,
        ragged: args.ragged,
        warmup: args.warmup,
        iterations: args.iterations,
        gradient_checkpointing: args.gradient_checkpointing,
    };
    let work = Work {
        rows: args.rows,
        length: args.length,
        rank: Tuning::default().rank,
        bidirectional: args.attention == AttentionMode::Bidirectional,
    };
    let (record, loaded, operations, parts);
    // Read before anything else takes memory.
    let peak;
    if args.what == What::Step {
        let device = device.clone().autodiff();
        let model = random_classifier(&config, &args.attention, dtype, tuning, &device)?;
        device.sync().context("make the weights")?;
        loaded = memory.as_ref().map(DeviceMemory::peak_mib);
        let (found, model) = timing.train(model, &config, &device)?;
        peak = Peak::read(memory.as_ref(), &device);
        record = found;
        operations = 2.0 * work.step(shape);
        parts = profile::profile(args.profile, timing, model, &config, &device)?;
    } else {
        let model = random_classifier(&config, &args.attention, dtype, tuning, device)?;
        let model = LoraModel::new(model).merge_and_unload()?.0;
        device.sync().context("make the weights")?;
        loaded = memory.as_ref().map(DeviceMemory::peak_mib);
        record = timing.infer(&model, &config, device)?;
        peak = Peak::read(memory.as_ref(), device);
        operations = 2.0 * work.forward(shape);
        parts = Value::Null;
    }
    drop(memory);
    device.memory_cleanup();
    let reachable = matrix_rate(args.matrix, dtype, device)?;
    let Record {
        first_seconds,
        seconds,
        losses,
        grad_norm,
    } = record;
    // They are counted for full rows.
    let operations = (!args.ragged).then_some(operations);
    let rate = operations.map(|operations| operations / median(&seconds));
    let tera = |value: f64| value / 1e12;
    Ok(json!({
        "what": name(args.what),
        "device": args.device,
        "shape": name(args.shape),
        "dtype": name(dtype),
        "quantization": args.quantization,
        "dropout": args.dropout,
        "gradient_checkpointing": args.gradient_checkpointing,
        "attention": args.attention,
        "rows": args.rows,
        "length": args.length,
        "ragged": args.ragged,
        "first_seconds": first_seconds,
        "seconds": seconds,
        "median_seconds": median(&seconds),
        "losses": losses,
        "grad_norm": grad_norm,
        "peak_mib": peak.smi,
        "peak_loaded_mib": loaded,
        "peak_pages_mib": peak.pages,
        "peak_rss_mib": peak_rss_mib(),
        "teraflop": operations.map(tera),
        "teraflop_per_second": rate.map(tera),
        "matrix_teraflop_per_second": tera(reachable),
        "share_of_matrix": rate.map(|rate| rate / reachable),
        "profile_seconds": parts,
        "versions": { "ls_llama": env!("CARGO_PKG_VERSION"), "burn": "0.22.1" },
    }))
}

/// Memory of the device, MiB.
struct Peak {
    /// What the driver counts for this process, its context included.
    smi: Option<u64>,
    /// The pages that burn's allocator ever held.
    pages: Option<u64>,
}

impl Peak {
    fn read(memory: Option<&DeviceMemory>, device: &Device) -> Self {
        let pages = device.memory_pool_report().map(|pools| {
            let bytes = pools.iter().map(|pool| pool.page_size * pool.pages_peak);
            bytes.sum::<u64>() >> 20
        });
        Self {
            smi: memory.map(DeviceMemory::peak_mib),
            pages,
        }
    }
}

/// Operations a second of the best of some square products.
fn matrix_rate(size: usize, dtype: Dtype, device: &Device) -> Result<f64> {
    let dtype = match dtype {
        Dtype::F32 => DType::F32,
        Dtype::Bf16 => DType::BF16,
    };
    let matrix = || {
        let values = Distribution::Normal(0.0, 1.0);
        Tensor::<2>::random([size, size], values, (device, dtype))
    };
    let (a, b) = (matrix(), matrix());
    let mut best = f64::INFINITY;
    // The first ones choose and compile a kernel.
    for at in 0..12 {
        device.sync().context("wait for the device")?;
        let started = Instant::now();
        let product = ls_ops::linear(a.clone(), b.clone());
        device.sync().context("multiply matrices")?;
        if at > 3 {
            best = best.min(started.elapsed().as_secs_f64());
        }
        drop(product);
    }
    Ok(2.0 * (size as f64).powi(3) / best)
}

/// The same weights and rows on the CPU and on the device.
fn parity(args: &Args, device: &Device) -> Result<ExitCode> {
    let mut all_near = true;
    // Rows of several lengths, so that padding would show.
    let lengths = [17, 1, 33, 9];
    for (shape_name, shape) in [("grouped", TINY), ("wide", WIDE)] {
        for attention in [AttentionMode::Causal, AttentionMode::Bidirectional] {
            for dtype in [Dtype::F32, Dtype::Bf16] {
                // WGSL has no bf16.
                if dtype == Dtype::Bf16 && !device.supports_dtype(DType::BF16) {
                    continue;
                }
                let config = shape.config()?;
                let host = Device::flex();
                host.seed(7);
                let model = random_classifier(
                    &config,
                    &attention,
                    dtype,
                    Tuning::default(),
                    &host.clone().autodiff(),
                )?;
                // Weights that are far enough from zero for errors to show beside rounding.
                let model = model.map(&mut Scaled { by: 4.0 });
                let expected = results(&model, &config, &lengths, &host)?;
                let there = model.map(&mut Moved { device });
                let found = results(&there, &config, &lengths, device)?;
                // A GPU multiplies f32 as TF32 (10 bits) where that is faster; the CPU computes
                // bf16 weights in f32.
                let limit = match dtype {
                    Dtype::F32 => 1e-2,
                    Dtype::Bf16 => 1e-1,
                };
                let mut worst = (0.0, String::new());
                let mut logits = 0.0;
                for ((name, found), (_, expected)) in found.iter().zip(&expected) {
                    let error = distance(found, expected);
                    if name.starts_with("logits") {
                        logits = f64::max(logits, error);
                    } else if error.is_nan() || error > worst.0 {
                        worst = (error, name.clone());
                    }
                }
                // NaN is not near.
                let near = logits <= limit && worst.0 <= limit;
                all_near &= near;
                println!(
                    "{}",
                    json!({
                        "what": "parity",
                        "device": args.device,
                        "shape": shape_name,
                        "attention": attention,
                        "dtype": name(dtype),
                        "compared": expected.len(),
                        "logits_error": logits,
                        "gradient_error": worst.0,
                        "gradient": worst.1,
                        "limit": limit,
                        "ok": near,
                    })
                );
            }
        }
    }
    Ok(exit_code(all_near))
}

fn exit_code(ok: bool) -> ExitCode {
    if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Logits on and off the graph, and the gradient of everything that trains, by name.
fn results(
    model: &LlamaClassifier,
    config: &LlamaConfig,
    lengths: &[usize],
    device: &Device,
) -> Result<Vec<(String, Vec<f32>)>> {
    let input = batch(lengths, config, device)?;
    let labels: Vec<i64> = (0..lengths.len() as i64).map(|row| row % 2).collect();
    let logits = model.forward(&input);
    let mut gradients = mean_loss(logits.clone(), &labels).backward();
    let mut results = vec![
        ("logits".to_string(), host_values(logits.inner())),
        (
            "logits off the graph".to_string(),
            host_values(model.valid().forward(&input)),
        ),
    ];
    let mut take = |name: String, weight: Tensor<2>| -> Result<()> {
        let gradient = weight.grad_remove(&mut gradients);
        let gradient = gradient.with_context(|| format!("{name} has no gradient"))?;
        results.push((name, host_values(gradient)));
        Ok(())
    };
    for (name, layer) in model.layers() {
        for adapter in layer.adapters() {
            take(format!("{name}.lora_A"), adapter.lora_a.val())?;
            take(format!("{name}.lora_B"), adapter.lora_b.val())?;
        }
    }
    take("score".to_string(), model.score.weight.val())?;
    Ok(results)
}

/// The norm of the difference over the norm of what is expected.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let pairs = found.iter().zip(expected);
    let difference = norm(&mut pairs.map(|(a, b)| f64::from(*a) - f64::from(*b)));
    if found.len() != expected.len() {
        return f64::NAN;
    }
    difference / norm(&mut expected.iter().map(|v| f64::from(*v)))
}

/// Multiplies all matrices.
struct Scaled {
    by: f64,
}

impl ModuleMapper for Scaled {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if D < 2 {
            return param;
        }
        changed(param, |tensor| tensor.mul_scalar(self.by))
    }
}

/// Puts parameters on a device, by way of their values.
struct Moved<'a> {
    device: &'a Device,
}

impl ModuleMapper for Moved<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        changed(param, |tensor| {
            let dtype = tensor.dtype();
            Tensor::from_data(tensor.into_data(), (self.device, dtype))
        })
    }
}

/// A parameter with another value; what trained still trains.
fn changed<const D: usize>(
    param: Param<Tensor<D>>,
    change: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Param<Tensor<D>> {
    let value = param.val();
    let trains = value.is_require_grad();
    let value = change(if value.is_autodiff() {
        value.inner()
    } else {
        value
    });
    let value = if trains {
        value.autodiff().require_grad()
    } else {
        value
    };
    Param::initialized(param.id, value)
}
