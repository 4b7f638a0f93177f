//! [`Plan`]: every run of a sweep, with its name and its configuration.

use toml::Value;

use super::choices::{Choices, Key};
use super::compared::Compared;
use crate::config::{Fold, RunConfig, value_of};
use crate::error::TrainError;

/// Letters of a value that the name of a folder has.
const SHOWN: usize = 32;
/// Letters of all values: a folder's name has 255 at most.
const MOST_SHOWN: usize = 160;

/// Every run of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    choices: Choices,
    runs: Vec<Planned>,
}

/// A run of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Its name, that of its folder: the number of its combination, the values, seed and fold.
    pub name: String,
    /// Its combination, counted from 0.
    pub combination: usize,
    /// What it trains.
    pub config: RunConfig,
}

impl Plan {
    /// The runs of a sweep. `read` makes a configuration of `key=value` overrides; it is asked once
    /// for each combination.
    ///
    /// The runs of a combination follow each other, and combinations that differ in `model` or
    /// `data` are further apart than others, since what is loaded and read serves all that agree
    /// in it.
    ///
    /// # Errors
    ///
    /// Whatever `read` says of the first combination that it cannot make; if the runs could not be
    /// compared.
    pub fn new<E: From<TrainError>>(
        choices: Choices,
        mut read: impl FnMut(&[String]) -> Result<RunConfig, E>,
    ) -> Result<Self, E> {
        let count = choices.combinations();
        let width = count.to_string().len().max(2);
        let mut runs = Vec::new();
        let mut compared = Compared::new(&choices);
        for combination in 0..count {
            let at = chosen(&choices, combination);
            let values = choices.keys.iter().zip(&at);
            let values = values.map(|(key, at)| (key, key.values[*at].as_str()));
            let set: Vec<String> = values
                .clone()
                .map(|(key, value)| format!("{}={value}", key.key))
                .collect();
            let mut config = read(&set)?;
            compared.check(&config)?;
            config.check_adapter()?;
            config.run = None;
            config.make_paths_absolute();
            let mut name = format!("{:0width$}", combination + 1);
            for (key, value) in values.filter(|(key, _)| key.varies()) {
                name.push_str(&format!("_{}={}", choices.short(key), plain(&shown(value))));
            }
            name.truncate(MOST_SHOWN);
            for (seed, fold) in repeated(&choices) {
                let (mut name, mut config) = (name.clone(), config.clone());
                if let Some(seed) = seed {
                    config.train.seed = seed as u64;
                    name.push_str(&format!("_seed={seed}"));
                }
                if let Some(fold) = fold {
                    config.data.fold = Some(fold);
                    name.push_str(&format!("_fold={}", fold.part()));
                }
                runs.push(Planned {
                    name,
                    combination,
                    config,
                });
            }
        }
        Ok(Self { choices, runs })
    }

    /// Of runs that were planned before.
    pub(super) fn of_runs(choices: Choices, runs: Vec<Planned>) -> Self {
        Self { choices, runs }
    }

    /// What the sweep varies.
    pub fn choices(&self) -> &Choices {
        &self.choices
    }

    /// Its runs, in the order in which they are trained.
    pub fn runs(&self) -> &[Planned] {
        &self.runs
    }

    /// The values of a combination, of the keys that take several: short name and value.
    pub fn values(&self, combination: usize) -> Vec<(String, String)> {
        let at = chosen(&self.choices, combination);
        let keys = self.choices.keys.iter().zip(at);
        keys.filter(|(key, _)| key.varies())
            .map(|(key, at)| (self.choices.short(key), shown(&key.values[at])))
            .collect()
    }
}

impl Choices {
    /// The last part of a key's name, or the whole where another has that too.
    pub(super) fn short(&self, key: &Key) -> String {
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let name = last(&key.key);
        let same = self.varied().filter(|other| last(&other.key) == name);
        match same.count() {
            1 => name,
            _ => key.key.clone(),
        }
    }
}

/// Which value of each key a combination has.
fn chosen(choices: &Choices, combination: usize) -> Vec<usize> {
    let rank = |key: &Key| match key.key.split('.').next() {
        Some("model") => 0,
        Some("data") => 1,
        _ => 2,
    };
    let mut order: Vec<usize> = (0..choices.keys.len()).collect();
    order.sort_by_key(|at| rank(&choices.keys[*at]));
    let (mut chosen, mut rest) = (vec![0; order.len()], combination);
    for key in order.into_iter().rev() {
        let count = choices.keys[key].values.len();
        chosen[key] = rest % count;
        rest /= count;
    }
    chosen
}

