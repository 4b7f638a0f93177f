//! Settings that prediction shares with training, saved beside the weights.

use std::path::{Path, PathBuf};

use ls_data::{
    BatchOptions, InputLimits, LabelPosition, LabelSet, LongInputs, PaddingMode, PaddingSide,
    Reading, SpecialTokensAs, TagKind, TagScheme, TaskKind, TextTokenizer, WordsAs,
};
use ls_files::{Fingerprint, optional, parse_json, read_text};
use ls_lora::Quantization;
use ls_model::{
    AttentionMode, Checkpoint, ComputeType, LlamaConfig, Pooling, Precision, ProblemType, Task,
    Trained,
};
use serde::{Deserialize, Serialize};

use crate::bounds::{BATCH, TOKENS, padded};
use crate::calibration::Calibration;
use crate::config::{ResolvedRun, context};
use crate::error::{Result, TrainError};
use crate::problem::Problem;
use crate::run_dir::INFERENCE_FILE;
use crate::splits::TagsSay;

/// How a text reaches the model and how its answer is read.
///
/// Its folder cannot say this itself: PEFT's fields hold no attention mode, pooling or label
/// names, and an adapter that was trained bidirectional gives other answers, without a warning,
/// when it is run causal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferenceSettings {
    /// Version of this file's format.
    pub format_version: u32,
    /// What is labelled.
    pub task: TaskKind,
    /// Label names in the order of the head.
    pub labels: LabelSet,
    /// What the tags of a tagger say. Files that do not say it leave it to their names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<TagKind>,
    /// The scheme that the tags it learned from are of together, where they are of one. Where files
    /// do not say it, the configuration of the run may, else the names of the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<TagScheme>,
    /// Which layers see to the right.
    pub attention: AttentionMode,
    /// Pooling, for a sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// What the answers for a sequence are, where they are not one class of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem_type: Option<ProblemType>,
    /// How scores become answers, where that is not by the usual rule.
    #[serde(default, skip_serializing_if = "Calibration::is_default")]
    pub calibration: Calibration,
    /// Longest input in tokens.
    pub max_length: usize,
    /// What happens to longer ones. Files that do not say it are of models whose inputs were cut.
    #[serde(default = "truncate")]
    pub long_inputs: LongInputs,
    /// Tokens that neighbouring windows share, where it is not a quarter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
    /// Which sub-word speaks for a word.
    pub label_position: LabelPosition,
    /// How words become ids. Files of version 1 are of models that read them as text.
    #[serde(default)]
    pub words: WordsAs,
    /// What a special token is that a text spells out. Likewise.
    #[serde(default)]
    pub special_tokens: SpecialTokensAs,
    /// Whether padding counts as tokens.
    pub padding: PaddingMode,
    /// Side of the padding.
    pub padding_side: PaddingSide,
    /// Fixed length of every batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad_to: Option<usize>,
    /// The id that fills batches up. It cannot occur in text, except under `last_not_pad`, which
    /// passes over it at the end of a text.
    pub pad_token_id: u32,
    /// The same as a token.
    pub pad_token: String,
    /// Folder of the pretrained model.
    pub base_model: PathBuf,
    /// By what its weights are known again. Files of versions 1 and 2 do not say it, nor do those
    /// beside a whole model, which needs no other weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_weights: Option<Fingerprint>,
    /// SHA-256 of the `tokenizer.json` that the model was trained with. Likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer_sha256: Option<String>,
    /// SHA-256 of the `config.json` of the base model, or of the whole model beside the file. Files
    /// that do not say it are not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_sha256: Option<String>,
    /// SHA-256 over all files of the tokenizer, as they stand beside the adapter. Likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer_files_sha256: Option<String>,
    /// Element type of the frozen weights.
    pub dtype: ComputeType,
    /// How the frozen weights are packed, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    /// What was trained in full, and is f32 therefore: beside an adapter the head alone.
    #[serde(default, skip_serializing_if = "Trained::is_head")]
    pub trained: Trained,
    /// Examples of one pass.
    pub batch_size: usize,
    /// Optimizer steps that the model was trained for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
}

/// Whether a type has to be said: one class of several is what a model without one answers with.
fn needs_saying(problem_type: &ProblemType) -> bool {
    *problem_type != ProblemType::default()
}

