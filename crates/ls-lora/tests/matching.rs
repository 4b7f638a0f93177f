//! Which modules a configuration selects, and with what rank and scaling: peft's answers (`fixtures/peft/matching.json`).
#![allow(clippy::unwrap_used)]

use ls_lora::target::ModuleMatcher;
use ls_lora::{LoraConfig, LoraError, select_modules};
use serde_json::Value;

struct Modules {
    linear: Vec<String>,
    embedding: Vec<String>,
    all: Vec<String>,
}

impl Modules {
    fn of(listed: &Value) -> Self {
        let mut modules = Self {
            linear: Vec::new(),
            embedding: Vec::new(),
            all: Vec::new(),
        };
        for entry in listed.as_array().unwrap() {
            let name = entry[0].as_str().unwrap().to_owned();
            match entry[1].as_str().unwrap() {
                // The head is no adaptable layer here, as in this crate's models; heads are told apart by name.
                "Linear" if name != "score" => modules.linear.push(name.clone()),
                "Embedding" => modules.embedding.push(name.clone()),
                _ => {}
            }
            modules.all.push(name);
        }
        modules
    }

    fn select(&self, config: &LoraConfig) -> Result<Vec<String>, LoraError> {
        fn names(names: &[String]) -> Vec<&str> {
            names.iter().map(String::as_str).collect()
        }
        let mut selected = select_modules(
            config,
            &names(&self.linear),
            &names(&self.embedding),
            &["score"],
        )?;
        selected.sort_by_key(|name| self.all.iter().position(|module| module == name));
        Ok(selected)
    }
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().unwrap().iter();
    items.map(|v| v.as_str().unwrap().to_owned()).collect()
}

#[test]
fn selections_ranks_and_scalings_are_pefts() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/peft/matching.json"
    );
    let fixture: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (mut equal, mut stricter, mut refused) = (0, 0, 0);
    for case in fixture["cases"].as_array().unwrap() {
        let modules = Modules::of(&fixture["modules"][case["model"].as_str().unwrap()]);
        let mut fields = case["config"].clone();
        fields["peft_type"] = "LORA".into();
        fields["task_type"] = case["task_type"].clone();
        let found = LoraConfig::from_json_value(&fields)
            .and_then(|(config, _)| Ok((modules.select(&config)?, config)));
        let shown = &case["config"];

        if let Some(error) = case["error"].as_str() {
            match found {
                Err(_) => refused += 1,
                // The one thing done differently on purpose: peft adapts the head of a token classifier and then fails.
                Ok((selected, _)) => {
                    let head = ["all-linear", "score", "p_proj"];
                    assert!(
                        error.starts_with("TypeError")
                            && head.iter().any(|name| shown.to_string().contains(name))
                            || shown["target_modules"].is_null(),
                        "{shown}: {error}, but selected {selected:?}"
                    );
                }
            }
            continue;
        }
        let mut wanted = strings(&case["selected"]);
        let mut ranks = case["ranks"].as_array().unwrap().clone();
        let mut scalings = case["scalings"].as_array().unwrap().clone();
        // A head is trained in full and never adapted here.
        if let Some(at) = wanted.iter().position(|name| name == "score") {
            wanted.remove(at);
            ranks.remove(at);
            scalings.remove(at);
        }
        match found {
            Ok((selected, config)) => {
                assert_eq!(selected, wanted, "{shown}");
                for (at, name) in wanted.iter().enumerate() {
                    let r = config.rank_of(name) as u64;
                    assert_eq!(Some(r), ranks[at].as_u64(), "{shown}: {name}");
                    let (found, scaling) =
                        (config.scaling_of(name), scalings[at].as_f64().unwrap());
                    assert!(
                        (found - scaling).abs() < 1e-12,
                        "{shown}: {name}: {found} {scaling}"
                    );
                }
                let matcher = ModuleMatcher::new(&config).unwrap();
                let mut saved: Vec<String> = modules
                    .all
                    .iter()
                    .filter(|name| matcher.is_saved(name))
                    .cloned()
                    .collect();
                let mut wanted = strings(&case["saved"]);
                saved.sort();
                wanted.sort();
                assert_eq!(saved, wanted, "{shown}");
                equal += 1;
            }
            // Stricter than peft: each name that matches nothing is an error, not only all of them.
            Err(
                LoraError::UnmatchedTargets { .. }
                | LoraError::UnmatchedLayers { .. }
                | LoraError::NothingToAdapt { .. },
            ) => stricter += 1,
            // Python's expressions have look-around.
            Err(LoraError::InvalidConfig { field, .. })
                if shown[&field].to_string().contains("(?") =>
            {
                stricter += 1;
            }
            Err(other) => panic!("{shown}: {other}"),
        }
    }
    println!("{equal} equal, {stricter} refused here only, {refused} refused by both");
    assert!(
        equal >= 70,
        "{equal} equal, {stricter} stricter, {refused} refused"
    );
}
