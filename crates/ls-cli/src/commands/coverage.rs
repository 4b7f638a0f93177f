//! How much was answered, where unsure answers are left out: as `evaluate` and `score` say it.

use anyhow::{Result, anyhow};
use ls_data::TagKind;
use ls_train::{Coverage, Problem};
use serde_json::{Map, Value, json};

use crate::error::WithHint;

/// What a model answers, and leaves out where it is too unsure.
pub fn answered(problem: Problem) -> &'static str {
    match problem {
        Problem::Tags(Some(TagKind::Spans)) => "entities",
        Problem::Tags(_) => "words",
        _ => "texts",
    }
}

/// Sees that there is something to score: of texts and words only answers are, and the mean of none
/// is no number. Entities that are not found count.
///
/// # Errors
///
/// If nothing was answered; `of` names what should be scored.
pub fn expect_answers(of: &str, problem: Problem, coverage: Coverage) -> Result<()> {
    let what = match answered(problem) {
        "texts" => "text",
        "words" => "word",
        _ => return Ok(()),
    };
    if coverage.answered > 0 || coverage.of == 0 {
        return Ok(());
    }
    Err(WithHint {
        error: anyhow!("{of}: no {what} is answered, so there is nothing to score"),
        hint: "a lower --abstain-below (of predict and evaluate) answers more".into(),
    }
    .into())
}

/// The fields of a JSON object of scores. A file does not say below which score (`least`) nothing
/// was answered.
pub fn fields(coverage: Coverage, least: Value) -> Map<String, Value> {
    let fields = [
        ("abstain_below", least),
        ("answered", json!(coverage.answered)),
        ("left_out", json!(coverage.left_out())),
        ("coverage", json!(coverage.part())),
    ];
    let fields = fields.map(|(key, value)| (key.to_owned(), value));
    fields.into_iter().collect()
}

/// The line above the scores, with what they are of; `at` says by which flag.
pub fn line(problem: Problem, coverage: Coverage, at: &str) -> String {
    let Coverage {
        answered: given,
        of,
    } = coverage;
    let (what, part) = (answered(problem), coverage.part());
    let scores = match what {
        "entities" => "the others count as not found",
        _ => "the scores are of these",
    };
    format!("answered {given} of {of} {what} ({part:.4}){at}: {scores}")
}
