//! What a service refuses because it is too much or takes too long, and that nothing of it stays.

// clippy.toml allows it in the tests themselves only, not in what they share.
#![allow(clippy::unwrap_used)]

use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use burn::tensor::Device;
use futures_util::StreamExt;
use futures_util::stream::{once, pending};
use ls_serve::{Limits, Models, Service, router};
use ls_train::{Answering, Overrides, RunConfig, train};
use serde_json::{Value, json};
use tower::ServiceExt;

/// A classifier that was trained for a few steps on the demonstration's model.
fn adapter(dir: &Path) -> PathBuf {
    adapter_with(dir, &[])
}

fn adapter_with(dir: &Path, set: &[&str]) -> PathBuf {
    let set: Vec<String> = set.iter().map(ToString::to_string).collect();
    trained(dir, "sequence", &texts(dir, ["a", "b"]), &set)
}

/// Texts of two labels.
fn texts(dir: &Path, [a, b]: [&str; 2]) -> PathBuf {
    let data = dir.join("train.tsv");
    let rows = format!("the film was good\t{a}\na sad play\t{b}\n").repeat(6);
    std::fs::write(&data, format!("text\tlabel\n{rows}")).unwrap();
    data
}

fn trained(dir: &Path, task: &str, data: &Path, set: &[String]) -> PathBuf {
    let text = format!(
        "task = {task:?}\nmodel.path = {:?}\ndata.train = {data:?}\n\
         data.validation = {data:?}\ndata.cache = false\ntrain.epochs = 1\n",
        base()
    );
    let config = RunConfig::from_toml(&text, "", set).unwrap();
    let run = dir.join("run");
    train(&config, &run, &Device::flex(), &mut ()).unwrap();
    run.join("best")
}

/// A tagger that was trained for a few steps on the demonstration's model, and reads little.
fn tagger(dir: &Path) -> PathBuf {
    let data = dir.join("train.conll");
    let rows = "Ada B-PER\nmet O\nBob B-PER\n\n".repeat(6);
    std::fs::write(&data, rows).unwrap();
    trained(dir, "token", &data, &["data.max_length=64".into()])
}

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/demo/model")
}

fn service(adapter: &Path, limits: Limits) -> Arc<Service> {
    let adapters = [("texts".to_owned(), adapter.to_owned())];
    let (overrides, device) = (Overrides::default(), Device::flex());
    let models = Models::of_adapters(
        &base(),
        &adapters,
        &overrides,
        Answering::default(),
        &device,
        &mut (),
    )
    .unwrap();
    Arc::new(Service::start(models, limits, None).unwrap())
}

async fn predict(service: &Arc<Service>, texts: usize) -> Response {
    let inputs: Vec<_> = (0..texts)
        .map(|at| [format!("a very sad film {at}")])
        .collect();
    ask(service, Body::from(json!({ "inputs": inputs }).to_string())).await
}

async fn ask(service: &Arc<Service>, body: Body) -> Response {
    post(service, "/predict", "application/json", body).await
}

async fn post(service: &Arc<Service>, path: &str, kind: &str, body: Body) -> Response {
    let request = Request::post(path).header(header::CONTENT_TYPE, kind);
    let request = request.body(body).unwrap();
    router(service.clone()).oneshot(request).await.unwrap()
}

/// Asks for several answers at once, of which some have to come, and gives one that did not.
async fn one_refused(service: &Arc<Service>, texts: usize) -> Response {
    let ask = |_| {
        let service = service.clone();
        tokio::spawn(async move { predict(&service, texts).await })
    };
    let (mut answered, mut refused) = (0, None);
    for asked in (0..16).map(ask).collect::<Vec<_>>() {
        let response = asked.await.unwrap();
        match response.status() {
            StatusCode::OK => answered += 1,
            _ => refused = Some(response),
        }
    }
    assert!(answered > 0, "none was answered");
    refused.unwrap()
}

async fn code(response: Response) -> String {
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    body["error_type"].as_str().unwrap_or("none").to_owned()
}

/// The lines of a stream.
async fn lines_of(response: Response) -> Vec<Value> {
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let lines = body.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(test)
}

