//! Trees of the Stanford Sentiment Treebank to sequence examples: `(3 (2 It) (4 (2 works) (2 .)))`
//! is the sentence `It works .` with the label `3`, that of the root.
//!
//! Words are taken as they are written: a bracket of the text stands as `-LRB-` or `-RRB-`.

use super::lines::Line;
use super::row::Labels;
use crate::error::{DataError, Result};
use crate::example::SequenceExample;

pub(super) fn row(line: Line<'_>, labels: &Labels, labelled: bool) -> Result<SequenceExample> {
    let place = line.place;
    let (label, words) = parse(line.text).map_err(|(at, fault)| DataError::Tree {
        path: place.path.to_path_buf(),
        line: place.line,
        column: at + 1,
        fault,
    })?;
    Ok(SequenceExample {
        text: place.required(&words.join(" "), "text")?.to_string(),
        text_pair: None,
        label: if labelled {
            Some(labels.written(label, place)?)
        } else {
            None
        },
        line: place.line,
        extra: None,
    })
}

/// A node whose closing bracket is not read yet.
#[derive(Clone, Copy, PartialEq)]
enum Node {
    /// Its label is still to come.
    New,
    /// It has a label and nothing else.
    Labelled,
    /// It has its one word.
    Leaf,
    /// It has nodes inside.
    Branch,
}

/// The root's label and the words; or a byte position and what is wrong there. It keeps a stack
/// of its own, since a hostile line may be nested deeper than a call stack.
fn parse(text: &str) -> Result<(&str, Vec<&str>), (usize, &'static str)> {
    let mut root = None;
    let mut words = Vec::new();
    let mut open: Vec<Node> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let at = text.len() - rest.len();
        let Some(first) = rest.chars().next() else {
            break;
        };
        if open.is_empty() && (root.is_some() || first != '(') {
            return Err((
                at,
                match root {
                    Some(_) => "the tree is over, but the line goes on",
                    None => "a tree begins with `(`",
                },
            ));
        }
        let top = open.last_mut();
        match (first, top) {
            ('(', top) => {
                match top {
                    Some(Node::New) => return Err((at, "found `(`, expected a label")),
                    Some(Node::Leaf) => return Err((at, "found `(` behind a word")),
                    Some(node) => *node = Node::Branch,
                    None => {}
                }
                open.push(Node::New);
                rest = &rest[1..];
            }
            (')', Some(Node::Leaf | Node::Branch)) => {
                open.pop();
                rest = &rest[1..];
            }
            (')', _) => return Err((at, "found `)`, expected a word or a node")),
            (_, Some(node)) => {
                let end = rest.find(|c: char| c.is_whitespace() || c == '(' || c == ')');
                let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
                match *node {
                    Node::New => {
                        *node = Node::Labelled;
                        if root.is_none() {
                            root = Some(word);
                        }
                    }
                    Node::Labelled => {
                        *node = Node::Leaf;
                        words.push(word);
                    }
                    Node::Leaf => return Err((at, "found a second word in a leaf")),
                    Node::Branch => return Err((at, "found a word beside a node")),
                }
                rest = behind;
            }
            (_, None) => return Err((at, "a tree begins with `(`")),
        }
    }
    match (root, open.is_empty()) {
        (Some(root), true) => Ok((root, words)),
        _ => Err((text.len(), "the line ends inside a tree")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_its_root_and_its_words() {
        let tree = "(3 (2 It) (4 (4 (2 's) (4 (3 lovely) (2 -LRB-sic-RRB-))) (2 .)))";
        let words = vec!["It", "'s", "lovely", "-LRB-sic-RRB-", "."];
        assert_eq!(parse(tree), Ok(("3", words)));
        assert_eq!(parse("(0 Bad)"), Ok(("0", vec!["Bad"])));
        assert_eq!(parse(" ( 0  Bad ) "), Ok(("0", vec!["Bad"])));
    }

    #[test]
    fn each_fault_has_its_place() {
        for (tree, at, fault) in [
            ("It works", 0, "a tree begins with `(`"),
            ("", 0, "the line ends inside a tree"),
            ("(3 (2 a)", 8, "the line ends inside a tree"),
            (
                "(3 (2 a) (2 b)) (2 c)",
                16,
                "the tree is over, but the line goes on",
            ),
            ("(3 a) )", 6, "the tree is over, but the line goes on"),
            ("(3)", 2, "found `)`, expected a word or a node"),
            ("()", 1, "found `)`, expected a word or a node"),
            ("(3 a b)", 5, "found a second word in a leaf"),
            ("(3 (2 a) b)", 9, "found a word beside a node"),
            ("(3 a (2 b))", 5, "found `(` behind a word"),
            ("((2 a))", 1, "found `(`, expected a label"),
        ] {
            assert_eq!(parse(tree), Err((at, fault)), "{tree}");
        }
        let deep = "(1 ".repeat(1_000_000);
        assert!(parse(&deep).is_err());
    }
}
