//! Scores and encodings against what seqeval, conlleval, scikit-learn, scipy and transformers give.
//! The expected values are made by the `make.py` beside each; nothing here runs Python.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ls_data::{
    ClassScores, ClassTally, ClassificationScores, Interval, MultiLabelScores, RegressionScores,
    Resampling, SpanMode, SpanScores, SpanTally, TagScheme, TextTokenizer, best_f1_threshold,
    bootstrap, compare, conlleval_report, decode_spans, decode_spans_strict, fit_temperature,
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
struct WordLabels {
    gold: Vec<String>,
    pred: Vec<String>,
    labels: Vec<String>,
    accuracy: f64,
    mcc: f64,
    per_class: Columns,
    confusion: Vec<Vec<usize>>,
    #[serde(flatten)]
    averages: BTreeMap<String, f64>,
}

#[test]
fn scores_of_labelled_words_equal_scikit_learn() {
    let cases: Vec<WordLabels> = expected("word_labels");
    for case in &cases {
        let words = |side: &[String]| -> Vec<Vec<String>> {
            let words = |line: &String| line.split(' ').map(str::to_string).collect();
            side.iter().map(words).collect()
        };
        let (gold, pred) = (words(&case.gold), words(&case.pred));
        // Two systems, so that one of them has labels that only the other has.
        let [tally, right] = ClassTally::of_words(&gold, [&pred, &gold], &case.labels).unwrap();
        assert_eq!(tally.tally().len(), gold.len(), "a sentence is an example");
        assert_eq!(right.scores().accuracy, 1.0);
        let scores = tally.scores();
        assert_close(scores.accuracy, case.accuracy, "accuracy");
        assert_close(scores.mcc, case.mcc, "mcc");
        assert_rows(&scores.per_class, &case.per_class);
        assert_eq!(scores.confusion, case.confusion);
        assert_eq!(case.averages.len(), 9);
        for (key, value) in scores.metrics() {
            if let Some(expected) = case.averages.get(key) {
                assert_close(value, *expected, key);
            }
        }
        // Without names the classes are found, `O` first.
        let [found] = ClassTally::of_words(&gold, [&pred], &[]).unwrap();
        let found = found.scores();
        assert_close(found.f1_macro, scores.f1_macro, "f1");
        assert_eq!(found.per_class.len(), case.labels.len());
        assert_eq!(
            case.labels.contains(&"O".into()),
            found.per_class[0].0 == "O"
        );
    }
    assert_eq!(cases.len(), 40);
    let words = |text: &'static str| vec![text.split(' ').collect::<Vec<_>>()];
    let unequal = ClassTally::of_words(&words("A B"), [&words("A")], &[]).unwrap_err();
    assert_eq!(
        unequal.to_string(),
        "1 predictions for 2 gold tags in sentence 0"
    );
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
struct RandomTags {
    groups: Vec<RandomGroup>,
    by_hand: Vec<ByHand>,
}

#[derive(Deserialize)]
struct RandomGroup {
    mode: String,
    prefixes: String,
    seed: u64,
    whole: String,
    each: [String; 3],
    support: Vec<usize>,
    conlleval: Option<String>,
}

#[derive(Deserialize)]
struct ByHand {
    gold: Vec<Vec<String>>,
    pred: Vec<Vec<String>>,
    conlleval: String,
}

/// The generator of `random_tags/make.py`.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005);
        self.0 = self.0.wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }

    fn tag(&mut self, prefixes: &str, before: Option<&String>) -> String {
        let types = ["PER", "PER", "LOC", "LOC", "work-of-art", "", "Ä", "E2"];
        let before = before.map_or("O", String::as_str);
        let prefix = self.below(prefixes.len() + 1);
        let kind = if before == "O" || self.below(10) >= 7 {
            types[self.below(types.len())]
        } else {
            before.get(2..).unwrap_or_default()
        };
        match prefixes.get(prefix..prefix + 1) {
            None => "O".into(),
            Some(prefix) if kind.is_empty() => prefix.into(),
            Some(prefix) => format!("{prefix}-{kind}"),
        }
    }

    /// Fifty sentences, gold and predicted.
    fn corpus(&mut self, prefixes: &str) -> [Vec<Vec<String>>; 2] {
        let mut corpus = [Vec::new(), Vec::new()];
        for _ in 0..50 {
            let [mut tags, mut found] = [Vec::new(), Vec::new()];
            for _ in 0..1 + self.below(9) {
                tags.push(self.tag(prefixes, tags.last()));
            }
            for tag in &tags {
                let kept = self.below(4) > 0;
                found.push(if kept {
                    tag.clone()
                } else {
                    self.tag(prefixes, found.last())
                });
            }
            corpus[0].push(tags);
            corpus[1].push(found);
        }
        corpus
    }
}

fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace()
        .map(|n| n.parse().unwrap())
        .collect()
}

#[test]
fn scores_of_random_tags_equal_seqeval_and_conlleval_to_the_last_bit() {
    let RandomTags { groups, .. } = expected("random_tags");
    let (mut lenient, mut strict, mut with_conlleval) = (0, 0, 0);
    for group in groups {
        let [gold, pred] = Random(group.seed).corpus(&group.prefixes);
        let mode = match group.mode.as_str() {
            "default" => SpanMode::Default,
            scheme => SpanMode::Strict(scheme.parse().unwrap()),
        };
        let scores = SpanScores::compute(&gold, &pred, mode).unwrap();
        let whole: Vec<f64> = scores.metrics().iter().map(|(_, value)| *value).collect();
        let name = format!("{} {}", group.mode, group.seed);
        assert_eq!(whole, numbers(&group.whole), "{name}");
        let column = |value: fn(&ClassScores) -> f64| -> Vec<f64> {
            scores.per_type.iter().map(|(_, s)| value(s)).collect()
        };
        let each = [
            column(|s| s.precision),
            column(|s| s.recall),
            column(|s| s.f1),
        ];
        assert_eq!(each, group.each.map(|column| numbers(&column)), "{name}");
        let support: Vec<usize> = scores.per_type.iter().map(|(_, s)| s.support).collect();
        assert_eq!(support, group.support, "{name}");
        match mode {
            SpanMode::Default => lenient += gold.len(),
            SpanMode::Strict(_) => strict += gold.len(),
        }
        if let Some(text) = group.conlleval {
            assert_eq!(conlleval_report(&scores), text, "{name}");
            with_conlleval += gold.len();
        }
    }
    assert_eq!((lenient, strict, with_conlleval), (12_000, 12_000, 10_000));
}

#[test]
fn conlleval_text_of_odd_corpora_is_equal_byte_by_byte() {
    let RandomTags { by_hand, .. } = expected("random_tags");
    assert!(by_hand.len() >= 10);
    for case in by_hand {
        let scores = SpanScores::compute(&case.gold, &case.pred, SpanMode::Default).unwrap();
        assert_eq!(conlleval_report(&scores), case.conlleval);
    }
    let none: [Vec<String>; 0] = [];
    let scores = SpanScores::compute(&none, &none, SpanMode::Default).unwrap();
    assert_eq!(
        conlleval_report(&scores),
        "processed 0 tokens with 0 phrases; found: 0 phrases; correct: 0.\n"
    );
}

#[derive(Deserialize)]
struct ClassificationCase {
    classes: usize,
    gold: Vec<usize>,
    pred: Vec<usize>,
    probabilities: Option<Vec<Vec<f64>>>,
    per_class: Columns,
    confusion: Vec<Vec<usize>>,
    /// The scores of the whole, by their keys.
    #[serde(flatten)]
    whole: serde_json::Map<String, serde_json::Value>,
}

#[test]
fn classification_scores_equal_scikit_learn() {
    let cases: Vec<ClassificationCase> = expected("classification");
    let mut probable = 0;
    assert!(cases.len() >= 100);
    for case in cases {
        let names: Vec<String> = (0..case.classes).map(|c| c.to_string()).collect();
        let (gold, pred) = (&case.gold, &case.pred);
        let mut scores = ClassificationScores::compute(gold, pred, &names).unwrap();
        if let Some(rows) = case.probabilities {
            let with = ClassificationScores::with_probabilities(gold, pred, &rows, &names);
            let with = with.unwrap();
            for (key, value) in [("log_loss", with.log_loss), ("ece", with.ece)] {
                assert_close(value.unwrap(), case.whole[key].as_f64().unwrap(), key);
            }
            probable += 1;
            scores = ClassificationScores {
                log_loss: None,
                ece: None,
                ..with
            };
        }
        let keys = case
            .whole
            .keys()
            .filter(|key| !["log_loss", "ece"].contains(&key.as_str()));
        assert_eq!(keys.count(), scores.metrics().len());
        for (key, value) in scores.metrics() {
            assert_close(value, case.whole[key].as_f64().unwrap(), key);
        }
        assert_rows(&scores.per_class, &case.per_class);
        assert_eq!(scores.confusion, case.confusion);
    }
    assert!(probable >= 20, "{probable} cases with probabilities");
}

#[derive(Deserialize)]
struct ResamplingCases {
    quantiles: Vec<QuantileCase>,
    intervals: IntervalCase,
    p_values: Vec<PValueCase>,
    sentences: SentenceCase,
}

#[derive(Deserialize)]
struct QuantileCase {
    values: Vec<f64>,
    level: f64,
    ends: [f64; 2],
}

