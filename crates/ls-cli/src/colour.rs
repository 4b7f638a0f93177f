//! Whether escape codes for colours are written: by `NO_COLOR` (no-color.org), `CLICOLOR` and
//! `CLICOLOR_FORCE` (bixense.com/clicolors), else where a terminal reads them.

use std::env::var_os;
use std::io::{IsTerminal, stderr};

use clap::ColorChoice;

/// What the environment says, whoever reads the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Never,
    Always,
    OnTerminals,
}

/// A variable that is empty is as good as not set.
fn wish(get: impl Fn(&str) -> Option<String>) -> Wish {
    let get = |name: &str| get(name).filter(|value| !value.is_empty());
    if get("NO_COLOR").is_some() {
        Wish::Never
    } else if get("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
        Wish::Always
    } else if get("CLICOLOR").is_some_and(|value| value == "0")
        || get("TERM").is_some_and(|value| value == "dumb")
    {
        Wish::Never
    } else {
        Wish::OnTerminals
    }
}

fn wish_here() -> Wish {
    wish(|name| Some(var_os(name)?.to_string_lossy().into_owned()))
}

/// Whether log lines on stderr have colours.
pub fn on_stderr() -> bool {
    match wish_here() {
        Wish::Never => false,
        Wish::Always => true,
        Wish::OnTerminals => stderr().is_terminal(),
    }
}

/// The same for help and errors of the command line, which clap writes to stdout or stderr.
pub fn of_help() -> ColorChoice {
    match wish_here() {
        Wish::Never => ColorChoice::Never,
        Wish::Always => ColorChoice::Always,
        // Whatever it is set to, clap would take it for a wish to have colours.
        Wish::OnTerminals if var_os("CLICOLOR_FORCE").is_some() => ColorChoice::Never,
        Wish::OnTerminals => ColorChoice::Auto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_wins_over_force_and_force_over_the_rest() {
        let of = |set: &[(&str, &str)]| {
            wish(|name| {
                let found = set.iter().find(|(key, _)| *key == name)?;
                Some(found.1.to_string())
            })
        };
        assert_eq!(of(&[]), Wish::OnTerminals);
        assert_eq!(
            of(&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]),
            Wish::Never
        );
        assert_eq!(of(&[("NO_COLOR", "0")]), Wish::Never);
        assert_eq!(
            of(&[("NO_COLOR", ""), ("CLICOLOR_FORCE", "1")]),
            Wish::Always
        );
        assert_eq!(
            of(&[("CLICOLOR", "0"), ("CLICOLOR_FORCE", "1")]),
            Wish::Always
        );
        assert_eq!(of(&[("CLICOLOR_FORCE", "0")]), Wish::OnTerminals);
        assert_eq!(of(&[("CLICOLOR_FORCE", "")]), Wish::OnTerminals);
        assert_eq!(of(&[("CLICOLOR", "0")]), Wish::Never);
        assert_eq!(of(&[("TERM", "dumb")]), Wish::Never);
        assert_eq!(
            of(&[("CLICOLOR", "1"), ("TERM", "xterm")]),
            Wish::OnTerminals
        );
    }
}
