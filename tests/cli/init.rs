//! `ls-cli init`: what it says of data, what it writes, and what it refuses.

use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, says};

const SCHEMA: &str = "ls-llama.schema.json";
/// The model of the tests has no room for more.
const SMALL: [&str; 2] = ["--set", "lora.r=4"];

/// The configuration of a file.
fn config(sandbox: &Sandbox, name: &str) -> ls_train::RunConfig {
    ls_train::RunConfig::from_file(&sandbox.path(name), &[]).unwrap()
}

#[test]
fn what_is_written_trains_as_it_is() {
    let sandbox = Sandbox::new();
    let rows = reviews();
    let table = |rows: &[(String, &str)]| -> String {
        let rows = rows.iter().map(|(text, label)| format!("{label};{text}\n"));
        std::iter::once("Étiquette;Review\n".into())
            .chain(rows)
            .collect()
    };
    sandbox.write("avis-train.csv", table(&rows));
    sandbox.write("avis-dev.csv", table(&rows[..4]));
    let set = ["--set", "data.label=Étiquette", "--set", "train.epochs=1"];
    let args = ["init", "avis-train.csv", "--model", "model"];
    let stdout = sandbox.ok(&[&args[..], &SMALL, &set].concat());
    assert_contains(
        &stdout,
        &[
            "avis-train.csv: csv with the columns Étiquette, Review\n",
            "data.delimiter = \";\", data.text = \"Review\"\n",
            "  found beside it: data.validation = \"avis-dev.csv\"\n",
            "train: 20 examples (avis-train.csv)\n  labels: neg 10 (50.0%), pos 10 (50.0%)\n",
            "  characters: 16 to ",
            "  tokens: ",
            "validation: 4 examples (avis-dev.csv)\n",
            "warning: train: fewer than 20 examples of \"neg\" (10), \"pos\" (10)\n",
            "warning: validation: 4 of 4 stand in train too, so that validation scores too well \
             (avis-dev.csv:2 as avis-train.csv:2)\n",
            "written: avis-train.toml\n",
            " train --config avis-train.toml\n",
        ],
    );
    assert!(!stdout.contains("tokens are not counted"), "{stdout}");
    let text = sandbox.read("avis-train.toml");
    let first = format!("#:schema {SCHEMA}\n");
    assert!(text.starts_with(&first), "{text}");
    assert_contains(&text, &["# Here: labels in train: neg 10, pos 10.\n"]);
    assert_eq!(sandbox.read(SCHEMA), sandbox.ok(&["config", "schema"]));
    let written = config(&sandbox, "avis-train.toml");
    assert_eq!(written.train.epochs, 1);
    assert_eq!(written.data.label, "Étiquette".into());
    // It trains, on what was looked at.
    let outcome = sandbox.run(&["train", "--config", "avis-train.toml", "--run", "out"]);
    says(
        &outcome,
        0,
        &["train: 20 examples", "validation: 4 examples"],
    );
    assert_whole(&sandbox, "out");
}

#[test]
fn taggers_files_beside_and_what_is_too_long_are_measured() {
    let sandbox = token();
    let set = ["--set", "data.max_length=8", "--set", "train.epochs=1"];
    let args = [
        "init",
        "train.conll",
        "--model",
        "model",
        "--out",
        "a/new.toml",
    ];
    let refused = sandbox.run(&[&args[..], &SMALL, &set].concat());
    says(&refused, 2, &["a: no such folder, for a/new.toml"]);
    // Before anything is read.
    assert_eq!(refused.stdout, "");
    let args = [
        "init",
        "train.conll",
        "--model",
        "model",
        "--out",
        "tags.toml",
    ];
    let more = ["--test", "train.conll"];
    let stdout = sandbox.ok(&[&args[..], &SMALL, &set, &more].concat());
    assert_contains(
        &stdout,
        &[
            "  spans: LOC 20 (50.0%), PER 20 (50.0%)\n  tags: O ",
            "  words: 6 to 6; half have 6 at most, 95% have 6\n",
            "warning: test: 20 of 20 stand in train too",
            "longer than data.max_length = 8: they are read in windows\n",
        ],
    );
    assert!(!stdout.contains("found beside it"), "{stdout}");
    let text = sandbox.read("tags.toml");
    assert_contains(&text, &["# Here: spans in train: LOC 20, PER 20.\n"]);
    let written = config(&sandbox, "tags.toml");
    assert_eq!(written.data.max_length, Some(8));
    let outcome = sandbox.run(&["train", "--config", "tags.toml", "--run", "out"]);
    // As many as init said.
    let windows = |text: &str, before: &str, after: &str| -> String {
        let (_, rest) = text.split_once(before).unwrap();
        rest.split_once(after).unwrap().0.to_owned()
    };
    says(&outcome, 0, &[]);
    let said = windows(&stdout, "warning: test: 20 of 20 stand", " they are read");
    let counted = windows(&outcome.stderr, "test: 20 examples", ", read in");
    let counted = counted.rsplit_once("max_length: ").unwrap().1.to_owned();
    let counted = counted.trim_end_matches(" examples");
    assert!(
        said.contains(&format!("{counted} of 20 are longer")),
        "{said} {counted}"
    );
}

