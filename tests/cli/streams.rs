//! stdout and stderr that are closed, full, or go away: the display ends nothing, and results that
//! cannot be printed are an error that says so.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, assert_no_panic};

const FULL: &str = "cannot write to stdout: No space left on device";

fn full() -> Stdio {
    File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

/// A pipe that nobody reads any more.
fn closed() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run(sandbox: &Sandbox, args: &[&str], stdout: Stdio, stderr: Stdio) -> Ended {
    let mut command = sandbox.command(args);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// What a training decides, times aside.
fn kept(sandbox: &Sandbox, run: &str) -> (Vec<(String, Vec<u8>)>, Vec<f64>) {
    assert_whole(sandbox, run);
    let files = ["adapter_model.safetensors", "ls_llama.json", "labels.json"];
    let files = files.map(|name| format!("best/{name}"));
    let files = files.into_iter().chain(["predictions.jsonl".to_string()]);
    let read = |name: &str| std::fs::read(sandbox.path(&format!("{run}/{name}"))).unwrap();
    let files = files.map(|name| (name.clone(), read(&name)));
    (files.collect(), losses(sandbox, run))
}

#[test]
fn a_training_does_not_depend_on_who_listens() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    let expected = kept(&sandbox, "out");
    let check = |run: &str| assert!(kept(&sandbox, run) == expected, "{run}");

    // `train 2>&1 | head -1`: the reader goes after the first line.
    let mut command = sandbox.command(&train_args("head", &[]));
    let (reader, writer) = std::io::pipe().unwrap();
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().unwrap())
        .stderr(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).unwrap();
    assert!(line.starts_with("run folder"), "{line}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    check("head");

    type Streams = (&'static str, fn() -> Stdio, fn() -> Stdio, i32);
    let cases: [Streams; 5] = [
        ("full-stderr", Stdio::piped, full, 0),
        ("closed-stderr", Stdio::piped, closed, 0),
        ("closed-both", closed, closed, 0),
        ("full-both", full, full, 1),
        ("full-stdout", full, Stdio::piped, 1),
    ];
    for (name, stdout, stderr, code) in cases {
        let ended = run(&sandbox, &train_args(name, &[]), stdout(), stderr());
        assert_eq!(ended.code, Some(code), "{name}: {}", ended.stderr);
        check(name);
        if name == "full-stdout" {
            assert_contains(&ended.stderr, &["finished and saved in full-stdout", FULL]);
        }
    }
    // Closed before the program begins: no file of ours may get their numbers.
    for (name, closed) in [("no-stderr", "2>&-"), ("none", "<&- >&- 2>&-")] {
        let script = format!("exec \"$0\" \"$@\" {closed}");
        let program = sandbox.command(&train_args(name, &[]));
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(script)
            .arg(program.get_program())
            .args(program.get_args());
        shell.current_dir(sandbox.path(""));
        for (key, value) in program.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        assert_eq!(shell.output().unwrap().status.code(), Some(0), "{name}");
        check(name);
    }
}

#[test]
fn every_command_names_a_full_stdout_and_leaves_a_closed_one_quietly() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    for name in ["gold.jsonl", "pred.jsonl"] {
        sandbox.write(name, "{\"label\": \"pos\"}\n");
    }
    let score = ["score", "--gold", "gold.jsonl", "--pred", "pred.jsonl"];
    let commands: [&[&str]; 10] = [
        &["predict", "--run", "out", "a film"],
        &["evaluate", "--run", "out"],
        &["evaluate", "--run", "out", "--format", "json"],
        &score,
        &["config", "docs"],
        &["config", "show", "--config", "run.toml"],
        &["--help"],
        &["--version"],
        &["predict", "--help"],
        &["help", "train"],
    ];
    for args in commands {
        let usual = run(&sandbox, args, Stdio::piped(), Stdio::piped());
        assert_eq!(usual.code, Some(0), "{args:?}: {}", usual.stderr);
        assert!(!usual.stdout.is_empty(), "{args:?}");
        let ended = run(&sandbox, args, full(), Stdio::piped());
        assert_eq!(ended.code, Some(1), "{args:?}: {}", ended.stderr);
        assert_contains(&ended.stderr, &[FULL]);
        assert_no_panic(&ended.stderr, &format!("{args:?}"));
        assert_eq!(
            run(&sandbox, args, full(), full()).code,
            Some(1),
            "{args:?}"
        );
        let ended = run(&sandbox, args, closed(), Stdio::piped());
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
        assert!(
            !ended.stderr.contains("error"),
            "{args:?}: {}",
            ended.stderr
        );
        for stderr in [full(), closed()] {
            let ended = run(&sandbox, args, Stdio::piped(), stderr);
            assert_eq!(
                (ended.code, &ended.stdout),
                (Some(0), &usual.stdout),
                "{args:?}"
            );
        }
    }
    // Nor does the exit code of what fails depend on who hears of it.
    let failing: [(&[&str], i32); 4] = [
        (&["predict", "--run", "none", "a film"], 1),
        (&["evaluate", "--run", "out", "--split", "none"], 2),
        (&["score"], 2),
        (&["train", "--what"], 2),
    ];
    for (args, code) in failing {
        for stderr in [Stdio::piped(), full(), closed()] {
            assert_eq!(
                run(&sandbox, args, closed(), stderr).code,
                Some(code),
                "{args:?}"
            );
        }
    }
}

#[test]
fn what_is_written_and_what_failed_does_not_depend_on_who_reads_what_is_printed() {
    let sandbox = sequence();
    let init = [
        "init",
        "train.csv",
        "--model",
        "model",
        "--set",
        "lora.r=4",
        "--out",
    ];
    let of = |out| [&init[..], &[out]].concat();
    let usual = run(&sandbox, &of("a.toml"), Stdio::piped(), Stdio::piped());
    assert_eq!(usual.code, Some(0), "{}", usual.stderr);
    let ended = run(&sandbox, &of("b.toml"), closed(), Stdio::piped());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(sandbox.read("a.toml"), sandbox.read("b.toml"));

    let set = "train.learning_rate=1e30,1e-2";
    let sweep = [
        "sweep", "--config", "run.toml", "--run", "swept", "--set", set,
    ];
    let ended = run(&sandbox, &sweep, closed(), Stdio::piped());
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_contains(&ended.stderr, &["1 of 2 runs failed"]);
}

/// Log lines come from a library, and the bar of a terminal from another.
#[test]
fn log_lines_are_lost_as_quietly() {
    let sandbox = sequence();
    for stderr in [full(), closed()] {
        let mut command = sandbox.command(&train_args("out", &["train.epochs=1"]));
        command.env("LS_LLAMA_LOG", "trace").stdin(Stdio::null());
        let status = command
            .stdout(Stdio::null())
            .stderr(stderr)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(0));
        std::fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
}

/// As a window that is closed, or a connection that breaks, leaves a training under `nohup`.
#[test]
fn a_terminal_that_goes_away_ends_nothing() {
    if Command::new("script").arg("--version").output().is_err() {
        println!("left out: there is no program `script` to make a terminal");
        return;
    }
    let sandbox = sequence();
    let epochs = ["train.epochs=60"];
    train(&sandbox, "out", &epochs);
    let expected = kept(&sandbox, "out");
    let program = sandbox.command(&train_args("gone", &epochs));
    let words = [program.get_program()]
        .into_iter()
        .chain(program.get_args());
    let words: Vec<&str> = words.map(|word| word.to_str().unwrap()).collect();
    let mut script = Command::new("script");
    let inside = format!("trap '' HUP; exec {}", words.join(" "));
    script
        .args(["-q", "-e", "-c", &inside, "/dev/null"])
        .current_dir(sandbox.path(""));
    script
        .env("LS_LLAMA_CACHE", sandbox.path("cache"))
        .env("HF_HOME", sandbox.path("hf"));
    script
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut terminal = script.spawn().unwrap();
    // Once it draws its bar, the terminal goes.
    let mut drawn = BufReader::new(terminal.stdout.take().unwrap());
    let mut line = Vec::new();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("training ...") {
        line.clear();
        assert_ne!(
            drawn.read_until(b'\n', &mut line).unwrap(),
            0,
            "{}",
            String::from_utf8_lossy(&seen)
        );
        seen.extend_from_slice(&line);
    }
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    let began = Instant::now();
    while !sandbox.path("gone/report.json").exists() {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "the training did not finish"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(kept(&sandbox, "gone") == expected);
}
