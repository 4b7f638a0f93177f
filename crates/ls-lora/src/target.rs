//! Which modules a configuration adapts: PEFT's matching rules on full module names.
//!
//! Read off peft 0.21.2 (`check_target_module_exists`, `get_pattern_key`, `_set_trainable`). Names are those of the
//! base model, without the `base_model.model.` of files.

use std::collections::BTreeSet;
use std::fmt;

use regex::Regex;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::{LoraConfig, invalid};
use crate::error::{LoraError, Result};

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
    /// Modules whose full name is an entry or ends with a dot and an entry: `q_proj` is in every layer,
    /// `layers.1.self_attn.q_proj` in one.
    List(Vec<String>),
    /// A regular expression that must match the whole full name. Look-around and back-references are not supported.
    Pattern(String),
    /// Every linear layer except the head. (peft adapts the head of token classifiers too, and then fails.)
    AllLinear,
}

impl TargetModules {
    /// A list of names.
    ///
    /// ```
    /// use ls_lora::TargetModules;
    ///
    /// let targets = TargetModules::list(["q_proj", "v_proj"]);
    /// assert_eq!(targets, TargetModules::List(vec!["q_proj".to_owned(), "v_proj".to_owned()]));
    /// ```
    #[must_use]
    pub fn list(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::List(names.into_iter().map(Into::into).collect())
    }

    /// A single string as PEFT reads it: `all-linear` in any case, else a pattern for full names.
    ///
    /// ```
    /// use ls_lora::TargetModules;
    ///
    /// assert_eq!(TargetModules::parse("all-linear"), TargetModules::AllLinear);
    /// assert_eq!(TargetModules::parse(".*_proj"), TargetModules::Pattern(".*_proj".to_owned()));
    /// ```
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

/// What a configuration says about a module.
///
/// ```
/// use ls_lora::target::{ModuleMatcher, Selection};
/// use ls_lora::{LoraConfig, TargetModules};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// let mut config = LoraConfig::new(8, 16.0).with_target_modules(TargetModules::list(["up"]));
/// config.exclude_modules = Some(TargetModules::list(["layers.1.up"]));
/// let matcher = ModuleMatcher::new(&config)?;
/// let decisions = ["layers.0.up", "layers.1.up", "layers.1.down"].map(|name| matcher.decide(name));
/// assert_eq!(decisions, [Selection::Selected, Selection::Excluded, Selection::Unmatched]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// It is adapted.
    Selected,
    /// `exclude_modules` or `modules_to_save` keep it from being adapted.
    Excluded,
    /// No target matches it.
    Unmatched,
}

/// The targets of a configuration with their patterns compiled.
///
/// ```
/// use ls_lora::target::{ModuleMatcher, Selection};
/// use ls_lora::{LoraConfig, TaskType};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// let config = LoraConfig::default().with_task_type(TaskType::SeqCls);
/// let matcher = ModuleMatcher::new(&config)?;
/// assert_eq!(matcher.decide("model.layers.0.self_attn.q_proj"), Selection::Selected);
/// assert!(matcher.is_saved("score") && matcher.is_in_saved("score.weight"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ModuleMatcher<'a> {
    config: &'a LoraConfig,
    saved: Vec<String>,
    targets: Choice<'a>,
    excluded: Option<Choice<'a>>,
    /// Matches names that lie on the way to, at or below a module to save.
    not_adapted: Vec<Regex>,
    /// Captures the layer index; tried in order.
    layer_index: Vec<Regex>,
}

#[derive(Debug)]
enum Choice<'a> {
    List(&'a [String]),
    Pattern(Regex),
    AllLinear,
}

impl<'a> Choice<'a> {
    fn new(field: &str, targets: &'a TargetModules) -> Result<Self> {
        match targets {
            TargetModules::AllLinear => Ok(Self::AllLinear),
            TargetModules::Pattern(pattern) => {
                Ok(Self::Pattern(compile(field, pattern, &full(pattern))?))
            }
            TargetModules::List(names) if names.is_empty() => {
                Err(invalid(field, "[]", "it names no module"))
            }
            TargetModules::List(names) => {
                if names.iter().any(String::is_empty) {
                    return Err(invalid(field, format!("{names:?}"), "a name is empty"));
                }
                Ok(Self::List(names))
            }
        }
    }

