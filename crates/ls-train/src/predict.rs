//! Labels for new text: a trained model ready to answer, and its answers as JSON objects.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use burn::tensor::Device;
use ls_data::{
    FileFormat, InputLimits, LabelSet, ReadSpec, SequenceExample, SplitSource, TaskKind,
    TextTokenizer, TokenExample, bilou_as_iobes, decode_spans, has_bilou_tags, line_reader,
    split_words,
};
use ls_files::FileError;
use ls_lora::{LoraModel, PeftAdapter};
use ls_model::{AttentionMode, Checkpoint, ComputeType, LlamaClassifier, LlamaConfig, Pooling};
use serde_json::{Map, Value, json};

use crate::config::{DataSettings, Protocol, RunConfig, default_long_inputs};
use crate::dataset::{Dataset, Encoding, Example, Examples};
use crate::error::{Result, TrainError};
use crate::evaluate::{Evaluation, Pass, Prediction, evaluate, logits, predictions, tags};
use crate::inference::{FORMAT_VERSION, InferenceSettings};
use crate::run_dir::RunDir;
use crate::sources::{known_form, read_spec};

/// What a command may say about a model that was not trained here, or over its settings.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// What is labelled. Needed where neither a run nor the adapter says it.
    pub task: Option<TaskKind>,
    /// Which layers see to the right.
    pub attention: Option<AttentionMode>,
    /// Pooling, for a sequence.
    pub pooling: Option<Pooling>,
    /// Label names in the order of the head.
    pub labels: Option<Vec<String>>,
    /// Longest input in tokens.
    pub max_length: Option<usize>,
    /// Element type of the frozen weights.
    pub dtype: Option<ComputeType>,
}

/// A model ready to answer.
pub struct Predictor {
    model: LlamaClassifier,
    config: LlamaConfig,
    tokenizer: TextTokenizer,
    device: Device,
    /// How it reads and answers.
    pub settings: InferenceSettings,
}

impl Predictor {
    /// The best checkpoint of a run, and the run's configuration.
    ///
    /// # Errors
    ///
    /// If the folder is not that of a finished run, or its base model cannot be loaded.
    pub fn from_run(dir: &Path, device: &Device) -> Result<(Self, RunConfig)> {
        let run = RunDir::open(dir)?;
        let config = RunConfig::from_file(&run.config(), &[])?;
        let overrides = Overrides {
            task: Some(config.task),
            ..Overrides::default()
        };
        let predictor =
            Self::from_pretrained(&config.model.path, Some(&run.best()), &overrides, device)?;
        Ok((predictor, config))
    }

