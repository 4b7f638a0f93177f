//! The real binary on tiny models and data: what it leaves, what it prints, and how it refuses what it cannot use.

// clippy.toml allows it in the tests themselves only, not in what they share.
#![allow(clippy::unwrap_used)]

mod util;

use std::collections::BTreeMap;
use std::process::Stdio;

use ls_lora::{HostTensor, TensorFile, write_tensors};
use serde_json::{Value, json};
use util::{Outcome, Sandbox, jsonl, weights};

/// f32 sums in another order.
const SAME: f64 = 1e-5;

const SEQUENCE: &str = r#"
task = "sequence"
[model]
path = "model"
[lora]
r = 4
lora_alpha = 8
lora_dropout = 0.0
target_modules = "all-linear"
[data]
train = "train.csv"
validation = "train.csv"
[train]
epochs = 2
micro_batch_size = 4
learning_rate = 1e-2
"#;

const TOKEN: &str = r#"
task = "token"
[model]
path = "model"
attention = "bidirectional"
[lora]
r = 4
lora_alpha = 8
lora_dropout = 0.0
target_modules = "all-linear"
[data]
train = "train.conll"
validation = "train.conll"
[train]
epochs = 30
micro_batch_size = 4
learning_rate = 1e-2
"#;

/// What every finished run leaves.
const RUN_FOLDER: [&str; 12] = [
    "best/README.md",
    "best/adapter_config.json",
    "best/adapter_model.safetensors",
    "best/labels.json",
    "best/ls_llama.json",
    "best/tokenizer.json",
    "best/tokenizer_config.json",
    "config.toml",
    "environment.json",
    "metrics.jsonl",
    "predictions.jsonl",
    "report.json",
];

/// Twenty texts whose adjectives tell the class.
fn reviews() -> Vec<(String, &'static str)> {
    let things = ["film", "road", "old sea", "boat", "soup of the day"];
    let kinds = [
        ("good and warm", "pos"),
        ("bright", "pos"),
        ("bad and dull", "neg"),
        ("sad", "neg"),
    ];
    let texts = things
        .iter()
        .flat_map(|thing| kinds.map(|(kind, label)| (format!("the {thing} was {kind}"), label)));
    texts.collect()
}

/// Twenty sentences with persons and places.
fn sentences() -> Vec<Vec<(&'static str, &'static str)>> {
    let mut sentences = Vec::new();
    for person in ["Ann", "Bob", "Zoë", "Lin", "Peter"] {
        for place in ["Bern", "Lima", "Oslo", "Élan"] {
            sentences.push(vec![
                (person, "B-PER"),
                ("sold", "O"),
                ("boats", "O"),
                ("in", "O"),
                (place, "B-LOC"),
                (".", "O"),
            ]);
        }
    }
    sentences
}

fn csv(rows: &[(String, &str)]) -> String {
    let rows = rows.iter().map(|(text, label)| format!("{text},{label}\n"));
    ["text,label\n".to_owned()]
        .into_iter()
        .chain(rows)
        .collect()
}

fn json_lines(objects: impl IntoIterator<Item = Value>) -> String {
    objects
        .into_iter()
        .map(|object| format!("{object}\n"))
        .collect()
}

/// A folder with a model, the texts and a configuration.
fn sequence() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("run.toml", SEQUENCE);
    sandbox.write("train.csv", csv(&reviews()));
    sandbox
}

/// A folder with a model, the sentences and a configuration.
fn token() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("run.toml", TOKEN);
    let rows = |sentence: Vec<(&str, &str)>| -> String {
        sentence
            .iter()
            .map(|(word, tag)| format!("{word} {tag}\n"))
            .chain(["\n".to_owned()])
            .collect()
    };
    sandbox.write(
        "train.conll",
        sentences().into_iter().map(rows).collect::<String>(),
    );
    sandbox
}

fn train_args<'a>(run: &'a str, set: &[&'a str]) -> Vec<&'a str> {
    let set = set.iter().flat_map(|assignment| ["--set", assignment]);
    ["train", "--config", "run.toml", "--run", run]
        .into_iter()
        .chain(set)
        .collect()
}

/// Trains into `run`, which must succeed.
fn train(sandbox: &Sandbox, run: &str, set: &[&str]) -> Outcome {
    let outcome = sandbox.run(&train_args(run, set));
    assert_eq!(outcome.code, 0, "{set:?}: {}", outcome.stderr);
    outcome
}

/// The lines of a kind in a run's metrics.
fn records(sandbox: &Sandbox, run: &str, kind: &str) -> Vec<Value> {
    let mut records = sandbox.jsonl(&format!("{run}/metrics.jsonl"));
    records.retain(|record| record["kind"] == kind);
    records
}

fn losses(sandbox: &Sandbox, run: &str) -> Vec<f64> {
    records(sandbox, run, "step")
        .iter()
        .map(|step| step["loss"].as_f64().unwrap())
        .collect()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() < SAME,
            "{at}: {found}, expected {expected}"
        );
    }
}

/// The numbers in a JSON value, in order.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Number(number) => vec![number.as_f64().unwrap()],
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        Value::Object(values) => values.values().flat_map(numbers).collect(),
        _ => Vec::new(),
    }
}

