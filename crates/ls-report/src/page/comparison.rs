//! The page of several runs side by side.

use super::parts::{Section, document, missing};
use super::table::{Table, data};
use crate::compare::{Compared, ComparedRun, REPORTED};
use crate::html::{Markup, el};
use crate::numbers::{bytes, count, duration, p_value, score, signed, title};

/// The page of a comparison.
pub(crate) fn of_runs(compared: &Compared) -> String {
    let lead = format!(
        "{} runs on the same {} examples of the {} split. Differences are to the first run, with \
         95 % intervals over {} paired resamples; p is that of approximate randomisation with as \
         many shuffles.",
        compared.runs.len(),
        count(compared.examples as u64),
        compared.split,
        count(compared.resamples as u64)
    );
    let sections = vec![
        Section {
            id: "scores",
            title: "Scores",
            body: scores(compared),
        },
        Section {
            id: "cost",
            title: "Cost",
            body: cost(&compared.runs),
        },
        Section {
            id: "settings",
            title: "Settings that differ",
            body: settings(compared),
        },
    ];
    let note = compared.note();
    let note = note.map(|note| Markup::from(el("p").class("note").text(note)));
    let lead = Markup::from(el("p").class("lead").text(lead));
    let lead = [lead].into_iter().chain(note).collect();
    document("Runs compared", lead, sections)
}

fn scores(compared: &Compared) -> Markup {
    let tables = compared.shown_scores().into_iter().map(|key| {
        let mut table = Table::new(title(key)).texts("run").numbers("score");
        let tested = !REPORTED.contains(&key);
        if tested {
            for column in ["difference", "95 % interval", "p"] {
                table = table.numbers(column);
            }
        }
        for run in &compared.runs {
            let value = run.scores.get(key).copied().map(score);
            let mut cells = vec![data(&run.run), Markup::text(value.unwrap_or_default())];
            match run.differences.get(key) {
                None if tested => cells.extend(["", "", ""].map(Markup::text)),
                None => {}
                Some(one) => {
                    let interval = format!("{} to {}", signed(one.low), signed(one.high));
                    let texts = [signed(one.difference), interval, p_value(one.p_value)];
                    cells.extend(texts.map(Markup::text));
                }
            }
            table.row(cells);
        }
        table.markup()
    });
    let mut body: Vec<Markup> = tables.collect();
    if compared.runs.iter().any(|run| run.mcnemar.is_some()) {
        let mut table = Table::new("McNemar's exact test of the right answers")
            .texts("run")
            .numbers("only this is right")
            .numbers("only the first is right")
            .numbers("p");
        for run in &compared.runs {
            if let Some(test) = run.mcnemar {
                table.row([
                    data(&run.run),
                    Markup::text(count(test.only_this as u64)),
                    Markup::text(count(test.only_first as u64)),
                    Markup::text(p_value(test.p_value)),
                ]);
            }
        }
        body.push(table.markup());
    }
    body.into_iter().collect()
}

fn cost(runs: &[ComparedRun]) -> Markup {
    let mut table = Table::new("What each run took")
        .texts("run")
        .numbers("training")
        .numbers("peak memory")
        .numbers("parameters that train");
    for run in runs {
        table.row([
            data(&run.run),
            Markup::text(run.train_seconds.map(duration).unwrap_or_default()),
            Markup::text(run.peak_memory.map(bytes).unwrap_or_default()),
            Markup::text(run.trainable_parameters.map(count).unwrap_or_default()),
        ]);
    }
    table.markup()
}

fn settings(compared: &Compared) -> Markup {
    if compared.settings.is_empty() {
        return missing("None: the runs were told the same.");
    }
    let mut table = Table::new("Keys of config.toml").texts("key");
    for run in &compared.runs {
        table = table.texts(&run.run);
    }
    for (key, values) in &compared.settings {
        let values = values
            .iter()
            .map(|value| data(value.as_deref().unwrap_or("not set")));
        table.row([data(key)].into_iter().chain(values));
    }
    table.markup()
}
