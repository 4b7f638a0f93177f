//! [`Task`]: something that takes long, with how much of it is done, how fast it goes and how long
//! it still takes.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde_json::json;

use crate::numbers::{bytes, clock};
use crate::pace::Pace;
use crate::screen::{Fields, Shown, fields, screen};

/// The bar of something of which it is known how many there are.
const COUNTED: &str = "{prefix} [{bar:24}] {pos}/{len} {rate}, {left} left {msg}";

/// How fast it goes and how long it still takes, as its bar has it. They are those of lines:
/// indicatif's own weigh the last seconds most, and behind an evaluation a training seems to stand.
#[derive(Debug, Clone, Default)]
struct Speed(Arc<Mutex<(String, String)>>);

impl Speed {
    fn set(&self, rate: String, left: Option<f64>) {
        let left = left.map_or_else(|| "-:--".into(), clock);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (rate, left);
    }

    fn get(&self) -> (String, String) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// How a bar looks by its template, in which `rate` and `left` are ours.
fn style(template: &str, speed: &Speed) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    // A template that cannot be read would be a fault of this file.
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let (of_rate, of_left) = (speed.clone(), speed.clone());
    let rate = move |_: &ProgressState, out: &mut dyn Write| {
        let _ = out.write_str(&of_rate.get().0);
    };
    let left = move |_: &ProgressState, out: &mut dyn Write| {
        let _ = out.write_str(&of_left.get().1);
    };
    let style = style.with_key("rate", rate).with_key("left", left);
    style.progress_chars("=> ")
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// By this name.
    Of(&'static str),
    /// Bytes.
    Bytes,
}

impl Unit {
    /// So many in a second.
    fn rate(self, per_second: f64) -> String {
        match self {
            Self::Of(unit) => format!("{per_second:.1} {unit}/s"),
            Self::Bytes => format!("{}/s", bytes(per_second as u64)),
        }
    }
}

/// How a task stands, in words and for programs.
pub struct Standing {
    /// Of the JSON object.
    pub event: &'static str,
    /// A line.
    pub line: String,
    /// Its fields.
    pub fields: Fields,
}

/// Something that takes long. Its bar goes when it is dropped.
pub struct Task {
    name: String,
    unit: Unit,
    /// 0 while it is not known.
    total: u64,
    done: u64,
    /// What was done before it began here.
    before: u64,
    began: Instant,
    pace: Pace,
    speed: Speed,
    bar: Option<ProgressBar>,
}

impl Task {
    /// Begins a task of `total` units, or of an unknown number.
    pub fn begin(name: impl Into<String>, unit: Unit, total: u64) -> Self {
        let template = match (unit, total) {
            (Unit::Bytes, _) => {
                "{prefix} [{bar:24}] {decimal_bytes}/{decimal_total_bytes} {rate}, {left} left \
                 {msg}"
            }
            (Unit::Of(_), 0) => "{prefix} {pos} {msg} {rate}",
            (Unit::Of(_), _) => COUNTED,
        };
        let task = Self::with_template(name, unit, total, template);
        if let (Some(bar), Unit::Of(unit), 0) = (&task.bar, unit, total) {
            bar.set_message(unit);
        }
        task
    }

    /// The same with a bar of another form.
    pub fn with_template(name: impl Into<String>, unit: Unit, total: u64, template: &str) -> Self {
        let (name, shown, now) = (name.into(), screen().shown, Instant::now());
        let speed = Speed::default();
        speed.set(unit.rate(0.0), None);
        let bar = (shown == Shown::Bars).then(|| {
            let length = (total > 0).then_some(total);
            let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden());
            bar.set_style(style(template, &speed));
            bar.set_prefix(name.clone());
            let bar = screen().bars.add(bar);
            bar.tick();
            bar
        });
        Self {
            name,
            unit,
            total,
            done: 0,
            before: 0,
            began: now,
            pace: Pace::new(shown, screen().began, now),
            speed,
            bar,
        }
    }

    /// So much of it was done before it began.
    pub fn goes_on_at(&mut self, done: u64) {
        (self.done, self.before) = (done, done);
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    /// It is known now how many there are.
    pub fn is_of(&mut self, total: u64) {
        if self.total == total {
            return;
        }
        self.total = total;
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_message("");
            bar.set_style(style(COUNTED, &self.speed));
        }
    }

    /// So much more is done, of a total that is known: what has to be done anew is no more than it.
    pub fn add(&mut self, more: u64) {
        self.at(self.done.saturating_add(more).min(self.total));
    }

    /// So much is done.
    pub fn at(&mut self, done: u64) {
        if self.moved(done) {
            let standing = self.standing();
            self.tell(standing);
        }
    }

    /// So much is done; `standing` says more of it, for whatever shows it now. With a bar its line
    /// is the message beside it.
    pub fn at_with(&mut self, done: u64, standing: impl FnOnce(&Self) -> Standing) {
        if self.moved(done) {
            let standing = standing(self);
            match &self.bar {
                Some(bar) => bar.set_message(standing.line),
                None => self.tell(standing),
            }
        }
    }

