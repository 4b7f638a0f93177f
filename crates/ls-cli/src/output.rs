//! Shows a run's progress on stderr: a bar on a terminal, plain lines elsewhere.

use std::collections::HashSet;
use std::io::{IsTerminal, stderr, stdout};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ls_files::say;
use ls_train::{Event, Observer};

use crate::error::chain;
use crate::signals::Signals;

/// Without a terminal, at most one line of progress in this time.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows a run's events.
pub struct Display {
    terminal: bool,
    bar: ProgressBar,
    steps: usize,
    started: Instant,
    last_line: Instant,
    tokens: usize,
    seconds: f64,
    training: bool,
    /// Steps that an earlier process did.
    done_before: usize,
    /// Whether this run is one of several.
    sweeping: bool,
    /// What has been said of the data and the model of the runs so far.
    said: HashSet<String>,
    signals: Signals,
}

impl Display {
    /// A bar where both stdout and stderr are terminals, lines elsewhere.
    pub fn new() -> Self {
        let terminal = stdout().is_terminal() && stderr().is_terminal();
        let target = if terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let now = Instant::now();
        Self {
            terminal,
            bar: ProgressBar::with_draw_target(None, target),
            steps: 0,
            started: now,
            last_line: now,
            tokens: 0,
            seconds: 0.0,
            training: false,
            done_before: 0,
            sweeping: false,
            said: HashSet::new(),
            signals: Signals::default(),
        }
    }

    /// Stops the run when a signal asks for it.
    pub fn stopped_by(mut self, signals: &Signals) -> Self {
        self.signals = signals.clone();
        self
    }

