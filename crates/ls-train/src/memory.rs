//! Estimates the memory of a run before it begins.

use burn::tensor::Device;
use ls_lora::TargetModules;
use ls_model::config::BlockNorms;
use ls_model::{ComputeType, LlamaConfig};

use crate::config::{MicroBatchSize, ResolvedRun};

/// Scores of attention that the backward pass forms at a time off the CPU, unless one row has more
/// (`ls-ops/src/cube/attention.rs`).
const SCORES: usize = 1 << 25;
/// Bytes for each of them: the score, its probability, and the gradients of both.
const BYTES_OF_A_SCORE: usize = 16;
/// Bytes for each trained value that stand all the time: the parameter, that of the best model so
/// far, AdamW's two moments, and the parameter and the moments from before each of the last two
/// steps, until it is known that they brought numbers.
const STANDING: usize = 40;
/// In a backward pass: the gradient, its copy in the optimizer's buffer, and the sum over the
/// passes before.
const IN_BACKWARD: usize = 12;
/// In an optimizer step, when the activations are gone: the gradient and the clipped one, new
/// values and moments, and what is computed between.
const IN_STEP: usize = 32;

/// Estimated peak of training in bytes: weights, what trains with its gradient and AdamW's two
/// moments, and the activations that the backward pass of the longest step keeps. Dropout keeps
/// nothing.
///
/// Counted from what the operations of a block keep (`ls_model::llama`, `ls_ops`) and from the
/// optimizer's buffers (`optim.rs`); a backend's own buffers come on top. `parameters` is the size
/// of the frozen decoder.
pub fn expected_memory(
    run: &ResolvedRun,
    model: &LlamaConfig,
    parameters: usize,
    lengths: &[usize],
    trainable: usize,
    device: &Device,
) -> usize {
    let rows = run.config.train.largest_pass();
    let sizes = Sizes {
        parameters,
        trainable,
        rows,
    };
    expected(run, model, sizes, lengths, is_host(device))
}

/// Inputs of a pass with which training is expected to take at most `available` bytes: what is set,
/// or the largest for `train.micro_batch_size = "auto"`; and the bytes that it is expected to take.
pub(crate) fn fitting_pass(
    run: &ResolvedRun,
    model: &LlamaConfig,
    parameters: usize,
    lengths: &[usize],
    trainable: usize,
    device: &Device,
    available: Option<u64>,
) -> (usize, usize) {
    let train = &run.config.train;
    let open = train.micro_batch_size == MicroBatchSize::Auto && train.pass_size.is_none();
    let mut rows = train.largest_pass();
    loop {
        let sizes = Sizes {
            parameters,
            trainable,
            rows,
        };
        let bytes = expected(run, model, sizes, lengths, is_host(device));
        let fits = available.is_none_or(|available| bytes as u64 <= available);
        // Off the CPU nobody knows before the device says so.
        let chooses = open && is_host(device);
        if fits || !chooses || rows == 1 {
            return (rows, bytes);
        }
        rows = rows.div_ceil(2);
    }
}

/// Whether a device computes on the host. On the CPU activations are f32 whatever the weights are.
fn is_host(device: &Device) -> bool {
    ComputeType::Bf16.of_activations(device) == ComputeType::F32
}

/// Sizes that the estimate counts with.
#[derive(Clone, Copy)]
struct Sizes {
    /// Of the frozen decoder.
    parameters: usize,
    /// Values that train.
    trainable: usize,
    /// Inputs of a pass.
    rows: usize,
}

fn expected(
    run: &ResolvedRun,
    model: &LlamaConfig,
    sizes: Sizes,
    lengths: &[usize],
    host: bool,
) -> usize {
    let Sizes {
        parameters,
        trainable,
        rows,
    } = sizes;
    let compute = run.precision.compute.size();
    let table = model.vocab_size * model.hidden_size;
    let weights = match run.precision.quantization {
        None => parameters * compute,
        // A code, and a 16-bit scale for every 64; the embedding table stays as it is.
        Some(format) => table * compute + (parameters - table) * (4 * format.bits() + 1) / 32,
    };

    let rows = rows.min(lengths.len());
    let mut longest = lengths.to_vec();
    longest.sort_unstable_by(|a, b| b.cmp(a));
    longest.truncate(rows);
    let activations = if host {
        let tokens: usize = longest.iter().sum();
        tokens * (kept_per_token(run, model) + mlp_gradients(model)) * ComputeType::F32.size()
    } else {
        // Rows lie in a rectangle.
        let length = longest.first().copied().unwrap_or(0);
        let tokens = rows * length;
        // Of one block at a time, whichever of its two parts takes more.
        let gradients = (mlp_gradients(model) * compute).max(attention_gradients(model, compute));
        let of_a_row = model.num_attention_heads * length * length;
        let at_once = (SCORES / of_a_row.max(1)).clamp(1, rows.max(1));
        // A head that reads every token reads it in f32.
        let head = match run.head {
            head if head.reads_one_token() => 0,
            _ => tokens * model.hidden_size * ComputeType::F32.size(),
        };
        let kept = tokens * kept_per_token(run, model) * compute;
        kept + tokens * gradients + head + at_once * of_a_row * BYTES_OF_A_SCORE
    };
    let training = trainable * IN_BACKWARD + activations;
    weights + trainable * STANDING + training.max(trainable * IN_STEP)
}

/// The gradients of gate, up and their product, and of what a block gives, for each token.
fn mlp_gradients(model: &LlamaConfig) -> usize {
    3 * model.intermediate_size + model.hidden_size
}

