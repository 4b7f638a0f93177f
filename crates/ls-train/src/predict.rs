//! Labels for new text: a trained model ready to answer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ls_data::{
    CutReport, InputLimits, LabelSet, SpecialTokensAs, SplitSource, TagGrammar, TagKind, TaskKind,
    TextTokenizer, WordsAs,
};
use ls_files::{FileStamp, exists, optional};
use ls_lora::{CONFIG_FILE, LoraModel, PeftAdapter, weights_file};
use ls_model::{
    AttentionMode, Checkpoint, ComputeType, LlamaClassifier, LlamaConfig, Pooling, ProblemType,
    Trained,
};
use serde_json::Value;

use crate::calibration::Calibration;
use crate::config::{Protocol, RunConfig, default_long_inputs};
use crate::dataset::{Dataset, Encoding, Examples, Unreadable};
use crate::decoding::{Coverage, Decoding};
use crate::error::{Result, TrainError};
use crate::evaluate::{Evaluation, Fits, Pass, evaluate, logits, predictions};
use crate::events::{Event, Observer};
use crate::inference::{FORMAT_VERSION, InferenceSettings, WRONG_ANSWERS, pad_token};
use crate::inputs::Inputs;
use crate::out_of_memory::caught;
use crate::prediction::{prediction_object, unreadable_object, without_decision};
use crate::problem::{FunctionToApply, Problem};
use crate::read_files::ReadFiles;
use crate::run_dir::RunDir;

/// Settings for a model that was not trained here, or that replace those it was trained with.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// What is labelled. Needed unless a run or the adapter records it.
    pub task: Option<TaskKind>,
    /// Which layers see to the right.
    pub attention: Option<AttentionMode>,
    /// Pooling, for a sequence.
    pub pooling: Option<Pooling>,
    /// What the answers for a sequence are.
    pub problem_type: Option<ProblemType>,
    /// Label names in the order of the head.
    pub labels: Option<Vec<String>>,
    /// Longest input in tokens.
    pub max_length: Option<usize>,
    /// How words become ids.
    pub words: Option<WordsAs>,
    /// What a special token is that a text spells out.
    pub special_tokens: Option<SpecialTokensAs>,
    /// Element type of the frozen weights, or of all where all were trained.
    pub dtype: Option<ComputeType>,
}

/// A model ready to answer.
pub struct Predictor {
    model: LlamaClassifier,
    /// With the vocabulary of the adapter.
    config: LlamaConfig,
    /// What was loaded; its files are kept open.
    checkpoint: Checkpoint,
    /// The weights of the checkpoint, as they were before they were loaded.
    base: Vec<(PathBuf, FileStamp)>,
    /// The files of the adapter, as they were loaded.
    adapter: ReadFiles,
    tokenizer: TextTokenizer,
    device: Device,
    /// How it reads and answers.
    pub settings: InferenceSettings,
    decoding: Decoding,
    /// That of `decoding.constrained`.
    grammar: Option<TagGrammar>,
    /// Whether that stood beside the weights, as ls-llama writes it. Otherwise what a checkpoint
    /// cannot say (how words were encoded) is assumed.
    pub recorded: bool,
}

impl Predictor {
    /// The best checkpoint of a run, and the run's configuration. The observer hears how the
    /// weights are loaded.
    ///
    /// # Errors
    ///
    /// If the folder is not that of a finished run, or its base model cannot be loaded.
    pub fn from_run(
        dir: &Path,
        device: &Device,
        observer: &mut dyn Observer,
    ) -> Result<(Self, RunConfig)> {
        let run = RunDir::open(dir)?;
        let mut config = RunConfig::of_finished(&run.config())?;
        let overrides = Overrides {
            task: Some(config.task),
            ..Overrides::default()
        };
        let best = run.standing_best()?;
        let (model, adapter) = match config.lora {
            Some(_) => (&*config.model.path, Some(&*best)),
            None => (&*best, None),
        };
        let predictor = Self::from_pretrained(model, adapter, &overrides, device, observer)?;
        if config.data.dataset.is_some() && config.data.known().is_none() {
            // Integers in a labelled file count into them, as the description would say.
            let names = predictor.settings.labels.names();
            config.data.labels.get_or_insert_with(|| names.to_vec());
        }
        Ok((predictor, config))
    }

