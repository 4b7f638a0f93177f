//! How scores become answers, where that is not by the highest: temperature, abstaining, and tags
//! that their scheme allows.

use serde_json::{Value, json};

use crate::problems::{LISTS, NUMBERS, labels_of_both_kinds};
use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains, jsonl};
use crate::tags::parts_of_speech;

/// What `evaluate` and `score` say of the same answers.
const AGREED: [&str; 6] = [
    "accuracy", "f1_macro", "examples", "answered", "left_out", "coverage",
];

fn score(answer: &Value) -> f64 {
    answer["score"].as_f64().unwrap()
}

/// Without the calibration that a run has fitted.
fn without_calibration(sandbox: &Sandbox, run: &str) {
    let path = format!("{run}/best/ls_llama.json");
    let mut settings = sandbox.json(&path);
    settings
        .as_object_mut()
        .unwrap()
        .shift_remove("calibration");
    sandbox.write(&path, settings.to_string());
}

#[test]
fn a_temperature_is_fitted_to_the_validation_split_and_divides_the_logits() {
    let sandbox = sequence();
    // Some texts have both labels, so that nobody can be sure of them.
    let both = reviews().into_iter().step_by(3);
    let both: String = both
        .map(|(text, _)| format!("{text},neg\n{text},pos\n"))
        .collect();
    sandbox.write("train.csv", csv(&reviews()) + &both);
    let set = ["train.epochs=8", "train.temperature_scaling=true"];
    train(&sandbox, "out", &set);
    train(&sandbox, "plain", &set[..1]);
    let temperature = sandbox.json("out/best/ls_llama.json")["calibration"]["temperature"].clone();
    let said = format!("logits are divided by {temperature}");
    assert_contains(&sandbox.read("out/best/README.md"), &[&said]);
    let shown = sandbox.ok_json(&["inspect", "out", "--json"])["temperature"].clone();
    assert_eq!(shown, temperature);
    let temperature = temperature.as_f64().unwrap();
    assert!((temperature - 1.0).abs() > 1e-3, "{temperature}");
    let plain = sandbox.json("plain/best/ls_llama.json");
    assert_eq!(plain.get("calibration"), None);

    // It changes no answer, and the loss is that of the logits as they are.
    let [scaled, plain] = ["out", "plain"].map(|run| {
        let report = sandbox.json(&format!("{run}/report.json"));
        (report["loss"].clone(), report["scores"].clone())
    });
    assert_eq!(scaled.0, plain.0);
    assert_eq!(scaled.1["accuracy"], plain.1["accuracy"]);
    // Probabilities say more of what is right.
    let log_loss = |scores: &Value| scores["log_loss"].as_f64().unwrap();
    assert!(
        log_loss(&scaled.1) < log_loss(&plain.1),
        "{scaled:?} {plain:?}"
    );
    let input = ["--input", "train.csv"];
    let predict =
        |run: &str| jsonl(&sandbox.ok(&[&["predict", "--run", run][..], &input].concat()));
    let answers = predict("out");
    without_calibration(&sandbox, "out");
    let logit = |p: f64| (p / (1.0 - p)).ln();
    for (scaled, plain) in answers.iter().zip(predict("out")) {
        assert_eq!(scaled["label"], plain["label"]);
        let (found, expected) = (logit(score(scaled)), logit(score(&plain)) / temperature);
        assert!(
            (found - expected).abs() < 1e-3 * expected.abs().max(1.0),
            "{found} {expected}"
        );
    }

    // Of words, and of labels by themselves before their thresholds.
    let tagger = token();
    train(&tagger, "out", &["train.epochs=4", set[1]]);
    let settings = tagger.json("out/best/ls_llama.json");
    assert!(
        settings["calibration"]["temperature"].is_number(),
        "{settings}"
    );
    let labels = crate::sandbox::Sandbox::new();
    labels_of_both_kinds(&labels);
    labels.write("run.toml", SEQUENCE);
    train(&labels, "out", &[&LISTS[..], &[set[1]]].concat());
    let calibration = labels.json("out/best/ls_llama.json")["calibration"].clone();
    assert_eq!(calibration.as_object().unwrap().len(), 2, "{calibration}");
    let args = train_args("no", &[]);
    let args = [
        &args[..],
        &NUMBERS.map(|key| ["--set", key]).concat(),
        &["--set", set[1]],
    ]
    .concat();
    let fault = "train.temperature_scaling: a regression has no probabilities";
    refused(&labels, &args, 2, &[fault]);
    let wrong = json!({"calibration": {"temperature": 1e-45}});
    sandbox.edit_json("out/best/ls_llama.json", wrong);
    let outcome = sandbox.run(&["predict", "--run", "out", "a film"]);
    assert_eq!(outcome.code, 1);
    assert_contains(
        &outcome.stderr,
        &["calibration.temperature: expected a number from 0.01 to 100"],
    );
}

