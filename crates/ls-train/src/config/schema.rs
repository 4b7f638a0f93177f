//! The JSON Schema of a configuration, derived from its structs; and which keys there are, which
//! the reader takes from there.

use std::sync::OnceLock;

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::{Map, Value, json};

use super::settings::RunConfig;

/// The JSON Schema (draft 2020-12) of a configuration file: its keys with their descriptions,
/// values, bounds and defaults. Every key stands with all that is known of it, without references.
///
/// What depends on several keys, on the checkpoint or on the data is no part of it, nor whether the
/// name of an encoding is known and a regular expression is one.
pub fn json_schema() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let generator = settings.with_transform(AsInToml).into_generator();
    let mut schema = generator.into_root_schema_for::<RunConfig>().to_value();
    // A table that is not there has its defaults, so that the structs do not say what is required.
    schema["required"] = json!(["task", "model", "data"]);
    let tables = &mut schema["properties"];
    tables["model"]["anyOf"] = json!([{ "required": ["path"] }, { "required": ["adapter"] }]);
    if let Some(path) = tables["model"]["properties"]["path"].as_object_mut() {
        path.shift_remove("default");
    }
    tables["data"]["oneOf"] = json!([{ "required": ["train"] }, { "required": ["dataset"] }]);
    tables["data"]["dependentRequired"] = json!({ "dir": ["dataset"], "language": ["dataset"] });
    // What it is comes first.
    if let Value::Object(all) = &mut schema {
        for keyword in ["description", "title", "$schema"] {
            if let Some(value) = all.shift_remove(keyword) {
                all.shift_insert(0, keyword.into(), value);
            }
        }
    }
    schema
}

/// TOML has no null, and Rust's numbers are no formats of JSON Schema: their bounds say the same.
/// Lines of a doc comment are those of its paragraph.
#[derive(Debug, Clone)]
struct AsInToml;

impl Transform for AsInToml {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(schema) = schema.as_object_mut() {
            if let Some(Value::Array(types)) = schema.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = &types[..] {
                    let only = only.clone();
                    schema.insert("type".into(), only);
                }
            }
            if schema.get("default").is_some_and(Value::is_null) {
                schema.shift_remove("default");
            }
            schema.shift_remove("format");
            if let Some(Value::String(text)) = schema.get_mut("description") {
                let paragraphs = text.split("\n\n").map(|lines| lines.replace('\n', " "));
                *text = paragraphs.collect::<Vec<_>>().join("\n\n");
            }
        }
        transform_subschemas(self, schema);
    }
}

/// The keys of a table, or of the file, with what is said of each.
pub(super) fn keys_in(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

/// A table of the file.
#[derive(Debug)]
pub(super) struct TableKeys {
    /// Its name; the outermost has none.
    pub(super) name: String,
    /// Its keys, in the order of their struct.
    pub(super) keys: Vec<String>,
}

/// Every table of the file with its keys, the outermost first.
pub(super) fn tables() -> &'static [TableKeys] {
    static TABLES: OnceLock<Vec<TableKeys>> = OnceLock::new();
    TABLES.get_or_init(|| {
        let schema = json_schema();
        let table = |name: &str, schema: &Value| {
            let keys = keys_in(schema)?.keys().cloned().collect();
            let name = name.into();
            Some(TableKeys { name, keys })
        };
        let inner = keys_in(&schema).into_iter().flatten();
        let inner = inner.filter_map(|(name, schema)| table(name, schema));
        table("", &schema).into_iter().chain(inner).collect()
    })
}

/// Whether a table has a key.
pub(super) fn has_key(table: &str, key: &str) -> bool {
    let table = tables().iter().find(|known| known.name == table);
    table.is_some_and(|table| table.keys.iter().any(|known| known == key))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod validate;