fn truncate() -> LongInputs {
    LongInputs::Truncate
}

/// What follows from another base model or tokenizer, where a model answers.
pub(crate) const WRONG_ANSWERS: &str = "answers may be wrong";

/// The current version of [`InferenceSettings`]. In version 1 a lone space in front of a word was
/// no sub-word of it; version 3 knows the weights and the tokenizer again.
pub(crate) const FORMAT_VERSION: u32 = 3;

/// What is read of a file first: another version may have other fields.
#[derive(Deserialize)]
struct Versioned {
    format_version: u32,
}

impl InferenceSettings {
    /// The settings that a run trains with.
    pub(crate) fn of_run(
        run: &ResolvedRun,
        checkpoint: &Checkpoint,
        tokenizer: &TextTokenizer,
        labels: LabelSet,
        tags: Option<TagsSay>,
        base_weights: Fingerprint,
    ) -> Self {
        let pooling = match run.head {
            Task::Sequence(pooling) => Some(pooling),
            Task::Token { .. } => None,
        };
        let (pad_token_id, pad_token) = pad_token(pooling, &checkpoint.config, tokenizer);
        let data = &run.config.data;
        let calibration = match run.config.train.threshold {
            Some(threshold) => {
                Calibration::default().with_threshold(threshold as f32, labels.len())
            }
            None => Calibration::default(),
        };
        Self {
            format_version: FORMAT_VERSION,
            task: run.config.task,
            labels,
            tags: tags.map(|tags| tags.kind),
            scheme: tags.and_then(|tags| tags.scheme),
            attention: run.attention.clone(),
            pooling,
            problem_type: run.config.model.problem_type.filter(needs_saying),
            calibration,
            max_length: run.limits.max_length,
            long_inputs: run.limits.long_inputs,
            stride: run.limits.stride,
            label_position: data.label_position,
            words: data.words,
            special_tokens: data.special_tokens,
            padding: run.padding,
            padding_side: data.padding_side,
            pad_to: data.pad_to,
            pad_token_id,
            pad_token,
            base_model: run.config.model.path.clone(),
            base_weights: run.lora.is_some().then_some(base_weights),
            tokenizer_sha256: Some(tokenizer.sha256()),
            config_sha256: Some(checkpoint.config_sha256.clone()),
            tokenizer_files_sha256: Some(tokenizer.sha256_of_copy()),
            dtype: run.precision.compute,
            quantization: run.precision.quantization,
            trained: run.trained.clone(),
            batch_size: run.config.train.eval_batch_size,
            step: None,
        }
    }

    /// Reads the settings in the folder of an adapter or a whole model, if it has any: one that
    /// Python wrote has none.
    ///
    /// # Errors
    ///
    /// If the file is there and cannot be used; a number past its bounds is named with them.
    pub fn load(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(INFERENCE_FILE);
        let Some(text) = optional(read_text(&path))? else {
            return Ok(None);
        };
        let Versioned { format_version } = parse_json(text.as_bytes(), &path)?;
        if !(1..=FORMAT_VERSION).contains(&format_version) {
            let reason = format!(
                "format_version {format_version} is none of 1 to {FORMAT_VERSION}, which this \
                 version reads"
            );
            return Err(TrainError::Settings { path, reason });
        }
        let mut settings: Self = parse_json(text.as_bytes(), &path)?;
        if format_version == 1 && settings.label_position != LabelPosition::Last {
            settings.label_position = LabelPosition::FirstVisible;
        }
        settings.format_version = FORMAT_VERSION;
        match settings.fault() {
            None => Ok(Some(settings)),
            Some(reason) => Err(TrainError::Settings { path, reason }),
        }
    }

