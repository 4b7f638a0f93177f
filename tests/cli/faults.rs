//! Errors at every call that touches a file: `faults.c`, preloaded, lets the nth one fail.
//!
//! Whatever fails, the program ends with 0 and the result of an undisturbed run, or with 1 and a
//! message that names the place; what was kept before is whole; and the next run succeeds. Here
//! some of the calls are tried, each with one error. `LS_LLAMA_FAULTS=400 cargo test -p ls-cli
//! --test cli faults` tries so many, `LS_LLAMA_FAULTS=all` every one with every error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use tempfile::TempDir;

use crate::resume::{assert_same, left};
use crate::runs::{RUN_FOLDER, SEQUENCE, assert_whole, csv, reviews, sequence, train, train_args};
use crate::sandbox::{Outcome, Sandbox, assert_contains, assert_no_panic, says};

/// `EINTR`, `EIO`, `EACCES`, `ENOSPC`, and writes of half the bytes.
const ERRORS: [i32; 5] = [4, 5, 13, 28, 0];
/// Calls that are tried of each command, unless all are.
const SAMPLE: usize = 40;

/// The compiled layer.
static LAYER: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let layer = dir.path().join("faults.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cli/faults.c");
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&layer);
    let made = command.args([source, "-ldl"]).output().unwrap();
    let says = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{says}");
    (dir, layer)
});

/// A call that was counted.
struct Call {
    kind: String,
    path: String,
    failed: bool,
}

/// Runs the binary; the `nth` call that touches something below `under` fails.
fn run(
    sandbox: &Sandbox,
    args: &[&str],
    under: &str,
    nth: usize,
    error: i32,
) -> (Outcome, Vec<Call>) {
    let log = LAYER
        .0
        .path()
        .join(format!("{:?}", std::thread::current().id()));
    let _ = std::fs::remove_file(&log);
    let root = sandbox.path("").canonicalize().unwrap();
    let under = match under {
        "" => root.clone(),
        under => root.join(under),
    };
    let mut command = sandbox.command(args);
    command
        .env("LD_PRELOAD", &LAYER.1)
        .env("FAULTS_UNDER", under)
        .env("FAULTS_NTH", nth.to_string())
        .env("FAULTS_ERRNO", error.to_string())
        .env("FAULTS_LOG", &log)
        .current_dir(&root);
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let outcome = Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    };
    let calls = std::fs::read_to_string(&log).unwrap_or_default();
    let calls = calls.lines().map(|line| {
        let (call, failed) = match line.strip_suffix(" !") {
            Some(call) => (call, true),
            None => (line, false),
        };
        let (kind, path) = call.split_once(' ').unwrap();
        Call {
            kind: kind.into(),
            path: path.into(),
            failed,
        }
    });
    (outcome, calls.collect())
}

/// Which calls fail with which error, of so many.
fn tries(calls: usize, writes: usize) -> Vec<(usize, i32)> {
    let of = |error| if error == 0 { writes } else { calls };
    let set = std::env::var("LS_LLAMA_FAULTS").unwrap_or_default();
    if set == "all" {
        let each = |error| (1..=of(error)).map(move |nth| (nth, error));
        return ERRORS.into_iter().flat_map(each).collect();
    }
    let count = set.parse().unwrap_or(SAMPLE);
    let error = |place: usize| ERRORS[place % ERRORS.len()];
    let spread = |place: usize| (1 + place * of(error(place)) / count, error(place));
    (0..count).map(spread).collect()
}

/// Tries them all, whatever becomes of each: how many ended the command.
#[allow(clippy::print_stdout)]
fn each(tries: Vec<(usize, i32)>, one: impl Fn(usize, i32) -> bool) {
    let count = tries.len();
    let (mut ended, mut wrong) = (0, Vec::new());
    for (nth, error) in tries {
        match catch_unwind(AssertUnwindSafe(|| one(nth, error))) {
            Ok(well) => ended += usize::from(!well),
            Err(_) => wrong.push((nth, error)),
        }
    }
    println!("{count} faults, {ended} of which ended the command");
    assert_eq!(wrong, [], "of {count}");
    assert!(ended > count / 4, "{ended} of {count}");
}

/// Sees that a run ended well, or with a message that names what failed; says which.
fn ended(sandbox: &Sandbox, outcome: &Outcome, calls: &[Call], what: &str) -> bool {
    let Outcome { code, stderr, .. } = outcome;
    assert!(matches!(code, 0 | 1), "{what}: exit code {code}: {stderr}");
    assert_no_panic(stderr, what);
    let failed = calls.iter().find(|call| call.failed);
    let here = sandbox.path("").canonicalize().unwrap();
    if let (1, Some(Call { path, .. })) = (code, failed) {
        if here.as_path() == path {
            let whole = format!("{}: cannot", here.display());
            let named = stderr.contains(".: cannot") || stderr.contains(&whole);
            assert!(named, "{what}: {stderr}");
            return false;
        }
        // A file that is not whole yet goes by its folder.
        let mut names = path
            .rsplit('/')
            .take(2)
            .filter(|name| !name.starts_with(".tmp-"));
        assert!(names.any(|name| stderr.contains(name)), "{what}: {stderr}");
    }
    *code == 0
}

