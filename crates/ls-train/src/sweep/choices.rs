//! [`Choices`]: what a sweep varies, as `KEY=VALUE,VALUE` says it.

use serde::{Deserialize, Serialize};
use toml::Value;

use super::fixed::FIXED;
use crate::config::{Fold, value_of};
use crate::error::{Result, TrainError};

/// Most seeds.
const MOST_SEEDS: usize = 1000;
/// Most runs: combinations of values, times seeds, times folds.
const MOST: usize = 10_000;

/// What a sweep varies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choices {
    /// Keys that are set, in the order in which they are first said.
    pub keys: Vec<Key>,
    /// Trains each combination with the seeds from 1 to this, in place of `train.seed`.
    pub seeds: Option<usize>,
    /// Cuts the training split in so many parts and trains each combination once without each.
    pub folds: Option<usize>,
}

/// A key of the configuration with the values that it takes. Of those with several, every
/// combination is trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Such as `lora.r`.
    pub key: String,
    /// As text: TOML, or a string where it is none.
    pub values: Vec<String>,
}

impl Key {
    /// Whether it takes several values.
    pub fn varies(&self) -> bool {
        self.values.len() > 1
    }
}

impl Choices {
    /// Reads `KEY=VALUE,VALUE`. Commas part values unless they stand within quotes or brackets, so
    /// that `data.text_append=["a","b"],["a"]` has two; a value with a comma of its own goes in
    /// quotes, as TOML has them: `model.attention="layers:0-7,24-31",causal`. The same key again
    /// adds values.
    ///
    /// ```
    /// use ls_train::sweep::Choices;
    ///
    /// let set = ["lora.r=8,16", "model.attention=\"layers:0,3\",causal"];
    /// let set = set.map(String::from);
    /// let choices = Choices::new(&set, Some(3), None).unwrap();
    /// assert_eq!(choices.keys[0].values, ["8", "16"]);
    /// assert_eq!(choices.keys[1].values, ["\"layers:0,3\"", "causal"]);
    /// assert_eq!(choices.combinations(), 4);
    /// ```
    ///
    /// # Errors
    ///
    /// With all that is wrong; if there is nothing to choose between.
    pub fn new(set: &[String], seeds: Option<usize>, folds: Option<usize>) -> Result<Self> {
        let mut faults = Vec::new();
        let mut keys: Vec<Key> = Vec::new();
        for assignment in set {
            let Some((key, text)) = assignment.split_once('=') else {
                faults.push(format!("{assignment:?}: expected key=value"));
                continue;
            };
            let key = key.trim();
            let values = match alternatives(text.trim()) {
                Ok(values) => values.into_iter().map(String::from),
                Err(fault) => {
                    faults.push(format!("{key}: {fault}"));
                    continue;
                }
            };
            match keys.iter_mut().find(|known| known.key == key) {
                Some(known) => known.values.extend(values),
                None => keys.push(Key {
                    key: key.into(),
                    values: values.collect(),
                }),
            }
        }
        let choices = Self { keys, seeds, folds };
        choices.check(&mut faults);
        if faults.is_empty() {
            return Ok(choices);
        }
        Err(TrainError::Config {
            origin: "the command line".into(),
            faults,
        })
    }

    fn check(&self, faults: &mut Vec<String>) {
        for Key { key, values } in &self.keys {
            let mut read: Vec<Value> = Vec::new();
            for text in values {
                let value = value_of(text);
                if read.contains(&value) {
                    faults.push(format!("{key}: {text} is named twice"));
                }
                read.push(value);
            }
            let fixed = FIXED.iter().find(|(fixed, _)| fixed == key);
            if let Some((_, why)) = fixed.filter(|_| values.len() > 1) {
                faults.push(format!("{key}: cannot take several values: {why}"));
            }
            let by_flag = [
                ("train.seed", self.seeds, "--seeds"),
                ("data.fold", self.folds, "--folds"),
            ];
            for (set, given, flag) in by_flag {
                if key == set && given.is_some() {
                    faults.push(format!("{key}: {flag} sets it: leave one of the two out"));
                }
            }
        }
        let within = |given: Option<usize>, least: usize, most: usize| {
            given.filter(|given| !(least..=most).contains(given))
        };
        if let Some(seeds) = within(self.seeds, 1, MOST_SEEDS) {
            faults.push(format!(
                "--seeds: expected 1 to {MOST_SEEDS}, found {seeds}: how many seeds there are, from \
                 1 on"
            ));
        }
        if let Some(folds) = within(self.folds, 2, Fold::MOST) {
            faults.push(format!(
                "--folds: expected 2 to {}, found {folds}",
                Fold::MOST
            ));
        }
        if faults.is_empty() && self.runs() > MOST {
            faults.push(format!(
                "{} combinations, {} seeds and {} folds are more than {MOST} runs",
                self.combinations(),
                self.seeds.unwrap_or(1),
                self.folds.unwrap_or(1)
            ));
        }
        let one = self.combinations() == 1 && self.seeds.is_none_or(|seeds| seeds == 1);
        if faults.is_empty() && one && self.folds.is_none() {
            faults.push(
                "nothing to choose between: give a key several values (--set lora.r=8,16), or \
                 --seeds N or --folds K"
                    .into(),
            );
        }
    }