/// Answers that come at once say when to ask again where there is no room, and once there is room
/// again the same question is answered.
#[test]
fn a_full_queue_says_when_to_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = adapter(dir.path());
    let limits = Limits {
        max_batch_tokens: 1,
        max_queue_tokens: 1200,
        ..Limits::default()
    };
    let service = service(&adapter, limits);
    run(async {
        let refused = one_refused(&service, 100).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        let after = refused.headers()[header::RETRY_AFTER].to_str().unwrap();
        assert!(
            (1..=600).contains(&after.parse::<u64>().unwrap()),
            "{after}"
        );
        assert_eq!(code(refused).await, "queue_full");
        assert_eq!(predict(&service, 100).await.status(), StatusCode::OK);
        // More than the queue ever takes.
        let never = predict(&service, 1000).await;
        assert_eq!(never.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert!(never.headers().get(header::RETRY_AFTER).is_none());
        assert_eq!(code(never).await, "too_many_tokens");
    });
    service.stop();
}

#[test]
fn who_is_given_up_leaves_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = adapter(dir.path());
    let limits = Limits {
        max_batch_tokens: 1,
        timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let service = service(&adapter, limits);
    run(async {
        // A thousand passes take longer anywhere.
        let given_up = predict(&service, 1024).await;
        assert_eq!(given_up.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(given_up.headers()[header::RETRY_AFTER], "1");
        assert_eq!(code(given_up).await, "timeout");
        // The pass at hand ends, and nothing is left of the others.
        let since = std::time::Instant::now();
        loop {
            let request = Request::get("/metrics").body(Body::empty()).unwrap();
            let response = router(service.clone()).oneshot(request).await.unwrap();
            let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
            if String::from_utf8_lossy(&body).contains("ls_llama_queue_tokens 0\n") {
                break;
            }
            assert!(
                since.elapsed() < Duration::from_secs(5),
                "it is still in the queue"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(predict(&service, 1).await.status(), StatusCode::OK);
    });
    service.stop();
}

/// Else a reader that was too slow would take what it has for all.
#[test]
fn a_stream_that_nobody_reads_has_no_proper_end() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = adapter(dir.path());
    let limits = Limits {
        timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    let service = service(&adapter, limits);
    let stream = async || {
        let lines = "{\"text\": \"a sad film\"}\n".repeat(1000);
        let body = Body::from(lines);
        let response = post(&service, "/batch", "application/x-ndjson", body).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body()
    };
    run(async {
        let all = to_bytes(stream().await, 1 << 20).await.unwrap();
        assert_eq!(all.iter().filter(|byte| **byte == b'\n').count(), 1000);
        let slow = stream().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(to_bytes(slow, 1 << 20).await.is_err());
    });
    service.stop();
}

#[test]
fn more_requests_than_may_be_at_work_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = adapter(dir.path());
    let limits = Limits {
        max_batch_tokens: 1,
        max_concurrent_requests: 1,
        ..Limits::default()
    };
    let service = service(&adapter, limits);
    run(async {
        let refused = one_refused(&service, 50).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
        assert_eq!(code(refused).await, "overloaded");
        assert_eq!(predict(&service, 50).await.status(), StatusCode::OK);
    });
    service.stop();
    // Stopped, it refuses; nobody waits for ever.
    run(async {
        let refused = predict(&service, 1).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(code(refused).await, "stopping");
    });
}

/// A text that a model cannot read is the request's fault, and no fault of the service.
#[test]
fn what_a_model_cannot_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let set = ["data.max_length=8", "data.long_inputs=window"];
    let adapter = adapter_with(dir.path(), &set);
    let service = service(&adapter, Limits::default());
    run(async {
        let long = "a very sad film ".repeat(8);
        let one = json!({ "inputs": [[long]] }).to_string();
        assert_eq!(
            ask(&service, Body::from(one)).await.status(),
            StatusCode::OK
        );
        let pair = json!({ "inputs": [[long, "b"]] }).to_string();
        let refused = ask(&service, Body::from(pair)).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(code(refused).await, "value");
    });
    service.stop();
}

#[test]
fn large_bodies_that_are_slow_keep_no_small_one_out() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = adapter(dir.path());
    let service = service(&adapter, Limits::default());
    run(async {
        // Bodies that are large and have no end, and as many of which nothing comes.
        let slow = |at: usize| {
            let service = service.clone();
            let begun = vec![b' '; if at.is_multiple_of(2) { 1 << 17 } else { 0 }];
            let begun = once(ready(Ok::<_, std::io::Error>(begun)));
            let body = Body::from_stream(begun.chain(pending()));
            tokio::spawn(async move { ask(&service, body).await })
        };
        let mut waiting: Vec<_> = (0..128).map(slow).collect();
        let since = std::time::Instant::now();
        let large = || {
            let text = "a very sad film ".repeat(1 << 13);
            ask(&service, Body::from(json!({ "inputs": text }).to_string()))
        };
        let refused = loop {
            let response = large().await;
            if response.status() != StatusCode::OK {
                break response;
            }
            // It had the place of one that came meanwhile.
            waiting.push(slow(0));
            assert!(since.elapsed() < Duration::from_secs(30), "all are taken");
        };
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
        assert_eq!(code(refused).await, "overloaded");
        assert_eq!(predict(&service, 1).await.status(), StatusCode::OK);
        // Those that do not go on make way for who sends.
        while large().await.status() != StatusCode::OK {
            assert!(since.elapsed() < Duration::from_secs(30), "none made way");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut made_way = 0;
        for one in waiting {
            if !one.is_finished() {
                one.abort();
                continue;
            }
            let response = one.await.unwrap();
            // It came while all places were taken.
            if response.status() == StatusCode::TOO_MANY_REQUESTS {
                continue;
            }
            assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
            assert_eq!(code(response).await, "body");
            made_way += 1;
        }
        assert!(made_way > 0);
    });
    service.stop();
}

/// It is the fault of who sends it, and no reason to ask again.
#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = adapter(dir.path());
    let limits = Limits {
        timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    let service = service(&adapter, limits);
    run(async {
        let begun = once(ready(Ok::<_, std::io::Error>("{\"inputs\": ")));
        let refused = ask(&service, Body::from_stream(begun.chain(pending()))).await;
        assert_eq!(refused.status(), StatusCode::REQUEST_TIMEOUT);
        assert!(refused.headers().get(header::RETRY_AFTER).is_none());
        assert_eq!(code(refused).await, "body");
    });
    service.stop();
}

#[test]
fn answers_that_nobody_takes_do_not_fill_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["a", "b"].map(|name| name.repeat(1 << 12));
    let data = texts(dir.path(), [&names[0], &names[1]]);
    let adapter = trained(dir.path(), "sequence", &data, &[]);
    let service = service(&adapter, Limits::default());
    run(async {
        let mut kept = Vec::new();
        for _ in 0..64 {
            let answer = predict(&service, 10).await;
            assert_eq!(answer.status(), StatusCode::OK);
            let length = &answer.headers()[header::CONTENT_LENGTH];
            let length: usize = length.to_str().unwrap().parse().unwrap();
            assert!(length > 1 << 16, "{length}");
            kept.push(answer);
        }
        let refused = predict(&service, 10).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
        assert_eq!(code(refused).await, "overloaded");
        // Small ones are not kept out, and one that is taken makes room.
        assert_eq!(predict(&service, 1).await.status(), StatusCode::OK);
        let body = to_bytes(kept.remove(0).into_body(), 1 << 20).await.unwrap();
        let answers: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(answers.as_array().map(Vec::len), Some(10));
        assert_eq!(predict(&service, 10).await.status(), StatusCode::OK);
    });
    service.stop();
}

