//! `report`: the page that a training leaves and what is in it for every kind of label, pages of
//! runs that lack something, label errors that were planted.

use std::path::Path;

use serde_json::{Value, json};

use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, says};

/// What a page never has: anything that runs, or is asked of somebody.
#[track_caller]
pub fn assert_asks_nothing(page: &str) {
    assert!(page.starts_with("<!doctype html>\n<html lang=\"en\">"));
    for part in [
        "<script", "http://", "https://", "url(", "@import", "<img", " src=", "onload",
    ] {
        assert!(!page.contains(part), "{part:?} is in the page");
    }
    let links = page.matches(" href=").count();
    let inner = page.matches(" href=\"#").count() + page.matches(" href=\"data:,\"").count();
    assert_eq!(links, inner);
    assert_contains(page, &["content=\"default-src &#39;none&#39;; style-src"]);
}

/// The text of a page between two marks.
#[track_caller]
fn part<'a>(page: &'a str, from: &str, to: &str) -> &'a str {
    let start = page.find(from).unwrap_or_else(|| panic!("no {from:?}"));
    let rest = &page[start..];
    &rest[..rest
        .find(to)
        .unwrap_or_else(|| panic!("no {to:?} behind {from:?}"))]
}

/// A section of a page.
#[track_caller]
fn section<'a>(page: &'a str, id: &str) -> &'a str {
    part(page, &format!("<h2 id=\"{id}\">"), "</section>")
}

#[test]
fn a_training_leaves_a_page_that_says_what_the_report_says() {
    let sandbox = sequence();
    sandbox.write("test.csv", csv(&reviews()[..11]));
    let set = [
        "data.test=test.csv",
        "train.baselines=true",
        "train.temperature_scaling=true",
        "train.epochs=1",
    ];
    train(&sandbox, "out", &set);
    let page = sandbox.read("out/report.html");
    assert_asks_nothing(&page);
    let report = sandbox.json("out/report.json");
    let value = |value: &Value| format!("{:.4}", value.as_f64().unwrap());
    let scores = section(&page, "scores");
    let row = part(scores, "<th scope=\"row\">Accuracy</th>", "</tr>");
    assert_contains(row, &[&value(&report["scores"]["accuracy"]), " to "]);
    for baseline in report["baselines"].as_array().unwrap() {
        assert_contains(row, &[&value(&baseline["scores"]["accuracy"])]);
        assert_contains(scores, &[baseline["name"].as_str().unwrap()]);
    }
    // Intervals are those of `score` on the same answers.
    let pred = [
        "score",
        "--pred",
        "out/predictions.jsonl",
        "--bootstrap",
        "1000",
    ];
    let intervals = sandbox.ok_json(&[&pred[..], &["--format", "json"]].concat());
    for (key, title) in [("accuracy", "Accuracy"), ("f1_macro", "F1 (macro)")] {
        let found = &intervals["confidence"][key];
        let [low, high] = ["low", "high"].map(|end| value(&found[end]));
        let row = part(scores, &format!("<th scope=\"row\">{title}</th>"), "</tr>");
        assert_contains(row, &[&format!("{low} to {high}")]);
    }
    // The matrix, as in the report.
    let matrix = section(&page, "confusion");
    for row in report["scores"]["confusion"].as_array().unwrap() {
        for cell in row.as_array().unwrap() {
            assert_contains(matrix, &[&format!(">{cell}</td>")]);
        }
    }
    let calibration = section(&page, "calibration");
    assert_contains(calibration, &[&value(&report["scores"]["ece"])]);
    match report["best"]["calibration"]["temperature"].as_f64() {
        Some(temperature) => assert_contains(
            calibration,
            &[
                "Before the temperature",
                "After the temperature",
                &format!("{temperature:.3}"),
            ],
        ),
        None => assert_contains(
            calibration,
            &[
                "As answered",
                "train.temperature_scaling is set, but none is best",
            ],
        ),
    }
    let counts = &report["distributions"]["test"]["labels"];
    assert_eq!(counts, &json!([["neg", 5], ["pos", 6]]));
    let lengths = report["distributions"]["train"]["lengths"]
        .as_array()
        .unwrap();
    assert_eq!(lengths.iter().map(|n| n.as_u64().unwrap()).sum::<u64>(), 20);
    assert_contains(
        section(&page, "curves"),
        &["Learning rate", "1 evaluations"],
    );
    let environment = sandbox.json("out/environment.json");
    for pair in environment["sha256"].as_array().unwrap() {
        assert_contains(section(&page, "environment"), &[pair[1].as_str().unwrap()]);
    }
    assert_contains(
        section(&page, "configuration"),
        &["temperature_scaling = true"],
    );
    // Made again, it is the same, byte for byte.
    assert_contains(&sandbox.ok(&["report", "out"]), &["out/report.html", "kB"]);
    assert_eq!(sandbox.read("out/report.html"), page);
    sandbox.ok(&["report", "out", "--out", "elsewhere.html"]);
    assert_eq!(sandbox.read("elsewhere.html"), page);
    #[cfg(unix)]
    {
        sandbox.write("elsewhere.html", "");
        std::os::unix::fs::symlink("elsewhere.html", sandbox.path("link.html")).unwrap();
        sandbox.ok(&["report", "out", "--out", "link.html"]);
        assert_eq!(sandbox.read("elsewhere.html"), page);
        assert!(sandbox.path("link.html").is_symlink());
    }
    sandbox.write("kept.html", "mine");
    let kept = sandbox.path("kept.html");
    let mut permissions = std::fs::metadata(&kept).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&kept, permissions).unwrap();
    let refused = sandbox.run(&["report", "out", "--out", "kept.html"]);
    says(
        &refused,
        1,
        &["kept.html: cannot write", "the file is read-only"],
    );
    assert_eq!(sandbox.read("kept.html"), "mine");
}

