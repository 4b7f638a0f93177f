//! Checks of a configuration, table by table and by task.

use std::collections::BTreeSet;
use std::fmt::Display;

use ls_data::catalog;
use ls_data::{ColumnRef, FileFormat, LongInputs, PaddingMode, PaddingSide, Scheme, TaskKind};
use ls_files::{Bounds, exists, shown};
use ls_lora::CONFIG_FILE;

use super::settings::{
    ClassWeight, DataSettings, LoraSettings, ModelSettings, Protocol, RunConfig, TrainSettings,
};
use crate::bounds::{
    BATCH, EXAMPLES, MOST, MOST_GAMMA, PASSES, STEPS, TOKENS, WARMUP_STEPS, padded,
};
use crate::problem::Problem;
use crate::scores::Scores;

/// The faults of a configuration, a sentence each.
#[derive(Debug, Default)]
pub(super) struct Faults {
    found: Vec<String>,
    /// Keys whose values could not be read: they have their defaults, which are not checked.
    unread: Vec<String>,
}

impl Faults {
    /// A fault.
    pub(super) fn add(&mut self, fault: impl Into<String>) {
        self.found.push(fault.into());
    }

    /// Whether there are more than anybody reads: a file of a million keys is no configuration.
    pub(super) fn are_many(&self) -> bool {
        self.found.len() >= 100
    }

    /// The value of a key could not be read.
    pub(super) fn unread(&mut self, key: String, reason: &str) {
        self.add(format!(
            "{key}: {}",
            shown(reason.trim().replace('\n', " "))
        ));
        self.unread.push(key);
    }

