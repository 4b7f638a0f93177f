//! The columns of CoNLL 2012 (`*_gold_conll`) to token examples: the word and the names only.
//!
//! A name is written with brackets over its words, `(ORG*` `*` `*)` or `(GPE)`, and read as the
//! tags `B-ORG` `I-ORG` `I-ORG` or `B-GPE` (IOB2). Lines that begin with `#begin document` or `#end
//! document` part documents.

use super::columns::TokenColumns;
use super::lines::{Line, Lines};
use super::row::Labels;
use crate::error::{DataError, Result};
use crate::example::TokenExample;

/// Column of the word, from 0.
const WORD: usize = 3;
/// Column of the bracketed name, from 0.
const NAME: usize = 10;

/// Sentences one after the other. A sentence with a bad line is one bad row: reading goes on
/// behind it.
pub(super) struct Sentences<'a> {
    lines: Lines<'a>,
    columns: TokenColumns,
    labels: Labels,
}

/// A sentence that is being read, and the name that is open in it.
struct Sentence {
    example: TokenExample,
    open: Option<Open>,
}

struct Open {
    kind: String,
    line: usize,
}

impl<'a> Sentences<'a> {
    pub(super) fn new(lines: Lines<'a>, columns: TokenColumns, labels: Labels) -> Self {
        Self {
            lines,
            columns,
            labels,
        }
    }

    fn finish(&self, sentence: Sentence) -> Result<TokenExample> {
        match sentence.open {
            None => Ok(sentence.example),
            Some(open) => Err(DataError::Brackets {
                path: self.lines.path().to_path_buf(),
                line: open.line,
                found: format!("({}*", open.kind),
                fault: "is not closed before the sentence ends",
            }),
        }
    }
}

impl Iterator for Sentences<'_> {
    type Item = Result<TokenExample>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut sentence: Option<Sentence> = None;
        while let Some(line) = self.lines.next() {
            let word = match line {
                Ok(line) if ends_sentence(line.text) => match sentence {
                    Some(sentence) => return Some(self.finish(sentence)),
                    None => continue,
                },
                Ok(line) => {
                    let begun = sentence.get_or_insert_with(|| Sentence {
                        example: TokenExample {
                            tokens: Vec::new(),
                            tags: self.columns.tagged.then(Vec::new),
                            line: line.place.line,
                            extra: None,
                        },
                        open: None,
                    });
                    add_word(begun, line, &self.labels)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = word {
                if error.is_row() {
                    self.lines.skip_until(ends_sentence);
                }
                return Some(Err(error));
            }
        }
        sentence.map(|sentence| self.finish(sentence))
    }
}

fn ends_sentence(text: &str) -> bool {
    text.trim().is_empty()
        || text.starts_with("#begin document")
        || text.starts_with("#end document")
}

fn add_word(sentence: &mut Sentence, line: Line<'_>, labels: &Labels) -> Result<()> {
    let place = line.place;
    let fields: Vec<&str> = line.text.split_ascii_whitespace().collect();
    let (Some(word), Some(name)) = (fields.get(WORD), fields.get(NAME)) else {
        return Err(DataError::TooFewFields {
            path: place.path.to_path_buf(),
            line: place.line,
            found: fields.len(),
            needed: NAME + 1,
        });
    };
    sentence.example.tokens.push((*word).to_string());
    if let Some(tags) = &mut sentence.example.tags {
        let fault = |fault| DataError::Brackets {
            path: place.path.to_path_buf(),
            line: place.line,
            found: (*name).to_string(),
            fault,
        };
        let tag = tag(name, &mut sentence.open, place.line).map_err(fault)?;
        tags.push(labels.resolve(&tag, place)?);
    }
    Ok(())
}

/// The tag of a word, and what is open behind it.
fn tag(name: &str, open: &mut Option<Open>, line: usize) -> Result<String, &'static str> {
    const FORM: &str = "is not of the form `*`, `(TYPE*`, `*)` or `(TYPE)`";
    let (inner, closes) = match name.strip_suffix(')') {
        Some(inner) => (inner, true),
        None => (name, false),
    };
    let tag = match (inner.strip_prefix('('), open.as_ref()) {
        (Some(_), Some(_)) => return Err("opens a name inside another"),
        (Some(kind), None) => {
            let kind = match kind.strip_suffix('*') {
                Some(kind) => kind,
                None if closes => kind,
                None => return Err(FORM),
            };
            if kind.is_empty() || kind.contains(['(', ')', '*']) {
                return Err(FORM);
            }
            let tag = format!("B-{kind}");
            let kind = kind.to_string();
            *open = Some(Open { kind, line });
            tag
        }
        (None, _) if inner != "*" => return Err(FORM),
        (None, Some(open)) => format!("I-{}", open.kind),
        (None, None) if closes => return Err("closes a name that is not open"),
        (None, None) => "O".to_string(),
    };
    if closes {
        *open = None;
    }
    Ok(tag)
}
