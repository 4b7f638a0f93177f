//! [`RunConfig`]: everything a run is made of, as TOML.
//!
//! A file is merged over the defaults, `key=value` overrides over the file, and the result is checked as a whole: all
//! faults are reported together, before any weight is read. What was resolved is written to the run folder.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use ls_data::catalog::{self, DatasetSpec};
use ls_data::{
    ColumnRef, Context, FileFormat, InputLimits, LabelPosition, LongInputs, Malformed, PaddingMode,
    PaddingSide, TagScheme, TaskKind,
};
use ls_files::nearest;
use ls_lora::{Bias, InitLoraWeights, LoraConfig, Quantization, TargetModules};
use ls_model::{AttentionMode, ComputeType, Pooling, Precision};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::error::{Result, TrainError};
use crate::evaluate::Scores;

/// A run: model, adapter, data and training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// What is labelled.
    pub task: TaskKind,
    /// Folder for everything the run leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<PathBuf>,
    /// The pretrained model and its head.
    pub model: ModelSettings,
    /// The adapter.
    #[serde(default)]
    pub lora: LoraSettings,
    /// The examples.
    pub data: DataSettings,
    /// The training loop.
    #[serde(default)]
    pub train: TrainSettings,
}

/// The pretrained model and its head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// Hugging Face folder.
    pub path: PathBuf,
    /// `causal`, `bidirectional`, `from:16`, `layers:0-7,24-31` or `groups:0011`; by default what the checkpoint's
    /// `is_causal` says, which is causal where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<AttentionMode>,
    /// `last`, `mean` or `max`; by default `last` for causal attention and `mean` otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Element type of the frozen weights, and off the CPU of the activations: `f32` or `bf16`.
    #[serde(default = "default_dtype")]
    pub dtype: ComputeType,
    /// Packs the frozen weights of the linear layers (QLoRA): `nf4` for 4 bits a value, `int8` for 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    /// Dropout before a token head; by default `classifier_dropout` of config.json, else 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classifier_dropout: Option<f64>,
}

/// The adapter, in PEFT's names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraSettings {
    /// Rank.
    pub r: usize,
    /// Numerator of the scaling.
    pub lora_alpha: f64,
    /// Dropout on the adapter's input.
    pub lora_dropout: f64,
    /// A list of names, one regular expression, or `all-linear`.
    pub target_modules: TargetModules,
    /// Scaling `lora_alpha / sqrt(r)` instead of `lora_alpha / r`.
    pub use_rslora: bool,
    /// Train the length of each column of a weight by itself (DoRA).
    pub use_dora: bool,
    /// `default` (Kaiming uniform), `gaussian`, `orthogonal`, `pissa`, `pissa_niter_4` (any number) or `olora`.
    pub init_lora_weights: InitLoraWeights,
    /// Biases of the base that train: `none`, `lora_only` (those of adapted layers) or `all`.
    pub bias: Bias,
    /// Modules that train in full beside the head, by the end of their name.
    pub modules_to_save: Vec<String>,
}

impl ModelSettings {
    /// How the frozen weights are held.
    pub fn precision(&self) -> Precision {
        Precision {
            compute: self.dtype,
            quantization: self.quantization,
        }
    }
}

impl Default for LoraSettings {
    fn default() -> Self {
        Self {
            r: 12,
            lora_alpha: 32.0,
            lora_dropout: 0.1,
            target_modules: TargetModules::list(["q_proj", "v_proj"]),
            use_rslora: false,
            use_dora: false,
            init_lora_weights: InitLoraWeights::Default,
            bias: Bias::None,
            modules_to_save: Vec::new(),
        }
    }
}

impl LoraSettings {
    /// The configuration for ls-lora.
    pub fn config(&self) -> LoraConfig {
        let mut config = LoraConfig::new(self.r, self.lora_alpha);
        config.lora_dropout = self.lora_dropout;
        config.use_rslora = self.use_rslora;
        config.target_modules = self.target_modules.clone();
        config.use_dora = self.use_dora;
        config.init_lora_weights = self.init_lora_weights;
        config.bias = self.bias;
        config.modules_to_save.clone_from(&self.modules_to_save);
        config
    }