/// Bytes for each token of what attention's backward pass takes off the CPU. In f32: queries, keys
/// and values, the gradients of these three, that of what attention gives, one more while parts are
/// joined, and an adapter's input; and in `compute` the gradients as the layers read them and that
/// of the block.
fn attention_gradients(model: &LlamaConfig, compute: usize) -> usize {
    let queries = model.num_attention_heads * model.head_dim;
    let keys = model.num_key_value_heads * model.head_dim;
    let wide = 4 * queries + 4 * keys + model.hidden_size;
    wide * ComputeType::F32.size() + (queries + 2 * keys + model.hidden_size) * compute
}

/// Values that the graph of a step keeps for each token.
fn kept_per_token(run: &ResolvedRun, model: &LlamaConfig) -> usize {
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
    // What norms read.
    let (before, behind) = match model.norms {
        BlockNorms::Before => (hidden, 0),
        BlockNorms::After => (0, hidden),
        BlockNorms::Both => (hidden, hidden),
    };
    let of_heads = |width: usize| model.head_norms.map_or(0, |_| width);
    let before_attention =
        before + normed(&["q_proj", "k_proj", "v_proj", "qkv_proj"]) + 2 * keys + of_heads(keys);
    let block = before_attention
        + 2 * queries // and what attention gives
        + of_heads(queries)
        + behind
        + before
        + normed(&["gate_proj", "up_proj", "gate_up_proj"])
        + 2 * mlp
        + gated
        + behind;
    // Of the last block, where one token of a row is read, the rest is of that token alone.
    let reads_last = run.head.reads_one_token();
    let last = if reads_last { before_attention } else { block };
    match (
        model.num_hidden_layers,
        run.config.train.gradient_checkpointing,
    ) {
        (0, _) => 0,
        (1, _) => last,
        // The two last blocks together, or the last, and the inputs of those below.
        (layers, true) if reads_last => (layers - 2) * hidden + block + last,
        (layers, true) => (layers - 1) * hidden + block,
        (layers, false) => (layers - 1) * block + last,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::RunConfig;

    /// Gigabytes that LoRA of rank 12 on q and v of LLaMA-2-7B in bf16 takes off the CPU.
    fn gigabytes(rows: usize, length: usize, checkpointing: bool) -> f64 {
        let model = r#"{"model_type": "llama", "vocab_size": 32000, "hidden_size": 4096,
            "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}"#;
        let model = LlamaConfig::from_json(model, Path::new("config.json")).unwrap();
        let run = format!(
            r#"
            task = "sequence"
            [model]
            path = "model"
            dtype = "bf16"
            [data]
            train = "train.csv"
            [train]
            micro_batch_size = {rows}
            gradient_checkpointing = {checkpointing}
            "#
        );
        let run = RunConfig::from_toml(&run, "run.toml", &[]).unwrap();
        let run = run.resolve(&model);
        let parameters = model.tensors().into_iter();
        let parameters = parameters.map(|(_, shape)| shape.iter().product::<usize>());
        // A and B on two projections of each block, and a head for two classes.
        let trainable = 32 * 2 * (4096 * 12 + 12 * 4096) + 4096 * 2;
        let lengths = vec![length; 2 * rows];
        let sizes = Sizes {
            parameters: parameters.sum(),
            trainable,
            rows,
        };
        let bytes = expected(&run, &model, sizes, &lengths, false);
        bytes as f64 / 1e9
    }

    #[test]
    fn a_pass_that_is_left_open_is_the_largest_that_fits_on_the_cpu() {
        let model = r#"{"model_type": "llama", "vocab_size": 100, "hidden_size": 64,
            "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}"#;
        let model = LlamaConfig::from_json(model, Path::new("config.json")).unwrap();
        let fitting = |size: &str, available: Option<u64>| {
            let run = format!(
                "task = 'sequence'\nmodel.path = 'm'\ndata.train = 't.csv'\n\
                 train.micro_batch_size = {size}\n"
            );
            let run = RunConfig::from_toml(&run, "run.toml", &[]).unwrap();
            let run = run.resolve(&model);
            let lengths = [100; 20];
            fitting_pass(
                &run,
                &model,
                10_000,
                &lengths,
                500,
                &Device::flex(),
                available,
            )
        };
        let (rows, of_eight) = fitting("'auto'", None);
        assert_eq!(rows, 8);
        let expected: Vec<usize> = ["8", "4", "2", "1"]
            .map(|size| fitting(size, None).1)
            .into();
        assert_eq!(expected[0], of_eight);
        assert!(expected.is_sorted_by(|a, b| a > b), "{expected:?}");
        for (at, bytes) in expected.iter().enumerate() {
            let available = Some(*bytes as u64);
            assert_eq!(fitting("'auto'", available), (8 >> at, *bytes));
            // A number that is given is taken.
            assert_eq!(fitting("8", available), (8, of_eight));
        }
        assert_eq!(fitting("'auto'", Some(0)), (1, expected[3]));
    }

    /// A card of 24 GB has 25.8e9 bytes. Weights are 13.21 GB and what trains (6.3 million values)
    /// 0.32. For 8 rows of 64 tokens, 512 tokens times 1.59 million values in bf16 are 1.63 GB that
    /// the graph keeps, attention's gradients of one block 0.09 and its scores 0.02: together 15.3.
    /// For 32 rows of 512 with checkpointing, 16,384 tokens times 189,952 values are 6.22 GB, the
    /// gradients 2.95, and 2^25 scores at a time 0.54: together 23.3. Without checkpointing the
    /// latter would take 69.
    #[test]
    fn a_7b_model_fits_a_card_of_24_gb() {
        for (rows, length, checkpointing, found) in [
            (8, 64, false, 15.28),
            (32, 512, true, 23.26),
            (32, 512, false, 69.06),
        ] {
            let told = gigabytes(rows, length, checkpointing);
            assert!((told - found).abs() < 0.01, "{rows} x {length}: {told}");
        }
    }
}
