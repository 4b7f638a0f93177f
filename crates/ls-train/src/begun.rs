//! [`Begun`]: the adapter that a run begins from (`model.adapter`), and what of the run is held
//! against it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use burn::tensor::Device;
use ls_data::{TaskKind, TextTokenizer};
use ls_files::listed;
use ls_lora::{CONFIG_FILE, LoraConfig, PeftAdapter, weights_file};
use ls_model::{Checkpoint, LlamaClassifier, SavedHead, Task};
use serde::Serialize;

use crate::config::{ResolvedRun, RunConfig};
use crate::error::{Result, TrainError};
use crate::inference::InferenceSettings;
use crate::old_head::OldHead;
use crate::read_files::ReadFiles;
use crate::run_dir::INFERENCE_FILE;

/// Names that are listed in a message.
const LISTED: usize = 10;

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
    /// Reads the adapter of a configuration, if it names one. `read` notes its files.
    ///
    /// # Errors
    ///
    /// If the folder is none of an adapter that can be used.
    pub(crate) fn of(config: &RunConfig, read: &mut ReadFiles) -> Result<Option<Self>> {
        let Some(dir) = config.model.adapter.clone() else {
            return Ok(None);
        };
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
    pub(crate) fn settle(&self, run: &mut ResolvedRun, checkpoint: &Checkpoint) -> Result<()> {
        let (Some(settings), Some(lora)) = (&run.config.lora, &mut run.lora) else {
            return Ok(());
        };
        checkpoint.check_adapter(&self.adapter, &self.dir)?;
        let mut faults = settings.contradictions(&self.written, &self.dir)?;
        if lora.target_modules != self.written.target_modules {
            let named: BTreeSet<String> = checkpoint.adapted_by(lora)?.into_iter().collect();
            let own: BTreeSet<String> = self.adapter.lora.keys().cloned().collect();
            let only = |one: &BTreeSet<String>, other| {
                let names = one.difference(other).cloned();
                match listed(names.collect::<Vec<_>>(), LISTED) {
                    names if names.is_empty() => "none".into(),
                    names => names,
                }
            };
            if named != own {
                faults.push(format!(
                    "lora.target_modules: expected the layers that the adapter in {} \
                     adapts (model.adapter), found others: beside them {}, without {}: leave it out",
                    self.dir.display(),
                    only(&named, &own),
                    only(&own, &named),
                ));
            }
        }
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

    /// What may not fit what the adapter has learnt, a phrase each.
    ///
    /// # Errors
    ///
    /// If the weights cannot be read.
    pub(crate) fn concerns(
        &self,
        run: &ResolvedRun,
        checkpoint: &Checkpoint,
        tokenizer: &TextTokenizer,
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
            "what the adapter has learnt may not fit",
        )?;
        let others = others.into_iter();
        found.extend(others.map(|other| format!("{other}, which {dir} was trained with")));
        let (model, data) = (&run.config.model, &run.config.data);
        let mut compare = |key: &str, was: Option<String>, is: Option<String>| {
            if was != is {
                let [was, is] = [was, is].map(|value| value.unwrap_or_else(|| "not set".into()));
                found.push(format!("{key} is {is}, and {dir} was trained with {was}"));
            }
        };
        let attention = record.attention.to_string();
        compare(
            "model.attention",
            Some(attention),
            Some(run.attention.to_string()),
        );
        let packed = [record.quantization, model.quantization];
        let [was, is] = packed.map(|format| format.map(|format| written(&format)));
        compare("model.quantization", was, is);
        let [was, is] = [record.dtype, model.dtype].map(|dtype| Some(written(&dtype)));
        compare("model.dtype", was, is);
        let as_text = [record.special_tokens, data.special_tokens];
        let [was, is] = as_text.map(|tokens| Some(written(&tokens)));
        compare("data.special_tokens", was, is);
        if record.task != run.config.task {
            return Ok(found);
        }
        let pooled = [record.pooling, model.pooling];
        let [was, is] = pooled.map(|pooling| pooling.map(|pooling| pooling.to_string()));
        compare("model.pooling", was, is);
        if record.task == TaskKind::Token {
            let [was, is] = [record.words, data.words].map(|words| Some(written(&words)));
            compare("data.words", was, is);
            let positions = [record.label_position, data.label_position];
            let [was, is] = positions.map(|position| Some(written(&position)));
            compare("data.label_position", was, is);
        }
        Ok(found)
    }

    /// What is assumed of an adapter beside which nothing stands, as a note.
    pub(crate) fn assumed(&self, run: &ResolvedRun) -> Option<String> {
        let pooling = run.config.model.pooling;
        let pooling = pooling.map(|pooling| format!(", model.pooling = {pooling}"));
        self.record.is_none().then(|| {
            format!(
                "{} does not say how it was trained: it goes on with model.attention = {}{}",
                self.dir.display(),
                run.attention,
                pooling.unwrap_or_default()
            )
        })
    }

    /// Its head, whose rows the labels of a run may keep.
    pub(crate) fn head(&self, task: Task) -> OldHead {
        let (adapter, path) = (&self.adapter, self.weights.clone());
        let names = self.record.as_ref();
        OldHead {
            path: self.dir.clone(),
            sha256: self.sha256.clone(),
            head: SavedHead::of_adapter(adapter, path, task.task_type()),
            names: names.map(|record| record.labels.names().to_vec()),
        }
    }

    /// Puts the adapter on a classifier, which has its head.
    ///
    /// # Errors
    ///
    /// If a tensor does not fit.
    pub(crate) fn place(
        &self,
        model: LlamaClassifier,
        lora: &LoraConfig,
        device: &Device,
    ) -> Result<LlamaClassifier> {
        let mut adapter = self.adapter.clone();
        adapter.config = lora.clone();
        Ok(model.begin_from(&adapter, &self.dir, device)?)
    }
}

/// A setting as a configuration has it.
fn written(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().map_or_else(|| value.to_string(), Into::into)
}
