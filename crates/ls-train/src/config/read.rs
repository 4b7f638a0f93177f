//! From a file and `key=value` overrides to a checked [`RunConfig`], and back to TOML.
//!
//! Each value is read alone, so that one of a wrong type hides no other fault: all of them are
//! reported together, before any weight is read.

use std::path::Path;

use ls_files::shown;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::checks::Faults;
use super::schema::{has_key, tables};
use super::settings::{DataSettings, LoraSettings, ModelSettings, RunConfig, TrainSettings};
use super::{adapter, classifier};
use crate::error::{Result, TrainError};

/// What is done with files that a configuration names and that say something of it: the description
/// of a data set, the adapter that a run begins from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    LookedUp,
    /// An adapter that is gone is passed over: the file of a run has all that was taken from it.
    LookedUpIfThere,
    PassedOver,
}

impl RunConfig {
    /// Reads a file and applies `key=value` overrides (`train.learning_rate=1e-3`).
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or with all faults found in it.
    pub fn from_file(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = ls_files::read_text(path).map_err(TrainError::ConfigFile)?;
        Self::from_toml(&text, &path.display().to_string(), overrides)
    }

    /// Parses TOML text; `origin` names it in messages.
    ///
    /// # Errors
    ///
    /// With all faults found.
    pub fn from_toml(text: &str, origin: &str, overrides: &[String]) -> Result<Self> {
        Self::read(text, origin, overrides, Named::LookedUp)
    }

    /// As [`RunConfig::from_file`], of a run that was begun: whether the adapter that it began from
    /// is still there does not matter before it trains.
    ///
    /// # Errors
    ///
    /// Likewise.
    pub(crate) fn of_begun(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = ls_files::read_text(path).map_err(TrainError::ConfigFile)?;
        let origin = path.display().to_string();
        Self::read(&text, &origin, overrides, Named::LookedUpIfThere)
    }

    /// The same of its keys; `path` is the file that holds them.
    ///
    /// # Errors
    ///
    /// With all faults found.
    pub(crate) fn of_begun_table(table: &Table, path: &Path) -> Result<Self> {
        let text = toml::to_string(table).map_err(unwritable)?;
        let origin = path.display().to_string();
        Self::read(&text, &origin, &[], Named::LookedUpIfThere)
    }

    /// Reads the configuration of a finished run. It looks up neither the data set nor the adapter
    /// that it began from: a trained model answers without them.
    pub(crate) fn of_finished(path: &Path) -> Result<Self> {
        let text = ls_files::read_text(path).map_err(TrainError::ConfigFile)?;
        Self::read(&text, &path.display().to_string(), &[], Named::PassedOver)
    }

    pub(super) fn read(
        text: &str,
        origin: &str,
        overrides: &[String],
        named: Named,
    ) -> Result<Self> {
        let mut table: Table =
            ls_files::parse_toml(text, Path::new(origin)).map_err(TrainError::ConfigFile)?;
        let mut faults = Faults::default();
        for assignment in overrides {
            if let Err(fault) = assign(&mut table, assignment) {
                faults.add(fault);
            }
        }
        for key in table.keys().filter(|key| !has_key("", key)) {
            if !faults.are_many() {
                faults.add(unknown_key("", key));
            }
        }
        let task = value(&mut table, "task", &mut faults);
        if task.is_none() && !faults.is_unread("task") {
            faults.add("missing field `task`: what is labelled, sequence or token");
        }
        let looks = named != Named::PassedOver;
        if looks && (named == Named::LookedUp || adapter::is_there(&table)) {
            adapter::fill(&mut table, task, &mut faults);
        }
        if named == Named::LookedUp {
            classifier::fill(&mut table, task)?;
        }
        let run = value(&mut table, "run", &mut faults);
        let model = section::<ModelSettings>(&mut table, "model", &mut faults);
        let lora = adapters(&mut table, overrides, &mut faults);
        let data = section::<DataSettings>(&mut table, "data", &mut faults);
        let train = section::<TrainSettings>(&mut table, "train", &mut faults);
        model.check(&mut faults);
        if let Some(lora) = &lora {
            lora.check(&mut faults);
        }
        data.check(&mut faults);
        if looks {
            model.check_folder(&mut faults);
            data.check_dataset(task, &mut faults);
        }
        train.check(&mut faults);
        let config = task.map(|task| Self {
            task,
            run,
            model,
            lora,
            data,
            train,
        });
        if let Some(config) = &config {
            config.check(&mut faults);
        }
        match (config, faults.into_found()) {
            (Some(config), faults) if faults.is_empty() => Ok(config),
            (_, faults) => Err(TrainError::Config {
                origin: origin.into(),
                faults,
            }),
        }
    }

