//! The pages of `serve` in a browser: a text is typed and its answer seen, in whatever scheme and
//! width, and what `/docs` shows is all that the service says of itself. It needs Chromium, as the
//! tests in `browser` do.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use crate::browser::{faults_of_shown, tabbed};
use crate::devtools::{Browser, chromium};
use crate::problems::{LISTS, NUMBERS, labels_of_both_kinds};
use crate::runs::*;
use crate::sandbox::{Sandbox, assert_contains};
use crate::serving::Serving;
use crate::tags::parts_of_speech;

const SAID: &str = "document.getElementById('said').textContent";
const CTRL: u32 = 2;
const VIEWS: [(usize, &str); 4] = [
    (360, "light"),
    (1280, "dark"),
    (360, "dark"),
    (1280, "light"),
];

/// A browser, or a word about what is missing.
#[allow(clippy::print_stderr)]
fn browser() -> Option<Browser> {
    let program = chromium();
    if program.is_none() {
        eprintln!("SKIPPED: no chromium is installed (Debian: apt-get install chromium)");
    }
    program.map(Browser::start)
}

/// Shows the page for trying with its models.
fn open_page(browser: &mut Browser, url: &str, (width, scheme): (usize, &str)) {
    browser.open(url, width, scheme);
    browser.wait("document.getElementById('model').options.length > 0");
}

/// Types texts for a model and presses Ctrl and Enter, then waits for the answer or the error.
fn ask(browser: &mut Browser, model: &str, texts: &[&str]) -> String {
    browser.value(&format!(
        "(() => {{
            const model = document.getElementById('model');
            model.value = {};
            model.dispatchEvent(new Event('change'));
            document.getElementById('pair').open = {};
        }})()",
        json!(model),
        texts.len() == 2
    ));
    for (id, text) in ["text", "second"].into_iter().zip(texts) {
        browser.value(&format!("document.getElementById('{id}').select()"));
        browser.press("Delete", 46);
        browser.write(text);
    }
    browser.press_with(CTRL, "Enter", 13);
    browser.wait(&format!("!/^Asking|^What/.test({SAID})"));
    browser.value(SAID).as_str().unwrap().into()
}

/// What the program says of a text by the command line.
fn predicted(sandbox: &Sandbox, run: &str, text: &str) -> Value {
    let args = ["predict", "--run", run, "--format", "jsonl", text];
    serde_json::from_str(sandbox.ok(&args).trim()).unwrap()
}

fn percent(score: &Value) -> String {
    format!("{:.1} %", 100.0 * score.as_f64().unwrap())
}

/// Labels of an answer with their probabilities, the likeliest first.
fn likeliest_first(answer: &Value) -> Vec<(String, String)> {
    let mut scores: Vec<_> = answer["scores"].as_object().unwrap().iter().collect();
    scores.sort_by(|a, b| b.1.as_f64().unwrap().total_cmp(&a.1.as_f64().unwrap()));
    let scores = scores.into_iter();
    scores
        .map(|(label, score)| (label.clone(), percent(score)))
        .collect()
}

fn bars(browser: &mut Browser) -> Vec<(String, String)> {
    let rows = "[...document.querySelectorAll('.bars li')].map(row => \
                [row.children[0].textContent, row.children[1].textContent])";
    serde_json::from_value(browser.value(rows)).unwrap()
}

/// What is marked: its text, its type with the score, and how many characters stand before it; and
/// all of the text.
fn marks(browser: &mut Browser) -> (Vec<(String, String, u64)>, String) {
    let found = browser.value(
        "(() => {
            const marks = [];
            let before = '';
            for (const node of document.querySelector('.marked').childNodes) {
                // Half a character could not be handed out of the page.
                const of = node.localName == 'mark' ? node.firstChild : node;
                const text = of.data.toWellFormed();
                if (node.localName == 'mark') {
                    const type = node.children[0].textContent.trim();
                    marks.push([text, type, Array.from(before).length]);
                }
                before += text;
            }
            return [marks, before];
        })()",
    );
    serde_json::from_value(found).unwrap()
}

