//! The table of `benches/gpu/all.sh`: results beside their limits.
//!
//! A line of the results is `{"side": "ours" | "theirs", "result": LINE}`, where LINE is a line of
//! `ls-bench-gpu` or `peft.py`, or `{"what", "rows", "length", "failed": REASON}` in its place,
//! with `missing` for `failed` where nothing was tried. `"again": true` beside it: by a process
//! that found the kernels of an earlier one. A check that is a program of its own gives `{"check":
//! NAME, "failed": REASON | null}`, or `missing`.

use std::fmt::Write;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::timing::median;

/// How many times as fast as transformers + peft a step must be.
const STEP: f64 = 1.3;
/// The same of inference.
const INFERENCE: f64 = 1.5;
/// MiB that a step of 8 x 64 may take: 24 GB.
const MEMORY: f64 = 24e9 / 1_048_576.0;

/// Markdown tables of the results, and whether every limit that could be looked at is kept.
///
/// A line that is no JSON is left out: a program was stopped while it wrote.
///
/// # Errors
///
/// If no line is JSON.
pub fn table(results: &str) -> Result<(String, bool)> {
    let lines: Vec<Value> = results
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    ensure!(!lines.is_empty(), "no line is JSON");
    let mut table = Table {
        text: String::new(),
        kept: true,
    };
    let works = works(&lines);
    table.device(&lines);
    table.times(&works);
    table.first_steps(&works);
    table.memory(&works);
    table.rates(&works);
    table.profiles(&works);
    table.parity(&lines);
    table.checks(&lines);
    Ok((table.text, table.kept))
}

/// Both sides of one piece of work.
struct Work {
    what: String,
    batch: (u64, u64),
    /// What is not as in the comparison: ragged rows, packed weights. Without limits.
    variant: String,
    /// As the first column has it.
    name: String,
    ours: Side,
    theirs: Side,
}

/// What one side left.
#[derive(Default)]
struct Side {
    results: Vec<Value>,
    /// Of the results, the one of a second process.
    again: Option<Value>,
    failed: Option<String>,
    /// Why nothing was tried.
    missing: Option<String>,
}

impl Side {
    fn numbers(&self, field: &str) -> Vec<f64> {
        let values = self.results.iter().filter_map(|result| result.get(field));
        values
            .flat_map(|value| match value {
                Value::Array(values) => values.iter().filter_map(Value::as_f64).collect(),
                value => value.as_f64().into_iter().collect::<Vec<_>>(),
            })
            .collect()
    }

    /// The middle of a field of all rounds.
    fn middle(&self, field: &str) -> Option<f64> {
        let numbers = self.numbers(field);
        (!numbers.is_empty()).then(|| median(&numbers))
    }

    fn largest(&self, field: &str) -> Option<f64> {
        self.numbers(field).into_iter().reduce(f64::max)
    }

    /// A number as it is shown, or why there is none.
    fn shown(&self, value: Option<f64>, digits: usize) -> String {
        match (value, self.failed.as_ref().or(self.missing.as_ref())) {
            (Some(value), _) => format!("{value:.digits$}"),
            (None, Some(reason)) => reason.replace('|', "/"),
            (None, None) => "not measured".into(),
        }
    }
}

/// In the order in which they were done first.
fn works(lines: &[Value]) -> Vec<Work> {
    let mut works: Vec<Work> = Vec::new();
    for line in lines {
        let (Some(side), Some(result)) = (line["side"].as_str(), line.get("result")) else {
            continue;
        };
        let what = result["what"].as_str().unwrap_or_default();
        if !matches!(what, "step" | "infer") {
            continue;
        }
        let size = |field: &str| result[field].as_u64().unwrap_or(0);
        let batch = (size("rows"), size("length"));
        let variant = variant(result);
        let at = works
            .iter()
            .position(|work| work.what == what && work.batch == batch && work.variant == variant);
        let at = at.unwrap_or_else(|| {
            works.push(Work {
                what: what.into(),
                batch,
                name: format!("{what} {} x {}{variant}", batch.0, batch.1),
                variant,
                ours: Side::default(),
                theirs: Side::default(),
            });
            works.len() - 1
        });
        let side = match side {
            "ours" => &mut works[at].ours,
            _ => &mut works[at].theirs,
        };
        match (result["failed"].as_str(), result["missing"].as_str()) {
            (Some(reason), _) => side.failed = Some(reason.into()),
            (None, Some(reason)) => side.missing = Some(reason.into()),
            (None, None) => {
                if line["again"] == true {
                    side.again = Some(result.clone());
                }
                side.results.push(result.clone());
            }
        }
    }
    works
}

