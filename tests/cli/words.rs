//! How words and special tokens reach a tagger: what a run records, what `predict` replaces, and
//! what it says where nothing is recorded.

use serde_json::{Value, json};

use crate::runs::*;
use crate::sandbox::{Sandbox, jsonl, says};

/// A run that reads words in the other way, and lists of words of which the two ways make other
/// ids: words with spaces of their own, and none.
fn split() -> Sandbox {
    let sandbox = token();
    let set = [
        "data.words=split",
        "data.special_tokens=parse",
        "data.label_position=first_visible",
        "train.epochs=8",
    ];
    train(&sandbox, "out", &set);
    let lists = [
        json!(["Ann ", "sold", "", "Bern"]),
        json!(["</s>", "Zoë", "5"]),
    ];
    let lines = lists.map(|words| json!({ "tokens": words }));
    sandbox.write("in.jsonl", json_lines(lines));
    sandbox
}

const INPUT: [&str; 2] = ["--input", "in.jsonl"];
const ADAPTER: [&str; 7] = [
    "predict",
    "--model",
    "model",
    "--adapter",
    "out/best",
    "--task",
    "token",
];

/// The entities of each list, of which there are some, with their scores.
fn scores(answers: &str) -> Vec<Value> {
    let entities = |answer: &Value| {
        assert_ne!(answer["entities"], json!([]), "{answer}");
        answer["entities"].clone()
    };
    jsonl(answers).iter().map(entities).collect()
}

#[test]
fn a_run_records_how_it_reads_words_and_predict_can_replace_it() {
    let sandbox = split();
    let recorded = sandbox.json("out/best/ls_llama.json");
    assert_eq!(recorded["words"], "split");
    assert_eq!(recorded["special_tokens"], "parse");
    assert_eq!(recorded["label_position"], "first_visible");
    let card = "- words: each encoded by itself (`is_split_into_words=True`); a tag is read at the \
                first sub-word that is more than a space";
    assert!(sandbox.read("out/best/README.md").contains(card));
    let parsed = "- special tokens that a text spells out (`</s>`): tokens, as in transformers\n";
    assert!(sandbox.read("out/best/README.md").contains(parsed));
    assert_eq!(
        sandbox
            .read("out/config.toml")
            .matches("words = \"split\"")
            .count(),
        1
    );

    let of_run = sandbox.ok(&[&["predict", "--run", "out"], &INPUT[..]].concat());
    let with = |args: &[&str]| {
        let outcome = sandbox.run(&[&ADAPTER[..], &INPUT, args].concat());
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{args:?}");
        outcome.stdout
    };
    assert_eq!(with(&[]), of_run);
    assert_eq!(
        with(&["--words", "split", "--special-tokens", "parse"]),
        of_run
    );
    let recorded = scores(&of_run);
    let text = scores(&with(&["--words", "text"]));
    assert_ne!(text[0], recorded[0]);
    let spelled = scores(&with(&["--special-tokens", "text"]));
    assert_eq!(spelled[0], recorded[0]);
    assert_ne!(spelled[1], recorded[1]);
}

#[test]
fn where_nothing_is_recorded_predict_says_what_it_assumes() {
    const NOTE: &str = "note: no ls_llama.json says how this tagger's words were encoded";
    let sandbox = split();
    // What else a folder without the record has to be told.
    let recorded = sandbox.json("out/best/ls_llama.json");
    let names: Vec<String> = serde_json::from_value(recorded["labels"].clone()).unwrap();
    let names = names.join(",");
    let attention = recorded["attention"].as_str().unwrap();
    let with = |args: &[&str]| {
        let told = ["--labels", &names, "--attention", attention];
        let outcome = sandbox.run(&[&ADAPTER[..], &INPUT, &told, args].concat());
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        outcome
    };
    sandbox.edit_json(
        "out/best/ls_llama.json",
        json!({ "special_tokens": "text", "label_position": "first" }),
    );
    let split = with(&[]).stdout;
    let text = with(&["--words", "text"]).stdout;
    assert_ne!(scores(&split), scores(&text));
    std::fs::remove_file(sandbox.path("out/best/ls_llama.json")).unwrap();
    let assumed = with(&[]);
    let hint = [
        NOTE,
        "(--words text)",
        "is_split_into_words=True",
        "--words split",
    ];
    says(&assumed, 0, &hint);
    assert_eq!(scores(&assumed.stdout), scores(&text));
    for (way, expected) in [("text", &text), ("split", &split)] {
        let told = with(&["--words", way]);
        assert_eq!(told.stderr, "");
        assert_eq!(scores(&told.stdout), scores(expected));
    }
    // A text has no words to split.
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    std::fs::remove_file(sandbox.path("out/best/ls_llama.json")).unwrap();
    let mut args = [&ADAPTER[..], &["the film was sad"]].concat();
    args[6] = "sequence";
    let outcome = sandbox.run(&args);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
}

#[test]
fn a_record_from_before_is_read_as_it_was_trained() {
    let sandbox = split();
    let set = [
        ("first", "first_visible"),
        ("all", "first_visible"),
        ("last", "last"),
    ];
    for (before, now) in set {
        let of = |fields: Value| {
            sandbox.edit_json("out/best/ls_llama.json", fields);
            sandbox.ok(&[&ADAPTER[..], &INPUT].concat())
        };
        let expected = of(
            json!({ "format_version": 2, "words": "text", "special_tokens": "text",
            "label_position": now }),
        );
        let found = of(
            json!({ "format_version": 1, "words": null, "special_tokens": null,
            "label_position": before }),
        );
        assert_eq!(found, expected, "{before}");
    }
    // One of a later version may have other fields; it is still the version that is named.
    let later = json!({ "format_version": 4, "new": 1 });
    sandbox.edit_json("out/best/ls_llama.json", later);
    let expected = ["ls_llama.json", "format_version 4 is none of 1 to 3"];
    refused(&sandbox, &[&ADAPTER[..], &INPUT].concat(), 1, &expected);
}

#[test]
fn a_way_that_there_is_not_is_refused_by_name() {
    let sandbox = split();
    let with = |args: &[&'static str]| [&ADAPTER[..], &INPUT, args].concat();
    let cases: [(Vec<&str>, i32, &[&str]); 5] = [
        (
            with(&["--words", "both"]),
            2,
            &["--words: expected one of text, split, found \"both\""],
        ),
        (
            with(&["--special-tokens", "skip"]),
            2,
            &["--special-tokens: expected one of text, parse, found \"skip\""],
        ),
        (
            vec!["predict", "--run", "out", "--words", "text", "hi"],
            2,
            &["--run", "--words"],
        ),
        (
            train_args("other", &["data.words=words"]),
            2,
            &["data.words", "`text`", "`split`"],
        ),
        (
            train_args("other", &["data.special_tokens=tokens"]),
            2,
            &["data.special_tokens", "`text`", "`parse`"],
        ),
    ];
    for (args, code, says) in cases {
        refused(&sandbox, &args, code, says);
    }
}
