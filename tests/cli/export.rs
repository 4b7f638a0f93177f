//! `ls-cli export`: what it writes answers as the run does, here and (where Python has it) in a
//! real transformers, and nothing is written of what cannot be handed over.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ls_files::{Dtype, TensorFile};
use serde_json::{Value, json};

use crate::problems::{LISTS, NUMBERS, labels_of_both_kinds};
use crate::python::python;
use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, jsonl, says};

/// What every whole model has.
const WHOLE: [&str; 7] = [
    "README.md",
    "config.json",
    "labels.json",
    "ls_llama.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// Of different lengths, with what a tokenizer may read otherwise: special tokens that are spelled
/// out, spaces, characters in bytes.
const TEXTS: [&str; 7] = [
    "bad",
    "the old sea was good and warm , and so was the road that led there , by boat or on foot",
    "the soup of the day was sad",
    "a bright film </s> <unk> <s>",
    " two  spaces in front",
    "Ünïcode 東京 😀",
    "the boat was dull",
];

fn sentences_of_words() -> Value {
    json!([
        ["Zoë", "sold", "boats", "in", "Lima", "."],
        ["Peter"],
        [
            "in", "Élan", "Ann", "and", "Bob", "sold", "Oslo", "to", "Lin", "東京", "."
        ],
        ["boats", "in", "Bern"],
        ["</s>", "Ann"],
    ])
}

/// After one epoch not every answer is right, so that there is a temperature.
const TEMPERATURE: [&str; 2] = ["train.temperature_scaling=true", "train.epochs=1"];

enum Tokenizer {
    /// That of the sandbox, as SentencePiece has it.
    Usual,
    /// Of bytes.
    OfBytes,
    /// It puts the end token behind each text, and no other is free to pad.
    EndPads,
}

/// A run and what it is exported as.
struct Case {
    name: &'static str,
    tagger: bool,
    tokenizer: Tokenizer,
    /// Whether it reads two texts at a time.
    pairs: bool,
    /// Fields of the model's configuration.
    fields: Value,
    set: &'static [&'static str],
    /// Of the export.
    flags: &'static [&'static str],
    /// `sequence`, `token`, `classifier` or `peft`: by what Python runs it.
    kind: &'static str,
    /// Largest difference of a probability.
    tolerance: f64,
}

impl Case {
    fn of(name: &'static str, kind: &'static str, set: &'static [&'static str]) -> Self {
        Self {
            name,
            tagger: false,
            tokenizer: Tokenizer::Usual,
            pairs: false,
            fields: json!({}),
            set,
            flags: &[],
            kind,
            tolerance: SAME,
        }
    }

    fn tagger(self) -> Self {
        Self {
            tagger: true,
            ..self
        }
    }

    fn of_bytes(self) -> Self {
        Self {
            tokenizer: Tokenizer::OfBytes,
            ..self
        }
    }

    fn of_pairs(self) -> Self {
        Self {
            pairs: true,
            ..self
        }
    }

    fn with(self, fields: Value) -> Self {
        Self { fields, ..self }
    }

    fn with_type(self, flags: &'static [&'static str], tolerance: f64) -> Self {
        Self {
            flags,
            tolerance,
            ..self
        }
    }
}

