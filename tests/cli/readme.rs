//! The README, walked through as somebody new would: in a fresh copy of the repository's files
//! every `sh` block is run as it stands, one after the other, and figures that it shows are
//! compared.
//!
//! A block that cannot be run says why in a comment before it, `<!-- not run: REASON -->`. A `toml`
//! block whose first line is the name of a file is written there. What somebody with data and
//! models of their own has by these names stands in `own_files`: tiny ones. `cargo run` is the
//! program that is built already, so that nothing is compiled.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::runs::{csv, json_lines, reviews, sentences};
use crate::sandbox::{Sandbox, assert_no_panic};

/// Stands for cargo. What runs the tests runs them already.
const CARGO: &str = r#"#!/bin/sh
case "$*" in
"run -p ls-cli -- "*) shift 4; exec ls-cli "$@" ;;
"test --workspace") ;;
*) echo "cargo $*: not to be had here" >&2; exit 1 ;;
esac
"#;

/// A fenced block.
struct Block {
    /// The line of its fence, from 1.
    line: usize,
    language: String,
    /// Why it is not run.
    not_run: Option<String>,
    text: String,
}

/// The blocks of a page, and faults of the comments that keep some from being run.
fn blocks(page: &str) -> (Vec<Block>, Vec<String>) {
    let (mut blocks, mut faults): (Vec<Block>, Vec<String>) = Default::default();
    let mut open: Option<Block> = None;
    let mut reason: Option<String> = None;
    for (at, line) in page.lines().enumerate() {
        let fence = line.strip_prefix("```");
        match (&mut open, fence) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, Some(language)) => {
                if reason.is_some() && language != "sh" {
                    faults.push(format!("line {}: only a block of sh is run", at + 1));
                }
                open = Some(Block {
                    line: at + 1,
                    language: language.to_owned(),
                    not_run: reason.take(),
                    text: String::new(),
                });
            }
            (None, None) => {
                if let Some(reason) = reason.take() {
                    faults.push(format!("line {at}: no block behind `{reason}`"));
                }
                let comment = line.strip_prefix("<!-- not run:");
                reason = comment.map(|rest| rest.trim_end_matches("-->").trim().to_owned());
                if reason.as_deref() == Some("") {
                    faults.push(format!("line {}: not run, and no reason why", at + 1));
                }
            }
        }
    }
    faults.extend(open.map(|block| format!("line {}: it has no end", block.line)));
    (blocks, faults)
}