    /// Each field on its own, so that one fault does not hide another.
    fn faults(&self) -> Vec<String> {
        let default = Self::default;
        let fields = [
            Self {
                r: self.r,
                ..default()
            },
            Self {
                lora_alpha: self.lora_alpha,
                ..default()
            },
            Self {
                lora_dropout: self.lora_dropout,
                ..default()
            },
            Self {
                target_modules: self.target_modules.clone(),
                ..default()
            },
        ];
        let fault = |settings: &Self| settings.config().validate().err();
        let faults = fields.iter().filter_map(fault);
        let mut faults: Vec<String> = faults.map(|error| format!("lora: {error}")).collect();
        if faults.is_empty() {
            faults.extend(fault(self).map(|error| format!("lora: {error}")));
        }
        faults
    }
}

/// How scores are taken. Every report names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Every word is scored, spans as conlleval and seqeval count them, and the split that is reported has no part in choosing
    /// the checkpoint; where only a validation split is given, it does both, and the report says so.
    #[default]
    Strict,
    /// As the published code of arXiv 2310.01208 measures: the reported split also chooses the checkpoint, inputs are cut at
    /// `max_length` (64 sub-words unless set; 200 for amazon_reviews_multi), words beyond it are not scored, only the first
    /// word of an OntoNotes entity has a tag, and models without the causal mask attend to padding.
    ///
    /// One thing stays: a lone `▁` before a word is no sub-word of it here. In the reference it carries the label of a word that
    /// it stands before (in LLaMA 2's vocabulary, of numbers).
    Paper,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::Paper => "paper",
        })
    }
}

/// One file, or several that follow each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a path or a list of paths")]
pub enum Files {
    /// One.
    One(PathBuf),
    /// Several.
    Several(Vec<PathBuf>),
}

impl Files {
    /// Their paths.
    pub fn paths(&self) -> &[PathBuf] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Several(paths) => paths,
        }
    }

    /// Their paths, to change.
    pub fn paths_mut(&mut self) -> &mut [PathBuf] {
        match self {
            Self::One(path) => std::slice::from_mut(path),
            Self::Several(paths) => paths,
        }
    }
}

/// The examples: a known data set by its name, or files with their columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    /// A data set by its name (`sst2`, `conll03`, ...), in any of the forms that people have it in. It brings its own
    /// splits, columns and labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// Its folder; by default `datasets/` and its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Its language, where it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// How scores are taken: `strict` or `paper`.
    #[serde(default)]
    pub protocol: Protocol,
    /// Examples to learn from: a file, or a list of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<Files>,
    /// Examples that choose the best epoch; by default a part of `train` is set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Files>,
    /// Examples that are scored once, at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Files>,
    /// Part of `train` that is set aside where there is no `validation`.
    #[serde(default = "default_validation_fraction")]
    pub validation_fraction: f64,
    /// `csv`, `tsv`, `jsonl`, `conll`, `conll2012`, `fasttext`, `trees` or `parquet`; by default from the file's ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Whether the first line of a CSV or TSV file names the columns.
    #[serde(default = "yes")]
    pub header: bool,
    /// Column of the text.
    #[serde(default = "default_text")]
    pub text: ColumnRef,
    /// Columns that are joined to the text, each behind a space: a description behind its title.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub text_append: Vec<ColumnRef>,
    /// Column of a second text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_pair: Option<ColumnRef>,
    /// Column of the label.
    #[serde(default = "default_label")]
    pub label: ColumnRef,
    /// The integer that stands for the first of `labels`.
    #[serde(default)]
    pub first_label: i64,
    /// Column (CoNLL) or key (JSONL) of the words; by default the first column, or `tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<ColumnRef>,
    /// Column (CoNLL) or key (JSONL) of the tags; by default the last column, or `tags` or `ner_tags`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<ColumnRef>,
    /// Label names in order; integers in the data count into this list. By default they are collected from `train`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// Scheme of the tags in the files: `iob1`, `iob2`, `ioe1`, `ioe2`, `iobes` or `bilou`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<TagScheme>,
    /// Scheme that tags are rewritten in before they are labels; by default they stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_scheme: Option<TagScheme>,
    /// What happens, where a scheme is known, to tags that it does not allow: `refuse`, or `repair` (as conlleval reads them),
    /// which known data sets need: the published WNUT 17 has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub malformed: Option<Malformed>,
    /// Whether rows that cannot be used are passed over (and listed) rather than an error.
    #[serde(default)]
    pub skip_bad_rows: bool,
    /// Longest input in sub-word tokens; by default 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// What happens to longer ones: `window` (taggers' default; nothing is lost), `truncate` (keep the beginning; texts'
    /// default), and for texts `tail` (keep the end) and `head_tail`. What is cut is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_inputs: Option<LongInputs>,
    /// Tokens that neighbouring windows share; by default a quarter of a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
    /// Which sub-word of a word carries its tag: `first`, `last` or `all`.
    #[serde(default = "default_label_position")]
    pub label_position: LabelPosition,
    /// `masked`, or `attended`: the reference's unmasked models attend to padding and pool over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<PaddingMode>,
    /// `right` or `left`.
    #[serde(default = "default_padding_side")]
    pub padding_side: PaddingSide,
    /// Pad every batch to this length, as the reference does with 64; by default to the longest of the batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad_to: Option<usize>,
    /// Whether large files are encoded once and found again by later runs (in `LS_LLAMA_CACHE`, else `~/.cache/ls-llama`).
    #[serde(default = "yes")]
    pub cache: bool,
}