/// Of words of several sub-words, all of which are labelled, the temperature is that of the
/// answers, one for each word: any other makes the words' log-loss higher.
#[test]
fn the_temperature_of_words_is_that_of_their_answers() {
    let sandbox = token();
    // Words of one piece and of many; of which every third has the
    // label of the others.
    let words = [
        "the",
        "sea",
        "Zürichberg",
        "boat",
        "incomprehensible",
        "a",
        "Przemyśl",
    ];
    let lines = (0..420).map(|at| {
        let word = words[at * 3 % words.len()];
        let label = if word.len() > 4 && at % 3 > 0 {
            "LONG"
        } else {
            "SHORT"
        };
        format!("{word} {label}\n{}", if at % 7 == 6 { "\n" } else { "" })
    });
    sandbox.write("train.conll", lines.collect::<String>());
    let set = [
        "train.epochs=2",
        "train.temperature_scaling=true",
        "data.label_position=all",
        "data.scheme=labels",
    ];
    train(&sandbox, "out", &set);
    let calibration = sandbox.json("out/best/ls_llama.json")["calibration"].clone();
    let temperature = calibration["temperature"].as_f64().unwrap();
    // Of two labels the score of the one that was answered says that of the other.
    let mut logits = Vec::new();
    for line in sandbox.jsonl("out/predictions.jsonl") {
        let list = |key: &str| line[key].as_array().unwrap().clone();
        let scores = list("tag_scores_untempered")
            .into_iter()
            .map(|p| p.as_f64().unwrap());
        for ((score, tag), gold) in scores.zip(list("tags")).zip(list("gold")) {
            let logit = (score / (1.0 - score)).ln();
            logits.push(if tag == gold { logit } else { -logit });
        }
    }
    assert_eq!(logits.len(), 420);
    let log_loss = |temperature: f64| -> f64 {
        let losses = logits
            .iter()
            .map(|logit| (-logit / temperature).exp().ln_1p());
        losses.sum()
    };
    let fitted = log_loss(temperature);
    for other in [temperature * 1.02, temperature / 1.02, 1.0] {
        assert!(fitted <= log_loss(other), "{temperature} {other}");
    }
}

