//! The text that the conlleval script (Tjong Kim Sang, 2004-01-26) prints, byte for byte.

use std::fmt::Write;

use super::classification::ClassScores;
use super::mean::ratio;
use super::spans::SpanScores;
use crate::span::NO_TYPE;
use crate::tag_names::shown_type;

/// Span scores in conlleval's layout: counts, then percentages over all and by type.
///
/// Equal to the script's output for tags with the prefixes `B`, `I`, `E` and `O`, malformed or not,
/// unless a `B-` follows an `E-` of its type, where the script sees no new span, or a type is named
/// `0` or `_`: the script takes `0` for no type, we take `_`. It knows no `S`, `L` and `U`.
pub fn conlleval_report(scores: &SpanScores) -> String {
    report(scores, true)
}

/// The same for people: a type that tags do not name is said to be none, once.
pub fn span_report(scores: &SpanScores) -> String {
    report(scores, false)
}

fn report(scores: &SpanScores, as_script: bool) -> String {
    let sum = |f: fn(&ClassScores) -> usize| -> usize {
        scores.per_type.iter().map(|(_, scores)| f(scores)).sum()
    };
    let all = [sum(|s| s.correct), sum(|s| s.predicted), sum(|s| s.support)];
    let [correct, found, phrases] = all;
    let mut text = format!(
        "processed {} tokens with {phrases} phrases; found: {found} phrases; correct: {correct}.\n",
        scores.tokens
    );
    if scores.tokens > 0 {
        let accuracy = percentage(scores.correct_tokens, scores.tokens);
        let _ = write!(text, "accuracy: {accuracy:6.2}%; ");
        let _ = writeln!(text, "{}", percentages(all));
    }
    let mut rows: Vec<(&str, &ClassScores)> = Vec::new();
    for (name, scores) in &scores.per_type {
        if name != NO_TYPE || !as_script {
            rows.push((shown_type(name), scores));
            continue;
        }
        // The script names no type by nothing, and lists that name once for gold and once for
        // found.
        let times = usize::from(scores.support > 0) + usize::from(scores.predicted > 0);
        rows.extend(vec![("", scores); times]);
    }
    rows.sort_by_key(|(name, _)| *name);
    for (name, scores) in rows {
        // printf counts bytes.
        let indent = 17usize.saturating_sub(name.len());
        let counts = [scores.correct, scores.predicted, scores.support];
        let _ = writeln!(
            text,
            "{:indent$}{name}: {}  {}",
            "",
            percentages(counts),
            scores.predicted
        );
    }
    text
}

fn percentage(part: usize, of: usize) -> f64 {
    ratio(100.0 * part as f64, of as f64)
}

fn percentages([correct, predicted, gold]: [usize; 3]) -> String {
    let precision = percentage(correct, predicted);
    let recall = percentage(correct, gold);
    // From the percentages, not from the counts: the last digit can depend on it.
    let f1 = ratio(2.0 * precision * recall, precision + recall);
    format!("precision: {precision:6.2}%; recall: {recall:6.2}%; FB1: {f1:6.2}")
}
