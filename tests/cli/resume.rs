//! Runs that are stopped and go on: whatever the settings and the moment, they leave what a run in
//! one piece leaves, bit for bit, times aside.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::tensor::Device;
use ls_train::{Event, Observer, RunConfig, TrainError};

use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, assert_no_panic, says};

/// Asks a run to stop when it looks for the wish for the given time, counted from 1.
struct StopAt {
    at: usize,
    looked: Cell<usize>,
    notes: Vec<String>,
}

impl StopAt {
    fn new(at: usize) -> Self {
        Self {
            at,
            looked: Cell::new(0),
            notes: Vec::new(),
        }
    }
}

impl Observer for StopAt {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Note(note) = event {
            self.notes.push((*note).to_owned());
        }
    }

    fn stop_requested(&self) -> bool {
        self.looked.set(self.looked.get() + 1);
        self.looked.get() == self.at
    }
}

/// A run of the sandbox within this process, so that it can be stopped at any moment that it looks
/// for the wish.
pub struct Runs<'a> {
    sandbox: &'a Sandbox,
    config: RunConfig,
}

impl<'a> Runs<'a> {
    pub fn new(sandbox: &'a Sandbox, set: &[&str]) -> Self {
        let absolute = |key: &str, file: &str| {
            let path = sandbox.path(file);
            format!("{key}={}", path.display())
        };
        let files = ["train.csv", "train.conll"];
        let data = files.into_iter().find(|file| sandbox.path(file).exists());
        let data = data.unwrap();
        let mut all = vec![
            absolute("model.path", "model"),
            absolute("data.train", data),
            absolute("data.validation", data),
            // The cache's folder is a variable of the process.
            "data.cache=false".into(),
        ];
        all.extend(set.iter().map(|set| set.to_string()));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        Self::of(sandbox, &all)
    }

    /// Of files that the sandbox's configuration names, or `set`.
    pub fn of(sandbox: &'a Sandbox, set: &[&str]) -> Self {
        let set: Vec<String> = set.iter().map(|set| set.to_string()).collect();
        let config = RunConfig::from_file(&sandbox.path("run.toml"), &set).unwrap();
        Self { sandbox, config }
    }

    pub fn train(&self, run: &str, stop: usize) -> Result<(), TrainError> {
        let mut observer = StopAt::new(stop);
        let run = self.sandbox.path(run);
        ls_train::train(&self.config, &run, &Device::flex(), &mut observer).map(drop)
    }

    /// Trains with an observer.
    pub fn observed(&self, run: &str, observer: &mut dyn Observer) {
        let run = self.sandbox.path(run);
        ls_train::train(&self.config, &run, &Device::flex(), observer).unwrap();
    }

    fn resume(&self, run: &str, stop: usize) -> Result<(), TrainError> {
        let mut observer = StopAt::new(stop);
        let run = self.sandbox.path(run);
        ls_train::resume(&self.config, &run, &Device::flex(), &mut observer).map(drop)
    }

    /// Trains in pieces: each ends where it has looked for the wish to stop as often as `pieces`
    /// say in turn. Returns how many pieces there were.
    pub fn in_pieces(&self, run: &str, mut pieces: impl FnMut() -> usize) -> usize {
        let mut count = 1;
        let mut outcome = self.train(run, pieces());
        while let Err(error) = outcome {
            assert!(matches!(error, TrainError::Interrupted { .. }), "{error}");
            count += 1;
            outcome = self.resume(run, pieces());
        }
        count
    }
}

/// Everything that a run left, but for times, memory and its own place.
pub fn left(sandbox: &Sandbox, run: &str) -> BTreeMap<String, Vec<u8>> {
    let prefix = format!("{run}/");
    let files = sandbox.files();
    let of_run = files
        .into_iter()
        .filter_map(|(name, bytes)| Some((name.strip_prefix(&prefix)?.to_owned(), bytes)));
    of_run
        .filter(|(name, _)| !name.starts_with("checkpoints/") && name != "config.toml")
        // It says the times of the others.
        .filter(|(name, _)| name != "report.html")
        .map(|(name, bytes)| match name.as_str() {
            "metrics.jsonl" | "report.json" => (name, without_times(&bytes)),
            _ => (name, bytes),
        })
        .collect()
}

/// JSON objects, a line each or one, without what the machine's speed and memory decide. Numbers
/// stay as they are written.
fn without_times(bytes: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).unwrap();
    let told = ["seconds", "tokens_per_second", "peak_memory", "\"run\""];
    // Keys of one object stand in one line, apart by commas, or in a line each.
    let parts = text.split_inclusive([',', '\n']);
    let kept = parts.filter(|part| !told.iter().any(|key| part.contains(key)));
    kept.collect::<String>().into_bytes()
}

#[track_caller]
pub fn assert_same(
    found: &BTreeMap<String, Vec<u8>>,
    expected: &BTreeMap<String, Vec<u8>>,
    of: &str,
) {
    assert!(
        found.keys().eq(expected.keys()),
        "{of}: {:?} {:?}",
        found.keys(),
        expected.keys()
    );
    for (name, bytes) in expected {
        assert!(found[name] == *bytes, "{of}: {name} differs");
    }
}

