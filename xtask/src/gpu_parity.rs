//! `cargo xtask gpu-parity`: the tests of what computes, on a GPU's backend, and a table of how
//! near they came.
//!
//! wgpu needs no GPU: Mesa has a driver for Vulkan in software, which Debian packages. So kernels,
//! fusion, tuning and the operations' backward passes run on any machine; what is left for a GPU
//! are bf16, tensor cores and speed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::check::{cargo, say, stdout};

/// Options of the command.
#[derive(clap::Args)]
pub struct Args {
    /// wgpu or cuda
    #[arg(long, default_value = "wgpu")]
    device: String,
    /// Only programs (operations, model, ls-bench-gpu) or parts of them (parity) of this name
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Tune as carefully as a long run does
    #[arg(long)]
    full_tuning: bool,
}

/// What is built together: cargo chooses features for all of it at once, so another choice would
/// compile burn again.
const PACKAGES: [&str; 6] = [
    "ls-ops",
    "ls-lora",
    "ls-model",
    "ls-train",
    "ls-cli",
    "ls-benches",
];
/// Those that have a feature for each backend.
const WITH_BACKENDS: [&str; 4] = ["ls-ops", "ls-lora", "ls-cli", "ls-benches"];

/// The package and name of a test target, and which of its tests: those whose device is
/// `LS_TEST_DEVICE`'s. The longest first, since as many run at once as there are cores: what takes
/// the time is compiling kernels, a thread in each process.
const TESTS: [(&str, &str, &[&str]); 6] = [
    ("ls-cli", "model", &["parity::"]),
    ("ls-cli", "model", &["variants::"]),
    ("ls-cli", "checkpointing", &[]),
    ("ls-ops", "operations", &[]),
    ("ls-cli", "model", &["memory::", "train30::"]),
    ("ls-lora", "quantized", &[]),
];

/// Models on the device beside the same on the CPU.
const BENCH: &str = "ls-bench-gpu";

/// Builds, runs every test to its end, prints the table; fails if a test did.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    if args.device == "wgpu" && cfg!(target_os = "linux") {
        vulkan()?;
    }
    let start = Instant::now();
    let programs = build(root, &args.device)?;
    let built = start.elapsed();
    say(format_args!("built in {}", shown(built)));

    let start = Instant::now();
    let rows = rows(root, args, &programs)?;
    say("");
    let (built, took) = (shown(built), shown(start.elapsed()));
    writeln!(
        std::io::stdout(),
        "{}\nOn {}: built in {built}, run in {took}.",
        table(&rows),
        args.device
    )
    .context("cannot write to stdout")?;
    ensure!(!rows.is_empty(), "no program or part of one has this name");
    let failed = rows.iter().filter(|row| row.failed).count();
    ensure!(failed == 0, "{failed} of {} checks failed", rows.len());
    Ok(())
}

/// Runs everything, as many programs at once as there are cores.
fn rows(root: &Path, args: &Args, programs: &BTreeMap<String, PathBuf>) -> Result<Vec<Row>> {
    let test = |(package, target, filters): (&str, &str, &[&str])| {
        let mut command = Command::new(&programs[target]);
        command.current_dir(root.join("crates").join(package));
        command.args(["--test-threads=1", "--show-output"]);
        command.args(filters);
        tests(environment(&mut command, root, args), target)
    };
    let bench = || {
        let mut command = Command::new(&programs[BENCH]);
        command.args(["parity", "--device", &args.device]);
        parity(environment(&mut command, root, args))
    };
    let named = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only));
    let mut work: Vec<Box<dyn Fn() -> Result<Vec<Row>> + Sync + '_>> = Vec::new();
    for (package, target, filters) in TESTS {
        if named(target) || filters.iter().any(|filter| named(filter)) {
            work.push(Box::new(move || test((package, target, filters))));
        }
    }
    if named(BENCH) {
        work.push(Box::new(bench));
    }
    let next = AtomicUsize::new(0);
    let worker = || -> Result<Vec<(usize, Vec<Row>)>> {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(run) = work.get(at) else {
                return Ok(done);
            };
            done.push((at, run()?));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut done = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores.min(work.len()))
            .map(|_| scope.spawn(worker))
            .collect();
        let mut done = Vec::new();
        for worker in workers {
            match worker.join() {
                Ok(rows) => done.extend(rows?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok::<_, anyhow::Error>(done)
    })?;
    // In the order of the list, whichever ended first.
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().flat_map(|(_, rows)| rows).collect())
}

