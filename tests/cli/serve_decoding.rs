//! `serve` where it is said how models answer: as `predict` answers with the same flags.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::problems::{LISTS, labels_of_both_kinds};
use crate::runs::{SEQUENCE, json_lines, numbers, refused, train};
use crate::sandbox::{Sandbox, assert_contains, jsonl};
use crate::serving::{Serving, TOKEN_OF_SERVICE, has_entities, runs};

const TEXTS: [&str; 6] = [
    "good and warm",
    "sad",
    "a boat",
    "bad good bad good",
    "Ann sold boats in Bern .",
    "東京 Zoë",
];

fn predicted(sandbox: &Sandbox, run: &str, flags: &[&str]) -> Vec<Value> {
    let lines = json_lines(TEXTS.map(|text| json!({ "text": text })));
    let args = [&["predict", "--run", run, "--input", "-"], flags].concat();
    let outcome = sandbox.run_with(&args, &lines);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    jsonl(&outcome.stdout)
}

fn streamed(serving: &Serving, model: &str) -> Vec<Value> {
    let lines = json_lines(TEXTS.map(|text| json!({ "text": text })));
    let headers = [
        ("Content-Type", "application/x-ndjson"),
        ("Authorization", &format!("Bearer {TOKEN_OF_SERVICE}")),
    ];
    let path = format!("/models/{model}/batch");
    let reply = serving.ask("POST", &path, &headers, &lines);
    assert_eq!(reply.status, 200, "{reply:?}");
    jsonl(&reply.body)
}

