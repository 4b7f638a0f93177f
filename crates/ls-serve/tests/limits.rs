//! What a service refuses because it is too much or takes too long, and that nothing of it stays.

// clippy.toml allows it in the tests themselves only, not in what they share.
#![allow(clippy::unwrap_used)]

use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
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
    let data = dir.join("train.tsv");
    let rows = "text\tlabel\nthe film was good\ta\na sad play\tb\n".repeat(6);
    std::fs::write(&data, rows).unwrap();
    let text = format!(
        "task = \"sequence\"\nmodel.path = {:?}\ndata.train = {data:?}\n\
         data.validation = {data:?}\ndata.cache = false\ntrain.epochs = 1\n",
        base()
    );
    let config = RunConfig::from_toml(&text, "", &set).unwrap();
    let run = dir.join("run");
    train(&config, &run, &Device::flex(), &mut ()).unwrap();
    run.join("best")
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
    let request = Request::post("/predict").header(header::CONTENT_TYPE, "application/json");
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
        timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let service = service(&adapter, limits);
    run(async {
        let given_up = predict(&service, 1024).await;
        if given_up.status() == StatusCode::OK {
            // A machine on which a thousand passes take less.
            return;
        }
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
        let request = Request::post("/batch").header(header::CONTENT_TYPE, "application/x-ndjson");
        let request = request.body(Body::from(lines)).unwrap();
        let response = router(service.clone()).oneshot(request).await.unwrap();
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
        for one in waiting {
            one.abort();
            let _ = one.await;
        }
        assert_eq!(large().await.status(), StatusCode::OK);
    });
    service.stop();
}