    fn matches(&self, module: &str) -> bool {
        match self {
            Self::List(names) => names.iter().any(|name| is_dotted_suffix(name, module)),
            Self::Pattern(pattern) => pattern.is_match(module),
            Self::AllLinear => true,
        }
    }
}

impl<'a> ModuleMatcher<'a> {
    /// Compiles the patterns of a configuration.
    ///
    /// ```
    /// use ls_lora::target::ModuleMatcher;
    /// use ls_lora::{LoraConfig, LoraError, TargetModules};
    ///
    /// let config = LoraConfig::new(8, 16.0).with_target_modules(TargetModules::parse("(q_proj"));
    /// let refused = ModuleMatcher::new(&config);
    /// assert!(matches!(refused, Err(LoraError::InvalidConfig { field, .. }) if field == "target_modules"));
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoraError::InvalidConfig`] naming the field with a bad pattern or without a name.
    pub fn new(config: &'a LoraConfig) -> Result<Self> {
        let saved = config.saved_modules();
        if let Some(name) = saved.iter().find(|name| name.is_empty()) {
            return Err(invalid(
                "modules_to_save",
                format!("{name:?}"),
                "a name is empty",
            ));
        }
        let not_adapted = saved
            .iter()
            .map(|name| {
                compile(
                    "modules_to_save",
                    name,
                    &format!(r"\A(?:(^|.*\.){name}($|\..*))"),
                )
            })
            .collect::<Result<_>>()?;
        let layer_index = match config.layers_pattern.as_deref() {
            // The first numbered part, not the last, which could be that of an expert.
            None | Some([]) => {
                let any = r"\A.*?\.[^.]*\.(?P<idx>\d+)\.";
                vec![compile("layers_pattern", any, any)?]
            }
            Some(patterns) => patterns
                .iter()
                .map(|p| {
                    compile(
                        "layers_pattern",
                        p,
                        &format!(r"\A(?:(?:^|.*?\.){p}\.(?P<idx>\d+)\.)"),
                    )
                })
                .collect::<Result<_>>()?,
        };
        for key in config.rank_pattern.iter().map(|(key, _)| key) {
            compile("rank_pattern", key, &suffix(key))?;
        }
        for key in config.alpha_pattern.iter().map(|(key, _)| key) {
            compile("alpha_pattern", key, &suffix(key))?;
        }
        Ok(Self {
            config,
            saved,
            targets: Choice::new("target_modules", &config.target_modules)?,
            excluded: match &config.exclude_modules {
                Some(excluded) => Some(Choice::new("exclude_modules", excluded)?),
                None => None,
            },
            not_adapted,
            layer_index,
        })
    }

    /// What the configuration says about a module with this full name.
    ///
    /// `all-linear` selects every name: the caller leaves the head out, as [`select_modules`] does.
    ///
    /// ```
    /// use ls_lora::LoraConfig;
    /// use ls_lora::target::{ModuleMatcher, Selection};
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// let mut config = LoraConfig::default();             // q_proj and v_proj
    /// config.layers_to_transform = Some(vec![1]);
    /// let matcher = ModuleMatcher::new(&config)?;
    /// assert_eq!(matcher.decide("model.layers.0.self_attn.q_proj"), Selection::Unmatched);
    /// assert_eq!(matcher.decide("model.layers.1.self_attn.q_proj"), Selection::Selected);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn decide(&self, module: &str) -> Selection {
        if self.is_excluded(module) {
            Selection::Excluded
        } else if self.targets.matches(module) && self.is_in_layers(module) {
            Selection::Selected
        } else {
            Selection::Unmatched
        }
    }

    /// Whether a module is trained and saved in full.
    ///
    /// As in peft this is a suffix test *without* a dot: `norm` also means every `input_layernorm`.
    ///
    /// ```
    /// use ls_lora::LoraConfig;
    /// use ls_lora::target::ModuleMatcher;
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// let config = LoraConfig::default().with_modules_to_save(["norm"]);
    /// let matcher = ModuleMatcher::new(&config)?;
    /// assert!(matcher.is_saved("model.norm") && matcher.is_saved("model.layers.0.input_layernorm"));
    /// assert!(!matcher.is_saved("model.norm.weight"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_saved(&self, module: &str) -> bool {
        self.saved
            .iter()
            .any(|name| module.ends_with(name.as_str()))
    }

    /// Whether a parameter belongs to a module that is trained and saved in full, or to a part of one.
    ///
    /// ```
    /// use ls_lora::LoraConfig;
    /// use ls_lora::target::ModuleMatcher;
    ///
    /// # fn main() -> Result<(), ls_lora::LoraError> {
    /// let config = LoraConfig::default().with_modules_to_save(["head"]);
    /// let matcher = ModuleMatcher::new(&config)?;
    /// assert!(matcher.is_in_saved("head.fc1.weight") && !matcher.is_in_saved("model.fc1.weight"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_in_saved(&self, parameter: &str) -> bool {
        parameter
            .match_indices('.')
            .any(|(end, _)| self.is_saved(&parameter[..end]))
    }

    fn is_excluded(&self, module: &str) -> bool {
        self.excluded
            .as_ref()
            .is_some_and(|excluded| excluded.matches(module))
            || self
                .not_adapted
                .iter()
                .any(|pattern| pattern.is_match(module))
    }

    fn is_in_layers(&self, module: &str) -> bool {
        let Some(layers) = self
            .config
            .layers_to_transform
            .as_deref()
            .filter(|layers| !layers.is_empty())
        else {
            return true;
        };
        match &self.targets {
            // A module named in full is adapted in whatever layer it is.
            Choice::List(names) if names.iter().any(|name| name == module) => true,
            _ => self
                .layer_of(module)
                .is_some_and(|layer| layers.contains(&layer)),
        }
    }

    fn layer_of(&self, module: &str) -> Option<usize> {
        let captures = self
            .layer_index
            .iter()
            .find_map(|pattern| pattern.captures(module))?;
        // By name, for a layers_pattern may have groups of its own.
        let index = captures.name("idx")?;
        index.as_str().parse().ok()
    }
}

