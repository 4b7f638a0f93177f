//! Each reader on good files in their odd forms, and each way a file can be wrong with its message.

use std::path::Path;

use ls_data::{
    ColumnRef, DataError, FileFormat, ReadSpec, SequenceColumns, SequenceExample, TokenColumns,
    TokenExample, read_lines_from, read_sequence, read_sequence_from, read_tokens,
    read_tokens_from,
};
use ls_files::FileError;

use FileFormat::{Conll, Csv, Jsonl, Tsv};

fn columns(text: impl Into<ColumnRef>, label: impl Into<ColumnRef>) -> SequenceColumns {
    SequenceColumns {
        text: text.into(),
        label: Some(label.into()),
        ..Default::default()
    }
}

fn named() -> SequenceColumns {
    SequenceColumns::default()
}

fn sequence(
    format: FileFormat,
    header: bool,
    columns: &SequenceColumns,
    bytes: impl AsRef<[u8]>,
) -> Result<Vec<SequenceExample>, DataError> {
    read_sequence_from(
        bytes.as_ref(),
        Path::new("data"),
        format,
        header,
        columns,
        None,
    )
}

fn tokens(
    format: FileFormat,
    columns: &TokenColumns,
    bytes: impl AsRef<[u8]>,
) -> Result<Vec<TokenExample>, DataError> {
    read_tokens_from(bytes.as_ref(), Path::new("data"), format, columns)
}

/// Text, label and line of each example.
fn rows(examples: &[SequenceExample]) -> Vec<(&str, &str, usize)> {
    examples
        .iter()
        .map(|e| (e.text.as_str(), e.class().unwrap_or(""), e.line))
        .collect()
}

