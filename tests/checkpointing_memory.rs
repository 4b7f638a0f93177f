//! What gradient checkpointing holds, counted by the allocator: one block, and the inputs of the
//! others.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use ls_lora::{LoraConfig, TargetModules, add_adapter};
use ls_model::{
    ADAPTER, AttentionMode, ComputeType, LlamaClassifier, LlamaConfig, LlamaModel, ModelInput,
    Pooling, Task,
};
use ls_train::RunConfig;
use ls_train::largest::Largest;
use ls_train::memory::{Footprint, Moment};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const ROWS: usize = 4;
const LENGTH: usize = 128;
const HIDDEN: usize = 128;
const INTERMEDIATE: usize = 320;
/// Bytes of one `[tokens, 1]` in f32.
const COLUMN: usize = ROWS * LENGTH * 4;
/// Bytes of what a block reads.
const INPUT: usize = COLUMN * HIDDEN;

fn config(depth: usize) -> LlamaConfig {
    let config = format!(
        r#"{{"model_type": "llama", "vocab_size": 32, "hidden_size": {HIDDEN}, "intermediate_size": {INTERMEDIATE},
        "num_hidden_layers": {depth}, "num_attention_heads": 4, "max_position_embeddings": 256, "rms_norm_eps": 1e-5}}"#
    );
    LlamaConfig::from_json(&config, Path::new("config.json")).unwrap()
}

/// What a run says before it begins of a pass: activations and gradients.
fn expected(depth: usize, task: Task, checkpointing: bool) -> usize {
    let name = match task {
        Task::Sequence(_) => "sequence",
        Task::Token { .. } => "token",
    };
    let run = format!(
        r#"
        task = "{name}"
        [model]
        path = "model"
        [lora]
        r = 2
        [data]
        train = "train.csv"
        [train]
        micro_batch_size = {ROWS}
        gradient_checkpointing = {checkpointing}
        "#
    );
    let model = config(depth);
    let run = RunConfig::from_toml(&run, "run.toml", &[])
        .unwrap()
        .resolve(&model);
    let lora = run.lora.as_ref().unwrap();
    let adapted = model.adapted_by(lora).unwrap();
    let trainable = model.trainable(task, 2, Some((lora, &adapted)), &run.trained);
    let largest = Largest {
        rows: ROWS,
        passes: vec![vec![LENGTH; ROWS]],
        evaluations: vec![vec![LENGTH; ROWS]],
    };
    let footprint = Footprint {
        run: &run,
        model: &model,
        trainable: &trainable,
        num_labels: 2,
        largest: &largest,
        host: true,
        program: 0,
        steps: 10,
        evaluations: 1,
    };
    let moments = footprint.moments().into_iter();
    let mut passes = moments.filter(|(moment, _)| *moment == Moment::Pass);
    let (_, pass) = passes.next().unwrap();
    pass.activations + pass.gradients
}

fn classifier(depth: usize, task: Task, device: &Device) -> (LlamaClassifier, LlamaConfig) {
    let config = config(depth);
    let (attention, compute) = (AttentionMode::Causal, ComputeType::F32);
    let base = LlamaModel::random(&config, &attention, compute, device).unwrap();
    let mut model = LlamaClassifier::new(base, &config, task, 2, 7, device);
    let lora = LoraConfig::new(2, 4.0)
        .with_target_modules(TargetModules::list(["q_proj", "v_proj"]))
        .with_lora_dropout(0.1);
    add_adapter(&mut model, ADAPTER, &lora, 7, device).unwrap();
    (model, config)
}

/// The most that a forward and a backward pass allocate beyond what stands already.
fn peak(depth: usize, task: Task, checkpointing: bool) -> usize {
    let device = Device::flex().autodiff();
    let (model, config) = classifier(depth, task, &device);
    let rows = vec![vec![3u32; LENGTH]; ROWS];
    let loss = |logits: Tensor<2>| logits.square().sum();
    let step = || {
        let input = ModelInput::new(&rows, &config, &device).unwrap();
        let input = input.with_dropout_seed(1);
        if checkpointing {
            model.backward_checkpointed(&input, loss).1
        } else {
            GradientsParams::from_grads(loss(model.forward(&input)).backward(), &model)
        }
    };
    // Once for buffers that are made once, such as those of the matrix product.
    drop(step());
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    assert!(!step().is_empty());
    ALLOCATOR.peak_usage() - before
}

/// Counts are of the whole process, so there is one test.
#[test]
fn it_holds_one_block_and_the_inputs_of_the_others() {
    // Norms and residuals, queries, keys, values and what attention gives, and the MLP's three,
    // with the gradients of the widest of them.
    let one_block = COLUMN * (10 * HIDDEN + 6 * INTERMEDIATE);
    for task in [Task::Sequence(Pooling::Last), Task::Token { dropout: 0.1 }] {
        let growth = |checkpointing| {
            let [few, many] = [4, 12].map(|depth| peak(depth, task, checkpointing));
            ((many - few) as f64 / 8.0 / INPUT as f64, few)
        };
        for (depth, checkpointing) in [(4, false), (12, false), (4, true), (12, true)] {
            let found = peak(depth, task, checkpointing) as f64;
            let told = expected(depth, task, checkpointing) as f64 / found;
            println!("{task:?}, depth {depth}, {checkpointing}: {told:.2} of it expected");
            assert!(
                (0.85..1.15).contains(&told),
                "{task:?}, {depth}, {checkpointing}: {told:.2}"
            );
        }
        let (with, least) = growth(true);
        let (without, _) = growth(false);
        let shown = format!(
            "{task:?}: {with:.2} inputs a block with checkpointing, {without:.2} without; {:.2} of one block at depth 4",
            (least - 3 * INPUT) as f64 / one_block as f64
        );
        println!("{shown}");
        // What else grows with depth are the factors' gradients, and what the graph notes of each
        // operation.
        assert!((0.99..1.2).contains(&with), "{shown}");
        assert!(without > 8.0, "{shown}");
        assert!(least < one_block + 3 * INPUT, "{shown}");
    }
}
