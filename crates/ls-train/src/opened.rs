//! [`Opened`]: what a run reads besides weights: the headers of its model, its adapter, its
//! tokenizer, and its data.

use std::path::PathBuf;

use ls_data::TextTokenizer;
use ls_files::Fingerprint;
use ls_model::{Checkpoint, LlamaConfig};

use crate::begun::Begun;
use crate::config::ResolvedRun;
use crate::error::Result;
use crate::events::{Event, Observer};
use crate::identity::Identity;
use crate::old_head::{OldHead, set_otherwise_than_model};
use crate::read_files::ReadFiles;
use crate::shared::{EncodedAs, Shared};
use crate::sources::{Source, Sources};
use crate::splits::{self, Splits};

/// A run whose inputs are known. What is read from here on is what was there at the beginning, or
/// the run ends.
pub(crate) struct Opened {
    /// With what the adapter says that it begins from.
    pub(crate) run: ResolvedRun,
    pub(crate) checkpoint: Checkpoint,
    /// That of the checkpoint, with the vocabulary of an adapter that has a table of its own:
    /// tokens that were added for its training are in there.
    pub(crate) model_config: LlamaConfig,
    pub(crate) begun: Option<Begun>,
    pub(crate) sources: Sources,
    pub(crate) read: ReadFiles,
    /// The file that describes the data set, if one does.
    description: Option<PathBuf>,
    pub(crate) tokenizer: TextTokenizer,
    pub(crate) tokenizer_dir: PathBuf,
}

impl Opened {
    /// Sees that the model goes with the run, and that its files are there, before a weight or an
    /// example is read.
    ///
    /// # Errors
    ///
    /// If the model, the adapter, the tokenizer or a file of the data cannot be used.
    pub(crate) fn of(
        mut run: ResolvedRun,
        checkpoint: Checkpoint,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        if run.config.data.fold.is_some() && run.config.data.validation.is_some() {
            observer.event(&Event::Note(
                "data.validation is not read: a part of data.train is validated on (data.fold)",
            ));
        }
        let mut read = ReadFiles::default();
        let begun = Begun::on_model(&mut run, &checkpoint, &mut read)?;
        let description = run.config.data.known().and_then(|known| known.file.clone());
        if let Some(description) = &description {
            read.add(description)?;
        }
        let sources = Sources::of(&run.config)?;
        for file in sources.files() {
            read.add(file)?;
            read.add_optional(&file.with_file_name("label.json"))?;
        }
        run.config.to_toml()?;
        let tokenizer_dir = run.config.model.tokenizer_dir()?.to_path_buf();
        let tokenizer = TextTokenizer::for_reading(&tokenizer_dir, run.config.data.reading())?;
        let mut model_config = checkpoint.config.clone();
        let of_adapter = begun.as_ref().and_then(Begun::vocab_size);
        model_config.vocab_size = of_adapter.unwrap_or(model_config.vocab_size);
        Ok(Self {
            run,
            checkpoint,
            model_config,
            begun,
            sources,
            read,
            description,
            tokenizer,
            tokenizer_dir,
        })
    }

    /// By what the inputs are known again. `weights` are the model's.
    pub(crate) fn identity(&self, weights: Fingerprint) -> Identity {
        let (read, sources) = (&self.read, &self.sources);
        let description = self.description.as_ref();
        Identity {
            train: read.of(Some(&sources.train)),
            validation: read.of(sources.validation.as_ref()),
            test: read.of(sources.test.as_ref()),
            description: description.and_then(|path| read.sha256_of(path)),
            adapter: self.begun.as_ref().map(Begun::identity).unwrap_or_default(),
            tokenizer: self.tokenizer.sha256_of_files(),
            model_config: self.checkpoint.config_sha256.clone(),
            weights,
        }
    }

    /// The head whose rows the labels of the run may keep: that of its adapter, or of its model.
    /// `weights` are the model's.
    ///
    /// # Errors
    ///
    /// If the head, or the record beside it, cannot be read.
    pub(crate) fn old_head(&self, weights: &Fingerprint) -> Result<Option<OldHead>> {
        let (head, checkpoint) = (self.run.head, &self.checkpoint);
        match &self.begun {
            Some(begun) => Ok(Some(begun.head(head, checkpoint)?)),
            None => OldHead::of_model(checkpoint, &weights.sha256, head.task_type()),
        }
    }

    /// What may not fit what the adapter or the model has learnt, a phrase each.
    ///
    /// # Errors
    ///
    /// If what stands beside it cannot be read.
    pub(crate) fn concerns(&self, weights: &Fingerprint) -> Result<Vec<String>> {
        let (run, checkpoint) = (&self.run, &self.checkpoint);
        match &self.begun {
            Some(begun) => begun.concerns(run, checkpoint, &self.tokenizer, weights),
            None => set_otherwise_than_model(run, checkpoint),
        }
    }

    /// Reads and encodes the splits, and makes the choices that their tags decide.
    ///
    /// # Errors
    ///
    /// If a file or a row of one cannot be used, or was changed meanwhile.
    pub(crate) fn splits(
        &mut self,
        shared: &mut Shared,
        observer: &mut dyn Observer,
    ) -> Result<Splits> {
        let (run, read, tokenizer) = (&self.run, &self.read, &self.tokenizer);
        let vocab_size = self.model_config.vocab_size;
        let sha256 = tokenizer.sha256_of_files();
        let mut encoded = |source: &Source, observer: &mut dyn Observer| {
            let of = EncodedAs {
                split: source.split.clone(),
                sha256: read.of(Some(source)),
                task: run.config.task,
                limits: run.limits,
                label_position: run.config.data.label_position,
                tokenizer: sha256.clone(),
                reading: run.config.data.reading(),
                vocab_size,
            };
            shared.split(of, || {
                splits::encode(run, source, tokenizer, vocab_size, observer)
            })
        };
        let splits = Splits::read_by(run, &self.sources, &mut encoded, observer)?;
        read.check()?;
        if let Some(tags) = splits.tags {
            self.run.settle_tags(tags.kind)?;
        }
        Ok(splits)
    }
}
