//! Scores as a table, for every command that prints some.

use std::io::Write;

use anyhow::Result;
use ls_data::shown_type;
use ls_train::Scores;

/// Most classes whose confusion is a table that can be read.
const SHOWN_CLASSES: usize = 100;

/// Scores by class or entity type, then the averages.
pub fn table(out: &mut impl Write, scores: &Scores) -> Result<()> {
    let mut totals = scores.metrics();
    let rows = match scores {
        Scores::Classification(scores) => &scores.per_class,
        Scores::MultiLabel(scores) => &scores.per_class,
        Scores::Spans(scores) => &scores.per_type,
        Scores::Regression(_) => return numbers(out, &totals),
    };
    if let Scores::Classification(scores) = scores {
        // With one label per example these are the accuracy.
        totals.retain(|(name, _)| !name.ends_with("_micro"));
        totals.extend(scores.log_loss.map(|value| ("log_loss", value)));
        totals.extend(scores.ece.map(|value| ("ece", value)));
    }
    let shown = |name| match scores {
        Scores::Spans(_) => shown_type(name),
        _ => name,
    };
    let rows: Vec<_> = rows
        .iter()
        .map(|(name, scores)| (shown(name), scores))
        .collect();
    let names = rows.iter().map(|(name, _)| *name);
    let names = names.chain(totals.iter().map(|(name, _)| *name));
    let width = names.map(|name| name.chars().count()).chain([20]).max();
    let width = width.unwrap_or(20);
    writeln!(out, "{:<width$}  precision  recall     f1  support", "")?;
    for (name, scores) in rows {
        writeln!(
            out,
            "{name:<width$}     {:.4}  {:.4} {:.4}  {:>7}",
            scores.precision, scores.recall, scores.f1, scores.support
        )?;
    }
    for (name, value) in totals {
        writeln!(out, "{name:<width$}     {value:.4}")?;
    }
    if let Scores::Classification(scores) = scores {
        let names: Vec<&str> = scores
            .per_class
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        if names.len() > SHOWN_CLASSES || scores.confusion.is_empty() {
            let json = match scores.confusion.len() {
                0 => "",
                _ => "; --format json has it",
            };
            let count = names.len();
            return Ok(writeln!(
                out,
                "confusion of {count} classes: not shown{json}"
            )?);
        }
        writeln!(out, "confusion, rows gold, columns {}", names.join(", "))?;
        for (name, row) in names.iter().zip(&scores.confusion) {
            let cells: String = row.iter().map(|count| format!("{count:>8}")).collect();
            writeln!(out, "{name:<width$}{cells}")?;
        }
    }
    Ok(())
}

/// Scores of numbers, which have no rows.
fn numbers(out: &mut impl Write, totals: &[(&str, f64)]) -> Result<()> {
    for (name, value) in totals {
        writeln!(out, "{name:<20}     {value:.4}")?;
    }
    Ok(())
}
