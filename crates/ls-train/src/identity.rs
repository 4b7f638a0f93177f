//! [`Identity`]: what a run's numbers follow from besides its configuration, by hashes.

use ls_files::Fingerprint;
use serde::{Deserialize, Serialize};

/// Hashes of everything that went in. Where the files stand and what they are called is no part of
/// it: a run goes on after its folders were moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// SHA-256 of each file to learn from, in their order, and of the names of labels beside it.
    pub(crate) train: Vec<String>,
    /// Of those that choose the best checkpoint, unless a part of `train` does.
    pub(crate) validation: Vec<String>,
    /// Of those that are scored at the end.
    pub(crate) test: Vec<String>,
    /// Of the file that describes the data set, if one does.
    pub(crate) description: Option<String>,
    /// Over the tokenizer's files.
    pub(crate) tokenizer: String,
    /// Of the model's `config.json`.
    pub(crate) model_config: String,
    /// Of its tensors.
    pub(crate) weights: Fingerprint,
}

impl Identity {
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
