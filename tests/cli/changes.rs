//! Files that change: those of a run while it trains, and the base model and tokenizer of one that
//! is trained.

use std::io::Read as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::runs::{SEQUENCE, sequence, train};
use crate::sandbox::{Sandbox, assert_contains, says, weights};

/// A training that takes its time, begun.
fn begin(sandbox: &Sandbox) -> Child {
    sandbox.write("slow.toml", SEQUENCE.replace("epochs = 2", "epochs = 400"));
    let mut command = sandbox.command(&["train", "--config", "slow.toml", "--run", "out"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let began = Instant::now();
    let metrics = sandbox.path("out/metrics.jsonl");
    while std::fs::read(&metrics).map_or(0, |bytes| bytes.len()) == 0 {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

/// Its exit code and stderr. What was changed meanwhile was changed before it ended.
fn end(mut child: Child) -> (i32, String) {
    assert!(child.try_wait().unwrap().is_none(), "it was too fast");
    let mut text = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    (child.wait().unwrap().code().unwrap(), text)
}

#[test]
fn what_is_edited_while_a_run_trains_does_not_reach_it() {
    let sandbox = sequence();
    let names = ["tokenizer.json", "tokenizer_config.json"];
    let before = names.map(|name| sandbox.read(&format!("model/{name}")));
    let hash = |name: &str| ls_files::sha256(sandbox.read(name).as_bytes());
    let hashes = ["model/tokenizer.json", "model/config.json", "train.csv"].map(hash);
    let child = begin(&sandbox);
    sandbox.edit_json("model/tokenizer.json", json!({ "version": "edited" }));
    std::fs::remove_file(sandbox.path("model/tokenizer_config.json")).unwrap();
    sandbox.edit_json("model/config.json", json!({ "rope_theta": 7.0 }));
    // Another file of the same bytes is no change.
    let rows = sandbox.read("train.csv");
    std::fs::remove_file(sandbox.path("train.csv")).unwrap();
    sandbox.write("train.csv", rows);
    let (code, stderr) = end(child);
    assert_eq!(code, 0, "{stderr}");
    for (name, before) in names.iter().zip(before) {
        assert_eq!(sandbox.read(&format!("out/best/{name}")), before, "{name}");
    }
    let environment = sandbox.read("out/environment.json");
    assert_contains(&environment, &hashes.each_ref().map(String::as_str));
    assert_eq!(
        sandbox.json("out/best/ls_llama.json")["tokenizer_sha256"],
        json!(hashes[0])
    );
}

#[test]
fn data_that_change_under_a_run_are_named_and_give_no_rows_that_do_not_fit() {
    let sandbox = sequence();
    let child = begin(&sandbox);
    // As many rows, in the same lines, with other texts.
    sandbox.write("train.csv", sandbox.read("train.csv").to_uppercase());
    let (code, stderr) = end(child);
    assert_eq!(code, 1, "{stderr}");
    let expected = [
        "train.csv: has changed since it was first read",
        "finished and whole but for its predictions.jsonl",
        "hint: ",
    ];
    assert_contains(&stderr, &expected);
    assert!(!sandbox.path("out/predictions.jsonl").exists());
    assert!(sandbox.path("out/report.json").exists());
    sandbox.ok(&["predict", "--run", "out", "hi"]);
}

#[test]
fn another_base_model_is_noticed_and_the_same_in_another_place_is_none() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    let predict = ["predict", "--run", "out", "hi"];
    let expected = sandbox.ok(&predict);

    // The same weights in two files, elsewhere.
    sandbox.model("moved", 520);
    let mut tensors = weights(520);
    let norm = tensors.remove("model.norm.weight").unwrap();
    let place = tensors
        .keys()
        .map(|name| (name.clone(), json!("1.safetensors")));
    let mut place: serde_json::Map<_, _> = place.collect();
    place.insert("model.norm.weight".into(), json!("2.safetensors"));
    sandbox.write_tensors("moved/1.safetensors", &tensors);
    let rest = [("model.norm.weight".to_string(), norm.clone())].into();
    sandbox.write_tensors("moved/2.safetensors", &rest);
    std::fs::remove_file(sandbox.path("moved/model.safetensors")).unwrap();
    let index = json!({ "weight_map": place }).to_string();
    sandbox.write("moved/model.safetensors.index.json", index);
    let elsewhere = [
        "--model",
        "moved",
        "--adapter",
        "out/best",
        "--task",
        "sequence",
    ];
    let elsewhere = [&["predict"], &elsewhere[..], &["hi"]].concat();
    let outcome = sandbox.run(&elsewhere);
    says(&outcome, 0, &[]);
    assert_eq!((outcome.stdout, outcome.stderr.as_str()), (expected, ""));

    // Trained further.
    let mut tensors = weights(520);
    let further = tensors
        .get_mut("model.layers.1.mlp.up_proj.weight")
        .unwrap();
    for value in further.bytes.as_chunks_mut::<4>().0 {
        *value = (f32::from_le_bytes(*value) * 1.01).to_le_bytes();
    }
    sandbox.write_tensors("model/model.safetensors", &tensors);
    let expected = [
        "model: answers may be wrong: these are not the weights (then in ",
        "out/best was trained with",
    ];
    says(&sandbox.run(&predict), 0, &expected);
    let evaluate = ["evaluate", "--run", "out"];
    says(&sandbox.run(&evaluate), 0, &expected);
}

#[test]
fn another_tokenizer_is_noticed() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    let settings = sandbox.json("out/best/ls_llama.json");
    assert_eq!(settings["base_weights"]["hashed"], "whole");
    let predict = ["predict", "--run", "out", "hi"];
    assert_eq!(sandbox.run(&predict).stderr, "");
    sandbox.edit_json("out/best/tokenizer.json", json!({ "truncation": null }));
    let expected = ["out/best/tokenizer.json: answers may be wrong: this is not the tokenizer"];
    let outcome = sandbox.run(&predict);
    assert_contains(&outcome.stderr, &expected);
    // What stands beside it says what is put around a text.
    train(&sandbox, "beside", &[]);
    let beside = ["predict", "--run", "beside", "hi"];
    assert_eq!(sandbox.run(&beside).stderr, "");
    sandbox.edit_json(
        "beside/best/tokenizer_config.json",
        json!({ "edited": true }),
    );
    assert_contains(
        &sandbox.run(&beside).stderr,
        &[
            "answers may be wrong: the files beside tokenizer.json",
            "beside/best was trained with",
        ],
    );
    // A byte that a sample passes over.
    let mut tensors = weights(520);
    let table = tensors.get_mut("model.embed_tokens.weight").unwrap();
    table.bytes[2000] ^= 1;
    sandbox.write_tensors("model/model.safetensors", &tensors);
    assert_contains(
        &sandbox.run(&predict).stderr,
        &["these are not the weights"],
    );
}

#[test]
fn another_configuration_of_the_base_model_is_noticed() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    let predict = ["predict", "--run", "out", "hi"];
    assert_eq!(sandbox.run(&predict).stderr, "");
    sandbox.edit_json("model/config.json", json!({ "rope_theta": 7.0 }));
    let expected = [
        "model/config.json: answers may be wrong: this is not the configuration",
        "out/best was trained with",
    ];
    says(&sandbox.run(&predict), 0, &expected);
}
