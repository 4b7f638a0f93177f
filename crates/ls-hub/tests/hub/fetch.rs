//! Fetching from a Hub on loopback: what is asked, what arrives, and everything that can go wrong
//! on the way.
//!
//! Over 700 lines because each case is a request and its answer, told in full.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ls_hub::fetch::{Event, Fetcher};
use ls_hub::{Cache, Files, HubError, RepoKind};
use serde_json::json;

use crate::server::*;

/// Bytes of a file that went out of the second server, in all requests.
fn sent(hub: &LoopbackHub, file: &RepoFile) -> usize {
    let path = format!("/store/{}", file.sha256());
    let log = hub.downloads();
    log.iter()
        .filter(|request| request.path == path)
        .map(|request| request.sent)
        .sum()
}

/// Bytes of files, those with the same content counted once.
fn size(hub: &LoopbackHub, paths: &[impl AsRef<str>]) -> u64 {
    let files = paths.iter().map(|path| hub.file(path.as_ref()));
    let sizes: BTreeMap<String, usize> = files.map(|file| (file.id(), file.bytes.len())).collect();
    sizes.values().sum::<usize>() as u64
}

fn ranges(hub: &LoopbackHub) -> Vec<Option<String>> {
    let log = hub.downloads();
    log.iter()
        .map(|request| request.header("range").map(String::from))
        .collect()
}

#[test]
fn a_model_is_fetched_as_python_has_it_and_no_more_of_it_than_is_needed() {
    let hub = LoopbackHub::model(sharded());
    let fetched = hub.fetch().unwrap();
    let mut files = fetched.files.clone();
    files.sort();
    let expected = [
        "config.json",
        SHARD_1,
        SHARD_2,
        "model.safetensors.index.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
    ];
    assert_eq!(files, expected);
    assert_eq!(fetched.commit, COMMIT);
    let repo = hub.repo_dir();
    assert_eq!(fetched.path, repo.join("snapshots").join(COMMIT));

    assert_eq!(fetched.bytes_downloaded, size(&hub, &expected));
    for path in expected {
        let file = hub.file(path);
        let found = std::fs::read(fetched.path.join(path)).unwrap();
        assert_eq!(found, file.bytes, "{path}");
        let link = std::fs::read_link(fetched.path.join(path)).unwrap();
        assert_eq!(link, Path::new("../../blobs").join(file.id()));
    }
    assert_eq!(
        std::fs::read_to_string(repo.join("refs/main")).unwrap(),
        COMMIT
    );
    // Three of the small files are the same, so they are one blob. Nothing else is left lying
    // about.
    let mut blobs: Vec<String> = expected.iter().map(|path| hub.file(path).id()).collect();
    blobs.sort();
    blobs.dedup();
    assert_eq!(listing(&repo.join("blobs")), blobs);
    assert_eq!(listing(&repo.join("refs")), ["main"]);
    let locks = blobs.iter().map(|blob| format!("{blob}.lock"));
    let locks_dir = hub.cache.path().join(".locks/models--org--name");
    assert_eq!(listing(&locks_dir), locks.collect::<Vec<_>>());
    assert_eq!(listing(&repo).len(), blobs.len() + 1 + expected.len());

    let at = "org/name".parse().unwrap();
    let cache = Cache::new(hub.cache.path());
    let found = cache.find(RepoKind::Model, &at, &Files::Weights);
    assert_eq!(found.unwrap(), Some(fetched.path));
}

#[test]
fn a_name_is_resolved_by_fetching_it_only_where_that_is_asked_for() {
    let hub = LoopbackHub::model(sharded());
    let settings = hub.settings();
    let unheard: ls_hub::Progress<'_> = &|_| ();
    let resolve = |download: bool| {
        let download = download.then_some(unheard);
        ls_hub::resolve_model_with(Path::new("org/name"), download, &settings)
    };
    let error = resolve(false).unwrap_err();
    let command = "cargo xtask fetch-weights org/name";
    assert!(
        error.is_usage() && error.to_string().contains(command),
        "{error}"
    );
    assert!(hub.log().is_empty());
    let snapshot = hub.repo_dir().join("snapshots").join(COMMIT);
    assert_eq!(resolve(true).unwrap(), snapshot);
    // From now on the cache has it.
    let asked = hub.log().len();
    assert_eq!(resolve(false).unwrap(), snapshot);
    assert_eq!(resolve(true).unwrap(), snapshot);
    assert_eq!(hub.log().len(), asked);
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let hub = LoopbackHub::model(sharded());
    let first = hub.fetch().unwrap();
    let before = hub.log().len();
    let again = hub.fetch().unwrap();
    assert_eq!(again.path, first.path);
    assert_eq!(again.bytes_downloaded, 0);
    let asked: Vec<String> = hub.log()[before..]
        .iter()
        .map(|request| request.path.clone())
        .collect();
    let tree = format!("/api/models/org/name/tree/{COMMIT}");
    let expected = ["/api/models/org/name/revision/main".to_string()];
    assert_eq!(asked[..1], expected);
    assert!(asked[1..].iter().all(|path| *path == tree), "{asked:?}");

    // A commit never changes: nothing is asked at all.
    let before = hub.log().len();
    let request = hub.request(&format!("org/name@{COMMIT}"), Files::Weights);
    let pinned = hub.fetcher().fetch(&request, &|_| {}).unwrap();
    assert_eq!((pinned.path, pinned.commit.as_str()), (first.path, COMMIT));
    assert_eq!(hub.log().len(), before);
}