    /// A Hugging Face folder, with the head in it or in a PEFT folder.
    ///
    /// Where an adapter was trained here, its own settings apply unless overridden; elsewhere the checkpoint's
    /// `config.json` says attention (`is_causal`) and labels (`id2label`), and sequences pool their last token.
    ///
    /// # Errors
    ///
    /// If a folder cannot be used, the two do not fit together, or the labels do not fit the head.
    pub fn from_pretrained(
        model_dir: &Path,
        adapter_dir: Option<&Path>,
        overrides: &Overrides,
        device: &Device,
    ) -> Result<Self> {
        let device = device.clone().without_autodiff();
        let checkpoint = Checkpoint::open(model_dir)?;
        let config = checkpoint.config.clone();
        let adapter = adapter_dir
            .map(|dir| Ok::<_, TrainError>((dir, PeftAdapter::load(dir)?)))
            .transpose()?;
        let saved = match adapter_dir {
            Some(dir) => InferenceSettings::load(dir)?,
            None => None,
        };
        // The tokenizer of a run is the one that it was trained with.
        let tokenizer_dir = adapter_dir
            .filter(|dir| dir.join("tokenizer.json").exists())
            .unwrap_or(model_dir);
        let tokenizer = TextTokenizer::from_dir(tokenizer_dir)?;
        let mut settings = match saved {
            Some(saved) => saved,
            None => default_settings(model_dir, &config, &tokenizer, overrides)?,
        };
        if let Some(task) = overrides.task
            && task != settings.task
        {
            let reason = format!("it labels a {:?}, not a {task:?}", settings.task).to_lowercase();
            let path = adapter_dir.unwrap_or(model_dir).into();
            return Err(TrainError::Settings { path, reason });
        }
        settings.attention = overrides.attention.clone().unwrap_or(settings.attention);
        settings.pooling = overrides.pooling.or(settings.pooling);
        settings.max_length = overrides.max_length.unwrap_or(settings.max_length);
        settings.dtype = overrides.dtype.unwrap_or(settings.dtype);
        if let Some(names) = &overrides.labels {
            settings.labels = LabelSet::from_names(names.clone())?;
        }
        let task = settings.model_task(&config, None);
        let model = match &adapter {
            Some((dir, adapter)) => {
                for warning in &adapter.warnings {
                    tracing::warn!("{}: {warning}", dir.display());
                }
                let backbone = checkpoint.load_model(
                    &settings.attention,
                    settings.precision(),
                    &device,
                    |_, _| (),
                )?;
                let mut model =
                    LlamaClassifier::with_adapter(backbone, &config, task, adapter, dir, &device)?;
                if settings.dtype == ComputeType::F32 && settings.quantization.is_none() {
                    // In f32 the merged weights give the same answers for less work; otherwise they would be rounded.
                    model = LoraModel::new(model).merge_and_unload()?.0;
                }
                model
            }
            None => checkpoint.load_classifier(
                &settings.attention,
                task,
                settings.precision(),
                &device,
            )?,
        };
        if overrides.labels.is_none() && settings.labels.len() != model.num_labels() {
            // Two are what transformers assumes where a checkpoint names none.
            // The labels of a base model are not those of an adapter that peft wrote.
            let ours = |dir: &Path| dir.join(crate::run_dir::INFERENCE_FILE).exists();
            if adapter_dir.map_or(config.labels.is_some(), ours) {
                let (names, head) = (settings.labels.len(), model.num_labels());
                return Err(TrainError::Settings {
                    path: adapter_dir.unwrap_or(model_dir).into(),
                    reason: format!("names {names} labels, but its head has {head}"),
                });
            }
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
            tokenizer,
            device,
            settings,
        })
    }

    fn pass(&self, protocol: Protocol) -> Pass<'_> {
        Pass {
            config: &self.config,
            settings: &self.settings,
            batch_size: self.settings.batch_size,
            protocol,
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

    /// Answers for examples, one JSON object each, in their order; and the examples as they were encoded, with the count
    /// of what was cut. `path` is for messages; `tick` hears how many inputs are done.
    ///
    /// # Errors
    ///
    /// If a text leaves no token.
    pub fn predict(
        &self,
        path: &Path,
        examples: &Examples,
        tick: impl FnMut(usize),
    ) -> Result<(Vec<Value>, Dataset)> {
        let dataset = Dataset::encode_examples(path, examples, self.encoding())?;
        let logits = logits(&self.model, &dataset, self.pass(Protocol::Strict), tick)?;
        let predictions = predictions(
            &dataset,
            &logits,
            self.model.num_labels(),
            self.settings.label_position,
        )?;
        let labels = &self.settings.labels;
        let objects = predictions.iter().enumerate();
        let objects = objects.map(|(index, prediction)| {
            prediction_object(examples.get(index), &[], prediction, labels)
        });
        Ok((objects.collect(), dataset))
    }

    /// The inputs, where one of which the tokenizer makes nothing is a row's fault. `path` is for messages.
    pub fn with_tokens(&self, path: &Path, inputs: Inputs) -> Inputs {
        let no_tokens = |path: &Path, line: usize| ls_data::DataError::NoTokens {
            path: path.into(),
            line,
        };
        let (tokenizer, limits, path) = (
            self.tokenizer.clone(),
            InputLimits::truncate(self.settings.max_length),
            path.to_path_buf(),
        );
        match inputs {
            Inputs::Sequence(rows) => Inputs::Sequence(Box::new(rows.map(move |row| {
                let row = row?;
                let found =
                    tokenizer.sequence_inputs(&row.text, row.text_pair.as_deref(), &limits)?;
                match found.text_tokens {
                    0 => Err(no_tokens(&path, row.line)),
                    _ => Ok(row),
                }
            }))),
            Inputs::Token(rows) => Inputs::Token(Box::new(rows.map(move |row| {
                let row = row?;
                let found = tokenizer.word_inputs(&row.tokens, &limits)?;
                match found.empty_words == row.tokens.len() {
                    true => Err(no_tokens(&path, row.line)),
                    false => Ok(row),
                }
            }))),
        }
    }

    /// A labelled split, encoded for this model.
    ///
    /// # Errors
    ///
    /// If a file is unlabelled, or a label is not one of the model's.
    pub fn dataset(&self, source: &SplitSource, cache: Option<&Path>) -> Result<Dataset> {
        let task = self.settings.task;
        Dataset::encode(source, task, self.encoding(), cache)?.with_labels(&self.settings.labels)
    }

    /// Scores on a labelled split. `tick` hears how many inputs are done.
    ///
    /// # Errors
    ///
    /// If an output is NaN or infinite.
    pub fn evaluate(
        &self,
        dataset: &Dataset,
        protocol: Protocol,
        tick: impl FnMut(usize),
    ) -> Result<Evaluation> {
        let labels = &self.settings.labels;
        evaluate(&self.model, dataset, labels, self.pass(protocol), tick)
    }
}

