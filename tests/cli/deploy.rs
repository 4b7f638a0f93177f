//! The files of `deploy/`: the programs that they are for take them, and a service answers through
//! the proxies, lines both ways at once.

use std::fs::read_to_string;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::sandbox::{Sandbox, assert_contains};
use crate::serving::{Serving, TOKEN_OF_SERVICE, runs, send_piece, write_lines_head};

const HOST: &str = "llama.example.org";

fn deployed(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    read_to_string(root.join("deploy").join(name)).unwrap()
}

/// A text with other words in their places, each of which has to be there.
fn with(mut text: String, changes: &[(&str, &str)]) -> String {
    for (from, to) in changes {
        assert!(text.contains(from), "{from:?} is not in {text}");
        text = text.replace(from, to);
    }
    text
}

/// A program, also where only root's path has it, if it, curl and openssl are there.
#[allow(clippy::print_stderr)]
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let find = |name: &str| {
        let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        folders.map(|dir| dir.join(name)).find(|at| at.is_file())
    };
    let missing = [name, "curl", "openssl"]
        .into_iter()
        .find(|name| find(name).is_none());
    if let Some(missing) = missing {
        eprintln!("SKIPPED: there is no {missing}");
        return None;
    }
    find(name)
}

/// A proxy that runs until it is dropped.
struct Proxy {
    child: Child,
    port: u16,
    said: PathBuf,
}

