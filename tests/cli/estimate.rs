//! `ls-cli estimate`: parameters, memory by part, whether it fits, and what would.

use serde_json::{Value, json};

use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, says};

const ESTIMATE: [&str; 4] = ["estimate", "--config", "run.toml", "--json"];

fn flags<'a>(set: &[&'a str]) -> Vec<&'a str> {
    set.iter().flat_map(|set| ["--set", set]).collect()
}

fn estimate(sandbox: &Sandbox, set: &[&str], more: &[&str]) -> Value {
    sandbox.ok_json(&[&ESTIMATE[..], &flags(set), more].concat())
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value}"))
}

/// Bytes of all tensors in the weights of the model, which are f32.
fn bytes_of_weights(sandbox: &Sandbox) -> u64 {
    let tensors = weights_of_model(sandbox);
    tensors.map(|shape| 4 * shape.iter().product::<u64>()).sum()
}

fn weights_of_model(sandbox: &Sandbox) -> impl Iterator<Item = Vec<u64>> {
    let file = std::fs::read(sandbox.path("model/model.safetensors")).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let tensors = header.as_object().unwrap().clone();
    let tensors = tensors
        .into_iter()
        .filter(|(name, _)| name != "__metadata__");
    tensors.map(|(_, tensor)| {
        let shape = tensor["shape"].as_array().unwrap().iter();
        shape.map(number).collect()
    })
}

#[test]
fn parameters_steps_and_weights_are_those_of_the_run() {
    let texts = sequence();
    let words = token();
    let all = bytes_of_weights(&texts);
    for (sandbox, set, of_weights) in [
        (&texts, &[][..], all),
        (&texts, &["model.dtype=bf16", "lora.use_dora=true"], all / 2),
        (
            &texts,
            &["lora.target_modules=[\"v_proj\", \"embed_tokens\"]"],
            all,
        ),
        (
            &words,
            &["lora.r=3", "lora.bias=all", "train.epochs=1"],
            all,
        ),
        (&texts, &["lora=false"], 0),
        (
            &texts,
            &[
                "lora=false",
                "train.layers=1",
                "train.gradient_accumulation_steps=2",
            ],
            0,
        ),
    ] {
        let found = estimate(sandbox, set, &[]);
        let told = &found["parameters"];
        let run = ["train", "--config", "run.toml", "--run", "out"];
        sandbox.ok(&[&run[..], &flags(set)].concat());
        let report = sandbox.json("out/report.json");
        assert_eq!(told["trainable"], report["trainable_parameters"], "{set:?}");
        assert_eq!(told["all"], report["all_parameters"], "{set:?}");
        let parts = ["adapters", "head", "decoder"].map(|part| number(&told[part]));
        assert_eq!(parts.iter().sum::<u64>(), number(&told["trainable"]));
        assert_eq!(found["work"]["steps"], report["steps"], "{set:?}");
        let memory = &found["memory"];
        if of_weights > 0 {
            assert_eq!(number(&memory["weights"]), of_weights, "{set:?}");
            assert_eq!(parts[2], 0);
        } else {
            // What trains of the decoder is not frozen beside it.
            assert_eq!(number(&memory["weights"]) + 4 * parts[2], all, "{set:?}");
        }
        let parts = memory.as_object().unwrap().values().map(number);
        assert_eq!(parts.sum::<u64>(), number(&found["peak"]));
        // A program of some tens of megabytes, on a model of some hundred kilobytes.
        let peak = number(&report["peak_memory"]) as f64;
        let ratio = number(&found["peak"]) as f64 / peak;
        assert!((0.5..1.5).contains(&ratio), "{set:?}: {ratio} of {peak}");
        std::fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
}

/// A model whose weights are a hole in a file: 240 MB of them, and texts of up to 200 words.
fn larger() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.hollow_model(
        "model",
        &json!({
            "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 20,
            "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 512,
        }),
    );
    let rows = reviews().into_iter().enumerate();
    let rows = rows.map(|(at, (text, label))| (vec![text; 1 + 2 * at].join(" and "), label));
    sandbox.write("train.csv", csv(&rows.collect::<Vec<_>>()));
    sandbox.write("run.toml", SEQUENCE);
    sandbox
}