    /// A line that stays.
    pub fn line(&self, text: impl AsRef<str>) {
        if self.terminal {
            self.bar.suspend(|| say(text.as_ref()));
        } else {
            say(text.as_ref());
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Lists the skipped rows: the first messages, then how many more.
    pub fn skipped(&self, (shown, count): (&[String], usize)) {
        if count == 0 {
            return;
        }
        self.line(format!("  warning: {count} bad rows skipped"));
        for message in shown {
            self.line(format!("    {message}"));
        }
        if count > shown.len() {
            self.line(format!("    and {} more", count - shown.len()));
        }
    }

    /// Starts a bar over `length` items; with 0 items, a counter.
    pub fn start(&mut self, name: &str, length: usize) {
        self.bar.finish_and_clear();
        self.bar = ProgressBar::with_draw_target(Some(length as u64), ProgressDrawTarget::stderr());
        if !self.terminal {
            self.bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let template = match length {
            0 => "{prefix} {pos} {msg}",
            _ => "{prefix} [{bar:32}] {pos}/{len} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_prefix(name.to_string());
        self.started = Instant::now();
    }

    /// Sets how many of the bar's items are done.
    pub fn tick(&self, done: usize) {
        self.bar.set_position(done as u64);
    }

    /// Whether the same was said of an earlier run of a sweep.
    fn is_known(&mut self, event: &Event<'_>) -> bool {
        let said_once = matches!(
            event,
            Event::Data { .. } | Event::Model { .. } | Event::Note(_)
        );
        self.sweeping && said_once && !self.said.insert(format!("{event:?}"))
    }

    fn progress_is_due(&mut self) -> bool {
        let due = self.last_line.elapsed() >= LINE_EVERY;
        if due {
            self.last_line = Instant::now();
        }
        due
    }
}

impl Observer for Display {
    fn stop_requested(&self) -> bool {
        self.signals.asked()
    }

    fn event(&mut self, event: &Event<'_>) {
        if self.is_known(event) {
            self.bar.finish_and_clear();
            return;
        }
        match event {
            Event::Run { number, runs, name } => {
                self.bar.finish_and_clear();
                (self.sweeping, self.training) = (true, false);
                self.line(format!("run {number} of {runs}: {name}"));
            }
            Event::RunFailed { name, error } => {
                self.bar.finish_and_clear();
                let hint = error.hint().map(|hint| format!(" ({hint})"));
                self.line(format!(
                    "{name} failed: {}{}",
                    chain(error),
                    hint.unwrap_or_default()
                ));
            }
            Event::Data {
                split,
                files,
                expected,
                labels,
                cut,
                skipped,
            } => {
                let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
                self.line(format!(
                    "{split}: {} examples, {} tokens, longest {} ({})",
                    cut.examples,
                    cut.tokens,
                    cut.longest,
                    names.join(", ")
                ));
                if let Some(expected) = expected {
                    self.line(format!(
                        "  warning: this split is published with {expected} examples: another version, or a file cut short?"
                    ));
                }
                self.skipped(*skipped);
                let counts: Vec<String> = labels
                    .iter()
                    .map(|(name, count)| format!("{name} {count}"))
                    .collect();
                if !counts.is_empty() {
                    self.line(format!("  labels: {}", counts.join(", ")));
                }
                if cut.cut_examples > 0 {
                    let words = if cut.words > 0 {
                        format!(", {} of {} words", cut.cut_words, cut.words)
                    } else {
                        String::new()
                    };
                    self.line(format!(
                        "  cut at data.max_length: {} examples, {} tokens{words}",
                        cut.cut_examples, cut.cut_tokens
                    ));
                } else {
                    self.line("  nothing is cut");
                }
                if cut.windowed_examples > 0 {
                    let others = cut.examples - cut.windowed_examples;
                    self.line(format!(
                        "  longer than data.max_length: {} examples, read in {} windows",
                        cut.windowed_examples,
                        cut.inputs - others
                    ));
                }
                if cut.empty_words > 0 {
                    self.line(format!(
                        "  words that tokenise to nothing: {}",
                        cut.empty_words
                    ));
                }
            }
            Event::Note(note) => self.line(format!("note: {note}")),
            Event::Loading { done, total } => {
                if *done == 1 {
                    self.start("loading", *total);
                }
                self.bar.set_position(*done as u64);
            }
            Event::Model {
                parameters,
                trainable,
                surplus,
            } => {
                self.bar.finish_and_clear();
                self.line(parameters.to_string());
                if let (Some(first), Some(last)) = (trainable.first(), trainable.last()) {
                    self.line(format!(
                        "  {} tensors train: {} {:?} to {}",
                        trainable.len(),
                        first.name,
                        first.shape,
                        last.name
                    ));
                }
                if !surplus.is_empty() {
                    self.line(format!(
                        "  tensors of the checkpoint that nothing uses: {}",
                        surplus.join(", ")
                    ));
                }
            }
            Event::Plan {
                steps,
                steps_per_epoch,
                epochs,
                expected_memory,
            } => {
                self.line(format!(
                    "{steps} steps in {epochs} epochs of {steps_per_epoch}; expected memory {}",
                    bytes(*expected_memory as u64)
                ));
                self.steps = *steps;
            }
            Event::Phase(phase) => {
                // The first of them comes before anything is written.
                self.signals.training();
                self.bar.finish_and_clear();
                self.line(format!("{phase} ..."));
                (self.tokens, self.seconds, self.started) = (0, 0.0, Instant::now());
                self.done_before = 0;
                self.training = *phase == "training";
                if self.training {
                    self.start("training", self.steps);
                }
            }
            Event::Resumed { step, steps } => {
                self.line(format!(
                    "going on from the checkpoint of step {step} of {steps}"
                ));
                self.done_before = *step;
                self.bar.set_position(*step as u64);
            }
            Event::Skipped(step) => {
                self.line(format!(
                    "step {} skipped: {} is {}, {}; examples: {}",
                    step.step, step.quantity, step.value, step.cause, step.examples
                ));
                if self.training {
                    self.bar.set_position(step.step as u64);
                }
            }
            Event::Step(step) => {
                self.tokens += step.tokens;
                self.seconds += step.seconds;
                let rate = self.tokens as f64 / self.seconds.max(1e-9);
                let left = match self.steps {
                    0 => String::new(),
                    steps => {
                        let done = step.step.saturating_sub(self.done_before).max(1);
                        let each = self.started.elapsed().as_secs_f64() / done as f64;
                        format!(
                            " {} left",
                            duration(each * steps.saturating_sub(step.step) as f64)
                        )
                    }
                };
                let text = format!(
                    "loss {:.4} lr {:.2e} {rate:.0} tokens/s{left}",
                    step.loss, step.learning_rate
                );
                if self.terminal && self.training {
                    self.bar.set_position(step.step as u64);
                    self.bar.set_message(text);
                } else if self.progress_is_due() {
                    self.line(format!("step {} epoch {:.2} {text}", step.step, step.epoch));
                }
            }
            Event::Evaluating { done, total } if self.terminal => {
                self.bar.set_message(format!("evaluating {done}/{total}"));
            }
            Event::Evaluation(record) => {
                self.line(format!(
                    "step {} epoch {:.2} {} loss {:.4} {} {:.4}{}",
                    record.step,
                    record.epoch,
                    record.split,
                    record.loss,
                    record.metric,
                    record.value,
                    if record.best { " (best)" } else { "" }
                ));
            }
            Event::Stopped { evaluations } => {
                self.line(format!(
                    "stopped early: {evaluations} evaluations without a better one"
                ));
            }
            _ => {}
        }
    }
}

/// `1.5 GB`.
pub fn bytes(n: u64) -> String {
    let n = n as f64;
    match n {
        n if n >= 1e9 => format!("{:.1} GB", n / 1e9),
        n if n >= 1e6 => format!("{:.0} MB", n / 1e6),
        n => format!("{:.0} kB", n / 1e3),
    }
}

/// `1:02:03` or `2:03`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}
