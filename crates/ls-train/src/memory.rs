//! Estimates the memory of a run before it begins.

use burn::tensor::Device;
use ls_lora::TargetModules;
use ls_model::{LlamaConfig, Pooling, Task};

use crate::config::ResolvedRun;

/// Estimated peak of training in bytes: weights, what trains with its gradient and AdamW's two
/// moments, and the activations that the backward pass of the longest step keeps.
///
/// Counted from what the operations of a block keep (`ls_model::llama`, `ls_ops`); a backend's own
/// buffers come on top. `parameters` is the size of the frozen decoder.
pub fn expected_memory(
    run: &ResolvedRun,
    model: &LlamaConfig,
    parameters: usize,
    lengths: &[usize],
    trainable: usize,
    device: &Device,
) -> usize {
    let compute = run.precision.compute.size();
    let table = model.vocab_size * model.hidden_size;
    let weights = match run.precision.quantization {
        None => parameters * compute,
        // A code, and a 16-bit scale for every 64; the embedding table stays as it is.
        Some(format) => table * compute + (parameters - table) * (4 * format.bits() + 1) / 32,
    };

    let rows = run.config.train.micro_batch_size.min(lengths.len());
    let mut longest = lengths.to_vec();
    longest.sort_unstable_by(|a, b| b.cmp(a));
    let tokens: usize = longest.iter().take(rows).sum();
    let values = tokens * values_per_token(run, model);
    weights + trainable * 16 + values * run.precision.compute.of_activations(device).size()
}

/// Values that stand at the peak for each token of a step.
fn values_per_token(run: &ResolvedRun, model: &LlamaConfig) -> usize {
    let (hidden, mlp) = (model.hidden_size, model.intermediate_size);
    let queries = model.num_attention_heads * model.head_dim;
    let keys = model.num_key_value_heads * model.head_dim;
    let adapts = |names: &[&str]| match &run.lora.target_modules {
        TargetModules::List(targets) => targets
            .iter()
            .any(|target| names.iter().any(|name| target.ends_with(name))),
        _ => true,
    };
    // What adapters read, where nothing else keeps it.
    let normed = |names| if adapts(names) { hidden } else { 0 };
    let gated = if adapts(&["down_proj"]) { mlp } else { 0 };
    let before_attention = hidden + normed(&["q_proj", "k_proj", "v_proj"]) + 2 * keys;
    let block = before_attention
        + 2 * queries // and what attention gives
        + hidden
        + normed(&["gate_proj", "up_proj"])
        + 2 * mlp
        + gated;
    // Of the last block, where one token of a row is read, the rest is of that token alone.
    let reads_last = run.head == Task::Sequence(Pooling::Last);
    let last = if reads_last { before_attention } else { block };
    let blocks = match (
        model.num_hidden_layers,
        run.config.train.gradient_checkpointing,
    ) {
        (0, _) => 0,
        (1, _) => last,
        // The two last blocks together, or the last, and the inputs of those below.
        (layers, true) if reads_last => (layers - 2) * hidden + block + last,
        (layers, true) => (layers - 1) * hidden + block,
        (layers, false) => (layers - 1) * block + last,
    };
    // The gradients of gate, up and their product, and of what the block gives.
    blocks + 3 * mlp + hidden
}
