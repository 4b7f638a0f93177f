//! [`LoraConfig`] and the types of its fields: PEFT's names, meanings and defaults.
//!
//! They are those of peft 0.21.2. `target.rs` decides which modules a configuration selects and
//! whether it contradicts itself; `peft/config.rs` reads and writes it as `adapter_config.json`.

use std::fmt;

use regex::Regex;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{LoraError, Result, invalid};

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
    /// The names (regular expressions) of the module lists that `layers_to_transform` counts in;
    /// any when absent.
    pub layers_pattern: Option<Vec<String>>,
    /// Ranks by module-name pattern; the first pattern that matches counts, so the order matters.
    pub rank_pattern: Vec<(String, usize)>,
    /// Alphas by module-name pattern; the first pattern that matches counts.
    pub alpha_pattern: Vec<(String, f64)>,
    /// Modules trained and saved in full beside the adapter. The heads of `task_type` need not be
    /// listed: see [`LoraConfig::saved_modules`].
    pub modules_to_save: Vec<String>,
    /// How fresh adapters start.
    pub init_lora_weights: InitLoraWeights,
    /// Which bias terms of the base model are trained.
    pub bias: Bias,
    /// What the adapted model is for.
    pub task_type: Option<TaskType>,
    /// The base model's hub id or path. The file holds it as it is, so whoever gets the adapter
    /// sees a local path.
    pub base_model_name_or_path: Option<String>,
    /// The revision of the base model.
    pub revision: Option<String>,
}

impl Default for LoraConfig {
    /// peft's defaults: r 8, alpha 8, no dropout, targets `q_proj` and `v_proj` (what peft takes
    /// for llama, mistral, gemma and qwen2).
    fn default() -> Self {
        Self::new(8, 8.0)
    }
}

