//! What every check needs: the repository's root, cargo, the output of a tool, and a list of
//! faults.

use std::fmt::Display;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The root of the repository in which cargo runs this program.
///
/// Clones that share a target folder share the program too, so it may have been compiled in
/// another.
pub fn root() -> Result<PathBuf> {
    let here =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = Path::new(&here).parent();
    root.map(Path::to_path_buf)
        .context("xtask stands at the top of the file system")
}

/// The cargo that started this program, so that a chosen toolchain stays chosen.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// What a command prints on stdout.
pub fn stdout(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name}: {}: {}", output.status, said.trim());
    }
    Ok(output.stdout)
}

/// Writes a line to stderr, as far as it takes it.
pub fn say(line: impl Display) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Prints what is wrong, one line each, and fails if anything is.
pub fn report(check: &str, faults: &[String]) -> Result<()> {
    for fault in faults {
        say(format_args!("{check}: {fault}"));
    }
    match faults.len() {
        0 => Ok(()),
        1 => bail!("{check}: 1 fault"),
        count => bail!("{check}: {count} faults"),
    }
}
