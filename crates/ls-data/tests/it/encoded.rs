//! Splits as ids: the same in memory, in a file and found again; bad rows, labels and parts.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use ls_data::{
    BadRows, DataError, EncodedSplit, FileFormat, InputLimits, LabelSet, Malformed, ReadSpec,
    Reading, SpecialTokensAs, SplitSource, SplitWriter, TagChanges, TagScheme, TaskKind,
    TextTokenizer, TokenExample, WordsAs,
};
use ls_files::FileError;

use crate::any_bytes::sealed;

pub fn tokenizer(name: &str) -> TextTokenizer {
    read_as(name, Reading::default())
}

fn read_as(name: &str, reading: Reading) -> TextTokenizer {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers");
    TextTokenizer::for_reading(&folders.join(name), reading).unwrap()
}

pub fn source(files: &[PathBuf], format: FileFormat) -> SplitSource {
    SplitSource {
        files: files.to_vec(),
        read: ReadSpec::new(format),
        tags: TagChanges::default(),
        bad_rows: BadRows::default(),
    }
}

/// Everything a split says, in words.
pub fn said(split: &EncodedSplit) -> String {
    let mut text = String::new();
    for row in split.examples(0..split.len()).unwrap() {
        let tags = split.listed(&row).unwrap();
        writeln!(
            text,
            "{} {} {:?} {tags:?} {} {:?}",
            row.file, row.line, row.label, row.words, row.cut
        )
        .unwrap();
        for input in row.inputs.clone() {
            writeln!(text, "  {:?}", split.input(input).unwrap()).unwrap();
        }
    }
    let seen = split.seen_labels();
    let report = split.report();
    writeln!(text, "{seen:?} {report:?} {:?}", split.highest_id()).unwrap();
    writeln!(text, "{:?} {:?}", split.lengths(), split.skipped()).unwrap();
    text
}

