//! [`GgufModel`]: a GGUF file of the LLaMA family -> the configuration and the weights of a Hugging
//! Face folder.

mod metadata;
mod names;

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use ls_files::{
    Dtype, FileError, GgufFile, GgufTensor, GgufType, HostTensor, NotFinite, TensorHead,
    write_tensors_in_parts,
};
use ls_lora::LoraError;
use serde_json::{Map, Value};

use crate::config::LlamaConfig;
use crate::error::{ModelError, Result};

use names::{gguf_name, row_in_file};

/// An opened GGUF file: its header, no weights yet.
#[derive(Debug)]
pub struct GgufModel {
    file: GgufFile,
    config: Map<String, Value>,
    tensors: Vec<Tensor>,
}

/// A tensor as it will be written.
#[derive(Debug)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    /// Its name in the GGUF file.
    from: String,
    /// The width of a head, where the file has the rows of each head in another order.
    head_dim: Option<usize>,
}

impl GgufModel {
    /// Reads the header. Checks that the file holds every tensor that its metadata calls for, in
    /// its shape, and none that has no place in the decoder.
    ///
    /// # Errors
    ///
    /// As [`GgufFile::open`]; if the architecture, the RoPE scaling or a part of the model is one
    /// that this crate does not implement, which is named; if the metadata lack a number or have
    /// one past its bounds; if the file is one part of several; if a tensor is missing, of another
    /// shape, or has no place.
    pub fn open(path: &Path) -> Result<Self> {
        let file = GgufFile::open(path)?;
        let (config, rotated) = metadata::config(&file)?;
        let parsed = LlamaConfig::from_json(&Value::Object(config.clone()).to_string(), path)?;
        let mut tensors = Vec::new();
        let mut plan = |name: String, shape: Vec<usize>, from: String| -> Result<()> {
            let found = &file.tensor(&from)?.shape;
            if *found != shape {
                return Err(FileError::TensorShape {
                    path: path.to_owned(),
                    name: from,
                    found: found.clone(),
                    expected: shape,
                }
                .into());
            }
            let of_heads = rotated && (name.contains(".q_proj.") || name.contains(".k_proj."));
            tensors.push(Tensor {
                name,
                shape,
                from,
                head_dim: of_heads.then_some(parsed.head_dim),
            });
            Ok(())
        };
        for (name, shape) in parsed.tensors() {
            let from = gguf_name(&name).unwrap_or_else(|| name.clone());
            plan(format!("model.{name}"), shape, from)?;
        }
        if file.tensors().contains_key(names::OUTPUT) {
            let shape = vec![parsed.vocab_size, parsed.hidden_size];
            plan("lm_head.weight".into(), shape, names::OUTPUT.into())?;
        }
        let known: BTreeSet<&str> = tensors.iter().map(|of| of.from.as_str()).collect();
        let surplus = file.tensors().keys().map(String::as_str);
        let surplus = surplus.filter(|name| !known.contains(name) && *name != names::ROPE_FACTORS);
        let surplus: Vec<&str> = surplus.collect();
        if let Some(first) = surplus.first() {
            let count = surplus.len();
            return Err(FileError::Unusable {
                path: path.to_owned(),
                what: "model",
                reason: format!(
                    "{count} of its tensors have no place in the decoder, the first {first}"
                ),
            }
            .into());
        }
        Ok(Self {
            file,
            config,
            tensors,
        })
    }

    /// The file, for what it says of the tokenizer.
    #[must_use]
    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    /// The type of weights that fits the file: that of its embedding table, and bf16 where this is
    /// packed.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        let table = self.file.tensors().get(names::EMBEDDINGS);
        match table.map(|table| table.kind) {
            Some(GgufType::F32) => Dtype::F32,
            Some(GgufType::F16) => Dtype::F16,
            _ => Dtype::BF16,
        }
    }

    /// The text of `config.json`, for weights of this type.
    #[must_use]
    pub fn config_json(&self, dtype: Dtype) -> String {
        let mut config = self.config.clone();
        let name = match dtype {
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
            _ => "float32",
        };
        config.insert("dtype".into(), name.into());
        format!("{:#}\n", Value::Object(config))
    }

    /// Entries of the embedding table.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        let table = self.file.tensors().get(names::EMBEDDINGS);
        table.map_or(0, GgufTensor::rows)
    }

    /// The number of tensors that are written.
    #[must_use]
    pub fn num_tensors(&self) -> usize {
        self.tensors.len()
    }

    /// The number of weights.
    #[must_use]
    pub fn num_parameters(&self) -> usize {
        let sizes = self
            .tensors
            .iter()
            .map(|of| of.shape.iter().product::<usize>());
        sizes.sum()
    }

    /// Writes `model.safetensors`, a band of rows at a time.
    ///
    /// `progress` receives the number of written tensors and the number of all, after each tensor.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written, or a value is not finite in the type that is asked for.
    /// [`ModelError::Stopped`] if `progress` breaks off.
    pub fn write_weights(
        &self,
        path: &Path,
        dtype: Dtype,
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<()> {
        let heads = self.tensors.iter().map(|of| TensorHead {
            name: &of.name,
            dtype,
            shape: &of.shape,
        });
        let mut written = 0;
        write_tensors_in_parts(path, heads.collect(), |at, out| {
            self.write_tensor(&self.tensors[at], path, dtype, out)?;
            written += 1;
            match progress(written, self.tensors.len()) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(ModelError::Stopped),
            }
        })
    }

    fn write_tensor(
        &self,
        of: &Tensor,
        path: &Path,
        dtype: Dtype,
        out: &mut dyn Write,
    ) -> Result<()> {
        /// Values of a band; it stays in the cache until it is written.
        const BAND: usize = 1 << 20;
        let tensor = self.file.tensor(&of.from)?;
        let (rows, width) = (tensor.rows(), tensor.width());
        let band = (BAND / width).clamp(1, rows);
        let mut values = vec![0.0; band * width];
        for first in (0..rows).step_by(band) {
            let count = band.min(rows - first);
            let values = &mut values[..count * width];
            match of.head_dim {
                None => self.file.read_rows(tensor, first, values)?,
                // A bias: one row.
                Some(head_dim) if rows == 1 => {
                    self.file.read_rows(tensor, 0, values)?;
                    let in_file = values.to_vec();
                    for (at, value) in values.iter_mut().enumerate() {
                        *value = in_file[row_in_file(at, head_dim)];
                    }
                }
                Some(head_dim) => {
                    for (at, row) in values.chunks_mut(width).enumerate() {
                        let from = row_in_file(first + at, head_dim);
                        self.file.read_rows(tensor, from, row)?;
                    }
                }
            }
            let part = HostTensor::from_f32([count * width], values);
            let part = part.to_dtype(dtype).map_err(LoraError::NotAFloat)?;
            let not_finite = part.not_finite(dtype).map_err(LoraError::NotAFloat)?;
            if let Some(found) = not_finite {
                return Err(FileError::TensorNotFinite {
                    path: self.file.path().to_owned(),
                    name: of.from.clone(),
                    shape: of.shape.clone(),
                    found: NotFinite {
                        value: f64::from(values[found.first]),
                        ..found.from(first * width)
                    },
                    into: dtype,
                }
                .into());
            }
            out.write_all(&part.bytes)
                .map_err(FileError::writing(path))?;
        }
        Ok(())
    }
}
