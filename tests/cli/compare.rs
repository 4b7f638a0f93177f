//! `compare`: differences, intervals and p of every kind of label against `score --compare`, what
//! is shown beside them, and runs that say nothing about each other.

use serde_json::{Value, json};

use crate::report::assert_asks_nothing;
use crate::runs::*;
use crate::sandbox::{Outcome, Sandbox, assert_contains, says};

/// `compare` of these runs.
fn compared(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    sandbox.run(&[&["compare"], args].concat())
}

#[test]
fn runs_compare_as_their_predictions_do() {
    let sandbox = sequence();
    sandbox.write("test.csv", csv(&reviews()));
    let test = "data.test=test.csv";
    train(
        &sandbox,
        "one",
        &[test, "train.learning_rate=1e-6", "train.epochs=1"],
    );
    train(&sandbox, "two", &[test, "lora.r=2", "train.epochs=6"]);
    // The same with the classes the other way round.
    let reversed = r#"data.labels=["pos", "neg"]"#;
    let set = [test, "lora.r=2", "train.epochs=6", reversed];
    train(&sandbox, "reversed", &set);
    let object = sandbox.ok_json(&["compare", "one", "reversed", "--json"]);
    let report = sandbox.json("reversed/report.json");
    let accuracy = report["scores"]["accuracy"].as_f64().unwrap();
    let first = object["runs"][0]["scores"]["accuracy"].as_f64().unwrap();
    let run = &object["runs"][1];
    assert_eq!(run["scores"]["accuracy"], accuracy);
    let difference = run["differences"]["accuracy"]["difference"]
        .as_f64()
        .unwrap();
    assert!((difference - (accuracy - first)).abs() < 1e-9, "{run}");
    let right = |key: &str| run["mcnemar"][key].as_f64().unwrap();
    let by_mcnemar = (right("only_this") - right("only_first")) / 20.0;
    assert!((difference - by_mcnemar).abs() < 1e-9, "{run}");

    let object = sandbox.ok_json(&["compare", "one", "two", "one", "--json"]);
    assert_eq!(
        (&object["examples"], &object["split"]),
        (&json!(20), &json!("test"))
    );
    let runs = object["runs"].as_array().unwrap();
    assert_eq!(runs[0].get("differences"), None);
    for (at, run) in ["one", "two", "one"].iter().enumerate() {
        let report = sandbox.json(&format!("{run}/report.json"));
        assert_eq!(runs[at]["scores"]["accuracy"], report["scores"]["accuracy"]);
    }
    // `score --compare` has the same test, the other way round.
    let [pred, other] = ["two", "one"].map(|run| format!("{run}/predictions.jsonl"));
    let score = [
        "score",
        "--pred",
        &pred,
        "--compare",
        &other,
        "--format",
        "json",
    ];
    let expected = sandbox.ok_json(&score);
    let difference = &runs[1]["differences"]["accuracy"];
    let theirs = &expected["comparison"]["accuracy"];
    for key in ["difference", "low", "high", "p_value"] {
        assert_eq!(difference[key], theirs[key], "{key}: {expected}");
    }
    // A run does not differ from itself.
    assert_eq!(runs[2]["differences"]["accuracy"]["p_value"], 1.0);
    assert_eq!(
        runs[2]["mcnemar"],
        json!({"only_this": 0, "only_first": 0, "p_value": 1.0})
    );
    let answers = |run: &str| sandbox.jsonl(&format!("{run}/predictions.jsonl"));
    let (one, two) = (answers("one"), answers("two"));
    let right = |answer: &Value| answer["label"] == answer["gold"];
    let only = one
        .iter()
        .zip(&two)
        .filter(|(a, b)| !right(a) && right(b))
        .count();
    assert_eq!(runs[1]["mcnemar"]["only_this"], only);
    let keys = object["settings"].as_array().unwrap().iter();
    let keys: Vec<&str> = keys.map(|row| row[0].as_str().unwrap()).collect();
    assert_eq!(keys, ["lora.r", "train.epochs", "train.learning_rate"]);

    let outcome = compared(&sandbox, &["one", "two", "--html", "both.html"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_contains(
        &outcome.stdout,
        &["Accuracy", "McNemar", "lora.r: 4 | 2", "peak memory"],
    );
    let page = sandbox.read("both.html");
    assert_asks_nothing(&page);
    assert_contains(&page, &["Runs compared", "McNemar", "train.learning_rate"]);
}

#[test]
fn runs_that_say_nothing_about_each_other_are_refused() {
    let sandbox = sequence();
    let rows = reviews();
    sandbox.write("other.csv", csv(&rows[..12]));
    let mut changed = rows.clone();
    changed[4].0.push('!');
    sandbox.write("changed.csv", csv(&changed));
    let mut relabelled = rows;
    relabelled[6].1 = if relabelled[6].1 == "pos" {
        "neg"
    } else {
        "pos"
    };
    sandbox.write("relabelled.csv", csv(&relabelled));
    let fast = ["train.epochs=1", "train.report=false"];
    let run = |name: &str, test: &str| {
        let test = format!("data.test={test}.csv");
        train(&sandbox, name, &[&fast[..], &[&test]].concat());
    };
    run("whole", "train");
    run("other", "other");
    run("changed", "changed");
    run("relabelled", "relabelled");
    train(&sandbox, "chose", &fast);
    let refused = |runs: [&str; 2], code, parts: &[&str]| {
        let outcome = compared(&sandbox, &[&runs[..], &["--html", "page.html"]].concat());
        says(&outcome, code, parts);
        assert!(outcome.stdout.is_empty() && !sandbox.path("page.html").exists());
    };
    refused(
        ["whole", "other"],
        2,
        &["whole and other cannot be compared", "20 and 12 examples"],
    );
    refused(
        ["whole", "changed"],
        2,
        &["example 5 of their splits: their texts differ"],
    );
    refused(
        ["whole", "relabelled"],
        2,
        &["example 7", "the same text is labelled otherwise"],
    );
    refused(
        ["whole", "chose"],
        2,
        &["they report the test and the validation split"],
    );
    refused(["whole", "none"], 1, &["none: not a run folder"]);
    let both = sandbox.ok(&["compare", "chose", "chose", "--html", "chose.html"]);
    let note = "The validation split also chose the checkpoint of every run";
    assert_contains(&both, &[note]);
    assert_contains(&sandbox.read("chose.html"), &[note]);
    assert!(
        !sandbox
            .ok(&["compare", "other", "other"])
            .contains("also chose")
    );
    std::fs::remove_file(sandbox.path("other/report.json")).unwrap();
    refused(
        ["whole", "other"],
        1,
        &[
            "other: cannot be compared: the run is not finished",
            "train --resume RUN",
        ],
    );
    std::fs::remove_file(sandbox.path("changed/predictions.jsonl")).unwrap();
    refused(
        ["whole", "changed"],
        1,
        &[
            "changed: cannot be compared: no predictions.jsonl",
            "a training writes predictions.jsonl at its end",
        ],
    );
    std::fs::remove_file(sandbox.path("relabelled/best/ls_llama.json")).unwrap();
    refused(
        ["whole", "relabelled"],
        1,
        &[
            "relabelled: cannot be compared: no best/ls_llama.json",
            "take it from a copy of the run",
        ],
    );
    let alone = compared(&sandbox, &["whole"]);
    assert_eq!(alone.code, 2, "{}", alone.stderr);
}

/// Numbers from 0 up, as labels of the texts in a column of this name.
fn numbered(column: &str, number: impl Fn(f64) -> f64) -> String {
    let rows = reviews().into_iter().enumerate();
    json_lines(rows.map(|(at, (text, _))| json!({"text": text, column: number(at as f64)})))
}

/// Trains `one` and `two`, which differ in what they learn.
fn two_runs(sandbox: &Sandbox, set: &[&str]) {
    let one = ["train.learning_rate=1e-6", "train.epochs=1"];
    train(sandbox, "one", &[set, &one].concat());
    train(sandbox, "two", &[set, &["train.epochs=3"]].concat());
}

/// `score --compare` has the same test, the other way round.
#[test]
fn every_kind_of_label_compares_as_its_predictions_do() {
    let lists = reviews()
        .into_iter()
        .enumerate()
        .map(|(at, (text, label))| {
            let labels = if at % 3 == 0 {
                json!([label, "third"])
            } else {
                json!([label])
            };
            json!({"text": text, "label": labels})
        });
    let lists = json_lines(lists);
    let rows = [
        "data.train=r.jsonl",
        "data.validation=r.jsonl",
        "data.format=jsonl",
    ];
    let of_texts = |rows: &str| {
        let sandbox = Sandbox::new();
        sandbox.write("run.toml", SEQUENCE);
        sandbox.write("r.jsonl", rows);
        sandbox
    };
    let kind = |kind: &'static str| [&rows[..], &[kind]].concat();
    let words = token();
    let tags = words.read("train.conll").replace("B-", "");
    words.write("train.conll", tags);
    for (sandbox, set, scores) in [
        (
            of_texts(&lists),
            kind("model.problem_type=multi_label_classification"),
            ["f1_micro", "average_precision_macro", "subset_accuracy"],
        ),
        (
            of_texts(&numbered("label", |at| at / 2.0)),
            kind("model.problem_type=regression"),
            ["mse", "mae", "spearman"],
        ),
        (
            token(),
            Vec::new(),
            ["span_f1_micro", "span_recall_macro", "token_accuracy"],
        ),
        (words, Vec::new(), ["accuracy", "f1_macro", "mcc"]),
    ] {
        two_runs(&sandbox, &set);
        let object = sandbox.ok_json(&["compare", "one", "two", "--json"]);
        assert_eq!(object["resamples"], 1000);
        let differences = object["runs"][1]["differences"].as_object().unwrap();
        let score = [
            "--pred",
            "two/predictions.jsonl",
            "--compare",
            "one/predictions.jsonl",
        ];
        let score = [&["score"], &score[..], &["--format", "json"]].concat();
        let expected = sandbox.ok_json(&score);
        for key in scores {
            assert!(differences.contains_key(key), "{object}");
        }
        let mut differ = 0;
        for (key, found) in differences {
            let theirs = &expected["comparison"][key];
            for part in ["difference", "low", "high", "p_value"] {
                let [found, theirs] = [found, theirs].map(|one| one[part].as_f64().unwrap());
                let off = (found - theirs).abs();
                assert!(
                    off <= 1e-6 * theirs.abs().max(1.0),
                    "{key} {part}: {found} {theirs}"
                );
                differ += usize::from(found != 0.0);
            }
        }
        assert!(differ > differences.len(), "{object}");
    }
}

#[test]
fn numbers_compare_whatever_their_column_is_called() {
    let sandbox = Sandbox::new();
    sandbox.write("run.toml", SEQUENCE);
    for (run, column) in [("one", "label"), ("two", "stars")] {
        sandbox.write(&format!("{run}.jsonl"), numbered(column, |at| at));
        let [train_on, test_on] =
            ["train", "validation"].map(|split| format!("data.{split}={run}.jsonl"));
        let name = format!("data.label={column}");
        let set = [
            &train_on,
            &test_on,
            &name,
            "data.format=jsonl",
            "model.problem_type=regression",
            "train.epochs=1",
        ];
        train(&sandbox, run, &set);
    }
    let object = sandbox.ok_json(&["compare", "one", "two", "--json"]);
    assert_eq!(object["runs"][1]["differences"]["mse"]["p_value"], 1.0);
}

/// What has no test is shown all the same: above all what chose the checkpoint.
#[test]
fn a_comparison_shows_what_chose_and_how_it_was_taken() {
    let sandbox = sequence();
    let test = "data.test=train.csv";
    two_runs(&sandbox, &["train.metric_for_best_model=loss", test]);
    let object = sandbox.ok_json(&["compare", "one", "two", "--json"]);
    for (at, run) in ["one", "two"].iter().enumerate() {
        let report = sandbox.json(&format!("{run}/report.json"));
        let found = &object["runs"][at]["scores"];
        assert_eq!(found["loss"], report["loss"]);
        for key in ["log_loss", "ece"] {
            assert!(found[key].is_f64());
            assert_eq!(found[key], report["scores"][key]);
        }
    }
    assert_eq!(object["runs"][1]["differences"].get("loss"), None);
    let text = sandbox.ok(&["compare", "one", "two", "--html", "both.html"]);
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some("20 examples of the test split; intervals and p from 1,000 resamples")
    );
    // The test split is the validation split, which a split of the same name would not mend.
    assert_contains(
        &text,
        &["The test split also chose", "of other examples (data.test)"],
    );
    let titles = text.split("\n\n").skip(1).map(|table| table.lines().next());
    let titles: Vec<&str> = titles.flatten().collect();
    assert!(titles[0].starts_with("Loss"), "{titles:?}");
    assert!(
        titles.iter().any(|title| title.starts_with("Log-loss")),
        "{titles:?}"
    );
    let trained = object["runs"][0]["trainable_parameters"].as_u64().unwrap();
    let trained = format!("{},{:03}\n", trained / 1000, trained % 1000);
    assert_contains(&text, &["parameters that train\n", &trained]);
    // Short trainings took some time.
    assert!(!text.contains(" 0:0"), "{text}");
    let page = sandbox.read("both.html");
    assert_contains(&page, &["over 1\u{202f}000 paired resamples", "Log-loss"]);
}

/// The way out that a refusal names is one.
#[test]
fn a_run_on_other_examples_is_compared_by_its_answers() {
    let sandbox = sequence();
    sandbox.write("other.csv", csv(&reviews()[..12]));
    let run = |name: &str, test: &str| train(&sandbox, name, &[test, "train.epochs=1"]);
    run("first", "data.test=train.csv");
    run("other", "data.test=other.csv");
    let outcome = compared(&sandbox, &["first", "other"]);
    let predict = "`predict --run other --input TEST --output ANSWERS.jsonl`";
    let score = "`score --gold TEST --pred ANSWERS.jsonl --compare first/predictions.jsonl`";
    says(&outcome, 2, &["20 and 12 examples", predict, score]);
    let words = |command: &'static str| {
        let words = command.trim_matches('`').split(' ');
        let words = words.map(|word| if word == "TEST" { "train.csv" } else { word });
        words.collect::<Vec<_>>()
    };
    sandbox.ok(&words(predict));
    assert_contains(
        &sandbox.ok(&words(score)),
        &["compared with first/predictions.jsonl"],
    );
    // Of another kind of answers there is none.
    let tagger = token();
    train(&tagger, "out", &["train.epochs=1"]);
    let tagger = tagger.path("out");
    let outcome = compared(&sandbox, &["first", tagger.to_str().unwrap()]);
    let kinds = "the first answers with one class of a text, the other with spans of words";
    says(&outcome, 2, &[kinds]);
    assert!(!outcome.stderr.contains("predict"), "{}", outcome.stderr);
}

