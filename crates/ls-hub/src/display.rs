//! Progress on stderr: bars on a terminal, lines elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use ls_files::say;

use crate::error::bytes;
use crate::fetch::Event;

/// Shows what [`Fetcher::fetch`](crate::fetch::Fetcher::fetch) does.
#[derive(Debug)]
pub struct Display {
    bars: MultiProgress,
    is_terminal: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<String, ProgressBar>,
    /// Bytes to come, bytes that came, and tenths that have been said.
    missing: u64,
    received: u64,
    tenths: u64,
}

impl Default for Display {
    fn default() -> Self {
        Self::new()
    }
}

impl Display {
    /// A display on stderr.
    pub fn new() -> Self {
        Self {
            bars: MultiProgress::new(),
            is_terminal: std::io::stderr().is_terminal(),
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
                self.say(&match missing {
                    0 => format!("{at} ({commit}): {what}, {all}, all in the cache"),
                    _ => format!(
                        "{at} ({commit}): {what}, {all}, {} to fetch",
                        bytes(missing)
                    ),
                });
                *state = State {
                    missing,
                    ..State::default()
                };
            }
            Event::Started {
                file,
                size,
                present,
            } => {
                if self.is_terminal {
                    let bar = self.bars.add(ProgressBar::new(size).with_style(style()));
                    bar.set_message(file.to_string());
                    bar.set_position(present);
                    bar.reset_eta();
                    state.files.insert(file.into(), bar);
                } else if present > 0 {
                    let (present, size) = (bytes(present), bytes(size));
                    self.say(&format!("{file}: goes on at {present} of {size}"));
                }
            }
            Event::Received { file, bytes: more } => {
                state.received += more;
                if let Some(bar) = state.files.get(file) {
                    bar.inc(more);
                } else if !self.is_terminal && state.missing > 0 {
                    let tenths = (state.received.saturating_mul(10) / state.missing).min(10);
                    if tenths > state.tenths {
                        state.tenths = tenths;
                        let (received, missing) = (bytes(state.received), bytes(state.missing));
                        self.say(&format!("{}0 %: {received} of {missing}", tenths));
                    }
                }
            }
            Event::Restarted { file } => {
                if let Some(bar) = state.files.get(file) {
                    bar.set_position(0);
                }
                self.say(&format!(
                    "{file}: what was kept of an earlier download does not belong to it: fetching it anew"
                ));
            }
            Event::Finished { file } => {
                if let Some(bar) = state.files.remove(file) {
                    bar.finish_and_clear();
                }
            }
            Event::Waiting { file, lock } => self.say(&format!(
                "{file}: another process fetches it: waiting for {}",
                lock.display()
            )),
            Event::Retrying { error, wait } => self.say(&format!(
                "{error}; trying again in {:.0} s",
                wait.as_secs_f64().ceil()
            )),
        }
    }

    /// A line above the bars.
    fn say(&self, line: &str) {
        if self.is_terminal {
            // A line that cannot be shown is no reason to end a download.
            let _ = self.bars.println(line);
        } else {
            say(line);
        }
    }
}

fn style() -> ProgressStyle {
    let template = "{msg:32!} {bar:24} {decimal_bytes:>10}/{decimal_total_bytes:10} {decimal_bytes_per_sec:>11} {eta:>4}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
