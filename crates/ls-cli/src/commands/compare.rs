//! `ls-cli compare`: runs side by side, with paired tests.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use ls_files::{plain, print};
use ls_report::{
    Compared, Run, bytes, check_page, duration, p_value, score, signed, title, write_comparison,
};
use ls_train::TrainError;

use crate::args::CompareArgs;
use crate::numbers::grouped;
use crate::screen::say;

/// Runs the command.
pub fn run(args: &CompareArgs) -> Result<()> {
    if let Some(out) = &args.html {
        check_page(out, &args.runs).map_err(TrainError::from)?;
    }
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
    let [examples, resamples] = [compared.examples, compared.resamples].map(grouped);
    let split = &compared.split;
    writeln!(
        out,
        "{examples} examples of the {split} split; intervals and p from {resamples} resamples"
    )?;
    if let Some(note) = compared.note() {
        writeln!(out, "{}", plain(&note))?;
    }
    let keys = compared.shown_scores();
    let names: Vec<String> = compared.runs.iter().map(|run| plain(&run.run)).collect();
    let first_column = names.iter().map(|name| format!("  {name}"));
    let first_column = first_column.chain(keys.iter().map(|key| title(key)));
    let widest = first_column.map(|cell| cell.chars().count()).max();
    let width = widest.unwrap_or(0).max(26);
    for key in keys {
        let tested = compared
            .runs
            .iter()
            .any(|run| run.differences.contains_key(key));
        // As wide as the longest signed number is.
        let of_test = if tested {
            "  difference          95 % interval        p"
        } else {
            ""
        };
        writeln!(out, "\n{:<width$}{:>9}{of_test}", title(key), "score")?;
        for (run, name) in compared.runs.iter().zip(&names) {
            let value = run
                .scores
                .get(key)
                .map_or("-".into(), |value| score(*value));
            write!(out, "{:<width$}{value:>9}", format!("  {name}"))?;
            if let Some(one) = run.differences.get(key) {
                let [difference, low, high] = [one.difference, one.low, one.high].map(signed);
                let p = one.p_value;
                write!(out, "  {difference:>10}  {low:>10} {high:>10}  {p:>7.4}")?;
            }
            writeln!(out)?;
        }
    }
    for (run, name) in compared.runs.iter().zip(&names) {
        if let Some(test) = run.mcnemar {
            writeln!(
                out,
                "\nMcNemar, {name} and the first: {} and {} right alone, p {}",
                test.only_this,
                test.only_first,
                p_value(test.p_value)
            )?;
        }
    }
    writeln!(
        out,
        "\n{:<width$}training time  peak memory  parameters that train",
        "  cost"
    )?;
    for (run, name) in compared.runs.iter().zip(&names) {
        let [time, memory] = [run.train_seconds.map(duration), run.peak_memory.map(bytes)]
            .map(Option::unwrap_or_default);
        let trained = run
            .trainable_parameters
            .map(|count| grouped(count as usize));
        let trained = trained.unwrap_or_default();
        let name = format!("  {name}");
        writeln!(out, "{name:<width$}{time:>13}  {memory:>11}  {trained:>21}")?;
    }
    if !compared.settings.is_empty() {
        writeln!(out, "\nsettings that differ")?;
    }
    for (key, values) in &compared.settings {
        let values = values.iter().map(|value| value.as_deref().unwrap_or("-"));
        let values: Vec<String> = values.map(plain).collect();
        writeln!(out, "  {}: {}", plain(key), values.join(" | "))?;
    }
    Ok(out)
}