/// Five models on one base, one for each kind of answer.
fn models(flags: &[&str]) -> (Sandbox, Serving) {
    let sandbox = token();
    train(&sandbox, "names", &[]);
    sandbox.write("speech.conll", parts_of_speech().read("train.conll"));
    let speech = ["data.train=speech.conll", "data.validation=speech.conll"];
    train(&sandbox, "speech", &speech);
    sandbox.write("run.toml", SEQUENCE);
    sandbox.write("train.csv", csv(&reviews()));
    train(&sandbox, "texts", &[]);
    labels_of_both_kinds(&sandbox);
    train(&sandbox, "topics", &LISTS);
    train(&sandbox, "stars", &NUMBERS);
    let mut args = Vec::new();
    for run in ["names", "speech", "texts", "topics", "stars"] {
        args.extend(["--run", run]);
    }
    args.extend(flags);
    let served = Serving::start(&sandbox, &args);
    (sandbox, served)
}

#[test]
fn a_text_is_typed_and_its_answer_is_seen() {
    let Some(mut browser) = browser() else { return };
    let (sandbox, served) = models(&[]);
    open_page(&mut browser, &served.url(), VIEWS[3]);

    // One label: as the command line has it.
    let text = "the \"old\" sea was bright, wasn't it";
    let said = ask(&mut browser, "texts", &[text]);
    let expected = likeliest_first(&predicted(&sandbox, "texts", text));
    assert_eq!(bars(&mut browser), expected);
    assert_eq!(said, format!("{}, {}", expected[0].0, expected[0].1));
    let cost = browser.value("document.getElementById('cost').textContent");
    let cost = cost.as_str().unwrap();
    let (before, tokens) = cost.rsplit_once(", ").unwrap();
    assert_contains(before, &[" ms of computing, ", " ms in the queue"]);
    assert!(
        tokens
            .strip_suffix(" tokens")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 8,
        "{cost}"
    );
    // The command that is shown is one: a shell takes it apart as it is meant.
    let command = browser.value("document.getElementById('curl').textContent");
    let script = format!(
        "curl() {{ printf '%s\\n' \"$@\"; }}\n{}",
        command.as_str().unwrap()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    let body = json!({"inputs": text}).to_string();
    let url = format!("{}models/texts/predict", served.url());
    let expected = [&url, "-H", "Content-Type: application/json", "-d", &body];
    assert_eq!(words.lines().collect::<Vec<_>>(), expected);

    // Any number of labels, and a number.
    let said = ask(&mut browser, "topics", &[text]);
    assert_contains(&said, &["judged by itself"]);
    let answer = predicted(&sandbox, "topics", text);
    assert_eq!(holding(&said), holding_in(&answer));
    assert_eq!(bars(&mut browser), likeliest_first(&answer));
    let said = ask(&mut browser, "stars", &[text]);
    let answer = predicted(&sandbox, "stars", text)["scores"]["stars"]
        .as_f64()
        .unwrap();
    let seen: f64 = said.strip_prefix("stars: ").unwrap().parse().unwrap();
    assert!((seen - answer).abs() < 1e-3, "{seen}, {answer}");
    assert_eq!(bars(&mut browser), []);

    // Entities behind characters of two and of many units, and what would be HTML.
    let text = "😀 Zoë sold boats in Élan 👩‍👧 .\nPeter sold <b id=evil>boats</b> in Bern .";
    let said = ask(&mut browser, "names", &[text]);
    let entities = predicted(&sandbox, "names", text);
    let entities = entities["entities"].as_array().unwrap();
    let expected: Vec<_> = entities
        .iter()
        .map(|of| {
            let text = |key: &str| of[key].as_str().unwrap().to_owned();
            let small = format!("{} {}", text("type"), percent(&of["score"]));
            (text("text"), small, of["start"].as_u64().unwrap())
        })
        .collect();
    let (seen, whole) = marks(&mut browser);
    assert_eq!(seen, expected);
    assert_eq!(whole, text);
    let last = seen.last().unwrap();
    assert!(last.2 > 30, "nothing is marked behind the emoji: {seen:?}");
    assert_contains(&said, &[&format!("{} entities", seen.len()), &last.0]);
    assert_eq!(
        browser.value("document.getElementById('evil')"),
        Value::Null
    );

    // Labels of words.
    let text = "Zoë 😀 sold boats in Oslo .";
    ask(&mut browser, "speech", &[text]);
    let answer = predicted(&sandbox, "speech", text);
    let (seen, whole) = marks(&mut browser);
    let tag = |(_, small, _): &(String, String, u64)| small.split(' ').next().unwrap().to_owned();
    assert_eq!(
        json!(seen.iter().map(tag).collect::<Vec<_>>()),
        answer["tags"]
    );
    let words: Vec<_> = seen.iter().map(|(word, _, _)| word).collect();
    assert_eq!(json!(words), answer["tokens"]);
    assert_eq!(whole, text);

    // Faults in the service's words.
    let said = ask(&mut browser, "texts", &[""]);
    assert_contains(&said, &["Error: input 0", "(empty_input)"]);
    assert_eq!(bars(&mut browser), []);
    // It has learnt single texts: a second one is not asked for.
    assert_eq!(
        browser.value("document.getElementById('pair').hidden"),
        true
    );
    drop(served);
    let said = ask(&mut browser, "texts", &["a text"]);
    assert_contains(&said, &["Error: nothing answers"]);
}

/// The labels that the page says hold.
fn holding(said: &str) -> BTreeSet<&str> {
    let labels = said.strip_prefix("Holds: ");
    let labels = labels.and_then(|said| said.split_once(". Each "));
    assert!(
        labels.is_some() || said.starts_with("No label holds. "),
        "{said}"
    );
    labels.map_or_else(BTreeSet::new, |(labels, _)| labels.split(", ").collect())
}

/// Those that the program says hold.
fn holding_in(answer: &Value) -> BTreeSet<&str> {
    let labels = answer["labels"].as_array().unwrap().iter();
    labels.map(|label| label.as_str().unwrap()).collect()
}

#[test]
fn a_text_is_judged_as_the_service_was_told_to() {
    let Some(mut browser) = browser() else { return };
    let flags = [
        "--abstain-below",
        "0.99",
        "--threshold",
        "0.05",
        "--constrained",
    ];
    let (sandbox, served) = models(&flags);
    open_page(&mut browser, &served.url(), VIEWS[0]);
    let text = "the \"old\" sea was bright, wasn't it";
    let facts = "document.getElementById('about').textContent";
    let about =
        |browser: &mut Browser| -> String { browser.value(facts).as_str().unwrap().to_owned() };

    let said = ask(&mut browser, "texts", &[text]);
    let (label, score) = &likeliest_first(&predicted(&sandbox, "texts", text))[0];
    assert_eq!(
        said,
        format!("No answer: {label}, {score} is not sure enough")
    );
    assert_contains(&about(&mut browser), &["where it is at least 99.0 % sure"]);

    let said = ask(&mut browser, "topics", &[text]);
    let args = [
        "predict",
        "--run",
        "topics",
        "--threshold",
        "0.05",
        "--format",
        "jsonl",
        text,
    ];
    let answer: Value = serde_json::from_str(sandbox.ok(&args).trim()).unwrap();
    assert_eq!(holding(&said), holding_in(&answer));
    assert!(!about(&mut browser).contains("sure"));

    ask(&mut browser, "names", &["Ann sold boats in Bern ."]);
    assert_contains(&about(&mut browser), &["of the scheme iob2"]);
}

#[test]
fn the_pages_of_a_service_are_without_fault() {
    let Some(mut browser) = browser() else { return };
    let (_sandbox, served) = models(&[]);
    for view in VIEWS {
        let check = |browser: &mut Browser, texts: u64, what: &str| {
            let own = |url: &str| url.starts_with(&served.url());
            let found = faults_of_shown(browser, view.0, texts, own);
            assert!(found.is_empty(), "{what}, {view:?}: {found:#?}");
        };
        open_page(&mut browser, &served.url(), view);
        let (order, first) = tabbed(&mut browser);
        // Skip, three pages, model, text, pair, button; the first model has no pairs.
        assert_eq!(order, [0, 1, 2, 3, 4, 5, 6], "{view:?}");
        assert_eq!(first, "Skip to the content");
        check(&mut browser, 15, "nothing asked");
        let long = "the film was good and warm ".repeat(8);
        let unbroken = "o".repeat(200);
        for (model, text) in [
            ("texts", long.as_str()),
            ("topics", &unbroken),
            ("stars", &long),
            ("names", "Zoë sold boats in Élan ."),
            ("speech", "Zoë sold boats in Élan ."),
        ] {
            let said = ask(&mut browser, model, &[text]);
            assert!(!said.starts_with("Error"), "{model}: {said}");
            check(&mut browser, 20, model);
        }

        browser.open(&format!("{}docs", served.url()), view.0, view.1);
        browser.wait("document.querySelectorAll('.operation').length > 0");
        let (order, first) = tabbed(&mut browser);
        assert!(order.iter().copied().eq(0..order.len() as i64), "{order:?}");
        assert!(order.len() > 15, "{order:?}");
        assert_eq!(first, "Skip to the content");
        check(&mut browser, 200, "docs");
        browser.value("document.querySelectorAll('details').forEach(of => of.open = true)");
        let width = browser.value("document.documentElement.scrollWidth");
        assert!(
            width.as_u64().unwrap() <= view.0 as u64,
            "{view:?}: {width}"
        );
    }
}

#[test]
fn the_reference_shows_the_whole_document() {
    let Some(mut browser) = browser() else { return };
    let sandbox = sequence();
    train(&sandbox, "texts", &["train.epochs=1"]);
    let served = Serving::start(&sandbox, &["--run", "texts"]);
    browser.open(&format!("{}docs#predict_with", served.url()), 1280, "light");
    browser.wait("document.querySelectorAll('.operation').length > 0");
    let document = browser.value("fetch('openapi.json').then(answer => answer.json())");
    let mut expected = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, what) in methods.as_object().unwrap() {
            let summary = what["summary"].as_str().unwrap().replace('`', "");
            expected.push(format!("{} {path} {summary}", method.to_uppercase()));
        }
    }
    let seen = "[...document.querySelectorAll('.operation h3')].map(of => of.textContent)";
    let mut seen: Vec<String> = serde_json::from_value(browser.value(seen)).unwrap();
    expected.sort();
    seen.sort();
    assert_eq!(seen, expected);
    // The one that the address names is open, and has all its parts.
    let text = browser.value("document.querySelector('.operation[open]').innerText");
    let example = "{\"inputs\":\"a film that stays with you\"}";
    let curl = format!(
        "curl '{}models/MODEL/predict' \\\n  -H \"Authorization: Bearer $TOKEN\" \\\n  \
         -H 'Content-Type: application/json' \\\n  -d '{example}'",
        served.url()
    );
    let parts = [
        "POST /models/{model}/predict",
        "It wants the token, where the service has one.",
        "model string, in the path",
        "raw_scores boolean, may be absent",
        "PredictRequest: Texts to be classified.",
        "A text, a pair of texts, or a list of lists of one text or two.",
        "list of list of string",
        &curl,
        "200",
        "The labels of each text, the likeliest first",
        "Its probability, or the number of a regression",
        "error_type string",
    ];
    // Margins stand between what is written in a row.
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in parts {
        let text = plain(text.as_str().unwrap());
        assert!(text.contains(&plain(part)), "{part:?} is not in {text}");
    }
    // What the service may yet say: a body that is no JSON, and a value within one of its kind.
    let lines = "operation('post', '/lines', {requestBody: {content: {'application/x-ndjson': \
                 {schema: {type: 'string'}}}}}, [{}]).textContent";
    let lines = browser.value(lines);
    let expected = [
        "Content-Type: application/x-ndjson' \\\n  --data-binary @FILE",
        "It wants no token.",
    ];
    assert_contains(lines.as_str().unwrap(), &expected);
    let within = "(() => {
        const ref = {$ref: '#/components/schemas/Tree'};
        const properties = {of: {type: 'array', items: ref}};
        schemas = {Tree: {type: 'object', required: ['of'], properties}};
        return [tree(ref).textContent.trim(), JSON.stringify(sample(ref))];
    })()";
    let expected = json!(["of list of Tree", "{\"of\":[null]}"]);
    assert_eq!(browser.value(within), expected);
    let all = browser.value("document.body.textContent");
    for odd in ["undefined", "[object", "#/components"] {
        let all = all.as_str().unwrap();
        let shown = all.split("\"use strict\"").next().unwrap();
        assert!(!shown.contains(odd), "{odd}");
    }
}

