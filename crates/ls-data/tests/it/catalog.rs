//! Each known data set in each form in which people have it: made-up files in a folder are found,
//! told apart and read with the data set's own label names.
//!
//! Over 700 lines because the made-up files of every form stand beside what is read from them.

use std::fs;
use std::path::Path;

use ls_data::TaskKind;
use ls_data::catalog::{self, DatasetSpec, LocatedDataset, LocatedSplit, SplitName};
use ls_data::{DataError, TagScheme};
use ls_files::FileError;

use SplitName::{Test, Train, Validation};

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn locate(
    name: &str,
    files: &[(&str, &str)],
    language: Option<&str>,
) -> (tempfile::TempDir, LocatedDataset) {
    let dir = folder(files);
    let located = catalog::get(name)
        .unwrap()
        .locate(dir.path(), language)
        .unwrap();
    (dir, located)
}

/// Text and label of every example, or its words and tags, each joined by spaces.
fn read(spec: &DatasetSpec, split: &LocatedSplit) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for file in &split.files {
        match spec.task {
            TaskKind::Sequence => all.extend(split.read.read_sequence(file).unwrap().map(|row| {
                let row = row.unwrap();
                (
                    row.text,
                    row.label
                        .map(|label| label.into_names().concat())
                        .unwrap_or_default(),
                )
            })),
            TaskKind::Token => all.extend(split.read.read_tokens(file).unwrap().map(|row| {
                let row = row.unwrap();
                (row.tokens.join(" "), row.tags.unwrap_or_default().join(" "))
            })),
        }
    }
    all
}

/// Text and label of an example.
type Row<'a> = (&'a str, &'a str);

struct Case<'a> {
    name: &'a str,
    language: Option<&'a str>,
    files: &'a [(&'a str, &'a str)],
    form: &'a str,
    /// Split, expected size, its examples.
    splits: &'a [(SplitName, Option<usize>, &'a [Row<'a>])],
}

fn check(case: &Case<'_>) {
    let spec = catalog::get(case.name).unwrap();
    let (_dir, located) = locate(case.name, case.files, case.language);
    assert_eq!(located.form, case.form);
    let names: Vec<_> = located.splits.iter().map(|split| split.name).collect();
    let expected: Vec<_> = case.splits.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, expected, "{} {}", case.name, case.form);
    for (split, (name, size, examples)) in located.splits.iter().zip(case.splits) {
        let expected: Vec<_> = examples
            .iter()
            .map(|(text, label)| (text.to_string(), label.to_string()))
            .collect();
        assert_eq!(
            read(&spec, split),
            expected,
            "{} {} {name:?}",
            case.name,
            case.form
        );
        assert_eq!(split.expected, *size);
        for (_, labels) in examples.iter().filter(|_| split.labelled) {
            let known = |label: &str| spec.labels.iter().any(|known| known == label);
            match spec.task {
                TaskKind::Sequence => assert!(known(labels), "{labels}"),
                TaskKind::Token => assert!(labels.split(' ').all(known), "{labels}"),
            }
        }
        assert_eq!(located.split(*name), Some(split));
    }
}

#[test]
fn sst2() {
    check(&Case {
        name: "sst2",
        language: None,
        files: &[
            (
                "train.tsv",
                "sentence\tlabel\nrain on a \"roof\t1\nno lamp\t0\n",
            ),
            ("dev.tsv", "sentence\tlabel\na door\t0\n"),
            ("test.tsv", "index\tsentence\n0\tno label here\n"),
        ],
        form: "TSV of GLUE",
        splits: &[
            (
                Train,
                Some(67_349),
                &[("rain on a \"roof", "positive"), ("no lamp", "negative")],
            ),
            (Validation, Some(872), &[("a door", "negative")]),
            (Test, Some(1_821), &[("no label here", "")]),
        ],
    });
    check(&Case {
        name: "SST-2",
        language: Some("EN"),
        files: &[
            ("train.tsv", "rain on a roof\t1\r\nno lamp\t0\r\n"),
            ("dev.tsv", "a door\t0\n"),
            ("test.tsv", "a window\t1\n"),
        ],
        form: "TSV without header",
        splits: &[
            (
                Train,
                Some(6_920),
                &[("rain on a roof", "positive"), ("no lamp", "negative")],
            ),
            (Validation, Some(872), &[("a door", "negative")]),
            (Test, Some(1_821), &[("a window", "positive")]),
        ],
    });
    check(&Case {
        name: "sst2",
        language: None,
        files: &[(
            "train.jsonl",
            "{\"text\": \"rain\", \"label\": 0, \"label_text\": \"positive\"}\n",
        )],
        form: "JSON lines of SetFit",
        // The text of a label wins over its number.
        splits: &[(Train, Some(6_920), &[("rain", "positive")])],
    });
}

