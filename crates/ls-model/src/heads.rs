//! [`LlamaClassifier`]: a decoder with a classification head, and the pooling of sequences.

use std::fmt;
use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use ls_files::FileError;
use ls_lora::{LoraConfig, LoraError, PeftAdapter, TaskType, host_values, lora_module};
use ls_ops::linear;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use crate::config::LlamaConfig;
use crate::error::Result;
use crate::input::ModelInput;
use crate::llama::LlamaModel;
use crate::saved_head::SavedHead;

/// The name of a classifier's adapter: the one that PEFT uses by default.
pub const ADAPTER: &str = "default";

/// How the hidden states of a sequence become one logit per class.
///
/// As in the reference code of arXiv 2310.01208, pooling is over the *logits* of a sequence's real
/// tokens (after the head). For `last` and `mean` that equals pooling hidden states, which is what
/// is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The logits of the last token.
    Last,
    /// The logits of the last token that is not the pad token, as the classes of transformers pool.
    /// Where the end token also pads and the tokenizer puts it behind each text, this is the token
    /// before it. [`ModelInput::last`] says which one it is.
    LastNotPad,
    /// The mean logits over the tokens.
    Mean,
    /// The largest logit of each class over the tokens.
    Max,
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Last => "last",
            Self::LastNotPad => "last_not_pad",
            Self::Mean => "mean",
            Self::Max => "max",
        })
    }
}

impl Pooling {
    /// Whether one token of each row is read, and no other.
    pub fn reads_one_token(self) -> bool {
        matches!(self, Self::Last | Self::LastNotPad)
    }
}

/// What the head classifies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Task {
    /// Rows: one class each. The head has no bias.
    Sequence(Pooling),
    /// Tokens: one tag each. The head has a bias and dropout, as in the reference code.
    Token {
        /// Probability of zeroing an input of the head in training.
        dropout: f64,
    },
}

impl Task {
    /// Whether the head reads one token of each row only.
    pub fn reads_one_token(self) -> bool {
        matches!(self, Self::Sequence(pooling) if pooling.reads_one_token())
    }

    /// PEFT's name of the task.
    pub fn task_type(self) -> TaskType {
        match self {
            Self::Sequence(_) => TaskType::SeqCls,
            Self::Token { .. } => TaskType::TokenCls,
        }
    }
}

/// A decoder with a classification head (`score`) in f32.
///
/// ```
/// use std::path::Path;
/// use burn::tensor::Device;
/// use ls_model::{AttentionMode, ComputeType, LlamaClassifier, LlamaConfig, LlamaModel};
/// use ls_model::{ModelInput, Pooling, Task};
///
/// # fn main() -> Result<(), ls_model::ModelError> {
/// let json = r#"{"model_type": "llama", "vocab_size": 32, "hidden_size": 8,
///     "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}"#;
/// let config = LlamaConfig::from_json(json, Path::new("config.json"))?;
/// let device = Device::flex();
/// let decoder = LlamaModel::random(&config, &AttentionMode::Causal, ComputeType::F32, &device)?;
/// let task = Task::Sequence(Pooling::Last);
/// let classifier = LlamaClassifier::new(decoder, &config, task, 3, 42, &device);
/// let input = ModelInput::new(&[vec![1u32, 5, 9], vec![1, 7]], &config, &device)?;
/// assert_eq!(classifier.forward(&input).dims(), [2, 3]);
/// # Ok(())
/// # }
/// ```
#[derive(Module, Debug)]
pub struct LlamaClassifier {
    /// The decoder.
    pub model: LlamaModel,
    /// The head, `[hidden_size, num_labels]`.
    pub score: Linear,
    /// What the head classifies.
    #[module(skip)]
    pub task: Task,
}

impl LlamaClassifier {
    /// Puts a new head on a decoder: weights N(0, `initializer_range`) from `seed`, the same on
    /// every device, bias zero. The head trains if `device` is an autodiff device.
    pub fn new(
        model: LlamaModel,
        config: &LlamaConfig,
        task: Task,
        num_labels: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let options = (device, DType::F32);
        let mut draws = ChaCha8Rng::seed_from_u64(seed);
        // Adapters are drawn from the first stream, often by the same seed.
        draws.set_stream(1);
        let values = TensorData::random::<f32, _, _>(
            [config.hidden_size, num_labels],
            Distribution::Normal(0.0, config.initializer_range),
            &mut draws,
        );
        let weight = Param::from_tensor(Tensor::from_data(values, options));
        let bias = match task {
            Task::Token { .. } if config.token_classification_bias => {
                Some(Param::from_tensor(Tensor::zeros([num_labels], options)))
            }
            _ => None,
        };
        Self {
            model,
            score: Linear { weight, bias },
            task,
        }
    }

