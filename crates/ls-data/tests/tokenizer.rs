//! Loading a tokenizer folder, the choice of the padding token, truncation and its counts.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use ls_data::{DataError, PadReason, SequenceExample, TextTokenizer, TokenExample};
use serde_json::{Value, json};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tokenizers")
        .join(name)
}

fn tokenizer(name: &str) -> TextTokenizer {
    TextTokenizer::from_dir(&folder(name)).unwrap()
}

/// The fixture with its two files changed.
fn changed(
    name: &str,
    change: impl Fn(&mut Value, &mut Value),
) -> Result<TextTokenizer, DataError> {
    let read = |file| serde_json::from_slice(&fs::read(folder(name).join(file)).unwrap()).unwrap();
    let (mut tokenizer, mut config) = (read("tokenizer.json"), read("tokenizer_config.json"));
    change(&mut tokenizer, &mut config);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    TextTokenizer::from_dir(dir.path())
}

fn pad(tokenizer: Result<TextTokenizer, DataError>) -> (String, PadReason) {
    let pad = tokenizer.unwrap().pad_token().clone();
    (pad.token, pad.reason)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| w.to_string()).collect()
}

#[test]
fn padding_is_a_token_that_no_text_gives() {
    assert_eq!(
        pad(Ok(tokenizer("llama2"))),
        ("<unk>".into(), PadReason::Unknown)
    );
    let finetune = "<|finetune_right_pad_id|>".to_string();
    assert_eq!(
        pad(Ok(tokenizer("llama3"))),
        (finetune.clone(), PadReason::Named)
    );
    let configured = |name: &str, token: &str| {
        pad(changed(name, |_, config| {
            config["pad_token"] = json!({ "content": token })
        }))
    };
    assert_eq!(
        configured("llama3", &finetune),
        (finetune.clone(), PadReason::Configured)
    );
    assert_eq!(
        configured("llama3", "<|eot_id|>"),
        (finetune.clone(), PadReason::Named)
    );
    assert_eq!(
        configured("llama2", "</s>"),
        ("<unk>".into(), PadReason::Unknown)
    );
    assert_eq!(
        configured("llama2", "▁the"),
        ("<unk>".into(), PadReason::Unknown)
    );
}

#[test]
fn padding_falls_back_in_order() {
    let without = |name: &str, tokens: &[&str]| {
        pad(changed(name, |tokenizer, _| {
            let added = tokenizer["added_tokens"].as_array_mut().unwrap();
            added.retain(|t| !tokens.contains(&t["content"].as_str().unwrap()));
        }))
    };
    let finetune = "<|finetune_right_pad_id|>";
    let reserved = "<|reserved_special_token_0|>";
    assert_eq!(
        without("llama3", &[finetune]),
        (reserved.into(), PadReason::Reserved)
    );
    assert_eq!(
        without("llama3", &[finetune, reserved]),
        ("<|end_of_text|>".into(), PadReason::Special)
    );
    assert_eq!(
        without("llama3", &[finetune, reserved, "<|end_of_text|>"]),
        ("<|eot_id|>".into(), PadReason::Boundary)
    );
    // Without byte fallback any unknown character is the unknown token.
    let incomplete = changed("llama2", |tokenizer, _| {
        tokenizer["model"]["byte_fallback"] = false.into()
    });
    assert_eq!(pad(incomplete).1, PadReason::Boundary);
    let none = changed("llama3", |tokenizer, config| {
        tokenizer["added_tokens"] = json!([]);
        tokenizer["post_processor"] = Value::Null;
        *config = json!({});
    });
    assert!(matches!(none, Err(DataError::NoPadToken { .. })));
}

#[test]
fn a_special_token_spelled_out_in_a_text_is_text() {
    for name in ["llama2", "llama3"] {
        let tokenizer = tokenizer(name);
        let special = [
            "<s>",
            "</s>",
            "<unk>",
            "<|begin_of_text|>",
            "<|finetune_right_pad_id|>",
        ];
        let encoded = tokenizer
            .encode_sequence(&special.concat(), None, 1000)
            .unwrap();
        for id in special
            .iter()
            .filter_map(|token| tokenizer.token_to_id(token))
        {
            assert!(
                !encoded.input_ids[1..].contains(&id),
                "{name}: id {id} came out of a text"
            );
        }
    }
}

