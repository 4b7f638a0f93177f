//! Which columns of a file hold texts and labels, or words and tags, by the names that such columns
//! usually have. What the names do not decide is an error that lists what was found.

use std::path::Path;

use crate::error::{DataError, Result};
use crate::readers::usual_names::{LABEL, PAIRS, SPANS, TAGS, TEXT, TOKENS, same};
use crate::readers::{Column, ColumnRef, FileFormat, Holds, Sniffed};
use crate::task::TaskKind;
use crate::text_label::LabelKind;

/// What is known of a file's columns already: what is given is not looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GivenColumns {
    /// Column of the text, and with it whether there is a pair.
    pub text: Option<ColumnRef>,
    /// Column of the second text.
    pub text_pair: Option<ColumnRef>,
    /// Column of the label.
    pub label: Option<ColumnRef>,
    /// What the labels of texts are. Without, a column of one class each is looked for, and where
    /// there is none one of lists, then one of numbers.
    pub label_kind: Option<LabelKind>,
    /// Column of the words.
    pub tokens: Option<ColumnRef>,
    /// Column of the tags.
    pub tags: Option<ColumnRef>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundColumns {
    /// Texts with a class each.
    Sequence {
        /// Columns of the text, the second text and the label; nothing where the format has no
        /// choice (fastText, trees).
        columns: Option<(ColumnRef, Option<ColumnRef>, ColumnRef)>,
    },
    /// Words with a tag each.
    Token {
        /// Columns of the words and the tags; nothing where the format has no choice.
        columns: Option<(ColumnRef, ColumnRef)>,
    },
    /// Texts with spans, whose words are tagged.
    Spans {
        /// Key of the text; nothing where it is not the object's own (label-studio, spaCy's pairs).
        text: Option<ColumnRef>,
        /// Key of the spans, if it is one of the object's own.
        spans: Option<ColumnRef>,
    },
}

impl FoundColumns {
    /// What is labelled.
    pub fn task(&self) -> TaskKind {
        match self {
            Self::Sequence { .. } => TaskKind::Sequence,
            Self::Token { .. } | Self::Spans { .. } => TaskKind::Token,
        }
    }
}

/// What was looked for and not found, or found more than once.
struct Unclear {
    what: String,
    settings: Vec<Vec<String>>,
}

