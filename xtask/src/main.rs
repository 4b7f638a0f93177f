//! Maintenance commands of the workspace: `cargo xtask ci` is what has to pass.
//!
//! Each module is one command. None imports a crate of the workspace: they read its files and run
//! its tools.

mod ci;
mod deps;
mod fetch;
mod fixtures;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
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
    Ci {
        /// Leave out the type check of the cuda feature, which compiles another set of
        /// dependencies.
        #[arg(long)]
        no_cuda: bool,
    },
    /// Checks which crates import which.
    Deps,
    /// Checks what rustfmt and clippy do not: first lines, the changelog, file sizes, absolute
    /// paths.
    Tidy,
    /// Compares the fixtures of the tests with their recorded hashes.
    Fixtures(fixtures::Args),
    /// Fetches pretrained models from the Hugging Face Hub into its cache:
    /// `fetch-weights llama-2-7b`, `--help` for more.
    FetchWeights(fetch::Args),
    /// Fetches data sets from the Hugging Face Hub into its cache: `fetch-data NAME`, `--help` for
    /// more.
    FetchData(fetch::Args),
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let root = root()?;
    match task {
        Task::Ci { no_cuda } => ci::run(&root, !no_cuda),
        Task::Deps => deps::run(&root),
        Task::Tidy => tidy::run(&root),
        Task::Fixtures(args) => fixtures::run(&root, &args),
        Task::FetchWeights(args) => fetch::run(&root, "weights", &args),
        Task::FetchData(args) => fetch::run(&root, "data", &args),
    }
}

/// The top of the repository: the one that cargo runs this in, which need not be the one it was
/// compiled in, where clones share a target folder.
fn root() -> Result<PathBuf> {
    let here =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = Path::new(&here).parent();
    root.map(Path::to_path_buf)
        .context("xtask stands at the top of the file system")
}

/// The cargo that started this program, so that a chosen toolchain stays chosen.
fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// What a command prints on stdout.
fn stdout(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name}: {}: {}", output.status, said.trim());
    }
    Ok(output.stdout)
}

/// Prints what is wrong, one line each, and fails if anything is.
fn report(check: &str, faults: &[String]) -> Result<()> {
    for fault in faults {
        eprintln!("{check}: {fault}");
    }
    match faults.len() {
        0 => Ok(()),
        1 => bail!("{check}: 1 fault"),
        count => bail!("{check}: {count} faults"),
    }
}