#[test]
fn whatever_stands_in_the_data_is_text_in_the_page() {
    let sandbox = Sandbox::new();
    sandbox.write("run.toml", SEQUENCE);
    let odd = "<script>alert(1)</script>";
    let bidi = "\u{202e}gnp.exe & \"quotes\" 'single' 👩‍👩‍👧 עברית";
    let long = format!("{bidi} {}", "wordé ".repeat(400));
    let rows = [
        (long.as_str(), odd),
        ("b \u{1} c", "x&y"),
        ("the end", odd),
        ("so it goes", "x&y"),
    ];
    let lines = rows.map(|(text, label)| json!({"text": text, "label": label}));
    sandbox.write("train.jsonl", json_lines(lines));
    let set = [
        "data.train=train.jsonl",
        "data.validation=train.jsonl",
        "data.format=jsonl",
        "train.epochs=1",
        "train.learning_rate=1e-6",
    ];
    train(&sandbox, "<b>", &set);
    let page = sandbox.read("<b>/report.html");
    assert_asks_nothing(&page);
    assert!(!page.contains("<b>") && !page.contains('\u{1}'));
    assert_contains(
        &page,
        &[
            "<title>&lt;b&gt;</title>",
            "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;</bdi>",
        ],
    );
    assert_contains(&page, &["x&amp;y"]);
    // A long text is among the mistakes only if it was one; what is shown of it is cut.
    let report = sandbox.json("<b>/report.json");
    assert!(report["scores"]["accuracy"].as_f64().unwrap() < 1.0);
    assert!(!page.contains(&"wordé ".repeat(130)));
}

#[test]
fn a_tagger_s_page_marks_spans_and_names_the_kinds_of_mistakes() {
    let sandbox = token();
    train(
        &sandbox,
        "out",
        &["train.epochs=1", "train.temperature_scaling=true"],
    );
    let answers = sandbox.jsonl("out/predictions.jsonl");
    for answer in &answers {
        let words = answer["tokens"].as_array().unwrap().len();
        let scores = answer["tag_scores"].as_array().unwrap();
        assert_eq!(scores.len(), words);
        assert!(
            scores
                .iter()
                .all(|score| (0.0..=1.0).contains(&score.as_f64().unwrap()))
        );
    }
    let page = sandbox.read("out/report.html");
    assert_asks_nothing(&page);
    let kinds = ["missed", "spurious", "wrong type", "wrong boundary"];
    assert_contains(section(&page, "faults"), &kinds);
    let errors = section(&page, "errors");
    // After one epoch there are mistakes, and the gold spans are marked.
    assert_contains(
        errors,
        &["mark class=\"of-gold\"", "sentences, the surest first"],
    );
    let fitted = sandbox.json("out/report.json")["best"]["calibration"]["temperature"].is_f64();
    assert_eq!(answers[0].get("tag_scores_untempered").is_some(), fitted);
    let before = section(&page, "calibration").contains("Before the temperature");
    assert_eq!(before, fitted);
    // The run of an earlier version kept no scores of tags and no distributions.
    let old: Vec<Value> = answers
        .into_iter()
        .map(|mut answer| {
            answer.as_object_mut().unwrap().shift_remove("tag_scores");
            answer
                .as_object_mut()
                .unwrap()
                .shift_remove("tag_scores_untempered");
            answer
        })
        .collect();
    sandbox.write("out/predictions.jsonl", json_lines(old));
    sandbox.edit_json("out/report.json", json!({"distributions": null}));
    sandbox.ok(&["report", "out"]);
    let page = sandbox.read("out/report.html");
    assert_contains(section(&page, "calibration"), &["do not say how sure"]);
    assert_contains(section(&page, "data"), &["from before labels and lengths"]);
    assert_contains(section(&page, "errors"), &["missed"]);
}

