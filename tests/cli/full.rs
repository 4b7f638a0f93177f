//! Runs without adapters: the decoder itself trains, and `best/` is a whole model.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use ls_files::{HostTensor, TensorFile};
use serde_json::{Value, json};

use crate::python::python;
use crate::runs::*;
use crate::sandbox::{Sandbox, jsonl, says, weights};

/// Settings with which the tiny model learns its texts.
const LEARNS: [&str; 3] = ["lora=false", "train.learning_rate=3e-3", "train.epochs=6"];

const TEXTS: [&str; 3] = ["the sea was sad", "a bright, \"warm\" film", "bad"];

fn best(sandbox: &Sandbox, run: &str) -> TensorFile {
    TensorFile::open(sandbox.path(&format!("{run}/best/model.safetensors"))).unwrap()
}

/// Names of the decoder's tensors that are not what they were.
fn changed(sandbox: &Sandbox, run: &str) -> Vec<String> {
    let saved = best(sandbox, run);
    let changed = weights(520)
        .into_iter()
        .filter(|(name, tensor)| saved.read(name).unwrap() != *tensor);
    changed.map(|(name, _)| name).collect()
}

#[test]
fn a_whole_model_is_trained_saved_answered_and_scored() {
    let sandbox = sequence();
    train(&sandbox, "out", &LEARNS);
    let mut expected: Vec<&str> = RUN_FOLDER
        .into_iter()
        .filter(|file| !file.contains("adapter"))
        .chain(["best/config.json", "best/model.safetensors"])
        .collect();
    let listing = sandbox.listing("out");
    let kept: Vec<&String> = listing
        .iter()
        .filter(|file| !file.starts_with("checkpoints/"))
        .collect();
    expected.sort_unstable();
    assert_eq!(kept, expected);
    assert_eq!(changed(&sandbox, "out").len(), weights(520).len());

    let report = sandbox.json("out/report.json");
    assert_eq!(report["scores"]["accuracy"], 1.0, "{report}");
    let tensors = weights(520);
    let size = |name: &str| tensors[name].len();
    let decoder: usize = tensors.keys().map(|name| size(name)).sum();
    assert_eq!(report["trainable_parameters"], decoder + 2 * 16);
    assert_eq!(report["all_parameters"], decoder + 2 * 16);
    let scored = sandbox.ok_json(&["evaluate", "--run", "out", "--format", "json"]);
    assert_eq!(scored["accuracy"], 1.0);
    assert_close(
        &[scored["loss"].as_f64().unwrap()],
        &[report["loss"].as_f64().unwrap()],
    );

    // The folder alone says how it is to be run.
    let of_run = sandbox.ok(&[&["predict", "--run", "out"], &TEXTS[..]].concat());
    let folder = ["predict", "--model", "out/best", "--task", "sequence"];
    let of_folder = sandbox.ok(&[&folder, &TEXTS[..]].concat());
    assert_eq!(of_run, of_folder);
    assert_eq!(jsonl(&of_run)[0]["label"], "neg");

    let config = sandbox.json("out/best/config.json");
    let expected = json!({
        "architectures": ["LlamaForSequenceClassification"],
        "dtype": "float32",
        "id2label": {"0": "neg", "1": "pos"},
        "label2id": {"neg": 0, "pos": 1},
        "problem_type": "single_label_classification",
        "vocab_size": 520,
    });
    for (key, expected) in expected.as_object().unwrap() {
        assert_eq!(config[key], *expected, "{key}");
    }
    assert!(config["pad_token_id"].is_u64() && config.get("is_causal").is_none());
    let settings = sandbox.json("out/best/ls_llama.json");
    assert_eq!(settings["trained"], "all");
    let card = sandbox.read("out/best/README.md");
    let loads = "model = AutoModelForSequenceClassification.from_pretrained(\".\")\n";
    assert!(card.contains(loads) && !card.contains("peft"), "{card}");

    // What nothing uses may be a part of what it should compute.
    let mut tensors: BTreeMap<String, HostTensor> = {
        let file = best(&sandbox, "out");
        let names: Vec<String> = file.names().map(Into::into).collect();
        names
            .into_iter()
            .map(|name| (name.clone(), file.read(&name).unwrap()))
            .collect()
    };
    let bias = "model.layers.0.self_attn.q_proj.bias";
    tensors.insert(bias.into(), HostTensor::from_f32([16], &[0.5; 16]));
    let all = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    ls_files::write_tensors(sandbox.path("out/best/model.safetensors"), all).unwrap();
    let outcome = sandbox.run(&["predict", "--run", "out", "bad"]);
    let told = format!("answers may be wrong: config.json has no use for tensor {bias}");
    says(&outcome, 0, &[&told]);

    // Whoever edits it is told.
    sandbox.edit_json("out/best/config.json", json!({"rms_norm_eps": 0.5}));
    let outcome = sandbox.run(&["predict", "--run", "out", "bad"]);
    says(&outcome, 0, &["config.json: answers may be wrong"]);
}

