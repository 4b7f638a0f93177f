//! What the adapter, or the classifier, that a run begins from decides where nothing is said, what
//! is made of it where something else is, and how the other commands see it.

use serde_json::json;

use crate::from_adapter::{ADAPTER, HEAD, STANDS, adapter, after_a_run};
use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, says};

/// A configuration that says nothing but adapter and data.
fn brief(sandbox: &Sandbox) {
    let text = "task = \"sequence\"\nmodel.adapter = \"first/best\"\ndata.train = \"train.csv\"\n\
                data.validation = \"train.csv\"\ntrain.epochs = 1\n";
    sandbox.write("run.toml", text);
}

/// The command, and what it warned of.
fn warned(sandbox: &Sandbox, run: &str, set: &[&str]) -> (String, bool) {
    let outcome = train(sandbox, run, set);
    let warns = outcome.stderr.contains("WARN");
    (outcome.stderr, warns)
}

#[test]
fn inputs_are_filled_up_as_they_were_unless_it_is_said() {
    let set = [
        "model.attention=bidirectional",
        "data.padding=attended",
        "data.pad_to=24",
        "data.max_length=24",
    ];
    let sandbox = after_a_run(sequence(), &set);
    brief(&sandbox);
    let (stderr, warns) = warned(&sandbox, "second", &[STANDS]);
    assert!(!warns, "{stderr}");
    let said = "note: data.max_length is 256, and ";
    assert_contains(&stderr, &[said, "first/best was trained with 24\n"]);
    let of = |run: &str| sandbox.json(&format!("{run}/best/ls_llama.json"));
    for key in ["padding", "pad_to", "padding_side"] {
        assert_eq!(of("second")[key], of("first")[key], "{key}");
    }
    let (stderr, _) = warned(
        &sandbox,
        "third",
        &["data.padding=masked", "data.max_length=24"],
    );
    assert_contains(&stderr, &["data.padding is masked, and "]);
    assert!(!stderr.contains("data.max_length is"), "{stderr}");
    // What is stated leaves no room for the adapter's, which is no fault of who stated it.
    let set = ["data.max_length=300", "data.padding_side=left"];
    let (stderr, _) = warned(&sandbox, "fourth", &set);
    let said = [
        "data.padding is masked, and ",
        "data.padding_side is left, and ",
        "data.pad_to is not set, and ",
    ];
    assert_contains(&stderr, &said);
}

#[test]
fn targets_may_be_said_in_any_order_and_mean_the_adapter_s_layers() {
    let sandbox = after_a_run(sequence(), &["lora.target_modules=[\"q_proj\",\"v_proj\"]"]);
    // As if peft had adapted the first layer alone.
    let config = "first/best/adapter_config.json";
    sandbox.edit_json(
        config,
        json!({
            "layers_to_transform": [0], "layers_pattern": ["layers"],
            "target_modules": ["k_proj", "q_proj", "v_proj"], "exclude_modules": ["k_proj"],
        }),
    );
    let file = "first/best/adapter_model.safetensors";
    let mut all = tensors(&sandbox, file);
    all.retain(|name, _| !name.contains("layers.1."));
    sandbox.write_tensors(file, &all);
    brief(&sandbox);
    let show = ["config", "show", "--config", "run.toml", "--set"];
    for (at, targets) in [
        "[\"q_proj\",\"v_proj\",\"k_proj\"]",
        "[\"k_proj\",\"v_proj\",\"q_proj\",\"q_proj\"]",
        "[\"self_attn.v_proj\",\"self_attn.q_proj\",\"self_attn.k_proj\"]",
        "[\"v_proj\",\"q_proj\"]",
    ]
    .iter()
    .enumerate()
    {
        let set = format!("lora.target_modules={targets}");
        let run = format!("out-{at}");
        train(&sandbox, &run, &[&set, STANDS]);
        assert_eq!(adapter(&sandbox, &run), all, "{targets}");
        sandbox.ok(&[&show[..], &[&set]].concat());
    }
    let fault = "lora.target_modules: expected the layers that the adapter in ";
    for (targets, others) in [
        (
            "[\"q_proj\"]",
            "beside them none, without model.layers.0.self_attn.v_proj",
        ),
        (
            "[\"q_proj\",\"v_proj\",\"o_proj\"]",
            "beside them model.layers.0.self_attn.o_proj, without none",
        ),
        ("all-linear", "beside them model.layers.0.mlp.down_proj"),
    ] {
        let set = format!("lora.target_modules={targets}");
        refused(&sandbox, &train_args("out", &[&set]), 2, &[fault, others]);
        // Before anything is trained as well.
        says(
            &sandbox.run(&[&show[..], &[&set]].concat()),
            2,
            &[fault, others],
        );
        let both = format!("lora.target_modules={targets},[\"v_proj\",\"q_proj\"]");
        let sweep = ["sweep", "--config", "run.toml", "--run", "all", "--set"];
        let outcome = sandbox.run(&[&sweep[..], &[&both]].concat());
        says(&outcome, 2, &[fault, others]);
        assert!(
            !outcome.stderr.contains("goes in quotes"),
            "{}",
            outcome.stderr
        );
        assert!(!sandbox.path("all").exists());
    }
}

