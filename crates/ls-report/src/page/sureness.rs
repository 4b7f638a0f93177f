//! Whether answers are as often right as they are sure, before a temperature and after it; of
//! numbers how far they are off.

use super::parts::{Section, missing};
use crate::answers::Answers;
use crate::calibration::{Calibrated, Unit};
use crate::chart::{histogram, reliability, scatter};
use crate::folder::Run;
use crate::html::{Markup, el};
use crate::numbers::{count, score};

/// Bars of the distances of numbers.
const BARS: usize = 30;

/// The section; none where nothing was answered.
pub(super) fn section(run: &Run) -> Option<Section> {
    let answers = run.answers.as_ref()?;
    if let Answers::Numbers(answers) = answers {
        let points: Vec<(f64, f64)> = answers.iter().map(|one| (one.gold, one.found)).collect();
        return Some(Section {
            id: "numbers",
            title: "Numbers",
            body: numbers(&points),
        });
    }
    let tried = run.setting("train.temperature_scaling") == Some(&toml::Value::Boolean(true));
    let temperature = run.settings.as_ref();
    let temperature = temperature.and_then(|settings| settings.calibration.temperature);
    let body = match Calibrated::of(answers, temperature) {
        Some(found) => {
            let chose = run.finished.as_ref();
            let chose = chose.is_some_and(|finished| finished.reported_split_chose);
            calibrated(&found, tried, chose)
        }
        None => missing("The answers of this run do not say how sure each word's tag is."),
    };
    Some(Section {
        id: "calibration",
        title: "Calibration",
        body,
    })
}

/// `tried`: whether a temperature was to be fitted; `chose`: whether the split that is reported is
/// the one that it was fitted to.
fn calibrated(found: &Calibrated, tried: bool, chose: bool) -> Markup {
    let error = |reliability: &crate::calibration::Reliability| score(reliability.error());
    let answers = count(found.after.count as u64);
    let mut text = match found.unit {
        Unit::Label => format!(
            "Bars are how often a label holds, in 15 bins by its probability; on the dotted line \
             both are the same. There are {answers} probabilities, one of each label of each text. "
        ),
        Unit::Text | Unit::Word => format!(
            "Bars are the part of the answers that is right, in 15 bins by the probability of the \
             answer; on the dotted line both are the same. There are {answers} answers, one to \
             each {}. ",
            if found.unit == Unit::Word {
                "word"
            } else {
                "text"
            }
        ),
    };
    let mut charts = Vec::new();
    match (&found.before, found.temperature) {
        (Some(before), Some(temperature)) => {
            text += &format!(
                "The calibration error (ECE) is {} without the temperature and {} with it \
                 ({temperature:.3}, fitted to the validation split{}).",
                error(before),
                error(&found.after),
                if chose {
                    ", which is the one that is reported: that favours it"
                } else {
                    ""
                }
            );
            charts.push(reliability("Before the temperature", before));
            charts.push(reliability("After the temperature", &found.after));
        }
        _ => {
            text += &format!(
                "The calibration error (ECE) is {}. No temperature divides the logits ({}).",
                error(&found.after),
                if tried {
                    "train.temperature_scaling is set, but none is best on the validation split, \
                     as where every answer is right"
                } else {
                    "train.temperature_scaling fits one to the validation split"
                }
            );
            charts.push(reliability("As answered", &found.after));
        }
    }
    let charts = el("div").class("charts").children(charts);
    [el("p").text(text).into(), charts.into()]
        .into_iter()
        .collect()
}

fn numbers(points: &[(f64, f64)]) -> Markup {
    let off: Vec<f64> = points.iter().map(|(gold, found)| found - gold).collect();
    let least = off.iter().copied().fold(f64::INFINITY, f64::min);
    let most = off.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let width = match (most - least) / BARS as f64 {
        width if width > 0.0 && width.is_finite() => width,
        _ => 1.0,
    };
    let mut bars = vec![0; BARS];
    for value in &off {
        let at = ((value - least) / width) as usize;
        bars[at.min(BARS - 1)] += 1;
    }
    let charts = [
        scatter("Found by gold", "in the data", "found", points),
        histogram(
            "Residuals",
            "found less what is in the data",
            least,
            width,
            &bars,
        ),
    ];
    el("div").class("charts").children(charts).into()
}