fn cases() -> Vec<Case> {
    vec![
        Case::of("causal", "sequence", &[]),
        Case::of(
            "unmasked",
            "sequence",
            &["model.attention=bidirectional", "model.pooling=last"],
        ),
        // By numbers, and yet in all layers.
        Case::of(
            "all-layers",
            "sequence",
            &["model.attention=layers:0-1", "model.pooling=last"],
        ),
        Case::of(
            "left",
            "sequence",
            &["data.padding_side=left", "data.max_length=12"],
        ),
        Case::of(
            "end",
            "sequence",
            &["data.max_length=12", "data.long_inputs=tail"],
        ),
        Case::of(
            "dora",
            "sequence",
            &["lora.use_dora=true", "lora.use_rslora=true"],
        ),
        Case::of("pissa", "sequence", &["lora.init_lora_weights=pissa"]),
        Case::of(
            "saved",
            "sequence",
            &[
                "lora.target_modules=[\"q_proj\",\"embed_tokens\"]",
                "lora.modules_to_save=[\"norm\"]",
            ],
        ),
        Case::of("bf16-base", "sequence", &["model.dtype=bf16"]),
        Case::of("nf4-base", "sequence", &["model.quantization=nf4"]),
        Case::of(
            "int8-base",
            "sequence",
            &["model.quantization=int8", "model.dtype=bf16"],
        ),
        Case::of("full", "sequence", &["lora=false"]),
        Case::of(
            "layers",
            "sequence",
            &["lora=false", "train.layers=\"1\"", "model.quantization=nf4"],
        ),
        Case::of("as-bf16", "sequence", &[]).with_type(&["--dtype", "bf16"], 5e-3),
        Case::of("as-f16", "sequence", &[]).with_type(&["--dtype", "f16"], 1e-3),
        Case::of("gemma", "sequence", &["model.dtype=bf16"]).with(json!({
            "model_type": "gemma2", "head_dim": 4, "sliding_window": 4,
            "query_pre_attn_scalar": 4, "attn_logit_softcapping": 50.0,
            "layer_types": ["sliding_attention", "full_attention"],
        })),
        Case::of("mean", "classifier", &["model.pooling=mean"]),
        Case::of(
            "max",
            "classifier",
            &["model.pooling=max", "model.attention=bidirectional"],
        ),
        Case::of(
            "by-layer",
            "classifier",
            &["model.attention=from:1", "model.pooling=last"],
        ),
        Case::of(
            "groups",
            "classifier",
            &[
                "model.attention=groups:10",
                "data.max_length=9",
                "data.long_inputs=head_tail",
            ],
        )
        .with(json!({"model_type": "mistral", "sliding_window": 3})),
        Case::of(
            "attended",
            "classifier",
            &[
                "model.attention=bidirectional",
                "data.padding=attended",
                "data.pad_to=64",
                "data.max_length=64",
            ],
        ),
        Case::of("granite", "classifier", &[]).with(json!({
            "model_type": "granite", "embedding_multiplier": 1.7, "residual_multiplier": 0.6,
        })),
        Case {
            tokenizer: Tokenizer::EndPads,
            ..Case::of("end-pads", "classifier", &[])
        },
        Case::of("bytes", "sequence", &[]).of_bytes(),
        Case::of("mean-of-bytes", "classifier", &["model.pooling=mean"]).of_bytes(),
        Case::of(
            "pairs",
            "sequence",
            &["data.text_pair=other", "data.max_length=16"],
        )
        .of_pairs(),
        Case::of(
            "mean-of-pairs",
            "classifier",
            &[
                "data.text_pair=other",
                "data.max_length=16",
                "model.pooling=mean",
            ],
        )
        .of_pairs(),
        // Short pairs beside those that are cut at their beginnings, and in their middles.
        Case::of(
            "ends-of-pairs",
            "classifier",
            &[
                "data.text_pair=other",
                "data.max_length=16",
                "data.long_inputs=tail",
                "model.pooling=mean",
            ],
        )
        .of_pairs(),
        Case::of(
            "middles-of-pairs",
            "classifier",
            &[
                "data.text_pair=other",
                "data.max_length=15",
                "data.long_inputs=head_tail",
                "model.pooling=max",
            ],
        )
        .of_pairs(),
        Case::of("tagger", "token", &[]).tagger(),
        Case::of("tagger-of-bytes", "token", &[])
            .tagger()
            .of_bytes(),
        Case::of(
            "classifier-of-bytes",
            "classifier",
            &[
                "model.attention=groups:01",
                "data.label_position=first_visible",
            ],
        )
        .tagger()
        .of_bytes(),
        Case::of(
            "last-sub-word",
            "token",
            &["data.label_position=last", "data.words=split"],
        )
        .tagger(),
        Case::of(
            "visible",
            "token",
            &[
                "data.label_position=first_visible",
                "model.attention=causal",
            ],
        )
        .tagger(),
        Case::of(
            "tagger-by-layer",
            "classifier",
            &["model.attention=layers:1-1", "data.label_position=last"],
        )
        .tagger(),
        Case::of(
            "tagger-of-olmo",
            "classifier",
            &["data.words=split", "data.label_position=first_visible"],
        )
        .tagger()
        .with(json!({"model_type": "olmo2"})),
        Case::of("adapter", "peft", &[]).with_type(&["--adapter-only"], SAME),
        Case::of("multi-label", "sequence", &LISTS),
        Case::of("regression", "sequence", &NUMBERS),
        Case::of(
            "mean-of-multi-label",
            "classifier",
            &[LISTS[0], LISTS[1], LISTS[2], "model.pooling=mean"],
        ),
        Case::of("temperature", "sequence", &TEMPERATURE),
        Case::of("tagger-with-temperature", "token", &TEMPERATURE).tagger(),
        Case::of("adapter-with-temperature", "peft", &TEMPERATURE)
            .with_type(&["--adapter-only"], SAME),
        Case::of("multi-label-adapter", "peft", &LISTS).with_type(&["--adapter-only"], SAME),
    ]
}

