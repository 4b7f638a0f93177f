//! What a split is like, and what of that is worth a warning.

use std::path::Path;

use ls_data::*;
use tempfile::TempDir;

const TOKENIZER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/tokenizers/llama2"
);

fn source(dir: &TempDir, files: &[(&str, &str)]) -> SplitSource {
    let files = files.iter().map(|(name, content)| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    });
    let files: Vec<_> = files.collect();
    SplitSource {
        read: ReadSpec::new(FileFormat::from_path(&files[0]).unwrap()),
        files,
        tags: TagChanges::default(),
        bad_rows: BadRows::default(),
    }
}

fn profile(files: &[(&str, &str)], task: TaskKind) -> Result<Profile> {
    let dir = tempfile::tempdir().unwrap();
    let mut profile = Profile::of(&source(&dir, files), task, &ProfileOptions::default())?;
    // The temporary folder is in every place.
    let folder = format!("{}/", dir.path().display());
    let short = |texts: &mut Vec<String>| {
        for text in texts {
            *text = text.replace(&folder, "");
        }
    };
    short(&mut profile.contradicting);
    short(&mut profile.bad_rows.shown);
    for file in &mut profile.files {
        *file = file.file_name().unwrap().into();
    }
    Ok(profile)
}

fn texts(content: &str) -> Profile {
    profile(&[("a.csv", content)], TaskKind::Sequence).unwrap()
}

fn counts(profile: &Profile) -> Vec<(&str, usize)> {
    let labels = profile.labels.iter();
    labels
        .map(|seen| (seen.name.as_str(), seen.count))
        .collect()
}

