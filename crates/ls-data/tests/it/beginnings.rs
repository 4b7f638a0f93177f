//! How files begin: byte order marks, lines that say a delimiter, and what is found in them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ls_data::{
    AnswerColumn, AnswerOptions, Answers, ColumnRef, FileFormat, LabelKind, ReadSpec, SniffOptions,
    read_answers, sniff,
};

const MARK: &str = "\u{feff}";

/// A file of one text in each format, with the text and its label.
const TEXTS: [(&str, FileFormat, &str); 7] = [
    ("a.csv", FileFormat::Csv, "text,label\r\nAnn ran,x\r\n"),
    (
        "b.csv",
        FileFormat::Csv,
        "\"sep\";label;text\n1;x;Ann ran\n",
    ),
    ("c.csv", FileFormat::Csv, "sep=;\ntext;label\nAnn ran;x\n"),
    ("a.tsv", FileFormat::Tsv, "text\tlabel\nAnn ran\tx\n"),
    (
        "a.jsonl",
        FileFormat::Jsonl,
        "{\"text\": \"Ann ran\", \"label\": \"x\"}\n",
    ),
    (
        "a.json",
        FileFormat::Jsonl,
        "{\"data\": [\n{\"text\": \"Ann ran\", \"label\": \"x\"}\n]}\n",
    ),
    ("a.ft", FileFormat::FastText, "__label__x Ann ran\n"),
];

/// A file of one sentence in each format, with its two words and their tags.
const WORDS: [(&str, FileFormat, &str); 8] = [
    (
        "a.iob2",
        FileFormat::Conll,
        "# sent_id = 1\n1\tAnn\tB-PER\t-\tme\n2\tran\tO\t-\tme\n\n",
    ),
    (
        "b.iob2",
        FileFormat::Conll,
        "1\tAnn\tB-PER\t-\tme\n2\tran\tO\t-\tme\n",
    ),
    (
        "a.conllup",
        FileFormat::Conll,
        "# global.columns = ID FORM NER X\n1\tAnn\tB-PER\tO\n2\tran\tO\tO\n",
    ),
    ("a.conll", FileFormat::Conll, "Ann N B-PER\nran V O\n"),
    (
        "a.jsonl",
        FileFormat::Jsonl,
        "{\"tokens\": [\"Ann\", \"ran\"], \"tags\": [\"B-PER\", \"O\"]}\n",
    ),
    (
        "b.json",
        FileFormat::Jsonl,
        "[{\"text\": \"Ann ran\", \"entities\": [[0, 3, \"PER\"]]}]\n",
    ),
    (
        "b.jsonl",
        FileFormat::Jsonl,
        "[\"Ann ran\", {\"entities\": [[0, 3, \"PER\"]]}]\n",
    ),
    (
        "a.gold_conll",
        FileFormat::Conll2012,
        "d 0 0 Ann N - - - - - (PER) -\nd 0 1 ran V - - - - - * -\n",
    ),
];

/// The content as it is, behind one mark, behind two, and in UTF-16.
fn marked(content: &str) -> Vec<Vec<u8>> {
    let once = format!("{MARK}{content}");
    vec![
        content.as_bytes().to_vec(),
        once.as_bytes().to_vec(),
        format!("{MARK}{once}").into_bytes(),
        once.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        once.encode_utf16().flat_map(u16::to_be_bytes).collect(),
    ]
}

