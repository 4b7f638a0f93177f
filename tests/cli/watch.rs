//! What one sees while a command works: bars, lines or nothing, words or JSON, much or little.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use ls_train::{Event, Observer};
use serde_json::Value;

use crate::resume::Runs;
use crate::runs::*;
use crate::sandbox::{Outcome, Sandbox, assert_contains, assert_no_panic, jsonl};

/// A training with further arguments.
fn train_with(sandbox: &Sandbox, run: &str, args: &[&str]) -> Outcome {
    let mut all = train_args(run, &["train.epochs=2"]);
    all.extend(args);
    sandbox.run(&all)
}

/// Whether a text moves a cursor or has colours.
fn is_drawn(text: &str) -> bool {
    text.contains('\r') || text.contains('\u{1b}')
}

/// Whether a text has codes for colours.
fn is_coloured(text: &str) -> bool {
    let number = |c: char| c.is_ascii_digit() || c == ';';
    let codes = text.split("\u{1b}[").skip(1);
    codes
        .map(|code| code.trim_start_matches(number))
        .any(|code| code.starts_with('m'))
}

/// The objects of a kind.
fn of_kind<'a>(objects: &'a [Value], event: &str) -> Vec<&'a Value> {
    objects
        .iter()
        .filter(|object| object["event"] == event)
        .collect()
}

/// Enough texts that their evaluation takes some pictures of a bar.
fn many() -> String {
    csv(&vec![reviews(); 100].concat())
}

const EVALUATE_MANY: [&str; 3] = ["evaluate", "--data", "many.csv"];