/// Those of a model that reads a few hundred tokens of each, too: they are in memory.
#[test]
fn more_words_than_the_queue_has_tokens_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = tagger(dir.path());
    let limits = Limits {
        max_queue_tokens: 1000,
        ..Limits::default()
    };
    let service = service(&adapter, limits);
    let ask = async |path: &str, kind: &str, body: String| {
        post(&service, path, kind, Body::from(body)).await
    };
    run(async {
        let ner = async |body: Value| ask("/ner", "application/json", body.to_string()).await;
        let of = |count: usize| json!({ "inputs": "Ada ".repeat(count) });
        // Three tokens each, read in windows that share some.
        assert_eq!(ner(of(200)).await.status(), StatusCode::OK);
        for many in [1001, 100_000] {
            let refused = ner(of(many)).await;
            assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE, "{many}");
            assert_eq!(code(refused).await, "too_many_tokens");
        }
        let list = json!({ "inputs": vec!["Ada"; 1001], "is_split_into_words": true });
        assert_eq!(code(ner(list).await).await, "too_many_tokens");

        // Of a stream such a line alone.
        let lines = [1, 1001, 2].map(|count| json!({ "text": "Ada ".repeat(count) }).to_string());
        let response = ask("/batch", "application/x-ndjson", lines.join("\n")).await;
        let found = lines_of(response).await;
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(found[0]["tokens"], json!(["Ada"]));
        assert_eq!(found[1]["error_type"], "too_many_tokens");
        assert_eq!(found[2]["tokens"], json!(["Ada", "Ada"]));
    });
    service.stop();
}

