//! The tables of a configuration file and their defaults.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ls_data::catalog::{self, DatasetSpec};
use ls_data::{
    BadSpans, ColumnRef, Context, Delimiter, LabelPosition, LongInputs, Malformed, Offsets,
    PaddingMode, PaddingSide, Reading, Scheme, SpecialTokensAs, TagScheme, TaskKind, TextEncoding,
    WordsAs,
};
use ls_files::{Hashed, exists};
use ls_lora::{
    Bias, InitLoraWeights, LARGEST_ALPHA, LARGEST_RANK, LoraConfig, MOST_PATTERNS, Quantization,
    TargetModules,
};
use ls_model::{AttentionMode, ComputeType, LayerList, Pooling, ProblemType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fold::Fold;
use super::micro_batch::MicroBatchSize;
use super::values;
use crate::bounds::{BATCH, EXAMPLES, MOST, MOST_GAMMA, PASSES, STEPS, TOKENS, WARMUP_STEPS};
use crate::error::Result;
use crate::problem::Problem;

/// A run as the user writes it: model, adapter, data and training.
///
/// Where a value depends on others or on the checkpoint, its field is optional;
/// [`RunConfig::resolve`] fills it in.
///
/// ```
/// use ls_train::RunConfig;
///
/// let text = "task = 'sequence'\nmodel.path = 'llama'\ndata.train = 'train.csv'";
/// let config = RunConfig::from_toml(text, "run.toml", &["train.epochs=5".into()]).unwrap();
/// assert_eq!(config.train.epochs, 5);
/// assert_eq!(config.lora.map(|lora| lora.r), Some(12));
///
/// let error = RunConfig::from_toml(text, "run.toml", &["lora.rank=8".into(), "train.epochs=0".into()]);
/// assert!(error.unwrap_err().to_string().starts_with("run.toml: 2 faults"));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Configuration of a run of ls-llama", description = values::ABOUT)]
pub struct RunConfig {
    /// What is labelled: `sequence` (texts) or `token` (the words of texts).
    #[schemars(schema_with = "values::names::<TaskKind>")]
    pub task: TaskKind,
    /// Folder for everything the run leaves; by default `runs/` and the configuration's name, with
    /// a number where that is taken.
    #[schemars(schema_with = "values::path")]
    pub run: Option<PathBuf>,
    /// The pretrained model and its head.
    pub model: ModelSettings,
    /// The adapters; `lora = false` for none. Then the decoder itself trains, the whole of it or
    /// the layers of `train.layers`.
    #[serde(with = "or_false")]
    #[schemars(schema_with = "values::adapters")]
    pub lora: Option<LoraSettings>,
    /// The examples.
    pub data: DataSettings,
    /// The training loop.
    pub train: TrainSettings,
}

/// The pretrained model and its head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// Hugging Face folder; to ls-cli also a name on the Hub (`llama-3.2-1b`, `org/name`) of what
    /// is in the cache. Without the key it is the base model that `adapter` names: one of the two
    /// is needed. Of a whole classifier labels keep their rows of its head, as of an adapter's.
    #[schemars(schema_with = "values::path", extend("minLength" = 1))]
    pub path: PathBuf,
    /// Folder of an adapter to begin from, in the place of a fresh one: that of a run
    /// (`runs/NAME/best`), or one that peft wrote. `[lora]` is the adapter's then: of its keys only
    /// `lora_dropout` may be another. Labels that the adapter knows by name keep their rows of its
    /// head, others are drawn, as is the whole head where the task is another. Of one that was
    /// trained here, mask, pooling, padding, `dtype`, `quantization` and how words are read are
    /// the defaults; what else is said is warned of. By default adapters are drawn by `train.seed`.
    #[schemars(schema_with = "values::path", extend("minLength" = 1))]
    pub adapter: Option<PathBuf>,
    /// `causal`, `bidirectional`, `from:16`, `layers:0-7,24-31` or `groups:0011`. By default the
    /// checkpoint's `is_causal` decides; a checkpoint without it is causal.
    #[schemars(schema_with = "values::attention")]
    pub attention: Option<AttentionMode>,
    /// `last`, `last_not_pad`, `mean` or `max`; by default `last` for causal attention and `mean`
    /// otherwise. `last_not_pad` is what transformers pools: the last token that is not the pad
    /// token, which is another than the last where the end token pads.
    #[schemars(schema_with = "values::names::<Pooling>")]
    pub pooling: Option<Pooling>,
    /// What a text is labelled with, by transformers' names: `single_label_classification` (one
    /// class of several; the default), `multi_label_classification` (any number of labels) or
    /// `regression` (a number). It stands in the model's config.json and decides how labels are
    /// read, the loss (cross-entropy, binary cross-entropy of each label, mean squared error) and
    /// the scores.
    #[schemars(schema_with = "values::names::<ProblemType>")]
    pub problem_type: Option<ProblemType>,
    /// Element type of the frozen weights, and off the CPU of the activations: `f32` or `bf16`.
    /// What trains is f32.
    #[schemars(schema_with = "values::names::<ComputeType>")]
    pub dtype: ComputeType,
    /// Packs the frozen weights of the linear layers (QLoRA): `nf4` for 4 bits a value, `int8` for
    /// 8. With `none` they stay as `dtype` says.
    #[serde(with = "or_none")]
    #[schemars(schema_with = "values::quantization")]
    pub quantization: Option<Quantization>,
    /// Dropout before a token head; by default `classifier_dropout` of config.json, else its
    /// `hidden_dropout`, else 0.1.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub classifier_dropout: Option<f64>,
    /// How much of the pretrained weights is hashed, so that a run that goes on, and `predict`,
    /// know them again: `whole` (every byte, and again whenever the run is used) or `sample` (some
    /// of every tensor, in milliseconds, which single edited values escape). By default `whole` up
    /// to 512 MiB, `sample` beyond.
    #[schemars(schema_with = "values::names::<Hashed>")]
    pub hash_weights: Option<Hashed>,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            adapter: None,
            attention: None,
            pooling: None,
            problem_type: None,
            dtype: ComputeType::F32,
            quantization: None,
            classifier_dropout: None,
            hash_weights: None,
        }
    }
}

