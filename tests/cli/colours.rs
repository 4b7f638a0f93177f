//! Colours: none on a pipe, unless the environment asks for them.

use std::process::Stdio;

use crate::runs::*;
use crate::sandbox::Sandbox;

/// What a command writes to stderr, with these variables set.
fn stderr(sandbox: &Sandbox, args: &[&str], set: &[(&str, &str)]) -> String {
    let mut command = sandbox.command(args);
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        command.env_remove(name);
    }
    let output = command
        .envs(set.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn log_lines_and_usage_on_a_pipe_are_plain_unless_colours_are_forced() {
    let sandbox = sequence();
    // A JSON column of predictions that are none is logged as a warning.
    let log = ["score", "--gold", "gold.jsonl", "--pred", "pred.jsonl"];
    sandbox.write("gold.jsonl", "{\"label\": \"a\"}\n");
    sandbox.write("pred.jsonl", "{\"label\": \"a\", \"scores\": {\"a\": 7}}\n");
    let usage = ["train", "--nonsense"];
    let escapes = |args: &[&str], set: &[(&str, &str)]| {
        let text = stderr(&sandbox, args, set);
        let part = if args == log {
            "no log-loss"
        } else {
            "--nonsense"
        };
        assert!(text.contains(part), "{text}");
        text.contains('\u{1b}')
    };
    for args in [&log[..], &usage] {
        assert!(!escapes(args, &[]), "{args:?}");
        assert!(escapes(args, &[("CLICOLOR_FORCE", "1")]), "{args:?}");
        assert!(!escapes(args, &[("CLICOLOR_FORCE", "0")]), "{args:?}");
        assert!(
            !escapes(args, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]),
            "{args:?}"
        );
        assert!(
            escapes(args, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "")]),
            "{args:?}"
        );
        assert!(!escapes(args, &[("CLICOLOR", "1")]), "{args:?}");
    }
    // A whole run, with its progress.
    for (run, set) in [
        ("plain", &[][..]),
        ("never", &[("NO_COLOR", "1")]),
        ("always", &[("CLICOLOR_FORCE", "1")]),
    ] {
        let text = stderr(&sandbox, &train_args(run, &["train.epochs=1"]), set);
        assert!(
            text.contains("training ...") && !text.contains('\u{1b}'),
            "{text}"
        );
    }
}
