//! Pages as a browser shows them: light and dark, narrow and wide. Nothing is asked of anybody,
//! nothing is complained of, letters stand out from what is behind them, no page is wider than its
//! window, and keys reach everything in order. It needs Chromium (Debian's package `chromium`), and
//! says so where there is none.

use serde_json::{Value, json};

use crate::devtools::{Browser, chromium};
use crate::runs::*;
use crate::sandbox::Sandbox;

/// Texts whose letters do not stand out by WCAG's contrast (4.5, of large letters 3), with their
/// colours.
const CONTRAST: &str = r#"(() => {
  const parse = text => (text.match(/[\d.]+/g) || []).map(Number);
  const over = (top, below) => {
    const alpha = top.length > 3 ? top[3] : 1;
    return [0, 1, 2].map(i => top[i] * alpha + below[i] * (1 - alpha));
  };
  const behind = element => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      layers.push(parse(getComputedStyle(at).backgroundColor));
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const light = color => {
    const [r, g, b] = color.map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faults = [];
  let seen = 0;
  for (const details of document.querySelectorAll('details')) details.open = true;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.localName == 'title') continue;
    const style = getComputedStyle(element);
    const color = element.closest('svg') ? style.fill : style.color;
    const back = behind(element);
    const [a, b] = [light(over(parse(color), back)), light(back)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
    seen += 1;
    if (ratio < (large ? 3 : 4.5)) {
      faults.push([walker.currentNode.data.slice(0, 40), color, back.join(' '), ratio]);
    }
  }
  for (const details of document.querySelectorAll('details')) details.open = false;
  return {seen, faults};
})()"#;

/// What a page lacks that those need who do not see it.
const STRUCTURE: &str = r#"(() => {
  const all = query => [...document.querySelectorAll(query)];
  const faults = [];
  const ids = all('[id]').map(e => e.id);
  if (new Set(ids).size != ids.length) faults.push('an id stands twice');
  if (document.documentElement.lang != 'en') faults.push('no language');
  if (all('h1').length != 1) faults.push('not one h1');
  let before = 1;
  for (const heading of all('h1, h2, h3, h4')) {
    const level = Number(heading.localName[1]);
    if (level > before + 1) faults.push('a heading is left out before ' + heading.textContent);
    before = level;
  }
  for (const table of all('table')) {
    if (!table.caption) faults.push('a table without a caption');
    if (table.querySelectorAll('th:not([scope])').length) faults.push('a th without a scope');
  }
  for (const svg of all('svg')) if (!svg.getAttribute('aria-label')) faults.push('a mute chart');
  for (const field of all('input, select, textarea')) {
    if (!field.labels.length) faults.push('a field without a label');
  }
  for (const link of all("nav a[href^='#']")) {
    if (!document.querySelector(link.getAttribute('href'))) faults.push('a link to nothing');
  }
  return faults;
})()"#;

/// What keys can reach, in the order of the page.
const REACHABLE: &str = "[...document.querySelectorAll(\
                         'a[href], summary, [tabindex], input, select, textarea, button')]\
                         .filter(e => e.checkVisibility())";

/// What is wrong with a page at a width and in a scheme.
fn faults(
    browser: &mut Browser,
    file: &std::path::Path,
    width: usize,
    scheme: &str,
) -> Vec<String> {
    browser.show(file, width, scheme);
    let own = |url: &str| url.starts_with("file:") && url.ends_with(".html");
    faults_of_shown(browser, width, 50, own)
}

/// What is wrong with what is shown. It has more texts than these, and `own` are the addresses that
/// it may ask.
pub fn faults_of_shown(
    browser: &mut Browser,
    width: usize,
    texts: u64,
    own: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut faults = Vec::new();
    let page = browser
        .value("document.documentElement.scrollWidth")
        .as_u64()
        .unwrap();
    if page > width as u64 {
        faults.push(format!("{page} wide"));
    }
    let contrast = browser.value(CONTRAST);
    assert!(contrast["seen"].as_u64().unwrap() > texts, "{contrast}");
    for fault in contrast["faults"].as_array().unwrap() {
        faults.push(format!("contrast: {fault}"));
    }
    for fault in browser.value(STRUCTURE).as_array().unwrap() {
        faults.push(fault.to_string());
    }
    for event in browser.events() {
        let (method, params) = (event["method"].as_str().unwrap_or(""), &event["params"]);
        let fault = match method {
            "Network.requestWillBeSent" => {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                !own(url) && url != "data:,"
            }
            "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded" => true,
            _ => false,
        };
        if fault {
            faults.push(format!("{method}: {params}"));
        }
    }
    faults
}