/// Settings by which a step, an epoch or an evaluation is another.
const SETTINGS: [&[&str]; 25] = [
    &["train.warmup_ratio=0.3", "train.lr_scheduler=linear"],
    &["train.warmup_steps=3", "train.lr_scheduler=cosine"],
    &["train.lr_scheduler=constant", "train.weight_decay=0.3"],
    &[
        "train.micro_batch_size=2",
        "train.gradient_accumulation_steps=3",
    ],
    &["train.group_by_length=false", "train.max_grad_norm=0.1"],
    &[
        "data.max_length=7",
        "data.long_inputs=window",
        "data.stride=2",
    ],
    &["lora.lora_dropout=0.3"],
    &["lora.use_dora=true", "lora.lora_dropout=0.1"],
    &["lora.init_lora_weights=pissa"],
    &["lora.init_lora_weights=olora", "lora.use_rslora=true"],
    &[
        "lora.init_lora_weights=gaussian",
        "train.loraplus_lr_ratio=16",
    ],
    &["lora.modules_to_save=[\"norm\"]", "lora.bias=all"],
    &["lora.target_modules=[\"q_proj\",\"embed_tokens\"]"],
    &["model.quantization=nf4"],
    &["model.quantization=int8", "lora.use_dora=true"],
    &["model.dtype=bf16"],
    &["train.gradient_checkpointing=true", "lora.lora_dropout=0.3"],
    &[
        "train.early_stopping_patience=1",
        "train.learning_rate=1e-12",
        "train.epochs=9",
    ],
    &["data.protocol=paper"],
    &[
        "train.eval_steps=2",
        "train.metric_for_best_model=loss",
        "train.learning_rate=0.3",
    ],
    &[
        "train.save_steps=1",
        "train.save_total_limit=1",
        "train.eval_batch_size=3",
    ],
    &["train.layerwise_lr_decay=0.5", "lora.lora_dropout=0.1"],
    &[
        "lora=false",
        "train.layerwise_lr_decay=0.5",
        "train.gradient_checkpointing=true",
    ],
    &["lora=false", "train.layers=1", "model.quantization=nf4"],
    &[
        "lora=false",
        "train.layers=0",
        "model.dtype=bf16",
        "train.eval_steps=2",
    ],
];

/// Pieces of one to eight looks for the wish to stop.
pub fn random(seed: u64) -> impl FnMut() -> usize {
    let mut state = seed;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // Two looks come before the training, and a step has to be done for the pieces to end.
        4 + (state >> 33) as usize % 8
    }
}

fn pieces_leave_what_the_whole_leaves(sandbox: &Sandbox, common: &[&str]) {
    for (seed, set) in SETTINGS.iter().enumerate() {
        let adapts = !set.contains(&"lora=false");
        let common = common
            .iter()
            .filter(|key| adapts || !key.starts_with("lora."));
        let set: Vec<&str> = common.chain(*set).copied().collect();
        let runs = Runs::new(sandbox, &set);
        let (whole, parts) = (format!("whole-{seed}"), format!("parts-{seed}"));
        runs.train(&whole, usize::MAX).unwrap();
        let count = runs.in_pieces(&parts, random(seed as u64));
        assert!(count > 1, "{set:?}");
        let of = format!("{set:?} in {count} pieces");
        assert_same(&left(sandbox, &parts), &left(sandbox, &whole), &of);
    }
}

#[test]
fn texts_are_learned_in_pieces_as_in_one_whatever_the_settings() {
    pieces_leave_what_the_whole_leaves(&sequence(), &["lora.r=2"]);
}

#[test]
fn words_are_learned_in_pieces_as_in_one_whatever_the_settings() {
    // Tags that are spans; a dropout before the head.
    let common = ["train.epochs=2", "lora.r=2", "model.classifier_dropout=0.2"];
    pieces_leave_what_the_whole_leaves(&token(), &common);
}

#[test]
fn a_run_may_be_stopped_wherever_it_looks_for_the_wish() {
    for (sandbox, set) in [
        (
            sequence(),
            [
                "train.baselines=true",
                "train.eval_batch_size=8",
                "lora.lora_dropout=0.2",
            ],
        ),
        (
            token(),
            [
                "train.epochs=2",
                "train.eval_batch_size=8",
                "data.max_length=8",
            ],
        ),
    ] {
        let runs = Runs::new(&sandbox, &set);
        runs.train("whole", usize::MAX).unwrap();
        let whole = left(&sandbox, "whole");
        let mut observer = StopAt::new(usize::MAX);
        let run = sandbox.path("looks");
        ls_train::train(&runs.config, &run, &Device::flex(), &mut observer).unwrap();
        let looks = observer.looked.get();
        assert!(looks > 15, "{looks}");
        for at in 1..=looks {
            let run = format!("parts-{at}");
            let Err(TrainError::Interrupted { saved, .. }) = runs.train(&run, at) else {
                panic!("not stopped at {at} of {looks}");
            };
            // Before the training there is nothing to save, and no checkpoint is promised.
            assert_eq!(
                saved.is_some(),
                sandbox.path(&run).join("checkpoints").exists(),
                "{at}"
            );
            runs.resume(&run, usize::MAX).unwrap();
            assert_same(
                &left(&sandbox, &run),
                &whole,
                &format!("{set:?} stopped at {at}"),
            );
            std::fs::remove_dir_all(sandbox.path(&run)).unwrap();
        }
    }
}

/// A split that is set aside, and a test split, without any file for the validation.
#[test]
fn splits_are_the_same_again() {
    let sandbox = sequence();
    sandbox.write(
        "run.toml",
        SEQUENCE.replace("validation = \"train.csv\"\n", ""),
    );
    sandbox.write("test.csv", csv(&reviews()[..7]));
    let place = |key: &str, file: &str| format!("{key}={}", sandbox.path(file).display());
    let places = [
        place("model.path", "model"),
        place("data.train", "train.csv"),
    ];
    let test = place("data.test", "test.csv");
    for set in [&[test.as_str()][..], &[&test, "data.protocol=paper"], &[]] {
        let common = [&*places[0], &*places[1], "data.cache=false"];
        let set = [&common, set].concat();
        let runs = Runs::of(&sandbox, &set);
        runs.train("whole", usize::MAX).unwrap();
        stop_and_go_on(&runs, "parts", records(&sandbox, "whole", "step").len());
        let (parts, whole) = (left(&sandbox, "parts"), left(&sandbox, "whole"));
        assert_same(&parts, &whole, &format!("{set:?}"));
        for run in ["whole", "parts"] {
            std::fs::remove_dir_all(sandbox.path(run)).unwrap();
        }
    }
}

