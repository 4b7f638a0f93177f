//! `serve`: what is answered, to whom, and how it ends.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::runs::{json_lines, numbers, refused, train};
use crate::sandbox::{Sandbox, assert_contains, jsonl, says};
use crate::serving::{
    Reply, Serving, TOKEN_OF_SERVICE, begin_lines, has_entities, read_lines, read_reply,
    read_until, runs, send_piece, write_request,
};

const ALL: [&str; 6] = ["--run", "texts", "--run", "others", "--run", "tagger=words"];

/// Texts of many lengths and scripts.
fn texts() -> Vec<String> {
    let words = [
        "good",
        "bad",
        "Zoë",
        "東京",
        "\u{1F600}",
        "boat",
        "\"quoted\"",
        "\u{7}",
        "é",
    ];
    (1..60)
        .map(|at| {
            let count = 1 + at * 7 % 23;
            let words = (0..count).map(|word| words[(at * 5 + word * 3) % words.len()]);
            words.collect::<Vec<_>>().join(" ")
        })
        .collect()
}

/// What `predict` answers to texts.
fn predicted(sandbox: &Sandbox, run: &str, texts: &[String]) -> Vec<Value> {
    let lines = json_lines(texts.iter().map(|text| json!({ "text": text })));
    let outcome = sandbox.run_with(&["predict", "--run", run, "--input", "-"], &lines);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    jsonl(&outcome.stdout)
}

#[track_caller]
fn is_refused(reply: &Reply, status: u16, code: &str, says: &[&str]) {
    assert_eq!(reply.status, status, "{reply:?}");
    let body = reply.json();
    assert_eq!(body["error_type"], code, "{body}");
    assert_contains(body["error"].as_str().unwrap(), says);
}

#[test]
fn each_answer_is_that_of_predict_whatever_else_is_asked() {
    let sandbox = runs();
    let texts = texts();
    // A pass of few tokens, so that requests are taken apart.
    let args = [&ALL[..], &["--max-batch-tokens", "64"]].concat();
    let serving = Serving::start(&sandbox, &args);
    let of = |run: &str| predicted(&sandbox, run, &texts);
    let expected = [
        ("texts", of("texts")),
        ("others", of("others")),
        ("tagger", of("words")),
    ];

    // Streams of lines: to the byte.
    for (name, run) in [("texts", "texts"), ("tagger", "words")] {
        let lines = json_lines(texts.iter().map(|text| json!({ "text": text, "id": 7 })));
        let headers = [("Content-Type", "application/x-ndjson")];
        let path = format!("/models/{name}/batch");
        let reply = serving.ask("POST", &path, &headers, &lines);
        assert_eq!(reply.status, 200, "{reply:?}");
        let alone = sandbox.run_with(&["predict", "--run", run, "--input", "-"], &lines);
        assert_eq!(reply.body, alone.stdout, "{name}");
    }

    // Many at once, for all models, alone and in lists.
    std::thread::scope(|scope| {
        for client in 0..12 {
            let (serving, texts, expected) = (&serving, &texts, &expected);
            scope.spawn(move || {
                for turn in 0..20 {
                    let (name, expected) = &expected[(client + turn) % 3];
                    let at = (client * 31 + turn * 17) % texts.len();
                    let count = if turn % 4 == 3 {
                        (texts.len() - at).min(9)
                    } else {
                        1
                    };
                    let (asked, expected) = (&texts[at..at + count], &expected[at..at + count]);
                    if *name == "tagger" {
                        let reply = serving.post("/models/tagger/ner", &json!({ "inputs": asked }));
                        has_entities(&reply.json(), expected);
                    } else {
                        let lists: Vec<_> = asked.iter().map(|text| [text]).collect();
                        let path = format!("/models/{name}/predict");
                        let reply = serving.post(&path, &json!({ "inputs": lists }));
                        has_scores(&reply.json(), expected);
                    }
                }
            });
        }
    });
    let said = serving.stop();
    assert_contains(&said, &["stopped: all that was taken is answered"]);
    assert!(!said.contains("good"), "a text is in the log");
}

/// What `/predict` answers to a list, by what `predict` answers.
#[track_caller]
fn has_scores(found: &Value, expected: &[Value]) {
    assert_eq!(
        found.as_array().map(Vec::len),
        Some(expected.len()),
        "{found}"
    );
    for (found, expected) in found.as_array().unwrap().iter().zip(expected) {
        let labels = found.as_array().unwrap();
        assert_eq!(labels[0]["label"], expected["label"]);
        assert_eq!(labels.len(), expected["scores"].as_object().unwrap().len());
        for label in labels {
            let name = label["label"].as_str().unwrap();
            assert_eq!(
                label["score"].as_f64(),
                expected["scores"][name].as_f64(),
                "{name}"
            );
        }
        let scores = numbers(found);
        assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    }
}

