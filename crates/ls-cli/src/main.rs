//! The ls-llama command line: parse, run, print, exit.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 the run failed, 2 bad usage or configuration.

mod args;
mod builtin;
mod commands;
mod device;
mod hub;
mod output;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use ls_hub::HubError;
use ls_train::TrainError;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    ls_train::environment::keep_freed_memory();
    let filter = tracing_subscriber::EnvFilter::try_from_env("LS_LLAMA_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .without_time()
        .init();
    let result = match args.command {
        Command::Train(args) => commands::train::run(&args),
        Command::Evaluate(args) => commands::evaluate::run(&args),
        Command::Predict(args) => commands::predict::run(&args),
        Command::Score(args) => commands::score::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::from(if is_usage(&error) { 2 } else { 1 })
        }
    }
}

/// The error, one cause a line, and the way out where there is one.
fn report(error: &anyhow::Error) {
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
        let hint = cause
            .downcast_ref::<TrainError>()
            .and_then(TrainError::hint);
        hint.or_else(|| {
            cause
                .downcast_ref::<UsageError>()
                .and_then(|usage| usage.hint.clone())
        })
    });
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
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
