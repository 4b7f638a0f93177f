//! `cargo xtask ci`: every check, and a table of what each took.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::check::{cargo, say};
use crate::{deny, deps, fixtures, miri, results, tidy};

/// Every feature of the workspace at once, so that one compilation of the dependencies serves
/// clippy, the documentation and the type checks of all backends and of the downloader.
const EVERY_FEATURE: [&str; 2] = [
    "--features",
    "ls-cli/cuda-nvrtc,ls-cli/wgpu,ls-cli/hub,ls-hub/hub,ls-benches/cuda-nvrtc,ls-benches/wgpu,ls-benches/criterion",
];

/// Runs the checks, cheapest first, up to the first that fails.
///
/// Dependencies are compiled twice: once to be checked, with every feature, and once to be run, in
/// the profile and with the features of `cargo run`. Only the downloader's tests add dependencies
/// of their own. The tests of the workspace come last, so that their result stands at the end of
/// the output.
///
/// Backends for GPUs are type-checked here and no more: to compile one and its kernels takes more
/// minutes than everything else (`cargo xtask gpu-parity`).
pub fn run(root: &Path) -> Result<()> {
    // As on docs.rs: the types are checked without a CUDA toolkit.
    let check = |subcommand: &str| {
        let mut command = cargo(root);
        command
            .env("DOCS_RS", "1")
            .args([subcommand, "--workspace"]);
        command.args(EVERY_FEATURE);
        command
    };
    let fmt = || exec(cargo(root).args(["fmt", "--all", "--check"]));
    let clippy = || exec(check("clippy").args(["--all-targets", "--", "-D", "warnings"]));
    let doc = || {
        exec(
            check("doc")
                .arg("--no-deps")
                .env("RUSTDOCFLAGS", "-D warnings"),
        )
    };
    let build = || {
        let tests = ["test", "--workspace", "--no-run"];
        exec(cargo(root).args(tests))?;
        no_warnings(cargo(root).args(tests))
    };
    // A project outside the workspace; its dependencies are those of the tests.
    let outside = || {
        let mut command = cargo(root);
        command.args(["test", "--workspace", "--test", "outside"]);
        exec(command.args(["--", "--ignored"]))
    };
    // Fetching, which the tests of the workspace leave out.
    let hub = || exec(cargo(root).args(["test", "-p", "ls-hub", "--features", "hub"]));
    // What operations cost beside reference loops, so that a slow machine does not fail.
    let guard = || {
        let mut command = cargo(root);
        command.args(["run", "-p", "ls-benches", "--bin", "ls-bench-guard"]);
        exec(&mut command)
    };
    let test = || exec(cargo(root).args(["test", "--workspace"]));

    let steps: Vec<(&str, Step<'_>)> = vec![
        ("fmt", Box::new(fmt)),
        ("tidy", Box::new(|| tidy::run(root))),
        ("deps", Box::new(|| deps::run(root))),
        ("fixtures", Box::new(|| fixtures::check(root))),
        ("results", Box::new(|| results::check(root))),
        ("supply-chain", Box::new(|| deny::run(root))),
        ("miri", Box::new(|| miri::run_if_installed(root))),
        ("clippy", Box::new(clippy)),
        ("doc", Box::new(doc)),
        ("hub", Box::new(hub)),
        ("build", Box::new(build)),
        ("outside", Box::new(outside)),
        ("guard", Box::new(guard)),
        ("test", Box::new(test)),
    ];

    let mut times = Vec::with_capacity(steps.len());
    let mut result = Ok(());
    for (name, step) in steps {
        say(format_args!("== {name}"));
        let start = Instant::now();
        result = step().with_context(|| format!("step {name}"));
        times.push((name, start.elapsed(), result.is_ok()));
        if result.is_err() {
            break;
        }
    }
    say(table(&times).trim_end());
    result
}

type Step<'a> = Box<dyn Fn() -> Result<()> + 'a>;

fn exec(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    say(format_args!("$ {shown}"));
    let status = command.status().with_context(|| format!("run {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Fails if a build that is done has warned: clippy saw the code with every feature, this one
/// without.
fn no_warnings(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let output = command.output().with_context(|| format!("run {shown}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || said.lines().any(|line| line.starts_with("warning")) {
        bail!("{shown}: {}\n{said}", output.status);
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
            "{name:<13} {:>2}m {:>4.1}s  {end}\n",
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
            "\nfmt            0m  0.4s  ok\ntest           2m  5.2s  FAILED\nall            2m  5.6s  FAILED\n"
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