#[test]
fn the_change_that_is_named_is_enough_and_no_more_than_is_needed() {
    let sandbox = larger();
    let off_host = |set: &[&str], gibibytes: Option<f64>| {
        let memory = gibibytes.map(|number| format!("{number:.6}"));
        let memory: Vec<&str> = memory.iter().flat_map(|text| ["--memory", text]).collect();
        estimate(
            &sandbox,
            set,
            &[&["--device", "cuda"], &memory[..]].concat(),
        )
    };
    for base in [
        &[][..],
        &["lora=false"],
        &["data.long_inputs=window", "data.max_length=128"],
    ] {
        let free = off_host(base, None);
        assert_eq!(
            (&free["fits"], &free["change"]),
            (&Value::Null, &Value::Null)
        );
        let peak = number(&free["peak"]) as f64 / f64::from(1 << 30);
        assert_eq!(off_host(base, Some(1.01 * peak))["fits"], true, "{base:?}");
        let mut kinds = Vec::new();
        for part in [0.97, 0.8, 0.6, 0.45, 0.3, 0.2, 0.12, 0.07] {
            let short = off_host(base, Some(part * peak));
            assert_eq!(short["fits"], false);
            let Value::Array(set) = &short["change"]["set"] else {
                assert_eq!(short["change"], Value::Null);
                continue;
            };
            let set: Vec<&str> = set.iter().map(|set| set.as_str().unwrap()).collect();
            kinds.push(set.join(" "));
            let again = off_host(&[base, &set].concat(), Some(part * peak));
            assert_eq!(again["fits"], true, "{base:?} {part} {set:?}");
            // Windows are not cut again to be told: there it is told of full ones.
            if !base.contains(&"data.long_inputs=window") {
                assert_eq!(again["peak"], short["change"]["peak"], "{base:?} {set:?}");
            }
            // Without the last of them it is not.
            let fewer = off_host(&[base, &set[..set.len() - 1]].concat(), Some(part * peak));
            assert_eq!(fewer["fits"], false, "{base:?} {part} {set:?}");
        }
        assert!(kinds.len() > 3, "{base:?}: {kinds:?}");
        // The first leaves the numbers of the run as they are.
        if base.is_empty() {
            assert_eq!(kinds[0], "train.pass_size=2", "{kinds:?}");
            assert!(
                kinds
                    .iter()
                    .any(|set| set.contains("gradient_checkpointing")),
                "{kinds:?}"
            );
            assert!(
                kinds.iter().any(|set| set.contains("quantization")),
                "{kinds:?}"
            );
        } else if base == ["lora=false"] {
            assert!(
                kinds.iter().any(|set| set.contains("train.layers")),
                "{kinds:?}"
            );
            assert!(kinds.iter().any(|set| set.contains("lora={}")), "{kinds:?}");
        }
    }
    // Weights that stand in no memory are not helped by anything.
    let least = off_host(&[], Some(0.01));
    assert_eq!(
        (&least["fits"], &least["change"]),
        (&json!(false), &Value::Null)
    );
}

/// Rounding to fewer bits would be enough alone, and loses more.
#[test]
fn what_costs_nothing_of_the_result_comes_with_the_mildest_rounding_that_is_enough() {
    let sandbox = larger();
    sandbox.write("train.csv", csv(&reviews()));
    let peak = |set: &[&str]| {
        let base = ["train.micro_batch_size=8"];
        let found = estimate(&sandbox, &[&base[..], set].concat(), &["--device", "cuda"]);
        number(&found["peak"])
    };
    let free = [
        "train.eval_batch_size=1",
        "train.pass_size=1",
        "train.gradient_checkpointing=true",
    ];
    let bf16 = "model.dtype=bf16";
    let enough = [
        peak(&["model.quantization=int8"]),
        peak(&[&free[..], &[bf16]].concat()),
    ];
    let most = enough[0].max(enough[1]);
    assert!(most < peak(&free) && most < peak(&[bf16]), "{enough:?}");
    let memory = format!("{:.6}", 1.001 * most as f64 / f64::from(1 << 30));
    let more = ["--device", "cuda", "--memory", &memory];
    let found = estimate(&sandbox, &["train.micro_batch_size=8"], &more);
    let set = found["change"]["set"].as_array().unwrap();
    assert!(set.contains(&json!(bf16)) && set.len() > 1, "{found}");
    let set: Vec<&str> = set.iter().map(|set| set.as_str().unwrap()).collect();
    assert!(!set.join(" ").contains("quantization"), "{set:?}");
}