#[test]
fn a_pinned_commit_needs_no_branch() {
    let hub = LoopbackHub::model(single(noise(1000, 1)));
    let request = hub.request(&format!("org/name@{COMMIT}"), Files::Weights);
    hub.fetcher().fetch(&request, &|_| {}).unwrap();
    assert!(!hub.repo_dir().join("refs").exists());
    assert!(
        hub.log()
            .iter()
            .all(|request| !request.path.contains("/revision/"))
    );
}

#[test]
fn a_blob_of_the_wrong_size_is_fetched_anew() {
    let hub = LoopbackHub::model(single(noise(1000, 1)));
    let fetched = hub.fetch().unwrap();
    let weights = hub.file("model.safetensors");
    std::fs::write(hub.repo_dir().join("blobs").join(weights.id()), "short").unwrap();
    assert_eq!(hub.fetch().unwrap().bytes_downloaded, 1000);
    assert_eq!(
        std::fs::read(fetched.path.join("model.safetensors")).unwrap(),
        weights.bytes
    );
}

/// A kill while a link took the place of another thing, a day ago.
#[cfg(unix)]
#[test]
fn what_stands_in_a_links_place_is_replaced_and_a_link_that_a_kill_left_goes() {
    use std::os::unix::fs::symlink;
    let hub = LoopbackHub::model(single(noise(1000, 1)));
    let fetched = hub.fetch().unwrap();
    let blobs = hub.repo_dir().join("blobs");
    let whole = listing(&blobs);
    let left = blobs.join(".tmp-0123456789abcdef");
    symlink("gone", &left).unwrap();
    let mut touch = std::process::Command::new("touch");
    let touched = touch.args(["-h", "-t", "202001010000"]).arg(&left).status();
    assert!(touched.unwrap().success());
    let config = fetched.path.join("config.json");
    for wrong in [None, Some("short"), Some("")] {
        std::fs::remove_file(&config).unwrap();
        match wrong {
            Some(bytes) => std::fs::write(&config, bytes).unwrap(),
            None => symlink("../../blobs/gone", &config).unwrap(),
        }
        assert_eq!(hub.fetch().unwrap().bytes_downloaded, 0);
        let file = hub.file("config.json");
        assert_eq!(
            std::fs::read_link(&config).unwrap(),
            Path::new("../../blobs").join(file.id())
        );
        assert_eq!(listing(&blobs), whole);
    }
}

/// As Python leaves it where links are not to be had: the snapshot has the file, and there is no
/// blob.
#[test]
fn a_file_that_stands_in_the_snapshot_itself_is_not_fetched_again() {
    let hub = LoopbackHub::model(single(noise(1000, 1)));
    let fetched = hub.fetch().unwrap();
    let blobs = hub.repo_dir().join("blobs");
    for file in ["config.json", "model.safetensors"] {
        let place = fetched.path.join(file);
        std::fs::remove_file(&place).unwrap();
        std::fs::rename(blobs.join(hub.file(file).id()), &place).unwrap();
    }
    assert_eq!(hub.fetch().unwrap().bytes_downloaded, 0);
    assert!(
        fetched
            .path
            .join("model.safetensors")
            .metadata()
            .unwrap()
            .is_file()
    );
    assert!(!blobs.join(hub.file("model.safetensors").id()).exists());
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let hub = LoopbackHub::model(sharded());
    let mut fetcher = hub.fetcher();
    fetcher.settings.token = Some("hf_secret".into());
    hub.fetch_with(&fetcher).unwrap();
    let log = hub.log();
    let (to_store, to_hub): (Vec<&Request>, Vec<&Request>) =
        log.iter().partition(|request| request.to_store);
    // Listings come in pages, whose links lead to the other server.
    assert!(
        to_hub
            .iter()
            .any(|request| request.query.contains("cursor="))
    );
    assert_eq!(to_store.len(), 3);
    for request in to_hub {
        assert_eq!(
            request.header("authorization"),
            Some("Bearer hf_secret"),
            "{request:?}"
        );
    }
    for request in to_store {
        assert_eq!(request.header("authorization"), None, "{request:?}");
        assert!(!format!("{request:?}").contains("hf_secret"));
    }
}