#[test]
fn a_byte_order_mark_is_no_part_of_any_format() {
    let dir = tempfile::tempdir().unwrap();
    let columns = |path: &Path| {
        let found = sniff(path, &SniffOptions::default()).unwrap();
        (found.format, found.names())
    };
    for (name, format, content) in TEXTS {
        let path = dir.path().join(name);
        let mut plain = None;
        for bytes in marked(content) {
            fs::write(&path, &bytes).unwrap();
            let mut spec = ReadSpec::new(format);
            spec.sequence.label = Some("label".into());
            let rows: Vec<_> = spec.read_sequence(&path).unwrap().collect();
            let [Ok(row)] = &rows[..] else {
                panic!("{name}: {rows:?}");
            };
            assert_eq!(
                (row.text.as_str(), row.class()),
                ("Ann ran", Some("x")),
                "{name}"
            );
            let seen = (row.line, columns(&path));
            assert_eq!(plain.get_or_insert(seen.clone()), &seen, "{name}");
        }
    }
    for (name, format, content) in WORDS {
        let path = dir.path().join(name);
        let mut plain = None;
        for bytes in marked(content) {
            fs::write(&path, &bytes).unwrap();
            let rows: Vec<_> = ReadSpec::new(format).read_tokens(&path).unwrap().collect();
            let [Ok(row)] = &rows[..] else {
                panic!("{name}: {rows:?}");
            };
            assert_eq!(row.tokens, ["Ann", "ran"], "{name}");
            assert_eq!(row.tags.as_deref().unwrap(), ["B-PER", "O"], "{name}");
            let seen = (row.line, columns(&path));
            assert_eq!(plain.get_or_insert(seen.clone()), &seen, "{name}");
        }
    }
    // Trees are known by their content.
    let path = dir.path().join("a.txt");
    for bytes in marked("(3 (2 Ann) (2 ran))\n") {
        fs::write(&path, &bytes).unwrap();
        assert_eq!(columns(&path), (FileFormat::Trees, Vec::new()));
    }
}

#[test]
fn answers_begin_as_the_readers_files_do() {
    let options = AnswerOptions {
        task: None,
        kind: LabelKind::Class,
        delimiter: None,
        column: AnswerColumn::Gold,
        names: None,
        header: true,
    };
    let tags = |bytes: &[u8]| {
        let answers = read_answers(bytes, Path::new("answers"), &options).unwrap();
        match answers {
            Answers::Tags(tags) => tags.into_iter().flat_map(|answer| answer.tags).collect(),
            Answers::Labels(labels) => {
                let names = labels.into_iter().flat_map(|l| l.label.into_names());
                names.collect::<Vec<_>>()
            }
        }
    };
    for bytes in marked("# id = 1\n\nAnn N B-PER O\nran V O O\n") {
        assert_eq!(tags(&bytes), ["B-PER", "O"]);
    }
    for bytes in marked("[\n{\"gold\": \"x\"}]") {
        assert_eq!(tags(&bytes), ["x"]);
    }
}

#[test]
fn what_begins_long_is_looked_at_once() {
    let begun = Instant::now();
    let words = "a\tO\n".repeat(16_000);
    let spec = ReadSpec::new(FileFormat::Conll);
    let reader = spec.read_tokens_from(std::io::Cursor::new(words), Path::new("f"));
    let words: usize = reader.unwrap().map(|row| row.unwrap().tokens.len()).sum();
    assert_eq!(words, 16_000);
    let blank = "\n".repeat(60_000) + "{\"text\": \"a\"}\n";
    let spec = ReadSpec::new(FileFormat::Jsonl);
    let reader = spec.read_sequence_from(std::io::Cursor::new(blank), Path::new("f"));
    assert_eq!(reader.unwrap().count(), 1);
    assert!(begun.elapsed() < Duration::from_secs(2), "{begun:?}");
}

