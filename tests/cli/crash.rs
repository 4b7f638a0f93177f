//! Kills at random moments: the real program is ended by SIGKILL, goes on, and leaves what a run in
//! one piece leaves, bit for bit.
//!
//! `LS_LLAMA_KILLS` says how many times (50 by default), `LS_LLAMA_KILL_SEED` at which moments:
//!
//! ```sh
//! LS_LLAMA_KILLS=500 cargo test -p ls-cli --test cli -- --nocapture crash
//! ```

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

use ls_files::TensorFile;
use serde_json::Value;

use crate::mutate::Random;
use crate::resume::{assert_same, left};
use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, processor_time, says};

/// A run is killed so often at most before it is left to come to its end.
const KILLS_OF_A_RUN: usize = 5;

/// Short steps, and everything that a run writes as often as it can.
const SETTINGS: [&[&str]; 2] = [
    &[
        "train.epochs=12",
        "train.save_steps=2",
        "lora.lora_dropout=0.1",
    ],
    &[
        "train.epochs=8",
        "train.eval_steps=2",
        "train.save_total_limit=1",
        "train.baselines=true",
    ],
];

#[test]
fn a_run_survives_kills_at_any_moment() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let kills = number("LS_LLAMA_KILLS").unwrap_or(50);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let seed = number("LS_LLAMA_KILL_SEED").unwrap_or(now.as_nanos() as u64);
    eprintln!("{kills} kills, LS_LLAMA_KILL_SEED={seed}");
    let mut random = Random(seed);
    let sandboxes = [sequence(), token()];
    let mut counts = BTreeMap::<&str, usize>::new();
    let wholes: Vec<_> = sandboxes
        .iter()
        .zip(SETTINGS)
        .map(|(sandbox, set)| {
            let took = time_of(start(sandbox, &train_args("whole", set)));
            (left(sandbox, "whole"), took)
        })
        .collect();
    let (mut done, mut within) = (0, 0);
    for run in 0.. {
        if done >= kills {
            break;
        }
        let which = run % 2;
        let (sandbox, (whole, took)) = (&sandboxes[which], &wholes[which]);
        let name = format!("run-{run}");
        let args = [&train_args(&name, SETTINGS[which])[..], &["--resume"]].concat();
        for _ in 0..KILLS_OF_A_RUN {
            let child = start(sandbox, &args);
            // Also a little behind the end, where nothing is left to kill.
            let after = took.mul_f64(1.02 * random.next() as f64 / u64::MAX as f64);
            if !killed(child, after) {
                *counts.entry("came to its end before").or_default() += 1;
                break;
            }
            done += 1;
            *counts.entry(check(sandbox, &name)).or_default() += 1;
            within += u64::from(stands_within_an_epoch(sandbox, &name));
            if done >= kills {
                break;
            }
        }
        sandbox.ok(&args);
        let of = format!("{name} of LS_LLAMA_KILL_SEED={seed}");
        assert_whole(sandbox, &name);
        assert_same(&left(sandbox, &name), whole, &of);
        std::fs::remove_dir_all(sandbox.path(&name)).unwrap();
    }
    eprintln!("{counts:?}, {within} within an epoch");
    // Kills before the training alone would show little, and at the ends of epochs not much more.
    if kills >= 50 {
        let best = counts
            .get("with a best model")
            .map_or(0, |&count| count as u64);
        assert!(
            best >= kills / 5 && within >= kills / 10,
            "{counts:?}, {within}"
        );
    }
}

/// A finished run that trains longer, killed on its way there.
#[test]
fn a_finished_run_that_trains_longer_survives_kills() {
    let sandbox = sequence();
    let set = ["train.save_steps=2", "lora.lora_dropout=0.1"];
    train(&sandbox, "whole", &set);
    for (name, bytes) in sandbox.files() {
        if let Some(name) = name.strip_prefix("whole/") {
            sandbox.write(&format!("parts/{name}"), bytes);
        }
    }
    let longer = |run| ["train", "--resume", run, "--set", "train.epochs=12"];
    let took = time_of(start(&sandbox, &longer("whole")));
    let mut kills = 0;
    // Soon, then later and later, so that each comes further.
    for part in [0.2, 0.4, 0.5, 0.6, 0.7, 0.8] {
        kills += usize::from(killed(
            start(&sandbox, &longer("parts")),
            took.mul_f64(part),
        ));
    }
    assert!(kills > 1, "{kills}");
    sandbox.ok(&longer("parts"));
    assert_whole(&sandbox, "parts");
    assert_eq!(sandbox.json("parts/report.json")["steps"], 60);
    assert_same(&left(&sandbox, "parts"), &left(&sandbox, "whole"), "longer");
}

