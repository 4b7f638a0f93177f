//! Files as Python and spaCy read them: tables, lists of objects, encodings, spans.

use std::path::Path;

use ls_data::{
    ColumnRef, DataError, FileFormat, Offsets, ReadSpec, SequenceExample, TextEncoding,
    TokenExample, split_words,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn expected(part: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/forms/expected.json");
    let text = std::fs::read_to_string(path).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    value[part].as_array().unwrap().clone()
}

fn sequence(spec: &ReadSpec, data: &[u8]) -> Result<Vec<SequenceExample>, DataError> {
    let reader = std::io::Cursor::new(data.to_vec());
    spec.read_sequence_from(reader, Path::new("data"))?
        .collect()
}

fn tokens(spec: &ReadSpec, data: &[u8]) -> Result<Vec<TokenExample>, DataError> {
    let reader = std::io::Cursor::new(data.to_vec());
    spec.read_tokens_from(reader, Path::new("data"))?.collect()
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn tables_have_the_fields_that_csv_reader_finds() {
    let mut sniffed = 0;
    for case in expected("csv") {
        let content = string(&case["content"]);
        let rows = case["rows"].as_array().unwrap();
        let place = |name: &str| {
            let header = rows[0].as_array().unwrap().iter();
            header.into_iter().position(|field| field == name).unwrap()
        };
        let (text, label) = (place("text"), place("label"));
        let pairs = |rows: &[Value]| -> Vec<(String, String)> {
            let rows = rows.iter();
            rows.map(|row| (string(&row[text]).into(), string(&row[label]).into()))
                .collect()
        };
        let read = |spec: &ReadSpec| -> Vec<(String, String)> {
            let examples = sequence(spec, content.as_bytes());
            let examples = examples.unwrap_or_else(|error| panic!("{error}: {content:?}"));
            examples
                .into_iter()
                .map(|example| (example.text, example.label.unwrap().into_names().concat()))
                .collect()
        };
        let mut spec = ReadSpec::new(FileFormat::Csv);
        assert_eq!(read(&spec), pairs(&rows[1..]), "{content:?}");
        // Said, or by position where the header is a row as any other.
        let delimiter = string(&case["delimiter"]).to_string();
        spec.delimiter = Some(delimiter.try_into().unwrap());
        assert_eq!(read(&spec), pairs(&rows[1..]), "{content:?}");
        if case["sniffed"] == case["delimiter"] {
            sniffed += 1;
            spec.delimiter = None;
            spec.header = false;
            spec.sequence.text = ColumnRef::Index(text);
            spec.sequence.label = Some(ColumnRef::Index(label));
            assert_eq!(read(&spec), pairs(rows), "{content:?}");
        }
    }
    assert!(sniffed > 100, "{sniffed}");
}

#[test]
fn lists_of_objects_are_those_of_json() {
    let wanted = ["text", "label"];
    for case in expected("json") {
        let content = string(&case["content"]);
        for keep_extra in [true, false] {
            let mut spec = ReadSpec::new(FileFormat::Jsonl);
            spec.sequence.keep_extra = keep_extra;
            let found = sequence(&spec, content.as_bytes());
            let found = found.unwrap_or_else(|error| panic!("{error}: {content:?}"));
            let rows = case["rows"].as_array().unwrap();
            assert_eq!(found.len(), rows.len(), "{content:?}");
            for ((example, row), line) in found
                .into_iter()
                .zip(rows)
                .zip(case["lines"].as_array().unwrap())
            {
                let pair = json!([example.text, example.class()]);
                assert_eq!(pair, json!(wanted.map(|key| row[key].clone())));
                assert_eq!(json!(example.line), *line, "{content:?}");
                if keep_extra {
                    assert_eq!(Value::Object(example.extra.unwrap()), *row);
                }
            }
        }
    }
}

#[test]
fn encodings_are_those_of_pythons_codecs() {
    for case in expected("encodings") {
        let hex = string(&case["bytes"]);
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let name = string(&case["encoding"]);
        let text = string(&case["text"]).trim_start_matches('\u{feff}');
        let mut spec = ReadSpec::new(FileFormat::Csv);
        spec.header = false;
        spec.sequence.text = ColumnRef::Index(0);
        spec.sequence.label = None;
        let named = TextEncoding::try_from(name.to_string()).unwrap();
        spec.encoding = Some(named);
        let read = |spec: &ReadSpec| sequence(spec, &bytes).unwrap()[0].text.clone();
        assert_eq!(read(&spec), text, "{name}");
        // With a mark no name is needed, and a wrong one does no harm.
        if name.starts_with("utf") {
            spec.encoding = None;
            assert_eq!(read(&spec), text, "{name}");
            spec.encoding = Some(TextEncoding::try_from("latin-1".to_string()).unwrap());
            assert_eq!(read(&spec), text, "{name}");
        }
    }
}

#[test]
fn spans_become_the_tags_of_spacy() {
    let (mut same, mut cut) = (0, 0);
    for case in expected("spans") {
        let text = string(&case["text"]);
        let words: Vec<String> = split_words(text).into_iter().map(|w| w.token).collect();
        // spaCy splits some words in another way.
        if json!(words) != case["tokens"] {
            continue;
        }
        let offsets = [
            (Offsets::Characters, "characters"),
            (Offsets::Utf16, "utf16"),
            (Offsets::Bytes, "bytes"),
        ];
        for (offsets, key) in offsets {
            let mut spec = ReadSpec::new(FileFormat::Jsonl);
            spec.tokens.offsets = offsets;
            let line = json!({"text": text, "entities": case[key]}).to_string();
            let found = tokens(&spec, line.as_bytes());
            if case["tags"].as_array().unwrap().contains(&json!("-")) {
                let error = found.unwrap_err().to_string();
                assert!(error.contains("cuts the word"), "{error}");
                cut += 1;
            } else {
                let example = found
                    .unwrap_or_else(|error| panic!("{error}: {line}"))
                    .remove(0);
                assert_eq!(json!(example.tags), case["tags"], "{line}");
                assert_eq!(example.tokens, words);
                same += 1;
            }
        }
    }
    assert!(same > 600 && cut > 30, "{same} {cut}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// However a list is printed, its members are the objects of the lines.
    #[test]
    fn a_list_is_its_objects_however_it_is_printed(
        texts in prop::collection::vec(".*[a-z\\[\\]{}\",\\\\].*", 1..8),
        key in "[a-z\\[{\"]{1,5}",
    ) {
        let rows: Vec<Value> = texts.iter().enumerate().map(|(i, text)| {
            json!({"text": text, "label": i, "more": [{"text": text}, [text], {}]})
        }).collect();
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        let spec = ReadSpec::new(FileFormat::Jsonl);
        let without_lines = |content: &str| -> Vec<SequenceExample> {
            let mut found = sequence(&spec, content.as_bytes()).unwrap();
            found.iter_mut().for_each(|example| example.line = 0);
            found
        };
        let expected = without_lines(&lines);
        prop_assert_eq!(expected.len(), rows.len());
        prop_assume!(key != "text");
        let wrapped = json!({key: rows});
        for content in [
            json!(rows).to_string(),
            serde_json::to_string_pretty(&rows).unwrap(),
            wrapped.to_string(),
            serde_json::to_string_pretty(&wrapped).unwrap(),
        ] {
            prop_assert_eq!(&without_lines(&content), &expected, "{}", content);
        }
    }
}
