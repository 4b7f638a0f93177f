//! `cargo xtask fetch-weights` and `fetch-data`: build `ls-fetch` and run it.

use std::path::Path;

use anyhow::{Context, Result};

use crate::check::cargo;

/// What is handed on to `ls-fetch`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// Names and options of `ls-fetch`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs the subcommand `what` of `ls-fetch` and ends as it ends. Its first build takes minutes, for
/// the Hub's client.
pub fn run(root: &Path, what: &str, args: &Args) -> Result<()> {
    let mut command = cargo(root);
    // A folder in the arguments is meant from where the user stands.
    command.current_dir(std::env::current_dir().context("find the current folder")?);
    command.args(["run", "-p", "ls-hub", "--features", "hub"]);
    command
        .args(["--bin", "ls-fetch", "--manifest-path"])
        .arg(root.join("Cargo.toml"));
    command.args(["--", what]).args(&args.args);
    let status = command.status().context("run cargo")?;
    if !status.success() {
        // ls-fetch has said why.
        std::process::exit(status.code().unwrap_or(1));
    }
    Ok(())
}