#[test]
fn a_line_is_no_longer_than_a_body() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = adapter(dir.path());
    let limits = Limits {
        max_body_bytes: 1000,
        ..Limits::default()
    };
    let service = service(&adapter, limits);
    run(async {
        let line = |bytes: usize| json!({ "text": "a".repeat(bytes) }).to_string();
        let body = [line(10), line(900), line(1000), line(10)].join("\n");
        // In pieces, as it would come over a connection, and at once.
        for size in [100, body.len()] {
            let pieces: Vec<_> = body.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
            let pieces = pieces.into_iter().map(Ok::<_, std::io::Error>);
            let body = Body::from_stream(futures_util::stream::iter(pieces));
            let response = post(&service, "/batch", "application/x-ndjson", body).await;
            let found = lines_of(response).await;
            assert_eq!(found.len(), 3, "{size}: {found:?}");
            assert!(found[0]["label"].is_string() && found[1]["label"].is_string());
            assert_eq!(found[2]["error_type"], "body");
            let error = found[2]["error"].as_str().unwrap();
            assert!(error.contains("a line has more than 1000 bytes"), "{error}");
        }
    });
    service.stop();
}

/// What can be seen to be refused is not computed first.
#[test]
fn what_is_refused_is_not_computed() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = adapter_with(dir.path(), &["data.max_length=8"]);
    let service = service(&adapter, Limits::default());
    run(async {
        let long = "a very sad film ".repeat(8);
        for (body, error_type) in [
            (json!({ "inputs": [["a film"], [" "]] }), "empty_input"),
            (
                json!({ "inputs": [["a film"], [long]], "truncate": false }),
                "value",
            ),
        ] {
            let refused = ask(&service, Body::from(body.to_string())).await;
            assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
            assert_eq!(code(refused).await, error_type);
        }
        let many = vec![["a"]; Limits::default().max_client_batch_size + 1];
        let refused = ask(&service, Body::from(json!({ "inputs": many }).to_string())).await;
        assert_eq!(code(refused).await, "too_many_inputs");
        let request = Request::get("/metrics").body(Body::empty()).unwrap();
        let metrics = router(service.clone()).oneshot(request).await.unwrap();
        let metrics = to_bytes(metrics.into_body(), 1 << 20).await.unwrap();
        let metrics = String::from_utf8_lossy(&metrics);
        assert!(metrics.contains("ls_llama_inputs_total 0\n"), "{metrics}");
    });
    service.stop();
}

/// A service of somebody's own has it under a name, and answers for itself beside it.
#[test]
fn a_router_is_nested_in_another() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = adapter(dir.path());
    let limits = Limits {
        max_concurrent_requests: usize::MAX,
        ..Limits::default()
    };
    let service = service(&adapter, limits);
    let host = Router::new()
        .route("/", get(|| async { "a host" }))
        .nest("/llm/", router(service.clone()))
        .fallback(|| async { (StatusCode::NOT_FOUND, "of the host") });
    run(async {
        let text = async |request: Request<Body>| {
            let response = host.clone().oneshot(request).await.unwrap();
            let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
            String::from_utf8_lossy(&body).into_owned()
        };
        let of = |path: &str| Request::get(path).body(Body::empty()).unwrap();
        assert_eq!(text(of("/")).await, "a host");
        assert_eq!(text(of("/elsewhere")).await, "of the host");
        assert!(text(of("/llm/")).await.contains("<title>Try it"));
        assert!(text(of("/llm/docs")).await.contains("<title>"));
        assert!(text(of("/llm/nowhere")).await.contains("\"not_found\""));
        for path in ["/llm/predict", "/llm/models/texts/predict"] {
            let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
            let body = json!({ "inputs": "a sad film" }).to_string();
            let answer = text(request.body(Body::from(body)).unwrap()).await;
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(answer.as_array().map(Vec::len), Some(2), "{answer}");
        }
    });
    service.stop();
}
