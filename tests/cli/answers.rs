//! What `ls-cli predict` answers with checkpoints and an adapter that transformers and peft left,
//! beside the answers of `TextClassificationPipeline` (`tests/fixtures/answers`).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::runs::assert_close;
use crate::sandbox::{Outcome, Sandbox, jsonl, says};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/answers")
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(fixture().join("expected.json")).unwrap()).unwrap()
}

/// With a folder of the fixture in it; the tokenizer goes to `tokenizer`.
fn sandbox(folders: &[&str], tokenizer: &str) -> Sandbox {
    let sandbox = Sandbox::empty();
    for folder in folders {
        std::fs::create_dir(sandbox.path(folder)).unwrap();
        for entry in std::fs::read_dir(fixture().join(folder)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), sandbox.path(folder).join(entry.file_name())).unwrap();
        }
    }
    let file = sandbox.path(tokenizer).join("tokenizer.json");
    std::fs::copy(fixture().join("tokenizer.json"), file).unwrap();
    sandbox
}

fn predict(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    let expected = expected();
    let texts = expected["texts"].as_array().unwrap();
    let texts: Vec<&str> = texts.iter().map(|text| text.as_str().unwrap()).collect();
    let all = ["predict", "--task", "sequence", "--max-length", "64"];
    let outcome = sandbox.run(&[&all, args, &["--"], &texts[..]].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    outcome
}

/// The scores of an answer in the order of `names`.
fn scores(answer: &Value, names: &[&String]) -> Vec<f64> {
    let score = |name: &&String| answer["scores"][name.as_str()].as_f64().unwrap();
    names.iter().map(score).collect()
}

/// Compares every answer with what the pipeline gave, which lists the best label first.
fn check(name: &str, answers: &[Value]) {
    let expected = expected();
    let of_pipeline = expected["scores"][name].as_array().unwrap();
    assert_eq!(answers.len(), of_pipeline.len());
    for (answer, object) in answers.iter().zip(of_pipeline) {
        let object = object.as_object().unwrap();
        let names: Vec<&String> = object.keys().collect();
        let values: Vec<f64> = object.values().map(|v| v.as_f64().unwrap()).collect();
        assert_eq!(answer["scores"].as_object().unwrap().len(), names.len());
        assert_close(&scores(answer, &names), &values);
        assert_eq!(answer["label"], **names[0], "{name}: {answer}");
        assert_close(&[answer["score"].as_f64().unwrap()], &values[..1]);
    }
}

#[test]
fn a_checkpoint_answers_as_the_pipeline_of_transformers_does() {
    for name in [
        "end-pads",
        "last-of-all",
        "tokenizer-pads",
        "multi-label",
        "regression",
        "regression-of-two",
        "one-logit",
    ] {
        let sandbox = sandbox(&[name], name);
        let outcome = predict(&sandbox, &["--model", name]);
        check(name, &jsonl(&outcome.stdout));
        // Without an id in config.json, which token was pooled in training is not known.
        let warned = outcome.stderr.contains("--pooling last_not_pad");
        let unknown = ["last-of-all", "tokenizer-pads"].contains(&name);
        assert_eq!(warned, unknown, "{}", outcome.stderr);
    }
}

#[test]
fn an_adapter_of_peft_is_pooled_by_the_pad_token_of_its_tokenizer() {
    let sandbox = sandbox(&["base", "adapter"], "adapter");
    let outcome = predict(
        &sandbox,
        &[
            "--model",
            "base",
            "--adapter",
            "adapter",
            "--labels",
            "neg,neutral,pos",
        ],
    );
    check("adapter", &jsonl(&outcome.stdout));
}

#[test]
fn pooling_and_problem_type_can_be_said() {
    let probabilities = |sandbox: &Sandbox, args: &[&str]| -> Vec<Value> {
        let answers = jsonl(&predict(sandbox, args).stdout);
        answers
            .iter()
            .map(|answer| answer["scores"].clone())
            .collect()
    };
    let end_pads = sandbox(&["end-pads"], "end-pads");
    let theirs = probabilities(&end_pads, &["--model", "end-pads"]);
    let last = probabilities(&end_pads, &["--model", "end-pads", "--pooling", "last"]);
    assert_ne!(theirs, last);
    let said = ["--model", "end-pads", "--pooling", "last_not_pad"];
    assert_eq!(probabilities(&end_pads, &said), theirs);

    // Where no file names a pad token, the end token pads.
    let last_of_all = sandbox(&["last-of-all"], "last-of-all");
    let said = ["--model", "last-of-all", "--pooling", "last_not_pad"];
    let default = probabilities(&last_of_all, &["--model", "last-of-all"]);
    assert_ne!(probabilities(&last_of_all, &said), default);

    // A bare value is the logit of the probability.
    let one_logit = sandbox(&["one-logit"], "one-logit");
    let names = ["spam".to_string()];
    let of = |args: &[&str]| -> Vec<f64> {
        let answers = jsonl(&predict(&one_logit, args).stdout);
        answers
            .iter()
            .flat_map(|answer| scores(answer, &[&names[0]]))
            .collect()
    };
    let probability = of(&["--model", "one-logit"]);
    let value = of(&["--model", "one-logit", "--problem-type", "regression"]);
    let sigmoid: Vec<f64> = value.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
    assert_close(&sigmoid, &probability);
    assert_ne!(value, probability);

    let refused = one_logit.run(&[
        "predict",
        "--model",
        "one-logit",
        "--task",
        "sequence",
        "--problem-type",
        "ranking",
        "a",
    ]);
    assert_eq!(refused.code, 2);
    assert!(
        refused.stderr.contains(
            "--problem-type: expected one of regression, single_label_classification, \
             multi_label_classification, found \"ranking\""
        ),
        "{}",
        refused.stderr
    );
}

#[test]
fn several_labels_may_hold_or_none() {
    let sandbox = sandbox(&["multi-label"], "multi-label");
    let answers = jsonl(&predict(&sandbox, &["--model", "multi-label"]).stdout);
    let mut counts = Vec::new();
    for answer in &answers {
        let labels = answer["labels"].as_array().unwrap();
        for (name, score) in answer["scores"].as_object().unwrap() {
            let holds = score.as_f64().unwrap() >= 0.5;
            assert_eq!(labels.contains(&json!(name)), holds, "{answer}");
        }
        counts.push(labels.len());
    }
    assert!(counts.iter().any(|count| *count > 1), "{counts:?}");
    // A class of several is not said twice.
    let one_class = self::sandbox(&["end-pads"], "end-pads");
    let answers = jsonl(&predict(&one_class, &["--model", "end-pads"]).stdout);
    assert_eq!(answers[0].get("labels"), None);
}

#[test]
fn a_run_records_its_pooling_and_tells_python_which_token_pads() {
    let sandbox = sandbox(&["base"], "base");
    sandbox.edit_json("base/config.json", json!({"pad_token_id": 2}));
    sandbox.write(
        "train.csv",
        "text,label\nthe sea was sad,neg\na bright film,pos\n",
    );
    sandbox.write(
        "run.toml",
        "task = 'sequence'\nmodel.path = 'base'\nlora.r = 2\n\
         [data]\ntrain = 'train.csv'\nvalidation = 'train.csv'\n\
         [train]\nepochs = 1\nlearning_rate = 0.5\n",
    );
    let mut scores = Vec::new();
    // By default a token pads that no text can end with.
    for (pooling, pad) in [("last", 0), ("last_not_pad", 2)] {
        let set = format!("model.pooling={pooling}");
        sandbox.ok(&[
            "train", "--config", "run.toml", "--set", &set, "--run", pooling,
        ]);
        let settings = sandbox.json(&format!("{pooling}/best/ls_llama.json"));
        assert_eq!(settings["pooling"], pooling);
        assert_eq!(settings["pad_token_id"], pad);
        let card = sandbox.read(&format!("{pooling}/best/README.md"));
        let line = format!("num_labels=2, pad_token_id={pad})");
        assert!(card.contains(&line), "{card}");
        let special = "(`</s>`): text, as any other. In transformers they become tokens unless the \
                       tokenizer is loaded with `split_special_tokens=True`\n";
        assert!(card.contains(special), "{card}");
        let best = format!("{pooling}/best");
        let by_adapter = ["--model", "base", "--adapter", &best];
        let answers = jsonl(&predict(&sandbox, &by_adapter).stdout);
        let texts: Vec<&str> = answers
            .iter()
            .map(|a| a["text"].as_str().unwrap())
            .collect();
        let args = [&["predict", "--run", pooling, "--"], &texts[..]].concat();
        let of_run = jsonl(&sandbox.ok(&args));
        assert_eq!(answers, of_run);
        scores.push(answers);
    }
    assert_ne!(scores[0], scores[1]);
}

#[test]
fn an_adapter_of_peft_is_scored_by_its_answers() {
    let sandbox = sandbox(&["base", "adapter"], "adapter");
    let model = ["--model", "base", "--adapter", "adapter"];
    let named = [&model[..], &["--labels", "neg,neutral,pos"]].concat();
    let answers = jsonl(&predict(&sandbox, &named).stdout);
    let names = ["neg", "neutral", "pos"];
    let rows = |label: &dyn Fn(usize) -> Value| -> String {
        let rows = answers.iter().enumerate().map(|(at, answer)| {
            json!({"text": answer["text"], "label": label(at)}).to_string() + "\n"
        });
        rows.collect()
    };
    // Gold labels in turn, so that some are right.
    sandbox.write("gold.jsonl", rows(&|at| names[at % 3].into()));
    sandbox.write("numbers.jsonl", rows(&|at| (at % 3).into()));
    let lines = answers.iter().map(|answer| format!("{answer}\n"));
    sandbox.write("pred.jsonl", lines.collect::<String>());
    let labels = ["--labels", "neg,neutral,pos"];
    let files = ["--gold", "gold.jsonl", "--pred", "pred.jsonl"];
    let scored =
        sandbox.ok_json(&[&["score"], &files[..], &labels, &["--format", "json"]].concat());
    let correct = answers.iter().enumerate();
    let correct = correct.filter(|(at, answer)| answer["label"] == names[at % 3]);
    let accuracy = correct.count() as f64 / answers.len() as f64;
    assert!(accuracy > 0.0 && accuracy < 1.0, "{accuracy}");

    let common = ["--task", "sequence", "--max-length", "64"];
    let evaluate = |args: &[&str]| sandbox.run(&[&["evaluate"], args, &common].concat());
    for (model, data) in [
        (&named, "gold.jsonl"),
        // Integers count into the head.
        (&named, "numbers.jsonl"),
        (&model.to_vec(), "numbers.jsonl"),
    ] {
        let outcome = evaluate(&[model, &["--data", data, "--format", "json"][..]].concat());
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(found["accuracy"], accuracy);
        for key in ["accuracy", "f1_macro", "mcc", "confusion"] {
            assert_eq!(found[key], scored[key], "{key}");
        }
        assert_close(
            &[found["log_loss"].as_f64().unwrap()],
            &[scored["log_loss"].as_f64().unwrap()],
        );
    }
    let unnamed = evaluate(&[&model[..], &["--data", "gold.jsonl"]].concat());
    says(
        &unnamed,
        1,
        &[
            "unknown label `neg`; the labels are `LABEL_0`, `LABEL_1`, `LABEL_2`",
            "hint: no file of the model names its labels: give the file's in the order of the head with --labels A,B,C",
        ],
    );
}

#[test]
fn one_label_alone_and_several_numbers_are_not_scored() {
    for (name, what) in [
        ("one-logit", "a model with a single label"),
        ("regression-of-two", "a regression of 2 numbers"),
    ] {
        let sandbox = sandbox(&[name], name);
        sandbox.write("a.csv", "text,label\na film,1\n");
        let args = ["--model", name, "--task", "sequence", "--data", "a.csv"];
        let refused = sandbox.run(&[&["evaluate"], &args[..]].concat());
        says(
            &refused,
            1,
            &[
                &format!("{name}: {what} is not scored"),
                "predict gives its answers",
            ],
        );
    }
}

#[test]
fn a_model_of_any_number_of_labels_and_one_of_a_number_are_scored_by_their_answers() {
    let sandbox = sandbox(&["multi-label", "regression"], "multi-label");
    std::fs::copy(
        fixture().join("tokenizer.json"),
        sandbox.path("regression/tokenizer.json"),
    )
    .unwrap();
    let evaluate = |model: &str, set: &[&str]| {
        let data = format!("{model}.jsonl");
        let set = set.iter().flat_map(|set| ["--set", set]);
        let args = [
            "evaluate", "--model", model, "--task", "sequence", "--data", &data,
        ];
        let args = args.into_iter().chain(set);
        let rest = ["--max-length", "64", "--format", "json"];
        sandbox.ok_json(&args.chain(rest).collect::<Vec<_>>())
    };
    // What it answers itself is right.
    let answers = jsonl(&predict(&sandbox, &["--model", "multi-label"]).stdout);
    let rows = |label: &dyn Fn(&Value) -> Value| -> String {
        let rows = answers.iter();
        rows.map(|answer| {
            json!({"text": answer["text"], "label": label(answer)}).to_string() + "\n"
        })
        .collect()
    };
    sandbox.write(
        "multi-label.jsonl",
        rows(&|answer| answer["labels"].clone()),
    );
    let found = evaluate("multi-label", &["data.text=text", "data.label=label"]);
    for key in ["subset_accuracy", "f1_micro", "average_precision_micro"] {
        assert_close(&[found[key].as_f64().unwrap()], &[1.0]);
    }
    // By a delimiter, and with a label too few in the first that has some.
    let mut dropped = false;
    let texts: Vec<String> = answers
        .iter()
        .map(|answer| {
            let labels: Vec<String> = serde_json::from_value(answer["labels"].clone()).unwrap();
            let from = usize::from(!dropped && !labels.is_empty());
            dropped |= from > 0;
            let text = labels[from..].join("; ");
            json!({"text": answer["text"], "label": text}).to_string() + "\n"
        })
        .collect();
    sandbox.write("multi-label.jsonl", texts.concat());
    let found = evaluate("multi-label", &["data.label_delimiter=\"; \""]);
    let (count, accuracy) = (
        answers.len() as f64,
        found["subset_accuracy"].as_f64().unwrap(),
    );
    assert_close(&[accuracy], &[(count - 1.0) / count]);

    let answers = jsonl(&predict(&sandbox, &["--model", "regression"]).stdout);
    let rows = answers.iter().map(|answer| {
        let value = answer["score"].as_f64().unwrap();
        json!({"text": answer["text"], "label": value + 0.5}).to_string() + "\n"
    });
    sandbox.write("regression.jsonl", rows.collect::<String>());
    let found = evaluate("regression", &["data.text=text", "data.label=label"]);
    let value = |key: &str| found[key].as_f64().unwrap();
    assert_close(
        &[value("pearson"), value("mae"), value("mse"), value("loss")],
        &[1.0, 0.5, 0.25, 0.25],
    );
}
