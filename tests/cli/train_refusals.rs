//! `ls-cli train` refuses what it cannot use: data by path and line, configurations with all their
//! faults, broken checkpoints.

use ls_data::{BatchOptions, PaddingMode, PaddingSide, epoch_order};
use serde_json::json;

use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, weights};

#[test]
fn a_refused_training_leaves_no_folder() {
    let sandbox = sequence();
    sandbox.write("header.csv", "text,label\n");
    sandbox.write("one.csv", csv(&reviews()[..2]));
    std::fs::create_dir(sandbox.path("mine")).unwrap();
    let before = sandbox.files_and_folders();
    for set in [
        "data.train=header.csv",
        "data.train=one.csv",
        "model.path=nowhere",
    ] {
        for run in ["half/run2", "mine", "mine/run"] {
            refused(&sandbox, &train_args(run, &[set]), 1, &[]);
            let after = sandbox.files_and_folders();
            let kept: Vec<_> = after
                .keys()
                .filter(|path| !path.starts_with("cache/"))
                .collect();
            assert_eq!(kept, before.keys().collect::<Vec<_>>(), "{set} {run}");
        }
    }
    // The name is free for the next try.
    train(&sandbox, "half/run2", &["train.epochs=1"]);
}

#[test]
fn bad_sequence_data_is_refused_by_path_and_line() {
    let sandbox = sequence();
    sandbox.write("empty.csv", "");
    sandbox.write("header.csv", "text,label\n");
    sandbox.write(
        "unseen.csv",
        "text,label\nthe film was good,pos\nthe film was good,great\n",
    );
    sandbox.write("blank.csv", "text,label\nthe film was good,pos\n  ,neg\n");
    sandbox.write(
        "latin1.csv",
        b"text,label\nthe film was good,pos\nthe \xe9lan,neg\n",
    );
    sandbox.write(
        "fields.csv",
        "text,label\nthe film was good,pos\nthe film, was sad,neg\n",
    );
    sandbox.write("quote.csv", "text,label\n\"the film,pos\nthe sea,neg\n");
    sandbox.write("nolabel.csv", "text,label\nthe film was good,\n");
    sandbox.write(
        "bad.jsonl",
        "{\"text\": \"a\", \"label\": \"pos\"}\n{\"text\": \n",
    );
    sandbox.write("key.jsonl", "{\"txt\": \"a\", \"label\": \"pos\"}\n");
    sandbox.write("type.jsonl", "{\"text\": [1], \"label\": \"pos\"}\n");
    let cases: [(&[&str], i32, &[&str]); 20] = [
        (&["data.train=none.csv"], 1, &["none.csv: no such file"]),
        (&["data.test=none.csv"], 1, &["none.csv: no such file"]),
        (
            &["data.train=empty.csv"],
            1,
            &["empty.csv: holds no examples"],
        ),
        (
            &["data.train=header.csv"],
            1,
            &["header.csv: holds no examples"],
        ),
        (
            &["data.text=txt"],
            2,
            &[
                "train.csv: no column `txt`",
                "`text`, `label`",
                "did you mean `text`?",
            ],
        ),
        (
            &["data.text=txt", "data.header=false"],
            2,
            &["train.csv: column `txt`", "give its index"],
        ),
        (
            &["data.text=0", "data.label=7", "data.header=false"],
            2,
            &["train.csv:1: no column 7", "2"],
        ),
        (
            &["data.validation=unseen.csv"],
            1,
            &["unseen.csv:3: unknown label `great`", "`neg`, `pos`"],
        ),
        (
            &["data.labels=[\"pos\", \"great\"]"],
            1,
            &["train.csv:4: unknown label `neg`", "`pos`, `great`"],
        ),
        (
            &["data.train=blank.csv"],
            1,
            &["blank.csv:3: text is empty"],
        ),
        (
            &["data.train=latin1.csv"],
            1,
            &[
                "latin1.csv:3:",
                "0xe9",
                "not valid UTF-8",
                "save the file as UTF-8",
            ],
        ),
        (
            &["data.train=fields.csv"],
            1,
            &["fields.csv:3: found 3 fields, expected 2"],
        ),
        (
            &["data.train=quote.csv"],
            1,
            &["quote.csv:2: a quoted field", "never ends"],
        ),
        (
            &["data.train=nolabel.csv"],
            1,
            &["nolabel.csv:2: label is empty"],
        ),
        (
            &["data.train=bad.jsonl"],
            1,
            &["bad.jsonl:2:", "malformed JSON"],
        ),
        (
            &["data.train=key.jsonl"],
            1,
            &["key.jsonl:1: no key `text`", "`txt`"],
        ),
        (
            &["data.train=type.jsonl"],
            1,
            &["type.jsonl:1: key `text`: found a list, expected a string"],
        ),
        (
            &["data.train=run.toml"],
            2,
            &["run.toml: unknown file extension", ".csv"],
        ),
        (&["data.max_length=1"], 2, &["max_length 1 leaves no room"]),
        (
            &["data.format=conll"],
            2,
            &["train.csv: conll files cannot hold texts"],
        ),
    ];
    for (set, code, says) in cases {
        refused(&sandbox, &train_args("out", set), code, says);
    }
    sandbox.write(
        "run.toml",
        SEQUENCE.replace("validation = \"train.csv\"", "validation_fraction = 0.001"),
    );
    refused(
        &sandbox,
        &train_args("out", &[]),
        1,
        &[
            "the validation split has no examples",
            "raise data.validation_fraction",
        ],
    );
}

