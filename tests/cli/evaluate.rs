//! `ls-cli evaluate`: the scores of a run, found again, and those of models from elsewhere.

use serde_json::{Value, json};

use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, says};

#[test]
fn a_validation_part_is_set_aside_and_found_again() {
    let sandbox = sequence();
    sandbox.write(
        "run.toml",
        SEQUENCE.replace("validation = \"train.csv\"", "validation_fraction = 0.3"),
    );
    let outcome = train(&sandbox, "out", &[]);
    assert_contains(
        &outcome.stderr,
        &[
            "train: 14 examples",
            "validation: 6 examples",
            "labels: neg 7, pos 7",
            "labels: neg 3, pos 3",
        ],
    );
    let report = sandbox.json("out/report.json");
    let validation = sandbox.ok_json(&[
        "evaluate",
        "--run",
        "out",
        "--split",
        "validation",
        "--format",
        "json",
    ]);
    assert_eq!(validation["accuracy"], report["scores"]["accuracy"]);
    assert_close(
        &[validation["loss"].as_f64().unwrap()],
        &[report["loss"].as_f64().unwrap()],
    );
    assert_eq!(validation["examples"], 6);
    let train = sandbox.ok_json(&[
        "evaluate", "--run", "out", "--split", "train", "--format", "json",
    ]);
    assert_eq!(train["examples"], 14);
}