fn default_settings(
    model_dir: &Path,
    config: &LlamaConfig,
    tokenizer: &TextTokenizer,
    overrides: &Overrides,
) -> Result<InferenceSettings> {
    let Some(task) = overrides.task else {
        let reason = "no settings of ls-llama in it: say what it labels with --task".into();
        return Err(TrainError::Settings {
            path: model_dir.into(),
            reason,
        });
    };
    let labels = config
        .labels
        .clone()
        .unwrap_or_else(|| vec!["LABEL_0".into(), "LABEL_1".into()]);
    let pad = tokenizer.pad_token();
    Ok(InferenceSettings {
        format_version: FORMAT_VERSION,
        task,
        labels: LabelSet::from_names(labels)?,
        attention: config.attention(),
        pooling: (task == TaskKind::Sequence).then_some(Pooling::Last),
        max_length: config.max_position_embeddings,
        long_inputs: default_long_inputs(task),
        stride: None,
        label_position: Default::default(),
        padding: Default::default(),
        padding_side: Default::default(),
        pad_to: None,
        pad_token_id: pad.id,
        pad_token: pad.token.clone(),
        base_model: model_dir.into(),
        dtype: ComputeType::F32,
        quantization: None,
        batch_size: 32,
    })
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How inputs for prediction are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputFormat {
    /// One text a line.
    Lines,
    /// A file format of data sets.
    File(FileFormat),
}

impl InputFormat {
    /// By the file's ending; a `.txt` holds one text a line.
    ///
    /// # Errors
    ///
    /// If the ending is unknown.
    pub fn from_path(path: &Path) -> Result<Self> {
        if path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("txt"))
        {
            return Ok(Self::Lines);
        }
        Ok(Self::File(FileFormat::from_path(path)?))
    }

    /// By the content: what begins with a brace is JSONL, columns for a tagger are CoNLL, the rest is one text a line.
    pub fn sniff(start: &[u8], task: TaskKind) -> Self {
        let start = start
            .strip_prefix(BYTE_ORDER_MARK)
            .unwrap_or(start)
            .trim_ascii_start();
        let line = start
            .split(|&byte| byte == b'\n')
            .next()
            .unwrap_or_default();
        if line.starts_with(b"{") {
            Self::File(FileFormat::Jsonl)
        } else if task == TaskKind::Token && line.contains(&b'\t') {
            Self::File(FileFormat::Conll)
        } else {
            Self::Lines
        }
    }
}

/// A stream of inputs for prediction.
pub enum Inputs {
    /// Texts.
    Sequence(Box<dyn Iterator<Item = ls_data::Result<SequenceExample>>>),
    /// Lists of words.
    Token(Box<dyn Iterator<Item = ls_data::Result<TokenExample>>>),
}