/// A file that is large enough to be kept.
pub fn large(dir: &Path, name: &str, task: TaskKind) -> PathBuf {
    let mut text = String::new();
    let mut line = 0;
    while text.len() < 9 << 20 {
        line += 1;
        let filler = "a fine cast and a dull plot ".repeat(200);
        if task == TaskKind::Token {
            for (i, word) in filler.split(' ').filter(|w| !w.is_empty()).enumerate() {
                let tag = if i % 5 == line % 5 { "B-X" } else { "O" };
                writeln!(text, "{word}\t{tag}").unwrap();
            }
            text.push('\n');
        } else {
            writeln!(
                text,
                r#"{{"text":"{filler}{line}","label":"l{}"}}"#,
                line % 3
            )
            .unwrap();
        }
    }
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_large_split_is_the_same_in_a_file_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    for (name, format, task) in [
        ("a.jsonl", FileFormat::Jsonl, TaskKind::Sequence),
        ("a.conll", FileFormat::Conll, TaskKind::Token),
    ] {
        let tokenizer = tokenizer("llama3");
        let file = large(dir.path(), name, task);
        let source = source(std::slice::from_ref(&file), format);
        let limits = InputLimits::windows(256);
        let cache = dir.path().join(format!("cache-{task}"));
        let kept = || -> Vec<PathBuf> {
            let mut files: Vec<_> = fs::read_dir(&cache)
                .unwrap()
                .map(|e| e.unwrap().path())
                .collect();
            files.sort();
            files
        };

        let without = source.encode(task, &tokenizer, &limits, None).unwrap();
        let first = source
            .encode(task, &tokenizer, &limits, Some(&cache))
            .unwrap();
        let whole = said(&first);
        assert_eq!(said(&without), whole);
        assert!(first.report().windowed_examples > 0);
        let files = kept();
        assert_eq!(files.len(), 1, "one file, no temporary ones: {files:?}");
        #[cfg(unix)]
        let number =
            |file: &PathBuf| std::os::unix::fs::MetadataExt::ino(&fs::metadata(file).unwrap());
        #[cfg(unix)]
        let written = number(&files[0]);

        // Also under another name: the content counts.
        let moved = dir.path().join(format!("moved-{name}"));
        fs::rename(&file, &moved).unwrap();
        let source = SplitSource {
            files: vec![moved.clone()],
            ..source
        };
        let again = source
            .encode(task, &tokenizer, &limits, Some(&cache))
            .unwrap();
        assert_eq!(said(&again), whole);
        assert_eq!(again.files(), std::slice::from_ref(&moved));
        assert_eq!(kept(), files);
        #[cfg(unix)]
        assert_eq!(number(&files[0]), written, "not written again");

        // A cut file is not trusted.
        let bytes = fs::read(&files[0]).unwrap();
        fs::write(&files[0], &bytes[..bytes.len() / 2]).unwrap();
        assert!(EncodedSplit::open(&files[0]).is_err());
        let anew = source
            .encode(task, &tokenizer, &limits, Some(&cache))
            .unwrap();
        assert_eq!(said(&anew), whole);
        assert_eq!(kept(), files);
        assert!(EncodedSplit::open(&files[0]).is_ok());

        // Other settings, another tokenizer, other bytes: other keys.
        let key = source.key(task, &tokenizer, &limits).unwrap();
        let other = |limits| source.key(task, &tokenizer, &limits).unwrap();
        assert_ne!(key, other(InputLimits::windows(255)));
        assert_ne!(key, other(InputLimits::truncate(256)));
        let llama2 = self::tokenizer("llama2");
        assert_ne!(key, source.key(task, &llama2, &limits).unwrap());
        for (words, special_tokens) in [
            (WordsAs::Split, SpecialTokensAs::Text),
            (WordsAs::Text, SpecialTokensAs::Parse),
        ] {
            let reading = Reading {
                words,
                special_tokens,
            };
            let tokenizer = read_as("llama3", reading);
            assert_ne!(key, source.key(task, &tokenizer, &limits).unwrap());
        }
        let mut bytes = fs::read(&moved).unwrap();
        bytes.extend(if task == TaskKind::Token {
            &b"a\tO\n"[..]
        } else {
            b"\n"
        });
        fs::write(&moved, bytes).unwrap();
        assert_ne!(key, source.key(task, &tokenizer, &limits).unwrap());

        // Names that stand beside the file count too.
        let key = source.key(task, &tokenizer, &limits).unwrap();
        fs::write(dir.path().join("label.json"), "{\"O\": 0}").unwrap();
        assert_ne!(key, source.key(task, &tokenizer, &limits).unwrap());
        fs::remove_file(dir.path().join("label.json")).unwrap();

        // A cache that cannot be made is no reason to stop.
        let blocked = dir.path().join("blocked");
        fs::write(&blocked, "").unwrap();
        let limits = InputLimits::windows(128);
        let kept = source
            .encode(task, &tokenizer, &limits, Some(&blocked))
            .unwrap();
        assert_eq!(
            kept.len(),
            source
                .encode(task, &tokenizer, &limits, None)
                .unwrap()
                .len()
        );
    }
}

#[test]
fn files_that_are_no_split_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let magic = b"LSLENC\x00\x04";
    let old = b"LSLENC\x00\x01";
    for bytes in [&b""[..], &magic.repeat(2), &old.repeat(9), &[255; 100]] {
        fs::write(&path, bytes).unwrap();
        assert!(EncodedSplit::open(&path).is_err(), "{bytes:?}");
    }
    // Footers that promise more than there is, with the right checksums.
    for rows in ["9000", "18446744073709551615", "384307168202282326"] {
        let footer = format!(
            r#"{{"key":"x","files":1,"examples":{rows},"inputs":{rows},"task":"sequence","label_kind":"class","labels":[],"highest":null,"report":{{"examples":0,"cut_examples":0,"tokens":0,"cut_tokens":0,"words":0,"cut_words":0,"empty_words":0,"longest":0,"windowed_examples":0,"inputs":0}},"skipped":[[],0]}}"#
        );
        let content = [&magic[..], footer.as_bytes()].concat();
        fs::write(&path, sealed(&content, footer.len() as u64)).unwrap();
        let error = EncodedSplit::open(&path).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, "its tables are longer than it is");
    }
    assert!(matches!(
        EncodedSplit::open(&dir.path().join("no")),
        Err(DataError::File(FileError::NotFound { .. }))
    ));
    let empty = SplitWriter::in_memory(TaskKind::Sequence).finish();
    assert!(matches!(empty, Err(DataError::Empty { .. })));
}