#[test]
fn without_a_token_none_is_sent() {
    let hub = LoopbackHub::model(single(noise(1000, 1)));
    hub.fetch().unwrap();
    assert!(
        hub.log()
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
}

/// The message when requests whose path holds `part` are refused.
fn refused(part: &'static str, token: Option<&str>, answer: Answer) -> String {
    let script = move |request: &Request| request.path.contains(part).then(|| answer.clone());
    let hub = LoopbackHub::start(RepoKind::Model, single(noise(1000, 1)), script);
    let mut fetcher = hub.fetcher();
    fetcher.settings.token = token.map(String::from);
    let message = hub.fetch_with(&fetcher).unwrap_err().to_string();
    // A refusal is final: nothing is asked twice.
    let log = hub.log();
    let refused = log.iter().filter(|request| request.path.contains(part));
    let mut seen: Vec<(&str, &str)> = refused
        .map(|r| (r.method.as_str(), r.path.as_str()))
        .collect();
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count, "{message}");
    message
}

#[test]
fn a_gated_model_says_what_to_accept_where() {
    let gated = |status, token| {
        let answer = Answer::refusal(
            status,
            "GatedRepo",
            "Access to model org/name is restricted.",
        );
        refused("/resolve/", token, answer)
    };
    let message = gated(401, None);
    assert!(message.starts_with("org/name: gated: accept the licence at https://huggingface.co/org/name, then set HF_TOKEN"), "{message}");
    assert!(message.contains("hf auth login"), "{message}");
    let message = gated(403, Some("hf_x"));
    assert!(
        message.contains(
            "no access yet: accept the licence at https://huggingface.co/org/name with the account"
        ),
        "{message}"
    );
}

#[test]
fn a_token_that_the_hub_does_not_take_is_named() {
    let answer = Answer::refusal(401, "", "Invalid credentials in Authorization header");
    let message = refused("/revision/", Some("hf_x"), answer);
    assert!(
        message.starts_with("org/name: the Hub does not take this token"),
        "{message}"
    );
}

#[test]
fn a_refusal_for_another_reason_says_what_the_hub_says() {
    let answer = Answer::refusal(403, "", "Your IP is blocked.");
    let message = refused("/tree/", None, answer);
    assert_eq!(message, "org/name: access refused: Your IP is blocked.");
}

#[test]
fn a_missing_repository_revision_and_file_are_told_apart() {
    // As the Hub answers whoever sends no token, and whoever does.
    let answer = Answer::refusal(401, "RepoNotFound", "Invalid username or password.");
    let message = refused("/revision/", None, answer);
    assert!(
        message
            .starts_with("org/name: no such model on the Hub, or a private one (no token was sent"),
        "{message}"
    );
    let answer = Answer::refusal(404, "RepoNotFound", "Repository not found");
    let message = refused("/revision/", Some("hf_x"), answer);
    assert_eq!(
        message,
        "org/name: no such model on the Hub, or a private one"
    );

    let hub = LoopbackHub::model(single(noise(1000, 1)));
    let error = |at: &str, files: Files| {
        let request = hub.request(at, files);
        hub.fetcher()
            .fetch(&request, &|_| {})
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error("org/name@v9", Files::Weights),
        "org/name: no branch, tag or commit `v9`"
    );
    let commit = format!("org/name@{}", "f".repeat(40));
    assert!(error(&commit, Files::Weights).starts_with("org/name: no branch, tag or commit `fff"));
    let file = Files::Named(vec!["tokeniser.json".into()]);
    assert_eq!(
        error("org/name", file),
        "org/name: no file `tokeniser.json`; did you mean `tokenizer.json`?"
    );
}

#[test]
fn a_server_that_gives_no_reasons_is_asked_again() {
    // Only the revision is missing.
    let hub = LoopbackHub::start(RepoKind::Model, single(vec![]), |request| {
        request
            .path
            .contains("/revision/")
            .then(|| Answer::new(404, "not found"))
    });
    assert_eq!(hub.error(), "org/name: no branch, tag or commit `main`");
    // Everything is.
    let hub = LoopbackHub::start(RepoKind::Model, vec![], |_| {
        Some(Answer::new(404, "not found"))
    });
    assert!(
        hub.error()
            .starts_with("org/name: no such model on the Hub")
    );
}

#[test]
fn a_misspelt_repository_comes_with_the_nearest_known_one() {
    let hub = LoopbackHub::model(vec![]);
    let request = hub.request("meta-llama/Llama-2-7b", Files::Weights);
    let message = hub
        .fetcher()
        .fetch(&request, &|_| {})
        .unwrap_err()
        .to_string();
    assert!(
        message.ends_with("; did you mean `meta-llama/Llama-2-7b-hf`?"),
        "{message}"
    );
}

#[test]
fn too_many_requests_wait_for_as_long_as_the_hub_asks() {
    let hub = LoopbackHub::start(RepoKind::Model, single(noise(1000, 1)), |request| {
        let first = request.nth == 0 && request.method == "GET" && !request.to_store;
        first.then(|| Answer::refusal(429, "", "slow down").with("Retry-After", 1))
    });
    let waits = Mutex::new(Vec::new());
    let start = Instant::now();
    let request = hub.request("org/name", Files::Weights);
    let show = |event: Event<'_>| {
        if let Event::Retrying { wait, error } = event {
            assert!(error.to_string().contains("429"), "{error}");
            waits.lock().unwrap().push(wait);
        }
    };
    hub.fetcher().fetch(&request, &show).unwrap();
    let waits = waits.into_inner().unwrap();
    // The commit, the listing and three files; the files at the same time.
    assert_eq!(waits, [Duration::from_secs(1); 5]);
    assert!(start.elapsed() >= Duration::from_secs(3));
}