#[test]
fn questions_have_the_shapes_that_people_know() {
    let sandbox = runs();
    let serving = Serving::start(&sandbox, &ALL);
    let ask = |path: &str, body: Value| serving.post(path, &body);

    // text-embeddings-inference
    let one = ask(
        "/predict",
        json!({ "inputs": "good and warm", "model": "texts" }),
    )
    .json();
    let list = ask(
        "/predict",
        json!({ "inputs": [["good and warm"]], "model": "texts" }),
    )
    .json();
    assert_eq!(json!([one]), list);
    assert_eq!(one.as_array().unwrap().len(), 2);
    let raw = json!({ "inputs": "good and warm", "model": "texts", "raw_scores": true });
    let raw = ask("/predict", raw).json();
    let (raw, scores) = (numbers(&raw), numbers(&one));
    let total: f64 = raw.iter().map(|score| score.exp()).sum();
    for (raw, score) in raw.iter().zip(&scores) {
        assert!(
            (raw.exp() / total - score).abs() < 1e-6,
            "{raw} is no logit of {score}"
        );
    }
    assert_ne!(raw, scores);

    // vLLM
    let texts = ["good and warm", "sad"];
    let reply = ask("/classify", json!({ "input": texts, "model": "others" }));
    let body = reply.json();
    let expected = predicted(&sandbox, "others", &texts.map(String::from));
    assert_eq!(body["object"], "list");
    assert_eq!(body["model"], "others");
    for (at, expected) in expected.iter().enumerate() {
        let found = &body["data"][at];
        assert_eq!(found["index"], at);
        assert_eq!(found["label"], expected["label"]);
        assert_eq!(found["num_classes"], 2);
        assert_eq!(numbers(&found["probs"]), numbers(&expected["scores"]));
    }
    let tokens = body["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(reply.header("x-compute-tokens"), Some(&*tokens.to_string()));
    assert_eq!(body["usage"]["total_tokens"], tokens);
    let bare = json!({
        "input": texts, "model": "others", "use_activation": false, "user": "me", "priority": 0
    });
    let bare = ask("/classify", bare).json();
    for (at, expected) in expected.iter().enumerate() {
        let raw = numbers(&bare["data"][at]["probs"]);
        let total: f64 = raw.iter().map(|score| score.exp()).sum();
        for (raw, score) in raw.iter().zip(numbers(&expected["scores"])) {
            assert!(
                (raw.exp() / total - score).abs() < 1e-6,
                "{raw} is no logit of {score}"
            );
        }
        assert_eq!(bare["data"][at]["label"], expected["label"]);
    }

    // transformers' pipeline
    let text = "Zoë sold boats in Élan .";
    let entities = ask("/models/tagger/ner", json!({ "inputs": text })).json();
    let found: Vec<_> = entities
        .as_array()
        .unwrap()
        .iter()
        .map(|of| {
            let (start, end) = (of["start"].as_u64().unwrap(), of["end"].as_u64().unwrap());
            let characters = text
                .chars()
                .skip(start as usize)
                .take((end - start) as usize);
            (
                of["entity_group"].as_str().unwrap(),
                characters.collect::<String>(),
            )
        })
        .collect();
    assert_eq!(found, [("PER", "Zoë".into()), ("LOC", "Élan".into())]);
    let words: Vec<_> = text.split(' ').collect();
    let none = json!({
        "inputs": words, "is_split_into_words": true, "aggregation_strategy": "none"
    });
    let tagged = ask("/models/tagger/ner", none).json();
    assert_eq!(tagged[0]["entity"], "B-PER");
    assert_eq!(tagged[1]["entity"], "B-LOC");
    assert_eq!(
        (&tagged[1]["index"], &tagged[1]["start"]),
        (&json!(4), &json!(18))
    );
    assert_eq!(tagged[0]["score"], entities[0]["score"]);
    assert_eq!(tagged.as_array().unwrap().len(), 2);
    let lists = json!({ "inputs": [words, ["Ann"]], "is_split_into_words": true });
    let lists = ask("/models/tagger/ner", lists).json();
    assert_eq!(lists[0], entities);
    // A text without a word has no entities.
    assert_eq!(
        ask("/models/tagger/ner", json!({ "inputs": ["", "  "] })).json(),
        json!([[], []])
    );

    // What it says of itself.
    let info = serving.get("/info").json();
    let names: Vec<_> = info["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| &of["name"])
        .collect();
    assert_eq!(names, ["others", "tagger", "texts"]);
    assert_eq!(info["models"][1]["problem_type"], "token_classification");
    assert_eq!(info["models"][0]["attention"], "bidirectional");
    assert_eq!(serving.get("/health").json(), json!({ "status": "ok" }));
    let metrics = serving.get("/metrics").body;
    assert_contains(
        &metrics,
        &[
            "ls_llama_requests_total{path=\"/predict\",status=\"200\"} 3",
            "ls_llama_models 3",
            "ls_llama_queue_tokens 0",
            "# EOF",
        ],
    );
    let id = [
        ("X-Request-Id", "mine-1"),
        ("Content-Type", "application/json"),
    ];
    let reply = serving.ask("POST", "/predict", &id, "{}");
    assert_eq!(reply.header("x-request-id"), Some("mine-1"));
    assert_eq!(reply.header("access-control-allow-origin"), None);
    let log = serving.stop();
    assert_contains(
        &log,
        &[
            "request_id=\"mine-1\"",
            "status=422",
            "model=\"others\" inputs=2",
        ],
    );
}

#[test]
fn texts_stand_in_the_log_where_that_is_asked_for_with_the_id_of_their_request() {
    let sandbox = runs();
    let serving = Serving::start(&sandbox, &[&ALL[..], &["--log-texts"]].concat());
    let ask = |id: &str, path: &str, kind: &str, body: &str| {
        let headers = [("X-Request-Id", id), ("Content-Type", kind)];
        let reply = serving.ask("POST", path, &headers, body);
        assert_eq!(reply.status, 200, "{reply:?}");
        reply
    };
    let json = "application/json";
    let list = r#"{"inputs": [["good\nfilm"], ["bad"]]}"#;
    ask("one", "/models/texts/predict", json, list);
    let classified = ask(
        "two",
        "/models/others/classify",
        json,
        r#"{"input": "Zoë"}"#,
    );
    assert_eq!(classified.json()["id"], "classify-two");
    let words = r#"{"inputs": ["東京", "boat"], "is_split_into_words": true}"#;
    ask("three", "/models/tagger/ner", json, words);
    let lines = "{\"text\": \"first line\"}\n{\"text\": \"second\"}\n";
    ask("four", "/models/texts/batch", "application/x-ndjson", lines);
    let log = serving.stop();
    assert_contains(
        &log,
        &[
            "request_id=\"one\" model=\"texts\" text=\"good\\nfilm\"",
            "request_id=\"one\" model=\"texts\" text=\"bad\"",
            "request_id=\"two\" model=\"others\" text=\"Zoë\"",
            "request_id=\"three\" model=\"tagger\" text=\"東京 boat\"",
            "request_id=\"four\" model=\"texts\" text=\"first line\"",
            "request_id=\"four\" model=\"texts\" text=\"second\"",
        ],
    );
}

#[test]
fn what_cannot_be_answered_is_refused_with_a_code_and_a_reason() {
    let sandbox = runs();
    let args = [
        &ALL[..],
        &[
            "--max-client-batch-size",
            "3",
            "--max-body-bytes",
            "2000",
            "--max-queue-tokens",
            "50",
        ],
    ]
    .concat();
    let serving = Serving::start(&sandbox, &args);
    let json_of = [("Content-Type", "application/json")];
    let ask = |path: &str, body: &str| serving.ask("POST", path, &json_of, body);
    let long = "boat ".repeat(60);
    for (path, body, status, code, says) in [
        (
            "/predict",
            r#"{"inputs": "a"}"#.to_owned(),
            422,
            "model_needed",
            "others, tagger, texts",
        ),
        (
            "/predict",
            r#"{"inputs": "a", "model": "spam"}"#.into(),
            404,
            "model_not_found",
            "others, tagger, texts",
        ),
        (
            "/models/spam/predict",
            r#"{"inputs": "a"}"#.into(),
            404,
            "model_not_found",
            "no model \"spam\"",
        ),
        (
            "/models/texts/predict",
            r#"{"inputs": "a", "model": "others"}"#.into(),
            422,
            "value",
            "name one",
        ),
        (
            "/models/tagger/predict",
            r#"{"inputs": "a"}"#.into(),
            422,
            "other_task",
            "ask /ner",
        ),
        (
            "/models/tagger/classify",
            r#"{"input": "a"}"#.into(),
            422,
            "other_task",
            "ask /ner",
        ),
        (
            "/models/texts/ner",
            r#"{"inputs": "a"}"#.into(),
            422,
            "other_task",
            "/predict or /classify",
        ),
        (
            "/models/texts/predict",
            r#"{"inputs": ["a", "b"]}"#.into(),
            422,
            "value",
            "a list of texts is written [[text], [text], ...]",
        ),
        (
            "/models/texts/predict",
            r#"{"inputs": ["a", "b", "c"]}"#.into(),
            422,
            "body",
            "[[text], [text], ...]",
        ),
        (
            "/models/texts/predict",
            r#"{"inputs": []}"#.into(),
            422,
            "empty_input",
            "the list is empty",
        ),
        (
            "/models/texts/predict",
            r#"{"inputs": [["a"], [" "]]}"#.into(),
            422,
            "empty_input",
            "input 1: text is empty",
        ),
        (
            "/models/texts/predict",
            r#"{"inputs": 7}"#.into(),
            422,
            "body",
            "found a number",
        ),
        (
            "/models/texts/predict",
            "{}".into(),
            422,
            "body",
            "missing field `inputs`",
        ),
        (
            "/models/texts/predict",
            r#"{"inputs""#.into(),
            400,
            "body",
            "EOF",
        ),
        (
            "/models/texts/predict",
            format!(r#"{{"inputs": "{}"}}"#, "a".repeat(2000)),
            413,
            "body",
            "more than 2000 bytes",
        ),
        (
            "/models/texts/predict",
            r#"{"inputs": [["a"], ["b"], ["c"], ["d"]]}"#.into(),
            413,
            "too_many_inputs",
            "4 inputs in one request, and 3",
        ),
        (
            "/models/texts/predict",
            format!(r#"{{"inputs": "{long}"}}"#),
            413,
            "too_many_tokens",
            "and 50 are the most",
        ),
        (
            "/models/texts/classify",
            r#"{"input": [[1, 2]]}"#.into(),
            422,
            "body",
            "found a list in a list",
        ),
        (
            "/models/tagger/ner",
            r#"{"inputs": [["a"]]}"#.into(),
            422,
            "value",
            "is_split_into_words",
        ),
        (
            "/models/tagger/ner",
            r#"{"inputs": "a", "is_split_into_words": true}"#.into(),
            422,
            "value",
            "found a text",
        ),
        (
            "/models/tagger/ner",
            r#"{"inputs": "a", "aggregation_strategy": "best"}"#.into(),
            422,
            "body",
            "unknown variant `best`",
        ),
        // What would be answered otherwise than it was asked.
        (
            "/models/tagger/ner",
            r#"{"inputs": "a", "parameters": {"aggregation_strategy": "none"}}"#.into(),
            422,
            "body",
            "unknown field `parameters`",
        ),
        (
            "/models/texts/predict",
            r#"{"inputs": "a", "truncation_direction": "Left"}"#.into(),
            422,
            "body",
            "unknown variant `Left`",
        ),
        (
            "/models/texts/classify",
            r#"{"input": "a", "truncate_prompt_tokens": 8}"#.into(),
            422,
            "body",
            "unknown field `truncate_prompt_tokens`",
        ),
        (
            "/nowhere",
            "{}".into(),
            404,
            "not_found",
            "nothing is at /nowhere",
        ),
        (
            "/info",
            "{}".into(),
            405,
            "method_not_allowed",
            "/info does not take POST",
        ),
        (
            "/adapters",
            r#"{"name": "a", "path": "b"}"#.into(),
            403,
            "no_token",
            "started without one",
        ),
    ] {
        is_refused(&ask(path, &body), status, code, &[says]);
    }
    let other = serving.ask("POST", "/models/texts/predict", &[], r#"{"inputs": "a"}"#);
    is_refused(&other, 415, "body", &["Content-Type: application/json"]);
    let other = serving.ask("POST", "/models/texts/batch", &json_of, "{}");
    is_refused(&other, 415, "body", &["application/x-ndjson"]);
    // A line that cannot be used ends a stream, behind the answers to those before it.
    let lines = "{\"text\": \"a\"}\n{\"txt\": \"b\"}\n{\"text\": \"c\"}\n";
    let of_lines = [("Content-Type", "application/x-ndjson")];
    let reply = serving.ask("POST", "/models/texts/batch", &of_lines, lines);
    let lines = jsonl(&reply.body);
    assert_eq!((reply.status, lines.len()), (200, 2), "{reply:?}");
    assert_eq!(
        (&lines[0]["text"], &lines[1]["error_type"]),
        (&json!("a"), &json!("value"))
    );
    assert_contains(lines[1]["error"].as_str().unwrap(), &["request:2"]);
    // None of it has hurt it.
    assert_eq!(
        ask("/models/texts/predict", r#"{"inputs": "a"}"#).status,
        200
    );
    serving.stop();
}

#[test]
fn adapters_come_and_go_with_the_token_alone() {
    let sandbox = runs();
    let serving = Serving::start_with(&sandbox, &["--run", "texts"], Some(TOKEN_OF_SERVICE));
    let bearer = format!("Bearer {TOKEN_OF_SERVICE}");
    let with = |token: &str, method: &str, path: &str, body: Value| {
        let headers = [
            ("Authorization", token),
            ("Content-Type", "application/json"),
        ];
        serving.ask(method, path, &headers, &body.to_string())
    };
    let ask = |method: &str, path: &str, body: Value| with(&bearer, method, path, body);
    let text = json!({ "inputs": "good and warm" });

    let none = serving.post("/predict", &text);
    is_refused(&none, 401, "unauthorized", &["Authorization: Bearer"]);
    assert_eq!(none.header("www-authenticate"), Some("Bearer"));
    for (method, path) in [
        ("GET", "/adapters"),
        ("POST", "/adapters"),
        ("DELETE", "/adapters/texts"),
        ("GET", "/info"),
        ("GET", "/metrics"),
        ("POST", "/batch"),
    ] {
        let other = with("Bearer a-token-of-some-lengtH", method, path, json!({}));
        is_refused(&other, 401, "unauthorized", &[]);
    }
    assert_eq!(serving.get("/health").status, 200);
    assert_eq!(serving.get("/openapi.json").status, 200);
    assert_eq!(ask("POST", "/predict", text.clone()).status, 200);

    let new =
        |name: &str, path: &str| ask("POST", "/adapters", json!({ "name": name, "path": path }));
    let added = new("tagger", "words");
    assert_eq!(added.status, 201, "{added:?}");
    assert_eq!(added.json()["task"], "token");
    // A PEFT folder too.
    assert_eq!(new("second", "others/best").status, 201);
    let list = ask("GET", "/adapters", json!({})).json();
    let found: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|of| (of["name"].as_str().unwrap(), of["path"].as_str().unwrap()))
        .collect();
    assert_eq!(
        found,
        [
            ("second", "others/best"),
            ("tagger", "words"),
            ("texts", "texts")
        ]
    );
    let expected = predicted(&sandbox, "others", &["good and warm".into()]);
    let answer = ask(
        "POST",
        "/models/second/predict",
        json!({ "inputs": [["good and warm"]] }),
    );
    has_scores(&answer.json(), &expected);

    is_refused(
        &new("tagger", "words"),
        409,
        "model_exists",
        &["\"tagger\" already"],
    );
    is_refused(&new("a/b", "words"), 422, "value", &["\"a/b\" is no name"]);
    is_refused(&new("..", "words"), 422, "value", &["is no name"]);
    is_refused(&new("none", "nowhere"), 422, "model_refused", &["nowhere"]);
    is_refused(
        &ask(
            "POST",
            "/adapters",
            json!({ "name": "a", "path": "b", "x": 1 }),
        ),
        422,
        "body",
        &["unknown field `x`"],
    );
    assert_eq!(ask("DELETE", "/adapters/second", json!({})).status, 204);
    is_refused(
        &ask("DELETE", "/adapters/second", json!({})),
        404,
        "model_not_found",
        &[],
    );
    is_refused(
        &ask("POST", "/models/second/predict", text.clone()),
        404,
        "model_not_found",
        &["tagger, texts"],
    );
    assert_eq!(ask("DELETE", "/adapters/tagger", json!({})).status, 204);
    assert_eq!(ask("POST", "/predict", text).status, 200);
    let log = serving.stop();
    assert_contains(
        &log,
        &["added model=\"tagger\"", "removed model=\"second\""],
    );
    assert!(!log.contains(TOKEN_OF_SERVICE), "the token is in the log");
}

#[cfg(unix)]
#[test]
fn a_hangup_loads_what_changed_and_keeps_what_cannot_be_loaded() {
    let sandbox = runs();
    let serving = Serving::start(&sandbox, &["--run", "texts", "--run", "words"]);
    let answer = || {
        serving
            .post("/models/texts/predict", &json!({ "inputs": "sad" }))
            .json()
    };
    let before = answer();
    std::fs::rename(sandbox.path("texts"), sandbox.path("old")).unwrap();
    std::fs::rename(sandbox.path("others"), sandbox.path("texts")).unwrap();
    std::fs::remove_file(sandbox.path("words/best/adapter_model.safetensors")).unwrap();
    serving.signal("HUP");
    let since = Instant::now();
    while answer() == before {
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "nothing is loaded anew"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let expected = predicted(&sandbox, "texts", &["sad".into()]);
    has_scores(&json!([answer()]), &expected);
    let words = serving.post("/models/words/ner", &json!({ "inputs": "Ann sold boats" }));
    assert_eq!(words.status, 200);
    let log = serving.stop();
    assert_contains(
        &log,
        &[
            "texts is loaded anew",
            "words stays as it was: ",
            "adapter_model.safetensors",
        ],
    );
}

#[test]
fn adapters_come_and_go_while_they_and_others_are_asked() {
    let sandbox = runs();
    let serving = Serving::start_with(&sandbox, &["--run", "texts"], Some(TOKEN_OF_SERVICE));
    let bearer = format!("Bearer {TOKEN_OF_SERVICE}");
    let ask = |method: &str, path: &str, body: &Value| {
        let headers = [
            ("Authorization", &*bearer),
            ("Content-Type", "application/json"),
        ];
        serving.ask(method, path, &headers, &body.to_string())
    };
    let question = json!({ "inputs": [["good and warm"], ["sad"]] });
    let texts: [String; 2] = ["good and warm", "sad"].map(Into::into);
    let [of_texts, of_others] = ["texts", "others"].map(|run| predicted(&sandbox, run, &texts));
    let is_over = AtomicBool::new(false);
    // Answers of the one that comes and goes.
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let reply = ask("POST", "/models/texts/predict", &question);
                    has_scores(&reply.json(), &of_texts);
                    let reply = ask("POST", "/models/second/predict", &question);
                    if reply.status == 404 {
                        is_refused(&reply, 404, "model_not_found", &[]);
                    } else {
                        has_scores(&reply.json(), &of_others);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let over = OverAtLast(&is_over);
        let new = json!({ "name": "second", "path": "others" });
        let since = Instant::now();
        let mut rounds = Vec::new();
        while (rounds.len() < 10 || answered.load(Ordering::Relaxed) < 10)
            && since.elapsed() < Duration::from_secs(30)
        {
            let added = ask("POST", "/adapters", &new).status;
            rounds.push([added, ask("DELETE", "/adapters/second", &json!({})).status]);
        }
        drop(over);
        assert!(
            rounds.len() >= 10 && rounds.iter().all(|round| *round == [201, 204]),
            "{rounds:?}"
        );
    });
    assert!(
        answered.into_inner() > 0,
        "it was never asked while it was there"
    );
    serving.stop();
}

#[cfg(unix)]
#[test]
fn a_stop_answers_what_was_taken_and_refuses_what_comes() {
    let sandbox = runs();
    let serving = Serving::start(&sandbox, &["--run", "texts", "--max-batch-tokens", "1"]);
    // Each text is a pass of its own, so that it takes a while.
    let texts: Vec<_> = (0..1000)
        .map(|at| [format!("good and warm {at}")])
        .collect();
    let body = json!({ "inputs": texts }).to_string();
    let mut stream = serving.connect();
    let headers = [("Content-Type", "application/json")];
    write_request(&mut stream, "POST", "/predict", &headers, &body);
    let since = Instant::now();
    // Until it is at work.
    while !serving.get("/metrics").body.lines().any(|line| {
        line.strip_prefix("ls_llama_inputs_total ")
            .is_some_and(|count| count != "0")
    }) {
        assert!(since.elapsed() < Duration::from_secs(30));
    }
    serving.signal("TERM");
    let reply = read_reply(&mut stream);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json().as_array().unwrap().len(), 1000);
    let address = serving.address().to_owned();
    let outcome = serving.ended();
    says(
        &outcome,
        0,
        &["stopping: what was taken is answered first", "stopped: all"],
    );
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn bad_clients_do_not_keep_others_waiting() {
    let sandbox = runs();
    let serving = Serving::start(&sandbox, &["--run", "texts", "--max-body-bytes", "100000"]);
    let answers = || {
        let since = Instant::now();
        let reply = serving.post("/predict", &json!({ "inputs": "good and warm" }));
        assert_eq!(reply.status, 200);
        since.elapsed()
    };
    answers();
    // Half a request, and nothing; bytes that are no HTTP; a body that never comes; connections
    // that are cut in the middle of a request.
    let mut open = Vec::new();
    for _ in 0..100 {
        let mut slow = serving.connect();
        slow.write_all(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-")
            .unwrap();
        let mut waiting = serving.connect();
        waiting.write_all(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{").unwrap();
        open.extend([slow, waiting]);
        let mut cut = serving.connect();
        write_request(
            &mut cut,
            "POST",
            "/predict",
            &[("Content-Type", "application/json")],
            &json!({ "inputs": "cut" }).to_string(),
        );
        drop(cut);
        let mut garbage = serving.connect();
        garbage
            .write_all(&[0, 159, 146, 150, 13, 10, 13, 10])
            .unwrap();
    }
    // A body of 100 MB is refused by its length, before it is sent.
    let mut large = serving.connect();
    large.write_all(b"POST /predict HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n").unwrap();
    assert_eq!(read_reply(&mut large).status, 413);
    let slowest = (0..20).map(|_| answers()).max().unwrap();
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    drop(open);
    answers();
    serving.stop();
}

#[test]
fn a_stream_that_nobody_reads_is_cut_so_that_its_reader_sees_it() {
    let sandbox = runs();
    let serving = Serving::start(&sandbox, &["--run", "texts", "--timeout", "1"]);
    let mut stream = begin_lines(&serving, "/batch");
    // More than all buffers on the way hold: what else is in a line is kept.
    let line = format!(
        "{}\n",
        json!({ "text": "good", "pad": "x".repeat(400_000) })
    );
    let mut sending = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        for _ in 0..100 {
            if send_piece(&mut sending, &line).is_err() {
                return;
            }
        }
        let _ = send_piece(&mut sending, "");
    });
    std::thread::sleep(Duration::from_secs(4));
    let (lines, is_whole) = read_lines(&mut stream);
    assert!(lines.len() < 100, "the buffers hold all of it");
    assert!(!is_whole, "{} of 100 lines, and a proper end", lines.len());
    sender.join().unwrap();
    // The next reader has all.
    let lines = json_lines((0..100).map(|id| json!({ "text": "sad", "id": id })));
    let headers = [("Content-Type", "application/x-ndjson")];
    let reply = serving.ask("POST", "/batch", &headers, &lines);
    assert_eq!(jsonl(&reply.body).len(), 100);
    let log = serving.stop();
    assert_contains(&log, &["a stream was cut: nobody reads it", "inputs=100"]);
    // By the id of its request, with what it took.
    let end = log.lines().find(|line| line.contains("streamed")).unwrap();
    assert_contains(end, &["request_id=", "tokens=", "queue_ms=", "compute_ms="]);
    let id = end.split("request_id=").nth(1).unwrap();
    let id = id.split_whitespace().next().unwrap();
    assert!(
        log.lines().filter(|line| line.contains(id)).count() == 2,
        "{log}"
    );
}

#[test]
fn clients_that_never_read_lose_their_connections() {
    let sandbox = runs();
    let args = ["--run", "texts", "--timeout", "1", "--max-connections", "2"];
    let serving = Serving::start(&sandbox, &args);
    let never_read = |_| {
        let mut stream = serving.connect();
        let until = Some(Duration::from_millis(300));
        stream.set_write_timeout(until).unwrap();
        let requests = "GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20_000);
        // Until nothing is taken any more.
        let _ = stream.write_all(requests.as_bytes());
        stream
    };
    let _open: Vec<_> = (0..2).map(never_read).collect();
    let since = Instant::now();
    assert_eq!(serving.get("/health").status, 200);
    let waited = since.elapsed();
    assert!(waited < Duration::from_secs(20), "{waited:?}");
    serving.stop();
}

#[test]
fn clients_that_say_nothing_make_way_for_those_that_ask() {
    let sandbox = runs();
    let args = ["--run", "texts", "--max-connections", "2"];
    let serving = Serving::start(&sandbox, &args);
    let mut silent: Vec<_> = (0..4).map(|_| serving.connect()).collect();
    // Half of a request is nothing either.
    silent[3]
        .write_all(b"GET /health HTTP/1.1\r\nHost")
        .unwrap();
    let since = Instant::now();
    for _ in 0..3 {
        assert_eq!(serving.get("/health").status, 200);
    }
    let waited = since.elapsed();
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    drop(silent);
    serving.stop();
}

/// Who was refused, and whose body nobody read, keeps nobody out either.
#[test]
fn clients_without_a_token_make_way_for_those_that_ask() {
    let sandbox = runs();
    let args = ["--run", "texts", "--max-connections", "2"];
    let serving = Serving::start_with(&sandbox, &args, Some(TOKEN_OF_SERVICE));
    let refused: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = serving.connect();
            let request = "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
                           Content-Length: 2\r\n\r\n{}";
            stream.write_all(request.as_bytes()).unwrap();
            assert_contains(&read_until(&mut stream, "unauthorized"), &["401"]);
            stream
        })
        .collect();
    let since = Instant::now();
    assert_eq!(serving.get("/health").status, 200);
    let waited = since.elapsed();
    assert!(waited < Duration::from_secs(15), "{waited:?}");
    drop(refused);
    serving.stop();
}

/// Says that something is over wherever this ends, so that nobody goes on for ever where a check
/// fails.
struct OverAtLast<'a>(&'a AtomicBool);

impl Drop for OverAtLast<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The tokens that wait in a service, and the inputs that it has computed.
fn waiting_and_computed(serving: &Serving) -> (u64, u64) {
    let metrics = serving.get("/metrics").body;
    let number = |name: &str| {
        let value = metrics.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap().trim().parse().unwrap()
    };
    (
        number("ls_llama_queue_tokens "),
        number("ls_llama_inputs_total "),
    )
}

#[test]
fn a_stream_that_is_cut_leaves_the_queue_and_its_place_at_once() {
    let sandbox = runs();
    let args = [
        "--run",
        "texts",
        "--max-batch-tokens",
        "1",
        "--max-streams",
        "1",
    ];
    let serving = Serving::start(&sandbox, &args);
    let long = "good and warm ".repeat(60);
    let lines = json_lines((0..400).map(|id| json!({ "text": long, "id": id })));
    let mut cut = begin_lines(&serving, "/batch");
    send_piece(&mut cut, &lines).unwrap();
    let since = Instant::now();
    while !matches!(waiting_and_computed(&serving), (1.., 1..)) {
        assert!(since.elapsed() < Duration::from_secs(30), "nothing waits");
    }
    let headers = [("Content-Type", "application/x-ndjson")];
    let another = || serving.ask("POST", "/batch", &headers, "{\"text\": \"sad\"}\n");
    is_refused(
        &another(),
        429,
        "overloaded",
        &["1 streams of lines are at work already", "`max_streams`"],
    );
    let (_, before) = waiting_and_computed(&serving);
    drop(cut);
    let since = Instant::now();
    while another().status == 429 {
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "it keeps its place"
        );
    }
    let (waiting, computed) = waiting_and_computed(&serving);
    assert_eq!(waiting, 0);
    // Four parts of 64 lines were at work.
    let computed = computed - before;
    assert!(
        computed < 100,
        "{computed} inputs were computed all the same"
    );
    serving.stop();
}

#[test]
fn a_stream_goes_on_where_the_queue_is_small_and_others_ask_all_the_time() {
    let sandbox = runs();
    let args = ["--run", "texts", "--max-queue-tokens", "48"];
    let serving = Serving::start(&sandbox, &args);
    let texts: Vec<_> = (0..150).map(|at| format!("good and warm {at}")).collect();
    let lines = json_lines(texts.iter().map(|text| json!({ "text": text })));
    let alone = sandbox.run_with(&["predict", "--run", "texts", "--input", "-"], &lines);
    let headers = [("Content-Type", "application/x-ndjson")];
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut others = Vec::new();
        for _ in 0..6 {
            others.push(scope.spawn(|| {
                let mut answered = 0;
                while !is_done.load(Ordering::Relaxed) {
                    let reply = serving.post("/predict", &json!({ "inputs": "good and warm" }));
                    answered += usize::from(reply.status == 200);
                }
                answered
            }));
        }
        let done = OverAtLast(&is_done);
        let reply = serving.ask("POST", "/batch", &headers, &lines);
        drop(done);
        assert_eq!(reply.body, alone.stdout);
        let answered: usize = others.into_iter().map(|other| other.join().unwrap()).sum();
        assert!(answered > 0, "the stream keeps all others out");
    });
    // What is longer than the queue is no fault of the lines beside it.
    let long = "boat ".repeat(60);
    let lines = json_lines(["sad", &long, "warm"].map(|text| json!({ "text": text })));
    let reply = serving.ask("POST", "/batch", &headers, &lines);
    let found = jsonl(&reply.body);
    let expected = predicted(&sandbox, "texts", &["sad".into(), "warm".into()]);
    assert_eq!(found.len(), 3, "{reply:?}");
    assert_eq!([&found[0], &found[2]], [&expected[0], &expected[1]]);
    assert_eq!(found[1]["error_type"], "too_many_tokens");
    serving.stop();
}

