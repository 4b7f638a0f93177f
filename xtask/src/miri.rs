//! `cargo xtask miri`: the modules that set the length of vectors by `unsafe`, under Miri.
//!
//! `tests/miri` is a package of these modules alone, so that Miri compiles rayon and rten-gemm and
//! no burn.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::check::say;

/// Why Miri is asked for less than it can check: rayon's threads outlive the program, and
/// crossbeam-epoch, by which they share work, casts integers to pointers and does what the stricter
/// of Miri's two models of borrowing forbids.
const FLAGS: &str = "-Zmiri-ignore-leaks -Zmiri-permissive-provenance -Zmiri-tree-borrows";

/// What Miri comes with.
const INSTALL: &str = "rustup toolchain install nightly --component miri,rust-src";

/// Runs the tests under Miri.
pub fn run(root: &Path) -> Result<()> {
    if !is_installed() {
        bail!("no Miri: {INSTALL}");
    }
    let status = miri(root)
        .args(["test", "--lib"])
        .status()
        .context("run cargo +nightly miri")?;
    if !status.success() {
        bail!("cargo +nightly miri test, in tests/miri: {status}");
    }
    Ok(())
}

/// Runs the tests under Miri if it is there, and else says that they are left out.
pub fn run_if_installed(root: &Path) -> Result<()> {
    if is_installed() {
        return run(root);
    }
    say(format_args!("left out: no Miri ({INSTALL})"));
    Ok(())
}

fn is_installed() -> bool {
    let mut command = nightly();
    command.args(["miri", "--version"]);
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    // Miri is a nightly's, and compiles the standard library from its source.
    let miri = command.status().is_ok_and(|status| status.success());
    let mut rustc = Command::new("rustc");
    let sysroot = clean(rustc.args(["+nightly", "--print", "sysroot"])).output();
    let source = sysroot.is_ok_and(|output| {
        let sysroot = String::from_utf8_lossy(&output.stdout);
        Path::new(sysroot.trim())
            .join("lib/rustlib/src/rust/library/Cargo.toml")
            .is_file()
    });
    miri && source
}

fn miri(root: &Path) -> Command {
    let mut command = nightly();
    command
        .arg("miri")
        .current_dir(root.join("tests/miri"))
        .env("CARGO_TARGET_DIR", root.join("target/miri-alone"))
        // Two threads show a race as well as sixty-four.
        .env("RAYON_NUM_THREADS", "2")
        .env("MIRIFLAGS", FLAGS);
    command
}

/// The cargo of the nightly toolchain. That of this program is another's, and says so in the
/// environment.
fn nightly() -> Command {
    let mut command = Command::new("cargo");
    clean(command.arg("+nightly"));
    command
}

fn clean(command: &mut Command) -> &mut Command {
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command
}
