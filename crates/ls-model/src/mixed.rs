//! Classifiers that share one decoder, and a batch for several of them in one pass.
//!
//! Adapters are small beside what they stand on. [`SharedDecoder`] holds the frozen weights once,
//! and each [`SharedClassifier`] has an adapter, a head, a task and an attention mode of its own.
//! [`forward_mixed`] lays the rows of all end to end: a product with a frozen weight is one for all
//! rows, and only thin products, attention and heads are each classifier's own.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use ls_lora::{LoraError, LoraLinear, PeftAdapter};

use crate::attention::{AttentionKind, BatchContext, Pooled};
use crate::config::LlamaConfig;
use crate::error::{ModelError, Result};
use crate::heads::{LlamaClassifier, Task, is_head};
use crate::input::ModelInput;
use crate::llama::{
    Attention, DecoderLayer, FeedForward, FusedAttention, FusedMlp, LlamaModel, Mlp, RmsNorm,
    SelfAttention, normed,
};
use crate::mask::AttentionMode;

/// A frozen decoder for any number of classifiers.
#[derive(Debug, Clone)]
pub struct SharedDecoder {
    model: LlamaModel,
    /// Equal in what was made of one decoder.
    identity: Arc<()>,
}

/// A classifier on a decoder that others stand on too. It derefs to the classifier.
#[derive(Debug, Clone)]
pub struct SharedClassifier {
    classifier: LlamaClassifier,
    decoder: Arc<()>,
}

impl Deref for SharedClassifier {
    type Target = LlamaClassifier;

    fn deref(&self) -> &LlamaClassifier {
        &self.classifier
    }
}

impl SharedClassifier {
    /// Whether both stand on one decoder, so that [`forward_mixed`] takes them together.
    #[must_use]
    pub fn is_on_decoder_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.decoder, &other.decoder)
    }
}

impl From<LlamaClassifier> for SharedClassifier {
    /// A classifier with a decoder of its own.
    fn from(classifier: LlamaClassifier) -> Self {
        Self {
            classifier,
            decoder: Arc::new(()),
        }
    }
}

impl SharedDecoder {
    /// Of a decoder without adapters.
    #[must_use]
    pub fn new(model: LlamaModel) -> Self {
        Self {
            model,
            identity: Arc::new(()),
        }
    }

    /// A classifier whose adapter and head are those of a PEFT folder. The decoder's weights are
    /// shared, not copied.
    ///
    /// `config` is the decoder's, with the vocabulary of the adapter; `dir` is the adapter's
    /// folder, for messages.
    ///
    /// # Errors
    ///
    /// As [`LlamaClassifier::with_adapter`]; if the mode does not fit the decoder's layers; and if
    /// the adapter holds a part of the decoder in full other than the table of embeddings.
    pub fn classifier(
        &self,
        config: &LlamaConfig,
        attention: &AttentionMode,
        task: Task,
        adapter: &PeftAdapter,
        dir: &Path,
        device: &Device,
    ) -> Result<SharedClassifier> {
        let shared = |name: &&String| !is_head(name) && !name.contains("embed_tokens");
        if let Some(name) = adapter.saved_modules.keys().find(shared) {
            let reason = format!(
                "{}: it holds {name} in full, which the others that stand on this model do not \
                 have: merge it into a model of its own",
                dir.display()
            );
            let action = "share the model";
            return Err(LoraError::Incompatible { action, reason }.into());
        }
        let model = self.model.clone().with_attention(config, attention)?;
        let classifier = LlamaClassifier::with_adapter(model, config, task, adapter, dir, device)?;
        Ok(SharedClassifier {
            classifier,
            decoder: self.identity.clone(),
        })
    }
}

