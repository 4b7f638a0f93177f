//! Log lines of this program and its libraries: which are written, and how.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use super::json;
use super::stage::screen;
use crate::args::ScreenArgs;
use crate::colour;

/// Variables that hold a filter, the first that is set wins. The one is this program's, the other
/// the usual one.
const VARIABLES: [&str; 2] = ["LS_LLAMA_LOG", "RUST_LOG"];

/// The crates of this project.
const OURS: [&str; 9] = [
    "ls_cli", "ls_train", "ls_data", "ls_model", "ls_lora", "ls_ops", "ls_hub", "ls_files",
    "ls_serve",
];

/// Begins to write log lines.
pub fn begin(args: &ScreenArgs) {
    let (filter, bad) = filter(args, |name| std::env::var(name).ok());
    let builder = fmt().with_env_filter(filter).with_writer(|| Lines);
    if screen().json {
        builder.event_format(json::Objects).init();
    } else {
        builder
            .with_ansi(colour::on_stderr())
            .with_target(args.verbose > 0)
            .without_time()
            .init();
    }
    if let Some(bad) = bad {
        tracing::warn!("{bad}");
    }
}

/// Takes whole lines, and writes them above the bars.
#[derive(Debug, Clone, Copy)]
struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        screen().write(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written by the environment or else the flags, and what is wrong with the former.
fn filter(
    args: &ScreenArgs,
    variable: impl Fn(&str) -> Option<String>,
) -> (EnvFilter, Option<String>) {
    let mut set = VARIABLES.into_iter().filter_map(|name| {
        let value = variable(name).filter(|value| !value.is_empty())?;
        Some((name, value))
    });
    let by_flags = || EnvFilter::new(by_flags(args));
    match set.next() {
        None => (by_flags(), None),
        Some((name, value)) => match EnvFilter::try_new(&value) {
            Ok(filter) => (filter, None),
            Err(error) => {
                let bad = format!(
                    "{name}={value} is passed over: {error}; expected a level (debug) or levels of \
                     crates (warn,ls_train=debug)"
                );
                (by_flags(), Some(bad))
            }
        },
    }
}

/// The filter of the flags.
fn by_flags(args: &ScreenArgs) -> String {
    // cubecl also warns of what costs nobody anything: two processes that tune the same kernel.
    let others = if args.quiet {
        "error"
    } else {
        // Of a service each request is a line.
        "warn,cubecl=error,ls_serve=info"
    };
    let level = match args.verbose {
        0 => return others.into(),
        1 => "debug",
        _ => "trace",
    };
    let ours = OURS.map(|name| format!("{name}={level}"));
    format!("{others},{}", ours.join(","))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        screen: ScreenArgs,
    }

    fn of(flags: &[&str], set: &[(&str, &str)]) -> (String, Option<String>) {
        let args = Only::parse_from(["ls-cli"].iter().chain(flags));
        let (filter, bad) = filter(&args.screen, |name| {
            let found = set.iter().find(|(key, _)| *key == name)?;
            Some(found.1.to_string())
        });
        (filter.to_string(), bad)
    }

    #[test]
    fn the_environment_wins_over_flags_and_ours_over_the_usual_variable() {
        assert_eq!(of(&["-v"], &[("RUST_LOG", "info")]).0, "info");
        let both = [("RUST_LOG", "info"), ("LS_LLAMA_LOG", "error")];
        assert_eq!(of(&["-vv"], &both).0, "error");
        let empty = [("RUST_LOG", "info"), ("LS_LLAMA_LOG", "")];
        assert_eq!(of(&["--quiet"], &empty).0, "info");
        assert_eq!(of(&["--quiet"], &[("RUST_LOG", "")]).0, "error");
        let (filter, bad) = of(&["--quiet"], &[("RUST_LOG", "ls_train=loud")]);
        assert_eq!(filter, "error");
        assert!(
            bad.unwrap()
                .starts_with("RUST_LOG=ls_train=loud is passed over: ")
        );
    }

    #[test]
    fn verbose_is_about_our_crates() {
        let has = |flags: &[&str], part: &str| of(flags, &[]).0.contains(part);
        assert!(has(&[], "warn") && !has(&[], "ls_train"));
        assert!(has(&["-v"], "ls_train=debug") && has(&["-v"], "warn"));
        assert!(has(&["-vv"], "ls_data=trace"));
    }
}
