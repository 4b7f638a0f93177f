//! `cargo xtask ci`: every check, and a table of what each took.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::check::cargo;
use crate::{deps, fixtures, tidy};

/// Benchmarks are compiled to be checked only, and the documentation is made with the same
/// features, so that both stand on one compilation of the dependencies.
const BENCHES: [&str; 2] = ["--features", "ls-benches/criterion"];

/// Runs the checks, cheapest first, up to the first that fails.
///
/// Dependencies are compiled once to be checked (clippy, doc) and once to be run (test, in the
/// profile and with the features of `cargo run`); only `cuda`, `outside` and `hub` have more of
/// them. The tests come last, so that their result stands at the end of the output.
pub fn run(root: &Path, cuda: bool) -> Result<()> {
    let fmt = || exec(cargo(root).args(["fmt", "--all", "--check"]));
    let clippy = || {
        let mut command = cargo(root);
        command.args(["clippy", "--workspace", "--all-targets"]);
        exec(command.args(BENCHES).args(["--", "-D", "warnings"]))
    };
    let doc = || {
        let mut command = cargo(root);
        command.env("RUSTDOCFLAGS", "-D warnings");
        exec(
            command
                .args(["doc", "--workspace", "--no-deps"])
                .args(BENCHES),
        )
    };
    // As on docs.rs: the types are checked without a CUDA toolkit.
    let check_cuda = || {
        let mut command = cargo(root);
        command.env("DOCS_RS", "1");
        command.args(["check", "-p", "ls-cli", "-p", "ls-benches"]);
        command.args(["--bin", "ls-cli", "--bin", "ls-bench-gpu"]);
        exec(command.args(["--features", "ls-cli/cuda,ls-benches/cuda"]))
    };
    // A project outside the workspace, which compiles burn with features of its own.
    let outside = || {
        let mut command = cargo(root);
        command.args(["test", "--workspace", "--test", "outside"]);
        exec(command.args(["--", "--ignored"]))
    };
    // Fetching, which the other steps leave out: it has a set of dependencies of its own.
    let hub = || {
        let features = ["-p", "ls-hub", "--features", "hub"];
        let mut clippy = cargo(root);
        clippy.arg("clippy").args(features).arg("--all-targets");
        clippy.args(["-p", "ls-cli", "--features", "ls-cli/hub"]);
        exec(clippy.args(["--", "-D", "warnings"]))?;
        exec(cargo(root).arg("test").args(features))
    };
    // What operations cost beside reference loops, so that a slow machine does not fail.
    let guard = || {
        let mut command = cargo(root);
        command.args(["run", "-p", "ls-benches", "--bin", "ls-bench-guard"]);
        exec(&mut command)
    };
    let test = || exec(cargo(root).args(["test", "--workspace"]));

    let mut steps: Vec<(&str, Step<'_>)> = vec![
        ("fmt", Box::new(fmt)),
        ("tidy", Box::new(|| tidy::run(root))),
        ("deps", Box::new(|| deps::run(root))),
        ("fixtures", Box::new(|| fixtures::check(root))),
        ("clippy", Box::new(clippy)),
        ("doc", Box::new(doc)),
        ("outside", Box::new(outside)),
        ("hub", Box::new(hub)),
        ("guard", Box::new(guard)),
        ("test", Box::new(test)),
    ];
    if cuda {
        steps.insert(steps.len() - 1, ("cuda", Box::new(check_cuda)));
    }

    let mut times = Vec::with_capacity(steps.len());
    let mut result = Ok(());
    for (name, step) in steps {
        eprintln!("== {name}");
        let start = Instant::now();
        result = step().with_context(|| format!("step {name}"));
        times.push((name, start.elapsed(), result.is_ok()));
        if result.is_err() {
            break;
        }
    }
    eprint!("{}", table(&times));
    result
}

type Step<'a> = Box<dyn Fn() -> Result<()> + 'a>;

fn exec(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    eprintln!("$ {shown}");
    let status = command.status().with_context(|| format!("run {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// A command as one would type it.
fn shown(command: &Command) -> String {
    let mut words: Vec<String> = Vec::new();
    for (name, value) in command.get_envs() {
        let value = value.unwrap_or_default().to_string_lossy();
        words.push(if value.contains(' ') {
            format!("{}={value:?}", name.to_string_lossy())
        } else {
            format!("{}={value}", name.to_string_lossy())
        });
    }
    let program = Path::new(command.get_program())
        .file_stem()
        .unwrap_or_default();
    words.push(program.to_string_lossy().into_owned());
    words.extend(
        command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

fn table(times: &[(&str, Duration, bool)]) -> String {
    let row = |name: &str, time: Duration, end: &str| {
        let seconds = time.as_secs_f64();
        format!(
            "{name:<10} {:>3}m {:>4.1}s  {end}\n",
            seconds as u64 / 60,
            seconds % 60.0
        )
    };
    let mut out = String::from("\n");
    for (name, time, ok) in times {
        out += &row(name, *time, if *ok { "ok" } else { "FAILED" });
    }
    let all = times.iter().all(|(_, _, ok)| *ok);
    out + &row(
        "all",
        times.iter().map(|(_, time, _)| *time).sum(),
        if all { "ok" } else { "FAILED" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_per_step_and_their_sum() {
        let times = [
            ("fmt", Duration::from_millis(400), true),
            ("test", Duration::from_millis(125_200), false),
        ];
        assert_eq!(
            table(&times),
            "\nfmt          0m  0.4s  ok\ntest         2m  5.2s  FAILED\nall          2m  5.6s  FAILED\n"
        );
    }

    #[test]
    fn a_command_is_shown_as_typed() {
        let mut command = Command::new("/opt/bin/cargo");
        command
            .env("RUSTDOCFLAGS", "-D warnings")
            .args(["doc", "--no-deps"]);
        assert_eq!(
            shown(&command),
            "RUSTDOCFLAGS=\"-D warnings\" cargo doc --no-deps"
        );
    }
}