fn shown(time: Duration) -> String {
    format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
}

/// Makes sure that there is a driver for Vulkan: where none is found, Mesa's packages are
/// installed, which have one in software.
fn vulkan() -> Result<()> {
    if has_vulkan() {
        return Ok(());
    }
    let by_hand = "no Vulkan driver found: install Mesa's (Debian, Ubuntu: `apt-get install \
                   mesa-vulkan-drivers`, which needs no GPU)";
    let run = |program: &str, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).status();
        status.is_ok_and(|status| status.success())
    };
    let quiet = |program: &str| {
        let output = Command::new(program).arg("--version").output();
        output.is_ok_and(|output| output.status.success())
    };
    ensure!(quiet("apt-get"), "{by_hand}; there is no apt-get here");
    let root = stdout(Command::new("id").arg("-u")).is_ok_and(|id| id.trim_ascii() == b"0");
    ensure!(
        root || quiet("sudo"),
        "{by_hand}; apt-get needs root or sudo"
    );
    say("no Vulkan driver found: installing mesa-vulkan-drivers");
    let apt = |arguments: &[&str]| {
        if root {
            run("apt-get", arguments)
        } else {
            run("sudo", &[&["apt-get"], arguments].concat())
        }
    };
    let install = [
        "install",
        "-y",
        "--no-install-recommends",
        "mesa-vulkan-drivers",
    ];
    // Lists of packages may be missing, or name versions that are gone.
    let installed = apt(&install) || (apt(&["update"]) && apt(&install));
    ensure!(installed, "{by_hand}; apt-get failed");
    Ok(())
}

/// Whether a driver is named, or listed where the loader looks, and the loader is there.
fn has_vulkan() -> bool {
    let named = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];
    let named = named.iter().any(|name| std::env::var_os(name).is_some());
    let folders = [
        "/usr/share/vulkan/icd.d",
        "/usr/local/share/vulkan/icd.d",
        "/etc/vulkan/icd.d",
    ];
    let listed = folders.iter().any(|folder| {
        let mut files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        files.any(|file| file.path().extension().is_some_and(|ext| ext == "json"))
    });
    // Not on everybody's path. Where it cannot be asked, opening the device will tell.
    let libraries = stdout(Command::new("/sbin/ldconfig").arg("-p"));
    let loader =
        libraries.is_ok_and(|list| String::from_utf8_lossy(&list).contains("libvulkan.so"));
    (named || listed) && (loader || !Path::new("/sbin/ldconfig").exists())
}

/// Compiles the tests and the bench, and gives their files by the names of their targets.
fn build(root: &Path, device: &str) -> Result<BTreeMap<String, PathBuf>> {
    let mut programs = BTreeMap::new();
    let features: Vec<String> = WITH_BACKENDS
        .iter()
        .map(|package| format!("{package}/{device}"))
        .collect();
    for what in [&["test", "--no-run"][..], &["build", "--bin", BENCH]] {
        let mut command = cargo(root);
        command.args(what).args(["--features", &features.join(",")]);
        for package in PACKAGES {
            command.args(["-p", package]);
        }
        command.arg("--message-format=json-render-diagnostics");
        let output = command
            .stderr(Stdio::inherit())
            .output()
            .context("run cargo")?;
        ensure!(output.status.success(), "cargo {}: failed", what.join(" "));
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let message: Value = serde_json::from_str(line).unwrap_or_default();
            let name = message["target"]["name"].as_str();
            if let (Some(name), Some(file)) = (name, message["executable"].as_str()) {
                // The program `ls-cli` is there twice; neither is run.
                programs.insert(name.to_string(), PathBuf::from(file));
            }
        }
    }
    for name in TESTS.iter().map(|(_, target, _)| *target).chain([BENCH]) {
        ensure!(programs.contains_key(name), "cargo built no {name}");
    }
    Ok(programs)
}

