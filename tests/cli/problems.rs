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
    // Which thresholds the scores are of is said.
    assert_close(&numbers(&evaluated["thresholds"]), &numbers(&thresholds));
    assert_eq!(numbers(&all["thresholds"]), [0.0; 3]);
    for (flags, said) in [
        (&[][..], "each label holds from its own threshold on"),
        (
            &["--threshold", "0.25"],
            "labels hold from 0.25 on (--threshold)",
        ),
    ] {
        let text = sandbox.ok(&[&["evaluate", "--run", "out"][..], flags].concat());
        assert_contains(&text, &[said]);
    }
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

/// What the labels are shows where nothing says it, and is said.
#[test]
fn files_of_lists_and_fractions_say_what_is_learnt() {
    let sandbox = sandbox();
    let lists = "model.problem_type = \"multi_label_classification\"";
    let init = |data: &str, out: &str| {
        sandbox.ok(&[
            "init", data, "--model", "model", "--out", out, "--set", "lora.r=2",
        ])
    };
    assert_contains(&init("multi.jsonl", "lists.toml"), &["found: ", lists]);
    let numbers = sandbox.read("stars.csv");
    let row = |line: &str| {
        let (text, stars) = line.rsplit_once(',').unwrap();
        json!({"text": text, "label": stars.parse::<f64>().unwrap()})
    };
    sandbox.write("stars.jsonl", json_lines(numbers.lines().skip(1).map(row)));
    let number = "model.problem_type = \"regression\"";
    assert_contains(&init("stars.jsonl", "numbers.toml"), &["found: ", number]);
    // A table has no types: its fields show it.
    let table = ["data.text=text", "data.label=stars", "lora.r=2"]
        .map(|key| ["--set", key])
        .concat();
    let init_table = [
        "init",
        "stars.csv",
        "--model",
        "model",
        "--out",
        "table.toml",
    ];
    let found = sandbox.ok(&[&init_table[..], &table].concat());
    assert_contains(&found, &["found: ", number]);
    let written = sandbox.read("numbers.toml");
    assert_contains(&written, &["problem_type = \"regression\""]);
    assert!(!written.contains("labels in train"), "{written}");
    let args = [
        "train",
        "--data",
        "multi.jsonl",
        "--model",
        "model",
        "--run",
        "out",
    ];
    let sets = set(&["train.epochs=1", "lora.r=2"]);
    let outcome = sandbox.run(&[&args[..], &sets].concat());
    says(&outcome, 0, &[lists]);
    sandbox.ok(&["inspect", "multi.jsonl"]);
    let evaluated = [
        "evaluate",
        "--run",
        "out",
        "--data",
        "multi.jsonl",
        "--format",
        "json",
    ];
    assert!(sandbox.ok_json(&evaluated)["f1_micro"].is_f64());
    // What is learnt and from which score on it holds is told of a run and of its adapter.
    for folder in ["out", "out/best"] {
        let facts = sandbox.ok_json(&["inspect", folder, "--json"]);
        assert_eq!(facts["problem_type"], "multi_label_classification");
        let thresholds = facts["thresholds"].as_object().unwrap();
        assert_eq!(
            thresholds.keys().collect::<Vec<_>>(),
            ["fine", "näh", "poor"]
        );
    }
    // Another type is what was asked for.
    let args = [
        "init",
        "multi.jsonl",
        "--model",
        "model",
        "--out",
        "no.toml",
    ];
    let single = set(&["model.problem_type=single_label_classification", "lora.r=2"]);
    let outcome = sandbox.run(&[&args[..], &single].concat());
    says(
        &outcome,
        2,
        &["`label` has the name of a label, but not one text or integer"],
    );
}

