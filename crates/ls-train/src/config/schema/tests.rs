//! The schema against the reader, on the same values, and against what the repository shows.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};
use toml::Table;

use super::validate::faults;
use super::*;
use crate::config::reference::{alternatives, reference_page};
use crate::problem::Problem;
use crate::scores::Scores;

fn faults_of(text: &str) -> Vec<String> {
    static SCHEMA: LazyLock<Value> = LazyLock::new(json_schema);
    let table: Table = text
        .parse()
        .unwrap_or_else(|error| panic!("{text}\n{error}"));
    faults(&SCHEMA, &serde_json::to_value(table).unwrap())
}

/// The path of each key that is no table, with its schema.
fn all_keys(schema: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (name, key) in keys_in(schema).unwrap() {
        match keys_in(key) {
            Some(keys) => all.extend(
                keys.iter()
                    .map(|(key, schema)| (format!("{name}.{key}"), schema.clone())),
            ),
            None => all.push((name.clone(), key.clone())),
        }
    }
    all
}

/// What else a configuration says in which a key may stand by itself.
fn around(key: &str) -> Vec<&'static str> {
    let task = match key {
        "task" => "",
        "data.scheme" | "data.train_scheme" | "data.tag_separator" => "task = 'token'",
        _ => "task = 'sequence'",
    };
    let problem = match key {
        "data.label_delimiter" | "train.threshold" => {
            "model.problem_type = 'multi_label_classification'"
        }
        _ => "",
    };
    let model = match key {
        "model.path" => "",
        _ => "model.path = 'm'",
    };
    let data = match key {
        "data.train" | "data.dataset" => "",
        "data.dir" | "data.language" => "data.dataset = 'sst2'",
        _ => "data.train = 'a.csv'",
    };
    let lora = match key {
        "train.layers" => "lora = false",
        _ => "",
    };
    let lines = [task, model, problem, data, lora];
    lines.into_iter().filter(|line| !line.is_empty()).collect()
}

/// Values of every kind, as TOML: at and past each bound, every name in the schema and in other
/// letters, and what some key reads in a way of its own.
fn samples(keys: &[(String, Value)]) -> Vec<String> {
    let numbers = "true false -1 0 1 2 12 65536 65537 16777216 16777217 1099511627776 1099511627777 \
                   -0.1 0.0 0.1 0.5 1.5 16.5 1e9 2e9 -1e9 -2e9 1e38 2e38";
    let lists = "[] ['a'] ['a','b'] ['a','a'] [0] [1,2] ['a',2] [-1] [true] {a=1} {}";
    let words = "a a.csv review x.tom from:2 from:+2 from:-2 from: from:x layers:0-7,24-31 layers: \
                 layers:1- layers:1-2-3 groups:0011 groups:012 16-31 0,4-7 3 3, a-b pissa_niter_4 \
                 pissa_niter_0 pissa_niter_1024 pissa_niter_1025 pissa_niter_2000 \
                 pissa_niter_ pissa_niter_x BIO Bioes IOBES Labels GAUSSIAN Olora PISSA SST2 AG_NEWS \
                 conll-2003 wnut AUTO Causal , ; | tab TAB \\t :: \" é LATIN-1 cp1252 all-linear \
                 All-Linear q_proj .*q_proj \
                 2/5 5/2 1/1 01/2 12/12 1/10000";
    let others = ["", " ", "\t", "\n", "from: 2 ", "layers:5, 1-2"];
    let mut texts: Vec<&str> = words.split_whitespace().chain(others).collect();
    for (_, schema) in keys {
        for value in alternatives(schema) {
            let names = value.get("enum").and_then(Value::as_array);
            let names = names.into_iter().flatten().chain(value.get("const"));
            texts.extend(names.filter_map(Value::as_str));
        }
    }
    texts.sort();
    texts.dedup();
    let texts = texts.into_iter().map(|text| json!(text).to_string());
    let others = numbers.split_whitespace().chain(lists.split(' '));
    others.map(String::from).chain(texts).collect()
}

