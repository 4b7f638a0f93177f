//! `cargo xtask results`: the tables of measured results in `configs/README.md`, made from finished
//! runs and never typed.
//!
//! What was measured is kept in `configs/results.json`, one record for each config, side, seed and
//! what was set otherwise than in the config. A run is given as its folder, `NAME.SEED` for
//! `configs/NAME.toml`, and what others made of the same data as files: `NAME.SEED.json` of
//! `benches/vs_peft/same_run.py` for transformers + peft, and `NAME.SEED.tfidf.json` of
//! `benches/vs_peft/tfidf.py` for a linear model over n-grams. With `--config NAME` folders may
//! have any name, as those of a sweep.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
    /// (`NAME.SEED.json`) and tfidf.py (`NAME.SEED.tfidf.json`); none makes the tables anew.
    runs: Vec<PathBuf>,
    /// The config of which all of them are, where their names do not say it.
    #[arg(long, value_name = "NAME")]
    config: Option<String>,
}

/// Config, side, seed and what was set otherwise than in the config.
type Key = (String, String, u64, String);

/// Adds what was measured, and writes the tables.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let (mut records, mut resolved) = (read(root)?, BTreeMap::new());
    let mut added = BTreeSet::new();
    for path in &args.runs {
        let record = measured(root, path, args.config.as_deref(), &mut resolved);
        let record = record.with_context(|| path.display().to_string())?;
        let key = key(&record)?;
        ensure!(
            added.insert(key.clone()),
            "{}: another one given has the same config, side, seed and settings",
            path.display()
        );
        records.insert(key, record);
    }
    report("results", &at_odds(&records))?;
    let list: Vec<&Value> = records.values().collect();
    let text = serde_json::to_string_pretty(&list)? + "\n";
    let path = root.join(RECORDS);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    let path = root.join(TEXT);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    fs::write(&path, with_table(&text, &tables(&records))?)
        .with_context(|| format!("write {}", path.display()))?;
    say(format_args!("{TEXT}: {} records", records.len()));
    Ok(())
}

/// Whether the tables are those of the records.
pub fn check(root: &Path) -> Result<()> {
    let text = fs::read_to_string(root.join(TEXT)).with_context(|| format!("read {TEXT}"))?;
    let records = read(root)?;
    let mut faults = at_odds(&records);
    if with_table(&text, &tables(&records))? != text {
        faults.push(format!(
            "{TEXT}: the tables are not those of {RECORDS} (`cargo xtask results` writes them)"
        ));
    }
    report("results", &faults)
}

fn read(root: &Path) -> Result<BTreeMap<Key, Value>> {
    let text = fs::read_to_string(root.join(RECORDS)).with_context(|| format!("read {RECORDS}"))?;
    let records: Vec<Value> = serde_json::from_str(&text).with_context(|| RECORDS.to_string())?;
    records
        .into_iter()
        .map(|record| Ok((key(&record)?, record)))
        .collect()
}

fn key(record: &Value) -> Result<Key> {
    let text = |key: &str| {
        let value = record[key].as_str();
        value
            .map(String::from)
            .with_context(|| format!("a record has no {key}"))
    };
    let seed = record["seed"].as_u64().context("a record has no seed")?;
    Ok((text("config")?, text("side")?, seed, set_of(record)))
}

/// What was set otherwise than in the config: empty where nothing was.
fn set_of(record: &Value) -> String {
    let set = record["set"].as_object().into_iter().flatten();
    let set = set.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    set.collect::<Vec<_>>().join(" ")
}

/// The record of a run folder, or of a file of a script. `config` says of which config it is, if
/// its name does not; `resolved` holds those that were asked for.
fn measured(
    root: &Path,
    path: &Path,
    config: Option<&str>,
    resolved: &mut BTreeMap<(String, [Option<String>; 2]), Resolved>,
) -> Result<Value> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.context("has no name")?;
    let (side, stem) = if let Some(stem) = name.strip_suffix(".tfidf.json") {
        (LINEAR, stem)
    } else if let Some(stem) = name.strip_suffix(".json") {
        (THEIRS, stem)
    } else {
        (OURS, name)
    };
    let named = stem.rsplit_once('.');
    let named = named.and_then(|(config, seed)| Some((config, seed.parse::<u64>().ok()?)));
    let config = config.or(named.map(|(config, _)| config));
    let config = config.context("expected NAME.SEED, or --config NAME")?;
    // Folders of a sweep have points in their names too.
    let named = named.filter(|(of, _)| *of == config);
    let file = root.join("configs").join(format!("{config}.toml"));
    ensure!(file.is_file(), "there is no configs/{config}.toml");
    let (mut record, run) = match side {
        OURS => of_run(path)?,
        _ => of_script(path, side)?,
    };
    if let Some((_, seed)) = named {
        ensure!(
            record["seed"] == seed,
            "was trained with seed {}",
            record["seed"]
        );
    }
    if let Some(run) = run {
        let of_run = settings(&run);
        let by = ["model.path", "data.dir"].map(|key| of_run.get(key).cloned());
        let key = (config.to_string(), by);
        if !resolved.contains_key(&key) {
            let found = Resolved::of(root, config, &of_run)?;
            resolved.insert(key.clone(), found);
        }
        let set = resolved[&key].unlike(&run);
        if !set.is_empty() {
            record.insert("set".into(), json!(set));
        }
    }
    record.insert("config".into(), config.into());
    record.insert("side".into(), side.into());
    Ok(Value::Object(record))
}