/// Logits in f32 of batches for several classifiers, in the order of the batches: bit for bit those
/// of [`LlamaClassifier::forward`] on the CPU.
///
/// # Errors
///
/// If the classifiers are not of one decoder.
pub fn forward_mixed(parts: &[(&SharedClassifier, &ModelInput)]) -> Result<Vec<Tensor<2>>> {
    let [(first, _), others @ ..] = parts else {
        return Ok(Vec::new());
    };
    let other = |(part, _): &(&SharedClassifier, _)| !part.is_on_decoder_of(first);
    if let Some(at) = others.iter().position(other) {
        return Err(ModelError::OtherDecoder { part: at + 1 });
    }
    let models: Vec<&LlamaModel> = parts.iter().map(|(part, _)| &part.model).collect();
    let embedded = models
        .iter()
        .zip(parts)
        .map(|(model, (_, input))| model.embed(input));
    let mut x = Tensor::cat(embedded.collect(), 0); // [tokens, hidden_size]
    let mut rows = Rows(parts.iter().map(|(_, input)| input.tokens()).collect());
    let mut batches: Vec<Batch<'_>> = parts
        .iter()
        .map(|(part, input)| Batch::of(part, input))
        .collect();
    let depth = first.model.layers.len();
    for at in 0..depth {
        let layers: Vec<&DecoderLayer> = models.iter().map(|model| &model.layers[at]).collect();
        let is_last = at + 1 == depth;
        for batch in &mut batches {
            batch.is_last_block = is_last;
        }
        (x, rows) = block(&layers, x, rows, &mut batches);
    }
    let x = first.model.norm.forward(x);
    let hidden = rows.split(x);
    let parts = parts.iter().zip(hidden);
    Ok(parts
        .map(|((part, input), hidden)| part.head(hidden, input))
        .collect())
}

/// How many of the rows of a batch each part has, in their order.
struct Rows(Vec<usize>);

impl Rows {
    /// The rows of each part.
    fn split(&self, x: Tensor<2>) -> Vec<Tensor<2>> {
        let mut start = 0;
        let part = |&rows: &usize| {
            start += rows;
            x.clone().narrow(0, start - rows, rows)
        };
        self.0.iter().map(part).collect()
    }

    /// Applies to each part the layer of its module.
    fn apply<M>(&self, modules: &[&M], layer: fn(&M) -> &LoraLinear, x: Tensor<2>) -> Tensor<2> {
        let layers = modules.iter().map(|module| layer(module));
        let parts: Vec<_> = layers.zip(self.0.iter().copied()).collect();
        LoraLinear::forward_mixed(&parts, x)
    }
}

/// What belongs to the batch of one classifier.
struct Batch<'a> {
    context: BatchContext<'a>,
    /// The tokens that the head reads, if they are not all.
    pooled: Option<Pooled>,
    is_last_block: bool,
}

impl<'a> Batch<'a> {
    fn of(classifier: &LlamaClassifier, input: &'a ModelInput) -> Self {
        Self {
            context: BatchContext::new(input),
            pooled: classifier.pools_last().then(|| Pooled::last(input)),
            is_last_block: false,
        }
    }

    /// The tokens that the block goes on with, if they are not all.
    fn pooled(&self) -> Option<&Pooled> {
        self.pooled.as_ref().filter(|_| self.is_last_block)
    }
}