    /// Puts the head and the adapter of a PEFT folder on a decoder. Both train if `device` is an
    /// autodiff device.
    ///
    /// `dir` is the adapter's folder, for messages.
    ///
    /// # Errors
    ///
    /// If the head is missing, of another shape or the other task's, or an adapter tensor does not
    /// fit.
    pub fn with_adapter(
        model: LlamaModel,
        config: &LlamaConfig,
        task: Task,
        adapter: &PeftAdapter,
        dir: &Path,
        device: &Device,
    ) -> Result<Self> {
        let task_type = task.task_type();
        adapter.expect_task(task_type)?;
        let path = ls_lora::weights_file(dir)?;
        let Some(SavedHead { weight, bias, .. }) = SavedHead::in_adapter(adapter, path.clone())
        else {
            let nearest = adapter.saved_modules.keys().next().cloned();
            return Err(FileError::TensorMissing {
                path,
                name: "score.weight".into(),
                nearest,
            }
            .into());
        };
        if bias.is_some() && task_type == TaskType::SeqCls {
            // PEFT itself loads it silently.
            let (expected, found) = (
                TaskType::SeqCls.as_str().into(),
                TaskType::TokenCls.as_str().into(),
            );
            return Err(LoraError::WrongTask { expected, found }.into());
        }
        let num_labels = weight.shape.first().copied().unwrap_or(1).max(1);
        let options = (device, DType::F32);
        let mut classifier = Self {
            model,
            // `load_adapter` below fills it.
            score: Linear {
                weight: Param::from_tensor(Tensor::zeros(
                    [config.hidden_size, num_labels],
                    options,
                )),
                bias: bias.map(|_| Param::from_tensor(Tensor::zeros([num_labels], options))),
            },
            task,
        };
        let mut adapter = adapter.clone();
        for part in ["weight", "bias"] {
            let (other, name) = (format!("classifier.{part}"), format!("score.{part}"));
            if let Some(tensor) = adapter.saved_modules.remove(&other) {
                if adapter.saved_modules.contains_key(&name) {
                    return Err(LoraError::SurplusTensors {
                        path,
                        names: vec![other],
                    }
                    .into());
                }
                adapter.saved_modules.insert(name, tensor);
            }
        }
        ls_lora::load_adapter(&mut classifier, ADAPTER, &adapter, dir, device)?;
        Ok(classifier)
    }

    /// Takes rows of a head that was trained before: of each label which one, if any. The other
    /// rows stay as they are.
    ///
    /// # Errors
    ///
    /// If that head is of another width.
    pub fn keep_rows(&mut self, head: &SavedHead, rows: &[Option<usize>]) -> Result<()> {
        let weight = self.score.weight.val();
        let ([width, num_labels], device) = (weight.dims(), weight.device());
        let (old_weight, old_bias) = head.values(width)?;
        let mut weight = host_values(weight);
        let bias = self.score.bias.as_ref();
        let mut bias = bias.map(|bias| host_values(bias.val()));
        if old_bias.is_some() {
            bias.get_or_insert_with(|| vec![0.0; num_labels]);
        }
        for (label, row) in rows.iter().enumerate() {
            let Some(row) = *row else { continue };
            for (at, value) in old_weight[row * width..][..width].iter().enumerate() {
                weight[at * num_labels + label] = *value;
            }
            if let (Some(bias), Some(old_bias)) = (&mut bias, &old_bias) {
                bias[label] = old_bias[row];
            }
        }
        let options = (&device, DType::F32);
        let weight = TensorData::new(weight, [width, num_labels]);
        let bias = bias.map(|bias| TensorData::new(bias, [num_labels]));
        self.score = Linear {
            weight: Param::from_tensor(Tensor::from_data(weight, options)),
            bias: bias.map(|bias| Param::from_tensor(Tensor::from_data(bias, options))),
        };
        Ok(())
    }