impl DataSettings {
    /// Default columns, for inputs that belong to no run.
    pub fn columns_only() -> Self {
        Self {
            dataset: None,
            dir: None,
            language: None,
            protocol: Protocol::Strict,
            train: None,
            validation: None,
            test: None,
            validation_fraction: default_validation_fraction(),
            format: None,
            header: true,
            text: default_text(),
            text_append: Vec::new(),
            text_pair: None,
            label: default_label(),
            first_label: 0,
            tokens: None,
            tags: None,
            labels: None,
            scheme: None,
            train_scheme: None,
            malformed: None,
            skip_bad_rows: false,
            max_length: None,
            long_inputs: None,
            stride: None,
            label_position: default_label_position(),
            padding: None,
            padding_side: default_padding_side(),
            pad_to: None,
            cache: true,
        }
    }

    /// The known data set that is named, if one is and it can be used.
    pub fn known(&self) -> Option<Cow<'static, DatasetSpec>> {
        catalog::get(self.dataset.as_deref()?).ok()
    }
}

/// How an input that is longer than its limit is treated where nothing is said.
pub fn default_long_inputs(task: TaskKind) -> LongInputs {
    match task {
        TaskKind::Sequence => LongInputs::Truncate,
        TaskKind::Token => LongInputs::Window,
    }
}

/// Where context counts under an attention mode.
pub fn context(attention: &AttentionMode) -> Context {
    match attention {
        AttentionMode::Causal => Context::Left,
        _ => Context::Both,
    }
}

/// Learning rate over the steps, by Hugging Face's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LrScheduler {
    /// Down to zero in a straight line.
    Linear,
    /// Down to zero in half a cosine.
    Cosine,
    /// Unchanged.
    Constant,
}

/// The training loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSettings {
    /// Fixes order, initial weights and dropout.
    pub seed: u64,
    /// Passes over `data.train`.
    pub epochs: usize,
    /// Inputs of one forward pass: examples, or windows of long ones.
    pub micro_batch_size: usize,
    /// Forward passes of one optimizer step.
    pub gradient_accumulation_steps: usize,
    /// Compute each block again in the backward pass: less memory, more time, the same gradients.
    pub gradient_checkpointing: bool,
    /// Inputs of one evaluation pass.
    pub eval_batch_size: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Learning rate over the steps.
    pub lr_scheduler: LrScheduler,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// The same as a part of all steps; `warmup_steps` wins.
    pub warmup_ratio: f64,
    /// AdamW's decoupled weight decay, on everything but biases and the scales of norms.
    pub weight_decay: f64,
    /// AdamW.
    pub adam_beta1: f64,
    /// AdamW.
    pub adam_beta2: f64,
    /// AdamW.
    pub adam_epsilon: f64,
    /// Learning rate of the adapters' B over that of their A (LoRA+); by default they are the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loraplus_lr_ratio: Option<f64>,
    /// Limit of the norm over all gradients; 0 for none.
    pub max_grad_norm: f64,
    /// Batches of similar lengths.
    pub group_by_length: bool,
    /// Evaluate every so many steps; by default after every epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_steps: Option<usize>,
    /// What the best checkpoint is best at: a key of the scores, or `loss`. By default `accuracy` or `span_f1_micro`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric_for_best_model: Option<String>,
    /// Stop after so many evaluations without a better one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping_patience: Option<usize>,
    /// Also score the majority class and a head on the frozen backbone.
    pub baselines: bool,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            seed: 42,
            epochs: 3,
            micro_batch_size: 8,
            gradient_accumulation_steps: 1,
            gradient_checkpointing: false,
            eval_batch_size: 32,
            learning_rate: 1e-4,
            lr_scheduler: LrScheduler::Linear,
            warmup_steps: 0,
            warmup_ratio: 0.0,
            weight_decay: 0.01,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            loraplus_lr_ratio: None,
            max_grad_norm: 1.0,
            group_by_length: true,
            eval_steps: None,
            metric_for_best_model: None,
            early_stopping_patience: None,
            baselines: false,
        }
    }
}