#[test]
fn sst5() {
    check(&Case {
        name: "sst5",
        language: None,
        files: &[
            (
                "trees/train.txt",
                "(3 (2 Rain) (4 (3 falls) (2 .)))\n(0 (1 Dark))\n",
            ),
            ("trees/dev.txt", "(2 (2 A) (2 door))\n"),
            ("trees/test.txt", "(4 (2 A) (3 lamp))\n"),
        ],
        form: "trees of Stanford",
        splits: &[
            (
                Train,
                Some(8_544),
                &[("Rain falls .", "positive"), ("Dark", "very negative")],
            ),
            (Validation, Some(1_101), &[("A door", "neutral")]),
            (Test, Some(2_210), &[("A lamp", "very positive")]),
        ],
    });
    check(&Case {
        name: "sst5",
        language: None,
        files: &[(
            "dev.jsonl",
            "{\"text\":\"a\",\"label\":4,\"label_text\":\"very positive\",\"ternary_label\":2}\n",
        )],
        form: "JSON lines of SetFit",
        splits: &[(Validation, Some(1_101), &[("a", "very positive")])],
    });
}

/// As they are usually called: the classes count from 1, and a tab stands behind the label.
#[test]
fn sst5_under_its_usual_names() {
    check(&Case {
        name: "sst5",
        language: None,
        files: &[
            (
                "sst_train.txt",
                "__label__4\tRain falls .\n__label__1\tDark\n",
            ),
            ("sst_dev.txt", "__label__3\tA door\n"),
            ("sst_test.txt", "__label__5\tA lamp\n"),
        ],
        form: "lines of fastText",
        splits: &[
            (
                Train,
                Some(8_544),
                &[("Rain falls .", "positive"), ("Dark", "very negative")],
            ),
            (Validation, Some(1_101), &[("A door", "neutral")]),
            (Test, Some(2_210), &[("A lamp", "very positive")]),
        ],
    });
    check(&Case {
        name: "sst5",
        language: None,
        files: &[("sst_train.txt", "(3 (2 Rain) (4 (3 falls) (2 .)))\n")],
        form: "trees of Stanford",
        splits: &[(Train, Some(8_544), &[("Rain falls .", "positive")])],
    });
}

#[test]
fn agnews() {
    check(&Case {
        name: "ag_news",
        language: None,
        files: &[
            (
                "train.csv",
                "\"3\",\"Oil, again\",\"Prices \\rise\\\"\n\"4\",\"Chips\",\"A \"\"new\"\" one\"\n",
            ),
            ("dev.csv", "\"1\",\"Vote\",\"Counted\"\n"),
            ("test.csv", "\"2\",\"Match\",\"Won\"\n"),
        ],
        form: "original CSV",
        splits: &[
            (
                Train,
                Some(120_000),
                &[
                    ("Oil, again Prices \\rise\\", "Business"),
                    ("Chips A \"new\" one", "Sci/Tech"),
                ],
            ),
            (Validation, None, &[("Vote Counted", "World")]),
            (Test, Some(7_600), &[("Match Won", "Sports")]),
        ],
    });
    check(&Case {
        name: "agnews",
        language: None,
        files: &[(
            "train.csv",
            "Class Index,Title,Description\n3,Oil,\"Up, again\"\n",
        )],
        form: "CSV of Kaggle",
        splits: &[(Train, Some(120_000), &[("Oil Up, again", "Business")])],
    });
    check(&Case {
        name: "agnews",
        language: None,
        files: &[
            ("ag_news.train", "__label__3 , oil , up again\n"),
            ("ag_news.test", "__label__1 , vote\n"),
        ],
        form: "lines of fastText",
        splits: &[
            (Train, Some(120_000), &[(", oil , up again", "Business")]),
            (Test, Some(7_600), &[(", vote", "World")]),
        ],
    });
    check(&Case {
        name: "agnews",
        language: None,
        files: &[(
            "test.jsonl",
            "{\"text\":\"Vote\",\"label\":0,\"label_text\":\"World\"}\n",
        )],
        form: "JSON lines of SetFit",
        splits: &[(Test, Some(7_600), &[("Vote", "World")])],
    });
}

