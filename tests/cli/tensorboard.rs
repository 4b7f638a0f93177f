//! Event files of a run, read back by their bytes and, where a Python has it, by TensorBoard
//! itself: the scalars of `metrics.jsonl`, each step once, however often the run was ended.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::python::python_with;
use crate::resume::Runs;
use crate::runs::*;
use crate::sandbox::Sandbox;

/// Values by tag and step.
type Scalars = BTreeMap<String, BTreeMap<u64, f64>>;

const ON: &str = "train.tensorboard=true";

/// The event files of a run in the order of their names.
fn event_files(sandbox: &Sandbox, run: &str) -> Vec<PathBuf> {
    let names = sandbox.listing(run).into_iter();
    let mut names: Vec<String> = names
        .filter(|name| name.starts_with("events.out.tfevents."))
        .collect();
    names.sort();
    let path = |name: String| sandbox.path(&format!("{run}/{name}"));
    names.into_iter().map(path).collect()
}

/// CRC-32C, a bit at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82F6_3B78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

/// The bytes up to here, and their masked checksum behind them.
fn checked<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (data, rest) = bytes.split_at(length);
    let (sum, rest) = rest.split_at(4);
    *bytes = rest;
    let crc = crc32c(data);
    let masked = crc.rotate_right(15).wrapping_add(0xA282_EAD8);
    assert_eq!(u32::from_le_bytes(sum.try_into().unwrap()), masked);
    data
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return value;
        }
    }
}

