//! The small model of the PEFT fixtures, which is not a LLaMA, and how their files are read.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use burn::module::{Module, Param};
use burn::nn::{Embedding, LayerNorm, LayerNormConfig, Linear};
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use ls_files::TensorFile;
use ls_lora::{Dtype, LoraEmbedding, LoraLinear, lora_module};

pub const NAME: &str = "default";

/// The CPU backend draws from one generator per process: tests that draw take turns.
static GENERATOR: Mutex<()> = Mutex::new(());

pub fn seeded(device: &Device, seed: u64) -> MutexGuard<'static, ()> {
    let guard = GENERATOR
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    device.seed(seed);
    guard
}

#[derive(Module, Debug)]
pub struct Block {
    pub fc1: LoraLinear,
    pub norm: LayerNorm,
    pub fc2: LoraLinear,
}

#[derive(Module, Debug)]
pub struct Net {
    pub embed: LoraEmbedding,
    pub layers: Vec<Block>,
    pub score: LoraLinear,
}

lora_module!(Block { fc1, fc2 });
lora_module!(Net { embed, layers, score } heads { score });

impl Net {
    /// The base of the fixtures.
    pub fn base(device: &Device) -> Self {
        let file = Tensors::open(&fixtures().join("base.safetensors"));
        let linear = |name: &str, bias: bool| Linear {
            weight: Param::from_tensor(file.matrix(&format!("{name}.weight"), true, device)),
            bias: bias.then(|| Param::from_tensor(file.vector(&format!("{name}.bias"), device))),
        };
        let norm = |name: &str| {
            let mut norm = LayerNormConfig::new(10).init(device);
            norm.gamma = Param::from_tensor(file.vector(&format!("{name}.weight"), device));
            norm.beta = Some(Param::from_tensor(
                file.vector(&format!("{name}.bias"), device),
            ));
            norm
        };
        let block = |at: usize| Block {
            fc1: linear(&format!("layers.{at}.fc1"), true).into(),
            norm: norm(&format!("layers.{at}.norm")),
            fc2: linear(&format!("layers.{at}.fc2"), false).into(),
        };
        Self {
            embed: Embedding {
                weight: Param::from_tensor(file.matrix("embed.weight", false, device)),
            }
            .into(),
            layers: (0..2).map(block).collect(),
            score: linear("score", true).into(),
        }
    }

    /// `[n]` -> `[n, 3]`.
    pub fn forward(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        let mut x = self.embed.rows(ids);
        for block in &self.layers {
            let hidden = block.norm.forward(block.fc1.forward(x.clone())).tanh();
            x = x + block.fc2.forward(hidden);
        }
        self.score.forward(x)
    }
}

/// Mean cross-entropy.
pub fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    log_softmax(logits, 1)
        .gather(1, labels.unsqueeze_dim(1))
        .mean()
        .neg()
}

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peft")
}

/// A file's tensors.
pub struct Tensors(pub TensorFile);

impl Tensors {
    pub fn open(path: &Path) -> Self {
        Self(TensorFile::open(path).unwrap())
    }

    pub fn values(&self, name: &str) -> Vec<f32> {
        self.0.read(name).unwrap().to_f32().unwrap()
    }

    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.0.get(name).unwrap().1.to_vec()
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    pub fn matrix(&self, name: &str, transposed: bool, device: &Device) -> Tensor<2> {
        let shape = self.shape(name);
        let data = TensorData::new(self.values(name), [shape[0], shape[1]]);
        let tensor = Tensor::<2>::from_data(data, (device, DType::F32));
        if transposed {
            tensor.transpose()
        } else {
            tensor
        }
    }

    pub fn vector(&self, name: &str, device: &Device) -> Tensor<1> {
        let values = self.values(name);
        let shape = [values.len()];
        Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
    }

    pub fn ids(&self, name: &str, device: &Device) -> Tensor<1, Int> {
        let tensor = self.0.read(name).unwrap();
        assert_eq!(tensor.dtype, Dtype::I32);
        let ids: Vec<i32> = tensor
            .bytes
            .chunks_exact(4)
            .map(|b| i32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        let shape = [ids.len()];
        Tensor::from_data(TensorData::new(ids, shape), (device, DType::I32))
    }

    /// The tensors whose names begin with `prefix`, by the rest of the name.
    pub fn below(&self, prefix: &str) -> BTreeMap<String, Vec<f32>> {
        self.0
            .names()
            .filter_map(|name| Some((name.strip_prefix(prefix)?.to_owned(), self.values(name))))
            .collect()
    }
}

#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}: sizes differ");
    let scale = expected.iter().fold(1.0f32, |max, v| max.max(v.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs() / scale;
        assert!(
            difference <= tolerance,
            "{what}[{at}]: {found} is not {expected} (difference {difference:e})"
        );
    }
}