/// The full names of the modules that a configuration adapts, in the order given.
///
/// `linear_names` and `embedding_names` are the modules that can be adapted, `head_names` the heads (whether or not they are
/// among the former): `all-linear` takes the linear layers but the heads.
///
/// ```
/// use ls_lora::{LoraConfig, LoraError, TargetModules, select_modules};
///
/// # fn main() -> Result<(), ls_lora::LoraError> {
/// let names = ["encoder.fc1", "encoder.fc2", "score"];
/// let config = LoraConfig::new(8, 16.0).with_target_modules(TargetModules::list(["fc1", "score"]));
/// assert_eq!(select_modules(&config, &names, &[], &["score"])?, ["encoder.fc1", "score"]);
///
/// let config = config.with_target_modules(TargetModules::list(["fc1", "fc3"]));
/// let refused = select_modules(&config, &names, &[], &["score"]);
/// assert!(matches!(refused, Err(LoraError::UnmatchedTargets { requested, .. }) if requested == ["fc3"]));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Stricter than peft, which is content with one match: each listed name that matches nothing is an error
/// ([`LoraError::UnmatchedTargets`]), as is a pattern ([`LoraError::UnmatchedPattern`]), a layer without a targeted
/// module ([`LoraError::UnmatchedLayers`]) and targets that are all excluded ([`LoraError::NothingToAdapt`]).
/// [`LoraError::InvalidConfig`] as [`LoraConfig::validate`].
pub fn select_modules(
    config: &LoraConfig,
    linear_names: &[&str],
    embedding_names: &[&str],
    head_names: &[&str],
) -> Result<Vec<String>> {
    config.validate()?;
    let matcher = ModuleMatcher::new(config)?;
    let owned = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    let candidates: Vec<&str> = match matcher.targets {
        Choice::AllLinear => linear_names
            .iter()
            .copied()
            .filter(|name| !head_names.contains(name))
            .collect(),
        _ => [embedding_names, linear_names].concat(),
    };
    let available = || owned(&[embedding_names, linear_names].concat());
    let matched: Vec<&str> = candidates
        .iter()
        .copied()
        .filter(|name| matcher.targets.matches(name))
        .collect();

    if let Choice::List(names) = matcher.targets {
        // A head that is trained in full may be listed: it is there, and peft passes over it too.
        let saved_heads = head_names.iter().filter(|head| matcher.is_excluded(head));
        let present: Vec<&str> = candidates.iter().chain(saved_heads).copied().collect();
        let without_match =
            |name: &&String| !present.iter().any(|module| is_dotted_suffix(name, module));
        let requested: Vec<String> = names.iter().filter(without_match).cloned().collect();
        if !requested.is_empty() {
            return Err(LoraError::UnmatchedTargets {
                field: "target_modules".to_owned(),
                requested,
                available: available(),
            });
        }
    }
    if let (TargetModules::Pattern(pattern), true) = (&config.target_modules, matched.is_empty()) {
        return Err(LoraError::UnmatchedPattern {
            field: "target_modules".to_owned(),
            pattern: pattern.clone(),
            available: available(),
        });
    }
    if let Some(layers) = &config.layers_to_transform {
        let available: BTreeSet<usize> = matched
            .iter()
            .filter_map(|name| matcher.layer_of(name))
            .collect();
        let requested: Vec<usize> = layers
            .iter()
            .copied()
            .filter(|layer| !available.contains(layer))
            .collect();
        if !requested.is_empty() {
            return Err(LoraError::UnmatchedLayers {
                requested,
                available: available.into_iter().collect(),
            });
        }
    }
    let is_selected = |name: &&str| matcher.decide(name) == Selection::Selected;
    let selected: Vec<&str> = matched.iter().copied().filter(is_selected).collect();
    if selected.is_empty() {
        return Err(LoraError::NothingToAdapt {
            excluded: owned(&matched),
        });
    }
    Ok(owned(&selected))
}