/// The fields of a protobuf message: numbers as their bits.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let mut taken = |length: usize| {
            let (taken, rest) = message.split_at(length);
            message = rest;
            taken
        };
        let field = match key & 7 {
            0 => Field::Number(varint(&mut message)),
            1 => Field::Number(u64::from_le_bytes(taken(8).try_into().unwrap())),
            5 => Field::Number(u32::from_le_bytes(taken(4).try_into().unwrap()).into()),
            2 => {
                let length = varint(&mut message) as usize;
                let (taken, rest) = message.split_at(length);
                message = rest;
                Field::Bytes(taken)
            }
            wire => panic!("wire type {wire}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

/// What TensorBoard makes of the files: a process that begins at a step voids it and those behind
/// it. A value that is told twice is a fault.
fn scalars(files: &[PathBuf]) -> Scalars {
    let mut scalars = Scalars::new();
    for file in files {
        let bytes = std::fs::read(file).unwrap();
        let mut rest = &bytes[..];
        let mut first = true;
        while !rest.is_empty() {
            let length = u64::from_le_bytes(checked(&mut rest, 8).try_into().unwrap());
            let event = fields(checked(&mut rest, length as usize));
            let number = |wanted: u64| {
                event.iter().find_map(|(number, field)| match field {
                    Field::Number(value) if *number == wanted => Some(*value),
                    _ => None,
                })
            };
            assert!(f64::from_bits(number(1).unwrap()) > 1.7e9);
            let step = number(2).unwrap_or(0);
            for (number, field) in &event {
                match (number, field) {
                    (3, Field::Bytes(version)) => assert!(first && *version == b"brain.Event:2"),
                    (7, Field::Bytes(log)) => {
                        assert_eq!(*log, [8, 1]);
                        scalars
                            .values_mut()
                            .for_each(|values| values.retain(|at, _| *at < step));
                    }
                    (5, Field::Bytes(summary)) => add(&mut scalars, summary, step),
                    _ => {}
                }
            }
            first = false;
        }
    }
    scalars.retain(|_, values| !values.is_empty());
    scalars
}

fn add(scalars: &mut Scalars, summary: &[u8], step: u64) {
    for (_, value) in fields(summary) {
        let Field::Bytes(value) = value else {
            panic!("no value")
        };
        let [(1, Field::Bytes(tag)), (2, Field::Number(bits))] = &fields(value)[..] else {
            panic!("no scalar")
        };
        let tag = String::from_utf8(tag.to_vec()).unwrap();
        let value = f64::from(f32::from_bits(*bits as u32));
        let told = scalars.entry(tag.clone()).or_default().insert(step, value);
        assert!(told.is_none(), "{tag} at step {step} is told twice");
    }
}

/// Holds what TensorBoard sees against the run's own records.
#[track_caller]
fn assert_told(found: &Scalars, sandbox: &Sandbox, run: &str) {
    let mut expected = Scalars::new();
    let mut expect = |tag: &str, step: &Value, value: f64| {
        let values = expected.entry(tag.to_owned()).or_default();
        values.insert(step.as_u64().unwrap(), value);
    };
    for record in records(sandbox, run, "step") {
        let number = |key: &str| record[key].as_f64().unwrap();
        let rate = number("tokens") / number("seconds").max(1e-9);
        expect("train/tokens_per_second", &record["step"], rate);
        for key in ["loss", "learning_rate", "grad_norm", "epoch"] {
            expect(&format!("train/{key}"), &record["step"], number(key));
        }
    }
    for record in records(sandbox, run, "evaluation") {
        let loss = record["loss"].as_f64().unwrap();
        expect("eval/loss", &record["step"], loss);
        for (name, value) in record["scores"].as_object().unwrap() {
            if let Some(value) = value.as_f64() {
                expect(&format!("eval/{name}"), &record["step"], value);
            }
        }
    }
    let mut found = found.clone();
    let memory = found.remove("train/memory");
    if cfg!(target_os = "linux") {
        let memory = memory.unwrap();
        assert!(memory.keys().eq(expected["train/loss"].keys()));
        assert!(memory.values().all(|bytes| *bytes > 1e6));
    }
    assert!(
        found.keys().eq(expected.keys()),
        "{:?} {:?}",
        found.keys(),
        expected.keys()
    );
    for (tag, values) in expected {
        assert!(found[&tag].keys().eq(values.keys()), "{tag}");
        for (found, expected) in found[&tag].values().zip(values.values()) {
            let close = (found - expected).abs() <= 1e-6 * expected.abs().max(1e-6);
            assert!(close, "{tag}: {found} {expected}");
        }
    }
}

#[test]
fn every_step_and_evaluation_is_told_once_however_often_a_run_was_ended() {
    let sandbox = sequence();
    train(&sandbox, "off", &[]);
    assert!(event_files(&sandbox, "off").is_empty());
    let outcome = train(&sandbox, "whole", &[ON, "train.eval_steps=2"]);
    assert_eq!(outcome.code, 0);
    let files = event_files(&sandbox, "whole");
    assert_eq!(files.len(), 1);
    assert_told(&scalars(&files), &sandbox, "whole");

    // At every moment at which it can be stopped, and a checkpoint at every step: one of them
    // stands before the evaluation at its step.
    let set = [ON, "train.eval_steps=2", "train.save_steps=1"];
    let runs = Runs::new(&sandbox, &set);
    for every in [1, 2, 3, 5, 8] {
        let run = format!("pieces-{every}");
        let pieces = runs.in_pieces(&run, || 3 + every);
        let files = event_files(&sandbox, &run);
        assert!(pieces > 1 && files.len() > 1, "{pieces} {files:?}");
        assert_told(&scalars(&files), &sandbox, &run);
    }

    // A finished run goes on.
    let longer = ["train", "--resume", "whole", "--set", "train.epochs=3"];
    sandbox.ok(&longer);
    let files = event_files(&sandbox, "whole");
    assert_eq!(files.len(), 2);
    assert_told(&scalars(&files), &sandbox, "whole");
    // It may be begun with later, and be left.
    let begun = [
        "train",
        "--resume",
        "off",
        "--set",
        "train.epochs=3",
        "--set",
        ON,
    ];
    sandbox.ok(&begun);
    let steps = scalars(&event_files(&sandbox, "off"));
    assert_eq!(
        steps["train/loss"].keys().copied().collect::<Vec<_>>(),
        [11, 12, 13, 14, 15]
    );
}

/// Prints the values of every tag by step, as TensorBoard reads a folder.
const READ: &str = "
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as OfPlugins
from tensorboard.util.tensor_util import make_ndarray
for folder in sys.argv[1:]:
    events = EventAccumulator(folder, size_guidance={'scalars': 0})
    events.Reload()
    tags = events.Tags()['scalars']
    print(json.dumps({tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in tags}))
    # What TensorBoard has without its fast loader.
    events = OfPlugins(folder, tensor_size_guidance={'scalars': 0})
    events.Reload()
    value = lambda e: make_ndarray(e.tensor_proto).item()
    tags = events.Tags()['tensors']
    print(json.dumps({tag: [[e.step, value(e)] for e in events.Tensors(tag)] for tag in tags}))
";

#[test]
fn tensorboard_itself_reads_the_same() {
    let Some(python) = python_with("tensorboard") else {
        println!("left out: there is no Python with tensorboard");
        return;
    };
    let sandbox = token();
    train(&sandbox, "whole", &[ON, "train.epochs=3"]);
    let set = [ON, "train.epochs=3", "train.save_steps=1"];
    Runs::new(&sandbox, &set).in_pieces("pieces", || 9);
    let folders = ["whole", "pieces"];
    let output = Command::new(python)
        .args(["-c", READ])
        .args(folders.map(|run| sandbox.path(run)))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let twice = folders.into_iter().flat_map(|run| [run, run]);
    assert_eq!(text.lines().count(), 4);
    for (run, line) in twice.zip(text.lines()) {
        let read: BTreeMap<String, Vec<(u64, f64)>> = serde_json::from_str(line).unwrap();
        let ours = scalars(&event_files(&sandbox, run));
        assert_told(&ours, &sandbox, run);
        assert!(read.keys().eq(ours.keys()), "{:?}", read.keys());
        for (tag, values) in &read {
            let steps = values.iter().map(|(step, _)| step);
            assert!(ours[tag].keys().eq(steps), "{run} {tag}: {values:?}");
            for ((_, found), expected) in values.iter().zip(ours[tag].values()) {
                // As far as it is read from decimal digits.
                let close = (found - expected).abs() <= 1e-12 * expected.abs();
                assert!(close, "{run} {tag}: {found} {expected}");
            }
        }
    }
}
