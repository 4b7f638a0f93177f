//! Where a command's data comes from: known sets by name, long inputs, tag schemes, bad rows, the
//! two protocols.

use serde_json::{Value, json};

use crate::runs::*;
use crate::sandbox::{Outcome, Sandbox, assert_contains, jsonl, says};

const BASE: &str = r#"
[model]
path = "model"
[lora]
r = 4
lora_alpha = 8
lora_dropout = 0.0
target_modules = "all-linear"
[train]
micro_batch_size = 4
learning_rate = 1e-2
epochs = 1
"#;

fn sandbox(head: &str, data: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("run.toml", format!("{head}\n{BASE}\n[data]\n{data}"));
    sandbox
}

fn run(sandbox: &Sandbox, run: &str, set: &[&str]) -> Outcome {
    sandbox.run(&train_args(run, set))
}

/// Sentences of `words` words, whose last is a place.
fn conll(sentences: usize, words: usize, tags: [&str; 2]) -> String {
    let mut text = String::new();
    for sentence in 0..sentences {
        let person = ["Ann", "Bob", "Lin"][sentence % 3];
        text += &format!("{person} {}\nLee {}\n", tags[0], tags[1]);
        for word in 2..words - 1 {
            text += &format!("{} O\n", ["the", "boat", "of", "old"][word % 4]);
        }
        let place = ["Bern", "Oslo"][sentence % 2];
        text += &format!("{place} {}\n\n", tags[0].replace("PER", "LOC"));
    }
    text
}

const IOB2: [&str; 2] = ["B-PER", "I-PER"];

#[test]
fn no_word_of_a_long_input_is_lost_unless_it_is_cut() {
    let head = "task = \"token\"";
    let sandbox = sandbox(
        head,
        "train = \"t.conll\"\nvalidation = \"t.conll\"\ntest = \"t.conll\"",
    );
    sandbox.write("t.conll", conll(12, 40, IOB2));
    let set = [
        "data.max_length=20",
        "data.stride=6",
        // A causal model has seen nothing of a word at the space in front of it.
        "data.label_position=first_visible",
        "train.epochs=12",
    ];
    let outcome = train(&sandbox, "windows", &set);
    says(
        &outcome,
        0,
        &[
            "nothing is cut",
            "longer than data.max_length: 12 examples, read in ",
        ],
    );
    let report = sandbox.json("windows/report.json");
    assert_eq!(report["protocol"], "strict");
    assert_eq!(report["cut"]["test"]["cut_words"], 0);
    // The last word of each sentence is found: it stands in no first window.
    let locations = &report["scores"]["per_type"]["LOC"];
    assert_eq!(locations["support"], 12);
    assert!(locations["f1"].as_f64().unwrap() > 0.9, "{report}");
    let predictions = sandbox.jsonl("windows/predictions.jsonl");
    for line in &predictions {
        assert_eq!(line["tags"].as_array().unwrap().len(), 40);
        assert_eq!(line["gold"].as_array().unwrap().len(), 40);
    }
    // One of which the tokenizer makes nothing is answered in its place, or refused or passed over
    // on request.
    let words = |words: Value| json!({ "tokens": words }).to_string() + "\n";
    sandbox.write(
        "w.jsonl",
        words(json!(["Ann"])) + &words(json!([""])) + &words(json!(["Bob"])),
    );
    let input = ["predict", "--run", "windows", "--input", "w.jsonl"];
    for also in [&[][..], &["--skip-bad-rows"]] {
        let outcome = sandbox.run(&[&input[..], also].concat());
        says(&outcome, 0, &["nothing to label in 1 of 3 inputs"]);
        let answers = jsonl(&outcome.stdout);
        let error = "the text tokenises to nothing";
        let none = json!({"tokens": [""], "tags": ["O"], "entities": [], "error": error});
        assert_eq!((answers.len(), &answers[1]), (3, &none));
    }
    let input = [&input[..], &["--strict"]].concat();
    says(
        &sandbox.run(&input),
        1,
        &["w.jsonl:2: the text tokenises to nothing"],
    );
    let outcome = sandbox.run(&[&input[..], &["--skip-bad-rows"]].concat());
    says(&outcome, 0, &["1 bad rows skipped", "w.jsonl:2:"]);
    assert_eq!(outcome.stdout.lines().count(), 2);
    // New inputs are read the same way.
    let text = format!("Ann Lee {}Oslo", "the boat of old ".repeat(9));
    let answer = sandbox.ok_json(&["predict", "--run", "windows", &text]);
    assert_eq!(answer["tags"].as_array().unwrap().last().unwrap(), "B-LOC");

    // Cut: a word without a prediction is O, and scored.
    let set = [
        "data.max_length=20",
        "data.long_inputs=truncate",
        "train.epochs=12",
    ];
    train(&sandbox, "cut", &set);
    let report = sandbox.json("cut/report.json");
    let cut = report["cut"]["test"]["cut_words"].as_u64().unwrap();
    assert!(cut > 12, "{report}");
    assert_eq!(report["scores"]["per_type"]["LOC"]["support"], 12);
    assert_eq!(report["scores"]["per_type"]["LOC"]["f1"], 0.0);
    assert_eq!(report["scores"]["tokens"], 12 * 40);

    // As the paper measures: what is cut is not scored at all, and the test split chooses the
    // checkpoint.
    let set = [
        "data.max_length=20",
        "data.protocol=paper",
        "train.epochs=12",
    ];
    let outcome = train(&sandbox, "paper", &set);
    assert_contains(&outcome.stdout, &["(paper protocol)"]);
    let report = sandbox.json("paper/report.json");
    assert_eq!(report["protocol"], "paper");
    assert_eq!(report["scores"]["tokens"], 12 * 40 - cut);
    assert!(report["scores"]["per_type"]["LOC"].is_null(), "{report}");
    let scores = sandbox.ok_json(&["evaluate", "--run", "paper", "--format", "json"]);
    assert_eq!(scores["protocol"], "paper");
    assert_eq!(scores["cut_words"], cut);
    assert_eq!(scores["span_f1_micro"], report["scores"]["span_f1_micro"]);
}

