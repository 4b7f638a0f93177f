//! Inputs with nothing to read: one answer each, in its place, or with `--strict` an error.

use serde_json::{Value, json};

use crate::runs::*;
use crate::sandbox::{Sandbox, jsonl, says};

fn predict(sandbox: &Sandbox, args: &[&str], stdin: &str) -> (Vec<Value>, String) {
    let args = [&["predict", "--run", "out"], args].concat();
    let outcome = sandbox.run_with(&args, stdin);
    assert_eq!(outcome.code, 0, "{args:?}: {}", outcome.stderr);
    (jsonl(&outcome.stdout), outcome.stderr)
}

#[test]
fn a_blank_text_is_answered_in_its_place() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    let empty = |text: &str| json!({"text": text, "label": null, "error": "text is empty"});
    let answers = |args: &[&str], stdin: &str| {
        let (answers, stderr) = predict(&sandbox, args, stdin);
        (answers, stderr)
    };
    let (plain, stderr) = answers(&["the film", "bad"], "");
    assert_eq!(stderr, "");
    let warning = "warning: nothing to label in 2 of 4 inputs: each has an error in its answer\n";
    let expected = [
        plain[0].clone(),
        empty(""),
        empty(" \u{3000}"),
        plain[1].clone(),
    ];
    assert_eq!(
        answers(&["the film", "", " \u{3000}", "bad"], ""),
        (expected.to_vec(), warning.into())
    );
    // Lines, also the first and the last of them; with the line ends of Windows too.
    let lines = "\nthe film\n  \nbad\n\n";
    let expected = [
        empty(""),
        plain[0].clone(),
        empty("  "),
        plain[1].clone(),
        empty(""),
    ];
    assert_eq!(answers(&[], lines).0, expected);
    assert_eq!(
        answers(&["--input", "-"], &lines.replace('\n', "\r\n")).0,
        expected
    );
    sandbox.write("in.txt", lines);
    assert_eq!(answers(&["--input", "in.txt"], "").0, expected);
    assert_eq!(answers(&[], "\n").0, [empty("")]);
    // Rows keep their other fields, and their label as the gold one.
    let rows = [
        json!({"id": 1, "text": "", "label": "pos"}),
        json!({"text": "bad", "error": "mine"}),
        json!({"text": " ", "error": "text is empty"}),
    ];
    sandbox.write("in.jsonl", json_lines(rows));
    let found = answers(&["--input", "in.jsonl"], "").0;
    assert_eq!(
        found[0],
        json!({"text": "", "label": null, "error": "text is empty", "id": 1, "gold": "pos"})
    );
    // Only an answer without a label has an error.
    assert_eq!(
        (found[1].get("error"), &found[1]["input_error"]),
        (None, &json!("mine"))
    );
    assert_eq!(found[2], empty(" "));
    sandbox.write("in.csv", "id,text\n1,\n2,bad\n3,\"\n\"\n");
    let found = answers(&["--input", "in.csv"], "").0;
    assert_eq!(found, [empty(""), plain[1].clone(), empty("\n")]);
    sandbox.write("in.tsv", "text\tid\n\t1\nbad\t2\n");
    assert_eq!(
        answers(&["--input", "in.tsv"], "").0,
        [empty(""), plain[1].clone()]
    );
    sandbox.write("in.ft", "__label__pos\n__label__neg bad\n");
    assert_eq!(
        answers(&["--input", "in.ft"], "").0,
        [empty(""), plain[1].clone()]
    );
    // One line each.
    let text = sandbox.run_with(&["predict", "--run", "out", "--format", "text"], lines);
    let columns: Vec<Vec<&str>> = text
        .stdout
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(columns.len(), 5);
    assert_eq!(
        (&columns[0], &columns[2]),
        (
            &vec!["(no label: text is empty)", "", ""],
            &vec!["(no label: text is empty)", "", "  "]
        )
    );
    assert_eq!(
        text.stderr,
        "warning: nothing to label in 3 of 5 inputs: the reason stands where the label would\n"
    );
    assert_eq!(columns[3][2], "bad");
    // Into a file as well.
    sandbox.ok(&[
        "predict",
        "--run",
        "out",
        "--input",
        "in.txt",
        "--output",
        "out.jsonl",
    ]);
    assert_eq!(sandbox.jsonl("out.jsonl"), expected);
}