/// A run of a case and its exported folder: what ls-cli answers with either, and the case as
/// `pipelines.py` takes it.
fn exported(case: &Case) -> (Sandbox, Value) {
    let sandbox = if case.tagger { token() } else { sequence() };
    sandbox.model_with("model", &case.fields);
    match case.tokenizer {
        Tokenizer::Usual => {}
        Tokenizer::OfBytes => {
            let folder = fixtures().join("../../crates/ls-data/tests/fixtures/tokenizers/llama3");
            for file in ["tokenizer.json", "tokenizer_config.json"] {
                let bytes = std::fs::read(folder.join(file)).unwrap();
                sandbox.write(&format!("model/{file}"), bytes);
            }
        }
        Tokenizer::EndPads => {
            let file = std::fs::read(fixtures().join("answers/tokenizer.json")).unwrap();
            let mut tokenizer: Value = serde_json::from_slice(&file).unwrap();
            // A text may give the unknown token, so that it cannot pad.
            tokenizer["model"]["byte_fallback"] = json!(false);
            sandbox.write("model/tokenizer.json", tokenizer.to_string());
        }
    }
    if case.pairs {
        let rows = reviews();
        let rows = rows
            .iter()
            .map(|(text, label)| format!("{text},and so to bed,{label}\n"));
        let header = ["text,other,label\n".to_owned()].into_iter();
        sandbox.write("train.csv", header.chain(rows).collect::<String>());
    }
    labels_of_both_kinds(&sandbox);
    let quick = if case.tagger {
        "train.epochs=12"
    } else {
        "train.epochs=2"
    };
    train(&sandbox, "out", &[&[quick], case.set].concat());
    let inputs: Value = if case.tagger {
        sentences_of_words()
    } else if case.pairs {
        TEXTS
            .iter()
            .zip(TEXTS[1..].iter().rev())
            .map(|pair| json!(pair))
            .collect()
    } else {
        json!(TEXTS)
    };
    let row = |input: &Value| match (case.tagger, case.pairs) {
        (true, _) => json!({ "tokens": input }),
        (_, true) => json!({ "text": input[0], "other": input[1] }),
        _ => json!({ "text": input }),
    };
    let rows = inputs.as_array().unwrap().iter().map(row);
    sandbox.write("in.jsonl", json_lines(rows));
    let input = ["--input", "in.jsonl"];
    let of_run = jsonl(&sandbox.ok(&[&["predict", "--run", "out"], &input[..]].concat()));

    let command = ["export", "--run", "out", "--out", "given/away"];
    let said = sandbox.ok(&[&command[..], case.flags].concat());
    assert!(said.starts_with("given/away: "), "{said}");
    let mut files: Vec<&str> = WHOLE.to_vec();
    let mut from = vec!["predict", "--model", "given/away"];
    match case.kind {
        "classifier" => files.insert(1, "classifier.py"),
        "peft" => {
            files.splice(1..2, ["adapter_config.json", "adapter_model.safetensors"]);
            files.retain(|file| *file != "model.safetensors");
            from = vec!["predict", "--model", "model", "--adapter", "given/away"];
        }
        _ => {}
    }
    assert_eq!(sandbox.listing("given/away"), files, "{}", case.name);
    // Nothing beside it.
    assert_eq!(sandbox.listing("given").len(), files.len(), "{}", case.name);
    let otherwise = said.contains("answer otherwise");
    assert_eq!(otherwise, case.kind == "classifier", "{said}");

    let task = if case.tagger { "token" } else { "sequence" };
    let mut from = [&from[..], &["--task", task], &input].concat();
    if case.pairs {
        from.extend(["--set", "data.text_pair=other"]);
    }
    let outcome = sandbox.run(&from);
    assert_eq!(outcome.code, 0, "{}: {}", case.name, outcome.stderr);
    // The folder is what its settings say of it.
    assert!(
        !outcome.stderr.contains("answers may be wrong"),
        "{}",
        outcome.stderr
    );
    let again = jsonl(&outcome.stdout);
    if case.tolerance == SAME {
        assert_same_answers(&again, &of_run);
    }
    let report = sandbox.json("out/report.json");
    let of_labels = [
        ("f1_micro", "F1 (micro)"),
        ("f1_macro", "F1 (macro)"),
        ("average_precision_macro", "Mean average precision"),
        ("subset_accuracy", "Accuracy of whole label sets"),
    ];
    let of_others = [
        ("pearson", "Pearson correlation"),
        ("spearman", "Spearman correlation"),
        ("mae", "Mean absolute error"),
        ("mse", "Mean squared error"),
        ("accuracy", "Accuracy"),
        ("f1_macro", "F1 (macro)"),
        ("mcc", "Matthews correlation"),
        ("span_f1_micro", "Span F1 (micro)"),
        ("span_precision_micro", "Span precision (micro)"),
        ("span_recall_micro", "Span recall (micro)"),
        ("token_accuracy", "Accuracy of words"),
    ];
    let titles: &[(&str, &str)] = match report["scores"].get("subset_accuracy") {
        Some(_) => &of_labels,
        None => &of_others,
    };
    let scores = titles.iter().filter_map(|(key, title)| {
        let value = report["scores"].get(key)?;
        Some(((*title).to_owned(), value.clone()))
    });
    let python = json!({
        "name": case.name,
        "folder": sandbox.path("given/away"),
        "kind": case.kind,
        "base": sandbox.path("model"),
        "inputs": inputs,
        "answers": of_run,
        "scores": scores.collect::<serde_json::Map<_, _>>(),
        "tolerance": case.tolerance,
    });
    (sandbox, python)
}

