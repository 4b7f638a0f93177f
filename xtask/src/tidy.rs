//! `cargo xtask tidy`: what neither rustfmt nor clippy looks at.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::check::{report, stdout};
use crate::widths;

/// Where every `.rs` file opens with a line saying what it holds.
const SOURCES: [&str; 4] = ["crates/", "xtask/", "benches/", "tests/"];
/// How the root of a crate begins whose documentation is its README.
const README: &str = "#![doc = include_str!(\"../README.md\")]\n";
/// Largest file, in bytes. Whoever clones gets every version of every file.
const LARGEST: usize = 1 << 20;
/// The one folder with larger files: the demo's checkpoint.
const LARGE: &str = "datasets/demo/model/";
/// Folders that an absolute path into somebody's machine begins with.
const PRIVATE: [&str; 4] = ["home", "root", "Users", "work"];

/// Checks every file of the repository at `root` that git does not ignore.
pub fn run(root: &Path) -> Result<()> {
    let mut git = Command::new("git");
    git.current_dir(root);
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let listing = stdout(&mut git).context("list the repository's files")?;
    let mut faults = Vec::new();
    for file in String::from_utf8_lossy(&listing).split('\0') {
        let path = root.join(file);
        // A file that is listed but gone is one whose removal is not committed yet.
        if !file.is_empty() && path.is_file() {
            let bytes = std::fs::read(&path).with_context(|| format!("read {file}"))?;
            faults.extend(file_faults(file, &bytes));
        }
    }
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).context("read Cargo.toml")?;
    // Without a changelog there is no heading either.
    let changelog = std::fs::read_to_string(root.join("CHANGELOG.md")).unwrap_or_default();
    faults.extend(changelog_fault(&changelog, &manifest));
    report("tidy", &faults)
}

fn file_faults(file: &str, bytes: &[u8]) -> Vec<String> {
    let mut faults = Vec::new();
    if bytes.len() > LARGEST && !file.starts_with(LARGE) {
        let size = bytes.len();
        faults.push(format!("{file}: {size} bytes, more than {LARGEST}"));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return faults;
    };
    let is_source = file.ends_with(".rs") && SOURCES.iter().any(|folder| file.starts_with(folder));
    let says_what_it_holds = text.starts_with("//! ") || text.starts_with(README);
    if is_source && !says_what_it_holds {
        faults.push(format!(
            "{file}:1: does not begin with a //! line that says what it holds"
        ));
    }
    for (line, width) in widths::too_wide(file, text) {
        faults.push(format!(
            "{file}:{line}: {width} columns of prose, more than {}",
            widths::WIDEST
        ));
    }
    for (at, line) in text.lines().enumerate() {
        if let Some(path) = private_path(line) {
            faults.push(format!("{file}:{}: absolute path {path}", at + 1));
        }
    }
    faults
}

/// The first absolute path into a home or work folder. A path that only contains such a folder
/// (`a/home/b`, a URL) is none.
fn private_path(line: &str) -> Option<String> {
    for (at, _) in line.match_indices('/') {
        let before = line[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || "._-~}/)*".contains(c)) {
            continue;
        }
        let path = &line[at + 1..];
        if PRIVATE.iter().any(|folder| {
            path.strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/'))
        }) {
            let end = path.find(|c: char| c.is_whitespace() || "\"'`,;)]}>".contains(c));
            return Some(format!("/{}", &path[..end.unwrap_or(path.len())]));
        }
    }
    None
}

/// Compares the changelog's newest heading with the version in the workspace's manifest.
fn changelog_fault(changelog: &str, manifest: &str) -> Option<String> {
    let heading = changelog.lines().find_map(|line| line.strip_prefix("## "));
    let newest = heading.and_then(|heading| heading.split_whitespace().next());
    let newest = newest.map(|version| version.trim_matches(['[', ']']));
    let version = workspace_version(manifest);
    match (newest, version) {
        (Some(newest), Some(version)) if newest == version => None,
        (newest, version) => Some(format!(
            "CHANGELOG.md: the newest heading is {}, the workspace's version {}",
            newest.unwrap_or("absent"),
            version.unwrap_or("absent"),
        )),
    }
}

