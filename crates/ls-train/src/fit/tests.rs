//! Runs whose steps fail: they are undone, and passed over or taken again in smaller passes.

use std::path::Path;

use burn::tensor::Device;
use serde_json::Value;
use tempfile::TempDir;

use super::injected;
use crate::{Event, Observer, Report, RunConfig, TrainError};

/// Stops a run behind a step, and keeps what it was told.
#[derive(Default)]
struct Watch {
    stop_behind: Option<usize>,
    step: usize,
    notes: Vec<String>,
}

impl Observer for Watch {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Step(record) => self.step = record.step,
            Event::Skipped(record) => self.step = record.step,
            Event::Note(note) => self.notes.push((*note).to_owned()),
            _ => {}
        }
    }

    fn stop_requested(&self) -> bool {
        self.stop_behind.is_some_and(|step| self.step >= step)
    }
}

/// Sixteen texts of two classes, and the demonstration's model.
struct Runs {
    dir: TempDir,
}

impl Runs {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let things = ["film", "road", "sea", "boat", "soup", "play", "song", "day"];
        let rows =
            things.map(|thing| format!("the {thing} was good,a\na sad and dull {thing},b\n"));
        let text = format!("text,label\n{}", rows.concat());
        std::fs::write(dir.path().join("train.csv"), text).unwrap();
        Self { dir }
    }

    fn config(&self, set: &[&str]) -> RunConfig {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/demo/model");
        let data = self.dir.path().join("train.csv");
        let text = format!(
            "task = \"sequence\"\nmodel.path = {model:?}\ndata.train = {data:?}\n\
             data.validation = {data:?}\ndata.cache = false\nlora.lora_dropout = 0.0\n\
             train.epochs = 3\ntrain.learning_rate = 1e-2\ntrain.group_by_length = false\n\
             train.save_seconds = 0\n"
        );
        let set: Vec<String> = set.iter().map(|set| (*set).to_owned()).collect();
        RunConfig::from_toml(&text, "run.toml", &set).unwrap()
    }

    fn train(&self, run: &str, set: &[&str], watch: &mut Watch) -> Result<Report, TrainError> {
        let run = self.dir.path().join(run);
        crate::train(&self.config(set), &run, &Device::flex(), watch)
    }

    fn resume(&self, run: &str, set: &[&str]) -> Result<Report, TrainError> {
        self.watch_resume(run, set, &mut Watch::default())
    }

    fn watch_resume(
        &self,
        run: &str,
        set: &[&str],
        watch: &mut Watch,
    ) -> Result<Report, TrainError> {
        let run = self.dir.path().join(run);
        crate::resume(&self.config(set), &run, &Device::flex(), watch)
    }

    /// Loss and norm of every step, as they were written; nothing of one that was passed over.
    fn steps(&self, run: &str) -> Vec<(u64, Option<[f64; 2]>)> {
        let text = std::fs::read_to_string(self.dir.path().join(run).join("metrics.jsonl"));
        let text = text.unwrap();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let steps = lines.filter_map(|line| {
            let values = match line["kind"].as_str() {
                Some("step") => Some(["loss", "grad_norm"].map(|key| line[key].as_f64().unwrap())),
                Some("skipped") => None,
                _ => return None,
            };
            Some((line["step"].as_u64().unwrap(), values))
        });
        steps.collect()
    }

    fn adapter(&self, run: &str) -> Vec<u8> {
        let path = self
            .dir
            .path()
            .join(run)
            .join("best/adapter_model.safetensors");
        std::fs::read(path).unwrap()
    }
}

const AUTO: &str = "train.micro_batch_size=\"auto\"";