#[test]
fn rows_without_tokens_are_bad_rows_and_files_follow_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let one = write(
        "1.jsonl",
        "{\"text\":\"fine\",\"label\":\"b\"}\n\n{\"text\":7}\n{\"text\":\"a\",\"label\":\"a\"}\n",
    );
    let two = write(
        "2.jsonl",
        "{\"text\":\"a warm ending\",\"label\":\"b\"}\n{\"text\":\"x\"}\n",
    );
    let mut source = source(&[one.clone(), two.clone()], FileFormat::Jsonl);
    let (tokenizer, limits) = (tokenizer("llama2"), InputLimits::truncate(64));
    let error = source
        .encode(TaskKind::Sequence, &tokenizer, &limits, None)
        .unwrap_err();
    let expected = format!(
        "{}:3: key `text`: found an integer, expected a string",
        one.display()
    );
    assert_eq!(error.to_string(), expected);

    source.bad_rows.skip = true;
    let split = source
        .encode(TaskKind::Sequence, &tokenizer, &limits, None)
        .unwrap();
    let rows = split.examples(0..split.len()).unwrap();
    let places: Vec<_> = rows.iter().map(|row| (row.file, row.line)).collect();
    assert_eq!(places, [(0, 1), (0, 4), (1, 1)]);
    let (shown, count) = split.skipped();
    assert_eq!((shown.len(), count), (2, 2));
    assert!(
        shown[1].starts_with(&format!("{}:2: no key `label`", two.display())),
        "{shown:?}"
    );
    let seen: Vec<_> = split
        .seen_labels()
        .iter()
        .map(|l| (l.name.as_str(), l.count, l.file, l.line))
        .collect();
    assert_eq!(seen, [("b", 2, 0, 1), ("a", 1, 0, 4)]);
    let labels: Vec<_> = rows.iter().map(|row| row.label).collect();
    assert_eq!(labels, [Some(0), Some(1), Some(0)]);
    let names = seen.iter().map(|(name, ..)| *name);
    assert_eq!(LabelSet::of_classes(names).unwrap().names(), ["a", "b"]);

    let mut places = Vec::new();
    let each = |file, _, row: ls_data::SequenceExample| {
        places.push((file, row.line));
        Ok::<_, DataError>(())
    };
    source.for_each_sequence(each).unwrap();
    assert_eq!(places, [(0, 1), (0, 4), (1, 1)]);
}

#[test]
fn a_list_that_tokenises_to_nothing_names_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.jsonl");
    fs::write(
        &path,
        "{\"tokens\":[\"a\",\"\"],\"tags\":[\"O\",\"O\"]}\n{\"tokens\":[\"\"],\"tags\":[\"O\"]}\n",
    )
    .unwrap();
    let source = source(std::slice::from_ref(&path), FileFormat::Jsonl);
    let (tokenizer, limits) = (tokenizer("llama3"), InputLimits::windows(64));
    let error = source
        .encode(TaskKind::Token, &tokenizer, &limits, None)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}:2: the text tokenises to nothing", path.display())
    );
}

