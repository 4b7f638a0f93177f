//! What a configuration comes to before anything is trained: the `config.toml` of its run, as far
//! as no weight and no data file is read.

use std::collections::BTreeSet;

use ls_data::TaskKind;
use ls_files::exists;
use ls_model::{AttentionMode, LlamaConfig};
use toml::{Table, Value};

use super::micro_batch::MicroBatchSize;
use super::read::unwritable;
use super::resolved::OfModel;
use super::settings::RunConfig;
use crate::error::Result;

/// A configuration with the choices that can be made without weights and data.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// As TOML.
    pub toml: String,
    /// What is left open, a phrase for each that decides it.
    pub open: Vec<String>,
}

impl RunConfig {
    /// What a run of this configuration writes into its folder, as far as it follows from it and
    /// from the model's `config.json`. Where there is no such model, what it decides is left open.
    ///
    /// # Errors
    ///
    /// If the model's folder is none, or its `config.json` cannot be used; if the model has not the
    /// layers that are named; if a path is not Unicode.
    pub fn preview(self) -> Result<Preview> {
        let mut open = Vec::new();
        let path = self.model.path.clone();
        let (toml, config) = if exists(&path)? {
            let model = LlamaConfig::from_dir(&path)?;
            let run = self.resolve(&model);
            run.attention.check(model.num_hidden_layers)?;
            run.check_layers(&model)?;
            run.config.check_adapter_on(&model)?;
            (run.config.to_toml()?, run.config)
        } else {
            let (table, keys) = self.common_to_all_models()?;
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            if !keys.is_empty() {
                open.push(format!(
                    "{}: by the model's config.json, and {} is not here",
                    keys.join(", "),
                    path.display()
                ));
            }
            let toml = toml::to_string(&table).map_err(unwritable)?;
            (toml, self)
        };
        let mut of_data = Vec::new();
        // A known set brings its scheme.
        let known = config.data.known();
        if config.task == TaskKind::Token && config.data.scheme.is_none() {
            if known.is_none() {
                of_data.push("data.scheme (`labels` where no tag has a prefix such as B-)");
            }
            if config.train.metric_for_best_model.is_none() {
                of_data.push("train.metric_for_best_model");
            }
        }
        if !of_data.is_empty() {
            open.push(format!("{}: by the training data", of_data.join(", ")));
        }
        if let (Some(known), Some(dir)) = (&known, &config.data.dir)
            && !exists(dir)?
        {
            open.push(format!("data.dir: the data set {} is not here", known.name));
        }
        if config.train.micro_batch_size == MicroBatchSize::Auto && config.train.pass_size.is_none()
        {
            open.push("train.pass_size: by the memory that is free".into());
        }
        Ok(Preview { toml, open })
    }

    /// What the run is whatever its model says, and the keys for which that matters: those that
    /// differ between two models that agree in nothing. The model's path stays as it is.
    fn common_to_all_models(&self) -> Result<(Table, Vec<String>)> {
        let [one, other] = [
            OfModel {
                attention: AttentionMode::Causal,
                classifier_dropout: 0.0,
                fused_projections: false,
            },
            OfModel {
                attention: AttentionMode::Bidirectional,
                classifier_dropout: 0.5,
                fused_projections: true,
            },
        ]
        .map(|model| {
            let mut config = self.clone().resolve_by(&model).config;
            config.model.path.clone_from(&self.model.path);
            Table::try_from(config).map_err(unwritable)
        });
        Ok(common("", one?, &other?))
    }
}

