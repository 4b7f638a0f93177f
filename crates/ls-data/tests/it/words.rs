//! Words as transformers has them: ids and the word of each, split beforehand and as running text,
//! over written lists and random Unicode.

use std::fs;
use std::path::{Path, PathBuf};

use ls_data::{
    Alignment, EncodedTokens, InputLimits, LabelPosition, Reading, SpecialTokensAs, TextTokenizer,
    WordsAs,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Ids, and the word of each.
type Encoded = (Vec<u32>, Vec<Option<usize>>);

#[derive(Deserialize)]
struct Expected {
    written: Vec<Vec<String>>,
    spelled: Vec<Vec<String>>,
    drawn: Vec<Vec<String>>,
    tokenizers: Vec<Golden>,
}

#[derive(Deserialize)]
struct Golden {
    name: String,
    base: String,
    normalizer: Value,
    pre_tokenizer: Value,
    config: serde_json::Map<String, Value>,
    split: Cases,
    text: Cases,
}

#[derive(Deserialize)]
struct Cases {
    written: Vec<Encoded>,
    spelled: Vec<Encoded>,
    parsed: Vec<Encoded>,
    drawn: Vec<Encoded>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn expected() -> Expected {
    let path = fixtures().join("words/expected.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

impl Golden {
    fn cases(&self, words: WordsAs) -> &Cases {
        match words {
            WordsAs::Text => &self.text,
            WordsAs::Split => &self.split,
        }
    }

    /// Its tokenizer; a slow one never encodes a text in pieces.
    fn tokenizer(
        &self,
        words: WordsAs,
        special_tokens: SpecialTokensAs,
        slow: bool,
    ) -> TextTokenizer {
        let folder = fixtures().join("tokenizers").join(&self.base);
        let dir = tempfile::tempdir().unwrap();
        let file = fs::read(folder.join("tokenizer.json")).unwrap();
        let mut file: Value = serde_json::from_slice(&file).unwrap();
        for (key, value) in [
            ("normalizer", &self.normalizer),
            ("pre_tokenizer", &self.pre_tokenizer),
        ] {
            if value != "keep" {
                file[key] = value.clone();
            }
        }
        if slow {
            // A token that no text has, but that takes spaces.
            let token = json!({ "id": 9999, "content": "\u{e000}\u{e001}", "special": false,
                "lstrip": true, "rstrip": false, "single_word": false, "normalized": false });
            file["added_tokens"].as_array_mut().unwrap().push(token);
        }
        fs::write(dir.path().join("tokenizer.json"), file.to_string()).unwrap();
        let name = "tokenizer_config.json";
        let config = fs::read(folder.join(name)).unwrap();
        let mut config: Value = serde_json::from_slice(&config).unwrap();
        config.as_object_mut().unwrap().extend(self.config.clone());
        fs::write(dir.path().join(name), config.to_string()).unwrap();
        let reading = Reading {
            words,
            special_tokens,
        };
        TextTokenizer::for_reading(dir.path(), reading).unwrap()
    }
}

const WAYS: [WordsAs; 2] = [WordsAs::Text, WordsAs::Split];

fn check(tokenizer: &TextTokenizer, lists: &[Vec<String>], expected: &[Encoded], what: &str) {
    assert_eq!(lists.len(), expected.len());
    for (words, (ids, word_ids)) in lists.iter().zip(expected) {
        let found = tokenizer.encode_words(words, 10_000).unwrap();
        let tokens: Vec<_> = found
            .input_ids
            .iter()
            .map(|id| tokenizer.id_to_token(*id))
            .collect();
        assert_eq!(found.input_ids, *ids, "{what} {words:?} {tokens:?}");
        assert_eq!(found.word_ids, *word_ids, "{what} {words:?} {tokens:?}");
    }
}

#[test]
fn ids_and_words_are_those_of_transformers_in_both_ways() {
    let expected = expected();
    assert_eq!((expected.written.len(), expected.drawn.len()), (15, 90));
    let mut drawn_over = 0;
    for golden in &expected.tokenizers {
        for words in WAYS {
            let cases = golden.cases(words);
            for slow in [false, true] {
                let what = format!("{} {words:?} {slow}", golden.name);
                let tokenizer = golden.tokenizer(words, SpecialTokensAs::Text, slow);
                check(&tokenizer, &expected.written, &cases.written, &what);
                check(&tokenizer, &expected.spelled, &cases.spelled, &what);
                if !cases.drawn.is_empty() {
                    drawn_over += 1;
                    check(&tokenizer, &expected.drawn, &cases.drawn, &what);
                }
                let tokenizer = golden.tokenizer(words, SpecialTokensAs::Parse, slow);
                check(&tokenizer, &expected.spelled, &cases.parsed, &what);
            }
        }
    }
    assert_eq!(drawn_over, 4 * 2 * 2, "four tokenizers, both ways");
}

/// What holds for any words: ids for every token, words in order, each a run of sub-words.
fn check_order(encoded: &EncodedTokens, n_words: usize, what: &str) {
    assert_eq!(encoded.input_ids.len(), encoded.word_ids.len(), "{what}");
    let words: Vec<usize> = encoded.word_ids.iter().flatten().copied().collect();
    assert!(
        words.is_sorted() && words.iter().all(|word| *word < n_words),
        "{what}"
    );
    let mut runs: Vec<_> = encoded.word_ids.clone();
    runs.dedup();
    let mut of_words: Vec<_> = runs.iter().flatten().collect();
    let count = of_words.len();
    of_words.dedup();
    assert_eq!(
        count,
        of_words.len(),
        "a word's sub-words stand side by side: {what}"
    );
}

#[test]
fn words_are_in_order_in_windows_too_and_pieces_give_what_the_whole_gives() {
    let expected = expected();
    for golden in &expected.tokenizers {
        for words in WAYS {
            for special in [SpecialTokensAs::Text, SpecialTokensAs::Parse] {
                let [fast, slow] = [false, true].map(|slow| golden.tokenizer(words, special, slow));
                let lists = [&expected.written, &expected.spelled, &expected.drawn];
                for list in lists.into_iter().flatten() {
                    let what = format!("{} {words:?} {special:?} {list:?}", golden.name);
                    let whole = fast.encode_words(list, 10_000).unwrap();
                    assert_eq!(whole, slow.encode_words(list, 10_000).unwrap(), "{what}");
                    check_order(&whole, list.len(), &what);
                    let windows = fast.word_inputs(list, &InputLimits::windows(9)).unwrap();
                    let mut next = 0;
                    for input in &windows.inputs {
                        assert_eq!(input.scored.start, next, "{what}");
                        next = input.scored.end;
                        // The lone space goes where its word goes.
                        for word in input.scored.clone() {
                            let own = |ids: &[u32], of: &[Option<usize>]| -> Vec<u32> {
                                let pairs = ids.iter().zip(of);
                                pairs
                                    .filter(|(_, w)| **w == Some(word))
                                    .map(|(id, _)| *id)
                                    .collect()
                            };
                            let here = own(&input.input_ids, &input.word_ids);
                            let all = own(&whole.input_ids, &whole.word_ids);
                            assert!(all.starts_with(&here), "{what} {word}");
                            assert!(here.len() == all.len() || all.len() > 1, "{what} {word}");
                        }
                    }
                    assert_eq!(next, list.len(), "{what}");
                }
            }
        }
    }
}

#[test]
fn a_lone_space_is_a_words_first_sub_word_and_first_visible_is_the_one_behind_it() {
    let words: Vec<String> = ["the", "5", "▁", "boats"].map(String::from).to_vec();
    let read = |golden: &Golden, position| {
        let tokenizer = golden.tokenizer(WordsAs::Text, SpecialTokensAs::Text, false);
        let encoded = tokenizer.encode_words(&words, 100).unwrap();
        let alignment = Alignment::new(position, &tokenizer);
        let (ids, word_ids) = (&encoded.input_ids, &encoded.word_ids);
        let tokens: Vec<String> = ids
            .iter()
            .map(|id| tokenizer.id_to_token(*id).unwrap())
            .collect();
        alignment
            .predictions(
                ids,
                word_ids,
                words.len(),
                &tokens.iter().collect::<Vec<_>>(),
            )
            .into_iter()
            .map(|token| token.unwrap().clone())
            .collect::<Vec<_>>()
    };
    let expected = expected();
    let golden = |name: &str| expected.tokenizers.iter().find(|g| g.name == name).unwrap();
    let (first, visible) = (LabelPosition::First, LabelPosition::FirstVisible);
    let pieces = golden("prepend");
    assert_eq!(read(pieces, first), ["▁the", "▁", "▁", "▁b"]);
    // Of a word that is only spaces, the first.
    assert_eq!(read(pieces, visible), ["▁the", "5", "▁", "▁b"]);
    let bytes = golden("bytes");
    assert_eq!(read(bytes, first)[..2], ["t", "Ġ"]);
    assert_eq!(read(bytes, visible)[..2], ["t", "5"]);
}

#[test]
fn a_class_decides_over_the_file_in_folders_of_its_family_and_in_copies() {
    let expected = expected();
    let golden = |name: &str| expected.tokenizers.iter().find(|g| g.name == name).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let from = fixtures().join("tokenizers/llama2");
    let json_of =
        |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    fs::copy(
        from.join("tokenizer.json"),
        dir.path().join("tokenizer.json"),
    )
    .unwrap();
    let mut config = json_of(&from.join("tokenizer_config.json"));
    config["tokenizer_class"] = "LlamaTokenizerFast".into();
    fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    // `legacy` is off where nothing is said.
    let families = [
        (None, "class-first"),
        (Some("llama"), "class-first"),
        (Some("mistral"), "prepend"),
    ];
    let reading = Reading {
        words: WordsAs::Split,
        special_tokens: SpecialTokensAs::Parse,
    };
    for (family, name) in families {
        if let Some(family) = family {
            let model = json!({ "model_type": family }).to_string();
            fs::write(dir.path().join("config.json"), model).unwrap();
        }
        let tokenizer = TextTokenizer::for_reading(dir.path(), reading).unwrap();
        let what = format!("{family:?}");
        check(
            &tokenizer,
            &expected.spelled,
            &golden(name).split.parsed,
            &what,
        );
        // A copy lacks the model's configuration.
        let copy = tempfile::tempdir().unwrap();
        tokenizer.copy_to(copy.path()).unwrap();
        let tokenizer = TextTokenizer::for_reading(copy.path(), reading).unwrap();
        check(
            &tokenizer,
            &expected.spelled,
            &golden(name).split.parsed,
            &what,
        );
    }
    assert_ne!(
        golden("class-first").split.parsed,
        golden("prepend").split.parsed
    );
}