    /// Whether the value of a key, or the table that it stands in, could not be read.
    pub(super) fn is_unread(&self, key: &str) -> bool {
        self.unread.iter().any(|unread| {
            key.strip_prefix(unread.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// All of them.
    pub(super) fn into_found(self) -> Vec<String> {
        self.found
    }

    /// A fault of a key unless `ok`.
    fn check(&mut self, ok: bool, key: &str, fault: impl Display) {
        if !ok && !self.is_unread(key) {
            self.add(format!("{key}: {fault}"));
        }
    }

    fn check_number(&mut self, ok: bool, key: &str, expected: &str, found: impl Display) {
        self.check(ok, key, format!("expected {expected}, found {found}"));
    }

    /// A number within its bounds, where there is one.
    fn check_bounds(&mut self, key: &str, value: impl Into<Option<usize>>, bounds: Bounds) {
        if let Some(value) = value.into() {
            let ok = bounds.hold(value as u64);
            self.check_number(ok, key, &bounds.to_string(), value);
        }
    }
}

impl ModelSettings {
    pub(super) fn check(&self, faults: &mut Faults) {
        let unread = ["model.path", "model.adapter"];
        let unread = unread.iter().any(|key| faults.is_unread(key));
        if self.path.as_os_str().is_empty() && !unread {
            faults.add(match &self.adapter {
                None => "missing field `model.path`: the folder of a pretrained model".into(),
                Some(adapter) => format!(
                    "missing field `model.path`: the folder of the base model, which {} does not \
                     name",
                    adapter.display()
                ),
            });
        }
        let nothing = Some("".as_ref());
        faults.check(
            self.adapter.as_deref() != nothing,
            "model.adapter",
            "expected the folder of an adapter, found nothing",
        );
        let dropout = self.classifier_dropout.unwrap_or(0.0);
        check_fraction(faults, "model.classifier_dropout", dropout);
    }
}

impl ModelSettings {
    /// That no adapter stands where the model should.
    pub(super) fn check_folder(&self, faults: &mut Faults) {
        // What the system does not say, the loader asks again.
        let holds = |file: &str| exists(self.path.join(file)).unwrap_or(false);
        faults.check(
            self.path.as_os_str().is_empty() || !holds(CONFIG_FILE) || holds("config.json"),
            "model.path",
            format!(
                "{0} is an adapter, no model: to begin from it say model.adapter = \"{0}\", and \
                 leave model.path to the model that it was trained on",
                self.path.display()
            ),
        );
    }
}

impl LoraSettings {
    /// Each field on its own, so that one fault does not hide another.
    pub(super) fn check(&self, faults: &mut Faults) {
        let copy: [fn(&Self, &mut Self); 7] = [
            |all, one| one.r = all.r,
            |all, one| one.lora_alpha = all.lora_alpha,
            |all, one| one.lora_dropout = all.lora_dropout,
            |all, one| one.target_modules = all.target_modules.clone(),
            |all, one| one.init_lora_weights = all.init_lora_weights,
            |all, one| one.bias = all.bias,
            |all, one| one.modules_to_save = all.modules_to_save.clone(),
        ];
        let alone = copy.map(|copy| {
            let mut one = Self::default();
            copy(self, &mut one);
            one
        });
        let fault = |settings: &Self| settings.config().validate().err();
        let mut found: Vec<_> = alone.iter().filter_map(fault).collect();
        if found.is_empty() {
            found.extend(fault(self));
        }
        for error in found {
            faults.add(format!("lora: {error}"));
        }
    }
}

impl DataSettings {
    pub(super) fn check(&self, faults: &mut Faults) {
        self.check_source(faults);
        faults.check(
            self.delimiter.is_none() || self.first_format() != Some(FileFormat::Tsv),
            "data.delimiter",
            "the fields of TSV files are parted by tabs; data.format = \"csv\" reads the file with \
             quotes and another delimiter",
        );
        self.check_limits(faults);
        if let Some(name) = &self.format {
            let known = FileFormat::ALL.map(|format| format.name());
            faults.check(
                FileFormat::from_name(name).is_some(),
                "data.format",
                format!("expected one of {}, found {name:?}", known.join(", ")),
            );
        }
        faults.check(
            self.label_delimiter
                .as_ref()
                .is_none_or(|text| !text.is_empty()),
            "data.label_delimiter",
            "expected what parts the labels of a text, found nothing",
        );
        if let Some(labels) = &self.labels {
            let mut seen = BTreeSet::new();
            faults.check(!labels.is_empty(), "data.labels", "the list is empty");
            for label in labels {
                let fault = format!("{label:?} is listed twice");
                faults.check(seen.insert(label), "data.labels", fault);
            }
        }
    }

    /// The format of the first file to learn from, as far as it is known.
    fn first_format(&self) -> Option<FileFormat> {
        match &self.format {
            Some(name) => FileFormat::from_name(name),
            None => {
                let first = self.train.as_ref().and_then(|train| train.paths().first());
                first.and_then(|path| FileFormat::from_path(path).ok())
            }
        }
    }

    /// Known data set, or files.
    fn check_source(&self, faults: &mut Faults) {
        let splits = [
            ("data.train", &self.train),
            ("data.validation", &self.validation),
            ("data.test", &self.test),
        ];
        for (key, files) in splits {
            let empty = files.as_ref().is_some_and(|files| files.paths().is_empty());
            faults.check(!empty, key, "the list is empty");
        }
        match &self.dataset {
            Some(_) => {
                if splits.iter().any(|(_, files)| files.is_some()) {
                    faults.add(
                        "data.dataset names the files: leave out data.train, data.validation and data.test",
                    );
                }
            }
            None if faults.is_unread("data.dataset") => {}
            None => {
                faults.check(
                    self.train.is_some(),
                    "data.train",
                    "missing; name a file, or a data set in data.dataset",
                );
                if self.dir.is_some() || self.language.is_some() {
                    faults.add("data.dir and data.language need data.dataset");
                }
            }
        }
        if self.validation.is_none() {
            let fraction = self.validation_fraction;
            let ok = fraction > 0.0 && fraction < 1.0;
            faults.check_number(
                ok,
                "data.validation_fraction",
                "over 0 and under 1",
                fraction,
            );
        }
    }

    /// The description of the data set, and whether language and task are among its own.
    pub(super) fn check_dataset(&self, task: Option<TaskKind>, faults: &mut Faults) {
        let Some(name) = &self.dataset else { return };
        let known = match catalog::get(name) {
            Ok(known) => known,
            Err(unknown) => return faults.check(false, "data.dataset", unknown),
        };
        let language = self.language.as_deref();
        if let Some(fault) = language.and_then(|name| known.language(Some(name)).err()) {
            faults.check(false, "data.language", fault);
        }
        if let Some(task) = task {
            let fault = format!(
                "{} is labelled by {}, not by {task}",
                known.name, known.task
            );
            faults.check(known.task == task, "task", fault);
        }
    }

    /// Lengths, windows and padding.
    fn check_limits(&self, faults: &mut Faults) {
        faults.check_bounds("data.max_length", self.max_length, TOKENS);
        faults.check_bounds("data.max_train_samples", self.max_train_samples, EXAMPLES);
        faults.check_bounds("data.pad_to", self.pad_to, TOKENS);
        let stride = self.stride.filter(|stride| *stride > 0);
        faults.check_bounds("data.stride", stride, TOKENS);
        if let Some(max_length) = self.max_length {
            let below = self.stride.is_none_or(|stride| stride < max_length);
            faults.check_number(
                below,
                "data.stride",
                &format!("less than data.max_length ({max_length})"),
                self.stride.unwrap_or_default(),
            );
            faults.check_number(
                self.pad_to.is_none_or(|pad_to| pad_to >= max_length),
                "data.pad_to",
                &format!("at least data.max_length ({max_length})"),
                self.pad_to.unwrap_or_default(),
            );
        }
        faults.check(
            self.long_inputs != Some(LongInputs::Window) || self.text_pair.is_none(),
            "data.long_inputs",
            "pairs of texts are cut (truncate, tail or head_tail), not read in windows",
        );
        faults.check(
            self.protocol == Protocol::Strict
                || matches!(self.long_inputs, None | Some(LongInputs::Truncate)),
            "data.long_inputs",
            "the protocol paper cuts the end (truncate); leave it out, or use the protocol strict",
        );
        faults.check(
            self.padding != Some(PaddingMode::Attended) || self.padding_side == PaddingSide::Right,
            "data.padding_side",
            "attended padding must be on the right, as in the reference",
        );
    }
}

impl TrainSettings {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.check_bounds("train.epochs", self.epochs, PASSES);
        let micro_batch_size = self.micro_batch_size.largest();
        faults.check_bounds("train.micro_batch_size", micro_batch_size, BATCH);
        faults.check_bounds("train.pass_size", self.pass_size, BATCH);
        faults.check_bounds(
            "train.gradient_accumulation_steps",
            self.gradient_accumulation_steps,
            PASSES,
        );
        faults.check_bounds("train.eval_batch_size", self.eval_batch_size, BATCH);
        faults.check_bounds("train.eval_steps", self.eval_steps, STEPS);
        faults.check_bounds("train.warmup_steps", self.warmup_steps, WARMUP_STEPS);
        faults.check_bounds("train.save_steps", self.save_steps, STEPS);
        faults.check_bounds("train.save_total_limit", self.save_total_limit, PASSES);
        faults.check_bounds(
            "train.early_stopping_patience",
            self.early_stopping_patience,
            PASSES,
        );
        for (key, value) in [
            ("train.learning_rate", self.learning_rate),
            ("train.adam_epsilon", self.adam_epsilon),
        ] {
            let ok = value > 0.0 && value <= MOST;
            faults.check_number(
                ok,
                key,
                &format!("a number over 0, at most {MOST:e}"),
                value,
            );
        }
        for (key, value) in [
            ("train.weight_decay", self.weight_decay),
            ("train.max_grad_norm", self.max_grad_norm),
        ] {
            let ok = (0.0..=MOST).contains(&value);
            faults.check_number(ok, key, &format!("0 to {MOST:e}"), value);
        }
        for (key, value) in [
            ("train.adam_beta1", self.adam_beta1),
            ("train.adam_beta2", self.adam_beta2),
            ("train.warmup_ratio", self.warmup_ratio),
        ] {
            check_fraction(faults, key, value);
        }
        let decay = self.layerwise_lr_decay;
        let ok = decay > 0.0 && decay <= 1.0;
        faults.check_number(
            ok,
            "train.layerwise_lr_decay",
            "over 0 and at most 1",
            decay,
        );
        let smoothing = self.label_smoothing_factor;
        check_fraction(faults, "train.label_smoothing_factor", smoothing);
        let gamma = self.focal_gamma;
        let expected = format!("0 to {MOST_GAMMA}");
        let ok = (0.0..=MOST_GAMMA).contains(&gamma);
        faults.check_number(ok, "train.focal_gamma", &expected, gamma);
        if let Some(threshold) = self.threshold {
            let ok = (0.0..=1.0).contains(&threshold);
            faults.check_number(ok, "train.threshold", "0 to 1", threshold);
        }
        if let Some(ClassWeight::Table(table)) = &self.class_weight {
            for (label, weight) in table {
                let ok = *weight > 0.0 && *weight <= MOST;
                let expected = format!("a number over 0, at most {MOST:e}, for {label:?}");
                faults.check_number(ok, "train.class_weight", &expected, weight);
            }
        }
        if let Some(ratio) = self.loraplus_lr_ratio {
            let ok = (1.0..=MOST).contains(&ratio);
            let expected = format!("1 to {MOST:e}");
            faults.check_number(ok, "train.loraplus_lr_ratio", &expected, ratio);
        }
    }
}

/// What is said of a metric that is none of `known`.
pub(super) fn unknown_metric(metric: &str, known: &[&str]) -> String {
    let known = known.join(", ");
    format!("unknown metric {metric:?} for this task (known: {known})")
}

fn check_fraction(faults: &mut Faults, key: &str, value: f64) {
    faults.check_number(
        (0.0..1.0).contains(&value),
        key,
        "0 or more and under 1",
        value,
    );
}

impl RunConfig {
    /// Checks the settings that depend on the task.
    pub(super) fn check(&self, faults: &mut Faults) {
        let data = &self.data;
        if let Some(pad_to) = data.pad_to {
            let most = self
                .train
                .micro_batch_size
                .largest()
                .max(self.train.eval_batch_size);
            if let Some(fault) = padded(pad_to, most) {
                faults.check(false, "data.pad_to", fault);
            }
        }
        self.check_trained(faults);
        self.check_problem(faults);
        match self.task {
            TaskKind::Sequence => {
                if data.scheme.is_some() || data.train_scheme.is_some() {
                    faults.add("data.scheme and data.train_scheme need the task token");
                }
                if data.tag_separator.is_some() {
                    faults.add("data.tag_separator needs the task token");
                }
            }
            TaskKind::Token => {
                faults.check(
                    self.model.pooling.is_none(),
                    "model.pooling",
                    "a token task does not pool",
                );
                faults.check(
                    !matches!(
                        data.long_inputs,
                        Some(LongInputs::Tail | LongInputs::HeadTail)
                    ),
                    "data.long_inputs",
                    "a token task reads long inputs in windows (window) or cuts their end (truncate)",
                );
                self.check_columns(faults);
                faults.check(
                    data.scheme != Some(Scheme::Labels) || data.train_scheme.is_none(),
                    "data.train_scheme",
                    "tags that are labels (data.scheme) have no scheme to be written in",
                );
                faults.check(
                    data.tag_separator
                        .as_ref()
                        .is_none_or(|text| !text.is_empty()),
                    "data.tag_separator",
                    "expected what stands between the prefix and the type of a tag, found nothing",
                );
            }
        }
        if let Some(metric) = &self.train.metric_for_best_model {
            // Where nothing is said of the tags, they are read first.
            let known = Scores::keys(self.problem());
            faults.check(
                known.contains(&metric.as_str()),
                "train.metric_for_best_model",
                unknown_metric(metric, &known),
            );
        }
    }

    /// What belongs to some problems only, and what is minimised.
    fn check_problem(&self, faults: &mut Faults) {
        if faults.is_unread("model.problem_type") {
            return;
        }
        let (data, train, problem) = (&self.data, &self.train, self.problem());
        let classes = matches!(problem, Problem::SingleLabel | Problem::Tags(_));
        faults.check(
            self.model.problem_type.is_none() || self.task == TaskKind::Sequence,
            "model.problem_type",
            "it is that of texts, and the task token gives each word a tag: leave it out",
        );
        faults.check(
            classes || data.dataset.is_none(),
            "model.problem_type",
            "a known data set has one label of several for each text: leave it out, or name the files \
             in data.train",
        );
        let one = data.labels.as_ref().is_none_or(|labels| labels.len() == 1);
        faults.check(
            one || problem != Problem::Regression,
            "data.labels",
            "a regression learns one number: give it one name, or leave it out",
        );
        let several = [
            ("data.label_delimiter", data.label_delimiter.is_some()),
            ("train.threshold", train.threshold.is_some()),
        ];
        for (key, set) in several {
            faults.check(
                !set || problem == Problem::MultiLabel,
                key,
                "it is for texts for which any number of labels may hold: set model.problem_type = \
                 \"multi_label_classification\", or leave it out",
            );
        }
        faults.check(
            problem != Problem::Regression || train.class_weight.is_none(),
            "train.class_weight",
            "a regression has no classes: leave it out",
        );
        faults.check(
            problem != Problem::Regression || !train.temperature_scaling,
            "train.temperature_scaling",
            "a regression has no probabilities: leave it out",
        );
        faults.check(
            problem != Problem::Regression || train.focal_gamma == 0.0,
            "train.focal_gamma",
            "a regression has no probabilities to be sure of: leave it out",
        );
        faults.check(
            classes || train.label_smoothing_factor == 0.0,
            "train.label_smoothing_factor",
            "a target is spread over classes of which one is right: leave it out where any number of \
             labels may hold, and of a regression",
        );
        faults.check(
            train.label_smoothing_factor == 0.0 || train.focal_gamma == 0.0,
            "train.focal_gamma",
            "it and train.label_smoothing_factor pull at the same targets in opposite directions: set \
             one of the two",
        );
    }

    /// What trains: adapters, or the decoder itself.
    fn check_trained(&self, faults: &mut Faults) {
        if faults.is_unread("lora") {
            return;
        }
        let (train, adapters) = (&self.train, self.lora.is_some());
        faults.check(
            train.layers.is_none() || !adapters,
            "train.layers",
            "beside adapters nothing else trains by it: set lora = false, or name layers that train \
             in full beside adapters in lora.modules_to_save (\"layers.31\")",
        );
        faults.check(
            train.loraplus_lr_ratio.is_none() || adapters,
            "train.loraplus_lr_ratio",
            "there are no adapters (lora = false): leave it out",
        );
        let packs = self.model.quantization.is_some();
        faults.check(
            adapters || train.layers.is_some() || faults.is_unread("train.layers") || !packs,
            "model.quantization",
            "packed weights do not train, and with lora = false every layer does: leave it out, \
             name the layers that train in train.layers, or train adapters",
        );
    }

    /// Words stand in numbered columns of CoNLL files, words and tags under names in JSON objects.
    /// Columns of tags may have names in a CoNLL file, which the file itself tells.
    fn check_columns(&self, faults: &mut Faults) {
        let data = &self.data;
        let format = data.first_format();
        for (key, column) in [("data.tokens", &data.tokens), ("data.tags", &data.tags)] {
            let fault = match (format, column) {
                (Some(FileFormat::Conll), Some(ColumnRef::Name(name))) if key == "data.tokens" => {
                    format!("the columns of CoNLL files are numbers, from 0; found {name:?}")
                }
                (Some(FileFormat::Jsonl), Some(ColumnRef::Index(index))) => {
                    format!("JSON objects have keys, not columns; found {index}")
                }
                _ => continue,
            };
            faults.check(false, key, fault);
        }
    }
}
