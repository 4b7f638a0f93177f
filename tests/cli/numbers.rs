//! Numbers that go wrong, and data in which there is nothing to tell apart: named, and passed over
//! where that was allowed.

use serde_json::json;

use crate::resume::{assert_same, left};
use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, weights};

/// The reviews, and one at the end with a character that no other has.
fn with_odd_review() -> Vec<(String, &'static str)> {
    let mut reviews = reviews();
    reviews.push(("the film was good €".into(), "pos"));
    reviews
}

/// A folder with [`with_odd_review`], whose last row the model cannot take, though each of its
/// weights is a number: the first channel is zero for every token but one byte of `€`, and the last
/// norm scales it past the range of f32.
fn overflowing() -> Sandbox {
    let sandbox = sequence();
    let mut weights = weights(520);
    let mut edit = |name: &str, change: &dyn Fn(usize, usize, &mut f32)| {
        let tensor = weights.get_mut(name).unwrap();
        let mut values = tensor.to_f32().unwrap();
        let width = tensor.shape.last().copied().unwrap();
        for (at, value) in values.iter_mut().enumerate() {
            change(at / width, at % width, value);
        }
        *tensor = ls_lora::HostTensor::from_f32(tensor.shape.clone(), &values);
    };
    // `<0x82>`, the second byte of `€`.
    let odd = 3 + 0x82;
    edit("model.embed_tokens.weight", &|row, column, value| {
        if column == 0 {
            *value = if row == odd { 9.0 } else { 0.0 };
        }
    });
    for layer in 0..2 {
        for name in ["self_attn.o_proj", "mlp.down_proj"] {
            let name = format!("model.layers.{layer}.{name}.weight");
            edit(&name, &|row, _, value| {
                if row == 0 {
                    *value = 0.0;
                }
            });
        }
    }
    edit("model.norm.weight", &|_, column, value| {
        if column == 0 {
            *value = 3e38;
        }
    });
    sandbox.write_tensors("model/model.safetensors", &weights);
    sandbox.write("validation.csv", csv(&reviews()));
    sandbox.write("odd.csv", csv(&with_odd_review()));
    sandbox
}

/// Queries alone, which leave the first channel as it is.
const SET: [&str; 6] = [
    "data.train=odd.csv",
    "data.validation=validation.csv",
    "model.attention=bidirectional",
    "lora.target_modules=[\"q_proj\"]",
    "train.group_by_length=false",
    "train.learning_rate=1e-4",
];

fn set<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SET[..], more].concat()
}

#[test]
fn an_example_that_the_model_cannot_take_is_named_with_the_module() {
    let sandbox = overflowing();
    let named = [
        "loss is NaN at step ",
        "odd.csv lines ",
        "; the first output that is no number is that of model.norm, for ",
        "odd.csv line 22\n",
        "or pass over such steps (train.skip_nonfinite_steps, now 0)",
    ];
    for (run, more) in [
        ("plain", &[][..]),
        ("dropout", &["lora.lora_dropout=0.3"]),
        (
            "accumulated",
            &[
                "train.micro_batch_size=2",
                "train.gradient_accumulation_steps=3",
            ],
        ),
        ("checkpointing", &["train.gradient_checkpointing=true"]),
        ("packed", &["model.quantization=int8"]),
    ] {
        let outcome = sandbox.run(&train_args(run, &set(more)));
        assert_eq!(outcome.code, 1, "{run}: {}", outcome.stderr);
        assert_contains(&outcome.stderr, &named);
        let packed = outcome.stderr.contains("no model.quantization");
        assert_eq!(packed, run == "packed", "{}", outcome.stderr);
    }
    // In what is scored it is found before the training, and in what is asked.
    let named = [
        "an output of the model is ",
        "odd.csv line 22; the first output that is no number is that of model.norm",
        "hint: look at the weights of that module",
    ];
    let again = set(&["data.validation=odd.csv", "train.eval_batch_size=64"]);
    refused(&sandbox, &train_args("trial", &again), 1, &named);
    train(&sandbox, "good", &set(&["data.train=validation.csv"]));
    let predict = ["predict", "--run", "good", "the film was good €"];
    let named = ["argument line 1; the first output that is no number is that of model.norm"];
    refused(&sandbox, &predict, 1, &named);
    refused(
        &sandbox,
        &["evaluate", "--run", "good", "--data", "odd.csv"],
        1,
        &["odd.csv line 22; the first output that is no number is that of model.norm"],
    );
}