#[derive(Deserialize)]
struct Systems<T> {
    gold: Vec<T>,
    first: Vec<T>,
    second: Vec<T>,
}

#[derive(Deserialize)]
struct Ends {
    interval: [f64; 2],
    difference: [f64; 2],
}

#[derive(Deserialize)]
struct IntervalCase {
    #[serde(flatten)]
    systems: Systems<usize>,
    accuracy: Ends,
    f1_macro: Ends,
}

#[derive(Deserialize)]
struct PValueCase {
    #[serde(flatten)]
    systems: Systems<usize>,
    accuracy: f64,
    f1_macro: f64,
}

#[derive(Deserialize)]
struct SentenceCase {
    #[serde(flatten)]
    systems: Systems<Vec<String>>,
    #[serde(flatten)]
    ends: Ends,
    p_value: f64,
}

const MANY: Resampling = Resampling {
    samples: 20_000,
    seed: 3,
    level: 0.95,
};

fn near(found: f64, expected: f64, tolerance: f64) {
    let distance = (found - expected).abs();
    assert!(distance <= tolerance, "{found}, expected {expected}");
}

fn class_tallies(systems: &Systems<usize>) -> [ClassTally; 2] {
    let names = ["a", "b", "c"].map(String::from);
    let answers = [&systems.first[..], &systems.second];
    ClassTally::of_systems(&systems.gold, answers, &names).unwrap()
}

fn class_values(tally: &ClassTally) -> impl Fn(&[usize]) -> Vec<f64> {
    |totals| {
        let scores = tally.scores_of(totals);
        vec![scores.accuracy, scores.f1_macro]
    }
}

#[test]
fn quantiles_equal_numpy() {
    let cases: ResamplingCases = expected("resampling");
    for QuantileCase {
        values,
        level,
        ends,
    } in cases.quantiles
    {
        let found = Interval::of(values, level);
        near(found.low, ends[0], 1e-12);
        near(found.high, ends[1], 1e-12);
    }
}

#[test]
fn bootstrap_intervals_are_those_of_scipy_but_for_chance() {
    let case = expected::<ResamplingCases>("resampling").intervals;
    let [first, second] = class_tallies(&case.systems);
    let single = bootstrap(first.tally(), &MANY, class_values(&first)).unwrap();
    let paired = compare(first.tally(), second.tally(), &MANY, class_values(&first)).unwrap();
    for (at, expected) in [case.accuracy, case.f1_macro].iter().enumerate() {
        near(single[at].low, expected.interval[0], 0.01);
        near(single[at].high, expected.interval[1], 0.01);
        near(paired[at].low, expected.difference[0], 0.01);
        near(paired[at].high, expected.difference[1], 0.01);
    }
}

#[test]
fn p_values_are_the_exact_ones_of_scipy_but_for_chance() {
    let cases: ResamplingCases = expected("resampling");
    for case in cases.p_values {
        let [first, second] = class_tallies(&case.systems);
        let found = compare(first.tally(), second.tally(), &MANY, class_values(&first)).unwrap();
        near(found[0].p_value, case.accuracy, 0.01);
        near(found[1].p_value, case.f1_macro, 0.01);
        let difference = first.scores().accuracy - second.scores().accuracy;
        near(found[0].difference, difference, 0.0);
    }
}

#[test]
fn resampled_span_scores_are_those_of_every_resample_written_out() {
    let case = expected::<ResamplingCases>("resampling").sentences;
    let Systems {
        gold,
        first,
        second,
    } = &case.systems;
    let systems = [first.as_slice(), second.as_slice()];
    let [first, second] = SpanTally::of_systems(gold, systems, SpanMode::Default).unwrap();
    let f1 = |totals: &[usize]| vec![first.scores_of(totals).span_f1_micro];
    let resampling = Resampling { level: 0.8, ..MANY };
    let single = bootstrap(first.tally(), &resampling, f1).unwrap()[0];
    near(single.low, case.ends.interval[0], 1e-12);
    near(single.high, case.ends.interval[1], 1e-12);
    let paired = compare(first.tally(), second.tally(), &resampling, f1).unwrap()[0];
    near(paired.low, case.ends.difference[0], 1e-12);
    near(paired.high, case.ends.difference[1], 1e-12);
    near(paired.p_value, case.p_value, 0.01);
    assert_eq!(
        second.scores().span_f1_micro,
        second.scores_of(&second.tally().totals()).span_f1_micro
    );
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
            assert_eq!(encoded.word_ids, case.word_ids, "{name} {:?}", case.words);
            assert_eq!((encoded.cut_tokens, encoded.cut_words), (0, 0));
            let empty = case.words.iter().filter(|w| w.is_empty()).count();
            assert_eq!(encoded.empty_words, empty, "{name} {:?}", case.words);
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
    }
}

