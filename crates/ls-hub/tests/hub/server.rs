//! A Hub on loopback: one repository, its files behind redirects to a second server, and whatever a
//! test wants to go wrong.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ls_files::hex;
use ls_hub::fetch::{Event, FetchRequest, Fetched, Fetcher};
use ls_hub::{Files, HubError, RepoKind, Settings};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const COMMIT: &str = "00112233445566778899aabbccddeeff00112233";

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Whether it came to the server that files are redirected to.
    pub to_store: bool,
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    /// How many with the same method and address came before.
    pub nth: usize,
    /// Bytes of body that were sent back.
    pub sent: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What is sent back.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection is closed after so many bytes of the body.
    pub cut: Option<usize>,
    /// Pause before the last byte, or before the cut.
    pub stall: Option<Duration>,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            body: body.into(),
            ..Self::default()
        }
    }

    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.into(), value.to_string()));
        self
    }

    /// As the Hub refuses: a code, and a sentence.
    pub fn refusal(status: u16, code: &str, message: &str) -> Self {
        let answer = Self::new(status, json!({"error": message}).to_string());
        let answer = answer.with("X-Error-Message", message);
        if code.is_empty() {
            return answer;
        }
        answer.with("X-Error-Code", code)
    }

    pub fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }
}

/// A file of the repository.
#[derive(Debug, Clone)]
pub struct RepoFile {
    pub path: String,
    pub bytes: Vec<u8>,
    /// Whether it stands on the second server, as large files do.
    pub is_large: bool,
    sha256: String,
}

impl RepoFile {
    pub fn small(path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(path, bytes.into(), false)
    }

    pub fn large(path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(path, bytes.into(), true)
    }

    fn new(path: &str, bytes: Vec<u8>, is_large: bool) -> Self {
        Self {
            path: path.into(),
            sha256: hex(&Sha256::digest(&bytes)),
            bytes,
            is_large,
        }
    }

    pub fn sha256(&self) -> String {
        self.sha256.clone()
    }

    /// The id that git gives it.
    pub fn git(&self) -> String {
        let header = format!("blob {}\0", self.bytes.len());
        hex(&Sha1::new()
            .chain_update(header)
            .chain_update(&self.bytes)
            .finalize())
    }

    /// The name of its blob.
    pub fn id(&self) -> String {
        if self.is_large {
            self.sha256()
        } else {
            self.git()
        }
    }

    fn listed(&self) -> Value {
        let size = self.bytes.len();
        if self.is_large {
            json!({"type": "file", "path": self.path, "size": size, "oid": "f".repeat(40),
                "lfs": {"oid": self.sha256(), "size": size, "pointerSize": 134}, "xetHash": "e".repeat(64)})
        } else {
            json!({"type": "file", "path": self.path, "size": size, "oid": self.git()})
        }
    }
}

/// Answers a request instead of the Hub, or leaves it to the Hub.
type Script = Box<dyn Fn(&Request) -> Option<Answer> + Send + Sync>;

struct State {
    kind: RepoKind,
    repo: String,
    files: Vec<RepoFile>,
    script: Script,
    store: String,
    log: Mutex<Vec<Request>>,
}

/// The servers; they run until the test ends.
pub struct LoopbackHub {
    state: Arc<State>,
    pub endpoint: String,
    pub cache: tempfile::TempDir,
}

pub fn no_script(_: &Request) -> Option<Answer> {
    None
}

impl LoopbackHub {
    pub fn model(files: Vec<RepoFile>) -> Self {
        Self::start(RepoKind::Model, files, no_script)
    }

    pub fn start(
        kind: RepoKind,
        files: Vec<RepoFile>,
        script: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let hub = TcpListener::bind("127.0.0.1:0").unwrap();
        let store = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", hub.local_addr().unwrap());
        let state = Arc::new(State {
            kind,
            repo: "org/name".into(),
            files,
            script: Box::new(script),
            store: format!("http://{}", store.local_addr().unwrap()),
            log: Mutex::default(),
        });
        for (listener, to_store) in [(hub, false), (store, true)] {
            let state = Arc::clone(&state);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    // A client that hangs up is no fault of the server's.
                    std::thread::spawn(move || state.serve(stream, to_store).ok());
                }
            });
        }
        Self {
            state,
            endpoint,
            cache: tempfile::tempdir().unwrap(),
        }
    }

    /// Every request so far.
    pub fn log(&self) -> Vec<Request> {
        self.state.log.lock().unwrap().clone()
    }

    /// Requests for the contents of a file on the second server.
    pub fn downloads(&self) -> Vec<Request> {
        let mut log = self.log();
        log.retain(|request| request.path.starts_with("/store/") && request.method == "GET");
        log
    }

    pub fn settings(&self) -> Settings {
        Settings {
            cache_dir: self.cache.path().into(),
            endpoint: self.endpoint.clone(),
            token: None,
            offline: false,
        }
    }

    /// With pauses of milliseconds.
    pub fn fetcher(&self) -> Fetcher {
        let mut fetcher = Fetcher::new(self.settings());
        fetcher.pause = Duration::from_millis(2);
        fetcher
    }

    pub fn request(&self, at: &str, files: Files) -> FetchRequest {
        FetchRequest {
            kind: self.state.kind,
            at: at.parse().unwrap(),
            files,
        }
    }

    pub fn fetch_with(&self, fetcher: &Fetcher) -> Result<Fetched, HubError> {
        let request = self.request("org/name", Files::Weights);
        fetcher.fetch(&request, &|_: Event<'_>| {})
    }

    pub fn fetch(&self) -> Result<Fetched, HubError> {
        self.fetch_with(&self.fetcher())
    }

    pub fn error(&self) -> String {
        self.fetch().unwrap_err().to_string()
    }

    pub fn repo_dir(&self) -> std::path::PathBuf {
        let kind = self.state.kind.plural();
        self.cache.path().join(format!("{kind}--org--name"))
    }

    pub fn file(&self, path: &str) -> &RepoFile {
        self.state
            .files
            .iter()
            .find(|file| file.path == path)
            .unwrap()
    }
}

