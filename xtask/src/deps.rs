//! `cargo xtask deps`: which crates import which, from `cargo metadata`; no circles of files in
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::check::{cargo, report, stdout};
use crate::circles;

/// What each member may import to be built. Dev-dependencies are free, except xtask's.
const ARROWS: [(&str, &[&str]); 12] = [
    ("ls-files", &[]),
    ("ls-lora", &["ls-files", "ls-ops"]),
    ("ls-ops", &[]),
    ("ls-model", &["ls-files", "ls-lora", "ls-ops"]),
    ("ls-data", &["ls-files"]),
    ("ls-hub", &["ls-data", "ls-files"]),
    ("ls-report", &["ls-data", "ls-files"]),
    (
        "ls-train",
        &[
            "ls-data",
            "ls-files",
            "ls-lora",
            "ls-model",
            "ls-ops",
            "ls-report",
        ],
    ),
    ("ls-serve", &["ls-data", "ls-files", "ls-train"]),
    (
        "ls-cli",
        &[
            "ls-data",
            "ls-files",
            "ls-hub",
            "ls-ops",
            "ls-report",
            "ls-serve",
            "ls-train",
        ],
    ),
    (
        "ls-benches",
        &[
            "ls-data", "ls-files", "ls-lora", "ls-model", "ls-ops", "ls-train",
        ],
    ),
    ("xtask", &[]),
];

/// Members in whose tree there is no burn: whoever only reads data does not compile tensors.
const WITHOUT_BURN: [&str; 5] = ["ls-data", "ls-files", "ls-hub", "ls-report", "xtask"];

/// Members that leave the backend to whoever builds the program.
const WITHOUT_BACKEND: [&str; 5] = ["ls-lora", "ls-ops", "ls-model", "ls-serve", "ls-train"];

/// burn's features that are a backend or belong to some.
const BACKENDS: [&str; 12] = [
    "autotune", "cpu", "cuda", "flex", "fusion", "metal", "ndarray", "rocm", "tch", "vulkan",
    "webgpu", "wgpu",
];

/// Checks the arrows of the workspace at `root`.
pub fn run(root: &Path) -> Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = stdout(Command::new(rustc).arg("-vV").current_dir(root))?;
    let host = host(&String::from_utf8_lossy(&version)).context("rustc -vV names no host")?;
    let metadata = stdout(
        cargo(root)
            .args(["metadata", "--locked", "--format-version", "1"])
            // Only what is compiled here, so that nothing is fetched for other systems.
            .args(["--filter-platform", &host]),
    )?;
    let metadata: Value = serde_json::from_slice(&metadata).context("cargo metadata: not JSON")?;
    let graph = Graph::new(&metadata)?;
    let mut faults = faults(&graph);
    // Targets that share a file may show the same circle.
    let mut circles = BTreeSet::new();
    for target in graph.members.iter().flat_map(|member| &member.targets) {
        circles.extend(circles::circles(root, Path::new(target))?);
    }
    faults.extend(circles);
    report("deps", &faults)
}

fn host(version: &str) -> Option<String> {
    let line = version.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(|host| host.trim().to_string())
}

/// The parts of `cargo metadata` that the checks read.
struct Graph {
    /// Members of the workspace.
    members: Vec<Member>,
    /// Package id -> its name and the ids of what it is built with, dev-dependencies left out.
    nodes: BTreeMap<String, (String, Vec<String>)>,
}

struct Member {
    id: String,
    name: String,
    dependencies: Vec<Dependency>,
    /// The root file of each library, program, test, bench and example.
    targets: Vec<String>,
}

struct Dependency {
    name: String,
    dev: bool,
    features: Vec<String>,
}

