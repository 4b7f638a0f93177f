//! Shows the progress of a fetch: bars on a terminal, lines elsewhere.

use std::collections::HashMap;
use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::error::bytes;
use crate::progress::Event;

/// How much is shown of a fetch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shown {
    /// What happens, and progress: bars on a terminal, lines elsewhere.
    #[default]
    Auto,
    /// What happens, and progress in lines.
    Lines,
    /// What happens, without progress.
    Messages,
    /// Nothing.
    Nothing,
}

/// Shows on stderr what [`Fetcher::fetch`](crate::fetch::Fetcher::fetch) does.
pub struct Display {
    shown: Shown,
    /// A bar for each file, on a terminal.
    bars: Option<MultiProgress>,
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

impl Display {
    /// A display of so much.
    pub fn new(shown: Shown) -> Self {
        let has_bars = shown == Shown::Auto && stderr().is_terminal();
        Self {
            shown,
            bars: has_bars.then(MultiProgress::new),
            state: Mutex::default(),
        }
    }

    /// Takes away the bars of files that did not come: they would be drawn over what is said next.
    pub fn end(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, bar) in state.files.drain() {
            bar.finish_and_clear();
        }
    }

    fn say(&self, line: &str) {
        match &self.bars {
            // A line that cannot be shown is no reason to end a download.
            Some(bars) => drop(bars.println(line)),
            None => ls_files::say(line),
        }
    }

    /// Shows an event.
    pub fn show(&self, event: Event<'_>) {
        if self.shown == Shown::Nothing {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(words) = event.words() {
            self.say(&words);
        }
        match event {
            Event::Plan { missing, .. } => {
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
            } => {
                if let Some(bars) = &self.bars {
                    let bar = bars.add(ProgressBar::new(size).with_style(style()));
                    bar.set_message(file.to_string());
                    bar.set_position(present);
                    bar.reset_eta();
                    state.files.insert(file.into(), bar);
                }
            }
            Event::Received { file, bytes: more } => {
                state.received += more;
                if let Some(bar) = state.files.get(file) {
                    bar.inc(more);
                } else if self.bars.is_none()
                    && self.shown != Shown::Messages
                    && let Some(line) = state.next_tenth()
                {
                    self.say(&line);
                }
            }
            Event::Restarted { file } => {
                if let Some(bar) = state.files.get(file) {
                    bar.set_position(0);
                }
            }
            Event::Finished { file } => {
                if let Some(bar) = state.files.remove(file) {
                    bar.finish_and_clear();
                }
            }
            Event::Waiting { .. } | Event::Retrying { .. } => {}
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
