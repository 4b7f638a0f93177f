//! How a failed command ends: the error on stderr, one cause a line, its hint, the exit code.

use std::io;
use std::process::ExitCode;

use ls_hub::HubError;
use ls_train::TrainError;

/// A command that cannot be carried out as written.
#[derive(Debug)]
pub struct UsageError {
    /// What is wrong.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
}

impl UsageError {
    /// Without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }
}

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for UsageError {}

/// A command that failed, with a way out that only the command knows.
#[derive(Debug)]
pub struct WithHint {
    /// What is wrong.
    pub error: anyhow::Error,
    /// The way out.
    pub hint: String,
}

impl std::fmt::Display for WithHint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for WithHint {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.chain().next()
    }
}

/// A command that a signal ended. All that is to be said of it has been said.
#[derive(Debug)]
pub struct Stopped {
    /// The exit code.
    pub code: u8,
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stopped")
    }
}

impl std::error::Error for Stopped {}

/// Prints the error, one cause a line, with its hint where there is one, and returns the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    if let Some(stopped) = error.downcast_ref::<Stopped>() {
        return ExitCode::from(stopped.code);
    }
    eprintln!("error: {error}");
    let mut printed = error.to_string();
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        // Transparent wrappers repeat their cause.
        if !printed.contains(&text) {
            eprintln!("  caused by: {text}");
        }
        printed = text;
    }
    let hint = error.chain().find_map(|cause| {
        let known = cause.downcast_ref::<WithHint>();
        let hint = known.map(|known| known.hint.clone()).or_else(|| {
            cause
                .downcast_ref::<TrainError>()
                .and_then(TrainError::hint)
        });
        hint.or_else(|| {
            cause
                .downcast_ref::<UsageError>()
                .and_then(|usage| usage.hint.clone())
        })
    });
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
    ExitCode::from(if is_usage(error) { 2 } else { 1 })
}

fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<UsageError>()
            || cause
                .downcast_ref::<HubError>()
                .is_some_and(HubError::is_usage)
            || cause
                .downcast_ref::<TrainError>()
                .is_some_and(TrainError::is_usage)
    })
}

/// A reader that went away (`ls-cli predict ... | head`) is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().map(io::Error::kind)
    };
    error
        .chain()
        .any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}