#[test]
fn what_is_less_sure_than_asked_for_is_not_answered() {
    let sandbox = sequence();
    train(&sandbox, "out", &["train.epochs=3"]);
    let predict = ["predict", "--run", "out", "--input", "train.csv"];
    let all = jsonl(&sandbox.ok(&predict));
    let mut scores: Vec<f64> = all.iter().map(score).collect();
    scores.sort_by(f64::total_cmp);
    let least = ((scores[9] + scores[10]) as f32 / 2.0).to_string();
    let some = [&predict[..], &["--abstain-below", &least]].concat();
    let answers = jsonl(&sandbox.ok(&some));
    let mut abstained = 0;
    for (answer, full) in answers.iter().zip(&all) {
        let unsure = score(full) < least.parse::<f64>().unwrap();
        abstained += usize::from(unsure);
        assert_eq!(answer["scores"], full["scores"]);
        assert_eq!(answer["label"].is_null(), unsure);
        assert_eq!(answer.get("abstained"), unsure.then_some(&json!(true)));
    }
    assert_eq!(abstained, 10);
    let text = sandbox.run(&[&some[..], &["--format", "text"]].concat());
    assert_eq!(text.stdout.matches("(abstained)\t0.").count(), 10);
    let said = format!("note: 10 of 20 texts are not answered: less sure than {least}");
    assert_contains(&text.stderr, &[&said]);
    // A field that an input has of that name is not taken for the mark.
    let marked = json!({"text": "a film", "abstained": "never"}).to_string();
    for (least, mark) in [("0", Value::Null), ("1", json!(true))] {
        let args = ["predict", "--run", "out", "--abstain-below", least];
        let outcome = sandbox.run_with(&args, &marked);
        let answer = jsonl(&outcome.stdout).remove(0);
        assert_eq!(answer["abstained"], mark, "{answer}");
        assert_eq!(answer["input_abstained"], "never");
    }

    // What is answered can be measured: by `evaluate`, and by `score` of the answers.
    let mut answers = answers;
    for (answer, (_, gold)) in answers.iter_mut().zip(reviews()) {
        answer["gold"] = json!(gold);
    }
    let right = |answer: &&Value| answer["label"] == answer["gold"];
    let given: Vec<&Value> = answers.iter().filter(|a| !a["label"].is_null()).collect();
    let accuracy = given.iter().copied().filter(right).count() as f64 / 10.0;
    let evaluate = ["evaluate", "--run", "out", "--abstain-below", &least];
    let scores = sandbox.ok_json(&[&evaluate[..], &["--format", "json"]].concat());
    assert_eq!(
        (&scores["answered"], &scores["left_out"]),
        (&json!(10), &json!(10))
    );
    assert_eq!(scores["coverage"], 0.5);
    assert_eq!(scores["accuracy"], accuracy);
    let said = format!(
        "answered 10 of 20 texts (0.5000) at --abstain-below {least}: the scores are of these"
    );
    assert_contains(&sandbox.ok(&evaluate), &[&said]);
    sandbox.write("some.jsonl", crate::runs::json_lines(answers.clone()));
    let of_file = sandbox.ok_json(&["score", "--pred", "some.jsonl", "--format", "json"]);
    for key in AGREED {
        assert_eq!(of_file[key], scores[key], "{key}");
    }
    assert_eq!(of_file["examples"], 20);
    assert_eq!(of_file["abstain_below"], Value::Null);
    let text = sandbox.ok(&["score", "--pred", "some.jsonl"]);
    assert_contains(
        &text,
        &["answered 10 of 20 texts (0.5000): the scores are of these"],
    );
    let none = answers.iter().filter(|answer| answer["label"].is_null());
    sandbox.write("none.jsonl", crate::runs::json_lines(none.cloned()));
    let fault = "none.jsonl: no text is answered";
    refused(&sandbox, &["score", "--pred", "none.jsonl"], 1, &[fault]);
    let gold = [
        "score",
        "--gold",
        "some.jsonl",
        "--pred",
        "some.jsonl",
        "--label",
        "label",
    ];
    refused(&sandbox, &gold, 1, &["the gold file has no label here"]);
    // Nothing is answered at all.
    let all_out = ["evaluate", "--run", "out", "--abstain-below", "1"];
    refused(&sandbox, &all_out, 1, &["train.csv: no text is answered"]);

    // Of a tagger entities go, and their words are outside.
    let tagger = token();
    train(&tagger, "out", &["train.epochs=12"]);
    let predict = ["predict", "--run", "out", "--input", "train.conll"];
    let all = jsonl(&tagger.ok(&predict));
    let entities = |answers: &[Value]| -> Vec<f64> {
        let entities = answers
            .iter()
            .flat_map(|answer| answer["entities"].as_array().unwrap());
        entities.map(score).collect()
    };
    let mut scores = entities(&all);
    scores.sort_by(f64::total_cmp);
    let least = scores[scores.len() / 2].to_string();
    let answers = jsonl(&tagger.ok(&[&predict[..], &["--abstain-below", &least]].concat()));
    let left = entities(&answers);
    assert!(left.len() < scores.len() && !left.is_empty());
    assert!(
        left.iter()
            .all(|score| *score >= least.parse::<f64>().unwrap())
    );
    let outside = |answers: &[Value]| {
        let tags = answers
            .iter()
            .flat_map(|answer| answer["tags"].as_array().unwrap());
        tags.filter(|tag| **tag == "O").count()
    };
    assert_eq!(outside(&answers), outside(&all) + scores.len() - left.len());
    let evaluate = ["evaluate", "--run", "out", "--abstain-below", &least];
    let measured = tagger.ok_json(&[&evaluate[..], &["--format", "json"]].concat());
    assert_eq!(measured["answered"], left.len());
    assert_eq!(measured["left_out"], scores.len() - left.len());
    let said = format!("answered {} of {} entities", left.len(), scores.len());
    assert_contains(
        &tagger.ok(&evaluate),
        &[&said, "the others count as not found"],
    );
    let outcome = tagger.run(&[&predict[..], &["--abstain-below", &least]].concat());
    let said = format!("note: {} entities in 20 inputs", scores.len() - left.len());
    assert_contains(&outcome.stderr, &[&said]);

    for (least, fault) in [
        (
            "1.5",
            "--abstain-below: expected a number from 0 to 1, found 1.5",
        ),
        (
            "nan",
            "--abstain-below: expected a number from 0 to 1, found NaN",
        ),
    ] {
        let args = [
            "predict",
            "--run",
            "out",
            "--abstain-below",
            least,
            "a film",
        ];
        refused(&sandbox, &args, 2, &[fault]);
    }
    labels_of_both_kinds(&sandbox);
    train(
        &sandbox,
        "number",
        &[&NUMBERS[..], &["train.epochs=1"]].concat(),
    );
    let args = [
        "predict",
        "--run",
        "number",
        "--abstain-below",
        "0.5",
        "a film",
    ];
    refused(
        &sandbox,
        &args,
        2,
        &["--abstain-below: it is for models that give"],
    );
}