/// Stops in the middle of the second epoch and goes on with the rest; then once more from the end,
/// as after a kill between the last evaluation and the report.
fn stop_and_go_on(runs: &Runs<'_>, run: &str, steps: usize) {
    let sandbox = runs.sandbox;
    // Two looks before the training, one after each step, and one in the evaluation.
    let error = runs.train(run, 3 + steps * 3 / 4).unwrap_err();
    let TrainError::Interrupted {
        at: Some((step, _)),
        ..
    } = error
    else {
        panic!("{error}");
    };
    assert!(step > steps / 2 && step < steps, "{step} of {steps}");
    sandbox.ok(&["train", "--resume", run]);
    assert_whole(sandbox, run);
    for file in ["report.json", "predictions.jsonl"] {
        std::fs::remove_file(sandbox.path(run).join(file)).unwrap();
    }
    sandbox.ok(&["train", "--resume", run]);
    assert_whole(sandbox, run);
}

/// A run of the real binary that was stopped in its first steps, and the checkpoint of step 3.
fn stopped(sandbox: &Sandbox, run: &str) {
    let runs = Runs::new(sandbox, &["train.save_steps=1"]);
    // Two looks before the training, one after each step.
    let error = runs.train(run, 5).unwrap_err();
    assert_eq!(error.to_string(), "stopped at step 3 of 10, which is saved");
}

#[test]
fn what_is_not_finished_says_so() {
    let sandbox = sequence();
    stopped(&sandbox, "a run");
    let outcome = refused(
        &sandbox,
        &train_args("a run", &[]),
        2,
        &[
            "holds a run that is not finished (step 3 of 10)",
            "hint: name another folder with --run to begin another run, or go on with: ",
        ],
    );
    let command = outcome
        .stderr
        .rsplit_once("go on with: ")
        .unwrap()
        .1
        .trim()
        .to_owned();
    assert!(command.ends_with(" train --resume 'a run'"), "{command}");
    let no_best = [
        "a run is not finished (step 3 of 10) and has no best model yet",
        "hint: go on with: ",
        " train --resume 'a run'",
    ];
    refused(&sandbox, &["predict", "--run", "a run", "hi"], 1, &no_best);
    refused(&sandbox, &["evaluate", "--run", "a run"], 1, &no_best);
    // The command that was named, as a shell takes it.
    let output = std::process::Command::new("sh")
        .args(["-c", &command])
        .current_dir(sandbox.path(""))
        .output();
    assert!(output.unwrap().status.success());
    assert_whole(&sandbox, "a run");
    let outcome = sandbox.run(&["train", "--resume", "a run"]);
    says(
        &outcome,
        0,
        &["holds a finished run: nothing is left to do"],
    );
    refused(&sandbox, &train_args("a run", &[]), 2, &["is not empty"]);

    // Behind the first evaluation there is something to answer with.
    let runs = Runs::new(&sandbox, &[]);
    runs.train("later", 9).unwrap_err();
    for args in [
        &["predict", "--run", "later", "hi"][..],
        &["evaluate", "--run", "later"],
    ] {
        let note = "note: the run is not finished (it stands at step 6 of 10): its best model so far, that of step 5, is used";
        says(&sandbox.run(args), 0, &[note]);
    }
}

#[test]
fn flags_name_the_run_and_its_configuration_in_any_order() {
    let sandbox = sequence();
    for (run, args) in [
        ("a", &["train", "--resume", "a"][..]),
        ("b", &["train", "--run", "b", "--resume"]),
        (
            "c",
            &["train", "--config", "same.toml", "--run", "c", "--resume"],
        ),
        ("d", &["train", "--config", "same.toml", "--resume", "d"]),
        (
            "e",
            &[
                "train",
                "--resume",
                "--config",
                "same.toml",
                "--set",
                "run=e",
            ],
        ),
    ] {
        stopped(&sandbox, run);
        let own = sandbox.read(&format!("{run}/config.toml"));
        let own: Vec<&str> = own
            .lines()
            .filter(|line| !line.starts_with("run = "))
            .collect();
        sandbox.write("same.toml", own.join("\n"));
        let outcome = sandbox.run(args);
        says(
            &outcome,
            0,
            &["going on from the checkpoint of step 3 of 10"],
        );
        assert_whole(&sandbox, run);
    }
    refused(
        &sandbox,
        &["train", "--resume"],
        2,
        &["of which run?", "--resume RUN"],
    );
    refused(
        &sandbox,
        &["train", "--resume", "none"],
        1,
        &["none: not a run folder"],
    );
    let two = ["train", "--resume", "a", "--run", "b"];
    refused(&sandbox, &two, 2, &["--resume names a and --run b"]);
    // Where nothing was begun it begins, so that one command starts and goes on.
    let args = [&train_args("fresh", &[])[..], &["--resume"]].concat();
    says(
        &sandbox.run(&args),
        0,
        &["no run in the folder yet: it begins"],
    );
    assert_whole(&sandbox, "fresh");
}

#[test]
fn another_run_is_refused_by_what_differs() {
    let sandbox = sequence();
    stopped(&sandbox, "out");
    let resume = ["train", "--resume", "out"];
    let set = |key: &'static str| [&resume[..], &["--set", key]].concat();
    for (key, differs) in [
        (
            "train.learning_rate=0.5",
            "train.learning_rate was 0.01, is 0.5",
        ),
        ("lora.r=3", "lora.r was 4, is 3"),
        ("data.max_length=9", "data.max_length was 256, is 9"),
        ("train.seed=1", "train.seed was 42, is 1"),
    ] {
        refused(
            &sandbox,
            &set(key),
            2,
            &[
                "out cannot go on as it began: ",
                differs,
                "hint: name another folder",
            ],
        );
    }
    let both = [&set("lora.r=3")[..], &["--set", "train.seed=1"]].concat();
    refused(
        &sandbox,
        &both,
        2,
        &["\n  lora.r was 4, is 3\n  train.seed was 42, is 1"],
    );

    // What the files hold counts, not what they are called.
    let data = sandbox.read("train.csv");
    for (file, changed, differs) in [
        (
            "train.csv",
            data.replace("boat", "goat"),
            "train.csv: not the bytes that the run began with (SHA-256 was ",
        ),
        (
            "model/tokenizer.json",
            sandbox.read("model/tokenizer.json") + " ",
            "the tokenizer: ",
        ),
        (
            "model/config.json",
            sandbox.read("model/config.json") + " ",
            "the model's config.json: ",
        ),
    ] {
        let before = sandbox.read(file);
        sandbox.write(file, changed);
        refused(&sandbox, &resume, 2, &["out cannot go on", differs]);
        sandbox.write(file, before);
    }
    let weights = std::fs::read(sandbox.path("model/model.safetensors")).unwrap();
    between_the_places(&sandbox);
    refused(
        &sandbox,
        &resume,
        2,
        &["the model's weights: not the bytes"],
    );
    sandbox.write("model/model.safetensors", weights);

    // Moved folders are the same.
    std::fs::rename(sandbox.path("model"), sandbox.path("moved")).unwrap();
    std::fs::rename(sandbox.path("train.csv"), sandbox.path("data.csv")).unwrap();
    std::fs::rename(sandbox.path("out"), sandbox.path("there")).unwrap();
    let moved = [
        "model.path=moved",
        "data.train=data.csv",
        "data.validation=data.csv",
    ];
    let moved = moved.iter().flat_map(|set| ["--set", set]);
    let args: Vec<&str> = ["train", "--resume", "there"]
        .into_iter()
        .chain(moved)
        .collect();
    says(
        &sandbox.run(&args),
        0,
        &["going on from the checkpoint of step 3 of 10"],
    );
}