impl LoraConfig {
    /// A configuration with this rank and alpha and peft's defaults for all else.
    #[must_use]
    pub fn new(r: usize, lora_alpha: f64) -> Self {
        Self {
            r,
            lora_alpha,
            lora_dropout: 0.0,
            use_rslora: false,
            use_dora: false,
            target_modules: TargetModules::list(["q_proj", "v_proj"]),
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

    /// The rank of a module, by its full name.
    #[must_use]
    pub fn rank_of(&self, module: &str) -> usize {
        first_match(&self.rank_pattern, module).unwrap_or(self.r)
    }

    /// The alpha of a module, by its full name.
    fn alpha_of(&self, module: &str) -> f64 {
        first_match(&self.alpha_pattern, module).unwrap_or(self.lora_alpha)
    }

    /// The factor on a module's B·A: alpha/r, or alpha/sqrt(r) with `use_rslora`, with that
    /// module's alpha and r.
    #[must_use]
    pub fn scaling_of(&self, module: &str) -> f64 {
        let r = self.rank_of(module) as f64;
        self.alpha_of(module) / if self.use_rslora { r.sqrt() } else { r }
    }

    /// The rank of a module of a known size, for making a fresh adapter.
    ///
    /// Files with larger ranks can be read: peft makes them. They only waste parameters.
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
    #[must_use]
    pub fn saved_modules(&self) -> Vec<String> {
        let heads = self.task_type.map_or(&[][..], TaskType::head_modules);
        let heads = heads.iter().map(|&head| head.to_owned());
        let mut names: Vec<String> = Vec::new();
        for name in self.modules_to_save.iter().cloned().chain(heads) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// `modules_to_save` without the heads of classifiers, which come with the task.
    #[must_use]
    pub fn modules_beside_heads(&self) -> Vec<String> {
        let heads = TaskType::SeqCls.head_modules();
        let names = self.modules_to_save.iter();
        let beside = names.filter(|name| !heads.contains(&name.as_str()));
        beside.cloned().collect()
    }

    /// The configuration of the converted form of an adapter with a start (see
    /// [`InitLoraWeights::has_start`]): twice the ranks at the same scalings. Any other
    /// configuration stays as it is.
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
}

fn first_match<T: Copy>(pattern: &[(String, T)], module: &str) -> Option<T> {
    pattern
        .iter()
        .find(|(key, _)| matches_pattern_key(key, module))
        .map(|(_, value)| *value)
}

/// Whether a key of `rank_pattern` or `alpha_pattern` matches a module: the expression must reach
/// the end of the name and begin at its start or after a dot. A key that is no expression matches
/// nothing; validation refuses it.
pub(crate) fn matches_pattern_key(key: &str, module: &str) -> bool {
    // Files may list hundreds of full names as keys, and each is asked about each module: too many
    // to compile.
    if key
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.')
    {
        let Some(start) = module.len().checked_sub(key.len()) else {
            return false;
        };
        // A dot in a regular expression is any character.
        let mut pairs = key.bytes().zip(&module.as_bytes()[start..]);
        return module.is_ascii()
            && pairs.all(|(k, &m)| k == b'.' || k == m)
            && (start == 0 || module.as_bytes()[start - 1] == b'.');
    }
    Regex::new(&pattern_key_regex(key)).is_ok_and(|pattern| pattern.is_match(module))
}

/// The regular expression that [`matches_pattern_key`] stands for.
pub(crate) fn pattern_key_regex(key: &str) -> String {
    format!(r"\A(?:.*\.)?(?:{key})\z")
}

/// A choice of modules, as `target_modules` and `exclude_modules` state it.
///
/// ```
/// use ls_lora::{LoraConfig, TargetModules, select_modules};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// let names = ["layers.0.up", "layers.0.down", "layers.1.up", "layers.1.down", "score"];
/// let select = |targets| {
///     let config = LoraConfig::new(8, 16.0).with_target_modules(targets);
///     select_modules(&config, &names, &[], &["score"])
/// };
/// assert_eq!(select(TargetModules::list(["up"]))?, ["layers.0.up", "layers.1.up"]);
/// assert_eq!(select(TargetModules::parse(r".*\.1\..*"))?, ["layers.1.up", "layers.1.down"]);
/// assert_eq!(select(TargetModules::AllLinear)?, names[..4]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetModules {
    /// Modules whose full name is an entry or ends with a dot and an entry: `q_proj` is in every
    /// layer, `layers.1.self_attn.q_proj` in one.
    List(Vec<String>),
    /// A regular expression that must match the whole full name. Look-around and back-references
    /// are not supported.
    Pattern(String),
    /// Every linear layer except the head. (peft adapts the head of token classifiers too, and then
    /// fails.)
    AllLinear,
}

impl TargetModules {
    /// A list of names.
    #[must_use]
    pub fn list(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::List(names.into_iter().map(Into::into).collect())
    }

    /// A single string as PEFT reads it: `all-linear` in any case, else a pattern for full names.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.eq_ignore_ascii_case("all-linear") {
            Self::AllLinear
        } else {
            Self::Pattern(text.to_owned())
        }
    }
}

/// A list of names, or one string.
impl Serialize for TargetModules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::List(names) => names.serialize(serializer),
            Self::Pattern(pattern) => serializer.serialize_str(pattern),
            Self::AllLinear => serializer.serialize_str("all-linear"),
        }
    }
}

impl<'de> Deserialize<'de> for TargetModules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Targets;
        impl<'de> Visitor<'de> for Targets {
            type Value = TargetModules;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of module names, a regular expression or \"all-linear\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TargetModules::parse(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, names: A) -> Result<Self::Value, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(names)).map(TargetModules::List)
            }
        }
        deserializer.deserialize_any(Targets)
    }
}

/// The names that [`InitLoraWeights`] is written as.
const INITS: &str = "default, gaussian, orthogonal, pissa, pissa_niter_N or olora";