#[test]
fn answers_that_are_not_all_there_are_no_other_split() {
    let sandbox = sequence();
    two_runs(&sandbox, &[]);
    let answers = sandbox.read("two/predictions.jsonl");
    let (cut, _) = answers.trim_end().rsplit_once('\n').unwrap();
    sandbox.write("two/predictions.jsonl", cut);
    let expected = "two: cannot be compared: predictions.jsonl has 19 answers, and report.json tells \
                    of 20 examples";
    for runs in [["one", "two"], ["two", "one"]] {
        says(
            &compared(&sandbox, &runs),
            1,
            &[expected, "from a copy of the run"],
        );
    }
}

#[cfg(unix)]
#[test]
fn names_break_no_table_and_pages_replace_no_file_of_a_run() {
    let sandbox = sequence();
    train(&sandbox, "one", &["train.epochs=1"]);
    train(&sandbox, "two\nlines", &["train.epochs=2"]);
    let runs = ["one", "two\nlines"];
    let text = sandbox.ok(&[&["compare"], &runs[..]].concat());
    assert_contains(&text, &["  two\u{fffd}lines "]);
    assert!(!text.contains("\nlines"), "{text}");
    let before = sandbox.files();
    std::os::unix::fs::symlink("one/predictions.jsonl", sandbox.path("link.html")).unwrap();
    for page in ["one/predictions.jsonl", "one/new.json", "link.html"] {
        let outcome = compared(&sandbox, &[&runs[..], &["--html", page]].concat());
        let said = format!("{page}: is in the run one, expected a file that ends in .html");
        says(&outcome, 2, &[&said, "say a path outside the run"]);
    }
    std::fs::remove_file(sandbox.path("link.html")).unwrap();
    assert!(sandbox.files() == before);
    sandbox.ok(&[&["compare"], &runs[..], &["--html", "one/both.html"]].concat());
    assert_asks_nothing(&sandbox.read("one/both.html"));
}