#[test]
fn steps_without_numbers_are_passed_over_and_shown() {
    let sandbox = overflowing();
    // The example comes once in each of two epochs.
    let outcome = train(&sandbox, "two", &set(&["train.skip_nonfinite_steps=2"]));
    assert_contains(
        &outcome.stderr,
        &[" skipped: loss is NaN, the first output that is no number is that of model.norm, for "],
    );
    assert_contains(&outcome.stdout, &["12 steps (2 skipped: no numbers)"]);
    let report = sandbox.json("two/report.json");
    assert_eq!(
        (&report["steps"], &report["skipped_steps"]),
        (&json!(12), &json!(2))
    );
    let skipped = records(&sandbox, "two", "skipped");
    assert_eq!(skipped.len(), 2);
    for record in &skipped {
        assert_eq!(
            (&record["quantity"], &record["value"]),
            (&json!("loss"), &json!("NaN"))
        );
        let cause = record["cause"].as_str().unwrap();
        assert!(
            cause.contains("model.norm") && cause.ends_with("odd.csv line 22"),
            "{cause}"
        );
    }
    assert_eq!(losses(&sandbox, "two").len(), 10);
    assert!(losses(&sandbox, "two").iter().all(|loss| loss.is_finite()));

    let outcome = sandbox.run(&train_args("one", &set(&["train.skip_nonfinite_steps=1"])));
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert_contains(&outcome.stderr, &["skip_nonfinite_steps, now 1"]);
    assert_eq!(records(&sandbox, "one", "skipped").len(), 1);
    // With one more it goes on, and ends as the other.
    let resume = [
        "train",
        "--resume",
        "one",
        "--set",
        "train.skip_nonfinite_steps=2",
    ];
    let outcome = sandbox.run(&resume);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_same(&left(&sandbox, "one"), &left(&sandbox, "two"), "one");
}

/// The command behind `go on with: `, as a shell takes it.
fn printed_command(stderr: &str) -> &str {
    let (_, command) = stderr.rsplit_once("go on with: ").unwrap();
    command.trim()
}

#[test]
fn what_is_printed_leads_over_steps_without_numbers() {
    let sandbox = overflowing();
    train(&sandbox, "two", &set(&["train.skip_nonfinite_steps=2"]));
    let outcome = sandbox.run(&train_args("out", &set(&[])));
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert_contains(
        &outcome.stderr,
        &["Settings that a run cannot change need another folder (--run)"],
    );
    // The example comes once in each of two epochs.
    let mut stderr = outcome.stderr;
    for (skip, code) in [(1, Some(1)), (2, Some(0))] {
        let command = printed_command(&stderr);
        let ending = format!(" train --resume out --set train.skip_nonfinite_steps={skip}");
        assert!(command.ends_with(&ending), "{command}");
        let output = std::process::Command::new("sh")
            .args(["-c", command])
            .current_dir(sandbox.path(""))
            .env("LS_LLAMA_CACHE", sandbox.path("cache"))
            .output()
            .unwrap();
        stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), code, "{stderr}");
    }
    assert_same(&left(&sandbox, "out"), &left(&sandbox, "two"), "printed");
}

