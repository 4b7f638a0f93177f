//! `ls-cli convert`: a GGUF file to a folder that trains and predicts, and everything that is wrong
//! with a GGUF file named.

use std::path::Path;

use crate::sandbox::{Sandbox, says};

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/gguf");
    std::fs::read(folder.join(name)).unwrap()
}

fn with(name: &str, bytes: impl AsRef<[u8]>) -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write(name, bytes);
    sandbox
}

const CONVERT: [&str; 3] = ["convert", "llama.gguf", "models/out"];

#[test]
fn a_folder_is_made_that_trains_and_predicts() {
    let sandbox = with("llama.gguf", fixture("llama.gguf"));
    let stdout = sandbox.ok(&CONVERT);
    assert_eq!(stdout, "models/out: 35232 weights in BF16, 520 tokens\n");
    let files = [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(sandbox.listing("models/out"), files);
    assert_eq!(sandbox.listing("models").len(), files.len());
    let config = sandbox.json("models/out/config.json");
    assert_eq!(config["rope_scaling"]["rope_type"], "llama3");
    assert_eq!(config["rope_scaling"]["factor"], 32.0);
    assert_eq!(config["rms_norm_eps"], 1e-5);
    assert_eq!(config["tie_word_embeddings"], true);

    sandbox.write(
        "a.csv",
        "text,label\nthe sea,good\nbad,bad\na warm film,good\nsad,bad\n",
    );
    sandbox.ok(&[
        "train",
        "--model",
        "models/out",
        "--data",
        "a.csv",
        "--validation",
        "a.csv",
        "--run",
        "run",
        "--set",
        "train.epochs=1",
    ]);
    let answers = sandbox.ok(&["predict", "--run", "run", "the sea"]);
    assert!(answers.contains("\"label\""), "{answers}");
}

#[test]
fn nothing_is_replaced() {
    let sandbox = with("llama.gguf", fixture("llama.gguf"));
    sandbox.write("models/out/mine.txt", "mine");
    let outcome = sandbox.run(&CONVERT);
    says(
        &outcome,
        2,
        &["models/out: not a usable folder", "it is not empty"],
    );
    assert_eq!(sandbox.listing("models"), ["out/mine.txt"]);
}

#[test]
fn a_folder_that_cannot_be_replaced_is_refused_before_anything_is_written() {
    let sandbox = with("llama.gguf", fixture("llama.gguf"));
    std::fs::create_dir(sandbox.path("models")).unwrap();
    for folder in [".", "..", "/", "models/.."] {
        let outcome = sandbox.run(&["convert", "llama.gguf", folder]);
        let said = [
            "not a usable folder for the converted model",
            "a new folder in it",
        ];
        says(&outcome, 2, &said);
    }
    assert!(sandbox.files().keys().eq(["llama.gguf"]));
}

/// As a volume of a container is one.
#[test]
#[cfg(target_os = "linux")]
fn a_mount_point_is_refused_before_anything_is_written() {
    let sandbox = with("llama.gguf", fixture("llama.gguf"));
    std::fs::create_dir(sandbox.path("out")).unwrap();
    let mounted = |then: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        command.args(["mount -t tmpfs tmpfs out && exec \"$@\"", "sh"]);
        command.args(then).current_dir(sandbox.path(""));
        command.output()
    };
    if !mounted(&["true"]).is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: nothing can be mounted here");
        return;
    }
    let program = sandbox.command(&[]).get_program().to_owned();
    let output = mounted(&[program.to_str().unwrap(), "convert", "llama.gguf", "out"]).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let said =
        "out: not a usable folder for the converted model: it cannot be replaced by another (";
    assert!(stderr.contains(said), "{stderr}");
    assert!(sandbox.files().keys().eq(["llama.gguf"]));
}

