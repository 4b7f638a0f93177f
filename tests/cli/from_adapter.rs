//! Training that begins from an adapter (`model.adapter`): its steps are peft's, labels keep their
//! rows of the head, and what does not go with the adapter is refused.

use std::path::{Path, PathBuf};

use ls_data::{BatchOptions, PaddingMode, PaddingSide, epoch_order};
use ls_files::sha256_of_file;
use ls_lora::HostTensor;
use serde_json::{Value, json};

use crate::resume::{Runs, assert_same, left, random};
use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, says};

pub const ADAPTER: &str = "model.adapter=first/best";
/// With it a step changes no bit of an f32 value.
pub const STANDS: &str = "train.learning_rate=1e-38";
pub const HEAD: &str = "base_model.model.score.weight";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What peft's steps left.
fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/continue").join(name)
}

fn json_of(path: PathBuf) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn floats(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

/// The first lines, or blocks, of a file of the demonstration.
fn beginning(file: &str, separator: &str, count: usize) -> String {
    let text = std::fs::read_to_string(root().join("datasets/demo").join(file)).unwrap();
    let parts = text.split(separator).take(count);
    parts.map(|part| format!("{part}{separator}")).collect()
}

/// The examples of the fixture's micro-batches are those that the trainer takes.
fn check_order() {
    let (examples, micro_batch_size, seed) = (57, 2, 7);
    let options = BatchOptions {
        batch_size: micro_batch_size,
        pad_id: 0,
        padding_side: PaddingSide::Right,
        padding_mode: PaddingMode::Masked,
        pad_to: None,
        group_by_length: false,
    };
    let epoch = |epoch| epoch_order(&vec![1; examples], &options, seed, epoch);
    let order = json!({
        "examples": examples,
        "micro_batch_size": micro_batch_size,
        "seed": seed,
        "epochs": [epoch(0), epoch(1)],
    });
    let path = fixture("order.json");
    if std::env::var_os("LS_LLAMA_UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, format!("{order}\n")).unwrap();
    }
    assert_eq!(json_of(path), order);
}

/// Twenty steps of the real binary against those that a loop in torch has taken with peft's model.
/// Returns the largest difference of a loss.
fn takes_the_steps_of_peft(task: &str, data: &str, set: &[&str]) -> f64 {
    check_order();
    let reference = json_of(fixture(task).join("losses.json"));
    let sandbox = Sandbox::empty();
    let (name, content) = match task {
        "sequence" => ("train.tsv", beginning("sentiment/train.tsv", "\n", 58)),
        _ => ("train.conll", beginning("ner/train.conll", "\n\n", 57)),
    };
    assert_eq!(name, data);
    sandbox.write(name, content);
    let setting = |key: &str| format!("{key} = {}\n", reference[key]);
    let keys = [
        "micro_batch_size",
        "gradient_accumulation_steps",
        "epochs",
        "learning_rate",
        "lr_scheduler",
        "warmup_steps",
        "weight_decay",
        "max_grad_norm",
    ];
    let train: String = keys.map(setting).concat();
    sandbox.write(
        "run.toml",
        format!(
            "task = {task:?}\n[model]\npath = {:?}\nadapter = {:?}\nclassifier_dropout = 0.0\n[data]\n\
             train = {data:?}\nvalidation = {data:?}\nlabels = {}\n[train]\nseed = 7\n\
             group_by_length = false\n{train}",
            root().join("datasets/demo/model"),
            fixture(task).join("adapter"),
            reference["labels"],
        ),
    );
    let outcome = crate::runs::train(&sandbox, "out", set);
    let said = [
        "names no labels: the rows of its head are taken for",
        "does not say how it was trained: it goes on with model.attention =",
    ];
    assert_contains(&outcome.stderr, &said);
    let steps = records(&sandbox, "out", "step");
    assert_eq!(steps.len(), 20);
    let mut worst = 0.0f64;
    for (key, of_reference, limit) in [
        ("learning_rate", "learning_rates", 1e-9),
        ("loss", "losses", 1e-4),
        ("grad_norm", "grad_norm", 1e-3),
    ] {
        for (step, expected) in steps.iter().zip(floats(&reference[of_reference])) {
            let found = step[key].as_f64().unwrap();
            let difference = (found - expected).abs();
            let at = &step["step"];
            assert!(
                difference <= limit,
                "{task} step {at}: {key} {found}, expected {expected}"
            );
            if key == "loss" {
                worst = worst.max(difference);
            }
        }
    }
    // What there are no keys for is the adapter's too.
    let of = |name: &Path| json_of(name.join("adapter_config.json"));
    let (first, last) = (
        of(&fixture(task).join("adapter")),
        of(&sandbox.path("out/best")),
    );
    for key in [
        "r",
        "lora_alpha",
        "rank_pattern",
        "alpha_pattern",
        "layers_to_transform",
        "modules_to_save",
        "target_modules",
        "use_dora",
        "use_rslora",
        "task_type",
    ] {
        assert_eq!(last[key], first[key], "{key}");
    }
    sandbox.ok(&["predict", "--run", "out", "Say what you like"]);
    worst
}

#[test]
fn texts_are_learned_on_from_pefts_adapter_as_peft_learns_them() {
    let set = ["model.attention=causal", "model.pooling=last"];
    let worst = takes_the_steps_of_peft("sequence", "train.tsv", &set);
    println!("error {worst:e} limit 1e-4 of texts: losses");
}

#[test]
fn words_are_learned_on_from_pefts_adapter_as_peft_learns_them() {
    let set = ["model.attention=bidirectional", "data.words=split"];
    let worst = takes_the_steps_of_peft("token", "train.conll", &set);
    println!("error {worst:e} limit 1e-4 of words: losses");
}

/// A folder with a run that is finished.
pub fn after_a_run(sandbox: Sandbox, set: &[&str]) -> Sandbox {
    train(&sandbox, "first", set);
    sandbox
}

/// The tensors of a run's adapter.
pub fn adapter(sandbox: &Sandbox, run: &str) -> std::collections::BTreeMap<String, HostTensor> {
    tensors(sandbox, &format!("{run}/best/adapter_model.safetensors"))
}

fn row(tensor: &HostTensor, row: usize) -> Vec<f32> {
    let width = tensor.shape[1];
    tensor.to_f32().unwrap()[row * width..][..width].to_vec()
}

#[test]
fn a_run_goes_on_from_the_adapter_of_another_as_it_was_left() {
    let set = [
        "model.attention=from:1",
        "model.pooling=max",
        "lora.use_rslora=true",
        "lora.modules_to_save=[\"norm\"]",
        "model.quantization=int8",
    ];
    let sandbox = after_a_run(sequence(), &set);
    // Neither base, nor adapter, nor mask is said again.
    let brief = "task = \"sequence\"\nmodel.adapter = \"first/best\"\ndata.train = \"train.csv\"\n\
                 data.validation = \"train.csv\"\ntrain.epochs = 1\n";
    sandbox.write("brief.toml", brief);
    let go_on = |run: &str, more: &[&str]| {
        let more = more.iter().flat_map(|set| ["--set", set]);
        let args = ["train", "--config", "brief.toml", "--run", run];
        sandbox.run(&args.into_iter().chain(more).collect::<Vec<_>>())
    };
    let outcome = go_on("second", &[STANDS, "lora.lora_dropout=0.4"]);
    let said = "note: labels of ";
    says(
        &outcome,
        0,
        &[said, "keep their rows of the head: `neg`, `pos`\n"],
    );
    assert!(!outcome.stderr.contains("WARN"), "{}", outcome.stderr);
    assert_eq!(adapter(&sandbox, "second"), adapter(&sandbox, "first"));
    let [first, second] = ["first", "second"].map(|run| {
        let mut settings = sandbox.json(&format!("{run}/best/ls_llama.json"));
        settings["step"] = Value::Null;
        settings
    });
    assert_eq!(first, second);
    let predict = |run: &str| {
        let text = sandbox.ok(&["predict", "--run", run, "the old boat was bright"]);
        serde_json::from_str::<Value>(&text).unwrap()
    };
    assert_same_answers(&[predict("second")], &[predict("first")]);

    // Where it began is told, by path and hash.
    let weights = sandbox.path("first/best/adapter_model.safetensors");
    let folder = sandbox.path("first/best").canonicalize().unwrap();
    let report = sandbox.json("second/report.json");
    let expected = json!({
        "path": folder,
        "sha256": sha256_of_file(&weights).unwrap(),
        "kept_labels": ["neg", "pos"],
        "new_labels": [],
        "dropped_labels": [],
    });
    assert_eq!(report["began_from"], expected);
    assert_eq!(sandbox.json("first/report.json")["began_from"], Value::Null);
    let config = sandbox.read("second/config.toml");
    let adapter_of_config = format!("adapter = {folder:?}\n");
    let said = [
        &*adapter_of_config,
        "attention = \"from:1\"",
        "pooling = \"max\"",
        "quantization = \"int8\"",
        "r = 4\n",
        "lora_dropout = 0.4",
        "use_rslora = true",
        "modules_to_save = [\"norm\"]",
    ];
    assert_contains(&config, &said);
    let run = sandbox.ok_json(&["inspect", "second", "--json"]);
    assert_eq!(run["began_from"], json!(folder));
    let environment = sandbox.read("second/environment.json");
    assert_contains(&environment, &[&sha256_of_file(&weights).unwrap()]);

    // It is shown beforehand as it is written then.
    let path = sandbox.path("second").display().to_string();
    let run = format!("run={path}");
    let shown = sandbox.ok(&[
        "config",
        "show",
        "--config",
        "brief.toml",
        "--set",
        &run,
        "--set",
        STANDS,
        "--set",
        "lora.lora_dropout=0.4",
    ]);
    assert_eq!(shown, config);
    sandbox.write("again.toml", &config);
    let again = ["config", "show", "--config", "again.toml"];
    assert_eq!(sandbox.ok(&again), config);

    // The run learns on, and a finished one answers without what it began from.
    let outcome = go_on("third", &["train.learning_rate=1e-2", "train.epochs=3"]);
    says(&outcome, 0, &["keep their rows"]);
    let [first, third] = ["first", "third"].map(|run| {
        let evaluations = records(&sandbox, run, "evaluation");
        evaluations.last().unwrap()["loss"].as_f64().unwrap()
    });
    assert!(third < first, "{third}, {first}");
    std::fs::remove_dir_all(sandbox.path("first")).unwrap();
    predict("third");
    sandbox.ok(&["evaluate", "--run", "third"]);
}

/// What a configuration says of the adapter that it has too may stay: also all layers for each.
#[test]
fn the_configuration_of_the_first_run_needs_no_change() {
    let sandbox = after_a_run(sequence(), &[]);
    let outcome = train(&sandbox, "second", &[ADAPTER, STANDS]);
    assert!(!outcome.stderr.contains("WARN"), "{}", outcome.stderr);
    assert_eq!(adapter(&sandbox, "second"), adapter(&sandbox, "first"));
    let config = sandbox.read("second/config.toml");
    assert_contains(&config, &["target_modules = \"all-linear\""]);
    // A start that was taken off the base is in the file: twice the rank, and plain.
    let pissa = ["lora.init_lora_weights=pissa"];
    train(&sandbox, "pissa", &pissa);
    refused(
        &sandbox,
        &train_args("out", &["model.adapter=pissa/best", pissa[0]]),
        2,
        &[
            "run.toml: 3 faults",
            "lora.r: expected 8, as the adapter in pissa/best has it (model.adapter), found 4: \
             leave it out",
            "lora.lora_alpha: expected 16.0",
            "lora.init_lora_weights: expected true",
        ],
    );
    let own = SEQUENCE.replace("r = 4\nlora_alpha = 8\n", "");
    sandbox.write("run.toml", own);
    train(&sandbox, "third", &["model.adapter=pissa/best", STANDS]);
    assert_eq!(adapter(&sandbox, "third"), adapter(&sandbox, "pissa"));
}

#[test]
fn labels_keep_their_rows_by_their_names_and_new_ones_are_drawn() {
    let sandbox = after_a_run(sequence(), &[]);
    // `neg` is gone, `fair` comes before `pos`.
    let others = csv(&reviews()).replace(",neg", ",fair") + "the boat is a boat,odd\n";
    sandbox.write("train.csv", others);
    let outcome = train(&sandbox, "second", &[ADAPTER, STANDS]);
    let said = "keep their rows of the head: `pos`; new, their rows are drawn: `fair`, `odd`; \
                dropped: `neg`";
    assert_contains(&outcome.stderr, &[said]);
    let began = &sandbox.json("second/report.json")["began_from"];
    assert_eq!(
        [
            &began["kept_labels"],
            &began["new_labels"],
            &began["dropped_labels"]
        ],
        [&json!(["pos"]), &json!(["fair", "odd"]), &json!(["neg"])]
    );
    train(&sandbox, "fresh", &[STANDS]);
    let [first, second, fresh] = ["first", "second", "fresh"].map(|run| adapter(&sandbox, run));
    for (name, tensor) in &first {
        if name != HEAD {
            assert_eq!(second[name], *tensor, "{name}");
        }
    }
    // The labels are neg and pos, then fair, odd and pos.
    let rows = |adapter: &std::collections::BTreeMap<_, _>, at| row(&adapter[HEAD], at);
    assert_eq!(rows(&second, 2), rows(&first, 1));
    assert_eq!(rows(&second, 0), rows(&fresh, 0));
    assert_eq!(rows(&second, 1), rows(&fresh, 1));
    assert_ne!(rows(&second, 2), rows(&fresh, 2));

    // A head without names is kept only as a whole.
    std::fs::remove_file(sandbox.path("first/best/ls_llama.json")).unwrap();
    let outcome = train(&sandbox, "third", &[ADAPTER, STANDS]);
    let said = "every row of the head is drawn: ";
    assert_contains(
        &outcome.stderr,
        &[said, "names no labels, and its head has 2, not 3"],
    );
    assert_eq!(adapter(&sandbox, "third")[HEAD], fresh[HEAD]);
}

#[test]
fn tags_keep_their_rows_and_their_biases() {
    let set = ["train.epochs=2", "model.classifier_dropout=0.0"];
    let sandbox = after_a_run(token(), &set);
    let others = sandbox.read("train.conll").replace("B-LOC", "B-ART");
    sandbox.write("train.conll", others);
    let set = [ADAPTER, STANDS, "train.epochs=1"];
    let outcome = train(&sandbox, "second", &set);
    let said = "keep their rows of the head: `O`, `B-PER`; new, their rows are drawn: `B-ART`; \
                dropped: `B-LOC`";
    assert_contains(&outcome.stderr, &[said]);
    let [first, second] = ["first", "second"].map(|run| adapter(&sandbox, run));
    // First O, B-LOC and B-PER; then O, B-ART and B-PER.
    for at in [0, 2] {
        assert_eq!(row(&second[HEAD], at), row(&first[HEAD], at));
    }
    assert_ne!(row(&second[HEAD], 1), row(&first[HEAD], 1));
    let bias = |adapter: &std::collections::BTreeMap<String, HostTensor>| {
        adapter["base_model.model.score.bias"].to_f32().unwrap()
    };
    let (was, is) = (bias(&first), bias(&second));
    assert!(was.iter().all(|value| *value != 0.0), "{was:?}");
    assert_eq!([is[0], is[2]], [was[0], was[2]]);
    assert!(is[1].abs() < 1e-30, "{is:?}");
}

/// The decoder's part serves another task; so does an adapter that was saved without its head.
#[test]
fn a_head_of_another_task_or_none_is_drawn() {
    let words = after_a_run(token(), &["train.epochs=1"]);
    let texts = sequence();
    copy(&words, "first/best", &texts);
    train(&texts, "fresh", &[STANDS]);
    let [drawn, of_words] =
        [(&texts, "fresh"), (&words, "first")].map(|(of, run)| adapter(of, run));
    let check = |run: &str, said: &str, warns: bool| {
        let outcome = train(&texts, run, &[ADAPTER, STANDS]);
        assert_contains(&outcome.stderr, &["every row of the head is drawn: ", said]);
        let warned = "model.attention is causal, and ";
        assert_eq!(outcome.stderr.contains(warned), warns, "{}", outcome.stderr);
        let found = adapter(&texts, run);
        assert_eq!(found[HEAD], drawn[HEAD]);
        assert!(found.keys().all(|name| !name.ends_with(".bias")));
        for (name, tensor) in found.iter().filter(|(name, _)| *name != HEAD) {
            assert_eq!(*tensor, of_words[name], "{name}");
        }
        let config = texts.json(&format!("{run}/best/adapter_config.json"));
        assert_eq!(config["task_type"], "SEQ_CLS");
        texts.ok(&["predict", "--run", run, "the boat was sad"]);
    };
    texts.write(
        "run.toml",
        SEQUENCE.replace("[lora]", "attention = \"causal\"\n[lora]"),
    );
    check("second", "has no head for such labels", true);
    std::fs::remove_file(texts.path("first/best/ls_llama.json")).unwrap();
    let file = "first/best/adapter_model.safetensors";
    let mut headless = tensors(&texts, file);
    headless.retain(|name, _| !name.contains("score"));
    texts.write_tensors(file, &headless);
    for (at, task) in ["SEQ_CLS", "TOKEN_CLS", "CAUSAL_LM"]
        .into_iter()
        .enumerate()
    {
        texts.edit_json(
            "first/best/adapter_config.json",
            json!({ "task_type": task }),
        );
        check(
            &format!("without-{at}"),
            "has no head for such labels",
            false,
        );
    }
}

/// The same adapter in both of peft's forms.
#[test]
fn a_pickled_adapter_is_begun_from_as_well() {
    let sandbox = Sandbox::empty();
    let forms = root().join("tests/fixtures/forms");
    for (folder, file) in [
        ("bare", "config.json"),
        ("bare", "model.safetensors"),
        ("adapter", "adapter_config.json"),
        ("adapter", "adapter_model.safetensors"),
        ("adapter-pickled", "adapter_config.json"),
        ("adapter-pickled", "adapter_model.bin"),
    ] {
        let bytes = std::fs::read(forms.join(folder).join(file)).unwrap();
        sandbox.write(&format!("{folder}/{file}"), bytes);
    }
    let special = |id: usize, token: &str| {
        json!({
            "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(4, "<pad>")], "normalizer": null,
        "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null,
        "decoder": null,
        "model": {
            "type": "WordLevel", "unk_token": "<unk>",
            "vocab": { "<unk>": 0, "a": 1, "b": 2, "c": 3, "<pad>": 4 },
        },
    });
    sandbox.write("bare/tokenizer.json", tokenizer.to_string());
    sandbox.write("train.csv", "text,label\na b,x\nb c,y\nc c a,z\n");
    sandbox.write(
        "run.toml",
        "task = \"sequence\"\nmodel.path = \"bare\"\ndata.train = \"train.csv\"\n\
         data.validation = \"train.csv\"\ntrain.epochs = 1\n",
    );
    for run in ["adapter", "adapter-pickled"] {
        let from = format!("model.adapter={run}");
        let out = format!("out-{run}");
        let outcome = train(&sandbox, &out, &[&from, STANDS]);
        let said = "the rows of its head are taken for `x`, `y`, `z` in this order";
        assert_contains(&outcome.stderr, &[said]);
        let before = tensors(&sandbox, "adapter/adapter_model.safetensors");
        assert_eq!(adapter(&sandbox, &out), before, "{run}");
    }
}

#[test]
fn an_adapter_brings_the_table_of_its_own_vocabulary() {
    let all = "lora.modules_to_save=[\"embed_tokens\"]";
    let sandbox = after_a_run(sequence(), &[all]);
    let file = "first/best/adapter_model.safetensors";
    let mut all = tensors(&sandbox, file);
    let table = all
        .get_mut("base_model.model.model.embed_tokens.weight")
        .unwrap();
    let (rows, width) = (table.shape[0], table.shape[1]);
    table.bytes.extend(vec![0; 3 * width * 4]);
    table.shape[0] = rows + 3;
    sandbox.write_tensors(file, &all);
    let brief = SEQUENCE.replace("target_modules = \"all-linear\"\n", "");
    sandbox.write("run.toml", brief);
    train(&sandbox, "second", &[ADAPTER, STANDS]);
    assert_eq!(adapter(&sandbox, "second"), all);
    sandbox.ok(&["predict", "--run", "second", "the boat was sad"]);
    refused(
        &sandbox,
        &train_args("out", &[ADAPTER, "train.baselines=true"]),
        2,
        &[
            "train.baselines: the adapter in ",
            "has a vocabulary of its own",
        ],
    );
}

#[test]
fn a_whole_classifier_keeps_the_rows_of_its_labels_too() {
    let set = ["lora=false", "train.learning_rate=1e-3"];
    let sandbox = after_a_run(sequence(), &set);
    let path = "model.path=first/best";
    let said = "keep their rows of the head: `neg`, `pos`\n";
    let outcome = train(&sandbox, "second", &["lora=false", path, STANDS]);
    assert_contains(&outcome.stderr, &["note: labels of ", "first/best: ", said]);
    let weights = |run: &str| tensors(&sandbox, &format!("{run}/best/model.safetensors"));
    assert_eq!(weights("second"), weights("first"));
    let began = sandbox.json("second/report.json")["began_from"].clone();
    assert_eq!(began["kept_labels"], json!(["neg", "pos"]));
    // By the names in config.json as well, and below adapters.
    std::fs::remove_file(sandbox.path("first/best/ls_llama.json")).unwrap();
    let outcome = train(&sandbox, "third", &[path, STANDS]);
    assert_contains(&outcome.stderr, &[said]);
    let head = |run: &str| weights(run)["score.weight"].clone();
    assert_eq!(adapter(&sandbox, "third")[HEAD], head("first"));
    // Without names it is kept as it is, with others by none.
    let config = "first/best/config.json";
    let names = |names: [&str; 2]| {
        json!({
            "id2label": { "0": names[0], "1": names[1] },
            "label2id": { names[0]: 0, names[1]: 1 },
        })
    };
    sandbox.edit_json(config, names(["LABEL_0", "LABEL_1"]));
    let outcome = train(&sandbox, "fourth", &[path, STANDS]);
    assert_contains(&outcome.stderr, &["names no labels: the rows of its head"]);
    assert_eq!(adapter(&sandbox, "fourth")[HEAD], head("first"));
    sandbox.edit_json(config, names(["bad", "pos"]));
    let outcome = train(&sandbox, "fifth", &[path, STANDS]);
    let said =
        "keep their rows of the head: `pos`; new, their rows are drawn: `neg`; dropped: `bad`";
    assert_contains(&outcome.stderr, &[said]);
    let fifth = adapter(&sandbox, "fifth");
    assert_eq!(row(&fifth[HEAD], 1), row(&head("first"), 1));
    assert_ne!(row(&fifth[HEAD], 0), row(&head("first"), 0));
    // It goes on as it began.
    sandbox.edit_json(config, names(["bad", "worse"]));
    let args = ["train", "--resume", "fifth", "--set", "train.epochs=3"];
    says(
        &sandbox.run(&args),
        2,
        &["the model's config.json: not the bytes"],
    );
}

/// Copies the files of a folder into the same one of another sandbox.
fn copy(from: &Sandbox, folder: &str, to: &Sandbox) {
    for name in from.listing(folder) {
        let name = format!("{folder}/{name}");
        to.write(&name, std::fs::read(from.path(&name)).unwrap());
    }
}

#[test]
fn what_is_no_adapter_for_the_run_is_refused_and_nothing_is_written() {
    let sandbox = after_a_run(sequence(), &[]);
    let refuse = |set: &[&str], says: &[&str]| {
        refused(&sandbox, &train_args("out", set), 2, says);
    };
    refuse(
        &["model.adapter=gone"],
        &["run.toml: model.adapter: gone: no such folder\n"],
    );
    refuse(&["model.adapter="], &["model.adapter: expected the folder"]);
    refuse(
        &["model.adapter=model"],
        &["model.adapter: model/adapter_config.json: no such file"],
    );
    refuse(
        &["model.adapter=first"],
        &[
            "first: not a usable adapter folder",
            "there is one in first/best",
        ],
    );
    refuse(
        &[ADAPTER, "lora=false"],
        &["model.adapter: there are no adapters (lora = false)"],
    );
    refuse(
        &[
            ADAPTER,
            "lora.r=8",
            "lora.bias=all",
            "train.epochs=0",
            "lora.lora_alpha=x",
        ],
        &[
            "run.toml: 4 faults",
            "lora.r: expected 4, as the adapter in first/best has it (model.adapter), found 8: \
             leave it out",
            "lora.bias: expected \"none\"",
            "train.epochs: expected 1",
            "lora.lora_alpha: invalid type",
        ],
    );
    refuse(
        &[ADAPTER, "lora.target_modules=[\"q_proj\", \"v_proj\"]"],
        &[
            "lora.target_modules: expected the layers that the adapter in",
            "beside them none, without model.layers.0.mlp.down_proj",
        ],
    );
    let config = "first/best/adapter_config.json";
    let before = sandbox.read(config);
    for (fields, says) in [
        (
            json!({ "lora_bias": true }),
            "model.adapter: cannot use first/best/adapter_config.json: `lora_bias` = true is not \
             supported, and ignoring it would change the result",
        ),
        (
            json!({ "peft_type": "IA3" }),
            "`peft_type` = \"IA3\" is not",
        ),
        (json!({ "r": 0 }), "`r` = 0 is invalid"),
    ] {
        sandbox.edit_json(config, fields);
        refuse(&[ADAPTER], &[says]);
        sandbox.write(config, &before);
    }
    sandbox.write(config, "{");
    refuse(
        &[ADAPTER],
        &["model.adapter: first/best/adapter_config.json:1"],
    );
    sandbox.write(config, &before);

    // Of another base: before its weights are read.
    sandbox.model_with("wide", &json!({ "hidden_size": 32, "head_dim": 8 }));
    sandbox.model_with("shallow", &json!({ "num_hidden_layers": 1 }));
    for (model, says) in [
        (
            "wide",
            "layers.0.self_attn.q_proj.lora_A.weight has shape [4, 16], expected [4, 32]",
        ),
        ("shallow", "layers.1.mlp.down_proj.lora_A.weight"),
    ] {
        let weights = format!("{model}/model.safetensors");
        poison(&sandbox, &weights, "model.norm.weight");
        let set = [ADAPTER, &format!("model.path={model}")];
        let args = train_args("out", &set);
        let outcome = refused_by_file(&sandbox, &args);
        let hint = "hint: an adapter fits the model that it was trained on: name that one";
        assert_contains(&outcome, &["adapter_model.safetensors", says, hint]);
    }
    // Damage of its weights.
    let weights = "first/best/adapter_model.safetensors";
    let whole = std::fs::read(sandbox.path(weights)).unwrap();
    cut_short(&sandbox, weights, whole.len() - 5);
    refused_by_file(&sandbox, &train_args("out", &[ADAPTER]));
    sandbox.write(weights, &whole);
    poison(&sandbox, weights, HEAD);
    let outcome = refused_by_file(&sandbox, &train_args("out", &[ADAPTER]));
    assert_contains(&outcome, &[HEAD, "NaN"]);
    std::fs::remove_file(sandbox.path(weights)).unwrap();
    refused_by_file(&sandbox, &train_args("out", &[ADAPTER]));
}

/// A file is at fault, and nothing was written.
#[track_caller]
fn refused_by_file(sandbox: &Sandbox, args: &[&str]) -> String {
    let outcome = sandbox.run(args);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    let out = sandbox.path("out");
    let written = std::fs::read_dir(&out).map_or(0, |entries| entries.count());
    assert_eq!(written, 0, "{}", outcome.stderr);
    outcome.stderr
}

#[test]
fn the_base_is_the_one_that_the_adapter_names_unless_it_is_said() {
    let sandbox = after_a_run(sequence(), &[]);
    let without = SEQUENCE.replace("path = \"model\"", "adapter = \"first/best\"");
    sandbox.write("run.toml", without);
    train(&sandbox, "second", &["train.epochs=1"]);
    let base = sandbox.path("model").canonicalize().unwrap();
    let written = format!("path = {base:?}");
    assert_contains(&sandbox.read("second/config.toml"), &[&written]);
    // It is known again by its bytes, wherever it is.
    std::fs::rename(sandbox.path("model"), sandbox.path("moved")).unwrap();
    refused(
        &sandbox,
        &train_args("out", &[]),
        2,
        &[
            "run.toml: model.path: first/best names the base model ",
            "/model, which is not here: say where it is",
        ],
    );
    let outcome = train(&sandbox, "third", &["model.path=moved", "train.epochs=1"]);
    assert!(!outcome.stderr.contains("WARN"), "{}", outcome.stderr);
    sandbox.model_with("other", &json!({ "rope_theta": 500.0 }));
    let mut all = tensors(&sandbox, "other/model.safetensors");
    all.get_mut("model.norm.weight").unwrap().bytes[..4].copy_from_slice(&2f32.to_le_bytes());
    sandbox.write_tensors("other/model.safetensors", &all);
    let outcome = train(&sandbox, "fourth", &["model.path=other", "train.epochs=1"]);
    assert_contains(
        &outcome.stderr,
        &[
            "other: what the adapter has learnt may not fit: these are not the weights (then in ",
            "other/config.json: what the adapter has learnt may not fit: this is not the \
             configuration, which ",
        ],
    );
    // peft may name none, or one on the Hub.
    std::fs::remove_file(sandbox.path("first/best/ls_llama.json")).unwrap();
    let config = "first/best/adapter_config.json";
    sandbox.edit_json(config, json!({ "base_model_name_or_path": null }));
    refused(
        &sandbox,
        &train_args("out", &[]),
        2,
        &[
            "missing field `model.path`: the folder of the base model, which first/best does not \
             name",
        ],
    );
    sandbox.edit_json(config, json!({ "base_model_name_or_path": "org/name" }));
    let outcome = sandbox.run(&train_args("out", &[]));
    assert_ne!(outcome.code, 0);
    let said = "model.path, the base model of the adapter first/best";
    assert_contains(&outcome.stderr, &[said, "org/name is no folder here"]);
}

#[test]
fn it_goes_on_after_a_stop_and_only_from_the_same_adapter() {
    let sandbox = after_a_run(sequence(), &["lora.use_dora=true"]);
    // Another set of labels, so that the head is mixed.
    sandbox.write("train.csv", csv(&reviews()).replace(",neg", ",odd"));
    let path = sandbox.path("first/best");
    let adapter = format!("model.adapter={}", path.display());
    let set = [&*adapter, "lora.use_dora=true", "lora.lora_dropout=0.2"];
    let runs = Runs::new(&sandbox, &set);
    runs.train("whole", usize::MAX).unwrap();
    let pieces = runs.in_pieces("parts", random(3));
    assert!(pieces > 1);
    assert_same(&left(&sandbox, "parts"), &left(&sandbox, "whole"), "parts");

    // It may move, but not change.
    std::fs::rename(&path, sandbox.path("moved")).unwrap();
    let longer = ["train", "--resume", "whole", "--set", "train.epochs=3"];
    let outcome = sandbox.run(&longer);
    says(
        &outcome,
        2,
        &["model.adapter: ", "first/best: no such folder"],
    );
    let moved = [&longer[..], &["--set", "model.adapter=moved"]].concat();
    let file = "moved/adapter_model.safetensors";
    let mut all = tensors(&sandbox, file);
    let before = all.clone();
    all.get_mut(HEAD).unwrap().bytes[0] ^= 1;
    sandbox.write_tensors(file, &all);
    let said = "model.adapter: ";
    says(
        &sandbox.run(&moved),
        2,
        &[
            said,
            "moved/adapter_model.safetensors: not the bytes that the run began with",
        ],
    );
    sandbox.write_tensors(file, &before);
    says(&sandbox.run(&moved), 0, &[]);
}

#[test]
fn a_sweep_begins_from_adapters_as_train_does() {
    let sandbox = after_a_run(sequence(), &[]);
    train(&sandbox, "other", &["train.seed=3"]);
    let set = "model.adapter=first/best,other/best";
    let args = [
        "sweep", "--config", "run.toml", "--run", "all", "--set", set,
    ];
    let more = [
        "--set",
        "lora.lora_dropout=0,0.3",
        "--set",
        "train.epochs=1",
    ];
    let outcome = sandbox.run(&[&args[..], &more].concat());
    says(&outcome, 0, &["sweep of 4 runs"]);
    let entries = std::fs::read_dir(sandbox.path("all")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('0'))
        .collect();
    names.sort();
    assert_eq!(names.len(), 4, "{names:?}");
    let last = format!("all/{}", names[3]);
    let set = [
        "model.adapter=other/best",
        "lora.lora_dropout=0.3",
        "train.epochs=1",
    ];
    train(&sandbox, "alone", &set);
    assert_same(&left(&sandbox, &last), &left(&sandbox, "alone"), &last);
    assert_contains(&sandbox.read("all/best.toml"), &["adapter = \""]);
    let args = [
        "sweep", "--config", "run.toml", "--run", "none", "--set", ADAPTER,
    ];
    let outcome = sandbox.run(&[&args[..], &["--set", "lora.r=4,8"]].concat());
    says(
        &outcome,
        2,
        &["run.toml with lora.r=8: lora.r: expected 4, as the adapter in first/best has it"],
    );
}
