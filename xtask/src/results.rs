//! `cargo xtask results`: the table of measured results in `configs/README.md`, made from finished
//! runs and never typed.
//!
//! What was measured is kept in `configs/results.json`, one record for each config, side and seed.
//! A run is given as its folder, `NAME.SEED` for `configs/NAME.toml`, and what others made of the
//! same data as files: `NAME.SEED.json` of `benches/vs_peft/same_run.py` for transformers + peft,
//! and `NAME.SEED.tfidf.json` of `benches/vs_peft/tfidf.py` for a linear model over n-grams.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use crate::check::{report, say};

/// The records.
const RECORDS: &str = "configs/results.json";
/// The text with the table.
const TEXT: &str = "configs/README.md";
const BEGIN: &str = "<!-- made by `cargo xtask results` -->";
const END: &str = "<!-- end of what it made -->";
const OURS: &str = "ls-llama";
const THEIRS: &str = "transformers + peft";
const LINEAR: &str = "n-grams, linear";

/// What is added to the records.
#[derive(clap::Args)]
pub struct Args {
    /// Folders of finished runs (`NAME.SEED`), and files of benches/vs_peft/same_run.py
    /// (`NAME.SEED.json`) and tfidf.py (`NAME.SEED.tfidf.json`); none makes the table anew.
    runs: Vec<PathBuf>,
}

/// Config, side and seed.
type Key = (String, String, u64);

/// Adds what was measured, and writes the table.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let mut records = read(root)?;
    for path in &args.runs {
        let (key, record) = measured(root, path).with_context(|| path.display().to_string())?;
        records.insert(key, record);
    }
    report("results", &at_odds(&records))?;
    let list: Vec<&Value> = records.values().collect();
    let text = serde_json::to_string_pretty(&list)? + "\n";
    let path = root.join(RECORDS);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    let path = root.join(TEXT);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    fs::write(&path, with_table(&text, &table(&records))?)
        .with_context(|| format!("write {}", path.display()))?;
    say(format_args!("{TEXT}: {} records", records.len()));
    Ok(())
}

/// Whether the table is that of the records.
pub fn check(root: &Path) -> Result<()> {
    let text = fs::read_to_string(root.join(TEXT)).with_context(|| format!("read {TEXT}"))?;
    let records = read(root)?;
    let mut faults = at_odds(&records);
    if with_table(&text, &table(&records))? != text {
        faults.push(format!(
            "{TEXT}: the table is not that of {RECORDS} (`cargo xtask results` writes it)"
        ));
    }
    report("results", &faults)
}

fn read(root: &Path) -> Result<BTreeMap<Key, Value>> {
    let text = fs::read_to_string(root.join(RECORDS)).with_context(|| format!("read {RECORDS}"))?;
    let records: Vec<Value> = serde_json::from_str(&text).with_context(|| RECORDS.to_string())?;
    let keyed = records.into_iter().map(|record| {
        let text = |key: &str| {
            let value = record[key]
                .as_str()
                .with_context(|| format!("{RECORDS}: no {key}"));
            Ok::<_, anyhow::Error>(value?.to_string())
        };
        let seed = record["seed"]
            .as_u64()
            .with_context(|| format!("{RECORDS}: no seed"))?;
        Ok(((text("config")?, text("side")?, seed), record))
    });
    keyed.collect()
}

/// The record of a run folder, or of a file of `same_run.py`.
fn measured(root: &Path, path: &Path) -> Result<(Key, Value)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.context("has no name")?;
    let (side, stem) = if let Some(stem) = name.strip_suffix(".tfidf.json") {
        (LINEAR, stem)
    } else if let Some(stem) = name.strip_suffix(".json") {
        (THEIRS, stem)
    } else {
        (OURS, name)
    };
    let (config, seed) = stem.rsplit_once('.').context("expected NAME.SEED")?;
    let seed: u64 = seed.parse().context("expected NAME.SEED")?;
    let file = root.join("configs").join(format!("{config}.toml"));
    ensure!(file.is_file(), "there is no configs/{config}.toml");
    let record = match side {
        OURS => of_run(path, seed)?,
        _ => of_script(path, side, seed)?,
    };
    let mut record: Map<String, Value> = record;
    record.insert("config".into(), config.into());
    record.insert("side".into(), side.into());
    record.insert("seed".into(), seed.into());
    Ok(((config.into(), side.into(), seed), Value::Object(record)))
}