/// Changes one value of the base where no sample of its tensor looks.
fn between_the_places(sandbox: &Sandbox) {
    let mut other = tensors(sandbox, "model/model.safetensors");
    let table = other.get_mut("model.embed_tokens.weight").unwrap();
    assert!(table.bytes.len() > 16 << 10);
    table.bytes[2000] ^= 1;
    sandbox.write_tensors("model/model.safetensors", &other);
}

/// What a sample leaves out may change: that is what is said where one is asked for.
#[test]
fn a_sample_of_the_weights_is_taken_where_it_is_asked_for() {
    let sandbox = sequence();
    let runs = Runs::new(&sandbox, &["model.hash_weights=sample"]);
    runs.train("out", 5).unwrap_err();
    let settings = sandbox.read("out/config.toml");
    assert_contains(&settings, &["hash_weights = \"sample\""]);
    between_the_places(&sandbox);
    sandbox.ok(&["train", "--resume", "out"]);
    let settings = sandbox.json("out/best/ls_llama.json");
    assert_eq!(settings["base_weights"]["hashed"], "sample");
}

/// Edits a file at a moment of the run, and asks it to stop behind some steps.
struct EditAt {
    file: PathBuf,
    at: fn(&Event<'_>) -> bool,
    stop: StopAt,
}

impl Observer for EditAt {
    fn event(&mut self, event: &Event<'_>) {
        if (self.at)(event) {
            let text = std::fs::read_to_string(&self.file).unwrap();
            // As long as before: every label is the other.
            let text = text.replace(",pos", ",x").replace(",neg", ",pos");
            std::fs::write(&self.file, text.replace(",x", ",neg")).unwrap();
        }
    }

