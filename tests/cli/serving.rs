//! A running `ls-cli serve`, and requests to it: HTTP as it is written, so that nothing is hidden.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::runs::{TOKEN, sentences, sequence, train};
use crate::sandbox::{Outcome, Sandbox, assert_no_panic};

/// The token of services that have one.
pub const TOKEN_OF_SERVICE: &str = "a-token-of-some-length";

/// A service that runs until it is dropped or stopped.
pub struct Serving {
    child: Option<Child>,
    address: String,
    stderr: Option<JoinHandle<String>>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Serving {
    /// Starts it on a free port, and waits until it answers.
    pub fn start(sandbox: &Sandbox, args: &[&str]) -> Self {
        Self::start_with(sandbox, args, None)
    }

    /// The same with a token in the environment.
    pub fn start_with(sandbox: &Sandbox, args: &[&str], token: Option<&str>) -> Self {
        Self::of(sandbox, &[&["serve", "--port", "0"], args].concat(), token)
    }

    /// That of a whole command line, with a token in the environment.
    pub fn of(sandbox: &Sandbox, args: &[&str], token: Option<&str>) -> Self {
        let mut command = sandbox.command_that_heeds_signals(args);
        command.env_remove("LS_LLAMA_TOKEN");
        if let Some(token) = token {
            command.env("LS_LLAMA_TOKEN", token);
        }
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (said, hears) = mpsc::channel();
        // Read to its end, or the service would wait for a reader.
        let stderr = std::thread::spawn(move || {
            let mut all = String::new();
            for line in stderr.lines().map_while(Result::ok) {
                // In whichever form the log is written.
                let address = line.split_once("http://");
                if let Some((address, _)) = address.and_then(|at| at.1.split_once(" answers with "))
                {
                    let _ = said.send(address.to_owned());
                }
                all.push_str(&line);
                all.push('\n');
            }
            all
        });
        match hears.recv_timeout(Duration::from_secs(120)) {
            Ok(address) => Self {
                child: Some(child),
                address,
                stderr: Some(stderr),
            },
            Err(_) => {
                let _ = child.kill();
                panic!("{args:?} does not answer: {}", stderr.join().unwrap());
            }
        }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// The address of its page.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// A connection to it.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        let json = ("Content-Type", "application/json");
        self.ask("POST", path, &[json], &body.to_string())
    }

    /// Asks with these headers beside the usual ones.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut stream = self.connect();
        write_request(&mut stream, method, path, headers, body);
        read_reply(&mut stream)
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status();
        assert!(sent.unwrap().success());
    }

    /// What it left, once it has ended.
    pub fn ended(mut self) -> Outcome {
        let status = self.child.take().unwrap().wait().unwrap();
        let stderr = self.stderr.take().unwrap().join().unwrap();
        assert_no_panic(&stderr, "serve");
        Outcome {
            code: status.code().unwrap_or(-1),
            stdout: String::new(),
            stderr,
        }
    }

    /// What it says when it is asked to stop, which has to end well.
    pub fn stop(self) -> String {
        self.signal("TERM");
        let outcome = self.ended();
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        outcome.stderr
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Writes a request by HTTP/1.0, whose answers end where the connection does.
pub fn write_request(
    stream: &mut TcpStream,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) {
    let mut text = format!(
        "{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    stream
        .write_all(format!("{text}\r\n{body}").as_bytes())
        .unwrap();
}

pub fn read_reply(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    // Where the other side refuses a body, it may close before it has read it.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{text:?}"));
    let mut lines = head.lines();
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    Reply {
        status,
        headers: headers
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect(),
        body: body.to_owned(),
    }
}

/// Begins a stream of lines, of which more may be sent.
pub fn begin_lines(serving: &Serving, path: &str) -> TcpStream {
    let mut stream = serving.connect();
    write_lines_head(&mut stream, "a", path);
    stream
}

/// The head of a stream of lines.
pub fn write_lines_head(to: &mut impl Write, host: &str, path: &str) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    to.write_all(head.as_bytes()).unwrap();
}

/// Sends a piece of a stream; an empty one is its end.
pub fn send_piece(to: &mut impl Write, piece: &str) -> std::io::Result<()> {
    to.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())?;
    to.flush()
}

/// What is left of an answer in chunks: its lines, and whether it has a proper end.
pub fn read_lines(stream: &mut TcpStream) -> (Vec<String>, bool) {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    // Objects alone begin so: the rest is sizes and headers.
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let lines = lines.map(ToOwned::to_owned).collect();
    (lines, text.ends_with("\r\n0\r\n\r\n"))
}

/// Reads until a text has come.
pub fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let (mut read, mut byte) = (Vec::new(), [0]);
    while !read.ends_with(text.as_bytes()) {
        let count = stream.read(&mut byte).unwrap();
        let read_so_far = String::from_utf8_lossy(&read);
        assert_eq!(count, 1, "the end came before {text:?}: {read_so_far:?}");
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

/// Runs of a classifier, `texts` and of seed 2 `others`, and of a tagger, `words`, on one base.
pub fn runs() -> Sandbox {
    let sandbox = sequence();
    train(&sandbox, "texts", &[]);
    train(
        &sandbox,
        "others",
        &["train.seed=2", "model.attention=bidirectional", "lora.r=2"],
    );
    let rows = sentences().into_iter().flat_map(|sentence| {
        let words = sentence
            .into_iter()
            .map(|(word, tag)| format!("{word} {tag}\n"));
        words.chain(["\n".to_owned()]).collect::<Vec<_>>()
    });
    sandbox.write("train.conll", rows.collect::<String>());
    sandbox.write("run.toml", TOKEN);
    train(&sandbox, "words", &[]);
    sandbox
}

/// What `/ner` answers to a list, by what `predict` answers.
#[track_caller]
pub fn has_entities(found: &Value, expected: &[Value]) {
    assert_eq!(
        found.as_array().map(Vec::len),
        Some(expected.len()),
        "{found}"
    );
    for (found, expected) in found.as_array().unwrap().iter().zip(expected) {
        let expected = expected["entities"].as_array().unwrap();
        assert_eq!(found.as_array().unwrap().len(), expected.len());
        for (found, expected) in found.as_array().unwrap().iter().zip(expected) {
            for (key, as_predict) in [
                ("entity_group", "type"),
                ("score", "score"),
                ("word", "text"),
                ("start", "start"),
                ("end", "end"),
            ] {
                assert_eq!(found[key], expected[as_predict], "{key}");
            }
        }
    }
}