#[test]
fn a_stream_without_whole_lines_leaves_its_place() {
    let sandbox = runs();
    let args = ["--run", "texts", "--timeout", "1", "--max-streams", "1"];
    let serving = Serving::start(&sandbox, &args);
    let mut trickle = begin_lines(&serving, "/batch");
    send_piece(&mut trickle, "{\"text\": \"sad\"}\n").unwrap();
    let since = Instant::now();
    // A byte now and then, and empty lines.
    while send_piece(&mut trickle, " \n").is_ok() {
        if since.elapsed() > Duration::from_secs(4) {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let headers = [("Content-Type", "application/x-ndjson")];
    let reply = serving.ask("POST", "/batch", &headers, "{\"text\": \"sad\"}\n");
    assert_eq!(reply.status, 200, "{reply:?}");
    let (lines, _) = read_lines(&mut trickle);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_contains(&lines[1], &["no whole line in 1 s"]);
    serving.stop();
}

#[cfg(unix)]
#[test]
fn a_stop_tells_open_streams_and_waits_for_nobody_who_asked_nothing() {
    let sandbox = runs();
    let serving = Serving::start(&sandbox, &["--run", "texts"]);
    let mut stream = begin_lines(&serving, "/batch");
    send_piece(&mut stream, "{\"text\": \"sad\"}\n{\"text\": \"warm\"}\n").unwrap();
    let first = read_until(&mut stream, "}\n");
    assert_contains(&first, &["200 OK", "\"text\":\"sad\""]);
    let mut half = serving.connect();
    half.write_all(b"GET /health HTT").unwrap();
    let idle = serving.connect();
    let mut asking = serving.connect();
    let mut health = || {
        let request = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
        asking.write_all(request).unwrap();
        read_until(&mut asking, "}")
    };
    assert_contains(&health(), &["200 OK"]);
    serving.signal("TERM");
    let since = Instant::now();
    // Somebody who is connected is told.
    let refused = loop {
        let answer = health();
        if !answer.contains("200 OK") {
            break answer;
        }
    };
    assert_contains(&refused, &["503 ", "\"stopping\"", "connection: close"]);
    let (lines, is_whole) = read_lines(&mut stream);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_contains(&lines[0], &["\"text\":\"warm\""]);
    assert_contains(&lines[1], &["\"error_type\":\"stopping\""]);
    assert!(is_whole);
    let outcome = serving.ended();
    says(
        &outcome,
        0,
        &[
            "a stream was stopped",
            "stopped: all that was taken is answered",
        ],
    );
    assert!(!outcome.stderr.contains("failed"), "{}", outcome.stderr);
    // The time-out is a minute.
    let took = since.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    drop((half, idle));
}

/// A stream of which all lines had come is answered to its end.
#[cfg(unix)]
#[test]
fn a_stop_answers_all_lines_that_were_sent() {
    let sandbox = runs();
    let serving = Serving::start(&sandbox, &["--run", "texts", "--max-batch-tokens", "1"]);
    let mut stream = begin_lines(&serving, "/batch");
    let lines = (0..1000).map(|at| json!({ "text": format!("good and warm {at}") }));
    send_piece(&mut stream, &json_lines(lines)).unwrap();
    send_piece(&mut stream, "").unwrap();
    // Until it is at work.
    let first = read_until(&mut stream, "}\n");
    assert_contains(&first, &["200 OK", "good and warm 0"]);
    serving.signal("TERM");
    let (lines, is_whole) = read_lines(&mut stream);
    assert!(is_whole);
    assert_eq!(lines.len(), 999);
    assert_contains(&lines[998], &["good and warm 999", "\"label\""]);
    says(
        &serving.ended(),
        0,
        &["stopped: all that was taken is answered"],
    );
}

#[cfg(unix)]
#[test]
fn a_stop_that_cuts_somebody_says_so() {
    let sandbox = runs();
    let serving = Serving::start(&sandbox, &["--run", "texts", "--timeout", "3"]);
    let mut stream = serving.connect();
    let until = Some(Duration::from_millis(500));
    stream.set_write_timeout(until).unwrap();
    let requests = "GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20_000);
    let _ = stream.write_all(requests.as_bytes());
    // Until the buffers on the way are full.
    let answered = || {
        let metrics = serving.get("/metrics").body;
        let line = metrics.lines().find(|line| line.contains("/openapi.json"));
        line.map(ToOwned::to_owned)
    };
    let mut before = None;
    while before.is_none() || answered() != before {
        before = answered();
        std::thread::sleep(Duration::from_millis(300));
    }
    serving.signal("TERM");
    let outcome = serving.ended();
    says(&outcome, 0, &["connections that were cut: 1"]);
    assert!(!outcome.stderr.contains("stopped: all"));
}

#[test]
fn who_is_refused_early_reads_why_though_he_still_sends() {
    let sandbox = runs();
    let serving = Serving::start(&sandbox, &["--run", "texts"]);
    let body = vec![b' '; 6 << 20];
    for _ in 0..10 {
        let mut stream = serving.connect();
        let head = format!(
            "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        assert_eq!(read_reply(&mut stream).status, 413);
    }
    // Who sends no end of it is not listened to for ever.
    let mut stream = serving.connect();
    stream
        .write_all(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n")
        .unwrap();
    let since = Instant::now();
    assert_eq!(read_reply(&mut stream).status, 413);
    while stream.write_all(b" ").is_ok() {
        assert!(since.elapsed() < Duration::from_secs(20), "it listens on");
        std::thread::sleep(Duration::from_millis(50));
    }
    serving.stop();
}

#[cfg(unix)]
#[test]
fn a_stop_does_not_wait_for_models_that_are_being_loaded() {
    let sandbox = runs();
    let names: Vec<_> = (0..60).map(|at| format!("m{at}=texts")).collect();
    let args: Vec<_> = names.iter().flat_map(|name| ["--run", name]).collect();
    let serving = Serving::start(&sandbox, &args);
    // So that it hears both of them, one after the other.
    assert_eq!(serving.get("/health").status, 200);
    serving.signal("HUP");
    std::thread::sleep(Duration::from_millis(50));
    serving.signal("TERM");
    let outcome = serving.ended();
    says(&outcome, 0, &["stopping: ", "stopped: all"]);
    let (before, _) = outcome.stderr.split_once("stopping: ").unwrap();
    assert_contains(&outcome.stderr, &["SIGHUP: loading every model anew"]);
    assert!(!before.contains("is loaded anew"), "{before}");
}

#[cfg(unix)]
#[test]
fn a_hangup_while_models_are_loaded_does_not_end_it() {
    let sandbox = runs();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let port = address.port().to_string();
    let mut args: Vec<_> = ["serve", "--port", &port].map(String::from).into();
    for at in 0..60 {
        args.extend(["--run".into(), format!("m{at}=texts")]);
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let mut command = sandbox.command_that_heeds_signals(&args);
    command.env_remove("LS_LLAMA_TOKEN");
    let mut child = command
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let since = Instant::now();
    // The address is taken before models are loaded.
    let mut stream = loop {
        match std::net::TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(error) => assert!(since.elapsed() < Duration::from_secs(60), "{error}"),
        }
    };
    let signal = |name: &str, id: u32| {
        let mut kill = std::process::Command::new("kill");
        let sent = kill.args([&format!("-{name}"), &id.to_string()]).status();
        assert!(sent.unwrap().success());
    };
    signal("HUP", child.id());
    write_request(&mut stream, "GET", "/health", &[], "");
    let reply = read_reply(&mut stream);
    assert_eq!(reply.status, 200);
    signal("TERM", child.id());
    assert!(child.wait().unwrap().success());
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_contains(&said, &["stopped: all that was taken is answered"]);
}

#[test]
fn the_document_names_all_that_is_answered() {
    let sandbox = runs();
    let serving = Serving::start(&sandbox, &["--run", "texts"]);
    let document = serving.get("/openapi.json").json();
    // An empty list is of either form.
    for schema in ["PredictResponse", "NerResponse", "Words"] {
        let schema = &document["components"]["schemas"][schema];
        assert!(schema["anyOf"].is_array(), "{schema}");
    }
    let paths = document["paths"].as_object().unwrap();
    let expected = [
        "/adapters",
        "/adapters/{name}",
        "/batch",
        "/classify",
        "/health",
        "/info",
        "/metrics",
        "/models/{model}/batch",
        "/models/{model}/classify",
        "/models/{model}/ner",
        "/models/{model}/predict",
        "/ner",
        "/predict",
    ];
    let mut found: Vec<_> = paths.keys().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(found, expected);
    let mut ids = Vec::new();
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().unwrap() {
            ids.push(operation["operationId"].as_str().unwrap());
            assert!(operation["summary"].is_string(), "{method} {path}");
            assert!(
                operation["responses"]
                    .as_object()
                    .is_some_and(|of| !of.is_empty())
            );
        }
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "two operations have one id");
    // Every schema that is named is there.
    let text = document.to_string();
    for named in text.split("#/components/schemas/").skip(1) {
        let name = named.split('"').next().unwrap();
        assert!(
            document["components"]["schemas"][name].is_object(),
            "{name}"
        );
    }
    serving.stop();
}

#[test]
fn what_cannot_be_served_is_refused() {
    let sandbox = runs();
    refused(&sandbox, &["serve"], 2, &["--run"]);
    refused(&sandbox, &["serve", "--run", "nowhere"], 1, &["nowhere"]);
    refused(
        &sandbox,
        &["serve", "--run", "texts", "--run", "texts"],
        2,
        &["two models have the name \"texts\"", "--run NAME=DIR"],
    );
    // Before anything is loaded.
    refused(
        &sandbox,
        &["serve", "--run", "a b=nowhere"],
        2,
        &["\"a b\" is no name for a model"],
    );
    refused(
        &sandbox,
        &["serve", "--model", "model", "--adapter", "texts/best"],
        2,
        &["NAME=texts/best"],
    );
    refused(
        &sandbox,
        &["serve", "--run", "texts", "--token-file", "missing"],
        1,
        &["missing"],
    );
    sandbox.write("token", "short");
    refused(
        &sandbox,
        &["serve", "--run", "texts", "--token-file", "token"],
        2,
        &["token: expected a token of at least 16"],
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    refused(
        &sandbox,
        &["serve", "--run", "texts", "--port", &port],
        2,
        &["cannot listen on 127.0.0.1:", "--port"],
    );
    // Another base is another process.
    sandbox.model("model2", 520);
    train(
        &sandbox,
        "elsewhere",
        &["model.path=model2", "train.epochs=1"],
    );
    refused(
        &sandbox,
        &["serve", "--run", "texts", "--run", "elsewhere"],
        2,
        &["elsewhere: it stands on", "model2", "a process of its own"],
    );
}

#[test]
fn adapters_on_a_named_base_and_whole_models_are_served_too() {
    let sandbox = runs();
    let args = [
        "--model",
        "model",
        "--adapter",
        "a=texts/best",
        "--adapter",
        "b=words/best",
    ];
    let serving = Serving::start(&sandbox, &args);
    let expected = predicted(&sandbox, "texts", &["sad".into()]);
    let answer = serving.post("/models/a/predict", &json!({ "inputs": [["sad"]] }));
    has_scores(&answer.json(), &expected);
    serving.stop();
    // Also in folders whose names are none of models.
    sandbox.ok(&["export", "--run", "texts", "--out", "ganzes è", "--merge"]);
    let serving = Serving::start(&sandbox, &["--model", "ganzes è"]);
    let lines = json_lines([json!({ "text": "sad" })]);
    let args = ["predict", "--model", "ganzes è", "--input", "-"];
    let alone = sandbox.run_with(&args, &lines);
    let answer = serving.post("/models/ganzes__/predict", &json!({ "inputs": [["sad"]] }));
    has_scores(&answer.json(), &jsonl(&alone.stdout));
    serving.stop();
    std::fs::rename(sandbox.path("texts"), sandbox.path("01_lora.r=8")).unwrap();
    let args = ["--run", "01_lora.r=8", "--run", "again=01_lora.r=8"];
    let serving = Serving::start(&sandbox, &args);
    for name in ["01_lora.r_8", "again"] {
        let path = format!("/models/{name}/predict");
        let answer = serving.post(&path, &json!({ "inputs": [["sad"]] }));
        has_scores(&answer.json(), &expected);
    }
    serving.stop();
}

#[test]
fn a_service_that_is_open_to_others_says_so() {
    let sandbox = runs();
    let args = ["serve", "--port", "0", "--run", "texts"];
    let open = [&args[..], &["--host", "0.0.0.0"]].concat();
    for (args, token, says) in [
        (&args[..], None, None),
        (&open, None, Some("give it a token with --token-file")),
        (&open, Some(TOKEN_OF_SERVICE), Some("go there unencrypted")),
    ] {
        let said = Serving::of(&sandbox, args, token).stop();
        assert_eq!(said.contains("is open to other machines"), says.is_some());
        assert_contains(&said, &says.map_or(vec![], |says| vec![says]));
    }
}

/// The log for programs, and what is counted.
#[test]
fn each_request_is_told_with_what_it_took() {
    let sandbox = runs();
    let args = [
        "serve",
        "--port",
        "0",
        "--run",
        "texts",
        "--log-format",
        "json",
    ];
    let serving = Serving::of(&sandbox, &args, None);
    let headers = [
        ("X-Request-Id", "one"),
        ("Content-Type", "application/json"),
    ];
    let body = json!({ "inputs": [["good and warm"], ["sad"]] }).to_string();
    let reply = serving.ask("POST", "/predict", &headers, &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    let headers = [
        ("X-Request-Id", "two"),
        ("Content-Type", "application/json"),
    ];
    let refused = serving.ask("POST", "/predict", &headers, "{");
    assert_eq!(refused.status, 400, "{refused:?}");
    let headers = [("Content-Type", "application/x-ndjson")];
    for lines in ["{\"text\": \"sad\"}\n", "{\"txt\": \"sad\"}\n"] {
        serving.ask("POST", "/batch", &headers, lines);
    }
    // A stream is counted once its end is on the way.
    let since = Instant::now();
    for end in ["whole", "refused"] {
        let line = format!("ls_llama_streams_total{{end=\"{end}\"}} 1");
        while !serving.get("/metrics").body.contains(&line) {
            assert!(since.elapsed() < Duration::from_secs(30), "{line}");
        }
    }
    let log = serving.stop();
    let of = |id: &str| -> Value {
        let about = |line: &&str| line.contains(&format!("\"request_id\":\"{id}\""));
        let line = log.lines().find(about).unwrap_or_else(|| panic!("{log}"));
        let line: Value = serde_json::from_str(line).unwrap();
        line.get("fields").cloned().unwrap_or(line)
    };
    let (answered, refused) = (of("one"), of("two"));
    for (key, value) in [
        ("method", json!("POST")),
        ("path", json!("/predict")),
        ("status", json!(200)),
        ("model", json!("texts")),
        ("inputs", json!(2)),
    ] {
        assert_eq!(answered[key], value, "{answered}");
    }
    for key in ["tokens", "queue_ms", "compute_ms", "total_ms"] {
        assert!(answered[key].is_u64(), "{key}: {answered}");
    }
    assert_eq!(
        reply.header("x-compute-tokens"),
        Some(answered["tokens"].to_string().as_str())
    );
    assert_eq!(
        (&refused["status"], &refused["error_type"]),
        (&json!(400), &json!("body"))
    );
    assert!(!log.contains("good and warm"));
}

#[test]
fn beside_a_whole_model_nothing_is_added_and_it_is_loaded_anew_under_load() {
    let sandbox = runs();
    train(
        &sandbox,
        "full",
        &[
            "lora=false",
            "task=sequence",
            "train.epochs=1",
            "data.train=train.csv",
            "data.validation=train.csv",
            "model.attention=causal",
        ],
    );
    // Each text is a pass of its own, so that requests are half done when the model changes.
    let args = ["--run", "full", "--max-batch-tokens", "1"];
    let serving = Serving::start_with(&sandbox, &args, Some(TOKEN_OF_SERVICE));
    let bearer = format!("Bearer {TOKEN_OF_SERVICE}");
    let headers = [
        ("Authorization", &*bearer),
        ("Content-Type", "application/json"),
    ];
    let new = json!({ "name": "texts", "path": "texts" }).to_string();
    let refused = serving.ask("POST", "/adapters", &headers, &new);
    is_refused(&refused, 409, "no_base", &["on which no adapter stands"]);
    let body = json!({ "inputs": [["good and warm"], ["sad"]] }).to_string();
    let expected = serving.ask("POST", "/predict", &headers, &body);
    assert_eq!(expected.status, 200);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..40 {
                    let reply = serving.ask("POST", "/predict", &headers, &body);
                    assert_eq!((reply.status, &reply.body), (200, &expected.body));
                }
            });
        }
        for _ in 0..5 {
            serving.signal("HUP");
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    // Once it is gone, it can come again.
    assert_eq!(
        serving.ask("DELETE", "/adapters/full", &headers, "").status,
        204
    );
    let none = serving.ask("POST", "/predict", &headers, &body);
    is_refused(&none, 422, "model_needed", &["there is no model"]);
    let again = json!({ "name": "again", "path": "full" }).to_string();
    assert_eq!(
        serving.ask("POST", "/adapters", &headers, &again).status,
        201
    );
    let reply = serving.ask("POST", "/predict", &headers, &body);
    assert_eq!(reply.body, expected.body);
    serving.stop();
}

#[test]
fn who_goes_away_is_counted_and_leaves_no_work_behind() {
    let sandbox = runs();
    let args = ["--run", "texts", "--max-body-bytes", "3000000"];
    let serving = Serving::start(&sandbox, &args);
    let threads = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", serving.id())).ok()?;
        let threads = status
            .lines()
            .find_map(|line| line.strip_prefix("Threads:"));
        Some(threads.unwrap().trim().parse::<usize>().unwrap())
    };
    let before = threads();
    let body = json!({ "inputs": "a ".repeat(700_000) }).to_string();
    let headers = [("Content-Type", "application/json")];
    for _ in 0..24 {
        let mut cut = serving.connect();
        write_request(&mut cut, "POST", "/predict", &headers, &body);
        std::thread::sleep(Duration::from_millis(10));
    }
    // They are read by the threads that there are; of what else the system is asked a few more
    // may come.
    if let (Some(before), Some(threads)) = (before, threads()) {
        assert!(threads <= before + 4, "{before} threads, and now {threads}");
    }
    let reply = serving.post("/predict", &json!({ "inputs": "good" }));
    assert_eq!(reply.status, 200);
    let metrics = serving.get("/metrics").body;
    assert_contains(&metrics, &["path=\"/predict\",status=\"499\""]);
    let odd = serving.ask("POST", "/models/%FF/predict", &headers, "{}");
    is_refused(&odd, 422, "value", &["UTF-8"]);
    assert_contains(&serving.stop(), &["nobody waited for it"]);
}