#[test]
fn every_kind_of_run_answers_alike_as_a_folder_and_in_transformers() {
    let all: Vec<(Sandbox, Value)> = cases().iter().map(exported).collect();
    for ((sandbox, _), case) in all.iter().zip(cases()) {
        let card = sandbox.read("given/away/README.md");
        let native = matches!(case.kind, "sequence" | "token");
        assert_eq!(
            card.contains("inference: false"),
            case.kind == "classifier",
            "{card}"
        );
        assert_eq!(card.contains("= pipeline("), native, "{card}");
        if case.pairs {
            let shown = if native {
                "classify([{\"text\": \"a text\", \"text_pair\": "
            } else {
                "model.predict([(\"a text\", \"the one"
            };
            assert_contains(&card, &[shown, "--set data.text_pair=other`"]);
        }
        if case.kind == "peft" {
            assert_contains(&card, &["base = \"model\"  # put here"]);
            let adapter = sandbox.json("given/away/adapter_config.json");
            assert_eq!(adapter["base_model_name_or_path"], "model");
            let here = sandbox.path("").display().to_string();
            for (name, bytes) in sandbox.files() {
                if name.starts_with("given") && !name.ends_with(".safetensors") {
                    let text = String::from_utf8(bytes).unwrap();
                    assert!(!text.contains(here.trim_end_matches('/')), "{name}: {text}");
                }
            }
            continue;
        }
        let config = sandbox.json("given/away/config.json");
        assert_eq!(config.get("architectures").is_some(), native, "{config}");
        let settings = sandbox.json("given/away/ls_llama.json");
        let unmasked = settings["attention"] == "bidirectional";
        let expected = unmasked.then_some(&Value::Bool(false));
        assert_eq!(config.get("is_causal"), expected, "{}", case.name);
        let labels: Vec<&Value> = config["id2label"].as_object().unwrap().values().collect();
        assert_eq!(json!(labels), settings["labels"]);
        if !case.tagger {
            let said = settings.get("problem_type").and_then(Value::as_str);
            let expected = said.unwrap_or("single_label_classification");
            assert_eq!(config["problem_type"], expected);
            assert_eq!(
                said.is_some(),
                case.set.contains(&LISTS[0]) || case.set == NUMBERS
            );
        }
    }
    let Some(python) = python() else {
        eprintln!("skipped: no python3 with transformers; LS_LLAMA_PYTHON names one");
        return;
    };
    let of_all: Vec<&Value> = all.iter().map(|(_, case)| case).collect();
    let (sandbox, _) = &all[0];
    sandbox.write("cases.json", json!(of_all).to_string());
    let output = Command::new(python)
        .env("HF_HUB_OFFLINE", "1")
        .arg(fixtures().join("export/pipelines.py"))
        .arg(sandbox.path("cases.json"))
        .output()
        .unwrap();
    let [said, faults] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{said}{faults}");
    print!("{said}");
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// The adapter is peft's, and so are the expected probabilities, of `TextClassificationPipeline`.
#[test]
fn a_merged_adapter_answers_as_transformers_and_peft_did() {
    let answers = fixtures().join("answers");
    let sandbox = Sandbox::empty();
    let copy = |from: &str, to: &str| {
        let bytes = std::fs::read(answers.join(from)).unwrap();
        sandbox.write(to, bytes);
    };
    for file in ["config.json", "model.safetensors", "tokenizer_config.json"] {
        copy(&format!("base/{file}"), &format!("model/{file}"));
    }
    copy("tokenizer.json", "model/tokenizer.json");
    sandbox.write("a.csv", "text,label\na,neg\nb,neutral\nc,pos\nd,pos\n");
    let config = r#"
task = "sequence"
[model]
path = "model"
pooling = "last_not_pad"
[lora]
r = 2
lora_alpha = 4
[data]
train = "a.csv"
validation = "a.csv"
max_length = 64
[train]
epochs = 1
"#;
    sandbox.write("run.toml", config);
    train(&sandbox, "out", &[]);
    // In the place of what the run learned.
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        copy(&format!("adapter/{file}"), &format!("out/best/{file}"));
    }
    sandbox.ok(&["export", "--run", "out", "--out", "merged", "--merge"]);
    let expected: Value =
        serde_json::from_slice(&std::fs::read(answers.join("expected.json")).unwrap()).unwrap();
    let texts = expected["texts"].as_array().unwrap();
    let texts: Vec<&str> = texts.iter().map(|text| text.as_str().unwrap()).collect();
    let predict = ["predict", "--model", "merged", "--task", "sequence", "--"];
    let found = jsonl(&sandbox.ok(&[&predict[..], &texts].concat()));
    let of_pipeline = expected["scores"]["adapter"].as_array().unwrap();
    assert_eq!(found.len(), of_pipeline.len());
    for (found, expected) in found.iter().zip(of_pipeline) {
        let expected = expected.as_object().unwrap();
        for (label, score) in expected {
            let pair = [&found["scores"][label], score].map(|value| value.as_f64().unwrap());
            assert_close(&pair[..1], &pair[1..]);
        }
        assert_eq!(found["label"], **expected.keys().next().as_ref().unwrap());
    }
    // The end token pads, which is what transformers passes over.
    let [config, tokenizer] =
        ["config", "tokenizer_config"].map(|name| sandbox.json(&format!("merged/{name}.json")));
    assert_eq!(config["pad_token_id"], 2);
    assert_eq!(tokenizer["pad_token"], "</s>");
    assert_eq!(tokenizer["padding_side"], "right");
    assert_eq!(tokenizer["model_max_length"], 64);
    assert_eq!(tokenizer["split_special_tokens"], true);
}