/// What the programs read from the environment.
fn environment<'a>(command: &'a mut Command, root: &Path, args: &Args) -> &'a mut Command {
    command.env("LS_TEST_DEVICE", &args.device);
    // Results of tuning serve minutes here, not days: the first kernel that is fast enough is
    // taken.
    if !args.full_tuning && std::env::var_os("CUBECL_AUTOTUNE_LEVEL").is_none() {
        command.env("CUBECL_AUTOTUNE_LEVEL", "minimal");
    }
    // Without it a layer of Mesa's complains on stderr.
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        command.env("XDG_RUNTIME_DIR", root.join("target"));
    }
    command
}

/// A line of the table.
#[derive(Debug, Clone, Default, PartialEq)]
struct Row {
    check: String,
    failed: bool,
    /// The error that came nearest to its limit, and the limit.
    worst: Option<(f64, f64)>,
    /// What of it does not run on the device, and why.
    left_out: Vec<String>,
    seconds: f64,
}

/// Runs a test program and reads what it prints, a line at a time for the times.
fn tests(command: &mut Command, target: &str) -> Result<Vec<Row>> {
    let mut said = Said::new(target);
    let mut since = Instant::now();
    let success = lines(command, |line| {
        if said.read(line) {
            let seconds = since.elapsed().as_secs_f64();
            say(format_args!("{target}: {line}  {seconds:.1} s"));
            if let Some(row) = said.rows.last_mut() {
                row.seconds = seconds;
            }
            since = Instant::now();
        }
    })?;
    // As after an abort in the middle of a test, or when no test has the name that is looked for.
    let ended = !success && !said.rows.iter().any(|row| row.failed);
    if ended || said.rows.is_empty() {
        let what = if ended { "ended early" } else { "ran no test" };
        said.rows.push(Row {
            check: format!("{target}: {what}"),
            failed: true,
            ..Row::default()
        });
    }
    Ok(said.rows)
}

/// The lines of a program's stdout as they come, and whether it ended well.
fn lines(command: &mut Command, mut read: impl FnMut(&str)) -> Result<bool> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {}", command.get_program().to_string_lossy()))?;
    for line in BufReader::new(child.stdout.take().context("no stdout")?).lines() {
        read(&line.context("read what a test prints")?);
    }
    Ok(child.wait().context("wait for a test")?.success())
}

/// What libtest prints of one program: a line for each test, and then what each has printed.
struct Said {
    target: String,
    rows: Vec<Row>,
    /// The test whose output is being read.
    test: Option<usize>,
}

impl Said {
    fn new(target: &str) -> Self {
        Self {
            target: target.into(),
            rows: Vec::new(),
            test: None,
        }
    }

    /// Reads a line; whether it ended a test.
    fn read(&mut self, line: &str) -> bool {
        if let Some(ended) = line.strip_prefix("test ")
            && let Some((name, result)) = ended.split_once(" ... ")
            && result != "ignored"
        {
            let name = name.trim_end_matches(" - should panic");
            self.rows.push(Row {
                check: format!("{}: {name}", self.target),
                failed: result != "ok",
                ..Row::default()
            });
            return true;
        }
        if let Some(name) = line.strip_prefix("---- ") {
            let name = name.trim_end_matches(" stdout ----");
            let check = format!("{}: {name}", self.target);
            self.test = self.rows.iter().position(|row| row.check == check);
        }
        let Some(row) = self.test.and_then(|at| self.rows.get_mut(at)) else {
            return false;
        };
        if let Some(reason) = line.strip_prefix("left out: ")
            && !row.left_out.iter().any(|known| known == reason)
        {
            row.left_out.push(reason.into());
        }
        let mut words = line.split(' ');
        if let (Some("error"), Some(error), Some("limit"), Some(limit)) =
            (words.next(), words.next(), words.next(), words.next())
            && let (Ok(error), Ok(limit)) = (error.parse(), limit.parse())
        {
            row.compare(error, limit);
        }
        if row.failed && !line.is_empty() {
            say(line);
        }
        false
    }
}