/// A name, or `none`, which is written too: beside an adapter that was trained on packed weights it
/// is not the default.
mod or_none {
    use ls_lora::Quantization;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        format: &Option<Quantization>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match format {
            Some(format) => format.serialize(serializer),
            None => serializer.serialize_str("none"),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Quantization>, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Written {
            None,
            Nf4,
            Int8,
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::None => None,
            Written::Nf4 => Some(Quantization::Nf4),
            Written::Int8 => Some(Quantization::Int8),
        })
    }
}

/// A table, or `false` for none.
mod or_false {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::LoraSettings;

    pub(super) fn serialize<S: Serializer>(
        lora: &Option<LoraSettings>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match lora {
            Some(lora) => lora.serialize(serializer),
            None => serializer.serialize_bool(false),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<LoraSettings>, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected false, or the keys of adapters")]
        enum Written {
            Switch(bool),
            Table(LoraSettings),
        }
        match Written::deserialize(deserializer)? {
            Written::Switch(false) => Ok(None),
            Written::Switch(true) => Err(D::Error::custom("expected false, found true")),
            Written::Table(lora) => Ok(Some(lora)),
        }
    }
}

/// The adapter, in PEFT's names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoraSettings {
    /// Rank.
    #[schemars(range(min = 1, max = LARGEST_RANK))]
    pub r: usize,
    /// Numerator of the scaling.
    #[schemars(range(min = -LARGEST_ALPHA, max = LARGEST_ALPHA))]
    pub lora_alpha: f64,
    /// Dropout on the adapter's input.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub lora_dropout: f64,
    /// A list of names, one regular expression, or `all-linear`; by default `q_proj` and `v_proj`,
    /// or the `qkv_proj` of a model that has these in one.
    #[schemars(schema_with = "values::target_modules")]
    pub target_modules: Option<TargetModules>,
    /// Scaling `lora_alpha / sqrt(r)` instead of `lora_alpha / r`.
    pub use_rslora: bool,
    /// Train the length of each column of a weight by itself (DoRA).
    pub use_dora: bool,
    /// `default` or `true` (Kaiming uniform), `gaussian`, `orthogonal`, `pissa`, `pissa_niter_4`
    /// (up to 1024) or `olora`.
    #[schemars(schema_with = "values::init_lora_weights")]
    pub init_lora_weights: InitLoraWeights,
    /// Biases of the base that train: `none`, `lora_only` (those of adapted layers) or `all`.
    #[schemars(schema_with = "values::names::<Bias>")]
    pub bias: Bias,
    /// Modules that train in full beside the head, by the end of their name.
    #[schemars(length(max = MOST_PATTERNS))]
    pub modules_to_save: Vec<String>,
}

