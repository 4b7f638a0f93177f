//! The one [`Screen`] of the program: whatever is said on stderr is said by it.

use std::io::Write;
use std::sync::OnceLock;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressDrawTarget};
use ls_files::{Stderr, StdoutError};
use serde_json::json;
use tracing::Level;

use super::json::{self, Fields, fields};

/// How the progress of what takes long is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// By bars that are drawn again and again.
    Bars,
    /// By a line now and then.
    Lines,
    /// Not at all.
    Nothing,
}

/// stderr, as the flags want it.
pub struct Screen {
    /// How progress is shown.
    pub shown: Shown,
    /// Whether every message is a JSON object.
    pub json: bool,
    /// Whether only errors are said.
    pub quiet: bool,
    /// All bars: whoever writes a line suspends them.
    pub bars: MultiProgress,
    /// When the program began.
    pub began: Instant,
}

static SCREEN: OnceLock<Screen> = OnceLock::new();

/// Sets up the screen: once, before anything is said.
pub(super) fn begin(screen: Screen) {
    let _ = SCREEN.set(screen);
}

/// The screen that was set up.
pub fn screen() -> &'static Screen {
    SCREEN.get_or_init(|| Screen {
        shown: Shown::Nothing,
        json: false,
        quiet: false,
        bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
        began: Instant::now(),
    })
}

impl Screen {
    /// Whether messages of a level are said.
    fn says(&self, level: Level) -> bool {
        !self.quiet || level == Level::ERROR
    }

    /// Writes text as it is, above the bars.
    pub(super) fn write(&self, text: &str) {
        self.alone(|| write(text));
    }

    /// Does something while no bar is there, and nobody draws one.
    fn alone<T>(&self, work: impl FnOnce() -> T) -> T {
        match self.shown {
            Shown::Bars => self.bars.suspend(work),
            Shown::Lines | Shown::Nothing => work(),
        }
    }

    /// A message as a line: in words as it is, or as an object of the kind `event` with the fields
    /// that it has for programs.
    fn line(
        &self,
        level: Level,
        event: &str,
        text: &str,
        fields: impl FnOnce() -> Fields,
    ) -> String {
        if self.json {
            let object = json::object(level, "ls_cli", Some(event), text, fields());
            format!("{object}\n")
        } else {
            format!("{text}\n")
        }
    }

    /// Says something that stays.
    pub fn tell(&self, level: Level, event: &str, text: &str, fields: impl FnOnce() -> Fields) {
        if self.says(level) {
            self.write(&self.line(level, event, text, fields));
        }
    }

    /// Says how something stands that goes on. Words begin with the time: who reads them in the
    /// morning wants to know when that was. Objects have it anyway.
    pub fn tell_progress(&self, event: &str, text: &str, fields: impl FnOnce() -> Fields) {
        let dated = (!self.json).then(|| format!("[{}] {text}", json::now_in_seconds()));
        let text = dated.as_deref().unwrap_or(text);
        self.tell(Level::INFO, event, text, fields);
    }
}

/// Why the command ends.
pub struct Fault {
    /// What went wrong.
    pub message: String,
    /// What that came of, the nearest first.
    pub causes: Vec<String>,
    /// The way out.
    pub hint: Option<String>,
    /// The exit code.
    pub code: u8,
    /// Of a panic, where it is wanted.
    pub backtrace: Option<String>,
}

/// Says why the command ends, with `--quiet` too. Bars are not asked to make room: whoever had
/// their lock may have panicked.
pub fn fault(fault: &Fault) {
    if screen().json {
        return fault_as_json(fault);
    }
    let Fault {
        message,
        causes,
        hint,
        backtrace,
        ..
    } = fault;
    let mut text = format!("error: {message}");
    text.extend(causes.iter().map(|cause| format!("\n  caused by: {cause}")));
    text.extend(hint.iter().map(|hint| format!("\nhint: {hint}")));
    text.extend(backtrace.iter().map(|backtrace| format!("\n{backtrace}")));
    ls_files::say(text);
}

/// The same as an object: before there is a screen too, where the flags cannot be read.
pub fn fault_as_json(fault: &Fault) {
    let fields = fields(json!({
        "causes": fault.causes,
        "hint": fault.hint,
        "exit_code": fault.code,
        "backtrace": fault.backtrace,
    }));
    let message = &fault.message;
    ls_files::say(json::object(
        Level::ERROR,
        "ls_cli",
        Some("error"),
        message,
        fields,
    ));
}

/// Says a line that has no fields.
pub fn say(text: impl AsRef<str>) {
    screen().tell(Level::INFO, "message", text.as_ref(), Fields::new);
}

/// Says a warning.
pub fn warn(text: impl AsRef<str>) {
    screen().tell(Level::WARN, "warning", text.as_ref(), Fields::new);
}

/// Says why the command ended, or how to go on from there: with `--quiet` too.
pub fn ended(text: impl AsRef<str>) {
    screen().tell(Level::ERROR, "ended", text.as_ref(), Fields::new);
}

/// Takes the bars away for good, says why the command ends, as [`ended`] does, and ends it by
/// `exit`: whoever would draw them again waits until then.
pub fn leave(text: Option<&str>, exit: impl FnOnce()) {
    let screen = screen();
    let words = text.map(|text| screen.line(Level::ERROR, "ended", text, Fields::new));
    screen.alone(|| {
        write(&words.unwrap_or_default());
        exit();
    });
}

/// Prints results on stdout, which may be the terminal that has the bars too.
///
/// # Errors
///
/// As [`ls_files::print`].
pub fn print(text: impl AsRef<[u8]>) -> Result<(), StdoutError> {
    screen().alone(|| ls_files::print(text))
}

/// Writes text as it is. It takes everything, and loses what the system does not take.
fn write(text: &str) {
    let _ = Stderr.write_all(text.as_bytes());
}