#[test]
fn special_tokens_are_those_of_the_post_processor_whatever_the_config_says() {
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

#[derive(Deserialize)]
struct MultiLabel {
    gold: Vec<Vec<u8>>,
    scores: Vec<Vec<f64>>,
    subset_accuracy: f64,
    per_class: Columns,
    average_precision: Vec<f64>,
    best_f1: Vec<Option<f64>>,
    #[serde(flatten)]
    averages: BTreeMap<String, f64>,
}

/// The labels of a row that are not 0.
fn held(row: &[u8]) -> Vec<usize> {
    (0..row.len()).filter(|label| row[*label] > 0).collect()
}

#[test]
fn scores_of_any_number_of_labels_equal_scikit_learn() {
    let cases: Vec<MultiLabel> = expected("multi_label");
    let mut tuned = 0;
    for case in &cases {
        let count = case.average_precision.len();
        let names: Vec<String> = (0..count).map(|label| format!("l{label}")).collect();
        let gold: Vec<Vec<usize>> = case.gold.iter().map(|row| held(row)).collect();
        let above = |row: &Vec<f64>| (0..count).filter(|label| row[*label] >= 0.5).collect();
        let predicted: Vec<Vec<usize>> = case.scores.iter().map(above).collect();
        let scores = MultiLabelScores::compute(&gold, &predicted, &case.scores, &names).unwrap();
        assert_close(
            scores.subset_accuracy,
            case.subset_accuracy,
            "subset accuracy",
        );
        assert_rows(&scores.per_class, &case.per_class);
        assert_eq!(case.averages.len(), 11);
        for (key, value) in scores.metrics() {
            if let Some(expected) = case.averages.get(key) {
                assert_close(value, *expected, key);
            }
        }
        for label in 0..count {
            let (name, found) = &scores.average_precision[label];
            assert_close(*found, case.average_precision[label], name);
            // A threshold reaches what the best of sklearn's curve does.
            let of_label: Vec<f64> = case.scores.iter().map(|row| row[label]).collect();
            let holds: Vec<bool> = case.gold.iter().map(|row| row[label] > 0).collect();
            let threshold = best_f1_threshold(&of_label, &holds);
            assert!((0.0..=1.0).contains(&threshold));
            let Some(best) = case.best_f1[label] else {
                assert_eq!(threshold, 0.5);
                continue;
            };
            let answers = of_label.iter().map(|score| *score >= threshold);
            let right = answers.clone().zip(&holds).filter(|(a, h)| *a && **h);
            let (right, answered) = (right.count() as f64, answers.filter(|a| *a).count());
            let all = holds.iter().filter(|holds| **holds).count();
            assert_close(2.0 * right / (answered + all) as f64, best, "best F1");
            tuned += usize::from(threshold != 0.5);
        }
    }
    assert_eq!(cases.len(), 120);
    assert!(tuned > 100, "{tuned}");
}

#[derive(Deserialize)]
struct Regression {
    gold: Vec<f64>,
    pred: Vec<f64>,
    pearson: f64,
    spearman: f64,
    mae: f64,
    mse: f64,
}

#[test]
fn scores_of_numbers_equal_scipy_and_scikit_learn() {
    let cases: Vec<Regression> = expected("regression");
    for case in &cases {
        let scores = RegressionScores::compute(&case.gold, &case.pred).unwrap();
        // Numbers far from 0 lose digits where their mean is taken off, in scipy too.
        for (found, expected, what) in [
            (scores.pearson, case.pearson, "pearson"),
            (scores.spearman, case.spearman, "spearman"),
        ] {
            assert!(
                (found - expected).abs() < 1e-9,
                "{what}: {found} {expected}"
            );
        }
        for (found, expected, what) in
            [(scores.mae, case.mae, "mae"), (scores.mse, case.mse, "mse")]
        {
            assert_close(found / expected.max(1e-300), 1.0, what);
        }
    }
    assert_eq!(cases.len(), 100);
}

#[derive(Deserialize)]
struct Temperature {
    logits: Vec<Vec<f32>>,
    gold: Vec<usize>,
    temperature: f64,
}

#[test]
fn temperatures_are_those_that_lbfgs_finds() {
    let cases: Vec<Temperature> = expected("temperature");
    for case in &cases {
        let rows = case.logits.iter().map(Vec::as_slice);
        let found = fit_temperature(rows.zip(case.gold.iter().copied())).unwrap();
        let difference = (found / case.temperature - 1.0).abs();
        assert!(difference < 1e-6, "{found}, expected {}", case.temperature);
    }
    assert_eq!(cases.len(), 40);
}
