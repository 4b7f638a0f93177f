//! Nothing is believed before it is bounded: numbers of every file, files that are none, words of
//! megabytes, and code of others that breaks down on what it reads.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::runs::*;
use crate::sandbox::{Outcome, Sandbox, says};

const NUMBERS: [u64; 4] = [1 << 32, 1 << 63, u64::MAX, 0];

/// A tagger that was trained for one epoch.
fn tagger() -> Sandbox {
    let sandbox = token();
    let quick = ["--set", "train.epochs=1", "--set", "lora.r=2"];
    sandbox.ok(&[
        &["train", "--config", "run.toml", "--run", "run"][..],
        &quick,
    ]
    .concat());
    sandbox
}

fn predict(sandbox: &Sandbox) -> Outcome {
    sandbox.run(&["predict", "--run", "run", "Ann sold boats"])
}

#[test]
fn a_number_of_a_file_is_held_against_its_bounds() {
    let sandbox = tagger();
    let check = |file: &str, key: &str, expected: &str| {
        let whole = sandbox.read(file);
        for number in NUMBERS {
            sandbox.edit_json(file, json!({key: number}));
            let found = format!("{key}: expected {expected}, found {number}");
            says(&predict(&sandbox), 1, &[file, &found]);
        }
        sandbox.write(file, whole);
    };
    for key in ["num_attention_heads", "num_key_value_heads"] {
        check("model/config.json", key, "an integer from 1 to 16384");
    }
    check(
        "model/config.json",
        "num_hidden_layers",
        "an integer from 1 to 4096",
    );
    check(
        "model/config.json",
        "head_dim",
        "an integer from 2 to 16384",
    );
    for key in ["hidden_size", "intermediate_size"] {
        check("model/config.json", key, "an integer from 1 to 1048576");
    }
    check(
        "model/config.json",
        "vocab_size",
        "an integer from 1 to 16777216",
    );
    let settings = "run/best/ls_llama.json";
    check(settings, "batch_size", "1 to 65536");
    for key in ["max_length", "pad_to"] {
        check(settings, key, "1 to 16777216");
    }
    assert_eq!(predict(&sandbox).code, 0);
    let cases: [(&str, Value, &str); 5] = [
        (
            "stride",
            json!(256),
            "stride: expected less than max_length (256), found 256",
        ),
        (
            "pad_to",
            json!(1 << 20),
            "8388608 tokens a batch, expected at most 1048576",
        ),
        ("labels", json!([]), "labels"),
        (
            "pad_token_id",
            json!(u32::MAX),
            "pad_token_id: expected an id of the model's vocabulary",
        ),
        ("format_version", json!(99), "format_version 99"),
    ];
    let whole = sandbox.read(settings);
    for (key, value, expected) in cases {
        let fields = json!({key: value, "batch_size": 8});
        sandbox.edit_json(settings, fields);
        says(&predict(&sandbox), 1, &["run/best", expected]);
        sandbox.write(settings, &whole);
    }
}

#[test]
fn a_model_is_not_believed_to_have_more_layers_than_its_weights() {
    let sandbox = sequence();
    sandbox.edit_json("model/config.json", json!({"num_hidden_layers": 4096}));
    let outcome = sandbox.run(&["train", "--config", "run.toml", "--run", "out"]);
    let expected = "config.json: num_hidden_layers: expected at most 2, the layers of ";
    says(&outcome, 1, &[expected, "model.safetensors, found 4096"]);
}