    /// What is wrong with a number or a list, if anything is. Nothing is allocated by them before.
    fn fault(&self) -> Option<String> {
        let numbers = [
            ("max_length", Some(self.max_length), TOKENS),
            ("pad_to", self.pad_to, TOKENS),
            ("stride", self.stride.filter(|stride| *stride > 0), TOKENS),
            ("batch_size", Some(self.batch_size), BATCH),
        ];
        for (key, value, bounds) in numbers {
            if let Some(value) = value.filter(|value| !bounds.hold(*value as u64)) {
                return Some(format!("{key}: expected {bounds}, found {value}"));
            }
        }
        if let Some(stride) = self.stride.filter(|stride| *stride >= self.max_length) {
            let most = self.max_length;
            return Some(format!(
                "stride: expected less than max_length ({most}), found {stride}"
            ));
        }
        if self.labels.is_empty() {
            return Some("labels: expected at least one name, found none".into());
        }
        let padded = self
            .pad_to
            .and_then(|pad_to| padded(pad_to, self.batch_size));
        let padded = padded.map(|fault| format!("pad_to: {fault}"));
        padded.or_else(|| self.calibration.fault(self.labels.len()))
    }

    /// Checks what a model decides: `path` is for messages.
    ///
    /// # Errors
    ///
    /// If the pad token is past the model's vocabulary.
    pub(crate) fn check_model(&self, config: &LlamaConfig, path: &Path) -> Result<()> {
        if (self.pad_token_id as usize) < config.vocab_size {
            return Ok(());
        }
        Err(TrainError::Settings {
            path: path.into(),
            reason: format!(
                "pad_token_id: expected an id of the model's vocabulary of {}, found {}",
                config.vocab_size, self.pad_token_id
            ),
        })
    }

    /// Checks that the attention of the settings in a folder fits the model's layers.
    ///
    /// # Errors
    ///
    /// If it names layers that are not there.
    pub(crate) fn check_attention(&self, config: &LlamaConfig, dir: &Path) -> Result<()> {
        let fits = self.attention.check(config.num_hidden_layers);
        fits.map_err(|error| TrainError::Settings {
            path: dir.join(INFERENCE_FILE),
            reason: error.to_string(),
        })
    }

    /// Writes the settings into a folder.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(crate) fn save(&self, dir: &Path) -> Result<()> {
        Ok(ls_files::write_json(dir.join(INFERENCE_FILE), self)?)
    }

    /// What of a base model and a tokenizer is not what the adapter was trained with, in words.
    /// `so` says what follows from it. Where `known` is of as much of the weights as the record
    /// they are not hashed again.
    ///
    /// # Errors
    ///
    /// If the weights cannot be read.
    pub(crate) fn not_those_of_training(
        &self,
        checkpoint: &Checkpoint,
        tokenizer: &TextTokenizer,
        tokenizer_dir: &Path,
        known: Option<&Fingerprint>,
        so: &str,
    ) -> Result<Vec<String>> {
        let mut others = Vec::new();
        if let Some(trained) = &self.base_weights {
            let is_other = match known.filter(|known| known.hashed == trained.hashed) {
                Some(known) => known != trained,
                None => checkpoint.fingerprint(Some(trained.hashed))? != *trained,
            };
            if is_other {
                others.push(format!(
                    "{}: {so}: these are not the weights (then in {})",
                    checkpoint.dir.display(),
                    self.base_model.display()
                ));
            }
        }
        if let Some(trained) = &self.config_sha256
            && checkpoint.config_sha256 != *trained
        {
            others.push(format!(
                "{}: {so}: this is not the configuration",
                checkpoint.dir.join("config.json").display()
            ));
        }
        if let Some(trained) = &self.tokenizer_sha256
            && tokenizer.sha256() != *trained
        {
            others.push(format!(
                "{}: {so}: this is not the tokenizer",
                tokenizer_dir.join("tokenizer.json").display()
            ));
        } else if let Some(trained) = &self.tokenizer_files_sha256
            && tokenizer.sha256_of_copy() != *trained
        {
            others.push(format!(
                "{}: {so}: the files beside tokenizer.json \
                 (tokenizer_config.json and its like) are not those",
                tokenizer_dir.display()
            ));
        }
        Ok(others)
    }

    /// What the tags of a tagger say.
    pub(crate) fn tag_kind(&self) -> TagKind {
        let names = self.labels.names().iter().map(String::as_str);
        self.tags.unwrap_or_else(|| TagKind::of(names))
    }

    /// The scheme that tags of spans have to be of together where none is said: the one of those
    /// that it learned from, else what the prefixes of its labels say.
    pub fn tag_scheme(&self) -> TagScheme {
        self.scheme
            .unwrap_or_else(|| TagScheme::of_names(self.labels.names()))
    }

    /// Longest input and what happens to longer ones.
    pub(crate) fn limits(&self) -> InputLimits {
        InputLimits {
            max_length: self.max_length,
            long_inputs: self.long_inputs,
            stride: self.stride,
            context: context(&self.attention),
        }
    }

    /// How words and special tokens reach the tokenizer.
    pub(crate) fn reading(&self) -> Reading {
        Reading {
            words: self.words,
            special_tokens: self.special_tokens,
        }
    }

    /// How the weights are held.
    pub(crate) fn precision(&self) -> Precision {
        Precision {
            compute: self.dtype,
            quantization: self.quantization,
            in_f32: self.trained.clone(),
        }
    }

    /// The token that a head which reads one token of each row passes over at its end.
    pub(crate) fn not_pooled(&self) -> Option<u32> {
        (self.pooling == Some(Pooling::LastNotPad)).then_some(self.pad_token_id)
    }

    /// What the model has learnt of an example.
    pub(crate) fn problem(&self) -> Problem {
        let tags = (self.task == TaskKind::Token).then(|| self.tag_kind());
        Problem::of(self.task, self.problem_type, tags)
    }

    /// The model's head, with the dropout of the checkpoint's configuration.
    pub(crate) fn head(&self, config: &LlamaConfig) -> Task {
        match self.task {
            TaskKind::Sequence => Task::Sequence(self.pooling.unwrap_or(Pooling::Last)),
            TaskKind::Token => Task::Token {
                dropout: config.classifier_dropout,
            },
        }
    }

    /// Batches of `batch_size` examples.
    pub(crate) fn batch_options(&self, batch_size: usize, group_by_length: bool) -> BatchOptions {
        BatchOptions {
            batch_size,
            pad_id: self.pad_token_id,
            padding_side: self.padding_side,
            padding_mode: self.padding,
            pad_to: self.pad_to,
            group_by_length,
        }
    }
}

