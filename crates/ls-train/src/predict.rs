//! Labels for new text: a trained model ready to answer.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use ls_data::{CutReport, InputLimits, LabelSet, NoLabel, SplitSource, TagGrammar, TextTokenizer};
use ls_files::FileStamp;
use ls_model::{LlamaClassifier, LlamaConfig, ModelError, SharedClassifier};
use serde_json::Value;

use crate::config::{Protocol, RunConfig};
use crate::dataset::{Cores, Dataset, Encoding, Examples, Unreadable};
use crate::decoding::{Answering, Coverage, Decoding};
use crate::error::{Result, TrainError};
use crate::evaluate::{Evaluation, Fits, Pass, evaluate, logits, mean, predictions};
use crate::events::{Event, Observer};
use crate::inference::InferenceSettings;
use crate::inputs::Inputs;
use crate::model_files::{AdapterFiles, BaseFiles, Opened, Overrides};
use crate::out_of_memory::{OutOfMemory, caught};
use crate::prediction::{
    Prediction, prediction_object, unreadable_object, with_tag_scores, without_decision,
};
use crate::problem::{FunctionToApply, Problem};
use crate::read_files::ReadFiles;
use crate::run_model::RunModel;

/// A model ready to answer.
pub struct Predictor {
    pub(crate) model: SharedClassifier,
    /// With the vocabulary of the adapter.
    pub(crate) config: LlamaConfig,
    /// The files of the base model.
    base: BaseFiles,
    /// Those of the adapter, as they were loaded.
    adapter: ReadFiles,
    pub(crate) tokenizer: TextTokenizer,
    pub(crate) device: Device,
    /// How it reads and answers.
    pub settings: InferenceSettings,
    decoding: Decoding,
    /// That of `decoding.constrained`.
    grammar: Option<TagGrammar>,
    /// Whether that stood beside the weights, as ls-llama writes it. Otherwise what a checkpoint
    /// cannot say (how words were encoded) is assumed.
    pub recorded: bool,
    /// What is not as it was in the training, which may make its answers wrong; it was logged too.
    pub warnings: Vec<String>,
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
        let RunModel {
            mut config,
            model,
            adapter,
        } = RunModel::open(dir)?;
        let overrides = RunModel::overrides(&config);
        let mut predictor =
            Self::from_pretrained(&model, adapter.as_deref(), &overrides, device, observer)?;
        predictor.take_scheme(&config);
        if config.data.dataset.is_some() && config.data.known().is_none() {
            // Integers in a labelled file count into them, as the description would say.
            let names = predictor.settings.labels.names();
            config.data.labels.get_or_insert_with(|| names.to_vec());
        }
        Ok((predictor, config))
    }

    /// The tag scheme of a run. Earlier versions wrote it into the configuration alone.
    pub(crate) fn take_scheme(&mut self, config: &RunConfig) {
        let said = config.data.scheme_of_labels();
        self.settings.scheme = self.settings.scheme.or(said);
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
        let base = BaseFiles::open(model_dir)?;
        let adapter = adapter_dir.map(AdapterFiles::read).transpose()?;
        let opened = Opened::read(base, adapter.as_ref(), overrides)?;
        let device = device.clone().without_autodiff();
        let (config, settings) = (&opened.config, &opened.settings);
        let (task, mode) = (settings.head(config), &settings.attention);
        let (checkpoint, precision) = (&opened.base.checkpoint, settings.precision());
        let loading = |done, total| observer.event(&Event::Loading { done, total });
        let load = || {
            let mut model = match &adapter {
                Some(AdapterFiles { dir, adapter, .. }) => {
                    let decoder = checkpoint.load_model(mode, precision, &device, loading)?;
                    LlamaClassifier::with_adapter(decoder, config, task, adapter, dir, &device)?
                }
                None => {
                    checkpoint.load_classifier_watched(mode, task, precision, &device, loading)?
                }
            };
            ls_lora::tile(&mut model);
            Ok::<_, ModelError>(model)
        };
        let model = caught(load).map_err(full_at_loading)??.into();
        Self::new(opened, model, adapter, overrides, device)
    }

    /// Of a model's files, now that its weights are there; `adapter` is what they were read with.
    ///
    /// # Errors
    ///
    /// If the labels do not fit the head.
    pub(crate) fn new(
        mut opened: Opened,
        model: SharedClassifier,
        adapter: Option<AdapterFiles>,
        overrides: &Overrides,
        device: Device,
    ) -> Result<Self> {
        let settings = &mut opened.settings;
        let dir = match &adapter {
            Some(files) => &files.dir,
            None => &opened.base.checkpoint.dir,
        };
        if overrides.labels.is_none() && settings.labels.len() != model.num_labels() {
            // The labels of a base model are not those of an adapter that peft wrote.
            let in_base = adapter.is_none() && opened.config.labels.is_some();
            if opened.recorded || in_base {
                let (names, head) = (settings.labels.len(), model.num_labels());
                return Err(TrainError::of_head(dir, names, head));
            }
            tracing::warn!(
                "{}: no file names the labels of this head, which has {}: name them with --labels",
                dir.display(),
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
            config: opened.config,
            base: opened.base,
            adapter: adapter.map(|adapter| adapter.files).unwrap_or_default(),
            tokenizer: opened.tokenizer,
            device,
            settings: opened.settings,
            decoding: Decoding::default(),
            grammar: None,
            recorded: opened.recorded,
            warnings: opened.warnings,
        })
    }

    /// How answers are chosen.
    pub fn decoding(&self) -> Decoding {
        self.decoding
    }

    /// From now on answers are chosen so. A threshold stands until another one is asked for.
    ///
    /// # Errors
    ///
    /// If something is asked for that is not for models of this problem; if a score is none from 0
    /// to 1, or the labels are not of the tag scheme.
    pub fn set_answering(&mut self, asked: Answering) -> Result<()> {
        let problem = self.problem();
        let fault = |flag: &str, fault: String| {
            Err(TrainError::Config {
                origin: flag.into(),
                faults: vec![fault],
            })
        };
        let fitting = asked.for_problem(problem);
        if asked.threshold.is_some() != fitting.threshold.is_some() {
            let text = "this model says of no label whether it holds: leave it out";
            return fault("--threshold", text.into());
        }
        if asked.abstain_below.is_some() != fitting.abstain_below.is_some() {
            let text = "it is for models that give a text or a word one of several labels: leave \
                        it out (--threshold says from when on labels hold)";
            return fault("--abstain-below", text.into());
        }
        if asked.constrained.is_some() != fitting.constrained.is_some() {
            let text = "only tags of spans have a scheme, and this model gives none: leave it out";
            return fault("--constrained", text.into());
        }
        for (flag, score) in [
            ("--threshold", asked.threshold),
            ("--abstain-below", asked.abstain_below),
        ] {
            if let Some(score) = score.filter(|score| !(0.0..=1.0).contains(score)) {
                return fault(
                    flag,
                    format!("expected a number from 0 to 1, found {score}"),
                );
            }
        }
        let labels = &self.settings.labels;
        let scheme = asked.constrained;
        let scheme = scheme.map(|named| named.unwrap_or_else(|| self.settings.tag_scheme()));
        let grammar = scheme.map(|scheme| TagGrammar::new(labels.names(), scheme));
        let grammar = match grammar.transpose() {
            Ok(grammar) => grammar,
            Err(misfit) if asked.constrained == Some(None) && self.guesses_scheme() => {
                let text = format!(
                    "{misfit}; nothing records the scheme of its tags, and this one is a guess: \
                     name another with --constrained=SCHEME"
                );
                return fault("--constrained", text);
            }
            Err(misfit) => return fault("--constrained", misfit.to_string()),
        };
        if let Some(threshold) = asked.threshold {
            let calibration = std::mem::take(&mut self.settings.calibration);
            self.settings.calibration = calibration.with_threshold(threshold, labels.len());
        }
        self.grammar = grammar;
        self.decoding = Decoding {
            abstain_below: asked.abstain_below,
            constrained: scheme,
        };
        Ok(())
    }

    /// Whether nothing but the names of the labels says of which scheme a tagger's spans are.
    pub fn guesses_scheme(&self) -> bool {
        self.problem().is_of_spans() && self.settings.scheme.is_none()
    }

    /// The tag of a word that no answer was given for.
    pub fn no_tag(&self) -> &'static str {
        let (settings, why) = (&self.settings, self.why_no_label());
        without_decision(&settings.labels, settings.tag_kind(), why)
    }

    /// Why a word may have no label: where unsure ones are left out, what could not be read is
    /// counted with them.
    fn why_no_label(&self) -> NoLabel {
        match self.decoding.abstain_below {
            Some(_) => NoLabel::Unsure,
            None => NoLabel::Unread,
        }
    }

    pub(crate) fn pass(&self, protocol: Protocol) -> Pass<'_> {
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
        let encoded = self.encode(path, examples)?;
        let logits = match &encoded.dataset {
            Some(dataset) => logits(&self.model, dataset, self.pass(Protocol::Strict), |done| {
                tick(done);
                Ok(())
            })?,
            None => Vec::new(),
        };
        self.answers(examples, &encoded, &logits)
    }

    /// Examples as the model reads them. `path` is for messages.
    ///
    /// # Errors
    ///
    /// If a token is past the vocabulary; if a pair is to be read in windows.
    pub fn encode(&self, path: &Path, examples: &Examples) -> Result<Encoded> {
        self.encoded(path, examples, Cores::All)
    }

    /// The same on the thread that asks alone: others may compute meanwhile, and are not kept from
    /// their cores.
    ///
    /// # Errors
    ///
    /// As [`Predictor::encode`].
    pub fn encode_here(&self, path: &Path, examples: &Examples) -> Result<Encoded> {
        self.encoded(path, examples, Cores::This)
    }

    fn encoded(&self, path: &Path, examples: &Examples, on: Cores) -> Result<Encoded> {
        let encoding = self.encoding();
        let (dataset, unreadable) = Dataset::encode_examples(path, examples, encoding, on)?;
        Ok(Encoded {
            dataset,
            unreadable,
        })
    }

    /// The answers for examples, from the logits of each of their inputs.
    ///
    /// # Errors
    ///
    /// If the examples are no longer what was encoded.
    pub fn answers(
        &self,
        examples: &Examples,
        encoded: &Encoded,
        logits: &[Vec<f32>],
    ) -> Result<Predicted> {
        self.answered(examples, encoded, logits, |object, _| object)
    }

    /// The same, and how sure each tag of a tagger is: `tag_scores`, `null` for a word without one.
    ///
    /// # Errors
    ///
    /// As [`Predictor::answers`].
    pub fn answers_with_tag_scores(
        &self,
        examples: &Examples,
        encoded: &Encoded,
        logits: &[Vec<f32>],
    ) -> Result<Predicted> {
        self.answered(examples, encoded, logits, |object, prediction| {
            with_tag_scores(object, prediction, None)
        })
    }

    /// The answers, each finished by `finish`.
    fn answered(
        &self,
        examples: &Examples,
        encoded: &Encoded,
        logits: &[Vec<f32>],
        finish: impl Fn(Value, &Prediction) -> Value,
    ) -> Result<Predicted> {
        let (predictions, coverage) = match &encoded.dataset {
            Some(dataset) => {
                let (pass, calibration) = (self.pass(Protocol::Strict), &self.settings.calibration);
                let (read, classes) = (dataset.examples()?, self.model.num_labels());
                predictions(dataset, &read, logits, classes, pass, calibration)?
            }
            None => (Vec::new(), None),
        };
        let (labels, tags) = (&self.settings.labels, self.settings.tag_kind());
        let why = self.why_no_label();
        let mut predictions = predictions.iter();
        let objects = (0..examples.len()).map(|index| {
            let example = examples.get(index);
            let prediction = match encoded.unreadable.get(&index) {
                Some(why) => return unreadable_object(example, *why, labels, tags),
                None => predictions.next(),
            };
            // There is one for each example that is read.
            prediction.map_or(Value::Null, |prediction| {
                let object = prediction_object(example, None, prediction, labels, tags, why);
                finish(object, prediction)
            })
        });
        Ok(Predicted {
            objects: objects.collect(),
            unreadable: encoded.unreadable.len(),
            left_out: coverage.map_or(0, Coverage::left_out),
            cut: encoded.cut(),
        })
    }

    /// What the head gives for each text before anything makes scores of it, in the mean of the
    /// windows in which it is read; `None` for a text that is not read. Empty of a tagger, which
    /// gives such numbers for words.
    ///
    /// # Errors
    ///
    /// If the examples are no longer what was encoded.
    pub fn raw_scores(
        &self,
        examples: &Examples,
        encoded: &Encoded,
        logits: &[Vec<f32>],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        if matches!(examples, Examples::Token(_)) {
            return Ok(Vec::new());
        }
        let read = match &encoded.dataset {
            Some(dataset) => dataset.examples()?,
            None => Vec::new(),
        };
        let mut read = read.iter();
        let of_text = |index| {
            if encoded.unreadable.contains_key(&index) {
                return None;
            }
            read.next().map(|text| mean(&logits[text.inputs.clone()]))
        };
        Ok((0..examples.len()).map(of_text).collect())
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
        let base = self.base.checkpoint.fingerprint(None)?;
        for (path, stamp) in &*self.base.stamps {
            if FileStamp::of(path)? != *stamp {
                return Err(TrainError::FileChanged { path: path.clone() });
            }
        }
        identity.insert("base model".into(), base.sha256);
        let config = self.base.checkpoint.config_sha256.clone();
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

    /// Whether both stand on one decoder, so that
    /// [`logits_of_shares`](crate::logits_of_shares) takes them together.
    pub fn is_on_decoder_of(&self, other: &Self) -> bool {
        self.model.is_on_decoder_of(&other.model)
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

/// The device has no memory for the weights.
pub(crate) fn full_at_loading(full: OutOfMemory) -> TrainError {
    let advice = "take a smaller type (--dtype bf16), or a device with more memory".into();
    full.error("the weights of the model".into(), 0, advice, None)
}

/// Examples as a model reads them: inputs of token ids, one for each example or several where it is
/// read in windows.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// None where there is nothing to read.
    pub(crate) dataset: Option<Dataset>,
    /// Why there is nothing to read in an example, by its place.
    unreadable: BTreeMap<usize, Unreadable>,
}

impl Encoded {
    /// Tokens of each input.
    #[must_use]
    pub fn lengths(&self) -> &[usize] {
        self.dataset.as_ref().map_or(&[], Dataset::lengths)
    }

    /// What was cut of the examples.
    #[must_use]
    pub fn cut(&self) -> CutReport {
        self.dataset.as_ref().map(|of| of.cut).unwrap_or_default()
    }

    /// The examples in which there is nothing to read, by their place, and why.
    pub fn unreadable(&self) -> impl Iterator<Item = (usize, String)> {
        let all = self.unreadable.iter();
        all.map(|(&index, why)| (index, why.to_string()))
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