#[test]
fn a_pause_that_is_too_long_is_reported_instead() {
    let answer = Answer::new(429, "").with("Retry-After", 3600);
    let message = refused("/tree/", None, answer);
    assert!(message.contains("wait for 3600 s"), "{message}");
    assert!(
        message.ends_with("with a token the limits are higher"),
        "{message}"
    );
}

#[test]
fn errors_of_the_server_are_tried_again_and_then_reported() {
    for status in [500, 502, 503, 504, 408] {
        let hub = LoopbackHub::start(RepoKind::Model, single(noise(1000, 1)), move |request| {
            (request.nth < 1).then(|| Answer::new(status, "busy"))
        });
        hub.fetch().unwrap();
    }
    let hub = LoopbackHub::start(RepoKind::Model, single(noise(1000, 1)), |request| {
        request
            .to_store
            .then(|| Answer::refusal(503, "", "maintenance"))
    });
    let message = hub.error();
    assert!(
        message.starts_with("org/name: model.safetensors: the Hub answered 503"),
        "{message}"
    );
    assert!(
        message.contains("gave up after 6 attempts in a row"),
        "{message}"
    );
    assert!(message.contains("goes on from there"), "{message}");
    let log = hub.log();
    assert_eq!(log.iter().filter(|request| request.to_store).count(), 6);
}

#[test]
fn a_hub_that_is_not_there_is_reported_after_some_attempts() {
    let hub = LoopbackHub::model(vec![]);
    let mut fetcher = hub.fetcher();
    // Nothing listens on the port of discarded packets.
    fetcher.settings.endpoint = "http://127.0.0.1:9".into();
    let message = hub.fetch_with(&fetcher).unwrap_err().to_string();
    assert!(
        message.starts_with("org/name: commit of main: no connection to 127.0.0.1: "),
        "{message}"
    );
    assert!(
        message.to_lowercase().contains("connection refused"),
        "{message}"
    );
    assert!(message.contains("gave up after 6 attempts"), "{message}");
    for endpoint in ["huggingface.co", "localhost:80", "file:///x", ""] {
        fetcher.settings.endpoint = endpoint.into();
        let message = hub.fetch_with(&fetcher).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("HF_ENDPOINT: `{endpoint}` is no address")),
            "{message}"
        );
    }
}

#[test]
fn a_cut_in_the_middle_of_a_shard_goes_on_at_the_byte_where_it_happened() {
    let hub = LoopbackHub::start(RepoKind::Model, sharded(), |request| {
        let shard = sharded()
            .into_iter()
            .find(|file| file.path == SHARD_1)
            .unwrap();
        let is_shard = request.method == "GET" && request.path.ends_with(&shard.sha256());
        (is_shard && request.nth == 0).then(|| ranged(request, &shard.bytes).cut(123_456))
    });
    let fetched = hub.fetch().unwrap();
    let shard = hub.file(SHARD_1);
    assert_eq!(
        std::fs::read(fetched.path.join(SHARD_1)).unwrap(),
        shard.bytes
    );
    // Every byte came once.
    assert_eq!(sent(&hub, shard), shard.bytes.len());
    let requests: Vec<Request> = hub
        .downloads()
        .into_iter()
        .filter(|r| r.path.ends_with(&shard.sha256()))
        .collect();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].header("range"), None);
    assert_eq!(requests[1].header("range"), Some("bytes=123456-299999"));
    assert_eq!(fetched.bytes_downloaded, size(&hub, &fetched.files));
}

#[test]
fn a_connection_that_breaks_more_often_than_there_are_attempts_still_brings_the_file() {
    let weights = noise(100_000, 1);
    let script = {
        let weights = weights.clone();
        move |request: &Request| {
            let is_file = request.to_store && request.method == "GET";
            is_file.then(|| ranged(request, &weights)).map(|answer| {
                let len = answer.body.len();
                answer.cut(len.min(7_000))
            })
        }
    };
    let hub = LoopbackHub::start(RepoKind::Model, single(weights), script);
    let fetched = hub.fetch().unwrap();
    assert_eq!(hub.downloads().len(), 15);
    assert_eq!(sent(&hub, hub.file("model.safetensors")), 100_000);
    assert_eq!(fetched.bytes_downloaded, 100_000 + 6);
}

