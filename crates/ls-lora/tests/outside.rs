//! A project outside the workspace that depends on this crate by its path builds and trains.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Compiles burn once more, with the features of that project, so it is not among the tests of
/// every day: `cargo test --workspace --test outside -- --ignored`, which is a step of `cargo xtask
/// ci`.
#[test]
#[ignore = "compiles burn for a project of its own"]
fn a_project_of_its_own_builds_and_trains() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let project = tempfile::tempdir().unwrap();
    let template = fs::read_to_string(here.join("tests/fixtures/outside/Cargo.toml.in")).unwrap();
    let path = here.display().to_string().replace('\\', "/");
    fs::write(
        project.path().join("Cargo.toml"),
        template.replace("LS_LORA", &path),
    )
    .unwrap();
    fs::create_dir(project.path().join("src")).unwrap();
    fs::copy(
        here.join("tests/fixtures/outside/main.rs"),
        project.path().join("src/main.rs"),
    )
    .unwrap();
    // The versions that this repository is tested with.
    fs::copy(
        here.join("../../Cargo.lock"),
        project.path().join("Cargo.lock"),
    )
    .unwrap();

    let output = Command::new(env!("CARGO"))
        .current_dir(project.path())
        .args(["run", "--quiet"])
        // Kept between runs; the project's own folder is new each time.
        .env(
            "CARGO_TARGET_DIR",
            Path::new(env!("CARGO_TARGET_TMPDIR")).join("outside"),
        )
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
