//! [`Begun`]: the adapter that a run begins from (`model.adapter`), and what of the run is held
//! against it.

use std::path::PathBuf;

use burn::tensor::Device;
use ls_data::TextTokenizer;
use ls_files::{Fingerprint, is_folder};
use ls_lora::{CONFIG_FILE, LoraConfig, PeftAdapter, weights_file};
use ls_model::{Checkpoint, LlamaClassifier, SavedHead, Task};

use crate::config::{ResolvedRun, RunConfig};
use crate::error::{Result, TrainError};
use crate::inference::InferenceSettings;
use crate::old_head::OldHead;
use crate::problem::Problem;
use crate::read_files::ReadFiles;
use crate::run_dir::INFERENCE_FILE;
use crate::set_otherwise::{cut_otherwise, held_otherwise, set_otherwise, written};

/// An adapter that a run begins from, in memory.
pub(crate) struct Begun {
    dir: PathBuf,
    adapter: PeftAdapter,
    /// As the folder has it: loading adds what the weights say beside it.
    written: LoraConfig,
    /// What stands beside an adapter that was trained here.
    record: Option<InferenceSettings>,
    /// Of its files.
    files: Vec<String>,
    /// The file of its weights, and its SHA-256.
    weights: PathBuf,
    sha256: String,
}

impl Begun {
    /// Sees that a model has the layers that a run speaks of, before any weight of it is read, and
    /// reads the adapter that the run begins from, if it does: see [`Begun::settle`]. `read` notes
    /// the adapter's files.
    ///
    /// # Errors
    ///
    /// If it has not; if the folder is none of an adapter that can be used.
    pub(crate) fn on_model(
        run: &mut ResolvedRun,
        checkpoint: &Checkpoint,
        read: &mut ReadFiles,
    ) -> Result<Option<Self>> {
        let begun = Self::of(&run.config, read)?;
        if let Some(begun) = &begun {
            begun.settle(run, checkpoint)?;
        }
        let fresh = run.lora.as_ref().filter(|_| begun.is_none());
        checkpoint.check_settings(&run.attention, fresh)?;
        run.check_layers(&checkpoint.config)?;
        Ok(begun)
    }

    /// Reads the adapter of a configuration, if it names one. `read` notes its files.
    ///
    /// # Errors
    ///
    /// If the folder is none of an adapter that can be used.
    fn of(config: &RunConfig, read: &mut ReadFiles) -> Result<Option<Self>> {
        let Some(dir) = config.model.adapter.clone() else {
            return Ok(None);
        };
        if !is_folder(&dir)? {
            return Err(TrainError::Config {
                origin: "model.adapter".into(),
                faults: vec![format!("{}: no such folder", dir.display())],
            });
        }
        let weights = weights_file(&dir)?;
        let files = [
            dir.join(CONFIG_FILE),
            weights.clone(),
            dir.join(INFERENCE_FILE),
        ];
        // First: what changes after it shows.
        for file in &files {
            read.add_optional(file)?;
        }
        let (written, _) = LoraConfig::from_folder(&dir)?;
        let adapter = PeftAdapter::load_for_training(&dir)?;
        let record = InferenceSettings::load(&dir)?;
        let files = files.iter().filter_map(|file| read.sha256_of(file));
        Ok(Some(Self {
            files: files.collect(),
            sha256: read.sha256_of(&weights).unwrap_or_default(),
            weights,
            adapter,
            written,
            record,
            dir,
        }))
    }

    /// Hashes of its files.
    pub(crate) fn identity(&self) -> Vec<String> {
        self.files.clone()
    }

    /// The number of tokens in its own table, if it has one.
    pub(crate) fn vocab_size(&self) -> Option<usize> {
        self.adapter.vocab_size()
    }

