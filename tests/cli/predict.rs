//! `ls-cli predict`: its inputs, its answers, and what it refuses.

use ls_lora::HostTensor;
use serde_json::{Value, json};

use crate::runs::*;
use crate::sandbox::{Sandbox, jsonl};

#[test]
fn predict_reads_arguments_files_and_stdin_and_keeps_fields_and_order() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    let texts = ["the sea was sad", "a bright, \"warm\" film", "bad"];
    let answers = jsonl(&sandbox.ok(&[&["predict", "--run", "out"], &texts[..]].concat()));
    assert_eq!(answers.len(), 3);
    for (answer, text) in answers.iter().zip(texts) {
        let keys: Vec<&String> = answer.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["text", "label", "score", "scores"]);
        assert_eq!(answer["text"], text);
        let (neg, pos) = (
            answer["scores"]["neg"].as_f64().unwrap(),
            answer["scores"]["pos"].as_f64().unwrap(),
        );
        assert!((neg + pos - 1.0).abs() < SAME);
        assert_eq!(answer["label"], if pos > neg { "pos" } else { "neg" });
        assert_close(&[answer["score"].as_f64().unwrap()], &[neg.max(pos)]);
    }

    let objects = texts.iter().enumerate().map(
        |(id, text)| json!({"id": id, "text": text, "nested": {"a": [1, null]}, "label": "pos"}),
    );
    let lines = json_lines(objects);
    sandbox.write("in.jsonl", &lines);
    let from_file = jsonl(&sandbox.ok(&["predict", "--run", "out", "--input", "in.jsonl"]));
    for (id, (mut answer, expected)) in from_file.iter().cloned().zip(&answers).enumerate() {
        let object = answer.as_object_mut().unwrap();
        assert_eq!(object.shift_remove("id"), Some(json!(id)));
        assert_eq!(object.shift_remove("nested"), Some(json!({"a": [1, null]})));
        // The label it came with is not the answer's.
        assert_eq!(object.shift_remove("gold"), Some(json!("pos")));
        assert_eq!(answer, *expected);
    }

    let predict = ["predict", "--run", "out"];
    let stdin = |args: &[&str], input: &str| {
        let outcome = sandbox.run_with(&[&predict[..], args].concat(), input);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        jsonl(&outcome.stdout)
    };
    assert_eq!(stdin(&["--input", "-"], &lines), from_file);
    assert_eq!(stdin(&[], &lines), from_file);
    assert_eq!(stdin(&[], &texts.join("\n")), answers);
    sandbox.write("in.txt", texts.join("\r\n"));
    assert_eq!(
        jsonl(&sandbox.ok(&["predict", "--run", "out", "--input", "in.txt"])),
        answers
    );
    sandbox.write(
        "in.csv",
        "id,text\n1,the sea was sad\n2,\"a bright, \"\"warm\"\" film\"\n3,bad\n",
    );
    assert_eq!(
        jsonl(&sandbox.ok(&["predict", "--run", "out", "--input", "in.csv"])),
        answers
    );

    let printed = sandbox.ok(&[
        "predict",
        "--run",
        "out",
        "--input",
        "in.jsonl",
        "--output",
        "out.jsonl",
    ]);
    assert_eq!(printed, "");
    assert_eq!(sandbox.jsonl("out.jsonl"), from_file);
    let readers = |name: &str| std::fs::metadata(sandbox.path(name)).unwrap().permissions();
    assert_eq!(readers("out.jsonl"), readers("in.jsonl"));

    #[cfg(unix)]
    {
        // Behind a link, to what is not there yet and then to what is.
        std::fs::create_dir(sandbox.path("far")).unwrap();
        std::os::unix::fs::symlink("far/away.jsonl", sandbox.path("link.jsonl")).unwrap();
        let args = [
            "predict",
            "--run",
            "out",
            "--input",
            "in.jsonl",
            "--output",
            "link.jsonl",
        ];
        for _ in 0..2 {
            sandbox.ok(&args);
            assert!(sandbox.path("link.jsonl").is_symlink());
            assert_eq!(sandbox.jsonl("far/away.jsonl"), from_file);
        }
    }

    let text = sandbox.ok(&[&["predict", "--run", "out", "--format", "text"], &texts[..]].concat());
    for (line, answer) in text.lines().zip(&answers) {
        let score = answer["score"].as_f64().unwrap();
        assert_eq!(
            line,
            format!(
                "{}\t{score:.4}\t{}",
                answer["label"].as_str().unwrap(),
                answer["text"].as_str().unwrap()
            )
        );
    }
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn the_run_predictions_are_those_of_predict() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    let mut expected = sandbox.jsonl("out/predictions.jsonl");
    for (prediction, (_, label)) in expected.iter_mut().zip(reviews()) {
        assert_eq!(
            prediction.as_object_mut().unwrap().shift_remove("gold"),
            Some(json!(label))
        );
    }
    assert_same_answers(
        &jsonl(&sandbox.ok(&["predict", "--run", "out", "--input", "train.csv"])),
        &expected,
    );
}

