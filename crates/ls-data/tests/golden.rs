//! Scores and encodings against what seqeval, scikit-learn and transformers give. The expected
//! values are made by the `make.py` beside each; nothing here runs Python.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use ls_data::{
    ClassScores, ClassificationScores, SpanMode, SpanScores, TagScheme, TextTokenizer,
    decode_spans, decode_spans_strict,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(path)
}

fn expected<T: DeserializeOwned>(case: &str) -> T {
    let text = fs::read_to_string(fixture(case).join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn assert_close(found: f64, expected: f64, what: &str) {
    assert!(
        (found - expected).abs() < 1e-12,
        "{what}: {found}, expected {expected}"
    );
}

/// Precision, recall, F1 and support, each over the classes.
type Columns = (Vec<f64>, Vec<f64>, Vec<f64>, Vec<usize>);

fn assert_rows(found: &[(String, ClassScores)], expected: &Columns) {
    assert_eq!(found.len(), expected.0.len());
    for (i, (name, scores)) in found.iter().enumerate() {
        assert_close(scores.precision, expected.0[i], name);
        assert_close(scores.recall, expected.1[i], name);
        assert_close(scores.f1, expected.2[i], name);
        assert_eq!(scores.support, expected.3[i], "{name}");
    }
}

#[derive(Deserialize)]
struct SpanGroup {
    mode: String,
    gold: Vec<String>,
    pred: Vec<String>,
    spans: Vec<String>,
    micro: [f64; 3],
    macro_f1: f64,
    per_type: Columns,
    token_accuracy: f64,
}

/// "BPO I_" is B-PER, O, I.
fn spelled_out(tags: &str) -> Vec<String> {
    let tag = |pair: &[u8]| {
        let entity_type = match pair[1] {
            b'P' => "-PER",
            b'L' => "-LOC",
            b'W' => "-work-of-art",
            _ => "",
        };
        format!("{}{entity_type}", pair[0] as char)
    };
    tags.as_bytes().chunks(2).map(tag).collect()
}

#[test]
fn spans_and_span_scores_equal_seqeval() {
    let groups: Vec<SpanGroup> = expected("spans");
    let mut sequences = 0;
    for group in groups {
        let mode = match group.mode.as_str() {
            "default" => SpanMode::Default,
            scheme => SpanMode::Strict(serde_json::from_value(scheme.into()).unwrap()),
        };
        let all = |side: &[String]| side.iter().map(|t| spelled_out(t)).collect::<Vec<_>>();
        let (gold, pred) = (all(&group.gold), all(&group.pred));
        for (tags, expected) in gold.iter().zip(&group.spans) {
            let spans = match mode {
                SpanMode::Default => decode_spans(tags),
                SpanMode::Strict(scheme) => decode_spans_strict(tags, scheme).unwrap(),
            };
            let written = |s: &ls_data::Span| {
                format!(
                    "{}{}-{}",
                    s.entity_type.to_uppercase().chars().next().unwrap(),
                    s.start,
                    s.end
                )
            };
            let found: Vec<String> = spans.iter().map(written).collect();
            assert_eq!(found.join(" "), *expected, "{} {tags:?}", group.mode);
            sequences += 1;
        }
        let scores = SpanScores::compute(&gold, &pred, mode).unwrap();
        assert_close(scores.span_precision_micro, group.micro[0], "precision");
        assert_close(scores.span_recall_micro, group.micro[1], "recall");
        assert_close(scores.span_f1_micro, group.micro[2], "f1");
        assert_close(scores.span_f1_macro, group.macro_f1, "macro f1");
        assert_close(
            scores.token_accuracy,
            group.token_accuracy,
            "token accuracy",
        );
        assert_rows(&scores.per_type, &group.per_type);
    }
    assert!(sequences >= 3000, "{sequences} sequences");
    assert_eq!(TagScheme::default(), TagScheme::Iob2);
}

#[derive(Deserialize)]
struct ClassificationCase {
    classes: usize,
    gold: Vec<usize>,
    pred: Vec<usize>,
    accuracy: f64,
    f1_macro: f64,
    f1_micro: f64,
    f1_weighted: f64,
    mcc: f64,
    per_class: Columns,
    confusion: Vec<Vec<usize>>,
}

#[test]
fn classification_scores_equal_scikit_learn() {
    let cases: Vec<ClassificationCase> = expected("classification");
    assert!(cases.len() >= 100);
    for case in cases {
        let names: Vec<String> = (0..case.classes).map(|c| c.to_string()).collect();
        let scores = ClassificationScores::compute(&case.gold, &case.pred, &names).unwrap();
        assert_close(scores.accuracy, case.accuracy, "accuracy");
        assert_close(scores.f1_macro, case.f1_macro, "f1_macro");
        assert_close(scores.f1_micro, case.f1_micro, "f1_micro");
        assert_close(scores.f1_weighted, case.f1_weighted, "f1_weighted");
        assert_close(scores.mcc, case.mcc, "mcc");
        assert_rows(&scores.per_class, &case.per_class);
        assert_eq!(scores.confusion, case.confusion);
    }
}

#[derive(Deserialize)]
struct Encodings {
    llama2: Cases,
    llama3: Cases,
}

#[derive(Deserialize)]
struct Cases {
    words: Vec<WordsCase>,
    texts: Vec<TextCase>,
    flags: Vec<FlagsCase>,
}

#[derive(Deserialize)]
struct WordsCase {
    words: Vec<String>,
    ids: Vec<u32>,
    word_ids: Vec<Option<usize>>,
}

#[derive(Deserialize)]
struct TextCase {
    text: String,
    pair: Option<String>,
    max_length: usize,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct FlagsCase {
    flags: serde_json::Map<String, serde_json::Value>,
    single: Vec<u32>,
    pair: Vec<u32>,
}

fn both() -> [(&'static str, TextTokenizer, Cases); 2] {
    let Encodings { llama2, llama3 } = expected("tokenizers");
    [("llama2", llama2), ("llama3", llama3)].map(|(name, cases)| {
        let dir = fixture("tokenizers").join(name);
        (name, TextTokenizer::from_dir(&dir).unwrap(), cases)
    })
}

#[test]
fn word_alignment_equals_transformers() {
    for (name, tokenizer, cases) in both() {
        assert!(cases.words.len() >= 14);
        for case in &cases.words {
            let encoded = tokenizer.encode_words(&case.words, 1000).unwrap();
            assert_eq!(encoded.input_ids, case.ids, "{name} {:?}", case.words);
            // transformers counts a lone mark of a space as the first sub-word; here it is none.
            let only_space = |i: usize| {
                let token = tokenizer.id_to_token(case.ids[i]);
                let more_follow = case.word_ids.get(i + 1) == Some(&case.word_ids[i]);
                matches!(token.as_deref(), Some("▁" | "Ġ")) && more_follow
            };
            let word_ids: Vec<Option<usize>> = (0..case.ids.len())
                .map(|i| case.word_ids[i].filter(|_| !only_space(i)))
                .collect();
            assert_eq!(encoded.word_ids, word_ids, "{name} {:?}", case.words);
            assert_eq!((encoded.cut_tokens, encoded.cut_words), (0, 0));
            let empty = case.words.iter().filter(|w| w.is_empty()).count();
            assert_eq!(encoded.empty_words, empty, "{name} {:?}", case.words);
        }
        let lists: Vec<&[String]> = cases.words.iter().map(|c| c.words.as_slice()).collect();
        let batch = tokenizer.encode_words_batch(&lists, 9).unwrap();
        for (words, batched) in lists.iter().zip(batch) {
            assert_eq!(tokenizer.encode_words(words, 9).unwrap(), batched);
        }
    }
}

#[test]
fn texts_and_pairs_are_encoded_and_cut_as_transformers_does() {
    for (name, tokenizer, cases) in both() {
        assert!(cases.texts.len() >= 40);
        for case in &cases.texts {
            let (text, pair) = (&case.text, case.pair.as_deref());
            let encoded = tokenizer
                .encode_sequence(text, pair, case.max_length)
                .unwrap();
            assert_eq!(
                encoded.input_ids, case.ids,
                "{name} {text:?} {pair:?} {}",
                case.max_length
            );
            let whole = tokenizer.encode_sequence(text, pair, 1000).unwrap();
            assert_eq!(
                whole.input_ids.len() - encoded.input_ids.len(),
                encoded.cut_tokens
            );
            assert_eq!(whole.text_tokens, encoded.text_tokens);
        }
        let inputs: Vec<_> = cases
            .texts
            .iter()
            .map(|c| (c.text.as_str(), c.pair.as_deref()))
            .collect();
        let batch = tokenizer.encode_sequences(&inputs, 9).unwrap();
        for ((text, pair), batched) in inputs.into_iter().zip(batch) {
            assert_eq!(tokenizer.encode_sequence(text, pair, 9).unwrap(), batched);
        }
    }
}

#[test]
fn special_tokens_follow_the_config_as_in_transformers() {
    for (name, _, cases) in both() {
        for case in &cases.flags {
            let source = fixture("tokenizers").join(name);
            let dir = tempfile::tempdir().unwrap();
            fs::copy(
                source.join("tokenizer.json"),
                dir.path().join("tokenizer.json"),
            )
            .unwrap();
            let config = fs::read(source.join("tokenizer_config.json")).unwrap();
            let mut config: serde_json::Map<_, _> = serde_json::from_slice(&config).unwrap();
            config.extend(case.flags.clone());
            let config = serde_json::to_vec(&config).unwrap();
            fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();

            let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
            let ids = |pair| {
                tokenizer
                    .encode_sequence("a dull plot", pair, 99)
                    .unwrap()
                    .input_ids
            };
            assert_eq!(ids(None), case.single, "{name} {:?}", case.flags);
            assert_eq!(ids(Some("fine")), case.pair, "{name} {:?}", case.flags);
        }
    }
}
