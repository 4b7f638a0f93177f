//! `ls-cli score` on files: conlleval's text, seqeval's and scikit-learn's numbers in JSON, and how
//! it refuses what it cannot compare.

use std::path::Path;

use serde_json::{Value, json};

use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains};

/// Gold and predicted tags with one right span, one of a wrong type, one that is missed and one
/// without a `B-`.
const BOTH: &str = "\
Ann NNP B-PER B-PER
sold VBD O O
boats NNS O I-ART

in IN O O
New NNP B-LOC B-PER
Lima NNP I-LOC I-PER

Bob NNP B-PER O
";

/// What conlleval prints of it.
const BOTH_TEXT: &str = "\
processed 7 tokens with 3 phrases; found: 3 phrases; correct: 1.
accuracy:  42.86%; precision:  33.33%; recall:  33.33%; FB1:  33.33
              ART: precision:   0.00%; recall:   0.00%; FB1:   0.00  1
              LOC: precision:   0.00%; recall:   0.00%; FB1:   0.00  0
              PER: precision:  50.00%; recall:  50.00%; FB1:  50.00  2
";

/// Two columns of it, by their place.
fn column(at: usize) -> String {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        match fields.get(at) {
            Some(tag) => format!("{}\t{tag}\n", fields[0]),
            None => "\n".to_owned(),
        }
    };
    BOTH.lines().map(line).collect()
}

#[test]
fn an_answer_that_predict_could_not_give_is_named() {
    let sandbox = Sandbox::empty();
    let gold = [
        json!({"text": "a", "label": "x"}),
        json!({"text": "", "label": "y"}),
    ];
    let mut answers = gold.clone();
    answers[1] = json!({"text": "", "label": null, "error": "text is empty"});
    sandbox.write("gold.jsonl", json_lines(gold));
    sandbox.write("pred.jsonl", json_lines(answers));
    let outcome = sandbox.run(&["score", "--gold", "gold.jsonl", "--pred", "pred.jsonl"]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert_contains(
        &outcome.stderr,
        &["pred.jsonl:2: no `label` to score, because text is empty; take the example out"],
    );
}

/// Files of the same answers in several forms.
fn tags() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write("both.conll", BOTH);
    sandbox.write("gold.conll", column(2));
    sandbox.write("pred.conll", column(3));
    let objects = |gold: bool| {
        let sentences = BOTH.split("\n\n").map(|sentence| {
            let fields = |at: usize| -> Vec<&str> {
                sentence
                    .lines()
                    .map(|line| line.split(' ').nth(at).unwrap())
                    .collect()
            };
            let mut object = json!({"tokens": fields(0), "tags": fields(3)});
            if gold {
                object["gold"] = json!(fields(2));
            }
            format!("{object}\n")
        });
        sentences.collect::<String>()
    };
    sandbox.write("pred.jsonl", objects(false));
    sandbox.write("both.jsonl", objects(true));
    sandbox
}

fn json_of(sandbox: &Sandbox, args: &[&str]) -> Value {
    sandbox.ok_json(&[&["score", "--format", "json"], args].concat())
}