    /// Puts the adapter of a PEFT folder on this classifier, which has no adapter yet, so that its
    /// training goes on: factors, and whatever it holds in full. In the place of its head, whatever
    /// the task of that, the one that is here trains. It and the adapter do if `device` is an
    /// autodiff device.
    ///
    /// `dir` is the adapter's folder, for messages.
    ///
    /// # Errors
    ///
    /// If a tensor of the adapter does not fit the decoder.
    pub fn begin_from(
        mut self,
        mut adapter: PeftAdapter,
        dir: &Path,
        device: &Device,
    ) -> Result<Self> {
        // By it the head trains, whatever the adapter was trained for.
        adapter.config.task_type = Some(self.task.task_type());
        adapter.saved_modules.retain(|name, _| !is_head(name));
        let head = ls_lora::parameters(&self, &is_head);
        adapter.saved_modules.extend(head);
        ls_lora::load_adapter(&mut self, ADAPTER, &adapter, dir, device)?;
        Ok(self)
    }

    /// The adapter and the head as PEFT stores them; `config` is the adapter's.
    pub fn to_adapter(&self, config: &LoraConfig) -> PeftAdapter {
        let mut config = config.clone();
        config.task_type = Some(self.task.task_type());
        ls_lora::to_peft(self, ADAPTER, &config)
    }

    /// The same classifier with every logit divided by a number over 0, as the head's weights and
    /// bias are; every pooling takes that along.
    pub fn with_logits_divided(mut self, by: f32) -> Self {
        let Linear { weight, bias } = self.score;
        self.score = Linear {
            weight: weight.map(|weight| weight.div_scalar(by)),
            bias: bias.map(|bias| bias.map(|bias| bias.div_scalar(by))),
        };
        self
    }

    /// Number of classes or tags.
    pub fn num_labels(&self) -> usize {
        self.score.weight.lazy_shape().dims::<2>()[1]
    }

    /// Logits in f32.
    ///
    /// # Shapes
    ///
    /// - [`Task::Sequence`]: `[batch, num_labels]`
    /// - [`Task::Token`]: `[tokens, num_labels]`, the real tokens of all rows laid end to end
    pub fn forward(&self, input: &ModelInput) -> Tensor<2> {
        let hidden = if self.pools_last() {
            self.model.forward_last(input) // [batch, hidden_size]
        } else {
            self.model.forward(input) // [tokens, hidden_size]
        };
        self.head(hidden, input)
    }

    /// Whether the head reads one token of each row only.
    pub(crate) fn pools_last(&self) -> bool {
        self.task.reads_one_token()
    }

    /// Logits of hidden states as [`LlamaClassifier::forward`] takes them from the decoder.
    pub(crate) fn head(&self, hidden: Tensor<2>, input: &ModelInput) -> Tensor<2> {
        let hidden = if hidden.dtype() == DType::F32 {
            hidden
        } else {
            hidden.cast(DType::F32)
        };
        match self.task {
            Task::Sequence(Pooling::Last | Pooling::LastNotPad) => self.score(hidden),
            Task::Sequence(Pooling::Mean) => self.score(means(hidden, input)),
            Task::Sequence(Pooling::Max) => largest(self.score(hidden), input),
            Task::Token { dropout } => {
                let training = self.score.weight.val().is_autodiff();
                self.score(if training && dropout > 0.0 {
                    ls_lora::dropout(hidden, dropout)
                } else {
                    hidden
                })
            }
        }
    }

    fn score(&self, hidden: Tensor<2>) -> Tensor<2> {
        // burn's own product sums a row in an order that depends on how many there are.
        let logits = linear(hidden, self.score.weight.val());
        match &self.score.bias {
            Some(bias) => logits + bias.val().unsqueeze(),
            None => logits,
        }
    }
}

lora_module!(LlamaClassifier { model } heads { score });

/// Whether a parameter is a head's: a classifier's, or one that another task has in its place.
pub(crate) fn is_head(name: &str) -> bool {
    let module = name.split('.').next();
    matches!(
        module,
        Some("score" | "classifier" | "lm_head" | "qa_outputs")
    )
}

/// The mean of each row's hidden states: `[tokens, hidden_size]` -> `[batch, hidden_size]`.
fn means(hidden: Tensor<2>, input: &ModelInput) -> Tensor<2> {
    if !ls_ops::is_host(&hidden.device()) {
        return averaging_matrix(input).matmul(hidden);
    }
    // Row by row: one product over the tokens of all would add up a row's in an order that depends
    // on where they lie, and so on the other rows.
    let mut start = 0;
    let rows = input.lengths.iter().map(|&length| {
        start += length;
        hidden.clone().narrow(0, start - length, length).mean_dim(0)
    });
    Tensor::cat(rows.collect(), 0)
}