/// The elements that Tab reaches, one after the other, and whether each is seen to be reached.
pub fn tabbed(browser: &mut Browser) -> (Vec<i64>, Value) {
    let count = browser
        .value(&format!("{REACHABLE}.length"))
        .as_i64()
        .unwrap();
    let mut order = Vec::new();
    for _ in 0..count {
        browser.press("Tab", 9);
        let place = format!("{REACHABLE}.indexOf(document.activeElement)");
        order.push(browser.value(&place).as_i64().unwrap());
        let outline = "getComputedStyle(document.activeElement).outlineStyle";
        assert_ne!(browser.value(outline), "none", "{order:?}");
    }
    let first = format!("{REACHABLE}[0].textContent");
    (order, browser.value(&first))
}

fn pages() -> Sandbox {
    let sandbox = token();
    train(
        &sandbox,
        "tagger",
        &["train.epochs=2", "train.temperature_scaling=true"],
    );
    sandbox.write("train.csv", csv(&reviews()));
    let long = "<b>unbroken</b>".repeat(80);
    let odd = json!({"text": long, "label": "\u{202e}ltr & <i>"});
    let rows = reviews()
        .into_iter()
        .map(|(text, label)| json!({"text": text, "label": label}));
    sandbox.write("odd.jsonl", json_lines(rows.chain([odd.clone(), odd])));
    sandbox.write("run.toml", SEQUENCE);
    let odd = [
        "data.train=odd.jsonl",
        "data.validation=odd.jsonl",
        "data.format=jsonl",
    ];
    train(
        &sandbox,
        "texts",
        &[&odd[..], &["train.learning_rate=1e-6"]].concat(),
    );
    train(&sandbox, "other", &[&odd[..], &["train.epochs=1"]].concat());
    sandbox.ok(&["report", "texts", "--label-errors", "--folds", "2"]);
    sandbox.ok(&["compare", "texts", "other", "--html", "compared.html"]);
    sandbox
}

#[test]
fn a_browser_shows_pages_without_a_fault() {
    let Some(program) = chromium() else {
        eprintln!("SKIPPED: no chromium is installed (Debian: apt-get install chromium)");
        return;
    };
    let sandbox = pages();
    let mut browser = Browser::start(program);
    for name in ["tagger/report.html", "texts/report.html", "compared.html"] {
        let file = sandbox.path(name);
        for (width, scheme) in [
            (360, "light"),
            (1280, "dark"),
            (360, "dark"),
            (1280, "light"),
        ] {
            let found = faults(&mut browser, &file, width, scheme);
            assert!(found.is_empty(), "{name}, {width}, {scheme}: {found:#?}");
        }
        let back = "getComputedStyle(document.body).backgroundColor";
        let light = browser.value(back);
        let (order, first) = tabbed(&mut browser);
        assert!(
            order.iter().copied().eq(0..order.len() as i64),
            "{name}: {order:?}"
        );
        assert_eq!(first, "Skip to the content");
        browser.show(&file, 1280, "dark");
        assert_ne!(browser.value(back), light);
    }
}

#[test]
fn what_is_wrong_with_a_page_is_seen() {
    let Some(program) = chromium() else {
        eprintln!("SKIPPED: no chromium is installed (Debian: apt-get install chromium)");
        return;
    };
    let sandbox = Sandbox::empty();
    let page = "<!doctype html><html lang=en><body style='background:#fff'><h1>a</h1><h3>b</h3>\
                <p style='color:#999'>pale</p><div style='width:2000px'>wide</div>\
                <script>console.error('x')</script><img src='http://127.0.0.1:9/x.png'>";
    sandbox.write("page.html", page.to_string() + &"<p>text</p>".repeat(60));
    let mut browser = Browser::start(program);
    let found = faults(&mut browser, &sandbox.path("page.html"), 360, "light");
    let text = found.join("\n");
    for part in [
        "wide",
        "contrast: [\"pale\"",
        "a heading is left out",
        "consoleAPICalled",
        "x.png",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