    /// A Hugging Face folder, with the head in it or in a PEFT folder.
    ///
    /// If it was trained here, its own settings apply unless overridden. Otherwise the
    /// checkpoint's `config.json` gives attention (`is_causal`), labels (`id2label`) and what the
    /// answers are (`problem_type`), and sequences are pooled as transformers pools them: their
    /// last token that is not the pad token of `config.json`, or else, of an adapter, that of its
    /// tokenizer.
    ///
    /// # Errors
    ///
    /// If a folder cannot be used, the two do not fit together, or the labels do not fit the head.
    pub fn from_pretrained(
        model_dir: &Path,
        adapter_dir: Option<&Path>,
        overrides: &Overrides,
        device: &Device,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let device = device.clone().without_autodiff();
        let checkpoint = Checkpoint::open(model_dir)?;
        let mut config = checkpoint.config.clone();
        let stamped = |path: &Path| Ok((path.to_path_buf(), FileStamp::of(path)?));
        let base = checkpoint.weight_files().map(stamped);
        let base = base.collect::<Result<_>>()?;
        let files_of_adapter = match adapter_dir {
            Some(dir) => vec![dir.join(CONFIG_FILE), weights_file(dir)?],
            None => Vec::new(),
        };
        let stamps = |paths: &[PathBuf]| {
            let stamps = paths.iter().map(|path| optional(FileStamp::of(path)));
            stamps.collect::<Result<Vec<_>, _>>()
        };
        let before = stamps(&files_of_adapter)?;
        let adapter = adapter_dir
            .map(|dir| Ok::<_, TrainError>((dir, PeftAdapter::load(dir)?)))
            .transpose()?;
        // Only now that they are known to be files of an adapter: a hash reads all that there is.
        let mut adapter_files = ReadFiles::default();
        for path in &files_of_adapter {
            adapter_files.add(path)?;
        }
        let after = stamps(&files_of_adapter)?;
        let mut same = before
            .iter()
            .zip(&after)
            .map(|(before, after)| before == after);
        if let Some(at) = same.position(|same| !same) {
            let path = files_of_adapter[at].clone();
            return Err(TrainError::FileChanged { path });
        }
        // Tokens that were added for the training are in the adapter's table.
        let of_adapter = adapter
            .as_ref()
            .and_then(|(_, adapter)| adapter.vocab_size());
        config.vocab_size = of_adapter.unwrap_or(config.vocab_size);
        // Where what was trained is.
        let own_dir = adapter_dir.unwrap_or(model_dir);
        let saved = InferenceSettings::load(own_dir)?;
        // The tokenizer of a run is the one that it was trained with.
        let tokenizer_dir = match adapter_dir {
            Some(dir) if exists(dir.join("tokenizer.json"))? => dir,
            _ => model_dir,
        };
        let mut reading = saved
            .as_ref()
            .map_or_else(Default::default, InferenceSettings::reading);
        reading.words = overrides.words.unwrap_or(reading.words);
        reading.special_tokens = overrides.special_tokens.unwrap_or(reading.special_tokens);
        let tokenizer = TextTokenizer::for_reading(tokenizer_dir, reading)?;
        let recorded = saved.is_some();
        if let Some(saved) = &saved {
            if overrides.attention.is_none() {
                saved.check_attention(&config, own_dir)?;
            }
            for other in saved.not_those_of_training(
                &checkpoint,
                &tokenizer,
                tokenizer_dir,
                None,
                WRONG_ANSWERS,
            )? {
                tracing::warn!("{other}, which {} was trained with", own_dir.display());
            }
        }
        let mut settings = match saved {
            Some(saved) => saved,
            None => {
                let adapter = adapter_dir.is_some();
                default_settings(model_dir, &config, &tokenizer, adapter, overrides)?
            }
        };
        if let Some(task) = overrides.task
            && task != settings.task
        {
            let reason = format!("it labels a {}, not a {task}", settings.task);
            let path = own_dir.into();
            return Err(TrainError::Settings { path, reason });
        }
        settings.attention = overrides.attention.clone().unwrap_or(settings.attention);
        if overrides.pooling.is_some() {
            settings.pooling = overrides.pooling;
            (settings.pad_token_id, settings.pad_token) =
                pad_token(settings.pooling, &config, &tokenizer);
        }
        settings.problem_type = overrides.problem_type.or(settings.problem_type);
        settings.max_length = overrides.max_length.unwrap_or(settings.max_length);
        if let Some(dtype) = overrides.dtype {
            settings.dtype = dtype;
            if settings.trained == Trained::All {
                // Or it would say nothing.
                settings.trained = Trained::Head;
            }
        }
        (settings.words, settings.special_tokens) = (reading.words, reading.special_tokens);
        if let Some(names) = &overrides.labels {
            settings.labels = LabelSet::from_names(names.clone())?;
        }
        settings.check_model(&config, own_dir)?;
        let task = settings.head(&config);
        let loading = |done, total| observer.event(&Event::Loading { done, total });
        let load = || match &adapter {
            Some((dir, adapter)) => {
                for warning in &adapter.warnings {
                    tracing::warn!("{}: {warning}", dir.display());
                }
                let backbone = checkpoint.load_model(
                    &settings.attention,
                    settings.precision(),
                    &device,
                    loading,
                )?;
                let mut model =
                    LlamaClassifier::with_adapter(backbone, &config, task, adapter, dir, &device)?;
                if settings.dtype == ComputeType::F32 && settings.quantization.is_none() {
                    // In f32 the merged weights give the same answers for less work; otherwise they
                    // would be rounded.
                    model = LoraModel::new(model).merge_and_unload()?.0;
                }
                Ok::<_, TrainError>(model)
            }
            None => Ok(checkpoint.load_classifier_watched(
                &settings.attention,
                task,
                settings.precision(),
                &device,
                loading,
            )?),
        };
        let model = caught(load).map_err(|full| {
            let advice = "take a smaller type (--dtype bf16), or a device with more memory".into();
            full.error("the weights of the model".into(), 0, advice, None)
        })??;
        if overrides.labels.is_none() && settings.labels.len() != model.num_labels() {
            // The labels of a base model are not those of an adapter that peft wrote.
            let named = recorded || (adapter_dir.is_none() && config.labels.is_some());
            if named {
                let (names, head) = (settings.labels.len(), model.num_labels());
                return Err(TrainError::of_head(own_dir, names, head));
            }
            tracing::warn!(
                "{}: no file names the labels of this head, which has {}: name them with --labels",
                own_dir.display(),
                model.num_labels()
            );
            let names = (0..model.num_labels())
                .map(|id| format!("LABEL_{id}"))
                .collect();
            settings.labels = LabelSet::from_names(names)?;
        }
        if settings.labels.len() != model.num_labels() {
            return Err(TrainError::LabelCount {
                what: "the model's head and the label names differ".into(),
                expected: model.num_labels(),
                found: settings.labels.len(),
            });
        }
        Ok(Self {
            model,
            config,
            checkpoint,
            base,
            adapter: adapter_files,
            tokenizer,
            device,
            settings,
            decoding: Decoding::default(),
            grammar: None,
            recorded,
        })
    }

