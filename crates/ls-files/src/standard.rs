//! stdout and stderr: what cannot be said is lost, what cannot be printed is an error.
//!
//! The macros of the standard library (`println!`, `eprintln!`) panic where the other side is
//! closed or full. Nobody's work may end because its display does, so they are denied in the
//! workspace.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line to stderr, as far as it takes it: one that is closed, full, or a terminal that
/// went away is no fault of the work that is spoken of.
pub fn say(line: impl Display) {
    let _ = Stderr.write_all(format!("{line}\n").as_bytes());
}

/// stderr for whoever needs a writer. It takes everything, and loses what the system does not take.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What was to be printed did not reach stdout.
#[derive(Debug, thiserror::Error)]
pub enum StdoutError {
    /// Whoever read it went away, as `head` does once it has its lines. That is no failure, but
    /// nothing more need be printed.
    #[error("stdout is closed")]
    Closed,
    /// It is full, or broken.
    #[error("cannot write to stdout: {0}")]
    Failed(io::Error),
}

impl From<io::Error> for StdoutError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(error),
        }
    }
}

/// Prints on stdout, at once and whole.
///
/// # Errors
///
/// [`StdoutError`], also where the system would have told it only when the program ends.
pub fn print(text: impl AsRef<[u8]>) -> Result<(), StdoutError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_ref())?;
    Ok(stdout.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_told_from_a_full_disk() {
        let closed = StdoutError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(matches!(closed, StdoutError::Closed));
        let full = StdoutError::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.to_string(), "cannot write to stdout: no storage space");
    }
}