#[test]
fn tags_in_any_form_give_the_text_of_conlleval() {
    let sandbox = tags();
    let marked = format!("\u{feff}{}\n\n", column(3).replace('\n', "\r\n"));
    sandbox.write("pred-crlf.conll", marked);
    sandbox.write("eng.testb", BOTH);
    for args in [
        &["--gold", "both.conll"][..],
        &["--pred", "both.conll"],
        &["--gold", "both.conll", "--pred", "both.conll"],
        &["--gold", "eng.testb"],
        &["--pred", "both.jsonl"],
        &["--gold", "gold.conll", "--pred", "pred.conll"],
        &["--gold", "gold.conll", "--pred", "pred.jsonl"],
        &["--gold", "gold.conll", "--pred", "pred-crlf.conll"],
        &[
            "--gold",
            "gold.conll",
            "--pred",
            "pred.jsonl",
            "--task",
            "token",
        ],
        &["--gold", "gold.conll", "--pred", "both.conll"],
        &[
            "--gold",
            "both.jsonl",
            "--label",
            "gold",
            "--pred",
            "pred.conll",
            "--pred-label",
            "1",
        ],
        &[
            "--gold",
            "both.conll",
            "--tags",
            "2",
            "--pred",
            "both.jsonl",
            "--pred-tags",
            "tags",
        ],
        // Only strict mode goes by a scheme.
        &[
            "--gold",
            "gold.conll",
            "--pred",
            "pred.conll",
            "--scheme",
            "bilou",
        ],
    ] {
        assert_eq!(
            sandbox.ok(&[&["score"], args].concat()),
            BOTH_TEXT,
            "{args:?}"
        );
    }
    let outcome = sandbox.run_with(&["score", "--gold", "-"], BOTH);
    assert_eq!((outcome.stdout.as_str(), outcome.code), (BOTH_TEXT, 0));
    let pred = sandbox.read("pred.jsonl");
    let outcome = sandbox.run_with(&["score", "--gold", "gold.conll", "--pred", "-"], pred);
    assert_eq!((outcome.stdout.as_str(), outcome.code), (BOTH_TEXT, 0));
}

#[test]
fn the_text_is_conllevals_for_odd_tags_too() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../ls-data/tests/fixtures/random_tags/expected.json");
    let expected: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let sandbox = Sandbox::empty();
    let cases = expected["by_hand"].as_array().unwrap();
    assert!(cases.len() >= 10);
    let mut without_type = 0;
    for case in cases {
        let mut text = String::new();
        let sides = ["gold", "pred"].map(|side| case[side].as_array().unwrap());
        for (gold, pred) in sides[0].iter().zip(sides[1]) {
            let pairs = gold
                .as_array()
                .unwrap()
                .iter()
                .zip(pred.as_array().unwrap());
            for (gold, pred) in pairs {
                text += &format!("w {} {}\n", gold.as_str().unwrap(), pred.as_str().unwrap());
            }
            text += "\n";
        }
        sandbox.write("both.conll", text);
        let found = sandbox.ok(&["score", "--gold", "both.conll"]);
        // Where tags have no type, the script lists it twice and without a name.
        let mut lines: Vec<&str> = case["conlleval"].as_str().unwrap().lines().collect();
        let nameless = |line: &&str| line.starts_with("                 : ");
        without_type += lines
            .iter()
            .filter(|line| nameless(line))
            .count()
            .div_ceil(2);
        lines.dedup_by(|a, b| a == b && nameless(a));
        let expected: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let named = "        (no type): ";
        assert_eq!(found, expected.replace("                 : ", named));
    }
    assert!(without_type > 1);
}