#[test]
fn long_titles_keep_to_their_columns() {
    let sandbox = Sandbox::new();
    sandbox.write("run.toml", SEQUENCE);
    let rows = reviews().into_iter();
    let rows = rows.map(|(text, label)| json!({"text": text, "label": [label]}));
    sandbox.write("lists.jsonl", json_lines(rows));
    let set = [
        "data.train=lists.jsonl",
        "data.validation=lists.jsonl",
        "data.format=jsonl",
        "model.problem_type=multi_label_classification",
    ];
    two_runs(&sandbox, &set);
    let text = sandbox.ok(&["compare", "one", "two"]);
    let tables = text.split("\n\n").filter(|table| table.contains("  score"));
    let mut seen = 0;
    for table in tables {
        let (head, rows) = table.split_once('\n').unwrap();
        let end = head.find(" score").unwrap() + " score".len();
        for row in rows.lines() {
            let (row, rest) = row.split_at(end);
            assert!(row.ends_with(|last: char| last.is_ascii_digit()), "{text}");
            assert!(rest.is_empty() || rest.starts_with("  "), "{text}");
            seen += 1;
        }
    }
    assert!(
        seen >= 20 && text.contains("\nAccuracy of whole label sets "),
        "{text}"
    );
}

/// Of numbers in the hundred thousands, whose squares have eleven digits.
#[test]
fn large_scores_keep_to_their_columns() {
    let sandbox = Sandbox::new();
    sandbox.write("run.toml", SEQUENCE);
    let rows = reviews().into_iter().enumerate();
    let rows = rows.map(|(at, (text, _))| json!({"text": text, "label": 100_000 + 7000 * at}));
    sandbox.write("numbers.jsonl", json_lines(rows.collect::<Vec<_>>()));
    let set = [
        "data.train=numbers.jsonl",
        "data.validation=numbers.jsonl",
        "data.format=jsonl",
        "model.problem_type=regression",
        "train.epochs=1",
    ];
    train(&sandbox, "one", &set);
    train(
        &sandbox,
        "two",
        &[&set[..], &["train.learning_rate=1e-3"]].concat(),
    );
    let text = sandbox.ok(&["compare", "one", "two"]);
    let mut lines = text
        .lines()
        .skip_while(|line| !line.starts_with("Mean squared error"));
    let [head, one, two] = [(); 3].map(|()| lines.next().unwrap());
    let end = head.find("score").unwrap() + "score".len();
    for line in [one, two] {
        assert!(line[..end].ends_with("e10"), "{text}");
        assert!(
            line[end..].is_empty() || line[end..].starts_with("  "),
            "{text}"
        );
    }
    assert_eq!(two.chars().count(), head.chars().count(), "{text}");
}