#[test]
fn stored_truncation_and_padding_do_not_act_and_a_config_is_optional() {
    let tokenizer = tokenizer("llama2");
    let encoded = tokenizer
        .encode_sequence("a warm ending and a dull plot", None, 1000)
        .unwrap();
    assert!(
        encoded.input_ids.len() > 9,
        "the file stores a truncation to 4 and a padding to 9"
    );
    assert_eq!(tokenizer.model_max_length(), None);
    assert_eq!(self::tokenizer("llama3").model_max_length(), Some(131_072));

    let dir = tempfile::tempdir().unwrap();
    fs::copy(
        folder("llama2").join("tokenizer.json"),
        dir.path().join("tokenizer.json"),
    )
    .unwrap();
    let bare = TextTokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(
        bare.encode_sequence("a warm ending and a dull plot", None, 1000)
            .unwrap(),
        encoded
    );
    assert_eq!(bare.files().len(), 1);
}

#[test]
fn the_vocabulary_ends_after_the_highest_id() {
    for name in ["llama2", "llama3"] {
        let tokenizer = tokenizer(name);
        let highest = tokenizer.vocab_size() as u32 - 1;
        assert!(tokenizer.id_to_token(highest).is_some());
        assert_eq!(tokenizer.id_to_token(highest + 1), None);
    }
}

#[test]
fn bad_folders_say_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let load = || TextTokenizer::from_dir(dir.path()).unwrap_err();
    assert!(matches!(
        load(),
        DataError::NoTokenizer {
            sentencepiece: false,
            ..
        }
    ));
    fs::write(dir.path().join("tokenizer.model"), "x").unwrap();
    assert!(load().to_string().contains("save_pretrained"));
    fs::write(dir.path().join("tokenizer.json"), "{\"version\":").unwrap();
    assert!(matches!(load(), DataError::Tokenizer { .. }));
    let bad_config = changed("llama2", |_, config| {
        *config = json!({ "add_bos_token": "yes" })
    });
    assert!(
        bad_config
            .unwrap_err()
            .to_string()
            .contains("tokenizer_config.json")
    );
}

