//! How `evaluate` and `predict` read files: as the run's own, or as `--set` says.

use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, jsonl, says};

const QUICK: [&str; 4] = ["--set", "train.epochs=1", "--set", "lora.r=4"];

fn learn(sandbox: &Sandbox, file: &str, set: &[&str]) {
    let args = ["train", "--model", "model", "--data", file, "--run", "out"];
    sandbox.ok(&[&args[..], &QUICK, set].concat());
}

fn evaluate(sandbox: &Sandbox, file: &str, set: &[&str]) -> serde_json::Value {
    let args = [
        "evaluate", "--run", "out", "--format", "json", "--data", file,
    ];
    sandbox.ok_json(&[&args[..], set].concat())
}

#[test]
fn a_file_with_the_ending_of_the_runs_own_is_read_as_they_are() {
    let sandbox = Sandbox::new();
    let lines: String = reviews()
        .iter()
        .map(|(text, label)| format!("__label__{label} {text}\n"))
        .collect();
    sandbox.write("ft.txt", &lines);
    sandbox.write("more.TXT", &lines);
    learn(&sandbox, "ft.txt", &[]);
    for file in ["ft.txt", "more.TXT"] {
        assert_eq!(evaluate(&sandbox, file, &[])["examples"], 20);
        let answers = jsonl(&sandbox.ok(&["predict", "--run", "out", "--input", file]));
        let texts: Vec<_> = answers.iter().map(|answer| &answer["text"]).collect();
        let expected: Vec<_> = reviews().into_iter().map(|(text, _)| text).collect();
        assert_eq!(texts, expected.iter().collect::<Vec<_>>());
    }
    // Another ending says its format itself.
    sandbox.write("more.csv", csv(&reviews()));
    assert_eq!(evaluate(&sandbox, "more.csv", &[])["examples"], 20);

    let sandbox = token();
    let columns = sandbox.read("train.conll").replace(' ', "\t");
    sandbox.write("words.tsv", columns);
    learn(&sandbox, "words.tsv", &[]);
    let count = sentences().len();
    assert_eq!(evaluate(&sandbox, "words.tsv", &[])["examples"], count);
    let answers = jsonl(&sandbox.ok(&["predict", "--run", "out", "--input", "words.tsv"]));
    assert_eq!(answers.len(), count);
    let words: Vec<_> = sentences()[0].iter().map(|(word, _)| *word).collect();
    assert_eq!(answers[0]["tokens"], serde_json::json!(words));
    // A text a line, where the run's own files are none.
    sandbox.write("raw.txt", "Ann ran\n");
    let answers = jsonl(&sandbox.ok(&["predict", "--run", "out", "--input", "raw.txt"]));
    assert_eq!(answers[0]["text"], "Ann ran");
    // Nothing but the file is at fault.
    let labels = ["--set", "data.scheme=labels"];
    assert_eq!(evaluate(&sandbox, "words.tsv", &labels)["examples"], count);
}

#[test]
fn only_what_says_how_a_file_is_read_can_be_set() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    for command in [
        &["evaluate", "--run", "out", "--data", "train.csv"][..],
        &["predict", "--run", "out", "--input", "train.csv"],
        &[
            "evaluate",
            "--model",
            "model",
            "--adapter",
            "out/best",
            "--task",
            "sequence",
            "--data",
            "train.csv",
        ],
    ] {
        for (set, part) in [
            (
                "data.words=split",
                "data.words: it belongs to the model: of one that --model names, give --words",
            ),
            ("data.max_length=4", "give --max-length"),
            ("data.special_tokens=parse", "names, give --special-tokens"),
            (
                "data.train=a.csv",
                "data.train: it is a setting of training",
            ),
            ("train.epochs=1", "--set train.epochs=1: only keys of data"),
            ("data.txt=a", "did you mean data.text?"),
            ("data.format=cvs", "data.format: expected one of csv"),
        ] {
            refused(&sandbox, &[command, &["--set", set]].concat(), 2, &[part]);
        }
    }
}

#[test]
fn predict_reads_as_set_says() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    let texts = |outcome: &str| -> Vec<String> {
        let answers = jsonl(outcome);
        let text = |answer: &serde_json::Value| answer["text"].as_str().unwrap().to_string();
        answers.iter().map(text).collect()
    };
    let predict = ["predict", "--run", "out", "--input"];
    sandbox.write("other.csv", b"note;id\nfin caf\xe9;1\n");
    let set = [
        "other.csv",
        "--set",
        "data.text=note",
        "--set",
        "data.delimiter=;",
        "--set",
        "data.encoding=windows-1252",
    ];
    let outcome = sandbox.ok(&[&predict[..], &set].concat());
    assert_eq!(texts(&outcome), ["fin café"]);
    // Bytes of stdin, and their key.
    let encoding = ["-", "--set", "data.encoding=windows-1252"];
    let outcome = sandbox.run_with(&[&predict[..], &encoding].concat(), b"caf\xe9\n");
    says(&outcome, 0, &[]);
    assert_eq!(texts(&outcome.stdout), ["café"]);
    let text = ["-", "--set", "data.text=note"];
    let outcome = sandbox.run_with(&[&predict[..], &text].concat(), "{\"note\": \"a day\"}\n");
    says(&outcome, 0, &[]);
    assert_contains(&outcome.stdout, &["a day"]);
    let format = ["-", "--set", "data.format=fasttext"];
    let outcome = sandbox.run_with(&[&predict[..], &format].concat(), "__label__neg a day\n");
    assert_eq!(texts(&outcome.stdout), ["a day"]);
}

#[test]
fn what_is_advised_can_be_said() {
    let sandbox = token();
    let row = "{\"tokens\": [\"Ann\", \"ran\"], \"ner_tags\": [1, 0]}\n";
    sandbox.write("ints.jsonl", row.repeat(10));
    let train = ["train", "--model", "model", "--data", "ints.jsonl"];
    let outcome = sandbox.run(&[&train[..], &QUICK].concat());
    says(
        &outcome,
        1,
        &[
            "holds integers, and no label names are given",
            "hint: name them in the order of the integers: --set 'data.labels=[",
        ],
    );
    let row = "1\tAnn\tAnn\tPROPN\t_\t_\t0\troot\t_\t_\n\n";
    sandbox.write("upos.conllu", row);
    sandbox.write("pred.conllu", row);
    let outcome = sandbox.run(&["score", "--gold", "upos.conllu", "--pred", "pred.conllu"]);
    says(&outcome, 2, &["upos.conllu:1: ", "--tags 3"]);
    assert!(!outcome.stderr.contains("data.tags"), "{}", outcome.stderr);
    let args = ["score", "--gold", "upos.conllu", "--pred", "pred.conllu"];
    sandbox.ok(&[&args[..], &["--tags", "3"]].concat());
    sandbox.write("bare.csv", "a fine day,7\na bad day,8\n");
    let bare = ["train", "--model", "model", "--data", "bare.csv"];
    let outcome = sandbox.run(&[&bare[..], &["--set", "data.header=false"]].concat());
    says(&outcome, 2, &["data.text=NUMBER", "data.label=NUMBER"]);
    assert!(!outcome.stderr.contains("NAME"), "{}", outcome.stderr);
}
