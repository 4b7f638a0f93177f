//! Estimates the memory of a run before it begins: by part, at each moment at which it may be
//! fullest.
//!
//! Counted from what the operations of a block keep for the backward pass (`ls_model::llama`,
//! `ls_ops`), and from the buffers of the optimizer (`optim.rs`), of the loop (`fit.rs`) and of a
//! checkpoint (`saver.rs`). Dropout keeps nothing, but where an adapter is written as plain
//! operations (DoRA; PiSSA and OLoRA, whose start is taken off again): these keep a copy of what
//! they read, with what was dropped.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::Device;
use ls_lora::TrainableTensor;
use ls_model::config::BlockNorms;
use ls_model::{ComputeType, LlamaConfig};
use serde::Serialize;

use crate::allocator::MAPPED;
use crate::config::{MicroBatchSize, ResolvedRun};
use crate::largest::{Largest, Lengths};
use crate::optim::{factor_buffers, padded_len};

/// Scores of attention that the backward pass forms at a time off the CPU, unless one row has more
/// (`ls-ops/src/cube/attention.rs`).
const SCORES: usize = 1 << 25;
/// Bytes for each of them: the score, its probability, and the gradients of both.
const BYTES_OF_A_SCORE: usize = 16;
/// Bytes of an f32.
const F32: usize = 4;
/// AdamW's two moments, for each value that trains.
const MOMENTS: usize = 2 * F32;
/// The parameter and the moments from before the last step, until it is known that that brought
/// numbers.
const BEFORE: usize = F32 + MOMENTS;
/// Off the CPU one more of these: memory that was let go of is used again only behind the work that
/// is queued.
const QUEUED: usize = BEFORE;
/// A checkpoint on its way to the disk, on the CPU: the parameters and the moments; and the
/// parameters of the best model, where that is another.
const IN_CHECKPOINT: usize = F32 + MOMENTS;
/// While one of these is copied for it.
const COPIED: usize = F32;
/// The gradients of a backward pass as the parameters have them, and end to end.
const GRADIENTS: usize = 2 * F32;
/// In an update, when the activations are gone: new moments and parameters, and one number of each
/// value that is summed up to see whether all are numbers.
const IN_UPDATE: usize = MOMENTS + 2 * F32;
/// Off the CPU in place of that: the gradient, clipped, and what is computed between.
const IN_UPDATE_OFF_HOST: usize = 32;
/// Code of the program that only a training reads, on the CPU: `RssFile` of one beside that of an
/// estimate.
const CODE: usize = 4 << 20;
/// Buffers of the MLP that an evaluation has at a time: gate, up and their product.
const WIDE: usize = 3;
/// Values of a packed weight that are unpacked at a time on the CPU
/// (`ls-lora/src/quantized/operation.rs`).
const UNPACKED: usize = 1 << 21;
/// What of a weight is read from a file at a time (`ls-model/src/pretrained/loader.rs`).
const BAND: usize = 4 << 20;

/// A moment of a run at which memory may be fullest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// The weights are read.
    Loading,
    /// Forward and backward pass of the largest pass.
    Pass,
    /// The optimizer's part of a step.
    Update,
    /// The largest batch of an evaluation.
    Evaluation,
}

impl Moment {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loading => "while weights are loaded",
            Self::Pass => "in the backward pass of a step",
            Self::Update => "in the optimizer's part of a step",
            Self::Evaluation => "in an evaluation",
        }
    }
}

/// What a run takes at a moment, in bytes, by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Memory {
    /// The program beside what it computes with: its code, the tokenizer, tables of the data.
    pub program: usize,
    /// What is frozen: the decoder, and the factors that PiSSA and OLoRA start from.
    pub weights: usize,
    /// What trains: adapters, the head, layers in full.
    pub trained: usize,
    /// Moments, the states before the last steps, the best model so far, and a checkpoint on its
    /// way to the disk.
    pub optimizer: usize,
    /// Gradients of what trains.
    pub gradients: usize,
    /// What the graph of a pass keeps, or a batch of an evaluation takes; while weights are loaded
    /// what is read of a file at a time.
    pub activations: usize,
}

impl Memory {
    /// Of all parts.
    pub fn total(&self) -> usize {
        self.program
            + self.weights
            + self.trained
            + self.optimizer
            + self.gradients
            + self.activations
    }

    /// What comes beside what the program takes already.
    pub fn beside_program(&self) -> u64 {
        (self.total() - self.program) as u64
    }
}

/// What decides how much memory a run takes.
#[derive(Clone, Copy)]
pub struct Footprint<'a> {
    /// The run.
    pub run: &'a ResolvedRun,
    /// Its decoder.
    pub model: &'a LlamaConfig,
    /// The tensors that train.
    pub trainable: &'a [TrainableTensor],
    /// Outputs of the head.
    pub num_labels: usize,
    /// The batches with the most tokens.
    pub largest: &'a Largest,
    /// Whether the device computes on the host. On the CPU activations are f32 whatever the
    /// weights are.
    pub host: bool,
    /// What the program takes beside what it computes with; 0 off the CPU.
    pub program: usize,
    /// Optimizer steps, and of them those that an evaluation follows.
    pub steps: usize,
    /// See `steps`.
    pub evaluations: usize,
}

