//! What a model, an adapter, a run, a GGUF file or a tokenizer is, and why it cannot be used if it
//! cannot. Of weights only headers are read, so that a checkpoint of any size is answered at once;
//! an adapter is read whole.

use std::path::{Path, PathBuf};

use ls_data::{TextTokenizer, catalog, tokenizer_from_gguf};
use ls_files::{GgufFile, GgufValue, TensorFile, exists, is_folder, open_regular, optional};
use ls_lora::{CONFIG_FILE, PICKLED_WEIGHTS_FILE, PeftAdapter, WEIGHTS_FILE};
use ls_model::{Checkpoint, GgufModel, LlamaConfig};
use serde_json::{Map, Value, json};

use crate::checkpoint;
use crate::config::RunConfig;
use crate::error::{Result, TrainError};
use crate::inference::InferenceSettings;
use crate::resume::unfinished;
use crate::run_dir::RunDir;

/// The configuration in the folder of a run.
const RUN_FILE: &str = "config.toml";
/// What a GGUF file begins with.
const GGUF: &[u8] = b"GGUF";
/// What a file that `torch.save` wrote begins with.
const PICKLED: &[u8] = b"PK\x03\x04";
/// What tells the folder of a run from one that merely has a file of the name of [`RUN_FILE`].
const OF_RUN: [&str; 4] = ["metrics.jsonl", "checkpoints", "best", "report.json"];

/// What a path may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A folder in Hugging Face's layout with the weights of a model.
    Model,
    /// PEFT's folder of an adapter.
    Adapter,
    /// The folder of a run.
    Run,
    /// A GGUF file of llama.cpp.
    Gguf,
    /// A tokenizer alone.
    Tokenizer,
    /// A file of tensors that is no model by its name.
    Tensors,
    /// Anything else: a file of examples.
    Data,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Adapter => "adapter",
            Self::Run => "run",
            Self::Gguf => "gguf",
            Self::Tokenizer => "tokenizer",
            Self::Tensors => "tensors",
            Self::Data => "data",
        }
    }

    /// What stands at a path, by the names of files alone; and its folder, where a file of it was
    /// named.
    ///
    /// # Errors
    ///
    /// If there is nothing, a pipe or a device, or a folder that holds none of these; if the system
    /// does not say.
    pub fn of(path: &Path) -> Result<(Self, PathBuf)> {
        if is_folder(path)? {
            let parent = ls_files::parent_of(path);
            if path.ends_with("checkpoints") && is_run(parent)? {
                return Ok((Self::Run, parent.to_path_buf()));
            }
            if is_run(path)? {
                return Ok((Self::Run, path.to_path_buf()));
            }
            // A run has a model beside its configuration, an adapter a tokenizer.
            for (file, kind) in [
                (CONFIG_FILE, Self::Adapter),
                (WEIGHTS_FILE, Self::Adapter),
                ("config.json", Self::Model),
                ("model.safetensors", Self::Model),
                ("model.safetensors.index.json", Self::Model),
                ("pytorch_model.bin", Self::Model),
                ("pytorch_model.bin.index.json", Self::Model),
                ("tokenizer.json", Self::Tokenizer),
            ] {
                if exists(path.join(file))? {
                    return Ok((kind, path.to_path_buf()));
                }
            }
            return Err(catalog::folder_fault(path).into());
        }
        let (file, _) = open_regular(path)?;
        let folder = ls_files::parent_of(path).to_path_buf();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default();
        let mut first = [0; GGUF.len()];
        let begins = ls_files::read_exact_at(&file, &mut first, 0);
        let above = ls_files::parent_of(&folder);
        if folder.ends_with("checkpoints") && is_run(above)? {
            return Ok((Self::Run, above.to_path_buf()));
        }
        Ok(match name {
            name if (name == RUN_FILE || OF_RUN.contains(&name)) && is_run(&folder)? => {
                (Self::Run, folder)
            }
            CONFIG_FILE | WEIGHTS_FILE | PICKLED_WEIGHTS_FILE => (Self::Adapter, folder),
            "config.json" => (Self::Model, folder),
            "tokenizer.json" | "tokenizer_config.json" | "tokenizer.model" => {
                (Self::Tokenizer, folder)
            }
            name if is_weights(name) => (Self::Model, folder),
            name if name.ends_with(".safetensors") || begins.is_ok() && first == PICKLED => {
                (Self::Tensors, path.to_path_buf())
            }
            name if name.ends_with(".gguf") || begins.is_ok() && first == GGUF => {
                (Self::Gguf, path.to_path_buf())
            }
            _ => (Self::Data, path.to_path_buf()),
        })
    }
}

