//! Tags that fit no scheme, and tags that are no spans: what is said of them, and how they are
//! scored, from training to `score`.

use serde_json::{Value, json};

use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, jsonl, says};

/// The sentences of [`token`] with other tags.
fn tagged(tag: impl Fn(&str, &str) -> String) -> Sandbox {
    let sandbox = token();
    sandbox.write("train.conll", rows(tag));
    sandbox
}

fn rows(tag: impl Fn(&str, &str) -> String) -> String {
    let sentence = |words: Vec<(&str, &str)>| -> String {
        let words = words
            .iter()
            .map(|(word, old)| format!("{word} {}\n", tag(word, old)));
        words.chain(["\n".to_owned()]).collect()
    };
    sentences().into_iter().map(sentence).collect()
}

/// The sentences of [`token`] with parts of speech.
pub fn parts_of_speech() -> Sandbox {
    tagged(speech)
}

fn speech(word: &str, tag: &str) -> String {
    match (word, tag) {
        (".", _) => "PUNCT",
        ("sold", _) => "VERB",
        ("in", _) => "ADP",
        (_, "O") => "NOUN",
        _ => "PROPN",
    }
    .into()
}

#[test]
fn parts_of_speech_are_scored_by_word() {
    let sandbox = tagged(speech);
    let outcome = train(&sandbox, "out", &[]);
    let note = "note: no tag has a prefix (`ADP`, `NOUN`, `PROPN`, `PUNCT`, `VERB`): each is the label of its word, scored by accuracy and F1 (data.scheme = \"labels\")";
    assert_contains(
        &outcome.stderr,
        &[note, "labels: ADP 20, NOUN 20, PROPN 40"],
    );
    assert!(
        !outcome.stderr.contains("entities need"),
        "{}",
        outcome.stderr
    );
    assert_contains(&outcome.stdout, &["validation accuracy      1.0000"]);
    let report = sandbox.json("out/report.json");
    assert_eq!(report["metric"], "accuracy");
    assert_eq!(report["scores"]["f1_macro"], 1.0);
    assert_eq!(report["scores"]["per_class"]["PROPN"]["support"], 40);
    assert_eq!(report["scores"].get("span_f1_micro"), None);
    // What was decided stands where it is looked for: a second run decides nothing.
    let config = sandbox.read("out/config.toml");
    assert_contains(
        &config,
        &[
            "scheme = \"labels\"",
            "metric_for_best_model = \"accuracy\"",
        ],
    );
    assert_eq!(sandbox.json("out/best/ls_llama.json")["tags"], "labels");
    let outcome = sandbox.run(&["train", "--config", "out/config.toml", "--run", "again"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("note:"), "{}", outcome.stderr);
    assert_eq!(losses(&sandbox, "again"), losses(&sandbox, "out"));

    // No spans anywhere.
    let words = ["predict", "--run", "out", "Zoë sold boats", ""];
    let answers = jsonl(&sandbox.ok(&words));
    let expected = json!({"text": "Zoë sold boats", "tokens": ["Zoë", "sold", "boats"], "tags": ["PROPN", "VERB", "NOUN"]});
    assert_eq!(answers[0], expected);
    let empty = json!({"text": "", "tokens": [], "tags": [], "error": "text is empty"});
    assert_eq!(answers[1], empty);
    let text = |format: &str| sandbox.ok(&[&words[..], &["--format", format]].concat());
    assert_eq!(
        text("text"),
        "PROPN\tZoë\nVERB\tsold\nNOUN\tboats\n\n(no label: text is empty)\t\n\n"
    );
    assert_eq!(text("conll"), "Zoë\tPROPN\nsold\tVERB\nboats\tNOUN\n\n\n");
    for line in sandbox.jsonl("out/predictions.jsonl") {
        assert_eq!((line.get("entities"), &line["tags"]), (None, &line["gold"]));
    }

    let evaluated = sandbox.ok_json(&["evaluate", "--run", "out", "--format", "json"]);
    let scored = [
        "score",
        "--pred",
        "out/predictions.jsonl",
        "--format",
        "json",
    ];
    let scored = sandbox.ok_json(&scored);
    for key in ["accuracy", "f1_macro", "mcc", "confusion"] {
        assert_eq!(evaluated[key], report["scores"][key], "{key}");
        assert_eq!(evaluated[key], scored[key], "{key}");
    }
    let table = sandbox.ok(&["evaluate", "--run", "out"]);
    assert_contains(
        &table,
        &["PROPN                    1.0000", "f1_macro", "confusion"],
    );
    assert!(!table.contains("span_"), "{table}");

    // Without the record, as of an older version or of peft, the names say it.
    sandbox.edit_json("out/best/ls_llama.json", json!({"tags": null}));
    let answers = jsonl(&sandbox.ok(&words));
    assert_eq!(answers[0], expected);
    // With it they do not.
    sandbox.edit_json("out/best/ls_llama.json", json!({"tags": "spans"}));
    assert!(jsonl(&sandbox.ok(&words))[0]["entities"].is_array());
}

#[test]
fn a_word_that_was_cut_off_has_no_label_and_counts_as_wrong() {
    let sandbox = tagged(speech);
    let set = [
        "data.max_length=4",
        "data.long_inputs=truncate",
        "train.epochs=20",
    ];
    train(&sandbox, "out", &set);
    let report = sandbox.json("out/report.json");
    let cut = report["cut"]["validation"]["cut_words"].as_u64().unwrap();
    assert!(cut > 20, "{report}");
    let scores = &report["scores"];
    assert_eq!(scores["per_class"]["_"]["predicted"], cut);
    assert_eq!(scores["per_class"]["_"]["support"], 0);
    assert!(scores["accuracy"].as_f64().unwrap() <= 1.0 - cut as f64 / 120.0);
    let last = |line: &Value| line["tags"].as_array().unwrap().last().unwrap().clone();
    assert!(
        sandbox
            .jsonl("out/predictions.jsonl")
            .iter()
            .all(|line| last(line) == "_")
    );
    let scored = [
        "score",
        "--pred",
        "out/predictions.jsonl",
        "--format",
        "json",
    ];
    assert_eq!(sandbox.ok_json(&scored)["accuracy"], scores["accuracy"]);
    // As the paper measures, they are not there.
    let set = [&set[..], &["data.protocol=paper"]].concat();
    train(&sandbox, "paper", &set);
    let report = sandbox.json("paper/report.json");
    assert_eq!(report["scores"]["per_class"].get("_"), None);
}

#[test]
fn what_tags_are_can_be_said() {
    // Spans as labels of their words.
    let sandbox = token();
    let outcome = train(&sandbox, "out", &["data.scheme=labels", "train.epochs=1"]);
    assert!(!outcome.stderr.contains("note:"), "{}", outcome.stderr);
    let report = sandbox.json("out/report.json");
    assert_eq!(
        (
            &report["metric"],
            &report["scores"]["per_class"]["B-LOC"]["support"]
        ),
        (&json!("accuracy"), &json!(20))
    );
    assert_eq!(
        jsonl(&sandbox.ok(&["predict", "--run", "out", "Ann"]))[0].get("entities"),
        None
    );

    // Metrics are those of the tags, said before or found.
    let metric = |metric: &str| format!("train.metric_for_best_model={metric}");
    let of_spans = metric("span_f1_macro");
    let of_labels = metric("f1_macro");
    let labels = tagged(speech);
    for (sandbox, set, parts) in [
        (
            &sandbox,
            ["data.scheme=labels", &of_spans],
            "unknown metric \"span_f1_macro\" for this task (known: accuracy,",
        ),
        (
            &sandbox,
            ["data.scheme=iob2", &of_labels],
            "unknown metric \"f1_macro\" for this task (known: span_precision_micro,",
        ),
        (
            &sandbox,
            ["train.epochs=1", &of_labels],
            "for tags that are spans: unknown metric \"f1_macro\"",
        ),
        (
            &labels,
            ["train.epochs=1", &of_spans],
            "for tags that are labels: unknown metric \"span_f1_macro\"",
        ),
        (
            &sandbox,
            ["data.scheme=labels", "data.train_scheme=iobes"],
            "data.train_scheme: tags that are labels",
        ),
        (
            &sandbox,
            ["data.scheme=label", "train.epochs=1"],
            "data.scheme: unknown tag scheme `label`; expected one of iob1 iob2 (bio) ioe1 ioe2 (ioe) iobes (bioes) bilou, or labels for tags that are no spans",
        ),
        (
            &sandbox,
            ["data.tag_separator=", "train.epochs=1"],
            "data.tag_separator: expected what stands between",
        ),
        (
            &labels,
            ["data.scheme=bio", "train.epochs=1"],
            "train.conll:1: tag `PROPN` at word 0 is not an iob2 tag",
        ),
    ] {
        let code = if parts.starts_with("train.conll") {
            1
        } else {
            2
        };
        says(&sandbox.run(&train_args("refused", &set)), code, &[parts]);
    }
    train(&labels, "f1", &["train.epochs=1", &of_labels]);
    assert_eq!(labels.json("f1/report.json")["metric"], "f1_macro");
}

#[test]
fn tags_that_fit_no_scheme_are_named_once_with_their_reading() {
    let separated = |_: &str, tag: &str| tag.replace('-', "_");
    let sandbox = tagged(separated);
    let outcome = train(&sandbox, "plain", &["train.epochs=1"]);
    let note = "train.conll:1: `B_LOC`, `B_PER`: no hyphen behind the prefix, so that the type of `B_LOC` is read as `_LOC`; data.tag_separator = \"_\" reads it as `B-LOC`";
    assert_contains(
        &outcome.stderr,
        &[
            "note: ",
            note,
            "note: data.scheme = \"iob2\" (or another scheme) refuses",
        ],
    );
    assert_eq!(outcome.stderr.matches("no hyphen").count(), 1);
    let types = |run: &str| {
        let report = sandbox.json(&format!("{run}/report.json"));
        let types = report["scores"]["per_type"].as_object().unwrap().clone();
        types
            .into_iter()
            .map(|(name, _)| name)
            .collect::<Vec<String>>()
    };
    assert_eq!(types("plain"), ["_LOC", "_PER"]);

    let set = ["data.tag_separator=_"];
    let outcome = train(&sandbox, "out", &set);
    assert!(!outcome.stderr.contains("note:"), "{}", outcome.stderr);
    assert_contains(&outcome.stderr, &["labels: O 80, B-LOC 20, B-PER 20"]);
    assert_eq!(types("out"), ["LOC", "PER"]);
    assert_eq!(
        sandbox.json("out/report.json")["scores"]["span_f1_micro"],
        1.0
    );
    // The setting is the run's: evaluation reads the same files.
    let evaluated = [
        "evaluate",
        "--run",
        "out",
        "--data",
        "train.conll",
        "--format",
        "json",
    ];
    assert_eq!(sandbox.ok_json(&evaluated)["span_f1_micro"], 1.0);
    // Names that are listed are read alike, and a scheme holds.
    let named = [
        "data.tag_separator=_",
        "data.scheme=iob2",
        "data.labels=[\"O\", \"B_PER\", \"B_LOC\"]",
        "train.epochs=1",
    ];
    train(&sandbox, "named", &named);
    assert_eq!(
        sandbox.json("named/best/labels.json"),
        json!(["O", "B-PER", "B-LOC"])
    );
    let refused = sandbox.run(&train_args("refused", &["data.scheme=iob2"]));
    says(
        &refused,
        1,
        &["train.conll:1: tag `B_PER` at word 0 is not an iob2 tag"],
    );

    // Each kind by itself.
    let first = |odd: &str| {
        let odd = odd.to_owned();
        move |word: &str, tag: &str| match word {
            "Ann" => odd.clone(),
            _ => tag.to_owned(),
        }
    };
    for (odd, reading) in [
        (
            "b-org",
            "`b-org`: the prefix is in lower case and is not known: neighbouring words of the type `org` run together to one span; write `B-org`",
        ),
        (
            "PER",
            "`PER`: no prefix, so that the first letter is taken for one and `PER` is read as a span of the type `ER`; write `B-PER` or `I-PER`",
        ),
        (
            "U-PER",
            "`U-PER`: of no one scheme with `B-LOC` (bilou ends longer spans in `L-`, which no tag has): read as spans of one word each",
        ),
        (
            "B-",
            "`B-`: no type behind the hyphen: read as spans of one type without a name; write the type",
        ),
        (
            "O-PER",
            "`O-PER`: a type behind `O` is not read: the same as `O`",
        ),
        (
            "o",
            "`o`: is not `O`, and before a span it is read as one without a type; write `O`",
        ),
    ] {
        sandbox.write("train.conll", rows(first(odd)));
        let outcome = train(&sandbox, &format!("run {odd}"), &["train.epochs=1"]);
        assert_contains(&outcome.stderr, &[&format!("train.conll:1: {reading}")]);
        assert_eq!(
            outcome.stderr.matches("note:").count(),
            2,
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn tags_without_a_type_have_one_nameless_type() {
    let sandbox = tagged(|_, tag| tag.split('-').next().unwrap_or(tag).to_owned());
    let outcome = train(&sandbox, "out", &[]);
    assert_contains(
        &outcome.stderr,
        &[
            "note: ",
            "train.conll:1: `B`: no type behind the prefix: read as spans of one type without a name",
        ],
    );
    assert_eq!(
        outcome.stderr.matches("note:").count(),
        1,
        "{}",
        outcome.stderr
    );
    assert_eq!(
        sandbox.json("out/report.json")["scores"]["span_f1_micro"],
        1.0
    );
    let predict = [
        "predict",
        "--run",
        "out",
        "--format",
        "text",
        "Ann sold boats",
    ];
    let text = sandbox.ok(&predict);
    assert!(text.starts_with("(no type)\tAnn\t0-3\t"), "{text}");
    let table = sandbox.ok(&["evaluate", "--run", "out"]);
    assert_contains(
        &table,
        &["(no type)                   1.0000  1.0000 1.0000       40"],
    );
    let text = sandbox.ok(&["score", "--gold", "out/predictions.jsonl"]);
    let line = "        (no type): precision: 100.00%; recall: 100.00%; FB1: 100.00  40\n";
    assert!(
        text.ends_with(line) && text.matches("precision").count() == 2,
        "{text}"
    );
}

#[test]
fn score_reads_parts_of_speech_by_word() {
    let sandbox = Sandbox::empty();
    sandbox.write(
        "gold.conll",
        "the DET\ndog NOUN\nbarks VERB\n\nit PRON\nbarks VERB\n",
    );
    sandbox.write(
        "pred.conll",
        "the DET\ndog VERB\nbarks VERB\n\nit PRON\nbarks NOUN\n",
    );
    let files = ["score", "--gold", "gold.conll", "--pred", "pred.conll"];
    let json = |args: &[&str]| sandbox.ok_json(&[&files[..], args, &["--format", "json"]].concat());
    // scikit-learn 1.9.1, over the five words.
    let found = json(&[]);
    assert_eq!(found["accuracy"], 0.6);
    assert_eq!(found["f1_macro"], 0.625);
    assert_eq!(found["per_class"]["VERB"]["f1"], 0.5);
    assert_eq!(
        found["confusion"],
        json!([[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 1]])
    );
    let outcome = sandbox.run(&files);
    let note = "note: no tag of gold.conll, pred.conll has a prefix such as B-: each is the label of its word (--scheme labels)";
    says(&outcome, 0, &[note]);
    assert_contains(
        &outcome.stdout,
        &[
            "NOUN                     0.0000",
            "accuracy                 0.6000",
        ],
    );
    assert!(!outcome.stdout.contains("OUN: "), "{}", outcome.stdout);
    // Said, it needs no note; a sentence is one example.
    let said = sandbox.run(&[&files[..], &["--scheme", "labels"]].concat());
    assert_eq!((said.stderr.as_str(), &said.stdout), ("", &outcome.stdout));
    let sampled = json(&["--bootstrap", "50", "--compare", "gold.conll"]);
    assert_eq!(sampled["comparison"]["accuracy"]["other"], 1.0);
    assert!(sampled["confidence"]["f1_macro"]["low"].is_f64());
    // Spans where they are asked for.
    let strict = sandbox.run(&[&files[..], &["--mode", "strict"]].concat());
    says(
        &strict,
        2,
        &["gold.conll:1: tag `DET` at word 0 is not an iob2 tag"],
    );
    let both = sandbox.run(&[&files[..], &["--mode", "strict", "--scheme", "labels"]].concat());
    says(
        &both,
        2,
        &["--mode strict reads spans, and --scheme labels is for tags that are none"],
    );
    assert!(json(&["--scheme", "iob2"])["span_f1_micro"].is_f64());
    let unknown = sandbox.run(&[&files[..], &["--scheme", "pos"]].concat());
    says(
        &unknown,
        2,
        &[
            "unknown tag scheme `pos`",
            "or labels for tags that are no spans",
        ],
    );
}

#[test]
fn score_names_odd_tags_and_takes_a_separator() {
    let sandbox = Sandbox::empty();
    sandbox.write("gold.conll", "Ann B_PER\nsold O\nLima B_LOC\n");
    sandbox.write("pred.conll", "Ann B-PER\nsold O\nLima B_PER\n");
    let files = ["score", "--gold", "gold.conll", "--pred", "pred.conll"];
    let outcome = sandbox.run(&files);
    let note = "note: gold.conll: `B_LOC`, `B_PER`: no hyphen behind the prefix, so that the type of `B_LOC` is read as `_LOC`; --tag-separator _ takes it for one\n\
                note: pred.conll: `B_PER`: no hyphen behind the prefix, so that the type of `B_PER` is read as `_PER`; --tag-separator _ takes it for one\n";
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, note));
    assert_contains(&outcome.stdout, &["_PER: "]);
    let outcome = sandbox.run(&[&files[..], &["--tag-separator", "_"]].concat());
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert_contains(
        &outcome.stdout,
        &["found: 2 phrases; correct: 1.", "LOC: ", "PER: "],
    );
    assert!(!outcome.stdout.contains("_PER"), "{}", outcome.stdout);
}

#[test]
fn the_tags_of_all_files_say_whether_they_are_spans() {
    let sandbox = Sandbox::empty();
    sandbox.write("gold.conll", "a O\nb O\n");
    sandbox.write("labels.conll", "a NOUN\nb VERB\n");
    sandbox.write("spans.conll", "a B_PER\nb B-PER\n");
    sandbox.write("bilou.conll", "a U-PER\nb U-PER\n");
    let score = |pred: &str| {
        let files = ["--gold", "gold.conll", "--pred", pred];
        sandbox.run(&[&["score"], &files[..], &["--format", "json"]].concat())
    };
    let outcome = score("labels.conll");
    says(
        &outcome,
        0,
        &["note: no tag of gold.conll, labels.conll has a prefix such as B-"],
    );
    let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(found["accuracy"], 0.0);
    assert_eq!(found["per_class"]["VERB"]["predicted"], 1);
    // Odd tags are named in whichever file they stand.
    let outcome = score("spans.conll");
    let note = "note: spans.conll: `B_PER`: no hyphen behind the prefix, so that the type of `B_PER` is read as `_PER`; --tag-separator _ takes it for one\n";
    assert_eq!(outcome.stderr, note);
    let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(found["per_type"]["_PER"]["predicted"], 1);
    // Two names of one word, not one of two.
    let found: Value = serde_json::from_str(&score("bilou.conll").stdout).unwrap();
    assert_eq!(found["per_type"]["PER"]["predicted"], 2);
}

#[test]
fn a_separator_of_nothing_is_refused() {
    let sandbox = Sandbox::empty();
    sandbox.write("gold.conll", "a B_PER B_PER\n");
    let outcome = sandbox.run(&["score", "--gold", "gold.conll", "--tag-separator", ""]);
    let message = "error: --tag-separator: expected what stands between the prefix and the type of a tag, found nothing";
    says(&outcome, 2, &[message]);
}

#[test]
fn the_confusion_of_many_labels_is_left_out() {
    let sandbox = Sandbox::empty();
    let score = |labels: usize| {
        let row = |at: usize| format!("w x{} x{}\n", at, at / 2 * 2);
        sandbox.write("a.conll", (0..labels).map(row).collect::<String>());
        let file = ["score", "--gold", "a.conll"];
        let json = sandbox.ok_json(&[&file[..], &["--format", "json"]].concat());
        assert_eq!(json["accuracy"], 0.5);
        assert_eq!(json["per_class"].as_object().unwrap().len(), labels);
        (json["confusion"].clone(), sandbox.ok(&file))
    };
    let (confusion, text) = score(100);
    assert_eq!(confusion.as_array().unwrap().len(), 100);
    assert_contains(&text, &["confusion, rows gold, columns x0, "]);
    let (confusion, text) = score(102);
    assert_eq!(confusion[1][0], 1);
    assert_contains(
        &text,
        &["\nconfusion of 102 classes: not shown; --format json has it\n"],
    );
    // Its square would be 7 GB.
    let (confusion, text) = score(30_000);
    assert_eq!(confusion, Value::Null);
    assert!(text.ends_with("\nconfusion of 30000 classes: not shown\n"));
}
