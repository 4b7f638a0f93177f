//! Files of answers in their forms, the ways they can be wrong, and what laying two side by side
//! finds.

use std::path::Path;

use ls_data::{
    AnswerColumn, AnswerOptions, Answers, ColumnRef, DataError, LabelAnswer, LabelKind, LabelSet,
    TagAnswer, TaskKind, check_aligned, class_names, probability_rows, read_answers,
};

const USUAL: AnswerOptions<'static> = AnswerOptions {
    task: None,
    kind: LabelKind::Class,
    delimiter: None,
    column: AnswerColumn::Usual,
    names: None,
    header: true,
};

fn read(name: &str, text: &str, options: AnswerOptions<'_>) -> Result<Answers, DataError> {
    read_answers(text.as_bytes(), Path::new(name), &options)
}

#[test]
fn an_answer_without_a_label_says_why_and_what_to_do() {
    let text = "{\"text\": \"a\", \"label\": \"x\"}\n\
                {\"text\": \"\", \"label\": null, \"error\": \"text is empty\"}\n";
    assert_eq!(
        read("p.jsonl", text, USUAL).unwrap_err().to_string(),
        "p.jsonl:2: no `label` to score, because text is empty; take the example out of both files, \
         or write the label here that it is to count as"
    );
    let null = "{\"text\": \"\", \"label\": null}\n";
    let found = read("p.jsonl", null, USUAL).unwrap_err().to_string();
    assert!(
        found.contains("found null, expected a string or an integer"),
        "{found}"
    );
}

fn tags(answers: Answers) -> Vec<TagAnswer> {
    match answers {
        Answers::Tags(tags) => tags,
        other => panic!("{other:?}"),
    }
}

fn labels(answers: Answers) -> Vec<LabelAnswer> {
    match answers {
        Answers::Labels(labels) => labels,
        other => panic!("{other:?}"),
    }
}

fn all_tags(name: &str, text: &str, options: AnswerOptions<'_>) -> Vec<String> {
    let answers = tags(read(name, text, options).unwrap());
    answers.iter().map(|a| a.tags.join(" ")).collect()
}

fn all_labels(name: &str, text: &str, options: AnswerOptions<'_>) -> Vec<String> {
    let answers = labels(read(name, text, options).unwrap());
    let names = answers.into_iter().flat_map(|a| a.label.into_names());
    names.collect()
}

fn message(name: &str, text: &str, options: AnswerOptions<'_>) -> String {
    read(name, text, options).unwrap_err().to_string()
}