#[test]
fn packing_can_be_left_out_and_heads_may_be_listed() {
    let sandbox = after_a_run(sequence(), &["model.quantization=int8"]);
    brief(&sandbox);
    let set = [
        "model.quantization=none",
        "lora.modules_to_save=[\"score\"]",
        STANDS,
    ];
    let (stderr, _) = warned(&sandbox, "second", &set);
    let said = "model.quantization is none, and ";
    assert_contains(&stderr, &[said, "first/best was trained with int8"]);
    let config = sandbox.read("second/config.toml");
    assert_contains(&config, &["quantization = \"none\""]);
    let settings = sandbox.json("second/best/ls_llama.json");
    assert_eq!(settings.get("quantization"), None);
    // It is the same run to whoever asks for it again.
    let again = ["train", "--resume", "second"];
    says(&sandbox.run(&again), 0, &["holds a finished run"]);
    let others = ["lora.modules_to_save=[\"score\",\"norm\"]"];
    let said = "lora.modules_to_save: expected [], as the adapter in first/best has it";
    refused(&sandbox, &train_args("out", &others), 2, &[said]);
}

#[test]
fn whoever_names_an_adapter_need_not_name_its_base() {
    let sandbox = after_a_run(sequence(), &[]);
    let base = sandbox.path("model").canonicalize().unwrap();
    let path = format!("path = {base:?}");
    let set = ["--set", ADAPTER];
    let of_data = ["train", "--data", "train.csv", "--run", "second"];
    sandbox.ok(&[&of_data[..], &set, &["--set", "train.epochs=1"]].concat());
    assert_contains(&sandbox.read("second/config.toml"), &[&path]);
    let unnamed = sandbox.run(&of_data);
    let said = ["--data: which model", "--model HF_DIR", "model.adapter=DIR"];
    says(&unnamed, 2, &said);

    let init = ["init", "train.csv", "--out", "third.toml"];
    let said = sandbox.ok(&[&init[..], &set].concat());
    assert_contains(&said, &["tokens: "]);
    let config = sandbox.read("third.toml");
    assert_contains(&config, &[&path, "adapter = \"first/best\""]);
    sandbox.ok(&[
        "train",
        "--config",
        "third.toml",
        "--run",
        "third",
        "--set",
        "train.epochs=1",
    ]);

    // The adapter is no part of what is wrong with another base.
    let set = [ADAPTER, "model.path=org/name"];
    let outcome = sandbox.run(&train_args("out", &set));
    assert_ne!(outcome.code, 0);
    assert_contains(&outcome.stderr, &["org/name is no folder here"]);
    assert!(
        !outcome.stderr.contains("the base model of"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn data_is_looked_at_with_tokenizer_and_vocabulary_of_the_adapter() {
    let set = ["lora.modules_to_save=[\"embed_tokens\"]"];
    let sandbox = after_a_run(sequence(), &set);
    let file = "first/best/adapter_model.safetensors";
    let mut all = tensors(&sandbox, file);
    let table = all.get_mut("base_model.model.model.embed_tokens.weight");
    let table = table.unwrap();
    let (rows, width) = (table.shape[0], table.shape[1]);
    table.bytes.extend(vec![0; width * 4]);
    table.shape[0] = rows + 1;
    sandbox.write_tensors(file, &all);
    let mut tokenizer = sandbox.json("first/best/tokenizer.json");
    let added = json!({
        "id": rows, "content": "<new>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": false,
    });
    tokenizer["added_tokens"]
        .as_array_mut()
        .unwrap()
        .push(added);
    sandbox.write("first/best/tokenizer.json", tokenizer.to_string());
    sandbox.write("model/tokenizer.json", "{");
    sandbox.write("train.csv", csv(&reviews()) + "the boat is <new>,pos\n");
    for model in [&[][..], &["--model", "model"]] {
        let inspect = ["inspect", "train.csv", "--json", "--set", ADAPTER];
        let found = sandbox.ok_json(&[&inspect[..], model].concat());
        assert_eq!(found["refused"], json!(null));
        assert_eq!(found["tokens_counted"], json!(true));
    }
    let init = ["init", "train.csv", "--out", "new.toml", "--set", ADAPTER];
    let said = sandbox.ok(&init);
    assert_contains(&said, &["tokens: "]);
}

#[test]
fn what_a_whole_classifier_was_trained_with_is_warned_of() {
    let set = [
        "lora=false",
        "train.learning_rate=1e-3",
        "model.pooling=max",
        "model.attention=from:1",
    ];
    let sandbox = after_a_run(sequence(), &set);
    let path = "model.path=first/best";
    let (stderr, _) = warned(&sandbox, "second", &[path, "train.epochs=1"]);
    let said = [
        "model.attention is ",
        "first/best was trained with from:1",
        "model.pooling is ",
        "first/best was trained with max",
    ];
    assert_contains(&stderr, &said);
    let same = [path, set[2], set[3], STANDS];
    let (stderr, warns) = warned(&sandbox, "third", &same);
    assert!(!warns, "{stderr}");

    // An adapter that has lost its head begins with that of the classifier.
    std::fs::remove_file(sandbox.path("third/best/ls_llama.json")).unwrap();
    let file = "third/best/adapter_model.safetensors";
    let mut all = tensors(&sandbox, file);
    all.remove(HEAD).unwrap();
    sandbox.write_tensors(file, &all);
    let set = [&same[..], &["model.adapter=third/best"]].concat();
    let (stderr, _) = warned(&sandbox, "fourth", &set);
    let said = "first/best: keep their rows of the head: `neg`, `pos`\n";
    assert_contains(&stderr, &["note: labels of ", said]);
    let head = tensors(&sandbox, "first/best/model.safetensors")["score.weight"].clone();
    assert_eq!(adapter(&sandbox, "fourth")[HEAD], head);
    let began = &sandbox.json("fourth/report.json")["began_from"];
    let place = sandbox.path("third/best").canonicalize().unwrap();
    assert_eq!(began["path"], json!(place));
    assert_eq!(began["kept_labels"], json!(["neg", "pos"]));
}

#[test]
fn all_that_is_assumed_of_a_tagger_is_said() {
    let sandbox = after_a_run(token(), &["train.epochs=1"]);
    std::fs::remove_file(sandbox.path("first/best/ls_llama.json")).unwrap();
    let outcome = train(&sandbox, "second", &[ADAPTER, "train.epochs=1"]);
    let said = "does not say how it was trained: it goes on with model.attention = bidirectional, \
                data.words = text, data.label_position = ";
    assert_contains(&outcome.stderr, &[said]);
}

#[test]
fn a_finished_run_does_not_need_the_adapter_and_one_that_goes_on_does() {
    let sandbox = after_a_run(sequence(), &[]);
    let weights = sandbox.path("first/best/adapter_model.safetensors");
    let sha256 = ls_files::sha256_of_file(&weights).unwrap();
    train(&sandbox, "second", &[ADAPTER, "train.epochs=1"]);
    std::fs::remove_dir_all(sandbox.path("first")).unwrap();
    let again = ["train", "--resume", "second"];
    let of_file = ["train", "--config", "second/config.toml", "--resume"];
    for again in [&again[..], &of_file] {
        says(&sandbox.run(again), 0, &["holds a finished run"]);
        let longer = sandbox.run(&[again, &["--set", "train.epochs=3"]].concat());
        says(
            &longer,
            2,
            &["model.adapter: ", "first/best: no such folder"],
        );
    }
    let found = sandbox.ok_json(&["inspect", "second", "--json"]);
    assert_eq!(found["began_from_sha256"], json!(sha256));
}

#[test]
fn a_finished_sweep_does_not_need_the_adapter() {
    let sandbox = after_a_run(sequence(), &[]);
    let args = [
        "sweep", "--config", "run.toml", "--run", "all", "--set", ADAPTER,
    ];
    let args = [&args[..], &["--set", "train.epochs=1", "--seeds"]].concat();
    let sweep = |seeds: &str| sandbox.run(&[&args[..], &[seeds]].concat());
    let first = sweep("2");
    says(&first, 0, &[]);
    std::fs::remove_dir_all(sandbox.path("first")).unwrap();
    let again = sweep("2");
    says(&again, 0, &[]);
    assert_eq!(again.stdout, first.stdout);
    let said = ["model.adapter: first/best: no such folder"];
    says(&sweep("3"), 2, &said);
    // What is not done needs it.
    let report = "report.json";
    let entries = std::fs::read_dir(sandbox.path("all")).unwrap();
    let runs = entries.map(|entry| entry.unwrap().path());
    let run = runs
        .into_iter()
        .find(|run| run.join(report).exists())
        .unwrap();
    std::fs::remove_file(run.join(report)).unwrap();
    says(&sweep("2"), 1, &["1 of 2 runs failed"]);
}

/// The hint is for adapters whose layers are not the model's, and for none else.
#[test]
fn another_base_is_proposed_only_where_it_helps() {
    let sandbox = after_a_run(sequence(), &["lora.modules_to_save=[\"norm\"]"]);
    brief(&sandbox);
    let file = "first/best/adapter_model.safetensors";
    let all = tensors(&sandbox, file);
    let norm = "base_model.model.model.norm.weight";
    let without = |name: &str| {
        let mut all = all.clone();
        all.remove(name).unwrap();
        all
    };
    // As if it had been trained on the decoder alone.
    let bare = all.iter().map(|(name, tensor)| {
        let name = name.replace("base_model.model.model.", "base_model.model.");
        (name, tensor.clone())
    });
    for changed in [without(norm), bare.collect()] {
        sandbox.write_tensors(file, &changed);
        let outcome = sandbox.run(&train_args("out", &[]));
        assert_eq!(outcome.code, 1, "{}", outcome.stderr);
        assert_contains(&outcome.stderr, &["adapter_model.safetensors"]);
        assert!(
            !outcome.stderr.contains("fits the model"),
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn an_adapter_in_the_place_of_the_model_is_told_where_it_belongs() {
    let sandbox = after_a_run(sequence(), &[]);
    let set = "model.path=first/best";
    let said = "model.path: first/best is an adapter, no model: to begin from it say model.adapter \
                = \"first/best\"";
    refused(&sandbox, &train_args("out", &[set]), 2, &[said]);
    let sweep = [
        "sweep", "--config", "run.toml", "--run", "all", "--seeds", "2", "--set",
    ];
    says(&sandbox.run(&[&sweep[..], &[set]].concat()), 2, &[said]);
    let show = ["config", "show", "--config", "run.toml", "--set"];
    says(&sandbox.run(&[&show[..], &[set]].concat()), 2, &[said]);
}