#[test]
fn a_line_that_says_the_delimiter_is_passed_over_in_any_case() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.csv");
    fs::write(&path, "sep=;\r\ntext;label\r\na, b;x\r\n").unwrap();
    let delimiter = |name: &str| Some(name.to_string().try_into().unwrap());
    for given in [None, delimiter(";")] {
        let mut spec = ReadSpec::new(FileFormat::Csv);
        spec.delimiter = given;
        let rows: Vec<_> = spec.read_sequence(&path).unwrap().collect();
        assert_eq!(rows.len(), 1);
        let row = rows[0].as_ref().unwrap();
        assert_eq!((row.text.as_str(), row.line), ("a, b", 3));
        let options = SniffOptions {
            delimiter: given,
            ..SniffOptions::default()
        };
        let found = sniff(&path, &options).unwrap();
        assert_eq!(found.names(), ["text", "label"]);
        assert_eq!(found.delimiter, delimiter(";"));
    }
    // Columns that are asked for show it, as they do to the reader.
    fs::write(&path, "id;who, where|note\n1;a, b|c\n").unwrap();
    let sniffed = |columns: &[ColumnRef]| {
        let options = SniffOptions {
            columns,
            ..SniffOptions::default()
        };
        sniff(&path, &options).unwrap().names()
    };
    assert_eq!(sniffed(&["note".into()]), ["id;who, where", "note"]);
    assert_eq!(sniffed(&["id".into()]), ["id", "who, where|note"]);
    // A file to be labelled may be parted otherwise than those of training: behind a line that says
    // so, whether or not it is true, and behind blank lines.
    for (content, line) in [
        ("sep=,\r\ntext,label\r\na;b,x\r\n", 3),
        ("sep=^\ntext^label\na;b^x\n", 3),
        ("sep=;\ntext,label\na;b,x\n", 3),
        ("\r\n\ntext,label\na;b,x\n", 4),
        ("sep=,\n\ntext,label\na;b,x\n", 4),
    ] {
        fs::write(&path, content).unwrap();
        let mut spec = ReadSpec::new(FileFormat::Csv);
        spec.delimiter = delimiter(";");
        let rows: Vec<_> = spec.read_sequence(&path).unwrap().collect();
        assert_eq!(rows.len(), 1, "{content:?}");
        let row = rows[0].as_ref().unwrap();
        assert_eq!((row.text.as_str(), row.line), ("a;b", line), "{content:?}");
        assert_eq!(row.class(), Some("x"));
    }
    fs::write(&path, "id,text\n1,a;b\n").unwrap();
    let mut spec = ReadSpec::new(FileFormat::Csv);
    spec.delimiter = delimiter(";");
    spec.sequence.label = None;
    let rows: Vec<_> = spec.read_sequence(&path).unwrap().collect();
    assert_eq!(rows[0].as_ref().unwrap().text, "a;b");
}

#[test]
fn a_hash_that_is_a_word_stays_one() {
    let words = "# = O\nb N O\n\n# b=c B-X\n# = O\n\n# id = 1\nc N O\n";
    let spec = ReadSpec::new(FileFormat::Conll);
    let reader = spec.read_tokens_from(std::io::Cursor::new(words), Path::new("f"));
    let words: Vec<_> = reader.unwrap().map(|row| row.unwrap().tokens).collect();
    assert_eq!(words, [vec!["#", "b"], vec!["#", "#"], vec!["c"]]);
}

#[test]
fn one_of_several_lists_is_chosen_by_its_name_or_asked_for() {
    let texts = |content: &str| -> Result<Vec<String>, String> {
        let mut spec = ReadSpec::new(FileFormat::Jsonl);
        spec.sequence.label = None;
        let content = std::io::Cursor::new(content.to_string());
        let rows = spec.read_sequence_from(content, Path::new("a.json"));
        let rows = rows.map_err(|error| error.to_string())?;
        rows.map(|row| row.map(|row| row.text).map_err(|error| error.to_string()))
            .collect()
    };
    let rows = "[{\"text\": \"a\"}]";
    let labels = "[{\"id\": 1}]";
    let whole = [
        format!("{{\"labels\": {labels}, \"rows\": {rows}}}"),
        format!("{{\"rows\": {rows}, \"labels\": {labels}}}"),
        format!("{{\"data\": {rows}, \"meta\": {labels}}}"),
        format!(
            "{{\n\"rows\": {rows},\n\"meta\": {labels},\n\"x\": \"{}\"}}",
            "y".repeat(1 << 16)
        ),
        format!("{{\"labels\": {rows}}}"),
    ];
    for content in whole {
        assert_eq!(texts(&content), Ok(vec!["a".to_string()]), "{content:.60}");
    }
    let error = texts(&format!("{{\"train\": {rows}, \"test\": {rows}}}")).unwrap_err();
    assert!(
        error.ends_with("; write the list that is meant to a file of its own"),
        "{error}"
    );
}