/// What is unlike the comparison, as it follows the name.
fn variant(result: &Value) -> String {
    let mut variant = String::new();
    if let Some(format) = result["quantization"].as_str() {
        let _ = write!(variant, ", {format}");
    }
    if result["ragged"] == true {
        variant += ", ragged";
    }
    if let Some(dropout) = result["dropout"].as_f64().filter(|dropout| *dropout > 0.0) {
        let _ = write!(variant, ", dropout {dropout}");
    }
    if result["gradient_checkpointing"] == true {
        variant += ", checkpointing";
    }
    variant
}

struct Table {
    text: String,
    kept: bool,
}

impl Table {
    /// Writing to a string cannot fail.
    fn row(&mut self, cells: &[String]) {
        let _ = writeln!(self.text, "| {} |", cells.join(" | "));
    }

    fn head(&mut self, title: &str, cells: &[&str]) {
        let _ = writeln!(self.text, "\n### {title}\n");
        self.row(&cells.iter().map(|cell| (*cell).into()).collect::<Vec<_>>());
        self.row(&cells.iter().map(|_| "---".into()).collect::<Vec<_>>());
    }

    /// `None`: there is nothing to judge.
    fn verdict(&mut self, kept: Option<bool>) -> String {
        self.kept &= kept != Some(false);
        match kept {
            Some(true) => "ok",
            Some(false) => "FAILED",
            None => "not measured",
        }
        .into()
    }

    fn times(&mut self, works: &[Work]) {
        self.head(
            "Time",
            &["", "ours, s", "theirs, s", "theirs / ours", "at least", ""],
        );
        for work in works {
            let (ours, theirs) = (work.ours.middle("seconds"), work.theirs.middle("seconds"));
            let ratio = ours.zip(theirs).map(|(ours, theirs)| theirs / ours);
            let limit = if work.what == "step" { STEP } else { INFERENCE };
            let limit = work.variant.is_empty().then_some(limit);
            let kept = match (&work.ours.failed, ratio.zip(limit)) {
                (Some(_), _) => Some(false),
                (None, compared) => compared.map(|(ratio, limit)| ratio >= limit),
            };
            let verdict = match (limit, ours) {
                (None, Some(_)) => String::new(),
                _ => self.verdict(kept),
            };
            self.row(&[
                work.name.clone(),
                work.ours.shown(ours, 4),
                work.theirs.shown(theirs, 4),
                ratio.map_or("-".into(), |ratio| format!("{ratio:.2}")),
                limit.map_or("-".into(), |limit| limit.to_string()),
                verdict,
            ]);
        }
    }

    /// What the device is, and how long its first kernel took.
    fn device(&mut self, lines: &[Value]) {
        for line in lines.iter().filter_map(|line| line.get("result")) {
            if line["what"] != "device" {
                continue;
            }
            let reason = line["failed"].as_str();
            let verdict = self.verdict(Some(reason.is_none()));
            let said = match reason {
                Some(reason) => reason.into(),
                None => format!(
                    "bf16: {}; toolkit: {}; first kernels in {:.1} s",
                    if line["bf16"] == true { "yes" } else { "no" },
                    line["toolkit"].as_str().unwrap_or("none"),
                    line["seconds"].as_f64().unwrap_or(f64::NAN),
                ),
            };
            let name = line["device"].as_str().unwrap_or("-");
            let _ = writeln!(self.text, "\nThe device {name}: {verdict} ({said})");
        }
    }