#[test]
fn without_the_model_the_configuration_says_how_to_get_it() {
    let sandbox = Sandbox::empty();
    sandbox.write("a.csv", csv(&reviews()));
    let stdout = sandbox.ok(&["init", "a.csv"]);
    assert_contains(
        &stdout,
        &[
            "tokens are not counted: the model is not here\n",
            "written: a.toml\n",
        ],
    );
    let text = sandbox.read("a.toml");
    assert_contains(
        &text,
        &[
            "cargo xtask fetch-weights smollm2-135m",
            "path = \"smollm2-135m\"\n",
        ],
    );
    assert_eq!(
        config(&sandbox, "a.toml").model.path.to_str(),
        Some("smollm2-135m")
    );
    let gone = ["init", "a.csv", "--model", "../gone", "--out", "gone.toml"];
    says(&sandbox.run(&gone), 2, &["--model ../gone: no such folder"]);
    assert!(!sandbox.path("gone.toml").exists());
    // Nobody's work is written over, neither the configuration nor a schema that is there.
    sandbox.write("a.toml", "mine");
    says(
        &sandbox.run(&["init", "a.csv"]),
        2,
        &[
            "a.toml is there already, and is not written over",
            "hint: name another file: --out FILE",
        ],
    );
    assert_eq!(sandbox.read("a.toml"), "mine");
    sandbox.write(SCHEMA, "mine too");
    sandbox.ok(&["init", "a.csv", "--out", "b.toml"]);
    assert_eq!(sandbox.read(SCHEMA), "mine too");
}