fn message<T: std::fmt::Debug>(result: Result<T, DataError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn csv_quotes_line_ends_and_a_byte_order_mark() {
    let data = "\u{feff}text,label\r\n\"a, \"\"b\"\"\r\nc\",x\r\n\r\nplain \"d\",y\r\n\"e\",x";
    let examples = sequence(Csv, true, &named(), data).unwrap();
    assert_eq!(
        rows(&examples),
        [
            ("a, \"b\"\r\nc", "x", 2),
            ("plain \"d\"", "y", 5),
            ("e", "x", 6)
        ]
    );
}

#[test]
fn csv_of_a_spreadsheet_may_say_its_delimiter() {
    let data = "\u{feff}sep=;\r\ntext;label\r\n\"a; b\";x\r\n;y\r\n";
    let spec = ReadSpec::new(Csv);
    let rows = spec
        .read_sequence_from(data.as_bytes(), Path::new("data"))
        .unwrap();
    let rows: Vec<_> = rows
        .map(|row| row.map(|e| (e.text, e.line)).map_err(|e| e.to_string()))
        .collect();
    assert_eq!(
        rows,
        [
            Ok(("a; b".to_string(), 3)),
            Err("data:4: text is empty".to_string())
        ]
    );
}

#[test]
fn csv_columns_by_name_in_any_order_or_by_index() {
    let by_name = SequenceColumns {
        text_pair: Some("description".into()),
        ..columns("title", "class")
    };
    let data = "class, title ,description\n3,t,d\n";
    let examples = sequence(Csv, true, &by_name, data).unwrap();
    assert_eq!(rows(&examples), [("t", "3", 2)]);
    assert_eq!(examples[0].text_pair.as_deref(), Some("d"));

    let examples = sequence(Csv, false, &columns(1, 0), "\"3\",\"t\"\n\"4\",\"u\"\n").unwrap();
    assert_eq!(rows(&examples), [("t", "3", 1), ("u", "4", 2)]);
    let unlabelled = SequenceColumns {
        label: None,
        ..named()
    };
    assert_eq!(
        sequence(Csv, true, &unlabelled, "text\na\n").unwrap()[0].label,
        None
    );
}

#[test]
fn tsv_takes_quotes_as_they_are() {
    let data = "sentence\tlabel\r\n\"open quote\t1\r\nit 's \"fine\"\t0\r\n";
    let examples = sequence(Tsv, true, &columns("sentence", "label"), data).unwrap();
    assert_eq!(
        rows(&examples),
        [("\"open quote", "1", 2), ("it 's \"fine\"", "0", 3)]
    );
}

#[test]
fn jsonl_takes_string_and_integer_labels_and_keeps_the_object() {
    let data =
        "{\"id\": 7, \"text\": \"a\\nb\", \"label\": \"x\"}\n\n{\"text\": \"c\", \"label\": -1}\n";
    let examples = sequence(Jsonl, false, &named(), data).unwrap();
    assert_eq!(rows(&examples), [("a\nb", "x", 1), ("c", "-1", 3)]);
    let extra = examples[0].extra.as_ref().unwrap();
    assert_eq!(extra.keys().collect::<Vec<_>>(), ["id", "text", "label"]);
    assert_eq!(extra["id"], 7);
}

#[test]
fn integer_labels_become_names() {
    let names = ["negative".to_string(), "positive".to_string()];
    let read = |label: &str| {
        let data = format!("good\t{label}\n");
        let name = Path::new("data");
        read_sequence_from(
            data.as_bytes(),
            name,
            Tsv,
            false,
            &columns(0, 1),
            Some(&names),
        )
        .map(|examples| examples[0].class().unwrap().to_string())
    };
    assert_eq!(read("1").unwrap(), "positive");
    assert_eq!(read("negative").unwrap(), "negative");
    assert_eq!(
        message(read("2")),
        "data:1: label 2 has no name; names are given for 0 to 1"
    );
    assert_eq!(
        message(read("-1")),
        "data:1: label -1 has no name; names are given for 0 to 1"
    );
    assert_eq!(
        message(read("positiv")),
        "data:1: unknown label `positiv`; the labels are `negative`, `positive`; did you mean `positive`?"
    );
    let mapped = SequenceColumns {
        label_map: Some(names.to_vec()),
        ..columns(0, 1)
    };
    assert_eq!(
        rows(&sequence(Tsv, false, &mapped, "a\t0\n").unwrap()),
        [("a", "negative", 1)]
    );
}

#[test]
fn plain_lines_are_one_input_each() {
    let examples = read_lines_from("one\r\ntwo \"x\"\tz".as_bytes(), Path::new("<stdin>")).unwrap();
    assert_eq!(rows(&examples), [("one", "", 1), ("two \"x\"\tz", "", 2)]);
    let blank = read_lines_from("one\n\ntwo\n".as_bytes(), Path::new("<stdin>"));
    assert_eq!(message(blank), "<stdin>:2: text is empty");
}

#[test]
fn conll_with_tabs_spaces_documents_and_uneven_blank_lines() {
    let data = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n \n\n\nNew NNP B-NP B-LOC\r\n";
    let examples = tokens(Conll, &TokenColumns::default(), data).unwrap();
    assert_eq!(examples.len(), 2);
    assert_eq!(examples[0].tokens, ["EU", "rejects"]);
    assert_eq!(examples[0].tags.as_ref().unwrap(), &["B-ORG", "O"]);
    assert_eq!((examples[0].line, examples[1].line), (3, 8));

    let tabs = tokens(Conll, &TokenColumns::default(), "New York\tB-LOC\n\"\tO\n").unwrap();
    assert_eq!(tabs[0].tokens, ["New York", "\""]);
    let mark = tokens(
        Conll,
        &TokenColumns::default(),
        "\u{feff}a\tO\n\n\u{feff}\n",
    )
    .unwrap();
    assert_eq!((mark.len(), mark[0].tokens[0].as_str()), (1, "a"));
    let part_of_speech = TokenColumns {
        tag: Some(1),
        ..Default::default()
    };
    let examples = tokens(Conll, &part_of_speech, &data.as_bytes()[20..]).unwrap();
    assert_eq!(examples[0].tags.as_ref().unwrap(), &["NNP", "VBZ"]);
    let bare = TokenColumns {
        tagged: false,
        ..Default::default()
    };
    assert_eq!(tokens(Conll, &bare, "a\nb\n").unwrap()[0].tags, None);
}

#[test]
fn jsonl_tokens_take_either_key_and_integers_with_names() {
    let names = TokenColumns {
        label_names: Some(["O", "B-PER"].map(String::from).to_vec()),
        ..Default::default()
    };
    let data = "{\"tokens\":[\"Ann\",\"ran\"],\"ner_tags\":[1,0],\"id\":3}\n";
    let examples = tokens(Jsonl, &names, data).unwrap();
    assert_eq!(examples[0].tags.as_ref().unwrap(), &["B-PER", "O"]);
    assert_eq!(examples[0].extra.as_ref().unwrap()["id"], 3);
    assert_eq!(
        message(tokens(Jsonl, &TokenColumns::default(), data)),
        "data:1: key `ner_tags` holds integers, and no label names are given"
    );
    let data = "{\"tokens\":[\"Ann\"],\"tags\":[\"B-PER\"],\"ner_tags\":[9]}\n";
    assert_eq!(
        tokens(Jsonl, &names, data).unwrap()[0]
            .tags
            .as_ref()
            .unwrap(),
        &["B-PER"]
    );
}

#[test]
fn formats_come_from_extensions() {
    for (name, format) in [
        ("a.csv", Csv),
        ("a.TSV", Tsv),
        ("a.jsonl", Jsonl),
        ("a.json", Jsonl),
        ("a.ndjson", Jsonl),
        ("a.conll", Conll),
        ("a.iob", Conll),
        ("a.bio", Conll),
        ("a.txt", Conll),
        ("a.parquet", FileFormat::Parquet),
        ("a.ft", FileFormat::FastText),
        ("a.v4_gold_conll", FileFormat::Conll2012),
        ("a.gold_conll", FileFormat::Conll2012),
    ] {
        assert_eq!(FileFormat::from_path(Path::new(name)).unwrap(), format);
    }
    for name in ["a.xml", "a", ".csv"] {
        let result = FileFormat::from_path(Path::new(name));
        assert!(
            matches!(result, Err(DataError::UnknownFormat { .. })),
            "{name}"
        );
    }
}

#[test]
fn missing_and_empty_files() {
    let path = Path::new("no/such/file.csv");
    let missing = read_sequence(path, Csv, true, &named(), None);
    assert!(matches!(
        missing,
        Err(DataError::File(FileError::NotFound { .. }))
    ));
    assert!(matches!(
        read_tokens(path, Conll, &TokenColumns::default()),
        Err(DataError::File(FileError::NotFound { .. }))
    ));
    let dir = tempfile::tempdir().unwrap();
    let folder = read_sequence(dir.path(), Csv, true, &named(), None);
    assert!(matches!(
        folder,
        Err(DataError::File(FileError::NotRegular { .. }))
    ));
    for (format, data) in [
        (Csv, ""),
        (Csv, "text,label\n"),
        (Tsv, "text\tlabel\n\n"),
        (Jsonl, " \n"),
    ] {
        assert_eq!(
            message(sequence(format, true, &named(), data)),
            "data: holds no examples"
        );
    }
    for data in ["", "\n\n", "-DOCSTART- -X- O O\n\n"] {
        let empty = tokens(Conll, &TokenColumns::default(), data);
        assert!(matches!(empty, Err(DataError::Empty { .. })));
    }
    assert!(matches!(
        read_lines_from(&[][..], path),
        Err(DataError::Empty { .. })
    ));
}

#[test]
fn wrong_columns_name_those_that_are_there() {
    assert_eq!(
        message(sequence(
            Csv,
            true,
            &columns("sentense", "label"),
            "sentence,label\na,b\n"
        )),
        "data: no column `sentense`; the file has `sentence`, `label`; did you mean `sentence`?"
    );
    assert_eq!(
        message(sequence(Tsv, false, &columns(0, 2), "a\tb\n")),
        "data:1: no column 2; there are 2, counted from 0"
    );
    assert!(matches!(
        sequence(Csv, false, &named(), "a,b\n"),
        Err(DataError::NoHeader { column, .. }) if column == "text"
    ));
    assert!(matches!(
        sequence(Jsonl, false, &columns(0, 1), "{}"),
        Err(DataError::IndexInJson { index: 0, .. })
    ));
    let first_is_last = tokens(Conll, &TokenColumns::default(), "a\nb\n");
    assert_eq!(message(first_is_last), "data:1: found 1 fields, expected 2");
    let third = TokenColumns {
        tag: Some(3),
        ..Default::default()
    };
    assert!(matches!(
        tokens(Conll, &third, "a O\n"),
        Err(DataError::ColumnIndex {
            index: 3,
            found: 2,
            ..
        })
    ));
}

#[test]
fn rows_of_another_width() {
    let wrong = "data:3: found 3 fields, expected 2";
    assert_eq!(
        message(sequence(Csv, true, &named(), "text,label\na,b\nc,d,e\n")),
        wrong
    );
    assert_eq!(
        message(sequence(
            Tsv,
            true,
            &named(),
            "text\tlabel\na\tb\nc\td\te\n"
        )),
        wrong
    );
    assert_eq!(
        message(tokens(Conll, &TokenColumns::default(), "a O\nb O\nc d O\n")),
        wrong
    );
}

#[test]
fn a_stray_quote_does_not_swallow_the_file() {
    let data = "text,label\na,b\n\"c,d\ne,f\n";
    assert!(matches!(
        sequence(Csv, true, &named(), data),
        Err(DataError::UnclosedQuote { line: 3, .. })
    ));
    let inches = sequence(Csv, true, &named(), "text,label\na 5\" disk,b\n").unwrap();
    assert_eq!(inches[0].text, "a 5\" disk");
}

const NOT_UTF8: &str = "byte 0xe9 is not valid UTF-8; save the file as UTF-8, or name its encoding, such as data.encoding = \"windows-1252\"";

#[test]
fn bytes_that_are_not_utf8() {
    let check = |result: Result<(), DataError>, place: &str| {
        let expected = format!("data:{place}: {NOT_UTF8}");
        assert_eq!(message(result), expected);
    };
    check(
        sequence(Csv, true, &named(), b"text,label\ncaf\xe9,b\n").map(drop),
        "2:4",
    );
    check(
        sequence(Csv, true, &named(), b"text,label\n\"a\ncaf\xe9\",b\n").map(drop),
        "3:4",
    );
    check(
        sequence(Tsv, true, &named(), b"text\tlabel\ncaf\xe9\tb\n").map(drop),
        "2:4",
    );
    check(
        sequence(Jsonl, true, &named(), b"{\"text\":\"\xe9\"}").map(drop),
        "1:10",
    );
    check(
        tokens(Conll, &TokenColumns::default(), b"a O\n\xe9 O\n").map(drop),
        "2:1",
    );
    check(
        read_lines_from(&b"a\n\xe9"[..], Path::new("data")).map(drop),
        "2:1",
    );
}

#[test]
fn empty_fields() {
    assert_eq!(
        message(sequence(Csv, true, &named(), "text,label\n ,b\n")),
        "data:2: text is empty"
    );
    assert_eq!(
        message(sequence(Tsv, false, &columns(0, 1), "a\t\n")),
        "data:1: label is empty"
    );
    let empty = sequence(Jsonl, false, &named(), "{\"text\":\"\",\"label\":1}");
    assert_eq!(message(empty), "data:1: text is empty");
    let columns = TokenColumns::default();
    assert_eq!(
        message(tokens(Conll, &columns, "a\tO\n \tO\n")),
        "data:2: token is empty"
    );
    assert_eq!(
        message(tokens(Conll, &columns, "a\tO\nb\t\n")),
        "data:2: tag is empty"
    );
    let empty = tokens(Jsonl, &columns, "{\"tokens\":[],\"tags\":[]}");
    assert_eq!(message(empty), "data:1: tokens is empty");
}

#[test]
fn malformed_json_missing_keys_and_wrong_types() {
    let json = |data: &str| message(sequence(Jsonl, false, &named(), data));
    let good = "{\"text\":\"a\",\"label\":\"b\"}\n";
    assert!(
        json(&format!("{good}{{\"text\": }}"))
            .starts_with("data:2:10: malformed JSON: expected value")
    );
    assert!(json("[1]\n").starts_with("data:1:"), "{}", json("[1]\n"));
    assert_eq!(
        json("{\"texts\":\"a\",\"label\":\"b\"}"),
        "data:1: no key `text`; the object has `texts`, `label`; did you mean `text`?"
            .replace("mean `text`", "mean `texts`")
    );
    assert_eq!(
        json("{\"text\":3,\"label\":\"b\"}"),
        "data:1: key `text`: found an integer, expected a string"
    );
    assert_eq!(
        json("{\"text\":\"a\",\"label\":0.5}"),
        "data:1: key `label`: found a fraction, expected a string or an integer"
    );
    let words = |data: &str| message(tokens(Jsonl, &TokenColumns::default(), data));
    assert_eq!(
        words("{\"tokens\":[\"a\",\"b\"],\"tags\":[\"O\"]}"),
        "data:1: found 1 tags for 2 tokens"
    );
    assert_eq!(
        words("{\"tokens\":\"a b\"}"),
        "data:1: key `tokens`: found a string, expected a list"
    );
    assert_eq!(
        words("{\"tokens\":[\"a\",null],\"tags\":[\"O\",\"O\"]}"),
        "data:1: key `tokens[1]`: found null, expected a string"
    );
    assert!(
        words("{\"tokens\":[\"a\"]}").starts_with("data:1: no key `tags`; the object has `tokens`")
    );
}

#[test]
fn reading_goes_on_behind_a_bad_row() {
    let lines = |spec: &ReadSpec, data: &'static [u8]| {
        let rows = spec.read_sequence_from(data, Path::new("data")).unwrap();
        rows.map(|row| row.map(|e| e.line).map_err(|e| e.to_string()))
            .collect::<Vec<_>>()
    };
    let bad = |message: &str| Err(message.to_string());
    for (format, data) in [
        (Csv, &b"text,label\na,x\n\xe9,x\n,x\nb,x,y\nc,x\n"[..]),
        (Tsv, b"text\tlabel\na\tx\n\xe9\tx\n\tx\nb\tx\ty\nc\tx\n"),
    ] {
        assert_eq!(
            lines(&ReadSpec::new(format), data),
            [
                Ok(2),
                bad(&format!("data:3:1: {NOT_UTF8}")),
                bad("data:4: text is empty"),
                bad("data:5: found 3 fields, expected 2"),
                Ok(6),
            ]
        );
    }
    for keep_extra in [false, true] {
        let mut spec = ReadSpec::new(Jsonl);
        spec.sequence.keep_extra = keep_extra;
        assert_eq!(
            lines(
                &spec,
                b"{\"text\":\"a\",\"label\":1}\n{\"text\":\"a\",\"labels\":1,\"id\":{}}\n{\n{\"text\":[],\"label\":1}\n{\"text\":\"b\",\"label\":1}"
            ),
            [
                Ok(1),
                bad(
                    "data:2: no key `label`; the object has `text`, `labels`, `id`; did you mean `labels`?"
                ),
                bad("data:3:1: malformed JSON: EOF while parsing an object"),
                bad("data:4: key `text`: found a list, expected a string"),
                Ok(5),
            ]
        );
    }
    // A header that cannot be read is one bad row, and the row behind it an example.
    for (format, data) in [(Csv, &b"\xe9,b\na,x\n"[..]), (Tsv, b"\xe9\tb\na\tx\n")] {
        let mut spec = ReadSpec::new(format);
        spec.sequence = columns(0, 1);
        let found = lines(&spec, data);
        assert!(found[0].is_err());
        assert_eq!(found[1..], [Ok(2)]);
    }
    // What is wrong with the whole file is said once, and is the last that is said.
    let mut by_name = ReadSpec::new(Csv);
    by_name.header = false;
    assert_eq!(lines(&by_name, b"a,b\nc,d\n").len(), 1);
    assert_eq!(
        lines(&ReadSpec::new(Csv), b"text,label\n\"a\nb\nc").len(),
        1
    );
}