/// Weights that decay by more than there is in f32.
#[test]
fn an_update_that_overflows_is_found_at_its_step() {
    let sandbox = sequence();
    let mut set = vec![
        "train.learning_rate=1e3",
        "train.weight_decay=1e38",
        "train.warmup_steps=1",
    ];
    for skip in [
        "train.skip_nonfinite_steps=0",
        "train.skip_nonfinite_steps=1",
    ] {
        set.push(skip);
        let outcome = sandbox.run(&train_args("out", &set));
        assert_eq!(outcome.code, 1, "{}", outcome.stderr);
        // The rate of the first step is zero.
        let step = if skip.ends_with('0') { 2 } else { 3 };
        assert_contains(
            &outcome.stderr,
            &[
                "a parameter after the update is ",
                &format!(" at step {step}; examples: "),
                "train.csv lines ",
                "; loss and gradient are finite, but model.layers.0.self_attn.q_proj.lora_",
                ".weight is not after the update",
                "hint: lower train.learning_rate (1e3 at its peak) or train.weight_decay (1e38), in \
                 another folder (--run)",
            ],
        );
        // Whatever the examples, it is so again.
        assert!(!outcome.stderr.contains("go on with"), "{}", outcome.stderr);
        assert_eq!(losses(&sandbox, "out").len(), 1);
        std::fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
}

#[test]
fn a_step_in_passes_is_one_that_accumulates() {
    let sandbox = sequence();
    let common = ["train.group_by_length=false", "lora.lora_dropout=0.2"];
    let with = |more: &[&'static str]| [&common[..], more].concat();
    train(
        &sandbox,
        "passes",
        &with(&["train.micro_batch_size=10", "train.pass_size=5"]),
    );
    train(
        &sandbox,
        "accumulated",
        &with(&[
            "train.micro_batch_size=5",
            "train.gradient_accumulation_steps=2",
        ]),
    );
    assert_same(
        &left(&sandbox, "passes"),
        &left(&sandbox, "accumulated"),
        "passes",
    );
    // More than there are is all of them.
    let more = with(&["train.micro_batch_size=5", "train.pass_size=64"]);
    train(&sandbox, "all", &more);
    assert_eq!(sandbox.json("all/report.json")["micro_batch_size"], 5);
    let none = ["train.pass_size=0"];
    let says = ["train.pass_size", "1 to 65536"];
    refused(&sandbox, &train_args("out", &none), 2, &says);
}

#[test]
fn a_size_of_a_pass_that_is_chosen_trains_as_the_one_that_is_given() {
    let sandbox = sequence();
    let more = ["train.epochs=1", "lora.lora_dropout=0.2"];
    train(
        &sandbox,
        "auto",
        &[&more[..], &["train.micro_batch_size=auto"]].concat(),
    );
    train(
        &sandbox,
        "eight",
        &[&more[..], &["train.micro_batch_size=8"]].concat(),
    );
    assert_eq!(losses(&sandbox, "auto"), losses(&sandbox, "eight"));
    assert_contains(
        &sandbox.read("auto/config.toml"),
        &["micro_batch_size = \"auto\"\n"],
    );
    assert_eq!(sandbox.json("auto/report.json")["micro_batch_size"], 8);
    for (value, found) in [
        ("many", "\"many\""),
        ("-1", "-1"),
        ("0", "0"),
        ("1.5", "1.5"),
        ("true", "true"),
    ] {
        let value = format!("train.micro_batch_size={value}");
        let says = ["train.micro_batch_size: ", found];
        refused(&sandbox, &train_args("out", &[&value]), 2, &says);
    }
}

/// The model's weights are spoilt, so that whatever is said was said before they were read.
#[test]
fn one_label_alone_is_refused_before_the_model_is_loaded() {
    let sandbox = sequence();
    poison(&sandbox, "model/model.safetensors", "model.norm.weight");
    let positive: Vec<_> = reviews()
        .into_iter()
        .filter(|(_, label)| *label == "pos")
        .collect();
    sandbox.write("one.csv", csv(&positive));
    // Labels of another kind in another file are not what is wrong.
    let other: Vec<_> = reviews().into_iter().map(|(text, _)| (text, "0")).collect();
    sandbox.write("other.csv", csv(&other));
    let says = [
        "one.csv: each of the 10 examples to learn from has the label \"pos\", expected at least two",
        "hint: is data.label the label?",
    ];
    let one = ["data.train=one.csv"];
    let named = ["data.train=one.csv", "data.labels=[\"neg\",\"pos\"]"];
    let aside = ["data.train=one.csv", "data.validation_fraction=0.2"];
    for set in [&one[..], &named[..]] {
        refused(
            &sandbox,
            &train_args("out", &[set, &["data.validation=one.csv"]].concat()),
            1,
            &says,
        );
    }
    for split in ["data.validation=other.csv", "data.test=other.csv"] {
        refused(&sandbox, &train_args("out", &[one[0], split]), 1, &says);
    }
    sandbox.write(
        "aside.toml",
        SEQUENCE.replace("validation = \"train.csv\"\n", ""),
    );
    let args = [
        "train",
        "--config",
        "aside.toml",
        "--run",
        "out",
        "--set",
        aside[0],
        "--set",
        aside[1],
    ];
    refused(
        &sandbox,
        &args,
        1,
        &["each of the 8 examples to learn from has the label \"pos\""],
    );

    let sandbox = token();
    poison(&sandbox, "model/model.safetensors", "model.norm.weight");
    for (tag, set) in [
        ("O", &[][..]),
        ("NOUN", &[]),
        ("B-PER", &["data.scheme=iob2"]),
    ] {
        sandbox.write(
            "one.conll",
            format!("Ann {tag}\nBob {tag}\n\nLin {tag}\n\n"),
        );
        let set = [&["data.train=one.conll", "data.validation=one.conll"], set].concat();
        let label = format!("{tag:?}");
        let says = [
            "one.conll: each of the 3 words to learn from has the label ",
            &label,
            "hint: is data.tags the label?",
        ];
        refused(&sandbox, &train_args("out", &set), 1, &says);
    }
}

#[test]
fn a_label_that_a_split_lacks_is_pointed_out() {
    let sandbox = sequence();
    let positive: Vec<_> = reviews()
        .into_iter()
        .filter(|(_, label)| *label == "pos")
        .collect();
    sandbox.write("one.csv", csv(&positive));
    let outcome = train(
        &sandbox,
        "out",
        &["data.validation=one.csv", "data.test=train.csv"],
    );
    let lacks =
        "labels of train that validation has no example of, so that they are not scored: \"neg\"";
    assert_contains(&outcome.stderr, &[lacks]);
    assert!(
        !outcome.stderr.contains("that test has"),
        "{}",
        outcome.stderr
    );
    // What was trained may be scored on one label.
    sandbox.ok(&["evaluate", "--run", "out", "--data", "one.csv"]);

    // A label of another split alone is no label, unless the list of labels has it.
    let odd: Vec<_> = reviews()
        .into_iter()
        .chain([("an odd film".into(), "odd")])
        .collect();
    sandbox.write("odd.csv", csv(&odd));
    let test = ["data.test=odd.csv", "train.epochs=1"];
    refused(
        &sandbox,
        &train_args("unknown", &test),
        1,
        &["odd.csv:22: unknown label `odd`"],
    );
    let list = "data.labels=[\"neg\",\"pos\",\"odd\",\"none\"]";
    let outcome = train(&sandbox, "listed", &[&test[..], &[list]].concat());
    assert_contains(
        &outcome.stderr,
        &[
            "labels that train has no example of, so that they are never answered: \"odd\", \"none\"",
            "labels of test that train has no example of, so that they are wrong: \"odd\"",
        ],
    );
}
