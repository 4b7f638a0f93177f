//! One training step of a 15M LLaMA classifier: forward, backward and AdamW, in real tokens per
//! second.
//!
//! The batch is 8 rows of up to 64 tokens, once full and once ragged. Padding enters no matrix
//! product, so the cost of the ragged batch should shrink with its number of tokens.

use std::hint::black_box;

use burn::optim::GradientsParams;
use burn::tensor::Device;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ls_benches::{LEARNING_RATE, LLAMA_15M, batch, mean_loss, optimizer, random_checkpoint};
use ls_lora::{LoraConfig, TargetModules, TaskType, add_adapter};
use ls_model::{ADAPTER, AttentionMode, ComputeType, LlamaClassifier, ModelInput, Pooling, Task};
use ls_train::allocator::keep_freed_memory;
use ls_train::optim::AdamW;

/// A full batch, and one with the spread of lengths of short sentences: 280 tokens in 512 places.
const BATCHES: [(&str, [usize; 8]); 2] = [
    ("full", [64; 8]),
    ("ragged", [64, 51, 43, 37, 29, 24, 18, 14]),
];

const LABELS: [i64; 8] = [0, 1, 1, 0, 1, 0, 0, 1];

fn step(model: LlamaClassifier, input: &ModelInput, optimizer: &mut AdamW) -> LlamaClassifier {
    let loss = mean_loss(model.forward(input), &LABELS);
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    let gradient = optimizer.gradient(&model, gradients);
    optimizer.step(model, gradient, LEARNING_RATE).0
}

fn llama_step(criterion: &mut Criterion) {
    keep_freed_memory();
    let device = Device::flex().autodiff();
    device.seed(7);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let checkpoint =
        random_checkpoint(dir.path(), LLAMA_15M, &Device::flex()).expect("a random checkpoint");

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
            let mut model = LlamaClassifier::new(model, &checkpoint.config, task, 2, 7, &device);
            add_adapter(&mut model, ADAPTER, config, 7, &device).expect("adapters");
            let mut group = criterion.benchmark_group(format!("llama_step/{mode}/{adapter}"));
            group.sample_size(20);
            for (name, lengths) in BATCHES {
                let input = batch(&lengths, &checkpoint.config, &device).expect("a batch");
                group.throughput(Throughput::Elements(input.tokens() as u64));
                let mut optimizer = optimizer(&model);
                group.bench_function(name, |b| {
                    b.iter(|| model = black_box(step(model.clone(), &input, &mut optimizer)));
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, llama_step);
criterion_main!(benches);