#[test]
fn a_download_that_was_given_up_is_continued_by_the_next_call() {
    let weights = noise(100_000, 1);
    let script = {
        let weights = weights.clone();
        move |request: &Request| {
            let is_file = request.to_store && request.method == "GET";
            (is_file && request.nth < 6).then(|| match request.nth {
                0 => ranged(request, &weights).cut(60_000),
                _ => Answer::new(503, ""),
            })
        }
    };
    let hub = LoopbackHub::start(RepoKind::Model, single(weights), script);
    let message = hub.error();
    assert!(message.contains("gave up after 6 attempts"), "{message}");
    let weights = hub.file("model.safetensors");
    let incomplete = hub
        .repo_dir()
        .join(format!("blobs/{}.incomplete", weights.id()));
    assert_eq!(std::fs::metadata(&incomplete).unwrap().len(), 60_000);
    // A branch whose files are not all there is not noted.
    assert!(!hub.repo_dir().join("refs/main").exists());

    let present = Mutex::new(Vec::new());
    let request = hub.request("org/name", Files::Weights);
    let show = |event: Event<'_>| match event {
        Event::Started { present: bytes, .. } => present.lock().unwrap().push(bytes),
        Event::Plan { missing, bytes, .. } => assert_eq!((missing, bytes), (40_000, 100_006)),
        _ => {}
    };
    let fetched = hub.fetcher().fetch(&request, &show).unwrap();
    assert_eq!(present.into_inner().unwrap(), [60_000]);
    assert_eq!(fetched.bytes_downloaded, 40_000);
    assert_eq!(
        ranges(&hub).last().unwrap().as_deref(),
        Some("bytes=60000-99999")
    );
    assert_eq!(sent(&hub, weights), 100_000);
    assert!(!incomplete.exists());
}

#[test]
fn a_server_that_knows_no_ranges_still_brings_the_file() {
    let weights = noise(100_000, 1);
    let script = {
        let weights = weights.clone();
        move |request: &Request| {
            let answer = Answer::new(200, weights.clone());
            let is_file = request.to_store && request.method == "GET";
            is_file.then(|| {
                if request.nth == 0 {
                    answer.cut(30_000)
                } else {
                    answer
                }
            })
        }
    };
    let hub = LoopbackHub::start(RepoKind::Model, single(weights.clone()), script);
    let fetched = hub.fetch().unwrap();
    assert_eq!(
        std::fs::read(fetched.path.join("model.safetensors")).unwrap(),
        weights
    );
    assert_eq!(ranges(&hub), [None, Some("bytes=30000-99999".into())]);
}

/// It hands out the bytes itself, and says of a part how long the whole is.
#[test]
fn a_mirror_that_names_the_size_of_the_whole_beside_a_part_brings_the_file() {
    let weights = noise(100_000, 1);
    let script = {
        let weights = weights.clone();
        move |request: &Request| {
            if !request
                .path
                .ends_with("/resolve/00112233445566778899aabbccddeeff00112233/model.safetensors")
            {
                return None;
            }
            let answer = ranged(request, &weights).with("X-Linked-Size", weights.len());
            Some(match request.header("range") {
                None => answer.cut(30_000),
                Some("bytes=30000-99999") => answer.cut(30_000),
                Some(_) => answer,
            })
        }
    };
    let hub = LoopbackHub::start(RepoKind::Model, single(weights.clone()), script);
    let fetched = hub.fetch().unwrap();
    let found = std::fs::read(fetched.path.join("model.safetensors")).unwrap();
    assert_eq!(found, weights);
    assert!(hub.downloads().is_empty());
}