#[test]
fn a_long_text_is_cut_where_it_is_told_or_read_in_windows() {
    let sandbox = sandbox(
        "task = \"sequence\"",
        "train = \"t.csv\"\nvalidation = \"t.csv\"\nmax_length = 12",
    );
    // The class is told by the last words alone.
    let rows = (0..24).map(|i| {
        let end = ["good and warm,pos", "bad and sad,neg"][i % 2];
        format!("the old road to the sea and the boat of the day was {end}\n")
    });
    sandbox.write("t.csv", format!("text,label\n{}", rows.collect::<String>()));
    let accuracy = |name: &str, set: &str| {
        train(&sandbox, name, &["train.epochs=8", set]);
        let report = sandbox.json(&format!("{name}/report.json"));
        let cut = report["cut"]["validation"]["cut_examples"]
            .as_u64()
            .unwrap();
        (report["scores"]["accuracy"].as_f64().unwrap(), cut)
    };
    assert_eq!(accuracy("head", "data.long_inputs=truncate"), (0.5, 24));
    assert_eq!(accuracy("tail", "data.long_inputs=tail"), (1.0, 24));
    assert_eq!(accuracy("both", "data.long_inputs=head_tail"), (1.0, 24));
    assert_eq!(accuracy("windows", "data.long_inputs=window"), (1.0, 0));
    let outcome = run(
        &sandbox,
        "x",
        &["data.long_inputs=window", "data.text_pair=\"label\""],
    );
    says(&outcome, 2, &["data.long_inputs: pairs of texts are cut"]);
}