#[test]
fn the_type_of_the_weights_is_the_one_that_is_asked_for() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    for (flag, dtype, name) in [
        ("f32", Dtype::F32, "float32"),
        ("bf16", Dtype::BF16, "bfloat16"),
        ("f16", Dtype::F16, "float16"),
    ] {
        let said = sandbox.ok(&["export", "--run", "out", "--out", flag, "--dtype", flag]);
        let rounds = said.contains("14 layers merged; rounding is at most ");
        assert_eq!(rounds, dtype != Dtype::F32, "{said}");
        let file = TensorFile::open(sandbox.path(&format!("{flag}/model.safetensors"))).unwrap();
        // Two layers of nine tensors, the table, the last norm and the head.
        assert_eq!(file.names().count(), 21);
        for tensor in file.names() {
            assert_eq!(file.get(tensor).unwrap().0, dtype, "{tensor}");
        }
        assert_eq!(sandbox.json(&format!("{flag}/config.json"))["dtype"], name);
    }
}

/// What the Hub and peft go by is its name there, and no path of this machine is in the folder.
#[test]
fn the_base_model_is_called_by_its_name_on_the_hub() {
    let sandbox = sequence();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let snapshot = format!("hub/models--org--tiny-llama/snapshots/{commit}");
    for file in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        let bytes = std::fs::read(sandbox.path("model").join(file)).unwrap();
        sandbox.write(&format!("{snapshot}/{file}"), bytes);
    }
    let path = format!("model.path={snapshot}");
    train(&sandbox, "out", &["train.epochs=1", &path]);
    sandbox.ok(&["export", "--run", "out", "--out", "whole"]);
    sandbox.ok(&[
        "export",
        "--run",
        "out",
        "--out",
        "adapter",
        "--adapter-only",
    ]);
    let relations = [("whole", "finetune"), ("adapter", "adapter")];
    for (folder, relation) in relations {
        let card = sandbox.read(&format!("{folder}/README.md"));
        let expected = format!("base_model: \"org/tiny-llama\"\nbase_model_relation: {relation}\n");
        assert_contains(&card, &[&expected, "https://huggingface.co/org/tiny-llama"]);
        for (name, bytes) in sandbox.files() {
            if name.starts_with(folder) && !name.ends_with(".safetensors") {
                let text = String::from_utf8(bytes).unwrap();
                assert!(!text.contains(commit), "{name}: {text}");
            }
        }
    }
    let adapter = sandbox.json("adapter/adapter_config.json");
    assert_eq!(adapter["base_model_name_or_path"], "org/tiny-llama");
}

