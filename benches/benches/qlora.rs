//! Memory and time of a training step of a 135M LLaMA classifier with the frozen weights in f32,
//! bf16, 8 bits and 4 bits.
//!
//! `cargo bench -p ls-benches --profile dev --bench qlora [15m]`. The allocator counts the memory.
//! The formats take turns, and times are medians of their ratios within a round.

// Its result is what it prints, and nothing is lost with it.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor};
use ls_benches::{LLAMA_15M, LLAMA_135M, batch, random_checkpoint};
use ls_lora::{LoraConfig, Quantization, TaskType, add_adapter};
use ls_model::{
    ADAPTER, AttentionMode, ComputeType, LlamaClassifier, ModelInput, Pooling, Precision, Task,
    Trained,
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const ROUNDS: usize = 7;

fn mib(bytes: usize) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

fn step(model: &LlamaClassifier, input: &ModelInput, targets: &Tensor<1, Int>) {
    let logits = model.forward(input);
    let loss = CrossEntropyLossConfig::new()
        .init(&logits.device())
        .forward(logits, targets.clone());
    black_box(GradientsParams::from_grads(loss.backward(), model));
}

fn main() -> Result<()> {
    let small = std::env::args().any(|argument| argument == "15m");
    let shape = if small { LLAMA_15M } else { LLAMA_135M };
    let device = Device::flex().autodiff();
    device.seed(7);
    let dir = tempfile::tempdir()?;
    let checkpoint = random_checkpoint(dir.path(), shape, &Device::flex())?;
    let config = LoraConfig::new(12, 32.0).with_task_type(TaskType::SeqCls);
    let input = batch(&[64; 8], &checkpoint.config, &device)?;
    let targets: Tensor<1, Int> = Tensor::from_data([0, 1, 1, 0, 1, 0, 0, 1], &device);

    let precision = |compute, quantization| Precision {
        compute,
        quantization,
        in_f32: Trained::Head,
    };
    let formats = [
        ("f32", precision(ComputeType::F32, None)),
        ("bf16", precision(ComputeType::Bf16, None)),
        (
            "int8",
            precision(ComputeType::F32, Some(Quantization::Int8)),
        ),
        ("nf4", precision(ComputeType::F32, Some(Quantization::Nf4))),
    ];
    let mut models = Vec::new();
    let mut rows = Vec::new();
    for (name, precision) in formats {
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let size = precision.compute.size();
        let model = checkpoint.load_model(&AttentionMode::Causal, precision, &device, |_, _| ())?;
        let loading = ALLOCATOR.peak_usage() - before;
        let weights = ALLOCATOR.current_usage() - before;
        let table = model.embed_tokens.base_layer.weight.shape().num_elements() * size;
        let task = Task::Sequence(Pooling::Last);
        let mut model = LlamaClassifier::new(model, &checkpoint.config, task, 2, 7, &device);
        add_adapter(&mut model, ADAPTER, &config, 7, &device)?;
        step(&model, &input, &targets);
        let standing = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        step(&model, &input, &targets);
        let of_step = ALLOCATOR.peak_usage() - standing;
        rows.push((name, weights, weights - table, loading, of_step));
        models.push(model);
    }

    let mut times = vec![Vec::new(); models.len()];
    for _ in 0..ROUNDS {
        for (model, times) in models.iter().zip(&mut times) {
            let start = Instant::now();
            step(model, &input, &targets);
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!(
        "{:.1}M parameters, 8 rows of 64 tokens, LoRA r 12 on q and v",
        checkpoint.num_parameters() as f64 / 1e6
    );
    println!(
        "base  weights MiB  linear layers MiB  over bf16  loading peak MiB  step MiB  time over f32"
    );
    let bf16 = rows[1].2 as f64;
    for ((name, weights, linear, loading, of_step), own) in rows.iter().zip(&times) {
        let over = own.iter().zip(&times[0]).map(|(own, first)| own / first);
        println!(
            "{name:<5} {:>11.1}  {:>17.1}  {:>9.3}  {:>16.1}  {:>8.1}  {:>13.2}",
            mib(*weights),
            mib(*linear),
            *linear as f64 / bf16,
            mib(*loading),
            mib(*of_step),
            median(over.collect())
        );
    }
    println!("(f32 step: {:.0} ms)", median(times[0].clone()) * 1e3);
    Ok(())
}