impl Default for LoraSettings {
    fn default() -> Self {
        Self {
            r: 12,
            lora_alpha: 32.0,
            lora_dropout: 0.1,
            target_modules: None,
            use_rslora: false,
            use_dora: false,
            init_lora_weights: InitLoraWeights::Default,
            bias: Bias::None,
            modules_to_save: Vec::new(),
        }
    }
}

impl ModelSettings {
    /// Folder of the tokenizer that a run reads with: that of the adapter that it begins from, as
    /// that was trained with it, if it has one; else the model's.
    ///
    /// # Errors
    ///
    /// If the system does not say whether it has one.
    pub(crate) fn tokenizer_dir(&self) -> Result<&Path> {
        match &self.adapter {
            Some(dir) if exists(dir.join("tokenizer.json"))? => Ok(dir),
            _ => Ok(&self.path),
        }
    }
}

impl LoraSettings {
    /// The configuration for ls-lora.
    pub(crate) fn config(&self) -> LoraConfig {
        let mut config = LoraConfig::new(self.r, self.lora_alpha);
        config.lora_dropout = self.lora_dropout;
        config.use_rslora = self.use_rslora;
        if let Some(targets) = &self.target_modules {
            config.target_modules = targets.clone();
        }
        config.use_dora = self.use_dora;
        config.init_lora_weights = self.init_lora_weights;
        config.bias = self.bias;
        config.modules_to_save.clone_from(&self.modules_to_save);
        config
    }
}

/// How scores are taken. Every report names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Every word is scored, spans as conlleval and seqeval count them, and the reported split has
    /// no part in choosing the checkpoint. Where only a validation split is given, it does both,
    /// and the report says so.
    #[default]
    Strict,
    /// As the published code of arXiv 2310.01208 measures: the reported split also chooses the
    /// checkpoint, inputs are cut at `max_length` (64 sub-words unless set; 200 for
    /// amazon_reviews_multi), words beyond it are not scored, only the first word of an OntoNotes
    /// entity has a tag, and models without the causal mask attend to padding.
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
    pub(super) fn paths_mut(&mut self) -> &mut [PathBuf] {
        match self {
            Self::One(path) => std::slice::from_mut(path),
            Self::Several(paths) => paths,
        }
    }
}

