//! Texts with spans: every form that people have them in, each fault with its message, and what
//! must hold of any text.

use std::path::Path;

use ls_data::{BadSpans, DataError, FileFormat, Offsets, ReadSpec, TokenExample, split_words};
use proptest::prelude::*;
use serde_json::{Value, json};

fn spec() -> ReadSpec {
    ReadSpec::new(FileFormat::Jsonl)
}

fn read(spec: &ReadSpec, data: impl ToString) -> Result<Vec<TokenExample>, DataError> {
    let reader = std::io::Cursor::new(data.to_string().into_bytes());
    spec.read_tokens_from(reader, Path::new("data"))?.collect()
}

fn tags(spec: &ReadSpec, object: &Value) -> String {
    let example = read(spec, object);
    let example = example.unwrap_or_else(|error| panic!("{error}: {object}"));
    example[0].tags.as_ref().unwrap().join(" ")
}

fn message(spec: &ReadSpec, object: &Value) -> String {
    read(spec, object).unwrap_err().to_string()
}

const TEXT: &str = "Zoë 😀 flew to New York.";

#[test]
fn every_form_is_the_same_example() {
    let parts = |start: &str, end: &str, kind: &str| {
        json!([
            {start: 0, end: 3, kind: "PER"},
            {start: 14, end: 22, kind: "LOC", "id": 7},
        ])
    };
    let regions = json!([
        {"type": "labels", "value": {"start": 0, "end": 3, "text": "Zoë", "labels": ["PER"]}},
        {"type": "choices", "value": {"choices": ["good"]}},
        {"type": "labels", "value": {"start": 14, "end": 22, "text": "New York", "labels": ["LOC"]}},
    ]);
    let studio =
        |annotations: Value| json!({"id": 1, "data": {"text": TEXT}, "annotations": annotations});
    let words: Vec<Value> = split_words(TEXT)
        .into_iter()
        .map(|word| json!({"text": word.token, "start": word.start, "end": word.end}))
        .collect();
    let forms = [
        json!({"text": TEXT, "entities": parts("start", "end", "label")}),
        json!({"text": TEXT, "entities": parts("start", "end", "type")}),
        json!({"text": TEXT, "entities": parts("start_offset", "end_offset", "label"), "relations": []}),
        json!({"text": TEXT, "entities": [[0, 3, "PER"], [14, 22, "LOC"]]}),
        json!({"text": TEXT, "spans": parts("start", "end", "label"), "tokens": words, "answer": "accept"}),
        json!({"text": TEXT, "label": [[14, 22, "LOC"], [0, 3, "PER"]]}),
        json!({"text": TEXT, "labels": [[0, 3, "PER"], [14, 22, "LOC"], [0, 3, "PER"]]}),
        json!({"text": TEXT, "label": [{"start": 0, "end": 3, "labels": ["PER"]}, {"start": 14, "end": 22, "labels": ["LOC"]}]}),
        json!([TEXT, {"entities": [[0, 3, "PER"], [14, 22, "LOC"]]}]),
        json!({"text": TEXT, "annotations": parts("start_offset", "end_offset", "label")}),
        studio(json!([{"result": regions, "was_cancelled": false}])),
        studio(json!([{"result": [], "was_cancelled": true}, {"result": regions}])),
        studio(json!([{"result": []}, {"result": regions, "ground_truth": true}])),
    ];
    for object in &forms {
        let found = read(&spec(), object).unwrap_or_else(|error| panic!("{error}: {object}"));
        let example = &found[0];
        assert_eq!(
            example.tokens,
            ["Zoë", "😀", "flew", "to", "New", "York", "."]
        );
        let tags = example.tags.as_ref().unwrap().join(" ");
        assert_eq!(tags, "B-PER O O O B-LOC I-LOC O", "{object}");
        assert_eq!(example.extra.as_ref().unwrap()["text"], TEXT);
    }
    // As files hold them: lists over several lines.
    let all = serde_json::to_string_pretty(&forms[..4]).unwrap();
    assert_eq!(read(&spec(), &all).unwrap().len(), 4);
    let pairs = json!([forms[8], forms[8]]);
    assert!(forms[8].is_array());
    assert_eq!(read(&spec(), &pairs).unwrap().len(), 2);
    let lines = format!("{}\n{}\n", forms[8], forms[8]);
    assert_eq!(read(&spec(), lines).unwrap().len(), 2);
    assert_eq!(
        message(&spec(), &json!([["a", 3]])),
        "data:1:7: malformed JSON: invalid type: integer `3`, expected a map"
    );
    // Without tags the words alone.
    let mut untagged = spec();
    untagged.tokens.tagged = false;
    let example = read(&untagged, json!({"text": TEXT, "id": 3}))
        .unwrap()
        .remove(0);
    assert_eq!((example.tokens.len(), example.tags), (7, None));
    assert_eq!(example.extra.unwrap()["id"], 3);
    // A text may have no span at all.
    let none = json!({"text": TEXT, "entities": []});
    assert_eq!(tags(&spec(), &none), "O O O O O O O");
    let mut keys = spec();
    keys.tokens.text_key = "body".into();
    keys.tokens.tags_key = Some("marks".into());
    let object = json!({"body": "Ada ran", "marks": [[0, 3, "PER"]], "entities": [[4, 7, "X"]]});
    assert_eq!(tags(&keys, &object), "B-PER O");
}

