//! [`LoraError`]: faults of configurations, adapter folders and tensor files.

use std::path::PathBuf;

use ls_files::{FileError, NotAFloat};

/// The result of this crate's functions.
pub type Result<T, E = LoraError> = std::result::Result<T, E>;

/// Every error of this crate: what a person gave that cannot be used, with the offending value in
/// it.
///
/// ```
/// use std::error::Error;
/// use ls_lora::{LoraConfig, LoraError};
///
/// let Err(error) = LoraConfig::from_json(r#"{"peft_type": "LORA", "r": 0}"#) else { panic!("no rank is 0") };
/// assert_eq!(error.to_string(), "`r` = 0 is invalid: a rank is at least 1");
/// assert!(matches!(error, LoraError::InvalidConfig { field, .. } if field == "r"));
///
/// // What lies below is in the source.
/// let Err(error) = LoraConfig::from_json("r = 0") else { panic!("it is not JSON") };
/// assert!(error.source().is_some_and(|cause| cause.to_string().contains("line 1")));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoraError {
    /// A file that is missing, or cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),

    /// A tensor's values are no floats.
    #[error(transparent)]
    NotAFloat(#[from] NotAFloat),

    /// An adapter must not be saved beside a `config.json`: transformers then takes the folder for
    /// a whole model and demands `model.safetensors`.
    #[error("{} is in the way: beside it, transformers does not recognise an adapter; save into another folder", path.display())]
    ConfigJsonPresent {
        /// The `config.json` found.
        path: PathBuf,
    },

    /// An adapter configuration is not JSON.
    #[error("the adapter configuration is not valid JSON")]
    ConfigJson {
        /// What the parser says, with line and column.
        source: serde_json::Error,
    },

    /// The configuration file of an adapter folder cannot be used; the source says why.
    #[error("cannot use {}", path.display())]
    AdapterConfig {
        /// The `adapter_config.json`.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<LoraError>,
    },

    /// A configuration field asks for something that would change the result and is not
    /// implemented.
    #[error("`{field}` = {value} is not supported, and ignoring it would change the result")]
    UnsupportedConfig {
        /// The field, as PEFT spells it.
        field: String,
        /// The value found, as JSON.
        value: String,
    },

    /// A configuration field has a value that no adapter can have.
    #[error("`{field}` = {value} is invalid: {reason}")]
    InvalidConfig {
        /// The field, as PEFT spells it.
        field: String,
        /// The value found.
        value: String,
        /// Why it cannot be.
        reason: String,
    },

    /// Requested names match no module of the model.
    #[error("`{field}`: {} match{} no module; there are: {}", list(requested), if requested.len() == 1 { "es" } else { "" }, modules(available))]
    UnmatchedTargets {
        /// The field that requested them.
        field: String,
        /// The entries without a match.
        requested: Vec<String>,
        /// The modules that could be adapted.
        available: Vec<String>,
    },

    /// A pattern matches the full name of no module of the model.
    #[error(
        "`{field}`: no full module name matches the pattern {pattern}; there are: {}",
        modules(available)
    )]
    UnmatchedPattern {
        /// The field that requested it.
        field: String,
        /// The regular expression.
        pattern: String,
        /// The modules that could be adapted.
        available: Vec<String>,
    },

    /// Requested layers do not exist.
    #[error(
        "`layers_to_transform`: no targeted module in layers {requested:?}; the targeted modules are in layers {available:?}"
    )]
    UnmatchedLayers {
        /// The layer indices without a match.
        requested: Vec<usize>,
        /// The layer indices of the modules that the targets match.
        available: Vec<usize>,
    },

    /// Every module that the targets match is excluded again.
    #[error(
        "nothing is left to adapt: `exclude_modules` and `modules_to_save` exclude all of {}",
        modules(excluded)
    )]
    NothingToAdapt {
        /// The modules that matched and are excluded.
        excluded: Vec<String>,
    },

    /// A rank is larger than the layer it would adapt.
    #[error("r = {r} is larger than {module} with {in_features} inputs and {out_features} outputs")]
    RankTooLarge {
        /// The full name of the module.
        module: String,
        /// The rank asked for.
        r: usize,
        /// The module's inputs.
        in_features: usize,
        /// The module's outputs.
        out_features: usize,
    },

    /// No adapter has this name.
    #[error("there is no adapter {name:?}; there are: {}", if available.is_empty() { "none".to_owned() } else { list(available) })]
    UnknownAdapter {
        /// The name asked for.
        name: String,
        /// The adapters that are there.
        available: Vec<String>,
    },

    /// An adapter of this name is there already.
    #[error("there is an adapter {name:?} already: delete it first, or choose another name")]
    DuplicateAdapter {
        /// The name.
        name: String,
    },

    /// Adapters cannot be used, combined or changed as asked.
    #[error("{action}: {reason}")]
    Incompatible {
        /// What was asked for.
        action: &'static str,
        /// Why it cannot be.
        reason: String,
    },

    /// A frozen weight cannot be decomposed or packed.
    #[error("the frozen weight holds NaN or an infinity")]
    NonFiniteWeight,

    /// The crate was built without the backend of a device, which packed weights need.
    #[error(
        "packed weights on {device}: ls-lora was built without that backend; name its feature (flex, cuda or wgpu)"
    )]
    BackendNotBuilt {
        /// The device.
        device: String,
    },

    /// Something failed for one module; the source says what.
    #[error("module {module}")]
    InModule {
        /// The module's full name.
        module: String,
        /// What failed.
        source: Box<LoraError>,
    },

    /// An adapter was made for another task.
    #[error("the adapter is for task {found}, the model is for task {expected}")]
    WrongTask {
        /// The task of the model.
        expected: String,
        /// The task of the adapter.
        found: String,
    },

    /// A file holds tensors that the configuration does not account for.
    #[error("{}: the configuration does not account for {}", path.display(), list(names))]
    SurplusTensors {
        /// The file.
        path: PathBuf,
        /// The tensors, in name order.
        names: Vec<String>,
    },

    /// A tensor belongs to a kind of adapter that is not implemented.
    #[error("{}: tensor {name} belongs to {kind}, which is not supported", path.display())]
    UnsupportedTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The kind of adapter.
        kind: &'static str,
    },
}