    fn stop_requested(&self) -> bool {
        self.stop.stop_requested()
    }
}

#[test]
fn data_that_are_edited_under_a_run_are_never_taken_for_those_that_it_read() {
    let sandbox = sequence();
    let runs = Runs::new(&sandbox, &[]);
    let before = sandbox.read("train.csv");
    let train = |run: &str, at| {
        let mut observer = EditAt {
            file: sandbox.path("train.csv"),
            at,
            stop: StopAt::new(5),
        };
        let run = sandbox.path(run);
        ls_train::train(&runs.config, &run, &Device::flex(), &mut observer).unwrap_err()
    };
    // Encoded, and other splits are still read.
    let error = train("reading", |event| {
        matches!(event, Event::Data { split: "train", .. })
    });
    assert!(matches!(error, TrainError::FileChanged { .. }), "{error}");
    assert!(sandbox.read("train.csv") != before);
    assert!(!sandbox.path("reading/config.toml").exists());
    sandbox.write("train.csv", &before);
    // Trained on already: it goes on with what it began with, or not at all.
    let error = train("out", |event| matches!(event, Event::Phase("training")));
    assert_eq!(error.to_string(), "stopped at step 3 of 10, which is saved");
    assert!(sandbox.read("train.csv") != before);
    let resume = ["train", "--resume", "out"];
    let differs = "train.csv: not the bytes that the run began with (SHA-256 was ";
    refused(&sandbox, &resume, 2, &[differs]);
    sandbox.write("train.csv", &before);
    sandbox.ok(&resume);
    runs.train("whole", usize::MAX).unwrap();
    assert_same(&left(&sandbox, "out"), &left(&sandbox, "whole"), "edited");
}

#[test]
fn what_cannot_change_the_past_may_be_changed_and_is_said() {
    let sandbox = sequence();
    stopped(&sandbox, "out");
    let args = [
        "train",
        "--resume",
        "out",
        "--set",
        "train.epochs=3",
        "--set",
        "train.save_total_limit=1",
    ];
    let said = [
        "note: from here on: train.epochs was 2, is 3",
        "train.save_total_limit was 2, is 1",
        "note: the learning rates are those of another schedule from here on, of 15 steps instead \
         of 10: that of the next step is 8.00e-3 instead of 7.00e-3. A run that began with \
         train.epochs = 3 ends in another model",
    ];
    says(&sandbox.run(&args), 0, &said);
    assert_whole(&sandbox, "out");
    assert_eq!(sandbox.json("out/report.json")["steps"], 15);
    assert_contains(&sandbox.read("out/config.toml"), &["epochs = 3"]);
    // What is done stays done, at the rates that it had.
    let steps = records(&sandbox, "out", "step");
    assert_eq!(steps.len(), 15);
    let rate = |step: usize| steps[step - 1]["learning_rate"].as_f64().unwrap();
    assert!((rate(3) - 1e-2 * 0.8).abs() < 1e-12 && (rate(4) - 1e-2 * 12.0 / 15.0).abs() < 1e-12);

    // A finished run trains longer from its end, and not less.
    let report = sandbox.read("out/report.json");
    let less = ["train", "--resume", "out", "--set", "train.epochs=2"];
    refused(
        &sandbox,
        &less,
        2,
        &["15 steps are done, more than train.epochs = 2 has"],
    );
    let free = ["train", "--resume", "out", "--set", "train.save_seconds=7"];
    says(&sandbox.run(&free), 0, &["nothing is left to do"]);
    assert_eq!(sandbox.read("out/report.json"), report);
    let more = ["train", "--resume", "out", "--set", "train.epochs=4"];
    says(
        &sandbox.run(&more),
        0,
        &[
            "that of the next step is 2.50e-3 instead of 0.00e0",
            "going on from the checkpoint of step 15 of 20",
        ],
    );
    assert_eq!(sandbox.json("out/report.json")["steps"], 20);
    assert_eq!(records(&sandbox, "out", "step").len(), 20);
    // Without its last checkpoint it cannot, and is left as it is.
    std::fs::remove_dir_all(sandbox.path("out/checkpoints")).unwrap();
    let more = ["train", "--resume", "out", "--set", "train.epochs=5"];
    let says = [
        "no checkpoint in it that the finished run could go on from",
        "in another folder",
    ];
    refused(&sandbox, &more, 1, &says);
}

/// Where the rates do not follow from the number of steps, what was trained longer is what a run
/// leaves that began so.
#[test]
fn a_longer_run_of_one_schedule_is_the_run_that_began_so() {
    let sandbox = sequence();
    let constant = ["train.lr_scheduler=constant", "train.warmup_steps=2"];
    let longer = [&constant[..], &["train.epochs=3"]].concat();
    let (runs, longer) = (Runs::new(&sandbox, &constant), Runs::new(&sandbox, &longer));
    longer.train("whole", usize::MAX).unwrap();
    runs.train("out", 5).unwrap_err();
    runs.train("done", usize::MAX).unwrap();
    for run in ["out", "done"] {
        let outcome = sandbox.run(&["train", "--resume", run, "--set", "train.epochs=3"]);
        says(&outcome, 0, &["train.epochs was 2, is 3"]);
        assert!(!outcome.stderr.contains("schedule"), "{}", outcome.stderr);
        assert_same(&left(&sandbox, run), &left(&sandbox, "whole"), run);
    }
}

/// Stops a run of 20 rows in passes of 8 at most behind its second step of 6.
fn stopped_in_eights(sandbox: &Sandbox, run: &str, size: &str) {
    let size = format!("train.micro_batch_size={size}");
    let runs = Runs::new(sandbox, &[&size, "train.save_steps=1"]);
    let error = runs.train(run, 4).unwrap_err();
    assert_eq!(error.to_string(), "stopped at step 2 of 6, which is saved");
}

#[test]
fn auto_and_the_number_that_it_takes_are_one_setting() {
    let sandbox = sequence();
    let runs = Runs::new(&sandbox, &["train.micro_batch_size=8"]);
    runs.train("whole", usize::MAX).unwrap();
    let whole = left(&sandbox, "whole");
    let resume = |run: &str, set: &str| sandbox.run(&["train", "--resume", run, "--set", set]);
    for (was, is) in [("auto", "8"), ("8", "auto")] {
        stopped_in_eights(&sandbox, was, was);
        let outcome = resume(was, &format!("train.micro_batch_size={is}"));
        let note = "note: from here on: train.micro_batch_size was ";
        says(&outcome, 0, &[note]);
        assert_same(&left(&sandbox, was), &whole, was);
    }
    stopped_in_eights(&sandbox, "out", "auto");
    let outcome = resume("out", "train.micro_batch_size=4");
    says(&outcome, 2, &["train.micro_batch_size was \"auto\", is 4"]);
}

#[test]
fn smaller_passes_may_be_asked_for_and_are_kept() {
    let sandbox = sequence();
    train(&sandbox, "whole", &["train.micro_batch_size=8"]);
    let whole = losses(&sandbox, "whole");
    for size in ["auto", "8"] {
        stopped_in_eights(&sandbox, size, size);
        let outcome = sandbox.run(&["train", "--resume", size, "--set", "train.pass_size=2"]);
        let notes = [
            "train.pass_size was ",
            "note: passes of 2 inputs instead of 8: the same examples in each step, but",
        ];
        says(&outcome, 0, &notes);
        assert_eq!(
            sandbox.json(&format!("{size}/report.json"))["micro_batch_size"],
            2
        );
        assert_contains(
            &sandbox.read(&format!("{size}/config.toml")),
            &["pass_size = 2\n"],
        );
        let found = losses(&sandbox, size);
        assert_eq!(found[..2], whole[..2]);
        for (found, whole) in found.iter().zip(&whole) {
            assert!((found / whole - 1.0).abs() < 1e-3, "{found} {whole}");
        }
    }

    // Killed in the first step in which it took smaller ones: they were chosen for good.
    stopped_in_eights(&sandbox, "killed", "auto");
    let config = sandbox.read("killed/config.toml");
    assert_contains(&config, &["pass_size = 8\n"]);
    sandbox.write(
        "killed/config.toml",
        config.replace("pass_size = 8\n", "pass_size = 2\n"),
    );
    let outcome = sandbox.run(&["train", "--resume", "killed"]);
    says(&outcome, 0, &["note: passes of 2 inputs instead of 8"]);
    assert_eq!(losses(&sandbox, "killed"), losses(&sandbox, "auto"));

    // What was chosen when the run began is chosen, also where no checkpoint knows it.
    stopped_in_eights(&sandbox, "over", "auto");
    let config = sandbox.read("over/config.toml");
    sandbox.write(
        "over/config.toml",
        config.replace("pass_size = 8\n", "pass_size = 4\n"),
    );
    std::fs::remove_dir_all(sandbox.path("over/checkpoints")).unwrap();
    let outcome = sandbox.run(&["train", "--resume", "over"]);
    says(&outcome, 0, &["it starts over"]);
    assert_eq!(sandbox.json("over/report.json")["micro_batch_size"], 4);
    // And so where the run is made again by its configuration.
    let again = ["train", "--config", "over/config.toml", "--run", "again"];
    sandbox.ok(&again);
    assert_same(&left(&sandbox, "again"), &left(&sandbox, "over"), "again");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let sandbox = sequence();
    Runs::new(&sandbox, &[]).train("whole", usize::MAX).unwrap();
    let newest = "out/checkpoints/checkpoint-3.safetensors";
    let whole = left(&sandbox, "whole");
    stopped(&sandbox, "out");
    assert_eq!(
        sandbox.listing("out/checkpoints"),
        ["checkpoint-2.safetensors", "checkpoint-3.safetensors"]
    );
    let bytes = std::fs::read(sandbox.path(newest)).unwrap();
    let files = sandbox.files();
    // Anywhere in the file: the header's length, the state, the tensors; and cut short.
    for at in [0, 40, 700, 2000, bytes.len() / 2, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        sandbox.write(newest, &damaged);
        let outcome = sandbox.run(&["train", "--resume", "out"]);
        let says_so = [
            newest,
            "the checkpoint before it is looked for",
            "of step 2 of 10",
        ];
        says(&outcome, 0, &says_so);
        assert_same(&left(&sandbox, "out"), &whole, &format!("damage at {at}"));
        std::fs::remove_dir_all(sandbox.path("out")).unwrap();
        for (name, bytes) in &files {
            sandbox.write(name, bytes);
        }
    }
    // With none left that is whole, nothing is thrown away silently.
    for step in [2, 3] {
        cut_short(
            &sandbox,
            &format!("out/checkpoints/checkpoint-{step}.safetensors"),
            100,
        );
    }
    refused(
        &sandbox,
        &["train", "--resume", "out"],
        1,
        &[
            "checkpoint-2.safetensors: it is damaged: ",
            "hint: to begin again from the first step, remove out/checkpoints",
        ],
    );
    std::fs::remove_dir_all(sandbox.path("out/checkpoints")).unwrap();
    let outcome = sandbox.run(&["train", "--resume", "out"]);
    says(
        &outcome,
        0,
        &["ended before its first checkpoint: it starts over"],
    );
    assert_same(&left(&sandbox, "out"), &whole, "started over");
}

/// What cannot be read, or only by another version, is not thrown away.
#[test]
fn a_checkpoint_is_passed_over_for_damage_alone() {
    let sandbox = sequence();
    stopped(&sandbox, "out");
    let resume = ["train", "--resume", "out"];
    let newest = "out/checkpoints/checkpoint-3.safetensors";
    let bytes = std::fs::read(sandbox.path(newest)).unwrap();
    let key = b"format_version\":\"";
    let at = bytes
        .windows(key.len())
        .position(|part| part == key)
        .unwrap();
    let mut later = bytes.clone();
    later[at + key.len()] = b'2';
    sandbox.write(newest, later);
    let version = [
        newest,
        "format_version of the checkpoint is 2",
        "hint: go on with the version",
    ];
    refused(&sandbox, &resume, 1, &version);
    // What is damaged is out of the way and kept.
    sandbox.write(newest, &bytes[..bytes.len() / 2]);
    sandbox.ok(&resume);
    let aside = sandbox.path("out/checkpoints/checkpoint-3.safetensors.damaged");
    assert_eq!(std::fs::read(aside).unwrap(), &bytes[..bytes.len() / 2]);
}

/// Gradient checkpointing may be set and taken back in between: each step is the same.
#[test]
fn gradient_checkpointing_may_change_on_the_way() {
    let sandbox = sequence();
    let runs = |on: bool| {
        let on = format!("train.gradient_checkpointing={on}");
        Runs::new(&sandbox, &[&on, "lora.lora_dropout=0.3"])
    };
    let (without, with) = (runs(false), runs(true));
    without.train("whole", usize::MAX).unwrap();
    without.train("out", 4).unwrap_err();
    with.resume("out", 4).unwrap_err();
    without.resume("out", 4).unwrap_err();
    with.resume("out", usize::MAX).unwrap();
    assert_eq!(sandbox.json("out/report.json")["steps"], 10);
    assert_same(&left(&sandbox, "out"), &left(&sandbox, "whole"), "changed");
}

/// What is said of a stop: where the run stands, before it goes on and behind.
#[test]
fn a_stop_says_what_stands() {
    let sandbox = sequence();
    let runs = Runs::new(&sandbox, &["train.save_steps=1"]);
    let said = |error: TrainError| error.to_string();
    assert_eq!(
        said(runs.train("new", 1).unwrap_err()),
        "stopped before the training began: there was nothing to save"
    );
    stopped(&sandbox, "out");
    assert_eq!(
        said(runs.resume("out", 2).unwrap_err()),
        "stopped before the training went on: the run stands at step 3 of 10 as before"
    );
}

#[test]
fn a_moved_run_goes_on_by_its_own_configuration_where_it_is() {
    let sandbox = sequence();
    stopped(&sandbox, "old");
    std::fs::rename(sandbox.path("old"), sandbox.path("new")).unwrap();
    let outcome = sandbox.run(&["train", "--config", "new/config.toml", "--resume"]);
    says(
        &outcome,
        0,
        &["going on from the checkpoint of step 3 of 10"],
    );
    assert_whole(&sandbox, "new");
    assert!(!sandbox.path("old").exists());
}

#[test]
fn metrics_are_cut_back_to_the_checkpoint() {
    let sandbox = sequence();
    Runs::new(&sandbox, &[]).train("whole", usize::MAX).unwrap();
    stopped(&sandbox, "out");
    let metrics = sandbox.read("out/metrics.jsonl");
    // A step that was recorded behind the checkpoint, and half a line.
    let torn = format!(
        "{metrics}{}\n{{\"kind\":\"st",
        metrics.lines().next().unwrap()
    );
    sandbox.write("out/metrics.jsonl", torn);
    // What a killed process leaves where it was writing.
    sandbox.write("out/.tmp-0123456789abcdef", "half");
    sandbox.write("out/checkpoints/.tmp-0123456789abcdef", "half");
    sandbox.ok(&["train", "--resume", "out"]);
    assert_whole(&sandbox, "out");
    assert_same(&left(&sandbox, "out"), &left(&sandbox, "whole"), "cut back");
    // Fewer records than there were then are no base to go on from.
    stopped(&sandbox, "short");
    sandbox.write("short/metrics.jsonl", &metrics[..20]);
    let args = ["train", "--resume", "short"];
    refused(
        &sandbox,
        &args,
        1,
        &[
            "short/metrics.jsonl: found 20 bytes, expected the ",
            "remove short/metrics.jsonl to go on",
        ],
    );
    // Without any the run goes on, and the records begin behind the checkpoint.
    let whole = sandbox.read("whole/metrics.jsonl");
    let behind = whole.lines().skip(metrics.lines().count());
    let behind: String = behind.map(|line| line.to_owned() + "\n").collect();
    std::fs::remove_file(sandbox.path("short/metrics.jsonl")).unwrap();
    let args = train_args("short", &[]);
    refused(&sandbox, &args, 2, &["not finished (step 3 of 10)"]);
    let runs = Runs::new(&sandbox, &[]);
    let mut observer = StopAt::new(3);
    let run = sandbox.path("short");
    let stopped = ls_train::resume(&runs.config, &run, &Device::flex(), &mut observer);
    assert!(stopped.is_err());
    assert_contains(
        &observer.notes.join("\n"),
        &["the records of the steps up to 3 are gone"],
    );
    sandbox.ok(&["train", "--resume", "short"]);
    assert_whole(&sandbox, "short");
    let found = sandbox.read("short/metrics.jsonl");
    assert_eq!(
        without_times(found.as_bytes()),
        without_times(behind.as_bytes())
    );
}

#[test]
fn a_best_model_from_behind_the_checkpoint_is_put_back() {
    let sandbox = sequence();
    let runs = Runs::new(&sandbox, &["train.metric_for_best_model=loss"]);
    runs.train("whole", usize::MAX).unwrap();
    // Killed between best/ and the checkpoint of step 10: the last one is that of step 5.
    runs.train("out", 9).unwrap_err();
    let whole = sandbox.path("whole/best");
    for entry in std::fs::read_dir(&whole).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        std::fs::copy(&path, sandbox.path("out/best").join(name)).unwrap();
    }
    // On the way there the best model is that of step 5 again; in the end it is the same.
    let Err(TrainError::Interrupted { saved, .. }) = runs.resume("out", 4) else {
        panic!("not stopped");
    };
    assert_eq!(saved, Some((8, 10)));
    assert_eq!(sandbox.json("out/best/ls_llama.json")["step"], 5);
    runs.resume("out", usize::MAX).unwrap();
    assert_same(
        &left(&sandbox, "out"),
        &left(&sandbox, "whole"),
        "best from behind",
    );
}

