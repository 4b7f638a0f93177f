//! `predict` between other programs: each answer as soon as it is there, in little memory, and
//! everything before a fault.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, jsonl, says};

/// Longer than any answer takes on a machine that does other things too.
const LONG: Duration = Duration::from_secs(60);

/// A running `predict`, its inputs, and the lines that it has printed.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

fn predict(sandbox: &Sandbox, args: &[&str]) -> Running {
    let mut command = sandbox.command(&[&["predict", "--run", "out"], args].concat());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (send, lines) = channel();
    std::thread::spawn(move || {
        for line in stdout.lines() {
            if send.send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    Running {
        stdin: child.stdin.take(),
        child,
        lines,
    }
}

impl Running {
    fn line(&self) -> String {
        self.lines
            .recv_timeout(LONG)
            .expect("an answer before the next input")
    }

    fn send(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Ends the inputs, and waits.
    fn end(mut self) -> (Option<i32>, String) {
        drop(self.stdin.take());
        let output = self.child.wait_with_output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }
}

/// The next input comes only once the one before is answered, by the lines that an answer has.
fn by_turns(running: &Running, mut send: impl FnMut(usize), lines: usize) {
    let mut waits = Vec::new();
    for turn in 0..6 {
        let began = Instant::now();
        send(turn);
        for _ in 0..lines {
            running.line();
        }
        waits.push(began.elapsed());
    }
    // The first one waits for the model. A busy machine may hold up some of the others.
    let quickest = waits[1..].iter().min().unwrap();
    assert!(*quickest < Duration::from_secs(1), "{waits:?}");
}

#[test]
fn a_slow_producer_sees_each_answer_before_it_makes_the_next_input() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    for args in [&[][..], &["--format", "text"]] {
        for object in [false, true] {
            let mut running = predict(&sandbox, args);
            let mut stdin = running.stdin.take().unwrap();
            let send = |turn: usize| {
                let text = format!("film {turn}");
                let line = if object {
                    json!({"text": text}).to_string()
                } else {
                    text
                };
                writeln!(stdin, "{line}").unwrap();
            };
            by_turns(&running, send, 1);
            running.stdin = Some(stdin);
            assert_eq!(running.end(), (Some(0), String::new()));
        }
    }
}

/// A FIFO of a format whose beginning is looked at first.
#[test]
fn a_fifo_is_read_as_it_comes() {
    for (name, header, token) in [("in.csv", "text\n", false), ("in.conll", "", true)] {
        let sandbox = if token { self::token() } else { sequence() };
        train(&sandbox, "out", &["train.epochs=1"]);
        let fifo = sandbox.path(name);
        assert!(
            Command::new("mkfifo")
                .arg(&fifo)
                .status()
                .unwrap()
                .success()
        );
        let running = predict(&sandbox, &["--input", name, "--format", "text"]);
        let mut writer = File::options().write(true).open(&fifo).unwrap();
        writer.write_all(header.as_bytes()).unwrap();
        let send = |turn: usize| {
            let rows = match (token, turn) {
                (true, _) => "Ann O\nslept O\n\n".to_string(),
                (false, _) => format!("film {turn}\n"),
            };
            writer.write_all(rows.as_bytes()).unwrap();
        };
        by_turns(&running, send, 1);
        drop(writer);
        assert_eq!(running.end(), (Some(0), String::new()), "{name}");
    }
}

#[test]
fn everything_before_a_bad_row_is_answered_and_written() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    let good = |count: usize| {
        json_lines((0..count).map(|id| json!({"id": id, "text": format!("film {id}")})))
    };
    let rows = format!("{}{{\"text\": 1}}\n{}{{}}\n", good(904), good(50));
    sandbox.write("in.jsonl", &rows);
    let predict_file = ["predict", "--run", "out", "--input", "in.jsonl"];
    let outcome = sandbox.run(&predict_file);
    says(
        &outcome,
        1,
        &[
            "in.jsonl:905: key `text`",
            "in.jsonl:956",
            "hint: the 904 inputs before it are answered",
        ],
    );
    let answers = jsonl(&outcome.stdout);
    assert_eq!(answers.len(), 904);
    assert_eq!(answers[903]["id"], 903);
    let skipping = sandbox.ok(&[&predict_file[..], &["--skip-bad-rows"]].concat());
    assert!(skipping.starts_with(&outcome.stdout));
    assert_eq!(skipping.lines().count(), 954);

    // A stream that stays open ends with its bad row, not with its end.
    let mut running = predict(&sandbox, &[]);
    running.send(&format!("{}{{\"text\": 1}}\n{{}}\n", good(3)));
    for _ in 0..3 {
        running.line();
    }
    let began = Instant::now();
    while running.child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < LONG);
        std::thread::sleep(Duration::from_millis(10));
    }
    let (code, stderr) = running.end();
    assert_eq!(code, Some(1));
    assert_contains(
        &stderr,
        &["stdin:4", "stdin:5", "the 3 inputs before it are answered"],
    );
}

