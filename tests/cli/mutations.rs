//! Damaged files: the real binary on thousands of them neither panics nor aborts, takes neither
//! more than its time nor more than its memory, and says what is wrong.
//!
//! `cargo test` runs a sample. `LS_LLAMA_MUTATIONS=18000 cargo test -p ls-cli --test cli mutations`
//! runs so many, `LS_LLAMA_MUTATIONS_SEED` begins elsewhere, and `LS_LLAMA_MUTATIONS_KEEP` names a
//! folder for the files that did harm.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ls_files::write_tensors;
use serde_json::json;

use crate::mutate::{Form, Random, mutate};
use crate::runs::json_lines;
use crate::sandbox::{Sandbox, processor_time, tells_of_a_panic, weights};

/// Runs in `cargo test`.
const SAMPLE: usize = 240;
/// A run on a damaged file may take so much of a core's time, and so many KiB of resident memory.
const TIME: Duration = Duration::from_secs(20);
const KIB: u64 = 600 << 10;
/// However busy the machine is, one that takes longer waits for something that does not come.
const WAIT: Duration = Duration::from_secs(120);
/// A core each.
const WORKERS: usize = 2;

/// A file, how it is written, and commands that read it.
struct Subject {
    file: &'static str,
    form: Form,
    commands: &'static [&'static [&'static str]],
}

const PREDICT_TOKEN: &[&str] = &["predict", "--run", "tok", "Ann sold boats in Bern"];
const PREDICT_SEQUENCE: &[&str] = &["predict", "--run", "seq", "the film was good"];
const EVALUATE_SEQUENCE: &[&str] = &["evaluate", "--run", "seq"];
const EVALUATE_TOKEN: &[&str] = &["evaluate", "--run", "tok"];
const TRAIN_SEQUENCE: &[&str] = &["train", "--config", "seq.toml", "--run", "out"];
const TRAIN_TOKEN: &[&str] = &["train", "--config", "tok.toml", "--run", "out"];
const TRAIN_LONGER: &[&str] = &["train", "--resume", "long", "--set", "train.epochs=2"];
const ANSWER_ON: &[&str] = &[
    "predict",
    "--run",
    "seq",
    "--input",
    "rows.jsonl",
    "--output",
    "answers",
    "--resume",
];
const PREDICT_SHARDED: &[&str] = &[
    "predict",
    "--model",
    "sharded",
    "--adapter",
    "tok/best",
    "--task",
    "token",
    "Ann sold boats",
];

/// Every kind of file that the program reads. Splits that were encoded before (`cache`) are damaged
/// in `crates/ls-data/tests/it/cache.rs`.
const SUBJECTS: &[Subject] = &[
    subject(
        "model/config.json",
        Form::Json,
        &[PREDICT_TOKEN, TRAIN_SEQUENCE, TRAIN_TOKEN],
    ),
    subject(
        "model/tokenizer.json",
        Form::Json,
        &[TRAIN_SEQUENCE, TRAIN_TOKEN],
    ),
    subject("model/tokenizer_config.json", Form::Json, &[TRAIN_SEQUENCE]),
    subject("model/special_tokens_map.json", Form::Json, &[TRAIN_TOKEN]),
    subject(
        "model/model.safetensors",
        Form::Safetensors,
        &[PREDICT_TOKEN, TRAIN_SEQUENCE],
    ),
    subject(
        "sharded/model.safetensors.index.json",
        Form::Json,
        &[PREDICT_SHARDED],
    ),
    subject(
        "sharded/b.safetensors",
        Form::Safetensors,
        &[PREDICT_SHARDED],
    ),
    subject("tok/best/tokenizer.json", Form::Json, &[PREDICT_TOKEN]),
    subject("seq/best/tokenizer.json", Form::Json, &[PREDICT_SEQUENCE]),
    subject("tok/best/adapter_config.json", Form::Json, &[PREDICT_TOKEN]),
    subject(
        "seq/best/adapter_config.json",
        Form::Json,
        &[PREDICT_SEQUENCE],
    ),
    subject(
        "tok/best/adapter_model.safetensors",
        Form::Safetensors,
        &[PREDICT_TOKEN],
    ),
    subject(
        "seq/best/adapter_model.safetensors",
        Form::Safetensors,
        &[PREDICT_SEQUENCE],
    ),
    subject(
        "tok/best/ls_llama.json",
        Form::Json,
        &[PREDICT_TOKEN, EVALUATE_TOKEN],
    ),
    subject(
        "seq/best/ls_llama.json",
        Form::Json,
        &[PREDICT_SEQUENCE, EVALUATE_SEQUENCE],
    ),
    subject("tok/best/labels.json", Form::Json, &[PREDICT_TOKEN]),
    subject(
        "seq/config.toml",
        Form::Text,
        &[PREDICT_SEQUENCE, EVALUATE_SEQUENCE],
    ),
    subject("tok/config.toml", Form::Text, &[EVALUATE_TOKEN]),
    subject("seq.toml", Form::Text, &[TRAIN_SEQUENCE]),
    subject("tok.toml", Form::Text, &[TRAIN_TOKEN]),
    subject(
        "mine.toml",
        Form::Text,
        &[&["train", "--config", "mine-run.toml", "--run", "out"]],
    ),
    subject(
        "int/label.json",
        Form::Json,
        &[&["train", "--config", "int.toml", "--run", "out"]],
    ),
    subject(
        "int/train.json",
        Form::Text,
        &[&["train", "--config", "int.toml", "--run", "out"]],
    ),
    subject(
        "train.csv",
        Form::Text,
        &[
            TRAIN_SEQUENCE,
            EVALUATE_SEQUENCE,
            &["predict", "--run", "seq", "--input", "train.csv"],
        ],
    ),
    subject(
        "train.conll",
        Form::Text,
        &[
            TRAIN_TOKEN,
            EVALUATE_TOKEN,
            &["predict", "--run", "tok", "--input", "train.conll"],
            &[
                "score",
                "--gold",
                "train.conll",
                "--pred",
                "tok/predictions.jsonl",
            ],
        ],
    ),
    subject(
        "data.tsv",
        Form::Text,
        &[&["evaluate", "--run", "seq", "--data", "data.tsv"]],
    ),
    subject(
        "data.jsonl",
        Form::Text,
        &[
            &["evaluate", "--run", "seq", "--data", "data.jsonl"],
            &["predict", "--run", "seq", "--input", "data.jsonl"],
        ],
    ),
    subject(
        "words.jsonl",
        Form::Text,
        &[
            &["evaluate", "--run", "tok", "--data", "words.jsonl"],
            &["predict", "--run", "tok", "--input", "words.jsonl"],
        ],
    ),
    subject(
        "spans.jsonl",
        Form::Text,
        &[&["evaluate", "--run", "tok", "--data", "spans.jsonl"]],
    ),
    subject(
        "lines.txt",
        Form::Text,
        &[
            &["predict", "--run", "tok", "--input", "lines.txt"],
            &["predict", "--run", "seq", "--input", "lines.txt"],
        ],
    ),
    subject("m.gguf", Form::Binary, &[&["convert", "m.gguf", "out"]]),
    subject("q.gguf", Form::Binary, &[&["convert", "q.gguf", "out"]]),
    subject(
        "text.parquet",
        Form::Binary,
        &[
            &[
                "predict",
                "--run",
                "seq",
                "--input",
                "text.parquet",
                "--set",
                "data.text=sentence",
            ],
            &[
                "train",
                "--model",
                "model",
                "--data",
                "text.parquet",
                "--run",
                "out",
                "--set",
                "train.epochs=1",
                "--set",
                "lora.r=2",
            ],
        ],
    ),
    subject(
        "tokens.parquet",
        Form::Binary,
        &[
            &["predict", "--run", "tok", "--input", "tokens.parquet"],
            &[
                "train",
                "--model",
                "model",
                "--data",
                "tokens.parquet",
                "--run",
                "out",
                "--set",
                "train.epochs=1",
                "--set",
                "lora.r=2",
            ],
        ],
    ),
    subject(
        "long/checkpoints/checkpoint-1.safetensors",
        Form::Safetensors,
        &[TRAIN_LONGER],
    ),
    subject("long/metrics.jsonl", Form::Text, &[TRAIN_LONGER]),
    subject("long/config.toml", Form::Text, &[TRAIN_LONGER]),
    subject("answers.part.progress", Form::Binary, &[ANSWER_ON]),
    subject("answers.part", Form::Text, &[ANSWER_ON]),
    subject(
        "tok/predictions.jsonl",
        Form::Text,
        &[&[
            "score",
            "--gold",
            "train.conll",
            "--pred",
            "tok/predictions.jsonl",
        ]],
    ),
];

const fn subject(
    file: &'static str,
    form: Form,
    commands: &'static [&'static [&'static str]],
) -> Subject {
    Subject {
        file,
        form,
        commands,
    }
}

/// A folder with all of them, each as it should be.
fn folder() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write(
        "model/special_tokens_map.json",
        json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}}).to_string(),
    );
    shards(&sandbox);
    let texts = [
        ("the film was good", "pos"),
        ("the road was sad", "neg"),
        ("a bright boat", "pos"),
        ("the soup was bad and dull", "neg"),
    ];
    let rows = |part: char| {
        let rows = texts
            .iter()
            .map(|(text, label)| format!("{text}{part}{label}\n"));
        format!("text{part}label\n{}", rows.collect::<String>())
    };
    sandbox.write("train.csv", rows(','));
    sandbox.write("data.tsv", rows('\t'));
    let object = |(text, label): &(&str, &str)| json!({"text": text, "label": label});
    sandbox.write("data.jsonl", json_lines(texts.iter().map(object)));
    sandbox.write("lines.txt", "Ann sold boats\nthe film was good\n\nBern .\n");
    let sentence = ["Ann", "sold", "boats", "in", "Bern", "."];
    let tags = ["B-PER", "O", "O", "O", "B-LOC", "O"];
    let pairs = sentence.iter().zip(tags);
    let sentences: String = pairs.map(|(word, tag)| format!("{word} {tag}\n")).collect();
    sandbox.write("train.conll", format!("{sentences}\n").repeat(4));
    let words = json!({"tokens": sentence, "tags": tags});
    sandbox.write("words.jsonl", json_lines(vec![words; 3]));
    let spans = json!({
        "text": "Ann sold boats in Bern .",
        "spans": [{"start": 0, "end": 3, "label": "PER"}, {"start": 18, "end": 22, "label": "LOC"}],
    });
    sandbox.write("spans.jsonl", json_lines(vec![spans; 3]));
    let numbers = json!({"tokens": sentence, "tags": [1, 0, 0, 0, 2, 0]});
    sandbox.write("int/train.json", json_lines(vec![numbers; 4]));
    sandbox.write(
        "int/label.json",
        json!({"O": 0, "B-PER": 1, "B-LOC": 2}).to_string(),
    );
    for file in ["text.parquet", "tokens.parquet"] {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ls-data/tests/fixtures");
        std::fs::copy(fixtures.join("parquet").join(file), sandbox.path(file)).unwrap();
    }
    for (file, name) in [("llama.gguf", "m.gguf"), ("qwen2.gguf", "q.gguf")] {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/gguf");
        std::fs::copy(fixtures.join(file), sandbox.path(name)).unwrap();
    }
    let run = |task: &str, data: &str| {
        format!(
            "task = \"{task}\"\n[model]\npath = \"model\"\n[lora]\nr = 2\nlora_alpha = 4\n\
             lora_dropout = 0.1\n[data]\n{data}\nmax_length = 32\nstride = 4\n[train]\nepochs = 1\n\
             micro_batch_size = 4\neval_batch_size = 8\ngradient_accumulation_steps = 1\n\
             learning_rate = 1e-3\nwarmup_steps = 1\nwarmup_ratio = 0.1\nseed = 7\neval_steps = 3\n\
             early_stopping_patience = 2\nmax_grad_norm = 1.0\n"
        )
    };
    let files = |file: &str| format!("train = \"{file}\"\nvalidation = \"{file}\"");
    sandbox.write("seq.toml", run("sequence", &files("train.csv")));
    sandbox.write("tok.toml", run("token", &files("train.conll")));
    sandbox.write("int.toml", run("token", &files("int/train.json")));
    sandbox.write(
        "mine-run.toml",
        run(
            "token",
            "dataset = \"mine.toml\"\ndir = \".\"\nvalidation_fraction = 0.5",
        ),
    );
    sandbox.write(
        "mine.toml",
        "title = \"Mine\"\ntask = \"token\"\nlabels = [\"O\", \"B-PER\", \"I-PER\", \"B-LOC\", \
         \"I-LOC\"]\npaper_max_length = 64\n[splits]\ntrain = { examples = 4 }\n\
         validation = { examples = 4 }\n[[forms]]\nname = \"columns\"\nformat = \"conll\"\n\
         splits.train.files = [\"train.conll\"]\nsplits.validation.files = [\"valid.conll\"]\n",
    );
    sandbox.write("valid.conll", sandbox.read("train.conll"));
    for (config, run) in [("seq.toml", "seq"), ("tok.toml", "tok")] {
        sandbox.ok(&["train", "--config", config, "--run", run]);
    }
    // What is gone on with: a run that can train longer, and answers up to a row that is mended.
    sandbox.ok(&["train", "--config", "seq.toml", "--run", "long"]);
    let rows = json_lines(texts.iter().map(object));
    sandbox.write("rows.jsonl", format!("{rows}{{}}\n"));
    let (_, begin) = ANSWER_ON.split_last().unwrap();
    assert_eq!(sandbox.run(begin).code, 1);
    sandbox.write("rows.jsonl", rows.repeat(2));
    std::fs::create_dir(sandbox.path("kept")).unwrap();
    for name in CHANGED {
        copy(&sandbox.path(name), &sandbox.path("kept").join(name));
    }
    sandbox
}

