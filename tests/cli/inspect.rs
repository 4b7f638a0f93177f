//! `ls-cli inspect`: what it says of each kind of path, and that what it refuses is what the other
//! commands refuse.

use std::path::Path;

use serde_json::{Value, json};

use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, says};

fn json_of(sandbox: &Sandbox, path: &str) -> Value {
    sandbox.ok_json(&["inspect", path, "--json"])
}

/// What a command says last: its error with its causes.
fn error_of(sandbox: &Sandbox, args: &[&str]) -> String {
    let stderr = sandbox.run(args).stderr;
    let last = stderr.rsplit("error: ").next().unwrap();
    last.split("\nhint: ").next().unwrap().to_owned()
}

/// What inspect refuses a path with: the last cause stands in what `args` say too.
#[track_caller]
fn is_refused(sandbox: &Sandbox, path: &str, part: &str, args: &[&str]) {
    let found = json_of(sandbox, path);
    let error = found["refused"]["error"].as_str().unwrap_or_default();
    assert_contains(error, &[part]);
    assert_contains(&error_of(sandbox, args), &[part]);
    let text = sandbox.ok(&["inspect", path]);
    assert_contains(&text, &[&format!("refused: {error}\n")]);
}

#[test]
fn a_model_is_told_by_its_shape_its_weights_and_its_tokenizer() {
    let sandbox = Sandbox::new();
    let found = json_of(&sandbox, "model");
    for (key, value) in [
        ("kind", json!("model")),
        ("path", json!("model")),
        ("model_type", json!("llama")),
        ("num_hidden_layers", json!(2)),
        ("hidden_size", json!(16)),
        ("num_key_value_heads", json!(2)),
        ("attention", json!("causal")),
        ("files", json!(["model.safetensors"])),
        ("head", Value::Null),
        ("refused", Value::Null),
    ] {
        assert_eq!(found[key], value, "{key}");
    }
    let size = std::fs::metadata(sandbox.path("model/model.safetensors")).unwrap();
    assert_eq!(found["bytes"], size.len());
    let weights = crate::sandbox::weights(520);
    let parameters: usize = weights.values().map(|tensor| tensor.len()).sum();
    assert_eq!(found["parameters"], parameters);
    assert_eq!(found["tensors"], json!({ "F32": weights.len() }));
    assert_eq!(found["tokenizer"]["special_tokens_added"], 1);
    assert_contains(found["predict"].as_str().unwrap(), &["score.weight"]);
    assert_contains(
        found["next"].as_str().unwrap(),
        &[" train --model model --data FILE"],
    );
    // A file of it stands for it, and people read the same.
    sandbox.write("model/config.toml", "");
    for path in ["model", "model/config.json", "model/model.safetensors"] {
        assert_eq!(json_of(&sandbox, path), found, "{path}");
    }
    let text = sandbox.ok(&["inspect", "model"]);
    assert_contains(
        &text,
        &[
            "model: model\n",
            "  num_hidden_layers        2\n",
            "  attention                causal\n",
        ],
    );
    // By its name alone, with nothing beside it.
    for name in [
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "pytorch_model.bin",
    ] {
        let path = format!("parts/{name}");
        sandbox.write(&path, "{}");
        assert_eq!(json_of(&sandbox, &path)["kind"], "model", "{name}");
    }
    for name in ["model-old.safetensors", "embeddings.safetensors"] {
        let path = format!("parts/{name}");
        sandbox.write(&path, "{}");
        assert_eq!(json_of(&sandbox, &path)["kind"], "tensors", "{name}");
    }
    sandbox.write("model/tokenizer.model", "");
    let tokenizer = json_of(&sandbox, "model/tokenizer.json");
    assert_eq!(json_of(&sandbox, "model/tokenizer.model"), tokenizer);
    assert_eq!(
        (&tokenizer["kind"], &tokenizer["tokenizer"]),
        (&json!("tokenizer"), &found["tokenizer"])
    );
}