#[test]
fn a_part_that_is_not_the_one_that_was_asked_for_is_no_part_of_the_file() {
    for (range, says) in [
        (
            "bytes 40000-99999/100000",
            "expected byte 30000 and what follows, found 40000",
        ),
        (
            "pages 1-2/3",
            "expected the range of a part, found \"pages 1-2/3\"",
        ),
    ] {
        let weights = noise(100_000, 1);
        let script = {
            let weights = weights.clone();
            move |request: &Request| {
                let is_file = request.to_store && request.method == "GET";
                is_file.then(|| match request.header("range") {
                    None => ranged(request, &weights).cut(30_000),
                    Some(_) => Answer::new(206, &weights[40_000..]).with("Content-Range", range),
                })
            }
        };
        let hub = LoopbackHub::start(RepoKind::Model, single(weights), script);
        let message = hub.error();
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn silence_counts_as_a_cut() {
    let weights = noise(50_000, 1);
    let script = {
        let weights = weights.clone();
        move |request: &Request| {
            let is_file = request.to_store && request.method == "GET" && request.nth == 0;
            is_file.then(|| Answer {
                stall: Some(Duration::from_secs(20)),
                ..ranged(request, &weights)
            })
        }
    };
    let hub = LoopbackHub::start(RepoKind::Model, single(weights), script);
    let mut fetcher = hub.fetcher();
    fetcher.silence = Duration::from_millis(300);
    let start = Instant::now();
    hub.fetch_with(&fetcher).unwrap();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(ranges(&hub), [None, Some("bytes=49999-49999".into())]);
}

#[test]
fn a_wrong_hash_is_reported_and_nothing_of_the_file_is_kept() {
    let wrong = noise(10_000, 2);
    let script = move |request: &Request| {
        let is_file = request.to_store && request.method == "GET";
        is_file.then(|| ranged(request, &wrong))
    };
    let hub = LoopbackHub::start(RepoKind::Model, single(noise(10_000, 1)), script);
    let message = hub.error();
    let weights = hub.file("model.safetensors");
    assert!(
        message.starts_with("org/name: model.safetensors: found SHA-256 "),
        "{message}"
    );
    assert!(
        message.contains(&format!("expected {}", weights.sha256())),
        "{message}"
    );
    let blobs = listing(&hub.repo_dir().join("blobs"));
    assert!(
        blobs
            .iter()
            .all(|blob| !blob.starts_with(&weights.sha256())),
        "{blobs:?}"
    );
    assert!(
        !hub.repo_dir()
            .join("snapshots")
            .join(COMMIT)
            .join("model.safetensors")
            .exists()
    );
    assert_eq!(hub.downloads().len(), 1);
}

#[test]
fn small_files_are_checked_too() {
    let script = |request: &Request| {
        let is_config = request.method == "GET" && request.path.ends_with("/config.json");
        is_config.then(|| Answer::new(200, "[]\n"))
    };
    let hub = LoopbackHub::start(RepoKind::Model, single(noise(1000, 1)), script);
    let message = hub.error();
    assert!(
        message.starts_with("org/name: config.json: found git SHA-1 "),
        "{message}"
    );
    assert!(
        message.contains(&hub.file("config.json").git()),
        "{message}"
    );
}

#[test]
fn an_answer_of_another_length_is_reported() {
    for len in [900, 1100] {
        let script = move |request: &Request| {
            let is_file = request.to_store && request.method == "GET";
            is_file.then(|| Answer::new(200, noise(len, 1)))
        };
        let hub = LoopbackHub::start(RepoKind::Model, single(noise(1000, 1)), script);
        let message = hub.error();
        assert!(
            message.contains(&format!("expected 1000 bytes, the answer has {len}")),
            "{message}"
        );
    }
}

#[test]
fn a_leftover_that_does_not_belong_to_the_file_is_fetched_anew() {
    // Too long, of the right length, too short.
    for len in [20_000, 10_000, 4_000] {
        let hub = LoopbackHub::model(single(noise(10_000, 1)));
        let weights = hub.file("model.safetensors");
        let blobs = hub.repo_dir().join("blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(
            blobs.join(format!("{}.incomplete", weights.id())),
            noise(len, 9),
        )
        .unwrap();
        let restarts = Mutex::new(0);
        let request = hub.request("org/name", Files::Weights);
        let show = |event: Event<'_>| {
            if let Event::Restarted { file } = event {
                assert_eq!(file, "model.safetensors");
                *restarts.lock().unwrap() += 1;
            }
        };
        let fetched = hub.fetcher().fetch(&request, &show).unwrap();
        let found = std::fs::read(fetched.path.join("model.safetensors")).unwrap();
        assert_eq!(found, weights.bytes);
        assert_eq!(*restarts.lock().unwrap(), usize::from(len <= 10_000));
    }
}

#[test]
fn a_leftover_is_thrown_away_once_only() {
    let wrong = noise(10_000, 2);
    let script = move |request: &Request| {
        let is_file = request.to_store && request.method == "GET";
        is_file.then(|| ranged(request, &wrong).cut([3_000, 7_000][request.nth % 2]))
    };
    let hub = LoopbackHub::start(RepoKind::Model, single(noise(10_000, 1)), script);
    let message = hub.error();
    assert!(message.contains("found SHA-256"), "{message}");
    // Twice in two pieces.
    assert_eq!(hub.downloads().len(), 4);
}

#[test]
fn another_process_that_fetches_is_waited_for() {
    let hub = LoopbackHub::model(single(noise(10_000, 1)));
    let weights = hub.file("model.safetensors");
    let locks = hub.cache.path().join(".locks/models--org--name");
    std::fs::create_dir_all(&locks).unwrap();
    let lock = locks.join(format!("{}.lock", weights.id()));
    let held = std::fs::File::create(&lock).unwrap();
    held.lock().unwrap();

    let waited = Mutex::new(Vec::new());
    let show = |event: Event<'_>| {
        if let Event::Waiting { file, lock } = event {
            waited
                .lock()
                .unwrap()
                .push((file.to_string(), lock.to_path_buf()));
        }
    };
    let start = Instant::now();
    let fetched = std::thread::scope(|scope| {
        let fetching = scope.spawn(|| {
            let request = hub.request("org/name", Files::Weights);
            hub.fetcher().fetch(&request, &show).unwrap()
        });
        std::thread::sleep(Duration::from_millis(700));
        assert!(!fetching.is_finished());
        // What the other one does before it lets go.
        std::fs::write(
            hub.repo_dir().join("blobs").join(weights.id()),
            &weights.bytes,
        )
        .unwrap();
        drop(held);
        fetching.join().unwrap()
    });
    assert!(start.elapsed() >= Duration::from_millis(700));
    assert_eq!(
        *waited.lock().unwrap(),
        [("model.safetensors".to_string(), lock)]
    );
    assert!(hub.downloads().is_empty());
    assert_eq!(
        std::fs::read(fetched.path.join("model.safetensors")).unwrap(),
        weights.bytes
    );
}