/// The examples: a known data set by its name, or files with their columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataSettings {
    /// A data set by its name (`sst2`, `conll03`, ...), in any of the forms that people have it in.
    /// It brings its own splits, columns and labels.
    #[schemars(schema_with = "values::data_set")]
    pub dataset: Option<String>,
    /// Folder of the data set; by default `datasets/` and its name; where that is not there, ls-cli
    /// looks in the Hub's cache.
    #[schemars(schema_with = "values::path")]
    pub dir: Option<PathBuf>,
    /// Language of the data set, where it has several.
    pub language: Option<String>,
    /// How scores are taken: `strict` or `paper`.
    pub protocol: Protocol,
    /// Examples to learn from: a file, or a list of files.
    #[schemars(schema_with = "values::files")]
    pub train: Option<Files>,
    /// Examples that choose the best epoch; by default a part of `train` is set aside.
    #[schemars(schema_with = "values::files")]
    pub validation: Option<Files>,
    /// Examples that are scored once, at the end.
    #[schemars(schema_with = "values::files")]
    pub test: Option<Files>,
    /// Part of `train` that is set aside where there is no `validation`.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub validation_fraction: f64,
    /// Most examples to learn from, where `train` has more: drawn by `train.seed`, in equal shares
    /// of each class. By default all.
    #[schemars(range(min = EXAMPLES.least, max = EXAMPLES.most))]
    pub max_train_samples: Option<usize>,
    /// Cross-validation: `"2/5"` cuts `train` in 5 parts, in equal shares of each class and by
    /// `train.seed`; the second chooses the best epoch, the others are learnt from. A `validation`
    /// that is named, or that of the data set, is not read. `ls-cli sweep --folds 5` trains once
    /// for each part.
    #[schemars(schema_with = "values::fold")]
    pub fold: Option<Fold>,
    /// `csv`, `tsv`, `jsonl` (or `json`), `conll` (or `conllu`), `conll2012`, `fasttext`, `trees`
    /// or `parquet`; by default the file's ending decides.
    #[schemars(schema_with = "values::format")]
    pub format: Option<String>,
    /// Whether the first line of a CSV or TSV file names the columns.
    pub header: bool,
    /// What parts the fields of CSV files: one character, or `tab`; by default it is found from the
    /// header and the first rows (`,`, `;`, tab or `|`).
    #[schemars(schema_with = "values::delimiter")]
    pub delimiter: Option<Delimiter>,
    /// How the files are encoded, such as `windows-1252`, `latin-1` or `shift_jis`; by default
    /// UTF-8, or UTF-16 where a byte order mark says so.
    #[schemars(schema_with = "values::encoding")]
    pub encoding: Option<TextEncoding>,
    /// Column of the text.
    #[schemars(schema_with = "values::column")]
    pub text: ColumnRef,
    /// Columns that are joined to the text, each behind a space: a description behind its title.
    #[schemars(schema_with = "values::columns")]
    pub text_append: Vec<ColumnRef>,
    /// Column of a second text.
    #[schemars(schema_with = "values::column")]
    pub text_pair: Option<ColumnRef>,
    /// Column of the label.
    ///
    /// By `model.problem_type` it is a class, a list of them (of JSON, or parted by
    /// `label_delimiter`; an empty one where no label holds), or a number.
    #[schemars(schema_with = "values::column")]
    pub label: ColumnRef,
    /// What parts the labels of a text in one column, such as `;` or `, `, where any number may
    /// hold; by default a column holds a JSON list: `["a", "b"]`.
    #[schemars(length(min = 1))]
    pub label_delimiter: Option<String>,
    /// The integer that stands for the first of `labels`.
    pub first_label: i64,
    /// Column (CoNLL) or key (JSONL) of the words; by default the first column, or `tokens`.
    #[schemars(schema_with = "values::column")]
    pub tokens: Option<ColumnRef>,
    /// Column (CoNLL) or key (JSONL) of the tags; by default the last column, or `tags` or
    /// `ner_tags`, and for texts with spans `entities`, `spans`, `label` or `labels`. In CoNLL-U
    /// also a column's name (`upos`) or a key of MISC.
    #[schemars(schema_with = "values::column")]
    pub tags: Option<ColumnRef>,
    /// What the places of spans in a text count: `characters`, `utf16` or `bytes`.
    #[schemars(schema_with = "values::names::<Offsets>")]
    pub offsets: Offsets,
    /// What happens to spans that cut a word or overlap: `refuse`, or `widen` (to whole words; of
    /// overlapping spans the longest is kept).
    #[schemars(schema_with = "values::names::<BadSpans>")]
    pub bad_spans: BadSpans,
    /// Label names in order; integers in the data count into this list. By default they are
    /// collected from `train`.
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    pub labels: Option<Vec<String>>,
    /// Scheme of the tags in the files: `iob1`, `iob2`, `ioe1`, `ioe2`, `iobes` or `bilou`; or
    /// `labels` for tags that are no spans (parts of speech). By default they are labels if none
    /// has a prefix such as `B-`.
    #[schemars(schema_with = "values::scheme")]
    pub scheme: Option<Scheme>,
    /// What stands between the prefix and the type of a tag in the files, where that is no hyphen:
    /// `_` for `B_PER`.
    #[schemars(length(min = 1))]
    pub tag_separator: Option<String>,
    /// Scheme that tags are rewritten in before they are labels; by default they stay as they are.
    #[schemars(schema_with = "values::train_scheme")]
    pub train_scheme: Option<TagScheme>,
    /// What happens, where a scheme is known, to tags that it does not allow: `refuse`, or `repair`
    /// (as conlleval reads them). By default they are refused, and those of known data sets
    /// repaired: the published WNUT 17 has some.
    #[schemars(schema_with = "values::names::<Malformed>")]
    pub malformed: Option<Malformed>,
    /// Whether rows that cannot be used are skipped (and listed) rather than an error.
    pub skip_bad_rows: bool,
    /// Longest input in sub-word tokens; by default 256, under the protocol `paper` 64 (200 for the
    /// reviews of Amazon).
    #[schemars(range(min = TOKENS.least, max = TOKENS.most))]
    pub max_length: Option<usize>,
    /// What happens to longer ones: `window` (taggers' default; nothing is lost), `truncate` or
    /// `head` (keep the beginning; the default of texts, and of all under the protocol `paper`),
    /// and for texts `tail` (keep the end) and `head_tail`. What is cut is counted.
    #[schemars(schema_with = "values::names::<LongInputs>")]
    pub long_inputs: Option<LongInputs>,
    /// Tokens that neighbouring windows share; by default a quarter of a window.
    #[schemars(range(max = TOKENS.most))]
    pub stride: Option<usize>,
    /// Which sub-word of a word carries its tag: `first` (as published tagging scripts have it),
    /// `first_visible` (the first that is more than the space in front of the word), `last` or
    /// `all`.
    #[schemars(schema_with = "values::names::<LabelPosition>")]
    pub label_position: LabelPosition,
    /// How words become ids: `text` (joined by spaces, as running text) or `split` (each by itself,
    /// as transformers with `is_split_into_words=True`).
    #[schemars(schema_with = "values::names::<WordsAs>")]
    pub words: WordsAs,
    /// What a special token is that a text spells out: `text`, or `parse` for the token itself (as
    /// in transformers), where texts carry a chat template.
    #[schemars(schema_with = "values::names::<SpecialTokensAs>")]
    pub special_tokens: SpecialTokensAs,
    /// `masked` (the default), or `attended` (that of unmasked models under the protocol `paper`):
    /// the reference's unmasked models attend to padding and pool over it.
    #[schemars(schema_with = "values::names::<PaddingMode>")]
    pub padding: Option<PaddingMode>,
    /// `right` or `left`.
    #[schemars(schema_with = "values::names::<PaddingSide>")]
    pub padding_side: PaddingSide,
    /// Pad every batch to this length, as the reference does with 64; by default to the longest of
    /// the batch, or where padding is `attended` under the protocol `paper` to `max_length`.
    #[schemars(range(min = TOKENS.least, max = TOKENS.most))]
    pub pad_to: Option<usize>,
    /// Whether large files are encoded once and found again by later runs (in `LS_LLAMA_CACHE`,
    /// else `~/.cache/ls-llama`).
    pub cache: bool,
}