    fn first_steps(&mut self, works: &[Work]) {
        self.head(
            "The first iteration of a process, s: kernels are chosen and compiled in it",
            &["", "first process", "second process", "later iterations"],
        );
        let seconds = |result: Option<&Value>| {
            let first = result.and_then(|result| result["first_seconds"].as_f64());
            first.map_or("-".into(), |seconds| format!("{seconds:.2}"))
        };
        for work in works.iter().filter(|work| !work.ours.results.is_empty()) {
            self.row(&[
                work.name.clone(),
                seconds(work.ours.results.first()),
                seconds(work.ours.again.as_ref()),
                work.ours.shown(work.ours.middle("seconds"), 4),
            ]);
        }
    }

    fn memory(&mut self, works: &[Work]) {
        self.head(
            "Peak device memory (nvidia-smi; in brackets the pages of burn's allocator, and what torch allocated)",
            &["", "ours, MiB", "theirs, MiB", "less than", ""],
        );
        for work in works {
            let (ours, theirs) = (
                work.ours.largest("peak_mib"),
                work.theirs.largest("peak_mib"),
            );
            let small = work.batch == (8, 64) && work.variant.is_empty();
            let limits = match work.what.as_str() {
                "step" => [theirs, small.then_some(MEMORY)],
                _ => [None, None],
            };
            let limit = limits.into_iter().flatten().reduce(f64::min);
            let kept = ours.zip(limit).map(|(ours, limit)| ours < limit);
            let verdict = match (work.what.as_str(), work.variant.is_empty()) {
                ("step", true) => self.verdict(kept),
                _ => String::new(),
            };
            let inner = |side: &Side, field: &str| {
                let inner = side.largest(field);
                inner.map_or(String::new(), |mib| format!(" ({mib:.0})"))
            };
            self.row(&[
                work.name.clone(),
                work.ours.shown(ours, 0) + &inner(&work.ours, "peak_pages_mib"),
                work.theirs.shown(theirs, 0) + &inner(&work.theirs, "peak_allocated_mib"),
                limit.map_or("-".into(), |limit| format!("{limit:.0}")),
                verdict,
            ]);
        }
    }

    fn rates(&mut self, works: &[Work]) {
        self.head(
            "Rate, TFLOP/s, and its share of a large matrix product's",
            &[
                "",
                "ours",
                "product by burn",
                "share",
                "product by torch",
                "share",
            ],
        );
        for work in works {
            let rate = work.ours.middle("teraflop_per_second");
            let mut cells = vec![work.name.clone(), work.ours.shown(rate, 1)];
            for side in [&work.ours, &work.theirs] {
                let product = side.middle("matrix_teraflop_per_second");
                let share = rate.zip(product).map(|(rate, product)| rate / product);
                cells.push(side.shown(product, 1));
                cells.push(share.map_or("-".into(), |share| format!("{share:.2}")));
            }
            self.row(&cells);
        }
    }

    fn profiles(&mut self, works: &[Work]) {
        let profiles: Vec<(&Work, &Value)> = works
            .iter()
            .filter_map(|work| {
                let results = work.ours.results.iter().rev();
                let mut profiles = results.filter_map(|result| result.get("profile_seconds"));
                Some((work, profiles.find(|profile| profile.is_object())?))
            })
            .collect();
        let Some(parts) = profiles.first().and_then(|(_, first)| first.as_object()) else {
            return;
        };
        let parts: Vec<&String> = parts.keys().collect();
        let mut head = vec![""];
        head.extend(parts.iter().map(|part| part.as_str()));
        self.head(
            "Profile of our step, ms (the device is waited for after each part)",
            &head,
        );
        for (work, profile) in profiles {
            let mut cells = vec![work.name.clone()];
            for part in &parts {
                let seconds = profile[part.as_str()].as_f64();
                cells.push(seconds.map_or("-".into(), |seconds| format!("{:.1}", seconds * 1e3)));
            }
            self.row(&cells);
        }
    }