/// Of lists each label is a question of its own: what is said of a split is said by examples.
#[test]
fn what_is_worth_a_warning_is_told_as_lists_and_numbers_are_scored() {
    let sandbox = sandbox();
    let rows = |of: &dyn Fn(usize) -> Value| json_lines((0..24).map(of));
    // One label nearly everywhere, one in a few, one in train alone and one not in train.
    let train_rows = rows(&|at| {
        let rare = if at % 3 == 0 {
            json!(["all", "some"])
        } else {
            json!(["all"])
        };
        json!({"text": format!("text {at}"), "label": if at == 5 { json!(["only"]) } else { rare }})
    });
    let again = "{\"text\": \"text 0\", \"label\": [\"some\", \"all\"]}\n";
    sandbox.write("train.jsonl", train_rows + again);
    sandbox.write(
        "validation.jsonl",
        "{\"text\": \"x\", \"label\": [\"all\", \"some\"]}\n",
    );
    let names = "data.labels=[\"all\",\"some\",\"only\",\"new\"]";
    let args = [
        "init",
        "train.jsonl",
        "--validation",
        "validation.jsonl",
        "--model",
        "model",
        "--out",
        "run2.toml",
    ];
    let said = sandbox.ok(&[&args[..], &set(&[names, "lora.r=2"])].concat());
    assert_contains(
        &said,
        &[
            "all 24 (96.0%), ",
            "labels of train that validation has no example of, so that each counts as 0",
        ],
    );
    // A list has no order, and accuracy is none of its scores.
    for wrong in ["repeated with another answer", "accuracy says little"] {
        assert!(!said.contains(wrong), "{said}");
    }
    let files = ["data.train=train.jsonl", "data.validation=validation.jsonl"];
    let keys = [&[MULTI_LABEL, names, "train.epochs=1"], &files[..]].concat();
    let outcome = train(&sandbox, "out", &keys);
    let said = "labels of train that validation has no example of, so that each counts as 0";
    assert_contains(&outcome.stderr, &[said]);
    // One text with two numbers contradicts itself.
    let numbers = "text,stars\na film,1\na road,2\na film,4.5\na road,2.0\n";
    sandbox.write("two.csv", numbers);
    let args = ["init", "two.csv", "--model", "model", "--out", "two.toml"];
    let sets = set(&[
        REGRESSION,
        "data.label=stars",
        "lora.r=2",
        "data.validation_fraction=0.5",
    ]);
    let said = sandbox.ok(&[&args[..], &sets].concat());
    let expected =
        "repeated with another answer: 1 (two.csv:4 is 4.5, the same text in two.csv:2 1)";
    assert_contains(&said, &[expected]);
    // Weights of labels that are not there are seen before anything is trained.
    let args = [
        "init",
        "train.csv",
        "--model",
        "model",
        "--out",
        "weights.toml",
    ];
    let sets = set(&["train.class_weight={ postive = 2.0 }", "lora.r=2"]);
    let outcome = sandbox.run(&[&args[..], &sets].concat());
    assert_ne!(outcome.code, 0);
    assert_contains(
        &outcome.stderr,
        &["no label \"postive\"; the labels are `neg`, `pos`"],
    );
    assert!(!sandbox.path("weights.toml").exists());
}

/// The split that the thresholds were fitted to favours them, and it is said wherever it is
/// reported.
#[test]
fn scores_of_the_split_that_thresholds_were_fitted_to_say_so() {
    let sandbox = sandbox();
    sandbox.write("test.jsonl", sandbox.read("multi.jsonl"));
    for (run, keys, fitted) in [
        ("fitted", &[][..], true),
        ("fixed", &["train.threshold=0.5"], false),
        ("tested", &["data.test=test.jsonl"], false),
    ] {
        let keys = [&LISTS[..], &["train.epochs=1"], keys].concat();
        let outcome = train(&sandbox, run, &keys);
        let said = "the thresholds of the labels were fitted to the validation split too";
        assert_eq!(
            outcome.stdout.contains(said),
            fitted,
            "{run}: {}",
            outcome.stdout
        );
        let report = sandbox.json(&format!("{run}/report.json"));
        assert_eq!(report["reported_split_fitted"] == true, fitted, "{run}");
        let out = format!("{run}-out");
        sandbox.ok(&["export", "--run", run, "--out", &out]);
        let card = sandbox.read(&format!("{out}/README.md"));
        let said = "The thresholds of the labels were fitted to it as well";
        assert_eq!(card.contains(said), fitted, "{card}");
    }
}

/// The list that a text was labelled with is its gold answer, whatever else the input has.
#[test]
fn the_gold_list_is_that_of_the_key_that_was_read() {
    let sandbox = sandbox();
    train(&sandbox, "out", &[&LISTS[..], &["train.epochs=1"]].concat());
    let row = json!({"text": "a film", "label": ["poor", "fine"], "labels": ["other", "thing"]});
    sandbox.write("in.jsonl", json_lines([row]));
    let answers = jsonl(&sandbox.ok(&["predict", "--run", "out", "--input", "in.jsonl"]));
    let gold = answers[0]["gold"].as_array().unwrap();
    assert!(
        gold.contains(&json!("poor")) && gold.contains(&json!("fine")),
        "{answers:?}"
    );
    assert_eq!(answers[0]["input_labels"], json!(["other", "thing"]));
    assert!(answers[0].get("input_label").is_none(), "{answers:?}");
}

