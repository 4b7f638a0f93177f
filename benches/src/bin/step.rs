//! `ls-bench-step`: a training step or an inference pass of a classifier, as one JSON line.
//!
//! `benches/vs_peft/step.py` is the other side: it takes the same arguments and the same batch and
//! prints the same line. Both make their tensors from lists of ids within the measured time, as a
//! training loop does.

// Its result is what it prints, and nothing is lost with it.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use clap::{Parser, ValueEnum};
use ls_benches::{Dtype, Record, Timing, name, peak_rss_mib};
use ls_lora::{LoraModel, PeftAdapter};
use ls_model::{AttentionMode, Checkpoint, ComputeType, LlamaClassifier, Pooling, Task};
use ls_train::allocator::keep_freed_memory;
use serde_json::{Value, json};

/// One training step or one inference pass of a classifier with an adapter, timed
#[derive(Debug, Parser)]
#[command(name = "ls-bench-step")]
struct Args {
    /// What to time
    #[arg(value_enum)]
    what: What,
    /// Hugging Face folder of the decoder
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// PEFT folder with the head in it
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// Element type of the frozen weights
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// Rows of the batch
    #[arg(long, default_value_t = 8)]
    rows: usize,
    /// Tokens of a row
    #[arg(long, default_value_t = 64)]
    length: usize,
    /// Compute each block again in the backward pass
    #[arg(long)]
    gradient_checkpointing: bool,
    /// Iterations before the ones that count
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    /// Iterations that count
    #[arg(long, default_value_t = 7)]
    iterations: usize,
    /// Threads [default: as many as there are cores]
    #[arg(long)]
    threads: Option<usize>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Forward, cross-entropy, backward and AdamW
    Train,
    /// Forward with the adapter merged
    Infer,
}

fn main() -> Result<()> {
    let args = Args::parse();
    keep_freed_memory();
    ensure!(args.rows > 0 && args.length > 0, "the batch is empty");
    // Everything below that runs in parallel, burn's CPU backend included, does so in this pool.
    let threads = args.threads.unwrap_or(0);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .context("start the threads")?;
    let device = Device::flex();
    let (record, loaded) = match args.what {
        What::Train => train(&args, &device.autodiff())?,
        What::Infer => infer(&args, &device)?,
    };
    println!("{}", line(&args, &record, loaded));
    Ok(())
}

/// Loads the decoder and puts the adapter and its head on it. Both train when `device` is an
/// autodiff device.
fn load(args: &Args, device: &Device) -> Result<(LlamaClassifier, Checkpoint)> {
    let compute = ComputeType::from(args.dtype);
    let checkpoint = Checkpoint::open(&args.model)?;
    let backbone = checkpoint.load_model(&AttentionMode::Causal, compute, device, |_, _| ())?;
    let adapter = PeftAdapter::load(&args.adapter)?;
    let dir: &Path = &args.adapter;
    let task = Task::Sequence(Pooling::Last);
    let model =
        LlamaClassifier::with_adapter(backbone, &checkpoint.config, task, &adapter, dir, device)?;
    Ok((model, checkpoint))
}

fn train(args: &Args, device: &Device) -> Result<(Record, Option<f64>)> {
    let (model, checkpoint) = load(args, device)?;
    let loaded = peak_rss_mib();
    let (record, _) = args.timing().train(model, &checkpoint.config, device)?;
    Ok((record, loaded))
}

fn infer(args: &Args, device: &Device) -> Result<(Record, Option<f64>)> {
    let (model, checkpoint) = load(args, device)?;
    let model = LoraModel::new(model).merge_and_unload()?.0;
    let loaded = peak_rss_mib();
    let record = args.timing().infer(&model, &checkpoint.config, device)?;
    Ok((record, loaded))
}

impl Args {
    fn timing(&self) -> Timing {
        Timing {
            rows: self.rows,
            length: self.length,
            ragged: false,
            warmup: self.warmup,
            iterations: self.iterations,
            gradient_checkpointing: self.gradient_checkpointing,
        }
    }
}

fn line(args: &Args, record: &Record, loaded: Option<f64>) -> Value {
    json!({
        "what": name(args.what),
        "dtype": name(args.dtype),
        "rows": args.rows,
        "length": args.length,
        "gradient_checkpointing": args.gradient_checkpointing,
        "seconds": record.seconds,
        "losses": record.losses,
        "grad_norm": record.grad_norm,
        "peak_rss_mib": peak_rss_mib(),
        "peak_rss_loaded_mib": loaded,
        "threads": rayon::current_num_threads(),
        "versions": { "ls_llama": env!("CARGO_PKG_VERSION"), "burn": "0.22.1" },
    })
}