#[test]
fn what_predict_writes_is_read_and_a_correction_is_not_lost() {
    let predicted = |entities: Value| {
        json!({
            "text": "Ada met Bo", "tokens": ["Ada", "met", "Bo"], "tags": ["B-PER", "O", "O"],
            "entities": entities,
        })
    };
    let ada = json!({"type": "PER", "start": 0, "end": 3, "text": "Ada", "score": 0.5, "first_token": 0, "last_token": 0});
    let bo = json!({"type": "PER", "start": 8, "end": 10, "text": "Bo"});
    assert_eq!(tags(&spec(), &predicted(json!([ada]))), "B-PER O O");
    let corrected = predicted(json!([ada, bo]));
    for keep_extra in [true, false] {
        let mut spec = spec();
        spec.tokens.keep_extra = keep_extra;
        assert_eq!(
            message(&spec, &corrected),
            "data:1: the tags and the entities of the example differ (PER 8-10 only by \
             `entities`); say which of them count: data.tags = \"tags\" or \"entities\""
        );
        let removed = message(&spec, &predicted(json!([])));
        assert!(removed.contains("(PER 0-3 only by the tags)"), "{removed}");
        spec.tokens.tags_key = Some("entities".into());
        assert_eq!(tags(&spec, &corrected), "B-PER O B-PER");
        assert_eq!(tags(&spec, &predicted(json!([]))), "O O O");
        spec.tokens.tags_key = Some("tags".into());
        assert_eq!(tags(&spec, &corrected), "B-PER O O");
    }
    // BILOU's tags, tags that are no spans, and something else of that name.
    let mut bilou = predicted(json!([ada]));
    bilou["tags"] = json!(["U-PER", "O", "O"]);
    assert_eq!(tags(&spec(), &bilou), "U-PER O O");
    let mut parts = predicted(json!([]));
    parts["tags"] = json!(["PROPN", "VERB", "PROPN"]);
    assert_eq!(tags(&spec(), &parts), "PROPN VERB PROPN");
    assert_eq!(tags(&spec(), &predicted(json!(["PER"]))), "B-PER O O");
}