/// What differs from run to run. Which model it was is seen by the hash of its configuration, and
/// which data by the number of rows.
const OF_A_RUN: [&str; 12] = [
    "run",
    "model.path",
    "model.hash_weights",
    "data.dir",
    "data.cache",
    "train.seed",
    "train.baselines",
    "train.report",
    "train.tensorboard",
    "train.save_seconds",
    "train.save_steps",
    "train.save_total_limit",
];
/// Files, of which their names are compared and not where they are.
const FILES: [&str; 3] = ["data.train", "data.validation", "data.test"];

/// A config with all that it leaves to be filled in, as `ls-cli config show` prints it.
struct Resolved {
    settings: BTreeMap<String, String>,
    /// Keys that a run fills in by its data or its model.
    open: Vec<String>,
}

impl Resolved {
    /// As a run has it that is of its model and its data: these fill some of it in.
    fn of(root: &Path, config: &str, run: &BTreeMap<String, String>) -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let file = format!("configs/{config}.toml");
        let mut command = Command::new(cargo);
        command
            .current_dir(root)
            .args(["run", "-q", "-p", "ls-cli", "--", "config", "show"])
            .args(["--config", &file]);
        for key in ["model.path", "data.dir"] {
            if let Some(value) = run.get(key) {
                command.args(["--set", &format!("{key}={value}")]);
            }
        }
        let output = command.output().context("run ls-cli config show")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "ls-cli config show: {said}");
        Ok(Self {
            settings: settings(&String::from_utf8_lossy(&output.stdout)),
            open: open_keys(&said),
        })
    }

    /// What a run's own configuration says otherwise.
    fn unlike(&self, run: &str) -> BTreeMap<String, String> {
        let mut set = settings(run);
        set.retain(|key, value| {
            let shown = |value: &String| {
                if FILES.contains(&&**key) {
                    value.rsplit('/').next().map(str::to_owned)
                } else {
                    Some(value.clone())
                }
            };
            let same = self.settings.get(key).and_then(shown) == shown(value);
            !same && !self.open.contains(key) && !OF_A_RUN.contains(&&**key)
        });
        set
    }
}

/// The keys that `ls-cli config show` leaves open. Those with one reason stand in one line: `KEY,
/// KEY (what that is): reason`.
fn open_keys(said: &str) -> Vec<String> {
    let lines = said.lines();
    let lists = lines.filter_map(|line| Some(line.split_once("open until train decides it: ")?.1));
    let words = lists.flat_map(|list| list.split(", "));
    let words = words.filter_map(|part| part.split_whitespace().next());
    let keys = words.map(|word| word.trim_end_matches(':'));
    keys.filter(|key| key.contains('.'))
        .map(Into::into)
        .collect()
}

/// The values of a resolved configuration by their keys, as it writes them: one on each line.
fn settings(text: &str) -> BTreeMap<String, String> {
    let (mut section, mut settings) = (String::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = format!("{name}.");
        } else if let Some((key, value)) = line.split_once(" = ") {
            let value = value.trim_matches(['"', '\'']);
            settings.insert(format!("{section}{key}"), value.to_string());
        }
    }
    settings
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