#[test]
fn a_word_without_a_sure_label_is_left_out_by_evaluate_and_by_score() {
    let sandbox = parts_of_speech();
    train(&sandbox, "out", &["train.epochs=2"]);
    let answers = sandbox.jsonl("out/predictions.jsonl");
    let scores = answers
        .iter()
        .flat_map(|answer| answer["tag_scores"].as_array().unwrap());
    let mut scores: Vec<f64> = scores.map(|score| score.as_f64().unwrap()).collect();
    scores.sort_by(f64::total_cmp);
    let at = (1..scores.len()).rev();
    let mut gaps = at.filter(|at| *at < 100 && scores[*at] - scores[at - 1] > 1e-4);
    let unsure = gaps.next().unwrap();
    let least = ((scores[unsure - 1] + scores[unsure]) / 2.0).to_string();
    let evaluate = ["evaluate", "--run", "out", "--abstain-below", &least];
    let expected = sandbox.ok_json(&[&evaluate[..], &["--format", "json"]].concat());
    assert_eq!(expected["left_out"], unsure);
    assert_eq!(expected["examples"], 20);
    let predict = ["predict", "--run", "out", "--input", "train.conll"];
    for (file, format) in [("some.jsonl", "jsonl"), ("some.conll", "conll")] {
        let more = ["--abstain-below", &least, "--format", format];
        let answers = sandbox.ok(&[&predict[..], &more].concat());
        sandbox.write(file, answers);
        let score = ["score", "--gold", "train.conll", "--pred", file];
        let labels = ["--labels", "ADP,NOUN,PROPN,PUNCT,VERB"];
        for named in [&[][..], &labels] {
            let json = [&score[..], named, &["--format", "json"]].concat();
            let found = sandbox.ok_json(&json);
            for key in AGREED {
                assert_eq!(found[key], expected[key], "{file} {key}");
            }
            assert!(found.as_object().unwrap().contains_key("abstain_below"));
        }
        let said = format!("answered {} of 120 words", 120 - unsure);
        assert_contains(&sandbox.ok(&score), &[&said, "the scores are of these"]);
        // Two systems are scored on what both answer.
        let both = [
            &score[..],
            &["--compare", "train.conll", "--format", "json"],
        ]
        .concat();
        let both = sandbox.ok_json(&both);
        assert_eq!(both["comparison"]["accuracy"]["other"], 1.0);
        assert_eq!(both["answered"], expected["answered"]);
    }
    // A tag of the gold file is a label, whatever it looks like.
    sandbox.write("gold.conll", "Ann ?\nsold VERB\n");
    sandbox.write("pred.conll", "Ann ?\nsold ??\n");
    let score = ["score", "--gold", "gold.conll", "--pred", "pred.conll"];
    assert_contains(&sandbox.ok(&score), &["answered 1 of 2 words"]);
    // Nothing is answered at all.
    let none = [&predict[..], &["--abstain-below", "1", "--format", "conll"]].concat();
    sandbox.write("none.conll", sandbox.ok(&none));
    let score = ["score", "--gold", "train.conll", "--pred", "none.conll"];
    refused(&sandbox, &score, 1, &["none.conll: no word is answered"]);
    let all_out = ["evaluate", "--run", "out", "--abstain-below", "1"];
    refused(&sandbox, &all_out, 1, &["train.conll: no word is answered"]);
}