#[test]
fn tags_of_another_scheme_are_converted_refused_or_repaired() {
    let head = "task = \"token\"";
    let sandbox = sandbox(head, "train = \"t.conll\"\nvalidation = \"t.conll\"");
    sandbox.write("t.conll", conll(8, 6, ["I-PER", "I-PER"]));
    let labels = |name: &str| sandbox.json(&format!("{name}/best/labels.json"));
    train(&sandbox, "as-is", &[]);
    assert_eq!(labels("as-is"), json!(["O", "I-LOC", "I-PER"]));
    let iob1 = ["data.scheme=iob1", "data.train_scheme=iob2"];
    train(&sandbox, "iob2", &iob1);
    assert_eq!(labels("iob2"), json!(["O", "B-LOC", "B-PER", "I-PER"]));
    let gold = sandbox.jsonl("iob2/predictions.jsonl")[0]["gold"].clone();
    assert_eq!(gold, json!(["B-PER", "I-PER", "O", "O", "O", "B-LOC"]));
    let bilou = [
        "data.scheme=iob1",
        "data.train_scheme=bilou",
        "train.epochs=12",
    ];
    train(&sandbox, "bilou", &bilou);
    let report = sandbox.json("bilou/report.json");
    // Spans of one word beside each other are not run together.
    assert_eq!(report["scores"]["per_type"]["PER"]["support"], 8);
    assert_eq!(report["scores"]["per_type"]["LOC"]["support"], 8);
    let entities = sandbox.jsonl("bilou/predictions.jsonl")[0]["entities"].clone();
    let entities: Vec<&str> = entities
        .as_array()
        .unwrap()
        .iter()
        .map(|entity| entity["text"].as_str().unwrap())
        .collect();
    assert_eq!(entities, ["Ann Lee", "Bern"]);
    assert_eq!(labels("bilou"), json!(["O", "U-LOC", "B-PER", "L-PER"]));

    let outcome = run(&sandbox, "x", &["data.scheme=iob2"]);
    says(&outcome, 1, &["t.conll:1: tag `I-PER`", "data.malformed"]);
    let repair = ["data.scheme=iob2", "data.malformed=repair"];
    let outcome = train(&sandbox, "repaired", &repair);
    says(
        &outcome,
        0,
        &["the tags of 8 sentences are not as iob2 has them"],
    );
    assert_eq!(labels("repaired"), labels("iob2"));
    let outcome = run(&sandbox, "x", &["data.scheme=iob7"]);
    says(&outcome, 2, &["iob7", "iobes"]);
}

#[test]
fn bad_rows_are_all_named_and_skipped_on_request() {
    let sandbox = sandbox(
        "task = \"sequence\"",
        "train = \"t.jsonl\"\nvalidation = \"v.jsonl\"",
    );
    let row = |i: usize| {
        let label = ["pos", "neg"][i % 2];
        format!(
            "{}\n",
            json!({"text": format!("the boat {i}"), "label": label})
        )
    };
    let good: String = (0..12).map(row).collect();
    let bad = "{\"text\": \"a\"}\nno object\n{\"text\": 3, \"label\": \"pos\"}\n";
    sandbox.write("t.jsonl", format!("{good}{bad}"));
    sandbox.write("v.jsonl", &good);
    says(
        &run(&sandbox, "out", &[]),
        1,
        &[
            "t.jsonl:13: no key `label`",
            "t.jsonl:14:",
            "t.jsonl:15: key `text`: found an integer",
        ],
    );
    let args = [
        "train",
        "--config",
        "run.toml",
        "--run",
        "out",
        "--skip-bad-rows",
    ];
    let outcome = sandbox.run(&args);
    says(
        &outcome,
        0,
        &["train: 12 examples", "3 bad rows skipped", "t.jsonl:14:"],
    );

    train(&sandbox, "plain", &["data.train=v.jsonl"]);
    // Of labels that the training split does not have, each is named once.
    let odd =
        ["x", "pos", "y", "x"].map(|label| json!({"text": "the boat", "label": label}).to_string());
    sandbox.write("odd.jsonl", odd.join("\n"));
    let outcome = run(
        &sandbox,
        "x",
        &["data.train=v.jsonl", "data.validation=odd.jsonl"],
    );
    says(
        &outcome,
        1,
        &[
            "odd.jsonl:1: unknown label `x`",
            "odd.jsonl:3: unknown label `y`",
        ],
    );
    let evaluate = ["evaluate", "--run", "plain", "--data", "t.jsonl"];
    says(&sandbox.run(&evaluate), 1, &["t.jsonl:14:"]);
    let outcome = sandbox.run(&[&evaluate[..], &["--skip-bad-rows"]].concat());
    says(&outcome, 0, &["3 bad rows skipped"]);
    let predict = ["predict", "--run", "out", "--input", "t.jsonl"];
    let outcome = sandbox.run(&predict);
    says(&outcome, 1, &["t.jsonl:14:", "t.jsonl:15:"]);
    let answers = outcome.stdout.lines().count();
    assert_eq!(answers, 13, "the rows before the bad one are answered");
    let outcome = sandbox.run(&[&predict[..], &["--skip-bad-rows"]].concat());
    says(&outcome, 0, &["2 bad rows skipped"]);
    assert_eq!(outcome.stdout.lines().count(), 13);
}