impl Footprint<'_> {
    /// The moment at which memory is expected to be fullest, and what it holds then.
    pub fn peak(&self) -> (Moment, Memory) {
        let mut moments = self.moments().into_iter();
        let first = moments.next().unwrap_or((Moment::Pass, Memory::default()));
        moments.fold(first, |a, b| if b.1.total() > a.1.total() { b } else { a })
    }

    /// Each moment, in their order in a run.
    pub fn moments(&self) -> [(Moment, Memory); 4] {
        let values = self.values();
        let standing = Memory {
            program: self.program,
            weights: self.weights() + self.start(),
            trained: values * F32,
            optimizer: values * self.standing(),
            ..Memory::default()
        };
        [
            (Moment::Loading, self.loading()),
            (Moment::Pass, self.in_pass(standing)),
            (Moment::Update, self.in_update(standing)),
            (
                Moment::Evaluation,
                Memory {
                    activations: self.in_evaluation(),
                    ..standing
                },
            ),
        ]
    }

    /// Beside what stands: activations, and gradients, with the sum over the passes before where a
    /// step has several.
    fn in_pass(&self, standing: Memory) -> Memory {
        let train = &self.run.config.train;
        let values = self.values();
        let one_pass = train.gradient_accumulation_steps == 1
            && train.micro_batch_size.largest() <= self.largest.rows;
        let sum = if one_pass { 0 } else { values * F32 };
        // On the CPU gradients come as activations go, and take their place; buffers that are
        // mapped by themselves do not.
        let in_their_place = match (self.host, self.is_mapped()) {
            (false, _) => 0,
            (true, false) => values * GRADIENTS,
            (true, true) => self.gradients_kept(),
        };
        let more = if self.host { 0 } else { values * F32 };
        Memory {
            gradients: values * GRADIENTS + sum.max(more),
            activations: self.activations().saturating_sub(in_their_place),
            ..standing
        }
    }

    /// Beside what stands: new parameters and moments. On the CPU also what the allocator keeps of
    /// the pass before it: all, if the new buffers are mapped by themselves; else about half, since
    /// a buffer needs a free piece as long as itself, and gradients were taken among the
    /// activations.
    fn in_update(&self, standing: Memory) -> Memory {
        let in_update = if self.host {
            IN_UPDATE
        } else {
            IN_UPDATE_OFF_HOST
        };
        let optimizer = standing.optimizer + self.values() * in_update;
        let (gradients, activations) = match (self.host, self.is_mapped()) {
            (false, _) => (0, 0),
            (true, true) => {
                let gradients = self.gradients_kept();
                (gradients, self.kept_of_pass().saturating_sub(gradients))
            }
            (true, false) => (0, self.kept_of_pass() / 2),
        };
        Memory {
            optimizer,
            gradients,
            activations,
            ..standing
        }
    }

    /// What of the largest pass stays with the allocator on the CPU, unless the buffers of its MLP
    /// are mapped by themselves: then what is left is little.
    fn kept_of_pass(&self) -> usize {
        let wide = self.largest.pass_tokens() * self.model.intermediate_size * F32;
        if wide < MAPPED { self.activations() } else { 0 }
    }

    /// Whether the allocator maps the optimizer's buffers by themselves.
    fn is_mapped(&self) -> bool {
        self.values() * F32 >= MAPPED
    }

    /// Bytes of the gradients that stay with the allocator when they are let go of.
    fn gradients_kept(&self) -> usize {
        let sizes = self.trainable.iter();
        let sizes = sizes.map(|tensor| tensor.shape.iter().product::<usize>() * F32);
        sizes.filter(|size| *size < MAPPED).sum()
    }

    /// Values in the optimizer's buffer.
    fn values(&self) -> usize {
        let sizes = self
            .trainable
            .iter()
            .map(|tensor| tensor.shape.iter().product());
        sizes.map(padded_len).sum()
    }

    /// Bytes for each trained value that stand all the time, beside the value itself.
    fn standing(&self) -> usize {
        let train = &self.run.config.train;
        // The best model is another than the present one once a step follows an evaluation.
        let best = self.evaluations > 1;
        let best = usize::from(best) * F32;
        let before = if self.steps > 1 { BEFORE } else { 0 };
        let checkpoint = IN_CHECKPOINT + best;
        let before = match (self.host, self.is_mapped()) {
            (false, _) => before + QUEUED,
            // The thread that writes a checkpoint has memory of its own from the allocator, which
            // stays with it.
            (true, false) => before + checkpoint + COPIED,
            // It is given back. Before a checkpoint is begun the last step's values are known, so
            // that it takes the place of what was kept from before, if writing it takes no longer
            // than a step.
            (true, true) => before.max(checkpoint),
        };
        let factors = factor_buffers(self.trainable, self.model.num_hidden_layers, train);
        MOMENTS + before + best + factors * F32
    }

    /// How many of the decoder's values train in full. They lie in the optimizer's buffer.
    fn in_full(&self) -> usize {
        let of_decoder = self.trainable.iter();
        let of_decoder = of_decoder.filter(|tensor| is_of_decoder(&tensor.name));
        let sizes = of_decoder.map(|tensor| tensor.shape.iter().product::<usize>());
        sizes.sum()
    }

    /// The factors that adapters start from, where their product is taken off again. They do not
    /// train.
    fn start(&self) -> usize {
        if !starts(self.run) {
            return 0;
        }
        let factors = self.trainable.iter();
        let factors = factors.filter(|tensor| {
            ["lora_A", "lora_B"]
                .iter()
                .any(|of| tensor.name.contains(of))
        });
        let sizes = factors.map(|tensor| tensor.shape.iter().product::<usize>());
        sizes.sum::<usize>() * F32
    }

    /// The largest packed weight as it is unpacked to be multiplied: on the CPU a part of it at a
    /// time.
    fn unpacked(&self) -> usize {
        let precision = &self.run.precision;
        if precision.quantization.is_none() {
            return 0;
        }
        let tensors = self.model.tensors().into_iter();
        let packed = tensors.filter(|(name, shape)| {
            let linear = shape.len() == 2 && !name.starts_with("embed_tokens");
            linear && !precision.in_f32.holds(name)
        });
        let sizes = packed.map(|(_, shape)| shape.iter().product::<usize>());
        let largest = sizes.max().unwrap_or(0);
        if self.host {
            largest.min(UNPACKED) * F32
        } else {
            largest * precision.compute.size()
        }
    }

    /// What is frozen of the decoder.
    fn weights(&self) -> usize {
        let compute = self.run.precision.compute.size();
        let tensors = self.model.tensors().into_iter();
        let bytes = tensors.map(|(name, shape)| {
            let count: usize = shape.iter().product();
            if self.run.precision.in_f32.holds(&name) {
                return 0;
            }
            let linear = shape.len() == 2 && !name.starts_with("embed_tokens");
            match self.run.precision.quantization {
                // A code, and a 16-bit scale for every 64.
                Some(format) if linear => packed(&shape, format.bits()),
                _ => count * compute,
            }
        });
        let all: usize = bytes.sum();
        // What an adapter trains in full is cast to what it was held in.
        match (&self.run.lora, self.run.precision.compute) {
            (Some(_), ComputeType::F32) if self.run.precision.quantization.is_none() => {
                all.saturating_sub(self.in_full() * F32)
            }
            _ => all,
        }
    }

    /// The weights, with what is read of one of them at a time, and of one that is packed the
    /// values that it is made of.
    fn loading(&self) -> Memory {
        let precision = &self.run.precision;
        let tensors = self.model.tensors().into_iter();
        let beside = tensors.map(|(name, shape)| {
            let count: usize = shape.iter().product();
            let linear = shape.len() == 2 && !name.starts_with("embed_tokens");
            let band = BAND.min(count * F32);
            match precision.quantization {
                // In the compute type, and in f32 to be packed.
                Some(_) if linear && !precision.in_f32.holds(&name) => {
                    band + count * (precision.of(&name).size() + F32)
                }
                _ => band,
            }
        });
        Memory {
            program: self.program,
            weights: self.weights() + self.start(),
            trained: self.values() * F32,
            activations: beside.max().unwrap_or(0),
            ..Memory::default()
        }
    }

    /// What the graph of the largest pass keeps, with the gradients of a block and the weight that
    /// is unpacked.
    fn activations(&self) -> usize {
        let kept = self.kept_per_token();
        let passes = self.largest.passes.iter();
        let of_passes = passes.map(|pass| self.in_graph(kept, pass));
        of_passes.max().unwrap_or(0) + self.unpacked()
    }

    /// What the graph of a pass keeps, so many values for each token, with the gradients of a
    /// block.
    fn in_graph(&self, kept: usize, pass: &[usize]) -> usize {
        let (run, model) = (self.run, self.model);
        let tokens: usize = pass.iter().sum();
        let compute = run.precision.compute.size();
        // Of a start that is taken off the gradient is there once more, with the other sign.
        let turned = if starts(run) {
            self.widest_adapted()
        } else {
            0
        };
        let of_mlp = mlp_gradients(model) + turned;
        if self.host {
            return (tokens * (kept + of_mlp) + self.kept_by_head(tokens)) * F32;
        }
        let Rectangle { places, scores } = self.rectangle(pass);
        // Of one block at a time, whichever of its two parts takes more.
        let of_attention = attention_gradients(model, compute, tokens, places);
        let gradients = (tokens * of_mlp * compute).max(of_attention);
        // A head that reads every token reads it in f32.
        let head = match run.head {
            head if head.reads_one_token() => 0,
            _ => tokens * model.hidden_size * F32,
        };
        tokens * kept * compute + gradients + head + scores * BYTES_OF_A_SCORE
    }

    /// What the largest batch of an evaluation takes, without a graph: a block's input, and of its
    /// attention or its MLP whichever is wider.
    fn in_evaluation(&self) -> usize {
        if self.host {
            return self.in_evaluation_on_host();
        }
        let model = self.model;
        let compute = self.run.precision.compute.size();
        let queries = model.num_attention_heads * model.head_dim;
        let keys = model.num_key_value_heads * model.head_dim;
        let batches = self.largest.evaluations.iter().map(|batch| {
            let tokens: usize = batch.iter().sum();
            let Rectangle { places, scores } = self.rectangle(batch);
            // Queries, keys, values and what attention gives as they come, and in f32 in the
            // rectangle.
            let come = 2 * queries + 2 * keys;
            let attention = tokens * (come + model.hidden_size) * compute + places * come * F32;
            let mlp = tokens * WIDE * model.intermediate_size * compute;
            let outputs = tokens * self.outputs() * F32;
            let scores = scores * BYTES_OF_A_SCORE / 2;
            tokens * model.hidden_size * compute + (attention + scores).max(mlp) + outputs
        });
        batches.max().unwrap_or(0) + self.unpacked()
    }

    /// As [`Self::in_evaluation`], on the CPU, with what the allocator keeps. Beside a block's
    /// input that is a norm's output and what a part of the block gives; and where the buffers of
    /// the MLP are mapped by themselves, what the pass before has left, as far as they find no
    /// place in it.
    fn in_evaluation_on_host(&self) -> usize {
        let model = self.model;
        let queries = model.num_attention_heads * model.head_dim;
        let keys = model.num_key_value_heads * model.head_dim;
        // Queries, keys and values as they come and heads first, and what attention gives likewise.
        let attention = 4 * queries + 4 * keys + model.hidden_size;
        let batches = self.largest.evaluations.iter();
        let tokens: usize = batches.map(|batch| batch.iter().sum()).max().unwrap_or(0);
        let narrow = tokens * (3 * model.hidden_size + self.outputs()) * F32 + self.unpacked();
        let wide = tokens * model.intermediate_size * F32;
        if wide < MAPPED || attention > WIDE * model.intermediate_size {
            return narrow + (tokens * attention * F32).max(WIDE * wide);
        }
        let kept = narrow.max(self.kept_of_pass());
        // One that finds a place has a narrow one beside it, which cuts the rest into pieces.
        let place = wide + tokens * model.hidden_size * F32;
        let placed = (kept - narrow) / place;
        kept + WIDE.saturating_sub(placed) * wide
    }

    /// The rectangle that attention spreads rows to off the CPU.
    fn rectangle(&self, lengths: &[usize]) -> Rectangle {
        let (rows, length) = (lengths.len(), lengths.iter().copied().max().unwrap_or(0));
        let of_a_row = self.model.num_attention_heads * length * length;
        let at_once = (SCORES / of_a_row.max(1)).clamp(1, rows.max(1));
        Rectangle {
            places: rows * length,
            scores: at_once * of_a_row,
        }
    }

    /// The most outputs of a layer with an adapter.
    fn widest_adapted(&self) -> usize {
        let factors = self.trainable.iter();
        let factors = factors.filter(|tensor| tensor.name.contains("lora_B"));
        let widths = factors.filter_map(|tensor| tensor.shape.first().copied());
        widths.max().unwrap_or(0)
    }

    /// Logits of each token, where the head reads every one.
    fn outputs(&self) -> usize {
        match self.run.head {
            head if head.reads_one_token() => 0,
            _ => self.num_labels,
        }
    }

    /// Values that the head and the loss keep of so many tokens, where the head reads every one:
    /// the last norm's input and output, and logits with their logarithms and gradients.
    fn kept_by_head(&self, tokens: usize) -> usize {
        match self.run.head {
            head if head.reads_one_token() => 0,
            _ => tokens * (2 * self.model.hidden_size + 4 * self.num_labels),
        }
    }

    /// Values that the graph of a step keeps for each token.
    fn kept_per_token(&self) -> usize {
        let (run, model) = (self.run, self.model);
        let (hidden, mlp) = (model.hidden_size, model.intermediate_size);
        let queries = model.num_attention_heads * model.head_dim;
        let keys = model.num_key_value_heads * model.head_dim;
        let layers = model.num_hidden_layers;
        let trains = Trains::of(self.trainable, model, keeps_copies(run));
        // Below the first block that trains nothing is on the graph.
        let first = trains.first;
        // What norms read.
        let (before, behind) = match model.norms {
            BlockNorms::Before => (hidden, 0),
            BlockNorms::After => (0, hidden),
            BlockNorms::Both => (hidden, hidden),
        };
        let of_heads = |width: usize| model.head_norms.map_or(0, |_| width);
        // Of the last block, where one token of a row is read, most is of that token alone.
        let reads_last = run.head.reads_one_token();
        let kept = |at: usize| {
            // Whether the layers of these names form gradients, for which they keep what they
            // read, and what else their adapters keep.
            let reads = |names: &[&str]| names.iter().any(|name| trains.reads(at, name));
            let thin = |names: &[&str]| -> usize {
                names.iter().map(|name| trains.beside(at, name)).sum()
            };
            // Where nothing else keeps it.
            let normed = |names: &[&str]| if reads(names) { hidden } else { 0 };
            let gated = if reads(&["down_proj"]) { mlp } else { 0 };
            let inputs = ["q_proj", "k_proj", "v_proj", "qkv_proj"];
            let gates = ["gate_proj", "up_proj", "gate_up_proj"];
            let before_attention =
                before + normed(&inputs) + 2 * keys + of_heads(keys) + thin(&inputs);
            if at < first {
                0
            } else if at + 1 == layers && reads_last {
                before_attention
            } else {
                before_attention
                    + 2 * queries // and what attention gives
                    + of_heads(queries)
                    + behind
                    + before
                    + normed(&gates)
                    + 2 * mlp
                    + gated
                    + behind
                    + thin(&["o_proj"])
                    + thin(&gates)
                    + thin(&["down_proj"])
            }
        };
        let all = |blocks: Range<usize>| blocks.map(kept).sum::<usize>();
        if !run.config.train.gradient_checkpointing {
            return all(0..layers);
        }
        // The two last blocks together, or the last, and the inputs of those below; or one of
        // those.
        let top = layers.saturating_sub(if reads_last { 2 } else { 1 });
        let below = (0..top).map(kept).max().unwrap_or(0);
        top.saturating_sub(first) * hidden + all(top..layers).max(below)
    }
}

