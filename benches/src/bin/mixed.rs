//! `ls-bench-mixed`: a batch for several adapters on one decoder, beside the same rows for one.

// Its result is what it prints, and nothing is lost with it.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use burn::module::Param;
use burn::tensor::{DType, Device, Distribution, Tensor};
use clap::Parser;
use ls_benches::Dtype;
use ls_benches::timing::{by_turns, median, ratio};
use ls_lora::{LoraConfig, LoraModel, LoraModule, TargetModules, add_adapter, host_values};
use ls_model::{
    ADAPTER, AttentionMode, Checkpoint, ComputeType, LlamaClassifier, LlamaModel, ModelInput,
    Pooling, SharedClassifier, SharedDecoder, Task, forward_mixed,
};
use ls_train::allocator::keep_freed_memory;

/// A batch for several adapters on one decoder, beside the same rows for one
#[derive(Debug, Parser)]
#[command(name = "ls-bench-mixed")]
struct Args {
    /// Hugging Face folder of the decoder
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Element type of the frozen weights
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// Adapters, of which each has as many rows
    #[arg(long, default_value_t = 8)]
    adapters: usize,
    /// Rank of each, on all linear layers
    #[arg(long, default_value_t = 16)]
    rank: usize,
    /// Rows of the batch
    #[arg(long, default_value_t = 32)]
    rows: usize,
    /// Tokens of a row
    #[arg(long, default_value_t = 24)]
    length: usize,
    /// How often each side has its turn
    #[arg(long, default_value_t = 9)]
    rounds: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    keep_freed_memory();
    let share = args.rows.checked_div(args.adapters).unwrap_or(0);
    ensure!(
        share > 0 && share * args.adapters == args.rows && args.length > 0 && args.rounds > 0,
        "{} rows are no equal shares of {} adapters",
        args.rows,
        args.adapters
    );
    let device = Device::flex();
    let checkpoint = Checkpoint::open(&args.model)?;
    let compute = ComputeType::from(args.dtype);
    let decoder = checkpoint.load_model(&AttentionMode::Causal, compute, &device, |_, _| ())?;
    let shared = SharedDecoder::new(decoder.clone());
    let made = (0..args.adapters).map(|at| classifier(&args, at, &decoder, &shared, &checkpoint));
    let classifiers = made.collect::<Result<Vec<_>>>()?;
    let vocabulary = checkpoint.config.vocab_size;
    let rows: Vec<Vec<u32>> = (0..args.rows)
        .map(|row| {
            (0..args.length)
                .map(|at| ((row * 31 + at * 7) % vocabulary) as u32)
                .collect()
        })
        .collect();
    let input = |rows: &[Vec<u32>]| ModelInput::new(rows, &checkpoint.config, &device);
    let all = input(&rows)?;
    let shares = rows
        .chunks(share)
        .map(input)
        .collect::<Result<Vec<_>, _>>()?;
    let parts: Vec<(&SharedClassifier, &ModelInput)> = classifiers.iter().zip(&shares).collect();
    let one = [(&classifiers[0], &all)];
    let merged = LoraModel::new((*classifiers[0]).clone())
        .merge_and_unload()?
        .0;

    let equal =
        forward_mixed(&parts)?
            .into_iter()
            .zip(&parts)
            .all(|(mixed, (classifier, input))| {
                host_values(mixed) == host_values(classifier.forward(input))
            });
    ensure!(
        equal,
        "a part of the mixed batch has other logits than it has alone"
    );
    let mixed = |parts: &[(&SharedClassifier, &ModelInput)]| {
        for logits in forward_mixed(parts).into_iter().flatten() {
            host_values(logits);
        }
    };
    let times = by_turns(
        args.rounds,
        &[
            &|| drop(host_values(merged.forward(&all))),
            &|| mixed(&one),
            &|| mixed(&parts),
            &|| {
                for part in &parts {
                    mixed(&[*part]);
                }
            },
        ],
    );
    let names = [
        "one, merged".to_owned(),
        "one".to_owned(),
        format!("{} in one pass", args.adapters),
        format!("{} one after the other", args.adapters),
    ];
    println!("| adapters | ms | times one |\n|---|---|---|");
    for (name, seconds) in names.iter().zip(&times) {
        let (ms, times) = (median(seconds) * 1e3, ratio(seconds, &times[1]));
        println!("| {name} | {ms:.1} | {times:.3} |");
    }
    Ok(())
}

/// A classifier with an adapter and a head of its own; every other one sees to the right.
fn classifier(
    args: &Args,
    at: usize,
    decoder: &LlamaModel,
    shared: &SharedDecoder,
    checkpoint: &Checkpoint,
) -> Result<SharedClassifier> {
    let (device, config) = (Device::flex(), &checkpoint.config);
    let task = match at % 3 {
        0 => Task::Sequence(Pooling::Last),
        1 => Task::Sequence(Pooling::Mean),
        _ => Task::Token { dropout: 0.0 },
    };
    let mut made = LlamaClassifier::new(decoder.clone(), config, task, at + 2, 1, &device);
    let lora = LoraConfig::new(args.rank, 32.0)
        .with_target_modules(TargetModules::AllLinear)
        .with_task_type(task.task_type());
    add_adapter(&mut made, ADAPTER, &lora, at as u64, &device)?;
    for (_, layer) in made.layers_mut() {
        for adapter in layer.adapters_mut() {
            let shape = adapter.lora_b.val().dims();
            let values = Distribution::Normal(0.0, 0.01);
            adapter.lora_b =
                Param::from_tensor(Tensor::random(shape, values, (&device, DType::F32)));
        }
    }
    let adapter = made.to_adapter(&lora);
    let dir = tempfile::tempdir().context("a folder for an adapter")?;
    adapter.save(dir.path())?;
    let attention = match at % 2 {
        0 => AttentionMode::Causal,
        _ => AttentionMode::Bidirectional,
    };
    Ok(shared.classifier(config, &attention, task, &adapter, dir.path(), &device)?)
}