fn default_dtype() -> ComputeType {
    ComputeType::F32
}
fn default_validation_fraction() -> f64 {
    0.1
}
fn yes() -> bool {
    true
}
fn default_text() -> ColumnRef {
    ColumnRef::Name("text".into())
}
fn default_label() -> ColumnRef {
    ColumnRef::Name("label".into())
}
fn default_label_position() -> LabelPosition {
    LabelPosition::First
}
fn default_padding_side() -> PaddingSide {
    PaddingSide::Right
}

/// Every key of the file by its table. A test keeps the list equal to the structs.
const KEYS: &[(&str, &[&str])] = &[
    ("", &["task", "run", "model", "lora", "data", "train"]),
    (
        "model",
        &[
            "path",
            "attention",
            "pooling",
            "dtype",
            "quantization",
            "classifier_dropout",
        ],
    ),
    (
        "lora",
        &[
            "r",
            "lora_alpha",
            "lora_dropout",
            "target_modules",
            "use_rslora",
            "use_dora",
            "init_lora_weights",
            "bias",
            "modules_to_save",
        ],
    ),
    (
        "data",
        &[
            "dataset",
            "dir",
            "language",
            "protocol",
            "train",
            "validation",
            "test",
            "validation_fraction",
            "format",
            "header",
            "text",
            "text_append",
            "text_pair",
            "label",
            "first_label",
            "tokens",
            "tags",
            "labels",
            "scheme",
            "train_scheme",
            "malformed",
            "skip_bad_rows",
            "max_length",
            "long_inputs",
            "stride",
            "label_position",
            "padding",
            "padding_side",
            "pad_to",
            "cache",
        ],
    ),
    (
        "train",
        &[
            "seed",
            "epochs",
            "micro_batch_size",
            "gradient_accumulation_steps",
            "gradient_checkpointing",
            "eval_batch_size",
            "learning_rate",
            "lr_scheduler",
            "warmup_steps",
            "warmup_ratio",
            "weight_decay",
            "adam_beta1",
            "adam_beta2",
            "adam_epsilon",
            "loraplus_lr_ratio",
            "max_grad_norm",
            "group_by_length",
            "eval_steps",
            "metric_for_best_model",
            "early_stopping_patience",
            "baselines",
        ],
    ),
];

impl RunConfig {
    /// Reads a file and applies `key=value` overrides (`train.learning_rate=1e-3`).
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or with all faults found in it.
    pub fn from_file(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = ls_files::read_text(path).map_err(TrainError::ConfigFile)?;
        Self::from_toml(&text, &path.display().to_string(), overrides)
    }

    /// Parses TOML text; `origin` names it in messages.
    ///
    /// # Errors
    ///
    /// With all faults found.
    pub fn from_toml(text: &str, origin: &str, overrides: &[String]) -> Result<Self> {
        let fail = |faults: Vec<String>| TrainError::Config {
            origin: origin.into(),
            faults,
        };
        let mut table: Table =
            ls_files::parse_toml(text, Path::new(origin)).map_err(TrainError::ConfigFile)?;
        let mut faults = Vec::new();
        for assignment in overrides {
            if let Err(fault) = assign(&mut table, assignment) {
                faults.push(fault);
            }
        }
        faults.extend(unknown_keys(&table));
        if !faults.is_empty() {
            return Err(fail(faults));
        }
        // Table by table, so that a wrong type in one does not hide those of another.
        let config: Self = match Value::Table(table.clone()).try_into() {
            Ok(config) => config,
            Err(error) => return Err(fail(type_faults(&table, &error))),
        };
        let faults = config.faults();
        if faults.is_empty() {
            Ok(config)
        } else {
            Err(fail(faults))
        }
    }