/// Its numbers and intervals are those of the report and of `ls-cli score --bootstrap`.
#[test]
fn the_card_has_the_scores_with_their_intervals() {
    for (sandbox, keys) in [
        (
            sequence(),
            [("accuracy", "Accuracy"), ("mcc", "Matthews correlation")],
        ),
        (
            token(),
            [
                ("span_f1_micro", "Span F1 (micro)"),
                ("token_accuracy", "Accuracy of words"),
            ],
        ),
    ] {
        train(&sandbox, "out", &["train.epochs=1"]);
        sandbox.ok(&["export", "--run", "out", "--out", "given"]);
        let card = sandbox.read("given/README.md");
        let predictions = [
            "score",
            "--pred",
            "out/predictions.jsonl",
            "--format",
            "json",
        ];
        let scored = sandbox.ok_json(&[&predictions[..], &["--bootstrap", "1000"]].concat());
        for (key, title) in keys {
            let value = scored[key].as_f64().unwrap();
            let interval = &scored["confidence"][key];
            let [low, high] = ["low", "high"].map(|end| interval[end].as_f64().unwrap());
            let row = format!("| {title} | {value:.4} | {low:.4} to {high:.4} |");
            assert_contains(&card, &[&row]);
        }
        assert_contains(
            &card,
            &[
                "validation split, 20 examples",
                "also chose the checkpoint",
                "those of 1000 resamples",
            ],
        );
        // Without the predictions there are no intervals, and the card says so.
        std::fs::remove_file(sandbox.path("out/predictions.jsonl")).unwrap();
        sandbox.ok(&["export", "--run", "out", "--out", "without"]);
        let card = sandbox.read("without/README.md");
        assert_contains(&card, &[" | - |\n", "There are no intervals"]);
    }
}

#[test]
fn a_known_data_set_is_called_by_its_name_on_the_hub() {
    let sandbox = sequence();
    let line = |(text, label): &(String, &str)| {
        let id = usize::from(*label == "pos");
        json!({"text": text, "label": id, "label_text": (["negative", "positive"][id])})
    };
    for split in ["train", "dev", "test"] {
        let lines = json_lines(reviews().iter().map(line));
        sandbox.write(&format!("set/{split}.jsonl"), lines);
    }
    let config = SEQUENCE.replace("train = \"train.csv\"", "dataset = \"sst2\"");
    let config = config.replace("validation = \"train.csv\"", "dir = \"set\"");
    sandbox.write("run.toml", config);
    train(&sandbox, "out", &["train.epochs=1"]);
    sandbox.ok(&["export", "--run", "out", "--out", "given"]);
    let expected = [
        "datasets:\n- \"stanfordnlp/sst2\"\n",
        "      type: \"stanfordnlp/sst2\"\n      split: \"test\"\n",
        "(https://huggingface.co/datasets/stanfordnlp/sst2), read from JSON lines of SetFit\n",
        "| test | 20 | - |",
        "Another split chose the checkpoint.",
    ];
    assert_contains(&sandbox.read("given/README.md"), &expected);
}

/// Its path is one of this machine, in the place of a title too.
#[test]
fn a_description_of_ones_own_goes_by_its_files_name() {
    let sandbox = sequence();
    let lines: String = reviews()
        .iter()
        .map(|(text, label)| format!("{label}\t{text}\tand so to bed\n"))
        .collect();
    for split in ["train", "test"] {
        sandbox.write(&format!("sets/mine/{split}.tsv"), &lines);
    }
    let description = r#"
task = "sequence"
labels = ["neg", "pos"]
[[forms]]
name = "columns"
format = "tsv"
header = false
label = 0
text = 1
text_append = [2]
splits.train.files = ["train.tsv"]
splits.test.files = ["test.tsv"]
"#;
    sandbox.write("sets/mine.toml", description);
    let config = SEQUENCE.replace("train = \"train.csv\"", "dataset = \"sets/mine.toml\"");
    let config = config.replace("validation = \"train.csv\"", "");
    sandbox.write("run.toml", config);
    train(&sandbox, "out", &["train.epochs=1"]);
    sandbox.ok(&["export", "--run", "out", "--out", "given"]);
    let card = sandbox.read("given/README.md");
    let expected = [
        "      name: \"mine\"\n      type: \"mine\"\n",
        "- text: the columns `1`, `2`, joined by a space: put",
    ];
    assert_contains(&card, &expected);
    assert!(!card.contains("mine.toml"), "{card}");
}