    /// From now on a label holds from this score on, each label the same, whatever was fitted.
    ///
    /// # Errors
    ///
    /// If the model gives each text one label, or a number; if the threshold is not from 0 to 1.
    pub fn set_threshold(&mut self, threshold: f32) -> Result<()> {
        let labels = self.settings.labels.len();
        let calibration = std::mem::take(&mut self.settings.calibration);
        self.settings.calibration = calibration.with_threshold(threshold, labels);
        let fault = match self.problem() {
            Problem::MultiLabel if (0.0..=1.0).contains(&threshold) => None,
            Problem::MultiLabel => {
                Some(format!("expected a number from 0 to 1, found {threshold}"))
            }
            _ => Some("this model says of no label whether it holds: leave it out".into()),
        };
        match fault {
            None => Ok(()),
            Some(fault) => Err(TrainError::Config {
                origin: "--threshold".into(),
                faults: vec![fault],
            }),
        }
    }

    /// How answers are chosen.
    pub fn decoding(&self) -> Decoding {
        self.decoding
    }

    /// From now on answers are chosen so.
    ///
    /// # Errors
    ///
    /// If a tag scheme is asked for and the model gives no words tags of spans, or tags that are
    /// not of that scheme; if a score is asked for that is none from 0 to 1, or the model does not
    /// answer with the label of the highest.
    pub fn set_decoding(&mut self, decoding: Decoding) -> Result<()> {
        let fault = |flag: &str, fault: String| {
            Err(TrainError::Config {
                origin: flag.into(),
                faults: vec![fault],
            })
        };
        if decoding.constrained.is_some() && self.problem() != Problem::Tags(Some(TagKind::Spans)) {
            let text = "only tags of spans have a scheme, and this model gives none: leave it out";
            return fault("--constrained", text.into());
        }
        if let Some(least) = decoding.abstain_below {
            if matches!(self.problem(), Problem::MultiLabel | Problem::Regression) {
                let text = "it is for models that give a text or a word one of several labels: leave \
                            it out (--threshold says from when on labels hold)";
                return fault("--abstain-below", text.into());
            }
            if !(0.0..=1.0).contains(&least) {
                let text = format!("expected a number from 0 to 1, found {least}");
                return fault("--abstain-below", text);
            }
        }
        let names = self.settings.labels.names();
        let grammar = decoding
            .constrained
            .map(|scheme| TagGrammar::new(names, scheme));
        self.grammar = match grammar.transpose() {
            Ok(grammar) => grammar,
            Err(misfit) => return fault("--constrained", misfit.to_string()),
        };
        self.decoding = decoding;
        Ok(())
    }