/// The keys of `rank_pattern` and `alpha_pattern` that match none of the selected modules, each with its field.
///
/// peft warns about them; usually they are misspelt.
///
/// ```
/// use ls_lora::LoraConfig;
/// use ls_lora::target::unmatched_pattern_keys;
///
/// let mut config = LoraConfig::default();
/// config.rank_pattern = vec![("q_proj".to_owned(), 4), ("q_prjo".to_owned(), 2)];
/// let selected = ["layers.0.q_proj".to_owned()];
/// assert_eq!(unmatched_pattern_keys(&config, &selected), [("rank_pattern", "q_prjo".to_owned())]);
/// ```
#[must_use]
pub fn unmatched_pattern_keys(
    config: &LoraConfig,
    selected: &[String],
) -> Vec<(&'static str, String)> {
    let ranks = config
        .rank_pattern
        .iter()
        .map(|(key, _)| ("rank_pattern", key));
    let alphas = config
        .alpha_pattern
        .iter()
        .map(|(key, _)| ("alpha_pattern", key));
    ranks
        .chain(alphas)
        .filter(|(_, key)| {
            !selected
                .iter()
                .any(|module| matches_pattern_key(key, module))
        })
        .map(|(field, key)| (field, key.clone()))
        .collect()
}

/// Whether a key of `rank_pattern` or `alpha_pattern` matches a module: the expression must reach the end of the name
/// and begin at its start or after a dot. A key that is no expression matches nothing; validation refuses it.
pub(crate) fn matches_pattern_key(key: &str, module: &str) -> bool {
    // Files may list hundreds of full names as keys, and each is asked about each module: too many to compile.
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
    Regex::new(&suffix(key)).is_ok_and(|pattern| pattern.is_match(module))
}

