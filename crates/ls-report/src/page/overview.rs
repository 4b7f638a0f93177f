//! What a run came to, in a sentence and a few facts.

use toml::Value;

use super::parts::{Section, missing};
use crate::folder::Run;
use crate::html::{Element, Markup, el};
use crate::numbers::{between, bytes, count, duration, percent, score, title};
use crate::scores::Scored;
use crate::settings::Kind;

/// The sentence under the heading.
pub(super) fn lead(run: &Run, scored: Option<&Scored>) -> Markup {
    let Some(finished) = &run.finished else {
        return el("p")
            .class("lead")
            .text("This run is not finished.")
            .into();
    };
    let metric = &finished.metric;
    let mut text = format!(
        "{} of the {} split: ",
        title(metric),
        finished.reported_split
    );
    text += &finished.score(metric).map_or("not known".into(), score);
    let found = scored.and_then(|scored| scored.metrics.iter().find(|one| one.key == metric));
    if let Some(found) = found {
        text += &format!(" (95 % interval {})", between(found.interval));
    }
    if let Some(answers) = &run.answers {
        text += &format!(", over {} examples", count(answers.len() as u64));
    }
    let baselines = finished.baselines.iter().filter_map(|baseline| {
        let value = baseline.scores.get(metric)?.as_f64()?;
        Some(format!("{} {}", baseline.name, score(value)))
    });
    let baselines: Vec<String> = baselines.collect();
    if !baselines.is_empty() {
        text += &format!("; {}", baselines.join(", "));
    }
    el("p").class("lead").text(text + ".").into()
}

fn fact(name: &str, value: impl std::fmt::Display) -> Element {
    el("div")
        .child(el("dt").text(name))
        .child(el("dd").data(value))
}

/// The facts.
pub(super) fn section(run: &Run) -> Section {
    let mut facts = Vec::new();
    let mut notes = Vec::new();
    let setting = |key: &str| run.setting(key).and_then(Value::as_str);
    if let Some(settings) = &run.settings {
        let labels = settings.labels.names().len();
        facts.push(fact(
            "task",
            match settings.kind() {
                Kind::Class => format!("one of {labels} classes of a text"),
                Kind::Labels => format!("any of {labels} labels of a text"),
                Kind::Number => "a number of a text".into(),
                Kind::Spans => format!("spans of words ({labels} tags)"),
                Kind::Words => format!("one of {labels} labels of each word"),
            },
        ));
    }
    if let Some(path) = setting("model.path") {
        let name = path.rsplit(['/', '\\']).find(|part| !part.is_empty());
        facts.push(fact("model", name.unwrap_or(path)));
    }
    if let Some(attention) = setting("model.attention") {
        facts.push(fact("attention", attention));
    }
    let Some(finished) = &run.finished else {
        let done = run.steps.last().map_or(0, |step| step.step);
        let text = format!(
            "The run is not finished: {done} steps are recorded. What follows from its end is \
             missing here."
        );
        let body = [
            el("dl").class("facts").children(facts).into(),
            missing(&text),
        ];
        return Section {
            id: "overview",
            title: "Overview",
            body: body.into_iter().collect(),
        };
    };
    facts.push(fact("protocol", &finished.protocol));
    let best = &finished.best;
    let value = best.value.map_or("not known".into(), score);
    facts.push(fact(
        "best checkpoint",
        format!("step {}, epoch {:.2}", best.step, best.epoch),
    ));
    facts.push(fact(
        "its validation score",
        format!("{} {value}", best.metric),
    ));
    if let (Some(trainable), Some(all)) = (finished.trainable_parameters, finished.all_parameters) {
        let part = percent(trainable as f64 / all.max(1) as f64);
        let text = format!("{} of {} ({part})", count(trainable), count(all));
        facts.push(fact("parameters that train", text));
    }
    if let (Some(steps), Some(seconds)) = (finished.steps, finished.train_seconds) {
        let text = format!("{} steps in {}", count(steps), duration(seconds));
        facts.push(fact("training", text));
    }
    if let Some(rate) = finished.tokens_per_second {
        facts.push(fact("tokens a second", count(rate.max(0.0).round() as u64)));
    }
    if let Some(memory) = finished.peak_memory {
        facts.push(fact("peak memory", bytes(memory)));
    }
    if finished.reported_split_chose {
        notes.push(
            "The reported split also chose the checkpoint, which favours its scores: those of a \
             test split of other examples (data.test) would not be favoured.",
        );
    }
    if finished.reported_split_fitted {
        notes.push(
            "The thresholds of the labels were fitted to the reported split too: they favour its F1.",
        );
    }
    if finished.skipped_steps > 0 {
        notes.push("Steps were undone because something in them was no number: see metrics.jsonl.");
    }
    let notes = notes
        .into_iter()
        .map(|note| el("p").class("note").text(note).into());
    Section {
        id: "overview",
        title: "Overview",
        body: [el("dl").class("facts").children(facts).into()]
            .into_iter()
            .chain(notes)
            .collect(),
    }
}
