//! [`convert_gguf`]: a GGUF file -> a Hugging Face folder.

use std::ops::ControlFlow;
use std::path::Path;

use ls_data::{TextTokenizer, tokenizer_from_gguf};
use ls_files::{Dtype, FileError, replace_folder, write_atomic};
use ls_model::{Checkpoint, GgufModel, ModelError};

use crate::error::Result;
use crate::new_folder::{create_above, new_folder};

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The type of the weights.
    pub dtype: Dtype,
    /// Their number.
    pub num_parameters: usize,
    /// Entries of the vocabulary.
    pub vocab_size: usize,
}

/// Writes `config.json`, `model.safetensors`, `tokenizer.json` and `tokenizer_config.json` of a
/// GGUF file into a new folder, which appears whole or not at all.
///
/// The tokenizer is made from the file's vocabulary, or is the one of the folder `tokenizer`.
/// Without `dtype` the weights have the type of the file's embedding table, and bf16 where that is
/// packed. `progress` receives the number of written tensors and the number of all, at first 0 of
/// them, and may break it off: nothing is left then.
///
/// # Errors
///
/// As [`GgufModel::open`], [`tokenizer_from_gguf`] and [`GgufModel::write_weights`]; if the folder
/// holds something, is the working directory or a mount point, or has no name; if `tokenizer` has
/// more tokens than the model. [`ModelError::Stopped`] if `progress` breaks off.
pub fn convert_gguf(
    file: &Path,
    folder: &Path,
    tokenizer: Option<&Path>,
    dtype: Option<Dtype>,
    mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Converted> {
    let folder = &new_folder(folder, "folder for the converted model")?;
    let model = GgufModel::open(file)?;
    let made = match tokenizer {
        None => Some(tokenizer_from_gguf(model.file().metadata(), file)?),
        Some(_) => None,
    };
    let dtype = dtype.unwrap_or_else(|| model.dtype());
    if progress(0, model.num_tensors()).is_break() {
        return Err(ModelError::Stopped.into());
    }
    create_above(folder)?;
    let mut vocab_size = 0;
    replace_folder(folder, |dir| {
        write_atomic(dir.join("config.json"), model.config_json(dtype))?;
        if let Some(made) = made {
            write_atomic(dir.join("tokenizer.json"), made.tokenizer)?;
            write_atomic(dir.join("tokenizer_config.json"), made.config)?;
        }
        // Before the weights are unpacked.
        let from = tokenizer.unwrap_or(dir);
        let tokenizer = TextTokenizer::from_dir(from)?;
        vocab_size = tokenizer.vocab_size();
        if vocab_size > model.vocab_size() {
            let reason = format!(
                "{vocab_size} tokens, and the model has {}",
                model.vocab_size()
            );
            return Err(FileError::Unusable {
                path: from.into(),
                what: "tokenizer for this model",
                reason,
            }
            .into());
        }
        if from != dir {
            tokenizer.copy_to(dir)?;
        }
        model.write_weights(&dir.join("model.safetensors"), dtype, progress)?;
        Checkpoint::open(dir)?;
        Ok::<_, crate::TrainError>(())
    })?;
    Ok(Converted {
        dtype,
        num_parameters: model.num_parameters(),
        vocab_size,
    })
}
