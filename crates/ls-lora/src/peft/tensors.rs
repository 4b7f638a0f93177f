//! What PEFT's weights file holds: [`AdapterTensors`], and the names of tensors.

use std::collections::BTreeMap;
use std::path::Path;

use ls_files::{FileError, HostTensor, TensorFile};

use crate::config::Bias;
use crate::error::{LoraError, Result};
use crate::layer::LayerKind;

/// What peft's wrapping puts before the name of every tensor.
pub(crate) const PREFIX: &str = "base_model.model.";

/// The module that peft takes for the table of a vocabulary.
pub(super) const VOCABULARY: &str = "embed_tokens";

/// Whether a name without the prefix is that of a vocabulary's table, saved in full.
pub(crate) fn is_vocabulary(name: &str) -> bool {
    let module = name.strip_suffix(".weight");
    let module = module.and_then(|module| module.strip_suffix(VOCABULARY));
    module.is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// What a file holds for one adapted layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterTensors {
    /// A, `[r, in]`: applied to the layer's input. Of an embedding `[r, vocabulary]`.
    pub a: HostTensor,
    /// B, `[out, r]`: applied to A's output.
    pub b: HostTensor,
    /// DoRA's magnitude, `[out]`.
    pub magnitude: Option<HostTensor>,
    /// The kind of layer, which decides how the tensors are called.
    pub kind: LayerKind,
}

impl AdapterTensors {
    /// The two factors of a linear layer.
    #[must_use]
    pub fn linear(a: HostTensor, b: HostTensor) -> Self {
        Self {
            a,
            b,
            magnitude: None,
            kind: LayerKind::Linear,
        }
    }

    /// Reads what a file holds for one module; `parts` are the keys that name it.
    pub(super) fn read(
        file: &TensorFile,
        module: &str,
        parts: &[(Part, &str)],
        use_dora: bool,
    ) -> Result<Self> {
        let key_of = |part: Part| parts.iter().find(|(p, _)| *p == part).map(|(_, key)| *key);
        let has = |kind| key_of(Part::a(kind)).or(key_of(Part::b(kind))).is_some();
        let kind = if has(LayerKind::Embedding) && !has(LayerKind::Linear) {
            LayerKind::Embedding
        } else {
            LayerKind::Linear
        };
        let mut wanted = vec![Part::a(kind), Part::b(kind)];
        wanted.extend(use_dora.then_some(Part::Magnitude));
        if let Some((_, key)) = parts.iter().find(|(part, _)| !wanted.contains(part)) {
            return Err(LoraError::SurplusTensors {
                path: file.path().to_owned(),
                names: vec![(*key).to_owned()],
            });
        }
        let tensor = |part: Part| match key_of(part) {
            Some(key) => file.read(key),
            None => Err(FileError::tensor_missing(
                file.path(),
                &part.key(module),
                file.names(),
            )),
        };
        Ok(Self {
            magnitude: if use_dora {
                Some(tensor(Part::Magnitude)?)
            } else {
                None
            },
            a: tensor(Part::a(kind))?,
            b: tensor(Part::b(kind))?,
            kind,
        })
    }

    /// The tensors under their keys in the file: A, B and, if there is one, the magnitude.
    pub(crate) fn named(&self, module: &str) -> impl Iterator<Item = (String, &HostTensor)> {
        let magnitude = self.magnitude.iter();
        [
            (Part::a(self.kind).key(module), &self.a),
            (Part::b(self.kind).key(module), &self.b),
        ]
        .into_iter()
        .chain(magnitude.map(|tensor| (Part::Magnitude.key(module), tensor)))
    }

    /// Checks that the tensors fit a layer of this shape; `path` is for messages.
    pub(crate) fn expect_shape(
        &self,
        module: &str,
        [d_in, d_out]: [usize; 2],
        path: &Path,
    ) -> Result<()> {
        let r = self.a.shape.first().copied().unwrap_or(0);
        let expected = [vec![r, d_in], vec![d_out, r], vec![d_out]];
        for ((name, tensor), expected) in self.named(module).zip(expected) {
            if tensor.shape != expected {
                return Err(FileError::TensorShape {
                    path: path.to_owned(),
                    name,
                    expected,
                    found: tensor.shape.clone(),
                }
                .into());
            }
        }
        Ok(())
    }

    /// Fills the factors with zeros up to a rank, which changes nothing of their product.
    pub(crate) fn pad_rank(&mut self, r: usize) {
        let ([rank, d_in], [d_out, _]) = (
            [self.a.shape[0], self.a.shape[1]],
            [self.b.shape[0], self.b.shape[1]],
        );
        if rank >= r {
            return;
        }
        let size = self.a.dtype.bitsize() / 8;
        self.a.bytes.resize(r * d_in * size, 0);
        self.a.shape = vec![r, d_in];
        let size = self.b.dtype.bitsize() / 8;
        let mut bytes = Vec::with_capacity(d_out * r * size);
        for row in self.b.bytes.chunks((rank * size).max(1)) {
            bytes.extend_from_slice(row);
            bytes.resize(bytes.len() + (r - rank) * size, 0);
        }
        self.b.bytes = bytes;
        self.b.shape = vec![d_out, r];
    }
}