/// The usual columns, and no files.
impl Default for DataSettings {
    fn default() -> Self {
        Self {
            dataset: None,
            dir: None,
            language: None,
            protocol: Protocol::Strict,
            train: None,
            validation: None,
            test: None,
            validation_fraction: 0.1,
            max_train_samples: None,
            fold: None,
            format: None,
            header: true,
            delimiter: None,
            encoding: None,
            text: ColumnRef::Name("text".into()),
            text_append: Vec::new(),
            text_pair: None,
            label: ColumnRef::Name("label".into()),
            label_delimiter: None,
            first_label: 0,
            tokens: None,
            tags: None,
            offsets: Offsets::default(),
            bad_spans: BadSpans::default(),
            labels: None,
            scheme: None,
            tag_separator: None,
            train_scheme: None,
            malformed: None,
            skip_bad_rows: false,
            max_length: None,
            long_inputs: None,
            stride: None,
            label_position: LabelPosition::First,
            words: WordsAs::Text,
            special_tokens: SpecialTokensAs::Text,
            padding: None,
            padding_side: PaddingSide::Right,
            pad_to: None,
            cache: true,
        }
    }
}

impl DataSettings {
    /// The known data set that is named, if one is and it can be used.
    pub fn known(&self) -> Option<Cow<'static, DatasetSpec>> {
        catalog::get(self.dataset.as_deref()?).ok()
    }

    /// The scheme of the spans that are labels, if one is named: that in which tags are written
    /// anew, else that of the files.
    pub(crate) fn scheme_of_labels(&self) -> Option<TagScheme> {
        let of_files = || self.scheme.and_then(Scheme::of_spans);
        self.train_scheme.or_else(of_files)
    }

    /// How words and special tokens reach the tokenizer.
    pub fn reading(&self) -> Reading {
        Reading {
            words: self.words,
            special_tokens: self.special_tokens,
        }
    }
}

