//! `ls-cli evaluate`: the scores of a run, found again.

use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains};

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
