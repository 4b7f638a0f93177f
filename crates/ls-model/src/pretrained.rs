//! A Hugging Face folder -> a model, one tensor at a time.
//!
//! Files are read with positioned reads rather than mapped: mapped pages count as resident memory, and the whole
//! checkpoint would be resident beside the model. A tensor's bytes are converted and transposed into the compute type
//! and dropped before the next one is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{bf16, f16};
use ls_lora::{Dtype, LoraConfig, LoraLinear, TensorFile};

use crate::config::LlamaConfig;
use crate::error::{ModelError, Result};
use crate::heads::{LlamaClassifier, PROJECTIONS, Task};
use crate::llama::{Attention, DecoderLayer, LlamaModel, Mlp, RmsNorm};
use crate::mask::AttentionMode;

/// Element type of the frozen weights and of the activations. Head, adapters and loss are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComputeType {
    /// 32-bit floats.
    F32,
    /// Brain floats: half the memory.
    Bf16,
}

impl ComputeType {
    /// Bytes of one value.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// An opened checkpoint folder: configuration and file headers, no weights yet.
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder.
    pub dir: PathBuf,
    /// Its resolved configuration.
    pub config: LlamaConfig,
    files: Vec<TensorFile>,
    /// Tensor name -> file.
    place: BTreeMap<String, usize>,
    /// `model.` where the file holds a classifier or language model, empty where it holds the bare decoder.
    prefix: &'static str,
    /// For messages: the weight file or index.
    listing: PathBuf,
}

impl Checkpoint {
    /// Reads the configuration and the headers of all weight files, and checks that every tensor the configuration
    /// calls for is there with its shape.
    ///
    /// # Errors
    ///
    /// If the folder is not a checkpoint, a shard is absent, a file is truncated or corrupt, or a tensor is missing or
    /// wrongly shaped.
    pub fn open(dir: &Path) -> Result<Self> {
        let config = LlamaConfig::from_dir(dir)?;
        let (files, place, listing) = open_files(dir)?;
        let prefix = if place.contains_key("embed_tokens.weight") {
            ""
        } else {
            "model."
        };
        let checkpoint = Self {
            dir: dir.to_path_buf(),
            config,
            files,
            place,
            prefix,
            listing,
        };
        for (name, shape) in checkpoint.backbone_tensors() {
            checkpoint.check(&name, &shape)?;
        }
        Ok(checkpoint)
    }

    /// Names of tensors in the files that neither the decoder nor a head needs. An `lm_head` is expected and not listed.
    pub fn surplus(&self) -> Vec<String> {
        let needed: BTreeSet<String> = self
            .backbone_tensors()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let known = |name: &str| {
            needed.contains(name)
                || matches!(name, "lm_head.weight" | "score.weight" | "score.bias")
                // Older exports carry the computed frequencies.
                || name.ends_with("rotary_emb.inv_freq")
        };
        self.place
            .keys()
            .filter(|name| !known(name))
            .cloned()
            .collect()
    }

    /// Checks that an attention mode and a fresh adapter fit this model, before any weight is read.
    ///
    /// # Errors
    ///
    /// If the mode names layers that are not there, a target matches no module, or a rank is larger than a layer.
    pub fn check_settings(&self, attention: &AttentionMode, lora: &LoraConfig) -> Result<()> {
        let config = &self.config;
        LlamaModel::visibility(config, attention)?;
        let modules: Vec<(String, [usize; 2])> = (0..config.num_hidden_layers)
            .flat_map(|layer| {
                let module = move |(at, name)| {
                    let name = format!("model.layers.{layer}.{name}");
                    (name, projection(config, at).0)
                };
                PROJECTIONS.iter().enumerate().map(module)
            })
            .collect();
        let names: Vec<&str> = modules.iter().map(|(name, _)| name.as_str()).collect();
        let selected = ls_lora::select_modules(lora, &names, &["score"])?;
        for (name, [d_in, d_out]) in modules.iter().filter(|(name, _)| selected.contains(name)) {
            lora.checked_rank_of(name, *d_in, *d_out)?;
        }
        Ok(())
    }

    /// Number of parameters of the decoder.
    pub fn num_parameters(&self) -> usize {
        self.backbone_tensors()
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }

    /// Shape of the head in the files, `[num_labels, hidden_size]`, if they hold one.
    pub fn head_shape(&self) -> Option<[usize; 2]> {
        let (_, shape) = self.files[*self.place.get("score.weight")?].get("score.weight")?;
        <[usize; 2]>::try_from(shape).ok()
    }

