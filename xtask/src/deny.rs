//! `cargo xtask supply-chain`: what `deny.toml` asks of the dependencies, by cargo-deny.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::check::{cargo, say};

/// Licences, bans and sources always; advisories where their database can be fetched, which is
/// otherwise said aloud and no fault: without a network everything else still has to pass.
pub fn run(root: &Path) -> Result<()> {
    let deny = |args: &[&str]| {
        let mut command = cargo(root);
        command.arg("deny").args(args);
        command.status().context("run cargo deny")
    };
    let version = cargo(root).args(["deny", "--version"]).output();
    if !version.is_ok_and(|output| output.status.success()) {
        bail!("cargo-deny is missing: cargo install cargo-deny --locked");
    }
    if !deny(&["check", "licenses", "bans", "sources"])?.success() {
        bail!("cargo deny check licenses bans sources: see above, and deny.toml");
    }
    if !deny(&["fetch", "db"])?.success() {
        say("SKIPPED: advisories, because RustSec's database could not be fetched (see above)");
        return Ok(());
    }
    if !deny(&["check", "--disable-fetch", "advisories"])?.success() {
        bail!("cargo deny check advisories: see above, and deny.toml");
    }
    Ok(())
}
