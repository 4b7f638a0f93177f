//! How the training went: loss, the metric that chose the checkpoint, rates.

use super::parts::{Section, missing};
use super::table::Table;
use crate::chart::{Curve, curves};
use crate::folder::{Evaluated, Run, Step};
use crate::html::{Markup, el};
use crate::numbers::score;

/// Part of what was before in the mean that is drawn of a step's loss.
const SMOOTHING: f64 = 0.9;

/// The section.
pub(super) fn section(run: &Run) -> Section {
    let body = if run.steps.is_empty() && run.evaluations.is_empty() {
        missing("No step is recorded: the run folder has no metrics.jsonl, or an empty one.")
    } else {
        charts(&run.steps, &run.evaluations)
    };
    Section {
        id: "curves",
        title: "Curves",
        body,
    }
}

fn charts(steps: &[Step], evaluations: &[Evaluated]) -> Markup {
    let curve = |name, points: Vec<(f64, f64)>, marked| Curve {
        name,
        points,
        marked,
    };
    let of_steps = |value: fn(&Step) -> f64| -> Vec<(f64, f64)> {
        let each = steps.iter();
        each.map(|step| (step.step as f64, value(step))).collect()
    };
    let of_evaluations = |value: fn(&Evaluated) -> Option<f64>| -> Vec<(f64, f64)> {
        let each = evaluations.iter();
        each.filter_map(|one| Some((one.step as f64, value(one)?)))
            .collect()
    };
    let losses = [
        curve(
            "training (smoothed)",
            smoothed(of_steps(|step| step.loss)),
            false,
        ),
        curve("validation", of_evaluations(|one| one.loss), true),
    ];
    let metric = evaluations.first().map_or("", |one| one.metric.as_str());
    let mut all = vec![curves("Loss", "step", "loss", &losses)];
    if metric != "loss" && !evaluations.is_empty() {
        let title = format!("{} of the validation split", crate::numbers::title(metric));
        let values = [curve("validation", of_evaluations(|one| one.value), true)];
        all.push(curves(&title, "step", metric, &values));
    }
    let rates = [curve("rate", of_steps(|step| step.learning_rate), false)];
    all.push(curves("Learning rate", "step", "rate", &rates));
    let norms = [curve("norm", of_steps(|step| step.grad_norm), false)];
    all.push(curves(
        "Gradient norm",
        "step",
        "norm before clipping",
        &norms,
    ));
    let mut table = Table::new("Evaluations of the validation split")
        .numbers("step")
        .numbers("epoch")
        .numbers("loss")
        .numbers(metric)
        .texts("");
    for one in evaluations {
        table.row([
            Markup::text(one.step),
            Markup::text(format!("{:.2}", one.epoch)),
            Markup::text(one.loss.map(score).unwrap_or_default()),
            Markup::text(one.value.map(score).unwrap_or_default()),
            Markup::text(if one.best { "best so far" } else { "" }),
        ]);
    }
    let details = el("details")
        .child(el("summary").text(format!("{} evaluations", evaluations.len())))
        .child(table.markup());
    [
        el("div").class("charts").children(all).into(),
        details.into(),
    ]
    .into_iter()
    .collect()
}

/// The mean of what was so far, the latest weighing most.
fn smoothed(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let (mut sum, mut weight) = (0.0, 0.0);
    let each = points.into_iter().map(|(step, value)| {
        sum = SMOOTHING * sum + (1.0 - SMOOTHING) * value;
        weight = SMOOTHING * weight + (1.0 - SMOOTHING);
        (step, sum / weight)
    });
    each.collect()
}
