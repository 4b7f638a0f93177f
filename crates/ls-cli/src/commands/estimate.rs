//! `ls-cli estimate`: what a training would take, before it begins. It leaves nothing but encoded
//! data in the cache, where the training finds them.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use ls_files::{FileError, print};
use ls_train::RunConfig;
use ls_train::estimate::{Estimate, Measured, Parameters, Wanted, Work, estimate};
use ls_train::memory::Memory;

use super::train::read_new;
use crate::args::{EstimateArgs, RunArgs};
use crate::error::Stopped;
use crate::numbers::{bytes, clock, grouped};
use crate::output::Display;
use crate::screen::{ended, say};
use crate::signals::Signals;
use crate::{builtin, device, shell};

/// Runs the command.
pub fn run(args: &EstimateArgs) -> Result<()> {
    let signals = Signals::listen_while_answering();
    let host = device::is_host(args.device.as_deref())?;
    let device = args
        .measure
        .then(|| device::select(args.device.as_deref()))
        .transpose()?;
    // Files of a built-in configuration are there for as long as they are read.
    let mut unpacked = None;
    let (config, decided) = read_new(&args.of, || {
        // From here on there is something to remove.
        signals.training();
        let folder = std::env::temp_dir();
        let made = tempfile::tempdir_in(&folder).map_err(FileError::writing(&folder))?;
        let root = builtin::unpack(made.path());
        unpacked = Some(made);
        root
    })?;
    if let Some(run) = &config.run {
        ls_train::check_free(run)?;
    }
    for line in decided {
        say(line);
    }
    let mut display = Display::default().stopped_by(&signals);
    let wanted = Wanted {
        host,
        memory: args.memory,
        measure_on: device.as_ref(),
    };
    let found = estimate(&config, &wanted, &mut display);
    display.finish();
    drop(unpacked);
    if signals.asked() {
        ended("stopped before the answer");
        let code = signals.exit_code();
        return Err(Stopped { code }.into());
    }
    let found = found?;
    print(if args.json {
        serde_json::to_string_pretty(&found)? + "\n"
    } else {
        text(&found, args, &config)
    })?;
    Ok(())
}

/// What is printed for people. Writing to a text cannot fail.
fn text(found: &Estimate, args: &EstimateArgs, config: &RunConfig) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<20} {text}");
    };
    line("parameters", parameters(&found.parameters));
    line("data", data(&found.work));
    line("largest pass", largest(&found.work));
    line(
        "memory",
        format!("{}, {}", size(found.peak), found.moment.name()),
    );
    for (part, bytes) in parts(&found.memory) {
        line(&format!("  {part}"), format!("{:>10}", size(bytes)));
    }
    match (found.available, found.fits) {
        (Some(available), Some(fits)) => {
            let missing = (found.peak as u64).saturating_sub(available);
            let fits = if fits {
                "it fits".into()
            } else {
                format!("it does not fit, {} are missing", bytes(missing))
            };
            line("available", format!("{}: {fits}", bytes(available)));
        }
        _ => line(
            "available",
            "not known of this device: --memory GIB says it".into(),
        ),
    }
    if let Some(measured) = &found.measured {
        line("time", time(measured, &found.work));
        if let Some(peak) = measured.peak_memory {
            let text = "in these steps, without the checkpoints and the best model of a run";
            line("memory measured", format!("{} {text}", bytes(peak)));
        }
    }
    match &found.change {
        Some(change) => {
            line("cheapest change", sets(&change.set).join(" "));
            line(
                "",
                format!("{}: {}", size(change.peak), change.costs.join("; ")),
            );
        }
        None if found.fits == Some(false) => line("cheapest change", none_is_enough(config).into()),
        None => {}
    }
    let set = found.change.as_ref().map(|change| &change.set);
    if found.fits != Some(false) || set.is_some() {
        let set = set.map(Vec::as_slice).unwrap_or_default();
        let _ = writeln!(out, "\nnext: {}", train(args, set));
    }
    out
}