/// How an input that is longer than its limit is treated unless the user chooses.
pub(crate) fn default_long_inputs(task: TaskKind) -> LongInputs {
    match task {
        TaskKind::Sequence => LongInputs::Truncate,
        TaskKind::Token => LongInputs::Window,
    }
}

/// Where context counts under an attention mode.
pub(crate) fn context(attention: &AttentionMode) -> Context {
    match attention {
        AttentionMode::Causal => Context::Left,
        _ => Context::Both,
    }
}

impl RunConfig {
    /// What is learnt of an example, as far as it is known before the data are read.
    pub fn problem(&self) -> Problem {
        let tags = self.data.scheme.map(Scheme::kind);
        Problem::of(self.task, self.model.problem_type, tags)
    }

    /// The name of the column of the labels, where it has one.
    pub(crate) fn label_column(&self) -> Option<&str> {
        match &self.data.label {
            ColumnRef::Name(name) => Some(name),
            ColumnRef::Index(_) => None,
        }
    }
}

/// How much classes weigh in the loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"balanced\" or a table of labels and weights"
)]
pub enum ClassWeight {
    /// A name for weights that follow from the data.
    Named(Balanced),
    /// The weight of each label; of those that are not there 1.
    Table(BTreeMap<String, f64>),
}

/// The name of the weights by which each class weighs as much as the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Balanced {
    /// As scikit-learn's `class_weight="balanced"`.
    Balanced,
}