/// The pad token of a model, and its text. For `last_not_pad` it is the one that `config.json`
/// names, or else `tokenizer_config.json`, or else the end token, which then pads by habit. For all
/// others it is one that cannot occur in a text.
pub(crate) fn pad_token(
    pooling: Option<Pooling>,
    config: &LlamaConfig,
    tokenizer: &TextTokenizer,
) -> (u32, String) {
    let own = tokenizer.pad_token();
    let named = config.pad_token_id.or(tokenizer.named_pad());
    let theirs = named.or(tokenizer.end_token());
    match theirs.filter(|_| pooling == Some(Pooling::LastNotPad)) {
        Some(id) => (id, tokenizer.id_to_token(id).unwrap_or_default()),
        None => (own.id, own.token.clone()),
    }
}

#[cfg(test)]
mod tests {
    use ls_files::Hashed;

    use super::*;

    #[test]
    fn weights_that_are_hashed_already_are_not_hashed_again() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/demo/model");
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let tokenizer = TextTokenizer::for_reading(&dir, Reading::default()).unwrap();
        let run = "task = 'sequence'\nmodel.path = 'm'\ndata.train = 'a.csv'";
        let run = crate::RunConfig::from_toml(run, "", &[]).unwrap();
        let run = run.resolve(&checkpoint.config);
        let labels = LabelSet::from_names(vec!["a".into(), "b".into()]).unwrap();
        // Of none that there are: whoever hashed would see it.
        let of = |hashed, sha256: &str| Fingerprint {
            hashed,
            sha256: sha256.into(),
        };
        let trained = of(Hashed::Whole, "1");
        let settings =
            InferenceSettings::of_run(&run, &checkpoint, &tokenizer, labels, None, trained.clone());
        let others = |known: Option<Fingerprint>| {
            let known = known.as_ref();
            let others = settings.not_those_of_training(&checkpoint, &tokenizer, &dir, known, "so");
            others.unwrap().len()
        };
        assert_eq!(others(Some(trained)), 0);
        assert_eq!(others(Some(of(Hashed::Whole, "2"))), 1);
        // Another part of them does not tell.
        assert_eq!(others(Some(of(Hashed::Sample, "1"))), 1);
        assert_eq!(others(None), 1);
    }
}