#[test]
fn a_sentence_with_a_bad_line_is_one_bad_row() {
    let data = b"a O\nb O x\nc O y\n\nd O\n\xe9 O\n-DOCSTART- O\n\ne O\n";
    let rows = ReadSpec::new(Conll)
        .read_tokens_from(&data[..], Path::new("data"))
        .unwrap();
    let rows: Vec<_> = rows
        .map(|row| row.map(|e| e.line).map_err(|e| e.to_string()))
        .collect();
    assert_eq!(
        rows,
        [
            Err("data:2: found 3 fields, expected 2".to_string()),
            Err(format!("data:6:1: {NOT_UTF8}")),
            Ok(9),
        ]
    );
}

#[test]
fn only_the_wanted_keys_are_the_same_examples() {
    let data = "{\"id\":7,\"te\\u0078t\":\"a\\u00e9\\n\",\"label\":\"x\",\"pair\":\"p\",\"o\":{\"text\":1}}\n\n{\"label\":2,\"text\":\"c\",\"pair\":\"q\",\"label\":3}\n";
    let whole = SequenceColumns {
        text_pair: Some("pair".into()),
        ..named()
    };
    let wanted = SequenceColumns {
        keep_extra: false,
        ..whole.clone()
    };
    let mut expected = sequence(Jsonl, true, &whole, data).unwrap();
    for example in &mut expected {
        assert!(example.extra.take().is_some());
    }
    assert_eq!(sequence(Jsonl, true, &wanted, data).unwrap(), expected);
    assert_eq!(rows(&expected), [("a\u{e9}\n", "x", 1), ("c", "3", 3)]);

    // One key for two parts.
    let twice = SequenceColumns {
        text_pair: Some("text".into()),
        ..wanted
    };
    let examples = sequence(Jsonl, true, &twice, data).unwrap();
    assert_eq!(examples[1].text_pair.as_deref(), Some("c"));

    let columns = TokenColumns {
        keep_extra: false,
        ..Default::default()
    };
    let data = "{\"tokens\":[\"Ann\",\"ran\"],\"ner_tags\":[\"B-PER\",\"O\"],\"id\":3}\n";
    let examples = tokens(Jsonl, &columns, data).unwrap();
    assert_eq!(examples[0].tags.as_ref().unwrap(), &["B-PER", "O"]);
    assert_eq!(examples[0].extra, None);
    assert!(
        message(tokens(Jsonl, &columns, "{\"tokens\":[\"a\"],\"id\":1}"))
            .starts_with("data:1: no key `tags`; the object has `tokens`, `id`")
    );
}