#[test]
fn two_at_a_time_fetch_every_byte_once() {
    let hub = LoopbackHub::model(sharded());
    let fetched: Vec<u64> = std::thread::scope(|scope| {
        let both: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| hub.fetch().unwrap().bytes_downloaded))
            .collect();
        both.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for shard in [SHARD_1, SHARD_2] {
        let shard = hub.file(shard);
        assert_eq!(sent(&hub, shard), shard.bytes.len());
    }
    assert!(fetched.iter().sum::<u64>() >= 500_000);
}

#[test]
fn a_failure_ends_the_other_downloads() {
    let files = sharded();
    let [one, two] =
        [SHARD_1, SHARD_2].map(|path| files.iter().find(|file| file.path == path).unwrap().clone());
    let hub = LoopbackHub::start(RepoKind::Model, files, move |request| {
        let is =
            |file: &RepoFile| request.method == "GET" && request.path.ends_with(&file.sha256());
        if is(&two) {
            return Some(Answer::new(410, "gone"));
        }
        // Without the other's failure it would go on for minutes.
        is(&one).then(|| ranged(request, &one.bytes).cut(1))
    });
    let mut fetcher = hub.fetcher();
    fetcher.pause = Duration::from_secs(5);
    let start = Instant::now();
    let message = hub.fetch_with(&fetcher).unwrap_err().to_string();
    assert!(message.contains("410"), "{message}");
    assert!(start.elapsed() < Duration::from_secs(4));
}

/// A repository whose listing is this.
fn listed(files: serde_json::Value) -> String {
    let hub = LoopbackHub::start(RepoKind::Model, vec![], move |request| {
        let is_tree = request.path.contains("/tree/");
        is_tree.then(|| Answer::new(200, files.to_string()))
    });
    let message = hub.error();
    assert!(hub.downloads().is_empty());
    message
}

#[test]
fn a_disk_without_room_is_found_out_before_anything_is_fetched() {
    let (git, sha) = ("a".repeat(40), "b".repeat(64));
    let file = |path: &str| json!({"type": "file", "path": path, "size": 2, "oid": git});
    let size = 1u64 << 60;
    let message = listed(json!([
        file("config.json"),
        file("tokenizer.json"),
        {"type": "file", "path": "model.safetensors", "size": size, "oid": git,
            "lfs": {"oid": sha, "size": size, "pointerSize": 1}},
    ]));
    assert!(
        message.contains(": 1.15 EB to fetch, but only "),
        "{message}"
    );
    assert!(
        message.ends_with("set HF_HUB_CACHE to a larger disk"),
        "{message}"
    );
}

#[test]
fn a_listing_that_leads_out_of_the_cache_is_refused() {
    let file = |path: &str| json!({"type": "file", "path": path, "size": 2, "oid": "a".repeat(40)});
    let message = listed(json!([file("config.json"), file("../../../escaped")]));
    assert_eq!(
        message,
        "org/name: list of files: not what the Hub should answer: `../../../escaped` is no path inside a repository"
    );
}

#[test]
fn a_repository_that_is_no_model_for_us_says_why() {
    let error = |files: Vec<RepoFile>| {
        let hub = LoopbackHub::model(files);
        let message = hub.error();
        assert!(hub.downloads().is_empty());
        message
    };
    let config = || RepoFile::small("config.json", "{}");
    let tokenizer = || RepoFile::small("tokenizer.json", "{}");
    let pickle = RepoFile::large("pytorch_model.bin", "x");
    let message = error(vec![config(), tokenizer(), pickle]);
    assert!(message.starts_with("org/name: no model.safetensors and no model.safetensors.index.json; it holds pytorch_model.bin"), "{message}");
    assert!(
        message.contains("download the repository yourself"),
        "{message}"
    );
    let weights = || RepoFile::large("model.safetensors", "x");
    assert!(error(vec![tokenizer(), weights()]).starts_with("org/name: no config.json"));
    assert!(error(vec![config(), weights()]).starts_with("org/name: no tokenizer.json"));
    assert!(error(vec![]).ends_with("no model.safetensors and no model.safetensors.index.json"));
    let index = json!({"weight_map": {"a": SHARD_1}}).to_string();
    let index = RepoFile::small("model.safetensors.index.json", index);
    assert_eq!(
        error(vec![config(), tokenizer(), index]),
        format!("org/name: no file `{SHARD_1}`")
    );
}

#[test]
fn offline_nothing_is_asked_and_what_is_missing_is_named() {
    let hub = LoopbackHub::model(sharded());
    let mut offline = hub.fetcher();
    offline.settings.offline = true;
    let message = hub.fetch_with(&offline).unwrap_err().to_string();
    assert!(
        message.starts_with("org/name: everything is missing in the cache "),
        "{message}"
    );
    assert!(message.contains("HF_HUB_OFFLINE is set"), "{message}");
    assert!(hub.log().is_empty());

    let fetched = hub.fetch().unwrap();
    let before = hub.log().len();
    assert_eq!(hub.fetch_with(&offline).unwrap().path, fetched.path);
    std::fs::remove_file(fetched.path.join(SHARD_2)).unwrap();
    let message = hub.fetch_with(&offline).unwrap_err().to_string();
    assert!(
        message.contains(&format!("org/name: {SHARD_2} is missing")),
        "{message}"
    );
    assert_eq!(hub.log().len(), before);
}

