//! Labels that are lists or numbers, and what changes the loss: what `train`, `evaluate`, `predict`
//! and `export` do with them, and what they refuse.

use serde_json::{Value, json};

use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, jsonl, says};

const MULTI_LABEL: &str = "model.problem_type=multi_label_classification";
const REGRESSION: &str = "model.problem_type=regression";

/// Texts with any of three labels: by adjectives, of which each says one.
fn labelled() -> Vec<(String, Vec<&'static str>)> {
    let things = ["film", "road", "old sea", "boat", "soup of the day"];
    let kinds = [("good", "fine"), ("bad", "poor"), ("warm", "näh")];
    let mut rows = Vec::new();
    for thing in things {
        for which in 0..8 {
            let said = (0..3).filter(|bit| which >> bit & 1 == 1);
            let (words, labels): (Vec<&str>, Vec<&str>) = said.map(|bit| kinds[bit]).unzip();
            rows.push((format!("the {thing} was {}", words.join(" and ")), labels));
        }
    }
    rows
}

/// A folder with a model, the texts with lists of labels and with numbers, and a configuration.
fn sandbox() -> Sandbox {
    let sandbox = sequence();
    labels_of_both_kinds(&sandbox);
    sandbox
}

/// Writes the files of which `LISTS` and `NUMBERS` speak.
pub fn labels_of_both_kinds(sandbox: &Sandbox) {
    let rows = labelled();
    let lists = rows
        .iter()
        .map(|(text, labels)| json!({"text": text, "label": labels}));
    sandbox.write("multi.jsonl", json_lines(lists));
    let lines = |of: &dyn Fn(&[&str]) -> String| -> String {
        let lines = rows
            .iter()
            .map(|(text, labels)| format!("{text},{}\n", of(labels)));
        lines.collect()
    };
    let table = lines(&|labels| labels.join(";"));
    sandbox.write("multi.csv", format!("text,label\n{table}"));
    let value = |labels: &[&str]| {
        let worth = |label: &&str| match *label {
            "fine" => 1.5,
            "poor" => -2.0,
            _ => 0.25,
        };
        3.0 + labels.iter().map(worth).sum::<f64>()
    };
    let table = lines(&|labels| value(labels).to_string());
    sandbox.write("stars.csv", format!("text,stars\n{table}"));
}

pub const LISTS: [&str; 3] = [
    MULTI_LABEL,
    "data.train=multi.jsonl",
    "data.validation=multi.jsonl",
];
pub const NUMBERS: [&str; 4] = [
    REGRESSION,
    "data.train=stars.csv",
    "data.validation=stars.csv",
    "data.label=stars",
];

/// `--set` before each.
fn set<'a>(keys: &[&'a str]) -> Vec<&'a str> {
    keys.iter().flat_map(|key| ["--set", *key]).collect()
}

