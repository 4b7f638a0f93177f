//! Labels of the training split that are likely wrong, where cross-validation looked for them.

use super::parts::{Section, missing, passage};
use super::table::{Table, data};
use crate::folder::Run;
use crate::html::{Element, Markup, el};
use crate::numbers::{count, percent, score};
use crate::settings::Kind;
use crate::suspects::{Suspect, Suspects};

/// Most that are shown.
const SHOWN: usize = 50;
/// Most pairs of labels.
const PAIRS: usize = 20;

/// The section; none of numbers and of labels that do not exclude each other, for which there is no
/// such search.
pub(super) fn section(run: &Run) -> Option<Section> {
    let kind = run.settings.as_ref().map(|settings| settings.kind());
    if matches!(kind, Some(Kind::Number | Kind::Labels)) {
        return None;
    }
    let body = match &run.suspects {
        None => missing(
            "Not looked for. `ls-cli report RUN --label-errors` trains the run's model once for \
             each of five parts of the training split and compares.",
        ),
        Some(suspects) => found(suspects),
    };
    Some(Section {
        id: "label-errors",
        title: "Likely label errors",
        body,
    })
}

fn found(suspects: &Suspects) -> Markup {
    let part = suspects.estimated_errors / suspects.examples.max(1) as f64;
    let text = format!(
        "Each label of the training split was compared with the probabilities of a model that did \
         not learn from it ({} parts). Confident learning (Northcutt et al. 2021) estimates that \
         {:.0} of {} labels are wrong ({}), and names {}. They are worth a look; a rare example \
         that is labelled right can be among them.",
        suspects.folds,
        suspects.estimated_errors,
        count(suspects.examples as u64),
        percent(part),
        suspects.found.len()
    );
    let mut body: Vec<Markup> = vec![el("p").text(text).into()];
    if !suspects.found.is_empty() {
        body.push(pairs(suspects));
        let cases = suspects.found.iter().take(SHOWN).map(case);
        body.push(el("ol").class("cases").children(cases).into());
    }
    if suspects.found.len() > SHOWN {
        let text = format!(
            "The likeliest {SHOWN} of {}; label_errors.json has all.",
            suspects.found.len()
        );
        body.push(missing(&text));
    }
    body.into_iter().collect()
}

fn pairs(suspects: &Suspects) -> Markup {
    let mut counts = std::collections::BTreeMap::new();
    for one in &suspects.found {
        *counts.entry((&one.given, &one.suggested)).or_insert(0u64) += 1;
    }
    let mut pairs: Vec<_> = counts.into_iter().collect();
    pairs.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut table = Table::new("Labels that are likely wrong, by what is likelier")
        .texts("label in the data")
        .texts("likelier")
        .numbers("examples");
    for ((given, suggested), number) in pairs.into_iter().take(PAIRS) {
        table.row([data(given), data(suggested), Markup::text(count(number))]);
    }
    table.markup()
}

fn case(one: &Suspect) -> Element {
    let name = one.file.rsplit(['/', '\\']).next().unwrap_or(&one.file);
    let mut verdict = el("p").class("verdict");
    if let Some((at, word)) = &one.word {
        verdict = verdict
            .text(format!("word {}: ", at + 1))
            .data(word)
            .text(", ");
    }
    let verdict = verdict
        .text("labelled ")
        .child(el("bdi").class("found").text(&one.given))
        .text(format!(" ({}), likelier ", score(one.score_given)))
        .child(el("bdi").class("gold").text(&one.suggested))
        .text(format!(" ({}) ", score(one.score_suggested)))
        .child(el("span").class("dim").data(format!("{name}:{}", one.line)));
    let pair = one.text_pair.as_deref().map(passage);
    el("li")
        .child(passage(&one.text))
        .children(pair)
        .child(verdict)
}
