//! Loading a tokenizer folder, the choice of the padding token, truncation and its counts.

use std::fs;
use std::path::{Path, PathBuf};

use ls_data::{Context, CutReport, DataError, InputLimits, LongInputs, PadReason, TextTokenizer};
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
    let copy = tempfile::tempdir().unwrap();
    bare.copy_to(copy.path()).unwrap();
    assert_eq!(fs::read_dir(copy.path()).unwrap().count(), 1);
}

#[test]
fn a_copy_is_of_what_was_read_whatever_became_of_the_files() {
    let [dir, copy] = [(), ()].map(|()| tempfile::tempdir().unwrap());
    let names = ["tokenizer.json", "tokenizer_config.json"];
    for name in names {
        fs::copy(folder("llama2").join(name), dir.path().join(name)).unwrap();
    }
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let read = fs::read(dir.path().join(names[0])).unwrap();
    fs::write(dir.path().join(names[0]), "{}").unwrap();
    fs::remove_file(dir.path().join(names[1])).unwrap();
    tokenizer.copy_to(copy.path()).unwrap();
    assert_eq!(fs::read(copy.path().join(names[0])).unwrap(), read);
    assert!(copy.path().join(names[1]).is_file());
    assert_eq!(tokenizer.sha256(), ls_files::sha256(&read));
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
fn the_map_of_special_tokens_counts_where_transformers_reads_it() {
    let named = |config: Value, map: Option<Value>| {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(
            folder("llama2").join("tokenizer.json"),
            dir.path().join("tokenizer.json"),
        )
        .unwrap();
        fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        if let Some(map) = map {
            let path = dir.path().join("special_tokens_map.json");
            fs::write(path, map.to_string()).unwrap();
        }
        TextTokenizer::from_dir(dir.path()).unwrap().named_pad()
    };
    let map = || Some(json!({"pad_token": {"content": "</s>", "lstrip": false}}));
    let (unknown, end) = (Some(0), Some(2));
    assert_eq!(named(json!({}), None), None);
    assert_eq!(named(json!({"pad_token": "<unk>"}), None), unknown);
    assert_eq!(named(json!({"pad_token": "<unk>"}), map()), end);
    assert_eq!(named(json!({}), map()), end);
    let listed = json!({"pad_token": "<unk>", "added_tokens_decoder": {}});
    assert_eq!(named(listed, map()), unknown);
    assert_eq!(named(json!({"pad_token": "no such token"}), None), None);
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
fn truncation_cuts_at_a_token_and_counts_the_words_that_have_none_left() {
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
            assert_eq!(cut.input_ids.len(), max_length.min(whole.input_ids.len()));
            assert!(whole.input_ids.starts_with(&cut.input_ids));
            assert!(whole.word_ids.starts_with(&cut.word_ids));
            let tokens_of = |word: usize, ids: &[Option<usize>]| {
                ids.iter().filter(|id| **id == Some(word)).count()
            };
            let mut lost = 0;
            for word in 0..list.len() {
                let (kept, all) = (
                    tokens_of(word, &cut.word_ids),
                    tokens_of(word, &whole.word_ids),
                );
                lost += usize::from(kept == 0 && all > 0);
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

#[test]
fn a_report_sums_what_was_cut() {
    let tokenizer = tokenizer("llama2");
    let limits = InputLimits::truncate(6);
    let mut report = CutReport::default();
    let texts = ["a", "a dull plot, a fine cast, a warm ending"];
    let encoded = texts.map(|text| tokenizer.sequence_inputs(text, None, &limits).unwrap());
    encoded.iter().for_each(|e| report.add_sequence(e));
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

    let mut report = CutReport::default();
    let lists = [
        words(&["a", ""]),
        words(&["a", "dull", "plot", ",", "a", "cast"]),
    ];
    for list in &lists {
        let encoded = tokenizer.word_inputs(list, &limits).unwrap();
        report.add_words(&encoded, list.len());
        // Words beyond the cut are labelled nowhere.
        assert_eq!(encoded.inputs[0].scored, 0..list.len() - encoded.cut_words);
    }
    assert_eq!((report.words, report.empty_words), (8, 1));
    assert!(report.cut_words > 0);
    assert!(
        report.to_string().ends_with("; 1 words without tokens"),
        "{report}"
    );
}

#[test]
fn a_text_keeps_its_beginning_its_end_or_both() {
    let tokenizer = tokenizer("llama2");
    let text = "a dull plot, a fine cast, a warm ending and some music";
    let whole = tokenizer.encode_sequence(text, None, 1000).unwrap();
    let (bos, ids) = whole.input_ids.split_first().unwrap();
    let kept = |long_inputs, max_length: usize| {
        let limits = InputLimits {
            long_inputs,
            ..InputLimits::truncate(max_length)
        };
        let found = tokenizer.sequence_inputs(text, None, &limits).unwrap();
        assert_eq!(found.inputs.len(), 1);
        assert_eq!(found.text_tokens, ids.len());
        assert_eq!(found.cut_tokens, ids.len() - (max_length - 1));
        assert_eq!(found.inputs[0][0], *bos, "special tokens stay");
        found.inputs[0][1..].to_vec()
    };
    assert_eq!(kept(LongInputs::Truncate, 8), ids[..7]);
    assert_eq!(kept(LongInputs::Tail, 8), ids[ids.len() - 7..]);
    let both = [&ids[..4], &ids[ids.len() - 3..]].concat();
    assert_eq!(kept(LongInputs::HeadTail, 8), both);

    // Of a pair, each text keeps the part that is asked for.
    let limits = InputLimits {
        long_inputs: LongInputs::Tail,
        ..InputLimits::truncate(12)
    };
    let found = tokenizer
        .sequence_inputs(text, Some("a warm end"), &limits)
        .unwrap();
    let second = tokenizer.encode_sequence("a warm end", None, 1000).unwrap();
    assert!(found.inputs[0].ends_with(&second.input_ids[1..]));
    let first = 12 - 2 - (second.input_ids.len() - 1);
    assert_eq!(found.inputs[0][1..1 + first], ids[ids.len() - first..]);

    let windows = InputLimits::windows(12);
    let refused = tokenizer.sequence_inputs(text, Some("b"), &windows);
    assert!(matches!(refused, Err(DataError::WindowsOfPair)));
    let refused = tokenizer.word_inputs(&words(&["a"]), &limits);
    assert!(matches!(refused, Err(DataError::CutOfWords)));
}

#[test]
fn windows_of_a_text_are_its_tokens_with_the_special_ones_around_each() {
    let tokenizer = tokenizer("llama3");
    let text = "a dull plot, a fine cast, a warm ending and some music";
    let whole = tokenizer.encode_sequence(text, None, 1000).unwrap();
    let limits = InputLimits {
        stride: Some(2),
        ..InputLimits::windows(6)
    };
    let found = tokenizer.sequence_inputs(text, None, &limits).unwrap();
    let ids = &whole.input_ids[1..];
    assert_eq!((found.cut_tokens, found.text_tokens), (0, ids.len()));
    for (index, input) in found.inputs.iter().enumerate() {
        let start = (index * 3).min(ids.len() - 5);
        assert_eq!(input[0], whole.input_ids[0]);
        assert_eq!(input[1..], ids[start..start + 5]);
    }
    assert_eq!(found.inputs.len(), (ids.len() - 5).div_ceil(3) + 1);
}

#[test]
fn windows_of_words_label_every_word_once_with_its_own_tokens() {
    let list = words(&[
        "Zoë",
        "",
        "flew",
        "from",
        "東京",
        "to",
        "São",
        "Paulo",
        ",",
        "a😀b",
        "\t",
        "extraordinarily",
        "naïve",
        "and",
        "unbelievably",
        "quick",
        "cafe\u{301}",
        "!",
        "the",
        "end",
    ]);
    for name in ["llama2", "llama3"] {
        let tokenizer = tokenizer(name);
        let whole = tokenizer.encode_words(&list, 1000).unwrap();
        let specials = tokenizer.special_tokens(false);
        for max_length in 3..=whole.input_ids.len() + 1 {
            for stride in [None, Some(0), Some(3)] {
                for context in [Context::Both, Context::Left] {
                    let limits = InputLimits {
                        stride,
                        context,
                        ..InputLimits::windows(max_length)
                    };
                    let found = tokenizer.word_inputs(&list, &limits).unwrap();
                    let what = format!("{name} {limits:?}");
                    assert_eq!((found.cut_words, found.empty_words), (0, whole.empty_words));
                    let mut next = 0;
                    for input in &found.inputs {
                        assert!(input.input_ids.len() <= max_length, "{what}");
                        assert_eq!(input.input_ids.len(), input.word_ids.len());
                        assert_eq!(input.scored.start, next, "{what}");
                        next = input.scored.end;
                        for word in input.scored.clone() {
                            let own = |ids: &[u32], words: &[Option<usize>]| -> Vec<u32> {
                                let pairs = ids.iter().zip(words);
                                let pairs = pairs.filter(|(_, w)| **w == Some(word));
                                pairs.map(|(id, _)| *id).collect()
                            };
                            let expected = own(&whole.input_ids, &whole.word_ids);
                            let here = own(&input.input_ids, &input.word_ids);
                            // A word longer than a window keeps what fits.
                            let fits = expected.len().min(max_length - specials);
                            if here.len() < expected.len() {
                                assert!(expected.len() > 1 && !here.is_empty(), "{what} {word}");
                                assert!(expected.starts_with(&here), "{what} {word}");
                                assert!(expected.len() + 1 > fits, "{what} {word}");
                            } else {
                                assert_eq!(here, expected, "{what} {word}");
                            }
                        }
                    }
                    assert_eq!(next, list.len(), "{what}");
                    if max_length >= whole.input_ids.len() {
                        assert_eq!(found.inputs.len(), 1, "{what}");
                        assert_eq!(found.inputs[0].input_ids, whole.input_ids);
                        assert_eq!(found.inputs[0].word_ids, whole.word_ids);
                    }
                }
            }
        }
    }
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

/// The ways of writing a tokenizer whose texts are encoded piece by piece: of LLaMA 2 as converted
/// and as saved anew, of LLaMA 3, Qwen 2, GPT-2 and SmolLM2.
fn piecewise() -> Vec<(&'static str, Value, Value, &'static str)> {
    let metaspace = |scheme: &str, split: bool| json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split });
    let bytes = |regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex });
    let qwen = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let split = json!({ "type": "Split", "pattern": { "Regex": qwen }, "behavior": "Isolated", "invert": false });
    let sequence = |parts: &[Value]| json!({ "type": "Sequence", "pretokenizers": parts });
    let (keep, null) = (json!("keep"), Value::Null);
    vec![
        ("llama2", keep.clone(), keep.clone(), "converted"),
        (
            "llama2",
            null.clone(),
            metaspace("first", false),
            "saved anew",
        ),
        ("llama2", null.clone(), metaspace("always", true), "split"),
        ("llama2", null.clone(), metaspace("never", false), "bare"),
        ("llama3", keep.clone(), keep, "LLaMA 3"),
        (
            "llama3",
            json!({ "type": "NFC" }),
            sequence(&[split, bytes(false)]),
            "Qwen 2",
        ),
        ("llama3", null.clone(), bytes(true), "GPT-2"),
        (
            "llama3",
            null,
            sequence(&[
                json!({ "type": "Digits", "individual_digits": true }),
                bytes(true),
            ]),
            "SmolLM2",
        ),
    ]
}

#[test]
fn texts_encoded_piece_by_piece_have_the_ids_of_the_whole() {
    use rand::{RngExt, SeedableRng};
    let alphabet: Vec<&str> = " | |  |\n|\r\n|\t|\u{a0}|\u{3000}|▁|a|the|harbour|Zoë|e\u{301}|naïve|東京|😀|👩‍🚀|é|1|234|.|,|!|'s|'LL|\"|--|</s>|<|begin_of_text|>|#tag|x_y|a1b2|ſ|ﬁ|\u{200b}|\u{1}|Ġ|ʼ"
        .split('|')
        .filter(|part| !part.is_empty())
        .collect();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    for (name, normalizer, pre_tokenizer, what) in piecewise() {
        let edit = |tokenizer: &mut Value, slow: bool| {
            if normalizer != "keep" {
                tokenizer["normalizer"] = normalizer.clone();
            }
            if pre_tokenizer != "keep" {
                tokenizer["pre_tokenizer"] = pre_tokenizer.clone();
            }
            if slow {
                // A token that no text has, but that takes spaces: so nothing is encoded in pieces.
                let token = json!({ "id": 9999, "content": "\u{e000}\u{e001}", "special": false, "lstrip": true,
                    "rstrip": false, "single_word": false, "normalized": false });
                tokenizer["added_tokens"]
                    .as_array_mut()
                    .unwrap()
                    .push(token);
            }
        };
        let fast = changed(name, |tokenizer, _| edit(tokenizer, false)).unwrap();
        let slow = changed(name, |tokenizer, _| edit(tokenizer, true)).unwrap();
        let (debug_fast, debug_slow) = (format!("{fast:?}"), format!("{slow:?}"));
        assert!(
            debug_fast.contains("segments: Some"),
            "{what} is not encoded in pieces"
        );
        assert!(
            debug_slow.contains("segments: None"),
            "{what} is encoded in pieces"
        );
        for _ in 0..4000 {
            let length = random.random_range(0..14);
            let mut part = || alphabet[random.random_range(0..alphabet.len())];
            let parts: Vec<String> = (0..length).map(|_| part().to_string()).collect();
            let text = parts.concat();
            let [ids, expected] =
                [&fast, &slow].map(|t| t.encode_sequence(&text, None, 1000).unwrap());
            assert_eq!(ids, expected, "{what} {text:?}");
            let [ids, expected] = [&fast, &slow].map(|t| t.encode_words(&parts, 1000).unwrap());
            assert_eq!(ids, expected, "{what} {parts:?}");
            let words: Vec<String> = text.split_whitespace().map(String::from).collect();
            let [ids, expected] = [&fast, &slow].map(|t| t.encode_words(&words, 1000).unwrap());
            assert_eq!(ids, expected, "{what} {words:?}");
        }
    }
}

#[test]
fn tokenizers_that_cannot_be_seen_to_allow_it_are_not_encoded_in_pieces() {
    let whole = |name: &str, edit: &dyn Fn(&mut Value)| {
        let tokenizer = changed(name, |tokenizer, _| edit(tokenizer)).unwrap();
        format!("{tokenizer:?}").contains("segments: None")
    };
    let merge = |tokenizer: &mut Value, left: &str, right: &str| {
        let id = tokenizer["model"]["vocab"].as_object().unwrap().len();
        tokenizer["model"]["vocab"][format!("{left}{right}")] = json!(id);
        let merges = tokenizer["model"]["merges"].as_array_mut().unwrap();
        merges.push(json!([left, right]));
    };
    assert!(
        whole("llama2", &|t| merge(t, "a", "▁a")),
        "a merge over a space"
    );
    assert!(whole("llama2", &|t| t["model"]["byte_fallback"] = json!(false)));
    assert!(whole("llama2", &|t| t["normalizer"] = json!({ "type": "NFKC" })));
    assert!(whole("llama3", &|t| t["pre_tokenizer"]["pretokenizers"]
        [0]["pattern"] =
        json!({ "Regex": ".+" })));
    assert!(whole(
        "llama3",
        &|t| t["pre_tokenizer"] = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false })
    ));
    assert!(whole(
        "llama3",
        &|t| t["normalizer"] = json!({ "type": "Strip", "strip_left": true, "strip_right": true })
    ));
}