    /// The configuration as TOML.
    ///
    /// # Errors
    ///
    /// If a path is not Unicode or a number is past TOML's range.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| TrainError::Config {
            origin: "the configuration cannot be written".into(),
            faults: vec![error.to_string()],
        })
    }

    /// Pooling of a sequence: as set, else by the attention mode.
    pub fn pooling(&self) -> Pooling {
        let causal = matches!(self.model.attention, None | Some(AttentionMode::Causal));
        self.model
            .pooling
            .unwrap_or(if causal { Pooling::Last } else { Pooling::Mean })
    }

    /// Fills in what the protocol and the data set decide where the file says nothing, so that the resolved configuration
    /// says it all.
    pub fn resolve(&mut self) {
        let paper = self.data.protocol == Protocol::Paper;
        let max_length = match (paper, self.data.known()) {
            (true, Some(known)) => known.paper_max_length,
            (true, None) => 64,
            (false, _) => 256,
        };
        let max_length = *self.data.max_length.get_or_insert(max_length);
        self.data.long_inputs.get_or_insert(if paper {
            LongInputs::Truncate
        } else {
            default_long_inputs(self.task)
        });
        let causal = matches!(self.model.attention, None | Some(AttentionMode::Causal));
        let padding = self.data.padding.get_or_insert(if paper && !causal {
            PaddingMode::Attended
        } else {
            PaddingMode::Masked
        });
        if paper && *padding == PaddingMode::Attended {
            self.data.pad_to.get_or_insert(max_length);
        }
    }

    /// Longest input and what happens to longer ones. [`RunConfig::resolve`] has filled them in.
    pub fn limits(&self, attention: &AttentionMode) -> InputLimits {
        InputLimits {
            max_length: self.data.max_length.unwrap_or(256),
            long_inputs: self
                .data
                .long_inputs
                .unwrap_or(default_long_inputs(self.task)),
            stride: self.data.stride,
            context: context(attention),
        }
    }

    /// The metric of the best checkpoint: as set, else by the task.
    pub fn metric(&self) -> &str {
        let default = match self.task {
            TaskKind::Sequence => "accuracy",
            TaskKind::Token => "span_f1_micro",
        };
        self.train
            .metric_for_best_model
            .as_deref()
            .unwrap_or(default)
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |ok: bool, fault: String| {
            if !ok {
                faults.push(fault);
            }
        };
        let train = &self.train;
        for (name, value) in [
            ("train.epochs", train.epochs),
            ("train.micro_batch_size", train.micro_batch_size),
            (
                "train.gradient_accumulation_steps",
                train.gradient_accumulation_steps,
            ),
            ("train.eval_batch_size", train.eval_batch_size),
            ("data.max_length", self.data.max_length.unwrap_or(1)),
        ] {
            check(value > 0, format!("{name}: expected at least 1, found 0"));
        }
        for (name, value) in [
            ("train.eval_steps", train.eval_steps),
            (
                "train.early_stopping_patience",
                train.early_stopping_patience,
            ),
            ("data.pad_to", self.data.pad_to),
        ] {
            check(
                value != Some(0),
                format!("{name}: expected at least 1, found 0"),
            );
        }
        for (name, value) in [
            ("train.learning_rate", train.learning_rate),
            ("train.adam_epsilon", train.adam_epsilon),
        ] {
            check(
                value.is_finite() && value > 0.0,
                format!("{name}: expected a number over 0, found {value}"),
            );
        }
        for (name, value) in [
            ("train.weight_decay", train.weight_decay),
            ("train.max_grad_norm", train.max_grad_norm),
        ] {
            check(
                value.is_finite() && value >= 0.0,
                format!("{name}: expected 0 or more, found {value}"),
            );
        }
        for (name, value) in [
            ("train.adam_beta1", train.adam_beta1),
            ("train.adam_beta2", train.adam_beta2),
            ("train.warmup_ratio", train.warmup_ratio),
            (
                "model.classifier_dropout",
                self.model.classifier_dropout.unwrap_or(0.0),
            ),
        ] {
            check(
                (0.0..1.0).contains(&value),
                format!("{name}: expected 0 or more and under 1, found {value}"),
            );
        }
        if let Some(ratio) = train.loraplus_lr_ratio {
            check(
                ratio.is_finite() && ratio >= 1.0,
                format!("train.loraplus_lr_ratio: expected 1 or more, found {ratio}"),
            );
        }
        let known = self.data.known();
        match (&self.data.dataset, known) {
            (Some(name), None) => {
                let unknown = catalog::get(name).err();
                let fault = unknown.map(|error| error.to_string()).unwrap_or_default();
                check(false, format!("data.dataset: {fault}"));
            }
            (Some(_), Some(known)) => {
                let files = [&self.data.train, &self.data.validation, &self.data.test];
                check(
                    files.iter().all(|files| files.is_none()),
                    "data.train, data.validation, data.test: data.dataset names the files; leave one or the other out"
                        .into(),
                );
                check(
                    known.task == self.task,
                    format!(
                        "task: {} is labelled by {}, not by {}",
                        known.name, known.task, self.task
                    ),
                );
                if let Some(language) = &self.data.language
                    && let Err(fault) = known.language(Some(language))
                {
                    check(false, format!("data.language: {fault}"));
                }
            }
            (None, _) => {
                check(
                    self.data.train.is_some(),
                    "data.train: missing; name a file, or a data set in data.dataset".into(),
                );
                check(
                    self.data.dir.is_none() && self.data.language.is_none(),
                    "data.dir, data.language: are of a data set that data.dataset names".into(),
                );
            }
        }
        for (name, files) in [
            ("data.train", &self.data.train),
            ("data.validation", &self.data.validation),
            ("data.test", &self.data.test),
        ] {
            let empty = files.as_ref().is_some_and(|files| files.paths().is_empty());
            check(!empty, format!("{name}: is an empty list"));
        }
        if let (Some(stride), Some(max_length)) = (self.data.stride, self.data.max_length) {
            check(
                stride < max_length,
                format!("data.stride: {stride} is not under data.max_length {max_length}"),
            );
        }
        if let Some(long) = self.data.long_inputs {
            let words = self.task == TaskKind::Token;
            check(
                !words || matches!(long, LongInputs::Window | LongInputs::Truncate),
                "data.long_inputs: a tagger reads long inputs in windows (window) or cuts their end (truncate)"
                    .into(),
            );
            check(
                long != LongInputs::Window || self.data.text_pair.is_none(),
                "data.long_inputs: pairs of texts are cut (truncate, tail or head_tail), not read in windows"
                    .into(),
            );
        }
        if self.data.protocol == Protocol::Paper {
            let cut = matches!(self.data.long_inputs, None | Some(LongInputs::Truncate));
            check(
                cut,
                "data.long_inputs: the protocol paper cuts the end (truncate); leave it out, or use the protocol strict"
                    .into(),
            );
        }
        if self.task == TaskKind::Sequence {
            check(
                self.data.scheme.is_none() && self.data.train_scheme.is_none(),
                "data.scheme, data.train_scheme: are of tags, and this task labels whole texts"
                    .into(),
            );
        }
        if self.data.validation.is_none() {
            let fraction = self.data.validation_fraction;
            let fault =
                format!("data.validation_fraction: expected over 0 and under 1, found {fraction}");
            check(fraction > 0.0 && fraction < 1.0, fault);
        }
        if let Some(format) = &self.data.format {
            let known: Vec<&str> = FileFormat::ALL.iter().map(|format| format.name()).collect();
            let fault = format!(
                "data.format: expected one of {}, found {format:?}",
                known.join(", ")
            );
            check(known.contains(&format.as_str()), fault);
        }
        if self.data.padding == Some(PaddingMode::Attended) {
            let right = self.data.padding_side == PaddingSide::Right;
            check(
                right,
                "data.padding_side: attended padding stands on the right, as in the reference"
                    .into(),
            );
        }
        if let Some(pad_to) = self.data.pad_to {
            let max_length = self.data.max_length.unwrap_or(pad_to);
            let fault = format!("data.pad_to: {pad_to} is under data.max_length {max_length}");
            check(pad_to >= max_length, fault);
        }
        if let Some(labels) = &self.data.labels {
            let mut seen = std::collections::BTreeSet::new();
            check(!labels.is_empty(), "data.labels: is empty".into());
            for label in labels {
                check(
                    seen.insert(label),
                    format!("data.labels: {label:?} stands twice"),
                );
            }
        }
        if self.task == TaskKind::Token {
            check(
                self.model.pooling.is_none(),
                "model.pooling: a token task does not pool".into(),
            );
        }
        let known = Scores::metrics(self.task);
        if !known.contains(&self.metric()) {
            faults.push(format!(
                "train.metric_for_best_model: unknown metric {:?} for this task (known: {})",
                self.metric(),
                known.join(", ")
            ));
        }
        faults.extend(self.column_faults());
        faults.extend(self.lora.faults());
        faults
    }

    /// Words and tags stand in numbered columns of CoNLL files and under names in JSON objects.
    fn column_faults(&self) -> Vec<String> {
        let data = &self.data;
        let format = match &data.format {
            Some(name) => FileFormat::from_name(name),
            None => {
                let first = data.train.as_ref().and_then(|train| train.paths().first());
                first.and_then(|path| FileFormat::from_path(path).ok())
            }
        };
        let fault = |(key, column): (&str, &Option<ColumnRef>)| match (format, column) {
            (Some(FileFormat::Conll), Some(ColumnRef::Name(name))) => Some(format!(
                "{key}: the columns of CoNLL files are numbers, from 0; found {name:?}"
            )),
            (Some(FileFormat::Jsonl), Some(ColumnRef::Index(index))) => Some(format!(
                "{key}: JSON objects have keys, not columns; found {index}"
            )),
            _ => None,
        };
        let columns = [("data.tokens", &data.tokens), ("data.tags", &data.tags)];
        match self.task {
            TaskKind::Token => columns.into_iter().filter_map(fault).collect(),
            TaskKind::Sequence => Vec::new(),
        }
    }
}

