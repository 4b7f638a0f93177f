//! [`LoraConfig`]: PEFT's field names, its rules for absent fields, and `adapter_config.json` both ways.
//!
//! Field meanings and defaults are those of peft 0.21.2. Which modules a configuration selects is `target.rs`.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::error::{LoraError, Result};
use crate::target::{ModuleMatcher, TargetModules, matches_pattern_key};

/// The peft release whose files are written here.
///
/// ```
/// use ls_lora::{LoraConfig, config::PEFT_VERSION};
///
/// assert_eq!(LoraConfig::default().to_json()["peft_version"], PEFT_VERSION);
/// ```
pub const PEFT_VERSION: &str = "0.21.2";
/// What peft uses where a configuration does not say.
const DEFAULT_R: usize = 8;
const DEFAULT_LORA_ALPHA: f64 = 8.0;
/// More than any layer's width; sums of ranks stay far from overflowing.
const LARGEST_RANK: usize = 1 << 24;
/// peft's default for llama, mistral, gemma and qwen2.
const DEFAULT_TARGETS: [&str; 2] = ["q_proj", "v_proj"];

/// The names that [`InitLoraWeights`] is written as.
const INITS: &str = "default, gaussian, orthogonal, pissa, pissa_niter_N or olora";

/// How a fresh adapter's A and B start. However they do, a fresh adapter changes nothing.
///
/// Embeddings always start with A zero and B normal, as in PEFT.
///
/// ```
/// use ls_lora::{InitLoraWeights, LoraConfig};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// let init: InitLoraWeights = "pissa_niter_4".parse()?;
/// assert_eq!(init, InitLoraWeights::Pissa { niter: Some(4) });
/// let config = LoraConfig::new(8, 16.0).with_init_lora_weights(init);
/// assert_eq!(config.to_json()["init_lora_weights"], "pissa_niter_4");
/// assert!("xavier".parse::<InitLoraWeights>().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitLoraWeights {
    /// A is Kaiming-uniform with `a = sqrt(5)`, that is uniform within `±1/sqrt(in)`; `true` in files.
    #[default]
    Default,
    /// A is normal with mean 0 and standard deviation `1/r`; `"gaussian"` in files.
    Gaussian,
    /// A and B are random with rows orthogonal to each other, so that neither is zero and their product is;
    /// `"orthogonal"` in files. The rank must be even.
    Orthogonal,
    /// A and B are the largest singular directions of the frozen weight, which are taken off it (PiSSA, arXiv 2404.02948);
    /// `"pissa"` in files. With `niter` they are approximated by that many power iterations from a random start
    /// (`"pissa_niter_4"`), which for large layers is very much faster.
    Pissa {
        /// Power iterations; none for the exact decomposition.
        niter: Option<usize>,
    },
    /// B and A are the first columns of the frozen weight's Q and the first rows of its R, taken off it (OLoRA, arXiv
    /// 2406.01775); `"olora"` in files.
    Olora,
}

impl InitLoraWeights {
    /// Whether the factors start with a product that is taken off the frozen weight. Adapters that did are saved in the
    /// converted form: plain LoRA of twice the rank, with the start as its second half.
    ///
    /// ```
    /// use ls_lora::InitLoraWeights;
    ///
    /// assert!(InitLoraWeights::Olora.has_start());
    /// assert!(!InitLoraWeights::Gaussian.has_start());
    /// ```
    #[must_use]
    pub fn has_start(self) -> bool {
        matches!(self, Self::Pissa { .. } | Self::Olora)
    }
}

/// The value that files have, but `default` for `true`.
impl fmt::Display for InitLoraWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Gaussian => f.write_str("gaussian"),
            Self::Orthogonal => f.write_str("orthogonal"),
            Self::Pissa { niter: None } => f.write_str("pissa"),
            Self::Pissa { niter: Some(niter) } => write!(f, "pissa_niter_{niter}"),
            Self::Olora => f.write_str("olora"),
        }
    }
}

/// As [`fmt::Display`] writes it; `gaussian` and `olora` in any case, as peft reads them.
impl std::str::FromStr for InitLoraWeights {
    type Err = LoraError;

    fn from_str(text: &str) -> Result<Self> {
        let niter = text.strip_prefix("pissa_niter_").map(str::parse);
        Ok(match (text, niter) {
            ("default", _) => Self::Default,
            ("orthogonal", _) => Self::Orthogonal,
            ("pissa", _) => Self::Pissa { niter: None },
            (_, Some(Ok(niter))) => Self::Pissa { niter: Some(niter) },
            _ if text.eq_ignore_ascii_case("gaussian") => Self::Gaussian,
            _ if text.eq_ignore_ascii_case("olora") => Self::Olora,
            _ => {
                let reason = format!("{INITS} is needed");
                return Err(invalid("init_lora_weights", text, reason));
            }
        })
    }
}

/// As PEFT's files have it: `true`, or the name of another start.
impl Serialize for InitLoraWeights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Default => serializer.serialize_bool(true),
            other => serializer.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for InitLoraWeights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Init;
        impl Visitor<'_> for Init {
            type Value = InitLoraWeights;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "true, {INITS}")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
                if value {
                    Ok(InitLoraWeights::Default)
                } else {
                    Err(E::invalid_value(de::Unexpected::Bool(value), &self))
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Init)
    }
}

/// Which bias terms of the base model are trained.
///
/// ```
/// # use burn::nn::LinearConfig;
/// # use burn::tensor::Device;
/// use ls_lora::{Bias, LoraConfig, LoraLinear, ParameterCount, TargetModules, add_adapter};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// # let device = Device::flex().autodiff();
/// # let linear = |d_in, d_out| LoraLinear::from(LinearConfig::new(d_in, d_out).init(&device));
/// let net = vec![linear(8, 4), linear(4, 6)];
/// let config = LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(["0"]));
/// for (bias, trained) in [(Bias::None, 0), (Bias::LoraOnly, 4), (Bias::All, 4 + 6)] {
///     let mut net = net.clone();
///     add_adapter(&mut net, "mine", &config.clone().with_bias(bias), &device)?;
///     assert_eq!(ParameterCount::of(&net).trainable, 2 * (8 + 4) + trained);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Bias {
    /// None of them.
    #[default]
    None,
    /// Those of the adapted layers.
    LoraOnly,
    /// All of them.
    All,
}

