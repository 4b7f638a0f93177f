//! `serve` as others use it: the commands of the documents, a client that is made of its OpenAPI
//! document, and questions that are made of it.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::python::python_with;
use crate::runs::{json_lines, train};
use crate::sandbox::{assert_contains, jsonl};
use crate::serving::{Serving, TOKEN_OF_SERVICE, runs};

/// The commands with `curl` of README.md and docs/serve.md, as they stand there.
#[test]
#[allow(clippy::print_stderr)]
fn the_documents_commands_are_answered() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no curl");
        return;
    }
    let sandbox = runs();
    let args = ["--run", "sentiment=texts", "--run", "ner=words"];
    let open = Serving::start(&sandbox, &args);
    let guarded = Serving::start_with(&sandbox, &args, Some(TOKEN_OF_SERVICE));
    train(&sandbox, "runs/topics", &[]);
    sandbox.write("reviews.jsonl", json_lines([json!({ "text": "sad" })]));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut count = 0;
    for document in ["README.md", "docs/serve.md"] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        let commands = text.replace("\\\n", " ");
        for command in commands.lines().filter(|line| line.starts_with("curl ")) {
            let has_token = command.contains("$LS_LLAMA_TOKEN");
            let serving = if has_token { &guarded } else { &open };
            let command = command.replace("localhost:8080", serving.address());
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{command} --silent --fail-with-body")]);
            shell.env("LS_LLAMA_TOKEN", TOKEN_OF_SERVICE);
            let output = shell.current_dir(sandbox.path("")).output().unwrap();
            let answer = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{command}: {answer}");
            let is_answered = !jsonl(&answer).is_empty() || command.contains("DELETE");
            assert!(is_answered, "{command}: {answer}");
            count += 1;
        }
    }
    assert_eq!(count, 7);
    open.stop();
    guarded.stop();
}

/// The document is good enough for a client in Python to be made of it.
#[test]
#[allow(clippy::print_stderr)]
fn a_client_that_is_made_of_the_document_gets_the_same_answers() {
    let Some(python) = python_with("openapi_python_client") else {
        eprintln!("SKIPPED: no python with openapi-python-client (LS_LLAMA_PYTHON names one)");
        return;
    };
    let sandbox = runs();
    let serving = Serving::start(&sandbox, &["--run", "texts", "--run", "words"]);
    sandbox.write("openapi.json", serving.get("/openapi.json").body);
    let make = [
        "-m",
        "openapi_python_client",
        "generate",
        "--meta",
        "none",
        "--path",
        "openapi.json",
        "--output-path",
        "client/ls_llama_client",
    ];
    std::fs::create_dir(sandbox.path("client")).unwrap();
    let mut command = Command::new(&python);
    let made = command
        .args(make)
        .current_dir(sandbox.path(""))
        .output()
        .unwrap();
    // Its exit code also says whether tools that format were found.
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cli/use_client.py");
    let mut command = Command::new(&python);
    let asked = command
        .arg(script)
        .arg(sandbox.path("client"))
        .arg(serving.url().trim_end_matches('/'))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&asked.stderr);
    assert!(asked.status.success(), "{said}\n{stderr}");
    let answers: Value = serde_json::from_slice(&asked.stdout).unwrap();

    let ask = |path: &str, body: Value| serving.post(path, &body).json();
    let texts = json!({ "inputs": [["good and warm"], ["sad"]] });
    let texts = ask("/models/texts/predict", texts);
    assert_eq!(answers["texts"], texts);
    assert_eq!(answers["text"], texts[0]);
    let classes = json!({ "input": ["good and warm", "sad"] });
    assert_eq!(
        answers["classes"],
        ask("/models/texts/classify", classes)["data"]
    );
    let entities = json!({ "inputs": "Ann sold boats in Bern ." });
    assert_eq!(answers["entities"], ask("/models/words/ner", entities));
    assert_eq!(answers["refused"]["error_type"], "model_not_found");
    serving.stop();
}

/// Whatever the document allows is answered as it says, and all else is refused: nothing
/// makes the service fail.
#[test]
#[allow(clippy::print_stderr)]
fn questions_that_are_made_of_the_document_find_no_fault() {
    let Some(python) = python_with("schemathesis") else {
        eprintln!("SKIPPED: no python with schemathesis (LS_LLAMA_PYTHON names one)");
        return;
    };
    let sandbox = runs();
    let args = ["--run", "texts", "--run", "words"];
    let serving = Serving::start_with(&sandbox, &args, Some(TOKEN_OF_SERVICE));
    // Names that there are, so that not all is refused for its model.
    let named = |path: &str, model: &str| {
        format!(
            "[[operations]]\ninclude-path = \"/models/{{model}}/{path}\"\n\
             parameters = {{ \"path.model\" = \"{model}\" }}\n"
        )
    };
    let of_texts = ["predict", "classify"]
        .map(|path| named(path, "texts"))
        .concat();
    sandbox.write("schemathesis.toml", of_texts + &named("ner", "words"));
    let mut command = Command::new(&python);
    let asked = command
        .args(["-m", "schemathesis.cli", "run"])
        .arg(format!("{}openapi.json", serving.url()))
        .args([
            "--header",
            &format!("Authorization: Bearer {TOKEN_OF_SERVICE}"),
        ])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", "20", "--seed", "1"])
        // JSON lines are not among what it can write.
        .args(["--exclude-path-regex", "/batch$"])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,\
             response_schema_conformance",
        ])
        .current_dir(sandbox.path(""))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&asked.stdout);
    assert!(asked.status.success(), "{said}");
    assert_contains(&said, &["Selected: 12/14", "Tested: 12"]);
    serving.stop();
}