#[test]
fn strict_refuses_what_has_nothing_to_read() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    let strict = ["predict", "--run", "out", "--strict"];
    let run = |args: &[&str], stdin: &str| sandbox.run_with(&[&strict[..], args].concat(), stdin);
    let outcome = run(&["a", " "], "");
    says(&outcome, 2, &["error: text 2 is empty"]);
    assert_eq!(outcome.stdout, "");
    says(
        &run(&[], "a\n\n \n"),
        1,
        &["stdin:2: text is empty\nstdin:3: text is empty"],
    );
    sandbox.write("in.jsonl", "{\"text\": \"bad\"}\n{\"text\": \"\"}\n");
    says(
        &run(&["--input", "in.jsonl"], ""),
        1,
        &["in.jsonl:2: text is empty"],
    );
    // Skipped as other bad rows are.
    let outcome = run(&["--input", "in.jsonl", "--skip-bad-rows"], "");
    says(
        &outcome,
        0,
        &["1 bad rows skipped", "in.jsonl:2: text is empty"],
    );
    assert_eq!(outcome.stdout.lines().count(), 1);
    // What cannot be read at all is an error all the same, and skipped on request; a blank text
    // beside it is answered.
    sandbox.write("in.jsonl", "{\"text\": 1}\n{\"text\": \"\"}\n");
    let input = ["predict", "--run", "out", "--input", "in.jsonl"];
    says(&sandbox.run(&input), 1, &["in.jsonl:1: key `text`"]);
    let outcome = sandbox.run(&[&input[..], &["--skip-bad-rows"]].concat());
    says(
        &outcome,
        0,
        &["1 bad rows skipped", "nothing to label in 1 of 1 inputs"],
    );
    assert_eq!(jsonl(&outcome.stdout)[0]["label"], Value::Null);
    says(
        &sandbox.run(&["predict", "--run", "out"]),
        1,
        &["stdin: holds no examples"],
    );
    // So does a list of nothing; a text may look like one.
    says(
        &sandbox.run_with(&["predict", "--run", "out"], "[]\n"),
        1,
        &["stdin: holds no examples"],
    );
    assert_eq!(predict(&sandbox, &[], "[]\nbad\n").0[0]["text"], "[]");
}

#[test]
fn a_pair_needs_both_texts() {
    let sandbox = sequence();
    let pairs = reviews()
        .into_iter()
        .map(|(text, label)| json!({"text": text, "other": "so it was", "label": label}));
    sandbox.write("train.jsonl", json_lines(pairs));
    let set = [
        "data.train=train.jsonl",
        "data.validation=train.jsonl",
        "data.text_pair=other",
    ];
    train(&sandbox, "out", &set);
    let rows = [
        json!({"text": "the film", "other": "bad"}),
        json!({"text": "the film", "other": " "}),
        json!({"text": "", "other": "bad"}),
    ];
    sandbox.write("in.jsonl", json_lines(rows));
    let (answers, _) = predict(&sandbox, &["--input", "in.jsonl"], "");
    assert!(answers[0]["label"].is_string());
    assert_eq!(answers[1]["error"], "text_pair is empty");
    assert_eq!(answers[2]["error"], "text is empty");
    assert_eq!(
        (&answers[2]["text_pair"], &answers[2]["label"]),
        (&json!("bad"), &Value::Null)
    );
}