#[test]
fn tags_are_rewritten_repaired_refused_or_reduced_to_starts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.conll");
    // IOB1, where B- stands only between two spans of a type.
    fs::write(
        &path,
        "Ada I-PER\nLovelace I-PER\nAlan B-PER\nin O\nParis I-LOC\n\nBonn E-LOC\n",
    )
    .unwrap();
    let tags = |scheme, changes: TagChanges, skip| {
        let mut source = source(std::slice::from_ref(&path), FileFormat::Conll);
        source.read.scheme = scheme;
        source.tags = changes;
        source.bad_rows.skip = skip;
        let mut all = Vec::new();
        let each = |_, _, row: TokenExample| {
            all.push(row.tags.unwrap().join(" "));
            Ok::<_, DataError>(())
        };
        source.for_each_words(each).map(|()| all)
    };
    let to = |to, malformed| TagChanges {
        to,
        malformed,
        ..TagChanges::default()
    };
    let (refuse, repair) = (Malformed::Refuse, Malformed::Repair);
    let as_it_is = tags(None, TagChanges::default(), false).unwrap();
    assert_eq!(as_it_is, ["I-PER I-PER B-PER O I-LOC", "E-LOC"]);

    let iob1 = Some(TagScheme::Iob1);
    let error = tags(iob1, to(Some(TagScheme::Iob2), refuse), false).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("{}:7: tag `E-LOC`", path.display())),
        "{text}"
    );
    assert!(text.contains("data.malformed"), "{text}");
    // Repaired too where nothing else is asked for.
    let same = tags(Some(TagScheme::Iob2), to(None, repair), false).unwrap();
    assert_eq!(same, ["B-PER I-PER B-PER O B-LOC", "B-LOC"]);
    // Also where nothing is rewritten, once the scheme is known.
    assert!(tags(iob1, to(None, refuse), false).is_err());
    let skipped = tags(iob1, to(Some(TagScheme::Iob2), refuse), true).unwrap();
    assert_eq!(skipped, ["B-PER I-PER B-PER O B-LOC"]);
    let repaired = tags(iob1, to(Some(TagScheme::Bilou), repair), false).unwrap();
    assert_eq!(repaired, ["B-PER L-PER U-PER O U-LOC", "U-LOC"]);
    let separated = |separator: &str| TagChanges {
        separator: Some(separator.into()),
        to: Some(TagScheme::Iobes),
        ..TagChanges::default()
    };
    fs::write(&path, "Ada B_PER\nLovelace I_PER\nin O\nX B_a_b\n").unwrap();
    let read = tags(Some(TagScheme::Iob2), separated("_"), false).unwrap();
    assert_eq!(read, ["B-PER E-PER O S-a_b"]);
    assert!(tags(Some(TagScheme::Iob2), separated(":"), false).is_err());
    fs::write(
        &path,
        "Ada I-PER\nLovelace I-PER\nAlan B-PER\nin O\nParis I-LOC\n\nBonn E-LOC\n",
    )
    .unwrap();
    let starts = TagChanges {
        starts_only: true,
        ..TagChanges::default()
    };
    let starts = tags(None, starts, false).unwrap();
    assert_eq!(starts, ["B-PER O B-PER O B-LOC", "B-LOC"]);
}

#[test]
fn whoever_watches_sees_each_example_and_how_much_of_the_files_is_read() {
    let dir = tempfile::tempdir().unwrap();
    // Longer than what is read at once, and a bad row, which is no example.
    let text = |rows: usize| -> String {
        let row = |number| format!("the film number {number} was good and warm\tb\n");
        (0..rows).map(row).collect::<String>() + "\tb\n"
    };
    let write = |name: &str, rows: usize| {
        let path = dir.path().join(name);
        fs::write(&path, format!("text\tlabel\n{}", text(rows))).unwrap();
        path
    };
    let files = [write("1.tsv", 1000), write("2.tsv", 500)];
    let sizes = files
        .each_ref()
        .map(|file| fs::metadata(file).unwrap().len());
    let mut source = source(&files, FileFormat::Tsv);
    source.bad_rows.skip = true;
    let (tokenizer, limits) = (tokenizer("llama2"), InputLimits::truncate(64));
    let mut seen = Vec::new();
    let mut watch = |progress| seen.push(progress);
    let split = source
        .encode_watched(TaskKind::Sequence, &tokenizer, &limits, None, &mut watch)
        .unwrap();
    assert_eq!(split.len(), 1500);
    // One for each example, and one at the end of each file.
    assert_eq!(seen.len(), 1502);
    assert!(seen.iter().all(|seen| seen.of_bytes == sizes[0] + sizes[1]));
    assert!(seen.is_sorted_by_key(|seen| (seen.examples, seen.bytes)));
    // Never less than what the example ends at, nor far ahead of it.
    let each = sizes[0] as f64 / 1000.0;
    for (at, seen) in seen[..1000].iter().enumerate() {
        let read = seen.bytes as f64 - each * at as f64;
        assert!((-100.0..100_000.0).contains(&read), "{at} {read}");
    }
    assert!(seen[0].bytes < sizes[0], "{:?} {sizes:?}", seen[0]);
    assert_eq!((seen[1000].examples, seen[1000].bytes), (1000, sizes[0]));
    let last = seen[1501];
    assert_eq!((last.examples, last.bytes), (1500, last.of_bytes));
}