/// The record of a run folder, and its configuration.
fn of_run(run: &Path) -> Result<(Map<String, Value>, Option<String>)> {
    let found = json_of(&run.join("report.json"))?;
    let environment = json_of(&run.join("environment.json"))?;
    let text = |name: &str| {
        let path = run.join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
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
    let metrics = text("metrics.jsonl")?;
    let metrics = metrics
        .lines()
        .filter(|line| line.contains("\"evaluation\""));
    let mut validation = Vec::new();
    for line in metrics {
        let line: Value = serde_json::from_str(line).context("metrics.jsonl")?;
        if line["kind"] == "evaluation" && line["split"] == "validation" {
            validation.push(number(&line, "value")?);
        }
    }
    let cut = found["cut"].as_object().into_iter().flatten();
    let rows = cut.map(|(split, cut)| (split.clone(), cut["examples"].clone()));
    let hashes = environment["sha256"].as_array().into_iter().flatten();
    let mut model = hashes.filter_map(|hash| {
        let is_model = hash[0].as_str()?.ends_with("/config.json");
        is_model.then(|| hash[1].clone())
    });
    let record = json!({
        "model_config_sha256": model.next_back(),
        "seed": environment["seed"],
        "metric": metric,
        "split": found["reported_split"],
        "score": number(&found["scores"], metric)?,
        "validation": validation,
        "best": found["best"]["value"],
        "rows": Value::Object(rows.collect()),
        "minutes": number(&found, "train_seconds")? / 60.0,
        "memory_mib": number(&found, "peak_memory")? / 1_048_576.0,
        "baselines": baselines,
        "versions": {"ls-llama": found["version"]},
        "threads": environment["threads"],
    });
    Ok((object(record)?, Some(text("config.toml")?)))
}

/// The record of what a script wrote, and the configuration of the run that it repeated.
fn of_script(path: &Path, side: &str) -> Result<(Map<String, Value>, Option<String>)> {
    let found = json_of(path)?;
    ensure!(
        found["side"] == side,
        "its side is {}, its name says {side}",
        found["side"]
    );
    let metric = found["metric"].as_str().context("no metric")?;
    let record = json!({
        "seed": found["seed"],
        "metric": metric,
        "split": found["split"],
        "score": number(&found["scores"], metric)?,
        "validation": found["validation"],
        "rows": found["sizes"],
        "minutes": number(&found, "train_seconds")? / 60.0,
        "memory_mib": found["peak_rss_mib"],
        "versions": found["versions"],
        "threads": found["threads"],
    });
    Ok((object(record)?, found["config"].as_str().map(String::from)))
}

fn number(of: &Value, key: &str) -> Result<f64> {
    of[key].as_f64().with_context(|| format!("no number {key}"))
}

/// The tables, and what they do not say of themselves.
fn tables(records: &BTreeMap<Key, Value>) -> String {
    let mut text = table(records);
    let theirs = records.iter().filter(|((config, side, _, set), _)| {
        side == THEIRS && set == set_of_theirs(records, config) && !set.is_empty()
    });
    for ((config, side, seed, set), _) in theirs {
        text.push_str(&format!(
            "\n{side}, `{config}`, seed {seed}: with `{set}`.\n"
        ));
    }
    let varied = varied(records);
    if !varied.is_empty() {
        text.push_str(&format!("\nThe same with other settings:\n\n{varied}"));
    }
    text
}

/// What was set in the records of transformers + peft that are shown: nothing, if there is one in
/// which nothing was.
fn set_of_theirs<'a>(records: &'a BTreeMap<Key, Value>, config: &str) -> &'a str {
    let theirs = records
        .keys()
        .filter(|(of, side, ..)| of == config && side == THEIRS);
    theirs
        .map(|(.., set)| set.as_str())
        .min()
        .unwrap_or_default()
}