/// A part that is set aside has its share of a label that few lists have.
#[test]
fn lists_are_set_aside_in_equal_shares_of_their_rarest_label() {
    let sandbox = sandbox();
    let row = |at: usize| {
        let labels = if at.is_multiple_of(5) {
            json!(["common", "rare"])
        } else {
            json!(["common"])
        };
        json!({"text": format!("the film {at}"), "label": labels})
    };
    sandbox.write("few.jsonl", json_lines((0..40).map(row)));
    let config = SEQUENCE.replace("validation = \"train.csv\"", "");
    sandbox.write("run.toml", config);
    for seed in 0..4 {
        let (run, seed) = (format!("out{seed}"), format!("train.seed={seed}"));
        let fold = "data.fold=1/4";
        let keys = [
            MULTI_LABEL,
            "data.train=few.jsonl",
            "train.epochs=1",
            fold,
            &seed,
        ];
        train(&sandbox, &run, &keys);
        let rows = sandbox.jsonl(&format!("{run}/predictions.jsonl"));
        let rare = rows.iter().filter(|row| numbers_of(&row["gold"]) == 2);
        assert_eq!((rows.len(), rare.count()), (10, 2), "{seed}");
    }
}

/// How many names a list has.
fn numbers_of(list: &Value) -> usize {
    list.as_array().map_or(0, Vec::len)
}

/// What a run leaves is scored as the run reported it, in one file and beside its gold labels.
#[test]
fn the_predictions_of_lists_and_numbers_give_the_scores_of_the_report() {
    let sandbox = sandbox();
    train(
        &sandbox,
        "lists",
        &[&LISTS[..], &["train.epochs=3"]].concat(),
    );
    train(
        &sandbox,
        "numbers",
        &[&NUMBERS[..], &["train.epochs=3"]].concat(),
    );
    let score = |args: &[&str]| {
        let args = [&["score", "--format", "json"], args].concat();
        sandbox.ok_json(&args)
    };
    let delimited = [
        "--gold",
        "multi.csv",
        "--label",
        "label",
        "--pred-label",
        "labels",
    ];
    let by_column = [
        "--gold",
        "stars.csv",
        "--label",
        "stars",
        "--pred-label",
        "score",
    ];
    for (run, gold) in [
        ("lists", &["--gold", "multi.jsonl"][..]),
        (
            "lists",
            &[&delimited[..], &["--label-delimiter", ";"]].concat(),
        ),
        ("numbers", &by_column),
    ] {
        let expected = sandbox.json(&format!("{run}/report.json"))["scores"].clone();
        let expected = expected.as_object().unwrap();
        assert!(expected.len() >= 4, "{expected:?}");
        let pred = format!("{run}/predictions.jsonl");
        let alone = score(&["--pred", &pred, "--bootstrap", "50"]);
        let beside = score(&[gold, &["--pred", &pred]].concat());
        let mut wide = 0;
        for (key, value) in expected {
            assert_eq!(alone[key], *value, "{run} {key}");
            assert_eq!(beside[key], *value, "{run} {key}");
            if let Some(value) = value.as_f64() {
                let interval = &alone["confidence"][key];
                let [low, high] = ["low", "high"].map(|end| interval[end].as_f64().unwrap());
                wide += usize::from(low < high);
                assert!(
                    (low - 0.2..=high + 0.2).contains(&value),
                    "{key}: {interval}"
                );
            }
        }
        assert!(wide >= 4, "{alone}");
        // Against itself nothing differs.
        let same = score(&["--pred", &pred, "--compare", &pred, "--bootstrap", "20"]);
        let key = if run == "lists" { "f1_micro" } else { "mse" };
        assert_eq!(same["comparison"][key]["difference"], 0.0);
        assert_eq!(same["comparison"][key]["p_value"], 1.0);
        let out = format!("{run}-{}", gold[1]);
        sandbox.ok(&["export", "--run", run, "--out", &out]);
        let card = sandbox.read(&format!("{out}/README.md"));
        assert_contains(&card, &["The intervals are those of 1000 resamples"]);
        assert!(!card.contains("There are no intervals"), "{card}");
    }
    // Numbers of any two files, if it is said that they are some.
    sandbox.write("gold.csv", "label\n1\n2.5\n4\n");
    sandbox.write("pred.csv", "label\n2\n2.5\n3\n");
    let args = ["--gold", "gold.csv", "--pred", "pred.csv"];
    let found = score(&[&args[..], &["--problem-type", "regression"]].concat());
    assert_eq!(
        (&found["mae"], &found["mse"]),
        (&json!(2.0 / 3.0), &json!(2.0 / 3.0))
    );
    // Lists without scores have no order to rank.
    sandbox.write(
        "bare.jsonl",
        "{\"label\": [\"a\"], \"gold\": [\"a\", \"b\"]}\n",
    );
    let args = [
        "score",
        "--pred",
        "bare.jsonl",
        "--problem-type",
        "multi_label_classification",
    ];
    refused(
        &sandbox,
        &args,
        2,
        &["bare.jsonl: lists of labels are ranked"],
    );
    sandbox.write("text.csv", "label\n1\nx\n4\n");
    let args = [
        "score",
        "--gold",
        "gold.csv",
        "--pred",
        "text.csv",
        "--problem-type",
        "regression",
    ];
    let outcome = sandbox.run(&args);
    says(&outcome, 1, &["text.csv:3: found \"x\", expected a number"]);
}