#[test]
fn an_answer_is_the_same_to_the_last_digit_with_any_neighbours() {
    let long = "the old sea was bright and warm and good ".repeat(12);
    let texts: Vec<String> = (0..70)
        .map(|n| long.chars().take(3 + n * 37 % 400).collect::<String>())
        .map(|text| text.trim().to_string())
        .collect();
    let cases = [
        (sequence(), &[][..]),
        (
            sequence(),
            &["model.pooling=max", "model.attention=bidirectional"],
        ),
        (
            sequence(),
            &["model.pooling=mean", "model.attention=bidirectional"],
        ),
        (
            sequence(),
            &[
                "model.dtype=bf16",
                "data.long_inputs=window",
                "data.max_length=24",
            ],
        ),
        (sequence(), &["model.quantization=nf4"]),
        (token(), &["train.epochs=2"]),
    ];
    for (sandbox, set) in cases {
        train(&sandbox, "out", set);
        let args = [&["predict", "--run", "out"][..]].concat();
        let lines = |texts: &[String]| {
            let outcome = sandbox.run_with(&args, texts.join("\n"));
            assert_eq!(outcome.code, 0, "{}", outcome.stderr);
            outcome.stdout
        };
        let whole = lines(&texts);
        for size in [1, 2, 5, 33] {
            // The small ones would take their time.
            let some = &texts[..texts.len().min(size * 12)];
            let parts: String = some.chunks(size).map(lines).collect();
            assert!(whole.starts_with(&parts), "{set:?} {size}");
        }
    }
}

/// Of the process, in KiB.
#[cfg(target_os = "linux")]
fn peak(child: &Child) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim_end_matches("kB").trim().parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn rows_of_any_size_take_little_memory() {
    // A tagger reads all of a text, in windows; of a text as a whole most is cut.
    for (sandbox, rows) in [(sequence(), 300), (token(), 30)] {
        train(&sandbox, "out", &["train.epochs=1"]);
        let row = json!({"text": "the film was bright. ".repeat(100_000 / 21)});
        let row = format!("{row}\n");
        let mut running = predict(&sandbox, &[]);
        running.send(&row);
        let first = running.line();
        let before = peak(&running.child);
        let mut stdin = running.stdin.take().unwrap();
        let writer = std::thread::spawn(move || {
            for _ in 0..rows {
                stdin.write_all(row.as_bytes()).unwrap();
            }
            stdin
        });
        for _ in 0..rows {
            assert!(running.line() == first);
        }
        running.stdin = Some(writer.join().unwrap());
        let grown = peak(&running.child).saturating_sub(before) >> 10;
        println!("{} MiB for one row, {grown} more for {rows}", before >> 10);
        assert!(grown < 48, "{grown} MiB more than for one row");
        assert_eq!(running.end().0, Some(0));
    }
}

#[test]
fn a_run_with_numbers_for_columns_reads_objects_by_their_keys() {
    let sandbox = sequence();
    let set = ["data.text=0", "data.label=1"];
    train(&sandbox, "out", &set);
    let texts = ["the sea was sad", "a bright film"];
    let expected = sandbox.run_with(&["predict", "--run", "out"], texts.join("\n"));
    let labels = |text: &str| {
        let answers = jsonl(text).into_iter();
        answers
            .map(|answer| answer["scores"].clone())
            .collect::<Vec<_>>()
    };
    let expected = labels(&expected.stdout);
    for (key, args) in [
        ("text", &[][..]),
        ("text", &["--text", "text"]),
        ("review", &["--text", "review"]),
        ("my review", &["--text", "my review"]),
        ("review", &["--set", "data.text=review"]),
    ] {
        let rows = json_lines(texts.map(|text| json!({key: text, "label": "pos"})));
        sandbox.write("in.jsonl", &rows);
        let file = [&["predict", "--run", "out", "--input", "in.jsonl"], args].concat();
        assert_eq!(labels(&sandbox.ok(&file)), expected, "{args:?}");
        let stdin = sandbox.run_with(&[&["predict", "--run", "out"], args].concat(), &rows);
        assert_eq!(
            labels(&stdin.stdout),
            expected,
            "{args:?}: {}",
            stdin.stderr
        );
        if key == "text" {
            let scored = ["evaluate", "--run", "out", "--data", "in.jsonl"];
            sandbox.ok(&[&scored[..]].concat());
        }
    }
    let number = [
        "predict", "--run", "out", "--input", "in.jsonl", "--text", "3",
    ];
    says(&sandbox.run(&number), 2, &["JSON objects have no column 3"]);
    // Of a table it is the number that counts.
    sandbox.write("in.csv", "id,review\n1,the sea was sad\n2,a bright film\n");
    let numbered = [
        "predict", "--run", "out", "--input", "in.csv", "--text", "1",
    ];
    assert_eq!(labels(&sandbox.ok(&numbered)), expected);

    let sandbox = token();
    train(&sandbox, "out", &["data.tokens=0", "data.tags=1"]);
    let words = ["Ann", "slept"];
    let predict = ["predict", "--run", "out"];
    let tags = |row: serde_json::Value, args: &[&str]| {
        let outcome = sandbox.run_with(&[&predict[..], args].concat(), format!("{row}\n"));
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        jsonl(&outcome.stdout).remove(0)["tags"].clone()
    };
    let expected = tags(json!({"tokens": words}), &[]);
    assert_eq!(
        tags(json!({"words": words}), &["--tokens", "words"]),
        expected
    );
    assert_eq!(
        tags(json!({"raw": "Ann slept"}), &["--text", "raw"]),
        expected
    );
}

/// Only stdout's reader may go without a word.
#[test]
fn another_pipe_that_breaks_is_an_error() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    let fifo = sandbox.path("answers");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let texts: String = (0..20_000).map(|n| format!("film {n}\n")).collect();
    sandbox.write("in.txt", texts);
    let args = [
        "predict", "--run", "out", "--input", "in.txt", "--output", "answers",
    ];
    let mut command = sandbox.command(&args);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let mut reader = BufReader::new(File::open(Path::new(&fifo)).unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains("film 0"), "{line}");
    drop(reader);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_contains(&stderr, &["error: answers: cannot write", "Broken pipe"]);
}
