//! [`Checkpoint`]: a Hugging Face folder of weights -> a model.

mod files;
mod loader;
mod save;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Device;
use ls_files::{Dtype, FileError, Fingerprint, Hashed, HostTensor, sha256};
use ls_lora::{LoraConfig, LoraError, PeftAdapter, TaskType};

use crate::assemble::assemble;
use crate::config::LlamaConfig;
use crate::error::{ModelError, Result};
use crate::heads::{LlamaClassifier, Task};
use crate::llama::LlamaModel;
use crate::mask::AttentionMode;
use crate::precision::{ComputeType, Precision};
use crate::saved_head::SavedHead;

use files::WeightFiles;
use loader::Loader;
pub(crate) use save::SHARD;

/// An opened checkpoint folder: configuration and file headers, no weights yet.
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder.
    pub dir: PathBuf,
    /// Its configuration.
    pub config: LlamaConfig,
    /// SHA-256 of the `config.json` that was read.
    pub config_sha256: String,
    files: WeightFiles,
    /// `model.` if the files hold a classifier or a language model, empty if they hold a bare
    /// decoder.
    prefix: &'static str,
    /// What the files call a head: `score` as transformers does, or `classifier` as the reference's
    /// token model does.
    head: &'static str,
}

impl Checkpoint {
    /// Reads the configuration and the headers of all weight files. Checks that the files hold
    /// every tensor that the configuration calls for, in its shape.
    ///
    /// # Errors
    ///
    /// If the folder is not a checkpoint, a shard is absent, a file is truncated or corrupt, or a
    /// tensor is missing, of another shape or not of floats.
    pub fn open(dir: &Path) -> Result<Self> {
        let (path, text) = LlamaConfig::text_of_dir(dir)?;
        let config = LlamaConfig::from_json(&text, &path)?;
        let files = WeightFiles::open(dir)?;
        let prefix = if files.shape("embed_tokens.weight").is_some() {
            ""
        } else {
            "model."
        };
        let has = |name: &str| files.shape(name).is_some();
        let head = if has("classifier.weight") && !has("score.weight") {
            "classifier"
        } else {
            "score"
        };
        let layers = files.layers(prefix);
        // Where there is none, the names are others, and the missing tensor says so.
        if layers > 0 && config.num_hidden_layers > layers {
            return Err(ModelError::Config {
                path: dir.join("config.json"),
                field: "num_hidden_layers".into(),
                reason: format!(
                    "expected at most {layers}, the layers of {}, found {}",
                    files.listing.display(),
                    config.num_hidden_layers
                ),
            });
        }
        for (name, shape) in config.tensors() {
            files.check(&format!("{prefix}{name}"), &shape)?;
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            config,
            config_sha256: sha256(text.as_bytes()),
            files,
            prefix,
            head,
        })
    }

    /// The names of the head's weight and bias in the files.
    fn head_names(&self) -> [String; 2] {
        ["weight", "bias"].map(|part| format!("{}.{part}", self.head))
    }

    /// By what the weights are known again: it depends on every tensor that the files hold, on
    /// neither their folder nor how many files there are. How much is hashed is decided by their
    /// size unless it is said ([`Fingerprint::of`]).
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub fn fingerprint(&self, hashed: Option<Hashed>) -> Result<Fingerprint> {
        Ok(Fingerprint::of(self.files.tensors(), hashed)?)
    }

    /// The files that hold the weights; they are kept open.
    pub fn weight_files(&self) -> impl Iterator<Item = &Path> {
        self.files.paths()
    }

    /// Names of the tensors that neither the decoder nor a head needs. An `lm_head` is expected,
    /// and not among them.
    pub fn surplus(&self) -> Vec<String> {
        let decoder = self.config.tensors();
        let decoder: HashSet<&str> = decoder.iter().map(|(name, _)| name.as_str()).collect();
        let head = self.head_names();
        let known = |name: &str| {
            let stripped = name.strip_prefix(self.prefix);
            stripped.is_some_and(|name| decoder.contains(name))
                || name == "lm_head.weight"
                || head.iter().any(|of_head| of_head == name)
                // Older exports carry the computed frequencies.
                || name.ends_with("rotary_emb.inv_freq")
        };
        let names = self.files.names().filter(|name| !known(name));
        names.map(str::to_string).collect()
    }

    /// Checks that an attention mode fits this model, and a new adapter if there is to be one,
    /// before any weight is read.
    ///
    /// # Errors
    ///
    /// If the mode names layers that are not there, a target matches no module, or a rank exceeds a
    /// layer's width.
    pub fn check_settings(
        &self,
        attention: &AttentionMode,
        lora: Option<&LoraConfig>,
    ) -> Result<()> {
        let config = &self.config;
        LlamaModel::visibility(config, attention)?;
        let Some(lora) = lora else { return Ok(()) };
        let selected = config.adapted_by(lora)?;
        let all = config.linear_layers().into_iter().chain([config.table()]);
        for (name, [d_in, d_out]) in all.filter(|(name, _)| selected.contains(name)) {
            lora.checked_rank_of(&name, d_in, d_out)?;
        }
        Ok(())
    }

    /// Checks that the adapter of a folder fits this model's layers, before any weight of the model
    /// is read. `dir` is for messages.
    ///
    /// # Errors
    ///
    /// If the file lacks a layer that its configuration adapts, holds one that is not there, or a
    /// shape is another.
    pub fn check_adapter(&self, adapter: &PeftAdapter, dir: &Path) -> Result<()> {
        let (mut table, layers) = (self.config.table(), self.config.linear_layers());
        table.1[0] = adapter.vocab_size().unwrap_or(table.1[0]);
        Ok(adapter.expect_layers(dir, &layers, &[table], &["score"])?)
    }

    /// How many tensors the files hold of each element type, by its name.
    pub fn dtypes(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (name, file) in self.files.tensors() {
            if let Some((dtype, _)) = file.get(name) {
                *counts.entry(dtype.to_string()).or_default() += 1;
            }
        }
        counts
    }

    /// Labels of the head that the files hold.
    ///
    /// # Errors
    ///
    /// If they hold none.
    pub fn num_labels(&self) -> Result<usize> {
        let [weight, _] = self.head_names();
        let (_, shape) = self.files.get(&weight)?;
        Ok(shape.first().copied().unwrap_or_default())
    }

    /// The head that the files hold, if they hold one for this task.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or a value is NaN or infinite.
    pub fn saved_head(&self, task: TaskType) -> Result<Option<SavedHead>> {
        let [weight, bias] = &self.head_names();
        let of_texts = self.config.sequence_class().is_some();
        let fits = match task {
            TaskType::TokenCls => !of_texts,
            _ => self.files.shape(bias).is_none(),
        };
        if self.files.shape(weight).is_none() || !fits {
            return Ok(None);
        }
        let read = |name: &str| -> Result<HostTensor> {
            let file = self.files.file_of(name)?;
            let tensor = file.read(name)?;
            let found = tensor
                .not_finite(Dtype::F32)
                .map_err(LoraError::NotAFloat)?;
            match found {
                None => Ok(tensor),
                Some(found) => Err(FileError::TensorNotFinite {
                    path: file.path().to_path_buf(),
                    name: name.into(),
                    shape: tensor.shape,
                    found,
                    into: Dtype::F32,
                }
                .into()),
            }
        };
        Ok(Some(SavedHead {
            path: self.files.file_of(weight)?.path().to_path_buf(),
            weight: read(weight)?,
            bias: match self.files.shape(bias) {
                Some(_) => Some(read(bias)?),
                None => None,
            },
        }))
    }

    /// Number of parameters of the decoder.
    pub fn num_parameters(&self) -> usize {
        let tensors = self.config.tensors();
        let sizes = tensors
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>());
        sizes.sum()
    }

    /// Loads the decoder. Its weights are constants of the graph, also on an autodiff device.
    ///
    /// `progress` receives the number of loaded tensors and the number of all, after each tensor.
    ///
    /// # Errors
    ///
    /// If the mode does not fit the model's layers, a file cannot be read, or a weight cannot be
    /// packed.
    pub fn load_model(
        &self,
        attention: &AttentionMode,
        precision: impl Into<Precision>,
        device: &Device,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<LlamaModel> {
        let mut loader = Loader {
            files: &self.files,
            prefix: self.prefix,
            precision: precision.into(),
            device: &device.clone().without_autodiff(),
            loaded: 0,
            total: self.config.tensors().len(),
            progress: &mut progress,
            buffer: Vec::new(),
        };
        assemble(&self.config, attention, &mut loader)
    }

    /// Loads a whole classifier: the decoder and the head that the files hold, both frozen.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::load_model`], and if there is no head or the head is the other task's.
    pub fn load_classifier(
        &self,
        attention: &AttentionMode,
        task: Task,
        precision: impl Into<Precision>,
        device: &Device,
    ) -> Result<LlamaClassifier> {
        self.load_classifier_watched(attention, task, precision, device, |_, _| ())
    }

    /// As [`Checkpoint::load_classifier`]; `progress` receives the number of loaded tensors of the
    /// decoder and the number of all, after each tensor.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::load_classifier`].
    pub fn load_classifier_watched(
        &self,
        attention: &AttentionMode,
        task: Task,
        precision: impl Into<Precision>,
        device: &Device,
        progress: impl FnMut(usize, usize),
    ) -> Result<LlamaClassifier> {
        let listing = || self.files.listing.clone();
        let [weight, bias] = &self.head_names();
        let num_labels = self.num_labels()?.max(1);
        let shape = [num_labels, self.config.hidden_size];
        self.files.check(weight, &shape)?;
        let has_bias = self.files.shape(bias).is_some();
        if has_bias {
            if matches!(task, Task::Sequence(_)) {
                return Err(ModelError::NotACheckpoint {
                    path: listing(),
                    reason: "the head has a bias, as a token classifier's has: this is not a sequence classifier".into(),
                });
            }
            self.files.check(bias, &[num_labels])?;
        }
        if let (Task::Token { .. }, Some(class)) = (task, self.config.sequence_class()) {
            return Err(ModelError::NotACheckpoint {
                path: listing(),
                reason: format!("config.json names {class}: this is not a token classifier"),
            });
        }
        let model = self.load_model(attention, precision, device, progress)?;
        let mut loader = Loader {
            files: &self.files,
            prefix: "",
            precision: ComputeType::F32.into(),
            device: &device.clone().without_autodiff(),
            loaded: 0,
            total: 1 + usize::from(has_bias),
            progress: &mut |_, _| (),
            buffer: Vec::new(),
        };
        let weight = loader.matrix(weight, shape, true)?;
        let bias = if has_bias {
            Some(loader.vector(bias, num_labels)?)
        } else {
            None
        };
        Ok(LlamaClassifier {
            model,
            score: Linear { weight, bias }.no_grad(),
            task,
        })
    }
}

