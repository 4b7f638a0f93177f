//! What a run sets otherwise than what it begins from, an adapter or a whole classifier, was
//! trained with: a phrase for each key.

use std::path::Path;

use ls_data::{PaddingMode, TaskKind};
use ls_model::LlamaConfig;
use serde::Serialize;

use crate::config::ResolvedRun;
use crate::inference::InferenceSettings;

/// Keys that are compared with a record.
struct Compared<'a> {
    /// The folder of the record.
    dir: &'a Path,
    found: Vec<String>,
}

impl Compared<'_> {
    fn compare(&mut self, key: &str, was: &impl Serialize, is: &impl Serialize) {
        let (was, is, dir) = (written(was), written(is), self.dir.display());
        if was != is {
            let text = format!("{key} is {is}, and {dir} was trained with {was}");
            self.found.push(text);
        }
    }
}

/// What may not fit what was learnt: the mask, the pooling, how texts are read and filled up.
pub(crate) fn set_otherwise(
    record: &InferenceSettings,
    dir: &Path,
    run: &ResolvedRun,
) -> Vec<String> {
    let (model, data) = (&run.config.model, &run.config.data);
    let found = Vec::new();
    let mut compared = Compared { dir, found };
    compared.compare("model.attention", &record.attention, &run.attention);
    compared.compare(
        "data.special_tokens",
        &record.special_tokens,
        &data.special_tokens,
    );
    compared.compare("data.padding", &record.padding, &run.padding);
    // Padding that is masked has no part in any number.
    if [record.padding, run.padding].contains(&PaddingMode::Attended) {
        compared.compare(
            "data.padding_side",
            &record.padding_side,
            &data.padding_side,
        );
        compared.compare("data.pad_to", &record.pad_to, &data.pad_to);
    }
    if record.task == run.config.task {
        compared.compare("model.pooling", &record.pooling, &model.pooling);
        let [was, is] = [record.problem_type, model.problem_type].map(Option::unwrap_or_default);
        compared.compare("model.problem_type", &was.name(), &is.name());
        if record.task == TaskKind::Token {
            compared.compare("data.words", &record.words, &data.words);
            compared.compare(
                "data.label_position",
                &record.label_position,
                &data.label_position,
            );
        }
    }
    compared.found
}

/// What a classifier that has no record says of itself in its `config.json`: the problem that it
/// solves.
pub(crate) fn solves_otherwise(
    config: &LlamaConfig,
    dir: &Path,
    run: &ResolvedRun,
) -> Option<String> {
    let was = config
        .problem_type
        .filter(|_| run.config.task == TaskKind::Sequence)?;
    let is = run.config.model.problem_type.unwrap_or_default();
    let found = Vec::new();
    let mut compared = Compared { dir, found };
    compared.compare("model.problem_type", &was.name(), &is.name());
    compared.found.pop()
}

/// What the frozen weights beside an adapter are held in.
pub(crate) fn held_otherwise(
    record: &InferenceSettings,
    dir: &Path,
    run: &ResolvedRun,
) -> Vec<String> {
    let found = Vec::new();
    let mut compared = Compared { dir, found };
    let model = &run.config.model;
    compared.compare("model.dtype", &record.dtype, &model.dtype);
    let packed = [record.quantization, model.quantization];
    let [was, is] = packed.map(|format| format.map_or("none".into(), |format| written(&format)));
    compared.compare("model.quantization", &was, &is);
    compared.found
}

/// What needs not fit, and is only to be known: how long an input may be.
pub(crate) fn cut_otherwise(
    record: &InferenceSettings,
    dir: &Path,
    run: &ResolvedRun,
) -> Vec<String> {
    let found = Vec::new();
    let mut compared = Compared { dir, found };
    let (was, is) = (record.limits(), run.limits);
    compared.compare("data.max_length", &was.max_length, &is.max_length);
    compared.compare("data.long_inputs", &was.long_inputs, &is.long_inputs);
    compared.found
}

/// A setting as a configuration has it.
pub(crate) fn written(value: &impl Serialize) -> String {
    match serde_json::to_value(value).unwrap_or_default() {
        serde_json::Value::Null => "not set".into(),
        serde_json::Value::String(text) => text,
        value => value.to_string(),
    }
}
