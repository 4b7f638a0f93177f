//! The program `ls-fetch` against a Hub on loopback: what it prints, how it ends, and what the
//! environment tells it.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use ls_hub::RepoKind;

use crate::server::*;

/// The program with an environment of its own: `HF_HOME` is the folder in which `hub` is the cache.
fn program(hub: &LoopbackHub) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ls-fetch"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("HF_")
            || text.starts_with("HUGGINGFACE_")
            || text.starts_with("HUGGING_FACE_")
            || text.to_lowercase().ends_with("_proxy")
        {
            command.env_remove(name);
        }
    }
    command
        .env("HF_HOME", hub.cache.path())
        .env("HF_ENDPOINT", &hub.endpoint);
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn the_folder_and_the_commit_go_to_stdout() {
    let hub = LoopbackHub::model(sharded());
    let folder = hub
        .cache
        .path()
        .join("hub/models--org--name/snapshots")
        .join(COMMIT);
    let expected = format!("{}\torg/name@{COMMIT}\n", folder.display());
    let (code, stdout, stderr) = run(program(&hub).args(["weights", "org/name"]));
    assert_eq!(
        (code, stdout.as_str()),
        (Some(0), expected.as_str()),
        "{stderr}"
    );
    assert!(
        stderr.contains(&format!("org/name@main ({COMMIT}): 8 files, 505.16 kB, ")),
        "{stderr}"
    );
    assert!(stderr.contains("100 %: "), "{stderr}");
    assert!(!stderr.contains('\u{1b}'), "{stderr:?}");

    let (code, stdout, stderr) =
        run(program(&hub).args(["weights", "org/name", "--revision", COMMIT]));
    assert_eq!(
        (code, stdout.as_str(), stderr.as_str()),
        (Some(0), expected.as_str(), "")
    );
    let mut offline = program(&hub);
    offline
        .env("HF_HUB_OFFLINE", "1")
        .args(["weights", "org/name"]);
    assert_eq!(run(&mut offline).1, expected);
}

#[test]
fn as_much_is_said_as_is_asked_for() {
    for (flags, says_plan, says_progress) in [
        (&["--progress", "plain"][..], true, true),
        (&["--progress", "off"], true, false),
        (&["--quiet"], false, false),
    ] {
        let hub = LoopbackHub::model(single(noise(1000, 1)));
        let mut fetch = program(&hub);
        let (code, stdout, stderr) = run(fetch.args(["weights", "org/name"]).args(flags));
        assert_eq!((code, stdout.lines().count()), (Some(0), 1), "{stderr}");
        assert_eq!(
            stderr.contains(" files, "),
            says_plan,
            "{flags:?}: {stderr}"
        );
        assert_eq!(
            stderr.contains("100 %"),
            says_progress,
            "{flags:?}: {stderr}"
        );
        assert!(says_plan || stderr.is_empty(), "{stderr}");
        // Errors are said all the same.
        let (code, _, stderr) = run(program(&hub).args(["weights", "org/other"]).args(flags));
        assert_eq!(code, Some(1));
        assert!(
            stderr.contains("error: org/other: no such model"),
            "{stderr}"
        );
    }
    let hub = LoopbackHub::model(single(noise(1000, 1)));
    let mut both = program(&hub);
    let (code, _, stderr) = run(both.args(["weights", "a/b", "-q", "--progress", "off"]));
    assert_eq!(code, Some(2), "{stderr}");
}

#[test]
fn a_cache_folder_can_be_named() {
    let hub = LoopbackHub::model(single(noise(1000, 1)));
    let dir = tempfile::tempdir().unwrap();
    let mut named = program(&hub);
    named
        .args(["weights", "org/name", "--jobs", "1", "--cache-dir"])
        .arg(dir.path());
    let (code, stdout, _) = run(&mut named);
    assert_eq!(code, Some(0));
    assert!(stdout.starts_with(dir.path().to_str().unwrap()), "{stdout}");
    let mut variable = program(&hub);
    variable
        .args(["weights", "org/name"])
        .env("HF_HUB_CACHE", dir.path());
    assert_eq!(run(&mut variable).1, stdout);
}

