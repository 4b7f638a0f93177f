//! `ls-cli config`: the schema and the reference that the repository has, and what a configuration
//! comes to, held against what a run writes.

use std::path::Path;

use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, says};

/// A file of `docs`, which a command writes.
#[track_caller]
fn is_as_stored(file: &str, args: &[&str]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(file);
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    let printed = Sandbox::empty().ok(args);
    let differ = stored
        .lines()
        .zip(printed.lines())
        .position(|(stored, printed)| stored != printed);
    let line = differ.unwrap_or(stored.lines().count().min(printed.lines().count())) + 1;
    let command = args.join(" ");
    assert!(
        stored == printed,
        "docs/{file} is not what the program prints, from line {line} on; write it by\n  \
         cargo run -p ls-cli -- {command} > docs/{file}"
    );
}

#[test]
fn the_schema_and_the_reference_are_those_of_the_repository() {
    is_as_stored("configuration.schema.json", &["config", "schema"]);
    is_as_stored("configuration.md", &["config", "docs"]);
}

/// Of the page that says them by the names of Trainer and peft.
#[test]
fn keys_that_are_told_to_users_of_trainer_are_keys() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let page = std::fs::read_to_string(docs.join("from-trainer.md")).unwrap();
    let schema = Sandbox::empty().ok(&["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let mut keys = 0;
    for word in page.split('`').skip(1).step_by(2) {
        let key = word.split(' ').next().unwrap();
        let Some((section, key)) = key.split_once('.') else {
            continue;
        };
        let section = &schema["properties"][section]["properties"];
        // `model.merge_and_unload()` is Python's, and files have other endings.
        if section.is_object() && !key.ends_with("()") {
            assert!(section.get(key).is_some(), "{word}: there is no such key");
            keys += 1;
        }
    }
    assert!(keys > 30, "{keys}");
}

#[test]
fn a_configuration_comes_to_what_its_run_writes() {
    let shown = |sandbox: &Sandbox, run: &str, set: &[&str]| {
        let run = format!("run={run}");
        let mut args = vec!["config", "show", "--config", "run.toml", "--set", &run];
        args.extend(set.iter().flat_map(|set| ["--set", set]));
        let before = sandbox.files();
        let outcome = sandbox.run(&args);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        assert!(sandbox.files() == before, "something was written");
        (outcome.stdout, outcome.stderr)
    };
    let texts = sequence();
    texts.edit_json(
        "model/config.json",
        serde_json::json!({ "is_causal": false }),
    );
    let set = [
        "train.epochs=1",
        "data.protocol=paper",
        "data.max_length=32",
    ];
    let (toml, open) = shown(&texts, "out", &set);
    assert_eq!(open, "");
    assert_contains(
        &toml,
        &[
            "pooling = \"mean\"",
            "padding = \"attended\"",
            "pad_to = 32",
        ],
    );
    train(&texts, "out", &set);
    assert_eq!(texts.read("out/config.toml"), toml);

    // What the tags decide is named.
    let words = token();
    let set = ["train.epochs=1", "train.micro_batch_size=auto"];
    let (toml, open) = shown(&words, "out", &set);
    assert_eq!(
        open,
        "open until train decides it: data.scheme (`labels` where no tag has a prefix such as B-), \
         train.metric_for_best_model: by the training data\n\
         open until train decides it: train.pass_size: by the memory that is free\n"
    );
    train(&words, "out", &set);
    let written = words.read("out/config.toml");
    let more: Vec<&str> = written
        .lines()
        .filter(|line| !toml.lines().any(|shown| shown == *line))
        .collect();
    assert_eq!(
        more,
        ["pass_size = 8", "metric_for_best_model = \"span_f1_micro\""]
    );
    assert_eq!(toml.lines().count() + 2, written.lines().count());
    // It is a configuration, and comes to itself.
    words.write("run.toml", &toml);
    assert_eq!(shown(&words, "out", &[]).0, toml);
}

#[test]
fn a_configuration_is_shown_without_its_model_and_refused_with_its_faults() {
    let sandbox = sequence();
    let show = |set: &[&str]| {
        let set = set.iter().flat_map(|set| ["--set", set]);
        let args = ["config", "show", "--config", "run.toml"]
            .into_iter()
            .chain(set);
        sandbox.run(&args.collect::<Vec<_>>())
    };
    let here = sandbox.path("gone").display().to_string();
    for (named, path) in [("gone", here.as_str()), ("org/name", "org/name")] {
        let outcome = show(&[&format!("model.path={named}")]);
        let open = format!(
            "open until train decides it: model.attention, model.pooling: by the model's \
             config.json, and {path} is not here\n"
        );
        says(&outcome, 0, &[&open]);
        let path = format!("path = \"{path}\"");
        assert_contains(&outcome.stdout, &[&path, "max_length = 256"]);
        assert!(
            !outcome.stdout.contains("attention ="),
            "{}",
            outcome.stdout
        );
    }
    // The run goes where it would go without --run.
    assert_contains(&show(&[]).stdout, &["/runs/run\""]);
    says(
        &show(&["train.epoch=1", "lora.r=0", "train.optimizer=adam"]),
        2,
        &[
            "run.toml: 3 faults",
            "unknown key train.epoch, did you mean train.epochs?",
            "`r` = 0",
        ],
    );
    says(
        &show(&["model.attention=from:2"]),
        2,
        &["layer 2 is past the last of 2 layers"],
    );
    sandbox.write("model/config.json", "{");
    says(&show(&[]), 1, &["config.json"]);
    says(
        &sandbox.run(&["config", "show", "--config", "none.toml"]),
        2,
        &["none.toml does not exist"],
    );
    says(&sandbox.run(&["config", "show"]), 2, &["--config <FILE>"]);
    // A built-in one, without its files.
    let empty = Sandbox::empty();
    let outcome = empty.run(&["config", "show", "--config", "demo-ner"]);
    says(&outcome, 0, &["config.json, and /", "/model is not here"]);
    assert_contains(&outcome.stdout, &["task = \"token\"", "/train.conll\""]);
    assert!(empty.files().is_empty());
}

#[test]
fn the_first_line_may_name_the_schema() {
    let sandbox = sequence();
    let text = sandbox.read("run.toml");
    let show = ["config", "show", "--config", "run.toml"];
    let without = sandbox.ok(&show);
    sandbox.write("run.toml", format!("#:schema ls-llama.schema.json\n{text}"));
    assert_eq!(sandbox.ok(&show), without);
}

/// A setting that `run_data.py` does not know stops every comparison with transformers + peft.
#[test]
fn the_script_of_comparisons_knows_what_configs_come_to() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let script = std::fs::read_to_string(root.join("benches/vs_peft/run_data.py")).unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(root.join("configs")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if !name.starts_with("smollm2-") {
            continue;
        }
        let path = path.to_str().unwrap();
        let shown = Sandbox::empty().ok(&["config", "show", "--config", path]);
        let mut section = String::new();
        for line in shown.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = format!("{}.", name.trim_end_matches(']'));
            } else if let Some((key, _)) = line.split_once(" = ") {
                let key = format!("\"{section}{key}\"");
                assert!(script.contains(&key), "{name}: {key}");
                count += 1;
            }
        }
    }
    assert!(count > 300, "{count}");
}