/// The seeds and folds of a combination.
fn repeated(choices: &Choices) -> Vec<(Option<usize>, Option<Fold>)> {
    let seeds = match choices.seeds {
        Some(seeds) => (1..=seeds).map(Some).collect(),
        None => vec![None],
    };
    let folds = match choices.folds {
        Some(folds) => (1..=folds).map(|part| Fold::new(part, folds)).collect(),
        None => vec![None],
    };
    let of_seed = |seed: &Option<usize>| {
        let seed = *seed;
        folds.iter().map(move |fold| (seed, *fold))
    };
    seeds.iter().flat_map(of_seed).collect()
}

/// A value without the quotes of a text.
fn shown(text: &str) -> String {
    match value_of(text) {
        Value::String(text) => text,
        _ => text.into(),
    }
}

/// A value in letters that a shell leaves as they are. Names are different anyway, by their number.
fn plain(value: &str) -> String {
    let ok = |c: &char| c.is_ascii_alphanumeric() || "+-._".contains(*c);
    let mut name = String::new();
    let mut left_out = false;
    for c in value.chars() {
        if ok(&c) {
            if left_out && !name.is_empty() {
                name.push('-');
            }
            name.push(c);
        }
        left_out = !ok(&c);
        if name.len() >= SHOWN {
            break;
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::error::Result;

    fn plan(set: &[&str], seeds: Option<usize>, folds: Option<usize>) -> Result<Plan> {
        let set: Vec<String> = set.iter().map(|text| text.to_string()).collect();
        let text = "task = 'sequence'\nmodel.path = 'm'\ndata.train = 'a.csv'\n";
        Plan::new(Choices::new(&set, seeds, folds)?, |set| {
            RunConfig::from_toml(text, "run.toml", set)
        })
    }

    fn names(plan: &Plan) -> Vec<&str> {
        plan.runs().iter().map(|run| run.name.as_str()).collect()
    }

    #[test]
    fn runs_are_combinations_with_seeds_and_folds() {
        let found = plan(&["train.epochs=2", "lora.r=4,8"], Some(2), Some(2)).unwrap();
        assert_eq!(
            names(&found)[..5],
            [
                "01_r=4_seed=1_fold=1",
                "01_r=4_seed=1_fold=2",
                "01_r=4_seed=2_fold=1",
                "01_r=4_seed=2_fold=2",
                "02_r=8_seed=1_fold=1",
            ]
        );
        let last = found.runs().last().unwrap();
        assert_eq!((last.combination, last.config.train.seed), (1, 2));
        assert_eq!(last.config.data.fold.unwrap().to_string(), "2/2");
        assert_eq!(last.config.train.epochs, 2);
        assert_eq!(last.config.lora.as_ref().unwrap().r, 8);
        assert_eq!(found.values(1), [("r".into(), "8".into())]);
    }

    #[test]
    fn what_is_loaded_and_read_varies_slowest() {
        let set = ["lora.r=4,8", "data.max_length=9,8", "model.dtype=f32,bf16"];
        let found = plan(&set, None, None).unwrap();
        let expected = [
            "01_r=4_max_length=9_dtype=f32",
            "02_r=8_max_length=9_dtype=f32",
            "03_r=4_max_length=8_dtype=f32",
            "04_r=8_max_length=8_dtype=f32",
            "05_r=4_max_length=9_dtype=bf16",
        ];
        assert_eq!(names(&found)[..5], expected);
    }

    #[test]
    fn names_are_plain_and_differ() {
        let long = "x".repeat(400);
        let values =
            format!("lora.target_modules='.*/q,v\u{e9}','../..',[\"a\",\"b\"],{long}1,{long}2");
        let found = plan(&[&values], None, None).unwrap();
        let apart: BTreeSet<&str> = names(&found).into_iter().collect();
        assert_eq!(apart.len(), found.runs().len());
        assert_eq!(
            names(&found)[..3],
            [
                "01_target_modules=.-q-v",
                "02_target_modules=..-..",
                "03_target_modules=a-b"
            ]
        );
        assert!(names(&found).iter().all(|name| name.len() < 60));
        // Also those of many keys.
        let many = [
            "data.text",
            "model.path",
            "data.text_pair",
            "lora.target_modules",
        ];
        let many = many.map(|key| format!("{key}={key}{long},{key}"));
        let many = many.each_ref().map(String::as_str);
        let found = plan(&many, Some(1), None).unwrap();
        let first = names(&found)[0];
        assert!(first.len() == 167 && first.ends_with("_seed=1"), "{first}");
        let same = plan(&["lora.bias=none,all", "data.text=x,y"], None, None).unwrap();
        assert_eq!(names(&same)[3], "04_bias=all_text=y");
    }

    #[test]
    fn a_fault_of_one_combination_is_that_of_its_configuration() {
        let error = plan(&["lora.r=4,0"], None, None).unwrap_err().to_string();
        assert!(error.contains("run.toml") && error.contains("r"), "{error}");
    }
}