#[test]
fn a_model_that_cannot_be_used_is_refused_as_train_refuses_it() {
    type Damage = fn(&Sandbox);
    let damage: [(&str, Damage); 5] = [
        ("model.safetensors", |sandbox| {
            cut_short(sandbox, "model/model.safetensors", 100)
        }),
        ("no model.safetensors", |sandbox| {
            std::fs::remove_file(sandbox.path("model/model.safetensors")).unwrap();
        }),
        ("mamba", |sandbox| {
            sandbox.edit_json(
                "model/config.json",
                json!({ "model_type": "mamba", "architectures": ["MambaForCausalLM"] }),
            );
        }),
        ("tokenizer.json", |sandbox| {
            sandbox.write("model/tokenizer.json", "{")
        }),
        ("num_hidden_layers", |sandbox| {
            sandbox.edit_json("model/config.json", json!({ "num_hidden_layers": 3 }));
        }),
    ];
    for (part, damage) in damage {
        let sandbox = sequence();
        damage(&sandbox);
        let train = ["train", "--config", "run.toml", "--run", "out"];
        is_refused(&sandbox, "model", part, &train);
    }
}

#[test]
fn runs_and_adapters_are_told_with_their_score_and_what_goes_on() {
    let sandbox = token();
    train(&sandbox, "läufe/eins", &["train.epochs=1"]);
    let report = sandbox.json("läufe/eins/report.json");
    let found = json_of(&sandbox, "läufe/eins");
    assert_eq!(found["kind"], "run");
    assert_eq!(found["state"], "finished");
    assert_eq!(found["task"], "token");
    assert_eq!(found["best"]["step"], report["best"]["step"]);
    assert_eq!(found["best"]["value"], report["best"]["value"]);
    assert_eq!(found["reported"]["metric"], "span_f1_micro");
    assert_eq!(
        found["reported"]["value"],
        report["scores"]["span_f1_micro"]
    );
    assert_eq!(found["attention"], "bidirectional");
    assert_eq!(found["labels"], json!(["O", "B-LOC", "B-PER"]));
    assert_eq!(found["refused"], Value::Null);
    assert_contains(
        found["next"].as_str().unwrap(),
        &[" predict --run 'läufe/eins' TEXT"],
    );
    let steps = std::fs::read_dir(sandbox.path("läufe/eins/checkpoints")).unwrap();
    let step = steps.map(|step| step.unwrap().file_name()).next().unwrap();
    let step = format!("läufe/eins/checkpoints/{}", step.to_str().unwrap());
    for path in [
        "läufe/eins/config.toml",
        "läufe/eins/report.json",
        "läufe/eins/checkpoints",
    ] {
        assert_eq!(json_of(&sandbox, path), found, "{path}");
    }
    let mut of_step = json_of(&sandbox, &step);
    let at = of_step.as_object_mut().unwrap().shift_remove("checkpoint");
    assert_eq!(at.unwrap()["step"], report["steps"]);
    assert_eq!(of_step, found);
    // Tensors without a name that says more are what they are.
    std::fs::copy(sandbox.path(&step), sandbox.path("step.safetensors")).unwrap();
    let tensors = json_of(&sandbox, "step.safetensors");
    assert_eq!(tensors["kind"], "tensors");
    assert_eq!(tensors["refused"], Value::Null);
    assert!(!tensors["shapes"].as_object().unwrap().is_empty());

    let adapter = json_of(&sandbox, "läufe/eins/best");
    assert_eq!(adapter["kind"], "adapter");
    assert_eq!(
        (&adapter["r"], &adapter["peft_type"]),
        (&json!(4), &json!("LORA"))
    );
    assert_eq!(adapter["adapted_modules"], 14);
    assert_eq!(adapter["saved_tensors"]["score.weight"], json!([3, 16]));
    assert_eq!(adapter["labels"], found["labels"]);
    let text = sandbox.ok(&["inspect", "läufe/eins/best"]);
    for line in text.lines() {
        assert!(!line.ends_with('.'), "{line}");
    }
    assert_eq!(
        adapter["base"],
        sandbox
            .path("model")
            .canonicalize()
            .unwrap()
            .to_str()
            .unwrap()
    );
    let settings = sandbox.json("läufe/eins/best/ls_llama.json");
    sandbox.edit_json(
        "läufe/eins/best/ls_llama.json",
        json!({ "labels": ["O", "B-PER"] }),
    );
    let args = ["predict", "--run", "läufe/eins", "Ann sold boats"];
    let differ = "names 2 labels, but its head has 3";
    is_refused(&sandbox, "läufe/eins/best", differ, &args);
    sandbox.write("läufe/eins/best/ls_llama.json", settings.to_string());
    std::fs::rename(sandbox.path("model"), sandbox.path("gone")).unwrap();
    assert_eq!(json_of(&sandbox, "läufe/eins/best")["base"], "not here");
    std::fs::rename(sandbox.path("gone"), sandbox.path("model")).unwrap();
    let args = ["predict", "--run", "läufe/eins", "Ann sold boats"];
    cut_short(&sandbox, "läufe/eins/best/adapter_model.safetensors", 10);
    is_refused(
        &sandbox,
        "läufe/eins/best",
        "adapter_model.safetensors",
        &args,
    );
    is_refused(&sandbox, "läufe/eins", "adapter_model.safetensors", &args);

    // One that was ended on its way.
    train(&sandbox, "two", &["train.epochs=2"]);
    std::fs::remove_file(sandbox.path("two/report.json")).unwrap();
    let found = json_of(&sandbox, "two");
    assert_eq!(found["state"], "unfinished");
    let steps = &found["checkpoint"];
    assert_eq!(steps["step"], steps["of"]);
    // A checkpoint that is named is the one that is shown. A run has some while it goes on.
    train(&sandbox, "one", &["train.epochs=1"]);
    let half = steps["of"].as_u64().unwrap() / 2;
    let file = format!("checkpoints/checkpoint-{half}.safetensors");
    let [of_one, first] = ["one", "two"].map(|run| format!("{run}/{file}"));
    std::fs::copy(sandbox.path(&of_one), sandbox.path(&first)).unwrap();
    let of_first = json_of(&sandbox, &first);
    let shown = json!({"step": half, "of": half});
    assert_eq!(of_first["checkpoint"], shown);
    assert_eq!(of_first["newest_checkpoint"], *steps);
    cut_short(&sandbox, &first, 10);
    let damaged = json_of(&sandbox, &first);
    assert_contains(
        damaged["refused"]["error"].as_str().unwrap(),
        &["checkpoint-"],
    );
    std::fs::remove_file(sandbox.path(&first)).unwrap();
    assert_contains(found["next"].as_str().unwrap(), &[" train --resume two"]);
    // Before its first evaluation it has no model, and goes on all the same.
    std::fs::rename(sandbox.path("two/best"), sandbox.path("aside")).unwrap();
    let args = ["predict", "--run", "two", "Ann"];
    is_refused(&sandbox, "two", "has no best model yet", &args);
    assert_eq!(json_of(&sandbox, "two")["next"], found["next"]);
    // As peft leaves an adapter: nothing beside it.
    std::fs::remove_file(sandbox.path("aside/ls_llama.json")).unwrap();
    std::fs::remove_file(sandbox.path("aside/tokenizer.json")).unwrap();
    let adapter = json_of(&sandbox, "aside");
    assert_eq!(
        (&adapter["kind"], &adapter["task"]),
        (&json!("adapter"), &Value::Null)
    );
    assert_eq!(adapter["task_type"], "TOKEN_CLS");
    assert_eq!(adapter["tokenizer"], "that of the base model");
    assert_eq!(adapter["refused"], Value::Null);
    sandbox.edit_json("aside/adapter_config.json", json!({ "peft_type": "IA3" }));
    let args = [
        "predict",
        "--model",
        "model",
        "--adapter",
        "aside",
        "--task",
        "token",
        "Ann",
    ];
    is_refused(&sandbox, "aside", "IA3", &args);
    std::fs::rename(sandbox.path("aside"), sandbox.path("two/best")).unwrap();
    std::fs::rename(sandbox.path("model"), sandbox.path("gone")).unwrap();
    let args = ["predict", "--run", "two", "Ann"];
    is_refused(&sandbox, "two", "no such folder", &args);
}