impl Row {
    fn compare(&mut self, error: f64, limit: f64) {
        let share = |(error, limit): (f64, f64)| if error == 0.0 { 0.0 } else { error / limit };
        if self
            .worst
            .is_none_or(|worst| share((error, limit)) > share(worst))
        {
            self.worst = Some((error, limit));
        }
    }
}

/// Runs the bench's parity; each of its lines is a check.
fn parity(command: &mut Command) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut since = Instant::now();
    let success = lines(command, |line| {
        let value: Value = serde_json::from_str(line).unwrap_or_default();
        let text = |field: &str| value[field].as_str().unwrap_or("?").to_string();
        let mut row = Row {
            check: format!(
                "{BENCH}: {}, {}, {}",
                text("shape"),
                text("attention"),
                text("dtype")
            ),
            failed: value["ok"] != true,
            seconds: since.elapsed().as_secs_f64(),
            ..Row::default()
        };
        let limit = value["limit"].as_f64().unwrap_or(0.0);
        for field in ["logits_error", "gradient_error"] {
            row.compare(value[field].as_f64().unwrap_or(f64::NAN), limit);
        }
        say(line);
        rows.push(row);
        since = Instant::now();
    })?;
    if !success && !rows.iter().any(|row| row.failed) {
        rows.push(Row {
            check: format!("{BENCH}: ended early"),
            failed: true,
            ..Row::default()
        });
    }
    Ok(rows)
}

fn table(rows: &[Row]) -> String {
    let mut text =
        String::from("| check | result | worst error | limit | s |\n|---|---|---|---|---|\n");
    for row in rows {
        let left_out = row.left_out.join("; ");
        let result = match (row.failed, row.worst, left_out.is_empty()) {
            (true, _, _) => "FAILED".into(),
            (false, _, true) => "ok".into(),
            (false, Some(_), false) => format!("ok, in part: {left_out}"),
            (false, None, false) => format!("not run: {left_out}"),
        };
        let number = |number: Option<f64>| number.map_or("-".into(), |n| format!("{n:.1e}"));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {result} | {} | {} | {:.1} |",
            row.check,
            number(row.worst.map(|(error, _)| error)),
            number(row.worst.map(|(_, limit)| limit)),
            row.seconds
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_test_program_prints_becomes_rows() {
        let printed = "\nrunning 4 tests
test a ... ok
test b - should panic ... ok
test c ... FAILED
test d ... ignored
test e ... ok

successes:

---- a stdout ----
error 1e-7 limit 1e-5 first
error 3e-6 limit 1e-5 second
left out: no bf16
left out: no bf16
error 1e-3 limit 1e0 third

---- e stdout ----
left out: the CPU's

successes:
    a

failures:

---- c stdout ----
error 0e0 limit 0e0 same
thread 'c' panicked
";
        let mut said = Said::new("unit");
        let ends = printed.lines().filter(|line| said.read(line)).count();
        assert_eq!(ends, 4);
        assert_eq!(
            table(&said.rows),
            "| check | result | worst error | limit | s |
|---|---|---|---|---|
| unit: a | ok, in part: no bf16 | 3.0e-6 | 1.0e-5 | 0.0 |
| unit: b | ok | - | - | 0.0 |
| unit: c | FAILED | 0.0e0 | 0.0e0 | 0.0 |
| unit: e | not run: the CPU's | - | - | 0.0 |
"
        );
    }
}