#[test]
fn the_demonstration_is_estimated_and_not_unpacked_here() {
    let sandbox = Sandbox::empty();
    let before = sandbox.files();
    let text = sandbox.ok(&["estimate"]);
    assert_contains(&text, &["parameters ", "next: ", " train\n"]);
    assert!(sandbox.files() == before);
}

/// A folder for temporary files is only needed where there is something to unpack.
#[test]
fn of_a_file_nothing_is_unpacked() {
    let sandbox = sequence();
    let output = |args: &[&str]| {
        let mut command = sandbox.command(&[&["estimate"], args].concat());
        command
            .env("TMPDIR", sandbox.path("nowhere"))
            .output()
            .unwrap()
    };
    let outcome = output(&["--config", "run.toml"]);
    assert!(outcome.status.success(), "{outcome:?}");
    let outcome = output(&[]);
    assert!(!outcome.status.success(), "{outcome:?}");
    assert_contains(&String::from_utf8_lossy(&outcome.stderr), &["nowhere"]);
}

#[test]
#[cfg(unix)]
fn a_signal_removes_what_was_unpacked() {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    let sandbox = Sandbox::empty();
    let folder = sandbox.path("unpacked");
    std::fs::create_dir(&folder).unwrap();
    let files = || folder.read_dir().unwrap().count();
    // It may be done before the signal comes.
    let stopped = (0..30).any(|_| {
        let mut command = sandbox.command_that_heeds_signals(&["estimate", "--measure"]);
        command.env("TMPDIR", &folder);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        while files() == 0 && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(100));
        }
        let sent = Command::new("kill")
            .args(["-s", "INT", &child.id().to_string()])
            .status();
        assert!(sent.is_ok());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(files(), 0, "{stderr}");
        let done = output.status.success();
        if !done {
            assert_eq!(output.status.code(), Some(130), "{stderr}");
            assert_contains(&stderr, &["stopping, and removing what was unpacked"]);
            assert_contains(&stderr, &["stopped before the answer"]);
            assert!(output.stdout.is_empty());
        }
        !done
    });
    assert!(stopped);
}

/// Of a model of 13 million parameters and long texts, so that the program is a small part of it.
/// The allocator is glibc's.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn the_peak_is_that_of_the_run_to_a_tenth() {
    let sandbox = Sandbox::new();
    let shape = json!({
        "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 4,
        "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 512,
    });
    sandbox.hollow_model("model", &shape);
    // Four steps an epoch: what the loop keeps of those before is all there.
    let rows = reviews().into_iter().step_by(3);
    let rows = rows.map(|(text, label)| (vec![text; 12].join(" and "), label));
    sandbox.write("train.csv", csv(&rows.collect::<Vec<_>>()));
    sandbox.write("run.toml", SEQUENCE);
    for set in [
        &["train.micro_batch_size=8"][..],
        &["model.dtype=bf16"],
        &[
            "model.quantization=nf4",
            "train.gradient_accumulation_steps=2",
        ],
        &["lora=false", "train.micro_batch_size=2"],
        &["lora=false", "train.layers=3"],
        // Copies of what is read, with what was dropped, and factors that stand still.
        &[
            "lora.init_lora_weights=pissa_niter_4",
            "lora.target_modules=all-linear",
            "lora.lora_dropout=0.1",
        ],
        &[
            "lora.init_lora_weights=olora",
            "lora.target_modules=all-linear",
            "lora.lora_dropout=0.1",
        ],
        // Norms are among them, which do not decay.
        &["lora.modules_to_save=[\"layers.2\", \"layers.3\"]"],
        // An evaluation is the peak.
        &[
            "train.micro_batch_size=1",
            "train.eval_batch_size=64",
            "data.validation=train.csv",
        ],
        &[
            "train.micro_batch_size=1",
            "train.eval_batch_size=64",
            "data.validation=train.csv",
            "model.quantization=nf4",
        ],
    ] {
        println!("{}", holds_to_a_tenth(&sandbox, set, None));
    }
}

