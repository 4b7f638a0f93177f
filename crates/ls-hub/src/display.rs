//! Shows the progress of a fetch: bars on a terminal, lines elsewhere.

use std::collections::HashMap;
use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::error::bytes;
use crate::progress::Event;

/// How it is shown how far the files are.
#[derive(Debug, Clone)]
pub enum Shown {
    /// By a bar for each file, among these.
    Bars(MultiProgress),
    /// By a line for each tenth.
    Lines,
    /// Not at all.
    Nothing,
}

/// Shows what [`Fetcher::fetch`](crate::fetch::Fetcher::fetch) does.
pub struct Display {
    shown: Shown,
    /// Takes a line that stays.
    say: Box<dyn Fn(&str) + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<String, ProgressBar>,
    /// Bytes to come, bytes that came, and tenths that have been said.
    missing: u64,
    received: u64,
    tenths: u64,
    began: Option<Instant>,
}

impl Default for Display {
    fn default() -> Self {
        Self::new()
    }
}

impl Display {
    /// A display on stderr.
    pub fn new() -> Self {
        if !stderr().is_terminal() {
            return Self::with(Shown::Lines, |line| ls_files::say(line));
        }
        let bars = MultiProgress::new();
        let above = bars.clone();
        Self::with(Shown::Bars(bars), move |line| {
            // A line that cannot be shown is no reason to end a download.
            let _ = above.println(line);
        })
    }

    /// A display that shows in this way how far the files are, and hands every other message to
    /// `say`, a line each.
    pub fn with(shown: Shown, say: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self {
            shown,
            say: Box::new(say),
            state: Mutex::default(),
        }
    }

    /// Shows an event.
    pub fn show(&self, event: Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Plan {
                at,
                commit,
                files,
                bytes: all,
                missing,
            } => {
                let what = match files {
                    1 => "1 file".to_string(),
                    _ => format!("{files} files"),
                };
                let all = bytes(all);
                (self.say)(&match missing {
                    0 => format!("{at} ({commit}): {what}, {all}, all in the cache"),
                    _ => format!(
                        "{at} ({commit}): {what}, {all}, {} to fetch",
                        bytes(missing)
                    ),
                });
                *state = State {
                    missing,
                    began: Some(Instant::now()),
                    ..State::default()
                };
            }
            Event::Started {
                file,
                size,
                present,
            } => match &self.shown {
                Shown::Bars(bars) => {
                    let bar = bars.add(ProgressBar::new(size).with_style(style()));
                    bar.set_message(file.to_string());
                    bar.set_position(present);
                    bar.reset_eta();
                    state.files.insert(file.into(), bar);
                }
                Shown::Lines if present > 0 => {
                    let (present, size) = (bytes(present), bytes(size));
                    (self.say)(&format!("{file}: goes on at {present} of {size}"));
                }
                Shown::Lines | Shown::Nothing => {}
            },
            Event::Received { file, bytes: more } => {
                state.received += more;
                match &self.shown {
                    Shown::Bars(_) => {
                        if let Some(bar) = state.files.get(file) {
                            bar.inc(more);
                        }
                    }
                    Shown::Lines => {
                        if let Some(line) = state.next_tenth() {
                            (self.say)(&line);
                        }
                    }
                    Shown::Nothing => {}
                }
            }
            Event::Restarted { file } => {
                if let Some(bar) = state.files.get(file) {
                    bar.set_position(0);
                }
                (self.say)(&format!(
                    "{file}: what was kept of an earlier download does not belong to it: fetching it anew"
                ));
            }
            Event::Finished { file } => {
                if let Some(bar) = state.files.remove(file) {
                    bar.finish_and_clear();
                }
            }
            Event::Waiting { file, lock } => (self.say)(&format!(
                "{file}: another process fetches it: waiting for {}",
                lock.display()
            )),
            Event::Retrying { error, wait } => (self.say)(&format!(
                "{error}; trying again in {:.0} s",
                wait.as_secs_f64().ceil()
            )),
        }
    }
}

impl State {
    /// What is said when another tenth of the bytes has come.
    fn next_tenth(&mut self) -> Option<String> {
        let tenths = self.received.saturating_mul(10).checked_div(self.missing)?;
        let tenths = tenths.min(10);
        if tenths <= self.tenths {
            return None;
        }
        self.tenths = tenths;
        let (received, missing) = (bytes(self.received), bytes(self.missing));
        let took = self
            .began
            .map_or(0.0, |began| began.elapsed().as_secs_f64());
        let rate = self.received as f64 / took.max(1e-3);
        let left = self.missing.saturating_sub(self.received) as f64 / rate;
        Some(format!(
            "{tenths}0 %: {received} of {missing}, {}/s, {left:.0} s left",
            bytes(rate as u64)
        ))
    }
}

fn style() -> ProgressStyle {
    let template = "{msg:32!} {bar:24} {decimal_bytes:>10}/{decimal_total_bytes:10} {decimal_bytes_per_sec:>11} {eta:>4}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