#[test]
fn twitterfin() {
    check(&Case {
        name: "twitterfin",
        language: None,
        files: &[
            (
                "sent_train.csv",
                "text,label\n\"$AB down, again\",0\n$AB flat,2\n",
            ),
            ("sent_valid.csv", "text,label\n$AB up,1\n"),
        ],
        form: "CSV of the Hub",
        splits: &[
            (
                Train,
                Some(9_543),
                &[("$AB down, again", "Bearish"), ("$AB flat", "Neutral")],
            ),
            (Validation, Some(2_388), &[("$AB up", "Bullish")]),
        ],
    });
}

#[test]
fn amazon_reviews() {
    let review = "{\"review_id\":\"x\",\"stars\":\"4\",\"review_body\":\"Hält warm.\",\"review_title\":\"Gut\",\"language\":\"de\",\"product_category\":\"home\"}\n";
    for (name, label) in [
        ("amazon_reviews_multi", "home"),
        ("amazon_reviews_multi_stars", "4 stars"),
    ] {
        for prefix in ["json/train/", "train/", ""] {
            let file = format!("{prefix}dataset_de_train.json");
            let other = "json/train/dataset_fr_train.json";
            check(&Case {
                name,
                language: Some("de"),
                files: &[(&file, review), (other, "{\"stars\":1}\n")],
                form: "original JSON lines",
                splits: &[(Train, Some(200_000), &[("Gut\nHält warm.", label)])],
            });
        }
    }
    check(&Case {
        name: "amazon_reviews_multi_stars",
        language: Some("ja"),
        files: &[
            (
                "ja/train.jsonl",
                "{\"id\":\"1\",\"text\":\"暖かい\",\"label\":1,\"label_text\":\"1\"}\n",
            ),
            (
                "ja/validation.jsonl",
                "{\"id\":\"2\",\"text\":\"b\",\"label\":0,\"label_text\":\"0\"}\n",
            ),
            (
                "ja/test.jsonl",
                "{\"id\":\"3\",\"text\":\"c\",\"label\":4,\"label_text\":\"4\"}\n",
            ),
        ],
        form: "JSON lines of MTEB or SetFit",
        splits: &[
            (Train, Some(200_000), &[("暖かい", "2 stars")]),
            (Validation, Some(5_000), &[("b", "1 star")]),
            (Test, Some(5_000), &[("c", "5 stars")]),
        ],
    });

    let stars = catalog::get("amazon_reviews_multi_stars").unwrap();
    let languages = "`de`, `en`, `es`, `fr`, `ja`, `zh`";
    assert_eq!(
        stars.locate(Path::new("."), None).unwrap_err().to_string(),
        format!("amazon_reviews_multi_stars has several languages; choose one of {languages}")
    );
    assert_eq!(
        stars
            .locate(Path::new("."), Some("it"))
            .unwrap_err()
            .to_string(),
        format!("amazon_reviews_multi_stars has no language `it`; it has {languages}")
    );
}

