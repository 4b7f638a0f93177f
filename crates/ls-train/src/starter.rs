//! A first configuration for data that was looked at, as a commented file.

use ls_data::{Concern, FileFormat, TaskKind, shown_type};
use ls_files::{listed, plain};

use crate::config::{Annotations, RunConfig};
use crate::error::Result;
use crate::problem::Problem;
use crate::profiles::Profiles;

/// Labels that are listed in a comment.
const LISTED: usize = 20;

/// The configuration as commented TOML: what was found in the data, the keys that are changed
/// first, and what each of them means. `missing` says how to get a model that is not there.
///
/// # Errors
///
/// If a path is not Unicode.
pub fn starter(config: &RunConfig, profiles: &Profiles, missing: &str) -> Result<String> {
    let mut config = config.clone();
    config.data.max_length = Some(profiles.limits.max_length);
    config.data.long_inputs = Some(profiles.limits.long_inputs);
    let mut said = Annotations {
        always: vec![
            "task",
            "model.path",
            "lora.r",
            "lora.lora_alpha",
            "data.train",
            "data.max_length",
            "data.long_inputs",
            "train.epochs",
            "train.micro_batch_size",
            "train.learning_rate",
        ],
        notes: Vec::new(),
        proposed: vec![
            ("model.attention", "\"bidirectional\""),
            ("train.early_stopping_patience", "2"),
        ],
    };
    let format = config
        .data
        .format
        .as_deref()
        .and_then(FileFormat::from_name);
    if config.task == TaskKind::Sequence
        && !matches!(format, Some(FileFormat::FastText | FileFormat::Trees))
    {
        said.always.extend(["data.text", "data.label"]);
    }
    if config.data.validation.is_none() && config.data.fold.is_none() {
        said.always.push("data.validation_fraction");
    }
    let one_sided = |concern: &Concern| matches!(concern, Concern::OneSided { .. });
    if profiles.concerns.iter().any(one_sided) {
        said.proposed
            .push(("train.metric_for_best_model", "\"f1_macro\""));
    }
    if !profiles.measured {
        said.notes.push(("model.path", missing.into()));
    }
    for (key, split) in [
        ("data.train", "train"),
        ("data.validation", "validation"),
        ("data.test", "test"),
    ] {
        if let Some(profile) = profiles.split(split) {
            let bad = match profile.bad_rows.count {
                0 => String::new(),
                count => format!("; rows that cannot be used, and are skipped: {count}"),
            };
            let note = format!("Here: {} examples{bad}.", profile.examples);
            said.notes.push((key, note));
        }
    }
    // Numbers have none.
    if config.problem() != Problem::Regression {
        said.notes.push(("task", labels(profiles)));
    }
    said.notes.push(("data.max_length", lengths(profiles)));
    config.annotated(&said)
}

fn labels(profiles: &Profiles) -> String {
    let Some(train) = profiles.split("train") else {
        return String::new();
    };
    let (what, counted) = match &train.spans {
        Some(spans) => {
            let spans = spans.iter();
            let named = spans.map(|(kind, count)| format!("{} {count}", plain(shown_type(kind))));
            ("spans", named.collect::<Vec<_>>())
        }
        None => {
            let labels = train.labels.iter();
            let named = labels.map(|seen| format!("{} {}", plain(&seen.name), seen.count));
            ("labels", named.collect())
        }
    };
    format!("Here: {what} in train: {}.", listed(counted, LISTED))
}

fn lengths(profiles: &Profiles) -> String {
    let (Some(train), max_length) = (profiles.split("train"), profiles.limits.max_length) else {
        return String::new();
    };
    match (train.tokens, train.cut) {
        (Some(tokens), Some(cut)) => format!(
            "Here: the longest of train has {} tokens, 95% have {} at most; longer than \
             {max_length} with special tokens: {}.",
            tokens.longest,
            tokens.p95,
            cut.cut_examples.max(cut.windowed_examples)
        ),
        _ => format!(
            "Here: the longest of train has {} {}; tokens are counted once the model is there.",
            train.lengths.longest,
            match train.task {
                TaskKind::Sequence => "characters",
                TaskKind::Token => "words",
            }
        ),
    }
}