    /// The configuration as a table.
    ///
    /// # Errors
    ///
    /// As [`RunConfig::to_toml`].
    pub(crate) fn to_table(&self) -> Result<Table> {
        Table::try_from(self).map_err(unwritable)
    }

    /// The configuration as TOML.
    ///
    /// # Errors
    ///
    /// If a path is not Unicode or a number is past TOML's range.
    pub(crate) fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(unwritable)
    }
}

/// Every key of a configuration's table that has a value, in order.
pub(crate) fn keys_of(table: Table) -> Vec<(String, Value)> {
    let mut keys = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(section) => {
                let section = section.into_iter();
                keys.extend(section.map(|(key, value)| (format!("{name}.{key}"), value)));
            }
            value => keys.push((name, value)),
        }
    }
    keys
}

/// The error of a configuration that is no TOML.
pub(super) fn unwritable(error: toml::ser::Error) -> TrainError {
    TrainError::Config {
        origin: "the configuration cannot be written".into(),
        faults: vec![error.to_string()],
    }
}

/// Keys of `data` that say how a file is read.
pub(super) const READING: [&str; 20] = [
    "format",
    "header",
    "delimiter",
    "encoding",
    "text",
    "text_pair",
    "text_append",
    "label",
    "label_delimiter",
    "first_label",
    "labels",
    "tokens",
    "tags",
    "offsets",
    "bad_spans",
    "scheme",
    "malformed",
    "tag_separator",
    "train_scheme",
    "skip_bad_rows",
];

impl DataSettings {
    /// The same with `data.key=value` overrides that say how a file is read.
    ///
    /// # Errors
    ///
    /// With all faults found; keys that say something else are among them.
    pub fn read_as(&self, overrides: &[String]) -> Result<Self> {
        let origin = "the command line";
        let fault = |fault: String| TrainError::Config {
            origin: origin.into(),
            faults: vec![fault],
        };
        let data = Value::try_from(self).map_err(|error| fault(error.to_string()))?;
        let mut table = Table::from_iter([("data".to_string(), data)]);
        let mut faults = Faults::default();
        for assignment in overrides {
            if let Err(fault) = reading_key(assignment)
                .map_or(Ok(()), Err)
                .and_then(|()| assign(&mut table, assignment))
            {
                faults.add(fault);
            }
        }
        let data = section::<Self>(&mut table, "data", &mut faults);
        data.check(&mut faults);
        match faults.into_found() {
            faults if faults.is_empty() => Ok(data),
            faults => Err(TrainError::Config {
                origin: origin.into(),
                faults,
            }),
        }
    }
}

/// Sees that overrides say how a file is read, as [`DataSettings::read_as`] takes them.
///
/// # Errors
///
/// With those that say something else.
pub fn check_reading(overrides: &[String]) -> Result<()> {
    let faults: Vec<String> = overrides
        .iter()
        .filter_map(|set| reading_key(set))
        .collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(TrainError::Config {
        origin: "the command line".into(),
        faults,
    })
}

/// What is wrong with an override that should say how a file is read. Keys that there are not are
/// found by who reads them.
fn reading_key(assignment: &str) -> Option<String> {
    let (key, _) = assignment.split_once('=')?;
    let Some(key) = key.trim().strip_prefix("data.") else {
        return Some(format!(
            "--set {assignment}: only keys of data can be set here: they say how a file is read, \
             such as --set data.text=review"
        ));
    };
    if READING.contains(&key) || !has_key("data", key) {
        return None;
    }
    Some(match key {
        "max_length" => format!("--set data.{key}: give --max-length"),
        // A run says itself how it was trained.
        "words" | "special_tokens" => format!(
            "--set data.{key}: it belongs to the model: of one that --model names, give --{}",
            key.replace('_', "-")
        ),
        _ => format!("--set data.{key}: it is a setting of training, and changes nothing here"),
    })
}