/// What is said where no change that is known is enough. What a configuration says, `--set` cannot
/// take out of it, so that adapters are not tried where layers are named.
fn none_is_enough(config: &RunConfig) -> &'static str {
    if config.lora.is_none() && config.train.layers.is_some() {
        "none that is known is enough: take train.layers out of the configuration, so that adapters \
         can be tried (--set lora={}); a smaller model; or more memory"
    } else {
        "none that is known is enough: a smaller model, or more memory"
    }
}

fn size(n: usize) -> String {
    bytes(n as u64)
}

fn parameters(found: &Parameters) -> String {
    let Parameters {
        trainable,
        adapters,
        head,
        decoder,
        all,
    } = *found;
    let parts = [("adapters", adapters), ("decoder", decoder), ("head", head)];
    let parts = parts.iter().filter(|(_, count)| *count > 0);
    let parts: Vec<String> = parts
        .map(|(name, count)| format!("{name} {}", grouped(*count)))
        .collect();
    let percent = 100.0 * trainable as f64 / all as f64;
    format!(
        "{}, of which {} train ({percent:.2}%): {}",
        grouped(all),
        grouped(trainable),
        parts.join(", ")
    )
}

fn data(work: &Work) -> String {
    format!(
        "{} inputs, {} tokens, the longest {}; {} steps in {} epochs, {} evaluations",
        grouped(work.inputs),
        grouped(work.tokens),
        work.longest,
        grouped(work.steps),
        work.epochs,
        work.evaluations
    )
}

fn largest(work: &Work) -> String {
    format!(
        "{} inputs at most, {} tokens; of an evaluation {} tokens",
        work.pass_rows,
        grouped(work.pass_tokens),
        grouped(work.evaluation_tokens)
    )
}

/// The parts of memory by their names.
fn parts(memory: &Memory) -> Vec<(&'static str, usize)> {
    let parts = [
        ("program", memory.program),
        ("weights", memory.weights),
        ("what trains", memory.trained),
        ("optimizer", memory.optimizer),
        ("gradients", memory.gradients),
        ("activations", memory.activations),
    ];
    parts.into_iter().filter(|(_, bytes)| *bytes > 0).collect()
}

fn time(measured: &Measured, work: &Work) -> String {
    format!(
        "{} in all: {} steps in {} ({:.3} s each, {:.0} tokens/s; the largest {:.3} s), {} evaluations \
         and the last scores in {}",
        clock(measured.train_seconds + measured.evaluation_seconds),
        work.steps,
        clock(measured.train_seconds),
        measured.step_seconds,
        measured.tokens_per_second,
        measured.largest_step_seconds,
        work.evaluations,
        clock(measured.evaluation_seconds),
    )
}

/// Keys and values as flags of a shell.
fn sets(set: &[String]) -> Vec<String> {
    let one = |set: &String| format!("--set {}", shell::command([set]));
    set.iter().map(one).collect()
}

/// The command that trains so, with more that is set.
fn train(args: &EstimateArgs, more: &[String]) -> String {
    let RunArgs {
        config,
        model,
        data,
        validation,
        test,
        task,
        set,
        download,
        skip_bad_rows,
    } = &args.of;
    let mut words = vec![shell::program(), "train".into()];
    let paths = [
        ("--config", config),
        ("--model", model),
        ("--data", data),
        ("--validation", validation),
        ("--test", test),
    ];
    for (flag, path) in paths {
        let path = path.as_deref().map(Path::as_os_str);
        words.extend(
            path.into_iter()
                .flat_map(|path| [flag.into(), path.to_owned()]),
        );
    }
    let texts = [
        ("--task", task.map(|task| task.name())),
        ("--device", args.device.as_deref()),
    ];
    for (flag, text) in texts {
        words.extend(text.into_iter().flat_map(|text| [flag.into(), text.into()]));
    }
    for set in set.iter().chain(more) {
        words.extend(["--set".into(), set.into()]);
    }
    let switches = [("--download", download), ("--skip-bad-rows", skip_bad_rows)];
    let switches = switches.into_iter().filter(|(_, on)| **on);
    words.extend(switches.map(|(flag, _)| flag.into()));
    shell::command(words)
}