    /// Loads the decoder. Its weights are constants of the graph, also on an autodiff device.
    ///
    /// `progress` hears how many of how many tensors are loaded.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or a tensor's element type is not a float.
    pub fn load_model(
        &self,
        attention: &AttentionMode,
        compute: ComputeType,
        device: &Device,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<LlamaModel> {
        let config = &self.config;
        let visibility = LlamaModel::visibility(config, attention)?;
        let device = device.clone().without_autodiff();
        let mut loader = Loader {
            checkpoint: self,
            compute,
            device: &device,
            loaded: 0,
            buffer: Vec::new(),
            progress: &mut progress,
        };
        let embed_tokens = loader.matrix(
            "embed_tokens.weight",
            [config.vocab_size, config.hidden_size],
            false,
        )?;
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for layer in 0..config.num_hidden_layers {
            let mut linear = |at: usize| {
                let (shape, bias) = projection(config, at);
                loader.linear(&format!("layers.{layer}.{}", PROJECTIONS[at]), shape, bias)
            };
            let self_attn = Attention {
                q_proj: linear(0)?,
                k_proj: linear(1)?,
                v_proj: linear(2)?,
                o_proj: linear(3)?,
                num_attention_heads: config.num_attention_heads,
                num_key_value_heads: config.num_key_value_heads,
                head_dim: config.head_dim,
            };
            let mlp = Mlp {
                gate_proj: linear(4)?,
                up_proj: linear(5)?,
                down_proj: linear(6)?,
            };
            layers.push(DecoderLayer {
                self_attn,
                mlp,
                input_layernorm: loader.norm(&format!("layers.{layer}.input_layernorm.weight"))?,
                post_attention_layernorm: loader
                    .norm(&format!("layers.{layer}.post_attention_layernorm.weight"))?,
            });
        }
        let norm = loader.norm("norm.weight")?;
        let model = LlamaModel {
            embed_tokens,
            layers,
            norm,
            rope: config.rope.clone(),
            visibility,
        };
        Ok(model.no_grad())
    }

    /// Loads a whole classifier: the decoder and the head that the files hold.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::load_model`], and if there is no head or it is of the other task.
    pub fn load_classifier(
        &self,
        attention: &AttentionMode,
        task: Task,
        compute: ComputeType,
        device: &Device,
    ) -> Result<LlamaClassifier> {
        let missing = || ModelError::TensorMissing {
            path: self.listing.clone(),
            name: "score.weight".into(),
            nearest: None,
        };
        let [num_labels, _] = self.head_shape().ok_or_else(missing)?;
        let hidden_size = self.config.hidden_size;
        self.check("score.weight", &[num_labels, hidden_size])?;
        let has_bias = self.place.contains_key("score.bias");
        if has_bias && matches!(task, Task::Sequence(_)) {
            return Err(ModelError::NotACheckpoint {
                path: self.listing.clone(),
                reason: "the head has a bias, as a token classifier's has: this is not a sequence classifier".into(),
            });
        }
        let model = self.load_model(attention, compute, device, |_, _| ())?;
        let plain = device.clone().without_autodiff();
        let mut ignore = |_, _| ();
        let mut loader = Loader {
            checkpoint: self,
            compute: ComputeType::F32,
            device: &plain,
            loaded: 0,
            buffer: Vec::new(),
            progress: &mut ignore,
        };
        let weight = loader.named_matrix("score.weight", [num_labels, hidden_size], true)?;
        let bias = if has_bias {
            self.check("score.bias", &[num_labels])?;
            Some(loader.named_vector("score.bias", num_labels)?)
        } else {
            None
        };
        Ok(LlamaClassifier {
            model,
            score: Linear { weight, bias }.no_grad(),
            task,
        })
    }

    /// Every tensor of the decoder with its shape as a file has it (`[out, in]`).
    fn backbone_tensors(&self) -> Vec<(String, Vec<usize>)> {
        let config = &self.config;
        let prefix = self.prefix;
        let mut tensors = vec![(
            format!("{prefix}embed_tokens.weight"),
            vec![config.vocab_size, config.hidden_size],
        )];
        for layer in 0..config.num_hidden_layers {
            for (at, name) in PROJECTIONS.iter().enumerate() {
                let ([d_in, d_out], bias) = projection(config, at);
                tensors.push((
                    format!("{prefix}layers.{layer}.{name}.weight"),
                    vec![d_out, d_in],
                ));
                if bias {
                    tensors.push((format!("{prefix}layers.{layer}.{name}.bias"), vec![d_out]));
                }
            }
            for name in ["input_layernorm", "post_attention_layernorm"] {
                tensors.push((
                    format!("{prefix}layers.{layer}.{name}.weight"),
                    vec![config.hidden_size],
                ));
            }
        }
        tensors.push((format!("{prefix}norm.weight"), vec![config.hidden_size]));
        tensors
    }

    fn check(&self, name: &str, expected: &[usize]) -> Result<()> {
        let Some(&file) = self.place.get(name) else {
            return Err(ModelError::TensorMissing {
                path: self.listing.clone(),
                name: name.into(),
                nearest: self.nearest(name),
            });
        };
        let file = &self.files[file];
        let Some((dtype, shape)) = file.get(name) else {
            return Err(ModelError::TensorMissing {
                path: file.path().into(),
                name: name.into(),
                nearest: None,
            });
        };
        if shape != expected {
            return Err(ModelError::TensorShape {
                path: file.path().into(),
                name: name.into(),
                expected: expected.to_vec(),
                found: shape.to_vec(),
            });
        }
        if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let found = format!("{dtype:?}");
            return Err(ModelError::TensorDtype {
                path: file.path().into(),
                name: name.into(),
                found,
            });
        }
        Ok(())
    }

