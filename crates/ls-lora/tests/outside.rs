//! A project outside the workspace that depends on this crate by its path builds and trains.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Run by `cargo test --workspace --test outside -- --ignored`, a step of `cargo xtask ci`: after
/// any other choice of packages it would compile burn anew.
#[test]
#[ignore = "shares its dependencies with the build of the whole workspace only"]
fn a_project_of_its_own_builds_and_trains() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = here.join("../..");
    let project = tempfile::tempdir().unwrap();
    let project = project.path();
    let template = fs::read_to_string(here.join("tests/fixtures/outside/Cargo.toml.in")).unwrap();
    let path = here.display().to_string().replace('\\', "/");
    let manifest = template.replace("LS_LORA", &path);
    fs::write(project.join("Cargo.toml"), &manifest).unwrap();
    fs::create_dir(project.join("src")).unwrap();
    fs::copy(
        here.join("tests/fixtures/outside/main.rs"),
        project.join("src/main.rs"),
    )
    .unwrap();
    // The versions that this repository is tested with.
    fs::copy(workspace.join("Cargo.lock"), project.join("Cargo.lock")).unwrap();

    // cargo takes a compiled package again if version, features and profile are the same. A feature
    // can bring packages with features of their own, so this goes on until nothing is missing.
    let profiles = fs::read_to_string(workspace.join("Cargo.toml")).unwrap();
    let profiles = &profiles[profiles.find("\n[profile.").unwrap()..];
    let tested = features(&workspace, &["--workspace", "--edges", "normal,build,dev"]);
    let mut same = String::new();
    loop {
        fs::write(
            project.join("Cargo.toml"),
            format!("{manifest}{same}{profiles}"),
        )
        .unwrap();
        let own = features(project, &["--edges", "normal,build"]);
        let missing = same_features(&own, &tested);
        if missing.is_empty() {
            break;
        }
        same += &missing;
    }

    let tests = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let output = cargo(project, &["run", "--quiet"])
        .env("CARGO_TARGET_DIR", tests.parent().unwrap())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{stdout}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let line = stdout
        .lines()
        .find_map(|line| line.strip_prefix("loss "))
        .unwrap();
    let losses: Vec<f32> = line.split(' ').map(|loss| loss.parse().unwrap()).collect();
    let [first, last, reloaded] = losses[..] else {
        panic!("{stdout}");
    };
    assert!(last < first / 4.0, "{stdout}");
    assert!((reloaded - last).abs() < 1e-6, "{stdout}");
}

fn cargo(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(folder).args(args);
    command
}

/// Every package (`name v1.2.3`) that the project in `folder` is built with, and its features.
fn features(folder: &Path, choice: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let output = cargo(folder, &["tree", "--prefix", "none", "--format", "{p}|{f}"])
        .args(choice)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut packages: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        // An empty line stands between the trees of two members.
        let Some((package, features)) = line.trim_end_matches(" (*)").split_once('|') else {
            continue;
        };
        let features = features.split(',').filter(|feature| !feature.is_empty());
        packages
            .entry(package.to_string())
            .or_default()
            .extend(features.map(str::to_string));
    }
    packages
}

/// Dependencies that switch on what the workspace switches on and the project by itself would not.
fn same_features(
    own: &BTreeMap<String, BTreeSet<String>>,
    tested: &BTreeMap<String, BTreeSet<String>>,
) -> String {
    let mut manifest = String::new();
    for (package, features) in own {
        let Some(wanted) = tested.get(package).filter(|wanted| *wanted != features) else {
            continue;
        };
        let (name, version) = package.split_once(" v").unwrap();
        // A path in brackets belongs to our own crates.
        let Some(version) = version
            .split([' ', '+'])
            .next()
            .filter(|_| !package.contains('('))
        else {
            continue;
        };
        let key = format!("same-{name}-{version}").replace('.', "-");
        let _ = write!(
            manifest,
            "\n[dependencies.{key}]\npackage = {name:?}\nversion = \"={version}\"\ndefault-features = false\nfeatures = {:?}\n",
            wanted.iter().collect::<Vec<_>>()
        );
    }
    manifest
}