impl Graph {
    fn new(metadata: &Value) -> Result<Self> {
        let list = |value: &Value, key: &str| -> Result<Vec<Value>> {
            let list = value[key].as_array();
            list.cloned()
                .with_context(|| format!("cargo metadata: no list {key}"))
        };
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_string();

        let member_ids = list(metadata, "workspace_members")?;
        let mut names = BTreeMap::new();
        let mut members = Vec::new();
        for package in list(metadata, "packages")? {
            let (id, name) = (text(&package, "id"), text(&package, "name"));
            names.insert(id.clone(), name.clone());
            if !member_ids.contains(&package["id"]) {
                continue;
            }
            let dependencies = list(&package, "dependencies")?;
            let dependencies = dependencies.iter().map(|dependency| {
                let features = dependency["features"].as_array().into_iter().flatten();
                Dependency {
                    name: text(dependency, "name"),
                    dev: dependency["kind"] == "dev",
                    features: features
                        .filter_map(Value::as_str)
                        .map(str::to_string)
                        .collect(),
                }
            });
            let dependencies = dependencies.collect();
            let targets = list(&package, "targets")?;
            let targets = targets.iter().map(|target| text(target, "src_path"));
            let targets = targets.collect();
            members.push(Member {
                id,
                name,
                dependencies,
                targets,
            });
        }

        let mut nodes = BTreeMap::new();
        for node in list(&metadata["resolve"], "nodes")? {
            let id = text(&node, "id");
            let built_with = list(&node, "deps")?
                .iter()
                .filter(|dep| {
                    let kinds = dep["dep_kinds"].as_array().into_iter().flatten();
                    kinds.clone().count() == 0
                        || kinds.into_iter().any(|kind| kind["kind"] != "dev")
                })
                .map(|dep| text(dep, "pkg"))
                .collect();
            let name = names.get(&id).cloned().unwrap_or_default();
            nodes.insert(id, (name, built_with));
        }
        Ok(Self { members, nodes })
    }

    /// How the package `from` comes to be built with one whose name `wanted` takes: `a -> b -> c`.
    fn path(&self, from: &str, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let mut seen = BTreeSet::from([from]);
        let mut open = vec![(from, String::new())];
        while let Some((id, way)) = open.pop() {
            let (name, built_with) = self.nodes.get(id)?;
            let way = if way.is_empty() {
                name.clone()
            } else {
                format!("{way} -> {name}")
            };
            if id != from && wanted(name) {
                return Some(way);
            }
            for next in built_with {
                if seen.insert(next) {
                    open.push((next, way.clone()));
                }
            }
        }
        None
    }
}