#[test]
fn conll03() {
    let iob1 = "-DOCSTART- -X- O O\n\nAnn NNP I-NP I-PER\nLee NNP I-NP I-PER\nand CC O O\nBo NNP I-NP I-PER\nKim NNP B-NP B-PER\n\n";
    let iob2 = "-DOCSTART- -X- -X- O\n\nAnn NNP B-NP B-PER\nLee NNP I-NP I-PER\n";
    check(&Case {
        name: "conll03",
        language: None,
        files: &[
            ("eng.train", iob1),
            ("eng.testa", iob1),
            ("eng.testb", "ran VBD O O\n"),
        ],
        form: "original columns",
        splits: &[
            (
                Train,
                Some(14_041),
                &[("Ann Lee and Bo Kim", "I-PER I-PER O I-PER B-PER")],
            ),
            (
                Validation,
                Some(3_250),
                &[("Ann Lee and Bo Kim", "I-PER I-PER O I-PER B-PER")],
            ),
            (Test, Some(3_453), &[("ran", "O")]),
        ],
    });
    // Tags are taken as they are, and the scheme is said.
    let scheme = |text: &str| {
        locate("conll03", &[("train.txt", text)], None).1.splits[0]
            .read
            .scheme
    };
    assert_eq!(scheme(iob1), Some(TagScheme::Iob1));
    assert_eq!(scheme(iob2), Some(TagScheme::Iob2));
    assert_eq!(scheme("a O\nb O\n"), Some(TagScheme::Iob2));
    assert_eq!(scheme("a B-PER\nb I-LOC\n"), Some(TagScheme::Iob2));
    assert_eq!(
        scheme("a O\nb O x\n\nd I-LOC\ne B-LOC\n"),
        Some(TagScheme::Iob1)
    );

    let label = "{\"O\": 0, \"B-ORG\": 1, \"B-MISC\": 2, \"B-PER\": 3, \"I-PER\": 4, \"B-LOC\": 5, \"I-ORG\": 6, \"I-MISC\": 7, \"I-LOC\": 8}";
    check(&Case {
        name: "conll2003",
        language: None,
        files: &[
            (
                "dataset/train.json",
                "{\"tokens\": [\"Ann\", \"Lee\", \"ran\"], \"tags\": [3, 4, 0]}\n",
            ),
            ("dataset/label.json", label),
        ],
        form: "JSON lines of tner",
        splits: &[(Train, Some(14_041), &[("Ann Lee ran", "B-PER I-PER O")])],
    });
}

const GOLD: &str = "#begin document (bn/made/00/made_0001); part 000\nbn/made/00/made_0001 0 0 Ann NNP (TOP* - - - - (PERSON) -\nbn/made/00/made_0001 0 1 ran VBD *) - - - - * -\n\n#end document\n";

#[test]
fn ontonotes5() {
    check(&Case {
        name: "ontonotes5",
        language: None,
        files: &[
            (
                "dataset/train00.json",
                "{\"tags\": [1, 0], \"tokens\": [\"Ann\", \"ran\"]}\n",
            ),
            (
                "dataset/train01.json",
                "{\"tags\": [0], \"tokens\": [\"so\"]}\n",
            ),
            (
                "dataset/valid.json",
                "{\"tags\": [2], \"tokens\": [\"Bo\"]}\n",
            ),
            (
                "dataset/test.json",
                "{\"tags\": [0], \"tokens\": [\"no\"]}\n",
            ),
            (
                "dataset/label.json",
                "{\"O\": 0, \"B-PERSON\": 1, \"B-GPE\": 2}",
            ),
        ],
        form: "JSON lines of tner",
        splits: &[
            (
                Train,
                Some(59_924),
                &[("Ann ran", "B-PERSON O"), ("so", "O")],
            ),
            (Validation, Some(8_528), &[("Bo", "B-GPE")]),
            (Test, Some(8_262), &[("no", "O")]),
        ],
    });
    // The paper's order has B-PERSON at 2 and B-GPE at 13.
    check(&Case {
        name: "ontonotesv5",
        language: None,
        files: &[
            (
                "dev.jsonl",
                "{\"tokens\": [\"Ann\", \"in\", \"Oslo\"], \"ner_tags\": [2, 0, 13]}\n",
            ),
            (
                "test.jsonl",
                "{\"tokens\": [\"ran\"], \"ner_tags\": [18]}\n",
            ),
        ],
        form: "JSON lines of the paper's repository",
        splits: &[
            (
                Validation,
                Some(8_528),
                &[("Ann in Oslo", "B-PERSON O B-GPE")],
            ),
            (Test, Some(8_262), &[("ran", "B-FAC")]),
        ],
    });
    let two = &[("Ann ran", "B-PERSON O"), ("Ann ran", "B-PERSON O")];
    check(&Case {
        name: "ontonotes5",
        language: None,
        files: &[
            (
                "conll-2012/v4/data/train/data/english/annotations/bn/made/00/made_0001.v4_gold_conll",
                GOLD,
            ),
            (
                "conll-2012/v4/data/train/data/english/annotations/nw/made/00/made_0002.v4_gold_conll",
                GOLD,
            ),
            (
                "conll-2012/v4/data/train/data/chinese/annotations/bn/made/00/made_0003.v4_gold_conll",
                GOLD,
            ),
            (
                "conll-2012/v4/data/train/data/english/annotations/bn/made/00/made_0001.v4_gold_skel",
                GOLD,
            ),
            (
                "conll-2012/v4/data/development/data/english/annotations/bn/made/00/made_0001.v4_gold_conll",
                GOLD,
            ),
            (
                "conll-2012/v9/data/test/data/english/annotations/bn/made/00/made_0001.v9_gold_conll",
                GOLD,
            ),
        ],
        form: "columns of CoNLL 2012, version 4",
        splits: &[
            (Train, Some(75_187), two),
            (Validation, Some(9_603), &two[..1]),
            (Test, Some(9_479), &two[..1]),
        ],
    });
    check(&Case {
        name: "ontonotes5",
        language: None,
        files: &[
            (
                "v12/data/train/data/english/annotations/bn/made_0001.gold_conll",
                GOLD,
            ),
            (
                "v12/data/test/data/english/annotations/bn/made_0001.gold_conll",
                GOLD,
            ),
        ],
        form: "columns of CoNLL 2012",
        splits: &[(Train, None, &two[..1]), (Test, None, &two[..1])],
    });
    check(&Case {
        name: "ontonotes5",
        language: None,
        files: &[("train.conll", "Ann\tB-PERSON\nran\tO\n\n")],
        form: "two columns",
        splits: &[(Train, None, &two[..1])],
    });
}

