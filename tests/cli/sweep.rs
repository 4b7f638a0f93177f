//! `sweep`: its runs are those of `train`, the best is the one that the validation split says, and
//! whatever ends it, the same command goes on to the same end.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use ls_train::sweep::{Choices, Plan};
use ls_train::{Event, Observer, RunConfig};
use serde_json::Value;

use crate::resume::{assert_same, left};
use crate::runs::*;
use crate::sandbox::{Outcome, Sandbox, assert_contains, says};

/// Texts with a split each.
fn with_splits() -> Sandbox {
    let sandbox = sequence();
    let rows = reviews();
    sandbox.write("test.csv", csv(&rows[..9]));
    sandbox.write("validation.csv", csv(&rows[7..]));
    sandbox
}

const SPLITS: [&str; 4] = [
    "--set",
    "data.test=test.csv",
    "--set",
    "data.validation=validation.csv",
];

fn sweep_args<'a>(folder: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let begin = ["sweep", "--config", "run.toml", "--run", folder];
    begin.iter().chain(more).copied().collect()
}

fn swept(sandbox: &Sandbox, folder: &str, more: &[&str]) -> Outcome {
    let outcome = sandbox.run(&sweep_args(folder, more));
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    outcome
}

/// The runs of a sweep, by the names of their folders.
fn names(sandbox: &Sandbox, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(sandbox.path(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = paths
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// A run of a sweep is what `train` makes of the same settings.
#[track_caller]
fn is_as_alone(sandbox: &Sandbox, run: &str, set: &[&str]) {
    let alone = format!("alone-{}", run.replace('/', "-"));
    train(sandbox, &alone, set);
    assert_whole(sandbox, run);
    assert_same(&left(sandbox, run), &left(sandbox, &alone), run);
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn runs_are_those_of_train_and_the_best_is_by_the_validation_split() {
    let sandbox = with_splits();
    let mut more = vec![
        "--set",
        "train.learning_rate=1e-4,2e-2",
        "--set",
        "lora.r=2,4",
        "--set",
        "lora.lora_dropout=0.1",
        "--seeds",
        "2",
    ];
    more.extend(SPLITS);
    let outcome = swept(&sandbox, "out", &more);
    let all = names(&sandbox, "out");
    assert_eq!(
        all,
        [
            "01_learning_rate=1e-4_r=2_seed=1",
            "01_learning_rate=1e-4_r=2_seed=2",
            "02_learning_rate=1e-4_r=4_seed=1",
            "02_learning_rate=1e-4_r=4_seed=2",
            "03_learning_rate=2e-2_r=2_seed=1",
            "03_learning_rate=2e-2_r=2_seed=2",
            "04_learning_rate=2e-2_r=4_seed=1",
            "04_learning_rate=2e-2_r=4_seed=2",
        ]
    );
    for (at, rate, r, seed) in [(0, "1e-4", 2, 1), (5, "2e-2", 2, 2), (6, "2e-2", 4, 1)] {
        let (rate, r) = (format!("train.learning_rate={rate}"), format!("lora.r={r}"));
        let seed = format!("train.seed={seed}");
        let set = [
            "data.test=test.csv",
            "data.validation=validation.csv",
            "lora.lora_dropout=0.1",
            &rate,
            &r,
            &seed,
        ];
        is_as_alone(&sandbox, &format!("out/{}", all[at]), &set);
    }

    // The means are those of the reports, and the best that of the validation split.
    let record = sandbox.json("out/sweep.json");
    let reports: Vec<Value> = all
        .iter()
        .map(|name| sandbox.json(&format!("out/{name}/report.json")))
        .collect();
    let mut means = Vec::new();
    for (at, pair) in reports.chunks(2).enumerate() {
        let both = |pick: &dyn Fn(&Value) -> f64| {
            let (a, b) = (pick(&pair[0]), pick(&pair[1]));
            ((a + b) / 2.0, (a - b).abs() / 2f64.sqrt())
        };
        let combination = &record["outcome"]["combinations"][at];
        let of = |split: &str| {
            let spread = &combination[split];
            (number(&spread["mean"]), number(&spread["deviation"]))
        };
        for (split, (mean, deviation)) in [
            (
                "validation",
                both(&|report| number(&report["best"]["value"])),
            ),
            (
                "test",
                both(&|report| number(&report["scores"]["accuracy"])),
            ),
        ] {
            let (found_mean, found_deviation) = of(split);
            assert!((found_mean - mean).abs() < 1e-12, "{split} {at}");
            assert!((found_deviation - deviation).abs() < 1e-12, "{split} {at}");
            let shown = format!("{mean:.4} ± {deviation:.4}");
            assert_contains(&outcome.stdout, &[&shown]);
        }
        means.push(both(&|report| number(&report["best"]["value"])).0);
    }
    let best = (0..4).rev().max_by(|a, b| means[*a].total_cmp(&means[*b]));
    let best = best.unwrap();
    assert_eq!(record["outcome"]["best"], best);
    let values = &record["outcome"]["combinations"][best]["values"];
    let (rate, r) = (
        values[0][1].as_str().unwrap(),
        values[1][1].as_str().unwrap(),
    );
    assert_contains(
        &outcome.stdout,
        &[
            "accuracy, mean ± sample deviation over 2 seeds",
            &format!("*  {rate}           {r}"),
            &format!("best                     learning_rate={rate} r={r}"),
            "configuration            out/best.toml",
            "evaluate --run out/0",
        ],
    );

    // What it writes is a configuration, that of the first of its runs.
    let again = sandbox.run(&["train", "--config", "out/best.toml", "--run", "again"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    let first = format!("out/{}", all[2 * best]);
    assert_same(&left(&sandbox, "again"), &left(&sandbox, &first), "again");

    // Nothing is left to do, and another sweep is none of this one.
    let before = sandbox.files();
    let second = swept(&sandbox, "out", &more);
    assert_eq!(second.stdout, outcome.stdout);
    assert!(!second.stderr.contains("run 1 of"), "{}", second.stderr);
    assert!(sandbox.files() == before);
    more[1] = "train.learning_rate=1e-4,3e-2";
    let differs = [
        "out holds another sweep: train.learning_rate was 1e-4,2e-2, is 1e-4,3e-2",
        "name another folder with --run",
    ];
    refused(&sandbox, &sweep_args("out", &more), 2, &differs);
    more[1] = "train.learning_rate=1e-4,2e-2";
    more.extend(["--set", "train.weight_decay=0.5"]);
    let differs = ["train.weight_decay was not set, is 0.5"];
    refused(&sandbox, &sweep_args("out", &more), 2, &differs);
    let of_file = sandbox.read("run.toml").replace("epochs = 2", "epochs = 3");
    sandbox.write("run.toml", of_file);
    more.truncate(more.len() - 2);
    let differs = ["train.epochs was 2, is 3"];
    refused(&sandbox, &sweep_args("out", &more), 2, &differs);
    let inside = format!("out/{}", all[0]);
    let not_empty = ["is not empty"];
    refused(&sandbox, &sweep_args(&inside, &more), 2, &not_empty);
}

/// The base is loaded once for all of them: no kind of adapter may write to it.
#[test]
fn no_run_changes_what_the_next_one_begins_from() {
    let sandbox = sequence();
    let more = [
        "--set",
        "lora.init_lora_weights=olora,pissa,default",
        "--set",
        "lora.bias=all,none",
        "--set",
        "train.epochs=1",
    ];
    swept(&sandbox, "out", &more);
    for (run, init, bias) in [
        ("02_init_lora_weights=olora_bias=none", "olora", "none"),
        ("03_init_lora_weights=pissa_bias=all", "pissa", "all"),
        ("06_init_lora_weights=default_bias=none", "default", "none"),
    ] {
        let init = format!("lora.init_lora_weights={init}");
        let bias = format!("lora.bias={bias}");
        let set = ["train.epochs=1", &init, &bias];
        is_as_alone(&sandbox, &format!("out/{run}"), &set);
    }
    // Nor does its mask.
    let more = ["--set", "model.attention=bidirectional,from:1,causal"];
    swept(&sandbox, "masks", &more);
    for (run, attention) in [
        ("02_attention=from-1", "from:1"),
        ("03_attention=causal", "causal"),
    ] {
        let attention = format!("model.attention={attention}");
        is_as_alone(&sandbox, &format!("masks/{run}"), &[&attention]);
    }
    // Nor does one that trains the base itself.
    let more = ["--set", "lora=false,{r=4}", "--seeds", "2"];
    swept(&sandbox, "whole", &more);
    let files = [("02_lora=r-4_seed=1", "lora={r=4}", "train.seed=1")];
    for (run, lora, seed) in files {
        is_as_alone(&sandbox, &format!("whole/{run}"), &[lora, seed]);
    }
    train(&sandbox, "full", &["lora=false", "train.seed=2"]);
    let (found, alone) = (
        left(&sandbox, "whole/01_lora=false_seed=2"),
        left(&sandbox, "full"),
    );
    assert_same(&found, &alone, "whole");
}

/// Counts how often weights are loaded.
#[derive(Default)]
struct Loads(usize);

impl Observer for Loads {
    fn event(&mut self, event: &Event<'_>) {
        self.0 += usize::from(matches!(event, Event::Loading { done: 1, .. }));
    }
}

#[test]
fn weights_are_loaded_once_for_all_runs_of_one_model() {
    let sandbox = sequence();
    let path = |key: &str, file: &str| format!("{key}={}", sandbox.path(file).display());
    let common = [
        path("model.path", "model"),
        path("data.train", "train.csv"),
        path("data.validation", "train.csv"),
        "data.cache=false".into(),
        "train.epochs=1".into(),
    ];
    let loads = |folder: &str, set: &[&str], seeds: usize| {
        let set: Vec<String> = set.iter().map(|set| set.to_string()).collect();
        let choices = Choices::new(&[&common[..], &set].concat(), Some(seeds), None).unwrap();
        let read = |set: &[String]| RunConfig::from_file(&sandbox.path("run.toml"), set);
        let plan = Plan::new(choices, read).unwrap();
        let mut loads = Loads::default();
        let folder = sandbox.path(folder);
        let device = Device::flex();
        let outcome = ls_train::sweep::sweep(&plan, &folder, &device, &mut loads).unwrap();
        assert!(outcome.best.is_some());
        (plan.runs().len(), loads.0)
    };
    assert_eq!(loads("ranks", &["lora.r=2,4"], 2), (4, 1));
    assert_eq!(
        loads("masks", &["model.attention=groups:01,causal"], 1),
        (2, 1)
    );
    let set = ["train.learning_rate=1e-3,1e-2", "model.dtype=f32,bf16"];
    assert_eq!(loads("types", &set, 1), (4, 2));
}

#[test]
fn every_fold_is_scored_once_and_is_a_run_of_its_own() {
    let sandbox = sequence();
    // It is not read.
    let none = [
        "--set",
        "data.validation=none.csv",
        "--set",
        "train.epochs=1",
    ];
    let more = [&none[..], &["--set", "lora.r=2,4", "--folds", "3"]].concat();
    let outcome = swept(&sandbox, "out", &more);
    assert_contains(&outcome.stderr, &["note: data.validation is not read"]);
    assert_contains(
        &outcome.stdout,
        &[
            "sample deviation over 3 folds",
            "train --config out/best.toml --run DIR",
        ],
    );
    let texts = |run: &str| {
        let rows = sandbox.jsonl(&format!("{run}/predictions.jsonl"));
        rows.iter()
            .map(|row| row["text"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let folds = [1, 2, 3].map(|fold| texts(&format!("out/02_r=4_fold={fold}")));
    let sizes = folds.each_ref().map(Vec::len);
    assert_eq!(sizes.iter().sum::<usize>(), 20);
    assert!(sizes.iter().all(|size| (6..=7).contains(size)), "{sizes:?}");
    assert_eq!(folds[0], texts("out/01_r=2_fold=1"));
    let mut all = folds.concat();
    all.sort();
    let mut expected: Vec<String> = reviews().into_iter().map(|(text, _)| text).collect();
    expected.sort();
    assert_eq!(all, expected);
    let set = ["train.epochs=1", "lora.r=4", "data.fold=2/3"];
    is_as_alone(&sandbox, "out/02_r=4_fold=2", &set);
    // And its examples are found again.
    let args = ["evaluate", "--run", "out/02_r=4_fold=2", "--format", "json"];
    let evaluated = sandbox.ok_json(&args);
    let report = sandbox.json("out/02_r=4_fold=2/report.json");
    let accuracy = number(&report["scores"]["accuracy"]);
    let found = evaluated["accuracy"].as_f64();
    let found = found.or(evaluated["scores"]["accuracy"].as_f64());
    assert!((found.unwrap() - accuracy).abs() < SAME, "{evaluated}");
    // The best has all examples again, and the validation split that was named.
    let best = sandbox.read("out/best.toml");
    assert!(
        !best.contains("fold =") && best.contains("none.csv"),
        "{best}"
    );

    let words = token();
    let more = ["--folds", "2", "--seeds", "2", "--set", "train.epochs=1"];
    let outcome = swept(&words, "out", &more);
    assert_contains(
        &outcome.stdout,
        &["span_f1_micro", "over 2 seeds and 2 folds"],
    );
    let set = ["train.epochs=1", "train.seed=2", "data.fold=1/2"];
    is_as_alone(&words, "out/01_seed=2_fold=1", &set);
}

#[test]
fn a_run_that_fails_is_recorded_and_the_others_go_on() {
    let sandbox = sequence();
    let more = ["--set", "train.learning_rate=1e30,1e-2,1e-3"];
    let args = sweep_args("out", &more);
    let outcome = sandbox.run(&args);
    let failed = "01_learning_rate=1e30";
    says(
        &outcome,
        1,
        &[
            "01_learning_rate=1e30 failed: ",
            "at step",
            "1 of 3 runs failed",
        ],
    );
    assert_contains(&outcome.stdout, &["1e30", "0 of 1", "1 of 1", "best  "]);
    let record = sandbox.json("out/sweep.json");
    let error = record["runs"][0]["failed"]["error"].as_str().unwrap();
    assert_contains(error, &["at step"]);
    assert_eq!(record["outcome"]["failed"][0][0], failed);
    assert_ne!(record["outcome"]["best"], 0);
    assert_eq!(names(&sandbox, "out").len(), 3);

    // It would fail again, so it is not taken again until its folder is gone.
    let before = sandbox.files();
    let again = sandbox.run(&args);
    says(
        &again,
        1,
        &["1 of 3 runs failed", "once its folder is removed"],
    );
    assert!(!again.stderr.contains("run 1 of 3"), "{}", again.stderr);
    assert_eq!(again.stdout, outcome.stdout);
    assert!(sandbox.files() == before);
    std::fs::remove_dir_all(sandbox.path("out").join(failed)).unwrap();
    let again = sandbox.run(&args);
    says(&again, 1, &["run 1 of 3", "1 of 3 runs failed"]);

    // What can be mended is taken again: a folder in which something else stands.
    let sandbox = sequence();
    let more = ["--set", "lora.r=2,4"];
    sandbox.write("out/02_r=4/else", "");
    let args = sweep_args("out", &more);
    refused(&sandbox, &args, 2, &["is not empty"]);
    std::fs::remove_dir_all(sandbox.path("out")).unwrap();
    let child = sandbox.run(&sweep_args("out", &["--set", "lora.r=2,4", "--seeds", "1"]));
    assert_eq!(child.code, 0, "{}", child.stderr);
    std::fs::remove_dir_all(sandbox.path("out/02_r=4_seed=1")).unwrap();
    sandbox.write("out/02_r=4_seed=1/else", "");
    let args = sweep_args("out", &["--set", "lora.r=2,4", "--seeds", "1"]);
    let outcome = sandbox.run(&args);
    says(&outcome, 1, &["02_r=4_seed=1 failed: ", "not a run folder"]);
    std::fs::remove_file(sandbox.path("out/02_r=4_seed=1/else")).unwrap();
    let outcome = sandbox.run(&args);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_eq!(outcome.stdout, child.stdout);

    // Runs on other examples are not compared.
    let rows = sandbox.read("train.csv");
    sandbox.write("train.csv", format!("{rows}more,pos\n"));
    std::fs::remove_dir_all(sandbox.path("out/01_r=2_seed=1")).unwrap();
    let outcome = sandbox.run(&args);
    says(
        &outcome,
        1,
        &[
            "train.csv: has changed since it was first read",
            "put it back",
        ],
    );
}

#[test]
fn what_cannot_be_a_sweep_is_refused() {
    let sandbox = sequence();
    for (more, parts) in [
        (&[][..], &["nothing to choose between"][..]),
        (
            &["--set", "model.attention=layers:0-0,1-1"],
            &[
                "model.attention",
                "goes in quotes: --set 'model.attention=\"A,B\",C'",
            ],
        ),
        (
            &["--set", "data.test=a.csv,b.csv", "--set", "run=a,b"],
            &[
                "2 faults",
                "scored on different examples",
                "run: cannot take",
            ],
        ),
        (
            &["--set", "lora.r=4,0", "--set", "train.epochs=2"],
            &["run.toml with lora.r=0: "],
        ),
        (
            &["--set", "train.seed=1,2", "--set", "data.fold=1/2"],
            &["train.seed: cannot", "--seeds N"],
        ),
        (
            &["--set", "train={seed=1},{seed=2}"],
            &["train: cannot take several values"],
        ),
        (
            &["--set", "lora.r=4,8", "--seeds", "1000", "--folds", "10"],
            &["more than 10000 runs"],
        ),
        (&["--set", "lora.rank=4,8"], &["did you mean"]),
        (&["--folds", "1"], &["--folds: expected 2 to"]),
    ] {
        refused(&sandbox, &sweep_args("out", more), 2, parts);
    }
    // A bad value is none that misses its quotes.
    let more = ["--set", "train.epochs=2,0"];
    let outcome = refused(&sandbox, &sweep_args("out", &more), 2, &["epochs=0"]);
    assert!(!outcome.stderr.contains("comma"), "{}", outcome.stderr);
    // A value with a comma is one, in quotes.
    let attention = "model.attention=\"layers:0-0,1-1\",causal";
    let more = ["--set", attention, "--set", "train.epochs=1"];
    swept(&sandbox, "out", &more);
    assert_eq!(
        names(&sandbox, "out"),
        ["01_attention=layers-0-0-1-1", "02_attention=causal"]
    );
    // One process at a time has it.
    if cfg!(unix) {
        let folder = std::fs::File::open(sandbox.path("out")).unwrap();
        folder.lock().unwrap();
        refused(&sandbox, &sweep_args("out", &more), 2, &["another process"]);
        folder.unlock().unwrap();
    }
    // Without --run it stands beside the runs of the configuration.
    let args = [
        "sweep",
        "--config",
        "run.toml",
        "--seeds",
        "2",
        "--set",
        "train.epochs=1",
    ];
    sandbox.ok(&args);
    assert_eq!(
        names(&sandbox, "runs/run-sweep"),
        ["01_seed=1", "01_seed=2"]
    );
    // Beside the run's folder, not in it.
    sandbox.ok(&[&args[..], &["--set", "run=runs/own/"]].concat());
    assert_eq!(names(&sandbox, "runs/own-sweep").len(), 2);
}

#[test]
fn a_record_with_fewer_runs_is_another_sweep() {
    let sandbox = sequence();
    let more = ["--seeds", "2", "--set", "train.epochs=1"];
    swept(&sandbox, "out", &more);
    let mut record = sandbox.json("out/sweep.json");
    record["runs"].as_array_mut().unwrap().pop();
    sandbox.write("out/sweep.json", record.to_string());
    let parts = ["sweep.json had 1 runs, now there are 2"];
    refused(&sandbox, &sweep_args("out", &more), 2, &parts);
}

const LONG: [&str; 6] = [
    "--set",
    "lora.r=2,4",
    "--set",
    "train.epochs=40",
    "--set",
    "train.eval_steps=7",
];

/// Everything of a sweep, times aside.
fn assert_same_sweeps(sandbox: &Sandbox, found: &str, expected: &str) {
    for name in names(sandbox, expected) {
        let [found, expected] = [found, expected].map(|folder| format!("{folder}/{name}"));
        assert_same(&left(sandbox, &found), &left(sandbox, &expected), &found);
    }
    for file in ["sweep.json", "best.toml"] {
        let [found, expected] = [found, expected].map(|folder| format!("{folder}/{file}"));
        assert_eq!(sandbox.read(&found), sandbox.read(&expected), "{found}");
    }
    assert_eq!(names(sandbox, found), names(sandbox, expected));
}

/// Waits until a file has some lines.
fn wait_for_lines(path: &Path, count: usize) {
    let began = Instant::now();
    let lines = || {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .lines()
            .count()
    };
    while lines() < count {
        assert!(began.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[cfg(unix)]
fn a_signal_ends_it_with_the_command_that_goes_on() {
    let sandbox = sequence();
    swept(&sandbox, "expected", &LONG);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let folder = format!("stopped-{signal}");
        let args = [&["--progress", "off"][..], &sweep_args(&folder, &LONG)].concat();
        let mut command = sandbox.command_that_heeds_signals(&args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let log = sandbox.path(&folder).join("02_r=4/metrics.jsonl");
        wait_for_lines(&log, 3);
        let sent = Command::new("kill")
            .args(["-s", signal, &child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert_contains(&stderr, &["which is saved"]);
        assert!(output.stdout.is_empty());
        // As a person would: what is shown goes into a shell.
        let shown = stderr
            .lines()
            .find_map(|line| line.strip_prefix("go on with: "));
        let mut shell = Command::new("sh");
        shell
            .args(["-c", shown.unwrap()])
            .current_dir(sandbox.path(""))
            .stdin(Stdio::null());
        for (key, value) in sandbox.command(&[]).get_envs() {
            if let Some(value) = value {
                shell.env(key, value);
            }
        }
        let output = shell.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        assert_contains(
            &stderr,
            &["run 2 of 2", "going on from the checkpoint of step"],
        );
        assert!(!stderr.contains("run 1 of 2"), "{stderr}");
        assert_same_sweeps(&sandbox, &folder, "expected");
    }
}

#[test]
fn a_sweep_survives_kills_at_any_moment() {
    let sandbox = sequence();
    let began = Instant::now();
    swept(&sandbox, "expected", &LONG);
    let whole = began.elapsed();
    let args = sweep_args("killed", &LONG);
    let mut kills = 0;
    for part in [3, 1, 4, 2, 5, 3, 4, 5] {
        let mut command = sandbox.command(&args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(whole * part / 16);
        kills += usize::from(child.try_wait().unwrap().is_none());
        let _ = child.kill();
        child.wait().unwrap();
    }
    eprintln!("{kills} of 8 were killed before their end");
    assert!(kills > 1, "{kills}");
    swept(&sandbox, "killed", &LONG);
    assert_same_sweeps(&sandbox, "killed", "expected");
}
