//! What the keys of a configuration may hold, as JSON Schema: types of other crates, which know
//! nothing of schemas, and values that are read by hand. Each says what its reader accepts; its
//! test holds both against the same values.

use ls_data::{FileFormat, TagScheme, catalog};
use ls_lora::Quantization;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::Deserializer;
use serde::de::value::Error as NamesError;
use serde::de::{DeserializeOwned, Error, Visitor};
use serde_json::{Value, json};

use super::settings::LoraSettings;
use crate::bounds::{BATCH, MOST};
use crate::scores::Scores;

/// What the schema as a whole says of itself.
pub(super) const ABOUT: &str = "What `ls-cli train --config FILE` reads. docs/configuration.md \
                                lists every key.";

/// A layer's number, as Rust reads one, with spaces around it.
const NUMBER: &str = r"\s*\+?[0-9]+\s*";

/// The names of an enum's variants, as serde's derive hands them to a deserializer, with the other
/// names that are read too.
pub(super) fn names<T: DeserializeOwned>(_: &mut SchemaGenerator) -> Schema {
    struct Capture<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Capture<'_> {
        type Error = NamesError;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NamesError> {
            Err(NamesError::custom("only an enum has names"))
        }

        fn deserialize_enum<V: Visitor<'de>>(
            self,
            _: &'static str,
            variants: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, NamesError> {
            *self.0 = variants;
            self.deserialize_any(visitor)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
        }
    }

    let mut names: &'static [&'static str] = &[];
    // An error in any case: there is nothing to read.
    let _ = T::deserialize(Capture(&mut names));
    one_of(names)
}

/// One of these texts.
fn one_of(names: &[impl AsRef<str>]) -> Schema {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    json_schema!({ "type": "string", "enum": names })
}

/// A text in a form, and what the form is called.
fn text(title: &str, pattern: &str) -> Schema {
    json_schema!({ "title": title, "type": "string", "pattern": pattern })
}

fn any_of(schemas: impl IntoIterator<Item = Schema>) -> Schema {
    let schemas: Vec<Value> = schemas.into_iter().map(Schema::to_value).collect();
    json_schema!({ "anyOf": schemas })
}

/// A regular expression that these names match in any case.
fn in_any_case(names: &[&str]) -> String {
    let letter = |c: char| match (c.to_ascii_uppercase(), c.to_ascii_lowercase()) {
        (upper, lower) if upper != lower => format!("[{upper}{lower}]"),
        _ if r"^$\.*+?()[]{}|".contains(c) => format!(r"\{c}"),
        _ => c.to_string(),
    };
    let names: Vec<String> = names
        .iter()
        .map(|name| name.chars().map(letter).collect())
        .collect();
    format!("^({})$", names.join("|"))
}

pub(super) fn quantization(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = names::<Quantization>(generator);
    if let Some(Value::Array(names)) = schema.get_mut("enum") {
        names.insert(0, "none".into());
    }
    schema
}

pub(super) fn path(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "title": "path", "type": "string" })
}

pub(super) fn files(generator: &mut SchemaGenerator) -> Schema {
    let several = json_schema!({
        "title": "list of paths",
        "type": "array",
        "items": path(generator),
        "minItems": 1,
    });
    any_of([path(generator), several])
}

/// The table of the adapters, or `false`. As one schema, so that a fault in the table is told by
/// its key.
pub(super) fn adapters(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<LoraSettings>();
    schema.insert("type".into(), json!(["object", "boolean"]));
    schema.insert("not".into(), json!({ "const": true }));
    schema
}

pub(super) fn attention(_: &mut SchemaGenerator) -> Schema {
    let range = format!("{NUMBER}(-{NUMBER})?");
    any_of([
        one_of(&["causal", "bidirectional"]),
        text("from:LAYER", &format!("^from:{NUMBER}$")),
        text(
            "layers:FIRST-LAST,...",
            &format!("^layers:{range}(,{range})*$"),
        ),
        text("groups:BITS", "^groups:[01]+$"),
    ])
}

pub(super) fn layers(_: &mut SchemaGenerator) -> Schema {
    let range = format!("{NUMBER}(-{NUMBER})?");
    let layer = json_schema!({ "title": "number of a layer", "type": "integer", "minimum": 0 });
    let several = json_schema!({
        "title": "list of numbers",
        "type": "array",
        "items": { "type": "integer", "minimum": 0 },
        "minItems": 1,
    });
    let ranges = format!("^{range}(,{range})*$");
    any_of([text("FIRST-LAST,...", &ranges), layer, several])
}