#[test]
fn entities_stand_where_their_offsets_say() {
    let sandbox = token();
    train(&sandbox, "out", &[]);
    let text = "«Zoë» sold  boats in Élan. Ann sold\tboats in Oslo…";
    let predict = ["predict", "--run", "out"];
    let answer = jsonl(&sandbox.ok(&[&predict[..], &[text]].concat())).remove(0);
    assert_eq!(answer["text"], text);
    let entities = answer["entities"].as_array().unwrap();
    let found: Vec<(&str, &str)> = entities
        .iter()
        .map(|entity| {
            (
                entity["type"].as_str().unwrap(),
                entity["text"].as_str().unwrap(),
            )
        })
        .collect();
    assert!(
        found.contains(&("LOC", "Élan")) && found.contains(&("PER", "Ann")),
        "{found:?}"
    );
    check_offsets(&answer, text);

    // A list of words is joined by spaces; with a text beside it that splits into the same words,
    // the text counts.
    let words = ["Zoë", "sold", "boats", "in", "Élan", "."];
    let lines = json_lines([
        json!({"id": "a", "tokens": words, "tags": ["O", "O", "O", "O", "O", "O"]}),
        json!({"tokens": words, "text": "Zoë sold boats in  Élan."}),
        json!({"tokens": words, "text": "six other words are in here"}),
    ]);
    sandbox.write("in.jsonl", lines);
    let answers = jsonl(&sandbox.ok(&["predict", "--run", "out", "--input", "in.jsonl"]));
    assert_eq!(
        (&answers[0]["id"], &answers[0]["gold"][0]),
        (&json!("a"), &json!("O"))
    );
    let joined = words.join(" ");
    for (answer, text) in answers
        .iter()
        .zip([&*joined, "Zoë sold boats in  Élan.", &*joined])
    {
        assert_eq!(
            answer["tags"],
            json!(["B-PER", "O", "O", "O", "B-LOC", "O"])
        );
        check_offsets(answer, text);
    }

    let conll = sandbox.ok(&[
        "predict",
        "--run",
        "out",
        "--input",
        "train.conll",
        "--format",
        "conll",
    ]);
    assert_eq!(conll.replace('\t', " "), sandbox.read("train.conll"));
    let lines = sandbox.ok(&["predict", "--run", "out", "--format", "text", &joined]);
    let entity = &answers[0]["entities"][0];
    assert!(
        lines.starts_with(&format!(
            "PER\tZoë\t0-3\t{:.4}\nLOC\tÉlan\t18-22\t",
            entity["score"].as_f64().unwrap()
        )),
        "{lines}"
    );
}

