//! Files as they lie on people's disks: other delimiters and encodings, lists of objects, texts
//! with spans, CoNLL-U, folders, labels in two spellings.

use serde_json::{Value, json};

use crate::runs::*;
use crate::sandbox::{Outcome, Sandbox, jsonl, says};

fn sandbox(task: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let config = format!(
        "task = \"{task}\"\n[model]\npath = \"model\"\nattention = \"bidirectional\"\n[lora]\nr = 4\n\
         lora_alpha = 8\nlora_dropout = 0.0\ntarget_modules = \"all-linear\"\n[train]\nepochs = 1\n\
         micro_batch_size = 4\nlearning_rate = 1e-2\n"
    );
    sandbox.write("run.toml", config);
    sandbox
}

/// Trains on a file, which validates too.
fn run(sandbox: &Sandbox, file: &str, set: &[&str]) -> Outcome {
    let train = format!("data.train={file}");
    let validation = format!("data.validation={file}");
    let set: Vec<&str> = [train.as_str(), &validation]
        .into_iter()
        .chain(set.iter().copied())
        .collect();
    if sandbox.path("out").exists() {
        std::fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
    sandbox.run(&train_args("out", &set))
}

/// Ten texts with two labels.
fn table(delimiter: &str) -> String {
    let row = |i: usize| {
        let label = ["neg", "pos"][i % 2];
        format!("the café{i}, was \"{label}\"{delimiter}{label}\n").replace('"', "'")
    };
    let rows: String = (0..10).map(row).collect();
    format!("text{delimiter}label\n{rows}")
}

/// The texts and labels that a run was trained on, as its predictions say them.
fn learnt(sandbox: &Sandbox) -> Vec<(String, String)> {
    let string = |value: &Value| value.as_str().unwrap().to_string();
    let rows = sandbox.jsonl("out/predictions.jsonl");
    rows.iter()
        .map(|row| (string(&row["text"]), string(&row["gold"])))
        .collect()
}

fn expected() -> Vec<(String, String)> {
    (0..10)
        .map(|i| {
            let label = ["neg", "pos"][i % 2];
            (format!("the café{i}, was '{label}'"), label.to_string())
        })
        .collect()
}

#[test]
fn tables_with_any_delimiter_are_read_and_a_name_twice_is_refused() {
    let sandbox = sandbox("sequence");
    for delimiter in [";", "\t", "|"] {
        sandbox.write("t.csv", table(delimiter));
        says(&run(&sandbox, "t.csv", &[]), 0, &["train: 10 examples"]);
        assert_eq!(learnt(&sandbox), expected());
    }
    // Not one that is looked for: it must be said.
    sandbox.write("t.csv", table("~"));
    says(
        &run(&sandbox, "t.csv", &[]),
        2,
        &["no column `text`; the file has `text~label`"],
    );
    says(&run(&sandbox, "t.csv", &["data.delimiter=~"]), 0, &[]);
    assert_eq!(learnt(&sandbox), expected());
    let config = sandbox.read("out/config.toml");
    assert!(config.contains("delimiter = \"~\""), "{config}");
    says(
        &run(&sandbox, "t.csv", &["data.delimiter=::"]),
        2,
        &["data.delimiter: found \"::\", expected one ASCII character"],
    );
    sandbox.write("t.csv", "text;label;text\na;neg;b\nc;pos;d\n");
    says(
        &run(&sandbox, "t.csv", &[]),
        2,
        &["t.csv:1: the header has `text` twice, as columns 0 and 2 (counted from 0)"],
    );
    says(&run(&sandbox, "t.csv", &["data.text=2"]), 0, &[]);
    assert_eq!(learnt(&sandbox)[0].0, "b");
}

#[test]
fn other_encodings_are_decoded_and_one_message_says_what_is_wrong() {
    let sandbox = sandbox("sequence");
    let text = table(";");
    let units = || text.encode_utf16();
    let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
    for (mark, bytes) in [(&b"\xff\xfe"[..], little), (b"\xfe\xff", big)] {
        sandbox.write("t.csv", [mark, &bytes].concat());
        says(&run(&sandbox, "t.csv", &[]), 0, &[]);
        assert_eq!(learnt(&sandbox), expected());
        // Half a unit is left.
        sandbox.write("t.csv", [mark, &bytes[..bytes.len() - 1]].concat());
        says(
            &run(&sandbox, "t.csv", &[]),
            1,
            &["t.csv:11: the text is not valid UTF-16"],
        );
    }
    let latin: Vec<u8> = text.chars().map(|c| c as u8).collect();
    sandbox.write("t.csv", &latin);
    let outcome = run(&sandbox, "t.csv", &[]);
    says(
        &outcome,
        1,
        &[
            "t.csv:2:8: byte 0xe9 is not valid UTF-8; save the file as UTF-8, or name its encoding, such as data.encoding = \"windows-1252\"",
        ],
    );
    says(&run(&sandbox, "t.csv", &["data.encoding=latin-1"]), 0, &[]);
    assert_eq!(learnt(&sandbox), expected());
    let config = sandbox.read("out/config.toml");
    assert!(config.contains("encoding = \"windows-1252\""), "{config}");
    // The run reads files of its kind again, but a stream is UTF-8.
    sandbox.ok(&["evaluate", "--run", "out", "--data", "t.csv"]);
    let file = jsonl(&sandbox.ok(&["predict", "--run", "out", "--input", "t.csv"]));
    assert_eq!(file[0]["text"], expected()[0].0);
    let stream = jsonl(
        &sandbox
            .run_with(&["predict", "--run", "out"], "the café\n")
            .stdout,
    );
    assert_eq!(stream[0]["text"], "the café");
    says(
        &run(&sandbox, "t.csv", &["data.encoding=latin-77"]),
        2,
        &["data.encoding: unknown encoding \"latin-77\"; expected utf-8, utf-16, windows-1252"],
    );
    says(
        &run(&sandbox, "t.csv", &["data.encoding=shift_jis"]),
        1,
        &["t.csv:2: the text is not valid Shift_JIS"],
    );

    // A header that is not UTF-8 has one fault, and nothing untrue is said of the rows behind it.
    sandbox.write("t.csv", b"text;label;\xe9t\xe9\na;neg;b\nc;pos;d\n");
    let outcome = run(&sandbox, "t.csv", &[]);
    says(&outcome, 1, &["t.csv:1:1: byte 0xe9"]);
    assert!(!outcome.stderr.contains("header"), "{}", outcome.stderr);
}

#[test]
fn a_list_of_json_objects_is_read_as_objects_on_lines_are() {
    let sandbox = sandbox("sequence");
    let rows: Vec<Value> = expected()
        .into_iter()
        .map(|(text, label)| json!({"text": text, "label": label, "more": [{"text": "]"}]}))
        .collect();
    for content in [
        json!(rows).to_string(),
        serde_json::to_string_pretty(&rows).unwrap(),
        json!({"version": "1", "data": rows}).to_string(),
        serde_json::to_string_pretty(&json!({"data": rows, "n": [1, 2]})).unwrap(),
    ] {
        sandbox.write("t.json", content);
        says(&run(&sandbox, "t.json", &[]), 0, &["train: 10 examples"]);
        assert_eq!(learnt(&sandbox), expected());
    }
    let answers = jsonl(&sandbox.ok(&["predict", "--run", "out", "--input", "t.json"]));
    assert_eq!((answers.len(), &answers[0]["more"]), (10, &rows[0]["more"]));
    let list = serde_json::to_string(&rows).unwrap();
    let piped = jsonl(&sandbox.run_with(&["predict", "--run", "out"], &list).stdout);
    assert_eq!(piped.len(), 10);

    let check = |content: &str, code: i32, expected: &[&str]| {
        sandbox.write("bad.json", content);
        says(&run(&sandbox, "bad.json", &[]), code, expected);
    };
    check(
        "[\n  {\"text\": \"a\", \"label\": \"neg\"},\n  {\"text\": \"b\", \"label\": },\n  {\"text\": 3,\n \"label\": \"pos\"}, 7\n]",
        1,
        &[
            "bad.json:3:26: malformed JSON: expected value",
            "bad.json:4: key `text`: found an integer",
            "bad.json:5:19: malformed JSON: invalid type",
        ],
    );
    check(
        "[{\"text\": \"a\", \"label\": \"neg\"}\n {\"text\": \"b\", \"label\": \"pos\"}]",
        1,
        &["bad.json:2:2: malformed JSON: found `{`, expected `,` or `]` behind a member"],
    );
    check(
        "[{\"text\": \"a\", \"label\": \"neg\"},\n {\"text\": \"b\", \"label\": \"pos\"",
        1,
        &["bad.json:2: a value begins here and never ends"],
    );
    check(
        "[{\"text\": \"a\", \"label\": \"neg\"},\n",
        1,
        &["bad.json:2:1: malformed JSON: found the end of the file"],
    );
    let several = json!({"train": rows, "test": rows}).to_string();
    check(
        &several,
        1,
        &["one JSON object with several lists of objects, `train`, `test`"],
    );
    check(
        &serde_json::to_string_pretty(&rows[0]).unwrap(),
        1,
        &[
            "bad.json: found one JSON object over several lines, with `text`, `label`, `more`; expected",
        ],
    );
}

#[test]
fn predictions_are_corrected_and_trained_on() {
    let sandbox = sandbox("token");
    // Spans in characters, as annotators export them.
    let object = |i: usize| {
        let (person, place) = (["Zoë 😀", "Ann"][i % 2], ["Bern", "New Oslo"][i % 2]);
        let text = format!("«{person}» sold  boats in {place}.");
        let begin = |part: &str| text[..text.find(part).unwrap()].chars().count();
        let name = person.split(' ').next().unwrap();
        let span = |part: &str, label: &str| json!({"start": begin(part), "end": begin(part) + part.chars().count(), "label": label});
        json!({"text": text, "entities": [span(name, "PER"), span(place, "LOC")]})
    };
    let objects: Vec<Value> = (0..12).map(object).collect();
    sandbox.write("t.json", serde_json::to_string_pretty(&objects).unwrap());
    let outcome = run(&sandbox, "t.json", &["train.epochs=30"]);
    says(&outcome, 0, &["train: 12 examples", "B-PER 12"]);
    let labels = sandbox.json("out/best/labels.json");
    assert_eq!(labels, json!(["O", "B-LOC", "I-LOC", "B-PER"]));
    // The run's own predictions have the text and places in it.
    let own = sandbox.jsonl("out/predictions.jsonl");
    assert_eq!(own[0]["text"], objects[0]["text"]);
    assert_eq!(
        own[0]["tokens"],
        json!(["«", "Zoë", "😀", "»", "sold", "boats", "in", "Bern", "."])
    );

    let predicted = sandbox.ok(&["predict", "--run", "out", "--input", "t.json"]);
    let rows = jsonl(&predicted);
    assert_eq!(rows[1]["text"], objects[1]["text"]);
    let places = |row: &Value| -> Vec<(u64, u64, String)> {
        let entities = row["entities"].as_array().unwrap().iter();
        entities
            .map(|entity| {
                let kind = entity.get("type").or(entity.get("label")).unwrap();
                let at = |key: &str| entity[key].as_u64().unwrap();
                (at("start"), at("end"), kind.as_str().unwrap().to_string())
            })
            .collect()
    };
    assert_eq!(places(&rows[1]), places(&objects[1]), "learnt by heart");
    // What was predicted trains again as it is: tags and entities agree.
    sandbox.write("p.jsonl", &predicted);
    says(&run(&sandbox, "p.jsonl", &[]), 0, &["train: 12 examples"]);
    // A correction of the entities alone is not passed over.
    let mut corrected = rows.clone();
    corrected[1]["entities"].as_array_mut().unwrap().pop();
    corrected[0]["entities"][0]["type"] = json!("ORG");
    let lines: Vec<String> = corrected.iter().map(Value::to_string).collect();
    sandbox.write("p.jsonl", lines.join("\n"));
    says(
        &run(&sandbox, "p.jsonl", &[]),
        1,
        &[
            "p.jsonl:1: the tags and the entities of the example differ (ORG 1-4 only by `entities`)",
            "p.jsonl:2: the tags and the entities of the example differ (LOC",
            "data.tags = \"tags\" or \"entities\"",
        ],
    );
    // Nor where the columns are found in the file.
    let alone = ["train", "--model", "model", "--data", "p.jsonl"];
    let alone = |set: &[&str]| {
        let set = set.iter().flat_map(|set| ["--set", set]);
        let more = ["--validation", "p.jsonl", "--run", "alone"];
        let args: Vec<&str> = alone.into_iter().chain(more).chain(set).collect();
        sandbox.run(&args)
    };
    let quick = ["lora.r=4", "train.epochs=1"];
    says(
        &alone(&quick),
        1,
        &[
            "p.jsonl:1: the tags and the entities of the example differ (ORG 1-4 only by `entities`)",
        ],
    );
    let chosen = [&quick[..], &["data.tags=entities"]].concat();
    says(&alone(&chosen), 0, &["B-ORG 1"]);
    let outcome = run(&sandbox, "p.jsonl", &["data.tags=entities"]);
    says(&outcome, 0, &["train: 12 examples", "B-ORG 1"]);
    says(
        &run(&sandbox, "p.jsonl", &["data.tags=tags"]),
        0,
        &["B-PER 12"],
    );

    // Raw text has the words that were learnt.
    let text = objects[0]["text"].as_str().unwrap();
    let raw = jsonl(&sandbox.ok(&["predict", "--run", "out", text]));
    assert_eq!(raw[0]["tokens"], own[0]["tokens"]);
}

#[test]
fn what_an_annotator_turned_down_is_not_learnt() {
    let sandbox = sandbox("token");
    let said = |count: usize| {
        format!("t.jsonl: {count} rows passed over: their annotator rejected or ignored them")
    };
    let prodigy = (0..9).map(|i| {
        let answer = ["accept", "accept", "reject", "accept", "ignore"][i % 5];
        let label = if answer == "accept" { "PER" } else { "BAD" };
        let span = json!({"start": 0, "end": 3, "label": label});
        json!({"text": "Ann ran", "spans": [span], "answer": answer})
    });
    sandbox.write("t.jsonl", json_lines(prodigy));
    let outcome = run(&sandbox, "t.jsonl", &[]);
    says(&outcome, 0, &[&said(3), "train: 6 examples", "B-PER 6"]);
    let region = json!({"value": {"start": 0, "end": 3, "labels": ["PER"]}});
    let studio = (0..6).map(|i| {
        let annotation = json!({"result": [region], "was_cancelled": i > 3});
        json!({"data": {"text": "Ann ran"}, "annotations": [annotation]})
    });
    sandbox.write("t.jsonl", json_lines(studio));
    let outcome = run(&sandbox, "t.jsonl", &[]);
    says(&outcome, 0, &[&said(2), "train: 4 examples", "B-PER 4"]);
    // Where nothing is left, that is why.
    let rejected = json!({"text": "Ann", "spans": [], "answer": "reject"});
    sandbox.write("t.jsonl", json_lines([rejected]));
    says(
        &run(&sandbox, "t.jsonl", &[]),
        1,
        &[&said(1), "holds no examples"],
    );
}

#[test]
fn bad_spans_are_listed_and_widened_by_choice() {
    let sandbox = sandbox("token");
    let object = |i: usize, end: usize| {
        let text = format!("Ann{i} sold boats").replace(char::is_numeric, "a");
        json!({"text": text, "entities": [[0, end, "PER"], [5, 9, "V"]]}).to_string()
    };
    let lines: Vec<String> = (0..8)
        .map(|i| object(i, if i < 3 { 2 } else { 4 }))
        .collect();
    sandbox.write("t.jsonl", lines.join("\n"));
    let outcome = run(&sandbox, "t.jsonl", &[]);
    let cut = "span 0-2 \"An\" (PER) cuts the word \"Anna\"";
    let each: Vec<String> = (1..4)
        .map(|line| format!("t.jsonl:{line}: {cut}"))
        .collect();
    let each: Vec<&str> = each.iter().map(String::as_str).collect();
    says(&outcome, 1, &each);
    says(&outcome, 1, &["data.bad_spans = \"widen\""]);
    let outcome = run(&sandbox, "t.jsonl", &["data.bad_spans=widen"]);
    says(
        &outcome,
        0,
        &["3 spans were no whole words or overlapped", "B-PER 8"],
    );
    says(&outcome, 0, &each);
    says(
        &run(&sandbox, "t.jsonl", &["data.bad_spans=mend"]),
        2,
        &["data.bad_spans: ", "refuse", "widen"],
    );
    says(
        &run(&sandbox, "t.jsonl", &["data.offsets=words"]),
        2,
        &["data.offsets: ", "utf16", "bytes"],
    );
}

#[test]
fn columns_of_conll_u_are_read_by_their_names() {
    let sandbox = sandbox("token");
    let sentence = |i: usize| {
        format!(
            "# sent_id = {i}\n# text = Ann don't # Bern\n\
             1\tAnn\tAnn\tPROPN\t_\t_\t2\tnsubj\t_\tNER=B-PER\n\
             2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_\n\
             2\tdo\tdo\tAUX\t_\t_\t0\troot\t_\tSpaceAfter=No|NER=O\n\
             3\tn't\tnot\tPART\t_\t_\t2\tadv\t_\t_\n\
             3.1\tgo\tgo\tVERB\t_\t_\t_\t_\t_\t_\n\
             4\t#\t#\tSYM\t_\t_\t2\tx\t_\t_\n\
             5\tBern\tBern\tPROPN\t_\t_\t2\tobl\t_\tNER=B-LOC\n\n"
        )
    };
    let text: String = (0..6).map(sentence).collect();
    sandbox.write("t.conllu", &text);
    let gold = |set: &[&str]| {
        says(&run(&sandbox, "t.conllu", set), 0, &["train: 6 examples"]);
        let row = sandbox.jsonl("out/predictions.jsonl").remove(0);
        assert_eq!(row["tokens"], json!(["Ann", "do", "n't", "#", "Bern"]));
        row["gold"].clone()
    };
    let names = json!(["B-PER", "O", "O", "O", "B-LOC"]);
    assert_eq!(gold(&[]), names);
    assert_eq!(gold(&["data.tags=misc"]), names);
    assert_eq!(gold(&["data.tags=ner"]), names);
    assert_eq!(
        gold(&["data.tags=upos"]),
        json!(["PROPN", "AUX", "PART", "SYM", "PROPN"])
    );
    says(
        &run(&sandbox, "t.conllu", &["data.tags=upso"]),
        2,
        &[
            "t.conllu:3: no column `upso`; the columns are `id`, `form`",
            "`misc`",
        ],
    );
    sandbox.write("t.conllu", text.replace("NER=", "Gloss="));
    says(
        &run(&sandbox, "t.conllu", &[]),
        2,
        &[
            "the words are numbered, as in CoNLL-U",
            "data.tags = \"upos\"",
        ],
    );
    sandbox.write("t.conllu", text.replace("NER=B-LOC", "Entity=(place-1)"));
    says(
        &run(&sandbox, "t.conllu", &["data.tags=misc"]),
        1,
        &["t.conllu:9: MISC has `(place-1)`"],
    );

    // Universal NER: number, word, tag, and who tagged it.
    let iob2 = "# sent_id = a\n# text = # Ann\n1\t#\tO\t-\tme\n2\tAnn\tB-PER\t-\tme\n\n".repeat(6);
    sandbox.write("t.iob2", iob2);
    says(
        &run(&sandbox, "t.iob2", &[]),
        0,
        &["train: 6 examples", "O 6, B-PER 6"],
    );
    let row = sandbox.jsonl("out/predictions.jsonl").remove(0);
    assert_eq!(row["tokens"], json!(["#", "Ann"]));
    // Without numbers a word `#` stands as any other, also first in its sentence.
    for ending in ["bio2", "ner"] {
        let file = format!("t.{ending}");
        sandbox.write(
            &file,
            "# id 12-a domain=en\n# O\nAnn B-PER\n\n# text = x\n# O\n\n".repeat(3),
        );
        says(
            &run(&sandbox, &file, &[]),
            0,
            &["train: 6 examples", "O 6, B-PER 3"],
        );
    }
}

#[test]
fn a_folder_is_explained_and_labels_that_look_the_same_are_pointed_out() {
    let sandbox = sandbox("sequence");
    sandbox.write("corpus/notes.md", "x");
    sandbox.write("corpus/train.csv", table(";"));
    says(
        &run(&sandbox, "corpus", &[]),
        2,
        &[
            "corpus: is a folder, which holds `notes.md`, `train.csv`; expected a file, such as \"",
            "corpus/train.csv\"",
        ],
    );
    let lines: String = (0..10)
        .map(|i| format!("__label__{}\tA fine day {i}\n", i % 5 + 1))
        .collect();
    for split in ["train", "dev", "test"] {
        sandbox.write(&format!("sst/sst_{split}.txt"), &lines);
    }
    says(
        &run(&sandbox, "sst", &[]),
        2,
        &[
            "sst: is a folder",
            "data.dataset = \"sst5\" and data.dir = \"",
            "sst\" read them",
        ],
    );
    let outcome = sandbox.run(&train_args(
        "sst-run",
        &["data.dataset=sst5", "data.dir=sst"],
    ));
    says(
        &outcome,
        0,
        &["very negative 2, negative 2, neutral 2, positive 2, very positive 2"],
    );

    let labels = ["Good", "good ", "1", "1.0", "bad"];
    let rows: String = (0..20)
        .map(|i| format!("day {i},{}\n", labels[i % 5]))
        .collect();
    sandbox.write("t.csv", format!("text,label\n{rows}"));
    let outcome = run(&sandbox, "t.csv", &[]);
    says(
        &outcome,
        0,
        &[
            "labels that look the same are learnt as different ones: \"1\" (4) and \"1.0\" (4), \"Good\" (4) and \"good\" (4)",
        ],
    );
    assert_eq!(outcome.stderr.matches("look the same").count(), 1);
    sandbox.write("t.csv", table(";"));
    let outcome = run(&sandbox, "t.csv", &[]);
    assert!(
        !outcome.stderr.contains("look the same"),
        "{}",
        outcome.stderr
    );
}