#[test]
fn a_known_data_set_is_found_in_its_folder_whatever_its_form() {
    let sandbox = sandbox("task = \"sequence\"", "dataset = \"sst2\"\nmax_length = 32");
    let outcome = run(&sandbox, "out", &[]);
    says(
        &outcome,
        2,
        &["datasets/sst2", "cargo xtask fetch-data sst2", "data.dir"],
    );
    sandbox.write("datasets/sst2/nothing.txt", "x");
    let outcome = run(&sandbox, "out", &[]);
    says(&outcome, 1, &["train.tsv", "cargo xtask fetch-data sst2"]);

    let tsv = |rows: usize| {
        let rows =
            (0..rows).map(|i| format!("the boat was {}\t{}\n", ["bad", "good"][i % 2], i % 2));
        format!("sentence\tlabel\n{}", rows.collect::<String>())
    };
    sandbox.write("datasets/sst2/train.tsv", tsv(30));
    sandbox.write("datasets/sst2/dev.tsv", tsv(8));
    let outcome = train(&sandbox, "out", &[]);
    // GLUE's test split has no labels: the development split is reported, and has no part in the
    // choice.
    says(
        &outcome,
        0,
        &[
            "labels: negative 4, positive 4",
            "published with 872 examples",
        ],
    );
    let report = sandbox.json("out/report.json");
    assert_eq!(report["reported_split"], "test");
    assert_eq!(report["cut"]["validation"]["examples"], 3);
    assert_eq!(report["cut"]["test"]["examples"], 8);
    train(&sandbox, "paper", &["data.protocol=paper"]);
    let report = sandbox.json("paper/report.json");
    assert_eq!(report["cut"]["validation"]["examples"], 8);
    let config = sandbox.read("paper/config.toml");
    assert!(
        config.contains("max_length = 32") && config.contains("long_inputs = \"truncate\""),
        "{config}"
    );
    sandbox.ok(&["evaluate", "--run", "paper"]);

    let outcome = run(&sandbox, "x", &["data.train=t.csv", "data.dataset=ssst2"]);
    says(
        &outcome,
        2,
        &["no data set is called `ssst2`", "did you mean `sst2`"],
    );
    let outcome = run(&sandbox, "x", &["data.train=t.csv"]);
    says(&outcome, 2, &["data.dataset names the files"]);
    let outcome = run(&sandbox, "x", &["data.dataset=conll03"]);
    says(&outcome, 2, &["conll03 is labelled by token"]);
    let outcome = run(&sandbox, "x", &["data.language=it"]);
    says(&outcome, 2, &["data.language: sst2 has no language `it`"]);
    train(&sandbox, "language", &["data.language=EN"]);
}