    /// The tag of a word that no answer was given for.
    pub fn no_tag(&self) -> &'static str {
        without_decision(&self.settings.labels, self.settings.tag_kind())
    }

    fn pass(&self, protocol: Protocol) -> Pass<'_> {
        Pass {
            config: &self.config,
            settings: &self.settings,
            batch_size: self.settings.batch_size,
            protocol,
            decoding: self.decoding,
            grammar: self.grammar.as_ref(),
            fits: Fits::default(),
            device: &self.device,
        }
    }

    fn encoding(&self) -> Encoding<'_> {
        Encoding {
            tokenizer: &self.tokenizer,
            vocab_size: self.config.vocab_size,
            limits: self.settings.limits(),
            label_position: self.settings.label_position,
        }
    }

    /// Answers for examples, one JSON object each, in their order: to a blank text, and to one that
    /// leaves no token, without a label but with the reason under `error`. `path` is for messages;
    /// `tick` hears how many inputs are done.
    ///
    /// # Errors
    ///
    /// If an output is NaN or infinite, or a token is past the vocabulary.
    pub fn predict(
        &self,
        path: &Path,
        examples: &Examples,
        mut tick: impl FnMut(usize),
    ) -> Result<Predicted> {
        let (dataset, unreadable) = Dataset::encode_examples(path, examples, self.encoding())?;
        let (predictions, coverage) = match &dataset {
            Some(dataset) => {
                let logits = logits(&self.model, dataset, self.pass(Protocol::Strict), |done| {
                    tick(done);
                    Ok(())
                })?;
                let classes = self.model.num_labels();
                let (pass, calibration) = (self.pass(Protocol::Strict), &self.settings.calibration);
                let examples = dataset.examples()?;
                predictions(dataset, &examples, &logits, classes, pass, calibration)?
            }
            None => (Vec::new(), None),
        };
        let (labels, tags) = (&self.settings.labels, self.settings.tag_kind());
        let mut predictions = predictions.iter();
        let objects = (0..examples.len()).map(|index| {
            let example = examples.get(index);
            let prediction = match unreadable.get(&index) {
                Some(why) => return unreadable_object(example, *why, labels, tags),
                None => predictions.next(),
            };
            // There is one for each example that is read.
            prediction.map_or(Value::Null, |prediction| {
                prediction_object(example, None, prediction, labels, tags)
            })
        });
        Ok(Predicted {
            objects: objects.collect(),
            unreadable: unreadable.len(),
            left_out: coverage.map_or(0, Coverage::left_out),
            cut: dataset.map(|dataset| dataset.cut).unwrap_or_default(),
        })
    }

    /// Everything besides the inputs that decides the answers, by a name for messages: each
    /// setting, and hashes of weights and tokenizer. Who goes on with answers compares it with what
    /// they were begun with.
    ///
    /// # Errors
    ///
    /// If a file of the model can no longer be read, or its weights are no longer those that were
    /// loaded.
    pub fn identity(&self) -> Result<BTreeMap<String, String>> {
        let mut identity = BTreeMap::new();
        let settings = serde_json::to_value(&self.settings).unwrap_or_default();
        for (key, value) in settings.as_object().into_iter().flatten() {
            // A folder may have been moved: its content counts.
            if !matches!(key.as_str(), "base_model" | "format_version") {
                identity.insert(key.clone(), value.to_string());
            }
        }
        let decoding = serde_json::to_value(self.decoding).unwrap_or_default();
        identity.insert("decoding".into(), decoding.to_string());
        let base = self.checkpoint.fingerprint(None)?;
        for (path, stamp) in &self.base {
            if FileStamp::of(path)? != *stamp {
                return Err(TrainError::FileChanged { path: path.clone() });
            }
        }
        identity.insert("base model".into(), base.sha256);
        let config = self.checkpoint.config_sha256.clone();
        identity.insert("config.json".into(), config);
        identity.insert("tokenizer".into(), self.tokenizer.sha256_of_files());
        identity.extend(self.adapter.sha256_by_name());
        Ok(identity)
    }

    /// Reports a blank text, and one that yields no tokens, as a bad row. `path` is for messages.
    pub fn strict(&self, path: &Path, inputs: Inputs) -> Inputs {
        let tokenizer = self.tokenizer.clone();
        let limits = InputLimits::truncate(self.settings.max_length);
        let path = path.to_path_buf();
        match inputs {
            Inputs::Sequence(rows) => Inputs::Sequence(Box::new(rows.map(move |row| {
                let row = row?;
                let pair = row.text_pair.as_deref();
                let fault = match Unreadable::text(&row) {
                    Some(blank) => Some(blank),
                    None => {
                        let found = tokenizer.sequence_inputs(&row.text, pair, &limits)?;
                        (found.text_tokens == 0).then_some(Unreadable::NoTokens)
                    }
                };
                match fault {
                    Some(fault) => Err(fault.at(&path, row.line)),
                    None => Ok(row),
                }
            }))),
            Inputs::Token(rows) => Inputs::Token(Box::new(rows.map(move |row| {
                let row = row?;
                let fault = match Unreadable::words(&row) {
                    Some(blank) => Some(blank),
                    None => {
                        let found = tokenizer.word_inputs(&row.tokens, &limits)?;
                        (found.empty_words == row.tokens.len()).then_some(Unreadable::NoTokens)
                    }
                };
                match fault {
                    Some(fault) => Err(fault.at(&path, row.line)),
                    None => Ok(row),
                }
            }))),
        }
    }

    /// What the model has learnt of an example.
    pub fn problem(&self) -> Problem {
        self.settings.problem()
    }

    /// Sees that there are scores for what the model answers with.
    ///
    /// # Errors
    ///
    /// If it has one label, and says of it whether it holds; if it gives several numbers.
    pub fn check_scored(&self) -> Result<()> {
        let outputs = self.model.num_labels();
        let problem = self.problem();
        let what = match (problem, problem.function_to_apply(outputs)) {
            (Problem::SingleLabel, FunctionToApply::Sigmoid) => {
                "a model with a single label".to_string()
            }
            (Problem::Regression, _) if outputs > 1 => format!("a regression of {outputs} numbers"),
            _ => return Ok(()),
        };
        Err(TrainError::Settings {
            path: self.settings.base_model.clone(),
            reason: format!(
                "{what} is not scored, only one that gives each text one of several labels, any \
                 number of labels, or one number; predict gives its answers"
            ),
        })
    }

    /// A labelled split, encoded for this model. The observer hears how far it is.
    ///
    /// # Errors
    ///
    /// If a file is unlabelled, or a label is not one of the model's.
    pub fn dataset(
        &self,
        source: &SplitSource,
        cache: Option<&Path>,
        observer: &mut dyn Observer,
    ) -> Result<Dataset> {
        let task = self.settings.task;
        let mut source = source.clone();
        source.read.sequence.label_kind = self.problem().label_kind();
        let dataset = Dataset::encode(&source, task, self.encoding(), cache, observer)?;
        dataset.with_labels(&self.settings.labels)
    }

    /// Scores on a labelled split. The observer hears how many inputs are done.
    ///
    /// # Errors
    ///
    /// If an output is NaN or infinite.
    pub fn evaluate(
        &self,
        dataset: &Dataset,
        protocol: Protocol,
        observer: &mut dyn Observer,
    ) -> Result<Evaluation> {
        let labels = &self.settings.labels;
        let total = dataset.lengths().len();
        evaluate(&self.model, dataset, labels, self.pass(protocol), |done| {
            observer.event(&Event::Evaluating { done, total });
            Ok(())
        })
    }
}

