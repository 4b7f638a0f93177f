//! What the splits are like: sizes, what was cut, labels, lengths.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::parts::{Section, missing};
use super::table::{Table, data, meter};
use crate::chart::histogram;
use crate::distribution::Distribution;
use crate::folder::Run;
use crate::html::{Markup, el};
use crate::numbers::{count, percent};

/// In the order of their use.
const SPLITS: [&str; 3] = ["train", "validation", "test"];
/// Most labels that are listed.
const SHOWN: usize = 100;

/// The section.
pub(super) fn section(run: &Run) -> Section {
    let body = match &run.finished {
        None => missing("What the splits are like is written at the end of a run."),
        Some(finished) if finished.distributions.is_empty() => {
            let none = missing(
                "This run is from before labels and lengths of its splits were kept in report.json.",
            );
            [sizes(&finished.cut), none].into_iter().collect()
        }
        Some(finished) => [
            sizes(&finished.cut),
            labels(&finished.distributions),
            lengths(&finished.distributions),
        ]
        .into_iter()
        .collect(),
    };
    Section {
        id: "data",
        title: "Data",
        body,
    }
}

fn sizes(cut: &BTreeMap<String, Map<String, Value>>) -> Markup {
    let mut table = Table::new("Splits, as the model reads them")
        .texts("split")
        .numbers("examples")
        .numbers("tokens")
        .numbers("longest")
        .numbers("cut")
        .numbers("read in windows");
    for (name, split) in SPLITS
        .iter()
        .filter_map(|name| Some((name, cut.get(*name)?)))
    {
        let number = |key: &str| {
            let value = split.get(key).and_then(Value::as_u64);
            Markup::text(value.map(count).unwrap_or_default())
        };
        table.row([
            Markup::text(name),
            number("examples"),
            number("tokens"),
            number("longest"),
            number("cut_examples"),
            number("windowed_examples"),
        ]);
    }
    table.markup()
}

fn splits(
    distributions: &BTreeMap<String, Distribution>,
) -> impl Iterator<Item = (&'static str, &Distribution)> {
    SPLITS
        .iter()
        .filter_map(|name| Some((*name, distributions.get(*name)?)))
}

fn labels(distributions: &BTreeMap<String, Distribution>) -> Markup {
    let mut table = Table::new("How often each label occurs").texts("label");
    let mut rows: Vec<&str> = Vec::new();
    for (name, split) in splits(distributions) {
        table = table.numbers(name).numbers("part").texts("");
        for (label, _) in &split.labels {
            if !rows.contains(&label.as_str()) {
                rows.push(label);
            }
        }
    }
    if rows.is_empty() {
        return Markup::default();
    }
    for label in rows.iter().take(SHOWN) {
        let mut cells = vec![data(label)];
        for (_, split) in splits(distributions) {
            let total: usize = split.labels.iter().map(|(_, count)| count).sum();
            let found = split.labels.iter().find(|(name, _)| name == label);
            let number = found.map_or(0, |(_, count)| *count);
            let part = number as f64 / total.max(1) as f64;
            cells.push(Markup::text(count(number as u64)));
            cells.push(Markup::text(percent(part)));
            cells.push(meter(part));
        }
        table.row(cells);
    }
    let mut body = vec![table.markup()];
    if rows.len() > SHOWN {
        body.push(missing(&format!(
            "The first {SHOWN} of {} labels; report.json has all.",
            rows.len()
        )));
    }
    body.into_iter().collect()
}

fn lengths(distributions: &BTreeMap<String, Distribution>) -> Markup {
    let charts = splits(distributions).map(|(name, split)| {
        let title = format!("Lengths of the inputs, {name}");
        let width = split.tokens_a_bar as f64;
        histogram(&title, "tokens", 0.0, width, &split.lengths)
    });
    el("div")
        .class("charts")
        .children(charts.collect::<Vec<_>>())
        .into()
}