    /// Sees that the run goes with the adapter, before any weight of the model is read, and makes
    /// the adapter's configuration that of the run.
    ///
    /// # Errors
    ///
    /// If `[lora]` says otherwise than the adapter, or the model has not its layers.
    fn settle(&self, run: &mut ResolvedRun, checkpoint: &Checkpoint) -> Result<()> {
        let (Some(settings), Some(lora)) = (&run.config.lora, &mut run.lora) else {
            return Ok(());
        };
        checkpoint.check_adapter(&self.adapter, &self.dir)?;
        let (dir, model) = (&self.dir, &checkpoint.config);
        let mut faults = settings.contradictions(&self.written, dir, model)?;
        if run.config.train.baselines && self.vocab_size().is_some() {
            faults.push(format!(
                "train.baselines: the adapter in {} has a vocabulary of its own, which the model \
                 alone lacks: leave it out",
                self.dir.display()
            ));
        }
        if !faults.is_empty() {
            return Err(TrainError::Config {
                origin: "the configuration".into(),
                faults,
            });
        }
        *lora = LoraConfig {
            lora_dropout: settings.lora_dropout,
            task_type: lora.task_type,
            base_model_name_or_path: lora.base_model_name_or_path.clone(),
            revision: None,
            ..self.adapter.config.clone()
        };
        Ok(())
    }

    /// What may not fit what the adapter has learnt, a phrase each. `weights` is of the model.
    ///
    /// # Errors
    ///
    /// If the weights cannot be read.
    pub(crate) fn concerns(
        &self,
        run: &ResolvedRun,
        checkpoint: &Checkpoint,
        tokenizer: &TextTokenizer,
        weights: &Fingerprint,
    ) -> Result<Vec<String>> {
        let dir = self.dir.display();
        let warnings = self.adapter.warnings.iter();
        let mut found: Vec<String> = warnings.map(|text| format!("{dir}: {text}")).collect();
        let Some(record) = &self.record else {
            return Ok(found);
        };
        let others = record.not_those_of_training(
            checkpoint,
            tokenizer,
            run.config.model.tokenizer_dir()?,
            Some(weights),
            "what the adapter has learnt may not fit",
        )?;
        let others = others.into_iter();
        found.extend(others.map(|other| format!("{other}, which {dir} was trained with")));
        found.extend(set_otherwise(record, &self.dir, run));
        found.extend(held_otherwise(record, &self.dir, run));
        Ok(found)
    }

    /// What is worth knowing of how it goes on, as notes: other lengths than it was trained with,
    /// or, where nothing stands beside it, what is assumed of it.
    pub(crate) fn notes(&self, run: &ResolvedRun) -> Vec<String> {
        let Some(record) = &self.record else {
            return vec![self.assumed(run)];
        };
        cut_otherwise(record, &self.dir, run)
    }

    fn assumed(&self, run: &ResolvedRun) -> String {
        let (model, data) = (&run.config.model, &run.config.data);
        let mut assumed = vec![format!("model.attention = {}", run.attention)];
        match model.pooling {
            Some(pooling) => assumed.push(format!("model.pooling = {pooling}")),
            None => {
                assumed.push(format!("data.words = {}", written(&data.words)));
                let position = written(&data.label_position);
                assumed.push(format!("data.label_position = {position}"));
            }
        }
        format!(
            "{} does not say how it was trained: it goes on with {}",
            self.dir.display(),
            assumed.join(", ")
        )
    }

    /// The head whose rows the labels of a run may keep: its own, or where it has none for them
    /// that of its model, if that is a whole classifier.
    ///
    /// # Errors
    ///
    /// If the model's head cannot be read.
    pub(crate) fn head(&self, task: Task, checkpoint: &Checkpoint) -> Result<OldHead> {
        let (adapter, path) = (&self.adapter, self.weights.clone());
        let record = self.record.as_ref();
        let own = OldHead {
            place: self.dir.clone(),
            path: self.dir.clone(),
            sha256: self.sha256.clone(),
            head: SavedHead::of_adapter(adapter, path, task.task_type()),
            names: record.map(|record| record.labels.names().to_vec()),
            of_number: record.is_some_and(|record| record.problem() == Problem::Regression),
        };
        if own.head.is_some() {
            return Ok(own);
        }
        let of_model = OldHead::of_model(checkpoint, "", task.task_type())?;
        Ok(match of_model {
            Some(of_model) => OldHead {
                path: own.path,
                sha256: own.sha256,
                ..of_model
            },
            None => own,
        })
    }

    /// Puts the adapter on a classifier, which has its head.
    ///
    /// # Errors
    ///
    /// If a tensor does not fit.
    pub(crate) fn place(
        self,
        model: LlamaClassifier,
        lora: &LoraConfig,
        device: &Device,
    ) -> Result<LlamaClassifier> {
        let mut adapter = self.adapter;
        adapter.config = lora.clone();
        Ok(model.begin_from(adapter, &self.dir, device)?)
    }
}