#[test]
fn bad_token_data_is_refused_by_path_and_line() {
    let sandbox = token();
    sandbox.write("count.jsonl", "{\"tokens\": [\"a\"], \"tags\": [\"O\"]}\n{\"tokens\": [\"a\", \"b\"], \"tags\": [\"O\"]}\n");
    sandbox.write(
        "integers.jsonl",
        "{\"tokens\": [\"a\"], \"ner_tags\": [0]}\n",
    );
    sandbox.write(
        "nothing.jsonl",
        "{\"tokens\": [\"a\"], \"tags\": [\"O\"]}\n{\"tokens\": [\"\"], \"tags\": [\"O\"]}\n",
    );
    sandbox.write("none.jsonl", "{\"tokens\": [], \"tags\": []}\n");
    sandbox.write("column.conll", "Ann B-PER\nsold\n\n");
    sandbox.write("unseen.conll", "Ann B-PER\n\nAcme B-ORG\n\n");
    let cases: [(&[&str], i32, &[&str]); 9] = [
        (
            &["data.train=count.jsonl"],
            1,
            &["count.jsonl:2: found 1 tags for 2 tokens"],
        ),
        (
            &["data.train=integers.jsonl"],
            1,
            &[
                "integers.jsonl:1: key `ner_tags` holds integers",
                "no label names",
            ],
        ),
        (
            &["data.train=nothing.jsonl", "data.validation=nothing.jsonl"],
            1,
            &["nothing.jsonl:2: the text tokenises to nothing"],
        ),
        (
            &["data.train=none.jsonl"],
            1,
            &["none.jsonl:1: tokens is empty"],
        ),
        (
            &["data.train=column.conll"],
            1,
            &["column.conll:2: found 1 fields, expected 2"],
        ),
        (
            &["data.validation=unseen.conll"],
            1,
            &["unseen.conll:3: unknown label `B-ORG`", "`B-PER`"],
        ),
        (&["data.tags=4"], 2, &["train.conll:1: no column 4"]),
        (
            &["data.tags=ner"],
            2,
            &[
                "train.conll:1: no column `ner`; the columns of this file have no names: give a number",
            ],
        ),
        (
            &["data.train=count.jsonl", "data.tags=1"],
            2,
            &["data.tags: JSON objects have keys"],
        ),
    ];
    for (set, code, says) in cases {
        refused(&sandbox, &train_args("out", set), code, says);
    }
}