#[test]
fn every_number_of_a_configuration_has_bounds_and_all_faults_come_together() {
    let sandbox = sequence();
    let set = [
        ("data.max_length", "4294967296", "1 to 16777216"),
        ("data.pad_to", "4294967296", "1 to 16777216"),
        ("data.stride", "9223372036854775807", "1 to 16777216"),
        ("train.epochs", "4294967296", "1 to 16777216"),
        ("train.micro_batch_size", "4294967296", "1 to 65536"),
        ("train.eval_batch_size", "0", "1 to 65536"),
        (
            "train.gradient_accumulation_steps",
            "4294967296",
            "1 to 16777216",
        ),
        (
            "train.eval_steps",
            "9223372036854775807",
            "1 to 1099511627776",
        ),
        (
            "train.warmup_steps",
            "9223372036854775807",
            "0 to 1099511627776",
        ),
        ("train.early_stopping_patience", "0", "1 to 16777216"),
        (
            "train.learning_rate",
            "1e308",
            "a number over 0, at most 1e38",
        ),
        ("train.weight_decay", "nan", "0 to 1e38"),
        ("train.max_grad_norm", "-1.0", "0 to 1e38"),
        ("train.loraplus_lr_ratio", "1e300", "1 to 1e38"),
    ];
    let mut args = vec!["train".to_string(), "--config".into(), "run.toml".into()];
    for (key, value, _) in set {
        args.extend(["--set".into(), format!("{key}={value}")]);
    }
    args.extend(["--set".into(), "lora.r=99999999".into()]);
    args.extend(["--set".into(), "lora.lora_alpha=1e300".into()]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let expected: Vec<String> = set
        .iter()
        .map(|(key, _, expected)| format!("{key}: expected {expected}, found "))
        .chain(["`r` = 99999999 is invalid".into(), "`lora_alpha`".into()])
        .collect();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    says(&sandbox.run(&args), 2, &expected);
    let passes = ["train", "--config", "run.toml", "--set"];
    let niter = [
        &passes[..],
        &["lora.init_lora_weights=pissa_niter_4294967296"],
    ]
    .concat();
    says(
        &sandbox.run(&niter),
        2,
        &["init_lora_weights", "at most 1024 passes"],
    );
    let padded = [&passes[..], &["data.pad_to=1048576"]].concat();
    says(
        &sandbox.run(&padded),
        2,
        &["data.pad_to", "expected at most 1048576"],
    );
}

#[test]
fn an_adapter_is_not_believed() {
    let sandbox = tagger();
    let file = "run/best/adapter_config.json";
    let whole = sandbox.read(file);
    for (fields, expected) in [
        (json!({"r": u64::MAX}), "`r`"),
        (json!({"r": 1 << 30}), "no layer takes a rank over"),
        (json!({"lora_alpha": 1e300}), "it must lie within"),
        (
            json!({"alpha_pattern": {"q_proj": -1e300}}),
            "it must lie within",
        ),
        (
            json!({"target_modules": "(?:\\w{100}){100}"}),
            "target_modules",
        ),
        (
            json!({"layers_to_transform": vec![0; 9000]}),
            "at most 8192 are taken",
        ),
    ] {
        sandbox.edit_json(file, fields);
        says(&predict(&sandbox), 1, &["adapter_config.json", expected]);
        sandbox.write(file, &whole);
    }
}

/// A folder, a pipe, a device and a file past its size, in the place of each file.
#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_refused_before_it_is_read() {
    let sandbox = tagger();
    sandbox.write("one.toml", sandbox.read("run.toml"));
    let train = [
        "train",
        "--config",
        "one.toml",
        "--run",
        "out",
        "--set",
        "train.epochs=1",
    ];
    let predict = ["predict", "--run", "run", "Ann sold boats"];
    for (file, args) in [
        ("model/config.json", &predict[..]),
        ("model/model.safetensors", &predict),
        ("model/tokenizer.json", &train),
        ("model/tokenizer_config.json", &train),
        ("run/best/tokenizer.json", &predict),
        ("run/best/adapter_config.json", &predict),
        ("run/best/adapter_model.safetensors", &predict),
        ("run/best/ls_llama.json", &predict),
        ("one.toml", &train),
        ("train.conll", &train),
    ] {
        let path = sandbox.path(file);
        let kept = std::fs::read(&path).unwrap();
        let put_aside = || std::fs::remove_file(&path).unwrap();
        put_aside();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let said = sandbox.run(args);
        says(
            &said,
            said.code.clamp(1, 2),
            &["found a pipe or a device, expected a regular file"],
        );
        put_aside();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        if made.is_ok_and(|status| status.success()) {
            let said = sandbox.run(args);
            let expected = "found a pipe or a device, expected a regular file";
            says(&said, said.code.clamp(1, 2), &[expected]);
            put_aside();
        }
        // A hole of a terabyte, of which nothing is read.
        let huge = std::fs::File::create(&path).unwrap();
        if huge.set_len(1 << 40).is_ok() && !file.ends_with(".safetensors") && file != "train.conll"
        {
            let said = sandbox.run(args);
            says(
                &said,
                said.code.clamp(1, 2),
                &["bytes, expected at most that"],
            );
        }
        std::fs::write(&path, kept).unwrap();
    }
}