#[test]
fn any_number_of_labels_is_learned_with_a_threshold_for_each() {
    let sandbox = sandbox();
    sandbox.write("test.jsonl", sandbox.read("multi.jsonl"));
    let keys = [
        &LISTS[..],
        &[
            "train.epochs=15",
            "data.test=test.jsonl",
            "train.baselines=true",
        ],
    ];
    let outcome = train(&sandbox, "out", &keys.concat());
    assert_whole(&sandbox, "out");
    assert_contains(&outcome.stderr, &["labels: fine 20, näh 20, poor 20"]);
    assert_contains(
        &outcome.stdout,
        &["test f1_micro", "majority class", "frozen backbone"],
    );
    let report = sandbox.json("out/report.json");
    assert_eq!(report["metric"], "f1_micro");
    let scores = &report["scores"];
    assert!(scores["f1_micro"].as_f64().unwrap() > 0.95, "{scores}");
    for key in ["subset_accuracy", "f1_macro", "average_precision_macro"] {
        assert!(scores[key].as_f64().unwrap() > 0.8, "{key}: {scores}");
    }
    assert_eq!(scores["per_class"].as_object().unwrap().len(), 3);
    // Of each label half of the texts have it, and no more: the constant answer is none.
    assert_eq!(report["baselines"][0]["scores"]["f1_micro"], 0.0);

    // The thresholds of the best evaluation are those of the model.
    let settings = sandbox.json("out/best/ls_llama.json");
    assert_eq!(settings["problem_type"], "multi_label_classification");
    assert_eq!(settings["labels"], json!(["fine", "näh", "poor"]));
    let thresholds = settings["calibration"]["thresholds"].clone();
    assert_eq!(thresholds.as_array().unwrap().len(), 3);
    let best = records(&sandbox, "out", "evaluation");
    let best = best.iter().rfind(|record| record["best"] == true).unwrap();
    assert_close(
        &numbers(&best["calibration"]["thresholds"]),
        &numbers(&thresholds),
    );

    // They decide what is answered, by the scores that are given.
    let names = ["fine", "näh", "poor"];
    let by = |answer: &Value, thresholds: &[f64]| -> Value {
        let held = names.iter().zip(thresholds);
        let held = held.filter(|(name, from)| answer["scores"][**name].as_f64().unwrap() >= **from);
        held.map(|(name, _)| json!(name)).collect()
    };
    let predict = ["predict", "--run", "out"];
    let input = ["--input", "multi.jsonl"];
    let answers = jsonl(&sandbox.ok(&[&predict[..], &input].concat()));
    let of_run = sandbox.jsonl("out/predictions.jsonl");
    for (answer, row) in answers.iter().zip(&of_run) {
        assert_eq!(answer["labels"], by(answer, &numbers(&thresholds)));
        assert_eq!(answer["labels"], row["labels"]);
        // What the input has under the name of the answer is kept as gold.
        let sorted = |value: &Value| {
            let mut names: Vec<String> = serde_json::from_value(value.clone()).unwrap();
            names.sort();
            names
        };
        assert_eq!(sorted(&answer["gold"]), sorted(&row["gold"]));
        assert!(row.get("input_label").is_none(), "{row}");
    }
    // One for all, said at prediction.
    let low = [&predict[..], &["--threshold", "0"], &input].concat();
    let low = jsonl(&sandbox.ok(&low));
    assert!(low.iter().all(|answer| answer["labels"] == json!(names)));
    let text = sandbox.ok(&[
        &predict[..],
        &["--format", "text", "the film was good and warm"],
    ]
    .concat());
    assert!(text.starts_with("fine,näh\t0."), "{text}");
    assert!(text.ends_with("\tthe film was good and warm\n"), "{text}");

    // `evaluate` finds the scores of the report, and other ones by another threshold.
    let evaluated = sandbox.ok_json(&["evaluate", "--run", "out", "--format", "json"]);
    for key in ["subset_accuracy", "f1_micro", "average_precision_macro"] {
        assert_close(
            &[evaluated[key].as_f64().unwrap()],
            &[scores[key].as_f64().unwrap()],
        );
    }
    let args = [
        "evaluate",
        "--run",
        "out",
        "--threshold",
        "0",
        "--format",
        "json",
    ];
    let all = sandbox.ok_json(&args);
    assert_eq!(all["recall_micro"], 1.0);
    assert_close(&[all["precision_micro"].as_f64().unwrap()], &[0.5]);
}

#[test]
fn lists_of_labels_come_as_json_or_parted_and_train_alike() {
    let sandbox = sandbox();
    let csv = [
        MULTI_LABEL,
        "data.train=multi.csv",
        "data.validation=multi.csv",
        "data.label_delimiter=;",
    ];
    train(&sandbox, "json", &LISTS);
    train(&sandbox, "csv", &csv);
    assert_eq!(losses(&sandbox, "json"), losses(&sandbox, "csv"));
    // The rest of a run goes on as it would have.
    let fixed = [&LISTS[..], &["train.threshold=0.25"]].concat();
    train(&sandbox, "fixed", &fixed);
    let settings = sandbox.json("fixed/best/ls_llama.json");
    assert_eq!(
        settings["calibration"]["thresholds"],
        json!([0.25, 0.25, 0.25])
    );
    // Part of the training split is set aside.
    let aside = [MULTI_LABEL, "data.train=multi.jsonl", "train.epochs=1"];
    sandbox.write(
        "run.toml",
        SEQUENCE.replace("validation = \"train.csv\"", ""),
    );
    let outcome = train(&sandbox, "aside", &aside);
    assert_contains(
        &outcome.stderr,
        &["train: 36 examples", "validation: 4 examples"],
    );
}

