//! [`Identity`]: what a run's numbers follow from besides its configuration, by hashes.

use std::path::Path;

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
    /// Of the files of the adapter that it began from, if it did. Checkpoints from before say
    /// nothing of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) adapter: Vec<String>,
    /// Over the tokenizer's files.
    pub(crate) tokenizer: String,
    /// Of the model's `config.json`.
    pub(crate) model_config: String,
    /// Of its tensors.
    pub(crate) weights: Fingerprint,
}

impl Identity {
    /// What is not what it was, a phrase each, with both hashes. `path` names the file that a hash
    /// is of now.
    pub(crate) fn differences<'a>(
        &self,
        now: &'a Self,
        path: impl Fn(&str) -> Option<&'a Path>,
    ) -> Vec<String> {
        let mut found = Vec::new();
        let splits = [
            ("data.train", &self.train, &now.train),
            ("data.validation", &self.validation, &now.validation),
            ("data.test", &self.test, &now.test),
            ("model.adapter", &self.adapter, &now.adapter),
        ];
        for (key, was, is) in splits {
            if was.len() != is.len() {
                let (was, is) = (was.len(), is.len());
                found.push(format!("{key}: {is} files now, {was} when the run began"));
                continue;
            }
            for (was, is) in was.iter().zip(is).filter(|(was, is)| was != is) {
                let path = path(is).map(|path| path.display().to_string());
                let what = format!("{key}: {}", path.as_deref().unwrap_or("a file"));
                found.push(changed(&what, was, is));
            }
        }
        let none = || "none".to_owned();
        let others = [
            (
                "the description in data.dataset",
                self.description.clone().unwrap_or_else(none),
                now.description.clone().unwrap_or_else(none),
            ),
            (
                "the tokenizer",
                self.tokenizer.clone(),
                now.tokenizer.clone(),
            ),
            (
                "the model's config.json",
                self.model_config.clone(),
                now.model_config.clone(),
            ),
        ];
        let others = others.into_iter().filter(|(_, was, is)| was != is);
        found.extend(others.map(|(what, was, is)| changed(what, &was, &is)));
        if self.weights != now.weights {
            let (was, is) = (&self.weights.sha256, &now.weights.sha256);
            found.push(changed("the model's weights", was, is));
        }
        found
    }
}

fn changed(what: &str, was: &str, is: &str) -> String {
    format!("{what}: not the bytes that the run began with (SHA-256 was {was}, is {is})")
}
