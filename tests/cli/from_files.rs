//! `ls-cli train` without a configuration: what it finds in files, and what it asks for.

use serde_json::json;

use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, jsonl, says};

const QUICK: [&str; 4] = ["--set", "train.epochs=1", "--set", "lora.r=4"];

#[test]
fn texts_are_learned_from_a_file_alone_and_the_run_can_be_repeated() {
    let sandbox = Sandbox::new();
    let rows = reviews();
    let table: String = rows
        .iter()
        .map(|(text, label)| format!("7,{label},{text}\r\n"))
        .collect();
    sandbox.write(
        "reviews.csv",
        format!("\u{feff}id,Sentiment,Review\r\n{table}"),
    );
    sandbox.write("test.csv", format!("id,Sentiment,Review\n{table}"));
    let files = [
        "train",
        "--model",
        "model",
        "--data",
        "reviews.csv",
        "--test",
        "test.csv",
    ];
    let outcome = sandbox.run(&[&files[..], &QUICK].concat());
    says(
        &outcome,
        0,
        &[
            "reviews.csv: csv with the columns id, Sentiment, Review\n",
            "  found: task = \"sequence\", data.text = \"Review\", data.label = \"Sentiment\"\n",
            "run folder runs/reviews,",
            "train: 18 examples",
            "validation: 2 examples",
            "test: 20 examples",
        ],
    );
    assert_contains(&outcome.stdout, &["test accuracy"]);
    let config =
        ls_train::RunConfig::from_file(&sandbox.path("runs/reviews/config.toml"), &[]).unwrap();
    assert_eq!(
        (config.data.text, config.data.label),
        ("Review".into(), "Sentiment".into())
    );
    assert_eq!(config.train.epochs, 1);
    let again = [
        "train",
        "--config",
        "runs/reviews/config.toml",
        "--run",
        "again",
    ];
    sandbox.ok(&again);
    assert_eq!(losses(&sandbox, "again"), losses(&sandbox, "runs/reviews"));
    let scores = |run: &str| sandbox.json(&format!("{run}/report.json"))["scores"].clone();
    assert_eq!(scores("again"), scores("runs/reviews"));
    // The next run has its own folder.
    let outcome = sandbox.run(&[&files[..], &QUICK].concat());
    says(&outcome, 0, &["run folder runs/reviews-2,"]);
    assert_whole(&sandbox, "runs/reviews-2");
    sandbox.write("in.csv", "Review\nbad\n");
    let predict = ["predict", "--run", "again", "--input", "in.csv"];
    assert_eq!(jsonl(&sandbox.ok(&predict))[0]["text"], "bad");
}

