//! A configuration as a file for people: its keys with what they mean, and what is said of them.

use serde_json::Value as Json;
use toml::{Table, Value};

use super::read::unwritable;
use super::reference::wrapped;
use super::schema::{json_schema, keys_in};
use super::settings::{DataSettings, LoraSettings, ModelSettings, RunConfig, TrainSettings};
use crate::error::Result;

/// What stands in a file beside the keys that differ from their defaults.
#[derive(Debug, Clone, Default)]
pub(crate) struct Annotations {
    /// Keys that stand in it although they have their default.
    pub(crate) always: Vec<&'static str>,
    /// What is said of keys.
    pub(crate) notes: Vec<(&'static str, String)>,
    /// Values that a comment proposes for keys that are not in it.
    pub(crate) proposed: Vec<(&'static str, &'static str)>,
}

impl RunConfig {
    /// The configuration as commented TOML, which reads back as the same.
    ///
    /// # Errors
    ///
    /// If a path is not Unicode or a number is past TOML's range.
    pub(crate) fn annotated(&self, said: &Annotations) -> Result<String> {
        let table = Table::try_from(self).map_err(unwritable)?;
        let defaults = Self {
            task: self.task,
            run: None,
            model: ModelSettings::default(),
            lora: Some(LoraSettings::default()),
            data: DataSettings::default(),
            train: TrainSettings::default(),
        };
        let defaults = Table::try_from(defaults).map_err(unwritable)?;
        let schema = json_schema();
        let mut text = String::new();
        let mut tables = String::new();
        for (key, schema) in keys_in(&schema).into_iter().flatten() {
            match table.get(key) {
                Some(Value::Table(keys)) => {
                    let default = defaults.get(key).and_then(Value::as_table);
                    tables.push_str(&said.table(key, keys, default, schema));
                }
                value => text.push_str(&said.entry("", key, value, None, schema)),
            }
        }
        Ok(text + &tables)
    }
}

impl Annotations {
    fn table(&self, name: &str, keys: &Table, default: Option<&Table>, schema: &Json) -> String {
        let mut text = String::new();
        for (key, schema) in keys_in(schema).into_iter().flatten() {
            let default = default.and_then(|table| table.get(key));
            text.push_str(&self.entry(&format!("{name}."), key, keys.get(key), default, schema));
        }
        if text.is_empty() {
            return text;
        }
        format!("\n[{name}]\n{}", text.trim_start_matches('\n'))
    }

    /// A key with its comment, if it is to stand there.
    fn entry(
        &self,
        section: &str,
        key: &str,
        value: Option<&Value>,
        default: Option<&Value>,
        schema: &Json,
    ) -> String {
        let full = format!("{section}{key}");
        let always = self.always.contains(&full.as_str());
        let line = match value.filter(|value| always || Some(*value) != default) {
            Some(value) => format!("{key} = {value}"),
            None => {
                let mut proposed = self.proposed.iter();
                match proposed.find(|(key, _)| *key == full) {
                    Some((_, value)) => format!("# {key} = {value}"),
                    None => return String::new(),
                }
            }
        };
        let meaning = schema.get("description").and_then(Json::as_str);
        let meaning = meaning.and_then(|text| text.split("\n\n").next());
        let notes = self.notes.iter().filter(|(key, _)| *key == full);
        let mut text = String::from("\n");
        for said in meaning
            .into_iter()
            .chain(notes.map(|(_, note)| note.as_str()))
        {
            // A label may hold what a comment may not.
            let lines: Vec<String> = said.lines().map(ls_files::plain).collect();
            for line in wrapped(&lines.join("\n"), 98).lines() {
                text.push_str(&format!("# {line}\n"));
            }
        }
        text + &line + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_as_the_same_and_says_what_it_was_told() {
        for set in [
            &[
                "data.text=Käse",
                "train.learning_rate=1e-3",
                "data.delimiter=tab",
            ][..],
            &["lora=false", "train.layers=0-1", "run='a \"b\"'"],
            &[
                "lora.target_modules=all-linear",
                "data.test=[\"a.csv\", \"b.csv\"]",
            ],
        ] {
            let set: Vec<String> = set.iter().map(|text| text.to_string()).collect();
            let text = "task = 'sequence'\nmodel.path = 'm'\ndata.train = 'a.csv'\n";
            let config = RunConfig::from_toml(text, "run.toml", &set).unwrap();
            let said = Annotations {
                always: vec!["train.epochs", "data.label", "task"],
                notes: vec![("train.epochs", "many\nof \"\u{1}them\"".into())],
                proposed: vec![("model.attention", "\"bidirectional\"")],
            };
            let text = config.annotated(&said).unwrap();
            assert_eq!(
                RunConfig::from_toml(&text, "", &[]).unwrap(),
                config,
                "{text}"
            );
            for part in [
                "# Passes over `data.train`.\n# many of \"\u{fffd}them\"\nepochs = 3\n",
                "# Column of the label.\nlabel = \"label\"\n",
                "# attention = \"bidirectional\"\n",
            ] {
                assert!(text.contains(part), "{part:?} is not in {text}");
            }
            assert!(!text.contains("warmup"), "{text}");
            let longest = text.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(100), "{text}");
        }
    }
}
