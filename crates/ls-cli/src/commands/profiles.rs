//! What data is like, as text for people and as JSON.

use std::fmt::Write as _;

use anyhow::Result;
use ls_data::{LabelKind, Lengths, Profile, TaskKind, shown_type};
use ls_files::plain;
use ls_train::Profiles;
use serde_json::{Map, Value};

/// Labels that are listed.
const LISTED: usize = 30;

/// Each split, then what is worth a warning.
///
/// `uncounted` says why tokens are not counted, where they are not.
pub fn text(profiles: &Profiles, uncounted: &str) -> String {
    let mut text = String::new();
    for (name, profile) in &profiles.splits {
        // Writing to a text cannot fail.
        let _ = split(&mut text, name, profile);
    }
    if !profiles.measured {
        let _ = writeln!(text, "tokens are not counted: {uncounted}");
    }
    for concern in &profiles.concerns {
        let _ = writeln!(text, "warning: {}", plain(&concern.to_string()));
    }
    text
}

/// The same as fields of an object.
pub fn add_json(profiles: &Profiles, object: &mut Map<String, Value>) -> Result<()> {
    let mut splits = Map::new();
    for (name, profile) in &profiles.splits {
        splits.insert(name.to_string(), serde_json::to_value(profile)?);
    }
    let mut warnings = Vec::new();
    for concern in &profiles.concerns {
        let mut warning = serde_json::to_value(concern)?;
        warning["message"] = concern.to_string().into();
        warnings.push(warning);
    }
    object.insert("splits".into(), splits.into());
    object.insert("limits".into(), serde_json::to_value(profiles.limits)?);
    object.insert("tokens_counted".into(), profiles.measured.into());
    object.insert("warnings".into(), warnings.into());
    Ok(())
}

fn split(text: &mut String, name: &str, profile: &Profile) -> std::fmt::Result {
    let files = profile.files.iter();
    let files: Vec<String> = files
        .map(|file| plain(&file.display().to_string()))
        .collect();
    writeln!(
        text,
        "{name}: {} examples ({})",
        profile.examples,
        files.join(", ")
    )?;
    let labels: Vec<(&str, usize)> = profile
        .labels
        .iter()
        .map(|seen| (seen.name.as_str(), seen.count))
        .collect();
    match &profile.spans {
        Some(spans) => {
            let spans = spans.iter();
            let spans: Vec<_> = spans
                .map(|(kind, count)| (shown_type(kind), *count))
                .collect();
            counted(text, "spans", &spans, None)?;
            counted(text, "tags", &labels, None)?;
        }
        // Numbers have none.
        None if labels.is_empty() => {}
        None => {
            // Of lists it is the part of the examples that has a label: they sum to no whole.
            let lists = profile.label_kind == LabelKind::Classes;
            let of = lists.then_some(profile.examples);
            counted(text, "labels", &labels, of)?;
        }
    }
    let unit = match profile.task {
        TaskKind::Sequence => "characters",
        TaskKind::Token => "words",
    };
    lengths(text, unit, &profile.lengths)?;
    if let Some(tokens) = &profile.tokens {
        lengths(text, "tokens", tokens)?;
    }
    if profile.turned_down > 0 {
        writeln!(
            text,
            "  passed over, because their annotator turned them down: {}",
            profile.turned_down
        )?;
    }
    if profile.bad_rows.count > 0 {
        for line in profile.bad_rows.to_string().lines() {
            writeln!(text, "  {}", plain(line))?;
        }
    }
    Ok(())
}

/// `  labels: bad 10 (50.0%), good 10 (50.0%)`: percent of so many, by default of all together.
fn counted(
    text: &mut String,
    what: &str,
    counts: &[(&str, usize)],
    of: Option<usize>,
) -> std::fmt::Result {
    let total: usize = of.unwrap_or_else(|| counts.iter().map(|(_, count)| count).sum());
    let each = counts.iter().map(|(name, count)| {
        let percent = 100.0 * *count as f64 / total.max(1) as f64;
        format!("{} {count} ({percent:.1}%)", plain(name))
    });
    writeln!(text, "  {what}: {}", ls_files::listed(each, LISTED))
}

fn lengths(text: &mut String, what: &str, lengths: &Lengths) -> std::fmt::Result {
    let Lengths {
        shortest,
        median,
        p95,
        longest,
    } = lengths;
    writeln!(
        text,
        "  {what}: {shortest} to {longest}; half have {median} at most, 95% have {p95}"
    )
}