/// Families, the fields that make the tiny model one of theirs, the mask to train with (and what
/// else is set) and the class of transformers that answers alike, if there is one. Qwen2 is not
/// here: transformers would read the texts with that family's own tokenizer, not the folder's.
fn families() -> Vec<(&'static str, Value, &'static str, Value)> {
    let class = |stem: &str| json!([format!("{stem}ForSequenceClassification")]);
    let own_width = json!({"head_dim": 4});
    let gemma = json!({
        "head_dim": 4, "query_pre_attn_scalar": 4, "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention"],
    });
    // Half the window to each side.
    let mut both = gemma.clone();
    both["use_bidirectional_attention"] = json!(true);
    let mut both_said_twice = both.clone();
    both_said_twice["is_causal"] = json!(false);
    let granite = json!({"embedding_multiplier": 1.7, "residual_multiplier": 0.6});
    vec![
        ("phi3", json!({}), "causal", class("Phi3")),
        ("mistral", json!({}), "causal", class("Mistral")),
        ("qwen3", own_width, "bidirectional", class("Qwen3")),
        ("olmo2", json!({}), "causal", class("Olmo2")),
        ("granite", granite, "causal", Value::Null),
        ("smollm3", json!({}), "causal", class("SmolLM3")),
        ("gemma2", gemma.clone(), "causal", class("Gemma2")),
        ("gemma3_text", gemma, "bidirectional", class("Gemma3Text")),
        (
            "gemma3_text",
            both.clone(),
            "bidirectional",
            class("Gemma3Text"),
        ),
        ("gemma3_text", both.clone(), "causal", class("Gemma3Text")),
        // A mask in some layers, and another pooling: transformers' class would answer otherwise.
        ("gemma3_text", both, "from:1", Value::Null),
        ("llama", json!({}), "causal model.pooling=mean", Value::Null),
        // Both layers, by their numbers.
        ("llama", json!({}), "from:0", class("Llama")),
        (
            "gemma3_text",
            both_said_twice,
            "bidirectional",
            class("Gemma3Text"),
        ),
    ]
}

/// A run without adapters of one of them.
fn trained(family: &str, fields: &Value, attention: &str) -> Sandbox {
    let sandbox = sequence();
    let mut fields = fields.clone();
    fields["model_type"] = json!(family);
    fields["pad_token_id"] = json!(0);
    fields["auto_map"] = json!({"AutoModelForCausalLM": "own_code.OwnForCausalLM"});
    sandbox.model_with("model", &fields);
    let attention = format!("model.attention={attention}");
    let mut set = vec![LEARNS[0], LEARNS[1], "model.pooling=last", "train.epochs=1"];
    set.extend(attention.split(' '));
    train(&sandbox, "out", &set);
    sandbox
}

#[test]
fn a_whole_model_of_every_family_answers_as_what_was_trained() {
    for (family, fields, attention, class) in families() {
        let case = format!("{family} {attention} {fields}");
        let sandbox = trained(family, &fields, attention);
        let report = sandbox.json("out/report.json");
        let scored = sandbox.ok_json(&["evaluate", "--run", "out", "--format", "json"]);
        let [found, expected] = [&scored, &report].map(|of| of["loss"].as_f64().unwrap());
        assert!(
            (found - expected).abs() < SAME,
            "{case}: {found} {expected}"
        );
        let config = sandbox.json("out/best/config.json");
        let field = |name: &str| config.get(name).cloned().unwrap_or_default();
        assert_eq!(field("architectures"), class, "{case}");
        for gone in ["auto_map", "use_bidirectional_attention"] {
            assert!(field(gone).is_null(), "{case} {gone}");
        }
        let card = sandbox.read("out/best/README.md");
        let none = "transformers by itself would answer otherwise:\n\n- it";
        assert_eq!(card.contains(none), class.is_null(), "{card}");
        assert_eq!(card.contains("AutoModel"), !class.is_null(), "{card}");
    }
}