/// How a fresh adapter's A and B start. Whichever start it has, a fresh adapter changes nothing.
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
    /// A is Kaiming-uniform with `a = sqrt(5)`, that is uniform within `±1/sqrt(in)`; `true` in
    /// files.
    #[default]
    Default,
    /// A is normal with mean 0 and standard deviation `1/r`; `"gaussian"` in files.
    Gaussian,
    /// A and B are random with rows orthogonal to each other, so that neither is zero and their
    /// product is; `"orthogonal"` in files. The rank must be even.
    Orthogonal,
    /// A and B are the largest singular directions of the frozen weight and are subtracted from it
    /// (PiSSA, arXiv 2404.02948); `"pissa"` in files. With `niter` they are approximated by that
    /// many power iterations from a random start (`"pissa_niter_4"`), which is much faster for
    /// large layers.
    Pissa {
        /// Power iterations; none for the exact decomposition.
        niter: Option<usize>,
    },
    /// B and A are the first columns of the frozen weight's Q and the first rows of its R, and are
    /// subtracted from it (OLoRA, arXiv 2406.01775); `"olora"` in files.
    Olora,
}

impl InitLoraWeights {
    /// Whether the factors start with a product that is subtracted from the frozen weight. Such
    /// adapters are saved in the converted form: plain LoRA of twice the rank, with the start as
    /// its second half.
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

/// Which bias terms of the base model are trained; `none`, `lora_only` and `all` in files.
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
    pub(crate) fn head_modules(self) -> &'static [&'static str] {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_first_pattern_that_matches_gives_rank_and_alpha() {
        let patterns = |keys: &[(&str, usize)]| {
            let mut config = LoraConfig::new(4, 8.0);
            config.rank_pattern = keys
                .iter()
                .map(|(key, r)| ((*key).to_owned(), *r))
                .collect();
            config.alpha_pattern = keys
                .iter()
                .map(|(key, r)| ((*key).to_owned(), *r as f64 * 10.0))
                .collect();
            config.validate().unwrap();
            config
        };
        let module = "model.layers.1.self_attn.q_proj";
        let cases: &[(&[(&str, usize)], usize)] = &[
            (&[("q_proj", 1), ("layers.1.self_attn.q_proj", 2)], 1),
            (&[("layers.1.self_attn.q_proj", 2), ("q_proj", 1)], 2),
            (&[("^model.layers.1.self_attn.q_proj", 3)], 3),
            (&[("^layers.1.self_attn.q_proj", 3)], 4),
            (&[("layers.1.self_attn", 3)], 4),
            (&[("_proj", 3)], 4),
            (&[(r".*_proj", 3)], 3),
            (&[(r"layers\.\d+\.self_attn\.(q|v)_proj", 5)], 5),
            (&[("k_proj|q_proj", 6)], 6),
            // A dot is any character, also in a key without other signs of an expression.
            (&[("layers.1.self.attn.q.proj", 7)], 7),
            (&[("model.layers.1.self_attn.q_proj$", 8)], 8),
            (&[("x.model.layers.1.self_attn.q_proj", 9)], 4),
        ];
        for (keys, r) in cases {
            let config = patterns(keys);
            assert_eq!(config.rank_of(module), *r, "{keys:?}");
            let alpha = if *r == 4 { 8.0 } else { *r as f64 * 10.0 };
            assert_eq!(config.alpha_of(module), alpha, "{keys:?}");
            assert_eq!(config.scaling_of(module), alpha / *r as f64);
        }
    }

    #[test]
    fn rslora_divides_by_the_root_of_the_modules_own_rank() {
        let mut config = LoraConfig::new(4, 8.0);
        assert_eq!(config.scaling_of("q"), 2.0);
        config.use_rslora = true;
        assert_eq!(config.scaling_of("q"), 4.0);
        config.rank_pattern = vec![("q".into(), 16)];
        config.alpha_pattern = vec![("q".into(), 2.0)];
        assert_eq!(config.scaling_of("q"), 0.5);
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
    fn a_rank_over_the_layers_size_is_an_error_for_fresh_adapters() {
        let config = LoraConfig::new(8, 8.0);
        assert_eq!(config.checked_rank_of("q", 8, 16).unwrap(), 8);
        assert_eq!(
            config.checked_rank_of("v", 16, 7).unwrap_err().to_string(),
            "r = 8 is larger than v with 16 inputs and 7 outputs"
        );
    }
}