#[track_caller]
fn check_offsets(answer: &Value, text: &str) {
    let characters: Vec<char> = text.chars().collect();
    let tokens: Vec<&str> = answer["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token.as_str().unwrap())
        .collect();
    for entity in answer["entities"].as_array().unwrap() {
        let at = |key: &str| usize::try_from(entity[key].as_u64().unwrap()).unwrap();
        let slice: String = characters[at("start")..at("end")].iter().collect();
        assert_eq!(entity["text"], slice);
        assert!(
            slice.starts_with(tokens[at("first_token")])
                && slice.ends_with(tokens[at("last_token")]),
            "{entity}"
        );
    }
}

#[test]
fn a_model_with_its_adapter_answers_as_the_run_does() {
    for (sandbox, task, text) in [
        (sequence(), "sequence", "the film was sad"),
        (token(), "token", "Zoë sold boats in Bern ."),
    ] {
        train(&sandbox, "out", &[]);
        let pretrained = [
            "predict",
            "--model",
            "model",
            "--adapter",
            "out/best",
            "--task",
            task,
        ];
        let of_run = sandbox.ok(&["predict", "--run", "out", text, "the sea"]);
        assert_eq!(
            sandbox.ok(&[&pretrained[..], &[text, "the sea"]].concat()),
            of_run
        );
        // Other names for the same labels.
        if task == "sequence" {
            let named =
                jsonl(&sandbox.ok(&[&pretrained[..], &["--labels", "minus,plus", text]].concat()))
                    .remove(0);
            assert_eq!(named["scores"]["minus"], jsonl(&of_run)[0]["scores"]["neg"]);
        }
    }
}

#[test]
fn an_answer_does_not_depend_on_its_batch() {
    let texts = [
        "bad",
        "the old sea was bright and warm and good",
        "Ann sold boats in Bern .",
        "a film of the day",
        "Zoë",
    ];
    let cases = [
        (sequence(), &[][..]),
        (
            sequence(),
            &[
                "model.attention=bidirectional",
                "model.pooling=max",
                "data.padding_side=left",
            ],
        ),
        (token(), &["train.epochs=3"]),
        // Every row is padded to the same length, alone or not.
        (
            sequence(),
            &[
                "model.attention=bidirectional",
                "data.padding=attended",
                "data.max_length=24",
                "data.pad_to=24",
            ],
        ),
    ];
    for (sandbox, set) in cases {
        train(&sandbox, "out", set);
        let together = jsonl(&sandbox.ok(&[&["predict", "--run", "out"], &texts[..]].concat()));
        let alone: Vec<Value> = texts
            .iter()
            .flat_map(|text| jsonl(&sandbox.ok(&["predict", "--run", "out", text])))
            .collect();
        assert_same_answers(&alone, &together);
    }
}

#[test]
fn attention_and_attended_padding_change_the_answers() {
    let sandbox = sequence();
    let set = [
        "model.attention=bidirectional",
        "data.max_length=24",
        "data.pad_to=24",
    ];
    train(&sandbox, "masked", &set);
    train(
        &sandbox,
        "attended",
        &[&set[..], &["data.padding=attended"]].concat(),
    );
    let differ = |a: &[f64], b: &[f64]| a.iter().zip(b).any(|(a, b)| (a - b).abs() > 10.0 * SAME);
    assert!(differ(
        &losses(&sandbox, "masked"),
        &losses(&sandbox, "attended")
    ));

    let text = "the film was bad";
    let model = [
        "predict",
        "--model",
        "model",
        "--adapter",
        "masked/best",
        "--task",
        "sequence",
        "--pooling",
        "mean",
    ];
    let scores = |attention: &str| {
        numbers(
            &jsonl(&sandbox.ok(&[&model[..], &["--attention", attention, text]].concat()))[0]["scores"],
        )
    };
    let of_run = numbers(&jsonl(&sandbox.ok(&["predict", "--run", "masked", text]))[0]["scores"]);
    assert_close(&scores("bidirectional"), &of_run);
    assert!(differ(&scores("causal"), &of_run));
    assert!(differ(&scores("from:1"), &of_run) && differ(&scores("from:1"), &scores("causal")));
    assert_close(&scores("groups:11"), &of_run);
}

#[test]
fn a_device_that_is_not_built_in_is_refused_with_those_that_are() {
    let sandbox = sequence();
    let (has_cuda, has_wgpu) = (cfg!(feature = "cuda"), cfg!(feature = "wgpu"));
    for device in ["cuda", "cuda:1", "wgpu", "tpu"] {
        if device.starts_with("cuda") && has_cuda || device == "wgpu" && has_wgpu {
            continue;
        }
        let outcome = refused(
            &sandbox,
            &["predict", "--run", "out", "--device", device, "hi"],
            2,
            &[device, "built in: cpu"],
        );
        assert_eq!(
            outcome.stderr.contains("hint: build with --features"),
            device != "tpu",
            "{}",
            outcome.stderr
        );
    }
    refused(
        &sandbox,
        &["predict", "--run", "out", "--device", "cuda:x", "hi"],
        2,
        &["\"cuda:x\"", "number"],
    );
    sandbox.ok(&[&train_args("out", &[])[..], &["--device", "cpu"]].concat());
}

#[test]
fn a_broken_adapter_is_refused_by_file_and_tensor() {
    type Break = fn(&Sandbox);
    const WEIGHTS: &str = "adapter/adapter_model.safetensors";
    const B: &str = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight";
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    let cases: [(Break, &[&str]); 14] = [
        (
            |s| cut_short(s, WEIGHTS, 3000),
            &["adapter_model.safetensors: truncated: 3000 bytes"],
        ),
        (
            |s| s.write(WEIGHTS, [7; 4000]),
            &["adapter_model.safetensors: not a usable safetensors file"],
        ),
        (
            |s| poison(s, WEIGHTS, B),
            &["adapter_model.safetensors: tensor ", B, "NaN"],
        ),
        (
            |s| {
                let mut all = tensors(s, WEIGHTS);
                all.remove(B);
                s.write_tensors(WEIGHTS, &all);
            },
            &["adapter_model.safetensors: tensor ", B, "is missing"],
        ),
        (
            |s| {
                let mut all = tensors(s, WEIGHTS);
                all.insert(B.into(), HostTensor::from_f32([5, 4], &[0.0; 20]));
                s.write_tensors(WEIGHTS, &all);
            },
            &["up_proj.lora_B.weight has shape [5, 4], expected [24, 4]"],
        ),
        (
            |s| s.write("adapter/adapter_config.json", "{"),
            &["adapter_config.json:1:1: malformed JSON"],
        ),
        (
            |s| s.edit_json("adapter/adapter_config.json", json!({"r": 3})),
            &["lora_A.weight has shape [4, ", "expected [3, "],
        ),
        (
            |s| s.edit_json("adapter/adapter_config.json", json!({"peft_type": "IA3"})),
            &["adapter_config.json", "`peft_type` = \"IA3\""],
        ),
        (
            |s| {
                s.edit_json(
                    "adapter/adapter_config.json",
                    json!({"task_type": "TOKEN_CLS"}),
                )
            },
            &["task TOKEN_CLS", "SEQ_CLS"],
        ),
        (
            |s| s.write("adapter/ls_llama.json", "{"),
            &["ls_llama.json:1:1: malformed JSON: EOF"],
        ),
        (
            |s| s.edit_json("adapter/ls_llama.json", json!({"labels": ["a", "b", "c"]})),
            &["adapter: names 3 labels, but its head has 2: name those of the head with --labels"],
        ),
        (
            |s| s.edit_json("adapter/ls_llama.json", json!({"task": "token"})),
            &["adapter: it labels a token, not a sequence"],
        ),
        (
            |s| std::fs::remove_file(s.path(WEIGHTS)).unwrap(),
            &["adapter_model.safetensors: no such file"],
        ),
        (
            |s| std::fs::remove_dir_all(s.path("adapter")).unwrap(),
            &["adapter: no such folder"],
        ),
    ];
    for (damage, says) in cases {
        for file in sandbox.listing("out/best") {
            sandbox.write(
                &format!("adapter/{file}"),
                std::fs::read(sandbox.path(&format!("out/best/{file}"))).unwrap(),
            );
        }
        damage(&sandbox);
        let predict = [
            "predict",
            "--model",
            "model",
            "--adapter",
            "adapter",
            "--task",
            "sequence",
            "hi",
        ];
        refused(&sandbox, &predict, 1, says);
    }
    // The adapter is whole, its base is not.
    poison(&sandbox, "model/model.safetensors", "model.norm.weight");
    refused(
        &sandbox,
        &["predict", "--run", "out", "hi"],
        1,
        &[
            "model.safetensors: tensor model.norm.weight: 1 of ",
            "NaN at [0]",
        ],
    );
}

/// What peft saves after a padding token was added to the tokenizer and the embeddings were
/// resized: the whole table, with a row more than the base's.
#[test]
fn an_adapter_brings_the_table_of_a_vocabulary_that_was_enlarged() {
    const WEIGHTS: &str = "adapter/adapter_model.safetensors";
    const TABLE: &str = "model.embed_tokens.weight";
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    for file in sandbox.listing("out/best") {
        sandbox.write(
            &format!("adapter/{file}"),
            std::fs::read(sandbox.path(&format!("out/best/{file}"))).unwrap(),
        );
    }
    let scores = || {
        let predict = [
            "predict",
            "--model",
            "model",
            "--adapter",
            "adapter",
            "--task",
            "sequence",
            "a good film",
        ];
        numbers(&jsonl(&sandbox.ok(&predict))[0]["scores"])
    };
    let expected = scores();
    let old = &tensors(&sandbox, "model/model.safetensors")[TABLE];
    let [rows, width] = old.shape[..] else {
        panic!("{:?}", old.shape)
    };
    let with_table = |is_reversed: bool| {
        let mut values = old.to_f32().unwrap();
        if is_reversed {
            values.reverse();
        }
        values.extend(vec![9.0; width]);
        let mut all = tensors(&sandbox, WEIGHTS);
        all.insert(
            format!("base_model.model.{TABLE}"),
            HostTensor::from_f32([rows + 1, width], &values),
        );
        sandbox.write_tensors(WEIGHTS, &all);
    };
    with_table(false);
    assert_close(&scores(), &expected);
    // It is the adapter's table that is read.
    with_table(true);
    let mut pairs = scores().into_iter().zip(&expected);
    assert!(pairs.any(|(found, of_base)| (found - of_base).abs() > 1e-3));
}

#[test]
fn an_adapter_named_as_the_model_or_saved_without_its_head_is_explained() {
    const WEIGHTS: &str = "adapter/adapter_model.safetensors";
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    refused(
        &sandbox,
        &["predict", "--model", "out/best", "--task", "sequence", "hi"],
        1,
        &[
            "no config.json",
            "hint: it is a PEFT adapter: name it with --adapter",
        ],
    );
    for file in sandbox.listing("out/best") {
        sandbox.write(
            &format!("adapter/{file}"),
            std::fs::read(sandbox.path(&format!("out/best/{file}"))).unwrap(),
        );
    }
    let mut all = tensors(&sandbox, WEIGHTS);
    all.remove("base_model.model.score.weight").unwrap();
    sandbox.write_tensors(WEIGHTS, &all);
    refused(
        &sandbox,
        &[
            "predict",
            "--model",
            "model",
            "--adapter",
            "adapter",
            "--task",
            "sequence",
            "hi",
        ],
        1,
        &[
            "cannot load adapter on model",
            "score.weight is missing",
            "hint: the adapter was saved without its head",
        ],
    );
}

#[test]
fn a_run_that_was_stopped_while_it_replaced_its_best_is_used_as_it_is() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    let predict = ["predict", "--run", "out", "hi"];
    let expected = sandbox.ok(&predict);
    // Where two folders cannot be exchanged, this is the moment between two renames.
    std::fs::rename(sandbox.path("out/best"), sandbox.path("out/.best.last")).unwrap();
    std::fs::create_dir(sandbox.path("out/.best.next")).unwrap();
    assert_eq!(sandbox.ok(&predict), expected);
    std::fs::remove_dir_all(sandbox.path("out/.best.last")).unwrap();
    refused(&sandbox, &predict, 1, &["out: not a run folder: no best/"]);
}