#[cfg(test)]
mod tests {
    use ls_lora::TargetModules;
    use serde_json::json;

    use super::*;
    use crate::config::Projections;
    use crate::heads::Pooling;
    use crate::input::ModelInput;
    use crate::tiny::{HIDDEN, LABELS, Tiny, logits_of, mode};

    const SEQUENCE: Task = Task::Sequence(Pooling::Last);
    const TOKEN: Task = Task::Token { dropout: 0.1 };

    fn load_error(tiny: &Tiny, task: Task) -> ModelError {
        let dir = tiny.write();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let device = Device::flex();
        checkpoint
            .load_classifier(&AttentionMode::Causal, task, ComputeType::F32, &device)
            .unwrap_err()
    }

    #[test]
    fn surplus_tensors_are_listed_but_no_output_embedding() {
        let mut tiny = Tiny::with_head();
        tiny.put("lm_head.weight", &[13, HIDDEN]);
        tiny.put("model.layers.0.self_attn.rotary_emb.inv_freq", &[2]);
        let dir = tiny.write();
        assert!(Checkpoint::open(dir.path()).unwrap().surplus().is_empty());
        tiny.put("model.layers.3.mlp.up_proj.weight", &[11, HIDDEN]);
        tiny.put("model.layers.0.self_attn.q_proj.bias", &[16]);
        let dir = tiny.write();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let expected = [
            "model.layers.0.self_attn.q_proj.bias",
            "model.layers.3.mlp.up_proj.weight",
        ];
        assert_eq!(checkpoint.surplus(), expected);
    }