/// The matrix that takes the mean of each row, `[batch, tokens]`: `1 / length` at the row's tokens,
/// else 0.
fn averaging_matrix(input: &ModelInput) -> Tensor<2> {
    let tokens = input.tokens();
    let mut values = vec![0.0f32; input.batch_size() * tokens];
    let mut start = 0;
    for (row, &length) in input.lengths.iter().enumerate() {
        values[row * tokens + start..row * tokens + start + length].fill(1.0 / length as f32);
        start += length;
    }
    Tensor::from_data(
        TensorData::new(values, [input.batch_size(), tokens]),
        &input.input_ids.device(),
    )
}

/// The largest logit of each class over the tokens of a row: `[tokens, num_labels]` ->
/// `[batch, num_labels]`.
fn largest(logits: Tensor<2>, input: &ModelInput) -> Tensor<2> {
    let num_labels = logits.dims()[1];
    // A padded place holds a copy of its row's last token, which cannot change a maximum.
    let padded = input
        .pad(logits)
        .reshape([input.batch_size(), input.longest(), num_labels]);
    padded.max_dim(1).squeeze_dim(1)
}

#[cfg(test)]
mod tests {
    use ls_lora::{HostTensor, LoraModel, LoraModule, TargetModules, add_adapter};

    use super::*;
    use crate::tiny::{FAMILIES, HIDDEN, LABELS, Normal, Tiny, assert_close};

    const ROWS: [&[u32]; 3] = [&[1, 5, 12, 7], &[3], &[9, 2, 4]];

    fn input(tiny: &Tiny, device: &Device) -> ModelInput {
        ModelInput::new(&ROWS, &tiny.config(), device).unwrap()
    }

    /// Hidden states of one row after a change of its last token.
    fn first_hidden_state(attention: &str, last: u32) -> Vec<f32> {
        let (tiny, device) = (Tiny::with_head(), Device::flex());
        let model = tiny.classifier(attention, Task::Sequence(Pooling::Last), &device);
        let input = ModelInput::new(&[[1u32, 5, 12, last]], &tiny.config(), &device).unwrap();
        host_values(model.model.forward(&input))[..HIDDEN].to_vec()
    }

    #[test]
    fn the_first_token_sees_the_last_only_without_the_causal_mask() {
        assert_eq!(
            first_hidden_state("causal", 7),
            first_hidden_state("causal", 8)
        );
        // One such layer suffices, wherever it is.
        for mode in [
            "bidirectional",
            "layers:0-0",
            "layers:1-1",
            "from:2",
            "groups:010",
        ] {
            let states = [7, 8].map(|last| first_hidden_state(mode, last));
            let pairs = states[0].iter().zip(&states[1]);
            let largest = pairs.fold(0.0f32, |max, (a, b)| max.max((a - b).abs()));
            assert!(largest > 1e-3, "{mode}: {largest}");
        }
    }

    #[test]
    fn a_text_has_the_same_logits_alone_and_among_others() {
        let (tiny, device) = (Tiny::with_head(), Device::flex());
        let mut model = tiny.classifier("causal", Task::Sequence(Pooling::Last), &device);
        // As wide as a real one: narrow products are summed in one piece.
        let mut normal = Normal::new(1);
        model.score.weight = Param::from_tensor(normal.next([577, LABELS], 1.0, &device));
        let hidden = normal.next([33, 577], 1.0, &device);
        let all = host_values(model.score(hidden.clone()));
        for (row, expected) in all.chunks(LABELS).enumerate() {
            let alone = model.score(hidden.clone().narrow(0, row, 1));
            assert_eq!(host_values(alone), expected, "{row}");
            if row > 0 {
                let two = host_values(model.score(hidden.clone().narrow(0, row - 1, 2)));
                assert_eq!(two[LABELS..], *expected, "{row}");
            }
        }
    }

    #[test]
    fn pooling_is_over_the_logits_of_a_rows_own_tokens() {
        for family in FAMILIES {
            let (tiny, device) = (Tiny::of(family).and_head(), Device::flex());
            let forward = |task| {
                let model = tiny.classifier("causal", task, &device);
                host_values(model.forward(&input(&tiny, &device)))
            };
            let tokens = forward(Task::Token { dropout: 0.0 });
            let mut rows = tokens.chunks(LABELS);
            let mut expected = [Vec::new(), Vec::new(), Vec::new()];
            for row in ROWS {
                let row: Vec<&[f32]> = rows.by_ref().take(row.len()).collect();
                expected[0].extend(row[row.len() - 1]);
                for label in 0..LABELS {
                    let logits = row.iter().map(|logits| logits[label]);
                    expected[1].push(logits.clone().sum::<f32>() / row.len() as f32);
                    expected[2].push(logits.fold(f32::NEG_INFINITY, f32::max));
                }
            }
            let poolings = [Pooling::Last, Pooling::Mean, Pooling::Max];
            for (pooling, expected) in poolings.into_iter().zip(expected) {
                assert_close(&forward(Task::Sequence(pooling)), &expected, 1e-5);
            }
        }
    }