fn json_of(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

fn object(value: Value) -> Result<Map<String, Value>> {
    match value {
        Value::Object(map) => Ok(map),
        _ => bail!("no object"),
    }
}

fn of_run(run: &Path, seed: u64) -> Result<Map<String, Value>> {
    let found = json_of(&run.join("report.json"))?;
    let environment = json_of(&run.join("environment.json"))?;
    ensure!(
        environment["seed"] == seed,
        "was trained with seed {}",
        environment["seed"]
    );
    let metric = found["metric"].as_str().context("no metric")?;
    let baselines: Map<String, Value> = found["baselines"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|baseline| {
            let score = baseline["scores"].get(metric)?.clone();
            Some((baseline["name"].as_str()?.to_string(), score))
        })
        .collect();
    object(json!({
        "metric": metric,
        "split": found["reported_split"],
        "score": number(&found["scores"], metric)?,
        "minutes": number(&found, "train_seconds")? / 60.0,
        "memory_mib": number(&found, "peak_memory")? / 1_048_576.0,
        "baselines": baselines,
        "versions": {"ls-llama": found["version"]},
        "threads": environment["threads"],
    }))
}

fn of_script(path: &Path, side: &str, seed: u64) -> Result<Map<String, Value>> {
    let found = json_of(path)?;
    ensure!(
        found["side"] == side,
        "its side is {}, its name says {side}",
        found["side"]
    );
    ensure!(
        found["seed"] == seed,
        "was trained with seed {}",
        found["seed"]
    );
    let metric = found["metric"].as_str().context("no metric")?;
    object(json!({
        "metric": metric,
        "split": found["split"],
        "score": number(&found["scores"], metric)?,
        "minutes": number(&found, "train_seconds")? / 60.0,
        "memory_mib": found["peak_rss_mib"],
        "versions": found["versions"],
        "threads": found["threads"],
    }))
}

fn number(of: &Value, key: &str) -> Result<f64> {
    of[key].as_f64().with_context(|| format!("no number {key}"))
}

/// The records of one config, of one side.
fn values<'a>(
    records: &'a BTreeMap<Key, Value>,
    config: &'a str,
    side: &'a str,
    key: &'a str,
) -> impl Iterator<Item = f64> + 'a {
    let of = records
        .iter()
        .filter(move |((of, by, _), _)| of == config && by == side);
    of.filter_map(move |(_, record)| record[key].as_f64())
}

