//! [`Display`]: says what a run tells while it goes on.

use std::collections::HashSet;
use std::path::PathBuf;

use ls_data::EncodingProgress;
use ls_train::events::EvaluationRecord;
use ls_train::{Event, Observer};
use serde::Serialize;
use serde_json::{Value, json};
use tracing::Level;

use crate::numbers::bytes;
use crate::screen::{Fields, fields, screen, warn};
use crate::signals::Signals;
use crate::task::{Task, Unit};
use crate::training::Training;

/// Says a run's events.
#[derive(Default)]
pub struct Display {
    training: Option<Training>,
    /// What takes long besides: loading, tokenising, evaluating, writing.
    task: Option<Task>,
    /// The files of the split that is tokenised.
    tokenizing: Vec<PathBuf>,
    /// Steps of the run, and from one evaluation to the next.
    plan: (usize, usize),
    /// Whether this run is one of several.
    sweeping: bool,
    /// What has been said of the data and the model of the runs so far.
    said: HashSet<String>,
    signals: Signals,
}

impl Display {
    /// Stops the run when a signal asks for it.
    pub fn stopped_by(mut self, signals: &Signals) -> Self {
        self.signals = signals.clone();
        self
    }

    /// Takes the bars away.
    pub fn finish(&mut self) {
        (self.training, self.task) = (None, None);
    }

    /// Whether the same was said of an earlier run of a sweep.
    fn is_known(&mut self, event: &Event<'_>) -> bool {
        let said_once = matches!(
            event,
            Event::Data { .. } | Event::Model { .. } | Event::Note(_)
        );
        self.sweeping && said_once && !self.said.insert(format!("{event:?}"))
    }

    /// So much is done of what takes long and has this name; it ends with the last.
    fn progress(&mut self, name: &str, unit: &'static str, done: usize, total: usize) {
        if self.task.as_ref().is_none_or(|task| task.name() != name) {
            self.task = None;
            self.task = Some(Task::begin(name, Unit::Of(unit), total as u64));
        }
        if let Some(task) = &mut self.task {
            task.at(done as u64);
        }
        if done == total {
            self.task = None;
        }
    }

    fn tokenizing(&mut self, files: &[PathBuf], progress: EncodingProgress) {
        let EncodingProgress {
            examples,
            bytes,
            of_bytes,
        } = progress;
        if self.tokenizing != files {
            self.tokenizing = files.to_vec();
            self.task = None;
        }
        let task = self
            .task
            .get_or_insert_with(|| Task::begin(tokenizing(files), Unit::Bytes, of_bytes));
        task.at_with(bytes, |task| {
            let mut standing = task.standing();
            let examples_so_far = format!("{examples} examples");
            standing.line = if task.has_bar() {
                examples_so_far
            } else {
                format!("{}, {examples_so_far}", standing.line)
            };
            standing.fields.insert("examples".into(), examples.into());
            standing
        });
    }
}

/// What the tokenising of files is called: a split may have hundreds.
fn tokenizing(files: &[PathBuf]) -> String {
    let first = files.first().and_then(|file| file.file_name());
    let first = first.unwrap_or_default().to_string_lossy();
    match files.len().saturating_sub(1) {
        0 => format!("tokenising {first}"),
        more => format!("tokenising {first} and {more} more"),
    }
}

/// Says something with its fields.
fn tell(event: &str, text: impl AsRef<str>, fields: impl FnOnce() -> Fields) {
    screen().tell(Level::INFO, event, text.as_ref(), fields);
}

/// Says that rows were skipped: the first messages, then how many more.
pub fn skipped((shown, count): (&[String], usize)) {
    if count > 0 {
        warn(skipped_lines((shown, count)).join("\n"));
    }
}

fn skipped_lines((shown, count): (&[String], usize)) -> Vec<String> {
    if count == 0 {
        return Vec::new();
    }
    let mut lines = vec![format!("  warning: {count} bad rows skipped")];
    lines.extend(shown.iter().map(|message| format!("    {message}")));
    if count > shown.len() {
        lines.push(format!("    and {} more", count - shown.len()));
    }
    lines
}