#[test]
fn span_scores_are_an_object() {
    let sandbox = tags();
    let found = json_of(&sandbox, &["--gold", "gold.conll", "--pred", "pred.jsonl"]);
    let third = 1.0 / 3.0;
    let none = json!({"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0, "predicted": 1, "correct": 0});
    let missed = json!({"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1, "predicted": 0, "correct": 0});
    let half = json!({"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2, "predicted": 2, "correct": 1});
    let expected = json!({
        "gold": "gold.conll", "pred": "pred.jsonl", "examples": 3, "mode": "default",
        "span_precision_micro": third, "span_recall_micro": third, "span_f1_micro": third,
        "span_precision_macro": 0.5 / 3.0, "span_recall_macro": 0.5 / 3.0, "span_f1_macro": 0.5 / 3.0,
        "span_precision_weighted": third, "span_recall_weighted": third, "span_f1_weighted": third,
        "token_accuracy": 3.0 / 7.0, "tokens": 7, "correct_tokens": 3,
        "per_type": {"ART": none, "LOC": missed, "PER": half},
    });
    assert_eq!(found, expected);

    // By the scheme an `I-` alone is no span.
    let strict = [
        "--gold",
        "gold.conll",
        "--pred",
        "pred.jsonl",
        "--mode",
        "strict",
    ];
    for scheme in [&[][..], &["--scheme", "bio"], &["--scheme", "IOB2"]] {
        let found = json_of(&sandbox, &[&strict, scheme].concat());
        assert_eq!(found["mode"], "strict");
        assert_eq!(found["span_precision_micro"], 0.5);
        assert_eq!(found["per_type"].as_object().unwrap().len(), 2);
    }
    let text = sandbox.ok(&[&["score"], &strict[..]].concat());
    assert!(text.starts_with("processed 7 tokens with 3 phrases; found: 2 phrases; correct: 1.\n"));
}

/// Texts of three classes; the predictions with probabilities.
fn labels() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write(
        "gold.csv",
        "text,label\n\"a, b\",neg\nc,pos\nd,pos\ne,mid\n",
    );
    let row = |text: &str, gold: &str, label: &str, scores: [f64; 2]| {
        let scores = json!({"neg": scores[0], "pos": scores[1]});
        format!(
            "{}\n",
            json!({"text": text, "gold": gold, "label": label, "scores": scores})
        )
    };
    let rows = [
        row("a, b", "neg", "neg", [0.75, 0.25]),
        row("c", "pos", "neg", [0.75, 0.25]),
        row("d", "pos", "pos", [0.0, 1.0]),
    ];
    let known = rows.concat();
    sandbox.write("known.jsonl", &known);
    sandbox.write("pred.jsonl", known + &row("e", "mid", "neg", [0.5, 0.5]));
    sandbox
}

#[test]
fn label_scores_are_a_table_or_an_object() {
    let sandbox = labels();
    let both = ["--gold", "gold.csv", "--pred", "pred.jsonl"];
    let found = json_of(&sandbox, &both);
    // A class that the model does not know has none of its probability, which is clipped as in
    // scikit-learn.
    let loss =
        (-(0.75f64.ln()) - 0.25f64.ln() - (1.0 - f64::EPSILON).ln() - f64::EPSILON.ln()) / 4.0;
    assert!((found["log_loss"].as_f64().unwrap() - loss).abs() < 1e-12);
    // Bins: 0.75 twice with one right, 1 with one right, 0.5 with none.
    let ece = (2.0 * 0.25 + 0.0 + 0.5) / 4.0;
    assert!((found["ece"].as_f64().unwrap() - ece).abs() < 1e-12);
    for (key, expected) in [
        ("examples", json!(4)),
        ("accuracy", json!(0.5)),
        ("f1_micro", json!(0.5)),
        ("precision_macro", json!((1.0 / 3.0 + 1.0) / 3.0)),
        ("recall_macro", json!(0.5)),
        ("f1_weighted", json!((0.5 + 2.0 * 2.0 / 3.0) / 4.0)),
        ("confusion", json!([[1, 0, 0], [1, 1, 0], [1, 0, 0]])),
    ] {
        assert_eq!(found[key], expected, "{key}");
    }
    let classes: Vec<&String> = found["per_class"].as_object().unwrap().keys().collect();
    assert_eq!(classes, ["neg", "pos", "mid"]);
    let keys: Vec<&String> = found.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "gold",
            "pred",
            "examples",
            "accuracy",
            "precision_macro",
            "recall_macro",
            "f1_macro",
            "precision_micro",
            "recall_micro",
            "f1_micro",
            "precision_weighted",
            "recall_weighted",
            "f1_weighted",
            "mcc",
            "log_loss",
            "ece",
            "per_class",
            "confusion",
        ]
    );
    // The same file holds the same gold labels.
    let mut alone = json_of(&sandbox, &["--pred", "pred.jsonl"]);
    alone["gold"] = json!("gold.csv");
    assert_eq!(alone, found);

    let text = sandbox.ok(&[&["score"], &both[..]].concat());
    for line in [
        "neg                      0.3333  1.0000 0.5000        1",
        "f1_macro                 0.3889",
        "log_loss                 9.4294",
        "ece                      0.2500",
        "pos                        1       1       0",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line:?} is not in\n{text}"
        );
    }
}

#[test]
fn labels_are_found_by_key_column_and_number() {
    let sandbox = labels();
    let accuracy = |args: &[&str]| json_of(&sandbox, args)["accuracy"].clone();
    sandbox.write("plain.csv", "0,neg\n1,pos\n2,pos\n3,mid\n");
    sandbox.write("class.tsv", "id\tclass\n0\tneg\n1\tneg\n2\tpos\n3\tmid\n");
    sandbox.write(
        "ints.jsonl",
        "{\"label\": 0}\n{\"label\": 1}\n{\"label\": 1}\n{\"label\": 2}\n",
    );
    for args in [
        &[
            "--gold",
            "plain.csv",
            "--label",
            "1",
            "--no-header",
            "--pred",
            "pred.jsonl",
            "--pred-label",
            "label",
        ][..],
        &[
            "--gold",
            "ints.jsonl",
            "--labels",
            "neg,pos,mid",
            "--pred",
            "pred.jsonl",
        ],
        &[
            "--gold",
            "pred.jsonl",
            "--label",
            "gold",
            "--pred-label",
            "label",
            "--task",
            "sequence",
        ],
    ] {
        assert_eq!(accuracy(args), 0.5, "{args:?}");
    }
    let args = [
        "--gold",
        "pred.jsonl",
        "--label",
        "gold",
        "--pred",
        "class.tsv",
        "--pred-label",
        "class",
    ];
    assert_eq!(accuracy(&args), 0.75);
    // Without names the integers are names of their own.
    assert_eq!(
        accuracy(&["--gold", "ints.jsonl", "--pred", "pred.jsonl"]),
        0.0
    );
    assert_eq!(
        accuracy(&[
            "--gold",
            "ints.jsonl",
            "--pred",
            "ints.jsonl",
            "--label",
            "label"
        ]),
        1.0
    );
}

#[test]
fn scores_that_are_no_probabilities_are_left_out_aloud() {
    let sandbox = Sandbox::empty();
    sandbox.write(
        "pred.jsonl",
        "{\"label\": \"a\", \"gold\": \"a\", \"scores\": {\"a\": 3.5, \"b\": -1}}\n",
    );
    let outcome = sandbox.run(&["score", "--pred", "pred.jsonl", "--format", "json"]);
    let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(
        (&found["accuracy"], found.get("log_loss")),
        (&json!(1.0), None)
    );
    assert_contains(&outcome.stderr, &["pred.jsonl: no log-loss"]);
}

#[test]
fn intervals_and_a_comparison_follow_the_seed() {
    let sandbox = tags();
    let resampled = [
        "--gold",
        "gold.conll",
        "--pred",
        "pred.jsonl",
        "--bootstrap",
        "200",
        "--compare",
        "gold.conll",
    ];
    let found = json_of(&sandbox, &resampled);
    let (confidence, comparison) = (&found["confidence"], &found["comparison"]);
    for header in [confidence, comparison] {
        assert_eq!(header["level"], 0.95);
        assert_eq!(header["samples"], 200);
        assert_eq!(header["seed"], 42);
    }
    let f1 = &confidence["span_f1_micro"];
    assert_eq!((&f1["low"], &f1["high"]), (&json!(0.0), &json!(2.0 / 3.0)));
    assert_eq!(comparison["other"], "gold.conll");
    let f1 = &comparison["span_f1_micro"];
    let (score, difference) = (1.0 / 3.0, 1.0 / 3.0 - 1.0);
    assert_eq!((&f1["score"], &f1["other"]), (&json!(score), &json!(1.0)));
    assert_eq!(f1["difference"], difference);
    // Written out: of the 8 ways to swap, only none and all differ as much.
    let p = f1["p_value"].as_f64().unwrap();
    assert!((p - 0.25).abs() < 0.1, "{p}");
    assert_eq!(json_of(&sandbox, &resampled), found);
    let other = json_of(&sandbox, &[&resampled[..], &["--seed", "1"]].concat());
    assert_ne!(
        other["comparison"]["span_f1_micro"]["p_value"],
        f1["p_value"]
    );
    // The scores themselves are not touched, and a comparison alone gives no intervals of one
    // system.
    assert_eq!(other["per_type"], found["per_type"]);
    let alone = json_of(
        &sandbox,
        &[
            "--gold",
            "gold.conll",
            "--pred",
            "pred.jsonl",
            "--compare",
            "pred.conll",
        ],
    );
    assert_eq!(alone.get("confidence"), None);
    assert_eq!(alone["comparison"]["samples"], 1000);
    assert_eq!(alone["comparison"]["token_accuracy"]["p_value"], 1.0);

    let text = sandbox.ok(&[&["score"], &resampled[..]].concat());
    let (scores, rest) = text.split_once("\n\n").unwrap();
    assert_eq!(scores, BOTH_TEXT.trim_end());
    assert!(
        rest.starts_with("intervals of level 0.95 from 200 resamples, seed 42\n"),
        "{rest}"
    );
    assert_contains(
        rest,
        &["\nspan_f1_micro             0.3333   0.0000   0.6667\n"],
    );
    assert_contains(rest, &["compared with gold.conll: "]);

    let sandbox = labels();
    let found = json_of(
        &sandbox,
        &[
            "--gold",
            "gold.csv",
            "--pred",
            "pred.jsonl",
            "--bootstrap",
            "50",
            "--compare",
            "gold.csv",
        ],
    );
    assert_eq!(found["comparison"]["accuracy"]["difference"], -0.5);
    assert_eq!(found["confidence"].as_object().unwrap().len(), 3 + 11);
}

#[test]
fn what_cannot_be_scored_is_refused_with_its_place() {
    let sandbox = tags();
    sandbox.write("run.conll", column(3).replace("sold", "ran"));
    sandbox.write("short.conll", column(3).replace("Lima\tI-PER\n", ""));
    sandbox.write("fewer.conll", column(3).replace("\nBob\tO\n", ""));
    sandbox.write("empty.conll", "");
    sandbox.write("blank.jsonl", "\r\n\n");
    sandbox.write("ints.jsonl", "{\"ner_tags\": [0, 1]}\n");
    sandbox.write("label.csv", "label\na\n");
    sandbox.write("iobes.conll", "Ann S-PER S-PER\n");
    sandbox.write("bad.jsonl", "{\"tags\": [\"O\"]}\n{\"tags\": 3}\n");
    let against = |file: &'static str| ["--gold", "gold.conll", "--pred", file];
    for (args, code, says) in [
        (
            &against("run.conll")[..],
            1,
            &["run.conll:2: found the word `ran`, but gold.conll:2 has `sold`"][..],
        ),
        (
            &against("short.conll"),
            1,
            &["short.conll:5: found a sentence of 2 words, but gold.conll:5 has one of 3"],
        ),
        (
            &against("fewer.conll"),
            1,
            &["fewer.conll:5: found the last of 2 sentences, but gold.conll:9 has the last of 3"],
        ),
        (
            &against("empty.conll"),
            1,
            &["empty.conll: holds no examples"],
        ),
        (
            &against("blank.jsonl"),
            1,
            &["blank.jsonl: holds no examples"],
        ),
        (
            &against("bad.jsonl"),
            1,
            &["bad.jsonl:2: key `tags`: found a number, expected a list"],
        ),
        (&against("none.conll"), 1, &["none.conll: no such file"]),
        (
            &against("label.csv"),
            2,
            &["label.csv: csv files cannot hold words with tags"],
        ),
        (
            &against("ints.jsonl"),
            2,
            &[
                "ints.jsonl:1: key `ner_tags` holds integers",
                "hint: ",
                "--labels",
            ],
        ),
        (
            &["--gold", "gold.conll"],
            2,
            &[
                "gold.conll:1: found 2 fields, expected 3",
                "hint: ",
                "--pred",
            ],
        ),
        (
            &["--pred", "pred.jsonl"],
            2,
            &["pred.jsonl:1: no key `gold`", "hint: ", "--gold"],
        ),
        (
            &["--gold", "iobes.conll", "--mode", "strict"],
            2,
            &[
                "iobes.conll:1: tag `S-PER` at word 0 is not an iob2 tag",
                "hint: the tags are iobes: --scheme iobes",
            ],
        ),
        (
            &[
                "--gold",
                "gold.conll",
                "--pred",
                "pred.conll",
                "--compare",
                "run.conll",
            ],
            1,
            &["run.conll:2: found the word `ran`"],
        ),
        (
            &["--gold", "both.conll", "--bootstrap", "0"],
            2,
            &["--bootstrap 0"],
        ),
        (
            &["--gold", "both.conll", "--level", "95"],
            2,
            &["--level 95: expected a number between 0 and 1"],
        ),
        (
            &["--gold", "both.conll", "--scheme", "iob"],
            2,
            &["unknown tag scheme `iob`; expected one of iob1 iob2 (bio)"],
        ),
        (
            &["--gold", "both.conll", "--label", "ner"],
            2,
            &["both.conll: column `ner` is asked for by name"],
        ),
        (
            &["--gold", "both.conll", "--label", "7"],
            2,
            &["both.conll:1: no column 7; there are 4, counted from 0"],
        ),
        (
            &["--gold", "-", "--pred", "pred.conll", "--compare", "-"],
            2,
            &["only one of the files can be stdin"],
        ),
        (&["--compare", "pred.conll"], 2, &["--gold"]),
        (&[], 2, &["--gold", "--pred"]),
    ] {
        refused(&sandbox, &[&["score"], args].concat(), code, says);
    }
}

#[test]
fn bilou_is_read_leniently_by_its_own_prefixes() {
    let sandbox = Sandbox::empty();
    let conll = |tags: &[&str]| -> String { tags.iter().map(|tag| format!("w {tag}\n")).collect() };
    let gold = ["U-PER", "U-PER", "O", "B-PER", "L-PER", "B-PER", "L-PER"];
    let pred = ["U-PER", "U-PER", "O", "O", "O", "B-PER", "L-PER"];
    sandbox.write("gold.conll", conll(&gold));
    sandbox.write("pred.conll", conll(&pred));
    let files = ["--gold", "gold.conll", "--pred", "pred.conll"];
    for scheme in [
        &[][..],
        &["--scheme", "bilou"],
        &["--mode", "strict", "--scheme", "bilou"],
    ] {
        let scores = json_of(&sandbox, &[&files[..], scheme].concat());
        assert_eq!(scores["per_type"]["PER"]["support"], 4, "{scheme:?}");
        assert_eq!(scores["span_f1_micro"], 6.0 / 7.0, "{scheme:?}");
    }
}

/// What a run leaves scores as the run reported it.
#[test]
fn the_predictions_of_a_run_give_the_scores_of_its_report() {
    let sandbox = Sandbox::new();
    let rows = [
        "good,pos",
        "bad,neg",
        "warm,pos",
        "sad,neg",
        "dull,neg",
        "bright,pos",
    ];
    sandbox.write("train.csv", format!("text,label\n{}\n", rows.join("\n")));
    let config = "task = \"sequence\"\n[model]\npath = \"model\"\n[lora]\nr = 4\n[data]\ntrain = \"train.csv\"\nvalidation = \"train.csv\"\n[train]\nepochs = 2\n";
    sandbox.write("run.toml", config);
    sandbox.ok(&["train", "--config", "run.toml", "--run", "out"]);
    let found = json_of(&sandbox, &["--pred", "out/predictions.jsonl"]);
    let report = sandbox.json("out/report.json");
    let scores = report["scores"].as_object().unwrap();
    assert!(scores.len() >= 8, "{scores:?}");
    for (key, value) in scores {
        if ["log_loss", "ece"].contains(&key.as_str()) {
            // The probabilities in the file are written with the digits of f32.
            let [found, expected] = [&found[key], value].map(|v| v.as_f64().unwrap());
            assert!((found - expected).abs() < 1e-6, "{key}: {found} {expected}");
        } else {
            assert_eq!(found[key], *value, "{key}");
        }
    }
    // The probabilities in the file are those of f32.
    let loss = [&found["log_loss"], &report["loss"]].map(|loss| loss.as_f64().unwrap());
    assert!((loss[0] - loss[1]).abs() < 1e-6, "{loss:?}");
    let with_gold = json_of(
        &sandbox,
        &["--gold", "train.csv", "--pred", "out/predictions.jsonl"],
    );
    assert_eq!(with_gold["per_class"], found["per_class"]);
}
