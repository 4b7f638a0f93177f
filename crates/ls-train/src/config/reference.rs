//! The reference of every key as a page of Markdown, made from the schema.

use serde_json::Value;

use super::read::READING;
use super::schema::{json_schema, keys_in};
use crate::resume::{DIVIDES, FREE, PLACES, SHARES};

/// Above the tables.
const BEGINNING: &str = "\
# Configuration

<!-- `ls-cli config docs` writes this page, from the doc comments in crates/ls-train/src/config. -->

A run is a TOML file: `ls-cli train --config run.toml`. It says what is labelled (`task`), by which
model (`model.path`), and from which examples (`data.train`, or a known set by `data.dataset`);
every other key may be left out. `[train]` above `epochs = 3` and `train.epochs = 3` mean the same.
`--set train.epochs=3` sets one key over the file. Keys that there are not, with the key that was
likely meant, and values that no run can have are reported together, before weights or data are
read. Where the tables below have no default, the key is not set unless its text says what is taken
then.

`ls-cli config show --config run.toml` prints what a file comes to, as the run writes it into the
`config.toml` of its folder. It reads neither weights nor data, and says what it leaves open because
these decide it.

## In an editor

`ls-cli config schema` prints a JSON Schema of this page; the repository has it as
[configuration.schema.json](configuration.schema.json). Editors that know
[Taplo](https://taplo.tamasfe.dev) (in VS Code the extension Even Better TOML) complete and check a
file whose first line names it, by a path from the file or by an address:

```sh
ls-cli config schema > ls-llama.schema.json
```

```toml
#:schema ls-llama.schema.json
task = \"sequence\"
model.path = \"llama-3.2-1b\"
data.train = \"reviews.csv\"
```

To ls-cli the line is a comment. The schema knows each key by itself: what depends on several keys,
on the model or on the data is checked by `train` and, as far as it goes, by `config show`.
";

/// The reference of every key, as `ls-cli config docs` prints it.
pub fn reference_page() -> String {
    let schema = json_schema();
    let mut page = BEGINNING.to_string();
    let keys = keys_in(&schema).into_iter().flatten();
    let (tables, outside): (Vec<_>, Vec<_>) = keys.partition(|(_, key)| keys_in(key).is_some());
    page.push_str("\n## Outside of the tables\n\n");
    page.push_str(&table(outside.into_iter(), &required(&schema)));
    for (name, schema) in tables {
        let about = text_of(schema, "description");
        let about = wrapped(about, 100);
        page.push_str(&format!("\n## `[{name}]`\n\n{about}\n\n"));
        let keys = keys_in(schema).into_iter().flatten();
        page.push_str(&table(keys, &required(schema)));
    }
    let listed = |keys: &mut dyn Iterator<Item = &'static str>| {
        let keys: Vec<String> = keys.map(|key| format!("`{key}`")).collect();
        wrapped(&format!("{}.", keys.join(", ")), 100)
    };
    let shares = wrapped(
        &format!(
            "So may `{SHARES}`, where a step keeps its examples (8 and `auto`), and where things \
             stand, if what stands there is the same:"
        ),
        100,
    );
    page.push_str(&format!(
        "\n## What other commands set\n\nKeys of `data` that say how a file is read, which \
         `evaluate --data` and `predict` take too:\n\n{}\n\nKeys that may change where a run goes \
         on (`train --resume`):\n\n{}\n\n{shares}\n\n{}\n",
        listed(&mut READING.into_iter()),
        listed(&mut FREE.into_iter().chain([DIVIDES])),
        listed(&mut PLACES.into_iter()),
    ));
    page
}

/// A row for each key.
fn table<'a>(keys: impl Iterator<Item = (&'a String, &'a Value)>, required: &[&str]) -> String {
    let mut rows = String::from("| key | value | default | meaning |\n|---|---|---|---|\n");
    for (key, schema) in keys {
        let default = match schema.get("default") {
            Some(value) => format!("`{value}`"),
            None if required.contains(&key.as_str()) => "required".into(),
            None => String::new(),
        };
        let cells = [format!("`{key}`"), values(schema), default, meaning(schema)];
        let cells = cells.map(|cell| cell.replace('|', "\\|").replace("\n\n", "<br>"));
        rows.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    rows
}

/// The keys that a table cannot be without.
fn required(schema: &Value) -> Vec<&str> {
    let keys = schema.get("required").and_then(Value::as_array);
    keys.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn text_of<'a>(schema: &'a Value, keyword: &str) -> &'a str {
    schema
        .get(keyword)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The schemas of which a value has to fit one.
pub(super) fn alternatives(schema: &Value) -> Vec<&Value> {
    let of = |keyword: &str| schema.get(keyword).and_then(Value::as_array);
    match of("anyOf").or_else(|| of("oneOf")) {
        Some(schemas) => schemas.iter().collect(),
        None => vec![schema],
    }
}

/// What is said of a key, and of those of its values that say something of themselves.
fn meaning(schema: &Value) -> String {
    let mut said = text_of(schema, "description").to_string();
    for value in alternatives(schema) {
        if let (Some(name), about) = (value.get("const"), text_of(value, "description"))
            && !about.is_empty()
        {
            said.push_str(&format!("\n\n`{name}`: {about}"));
        }
    }
    said
}

/// The values that a key may have, in words.
fn values(schema: &Value) -> String {
    let all: Vec<String> = alternatives(schema).into_iter().flat_map(value).collect();
    match all.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The values that fit one schema without alternatives.
fn value(schema: &Value) -> Vec<String> {
    if let Some(names) = schema.get("enum").and_then(Value::as_array) {
        return names.iter().map(|name| format!("`{name}`")).collect();
    }
    if let Some(value) = schema.get("const") {
        return vec![format!("`{value}`")];
    }
    let title = text_of(schema, "title");
    if !title.is_empty() {
        return vec![title.into()];
    }
    vec![match text_of(schema, "type") {
        "boolean" => return vec!["`true`".into(), "`false`".into()],
        "array" => "list of texts".into(),
        "string" => "text".into(),
        _ => numbers(schema),
    }]
}

/// Numbers between bounds.
fn numbers(schema: &Value) -> String {
    let bound = |keyword: &str| Some(written(schema.get(keyword)?));
    let whole = match text_of(schema, "type") {
        "integer" => "integer",
        _ => "number",
    };
    let least = bound("minimum");
    let over = bound("exclusiveMinimum").map(|bound| format!("over {bound}"));
    let under = bound("exclusiveMaximum").map(|bound| format!("under {bound}"));
    match (least, bound("maximum"), over, under) {
        (Some(least), Some(most), ..) => format!("{whole} from {least} to {most}"),
        (Some(least), .., Some(under)) => format!("{whole} from {least}, {under}"),
        (Some(least), ..) => format!("{whole} from {least}"),
        (_, Some(most), Some(over), _) => format!("{whole} {over}, at most {most}"),
        (.., Some(over), Some(under)) => format!("{whole} {over}, {under}"),
        _ => whole.into(),
    }
}

/// A bound; a large float without its zeros.
fn written(bound: &Value) -> String {
    match bound.as_f64() {
        Some(number) if bound.is_f64() && number.abs() >= 1e6 => format!("{number:e}"),
        _ => bound.to_string(),
    }
}

/// Lines of at most `width` characters, as far as words allow.
pub(super) fn wrapped(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + word.chars().count() < width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines.join("\n")
}