/// `version` in the table `[workspace.package]`.
fn workspace_version(manifest: &str) -> Option<&str> {
    let lines = manifest
        .lines()
        .skip_while(|line| line.trim() != "[workspace.package]");
    let mut table = lines.skip(1).take_while(|line| !line.starts_with('['));
    let value =
        table.find_map(|line| line.strip_prefix("version")?.trim_start().strip_prefix('='))?;
    Some(value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Put together, so that this file passes its own check.
    fn absolute(folder: &str, rest: &str) -> String {
        format!("/{folder}/{rest}")
    }

    #[test]
    fn a_source_file_says_first_what_it_holds() {
        for text in ["//! What it is.\nuse std;\n", README] {
            assert!(file_faults("crates/a/src/lib.rs", text.as_bytes()).is_empty());
        }
        for text in ["use std;\n", "", "//!\n", "\n//! Late.\n"] {
            let faults = file_faults("tests/a.rs", text.as_bytes());
            assert_eq!(faults.len(), 1, "{text:?}");
            assert!(faults[0].starts_with("tests/a.rs:1: "), "{faults:?}");
        }
        assert!(file_faults("configs/a.toml", b"a = 1\n").is_empty());
    }

    #[test]
    fn large_files_are_only_the_demos_weights() {
        let bytes = vec![0xff; LARGEST + 1];
        assert!(file_faults("datasets/demo/model/model.safetensors", &bytes).is_empty());
        assert_eq!(
            file_faults("tests/fixtures/a.bin", &bytes),
            ["tests/fixtures/a.bin: 1048577 bytes, more than 1048576"]
        );
        assert!(file_faults("tests/fixtures/a.bin", &bytes[1..]).is_empty());
    }

    #[test]
    fn absolute_paths_into_somebodys_machine_are_found() {
        for folder in PRIVATE {
            let path = absolute(folder, "me/model");
            for line in [
                path.clone(),
                format!("open(\"{path}\")"),
                format!("a = '{path}', b"),
            ] {
                assert_eq!(private_path(&line).as_ref(), Some(&path), "{line:?}");
            }
            let url = format!("https://example.org{path} ./a{path} ${{ROOT}}{path} ~{path}");
            assert_eq!(private_path(&url), None);
        }
        assert_eq!(private_path("/rooted/x /workspace/y /usr/bin/env"), None);
        let faults = file_faults(
            "a.md",
            format!("one\nsee {}\n", absolute("home", "x")).as_bytes(),
        );
        assert_eq!(
            faults,
            [format!("a.md:2: absolute path {}", absolute("home", "x"))]
        );
    }

    #[test]
    fn the_changelog_is_at_the_workspaces_version() {
        let manifest = "[workspace]\nversion = \"9\"\n[workspace.package]\nedition = \"2024\"\nversion = \"0.1.0\"\n[x]\n";
        for changelog in [
            "# Changes\n\n## 0.1.0\n",
            "## [0.1.0] - 2026-01-01\n\n## 0.0.9\n",
            "## 0.1.0 (unreleased)\n",
        ] {
            assert_eq!(changelog_fault(changelog, manifest), None, "{changelog:?}");
        }
        let fault = changelog_fault("## 0.2.0\n## 0.1.0\n", manifest).unwrap();
        assert!(
            fault.ends_with("the newest heading is 0.2.0, the workspace's version 0.1.0"),
            "{fault}"
        );
        assert!(changelog_fault("", manifest).unwrap().contains("absent"));
        assert!(changelog_fault("## 0.1.0\n", "[package]\nversion = \"0.1.0\"\n").is_some());
    }
}
