//! The ls-llama command line: parse, run, print, exit.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 done, 2 the command line or the
//! configuration has to be changed, 1 something else failed, 101 a fault of this program, 128 + N
//! ended by signal N. The README tells 1 and 2 apart.

#![forbid(unsafe_code)]

mod args;
mod builtin;
mod colour;
mod commands;
mod device;
mod downloads;
mod error;
mod hub;
mod model;
mod numbers;
mod output;
mod pace;
mod panics;
mod part;
mod screen;
mod shell;
mod signals;
mod task;
mod training;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::args::{Args, Command};
use crate::error::UsageError;

fn main() -> ExitCode {
    panics::report();
    // Before the first thread starts, which the parser does not.
    ls_ops::device::prepare(device::kernels().as_deref());
    let command = Args::command().color(colour::of_help());
    let matches = command.try_get_matches();
    let args = match matches.and_then(|matches| Args::from_arg_matches(&matches)) {
        Ok(args) => args,
        Err(error) => return error::of_command_line(&error),
    };
    ls_train::allocator::keep_freed_memory();
    screen::set_up(&args.screen);
    if let Some((flags, way_out)) = screen::contradiction(&args.screen) {
        let message = format!("{flags} contradict each other");
        let hint = Some(way_out.into());
        return error::report(&UsageError { message, hint }.into());
    }
    let result = match args.command {
        Command::Train(args) => commands::train::run(&args),
        Command::Estimate(args) => commands::estimate::run(&args),
        Command::Sweep(args) => commands::sweep::run(&args),
        Command::Evaluate(args) => commands::evaluate::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Compare(args) => commands::compare::run(&args),
        Command::Predict(args) => commands::predict::run(&args),
        Command::Serve(args) => commands::serve::run(&args),
        Command::Score(args) => commands::score::run(&args),
        Command::Convert(args) => commands::convert::run(&args),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Init(args) => commands::init::run(&args),
        Command::Config(command) => commands::config::run(&command),
        Command::Export(args) => commands::export::run(&args),
        Command::Completions(args) => commands::completions::run(&args),
        Command::Man(args) => commands::man::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::report(&error),
    }
}