#[test]
fn lists_of_labels_and_numbers_have_what_fits_them() {
    let sandbox = Sandbox::new();
    sandbox.write("run.toml", SEQUENCE);
    let texts = reviews();
    let lists = texts.iter().enumerate().map(|(at, (text, label))| {
        let labels = if at % 3 == 0 {
            json!([label, "third"])
        } else {
            json!([label])
        };
        json!({"text": text, "label": labels})
    });
    sandbox.write("lists.jsonl", json_lines(lists.collect::<Vec<_>>()));
    let numbers = texts.iter().enumerate();
    let numbers = numbers.map(|(at, (text, _))| json!({"text": text, "label": at as f64 / 2.0}));
    sandbox.write("numbers.jsonl", json_lines(numbers.collect::<Vec<_>>()));
    for (run, kind, parts) in [
        (
            "lists",
            "multi_label_classification",
            [
                "third",
                "Bars are how often a label holds",
                "Mean average precision",
            ],
        ),
        (
            "numbers",
            "regression",
            ["Residuals", "furthest off", "Spearman correlation"],
        ),
    ] {
        let data = format!("data.train={run}.jsonl");
        let validation = format!("data.validation={run}.jsonl");
        let kind = format!("model.problem_type={kind}");
        let set = [
            &data,
            &validation,
            &kind,
            "data.format=jsonl",
            "train.epochs=1",
        ];
        train(&sandbox, run, &set.map(|set: &str| set));
        let page = sandbox.read(&format!("{run}/report.html"));
        assert_asks_nothing(&page);
        assert_contains(&page, &parts);
        // What is set is not advised.
        let advice = "train.temperature_scaling fits one";
        assert_eq!(page.contains(advice), run == "lists");
        assert!(!page.contains("NaN"));
        let refused = sandbox.run(&["report", run, "--label-errors"]);
        says(
            &refused,
            2,
            &["label errors are looked for among labels that exclude each other"],
        );
        assert!(!sandbox.path(&format!("{run}/label_errors.json")).exists());
    }
}

/// Answers keep the data's own fields, which may have the names of what another kind of run writes.
#[test]
fn fields_of_the_data_are_not_taken_for_those_of_a_run() {
    let sandbox = Sandbox::new();
    sandbox.write("run.toml", SEQUENCE);
    let texts = reviews().into_iter();
    let texts = texts.map(|(text, label)| {
        json!({"text": text, "label": label, "tokens": 7, "tags": "news;sport", "tag_scores": "x",
               "tag_scores_untempered": {}})
    });
    sandbox.write("rows.jsonl", json_lines(texts));
    let tagger = token();
    let sentences = sentences().into_iter();
    let sentences = sentences.map(|sentence| {
        let (words, tags): (Vec<&str>, Vec<&str>) = sentence.into_iter().unzip();
        json!({"tokens": words, "tags": tags, "score": "high", "scores": [1], "label": 3,
               "labels": "z", "text_pair": 4, "tag_scores_untempered": "x"})
    });
    tagger.write("rows.jsonl", json_lines(sentences));
    let set = [
        "data.train=rows.jsonl",
        "data.validation=rows.jsonl",
        "data.format=jsonl",
        "train.epochs=1",
    ];
    for (sandbox, extra) in [(sandbox, "tokens"), (tagger, "score")] {
        let outcome = train(&sandbox, "out", &set);
        assert!(!outcome.stderr.contains("no page"), "{}", outcome.stderr);
        let [answer, row] = ["out/predictions.jsonl", "rows.jsonl"]
            .map(|file| sandbox.jsonl(file)[0][extra].clone());
        assert_eq!(answer, row);
        assert_contains(&sandbox.read("out/report.html"), &["95 % interval"]);
        sandbox.ok(&["report", "out"]);
        sandbox.ok(&["compare", "out", "out"]);
    }
}