/// What of each block trains.
struct Trains {
    /// The first block that is on the graph.
    first: usize,
    /// By block and the name of a layer in it.
    layers: BTreeMap<(usize, String), Kept>,
}

/// What a layer keeps for each token.
#[derive(Default)]
struct Kept {
    /// Whether its input, as others read it too.
    input: bool,
    /// Values of its own.
    beside: usize,
}

impl Trains {
    /// `copies` says whether an adapter keeps a copy of its input, with what was dropped.
    fn of(trainable: &[TrainableTensor], model: &LlamaConfig, copies: bool) -> Self {
        let mut layers: BTreeMap<(usize, String), Kept> = BTreeMap::new();
        let mut first = model.num_hidden_layers;
        for tensor in trainable {
            let mut parts = tensor.name.split('.').skip_while(|part| *part != "layers");
            let block = parts.nth(1).and_then(|block| block.parse().ok());
            let Some(block) = block else {
                if tensor.name.contains("embed_tokens") {
                    first = 0;
                }
                continue;
            };
            first = first.min(block);
            let name = parts.find(|part| part.ends_with("_proj"));
            let Some(name) = name else { continue };
            let kept = layers.entry((block, name.to_owned())).or_default();
            let rows = tensor.shape.first().copied().unwrap_or(0);
            match parts.next() {
                Some("lora_A") => {
                    kept.input |= !copies;
                    let input = tensor.shape.last().copied().filter(|_| copies);
                    kept.beside += rows + input.unwrap_or(0);
                }
                // What the base and the adapter give.
                Some("lora_magnitude_vector") => kept.beside += 2 * rows,
                Some("weight") => kept.input = true,
                _ => {}
            }
        }
        Self { first, layers }
    }