#[test]
fn tags_come_from_columns_and_from_objects() {
    let expected = ["B-PER O", "B-LOC"];
    let gold = AnswerOptions {
        column: AnswerColumn::Gold,
        ..USUAL
    };
    let first: ColumnRef = 1.into();
    let first = AnswerOptions {
        column: AnswerColumn::At(&first),
        ..USUAL
    };
    let text = "\u{feff}-DOCSTART- -X- O O\r\n\r\nZoë NN O B-PER\r\nran VB O O\r\n\r\n\r\nRome NN B-LOC B-LOC\r\n";
    // The ending says the format, or else the content does.
    for name in ["a.conll", "a.txt", "eng.testb", "-"] {
        assert_eq!(all_tags(name, text, USUAL), expected);
        assert_eq!(all_tags(name, text, gold), ["O O", "B-LOC"]);
        assert_eq!(all_tags(name, text, first), ["NN VB", "NN"]);
    }
    let as_tags = AnswerOptions {
        task: Some(TaskKind::Token),
        ..USUAL
    };
    let tabs = "Zoë\tO\tB-PER\nran\tO\tO\n\nRome\tO\tB-LOC";
    assert_eq!(all_tags("a.tsv", tabs, as_tags), expected);
    assert_eq!(
        all_tags(
            "a.tsv",
            tabs,
            AnswerOptions {
                column: AnswerColumn::Gold,
                ..as_tags
            }
        ),
        ["O O", "O"]
    );

    let objects = "\u{feff}{\"tags\": [\"B-PER\", \"O\"], \"tokens\": [\"Zoë\", \"ran\"], \"gold\": [\"O\", \"O\"]}\r\n\n{\"tags\": [\"B-LOC\"], \"gold\": [\"O\"]}\n";
    for name in ["a.jsonl", "-"] {
        assert_eq!(all_tags(name, objects, USUAL), expected);
        assert_eq!(all_tags(name, objects, gold), ["O O", "O"]);
    }
    let answers = tags(read("a.jsonl", objects, USUAL).unwrap());
    assert_eq!(answers[0].words.as_deref().unwrap(), ["Zoë", "ran"]);
    assert_eq!(
        (answers[1].words.as_ref(), answers[1].line_of(3)),
        (None, 3)
    );
    let answers = tags(read("a.conll", text, USUAL).unwrap());
    assert_eq!((answers[0].line_of(1), answers[1].line), (4, 7));

    let names = LabelSet::from_names(vec!["O".into(), "B-LOC".into()]).unwrap();
    let with_names = AnswerOptions {
        names: Some(&names),
        ..USUAL
    };
    let integers = r#"{"ner_tags": [1, 0, "B-LOC"]}"#;
    assert_eq!(all_tags("a.jsonl", integers, with_names), ["B-LOC O B-LOC"]);
    assert_eq!(
        message("a.jsonl", integers, USUAL),
        "a.jsonl:1: key `ner_tags` holds integers, and no label names are given"
    );
    assert_eq!(
        message("a.jsonl", r#"{"tags": [12]}"#, with_names),
        "a.jsonl:1: unknown label `12`; the labels are `O`, `B-LOC`"
    );
    assert_eq!(
        message("a.conll", "a O\nb B-LOK", with_names),
        "a.conll:2: unknown label `B-LOK`; the labels are `O`, `B-LOC`; did you mean `B-LOC`?"
    );
}

#[test]
fn labels_come_from_tables_and_from_objects() {
    let expected = ["pos", "neg"];
    let gold = AnswerOptions {
        column: AnswerColumn::Gold,
        ..USUAL
    };
    let objects =
        "{\"label\": \"pos\", \"gold\": 1}\n{\"text\": \"a\", \"label\": \"neg\", \"gold\": 0}";
    assert_eq!(all_labels("a.jsonl", objects, USUAL), expected);
    assert_eq!(all_labels("a.jsonl", objects, gold), ["1", "0"]);
    let names = LabelSet::from_names(vec!["neg".into(), "pos".into()]).unwrap();
    let with_names = AnswerOptions {
        names: Some(&names),
        ..gold
    };
    assert_eq!(all_labels("a.jsonl", objects, with_names), expected);

    // With and without texts, by name and by place.
    assert_eq!(
        all_labels("a.csv", "text,label\n\"a, b\",pos\nc,neg\n", USUAL),
        expected
    );
    assert_eq!(
        all_labels("a.csv", "id,label\n1,pos\n2,neg\n", USUAL),
        expected
    );
    assert_eq!(
        all_labels("a.tsv", "label\tgold\nneg\tpos\nneg\tneg\n", gold),
        expected
    );
    let second: ColumnRef = 1.into();
    let second = AnswerOptions {
        column: AnswerColumn::At(&second),
        header: false,
        ..USUAL
    };
    assert_eq!(all_labels("a.csv", "1,pos\n2,neg\n", second), expected);
    let answers = labels(read("a.csv", "text,label\na,pos\n", USUAL).unwrap());
    assert_eq!(answers[0].text.as_deref(), Some("a"));
    let answers = labels(read("a.csv", "id,label\na,pos\n", USUAL).unwrap());
    assert_eq!(answers[0].text, None);
}

#[test]
fn answers_may_be_one_list_of_objects() {
    let list = "[\n {\"tokens\": [\"Ann\", \"ran\"], \"tags\": [\"B-PER\", \"O\"]},\n {\"tags\": [\"O\"]}\n]";
    for name in ["a.json", "answers"] {
        assert_eq!(all_tags(name, list, USUAL), ["B-PER O", "O"]);
        let lines: Vec<usize> = tags(read(name, list, USUAL).unwrap())
            .iter()
            .map(|answer| answer.line)
            .collect();
        assert_eq!(lines, [2, 3]);
    }
    let wrapped = "{\"data\": [{\"label\": \"good\"}, {\"label\": 3}]}";
    assert_eq!(all_labels("a.json", wrapped, USUAL), ["good", "3"]);
    assert_eq!(
        message("a.json", "[{\"label\": 1}", USUAL),
        "a.json:1:14: malformed JSON: found the end of the file, expected `,` or `]` behind a \
         member of the list"
    );
}

#[test]
fn what_cannot_be_read_names_its_place() {
    let name: ColumnRef = "ner".into();
    let (first, index): (ColumnRef, ColumnRef) = (0.into(), 1.into());
    let at = |column| AnswerOptions {
        column: AnswerColumn::At(column),
        ..USUAL
    };
    let labels = AnswerOptions {
        task: Some(TaskKind::Sequence),
        ..USUAL
    };
    let tags = AnswerOptions {
        task: Some(TaskKind::Token),
        ..USUAL
    };
    let gold = AnswerOptions {
        column: AnswerColumn::Gold,
        ..USUAL
    };
    for (file, text, options, expected) in [
        ("a.jsonl", "", USUAL, "a.jsonl: holds no examples"),
        ("a.jsonl", "\n \r\n", USUAL, "a.jsonl: holds no examples"),
        ("a.conll", "\n\n", USUAL, "a.conll: holds no examples"),
        ("a.csv", "label\n", USUAL, "a.csv: holds no examples"),
        (
            "a.jsonl",
            "{\"x\": 1}",
            USUAL,
            "a.jsonl:1: no key `label`; the object has `x`",
        ),
        (
            "a.jsonl",
            "{\"x\": 1}",
            tags,
            "a.jsonl:1: no key `tags`; the object has `x`",
        ),
        (
            "a.jsonl",
            "{\"label\": 1}",
            gold,
            "a.jsonl:1: no key `gold`; the object has `label`",
        ),
        (
            "a.jsonl",
            "{\"label\": 1.5}",
            USUAL,
            "a.jsonl:1: key `label`: found a number, expected a string or an integer",
        ),
        (
            "a.jsonl",
            "{\"label\": \" \"}",
            USUAL,
            "a.jsonl:1: key `label`: found an empty string, expected a string or an integer",
        ),
        (
            "a.jsonl",
            "{\"label\": 1}\n{\"label\": null}",
            USUAL,
            "a.jsonl:2: key `label`: found null, expected a string or an integer",
        ),
        (
            "a.jsonl",
            "{\"tags\": [\"O\", {}]}",
            USUAL,
            "a.jsonl:1: key `tags[1]`: found an object, expected a string or an integer",
        ),
        (
            "a.jsonl",
            "{\"tags\": \"O\"}",
            tags,
            "a.jsonl:1: key `tags`: found a string, expected a list",
        ),
        (
            "a.jsonl",
            "{\"tags\": [\"O\"], \"tokens\": [\"a\", \"b\"]}",
            USUAL,
            "a.jsonl:1: found 1 tags for 2 tokens",
        ),
        (
            "a.jsonl",
            "{\"label\": 1}\n{\"label\"",
            USUAL,
            "a.jsonl:2:8: malformed JSON: EOF while parsing an object",
        ),
        (
            "a.jsonl",
            "{\"label\": 1}",
            at(&index),
            "a.jsonl: JSON objects have no column 1; give the key's name",
        ),
        (
            "a.conll",
            "a O",
            gold,
            "a.conll:1: found 2 fields, expected 3",
        ),
        (
            "a.conll",
            "a N O",
            at(&first),
            "a.conll:1: column 0 is that of the words and also that of the tags, counted from 0; `tokens` and `tags` have to name two",
        ),
        (
            "a.conll",
            "a",
            USUAL,
            "a.conll:1: found 1 fields, expected 2",
        ),
        (
            "a.conll",
            "a O",
            at(&name),
            "a.conll: column `ner` is asked for by name, but the file is read without a header; give its index, or say that there is a header",
        ),
        (
            "a.conll",
            "a O",
            labels,
            "a.conll: conll files cannot hold texts with labels",
        ),
        (
            "a.csv",
            "a,O",
            tags,
            "a.csv: csv files cannot hold words with tags",
        ),
        (
            "a.csv",
            "text,class\na,b\n",
            USUAL,
            "a.csv: no column `label`; the file has `text`, `class`",
        ),
    ] {
        assert_eq!(message(file, text, options), expected);
    }
    let error = read_answers(b"{\"label\": 1}\n{\"a\xff", Path::new("a.jsonl"), &USUAL);
    assert_eq!(
        error.unwrap_err().to_string(),
        "a.jsonl:2:4: byte 0xff is not valid UTF-8; save the file as UTF-8"
    );
}

#[test]
fn files_that_do_not_hold_the_same_are_told_apart() {
    let check = |gold: &str, pred: &str| {
        let [gold, pred] = [("gold", gold), ("pred", pred)].map(|(name, text)| {
            let ending = if text.starts_with('{') {
                "jsonl"
            } else {
                "conll"
            };
            let name = format!("{name}.{ending}");
            (read(&name, text, USUAL).unwrap(), name)
        });
        check_aligned(&gold.0, Path::new(&gold.1), &pred.0, Path::new(&pred.1))
            .map_err(|error| error.to_string())
    };
    let conll = "Zoë B-PER\nran O\n\nRome B-LOC\n";
    let same = "{\"tokens\": [\"Zoë\", \"ran\"], \"tags\": [\"O\", \"O\"]}\n{\"tags\": [\"O\"]}";
    check(conll, same).unwrap();
    check(same, conll).unwrap();
    check(conll, conll).unwrap();
    let only = "both files must hold the same examples in the same order";
    for (gold, pred, expected) in [
        (
            conll,
            "Zoë O\nrun O\n\nRome O",
            "pred.conll:2: found the word `run`, but gold.conll:2 has `ran`",
        ),
        (
            conll,
            "Zoë O\n\nRome O",
            "pred.conll:1: found a sentence of 1 words, but gold.conll:1 has one of 2",
        ),
        (
            conll,
            "Zoë O\nran O\n",
            "pred.conll:1: found the last of 1 sentences, but gold.conll:4 has the last of 2",
        ),
        (
            conll,
            "{\"tags\": [\"O\"]}",
            "pred.jsonl:1: found a sentence of 1 words, but gold.conll:1 has one of 2",
        ),
        (
            same,
            "{\"label\": 1}",
            "pred.jsonl:1: found labels, but gold.jsonl:1 has tags",
        ),
        (
            "{\"label\": 1}",
            same,
            "pred.jsonl:1: found tags, but gold.jsonl:1 has labels",
        ),
        (
            "{\"label\": 1}",
            "{\"label\": 1}\n\n{\"label\": 1}",
            "pred.jsonl:3: found the last of 2 examples, but gold.jsonl:1 has the last of 1",
        ),
        (
            "{\"label\": 1, \"text\": \"a\"}",
            "{\"label\": 1, \"text\": \"A text that is much longer than what a line has room for\"}",
            "pred.jsonl:1: found the text `A text that is much longer than what a l...`, but gold.jsonl:1 has `a`",
        ),
    ] {
        assert_eq!(
            check(gold, pred).unwrap_err(),
            format!("{expected}; {only}")
        );
    }
    check(
        "{\"label\": 1, \"text\": \"a \"}",
        "{\"label\": 2, \"text\": \"a\"}",
    )
    .unwrap();
    check("{\"label\": 1, \"text\": \"a \"}", "{\"label\": 2}").unwrap();
}

#[test]
fn classes_follow_names_then_probabilities_then_the_rest() {
    let gold = labels(
        read(
            "a.jsonl",
            "{\"label\": 10}\n{\"label\": 9}\n{\"label\": \"b\"}",
            USUAL,
        )
        .unwrap(),
    );
    let text = "{\"label\": \"b\", \"scores\": {\"c\": 0.25, \"b\": 0.75}}\n{\"label\": \"b\", \"scores\": {\"b\": 1, \"d\": 0}}";
    let pred = labels(read("a.jsonl", text, USUAL).unwrap());
    let names = |names: Option<&LabelSet>| class_names(&[&gold, &pred], names).unwrap();
    assert_eq!(names(None).names(), ["c", "b", "d", "9", "10"]);
    let given = LabelSet::from_names(vec!["b".into(), "z".into()]).unwrap();
    assert_eq!(names(Some(&given)).names(), ["b", "z", "c", "d", "9", "10"]);
    let rows = probability_rows(&pred, &names(None)).unwrap();
    assert_eq!(
        rows,
        [[0.25, 0.75, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0]]
    );
    assert_eq!(probability_rows(&gold, &names(None)), None);
    assert!(class_names(&[&[]], None).is_err());
}