/// Whether a folder is one of a run.
fn is_run(folder: &Path) -> Result<bool> {
    if !exists(folder.join(RUN_FILE))? {
        return Ok(false);
    }
    for name in OF_RUN {
        if exists(folder.join(name))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a file of this name holds the weights of the model of its folder, one part of them, or
/// says which part holds which.
fn is_weights(name: &str) -> bool {
    let name = name.strip_suffix(".index.json").unwrap_or(name);
    [("model", ".safetensors"), ("pytorch_model", ".bin")]
        .into_iter()
        .filter_map(|(stem, ending)| name.strip_prefix(stem)?.strip_suffix(ending))
        .any(|part| part.is_empty() || part.starts_with('-') && part.contains("-of-"))
}

/// What was found.
#[derive(Debug, Default)]
pub struct Inspected {
    /// Each fact with its name, in the order in which people read them.
    pub facts: Map<String, Value>,
    /// What `train`, `evaluate` or `predict` would refuse it with.
    pub refused: Option<TrainError>,
}

/// Looks at a path of a kind, for which `named` was named: it or a file of it. What cannot be used
/// is no error.
pub fn inspect(kind: Kind, path: &Path, named: &Path) -> Inspected {
    let mut found = Inspected::default();
    match kind {
        Kind::Model => found.model(path),
        Kind::Adapter => found.adapter(path),
        Kind::Run => found.run(path, named),
        Kind::Gguf => found.gguf(path),
        Kind::Tokenizer => found.tokenizer(path),
        Kind::Tensors => found.tensors(path),
        Kind::Data => {}
    }
    found
}

impl Inspected {
    fn say(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.into(), value.into());
    }

    /// Keeps the first error: it is what ends a command.
    fn take<T, E: Into<TrainError>>(&mut self, result: std::result::Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.refused.get_or_insert(error.into());
                None
            }
        }
    }

    fn model(&mut self, dir: &Path) {
        let opened = self.take(Checkpoint::open(dir));
        match &opened {
            Some(checkpoint) => {
                self.shape(&checkpoint.config);
                self.say("parameters", checkpoint.num_parameters());
                self.weights(checkpoint);
            }
            None => {
                if let Ok(config) = LlamaConfig::from_dir(dir) {
                    self.shape(&config);
                }
            }
        }
        self.tokenizer(dir);
        self.settings(dir);
        if let Some(checkpoint) = &opened {
            match checkpoint.num_labels() {
                Ok(labels) => {
                    self.say("head", labels);
                    self.compare_labels(dir, labels);
                }
                // A base to train on is none.
                Err(error) => {
                    self.say("head", Value::Null);
                    self.say("predict", format!("without --adapter: {error}"));
                }
            }
        }
    }

    /// Compares a head with the labels that were found for it, as `predict` does.
    fn compare_labels(&mut self, dir: &Path, head: usize) {
        let labels = self.facts.get("labels").and_then(Value::as_array);
        let Some(found) = labels.map(Vec::len).filter(|found| *found != head) else {
            return;
        };
        self.take::<(), _>(Err(TrainError::of_head(dir, found, head)));
    }

    fn tensors(&mut self, path: &Path) {
        let opened = if path.extension() == Some("safetensors".as_ref()) {
            TensorFile::open(path)
        } else {
            TensorFile::open_pickled(path)
        };
        if let Some(file) = self.take(opened) {
            let mut types = Map::new();
            for (dtype, _) in file.names().filter_map(|name| file.get(name)) {
                let count = types.entry(dtype.to_string()).or_insert(json!(0));
                *count = json!(count.as_u64().unwrap_or_default() + 1);
            }
            self.say("tensors", types);
            let shapes = file
                .names()
                .filter_map(|name| Some((name, file.get(name)?.1)));
            let shapes: Map<String, Value> = shapes
                .map(|(name, shape)| (name.to_string(), json!(shape)))
                .collect();
            self.say("shapes", shapes);
        }
        if let Ok(data) = std::fs::metadata(path) {
            self.say("bytes", data.len());
        }
    }

    fn shape(&mut self, config: &LlamaConfig) {
        for key in ["model_type", "architectures"] {
            if let Some(value) = config.raw.get(key) {
                self.say(key, value.clone());
            }
        }
        for (key, value) in [
            ("vocab_size", config.vocab_size),
            ("hidden_size", config.hidden_size),
            ("intermediate_size", config.intermediate_size),
            ("num_hidden_layers", config.num_hidden_layers),
            ("num_attention_heads", config.num_attention_heads),
            ("num_key_value_heads", config.num_key_value_heads),
            ("head_dim", config.head_dim),
            ("max_position_embeddings", config.max_position_embeddings),
        ] {
            self.say(key, value);
        }
        self.say("tie_word_embeddings", config.tie_word_embeddings);
        self.say("attention", config.attention().to_string());
        if let Some(labels) = &config.labels {
            self.say("labels", labels.clone());
        }
        if let Some(problem) = config.problem_type {
            self.say("problem_type", problem.name());
        }
    }

    fn weights(&mut self, checkpoint: &Checkpoint) {
        let files: Vec<&Path> = checkpoint.weight_files().collect();
        let sizes = files.iter().map(std::fs::metadata);
        let bytes: u64 = sizes.flatten().map(|data| data.len()).sum();
        let names = files.iter().filter_map(|file| file.file_name()?.to_str());
        let names: Vec<&str> = names.collect();
        self.say("files", names);
        self.say("bytes", bytes);
        let types = checkpoint.dtypes().into_iter();
        let types: Map<String, Value> = types.map(|(name, count)| (name, count.into())).collect();
        self.say("tensors", types);
        let surplus = checkpoint.surplus();
        if !surplus.is_empty() {
            self.say("unused_tensors", surplus);
        }
    }

    fn adapter(&mut self, dir: &Path) {
        let adapter = self.take(PeftAdapter::load(dir));
        let mut head = None;
        if let Some(adapter) = adapter {
            let config = adapter.config.to_json();
            for key in [
                "peft_type",
                "task_type",
                "base_model_name_or_path",
                "r",
                "lora_alpha",
                "lora_dropout",
                "use_rslora",
                "use_dora",
                "bias",
                "target_modules",
                "modules_to_save",
            ] {
                self.say(key, config[key].clone());
            }
            self.say("adapted_modules", adapter.lora.len());
            let saved = adapter.saved_modules.iter();
            let mut heads = saved.clone().filter(|(name, _)| {
                ["score.weight", "classifier.weight"]
                    .iter()
                    .any(|end| name.ends_with(end))
            });
            head = heads
                .next()
                .and_then(|(_, tensor)| tensor.shape.first().copied());
            let saved: Map<String, Value> = saved
                .map(|(name, tensor)| (name.clone(), json!(tensor.shape)))
                .collect();
            self.say("saved_tensors", saved);
            let sizes = adapter.tensors().map(|(_, tensor)| tensor.len());
            self.say("parameters", sizes.sum::<usize>());
            if !adapter.warnings.is_empty() {
                self.say("warnings", adapter.warnings);
            }
        }
        self.settings(dir);
        if let Some(head) = head {
            self.compare_labels(dir, head);
        }
        match exists(dir.join("tokenizer.json")) {
            Ok(true) => self.tokenizer(dir),
            Ok(false) => self.say("tokenizer", "that of the base model"),
            Err(error) => drop(self.take::<(), _>(Err(error))),
        }
    }

    /// What stands beside weights that were trained here.
    fn settings(&mut self, dir: &Path) {
        let loaded = self.take(InferenceSettings::load(dir));
        let Some(Some(settings)) = loaded else { return };
        self.say("task", settings.task.name());
        self.say("labels", settings.labels.names().to_vec());
        self.say("attention", settings.attention.to_string());
        let as_json = serde_json::to_value(&settings).unwrap_or_default();
        for key in [
            "tags",
            "scheme",
            "problem_type",
            "pooling",
            "max_length",
            "long_inputs",
            "words",
            "label_position",
            "dtype",
            "quantization",
            "base_model",
            "step",
        ] {
            if let Some(value) = as_json.get(key) {
                self.say(key, value.clone());
            }
        }
        // With the digits that an f32 has.
        let digits = |value: &f32| value.to_string().parse().unwrap_or(Value::Null);
        if let Some(temperature) = &settings.calibration.temperature {
            self.say("temperature", digits(temperature));
        }
        if let Some(thresholds) = &settings.calibration.thresholds {
            let names = settings.labels.names().iter().cloned();
            let each: Map<String, Value> = names.zip(thresholds.iter().map(digits)).collect();
            self.say("thresholds", each);
        }
    }

    fn tokenizer(&mut self, dir: &Path) {
        let Some(tokenizer) = self.take(TextTokenizer::from_dir(dir)) else {
            return;
        };
        let pad = tokenizer.pad_token();
        self.say(
            "tokenizer",
            json!({
                "tokens": tokenizer.vocab_size(),
                "pad_token": pad.token,
                "pad_token_id": pad.id,
                "special_tokens_added": tokenizer.special_tokens(false),
                "model_max_length": tokenizer.model_max_length(),
                "sha256": tokenizer.sha256(),
            }),
        );
    }

    fn run(&mut self, root: &Path, named: &Path) {
        let folder = RunDir::at(root);
        let config = self.take(RunConfig::of_finished(&folder.config()));
        if let Some(config) = &config {
            self.say("task", config.task.name());
            self.say("model", config.model.path.display().to_string());
            if let Some(adapter) = &config.model.adapter {
                self.say("began_from", adapter.display().to_string());
            }
            let data = &config.data;
            if let Some(name) = &data.dataset {
                self.say("dataset", name.clone());
            }
            for (split, files) in [
                ("train", &data.train),
                ("validation", &data.validation),
                ("test", &data.test),
            ] {
                if let Some(files) = files {
                    let files = files.paths().iter();
                    let files: Vec<String> = files.map(|file| file.display().to_string()).collect();
                    self.say(split, files);
                }
            }
            self.say("adapters", config.lora.is_some());
            self.say("epochs", config.train.epochs);
        }
        self.progress(root, &folder, named);
        if let Some(adapter) = config
            .as_ref()
            .and_then(|config| config.model.adapter.as_ref())
        {
            self.hash_of(adapter, &folder);
        }
        // What predict would do first.
        if self.take(RunDir::open(root)).is_none() {
            return;
        }
        let Some(best) = self.take(folder.standing_best()) else {
            return;
        };
        self.settings(&best);
        if let Some(config) = config {
            self.take(match config.lora {
                Some(_) => Checkpoint::open(&config.model.path)
                    .map_err(TrainError::from)
                    .and_then(|_| Ok(PeftAdapter::load(&best).map(|_| ())?)),
                None => Checkpoint::open(&best)
                    .map(|_| ())
                    .map_err(TrainError::from),
            });
        }
    }

    /// The SHA-256 of the weights of the adapter that a run began from, as it noted it.
    fn hash_of(&mut self, adapter: &Path, folder: &RunDir) {
        let noted = optional(ls_files::read_json::<Value>(folder.environment()));
        let Some(Some(noted)) = self.take(noted) else {
            return;
        };
        let files = noted["sha256"].as_array().into_iter().flatten();
        let mut pairs = files.filter_map(|pair| Some((pair[0].as_str()?, pair[1].as_str()?)));
        let weights = [WEIGHTS_FILE, PICKLED_WEIGHTS_FILE].map(|name| adapter.join(name));
        let is_weights = |path: &str| weights.iter().any(|file| file == Path::new(path));
        if let Some((_, sha256)) = pairs.find(|(path, _)| is_weights(path)) {
            self.say("began_from_sha256", sha256);
        }
    }

    /// How far a run has come, and its best score; of a checkpoint that was named, how far that is.
    fn progress(&mut self, root: &Path, folder: &RunDir, named: &Path) {
        let begun = self.take(folder.is_begun()).unwrap_or_default();
        let unfinished = self.take(unfinished(root)).flatten();
        let state = match (begun, &unfinished) {
            (false, _) => "not begun",
            (true, Some(_)) => "unfinished",
            (true, None) => "finished",
        };
        self.say("state", state);
        let newest = unfinished.as_ref().and_then(|progress| progress.at);
        let of = |(step, of): (usize, usize)| json!({ "step": step, "of": of });
        if ls_files::parent_of(named).ends_with("checkpoints") {
            if let Some(state) = self.take(checkpoint::read_state(named)) {
                self.say("checkpoint", of((state.step, state.steps)));
            }
            if let Some(newest) = newest {
                self.say("newest_checkpoint", of(newest));
            }
        } else if let Some(newest) = newest {
            self.say("checkpoint", of(newest));
        }
        let best = match optional(ls_files::read_text(folder.metrics())) {
            Ok(text) => best_of(&text.unwrap_or_default()),
            Err(error) => {
                self.take::<(), _>(Err(error));
                None
            }
        };
        if let Some(best) = best {
            self.say("best", best);
        }
        if begun && unfinished.is_none() {
            let report = self.take(ls_files::read_own_json::<Value>(folder.report()));
            if let Some(report) = report {
                let metric = report["metric"].as_str().unwrap_or_default();
                let score = match metric {
                    "loss" => &report["loss"],
                    metric => &report["scores"][metric],
                };
                self.say(
                    "reported",
                    json!({
                        "split": report["reported_split"],
                        "metric": metric,
                        "value": score,
                        "protocol": report["protocol"],
                    }),
                );
            }
        }
    }

    fn gguf(&mut self, path: &Path) {
        let mut tensors = Map::new();
        if let Ok(file) = GgufFile::open(path) {
            let said = |key: &str| match file.metadata().get(key) {
                Some(GgufValue::String(text)) => Some(text.clone()),
                _ => None,
            };
            for (name, key) in [
                ("architecture", "general.architecture"),
                ("name", "general.name"),
                ("vocabulary", "tokenizer.ggml.model"),
            ] {
                if let Some(text) = said(key) {
                    self.say(name, text);
                }
            }
            for tensor in file.tensors().values() {
                let count = tensors.entry(tensor.kind.to_string()).or_insert(json!(0));
                *count = json!(count.as_u64().unwrap_or_default() + 1);
            }
        }
        if let Some(model) = self.take(GgufModel::open(path)) {
            let config = model.config_json(model.dtype());
            if let Some(config) = self.take(LlamaConfig::from_json(&config, path)) {
                self.shape(&config);
            }
            self.say("parameters", model.num_parameters());
            self.say("converted_to", model.dtype().to_string());
            let metadata = model.file().metadata();
            self.take(tokenizer_from_gguf(metadata, path));
        }
        self.say("tensors", tensors);
        if let Ok(data) = std::fs::metadata(path) {
            self.say("bytes", data.len());
        }
    }
}

/// The best evaluation in the records of a run: the last that was the best so far.
fn best_of(metrics: &str) -> Option<Value> {
    let records = metrics.lines().rev();
    let records = records.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut best = records.filter(|record| record["best"] == true);
    let best = best.next()?;
    let keys = ["step", "epoch", "split", "metric", "value"];
    let kept = keys.map(|key| (key.to_string(), best[key].clone()));
    Some(Value::Object(kept.into_iter().collect()))
}