/// Finds the columns of a file by their names, for a task if it is known.
///
/// # Errors
/// [`DataError::ColumnsUnclear`]: nothing has a usual name, or more than one column could be meant.
pub fn find_columns(
    path: &Path,
    file: &Sniffed,
    task: Option<TaskKind>,
    given: &GivenColumns,
) -> Result<FoundColumns> {
    let unclear = |mut unclear: Unclear| {
        // What parts the fields may have been taken for a part of them.
        let others = file.delimiter.map(|found| found.others_in(&file.names()));
        let others = others.into_iter().flatten();
        let said = others.map(|other| vec![format!("data.delimiter={other}")]);
        unclear.settings.extend(said);
        DataError::ColumnsUnclear {
            path: path.to_path_buf(),
            what: unclear.what,
            columns: file.names(),
            settings: unclear.settings,
        }
    };
    let of_format = match file.format {
        FileFormat::Conll | FileFormat::Conll2012 => Some(TaskKind::Token),
        FileFormat::Csv | FileFormat::Tsv | FileFormat::FastText | FileFormat::Trees => {
            Some(TaskKind::Sequence)
        }
        FileFormat::Jsonl | FileFormat::Parquet => None,
    };
    if let (Some(task), Some(of_format)) = (task, of_format)
        && task != of_format
    {
        return Err(DataError::UnsupportedFormat {
            path: path.to_path_buf(),
            format: file.format.name(),
            expected: match task {
                TaskKind::Sequence => "texts with labels",
                TaskKind::Token => "words with tags",
            },
        });
    }
    match file.format {
        FileFormat::FastText | FileFormat::Trees => {
            return Ok(FoundColumns::Sequence { columns: None });
        }
        FileFormat::Conll2012 => return Ok(FoundColumns::Token { columns: None }),
        FileFormat::Conll if file.columns.is_empty() => {
            return Ok(FoundColumns::Token { columns: None });
        }
        FileFormat::Conll => {
            return conll(file.columns.len(), given).map_err(unclear);
        }
        _ => {}
    }
    let kind = given.label_kind.unwrap_or_default();
    // Where it is not said what the labels are, another kind is what is meant by those there are.
    let others = [LabelKind::Classes, LabelKind::Number];
    let others = others.into_iter().filter(|_| given.label_kind.is_none());
    let other = || {
        others
            .clone()
            .find_map(|kind| sequence(file, given, kind).ok())
    };
    let sequence = || sequence(file, given, kind);
    let token = || token(file, given).or_else(|fault| spans(file, given).ok_or(fault));
    match task.or(of_format) {
        Some(TaskKind::Sequence) => sequence()
            .or_else(|fault| other().ok_or(fault))
            .map_err(unclear),
        Some(TaskKind::Token) => token().map_err(unclear),
        None => match (sequence(), token()) {
            (Ok(_), Ok(_)) => Err(unclear(Unclear {
                what: "it holds both texts with labels and words with tags".into(),
                settings: vec![vec!["task=sequence".into()], vec!["task=token".into()]],
            })),
            (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
            // Of what is neither, words that have a usual name say what was meant.
            (Err(_), Err(fault)) if !named(file, &TOKENS, Holds::List).is_empty() => {
                Err(unclear(fault))
            }
            (Err(fault), Err(_)) => other().ok_or(fault).map_err(unclear),
        },
    }
}

/// The columns that have one of these names and hold such values. Of two with the same name there
/// is one: reading the file says that it stands there twice.
fn named<'a>(file: &'a Sniffed, names: &[&str], holds: Holds) -> Vec<&'a Column> {
    let fits = |column: &&Column| {
        column.holds == holds
            && matches!(&column.at, ColumnRef::Name(name) if names.iter().any(|usual| same(name, usual)))
    };
    let mut found: Vec<&Column> = Vec::new();
    for column in file.columns.iter().filter(fits) {
        if !found.iter().any(|before| before.at == column.at) {
            found.push(column);
        }
    }
    found
}

/// The one column with a usual name that holds what is looked for.
fn one(
    key: &str,
    what: &str,
    file: &Sniffed,
    names: &[&str],
    holds: Holds,
    except: &[&Column],
) -> std::result::Result<ColumnRef, Unclear> {
    let mut found = named(file, names, holds);
    found.retain(|column| !except.contains(column));
    match &found[..] {
        [one] => Ok(one.at.clone()),
        [] => {
            let others = [
                Holds::One,
                Holds::Number,
                Holds::List,
                Holds::Spans,
                Holds::Other,
            ];
            let others = others.map(|holds| named(file, names, holds));
            let others = join(
                others
                    .iter()
                    .flatten()
                    .map(|column| format!("`{}`", column.at)),
            );
            let expected = match holds {
                Holds::List => "a list",
                Holds::Number => "a number",
                _ => "one text or integer",
            };
            Err(Unclear {
                what: if others.is_empty() {
                    format!(
                        "no column has a usual name of {what} ({})",
                        names.join(", ")
                    )
                } else {
                    format!("{others} has the name of {what}, but not {expected} in each row")
                },
                settings: vec![vec![format!("{key}={}", unnamed(file))]],
            })
        }
        several => {
            let each = several.iter().map(|column| format!("`{}`", column.at));
            let settings = several
                .iter()
                .map(|column| vec![format!("{key}={}", column.at)]);
            Err(Unclear {
                what: format!("more than one column could be {what}: {}", join(each)),
                settings: settings.collect(),
            })
        }
    }
}