/// A row for each config: mean and sample standard deviation over the seeds, the minutes of the
/// seed that waited least for what else ran on the machine, the highest memory.
fn table(records: &BTreeMap<Key, Value>) -> String {
    let mut table = String::from(
        "| config | score of | this project | transformers + peft | n-grams, linear | majority | frozen backbone | threads | minutes | MiB |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut configs: Vec<&str> = records.keys().map(|(config, ..)| config.as_str()).collect();
    configs.dedup();
    for config in configs {
        let of = |side: &'static str, key: &'static str| -> Vec<f64> {
            values(records, config, side, key).collect()
        };
        let both = |shown: &dyn Fn(&[f64]) -> String, key: &'static str| {
            format!("{} / {}", shown(&of(OURS, key)), shown(&of(THEIRS, key)))
        };
        let record = records
            .iter()
            .find(|((of, by, _), _)| of == config && by == OURS);
        let baseline = |name: &str| {
            let found = record.and_then(|(_, record)| record["baselines"][name].as_f64());
            rounded_score(found)
        };
        let threads = record.and_then(|(_, record)| record["threads"].as_u64());
        let text = |key: &str| {
            let found = record.and_then(|(_, record)| record[key].as_str());
            found.unwrap_or("-").to_string()
        };
        let row = [
            format!("`{config}`"),
            format!("{}, {}", text("metric"), text("split")),
            mean_and_deviation(&of(OURS, "score")),
            mean_and_deviation(&of(THEIRS, "score")),
            rounded_score(mean(&of(LINEAR, "score"))),
            baseline("majority class"),
            baseline("frozen backbone"),
            threads.map_or("-".into(), |threads| threads.to_string()),
            both(&|values| least_or_most(values, f64::min), "minutes"),
            both(&|values| least_or_most(values, f64::max), "memory_mib"),
        ];
        table.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    table
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn rounded_score(value: Option<f64>) -> String {
    value.map_or("-".into(), |score| format!("{score:.3}"))
}

fn least_or_most(values: &[f64], of_two: fn(f64, f64) -> f64) -> String {
    let found = values.iter().copied().reduce(of_two);
    found.map_or("-".into(), |value| match value {
        ..10.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    })
}

/// `0.882 ± 0.004 (3)`; one seed has no deviation.
fn mean_and_deviation(values: &[f64]) -> String {
    let Some(mean) = mean(values) else {
        return "-".into();
    };
    let count = values.len();
    if count == 1 {
        return format!("{mean:.3} (1)");
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (squares / (count - 1) as f64).sqrt();
    format!("{mean:.3} ± {deviation:.3} ({count})")
}

/// What cannot be one row: records of a config whose metric or split differ, or threads where both
/// name them.
fn at_odds(records: &BTreeMap<Key, Value>) -> Vec<String> {
    let mut first: BTreeMap<&str, &Value> = BTreeMap::new();
    let mut faults = Vec::new();
    for ((config, side, seed), record) in records {
        let other = *first.entry(config).or_insert(record);
        for key in ["metric", "split", "threads"] {
            if other[key] != record[key] && !other[key].is_null() && !record[key].is_null() {
                let (found, expected) = (&record[key], &other[key]);
                faults.push(format!(
                    "{RECORDS}: {config}, {side}, seed {seed}: {key} is {found}, and {expected} in another record"
                ));
            }
        }
    }
    faults
}

/// The text with another table between its marks.
fn with_table(text: &str, table: &str) -> Result<String> {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.with_context(|| format!("{TEXT}: no lines {BEGIN} and {END}"))?;
    Ok(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(config: &str, side: &str, seed: u64, score: f64) -> (Key, Value) {
        let record = json!({
            "config": config, "side": side, "seed": seed, "score": score, "metric": "accuracy",
            "split": "test", "minutes": 8.96 + seed as f64, "memory_mib": 700.4 + seed as f64,
            "baselines": {"majority class": 0.5}, "threads": 2,
        });
        ((config.into(), side.into(), seed), record)
    }

    #[test]
    fn the_table_has_means_and_deviations_of_each_side() {
        let records: BTreeMap<Key, Value> = [
            record("a", OURS, 1, 0.8),
            record("a", OURS, 2, 0.9),
            record("a", THEIRS, 1, 0.85),
            record("a", LINEAR, 1, 0.75),
            record("b", OURS, 1, 1.0),
        ]
        .into();
        assert!(at_odds(&records).is_empty());
        let table = table(&records);
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| `a` | accuracy, test | 0.850 ± 0.071 (2) | 0.850 (1) | 0.750 | 0.500 | - | 2 | 10.0 / 10.0 | 702 / 701 |",
                "| `b` | accuracy, test | 1.000 (1) | - | - | 0.500 | - | 2 | 10.0 / - | 701 / - |",
            ]
        );
        let mut other = records.clone();
        let key = ("a".to_string(), OURS.to_string(), 2);
        other.get_mut(&key).unwrap()["split"] = "validation".into();
        assert_eq!(at_odds(&other).len(), 1);
        let text = format!("before\n{BEGIN}\nold\n{END}\nbehind\n");
        let written = with_table(&text, &table).unwrap();
        assert_eq!(with_table(&written, &table).unwrap(), written);
        assert!(written.starts_with("before\n") && written.ends_with("\nbehind\n"));
        assert!(written.contains("(2)") && !written.contains("old"));
        assert!(with_table("nothing", &table).is_err());
    }
}
