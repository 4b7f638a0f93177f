//! Parquet files against what `datasets` and pyarrow wrote into them, and each way they can be
//! wrong.

use std::path::PathBuf;

use ls_data::{
    BadRows, ColumnRef, DataError, FileFormat, FoundColumns, GivenColumns, Holds, ReadSpec,
    SniffOptions, find_columns, for_each_row, sniff,
};
use serde_json::Value;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/parquet")
        .join(name)
}

fn expected(key: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path("expected.json")).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    value[key].as_array().unwrap().clone()
}

fn spec(text: impl Into<ColumnRef>, label: &str) -> ReadSpec {
    let mut spec = ReadSpec::new(FileFormat::Parquet);
    spec.sequence.text = text.into();
    spec.sequence.label = Some(label.into());
    spec
}

fn tokens(tokens: &str, tags: &str) -> ReadSpec {
    let mut spec = ReadSpec::new(FileFormat::Parquet);
    spec.tokens.tokens_key = tokens.to_string();
    spec.tokens.tags_key = Some(tags.to_string());
    spec
}

/// Text with label, or the message, of each row without the folder.
fn rows(spec: &ReadSpec, name: &str) -> Vec<Result<(String, String), String>> {
    let rows = spec.read_sequence(&path(name)).unwrap();
    rows.map(|row| match row {
        Ok(row) => Ok((
            row.text,
            row.label
                .map(|label| label.into_names().concat())
                .unwrap_or_default(),
        )),
        Err(error) => Err(plain(&error)),
    })
    .collect()
}

/// A message without the folder.
fn plain(error: &DataError) -> String {
    error.to_string().replace(path("").to_str().unwrap(), "")
}

#[test]
fn columns_are_found_by_their_names_and_types() {
    let found = |name: &str| {
        let path = path(name);
        let file = sniff(&path, &SniffOptions::default()).unwrap();
        find_columns(&path, &file, None, &GivenColumns::default()).map_err(|error| plain(&error))
    };
    let texts = FoundColumns::Sequence {
        columns: Some(("sentence".into(), None, "label".into())),
    };
    assert_eq!(found("text.parquet"), Ok(texts));
    let plain_names = FoundColumns::Sequence {
        columns: Some(("text".into(), None, "label".into())),
    };
    assert_eq!(found("topics.parquet"), Ok(plain_names));
    let words = FoundColumns::Token {
        columns: Some(("tokens".into(), "ner_tags".into())),
    };
    assert_eq!(found("tokens.parquet"), Ok(words));
    // Its labels may be null, its scores are no labels.
    let file = sniff(&path("odd.parquet"), &SniffOptions::default()).unwrap();
    let of = |name: &str| {
        let mut columns = file.columns.iter();
        columns
            .find(|column| column.at == name.into())
            .unwrap()
            .holds
    };
    assert_eq!([of("label"), of("score")], [Holds::One, Holds::Number]);
}

#[test]
fn texts_take_the_label_names_of_the_file() {
    let found: Vec<_> = rows(&spec("sentence", "label"), "text.parquet")
        .into_iter()
        .map(|row| {
            row.map(|(text, label)| serde_json::json!([text, label]))
                .unwrap()
        })
        .collect();
    assert_eq!(found, expected("text"));

    // Names that are given fix which labels there may be, not what the file's integers mean.
    let mut given = spec("sentence", "label");
    given.label_names = Some(["positive", "negative"].map(String::from).to_vec());
    assert_eq!(
        rows(&given, "text.parquet"),
        rows(&spec("sentence", "label"), "text.parquet")
    );
    given.label_names = Some(["good", "bad"].map(String::from).to_vec());
    let message = rows(&given, "text.parquet")[0].clone().unwrap_err();
    assert!(
        message.starts_with("text.parquet:1: unknown label `"),
        "{message}"
    );

    let unlabelled = ReadSpec {
        sequence: ls_data::SequenceColumns {
            text: ColumnRef::Index(1),
            label: None,
            ..Default::default()
        },
        ..ReadSpec::new(FileFormat::Parquet)
    };
    let first = unlabelled
        .read_sequence(&path("text.parquet"))
        .unwrap()
        .next();
    let first = first.unwrap().unwrap();
    assert_eq!((first.label, first.line), (None, 1));
}

#[test]
fn a_missing_text_is_an_input_to_predict() {
    let mut read = spec("text", "label");
    (read.sequence.label, read.sequence.blank) = (None, true);
    let found: Vec<_> = read
        .read_sequence(&path("odd.parquet"))
        .unwrap()
        .map(|row| {
            row.map(|row| (row.text, row.extra.map(Value::Object)))
                .unwrap()
        })
        .collect();
    let missing = Some(serde_json::json!({"text": null}));
    let texts = [("a", None), ("", missing), ("", None), ("d", None)];
    assert_eq!(found, texts.map(|(text, from)| (text.to_string(), from)));
}

