//! `cargo xtask fixtures`: the fixtures of the tests are the bytes that were recorded.
//!
//! `SHA256SUMS` is in the form of `sha256sum`, for the root of the repository. It holds what the
//! tests read, those of the whole and those of each crate; the scripts that make it and the texts
//! about it may change.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::check::{report, say};

/// Where the fixtures are: those of the whole here, and those of a crate here in its folder.
const FOLDER: &str = "tests/fixtures";
/// The recorded hashes, in the folder of the whole.
const SUMS: &str = "SHA256SUMS";

/// What to do with the fixtures.
#[derive(clap::Args)]
pub struct Args {
    /// Compare the files with the recorded hashes; also what happens after anything else.
    #[arg(long)]
    check: bool,
    /// Run every make.py first.
    #[arg(long, requires = "python")]
    remake: bool,
    /// The Python that runs them, with the packages that their heads name.
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// Record the hashes of the files as they are.
    #[arg(long, conflicts_with = "check")]
    record: bool,
}

/// Remakes, records and compares, as asked; compares in any case.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    if args.remake {
        let python = args.python.as_deref().context("--remake needs --python")?;
        remake(root, python)?;
    }
    if args.record {
        let sums = root.join(FOLDER).join(SUMS);
        fs::write(&sums, lines(&hashes(root)?))
            .with_context(|| format!("write {}", sums.display()))?;
    }
    check(root)
}

/// Compares the files with the recorded hashes.
pub fn check(root: &Path) -> Result<()> {
    let sums = root.join(FOLDER).join(SUMS);
    let recorded = fs::read_to_string(&sums).with_context(|| {
        format!(
            "read {} (`cargo xtask fixtures --record` writes it)",
            sums.display()
        )
    })?;
    let faults = differences(&parse(&recorded)?, &hashes(root)?);
    report("fixtures", &faults)
}

/// Every file of the fixtures.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = vec![root.join(FOLDER)];
    let of_crates = root.join("crates");
    for entry in children(&of_crates)? {
        folders.push(entry.join(FOLDER));
    }
    let mut files = Vec::new();
    for folder in folders.into_iter().filter(|folder| folder.is_dir()) {
        walk(&folder, &mut files)?;
    }
    Ok(files)
}

fn remake(root: &Path, python: &Path) -> Result<()> {
    let files = files(root)?.into_iter();
    for script in files.filter(|path| path.ends_with("make.py")) {
        say(format_args!("$ {} {}", python.display(), script.display()));
        let status = Command::new(python).arg(&script).status();
        let status = status.with_context(|| format!("run {}", python.display()))?;
        if !status.success() {
            bail!("{}: {status}", script.display());
        }
    }
    Ok(())
}

/// Name (from the root, with slashes) -> hash in hex.
type Hashes = BTreeMap<String, String>;

fn hashes(root: &Path) -> Result<Hashes> {
    let mut hashes = Hashes::new();
    for path in files(root)? {
        let relative = path.strip_prefix(root).unwrap_or(&path);
        let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        let name = parts.join("/");
        if is_data(&name) {
            let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            hashes.insert(name, hex(&Sha256::digest(&bytes)));
        }
    }
    Ok(hashes)
}

/// Whether the tests read it, rather than what makes or explains it.
fn is_data(name: &str) -> bool {
    let ends = [".py", ".pyc", ".md", "requirements.txt"];
    !name.ends_with(SUMS) && !ends.iter().any(|end| name.ends_with(end))
}

/// What is in a folder, by name.
fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(folder)?;
        entries.map(|entry| Ok(entry?.path())).collect()
    };
    let mut paths = read().with_context(|| format!("read {}", folder.display()))?;
    paths.sort();
    Ok(paths)
}

/// Every file below a folder.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for path in children(folder)? {
        if path.is_dir() {
            walk(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lines(hashes: &Hashes) -> String {
    hashes
        .iter()
        .map(|(name, hash)| format!("{hash}  {name}\n"))
        .collect()
}

fn parse(text: &str) -> Result<Hashes> {
    let mut hashes = Hashes::new();
    for (at, line) in text.lines().enumerate() {
        let parts = line
            .split_once("  ")
            .filter(|(hash, name)| hash.len() == 64 && !name.is_empty());
        let (hash, name) = parts.with_context(|| {
            format!("{SUMS}:{}: expected a hash, two spaces and a name", at + 1)
        })?;
        hashes.insert(name.to_string(), hash.to_string());
    }
    Ok(hashes)
}

fn differences(recorded: &Hashes, found: &Hashes) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, hash) in recorded {
        match found.get(name) {
            None => faults.push(format!("{name}: is missing")),
            Some(other) if other != hash => {
                faults.push(format!("{name}: is not the recorded file"))
            }
            Some(_) => {}
        }
    }
    let new = found.keys().filter(|name| !recorded.contains_key(*name));
    faults.extend(new.map(|name| format!("{name}: is not recorded")));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Hashes {
        pairs
            .iter()
            .map(|(name, hash)| (name.to_string(), hash.repeat(64)))
            .collect()
    }

    #[test]
    fn what_is_written_reads_back() {
        let hashes = of(&[("a/b c.json", "0"), ("d", "f")]);
        assert_eq!(parse(&lines(&hashes)).unwrap(), hashes);
        for text in ["abc  d\n", "\n", &format!("{} d\n", "0".repeat(64))] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("SHA256SUMS:1"), "{error}");
        }
    }

    #[test]
    fn differences_are_named() {
        let recorded = of(&[("changed", "0"), ("gone", "0"), ("same", "0")]);
        let found = of(&[("changed", "1"), ("new", "0"), ("same", "0")]);
        let expected = [
            "changed: is not the recorded file",
            "gone: is missing",
            "new: is not recorded",
        ];
        assert_eq!(differences(&recorded, &found), expected);
        assert!(differences(&found, &found).is_empty());
    }

    #[test]
    fn hashes_are_those_of_sha256sum() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hex(&Sha256::digest(b"")), empty);
    }

    #[test]
    fn scripts_and_texts_are_no_data() {
        for name in [
            SUMS,
            "parity/make.py",
            "parity/README.md",
            "a/__pycache__/b.pyc",
            "requirements.txt",
        ] {
            assert!(!is_data(name), "{name}");
        }
        assert!(is_data("parity/cases/a.safetensors") && is_data("parity/cases.json"));
    }
}