/// What [`TRAIN_LONGER`] and [`ANSWER_ON`] change.
const CHANGED: [&str; 4] = ["long", "answers", "answers.part", "answers.part.progress"];

/// Puts back what they have changed.
fn put_back(sandbox: &Sandbox) {
    for name in CHANGED {
        let path = sandbox.path(name);
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_dir_all(&path);
        copy(&sandbox.path("kept").join(name), &path);
    }
}

/// Copies a file, or a folder with all that is in it; nothing where there is nothing.
fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        std::fs::copy(from, to).unwrap();
    } else if from.is_dir() {
        std::fs::create_dir(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name));
        }
    }
}

/// The model in two files with an index.
fn shards(sandbox: &Sandbox) {
    let weights = weights(520);
    sandbox.write("sharded/config.json", sandbox.read("model/config.json"));
    let mut map = serde_json::Map::new();
    for (at, shard) in ["a.safetensors", "b.safetensors"].into_iter().enumerate() {
        let part = weights.iter().enumerate();
        let part = part
            .filter(|(index, _)| index % 2 == at)
            .map(|(_, (name, tensor))| {
                map.insert(name.clone(), json!(shard));
                (name.as_str(), tensor)
            });
        let part: Vec<_> = part.collect();
        write_tensors(sandbox.path("sharded").join(shard), part).unwrap();
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    sandbox.write("sharded/model.safetensors.index.json", index.to_string());
}

/// What a run on a damaged file did.
enum Harm {
    None,
    Panic,
    Abort,
    Timeout,
    Memory,
}

/// Runs the binary under its limits; what it did, and the end of what it said.
fn watched(sandbox: &Sandbox, args: &[&str]) -> (Harm, String) {
    let _ = std::fs::remove_dir_all(sandbox.path("out"));
    let [out, err] = ["stdout", "stderr"].map(|name| File::create(sandbox.path(name)).unwrap());
    let mut child = sandbox
        .command(args)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .unwrap();
    let began = Instant::now();
    let mut harm = Harm::None;
    let ended: Option<ExitStatus> = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if resident(child.id()).is_some_and(|kib| kib > KIB) {
            harm = Harm::Memory;
        } else if began.elapsed() > WAIT
            || processor_time(child.id()).is_some_and(|time| time > TIME)
        {
            harm = Harm::Timeout;
        } else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        break None;
    };
    let said = std::fs::read(sandbox.path("stderr")).unwrap();
    let said = String::from_utf8_lossy(&said).into_owned();
    if let Some(status) = ended {
        harm = match status.code() {
            None => Harm::Abort,
            Some(0..=2) if !tells_of_a_panic(&said) => Harm::None,
            Some(_) => Harm::Panic,
        };
    }
    (harm, said.chars().take(600).collect())
}

