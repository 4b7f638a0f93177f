//! Chromium without a window, told what to do by its DevTools protocol over two pipes: JSON objects
//! with a zero byte behind each.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// As long as a machine under load may take to start it, or to show a page.
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser with one page.
pub struct Browser {
    child: Child,
    commands: File,
    messages: Receiver<Value>,
    last: u64,
    session: Option<String>,
    /// What came besides answers, since it was last taken.
    events: Vec<Value>,
    // Behind the child that uses it.
    _folder: TempDir,
}

/// The program, if it is installed.
pub fn chromium() -> Option<&'static str> {
    let runs = |name: &&str| {
        let version = Command::new(name).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    };
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(runs)
}

impl Browser {
    pub fn start(program: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [commands, messages] = ["commands", "messages"].map(|name| folder.path().join(name));
        let made = Command::new("mkfifo").args([&commands, &messages]).status();
        assert!(made.unwrap().success());
        // It reads from the third file and writes to the fourth.
        let child = Command::new("sh")
            .args([
                "-c",
                "exec \"$0\" \"$@\" 3<\"$COMMANDS\" 4>\"$MESSAGES\"",
                program,
            ])
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
            ])
            .args([
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
            ])
            .arg(format!(
                "--user-data-dir={}",
                folder.path().join("profile").display()
            ))
            .env("COMMANDS", &commands)
            .env("MESSAGES", &messages)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let commands = OpenOptions::new().write(true).open(commands).unwrap();
        let reader = BufReader::new(File::open(messages).unwrap());
        let (send, messages) = channel();
        thread::spawn(move || {
            for message in reader.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).unwrap_or_default();
                if send.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser = Self {
            child,
            commands,
            messages,
            last: 0,
            session: None,
            events: Vec::new(),
            _folder: folder,
        };
        let page = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(String::from);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Does something, and says what came of it.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut command = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        self.commands
            .write_all(format!("{command}\0").as_bytes())
            .unwrap();
        loop {
            let message = self.next(method);
            if message["id"] == self.last {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    fn next(&self, waiting_for: &str) -> Value {
        let message = self.messages.recv_timeout(PATIENCE);
        message.unwrap_or_else(|error| panic!("{waiting_for}: {error}"))
    }

    /// Shows a file at a width and in a scheme, `light` or `dark`.
    pub fn show(&mut self, file: &Path, width: usize, scheme: &str) {
        self.open(&format!("file://{}", file.display()), width, scheme);
    }

    /// Shows what is at an address, likewise.
    pub fn open(&mut self, url: &str, width: usize, scheme: &str) {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.call("Emulation.setEmulatedMedia", json!({"features": [feature]}));
        self.events.clear();
        self.call("Page.navigate", json!({"url": url}));
        let loaded = |event: &Value| event["method"] == "Page.loadEventFired";
        while !self.events.iter().any(loaded) {
            let event = self.next("Page.loadEventFired");
            self.events.push(event);
        }
    }

    /// What happened since a page was shown.
    pub fn events(&self) -> &[Value] {
        &self.events
    }

    /// The value of an expression in the page, or what a promise comes to.
    pub fn value(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let found = self.call("Runtime.evaluate", params);
        assert!(found.get("exceptionDetails").is_none(), "{found}");
        found["result"]["value"].clone()
    }

    /// Waits until an expression in the page is true.
    pub fn wait(&mut self, expression: &str) {
        let began = Instant::now();
        while self.value(expression) != true {
            assert!(began.elapsed() < PATIENCE, "{expression}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Types a text.
    pub fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str, code: u32) {
        self.press_with(0, key, code);
    }

    /// Presses a key together with others; Ctrl is 2.
    pub fn press_with(&mut self, others: u32, key: &str, code: u32) {
        for kind in ["keyDown", "keyUp"] {
            let event = json!({
                "type": kind, "modifiers": others, "key": key, "code": key,
                "windowsVirtualKeyCode": code, "nativeVirtualKeyCode": code,
            });
            self.call("Input.dispatchKeyEvent", event);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