#[test]
#[cfg(unix)]
fn what_a_link_leads_to_is_replaced_and_not_the_link() {
    use std::os::unix::fs::symlink;
    // One that is there and empty, and one that is not there yet.
    for (is_there, folder) in [true, false].into_iter().zip(["models/out", "models/out/"]) {
        let sandbox = with("llama.gguf", fixture("llama.gguf"));
        for folder in ["models", "large"] {
            std::fs::create_dir(sandbox.path(folder)).unwrap();
        }
        if is_there {
            std::fs::create_dir(sandbox.path("large/out")).unwrap();
        }
        symlink("../large/out", sandbox.path("models/out")).unwrap();
        sandbox.ok(&["convert", "llama.gguf", folder]);
        assert!(sandbox.path("models/out").is_symlink());
        assert_eq!(sandbox.listing("large").len(), 4);
        assert!(sandbox.path("large/out/config.json").is_file());
    }
}

#[test]
fn a_gguf_file_in_the_place_of_a_folder_is_told_what_to_do() {
    let sandbox = with("m/llama.gguf", fixture("llama.gguf"));
    sandbox.write("a.csv", "text,label\na,x\nb,y\n");
    for model in ["m/llama.gguf", "m"] {
        let outcome = sandbox.run(&["train", "--model", model, "--data", "a.csv"]);
        says(
            &outcome,
            outcome.code,
            &["ls-cli convert m/llama.gguf OUT_DIR"],
        );
        assert_ne!(outcome.code, 0);
    }
}

/// The file with other bytes in the place of some that stand in it once.
fn replaced(name: &str, old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut bytes = fixture(name);
    let mut places = bytes.windows(old.len()).enumerate();
    let at = places.find(|(_, found)| *found == old).unwrap().0;
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

/// A key of the metadata as it stands in a file: its length, its bytes.
fn key(name: &str) -> Vec<u8> {
    let mut bytes = (name.len() as u64).to_le_bytes().to_vec();
    bytes.extend(name.bytes());
    bytes
}

/// The file with another value of four bytes behind a key and its type.
fn set(name: &str, of: &str, value: [u8; 4]) -> Vec<u8> {
    let mut bytes = fixture(name);
    let key = key(of);
    let at = bytes.windows(key.len()).position(|found| found == key);
    let at = at.unwrap() + key.len() + 4;
    bytes[at..at + 4].copy_from_slice(&value);
    bytes
}

/// A value of the metadata: its type and its bytes.
type Typed = (u32, Vec<u8>);

fn float(value: f32) -> Typed {
    (6, value.to_le_bytes().to_vec())
}

fn text(value: &str) -> Typed {
    (8, key(value))
}

/// The file with further keys before its own, and one that fills them up to whole blocks: the
/// weights stand at multiples of 32 bytes.
fn with_keys(name: &str, keys: &[(&str, Typed)]) -> Vec<u8> {
    let mut bytes = fixture(name);
    let mut added = Vec::new();
    for (of, (kind, value)) in keys {
        added.extend(key(of));
        added.extend(kind.to_le_bytes());
        added.extend(value);
    }
    let (filler, empty) = (key("filler"), text("").1.len());
    let fills = (added.len() + filler.len() + 4 + empty).next_multiple_of(32);
    let length = fills - added.len() - filler.len() - 4 - empty;
    added.extend(filler);
    added.extend(8u32.to_le_bytes());
    added.extend(key(&"x".repeat(length)));
    let count = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) + keys.len() as u64 + 1;
    bytes[16..24].copy_from_slice(&count.to_le_bytes());
    bytes.splice(24..24, added);
    bytes
}