/// What an adapted model is for; it decides which heads are trained in full.
///
/// ```
/// use ls_lora::{LoraConfig, TaskType};
///
/// let config = LoraConfig::new(8, 16.0).with_task_type(TaskType::SeqCls);
/// assert_eq!(config.to_json()["task_type"], "SEQ_CLS");
/// assert_eq!(config.saved_modules(), TaskType::SeqCls.head_modules());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum TaskType {
    /// Sequence classification.
    SeqCls,
    /// Token classification.
    TokenCls,
    /// Causal language modelling.
    CausalLm,
    /// Sequence-to-sequence language modelling.
    #[serde(rename = "SEQ_2_SEQ_LM")]
    Seq2SeqLm,
    /// Extractive question answering.
    QuestionAns,
    /// Hidden states.
    FeatureExtraction,
}

impl TaskType {
    /// The name in files, such as `SEQ_CLS`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SeqCls => "SEQ_CLS",
            Self::TokenCls => "TOKEN_CLS",
            Self::CausalLm => "CAUSAL_LM",
            Self::Seq2SeqLm => "SEQ_2_SEQ_LM",
            Self::QuestionAns => "QUESTION_ANS",
            Self::FeatureExtraction => "FEATURE_EXTRACTION",
        }
    }

    /// The heads that peft trains and saves for this task without being asked.
    ///
    /// ```
    /// use ls_lora::TaskType;
    ///
    /// assert_eq!(TaskType::TokenCls.head_modules(), ["classifier", "score"]);
    /// assert!(TaskType::CausalLm.head_modules().is_empty());
    /// ```
    #[must_use]
    pub fn head_modules(self) -> &'static [&'static str] {
        match self {
            Self::SeqCls | Self::TokenCls => &["classifier", "score"],
            Self::QuestionAns => &["qa_outputs"],
            Self::CausalLm | Self::Seq2SeqLm | Self::FeatureExtraction => &[],
        }
    }
}

impl fmt::Display for TaskType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The shape and place of a LoRA adapter, in PEFT's terms.
///
/// ```
/// use ls_lora::{LoraConfig, TargetModules};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// let config = LoraConfig::new(12, 32.0)
///     .with_lora_dropout(0.1)
///     .with_target_modules(TargetModules::list(["q_proj", "v_proj"]));
/// config.validate()?;
/// assert_eq!(config.scaling_of("model.layers.0.self_attn.q_proj"), 32.0 / 12.0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// The rank of modules that no `rank_pattern` matches; at least 1.
    pub r: usize,
    /// The numerator of the scaling of modules that no `alpha_pattern` matches.
    pub lora_alpha: f64,
    /// The probability of zeroing an input of the adapter in training, within `0 <= p < 1`.
    pub lora_dropout: f64,
    /// Scale by `lora_alpha / sqrt(r)` in place of `lora_alpha / r` (arXiv 2312.03732).
    pub use_rslora: bool,
    /// Train the length of each column of the adapted weight by itself (DoRA, arXiv 2402.09353).
    pub use_dora: bool,
    /// The modules to adapt.
    pub target_modules: TargetModules,
    /// Modules never adapted, whatever `target_modules` says.
    pub exclude_modules: Option<TargetModules>,
    /// Adapt only these layers; empty means all, as in peft. Only with a list of targets.
    pub layers_to_transform: Option<Vec<usize>>,
    /// The names (regular expressions) of the module lists that `layers_to_transform` counts in; any when absent.
    pub layers_pattern: Option<Vec<String>>,
    /// Ranks by module-name pattern; the first pattern that matches counts, so the order matters.
    pub rank_pattern: Vec<(String, usize)>,
    /// Alphas by module-name pattern; the first pattern that matches counts.
    pub alpha_pattern: Vec<(String, f64)>,
    /// Modules trained and saved in full beside the adapter. The heads of `task_type` need not be listed: see
    /// [`LoraConfig::saved_modules`].
    pub modules_to_save: Vec<String>,
    /// How fresh adapters start.
    pub init_lora_weights: InitLoraWeights,
    /// Which bias terms of the base model are trained.
    pub bias: Bias,
    /// What the adapted model is for.
    pub task_type: Option<TaskType>,
    /// The base model's hub id or path. It is written into the file as it is: a local path is visible to whoever gets
    /// the adapter.
    pub base_model_name_or_path: Option<String>,
    /// The revision of the base model.
    pub revision: Option<String>,
}

impl Default for LoraConfig {
    /// peft's defaults: r 8, alpha 8, no dropout, targets `q_proj` and `v_proj`.
    fn default() -> Self {
        Self::new(DEFAULT_R, DEFAULT_LORA_ALPHA)
    }
}

impl LoraConfig {
    /// A configuration with this rank and alpha and peft's defaults for all else.
    ///
    /// ```
    /// use ls_lora::{LoraConfig, TargetModules};
    ///
    /// let config = LoraConfig::new(12, 32.0);
    /// assert_eq!(config.target_modules, TargetModules::list(["q_proj", "v_proj"]));
    /// assert_eq!((config.r, config.lora_dropout), (12, 0.0));
    /// ```
    #[must_use]
    pub fn new(r: usize, lora_alpha: f64) -> Self {
        Self {
            r,
            lora_alpha,
            lora_dropout: 0.0,
            use_rslora: false,
            use_dora: false,
            target_modules: TargetModules::list(DEFAULT_TARGETS),
            exclude_modules: None,
            layers_to_transform: None,
            layers_pattern: None,
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            modules_to_save: Vec::new(),
            init_lora_weights: InitLoraWeights::Default,
            bias: Bias::None,
            task_type: None,
            base_model_name_or_path: None,
            revision: None,
        }
    }

    /// Sets the dropout probability.
    #[must_use]
    pub fn with_lora_dropout(mut self, lora_dropout: f64) -> Self {
        self.lora_dropout = lora_dropout;
        self
    }

    /// Sets the modules to adapt.
    #[must_use]
    pub fn with_target_modules(mut self, target_modules: TargetModules) -> Self {
        self.target_modules = target_modules;
        self
    }

    /// Sets whether to scale by the root of the rank (rsLoRA).
    #[must_use]
    pub fn with_rslora(mut self, use_rslora: bool) -> Self {
        self.use_rslora = use_rslora;
        self
    }

    /// Sets whether the length of each column is trained by itself (DoRA).
    #[must_use]
    pub fn with_dora(mut self, use_dora: bool) -> Self {
        self.use_dora = use_dora;
        self
    }

    /// Sets how fresh adapters start.
    #[must_use]
    pub fn with_init_lora_weights(mut self, init_lora_weights: InitLoraWeights) -> Self {
        self.init_lora_weights = init_lora_weights;
        self
    }

    /// Sets which bias terms are trained.
    #[must_use]
    pub fn with_bias(mut self, bias: Bias) -> Self {
        self.bias = bias;
        self
    }

    /// Sets the task.
    #[must_use]
    pub fn with_task_type(mut self, task_type: TaskType) -> Self {
        self.task_type = Some(task_type);
        self
    }

