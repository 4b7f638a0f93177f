//! Which modules a configuration adapts: PEFT's matching rules on full module names; and checking a
//! configuration.
//!
//! The rules are those of peft 0.21.2 (`check_target_module_exists`, `get_pattern_key`,
//! `_set_trainable`). Names are those of the base model, without the `base_model.model.` of files.

use std::collections::BTreeSet;

use regex::{Regex, RegexBuilder};
use serde_json::json;

use crate::config::{InitLoraWeights, LoraConfig, TargetModules, pattern_key_regex};
use crate::error::{LoraError, Result, invalid};

/// The largest rank: more than any layer's width; sums of ranks stay far from overflowing.
pub const LARGEST_RANK: usize = 1 << 24;
/// The largest `lora_alpha`, of either sign: far within f32, whatever the rank divides it by.
pub const LARGEST_ALPHA: f64 = 1e9;
/// Passes of PiSSA's approximation: some tens are as good as the exact one.
const MOST_PASSES: usize = 1 << 10;
/// The most patterns of one field. Files that list every module have hundreds.
pub const MOST_PATTERNS: usize = 1 << 13;
/// Bytes that a compiled pattern may take: thousands of names, or a few counted repetitions.
const PATTERN_BYTES: usize = 1 << 20;

/// What a configuration says about a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selection {
    /// It is adapted.
    Selected,
    /// `exclude_modules` or `modules_to_save` keep it from being adapted.
    Excluded,
    /// No target matches it.
    Unmatched,
}

/// The targets of a configuration with their patterns compiled.
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
            compile("rank_pattern", key, &pattern_key_regex(key))?;
        }
        for key in config.alpha_pattern.iter().map(|(key, _)| key) {
            compile("alpha_pattern", key, &pattern_key_regex(key))?;
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
    pub(crate) fn decide(&self, module: &str) -> Selection {
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
    #[must_use]
    pub fn is_saved(&self, module: &str) -> bool {
        self.saved
            .iter()
            .any(|name| module.ends_with(name.as_str()))
    }

    /// Whether a parameter belongs to a module that is trained and saved in full, or to a part of
    /// one.
    pub(crate) fn is_in_saved(&self, parameter: &str) -> bool {
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

/// What becomes of a name or a layer in a configuration that nothing in the model matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmatched {
    /// It is an error, because a fresh adapter would be smaller than was asked for.
    Refused,
    /// It is passed over, as in peft. Of a saved adapter the file says what it adapts, and that is
    /// compared; the lists in its configuration are often made for several architectures.
    PassedOver,
}

/// The full names of the modules that a configuration adapts, in the order given.
///
/// `linear_names` and `embedding_names` are the modules that can be adapted, `head_names` the heads
/// (whether or not they are among the former): `all-linear` takes the linear layers but the heads.
///
/// # Errors
///
/// Stricter than peft, which is content with one match: each listed name that matches nothing is an
/// error ([`LoraError::UnmatchedTargets`]), as is a pattern ([`LoraError::UnmatchedPattern`]), a
/// layer without a targeted module ([`LoraError::UnmatchedLayers`]) and targets that are all
/// excluded ([`LoraError::NothingToAdapt`]). [`LoraError::InvalidConfig`] as
/// [`LoraConfig::validate`].
pub fn select_modules(
    config: &LoraConfig,
    linear_names: &[&str],
    embedding_names: &[&str],
    head_names: &[&str],
) -> Result<Vec<String>> {
    select(
        config,
        linear_names,
        embedding_names,
        head_names,
        Unmatched::Refused,
    )
}

/// As [`select_modules`], of an adapter that there is: one match is enough, as in peft, since the
/// lists in its configuration are often made for several architectures.
///
/// # Errors
///
/// As [`select_modules`], if nothing of a list matches.
pub fn modules_of_adapter(
    config: &LoraConfig,
    linear_names: &[&str],
    embedding_names: &[&str],
    head_names: &[&str],
) -> Result<Vec<String>> {
    select(
        config,
        linear_names,
        embedding_names,
        head_names,
        Unmatched::PassedOver,
    )
}

/// As [`select_modules`]; with [`Unmatched::PassedOver`], one match is enough.
pub(crate) fn select(
    config: &LoraConfig,
    linear_names: &[&str],
    embedding_names: &[&str],
    head_names: &[&str],
    unmatched: Unmatched,
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
        let is_fault = unmatched == Unmatched::Refused || requested.len() == names.len();
        if is_fault && !requested.is_empty() {
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
        let is_fault = unmatched == Unmatched::Refused || requested.len() == layers.len();
        if is_fault && !requested.is_empty() {
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

fn is_dotted_suffix(name: &str, module: &str) -> bool {
    module
        .strip_suffix(name)
        .is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn full(pattern: &str) -> String {
    format!(r"\A(?:{pattern})\z")
}

/// Whether a numerator of the scaling is one that f32 holds well.
fn is_alpha(alpha: f64) -> bool {
    alpha.abs() <= LARGEST_ALPHA
}

fn alpha_bounds() -> String {
    format!("it must lie within -{LARGEST_ALPHA:e} and {LARGEST_ALPHA:e}")
}

fn compile(field: &str, shown: &str, pattern: &str) -> Result<Regex> {
    let built = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES).build();
    built.map_err(|error| {
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

impl LoraConfig {
    /// Checks every field that can be checked without a model.
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
        if !is_alpha(self.lora_alpha) {
            return Err(invalid("lora_alpha", self.lora_alpha, alpha_bounds()));
        }
        let lengths = [
            ("rank_pattern", self.rank_pattern.len()),
            ("alpha_pattern", self.alpha_pattern.len()),
            ("modules_to_save", self.modules_to_save.len()),
            (
                "layers_pattern",
                self.layers_pattern.as_ref().map_or(0, Vec::len),
            ),
            (
                "layers_to_transform",
                self.layers_to_transform.as_ref().map_or(0, Vec::len),
            ),
        ];
        if let Some((field, len)) = lengths.into_iter().find(|(_, len)| *len > MOST_PATTERNS) {
            let reason = format!("at most {MOST_PATTERNS} are taken");
            return Err(invalid(field, format!("{len} entries"), reason));
        }
        if let InitLoraWeights::Pissa { niter: Some(niter) } = self.init_lora_weights
            && niter > MOST_PASSES
        {
            let reason = format!("at most {MOST_PASSES} passes are taken");
            return Err(invalid("init_lora_weights", self.init_lora_weights, reason));
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
            if !is_alpha(*alpha) {
                return Err(invalid(
                    "alpha_pattern",
                    format!("{key}: {alpha}"),
                    alpha_bounds(),
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
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::TaskType;

    #[test]
    fn saved_modules_are_a_suffix_test_without_a_dot() {
        let config = LoraConfig::default()
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
}
