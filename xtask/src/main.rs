//! Maintenance commands of the workspace: `cargo xtask ci` is what has to pass.
//!
//! Each command is a module. None imports a crate of the workspace: they read its files and run its
//! tools.

#![forbid(unsafe_code)]

mod check;
mod ci;
mod circles;
mod deny;
mod deps;
mod fetch;
mod fixtures;
mod gpu_parity;
mod miri;
mod results;
mod rust;
mod tidy;
mod widths;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Maintenance commands of the ls-llama workspace.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Every check, cheapest first; stops at the first that fails.
    Ci,
    /// Checks which crates import which.
    Deps,
    /// Checks what rustfmt and clippy do not: first lines, the width of prose, the changelog, file
    /// sizes, absolute paths.
    Tidy,
    /// Checks advisories, licences and sources of the dependencies (needs cargo-deny).
    SupplyChain,
    /// Compares the fixtures of the tests with their recorded hashes.
    Fixtures(fixtures::Args),
    /// Fetches pretrained models from the Hugging Face Hub into its cache:
    /// `fetch-weights llama-2-7b`, `--help` for more.
    FetchWeights(fetch::Args),
    /// Adds finished runs to the measured results, and writes their table in configs/README.md.
    Results(results::Args),
    /// Tests what computes on wgpu, without a GPU too, or on CUDA, and prints a table of errors.
    GpuParity(gpu_parity::Args),
    /// Runs the tests of the modules with `unsafe` under Miri, which a nightly toolchain has.
    Miri,
    /// Fetches data sets from the Hugging Face Hub into its cache: `fetch-data NAME`, `--help` for
    /// more.
    FetchData(fetch::Args),
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            check::say(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let root = check::root()?;
    match task {
        Task::Ci => ci::run(&root),
        Task::SupplyChain => deny::run(&root),
        Task::Deps => deps::run(&root),
        Task::Tidy => tidy::run(&root),
        Task::Fixtures(args) => fixtures::run(&root, &args),
        Task::GpuParity(args) => gpu_parity::run(&root, &args),
        Task::Results(args) => results::run(&root, &args),
        Task::Miri => miri::run(&root),
        Task::FetchWeights(args) => fetch::run(&root, "weights", &args),
        Task::FetchData(args) => fetch::run(&root, "data", &args),
    }
}
