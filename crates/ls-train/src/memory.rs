//! How much memory a run will want, before it begins.

use ls_model::Checkpoint;

use crate::config::{QuantizationName, RunConfig};

/// Estimated peak of training in bytes: weights, what trains with its gradient and AdamW's two moments, and the
/// activations that the backward pass of the longest step keeps.
///
/// Counted from the operations of a block as `ls_model::llama` has them; a backend's own buffers come on top.
pub fn expected_memory(
    config: &RunConfig,
    checkpoint: &Checkpoint,
    lengths: &[usize],
    trainable: usize,
) -> usize {
    let model = &checkpoint.config;
    let compute = config.model.dtype.size();
    let rows = config.train.micro_batch_size.min(lengths.len());
    let mut longest = lengths.to_vec();
    longest.sort_unstable_by(|a, b| b.cmp(a));
    let length = longest.first().copied().unwrap_or(0);
    let tokens: usize = longest.iter().take(rows).sum();

    let queries = model.num_attention_heads * model.head_dim;
    let keys = model.num_key_value_heads * model.head_dim;
    // Kept per token and block: normalised and residual states, projections before and after rotation and layout, and of
    // the MLP gate, its sigmoid and silu, up and the product.
    let per_token = 8 * model.hidden_size + 6 * queries + 6 * keys + 5 * model.intermediate_size;
    // Scores before and after the mask, and the softmax.
    let scores = 3 * rows * model.num_attention_heads * length * length;
    // Every adapted layer keeps its dropped-out input.
    let adapted = if config.lora.lora_dropout > 0.0 {
        2 * 2 * model.hidden_size
    } else {
        0
    };
    let block = (tokens * (per_token + adapted)) * compute + scores * 4;
    let parameters = checkpoint.num_parameters();
    let table = model.vocab_size * model.hidden_size;
    let weights = match config.model.quantization {
        None => parameters * compute,
        // A code, and a 16-bit scale for every 64; the embedding table stays as it is.
        Some(QuantizationName::Nf4) => table * compute + (parameters - table) * 17 / 32,
        Some(QuantizationName::Int8) => table * compute + (parameters - table) * 33 / 32,
    };
    weights + trainable * 16 + model.num_hidden_layers * block
}