impl Proxy {
    /// Starts it, and waits until it answers: it may listen before it has its certificate.
    fn start(sandbox: &Sandbox, mut command: Command, port: u16) -> Self {
        let said = sandbox.path("said");
        let log = std::fs::File::create(&said).unwrap();
        command.current_dir(sandbox.path(""));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap());
        let child = command.stderr(log).spawn().unwrap();
        let mut proxy = Self { child, port, said };
        let began = Instant::now();
        while !proxy
            .curl("/health", &[])
            .output()
            .unwrap()
            .status
            .success()
        {
            let ended = proxy.child.try_wait().unwrap();
            let said = || read_to_string(&proxy.said).unwrap();
            assert!(ended.is_none(), "{}", said());
            assert!(began.elapsed() < Duration::from_secs(60), "{}", said());
            std::thread::sleep(Duration::from_millis(20));
        }
        proxy
    }

    fn curl(&self, path: &str, args: &[&str]) -> Command {
        let mut curl = Command::new("curl");
        let at = format!("{HOST}:{}", self.port);
        curl.args(["--insecure", "--fail-with-body"])
            .args(["--max-time", "60", "--resolve", &format!("{at}:127.0.0.1")])
            .args(args)
            .arg(format!("https://{at}{path}"));
        curl
    }

    /// Answers come through as they are, and of streams, if it hands both ways on at once, each
    /// before the next line is sent.
    fn hands_on(&self, serving: &Serving, both_ways_at_once: bool) {
        let body = json!({ "model": "texts", "inputs": "good and warm" });
        let data = body.to_string();
        let json = ["-H", "Content-Type: application/json", "--data", &data];
        let output = self.curl("/predict", &json).output().unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let log = read_to_string(&self.said).unwrap();
        assert!(output.status.success(), "{answer} {said} {log}");
        assert_eq!(answer, serving.post("/predict", &body).body);

        // By hand: curl reads no answers while it waits for more to send.
        let mut client = Command::new("openssl");
        let at = format!("127.0.0.1:{}", self.port);
        client.args(["s_client", "-quiet", "-servername", HOST, "-connect", &at]);
        client.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut client = client.stderr(Stdio::null()).spawn().unwrap();
        let mut to = client.stdin.take().unwrap();
        let from = BufReader::new(client.stdout.take().unwrap());
        let mut answers = from.lines().map_while(Result::ok);
        write_lines_head(&mut to, HOST, "/models/texts/batch");
        let mut is_answered = |text: &str| {
            // Objects alone begin so: the rest is sizes and headers.
            let line = answers
                .find(|line| line.starts_with('{'))
                .unwrap_or_default();
            assert_contains(&line, &[text, "\"label\""]);
        };
        let texts = ["good", "bad", "Zoë"];
        for text in texts {
            send_piece(&mut to, &format!("{}\n", json!({ "text": text }))).unwrap();
            if both_ways_at_once {
                is_answered(text);
            }
        }
        send_piece(&mut to, "").unwrap();
        if !both_ways_at_once {
            texts.iter().for_each(|text| is_answered(text));
        }
        let rest: Vec<_> = answers.collect();
        assert!(rest.ends_with(&["0".into(), String::new()]), "{rest:?}");
        drop(to);
        client.wait().unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn nginx_hands_on_what_it_is_asked() {
    let Some(nginx) = program("nginx") else {
        return;
    };
    let sandbox = runs();
    let serving = Serving::start(&sandbox, &["--run", "texts", "--run", "words"]);
    let mut certificate = Command::new("openssl");
    certificate
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
        ])
        .args([
            "-subj",
            &format!("/CN={HOST}"),
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ]);
    let made = certificate.current_dir(sandbox.path("")).output().unwrap();
    assert!(made.status.success());
    let port = free_port();
    let site = with(
        deployed("nginx.conf"),
        &[
            (
                "server 127.0.0.1:8080;",
                &format!("server {};", serving.address()),
            ),
            ("    listen [::]:443 ssl;\n", ""),
            ("listen 443 ssl;", &format!("listen 127.0.0.1:{port} ssl;")),
            ("/etc/ssl/certs/llama.example.org.pem", "cert.pem"),
            ("/etc/ssl/private/llama.example.org.key", "key.pem"),
        ],
    );
    sandbox.write("site.conf", site);
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let paths = paths
        .map(|of| format!("{of}_temp_path temp_{of};\n"))
        .concat();
    sandbox.write(
        "nginx.conf",
        format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nevents {{}}\n\
             http {{\naccess_log off;\n{paths}include site.conf;\n}}\n"
        ),
    );
    let mut command = Command::new(nginx);
    command
        .args(["-e", "stderr", "-c", "nginx.conf", "-p"])
        .arg(sandbox.path(""));
    let proxy = Proxy::start(&sandbox, command, port);
    proxy.hands_on(&serving, true);

    // What the service would not read, it is not sent.
    sandbox.write("large", "x".repeat(3 << 20));
    let args = [
        "-H",
        "Content-Type: application/json",
        "--data-binary",
        "@large",
    ];
    let mut curl = proxy.curl("/predict", &args);
    let refused = curl.current_dir(sandbox.path("")).output().unwrap();
    let answer = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert_contains(&answer, &["413"]);
    serving.stop();
}

#[test]
#[allow(clippy::print_stderr)]
fn caddy_hands_on_what_it_is_asked() {
    let Some(caddy) = program("caddy") else {
        return;
    };
    let sandbox = runs();
    let serving = Serving::start(&sandbox, &["--run", "texts", "--run", "words"]);
    let port = free_port();
    let mut site = deployed("Caddyfile");
    sandbox.write("Caddyfile", &site);
    let mut adapt = Command::new(&caddy);
    adapt.args(["adapt", "--adapter", "caddyfile", "--config", "Caddyfile"]);
    let adapted = adapt.current_dir(sandbox.path("")).output().unwrap();
    let said = String::from_utf8_lossy(&adapted.stderr).into_owned();
    let both_ways_at_once = adapted.status.success();
    if !both_ways_at_once {
        assert_contains(&said, &["unrecognized", "enable_full_duplex"]);
        eprintln!("SKIPPED: lines both ways at once, which this Caddy (before 2.7) has not");
        site = with(site, &[("enable_full_duplex", "")]);
    }
    let local = format!(
        "admin off\n\tlocal_certs\n\tskip_install_trust\n\tauto_https disable_redirects\n\
         \thttps_port {port}\n\tservers {{"
    );
    let to = format!("bind 127.0.0.1\n\treverse_proxy {}", serving.address());
    let site = with(
        site,
        &[("servers {", &local), ("reverse_proxy 127.0.0.1:8080", &to)],
    );
    sandbox.write("Caddyfile", site);
    let mut command = Command::new(caddy);
    command.args(["run", "--config", "Caddyfile", "--adapter", "caddyfile"]);
    for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
        command.env(variable, sandbox.path(""));
    }
    Proxy::start(&sandbox, command, port).hands_on(&serving, both_ways_at_once);
    serving.stop();
}

