//! Which modules a configuration selects, and with what rank and scaling: the rules one by one, and
//! peft's answers to 115 cases (`fixtures/peft/matching.json`).
#![allow(clippy::unwrap_used)]

use ls_lora::{LoraConfig, LoraError, ModuleMatcher, TargetModules, TaskType, select_modules};
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
                // The head is no adaptable layer here, as in this crate's models; heads are told
                // apart by name.
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
                // The one thing done differently on purpose: peft adapts the head of a token
                // classifier and then fails.
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

/// The linear layers of a llama with this many layers, in model order, and its head.
fn llama(layers: usize) -> Vec<String> {
    let parts = [
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    ];
    let blocks = (0..layers).flat_map(|i| parts.map(|part| format!("model.layers.{i}.{part}")));
    blocks.chain(["score".to_owned()]).collect()
}

fn select(config: &LoraConfig) -> Result<Vec<String>, LoraError> {
    let names = llama(2);
    select_modules(
        config,
        &names.iter().map(String::as_str).collect::<Vec<_>>(),
        &[],
        &["score"],
    )
}

fn list(names: &[&str]) -> LoraConfig {
    LoraConfig::new(2, 4.0).with_target_modules(TargetModules::list(names.iter().copied()))
}

fn pattern(text: &str) -> LoraConfig {
    LoraConfig::new(2, 4.0).with_target_modules(TargetModules::parse(text))
}

/// Short names: `0.q` for `model.layers.0.self_attn.q_proj`.
fn check(config: &LoraConfig, expected: &str) {
    let selected: Vec<String> = select(config)
        .unwrap()
        .iter()
        .map(|name| {
            let parts: Vec<&str> = name.split('.').collect();
            match parts[..] {
                ["model", "layers", layer, _, module] => {
                    format!("{layer}.{}", module.trim_end_matches("_proj"))
                }
                _ => name.clone(),
            }
        })
        .collect();
    assert_eq!(selected.join(" "), expected, "{config:?}");
}

#[test]
fn a_list_matches_full_names_and_dotted_suffixes() {
    check(&list(&["q_proj"]), "0.q 1.q");
    check(&list(&["v_proj", "q_proj"]), "0.q 0.v 1.q 1.v");
    check(&list(&["layers.1.self_attn.q_proj"]), "1.q");
    check(
        &list(&["model.layers.0.mlp.up_proj", "1.mlp.up_proj"]),
        "0.up 1.up",
    );
    check(&list(&["score", "o_proj"]), "0.o 1.o score");
}

#[test]
fn a_list_entry_is_no_expression_and_no_bare_suffix() {
    for entry in [
        "proj",
        "_proj",
        ".*proj",
        "self_attn",
        "layers.2.self_attn.q_proj",
        ".q_proj",
    ] {
        let LoraError::UnmatchedTargets {
            requested,
            available,
            ..
        } = select(&list(&["q_proj", entry])).unwrap_err()
        else {
            panic!("{entry}");
        };
        assert_eq!(requested, [entry]);
        assert_eq!(available, llama(2));
    }
}

#[test]
fn a_pattern_must_match_the_whole_name() {
    check(&pattern(r".*\.(q_proj|o_proj)"), "0.q 0.o 1.q 1.o");
    check(
        &pattern(r"model\.layers\.1\..*_proj"),
        "1.q 1.k 1.v 1.o 1.gate 1.up 1.down",
    );
    check(&pattern(r".*q_proj|score"), "0.q 1.q score");
    check(&pattern(r"^.*0.self_attn.v_proj$"), "0.v");
    for part in ["q_proj", r".*\.q", r"layers\.1\..*", ".*q_proj|", "a|b"] {
        let result = select(&pattern(part));
        match part {
            // An empty branch matches only an empty name.
            ".*q_proj|" => assert_eq!(result.unwrap().len(), 2),
            _ => assert!(
                matches!(result, Err(LoraError::UnmatchedPattern { .. })),
                "{part}"
            ),
        }
    }
}