#[test]
fn a_bad_configuration_is_refused_with_all_its_faults() {
    let sandbox = sequence();
    let cases: [(&[&str], &[&str]); 14] = [
        (
            &["train.learning_rat=1"],
            &["unknown key train.learning_rat, did you mean train.learning_rate?"],
        ),
        (
            &["train.max_length=3"],
            &["unknown key train.max_length, did you mean data.max_length?"],
        ),
        (
            &["lora.max_lenght=3"],
            &["unknown key lora.max_lenght, did you mean data.max_length?"],
        ),
        (
            &["modle=1", "data.txt=1"],
            &["2 faults", "did you mean model?", "did you mean data.text?"],
        ),
        (
            &[
                "train.epochs=0",
                "lora.r=0",
                "lora.lora_dropout=2",
                "data.format=xml",
            ],
            &[
                "4 faults",
                "train.epochs",
                "`r` = 0",
                "`lora_dropout` = 2",
                "\"xml\"",
            ],
        ),
        (
            &["train.epochs=many", "model.dtype=f8"],
            &[
                "2 faults",
                "train.epochs: ",
                "model.dtype: ",
                "`f32` or `bf16`",
            ],
        ),
        (&["nonsense"], &["\"nonsense\": expected key=value"]),
        (&["train=3"], &["train"]),
        (
            &["train.metric_for_best_model=f7"],
            &["unknown metric \"f7\"", "accuracy, precision_macro"],
        ),
        (
            &["lora.target_modules=[\"query\"]"],
            &["query matches no module", "model.layers.0.self_attn.q_proj"],
        ),
        (
            &["lora.target_modules=nothing.*"],
            &["nothing.*", "model.layers.0.self_attn.q_proj"],
        ),
        (
            &["lora.r=17"],
            &["r = 17 is larger than model.layers.0.self_attn.q_proj"],
        ),
        (
            &["model.attention=sideways"],
            &["attention mode \"sideways\": expected causal"],
        ),
        (
            &["model.attention=from:9"],
            &["attention mode \"from:9\": layer 9 is past the last of 2 layers"],
        ),
    ];
    for (set, says) in cases {
        refused(&sandbox, &train_args("out", set), 2, says);
    }
    let files: [(&[u8], &[&str]); 4] = [
        (
            b"task = \"sequence\"\n[model\n",
            &["bad.toml:2:7: malformed TOML: "],
        ),
        (
            b"task = \"sequence\"\n# caf\xe9\n",
            &["bad.toml:2:6: byte 0xe9 is not valid UTF-8"],
        ),
        (b"", &["bad.toml: ", "missing field"]),
        (b"task = \"tagging\"\n", &["bad.toml: ", "tagging"]),
    ];
    for (text, says) in files {
        sandbox.write("bad.toml", text);
        refused(
            &sandbox,
            &["train", "--config", "bad.toml", "--run", "out"],
            2,
            says,
        );
    }
    refused(
        &sandbox,
        &["train", "--config", "none.toml"],
        2,
        &["none.toml does not exist", "hint: ", "demo-sentiment"],
    );
}

#[test]
fn a_run_folder_in_use_is_left_alone() {
    let sandbox = sequence();
    sandbox.write("out/notes.txt", "mine");
    refused(
        &sandbox,
        &train_args("out", &[]),
        2,
        &[
            "run folder out is not empty",
            "hint: name another folder with --run",
        ],
    );
    sandbox.write("file", "mine");
    refused(&sandbox, &train_args("file", &[]), 1, &["file"]);
    // What was refused before it began does not take the folder.
    refused(
        &sandbox,
        &train_args("free", &["lora.r=17"]),
        2,
        &["r = 17"],
    );
    train(&sandbox, "free", &[]);
}

