//! A configuration from data files alone: task, format and columns are found in them.

use std::path::Path;

use ls_data::{
    ColumnRef, Delimiter, FileFormat, FoundColumns, GivenColumns, Holds, SniffOptions, Sniffed,
    TaskKind, TextEncoding, catalog, find_columns, sniff,
};
use ls_files::is_folder;
use ls_model::ProblemType;
use toml::{Table, Value};

use super::read::{Named, assign};
use super::settings::RunConfig;
use crate::error::{Result, TrainError};
use crate::problem::Problem;

/// A model and files to train it on.
#[derive(Debug, Clone, Copy)]
pub struct DataFiles<'a> {
    /// Folder of the pretrained model, or another name of it; none where an adapter that the run
    /// begins from names it.
    pub model: Option<&'a Path>,
    /// Labelled examples to learn from.
    pub train: &'a Path,
    /// Examples that choose the best epoch.
    pub validation: Option<&'a Path>,
    /// Examples that are scored once.
    pub test: Option<&'a Path>,
    /// What is labelled, if it is known.
    pub task: Option<TaskKind>,
}

impl RunConfig {
    /// The configuration for files of which no more is said, and what was decided, a line each.
    /// `key=value` overrides win, and what they say is not looked for.
    ///
    /// # Errors
    ///
    /// If the training file cannot be read, or it is not clear which of its columns are meant; and
    /// as [`RunConfig::from_toml`].
    pub fn of_files(files: &DataFiles<'_>, overrides: &[String]) -> Result<(Self, Vec<String>)> {
        let mut set = Table::new();
        for assignment in overrides {
            // Its fault is reported with the others.
            let _ = assign(&mut set, assignment);
        }
        let given = |key: &str| set.get("data")?.as_table()?.get(key);
        let path = |path: &Path| Value::String(path.to_string_lossy().into_owned());
        let mut data = Table::new();
        data.insert("train".into(), path(files.train));
        let others = [("validation", files.validation), ("test", files.test)];
        for (split, file) in others {
            if let Some(file) = file {
                data.insert(split.into(), path(file));
            }
        }
        let mut task = match set.get("task") {
            Some(task) => task.as_str().and_then(|name| name.parse().ok()),
            None => files.task,
        };
        let stated = set.get("model").and_then(|model| model.get("problem_type"));
        let problem = stated.and_then(|name| name.clone().try_into::<ProblemType>().ok());
        if problem.is_some() {
            // Words have none.
            task = task.or(Some(TaskKind::Sequence));
        }
        let mut model = Table::new();
        if let Some(folder) = files.model {
            model.insert("path".into(), path(folder));
        }
        let mut decided = Vec::new();
        let format = given("format").map(|name| name.as_str().and_then(FileFormat::from_name));
        // A format of no known name is a fault of its own.
        if format != Some(None) {
            let mut found = Found {
                keys: Vec::new(),
                data: &mut data,
                model: &mut model,
                problem,
            };
            let others: Vec<&Path> = others.iter().filter_map(|(_, file)| *file).collect();
            let columns = found.columns(files.train, &others, format.flatten(), task, given)?;
            if task.is_none() {
                let key = format!("task = \"{}\"", columns.1.task());
                found.keys.insert(0, key);
                task = Some(columns.1.task());
            }
            decided.push(columns.0);
            if !found.keys.is_empty() {
                decided.push(format!("  found: {}", found.keys.join(", ")));
            }
        }
        let mut table = Table::new();
        // Where the format is a fault, the task is none beside it.
        let task = task.unwrap_or(TaskKind::Sequence);
        table.insert("task".into(), task.name().into());
        table.insert("model".into(), model.into());
        table.insert("data".into(), data.into());
        let text = toml::to_string(&table).map_err(|error| TrainError::Config {
            origin: "the command line".into(),
            faults: vec![error.to_string()],
        })?;
        let config = Self::read(&text, "the command line", overrides, Named::LookedUp)?;
        Ok((config, decided))
    }
}

/// What is found, as settings and for people.
struct Found<'a> {
    keys: Vec<String>,
    data: &'a mut Table,
    model: &'a mut Table,
    /// What is learnt of texts, if it is said.
    problem: Option<ProblemType>,
}

