//! The formats that data sets are published in: good files in their odd forms, each fault with its
//! message, and round trips through a writer of the form.

use std::path::Path;

use ls_data::{DataError, FileFormat, ReadSpec, SequenceExample, TokenExample, read_label_json};
use ls_files::FileError;
use proptest::prelude::*;

fn sequence(spec: &ReadSpec, data: &str) -> Vec<Result<SequenceExample, DataError>> {
    let reader = std::io::Cursor::new(data.as_bytes().to_vec());
    spec.read_sequence_from(reader, Path::new("data"))
        .unwrap()
        .collect()
}

/// Text and label of each row, or its message.
fn texts(spec: &ReadSpec, data: &str) -> Vec<Result<(String, String), String>> {
    let row = |row: Result<SequenceExample, DataError>| match row {
        Ok(row) => Ok((
            row.text,
            row.label
                .map(|label| label.into_names().concat())
                .unwrap_or_default(),
        )),
        Err(error) => Err(error.to_string()),
    };
    sequence(spec, data).into_iter().map(row).collect()
}

fn text(text: &str, label: &str) -> Result<(String, String), String> {
    Ok((text.to_string(), label.to_string()))
}

fn bad(message: &str) -> Result<(String, String), String> {
    Err(message.to_string())
}

fn tokens(spec: &ReadSpec, data: &str) -> Vec<Result<TokenExample, String>> {
    let reader = std::io::Cursor::new(data.as_bytes().to_vec());
    let rows = spec.read_tokens_from(reader, Path::new("data")).unwrap();
    rows.map(|row| row.map_err(|error| error.to_string()))
        .collect()
}

fn names(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_string()).collect())
}

/// The columns of AG's original files.
fn ag() -> ReadSpec {
    let mut spec = ReadSpec::new(FileFormat::Csv);
    spec.header = false;
    spec.sequence.label = Some(0.into());
    spec.sequence.text = 1.into();
    spec.sequence.append = vec![2.into()];
    spec.sequence.first_label = 1;
    spec.label_names = names(&["World", "Sports", "Business", "Sci/Tech"]);
    spec
}

#[test]
fn title_and_description_with_backslashes() {
    // A backslash before the closing quote escapes nothing.
    let data =
        "\"3\",\"Oil, again\",\"Prices \\rise. \"\"High\"\"\\\"\n\"4\",\"New \\$5 chip\",\"\"\n";
    assert_eq!(
        texts(&ag(), data),
        [
            text("Oil, again Prices \\rise. \"High\"\\", "Business"),
            text("New \\$5 chip ", "Sci/Tech"),
        ]
    );
    let mut spaces = ag();
    spaces.sequence.backslash_is_space = true;
    assert_eq!(
        texts(&spaces, data)[0],
        text("Oil, again Prices  rise. \"High\" ", "Business")
    );
    assert_eq!(
        texts(
            &ag(),
            "\"0\",\"a\",\"b\"\n\"5\",\"a\",\"b\"\n\"1\",\"\",\" \"\n"
        ),
        [
            bad("data:1: label 0 has no name; names are given for 1 to 4"),
            bad("data:2: label 5 has no name; names are given for 1 to 4"),
            bad("data:3: text is empty"),
        ]
    );
}

#[test]
fn texts_are_put_together_in_every_table_and_in_json() {
    let mut spec = ReadSpec::new(FileFormat::Jsonl);
    spec.sequence.text = "title".into();
    spec.sequence.append = vec!["body".into(), "more".into()];
    spec.sequence.separator = "\n".to_string();
    spec.sequence.keep_extra = false;
    assert_eq!(
        texts(
            &spec,
            "{\"body\":\"b\",\"title\":\"a\",\"label\":\"x\",\"more\":\"\"}\n{\"title\":\"a\",\"label\":1}"
        ),
        [
            text("a\nb\n", "x"),
            bad("data:2: no key `body`; the object has `title`, `label`"),
        ]
    );
    spec.format = FileFormat::Tsv;
    assert_eq!(
        texts(&spec, "label\tmore\tbody\ttitle\nx\tm\tb\ta\n"),
        [text("a\nb\nm", "x")]
    );
}