#[test]
fn wnut17() {
    check(&Case {
        name: "wnut_17",
        language: None,
        files: &[
            (
                "wnut17train.conll",
                "Oslo\tB-location\nHall\tI-location\n\t\n:)\tO\n",
            ),
            ("emerging.dev.conll", "a\tO\n\n\u{feff}\n"),
            ("emerging.test.annotated", "Ann\tB-person\n"),
        ],
        form: "original columns",
        splits: &[
            (
                Train,
                Some(3_394),
                &[("Oslo Hall", "B-location I-location"), (":)", "O")],
            ),
            (Validation, Some(1_009), &[("a", "O")]),
            (Test, Some(1_287), &[("Ann", "B-person")]),
        ],
    });
    check(&Case {
        name: "wnut17",
        language: None,
        files: &[
            (
                "dataset/test.json",
                "{\"tokens\": [\"Ann\", \"ran\"], \"tags\": [0, 1]}\n",
            ),
            ("dataset/label.json", "{\"B-person\": 0, \"O\": 1}"),
        ],
        form: "JSON lines of tner",
        splits: &[(Test, Some(1_287), &[("Ann ran", "B-person O")])],
    });
}

#[test]
fn a_data_set_of_ones_own_is_described_in_a_file() {
    let dir = folder(&[("names/train.conll", "the O\nOslo S-place\n")]);
    let file = dir.path().join("names.toml");
    let get = |text: &str| {
        fs::write(&file, text).unwrap();
        catalog::get(file.to_str().unwrap())
    };
    let head = "task = \"token\"\nlabels = [\"O\", \"B-place\", \"I-place\"]\n";
    let form = "[[forms]]\nname = \"columns\"\nformat = \"conll\"\nscheme = \"iobes\"\n";
    let train = "splits.train.files = [\"train.conll\"]\n";
    let spec = get(&format!("{head}{form}{train}")).unwrap();
    assert_eq!(spec.name, "names");
    let located = spec.locate(&spec.default_dir(), None).unwrap();
    assert_eq!(located.splits[0].read.scheme, Some(TagScheme::Iobes));
    assert_eq!(located.splits[0].expected, None);

    let fault = |text: &str| {
        let message = get(text).unwrap_err().to_string();
        message.replace(file.to_str().unwrap(), "file")
    };
    assert_eq!(
        fault(head),
        "file:1:1: malformed TOML: missing field `forms`"
    );
    assert_eq!(
        fault(&format!(
            "{head}{form}{train}splits.train.examples = \"many\"\n"
        )),
        "file:8:25: malformed TOML: expected a number or \"unknown\", found \"many\""
    );
    assert_eq!(
        fault(&format!("{head}{form}{train}labels = [\"B-Ort\"]\n")),
        "file: not a usable description of a data set: form \"columns\": labels: \"B-Ort\" is not among those of the data set"
    );
    assert_eq!(
        fault(&format!("{head}{form}{train}{form}{train}")),
        "file: not a usable description of a data set: forms: \"columns\" is described twice"
    );
    assert_eq!(
        fault(&format!("{head}{form}splits = {{}}\n")),
        "file: not a usable description of a data set: form \"columns\": splits: there are none"
    );
}