impl Found<'_> {
    /// Finds the columns of a file; what it holds, in words, and what was found. The `others` are
    /// read in the same way.
    fn columns<'v>(
        &mut self,
        path: &Path,
        others: &[&Path],
        format: Option<FileFormat>,
        task: Option<TaskKind>,
        given: impl Fn(&str) -> Option<&'v Value>,
    ) -> Result<(String, FoundColumns)> {
        if is_folder(path)? {
            return Err(catalog::folder_fault(path).into());
        }
        // A value that cannot be read is a fault of its own.
        let text = |key: &str| given(key).and_then(Value::as_str).map(str::to_string);
        let column = |key: &str| match given(key)? {
            Value::String(name) => Some(ColumnRef::Name(name.clone())),
            Value::Integer(index) => Some(ColumnRef::Index(usize::try_from(*index).ok()?)),
            _ => None,
        };
        let columns = GivenColumns {
            text: column("text"),
            text_pair: column("text_pair"),
            label: column("label"),
            label_kind: self
                .problem
                .map(|problem| Problem::of(TaskKind::Sequence, Some(problem), None).label_kind()),
            tokens: column("tokens"),
            tags: column("tags"),
        };
        let must = [&columns.text, &columns.text_pair, &columns.label];
        let must: Vec<ColumnRef> = must.into_iter().flatten().cloned().collect();
        let options = SniffOptions {
            format,
            header: given("header").and_then(Value::as_bool).unwrap_or(true),
            delimiter: text("delimiter").and_then(|name| Delimiter::try_from(name).ok()),
            columns: &must,
            encoding: text("encoding").and_then(|name| TextEncoding::try_from(name).ok()),
            task,
        };
        let file = sniff(path, &options)?;
        let found = find_columns(path, &file, task, &columns)?;
        self.problem_of(&file, &found);
        // The ending does not say it: the other files are read in the same way.
        if format.is_none() && FileFormat::from_path(path).ok() != Some(file.format) {
            self.set("format", file.format.name().into(), false);
        }
        // What parts the fields of every file may be said once; the comma needs not be.
        let differs = |other: &&Path| {
            let other = sniff(other, &options).map(|other| other.delimiter);
            other.is_ok_and(|other| other.is_some() && other != file.delimiter)
        };
        if let Some(delimiter) = file.delimiter
            && delimiter.to_string() != ","
            && !others.iter().any(differs)
        {
            let value = String::from(delimiter).into();
            self.set("delimiter", value, given("delimiter").is_some());
        }
        let places = match &found {
            FoundColumns::Sequence {
                columns: Some((text, pair, label)),
            } => vec![
                ("text", Some(text)),
                ("text_pair", pair.as_ref()),
                ("label", Some(label)),
            ],
            FoundColumns::Token {
                columns: Some((tokens, tags)),
            } => {
                // Where the reader looks of itself it also sees that a text with entities beside
                // them says the same; tags that are asked for by name are not compared.
                // In CoNLL it looks in the first and the last column, however many there are.
                let usual: [ColumnRef; 2] = match file.format {
                    FileFormat::Conll => [0.into(), file.columns.len().saturating_sub(1).into()],
                    _ => ["tokens".into(), "tags".into()],
                };
                vec![
                    ("tokens", Some(tokens).filter(|found| **found != usual[0])),
                    ("tags", Some(tags).filter(|found| **found != usual[1])),
                ]
            }
            FoundColumns::Spans { text, spans } => {
                vec![("text", text.as_ref()), ("tags", spans.as_ref())]
            }
            _ => Vec::new(),
        };
        for (key, place) in places {
            if let Some(place) = place {
                let value = match place {
                    ColumnRef::Name(name) => Value::String(name.clone()),
                    ColumnRef::Index(index) => Value::Integer(*index as i64),
                };
                self.set(key, value, given(key).is_some());
            }
        }
        let name = file.format.name();
        let holds = match (file.format, file.columns.len()) {
            (_, 0) => String::new(),
            (FileFormat::Conll, width) => format!(" with {width} columns"),
            (FileFormat::Jsonl, _) => format!(" with the keys {}", file.names().join(", ")),
            _ => format!(" with the columns {}", file.names().join(", ")),
        };
        Ok((format!("{}: {name}{holds}", path.display()), found))
    }

    /// Labels that are lists or fractions say what is learnt, where nothing else does.
    fn problem_of(&mut self, file: &Sniffed, found: &FoundColumns) {
        let FoundColumns::Sequence {
            columns: Some((.., label)),
        } = found
        else {
            return;
        };
        let column = file.columns.iter().find(|column| column.at == *label);
        let problem = match column.map(|column| column.holds) {
            Some(Holds::List) => ProblemType::MultiLabelClassification,
            Some(Holds::Number) => ProblemType::Regression,
            _ => return,
        };
        if self.problem.is_none() {
            let name = problem.name();
            self.keys.push(format!("model.problem_type = \"{name}\""));
            self.model.insert("problem_type".into(), name.into());
        }
    }

    /// Sets a key of `data` unless it is given.
    fn set(&mut self, key: &str, value: Value, given: bool) {
        if !given {
            self.keys.push(format!("data.{key} = {value}"));
            self.data.insert(key.into(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_files(content: &str, name: &str, set: &[&str]) -> Result<(RunConfig, Vec<String>)> {
        let dir = tempfile::tempdir().unwrap();
        let train = dir.path().join(name);
        std::fs::write(&train, content).unwrap();
        let files = DataFiles {
            model: Some(Path::new("m")),
            train: &train,
            validation: None,
            test: Some(Path::new("t.csv")),
            task: None,
        };
        let set: Vec<String> = set.iter().map(|text| text.to_string()).collect();
        let found = RunConfig::of_files(&files, &set);
        found.map(|(config, decided)| {
            let folder = format!("{}/", dir.path().display());
            let decided = decided.iter().map(|line| line.replace(&folder, ""));
            (config, decided.collect())
        })
    }

    #[test]
    fn what_is_found_is_in_the_configuration_and_said() {
        let (config, decided) =
            of_files("id,Review,class\n", "a.csv", &["train.epochs=7"]).unwrap();
        assert_eq!(config.task, TaskKind::Sequence);
        assert_eq!(config.data.text, "Review".into());
        assert_eq!(config.data.label, "class".into());
        assert_eq!(config.data.format, None);
        assert_eq!(config.train.epochs, 7);
        assert_eq!(
            decided,
            [
                "a.csv: csv with the columns id, Review, class",
                "  found: task = \"sequence\", data.text = \"Review\", data.label = \"class\"",
            ]
        );
        let (config, decided) = of_files("Ada x B-PER\n", "a.bio", &["data.tags=1"]).unwrap();
        assert_eq!(config.task, TaskKind::Token);
        assert_eq!(
            (config.data.tokens, config.data.tags),
            (None, Some(1.into()))
        );
        assert_eq!(
            decided,
            ["a.bio: conll with 3 columns", "  found: task = \"token\""]
        );
        // The reader's own columns stay its own: another file may have more of them.
        let (config, decided) = of_files("Ada B-PER\n", "a.bio", &[]).unwrap();
        assert_eq!((config.data.tokens, config.data.tags), (None, None));
        assert_eq!(decided[1], "  found: task = \"token\"");
        // It compares entities beside them.
        let row = r#"{"tokens": ["a"], "tags": ["O"]}"#;
        let (config, decided) = of_files(row, "a.jsonl", &[]).unwrap();
        assert_eq!((config.data.tokens, config.data.tags), (None, None));
        assert_eq!(decided[1], "  found: task = \"token\"");
        let (config, _) = of_files(&row.replace("tags", "ner_tags"), "a.jsonl", &[]).unwrap();
        assert_eq!(config.data.tags, Some("ner_tags".into()));
        let (config, _) = of_files("__label__a b\n", "a.txt", &[]).unwrap();
        assert_eq!(config.data.format.as_deref(), Some("fasttext"));
        let again = RunConfig::from_toml(&config.to_toml().unwrap(), "", &[]).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn what_is_set_wins_and_its_faults_are_told() {
        let set = ["data.text=a", "data.label=b"];
        let (config, decided) = of_files("a,b,text,label\n", "a.csv", &set).unwrap();
        assert_eq!(
            (config.data.text, config.data.label),
            ("a".into(), "b".into())
        );
        assert_eq!(decided[1], "  found: task = \"sequence\"");
        let set = ["data.header=false", "data.text=1", "data.label=0"];
        let (config, _) = of_files("3,a film\n", "a.csv", &set).unwrap();
        assert!(!config.data.header);
        for (set, part) in [
            ("train.epochs=0", "train.epochs: expected 1 to"),
            ("data.format=cvs", "data.format: expected one of csv"),
            ("nonsense", "expected key=value"),
            ("data.headr=false", "did you mean data.header?"),
        ] {
            let error = of_files("text,label\n", "a.csv", &[set])
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("the command line: "), "{error}");
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
        let error = of_files("text,label,class\n", "a.csv", &[]).unwrap_err();
        assert!(error.is_usage());
        let hint = error.hint().unwrap();
        assert_eq!(
            hint,
            "say which is meant: --set data.label=label, or --set data.label=class"
        );
    }
}