#[test]
fn a_number_is_learned_and_given() {
    let sandbox = sandbox();
    let keys = [&NUMBERS[..], &["train.epochs=25", "train.baselines=true"]].concat();
    let outcome = train(&sandbox, "out", &keys);
    assert_whole(&sandbox, "out");
    assert!(!outcome.stderr.contains("labels:"), "{}", outcome.stderr);
    assert_contains(&outcome.stdout, &["validation mse", "mean value"]);
    let report = sandbox.json("out/report.json");
    let score = |key: &str| report["scores"][key].as_f64().unwrap();
    assert!(
        score("pearson") > 0.9 && score("spearman") > 0.9,
        "{report}"
    );
    assert!(score("mse") < 0.5 && score("mae") < 0.6, "{report}");
    // The loss is the error, and the mean the best constant.
    assert_close(&[report["loss"].as_f64().unwrap()], &[score("mse")]);
    let baseline = &report["baselines"][0]["scores"];
    assert_eq!(baseline["pearson"], 0.0);
    assert!(
        (baseline["mse"].as_f64().unwrap() - 1.578125).abs() < 1e-5,
        "{baseline}"
    );
    let best = sandbox.json("out/report.json")["best"].clone();
    let all = records(&sandbox, "out", "evaluation");
    let least = all.iter().map(|record| record["value"].as_f64().unwrap());
    assert_eq!(
        best["value"].as_f64().unwrap(),
        least.fold(f64::MAX, f64::min)
    );

    let settings = sandbox.json("out/best/ls_llama.json");
    assert_eq!(settings["problem_type"], "regression");
    assert_eq!(settings["labels"], json!(["stars"]));
    let rows = sandbox.jsonl("out/predictions.jsonl");
    assert_eq!(
        (&rows[0]["label"], &rows[0]["gold"]),
        (&json!("stars"), &json!(3))
    );
    let texts: Vec<&str> = rows
        .iter()
        .map(|row| row["text"].as_str().unwrap())
        .collect();
    let args = [&["predict", "--run", "out", "--"], &texts[..]].concat();
    let answers = jsonl(&sandbox.ok(&args));
    for (answer, row) in answers.iter().zip(&rows) {
        assert_close(&numbers(&answer["score"]), &numbers(&row["score"]));
    }
    let evaluated = sandbox.ok_json(&["evaluate", "--run", "out", "--format", "json"]);
    assert_close(&[evaluated["mse"].as_f64().unwrap()], &[score("mse")]);
    let table = sandbox.ok(&["evaluate", "--run", "out"]);
    assert_contains(&table, &["pearson ", "spearman ", "mae ", "mse "]);
    assert!(!table.contains("precision"), "{table}");
}