#[test]
fn a_copy_of_the_files_is_the_same_tokenizer() {
    let original = tokenizer("llama3");
    let dir = tempfile::tempdir().unwrap();
    original.copy_to(dir.path()).unwrap();
    let copy = TextTokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(copy.pad_token(), original.pad_token());
    assert_eq!(
        copy.encode_sequence("café", None, 9).unwrap(),
        original.encode_sequence("café", None, 9).unwrap()
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn truncation_drops_whole_words_and_counts_them() {
    for name in ["llama2", "llama3"] {
        let tokenizer = tokenizer(name);
        let list = words(&["the", "supercalifragilistic", "😀", "", "harbour", "end"]);
        let whole = tokenizer.encode_words(&list, 1000).unwrap();
        for max_length in 2..whole.input_ids.len() + 2 {
            let cut = tokenizer.encode_words(&list, max_length).unwrap();
            assert!(cut.input_ids.len() <= max_length);
            assert_eq!(
                cut.input_ids[0], whole.input_ids[0],
                "the special token stays"
            );
            assert_eq!(cut.input_ids.len(), cut.word_ids.len());
            assert_eq!(cut.input_ids.len() + cut.cut_tokens, whole.input_ids.len());
            let tokens_of = |word: usize, ids: &[Option<usize>]| {
                ids.iter().filter(|id| **id == Some(word)).count()
            };
            let mut lost = 0;
            for word in 0..list.len() {
                let (kept, all) = (
                    tokens_of(word, &cut.word_ids),
                    tokens_of(word, &whole.word_ids),
                );
                assert!(
                    kept == 0 || kept == all,
                    "{name}: word {word} was cut in the middle"
                );
                lost += usize::from(kept < all);
            }
            assert_eq!(
                (cut.cut_words, cut.empty_words),
                (lost, 1),
                "{name} at {max_length}"
            );
        }
        assert!(matches!(
            tokenizer.encode_words(&list, 1),
            Err(DataError::MaxLength {
                max_length: 1,
                special: 1
            })
        ));
        assert!(matches!(
            tokenizer.encode_sequence("a", Some("b"), 2),
            Err(DataError::MaxLength {
                max_length: 2,
                special: 2
            })
        ));
    }
}

fn sequence(text: &str, line: usize) -> SequenceExample {
    SequenceExample {
        text: text.into(),
        text_pair: None,
        label: None,
        line,
        extra: None,
    }
}

fn tagged(tokens: &[&str], line: usize) -> TokenExample {
    TokenExample {
        tokens: words(tokens),
        tags: None,
        line,
        extra: None,
    }
}

#[test]
fn a_report_sums_what_was_cut() {
    let tokenizer = tokenizer("llama2");
    let source = Path::new("train.csv");
    let texts = [
        sequence("a", 1),
        sequence("a dull plot, a fine cast, a warm ending", 2),
    ];
    let (encoded, report) = tokenizer
        .encode_sequence_examples(&texts, source, 6)
        .unwrap();
    assert_eq!(
        (report.examples, report.cut_examples, report.longest),
        (2, 1, 6)
    );
    assert_eq!(
        report.tokens,
        encoded[0].text_tokens + encoded[1].text_tokens
    );
    assert_eq!(report.cut_tokens, encoded[1].cut_tokens);
    assert!(
        report
            .to_string()
            .starts_with("cut: 1 of 2 examples (50.0%), "),
        "{report}"
    );

    let lists = [
        tagged(&["a", ""], 1),
        tagged(&["a", "dull", "plot", ",", "a", "cast"], 4),
    ];
    let (encoded, report) = tokenizer.encode_token_examples(&lists, source, 6).unwrap();
    assert_eq!((report.words, report.empty_words), (8, 1));
    assert_eq!(report.cut_words, encoded[1].cut_words);
    assert!(report.cut_words > 0);
    assert!(
        report.to_string().ends_with("; 1 words without tokens"),
        "{report}"
    );
}

/// The fixture with a normaliser that drops control and zero-width characters.
fn dropping(name: &str) -> TextTokenizer {
    let drop =
        json!({ "type": "Replace", "pattern": { "Regex": "[\\x00-\\x1f\\u200b]" }, "content": "" });
    changed(
        name,
        |tokenizer, _| match tokenizer["normalizer"]["normalizers"].as_array_mut() {
            Some(normalizers) => normalizers.insert(0, drop.clone()),
            None => tokenizer["normalizer"] = drop.clone(),
        },
    )
    .unwrap()
}

#[test]
fn a_word_that_vanishes_in_normalisation_has_no_token_and_moves_no_other() {
    for name in ["llama2", "llama3"] {
        let tokenizer = dropping(name);
        for position in 0..4 {
            let mut list = words(&["harbour", "lay", "quiet"]);
            list.insert(position, "\u{200b}".into());
            let encoded = tokenizer.encode_words(&list, 99).unwrap();
            assert_eq!(encoded.empty_words, 1, "{name} {list:?}");
            for (word, text) in list.iter().enumerate() {
                let ids = encoded.input_ids.iter().zip(&encoded.word_ids);
                let pieces: String = ids
                    .filter(|(_, id)| **id == Some(word))
                    .filter_map(|(id, _)| tokenizer.id_to_token(*id))
                    .collect();
                let letters = pieces.trim_start_matches(['▁', 'Ġ']);
                assert_eq!(letters, text.trim_matches('\u{200b}'), "{name} {list:?}");
            }
        }
    }
}

#[test]
fn an_example_that_tokenises_to_nothing_names_its_line() {
    let source = Path::new("train.csv");
    let tokenizer = dropping("llama3");
    let texts = [sequence("fine", 3), sequence("\u{200b}\u{1}", 8)];
    let error = tokenizer
        .encode_sequence_examples(&texts, source, 9)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "train.csv:8: the text tokenises to nothing"
    );
    let lists = [
        tagged(&["a", "\u{200b}"], 1),
        tagged(&["\u{200b}", "\u{1}"], 5),
    ];
    let error = tokenizer
        .encode_token_examples(&lists, source, 9)
        .unwrap_err();
    assert!(matches!(error, DataError::NoTokens { line: 5, .. }));
}