#[test]
fn words_take_the_tag_names_of_the_file() {
    let read = ReadSpec::new(FileFormat::Parquet);
    let found: Vec<_> = read
        .read_tokens(&path("tokens.parquet"))
        .unwrap()
        .map(|row| row.map(|e| serde_json::json!([e.tokens, e.tags])).unwrap())
        .collect();
    assert_eq!(found, expected("tokens"));
    let mut bare = read;
    bare.tokens.tagged = false;
    let mut rows = bare.read_tokens(&path("tokens.parquet")).unwrap();
    assert_eq!(rows.next().unwrap().unwrap().tags, None);
}

#[test]
fn compressions_page_versions_and_row_groups_change_nothing() {
    for (name, count) in [
        ("none", 300),
        ("snappy", 300),
        ("gzip", 300),
        ("zstd", 1200),
    ] {
        let mut found = Vec::new();
        let file = format!("many-{name}.parquet");
        for row in spec("text", "label").read_sequence(&path(&file)).unwrap() {
            let row = row.unwrap();
            assert_eq!(row.line, found.len() + 1);
            found.push(serde_json::json!([row.text, row.class()]));
        }
        // The text column is the titles backwards; each file holds its first rows.
        assert_eq!(found.len(), count);
        assert_eq!(found, expected("many")[..count]);
    }
    let mut both = spec("title", "label");
    both.sequence.append = vec!["text".into()];
    both.sequence.separator = "\n".to_string();
    let row = both
        .read_sequence(&path("many-none.parquet"))
        .unwrap()
        .next();
    assert_eq!(row.unwrap().unwrap().text.matches('\n').count(), 1);
}

#[test]
fn required_columns_and_empty_tables() {
    let row = |text: &str, label: &str| Ok((text.to_string(), label.to_string()));
    assert_eq!(
        rows(&spec("text", "label"), "required.parquet"),
        [row("a", "x"), row("b", "y")]
    );
    let mut words = ReadSpec::new(FileFormat::Parquet);
    words.tokens.tagged = false;
    let words = words.read_tokens(&path("required.parquet")).unwrap();
    let words: Vec<_> = words.map(|row| row.unwrap().tokens).collect();
    assert_eq!(words, [vec!["p"], vec!["q", "r"]]);

    let empty = path("empty.parquet");
    let rows = spec("text", "label").read_sequence(&empty).unwrap();
    let result = for_each_row(rows, &empty, BadRows::default(), |_| Ok(()));
    assert!(matches!(result, Err(DataError::Empty { .. })));
}

#[test]
fn bad_rows_say_what_they_hold() {
    let mut named = spec("text", "label");
    named.label_names = Some(vec!["x".to_string()]);
    let bad = |message: &str| Err(format!("odd.parquet:{message}"));
    assert_eq!(
        rows(&named, "odd.parquet"),
        [
            Ok(("a".to_string(), "x".to_string())),
            bad("2: key `text`: found null, expected a string"),
            bad("3: text is empty"),
            bad("4: key `label`: found null, expected a string or an integer"),
        ]
    );
    let first = |spec: &ReadSpec| rows(spec, "odd.parquet")[0].clone().unwrap_err();
    assert_eq!(
        first(&spec("score", "label")),
        "odd.parquet:1: key `score`: found a fraction, expected a string"
    );
    assert_eq!(
        first(&spec("text", "flag")),
        "odd.parquet:1: key `flag`: found a boolean, expected a string or an integer"
    );
    assert_eq!(
        rows(&spec("bytes", "text"), "odd.parquet")[1],
        bad("2: key `bytes`: found bytes that are not UTF-8, expected a string")
    );
    assert_eq!(
        first(&spec("tokens", "label")),
        "odd.parquet:1: key `tokens`: found a list, expected a string"
    );
    // Without names nothing can be made of integers, in any row.
    assert_eq!(
        rows(&spec("text", "label"), "odd.parquet"),
        [bad(
            "1: key `label` holds integers, and no label names are given"
        )]
    );

    let words = |spec: &ReadSpec| -> Vec<_> {
        let rows = spec.read_tokens(&path("odd.parquet")).unwrap();
        rows.map(|row| row.map(|e| e.tags.unwrap()).map_err(|e| plain(&e)))
            .collect()
    };
    let mut ids = tokens("tokens", "ids");
    ids.label_names = Some(["O", "B-X"].map(String::from).to_vec());
    let good = Ok(["O", "B-X"].map(String::from).to_vec());
    let empty = |row: usize| Err(format!("odd.parquet:{row}: tokens is empty"));
    let element = "odd.parquet:4: key `tokens[1]`: found null, expected a string";
    for spec in [&tokens("tokens", "tags"), &ids] {
        assert_eq!(
            words(spec),
            [good.clone(), empty(2), empty(3), Err(element.to_string())]
        );
    }
    assert_eq!(
        words(&tokens("text", "tags"))[0],
        Err("odd.parquet:1: key `text`: found a string, expected a list".to_string())
    );
}