    /// Sets the modules that are trained and saved in full.
    #[must_use]
    pub fn with_modules_to_save(
        mut self,
        names: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.modules_to_save = names.into_iter().map(Into::into).collect();
        self
    }

    /// Checks every field that can be checked without a model.
    ///
    /// ```
    /// use ls_lora::{LoraConfig, LoraError};
    ///
    /// let config = LoraConfig::new(8, 16.0).with_lora_dropout(1.5);
    /// let Err(LoraError::InvalidConfig { field, .. }) = config.validate() else { panic!("it is no probability") };
    /// assert_eq!(field, "lora_dropout");
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::InvalidConfig`] for the first wrong or contradictory field.
    pub fn validate(&self) -> Result<()> {
        if self.r == 0 {
            return Err(invalid("r", 0, "a rank is at least 1"));
        }
        let patterns = self.rank_pattern.iter().map(|(_, r)| *r);
        if let Some(r) = patterns.chain([self.r]).find(|r| *r > LARGEST_RANK) {
            let reason = format!("no layer takes a rank over {LARGEST_RANK}");
            return Err(invalid("r", r, reason));
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            return Err(invalid(
                "lora_dropout",
                self.lora_dropout,
                "a probability within 0 <= p < 1 is needed",
            ));
        }
        if !self.lora_alpha.is_finite() {
            return Err(invalid("lora_alpha", self.lora_alpha, "it must be finite"));
        }
        for (key, r) in &self.rank_pattern {
            if *r == 0 {
                return Err(invalid(
                    "rank_pattern",
                    format!("{key}: 0"),
                    "a rank is at least 1",
                ));
            }
        }
        for (key, alpha) in &self.alpha_pattern {
            if !alpha.is_finite() {
                return Err(invalid(
                    "alpha_pattern",
                    format!("{key}: {alpha}"),
                    "it must be finite",
                ));
            }
        }
        if self.init_lora_weights == InitLoraWeights::Orthogonal {
            let patterns = self.rank_pattern.iter().map(|(_, r)| *r);
            if let Some(r) = patterns.chain([self.r]).find(|r| r % 2 == 1) {
                let reason = "orthogonal initialisation needs an even rank";
                return Err(invalid("r", r, reason));
            }
        }
        if self.init_lora_weights.has_start() {
            let init = json!(self.init_lora_weights);
            if self.use_dora {
                let reason = "with DoRA it cannot be saved as a plain adapter";
                return Err(invalid("init_lora_weights", init, reason));
            }
            let alphas = self.alpha_pattern.iter().map(|(_, alpha)| *alpha);
            if let Some(alpha) = alphas.chain([self.lora_alpha]).find(|alpha| *alpha <= 0.0) {
                let reason = format!("{init} divides by the scaling, which must be positive");
                return Err(invalid("lora_alpha", alpha, reason));
            }
        }
        if matches!(self.exclude_modules, Some(TargetModules::AllLinear)) {
            return Err(invalid(
                "exclude_modules",
                "all-linear",
                "nothing would be left to adapt",
            ));
        }
        if !matches!(self.target_modules, TargetModules::List(_)) {
            let targets = "it works only with a list of `target_modules`";
            if let Some(layers) = &self.layers_to_transform {
                return Err(invalid(
                    "layers_to_transform",
                    format!("{layers:?}"),
                    targets,
                ));
            }
            if let Some(pattern) = &self.layers_pattern {
                return Err(invalid("layers_pattern", format!("{pattern:?}"), targets));
            }
        }
        if let (Some(pattern), None) = (&self.layers_pattern, &self.layers_to_transform)
            && !pattern.is_empty()
        {
            let reason = "it does nothing without `layers_to_transform`";
            return Err(invalid("layers_pattern", format!("{pattern:?}"), reason));
        }
        // Compiles every pattern.
        ModuleMatcher::new(self).map(|_| ())
    }

    /// The rank of a module, by its full name.
    ///
    /// ```
    /// use ls_lora::LoraConfig;
    ///
    /// let mut config = LoraConfig::new(8, 16.0);
    /// config.rank_pattern = vec![("down_proj".to_owned(), 4)];
    /// assert_eq!(config.rank_of("model.layers.0.mlp.down_proj"), 4);
    /// assert_eq!(config.rank_of("model.layers.0.self_attn.q_proj"), 8);
    /// ```
    #[must_use]
    pub fn rank_of(&self, module: &str) -> usize {
        first_match(&self.rank_pattern, module).unwrap_or(self.r)
    }

    /// The alpha of a module, by its full name.
    ///
    /// ```
    /// use ls_lora::LoraConfig;
    ///
    /// let mut config = LoraConfig::new(8, 16.0);
    /// config.alpha_pattern = vec![(r"layers\.0\..*".to_owned(), 4.0)];
    /// assert_eq!(config.alpha_of("model.layers.0.self_attn.q_proj"), 4.0);
    /// assert_eq!(config.alpha_of("model.layers.1.self_attn.q_proj"), 16.0);
    /// ```
    #[must_use]
    pub fn alpha_of(&self, module: &str) -> f64 {
        first_match(&self.alpha_pattern, module).unwrap_or(self.lora_alpha)
    }

    /// The factor on a module's B·A: alpha/r, or alpha/sqrt(r) with `use_rslora`, with that module's alpha and r.
    ///
    /// ```
    /// use ls_lora::LoraConfig;
    ///
    /// let config = LoraConfig::new(16, 8.0);
    /// assert_eq!(config.scaling_of("fc1"), 8.0 / 16.0);
    /// assert_eq!(config.with_rslora(true).scaling_of("fc1"), 8.0 / 4.0);
    /// ```
    #[must_use]
    pub fn scaling_of(&self, module: &str) -> f64 {
        let r = self.rank_of(module) as f64;
        self.alpha_of(module) / if self.use_rslora { r.sqrt() } else { r }
    }

    /// The rank of a module of a known size, for making a fresh adapter.
    ///
    /// Files with larger ranks can be read: peft makes them. They only waste parameters.
    ///
    /// ```
    /// use ls_lora::{LoraConfig, LoraError};
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// let config = LoraConfig::new(8, 16.0);
    /// assert_eq!(config.checked_rank_of("fc1", 64, 32)?, 8);
    /// let head = config.checked_rank_of("score", 64, 2);
    /// assert!(matches!(head, Err(LoraError::RankTooLarge { r: 8, out_features: 2, .. })));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::RankTooLarge`] when the rank exceeds the smaller side of the weight.
    pub fn checked_rank_of(
        &self,
        module: &str,
        in_features: usize,
        out_features: usize,
    ) -> Result<usize> {
        let r = self.rank_of(module);
        if r > in_features.min(out_features) {
            return Err(LoraError::RankTooLarge {
                module: module.to_owned(),
                r,
                in_features,
                out_features,
            });
        }
        Ok(r)
    }