#[test]
fn spans_that_are_no_whole_words_are_refused_or_widened() {
    let refused = |entities: Value, expected: &str| {
        let object = json!({"text": "New York-based Zoë ran", "entities": entities});
        let found = message(&spec(), &object);
        assert_eq!(found, format!("data:1: {expected}; {WIDEN}"));
        let mut widen = spec();
        widen.tokens.bad_spans = BadSpans::Widen;
        let reader = std::io::Cursor::new(object.to_string().into_bytes());
        let mut rows = widen.read_tokens_from(reader, Path::new("data")).unwrap();
        let repairs = rows.repairs();
        let tags = rows.next().unwrap().unwrap().tags.unwrap().join(" ");
        (tags, repairs.seen())
    };
    let (tags, repairs) = refused(
        json!([[0, 8, "LOC"]]),
        "span 0-8 \"New York\" (LOC) cuts the word \"York-based\"",
    );
    assert_eq!(tags, "B-LOC I-LOC O O");
    assert_eq!(repairs.count, 1);
    assert_eq!(
        repairs.shown,
        ["data:1: span 0-8 \"New York\" (LOC) cuts the word \"York-based\""]
    );
    let (tags, _) = refused(
        json!([[0, 3, "A"], [0, 14, "B"], [15, 18, "PER"]]),
        "span 0-3 \"New\" (A) has words of span 0-14 \"New York-based\" (B)",
    );
    assert_eq!(tags, "B-B I-B B-PER O");
    // Of equal ones the first; and two that share a word only once it is whole.
    let (tags, repairs) = refused(
        json!([[9, 14, "X"], [4, 8, "LOC"], [17, 18, "Y"], [19, 22, "V"]]),
        "span 9-14 \"based\" (X) cuts the word \"York-based\"; span 4-8 \"York\" (LOC) cuts the word \
         \"York-based\"; span 17-18 \"ë\" (Y) cuts the word \"Zoë\"; and 1 more; 'ë' before it is 1 \
         character, 1 of UTF-16 and 2 bytes: data.offsets says what the numbers count (characters, \
         utf16 or bytes)",
    );
    assert_eq!(tags, "O B-X B-Y B-V");
    assert_eq!(repairs.count, 4);
    // White space at the ends of a span cuts nothing.
    let object = json!({"text": "a  New  York  b", "entities": [[2, 13, "LOC"]]});
    assert_eq!(self::tags(&spec(), &object), "O B-LOC I-LOC O");
}

/// What is said where widening helps.
const WIDEN: &str =
    "data.bad_spans = \"widen\" takes whole words, and of overlapping spans the longest";

#[test]
fn widening_is_not_said_to_help_where_it_cannot() {
    let mut widen = spec();
    widen.tokens.bad_spans = BadSpans::Widen;
    let taken_out = "a span without a word must be corrected, or taken out";
    let blank = "span 3-4 \" \" (X) holds no word";
    let cut = "span 0-2 \"An\" (PER) cuts the word \"Ann\"";
    let only = json!({"text": "Ann ran", "entities": [[3, 4, "X"]]});
    let both = json!({"text": "Ann ran", "entities": [[0, 2, "PER"], [3, 4, "X"]]});
    for spec in [&spec(), &widen] {
        assert_eq!(
            message(spec, &only),
            format!("data:1: {blank}; {taken_out}")
        );
    }
    assert_eq!(
        message(&widen, &both),
        format!("data:1: {blank}; {taken_out}")
    );
    assert_eq!(
        message(&spec(), &both),
        format!("data:1: {blank}; {cut}; {WIDEN}; {taken_out}")
    );
}

#[test]
fn a_cut_word_behind_a_long_character_may_be_counted_otherwise() {
    let object = json!({"text": "😀 Ann ran", "entities": [[3, 6, "PER"]]});
    let fits = |unit: &str, key: &str| {
        format!("counted in {unit} each span is whole words: data.offsets = \"{key}\"")
    };
    let cut = "span 3-6 \"nn \" (PER) cuts the word \"Ann\"";
    let utf16 = fits("units of UTF-16", "utf16");
    assert_eq!(
        message(&spec(), &object),
        format!("data:1: {cut}; {utf16}; {WIDEN}")
    );
    let mut of_units = spec();
    of_units.tokens.offsets = Offsets::Utf16;
    assert_eq!(tags(&of_units, &object), "O B-PER O");
    // And the other way round.
    let object = json!({"text": "😀 Ann ran", "entities": [[2, 5, "PER"]]});
    let found = message(&of_units, &object);
    assert!(found.contains(&fits("characters", "characters")), "{found}");
    let object = json!({"text": "Zoë ran", "entities": [[5, 8, "V"]]});
    let found = message(&spec(), &object);
    assert!(
        found.contains("found 5 to 8") && found.contains("data.offsets"),
        "{found}"
    );
    let object = json!({"text": "Zoë ran off", "entities": [[4, 5, "X"], [5, 8, "V"]]});
    let found = message(&spec(), &object);
    assert!(
        found.contains("'ë' before it is 1 character, 1 of UTF-16 and 2 bytes"),
        "{found}"
    );
    // A long character behind the span moves nothing.
    let object = json!({"text": "Ann 😀", "entities": [[0, 2, "PER"]]});
    assert!(!message(&spec(), &object).contains("offsets"));
    // What is widened says so too.
    let mut widen = spec();
    widen.tokens.bad_spans = BadSpans::Widen;
    let object = json!({"text": "😀 Ann ran", "entities": [[3, 6, "PER"]]});
    let reader = std::io::Cursor::new(object.to_string().into_bytes());
    let mut rows = widen.read_tokens_from(reader, Path::new("data")).unwrap();
    let repairs = rows.repairs();
    rows.next().unwrap().unwrap();
    assert_eq!(repairs.seen().shown, [format!("data:1: {cut} ({utf16})")]);
}