impl Inputs {
    /// Opens a file of inputs in the form of the known data set that the model learned from, if it did and the file is one.
    ///
    /// # Errors
    ///
    /// If the file cannot be used.
    pub fn open_known(
        path: &Path,
        task: TaskKind,
        settings: &DataSettings,
    ) -> Result<Option<Self>> {
        let Some(source) = known_form(settings, path)? else {
            return Ok(None);
        };
        let mut spec = source.split.read;
        spec.sequence.label = None;
        spec.tokens.tagged = false;
        (spec.sequence.keep_extra, spec.tokens.keep_extra) = (true, true);
        Self::read(&spec, path, task).map(Some)
    }

    /// Opens a file of inputs for prediction, as [`Inputs::open`].
    ///
    /// # Errors
    ///
    /// If it cannot be read, or as [`Inputs::open`].
    pub fn open_file(
        path: &Path,
        format: InputFormat,
        task: TaskKind,
        settings: &DataSettings,
    ) -> Result<Self> {
        if let InputFormat::File(format @ FileFormat::Parquet) = format {
            // Read by jumps, not as a stream.
            return Self::read(&read_spec(settings, format, false), path, task);
        }
        let file = std::fs::File::open(path).map_err(FileError::reading(path))?;
        Self::open(file, path, format, task, settings)
    }

    fn read(spec: &ReadSpec, path: &Path, task: TaskKind) -> Result<Self> {
        Ok(match task {
            TaskKind::Sequence => Self::Sequence(Box::new(spec.read_sequence(path)?)),
            TaskKind::Token => Self::Token(Box::new(spec.read_tokens(path)?)),
        })
    }

    /// Opens inputs for prediction; labels in them are not needed. Texts for a tagger are split into words.
    ///
    /// # Errors
    ///
    /// If the input cannot be used; each row's fault comes with the row.
    pub fn open(
        reader: impl Read + Send + 'static,
        name: &Path,
        format: InputFormat,
        task: TaskKind,
        settings: &DataSettings,
    ) -> Result<Self> {
        let texts = |rows: Box<dyn Iterator<Item = ls_data::Result<SequenceExample>>>| match task {
            TaskKind::Sequence => Self::Sequence(rows),
            TaskKind::Token => Self::Token(Box::new(rows.map(|row| row.map(words_of)))),
        };
        let format = match format {
            InputFormat::Lines => return Ok(texts(Box::new(line_reader(reader, name)))),
            InputFormat::File(format) => format,
        };
        let spec = read_spec(settings, format, false);
        let mut reader = BufReader::with_capacity(1 << 16, reader);
        let words = match (format, task) {
            (_, TaskKind::Sequence) => false,
            (FileFormat::Conll | FileFormat::Conll2012, TaskKind::Token) => true,
            // Objects hold words, or a text: the first of them tells.
            (FileFormat::Jsonl, TaskKind::Token) => {
                let start = reader.fill_buf().map_err(FileError::reading(name))?;
                has_key(start, &spec.tokens.tokens_key)
            }
            (_, TaskKind::Token) => false,
        };
        Ok(match words {
            true => Self::Token(Box::new(spec.read_tokens_from(reader, name)?)),
            false => texts(Box::new(spec.read_sequence_from(reader, name)?)),
        })
    }
}

/// Whether the first object in `start`, which may break off, has a key.
fn has_key(start: &[u8], key: &str) -> bool {
    let content = start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(start);
    let first = content
        .split(|&byte| byte == b'\n')
        .find(|line| !line.trim_ascii().is_empty())
        .unwrap_or_default();
    match serde_json::from_slice::<Map<String, Value>>(first) {
        Ok(object) => object.contains_key(key),
        // An object longer than the buffer, or no object: its error comes from the reader.
        Err(_) => {
            let key = format!("{key:?}");
            first.windows(key.len()).any(|part| part == key.as_bytes())
        }
    }
}