#[test]
fn a_folder_without_the_files_says_what_was_looked_for() {
    let dir = folder(&[("train.tsv", "id\ttext\n"), ("notes.md", "none")]);
    let message = |name: &str| {
        let spec = catalog::get(name).unwrap();
        let error = spec
            .locate(dir.path(), Some(&spec.languages[0]))
            .unwrap_err();
        error
            .to_string()
            .replace(dir.path().to_str().unwrap(), "dir")
    };
    assert_eq!(
        message("sst2"),
        "dir: no files of sst2; looked for `data/train-*.parquet`, `train.tsv`, `train.jsonl`, \
         `train.tsv`; there is `dir/train.tsv`, but its first line is of another form; `cargo xtask \
         fetch-data sst2` fetches it"
    );
    assert_eq!(
        message("amazon_reviews_multi"),
        "dir: no files of amazon_reviews_multi; looked for `json/train/dataset_de_train.json`; it is \
         not on the Hub, so the files must be your own"
    );
    let gone = dir.path().join("gone");
    let missing = catalog::get("sst2").unwrap().locate(&gone, None);
    assert!(matches!(missing, Err(DataError::File(FileError::NoFolder { path })) if path == gone));
}

#[test]
fn labels_that_are_not_those_of_the_data_set_are_errors() {
    let label = |text: &str| {
        let dir = folder(&[
            (
                "dataset/train.json",
                "{\"tokens\": [\"a\"], \"tags\": [0]}\n",
            ),
            ("dataset/label.json", text),
        ]);
        let error = catalog::get("conll03")
            .unwrap()
            .locate(dir.path(), None)
            .unwrap_err();
        error
            .to_string()
            .replace(dir.path().to_str().unwrap(), "dir")
    };
    assert!(
        label("{\"B-PERSON\": 0}").starts_with(
            "dir/dataset/label.json:1: unknown label `B-PERSON`; the labels are `O`, "
        )
    );
    assert!(label("{\"O\": 1}").starts_with("dir/dataset/label.json: expected names"));
    let dir = folder(&[(
        "dataset/train.json",
        "{\"tokens\": [\"a\"], \"tags\": [0]}\n",
    )]);
    let error = catalog::get("conll03").unwrap().locate(dir.path(), None);
    assert!(
        matches!(error, Err(DataError::File(FileError::NotFound { path })) if path.ends_with("dataset/label.json"))
    );

    // In a row of the file: where, what was found, what was expected.
    let (_dir, located) = locate(
        "twitterfin",
        &[("sent_train.csv", "text,label\na,3\nb,Bulish\n")],
        None,
    );
    let split = &located.splits[0];
    let rows = split.read.read_sequence(&split.files[0]).unwrap();
    let messages: Vec<_> = rows.map(|row| row.unwrap_err().to_string()).collect();
    assert!(
        messages[0].ends_with("sent_train.csv:2: label 3 has no name; names are given for 0 to 2")
    );
    assert!(messages[1].ends_with(
        "sent_train.csv:3: unknown label `Bulish`; the labels are `Bearish`, `Bullish`, `Neutral`; did you mean `Bullish`?"
    ));
}

/// The cache of the Hub keeps files as links into a folder of blobs.
#[cfg(unix)]
#[test]
fn a_snapshot_of_the_hub_is_a_folder_like_any_other() {
    let dir = folder(&[("blobs/aaaa", "text,label\n$AB up,1\n")]);
    let snapshot = dir.path().join("snapshots/ce0a");
    fs::create_dir_all(&snapshot).unwrap();
    std::os::unix::fs::symlink("../../blobs/aaaa", snapshot.join("sent_valid.csv")).unwrap();
    let spec = catalog::get("twitterfin").unwrap();
    let located = spec.locate(&snapshot, None).unwrap();
    assert_eq!(
        read(&spec, &located.splits[0]),
        [("$AB up".into(), "Bullish".into())]
    );
    // A folder that is a link to one above it ends no search for files in any depth.
    std::os::unix::fs::symlink("..", snapshot.join("train")).unwrap();
    assert!(
        catalog::get("ontonotes5")
            .unwrap()
            .locate(&snapshot, None)
            .is_err()
    );
}

