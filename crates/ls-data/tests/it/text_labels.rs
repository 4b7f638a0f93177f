//! Labels of texts that are lists or numbers, in every format, from the file to the encoded split.

use std::path::Path;

use ls_data::{
    BadRows, EncodedSplit, FileFormat, InputLimits, LabelKind, ReadSpec, SplitSource, TagChanges,
    TaskKind, TextLabel, TextTokenizer,
};

fn spec(format: FileFormat, kind: LabelKind, delimiter: Option<&str>) -> ReadSpec {
    let mut spec = ReadSpec::new(format);
    spec.sequence.label_kind = kind;
    spec.sequence.label_delimiter = delimiter.map(str::to_string);
    spec
}

/// The label of each row, or what is said of it.
fn labels(spec: &ReadSpec, text: &str) -> Vec<Result<TextLabel, String>> {
    let rows = spec.read_sequence_from(std::io::Cursor::new(text.to_string()), Path::new("a"));
    rows.unwrap()
        .map(|row| match row {
            Ok(row) => Ok(row.label.unwrap()),
            Err(error) => Err(error.to_string()),
        })
        .collect()
}

fn lists(rows: &[&[&str]]) -> Vec<Result<TextLabel, String>> {
    let list = |row: &&[&str]| row.iter().map(|name| name.to_string()).collect();
    rows.iter()
        .map(|row| Ok(TextLabel::Classes(list(row))))
        .collect()
}

fn numbers(rows: &[f32]) -> Vec<Result<TextLabel, String>> {
    rows.iter().map(|row| Ok(TextLabel::Number(*row))).collect()
}

const JSONL: FileFormat = FileFormat::Jsonl;
const CSV: FileFormat = FileFormat::Csv;

#[test]
fn lists_of_labels_are_read_in_every_format() {
    let kind = LabelKind::Classes;
    let expected = lists(&[&["näh", "b c"], &[], &["b c"]]);
    let json = "{\"text\": \"x\", \"label\": [\"näh\", \"b c\"]}\n{\"text\": \"y\", \"label\": []}\n\
                {\"text\": \"z\", \"label\": [\"b c\"]}\n";
    assert_eq!(labels(&spec(JSONL, kind, None), json), expected);
    let quoted = "text,label\nx,\"[\"\"näh\"\", \"\"b c\"\"]\"\ny,[]\nz,\"[\"\"b c\"\"]\"\n";
    assert_eq!(labels(&spec(CSV, kind, None), quoted), expected);
    for delimiter in [";", "|", "; "] {
        let table = format!("text,label\nx,näh{delimiter}b c\ny,\nz,b c\n");
        assert_eq!(labels(&spec(CSV, kind, Some(delimiter)), &table), expected);
        let json = format!("{{\"text\": \"x\", \"label\": \"näh{delimiter}b c\"}}");
        let found = labels(&spec(JSONL, kind, Some(delimiter)), &json);
        assert_eq!(found, expected[..1]);
    }
    let tsv = "text\tlabel\nx\tnäh;b c\ny\t\nz\tb c\n";
    assert_eq!(
        labels(&spec(FileFormat::Tsv, kind, Some(";")), tsv),
        expected
    );
    let fasttext = "__label__näh __label__b x\ny\n__label__b z\n";
    assert_eq!(
        labels(&spec(FileFormat::FastText, kind, None), fasttext),
        lists(&[&["näh", "b"], &[], &["b"]])
    );
    // Integers stand for names, in both.
    let mut named = spec(JSONL, kind, None);
    named.label_names = Some(vec!["a".into(), "b".into()]);
    let rows = "{\"text\": \"x\", \"label\": [1, \"a\"]}\n";
    assert_eq!(labels(&named, rows), lists(&[&["b", "a"]]));
    named.format = CSV;
    assert_eq!(
        labels(&named, "text,label\nx,\"[1, 0]\"\n"),
        lists(&[&["b", "a"]])
    );
}

#[test]
fn lists_that_are_none_are_refused_with_their_place() {
    let kind = LabelKind::Classes;
    let of_csv = |label: &str, delimiter| {
        let found = labels(
            &spec(CSV, kind, delimiter),
            &format!("text,label\nx,{label}\n"),
        );
        found[0].clone().unwrap_err()
    };
    assert_eq!(
        of_csv("bad", None),
        "a:2: found \"bad\", expected a JSON list of labels such as [\"a\", \"b\"]; where something \
         parts the labels in a string, data.label_delimiter says what"
    );
    for label in ["\"['a']\"", "", "{}", "\"[[1]]\"", "[1.5]"] {
        assert!(of_csv(label, None).contains("expected a JSON list"));
    }
    assert_eq!(
        of_csv("a;b;a", Some(";")),
        "a:2: the label \"a\" stands twice in the list of one text"
    );
    assert_eq!(of_csv("a;;b", Some(";")), "a:2: label is empty");
    let of_json = |label: &str| {
        let row = format!("{{\"text\": \"x\", \"label\": {label}}}");
        labels(&spec(JSONL, kind, None), &row)[0]
            .clone()
            .unwrap_err()
    };
    assert!(of_json("\"a\"").contains("key `label`: found a string, expected a list of labels"));
    assert!(of_json("null").contains("key `label`: found null, expected a list of labels"));
    assert!(
        of_json("[\"a\", null]")
            .contains("key `label[1]`: found null, expected a string or an integer")
    );
    assert!(of_json("[\"\"]").contains("label is empty"));
    assert!(of_json("[1, 1]").contains("the label \"1\" stands twice"));
    // One of several names cannot be learnt where each text has one class.
    let fasttext = spec(FileFormat::FastText, LabelKind::Class, None);
    let found = labels(&fasttext, "__label__a __label__b x\n");
    assert!(found[0].clone().unwrap_err().contains("found 2 words"));
}