/// Takes the value of a key of the outermost table. A value of a wrong type is a fault.
fn value<T: DeserializeOwned>(table: &mut Table, key: &str, faults: &mut Faults) -> Option<T> {
    match table.remove(key)?.try_into() {
        Ok(value) => Some(value),
        Err(error) => {
            faults.unread(key.into(), error.message());
            None
        }
    }
}

/// Takes a table. The keys that are unknown or whose values have a wrong type are faults; the
/// others are read without them.
fn section<T: DeserializeOwned + Default>(
    table: &mut Table,
    section: &str,
    faults: &mut Faults,
) -> T {
    let Some(keys) = value::<Table>(table, section, faults) else {
        return T::default();
    };
    let mut read = Table::new();
    for (key, value) in keys {
        if !has_key(section, &key) {
            if !faults.are_many() {
                faults.add(unknown_key(section, &key));
            }
            continue;
        }
        let alone = Table::from_iter([(key.clone(), value.clone())]);
        match alone.try_into::<T>() {
            Ok(_) => drop(read.insert(key, value)),
            Err(error) => faults.unread(format!("{section}.{key}"), error.message()),
        }
    }
    // Each of its values has been read alone.
    read.try_into().unwrap_or_default()
}

/// The table of the adapters, or nothing for `lora = false`.
fn adapters(table: &mut Table, overrides: &[String], faults: &mut Faults) -> Option<LoraSettings> {
    match table.get("lora") {
        Some(Value::Boolean(false)) => {}
        Some(Value::Boolean(true)) => faults.unread(
            "lora".into(),
            "expected false or a table of keys, found true; without the key there are adapters",
        ),
        _ => return Some(section(table, "lora", faults)),
    }
    table.remove("lora");
    // Keys behind it were refused as they were set; those before it went with the table.
    let keys = overrides.iter().filter_map(|set| set.split_once('='));
    let keys: Vec<&str> = keys.map(|(key, _)| key.trim()).collect();
    let off = keys.iter().rposition(|key| *key == "lora").unwrap_or(0);
    if let Some(key) = keys[..off].iter().find(|key| key.starts_with("lora.")) {
        faults.add(no_adapters(key));
    }
    None
}

/// The fault of a key of adapters where there are none.
fn no_adapters(key: &str) -> String {
    format!("{key}: there are no adapters (lora = false): leave one of the two out")
}

/// What a text says as a value of TOML, or the text itself where it is none.
pub(crate) fn value_of(text: &str) -> Value {
    format!("value = {text}")
        .parse::<Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_string()))
}

/// Sets one dotted key. The value is read as TOML, or as a string where that fails.
pub(super) fn assign(table: &mut Table, assignment: &str) -> Result<(), String> {
    let Some((key, value)) = assignment.split_once('=') else {
        return Err(format!("{assignment:?}: expected key=value"));
    };
    let (key, value) = (key.trim(), value.trim());
    let parsed = value_of(value);
    // Behind a key of a table stands one of the table that is its value: a label may have dots.
    let below = key.split_once('.').and_then(|(section, rest)| {
        let (name, below) = rest.split_once('.')?;
        has_key(section, name).then_some((section, name, below))
    });
    if let Some((section, name, below)) = below {
        let of_section = table
            .entry(section)
            .or_insert_with(|| Value::Table(Table::new()));
        let value = of_section.as_table_mut().map(|keys| {
            keys.entry(name)
                .or_insert_with(|| Value::Table(Table::new()))
        });
        let Some(Value::Table(value)) = value else {
            return Err(format!("{section}.{name}: is not a table"));
        };
        value.insert(below.to_string(), parsed);
        return Ok(());
    }
    let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
    let target = if section.is_empty() {
        table
    } else {
        match table
            .entry(section)
            .or_insert_with(|| Value::Table(Table::new()))
        {
            Value::Table(target) => target,
            Value::Boolean(false) if section == "lora" => return Err(no_adapters(key)),
            _ => return Err(format!("{section}: is not a table")),
        }
    };
    target.insert(name.to_string(), parsed);
    Ok(())
}