pub(super) fn fold(_: &mut SchemaGenerator) -> Schema {
    text("PART/PARTS", "^[1-9][0-9]{0,3}/([2-9]|[1-9][0-9]{1,3})$")
}

pub(super) fn target_modules(_: &mut SchemaGenerator) -> Schema {
    let list = json_schema!({
        "title": "list of names",
        "type": "array",
        "items": { "type": "string" },
        "minItems": 1,
    });
    let pattern = json_schema!({ "title": "regular expression", "type": "string" });
    any_of([list, one_of(&["all-linear"]), pattern])
}

pub(super) fn init_lora_weights(_: &mut SchemaGenerator) -> Schema {
    any_of([
        one_of(&["default", "gaussian", "orthogonal", "pissa", "olora"]),
        text(
            "pissa_niter_N with N up to 1024",
            r"^pissa_niter_\+?0*([0-9]{1,3}|10[01][0-9]|102[0-4])$",
        ),
        // As PEFT's files have the default.
        json_schema!({ "type": "boolean", "const": true }),
        text(
            "gaussian or olora in any case",
            &in_any_case(&["gaussian", "olora"]),
        ),
    ])
}

pub(super) fn data_set(_: &mut SchemaGenerator) -> Schema {
    let known: Vec<&str> = catalog::all().iter().map(|set| set.name.as_str()).collect();
    let aliases = catalog::all().iter().flat_map(|set| &set.aliases);
    let others: Vec<&str> = aliases.map(String::as_str).chain(known.clone()).collect();
    any_of([
        one_of(&known),
        text("path of a TOML file", r"\.toml$"),
        text("another of their names, in any case", &in_any_case(&others)),
    ])
}

pub(super) fn format(_: &mut SchemaGenerator) -> Schema {
    let names = FileFormat::ALL.map(FileFormat::name);
    one_of(&[&names[..], &["json", "conllu"]].concat())
}

pub(super) fn delimiter(_: &mut SchemaGenerator) -> Schema {
    any_of([
        one_of(&["tab", "\\t"]),
        text("one character", r"^[\x01-\x09\x0B\x0C\x0E-\x21\x23-\x7F]$"),
    ])
}

/// The standard's names in many spellings: which of them there are, only their reader knows.
pub(super) fn encoding(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "title": "name of an encoding",
        "type": "string",
        "examples": ["utf-8", "utf-16", "windows-1252", "latin-1", "shift_jis", "gb18030"],
    })
}

pub(super) fn column(_: &mut SchemaGenerator) -> Schema {
    any_of([
        json_schema!({ "title": "name", "type": "string" }),
        json_schema!({ "title": "number from 0", "type": "integer", "minimum": 0 }),
    ])
}

pub(super) fn columns(generator: &mut SchemaGenerator) -> Schema {
    let column = column(generator);
    json_schema!({ "title": "list of names or numbers", "type": "array", "items": column })
}

pub(super) fn scheme(_: &mut SchemaGenerator) -> Schema {
    let mut names = TagScheme::ALL.map(TagScheme::name).to_vec();
    names.push("labels");
    schemes(&names)
}

pub(super) fn train_scheme(_: &mut SchemaGenerator) -> Schema {
    schemes(&TagScheme::ALL.map(TagScheme::name))
}

fn schemes(names: &[&str]) -> Schema {
    let others = in_any_case(&[names, &["bio", "ioe", "bioes"]].concat());
    any_of([
        one_of(names),
        text("bio, ioe or bioes, and any case", &others),
    ])
}

pub(super) fn micro_batch_size(_: &mut SchemaGenerator) -> Schema {
    let (least, most) = (BATCH.least, BATCH.most);
    any_of([
        json_schema!({ "type": "integer", "minimum": least, "maximum": most }),
        one_of(&["auto"]),
    ])
}

/// Those of all problems: which of them a run has, depends on the task, on the type of the problem
/// and on what its tags say.
pub(super) fn metric(_: &mut SchemaGenerator) -> Schema {
    one_of(&Scores::all_keys())
}

pub(super) fn class_weight(_: &mut SchemaGenerator) -> Schema {
    let table = json_schema!({
        "title": "table of labels and weights",
        "type": "object",
        "additionalProperties": { "type": "number", "exclusiveMinimum": 0, "maximum": MOST },
    });
    any_of([one_of(&["balanced"]), table])
}