#[test]
fn one_process_at_a_time_has_a_run() {
    let sandbox = sequence();
    stopped(&sandbox, "out");
    let metrics = std::fs::File::options()
        .append(true)
        .open(sandbox.path("out/metrics.jsonl"));
    let metrics = metrics.unwrap();
    metrics.lock().unwrap();
    let says = ["another process is training in this run folder"];
    refused(&sandbox, &["train", "--resume", "out"], 2, &says);
    refused(&sandbox, &train_args("out", &[]), 2, &says);
    drop(metrics);
    sandbox.ok(&["train", "--resume", "out"]);
}

#[cfg(unix)]
mod signals {
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// Starts to train, and waits until a line of stderr has this in it.
    fn until(
        sandbox: &Sandbox,
        args: &[&str],
        line: &str,
    ) -> (Child, BufReader<std::process::ChildStderr>) {
        let mut child = sandbox
            .command_that_heeds_signals(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains(line) {
            let before = said.len();
            stderr.read_line(&mut said).unwrap();
            assert!(said.len() > before, "{line:?} is not in {said}");
        }
        (child, stderr)
    }

    fn send(child: &Child, signal: &str) {
        let pid = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    fn ended(mut child: Child, mut stderr: BufReader<std::process::ChildStderr>) -> (i32, String) {
        let mut said = String::new();
        stderr.read_to_string(&mut said).unwrap();
        (child.wait().unwrap().code().unwrap_or(-1), said)
    }

    #[test]
    fn a_signal_saves_and_says_how_to_go_on() {
        let sandbox = sequence();
        let set = ["train.epochs=400", "train.early_stopping_patience=3"];
        train(&sandbox, "whole", &set);
        for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
            let run = format!("it's {signal}");
            let before = ["--progress", "off"];
            let args = [&before[..], &train_args(&run, &set)].concat();
            let (child, stderr) = until(&sandbox, &args, "training ...");
            send(&child, signal);
            let (found, said) = ended(child, stderr);
            assert_eq!(found, code, "{said}");
            assert_contains(&said, &["which is saved", "go on with: "]);
            assert!(!said.contains("error"), "{said}");
            let command = said.rsplit_once("go on with: ").unwrap().1;
            let status = Command::new("sh")
                .args(["-c", command])
                .current_dir(sandbox.path(""))
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .status();
            assert!(status.unwrap().success(), "{command}");
            assert_same(&left(&sandbox, &run), &left(&sandbox, "whole"), signal);
        }
    }

    #[test]
    fn a_signal_says_so_where_nothing_can_be_saved() {
        let sandbox = sequence();
        // The only checkpoint is that of the end.
        let set = [
            "train.epochs=4000",
            "train.eval_steps=20000",
            "train.save_seconds=0",
        ];
        let (child, stderr) = until(&sandbox, &train_args("out", &set), "training ...");
        sandbox.write("out/checkpoints", "in the way");
        send(&child, "TERM");
        let (code, said) = ended(child, stderr);
        assert_eq!(code, 143, "{said}");
        assert_contains(
            &said,
            &[
                "of which none is saved, because its checkpoint could not be written: out/checkpoints",
                "go on with: ",
                " train --resume out",
            ],
        );
    }

    #[test]
    fn the_command_that_goes_on_says_again_what_the_stopped_one_set() {
        let sandbox = sequence();
        train(&sandbox, "out", &[]);
        let args = ["train", "--resume", "out", "--set", "train.epochs=4000"];
        let (child, stderr) = until(&sandbox, &args, "training ...");
        send(&child, "INT");
        let (code, said) = ended(child, stderr);
        assert_eq!(code, 130, "{said}");
        assert_contains(&said, &[" train --resume out --set train.epochs=4000\n"]);
    }

    #[test]
    fn a_second_signal_ends_at_once() {
        let sandbox = sequence();
        // One step takes many seconds.
        let rows: Vec<_> = std::iter::repeat_with(reviews)
            .take(1500)
            .flatten()
            .collect();
        sandbox.write("train.csv", csv(&rows));
        let set = [
            "train.gradient_accumulation_steps=1000000",
            "train.micro_batch_size=1",
        ];
        let args = train_args("out", &set);
        let (child, stderr) = until(&sandbox, &args, "training ...");
        let since = std::time::Instant::now();
        send(&child, "INT");
        std::thread::sleep(std::time::Duration::from_millis(100));
        send(&child, "INT");
        let (code, said) = ended(child, stderr);
        assert_eq!(code, 130, "{said}");
        assert!(!said.contains("which is saved"), "{said}");
        assert_contains(
            &said,
            &["stopping as soon as", "a second signal ends it at once"],
        );
        assert!(since.elapsed().as_secs() < 5, "{:?}", since.elapsed());
        assert!(!sandbox.path("out/checkpoints").exists());
    }

    #[test]
    fn a_signal_before_the_training_ends_at_once_and_leaves_nothing() {
        let sandbox = sequence();
        // Seconds of encoding.
        let rows: Vec<_> = std::iter::repeat_with(reviews)
            .take(20_000)
            .flatten()
            .collect();
        sandbox.write("train.csv", csv(&rows));
        let args = train_args("out", &[]);
        let (child, stderr) = until(&sandbox, &args, "run folder");
        send(&child, "TERM");
        let (code, said) = ended(child, stderr);
        assert_eq!(code, 143, "{said}");
        assert_contains(
            &said,
            &[
                "before the training began",
                "the same command starts it again",
            ],
        );
        sandbox.write("train.csv", csv(&reviews()));
        sandbox.ok(&args);
        assert_whole(&sandbox, "out");
    }

    #[test]
    fn what_is_ignored_stays_ignored() {
        let sandbox = sequence();
        let set = ["train.epochs=60"];
        // As nohup starts it.
        let args = train_args("out", &set).join(" ");
        let program = env!("CARGO_BIN_EXE_ls-cli");
        let command = format!("trap '' HUP; exec '{program}' {args}");
        let mut child = Command::new("sh")
            .args(["-c", &command])
            .current_dir(sandbox.path(""))
            .env("LS_LLAMA_CACHE", sandbox.path("cache"))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("training ...") {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0);
        }
        send(&child, "HUP");
        let (code, said) = ended(child, stderr);
        assert_eq!(code, 0, "{said}");
        assert_whole(&sandbox, "out");
    }
}

