//! `predict --output` that is killed, interrupted or stopped by a fault, and continued: the file is
//! that of an undisturbed run, byte for byte.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::mutate::Random;
use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, says};

const PREDICT: [&str; 7] = [
    "predict", "--run", "out", "--input", "in.jsonl", "--output", "answers",
];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&PREDICT[..], more].concat()
}

fn bytes(sandbox: &Sandbox, name: &str) -> Vec<u8> {
    std::fs::read(sandbox.path(name)).unwrap()
}

/// Where the answers are, and nothing else of them.
#[track_caller]
fn nothing_is_left(sandbox: &Sandbox) {
    let names = std::fs::read_dir(sandbox.path("")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = names
        .filter(|name| name.contains(".part") || name.starts_with(".tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Rows of many lengths; some of them blank, some bad.
fn rows(count: usize, bad: bool) -> String {
    let row = |n: usize| match n % 97 {
        13 => json!({"id": n, "text": " "}),
        31 if bad => json!({"id": n, "text": n}),
        _ => json!({"id": n, "text": "the film was bright ".repeat(1 + n % 7), "n": [n, null]}),
    };
    json_lines((0..count).map(row))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// `LS_LLAMA_PREDICT_KILLS` says how many kills there are, `LS_LLAMA_SEED` when they come.
#[test]
fn answers_that_were_killed_at_any_moment_go_on() {
    let kills = number("LS_LLAMA_PREDICT_KILLS").unwrap_or(20);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("LS_LLAMA_SEED").unwrap_or(now.as_nanos() as u64);
    println!("{kills} kills, LS_LLAMA_SEED={seed}");
    let mut random = Random(seed);
    let cases: [(Sandbox, &[&str]); 4] = [
        (sequence(), &["--skip-bad-rows"]),
        (token(), &["--skip-bad-rows", "--format", "text"]),
        (token(), &["--skip-bad-rows", "--format", "conll"]),
        (
            sequence(),
            &["--skip-bad-rows", "--strict", "--format", "text"],
        ),
    ];
    let (mut killed, mut continued) = (0, 0);
    for (case, (sandbox, flags)) in cases.iter().enumerate() {
        train(sandbox, "out", &["train.epochs=1"]);
        sandbox.write("in.jsonl", rows(6000, true));
        let began = Instant::now();
        let usual = sandbox.run(&with(flags));
        assert_eq!(usual.code, 0, "{}", usual.stderr);
        let took = began.elapsed().as_micros() as usize;
        nothing_is_left(sandbox);
        let expected = bytes(sandbox, "answers");
        std::fs::remove_file(sandbox.path("answers")).unwrap();

        let of_case = kills * (case as u64 + 1) / 4 - kills * case as u64 / 4;
        let mut left = of_case;
        while left > 0 {
            let mut command = sandbox.command(&with(&[flags, &["--resume"][..]].concat()));
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            std::thread::sleep(Duration::from_micros(random.below(took * 11 / 10) as u64));
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            left -= 1;
            killed += usize::from(output.status.code().is_none());
            let said = String::from_utf8(output.stderr).unwrap();
            continued += usize::from(
                said.contains("inputs are answered") && !said.contains("part: 0 inputs"),
            );
            if sandbox.path("answers").exists() {
                // It was done before it was killed, or all but the last step.
                let whole = sandbox.run(&with(&[flags, &["--resume"][..]].concat()));
                assert_eq!(whole.code, 0, "{}", whole.stderr);
                assert!(bytes(sandbox, "answers") == expected);
                nothing_is_left(sandbox);
                std::fs::remove_file(sandbox.path("answers")).unwrap();
            }
        }
        let last = sandbox.run(&with(&[flags, &["--resume"][..]].concat()));
        assert_eq!(last.code, 0, "{}", last.stderr);
        assert!(bytes(sandbox, "answers") == expected, "{flags:?}");
        nothing_is_left(sandbox);
        // What is said of all answers is what the undisturbed run says.
        for line in usual.stderr.lines() {
            assert!(
                last.stderr.contains(line),
                "{line:?} is not in {}",
                last.stderr
            );
        }
    }
    println!("{killed} of {kills} were killed while they ran, {continued} went on with answers");
}

/// Runs until some answers are kept, and is then sent a signal.
fn interrupted(sandbox: &Sandbox, args: &[&str], signal: &str) -> (Option<i32>, String) {
    let mut command = sandbox.command_that_heeds_signals(args);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let log = sandbox.path("answers.part.progress");
    let lines = || {
        std::fs::read_to_string(&log)
            .unwrap_or_default()
            .lines()
            .count()
    };
    let before = lines().max(1);
    let began = Instant::now();
    while lines() <= before {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Command::new("kill")
        .args(["-s", signal, &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    let output = child.wait_with_output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_signal_ends_it_behind_the_answers_at_hand_with_the_command_that_goes_on() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    sandbox.write("in.jsonl", rows(30_000, false));
    sandbox.ok(&PREDICT);
    let expected = bytes(&sandbox, "answers");
    std::fs::remove_file(sandbox.path("answers")).unwrap();
    // Flags stand before the command too.
    let off = ["--progress", "off"];
    for (signal, code, flags) in [("INT", 130, &off[..]), ("TERM", 143, &[])] {
        let before = [flags, &PREDICT].concat();
        let (found, stderr) = interrupted(&sandbox, &before, signal);
        assert_eq!(found, Some(code), "{stderr}");
        assert_contains(
            &stderr,
            &["inputs are answered in ", "answers.part; go on with: "],
        );
        // Once more, in the middle of what is continued.
        let (found, again) = interrupted(&sandbox, &with(&["--resume"]), signal);
        assert_eq!(found, Some(code), "{again}");
        let shown = stderr
            .lines()
            .find_map(|line| line.split_once("go on with: "));
        let shown = shown.unwrap().1.to_string();
        let own = sandbox.command(&[]);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &shown])
            .current_dir(sandbox.path(""))
            .stdin(Stdio::null());
        for (key, value) in own.get_envs() {
            if let Some(value) = value {
                shell.env(key, value);
            }
        }
        let output = shell.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(bytes(&sandbox, "answers") == expected);
        nothing_is_left(&sandbox);
        std::fs::remove_file(sandbox.path("answers")).unwrap();
    }
}

#[test]
fn a_fault_is_mended_and_the_answers_go_on() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    let good = rows(1500, false);
    let lines: Vec<&str> = good.lines().collect();
    let broken = format!(
        "{}\n{{}}\n{}\n",
        lines[..1000].join("\n"),
        lines[1000..].join("\n")
    );
    sandbox.write("in.jsonl", &good);
    sandbox.ok(&PREDICT);
    let expected = bytes(&sandbox, "answers");
    sandbox.write("answers", "kept");
    sandbox.write("in.jsonl", &broken);
    let outcome = sandbox.run(&PREDICT);
    let says_where = [
        "in.jsonl:1001",
        "mend the row, or leave it out with --skip-bad-rows",
        "1000 inputs are answered in ",
        "--resume",
    ];
    says(&outcome, 1, &says_where);
    assert_eq!(sandbox.read("answers"), "kept");
    assert_eq!(sandbox.read("answers.part").lines().count(), 1000);

    // Neither begun again without a word nor continued with something else.
    let before = sandbox.files();
    let refused: [(&[&str], &[&str]); 3] = [
        (
            &[],
            &[
                "answers.part is there, with the answers to 1000 inputs",
                "--resume",
                "delete",
            ],
        ),
        (
            &["--resume", "--format", "text"],
            &["--format was jsonl, is text", "delete"],
        ),
        (
            &["--resume", "--max-length", "9"],
            &["max_length was ", ", is 9"],
        ),
    ];
    for (flags, parts) in refused {
        says(&sandbox.run(&with(flags)), 2, parts);
        assert!(sandbox.files() == before, "{flags:?}");
    }
    let device = PREDICT.map(|arg| if arg == "answers" { "/dev/null" } else { arg });
    let device = [&device[..], &["--resume"]].concat();
    says(&sandbox.run(&device), 2, &["/dev/null is no file"]);
    sandbox.write("in.jsonl", lines[..900].join("\n"));
    says(
        &sandbox.run(&with(&["--resume"])),
        2,
        &[
            "in.jsonl has 900 usable inputs, and ",
            "answers.part the answers to 1000",
        ],
    );
    sandbox.write("in.jsonl", good.replacen("bright", "bleak", 1));
    says(
        &sandbox.run(&with(&["--resume"])),
        2,
        &["the first 1000 inputs of in.jsonl are not those that "],
    );

    sandbox.write("in.jsonl", &good);
    sandbox.ok(&with(&["--resume"]));
    assert!(bytes(&sandbox, "answers") == expected);
    nothing_is_left(&sandbox);
    // There is nothing to go on with: from the beginning.
    std::fs::remove_file(sandbox.path("answers")).unwrap();
    sandbox.ok(&with(&["--resume"]));
    assert!(bytes(&sandbox, "answers") == expected);
}

#[test]
fn another_model_is_not_taken_for_the_one_that_began() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    sandbox.write("in.jsonl", format!("{}{{}}\n", rows(600, false)));
    assert_eq!(sandbox.run(&PREDICT).code, 1);
    let part = bytes(&sandbox, "answers.part");
    train(&sandbox, "other", &["train.epochs=2"]);
    std::fs::rename(sandbox.path("out"), sandbox.path("first")).unwrap();
    std::fs::rename(sandbox.path("other"), sandbox.path("out")).unwrap();
    let outcome = sandbox.run(&with(&["--resume"]));
    says(
        &outcome,
        2,
        &["answers.part was begun otherwise: adapter_model.safetensors was "],
    );
    assert!(bytes(&sandbox, "answers.part") == part);
    // A folder that was moved is the same model.
    let moved = with(&["--resume"])
        .into_iter()
        .map(|arg| if arg == "out" { "first" } else { arg });
    let moved: Vec<&str> = moved.collect();
    says(&sandbox.run(&moved), 1, &["in.jsonl:601"]);
    // Its scale is the configuration's alone.
    sandbox.edit_json(
        "first/best/adapter_config.json",
        serde_json::json!({"lora_alpha": 3.0}),
    );
    says(
        &sandbox.run(&moved),
        2,
        &["answers.part was begun otherwise: adapter_config.json was "],
    );
}

#[test]
fn stdin_is_passed_over_too() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    let args = ["predict", "--run", "out", "--output", "answers", "--resume"];
    let inputs = rows(1400, false);
    let outcome = sandbox.run_with(&args, &inputs);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let expected = bytes(&sandbox, "answers");
    std::fs::remove_file(sandbox.path("answers")).unwrap();
    let cut: usize = inputs.lines().take(800).map(|line| line.len() + 1).sum();
    let outcome = sandbox.run_with(&args, format!("{}{{}}\n", &inputs[..cut]));
    says(
        &outcome,
        1,
        &[
            "stdin:801",
            "800 inputs are answered",
            "(with the same inputs on stdin)",
        ],
    );
    let outcome = sandbox.run_with(&args, &inputs);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(bytes(&sandbox, "answers") == expected);
    nothing_is_left(&sandbox);
}

#[test]
fn a_command_that_answers_nothing_leaves_nothing() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    sandbox.write("in.jsonl", "");
    refused(&sandbox, &PREDICT, 1, &["in.jsonl: holds no examples"]);
    refused(
        &sandbox,
        &with(&["--resume"]),
        1,
        &["in.jsonl: holds no examples"],
    );
    sandbox.write("in.jsonl", "{}\n");
    refused(&sandbox, &PREDICT, 1, &["in.jsonl:1"]);
    let no_run = PREDICT.map(|arg| if arg == "out" { "none" } else { arg });
    refused(&sandbox, &no_run, 1, &["none: not a run folder"]);
    let resume = ["predict", "--run", "out", "--resume", "a film"];
    refused(&sandbox, &resume, 2, &["--output"]);
    // Interrupted before the first answer, with and without the first bytes of the inputs.
    for first in ["", "{\"text\": \"fi"] {
        let mut command = sandbox.command(&["predict", "--run", "out", "--output", "answers"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(first.as_bytes()).unwrap();
        let id = child.id().to_string();
        let before = Instant::now();
        while !hears(&id) {
            assert!(before.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(100));
        nothing_is_left(&sandbox);
        assert!(
            Command::new("kill")
                .args(["-s", "TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(143), "{stderr}");
        assert_contains(&stderr, &["stopped before the first answer"]);
        drop(stdin);
        nothing_is_left(&sandbox);
    }
}

/// Whether a process hears SIGTERM, which it does once its model is loaded.
fn hears(id: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    u64::from_str_radix(mask.unwrap().trim(), 16).unwrap() >> 14 & 1 == 1
}

/// A kill between the last two steps, or a progress that could not be removed.
#[test]
fn a_progress_without_answers_takes_no_finished_file_away() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    sandbox.write("in.jsonl", format!("{}{{}}\n", rows(600, false)));
    assert_eq!(sandbox.run(&PREDICT).code, 1);
    let progress = bytes(&sandbox, "answers.part.progress");
    std::fs::remove_file(sandbox.path("answers.part")).unwrap();
    sandbox.write("in.jsonl", rows(600, false));
    for resume in [&[][..], &["--resume"]] {
        sandbox.write("answers.part.progress", &progress);
        sandbox.write("answers", "those of yesterday");
        sandbox.ok(&with(resume));
        assert_eq!(sandbox.read("answers").lines().count(), 600);
        nothing_is_left(&sandbox);
    }
}

/// Answers that are all there, and only have to take their place, are compared too.
#[test]
fn whole_answers_are_compared_before_they_take_their_place() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    let good = rows(600, false);
    sandbox.write("in.jsonl", &good);
    sandbox.ok(&PREDICT);
    let expected = bytes(&sandbox, "answers");
    // All are answered, and the last row is at fault.
    sandbox.write("in.jsonl", format!("{good}{{}}\n"));
    assert_eq!(sandbox.run(&PREDICT).code, 1);
    let mut part = bytes(&sandbox, "answers.part");
    part.extend(b"behind the last sync");
    sandbox.write("answers.part", &part);
    sandbox.write("in.jsonl", &good);
    let text = with(&["--resume", "--format", "text"]);
    says(&sandbox.run(&text), 2, &["--format was jsonl, is text"]);
    sandbox.write("in.jsonl", good.replacen("bright", "bleak", 1));
    let outcome = sandbox.run(&with(&["--resume"]));
    says(&outcome, 2, &["are not those that ", "delete "]);
    // Not the command that just failed.
    assert!(!outcome.stderr.contains("go on with"), "{}", outcome.stderr);
    assert!(bytes(&sandbox, "answers.part") == expected);
    sandbox.write("in.jsonl", &good);
    sandbox.ok(&with(&["--resume"]));
    assert!(bytes(&sandbox, "answers") == expected);
    nothing_is_left(&sandbox);
}

#[test]
fn what_is_in_the_way_of_the_answers_is_named_and_their_permissions_stay() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    sandbox.write("in.jsonl", rows(5, false));
    for name in ["answers.part", "answers.part.progress"] {
        std::fs::create_dir(sandbox.path(name)).unwrap();
        refused(&sandbox, &PREDICT, 2, &[&format!("{name} is a folder")]);
        std::fs::remove_dir(sandbox.path(name)).unwrap();
        let made = Command::new("mkfifo").arg(sandbox.path(name)).status();
        assert!(made.unwrap().success());
        says(&sandbox.run(&PREDICT), 2, &[&format!("{name} is no file")]);
        std::fs::remove_file(sandbox.path(name)).unwrap();
        nothing_is_left(&sandbox);
    }
    let folder = PREDICT.map(|arg| if arg == "in.jsonl" { "out" } else { arg });
    refused(&sandbox, &folder, 2, &["--input out is a folder"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        sandbox.write("answers", "private");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(sandbox.path("answers"), private).unwrap();
        sandbox.ok(&PREDICT);
        let found = std::fs::metadata(sandbox.path("answers")).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
    }
}

/// Names that are no UTF-8 stand in the command that goes on as a shell reads them.
#[cfg(target_os = "linux")]
#[test]
fn the_command_that_goes_on_names_any_file() {
    use std::os::unix::ffi::OsStrExt as _;
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=1"]);
    sandbox.write("in.jsonl", format!("{}{{}}\n", rows(600, false)));
    let name = std::ffi::OsStr::from_bytes(b"stra\xdfe it's");
    let mut command = sandbox.command(&["predict", "--run", "out", "--input", "in.jsonl"]);
    let output = command.arg("--output").arg(name).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_contains(&stderr, &["--skip-bad-rows"]);
    sandbox.write("in.jsonl", rows(600, false));
    let shown = stderr.rsplit_once("go on with: ").unwrap().1;
    let mut shell = Command::new("sh");
    shell.args(["-c", shown]).current_dir(sandbox.path(""));
    for (key, value) in sandbox.command(&[]).get_envs() {
        if let Some(value) = value {
            shell.env(key, value);
        }
    }
    let output = shell.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}: {stderr}");
    let answers = std::fs::read_to_string(sandbox.path("").join(name)).unwrap();
    assert_eq!(answers.lines().count(), 600);
    let left = std::fs::read_dir(sandbox.path("")).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name());
    assert!(
        left.into_iter()
            .all(|left| !left.to_string_lossy().contains(".part"))
    );
}