fn is_dotted_suffix(name: &str, module: &str) -> bool {
    module
        .strip_suffix(name)
        .is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn full(pattern: &str) -> String {
    format!(r"\A(?:{pattern})\z")
}

fn suffix(key: &str) -> String {
    format!(r"\A(?:.*\.)?(?:{key})\z")
}

fn compile(field: &str, shown: &str, pattern: &str) -> Result<Regex> {
    Regex::new(pattern).map_err(|error| {
        // The last line of a syntax error says what is wrong; those before draw the pattern.
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default();
        invalid(
            field,
            shown,
            reason.strip_prefix("error: ").unwrap_or(reason),
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::TaskType;

    /// The linear layers of a llama with this many layers, in model order, and its head.
    fn llama(layers: usize) -> Vec<String> {
        let parts = [
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
            "self_attn.o_proj",
            "mlp.gate_proj",
            "mlp.up_proj",
            "mlp.down_proj",
        ];
        let blocks = (0..layers).flat_map(|i| parts.map(|part| format!("model.layers.{i}.{part}")));
        blocks.chain(["score".to_owned()]).collect()
    }

    fn select(config: &LoraConfig) -> Result<Vec<String>> {
        let names = llama(2);
        select_modules(
            config,
            &names.iter().map(String::as_str).collect::<Vec<_>>(),
            &[],
            &["score"],
        )
    }

    fn list(names: &[&str]) -> LoraConfig {
        LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(names.iter().copied()))
    }

    fn pattern(text: &str) -> LoraConfig {
        LoraConfig::new(2, 4.0).with_target_modules(TargetModules::parse(text))
    }

    /// Short names: `0.q` for `model.layers.0.self_attn.q_proj`.
    fn check(config: &LoraConfig, expected: &str) {
        let selected: Vec<String> = select(config)
            .unwrap()
            .iter()
            .map(|name| {
                let parts: Vec<&str> = name.split('.').collect();
                match parts[..] {
                    ["model", "layers", layer, _, module] => {
                        format!("{layer}.{}", module.trim_end_matches("_proj"))
                    }
                    _ => name.clone(),
                }
            })
            .collect();
        assert_eq!(selected.join(" "), expected, "{config:?}");
    }

    #[test]
    fn a_list_matches_full_names_and_dotted_suffixes() {
        check(&list(&["q_proj"]), "0.q 1.q");
        check(&list(&["v_proj", "q_proj"]), "0.q 0.v 1.q 1.v");
        check(&list(&["layers.1.self_attn.q_proj"]), "1.q");
        check(
            &list(&["model.layers.0.mlp.up_proj", "1.mlp.up_proj"]),
            "0.up 1.up",
        );
        check(&list(&["score", "o_proj"]), "0.o 1.o score");
    }

    #[test]
    fn a_list_entry_is_no_expression_and_no_bare_suffix() {
        for entry in [
            "proj",
            "_proj",
            ".*proj",
            "self_attn",
            "layers.2.self_attn.q_proj",
            ".q_proj",
        ] {
            let LoraError::UnmatchedTargets {
                requested,
                available,
                ..
            } = select(&list(&["q_proj", entry])).unwrap_err()
            else {
                panic!("{entry}");
            };
            assert_eq!(requested, [entry]);
            assert_eq!(available, llama(2));
        }
    }

    #[test]
    fn a_pattern_must_match_the_whole_name() {
        check(&pattern(r".*\.(q_proj|o_proj)"), "0.q 0.o 1.q 1.o");
        check(
            &pattern(r"model\.layers\.1\..*_proj"),
            "1.q 1.k 1.v 1.o 1.gate 1.up 1.down",
        );
        check(&pattern(r".*q_proj|score"), "0.q 1.q score");
        check(&pattern(r"^.*0.self_attn.v_proj$"), "0.v");
        for part in ["q_proj", r".*\.q", r"layers\.1\..*", ".*q_proj|", "a|b"] {
            let result = select(&pattern(part));
            match part {
                // An empty branch matches only an empty name.
                ".*q_proj|" => assert_eq!(result.unwrap().len(), 2),
                _ => assert!(
                    matches!(result, Err(LoraError::UnmatchedPattern { .. })),
                    "{part}"
                ),
            }
        }
    }

    #[test]
    fn all_linear_in_any_case_never_takes_the_head() {
        let all = "0.q 0.k 0.v 0.o 0.gate 0.up 0.down 1.q 1.k 1.v 1.o 1.gate 1.up 1.down";
        check(&pattern("all-linear"), all);
        check(&pattern("All-Linear"), all);
        check(
            &pattern("all-linear").with_task_type(TaskType::TokenCls),
            all,
        );
    }

    #[test]
    fn exclusion_wins_over_targets() {
        let excluding = |mut config: LoraConfig, excluded: TargetModules| {
            config.exclude_modules = Some(excluded);
            config
        };
        let names = TargetModules::list(["0.self_attn.q_proj", "mlp.down_proj"]);
        check(&excluding(list(&["q_proj", "down_proj"]), names), "1.q");
        check(
            &excluding(list(&["q_proj"]), TargetModules::parse(r".*\.1\..*")),
            "0.q",
        );
        check(
            &excluding(list(&["q_proj"]), TargetModules::parse("q_proj")),
            "0.q 1.q",
        );
        check(
            &excluding(
                pattern("all-linear"),
                TargetModules::parse(".*mlp.*|.*[kvo]_proj"),
            ),
            "0.q 1.q",
        );
        let nothing = select(&excluding(
            list(&["q_proj"]),
            TargetModules::list(["q_proj"]),
        ))
        .unwrap_err();
        assert!(matches!(nothing, LoraError::NothingToAdapt { excluded } if excluded.len() == 2));
        assert!(
            excluding(list(&["q_proj"]), TargetModules::AllLinear)
                .validate()
                .is_err()
        );
    }

    #[test]
    fn modules_to_save_are_never_adapted() {
        check(
            &list(&["q_proj", "score"]).with_task_type(TaskType::SeqCls),
            "0.q 1.q",
        );
        check(
            &pattern(".*q_proj|score").with_modules_to_save(["score"]),
            "0.q 1.q",
        );
        // Everything below a module to save is excluded, and the name is an expression.
        check(
            &list(&["q_proj", "up_proj"]).with_modules_to_save(["layers.1"]),
            "0.q 0.up",
        );
        check(
            &list(&["q_proj", "up_proj"]).with_modules_to_save(["layers..[.]mlp"]),
            "0.q 1.q",
        );
        // For this test a dot is needed before the name.
        check(&list(&["q_proj"]).with_modules_to_save(["proj"]), "0.q 1.q");
        let only_head = list(&["score"]).with_task_type(TaskType::SeqCls);
        assert!(matches!(
            select(&only_head),
            Err(LoraError::NothingToAdapt { .. })
        ));
    }

    #[test]
    fn a_head_that_is_only_saved_may_be_listed() {
        let names = ["a.q_proj"];
        let config = list(&["q_proj", "score"]).with_task_type(TaskType::SeqCls);
        assert_eq!(
            select_modules(&config, &names, &[], &["score"]).unwrap(),
            ["a.q_proj"]
        );
        assert!(select_modules(&list(&["q_proj", "score"]), &names, &[], &["score"]).is_err());
    }

    #[test]
    fn saved_modules_are_a_suffix_test_without_a_dot() {
        let config = list(&["q_proj"])
            .with_modules_to_save(["norm"])
            .with_task_type(TaskType::TokenCls);
        let matcher = ModuleMatcher::new(&config).unwrap();
        for name in [
            "model.norm",
            "model.layers.0.input_layernorm",
            "model.layers.1.post_attention_layernorm",
            "score",
        ] {
            assert!(matcher.is_saved(name), "{name}");
        }
        assert!(!matcher.is_saved("model.norm.weight") && !matcher.is_saved("score.weight"));
        // The exclusion from adapting asks for the dot.
        assert_eq!(matcher.decide("model.norm"), Selection::Excluded);
        assert_eq!(
            matcher.decide("model.layers.0.input_layernorm"),
            Selection::Unmatched
        );
    }

    fn in_layers(mut config: LoraConfig, layers: &[usize], pattern: Option<&[&str]>) -> LoraConfig {
        config.layers_to_transform = Some(layers.to_vec());
        config.layers_pattern =
            pattern.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        config
    }

    #[test]
    fn layers_to_transform_restricts_a_list() {
        check(&in_layers(list(&["q_proj"]), &[1], None), "1.q");
        check(
            &in_layers(list(&["q_proj"]), &[0, 1], Some(&["layers"])),
            "0.q 1.q",
        );
        check(
            &in_layers(list(&["q_proj"]), &[0], Some(&["h", "layers"])),
            "0.q",
        );
        check(
            &in_layers(list(&["q_proj"]), &[0], Some(&["(h|layers)"])),
            "0.q",
        );
        // As in peft, no index means no restriction, and a module named in full is taken in any layer.
        check(&in_layers(list(&["q_proj"]), &[], None), "0.q 1.q");
        check(
            &in_layers(
                list(&["model.layers.0.self_attn.v_proj", "q_proj"]),
                &[1],
                None,
            ),
            "0.v 1.q",
        );
    }

    #[test]
    fn the_layer_is_the_first_numbered_part() {
        let names = [
            "model.layers.1.experts.0.up",
            "model.layers.0.experts.1.up",
            "layers.1.up",
        ];
        let selected = |pattern| {
            select_modules(&in_layers(list(&["up"]), &[1], pattern), &names, &[], &[]).unwrap()
        };
        // Without a pattern a name must have a part before the list's name.
        assert_eq!(selected(None), [names[0]]);
        assert_eq!(selected(Some(&["layers"])), [names[0], names[2]]);
        assert_eq!(selected(Some(&["experts"])), [names[1]]);
    }

    #[test]
    fn a_layer_that_is_not_there_is_an_error() {
        let error = select(&in_layers(list(&["q_proj"]), &[1, 7], None)).unwrap_err();
        assert!(
            matches!(error, LoraError::UnmatchedLayers { requested, available }
            if requested == [7] && available == [0, 1])
        );
        let error = select(&in_layers(list(&["q_proj"]), &[0], Some(&["h"]))).unwrap_err();
        assert!(
            matches!(error, LoraError::UnmatchedLayers { available, .. } if available.is_empty())
        );
    }

    #[test]
    fn layers_contradict_anything_but_a_list() {
        for config in [
            in_layers(pattern(".*q_proj"), &[0], None),
            in_layers(pattern("all-linear"), &[0], None),
        ] {
            assert!(
                matches!(select(&config), Err(LoraError::InvalidConfig { field, .. }) if field == "layers_to_transform")
            );
        }
        let mut config = list(&["q_proj"]);
        config.layers_pattern = Some(vec!["layers".into()]);
        assert!(
            matches!(select(&config), Err(LoraError::InvalidConfig { field, .. }) if field == "layers_pattern")
        );
    }

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
        let config = patterns(&[("v_proj", 9), ("q_prj", 1)]);
        let selected = ["model.layers.0.self_attn.v_proj".to_owned()];
        assert_eq!(
            unmatched_pattern_keys(&config, &selected),
            [
                ("rank_pattern", "q_prj".to_owned()),
                ("alpha_pattern", "q_prj".to_owned())
            ]
        );
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
    fn bad_patterns_name_their_field() {
        let with = |change: fn(&mut LoraConfig)| {
            let mut config = list(&["q_proj"]);
            change(&mut config);
            config
        };
        let cases: Vec<(LoraConfig, &str)> = vec![
            (pattern("(q_proj"), "target_modules"),
            (pattern("(?!.*head).*"), "target_modules"),
            (list(&[]), "target_modules"),
            (list(&["q_proj", ""]), "target_modules"),
            (
                with(|c| c.exclude_modules = Some(TargetModules::parse("["))),
                "exclude_modules",
            ),
            (
                with(|c| c.rank_pattern = vec![("q_proj(".into(), 2)]),
                "rank_pattern",
            ),
            (
                with(|c| c.alpha_pattern = vec![("*".into(), 2.0)]),
                "alpha_pattern",
            ),
            (
                with(|c| c.modules_to_save = vec!["score)".into()]),
                "modules_to_save",
            ),
            (
                with(|c| c.modules_to_save = vec![String::new()]),
                "modules_to_save",
            ),
            (
                with(|c| {
                    c.layers_to_transform = Some(vec![0]);
                    c.layers_pattern = Some(vec!["[".into()]);
                }),
                "layers_pattern",
            ),
        ];
        for (config, expected) in cases {
            match select(&config).unwrap_err() {
                LoraError::InvalidConfig { field, reason, .. } => {
                    assert_eq!(field, expected);
                    assert!(!reason.is_empty() && !reason.contains('\n'), "{reason}");
                }
                other => panic!("{other}"),
            }
        }
    }
}