#[test]
fn what_is_no_run_or_is_damaged_leaves_no_page() {
    let sandbox = sequence();
    let refused = |args: &[&str], code, parts: &[&str]| {
        says(&sandbox.run(&[&["report"], args].concat()), code, parts);
    };
    refused(&["none"], 1, &["none: not a run folder: no such folder"]);
    refused(&["model"], 1, &["model: not a run folder: no config.toml"]);
    train(&sandbox, "out", &["train.epochs=1"]);
    let folds = ["out", "--label-errors", "--folds", "1"];
    refused(&folds, 2, &["--folds: expected 2 to 9999, found 1"]);
    refused(&["out", "--folds", "3"], 2, &["--label-errors"]);
    refused(
        &["out", "--out", "nowhere/page.html"],
        1,
        &["nowhere/page.html"],
    );
    refused(
        &["out/config.toml"],
        1,
        &["it is a file, expected the folder that a training made"],
    );
    // What a run keeps is not written over.
    let config = sandbox.read("out/config.toml");
    refused(
        &["out", "--out", "out/config.toml"],
        2,
        &["out/config.toml: is in the run out, expected a file that ends in .html"],
    );
    assert_eq!(sandbox.read("out/config.toml"), config);
    let page = sandbox.read("out/report.html");
    for (file, damaged, parts) in [
        ("predictions.jsonl", "{\"text\": 3", "predictions.jsonl:1:"),
        (
            "predictions.jsonl",
            "{\"text\": \"a\", \"label\": \"pos\"}",
            "predictions.jsonl:1: no `gold`",
        ),
        (
            "predictions.jsonl",
            "{\"text\": \"a\", \"label\": \"pos\", \"gold\": \"good\"}",
            "1: gold: found \"good\", expected one of the model's labels: neg, pos",
        ),
        (
            "predictions.jsonl",
            "{\"text\": \"a\", \"label\": \"pos\", \"gold\": \"pos\", \"scores\": {\"neg\": 2}}",
            "1: scores: found 2 for \"neg\", expected a probability from 0 to 1",
        ),
        ("predictions.jsonl", "", "no answers"),
        ("report.json", "{\"scores\": 1}", "report.json:"),
        ("metrics.jsonl", "x\n", "metrics.jsonl:1:"),
        ("environment.json", "[", "environment.json:"),
        ("best/ls_llama.json", "{}", "ls_llama.json:"),
        ("label_errors.json", "{}", "label_errors.json:"),
    ] {
        let path = format!("out/{file}");
        let whole = sandbox.path(&path).exists().then(|| sandbox.read(&path));
        sandbox.write(&path, damaged);
        refused(&["out"], 1, &[parts]);
        assert_eq!(sandbox.read("out/report.html"), page, "{file}");
        match whole {
            Some(whole) => sandbox.write(&path, whole),
            None => std::fs::remove_file(sandbox.path(&path)).unwrap(),
        }
    }
    // What is missing is no fault.
    for file in [
        "predictions.jsonl",
        "report.json",
        "metrics.jsonl",
        "environment.json",
    ] {
        std::fs::remove_file(sandbox.path(&format!("out/{file}"))).unwrap();
        sandbox.ok(&["report", "out"]);
    }
    let page = sandbox.read("out/report.html");
    assert_contains(
        &page,
        &["not finished", "no metrics.jsonl", "no environment.json"],
    );
    assert_asks_nothing(&page);
}