fn said(splits: &[(&str, &Profile)]) -> Vec<String> {
    let found = concerns(splits, &InputLimits::truncate(8));
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn texts_are_counted_by_label_length_and_what_repeats() {
    let first = "text,label\nété,good\n ab ,bad\nabcd,good\n";
    let second = "text,label\nab,good\nété,good\n,bad\nx,10\n";
    let files = [("a.csv", first), ("b.csv", second)];
    let found = profile(&files, TaskKind::Sequence).unwrap();
    assert_eq!(found.examples, 6);
    assert_eq!(counts(&found), [("10", 1), ("bad", 1), ("good", 4)]);
    assert_eq!((found.labels[0].file, found.labels[0].line), (1, 5));
    assert_eq!((found.lengths.shortest, found.lengths.median), (1, 2));
    assert_eq!((found.lengths.p95, found.lengths.longest), (4, 4));
    assert_eq!((found.bad_rows.count, found.blank), (1, 1));
    assert_eq!(found.bad_rows.shown, ["b.csv:4: text is empty"]);
    // White space around it makes a text no other one.
    assert_eq!((found.repeats, found.contradictions), (2, 1));
    assert_eq!(
        found.contradicting,
        [r#"b.csv:2 is "good", the same text in a.csv:3 "bad""#]
    );
    assert_eq!((found.spans, found.tokens, found.cut), (None, None, None));
}

#[test]
fn words_are_counted_by_tag_and_by_type_of_span() {
    let content = "Zoë B-PER\nLin I-PER\nin O\nBern B-LOC\n\nAnn B-PER\n\nAnn B-LOC\n";
    let found = profile(&[("a.conll", content)], TaskKind::Token).unwrap();
    let tags = [("O", 1), ("B-LOC", 2), ("B-PER", 2), ("I-PER", 1)];
    assert_eq!(counts(&found), tags);
    let spans = [("LOC".to_string(), 2), ("PER".to_string(), 2)];
    assert_eq!(found.spans.as_deref(), Some(&spans[..]));
    assert_eq!((found.lengths.shortest, found.lengths.longest), (1, 4));
    assert_eq!(
        found.contradicting,
        ["a.conll:8 has other tags than the same words in a.conll:6"]
    );
    let content = "runs VERB\nDog NOUN\n";
    let found = profile(&[("a.conll", content)], TaskKind::Token).unwrap();
    assert_eq!(found.spans, None);
    assert_eq!(counts(&found), [("NOUN", 1), ("VERB", 1)]);
    assert_eq!(
        said(&[("train", &found)]),
        [r#"train: fewer than 20 examples of "NOUN" (1), "VERB" (1)"#]
    );
}

#[test]
fn what_would_be_cut_is_measured_by_the_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let long = "good ".repeat(30);
    let content = format!("text,label\nok,a\n{long},b\n");
    let source = source(&dir, &[("a.csv", &content)]);
    let tokenizer = TextTokenizer::from_dir(Path::new(TOKENIZER)).unwrap();
    let limits = InputLimits::truncate(8);
    let options = ProfileOptions {
        kind: None,
        tokens: Some((&tokenizer, &limits)),
        vocab_size: None,
    };
    let found = Profile::of(&source, TaskKind::Sequence, &options).unwrap();
    let encoded = source
        .encode(TaskKind::Sequence, &tokenizer, &limits, None)
        .unwrap();
    // As it is counted when it is trained on.
    assert_eq!(found.cut.unwrap(), *encoded.report());
    let tokens = found.tokens.unwrap();
    assert_eq!(tokens.shortest + tokens.longest, encoded.report().tokens);
    let cut = encoded.report();
    let percent = 100.0 * cut.cut_tokens as f64 / cut.tokens as f64;
    let expected = format!(
        "train: 1 of 2 are longer than data.max_length = 8: {percent:.1}% of all tokens are cut"
    );
    assert_eq!(said(&[("train", &found)]).pop(), Some(expected));
    let windows = InputLimits::windows(8);
    let options = ProfileOptions {
        kind: None,
        tokens: Some((&tokenizer, &windows)),
        vocab_size: None,
    };
    let found = Profile::of(&source, TaskKind::Sequence, &options).unwrap();
    let said = concerns(&[("train", &found)], &windows);
    assert!(
        matches!(
            said.last(),
            Some(Concern::Long {
                windows: true,
                count: 1,
                cut_tokens: 0,
                ..
            })
        ),
        "{said:?}"
    );
}

#[test]
fn a_split_without_a_row_that_can_be_used_is_an_error() {
    for (content, expected) in [
        ("", "a.csv: holds no examples"),
        ("text,label\n", "a.csv: holds no examples"),
        ("text,label\n,good\n", "a.csv:2: text is empty"),
        ("text,label\n,good\n ,bad\n", "a.csv:2: text is empty\n"),
        ("text,class\na,b\n", "a.csv: no column `label`"),
    ] {
        let error = profile(&[("a.csv", content)], TaskKind::Sequence).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(expected), "{content:?}: {error}");
    }
}

#[test]
fn what_is_likely_not_meant_is_told_with_its_place() {
    let row = |i: usize, label: &str| format!("text {i},{label}\n");
    let many = |from: usize, n: usize, label: &str| -> String {
        (from..from + n).map(|i| row(i, label)).collect()
    };
    let head = "text,label\n";
    let train = [head, &many(0, 200, "a"), &many(200, 20, "b")].concat();
    let train = texts(&train);
    assert_eq!(
        said(&[("train", &train)]),
        [
            "train: 90% have the label \"a\", so that accuracy says little: \
             train.metric_for_best_model = \"f1_macro\" chooses by all labels"
        ]
    );
    let even = texts(&[head, &many(0, 20, "a"), &many(20, 20, "b")].concat());
    assert_eq!(said(&[("train", &even)]), [""; 0]);
    let other = texts(&[head, &many(38, 4, "b"), &row(39, "b"), ",a\n"].concat());
    assert_eq!(
        said(&[("train", &even), ("validation", &even), ("test", &other)]),
        [
            "test: rows that cannot be used: 1, of which 1 have nothing to read",
            "labels of train that test has no example of, so that they are not scored: \"a\"",
            "test: 1 of 5 repeat an earlier text",
            "validation: 40 of 40 stand in train too, so that validation scores too well \
             (a.csv:2 as a.csv:2)",
            "test: 3 of 5 stand in train too, so that test scores too well (a.csv:2 as a.csv:40)",
            "test: 3 of 5 stand in validation too, so that test scores too well \
             (a.csv:2 as a.csv:40)",
        ]
    );
    let content = [
        head,
        &many(0, 30, "Good"),
        &many(30, 20, "good"),
        "text 0,x\n",
    ]
    .concat();
    assert_eq!(
        said(&[("train", &texts(&content))]),
        [
            "train: fewer than 20 examples of \"x\" (1)",
            "labels that look the same are learnt as different ones: \"Good\" (30) and \
             \"good\" (20); if they are one, write it in one way",
            "train: 1 of 51 repeat an earlier text",
            "train: repeated with another answer: 1 (a.csv:52 is \"x\", the same text in a.csv:2 \
             \"Good\")",
        ]
    );
}