#[test]
fn a_bare_constraint_takes_the_scheme_of_the_tags_that_were_learned() {
    // Neighbours of one type, so that IOB1 has a `B-` for its types too.
    let iob1 = "Ann I-PER\nBob B-PER\nsold O\nBern I-LOC\nLima B-LOC\n\n".repeat(8);
    let iob2 = "Ann B-PER\nBern I-PER\nsold O\nLima B-LOC\nOslo I-LOC\n\n".repeat(8);
    let odd = "Ann I-PER\nBob B-PER\nsold S-PER\n\n".repeat(8);
    for (sentences, set, recorded, held) in [
        (&iob1, "train.epochs=1", json!("iob1"), "iob1"),
        (&iob2, "train.epochs=1", json!("iob2"), "iob2"),
        (&iob1, "data.train_scheme=iob2", json!("iob2"), "iob2"),
        // Of no scheme: their names say which it may be.
        (&odd, "train.epochs=1", Value::Null, "iobes"),
    ] {
        let sandbox = token();
        sandbox.write("train.conll", sentences);
        let scheme = if set.contains("scheme") {
            "data.scheme=iob1"
        } else {
            set
        };
        train(&sandbox, "out", &["train.epochs=1", set, scheme]);
        let settings = sandbox.json("out/best/ls_llama.json");
        assert_eq!(settings["scheme"], recorded);
        let text = sandbox.run(&["evaluate", "--run", "out", "--constrained"]);
        if recorded.is_null() {
            assert_contains(
                &text.stderr,
                &["--constrained: the labels are not of iobes", "is a guess"],
            );
            continue;
        }
        let said = format!("note: tags are held to {held} (--constrained={held})");
        assert_contains(&text.stderr, &[&said]);
        assert!(!text.stderr.contains("guess"), "{}", text.stderr);
        let inspected = sandbox.ok_json(&["inspect", "out", "--json"]);
        assert_eq!(inspected["scheme"], recorded);
        // A run of an earlier version has it in its configuration, if it was said there.
        sandbox.edit_json("out/best/ls_llama.json", json!({"scheme": null}));
        let text = sandbox.run(&["evaluate", "--run", "out", "--constrained"]);
        let said = if set.contains("scheme") {
            "note: tags are held to iob2 (--constrained=iob2)\n"
        } else {
            "note: tags are held to iob2 (--constrained=iob2): a guess by the names"
        };
        assert_contains(&text.stderr, &[said]);
        let config = sandbox
            .read("out/config.toml")
            .replace("train_scheme", "scheme");
        let (before, data) = config.split_once("[data]\n").unwrap();
        let others = data.lines().filter(|line| !line.starts_with("scheme"));
        let others = others.collect::<Vec<_>>().join("\n");
        let said_there = format!("{before}[data]\nscheme = \"{held}\"\n{others}\n");
        sandbox.write("out/config.toml", said_there);
        let text = sandbox.run(&["evaluate", "--run", "out", "--constrained"]);
        let said = format!("note: tags are held to {held} (--constrained={held})\n");
        assert_contains(&text.stderr, &[&said]);
    }
}