#[test]
fn readers_go_to_other_threads() {
    let spec = ReadSpec::new(Tsv);
    let data = b"text\tlabel\na\tx\n";
    let rows = spec
        .read_sequence_from(&data[..], Path::new("data"))
        .unwrap();
    let count = std::thread::spawn(move || rows.count()).join();
    assert_eq!(count.unwrap(), 1);
    let rows = ReadSpec::new(Conll).read_tokens_from(&b"a O\n"[..], Path::new("data"));
    let rows = rows.unwrap();
    assert_eq!(std::thread::spawn(move || rows.count()).join().unwrap(), 1);
}

#[test]
fn a_spec_is_stored_and_read_again() {
    let mut spec = ReadSpec::new(Conll);
    spec.label_names = Some(vec!["O".into(), "B-X".into()]);
    spec.scheme = Some(ls_data::TagScheme::Iob1);
    let stored = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<ReadSpec>(&stored).unwrap(), spec);
    let rows = spec.read_tokens_from(&b"a 1\nb 0\n"[..], Path::new("data"));
    let example = rows.unwrap().next().unwrap().unwrap();
    assert_eq!(example.tags.unwrap(), ["B-X", "O"]);
}

#[test]
fn formats_that_cannot_hold_the_examples() {
    assert_eq!(
        message(sequence(Conll, false, &named(), "a O\n")),
        "data: conll files cannot hold texts with labels"
    );
    assert_eq!(
        message(tokens(Csv, &TokenColumns::default(), "a,O\n")),
        "data: csv files cannot hold words with tags"
    );
}