/// Whether the schema takes a value that the reader refuses, for a reason that no schema knows.
fn past_the_schema(key: &str, schema: &Value, value: &str) -> bool {
    let is_text = value.starts_with('"');
    match key {
        // By the data set.
        "data.language" => is_text,
        "data.encoding" => is_text,
        // By what is in the folder.
        "model.adapter" => is_text,
        // By how many parts there are.
        "data.fold" => value == "\"5/2\"",
        // By the tokens of a batch.
        "data.pad_to" => value.len() >= 5,
        // By the task.
        "data.dataset" => ["conll", "ontonotes", "wnut"]
            .iter()
            .any(|name| value.contains(name)),
        "train.metric_for_best_model" => {
            let others = Scores::keys(Problem::SingleLabel);
            !others.iter().any(|key| value == format!("\"{key}\""))
        }
        // A float without a fraction is an integer to JSON Schema.
        _ => {
            let is_float = value.contains(['.', 'e']);
            let whole = value.parse().is_ok_and(|number: f64| number.fract() == 0.0);
            schema["type"] != "number" && is_float && whole
        }
    }
}

#[test]
fn a_key_has_the_values_that_the_reader_takes() {
    let schema = json_schema();
    let keys = all_keys(&schema);
    assert!(keys.len() > 70, "{}", keys.len());
    let samples = samples(&keys);
    let mut wrong = Vec::new();
    for (key, schema) in &keys {
        let around = around(key).join("\n");
        let mut taken = 0;
        for sample in &samples {
            let text = format!("{around}\n{key} = {sample}\n");
            let found = faults_of(&text);
            match RunConfig::from_toml(&text, "", &[]) {
                Ok(_) if found.is_empty() => taken += 1,
                Ok(_) => wrong.push(format!("{key} = {sample} is read, but {found:?}")),
                Err(_) if past_the_schema(key, schema, sample) => {}
                Err(error) if found.is_empty() => {
                    wrong.push(format!("{key} = {sample} fits, but {error}"));
                }
                Err(_) => {}
            }
        }
        let by_others = ["data.language", "model.adapter"];
        assert!(
            taken > 0 || by_others.contains(&key.as_str()),
            "{key} takes no sample"
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn defaults_are_those_of_the_reader() {
    let text = "task = 'sequence'\nmodel.path = 'm'\ndata.train = 'a.csv'\n";
    let config = RunConfig::from_toml(text, "", &[]).unwrap();
    let written = serde_json::to_value(&config).unwrap();
    for (key, schema) in all_keys(&json_schema()) {
        let pointer = format!("/{}", key.replace('.', "/"));
        let value = written.pointer(&pointer).unwrap();
        match schema.get("default") {
            Some(default) => assert_eq!(default, value, "{key}"),
            None => assert!(
                value.is_null() || text.contains(&format!("{key} =")),
                "{key}: {value}"
            ),
        }
        assert!(!schema["description"].as_str().unwrap().is_empty(), "{key}");
    }
}

#[test]
fn what_is_misspelt_missing_or_doubled_does_not_fit() {
    let minimal = "task = 'sequence'\nmodel.path = 'm'\ndata.train = 'a.csv'\n";
    assert_eq!(faults_of(minimal), [""; 0]);
    for (more, fault) in [
        ("modle.path = 'm'", "modle: additionalProperties"),
        (
            "train.learning_rat = 1",
            "train.learning_rat: additionalProperties",
        ),
        ("lora.dropout = 0.1", "lora.dropout: additionalProperties"),
        ("lora.r = 0", "lora.r: minimum"),
        ("lora = true", "lora: not"),
        ("lora = 3", "lora: type"),
        ("model.dtype = 'f8'", "model.dtype: enum"),
        ("data.dataset = 'sst2'", "data: oneOf"),
        ("data.dir = 'x'", "data: dependentRequired"),
    ] {
        let found = faults_of(&format!("{minimal}{more}\n"));
        assert!(
            found.iter().any(|found| found == fault),
            "{more}: {found:?}"
        );
    }
    for (text, fault) in [
        ("model.path = 'm'\ndata.train = 'a'", ": required"),
        ("task = 'token'\ndata.train = 'a'", ": required"),
        (
            "task = 'token'\nmodel = {}\ndata.train = 'a'",
            "model: anyOf",
        ),
        (
            "task = 'token'\nmodel.path = 'm'\ndata.label = 'a'",
            "data: oneOf",
        ),
    ] {
        let found = faults_of(text);
        assert!(
            found.iter().any(|found| found == fault),
            "{text}: {found:?}"
        );
    }
}

/// Files of the repository with an ending, where people read: not in `target` and the like.
fn files(ending: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    let folders = ["", "benches", "configs", "datasets", "docs"].map(|name| root.join(name));
    let crates = std::fs::read_dir(root.join("crates")).unwrap();
    let crates = crates.map(|entry| entry.unwrap().path());
    for folder in folders.into_iter().chain(crates) {
        let entries = std::fs::read_dir(folder).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        files.extend(paths.filter(|path| path.extension().is_some_and(|found| found == ending)));
    }
    files
}

#[test]
fn every_config_of_the_repository_fits() {
    let configs = files("toml").into_iter();
    let configs: Vec<_> = configs
        .filter(|path| path.parent().unwrap().ends_with("configs"))
        .collect();
    assert_eq!(configs.len(), 21);
    for path in configs {
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(faults_of(&text), [""; 0], "{}", path.display());
        let line = "#:schema ../docs/configuration.schema.json\n";
        assert!(text.starts_with(line), "{}", path.display());
    }
}

/// What a table lacks to be a configuration is added.
fn completed(mut table: Table) -> Table {
    let inner = |table: &mut Table, name: &str| {
        let inner = table.entry(name).or_insert_with(|| Table::new().into());
        inner.as_table().cloned().unwrap()
    };
    table.entry("task").or_insert("sequence".into());
    let mut model = inner(&mut table, "model");
    model.entry("path").or_insert("m".into());
    let mut data = inner(&mut table, "data");
    if !data.contains_key("dataset") {
        data.entry("train").or_insert("a.csv".into());
    }
    if data.contains_key("dir") || data.contains_key("language") {
        data.remove("train");
        data.entry("dataset").or_insert("sst2".into());
    }
    table.insert("model".into(), model.into());
    table.insert("data".into(), data.into());
    table
}

#[test]
fn every_example_in_prose_fits() {
    let schema = json_schema();
    let keys = all_keys(&schema);
    let block = Regex::new(r"(?ms)^```toml\n(.*?)^```").unwrap();
    let code = Regex::new(r"`((?:model|lora|data|train)\.[a-z_0-9]+ = [^`]+)`").unwrap();
    let place = Regex::new(r#"= "?[A-Z]+"?$"#).unwrap();
    let set =
        Regex::new(r"--set '?((?:model|lora|data|train)\.[a-z_0-9]+|lora|task|run)=").unwrap();
    let (mut blocks, mut codes, mut sets) = (0, 0, 0);
    for path in files("md") {
        let text = std::fs::read_to_string(&path).unwrap();
        let shown = path.display();
        let check = |text: &str| {
            let table: Table = text
                .parse()
                .unwrap_or_else(|error| panic!("{shown}: {text}\n{error}"));
            // Cargo's, and descriptions of data sets.
            if ["dependencies", "profile", "hub", "splits", "name"]
                .iter()
                .any(|key| table.contains_key(*key))
            {
                return false;
            }
            let found = faults(&schema, &serde_json::to_value(completed(table)).unwrap());
            assert_eq!(found, [""; 0], "{shown}: {text}");
            true
        };
        for found in block.captures_iter(&text) {
            blocks += usize::from(check(&found[1]));
        }
        for found in code.captures_iter(&text) {
            // A name in capitals stands for one of the reader's own.
            if !place.is_match(&found[1]) {
                codes += usize::from(check(&found[1].replace('\n', " ")));
            }
        }
        for found in set.captures_iter(&text) {
            let known = keys.iter().any(|(key, _)| *key == found[1]) || &found[1] == "lora";
            assert!(known, "{shown}: {}", &found[1]);
            sets += 1;
        }
    }
    // That many at least there are.
    assert!(
        blocks >= 3 && codes >= 15 && sets >= 15,
        "{blocks} {codes} {sets}"
    );
}

#[test]
fn the_page_has_a_row_for_each_key() {
    let page = reference_page();
    for (key, schema) in all_keys(&json_schema()) {
        let name = key.rsplit('.').next().unwrap();
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("{key}"));
        // Values, default and meaning; escaped bars part no cells.
        let row = row.replace("\\|", "");
        let cells: Vec<&str> = row.split(" | ").collect();
        assert_eq!(cells.len(), 4, "{row}");
        assert!(!cells[1].trim().is_empty(), "{row}");
        assert!(!schema["description"].is_null());
    }
    for part in [
        "| `task` | `\"sequence\"` or `\"token\"` | required |",
        "| `epochs` | integer from 1 to 16777216 | `3` |",
        "`\"causal\"`, `\"bidirectional\"`, from:LAYER, layers:FIRST-LAST,... or groups:BITS",
        "`\"strict\"`: Every word is scored",
        "tab or `\\|`)",
        "## `[lora]`\n\nThe adapters; `lora = false` for none.",
    ] {
        assert!(page.contains(part), "{part}");
    }
}