/// Each way of weighing changes what is learned, and nothing of how it is scored.
#[test]
fn weights_smoothing_and_focus_change_the_loss_of_the_steps() {
    let sandbox = sandbox();
    let first = |sandbox: &Sandbox, run: &str| losses(sandbox, run)[0];
    train(&sandbox, "plain", &["train.epochs=1"]);
    let plain = first(&sandbox, "plain");
    for (run, key) in [
        ("balanced", "train.class_weight=balanced"),
        ("even", "train.class_weight={ pos = 2.0, neg = 2.0 }"),
    ] {
        train(&sandbox, run, &["train.epochs=1", key]);
        // As many of each class: a mean by equal weights is the mean.
        assert_close(&[first(&sandbox, run)], &[plain]);
    }
    for (run, key) in [
        ("weights", "train.class_weight={ pos = 9.0 }"),
        ("smooth", "train.label_smoothing_factor=0.2"),
        ("focal", "train.focal_gamma=2"),
    ] {
        train(&sandbox, run, &["train.epochs=1", key]);
        assert!((first(&sandbox, run) - plain).abs() > 1e-4, "{run}");
        let evaluation = &records(&sandbox, run, "evaluation")[0];
        assert!(evaluation["loss"].as_f64().unwrap() < 2.0, "{evaluation}");
    }
    for key in ["train.class_weight=balanced", "train.focal_gamma=1.5"] {
        let run = key.split(['.', '=']).nth(1).unwrap();
        train(&sandbox, run, &[&LISTS[..], &[key]].concat());
    }
    let tagger = token();
    for key in [
        "train.class_weight=balanced",
        "train.class_weight={ O = 0.1 }",
        "train.label_smoothing_factor=0.1",
        "train.focal_gamma=2",
    ] {
        let run = format!("of-{}", key.len());
        train(&tagger, &run, &["train.epochs=8", key]);
        let losses = losses(&tagger, &run);
        assert!(losses[losses.len() - 1] < losses[0], "{key}: {losses:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_the_way_out() {
    let sandbox = sandbox();
    let refuse = |keys: &[&str], code: i32, parts: &[&str]| {
        let args = train_args("out", keys);
        refused(&sandbox, &args, code, parts);
    };
    let with = |base: &[&'static str], keys: &[&'static str]| [base, keys].concat();
    for (keys, fault) in [
        (
            with(&NUMBERS, &["train.class_weight=balanced"]),
            "train.class_weight: a regression has no classes: leave it out",
        ),
        (
            with(&NUMBERS, &["train.focal_gamma=1"]),
            "train.focal_gamma: a regression has no probabilities",
        ),
        (
            with(&NUMBERS, &["train.label_smoothing_factor=0.1"]),
            "train.label_smoothing_factor: a target is spread over classes",
        ),
        (
            with(&LISTS, &["train.label_smoothing_factor=0.1"]),
            "train.label_smoothing_factor: a target is spread over classes",
        ),
        (
            with(
                &[],
                &["train.label_smoothing_factor=0.1", "train.focal_gamma=2"],
            ),
            "train.focal_gamma: it and train.label_smoothing_factor pull",
        ),
        (
            with(&NUMBERS, &["data.labels=[\"a\",\"b\"]"]),
            "data.labels: a regression learns one number",
        ),
        (
            with(&NUMBERS, &["train.threshold=0.5"]),
            "train.threshold: it is for texts for which any",
        ),
        (
            with(&[], &["data.label_delimiter=;"]),
            "data.label_delimiter: it is for texts for which any",
        ),
        (
            with(&LISTS, &["data.label_delimiter=\"\""]),
            "data.label_delimiter: expected what parts",
        ),
        (
            with(&LISTS, &["train.threshold=1.5"]),
            "train.threshold: expected 0 to 1, found 1.5",
        ),
        (
            with(&[], &["train.class_weight={ pos = 0.0 }"]),
            "train.class_weight: expected a number over 0, at most 1e38, for \"pos\", found 0",
        ),
        (
            with(&[], &["train.class_weight=even"]),
            "train.class_weight: expected \"balanced\" or a table of labels and weights",
        ),
        (
            with(&[], &["train.label_smoothing_factor=1"]),
            "train.label_smoothing_factor: expected 0 or more and under 1, found 1",
        ),
        (
            with(&[], &["train.focal_gamma=-1"]),
            "train.focal_gamma: expected 0 to 100, found -1",
        ),
        (
            with(&LISTS, &["train.metric_for_best_model=accuracy"]),
            "unknown metric \"accuracy\" for this task (known: subset_accuracy",
        ),
        (
            with(&NUMBERS, &["train.metric_for_best_model=f1_micro"]),
            "(known: pearson, spearman, mae, mse, loss)",
        ),
        (
            with(&[], &[MULTI_LABEL, "data.dataset=sst2", "task=sequence"]),
            "model.problem_type: a known data set has one label",
        ),
    ] {
        refuse(&keys, 2, &[fault]);
    }
    refuse(
        &with(&[], &["train.class_weight={ postive = 2.0 }"]),
        2,
        &["train.class_weight: no label \"postive\"; the labels are `neg`, `pos`"],
    );
    let tagger = token();
    let args = train_args("out", &[MULTI_LABEL]);
    refused(
        &tagger,
        &args,
        2,
        &["model.problem_type: it is that of texts"],
    );

    // Rows, with their place.
    for (file, rows, keys, fault) in [
        (
            "a.csv",
            "text,stars\na film,3\na road,good\n",
            with(&NUMBERS, &["data.train=a.csv"]),
            "a.csv:3: found \"good\", expected a number as the label",
        ),
        (
            "b.csv",
            "text,stars\na film,nan\n",
            with(&NUMBERS, &["data.train=b.csv"]),
            "b.csv:2: found \"nan\", expected a number as the label",
        ),
        (
            "c.jsonl",
            "{\"text\": \"a film\", \"label\": \"fine\"}\n",
            with(&LISTS, &["data.train=c.jsonl"]),
            "c.jsonl:1: key `label`: found a string, expected a list of labels",
        ),
        (
            "d.jsonl",
            "{\"text\": \"a film\", \"label\": [\"fine\", \"fine\"]}\n",
            with(&LISTS, &["data.train=d.jsonl"]),
            "d.jsonl:1: the label \"fine\" stands twice",
        ),
        (
            "e.jsonl",
            "{\"text\": \"a film\", \"label\": [\"fine\", \"pour\"]}\n",
            with(
                &LISTS,
                &["data.train=e.jsonl", "data.labels=[\"fine\",\"poor\"]"],
            ),
            "e.jsonl:1: unknown label `pour`; the labels are `fine`, `poor`; did you mean `poor`?",
        ),
        (
            "f.jsonl",
            "{\"text\": \"a film\", \"label\": []}\n{\"text\": \"a road\", \"label\": []}\n",
            with(&LISTS, &["data.train=f.jsonl"]),
            "no labels",
        ),
    ] {
        sandbox.write(file, rows);
        refuse(&keys, 1, &[fault]);
    }

    // A model of classes has no thresholds, and one of labels none past their bounds.
    train(&sandbox, "classes", &["train.epochs=1"]);
    train(
        &sandbox,
        "labels",
        &[&LISTS[..], &["train.epochs=1"]].concat(),
    );
    for (run, threshold, fault) in [
        (
            "classes",
            "0.5",
            "--threshold: this model says of no label whether it holds",
        ),
        (
            "labels",
            "1.5",
            "--threshold: expected a number from 0 to 1, found 1.5",
        ),
        (
            "labels",
            "nan",
            "--threshold: expected a number from 0 to 1, found NaN",
        ),
    ] {
        let args = ["predict", "--run", run, "--threshold", threshold, "a film"];
        refused(&sandbox, &args, 2, &[fault]);
    }
    for (thresholds, fault) in [
        (
            json!([0.5]),
            "calibration.thresholds: expected one for each of 3 labels, found 1",
        ),
        (
            json!([0.5, 2.0, 0.5]),
            "calibration.thresholds: expected numbers from 0 to 1, found 2",
        ),
    ] {
        let calibration = json!({"calibration": {"thresholds": thresholds}});
        sandbox.edit_json("labels/best/ls_llama.json", calibration);
        let outcome = sandbox.run(&["predict", "--run", "labels", "a film"]);
        says(&outcome, 1, &[fault]);
    }
}

#[test]
fn init_looks_at_lists_and_numbers() {
    let sandbox = sandbox();
    let init = |data: &str, keys: &[&str], out: &str| {
        let args = [
            "init", data, "--model", "model", "--task", "sequence", "--out", out,
        ];
        sandbox.ok(&[&args[..], &set(keys), &set(&["lora.r=2"])].concat())
    };
    let said = init(
        "multi.jsonl",
        &[MULTI_LABEL, "data.label=label"],
        "lists.toml",
    );
    assert_contains(
        &said,
        &["labels: fine 20 (33.3%), näh 20 (33.3%), poor 20 (33.3%)"],
    );
    let said = init(
        "stars.csv",
        &[REGRESSION, "data.label=stars"],
        "numbers.toml",
    );
    assert!(!said.contains("labels:"), "{said}");
    for config in ["lists.toml", "numbers.toml"] {
        let run = config.split('.').next().unwrap();
        let args = ["train", "--config", config, "--run", run];
        sandbox.ok(&[&args[..], &set(&["train.epochs=1"])].concat());
    }
}