    fn reads(&self, block: usize, name: &str) -> bool {
        let kept = self.layers.get(&(block, name.to_owned()));
        kept.is_some_and(|kept| kept.input)
    }

    fn beside(&self, block: usize, name: &str) -> usize {
        let kept = self.layers.get(&(block, name.to_owned()));
        kept.map_or(0, |kept| kept.beside)
    }
}

/// Rows of several lengths as attention has them off the CPU.
struct Rectangle {
    /// Rows times the longest.
    places: usize,
    /// Scores that are formed at a time.
    scores: usize,
}

/// Inputs of a pass with which training is expected to take at most `available` bytes beside the
/// program: what is set, or the largest for `train.micro_batch_size = "auto"`; and the peak that is
/// expected with it, and when that is. `lengths` are those of the inputs to learn from.
pub(crate) fn fitting_pass(
    footprint: &Footprint<'_>,
    lengths: &Lengths<'_>,
    available: Option<u64>,
) -> (usize, Moment, Memory) {
    let run = footprint.run;
    let train = &run.config.train;
    let open = train.micro_batch_size == MicroBatchSize::Auto && train.pass_size.is_none();
    let mut rows = train.largest_pass();
    loop {
        let largest = &Largest::of(run, lengths, rows);
        let (moment, memory) = Footprint {
            largest,
            ..*footprint
        }
        .peak();
        let fits = available.is_none_or(|available| memory.beside_program() <= available);
        // Off the CPU nobody knows before the device says so.
        let chooses = open && footprint.host;
        if fits || !chooses || rows == 1 {
            return (rows, moment, memory);
        }
        rows = rows.div_ceil(2);
    }
}

