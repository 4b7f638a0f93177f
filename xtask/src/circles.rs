//! Circles between the files of a crate: files that need each other, straight or by way of others.
//!
//! A file needs another if it names something that is defined there, wherever the name was
//! re-exported on the way. Declaring a module or re-exporting from it is no need, so a `mod.rs` may
//! present what its children hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::rust::{self, Import};

/// The circles among the files of one target (`src/lib.rs`, `src/main.rs`, a test), each with the
/// names that make it.
pub fn circles(root: &Path, target: &Path) -> Result<Vec<String>> {
    let tree = Tree::read(target)?;
    let needs = tree.needs();
    let circles = strongly_connected(tree.files.len(), &needs);
    Ok(circles
        .iter()
        .map(|circle| {
            let shown = |file: usize| {
                let file = &tree.files[file];
                let path = file.strip_prefix(root).unwrap_or(file);
                path.display().to_string().replace('\\', "/")
            };
            let mut text = format!("circle of {} files", circle.len());
            for ((from, to), names) in &needs {
                if circle.contains(from) && circle.contains(to) {
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    let names = names.join(", ");
                    text += &format!("\n    {} needs {names} of {}", shown(*from), shown(*to));
                }
            }
            text
        })
        .collect())
}

/// From a file to another: the names of the first that the second defines.
type Needs = BTreeMap<(usize, usize), BTreeSet<String>>;

/// The modules of a target.
struct Tree {
    files: Vec<PathBuf>,
    /// The first one is the crate's root.
    modules: Vec<Module>,
}

struct Module {
    file: usize,
    parent: usize,
    children: BTreeMap<String, usize>,
    items: BTreeSet<String>,
    imports: Vec<Import>,
    paths: BTreeSet<Vec<String>>,
}

/// What a path names.
enum Named {
    Module(usize),
    /// Something defined in a file.
    Item {
        file: usize,
        name: String,
    },
}

impl Tree {
    fn read(target: &Path) -> Result<Self> {
        let mut tree = Self {
            files: Vec::new(),
            modules: Vec::new(),
        };
        let folder = target.parent().unwrap_or(target);
        tree.add_file(target, folder, 0)?;
        Ok(tree)
    }

    /// Adds the module that is a file, whose own modules are looked for in `folder`.
    fn add_file(&mut self, path: &Path, folder: &Path, parent: usize) -> Result<usize> {
        let source =
            fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        self.files.push(path.to_path_buf());
        self.add(rust::read(&source), self.files.len() - 1, folder, parent)
    }

    fn add(
        &mut self,
        module: rust::Module,
        file: usize,
        folder: &Path,
        parent: usize,
    ) -> Result<usize> {
        let this = self.modules.len();
        self.modules.push(Module {
            file,
            parent,
            children: BTreeMap::new(),
            items: module.items,
            imports: module.imports,
            paths: module.paths,
        });
        for (name, inline) in module.inline {
            let child = self.add(inline, file, &folder.join(&name), this)?;
            self.modules[this].children.insert(name, child);
        }
        for (name, path) in module.files {
            let beside = self.files[file].parent().unwrap_or(folder);
            let candidates = match path {
                Some(path) => vec![beside.join(path)],
                None => vec![
                    folder.join(format!("{name}.rs")),
                    folder.join(&name).join("mod.rs"),
                ],
            };
            // One that is absent belongs to another system, or the compiler says so.
            if let Some(path) = candidates.into_iter().find(|path| path.is_file()) {
                let child = self.add_file(&path, &folder.join(&name), this)?;
                self.modules[this].children.insert(name, child);
            }
        }
        Ok(this)
    }

    fn needs(&self) -> Needs {
        let mut needs = Needs::new();
        for (at, module) in self.modules.iter().enumerate() {
            // What is handed on counts where it is named, here or elsewhere; a trait that is
            // brought in is never named.
            let imported = module.imports.iter().filter(|import| !import.public);
            let paths = imported.map(|import| &import.path).chain(&module.paths);
            for path in paths {
                if let Some(Named::Item { file, name }) = self.resolve(at, path, &mut Vec::new())
                    && file != module.file
                {
                    needs.entry((module.file, file)).or_default().insert(name);
                }
            }
        }
        needs
    }

    /// What a path means in a module. `open` holds the names that are being looked up, so that none
    /// goes round.
    fn resolve(
        &self,
        at: usize,
        path: &[String],
        open: &mut Vec<(usize, String)>,
    ) -> Option<Named> {
        let (first, rest) = path.split_first()?;
        let mut named = match first.as_str() {
            "crate" => Named::Module(0),
            "self" => Named::Module(at),
            "super" => Named::Module(self.modules[at].parent),
            name => self.lookup(at, name, rest.is_empty(), open)?,
        };
        for (index, name) in rest.iter().enumerate() {
            named = match named {
                Named::Module(at) if name == "super" => Named::Module(self.modules[at].parent),
                Named::Module(at) => self.lookup(at, name, index + 1 == rest.len(), open)?,
                // What follows is a variant, a method or the like.
                item => return Some(item),
            };
        }
        Some(named)
    }