/// Sentences with names of two words, of which a tagger that has seen little makes odd tags.
fn long_names() -> Sandbox {
    let sandbox = token();
    let mut text = String::new();
    for first in ["Ann", "Bob", "Zoë", "Lin", "Peter"] {
        for place in ["Bern", "Lima", "Oslo", "Élan"] {
            text += &format!(
                "{first} B-PER\n{place} I-PER\nsold O\nboats O\nin O\n{place} B-LOC\n{first} I-LOC\n\n"
            );
        }
    }
    sandbox.write("train.conll", text);
    sandbox
}

/// Whether a tag goes on with what did not begin.
fn is_odd(tags: &Value) -> bool {
    let tags: Vec<&str> = tags
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag.as_str().unwrap())
        .collect();
    let odd = |at: usize| {
        let before = at.checked_sub(1).map_or("O", |before| tags[before]);
        tags[at]
            .strip_prefix("I-")
            .is_some_and(|kind| before.get(2..) != Some(kind))
    };
    (0..tags.len()).any(odd)
}

#[test]
fn tags_are_those_that_their_scheme_allows() {
    let sandbox = long_names();
    train(&sandbox, "out", &["train.epochs=3"]);
    let predict = ["predict", "--run", "out", "--input", "train.conll"];
    let odd = |answers: &[Value]| {
        answers
            .iter()
            .filter(|answer| is_odd(&answer["tags"]))
            .count()
    };
    let free = jsonl(&sandbox.ok(&predict));
    assert!(odd(&free) > 0, "{free:?}");
    for scheme in ["--constrained", "--constrained=iob2", "--constrained=BIO"] {
        let answers = jsonl(&sandbox.ok(&[&predict[..], &[scheme]].concat()));
        assert_eq!(odd(&answers), 0);
        // What was allowed as it was stays as it was.
        for (answer, free) in answers.iter().zip(&free) {
            if !is_odd(&free["tags"]) {
                assert_eq!(answer, free);
            }
        }
    }
    // By IOB1 they are all allowed.
    let loose = jsonl(&sandbox.ok(&[&predict[..], &["--constrained=iob1"]].concat()));
    assert!(odd(&loose) > 0);
    let evaluate = ["evaluate", "--run", "out", "--format", "json"];
    let free = sandbox.ok_json(&evaluate);
    let held = sandbox.ok_json(&[&evaluate[..], &["--constrained"]].concat());
    assert_eq!(free["loss"], held["loss"]);
    assert_eq!(free.get("constrained"), None);
    assert_eq!(held["constrained"], "iob2");
    let text = sandbox.run(&["evaluate", "--run", "out", "--constrained"]);
    assert_contains(&text.stdout, &["tags held to iob2"]);
    assert_contains(
        &text.stderr,
        &["note: tags are held to iob2 (--constrained=iob2)"],
    );
    assert_ne!(free["span_f1_micro"], held["span_f1_micro"]);

    for (sandbox, args, fault) in [
        (
            &sandbox,
            "--constrained=iob3",
            "[possible values: iob1, iob2, ",
        ),
        (
            &sandbox,
            "--constrained=ioe2",
            "--constrained: the labels are not of ioe2: `B-",
        ),
        (
            &sequence(),
            "--constrained",
            "--constrained: only tags of spans have a scheme",
        ),
    ] {
        if !sandbox.path("out").exists() {
            train(sandbox, "out", &["train.epochs=1"]);
        }
        refused(
            sandbox,
            &["predict", "--run", "out", args, "a film"],
            2,
            &[fault],
        );
    }
}