/// Keys of `config.json` as transformers itself writes them for such a model.
#[test]
fn a_whole_tagger_has_the_configuration_that_transformers_gives_it() {
    let sandbox = token();
    let set = ["model.classifier_dropout=0", "train.epochs=1"];
    train(&sandbox, "out", &[&LEARNS[..2], &set].concat());
    let config = sandbox.json("out/best/config.json");
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let theirs = std::fs::read(fixtures.join("train30/full-token/config.json")).unwrap();
    let theirs: Value = serde_json::from_slice(&theirs).unwrap();
    for key in ["architectures", "classifier_dropout", "dtype", "is_causal"] {
        assert_eq!(config[key], theirs[key], "{key}");
    }
    for key in ["id2label", "label2id"] {
        let [ours, theirs] = [&config, &theirs].map(|config| config[key].as_object().unwrap());
        let kind = |map: &serde_json::Map<String, Value>| {
            map.values().all(Value::is_string) || map.values().all(Value::is_u64)
        };
        assert!(kind(ours) && kind(theirs), "{key}");
        assert_eq!(ours.len(), 3, "{key}");
    }
    assert_eq!(config["id2label"]["0"], "O");
    assert_eq!(config["label2id"]["O"], 0);
    let saved = best(&sandbox, "out");
    assert_eq!(saved.get("score.bias").unwrap().1, [3]);
}

#[test]
fn some_layers_train_and_the_rest_is_the_bases_however_it_was_held() {
    let sandbox = sequence();
    let of_layer = |name: &str| name.starts_with("model.layers.1.");
    for (run, set) in [
        ("plain", &["train.layers=1"][..]),
        ("bf16", &["train.layers=[1]", "model.dtype=bf16"]),
        ("nf4", &["train.layers=\"1-1\"", "model.quantization=nf4"]),
    ] {
        train(&sandbox, run, &[&LEARNS[..2], set].concat());
        let changed = changed(&sandbox, run);
        assert!(changed.iter().all(|name| of_layer(name)), "{changed:?}");
        assert_eq!(changed.len(), 9);
        let settings = sandbox.json(&format!("{run}/best/ls_llama.json"));
        assert_eq!(settings["trained"], "1");
        let report = sandbox.json(&format!("{run}/report.json"));
        let tensors = weights(520);
        let of_layer = tensors.iter().filter(|(name, _)| of_layer(name));
        let sizes = of_layer.map(|(_, tensor)| tensor.len());
        assert_eq!(
            report["trainable_parameters"],
            sizes.sum::<usize>() + 2 * 16
        );
        // What is saved answers as what was trained.
        let scored = sandbox.ok_json(&["evaluate", "--run", run, "--format", "json"]);
        assert_close(
            &[scored["loss"].as_f64().unwrap()],
            &[report["loss"].as_f64().unwrap()],
        );
    }
}

/// The way out that whoever sets `train.layers` beside adapters is told of.
#[test]
fn a_layer_trains_in_full_beside_adapters_as_a_module_that_is_saved() {
    let sandbox = sequence();
    let set = [
        "lora.target_modules=[\"q_proj\",\"v_proj\"]",
        "lora.modules_to_save=[\"layers.1\"]",
    ];
    train(&sandbox, "out", &set);
    let adapter = sandbox.path("out/best/adapter_model.safetensors");
    let adapter = TensorFile::open(adapter).unwrap();
    let of = |part: &str| adapter.names().filter(|name| name.contains(part)).count();
    assert_eq!((of("layers.0."), of("layers.1.")), (4, 9));
    sandbox.ok(&["predict", "--run", "out", "bad"]);
}

#[test]
fn what_cannot_train_is_refused_with_the_way_out() {
    let sandbox = sequence();
    let cases: [(&[&str], &[&str]); 14] = [
        (
            &["lora=false", "model.quantization=nf4"],
            &[
                "model.quantization: packed weights do not train",
                "train.layers",
            ],
        ),
        (
            &["lora=false", "train.layers=0-1", "model.quantization=int8"],
            &["model.quantization: train.layers names every layer"],
        ),
        (
            &["lora=false", "train.layers=1-2"],
            &["train.layers: layers \"1-2\": the model has 2 layers, 0 to 1"],
        ),
        (
            &["lora=false", "train.layers=[]"],
            &[
                "train.layers: layers \"\": expected a layer number",
                "16-31",
            ],
        ),
        (
            &["lora=false", "train.layers=top"],
            &["train.layers: layers \"top\": expected a layer number"],
        ),
        (
            &["lora=false", "train.layers=1.5"],
            &["train.layers: expected layers such as"],
        ),
        (
            &["train.layers=1"],
            &["train.layers: ", "set lora = false", "lora.modules_to_save"],
        ),
        (
            &["lora=false", "lora.r=4"],
            &["lora.r: there are no adapters (lora = false)"],
        ),
        (
            &["lora.r=4", "lora=false"],
            &["lora.r: there are no adapters (lora = false)"],
        ),
        (
            &["lora=true"],
            &["lora: expected false or a table of keys, found true"],
        ),
        (
            &["lora=false", "train.loraplus_lr_ratio=4"],
            &["train.loraplus_lr_ratio: there are no adapters"],
        ),
        (
            &["train.layerwise_lr_decay=0"],
            &["train.layerwise_lr_decay: expected over 0 and at most 1, found 0"],
        ),
        (
            &["lora=false", "train.layerwise_lr_decay=1.5"],
            &["train.layerwise_lr_decay: expected over 0 and at most 1, found 1.5"],
        ),
        (
            &["train.layerwise_lr_decay=nan"],
            &["train.layerwise_lr_decay: expected over 0 and at most 1, found NaN"],
        ),
    ];
    for (set, parts) in cases {
        let sets = set.iter().flat_map(|set| ["--set", set]);
        let command = ["train", "--config", "run.toml", "--run", "out"];
        let args: Vec<&str> = command.into_iter().chain(sets).collect();
        says(&sandbox.run(&args), 2, parts);
        assert!(!sandbox.path("out/config.toml").exists(), "{set:?}");
    }
    sandbox.write("both.toml", format!("lora = false\n{SEQUENCE}"));
    let outcome = sandbox.run(&["train", "--config", "both.toml", "--run", "out"]);
    says(
        &outcome,
        2,
        &["both.toml:6:2: malformed TOML: duplicate key"],
    );
}