    /// The name that shares the longest end with `name`: a wrong prefix is the usual mistake.
    fn nearest(&self, name: &str) -> Option<String> {
        let common = |other: &str| {
            name.chars()
                .rev()
                .zip(other.chars().rev())
                .take_while(|(a, b)| a == b)
                .count()
        };
        self.place
            .keys()
            .max_by_key(|other| common(other))
            .filter(|other| common(other) > name.len() / 2)
            .cloned()
    }
}

/// `[in, out]` of a block's projection by its place in [`PROJECTIONS`], and whether it has a bias.
fn projection(config: &LlamaConfig, at: usize) -> ([usize; 2], bool) {
    let (hidden, mlp) = (config.hidden_size, config.intermediate_size);
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    match at {
        0 => ([hidden, queries], config.qkv_bias),
        1 | 2 => ([hidden, keys], config.qkv_bias),
        3 => ([queries, hidden], config.o_bias),
        4 | 5 => ([hidden, mlp], config.mlp_bias),
        _ => ([mlp, hidden], config.mlp_bias),
    }
}

type OpenedFiles = (Vec<TensorFile>, BTreeMap<String, usize>, PathBuf);

/// The headers of `model.safetensors`, or of every shard of `model.safetensors.index.json`.
fn open_files(dir: &Path) -> Result<OpenedFiles> {
    let index = dir.join("model.safetensors.index.json");
    let single = dir.join("model.safetensors");
    if !index.exists() {
        if !single.exists() {
            let reason = if dir.join("pytorch_model.bin").exists()
                || dir.join("pytorch_model.bin.index.json").exists()
            {
                "weights are in pytorch_model.bin: convert them to safetensors (load and save_pretrained in transformers)"
            } else {
                "no model.safetensors and no model.safetensors.index.json"
            };
            return Err(ModelError::NotACheckpoint {
                path: dir.into(),
                reason: reason.into(),
            });
        }
        let file = TensorFile::open(&single)?;
        let place = file.names().map(|name| (name.to_string(), 0)).collect();
        return Ok((vec![file], place, single));
    }
    let text = std::fs::read_to_string(&index).map_err(|source| ModelError::Io {
        path: index.clone(),
        source,
    })?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| ModelError::Json {
            path: index.clone(),
            reason: error.to_string(),
        })?;
    let Some(map) = json.get("weight_map").and_then(|map| map.as_object()) else {
        return Err(ModelError::Json {
            path: index.clone(),
            reason: "no object weight_map".into(),
        });
    };
    let mut shards: Vec<String> = Vec::new();
    let mut place = BTreeMap::new();
    for (name, shard) in map {
        let Some(shard) = shard.as_str().filter(|shard| !shard.contains(['/', '\\'])) else {
            let reason = format!("weight_map: {name}: expected a file name, found {shard}");
            return Err(ModelError::Json {
                path: index.clone(),
                reason,
            });
        };
        let at = shards
            .iter()
            .position(|known| known == shard)
            .unwrap_or_else(|| {
                shards.push(shard.to_string());
                shards.len() - 1
            });
        place.insert(name.clone(), at);
    }
    let mut files = Vec::with_capacity(shards.len());
    for (at, shard) in shards.iter().enumerate() {
        let path = dir.join(shard);
        if !path.exists() {
            let tensors = place.values().filter(|&&file| file == at).count();
            return Err(ModelError::ShardMissing {
                index,
                shard: shard.clone(),
                tensors,
            });
        }
        files.push(TensorFile::open(&path)?);
    }
    Ok((files, place, index))
}

struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    compute: ComputeType,
    device: &'a Device,
    loaded: usize,
    /// Bytes of the tensor being read, kept for the next one.
    buffer: Vec<u8>,
    progress: &'a mut dyn FnMut(usize, usize),
}

impl Loader<'_> {
    /// A layer with its `[out, in]` weight transposed to `[in, out]`.
    fn linear(&mut self, name: &str, [d_in, d_out]: [usize; 2], bias: bool) -> Result<LoraLinear> {
        let weight = self.matrix(&format!("{name}.weight"), [d_out, d_in], true)?;
        let bias = if bias {
            Some(self.vector(&format!("{name}.bias"), d_out)?)
        } else {
            None
        };
        Ok(LoraLinear::new(Linear { weight, bias }))
    }

    fn norm(&mut self, name: &str) -> Result<RmsNorm> {
        let weight = self.vector(name, self.checkpoint.config.hidden_size)?;
        Ok(RmsNorm {
            weight,
            eps: self.checkpoint.config.rms_norm_eps,
        })
    }

    fn matrix(
        &mut self,
        name: &str,
        shape: [usize; 2],
        transposed: bool,
    ) -> Result<Param<Tensor<2>>> {
        self.named_matrix(
            &format!("{}{name}", self.checkpoint.prefix),
            shape,
            transposed,
        )
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Param<Tensor<1>>> {
        self.named_vector(&format!("{}{name}", self.checkpoint.prefix), length)
    }

    fn named_matrix(
        &mut self,
        name: &str,
        [rows, columns]: [usize; 2],
        transposed: bool,
    ) -> Result<Param<Tensor<2>>> {
        let data = self.read(name, rows, columns, transposed)?;
        Ok(Param::from_tensor(Tensor::from_data(
            data,
            (self.device, self.compute.dtype()),
        )))
    }

    fn named_vector(&mut self, name: &str, length: usize) -> Result<Param<Tensor<1>>> {
        let row = Tensor::<2>::from_data(
            self.read(name, 1, length, false)?,
            (self.device, self.compute.dtype()),
        );
        Ok(Param::from_tensor(row.reshape([length])))
    }

    fn read(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
        transposed: bool,
    ) -> Result<TensorData> {
        let file = &self.checkpoint.files[self.checkpoint.place[name]];
        let dtype = file.get(name).map(|(dtype, _)| dtype);
        file.read_into(name, &mut self.buffer)?;
        let bytes = &self.buffer;
        let shape = if transposed {
            [columns, rows]
        } else {
            [rows, columns]
        };
        let (f32_of, bf16_of): (fn(&[u8]) -> f32, fn(&[u8]) -> bf16) = match dtype {
            Some(Dtype::BF16) => (
                |b| bf16::from_le_bytes([b[0], b[1]]).to_f32(),
                |b| bf16::from_le_bytes([b[0], b[1]]),
            ),
            Some(Dtype::F16) => (
                |b| f16::from_le_bytes([b[0], b[1]]).to_f32(),
                |b| bf16::from_f32(f16::from_le_bytes([b[0], b[1]]).to_f32()),
            ),
            _ => (
                |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
                |b| bf16::from_f32(f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            ),
        };
        let size = if dtype == Some(Dtype::F32) { 4 } else { 2 };
        let data = match self.compute {
            ComputeType::F32 => TensorData::new(
                convert(bytes, size, rows, columns, transposed, f32_of),
                shape,
            ),
            ComputeType::Bf16 => TensorData::new(
                convert(bytes, size, rows, columns, transposed, bf16_of),
                shape,
            ),
        };
        self.loaded += 1;
        (self.progress)(self.loaded, self.checkpoint.place.len());
        Ok(data)
    }
}

/// Decodes row-major values, transposing in tiles that stay in the cache.
fn convert<T: Copy + Default>(
    bytes: &[u8],
    size: usize,
    rows: usize,
    columns: usize,
    transposed: bool,
    decode: impl Fn(&[u8]) -> T,
) -> Vec<T> {
    if !transposed {
        return bytes.chunks_exact(size).map(decode).collect();
    }
    const TILE: usize = 32;
    let mut out = vec![T::default(); rows * columns];
    for row_tile in (0..rows).step_by(TILE) {
        for column_tile in (0..columns).step_by(TILE) {
            for column in column_tile..(column_tile + TILE).min(columns) {
                for row in row_tile..(row_tile + TILE).min(rows) {
                    let at = (row * columns + column) * size;
                    out[column * rows + row] = decode(&bytes[at..at + size]);
                }
            }
        }
    }
    out
}