/// The arguments behind the program of a command line, of which a word may have another word in its
/// place.
fn arguments(line: &str, changes: &[(&str, &str)]) -> Vec<String> {
    let line = with(line.to_owned(), changes);
    line.split_whitespace()
        .skip(1)
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
#[allow(clippy::print_stderr)]
fn systemd_takes_the_unit_and_its_command_serves() {
    let sandbox = runs();
    let unit = deployed("ls-llama.service");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .unwrap();
    assert!(line.starts_with("/usr/local/bin/ls-cli "));
    sandbox.write("token", TOKEN_OF_SERVICE);
    let mut args = arguments(
        line,
        &[("/srv/ls-llama/sentiment", "texts"), ("%d/token", "token")],
    );
    args.extend(["--port".into(), "0".into()]);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let serving = Serving::of(&sandbox, &args, None);
    assert_eq!(serving.get("/info").status, 401);
    serving.stop();

    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("SKIPPED: there is no systemd-analyze");
        return;
    }
    let program = env!("CARGO_BIN_EXE_ls-cli");
    sandbox.write(
        "ls-llama.service",
        with(unit, &[("/usr/local/bin/ls-cli", program)]),
    );
    let mut verify = Command::new("systemd-analyze");
    let verify = verify
        .args(["--man=no", "verify"])
        .arg(sandbox.path("ls-llama.service"));
    let output = verify.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Of other units of the machine it also speaks.
    assert!(!said.contains("ls-llama.service"), "{said}");
    assert!(output.status.success(), "{said}");
}

/// It is not built here: no image can be fetched.
#[test]
fn the_container_has_one_program_not_as_root_and_its_command_serves() {
    let file = deployed("Dockerfile");
    let line = |prefix: &str| {
        let found = file.lines().find(|line| line.starts_with(prefix));
        found.unwrap_or_else(|| panic!("no line begins with {prefix:?}"))
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let manifest = read_to_string(root.join("Cargo.toml")).unwrap();
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "));
    let version = version.unwrap().trim_matches('"');
    assert_contains(line("FROM rust:"), &[&format!("FROM rust:{version}-slim-")]);
    assert_contains(
        &file,
        &[
            "target-feature=+crt-static",
            "cargo build --locked --release -p ls-cli",
        ],
    );
    assert_contains(&file, &["mv target/*/release/ls-cli /ls-cli\n"]);
    let (_, image) = file.split_once("\nFROM scratch\n").unwrap();
    let copies: Vec<_> = image
        .lines()
        .filter(|line| line.starts_with("COPY "))
        .collect();
    assert_eq!(copies, ["COPY --from=build /ls-cli /ls-cli"]);
    assert_contains(image, &["USER 65534:65534\n", "ENTRYPOINT [\"/ls-cli\"]\n"]);

    // The command that its head shows.
    let sandbox = runs();
    let head = file.replace("\\\n#  ", "");
    let (_, command) = head.split_once(" ls-llama serve").unwrap();
    let command = format!("ls-cli serve{}", command.lines().next().unwrap());
    let changes = [
        ("/runs/spam/best", "texts/best"),
        ("0.0.0.0", "127.0.0.1"),
        ("/model", "model"),
    ];
    let mut args = arguments(&command, &changes);
    args.extend(["--port".into(), "0".into()]);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let serving = Serving::of(&sandbox, &args, Some(TOKEN_OF_SERVICE));
    assert_eq!(serving.get("/health").status, 200);
    serving.stop();
}