    #[test]
    fn a_bare_decoders_names_load_the_same() {
        let tiny = Tiny::with_head();
        let bare = tiny.renamed(|name| name.trim_start_matches("model.").to_string());
        let dir = bare.write();
        assert!(Checkpoint::open(dir.path()).unwrap().surplus().is_empty());
        assert_eq!(
            logits_of(dir.path(), ComputeType::F32),
            logits_of(tiny.write().path(), ComputeType::F32)
        );
    }

    #[test]
    fn a_head_loads_with_its_own_number_of_labels() {
        let mut tiny = Tiny::with_head();
        let device = Device::flex();
        let model = tiny.classifier("causal", SEQUENCE, &device);
        assert_eq!(model.num_labels(), LABELS);
        assert!(model.score.bias.is_none());
        let weight = ls_lora::host_values(model.score.weight.val().transpose());
        assert_eq!(weight, tiny.tensors["score.weight"].to_f32().unwrap());

        tiny.put("score.bias", &[LABELS]);
        let model = tiny.classifier("causal", TOKEN, &device);
        let bias = ls_lora::host_values(model.score.bias.as_ref().unwrap().val());
        assert_eq!(bias, tiny.tensors["score.bias"].to_f32().unwrap());
        let input = ModelInput::new(&[vec![1u32, 2, 3], vec![4]], &tiny.config(), &device).unwrap();
        assert_eq!(model.forward(&input).dims(), [4, LABELS]);
    }