#[test]
fn a_tagger_answers_every_input() {
    let sandbox = token();
    train(&sandbox, "out", &["train.epochs=2"]);
    let empty = |text: &str| json!({"text": text, "tokens": [], "tags": [], "entities": [], "error": "text is empty"});
    let (answers, stderr) = predict(&sandbox, &["", "Ann", "\t"], "");
    assert_eq!((&answers[0], &answers[2]), (&empty(""), &empty("\t")));
    assert_eq!(answers[1]["tokens"], json!(["Ann"]));
    assert_eq!(
        stderr,
        "warning: nothing to label in 2 of 3 inputs: each has an error in its answer\n"
    );
    assert_eq!(
        predict(&sandbox, &[], "\nAnn\n").0,
        [empty(""), answers[1].clone()]
    );
    sandbox.write("in.jsonl", "{\"tokens\": []}\n{\"tokens\": [\"Ann\"], \"id\": 3}\n{\"tokens\": [], \"tags\": [], \"id\": 4}\n");
    let (found, _) = predict(&sandbox, &["--input", "in.jsonl"], "");
    let none = json!({"tokens": [], "tags": [], "entities": [], "error": "tokens is empty"});
    assert_eq!(found[0], none);
    assert_eq!(
        (&found[2]["id"], &found[2]["gold"], &found[2]["error"]),
        (&json!(4), &json!([]), &none["error"])
    );
    // A sentence of no words is one blank line, which no reader sees again.
    let of = |format: &str| {
        let outcome = sandbox.run(&[
            "predict", "--run", "out", "--input", "in.jsonl", "--format", format,
        ]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        (outcome.stdout, outcome.stderr)
    };
    let (conll, stderr) = of("conll");
    assert!(
        conll.starts_with("\nAnn\t") && conll.ends_with("\n\n\n"),
        "{conll:?}"
    );
    assert_eq!(
        stderr,
        "warning: nothing to label in 2 of 3 inputs\nwarning: 2 inputs have no words, and CoNLL no \
         sentence for them: a blank line more stands there, which readers pass over, so that the \
         sentences behind are no longer as many as the inputs; --format jsonl has an answer for \
         each\n"
    );
    sandbox.write("again.conll", &conll);
    let (again, _) = predict(&sandbox, &["--input", "again.conll"], "");
    assert_eq!(again.len(), 1);
    let (text, stderr) = of("text");
    let none = "(no label: tokens is empty)\t\t\t\n\n";
    assert!(text.starts_with(none) && text.ends_with(none), "{text:?}");
    assert!(
        stderr.ends_with("2 of 3 inputs: the reason stands where the label would\n"),
        "{stderr}"
    );
    let strict = ["predict", "--run", "out", "--input", "in.jsonl", "--strict"];
    says(
        &sandbox.run(&strict),
        1,
        &["in.jsonl:1: tokens is empty\nin.jsonl:3: tokens is empty"],
    );
}

#[test]
fn a_missing_text_is_answered_in_its_place() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    sandbox.write(
        "in.jsonl",
        "{\"text\": null, \"id\": 1}\n{\"text\": \"bad\", \"id\": 2}\n",
    );
    let input = ["--input", "in.jsonl"];
    let (answers, _) = predict(&sandbox, &input, "");
    assert_eq!(
        answers[0],
        json!({"text": null, "label": null, "error": "text is missing", "id": 1})
    );
    assert!(answers[1]["label"].is_string());
    let strict = [&["predict", "--run", "out", "--strict"][..], &input].concat();
    says(
        &sandbox.run(&strict),
        1,
        &["in.jsonl:1: key `text`: found null, expected a string"],
    );
    // A text under another name, and one that is there but blank.
    let pairs = reviews()
        .into_iter()
        .map(|(text, label)| json!({"review": text, "other": "so it was", "label": label}));
    sandbox.write("train.jsonl", json_lines(pairs));
    let set = [
        "data.train=train.jsonl",
        "data.validation=train.jsonl",
        "data.text=review",
        "data.text_pair=other",
    ];
    train(&sandbox, "pairs", &set);
    let rows = [
        json!({"review": null, "other": "bad"}),
        json!({"review": "bad", "other": null}),
        json!({"review": " ", "other": null}),
        // What else is called as the answer's text is set aside.
        json!({"review": null, "other": "bad", "text": "mine"}),
    ];
    sandbox.write("in.jsonl", json_lines(rows));
    let answers = jsonl(&sandbox.ok(&["predict", "--run", "pairs", "--input", "in.jsonl"]));
    assert_eq!(
        (&answers[3]["text"], &answers[3]["input_text"]),
        (&Value::Null, &json!("mine"))
    );
    let errors: Vec<_> = answers.iter().map(|answer| &answer["error"]).collect();
    assert_eq!(
        errors,
        [
            "text is missing",
            "text_pair is missing",
            "text is empty",
            "text is missing"
        ]
    );
    // To learn from, it is a fault.
    let set = ["data.train=null.jsonl", "data.validation=null.jsonl"];
    sandbox.write("null.jsonl", "{\"text\": null, \"label\": \"pos\"}\n");
    says(
        &sandbox.run(&train_args("null", &set)),
        1,
        &["null.jsonl:1: key `text`: found null"],
    );
}

