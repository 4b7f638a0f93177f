//! `ls-bench-step`: a training step or an inference pass of a classifier, as one JSON line.
//!
//! The other side is `benches/vs_peft/step.py`, with the same arguments, the same batch and the same line. Both make
//! their tensors from lists of ids within the measured time, as a training loop does.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use clap::{Parser, ValueEnum};
use ls_benches::batch;
use ls_lora::{LoraModel, PeftAdapter};
use ls_model::{AttentionMode, Checkpoint, ComputeType, LlamaClassifier, Pooling, Task};
use ls_train::config::TrainSettings;
use ls_train::environment::peak_memory;
use ls_train::loss::cross_entropy_sum;
use ls_train::optim::{adamw, clip_grad_norm};
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

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    Bf16,
}

/// What the iterations of a run left.
#[derive(Default)]
struct Record {
    seconds: Vec<f64>,
    losses: Vec<f64>,
    grad_norm: Option<f64>,
}

fn main() -> Result<()> {
    let args = Args::parse();
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

/// Loads the decoder and puts the adapter and its head on it. Both train when `device` is an autodiff device.
fn load(args: &Args, device: &Device) -> Result<(LlamaClassifier, Checkpoint)> {
    let compute = match args.dtype {
        Dtype::F32 => ComputeType::F32,
        Dtype::Bf16 => ComputeType::Bf16,
    };
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
    let (mut model, checkpoint) = load(args, device)?;
    let (loaded, labels) = (peak_mib(), labels(args, &model));
    let settings = TrainSettings {
        learning_rate: 1e-4,
        weight_decay: 0.0,
        adam_beta1: 0.9,
        adam_beta2: 0.999,
        adam_epsilon: 1e-8,
        ..TrainSettings::default()
    };
    let mut optimizer = adamw(&settings);
    let mut record = Record::default();
    for at in 0..args.warmup + args.iterations {
        let started = Instant::now();
        let input = batch(&vec![args.length; args.rows], &checkpoint.config, device)?;
        let (loss, mut gradients) = if args.gradient_checkpointing {
            model.backward_checkpointed(&input, |logits| mean_loss(logits, &labels))
        } else {
            let loss = mean_loss(model.forward(&input), &labels);
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            (loss, gradients)
        };
        let value = f64::from(loss.into_scalar::<f32>());
        if at == 0 {
            // Only here, where the time does not count when there is a warm-up.
            record.grad_norm = Some(clip_grad_norm(&model, &mut gradients, 0.0));
        }
        model = optimizer.step(settings.learning_rate, model, gradients);
        record.push(args, at, started, value);
    }
    Ok((record, loaded))
}

fn infer(args: &Args, device: &Device) -> Result<(Record, Option<f64>)> {
    let (model, checkpoint) = load(args, device)?;
    let model = LoraModel::new(model).merge_and_unload()?.0;
    let (loaded, labels) = (peak_mib(), labels(args, &model));
    let mut record = Record::default();
    for at in 0..args.warmup + args.iterations {
        let started = Instant::now();
        let input = batch(&vec![args.length; args.rows], &checkpoint.config, device)?;
        let loss = mean_loss(model.forward(&input), &labels);
        record.push(args, at, started, f64::from(loss.into_scalar::<f32>()));
    }
    Ok((record, loaded))
}

impl Record {
    fn push(&mut self, args: &Args, at: usize, started: Instant, loss: f64) {
        if at >= args.warmup {
            self.seconds.push(started.elapsed().as_secs_f64());
        }
        self.losses.push(loss);
    }
}

/// Row after row, the classes by turns.
fn labels(args: &Args, model: &LlamaClassifier) -> Vec<i64> {
    let classes = model.num_labels();
    (0..args.rows).map(|row| (row % classes) as i64).collect()
}

fn mean_loss(logits: Tensor<2>, labels: &[i64]) -> Tensor<1> {
    cross_entropy_sum(logits, labels).div_scalar(labels.len() as f64)
}

fn peak_mib() -> Option<f64> {
    peak_memory().map(|bytes| bytes as f64 / f64::from(1 << 20))
}

/// A choice by the name that the command line has for it.
fn name(choice: impl ValueEnum) -> Option<String> {
    let value = choice.to_possible_value()?;
    Some(value.get_name().into())
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
        "peak_rss_mib": peak_mib(),
        "peak_rss_loaded_mib": loaded,
        "threads": rayon::current_num_threads(),
        "versions": { "ls_llama": env!("CARGO_PKG_VERSION"), "burn": "0.22.1" },
    })
}