    /// `modules_to_save` with the heads of the task, each once, in peft's order.
    ///
    /// ```
    /// use ls_lora::{LoraConfig, TaskType};
    ///
    /// let config = LoraConfig::new(8, 16.0).with_modules_to_save(["norm", "score"]).with_task_type(TaskType::SeqCls);
    /// assert_eq!(config.saved_modules(), ["norm", "score", "classifier"]);
    /// ```
    #[must_use]
    pub fn saved_modules(&self) -> Vec<String> {
        let heads = self.task_type.map_or(&[][..], TaskType::head_modules);
        let mut names: Vec<String> = Vec::new();
        for name in self
            .modules_to_save
            .iter()
            .map(String::as_str)
            .chain(heads.iter().copied())
        {
            if !names.iter().any(|n| n == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    /// The configuration of the converted form of an adapter with a start (see [`InitLoraWeights::has_start`]): twice the
    /// ranks at the same scalings. Any other configuration stays as it is.
    ///
    /// ```
    /// use ls_lora::{InitLoraWeights, LoraConfig};
    ///
    /// let config = LoraConfig::new(8, 16.0).with_init_lora_weights(InitLoraWeights::Olora);
    /// let converted = config.converted();
    /// assert_eq!((converted.r, converted.init_lora_weights), (16, InitLoraWeights::Default));
    /// assert_eq!(converted.scaling_of("fc1"), config.scaling_of("fc1"));
    /// ```
    #[must_use]
    pub fn converted(&self) -> Self {
        let mut config = self.clone();
        if self.init_lora_weights.has_start() {
            let factor = if self.use_rslora { 2f64.sqrt() } else { 2.0 };
            config.init_lora_weights = InitLoraWeights::Default;
            config.r *= 2;
            config.lora_alpha *= factor;
            config.rank_pattern.iter_mut().for_each(|(_, r)| *r *= 2);
            let alphas = config.alpha_pattern.iter_mut();
            alphas.for_each(|(_, alpha)| *alpha *= factor);
        }
        config
    }

    /// The content of `adapter_config.json`: every key that peft 0.21.2 writes for LoRA, sorted.
    ///
    /// Lists that are sets in peft are sorted. The patterns keep their order, because it decides which one counts;
    /// peft itself sorts them when it saves.
    ///
    /// ```
    /// use ls_lora::{LoraConfig, TargetModules};
    ///
    /// let json = LoraConfig::new(8, 16.0).with_target_modules(TargetModules::list(["up", "down"])).to_json();
    /// assert_eq!(json["peft_type"], "LORA");
    /// assert_eq!(json["target_modules"].to_string(), r#"["down","up"]"#);
    /// ```
    #[must_use]
    pub fn to_json(&self) -> Value {
        let ranks: Map<String, Value> = self
            .rank_pattern
            .iter()
            .map(|(k, v)| (k.clone(), json!(v)))
            .collect();
        let alphas: Map<String, Value> = self
            .alpha_pattern
            .iter()
            .map(|(k, v)| (k.clone(), number(*v)))
            .collect();
        let saved = self.saved_modules();
        json!({
            "alora_invocation_tokens": null,
            "alpha_pattern": alphas,
            "arrow_config": null,
            "auto_mapping": null,
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": self.bias,
            "corda_config": null,
            "ensure_weight_tying": false,
            "eva_config": null,
            "exclude_modules": self.exclude_modules.as_ref().map(sorted),
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": self.init_lora_weights,
            "kasa_config": null,
            "layer_replication": null,
            "layers_pattern": self.layers_pattern,
            "layers_to_transform": self.layers_to_transform,
            "loftq_config": {},
            "lora_alpha": number(self.lora_alpha),
            "lora_bias": false,
            "lora_dropout": self.lora_dropout,
            "lora_ga_config": null,
            "megatron_config": null,
            "megatron_core": "megatron.core",
            "modules_to_save": if saved.is_empty() { Value::Null } else { json!(saved) },
            "monteclora_config": null,
            "peft_type": "LORA",
            "peft_version": PEFT_VERSION,
            "qalora_group_size": 16,
            "r": self.r,
            "rank_pattern": ranks,
            "revision": self.revision,
            "target_modules": sorted(&self.target_modules),
            "target_parameters": null,
            "task_type": self.task_type,
            "trainable_token_indices": null,
            "use_bdlora": null,
            "use_dora": self.use_dora,
            "use_qalora": false,
            "use_rslora": self.use_rslora,
            "velora_config": null,
        })
    }

    /// Reads the text of an `adapter_config.json`; see [`LoraConfig::from_json_value`].
    ///
    /// ```
    /// use ls_lora::{LoraConfig, LoraError};
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// let text = r#"{"peft_type": "LORA", "r": 4, "target_modules": ["query"]}"#;
    /// let (config, notes) = LoraConfig::from_json(text)?;
    /// assert_eq!((config.r, config.lora_alpha), (4, 8.0));            // absent: peft's default
    /// assert!(notes.is_empty());
    ///
    /// let refused = LoraConfig::from_json(r#"{"peft_type": "LORA", "use_qalora": true}"#);
    /// assert!(matches!(refused, Err(LoraError::UnsupportedConfig { field, .. }) if field == "use_qalora"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::ConfigJson`] when it is not JSON; else as [`LoraConfig::from_json_value`].
    pub fn from_json(text: &str) -> Result<(Self, Vec<String>)> {
        let value: Value =
            serde_json::from_str(text).map_err(|source| LoraError::ConfigJson { source })?;
        Self::from_json_value(&value)
    }

    /// Reads an adapter configuration, with the notes a person should see about fields without effect here.
    ///
    /// Absent fields get peft's defaults; only `peft_type` must be there. What would change the result and is not
    /// implemented is refused. Fields that only steer how a *fresh* adapter starts are noted and ignored as long as
    /// they leave the base weights alone. Of fields that peft 0.21.2 does not know, those that switch a method on by
    /// peft's naming (`use_*` or `*_config` with a value) are refused; the others are noted and ignored, as peft does.
    ///
    /// ```
    /// use ls_lora::LoraConfig;
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// let config = LoraConfig::new(4, 8.0).with_dora(true);
    /// let mut json = config.to_json();
    /// json["a_later_field"] = 1.into();
    /// let (read, notes) = LoraConfig::from_json_value(&json)?;
    /// assert_eq!(read, config);
    /// assert_eq!(notes, ["unknown field `a_later_field` is ignored"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::UnsupportedConfig`] and [`LoraError::InvalidConfig`], naming the field.
    pub fn from_json_value(value: &Value) -> Result<(Self, Vec<String>)> {
        let Some(object) = value.as_object() else {
            return Err(invalid(
                "adapter configuration",
                value,
                "it must be a JSON object",
            ));
        };
        match object.get("peft_type") {
            Some(Value::String(kind)) if kind == "LORA" => {}
            Some(other) => return Err(unsupported("peft_type", other)),
            None => {
                return Err(invalid(
                    "peft_type",
                    "nothing",
                    "an adapter configuration must have it",
                ));
            }
        }
        let mut warnings = Vec::new();
        for (key, value) in object {
            check_field(key, value, &mut warnings)?;
        }

        let fields = Fields(object);
        let target_modules = match fields.get("target_modules") {
            None => TargetModules::list(DEFAULT_TARGETS),
            Some(Value::String(text)) => TargetModules::parse(text),
            Some(_) => TargetModules::List(fields.strings("target_modules")?.unwrap_or_default()),
        };
        // An empty string or list means nothing to peft.
        let exclude_modules = match fields.get("exclude_modules") {
            Some(Value::String(text)) => Some(text)
                .filter(|t| !t.is_empty())
                .map(|t| TargetModules::Pattern(t.clone())),
            _ => fields
                .strings("exclude_modules")?
                .filter(|l| !l.is_empty())
                .map(TargetModules::List),
        };
        let layers_pattern = match fields.get("layers_pattern") {
            Some(Value::String(text)) => Some(vec![text.clone()]).filter(|_| !text.is_empty()),
            _ => fields.strings("layers_pattern")?.filter(|l| !l.is_empty()),
        };
        let layers_to_transform = match fields.get("layers_to_transform") {
            None => None,
            Some(Value::Array(items)) => {
                let layers = items.iter().map(|v| count("layers_to_transform", v));
                Some(layers.collect::<Result<Vec<_>>>()?)
            }
            Some(one) => Some(vec![count("layers_to_transform", one)?]),
        };
        let mut modules_to_save: Vec<String> = Vec::new();
        // peft appends the heads again each time it loads and saves.
        for name in fields.strings("modules_to_save")?.unwrap_or_default() {
            if !modules_to_save.contains(&name) {
                modules_to_save.push(name);
            }
        }
        let config = Self {
            r: object.get("r").map_or(Ok(DEFAULT_R), |v| count("r", v))?,
            lora_alpha: object
                .get("lora_alpha")
                .map_or(Ok(DEFAULT_LORA_ALPHA), |v| real("lora_alpha", v))?,
            lora_dropout: object
                .get("lora_dropout")
                .map_or(Ok(0.0), |v| real("lora_dropout", v))?,
            use_rslora: fields.boolean("use_rslora")?,
            use_dora: fields.boolean("use_dora")?,
            target_modules,
            exclude_modules,
            layers_to_transform,
            layers_pattern,
            rank_pattern: fields.pattern("rank_pattern", count)?,
            alpha_pattern: fields.pattern("alpha_pattern", real)?,
            modules_to_save,
            init_lora_weights: init_lora_weights(fields.get("init_lora_weights"), &mut warnings)?,
            bias: fields.named("bias")?.unwrap_or_default(),
            task_type: fields.named("task_type")?,
            base_model_name_or_path: fields.string("base_model_name_or_path")?.map(str::to_owned),
            revision: fields.string("revision")?.map(str::to_owned),
        };
        config.validate()?;
        Ok((config, warnings))
    }
}

/// Module names sorted, for they are sets in peft, which writes them in an order that changes from run to run.
fn sorted(targets: &TargetModules) -> Value {
    match targets {
        TargetModules::List(names) => json!(names.iter().collect::<BTreeSet<_>>()),
        other => json!(other),
    }
}

/// Refuses a field that would change the result, notes one that has no effect here, and passes the others.
fn check_field(key: &str, value: &Value, warnings: &mut Vec<String>) -> Result<()> {
    let off = is_off(value);
    match key {
        // Read by the caller, or information only.
        "peft_type"
        | "r"
        | "lora_alpha"
        | "lora_dropout"
        | "use_rslora"
        | "use_dora"
        | "bias"
        | "target_modules"
        | "exclude_modules"
        | "layers_to_transform"
        | "layers_pattern"
        | "rank_pattern"
        | "alpha_pattern"
        | "modules_to_save"
        | "init_lora_weights"
        | "task_type"
        | "base_model_name_or_path"
        | "revision"
        | "peft_version"
        | "inference_mode"
        | "auto_mapping" => Ok(()),
        // Details of a method that another field switches on.
        "megatron_core" | "qalora_group_size" => Ok(()),
        "alora_invocation_tokens"
        | "arrow_config"
        | "ensure_weight_tying"
        | "kasa_config"
        | "layer_replication"
        | "lora_bias"
        | "megatron_config"
        | "monteclora_config"
        | "target_parameters"
        | "trainable_token_indices"
        | "use_bdlora"
        | "use_qalora"
        | "velora_config" => {
            if off {
                Ok(())
            } else {
                Err(unsupported(key, value))
            }
        }
        // Settings of initialisations that are refused or noted by their own name; peft resets fan_in_fan_out for
        // linear layers; it never reads runtime_config from a file.
        "corda_config" | "eva_config" | "loftq_config" | "lora_ga_config" | "fan_in_fan_out"
        | "runtime_config" => {
            if !off {
                warnings.push(format!(
                    "`{key}` has no effect on linear layers of a saved adapter and is ignored"
                ));
            }
            Ok(())
        }
        _ if off => Ok(()),
        // The naming by which peft switches methods on.
        _ if key.starts_with("use_") || key.ends_with("_config") => Err(unsupported(key, value)),
        _ => {
            warnings.push(format!("unknown field `{key}` is ignored"));
            Ok(())
        }
    }
}

/// Whether a switch or an optional setting is at rest.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(_) => false,
    }
}

/// Initialisations that leave the base alone do not matter for saved weights. Of those that change it, PiSSA and OLoRA can
/// be repeated on the base, as peft does on loading; a random approximation cannot.
fn init_lora_weights(value: Option<&Value>, warnings: &mut Vec<String>) -> Result<InitLoraWeights> {
    let Some(value) = value else {
        return Ok(InitLoraWeights::Default);
    };
    match InitLoraWeights::deserialize(value) {
        Ok(InitLoraWeights::Pissa { niter: Some(_) }) => {
            return Err(unsupported("init_lora_weights", value));
        }
        Ok(init) => return Ok(init),
        Err(_) => {}
    }
    let base_untouched = [json!(false), json!("eva"), json!("mica")].contains(value);
    if !base_untouched {
        return Err(unsupported("init_lora_weights", value));
    }
    warnings.push(format!(
        "`init_lora_weights` = {value} only steers how a fresh adapter starts and is ignored"
    ));
    Ok(InitLoraWeights::Default)
}

/// Typed access to the fields of a configuration; null counts as absent.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    fn string(&self, key: &str) -> Result<Option<&'a str>> {
        let text = |v: &'a Value| {
            v.as_str()
                .ok_or_else(|| invalid(key, v, "a string is needed"))
        };
        self.get(key).map(text).transpose()
    }

    /// One of an enum's names.
    fn named<T: Deserialize<'a>>(&self, key: &str) -> Result<Option<T>> {
        let read = |name: &'a str| {
            T::deserialize(de::value::BorrowedStrDeserializer::new(name))
                .map_err(|error: de::value::Error| invalid(key, name, error.to_string()))
        };
        self.string(key)?.map(read).transpose()
    }

    fn boolean(&self, key: &str) -> Result<bool> {
        let on = |v: &Value| {
            v.as_bool()
                .ok_or_else(|| invalid(key, v, "true or false is needed"))
        };
        self.get(key).map_or(Ok(false), on)
    }

    fn strings(&self, key: &str) -> Result<Option<Vec<String>>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let items = value.as_array().into_iter().flatten();
        let strings: Option<Vec<String>> = items.map(|v| v.as_str().map(str::to_owned)).collect();
        match strings {
            Some(strings) if value.is_array() => Ok(Some(strings)),
            _ => Err(invalid(key, value, "a list of strings is needed")),
        }
    }

    fn pattern<T>(
        &self,
        key: &str,
        read: fn(&str, &Value) -> Result<T>,
    ) -> Result<Vec<(String, T)>> {
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Object(entries)) => entries
                .iter()
                .map(|(k, v)| Ok((k.clone(), read(key, v)?)))
                .collect(),
            Some(other) => Err(invalid(key, other, "an object is needed")),
        }
    }
}