/// A head that reads every token, in batches of which a buffer of the MLP is more than 32 MiB: the
/// allocator maps it by itself, beside what it keeps of smaller ones.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn the_peak_of_a_taggers_evaluation_is_told_to_a_tenth() {
    let sandbox = token();
    let shape = json!({
        "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 4,
        "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 512,
    });
    sandbox.hollow_model("model", &shape);
    let words = sentences().into_iter().flatten();
    let words = words.map(|(word, tag)| format!("{word} {tag}\n"));
    let sentence: String = words.cycle().take(200).collect();
    sandbox.write("train.conll", [&*sentence; 24].join("\n"));
    // After larger passes the allocator finds a place for some of an evaluation's buffers, by luck:
    // there the same run took 274 and 320 MB.
    let set = [
        "train.micro_batch_size=1",
        "train.epochs=2",
        "data.train=train.conll",
        "data.validation=train.conll",
    ];
    let of_moment = Some(("evaluation", 5500));
    println!("{}", holds_to_a_tenth(&sandbox, &set, of_moment));
}

/// Trains, and holds the estimate against what that took, which it says. It may be told when that
/// is, and how many tokens an evaluation has at least.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn holds_to_a_tenth(sandbox: &Sandbox, set: &[&str], of_moment: Option<(&str, u64)>) -> String {
    let found = estimate(sandbox, set, &[]);
    if let Some((moment, tokens)) = of_moment {
        assert_eq!(found["moment"], moment, "{set:?}: {found}");
        assert!(
            number(&found["work"]["evaluation_tokens"]) > tokens,
            "{found}"
        );
    }
    let run = ["train", "--config", "run.toml", "--run", "out"];
    let expected = number(&found["peak"]);
    // A run may miss its fullest moment, as where a checkpoint is written before the next step has
    // its gradients: so the fullest of three counts.
    let (mut measured, mut ratio) = (0, f64::INFINITY);
    for _ in 0..3 {
        sandbox.ok(&[&run[..], &flags(set)].concat());
        measured = measured.max(number(&sandbox.json("out/report.json")["peak_memory"]));
        ratio = expected as f64 / measured as f64;
        std::fs::remove_dir_all(sandbox.path("out")).unwrap();
        if ratio < 1.1 {
            break;
        }
    }
    assert!((0.9..1.1).contains(&ratio), "{set:?}: {found}, {measured}");
    format!("{set:?}: expected {expected}, measured {measured}: {ratio:.3}")
}

#[test]
fn on_the_cpu_the_program_counts_and_the_system_says_what_is_free() {
    let sandbox = larger();
    let found = estimate(&sandbox, &[], &[]);
    assert!(number(&found["memory"]["program"]) > 1 << 20, "{found}");
    if cfg!(target_os = "linux") {
        assert!(number(&found["available"]) > number(&found["memory"]["program"]));
    }
    let peak = number(&found["peak"]) as f64 / f64::from(1 << 30);
    let memory = format!("{:.4}", 0.9 * peak);
    let args = ["estimate", "--config", "run.toml", "--memory", &memory];
    let stdout = sandbox.ok(&args);
    assert_contains(
        &stdout,
        &[
            "parameters           ",
            " train (",
            "adapters ",
            "\n  weights ",
            "\n  activations ",
            ": it does not fit, ",
            "cheapest change      --set train.pass_size=",
            "the same examples in each step, other dropout masks and roundings",
            " train --config run.toml --set train.pass_size=",
        ],
    );
    let last = stdout.lines().last().unwrap();
    let set = last.rsplit_once("--set ").unwrap().1;
    let again = sandbox.ok(&[&args[..], &["--set", set]].concat());
    assert_contains(&again, &[": it fits\n"]);
    let stdout = sandbox.ok(&[&args[..3], &["--device", "wgpu"]].concat());
    assert_contains(&stdout, &["not known of this device: --memory GIB says it"]);
    let auto = estimate(
        &sandbox,
        &["train.micro_batch_size=auto"],
        &["--memory", &memory],
    );
    assert_eq!(auto["fits"], true, "{auto}");
    assert!(number(&auto["work"]["pass_rows"]) < 8, "{auto}");
}

