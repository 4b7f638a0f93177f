//! How a failed command ends: the error on stderr, one cause a line, its hint, the exit code.

use std::io::Write;
use std::process::ExitCode;

use ls_files::StdoutError;
use ls_hub::HubError;
use ls_train::TrainError;

use crate::screen::{self, Fault};
use crate::shell;

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
    if has_no_reader(error) {
        return ExitCode::SUCCESS;
    }
    if let Some(stopped) = error.downcast_ref::<Stopped>() {
        return ExitCode::from(stopped.code);
    }
    let message = error.to_string();
    let (mut causes, mut last) = (Vec::new(), message.clone());
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        // Transparent wrappers repeat their cause.
        if !last.contains(&text) {
            causes.push(text.clone());
        }
        last = text;
    }
    let code = if is_usage(error) { 2 } else { 1 };
    screen::fault(&Fault {
        message,
        causes,
        hint: hint(error),
        code,
        backtrace: None,
    });
    ExitCode::from(code)
}

/// The way out of an error, where there is one.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let known = cause.downcast_ref::<WithHint>();
        let hint = known.map(|known| known.hint.clone()).or_else(|| {
            cause
                .downcast_ref::<TrainError>()
                .and_then(TrainError::hint)
        });
        let hint = hint.or_else(|| match cause.downcast_ref::<TrainError>() {
            Some(TrainError::NoBestYet { path, .. }) => {
                Some(format!("go on with: {}", shell::resume(path, &[])))
            }
            _ => None,
        });
        hint.or_else(|| {
            cause
                .downcast_ref::<UsageError>()
                .and_then(|usage| usage.hint.clone())
        })
    })
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

/// A reader of stdout that went away (`ls-cli predict ... | head`) is no failure. Another pipe that
/// broke is one.
fn has_no_reader(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| matches!(cause.downcast_ref(), Some(StdoutError::Closed)))
}

/// Prints what clap has to say (help and version on stdout, faults of the command line on stderr)
/// and returns the exit code.
pub fn of_command_line(error: &clap::Error) -> ExitCode {
    let code = u8::try_from(error.exit_code()).unwrap_or(2);
    if error.use_stderr() && screen::json_is_asked_for(std::env::args_os()) {
        screen::fault_as_json(&Fault {
            message: error.to_string().trim_end().into(),
            causes: Vec::new(),
            hint: None,
            code,
            backtrace: None,
        });
        return ExitCode::from(code);
    }
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    match printed {
        Err(fault) if !error.use_stderr() => report(&StdoutError::from(fault).into()),
        _ => ExitCode::from(code),
    }
}