/// What a program will take beside what it computes with, that has taken so much before weights are
/// loaded. Off the CPU it is not on the device.
pub(crate) fn program(resident: Option<u64>, host: bool) -> usize {
    let resident = resident.filter(|_| host);
    resident.map_or(0, |resident| resident as usize + CODE)
}

/// Whether a device computes on the host.
pub(crate) fn is_host(device: &Device) -> bool {
    ComputeType::Bf16.of_activations(device) == ComputeType::F32
}

/// Whether a tensor that trains is one of the decoder itself.
pub(crate) fn is_of_decoder(name: &str) -> bool {
    let of_adapter = ["lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"];
    let of_adapter = of_adapter.into_iter().chain(["lora_magnitude_vector"]);
    let mut of_adapter = of_adapter.filter(|part| name.split('.').any(|found| found == *part));
    name.starts_with("model.") && of_adapter.next().is_none()
}

/// Bytes of a packed weight, `[out, in]`: codes of whole blocks of 64 inputs, and their scales.
fn packed(shape: &[usize], bits: usize) -> usize {
    let &[columns, rows] = shape else { return 0 };
    let blocks = rows.div_ceil(64) * columns;
    blocks * (64 * bits / 8 + 2)
}

/// Whether adapters start with a product that is taken off again.
fn starts(run: &ResolvedRun) -> bool {
    let lora = run.lora.as_ref();
    lora.is_some_and(|lora| lora.init_lora_weights.has_start())
}