#[test]
fn a_bad_command_is_refused_with_the_way_out() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    sandbox.write("answers.jsonl", "kept");
    sandbox.write("bad.jsonl", "{\"text\": \"a\"}\n{\"text\": 1}\n");
    sandbox.write("worse.jsonl", "{\"text\": 1}\n{\"text\": \"a\"}\n");
    sandbox.write("latin1.txt", b"caf\xe9\nthe film\n");
    let adapter = ["predict", "--model", "model", "--adapter", "out/best"];
    let with_adapter = |args: &[&'static str]| [&adapter[..], args].concat();
    let cases: [(Vec<&str>, i32, &[&str]); 25] = [
        (
            with_adapter(&["--task", "sequence", "--labels", "a,b,c", "hi"]),
            2,
            &["head and the label names differ: expected 2 labels, found 3"],
        ),
        (
            with_adapter(&["--task", "sequence", "--labels", "a,a", "hi"]),
            2,
            &["label `a` is named twice"],
        ),
        (
            with_adapter(&["--task", "token", "hi"]),
            1,
            &["out/best: it labels a sequence, not a token"],
        ),
        (
            with_adapter(&["--task", "sequence", "--pooling", "first", "hi"]),
            2,
            &[
                "invalid value 'first' for '--pooling <P>'",
                "[possible values: last, last_not_pad, mean, max]",
            ],
        ),
        (
            with_adapter(&["--task", "sequence", "--attention", "from:9", "hi"]),
            2,
            &["layer 9 is past the last of 2 layers"],
        ),
        (
            vec!["predict", "--run", "out", "--labels", "a,b", "hi"],
            2,
            &["--run", "--labels"],
        ),
        (
            vec!["predict", "--run", "out", "--attention", "causal", "hi"],
            2,
            &["--run", "--attention"],
        ),
        (
            vec!["predict", "--model", "model", "--task", "sequence", "hi"],
            1,
            &["tensor score.weight is missing", "hint: ", "--adapter"],
        ),
        (
            vec!["predict", "--model", "none", "--task", "sequence", "hi"],
            1,
            &["none: no such folder"],
        ),
        (
            vec!["predict", "--model", "model", "hi"],
            2,
            &["model: no settings of ls-llama in it: say what it labels with --task"],
        ),
        (
            vec!["predict", "hi"],
            2,
            &["not provided:\n  <--run <DIR>|--model <HF_DIR>>\n\n"],
        ),
        (
            vec!["evaluate"],
            2,
            &["not provided:\n  <--run <DIR>|--model <HF_DIR>>\n\n"],
        ),
        (
            vec!["evaluate", "--model", "model"],
            2,
            &[
                "--model: which labelled file is to be scored?",
                "--data FILE",
            ],
        ),
        (
            vec!["predict", "--run", "none", "hi"],
            1,
            &["none: not a run folder: no such folder"],
        ),
        (
            vec!["predict", "--run", "model", "hi"],
            1,
            &["model: not a run folder: no config.toml"],
        ),
        (
            vec!["predict", "--run", "out", "--format", "conll", "hi"],
            2,
            &["--format conll is for taggers"],
        ),
        (
            vec!["predict", "--run", "out", "--strict", "a", " "],
            2,
            &["text 2 is empty"],
        ),
        (
            vec!["predict", "--run", "out", "--input", "none.csv"],
            1,
            &["none.csv: no such file"],
        ),
        (
            vec!["predict", "--run", "out", "--input", "run.toml"],
            2,
            &["run.toml: unknown file extension"],
        ),
        (
            vec!["predict", "--run", "out", "--input", "texts.csv.gz"],
            2,
            &["texts.csv.gz: is compressed; unpack it first"],
        ),
        (
            vec!["predict", "--run", "out", "--input", "texts.xlsx"],
            2,
            &["texts.xlsx: is a spreadsheet; save it as CSV first"],
        ),
        (
            vec!["predict", "--run", "out", "--input", "latin1.txt"],
            1,
            &["latin1.txt:1:", "0xe9"],
        ),
        (
            vec![
                "predict",
                "--run",
                "out",
                "--input",
                "worse.jsonl",
                "--output",
                "answers.jsonl",
            ],
            1,
            &["worse.jsonl:1: key `text`"],
        ),
        // Before anything is read, let alone answered.
        (
            vec![
                "predict",
                "--run",
                "out",
                "--input",
                "bad.jsonl",
                "--output",
                "none/out.jsonl",
            ],
            1,
            &["none/out.jsonl: cannot write"],
        ),
        (
            vec!["predict", "--run", "out"],
            1,
            &["stdin: holds no examples"],
        ),
    ];
    for (args, code, says) in cases {
        refused(&sandbox, &args, code, says);
    }
    let cases: [(Vec<&str>, i32, &[&str]); 4] = [
        (
            vec!["evaluate", "--run", "out", "--split", "test"],
            2,
            &["no test split", "train, validation"],
        ),
        (
            vec!["evaluate", "--run", "out", "--data", "none.csv"],
            1,
            &["none.csv: no such file"],
        ),
        (
            vec!["evaluate", "--run", "out", "--data", "bad.jsonl"],
            1,
            &["bad.jsonl:1: no key `label`"],
        ),
        (
            vec!["evaluate", "--run", "none"],
            1,
            &["none: not a run folder"],
        ),
    ];
    for (args, code, says) in cases {
        refused(&sandbox, &args, code, says);
    }
}