/// Sets one dotted key. The value is read as TOML, or as a string where that fails.
fn assign(table: &mut Table, assignment: &str) -> Result<(), String> {
    let Some((key, value)) = assignment.split_once('=') else {
        return Err(format!("{assignment:?}: expected key=value"));
    };
    let (key, value) = (key.trim(), value.trim());
    let parsed = format!("value = {value}")
        .parse::<Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(value.to_string()));
    let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
    let target = if section.is_empty() {
        table
    } else {
        match table
            .entry(section)
            .or_insert_with(|| Value::Table(Table::new()))
        {
            Value::Table(target) => target,
            _ => return Err(format!("{section}: is not a table")),
        }
    };
    target.insert(name.to_string(), parsed);
    Ok(())
}

fn unknown_keys(table: &Table) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |section: &str, keys: &Table| {
        let Some((_, known)) = KEYS.iter().find(|(name, _)| *name == section) else {
            return;
        };
        for key in keys.keys().filter(|key| !known.contains(&key.as_str())) {
            let path = |section: &str, key: &str| {
                if section.is_empty() {
                    key.to_string()
                } else {
                    format!("{section}.{key}")
                }
            };
            // The same key in another table is likelier meant than a similar one in this.
            let elsewhere = KEYS
                .iter()
                .find(|(_, keys)| keys.contains(&key.as_str()))
                .map(|(name, _)| path(name, key));
            let similar = |tables: &[(&str, &[&str])]| {
                let known = tables.iter().flat_map(|(_, keys)| keys.iter().copied());
                let name = nearest(key, known)?;
                let (table, _) = tables.iter().find(|(_, keys)| keys.contains(&&*name))?;
                Some(path(table, &name))
            };
            let hint = elsewhere
                .or_else(|| similar(&[(section, known)]))
                .or_else(|| similar(KEYS))
                .map(|name| format!(", did you mean {name}?"))
                .unwrap_or_default();
            faults.push(format!("unknown key {}{hint}", path(section, key)));
        }
    };
    check("", table);
    for (section, value) in table {
        if let Value::Table(keys) = value {
            check(section, keys);
        }
    }
    faults
}