#[test]
fn whatever_fails_in_training_is_named_and_leaves_what_was_kept() {
    let sandbox = sequence();
    sandbox.write("run.toml", SEQUENCE.replace("epochs = 2", "epochs = 3"));
    let args = |run: &'static str| ["train", "--config", "run.toml", "--run", run];
    let (outcome, calls) = run(&sandbox, &args("whole"), "", 0, 5);
    says(&outcome, 0, &[]);
    let writes = calls.iter().filter(|call| call.kind == "write").count();
    assert!(calls.len() > 200 && writes > 20, "{} {writes}", calls.len());
    let of = |run: &str, name: &str| std::fs::read(sandbox.path(&format!("{run}/{name}"))).unwrap();
    let same = |run: &str, what: &str| {
        let mut listing = sandbox.listing(run);
        // The old one may have been what could not be removed. A run ends well without its
        // checkpoint, and without its page.
        listing.retain(|name| !name.starts_with(".best.") && !name.starts_with("checkpoints/"));
        listing.retain(|name| name != "report.html");
        let mut expected = RUN_FOLDER.to_vec();
        expected.retain(|name| *name != "report.html");
        assert_eq!(listing, expected, "{what}");
        for name in ["best/adapter_model.safetensors", "predictions.jsonl"] {
            assert_eq!(of(run, name), of("whole", name), "{what}: {name}");
        }
    };
    each(tries(calls.len(), writes), |nth, error| {
        let _ = std::fs::remove_dir_all(sandbox.path("out"));
        let (outcome, calls) = run(&sandbox, &args("out"), "", nth, error);
        let call = calls.iter().find(|call| call.failed);
        let what = call.map_or(String::new(), |call| format!("{} {}", call.kind, call.path));
        let what = format!("call {nth} fails with {error}: {what}");
        let well = ended(&sandbox, &outcome, &calls, &what);
        if well {
            same("out", &what);
        } else {
            // What is there is whole, and nothing is left that is not.
            for name in sandbox.listing("out") {
                let removing = call.is_some_and(|call| call.kind == "remove");
                assert!(!name.contains(".tmp-") || removing, "{what}: {name}");
                if name.ends_with(".json") {
                    sandbox.json(&format!("out/{name}"));
                }
            }
            if sandbox.path("out/best").exists() && sandbox.path("out/config.toml").exists() {
                let found = sandbox.run(&["predict", "--run", "out", "hi"]);
                assert_eq!(found.code, 0, "{what}: {}", found.stderr);
            }
            let resume = [&args("out")[..], &["--resume"]].concat();
            let resumed = sandbox.run(&resume);
            // The report may be what could not be synced.
            if resumed.code != 2 || !resumed.stderr.contains("finished") {
                assert_eq!(resumed.code, 0, "{what}: {}", resumed.stderr);
            }
            same("out", &what);
        }
        well
    });
}

/// Where the best model finds no room the steps up to it are not lost, and its evaluation is made
/// again when there is some.
#[test]
fn a_best_model_without_room_costs_no_step() {
    let sandbox = sequence();
    train(&sandbox, "whole", &[]);
    let args = ["train", "--config", "run.toml", "--run", "out"];
    let (outcome, _) = run(&sandbox, &args, "out/.best.next", 1, 28);
    says(
        &outcome,
        1,
        &["cannot write", "hint: go on with: ", " train --resume out"],
    );
    let checkpoints = sandbox.listing("out/checkpoints");
    assert_eq!(checkpoints, ["checkpoint-5.safetensors"]);
    let outcome = sandbox.run(&["train", "--resume", "out"]);
    says(
        &outcome,
        0,
        &["going on from the checkpoint of step 5 of 10"],
    );
    assert_same(&left(&sandbox, "out"), &left(&sandbox, "whole"), "no room");
}

#[test]
fn whatever_fails_in_a_prediction_is_named_and_leaves_the_old_answers() {
    let sandbox = sequence();
    train(&sandbox, "run", &[]);
    sandbox.write("in.csv", csv(&reviews()));
    let output = "answered/out.jsonl";
    let args = [
        "predict", "--run", "run", "--input", "in.csv", "--output", output,
    ];
    std::fs::create_dir(sandbox.path("answered")).unwrap();
    let (outcome, calls) = run(&sandbox, &args, "", 0, 5);
    says(&outcome, 0, &[]);
    let writes = calls.iter().filter(|call| call.kind == "write").count();
    let answers = sandbox.read(output);
    each(tries(calls.len(), writes), |nth, error| {
        std::fs::remove_dir_all(sandbox.path("answered")).unwrap();
        sandbox.write(output, "old");
        let (outcome, calls) = run(&sandbox, &args, "", nth, error);
        let call = calls.iter().find(|call| call.failed);
        let what = call.map_or(String::new(), |call| format!("{} {}", call.kind, call.path));
        let what = format!("call {nth} fails with {error}: {what}");
        let found = sandbox.read(output);
        let well = ended(&sandbox, &outcome, &calls, &what);
        if well {
            assert_eq!(found, answers, "{what}");
            // Even if a progress was left: the same command gives them again.
            sandbox.ok(&args);
            assert_eq!(sandbox.read(output), answers, "{what}");
            assert_eq!(sandbox.listing("answered"), ["out.jsonl"], "{what}");
        } else {
            // What comes after they took their place may fail too.
            assert!(found == "old" || found == answers, "{what}: {found}");
            let removing = call.is_some_and(|call| call.kind == "remove");
            for name in sandbox.listing("answered") {
                let theirs = name.starts_with("out.jsonl");
                assert!(theirs || removing, "{what}: {name} is left");
            }
            sandbox.ok(&[&args[..], &["--resume"]].concat());
            assert_eq!(sandbox.read(output), answers, "{what}");
            assert_eq!(sandbox.listing("answered"), ["out.jsonl"], "{what}");
        }
        well
    });
}