#[test]
fn what_a_file_says_of_its_mask_and_its_positions_is_kept() {
    let config = |name: &str, keys: &[(&str, Typed)]| {
        let sandbox = with("llama.gguf", with_keys(name, keys));
        sandbox.ok(&CONVERT);
        sandbox.json("models/out/config.json")
    };
    let plain = config("llama.gguf", &[]);
    assert!(plain.get("is_causal").is_none(), "{plain}");
    let none = (4, u32::MAX.to_le_bytes().to_vec());
    let both = config(
        "llama.gguf",
        &[
            ("llama.attention.causal", (7, vec![0])),
            ("tokenizer.ggml.padding_token_id", none),
            // Nothing but what is so by itself.
            ("llama.attention.clamp_kqv", float(0.0)),
            (
                "llama.attention.sliding_window",
                (4, 131_072u32.to_le_bytes().to_vec()),
            ),
            ("llama.rope.scaling.attn_factor", float(1.0)),
        ],
    );
    assert_eq!(both["is_causal"], false, "{both}");
    assert!(both.get("pad_token_id").is_none(), "{both}");
    let yarn = config(
        "qwen2.gguf",
        &[
            ("qwen2.rope.scaling.type", text("yarn")),
            ("qwen2.rope.scaling.factor", float(4.0)),
            ("qwen2.rope.scaling.yarn_beta_fast", float(8.0)),
            ("qwen2.rope.scaling.yarn_beta_slow", float(-1.0)),
        ],
    );
    let expected = serde_json::json!({"rope_type": "yarn", "factor": 4, "beta_fast": 8});
    for (field, expected) in expected.as_object().unwrap() {
        let found = &yarn["rope_scaling"][field];
        assert_eq!(found.as_f64(), expected.as_f64(), "{field}: {yarn}");
    }
    assert!(yarn["rope_scaling"].get("beta_slow").is_none(), "{yarn}");
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let whole = fixture("llama.gguf");
    let with_type = |name: &str, kind: u32| {
        let mut bytes = whole.clone();
        let key = key(name);
        let at = bytes.windows(key.len()).position(|found| found == key);
        // Behind the name: the number of dimensions and two sizes.
        let at = at.unwrap() + key.len() + 4 + 16;
        bytes[at..at + 4].copy_from_slice(&kind.to_le_bytes());
        bytes
    };
    let version = |number: u32| {
        let mut bytes = whole.clone();
        bytes[4..8].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    let counted = |count: u64| {
        let mut bytes = whole.clone();
        bytes[8..16].copy_from_slice(&count.to_le_bytes());
        bytes
    };
    let cases: Vec<(Vec<u8>, &[&str])> = vec![
        (
            b"PK\x03\x04zip".to_vec(),
            &["not a usable GGUF file", "not GGUF"],
        ),
        (b"".to_vec(), &["truncated: 0 bytes, expected 4"]),
        (version(1), &["expected version 2 to 3, found 1"]),
        (version(3 << 24), &["it is of a big-endian machine"]),
        (
            counted(1 << 40),
            &["expected 0 to 65536 tensors, found 1099511627776"],
        ),
        (whole[..200].to_vec(), &["truncated: 200 bytes"]),
        (
            whole[..whole.len() - 20].to_vec(),
            &["truncated: 44556 bytes, expected 44560"],
        ),
        (
            with_type("blk.1.ffn_up.weight", 17),
            &["tensor blk.1.ffn_up.weight is of type IQ2_XS; read are F32, F16, Q4_0"],
        ),
        (
            with_type("blk.1.ffn_up.weight", 999),
            &["tensor blk.1.ffn_up.weight is of type 999, which is none"],
        ),
        (
            with_type("blk.1.ffn_up.weight", 12),
            &["rows of 32 values, which are no blocks of 256 (Q4_K)"],
        ),
        (
            replaced("llama.gguf", b"blk.1.ffn_up.weight", b"blk.1.ffn_xp.weight"),
            &["tensor blk.1.ffn_up.weight is missing; did you mean"],
        ),
        (
            replaced("llama.gguf", b"llama.block_count", b"llama.block_cound"),
            &["llama.block_count: is missing"],
        ),
        (
            set("llama.gguf", "llama.block_count", 1u32.to_le_bytes()),
            &["9 of its tensors have no place in the decoder, the first blk.1."],
        ),
        (
            set("llama.gguf", "llama.embedding_length", 64u32.to_le_bytes()),
            &["tensor token_embd.weight has shape [520, 32], expected [520, 64]"],
        ),
        (
            set(
                "llama.gguf",
                "llama.rope.dimension_count",
                4u32.to_le_bytes(),
            ),
            &["llama.rope.dimension_count: expected all 8 values of a head, found 4"],
        ),
        (
            set("llama.gguf", "llama.rope.freq_base", 1e4f32.to_le_bytes()),
            &["rope_freqs.weight", "the divisors of LLaMA 3.1"],
        ),
        (
            set(
                "llama.gguf",
                "llama.attention.layer_norm_rms_epsilon",
                f32::NAN.to_le_bytes(),
            ),
            &["llama.attention.layer_norm_rms_epsilon: expected a number"],
        ),
        (
            replaced(
                "llama.gguf",
                b"\x05\0\0\0\0\0\0\0llama",
                b"\x05\0\0\0\0\0\0\0mamba",
            ),
            &["general.architecture \"mamba\" is not supported (supported: llama, qwen2, qwen3)"],
        ),
        (
            set(
                "llama.gguf",
                "tokenizer.ggml.bos_token_id",
                520u32.to_le_bytes(),
            ),
            &["tokenizer.ggml.bos_token_id: expected an id under 520"],
        ),
        (
            with_keys("llama.gguf", &[("llama.rope.scale_linear", float(4.0))]),
            &[
                "llama.rope.scaling.type \"linear\" is not supported (supported: none, beside the \
                 tensor rope_freqs.weight)",
            ],
        ),
        (
            with_keys("llama.gguf", &[("llama.attention.scale", float(0.5))]),
            &["llama.attention.scale \"0.5\" is not supported (supported: 0)"],
        ),
        (
            with_keys(
                "llama.gguf",
                &[("llama.rope.scaling.yarn_ext_factor", float(1.0))],
            ),
            &["llama.rope.scaling.yarn_ext_factor \"1\" is not supported (supported: 0, -1)"],
        ),
        (
            with_keys("llama.gguf", &[("llama.attention.causal", float(0.0))]),
            &["llama.attention.causal: expected true or false"],
        ),
        (
            with_keys(
                "llama.gguf",
                &[("llama.rope.scaling.attn_factor", float(2.0))],
            ),
            &["llama.rope.scaling.attn_factor \"2\" is not supported (supported: 1)"],
        ),
        (
            with_keys(
                "llama.gguf",
                &[(
                    "llama.attention.sliding_window",
                    (4, 4u32.to_le_bytes().to_vec()),
                )],
            ),
            &["llama.attention.sliding_window \"4\" is not supported"],
        ),
    ];
    for (bytes, parts) in cases {
        let sandbox = with("llama.gguf", bytes);
        let outcome = sandbox.run(&CONVERT);
        says(&outcome, 1, parts);
        assert!(
            outcome.stderr.contains("llama.gguf: "),
            "{}",
            outcome.stderr
        );
        assert_eq!(sandbox.files().len(), 1, "{parts:?}");
    }
}

#[test]
fn an_unknown_tokenizer_is_named_and_another_can_be_taken() {
    let unknown = replaced("qwen2.gguf", b"llama-bpe", b"smaug-bpe");
    let sandbox = with("llama.gguf", unknown);
    let expected = [
        "tokenizer.ggml.pre: smaug-bpe is not known (known: llama-bpe, qwen2, smollm)",
        "hint: take that of the model's Hugging Face folder: --tokenizer HF_DIR",
    ];
    says(&sandbox.run(&CONVERT), 1, &expected);

    let tokenizers =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../ls-data/tests/fixtures/tokenizers");
    let [fits, larger] = ["llama3", "llama2"].map(|name| tokenizers.join(name));
    let with_tokenizer = |from: &Path| {
        let from = from.to_str().unwrap();
        sandbox.run(&[&CONVERT[..], &["--tokenizer", from]].concat())
    };
    let expected = "not a usable tokenizer for this model: 520 tokens, and the model has 485";
    says(&with_tokenizer(&larger), 1, &[expected]);
    says(&with_tokenizer(&fits), 0, &[]);
    let copied = sandbox.read("models/out/tokenizer.json");
    assert_eq!(
        copied,
        std::fs::read_to_string(fits.join("tokenizer.json")).unwrap()
    );
}