/// The rows that a block goes on with.
fn kept(x: Tensor<2>, rows: &Rows, batches: &[Batch<'_>]) -> Tensor<2> {
    if batches.iter().all(|batch| batch.pooled().is_none()) {
        return x;
    }
    let parts = rows.split(x).into_iter().zip(batches);
    let parts = parts.map(|(x, batch)| match batch.pooled() {
        Some(pooled) => pooled.of(x),
        None => x,
    });
    Tensor::cat(parts.collect(), 0)
}

/// [`DecoderLayer::forward`] of several; gives the rows that are left, too.
fn block(
    layers: &[&DecoderLayer],
    x: Tensor<2>,
    rows: Rows,
    batches: &mut [Batch<'_>],
) -> (Tensor<2>, Rows) {
    let norms = layers[0].norms();
    let attended = normed(norms.before_attention, x.clone());
    let left = batches.iter().zip(&rows.0);
    let left = left.map(|(batch, &rows)| batch.pooled().map_or(rows, Pooled::count));
    let left = Rows(left.collect());
    let attended = attention(layers, attended, &rows, &left, batches);
    let attended = normed(norms.after_attention, attended);
    let x = layers[0].add(kept(x, &rows, batches), attended);
    let gated = normed(norms.before_mlp, x.clone());
    let gated = normed(norms.after_mlp, mlp(layers, gated, &left));
    (layers[0].add(x, gated), left)
}

/// [`SelfAttention::forward`] of several. `left` are the rows that go on.
fn attention(
    layers: &[&DecoderLayer],
    x: Tensor<2>,
    rows: &Rows,
    left: &Rows,
    batches: &mut [Batch<'_>],
) -> Tensor<2> {
    match &layers[0].self_attn {
        SelfAttention::Split(first) => {
            let modules: Vec<&Attention> = layers
                .iter()
                .filter_map(|layer| match &layer.self_attn {
                    SelfAttention::Split(attention) => Some(attention),
                    SelfAttention::Fused(_) => None,
                })
                .collect();
            let norm = |norm: &Option<RmsNorm>, x| normed(norm.as_ref(), x);
            let queries = kept(x.clone(), rows, batches);
            let q = norm(
                &first.q_norm,
                left.apply(&modules, |of| &of.q_proj, queries),
            );
            let k = norm(
                &first.k_norm,
                rows.apply(&modules, |of| &of.k_proj, x.clone()),
            );
            let v = rows.apply(&modules, |of| &of.v_proj, x);
            let [q, k, v] = [left.split(q), rows.split(k), rows.split(v)];
            let kinds = modules.iter().map(|of| &of.kind);
            let parts = q.into_iter().zip(k).zip(v).map(|((q, k), v)| [q, k, v]);
            let out = attend(parts, kinds, batches);
            left.apply(&modules, |of| &of.o_proj, out)
        }
        SelfAttention::Fused(first) => {
            let modules: Vec<&FusedAttention> = layers
                .iter()
                .filter_map(|layer| match &layer.self_attn {
                    SelfAttention::Fused(attention) => Some(attention),
                    SelfAttention::Split(_) => None,
                })
                .collect();
            let qkv = rows.split(rows.apply(&modules, |of| &of.qkv_proj, x));
            let parts: Vec<_> = qkv
                .into_iter()
                .zip(&*batches)
                .map(|(qkv, batch)| first.split(qkv, batch.pooled()))
                .collect();
            let kinds = modules.iter().map(|of| &of.kind);
            let out = attend(parts.into_iter(), kinds, batches);
            left.apply(&modules, |of| &of.o_proj, out)
        }
    }
}

/// Attention of each part within itself, laid end to end.
fn attend<'k>(
    parts: impl Iterator<Item = [Tensor<2>; 3]>,
    kinds: impl Iterator<Item = &'k AttentionKind>,
    batches: &mut [Batch<'_>],
) -> Tensor<2> {
    let parts = parts.zip(kinds).zip(batches);
    let parts = parts.map(|((qkv, kind), batch)| {
        let Batch {
            context, pooled, ..
        } = batch;
        context.attend(qkv, kind, pooled.as_ref().filter(|_| batch.is_last_block))
    });
    Tensor::cat(parts.collect(), 0)
}

/// [`FeedForward::forward`] of several.
fn mlp(layers: &[&DecoderLayer], x: Tensor<2>, rows: &Rows) -> Tensor<2> {
    match &layers[0].mlp {
        FeedForward::Split(first) => {
            let modules: Vec<&Mlp> = layers
                .iter()
                .filter_map(|layer| match &layer.mlp {
                    FeedForward::Split(mlp) => Some(mlp),
                    FeedForward::Fused(_) => None,
                })
                .collect();
            let gate = rows.apply(&modules, |of| &of.gate_proj, x.clone());
            let up = rows.apply(&modules, |of| &of.up_proj, x);
            let gated = ls_ops::glu(gate, up, first.activation);
            rows.apply(&modules, |of| &of.down_proj, gated)
        }
        FeedForward::Fused(first) => {
            let modules: Vec<&FusedMlp> = layers
                .iter()
                .filter_map(|layer| match &layer.mlp {
                    FeedForward::Fused(mlp) => Some(mlp),
                    FeedForward::Split(_) => None,
                })
                .collect();
            let gate_up = rows.apply(&modules, |of| &of.gate_up_proj, x);
            let gated = ls_ops::joined_glu(gate_up, first.activation);
            rows.apply(&modules, |of| &of.down_proj, gated)
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use ls_lora::{
        HostTensor, LoraConfig, LoraModule, Quantization, TargetModules, add_adapter, host_values,
    };

    use super::*;
    use crate::heads::{ADAPTER, Pooling};
    use crate::precision::ComputeType;
    use crate::tiny::{FAMILIES, LABELS, Normal, Tiny, mode};

    const TASKS: [(Task, &str); 5] = [
        (Task::Sequence(Pooling::Last), "causal"),
        (Task::Token { dropout: 0.1 }, "bidirectional"),
        (Task::Sequence(Pooling::Mean), "from:1"),
        (Task::Sequence(Pooling::Last), "groups:010"),
        (Task::Sequence(Pooling::Max), "causal"),
    ];

    /// An adapter of this rank with a head of so many labels, none of its values zero.
    fn adapter(tiny: &Tiny, task: Task, rank: usize, labels: usize, dora: bool) -> PeftAdapter {
        let device = Device::flex();
        let base = tiny.classifier("causal", Task::Sequence(Pooling::Last), &device);
        let mut made = LlamaClassifier::new(
            base.model,
            &tiny.config(),
            task,
            labels,
            rank as u64,
            &device,
        );
        let config = LoraConfig::new(rank, 3.0)
            .with_target_modules(TargetModules::AllLinear)
            .with_dora(dora)
            .with_task_type(task.task_type());
        add_adapter(&mut made, ADAPTER, &config, rank as u64, &device).unwrap();
        let mut normal = Normal::new(rank as u64);
        for (_, layer) in made.layers_mut() {
            for lora in layer.adapters_mut() {
                let shape = lora.lora_b.val().dims();
                lora.lora_b = Param::from_tensor(normal.next(shape, 0.3, &device));
            }
        }
        made.to_adapter(&config)
    }

    /// Classifiers on one decoder, with rank 1, 2, ... and 2, 3, ... labels.
    fn classifiers(tiny: &Tiny) -> Vec<SharedClassifier> {
        let device = Device::flex();
        let base = tiny.classifier("causal", Task::Sequence(Pooling::Last), &device);
        let shared = SharedDecoder::new(base.model);
        let tasks = TASKS.iter().enumerate();
        let made = tasks.map(|(at, &(task, attention))| {
            let adapter = adapter(tiny, task, at + 1, at + 2, at == 2);
            let dir = tempfile::tempdir().unwrap();
            adapter.save(dir.path()).unwrap();
            let config = tiny.config();
            shared
                .classifier(
                    &config,
                    &mode(attention),
                    task,
                    &adapter,
                    dir.path(),
                    &device,
                )
                .unwrap()
        });
        made.collect()
    }

    fn input(tiny: &Tiny, rows: &[&[u32]]) -> ModelInput {
        ModelInput::new(rows, &tiny.config(), &Device::flex()).unwrap()
    }

    #[test]
    fn each_part_has_the_logits_that_it_has_alone() {
        let rows: [&[&[u32]]; 5] = [
            &[&[1, 5, 12, 7], &[3]],
            &[&[2, 2, 4]],
            &[&[9], &[10, 11, 12, 3, 1, 0]],
            &[&[4]],
            &[&[6, 7], &[8, 1], &[2, 5, 6]],
        ];
        for family in FAMILIES {
            let tiny = Tiny::of(family).and_head();
            let classifiers = classifiers(&tiny);
            let inputs = rows.map(|rows| input(&tiny, rows));
            let all: Vec<_> = classifiers.iter().zip(&inputs).collect();
            // All in turn at the front, some left out, one twice.
            let mut orders: Vec<Vec<_>> = (0..all.len())
                .map(|first| [&all[first..], &all[..first]].concat())
                .collect();
            orders.extend([
                vec![all[3]],
                vec![all[1], all[0]],
                vec![all[0], all[2], all[0]],
            ]);
            for parts in orders {
                let mixed = forward_mixed(&parts).unwrap();
                assert_eq!(mixed.len(), parts.len());
                for (mixed, (classifier, input)) in mixed.into_iter().zip(&parts) {
                    let alone = classifier.forward(input);
                    assert_eq!(mixed.dims(), alone.dims());
                    let (mixed, alone) = (host_values(mixed), host_values(alone));
                    assert_eq!(mixed, alone, "{family} {:?}", classifier.task);
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_logits_that_it_has_alone() {
        let rows: [&[u32]; 4] = [&[1, 5, 12, 7], &[3], &[9, 2, 4], &[1, 1, 2, 3, 5, 8]];
        for family in FAMILIES {
            let tiny = Tiny::of(family).and_head();
            for classifier in classifiers(&tiny) {
                let together = host_values(classifier.forward(&input(&tiny, &rows)));
                let alone = rows.map(|row| host_values(classifier.forward(&input(&tiny, &[row]))));
                assert_eq!(together, alone.concat(), "{family} {:?}", classifier.task);
            }
        }
    }

    #[test]
    fn so_has_a_row_among_long_ones() {
        let mut tiny = Tiny::with_head();
        tiny.config["max_position_embeddings"] = serde_json::json!(1024);
        let row = |length: u32| (0..length).map(|at| at * at % 13).collect::<Vec<u32>>();
        let rows = [300, 7, 513, 1, 290].map(row);
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        for classifier in classifiers(&tiny) {
            let together = host_values(classifier.forward(&input(&tiny, &rows)));
            let alone = rows
                .iter()
                .map(|row| classifier.forward(&input(&tiny, &[row])));
            let alone: Vec<f32> = alone.flat_map(host_values).collect();
            assert_eq!(together, alone, "{:?}", classifier.task);
        }
    }

    /// Wide enough that products of one row would take another kernel.
    #[test]
    fn so_has_a_text_of_a_wide_model() {
        let config = serde_json::json!({
            "model_type": "llama", "vocab_size": 40, "hidden_size": 320, "intermediate_size": 416,
            "num_hidden_layers": 2, "num_attention_heads": 5, "num_key_value_heads": 1,
            "head_dim": 64,
        });
        let config = LlamaConfig::from_json(&config.to_string(), Path::new("config.json")).unwrap();
        let device = Device::flex();
        let row = |length: u32| (1..=length).map(|at| at * at % 40).collect::<Vec<u32>>();
        let rows = [7, 1, 2, 40, 13].map(row);
        let logits = |classifier: &LlamaClassifier, rows: &[Vec<u32>]| {
            let input = ModelInput::new(rows, &config, &device).unwrap();
            host_values(classifier.forward(&input))
        };
        for (compute, format) in [
            (ComputeType::F32, None),
            (ComputeType::Bf16, None),
            (ComputeType::F32, Some(Quantization::Int8)),
            (ComputeType::F32, Some(Quantization::Nf4)),
        ] {
            let mut model =
                LlamaModel::random(&config, &AttentionMode::Causal, compute, &device).unwrap();
            for (_, layer) in model.layers_mut() {
                if let Some(format) = format {
                    layer.quantize(format).unwrap();
                }
            }
            for (task, _) in TASKS {
                let classifier = LlamaClassifier::new(model.clone(), &config, task, 5, 1, &device);
                let together = logits(&classifier, &rows);
                let alone = rows
                    .iter()
                    .map(|row| logits(&classifier, std::slice::from_ref(row)));
                let alone: Vec<f32> = alone.flatten().collect();
                assert_eq!(together, alone, "{compute:?} {format:?} {task:?}");
            }
        }
    }

    #[test]
    fn the_classifiers_adapters_differ() {
        let tiny = Tiny::with_head();
        let classifiers = classifiers(&tiny);
        let input = input(&tiny, &[&[1, 5, 12, 7]]);
        let first = |at: usize| host_values(classifiers[at].model.forward_last(&input));
        assert_ne!(first(0), first(3));
        assert!(forward_mixed(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_does_not_share_the_decoder_is_refused() {
        let tiny = Tiny::with_head();
        let (some, others) = (classifiers(&tiny), classifiers(&tiny));
        let input = input(&tiny, &[&[1, 5]]);
        let error = forward_mixed(&[(&some[0], &input), (&some[1], &input), (&others[0], &input)]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("part 2"), "{error}");

        let device = Device::flex();
        let base = tiny.classifier("causal", Task::Sequence(Pooling::Last), &device);
        let shared = SharedDecoder::new(base.model);
        let (task, attention) = TASKS[0];
        let made = |adapter: &PeftAdapter, attention: &str| {
            let dir = tempfile::tempdir().unwrap();
            adapter.save(dir.path()).unwrap();
            let config = tiny.config();
            shared.classifier(
                &config,
                &mode(attention),
                task,
                adapter,
                dir.path(),
                &device,
            )
        };
        let plain = adapter(&tiny, task, 2, LABELS, false);
        assert!(made(&plain, attention).is_ok());
        let error = made(&plain, "from:9").unwrap_err().to_string();
        assert!(error.contains("layer 9"), "{error}");
        let norm = HostTensor::from_f32([crate::tiny::HIDDEN], &[1.0; crate::tiny::HIDDEN]);
        let mut with_norm = plain.clone();
        with_norm.config = with_norm.config.with_modules_to_save(["norm", "score"]);
        with_norm
            .saved_modules
            .insert("model.norm.weight".into(), norm);
        let error = made(&with_norm, attention).unwrap_err().to_string();
        assert!(error.contains("model.norm.weight"), "{error}");
    }
}