impl State {
    fn serve(&self, mut stream: TcpStream, to_store: bool) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_string());
        }
        let Some(first) = lines.first() else {
            return Ok(());
        };
        let mut words = first.split(' ');
        let (method, address) = (words.next().unwrap(), words.next().unwrap());
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
        let headers: HashMap<String, String> = headers
            .map(|(name, value)| (name.to_lowercase(), value.to_string()))
            .collect();
        if let Some(length) = headers.get("content-length") {
            reader.read_exact(&mut vec![0; length.parse().unwrap()])?;
        }
        let mut request = Request {
            to_store,
            method: method.into(),
            path: path.into(),
            query: query.into(),
            headers,
            nth: 0,
            sent: 0,
        };
        let at = {
            let mut log = self.log.lock().unwrap();
            let same = |other: &&Request| {
                (other.to_store, &other.method, &other.path)
                    == (to_store, &request.method, &request.path)
            };
            request.nth = log.iter().filter(same).count();
            log.push(request.clone());
            log.len() - 1
        };
        let answer = (self.script)(&request).unwrap_or_else(|| self.answer(&request));
        let sent = self.send(&mut stream, &request, &answer);
        self.log.lock().unwrap()[at].sent = sent;
        Ok(())
    }

    /// Sends an answer; the number of bytes of its body that went out.
    fn send(&self, stream: &mut TcpStream, request: &Request, answer: &Answer) -> usize {
        let mut head = format!("HTTP/1.1 {} x\r\nConnection: close\r\n", answer.status);
        let has = |name: &str| {
            answer
                .headers
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
        };
        if !has("content-length") {
            head.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
        }
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        if stream.write_all(head.as_bytes()).is_err() || request.method == "HEAD" {
            return 0;
        }
        let whole = answer.cut.unwrap_or(answer.body.len());
        let before = if answer.stall.is_some() && answer.cut.is_none() {
            whole.saturating_sub(1)
        } else {
            whole
        };
        let mut sent = 0;
        for piece in answer.body[..before].chunks(64 << 10) {
            if stream.write_all(piece).is_err() {
                return sent;
            }
            sent += piece.len();
        }
        if let Some(stall) = answer.stall {
            std::thread::sleep(stall);
        }
        match stream.write_all(&answer.body[before..whole]) {
            Ok(()) => whole,
            Err(_) => sent,
        }
    }

    /// What the Hub would answer.
    pub fn answer(&self, request: &Request) -> Answer {
        let kind = self.kind.plural();
        let api = format!("/api/{kind}/{}", self.repo);
        let prefix = match self.kind {
            RepoKind::Model => format!("/{}/resolve/", self.repo),
            RepoKind::Dataset => format!("/datasets/{}/resolve/", self.repo),
        };
        if request.to_store && !request.path.starts_with("/api/") {
            let id = request.path.trim_start_matches("/store/");
            let file = self.files.iter().find(|file| file.sha256 == id);
            return file.map_or(Answer::new(404, ""), |file| ranged(request, &file.bytes));
        }
        if let Some(rest) = request.path.strip_prefix(&api) {
            return self.answer_api(request, rest);
        }
        if let Some(rest) = request.path.strip_prefix(&prefix) {
            let (revision, path) = rest.split_once('/').unwrap();
            if revision != COMMIT && revision != "main" {
                return Answer::refusal(404, "RevisionNotFound", "Invalid rev id");
            }
            let Some(file) = self.files.iter().find(|file| file.path == path) else {
                return Answer::refusal(404, "EntryNotFound", "Entry not found");
            };
            if !file.is_large {
                let answer =
                    ranged(request, &file.bytes).with("ETag", format!("\"{}\"", file.git()));
                return answer.with("X-Repo-Commit", COMMIT);
            }
            let address = format!("{}/store/{}?signature=secret", self.store, file.sha256());
            return Answer::new(302, "")
                .with("Location", address)
                .with("X-Repo-Commit", COMMIT)
                .with("X-Linked-Size", file.bytes.len())
                .with("X-Linked-ETag", format!("\"{}\"", file.sha256()));
        }
        Answer::refusal(401, "RepoNotFound", "Invalid username or password.")
    }

    fn answer_api(&self, request: &Request, rest: &str) -> Answer {
        let info = || {
            Answer::new(
                200,
                json!({"_id": "0", "id": self.repo, "sha": COMMIT}).to_string(),
            )
        };
        let known = [COMMIT, "main", "refs%2Fconvert%2Fparquet"];
        let no_revision = || Answer::refusal(404, "RevisionNotFound", "Invalid rev id: x");
        if rest.is_empty() {
            return info();
        }
        if let Some(revision) = rest.strip_prefix("/revision/") {
            return if known.contains(&revision) {
                info()
            } else {
                no_revision()
            };
        }
        if rest == format!("/tree/{COMMIT}") {
            return self.answer_tree(request);
        }
        no_revision()
    }

    /// Three files a page.
    fn answer_tree(&self, request: &Request) -> Answer {
        const PAGE: usize = 3;
        let cursor = request
            .query
            .split('&')
            .find_map(|part| part.strip_prefix("cursor="));
        let begin: usize = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        let page = self
            .files
            .iter()
            .skip(begin)
            .take(PAGE)
            .map(RepoFile::listed);
        let answer = Answer::new(200, Value::from_iter(page).to_string());
        let next = begin + PAGE;
        if next >= self.files.len() {
            return answer;
        }
        // On the other server, as a mirror that passes the Hub's header on.
        let link = format!(
            "<{}{}?recursive=true&cursor={next}>; rel=\"next\"",
            self.store, request.path
        );
        answer.with("Link", link)
    }
}