#[test]
fn what_an_annotator_turned_down_is_passed_over_and_counted() {
    let read = |spec: &ReadSpec, rows: &[Value]| {
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        let reader = std::io::Cursor::new(lines.join("\n").into_bytes());
        let mut rows = spec.read_tokens_from(reader, Path::new("data")).unwrap();
        let turned_down = rows.turned_down();
        let read: Result<Vec<TokenExample>, DataError> = rows.by_ref().collect();
        let lines = read.map(|rows| rows.iter().map(|row| row.line).collect::<Vec<_>>());
        (
            lines.map_err(|error| error.to_string()),
            turned_down.count(),
        )
    };
    let answered =
        |answer: &str| json!({"text": "Ann ran", "spans": [[0, 3, "PER"]], "answer": answer});
    let prodigy = ["reject", "accept", "ignore", "accept"].map(answered);
    assert_eq!(read(&spec(), &prodigy), (Ok(vec![2, 4]), 2));
    let words = ["accept", "reject", "ignore"]
        .map(|answer| json!({"tokens": ["Ann", "ran"], "tags": ["B-PER", "O"], "answer": answer}));
    let mut lean = spec();
    lean.tokens.keep_extra = false;
    for spec in [&spec(), &lean] {
        assert_eq!(read(spec, &words), (Ok(vec![1]), 2));
    }
    let studio =
        |annotations: Value| json!({"data": {"text": "Ann ran"}, "annotations": annotations});
    let cancelled = json!({"result": [], "was_cancelled": true});
    let done = json!({"result": [{"value": {"start": 0, "end": 3, "labels": ["PER"]}}]});
    let tasks = [
        studio(json!([cancelled])),
        studio(json!([cancelled, done])),
        studio(json!([cancelled, cancelled])),
    ];
    assert_eq!(read(&spec(), &tasks), (Ok(vec![2]), 2));
    // Nobody looked at a task without annotations.
    let (none, count) = read(&spec(), &[studio(json!([]))]);
    assert!(none.unwrap_err().contains("found 0 annotations"));
    assert_eq!(count, 0);
    // Who predicts gets an answer to each.
    let mut untagged = spec();
    untagged.tokens.tagged = false;
    assert_eq!(read(&untagged, &prodigy), (Ok(vec![1, 2, 3, 4]), 0));
    assert_eq!(read(&untagged, &tasks), (Ok(vec![1, 2, 3]), 0));
    // Texts with a label as well, unless the answer is the label.
    let text = |answer: &str| json!({"text": "a", "label": "x", "answer": answer}).to_string();
    let lines = ["accept", "ignore", "reject"].map(text).join("\n");
    let labels = |spec: &ReadSpec| {
        let reader = std::io::Cursor::new(lines.clone().into_bytes());
        let mut rows = spec.read_sequence_from(reader, Path::new("data")).unwrap();
        let turned_down = rows.turned_down();
        let labels: Vec<Option<String>> = rows
            .by_ref()
            .map(|row| row.unwrap().class().map(str::to_string))
            .collect();
        (labels, turned_down.count())
    };
    for keep_extra in [true, false] {
        let mut spec = spec();
        spec.sequence.keep_extra = keep_extra;
        assert_eq!(labels(&spec), (vec![Some("x".into())], 2));
        spec.sequence.label = Some("answer".into());
        assert_eq!(labels(&spec).0.len(), 3);
        spec.sequence.label = None;
        assert_eq!(labels(&spec), (vec![None, None, None], 0));
    }
}

