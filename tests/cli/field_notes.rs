//! Cases of public bug reports against the Python tools that `docs/field-notes.md` tells, with the
//! values of Python where it is right.

use serde_json::{Value, json};

use crate::runs::*;
use crate::sandbox::{Sandbox, jsonl};

/// Lines of `word gold predicted`, scored in a mode.
fn scored(lines: &str, mode: &[&str]) -> Value {
    let sandbox = Sandbox::empty();
    sandbox.write("both.conll", lines);
    let score = ["score", "--gold", "both.conll", "--format", "json"];
    sandbox.ok_json(&[&score[..], mode].concat())
}

const LENIENT: &[&str] = &[];
const IOB2: &[&str] = &["--mode", "strict", "--scheme", "iob2"];
const BILOU: &[&str] = &["--mode", "strict", "--scheme", "bilou"];

/// chakki-works/seqeval#60 and #39.
#[test]
fn spans_where_gold_has_none_are_scored_and_their_types_listed() {
    let lines = "a O B-LOC\nb O I-LOC\nc O I-PER\nd O B-PER\n";
    for (mode, predicted) in [(LENIENT, 2), (IOB2, 1)] {
        let scores = scored(lines, mode);
        for key in ["span_f1_micro", "span_f1_macro", "span_f1_weighted"] {
            assert_eq!(scores[key], 0.0, "{key}");
        }
        assert_eq!(scores["per_type"]["LOC"]["predicted"], 1);
        assert_eq!(scores["per_type"]["PER"]["predicted"], predicted);
        assert_eq!(scores["per_type"]["PER"]["support"], 0);
    }
}

/// chakki-works/seqeval#34: a type is all that follows the first hyphen.
#[test]
fn types_with_a_hyphen_stay_apart() {
    let lines = "a B-ARGM-LOC B-ARGM-LOC\nb I-ARGM-LOC I-X-LOC\nc O O\nd B-X-LOC B-X-LOC\n";
    for (mode, f1, found) in [(LENIENT, 0.4, 2), (IOB2, 0.5, 1)] {
        let scores = scored(lines, mode);
        assert_eq!(scores["span_f1_micro"], f1);
        assert_eq!(scores["per_type"]["ARGM-LOC"]["correct"], 0);
        assert_eq!(scores["per_type"]["X-LOC"]["predicted"], found);
        assert!(scores["per_type"].get("LOC").is_none());
    }
}

/// huggingface/transformers#30028: a type whose name is `O` is not the tag `O`.
#[test]
fn a_type_named_o_is_scored_as_any_other() {
    let lines = "a B-O B-O\nb I-O I-O\nc O B-O\nd B-PER B-PER\n";
    for mode in [LENIENT, IOB2] {
        let scores = scored(lines, mode);
        assert_eq!(scores["span_f1_micro"], 0.8);
        assert_eq!(scores["per_type"]["O"]["predicted"], 2);
        assert_eq!(scores["per_type"]["O"]["correct"], 1);
        assert_eq!(scores["tokens"], 4);
    }
}

/// chakki-works/seqeval#95: under BILOU a `B-` without its `L-` is no span, neither in gold.
#[test]
fn what_is_no_whole_span_in_the_scheme_counts_in_neither_column() {
    let lines = "a B-PER I-PER\nb L-PER L-PER\nc O O\nd B-MISC B-MISC\n";
    assert_eq!(scored(lines, LENIENT)["span_f1_micro"], 1.0);
    let strict = scored(lines, BILOU);
    assert_eq!(strict["span_f1_micro"], 0.0);
    assert_eq!(strict["per_type"]["PER"]["support"], 1);
    assert!(strict["per_type"].get("MISC").is_none());
}

/// chakki-works/seqeval#22: Python ends with an index out of range.
#[test]
fn an_empty_tag_is_named_with_its_place() {
    let sandbox = Sandbox::empty();
    let line = json!({"tokens": ["a", "b"], "gold": ["B-PER", ""], "tags": ["B-PER", "O"]});
    sandbox.write("both.jsonl", json_lines([line]));
    refused(
        &sandbox,
        &["score", "--gold", "both.jsonl"],
        1,
        &["both.jsonl:1: key `gold[1]`", "an empty string"],
    );
}

/// huggingface/datasets#4467, #3729 and #7664, and huggingface/transformers#24265.
#[test]
fn texts_and_labels_are_what_the_file_holds_and_lines_end_where_it_says() {
    let sandbox = sequence();
    sandbox.write(
        "train.csv",
        "text,label\nnull,NA\nnone of it,None\nN/A,NA\ngood,None\n",
    );
    train(&sandbox, "out", &[]);
    assert_eq!(sandbox.json("out/best/labels.json"), json!(["NA", "None"]));

    let texts = [
        "null",
        "one\u{2028}still one",
        "two\u{2029}x",
        "three\u{85}x",
        "2024-01-02",
    ];
    sandbox.write("texts.txt", texts.map(|text| format!("{text}\n")).concat());
    let together = jsonl(&sandbox.ok(&["predict", "--run", "out", "--input", "texts.txt"]));
    let read: Vec<&str> = together
        .iter()
        .filter_map(|row| row["text"].as_str())
        .collect();
    assert_eq!(read, texts);
    // Whatever pads a batch, a text has the answer that it has alone.
    for (text, row) in texts.iter().zip(&together) {
        let alone = jsonl(&sandbox.ok(&["predict", "--run", "out", "--", *text]));
        assert_eq!(alone[0]["scores"], row["scores"]);
    }
}

/// huggingface/datasets#8494: an index without a name is kept there.
#[test]
fn a_class_index_without_a_name_stops_the_run() {
    let sandbox = sequence();
    let rows = [1, 5, -1].map(|label| json!({"text": "a film", "label": label}));
    sandbox.write("train.jsonl", json_lines(rows));
    let outcome = sandbox.run(&train_args(
        "out",
        &[
            "data.train=train.jsonl",
            "data.validation=train.jsonl",
            "data.labels=[\"neg\",\"pos\",\"other\"]",
        ],
    ));
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    for says in [
        "train.jsonl:2: label 5 has no name; names are given for 0 to 2",
        "train.jsonl:3: label -1 has no name",
    ] {
        assert!(outcome.stderr.contains(says), "{}", outcome.stderr);
    }
}