    /// What stands beside its bar is old: the next that it is told is shown at once.
    pub fn is_outdated(&mut self) {
        if self.bar.is_some() {
            self.pace.is_outdated();
        }
    }

    /// Whether it has a bar, beside which a line has little to say.
    pub fn has_bar(&self) -> bool {
        self.bar.is_some()
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Notes what is done, and whether that is to be shown.
    fn moved(&mut self, done: u64) -> bool {
        self.done = done;
        let due = self.pace.is_due(Instant::now());
        if let (Some(bar), true) = (&self.bar, due) {
            let rate = self.unit.rate(self.per_second());
            self.speed.set(rate, self.seconds_left());
            bar.set_position(done);
        }
        due
    }

    fn tell(&self, standing: Standing) {
        if self.bar.is_none() {
            let Standing {
                event,
                line,
                fields,
            } = standing;
            screen().tell_progress(event, &line, || fields);
        }
    }

    /// Time until it is done, at the pace so far; nothing where that is not known.
    pub fn seconds_left(&self) -> Option<f64> {
        let done = self
            .done
            .checked_sub(self.before)
            .filter(|done| *done > 0)?;
        let left = self
            .total
            .checked_sub(self.done)
            .filter(|_| self.total > 0)?;
        Some(self.began.elapsed().as_secs_f64() / done as f64 * left as f64)
    }

    /// How much of it was done in a second.
    fn per_second(&self) -> f64 {
        let took = self.began.elapsed().as_secs_f64().max(1e-9);
        self.done.saturating_sub(self.before) as f64 / took
    }

    /// `12 of 40 (30 %)`, or `12` where it is not known of how many.
    pub fn count(&self) -> String {
        let shown = |count: u64| match self.unit {
            Unit::Bytes => bytes(count),
            Unit::Of(_) => count.to_string(),
        };
        match self.total {
            0 => shown(self.done),
            total => format!(
                "{} of {} ({} %)",
                shown(self.done),
                shown(total),
                self.done.saturating_mul(100) / total
            ),
        }
    }

    /// How it stands, if it has no more to say.
    pub fn standing(&self) -> Standing {
        let rate = self.per_second();
        let per_second = self.unit.rate(rate);
        let (unit, counted) = match self.unit {
            Unit::Of(unit) => (unit, format!("{} {unit}", self.count())),
            Unit::Bytes => ("bytes", self.count()),
        };
        let left = self.seconds_left();
        let shown_left = left.map(|left| format!(", {} left", clock(left)));
        let name = &self.name;
        Standing {
            event: "progress",
            line: format!(
                "{name}: {counted}, {per_second}{}",
                shown_left.unwrap_or_default()
            ),
            fields: fields(json!({
                "task": name,
                "done": self.done,
                "total": (self.total > 0).then_some(self.total),
                "unit": unit,
                "per_second": rate,
                "seconds_left": left,
            })),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            screen().bars.remove(bar);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The screen of the tests shows nothing.
    #[test]
    fn a_task_says_how_much_is_done_how_fast_and_for_how_long() {
        let mut task = Task::begin("predicting", Unit::Of("inputs"), 0);
        task.at(30);
        assert_eq!((task.count().as_str(), task.seconds_left()), ("30", None));
        task.is_of(40);
        assert_eq!(task.count(), "30 of 40 (75 %)");
        task.began -= Duration::from_secs(60);
        let Standing { line, fields, .. } = task.standing();
        assert_eq!(
            line,
            "predicting: 30 of 40 (75 %) inputs, 0.5 inputs/s, 0:20 left"
        );
        assert_eq!(fields["total"], 40);
        assert!((fields["seconds_left"].as_f64().unwrap() - 20.0).abs() < 1.0);
        // What was done before is not counted in.
        task.goes_on_at(30);
        assert_eq!(task.seconds_left(), None);
        task.at(35);
        assert!((task.seconds_left().unwrap() - 60.0).abs() < 1.0);

        // A bar has the same.
        task.pace = Pace::new(Shown::Bars, screen().began, Instant::now());
        task.bar = Some(ProgressBar::hidden());
        task.at(36);
        let (rate, left) = task.speed.get();
        assert_eq!((rate.as_str(), left.as_str()), ("0.1 inputs/s", "0:40"));
        // An evaluation as long as all the steps before it: they will wait for others.
        task.began -= Duration::from_secs(60);
        task.pace.is_outdated();
        task.at(36);
        assert_eq!(task.speed.get().1, "1:20");

        let mut task = Task::begin("tokenising a.csv", Unit::Bytes, 2_000_000);
        task.at(500_000);
        task.began -= Duration::from_secs(10);
        let line = task.standing().line;
        assert_eq!(
            line,
            "tokenising a.csv: 500 kB of 2 MB (25 %), 50 kB/s, 0:30 left"
        );
    }
}