/// A run goes on with the problem that its adapter, or its classifier, has learnt, unless it says
/// another; a number keeps its row whatever its column is called.
#[test]
fn the_problem_and_the_row_of_a_number_go_on_with_what_is_begun_from() {
    let sandbox = sandbox();
    let table = sandbox.read("stars.csv");
    sandbox.write("score.csv", table.replacen("stars", "score", 1));
    let numbers = [
        "data.train=score.csv",
        "data.validation=score.csv",
        "data.label=score",
        "train.epochs=1",
        "train.learning_rate=1e-38",
    ];
    let full = ["lora=false", "train.learning_rate=1e-3", "train.epochs=1"];
    train(
        &sandbox,
        "adapter",
        &[&NUMBERS[..], &["train.epochs=1"]].concat(),
    );
    train(&sandbox, "whole", &[&NUMBERS[..], &full].concat());
    for (run, from) in [
        ("of-adapter", "model.adapter=adapter/best"),
        ("of-whole", "model.path=whole/best"),
    ] {
        let outcome = train(&sandbox, run, &[&[from], &numbers[..]].concat());
        assert_contains(&outcome.stderr, &["keep their rows of the head: `score`"]);
        assert!(!outcome.stderr.contains("WARN"), "{}", outcome.stderr);
        let settings = sandbox.json(&format!("{run}/best/ls_llama.json"));
        assert_eq!(settings["problem_type"], "regression", "{run}");
        let report = sandbox.json(&format!("{run}/report.json"));
        assert_eq!(report["began_from"]["kept_labels"], json!(["score"]));
        assert_eq!(report["began_from"]["new_labels"], json!([]));
    }
    // A folder of transformers says it in config.json alone.
    std::fs::remove_file(sandbox.path("whole/best/ls_llama.json")).unwrap();
    train(
        &sandbox,
        "of-config",
        &[&["model.path=whole/best"], &numbers[..]].concat(),
    );
    let config = sandbox.read("of-config/config.toml");
    assert_contains(&config, &["problem_type = \"regression\""]);
    // Another is said to be another.
    let other = [
        "model.problem_type=single_label_classification",
        "train.epochs=1",
    ];
    for (run, from, dir) in [
        ("classes", "model.adapter=adapter/best", "adapter/best"),
        ("classes-of-config", "model.path=whole/best", "whole/best"),
    ] {
        let outcome = train(&sandbox, run, &[&[from], &other[..]].concat());
        let said = format!("{dir} was trained with regression");
        let is = "model.problem_type is single_label_classification";
        assert_contains(&outcome.stderr, &[is, &said]);
        let settings = sandbox.json(&format!("{run}/best/ls_llama.json"));
        assert_eq!(settings["problem_type"], Value::Null, "{run}");
    }
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
        ("one", "train.class_weight.pos=1.0"),
    ] {
        train(&sandbox, run, &["train.epochs=1", key]);
        // As many of each class: a mean by equal weights is the mean.
        assert_close(&[first(&sandbox, run)], &[plain]);
    }
    let config = sandbox.read("one/config.toml");
    assert_contains(&config, &["[train.class_weight]\npos = 1.0"]);
    let mut scored = Vec::new();
    for (run, key) in [
        ("weights", "train.class_weight={ pos = 9.0 }"),
        ("smooth", "train.label_smoothing_factor=0.2"),
        ("focal", "train.focal_gamma=2"),
    ] {
        train(&sandbox, run, &["train.epochs=1", key]);
        assert!((first(&sandbox, run) - plain).abs() > 1e-4, "{run}");
        // The loss of an evaluation is the plain one: that of the answers that the run leaves.
        let rows = sandbox.jsonl(&format!("{run}/predictions.jsonl"));
        let of_gold = |row: &Value| -> f64 {
            let gold = row["gold"].as_str().unwrap();
            -row["scores"][gold].as_f64().unwrap().ln()
        };
        let loss = rows.iter().map(of_gold).sum::<f64>() / rows.len() as f64;
        scored.push((
            sandbox.json(&format!("{run}/report.json"))["loss"].clone(),
            loss,
        ));
    }
    for (found, plain) in scored {
        assert_close(&[found.as_f64().unwrap()], &[plain]);
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
        (
            "g.txt",
            "__label__fine a film __label__poor\n",
            with(&LISTS, &["data.train=g.txt", "data.format=fasttext"]),
            "expected all of them at the beginning of the line",
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
        &["labels: fine 20 (50.0%), näh 20 (50.0%), poor 20 (50.0%)"],
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
