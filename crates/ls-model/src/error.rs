//! [`ModelError`]: what is wrong with a checkpoint, a configuration or a batch.

use std::path::PathBuf;

use ls_lora::LoraError;

/// Result with a [`ModelError`].
pub type Result<T, E = ModelError> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file or folder could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The folder is not a Hugging Face checkpoint.
    #[error("{}: {reason}", path.display())]
    NotACheckpoint {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The file is not valid JSON, or not of the expected form.
    #[error("{}: not valid JSON: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// A field of `config.json` is absent, of the wrong type, or contradicts another field.
    #[error("{}: {field}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// Expected and found.
        reason: String,
    },
    /// A field of `config.json` asks for something that this crate does not implement.
    #[error("{}: {field} {value:?} is not supported (supported: {supported})", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field that names it.
        field: String,
        /// Its value.
        value: String,
        /// What is implemented.
        supported: String,
    },
    /// An attention mode does not parse or does not fit the model.
    #[error("attention mode {mode:?}: {reason}")]
    AttentionMode {
        /// The mode as written.
        mode: String,
        /// Why.
        reason: String,
    },
    /// No file holds a tensor that the configuration calls for.
    #[error("{}: tensor {name} is missing{}", path.display(), similar(.nearest))]
    TensorMissing {
        /// The file or index.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The most similar name in the files.
        nearest: Option<String>,
    },
    /// A tensor has another shape than the configuration gives it.
    #[error("{}: tensor {name} has shape {found:?}, expected {expected:?}", path.display())]
    TensorShape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The shape by the configuration.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A tensor's element type is none of a weight.
    #[error("{}: tensor {name} has element type {found}, expected F32, F16 or BF16", path.display())]
    TensorDtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The element type in the file.
        found: String,
    },
    /// The index names a shard that is absent.
    #[error("{}: shard {shard} is missing (the index places {tensors} tensors in it)", index.display())]
    ShardMissing {
        /// The index file.
        index: PathBuf,
        /// The shard's file name.
        shard: String,
        /// Number of tensors that the index places in it.
        tensors: usize,
    },
    /// A token id is past the model's vocabulary.
    #[error(
        "token id {id} of row {row} is past the model's vocabulary of {vocab_size}: the tokenizer is not this model's"
    )]
    TokenId {
        /// The id.
        id: u32,
        /// The row of the batch.
        row: usize,
        /// The model's vocabulary size.
        vocab_size: usize,
    },
    /// A row has no real token.
    #[error("row {row} of the batch has no tokens")]
    EmptyRow {
        /// The row of the batch.
        row: usize,
    },
    /// Ids and attention mask of a batch do not fit each other.
    #[error("row {row} of the batch: {reason}")]
    Batch {
        /// The row of the batch.
        row: usize,
        /// Expected and found.
        reason: String,
    },
    /// An adapter or a tensor file is at fault.
    #[error(transparent)]
    Lora(#[from] LoraError),
}

fn similar(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|name| format!(" (similar: {name})"))
        .unwrap_or_default()
}
