//! [`Shared`]: what the runs of one process have in common, read and loaded once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ls_data::{InputLimits, LabelPosition, Reading, SplitSource, TaskKind};
use ls_files::Fingerprint;
use ls_model::{LlamaModel, Precision, Trained};

use crate::available::available_memory;
use crate::dataset::Dataset;
use crate::environment::resident_memory;
use crate::error::{Result, TrainError};

/// Splits that are encoded, the last frozen decoder, and what was in every file. A run that takes
/// them from here is to the bit the one that reads them itself: both are never written to.
#[derive(Default)]
pub(crate) struct Shared {
    /// Whether another run may follow.
    keeps: bool,
    splits: Vec<(EncodedAs, Dataset)>,
    decoder: Option<(DecoderOf, LlamaModel)>,
    before: Option<BeforeWeights>,
    seen: BTreeMap<String, String>,
}

/// What memory was like before the first weights were loaded, in bytes. `None` where the system
/// does not tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BeforeWeights {
    /// What was free.
    pub(crate) available: Option<u64>,
    /// What this process had taken.
    pub(crate) resident: Option<u64>,
}

impl BeforeWeights {
    /// As it is now.
    pub(crate) fn now() -> Self {
        Self {
            available: available_memory(),
            resident: resident_memory(),
        }
    }
}

/// All that decides what an encoded split holds.
#[derive(Debug, PartialEq)]
pub(crate) struct EncodedAs {
    pub(crate) split: SplitSource,
    /// Of its files, and of the names of labels beside them.
    pub(crate) sha256: Vec<String>,
    pub(crate) task: TaskKind,
    pub(crate) limits: InputLimits,
    pub(crate) label_position: LabelPosition,
    /// SHA-256 over the tokenizer's files, and how it reads.
    pub(crate) tokenizer: String,
    pub(crate) reading: Reading,
    pub(crate) vocab_size: usize,
}

/// All that decides what a loaded decoder is; each run sets its mask.
#[derive(Debug, PartialEq)]
pub(crate) struct DecoderOf {
    pub(crate) path: PathBuf,
    pub(crate) config_sha256: String,
    pub(crate) weights: Fingerprint,
    pub(crate) precision: Precision,
}

impl Shared {
    /// For runs that follow each other. `seen` is what was in the files of the runs before them.
    pub(crate) fn by_runs(seen: BTreeMap<String, String>) -> Self {
        Self {
            keeps: true,
            seen,
            ..Self::default()
        }
    }

    /// What was in every file so far, a SHA-256 by its name.
    pub(crate) fn seen(&self) -> &BTreeMap<String, String> {
        &self.seen
    }

    /// Sees that a file holds what it held for the runs before.
    ///
    /// # Errors
    ///
    /// [`TrainError::FileChanged`].
    pub(crate) fn see(&mut self, name: String, sha256: String) -> Result<()> {
        match self.seen.get(&name) {
            Some(known) if *known != sha256 => Err(TrainError::FileChanged { path: name.into() }),
            Some(_) => Ok(()),
            None => {
                self.seen.insert(name, sha256);
                Ok(())
            }
        }
    }

    /// An encoded split, without labels: the one there is, or what `encode` makes.
    ///
    /// # Errors
    ///
    /// Whatever `encode` says.
    pub(crate) fn split(
        &mut self,
        of: EncodedAs,
        encode: impl FnOnce() -> Result<Dataset>,
    ) -> Result<Dataset> {
        if let Some((_, split)) = self.splits.iter().find(|(known, _)| *known == of) {
            return Ok(split.clone());
        }
        let split = encode()?;
        if self.keeps {
            self.splits.push((of, split.clone()));
        }
        Ok(split)
    }

    /// A frozen decoder: the one there is, or what `load` loads. Another one is let go of before. A
    /// decoder that trains is not kept, since it would be in memory twice.
    ///
    /// # Errors
    ///
    /// Whatever `load` says.
    pub(crate) fn decoder(
        &mut self,
        of: DecoderOf,
        load: impl FnOnce() -> Result<LlamaModel>,
    ) -> Result<LlamaModel> {
        match &self.decoder {
            Some((known, decoder)) if *known == of => return Ok(decoder.clone()),
            _ => self.decoder = None,
        }
        let decoder = load()?;
        if self.keeps && matches!(of.precision.in_f32, Trained::Head) {
            self.decoder = Some((of, decoder.clone()));
        }
        Ok(decoder)
    }

    /// How many splits have been encoded.
    #[cfg(test)]
    pub(crate) fn encoded(&self) -> usize {
        self.splits.len()
    }

    /// What memory was like before the first weights: all runs have the same, since what one frees
    /// the next one takes.
    pub(crate) fn before_weights(&mut self) -> BeforeWeights {
        *self.before.get_or_insert_with(BeforeWeights::now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_between_runs_is_seen() {
        let mut shared = Shared::by_runs(BTreeMap::from([("a".into(), "1".into())]));
        shared.see("a".into(), "1".into()).unwrap();
        shared.see("b".into(), "2".into()).unwrap();
        let error = shared.see("b".into(), "3".into()).unwrap_err();
        assert!(error.to_string().starts_with("b: has changed"), "{error}");
        assert_eq!(shared.seen().len(), 2);
    }
}