#[test]
fn without_tags_each_object_says_whether_it_is_a_text_or_words() {
    let rows = [
        json!({"tokens": ["New York", "!"]}),
        json!({"text": "Ann ran."}),
        json!({"text": null}),
        json!({"tokens": null}),
        json!({"text": "a b", "tokens": ["a", "b"]}),
        json!({"text": "a b", "tokens": null}),
    ];
    let lines = rows.map(|row| row.to_string()).join("\n");
    let mut untagged = spec();
    (untagged.tokens.tagged, untagged.tokens.blank) = (false, true);
    let found = read(&untagged, &lines).unwrap();
    let tokens: Vec<String> = found.iter().map(|row| row.tokens.join("|")).collect();
    assert_eq!(tokens, ["New York|!", "Ann|ran|.", "", "", "a|b", "a|b"]);
    // What is neither lacks what the first one had.
    for (first, key) in [
        (r#"{"tokens": ["a"]}"#, "tokens"),
        (r#"{"text": "a"}"#, "text"),
    ] {
        let found = read(&untagged, format!("{first}\n{{\"id\": 1}}\n")).unwrap_err();
        let expected = format!("data:2: no key `{key}`");
        assert!(found.to_string().starts_with(&expected), "{found}");
    }
    // To learn from, a missing text is a fault.
    let null = json!({"text": null, "entities": []});
    assert_eq!(
        message(&spec(), &null),
        "data:1: key `text`: found null, expected a string"
    );
}

#[test]
fn spans_that_no_choice_can_mend() {
    let mut widen = spec();
    widen.tokens.bad_spans = BadSpans::Widen;
    for spec in [spec(), widen] {
        let check = |entities: Value, expected: &str| {
            let found = message(&spec, &json!({"text": TEXT, "entities": entities}));
            assert!(found.starts_with(&format!("data:1: {expected}")), "{found}");
        };
        check(
            json!([[0, 24, "X"]]),
            "key `entities[0]`: found 0 to 24, expected a span of at least one inside the text, \
             which has 23 characters; data.offsets says",
        );
        check(
            json!([[3, 3, "X"]]),
            "key `entities[0]`: found 3 to 3, expected",
        );
        check(
            json!([[-1, 3, "X"]]),
            "key `entities[0]`: found -1 to 3, expected two integers",
        );
        check(json!([[0, 3.5, "X"]]), "key `entities[0]`: found 0 to 3.5");
        check(json!([[0, 3, " "]]), "label is empty");
        check(
            json!([[0, 3]]),
            "key `entities[0]`: found a list, expected a span",
        );
        check(
            json!(["x"]),
            "key `entities[0]`: found a string, expected a span",
        );
        check(
            json!([{"start": 0, "end": 3}]),
            "key `entities[0]`: found an object, expected a span",
        );
        check(
            json!([{"start": 0, "end": 3, "labels": ["A", "B"]}]),
            "key `entities[0]`: found a list, expected one string",
        );
        check(json!([[3, 4, "X"]]), "span 3-4 \" \" (X) holds no word");
        check(
            json!([{"start": 15, "end": 23, "text": "New York", "label": "LOC"}]),
            "key `entities[0]`: its text is \"New York\", but characters 15 to 23 of the text are \
             \"ew York.\"; correct one of them, or say in data.offsets what the numbers count",
        );
        let texts = json!({"text": 3, "entities": []});
        assert!(message(&spec, &texts).contains("key `text`: found an integer"));
        let list = json!({"text": TEXT, "entities": {}});
        assert!(message(&spec, &list).contains("no key `entities`"));
        let none = json!({"data": {"text": TEXT}, "annotations": []});
        assert!(message(&spec, &none).contains("found 0 annotations, expected one"));
        let two = json!({"data": {"text": TEXT}, "annotations": [{"result": []}, {"result": []}]});
        assert!(message(&spec, &two).contains("found 2 annotations, expected one"));
    }
    let mut bytes = spec();
    bytes.tokens.offsets = Offsets::Bytes;
    let inside = json!({"text": TEXT, "entities": [[0, 3, "X"]]});
    assert_eq!(
        message(&bytes, &inside),
        "data:1: key `entities[0]`: 3 is inside a character, counted in bytes of UTF-8"
    );
    // The first object tells the form; another one behind it is a bad row.
    let rows = format!(
        "{}\n{}\n",
        json!({"text": TEXT, "entities": []}),
        json!({"tokens": ["a"], "tags": ["O"]})
    );
    assert!(
        read(&spec(), rows)
            .unwrap_err()
            .to_string()
            .starts_with("data:2: no key `text`")
    );
    let mut known = spec();
    known.label_names = Some(["O", "B-PER", "I-PER"].map(String::from).to_vec());
    let unknown = json!({"text": TEXT, "entities": [[0, 3, "PRE"]]});
    assert!(message(&known, &unknown).contains("unknown label `B-PRE`"));
}

/// Letters of scripts with and without spaces, marks, emoji with joiners, and white space.
fn any_text() -> impl Strategy<Value = String> {
    let letters: Vec<&str> = vec![
        "a",
        "Z",
        "é",
        "e\u{301}",
        "ß",
        "я",
        "東",
        "か",
        "データ",
        "ไ",
        "서",
        "😀",
        "👩\u{200d}👩",
        "\u{1F1E9}\u{1F1EA}",
        "𝒜",
        ".",
        ",",
        "'s",
        "-",
        "“",
        "。",
        "・",
        "#",
        "@",
        " ",
        "  ",
        "\n",
        "\u{a0}",
        "1",
        "\u{200b}",
    ];
    prop::collection::vec(prop::sample::select(letters), 1..30).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Offsets of words in any unit are those words, whatever the text.
    #[test]
    fn every_unit_of_offsets_gives_the_same_tags(text in any_text(), picks in prop::collection::vec((0usize..30, 0usize..3), 0..6)) {
        let words = split_words(&text);
        prop_assume!(!words.is_empty());
        let joined: String = words.iter().map(|word| word.token.as_str()).collect();
        let bare: String = text.split_whitespace().collect();
        prop_assert_eq!(joined, bare, "no character is lost");
        let chars: Vec<char> = text.chars().collect();
        let mut gold = vec!["O".to_string(); words.len()];
        let mut spans = Vec::new();
        for (first, more) in picks {
            let (first, last) = (first % words.len(), (first % words.len() + more).min(words.len() - 1));
            if gold[first..=last].iter().any(|tag| tag != "O") {
                continue;
            }
            gold[first..=last].fill("I-X".into());
            gold[first] = "B-X".into();
            spans.push((words[first].start, words[last].end));
        }
        type Length = fn(char) -> usize;
        let units: [(Offsets, Length); 3] = [
            (Offsets::Characters, |_| 1),
            (Offsets::Utf16, char::len_utf16),
            (Offsets::Bytes, char::len_utf8),
        ];
        for (offsets, length) in units {
            let at = |end: usize| chars[..end].iter().map(|c| length(*c)).sum::<usize>();
            let entities: Vec<Value> = spans.iter().map(|(start, end)| {
                let said: String = chars[*start..*end].iter().collect();
                json!({"start": at(*start), "end": at(*end), "label": "X", "text": said})
            }).collect();
            let mut spec = spec();
            spec.tokens.offsets = offsets;
            let found = read(&spec, json!({"text": text, "entities": entities})).unwrap();
            prop_assert_eq!(found[0].tags.as_ref().unwrap(), &gold);
            // Raw text has the same words, as prediction sees it.
            let raw: Vec<&String> = found[0].tokens.iter().collect();
            prop_assert!(raw.into_iter().eq(words.iter().map(|word| &word.token)));
        }
    }

    /// Any spans give sound IOB2, or an error; widening leaves no fault but what holds no word.
    #[test]
    fn any_spans_give_sound_tags_or_errors(text in any_text(), spans in prop::collection::vec((0usize..40, 0usize..40), 0..6)) {
        prop_assume!(!text.trim().is_empty());
        let length = text.chars().count();
        let entities: Vec<Value> = spans.iter().map(|(a, b)| json!([a, b, "X"])).collect();
        let mut widen = spec();
        widen.tokens.bad_spans = BadSpans::Widen;
        let found = read(&widen, json!({"text": text, "entities": entities}));
        let inside = spans.iter().all(|(a, b)| a < b && *b <= length);
        match found {
            Ok(found) => {
                prop_assert!(inside);
                let tags = found[0].tags.as_ref().unwrap();
                prop_assert_eq!(tags.len(), found[0].tokens.len());
                prop_assert!(spans.is_empty() || tags.iter().any(|tag| tag == "B-X"));
                for pair in tags.windows(2) {
                    prop_assert!(pair[1] != "I-X" || pair[0] != "O");
                }
                prop_assert!(tags[0] != "I-X");
            }
            Err(error) => {
                let message = error.to_string();
                prop_assert!(!inside || message.contains("holds no word"), "{}", message);
            }
        }
    }
}