    /// What a name means in a module. A module and a function may share a name: the end of a path
    /// is rather the function.
    fn lookup(
        &self,
        at: usize,
        name: &str,
        last: bool,
        open: &mut Vec<(usize, String)>,
    ) -> Option<Named> {
        let module = &self.modules[at];
        let child = || module.children.get(name).map(|child| Named::Module(*child));
        if !last && let Some(child) = child() {
            return Some(child);
        }
        if module.items.contains(name) {
            let name = name.to_string();
            let file = module.file;
            return Some(Named::Item { file, name });
        }
        let asked = (at, name.to_string());
        if open.contains(&asked) {
            return None;
        }
        open.push(asked);
        let mut found = None;
        for import in &module.imports {
            let named = if import.name == name {
                self.resolve(at, &import.path, open)
            } else if import.name == "*"
                && let Some(Named::Module(from)) = self.resolve(at, &import.path, open)
            {
                self.lookup(from, name, last, open)
            } else {
                None
            };
            found = found.or(named);
        }
        open.pop();
        match found {
            Some(Named::Item { .. }) => found,
            _ => child().or(found),
        }
    }
}

/// Sets of more than one node that all reach each other.
fn strongly_connected(nodes: usize, needs: &Needs) -> Vec<BTreeSet<usize>> {
    let reached: Vec<BTreeSet<usize>> = (0..nodes)
        .map(|node| {
            let mut reached = BTreeSet::new();
            let mut open = vec![node];
            while let Some(from) = open.pop() {
                let next = needs.keys().filter(|(start, _)| *start == from);
                open.extend(next.map(|(_, to)| *to).filter(|to| reached.insert(*to)));
            }
            reached
        })
        .collect();
    let circle_of = |node: usize| -> BTreeSet<usize> {
        let reached_back = |other: &usize| reached[*other].contains(&node);
        reached[node].iter().copied().filter(reached_back).collect()
    };
    let circles: BTreeSet<BTreeSet<usize>> = (0..nodes).map(circle_of).collect();
    let mut circles: Vec<_> = circles.into_iter().collect();
    circles.retain(|circle| circle.len() > 1);
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles among these files, `(path in src, text)`, the first of which is the root.
    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let folder = std::env::temp_dir().join(format!(
            "xtask-circles-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        for (path, text) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = circles(&folder, &folder.join(files[0].0));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.unwrap(), expected);
    }

    #[test]
    fn two_files_that_name_each_other_are_a_circle() {
        check(
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "use crate::b::B;\npub struct A(B);"),
                ("b.rs", "pub struct B;\npub fn f() { super::a::A::new() }"),
            ],
            &["circle of 2 files\n    a.rs needs B of b.rs\n    b.rs needs A of a.rs"],
        );
        check(
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "use crate::b::B;\npub struct A(B);"),
                (
                    "b.rs",
                    "pub struct B;\n#[cfg(test)] mod tests { use crate::a::A; }",
                ),
            ],
            &[],
        );
    }

    #[test]
    fn a_circle_may_go_by_way_of_others() {
        check(
            &[
                (
                    "main.rs",
                    "mod a; mod b; mod c; mod d;\nfn main() { a::f() }",
                ),
                ("a.rs", "pub fn f() { crate::b::g() }"),
                ("b.rs", "use crate::{c::{h as i}};\npub fn g() { i() }"),
                (
                    "c.rs",
                    "use crate::a;\npub fn h() { a::f(); super::d::k() }",
                ),
                ("d.rs", "pub fn k() {}"),
            ],
            &[
                "circle of 3 files\n    a.rs needs g of b.rs\n    b.rs needs h of c.rs\n    c.rs needs f of a.rs",
            ],
        );
    }

    #[test]
    fn a_parent_that_only_presents_its_children_is_in_none() {
        // The children take from each other through the parent, in one direction.
        check(
            &[
                ("lib.rs", "mod a; pub mod b;\npub use a::A;\npub use b::*;"),
                ("a.rs", "pub struct A;"),
                ("b/mod.rs", "mod c;\npub use c::C;"),
                ("b/c.rs", "use crate::A;\npub struct C(A);"),
            ],
            &[],
        );
    }

    #[test]
    fn a_parent_and_child_that_take_from_each_other_are_a_circle() {
        check(
            &[
                ("lib.rs", "mod b;"),
                ("b/mod.rs", "mod c;\npub use c::C;\npub struct B(C);"),
                ("b/c.rs", "use super::*;\npub struct C;\nfn f(b: B) {}"),
            ],
            &["circle of 2 files\n    b/mod.rs needs C of b/c.rs\n    b/c.rs needs B of b/mod.rs"],
        );
    }

    #[test]
    fn re_exports_lead_to_the_file_that_defines() {
        check(
            &[
                (
                    "lib.rs",
                    "mod a; mod b; mod error;\npub use error::{Error, Result};\npub use self::b::linear;",
                ),
                (
                    "a.rs",
                    "use crate::{Result, linear};\npub fn f() -> Result { linear::deep::<u8>() }",
                ),
                ("b/mod.rs", "mod linear;\npub use linear::linear;"),
                (
                    "b/linear.rs",
                    "use crate::{Error, a};\npub fn linear() { a::f() }",
                ),
                ("error.rs", "pub type Result = ();\npub enum Error { A }"),
            ],
            &[
                "circle of 2 files\n    a.rs needs linear of b/linear.rs\n    b/linear.rs needs f of a.rs",
            ],
        );
    }

    #[test]
    fn imports_that_go_round_end() {
        check(
            &[
                ("lib.rs", "mod a; mod b;"),
                (
                    "a.rs",
                    "pub use crate::b::*;\npub use crate::b::X;\nfn f() { X }",
                ),
                (
                    "b.rs",
                    "pub use crate::a::*;\npub use crate::a::X;\nfn f() { Y }",
                ),
            ],
            &[],
        );
    }
}