    #[test]
    fn a_head_by_the_name_that_the_reference_gives_it_loads_the_same() {
        let mut tiny = Tiny::with_head();
        tiny.put("score.bias", &[LABELS]);
        let other = tiny.renamed(|name| name.replace("score", "classifier"));
        let (one, other) = (tiny.write(), other.write());
        let device = Device::flex();
        let [one, other] = [&one, &other].map(|dir| {
            let checkpoint = Checkpoint::open(dir.path()).unwrap();
            assert!(checkpoint.surplus().is_empty());
            let saved = checkpoint.saved_head(TaskType::TokenCls).unwrap().unwrap();
            let precision = ComputeType::F32;
            let causal = AttentionMode::Causal;
            let model = checkpoint.load_classifier(&causal, TOKEN, precision, &device);
            let score = model.unwrap().score;
            let values = ls_lora::host_values(score.weight.val());
            let bias = ls_lora::host_values(score.bias.unwrap().val());
            (saved.weight, saved.bias, values, bias)
        });
        assert_eq!(one, other);
    }

    #[test]
    fn a_head_that_does_not_fit_is_refused() {
        let error = load_error(&Tiny::new(), SEQUENCE).to_string();
        assert!(error.contains("score.weight is missing"), "{error}");
        let named = Tiny::with_head().renamed(|name| name.replace("score", "scores"));
        let error = load_error(&named, SEQUENCE).to_string();
        assert!(error.contains("scores.weight"), "{error}");

        let mut tiny = Tiny::with_head();
        tiny.put("score.bias", &[LABELS]);
        let error = load_error(&tiny, SEQUENCE).to_string();
        assert!(error.contains("not a sequence classifier"), "{error}");
        let tiny = Tiny::with_head();
        for (key, value) in [
            ("architectures", json!(["LlamaForSequenceClassification"])),
            ("problem_type", json!("single_label_classification")),
        ] {
            let mut tiny = tiny.clone();
            tiny.config[key] = value;
            let error = load_error(&tiny, TOKEN).to_string();
            assert!(error.contains("not a token classifier"), "{error}");
        }
        // transformers keeps it in a tagger that was tuned from a classifier of texts.
        let mut tagger = tiny.clone();
        tagger.config["problem_type"] = json!("single_label_classification");
        tagger.config["architectures"] = json!(["LlamaForTokenClassification"]);
        let (dir, device) = (tagger.write(), Device::flex());
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let causal = AttentionMode::Causal;
        let model = checkpoint.load_classifier(&causal, TOKEN, ComputeType::F32, &device);
        assert!(model.is_ok());

        for (name, shape) in [
            ("score.weight", vec![LABELS, HIDDEN + 1]),
            ("score.weight", vec![LABELS * HIDDEN]),
            ("score.weight", vec![0, HIDDEN]),
            ("score.bias", vec![LABELS + 1]),
        ] {
            let mut tiny = Tiny::with_head();
            tiny.put(name, &shape);
            match load_error(&tiny, TOKEN) {
                ModelError::File(FileError::TensorShape {
                    name: named, found, ..
                }) => {
                    assert_eq!((named.as_str(), found), (name, shape));
                }
                other => panic!("{name} {shape:?}: {other}"),
            }
        }
    }