impl LoraError {
    /// Whether the configuration someone asked for is at fault, rather than a file or the system.
    #[must_use]
    pub fn is_config(&self) -> bool {
        matches!(
            self,
            Self::UnsupportedConfig { .. }
                | Self::InvalidConfig { .. }
                | Self::UnmatchedTargets { .. }
                | Self::UnmatchedPattern { .. }
                | Self::UnmatchedLayers { .. }
                | Self::NothingToAdapt { .. }
                | Self::RankTooLarge { .. }
        )
    }
}

/// A field with a value that no adapter can have.
pub(crate) fn invalid(field: &str, value: impl ToString, reason: impl Into<String>) -> LoraError {
    LoraError::InvalidConfig {
        field: field.to_owned(),
        value: value.to_string(),
        reason: reason.into(),
    }
}

/// What failed for the module with this full name.
pub(crate) fn in_module(module: &str, source: LoraError) -> LoraError {
    LoraError::InModule {
        module: module.to_owned(),
        source: Box::new(source),
    }
}

/// How many names an error spells out.
const LISTED: usize = 16;

/// Names separated by commas, cut after a readable number.
fn list<S: AsRef<str>>(names: &[S]) -> String {
    ls_files::listed(names, LISTED)
}

/// Module names; those of a deep model by their distinct last parts, which is what people put into
/// `target_modules`.
fn modules(names: &[String]) -> String {
    if names.len() <= LISTED {
        return if names.is_empty() {
            "none".to_owned()
        } else {
            list(names)
        };
    }
    let mut last: Vec<&str> = Vec::new();
    for name in names {
        let part = name.rsplit('.').next().unwrap_or(name);
        if !last.contains(&part) {
            last.push(part);
        }
    }
    format!(
        "{} (in {} modules such as {})",
        list(&last),
        names.len(),
        names[0]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_model_is_listed_by_the_last_parts_of_its_names() {
        let available: Vec<String> = (0..32)
            .flat_map(|i| ["q_proj", "v_proj"].map(|p| format!("model.layers.{i}.self_attn.{p}")))
            .collect();
        let error = LoraError::UnmatchedTargets {
            field: "target_modules".into(),
            requested: vec!["query".into()],
            available,
        };
        assert_eq!(
            error.to_string(),
            "`target_modules`: query matches no module; there are: q_proj, v_proj (in 64 modules such as \
             model.layers.0.self_attn.q_proj)"
        );
    }

    #[test]
    fn long_lists_are_cut_with_a_count() {
        let names: Vec<String> = (0..20).map(|i| format!("t{i}")).collect();
        assert!(list(&names).ends_with("t15 and 4 more"));
    }

    #[test]
    fn a_configuration_is_told_from_a_file() {
        assert!(invalid("r", 0, "a rank is at least 1").is_config());
        let path = PathBuf::from("adapter_config.json");
        assert!(!LoraError::ConfigJsonPresent { path }.is_config());
    }
}
