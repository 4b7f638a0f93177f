//! Forward and backward of one training step of a 15M LLaMA classifier, in real tokens per second.
//!
//! The batch is 8 rows of up to 64 tokens, once full and once ragged. Padding never enters a matrix product, so that
//! the ragged batch should cost about as much less as it has fewer tokens.

use std::hint::black_box;

use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ls_benches::{LLAMA_15M, batch, random_checkpoint};
use ls_lora::{LoraConfig, TargetModules, TaskType, add_adapter};
use ls_model::{ADAPTER, AttentionMode, ComputeType, LlamaClassifier, Pooling, Task};

/// A full batch, and one with the spread of lengths of short sentences: 280 tokens in 512 places.
const BATCHES: [(&str, [usize; 8]); 2] = [
    ("full", [64; 8]),
    ("ragged", [64, 51, 43, 37, 29, 24, 18, 14]),
];

fn step(model: &LlamaClassifier, input: &ls_model::ModelInput, targets: &Tensor<1, Int>) {
    let logits = model.forward(input);
    let loss = CrossEntropyLossConfig::new()
        .init(&logits.device())
        .forward(logits, targets.clone());
    black_box(GradientsParams::from_grads(loss.backward(), model));
}

fn llama_step(criterion: &mut Criterion) {
    let device = Device::flex().autodiff();
    device.seed(7);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let checkpoint =
        random_checkpoint(dir.path(), LLAMA_15M, &Device::flex()).expect("a random checkpoint");
    let targets: Tensor<1, Int> = Tensor::from_data([0, 1, 1, 0, 1, 0, 0, 1], &device);

    let all_linear = LoraConfig::new(8, 32.0)
        .with_lora_dropout(0.1)
        .with_target_modules(TargetModules::AllLinear)
        .with_task_type(TaskType::SeqCls);
    // The reference's settings: q_proj and v_proj.
    let q_and_v = LoraConfig::new(12, 32.0)
        .with_lora_dropout(0.1)
        .with_task_type(TaskType::SeqCls);
    let cases = [
        ("causal", AttentionMode::Causal, Pooling::Last),
        ("bidirectional", AttentionMode::Bidirectional, Pooling::Mean),
    ];
    for (mode, attention, pooling) in cases {
        for (adapter, config) in [("q_and_v", &q_and_v), ("all_linear", &all_linear)] {
            let model = checkpoint
                .load_model(&attention, ComputeType::F32, &device, |_, _| ())
                .expect("a decoder");
            let task = Task::Sequence(pooling);
            let mut model = LlamaClassifier::new(model, &checkpoint.config, task, 2, &device);
            add_adapter(&mut model, ADAPTER, config, &device).expect("adapters");
            let mut group = criterion.benchmark_group(format!("llama_step/{mode}/{adapter}"));
            group.sample_size(20);
            for (name, lengths) in BATCHES {
                let input = batch(&lengths, &checkpoint.config, &device).expect("a batch");
                group.throughput(Throughput::Elements(input.tokens() as u64));
                group.bench_function(name, |b| b.iter(|| step(&model, &input, &targets)));
            }
            group.finish();
        }
    }
}

criterion_group!(benches, llama_step);
criterion_main!(benches);