#[test]
fn data_is_told_as_train_would_read_it() {
    let sandbox = Sandbox::new();
    sandbox.write("ä.csv", "text,label\nété,gut\nx,böse\nété,böse\n");
    let found = json_of(&sandbox, "ä.csv");
    assert_eq!(
        (&found["kind"], &found["task"]),
        (&json!("data"), &json!("sequence"))
    );
    let train = &found["splits"]["train"];
    assert_eq!(train["examples"], 3);
    assert_eq!(
        train["labels"][0],
        json!({"name": "böse", "count": 2, "file": 0, "line": 3})
    );
    assert_eq!(train["lengths"]["longest"], 3);
    let kinds: Vec<&Value> = found["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| &w["kind"])
        .collect();
    assert_eq!(kinds, ["few_examples", "repeats", "contradictions"]);
    assert_contains(
        found["warnings"][2]["message"].as_str().unwrap(),
        &["ä.csv:4 is \"böse\""],
    );
    // Nothing is set aside of three examples, by which train stops too.
    let train = [
        "train", "--model", "model", "--data", "ä.csv", "--set", "lora.r=4", "--run", "o",
    ];
    is_refused(
        &sandbox,
        "ä.csv",
        "the validation split has no examples",
        &train,
    );

    let rows = csv(&reviews());
    sandbox.write("ok.csv", &rows);
    let text = sandbox.ok(&["inspect", "ok.csv", "--model", "model", "--set", "lora.r=4"]);
    assert_contains(
        &text,
        &["data: ok.csv\nok.csv: csv with", "  tokens: ", "next: "],
    );
    assert!(!text.contains("refused"), "{text}");
    // What was said is said to the next command too, and a model that is not there is no model.
    assert_contains(&text, &[" init ok.csv --model model --set lora.r=4\n"]);
    let text = sandbox.ok(&["inspect", "ok.csv", "--task", "sequence"]);
    assert_contains(
        &text,
        &[
            "tokens are not counted: no model was named (--model)\n",
            " init ok.csv --task sequence\n",
        ],
    );
    let gone = ["inspect", "ok.csv", "--model", "./gone"];
    says(&sandbox.run(&gone), 2, &["--model ./gone: no such folder"]);
    for (name, content, part) in [
        ("empty.csv", "".as_bytes(), "empty.csv: holds no examples"),
        (
            "one.csv",
            &rows.replace("pos", "neg").into_bytes(),
            "has the label \"neg\"",
        ),
        (
            "bad.csv",
            &[rows.as_bytes(), b"\xff,neg\n"].concat(),
            "bad.csv:22:1: byte 0xff",
        ),
        ("bad.json", b"[{\"text\": ", "bad.json:1"),
        ("which.csv", b"a,b\n1,2\n", "no column has a usual name"),
    ] {
        sandbox.write(name, content);
        let train = [
            "train", "--model", "model", "--data", name, "--set", "lora.r=4", "--run", "o",
        ];
        is_refused(&sandbox, name, part, &train);
        std::fs::remove_dir_all(sandbox.path("o")).ok();
    }
}

#[test]
fn a_gguf_file_is_told_and_refused_as_convert_refuses_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/gguf");
    let bytes = std::fs::read(folder.join("llama.gguf")).unwrap();
    let sandbox = Sandbox::empty();
    sandbox.write("a.gguf", &bytes);
    let found = json_of(&sandbox, "a.gguf");
    assert_eq!(
        (&found["kind"], &found["architecture"]),
        (&json!("gguf"), &json!("llama"))
    );
    assert_eq!(found["parameters"], 35232);
    assert_eq!(found["converted_to"], "BF16");
    assert_eq!(found["vocab_size"], 520);
    assert_eq!(found["refused"], Value::Null);
    assert_contains(
        found["next"].as_str().unwrap(),
        &[" convert a.gguf OUT_DIR"],
    );
    // By its beginning, whatever its name is.
    sandbox.write("model", &bytes[..bytes.len() / 2]);
    let convert = ["convert", "model", "out"];
    is_refused(&sandbox, "model", "model", &convert);
    assert_eq!(json_of(&sandbox, "model")["kind"], "gguf");
}

#[test]
fn what_is_nothing_is_an_error() {
    let sandbox = Sandbox::empty();
    sandbox.write("folder/a.png", "");
    for (path, code, part) in [
        ("gone.csv", 1, "gone.csv: no such file"),
        (
            "folder/gone.csv",
            2,
            "folder/gone.csv: no such file, and no model of that name in the cache",
        ),
        ("folder", 2, "folder: is a folder, which holds `a.png`"),
    ] {
        says(&sandbox.run(&["inspect", path, "--json"]), code, &[part]);
    }
    sandbox.write("a.csv", "text,label\n");
    sandbox.write("run.toml", "");
    let outcome = sandbox.run(&["inspect", "run.toml"]);
    says(
        &outcome,
        2,
        &[
            "run.toml is a configuration",
            " config show --config run.toml",
        ],
    );
    let set = ["inspect", "a.csv", "--set", "data.headr=false"];
    says(&sandbox.run(&set), 2, &["did you mean data.header?"]);
    #[cfg(unix)]
    {
        let pipe = sandbox.path("pipe.csv");
        let made = std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap();
        assert!(made.success());
        says(
            &sandbox.run(&["inspect", "pipe.csv"]),
            1,
            &["pipe.csv: found a pipe"],
        );
    }
}
