//! A Hugging Face folder -> a model, one tensor at a time.
//!
//! Files are read with positioned reads rather than mapped: mapped pages count as resident memory, and the whole
//! checkpoint would be resident beside the model. A tensor is read a band of rows at a time, converted and transposed into the
//! compute type on all cores.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use burn::module::{Module, Param};
use burn::nn::{Embedding, Linear};
use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{bf16, f16};
use ls_lora::{Dtype, LoraConfig, LoraEmbedding, LoraLayer, LoraLinear, Quantization, TensorFile};
use rayon::prelude::*;

use crate::config::LlamaConfig;
use crate::error::{ModelError, Result};
use crate::heads::{LlamaClassifier, PROJECTIONS, Task};
use crate::llama::{Attention, DecoderLayer, LlamaModel, Mlp, RmsNorm};
use crate::mask::AttentionMode;

/// Element type of the frozen weights, and off the CPU of the activations. On the CPU these are f32; head, adapters and loss
/// always are.
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

    /// Element type of the activations over frozen weights of this one.
    #[must_use]
    pub fn of_activations(self, device: &Device) -> Self {
        if ls_ops::is_host(device) {
            Self::F32
        } else {
            self
        }
    }

    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// How the frozen weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precision {
    /// Element type of the weights that are not packed, and off the CPU of the activations.
    pub compute: ComputeType,
    /// Packs the weights of the linear layers, if set (QLoRA). Embeddings and norms are not packed.
    pub quantization: Option<Quantization>,
}