#[test]
fn a_data_set_is_fetched_with_its_folders_and_from_a_nested_branch() {
    let files = vec![
        RepoFile::small("README.md", "# Data\n"),
        RepoFile::large("conll/train/0000.parquet", noise(5_000, 1)),
        RepoFile::small("conll/test/0000.parquet", noise(50, 2)),
        RepoFile::small("empty.txt", ""),
        RepoFile::small("load.py", "x"),
    ];
    let hub = LoopbackHub::start(RepoKind::Dataset, files, no_script);
    let request = hub.request("org/name@refs/convert/parquet", Files::Data);
    let fetched = hub.fetcher().fetch(&request, &|_| {}).unwrap();
    assert_eq!(
        listing(&fetched.path),
        [
            "conll/test/0000.parquet",
            "conll/train/0000.parquet",
            "empty.txt"
        ]
    );
    for path in &fetched.files {
        assert_eq!(
            std::fs::read(fetched.path.join(path)).unwrap(),
            hub.file(path).bytes
        );
    }
    let link = std::fs::read_link(fetched.path.join("conll/train/0000.parquet")).unwrap();
    assert!(link.starts_with("../../../../blobs"), "{}", link.display());
    assert!(hub.repo_dir().ends_with("datasets--org--name"));
    let branch = hub.repo_dir().join("refs/refs/convert/parquet");
    assert_eq!(std::fs::read_to_string(branch).unwrap(), COMMIT);

    let named = hub.request(
        "org/name",
        Files::Named(vec!["conll/test/0000.parquet".into()]),
    );
    assert_eq!(
        hub.fetcher()
            .fetch(&named, &|_| {})
            .unwrap()
            .bytes_downloaded,
        0
    );
    let only_code = LoopbackHub::start(
        RepoKind::Dataset,
        vec![RepoFile::small("load.py", "x")],
        no_script,
    );
    let request = only_code.request("org/name", Files::Data);
    let error = only_code.fetcher().fetch(&request, &|_| {}).unwrap_err();
    assert!(matches!(error, HubError::NoData { .. }), "{error}");
}

#[test]
fn a_new_commit_of_a_branch_is_followed() {
    let hub = LoopbackHub::model(single(noise(1000, 1)));
    let old = hub.repo_dir().join("refs/main");
    std::fs::create_dir_all(old.parent().unwrap()).unwrap();
    std::fs::write(&old, "f".repeat(40)).unwrap();
    let fetched = hub.fetch().unwrap();
    assert_eq!(fetched.commit, COMMIT);
    assert_eq!(std::fs::read_to_string(old).unwrap(), COMMIT);
}

#[test]
fn a_repository_that_was_renamed_is_followed() {
    let hub = LoopbackHub::start(RepoKind::Model, sharded(), |request| {
        let path = request.path.replacen("/old/name", "/org/name", 1);
        let location = format!("{path}?{}", request.query);
        (path != request.path).then(|| Answer::new(307, "").with("Location", location))
    });
    let mut fetcher = hub.fetcher();
    fetcher.settings.token = Some("hf_secret".into());
    let request = hub.request("old/name", Files::Weights);
    let fetched = fetcher.fetch(&request, &|_| {}).unwrap();
    // Where it was asked for by its old name, it is found by that.
    let place = hub
        .cache
        .path()
        .join("models--old--name/snapshots")
        .join(COMMIT);
    assert_eq!(fetched.path, place);
    let found = std::fs::read(place.join(SHARD_1)).unwrap();
    assert_eq!(found, hub.file(SHARD_1).bytes);
}

#[test]
fn progress_adds_up() {
    let hub = LoopbackHub::model(sharded());
    let events = Mutex::new((0u64, 0u64, 0usize, 0usize));
    let show = |event: Event<'_>| {
        let mut events = events.lock().unwrap();
        match event {
            Event::Plan {
                missing,
                files,
                commit,
                ..
            } => {
                assert_eq!(commit, COMMIT);
                (events.0, events.2) = (missing, files);
            }
            Event::Received { bytes, .. } => events.1 += bytes,
            Event::Finished { .. } => events.3 += 1,
            _ => {}
        }
    };
    let request = hub.request("org/name", Files::Weights);
    let fetched = hub.fetcher().fetch(&request, &show).unwrap();
    let (missing, received, files, finished) = events.into_inner().unwrap();
    // The index came before the plan, to know what to plan.
    let index = hub.file("model.safetensors.index.json").bytes.len() as u64;
    assert_eq!(received, missing + index);
    assert_eq!(received, fetched.bytes_downloaded);
    assert_eq!((files, finished), (8, 9));
}

#[test]
fn a_fetcher_with_one_job_or_none_works_too() {
    for jobs in [0, 1] {
        let hub = LoopbackHub::model(sharded());
        let fetcher = Fetcher {
            jobs,
            ..hub.fetcher()
        };
        hub.fetch_with(&fetcher).unwrap();
    }
}