#[test]
fn a_page_that_cannot_be_written_loses_no_run() {
    let sandbox = sequence();
    train(
        &sandbox,
        "without",
        &["train.epochs=1", "train.report=false"],
    );
    assert!(!sandbox.path("without/report.html").exists());
    // A folder stands where the page would be: it can only be put there once the run has begun, so
    // the run is taken further.
    sandbox.write("without/report.html/in the way", "");
    let resume = ["train", "--resume", "without", "--set", "train.epochs=2"];
    let outcome = sandbox.run(&[&resume[..], &["--set", "train.report=true"]].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_contains(&outcome.stderr, &["no page about the run", "report.html"]);
    assert_eq!(sandbox.json("without/report.json")["steps"], 10);
}

#[test]
fn planted_label_errors_are_found() {
    let sandbox = sequence();
    let mut rows: Vec<(String, &str)> = Vec::new();
    for at in 0..6 {
        rows.extend(
            reviews()
                .into_iter()
                .map(|(text, label)| (format!("{text} {at}"), label)),
        );
    }
    // Of 120 texts whose adjectives tell the class, these are labelled as the other one.
    let planted = [3, 40, 77, 101];
    for at in planted {
        rows[at].1 = if rows[at].1 == "pos" { "neg" } else { "pos" };
    }
    sandbox.write("train.csv", csv(&rows));
    // A random model of two layers learns too little from so few.
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/demo/model");
    let model = format!("model.path={}", demo.display());
    let set = [model.as_str(), "train.epochs=3", "train.learning_rate=3e-3"];
    train(&sandbox, "out", &set);
    let search = ["report", "out", "--label-errors", "--folds", "4"];
    let outcome = sandbox.run(&search);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let found = sandbox.json("out/label_errors.json");
    assert_eq!(
        (&found["folds"], &found["examples"]),
        (&json!(4), &json!(120))
    );
    let all = found["found"].as_array().unwrap();
    for at in planted {
        let line = json!(at + 2);
        let one = all.iter().find(|one| one["line"] == line);
        let one = one.unwrap_or_else(|| panic!("line {line} is not in {found}"));
        assert_eq!(one["text"], rows[at].0);
        assert_eq!(one["given"], rows[at].1);
        assert_ne!(one["suggested"], rows[at].1);
        assert!(one["score_suggested"].as_f64() > one["score_given"].as_f64());
    }
    assert!(all.len() <= 8, "{found}");
    let page = sandbox.read("out/report.html");
    let section = section(&page, "label-errors");
    assert_contains(section, &["4 parts", "of 120 labels", &rows[planted[0]].0]);
    // The models are gone, and nothing else of the run is.
    assert!(!sandbox.path("out/label-errors").exists());
    assert!(sandbox.path("out/best").exists());
}

/// Nothing is trained for them, and nothing is left that another search would find.
#[test]
fn searches_that_cannot_come_to_an_end_are_refused_before_they_begin() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    let before = sandbox.files();
    let search = |folds| sandbox.run(&["report", "out", "--label-errors", "--folds", folds]);
    let too_many = "out: the training split has fewer examples than 21 parts";
    says(&search("21"), 2, &[too_many, "say fewer --folds"]);
    let rows = sandbox.read("train.csv");
    std::fs::remove_file(sandbox.path("train.csv")).unwrap();
    says(&search("2"), 1, &["train.csv: no such file"]);
    sandbox.write("train.csv", rows.replacen(",pos", ",neg", 1));
    let environment = sandbox.json("out/environment.json");
    let noted = environment["sha256"][0][1].as_str().unwrap();
    says(
        &search("2"),
        2,
        &[
            "train.csv: has changed since the run learned from it: its SHA-256 is ",
            &format!("expected {noted}"),
            "put the file back",
        ],
    );
    sandbox.write("train.csv", rows);
    assert!(sandbox.files() == before);
}