/// What serde makes of a value, as fields.
fn of_record(record: &impl Serialize) -> Fields {
    let mut fields = fields(serde_json::to_value(record).unwrap_or_default());
    // It is the kind of the object already.
    fields.shift_remove("kind");
    fields
}

impl Observer for Display {
    fn stop_requested(&self) -> bool {
        self.signals.asked()
    }

    fn event(&mut self, event: &Event<'_>) {
        if self.is_known(event) {
            self.task = None;
            return;
        }
        match event {
            Event::Run { number, runs, name } => {
                self.finish();
                self.sweeping = true;
                tell("run", format!("run {number} of {runs}: {name}"), || {
                    fields(json!({ "number": number, "runs": runs, "name": name }))
                });
            }
            Event::RunFailed { name, error } => {
                self.finish();
                let hint = error.hint().map(|hint| format!(" ({hint})"));
                let text = format!(
                    "{name} failed: {}{}",
                    error.chain(),
                    hint.unwrap_or_default()
                );
                screen().tell(Level::WARN, "run_failed", &text, || {
                    fields(json!({
                        "name": name,
                        "error": error.chain(),
                        "hint": error.hint(),
                    }))
                });
            }
            Event::Tokenizing { files, progress } => self.tokenizing(files, *progress),
            Event::Data { .. } => {
                self.task = None;
                data(event);
            }
            Event::Note(note) => {
                self.task = None;
                tell("note", format!("note: {note}"), Fields::new);
            }
            Event::Loading { done, total } => {
                self.progress("loading weights", "tensors", *done, *total);
            }
            Event::Model {
                parameters,
                trainable,
                surplus,
            } => {
                self.task = None;
                let mut lines = vec![parameters.to_string()];
                if let (Some(first), Some(last)) = (trainable.first(), trainable.last()) {
                    lines.push(format!(
                        "  {} tensors train: {} {:?} to {}",
                        trainable.len(),
                        first.name,
                        first.shape,
                        last.name
                    ));
                }
                if !surplus.is_empty() {
                    lines.push(format!(
                        "  tensors of the checkpoint that nothing uses: {}",
                        surplus.join(", ")
                    ));
                }
                tell("model", lines.join("\n"), || {
                    fields(json!({
                        "trainable_parameters": parameters.trainable,
                        "all_parameters": parameters.all,
                        "trainable_tensors": trainable.len(),
                        "unused_tensors": surplus,
                    }))
                });
            }
            Event::Plan {
                steps,
                steps_per_epoch,
                epochs,
                eval_steps,
                expected_memory,
            } => {
                let memory = bytes(*expected_memory as u64);
                let text = format!(
                    "{steps} steps in {epochs} epochs of {steps_per_epoch}; expected memory {memory}"
                );
                tell("plan", text, || {
                    fields(json!({
                        "steps": steps,
                        "steps_per_epoch": steps_per_epoch,
                        "epochs": epochs,
                        "eval_steps": eval_steps,
                        "expected_memory": expected_memory,
                    }))
                });
                self.plan = (*steps, *eval_steps);
            }
            Event::Phase(phase) => {
                // The first of them comes before anything is written.
                self.signals.training();
                self.finish();
                tell("phase", format!("{phase} ..."), || {
                    fields(json!({ "phase": phase }))
                });
                if matches!(*phase, "training" | "frozen baseline") {
                    let (steps, eval_steps) = self.plan;
                    self.training = Some(Training::begin(phase, steps, eval_steps));
                }
            }
            Event::Resumed { step, steps, best } => {
                let text = format!("going on from the checkpoint of step {step} of {steps}");
                tell("resumed", text, || {
                    fields(json!({ "step": step, "steps": steps }))
                });
                if let Some(training) = &mut self.training {
                    training.goes_on_at(*step, *best);
                }
            }
            Event::Skipped(record) => {
                let text = format!(
                    "step {} skipped: {} is {}, {}; examples: {}",
                    record.step, record.quantity, record.value, record.cause, record.examples
                );
                screen().tell(Level::WARN, "skipped", &text, || of_record(record));
                if let Some(training) = &mut self.training {
                    training.skipped(record.step);
                }
            }
            Event::Step(record) => {
                if let Some(training) = &mut self.training {
                    training.step(record);
                }
            }
            Event::Evaluating { done, total } => {
                self.progress("evaluating", "inputs", *done, *total);
            }
            Event::Evaluation(record) => {
                self.task = None;
                if let Some(training) = &mut self.training {
                    training.evaluated(record);
                }
                let task = self.training.as_ref().map(Training::name);
                tell("evaluation", evaluation(record), || {
                    let mut fields = of_record(record);
                    fields.insert("task".into(), task.into());
                    fields
                });
            }
            Event::Stopped { evaluations } => {
                let text = format!("stopped early: {evaluations} evaluations without a better one");
                tell("stopped", text, || {
                    fields(json!({ "evaluations": evaluations }))
                });
            }
            Event::Writing { done, total } => {
                // The folder is begun.
                self.signals.training();
                if *total > 0 {
                    self.progress("writing", "tensors", *done, *total);
                }
            }
            _ => {}
        }
    }
}