#[test]
fn the_code_of_a_card_passes_over_words_that_were_cut_off() {
    for position in ["first", "first_visible", "last"] {
        let sandbox = token();
        let position = format!("data.label_position={position}");
        let set = [
            "train.epochs=1",
            "data.max_length=6",
            "data.long_inputs=truncate",
            &position,
        ];
        train(&sandbox, "out", &set);
        sandbox.ok(&["export", "--run", "out", "--out", "given"]);
        let Some(python) = python() else {
            eprintln!("skipped: no python3 with transformers; LS_LLAMA_PYTHON names one");
            return;
        };
        let card = sandbox.read("given/README.md");
        let code = card.split("```python\n").nth(1).unwrap();
        sandbox.write("code.py", code.split("```").next().unwrap());
        let mut command = Command::new(python);
        command.env("HF_HUB_OFFLINE", "1").arg("code.py");
        let output = command.current_dir(sandbox.path("")).output().unwrap();
        let faults = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{faults}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said.lines().count(), 5, "{said}");
        assert_contains(&said, &["Ada ", "\nParis has no answer: it was cut off\n"]);
    }
}

#[test]
fn over_bf16_the_card_names_the_device_of_its_probabilities() {
    let sandbox = sequence();
    for (dtype, said) in [
        ("bf16", "those of `ls-cli predict` on a CPU to about"),
        ("f32", "those of ls-llama to about"),
    ] {
        let dtype_of_model = format!("model.dtype={dtype}");
        train(&sandbox, dtype, &["train.epochs=1", &dtype_of_model]);
        let out = format!("given-{dtype}");
        sandbox.ok(&["export", "--run", dtype, "--out", &out]);
        assert_contains(&sandbox.read(&format!("{out}/README.md")), &[said]);
    }
}

#[test]
fn the_card_tells_what_was_read_and_done_and_not_what_was_only_said() {
    let sandbox = sequence();
    sandbox.write("test.csv", sandbox.read("train.csv"));
    // Some texts have both labels, so that nobody can be sure of them.
    let both = reviews().into_iter().step_by(3);
    let both: String = both
        .map(|(text, _)| format!("{text},neg\n{text},pos\n"))
        .collect();
    sandbox.write("train.csv", csv(&reviews()) + &both);
    let card = |run: &str, set: &[&str]| {
        train(
            &sandbox,
            run,
            &[&["data.validation=gone.csv"], set].concat(),
        );
        let out = format!("{run}-out");
        sandbox.ok(&["export", "--run", run, "--out", &out]);
        let card = sandbox.read(&format!("{out}/README.md"));
        assert!(!card.contains("gone.csv"), "{card}");
        card
    };
    let validation = |card: &str| {
        let row = card.lines().find(|line| line.starts_with("| validation |"));
        row.unwrap().to_owned()
    };
    // The validation split is a part of train, whatever else is named.
    let fold = [
        "data.fold=1/2",
        "train.epochs=6",
        "train.early_stopping_patience=1",
        "train.temperature_scaling=true",
    ];
    let folded = card("folded", &fold);
    assert!(
        validation(&folded).ends_with("| a part of train |"),
        "{folded}"
    );
    let said = "at most 6 epochs, ";
    assert_contains(
        &folded,
        &[
            said,
            "The temperature of the probabilities was fitted to it",
        ],
    );
    // As the published code has it, the test split chooses.
    let paper = [
        "data.protocol=paper",
        "data.test=test.csv",
        "train.epochs=1",
    ];
    let paper = card("paper", &paper);
    assert!(validation(&paper).ends_with("| test.csv |"), "{paper}");
    assert_contains(&paper, &["\n- 1 epochs, "]);
}

/// Of many GB nothing may be left.
#[test]
#[cfg(unix)]
fn a_signal_removes_what_was_begun() {
    let sandbox = sequence();
    sandbox.model_with("model", &json!({ "intermediate_size": 1 << 16 }));
    train(&sandbox, "out", &["train.epochs=1", "data.max_length=8"]);
    let export = ["export", "--run", "out", "--out", "given/away"];
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        // It may be done before the signal comes.
        let stopped = (0..30).any(|_| {
            let mut command = sandbox.command_that_heeds_signals(&export);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            while !sandbox.path("given").exists() && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_micros(100));
            }
            let sent = Command::new("kill")
                .args(["-s", signal, &child.id().to_string()])
                .status();
            assert!(sent.is_ok());
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            let left = sandbox.path("given").read_dir().unwrap().count();
            let done = output.status.success();
            if !done {
                assert_eq!(output.status.code(), Some(code), "{stderr}");
                let said = [
                    "stopping, and removing",
                    "stopped: nothing was left of given/away",
                ];
                assert_contains(&stderr, &said);
                assert!(output.stdout.is_empty());
            }
            assert_eq!(left, usize::from(done), "{stderr}");
            std::fs::remove_dir_all(sandbox.path("given")).unwrap();
            !done
        });
        assert!(stopped, "{signal}");
    }
}