/// Whether adapters keep copies of their inputs: plain operations do, of what dropout leaves.
fn keeps_copies(run: &ResolvedRun) -> bool {
    let lora = run.lora.as_ref();
    lora.is_some_and(|lora| lora.lora_dropout > 0.0 && (lora.use_dora || starts(run)))
}

/// The gradients of gate, up and their product, and of what a block gives, for each token.
fn mlp_gradients(model: &LlamaConfig) -> usize {
    3 * model.intermediate_size + model.hidden_size
}

/// Bytes of what attention's backward pass takes off the CPU, of so many tokens in a rectangle of
/// so many places. In f32 in the rectangle: queries, keys and values, the gradients of these three,
/// that of what attention gives, and one more while parts are joined. Of the tokens an adapter's
/// input in f32; and in `compute` the gradients as the layers read them and that of the block.
fn attention_gradients(model: &LlamaConfig, compute: usize, tokens: usize, places: usize) -> usize {
    let queries = model.num_attention_heads * model.head_dim;
    let keys = model.num_key_value_heads * model.head_dim;
    let of_tokens = model.hidden_size * F32 + (queries + 2 * keys + model.hidden_size) * compute;
    places * (4 * queries + 4 * keys) * F32 + tokens * of_tokens
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::RunConfig;

    const TABLE: usize = 32_000 * 4096;
    const BLOCK: usize = 4 * 4096 * 4096 + 3 * 4096 * 11_008 + 2 * 4096;
    const HEAD: usize = 2 * 4096;

    fn config(text: &str) -> LlamaConfig {
        LlamaConfig::from_json(text, Path::new("config.json")).unwrap()
    }

    /// A model of 7 billion parameters.
    fn large() -> LlamaConfig {
        config(
            r#"{"model_type": "llama", "vocab_size": 32000, "hidden_size": 4096,
            "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}"#,
        )
    }

    fn small() -> LlamaConfig {
        config(
            r#"{"model_type": "llama", "vocab_size": 100, "hidden_size": 64,
            "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}"#,
        )
    }

    fn resolved(model: &LlamaConfig, set: &[&str]) -> ResolvedRun {
        let run = "task = 'sequence'\nmodel.path = 'm'\ndata.train = 't.csv'\n";
        let set: Vec<String> = set.iter().map(|set| set.to_string()).collect();
        let run = RunConfig::from_toml(run, "run.toml", &set).unwrap();
        run.resolve(model)
    }

    /// Does something with the footprint of a run of many steps.
    fn with<T>(
        model: &LlamaConfig,
        set: &[&str],
        pass: &[usize],
        host: bool,
        then: impl FnOnce(Footprint<'_>) -> T,
    ) -> T {
        let run = resolved(model, set);
        let adapted = run
            .lora
            .as_ref()
            .map(|lora| model.adapted_by(lora).unwrap());
        let adapter = run.lora.as_ref().zip(adapted.as_deref());
        let trainable = model.trainable(run.head, 2, adapter, &run.trained);
        then(Footprint {
            run: &run,
            model,
            trainable: &trainable,
            num_labels: 2,
            largest: &Largest {
                rows: run.config.train.largest_pass(),
                passes: vec![pass.to_vec()],
                evaluations: vec![vec![1]],
            },
            host,
            program: 0,
            steps: 100,
            evaluations: 3,
        })
    }

    /// Gigabytes that LLaMA-2-7B in bf16 takes off the CPU.
    fn gigabytes(rows: usize, length: usize, set: &[&str]) -> f64 {
        let (model, size) = (large(), format!("train.micro_batch_size={rows}"));
        let set = [&["model.dtype=bf16", &size], set].concat();
        let pass = vec![length; rows];
        let bytes = with(&model, &set, &pass, false, |footprint| {
            footprint.peak().1.total()
        });
        bytes as f64 / 1e9
    }

    #[test]
    fn a_pass_that_is_left_open_is_the_largest_that_fits_on_the_cpu() {
        let model = small();
        let chosen = |set: &[&str], available: Option<u64>| {
            let lengths = [100; 20];
            let set = [&["lora.r=2"], set].concat();
            with(&model, &set, &[], true, |footprint| {
                let lengths = Lengths {
                    train: &lengths,
                    evaluated: Vec::new(),
                };
                let (rows, _, memory) = fitting_pass(&footprint, &lengths, available);
                (rows, memory.total())
            })
        };
        let fitting = |size: &str, available| {
            let size = format!("train.micro_batch_size={size}");
            chosen(&[&size], available)
        };
        let fitting_of = |set: &[&str]| chosen(set, None).1;
        let (rows, of_eight) = fitting("'auto'", None);
        assert_eq!(rows, 8);
        let passes = [8, 4, 2, 1].map(|rows| {
            let pass = format!("train.pass_size={rows}");
            fitting_of(&["train.micro_batch_size=8", &pass])
        });
        let expected: Vec<usize> = passes.into();
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
            let checkpointing = format!("train.gradient_checkpointing={checkpointing}");
            let told = gigabytes(rows, length, &[&checkpointing]);
            assert!((told - found).abs() < 0.03, "{rows} x {length}: {told}");
        }
    }

    /// Of 8 rows of 64 tokens, whose activations are less than what a step takes: 32 bytes for each
    /// value that trains. 44 bytes stand for each (48 with rates by layer). No weight is frozen, or
    /// all but those of the last block, at two bytes; then the blocks below keep nothing.
    #[test]
    fn weights_that_train_are_counted_in_the_optimizers_buffer() {
        let all = TABLE + 32 * BLOCK + 4096 + HEAD;
        let found = gigabytes(8, 64, &["lora=false"]);
        let expected = (all * (44 + 32)) as f64 / 1e9;
        assert!((found - expected).abs() < 0.01, "{found} {expected}");
        let decayed = ["lora=false", "train.layerwise_lr_decay=0.9"];
        let found = gigabytes(8, 64, &decayed);
        let expected = (all * (48 + 32)) as f64 / 1e9;
        assert!((found - expected).abs() < 0.01, "{found} {expected}");

        let trainable = BLOCK + HEAD;
        let set = ["lora=false", "train.layers=31"];
        let frozen = (TABLE + 31 * BLOCK + 4096) * 2;
        let of_step = (frozen + trainable * (44 + 32)) as f64 / 1e9;
        let found = gigabytes(8, 64, &set);
        assert!((found - of_step).abs() < 0.01, "{found} {of_step}");
        // More rows only grow what the last block keeps, until that is more than a step takes.
        let many = gigabytes(64, 512, &set) - gigabytes(64, 256, &set);
        let lowest = ["lora=false", "train.layers=0"];
        let below = gigabytes(64, 512, &lowest) - gigabytes(64, 256, &lowest);
        assert!(many < below / 10.0, "{many} {below}");
    }

    /// By hand, of two blocks of width 64: 37,120 values of each block and 6,400 of the table.
    #[test]
    fn parts_are_those_of_the_tensors() {
        let model = small();
        let peak = |set: &[&str]| {
            let set = [&["lora.r=2"], set].concat();
            with(&model, &set, &[10, 4], true, |footprint| footprint.peak())
        };
        let matrices = 2 * (4 * 64 * 64 + 3 * 64 * 128);
        let rest = 100 * 64 + 5 * 64;
        let (moment, found) = peak(&[]);
        assert_eq!(moment, Moment::Pass);
        assert_eq!(found.weights, 4 * (matrices + rest));
        // A and B of q and v in two blocks, and the head: multiples of 128.
        assert_eq!(found.trained, 4 * (8 * 128 + 128));
        // Moments, the state before, the best, and a checkpoint with what is copied for it.
        assert_eq!(found.optimizer, found.trained / 4 * (8 + 12 + 4 + 16 + 4));
        assert_eq!(found.gradients, found.trained / 4 * 8);
        assert_eq!(found.weights, 2 * peak(&["model.dtype=bf16"]).1.weights);
        let packed = |format: &str| peak(&[&format!("model.quantization={format}")]).1.weights;
        assert_eq!(packed("int8"), matrices * (64 + 2) / 64 + 4 * rest);
        assert_eq!(packed("nf4"), matrices * (32 + 2) / 64 + 4 * rest);
        // Each of 14 tokens: the norms' inputs and outputs of what q and v read, keys and values,
        // queries and what attention gives, gate and up, an adapter's rank twice; of the last block
        // what stands before its attention. And the gradients of a block.
        let before = 64 + 64 + 2 * 64 + 4;
        let of_block = before + 2 * 64 + 64 + 2 * 128;
        let gradients = 3 * 128 + 64;
        let kept = 14 * 4 * (of_block + before + gradients);
        assert_eq!(found.activations, kept - found.gradients);
        let trained = peak(&["lora.modules_to_save=[\"layers.1\"]"]).1;
        assert_eq!(trained.weights, 4 * (matrices / 2 + rest - 2 * 64));

        // PiSSA's q and v keep a copy of their input each, and no other; its start, four factors of
        // A and of B, stands beside the weights, and the gradient with the other sign is 64 wide.
        let start = 4 * (8 * 128);
        let pissa = "lora.init_lora_weights=pissa";
        let found = peak(&[pissa]).1;
        assert_eq!(found.weights, 4 * (matrices + rest) + start);
        let of_pissa = kept + 14 * 4 * (2 * 64 + 64);
        assert_eq!(found.activations, of_pissa - found.gradients);
        // Without dropout they read one tensor.
        let found = peak(&[pissa, "lora.lora_dropout=0"]).1;
        assert_eq!(found.activations, kept + 14 * 4 * 64 - found.gradients);
        // DoRA keeps two outputs more of each.
        let dora = "lora.use_dora=true";
        let found = peak(&[dora, "lora.lora_dropout=0"]).1;
        let of_dora = kept + 14 * 4 * (4 * 2 * 64);
        assert_eq!(found.activations, of_dora - found.gradients);
        let found = peak(&[dora]).1;
        assert_eq!(
            found.activations,
            of_dora + 14 * 4 * 2 * 64 - found.gradients
        );
    }

    fn at(footprint: &Footprint<'_>, wanted: Moment) -> Memory {
        let mut moments = footprint.moments().into_iter();
        moments.find(|(moment, _)| *moment == wanted).unwrap().1
    }

    /// By hand, of two blocks of width 64. The MLP's buffers of 512 bytes a token are mapped by
    /// themselves from 65,536 tokens on.
    #[test]
    fn an_evaluation_has_what_the_allocator_keeps() {
        let model = small();
        let activations = |set: &[&str], pass: &[usize], batch: &[usize]| {
            with(&model, set, pass, true, |footprint| {
                let largest = Largest {
                    evaluations: vec![batch.to_vec()],
                    ..footprint.largest.clone()
                };
                let footprint = Footprint {
                    largest: &largest,
                    ..footprint
                };
                let memory = at(&footprint, Moment::Evaluation);
                (memory.activations, footprint.activations())
            })
        };
        // Attention's 576 values are more than three of the MLP's 128.
        let narrow = |tokens: usize| tokens * 4 * 3 * 64;
        let (small, _) = activations(&[], &[10], &[30, 20]);
        assert_eq!(small, narrow(50) + 50 * 4 * 576);
        let (packed, _) = activations(&["model.quantization=nf4"], &[10], &[30, 20]);
        assert_eq!(packed, small + 64 * 128 * 4);

        // Of an MLP that is wider than attention.
        let model = config(
            r#"{"model_type": "llama", "vocab_size": 100, "hidden_size": 64,
            "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}"#,
        );
        let activations = |pass: usize, batch: usize| {
            with(&model, &[], &[pass], true, |footprint| {
                let largest = Largest {
                    evaluations: vec![vec![batch]],
                    ..footprint.largest.clone()
                };
                let footprint = Footprint {
                    largest: &largest,
                    ..footprint
                };
                let memory = at(&footprint, Moment::Evaluation);
                (memory.activations, footprint.activations())
            })
        };
        let wide = 20_000 * 4 * 512;
        let (found, _) = activations(10, 20_000);
        assert_eq!(found, narrow(20_000) + 3 * wide);
        // One of the buffers finds a place in what a larger pass left, the others do not.
        let (found, pass) = activations(5_000, 20_000);
        let place = wide + 20_000 * 4 * 64;
        let free = pass - narrow(20_000);
        assert!((place..2 * place).contains(&free), "{free} of {place}");
        assert_eq!(found, pass + 2 * wide);
        // What a pass left of buffers that are mapped is little.
        let (found, _) = activations(17_000, 20_000);
        assert_eq!(found, narrow(20_000) + 3 * wide);
    }

    /// By hand: kept are real tokens; the rectangle is attention's alone.
    #[test]
    fn off_the_cpu_padding_counts_in_attention_alone() {
        let model = small();
        let activations = |passes: &[&[usize]]| {
            with(&model, &["lora.r=2"], &[], false, |footprint| {
                let largest = Largest {
                    passes: passes.iter().map(|pass| pass.to_vec()).collect(),
                    ..footprint.largest.clone()
                };
                let footprint = Footprint {
                    largest: &largest,
                    ..footprint
                };
                at(&footprint, Moment::Pass).activations
            })
        };
        let before = 64 + 64 + 2 * 64 + 4;
        let of_block = before + 2 * 64 + 64 + 2 * 128;
        let of_tokens = of_block + before + 64 + (3 * 64 + 64);
        let expected = 14 * 4 * of_tokens + 20 * 4 * (8 * 64) + 2 * 4 * 10 * 10 * 16;
        assert_eq!(activations(&[&[10, 4]]), expected);
        // Whichever takes more, here the one with fewer tokens.
        let (long, even): (&[usize], &[usize]) = (&[200, 2, 2, 2], &[70, 70, 70, 70]);
        let each = [activations(&[long]), activations(&[even])];
        assert!(each[0] > each[1], "{each:?}");
        assert_eq!(activations(&[even, long]), each[0]);
    }

    /// New moments and parameters are 16 bytes for each value; about half of what a pass left is in
    /// pieces too short for them.
    #[test]
    fn an_update_has_half_of_what_the_pass_left() {
        let (update, pass) = with(&small(), &["lora=false"], &[100], true, |footprint| {
            let standing = at(&footprint, Moment::Evaluation).optimizer;
            let update = at(&footprint, Moment::Update);
            assert_eq!(update.optimizer - standing, 16 * footprint.values());
            (update.activations, footprint.activations())
        });
        assert_eq!(update, pass / 2);
    }
}