    #[test]
    fn a_fresh_head_is_normal_with_the_configs_deviation_and_trains_alone() {
        let mut tiny = Tiny::with_head();
        tiny.config["initializer_range"] = serde_json::json!(0.05);
        let device = Device::flex().autodiff();
        let model = tiny
            .classifier("causal", Task::Sequence(Pooling::Last), &device)
            .model;
        let config = tiny.config();
        let many = 2000;
        for (task, has_bias) in [
            (Task::Sequence(Pooling::Mean), false),
            (Task::Token { dropout: 0.1 }, true),
        ] {
            let fresh = LlamaClassifier::new(model.clone(), &config, task, many, 7, &device);
            let weights = host_values(fresh.score.weight.val());
            let again = |seed| {
                // Whatever the device's generator has drawn.
                device.seed(seed + 1);
                let head = LlamaClassifier::new(model.clone(), &config, task, many, seed, &device);
                host_values(head.score.weight.val())
            };
            assert_eq!(again(7), weights);
            assert_ne!(again(8), weights);
            let n = weights.len() as f32;
            let std = (weights.iter().map(|w| w * w).sum::<f32>() / n).sqrt();
            // 20,000 draws: known to half a per cent.
            assert!((std / 0.05 - 1.0).abs() < 0.04, "{std}");
            assert_eq!(fresh.score.bias.is_some(), has_bias);
            if let Some(bias) = &fresh.score.bias {
                assert!(host_values(bias.val()).iter().all(|&b| b == 0.0));
            }
            let trainable = HIDDEN * many + if has_bias { many } else { 0 };
            assert_eq!(ls_lora::ParameterCount::of(&fresh).trainable, trainable);
        }
        tiny.config["token_classification_bias"] = serde_json::json!(false);
        let task = Task::Token { dropout: 0.1 };
        let fresh = LlamaClassifier::new(model, &tiny.config(), task, 2, 7, &device);
        assert!(fresh.score.bias.is_none());
    }

    #[test]
    fn head_dropout_acts_only_in_training() {
        let tiny = Tiny::with_head();
        let device = Device::flex().autodiff();
        let task = |dropout| Task::Token { dropout };
        let model = tiny.classifier("causal", task(0.5), &device).model;
        let classifier = |dropout| {
            let mut classifier = LlamaClassifier::new(
                model.clone(),
                &tiny.config(),
                task(dropout),
                LABELS,
                7,
                &device,
            );
            let weight = tiny.tensors["score.weight"].to_f32().unwrap();
            let data = TensorData::new(weight, [HIDDEN, LABELS]);
            classifier.score.weight =
                Param::from_tensor(Tensor::from_data(data, (&device, DType::F32)));
            classifier
        };
        // The frozen decoder's output is a plain tensor.
        let input = input(&tiny, &device);
        let without = host_values(classifier(0.0).forward(&input));
        assert_ne!(host_values(classifier(0.5).forward(&input)), without);
        assert_close(
            &host_values(classifier(0.5).valid().forward(&input)),
            &without,
            1e-6,
        );
    }

    /// A classifier with an adapter whose B is not zero, and the configuration.
    fn adapted(tiny: &Tiny, task: Task, device: &Device) -> (LlamaClassifier, LoraConfig) {
        let model = tiny.classifier("causal", task, device).model;
        let mut classifier = LlamaClassifier::new(model, &tiny.config(), task, LABELS, 7, device);
        let config = LoraConfig::new(2, 6.0)
            .with_target_modules(TargetModules::AllLinear)
            .with_task_type(task.task_type());
        assert_eq!(
            add_adapter(&mut classifier, ADAPTER, &config, 7, device)
                .unwrap()
                .len(),
            21
        );
        let mut normal = Normal::new(3);
        for (_, layer) in classifier.layers_mut() {
            for lora in layer.adapters_mut() {
                let shape = lora.lora_b.val().dims();
                lora.lora_b = Param::from_tensor(normal.next(shape, 0.3, device));
            }
        }
        (classifier, config)
    }