/// Answers for examples.
#[derive(Debug, Clone)]
pub struct Predicted {
    /// One for each example.
    pub objects: Vec<Value>,
    /// How many of them have no label, because there was nothing to read.
    pub unreadable: usize,
    /// How many answers were too unsure: texts, words or entities.
    pub left_out: usize,
    /// What was cut of the others.
    pub cut: CutReport,
}

fn default_settings(
    model_dir: &Path,
    config: &LlamaConfig,
    tokenizer: &TextTokenizer,
    adapter: bool,
    overrides: &Overrides,
) -> Result<InferenceSettings> {
    let Some(task) = overrides.task else {
        let reason = "no settings of ls-llama in it: say what it labels with --task".into();
        return Err(TrainError::Settings {
            path: model_dir.into(),
            reason,
        });
    };
    // Two are what transformers assumes where a checkpoint names none.
    let labels = config
        .labels
        .clone()
        .unwrap_or_else(|| vec!["LABEL_0".into(), "LABEL_1".into()]);
    let pooling = (task == TaskKind::Sequence).then(|| default_pooling(config, tokenizer, adapter));
    let (pad_token_id, pad_token) = pad_token(pooling, config, tokenizer);
    Ok(InferenceSettings {
        format_version: FORMAT_VERSION,
        task,
        labels: LabelSet::from_names(labels)?,
        tags: None,
        scheme: None,
        attention: config.attention(),
        pooling,
        problem_type: config.problem_type,
        calibration: Calibration::default(),
        max_length: config.max_position_embeddings,
        long_inputs: default_long_inputs(task),
        stride: None,
        label_position: Default::default(),
        words: Default::default(),
        special_tokens: Default::default(),
        padding: Default::default(),
        padding_side: Default::default(),
        pad_to: None,
        pad_token_id,
        pad_token,
        base_model: model_dir.into(),
        base_weights: None,
        tokenizer_sha256: None,
        config_sha256: None,
        tokenizer_files_sha256: None,
        dtype: ComputeType::F32,
        quantization: None,
        trained: Trained::Head,
        batch_size: 32,
        step: None,
    })
}

/// The pooling of a head that transformers trained. A checkpoint is pooled by the pad token of its
/// `config.json` alone. An adapter has no such file, and the script that trained it set the
/// tokenizer's where the base had none.
fn default_pooling(config: &LlamaConfig, tokenizer: &TextTokenizer, adapter: bool) -> Pooling {
    let of_tokenizer = tokenizer.named_pad().filter(|_| adapter);
    if config.pad_token_id.or(of_tokenizer).is_some() {
        return Pooling::LastNotPad;
    }
    if let Some(end) = tokenizer.end_token() {
        let end = tokenizer.id_to_token(end).unwrap_or_default();
        tracing::warn!(
            "no pad_token_id in config.json, so the last token of each text is pooled, which is \
             {end}; if {end} was the pad token in training, transformers pooled the token before \
             it: say --pooling last_not_pad"
        );
    }
    Pooling::Last
}