#[test]
fn a_broken_checkpoint_is_refused_by_file_and_tensor() {
    type Break = fn(&Sandbox);
    const WEIGHTS: &str = "model/model.safetensors";
    let sandbox = sequence();
    let cases: [(Break, &[&str]); 18] = [
        (
            |s| cut_short(s, WEIGHTS, 3000),
            &["model.safetensors: truncated: 3000 bytes, expected "],
        ),
        (
            |s| cut_short(s, WEIGHTS, 4),
            &["model.safetensors: truncated: 4 bytes"],
        ),
        (
            |s| s.write(WEIGHTS, [7; 4000]),
            &["model.safetensors: not a usable safetensors file"],
        ),
        (
            |s| {
                std::fs::remove_file(s.path(WEIGHTS)).unwrap();
                s.write(
                    "model/model.safetensors.index.json",
                    r#"{"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}"#,
                )
            },
            &["model.safetensors.index.json: shard model-00001-of-00002.safetensors is missing"],
        ),
        (
            |s| {
                let mut weights = weights(520);
                weights.remove("model.layers.1.mlp.up_proj.weight");
                s.write_tensors(WEIGHTS, &weights);
            },
            &["model.safetensors: tensor model.layers.1.mlp.up_proj.weight is missing"],
        ),
        (
            |s| s.edit_json("model/config.json", json!({"num_hidden_layers": 3})),
            &[
                "config.json: num_hidden_layers: expected at most 2, the layers of ",
                "model.safetensors, found 3",
            ],
        ),
        (
            |s| s.edit_json("model/config.json", json!({"intermediate_size": 32})),
            &["tensor model.layers.0.mlp.gate_proj.weight has shape [24, 16], expected [32, 16]"],
        ),
        (
            |s| s.edit_json("model/config.json", json!({"model_type": "bert"})),
            &["config.json: model_type \"bert\" is not supported", "llama"],
        ),
        (
            |s| s.edit_json("model/config.json", json!({"hidden_act": "gelu"})),
            &["config.json: hidden_act \"gelu\" is not supported", "silu"],
        ),
        (
            |s| {
                s.edit_json(
                    "model/config.json",
                    json!({"rope_scaling": {"rope_type": "proportional", "factor": 2.0}}),
                )
            },
            &[
                "config.json: rope_scaling.rope_type \"proportional\" is not supported",
                "llama3, yarn, longrope",
            ],
        ),
        (
            |s| {
                s.edit_json(
                    "model/config.json",
                    json!({"quantization_config": {"quant_method": "gptq"}}),
                )
            },
            &["config.json: quantization_config \"gptq\" is not supported"],
        ),
        (
            |s| s.edit_json("model/config.json", json!({"hidden_size": null})),
            &["config.json: hidden_size: is missing"],
        ),
        (
            |s| s.write("model/config.json", "{"),
            &["config.json:1:1: malformed JSON"],
        ),
        (
            |s| s.write("model/tokenizer.json", "{}"),
            &["tokenizer.json: not a usable tokenizer"],
        ),
        (
            |s| poison(s, WEIGHTS, "model.norm.weight"),
            &[
                "model.safetensors: tensor model.norm.weight: 1 of ",
                "NaN or infinite, the first NaN at [0]",
                "hint: fetch the file again",
            ],
        ),
        (
            |s| std::fs::remove_file(s.path("model/tokenizer.json")).unwrap(),
            &["model: no tokenizer.json"],
        ),
        (
            |s| std::fs::remove_file(s.path(WEIGHTS)).unwrap(),
            &["model: no model.safetensors"],
        ),
        (
            |s| std::fs::remove_dir_all(s.path("model")).unwrap(),
            &["model: no such folder"],
        ),
    ];
    for (damage, says) in cases {
        sandbox.model("model", 520);
        damage(&sandbox);
        refused(&sandbox, &train_args("out", &[]), 1, says);
        // Where there is no single file, an index counts.
        let _ = std::fs::remove_file(sandbox.path("model/model.safetensors.index.json"));
    }
}