#[cfg(unix)]
#[test]
fn a_search_that_was_ended_goes_on_and_no_other_takes_its_place() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    let search = |folds| sandbox.run(&["report", "out", "--label-errors", "--folds", folds]);
    // So many epochs that it is ended while it trains.
    sandbox.write(
        "out/config.toml",
        sandbox
            .read("out/config.toml")
            .replace("epochs = 1\n", "epochs = 60\n"),
    );
    let args = ["report", "out", "--label-errors", "--folds", "2"];
    let mut command = sandbox.command_that_heeds_signals(&args);
    let child = command
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let begun = || {
        let folders = std::fs::read_dir(sandbox.path("out/label-errors"));
        let mut folders = folders.into_iter().flatten().flatten();
        folders.any(|folder| {
            let steps = std::fs::metadata(folder.path().join("metrics.jsonl"));
            steps.is_ok_and(|steps| steps.len() > 0)
        })
    };
    let began = std::time::Instant::now();
    while !begun() {
        assert!(began.elapsed() < std::time::Duration::from_secs(60));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let id = child.id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-s", "INT", &id])
        .status();
    assert!(sent.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert_contains(&stderr, &["go on with: "]);
    assert!(!sandbox.path("out/label_errors.json").exists());
    let way_out = "remove out/label-errors to begin again, or say the same --folds";
    says(&search("3"), 2, &["--folds was 2, is 3", way_out]);
    says(&search("2"), 0, &["of 20 labels are likely wrong"]);
    assert_eq!(sandbox.json("out/label_errors.json")["folds"], 2);
}

#[test]
fn label_errors_of_a_tagger_are_words() {
    let sandbox = token();
    train(&sandbox, "out", &["train.epochs=6"]);
    sandbox.ok(&["report", "out", "--label-errors", "--folds", "2"]);
    let found = sandbox.json("out/label_errors.json");
    assert_eq!(found["examples"], 120);
    for one in found["found"].as_array().unwrap() {
        let words: Vec<&str> = one["text"].as_str().unwrap().split(' ').collect();
        let at = one["word"][0].as_u64().unwrap() as usize;
        assert_eq!(one["word"][1], words[at]);
    }
}

/// Words behind the ninth token are cut off, and by the protocol `paper` not scored.
#[test]
fn by_the_protocol_paper_a_page_and_a_comparison_have_the_scores_of_the_report() {
    let sandbox = token();
    let cut = [
        "data.protocol=paper",
        "data.max_length=9",
        "data.test=train.conll",
    ];
    for (run, epochs) in [("one", "train.epochs=1"), ("two", "train.epochs=8")] {
        train(&sandbox, run, &[&cut[..], &[epochs]].concat());
    }
    let unscored = |answer: &Value| {
        let scores = answer["tag_scores"].as_array().unwrap();
        scores.iter().filter(|score| score.is_null()).count()
    };
    let answers = sandbox.jsonl("one/predictions.jsonl");
    assert!(answers.iter().map(unscored).sum::<usize>() > 0);
    let object = sandbox.ok_json(&["compare", "one", "two", "--json"]);
    for (at, run) in ["one", "two"].iter().enumerate() {
        let report = sandbox.json(&format!("{run}/report.json"));
        let found = object["runs"][at]["scores"].as_object().unwrap();
        assert!(found.len() > 3);
        for (key, value) in found {
            let of = if key == "loss" {
                &report
            } else {
                &report["scores"]
            };
            let reported = of[key].as_f64().unwrap();
            assert!((value.as_f64().unwrap() - reported).abs() < 1e-9, "{key}");
        }
        let page = sandbox.read(&format!("{run}/report.html"));
        assert_contains(section(&page, "scores"), &["95 % interval"]);
    }
    // Without these scores nothing says which words were cut off.
    let old = answers.into_iter().map(|mut answer| {
        answer.as_object_mut().unwrap().shift_remove("tag_scores");
        answer
    });
    sandbox.write("one/predictions.jsonl", json_lines(old.collect::<Vec<_>>()));
    let outcome = sandbox.run(&["compare", "two", "one"]);
    assert_ne!(outcome.code, 0, "{}", outcome.stdout);
    assert_contains(&outcome.stderr, &["one", "cannot be compared"]);
    train(
        &sandbox,
        "whole",
        &["data.protocol=paper", "data.test=train.conll"],
    );
    says(
        &sandbox.run(&["compare", "two", "whole"]),
        2,
        &["the words that are scored differ"],
    );
}

#[test]
fn a_page_of_ten_thousand_examples_is_small() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    let answer = |at: usize| {
        let text = format!(
            "{at} {}",
            "a text of some length, as reviews are, ".repeat(30)
        );
        let (gold, label) = if at.is_multiple_of(3) {
            ("pos", "neg")
        } else {
            ("neg", "neg")
        };
        let score = 0.5 + (at % 1000) as f64 / 2001.0;
        json!({"text": text, "label": label, "score": score, "gold": gold,
               "scores": {"neg": score, "pos": 1.0 - score}})
    };
    sandbox.write("out/predictions.jsonl", json_lines((0..10_000).map(answer)));
    let steps = (1..=20_000).map(|step| {
        json!({"kind": "step", "step": step, "epoch": 1.0, "loss": 1.0 / step as f64,
               "learning_rate": 1e-4, "grad_norm": 1.0, "tokens": 10, "seconds": 0.1,
               "data_seconds": 0.0})
    });
    sandbox.write("out/metrics.jsonl", json_lines(steps));
    sandbox.ok(&["report", "out"]);
    let page = sandbox.read("out/report.html");
    assert!(page.len() < 2_000_000 / 8, "{}", page.len());
    assert_contains(
        section(&page, "errors"),
        &["3\u{202f}334 of 10\u{202f}000 texts", "(cut:"],
    );
}
