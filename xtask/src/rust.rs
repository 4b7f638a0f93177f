//! A Rust file as far as `cargo xtask deps` reads it: modules, definitions, imports and paths.
//!
//! A scanner over tokens, no parser: comments, strings and attributes are passed over, and so is
//! whatever is compiled for tests only. It does not see method calls, nor paths in attributes.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::CharIndices;

/// A module: a file, or a `mod name { .. }` inside one.
#[derive(Debug, Default, PartialEq)]
pub struct Module {
    /// Names that it defines.
    pub items: BTreeSet<String>,
    /// `mod name;`, with the file that a `path` attribute names.
    pub files: Vec<(String, Option<String>)>,
    /// `mod name { .. }`.
    pub inline: Vec<(String, Module)>,
    /// What its `use` declarations bring in.
    pub imports: Vec<Import>,
    /// Every other path, those of one name included: `["crate", "labels", "LabelSet"]`.
    pub paths: BTreeSet<Vec<String>>,
}

/// One leaf of a `use` declaration.
#[derive(Debug, Clone, PartialEq)]
pub struct Import {
    /// The path, without the `*` of a glob.
    pub path: Vec<String>,
    /// The name that it has here; `*` for a glob.
    pub name: String,
    /// Whether it hands the name on (`pub use`, `pub(crate) use`).
    pub public: bool,
}

/// Reads a file.
pub fn read(source: &str) -> Module {
    let tokens = tokens(source);
    let mut reader = Reader {
        tokens: &tokens,
        at: 0,
    };
    reader.module()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Token<'a> {
    Name(&'a str),
    /// A string without its quotes.
    Text(&'a str),
    /// `::`
    Separator,
    Sign(char),
}

/// The tokens of a file without comments, numbers, lifetimes and characters.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut chars = source.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let rest = &source[at..];
        if rest.starts_with("//") {
            skip(&mut chars, at + rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            skip(&mut chars, at + block_comment(rest));
        } else if let Some((text, length)) = string(rest) {
            tokens.push(Token::Text(text));
            skip(&mut chars, at + length);
        } else if c == '\'' {
            skip(&mut chars, at + quote(rest));
        } else if c.is_alphabetic() || c == '_' {
            let raw = rest.strip_prefix("r#").unwrap_or(rest);
            let length = word(raw);
            tokens.push(Token::Name(&raw[..length]));
            skip(&mut chars, at + rest.len() - raw.len() + length);
        } else if c.is_ascii_digit() {
            skip(&mut chars, at + word(rest));
        } else if rest.starts_with("::") {
            tokens.push(Token::Separator);
            chars.next();
        } else if !c.is_whitespace() {
            tokens.push(Token::Sign(c));
        }
    }
    tokens
}

fn skip(chars: &mut Peekable<CharIndices<'_>>, to: usize) {
    while chars.next_if(|(at, _)| *at < to).is_some() {}
}

/// The length of the letters, digits and underscores that a text begins with.
fn word(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(text.len())
}

/// The length of a block comment, with those inside it.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The string that a text begins with, of any kind, and its length with prefix and quotes.
fn string(text: &str) -> Option<(&str, usize)> {
    let prefix = text.find(|c: char| !"bcr".contains(c))?;
    let hashes = text[prefix..].find(|c| c != '#')?;
    let raw = text[..prefix].contains('r');
    let start = prefix + hashes + 1;
    if prefix > 2 || (hashes > 0 && !raw) || !text[start - 1..].starts_with('"') {
        return None;
    }
    let body = &text[start..];
    let end = if raw {
        let close = format!("\"{}", "#".repeat(hashes));
        body.find(&close).map(|end| (end, end + close.len()))
    } else {
        let mut escaped = false;
        let end = body.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        end.map(|end| (end, end + 1))
    };
    let (end, length) = end.unwrap_or((body.len(), body.len()));
    Some((&body[..end], start + length))
}

/// The length of a lifetime or a character.
fn quote(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        // The second character is not looked at: it may be a quote.
        Some((_, '\\')) => {
            chars.next();
            chars
                .find(|(_, c)| *c == '\'')
                .map_or(text.len(), |(at, _)| at + 1)
        }
        Some((at, c)) if text[at + c.len_utf8()..].starts_with('\'') => at + c.len_utf8() + 1,
        _ => 1 + word(&text[1..]),
    }
}

/// Keywords that a name follows which the module defines.
const DEFINES: [&str; 8] = [
    "fn", "struct", "enum", "union", "trait", "type", "const", "static",
];