#[test]
fn an_integer_label_takes_the_name_beside_it() {
    let mut spec = ReadSpec::new(FileFormat::Jsonl);
    let data = "{\"text\":\"a\",\"label\":1,\"label_text\":\"very good\"}\n{\"text\":\"b\",\"label\":0}\n{\"text\":\"c\",\"label\":2,\"label_text\":7}\n{\"text\":\"d\",\"label\":\"x\",\"label_text\":\"y\"}\n";
    for keep_extra in [true, false] {
        spec.sequence.keep_extra = keep_extra;
        assert_eq!(
            texts(&spec, data),
            [
                text("a", "very good"),
                text("b", "0"),
                text("c", "2"),
                text("d", "x")
            ]
        );
    }
    // Names that are given come first.
    spec.label_names = names(&["bad", "good", "x"]);
    assert_eq!(texts(&spec, data)[0], text("a", "good"));
}

#[test]
fn lines_of_fasttext() {
    let mut spec = ReadSpec::new(FileFormat::FastText);
    let data = "__label__3 , oil , again\r\n\n  __label__1\tRain  today \n";
    assert_eq!(
        texts(&spec, data),
        [text(", oil , again", "3"), text("Rain  today", "1")]
    );
    assert_eq!(sequence(&spec, data)[1].as_ref().unwrap().line, 3);
    spec.label_names = names(&["World", "Sports", "Business"]);
    spec.sequence.first_label = 1;
    assert_eq!(texts(&spec, data)[0], text(", oil , again", "Business"));
    let place = "words with `__label__`, expected one, and that at the beginning of the line";
    assert_eq!(
        texts(
            &spec,
            "__label__1 __label__2 a\nb __label__1\n__label__4 a\n__label__1 \nplain\n__label__ a\n"
        ),
        [
            bad(&format!("data:1: found 2 {place}")),
            bad(&format!("data:2: found 1 {place}")),
            bad("data:3: label 4 has no name; names are given for 1 to 3"),
            bad("data:4: text is empty"),
            bad("data:5: the example has no label"),
            bad("data:6: label is empty"),
        ]
    );
    spec.sequence.label = None;
    assert_eq!(
        texts(&spec, "plain\n__label__1 a\n"),
        [text("plain", ""), text("a", "")]
    );
}

#[test]
fn trees_of_the_treebank() {
    let mut spec = ReadSpec::new(FileFormat::Trees);
    spec.label_names = names(&[
        "very negative",
        "negative",
        "neutral",
        "positive",
        "very positive",
    ]);
    let data = "(3 (2 It) (4 (3 works) (2 .)))\n\n(1 (2 -LRB-) (1 sic\\/so))\n";
    assert_eq!(
        texts(&spec, data),
        [
            text("It works .", "positive"),
            text("-LRB- sic\\/so", "negative")
        ]
    );
    let form = "expected the form `(3 (2 It) (4 works))`";
    assert_eq!(
        texts(&spec, "It works .\n(3 (2 It)\n(7 a)\n"),
        [
            bad(&format!(
                "data:1:1: not a tree: a tree begins with `(`; {form}"
            )),
            bad(&format!(
                "data:2:10: not a tree: the line ends inside a tree; {form}"
            )),
            bad("data:3: label 7 has no name; names are given for 0 to 4"),
        ]
    );
    spec.sequence.label = None;
    assert_eq!(texts(&spec, data)[0], text("It works .", ""));
}