/// The probabilities of each text, or of each word of the only one, from a folder alone.
const SCRIPT: &str = r#"
import json, sys, torch, transformers
folder, task, *texts = sys.argv[1:]
auto = getattr(transformers, "AutoModelFor" + task)
model, info = auto.from_pretrained(folder, output_loading_info=True)
assert not info["missing_keys"] and not info["unexpected_keys"], info
assert model.dtype == torch.float32
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
tokenizer.pad_token_id = model.config.pad_token_id
words = texts if task == "TokenClassification" else None
inputs = [words] if words else texts
batch = tokenizer(inputs, is_split_into_words=bool(words), padding=True, return_tensors="pt")
with torch.no_grad():
    found = model.eval()(batch["input_ids"], attention_mask=batch["attention_mask"]).logits.softmax(-1)
if words:
    of = batch.word_ids(0)
    found = found[0, [of.index(word) for word in range(len(words))]]
names = [model.config.id2label[id] for id in range(model.config.num_labels)]
print(json.dumps([dict(zip(names, row)) for row in found.tolist()]))
"#;

#[test]
fn transformers_loads_what_is_saved_and_gives_its_answers() {
    let Some(python) = python() else {
        eprintln!("skipped: no python3 with transformers; LS_LLAMA_PYTHON names one");
        return;
    };
    let ask = |sandbox: &Sandbox, task: &str, texts: &[&str]| -> Vec<Value> {
        let output = Command::new(&python)
            .env("HF_HUB_OFFLINE", "1")
            .args(["-c", SCRIPT])
            .arg(sandbox.path("out/best"))
            .arg(task)
            .args(texts)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let probability = |value: &Value| value.as_f64().unwrap();

    let compare = |sandbox: &Sandbox, case: &str| {
        let ours = jsonl(&sandbox.ok(&[&["predict", "--run", "out"], &TEXTS[..]].concat()));
        let theirs = ask(sandbox, "SequenceClassification", &TEXTS);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            for label in ["neg", "pos"] {
                let pair = [&ours["scores"][label], &theirs[label]].map(probability);
                assert!((pair[0] - pair[1]).abs() < SAME, "{case}: {ours} {theirs}");
            }
        }
    };
    let sandbox = sequence();
    train(&sandbox, "out", &LEARNS);
    compare(&sandbox, "llama");
    for (family, fields, attention, class) in families() {
        if !class.is_null() {
            let case = format!("{family} {attention} {fields}");
            compare(&trained(family, &fields, attention), &case);
        }
    }

    let sandbox = token();
    train(
        &sandbox,
        "out",
        &[&LEARNS[..2], &["data.words=split"]].concat(),
    );
    let words = ["Zoë", "sold", "boats", "in", "Lima"];
    let object = json!({ "tokens": words });
    sandbox.write("in.jsonl", object.to_string());
    let ours = jsonl(&sandbox.ok(&["predict", "--run", "out", "--input", "in.jsonl"]));
    let theirs = ask(&sandbox, "TokenClassification", &words);
    let likeliest = |of: &Value| {
        let of = of.as_object().unwrap().iter();
        let (label, _) = of
            .max_by(|(_, a), (_, b)| probability(a).total_cmp(&probability(b)))
            .unwrap();
        label.clone()
    };
    let tags: Vec<String> = theirs.iter().map(likeliest).collect();
    assert_eq!(ours[0]["tags"], json!(tags));
    let entities = ours[0]["entities"].as_array().unwrap();
    assert_eq!(entities.len(), 2, "{ours:?}");
    for (entity, word) in entities.iter().zip([0, 4]) {
        let expected = probability(&theirs[word][&tags[word]]);
        assert!(
            (probability(&entity["score"]) - expected).abs() < SAME,
            "{ours:?} {theirs:?}"
        );
    }
}