#[test]
fn the_token_is_taken_from_the_environment_or_its_file() {
    let hub = LoopbackHub::start(RepoKind::Model, single(noise(1000, 1)), |request| {
        let may = request.to_store || request.header("authorization") == Some("Bearer hf_right");
        (!may).then(|| Answer::refusal(401, "GatedRepo", "restricted"))
    });
    let (code, stdout, stderr) = run(program(&hub).args(["weights", "org/name"]));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(
        stderr.contains(
            "error: org/name: gated: accept the licence at https://huggingface.co/org/name"
        ),
        "{stderr}"
    );
    let mut variable = program(&hub);
    variable
        .args(["weights", "org/name"])
        .env("HF_TOKEN", "hf_right");
    assert_eq!(run(&mut variable).0, Some(0));
    std::fs::write(hub.cache.path().join("token"), "hf_right\n").unwrap();
    assert_eq!(run(program(&hub).args(["weights", "org/name"])).0, Some(0));
    let mut disabled = program(&hub);
    disabled
        .args(["weights", "org/name"])
        .env("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
    assert_eq!(run(&mut disabled).0, Some(1));
}

#[test]
fn a_misspelt_name_is_found_out_before_anything_is_fetched() {
    let hub = LoopbackHub::model(single(noise(1000, 1)));
    let (code, stdout, stderr) = run(program(&hub).args(["weights", "org/name", "lama-2-7b"]));
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("did you mean `llama-2-7b`?"), "{stderr}");
    assert!(hub.log().is_empty());
    assert_eq!(run(program(&hub).args(["weights"])).0, Some(2));
    let (code, _, stderr) = run(program(&hub).args(["data", "name"]));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("`name`"), "{stderr}");
}

#[test]
fn one_model_that_fails_does_not_keep_the_others() {
    let hub = LoopbackHub::model(single(noise(1000, 1)));
    let (code, stdout, stderr) = run(program(&hub).args(["weights", "org/other", "org/name"]));
    assert_eq!(code, Some(1));
    assert_eq!(stdout.lines().count(), 1);
    assert!(
        stderr.contains("error: org/other: no such model"),
        "{stderr}"
    );
}

#[test]
fn the_short_names_are_listed() {
    let hub = LoopbackHub::model(vec![]);
    let (code, stdout, _) = run(program(&hub).args(["weights", "--list"]));
    assert_eq!(code, Some(0));
    let gated = "to be accepted at https://huggingface.co/meta-llama/Llama-2-7b-hf";
    assert!(
        stdout
            .lines()
            .any(|line| line.starts_with("llama-2-7b ") && line.ends_with(gated))
    );
    assert!(
        stdout
            .lines()
            .any(|line| line.starts_with("smollm2-135m ") && line.ends_with("apache-2.0"))
    );
}

#[test]
fn a_data_set_is_fetched() {
    let files = vec![
        RepoFile::small("README.md", "x"),
        RepoFile::large("data/train.jsonl", noise(1000, 1)),
    ];
    let hub = LoopbackHub::start(RepoKind::Dataset, files, no_script);
    let (code, stdout, stderr) = run(program(&hub).args(["data", "org/name"]));
    assert_eq!(code, Some(0), "{stderr}");
    let folder = stdout.split('\t').next().unwrap();
    assert_eq!(listing(std::path::Path::new(folder)), ["data/train.jsonl"]);
}

#[test]
fn a_program_that_was_killed_is_continued_by_the_next() {
    let weights = noise(400_000, 1);
    let script = {
        let weights = weights.clone();
        move |request: &Request| {
            let is_file = request.to_store && request.method == "GET" && request.nth == 0;
            is_file.then(|| Answer {
                stall: Some(Duration::from_secs(30)),
                ..ranged(request, &weights).cut(250_000)
            })
        }
    };
    let hub = LoopbackHub::start(RepoKind::Model, single(weights.clone()), script);
    let mut first = program(&hub);
    first
        .args(["weights", "org/name"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut first = first.spawn().unwrap();
    let id = hub.file("model.safetensors").id();
    let blobs = hub.cache.path().join("hub/models--org--name/blobs");
    let incomplete = blobs.join(format!("{id}.incomplete"));
    let start = Instant::now();
    while std::fs::metadata(&incomplete).map_or(0, |found| found.len()) < 250_000 {
        assert!(start.elapsed() < Duration::from_secs(20), "nothing arrived");
        std::thread::sleep(Duration::from_millis(20));
    }
    first.kill().unwrap();
    first.wait().unwrap();

    let (code, _, stderr) = run(program(&hub).args(["weights", "org/name"]));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stderr.contains("model.safetensors: goes on at 250.00 kB of 400.00 kB"),
        "{stderr}"
    );
    assert_eq!(std::fs::read(blobs.join(id)).unwrap(), weights);
    let last = hub.downloads().pop().unwrap();
    assert_eq!(
        (last.header("range"), last.sent),
        (Some("bytes=250000-399999"), 150_000)
    );
}