/// Where the checkpoints should be there is no room for them: a file stands there.
struct NoRoom {
    checkpoints: PathBuf,
    steps: Cell<usize>,
    stop_after: usize,
}

impl Observer for NoRoom {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Phase("training") = event {
            std::fs::write(&self.checkpoints, "").unwrap();
        }
    }

    fn stop_requested(&self) -> bool {
        self.steps.set(self.steps.get() + 1);
        self.steps.get() == self.stop_after
    }
}

#[test]
fn a_checkpoint_that_cannot_be_written_ends_no_run_that_can_go_on() {
    let sandbox = sequence();
    let runs = Runs::new(&sandbox, &["train.save_steps=1"]);
    runs.train("whole", usize::MAX).unwrap();
    let train = |run: &str, stop_after| {
        let checkpoints = sandbox.path(run).join("checkpoints");
        let steps = Cell::new(0);
        let mut observer = NoRoom {
            checkpoints,
            steps,
            stop_after,
        };
        ls_train::train(
            &runs.config,
            &sandbox.path(run),
            &Device::flex(),
            &mut observer,
        )
    };
    train("out", usize::MAX).unwrap();
    std::fs::remove_file(sandbox.path("out/checkpoints")).unwrap();
    assert_same(
        &left(&sandbox, "out"),
        &left(&sandbox, "whole"),
        "without checkpoints",
    );
    // Who asked to stop is told that nothing is saved.
    let error = train("stopped", 5).unwrap_err();
    assert!(
        matches!(
            error,
            TrainError::NotSaved {
                at: (3, 10),
                saved: None,
                ..
            }
        ),
        "{error}"
    );
    assert_contains(
        &error.to_string(),
        &["stopped at step 3 of 10, of which none is saved"],
    );
}

/// A file that may not grow is a disk that is full, for this process alone.
#[cfg(target_os = "linux")]
#[test]
fn a_run_that_found_no_room_goes_on_when_there_is_some() {
    let sandbox = sequence();
    train(&sandbox, "whole", &[]);
    // Blocks of 512 bytes: records have room, and no adapter.
    for blocks in ["6", "8"] {
        let args = train_args("out", &[]).join(" ");
        let program = env!("CARGO_BIN_EXE_ls-cli");
        let command = format!("trap '' XFSZ; ulimit -f {blocks}; exec '{program}' {args}");
        let output = std::process::Command::new("sh")
            .args(["-c", &command])
            .current_dir(sandbox.path(""))
            .env("LS_LLAMA_CACHE", sandbox.path("cache"))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{blocks}: {said}");
        assert_contains(
            &said,
            &["cannot write", "go on with: ", " train --resume out"],
        );
        assert_no_panic(&said, "");
        sandbox.ok(&["train", "--resume", "out"]);
        assert_whole(&sandbox, "out");
        assert_same(&left(&sandbox, "out"), &left(&sandbox, "whole"), blocks);
        std::fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
}