#[test]
fn all_linear_in_any_case_never_takes_the_head() {
    let all = "0.q 0.k 0.v 0.o 0.gate 0.up 0.down 1.q 1.k 1.v 1.o 1.gate 1.up 1.down";
    check(&pattern("all-linear"), all);
    check(&pattern("All-Linear"), all);
    check(
        &pattern("all-linear").with_task_type(TaskType::TokenCls),
        all,
    );
}

#[test]
fn exclusion_wins_over_targets() {
    let excluding = |mut config: LoraConfig, excluded: TargetModules| {
        config.exclude_modules = Some(excluded);
        config
    };
    let names = TargetModules::list(["0.self_attn.q_proj", "mlp.down_proj"]);
    check(&excluding(list(&["q_proj", "down_proj"]), names), "1.q");
    check(
        &excluding(list(&["q_proj"]), TargetModules::parse(r".*\.1\..*")),
        "0.q",
    );
    check(
        &excluding(list(&["q_proj"]), TargetModules::parse("q_proj")),
        "0.q 1.q",
    );
    check(
        &excluding(
            pattern("all-linear"),
            TargetModules::parse(".*mlp.*|.*[kvo]_proj"),
        ),
        "0.q 1.q",
    );
    let nothing = select(&excluding(
        list(&["q_proj"]),
        TargetModules::list(["q_proj"]),
    ))
    .unwrap_err();
    assert!(matches!(nothing, LoraError::NothingToAdapt { excluded } if excluded.len() == 2));
    assert!(
        excluding(list(&["q_proj"]), TargetModules::AllLinear)
            .validate()
            .is_err()
    );
}

#[test]
fn modules_to_save_are_never_adapted() {
    check(
        &list(&["q_proj", "score"]).with_task_type(TaskType::SeqCls),
        "0.q 1.q",
    );
    check(
        &pattern(".*q_proj|score").with_modules_to_save(["score"]),
        "0.q 1.q",
    );
    // Everything below a module to save is excluded, and the name is an expression.
    check(
        &list(&["q_proj", "up_proj"]).with_modules_to_save(["layers.1"]),
        "0.q 0.up",
    );
    check(
        &list(&["q_proj", "up_proj"]).with_modules_to_save(["layers..[.]mlp"]),
        "0.q 1.q",
    );
    // For this test a dot is needed before the name.
    check(&list(&["q_proj"]).with_modules_to_save(["proj"]), "0.q 1.q");
    let only_head = list(&["score"]).with_task_type(TaskType::SeqCls);
    assert!(matches!(
        select(&only_head),
        Err(LoraError::NothingToAdapt { .. })
    ));
}

#[test]
fn a_head_that_is_only_saved_may_be_listed() {
    let names = ["a.q_proj"];
    let config = list(&["q_proj", "score"]).with_task_type(TaskType::SeqCls);
    assert_eq!(
        select_modules(&config, &names, &[], &["score"]).unwrap(),
        ["a.q_proj"]
    );
    assert!(select_modules(&list(&["q_proj", "score"]), &names, &[], &["score"]).is_err());
}

fn in_layers(mut config: LoraConfig, layers: &[usize], pattern: Option<&[&str]>) -> LoraConfig {
    config.layers_to_transform = Some(layers.to_vec());
    config.layers_pattern =
        pattern.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    config
}

#[test]
fn layers_to_transform_restricts_a_list() {
    check(&in_layers(list(&["q_proj"]), &[1], None), "1.q");
    check(
        &in_layers(list(&["q_proj"]), &[0, 1], Some(&["layers"])),
        "0.q 1.q",
    );
    check(
        &in_layers(list(&["q_proj"]), &[0], Some(&["h", "layers"])),
        "0.q",
    );
    check(
        &in_layers(list(&["q_proj"]), &[0], Some(&["(h|layers)"])),
        "0.q",
    );
    // As in peft, no index means no restriction, and a module named in full is taken in any layer.
    check(&in_layers(list(&["q_proj"]), &[], None), "0.q 1.q");
    check(
        &in_layers(
            list(&["model.layers.0.self_attn.v_proj", "q_proj"]),
            &[1],
            None,
        ),
        "0.v 1.q",
    );
}