#[test]
fn the_answer_of_one_model_is_not_shown_beside_the_name_of_another() {
    let Some(mut browser) = browser() else { return };
    let sandbox = sequence();
    train(&sandbox, "first", &["train.epochs=1"]);
    // It learns pairs: here of a text and its label.
    let pairs = ["train.epochs=1", "data.text_pair=label"];
    train(&sandbox, "second", &pairs);
    let served = Serving::start(&sandbox, &["--run", "first", "--run", "second"]);
    open_page(&mut browser, &served.url(), (360, "light"));
    // Answers come when they are let go.
    browser.value(
        "(() => {
            const real = window.realFetch = window.fetch;
            window.fetch = async (path, init) => {
                await new Promise(release => window.release = release);
                return real(path, init);
            };
            document.getElementById('model').value = 'first';
            document.getElementById('text').select();
        })()",
    );
    browser.write("the film was good");
    browser.press_with(CTRL, "Enter", 13);
    browser.wait("window.release !== undefined");
    browser.value(
        "(async () => {
            const model = document.getElementById('model');
            model.value = 'second';
            model.dispatchEvent(new Event('change'));
            window.release();
            await new Promise(after => setTimeout(after, 500));
        })()",
    );
    assert!(bars(&mut browser).is_empty());
    let said = browser.value(SAID);
    assert!(
        said.as_str().unwrap().starts_with("What the model says"),
        "{said}"
    );

    // Of a pair the second text is asked for.
    let pair = "document.getElementById('pair')";
    assert_eq!(browser.value(&format!("{pair}.hidden")), false);
    assert_eq!(browser.value(&format!("{pair}.open")), true);
    browser.value("(() => { window.fetch = window.realFetch; })()");
    let said = ask(&mut browser, "second", &["a warm film", "positive"]);
    let pair = json!({ "inputs": ["a warm film", "positive"] });
    let answer = served.post("/models/second/predict", &pair).json();
    let (label, score) = (answer[0]["label"].as_str().unwrap(), &answer[0]["score"]);
    assert_eq!(said, format!("{label}, {}", percent(score)));
}