#[test]
fn what_cannot_be_handed_over_leaves_nothing() {
    let sandbox = sequence();
    let export = ["export", "--run", "out", "--out", "given/away"];
    let flags = |flags: &[&'static str]| [&export[..], flags].concat();
    refused(
        &sandbox,
        &export,
        1,
        &["out: not a run folder: no such folder"],
    );
    train(&sandbox, "out", &["train.epochs=1"]);

    for (both, said) in [
        (["--merge", "--adapter-only"], "--adapter-only"),
        (["--dtype=bf16", "--adapter-only"], "--adapter-only"),
        (
            ["--dtype=int8", "--merge"],
            "[possible values: f32, bf16, f16]",
        ),
    ] {
        refused(&sandbox, &flags(&both), 2, &["error: ", said]);
    }
    for out in [".", "..", "/", "given/.."] {
        let expected = "not a usable folder for the exported model: it";
        let command = ["export", "--run", "out", "--out", out];
        refused(
            &sandbox,
            &command,
            2,
            &[expected, "name a new folder in it"],
        );
    }
    sandbox.write("given/away/mine.txt", "mine");
    let expected = "given/away: not a usable folder for the exported model: it is not empty";
    refused(&sandbox, &export, 2, &[expected, "name another"]);
    std::fs::remove_dir_all(sandbox.path("given")).unwrap();
    sandbox.write("given/away", "a file");
    refused(&sandbox, &export, 2, &["it is a file"]);
    std::fs::remove_file(sandbox.path("given/away")).unwrap();

    let report = sandbox.read("out/report.json");
    std::fs::remove_file(sandbox.path("out/report.json")).unwrap();
    let hint = "train --resume out";
    refused(
        &sandbox,
        &export,
        2,
        &["out holds a run that is not finished", hint],
    );
    sandbox.write("out/report.json", "{\"scores\": 1}");
    refused(
        &sandbox,
        &export,
        1,
        &["report.json: not a run folder: scores: "],
    );
    sandbox.write("out/report.json", report);

    let weights = std::fs::read(sandbox.path("model/model.safetensors")).unwrap();
    let mut others = weights.clone();
    *others.last_mut().unwrap() ^= 1;
    sandbox.write("model/model.safetensors", &others);
    let expected = [
        "out cannot be exported: ",
        "these are not the weights",
        "hint: put back",
    ];
    for form in [&[][..], &["--adapter-only"]] {
        refused(&sandbox, &flags(form), 1, &expected);
    }
    std::fs::remove_file(sandbox.path("model/model.safetensors")).unwrap();
    refused(&sandbox, &export, 1, &["no model.safetensors"]);
    sandbox.write("model/model.safetensors", &weights);

    let adapter = "out/best/adapter_model.safetensors";
    let bytes = std::fs::read(sandbox.path(adapter)).unwrap();
    cut_short(&sandbox, adapter, bytes.len() - 4);
    refused(
        &sandbox,
        &export,
        1,
        &["adapter_model.safetensors", "truncated"],
    );
    sandbox.write(adapter, bytes);

    // What f16 cannot hold.
    let large = sequence();
    let mut weights = tensors(&large, "model/model.safetensors");
    let norm = weights.get_mut("model.norm.weight").unwrap();
    norm.bytes[4..8].copy_from_slice(&1e6f32.to_le_bytes());
    large.write_tensors("model/model.safetensors", &weights);
    train(
        &large,
        "out",
        &["train.epochs=1", "train.learning_rate=1e-6"],
    );
    let expected = [
        "tensor model.norm.weight: 1 of 16 values is NaN or infinite in F16, the first 1000000 at [1]",
        "--dtype f32",
    ];
    refused(&large, &flags(&["--dtype", "f16"]), 1, &expected);

    let full = sequence();
    train(&full, "out", &["lora=false", "train.epochs=1"]);
    for flag in ["--merge", "--adapter-only"] {
        let expected = ["out: the run trained without adapters", "leave --merge and"];
        refused(&full, &flags(&[flag]), 2, &expected);
    }
    says(&full.run(&export), 0, &[]);
}