impl From<ComputeType> for Precision {
    fn from(compute: ComputeType) -> Self {
        Self {
            compute,
            quantization: None,
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
        let embeddings = ["model.embed_tokens"];
        let selected = ls_lora::select_modules(lora, &names, &embeddings, &["score"])?;
        let table = (
            embeddings[0].to_owned(),
            [config.vocab_size, config.hidden_size],
        );
        let all = modules.iter().chain([&table]);
        for (name, [d_in, d_out]) in all.filter(|(name, _)| selected.contains(name)) {
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
        <[usize; 2]>::try_from(self.tensor_shape("score.weight")?).ok()
    }

    fn tensor_shape(&self, name: &str) -> Option<&[usize]> {
        let (_, shape) = self.files[*self.place.get(name)?].get(name)?;
        Some(shape)
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
        precision: impl Into<Precision>,
        device: &Device,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<LlamaModel> {
        let device = device.clone().without_autodiff();
        let Precision {
            compute,
            quantization,
        } = precision.into();
        let mut loader = Loader {
            checkpoint: self,
            compute,
            quantization,
            device: &device,
            loaded: 0,
            total: self.backbone_tensors().len(),
            buffer: Vec::new(),
            progress: &mut progress,
        };
        assemble(&self.config, attention, &mut loader)
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
        precision: impl Into<Precision>,
        device: &Device,
    ) -> Result<LlamaClassifier> {
        let missing = || ModelError::TensorMissing {
            path: self.listing.clone(),
            name: "score.weight".into(),
            nearest: None,
        };
        let shape = self.tensor_shape("score.weight").ok_or_else(missing)?;
        let num_labels = shape.first().copied().unwrap_or(1).max(1);
        let hidden_size = self.config.hidden_size;
        self.check("score.weight", &[num_labels, hidden_size])?;
        let has_bias = self.place.contains_key("score.bias");
        if has_bias && matches!(task, Task::Sequence(_)) {
            return Err(ModelError::NotACheckpoint {
                path: self.listing.clone(),
                reason: "the head has a bias, as a token classifier's has: this is not a sequence classifier".into(),
            });
        }
        let model = self.load_model(attention, precision, device, |_, _| ())?;
        let plain = device.clone().without_autodiff();
        let mut ignore = |_, _| ();
        let mut loader = Loader {
            checkpoint: self,
            compute: ComputeType::F32,
            quantization: None,
            device: &plain,
            loaded: 0,
            total: 1 + usize::from(has_bias),
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

/// Where the weights of a decoder come from, asked for in the order of the forward pass.
pub(crate) trait Weights {
    /// The embedding table, `[vocab_size, hidden_size]`.
    fn embedding(&mut self, shape: [usize; 2]) -> Result<Param<Tensor<2>>>;
    /// A projection of a block, `[in, out]`.
    fn linear(&mut self, name: &str, shape: [usize; 2], bias: bool) -> Result<LoraLinear>;
    /// The scale of a norm.
    fn norm(&mut self, name: &str, width: usize) -> Result<Param<Tensor<1>>>;
}

/// A frozen decoder of these weights.
pub(crate) fn assemble(
    config: &LlamaConfig,
    attention: &AttentionMode,
    weights: &mut dyn Weights,
) -> Result<LlamaModel> {
    let visibility = LlamaModel::visibility(config, attention)?;
    let embed_tokens = weights.embedding([config.vocab_size, config.hidden_size])?;
    let norm = |weights: &mut dyn Weights, name: &str| -> Result<RmsNorm> {
        Ok(RmsNorm {
            weight: weights.norm(name, config.hidden_size)?,
            eps: config.rms_norm_eps,
        })
    };
    let mut layers = Vec::with_capacity(config.num_hidden_layers);
    for layer in 0..config.num_hidden_layers {
        let mut linear = |at: usize| {
            let (shape, bias) = projection(config, at);
            weights.linear(&format!("layers.{layer}.{}", PROJECTIONS[at]), shape, bias)
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
            input_layernorm: norm(weights, &format!("layers.{layer}.input_layernorm"))?,
            post_attention_layernorm: norm(
                weights,
                &format!("layers.{layer}.post_attention_layernorm"),
            )?,
        });
    }
    let norm = norm(weights, "norm")?;
    let model = LlamaModel {
        embed_tokens: LoraEmbedding::new(Embedding {
            weight: embed_tokens,
        }),
        layers,
        norm,
        rope: config.rope.clone(),
        visibility,
    };
    Ok(model.no_grad())
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
    quantization: Option<Quantization>,
    device: &'a Device,
    loaded: usize,
    /// Tensors to load.
    total: usize,
    /// Bytes of the part of a tensor that is being read, kept for the next one.
    buffer: Vec<u8>,
    progress: &'a mut dyn FnMut(usize, usize),
}

impl Weights for Loader<'_> {
    fn embedding(&mut self, shape: [usize; 2]) -> Result<Param<Tensor<2>>> {
        self.matrix("embed_tokens.weight", shape, false)
    }

    /// A layer with its `[out, in]` weight transposed to `[in, out]`.
    fn linear(&mut self, name: &str, [d_in, d_out]: [usize; 2], bias: bool) -> Result<LoraLinear> {
        let weight = self.matrix(&format!("{name}.weight"), [d_out, d_in], true)?;
        let bias = if bias {
            Some(self.vector(&format!("{name}.bias"), d_out)?)
        } else {
            None
        };
        let mut layer = LoraLinear::new(Linear { weight, bias });
        if let Some(format) = self.quantization {
            // Layer by layer, so that there is never more than one unpacked.
            layer.quantize(format)?;
        }
        Ok(layer)
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<Param<Tensor<1>>> {
        self.vector(&format!("{name}.weight"), width)
    }
}

impl Loader<'_> {
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
        let shape = if transposed {
            [columns, rows]
        } else {
            [rows, columns]
        };
        let mut source = Source {
            file,
            name,
            rows,
            columns,
            transposed,
            buffer: &mut self.buffer,
        };
        let bf16_bits = |b: [u8; 2]| bf16::from_le_bytes(b);
        let f16_value = |b: [u8; 2]| f16::from_le_bytes(b).to_f32();
        let data = match (self.compute, dtype) {
            (ComputeType::F32, Some(Dtype::BF16)) => {
                TensorData::new(source.read(|b| bf16_bits(b).to_f32())?, shape)
            }
            (ComputeType::F32, Some(Dtype::F16)) => TensorData::new(source.read(f16_value)?, shape),
            (ComputeType::F32, _) => TensorData::new(source.read(f32::from_le_bytes)?, shape),
            (ComputeType::Bf16, Some(Dtype::BF16)) => {
                TensorData::new(source.read(bf16_bits)?, shape)
            }
            (ComputeType::Bf16, Some(Dtype::F16)) => {
                TensorData::new(source.read(|b| bf16::from_f32(f16_value(b)))?, shape)
            }
            (ComputeType::Bf16, _) => {
                let read = source.read(|b| bf16::from_f32(f32::from_le_bytes(b)));
                TensorData::new(read?, shape)
            }
        };
        self.loaded += 1;
        (self.progress)(self.loaded, self.total);
        Ok(data)
    }
}

/// A matrix in a file. It is read a band of rows at a time, so that there is room for one band beside the result.
struct Source<'a> {
    file: &'a TensorFile,
    name: &'a str,
    rows: usize,
    columns: usize,
    transposed: bool,
    buffer: &'a mut Vec<u8>,
}

impl Source<'_> {
    /// Bytes of a band; it stays in the cache until it is decoded.
    const BAND: usize = 4 << 20;

    /// Its values in row-major order, of the transpose if that is wanted; `N` is the size of a value in the file.
    fn read<T: Copy + Default + Send, const N: usize>(
        &mut self,
        decode: impl Fn([u8; N]) -> T + Sync,
    ) -> Result<Vec<T>> {
        let (rows, columns) = (self.rows, self.columns);
        let mut out = vec![T::default(); rows * columns];
        let width = columns * N;
        let band = (Self::BAND / width.max(1)).max(1);
        for first in (0..rows).step_by(band) {
            let count = band.min(rows - first);
            self.buffer.resize(count * width, 0);
            let (file, name) = (self.file, self.name);
            let piece = 1 << 20;
            self.buffer
                .par_chunks_mut(piece)
                .enumerate()
                .try_for_each(|(at, bytes)| {
                    file.read_part(name, first * width + at * piece, bytes)
                })?;
            let values = self.buffer.as_chunks::<N>().0;
            if self.transposed {
                // Of so many neighbouring columns each cache line of the band is read once.
                const COLUMNS: usize = 16;
                out.par_chunks_mut(COLUMNS * rows)
                    .enumerate()
                    .for_each(|(tile, out)| {
                        for (at, out) in out.chunks_mut(rows).enumerate() {
                            let column = tile * COLUMNS + at;
                            let values = values[column..].iter().step_by(columns);
                            for (out, value) in out[first..first + count].iter_mut().zip(values) {
                                *out = decode(*value);
                            }
                        }
                    });
            } else {
                const VALUES: usize = 1 << 16;
                out[first * columns..(first + count) * columns]
                    .par_chunks_mut(VALUES)
                    .zip(values.par_chunks(VALUES))
                    .for_each(|(out, values)| {
                        for (out, value) in out.iter_mut().zip(values) {
                            *out = decode(*value);
                        }
                    });
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use ls_lora::HostTensor;
    use serde_json::{Value, json};

    use super::*;
    use crate::heads::Pooling;
    use crate::input::ModelInput;
    use crate::tiny::{HIDDEN, LABELS, LAYERS, Tiny, assert_close, logits_of, mode};

    const SEQUENCE: Task = Task::Sequence(Pooling::Last);
    const TOKEN: Task = Task::Token { dropout: 0.1 };

    fn open_error(tiny: &Tiny) -> ModelError {
        Checkpoint::open(tiny.write().path()).unwrap_err()
    }

    fn load_error(tiny: &Tiny, task: Task) -> ModelError {
        let dir = tiny.write();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let device = Device::flex();
        checkpoint
            .load_classifier(&AttentionMode::Causal, task, ComputeType::F32, &device)
            .unwrap_err()
    }

    fn renamed(tiny: &Tiny, rename: impl Fn(&str) -> String) -> Tiny {
        let tensors = tiny.tensors.iter();
        Tiny {
            config: tiny.config.clone(),
            tensors: tensors
                .map(|(name, tensor)| (rename(name), tensor.clone()))
                .collect(),
        }
    }

    #[test]
    fn a_missing_tensor_is_named_with_the_most_similar_one() {
        let mut tiny = Tiny::new();
        tiny.tensors.remove("model.layers.1.mlp.up_proj.weight");
        match open_error(&tiny) {
            ModelError::TensorMissing {
                path,
                name,
                nearest,
            } => {
                assert!(path.ends_with("model.safetensors"));
                assert_eq!(name, "model.layers.1.mlp.up_proj.weight");
                let nearest = nearest.unwrap();
                assert!(nearest.ends_with(".mlp.up_proj.weight"), "{nearest}");
            }
            other => panic!("{other}"),
        }
        let tiny = renamed(&Tiny::new(), |name| name.replace("model.", "decoder."));
        let error = open_error(&tiny).to_string();
        assert!(
            error.contains("tensor model.embed_tokens.weight is missing"),
            "{error}"
        );
        assert!(
            error.contains("(similar: decoder.embed_tokens.weight)"),
            "{error}"
        );
    }

    #[test]
    fn a_wrong_shape_is_told_with_both_shapes() {
        for (name, expected, found) in [
            (
                "model.layers.2.self_attn.k_proj.weight",
                vec![8, HIDDEN],
                vec![HIDDEN, 8],
            ),
            ("model.norm.weight", vec![HIDDEN], vec![HIDDEN, 1]),
        ] {
            let mut tiny = Tiny::new();
            tiny.put(name, &found);
            match open_error(&tiny) {
                ModelError::TensorShape {
                    name: named,
                    expected: e,
                    found: f,
                    ..
                } => assert_eq!((named.as_str(), e, f), (name, expected, found)),
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn whole_numbers_are_no_weights() {
        let mut tiny = Tiny::new();
        let norm = tiny.tensors.get_mut("model.norm.weight").unwrap();
        norm.dtype = Dtype::I32;
        let error = open_error(&tiny).to_string();
        assert!(
            error.contains("model.norm.weight has element type I32"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_without_weights_says_what_is_missing() {
        let tiny = Tiny::new();
        let dir = tiny.write();
        let path = dir.path().join("model.safetensors");
        std::fs::remove_file(&path).unwrap();
        let error = |dir: &Path| Checkpoint::open(dir).unwrap_err().to_string();
        assert!(error(dir.path()).contains("no model.safetensors"));
        std::fs::write(dir.path().join("pytorch_model.bin"), b"").unwrap();
        assert!(error(dir.path()).contains("convert them to safetensors"));
        assert!(error(&dir.path().join("absent")).contains("no such folder"));
        std::fs::remove_file(dir.path().join("config.json")).unwrap();
        assert!(error(dir.path()).contains("no config.json"));
    }

    #[test]
    fn a_truncated_file_is_refused_with_both_sizes() {
        let dir = Tiny::new().write();
        let path = dir.path().join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        match Checkpoint::open(dir.path()).unwrap_err() {
            ModelError::Lora(ls_lora::LoraError::TruncatedFile {
                expected, found, ..
            }) => {
                assert_eq!(expected, bytes.len() as u64);
                assert_eq!(found, bytes.len() as u64 - 5);
            }
            other => panic!("{other}"),
        }
        std::fs::write(&path, b"").unwrap();
        assert!(Checkpoint::open(dir.path()).is_err());
    }

    /// The tiny model in two shards: the first layer, and the rest.
    fn sharded(tiny: &Tiny) -> (tempfile::TempDir, Value) {
        let dir = tiny.write();
        std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
        let first = |name: &str| name.contains("layers.0.");
        let [one, two] = ["model-1.safetensors", "model-2.safetensors"];
        tiny.write_tensors(&dir.path().join(one), first);
        tiny.write_tensors(&dir.path().join(two), |name| !first(name));
        let place = tiny.tensors.keys().map(|name| {
            let shard = if first(name) { one } else { two };
            (name.clone(), json!(shard))
        });
        let index = json!({"weight_map": place.collect::<serde_json::Map<_, _>>()});
        write_index(dir.path(), &index);
        (dir, index)
    }

    fn write_index(dir: &Path, index: &Value) {
        let path = dir.join("model.safetensors.index.json");
        std::fs::write(path, index.to_string()).unwrap();
    }

    #[test]
    fn shards_load_as_one_file_does() {
        let tiny = Tiny::with_head();
        let (dir, _) = sharded(&tiny);
        let expected = logits_of(tiny.write().path(), ComputeType::F32);
        assert_eq!(logits_of(dir.path(), ComputeType::F32), expected);
    }

    #[test]
    fn an_index_that_does_not_fit_its_shards_is_an_error() {
        let (dir, index) = sharded(&Tiny::new());
        let error = || Checkpoint::open(dir.path()).unwrap_err().to_string();

        // A tensor that the named shard does not hold.
        let mut wrong = index.clone();
        wrong["weight_map"]["model.norm.weight"] = json!("model-1.safetensors");
        write_index(dir.path(), &wrong);
        let found = error();
        assert!(
            found.contains("model-1.safetensors") && found.contains("model.norm.weight"),
            "{found}"
        );

        wrong["weight_map"]["model.norm.weight"] = json!("../model-2.safetensors");
        write_index(dir.path(), &wrong);
        assert!(error().contains("expected a file name"), "{}", error());

        write_index(dir.path(), &json!({"metadata": {}}));
        assert!(error().contains("no object weight_map"), "{}", error());

        write_index(dir.path(), &index);
        std::fs::remove_file(dir.path().join("model-1.safetensors")).unwrap();
        match Checkpoint::open(dir.path()).unwrap_err() {
            ModelError::ShardMissing {
                index,
                shard,
                tensors,
            } => {
                assert!(index.ends_with("model.safetensors.index.json"));
                assert_eq!((shard.as_str(), tensors), ("model-1.safetensors", 9));
            }
            other => panic!("{other}"),
        }
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
        let bare = renamed(&tiny, |name| name.trim_start_matches("model.").to_string());
        let dir = bare.write();
        assert!(Checkpoint::open(dir.path()).unwrap().surplus().is_empty());
        assert_eq!(
            logits_of(dir.path(), ComputeType::F32),
            logits_of(tiny.write().path(), ComputeType::F32)
        );
    }

    #[test]
    fn half_precision_stays_close_to_f32() {
        let tiny = Tiny::with_head();
        let exact = logits_of(tiny.write().path(), ComputeType::F32);
        assert!(exact.iter().any(|logit| logit.abs() > 0.3), "{exact:?}");
        // bf16 has 8 bits of mantissa, f16 has 11; three layers on logits of about 0.4.
        for (dtype, tolerance) in [(Dtype::BF16, 0.05), (Dtype::F16, 0.005)] {
            let mut half = tiny.clone();
            for tensor in half.tensors.values_mut() {
                *tensor = tensor.to_dtype(dtype).unwrap();
            }
            let found = logits_of(half.write().path(), ComputeType::F32);
            assert_close(&found, &exact, tolerance);
            assert_ne!(found, exact);
        }
        let computed = logits_of(tiny.write().path(), ComputeType::Bf16);
        assert_close(&computed, &exact, 0.1);
        assert_ne!(computed, exact);
        // A bf16 file's weights are what rounding the f32 file's gives.
        let mut half = tiny.clone();
        for (name, tensor) in &mut half.tensors {
            if name != "score.weight" {
                *tensor = tensor.to_dtype(Dtype::BF16).unwrap();
            }
        }
        assert_eq!(logits_of(half.write().path(), ComputeType::Bf16), computed);
    }

    #[test]
    fn a_matrix_of_several_bands_is_read_whole_either_way_up() {
        let (rows, columns) = (1501, 1101);
        let values: Vec<f32> = (0..rows * columns).map(|i| (i % 251) as f32).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let wide = HostTensor::from_f32([rows, columns], &values);
        let half = wide.to_dtype(Dtype::BF16).unwrap();
        ls_lora::write_tensors(&path, [("wide", &wide), ("half", &half)]).unwrap();
        let file = TensorFile::open(&path).unwrap();
        for transposed in [false, true] {
            let mut buffers = [Vec::new(), Vec::new()];
            let expected: Vec<f32> = match transposed {
                false => values.clone(),
                true => (0..rows * columns)
                    .map(|i| values[i % rows * columns + i / rows])
                    .collect(),
            };
            let [first, second] = &mut buffers;
            let source = |name, buffer| Source {
                file: &file,
                name,
                rows,
                columns,
                transposed,
                buffer,
            };
            let read = source("wide", first).read(f32::from_le_bytes);
            assert!(read.unwrap() == expected);
            let read = source("half", second).read(|b| bf16::from_le_bytes(b).to_f32());
            assert!(read.unwrap() == expected);
        }
    }

    #[test]
    fn weights_are_frozen_constants_in_the_compute_type_and_the_head_is_f32() {
        let dir = Tiny::with_head().write();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let device = Device::flex().autodiff();
        let model = checkpoint
            .load_classifier(&AttentionMode::Causal, SEQUENCE, ComputeType::Bf16, &device)
            .unwrap();
        let count = ls_lora::ParameterCount::of(&model);
        assert_eq!(count.trainable, 0);
        assert_eq!(count.all, checkpoint.num_parameters() + LABELS * HIDDEN);
        let embeddings = model.model.embed_tokens.base_layer.weight.val();
        assert!(!embeddings.is_autodiff());
        assert_eq!(embeddings.dtype(), DType::BF16);
        assert_eq!(model.score.weight.val().dtype(), DType::F32);
        let input = ModelInput::new(&[[1u32, 2]], &checkpoint.config, &device).unwrap();
        // A CPU computes in f32, whatever it keeps.
        assert_eq!(model.model.forward(&input).dtype(), DType::F32);
        assert_eq!(model.forward(&input).dtype(), DType::F32);
    }

    #[test]
    fn progress_ends_at_the_number_of_tensors() {
        let mut tiny = Tiny::with_head();
        tiny.put("lm_head.weight", &[13, HIDDEN]);
        let dir = tiny.write();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let mut calls = Vec::new();
        let listen = |at, of| calls.push((at, of));
        checkpoint
            .load_model(
                &AttentionMode::Causal,
                ComputeType::F32,
                &Device::flex(),
                listen,
            )
            .unwrap();
        let total = 2 + LAYERS * 9;
        let expected: Vec<_> = (1..=total).map(|at| (at, total)).collect();
        assert_eq!(calls, expected);
    }

    #[test]
    fn a_head_loads_with_its_own_number_of_labels() {
        let mut tiny = Tiny::with_head();
        let dir = tiny.write();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(checkpoint.head_shape(), Some([LABELS, HIDDEN]));
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
    fn a_head_that_does_not_fit_is_refused() {
        let error = load_error(&Tiny::new(), SEQUENCE).to_string();
        assert!(error.contains("score.weight is missing"), "{error}");

        let mut tiny = Tiny::with_head();
        tiny.put("score.bias", &[LABELS]);
        let error = load_error(&tiny, SEQUENCE).to_string();
        assert!(error.contains("not a sequence classifier"), "{error}");

        for (name, shape) in [
            ("score.weight", vec![LABELS, HIDDEN + 1]),
            ("score.weight", vec![LABELS * HIDDEN]),
            ("score.weight", vec![0, HIDDEN]),
            ("score.bias", vec![LABELS + 1]),
        ] {
            let mut tiny = Tiny::with_head();
            tiny.put(name, &shape);
            match load_error(&tiny, TOKEN) {
                ModelError::TensorShape {
                    name: named, found, ..
                } => {
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
            files: Vec::new(),
            place: BTreeMap::new(),
            prefix: "model.",
            listing: PathBuf::new(),
        };
        assert_eq!(checkpoint.num_parameters(), 6_738_415_616 - 32000 * 4096);
        let lora = LoraConfig::new(12, 32.0);
        checkpoint
            .check_settings(&AttentionMode::Causal, &lora)
            .unwrap();
        let adapted = [0, 2].map(|at| projection(&checkpoint.config, at).0);
        let per_layer: usize = adapted
            .iter()
            .map(|[d_in, d_out]| 12 * (d_in + d_out))
            .sum();
        let trainable = 32 * per_layer + 2 * 4096;
        let all = checkpoint.num_parameters() + trainable;
        assert_eq!(
            ls_lora::ParameterCount { trainable, all }.to_string(),
            "trainable params: 6,299,648 || all params: 6,613,643,264 || trainable%: 0.0953"
        );
    }
}