/// Each table on its own, so that faults in several are all reported.
fn type_faults(table: &Table, whole: &toml::de::Error) -> Vec<String> {
    fn fault<T: for<'de> Deserialize<'de>>(table: &Table, section: &str) -> Option<String> {
        let value = table.get(section)?.clone();
        let error = value.try_into::<T>().err()?;
        Some(format!(
            "{section}: {}",
            error.to_string().trim().replace('\n', " ")
        ))
    }
    let faults: Vec<String> = [
        fault::<TaskKind>(table, "task"),
        fault::<PathBuf>(table, "run"),
        fault::<ModelSettings>(table, "model"),
        fault::<LoraSettings>(table, "lora"),
        fault::<DataSettings>(table, "data"),
        fault::<TrainSettings>(table, "train"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if faults.is_empty() {
        vec![whole.to_string().trim().replace('\n', " ")]
    } else {
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "task = 'sequence'\nmodel.path = 'm'\ndata.train = 'train.csv'\n";

    fn check_fault(text: &str, overrides: &[&str], expected: &[&str]) {
        let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
        let error = RunConfig::from_toml(text, "run.toml", &overrides)
            .unwrap_err()
            .to_string();
        for part in expected {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }

    #[test]
    fn the_key_list_is_that_of_the_structs() {
        let full = RunConfig {
            run: Some("r".into()),
            model: ModelSettings {
                path: "m".into(),
                attention: Some(AttentionMode::Causal),
                pooling: Some(Pooling::Last),
                dtype: ComputeType::F32,
                quantization: Some(Quantization::Nf4),
                classifier_dropout: Some(0.1),
            },
            data: DataSettings {
                dataset: Some("sst2".into()),
                dir: Some("d".into()),
                language: Some("en".into()),
                validation: Some(Files::One("v".into())),
                test: Some(Files::Several(vec!["t".into(), "u".into()])),
                scheme: Some(TagScheme::Iob1),
                train_scheme: Some(TagScheme::Iobes),
                malformed: Some(Malformed::Repair),
                max_length: Some(64),
                long_inputs: Some(LongInputs::Window),
                stride: Some(8),
                padding: Some(PaddingMode::Masked),
                format: Some("csv".into()),
                text_append: vec![ColumnRef::Index(2)],
                text_pair: Some(ColumnRef::Index(1)),
                tokens: Some(ColumnRef::Index(0)),
                tags: Some(ColumnRef::Index(1)),
                labels: Some(vec!["a".into()]),
                pad_to: Some(64),
                ..RunConfig::from_toml(MINIMAL, "", &[]).unwrap().data
            },
            train: TrainSettings {
                loraplus_lr_ratio: Some(16.0),
                eval_steps: Some(1),
                metric_for_best_model: Some("loss".into()),
                early_stopping_patience: Some(1),
                ..TrainSettings::default()
            },
            ..RunConfig::from_toml(MINIMAL, "", &[]).unwrap()
        };
        let table: Table = full.to_toml().unwrap().parse().unwrap();
        for (section, keys) in KEYS {
            let table = if section.is_empty() {
                &table
            } else {
                table[*section].as_table().unwrap()
            };
            let mut found: Vec<&str> = table.keys().map(String::as_str).collect();
            let mut listed = keys.to_vec();
            found.sort_unstable();
            listed.sort_unstable();
            assert_eq!(found, listed, "[{section}]");
        }
    }

    #[test]
    fn a_resolved_config_reads_back_the_same() {
        let config =
            RunConfig::from_toml(MINIMAL, "", &["model.attention=groups:0110".into()]).unwrap();
        assert_eq!(
            RunConfig::from_toml(&config.to_toml().unwrap(), "", &[]).unwrap(),
            config
        );
    }

    #[test]
    fn overrides_are_toml_or_else_text() {
        let set = [
            "train.learning_rate=1e-3",
            "lora.target_modules=[\"q_proj\"]",
            "model.attention=from:2",
            "data.label=1",
        ];
        let set: Vec<String> = set.iter().map(|text| text.to_string()).collect();
        let config = RunConfig::from_toml(MINIMAL, "", &set).unwrap();
        assert_eq!(config.train.learning_rate, 1e-3);
        assert_eq!(config.lora.target_modules, TargetModules::list(["q_proj"]));
        assert_eq!(config.model.attention, Some(AttentionMode::From(2)));
        assert_eq!(config.data.label, ColumnRef::Index(1));
    }

    #[test]
    fn faults_are_reported_together_with_the_nearest_key() {
        let text = format!("{MINIMAL}train.learning_rat = 1e-3\ntrain.max_length = 3\nmodle = 1\n");
        let expected = [
            "train.learning_rat, did you mean train.learning_rate?",
            "did you mean data.max_length?",
            "did you mean model?",
        ];
        check_fault(&text, &[], &expected);
        check_fault(
            MINIMAL,
            &["train.epochs=0", "lora.lora_dropout=1.5"],
            &["train.epochs", "lora_dropout", "2 faults"],
        );
        check_fault(
            MINIMAL,
            &["train.epochs=many", "model.dtype=f8"],
            &["train: ", "model: ", "f8"],
        );
        check_fault("task = 'sequence'\n", &[], &["missing field `model`"]);
        check_fault(MINIMAL, &["nonsense"], &["expected key=value"]);
        check_fault(MINIMAL, &["model.attention=sideways"], &["sideways"]);
    }

    #[test]
    fn pooling_follows_attention_unless_set() {
        let config = |set: &[&str]| {
            let set: Vec<String> = set.iter().map(|text| text.to_string()).collect();
            RunConfig::from_toml(MINIMAL, "", &set).unwrap().pooling()
        };
        assert_eq!(config(&[]), Pooling::Last);
        assert_eq!(config(&["model.attention=bidirectional"]), Pooling::Mean);
        assert_eq!(
            config(&["model.attention=bidirectional", "model.pooling=max"]),
            Pooling::Max
        );
    }

    #[test]
    fn every_config_of_the_repository_is_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "toml") {
                RunConfig::from_file(&path, &[]).unwrap_or_else(|error| panic!("{error}"));
                count += 1;
            }
        }
        assert_eq!(count, 14);
    }
}