/// The most KiB of memory that a process has held so far, where the system tells.
fn resident(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

#[test]
fn damaged_files_are_refused_in_time_and_memory() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let count = number("LS_LLAMA_MUTATIONS").unwrap_or(SAMPLE);
    let seed = number("LS_LLAMA_MUTATIONS_SEED").unwrap_or(1) as u64;
    let keep = std::env::var_os("LS_LLAMA_MUTATIONS_KEEP").map(PathBuf::from);
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (next, found, keep) = (&next, &found, keep.as_deref());
            scope.spawn(move || {
                let sandbox = folder();
                if worker == 0 {
                    undamaged(&sandbox);
                }
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        return;
                    }
                    if let Some(harm) = one(&sandbox, seed, at, keep) {
                        eprintln!("{harm}");
                        found.lock().unwrap().push(harm);
                    }
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    assert!(
        found.is_empty(),
        "{} of {count} damaged files did harm:\n{}",
        found.len(),
        found.join("\n")
    );
}

/// Every command does its work on the files as they should be: else nothing below would say much.
fn undamaged(sandbox: &Sandbox) {
    for command in SUBJECTS.iter().flat_map(|subject| subject.commands) {
        let _ = std::fs::remove_dir_all(sandbox.path("out"));
        sandbox.ok(command);
        put_back(sandbox);
    }
}

/// Damages a file in the way of this number, runs a command on it, and puts the file back.
fn one(sandbox: &Sandbox, seed: u64, at: usize, keep: Option<&Path>) -> Option<String> {
    let mut random = Random(seed << 32 | at as u64);
    let subject = &SUBJECTS[at % SUBJECTS.len()];
    let command = subject.commands[random.below(subject.commands.len())];
    let path = sandbox.path(subject.file);
    let whole = std::fs::read(&path).unwrap_or_else(|_| panic!("{}", subject.file));
    let (damaged, what) = mutate(&whole, subject.form, &mut random);
    std::fs::write(&path, &damaged).unwrap();
    let (harm, said) = watched(sandbox, command);
    std::fs::write(&path, whole).unwrap();
    if command.contains(&"--resume") {
        put_back(sandbox);
    }
    let harm = match harm {
        Harm::None => return None,
        Harm::Panic => "panic",
        Harm::Abort => "abort",
        Harm::Timeout => "timeout",
        Harm::Memory => "memory",
    };
    if let Some(folder) = keep {
        std::fs::create_dir_all(folder).unwrap();
        let name = subject.file.replace('/', "_");
        std::fs::write(folder.join(format!("{at}-{name}")), damaged).unwrap();
    }
    let command = command.join(" ");
    Some(format!(
        "{harm} {at} {}: {what}: {command}\n    {said}",
        subject.file
    ))
}