fn count(field: &str, value: &Value) -> Result<usize> {
    value
        .as_u64()
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(|| {
            invalid(
                field,
                value,
                "a whole number that is not negative is needed",
            )
        })
}

fn real(field: &str, value: &Value) -> Result<f64> {
    value
        .as_f64()
        .ok_or_else(|| invalid(field, value, "a number is needed"))
}

/// A number as Python would have it: 8 rather than 8.0, since alphas usually are whole.
fn number(value: f64) -> Value {
    // Past 2^53 not every whole number is a float, and no alpha is that large.
    if value.fract() == 0.0 && value.abs() < 9e15 {
        json!(value as i64)
    } else {
        json!(value)
    }
}

fn first_match<T: Copy>(pattern: &[(String, T)], module: &str) -> Option<T> {
    pattern
        .iter()
        .find(|(key, _)| matches_pattern_key(key, module))
        .map(|(_, value)| *value)
}

pub(crate) fn invalid(field: &str, value: impl ToString, reason: impl Into<String>) -> LoraError {
    LoraError::InvalidConfig {
        field: field.to_owned(),
        value: value.to_string(),
        reason: reason.into(),
    }
}

fn unsupported(field: &str, value: &Value) -> LoraError {
    LoraError::UnsupportedConfig {
        field: field.to_owned(),
        value: value.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Written by peft 0.21.2 for a sequence classifier, but for the order in `target_modules`, which is random there.
    const PEFT_SEQ_CLS: &str = r#"{
  "alora_invocation_tokens": null,
  "alpha_pattern": {
    "v_proj": 2.5
  },
  "arrow_config": null,
  "auto_mapping": null,
  "base_model_name_or_path": null,
  "bias": "none",
  "corda_config": null,
  "ensure_weight_tying": false,
  "eva_config": null,
  "exclude_modules": null,
  "fan_in_fan_out": false,
  "inference_mode": true,
  "init_lora_weights": true,
  "kasa_config": null,
  "layer_replication": null,
  "layers_pattern": null,
  "layers_to_transform": null,
  "loftq_config": {},
  "lora_alpha": 5,
  "lora_bias": false,
  "lora_dropout": 0.1,
  "lora_ga_config": null,
  "megatron_config": null,
  "megatron_core": "megatron.core",
  "modules_to_save": [
    "classifier",
    "score"
  ],
  "monteclora_config": null,
  "peft_type": "LORA",
  "peft_version": "0.21.2",
  "qalora_group_size": 16,
  "r": 2,
  "rank_pattern": {
    "layers.1.self_attn.q_proj": 1,
    "v_proj": 3
  },
  "revision": null,
  "target_modules": [
    "q_proj",
    "v_proj"
  ],
  "target_parameters": null,
  "task_type": "SEQ_CLS",
  "trainable_token_indices": null,
  "use_bdlora": null,
  "use_dora": false,
  "use_qalora": false,
  "use_rslora": false,
  "velora_config": null
}"#;

    /// Fields that are not at their defaults, from the same release (after `save_pretrained` of the configuration).
    const PEFT_RICH: &str = r#"{
  "alora_invocation_tokens": null,
  "alpha_pattern": {
    "b": 1.5,
    "q_proj": 16
  },
  "arrow_config": null,
  "auto_mapping": null,
  "base_model_name_or_path": "org/mod\u00e8le",
  "bias": "none",
  "corda_config": null,
  "ensure_weight_tying": false,
  "eva_config": null,
  "exclude_modules": [
    "0.self_attn.q_proj"
  ],
  "fan_in_fan_out": false,
  "inference_mode": true,
  "init_lora_weights": "gaussian",
  "kasa_config": null,
  "layer_replication": null,
  "layers_pattern": [
    "layers"
  ],
  "layers_to_transform": [
    0,
    1
  ],
  "loftq_config": {},
  "lora_alpha": 2.5,
  "lora_bias": false,
  "lora_dropout": 0.0,
  "lora_ga_config": null,
  "megatron_config": null,
  "megatron_core": "megatron.core",
  "modules_to_save": [
    "norm"
  ],
  "monteclora_config": null,
  "peft_type": "LORA",
  "peft_version": "0.21.2",
  "qalora_group_size": 16,
  "r": 12,
  "rank_pattern": {
    "a": 1,
    "b": 2
  },
  "revision": "main",
  "target_modules": [
    "q_proj"
  ],
  "target_parameters": null,
  "task_type": null,
  "trainable_token_indices": null,
  "use_bdlora": null,
  "use_dora": false,
  "use_qalora": false,
  "use_rslora": true,
  "velora_config": null
}"#;

    fn read(text: &str) -> LoraConfig {
        let (config, warnings) = LoraConfig::from_json(text).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        config
    }

    /// A configuration with these fields beside `peft_type`.
    fn read_fields(fields: Value) -> Result<(LoraConfig, Vec<String>)> {
        let mut object = json!({"peft_type": "LORA"});
        for (key, value) in fields.as_object().unwrap() {
            object[key] = value.clone();
        }
        LoraConfig::from_json_value(&object)
    }

    fn parse(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_peft_writes_is_read_and_written_again_unchanged() {
        for text in [PEFT_SEQ_CLS, PEFT_RICH] {
            assert_eq!(read(text).to_json(), parse(text));
        }
        // Also to the byte, where peft sorts the patterns as they are.
        assert_eq!(format!("{:#}", read(PEFT_SEQ_CLS).to_json()), PEFT_SEQ_CLS);
    }

    #[test]
    fn pefts_fields_arrive() {
        let config = read(PEFT_SEQ_CLS);
        assert_eq!(
            (config.r, config.lora_alpha, config.lora_dropout),
            (2, 5.0, 0.1)
        );
        assert_eq!(
            config.target_modules,
            TargetModules::list(["q_proj", "v_proj"])
        );
        assert_eq!(config.task_type, Some(TaskType::SeqCls));
        assert_eq!(config.rank_of("model.layers.0.self_attn.v_proj"), 3);
        assert_eq!(config.scaling_of("model.layers.1.self_attn.q_proj"), 5.0);

        let config = read(PEFT_RICH);
        assert!(config.use_rslora);
        assert_eq!(config.lora_alpha, 2.5);
        assert_eq!(config.init_lora_weights, InitLoraWeights::Gaussian);
        assert_eq!(config.layers_to_transform, Some(vec![0, 1]));
        assert_eq!(config.layers_pattern, Some(vec!["layers".to_owned()]));
        assert_eq!(
            config.exclude_modules,
            Some(TargetModules::list(["0.self_attn.q_proj"]))
        );
        assert_eq!(
            config.base_model_name_or_path.as_deref(),
            Some("org/modèle")
        );
        assert_eq!(config.revision.as_deref(), Some("main"));
    }

    #[test]
    fn keys_are_written_in_alphabetical_order() {
        let json = LoraConfig::default().to_json();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert!(keys.is_sorted());
        assert_eq!(keys.len(), 41);
    }

    #[test]
    fn absent_and_null_fields_have_pefts_defaults() {
        let (config, warnings) = LoraConfig::from_json(r#"{"peft_type": "LORA"}"#).unwrap();
        assert!(warnings.is_empty());
        assert_eq!(config, LoraConfig::default());
        assert_eq!((config.r, config.lora_alpha), (8, 8.0));
        assert_eq!(
            config.target_modules,
            TargetModules::list(["q_proj", "v_proj"])
        );
        let nulls = json!({"target_modules": null, "exclude_modules": null, "modules_to_save": null,
            "rank_pattern": null, "alpha_pattern": {}, "layers_pattern": [], "task_type": null, "bias": "none"});
        assert_eq!(read_fields(nulls).unwrap().0, config);
        let empty = json!({"exclude_modules": "", "layers_pattern": ""});
        assert_eq!(read_fields(empty).unwrap().0, config);
    }

    #[test]
    fn a_configuration_survives_the_file() {
        let mut config = LoraConfig::new(3, 0.75)
            .with_lora_dropout(0.25)
            .with_target_modules(TargetModules::parse(r".*\.(q|v)_proj"))
            .with_task_type(TaskType::TokenCls)
            .with_modules_to_save(["norm", "classifier", "score"]);
        config.use_rslora = true;
        config.exclude_modules = Some(TargetModules::parse(".*0.*"));
        config.rank_pattern = vec![("z".into(), 1), ("a".into(), 2)];
        config.alpha_pattern = vec![("z".into(), 1.5), ("a".into(), 2.0)];
        config.init_lora_weights = InitLoraWeights::Gaussian;
        assert_eq!(read(&config.to_json().to_string()), config);
        config.exclude_modules = None;
        config.target_modules = TargetModules::AllLinear;
        assert_eq!(read(&config.to_json().to_string()), config);
    }

    #[test]
    fn one_layer_and_one_pattern_may_stand_without_a_list() {
        let (config, _) =
            read_fields(json!({"layers_to_transform": 3, "layers_pattern": "h"})).unwrap();
        assert_eq!(config.layers_to_transform, Some(vec![3]));
        assert_eq!(config.layers_pattern, Some(vec!["h".to_owned()]));
    }

    #[test]
    fn heads_of_the_task_are_saved_once_and_after_the_listed_modules() {
        let config = LoraConfig::default();
        assert!(config.saved_modules().is_empty());
        assert_eq!(config.to_json()["modules_to_save"], Value::Null);
        let config = config.with_task_type(TaskType::TokenCls);
        assert_eq!(config.saved_modules(), ["classifier", "score"]);
        let config = config.with_modules_to_save(["norm", "score"]);
        assert_eq!(config.saved_modules(), ["norm", "score", "classifier"]);
        let again =
            json!({"modules_to_save": ["norm", "classifier", "score", "classifier", "score"]});
        assert_eq!(
            read_fields(again).unwrap().0.modules_to_save,
            ["norm", "classifier", "score"]
        );
    }

    #[test]
    fn fields_that_would_change_the_result_are_refused_by_name() {
        let cases = [
            json!({"lora_bias": true}),
            json!({"ensure_weight_tying": true}),
            json!({"use_qalora": true}),
            json!({"use_bdlora": {"nblocks": 2}}),
            json!({"alora_invocation_tokens": [1, 2]}),
            json!({"arrow_config": {"top_k": 3}}),
            json!({"kasa_config": {"beta": 1e-4}}),
            json!({"monteclora_config": {"num_samples": 8}}),
            json!({"velora_config": {"scale": 1.0}}),
            json!({"megatron_config": {"a": 1}}),
            json!({"layer_replication": [[0, 4], [2, 5]]}),
            json!({"target_parameters": ["experts.gate_up_proj"]}),
            json!({"trainable_token_indices": [0]}),
            json!({"init_lora_weights": "pissa_niter_4"}),
            json!({"init_lora_weights": "loftq"}),
            json!({"init_lora_weights": "corda"}),
            json!({"init_lora_weights": "lora_ga"}),
            json!({"init_lora_weights": 3}),
            json!({"peft_type": "IA3"}),
            // Unknown, but switched on by peft's naming.
            json!({"use_newlora": true}),
            json!({"newlora_config": {"depth": 1}}),
        ];
        for fields in cases {
            let name = fields.as_object().unwrap().keys().next().unwrap().clone();
            match read_fields(fields).unwrap_err() {
                LoraError::UnsupportedConfig { field, .. } => assert_eq!(field, name),
                other => panic!("{name}: {other}"),
            }
        }
    }

    #[test]
    fn fields_without_effect_here_are_noted() {
        let cases = [
            json!({"init_lora_weights": "eva"}),
            json!({"init_lora_weights": "mica"}),
            json!({"init_lora_weights": false}),
            json!({"eva_config": {"rho": 2.0}}),
            json!({"fan_in_fan_out": true}),
            json!({"runtime_config": {"ephemeral_gpu_offload": true}}),
            json!({"ls_llama": {"labels": ["a"]}}),
            json!({"note": "mine"}),
        ];
        for fields in cases {
            let name = fields.as_object().unwrap().keys().next().unwrap().clone();
            let (config, warnings) = read_fields(fields).unwrap();
            assert_eq!(config, LoraConfig::default());
            assert_eq!(warnings.len(), 1);
            assert!(warnings[0].contains(&format!("`{name}`")), "{warnings:?}");
        }
        // Switches of later releases that are off, and details of methods that are not in use, are no news.
        let silent = json!({"use_newlora": false, "newlora_config": null, "qalora_group_size": 32,
            "megatron_core": "x", "inference_mode": false, "peft_version": "0.99", "init_lora_weights": "Gaussian",
            "auto_mapping": {"base_model_class": "X", "parent_library": "y"}});
        assert!(read_fields(silent).unwrap().1.is_empty());
    }

    #[test]
    fn invalid_values_name_their_field() {
        let cases = [
            json!({"r": 0}),
            json!({"r": -1}),
            json!({"r": 2.5}),
            json!({"r": null}),
            json!({"lora_alpha": "16"}),
            json!({"lora_alpha": null}),
            json!({"lora_dropout": 1.0}),
            json!({"lora_dropout": -0.1}),
            json!({"use_rslora": "yes"}),
            json!({"target_modules": []}),
            json!({"target_modules": [1]}),
            json!({"target_modules": {"a": 1}}),
            json!({"target_modules": "(q_proj"}),
            json!({"exclude_modules": 1}),
            json!({"modules_to_save": "score"}),
            json!({"layers_to_transform": [-1]}),
            json!({"layers_to_transform": [0], "target_modules": ".*q_proj"}),
            json!({"layers_pattern": ["layers"]}),
            json!({"rank_pattern": {"q_proj": 0}}),
            json!({"rank_pattern": {"q_proj": 1.5}}),
            json!({"rank_pattern": ["q_proj"]}),
            json!({"alpha_pattern": {"q_proj": "x"}}),
            json!({"task_type": "SEQ_CLASS"}),
            json!({"base_model_name_or_path": 1}),
        ];
        for fields in cases {
            let name = fields.as_object().unwrap().keys().next().unwrap().clone();
            match read_fields(fields.clone()).unwrap_err() {
                LoraError::InvalidConfig { field, .. } => assert_eq!(field, name),
                other => panic!("{fields}: {other}"),
            }
        }
        for text in ["[]", "{}", "\"LORA\""] {
            assert!(matches!(
                LoraConfig::from_json(text),
                Err(LoraError::InvalidConfig { .. })
            ));
        }
        assert!(matches!(
            LoraConfig::from_json("{"),
            Err(LoraError::ConfigJson { .. })
        ));
        // Python writes such numbers, JSON has none.
        assert!(LoraConfig::from_json(r#"{"peft_type": "LORA", "lora_alpha": NaN}"#).is_err());
    }

    #[test]
    fn enums_are_written_as_pefts_files_have_them() {
        let both = |text: &str| -> (InitLoraWeights, Value) {
            let init = serde_json::from_str(text).unwrap();
            (init, serde_json::to_value(init).unwrap())
        };
        assert_eq!(both("true"), (InitLoraWeights::Default, json!(true)));
        assert_eq!(both("\"default\""), (InitLoraWeights::Default, json!(true)));
        for name in ["gaussian", "orthogonal", "pissa", "pissa_niter_16", "olora"] {
            let (init, written) = both(&format!("{name:?}"));
            assert_eq!(written, name);
            assert_eq!(init.to_string(), name);
        }
        assert_eq!(serde_json::to_value(Bias::LoraOnly).unwrap(), "lora_only");
        for name in [
            "SEQ_CLS",
            "TOKEN_CLS",
            "CAUSAL_LM",
            "SEQ_2_SEQ_LM",
            "QUESTION_ANS",
            "FEATURE_EXTRACTION",
        ] {
            let task: TaskType = serde_json::from_value(json!(name)).unwrap();
            assert_eq!((task.as_str(), json!(task)), (name, json!(name)));
        }
        for text in ["\"all-linear\"", "\".*_proj\"", "[\"v_proj\",\"q_proj\"]"] {
            let targets: TargetModules = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&targets).unwrap(), text);
        }
    }

    #[test]
    fn values_that_an_enum_does_not_have_are_named_with_those_that_it_has() {
        fn fault<T: de::DeserializeOwned + fmt::Debug>(text: &str) -> String {
            serde_json::from_str::<T>(text).unwrap_err().to_string()
        }
        let known = "default, gaussian, orthogonal, pissa, pissa_niter_N";
        for (text, found) in [("\"xavier\"", "xavier"), ("false", "`false`"), ("3", "`3`")] {
            let error = fault::<InitLoraWeights>(text);
            assert!(error.contains(found) && error.contains(known), "{error}");
        }
        let error = fault::<Bias>("\"some\"");
        assert!(
            error.contains("`some`") && error.contains("`lora_only`"),
            "{error}"
        );
        let error = fault::<TargetModules>("7");
        assert!(
            error.contains("`7`") && error.contains("all-linear"),
            "{error}"
        );
    }

    #[test]
    fn numbers_that_only_code_can_set_are_checked_too() {
        for dropout in [f64::NAN, f64::INFINITY, 1.0, -1e-9] {
            assert!(
                LoraConfig::new(1, 1.0)
                    .with_lora_dropout(dropout)
                    .validate()
                    .is_err()
            );
        }
        for alpha in [f64::NAN, f64::NEG_INFINITY] {
            assert!(LoraConfig::new(1, alpha).validate().is_err());
            let mut config = LoraConfig::new(8, 8.0);
            config.alpha_pattern = vec![("q_proj".into(), alpha)];
            assert!(config.validate().is_err());
        }
        assert!(LoraConfig::new(0, 1.0).validate().is_err());
        assert!(LoraConfig::new(1, 0.0).validate().is_ok());
    }

    #[test]
    fn a_rank_over_the_layers_size_is_an_error_for_fresh_adapters() {
        let config = LoraConfig::new(8, 8.0);
        assert_eq!(config.checked_rank_of("q", 8, 16).unwrap(), 8);
        assert_eq!(
            config.checked_rank_of("v", 16, 7).unwrap_err().to_string(),
            "r = 8 is larger than v with 16 inputs and 7 outputs"
        );
    }
}