fn evaluation(record: &EvaluationRecord) -> String {
    format!(
        "step {} epoch {:.2} {} loss {:.4} {} {:.4}{}",
        record.step,
        record.epoch,
        record.split,
        record.loss,
        record.metric,
        record.value,
        if record.best { " (best)" } else { "" }
    )
}

/// Says what a split is like.
fn data(event: &Event<'_>) {
    let Event::Data {
        split,
        files,
        expected,
        labels,
        cut,
        skipped,
    } = event
    else {
        return;
    };
    let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    let mut lines = vec![format!(
        "{split}: {} examples, {} tokens, longest {} ({})",
        cut.examples,
        cut.tokens,
        cut.longest,
        names.join(", ")
    )];
    if let Some(expected) = expected {
        lines.push(format!(
            "  warning: this split is published with {expected} examples: another version, or a file cut short?"
        ));
    }
    lines.extend(skipped_lines(*skipped));
    let counts: Vec<String> = labels
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if !counts.is_empty() {
        lines.push(format!("  labels: {}", counts.join(", ")));
    }
    if cut.cut_examples > 0 {
        let words = if cut.words > 0 {
            format!(", {} of {} words", cut.cut_words, cut.words)
        } else {
            String::new()
        };
        lines.push(format!(
            "  cut at data.max_length: {} examples, {} tokens{words}",
            cut.cut_examples, cut.cut_tokens
        ));
    } else {
        lines.push("  nothing is cut".into());
    }
    if cut.windowed_examples > 0 {
        let others = cut.examples - cut.windowed_examples;
        lines.push(format!(
            "  longer than data.max_length: {} examples, read in {} windows",
            cut.windowed_examples,
            cut.inputs - others
        ));
    }
    if cut.empty_words > 0 {
        lines.push(format!(
            "  words that tokenise to nothing: {}",
            cut.empty_words
        ));
    }
    tell("data", lines.join("\n"), || {
        let labels = labels.iter().map(|(name, count)| {
            let count = Value::from(*count);
            (name.to_string(), count)
        });
        fields(json!({
            "split": split,
            "files": files,
            "labels": labels.collect::<Fields>(),
            "skipped_rows": skipped.1,
            "expected_examples": expected,
            "cut": cut,
        }))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_of_many_files_is_called_by_its_first() {
        let files = |count: usize| -> Vec<PathBuf> {
            (0..count)
                .map(|at| format!("data/{at}.csv").into())
                .collect()
        };
        assert_eq!(tokenizing(&files(1)), "tokenising 0.csv");
        assert_eq!(tokenizing(&files(300)), "tokenising 0.csv and 299 more");
    }
}