#[test]
fn as_many_examples_as_are_allowed_train_in_equal_shares() {
    let sandbox = sequence();
    let aside = SEQUENCE.replace("validation = \"train.csv\"", "validation_fraction = 0.3");
    for (run, config, validation) in [("named", SEQUENCE, 20), ("aside", &aside, 6)] {
        sandbox.write("run.toml", config);
        let outcome = train(&sandbox, run, &["data.max_train_samples=8"]);
        assert_contains(
            &outcome.stderr,
            &[
                "train: 8 examples",
                "labels: neg 4, pos 4",
                &format!("validation: {validation} examples"),
            ],
        );
        let args = ["evaluate", "--run", run, "--split", "train"];
        let found = sandbox.ok_json(&[&args[..], &["--format", "json"]].concat());
        assert_eq!(found["examples"], 8);
    }
    let all = train(&sandbox, "all", &["data.max_train_samples=1000"]);
    assert_contains(&all.stderr, &["train: 14 examples"]);
    let one = train_args("one", &["data.max_train_samples=1"]);
    refused(&sandbox, &one, 1, &["expected at least two"]);
    let none = train_args("none", &["data.max_train_samples=0"]);
    refused(&sandbox, &none, 2, &["data.max_train_samples", "found 0"]);
    let words = token();
    let outcome = train(&words, "out", &["data.max_train_samples=3"]);
    assert_contains(&outcome.stderr, &["train: 3 examples"]);
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
            let mut scores = sandbox.ok_json(&args);
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

/// What tells the scores of two commands apart, but for where they come from.
fn scores(mut object: Value) -> Value {
    let map = object.as_object_mut().unwrap();
    for key in ["split", "path", "gold", "pred"] {
        map.shift_remove(key);
    }
    object
}

#[test]
fn a_model_with_its_adapter_is_scored_as_the_run_is() {
    for (sandbox, task, data) in [
        (sequence(), "sequence", "train.csv"),
        (token(), "token", "train.conll"),
    ] {
        train(&sandbox, "out", &["train.epochs=2"]);
        let last = ["--data", data, "--format", "json"];
        let of_run = sandbox.ok_json(&[&["evaluate", "--run", "out"][..], &last].concat());
        let of_model = [
            "evaluate",
            "--model",
            "model",
            "--adapter",
            "out/best",
            "--task",
            task,
        ];
        let outcome = sandbox.run(&[&of_model[..], &last].concat());
        // What was found in the file is said.
        says(&outcome, 0, &[&format!("{data}: ")]);
        let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(scores(found), scores(of_run));
        let text = sandbox.ok(&[&of_model[..], &last[..2]].concat());
        assert_contains(&text, &[&format!("data: {data} (")]);
        // The task is recorded beside the adapter.
        let recorded = sandbox.ok(&[&of_model[..5], &last[..2]].concat());
        assert_eq!(recorded, text);
        let answer = |flags: &[&str]| {
            let args = [&["predict"], &of_model[1..5], flags, &["the film"]].concat();
            sandbox.ok(&args)
        };
        assert_eq!(answer(&[]), answer(&["--task", task]));
    }
}

#[test]
fn a_tagger_from_elsewhere_is_scored_by_what_it_predicts() {
    let sandbox = token();
    train(&sandbox, "out", &["data.words=split", "train.epochs=4"]);
    // An empty word leaves two spaces where words are joined, and nothing where they are split.
    let line = |words: [&str; 4]| json!({"tokens": words, "tags": ["B-PER", "O", "O", "B-LOC"]});
    let words = [["Ann ", "sold", "", "Bern"], ["Zoë", "", "sold", "Lima"]];
    sandbox.write("gold.jsonl", json_lines(words.map(line)));
    let recorded = sandbox.json("out/best/ls_llama.json");
    let names: Vec<String> = serde_json::from_value(recorded["labels"].clone()).unwrap();
    let (names, attention) = (names.join(","), recorded["attention"].as_str().unwrap());
    std::fs::remove_file(sandbox.path("out/best/ls_llama.json")).unwrap();
    let model = [
        "--model",
        "model",
        "--adapter",
        "out/best",
        "--task",
        "token",
        "--labels",
        &names,
        "--attention",
        attention,
    ];
    let mut losses = Vec::new();
    for words in ["split", "text"] {
        let model = [&model[..], &["--words", words]].concat();
        let input = ["--input", "gold.jsonl", "--output", "pred.jsonl"];
        sandbox.ok(&[&["predict"], &model[..], &input].concat());
        let files = ["--gold", "gold.jsonl", "--pred", "pred.jsonl"];
        let scored = sandbox.ok_json(&[&["score"], &files[..], &["--format", "json"]].concat());
        let last = ["--data", "gold.jsonl", "--format", "json"];
        let outcome = sandbox.run(&[&["evaluate"], &model[..], &last].concat());
        assert!(!outcome.stderr.contains("note:"), "{}", outcome.stderr);
        let evaluated: Value = serde_json::from_str(&outcome.stdout).unwrap();
        for key in [
            "span_f1_micro",
            "span_f1_macro",
            "span_precision_micro",
            "per_type",
        ] {
            assert_ne!(evaluated[key], Value::Null, "{key}");
            assert_eq!(evaluated[key], scored[key], "{key} of {words}");
        }
        losses.push(evaluated["loss"].as_f64().unwrap());
    }
    assert_ne!(losses[0], losses[1]);
    let assumed = sandbox.run(&[&["evaluate"], &model[..], &["--data", "gold.jsonl"]].concat());
    says(&assumed, 0, &["note: no ls_llama.json", "--words split"]);
}

#[test]
fn columns_are_found_or_set_and_the_command_is_checked() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    let model = [
        "evaluate",
        "--model",
        "model",
        "--adapter",
        "out/best",
        "--task",
        "sequence",
    ];
    let with = |args: &[&str]| sandbox.run(&[&model[..], args].concat());
    let usual = with(&["--data", "train.csv", "--format", "json"]);
    let table = sandbox.read("train.csv");
    let other = table.replacen("text,label", "review,label", 1);
    assert_ne!(table, other);
    sandbox.write(
        "other.csv",
        other
            .replacen("label\n", "label,class\n", 1)
            .replace("pos\n", "pos,x\n")
            .replace("neg\n", "neg,x\n"),
    );
    let unclear = with(&["--data", "other.csv"]);
    says(
        &unclear,
        2,
        &["hint: say which is meant: --set data.label=label, or --set data.label=class"],
    );
    let said = with(&[
        "--data",
        "other.csv",
        "--set",
        "data.label=label",
        "--format",
        "json",
    ]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let [said, usual] =
        [said, usual].map(|outcome| scores(serde_json::from_str(&outcome.stdout).unwrap()));
    assert_eq!(said, usual);
    for (args, parts) in [
        (
            &["--data", "train.csv", "--set", "train.epochs=1"][..],
            &["--set train.epochs=1: only keys of data"][..],
        ),
        (
            &["--data", "train.csv", "--set", "data.txt=a"],
            &["did you mean data.text?"],
        ),
        (
            &["--data", "train.csv", "--split", "test"],
            &["cannot be used with"],
        ),
        (&[], &["--data FILE"]),
    ] {
        says(&with(args), 2, parts);
    }
}

#[test]
fn labels_that_a_run_does_not_have_are_refused_with_the_way_out() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=2"]);
    let file = sandbox.read("train.csv");
    let numbered = file.replace(",neg\n", ",0\n").replace(",pos\n", ",1\n");
    assert_ne!(numbered, file);
    sandbox.write("numbered.csv", numbered);
    let of_run = ["evaluate", "--run", "out"];
    let of_model = [
        "evaluate",
        "--model",
        "model",
        "--adapter",
        "out/best",
        "--task",
        "sequence",
    ];
    let names = ["--set", "data.labels=[\"neg\",\"pos\"]"];
    let as_json = ["--format", "json"];
    let expected = sandbox.ok_json(&[&of_run[..], &["--data", "train.csv"], &as_json].concat());
    for command in [&of_run[..], &of_model] {
        let on_numbers = [command, &["--data", "numbered.csv"]].concat();
        let refused = sandbox.run(&on_numbers);
        says(
            &refused,
            1,
            &[
                "unknown label `1`; the labels are `neg`, `pos`",
                "hint: if the integers count the model's labels, name these in the order of the integers: --set 'data.labels=[\"neg\",\"pos\"]'",
            ],
        );
        let found = sandbox.ok_json(&[&on_numbers[..], &names, &as_json].concat());
        assert_eq!(scores(found), scores(expected.clone()));
    }
    sandbox.write("good.csv", "text,label\na good film,good\n");
    let refused = sandbox.run(&[&of_model[..], &["--data", "good.csv"]].concat());
    says(
        &refused,
        1,
        &[
            "good.csv:2: unknown label `good`; the labels are `neg`, `pos`",
            "hint: if they are the model's by other names: give the file's in the order of the head with --labels A,B,C",
        ],
    );
    let named = ["--data", "good.csv", "--labels", "bad,good"];
    sandbox.ok(&[&of_model[..], &named].concat());
}