struct Reader<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self, ahead: usize) -> Option<Token<'a>> {
        self.tokens.get(self.at + ahead).copied()
    }

    fn name(&self, ahead: usize) -> Option<&'a str> {
        match self.peek(ahead)? {
            Token::Name(name) => Some(name),
            _ => None,
        }
    }

    fn is(&self, ahead: usize, sign: char) -> bool {
        self.peek(ahead) == Some(Token::Sign(sign))
    }

    /// Reads up to the end of the file or the brace that closes the module.
    fn module(&mut self) -> Module {
        let mut module = Module::default();
        let mut depth = 0;
        let mut file = None;
        let mut public = false;
        while let Some(token) = self.peek(0) {
            match token {
                Token::Sign('{') => depth += 1,
                Token::Sign('}') if depth == 0 => return module,
                Token::Sign('}') => depth -= 1,
                Token::Sign('#') if self.is(1, '[') || (self.is(1, '!') && self.is(2, '[')) => {
                    let attribute = self.attribute();
                    if for_tests(attribute) {
                        self.skip_item();
                    } else if let [Token::Name("path"), Token::Sign('='), Token::Text(path)] =
                        attribute
                    {
                        file = Some(path.to_string());
                    }
                    continue;
                }
                Token::Name("pub") => {
                    self.at += 1;
                    self.skip_group();
                    public = true;
                    continue;
                }
                Token::Name("use") => {
                    self.at += 1;
                    self.imports(Vec::new(), public, &mut module.imports);
                }
                Token::Name("mod") if let Some(name) = self.name(1) => {
                    self.at += 3;
                    if self.tokens.get(self.at - 1) == Some(&Token::Sign('{')) {
                        let inner = self.module();
                        module.inline.push((name.to_string(), inner));
                    } else {
                        module.files.push((name.to_string(), file.take()));
                        self.at -= 1;
                    }
                }
                Token::Name("macro_rules") if self.is(1, '!') => {
                    if let Some(name) = self.name(2) {
                        module.items.insert(name.to_string());
                    }
                    self.at += 2;
                }
                Token::Name(word) => {
                    let defined = if self.name(1) == Some("mut") { 2 } else { 1 };
                    if DEFINES.contains(&word)
                        && let Some(name) = self.name(defined)
                        && !DEFINES.contains(&name)
                    {
                        if depth == 0 {
                            module.items.insert(name.to_string());
                        }
                        self.at += defined;
                    } else if self.at == 0
                        || !matches!(
                            self.tokens[self.at - 1],
                            Token::Sign('.') | Token::Separator
                        )
                    {
                        module.paths.insert(self.path());
                        continue;
                    }
                }
                _ => {}
            }
            public = false;
            self.at += 1;
        }
        module
    }

    /// Reads `a::b::c` up to what follows its last name.
    fn path(&mut self) -> Vec<String> {
        let mut path = Vec::new();
        while let Some(name) = self.name(0) {
            path.push(name.to_string());
            self.at += 1;
            if self.peek(0) != Some(Token::Separator) || self.name(1).is_none() {
                break;
            }
            self.at += 1;
        }
        path
    }

    /// Reads one tree of a `use` declaration, up to the `,`, `}` or `;` after it.
    fn imports(&mut self, mut path: Vec<String>, public: bool, imports: &mut Vec<Import>) {
        loop {
            match self.peek(0) {
                Some(Token::Separator) => self.at += 1,
                Some(Token::Sign('*')) => {
                    self.at += 1;
                    imports.push(Import {
                        path,
                        name: "*".into(),
                        public,
                    });
                    return;
                }
                Some(Token::Sign('{')) => {
                    self.at += 1;
                    while !self.is(0, '}') && self.peek(0).is_some() {
                        self.imports(path.clone(), public, imports);
                        if self.is(0, ',') {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                Some(Token::Name("self")) if !path.is_empty() => self.at += 1,
                Some(Token::Name("as")) => {
                    let name = self.name(1).unwrap_or_default().to_string();
                    self.at += 2;
                    imports.push(Import { path, name, public });
                    return;
                }
                Some(Token::Name(name)) => {
                    path.push(name.to_string());
                    self.at += 1;
                }
                _ => {
                    let name = path.last().cloned().unwrap_or_default();
                    imports.push(Import { path, name, public });
                    return;
                }
            }
        }
    }

    /// Reads `#[..]` or `#![..]` and gives what is between the brackets.
    fn attribute(&mut self) -> &'a [Token<'a>] {
        while !self.is(0, '[') {
            self.at += 1;
        }
        let start = self.at + 1;
        self.skip_group();
        &self.tokens[start..self.at - 1]
    }

    /// Passes over a group in brackets of any kind, if one is next.
    fn skip_group(&mut self) {
        let mut depth = 0;
        while let Some(token) = self.peek(0) {
            match token {
                Token::Sign('(' | '[' | '{') => depth += 1,
                Token::Sign(')' | ']' | '}') => depth -= 1,
                _ => {}
            }
            if depth == 0 && !matches!(token, Token::Sign(')' | ']' | '}')) {
                return;
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }

    /// Passes over the item, field or statement after an attribute: to its `;` or `,`, or its block
    /// where it has one.
    fn skip_item(&mut self) {
        while self.is(0, '#') {
            self.attribute();
        }
        let ends_in_block = loop {
            match self.name(0) {
                Some("pub") => {
                    self.at += 1;
                    self.skip_group();
                }
                Some("unsafe" | "async" | "extern") => self.at += 1,
                Some("const") if self.name(1) == Some("fn") => self.at += 1,
                word => break !matches!(word, Some("use" | "const" | "static" | "type" | "let")),
            }
        };
        let item = self.name(0).is_some_and(|word| {
            [
                "fn",
                "mod",
                "struct",
                "enum",
                "trait",
                "impl",
                "macro_rules",
            ]
            .contains(&word)
        });
        while let Some(token) = self.peek(0) {
            match token {
                Token::Sign('{') if ends_in_block => return self.skip_group(),
                Token::Sign('(' | '[' | '{') => self.skip_group(),
                Token::Sign(')' | ']' | '}') => return,
                Token::Sign(';') => {
                    self.at += 1;
                    return;
                }
                Token::Sign(',') if ends_in_block && !item => {
                    self.at += 1;
                    return;
                }
                _ => self.at += 1,
            }
        }
    }
}

/// Whether an attribute leaves what follows to tests: `test`, `cfg(test)`, `cfg(all(test, ..))`.
fn for_tests(attribute: &[Token<'_>]) -> bool {
    match attribute {
        [Token::Name("test")] => true,
        [Token::Name("cfg"), condition @ ..] => {
            condition.contains(&Token::Name("test"))
                && !condition.contains(&Token::Name("not"))
                && !condition.contains(&Token::Name("any"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        let module = read(source);
        module.paths.iter().map(|path| path.join("::")).collect()
    }

    #[test]
    fn comments_strings_characters_and_attributes_are_passed_over() {
        let source = r####"
            // crate::a
            /* crate::b /* crate::c */ crate::d */
            #![doc = "crate::e"]
            #[derive(crate::F)]
            fn f<'a>(x: &'a str) {
                let _ = ("crate::g \" crate::h", r#"crate::i " crate::j"#, b"crate::k", 'x', '"', '\'', '\\');
                crate::used::here(1.0e3, 0xff, r#type::x);
            }
        "####;
        assert_eq!(
            paths(source),
            ["_", "a", "crate::used::here", "let", "str", "type::x", "x"]
                .into_iter()
                .filter(|path| *path != "a")
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn every_form_of_use_is_taken_apart() {
        let source = "use a::{b, c::{self, d as e}, f::*};\npub(crate) use super::g;\nfn h() { use crate::i; }\nuse j as _;";
        let shown: Vec<String> = read(source)
            .imports
            .iter()
            .map(|import| {
                let public = if import.public { "pub " } else { "" };
                format!("{public}{} as {}", import.path.join("::"), import.name)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "a::b as b",
                "a::c as c",
                "a::c::d as e",
                "a::f as *",
                "pub super::g as g",
                "crate::i as i",
                "j as _"
            ]
        );
    }

    #[test]
    fn definitions_are_those_of_the_module_itself() {
        let source = "pub struct A<T> { b: T }\nimpl A<u8> { pub fn c() {} const D: u8 = 1; }\npub const fn e() {}\nstatic mut F: u8 = 0;\nmacro_rules! g { () => {} }\npub(crate) type H = u8;";
        let items = read(source).items;
        assert_eq!(
            items.iter().map(String::as_str).collect::<Vec<_>>(),
            ["A", "F", "H", "e", "g"]
        );
    }

    #[test]
    fn modules_are_files_or_inline() {
        let module = read(
            "mod a;\n#[path = \"x/b.rs\"]\npub mod b;\nmod c { use super::D; mod d; }\nstruct D;",
        );
        assert_eq!(
            module.files,
            [("a".into(), None), ("b".into(), Some("x/b.rs".into()))]
        );
        let (name, inner) = &module.inline[0];
        assert_eq!((name.as_str(), inner.files.len()), ("c", 1));
        assert_eq!(inner.imports[0].path, ["super", "D"]);
        assert!(module.items.contains("D"));
    }

    #[test]
    fn what_is_compiled_for_tests_only_is_passed_over() {
        let source = "
            #[cfg(test)] use crate::a::{b, c};
            #[cfg(test)] #[allow(x)] pub(crate) fn d<A, B>(a: crate::e) { crate::f() }
            #[cfg(test)] const G: crate::H = crate::H { i: 1 };
            struct J { #[cfg(test)] k: crate::L, m: crate::N }
            #[cfg(all(test, feature = \"flex\"))]
            mod tests { use crate::o; }
            #[cfg(test)] mod p;
            #[test] fn q() { crate::r() }
            #[cfg(not(test))] fn s() { crate::t() }
        ";
        let module = read(source);
        assert!(
            module.imports.is_empty() && module.files.is_empty(),
            "{module:?}"
        );
        let paths = paths(source);
        let ours: Vec<_> = paths.iter().filter(|path| path.contains("::")).collect();
        assert_eq!(ours, ["crate::N", "crate::t"]);
    }
}