/// The fault of a key that a table does not have, with the key that was likely meant.
fn unknown_key(section: &str, key: &str) -> String {
    let path = |section: &str, key: &str| {
        if section.is_empty() {
            key.to_string()
        } else {
            format!("{section}.{key}")
        }
    };
    // The same key in another table is likelier meant than a similar one in this.
    let elsewhere = tables().iter().find(|table| has_key(&table.name, key));
    let similar = |own: bool| {
        let tables = || {
            tables()
                .iter()
                .filter(|table| !own || table.name == section)
        };
        let keys = tables().flat_map(|table| table.keys.iter().map(String::as_str));
        let name = ls_files::similar(key, keys)?;
        let table = tables().find(|table| has_key(&table.name, &name))?;
        Some(path(&table.name, &name))
    };
    let hint = elsewhere
        .map(|table| path(&table.name, key))
        .or_else(|| similar(true))
        .or_else(|| similar(false))
        .map(|path| format!(", did you mean {path}?"))
        .unwrap_or_default();
    format!("unknown key {}{hint}", shown(path(section, key)))
}

#[cfg(test)]
mod tests {
    use ls_data::ColumnRef;
    use ls_lora::TargetModules;
    use ls_model::AttentionMode;

    use super::*;

    const MINIMAL: &str = "task = 'sequence'\nmodel.path = 'm'\ndata.train = 'train.csv'\n";

    fn read(set: &[&str]) -> Result<RunConfig> {
        let set: Vec<String> = set.iter().map(|text| text.to_string()).collect();
        RunConfig::from_toml(MINIMAL, "run.toml", &set)
    }