/// On the CPU the run chooses a pass that is left open: what more it needs is counted with the pass
/// that it would choose.
#[test]
fn a_pass_that_is_left_open_is_chosen_with_each_change() {
    let sandbox = larger();
    sandbox.write("train.csv", csv(&reviews()));
    let one = ["train.micro_batch_size=8", "train.pass_size=1"];
    let peak = number(&estimate(&sandbox, &one, &[])["peak"]) as f64 / f64::from(1 << 30);
    let memory = format!("{:.6}", 0.8 * peak);
    let change = |set: &[&str]| {
        let found = estimate(&sandbox, set, &["--memory", &memory]);
        assert_eq!(found["fits"], false, "{found}");
        found["change"]["set"].clone()
    };
    let of_one = change(&one);
    assert!(!of_one.is_null());
    assert_eq!(change(&["train.micro_batch_size=auto"]), of_one);
}

/// Costs are said of what is set, by what it had.
#[test]
fn rounding_costs_what_is_rounded() {
    let sandbox = larger();
    sandbox.write("train.csv", csv(&reviews()));
    let bare = [
        "train.pass_size=1",
        "train.eval_batch_size=1",
        "train.gradient_checkpointing=true",
        "data.max_length=32",
    ];
    let change = |packed: &str, sets: &[&str], costs: &str| {
        let packed = format!("model.quantization={packed}");
        let base = [&bare[..], &[&*packed]].concat();
        let needed = estimate(&sandbox, &[&base[..], sets].concat(), &["--device", "cuda"]);
        let memory = 1.0001 * number(&needed["peak"]) as f64 / f64::from(1 << 30);
        let memory = format!("{memory:.9}");
        let more = ["--device", "cuda", "--memory", &memory];
        let found = estimate(&sandbox, &base, &more);
        assert_eq!(found["change"]["set"], json!(sets), "{found}");
        assert_eq!(found["change"]["costs"], json!([costs]), "{found}");
    };
    let rest = "frozen embeddings and norms are rounded to bf16, activations are rounded to bf16";
    change("nf4", &["model.dtype=bf16"], rest);
    // Of 8 bits to 4 loses more.
    change("int8", &["model.dtype=bf16"], rest);
    change(
        "none",
        &["model.dtype=bf16"],
        "frozen weights are rounded to bf16, activations are rounded to bf16",
    );
    let both = ["model.quantization=int8", "model.dtype=bf16"];
    change(
        "none",
        &both,
        &format!("frozen weights are rounded to int8, {rest}"),
    );
}

#[test]
fn where_layers_are_named_adapters_are_said_to_be_left() {
    let sandbox = larger();
    let least = ["--memory", "0.0001", "--device", "cuda"];
    let text = |set: &[&str]| {
        let args = ["estimate", "--config", "run.toml"];
        sandbox.ok(&[&args[..], &flags(set), &least].concat())
    };
    let says = "take train.layers out of the configuration, so that adapters can be tried";
    let of_layers = text(&["lora=false", "train.layers=\"0-19\""]);
    assert_contains(&of_layers, &[says, "none that is known is enough"]);
    let in_full = text(&["lora=false"]);
    assert_contains(&in_full, &["none that is known is enough: a smaller model"]);
}

#[test]
fn timed_steps_give_the_time_of_the_run_and_leave_nothing() {
    for sandbox in [sequence(), token()] {
        let before = sandbox.files();
        let found = estimate(&sandbox, &[], &["--measure"]);
        let measured = &found["measured"];
        for key in [
            "largest_step_seconds",
            "step_seconds",
            "tokens_per_second",
            "train_seconds",
            "evaluation_seconds",
        ] {
            assert!(measured[key].as_f64().unwrap() > 0.0, "{key}: {measured}");
        }
        let steps = number(&found["work"]["steps"]) as f64;
        let all = measured["step_seconds"].as_f64().unwrap() * steps;
        assert!((all / measured["train_seconds"].as_f64().unwrap() - 1.0).abs() < 1e-9);
        let keys: Vec<&String> = found.as_object().unwrap().keys().collect();
        let expected = [
            "parameters",
            "work",
            "memory",
            "peak",
            "moment",
            "moments",
            "available",
            "fits",
            "change",
            "measured",
        ];
        assert_eq!(keys, expected);
        let stdout = sandbox.ok(&["estimate", "--config", "run.toml", "--measure"]);
        assert_contains(
            &stdout,
            &[
                "\ntime ",
                " tokens/s; ",
                "without the checkpoints and the best model",
            ],
        );
        assert!(sandbox.files() == before);
    }
}