#[test]
fn progress_is_a_bar_or_lines_or_nothing() {
    let sandbox = sequence();
    // What stays is the same in each.
    let stays = |stderr: &str| {
        let parts = [
            "run folder",
            "training ...",
            "step 10 epoch 2.00 validation",
        ];
        assert_contains(stderr, &parts);
    };
    for mode in ["auto", "plain", "off"] {
        let outcome = train_with(&sandbox, mode, &["--progress", mode]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        stays(&outcome.stderr);
        assert!(!is_drawn(&outcome.stderr), "{mode}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains("tokens/s"), "{}", outcome.stderr);
    }
    let outcome = train_with(&sandbox, "bar", &["--progress", "bar"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    stays(&outcome.stderr);
    let parts = [
        "training [",
        "/10, ",
        " left",
        "loss ",
        " lr ",
        "grad norm ",
        " tokens/s",
        "evaluation in ",
        "(step 5)",
        "best accuracy ",
        "loading weights [",
        "tokenising train.csv [",
    ];
    assert_contains(&outcome.stderr, &parts);
    // What is printed at the end stands alone.
    assert!(!is_drawn(&outcome.stdout), "{}", outcome.stdout);
    let last = outcome.stderr.rsplit('\n').next().unwrap();
    // Behind the last line nothing is left.
    assert_eq!(last.rsplit("\u{1b}[2K").next(), Some(""), "{last:?}");

    // The others have their own, if they take long enough to be drawn.
    sandbox.write("many.csv", many());
    let evaluate_many = [&EVALUATE_MANY[..], &["--run", "bar", "--progress=bar"]].concat();
    let input: String = (0..40).map(|n| format!("film {n} was good\n")).collect();
    sandbox.write("texts.txt", input);
    let args = [
        "predict",
        "--run",
        "bar",
        "--input",
        "texts.txt",
        "--progress=bar",
    ];
    let outcome = sandbox.run(&args);
    assert_contains(&outcome.stderr, &["predicting ", "loading weights ["]);
    assert_eq!(jsonl(&outcome.stdout).len(), 40);
    let outcome = sandbox.run(&evaluate_many);
    let parts = ["evaluating [", "tokenising many.csv ["];
    assert_contains(&outcome.stderr, &parts);
    let outcome = sandbox.run(&[
        "export",
        "--run",
        "bar",
        "--out",
        "for-others",
        "--progress=bar",
    ]);
    assert_contains(&outcome.stderr, &["writing [", "loading weights ["]);
}

#[test]
fn without_a_terminal_a_line_comes_now_and_then() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    // Two texts, so far apart that the second is worth a line.
    let answered = |args: &[&str]| {
        let mut all = vec!["predict", "--run", "out"];
        all.extend(args);
        let mut command = sandbox.command(&all);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let modes: [&[&str]; 4] = [
        &[],
        &["--progress", "off"],
        &["--quiet"],
        &["--log-format", "json"],
    ];
    let mut children = modes.map(answered);
    for pause in [6, 0] {
        for child in &mut children {
            let stdin = child.stdin.as_mut().unwrap();
            stdin.write_all(b"the film was good\n").unwrap();
        }
        std::thread::sleep(Duration::from_secs(pause));
    }
    let [plain, off, quiet, json] = children.map(|child| {
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
        String::from_utf8(output.stderr).unwrap()
    });
    assert_contains(&plain, &["predicting: 2 inputs, 0.", " inputs/s"]);
    assert_eq!((off.as_str(), quiet.as_str()), ("", ""));
    let objects = jsonl(&json);
    let progress = of_kind(&objects, "progress");
    assert_eq!(progress.len(), 1, "{json}");
    assert_eq!(progress[0]["task"], "predicting");
    assert_eq!(progress[0]["done"], 2);
    assert_eq!(progress[0]["unit"], "inputs");
    assert!(progress[0]["per_second"].as_f64().unwrap() > 0.0);
}

#[test]
fn quiet_leaves_results_and_errors() {
    let sandbox = sequence();
    let usual = train_with(&sandbox, "usual", &[]);
    let quiet = train_with(&sandbox, "quiet", &["--quiet"]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
    assert_eq!(quiet.stdout.lines().count(), usual.stdout.lines().count());
    // A warning is logged, and is none of them.
    sandbox.write("gold.jsonl", "{\"label\": \"a\"}\n");
    sandbox.write("pred.jsonl", "{\"label\": \"a\", \"scores\": {\"a\": 7}}\n");
    let score = [
        "score",
        "--gold",
        "gold.jsonl",
        "--pred",
        "pred.jsonl",
        "-q",
    ];
    let outcome = sandbox.run(&score);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert_contains(&sandbox.run(&score[..5]).stderr, &["no log-loss"]);

    let failing: [&[&str]; 3] = [
        &["predict", "--run", "none", "a film"],
        &["evaluate", "--run", "usual", "--split", "none"],
        &["train", "--config", "none.toml"],
    ];
    for args in failing {
        let usual = sandbox.run(args);
        let mut quiet = args.to_vec();
        quiet.push("--quiet");
        let quiet = sandbox.run(&quiet);
        assert!(usual.stderr.starts_with("error: "), "{}", usual.stderr);
        assert_eq!(
            (quiet.code, quiet.stderr),
            (usual.code, usual.stderr),
            "{args:?}"
        );
    }
}

/// Every line is an object with what all of them have.
#[track_caller]
fn objects(stderr: &str) -> Vec<Value> {
    let objects = jsonl(stderr);
    for object in &objects {
        for key in ["timestamp", "level", "target", "event", "message"] {
            assert!(object[key].is_string(), "{key} is not in {object}");
        }
    }
    objects
}

#[test]
fn json_is_an_object_a_line_and_nothing_else() {
    let sandbox = sequence();
    let json = ["--log-format", "json"];
    let outcome = train_with(&sandbox, "out", &json);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let said = objects(&outcome.stderr);
    let one = |event: &str| match &of_kind(&said, event)[..] {
        [one] => (*one).clone(),
        others => panic!("{event}: {others:?}"),
    };
    assert_eq!(one("plan")["steps"], 10);
    assert_eq!(one("plan")["eval_steps"], 5);
    assert!(one("model")["trainable_parameters"].as_u64().unwrap() > 0);
    let data = of_kind(&said, "data");
    assert_eq!(data[0]["split"], "train");
    assert_eq!(
        data[0]["labels"],
        serde_json::json!({ "neg": 10, "pos": 10 })
    );
    assert_eq!(data[0]["cut"]["examples"], 20);
    let evaluations = of_kind(&said, "evaluation");
    let recorded = records(&sandbox, "out", "evaluation");
    assert_eq!(evaluations.len(), recorded.len());
    for (said, recorded) in evaluations.iter().zip(&recorded) {
        for key in ["split", "step", "loss", "metric", "value", "best", "scores"] {
            assert_eq!(said[key], recorded[key], "{key}");
        }
    }
    let phases: Vec<&Value> = of_kind(&said, "phase")
        .iter()
        .map(|one| &one["phase"])
        .collect();
    assert_eq!(phases, ["trial evaluation", "training", "validation"]);

    // Errors, of the command line too, and log lines.
    let failing: [(&[&str], i32); 4] = [
        (&["predict", "--run", "none", "a film"], 1),
        (&["train", "--set", "lora.r=0"], 2),
        (&["train", "--nonsense"], 2),
        (&["--progress", "bar", "config", "docs"], 2),
    ];
    for (args, code) in failing {
        let mut all = args.to_vec();
        all.extend(json);
        let outcome = sandbox.run(&all);
        assert_eq!(outcome.code, code, "{args:?}: {}", outcome.stderr);
        let said = objects(&outcome.stderr);
        let error = said.last().unwrap();
        assert_eq!(
            (&error["event"], &error["level"]),
            (&"error".into(), &"ERROR".into())
        );
        assert_eq!(error["exit_code"], code);
    }
    let mut command = sandbox.command(&["--log-format=json", "evaluate", "--run", "out"]);
    let output = command.env("RUST_LOG", "debug").output().unwrap();
    let said = objects(&String::from_utf8(output.stderr).unwrap());
    let logged = of_kind(&said, "log");
    let of_data = |object: &&&Value| object["target"] == "ls_data::source";
    assert!(logged.iter().any(|object| of_data(&object)), "{logged:?}");
    assert!(
        logged
            .iter()
            .all(|object| object["level"] == "DEBUG" || object["level"] == "INFO")
    );
}

/// A run that is stopped is told of, with how to go on.
#[cfg(unix)]
#[test]
fn json_tells_of_a_stop_too() {
    let sandbox = sequence();
    let mut args = train_args("out", &["train.epochs=100000"]);
    args.extend(["--log-format", "json"]);
    let mut command = sandbox.command_that_heeds_signals(&args);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    while !sandbox.path("out/best/labels.json").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let id = child.id().to_string();
    Command::new("kill").args(["-INT", &id]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = objects(&String::from_utf8(output.stderr).unwrap());
    let ended = of_kind(&said, "ended");
    assert!(
        ended[1]["message"]
            .as_str()
            .unwrap()
            .starts_with("go on with: "),
        "{ended:?}"
    );
}

#[test]
fn flags_stand_before_the_command_or_behind_it() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    let debug = "examples encoded in";
    let evaluate = |before: &[&str], behind: &[&str]| {
        let args = [before, &["evaluate", "--run", "out"], behind].concat();
        sandbox.run(&args).stderr
    };
    assert_eq!(evaluate(&[], &[]), "");
    for (flags, shown) in [
        (&["-v"][..], debug),
        (&["-vv"], debug),
        (&["--verbose"], debug),
    ] {
        assert_contains(&evaluate(flags, &[]), &[shown, "DEBUG", "ls_data::source"]);
        assert_contains(&evaluate(&[], flags), &[shown]);
    }
    sandbox.write("many.csv", many());
    let many = ["--data", "many.csv"];
    assert_contains(&evaluate(&["--progress", "bar"], &many), &["evaluating ["]);
    let both = evaluate(
        &["--progress", "off"],
        &[&many[..], &["--progress", "bar"]].concat(),
    );
    assert_contains(&both, &["evaluating ["]);
    // The environment wins.
    let logged = |set: &[(&str, &str)]| {
        let mut command = sandbox.command(&["evaluate", "--run", "out", "-v"]);
        let output = command.envs(set.iter().copied()).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(logged(&[("RUST_LOG", "error")]), "");
    assert_contains(&logged(&[("RUST_LOG", "")]), &[debug]);
    assert_contains(
        &logged(&[("RUST_LOG", "ls_data=loud")]),
        &["RUST_LOG=ls_data=loud is passed over", debug],
    );

    let refused: [(&[&str], &[&str]); 6] = [
        (
            &["--progress", "fancy"],
            &["invalid value 'fancy'", "auto, bar, plain, off"],
        ),
        (
            &["--log-format", "xml"],
            &["invalid value 'xml'", "text, json"],
        ),
        (&["--progress"], &["--progress <WAY>"]),
        (
            &["--quiet", "-v"],
            &["--quiet and --verbose contradict each other", "hint: "],
        ),
        (
            &["--quiet", "--progress", "bar"],
            &["--quiet and --progress contradict", "hint: "],
        ),
        (
            &["-q", "--progress", "plain"],
            &["--quiet and --progress contradict"],
        ),
    ];
    for (flags, says) in refused {
        for (before, behind) in [(flags, &[][..]), (&[], flags)] {
            let args = [before, &["evaluate", "--run", "out"], behind].concat();
            let outcome = sandbox.run(&args);
            assert_eq!(outcome.code, 2, "{args:?}: {}", outcome.stderr);
            assert_contains(&outcome.stderr, says);
            assert_eq!(outcome.stdout, "");
        }
    }
}

#[test]
fn a_terminal_has_a_bar_that_leaves_nothing() {
    if Command::new("script").arg("--version").output().is_err() {
        println!("left out: there is no program `script` to make a terminal");
        return;
    }
    let sandbox = sequence();
    let on_terminal = |run: &str, args: &[&str], dumb: bool| {
        let mut all = train_args(run, &[]);
        all.extend(args);
        let program = sandbox.command(&all);
        let words = [program.get_program()]
            .into_iter()
            .chain(program.get_args());
        let words: Vec<&str> = words.map(|word| word.to_str().unwrap()).collect();
        let mut script = Command::new("script");
        script.args(["-q", "-e", "-c", &words.join(" "), "/dev/null"]);
        script.current_dir(sandbox.path("")).stdin(Stdio::null());
        script
            .env("LS_LLAMA_CACHE", sandbox.path("cache"))
            .env("NO_COLOR", "1");
        script
            .env("TERM", if dumb { "dumb" } else { "xterm" })
            .env_remove("RUST_LOG");
        let output = script.output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        assert_no_panic(&text, run);
        text
    };
    let bar = on_terminal("bar", &[], false);
    assert_contains(&bar, &["training [", "/10", "tokens/s", "\u{1b}[2K"]);
    // No colours, and the results behind the last picture.
    assert!(!is_coloured(&bar), "{bar:?}");
    let results = &bar[bar.rfind("validation accuracy").unwrap()..];
    assert!(!results.contains('\u{1b}'), "{results:?}");
    for (run, args, dumb) in [
        ("off", &["--progress", "off"][..], false),
        ("plain", &["--progress", "plain"], false),
        ("dumb", &[], true),
        ("json", &["--log-format", "json"], false),
    ] {
        let text = on_terminal(run, args, dumb);
        assert!(
            !text.contains('\u{1b}') && !text.contains("training ["),
            "{run}: {text:?}"
        );
    }
}

/// Hears of evaluations: the phase, and how far each was.
#[derive(Default)]
struct Evaluations {
    phase: String,
    heard: Vec<(String, usize, usize)>,
}

impl Observer for Evaluations {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Phase(phase) => self.phase = (*phase).to_owned(),
            Event::Evaluating { done, total } => {
                self.heard.push((self.phase.clone(), *done, *total));
            }
            _ => {}
        }
    }
}

#[test]
fn an_evaluation_is_heard_of_before_its_first_batch() {
    let sandbox = sequence();
    let set = [
        "train.epochs=1",
        "train.baselines=true",
        "train.eval_batch_size=8",
    ];
    let mut observer = Evaluations::default();
    Runs::new(&sandbox, &set).observed("out", &mut observer);
    let one = |phase: &str| [0, 8, 16, 20].map(|done| (phase.to_owned(), done, 20));
    let mut expected = Vec::new();
    // That of the frozen model's epoch, and its score; then those of the run.
    for phase in [
        "frozen baseline",
        "frozen baseline",
        "training",
        "validation",
    ] {
        expected.extend(one(phase));
    }
    assert_eq!(observer.heard, expected);
}

#[test]
fn json_tells_apart_what_is_evaluated_and_says_why_a_run_failed() {
    let sandbox = sequence();
    let mut args = train_args("out", &["train.epochs=1", "train.baselines=true"]);
    args.extend(["--log-format", "json"]);
    let said = objects(&sandbox.run(&args).stderr);
    let tasks: Vec<(&Value, &Value)> = of_kind(&said, "evaluation")
        .into_iter()
        .map(|one| (&one["task"], &one["step"]))
        .collect();
    let (frozen, trained, step) = ("frozen baseline".into(), "training".into(), 5.into());
    assert_eq!(tasks, [(&frozen, &step), (&trained, &step)]);

    let sweep = [
        "sweep",
        "--config",
        "run.toml",
        "--run",
        "sweep",
        "--set",
        "train.learning_rate=1e30,1e-3",
        "--log-format=json",
    ];
    let outcome = sandbox.run(&sweep);
    let said = objects(&outcome.stderr);
    let failed = of_kind(&said, "run_failed");
    assert_eq!(failed.len(), 1, "{}", outcome.stderr);
    let failed = failed[0];
    let error = failed["error"].as_str().unwrap();
    assert!(!error.is_empty() && failed["message"].as_str().unwrap().contains(error));
    assert!(failed["hint"].is_string(), "{failed}");
}

/// Commands that are stopped while they are watched.
#[cfg(unix)]
mod stopped {
    use std::io::Read as _;
    use std::process::Child;
    use std::time::Instant;

    use super::*;

    fn spawn(sandbox: &Sandbox, args: &[&str]) -> Child {
        let mut command = sandbox.command_that_heeds_signals(args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    fn interrupt(child: &Child) {
        let id = child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status();
        assert!(sent.unwrap().success());
    }

    /// What it says until it is ended by the signal.
    #[track_caller]
    fn said(child: Child) -> String {
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{stderr}");
        stderr
    }

    /// A training that ends when it is stopped.
    fn endless<'a>(run: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
        let set = ["train.epochs=1000000", "train.eval_steps=1000000"];
        [&train_args(run, &set), flags].concat()
    }

    /// The numbers behind each time that a bar of a training is drawn: `training [==> ] 12/`.
    fn positions(stderr: &str) -> Vec<u64> {
        let drawn = stderr.split("training [").skip(1);
        let position = |bar: &str| bar.split("] ").nth(1)?.split('/').next()?.parse().ok();
        drawn.filter_map(position).collect()
    }

    /// Behind these last words nothing is drawn, and the line before has no bar in it.
    #[track_caller]
    fn is_left_clean(stderr: &str, words: &str) {
        let (before, behind) = stderr
            .rsplit_once(words)
            .unwrap_or_else(|| panic!("{words} is not in {stderr:?}"));
        assert!(
            !is_drawn(behind) && behind.ends_with('\n'),
            "behind it: {behind:?}"
        );
        // Of two lines the upper is where what follows begins.
        let before = before.trim_end_matches("\u{1b}[1A");
        let last = &before[before.len().saturating_sub(300)..];
        assert!(
            last.ends_with("\u{1b}[2K") || last.ends_with('\n'),
            "before it: {last:?}"
        );
    }

    #[test]
    fn a_training_is_watched_stopped_and_goes_on() {
        let sandbox = sequence();
        let modes: [(&str, &[&str]); 3] = [
            ("plain", &["--progress", "plain"]),
            ("json", &["--log-format", "json"]),
            ("bar", &["--progress", "bar"]),
        ];
        let children = modes.map(|(run, flags)| spawn(&sandbox, &endless(run, flags)));
        // Two lines of each.
        std::thread::sleep(Duration::from_secs(12));
        children.iter().for_each(interrupt);
        let [plain, json, bar] = children.map(said);

        let line = plain
            .lines()
            .find(|line| line.contains("] training: step "));
        let line = line.unwrap_or_else(|| panic!("{plain}"));
        let parts = [
            "Z] training: step ",
            " of 5000000 (0 %) epoch ",
            " loss ",
            " lr ",
            " grad norm ",
            " tokens/s, evaluation in ",
            " (step 1000000)",
            " left",
        ];
        assert_contains(line, &parts);
        let time = line.strip_prefix('[').unwrap().split(']').next().unwrap();
        assert_eq!(time.len(), "2026-01-31T12:34:56Z".len(), "{line}");

        let said_as_json = objects(&json);
        let step = of_kind(&said_as_json, "step")[0];
        assert_eq!(
            (&step["task"], &step["steps"]),
            (&"training".into(), &5_000_000.into())
        );
        let at = step["step"].as_u64().unwrap() as usize;
        let recorded = &records(&sandbox, "json", "step")[at - 1];
        for key in ["step", "epoch", "loss", "learning_rate", "grad_norm"] {
            assert_eq!(step[key], recorded[key], "{key}");
        }
        assert_eq!(step["next_evaluation"], 1_000_000);
        for key in [
            "loss_smoothed",
            "tokens_per_second",
            "seconds_to_evaluation",
            "seconds_left",
        ] {
            assert!(step[key].as_f64().unwrap() > 0.0, "{key}: {step}");
        }
        for key in ["metric", "best", "best_step"] {
            assert!(step[key].is_null(), "{key}: {step}");
        }

        is_left_clean(&bar, "go on with: ");
        let before = positions(&bar);
        assert!(before.len() > 20 && before.is_sorted(), "{before:?}");

        // It goes on where it was.
        let child = spawn(&sandbox, &["train", "--resume", "bar", "--progress", "bar"]);
        std::thread::sleep(Duration::from_secs(4));
        interrupt(&child);
        let bar = said(child);
        assert_contains(&bar, &["going on from the checkpoint of step "]);
        is_left_clean(&bar, "go on with: ");
        let behind = positions(&bar);
        let drawn = behind.iter().copied().filter(|position| *position > 0);
        let drawn: Vec<u64> = drawn.collect();
        assert!(drawn.len() > 5 && drawn.is_sorted(), "{drawn:?}");
        assert!(drawn[0] >= *before.last().unwrap(), "{before:?} {drawn:?}");
    }

    #[test]
    fn a_stop_before_the_training_is_said_however_quiet_and_leaves_no_bar() {
        let sandbox = sequence();
        // Seconds of encoding.
        sandbox.write("train.csv", csv(&vec![reviews(); 30_000].concat()));
        let spawned =
            |run, flags: &[&str]| spawn(&sandbox, &[&train_args(run, &[]), flags].concat());
        let mut bar = spawned("bar", &["--progress", "bar"]);
        let others = [&["--quiet"][..], &["--log-format", "json"]];
        let [quiet, json] = others.map(|flags| spawned("other", flags));
        let mut seen = Vec::new();
        let stderr = bar.stderr.as_mut().unwrap();
        while !String::from_utf8_lossy(&seen).contains("tokenising train.csv [") {
            let mut some = [0; 256];
            let count = stderr.read(&mut some).unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend(&some[..count]);
        }
        std::thread::sleep(Duration::from_millis(300));
        [&bar, &quiet, &json].into_iter().for_each(interrupt);
        let words = "stopped before the training began";
        let bar = String::from_utf8_lossy(&seen).into_owned() + &said(bar);
        is_left_clean(&bar, words);
        let quiet = said(quiet);
        assert!(
            quiet.starts_with(words) && quiet.lines().count() == 1,
            "{quiet}"
        );
        let objects = objects(&said(json));
        let last = objects.last().unwrap();
        assert_eq!(last["event"], "ended");
        assert!(
            last["message"].as_str().unwrap().starts_with(words),
            "{last}"
        );
    }

    /// A terminal that is stopped with Ctrl-S takes nothing either.
    #[test]
    fn a_second_signal_ends_what_nobody_reads() {
        let sandbox = sequence();
        let args = endless("out", &["--progress", "bar", "-vv"]);
        let mut child = spawn(&sandbox, &args);
        // The pipe is full when the run stands.
        let size = || std::fs::metadata(sandbox.path("out/metrics.jsonl")).map_or(0, |of| of.len());
        let began = Instant::now();
        let (mut last, mut since) = (0, Instant::now());
        while last == 0 || since.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(50));
            let now = size();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            assert!(began.elapsed() < Duration::from_secs(60), "it never stood");
        }
        interrupt(&child);
        std::thread::sleep(Duration::from_millis(300));
        assert!(
            child.try_wait().unwrap().is_none(),
            "the first signal saves"
        );
        interrupt(&child);
        let signalled = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if signalled.elapsed() > Duration::from_secs(10) {
                child.kill().unwrap();
                panic!("the second signal did not end it");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(status.code(), Some(130));
    }
}
