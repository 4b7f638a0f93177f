//! A validator of the keywords that the schema has, as draft 2020-12 defines them. Validators from
//! elsewhere change features of crates that burn is built with too, and so build burn once more.

use regex::Regex;
use serde_json::Value;

/// What of a value does not fit, each with its path.
///
/// # Panics
///
/// On a keyword that is not known here.
pub(super) fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, value, "", &mut found);
    found
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let keywords = schema.as_object().expect("a schema is an object");
    for (keyword, said) in keywords {
        let fits = match keyword.as_str() {
            "$schema" | "title" | "description" | "default" | "examples" => true,
            "type" => match said {
                Value::Array(types) => types.iter().any(|name| is_of_type(value, name)),
                name => is_of_type(value, name),
            },
            "not" => !faults(said, value).is_empty(),
            "enum" => said.as_array().unwrap().contains(value),
            "const" => said == value,
            "pattern" => value
                .as_str()
                .is_none_or(|text| Regex::new(said.as_str().unwrap()).unwrap().is_match(text)),
            "minLength" => value
                .as_str()
                .is_none_or(|text| text.chars().count() as u64 >= said.as_u64().unwrap()),
            "minimum" => compare(value, said, |value, bound| value >= bound),
            "maximum" => compare(value, said, |value, bound| value <= bound),
            "exclusiveMinimum" => compare(value, said, |value, bound| value > bound),
            "exclusiveMaximum" => compare(value, said, |value, bound| value < bound),
            "minItems" => length(value).is_none_or(|length| length >= said.as_u64().unwrap()),
            "maxItems" => length(value).is_none_or(|length| length <= said.as_u64().unwrap()),
            "uniqueItems" => value.as_array().is_none_or(|items| {
                let repeated = |at: usize| items[..at].contains(&items[at]);
                !(0..items.len()).any(repeated)
            }),
            "items" => {
                for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(said, item, &format!("{path}[{at}]"), found);
                }
                true
            }
            "properties" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = said.get(key) {
                        check(schema, value, &join(path, key), found);
                    }
                }
                true
            }
            "additionalProperties" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    if schema["properties"].get(key).is_some() {
                        continue;
                    }
                    if said == false {
                        found.push(format!("{}: additionalProperties", join(path, key)));
                    } else {
                        check(said, value, &join(path, key), found);
                    }
                }
                true
            }
            "required" => has_all(value, said),
            "dependentRequired" => said
                .as_object()
                .unwrap()
                .iter()
                .all(|(key, needed)| value.get(key).is_none() || has_all(value, needed)),
            "anyOf" => fitting(said, value) > 0,
            "oneOf" => fitting(said, value) == 1,
            unknown => panic!("{path}: the keyword {unknown} is not known here"),
        };
        if !fits {
            found.push(format!("{path}: {keyword}"));
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_string()
    } else {
        format!("{path}.{key}")
    }
}

fn is_of_type(value: &Value, name: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        // A float without a fraction is an integer too.
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        unknown => panic!("the type {unknown} is not known here"),
    }
}

fn compare(value: &Value, bound: &Value, holds: fn(f64, f64) -> bool) -> bool {
    let bound = bound.as_f64().unwrap();
    value.as_f64().is_none_or(|value| holds(value, bound))
}

fn length(value: &Value) -> Option<u64> {
    value.as_array().map(|items| items.len() as u64)
}

fn has_all(value: &Value, keys: &Value) -> bool {
    let mut keys = keys.as_array().unwrap().iter();
    !value.is_object() || keys.all(|key| value.get(key.as_str().unwrap()).is_some())
}

/// How many of these schemas a value fits.
fn fitting(schemas: &Value, value: &Value) -> usize {
    let schemas = schemas.as_array().unwrap().iter();
    schemas
        .filter(|schema| faults(schema, value).is_empty())
        .count()
}