/// By files alone, and where a run begins from an adapter.
#[test]
fn it_takes_what_train_takes() {
    let sandbox = sequence();
    let files = [
        "--model",
        "model",
        "--data",
        "train.csv",
        "--set",
        "lora.r=2",
    ];
    let found = sandbox.ok_json(&[&["estimate", "--json"], &files[..]].concat());
    sandbox.ok(&[&["train", "--run", "first"], &files[..]].concat());
    let report = sandbox.json("first/report.json");
    assert_eq!(
        found["parameters"]["trainable"],
        report["trainable_parameters"]
    );
    assert_eq!(found["work"]["steps"], report["steps"]);
    sandbox.write(
        "run.toml",
        "task = 'sequence'\nmodel.adapter = 'first/best'\ndata.train = 'train.csv'\n",
    );
    let found = estimate(&sandbox, &[], &["--measure"]);
    assert_eq!(
        found["parameters"]["trainable"],
        report["trainable_parameters"]
    );
}

#[test]
fn what_train_refuses_is_refused_and_nothing_is_left() {
    let sandbox = sequence();
    sandbox.write("bad.csv", "text,label\nfine,pos\n,neg\n");
    let before = sandbox.files();
    let config = ["--config", "run.toml"];
    // In the words of train, and with its code.
    for (args, parts) in [
        (
            ["--set", "train.epocs=3"],
            &["train.epocs", "train.epochs"][..],
        ),
        (["--set", "model.path=nowhere"], &["nowhere"]),
        (["--set", "data.train=gone.csv"], &["gone.csv"]),
        (["--set", "data.train=bad.csv"], &["bad.csv:3"]),
        (["--set", "lora.r=100"], &["100"]),
        (["--device", "tpu"], &["device \"tpu\" is not built in"]),
        (
            ["--device", "cuda:x"],
            &["expected a number after the colon"],
        ),
    ] {
        let outcome = sandbox.run(&[&["estimate"], &config[..], &args].concat());
        let refused = sandbox.run(&[&["train", "--run", "out"], &config[..], &args].concat());
        assert_ne!(refused.code, 0);
        says(&outcome, refused.code, parts);
        assert_eq!(outcome.stdout, "", "{args:?}");
        let reason = outcome.stderr.lines().last().unwrap();
        assert_contains(&refused.stderr, &[reason.trim_start_matches("error: ")]);
        assert!(sandbox.files() == before, "{args:?}");
    }
    // A run folder that is taken, and a whole classifier whose record cannot be read.
    sandbox.ok(&train_args("taken", &["lora=false"]));
    sandbox.ok(&train_args("whole", &["lora=false"]));
    sandbox.write("whole/best/ls_llama.json", "{");
    let before = sandbox.files();
    for (set, run, part) in [
        ("run=taken", "taken", "taken"),
        ("model.path=whole/best", "out", "ls_llama.json"),
    ] {
        let outcome = sandbox.run(&[&["estimate"], &config[..], &["--set", set]].concat());
        let refused =
            sandbox.run(&[&["train", "--run", run], &config[..], &["--set", set]].concat());
        assert_ne!(refused.code, 0, "{set}");
        says(&outcome, refused.code, &[part]);
        let reason = outcome
            .stderr
            .lines()
            .find(|line| line.starts_with("error: "));
        let reason = reason.unwrap().trim_start_matches("error: ");
        assert_contains(&refused.stderr, &[reason]);
        assert_eq!(outcome.stdout, "", "{set}");
        assert!(sandbox.files() == before, "{set}");
    }
    for (args, part) in [
        (["--memory", "0"], "expected a number of GiB above 0"),
        (["--memory", "much"], "expected a number of GiB above 0"),
        (
            ["--device=cuda", "--measure"],
            "device \"cuda\" is not built in",
        ),
    ] {
        let outcome = sandbox.run(&[&["estimate"], &config[..], &args].concat());
        says(&outcome, 2, &[part]);
        assert!(sandbox.files() == before, "{args:?}");
    }
    let outcome = sandbox.run(&["estimate", "--config", "nowhere.toml"]);
    says(&outcome, 2, &["configuration nowhere.toml does not exist"]);
}
