//! A fresh folder with a tiny model and data in it, and the real binary run there.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ls_files::write_tensors;
use ls_lora::HostTensor;
use ls_model::LlamaConfig;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Words of the two tokenizers of `crates/ls-data/tests/fixtures/tokenizers`; the model has room
/// for either.
const VOCAB_SIZE: usize = 520;
const HIDDEN_SIZE: usize = 16;
const INTERMEDIATE_SIZE: usize = 24;

/// A temporary folder, removed with the value. Commands run in it, so paths in messages are short.
pub struct Sandbox {
    dir: TempDir,
}

/// What a run of the binary left.
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Sandbox {
    /// With a random two-layer LLaMA and its tokenizer in `model`.
    pub fn new() -> Self {
        let sandbox = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        sandbox.model("model", VOCAB_SIZE);
        sandbox
    }

    /// Without anything.
    pub fn empty() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A random LLaMA (grouped KV heads, tied embeddings), always the same, with a
    /// SentencePiece-style tokenizer.
    pub fn model(&self, name: &str, vocab_size: usize) {
        self.model_of(name, &config_json(vocab_size));
    }

    /// The same, but with these fields in its configuration, which may make it another family's.
    pub fn model_with(&self, name: &str, fields: &Value) {
        let mut config = config_json(VOCAB_SIZE);
        if let (Value::Object(config), Value::Object(fields)) = (&mut config, fields) {
            config.extend(fields.clone());
        }
        self.model_of(name, &config);
    }

    /// A model with these fields in its configuration, of any size: its weights are a hole in a
    /// file, which take no room and are zeros to whoever reads them.
    pub fn hollow_model(&self, name: &str, fields: &Value) {
        self.model_with(name, &json!({}));
        let mut config = self.json(&format!("{name}/config.json"));
        config
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let of = LlamaConfig::from_json(&config.to_string(), Path::new("config.json")).unwrap();
        let (mut header, mut end) = (serde_json::Map::new(), 0);
        for (tensor, shape) in of.tensors() {
            let start = end;
            end += 4 * shape.iter().product::<usize>();
            let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] });
            header.insert(format!("model.{tensor}"), entry);
        }
        let header = Value::Object(header).to_string();
        let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        self.write(&format!("{name}/config.json"), config.to_string());
        let weights = format!("{name}/model.safetensors");
        self.write(&weights, &bytes);
        let file = std::fs::File::options()
            .append(true)
            .open(self.path(&weights))
            .unwrap();
        file.set_len((bytes.len() + end) as u64).unwrap();
    }

    fn model_of(&self, name: &str, config: &Value) {
        self.write(&format!("{name}/config.json"), config.to_string());
        self.write_tensors(&format!("{name}/model.safetensors"), &weights_of(config));
        let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../ls-data/tests/fixtures/tokenizers/llama2");
        for file in ["tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(tokenizer.join(file), self.path(name).join(file)).unwrap();
        }
    }

    /// Replaces a safetensors file.
    pub fn write_tensors(&self, name: &str, tensors: &BTreeMap<String, HostTensor>) {
        let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        write_tensors(self.path(name), tensors).unwrap();
    }

    /// Changes fields of a JSON file; `null` takes a field away.
    pub fn edit_json(&self, name: &str, fields: Value) {
        let mut object: Value = serde_json::from_str(&self.read(name)).unwrap();
        for (key, value) in fields.as_object().unwrap() {
            match value {
                Value::Null => object.as_object_mut().unwrap().remove(key),
                value => object
                    .as_object_mut()
                    .unwrap()
                    .insert(key.clone(), value.clone()),
            };
        }
        self.write(name, object.to_string());
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    pub fn jsonl(&self, name: &str) -> Vec<Value> {
        jsonl(&self.read(name))
    }

    /// Every file by its path and bytes.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files_and_folders();
        files.retain(|path, _| !path.ends_with('/'));
        files
    }

    /// The same, and every folder by its path with a slash behind it.
    pub fn files_and_folders(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.dir.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.dir.path()).unwrap();
                let name = name.to_str().unwrap();
                if path.is_dir() {
                    files.insert(format!("{name}/"), Vec::new());
                    folders.push(path);
                } else {
                    files.insert(name.to_owned(), std::fs::read(&path).unwrap());
                }
            }
        }
        files
    }

    /// The paths of the files below a folder.
    pub fn listing(&self, folder: &str) -> Vec<String> {
        let prefix = format!("{folder}/");
        self.files()
            .into_keys()
            .filter_map(|path| path.strip_prefix(&prefix).map(str::to_owned))
            .collect()
    }

    /// Runs the binary, which must print one JSON object.
    pub fn ok_json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    /// The binary, to be run here.
    pub fn command(&self, args: &[&str]) -> Command {
        self.prepared(Command::new(env!("CARGO_BIN_EXE_ls-cli")), args)
    }

    /// The binary, to be run here and sent signals. In the background of a script SIGINT is
    /// ignored, which the tests would hand on to it.
    pub fn command_that_heeds_signals(&self, args: &[&str]) -> Command {
        if !cfg!(target_os = "linux") {
            return self.command(args);
        }
        let mut env = Command::new("env");
        env.args([
            "--default-signal=INT,TERM,HUP",
            env!("CARGO_BIN_EXE_ls-cli"),
        ]);
        self.prepared(env, args)
    }

    fn prepared(&self, mut command: Command, args: &[&str]) -> Command {
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_remove("LS_LLAMA_LOG")
            .env_remove("RUST_LOG")
            .env_remove("HF_HUB_CACHE")
            .env_remove("HUGGINGFACE_HUB_CACHE")
            .env("HF_HOME", self.path("hf"))
            .env("LS_LLAMA_CACHE", self.path("cache"));
        command
    }

    /// Runs the binary with nothing on stdin.
    pub fn run(&self, args: &[&str]) -> Outcome {
        self.run_with(args, "")
    }

    /// Runs the binary with this on stdin.
    pub fn run_with(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> Outcome {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A program that does not read its input closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_ref());
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let outcome = Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        assert_no_panic(&outcome.stderr, &format!("{args:?}"));
        outcome
    }

    /// Runs the binary, which must succeed, and returns its stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        let outcome = self.run(args);
        assert_eq!(outcome.code, 0, "{args:?}: {}", outcome.stderr);
        outcome.stdout
    }
}

