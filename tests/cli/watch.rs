//! What one sees while a command works: bars, lines or nothing, words or JSON, much or little.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

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