#[test]
fn blocks_are_found_and_comments_that_are_of_none() {
    let page = "<!-- not run: no network -->\n```sh\na\nb\n```\ntext\n```toml\n# c\n```\n";
    let (found, faults) = blocks(page);
    let found: Vec<_> = found
        .iter()
        .map(|b| {
            (
                b.line,
                b.language.as_str(),
                b.not_run.as_deref(),
                b.text.as_str(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (2, "sh", Some("no network"), "a\nb\n"),
            (7, "toml", None, "# c\n")
        ]
    );
    assert!(faults.is_empty());
    for page in [
        "<!-- not run: -->\n```sh\n```\n",
        "<!-- not run: a -->\n\n```sh\n```\n",
        "<!-- not run: a -->\n```toml\n```\n",
        "```sh\n",
    ] {
        assert_eq!(blocks(page).1.len(), 1, "{page}");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A copy of the files that git has, or would have, and the stand-in for cargo.
fn checkout() -> Sandbox {
    let sandbox = Sandbox::empty();
    let list = [
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ];
    let listed = Command::new("git").args(list).current_dir(root()).output();
    let listed = listed
        .expect("git lists the files of the repository")
        .stdout;
    for name in listed
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let name = std::str::from_utf8(name).unwrap();
        // One that is listed and gone is one whose removal is not committed yet.
        if let Ok(bytes) = std::fs::read(root().join(name)) {
            sandbox.write(name, bytes);
        }
    }
    assert!(sandbox.path("README.md").exists());
    sandbox.write("bin/cargo", CARGO);
    let program = sandbox.command(&[]).get_program().to_owned();
    std::os::unix::fs::symlink(program, sandbox.path("bin/ls-cli")).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    let may_run = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(sandbox.path("bin/cargo"), may_run).unwrap();
    sandbox
}

/// Runs lines of a shell, which must succeed; what it said.
fn sh(sandbox: &Sandbox, text: &str, place: &str) -> String {
    let program = sandbox.command(&[]);
    let mut shell = Command::new("sh");
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let outcome = shell
        .args(["-euc", text])
        .current_dir(sandbox.path(""))
        .env("PATH", format!("{}:{path}", sandbox.path("bin").display()))
        .env("HOME", sandbox.path("home"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.success(), "{place}\n{text}{said}");
    assert_no_panic(&said, place);
    format!("{}{said}", String::from_utf8_lossy(&outcome.stdout))
}

fn copy_folder(sandbox: &Sandbox, from: &str, to: &str) {
    std::fs::create_dir_all(sandbox.path(to)).unwrap();
    for name in sandbox.listing(from) {
        let (from, to) = (format!("{from}/{name}"), format!("{to}/{name}"));
        std::fs::copy(sandbox.path(&from), sandbox.path(&to)).unwrap();
    }
}

/// What somebody has who reads the README: models, data, adapters that peft wrote, answers.
fn own_files(sandbox: &Sandbox) {
    for model in ["llama-3.2-1b", "llama-2-7b"] {
        copy_folder(sandbox, "datasets/demo/model", model);
    }
    let reviews = csv(&reviews());
    for name in ["reviews.csv", "more-reviews.csv", "test.csv"] {
        sandbox.write(name, &reviews);
    }
    let sentence = |words: Vec<(&str, &str)>| {
        let lines = words.iter().map(|(word, tag)| format!("{word} {tag}\n"));
        lines.chain(["\n".to_owned()]).collect::<String>()
    };
    let sentences = sentences().into_iter().map(sentence).collect::<String>();
    sandbox.write("test.conll", &sentences);
    sandbox.write("mine.conll", sentences.replace("B-LOC", "O"));
    let labels = |labels: [&str; 4]| json_lines(labels.map(|label| json!({ "label": label })));
    sandbox.write("test.jsonl", labels(["pos", "neg", "pos", "neg"]));
    sandbox.write("a.jsonl", labels(["pos", "neg", "pos", "pos"]));
    sandbox.write("b.jsonl", labels(["neg", "neg", "pos", "pos"]));
    let trained = "\
        ls-cli train --model llama-3.2-1b --data test.conll --run runs/NAME\n\
        ls-cli export --run runs/NAME --out my-merged-tagger\n\
        ls-cli train --model llama-2-7b --data reviews.csv --run runs/elsewhere\n";
    sh(sandbox, trained, "what is trained before");
    for (run, folder) in [
        ("runs/NAME", "peft-folder"),
        ("runs/elsewhere", "my-peft-adapter"),
    ] {
        copy_folder(sandbox, &format!("{run}/best"), folder);
        // As peft leaves it.
        for name in ["ls_llama.json", "labels.json"] {
            std::fs::remove_file(sandbox.path(&format!("{folder}/{name}"))).unwrap();
        }
    }
}

/// The figures in the cells of a row behind its beginning.
fn figures(line: &str, row: &str) -> Vec<f64> {
    let cells = line[row.len()..]
        .split('|')
        .map(|cell| cell.trim().trim_matches('*'));
    let numbers = cells.filter_map(|cell| cell.split_whitespace().next()?.parse().ok());
    numbers.collect()
}

#[test]
fn every_block_of_the_readme_runs() {
    let sandbox = checkout();
    let page = sandbox.read("README.md");
    let (blocks, faults) = blocks(&page);
    assert!(faults.is_empty(), "README.md: {faults:?}");
    own_files(&sandbox);
    let mut run = 0;
    for block in &blocks {
        let place = format!("README.md:{}", block.line);
        let first = block.text.lines().next().unwrap_or_default();
        match block.language.as_str() {
            "sh" if block.not_run.is_some() => {}
            "sh" => {
                sh(&sandbox, &block.text, &place);
                run += 1;
            }
            "toml" => {
                let name = first
                    .strip_prefix("# ")
                    .filter(|name| name.ends_with(".toml"));
                if let Some(name) = name {
                    sandbox.write(name, &block.text);
                }
            }
            _ => {}
        }
    }
    assert!(run >= 8, "{run}");
    // The table's commands are blocks too, but for that of names.
    let names = "cargo run -p ls-cli -- train --config demo-ner";
    assert!(page.contains(&format!("`{names}`")));
    sh(&sandbox, names, "README.md, the table");
    let causal = format!("{names} --set model.attention=causal --run runs/demo-ner-causal");
    sh(&sandbox, &causal, "README.md, the table");
    shows(
        &sandbox,
        &page,
        "| sentiment, test accuracy |",
        "sentiment",
        "accuracy",
    );
    shows(
        &sandbox,
        &page,
        "| names, test span F1 |",
        "ner",
        "span_f1_micro",
    );
}

/// The row of a demo has the figures of its run: fine-tuned, the head alone, and the majority class
/// or the run with the causal mask, whichever is in the row. Another processor sums in another
/// order, and learns a little otherwise.
#[track_caller]
fn shows(sandbox: &Sandbox, page: &str, row: &str, demo: &str, metric: &str) {
    let of_run = |run: &str| sandbox.json(&format!("runs/demo-{run}/report.json"));
    let report = of_run(demo);
    let value = |scores: &Value| scores[metric].as_f64().unwrap();
    let baseline = |name: &str| {
        let all = report["baselines"].as_array().unwrap();
        let found = all.iter().find(|baseline| baseline["name"] == name);
        value(&found.unwrap()["scores"])
    };
    let mut found = vec![value(&report["scores"]), baseline("frozen backbone")];
    let line = page.lines().find(|line| line.starts_with(row)).unwrap();
    if line.contains("(majority class)") {
        found.push(baseline("majority class"));
    }
    if line.contains("(with the causal mask)") {
        found.push(value(&of_run(&format!("{demo}-causal"))["scores"]));
    }
    let shown = figures(line, row);
    assert_eq!(shown.len(), found.len(), "{line}");
    for (shown, found) in shown.iter().zip(found) {
        assert!(
            (shown - found).abs() < 0.05,
            "{shown}, found {found}: {line}"
        );
    }
}