/// What two tables say alike, and the keys of the rest.
fn common(section: &str, one: Table, other: &Table) -> (Table, Vec<String>) {
    let mut keys: BTreeSet<String> = other
        .keys()
        .filter(|key| !one.contains_key(*key))
        .map(|key| format!("{section}{key}"))
        .collect();
    let mut alike = Table::new();
    for (key, value) in one {
        match (value, other.get(&key)) {
            (Value::Table(one), Some(Value::Table(other))) => {
                let (table, more) = common(&format!("{section}{key}."), one, other);
                keys.extend(more);
                alike.insert(key, table.into());
            }
            (value, Some(same)) if value == *same => {
                alike.insert(key, value);
            }
            _ => {
                keys.insert(format!("{section}{key}"));
            }
        }
    }
    (alike, keys.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = r#"{"model_type": "llama", "vocab_size": 32, "hidden_size": 16,
        "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "is_causal": false, "classifier_dropout": 0.3}"#;

    fn read(task: &str, model: &str, set: &[&str]) -> RunConfig {
        let text = format!("task = '{task}'\nmodel.path = '{model}'\ndata.train = 'a.csv'\n");
        let set: Vec<String> = set.iter().map(|text| text.to_string()).collect();
        RunConfig::from_toml(&text, "run.toml", &set).unwrap()
    }

    fn open(task: &str, set: &[&str]) -> Vec<String> {
        read(task, "gone", set).preview().unwrap().open
    }

    #[test]
    fn with_the_model_s_configuration_it_is_what_the_run_resolves_to() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), MODEL).unwrap();
        let model = LlamaConfig::from_dir(dir.path()).unwrap();
        let path = dir.path().to_str().unwrap();
        for set in [&[][..], &["data.protocol=paper"], &["lora=false"]] {
            let config = read("sequence", path, set);
            let preview = config.clone().preview().unwrap();
            assert_eq!(preview.open, [""; 0]);
            assert_eq!(
                preview.toml,
                config.resolve(&model).config.to_toml().unwrap()
            );
        }
        let preview = read("token", path, &["train.micro_batch_size=auto"]).preview();
        let preview = preview.unwrap();
        assert!(preview.toml.contains("classifier_dropout = 0.3"));
        assert_eq!(
            preview.open,
            [
                "data.scheme (`labels` where no tag has a prefix such as B-), \
                 train.metric_for_best_model: by the training data",
                "train.pass_size: by the memory that is free",
            ]
        );
        let file = dir.path().join("config.json");
        let no_folder = read("sequence", file.to_str().unwrap(), &[]).preview();
        let error = no_folder.unwrap_err().to_string();
        assert!(error.contains("no such folder"), "{error}");
        for (set, part) in [
            (
                &["model.attention=from:2"][..],
                "layer 2 is past the last of 2 layers",
            ),
            (
                &["lora=false", "train.layers=1-2"],
                "the model has 2 layers",
            ),
        ] {
            let error = read("sequence", path, set).preview().unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn without_it_only_what_it_decides_is_left_open() {
        let of = |keys: &str| {
            let reason = "by the model's config.json, and gone is not here";
            vec![format!("{keys}: {reason}")]
        };
        let attention = "lora.target_modules, model.attention, model.pooling";
        assert_eq!(open("sequence", &[]), of(attention));
        assert_eq!(
            open("sequence", &["model.attention=causal", "lora=false"]),
            [""; 0]
        );
        let paper = format!("data.pad_to, data.padding, {attention}");
        assert_eq!(open("sequence", &["data.protocol=paper"]), of(&paper));
        assert_eq!(
            open("token", &["data.scheme=iob2"]),
            of("lora.target_modules, model.attention, model.classifier_dropout")
        );
        let known = "task = 'token'\nmodel.path = 'gone'\ndata.dataset = 'conll03'\n\
                     data.dir = 'nowhere'\n";
        let known = RunConfig::from_toml(known, "run.toml", &[]).unwrap();
        let open = known.preview().unwrap().open;
        assert_eq!(
            open[1..],
            [
                "train.metric_for_best_model: by the training data",
                "data.dir: the data set conll03 is not here",
            ]
        );
        let preview = read("sequence", "gone", &["model.attention=bidirectional"]);
        let toml = preview.preview().unwrap().toml;
        let table: Table = toml.parse().unwrap();
        assert_eq!(table["model"]["path"].as_str(), Some("gone"));
        assert_eq!(table["model"]["pooling"].as_str(), Some("mean"));
        assert_eq!(table["data"]["max_length"].as_integer(), Some(256));
        let train = table["data"]["train"].as_str().unwrap();
        assert!(std::path::Path::new(train).is_absolute());
        // It reads back, and says the same.
        let again = RunConfig::from_toml(&toml, "", &[]).unwrap();
        assert_eq!(again.preview().unwrap().toml, toml);
    }
}