/// A row for each config as it is: mean and sample standard deviation over the seeds, the minutes
/// of the seed that waited least for what else ran on the machine, the highest memory.
fn table(records: &BTreeMap<Key, Value>) -> String {
    let mut table = String::from(
        "| config | score of | rows | this project | transformers + peft | n-grams, linear | majority | frozen backbone | threads | minutes | MiB |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut configs: Vec<&str> = records.keys().map(|(config, ..)| config.as_str()).collect();
    configs.dedup();
    for config in configs {
        let of = |side: &str| -> Vec<&Value> {
            let of_side = records.iter().filter(|((of, by, _, set), _)| {
                let shown = if by == THEIRS {
                    set_of_theirs(records, config)
                } else {
                    ""
                };
                of == config && by == side && set == shown
            });
            of_side.map(|(_, record)| record).collect()
        };
        let values = |side: &str, key: &str| -> Vec<f64> {
            of(side)
                .iter()
                .filter_map(|record| record[key].as_f64())
                .collect()
        };
        let both = |shown: &dyn Fn(&[f64]) -> String, key: &str| {
            format!(
                "{} / {}",
                shown(&values(OURS, key)),
                shown(&values(THEIRS, key))
            )
        };
        let ours = of(OURS);
        let Some(first) = ours.first() else { continue };
        let baseline = |name: &str| {
            let found = ours
                .iter()
                .filter_map(|record| record["baselines"][name].as_f64());
            mean_and_deviation(&found.collect::<Vec<_>>())
        };
        let text = |key: &str| first[key].as_str().unwrap_or("-");
        let rows = ["train", "validation", "test"].map(|split| {
            let counted = ours
                .iter()
                .find_map(|record| record["rows"][split].as_u64());
            counted.map_or("-".into(), |rows| rows.to_string())
        });
        let row = [
            format!("`{config}`"),
            format!("{}, {}", text("metric"), text("split")),
            rows.join(" / "),
            mean_and_deviation(&values(OURS, "score")),
            mean_and_deviation(&values(THEIRS, "score")),
            rounded_score(mean(&values(LINEAR, "score"))),
            baseline("majority class"),
            baseline("frozen backbone"),
            first["threads"]
                .as_u64()
                .map_or("-".into(), |threads| threads.to_string()),
            both(&|values| least_or_most(values, f64::min), "minutes"),
            both(&|values| least_or_most(values, f64::max), "memory_mib"),
        ];
        table.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    table
}

/// A row for each config and what was set otherwise, beside the config as it is: the best epoch on
/// the validation split, and the score. Empty where nothing was set otherwise.
fn varied(records: &BTreeMap<Key, Value>) -> String {
    let ours = || records.iter().filter(|((_, side, ..), _)| side == OURS);
    let mut rows: BTreeMap<[&str; 2], [Vec<f64>; 2]> = BTreeMap::new();
    for ((config, _, _, set), record) in ours() {
        if !ours().any(|((other, _, _, set), _)| other == config && !set.is_empty()) {
            continue;
        }
        let [validation, scores] = rows.entry([config, set]).or_default();
        // Records of earlier versions have each epoch alone.
        let epochs = record["validation"].as_array().into_iter().flatten();
        let highest = epochs.filter_map(Value::as_f64).reduce(f64::max);
        validation.extend(record["best"].as_f64().or(highest));
        scores.extend(record["score"].as_f64());
    }
    let mut table = String::new();
    if !rows.is_empty() {
        table.push_str("| config | with | validation | score |\n|---|---|---|---|\n");
    }
    for ([config, set], [validation, scores]) in &rows {
        let set = if set.is_empty() {
            String::new()
        } else {
            format!("`{}`", set.replace('|', "\\|"))
        };
        let [validation, scores] = [validation, scores].map(|values| mean_and_deviation(values));
        table.push_str(&format!(
            "| `{config}` | {set} | {validation} | {scores} |\n"
        ));
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

/// What cannot be one row: records of a config whose metric or split differ, or, where nothing was
/// set otherwise, the threads, the rows or the model, if both name them.
fn at_odds(records: &BTreeMap<Key, Value>) -> Vec<String> {
    let mut faults = Vec::new();
    for ((config, side, seed, set), record) in records {
        let mut of_config = records.iter().filter(|((of, ..), _)| of == config);
        let plain = of_config.clone().find(|((.., set), _)| set.is_empty());
        let Some((_, other)) = plain.or_else(|| of_config.next()) else {
            continue;
        };
        let keys = ["metric", "split", "threads", "rows", "model_config_sha256"];
        let count = if set.is_empty() { keys.len() } else { 2 };
        for key in &keys[..count] {
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

    fn record(config: &str, side: &str, seed: u64, score: f64) -> Value {
        json!({
            "config": config, "side": side, "seed": seed, "score": score, "metric": "accuracy",
            "split": "test", "minutes": 8.96 + seed as f64, "memory_mib": 700.4 + seed as f64,
            "baselines": {"majority class": 0.25 * seed as f64}, "threads": 2,
            "best": score, "rows": {"train": 90, "test": 20},
        })
    }

    fn keyed(records: impl IntoIterator<Item = Value>) -> BTreeMap<Key, Value> {
        let keyed = records
            .into_iter()
            .map(|record| (key(&record).unwrap(), record));
        keyed.collect()
    }

    #[test]
    fn the_table_has_means_and_deviations_of_each_side() {
        let records = keyed([
            record("a", OURS, 1, 0.8),
            record("a", OURS, 2, 0.9),
            record("a", THEIRS, 1, 0.85),
            record("a", LINEAR, 1, 0.75),
            record("b", OURS, 1, 1.0),
        ]);
        assert!(at_odds(&records).is_empty());
        let table = tables(&records);
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| `a` | accuracy, test | 90 / - / 20 | 0.850 ± 0.071 (2) | 0.850 (1) | 0.750 | 0.375 ± 0.177 (2) | - | 2 | 10.0 / 10.0 | 702 / 701 |",
                "| `b` | accuracy, test | 90 / - / 20 | 1.000 (1) | - | - | 0.250 (1) | - | 2 | 10.0 / - | 701 / - |",
            ]
        );
        let mut other = record("a", OURS, 2, 0.9);
        other["split"] = "validation".into();
        let other = keyed([record("a", OURS, 1, 0.8), other]);
        assert_eq!(at_odds(&other).len(), 1);
        let mut other = record("a", OURS, 2, 0.9);
        other["rows"]["train"] = 91.into();
        let other = keyed([record("a", OURS, 1, 0.8), other]);
        assert_eq!(at_odds(&other).len(), 1);
        let text = format!("before\n{BEGIN}\nold\n{END}\nbehind\n");
        let written = with_table(&text, &table).unwrap();
        assert_eq!(with_table(&written, &table).unwrap(), written);
        assert!(written.starts_with("before\n") && written.ends_with("\nbehind\n"));
        assert!(written.contains("(2)") && !written.contains("old"));
        assert!(with_table("nothing", &table).is_err());
    }

    #[test]
    fn what_was_set_otherwise_has_rows_of_its_own() {
        let with = |mut record: Value, set: Value| {
            record["set"] = set;
            record
        };
        let longer = json!({"data.max_length": "256"});
        let masked = json!({"model.attention": "causal", "train.epochs": "1"});
        let records = keyed([
            record("a", OURS, 1, 0.8),
            with(record("a", OURS, 1, 0.6), masked),
            with(record("a", THEIRS, 1, 0.7), longer.clone()),
            record("b", OURS, 1, 0.9),
            record("b", THEIRS, 2, 0.3),
            // Beside one as it is, it is not shown.
            with(record("b", THEIRS, 1, 0.7), longer),
            with(
                record("b", OURS, 1, 0.5),
                json!({"lora.target_modules": "a|b"}),
            ),
        ]);
        assert!(at_odds(&records).is_empty());
        let tables = tables(&records);
        for part in [
            "| `a` | accuracy, test | 90 / - / 20 | 0.800 (1) | 0.700 (1) |",
            "\ntransformers + peft, `a`, seed 1: with `data.max_length=256`.\n",
            "| `a` |  | 0.800 (1) | 0.800 (1) |\n\
             | `a` | `model.attention=causal train.epochs=1` | 0.600 (1) | 0.600 (1) |\n",
        ] {
            assert!(tables.contains(part), "{part}\n{tables}");
        }
        assert!(tables.contains("| `b` | accuracy, test | 90 / - / 20 | 0.900 (1) | 0.300 (1) |"));
        assert!(
            tables.contains("| `b` | `lora.target_modules=a\\|b` | 0.500 (1) |"),
            "{tables}"
        );
        assert!(!tables.contains("`b`, seed 1: with"), "{tables}");
    }

    #[test]
    fn keys_that_are_left_open_are_found_in_what_is_said_of_them() {
        let said = "ls-cli 0.1.0\nopen until train decides it: data.scheme (`labels` where no tag \
                    has a prefix such as B-), train.metric_for_best_model: by the training data\n\
                    open until train decides it: model.classifier_dropout: by the model's \
                    config.json, and a/b is not here\n";
        let expected = [
            "data.scheme",
            "train.metric_for_best_model",
            "model.classifier_dropout",
        ];
        assert_eq!(open_keys(said), expected);
    }

    #[test]
    fn a_run_is_compared_with_its_config_key_by_key() {
        let expected = "task = \"token\"\nrun = \"runs/a\"\n\n[model]\npath = \"m\"\n\
                        attention = \"from:15\"\n\n[data]\ntrain = \"/a/train.tsv\"\n\n[train]\n\
                        seed = 42\nepochs = 2\n";
        let resolved = Resolved {
            settings: settings(expected),
            open: vec!["train.metric_for_best_model".into()],
        };
        let run = "task = \"token\"\nrun = \"elsewhere\"\n\n[model]\npath = \"other\"\n\
                   attention = \"from:15\"\n\n[data]\ntrain = \"/b/c/train.tsv\"\n\n[train]\n\
                   seed = 1\nepochs = 2\nmetric_for_best_model = \"span_f1_micro\"\n";
        assert!(resolved.unlike(run).is_empty());
        let run = run.replace("from:15", "groups:0001");
        let run = run.replace("[data]\n", "[data]\nmax_train_samples = 1000\n");
        let set = [
            ("data.max_train_samples", "1000"),
            ("model.attention", "groups:0001"),
        ];
        let set = set.map(|(key, value)| (key.to_string(), value.to_string()));
        assert_eq!(resolved.unlike(&run), BTreeMap::from(set));
    }
}
