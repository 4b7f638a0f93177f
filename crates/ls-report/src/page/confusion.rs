//! Which classes are taken for which: a matrix, or of many classes the commonest mistakes; of spans
//! the kinds of faults.

use ls_data::shown_type;

use super::parts::Section;
use super::table::{Table, data, scrolling};
use crate::answers::Answers;
use crate::folder::Run;
use crate::html::{Markup, el};
use crate::mistakes::{Fault, by_type};
use crate::numbers::{count, percent};
use crate::scores::Scored;

/// Most classes whose matrix can be read.
const MATRIX: usize = 40;
/// Most mistakes that are listed of more classes.
const LISTED: usize = 50;
/// How dark the darkest cell is: letters have to stand out from it.
const DARKEST: f64 = 0.4;

/// The section; none of numbers and of labels that do not exclude each other.
pub(super) fn section(run: &Run, scored: Option<&Scored>) -> Option<Section> {
    if let Some(Answers::Spans(answers)) = &run.answers {
        return Some(Section {
            id: "faults",
            title: "Kinds of mistakes",
            body: faults(&by_type(answers)),
        });
    }
    let scored = scored?;
    if scored.confusion.is_empty() {
        return None;
    }
    let names: Vec<&str> = scored
        .classes
        .iter()
        .map(|class| class.name.as_str())
        .collect();
    Some(Section {
        id: "confusion",
        title: "Confusion",
        body: if names.len() <= MATRIX {
            matrix(&names, &scored.confusion)
        } else {
            commonest(&names, &scored.confusion)
        },
    })
}

fn matrix(names: &[&str], confusion: &[Vec<usize>]) -> Markup {
    let caption = "Rows: the class in the data; columns: the class found. The darker a cell, the \
                   larger its part of the row.";
    let corner = el("td")
        .attr("aria-hidden", "true")
        .attr("style", "--part:0");
    let head = names
        .iter()
        .map(|name| el("th").attr("scope", "col").data(name));
    let head = el("tr").child(corner).children(head.collect::<Vec<_>>());
    let rows = names
        .iter()
        .zip(confusion)
        .enumerate()
        .map(|(gold, (name, row))| {
            let total = row.iter().sum::<usize>().max(1) as f64;
            let cells = row.iter().enumerate().map(|(found, cell)| {
                let part = *cell as f64 / total;
                let element = el("td").attr("style", format!("--part:{:.3}", part * DARKEST));
                let element = element.attr("title", format!("{} of the row", percent(part)));
                let element = if gold == found {
                    element.class("right")
                } else {
                    element
                };
                element.text(count(*cell as u64))
            });
            let name = el("th").attr("scope", "row").data(name);
            el("tr").child(name).children(cells.collect::<Vec<_>>())
        });
    let table = el("table")
        .class("matrix")
        .child(el("caption").text(caption))
        .child(el("thead").child(head))
        .child(el("tbody").children(rows));
    scrolling("Confusion matrix", table)
}

fn commonest(names: &[&str], confusion: &[Vec<usize>]) -> Markup {
    let cells = confusion.iter().enumerate().flat_map(|(gold, row)| {
        let cells = row.iter().enumerate();
        cells.map(move |(found, cell)| (*cell, gold, found))
    });
    let mut cells: Vec<_> = cells
        .filter(|(cell, gold, found)| *cell > 0 && gold != found)
        .collect();
    cells.sort_by_key(|(cell, gold, found)| (std::cmp::Reverse(*cell), *gold, *found));
    let caption = format!("The commonest of {} different mistakes", cells.len());
    let mut table = Table::new(caption)
        .texts("in the data")
        .texts("found")
        .numbers("examples")
        .numbers("of its class");
    for (cell, gold, found) in cells.into_iter().take(LISTED) {
        let total = confusion[gold].iter().sum::<usize>().max(1);
        table.row([
            data(names[gold]),
            data(names[found]),
            Markup::text(count(cell as u64)),
            Markup::text(percent(cell as f64 / total as f64)),
        ]);
    }
    table.markup()
}

fn faults(
    counts: &std::collections::BTreeMap<String, std::collections::BTreeMap<Fault, usize>>,
) -> Markup {
    let caption = "Spans that are wrong, by their type (of missed ones, that of the data)";
    let mut table = Table::new(caption).texts("type");
    for fault in Fault::ALL {
        table = table.numbers(fault.name());
    }
    let mut totals = [0; 5];
    for (name, of_type) in counts {
        let cells = Fault::ALL.map(|fault| of_type.get(&fault).copied().unwrap_or(0));
        for (total, cell) in totals.iter_mut().zip(cells) {
            *total += cell;
        }
        let cells = cells.map(|cell| Markup::text(count(cell as u64)));
        table.row([data(shown_type(name))].into_iter().chain(cells));
    }
    let cells = totals.map(|cell| Markup::text(count(cell as u64)));
    table.row([Markup::text("all")].into_iter().chain(cells));
    table.markup()
}