#[test]
fn a_token_is_asked_for_and_kept_for_the_tab() {
    let Some(mut browser) = browser() else { return };
    let sandbox = sequence();
    train(&sandbox, "texts", &["train.epochs=1"]);
    let token = "0123456789abcdef";
    let served = Serving::start_with(&sandbox, &["--run", "texts"], Some(token));
    let hidden = "document.getElementById('locked').hidden";
    let give = |browser: &mut Browser, token: &str| {
        browser.value("document.getElementById('token').focus()");
        browser.write(token);
        browser.value("document.querySelector('#locked button').click()");
    };

    browser.open(&served.url(), 360, "dark");
    browser.wait(&format!("!{hidden}"));
    assert_eq!(browser.value(SAID), "This service wants a token.");
    give(&mut browser, "a token — of 16 and more");
    browser.wait(&format!(
        "{SAID}.startsWith('Error: a token has no spaces')"
    ));
    browser.value("document.getElementById('token').value = ''");
    give(&mut browser, "another-token-of-16");
    browser.wait(&format!(
        "{SAID}.startsWith('Error: this is not the token')"
    ));
    give(&mut browser, token);
    browser.wait(hidden);
    ask(&mut browser, "texts", &["the film was good"]);
    assert_eq!(bars(&mut browser).len(), 2);
    let command = browser.value("document.getElementById('curl').textContent");
    assert_contains(
        command.as_str().unwrap(),
        &["-H \"Authorization: Bearer $TOKEN\""],
    );
    let page = browser.value("document.documentElement.outerHTML");
    assert!(!page.as_str().unwrap().contains(token));
    assert_eq!(browser.value("localStorage.length"), 0);
    assert_eq!(browser.value("document.cookie"), "");

    // It is there again in the same tab, and nothing is complained of.
    open_page(&mut browser, &served.url(), (360, "light"));
    assert_eq!(browser.value(hidden), true);
    ask(&mut browser, "texts", &["the film was bad"]);
    let own = |url: &str| url.starts_with(&served.url());
    assert_eq!(faults_of_shown(&mut browser, 360, 15, own), [""; 0]);

    // The reference wants none.
    browser.open(&format!("{}docs", served.url()), 1280, "light");
    browser.wait("document.querySelectorAll('.operation').length > 0");
}
