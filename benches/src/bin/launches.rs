//! Counts the kernels that a training step launches. The number does not depend on the sizes, but
//! that attention takes many scores in parts, so small ones tell what a step of a large model
//! launches; any device will do.

// Its result is what it prints, and nothing is lost with it.
#![allow(clippy::print_stdout)]

use std::collections::BTreeSet;

use anyhow::Result;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use clap::Parser;
use ls_benches::device;
use ls_benches::launches::{Launches, launches};
use ls_benches::{
    Dtype, LEARNING_RATE, Shape, Timing, Tuning, mean_loss, optimizer, random_classifier,
};
use ls_lora::LoraModule;
use ls_model::AttentionMode;
use serde_json::json;

/// The kernels that a training step launches, for each block and for the rest
#[derive(Debug, Parser)]
#[command(name = "ls-bench-launches")]
struct Args {
    /// cuda or wgpu
    #[arg(long, default_value = "wgpu")]
    device: String,
    /// Element type of the frozen weights and of the activations
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// Rows of the batch
    #[arg(long, default_value_t = 4)]
    rows: usize,
    /// Tokens of a row
    #[arg(long, default_value_t = 24)]
    length: usize,
    /// Dropout of the adapters
    #[arg(long, default_value_t = 0.0)]
    dropout: f64,
}

/// Heads of their own keys, as LLaMA-2-7B has them, and sizes that differ from each other.
const SMALL: Shape = Shape {
    hidden_size: 256,
    intermediate_size: 688,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 4,
    vocab_size: 320,
};

fn main() -> Result<()> {
    device::prepare();
    let args = Args::parse();
    let device = device::select(&args.device)?.0.autodiff();
    let (few, many) = (step(&args, 2, &device)?, step(&args, 4, &device)?);
    let total = |launches: &Launches| launches.values().sum::<usize>() as f64;
    let mut of_32 = 0.0;
    for (part, (few, many)) in PARTS.iter().zip(few.iter().zip(&many)) {
        let names: BTreeSet<_> = few.keys().chain(many.keys()).collect();
        for name in names {
            let of = |launches: &Launches| launches.get(name).copied().unwrap_or(0) as f64;
            // Two more blocks.
            let block = (of(many) - of(few)) / 2.0;
            let rest = of(few) - 2.0 * block;
            println!("{part:9} {block:6} a block {rest:6} else  {name}");
        }
        let block = (total(many) - total(few)) / 2.0;
        let rest = total(few) - 2.0 * block;
        of_32 += 32.0 * block + rest;
        println!("{part:9} {block:6} a block {rest:6} else");
    }
    println!(
        "{}",
        json!({
            "what": "launches",
            "device": args.device,
            "rows": args.rows,
            "length": args.length,
            "dropout": args.dropout,
            "of_32_blocks": of_32,
        })
    );
    Ok(())
}

const PARTS: [&str; 3] = ["forward", "backward", "optimizer"];

/// What the parts of a step launch, after some steps that compile and tune.
fn step(args: &Args, blocks: usize, device: &Device) -> Result<[Launches; 3]> {
    let shape = Shape {
        num_hidden_layers: blocks,
        ..SMALL
    };
    let config = shape.config()?;
    let causal = AttentionMode::Causal;
    let mut model = random_classifier(&config, &causal, args.dtype, Tuning::default(), device)?;
    for (_, layer) in model.layers_mut() {
        for adapter in layer.adapters_mut() {
            adapter.dropout = args.dropout;
        }
    }
    let timing = Timing {
        rows: args.rows,
        length: args.length,
        warmup: 0,
        iterations: 1,
        ragged: false,
        gradient_checkpointing: false,
    };
    let labels = timing.labels(&model);
    let mut optimizer = optimizer(&model);
    let mut parts = Default::default();
    for _ in 0..3 {
        let (forward, loss) = launches(device, || {
            let input = timing.batch(0, &config, device)?;
            Ok(mean_loss(model.forward(&input), &labels))
        })?;
        let (backward, gradients) = launches(device, || {
            Ok(GradientsParams::from_grads(loss.backward(), &model))
        })?;
        let (update, stepped) = launches(device, || {
            let gradient = optimizer.gradient(&model, gradients);
            Ok(optimizer.step(model, gradient, LEARNING_RATE).0)
        })?;
        model = stepped;
        parts = [forward, backward, update];
    }
    Ok(parts)
}
