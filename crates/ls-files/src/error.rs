//! [`FileError`]: a file's fault: where, what was found, what was expected, and the way out.

use std::io;
use std::path::{Path, PathBuf};

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
    #[error("{}: found more than {limit} bytes, expected at most that; this is not the file that is meant", path.display())]
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
            message: message[..end].to_string(),
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