#[test]
fn what_train_refuses_is_refused_in_its_words_and_nothing_is_written() {
    let sandbox = Sandbox::new();
    let many = |label: &str| -> String { (0..20).map(|i| format!("text {i},{label}\n")).collect() };
    let head = "text,label\n";
    sandbox.write("one.csv", [head, &many("x")].concat());
    sandbox.write("empty.csv", "");
    sandbox.write(
        "rows.csv",
        [head, &many("x"), ",y\n", "z,y\nz\n", "w,y\n"].concat(),
    );
    sandbox.write("which.csv", "text,label,class\na,b,c\n");
    sandbox.write("broken.json", "[{\"text\": \"a\", ");
    sandbox.write("bytes.csv", b"text,label\n\xff\xfe,b\n");
    sandbox.write("ok.csv", csv(&reviews()));
    sandbox.write("other.csv", "text,label\nnew,neu\n");
    sandbox.write("folder.csv/a.txt", "");
    let before = sandbox.files();
    let cause = |stderr: &str| -> String {
        let cause = stderr.split("caused by: ").nth(1);
        let cause = cause.unwrap_or(stderr.trim_start_matches("error: "));
        cause.split("\nhint: ").next().unwrap().trim().to_owned()
    };
    for (data, more, part) in [
        (
            "one.csv",
            &[][..],
            "each of the 18 examples to learn from has the label \"x\"",
        ),
        ("empty.csv", &[], "empty.csv: holds no examples"),
        ("rows.csv", &[], "rows.csv:22: text is empty"),
        ("which.csv", &[], "more than one column could be a label"),
        ("broken.json", &[], "broken.json"),
        (
            "bytes.csv",
            &[],
            "bytes.csv:2:1: byte 0xff is not valid UTF-8",
        ),
        ("folder.csv", &[], "folder.csv"),
        ("gone.csv", &[], "gone.csv: no such file"),
        (
            "ok.csv",
            &["--test", "other.csv"],
            "other.csv:2: unknown label `neu`",
        ),
        (
            "ok.csv",
            &["--set", "lora.r=12"],
            "r = 12 is larger than model.layers.0",
        ),
        (
            "ok.csv",
            &["--set", "model.attention=from:2"],
            "layer 2 is past the last of 2 layers",
        ),
        (
            "ok.csv",
            &["--set", "train.epoch=2"],
            "did you mean train.epochs?",
        ),
    ] {
        let init = ["init", data, "--model", "model"];
        let outcome = sandbox.run(&[&init[..], &SMALL, more].concat());
        assert_ne!(outcome.code, 0, "{data}");
        assert_contains(&outcome.stderr, &[part]);
        let train = ["train", "--model", "model", "--data", data, "--run", "out"];
        let trained = sandbox.run(&[&train[..], &SMALL, more].concat());
        assert_eq!(outcome.code, trained.code, "{data}: {}", trained.stderr);
        // It has made the paths absolute.
        let here = format!("{}/", sandbox.path("").canonicalize().unwrap().display());
        let said = trained.stderr.replace(&here, "");
        assert_contains(&said, &[&cause(&outcome.stderr)]);
        std::fs::remove_dir_all(sandbox.path("out")).ok();
        assert!(sandbox.files() == before, "{data}: something was written");
    }
    // The rows are left out where that is asked for, and the configuration says so.
    let args = ["init", "rows.csv", "--model", "model"];
    let outcome = sandbox.run(&[&args[..], &SMALL].concat());
    says(
        &outcome,
        1,
        &["hint: mend these rows, or leave them out with --skip-bad-rows"],
    );
    assert_contains(
        &outcome.stdout,
        &["warning: train: rows that cannot be used: 2, of which 1 have nothing to read\n"],
    );
    sandbox.ok(&[&args[..], &SMALL, &["--skip-bad-rows"]].concat());
    assert!(config(&sandbox, "rows.toml").data.skip_bad_rows);
    let train = [
        "train",
        "--config",
        "rows.toml",
        "--run",
        "out",
        "--set",
        "train.epochs=1",
    ];
    says(&sandbox.run(&train), 0, &["warning: 2 bad rows skipped"]);
}

#[test]
#[cfg(unix)]
fn a_pipe_is_no_file_of_data() {
    let sandbox = Sandbox::empty();
    let pipe = sandbox.path("pipe.csv");
    let made = std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(made.success());
    says(
        &sandbox.run(&["init", "pipe.csv"]),
        1,
        &["pipe.csv: found a pipe"],
    );
}

#[test]
fn a_file_beside_the_data_that_has_no_labels_is_left_alone() {
    let sandbox = Sandbox::new();
    let rows = csv(&reviews());
    sandbox.write("train.csv", &rows);
    sandbox.write("test.csv", "id,text\n1,good\n");
    sandbox.write("dev.csv", &rows);
    let args = ["init", "train.csv", "--model", "model"];
    let args = [&args[..], &SMALL].concat();
    let stdout = sandbox.ok(&args);
    assert_contains(
        &stdout,
        &[
            "train.csv: csv with the columns",
            "  found beside it: data.validation = \"dev.csv\"\n",
            "  found beside it and left alone, as it has no labels that can be read: \
             test.csv: no column `label`",
        ],
    );
    assert!(!stdout.contains("test: "), "{stdout}");
    assert_eq!(config(&sandbox, "train.toml").data.test, None);
    // A file that is named is not left alone, and what was found is said before the error.
    let named = [&args[..], &["--test", "test.csv", "--out", "b.toml"]].concat();
    let outcome = sandbox.run(&named);
    assert_ne!(outcome.code, 0);
    assert_contains(&outcome.stderr, &["test.csv: no column `label`"]);
    assert_contains(&outcome.stdout, &["found beside it: data.validation"]);
    // Neither flag nor key hides the other split; a fold needs none.
    let set = ["--set", "data.validation=train.csv", "--out", "c.toml"];
    sandbox.write("test.csv", &rows);
    let stdout = sandbox.ok(&[&args[..], &set].concat());
    assert_contains(&stdout, &["  found beside it: data.test = \"test.csv\"\n"]);
    assert!(!stdout.contains("dev.csv"), "{stdout}");
}