#[test]
fn the_layer_is_the_first_numbered_part() {
    let names = [
        "model.layers.1.experts.0.up",
        "model.layers.0.experts.1.up",
        "layers.1.up",
    ];
    let selected = |pattern| {
        select_modules(&in_layers(list(&["up"]), &[1], pattern), &names, &[], &[]).unwrap()
    };
    // Without a pattern a name must have a part before the list's name.
    assert_eq!(selected(None), [names[0]]);
    assert_eq!(selected(Some(&["layers"])), [names[0], names[2]]);
    assert_eq!(selected(Some(&["experts"])), [names[1]]);
}

#[test]
fn a_layer_that_is_not_there_is_an_error() {
    let error = select(&in_layers(list(&["q_proj"]), &[1, 7], None)).unwrap_err();
    assert!(
        matches!(error, LoraError::UnmatchedLayers { requested, available }
        if requested == [7] && available == [0, 1])
    );
    let error = select(&in_layers(list(&["q_proj"]), &[0], Some(&["h"]))).unwrap_err();
    assert!(matches!(error, LoraError::UnmatchedLayers { available, .. } if available.is_empty()));
}

#[test]
fn layers_contradict_anything_but_a_list() {
    for config in [
        in_layers(pattern(".*q_proj"), &[0], None),
        in_layers(pattern("all-linear"), &[0], None),
    ] {
        assert!(
            matches!(select(&config), Err(LoraError::InvalidConfig { field, .. }) if field == "layers_to_transform")
        );
    }
    let mut config = list(&["q_proj"]);
    config.layers_pattern = Some(vec!["layers".into()]);
    assert!(
        matches!(select(&config), Err(LoraError::InvalidConfig { field, .. }) if field == "layers_pattern")
    );
}

#[test]
fn bad_patterns_name_their_field() {
    let with = |change: fn(&mut LoraConfig)| {
        let mut config = list(&["q_proj"]);
        change(&mut config);
        config
    };
    let cases: Vec<(LoraConfig, &str)> = vec![
        (pattern("(q_proj"), "target_modules"),
        (pattern("(?!.*head).*"), "target_modules"),
        (list(&[]), "target_modules"),
        (list(&["q_proj", ""]), "target_modules"),
        (
            with(|c| c.exclude_modules = Some(TargetModules::parse("["))),
            "exclude_modules",
        ),
        (
            with(|c| c.rank_pattern = vec![("q_proj(".into(), 2)]),
            "rank_pattern",
        ),
        (
            with(|c| c.alpha_pattern = vec![("*".into(), 2.0)]),
            "alpha_pattern",
        ),
        (
            with(|c| c.modules_to_save = vec!["score)".into()]),
            "modules_to_save",
        ),
        (
            with(|c| c.modules_to_save = vec![String::new()]),
            "modules_to_save",
        ),
        (
            with(|c| {
                c.layers_to_transform = Some(vec![0]);
                c.layers_pattern = Some(vec!["[".into()]);
            }),
            "layers_pattern",
        ),
    ];
    for (config, expected) in cases {
        match select(&config).unwrap_err() {
            LoraError::InvalidConfig { field, reason, .. } => {
                assert_eq!(field, expected);
                assert!(!reason.is_empty() && !reason.contains('\n'), "{reason}");
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn numbers_that_only_code_can_set_are_checked_too() {
    for dropout in [f64::NAN, f64::INFINITY, 1.0, -1e-9] {
        assert!(
            LoraConfig::new(1, 1.0)
                .with_lora_dropout(dropout)
                .validate()
                .is_err()
        );
    }
    for alpha in [f64::NAN, f64::NEG_INFINITY] {
        assert!(LoraConfig::new(1, alpha).validate().is_err());
        let mut config = LoraConfig::new(8, 8.0);
        config.alpha_pattern = vec![("q_proj".into(), alpha)];
        assert!(config.validate().is_err());
    }
    assert!(LoraConfig::new(0, 1.0).validate().is_err());
    assert!(LoraConfig::new(1, 0.0).validate().is_ok());
}