    fn check_fault(text: &str, overrides: &[&str], expected: &[&str]) {
        let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
        let error = RunConfig::from_toml(text, "run.toml", &overrides)
            .unwrap_err()
            .to_string();
        for part in expected {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        for set in [
            &["model.attention=groups:0110", "data.stride=3"][..],
            &["lora=false", "train.layers=4-7,0"],
        ] {
            let config = read(set).unwrap();
            let text = config.to_toml().unwrap();
            assert_eq!(RunConfig::from_toml(&text, "", &[]).unwrap(), config);
        }
    }

    #[test]
    fn no_adapters_take_the_place_of_a_table_and_of_none_of_its_keys_that_are_set() {
        let text = format!("{MINIMAL}lora.r = 4\n");
        let read = |set: &[&str]| {
            let set: Vec<String> = set.iter().map(|text| text.to_string()).collect();
            RunConfig::from_toml(&text, "run.toml", &set)
        };
        assert_eq!(read(&[]).unwrap().lora.map(|lora| lora.r), Some(4));
        assert_eq!(read(&["lora=false"]).unwrap().lora, None);
        for set in [["lora=false", "lora.r=8"], ["lora.r=8", " lora = false"]] {
            let error = read(&set).unwrap_err().to_string();
            let expected = "run.toml: lora.r: there are no adapters (lora = false): leave one of \
                            the two out";
            assert_eq!(error, expected);
        }
        check_fault(MINIMAL, &["lora=3"], &["run.toml: lora: "]);
        // One fault, where what `lora` says is not known.
        let error = self::read(&["lora=true", "train.layers=3"]).unwrap_err();
        assert!(!error.to_string().contains("faults"), "{error}");
    }

    #[test]
    fn overrides_are_toml_or_else_text() {
        let config = read(&[
            "train.learning_rate=1e-3",
            "lora.target_modules=[\"q_proj\"]",
            "model.attention=from:2",
            "data.label=1",
        ])
        .unwrap();
        assert_eq!(config.train.learning_rate, 1e-3);
        let targets = Some(TargetModules::list(["q_proj"]));
        assert_eq!(config.lora.unwrap().target_modules, targets);
        assert_eq!(config.model.attention, Some(AttentionMode::From(2)));
        assert_eq!(config.data.label, ColumnRef::Index(1));
    }

    #[test]
    fn a_guessed_key_gets_the_one_that_is_meant() {
        for (guessed, meant) in [
            ("train.num_epochs", "train.epochs"),
            ("train.warmup", "train.warmup_ratio"),
            ("train.metric", "train.metric_for_best_model"),
            ("lora.dropout", "lora.lora_dropout"),
            ("lora.targets", "lora.target_modules"),
            ("data.text_column", "data.text"),
            ("data.valid", "data.validation"),
            ("model.attn", "model.attention"),
        ] {
            let (section, key) = guessed.split_once('.').unwrap();
            let fault = unknown_key(section, key);
            assert!(
                fault.ends_with(&format!("did you mean {meant}?")),
                "{fault}"
            );
        }
    }

    #[test]
    fn faults_are_reported_together_with_the_nearest_key() {
        let text = format!("{MINIMAL}train.learning_rat = 1e-3\ntrain.max_length = 3\nmodle = 1\n");
        let expected = [
            "train.learning_rat, did you mean train.learning_rate?",
            "did you mean data.max_length?",
            "did you mean model?",
        ];
        check_fault(&text, &[], &expected);
        check_fault(
            MINIMAL,
            &["train.epochs=0", "lora.lora_dropout=1.5"],
            &["train.epochs", "lora_dropout", "2 faults"],
        );
        check_fault(
            MINIMAL,
            &["train.epochs=many", "model.dtype=f8"],
            &["train.epochs: ", "model.dtype: ", "f8", "2 faults"],
        );
        check_fault("task = 'sequence'\n", &[], &["missing field `model.path`"]);
        check_fault(MINIMAL, &["nonsense"], &["expected key=value"]);
        check_fault(MINIMAL, &["model.attention=sideways"], &["sideways"]);
    }

    #[test]
    fn a_value_of_a_wrong_type_hides_no_other_fault() {
        check_fault(
            "data.train = 3\ntrain.seed = -1\ntrain.seeed = 1",
            &[
                "lora.init_lora_weights=xavier",
                "lora.r=0",
                "lora.bias=some",
                "lora.lora_dropout=2",
                "train.epochs=0",
            ],
            &[
                "10 faults",
                "missing field `task`",
                "missing field `model.path`",
                "data.train: expected a path or a list of paths",
                "train.seed: ",
                "train.seeed, did you mean train.seed?",
                "lora.init_lora_weights: ",
                "xavier",
                "`r` = 0",
                "lora.bias: ",
                "`lora_dropout` = 2",
                "train.epochs: expected 1 to 16777216, found 0",
            ],
        );
    }

    #[test]
    fn a_table_of_a_wrong_type_is_one_fault() {
        let error = RunConfig::from_toml("task = 'token'\nmodel = 3\ndata = 3", "run.toml", &[]);
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("run.toml: 2 faults"), "{error}");
        assert!(!error.contains("model.path"), "{error}");
        assert!(!error.contains("data.train"), "{error}");
        // A longer name is another key.
        let mut faults = Faults::default();
        faults.unread("data.train".into(), "");
        assert!(faults.is_unread("data.train"));
        assert!(!faults.is_unread("data.train_scheme"));
        assert!(!faults.is_unread("data"));
    }

    #[test]
    fn the_config_of_a_finished_run_needs_no_description_of_its_data() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let text = "task = 'sequence'\nmodel.path = 'm'\ndata.dataset = 'gone.toml'\n";
        std::fs::write(&path, text).unwrap();
        let config = RunConfig::of_finished(&path).unwrap();
        assert_eq!(config.data.dataset.as_deref(), Some("gone.toml"));
        let error = RunConfig::from_file(&path, &[]).unwrap_err().to_string();
        assert!(error.contains("data.dataset: gone.toml"), "{error}");
    }

    #[test]
    fn every_config_of_the_repository_is_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "toml") {
                RunConfig::from_file(&path, &[]).unwrap_or_else(|error| panic!("{error}"));
                count += 1;
            }
        }
        assert_eq!(count, 21);
    }
}
