//! A prediction in the formats of `predict`.

use ls_data::{TaskKind, shown_type};
use serde_json::Value;

use crate::args::PredictionFormat;

/// A prediction as it is printed, its line end included.
pub fn render(answer: &Value, task: TaskKind, format: PredictionFormat) -> String {
    let text = |key: &str| one_line(answer[key].as_str().unwrap_or_default());
    let list = |key: &str| {
        let list = answer[key].as_array().map(Vec::as_slice);
        list.unwrap_or_default()
    };
    match (format, task) {
        (PredictionFormat::Jsonl, _) => format!("{answer}\n"),
        (PredictionFormat::Text, TaskKind::Sequence) if answer["labels"].is_array() => {
            // Those that hold, each with its score; there may be none.
            let names: Vec<&str> = list("labels").iter().filter_map(Value::as_str).collect();
            let score = |name: &&str| {
                let score = answer["scores"][*name].as_f64().unwrap_or(f64::NAN);
                format!("{score:.4}")
            };
            let scores: Vec<String> = names.iter().map(score).collect();
            let (names, scores) = (one_line(&names.join(",")), scores.join(","));
            format!("{names}\t{scores}\t{}\n", text("text"))
        }
        (PredictionFormat::Text, TaskKind::Sequence) => {
            let score = || format!("{:.4}", answer["score"].as_f64().unwrap_or(f64::NAN));
            let (label, score) = match answer["label"] {
                // There was nothing to read: why. The columns stay.
                Value::Null if answer["error"].is_string() => (no_label(answer), String::new()),
                Value::Null => ("(abstained)".into(), score()),
                _ => (text("label"), score()),
            };
            format!("{label}\t{score}\t{}\n", text("text"))
        }
        (PredictionFormat::Text, TaskKind::Token) if answer["error"].is_string() => {
            let columns = if answer["entities"].is_null() { 2 } else { 4 };
            let words = list("tokens").iter().filter_map(Value::as_str);
            let words = one_line(&words.collect::<Vec<_>>().join(" "));
            let rest = "\t".repeat(columns - 2);
            format!("{}\t{words}{rest}\n\n", no_label(answer))
        }
        (PredictionFormat::Text, TaskKind::Token) if answer["entities"].is_null() => {
            let rows = list("tokens").iter().zip(list("tags"));
            let lines = rows.map(|(token, tag)| {
                let field = |value: &Value| one_line(value.as_str().unwrap_or_default());
                format!("{}\t{}\n", field(tag), field(token))
            });
            lines.chain(["\n".to_string()]).collect()
        }
        (PredictionFormat::Text, TaskKind::Token) => {
            let lines = list("entities").iter().map(|entity| {
                let field = |key: &str| one_line(entity[key].as_str().unwrap_or_default());
                let (start, end) = (&entity["start"], &entity["end"]);
                format!(
                    "{}\t{}\t{start}-{end}\t{:.4}\n",
                    shown_type(&field("type")),
                    field("text"),
                    entity["score"].as_f64().unwrap_or(f64::NAN)
                )
            });
            lines.chain(["\n".to_string()]).collect()
        }
        (PredictionFormat::Conll, _) => {
            let rows = list("tokens").iter().zip(list("tags"));
            let lines = rows.map(|(token, tag)| {
                format!(
                    "{}\t{}\n",
                    token.as_str().unwrap_or_default(),
                    tag.as_str().unwrap_or_default()
                )
            });
            lines.chain(["\n".to_string()]).collect()
        }
    }
}

/// What stands in the place of a label that there is none of.
fn no_label(answer: &Value) -> String {
    let why = answer["error"].as_str().unwrap_or_default();
    format!("(no label: {})", one_line(why))
}

/// Tabs and line ends would break the columns.
fn one_line(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}