#[test]
fn a_token_past_the_vocabulary_is_refused_before_training() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    // Bytes, and nothing of what the training text merges into.
    sandbox.model("small", 300);
    let hint = "hint: use the tokenizer that came with the model";
    refused(
        &sandbox,
        &train_args("small-out", &["model.path=small"]),
        1,
        &["train.csv:2: token id ", "vocabulary of 300", hint],
    );
    let predict = [
        "predict",
        "--model",
        "small",
        "--adapter",
        "out/best",
        "--task",
        "sequence",
    ];
    refused(
        &sandbox,
        &[&predict[..], &["the film"]].concat(),
        1,
        &["argument:1: token id ", "vocabulary of 300", hint],
    );
}

/// Where the examples of a step stand, batches being drawn without regard to lengths.
fn examples_of_step(step: usize) -> String {
    let options = BatchOptions {
        batch_size: 4,
        pad_id: 0,
        padding_side: PaddingSide::default(),
        padding_mode: PaddingMode::default(),
        pad_to: None,
        group_by_length: false,
    };
    let seed = ls_train::config::TrainSettings::default().seed;
    let mut lines = epoch_order(&[1; 20], &options, seed, 0).swap_remove(step - 1);
    lines.sort_unstable();
    // Counted from 1, after the header.
    let lines: Vec<String> = lines.iter().map(|line| (line + 2).to_string()).collect();
    format!("train.csv lines {}; ", lines.join(", "))
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_with_its_files_whole() {
    let sandbox = sequence();
    // The largest rates that there are.
    let rates = ["train.learning_rate=1e6", "train.loraplus_lr_ratio=1e6"];
    // With them gradients overflow, and with a large alpha outputs do.
    let gradients = sandbox.run(&train_args("gradients", &rates));
    assert_contains(
        &gradients.stderr,
        &[
            "gradient norm is NaN at step 2; examples: ",
            "; every output is a number, but the gradient of model.layers.0.self_attn.q_proj.lora_",
            ".weight is not, for ",
            "or pass over such steps (train.skip_nonfinite_steps, now 0)",
        ],
    );
    let rates = [&rates[..], &["lora.lora_alpha=1e6"]].concat();
    let set = [&rates[..], &["train.max_grad_norm=0"]].concat();
    // With warm-up the first step changes nothing, and the second is the one that overflows.
    let warmup = ["train.warmup_steps=1", "train.group_by_length=false"];
    let third = examples_of_step(3);
    let some = "train.csv line";
    // What is set already is not proposed.
    let clipped = sandbox.run(&train_args("clipped", &rates));
    assert_contains(&clipped.stderr, &["loss is NaN at step 2", "hint: lower "]);
    assert!(
        !clipped.stderr.contains("max_grad_norm"),
        "{}",
        clipped.stderr
    );
    for (run, more, says, examples, steps) in [
        (
            "loss",
            &[][..],
            "loss is NaN at step 2; examples: ",
            some,
            1,
        ),
        (
            "later",
            &warmup,
            "loss is NaN at step 3; examples: ",
            &third,
            2,
        ),
        (
            "evaluation",
            &["train.eval_steps=1"],
            "an output in the evaluation is NaN at step 1; examples: ",
            some,
            1,
        ),
    ] {
        let outcome = sandbox.run(&train_args(run, &[&set[..], more].concat()));
        assert_eq!(outcome.code, 1, "{}", outcome.stderr);
        assert_contains(
            &outcome.stderr,
            &[
                says,
                examples,
                "; the first output that is no number is that of model.",
                "hint: lower train.learning_rate (1e6 at its peak) or train.loraplus_lr_ratio (1e6)",
            ],
        );
        assert_eq!(
            sandbox.listing(run),
            ["config.toml", "environment.json", "metrics.jsonl"]
        );
        assert_eq!(losses(&sandbox, run).len(), steps);
        // On the CPU everything is computed in f32 already.
        assert!(!outcome.stderr.contains("f32"), "{}", outcome.stderr);
        sandbox.json(&format!("{run}/environment.json"));
        ls_train::RunConfig::from_file(&sandbox.path(&format!("{run}/config.toml")), &[]).unwrap();
        refused(
            &sandbox,
            &["predict", "--run", run, "hi"],
            1,
            &["is not finished", "has no best model yet", "go on with: "],
        );
    }
}
