//! [`ModelError`]: what is wrong with a checkpoint, a configuration or a batch.

use std::path::PathBuf;

use ls_files::FileError;
use ls_lora::LoraError;

/// Result with a [`ModelError`].
pub type Result<T, E = ModelError> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file cannot be read, or does not hold what is needed.
    #[error(transparent)]
    File(#[from] FileError),
    /// Who was told of the progress asked to stop.
    #[error("stopped before every tensor was written")]
    Stopped,
    /// The folder is not a Hugging Face checkpoint.
    #[error("{}: {reason}", path.display())]
    NotACheckpoint {
        /// The folder.
        path: PathBuf,
        /// What is missing.
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
    /// A list of layers does not parse or does not fit the model.
    #[error("layers {list:?}: {reason}")]
    Layers {
        /// The list as written.
        list: String,
        /// Why.
        reason: String,
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
    /// A mixed batch has a classifier that does not share the decoder of the first.
    #[error("part {part} of the mixed batch: its classifier is not on the decoder of part 0")]
    OtherDecoder {
        /// The part, from 0.
        part: usize,
    },
    /// An adapter or a tensor file is at fault.
    #[error(transparent)]
    Lora(#[from] LoraError),
}