/// `predict --input <(...)`: what is read once may be a pipe.
#[cfg(unix)]
#[test]
fn inputs_of_a_prediction_may_be_a_pipe() {
    let sandbox = tagger();
    let path = sandbox.path("lines.txt");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    if !made.is_ok_and(|status| status.success()) {
        return;
    }
    let writer = std::thread::spawn(move || std::fs::write(path, "Ann sold boats\nBob ran\n"));
    let out = sandbox.ok(&["predict", "--run", "run", "--input", "lines.txt"]);
    writer.join().unwrap().unwrap();
    assert_eq!(out.lines().count(), 2, "{out}");
}

#[test]
fn a_tokenizer_that_its_crate_breaks_down_on_is_an_error_by_its_path() {
    let sandbox = sequence();
    let file = "model/tokenizer.json";
    let whole: Value = sandbox.json(file);
    let train = ["train", "--config", "run.toml", "--run", "out"];
    // The crate unwraps what it makes of the first, and looks the token of the second up in a text.
    let mut without = whole.clone();
    without["post_processor"]["special_tokens"]
        .as_object_mut()
        .unwrap()
        .clear();
    let deep = format!("{}{}", "[".repeat(126), "]".repeat(126));
    let text = whole.to_string();
    let decoder = format!("\"decoder\":{}", whole["decoder"]);
    assert!(text.contains(&decoder));
    let deep = text.replace(
        &decoder,
        &format!("\"decoder\":{{\"type\":\"Fuse\",\"a\":{deep}}}"),
    );
    for text in [without.to_string(), deep] {
        sandbox.write(file, text);
        let outcome = sandbox.run(&train);
        says(&outcome, 1, &["tokenizer.json: not a usable tokenizer: "]);
        assert!(!outcome.stderr.contains("unwrap()"), "{}", outcome.stderr);
    }
}

/// One word of two megabytes costs a tagger one pass of its model, and its answer is `O` or a tag.
#[test]
fn a_word_of_megabytes_takes_no_longer_than_other_text() {
    let sandbox = tagger();
    let word = "abcde".repeat(400_000);
    sandbox.write("word.txt", format!("Ann {word} Bern\n"));
    let began = Instant::now();
    let out = sandbox.ok(&["predict", "--run", "run", "--input", "word.txt"]);
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "{:?}",
        began.elapsed()
    );
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["tags"].as_array().unwrap().len(), 3);
}

#[test]
fn a_value_of_megabytes_is_shown_by_its_beginning() {
    let sandbox = sequence();
    let long = "x".repeat(1 << 20);
    train(&sandbox, "whole", &[]);
    for attention in [
        format!("groups:{}", "1".repeat(1 << 20)),
        format!("groups:{}", "2".repeat(1 << 20)),
    ] {
        sandbox.edit_json("whole/best/ls_llama.json", json!({"attention": attention}));
        let outcome = sandbox.run(&["predict", "--run", "whole", "hi"]);
        says(&outcome, 1, &["whole/best/ls_llama.json", "characters)"]);
        let bytes = outcome.stderr.len();
        assert!(bytes < 2000, "{bytes} bytes");
    }
    sandbox.edit_json("model/config.json", json!({"hidden_act": long}));
    let outcome = sandbox.run(&["train", "--config", "run.toml", "--run", "out"]);
    says(
        &outcome,
        1,
        &["hidden_act \"xxx", "... (1048576 characters)"],
    );
    assert!(
        outcome.stderr.len() < 2000,
        "{} bytes",
        outcome.stderr.len()
    );
    let config = format!(
        "{}\n[data]\n{long} = 1\n",
        SEQUENCE.replace("[data]", "[data.x]")
    );
    sandbox.write("long.toml", config);
    let outcome = sandbox.run(&["train", "--config", "long.toml"]);
    assert!(
        outcome.code > 0 && outcome.stderr.len() < 4000,
        "{} bytes",
        outcome.stderr.len()
    );
}