/// Whether the newest checkpoint is none of the end of an epoch, which has five steps.
fn stands_within_an_epoch(sandbox: &Sandbox, run: &str) -> bool {
    if !sandbox.path(run).join("checkpoints").exists() {
        return false;
    }
    let files = sandbox.listing(&format!("{run}/checkpoints"));
    let steps = files.iter().filter_map(|file| {
        let step = file.strip_prefix("checkpoint-")?;
        step.strip_suffix(".safetensors")?.parse::<u64>().ok()
    });
    steps.max().is_some_and(|step| step % 5 != 0)
}

/// What a killed run left is whole, and says what it is. Returns how far it had come.
fn check(sandbox: &Sandbox, run: &str) -> &'static str {
    if !sandbox.path(run).exists() {
        return "before there was a folder";
    }
    let files = sandbox.listing(run);
    for file in &files {
        let path = format!("{run}/{file}");
        let name = file.rsplit('/').next().unwrap();
        // What is being written is not there yet under its own name.
        if name.starts_with(".tmp-") || file.starts_with(".best") {
            continue;
        }
        match name {
            "metrics.jsonl" => {
                let text = sandbox.read(&path);
                let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
                for line in whole.lines() {
                    serde_json::from_str::<Value>(line).unwrap();
                }
            }
            _ if name.ends_with(".jsonl") => drop(sandbox.jsonl(&path)),
            _ if name.ends_with(".json") => drop(sandbox.json(&path)),
            _ if name.ends_with(".toml") => {
                ls_train::RunConfig::from_file(&sandbox.path(&path), &[]).unwrap();
            }
            _ if name.ends_with(".safetensors") => {
                let file = TensorFile::open(sandbox.path(&path)).unwrap();
                for name in file.names() {
                    file.read(name).unwrap();
                }
            }
            _ => assert!(!sandbox.read(&path).is_empty(), "{path}"),
        }
    }
    let begun = ["config.toml", "metrics.jsonl"]
        .iter()
        .all(|file| files.iter().any(|f| f == file));
    let outcome = sandbox.run(&["predict", "--run", run, "the film"]);
    if outcome.code == 0 {
        let finished = files.iter().any(|file| file == "report.json");
        assert_eq!(
            outcome.stderr.contains("the run is not finished"),
            !finished,
            "{}",
            outcome.stderr
        );
        return if finished {
            "finished"
        } else {
            "with a best model"
        };
    }
    if !begun {
        assert_contains(&outcome.stderr, &["not a run folder"]);
        return "before it began";
    }
    assert_contains(&outcome.stderr, &["has no best model yet", "--resume"]);
    // It may take away what the kill left half written, and nothing else.
    let outcome = sandbox.run(&train_args(run, &[]));
    says(
        &outcome,
        2,
        &["holds a run that is not finished", "--resume"],
    );
    let saved = |file: &String| file.starts_with("checkpoints/checkpoint-");
    if files.iter().any(saved) {
        "with a checkpoint"
    } else {
        "before its first checkpoint"
    }
}

fn start(sandbox: &Sandbox, args: &[&str]) -> Child {
    let mut command = sandbox.command(args);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Kills the process after so much of its own time, unless it has come to its end before.
fn killed(mut child: Child, after: Duration) -> bool {
    match ended(&mut child, after) {
        Some(_) => false,
        None => {
            child.kill().unwrap();
            !child.wait().unwrap().success()
        }
    }
}

/// The time of a process that is left to come to its end.
fn time_of(mut child: Child) -> Duration {
    ended(&mut child, Duration::MAX).unwrap()
}

/// Waits until a process has worked for a time, or has ended: then the time of all of it.
///
/// It is the processors' time, by the clock only where the system does not tell: a busy machine
/// would move every moment to the beginning or behind the end of a run.
fn ended(child: &mut Child, within: Duration) -> Option<Duration> {
    let begun = Instant::now();
    let mut worked = (Duration::ZERO, begun);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            return Some(worked.0);
        }
        let now = processor_time(child.id()).unwrap_or(begun.elapsed());
        if now > worked.0 {
            worked = (now, Instant::now());
        }
        // Between two steps of the system's count the clock goes on.
        let step = worked.1.elapsed().min(Duration::from_millis(10));
        if worked.0 + step >= within {
            return None;
        }
        std::thread::sleep(Duration::from_micros(300));
    }
}