/// The same with every number taken out.
fn without_numbers(value: &Value) -> Value {
    match value {
        Value::Number(_) => Value::Null,
        Value::Array(values) => values.iter().map(without_numbers).collect(),
        Value::Object(values) => Value::Object(
            values
                .iter()
                .map(|(key, value)| (key.clone(), without_numbers(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

#[track_caller]
fn assert_same_answers(found: &[Value], expected: &[Value]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(without_numbers(found), without_numbers(expected));
        assert_close(&numbers(found), &numbers(expected));
    }
}

/// Runs what must be refused: the exit code, what stderr must hold, and nothing on disk may change.
#[track_caller]
fn refused(sandbox: &Sandbox, args: &[&str], code: i32, says: &[&str]) -> Outcome {
    let before = sandbox.files();
    let outcome = sandbox.run(args);
    assert_eq!(outcome.code, code, "{args:?}: {}", outcome.stderr);
    assert!(
        outcome.stderr.starts_with("error: ") || outcome.stderr.contains("\nerror: "),
        "{}",
        outcome.stderr
    );
    for part in says {
        assert!(
            outcome.stderr.contains(part),
            "{args:?}: {part:?} is not in {}",
            outcome.stderr
        );
    }
    assert_eq!(outcome.stdout, "", "{args:?}");
    assert!(sandbox.files() == before, "{args:?} changed files");
    outcome
}

#[test]
fn a_learnable_task_is_learned_and_leaves_a_whole_run_folder() {
    let sandbox = sequence();
    let set = [
        "train.epochs=30",
        "train.metric_for_best_model=loss",
        "train.baselines=true",
    ];
    let outcome = train(&sandbox, "out", &set);

    assert_eq!(sandbox.listing("out"), RUN_FOLDER);
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
    for part in [
        "validation loss",
        "majority class",
        "frozen backbone",
        "out/best",
        "predict --run out",
        "evaluate --run out",
    ] {
        assert!(
            outcome.stdout.contains(part),
            "{part:?} is not in {}",
            outcome.stdout
        );
    }

    let (before, _) = outcome.stderr.split_once("training ...").unwrap();
    for part in [
        "train: 20 examples",
        "validation: 20 examples",
        "labels: neg 10, pos 10",
        "nothing is cut",
        "trainable params: 1,888 || all params: 14,128 || trainable%: 13.3635",
        "150 steps in 30 epochs of 5",
        "expected memory",
    ] {
        assert!(before.contains(part), "{part:?} is not in {before}");
    }

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

/// Each way of adapting learns, and what it leaves predicts from its folder as it was evaluated in training.
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
        let set = [set, &["data.test=test.csv"]].concat();
        train(&sandbox, name, &set);
        let losses = losses(&sandbox, name);
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        assert!(last < 0.7 * first, "{name}: {first} to {last}");
        let report = sandbox.json(&format!("{name}/report.json"));
        let evaluated = sandbox.ok(&["evaluate", "--run", name, "--format", "json"]);
        let evaluated: Value = serde_json::from_str(&evaluated).unwrap();
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
        assert_eq!(sandbox.listing(run), RUN_FOLDER);
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
        assert_eq!(sandbox.listing(run), RUN_FOLDER);
        assert_eq!(
            sandbox.json(&format!("{run}/report.json"))["scores"]["span_f1_micro"],
            1.0,
            "{run}"
        );
    }
    assert!(
        outcome.stderr.contains("labels: O 80, B-LOC 20, B-PER 20"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn what_is_cut_is_counted_before_training() {
    let sandbox = sequence();
    let outcome = train(&sandbox, "out", &["data.max_length=8"]);
    let (before, _) = outcome.stderr.split_once("training ...").unwrap();
    assert!(
        before.contains("cut at data.max_length: 18 examples, 76 tokens"),
        "{before}"
    );
    let outcome = sandbox.run(&["predict", "--run", "out", &reviews()[0].0, "a"]);
    assert!(
        outcome
            .stderr
            .contains("1 of 2 inputs were cut at 8 tokens"),
        "{}",
        outcome.stderr
    );

    let sandbox = token();
    let cut = [
        "data.max_length=8",
        "data.long_inputs=truncate",
        "train.epochs=1",
    ];
    let outcome = train(&sandbox, "out", &cut);
    assert!(
        outcome.stderr.contains(" of 120 words"),
        "{}",
        outcome.stderr
    );
    // Unless told to, a tagger loses nothing.
    let outcome = train(&sandbox, "windows", &cut[..1]);
    for part in ["nothing is cut", "longer than data.max_length: "] {
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
    }
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

/// What a run leaves that does not depend on the machine's speed or memory: its metrics and its best adapter.
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
        assert!(config.contains("gradient_checkpointing = true"), "{config}");
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
fn early_stopping_stops() {
    let sandbox = sequence();
    // The accuracy cannot get better than it is when everything is right.
    let outcome = train(
        &sandbox,
        "out",
        &["train.epochs=200", "train.early_stopping_patience=2"],
    );
    assert!(
        outcome.stderr.contains("stopped early: 2 evaluations"),
        "{}",
        outcome.stderr
    );
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
    train(&sandbox, "out", &["train.eval_steps=4"]);
    let steps: Vec<Value> = records(&sandbox, "out", "evaluation")
        .into_iter()
        .map(|record| record["step"].clone())
        .collect();
    assert_eq!(steps, [4, 8, 10]);
}

#[test]
fn a_validation_part_is_set_aside_and_found_again() {
    let sandbox = sequence();
    sandbox.write(
        "run.toml",
        SEQUENCE.replace("validation = \"train.csv\"", "validation_fraction = 0.3"),
    );
    let outcome = train(&sandbox, "out", &[]);
    for part in [
        "train: 14 examples",
        "validation: 6 examples",
        "labels: neg 7, pos 7",
        "labels: neg 3, pos 3",
    ] {
        assert!(
            outcome.stderr.contains(part),
            "{part:?} is not in {}",
            outcome.stderr
        );
    }
    let report = sandbox.json("out/report.json");
    let validation: Value = serde_json::from_str(&sandbox.ok(&[
        "evaluate",
        "--run",
        "out",
        "--split",
        "validation",
        "--format",
        "json",
    ]))
    .unwrap();
    assert_eq!(validation["accuracy"], report["scores"]["accuracy"]);
    assert_close(
        &[validation["loss"].as_f64().unwrap()],
        &[report["loss"].as_f64().unwrap()],
    );
    assert_eq!(validation["examples"], 6);
    let train: Value = serde_json::from_str(&sandbox.ok(&[
        "evaluate", "--run", "out", "--split", "train", "--format", "json",
    ]))
    .unwrap();
    assert_eq!(train["examples"], 14);
}

#[test]
fn evaluate_finds_the_scores_of_the_report() {
    let data = |sandbox: &Sandbox, from: &str, to: &str| sandbox.write(to, sandbox.read(from));
    for (sandbox, name, metric) in [
        (sequence(), "csv", "accuracy"),
        (token(), "conll", "span_f1_micro"),
    ] {
        let test = format!("test.{name}");
        data(&sandbox, &format!("train.{name}"), &test);
        // Too short to be perfect.
        train(
            &sandbox,
            "out",
            &[&format!("data.test={test}"), "train.epochs=2"],
        );
        let report = sandbox.json("out/report.json");
        assert_eq!(report["reported_split"], "test");
        for args in [&["--split", "test"][..], &[], &["--data", &test]] {
            let args = [&["evaluate", "--run", "out", "--format", "json"], args].concat();
            let mut scores: Value = serde_json::from_str(&sandbox.ok(&args)).unwrap();
            let object = scores.as_object_mut().unwrap();
            assert_close(
                &[object["loss"].as_f64().unwrap()],
                &[report["loss"].as_f64().unwrap()],
            );
            for key in [
                "split",
                "path",
                "protocol",
                "examples",
                "cut_examples",
                "cut_words",
                "loss",
            ] {
                assert!(object.shift_remove(key).is_some(), "{key}");
            }
            let mut expected = report["scores"].clone();
            // The model in the run folder is merged: its probabilities differ in the last digits.
            for key in ["log_loss", "ece"] {
                let taken = [&mut scores, &mut expected]
                    .map(|scores| scores.as_object_mut().unwrap().shift_remove(key));
                let [found, expected] = taken.map(|value| value.and_then(|value| value.as_f64()));
                assert_eq!(found.is_some(), expected.is_some());
                assert_close(&[found.unwrap_or(0.0)], &[expected.unwrap_or(0.0)]);
            }
            assert_eq!(scores, expected, "{args:?}");
        }
        let text = sandbox.ok(&["evaluate", "--run", "out"]);
        let value = report["scores"][metric].as_f64().unwrap();
        let line = text.lines().find(|line| line.starts_with(metric)).unwrap();
        assert!(line.ends_with(&format!("{value:.4}")), "{line}");
    }
}

#[test]
fn predict_reads_arguments_files_and_stdin_and_keeps_fields_and_order() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    let texts = ["the sea was sad", "a bright, \"warm\" film", "bad"];
    let answers = jsonl(&sandbox.ok(&[&["predict", "--run", "out"], &texts[..]].concat()));
    assert_eq!(answers.len(), 3);
    for (answer, text) in answers.iter().zip(texts) {
        let keys: Vec<&String> = answer.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["text", "label", "score", "scores"]);
        assert_eq!(answer["text"], text);
        let (neg, pos) = (
            answer["scores"]["neg"].as_f64().unwrap(),
            answer["scores"]["pos"].as_f64().unwrap(),
        );
        assert!((neg + pos - 1.0).abs() < SAME);
        assert_eq!(answer["label"], if pos > neg { "pos" } else { "neg" });
        assert_close(&[answer["score"].as_f64().unwrap()], &[neg.max(pos)]);
    }

    let objects = texts.iter().enumerate().map(
        |(id, text)| json!({"id": id, "text": text, "nested": {"a": [1, null]}, "label": "pos"}),
    );
    let lines = json_lines(objects);
    sandbox.write("in.jsonl", &lines);
    let from_file = jsonl(&sandbox.ok(&["predict", "--run", "out", "--input", "in.jsonl"]));
    for (id, (mut answer, expected)) in from_file.iter().cloned().zip(&answers).enumerate() {
        let object = answer.as_object_mut().unwrap();
        assert_eq!(object.shift_remove("id"), Some(json!(id)));
        assert_eq!(object.shift_remove("nested"), Some(json!({"a": [1, null]})));
        // The label it came with is not the answer's.
        assert_eq!(object.shift_remove("gold"), Some(json!("pos")));
        assert_eq!(answer, *expected);
    }

    let predict = ["predict", "--run", "out"];
    let stdin = |args: &[&str], input: &str| {
        let outcome = sandbox.run_with(&[&predict[..], args].concat(), input);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        jsonl(&outcome.stdout)
    };
    assert_eq!(stdin(&["--input", "-"], &lines), from_file);
    assert_eq!(stdin(&[], &lines), from_file);
    assert_eq!(stdin(&[], &texts.join("\n")), answers);
    sandbox.write("in.txt", texts.join("\r\n"));
    assert_eq!(
        jsonl(&sandbox.ok(&["predict", "--run", "out", "--input", "in.txt"])),
        answers
    );
    sandbox.write(
        "in.csv",
        "id,text\n1,the sea was sad\n2,\"a bright, \"\"warm\"\" film\"\n3,bad\n",
    );
    assert_eq!(
        jsonl(&sandbox.ok(&["predict", "--run", "out", "--input", "in.csv"])),
        answers
    );

    let printed = sandbox.ok(&[
        "predict",
        "--run",
        "out",
        "--input",
        "in.jsonl",
        "--output",
        "out.jsonl",
    ]);
    assert_eq!(printed, "");
    assert_eq!(sandbox.jsonl("out.jsonl"), from_file);
    let readers = |name: &str| std::fs::metadata(sandbox.path(name)).unwrap().permissions();
    assert_eq!(readers("out.jsonl"), readers("in.jsonl"));

    let text = sandbox.ok(&[&["predict", "--run", "out", "--format", "text"], &texts[..]].concat());
    for (line, answer) in text.lines().zip(&answers) {
        let score = answer["score"].as_f64().unwrap();
        assert_eq!(
            line,
            format!(
                "{}\t{score:.4}\t{}",
                answer["label"].as_str().unwrap(),
                answer["text"].as_str().unwrap()
            )
        );
    }
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn the_run_predictions_are_those_of_predict() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    let mut expected = sandbox.jsonl("out/predictions.jsonl");
    for (prediction, (_, label)) in expected.iter_mut().zip(reviews()) {
        assert_eq!(
            prediction.as_object_mut().unwrap().shift_remove("gold"),
            Some(json!(label))
        );
    }
    assert_same_answers(
        &jsonl(&sandbox.ok(&["predict", "--run", "out", "--input", "train.csv"])),
        &expected,
    );
}

#[test]
fn entities_stand_where_their_offsets_say() {
    let sandbox = token();
    train(&sandbox, "out", &[]);
    let text = "«Zoë» sold  boats in Élan. Ann sold\tboats in Oslo…";
    let predict = ["predict", "--run", "out"];
    let answer = jsonl(&sandbox.ok(&[&predict[..], &[text]].concat())).remove(0);
    assert_eq!(answer["text"], text);
    let entities = answer["entities"].as_array().unwrap();
    let found: Vec<(&str, &str)> = entities
        .iter()
        .map(|entity| {
            (
                entity["type"].as_str().unwrap(),
                entity["text"].as_str().unwrap(),
            )
        })
        .collect();
    assert!(
        found.contains(&("LOC", "Élan")) && found.contains(&("PER", "Ann")),
        "{found:?}"
    );
    check_offsets(&answer, text);

    // A list of words is joined by spaces; with a text beside it that splits into the same words, the text counts.
    let words = ["Zoë", "sold", "boats", "in", "Élan", "."];
    let lines = json_lines([
        json!({"id": "a", "tokens": words, "tags": ["O", "O", "O", "O", "O", "O"]}),
        json!({"tokens": words, "text": "Zoë sold boats in  Élan."}),
        json!({"tokens": words, "text": "six other words are in here"}),
    ]);
    sandbox.write("in.jsonl", lines);
    let answers = jsonl(&sandbox.ok(&["predict", "--run", "out", "--input", "in.jsonl"]));
    assert_eq!(
        (&answers[0]["id"], &answers[0]["gold"][0]),
        (&json!("a"), &json!("O"))
    );
    let joined = words.join(" ");
    for (answer, text) in answers
        .iter()
        .zip([&*joined, "Zoë sold boats in  Élan.", &*joined])
    {
        assert_eq!(
            answer["tags"],
            json!(["B-PER", "O", "O", "O", "B-LOC", "O"])
        );
        check_offsets(answer, text);
    }

    let conll = sandbox.ok(&[
        "predict",
        "--run",
        "out",
        "--input",
        "train.conll",
        "--format",
        "conll",
    ]);
    assert_eq!(conll.replace('\t', " "), sandbox.read("train.conll"));
    let lines = sandbox.ok(&["predict", "--run", "out", "--format", "text", &joined]);
    let entity = &answers[0]["entities"][0];
    assert!(
        lines.starts_with(&format!(
            "PER\tZoë\t0-3\t{:.4}\nLOC\tÉlan\t18-22\t",
            entity["score"].as_f64().unwrap()
        )),
        "{lines}"
    );
}

#[track_caller]
fn check_offsets(answer: &Value, text: &str) {
    let characters: Vec<char> = text.chars().collect();
    let tokens: Vec<&str> = answer["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token.as_str().unwrap())
        .collect();
    for entity in answer["entities"].as_array().unwrap() {
        let at = |key: &str| usize::try_from(entity[key].as_u64().unwrap()).unwrap();
        let slice: String = characters[at("start")..at("end")].iter().collect();
        assert_eq!(entity["text"], slice);
        assert!(
            slice.starts_with(tokens[at("first_token")])
                && slice.ends_with(tokens[at("last_token")]),
            "{entity}"
        );
    }
}

#[test]
fn a_model_with_its_adapter_answers_as_the_run_does() {
    for (sandbox, task, text) in [
        (sequence(), "sequence", "the film was sad"),
        (token(), "token", "Zoë sold boats in Bern ."),
    ] {
        train(&sandbox, "out", &[]);
        let pretrained = [
            "predict",
            "--model",
            "model",
            "--adapter",
            "out/best",
            "--task",
            task,
        ];
        let of_run = sandbox.ok(&["predict", "--run", "out", text, "the sea"]);
        assert_eq!(
            sandbox.ok(&[&pretrained[..], &[text, "the sea"]].concat()),
            of_run
        );
        // Other names for the same labels.
        if task == "sequence" {
            let named =
                jsonl(&sandbox.ok(&[&pretrained[..], &["--labels", "minus,plus", text]].concat()))
                    .remove(0);
            assert_eq!(named["scores"]["minus"], jsonl(&of_run)[0]["scores"]["neg"]);
        }
    }
}

#[test]
fn an_answer_does_not_depend_on_its_batch() {
    let texts = [
        "bad",
        "the old sea was bright and warm and good",
        "Ann sold boats in Bern .",
        "a film of the day",
        "Zoë",
    ];
    let cases = [
        (sequence(), &[][..]),
        (
            sequence(),
            &[
                "model.attention=bidirectional",
                "model.pooling=max",
                "data.padding_side=left",
            ],
        ),
        (token(), &["train.epochs=3"]),
        // Every row is padded to the same length, alone or not.
        (
            sequence(),
            &[
                "model.attention=bidirectional",
                "data.padding=attended",
                "data.max_length=24",
                "data.pad_to=24",
            ],
        ),
    ];
    for (sandbox, set) in cases {
        train(&sandbox, "out", set);
        let together = jsonl(&sandbox.ok(&[&["predict", "--run", "out"], &texts[..]].concat()));
        let alone: Vec<Value> = texts
            .iter()
            .flat_map(|text| jsonl(&sandbox.ok(&["predict", "--run", "out", text])))
            .collect();
        assert_same_answers(&alone, &together);
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
fn attention_and_attended_padding_change_the_answers() {
    let sandbox = sequence();
    let set = [
        "model.attention=bidirectional",
        "data.max_length=24",
        "data.pad_to=24",
    ];
    train(&sandbox, "masked", &set);
    train(
        &sandbox,
        "attended",
        &[&set[..], &["data.padding=attended"]].concat(),
    );
    let differ = |a: &[f64], b: &[f64]| a.iter().zip(b).any(|(a, b)| (a - b).abs() > 100.0 * SAME);
    assert!(differ(
        &losses(&sandbox, "masked"),
        &losses(&sandbox, "attended")
    ));

    let text = "the film was bad";
    let model = [
        "predict",
        "--model",
        "model",
        "--adapter",
        "masked/best",
        "--task",
        "sequence",
        "--pooling",
        "mean",
    ];
    let scores = |attention: &str| {
        numbers(
            &jsonl(&sandbox.ok(&[&model[..], &["--attention", attention, text]].concat()))[0]["scores"],
        )
    };
    let of_run = numbers(&jsonl(&sandbox.ok(&["predict", "--run", "masked", text]))[0]["scores"]);
    assert_close(&scores("bidirectional"), &of_run);
    assert!(differ(&scores("causal"), &of_run));
    assert!(differ(&scores("from:1"), &of_run) && differ(&scores("from:1"), &scores("causal")));
    assert_close(&scores("groups:11"), &of_run);
}

#[test]
fn train_without_arguments_needs_nothing_else() {
    let sandbox = Sandbox::empty();
    let set = ["--set", "train.epochs=1", "--set", "train.baselines=false"];
    let outcome = sandbox.run(&[&["train", "--run", "out"], &set[..]].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_eq!(sandbox.listing("out"), RUN_FOLDER);
    assert!(
        outcome.stdout.contains("test accuracy"),
        "{}",
        outcome.stdout
    );
    assert!(outcome.stderr.contains("test: "), "{}", outcome.stderr);
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
        assert_eq!(sandbox.listing(run), RUN_FOLDER);
    }
    let after = sandbox.files();
    assert!(
        unpacked.iter().all(|(path, bytes)| after[path] == *bytes),
        "files of the demonstration changed"
    );
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
        assert!(
            !stderr.contains("error") && !stderr.contains("panicked"),
            "{args:?}: {stderr}"
        );
    }
    assert_eq!(sandbox.listing("again"), RUN_FOLDER);
}

#[test]
fn bad_sequence_data_is_refused_by_path_and_line() {
    let sandbox = sequence();
    sandbox.write("empty.csv", "");
    sandbox.write("header.csv", "text,label\n");
    sandbox.write(
        "unseen.csv",
        "text,label\nthe film was good,pos\nthe film was good,great\n",
    );
    sandbox.write("blank.csv", "text,label\nthe film was good,pos\n  ,neg\n");
    sandbox.write(
        "latin1.csv",
        b"text,label\nthe film was good,pos\nthe \xe9lan,neg\n",
    );
    sandbox.write(
        "fields.csv",
        "text,label\nthe film was good,pos\nthe film, was sad,neg\n",
    );
    sandbox.write("quote.csv", "text,label\n\"the film,pos\nthe sea,neg\n");
    sandbox.write("nolabel.csv", "text,label\nthe film was good,\n");
    sandbox.write(
        "bad.jsonl",
        "{\"text\": \"a\", \"label\": \"pos\"}\n{\"text\": \n",
    );
    sandbox.write("key.jsonl", "{\"txt\": \"a\", \"label\": \"pos\"}\n");
    sandbox.write("type.jsonl", "{\"text\": [1], \"label\": \"pos\"}\n");
    let cases: [(&[&str], i32, &[&str]); 20] = [
        (&["data.train=none.csv"], 1, &["none.csv: no such file"]),
        (&["data.test=none.csv"], 1, &["none.csv: no such file"]),
        (
            &["data.train=empty.csv"],
            1,
            &["empty.csv: holds no examples"],
        ),
        (
            &["data.train=header.csv"],
            1,
            &["header.csv: holds no examples"],
        ),
        (
            &["data.text=txt"],
            2,
            &[
                "train.csv: no column `txt`",
                "`text`, `label`",
                "did you mean `text`?",
            ],
        ),
        (
            &["data.text=txt", "data.header=false"],
            2,
            &["train.csv: column `txt`", "give its index"],
        ),
        (
            &["data.text=0", "data.label=7", "data.header=false"],
            2,
            &["train.csv:1: no column 7", "2"],
        ),
        (
            &["data.validation=unseen.csv"],
            1,
            &["unseen.csv:3: unknown label `great`", "`neg`, `pos`"],
        ),
        (
            &["data.labels=[\"pos\", \"great\"]"],
            1,
            &["train.csv:4: unknown label `neg`", "`pos`, `great`"],
        ),
        (
            &["data.train=blank.csv"],
            1,
            &["blank.csv:3: text is empty"],
        ),
        (
            &["data.train=latin1.csv"],
            1,
            &[
                "latin1.csv:3:",
                "0xe9",
                "not valid UTF-8",
                "save the file as UTF-8",
            ],
        ),
        (
            &["data.train=fields.csv"],
            1,
            &["fields.csv:3: found 3 fields, expected 2"],
        ),
        (
            &["data.train=quote.csv"],
            1,
            &["quote.csv:2: a quoted field", "never ends"],
        ),
        (
            &["data.train=nolabel.csv"],
            1,
            &["nolabel.csv:2: label is empty"],
        ),
        (
            &["data.train=bad.jsonl"],
            1,
            &["bad.jsonl:2:", "malformed JSON"],
        ),
        (
            &["data.train=key.jsonl"],
            1,
            &["key.jsonl:1: no key `text`", "`txt`"],
        ),
        (
            &["data.train=type.jsonl"],
            1,
            &["type.jsonl:1: key `text`: found a list, expected a string"],
        ),
        (
            &["data.train=run.toml"],
            2,
            &["run.toml: unknown file extension", ".csv"],
        ),
        (&["data.max_length=1"], 2, &["max_length 1 leaves no room"]),
        (
            &["data.format=conll"],
            2,
            &["train.csv: conll files cannot hold texts"],
        ),
    ];
    for (set, code, says) in cases {
        refused(&sandbox, &train_args("out", set), code, says);
    }
    sandbox.write(
        "run.toml",
        SEQUENCE.replace("validation = \"train.csv\"", "validation_fraction = 0.001"),
    );
    refused(
        &sandbox,
        &train_args("out", &[]),
        1,
        &[
            "the validation split has no examples",
            "raise data.validation_fraction",
        ],
    );
}

#[test]
fn bad_token_data_is_refused_by_path_and_line() {
    let sandbox = token();
    sandbox.write("count.jsonl", "{\"tokens\": [\"a\"], \"tags\": [\"O\"]}\n{\"tokens\": [\"a\", \"b\"], \"tags\": [\"O\"]}\n");
    sandbox.write(
        "integers.jsonl",
        "{\"tokens\": [\"a\"], \"ner_tags\": [0]}\n",
    );
    sandbox.write(
        "nothing.jsonl",
        "{\"tokens\": [\"a\"], \"tags\": [\"O\"]}\n{\"tokens\": [\"\"], \"tags\": [\"O\"]}\n",
    );
    sandbox.write("none.jsonl", "{\"tokens\": [], \"tags\": []}\n");
    sandbox.write("column.conll", "Ann B-PER\nsold\n\n");
    sandbox.write("unseen.conll", "Ann B-PER\n\nAcme B-ORG\n\n");
    let cases: [(&[&str], i32, &[&str]); 9] = [
        (
            &["data.train=count.jsonl"],
            1,
            &["count.jsonl:2: found 1 tags for 2 tokens"],
        ),
        (
            &["data.train=integers.jsonl"],
            1,
            &[
                "integers.jsonl:1: key `ner_tags` holds integers",
                "no label names",
            ],
        ),
        (
            &["data.train=nothing.jsonl", "data.validation=nothing.jsonl"],
            1,
            &["nothing.jsonl:2: the text tokenises to nothing"],
        ),
        (
            &["data.train=none.jsonl"],
            1,
            &["none.jsonl:1: tokens is empty"],
        ),
        (
            &["data.train=column.conll"],
            1,
            &["column.conll:2: found 1 fields, expected 2"],
        ),
        (
            &["data.validation=unseen.conll"],
            1,
            &["unseen.conll:3: unknown label `B-ORG`", "`B-PER`"],
        ),
        (&["data.tags=4"], 2, &["train.conll:1: no column 4"]),
        (
            &["data.tags=ner"],
            2,
            &[
                "data.tags: the columns of CoNLL files are numbers",
                "\"ner\"",
            ],
        ),
        (
            &["data.train=count.jsonl", "data.tags=1"],
            2,
            &["data.tags: JSON objects have keys"],
        ),
    ];
    for (set, code, says) in cases {
        refused(&sandbox, &train_args("out", set), code, says);
    }
}

#[test]
fn a_bad_configuration_is_refused_with_all_its_faults() {
    let sandbox = sequence();
    let cases: [(&[&str], &[&str]); 14] = [
        (
            &["train.learning_rat=1"],
            &["unknown key train.learning_rat, did you mean train.learning_rate?"],
        ),
        (
            &["train.max_length=3"],
            &["unknown key train.max_length, did you mean data.max_length?"],
        ),
        (
            &["lora.max_lenght=3"],
            &["unknown key lora.max_lenght, did you mean data.max_length?"],
        ),
        (
            &["modle=1", "data.txt=1"],
            &["2 faults", "did you mean model?", "did you mean data.text?"],
        ),
        (
            &[
                "train.epochs=0",
                "lora.r=0",
                "lora.lora_dropout=2",
                "data.format=xml",
            ],
            &[
                "4 faults",
                "train.epochs",
                "`r` = 0",
                "`lora_dropout` = 2",
                "\"xml\"",
            ],
        ),
        (
            &["train.epochs=many", "model.dtype=f8"],
            &[
                "2 faults",
                "train: ",
                "epochs",
                "model: ",
                "`f32` or `bf16`",
            ],
        ),
        (&["nonsense"], &["\"nonsense\": expected key=value"]),
        (&["train=3"], &["train"]),
        (
            &["train.metric_for_best_model=f7"],
            &["unknown metric \"f7\"", "accuracy, precision_macro"],
        ),
        (
            &["lora.target_modules=[\"query\"]"],
            &["query matches no module", "model.layers.0.self_attn.q_proj"],
        ),
        (
            &["lora.target_modules=nothing.*"],
            &["nothing.*", "model.layers.0.self_attn.q_proj"],
        ),
        (
            &["lora.r=17"],
            &["r = 17 is larger than model.layers.0.self_attn.q_proj"],
        ),
        (
            &["model.attention=sideways"],
            &["attention mode \"sideways\": expected causal"],
        ),
        (
            &["model.attention=from:9"],
            &["attention mode \"from:9\": layer 9 is past the last of 2 layers"],
        ),
    ];
    for (set, says) in cases {
        refused(&sandbox, &train_args("out", set), 2, says);
    }
    let files: [(&[u8], &[&str]); 4] = [
        (b"task = \"sequence\"\n[model\n", &["bad.toml: ", "line 2"]),
        (
            b"task = \"sequence\"\n# caf\xe9\n",
            &["bad.toml: line 2: not valid UTF-8"],
        ),
        (b"", &["bad.toml: ", "missing field"]),
        (b"task = \"tagging\"\n", &["bad.toml: ", "tagging"]),
    ];
    for (text, says) in files {
        sandbox.write("bad.toml", text);
        refused(
            &sandbox,
            &["train", "--config", "bad.toml", "--run", "out"],
            2,
            says,
        );
    }
    refused(
        &sandbox,
        &["train", "--config", "none.toml"],
        2,
        &["none.toml does not exist", "hint: ", "demo-sentiment"],
    );
}

#[test]
fn a_device_that_is_not_built_in_is_refused_with_those_that_are() {
    let sandbox = sequence();
    let (has_cuda, has_wgpu) = (cfg!(feature = "cuda"), cfg!(feature = "wgpu"));
    for device in ["cuda", "cuda:1", "wgpu", "tpu"] {
        if device.starts_with("cuda") && has_cuda || device == "wgpu" && has_wgpu {
            continue;
        }
        let outcome = refused(
            &sandbox,
            &["predict", "--run", "out", "--device", device, "hi"],
            2,
            &[device, "built in: cpu"],
        );
        assert_eq!(
            outcome.stderr.contains("hint: build with --features"),
            device != "tpu",
            "{}",
            outcome.stderr
        );
    }
    refused(
        &sandbox,
        &["predict", "--run", "out", "--device", "cuda:x", "hi"],
        2,
        &["\"cuda:x\"", "number"],
    );
    sandbox.ok(&[&train_args("out", &[])[..], &["--device", "cpu"]].concat());
}

#[test]
fn a_run_folder_in_use_is_left_alone() {
    let sandbox = sequence();
    sandbox.write("out/notes.txt", "mine");
    refused(
        &sandbox,
        &train_args("out", &[]),
        2,
        &[
            "run folder out is not empty",
            "hint: name another folder with --run",
        ],
    );
    sandbox.write("file", "mine");
    refused(&sandbox, &train_args("file", &[]), 1, &["file"]);
    // What was refused before it began does not take the folder.
    refused(
        &sandbox,
        &train_args("free", &["lora.r=17"]),
        2,
        &["r = 17"],
    );
    train(&sandbox, "free", &[]);
}

/// Takes a safetensors file apart.
fn tensors(sandbox: &Sandbox, name: &str) -> BTreeMap<String, HostTensor> {
    let file = TensorFile::open(sandbox.path(name)).unwrap();
    file.names()
        .map(|name| (name.to_owned(), file.read(name).unwrap()))
        .collect()
}

fn cut_short(sandbox: &Sandbox, name: &str, bytes: usize) {
    let content = std::fs::read(sandbox.path(name)).unwrap();
    sandbox.write(name, &content[..bytes]);
}

/// The first value of a tensor becomes NaN.
fn poison(sandbox: &Sandbox, file: &str, tensor: &str) {
    let mut all = tensors(sandbox, file);
    all.get_mut(tensor).unwrap().bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    write_tensors(
        sandbox.path(file),
        all.iter().map(|(name, tensor)| (name.as_str(), tensor)),
    )
    .unwrap();
}

#[test]
fn a_broken_checkpoint_is_refused_by_file_and_tensor() {
    type Break = fn(&Sandbox);
    const WEIGHTS: &str = "model/model.safetensors";
    let sandbox = sequence();
    let cases: [(Break, &[&str]); 18] = [
        (
            |s| cut_short(s, WEIGHTS, 3000),
            &["model.safetensors is truncated: 3000 bytes, expected "],
        ),
        (
            |s| cut_short(s, WEIGHTS, 4),
            &["model.safetensors is truncated: 4 bytes"],
        ),
        (
            |s| s.write(WEIGHTS, [7; 4000]),
            &["model.safetensors is not a usable safetensors file"],
        ),
        (
            |s| {
                s.write(
                    "model/model.safetensors.index.json",
                    r#"{"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}"#,
                )
            },
            &["model.safetensors.index.json: shard model-00001-of-00002.safetensors is missing"],
        ),
        (
            |s| {
                let mut weights = weights(520);
                weights.remove("model.layers.1.mlp.up_proj.weight");
                s.write_weights("model", &weights);
            },
            &["model.safetensors: tensor model.layers.1.mlp.up_proj.weight is missing"],
        ),
        (
            |s| s.edit_json("model/config.json", json!({"num_hidden_layers": 3})),
            &[
                "tensor model.layers.2.self_attn.q_proj.weight is missing",
                "similar",
            ],
        ),
        (
            |s| s.edit_json("model/config.json", json!({"intermediate_size": 32})),
            &["tensor model.layers.0.mlp.gate_proj.weight has shape [24, 16], expected [32, 16]"],
        ),
        (
            |s| s.edit_json("model/config.json", json!({"model_type": "bert"})),
            &["config.json: model_type \"bert\" is not supported", "llama"],
        ),
        (
            |s| s.edit_json("model/config.json", json!({"hidden_act": "gelu"})),
            &["config.json: hidden_act \"gelu\" is not supported", "silu"],
        ),
        (
            |s| {
                s.edit_json(
                    "model/config.json",
                    json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}),
                )
            },
            &[
                "config.json: rope_scaling.rope_type \"yarn\" is not supported",
                "llama3",
            ],
        ),
        (
            |s| {
                s.edit_json(
                    "model/config.json",
                    json!({"quantization_config": {"quant_method": "gptq"}}),
                )
            },
            &["config.json: quantization_config \"gptq\" is not supported"],
        ),
        (
            |s| s.edit_json("model/config.json", json!({"hidden_size": null})),
            &["config.json: hidden_size: is missing"],
        ),
        (
            |s| s.write("model/config.json", "{"),
            &["config.json: not valid JSON"],
        ),
        (
            |s| s.write("model/tokenizer.json", "{}"),
            &["tokenizer.json: not a usable tokenizer"],
        ),
        (
            |s| poison(s, WEIGHTS, "model.norm.weight"),
            &["an output of the model is NaN", "train.csv", "hint: "],
        ),
        (
            |s| std::fs::remove_file(s.path("model/tokenizer.json")).unwrap(),
            &["model: no tokenizer.json"],
        ),
        (
            |s| std::fs::remove_file(s.path(WEIGHTS)).unwrap(),
            &["model: no model.safetensors"],
        ),
        (
            |s| std::fs::remove_dir_all(s.path("model")).unwrap(),
            &["model: no such folder"],
        ),
    ];
    for (damage, says) in cases {
        sandbox.model("model", 520);
        damage(&sandbox);
        refused(&sandbox, &train_args("out", &[]), 1, says);
        // Where there is an index, it counts.
        let _ = std::fs::remove_file(sandbox.path("model/model.safetensors.index.json"));
    }
}

#[test]
fn a_token_past_the_vocabulary_is_refused_before_training() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    // Bytes, and nothing of what the training text merges into.
    sandbox.model("small", 300);
    let hint = "hint: use the tokenizer that came with the model";
    refused(
        &sandbox,
        &train_args("small-out", &["model.path=small"]),
        1,
        &["train.csv:2: token id ", "vocabulary of 300", hint],
    );
    let predict = [
        "predict",
        "--model",
        "small",
        "--adapter",
        "out/best",
        "--task",
        "sequence",
    ];
    refused(
        &sandbox,
        &[&predict[..], &["the film"]].concat(),
        1,
        &["argument:1: token id ", "vocabulary of 300", hint],
    );
}

#[test]
fn a_broken_adapter_is_refused_by_file_and_tensor() {
    type Break = fn(&Sandbox);
    const WEIGHTS: &str = "adapter/adapter_model.safetensors";
    const B: &str = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight";
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    let cases: [(Break, &[&str]); 14] = [
        (
            |s| cut_short(s, WEIGHTS, 3000),
            &["adapter_model.safetensors is truncated: 3000 bytes"],
        ),
        (
            |s| s.write(WEIGHTS, [7; 4000]),
            &["adapter_model.safetensors is not a usable safetensors file"],
        ),
        (
            |s| poison(s, WEIGHTS, B),
            &["adapter_model.safetensors: tensor ", B, "NaN"],
        ),
        (
            |s| {
                let mut all = tensors(s, WEIGHTS);
                all.remove(B);
                write_tensors(
                    s.path(WEIGHTS),
                    all.iter().map(|(name, tensor)| (name.as_str(), tensor)),
                )
                .unwrap();
            },
            &["adapter_model.safetensors: tensor ", B, "is missing"],
        ),
        (
            |s| {
                let mut all = tensors(s, WEIGHTS);
                all.insert(B.into(), HostTensor::from_f32([5, 4], &[0.0; 20]));
                write_tensors(
                    s.path(WEIGHTS),
                    all.iter().map(|(name, tensor)| (name.as_str(), tensor)),
                )
                .unwrap();
            },
            &["up_proj.lora_B.weight has shape [5, 4], expected [24, 4]"],
        ),
        (
            |s| s.write("adapter/adapter_config.json", "{"),
            &["adapter_config.json", "not valid JSON"],
        ),
        (
            |s| s.edit_json("adapter/adapter_config.json", json!({"r": 3})),
            &["lora_A.weight has shape [4, ", "expected [3, "],
        ),
        (
            |s| s.edit_json("adapter/adapter_config.json", json!({"peft_type": "IA3"})),
            &["adapter_config.json", "`peft_type` = \"IA3\""],
        ),
        (
            |s| {
                s.edit_json(
                    "adapter/adapter_config.json",
                    json!({"task_type": "TOKEN_CLS"}),
                )
            },
            &["task TOKEN_CLS", "SEQ_CLS"],
        ),
        (
            |s| s.write("adapter/ls_llama.json", "{"),
            &["ls_llama.json: EOF"],
        ),
        (
            |s| s.edit_json("adapter/ls_llama.json", json!({"labels": ["a", "b", "c"]})),
            &["adapter: names 3 labels, but its head has 2"],
        ),
        (
            |s| s.edit_json("adapter/ls_llama.json", json!({"task": "token"})),
            &["adapter: it labels a token, not a sequence"],
        ),
        (
            |s| std::fs::remove_file(s.path(WEIGHTS)).unwrap(),
            &["adapter_model.safetensors does not exist"],
        ),
        (
            |s| std::fs::remove_dir_all(s.path("adapter")).unwrap(),
            &["adapter does not exist"],
        ),
    ];
    for (damage, says) in cases {
        for file in sandbox.listing("out/best") {
            sandbox.write(
                &format!("adapter/{file}"),
                std::fs::read(sandbox.path(&format!("out/best/{file}"))).unwrap(),
            );
        }
        damage(&sandbox);
        let predict = [
            "predict",
            "--model",
            "model",
            "--adapter",
            "adapter",
            "--task",
            "sequence",
            "hi",
        ];
        refused(&sandbox, &predict, 1, says);
    }
    // The adapter is whole, its base is not.
    poison(&sandbox, "model/model.safetensors", "model.norm.weight");
    refused(
        &sandbox,
        &["predict", "--run", "out", "hi"],
        1,
        &["an output of the model is NaN", "argument line 1"],
    );
}

#[test]
fn a_run_that_was_stopped_while_it_replaced_its_best_says_so() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    std::fs::rename(sandbox.path("out/best"), sandbox.path("out/.best.next")).unwrap();
    std::fs::create_dir(sandbox.path("out/.best.last")).unwrap();
    let says = ["not a run folder", "rename .best.next to best"];
    refused(&sandbox, &["predict", "--run", "out", "hi"], 1, &says);
    std::fs::rename(sandbox.path("out/.best.next"), sandbox.path("out/best")).unwrap();
    sandbox.ok(&["predict", "--run", "out", "hi"]);
}

#[test]
fn a_bad_command_is_refused_with_the_way_out() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    sandbox.write("answers.jsonl", "kept");
    sandbox.write("bad.jsonl", "{\"text\": \"a\"}\n{\"text\": 1}\n");
    sandbox.write("latin1.txt", b"the film\ncaf\xe9\n");
    let adapter = ["predict", "--model", "model", "--adapter", "out/best"];
    let with_adapter = |args: &[&'static str]| [&adapter[..], args].concat();
    let cases: [(Vec<&str>, i32, &[&str]); 21] = [
        (
            with_adapter(&["--task", "sequence", "--labels", "a,b,c", "hi"]),
            2,
            &["head and the label names differ: expected 2 labels, found 3"],
        ),
        (
            with_adapter(&["--task", "sequence", "--labels", "a,a", "hi"]),
            2,
            &["label `a` is named twice"],
        ),
        (
            with_adapter(&["--task", "token", "hi"]),
            1,
            &["out/best: it labels a sequence, not a token"],
        ),
        (
            with_adapter(&["--task", "sequence", "--pooling", "first", "hi"]),
            2,
            &["--pooling: expected one of last, mean, max", "\"first\""],
        ),
        (
            with_adapter(&["--task", "sequence", "--attention", "from:9", "hi"]),
            2,
            &["layer 9 is past the last of 2 layers"],
        ),
        (
            vec!["predict", "--run", "out", "--labels", "a,b", "hi"],
            2,
            &["--run", "--labels"],
        ),
        (
            vec!["predict", "--run", "out", "--attention", "causal", "hi"],
            2,
            &["--run", "--attention"],
        ),
        (
            vec!["predict", "--model", "model", "--task", "sequence", "hi"],
            1,
            &["tensor score.weight is missing", "hint: ", "--adapter"],
        ),
        (
            vec!["predict", "--model", "none", "--task", "sequence", "hi"],
            1,
            &["none: no such folder"],
        ),
        (vec!["predict", "--model", "model", "hi"], 2, &["--task"]),
        (vec!["predict", "hi"], 2, &["--run", "--model"]),
        (
            vec!["predict", "--run", "none", "hi"],
            1,
            &["none: not a run folder: no such folder"],
        ),
        (
            vec!["predict", "--run", "model", "hi"],
            1,
            &["model: not a run folder: no config.toml"],
        ),
        (
            vec!["predict", "--run", "out", "--format", "conll", "hi"],
            2,
            &["--format conll is for taggers"],
        ),
        (
            vec!["predict", "--run", "out", "a", " "],
            2,
            &["text 2 is empty"],
        ),
        (
            vec!["predict", "--run", "out", "--input", "none.csv"],
            1,
            &["none.csv", "No such file"],
        ),
        (
            vec!["predict", "--run", "out", "--input", "run.toml"],
            2,
            &["run.toml: unknown file extension"],
        ),
        (
            vec!["predict", "--run", "out", "--input", "latin1.txt"],
            1,
            &["latin1.txt:2:", "0xe9"],
        ),
        (
            vec![
                "predict",
                "--run",
                "out",
                "--input",
                "bad.jsonl",
                "--output",
                "answers.jsonl",
            ],
            1,
            &["bad.jsonl:2: key `text`"],
        ),
        // Before anything is read, let alone answered.
        (
            vec![
                "predict",
                "--run",
                "out",
                "--input",
                "bad.jsonl",
                "--output",
                "none/out.jsonl",
            ],
            1,
            &["cannot write none/out.jsonl"],
        ),
        (
            vec!["predict", "--run", "out"],
            1,
            &["stdin: holds no examples"],
        ),
    ];
    for (args, code, says) in cases {
        refused(&sandbox, &args, code, says);
    }
    let cases: [(Vec<&str>, i32, &[&str]); 4] = [
        (
            vec!["evaluate", "--run", "out", "--split", "test"],
            2,
            &["no test split", "train, validation"],
        ),
        (
            vec!["evaluate", "--run", "out", "--data", "none.csv"],
            1,
            &["none.csv: no such file"],
        ),
        (
            vec!["evaluate", "--run", "out", "--data", "bad.jsonl"],
            1,
            &["bad.jsonl:1: no key `label`"],
        ),
        (
            vec!["evaluate", "--run", "none"],
            1,
            &["none: not a run folder"],
        ),
    ];
    for (args, code, says) in cases {
        refused(&sandbox, &args, code, says);
    }
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_with_its_files_whole() {
    let sandbox = sequence();
    let set = ["train.learning_rate=1e30", "train.max_grad_norm=0"];
    for (run, more, says) in [
        ("loss", &[][..], "loss is NaN at step 2; examples: "),
        (
            "evaluation",
            &["train.eval_steps=1"],
            "an output in the evaluation is NaN at step 1; examples: ",
        ),
    ] {
        let outcome = sandbox.run(&train_args(run, &[&set[..], more].concat()));
        assert_eq!(outcome.code, 1, "{}", outcome.stderr);
        for part in [says, "train.csv line", "hint: lower train.learning_rate"] {
            assert!(
                outcome.stderr.contains(part),
                "{part:?} is not in {}",
                outcome.stderr
            );
        }
        assert_eq!(
            sandbox.listing(run),
            ["config.toml", "environment.json", "metrics.jsonl"]
        );
        assert_eq!(losses(&sandbox, run).len(), 1);
        sandbox.json(&format!("{run}/environment.json"));
        ls_train::RunConfig::from_file(&sandbox.path(&format!("{run}/config.toml")), &[]).unwrap();
        refused(
            &sandbox,
            &["predict", "--run", run, "hi"],
            1,
            &["not a run folder", "did not reach its first evaluation"],
        );
    }
}