#[cfg(feature = "parquet")]
mod parquet {
    use std::path::PathBuf;

    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/parquet")
            .join(name)
    }

    /// The examples that `make.py` wrote under a key.
    fn expected(key: &str) -> Vec<(String, String)> {
        let text = fs::read_to_string(fixture("expected.json")).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let join = |value: &serde_json::Value| match value {
            serde_json::Value::Array(list) => list
                .iter()
                .map(|word| word.as_str().unwrap())
                .collect::<Vec<_>>()
                .join(" "),
            other => other.as_str().unwrap().to_string(),
        };
        value[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (join(&row[0]), join(&row[1])))
            .collect()
    }

    /// The rows of each split when the fixture is copied to these places.
    fn located(name: &str, fixture_name: &str, places: &[&str]) -> Vec<Vec<(String, String)>> {
        let dir = folder(&[]);
        for place in places {
            let path = dir.path().join(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::copy(fixture(fixture_name), path).unwrap();
        }
        let spec = catalog::get(name).unwrap();
        let located = spec.locate(dir.path(), Some(&spec.languages[0])).unwrap();
        assert!(located.form.starts_with("Parquet"));
        located
            .splits
            .iter()
            .map(|split| read(&spec, split))
            .collect()
    }

    #[test]
    fn texts() {
        let rows = expected("text");
        let places = [
            "data/train-00000-of-00001.parquet",
            "data/validation-00000-of-00001.parquet",
        ];
        assert_eq!(
            located("sst2", "text.parquet", &places),
            [rows.clone(), rows.clone()]
        );
        // Two shards are one split, in order; the test split has no labels.
        let shards = [
            "sst2/train-00000-of-00002.parquet",
            "sst2/train-00001-of-00002.parquet",
            "sst2/test-00000-of-00001.parquet",
        ];
        let found = located("sst2", "text.parquet", &shards);
        assert_eq!(found[0], [rows.clone(), rows].concat());
        assert!(found[1].iter().all(|(_, label)| label.is_empty()));

        let topics = expected("topics");
        let places = ["train-00000-of-00001.parquet"];
        assert_eq!(located("agnews", "topics.parquet", &places)[0], topics);
        // Without names in the file, integers are those of the form.
        assert_eq!(located("agnews", "unnamed.parquet", &places)[0], topics);
        let stars = located(
            "amazon_reviews_multi_stars",
            "unnamed.parquet",
            &["de/test-00000-of-00001.parquet"],
        );
        let names: Vec<_> = stars[0].iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(names, ["1 star", "2 stars", "3 stars", "4 stars"]);
    }

    #[test]
    fn words() {
        let rows = expected("tokens");
        for (name, place) in [
            ("conll03", "conll2003/train/0000.parquet"),
            ("conll03", "data/train-00000-of-00001.parquet"),
            ("wnut17", "wnut_17/train/0000.parquet"),
        ] {
            assert_eq!(located(name, "tokens.parquet", &[place])[0], rows);
        }
    }
}

#[test]
fn a_folder_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let check = |expected: &str| {
        let text = ls_data::catalog::folder_fault(dir.path()).to_string();
        let folder = dir.path().display().to_string();
        assert_eq!(text, expected.replace("DIR", &folder));
    };
    check("DIR: is an empty folder; expected a file");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("notes.md", "x");
    check("DIR: is a folder, which holds `notes.md`; expected a file");
    write("dev.csv", "text,label\n");
    std::fs::create_dir(dir.path().join("old")).unwrap();
    write("my-train.csv", "text,label\n");
    check(
        "DIR: is a folder, which holds `dev.csv`, `my-train.csv`, `notes.md`, `old/`; \
         expected a file, such as \"DIR/my-train.csv\"",
    );
    write("sst_train.txt", "__label__4\tA fine day\n");
    check(
        "DIR: is a folder, which holds `dev.csv`, `my-train.csv`, `notes.md`, `old/`, \
         `sst_train.txt`; expected a file, such as \"DIR/my-train.csv\"; the files may be \
         those of `sst5`: data.dataset = \"sst5\" and data.dir = \"DIR\" read them",
    );
    let gone = ls_data::catalog::folder_fault(&dir.path().join("none")).to_string();
    assert!(gone.ends_with("none: no such file"), "{gone}");
}