#[test]
fn a_label_forges_no_line_and_moves_no_cursor() {
    let sandbox = Sandbox::new();
    let rows: String = (0..20)
        .map(|i| format!("text {i},\"pos\u{1b}[2J\nwarning: forged\"\nword {i},neg\n"))
        .collect();
    sandbox.write("a.csv", format!("text,label\n{rows}"));
    let args = ["init", "a.csv", "--model", "model"];
    let inspected = ["inspect", "a.csv"];
    for args in [&[&args[..], &SMALL].concat()[..], &inspected] {
        let stdout = sandbox.ok(args);
        assert!(!stdout.contains('\u{1b}'), "{stdout}");
        assert!(!stdout.contains("\nwarning: forged"), "{stdout}");
        assert_contains(
            &stdout,
            &["pos\u{fffd}[2J\u{fffd}warning: forged 20 (50.0%)"],
        );
    }
    assert!(!sandbox.read("a.toml").contains("\n# warning: forged"));
}

#[test]
fn metrics_of_other_tags_are_refused_and_labels_of_one_split_are_a_concern() {
    let sandbox = token();
    let tags = "Ann NOUN\nsold VERB\n\nBob NOUN\nran VERB\n\n".repeat(10);
    sandbox.write("pos.conll", tags);
    let args = ["init", "pos.conll", "--model", "model"];
    let metric = ["--set", "train.metric_for_best_model=span_f1_micro"];
    let outcome = sandbox.run(&[&args[..], &SMALL, &metric].concat());
    let train = [
        "train",
        "--model",
        "model",
        "--data",
        "pos.conll",
        "--run",
        "out",
    ];
    let trained = sandbox.run(&[&train[..], &SMALL, &metric].concat());
    let part = "unknown metric \"span_f1_micro\" for this task";
    assert_eq!(outcome.code, trained.code, "{}", outcome.stderr);
    assert_contains(&trained.stderr, &[part]);
    assert_contains(&outcome.stderr, &[part]);
    assert!(!sandbox.path("pos.toml").exists());

    let rows = csv(&reviews());
    sandbox.write("a.csv", &rows);
    let of_one: String = rows
        .lines()
        .filter(|row| !row.contains("neg"))
        .map(|row| format!("{row}\n"))
        .collect();
    sandbox.write("one.csv", of_one);
    let args = ["init", "a.csv", "--model", "model", "--test", "one.csv"];
    let stdout = sandbox.ok(&[&args[..], &SMALL].concat());
    let warning =
        "labels of train that test has no example of, so that they are not scored: \"neg\"";
    assert_contains(&stdout, &[&format!("warning: {warning}\n")]);
}

#[test]
fn a_token_that_the_model_does_not_know_is_refused_as_train_refuses_it() {
    let sandbox = sequence();
    sandbox.model("small", 300);
    let args = ["init", "train.csv", "--model", "small", "--out", "new.toml"];
    let outcome = sandbox.run(&[&args[..], &SMALL].concat());
    let train = [
        "train",
        "--model",
        "small",
        "--data",
        "train.csv",
        "--run",
        "out",
    ];
    let trained = sandbox.run(&[&train[..], &SMALL].concat());
    assert_eq!(outcome.code, trained.code, "{}", outcome.stderr);
    let part = "vocabulary of 300";
    says(&outcome, 1, &["train.csv:2: token id ", part]);
    says(&trained, 1, &["train.csv:2: token id ", part]);
    assert!(!sandbox.path("new.toml").exists());
}