#[test]
fn a_data_set_of_ones_own_is_described_in_a_file() {
    let data = "dataset = \"sets/moods.toml\"\nmax_length = 32";
    let sandbox = sandbox("task = \"sequence\"", data);
    says(
        &run(&sandbox, "x", &[]),
        2,
        &["data.dataset: sets/moods.toml: no such file"],
    );
    let head = "task = \"sequence\"\nlabels = [\"bad\", \"good\"]\n";
    let form = |rest: &str| {
        let text = format!(
            "{head}[splits]\ntrain = {{ examples = 24 }}\n[[forms]]\nname = \"reviews\"\nformat = \"tsv\"\n{rest}"
        );
        sandbox.write("sets/moods.toml", text);
    };
    form("txt = \"review\"\n");
    let fault = "data.dataset: sets/moods.toml:8:1: malformed TOML: unknown field `txt`";
    says(&run(&sandbox, "x", &[]), 2, &[fault]);
    form(
        "text = \"review\"\nsplits.train.files = [\"train*.tsv\"]\nsplits.test.files = [\"test.tsv\"]\n",
    );
    says(&run(&sandbox, "x", &[]), 2, &["sets/moods", "data.dir"]);

    let rows = |count: usize| {
        let row = |i: usize| format!("the boat was {}\t{}\n", ["bad", "good"][i % 2], i % 2);
        format!("review\tlabel\n{}", (0..count).map(row).collect::<String>())
    };
    sandbox.write("sets/moods/train-a.tsv", rows(12));
    sandbox.write("sets/moods/train-b.tsv", rows(8));
    sandbox.write("sets/moods/test.tsv", rows(6));
    let outcome = train(&sandbox, "out", &[]);
    says(&outcome, 0, &["published with 24 examples"]);
    assert_eq!(sandbox.json("out/best/labels.json"), json!(["bad", "good"]));
    assert_eq!(
        sandbox.json("out/report.json")["cut"]["test"]["examples"],
        6
    );
    // The run knows its files from any folder.
    sandbox.ok(&["evaluate", "--run", "out"]);
    assert_contains(&sandbox.read("out/config.toml"), &["/sets/moods.toml"]);
    assert_contains(&sandbox.read("out/environment.json"), &["/sets/moods.toml"]);

    // Only the splits need the description; the model answers without it.
    std::fs::remove_file(sandbox.path("sets/moods.toml")).unwrap();
    sandbox.ok(&["predict", "--run", "out", "the boat was good"]);
    sandbox.write(
        "more.csv",
        rows(6).replace('\t', ",").replace("review", "text"),
    );
    sandbox.ok(&["evaluate", "--run", "out", "--data", "more.csv"]);
    let outcome = sandbox.run(&["evaluate", "--run", "out"]);
    says(&outcome, 1, &["sets/moods.toml: no such file"]);
}

