//! `ls-cli compare`: runs side by side, with paired tests.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use ls_files::print;
use ls_report::{Compared, Run, p_value, score, signed, title, write_comparison};
use ls_train::TrainError;

use crate::args::CompareArgs;
use crate::numbers::{bytes, duration};
use crate::screen::say;

/// Runs the command.
pub fn run(args: &CompareArgs) -> Result<()> {
    let read = |run: &PathBuf| Run::read(run).map_err(TrainError::from);
    let runs = args.runs.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let compared = Compared::new(&runs).map_err(TrainError::from)?;
    if let Some(out) = &args.html {
        write_comparison(&compared, out).map_err(TrainError::from)?;
        say(format!("page: {}", out.display()));
    }
    let text = if args.json {
        serde_json::to_string_pretty(&compared)? + "\n"
    } else {
        text(&compared)?
    };
    Ok(print(text)?)
}

/// The comparison as a table.
fn text(compared: &Compared) -> Result<String> {
    let mut out = String::new();
    let count = compared.examples;
    writeln!(out, "{count} examples of the {} split", compared.split)?;
    if let Some(note) = compared.note() {
        writeln!(out, "{note}")?;
    }
    let names: Vec<&str> = compared.runs.iter().map(|run| run.run.as_str()).collect();
    let widest = names.iter().map(|name| name.chars().count()).max();
    let width = widest.unwrap_or(0).max(24);
    for key in compared.shown_scores() {
        // As wide as the longest signed number is.
        writeln!(
            out,
            "\n{:<width$}      score  difference          95 % interval        p",
            title(key)
        )?;
        for run in &compared.runs {
            write!(out, "  {:<width$}{:>9}", run.run, score(run.scores[key]))?;
            if let Some(one) = run.differences.get(key) {
                let [difference, low, high] = [one.difference, one.low, one.high].map(signed);
                let p = one.p_value;
                write!(out, "  {difference:>10}  {low:>10} {high:>10}  {p:>7.4}")?;
            }
            writeln!(out)?;
        }
    }
    for run in &compared.runs {
        if let Some(test) = run.mcnemar {
            writeln!(
                out,
                "\nMcNemar, {} and the first: {} and {} right alone, p {}",
                run.run,
                test.only_this,
                test.only_first,
                p_value(test.p_value)
            )?;
        }
    }
    writeln!(out, "\n{:<width$}training time  peak memory", "  cost")?;
    for run in &compared.runs {
        let [time, memory] = [run.train_seconds.map(duration), run.peak_memory.map(bytes)]
            .map(Option::unwrap_or_default);
        writeln!(out, "  {:<width$}{time:>13}  {memory:>11}", run.run)?;
    }
    if !compared.settings.is_empty() {
        writeln!(out, "\nsettings that differ")?;
    }
    for (key, values) in &compared.settings {
        let values = values.iter().map(|value| value.as_deref().unwrap_or("-"));
        writeln!(out, "  {key}: {}", values.collect::<Vec<_>>().join(" | "))?;
    }
    Ok(out)
}