    /// How many combinations of values there are.
    pub fn combinations(&self) -> usize {
        let counts = self.keys.iter().map(|key| key.values.len());
        counts.fold(1, usize::saturating_mul)
    }

    /// How many runs there are: combinations, times seeds, times folds.
    pub fn runs(&self) -> usize {
        let repeated = [self.seeds, self.folds].into_iter().flatten();
        repeated.fold(self.combinations(), usize::saturating_mul)
    }

    /// The keys that take several values.
    pub fn varied(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| key.varies())
    }
}

/// Parts a text at the commas that stand neither within quotes nor within brackets.
///
/// # Errors
///
/// With what is wrong, where it cannot be told which commas these are.
fn alternatives(text: &str) -> Result<Vec<&str>, String> {
    let mut parts = Vec::new();
    let (mut start, mut open, mut quote) = (0, Vec::new(), None);
    // Where a value begins a quote opens; elsewhere it is an apostrophe.
    let (mut begins, mut escaped) = (true, false);
    for (at, c) in text.char_indices() {
        if let Some(mark) = quote {
            if escaped {
                escaped = false;
            } else if c == '\\' && mark == '"' {
                escaped = true;
            } else if c == mark {
                quote = None;
            }
            continue;
        }
        match c {
            '"' | '\'' if begins => quote = Some(c),
            '[' => open.push(']'),
            '(' => open.push(')'),
            '{' => open.push('}'),
            ',' if open.is_empty() => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            c if open.last() == Some(&c) => drop(open.pop()),
            _ => {}
        }
        begins = "[({,=".contains(c) || begins && c.is_whitespace();
    }
    parts.push(&text[start..]);
    if text.contains(',') && (quote.is_some() || !open.is_empty()) {
        let what = quote.or(open.last().copied()).unwrap_or_default();
        return Err(format!(
            "which commas part values, where {what} is missing? Put each value in quotes: \
             'a,b','c'"
        ));
    }
    let parts: Vec<&str> = parts.into_iter().map(str::trim).collect();
    if parts.len() > 1 && parts.contains(&"") {
        return Err("an empty value between commas; \"\" is an empty text".into());
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_within_quotes_and_brackets_part_nothing() {
        for (text, expected) in [
            ("1e-4,3e-4", &["1e-4", "3e-4"][..]),
            (" a , b ", &["a", "b"]),
            ("", &[""]),
            (r#"["a","b"],["c"]"#, &[r#"["a","b"]"#, r#"["c"]"#]),
            (
                r#""layers:0-7,24-31",'x,y',z"#,
                &[r#""layers:0-7,24-31""#, "'x,y'", "z"],
            ),
            (r#""a\",b",c"#, &[r#""a\",b""#, "c"]),
            ("'a\\',b", &["'a\\'", "b"]),
            (
                r".*q_proj{1,2},[a,b]_(x|y,z)",
                &[r".*q_proj{1,2}", "[a,b]_(x|y,z)"],
            ),
            ("{r=8,lora_alpha=1},false", &["{r=8,lora_alpha=1}", "false"]),
            ("it's,its", &["it's", "its"]),
            ("a),b", &["a)", "b"]),
            ("[unclosed", &["[unclosed"]),
        ] {
            assert_eq!(alternatives(text).unwrap(), expected, "{text}");
        }
        for (text, fault) in [
            ("[a,b", "] is missing"),
            ("'a,b", "' is missing"),
            ("8,,16", "an empty value"),
            ("8,", "an empty value"),
        ] {
            let found = alternatives(text).unwrap_err();
            assert!(found.contains(fault), "{text}: {found}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_said() {
        let set = [
            "lora.r=8,8.0,8",
            "task=token,sequence",
            "nothing",
            "train.seed=3",
        ];
        let set = set.map(String::from);
        let error = Choices::new(&set, Some(0), Some(1)).unwrap_err();
        assert!(error.is_usage());
        let error = error.to_string();
        for part in [
            "6 faults",
            "lora.r: 8 is named twice",
            "task: cannot take several values: runs of two tasks",
            "\"nothing\": expected key=value",
            "train.seed: --seeds sets it",
            "--seeds: expected 1 to 1000, found 0",
            "--folds: expected 2 to 9999, found 1",
        ] {
            assert!(error.contains(part), "{part:?} is not in {error}");
        }
        let error = Choices::new(&["lora.r=8".into()], Some(1), None).unwrap_err();
        assert!(error.to_string().contains("nothing to choose between"));
        let two = ["lora.r=8,16".into()];
        let error = Choices::new(&two, Some(1000), Some(6)).unwrap_err();
        let said = "2 combinations, 1000 seeds and 6 folds are more than 10000 runs";
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(
            Choices::new(&two, Some(1000), Some(5)).unwrap().runs(),
            10_000
        );
        let again = ["lora.r=8".into(), "lora.r=16,32".into()];
        let choices = Choices::new(&again, None, None).unwrap();
        assert_eq!(choices.keys[0].values, ["8", "16", "32"]);
    }
}