/// Learning rate over the steps, by Hugging Face's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSettings {
    /// Fixes order, initial weights and dropout.
    pub seed: u64,
    /// Passes over `data.train`.
    #[schemars(range(min = PASSES.least, max = PASSES.most))]
    pub epochs: usize,
    /// Inputs of one forward pass: examples, or windows of long ones. `auto` takes 8, and where
    /// memory has no room for them 4, 2 or 1 in as many more passes: a step stays the same.
    #[schemars(schema_with = "values::micro_batch_size")]
    pub micro_batch_size: MicroBatchSize,
    /// Inputs that go through the model at a time, where those are to be fewer: a step takes the
    /// same examples in more passes, with less memory, and sums and dropout masks are others.
    /// `micro_batch_size = "auto"` chooses it by the memory that is free, once: it is written into
    /// the run's `config.toml`. Name it where a run is to be repeated to the bit on another
    /// machine.
    #[schemars(range(min = BATCH.least, max = BATCH.most))]
    pub pass_size: Option<usize>,
    /// Forward passes of one optimizer step.
    #[schemars(range(min = PASSES.least, max = PASSES.most))]
    pub gradient_accumulation_steps: usize,
    /// Compute each block again in the backward pass: less memory, more time, the same gradients.
    pub gradient_checkpointing: bool,
    /// Inputs of one evaluation pass.
    #[schemars(range(min = BATCH.least, max = BATCH.most))]
    pub eval_batch_size: usize,
    /// Peak learning rate.
    #[schemars(range(max = MOST), extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// Learning rate over the steps.
    pub lr_scheduler: LrScheduler,
    /// Steps of linear warm-up.
    #[schemars(range(min = WARMUP_STEPS.least, max = WARMUP_STEPS.most))]
    pub warmup_steps: usize,
    /// The same as a part of all steps; `warmup_steps` wins.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub warmup_ratio: f64,
    /// AdamW's decoupled weight decay, on everything but biases and the scales of norms.
    #[schemars(range(min = 0, max = MOST))]
    pub weight_decay: f64,
    /// AdamW's decay rate of the mean of the gradients.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub adam_beta1: f64,
    /// AdamW's decay rate of the mean of the squared gradients.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub adam_beta2: f64,
    /// Added to the root of AdamW's second mean before it divides.
    #[schemars(range(max = MOST), extend("exclusiveMinimum" = 0))]
    pub adam_epsilon: f64,
    /// Learning rate of the adapters' B over that of their A (LoRA+); by default they are the same.
    #[schemars(range(min = 1, max = MOST))]
    pub loraplus_lr_ratio: Option<f64>,
    /// The layers that train in full, where `lora = false`: numbers from 0 and ranges, such as
    /// `"16-31"` or `"0,4-7"`, or a list of numbers. The head trains with them; embeddings, the
    /// last norm and the other layers are frozen. By default everything trains.
    #[schemars(schema_with = "values::layers")]
    pub layers: Option<LayerList>,
    /// Layer by layer down from the head, the learning rate is multiplied by this: the last layer
    /// learns at the full rate, as do the head and the last norm, layer `l` of `L` at
    /// `layerwise_lr_decay^(L - 1 - l)` of it, the embeddings at `layerwise_lr_decay^L`; adapters
    /// at the rate of their layer.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub layerwise_lr_decay: f64,
    /// Weights of the classes in the loss: `balanced`, by which each class weighs as much as the
    /// others (scikit-learn's: examples over classes over the examples of the class), or a table of
    /// labels and weights, `{ spam = 5.0 }`, in which a label that is not there weighs 1. Tags are
    /// classes of words. Where any number of labels may hold, it is the weight of a label in the
    /// examples that have it (`pos_weight`), and `balanced` those without it over those with it.
    #[schemars(schema_with = "values::class_weight")]
    pub class_weight: Option<ClassWeight>,
    /// Part of each target that is spread over all classes, as HF's `label_smoothing_factor` and
    /// torch's `label_smoothing`; of classes and tags only.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub label_smoothing_factor: f64,
    /// Exponent of the focal loss: what the model is sure of counts less, by `(1 - p)^gamma` with
    /// the probability of what is right; 0 for none, 2 is usual.
    #[schemars(range(min = 0, max = MOST_GAMMA))]
    pub focal_gamma: f64,
    /// The score from which on a label holds where any number may, for all labels; by default each
    /// has its own, by which its F1 on the validation split is best. It is fitted at each
    /// evaluation and kept beside the weights (`ls_llama.json`), and `predict` and `evaluate` go by
    /// it.
    #[schemars(range(min = 0, max = 1))]
    pub threshold: Option<f64>,
    /// Fits a temperature to the validation split at each evaluation (Guo et al. 2017): logits are
    /// divided by it before they become probabilities, which then say how often they are right. It
    /// is kept beside the weights (`ls_llama.json`), and is not for a regression. The likeliest
    /// label stays the likeliest; where any number of labels may hold, thresholds go by the scores
    /// after it. Where every answer is right there is no temperature of least loss, and none is
    /// kept.
    pub temperature_scaling: bool,
    /// Limit of the norm over all gradients; 0 for none.
    #[schemars(range(min = 0, max = MOST))]
    pub max_grad_norm: f64,
    /// Steps that may be passed over because their loss, a gradient or a new parameter is NaN or
    /// infinite: nothing is learnt from their examples, and the next one ends the run. The
    /// optimizer does not count them, as with PyTorch's `GradScaler`; the schedule does.
    pub skip_nonfinite_steps: usize,
    /// Batches of similar lengths, as the Trainer's. It saves time where padding is computed: on a
    /// GPU in attention, and everywhere with `data.padding = "attended"`. Otherwise it
    /// saves none on the CPU, and the batches of the longest need more memory.
    pub group_by_length: bool,
    /// Evaluate every so many steps; by default after every epoch.
    #[schemars(range(min = STEPS.least, max = STEPS.most))]
    pub eval_steps: Option<usize>,
    /// The score by which the best checkpoint is chosen: a key of the scores, or `loss`. By default
    /// `span_f1_micro` for tags that are spans, `f1_micro` where any number of labels may hold,
    /// `mse` of a regression, else `accuracy`. Of `loss`, `mae` and `mse` the lowest is best.
    #[schemars(schema_with = "values::metric")]
    pub metric_for_best_model: Option<String>,
    /// Stop after so many evaluations without a better one.
    #[schemars(range(min = PASSES.least, max = PASSES.most))]
    pub early_stopping_patience: Option<usize>,
    /// Also score the majority class and a head on the frozen backbone.
    pub baselines: bool,
    /// Write a checkpoint, from which the run can go on, every so many steps.
    #[schemars(range(min = STEPS.least, max = STEPS.most))]
    pub save_steps: Option<usize>,
    /// Write a checkpoint when so many seconds have passed since the last; 0 for none. In any case
    /// one is written at each evaluation, and where the run is interrupted.
    pub save_seconds: u64,
    /// Checkpoints that are kept; the oldest go.
    #[schemars(range(min = PASSES.least, max = PASSES.most))]
    pub save_total_limit: usize,
    /// Write the scalars of steps and evaluations for TensorBoard too: event files in the run
    /// folder, which `tensorboard --logdir runs` reads.
    pub tensorboard: bool,
    /// Write a page about the run at its end: `report.html` in the run folder, which any browser
    /// shows (`ls-cli report RUN` makes it again).
    pub report: bool,
}

impl TrainSettings {
    /// Inputs of a pass, before `auto` takes fewer.
    pub fn largest_pass(&self) -> usize {
        let most = self.micro_batch_size.largest();
        self.pass_size.map_or(most, |size| size.min(most))
    }
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            seed: 42,
            epochs: 3,
            micro_batch_size: MicroBatchSize::default(),
            pass_size: None,
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
            layers: None,
            layerwise_lr_decay: 1.0,
            class_weight: None,
            label_smoothing_factor: 0.0,
            focal_gamma: 0.0,
            threshold: None,
            temperature_scaling: false,
            max_grad_norm: 1.0,
            skip_nonfinite_steps: 0,
            group_by_length: false,
            eval_steps: None,
            metric_for_best_model: None,
            early_stopping_patience: None,
            baselines: false,
            save_steps: None,
            save_seconds: 600,
            save_total_limit: 2,
            tensorboard: false,
            report: true,
        }
    }
}
