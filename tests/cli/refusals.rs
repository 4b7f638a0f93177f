//! How each command refuses what is often wrong: the whole message and the exit code, as they are
//! stored. A stored file is a list of commands, each behind a `$`, with what it answers below; a
//! case is added by a line with the command alone, and written by the command that records.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::help::{commands, joined};
use crate::runs::{csv, json_lines, reviews, sequence, token, train};
use crate::sandbox::{Sandbox, assert_no_panic};
use crate::stored::{are_as_stored, folder};

/// What the commands find: a model, data, a run of texts and one of tags.
fn with_runs() -> Sandbox {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    let tags = token();
    sandbox.write("tags.toml", tags.read("run.toml"));
    sandbox.write("train.conll", tags.read("train.conll"));
    let tagger = ["train", "--config", "tags.toml", "--run", "tags"];
    sandbox.ok(&[&tagger[..], &["--set", "train.epochs=1"]].concat());
    let rows = reviews();
    sandbox.write("unlabelled.csv", "text\nthe film was good\n");
    sandbox.write("other-labels.csv", csv(&[(rows[0].0.clone(), "neither")]));
    sandbox.write("torn.csv", "text,label\n\"the film was good,pos\n");
    let short = [json!({"label": "pos"}), json!({"label": "neg"})];
    sandbox.write("two.jsonl", json_lines(short.clone()));
    sandbox.write("one.jsonl", json_lines(short[..1].to_vec()));
    sandbox.write("torn.jsonl", "{\"label\": \"pos\"}\n{\"label\": \n");
    sandbox.write("misspelt.toml", "task = \"sequence\"\n[train]\nepoch = 3\n");
    sandbox.write(
        "wrong-type.toml",
        sandbox
            .read("run.toml")
            .replace("epochs = 2", "epochs = \"two\""),
    );
    sandbox.write("torn.toml", "task = \"sequence\n");
    sandbox.write("other.csv", csv(&rows));
    sandbox.write("pages/ls-cli-train.1/mine.txt", "mine");
    train(&sandbox, "again", &["train.epochs=1"]);
    sandbox.write("again/report.json", "{}");
    sandbox.write("not.gguf", "GGUF no, this is text");
    sandbox.write("adapter/adapter_config.json", "{\"peft_type\": \"LORA\"}");
    sandbox
}

/// What a command of the shell answers: its exit code, and what it says.
fn answer(sandbox: &Sandbox, line: &str) -> String {
    let before = sandbox.files_and_folders();
    let shell = sandbox.command(&[]);
    let program = shell.get_program().to_owned();
    // By the name that messages show.
    let bin = sandbox.path("bin");
    if !bin.exists() {
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(program, bin.join("ls-cli")).unwrap();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let mut in_shell = Command::new("sh");
    for (name, value) in shell.get_envs() {
        match value {
            Some(value) => in_shell.env(name, value),
            None => in_shell.env_remove(name),
        };
    }
    drop(shell);
    let outcome = in_shell
        .args(["-c", line])
        .current_dir(sandbox.path(""))
        .env("PATH", format!("{}:{path}", bin.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| {
        // Whatever follows from where the sandbox is.
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let here = sandbox.path("");
        let real = here.canonicalize().unwrap();
        let [here, real] = [&here, &real].map(|path| path.display().to_string());
        text.replace(real.trim_end_matches('/'), "[here]")
            .replace(here.trim_end_matches('/'), "[here]")
    };
    let said = text(&outcome.stderr);
    assert_no_panic(&said, line);
    let mut after = sandbox.files_and_folders();
    let mut known = before;
    for files in [&mut after, &mut known] {
        // What is kept of encoded data may come and go, and the program's own link.
        files.retain(|name, _| !name.starts_with("cache/") && !name.starts_with("bin/"));
    }
    assert!(
        changed(&known, &after).is_empty(),
        "{line}: {:?}",
        changed(&known, &after)
    );
    let code = outcome.status.code().unwrap_or(-1);
    assert_ne!(code, 0, "{line}: {said}");
    // `init` says what it found before.
    let printed = text(&outcome.stdout);
    format!("$ {line}\nexit code {code}\n{printed}{said}\n")
}

/// The files and folders that were written or removed.
fn changed(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let names = before.keys().chain(after.keys());
    let mut changed: Vec<String> = names
        .filter(|name| before.get(*name) != after.get(*name))
        .cloned()
        .collect();
    changed.dedup();
    changed
}

#[test]
fn stored_refusals_of_every_command() {
    let sandbox = with_runs();
    let mut texts = Vec::new();
    for words in commands(&sandbox) {
        let name = format!("{}.txt", joined(&words));
        let stored = std::fs::read_to_string(folder("refusals").join(&name));
        let stored = stored.unwrap_or_default();
        let lines = stored.lines().filter_map(|line| line.strip_prefix("$ "));
        let lines: Vec<&str> = lines.collect();
        assert!(
            !lines.is_empty(),
            "tests/cli/stored/refusals/{name}: no case; write a line with a command, `$ ls-cli {}`",
            words.join(" ")
        );
        let called = format!("ls-cli {}", words.join(" "));
        let called = called.trim_end();
        let others = lines.iter().find(|line| !line.contains(called));
        assert_eq!(others, None, "{name}");
        let answers = lines.iter().map(|line| answer(&sandbox, line));
        texts.push((name, answers.collect::<String>()));
    }
    are_as_stored("refusals", &texts);
}