#[test]
fn a_windowed_text_weighs_as_much_as_a_short_one() {
    let data =
        "train = \"t.csv\"\nvalidation = \"t.csv\"\nmax_length = 16\nlong_inputs = \"window\"";
    let sandbox = sandbox("task = \"sequence\"", data);
    let long = "the old road to the sea was warm and good ".repeat(20);
    let rows = (0..20).map(|i| match i % 2 {
        0 => "a dull sad day,neg\n".to_string(),
        _ => format!("{long},pos\n"),
    });
    sandbox.write("t.csv", format!("text,label\n{}", rows.collect::<String>()));
    train(&sandbox, "out", &["train.epochs=2"]);
    let report = sandbox.json("out/report.json");
    assert_eq!(report["cut"]["train"]["windowed_examples"], 10);
    assert_eq!(report["scores"]["accuracy"], 1.0);
    // The loss is of texts, as the scores are.
    let [loss, log_loss] =
        [&report["loss"], &report["scores"]["log_loss"]].map(|v| v.as_f64().unwrap());
    assert!((loss - log_loss).abs() < 1e-5, "{loss} {log_loss}");
    assert_eq!(report["reported_split_chose"], true);

    // Over an epoch in which nothing is learnt, the losses of the steps are those of the texts in
    // the mean, also where a step has windows of long texts alone. All windows are alike, since a
    // text is answered by the mean of their logits.
    let long = ["warm"; 200].join(" ");
    let rows = (0..20).map(|i| match i % 2 {
        0 => "a dull sad day,neg\n".to_string(),
        _ => format!("{long},pos\n"),
    });
    sandbox.write("t.csv", format!("text,label\n{}", rows.collect::<String>()));
    let set = [
        "train.epochs=1",
        "train.micro_batch_size=1",
        "train.learning_rate=1e-12",
    ];
    train(&sandbox, "still", &set);
    let (steps, loss) = (
        losses(&sandbox, "still"),
        &sandbox.json("still/report.json")["loss"],
    );
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let loss = loss.as_f64().unwrap();
    assert!(
        (mean(&steps) - loss).abs() < 1e-4,
        "{} {loss}",
        mean(&steps)
    );
    // Each input by itself would have another mean.
    let (texts, inputs) = (20.0, steps.len() as f64);
    let windows = (inputs - 10.0) / 10.0;
    let alone = |loss: &f64| match loss * texts / inputs {
        of_text if *loss > 1.0 => of_text,
        of_window => of_window * windows,
    };
    let alone: Vec<f64> = steps.iter().map(alone).collect();
    assert!(
        (mean(&alone) - loss).abs() > 1e-3,
        "{} {loss}",
        mean(&alone)
    );
}

#[test]
fn predictions_stand_beside_their_own_rows_and_keep_their_gold() {
    let sandbox = sandbox(
        "task = \"sequence\"",
        "train = \"t.csv\"\nvalidation_fraction = 0.3",
    );
    // Rows that all stand in line 1.
    let rows = (0..30).map(|i| format!("row {i} was {}\r", ["bad,neg", "good,pos"][i % 2]));
    sandbox.write("t.csv", format!("text,label\r{}", rows.collect::<String>()));
    train(&sandbox, "out", &[]);
    let predictions = sandbox.jsonl("out/predictions.jsonl");
    assert!(predictions.len() >= 8);
    for line in &predictions {
        let good = line["text"].as_str().unwrap().ends_with("good");
        assert_eq!(line["gold"], ["neg", "pos"][usize::from(good)], "{line}");
    }
    // Fields of the input with the names of answers; and one that only a reader of whole objects
    // stumbles over.
    let row = |i: usize, more: &str| {
        let label = ["neg", "pos"][i % 2];
        format!(
            "{{\"text\":\"the boat {i}\",\"kind\":\"{label}\",\"label\":\"other\",\"gold\":\"ounce\"{more}}}\n"
        )
    };
    sandbox.write("t.jsonl", (0..8).map(|i| row(i, "")).collect::<String>());
    let set = [
        "data.train=t.jsonl",
        "data.validation=t.jsonl",
        "data.label=kind",
    ];
    train(&sandbox, "fields", &set);
    let line = &sandbox.jsonl("fields/predictions.jsonl")[0];
    let parts = [
        &line["gold"],
        &line["input_gold"],
        &line["input_label"],
        &line["kind"],
    ];
    assert_eq!(parts, ["neg", "ounce", "other", "neg"]);
    sandbox.write(
        "t.jsonl",
        (0..8)
            .map(|i| row(i, ",\"user\":\"\\ud83d oops\""))
            .collect::<String>(),
    );
    train(&sandbox, "odd", &set);
    assert_eq!(sandbox.jsonl("odd/predictions.jsonl").len(), 8);
    assert!(sandbox.path("odd/report.json").exists());
}

