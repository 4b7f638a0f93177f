//! One cache with Python: what either side fetches from a Hub on loopback, the other finds. Skipped
//! without a Python that has huggingface_hub: `python3`, or the one that `LS_LLAMA_PYTHON` names.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use ls_hub::{Cache, Files, RepoKind};

use crate::server::*;

fn python() -> Option<PathBuf> {
    let given = std::env::var_os("LS_LLAMA_PYTHON").map(PathBuf::from);
    let python = given.clone().unwrap_or_else(|| "python3".into());
    let output = Command::new(&python)
        .args(["-c", "import huggingface_hub"])
        .output();
    let found = output.is_ok_and(|output| output.status.success());
    assert!(
        found || given.is_none(),
        "LS_LLAMA_PYTHON has no huggingface_hub: {}",
        python.display()
    );
    if !found {
        ls_files::say("skipped: no python3 with huggingface_hub; LS_LLAMA_PYTHON names one");
    }
    found.then_some(python)
}

/// `snapshot_download` of `org/name` with further arguments; the folder that it returns.
fn snapshot(python: &Path, hub: &LoopbackHub, arguments: &str) -> PathBuf {
    let script = format!(
        "from huggingface_hub import snapshot_download\nprint(snapshot_download('org/name', {arguments}))"
    );
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(python)
        .args(["-c", &script])
        .env("HF_ENDPOINT", &hub.endpoint)
        .env("HF_HUB_CACHE", hub.cache.path())
        .env("HF_HOME", hub.cache.path().join("home"))
        // Plain HTTP: there is no Xet server here.
        .env("HF_HUB_DISABLE_XET", "1")
        .env_remove("HF_HUB_OFFLINE")
        .env_remove("HF_TOKEN")
        .output()
        .unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    PathBuf::from(String::from_utf8(stdout).unwrap().trim())
}

const NEEDED: &str =
    "allow_patterns=['*.json', '*.safetensors', 'tokenizer.model'], ignore_patterns=['original/*']";

#[test]
fn python_finds_what_was_fetched_here() {
    let Some(python) = python() else { return };
    let hub = LoopbackHub::model(sharded());
    let fetched = hub.fetch().unwrap();
    let before = hub.log().len();
    for arguments in [
        "local_files_only=True".to_string(),
        format!("local_files_only=True, revision='{COMMIT}'"),
    ] {
        let found = snapshot(&python, &hub, &arguments);
        assert_eq!(
            found.canonicalize().unwrap(),
            fetched.path.canonicalize().unwrap()
        );
    }
    assert_eq!(hub.log().len(), before);
    // Online it finds nothing more to fetch but what was not needed here.
    let downloads = hub.downloads().len();
    snapshot(&python, &hub, NEEDED);
    assert_eq!(hub.downloads().len(), downloads);
}

#[test]
fn what_python_fetched_is_found_here() {
    let Some(python) = python() else { return };
    let hub = LoopbackHub::model(sharded());
    let theirs = snapshot(&python, &hub, NEEDED);
    let at = "org/name".parse().unwrap();
    let cache = Cache::new(hub.cache.path());
    let found = cache.find(RepoKind::Model, &at, &Files::Weights).unwrap();
    assert_eq!(
        found.unwrap().canonicalize().unwrap(),
        theirs.canonicalize().unwrap()
    );
    let before = listing(&hub.repo_dir());
    assert_eq!(hub.fetch().unwrap().bytes_downloaded, 0);
    assert_eq!(listing(&hub.repo_dir()), before);
}

#[test]
fn either_waits_while_the_other_fetches() {
    let Some(python) = python() else { return };
    let hub = LoopbackHub::start(RepoKind::Model, sharded(), |request| {
        let files = sharded();
        let file = files
            .iter()
            .find(|file| request.path.ends_with(&file.sha256()))?;
        let is_shard = request.method == "GET" && file.path.starts_with("model-");
        is_shard.then(|| Answer {
            stall: Some(Duration::from_secs(3)),
            ..ranged(request, &file.bytes)
        })
    });
    std::thread::scope(|scope| {
        let theirs = scope.spawn(|| snapshot(&python, &hub, NEEDED));
        let ours = scope.spawn(|| hub.fetch().unwrap().path);
        let (theirs, ours) = (theirs.join().unwrap(), ours.join().unwrap());
        assert_eq!(theirs.canonicalize().unwrap(), ours.canonicalize().unwrap());
    });
    // Each shard was sent to one of the two.
    for path in [SHARD_1, SHARD_2] {
        let address = format!("/store/{}", hub.file(path).sha256());
        let downloads = hub.downloads();
        assert_eq!(
            downloads
                .iter()
                .filter(|request| request.path == address)
                .count(),
            1
        );
    }
}
