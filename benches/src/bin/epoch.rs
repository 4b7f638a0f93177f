//! `ls-bench-epoch`: the batches of a run's first epoch in their order, and its initial adapter.
//!
//! `benches/vs_peft/epoch.sh` uses them: with `order.json` and the PEFT folder `adapter/` another
//! program trains on the same batches, from the same weights, as `ls-cli train` does with the same
//! configuration.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use clap::Parser;
use ls_data::{BatchOptions, TaskKind, TextTokenizer, epoch_order};
use ls_lora::add_adapter;
use ls_model::{ADAPTER, Checkpoint, LlamaClassifier};
use ls_train::RunConfig;
use ls_train::sources::Sources;
use ls_train::splits::Splits;
use serde_json::json;

/// The batches of a run's first epoch in their order, and the adapter that it begins with
#[derive(Debug, Parser)]
#[command(name = "ls-bench-epoch")]
struct Args {
    /// Configuration of the run
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Set a key of the configuration (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let config = RunConfig::from_file(&args.config, &args.set)?;
    ensure!(
        config.task == TaskKind::Sequence && config.train.gradient_accumulation_steps == 1,
        "only for texts, and for steps of one batch"
    );
    let checkpoint = Checkpoint::open(&config.model.path)?;
    let run = config.resolve(&checkpoint.config);
    let config = &run.config;
    let tokenizer = TextTokenizer::for_reading(&config.model.path, config.data.reading())?;
    let vocab_size = checkpoint.config.vocab_size;
    let sources = Sources::of(config)?;
    let splits = Splits::read(&run, &sources, &tokenizer, vocab_size, &mut ())?;
    let options = BatchOptions {
        batch_size: config.train.micro_batch_size.largest(),
        pad_id: tokenizer.pad_token().id,
        padding_side: config.data.padding_side,
        padding_mode: run.padding,
        pad_to: config.data.pad_to,
        group_by_length: config.train.group_by_length,
    };
    let lengths = splits.train.lengths();
    let batches = epoch_order(lengths, &options, config.train.seed, 0);
    std::fs::create_dir_all(&args.out).with_context(|| format!("create {}", args.out.display()))?;
    let path = args.out.join("order.json");
    let order = json!({ "lengths": lengths, "batches": batches });
    std::fs::write(&path, order.to_string())
        .with_context(|| format!("write {}", path.display()))?;

    // As a run makes them: from its seed. If that changes, the losses of the first steps show it.
    let device = Device::flex();
    let model = checkpoint.load_model(&run.attention, run.precision.clone(), &device, |_, _| ())?;
    let training = device.autodiff();
    let (labels, seed) = (splits.labels.len(), config.train.seed);
    let mut model =
        LlamaClassifier::new(model, &checkpoint.config, run.head, labels, seed, &training);
    let lora = run.lora.context("a configuration with adapters")?;
    add_adapter(&mut model, ADAPTER, &lora, seed, &training)?;
    model.to_adapter(&lora).save(args.out.join("adapter"))?;
    Ok(())
}
