//! Scores of the whole with intervals and baselines, and of each class, label or entity type.

use ls_data::{ClassScores, shown_type};

use super::parts::{Section, missing};
use super::table::{Table, data, meter};
use crate::folder::{Finished, Run};
use crate::html::{Markup, el};
use crate::numbers::{between, count, score, title};
use crate::scores::Scored;
use crate::settings::Kind;

/// Most classes that are listed.
const SHOWN: usize = 200;

/// Of the whole.
pub(super) fn section(run: &Run, scored: Option<&Scored>) -> Section {
    let body = match &run.finished {
        Some(finished) => whole(run, finished, scored),
        None => missing("Scores are taken at the end of a run."),
    };
    Section {
        id: "scores",
        title: "Scores",
        body,
    }
}

fn whole(run: &Run, finished: &Finished, scored: Option<&Scored>) -> Markup {
    let kind = run.settings.as_ref().map(|settings| settings.kind());
    let one_class = matches!(kind, Some(Kind::Class | Kind::Words));
    let caption = match scored {
        Some(scored) => format!(
            "Scores on the {} split, with percentile intervals of 95 % over {} resamples of its \
             examples",
            finished.reported_split, scored.resamples
        ),
        None => format!("Scores on the {} split", finished.reported_split),
    };
    let mut table = Table::new(caption).texts("score").numbers("this run");
    if scored.is_some() {
        table = table.numbers("95 % interval");
    }
    for baseline in &finished.baselines {
        table = table.numbers(&baseline.name);
    }
    let values = finished.scores.iter().filter(|(_, value)| value.is_f64());
    let loss = finished.loss.map(|loss| ("loss", loss));
    let values = values.filter_map(|(key, value)| Some((key.as_str(), value.as_f64()?)));
    for (key, value) in values.chain(loss) {
        // With one label for each example they are the accuracy.
        if one_class && key.ends_with("_micro") {
            continue;
        }
        let mut cells = vec![Markup::text(title(key)), Markup::text(score(value))];
        if let Some(scored) = scored {
            let found = scored.metrics.iter().find(|one| one.key == key);
            let interval = found.map(|found| between(found.interval));
            cells.push(Markup::text(interval.unwrap_or_default()));
        }
        for baseline in &finished.baselines {
            let value = baseline.scores.get(key).and_then(serde_json::Value::as_f64);
            cells.push(Markup::text(value.map(score).unwrap_or_default()));
        }
        table.row(cells);
    }
    let mut body = vec![table.markup()];
    if finished.baselines.is_empty() {
        body.push(missing("No baselines were taken (train.baselines)."));
    }
    if scored.is_none() {
        body.push(missing(match run.answers {
            Some(_) => {
                "No intervals: predictions.jsonl has other scores than report.json, as those of an \
                 earlier version by the protocol paper, which scores no words that were cut off."
            }
            None => "No intervals: the run folder has no predictions.jsonl.",
        }));
    }
    body.into_iter().collect()
}

/// Of each class.
pub(super) fn classes(run: &Run, scored: Option<&Scored>) -> Section {
    let kind = run.settings.as_ref().map(|settings| settings.kind());
    let (title, unit) = match kind {
        Some(Kind::Spans) => ("Entity types", "type"),
        Some(Kind::Labels) => ("Labels", "label"),
        _ => ("Classes", "class"),
    };
    let body = match (&run.finished, kind) {
        (_, Some(Kind::Number)) => missing("A number has no classes."),
        (Some(finished), _) => each(run, finished, scored, unit),
        (None, _) => missing("Scores are taken at the end of a run."),
    };
    Section {
        id: "classes",
        title,
        body,
    }
}

fn each(run: &Run, finished: &Finished, scored: Option<&Scored>, unit: &str) -> Markup {
    type Row = (String, ClassScores, Option<ls_data::Interval>);
    let rows: Vec<Row> = match scored {
        Some(scored) => {
            let classes = scored.classes.iter();
            classes
                .map(|class| (class.name.clone(), class.scores, class.f1))
                .collect()
        }
        None => {
            let keys = ["per_class", "per_type"];
            let found = keys
                .iter()
                .find_map(|key| finished.scores.get(*key)?.as_object());
            let classes = found.into_iter().flatten().filter_map(|(name, scores)| {
                let scores = serde_json::from_value(scores.clone()).ok()?;
                Some((name.clone(), scores, None))
            });
            classes.collect()
        }
    };
    let names = run
        .settings
        .as_ref()
        .map(|settings| settings.labels.names());
    let thresholds = run.settings.as_ref();
    let thresholds = thresholds.and_then(|settings| settings.calibration.thresholds.as_ref());
    let threshold = |name: &str| {
        let at = names?.iter().position(|other| other == name)?;
        thresholds?.get(at).copied()
    };
    let mut table = Table::new(format!("Each {unit}, with the interval of its F1"))
        .texts(unit)
        .numbers("precision")
        .numbers("recall")
        .numbers("F1")
        .texts("")
        .numbers("95 % interval")
        .numbers("in the data")
        .numbers("found");
    if thresholds.is_some() {
        table = table.numbers("threshold");
    }
    for (name, scores, interval) in rows.iter().take(SHOWN) {
        let mut cells = vec![
            data(if unit == "type" {
                shown_type(name)
            } else {
                name
            }),
            Markup::text(score(scores.precision)),
            Markup::text(score(scores.recall)),
            Markup::text(score(scores.f1)),
            meter(scores.f1),
            Markup::text(interval.map(between).unwrap_or_default()),
            Markup::text(count(scores.support as u64)),
            Markup::text(count(scores.predicted as u64)),
        ];
        if thresholds.is_some() {
            cells.push(Markup::text(threshold(name).map(score).unwrap_or_default()));
        }
        table.row(cells);
    }
    let mut body = vec![table.markup()];
    if rows.len() > SHOWN {
        let text = format!("The first {SHOWN} of {}; report.json has all.", rows.len());
        body.push(el("p").class("dim").text(text).into());
    }
    body.into_iter().collect()
}