#[test]
fn other_files_of_a_known_set_are_read_as_its_own() {
    let sandbox = sandbox("task = \"token\"", "dataset = \"conll03\"");
    // As first published: IOB1, four columns, documents.
    let mut text = "-DOCSTART- -X- O O\n\n".to_string();
    for place in ["Bern", "Oslo", "Lima"] {
        text += &format!(
            "Ann NNP I-NP I-PER\nLee NNP I-NP I-PER\nin IN I-PP O\n{place} NNP I-NP I-LOC\n\n"
        );
    }
    for split in ["eng.train", "eng.testa", "eng.testb"] {
        sandbox.write(&format!("datasets/conll03/{split}"), &text);
    }
    // Enough to learn three sentences by heart, whatever dropout draws.
    train(&sandbox, "out", &["train.epochs=30"]);
    let score = |args: &[&str]| {
        let args = [&["evaluate", "--run", "out", "--format", "json"], args].concat();
        sandbox.ok_json(&args)["span_f1_micro"].as_f64().unwrap()
    };
    assert_eq!(score(&[]), 1.0);
    assert_eq!(score(&["--data", "datasets/conll03/eng.testb"]), 1.0);
    sandbox.write("more/eng.train", &text);
    assert_eq!(score(&["--data", "more/eng.train"]), 1.0);
    let labels = train(&sandbox, "bilou", &["data.train_scheme=bilou"]);
    says(&labels, 0, &["U-LOC 3"]);
    let outcome = sandbox.run(&[
        "predict",
        "--run",
        "out",
        "--input",
        "datasets/conll03/eng.testa",
        "--format",
        "conll",
    ]);
    says(&outcome, 0, &[]);
    assert!(
        outcome.stdout.starts_with("Ann\tB-PER\nLee\tI-PER\n"),
        "{}",
        outcome.stdout
    );
}

#[test]
fn a_text_may_be_joined_from_columns_and_classes_counted_from_one() {
    let data = "train = \"t.csv\"\nvalidation = \"t.csv\"\nheader = false\ntext = 1\ntext_append = [2]\nlabel = 0\nfirst_label = 1\nlabels = [\"World\", \"Sports\"]";
    let sandbox = sandbox("task = \"sequence\"", data);
    let row = |i: usize| format!("\"{}\",\"title {i}\",\"and \"\"text\"\"\"\n", i % 2 + 1);
    sandbox.write("t.csv", (0..8).map(row).collect::<String>());
    train(&sandbox, "out", &[]);
    let line = &sandbox.jsonl("out/predictions.jsonl")[1];
    assert_eq!(
        [&line["text"], &line["gold"]],
        ["title 1 and \"text\"", "Sports"]
    );
}

#[test]
fn entity_starts_are_what_the_paper_scores_on_ontonotes() {
    let sandbox = sandbox("task = \"token\"", "dataset = \"ontonotes5\"");
    let conll = conll(6, 6, ["B-PERSON", "I-PERSON"])
        .replace("B-LOCSON", "B-GPE")
        .replace(' ', "\t");
    for split in ["train", "validation", "test"] {
        sandbox.write(&format!("datasets/ontonotes5/{split}.conll"), &conll);
    }
    train(&sandbox, "strict", &[]);
    train(&sandbox, "paper", &["data.protocol=paper"]);
    let gold = |run: &str| sandbox.jsonl(&format!("{run}/predictions.jsonl"))[0]["gold"].clone();
    assert_eq!(gold("strict")[1], "I-PERSON");
    assert_eq!(gold("paper")[1], "O");
    let labels = |run: &str| sandbox.json(&format!("{run}/best/labels.json"));
    assert_eq!(labels("strict").as_array().unwrap().len(), 37);
    assert_eq!(labels("paper").as_array().unwrap().len(), 19);
}
