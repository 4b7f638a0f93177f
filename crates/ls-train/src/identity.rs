//! [`Identity`]: what a run's numbers follow from besides its configuration, by hashes.

use ls_data::TextTokenizer;
use ls_files::{Fingerprint, Hashed, sha256_of_file};
use ls_model::Checkpoint;
use serde::{Deserialize, Serialize};

use crate::config::RunConfig;
use crate::error::Result;
use crate::sources::{Source, Sources};

/// Hashes of everything that went in. Where the files stand and what they are called is no part of
/// it: a run goes on after its folders were moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// SHA-256 of each file to learn from, in their order.
    train: Vec<String>,
    /// Of those that choose the best checkpoint, unless a part of `train` does.
    validation: Vec<String>,
    /// Of those that are scored at the end.
    test: Vec<String>,
    /// Of the file that describes the data set, if one does.
    description: Option<String>,
    /// Of the tokenizer's files.
    tokenizer: Vec<String>,
    /// Of the model's `config.json`.
    model_config: String,
    /// Of its tensors.
    weights: Fingerprint,
}

impl Identity {
    /// Hashes the inputs of a run.
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub(crate) fn of(
        config: &RunConfig,
        sources: &Sources,
        tokenizer: &TextTokenizer,
        checkpoint: &Checkpoint,
    ) -> Result<Self> {
        let files = |source: Option<&Source>| -> Result<Vec<String>> {
            let files = source.into_iter().flat_map(|source| &source.split.files);
            files.map(|file| Ok(sha256_of_file(file)?)).collect()
        };
        let description = config.data.known().and_then(|known| known.file.clone());
        Ok(Self {
            train: files(Some(&sources.train))?,
            validation: files(sources.validation.as_ref())?,
            test: files(sources.test.as_ref())?,
            description: description.map(sha256_of_file).transpose()?,
            tokenizer: tokenizer.hashes(),
            model_config: checkpoint.config_sha256.clone(),
            weights: checkpoint.fingerprint(Hashed::Sample)?,
        })
    }

    /// What is not what it was, a phrase each.
    pub(crate) fn differences(&self, now: &Self) -> Vec<String> {
        let pairs = [
            ("the files of data.train", self.train == now.train),
            (
                "the files of data.validation",
                self.validation == now.validation,
            ),
            ("the files of data.test", self.test == now.test),
            (
                "the description in data.dataset",
                self.description == now.description,
            ),
            ("the tokenizer", self.tokenizer == now.tokenizer),
            (
                "the model's config.json",
                self.model_config == now.model_config,
            ),
            ("the model's weights", self.weights == now.weights),
        ];
        let changed = pairs.into_iter().filter(|(_, same)| !same);
        changed
            .map(|(what, _)| format!("{what}: not the bytes that the run began with"))
            .collect()
    }
}