#[test]
fn numbers_are_read_in_every_format() {
    let kind = LabelKind::Number;
    let expected = numbers(&[3.0, -0.25, 1e-3]);
    let json = "{\"text\": \"x\", \"label\": 3}\n{\"text\": \"y\", \"label\": -0.25}\n\
                {\"text\": \"z\", \"label\": \"1e-3\"}\n";
    assert_eq!(labels(&spec(JSONL, kind, None), json), expected);
    let table = "text,label\nx,3\ny, -0.25\nz,1e-3\n";
    assert_eq!(labels(&spec(CSV, kind, None), table), expected);
    let tree = "(3 (2 x) (2 y))\n";
    let found = labels(&spec(FileFormat::Trees, kind, None), tree);
    assert_eq!(found, numbers(&[3.0]));
    for label in ["", "good", "nan", "NaN", "inf", "-infinity", "1e39", "1,5"] {
        let found = labels(
            &spec(FileFormat::Tsv, kind, None),
            &format!("text\tlabel\nx\t{label}\n"),
        );
        assert_eq!(
            found[0].clone().unwrap_err(),
            format!("a:2: found {label:?}, expected a number as the label: finite, at most 3.4e38")
        );
    }
    let found = labels(
        &spec(JSONL, kind, None),
        "{\"text\": \"x\", \"label\": [3]}",
    );
    assert!(
        found[0]
            .clone()
            .unwrap_err()
            .contains("key `label`: found a list, expected a number")
    );
}

fn split(text: &str, kind: LabelKind, cached: bool) -> EncodedSplit {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.jsonl");
    // What is kept in a file is larger than what is kept in memory.
    let filler = if cached {
        "x ".repeat(1 << 20)
    } else {
        String::new()
    };
    std::fs::write(&file, text.replace("FILL", &filler)).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers/llama2");
    let tokenizer = TextTokenizer::from_dir(&folder).unwrap();
    let source = SplitSource {
        files: vec![file],
        read: spec(JSONL, kind, None),
        tags: TagChanges::default(),
        bad_rows: BadRows::default(),
    };
    let cache = cached.then(|| dir.path().join("cache"));
    let limits = InputLimits::truncate(8);
    let encode = || source.encode(TaskKind::Sequence, &tokenizer, &limits, cache.as_deref());
    // The second time it is found.
    drop(encode().unwrap());
    encode().unwrap()
}

#[test]
fn an_encoded_split_has_the_labels_of_its_rows() {
    let rows = "{\"text\": \"x\", \"pad\": \"FILL\", \"label\": [\"b\", \"a\"]}\n{\"text\": \"y\", \"pad\": \"FILL\", \"label\": []}\n\
                {\"text\": \"z\", \"pad\": \"FILL\", \"label\": [\"a\"]}\n{\"text\": \"z\", \"pad\": \"FILL\", \"label\": [\"a\"]}\n\
                {\"text\": \"z\", \"pad\": \"FILL\", \"label\": [\"b\"]}\n";
    for cached in [false, true] {
        let split = split(rows, LabelKind::Classes, cached);
        assert_eq!(split.label_kind(), LabelKind::Classes);
        let seen: Vec<(&str, usize)> = split
            .seen_labels()
            .iter()
            .map(|seen| (seen.name.as_str(), seen.count))
            .collect();
        assert_eq!(seen, [("b", 2), ("a", 3)]);
        let found = split.examples(0..5).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|row| (row.label, row.value, split.listed(row).unwrap()))
            .collect();
        let expected = [vec![0, 1], vec![], vec![1], vec![1], vec![0]];
        assert_eq!(found, expected.map(|classes| (None, None, classes)));
        // The ids behind the labels are still the ids.
        let (first, second) = (split.input(0).unwrap(), split.input(1).unwrap());
        assert_eq!(first.input_ids.len(), split.lengths()[0] as usize);
        assert_ne!(first.input_ids, second.input_ids);
    }
    let rows = "{\"text\": \"x\", \"pad\": \"FILL\", \"label\": 2.5}\n{\"text\": \"y\", \"pad\": \"FILL\", \"label\": -1}\n\
                {\"text\": \"y\", \"pad\": \"FILL\", \"label\": 0}\n{\"text\": \"y\", \"pad\": \"FILL\", \"label\": 1e-3}\n\
                {\"text\": \"y\", \"pad\": \"FILL\", \"label\": 1e-3}\n";
    for cached in [false, true] {
        let split = split(rows, LabelKind::Number, cached);
        assert!(split.seen_labels().is_empty());
        let found = split.examples(0..5).unwrap();
        let values: Vec<Option<f32>> = found.iter().map(|row| row.value).collect();
        assert_eq!(values, [2.5, -1.0, 0.0, 1e-3, 1e-3].map(Some));
        assert!(
            found
                .iter()
                .all(|row| split.listed(row).unwrap().is_empty())
        );
    }
}