#[test]
fn whatever_fails_in_an_export_is_named_and_leaves_a_whole_folder_or_none() {
    let sandbox = sequence();
    train(&sandbox, "run", &["model.pooling=mean"]);
    let args = ["export", "--run", "run", "--out", "given/away"];
    let (outcome, calls) = run(&sandbox, &args, "", 0, 5);
    says(&outcome, 0, &[]);
    let writes = calls.iter().filter(|call| call.kind == "write").count();
    let below = |sandbox: &Sandbox| {
        let mut files = sandbox.files();
        files.retain(|name, _| name.starts_with("given/"));
        files
    };
    let whole = below(&sandbox);
    assert_eq!(whole.len(), 8);
    each(tries(calls.len(), writes), |nth, error| {
        std::fs::remove_dir_all(sandbox.path("given")).unwrap();
        let (outcome, calls) = run(&sandbox, &args, "", nth, error);
        let call = calls.iter().find(|call| call.failed);
        let what = call.map_or(String::new(), |call| format!("{} {}", call.kind, call.path));
        let what = format!("call {nth} fails with {error}: {what}");
        let well = ended(&sandbox, &outcome, &calls, &what);
        let mut left = below(&sandbox);
        if call.is_some_and(|call| call.kind == "remove") {
            left.retain(|name, _| name.starts_with("given/away/"));
        }
        // What comes after it took its place may fail too.
        assert!(
            left == whole || !well && left.is_empty(),
            "{what}: {:?}",
            left.keys()
        );
        if left.is_empty() {
            sandbox.ok(&args);
            assert!(below(&sandbox) == whole, "{what}");
        }
        // Or the next one would not find it.
        let _ = std::fs::create_dir(sandbox.path("given"));
        well
    });
}

/// The system says neither yes nor no: that is what is said, and not that something is missing.
#[test]
fn what_cannot_be_looked_at_is_named() {
    let sandbox = sequence();
    train(&sandbox, "out", &[]);
    let predict = ["predict", "--run", "out", "hi"];
    let train = ["train", "--config", "run.toml", "--run", "new"];
    let evaluate = ["evaluate", "--run", "out"];
    let score = ["train", "--config", "set.toml", "--run", "new"];
    let known = "task = \"sequence\"\n[model]\npath = \"model\"\n[lora]\nr = 2\n[data]\ndataset = \"sst2\"\ndir = \"data\"\n";
    sandbox.write("set.toml", known);
    sandbox.write("data/x", "");
    let cases: [(&[&str], &str); 9] = [
        (&predict, "out"),
        (&predict, "out/config.toml"),
        (&predict, "out/best"),
        (&predict, "out/best/tokenizer.json"),
        (&predict, "model"),
        (&train, "model/config.json"),
        (&train, "run.toml"),
        (&evaluate, "train.csv"),
        (&score, "data"),
    ];
    for (args, under) in cases {
        for error in [5, 13] {
            let (outcome, _) = run(&sandbox, args, under, 1, error);
            says(&outcome, 1, &[under, "cannot read"]);
            for false_friend in ["no such", "not reach", "no config", "does not exist"] {
                let said = outcome.stderr.contains(false_friend);
                assert!(!said, "{under}: {}", outcome.stderr);
            }
            let system = ["Input/output error", "Permission denied"][usize::from(error == 13)];
            assert_contains(&outcome.stderr, &[system]);
        }
    }
}

#[test]
fn a_run_goes_on_without_its_event_file() {
    let sandbox = sequence();
    let args = |run| train_args(run, &["train.epochs=1", "train.tensorboard=true"]);
    let of_events = |call: &Call| call.path.contains("tfevents");
    let (_, calls) = run(&sandbox, &args("whole"), "whole", 0, 5);
    let nth = 1 + calls.iter().position(of_events).unwrap();
    let (outcome, calls) = run(&sandbox, &args("out"), "out", nth, 28);
    assert!(calls[nth - 1].failed && of_events(&calls[nth - 1]));
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_contains(&outcome.stderr, &["nothing is written for TensorBoard: "]);
    assert_whole(&sandbox, "out");
}