/// What stands for a column that nobody named yet.
fn unnamed(file: &Sniffed) -> &'static str {
    let numbered = |column: &Column| matches!(column.at, ColumnRef::Index(_));
    if file.columns.iter().any(numbered) {
        "NUMBER"
    } else {
        "NAME"
    }
}

fn join(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn sequence(
    file: &Sniffed,
    given: &GivenColumns,
    kind: LabelKind,
) -> std::result::Result<FoundColumns, Unclear> {
    let texts = match (&given.text, &given.text_pair) {
        (Some(text), pair) => Ok((text.clone(), pair.clone())),
        (None, _) => texts(file, given),
    };
    let label = match &given.label {
        Some(label) => Ok(label.clone()),
        None => {
            let label = |holds| one("data.label", "a label", file, &LABEL, holds, &[]);
            match kind {
                // In a table numbers may be the names of classes.
                LabelKind::Class if given.label_kind.is_some() => {
                    label(Holds::One).or_else(|fault| label(Holds::Number).map_err(|_| fault))
                }
                LabelKind::Class => label(Holds::One),
                // As one string, or as integers, they may stand there too.
                LabelKind::Classes if given.label_kind.is_some() => {
                    label(Holds::List).or_else(|fault| label(Holds::One).map_err(|_| fault))
                }
                LabelKind::Number if given.label_kind.is_some() => {
                    label(Holds::Number).or_else(|fault| label(Holds::One).map_err(|_| fault))
                }
                LabelKind::Classes => label(Holds::List),
                LabelKind::Number => label(Holds::Number),
            }
        }
    };
    match (texts, label) {
        (Ok((text, pair)), Ok(label)) => Ok(FoundColumns::Sequence {
            columns: Some((text, pair, label)),
        }),
        (Err(texts), Ok(_)) => Err(texts),
        (Ok(_), Err(label)) => Err(label),
        // What makes only one of them clear does not help.
        (Err(texts), Err(label)) => {
            let both = texts.settings.iter().flat_map(|texts| {
                let labels = label.settings.iter();
                labels.map(|label| [&texts[..], label].concat())
            });
            let mut settings: Vec<Vec<String>> = both.collect();
            let named = file
                .columns
                .iter()
                .all(|column| matches!(column.at, ColumnRef::Name(_)));
            if matches!(file.format, FileFormat::Csv | FileFormat::Tsv) && named {
                // The first row may be none of names.
                let numbered = ["data.header=false", "data.text=NUMBER", "data.label=NUMBER"];
                settings.push(numbered.map(str::to_string).to_vec());
            }
            Err(Unclear {
                what: format!("{}, and {}", texts.what, label.what),
                settings,
            })
        }
    }
}

fn texts(
    file: &Sniffed,
    given: &GivenColumns,
) -> std::result::Result<(ColumnRef, Option<ColumnRef>), Unclear> {
    let text = |except: &[&Column]| one("data.text", "a text", file, &TEXT, Holds::One, except);
    if let Some(pair) = &given.text_pair {
        let second = file.columns.iter().find(|column| column.at == *pair);
        return Ok((text(second.as_slice())?, Some(pair.clone())));
    }
    let mut pairs = Vec::new();
    for [first, second] in PAIRS {
        let [first, second] = [first, second].map(|name| named(file, &[name], Holds::One));
        if let ([first], [second]) = (&first[..], &second[..]) {
            pairs.push([*first, *second]);
        }
    }
    let mut texts = named(file, &TEXT, Holds::One);
    texts.retain(|text| !pairs.iter().flatten().any(|column| column == text));
    match (&pairs[..], &texts[..]) {
        ([[first, second]], []) => Ok((first.at.clone(), Some(second.at.clone()))),
        ([], _) => Ok((text(&[])?, None)),
        (pairs, texts) => {
            let both = pairs
                .iter()
                .map(|[first, second]| format!("`{}` with `{}`", first.at, second.at));
            let each = texts.iter().map(|text| format!("`{}`", text.at));
            let of_pairs = pairs.iter().map(|[first, second]| {
                vec![
                    format!("data.text={}", first.at),
                    format!("data.text_pair={}", second.at),
                ]
            });
            let of_texts = texts
                .iter()
                .map(|text| vec![format!("data.text={}", text.at)]);
            Err(Unclear {
                what: format!(
                    "more than one column could be a text: {}",
                    join(both.chain(each))
                ),
                settings: of_pairs.chain(of_texts).collect(),
            })
        }
    }
}

fn token(file: &Sniffed, given: &GivenColumns) -> std::result::Result<FoundColumns, Unclear> {
    let tokens = match &given.tokens {
        Some(tokens) => tokens.clone(),
        None => one(
            "data.tokens",
            "a list of words",
            file,
            &TOKENS,
            Holds::List,
            &[],
        )?,
    };
    let tags = match &given.tags {
        Some(tags) => tags.clone(),
        None => {
            let usual = TAGS
                .into_iter()
                .find(|names| !named(file, names, Holds::List).is_empty());
            let names = usual.map_or(TAGS.concat(), <[&str]>::to_vec);
            one(
                "data.tags",
                "a list of tags",
                file,
                &names,
                Holds::List,
                &[],
            )?
        }
    };
    Ok(FoundColumns::Token {
        columns: Some((tokens, tags)),
    })
}

/// A text beside which its spans stand.
fn spans(file: &Sniffed, given: &GivenColumns) -> Option<FoundColumns> {
    let of = |name: &str, holds: Holds| {
        let named = |column: &&Column| column.at == name.into() && column.holds == holds;
        file.columns.iter().any(|column| named(&column))
    };
    if of("data", Holds::Other) && of("annotations", Holds::Spans) {
        return Some(FoundColumns::Spans {
            text: None,
            spans: None,
        });
    }
    let text = given
        .text
        .clone()
        .or_else(|| of("text", Holds::One).then(|| "text".into()))?;
    let usual = SPANS.into_iter().find(|key| of(key, Holds::Spans));
    let spans = given.tags.clone().or_else(|| usual.map(ColumnRef::from))?;
    Some(FoundColumns::Spans {
        text: Some(text),
        spans: Some(spans),
    })
}

/// Words in the first column, tags in the last. Words that are numbered (CoNLL-U) have columns of
/// their own.
fn conll(width: usize, given: &GivenColumns) -> std::result::Result<FoundColumns, Unclear> {
    let tokens = given.tokens.clone().unwrap_or(ColumnRef::Index(0));
    let tags = match &given.tags {
        Some(tags) => tags.clone(),
        None if width > 1 => ColumnRef::Index(width - 1),
        None => {
            return Err(Unclear {
                what: "its lines have one column, so that there are words without tags, or texts without labels".into(),
                settings: vec![vec!["data.format=FORMAT".into()]],
            });
        }
    };
    Ok(FoundColumns::Token {
        columns: Some((tokens, tags)),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::readers::{SniffOptions, sniff};

    /// What is found in a file of this name and content: `task text=.. label=..`, or the error.
    fn found(
        name: &str,
        content: impl AsRef<[u8]>,
        task: Option<TaskKind>,
        given: &GivenColumns,
    ) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        let options = SniffOptions {
            task,
            ..SniffOptions::default()
        };
        let file = sniff(&path, &options);
        let found = file.and_then(|file| find_columns(Path::new(name), &file, task, given));
        match found {
            Ok(FoundColumns::Spans { text, spans }) => {
                let name = |column: Option<ColumnRef>| column.map_or("-".into(), |c| c.to_string());
                format!("spans {} {}", name(text), name(spans))
            }
            Ok(FoundColumns::Sequence { columns: None }) => "sequence".into(),
            Ok(FoundColumns::Token { columns: None }) => "token".into(),
            Ok(FoundColumns::Sequence {
                columns: Some((text, None, label)),
            }) => format!("sequence {text} {label}"),
            Ok(FoundColumns::Sequence {
                columns: Some((text, Some(pair), label)),
            }) => format!("sequence {text}+{pair} {label}"),
            Ok(FoundColumns::Token {
                columns: Some((tokens, tags)),
            }) => format!("token {tokens} {tags}"),
            Err(DataError::ColumnsUnclear { what, settings, .. }) => {
                let each = settings.iter().map(|each| each.join(" "));
                format!("{what} | {}", each.collect::<Vec<_>>().join(" | "))
            }
            Err(error) => error
                .to_string()
                .replace(&format!("{}/", dir.path().display()), ""),
        }
    }

    #[track_caller]
    fn check(name: &str, content: impl AsRef<[u8]>, expected: &str) {
        assert_eq!(
            found(name, content, None, &GivenColumns::default()),
            expected
        );
    }

    #[test]
    fn usual_names_are_found_in_every_format() {
        check("a.csv", "id,text,label\n1,a,b\n", "sequence text label");
        check(
            "a.csv",
            "\u{feff}\"Review Text\",Sentiment\r\na,b\r\n",
            "sequence Review Text Sentiment",
        );
        check(
            "a.csv",
            "\"a \"\"b\"\",\nc\",text,CLASS\n",
            "sequence text CLASS",
        );
        check(
            "a.tsv",
            "sentence\tlabel\na\t1\n",
            "sequence sentence label",
        );
        for (pair, columns) in [
            ("premise,hypothesis", "premise+hypothesis"),
            ("sentence2,sentence1", "sentence1+sentence2"),
            ("question,sentence", "question+sentence"),
            ("Question1,Question2", "Question1+Question2"),
        ] {
            check(
                "a.csv",
                format!("{pair},label\n"),
                &format!("sequence {columns} label"),
            );
        }
        check(
            "a.jsonl",
            "\n{\"text\": \"a\", \"label\": 1, \"label_text\": \"b\"}\n",
            "sequence text label",
        );
        check(
            "a.json",
            "{\"id\": 1, \"tokens\": [\"a\"], \"ner_tags\": [0], \"pos_tags\": [3]}",
            "token tokens ner_tags",
        );
        check(
            "a.json",
            "{\"words\": [], \"labels\": []}\n{\"words\": [\"a\"], \"labels\": [\"O\"]}",
            "token words labels",
        );
        check(
            "a.json",
            "{\"tokens\": [\"a\"], \"upos\": [\"NOUN\"]}",
            "token tokens upos",
        );
        check(
            "a.conll",
            "-DOCSTART- -X- O O\n\nAda NNP B-NP B-PER\n",
            "token 0 3",
        );
        check("a.txt", "Ada\tB-PER\n", "token 0 1");
        check("a.txt", "__label__good a film\n", "sequence");
        check("a.txt", "(3 (2 a) (2 film))\n", "sequence");
        check("a.tsv", "Ada\tB-PER\nsold\tO\n\nBob\tB-PER\n", "token 0 1");
        assert_eq!(
            found(
                "a.tsv",
                "Ada\tB-PER\n",
                Some(TaskKind::Token),
                &GivenColumns::default()
            ),
            "token 0 1"
        );
        check("a.tsv", "text\tlabel\na\tb\n\n", "sequence text label");
    }

    #[test]
    fn delimiters_encodings_lists_and_spans_are_found_as_they_are_read() {
        check("a.csv", "text;label\na, b;x\n", "sequence text label");
        let utf16: Vec<u8> = "\u{feff}text\tlabel\nä\tx\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        check("a.csv", utf16, "sequence text label");
        check(
            "a.json",
            "[\n {\"text\": \"a\", \"label\": 1},\n {\"text\": \"b\", \"label\": 2}\n]",
            "sequence text label",
        );
        check(
            "a.json",
            "{\"version\": 1, \"data\": [{\"review\": \"a\", \"label\": 1}]}",
            "sequence review label",
        );
        check(
            "a.jsonl",
            "{\"text\": \"Ann\", \"entities\": []}\n{\"text\": \"Ann\", \"entities\": [{\"start\": 0, \"end\": 3, \"label\": \"PER\"}]}",
            "spans text entities",
        );
        check(
            "a.jsonl",
            "{\"text\": \"Ann\", \"label\": [[0, 3, \"PER\"]]}",
            "spans text label",
        );
        check(
            "a.json",
            "{\"text\": \"Ann\", \"tokens\": [{\"text\": \"Ann\"}], \"spans\": [{\"start\": 0}]}",
            "spans text spans",
        );
        check(
            "a.json",
            "[{\"data\": {\"text\": \"a\"}, \"annotations\": [{\"result\": []}]}]",
            "spans - -",
        );
        // Words with tags beside the entities are what our own predictions are.
        check(
            "a.jsonl",
            "{\"text\": \"Ann\", \"tokens\": [\"Ann\"], \"tags\": [\"O\"], \"entities\": []}",
            "token tokens tags",
        );
        check(
            "a.conllu",
            "# text = Ann\n1\tAnn\t_\tPROPN\t_\t_\t_\t_\t_\t_\n\n",
            "token",
        );
        check("a.iob2", "# text = Ann\nAnn\tB-PER\n", "token 0 1");
    }

    #[test]
    fn what_is_unclear_is_listed_with_what_makes_it_clear() {
        check(
            "a.csv",
            "text,label,category\n",
            "more than one column could be a label: `label`, `category` | data.label=label | data.label=category",
        );
        check(
            "a.csv",
            "text,review,label\n",
            "more than one column could be a text: `text`, `review` | data.text=text | data.text=review",
        );
        check(
            "a.csv",
            "text,premise,hypothesis,label\n",
            "more than one column could be a text: `premise` with `hypothesis`, `text` | data.text=premise data.text_pair=hypothesis | data.text=text",
        );
        let neither = found("a.csv", "a,b\n", None, &GivenColumns::default());
        assert!(
            neither.starts_with("no column has a usual name of a text (text, ")
                && neither.ends_with(" | data.text=NAME data.label=NAME | data.header=false data.text=NUMBER data.label=NUMBER"),
            "{neither}"
        );
        check(
            "a.jsonl",
            "{\"text\": \"a\", \"label\": \"b\", \"tokens\": [\"a\"], \"tags\": [\"O\"]}",
            "it holds both texts with labels and words with tags | task=sequence | task=token",
        );
        check(
            "a.jsonl",
            "{\"tokens\": [\"a\"], \"tags\": [\"O\"], \"ner_tags\": [\"O\"]}",
            "more than one column could be a list of tags: `tags`, `ner_tags` | data.tags=tags | data.tags=ner_tags",
        );
        // A text is no list of words.
        check(
            "a.jsonl",
            "{\"tokens\": [\"a\"], \"tags\": \"O\"}",
            "`tags` has the name of a list of tags, but not a list in each row | data.tags=NAME",
        );
        check(
            "a.jsonl",
            "{\"tokens\": [\"a\"], \"upos\": [\"X\"], \"xpos\": [\"Y\"]}",
            "more than one column could be a list of tags: `upos`, `xpos` | data.tags=upos | data.tags=xpos",
        );
        check(
            "a.txt",
            "one\ntwo\n",
            "its lines have one column, so that there are words without tags, or texts without labels | data.format=FORMAT",
        );
        check("a.csv", "", "a.csv: holds no examples");
        check("a.jsonl", "\n", "a.jsonl: holds no examples");
        check(
            "a.jsonl",
            "{\"a\": }",
            "a.jsonl:1:7: malformed JSON: expected value",
        );
        let unknown = found("a.xyz", "", None, &GivenColumns::default());
        assert!(
            unknown.starts_with("a.xyz: unknown file extension; "),
            "{unknown}"
        );
        assert_eq!(
            found(
                "a.csv",
                "text,label\n",
                Some(TaskKind::Token),
                &GivenColumns::default()
            ),
            "a.csv: csv files cannot hold words with tags"
        );
    }

    #[test]
    fn texts_without_spans_are_texts_with_spans() {
        for (object, columns) in [
            (r#"{"id": 1, "text": "a", "label": []}"#, "spans text label"),
            (
                r#"{"id": 1, "text": "a", "entities": []}"#,
                "spans text entities",
            ),
            (
                r#"{"id": 1, "data": {"text": "a"}, "annotations": []}"#,
                "spans - -",
            ),
        ] {
            let found = found("a.jsonl", object, None, &GivenColumns::default());
            assert_eq!(found, columns, "{object}");
        }
        // Lists of names are no spans, even if the first is empty.
        let names = "{\"text\": \"a\", \"label\": []}\n{\"text\": \"a\", \"label\": [\"b\"]}";
        let found = found("a.jsonl", names, None, &GivenColumns::default());
        assert_eq!(found, "sequence text label");
    }

    #[test]
    fn lists_and_fractions_are_labels_where_no_class_is() {
        let lists = "{\"text\": \"a\", \"labels\": [\"b\"]}";
        check("a.jsonl", lists, "sequence text labels");
        let numbers = "{\"text\": \"a\", \"label\": 3}\n{\"text\": \"b\", \"label\": 2.5}";
        check("a.jsonl", numbers, "sequence text label");
        let tables = [
            "text,label\na,3\nb,2.5\n",
            "label;text\n-1e-1;\"a;b\"\n;a\n",
        ];
        for table in tables {
            check("a.csv", table, "sequence text label");
        }
        // A class of a usual name is one, whatever stands beside it.
        let both = "{\"text\": \"a\", \"label\": \"b\", \"labels\": [\"c\"]}";
        check("a.jsonl", both, "sequence text label");
        // Words with a list each are tagged.
        let words = "{\"text\": \"a\", \"words\": [\"a\"], \"labels\": [\"O\"]}";
        check("a.jsonl", words, "token words labels");
        let of = |content: &str, kind| {
            let given = GivenColumns {
                label_kind: Some(kind),
                ..GivenColumns::default()
            };
            found("a.jsonl", content, Some(TaskKind::Sequence), &given)
        };
        assert_eq!(of(both, LabelKind::Classes), "sequence text labels");
        assert_eq!(of(numbers, LabelKind::Number), "sequence text label");
        let integers = "{\"text\": \"a\", \"label\": 3}";
        assert_eq!(of(integers, LabelKind::Number), "sequence text label");
        assert_eq!(
            of(lists, LabelKind::Class),
            "`labels` has the name of a label, but not one text or integer in each row | data.label=NAME"
        );
        assert_eq!(
            of(lists, LabelKind::Number),
            "`labels` has the name of a label, but not a number in each row | data.label=NAME"
        );
    }

    #[test]
    fn what_may_part_the_fields_is_asked_for() {
        let found = found(
            "a.csv",
            "who;what, where\na;b, c\n",
            None,
            &GivenColumns::default(),
        );
        assert!(found.ends_with(" | data.delimiter=,"), "{found}");
    }

    #[test]
    fn what_is_given_is_not_looked_for() {
        let given = GivenColumns {
            text: Some("a".into()),
            ..GivenColumns::default()
        };
        assert_eq!(
            found("a.csv", "a,text,label\n", None, &given),
            "sequence a label"
        );
        let given = GivenColumns {
            text_pair: Some("review".into()),
            ..GivenColumns::default()
        };
        assert_eq!(
            found("a.csv", "review,text,label\n", None, &given),
            "sequence text+review label"
        );
        let given = GivenColumns {
            tags: Some(1.into()),
            ..GivenColumns::default()
        };
        assert_eq!(
            found("a.conll", "Ada NNP B-NP B-PER\n", None, &given),
            "token 0 1"
        );
    }
}