#[test]
fn words_pairs_and_formats_are_found() {
    let sandbox = token();
    let run = |data: &str, name: &str, more: &[&str]| {
        let files = ["train", "--model", "model", "--data", data, "--run", name];
        sandbox.run(&[&files[..], &QUICK, more].concat())
    };
    // Another file may have more columns, or numbered words with ranges among them.
    let words = "# sent_id = 1\n1-2\tAdaL\t_\t-\n1\tAda\tB-PER\t-\n2\tran\tO\t-\n\n";
    sandbox.write("wide.conllu", words);
    let others = ["--validation", "train.conll", "--test", "wide.conllu"];
    let outcome = run("train.conll", "words", &others);
    says(
        &outcome,
        0,
        &[
            "train.conll: conll with 2 columns\n  found: task = \"token\"\n",
            "validation: 20 examples",
            "test: 1 example",
        ],
    );
    let one = ["--set", "data.tokens=1", "--set", "data.tags=1"];
    says(
        &run("train.conll", "one", &one),
        1,
        &["train.conll:1: column 1 is that of the words and also that of the tags, counted from 0"],
    );
    let objects = sentences().into_iter().map(|words| {
        let (tokens, tags): (Vec<&str>, Vec<&str>) = words.into_iter().unzip();
        json!({"id": "x", "words": tokens, "ner_tags": tags, "pos_tags": tags})
    });
    sandbox.write("train.json", json_lines(objects));
    let outcome = run("train.json", "json", &[]);
    says(
        &outcome,
        0,
        &[
            "train.json: jsonl with the keys id, words, ner_tags, pos_tags\n  found: task = \"token\", data.tokens = \"words\", data.tags = \"ner_tags\"\n",
        ],
    );
    let of = |line: fn(&str, &str) -> String| -> String {
        reviews()
            .iter()
            .map(|(text, label)| line(text, label))
            .collect()
    };
    sandbox.write(
        "fast.txt",
        of(|text, label| format!("__label__{label} {text}\n")),
    );
    says(
        &run("fast.txt", "fast", &[]),
        0,
        &["fast.txt: fasttext\n  found: task = \"sequence\", data.format = \"fasttext\"\n"],
    );
    sandbox.write(
        "pairs.tsv",
        "premise\thypothesis\tlabel\n".to_owned()
            + &of(|text, label| format!("{text}\tit was\t{label}\n")),
    );
    says(
        &run("pairs.tsv", "pairs", &[]),
        0,
        &["data.text = \"premise\", data.text_pair = \"hypothesis\", data.label = \"label\""],
    );
    sandbox.write("words.tsv", sandbox.read("train.conll").replace(' ', "\t"));
    says(
        &run("words.tsv", "tsv", &[]),
        0,
        &["words.tsv: conll with 2 columns\n  found: task = \"token\", data.format = \"conll\""],
    );
    // Numbered columns.
    sandbox.write("plain.csv", of(|text, label| format!("{label},{text}\n")));
    let numbered = [
        "--set",
        "data.header=false",
        "--set",
        "data.text=1",
        "--set",
        "data.label=0",
    ];
    says(
        &run("plain.csv", "plain", &numbered),
        0,
        &["plain.csv: csv with the columns 0, 1\n  found: task = \"sequence\"\n"],
    );
}

#[test]
fn what_is_not_clear_is_asked_for() {
    let sandbox = token();
    let run = |data: &str, more: &[&str]| {
        let files = ["train", "--model", "model", "--data", data, "--run", "out"];
        sandbox.run(&[&files[..], &QUICK, more].concat())
    };
    let rows: String = reviews()
        .iter()
        .map(|(text, label)| format!("{text},{label},{label},{text}\n"))
        .collect();
    sandbox.write("two.csv", format!("text,label,my class,title\n{rows}"));
    sandbox.write("more.csv", format!("text,label,category,title\n{rows}"));
    sandbox.write("none.csv", format!("a,b b,c,d\n{rows}"));
    sandbox.write(
        "texts.jsonl",
        "{\"text\": \"a\", \"review\": \"b\", \"label\": 1}\n",
    );
    sandbox.write(
        "both.jsonl",
        "{\"text\": \"a\", \"label\": \"x\", \"tokens\": [\"a\"], \"tags\": [\"O\"]}\n",
    );
    sandbox.write("bare.txt", "one\ntwo\n");
    for (file, more, parts) in [
        (
            "more.csv",
            &[][..],
            &[
                "error: more.csv: more than one column could be a label: `label`, `category`; the file has `text`, `label`, `category`, `title`",
                "hint: say which is meant: --set data.label=label, or --set data.label=category",
            ][..],
        ),
        (
            "none.csv",
            &[],
            &[
                "none.csv: no column has a usual name of a text (text, sentence, review, ",
                "and no column has a usual name of a label (label, labels, sentiment, ",
                "the file has `a`, `b b`, `c`, `d`",
                "hint: say which is meant: --set data.text=NAME --set data.label=NAME, or --set data.header=false --set data.text=NUMBER --set data.label=NUMBER",
            ],
        ),
        (
            "texts.jsonl",
            &[],
            &[
                "more than one column could be a text: `text`, `review`",
                "--set data.text=text, or --set data.text=review",
            ],
        ),
        (
            "both.jsonl",
            &[],
            &[
                "it holds both texts with labels and words with tags",
                "--set task=sequence, or --set task=token",
            ],
        ),
        (
            "bare.txt",
            &[],
            &[
                "bare.txt: its lines have one column",
                "--set data.format=FORMAT",
            ],
        ),
        (
            "two.csv",
            &["--task", "token"],
            &["two.csv: csv files cannot hold words with tags"],
        ),
        ("none.toml", &[], &["none.toml: unknown file extension"]),
        (
            "two.csv",
            &["--set", "train.epochs=0"],
            &["the command line: train.epochs: expected 1 to 16777216, found 0"],
        ),
        (
            "two.csv",
            &["--set", "data.format=cvs"],
            &["the command line: data.format: expected one of csv, "],
        ),
    ] {
        let outcome = run(file, more);
        says(&outcome, 2, parts);
        assert!(!sandbox.path("out").exists(), "{file}");
    }
    says(&run("absent.csv", &[]), 1, &["absent.csv: no such file"]);
    sandbox.write("twice.csv", "text,label,text\na,b,c\n");
    says(
        &run("twice.csv", &[]),
        2,
        &["twice.csv:1: the header has `text` twice, as columns 0 and 2"],
    );
    // What is said is used, and the rest found.
    says(
        &run("more.csv", &["--set", "data.label=category"]),
        0,
        &["  found: task = \"sequence\", data.text = \"text\"\n"],
    );
    // Flags that belong together.
    for (args, part) in [
        (&["train", "--data", "two.csv"][..], "--model"),
        (&["train", "--model", "model"], "--data"),
        (&["train", "--test", "two.csv"], "--data"),
        (&["train", "--task", "token"], "--data"),
        (
            &[
                "train", "--config", "run.toml", "--model", "model", "--data", "two.csv",
            ],
            "cannot be used with",
        ),
    ] {
        says(&sandbox.run(args), 2, &[part]);
    }
    let files = [
        "train", "--model", "absent", "--data", "two.csv", "--run", "x",
    ];
    says(&sandbox.run(&files), 1, &["absent: no such folder"]);
}