#[test]
fn auto_halves_a_pass_that_finds_no_memory_and_trains_what_the_smaller_size_trains() {
    let runs = Runs::new();
    // Dropout too: its masks are those of the passes.
    let dropout = "lora.lora_dropout=0.2";
    for (room, size, passes) in [(4, "4", "2"), (2, "2", "4"), (1, "1", "8")] {
        let (auto, fixed) = (format!("auto{size}"), format!("fixed{size}"));
        injected::room_for(room, 1);
        let mut watch = Watch::default();
        let report = runs.train(&auto, &[AUTO, dropout], &mut watch).unwrap();
        injected::room_for(usize::MAX, 0);
        assert_eq!(report.micro_batch_size, room);
        assert_eq!(
            watch.notes.len(),
            (8 / room).ilog2() as usize,
            "{:?}",
            watch.notes
        );
        assert!(watch.notes[0].contains("at step 1, which asked for 8.4 MB: passes of 4 inputs"));
        let set = [
            format!("train.micro_batch_size={size}"),
            format!("train.gradient_accumulation_steps={passes}"),
            dropout.to_owned(),
        ];
        let set = set.each_ref().map(String::as_str);
        let report = runs.train(&fixed, &set, &mut Watch::default()).unwrap();
        assert_eq!((report.micro_batch_size, report.steps), (room, 6));
        assert_eq!(runs.steps(&auto), runs.steps(&fixed));
        assert_eq!(runs.adapter(&auto), runs.adapter(&fixed));
    }
}

#[test]
fn a_step_in_smaller_passes_gives_the_loss_and_gradient_of_the_whole_one() {
    let runs = Runs::new();
    runs.train("whole", &[AUTO], &mut Watch::default()).unwrap();
    // In the middle of an epoch and behind an evaluation; the step before is on its way.
    for from in [3, 4] {
        let run = format!("from{from}");
        injected::room_for(2, from);
        let mut watch = Watch::default();
        runs.train(&run, &[AUTO], &mut watch).unwrap();
        injected::room_for(usize::MAX, 0);
        assert_eq!(watch.notes.len(), 2);
        let (whole, split) = (runs.steps("whole"), runs.steps(&run));
        assert_eq!(whole[..from - 1], split[..from - 1]);
        assert_ne!(whole, split);
        for ((step, whole), (_, split)) in whole.iter().zip(&split) {
            let pairs = whole.unwrap().into_iter().zip(split.unwrap());
            for (whole, split) in pairs {
                // Sums of f32 in another order, through a few steps of Adam.
                assert!(
                    (split / whole - 1.0).abs() < 1e-3,
                    "{step}: {split} {whole}"
                );
            }
        }
    }
}