#[test]
fn a_tagger_answers_words_and_texts_in_one_file() {
    let sandbox = token();
    train(&sandbox, "out", &["train.epochs=2"]);
    let rows = [
        json!({"tokens": ["Ann", "sold"], "id": 1}),
        json!({"text": "Ann sold", "id": 2}),
        json!({"text": null, "id": 3}),
        json!({"tokens": null, "id": 4}),
        json!({"tokens": ["Bern"], "id": 5}),
    ];
    sandbox.write("in.jsonl", json_lines(rows));
    let (answers, _) = predict(&sandbox, &["--input", "in.jsonl"], "");
    let tokens: Vec<_> = answers.iter().map(|answer| &answer["tokens"]).collect();
    let ann = json!(["Ann", "sold"]);
    assert_eq!(
        tokens,
        [&ann, &ann, &json!([]), &json!([]), &json!(["Bern"])]
    );
    assert_eq!(answers[0]["tags"], answers[1]["tags"]);
    let missing = |what: &str, id: usize| json!({"tokens": [], "tags": [], "entities": [], "error": format!("{what} is missing"), "id": id});
    let mut text = missing("text", 3);
    text["text"] = Value::Null;
    assert_eq!(answers[2], text);
    assert_eq!(answers[3], missing("tokens", 4));
    let strict = ["predict", "--run", "out", "--input", "in.jsonl", "--strict"];
    says(
        &sandbox.run(&strict),
        1,
        &[
            "in.jsonl:3: key `text`: found null, expected a string",
            "in.jsonl:4: key `tokens`: found null, expected a list",
        ],
    );
}

#[test]
fn a_word_without_an_answer_is_said_by_its_tag() {
    let sandbox = token();
    let parts = "Ann PROPN\nsold VERB\nboats NOUN\n\nBob PROPN\nran VERB\n\n";
    sandbox.write("train.conll", parts.repeat(3));
    train(
        &sandbox,
        "out",
        &["train.epochs=1", "data.long_inputs=truncate"],
    );
    let cut = ["predict", "--run", "out", "--max-length", "4"];
    let outcome = sandbox.run(&[&cut[..], &["Ann sold boats to Bob and ran"]].concat());
    says(&outcome, 0, &["words got no tag but _\n"]);
    // One word that is longer than the limit.
    let outcome = sandbox.run(&[&cut[..], &["Annsoldboatstobobandran"]].concat());
    says(
        &outcome,
        0,
        &["at 4 tokens within a word: every word has its tag\n"],
    );
    let outcome = sandbox.run(&["predict", "--run", "out", "--format", "text", "Ann", ""]);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[2..], ["(no label: text is empty)\t", ""], "{lines:?}");
}