/// A file, or the range of it that is asked for.
pub fn ranged(request: &Request, bytes: &[u8]) -> Answer {
    let Some(range) = request.header("range") else {
        return Answer::new(200, bytes).with("Accept-Ranges", "bytes");
    };
    let (from, to) = range
        .strip_prefix("bytes=")
        .unwrap()
        .split_once('-')
        .unwrap();
    let from: usize = from.parse().unwrap();
    let to = to
        .parse::<usize>()
        .map_or(bytes.len(), |to| to + 1)
        .min(bytes.len());
    if from >= to {
        return Answer::new(416, "");
    }
    let range = format!("bytes {from}-{}/{}", to - 1, bytes.len());
    Answer::new(206, &bytes[from..to]).with("Content-Range", range)
}

/// Bytes that look like nothing, the same for the same seed.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

pub const SHARD_1: &str = "model-00001-of-00002.safetensors";
pub const SHARD_2: &str = "model-00002-of-00002.safetensors";

/// A repository as the Hub has them: two shards, and much that is not needed.
pub fn sharded() -> Vec<RepoFile> {
    let index = json!({"metadata": {}, "weight_map": {"a": SHARD_1, "b": SHARD_2}});
    vec![
        RepoFile::small(".gitattributes", "*.safetensors filter=lfs\n"),
        RepoFile::small("README.md", "# Model\n"),
        RepoFile::small("config.json", "{\"model_type\": \"llama\"}\n"),
        RepoFile::small("generation_config.json", "{}\n"),
        RepoFile::large("consolidated.00.pth", noise(1000, 1)),
        RepoFile::large(SHARD_1, noise(300_000, 2)),
        RepoFile::large(SHARD_2, noise(200_000, 3)),
        RepoFile::small("model.safetensors.index.json", index.to_string()),
        RepoFile::large("original/model.safetensors", noise(1000, 4)),
        RepoFile::large("pytorch_model.bin", noise(1000, 5)),
        RepoFile::small("special_tokens_map.json", "{}\n"),
        RepoFile::small("tokenizer.json", "{\"tokenizer\": \"\u{2581}é\"}\n"),
        RepoFile::large("tokenizer.model", noise(5000, 6)),
        RepoFile::small("tokenizer_config.json", "{}\n"),
        RepoFile::small("vocab.json", "{}\n"),
    ]
}

/// A repository with weights in one file.
pub fn single(weights: Vec<u8>) -> Vec<RepoFile> {
    vec![
        RepoFile::small("config.json", "{}\n"),
        RepoFile::large("model.safetensors", weights),
        RepoFile::small("tokenizer.json", "[]\n"),
    ]
}

/// Every file under a folder, links not followed, sorted.
pub fn listing(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                let path = entry.path();
                found.push(
                    path.strip_prefix(dir)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_string(),
                );
            }
        }
    }
    found.sort();
    found
}