/// The words of a text, the text itself kept in `extra`.
pub fn words_of(example: SequenceExample) -> TokenExample {
    let tokens = split_words(&example.text)
        .into_iter()
        .map(|word| word.token)
        .collect();
    let mut extra = example.extra.unwrap_or_default();
    extra.insert("text".into(), Value::String(example.text));
    TokenExample {
        tokens,
        tags: None,
        line: example.line,
        extra: Some(extra),
    }
}

/// The answer for an example as a JSON object.
///
/// Sequence: `text`, `label`, `score`, `scores`; token: `tokens`, `tags`, `entities` with character offsets into the text
/// (words given without one count as joined by single spaces). Other fields of an input object are kept: a label it came
/// with as `gold`, and a field that has the name of an answer's under `input_` and that name. `gold` are its classes, if it has
/// any.
pub fn prediction_object(
    example: Example<'_>,
    gold: &[usize],
    prediction: &Prediction,
    labels: &LabelSet,
) -> Value {
    match (example, prediction) {
        (Example::Sequence(example), Prediction::Sequence(decision)) => {
            let mut object = example.extra.clone().unwrap_or_default();
            let gold = gold.first().map(|&class| json!(labels.name(class)));
            set_aside_gold(&mut object, "label", gold);
            let mut answer = Map::new();
            answer.insert("text".into(), json!(example.text));
            if let Some(pair) = &example.text_pair {
                answer.insert("text_pair".into(), json!(pair));
            }
            answer.insert("label".into(), json!(labels.name(decision.label)));
            answer.insert("score".into(), number(decision.score));
            let scores: Map<String, Value> = labels
                .names()
                .iter()
                .zip(&decision.probabilities)
                .map(|(name, probability)| (name.clone(), number(*probability)))
                .collect();
            answer.insert("scores".into(), Value::Object(scores));
            merge(answer, object)
        }
        (Example::Token(example), prediction) => {
            let mut object = example.extra.clone().unwrap_or_default();
            let names = gold.iter().map(|&tag| labels.name(tag));
            let gold = (!gold.is_empty()).then(|| json!(names.collect::<Vec<_>>()));
            set_aside_gold(&mut object, "tags", gold);
            let tags = tags(prediction, labels);
            let mut answer = Map::new();
            let (text, places) = places(example);
            if object.contains_key("text") {
                answer.insert("text".into(), json!(text));
            }
            answer.insert("tokens".into(), json!(example.tokens));
            answer.insert("tags".into(), json!(tags));
            let bilou = has_bilou_tags(labels.names().iter().map(String::as_str));
            let lenient: Vec<_> = tags
                .iter()
                .map(|tag| {
                    if bilou {
                        bilou_as_iobes(tag)
                    } else {
                        (*tag).into()
                    }
                })
                .collect();
            answer.insert(
                "entities".into(),
                Value::Array(entities(prediction, &lenient, &text, &places)),
            );
            merge(answer, object)
        }
        // A model answers by its task, which is that of the examples.
        (Example::Sequence(_), Prediction::Token(_)) => Value::Null,
    }
}

/// A probability with the digits that an f32 has; widened to f64 it would print noise after them.
fn number(value: f32) -> Value {
    value.to_string().parse().map_or(Value::Null, Value::Number)
}

/// The fields of the answer first, then what the input had beside them.
fn merge(mut answer: Map<String, Value>, input: Map<String, Value>) -> Value {
    for (key, value) in input {
        match answer.get(&key) {
            None => answer.insert(key, value),
            Some(same) if *same == value => None,
            Some(_) => answer.insert(format!("input_{key}"), value),
        };
    }
    Value::Object(answer)
}

/// The gold answer goes under `gold`: the example's own label, else (where none were wanted) what the input has under the
/// name of an answer. What the input has there besides keeps its value under `input_` and its name.
fn set_aside_gold(object: &mut Map<String, Value>, key: &str, gold: Option<Value>) {
    match gold {
        Some(gold) => {
            if object.get(key) == Some(&gold) {
                object.remove(key);
            }
            if let Some(other) = object.insert("gold".into(), gold.clone())
                && other != gold
            {
                object.insert("input_gold".into(), other);
            }
        }
        None if object.contains_key("gold") => {}
        None => {
            if let Some(given) = object.remove(key) {
                object.insert("gold".into(), given);
            }
        }
    }
}

