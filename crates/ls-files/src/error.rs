//! [`FileError`]: a file's fault: where, what was found, what was expected, and the way out.

use std::io;
use std::path::{Path, PathBuf};

use safetensors::Dtype;

use crate::finite::NotFinite;
use crate::{did_you_mean, nearest, shown};

/// Result of this crate.
pub type Result<T, E = FileError> = std::result::Result<T, E>;

/// Everything that can be wrong with a file, whatever it holds.
///
/// Messages begin with `path:line:column` as far as the place is known, so that editors can jump to
/// it. Lines and columns count from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file does not exist.
    #[error("{}: no such file", path.display())]
    NotFound {
        /// File that was asked for.
        path: PathBuf,
    },
    /// The folder does not exist.
    #[error("{}: no such folder", path.display())]
    NoFolder {
        /// Folder that was asked for.
        path: PathBuf,
    },
    /// The file exists, but the system does not let it be read.
    #[error("{}: cannot read", path.display())]
    Read {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system does not let the file be written.
    #[error("{}: cannot write", path.display())]
    Write {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder, a pipe or a device stands where a regular file is needed.
    #[error("{}: found {found}, expected a regular file", path.display())]
    NotRegular {
        /// What was to be read.
        path: PathBuf,
        /// What it is: `a folder` or `a pipe or a device`.
        found: &'static str,
    },
    /// The file is too large to be read whole.
    #[error("{}: found more than {limit} bytes, expected at most that; check the path", path.display())]
    TooLarge {
        /// File that was to be read.
        path: PathBuf,
        /// Bytes that are read at most.
        limit: u64,
    },
    /// The bytes are not UTF-8.
    #[error("{}:{line}:{column}: byte 0x{byte:02x} is not valid UTF-8; save the file as UTF-8", path.display())]
    NotUtf8 {
        /// File that was read.
        path: PathBuf,
        /// Line of the first bad byte.
        line: usize,
        /// Byte position in the line (for CSV, in the field) of the first bad byte.
        column: usize,
        /// The first bad byte.
        byte: u8,
    },
    /// The text is not what its format asks for, or has a value of another type than is needed.
    #[error("{}:{line}:{column}: malformed {format}: {message}", path.display())]
    Malformed {
        /// File that was read.
        path: PathBuf,
        /// Line of the fault.
        line: usize,
        /// Column in the line.
        column: usize,
        /// `JSON` or `TOML`.
        format: &'static str,
        /// What the parser said.
        message: String,
    },
    /// The file ends before the data that its header announces.
    #[error("{}: truncated: {found} bytes, expected {expected}", path.display())]
    Truncated {
        /// File that was read.
        path: PathBuf,
        /// Bytes that it has.
        found: u64,
        /// Bytes that it should have, at least.
        expected: u64,
    },
    /// A shard that the index names is not there.
    #[error("{}: shard {shard} is missing (the index places {tensors} tensors in it)", path.display())]
    ShardMissing {
        /// The index.
        path: PathBuf,
        /// File name of the shard.
        shard: String,
        /// How many tensors would be in it.
        tensors: usize,
    },
    /// A tensor that must be there is not.
    #[error("{}: tensor {name} is missing{}", path.display(), did_you_mean(nearest))]
    TensorMissing {
        /// The file, or the index of several.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The most similar name that is there.
        nearest: Option<String>,
    },
    /// A tensor has another shape than is needed.
    #[error("{}: tensor {name} has shape {found:?}, expected {expected:?}", path.display())]
    TensorShape {
        /// File that was read.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The shape that it has.
        found: Vec<usize>,
        /// The shape that it should have.
        expected: Vec<usize>,
    },
    /// A tensor holds values of a type that cannot be used in its place.
    #[error("{}: tensor {name} has element type {found}, expected {expected}", path.display())]
    TensorDtype {
        /// File that was read.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The type that it has.
        found: Dtype,
        /// The types that can be used.
        expected: &'static str,
    },
    /// A tensor holds values that are no numbers, or none in the type that they are needed in.
    #[error(
        "{}: tensor {name}: {} of {} values {} NaN or infinite{}, the first {} at {:?}; expected numbers",
        path.display(),
        found.count,
        shape.iter().product::<usize>(),
        if found.count == 1 { "is" } else { "are" },
        if found.value.is_finite() { format!(" in {into}") } else { String::new() },
        found.value,
        place(found.first, shape),
    )]
    TensorNotFinite {
        /// File that was read.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// How many such values there are, and the first.
        found: NotFinite,
        /// The type that the values are needed in.
        into: Dtype,
    },
    /// The content is not what is needed, at no place in particular.
    #[error("{}: not a usable {what}: {reason}", path.display())]
    Unusable {
        /// File that was read.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// The index of a value by dimensions, from its flat one.
fn place(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut place: Vec<usize> = shape
        .iter()
        .rev()
        .map(|size| {
            let at = flat % (*size).max(1);
            flat /= (*size).max(1);
            at
        })
        .collect();
    place.reverse();
    place
}

impl FileError {
    /// Turns the system's error in reading `path` into this one, for `map_err`.
    ///
    /// ```
    /// # use ls_files::FileError;
    /// let path = std::path::Path::new("none.csv");
    /// let error = std::fs::File::open(path).map_err(FileError::reading(path)).unwrap_err();
    /// assert_eq!(error.to_string(), "none.csv: no such file");
    /// ```
    pub fn reading(path: &Path) -> impl Fn(io::Error) -> Self {
        |source| {
            let path = path.to_path_buf();
            match source.kind() {
                io::ErrorKind::NotFound => Self::NotFound { path },
                _ => Self::Read { path, source },
            }
        }
    }

    /// A tensor that is missing in `path`, with the most similar of the names that are there.
    pub fn tensor_missing<'a>(
        path: &Path,
        name: &str,
        available: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self::TensorMissing {
            path: path.to_path_buf(),
            name: name.to_owned(),
            nearest: nearest(name, available),
        }
    }

    /// Turns serde_json's error into this one; `line` is the line of `path` in which the JSON
    /// begins.
    pub fn json(path: &Path, line: usize, error: &serde_json::Error) -> Self {
        let message = error.to_string();
        // The place stands before the message, not behind it.
        let end = message.rfind(" at line ").unwrap_or(message.len());
        Self::Malformed {
            path: path.to_path_buf(),
            // Of an empty text it says line 1 or 0, column 0.
            line: line + error.line().saturating_sub(1),
            column: error.column().max(1),
            format: "JSON",
            message: shown(&message[..end]),
        }
    }

    /// Turns the system's error in writing `path` into this one, for `map_err`.
    pub fn writing(path: &Path) -> impl Fn(io::Error) -> Self {
        |source| Self::Write {
            path: path.to_path_buf(),
            source,
        }
    }
}