#[test]
fn each_model_answers_as_it_is_asked_to_as_far_as_that_is_for_it() {
    let sandbox = runs();
    // Between the scores, so that some answers are given and some are not.
    let mut scores: Vec<f64> = predicted(&sandbox, "texts", &[])
        .iter()
        .map(|answer| answer["score"].as_f64().unwrap())
        .collect();
    scores.sort_by(f64::total_cmp);
    let least = ((scores[2] + scores[3]) / 2.0).to_string();
    let flags = ["--abstain-below", &least];
    let texts = predicted(&sandbox, "texts", &flags);
    let words = predicted(
        &sandbox,
        "words",
        &[&flags[..], &["--constrained"]].concat(),
    );
    assert_ne!(words, predicted(&sandbox, "words", &[]));

    let args = ["--run", "texts", "--run", "words", "--constrained"];
    let args = [&args[..], &flags].concat();
    let serving = Serving::start_with(&sandbox, &args, Some(TOKEN_OF_SERVICE));
    let authorization = format!("Bearer {TOKEN_OF_SERVICE}");
    let headers = [
        ("Content-Type", "application/json"),
        ("Authorization", &*authorization),
    ];
    let ask = |path: &str, body: Value| {
        let reply = serving.ask("POST", path, &headers, &body.to_string());
        assert!(reply.status < 300, "{reply:?}");
        reply.json()
    };
    assert_eq!(streamed(&serving, "texts"), texts);
    assert_eq!(streamed(&serving, "words"), words);

    let answers = ask("/models/texts/classify", json!({ "input": TEXTS }));
    let labels = answers["data"].as_array().unwrap().iter();
    let labels: Vec<_> = labels.map(|answer| &answer["label"]).collect();
    let expected: Vec<_> = texts.iter().map(|answer| &answer["label"]).collect();
    assert_eq!(labels, expected);
    assert_eq!(labels.iter().filter(|label| label.is_null()).count(), 3);
    // All scores are told, whatever is chosen by them.
    let lists = ask("/models/texts/predict", json!({ "inputs": [["sad"]] }));
    assert_eq!(numbers(&lists[0]).len(), 2);

    let found = ask("/models/words/ner", json!({ "inputs": TEXTS }));
    has_entities(&found, &words);

    // Of those that come later too, and of those that are loaded anew.
    ask(
        "/adapters",
        json!({ "name": "later", "path": sandbox.path("texts") }),
    );
    assert_eq!(streamed(&serving, "later"), texts);
    for (from, to) in [("texts", "old"), ("others", "texts")] {
        std::fs::rename(sandbox.path(from), sandbox.path(to)).unwrap();
    }
    let others = predicted(&sandbox, "texts", &flags);
    assert_ne!(others, texts);
    serving.signal("HUP");
    let since = Instant::now();
    while streamed(&serving, "texts") == texts {
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "nothing is loaded anew"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(streamed(&serving, "texts"), others);

    let info = serving.ask("GET", "/info", &headers, "").json();
    let of = |name: &str| {
        let models = info["models"].as_array().unwrap().iter();
        models.clone().find(|model| model["name"] == name).unwrap()
    };
    let told = of("texts")["abstain_below"].as_f64().unwrap();
    assert!(
        (told - least.parse::<f64>().unwrap()).abs() < 1e-6,
        "{told}"
    );
    assert_eq!(of("texts").get("constrained"), None);
    assert_eq!(of("words")["constrained"], "iob2");
    serving.stop();
}

#[test]
fn labels_hold_from_the_threshold_that_is_said() {
    let sandbox = runs();
    labels_of_both_kinds(&sandbox);
    sandbox.write("run.toml", SEQUENCE);
    train(&sandbox, "lists", &LISTS);
    let fitted = predicted(&sandbox, "lists", &[]);
    let flags = ["--threshold", "0.05"];
    let expected = predicted(&sandbox, "lists", &flags);
    assert_ne!(fitted, expected);

    let args = ["--run", "lists", "--run", "texts"];
    let serving = Serving::start_with(
        &sandbox,
        &[&args[..], &flags].concat(),
        Some(TOKEN_OF_SERVICE),
    );
    assert_eq!(streamed(&serving, "lists"), expected);
    assert_eq!(
        streamed(&serving, "texts"),
        predicted(&sandbox, "texts", &[])
    );
    let headers = [
        ("Content-Type", "application/json"),
        ("Authorization", &*format!("Bearer {TOKEN_OF_SERVICE}")),
    ];
    let body = json!({ "input": TEXTS }).to_string();
    let answers = serving
        .ask("POST", "/models/lists/classify", &headers, &body)
        .json();
    let labels = |answers: &mut dyn Iterator<Item = &Value>| -> Vec<Value> {
        answers.map(|answer| answer["labels"].clone()).collect()
    };
    let found = labels(&mut answers["data"].as_array().unwrap().iter());
    assert_eq!(found, labels(&mut expected.iter()));
    let info = serving.ask("GET", "/info", &headers, "").json();
    assert_eq!(info["models"][0]["name"], "lists");
    let thresholds = numbers_of(&info["models"][0]["thresholds"]);
    assert!(thresholds.len() > 1 && thresholds.iter().all(|score| *score == 0.05_f32));
    assert_eq!(info["models"][1].get("thresholds"), None);
    serving.stop();
}

fn numbers_of(list: &Value) -> Vec<f32> {
    let list = list.as_array().unwrap().iter();
    list.map(|score| score.as_f64().unwrap() as f32).collect()
}

#[test]
fn what_is_for_none_of_the_models_is_refused() {
    let sandbox = runs();
    for (args, says) in [
        (
            &["--run", "texts", "--run", "words", "--threshold", "0.4"][..],
            "--threshold: there is no model here for which any number of labels may hold",
        ),
        (
            &["--run", "texts", "--constrained"],
            "--constrained: there is no model here that gives words the tags of spans",
        ),
        (
            &["--run", "texts", "--run", "words", "--constrained=bilou"],
            "the model \"words\" cannot answer so: --constrained: the labels are not of bilou",
        ),
        (
            &["--run", "texts", "--abstain-below", "1.5"],
            "--abstain-below: expected a number from 0 to 1, found 1.5",
        ),
    ] {
        refused(
            &sandbox,
            &[&["serve", "--port", "0"], args].concat(),
            2,
            &[says],
        );
    }
    // With a token, a model that it is for may come.
    let args = ["--run", "texts", "--constrained"];
    let serving = Serving::start_with(&sandbox, &args, Some(TOKEN_OF_SERVICE));
    let said = serving.stop();
    assert_contains(
        &said,
        &["--constrained: there is no model here that gives words"],
    );
}