    #[test]
    fn an_attention_mode_past_the_last_layer_is_refused_before_loading() {
        let dir = Tiny::new().write();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let never = |_, _| panic!("a tensor was read");
        let error = checkpoint
            .load_model(&mode("from:3"), ComputeType::F32, &Device::flex(), never)
            .unwrap_err();
        assert!(matches!(error, ModelError::AttentionMode { .. }), "{error}");
    }

    #[test]
    fn more_layers_than_the_weights_hold_are_refused_by_both_numbers() {
        let mut tiny = Tiny::new();
        tiny.config["num_hidden_layers"] = json!(4096);
        let dir = tiny.write();
        let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("config.json: num_hidden_layers: expected at most 3"),
            "{error}"
        );
        assert!(error.ends_with("model.safetensors, found 4096"), "{error}");
    }

    /// Of Phi-4-mini's shape; the number is that of its weights without a second table.
    #[test]
    fn adapters_stand_on_fused_layers_by_their_names() {
        let config = json!({
            "model_type": "phi3", "vocab_size": 200_064, "hidden_size": 3072,
            "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 24,
            "num_key_value_heads": 8, "partial_rotary_factor": 0.75,
        });
        let checkpoint = Checkpoint {
            dir: PathBuf::new(),
            config: LlamaConfig::from_json(&config.to_string(), Path::new("config.json")).unwrap(),
            config_sha256: String::new(),
            files: WeightFiles::default(),
            prefix: "model.",
            head: "score",
        };
        assert_eq!(checkpoint.num_parameters(), 3_836_021_760);
        let check = |names: &[&str]| {
            let targets = TargetModules::list(names.iter().copied());
            let lora = LoraConfig::new(8, 16.0).with_target_modules(targets);
            checkpoint.check_settings(&AttentionMode::Causal, Some(&lora))
        };
        check(&["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]).unwrap();
        let error = check(&["q_proj"]).unwrap_err().to_string();
        assert!(error.contains("q_proj matches no module"), "{error}");
        assert!(error.contains("qkv_proj"), "{error}");
    }

    /// transformers and peft count the same, but for a second copy of the head that peft keeps.
    #[test]
    fn llama_2_7b_has_its_known_number_of_parameters() {
        let config = json!({
            "model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
            "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
        });
        let path = Path::new("config.json");
        let checkpoint = Checkpoint {
            dir: PathBuf::new(),
            config: LlamaConfig::from_json(&config.to_string(), path).unwrap(),
            config_sha256: String::new(),
            files: WeightFiles::default(),
            prefix: "model.",
            head: "score",
        };
        assert_eq!(checkpoint.num_parameters(), 6_738_415_616 - 32000 * 4096);
        let lora = LoraConfig::new(12, 32.0);
        checkpoint
            .check_settings(&AttentionMode::Causal, Some(&lora))
            .unwrap();
        let Projections::Split([q, _, v, ..]) = checkpoint.config.projections() else {
            panic!("LLaMA's projections are layers of their own");
        };
        let per_layer: usize = [q, v].iter().flat_map(|adapted| adapted.shape).sum();
        let trainable = 32 * 12 * per_layer + 2 * 4096;
        let all = checkpoint.num_parameters() + trainable;
        assert_eq!(
            ls_lora::ParameterCount { trainable, all }.to_string(),
            "trainable params: 6,299,648 || all params: 6,613,643,264 || trainable%: 0.0953"
        );
    }
}