#[test]
fn files_are_read_as_they_were_looked_at() {
    let sandbox = token();
    let run = |data: &str, name: &str| {
        let files = ["train", "--model", "model", "--data", data, "--run", name];
        sandbox.run(&[&files[..], &QUICK].concat())
    };
    let rows: String = reviews()
        .iter()
        .map(|(text, label)| format!("{text}, I said;{label}\n"))
        .collect();
    sandbox.write("semi.csv", format!("Text;Label\n{rows}"));
    let found = "semi.csv: csv with the columns Text, Label\n  found: task = \"sequence\", data.delimiter = \";\", data.text = \"Text\", data.label = \"Label\"\n";
    says(&run("semi.csv", "semi"), 0, &[found, "train: 18 examples"]);
    let texts: Vec<_> = reviews()
        .iter()
        .map(|(text, label)| json!({"review": text, "sentiment": label}))
        .collect();
    sandbox.write("list.json", serde_json::to_string_pretty(&texts).unwrap());
    let found = "list.json: jsonl with the keys review, sentiment\n";
    says(&run("list.json", "list"), 0, &[found, "train: 18 examples"]);
    let spans = sentences().into_iter().map(|words| {
        let text: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let end = words[0].0.chars().count();
        json!({"id": 3, "text": text.join(" "), "entities": [{"start": 0, "end": end, "label": "PER"}]})
    });
    sandbox.write("spans.jsonl", json_lines(spans));
    let found = "spans.jsonl: jsonl with the keys id, text, entities\n  found: task = \"token\", data.text = \"text\", data.tags = \"entities\"\n";
    says(
        &run("spans.jsonl", "spans"),
        0,
        &[found, "train: 18 examples", "B-PER 18"],
    );
    // Of texts with spans, too, every one is answered.
    sandbox.write(
        "in.jsonl",
        "{\"text\": \"\", \"entities\": []}\n{\"text\": \"Ann sold boats\"}\n",
    );
    let answers = jsonl(&sandbox.ok(&["predict", "--run", "spans", "--input", "in.jsonl"]));
    assert_eq!(answers[0]["error"], "text is empty");
    assert_eq!(answers[1]["tokens"], json!(["Ann", "sold", "boats"]));
    std::fs::create_dir(sandbox.path("folder")).unwrap();
    let outcome = run("folder", "folder");
    assert_ne!(outcome.code, 0);
    assert_contains(&outcome.stderr, &["folder"]);
}