#[test]
fn a_size_that_was_set_ends_the_run_with_what_can_be_set() {
    let runs = Runs::new();
    injected::room_for(4, 2);
    let error = runs.train("fixed", &[], &mut Watch::default()).unwrap_err();
    injected::room_for(0, 3);
    let none = runs
        .train("none", &[AUTO], &mut Watch::default())
        .unwrap_err();
    injected::room_for(usize::MAX, 0);
    let said = error.to_string();
    for part in [
        "the device has no memory left for step 2, in passes of 8 inputs, which asked for 8.4 MB; ",
        " were expected in all",
        "out of device memory allocating",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let hint = error.hint().unwrap();
    for part in [
        "train.pass_size = 4 or less",
        "gradient_checkpointing",
        "data.max_length below 256",
        "nf4",
    ] {
        assert!(hint.contains(part), "{hint}");
    }
    assert_eq!(runs.steps("fixed").len(), 1);
    // What it says leads on.
    let set = error.goes_on_with().unwrap();
    assert_eq!(set, "train.pass_size=4");
    injected::room_for(4, 2);
    let report = runs.resume("fixed", &[set]).unwrap();
    injected::room_for(usize::MAX, 0);
    assert_eq!((report.micro_batch_size, report.steps), (4, 6));
    assert_eq!(
        none.goes_on_with(),
        Some("train.gradient_checkpointing=true")
    );
    let said = none.to_string();
    assert!(said.contains("for step 3, in passes of 1 inputs"), "{said}");
    assert!(!none.hint().unwrap().contains("pass_size"));
}

#[test]
fn the_size_is_kept_over_an_interruption() {
    let runs = Runs::new();
    let set = [AUTO, "lora.lora_dropout=0.2"];
    injected::room_for(2, 2);
    runs.train("whole", &set, &mut Watch::default()).unwrap();
    let mut watch = Watch {
        stop_behind: Some(3),
        ..Watch::default()
    };
    let stopped = runs.train("parts", &set, &mut watch);
    assert!(matches!(stopped, Err(TrainError::Interrupted { .. })));
    // Now there would be room.
    injected::room_for(usize::MAX, 0);
    let mut watch = Watch::default();
    let report = runs.watch_resume("parts", &set, &mut watch).unwrap();
    assert_eq!(report.micro_batch_size, 2);
    assert!(watch.notes.is_empty(), "{:?}", watch.notes);
    assert_eq!(runs.steps("whole"), runs.steps("parts"));
    assert_eq!(runs.adapter("whole"), runs.adapter("parts"));
}

#[test]
fn steps_that_are_no_numbers_are_passed_over_so_often_and_no_oftener() {
    let runs = Runs::new();
    let two = ["train.skip_nonfinite_steps=2", "train.eval_steps=1"];
    injected::spoilt(&[2, 5]);
    let report = runs.train("two", &two, &mut Watch::default()).unwrap();
    assert_eq!((report.steps, report.skipped_steps), (6, 2));
    let skipped: Vec<u64> = runs
        .steps("two")
        .iter()
        .filter_map(|(step, values)| values.is_none().then_some(*step))
        .collect();
    assert_eq!(skipped, [2, 5]);
    // Also where the next step is queued before the values come.
    runs.train("late", &two[..1], &mut Watch::default())
        .unwrap();
    assert_eq!(runs.steps("late"), runs.steps("two"));

    injected::spoilt(&[2, 3, 5]);
    for (run, set) in [("third", &two[..]), ("third-late", &two[..1])] {
        let error = runs.train(run, set, &mut Watch::default()).unwrap_err();
        let said = error.to_string();
        assert!(
            said.starts_with("gradient norm is NaN at step 5; examples: "),
            "{said}"
        );
        // What was injected is not there the second time.
        assert!(
            said.contains("the step taken again gives numbers"),
            "{said}"
        );
        assert_eq!(runs.steps(run).len(), 4);
    }
    injected::spoilt(&[]);
}

/// The optimizer does not count a step that was passed over: behind it, the run is that of one step
/// less. Every step takes all examples, and the rate is constant.
#[test]
fn nothing_of_a_step_that_was_passed_over_is_left() {
    let runs = Runs::new();
    let set = [
        "train.micro_batch_size=16",
        "train.lr_scheduler=constant",
        "train.skip_nonfinite_steps=1",
        "train.epochs=6",
    ];
    injected::spoilt(&[3]);
    runs.train("spoilt", &set, &mut Watch::default()).unwrap();
    injected::spoilt(&[]);
    runs.train("whole", &set, &mut Watch::default()).unwrap();
    let (whole, spoilt) = (runs.steps("whole"), runs.steps("spoilt"));
    assert_eq!(spoilt[2], (3, None));
    let left = spoilt.iter().filter_map(|(_, values)| *values);
    for (left, (_, whole)) in left.zip(&whole) {
        let pairs = left.into_iter().zip(whole.unwrap());
        for (left, whole) in pairs {
            // The examples stand in another order in each epoch.
            assert!((left / whole - 1.0).abs() < 1e-3, "{left} {whole}");
        }
    }
}

#[test]
fn steps_that_were_passed_over_count_beyond_an_interruption() {
    let runs = Runs::new();
    let set = ["train.skip_nonfinite_steps=2", "lora.lora_dropout=0.2"];
    injected::spoilt(&[2, 5]);
    runs.train("whole", &set, &mut Watch::default()).unwrap();
    for stop_behind in 1..6 {
        let run = format!("parts{stop_behind}");
        let mut watch = Watch {
            stop_behind: Some(stop_behind),
            ..Watch::default()
        };
        let stopped = runs.train(&run, &set, &mut watch);
        assert!(matches!(stopped, Err(TrainError::Interrupted { .. })));
        let report = runs.resume(&run, &set).unwrap();
        assert_eq!(report.skipped_steps, 2);
        assert_eq!(runs.steps(&run), runs.steps("whole"), "{stop_behind}");
        assert_eq!(runs.adapter(&run), runs.adapter("whole"));
    }
    // One more after the interruption is one too many.
    injected::spoilt(&[2, 4, 5]);
    let mut watch = Watch {
        stop_behind: Some(3),
        ..Watch::default()
    };
    runs.train("more", &set, &mut watch).unwrap_err();
    let error = runs.resume("more", &set).unwrap_err().to_string();
    assert!(
        error.starts_with("gradient norm is NaN at step 5"),
        "{error}"
    );
    injected::spoilt(&[]);
}