#[test]
fn files_and_columns_that_cannot_be_read() {
    let message =
        |spec: ReadSpec, name: &str| plain(&spec.read_sequence(&path(name)).err().unwrap());
    assert_eq!(
        message(spec("sentense", "label"), "text.parquet"),
        "text.parquet: no column `sentense`; the file has `idx`, `sentence`, `label`; did you mean `sentence`?"
    );
    assert_eq!(
        message(spec(3, "label"), "text.parquet"),
        "text.parquet:1: no column 3; there are 3, counted from 0"
    );
    for column in ["pair", "one", "nested"] {
        assert_eq!(
            message(spec(column, "label"), "odd.parquet"),
            format!(
                "odd.parquet: column `{column}` holds neither plain values nor lists of plain values"
            )
        );
    }
    let message = message(spec("text", "label"), "make.py");
    assert!(
        message.starts_with("make.py: cannot read as Parquet: "),
        "{message}"
    );
    let stream = spec("text", "label").read_sequence_from(&b"PAR1"[..], &path("x"));
    assert!(matches!(stream, Err(DataError::ParquetStream { .. })));
}

/// Damaged files give rows or errors: never a panic, never an endless read.
#[test]
fn damage_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let damaged = dir.path().join("damaged.parquet");
    for name in ["many-snappy.parquet", "odd.parquet", "tokens.parquet"] {
        let whole = std::fs::read(path(name)).unwrap();
        for step in 0..120 {
            let mut bytes = whole.clone();
            let at = step * whole.len() / 120;
            match step % 3 {
                0 => bytes[at] ^= 0xff,
                1 => bytes.truncate(at),
                _ => drop(bytes.drain(at..(at + 7).min(whole.len()))),
            }
            std::fs::write(&damaged, &bytes).unwrap();
            let words = tokens("tokens", "ner_tags").read_tokens(&damaged);
            let count = words.map_or(0, |rows| rows.count());
            let texts = spec("text", "label").read_sequence(&damaged);
            assert!(count + texts.map_or(0, |rows| rows.count()) < 10_000);
        }
    }
}

#[test]
fn strings_in_every_encoding_are_read() {
    use parquet::basic::Encoding;
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::properties::{WriterProperties, WriterVersion};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use std::sync::Arc;

    let schema = "message m { optional binary text (UTF8); required binary label (UTF8); }";
    let texts: Vec<Option<String>> = (0..3000)
        .map(|row| (row % 7 != 3).then(|| "né ".repeat(row % 40) + &row.to_string()))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        for encoding in [
            None,
            Some(Encoding::PLAIN),
            Some(Encoding::DELTA_LENGTH_BYTE_ARRAY),
            Some(Encoding::DELTA_BYTE_ARRAY),
        ] {
            let mut properties = WriterProperties::builder()
                .set_writer_version(version)
                .set_data_page_row_count_limit(700)
                .set_write_batch_size(100);
            if let Some(encoding) = encoding {
                properties = properties
                    .set_dictionary_enabled(false)
                    .set_encoding(encoding);
            }
            let path = folder.path().join("strings.parquet");
            let mut writer = SerializedFileWriter::new(
                std::fs::File::create(&path).unwrap(),
                Arc::new(parse_message_type(schema).unwrap()),
                Arc::new(properties.build()),
            )
            .unwrap();
            let mut group = writer.next_row_group().unwrap();
            let there: Vec<ByteArray> = texts
                .iter()
                .flatten()
                .map(|text| text.as_str().into())
                .collect();
            let levels: Vec<i16> = texts.iter().map(|text| i16::from(text.is_some())).collect();
            let labels = vec![ByteArray::from("x"); texts.len()];
            for (values, levels) in [(there, Some(levels)), (labels, None)] {
                let mut column = group.next_column().unwrap().unwrap();
                column
                    .typed::<ByteArrayType>()
                    .write_batch(&values, levels.as_deref(), None)
                    .unwrap();
                column.close().unwrap();
            }
            group.close().unwrap();
            writer.close().unwrap();

            let rows = spec("text", "label").read_sequence(&path).unwrap();
            let found: Vec<Option<String>> = rows.map(|row| row.ok().map(|row| row.text)).collect();
            assert_eq!(found, texts, "{version:?}, {encoding:?}");
        }
    }
}

#[test]
fn it_is_seen_how_far_a_file_is_read() {
    let (all, file) = (300, path("many-none.parquet"));
    let size = std::fs::metadata(&file).unwrap().len();
    let mut rows = spec("text", "label").read_sequence(&file).unwrap();
    let position = rows.position();
    assert_eq!(position.bytes(), 0);
    for row in 1..=all {
        rows.next().unwrap().unwrap();
        assert_eq!(position.bytes(), size * row / all);
    }
    assert!(rows.next().is_none());
    assert_eq!(position.bytes(), size);
}
