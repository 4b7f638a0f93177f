//! Runs of the commands on tiny data: two configurations with their data, training, and what is
//! compared.

use std::collections::BTreeMap;

use ls_files::TensorFile;
use ls_lora::HostTensor;
use serde_json::Value;

use crate::sandbox::{Outcome, Sandbox, assert_contains};

/// f32 sums in another order.
pub const SAME: f64 = 1e-5;

pub const SEQUENCE: &str = r#"
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

pub const TOKEN: &str = r#"
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

/// What every finished run leaves, besides the checkpoint of its last step.
pub const RUN_FOLDER: [&str; 13] = [
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
    "report.html",
    "report.json",
];

/// A run folder holds what a finished run leaves, and nothing else.
#[track_caller]
pub fn assert_whole(sandbox: &Sandbox, run: &str) {
    let steps = &sandbox.json(&format!("{run}/report.json"))["steps"];
    let mut expected = RUN_FOLDER.map(str::to_owned).to_vec();
    expected.push(format!("checkpoints/checkpoint-{steps}.safetensors"));
    expected.sort();
    assert_eq!(sandbox.listing(run), expected);
}

/// Twenty texts whose adjectives tell the class.
pub fn reviews() -> Vec<(String, &'static str)> {
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
pub fn sentences() -> Vec<Vec<(&'static str, &'static str)>> {
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

pub fn csv(rows: &[(String, &str)]) -> String {
    let rows = rows.iter().map(|(text, label)| format!("{text},{label}\n"));
    ["text,label\n".to_owned()]
        .into_iter()
        .chain(rows)
        .collect()
}

pub fn json_lines(objects: impl IntoIterator<Item = Value>) -> String {
    objects
        .into_iter()
        .map(|object| format!("{object}\n"))
        .collect()
}

/// A folder with a model, the texts and a configuration.
pub fn sequence() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("run.toml", SEQUENCE);
    sandbox.write("train.csv", csv(&reviews()));
    sandbox
}

/// A folder with a model, the sentences and a configuration.
pub fn token() -> Sandbox {
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

pub fn train_args<'a>(run: &'a str, set: &[&'a str]) -> Vec<&'a str> {
    let set = set.iter().flat_map(|assignment| ["--set", assignment]);
    ["train", "--config", "run.toml", "--run", run]
        .into_iter()
        .chain(set)
        .collect()
}

/// Trains into `run`, which must succeed.
pub fn train(sandbox: &Sandbox, run: &str, set: &[&str]) -> Outcome {
    let outcome = sandbox.run(&train_args(run, set));
    assert_eq!(outcome.code, 0, "{set:?}: {}", outcome.stderr);
    outcome
}

/// The lines of a kind in a run's metrics.
pub fn records(sandbox: &Sandbox, run: &str, kind: &str) -> Vec<Value> {
    let mut records = sandbox.jsonl(&format!("{run}/metrics.jsonl"));
    records.retain(|record| record["kind"] == kind);
    records
}

pub fn losses(sandbox: &Sandbox, run: &str) -> Vec<f64> {
    records(sandbox, run, "step")
        .iter()
        .map(|step| step["loss"].as_f64().unwrap())
        .collect()
}

#[track_caller]
pub fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() < SAME,
            "{at}: {found}, expected {expected}"
        );
    }
}

/// The numbers in a JSON value, in order.
pub fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Number(number) => vec![number.as_f64().unwrap()],
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        Value::Object(values) => values.values().flat_map(numbers).collect(),
        _ => Vec::new(),
    }
}

/// The same with every number taken out.
pub fn without_numbers(value: &Value) -> Value {
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
pub fn assert_same_answers(found: &[Value], expected: &[Value]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(without_numbers(found), without_numbers(expected));
        assert_close(&numbers(found), &numbers(expected));
    }
}

/// Runs what must be refused: the exit code, what stderr must hold, and nothing on disk may change.
#[track_caller]
pub fn refused(sandbox: &Sandbox, args: &[&str], code: i32, says: &[&str]) -> Outcome {
    let before = sandbox.files();
    let outcome = sandbox.run(args);
    assert_eq!(outcome.code, code, "{args:?}: {}", outcome.stderr);
    assert!(
        outcome.stderr.starts_with("error: ") || outcome.stderr.contains("\nerror: "),
        "{}",
        outcome.stderr
    );
    assert_contains(&outcome.stderr, says);
    assert_eq!(outcome.stdout, "", "{args:?}");
    assert!(sandbox.files() == before, "{args:?} changed files");
    outcome
}

/// Takes a safetensors file apart.
pub fn tensors(sandbox: &Sandbox, name: &str) -> BTreeMap<String, HostTensor> {
    let file = TensorFile::open(sandbox.path(name)).unwrap();
    file.names()
        .map(|name| (name.to_owned(), file.read(name).unwrap()))
        .collect()
}

pub fn cut_short(sandbox: &Sandbox, name: &str, bytes: usize) {
    let content = std::fs::read(sandbox.path(name)).unwrap();
    sandbox.write(name, &content[..bytes]);
}

/// The first value of a tensor becomes NaN.
pub fn poison(sandbox: &Sandbox, file: &str, tensor: &str) {
    let mut all = tensors(sandbox, file);
    all.get_mut(tensor).unwrap().bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    sandbox.write_tensors(file, &all);
}