    #[test]
    fn an_adapter_with_its_head_survives_its_folder() {
        let (tiny, device) = (Tiny::with_head(), Device::flex());
        for task in [Task::Sequence(Pooling::Max), Task::Token { dropout: 0.1 }] {
            let (classifier, config) = adapted(&tiny, task, &device);
            let expected = host_values(classifier.forward(&input(&tiny, &device)));
            let dir = tempfile::tempdir().unwrap();
            classifier.to_adapter(&config).save(dir.path()).unwrap();
            let adapter = PeftAdapter::load(dir.path()).unwrap();
            let base = tiny.classifier("causal", task, &device).model;
            let again = LlamaClassifier::with_adapter(
                base,
                &tiny.config(),
                task,
                &adapter,
                dir.path(),
                &device,
            )
            .unwrap();
            assert_eq!(host_values(again.forward(&input(&tiny, &device))), expected);

            let (merged, _) = LoraModel::new(again).merge_and_unload().unwrap();
            assert!(
                merged
                    .layers()
                    .iter()
                    .all(|(_, layer)| layer.adapters().is_empty())
            );
            // 21 products of adapted weights, each rounded differently.
            assert_close(
                &host_values(merged.forward(&input(&tiny, &device))),
                &expected,
                1e-4,
            );
        }
    }

    #[test]
    fn a_head_that_is_not_the_tasks_is_refused() {
        let (tiny, device) = (Tiny::with_head(), Device::flex());
        let (sequence, token) = (Task::Sequence(Pooling::Last), Task::Token { dropout: 0.1 });
        let check = |made_for: Task, task: Task, spoil: &dyn Fn(&mut PeftAdapter), part: &str| {
            let (classifier, config) = adapted(&tiny, made_for, &device);
            let mut adapter = classifier.to_adapter(&config);
            spoil(&mut adapter);
            let dir = Path::new("adapter");
            let base = tiny.classifier("causal", task, &device).model;
            let error =
                LlamaClassifier::with_adapter(base, &tiny.config(), task, &adapter, dir, &device);
            let error = error.unwrap_err().to_string();
            assert!(error.contains(part), "{error} / {part}");
        };
        check(token, sequence, &|_| (), "TOKEN_CLS");
        check(sequence, token, &|_| (), "SEQ_CLS");
        // An adapter that does not say its task is known by the bias of its head.
        check(
            token,
            sequence,
            &|adapter| adapter.config.task_type = None,
            "TOKEN_CLS",
        );
        let tensor = |shape: &[usize]| {
            let n: usize = shape.iter().product();
            HostTensor::from_f32(shape, &vec![0.5; n])
        };
        let put = |name: &'static str, shape: &'static [usize]| {
            move |adapter: &mut PeftAdapter| {
                adapter.saved_modules.insert(name.into(), tensor(shape));
            }
        };
        check(
            sequence,
            sequence,
            &put("score.weight", &[LABELS, HIDDEN + 1]),
            "score.weight",
        );
        check(
            sequence,
            sequence,
            &put("score.weight", &[0, HIDDEN]),
            "score.weight",
        );
        check(
            token,
            token,
            &put("score.bias", &[LABELS + 1]),
            "score.bias",
        );
        check(
            sequence,
            sequence,
            &put("lm_head.weight", &[LABELS, HIDDEN]),
            "lm_head.weight",
        );
        check(
            sequence,
            sequence,
            &|adapter| adapter.saved_modules.clear(),
            "score.weight",
        );
    }

    #[test]
    fn the_references_name_of_the_head_is_read() {
        let (tiny, device) = (Tiny::with_head(), Device::flex());
        let task = Task::Token { dropout: 0.1 };
        let (classifier, config) = adapted(&tiny, task, &device);
        let expected = host_values(classifier.forward(&input(&tiny, &device)));
        let mut adapter = classifier.to_adapter(&config);
        adapter.saved_modules = adapter
            .saved_modules
            .into_iter()
            .map(|(name, tensor)| (name.replace("score", "classifier"), tensor))
            .collect();
        let dir = Path::new("adapter");
        let again = LlamaClassifier::with_adapter(
            tiny.classifier("causal", task, &device).model,
            &tiny.config(),
            task,
            &adapter,
            dir,
            &device,
        )
        .unwrap();
        assert_eq!(host_values(again.forward(&input(&tiny, &device))), expected);
    }
}