    fn parity(&mut self, lines: &[Value]) {
        self.head(
            "Parity with the CPU: relative error",
            &["", "logits", "worst gradient", "less than", ""],
        );
        for line in lines.iter().filter_map(|line| line.get("result")) {
            if line["what"] != "parity" {
                continue;
            }
            if let Some(reason) = line["failed"].as_str() {
                let verdict = self.verdict(Some(false));
                let dash = || "-".to_string();
                self.row(&["all".into(), reason.into(), dash(), dash(), verdict]);
                continue;
            }
            let verdict = self.verdict(Some(line["ok"] == true));
            let text = |field: &str| line[field].as_str().unwrap_or("-").to_string();
            let error = |field: &str| {
                let error = line[field].as_f64();
                error.map_or("NaN".to_string(), |error| format!("{error:.1e}"))
            };
            let name = format!(
                "{}, {}, {}",
                text("shape"),
                text("attention"),
                text("dtype")
            );
            self.row(&[
                name,
                error("logits_error"),
                error("gradient_error"),
                error("limit"),
                verdict,
            ]);
        }
    }

    fn checks(&mut self, lines: &[Value]) {
        for line in lines {
            let Some(name) = line["check"].as_str() else {
                continue;
            };
            let verdict = match (line["failed"].as_str(), line["missing"].as_str()) {
                (Some(reason), _) => format!("{} ({reason})", self.verdict(Some(false))),
                (None, Some(reason)) => format!("{} ({reason})", self.verdict(None)),
                (None, None) => self.verdict(Some(true)),
            };
            let _ = writeln!(self.text, "\n{name}: {verdict}");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(side: &str, what: &str, batch: (u64, u64), rest: Value) -> String {
        let mut result = json!({"what": what, "rows": batch.0, "length": batch.1});
        if let (Some(result), Some(rest)) = (result.as_object_mut(), rest.as_object()) {
            result.extend(rest.clone());
        }
        json!({"side": side, "result": result}).to_string()
    }

    fn measured(seconds: [f64; 3], mib: u64) -> Value {
        json!({"seconds": seconds, "peak_mib": mib, "teraflop_per_second": 40.0,
            "matrix_teraflop_per_second": 80.0, "profile_seconds": {"mlp": 0.5, "backward": 1.0}})
    }

    #[test]
    fn limits_are_looked_at_over_all_rounds() {
        let lines = [
            line("ours", "step", (8, 64), measured([1.0, 1.0, 9.0], 20_000)),
            line("theirs", "step", (8, 64), measured([1.4, 1.4, 1.4], 21_000)),
            line("ours", "step", (8, 64), measured([1.0, 1.0, 1.0], 20_500)),
            line("ours", "infer", (8, 64), measured([1.0, 1.0, 1.0], 1)),
            line("theirs", "infer", (8, 64), measured([1.6, 1.6, 1.6], 1)),
        ];
        let (text, kept) = table(&lines.join("\n")).unwrap();
        assert!(kept, "{text}");
        assert!(
            text.contains("| step 8 x 64 | 1.0000 | 1.4000 | 1.40 | 1.3 | ok |"),
            "{text}"
        );
        assert!(
            text.contains("| step 8 x 64 | 20500 | 21000 | 21000 | ok |"),
            "{text}"
        );
        assert!(
            text.contains("| step 8 x 64 | 40.0 | 80.0 | 0.50 | 80.0 | 0.50 |"),
            "{text}"
        );
        assert!(text.contains("| step 8 x 64 | 500.0 | 1000.0 |"), "{text}");
    }

    #[test]
    fn what_is_no_comparison_has_a_row_and_no_limit() {
        let of = |rest: Value| {
            let mut all = measured([2.0; 3], 30_000);
            if let (Some(all), Some(rest)) = (all.as_object_mut(), rest.as_object()) {
                all.extend(rest.clone());
            }
            line("ours", "step", (8, 64), all)
        };
        let again = of(json!({"first_seconds": 3.0}));
        let again = again.replacen('{', r#"{"again": true, "#, 1);
        let lines = [
            of(json!({"first_seconds": 90.0})),
            again,
            of(json!({"ragged": true, "dropout": 0.1})),
            of(json!({"quantization": "nf4"})),
            line("ours", "infer", (8, 64), json!({"missing": "no time left"})),
            r#"{"side": "ours", "result": {"what": "device", "device": "cuda", "bf16": true,
                "seconds": 1.25}}"#
                .replace('\n', ""),
        ];
        let (text, kept) = table(&lines.join("\n")).unwrap();
        for row in [
            "| step 8 x 64, ragged, dropout 0.1 | 2.0000 | not measured | - | - |  |",
            "| step 8 x 64, nf4 | 2.0000 | not measured | - | - |  |",
            "| infer 8 x 64 | no time left | not measured | - | 1.5 | not measured |",
            "| step 8 x 64 | 90.00 | 3.00 | 2.0000 |",
            "The device cuda: ok (bf16: yes; toolkit: none; first kernels in 1.2 s)",
        ] {
            assert!(text.contains(row), "{row}\n{text}");
        }
        // 30 GB are too much for the small step itself.
        assert!(!kept, "{text}");
    }

    #[test]
    fn each_limit_that_is_missed_fails() {
        let step =
            |side, seconds: f64, mib| line(side, "step", (8, 64), measured([seconds; 3], mib));
        for (lines, place) in [
            (
                [step("ours", 1.0, 20_000), step("theirs", 1.2, 21_000)],
                "| 1.20 | 1.3 | FAILED |",
            ),
            (
                [step("ours", 1.0, 22_000), step("theirs", 1.4, 21_000)],
                "| 21000 | FAILED |",
            ),
            (
                [step("ours", 1.0, 23_000), step("theirs", 1.4, 30_000)],
                "| 22888 | FAILED |",
            ),
        ] {
            let (text, kept) = table(&lines.join("\n")).unwrap();
            assert!(!kept && text.contains(place), "{text}");
        }
        let infer = |side, seconds: f64| line(side, "infer", (32, 512), measured([seconds; 3], 1));
        let lines = [infer("ours", 1.0), infer("theirs", 1.4)].join("\n");
        assert!(!table(&lines).unwrap().1);
        let parity =
            |ok| json!({"side": "ours", "result": {"what": "parity", "ok": ok}}).to_string();
        assert!(table(&parity(true)).unwrap().1);
        assert!(!table(&parity(false)).unwrap().1);
    }

    #[test]
    fn what_fails_on_our_side_is_a_row_and_fails() {
        let failed = json!({"failed": "out of memory"});
        let lines = [
            line("ours", "step", (32, 512), failed),
            line("theirs", "step", (32, 512), measured([1.0; 3], 70_000)),
        ];
        let (text, kept) = table(&lines.join("\n")).unwrap();
        assert!(!kept, "{text}");
        assert!(
            text.contains("| out of memory | 1.0000 | - | 1.3 | FAILED |"),
            "{text}"
        );
    }

    #[test]
    fn what_the_other_side_lacks_is_said_and_fails_nothing() {
        let failed = |side, reason: &str| line(side, "step", (32, 512), json!({"failed": reason}));
        let lines = [
            line("ours", "step", (32, 512), measured([1.0; 3], 70_000)),
            failed("theirs", "out of memory"),
            line("ours", "infer", (8, 64), measured([1.0; 3], 1)),
            r#"{"check": "the demo", "missing": "no ls-cli"}"#.into(),
        ];
        let (text, kept) = table(&lines.join("\n")).unwrap();
        assert!(kept, "{text}");
        assert!(
            text.contains("| 1.0000 | out of memory | - | 1.3 | not measured |"),
            "{text}"
        );
        assert!(
            text.contains("| infer 8 x 64 | 1.0000 | not measured | - |"),
            "{text}"
        );
        assert!(
            text.contains("the demo: not measured (no ls-cli)"),
            "{text}"
        );
        // A check that ran and failed does.
        let (text, kept) = table(r#"{"check": "the demo", "failed": "see demo.log"}"#).unwrap();
        assert!(
            !kept && text.contains("the demo: FAILED (see demo.log)"),
            "{text}"
        );
        assert!(table("no JSON").is_err());
    }
}
