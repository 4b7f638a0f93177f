//! What stands on stderr, and how: words or JSON objects, with bars, lines of progress or neither,
//! or errors alone. Whatever this program says there goes through here.

mod canvas;
mod json;
mod log;
mod stage;

use std::io::{IsTerminal, stderr};
use std::time::Instant;

use indicatif::{MultiProgress, ProgressDrawTarget};

use crate::args::{LogFormat, ProgressMode, ScreenArgs};

pub use json::{Fields, asked_for as json_is_asked_for, fields};
pub use stage::{
    Fault, Screen, Shown, ended, fault, fault_as_json, leave, print, say, screen, warn,
};

/// How often bars are drawn in a second, at most. Each asks for less (`pace.rs`); several that are
/// short follow each other.
const FRAMES: u8 = 200;

/// Makes the screen that the flags ask for, and hands log lines to it.
pub fn set_up(args: &ScreenArgs) {
    let json = args.log_format == LogFormat::Json;
    let terminal = stderr().is_terminal();
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let shown = match args.progress {
        _ if args.quiet => Shown::Nothing,
        ProgressMode::Off => Shown::Nothing,
        ProgressMode::Bar => Shown::Bars,
        ProgressMode::Plain => Shown::Lines,
        ProgressMode::Auto if terminal && !dumb && !json => Shown::Bars,
        ProgressMode::Auto => Shown::Lines,
    };
    let target = match shown {
        Shown::Bars => {
            ProgressDrawTarget::term_like_with_hz(Box::<canvas::Canvas>::default(), FRAMES)
        }
        Shown::Lines | Shown::Nothing => ProgressDrawTarget::hidden(),
    };
    stage::begin(Screen {
        shown,
        json,
        quiet: args.quiet,
        bars: MultiProgress::with_draw_target(target),
        began: Instant::now(),
    });
    log::begin(args);
}

/// Flags that contradict each other, and what each is for.
pub fn contradiction(args: &ScreenArgs) -> Option<(&'static str, &'static str)> {
    let shows = matches!(args.progress, ProgressMode::Bar | ProgressMode::Plain);
    if args.quiet && args.verbose > 0 {
        Some((
            "--quiet and --verbose",
            "--quiet is for results and errors alone, --verbose for more than is usually said",
        ))
    } else if args.quiet && shows {
        Some((
            "--quiet and --progress",
            "--quiet shows no progress; --progress alone shows the usual messages too",
        ))
    } else if args.log_format == LogFormat::Json && args.progress == ProgressMode::Bar {
        Some((
            "--log-format json and --progress bar",
            "--progress plain gives an object now and then, --progress off none",
        ))
    } else {
        None
    }
}