/// A tensor of an adapted layer, by its name in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    A,
    B,
    EmbeddingA,
    EmbeddingB,
    Magnitude,
}

impl Part {
    const ALL: [Self; 5] = [
        Self::A,
        Self::B,
        Self::EmbeddingA,
        Self::EmbeddingB,
        Self::Magnitude,
    ];

    pub(super) fn a(kind: LayerKind) -> Self {
        match kind {
            LayerKind::Linear => Self::A,
            LayerKind::Embedding => Self::EmbeddingA,
        }
    }

    fn b(kind: LayerKind) -> Self {
        match kind {
            LayerKind::Linear => Self::B,
            LayerKind::Embedding => Self::EmbeddingB,
        }
    }

    /// What follows the module's name; the second form keeps the name of peft's default adapter,
    /// and peft reads it too.
    fn suffixes(self) -> [&'static str; 2] {
        match self {
            Self::A => [".lora_A.weight", ".lora_A.default.weight"],
            Self::B => [".lora_B.weight", ".lora_B.default.weight"],
            Self::EmbeddingA => [".lora_embedding_A", ".lora_embedding_A.default"],
            Self::EmbeddingB => [".lora_embedding_B", ".lora_embedding_B.default"],
            Self::Magnitude => [
                ".lora_magnitude_vector",
                ".lora_magnitude_vector.default.weight",
            ],
        }
    }

    /// The tensor's key in files.
    pub(super) fn key(self, module: &str) -> String {
        format!("{PREFIX}{module}{}", self.suffixes()[0])
    }

    /// The part and module that a name without prefix is of.
    fn of(name: &str) -> Option<(Self, &str)> {
        Self::ALL.into_iter().find_map(|part| {
            let module = part
                .suffixes()
                .into_iter()
                .find_map(|end| name.strip_suffix(end));
            module.map(|module| (part, module))
        })
    }
}

/// The keys of a weights file by what they are.
#[derive(Default)]
pub(super) struct SortedKeys<'a> {
    /// Module -> what there is of it, with its key.
    pub(super) lora: BTreeMap<String, Vec<(Part, &'a str)>>,
    /// Name without the prefix -> key.
    pub(super) saved: BTreeMap<String, &'a str>,
}

/// Takes keys apart. Whether the configuration accounts for them is checked once they are read.
pub(super) fn sort_keys(file: &TensorFile, bias: Bias) -> Result<SortedKeys<'_>> {
    let mut sorted = SortedKeys::default();
    let mut surplus = Vec::new();
    for key in file.names() {
        let Some(name) = key.strip_prefix(PREFIX) else {
            surplus.push(key.to_owned());
            continue;
        };
        if bias == Bias::All && is_stray_bias(name) || is_stray_vocabulary(file, name) {
            continue;
        }
        if let Some((part, module)) = Part::of(name) {
            let parts = sorted.lora.entry(module.to_owned()).or_default();
            if parts.iter().any(|(p, _)| *p == part) {
                surplus.push(key.to_owned());
            } else {
                parts.push((part, key));
            }
        } else if let Some(kind) = unsupported_kind(name) {
            return Err(LoraError::UnsupportedTensor {
                path: file.path().to_owned(),
                name: key.to_owned(),
                kind,
            });
        } else {
            sorted.saved.insert(name.to_owned(), key);
        }
    }
    no_surplus(file.path(), surplus)?;
    Ok(sorted)
}

/// With `bias = "all"` peft also writes the biases of its two copies of a saved module: the frozen
/// one, and the trained one a second time under another name.
fn is_stray_bias(name: &str) -> bool {
    [".original_module.bias", ".modules_to_save.bias"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// Of a vocabulary that was changed and is named in `modules_to_save`, peft also writes its two
/// copies: the frozen one, and the trained one a second time.
fn is_stray_vocabulary(file: &TensorFile, name: &str) -> bool {
    [".original_module.weight", ".modules_to_save.weight"]
        .iter()
        .filter_map(|end| name.strip_suffix(end))
        .map(|module| format!("{module}.weight"))
        .any(|whole| {
            is_vocabulary(&whole) && file.names().any(|key| key == format!("{PREFIX}{whole}"))
        })
}

/// The kind of adapter that a tensor name without prefix belongs to, if it is none that is read
/// here.
fn unsupported_kind(name: &str) -> Option<&'static str> {
    const KINDS: [(&str, &str); 3] = [
        (".lora_B.bias", "LoRA with a bias on B"),
        (".trainable_tokens_", "trainable tokens"),
        (
            ".modules_to_save.",
            "a module saved under peft's name inside the model",
        ),
    ];
    if let Some((_, kind)) = KINDS.iter().find(|(part, _)| name.contains(part)) {
        return Some(kind);
    }
    // Also the factors of an adapter with a name of its own, which peft does not read either.
    name.contains(".lora_").then_some("an unknown kind of LoRA")
}

/// An error that lists the names, unless there is none.
pub(super) fn no_surplus(path: &Path, mut names: Vec<String>) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    names.sort();
    Err(LoraError::SurplusTensors {
        path: path.to_owned(),
        names,
    })
}
