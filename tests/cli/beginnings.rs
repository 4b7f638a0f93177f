//! What files and stdin are taken for by their beginnings.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::json;

use crate::runs::*;
use crate::sandbox::{Sandbox, jsonl, says};

fn utf16(text: &str) -> Vec<u8> {
    let units = format!("\u{feff}{text}");
    units.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// The words that a tagger saw.
fn words(sandbox: &Sandbox, stdin: impl AsRef<[u8]>) -> serde_json::Value {
    let outcome = sandbox.run_with(&["predict", "--run", "out"], stdin);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let answers = jsonl(&outcome.stdout);
    answers
        .iter()
        .map(|answer| answer["tokens"].clone())
        .collect()
}

#[test]
fn a_tagger_takes_stdin_for_what_it_holds() {
    let sandbox = token();
    train(&sandbox, "out", &[]);
    let expected = json!([["Ann", "sold", "boats"]]);
    let conllu = "# sent_id = 1\n# text = Ann sold boats\n1\tAnn\t_\n2\tsold\t_\n3\tboats\t_\n\n";
    let object = "{\"text\": \"Ann sold boats\"}\n";
    let pair = "[\"Ann sold boats\", {\"entities\": []}]\n";
    for text in [
        conllu,
        object,
        pair,
        &format!("[{pair}]"),
        &format!("[\n\n{object}]"),
        "Ann\tO\nsold\tO\nboats\tO\n",
        "Ann sold boats\n",
    ] {
        assert_eq!(words(&sandbox, text), expected, "{text}");
        assert_eq!(
            words(&sandbox, format!("\u{feff}{text}")),
            expected,
            "{text}"
        );
        assert_eq!(words(&sandbox, utf16(text)), expected, "{text}");
    }
    let text = "# a heading\n[Ann] sold\n";
    let expected = json!([["#", "a", "heading"], ["[", "Ann", "]", "sold"]]);
    assert_eq!(words(&sandbox, text), expected);
}

#[test]
fn a_list_that_comes_slowly_is_one() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    let mut command = sandbox.command(&["predict", "--run", "out"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for part in ["[\n", "{\"text\": \"bad\"", ", \"id\": 7}\n", "]\n"] {
        stdin.write_all(part.as_bytes()).unwrap();
        stdin.flush().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    drop(stdin);
    let answers = BufReader::new(child.stdout.take().unwrap());
    let answers: Vec<String> = answers.lines().map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success());
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(jsonl(&answers[0])[0]["id"], 7);
}

#[test]
fn a_delimiter_that_is_found_is_said_and_kept() {
    let sandbox = sequence();
    let table = |delimiter: &str, or_so: &str| -> String {
        let row = |(text, label): &(String, &str)| format!("{text}{or_so}{delimiter}{label}\n");
        let rows: String = reviews().iter().map(row).collect();
        format!("text{delimiter}label\n{rows}")
    };
    let run = |data: &str, out: &str, more: &[&str]| {
        let quick = ["--set", "train.epochs=1", "--set", "lora.r=4"];
        let files = ["train", "--model", "model", "--data", data, "--run", out];
        sandbox.run(&[&files[..], &quick, more].concat())
    };
    sandbox.write("a.csv", table(";", ", or so"));
    sandbox.write("b.csv", format!("sep=;\r\n{}", table(";", ", or so")));
    sandbox.write("comma.csv", table(",", " or so"));
    let found = "found: task = \"sequence\", data.delimiter = \";\", data.text = \"text\", data.label = \"label\"\n";
    for (file, out) in [("a.csv", "a"), ("b.csv", "b")] {
        says(
            &run(file, out, &[]),
            0,
            &[
                "csv with the columns text, label\n",
                found,
                "train: 18 examples",
            ],
        );
        let config = sandbox.read(&format!("{out}/config.toml"));
        assert!(config.contains("delimiter = \";\""), "{config}");
    }
    let outcome = run("b.csv", "c", &["--set", "data.delimiter=;"]);
    says(
        &outcome,
        0,
        &[
            "found: task = \"sequence\", data.text = \"text\"",
            "train: 18 examples",
        ],
    );
    says(
        &run("comma.csv", "d", &[]),
        0,
        &["found: task = \"sequence\", data.text = \"text\""],
    );
    assert!(!sandbox.read("d/config.toml").contains("delimiter"));
    // Another file need not be written in the same way.
    says(
        &run("a.csv", "e", &["--test", "comma.csv"]),
        0,
        &[
            "found: task = \"sequence\", data.text = \"text\"",
            "test: 20 examples",
        ],
    );
    let predict = ["predict", "--run", "a", "--input", "comma.csv"];
    assert_eq!(jsonl(&sandbox.ok(&predict)).len(), 20);
    // The columns that are said show it.
    sandbox.write("said.csv", "id;who, where|note\n1;a, b|x\n2;c, d|y\n");
    let set = ["--set", "data.text=note", "--set", "data.label=note"];
    let outcome = run("said.csv", "f", &set);
    assert!(
        outcome.stderr.contains("data.delimiter = \"|\""),
        "{}",
        outcome.stderr
    );
    sandbox.write("unclear.csv", "who;what, where\na;b, c\n");
    says(
        &run("unclear.csv", "g", &[]),
        2,
        &[", or --set 'data.delimiter=,'\n"],
    );
    sandbox.write("twice.csv", "text,label,label\na,x,y\n");
    says(
        &run("twice.csv", "h", &[]),
        2,
        &["twice.csv:1: the header has `label` twice, as columns 1 and 2"],
    );
    says(&run("a.xyz", "i", &[]), 2, &[".conllu .conllup .iob"]);
    sandbox.write(
        "lists.json",
        "{\"train\": [{\"text\": \"a\"}],\n \"test\": [{\"text\": \"b\"}]}\n",
    );
    says(
        &run("lists.json", "j", &[]),
        1,
        &[
            "with several lists of objects, `train`, `test`",
            "write the list that is meant to a file of its own",
        ],
    );
}