const CONLL2012: &str = "\
#begin document (bc/made/00/made_0001); part 000
bc/made/00/made_0001   0   0     Ann   NNP  (TOP(S(NP*)  -   -   -   Speaker_1   (PERSON)   (ARG0*)   (0)
bc/made/00/made_0001   0   1   spent   VBD         (VP*  spend 01 1   Speaker_1      *         (V*)    -
bc/made/00/made_0001   0   2     two    CD         (NP*  -   -   -   Speaker_1   (DATE*     (ARG1*    -
bc/made/00/made_0001   0   3   weeks   NNS            *) -   -   -   Speaker_1       *)        *)     -

bc/made/00/made_0001   0   0    (       -LRB-     (TOP*  -   -   -   Speaker_1   *   -
bc/made/00/made_0001   0   1    Oslo    NNP          *) -   -   -   Speaker_1   (GPE*)   (1)
#end document
#begin document (bc/made/00/made_0002); part 000
bc/made/00/made_0002   0   0    New   NNP   (TOP*   -   -   -   -   (ORG*   -
bc/made/00/made_0002   0   1    Old   NNP   *   -   -   -   -   *   -
bc/made/00/made_0002   0   2    Co.   NNP   *)   -   -   -   -   *)   -
#end document
";

#[test]
fn columns_of_conll_2012() {
    let mut spec = ReadSpec::new(FileFormat::Conll2012);
    let found = tokens(&spec, CONLL2012);
    let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
    let tags = |row: usize| found[row].tags.clone().unwrap();
    assert_eq!(found.len(), 3);
    assert_eq!(found[0].tokens, ["Ann", "spent", "two", "weeks"]);
    assert_eq!(tags(0), ["B-PERSON", "O", "B-DATE", "I-DATE"]);
    assert_eq!((found[1].line, found[1].tokens[0].as_str()), (7, "("));
    assert_eq!(tags(1), ["O", "B-GPE"]);
    assert_eq!(tags(2), ["B-ORG", "I-ORG", "I-ORG"]);

    spec.label_names = names(&["O", "B-PERSON"]);
    assert_eq!(
        tokens(&spec, CONLL2012)[0].clone().unwrap_err(),
        "data:4: unknown label `B-DATE`; the labels are `O`, `B-PERSON`"
    );
    spec.tokens.tagged = false;
    assert_eq!(tokens(&spec, CONLL2012)[0].as_ref().unwrap().tags, None);
}

#[test]
fn brackets_that_do_not_match() {
    let spec = ReadSpec::new(FileFormat::Conll2012);
    let check = |names: &[&str], fault: &str| {
        let lines: String = names
            .iter()
            .map(|name| format!("d 0 0 w NN * - - - - {name} -\n"))
            .collect();
        // The sentence behind is read.
        let found = tokens(&spec, &format!("{lines}\nd 0 0 w NN * - - - - * -\n"));
        assert_eq!(found.len(), 2, "{names:?}");
        assert_eq!(found[0].clone().unwrap_err(), format!("data:{fault}"));
        assert!(found[1].is_ok());
    };
    check(
        &["(ORG*", "(GPE)"],
        "2: name `(GPE)` opens a name inside another",
    );
    check(
        &["(ORG(GPE*", "*)"],
        "1: name `(ORG(GPE*` is not of the form `*`, `(TYPE*`, `*)` or `(TYPE)`",
    );
    check(
        &["*", "*)", "*"],
        "2: name `*)` closes a name that is not open",
    );
    check(
        &["*", "(ORG*", "*"],
        "2: name `(ORG*` is not closed before the sentence ends",
    );
    for odd in ["(ORG", "()", "(*)", "**", "-", "ORG", "*))", "(A*)B", "))"] {
        let form = "is not of the form `*`, `(TYPE*`, `*)` or `(TYPE)`";
        check(&[odd], &format!("1: name `{odd}` {form}"));
    }
    assert_eq!(
        tokens(&spec, "d 0 0 w NN *\n")[0].clone().unwrap_err(),
        "data:1: found 6 columns, expected at least 11"
    );
}

#[test]
fn label_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("label.json");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        read_label_json(&path)
            .map_err(|e| e.to_string().replace(path.to_str().unwrap(), "label.json"))
    };
    assert_eq!(read("{\"B-X\": 1, \"O\": 0}").unwrap(), ["O", "B-X"]);
    assert_eq!(read("[\"O\", \"B-X\"]").unwrap(), ["O", "B-X"]);
    let names = "label.json: expected names with their integers from 0 on, each once, such as {\"O\": 0, \"B-PER\": 1}";
    for other in [
        "{}",
        "[]",
        "3",
        "{\"O\": 1}",
        "{\"O\": 0, \"X\": 0}",
        "{\"O\": -1}",
        "{\"O\": \"0\"}",
        "[1]",
        "{\"O\": 18446744073709551615}",
    ] {
        assert_eq!(read(other).unwrap_err(), names, "{other}");
    }
    assert!(
        read("{")
            .unwrap_err()
            .starts_with("label.json:1:1: malformed JSON: ")
    );
    let missing = read_label_json(&dir.path().join("none.json"));
    assert!(matches!(
        missing,
        Err(DataError::File(FileError::NotFound { .. }))
    ));
}

#[test]
fn integer_tags_take_the_names_of_the_label_file_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.json");
    std::fs::write(&path, "{\"tokens\":[\"Ann\",\"ran\"],\"tags\":[1,0]}\n").unwrap();
    let read = |spec: &ReadSpec| {
        let mut rows = spec.read_tokens(&path).unwrap();
        rows.next().unwrap().map(|row| row.tags.unwrap())
    };
    let mut spec = ReadSpec::new(FileFormat::Jsonl);
    assert!(matches!(read(&spec), Err(DataError::NamesNeeded { .. })));
    let labels = dir.path().join("label.json");
    std::fs::write(&labels, "{\"O\":0,\"B-PER\":1}").unwrap();
    assert_eq!(read(&spec).unwrap(), ["B-PER", "O"]);
    spec.label_names = names(&["X", "Y"]);
    assert_eq!(read(&spec).unwrap(), ["Y", "X"]);
    spec.label_names = None;
    std::fs::write(&labels, "of no use").unwrap();
    assert!(matches!(read(&spec), Err(DataError::NamesNeeded { .. })));
}

#[test]
fn names_of_formats() {
    for format in FileFormat::ALL {
        assert_eq!(FileFormat::from_name(format.name()), Some(format));
        let stored = serde_json::to_string(&format).unwrap();
        assert_eq!(stored, format!("\"{}\"", format.name()));
    }
    assert_eq!(FileFormat::from_name("xml"), None);
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_says_how_to_build_it_in() {
    let spec = ReadSpec::new(FileFormat::Parquet);
    let message = "x.parquet: this build does not read Parquet; build with `--features parquet`";
    let path = Path::new("x.parquet");
    assert_eq!(spec.read_sequence(path).err().unwrap().to_string(), message);
    assert_eq!(spec.read_tokens(path).err().unwrap().to_string(), message);
    assert_eq!(
        spec.read_sequence_from(std::io::empty(), path)
            .err()
            .unwrap()
            .to_string(),
        message
    );
}

#[test]
fn formats_hold_texts_or_words() {
    let path = Path::new("data");
    for format in [FileFormat::Conll, FileFormat::Conll2012] {
        let read = ReadSpec::new(format).read_sequence_from(std::io::empty(), path);
        assert!(matches!(read, Err(DataError::UnsupportedFormat { .. })));
    }
    for format in [
        FileFormat::Csv,
        FileFormat::Tsv,
        FileFormat::FastText,
        FileFormat::Trees,
    ] {
        let read = ReadSpec::new(format).read_tokens_from(std::io::empty(), path);
        assert!(matches!(read, Err(DataError::UnsupportedFormat { .. })));
    }
}

/// Any text that is not blank, line ends and quotes included.
fn any_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("\"".to_string()),
        Just("\r\n".to_string()),
        Just("\n".to_string()),
        Just(", ".to_string()),
        Just("\\".to_string()),
        Just("\u{feff}".to_string()),
        "\\PC{1,6}",
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(part, 1..8)
        .prop_map(|parts| parts.concat())
        .prop_filter("blank", |text| !text.trim().is_empty())
}

/// Text of one line, without tabs.
fn one_line() -> impl Strategy<Value = String> {
    any_text().prop_map(|text| format!("w{}", text.replace(['\n', '\r', '\t'], " ")))
}

/// A word without white space or brackets that no reader takes for a mark of its format.
fn word() -> impl Strategy<Value = String> {
    any_text().prop_map(|text| {
        let keep = |c: &char| !c.is_whitespace() && !"()\u{feff}\u{0}".contains(*c);
        let text: String = text.chars().filter(keep).collect();
        format!("w{text}")
    })
}

fn label() -> impl Strategy<Value = String> {
    "[A-Za-z][A-Za-z0-9_/-]{0,8}"
}

/// Words with a bracketed form's spans: length and type of each, none for `O`.
fn tagged() -> impl Strategy<Value = (Vec<String>, Vec<String>)> {
    let span = (
        prop::option::of("[A-Z]{1,5}"),
        prop::collection::vec(word(), 1..4),
    );
    prop::collection::vec(span, 1..6).prop_map(|spans| {
        let mut words = Vec::new();
        let mut tags = Vec::new();
        for (kind, span) in spans {
            for (at, word) in span.into_iter().enumerate() {
                words.push(word);
                tags.push(match (&kind, at) {
                    (None, _) => "O".to_string(),
                    (Some(kind), 0) => format!("B-{kind}"),
                    (Some(kind), _) => format!("I-{kind}"),
                });
            }
        }
        (words, tags)
    })
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// Asserts that a file gives exactly these texts and labels, and the lines on which they begin.
fn same_texts(spec: &ReadSpec, data: &str, rows: &[(String, String)]) -> Result<(), TestCaseError> {
    let found = texts(spec, data);
    let expected: Vec<_> = rows.iter().map(|(t, l)| text(t, l)).collect();
    prop_assert_eq!(found, expected, "{:?}", data);
    Ok(())
}

fn same_tokens(
    spec: &ReadSpec,
    data: &str,
    rows: &[(Vec<String>, Vec<String>)],
) -> Result<(), TestCaseError> {
    let found: Vec<_> = tokens(spec, data)
        .into_iter()
        .map(|row| row.map(|row| (row.tokens, row.tags.unwrap())))
        .collect();
    let expected: Vec<_> = rows.iter().cloned().map(Ok).collect();
    prop_assert_eq!(found, expected, "{:?}", data);
    Ok(())
}

proptest! {
    #[test]
    fn csv_round_trip(rows in prop::collection::vec((any_text(), label()), 1..6), crlf: bool) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mut data = format!("text,label{end}");
        let mut lines = Vec::new();
        for (text, label) in &rows {
            lines.push(data.matches('\n').count() + 1);
            data += &format!("{},{label}{end}", quoted(text));
        }
        let spec = ReadSpec::new(FileFormat::Csv);
        same_texts(&spec, &data, &rows)?;
        let found: Vec<_> = sequence(&spec, &data).into_iter().map(|row| row.unwrap().line).collect();
        prop_assert_eq!(found, lines);
    }

    #[test]
    fn ag_round_trip(rows in prop::collection::vec((1..5_usize, any_text(), any_text()), 1..6)) {
        let spec = ag();
        let names = spec.label_names.clone().unwrap();
        let mut data = String::new();
        for (class, title, description) in &rows {
            data += &format!("\"{class}\",{},{}\n", quoted(title), quoted(description));
        }
        let expected: Vec<_> = rows
            .iter()
            .map(|(class, title, description)| (format!("{title} {description}"), names[class - 1].clone()))
            .collect();
        same_texts(&spec, &data, &expected)?;
    }

    #[test]
    fn tsv_round_trip(rows in prop::collection::vec((one_line(), label()), 1..6)) {
        let data: String = rows.iter().map(|(text, label)| format!("{text}\t{label}\n")).collect();
        same_texts(&ReadSpec::new(FileFormat::Tsv), &format!("text\tlabel\n{data}"), &rows)?;
    }

    #[test]
    fn jsonl_round_trip(rows in prop::collection::vec((any_text(), label()), 1..6), keep_extra: bool) {
        let line = |(text, label): &(String, String)| {
            format!("{}\n", serde_json::json!({"id": text, "text": text, "label": label}))
        };
        let data: String = rows.iter().map(line).collect();
        let mut spec = ReadSpec::new(FileFormat::Jsonl);
        spec.sequence.keep_extra = keep_extra;
        same_texts(&spec, &data, &rows)?;
    }

    #[test]
    fn jsonl_tokens_round_trip(rows in prop::collection::vec(tagged(), 1..6), keep_extra: bool) {
        let line = |(tokens, tags): &(Vec<String>, Vec<String>)| {
            format!("{}\n", serde_json::json!({"tokens": tokens, "ner_tags": tags}))
        };
        let data: String = rows.iter().map(line).collect();
        let mut spec = ReadSpec::new(FileFormat::Jsonl);
        spec.tokens.keep_extra = keep_extra;
        same_tokens(&spec, &data, &rows)?;
    }

    #[test]
    fn conll_round_trip(rows in prop::collection::vec(tagged(), 1..6), tabs: bool, documents: bool) {
        let mut data = String::new();
        let between = if tabs { "\t" } else { " " };
        for (tokens, tags) in &rows {
            if documents {
                data += "-DOCSTART- O\n\n";
            }
            for (token, tag) in tokens.iter().zip(tags) {
                data += &format!("{token}{between}{tag}\n");
            }
            data += "\n";
        }
        same_tokens(&ReadSpec::new(FileFormat::Conll), &data, &rows)?;
    }

    #[test]
    fn conll2012_round_trip(rows in prop::collection::vec(tagged(), 1..6)) {
        let mut data = "#begin document (made); part 000\n".to_string();
        for (tokens, tags) in &rows {
            for (at, (token, tag)) in tokens.iter().zip(tags).enumerate() {
                let ends = tags.get(at + 1).is_none_or(|next| !next.starts_with("I-"));
                let name = match tag.strip_prefix("B-") {
                    Some(kind) if ends => format!("({kind})"),
                    Some(kind) => format!("({kind}*"),
                    None if tag != "O" && ends => "*)".to_string(),
                    None => "*".to_string(),
                };
                data += &format!("made 0 {at} {token} NN * - - - - {name} -\n");
            }
            data += "\n";
        }
        same_tokens(&ReadSpec::new(FileFormat::Conll2012), &data, &rows)?;
    }

    #[test]
    fn fasttext_round_trip(rows in prop::collection::vec((one_line(), label()), 1..6)) {
        let rows: Vec<_> = rows.into_iter().map(|(text, label)| (text.trim().to_string(), label)).collect();
        let data: String = rows.iter().map(|(text, label)| format!("__label__{label} {text}\n")).collect();
        same_texts(&ReadSpec::new(FileFormat::FastText), &data, &rows)?;
    }

    #[test]
    fn trees_round_trip(rows in prop::collection::vec((prop::collection::vec((word(), 0..5_u8), 1..8), 0..5_u8), 1..6)) {
        let mut data = String::new();
        let mut expected = Vec::new();
        for (words, root) in &rows {
            // Leaves are joined from the right, with any label between.
            let mut leaves: Vec<String> = words.iter().map(|(word, label)| format!("({label} {word})")).collect();
            while leaves.len() > 2 {
                let (right, left) = (leaves.pop().unwrap(), leaves.pop().unwrap());
                leaves.push(format!("(2 {left} {right})"));
            }
            data += &match leaves.len() {
                1 => format!("({root} {})\n", words[0].0),
                _ => format!("({root} {})\n", leaves.join(" ")),
            };
            let text: Vec<_> = words.iter().map(|(word, _)| word.as_str()).collect();
            expected.push((text.join(" "), root.to_string()));
        }
        same_texts(&ReadSpec::new(FileFormat::Trees), &data, &expected)?;
    }
}