/// Every arrow that should not be there.
fn faults(graph: &Graph) -> Vec<String> {
    let mut faults = Vec::new();
    let is_member = |name: &str| graph.members.iter().any(|member| member.name == name);
    for Member {
        id,
        name,
        dependencies,
        ..
    } in &graph.members
    {
        let Some((_, allowed)) = ARROWS.iter().find(|(member, _)| member == name) else {
            faults.push(format!(
                "{name}: no rule for this crate: add one to xtask/src/deps.rs"
            ));
            continue;
        };
        for dependency in dependencies {
            let counts = !dependency.dev || name == "xtask";
            if counts && is_member(&dependency.name) && !allowed.contains(&dependency.name.as_str())
            {
                let allowed = if allowed.is_empty() {
                    "none".into()
                } else {
                    allowed.join(", ")
                };
                faults.push(format!(
                    "{name} imports {} (allowed: {allowed})",
                    dependency.name
                ));
            }
            let backend = |feature: &&String| BACKENDS.contains(&feature.as_str());
            if WITHOUT_BACKEND.contains(&name.as_str())
                && dependency.name == "burn"
                && !dependency.dev
                && let Some(feature) = dependency.features.iter().find(backend)
            {
                faults.push(format!(
                    "{name} chooses a backend: feature {feature} of burn"
                ));
            }
        }
        let burn = |name: &str| name == "burn" || name.starts_with("burn-");
        if WITHOUT_BURN.contains(&name.as_str())
            && let Some(way) = graph.path(id, burn)
        {
            faults.push(format!("{name} is built with burn: {way}"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A dependency in a manifest: its name, its kind, its features.
    type Declared<'a> = (&'a str, &'a str, &'a [&'a str]);

    /// `cargo metadata` of members with these dependencies, and of packages outside with theirs.
    fn metadata(members: &[(&str, &[Declared<'_>])], outside: &[(&str, &[&str])]) -> Value {
        let kind = |kind: &str| {
            if kind == "normal" {
                Value::Null
            } else {
                kind.into()
            }
        };
        let mut packages = Vec::new();
        let mut nodes = Vec::new();
        for (name, dependencies) in members {
            let declared: Vec<Value> = dependencies
                .iter()
                .map(|(name, k, features)| json!({"name": name, "kind": kind(k), "features": features}))
                .collect();
            let resolved: Vec<Value> = dependencies
                .iter()
                .map(|(name, k, _)| json!({"pkg": name, "dep_kinds": [{"kind": kind(k)}]}))
                .collect();
            packages
                .push(json!({"id": name, "name": name, "dependencies": declared, "targets": []}));
            nodes.push(json!({"id": name, "deps": resolved}));
        }
        for (name, dependencies) in outside {
            let resolved: Vec<Value> = dependencies
                .iter()
                .map(|name| json!({"pkg": name, "dep_kinds": [{"kind": null}]}))
                .collect();
            packages.push(json!({"id": name, "name": name, "dependencies": []}));
            nodes.push(json!({"id": name, "deps": resolved}));
        }
        let members: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
        json!({"workspace_members": members, "packages": packages, "resolve": {"nodes": nodes}})
    }

    fn check(members: &[(&str, &[Declared<'_>])], outside: &[(&str, &[&str])], expected: &[&str]) {
        let graph = Graph::new(&metadata(members, outside)).unwrap();
        assert_eq!(faults(&graph), expected);
    }

    #[test]
    fn the_allowed_arrows_pass() {
        check(
            &[
                (
                    "ls-lora",
                    &[("burn", "normal", &["std"]), ("burn", "dev", &["flex"])],
                ),
                ("ls-data", &[("tokenizers", "normal", &[])]),
                (
                    "ls-cli",
                    &[("ls-data", "normal", &[]), ("ls-lora", "dev", &[])],
                ),
            ],
            &[("burn", &[]), ("tokenizers", &[])],
            &[],
        );
    }

    #[test]
    fn a_forbidden_import_is_named() {
        let expected = ["ls-lora imports ls-data (allowed: ls-files, ls-ops)"];
        check(
            &[("ls-lora", &[("ls-data", "normal", &[])]), ("ls-data", &[])],
            &[],
            &expected,
        );
        let expected = [
            "ls-cli imports ls-model (allowed: ls-data, ls-files, ls-hub, ls-ops, ls-report, ls-serve, ls-train)",
        ];
        check(
            &[("ls-cli", &[("ls-model", "build", &[])]), ("ls-model", &[])],
            &[],
            &expected,
        );
        // xtask may not even be tested with one.
        let expected = ["xtask imports ls-data (allowed: none)"];
        check(
            &[("xtask", &[("ls-data", "dev", &[])]), ("ls-data", &[])],
            &[],
            &expected,
        );
    }

    #[test]
    fn burn_is_found_behind_other_crates_but_not_behind_dev_dependencies() {
        let outside: &[(&str, &[&str])] = &[("helper", &["burn-tensor"]), ("burn-tensor", &[])];
        let expected = ["ls-data is built with burn: ls-data -> helper -> burn-tensor"];
        check(
            &[("ls-data", &[("helper", "normal", &[])])],
            outside,
            &expected,
        );
        check(&[("ls-data", &[("helper", "dev", &[])])], outside, &[]);
    }

    #[test]
    fn a_library_chooses_no_backend_and_every_member_has_a_rule() {
        let expected = ["ls-model chooses a backend: feature flex of burn"];
        check(
            &[("ls-model", &[("burn", "normal", &["std", "flex"])])],
            &[("burn", &[])],
            &expected,
        );
        check(
            &[("ls-new", &[])],
            &[],
            &["ls-new: no rule for this crate: add one to xtask/src/deps.rs"],
        );
    }

    #[test]
    fn the_host_is_read_from_rustc() {
        let version =
            "rustc 1.95.0\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n";
        assert_eq!(host(version).unwrap(), "x86_64-unknown-linux-gnu");
        assert_eq!(host("rustc 1.95.0\n"), None);
    }
}