/// The text that a tagger's answer counts its characters in, and the place of each word there.
///
/// The text that came with the words is taken if they stand in it one after the other; else they are joined by spaces.
fn places(example: &TokenExample) -> (String, Vec<(usize, usize)>) {
    let given = example
        .extra
        .as_ref()
        .and_then(|extra| extra.get("text")?.as_str());
    if let Some(text) = given
        && let Some(places) = locate(text, &example.tokens)
    {
        return (text.to_string(), places);
    }
    let text = example.tokens.join(" ");
    let mut start = 0;
    let places = example.tokens.iter().map(|token| {
        let place = (start, start + token.chars().count());
        start = place.1 + 1;
        place
    });
    let places = places.collect();
    (text, places)
}

/// Where the words stand in a text, in characters, if each is found behind the one before.
fn locate(text: &str, tokens: &[String]) -> Option<Vec<(usize, usize)>> {
    let (mut rest, mut at) = (text, 0);
    tokens
        .iter()
        .map(|token| {
            let found = rest.find(token.as_str())?;
            let start = at + rest[..found].chars().count();
            at = start + token.chars().count();
            rest = &rest[found + token.len()..];
            Some((start, at))
        })
        .collect()
}

fn entities(
    prediction: &Prediction,
    tags: &[Cow<'_, str>],
    text: &str,
    places: &[(usize, usize)],
) -> Vec<Value> {
    let Prediction::Token(decisions) = prediction else {
        return Vec::new();
    };
    let characters: Vec<char> = text.chars().collect();
    decode_spans(tags)
        .into_iter()
        .map(|span| {
            let (start, end) = (places[span.start].0, places[span.end - 1].1);
            let scores = decisions[span.start..span.end]
                .iter()
                .flatten()
                .map(|decision| decision.score);
            let score = scores.sum::<f32>() / (span.end - span.start) as f32;
            json!({
                "type": span.entity_type,
                "start": start,
                "end": end,
                "text": characters[start..end].iter().collect::<String>(),
                "score": number(score),
                "first_token": span.start,
                "last_token": span.end - 1,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_their_text_in_order() {
        let tokens = ["Zoë", "flew", ",", "Zoë"].map(String::from);
        let text = "  Zoë flew, Zoë";
        let places = locate(text, &tokens).unwrap();
        assert_eq!(places, [(2, 5), (6, 10), (10, 11), (12, 15)]);
        assert_eq!(locate("flew Zoë", &tokens), None);
    }

    #[test]
    fn no_field_of_the_input_is_lost() {
        let map = |value: Value| value.as_object().cloned().unwrap();
        let mut input = map(json!({"text": "a", "id": 7, "score": 4.5, "label": "x", "gold": "g"}));
        set_aside_gold(&mut input, "label", None);
        let answer = map(json!({"text": "a", "label": "y", "score": 0.5}));
        let expected = json!({
            "text": "a", "label": "y", "score": 0.5, "id": 7, "input_score": 4.5, "input_label": "x", "gold": "g",
        });
        assert_eq!(merge(answer, input), expected);
    }

    #[test]
    fn what_stdin_holds_is_read_off_its_first_line() {
        let jsonl = InputFormat::File(FileFormat::Jsonl);
        assert_eq!(
            InputFormat::sniff(b"\xEF\xBB\xBF {\"text\": 1}", TaskKind::Sequence),
            jsonl
        );
        let conll = InputFormat::File(FileFormat::Conll);
        assert_eq!(
            InputFormat::sniff(b"\nAda\tB-PER\n", TaskKind::Token),
            conll
        );
        assert_eq!(
            InputFormat::sniff(b"a\tb\n", TaskKind::Sequence),
            InputFormat::Lines
        );
        assert_eq!(
            InputFormat::sniff(b"a text\n", TaskKind::Token),
            InputFormat::Lines
        );
        assert_eq!(InputFormat::sniff(b"", TaskKind::Token), InputFormat::Lines);
    }
}