/// The time that processors have worked for a process so far, where the system tells, in steps of
/// 10 ms. Other processes stretch what a run takes by the clock, not this.
pub fn processor_time(process: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, which may hold anything, stand the state and other numbers; the times of
    // user and system are the 12th and 13th, in hundredths of a second.
    let (_, fields) = stat.rsplit_once(')')?;
    let times = fields.split_whitespace().skip(11).take(2);
    let hundredths = times
        .filter_map(|time| time.parse::<u64>().ok())
        .sum::<u64>();
    Some(Duration::from_millis(10 * hundredths))
}

/// Whether a text on stderr tells of a panic: in Rust's own words, or in those of the program,
/// whose hook stands in their place.
pub fn tells_of_a_panic(stderr: &str) -> bool {
    stderr.contains("panicked at") || stderr.contains("error: internal error")
}

#[track_caller]
pub fn assert_no_panic(stderr: &str, what: &str) {
    assert!(!tells_of_a_panic(stderr), "{what}: {stderr}");
}

#[track_caller]
pub fn assert_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

/// The exit code, and what stderr must hold.
#[track_caller]
pub fn says(outcome: &Outcome, code: i32, parts: &[&str]) {
    assert_eq!(outcome.code, code, "{}", outcome.stderr);
    assert_contains(&outcome.stderr, parts);
}

/// Objects of JSON lines.
pub fn jsonl(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn config_json(vocab_size: usize) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": INTERMEDIATE_SIZE,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": true,
        "bos_token_id": 1,
        "eos_token_id": 2,
    })
}

/// The tensors of the random model.
pub fn weights(vocab_size: usize) -> BTreeMap<String, HostTensor> {
    weights_of(&config_json(vocab_size))
}

fn weights_of(config: &Value) -> BTreeMap<String, HostTensor> {
    let config = LlamaConfig::from_json(&config.to_string(), Path::new("config.json")).unwrap();
    let mut state = 17u64;
    let mut tensors = BTreeMap::new();
    for (name, shape) in config.tensors() {
        let count = shape.iter().product();
        let norm = shape.len() == 1;
        let values: Vec<f32> = (0..count)
            .map(|_| if norm { 1.0 } else { 0.3 * uniform(&mut state) })
            .collect();
        let tensor = HostTensor::from_f32(shape, &values);
        tensors.insert(format!("model.{name}"), tensor);
    }
    tensors
}

/// From -1 to 1 (splitmix64).
fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}
