//! `ls-cli train`: what it learns, prints and leaves.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, jsonl};

#[test]
fn a_learnable_task_is_learned_and_leaves_a_whole_run_folder() {
    let sandbox = sequence();
    let set = [
        "train.epochs=30",
        "train.metric_for_best_model=loss",
        "train.baselines=true",
    ];
    let outcome = train(&sandbox, "out", &set);

    assert_whole(&sandbox, "out");
    let losses = losses(&sandbox, "out");
    assert_eq!(losses.len(), 150);
    assert!(losses[149] < losses[0] / 10.0, "{losses:?}");
    let report = sandbox.json("out/report.json");
    assert_eq!(report["scores"]["accuracy"], 1.0);
    let baselines: Vec<&Value> = report["baselines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|baseline| &baseline["name"])
        .collect();
    assert_eq!(baselines, ["majority class", "frozen backbone"]);
    assert_eq!(report["baselines"][0]["scores"]["accuracy"], 0.5);
    assert_contains(
        &outcome.stdout,
        &[
            "validation loss",
            "majority class",
            "frozen backbone",
            "out/best",
            "predict --run out",
            "evaluate --run out",
        ],
    );

    let (before, _) = outcome.stderr.split_once("training ...").unwrap();
    assert_contains(
        before,
        &[
            "train: 20 examples",
            "validation: 20 examples",
            "labels: neg 10, pos 10",
            "nothing is cut",
            "trainable params: 1,888 || all params: 14,128 || trainable%: 13.3635",
            "150 steps in 30 epochs of 5",
            "expected memory",
        ],
    );

    // The resolved configuration is whole, and means the same from anywhere.
    let config = ls_train::RunConfig::from_file(&sandbox.path("out/config.toml"), &[]).unwrap();
    assert_eq!(config.train.epochs, 30);
    assert!(config.data.train.unwrap().paths()[0].is_absolute() && config.model.path.is_absolute());
    let environment = sandbox.json("out/environment.json");
    assert_eq!(environment["seed"], 42);
    // The training file is the validation file too.
    assert_eq!(environment["sha256"].as_array().unwrap().len(), 3);
    assert_eq!(sandbox.json("out/best/labels.json"), json!(["neg", "pos"]));
}

/// Each way of adapting learns, and what it leaves predicts from its folder as it was evaluated in
/// training.
#[test]
fn every_variant_of_lora_learns_and_is_predicted_from() {
    let sandbox = sequence();
    sandbox.write("test.csv", csv(&reviews()));
    let variants: [(&str, &[&str]); 7] = [
        ("dora", &["lora.use_dora=true"]),
        ("rslora", &["lora.use_rslora=true", "lora.lora_alpha=8"]),
        ("pissa", &["lora.init_lora_weights=pissa"]),
        ("olora", &["lora.init_lora_weights=olora"]),
        (
            "embedding",
            &[
                "lora.target_modules=[\"embed_tokens\", \"q_proj\"]",
                "lora.bias=all",
            ],
        ),
        (
            "plus",
            &[
                "train.loraplus_lr_ratio=4",
                "lora.modules_to_save=[\"norm\"]",
            ],
        ),
        (
            "qlora",
            &[
                "model.quantization=nf4",
                "lora.init_lora_weights=orthogonal",
            ],
        ),
    ];
    for (name, set) in variants {
        let set = [set, &["data.test=test.csv", "train.epochs=4"]].concat();
        train(&sandbox, name, &set);
        let losses = losses(&sandbox, name);
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        assert!(last < 0.7 * first, "{name}: {first} to {last}");
        let report = sandbox.json(&format!("{name}/report.json"));
        let evaluated = sandbox.ok_json(&["evaluate", "--run", name, "--format", "json"]);
        let number = |value: &Value| value.as_f64().unwrap();
        assert_close(&[number(&evaluated["loss"])], &[number(&report["loss"])]);
        assert_eq!(
            evaluated["accuracy"], report["scores"]["accuracy"],
            "{name}"
        );
    }
    let settings = sandbox.json("qlora/best/ls_llama.json");
    assert_eq!(settings["quantization"], "nf4");
    // The converted form: no reader needs the decomposition.
    let config = sandbox.json("pissa/best/adapter_config.json");
    assert_eq!(
        (&config["init_lora_weights"], &config["r"]),
        (&json!(true), &json!(8))
    );
}

#[test]
fn train_without_arguments_needs_nothing_else() {
    let sandbox = Sandbox::empty();
    let set = ["--set", "train.epochs=1", "--set", "train.baselines=false"];
    let outcome = sandbox.run(&[&["train", "--run", "out"], &set[..]].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_whole(&sandbox, "out");
    assert_contains(&outcome.stdout, &["test accuracy"]);
    assert_contains(&outcome.stderr, &["test: "]);
    let answer = jsonl(&sandbox.ok(&["predict", "--run", "out", "a film"]));
    assert_eq!(answer[0]["scores"].as_object().unwrap().len(), 2);

    // The folder's name is free for the first run only. A handful of examples is enough to see it.
    let folder = format!("runs/demo-files-{}", env!("CARGO_PKG_VERSION"));
    let few: String = sandbox
        .read(&format!("{folder}/sentiment/validation.tsv"))
        .lines()
        .take(9)
        .map(|line| format!("{line}\n"))
        .collect();
    sandbox.write("few.tsv", few);
    let few = [
        "train",
        "--set",
        "data.train=few.tsv",
        "--set",
        "data.validation=few.tsv",
        "--set",
        "data.test=few.tsv",
    ];
    let unpacked = sandbox.files();
    for run in ["runs/demo-sentiment", "runs/demo-sentiment-2"] {
        sandbox.ok(&[
            &few[..],
            &set[..],
            &["--set", "data.labels=[\"negative\", \"positive\"]"],
        ]
        .concat());
        assert_whole(&sandbox, run);
    }
    let after = sandbox.files();
    assert!(
        unpacked.iter().all(|(path, bytes)| after[path] == *bytes),
        "files of the demonstration changed"
    );
}

#[test]
fn csv_tsv_and_jsonl_hold_the_same_examples() {
    let sandbox = sequence();
    let rows = reviews();
    let tsv: String = rows
        .iter()
        .enumerate()
        .map(|(id, (text, label))| format!("{id}\t{label}\t{text}\n"))
        .collect();
    sandbox.write("plain.tsv", tsv);
    sandbox.write(
        "train.jsonl",
        json_lines(
            rows.iter()
                .map(|(text, label)| json!({"id": 7, "sentence": text, "class": label})),
        ),
    );
    train(&sandbox, "csv", &[]);
    let files = ["data.train=plain.tsv", "data.validation=plain.tsv"];
    train(
        &sandbox,
        "tsv",
        &[
            &files[..],
            &["data.header=false", "data.text=2", "data.label=1"],
        ]
        .concat(),
    );
    let files = ["data.train=train.jsonl", "data.validation=train.jsonl"];
    train(
        &sandbox,
        "jsonl",
        &[&files[..], &["data.text=sentence", "data.label=class"]].concat(),
    );
    for run in ["tsv", "jsonl"] {
        assert_whole(&sandbox, run);
        assert_eq!(losses(&sandbox, run), losses(&sandbox, "csv"), "{run}");
    }
}

#[test]
fn a_pair_of_texts_is_more_than_its_first() {
    let sandbox = sequence();
    let rows = reviews()
        .into_iter()
        .map(|(text, label)| format!("a film,{text},{label}\n"));
    sandbox.write(
        "pairs.csv",
        ["text,second,label\n".to_owned()]
            .into_iter()
            .chain(rows)
            .collect::<String>(),
    );
    let files = ["data.train=pairs.csv", "data.validation=pairs.csv"];
    train(&sandbox, "first", &files);
    train(
        &sandbox,
        "pair",
        &[&files[..], &["data.text_pair=second", "train.epochs=30"]].concat(),
    );
    assert_eq!(sandbox.json("first/report.json")["scores"]["accuracy"], 0.5);
    assert_eq!(sandbox.json("pair/report.json")["scores"]["accuracy"], 1.0);
    let prediction = &sandbox.jsonl("pair/predictions.jsonl")[0];
    assert_eq!(
        (&prediction["text"], &prediction["text_pair"]),
        (&json!("a film"), &json!(reviews()[0].0))
    );
}

#[test]
fn conll_and_jsonl_hold_the_same_sentences_and_a_tagger_learns_them() {
    let sandbox = token();
    let objects = sentences().into_iter().map(|sentence| {
        let (words, tags): (Vec<&str>, Vec<&str>) = sentence.into_iter().unzip();
        json!({"words": words, "ner_tags": tags})
    });
    sandbox.write("train.jsonl", json_lines(objects));
    let outcome = train(&sandbox, "conll", &[]);
    train(
        &sandbox,
        "jsonl",
        &[
            "data.train=train.jsonl",
            "data.validation=train.jsonl",
            "data.tokens=words",
        ],
    );
    assert_eq!(losses(&sandbox, "conll"), losses(&sandbox, "jsonl"));
    for run in ["conll", "jsonl"] {
        assert_whole(&sandbox, run);
        assert_eq!(
            sandbox.json(&format!("{run}/report.json"))["scores"]["span_f1_micro"],
            1.0,
            "{run}"
        );
    }
    assert_contains(&outcome.stderr, &["labels: O 80, B-LOC 20, B-PER 20"]);
}

#[test]
fn what_is_cut_is_counted_before_training() {
    let sandbox = sequence();
    let outcome = train(&sandbox, "out", &["data.max_length=8"]);
    let (before, _) = outcome.stderr.split_once("training ...").unwrap();
    assert_contains(before, &["cut at data.max_length: 18 examples, 76 tokens"]);
    let outcome = sandbox.run(&["predict", "--run", "out", &reviews()[0].0, "a"]);
    assert_contains(&outcome.stderr, &["1 of 2 inputs were cut at 8 tokens"]);

    let sandbox = token();
    let cut = [
        "data.max_length=8",
        "data.long_inputs=truncate",
        "train.epochs=1",
    ];
    let outcome = train(&sandbox, "out", &cut);
    assert_contains(&outcome.stderr, &[" of 120 words"]);
    // Unless told to, a tagger loses nothing.
    let outcome = train(&sandbox, "windows", &cut[..1]);
    assert_contains(
        &outcome.stderr,
        &["nothing is cut", "longer than data.max_length: "],
    );
}

#[test]
fn a_seed_fixes_everything() {
    let sandbox = sequence();
    let run = |run: &str, seed: &str| {
        train(
            &sandbox,
            run,
            &[seed, "lora.lora_dropout=0.2", "train.eval_steps=2"],
        );
        left_behind(&sandbox, run)
    };
    let (first, again, other) = (
        run("first", "train.seed=1"),
        run("again", "train.seed=1"),
        run("other", "train.seed=2"),
    );
    assert_eq!(first.0, again.0);
    assert!(first.1 == again.1, "the adapters differ");
    assert_ne!(first.0, other.0);
    assert!(first.1 != other.1, "the adapters do not differ");
}

/// What a run leaves that does not depend on the machine's speed or memory: its metrics and its
/// best adapter.
fn left_behind(sandbox: &Sandbox, run: &str) -> (Vec<Value>, Vec<u8>) {
    let mut metrics = sandbox.jsonl(&format!("{run}/metrics.jsonl"));
    for record in &mut metrics {
        let record = record.as_object_mut().unwrap();
        assert!(record.remove("seconds").is_some());
        record.remove("data_seconds");
    }
    let adapter = sandbox.path(&format!("{run}/best/adapter_model.safetensors"));
    (metrics, std::fs::read(adapter).unwrap())
}

#[test]
fn gradient_checkpointing_changes_nothing_but_memory_and_time() {
    for sandbox in [sequence(), token()] {
        let common = ["lora.lora_dropout=0.2", "train.epochs=2"];
        let run = |run: &str, setting: &str| {
            train(&sandbox, run, &[&common[..], &[setting]].concat());
            left_behind(&sandbox, run)
        };
        let without = run("without", "train.gradient_checkpointing=false");
        let with = run("with", "train.gradient_checkpointing=true");
        assert_eq!(with.0, without.0);
        assert!(with.1 == without.1, "the adapters differ");
        let config = sandbox.read("with/config.toml");
        assert_contains(&config, &["gradient_checkpointing = true"]);
    }
}

#[test]
fn accumulated_gradients_are_those_of_one_batch() {
    for (sandbox, split) in [(sequence(), "whole"), (token(), "parts")] {
        let set = ["train.group_by_length=false", "train.epochs=2"];
        let whole = [&set[..], &["train.micro_batch_size=4"]].concat();
        let parts = [
            &set[..],
            &[
                "train.micro_batch_size=2",
                "train.gradient_accumulation_steps=2",
            ],
        ]
        .concat();
        // The token head has a dropout of its own.
        let dropout: &[&str] = if split == "parts" {
            &["model.classifier_dropout=0"]
        } else {
            &[]
        };
        train(&sandbox, "whole", &[&whole[..], dropout].concat());
        train(&sandbox, "parts", &[&parts[..], dropout].concat());
        assert_close(&losses(&sandbox, "parts"), &losses(&sandbox, "whole"));
    }
}

#[test]
fn the_side_of_the_padding_changes_nothing_in_training() {
    let sandbox = sequence();
    train(&sandbox, "right", &[]);
    train(&sandbox, "left", &["data.padding_side=left"]);
    assert_close(&losses(&sandbox, "left"), &losses(&sandbox, "right"));
}

#[test]
fn early_stopping_stops() {
    let sandbox = sequence();
    // The accuracy cannot get better than it is when everything is right.
    let outcome = train(
        &sandbox,
        "out",
        &["train.epochs=200", "train.early_stopping_patience=2"],
    );
    assert_contains(&outcome.stderr, &["stopped early: 2 evaluations"]);
    let evaluations = records(&sandbox, "out", "evaluation");
    let best = evaluations
        .iter()
        .rposition(|record| record["best"] == true)
        .unwrap();
    assert_eq!(evaluations.len(), best + 3);
    let report = sandbox.json("out/report.json");
    assert_eq!(report["steps"], evaluations.last().unwrap()["step"]);
    assert_eq!(report["best"]["step"], evaluations[best]["step"]);
    assert!(report["steps"].as_u64().unwrap() < 1000);
}

#[test]
fn eval_steps_say_when_to_evaluate() {
    let sandbox = sequence();
    // A step's values come while the next is computed; its record still stands in its place.
    let patience = "train.early_stopping_patience=1";
    let still = "train.learning_rate=1e-12";
    for (run, more, evaluated, steps) in [
        ("out", &[][..], &[4, 8, 10][..], 10),
        ("stopped", &[patience, still], &[4, 8], 8),
    ] {
        train(&sandbox, run, &[&["train.eval_steps=4"], more].concat());
        let mut expected: Vec<(u64, &str)> = (1..=steps).map(|step| (step, "step")).collect();
        expected.extend(evaluated.iter().map(|&step| (step, "evaluation")));
        expected.sort_by_key(|(step, kind)| (*step, *kind != "step"));
        let lines = sandbox.jsonl(&format!("{run}/metrics.jsonl"));
        let found: Vec<(u64, &str)> = lines
            .iter()
            .map(|line| {
                (
                    line["step"].as_u64().unwrap(),
                    line["kind"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(found, expected, "{run}");
        let seconds = |line: &Value| line["seconds"].as_f64().unwrap();
        let taken: f64 = records(&sandbox, run, "step").iter().map(seconds).sum();
        let told = sandbox.json(&format!("{run}/report.json"))["train_seconds"].as_f64();
        assert!(
            (taken / told.unwrap() - 1.0).abs() < 1e-6,
            "{run}: {taken} {told:?}"
        );
    }
}

#[test]
fn a_dropout_that_is_not_applied_is_named() {
    let sandbox = sequence();
    for (part, is_named) in [(0.1, true), (0.0, false)] {
        sandbox.model_with("model", &serde_json::json!({ "attention_dropout": part }));
        let outcome = train(&sandbox, &format!("out-{part}"), &["train.epochs=1"]);
        let said = "config.json: attention_dropout 0.1 is not applied";
        assert_eq!(
            outcome.stderr.contains(said),
            is_named,
            "{}",
            outcome.stderr
        );
        assert!(is_named || !outcome.stderr.contains("attention_dropout"));
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    let texts: String = (0..500).map(|n| format!("the film was {n}\n")).collect();
    sandbox.write("in.txt", texts);
    for args in [
        &["predict", "--run", "out", "--input", "in.txt"][..],
        &["evaluate", "--run", "out"],
        &["train", "--config", "run.toml", "--run", "again"],
    ] {
        let mut child = sandbox
            .command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
        assert!(!stderr.contains("error"), "{args:?}: {stderr}");
    }
    assert_whole(&sandbox, "again");
}
