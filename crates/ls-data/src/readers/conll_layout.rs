//! What the columns of a CoNLL file are, from its first lines: the word first and the tag last, or
//! CoNLL-U, whose words are numbered, whose columns may have names, and whose last column holds
//! `key=value` pairs.

use std::path::Path;

use super::columns::TokenColumns;
use crate::error::{DataError, Result};
use crate::tag_names::is_span_tag;

/// Where word and tag stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Whether the first column numbers the words.
    pub(super) numbered: bool,
    /// Column of the word.
    pub(super) token: usize,
    /// Column of the tag; without one it is the last.
    pub(super) tag: Option<TagPlace>,
    /// Whether the fields are parted by tabs, if a row was seen.
    pub(super) tabs: Option<bool>,
    /// How many there are, if a row was seen.
    width: Option<usize>,
}

/// Where a tag stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TagPlace {
    /// In a column of its own.
    Column(usize),
    /// In a column of `key=value` pairs, under this key or one of the usual.
    Misc(usize, Option<String>),
}

/// The columns of CoNLL-U.
const CONLLU: [&str; 10] = [
    "ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC",
];
/// Keys of MISC under which names are marked.
const MISC_KEYS: [&str; 3] = ["NER", "Entity", "NE"];

/// The fields of a line.
pub(super) fn fields(line: &str) -> Vec<&str> {
    if line.contains('\t') {
        line.split('\t').collect()
    } else {
        line.split_ascii_whitespace().collect()
    }
}

/// Says line by line whether enough are there to see the layout: a sentence and at least two words.
/// Each line is looked at once.
pub(super) fn enough() -> impl FnMut(&[u8], &[u8]) -> bool {
    let mut words = 0;
    move |_, line| {
        let line = String::from_utf8_lossy(line);
        words += usize::from(is_row(&line));
        words > 1 && line.trim().is_empty()
    }
}

fn is_row(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with('#') && !line.starts_with("-DOCSTART-")
}

/// A number of CoNLL-U's first column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// Of a word.
    Word(usize),
    /// `3-4`, a word that is written as one, or `5.1`, one that is not written.
    NoWord,
}

/// The number that a field is, if it is one.
pub(super) fn number(field: &str) -> Option<Number> {
    let digits = |text: &str| {
        let all = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        all.then(|| text.parse::<usize>().ok()).flatten()
    };
    match field.split_once(['-', '.']) {
        Some((from, to)) => {
            (digits(from).is_some() && digits(to).is_some()).then_some(Number::NoWord)
        }
        None => digits(field).map(Number::Word),
    }
}

impl Layout {
    /// The layout of a file that begins so.
    ///
    /// # Errors
    /// A name of a column that is not there; numbered words without a column of tags.
    pub(super) fn of(
        start: &[u8],
        whole: bool,
        columns: &TokenColumns,
        path: &Path,
    ) -> Result<Self> {
        let text = String::from_utf8_lossy(start);
        let mut lines: Vec<&str> = text.lines().collect();
        if !whole && !text.ends_with('\n') {
            lines.pop();
        }
        let rows: Vec<(usize, Vec<&str>)> = lines
            .iter()
            .enumerate()
            .filter(|(_, line)| is_row(line))
            .map(|(at, line)| (at + 1, fields(line)))
            .collect();
        let mut layout = Self {
            numbered: false,
            token: columns.token,
            tag: columns.tag.map(TagPlace::Column),
            tabs: None,
            width: None,
        };
        let Some((first_line, first)) = rows.first() else {
            return Ok(layout);
        };
        layout.tabs = Some(lines[first_line - 1].contains('\t'));
        layout.width = Some(first.len());
        let by_ending = path
            .extension()
            .and_then(|ending| ending.to_str())
            .is_some_and(|ending| matches!(ending, "conllu" | "conllup"));
        layout.numbered = (rows.len() > 1 || by_ending) && are_numbered(&lines);
        if layout.numbered && columns.token == 0 {
            layout.token = 1;
        }
        if !columns.tagged || columns.tag.is_some() {
            return Ok(layout);
        }
        // What is no word has no tag.
        let is_word = |row: &[&str]| !layout.numbered || number(row[0]) != Some(Number::NoWord);
        let rows_only = rows.iter().map(|(_, row)| row.as_slice());
        let rows_only: Vec<&[&str]> = rows_only.filter(|row| is_word(row)).collect();
        let names = names(&lines, first.len(), layout.numbered);
        let found =
            match &columns.tags_key {
                Some(name) => layout.named(name, &names, &rows_only).ok_or_else(|| {
                    DataError::NoNamedColumn {
                        path: path.to_path_buf(),
                        line: *first_line,
                        column: name.clone(),
                        columns: names.iter().map(|name| name.to_ascii_lowercase()).collect(),
                    }
                })?,
                None if layout.numbered => {
                    layout
                        .usual(&names, &rows_only)
                        .ok_or_else(|| DataError::TagsNeeded {
                            path: path.to_path_buf(),
                            line: *first_line,
                        })?
                }
                None => return Ok(layout),
            };
        layout.tag = Some(found);
        Ok(layout)
    }

    /// The column of the tags by a name, or a key of MISC.
    fn named(&self, name: &str, names: &[String], rows: &[&[&str]]) -> Option<TagPlace> {
        let same = |known: &str| known.eq_ignore_ascii_case(name);
        let misc = names.iter().position(|name| name == "MISC");
        match names.iter().position(|known| same(known)) {
            Some(at) if Some(at) == misc => return Some(TagPlace::Misc(at, None)),
            Some(at) => return Some(TagPlace::Column(at)),
            None => {}
        }
        let Some(misc) = misc else {
            let usual = self.numbered && names.is_empty() && ["ner", "tag", "tags"].contains(&name);
            return usual.then(|| self.usual(names, rows)).flatten();
        };
        let known = MISC_KEYS.iter().any(|known| same(known));
        let seen = rows.iter().any(|row| {
            let pairs = row.get(misc).copied().unwrap_or_default();
            value(pairs, Some(name)).is_some()
        });
        (known || seen).then(|| TagPlace::Misc(misc, Some(name.to_string())))
    }

    /// The column of the tags where none is said: the one behind the word or else the last that
    /// holds tags of spans, else MISC.
    fn usual(&self, names: &[String], rows: &[&[&str]]) -> Option<TagPlace> {
        let width = rows.first()?.len();
        let tags = |column: usize| {
            rows.iter()
                .all(|row| row.get(column).is_some_and(|field| is_span_tag(field)))
        };
        let behind = self.token + 1;
        if width == behind + 1 || (behind < width && tags(behind)) {
            return Some(TagPlace::Column(behind));
        }
        if let Some(column) = (behind..width).rev().find(|column| tags(*column)) {
            return Some(TagPlace::Column(column));
        }
        let misc = names.iter().position(|name| name == "MISC")?;
        let pairs = rows.iter().filter_map(|row| row.get(misc));
        let marked = pairs.into_iter().any(|pairs| value(pairs, None).is_some());
        marked.then_some(TagPlace::Misc(misc, None))
    }
}

/// Whether the rows of every sentence are numbered from 0 or 1 on and have a word and a tag.
fn are_numbered(lines: &[&str]) -> bool {
    let mut before: Option<usize> = None;
    for line in lines {
        if line.trim().is_empty() {
            before = None;
        }
        if !is_row(line) {
            continue;
        }
        let fields = fields(line);
        match number(fields[0]) {
            Some(Number::Word(here)) if before.map_or(here < 2, |before| here == before + 1) => {
                before = Some(here);
            }
            Some(Number::NoWord) => {}
            _ => return false,
        }
        if fields.len() < 3 {
            return false;
        }
    }
    true
}

/// The names of the columns: those that CoNLL-U Plus says, or CoNLL-U's own.
fn names(lines: &[&str], width: usize, numbered: bool) -> Vec<String> {
    let said = lines.iter().find_map(|line| {
        let line = line.strip_prefix('#')?;
        line.trim_start()
            .strip_prefix("global.columns")?
            .trim_start()
            .strip_prefix('=')
    });
    match said {
        Some(names) => names.split_whitespace().map(str::to_string).collect(),
        None if numbered && width == CONLLU.len() => CONLLU.map(String::from).to_vec(),
        None => Vec::new(),
    }
}

/// The value of a key, or of a usual one, in a column of `key=value` pairs.
pub(super) fn value<'v>(pairs: &'v str, key: Option<&str>) -> Option<&'v str> {
    pairs.split('|').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let wanted = match key {
            Some(key) => name.eq_ignore_ascii_case(key),
            None => MISC_KEYS.contains(&name),
        };
        wanted.then_some(value)
    })
}

/// Whether a value of MISC is a tag by itself: what spans over brackets is none.
pub(super) fn is_tag(value: &str) -> bool {
    !value.starts_with('(') && !value.ends_with(')') && !value.is_empty()
}

/// Whether a line at the beginning of a sentence is a comment. A word `#` with its columns is none:
/// its line has a tab behind the mark, or as many fields as the others.
pub(super) fn is_comment(line: &str, layout: &Layout, width: Option<usize>) -> bool {
    let Some(rest) = line.strip_prefix('#') else {
        return false;
    };
    if layout.numbered {
        return true;
    }
    let assigns = |text: &str| {
        let mut words = text.split_ascii_whitespace();
        let key = words.next().unwrap_or_default();
        key.contains('=') || words.next().is_some_and(|word| word.starts_with('='))
    };
    if let Some((before, _)) = rest.split_once('\t') {
        return before.starts_with(' ') && assigns(before);
    }
    if !rest.starts_with(' ') {
        return false;
    }
    let found = fields(line).len();
    let mut words = rest.split_ascii_whitespace();
    let second = words.clone().next().unwrap_or_default();
    let last = words.next_back().unwrap_or_default();
    let width = width.or(layout.width);
    // As many columns as the others, and no key to assign to or the tag of a word.
    let is_word = width == Some(found) && (second.starts_with('=') || is_span_tag(last));
    layout.tabs == Some(true)
        || (assigns(rest) && !is_word)
        || matches!(rest.trim(), "newdoc" | "newpar")
        || rest.trim_start().starts_with("id ")
        || match width {
            Some(width) => found != width,
            None => found > 2 && !is_span_tag(last),
        }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn layout(text: &str, tags: Option<&str>) -> Result<Layout> {
        let columns = TokenColumns {
            tags_key: tags.map(str::to_string),
            ..TokenColumns::default()
        };
        Layout::of(text.as_bytes(), true, &columns, Path::new("f"))
    }

    #[test]
    fn numbered_words_are_told_from_words_that_are_numbers() {
        for (text, numbered) in [
            ("1\tAnn\tO\n2\tran\tO\n", true),
            ("# x\n0 Ann O\n1 ran O\n\n0 Hi O\n", true),
            ("1-2\tdon't\t_\n1\tdo\tO\n2\tn't\tO\n2.1\tgo\t_\n", true),
            ("1\tCD\tO\n000\tCD\tO\n", false),
            ("1\tCD\tO\n3\tCD\tO\n", false),
            ("1\tO\n2\tO\n", false),
            ("1\tCD\tO\n", false),
            ("", false),
        ] {
            assert_eq!(layout(text, None).unwrap().numbered, numbered, "{text:?}");
        }
    }

    #[test]
    fn the_column_of_the_tags_is_found() {
        let column = |text: &str, name| match layout(text, name).unwrap().tag {
            Some(TagPlace::Column(column)) => column,
            other => panic!("{other:?}"),
        };
        assert_eq!(column("1\tAnn\tB-PER\t-\tme\n2\tran\tO\t-\tme\n", None), 2);
        assert_eq!(
            column("1\tAnn\tB-PER\t-\tme\n2\tran\tO\t-\tme\n", Some("ner")),
            2
        );
        assert_eq!(column("1\tAnn\tB-PER\tO\n2\tran\tO\tO\n", None), 2);
        assert_eq!(column("1 EU NNP B-NP B-ORG\n2 ran V B-VP O\n", None), 4);
        assert_eq!(column("1\tAnn\tPROPN\n2\tran\tVERB\n", None), 2);
        let ranges = "1-2\tAnnL\t_\t-\t-\n1\tAnn\tB-PER\t-\t-\n2\tL\tI-PER\t-\t-\n\
                      2.1\tx\t_\t_\t_\n3\tran\tO\t-\t-\n";
        assert_eq!(column(ranges, None), 2);
        assert_eq!(column(ranges, Some("ner")), 2);
        let plus = "# global.columns = ID FORM UPOS MY:NER\n1-2\tAnnL\t_\t_\n\
                    1\tAnn\tN\tB-PER\n2\tL\tN\tI-PER\n";
        assert_eq!(column(plus, None), 3);
        assert!(layout("1-2\tAnnL\t_\t-\n1.1\tAnn\tO\t-\n", None).is_err());
        let named = "# global.columns = ID FORM NE UPOS\n1\tAnn\tB-PER\tN\n2\tran\tO\tV\n";
        assert_eq!(column(named, Some("upos")), 3);
        let error = layout(named, Some("upso")).unwrap_err().to_string();
        assert!(
            error.contains("no column `upso`; the columns are `id`, `form`"),
            "{error}"
        );
        let error = layout("a N O\nb N O\n", Some("upos"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("have no names: give a number"), "{error}");
    }

    #[test]
    fn comments_are_told_from_the_word() {
        let spaces = layout("a N B-X\nb N O\n", None).unwrap();
        let tabs = layout("a\tN\tB-X\nb\tN\tO\n", None).unwrap();
        let none = layout("", None).unwrap();
        for (line, of, width, comment) in [
            ("# sent_id = 1", &spaces, Some(3), true),
            ("# id 1f-0d domain=en", &spaces, Some(4), true),
            ("# id 1f-0d\tdomain=en", &tabs, Some(3), false),
            ("# text = a\tb", &tabs, Some(3), true),
            ("# NN O", &spaces, Some(3), false),
            ("#\tNN\tO", &tabs, Some(3), false),
            ("# NN O", &none, None, false),
            ("# = O", &spaces, Some(3), false),
            ("# = O", &spaces, None, false),
            ("# = SYM", &spaces, None, false),
            ("# a=b B-X", &spaces, Some(3), false),
            ("# a = O", &spaces, Some(3), true),
            ("# a=b c", &spaces, Some(3), true),
            ("# id = 1", &spaces, Some(4), true),
            ("# = O", &tabs, Some(3), true),
            ("# newdoc", &none, None, true),
            ("# any comment at all", &none, None, true),
            ("# any", &tabs, Some(3), true),
            ("#tag O", &none, None, false),
            ("a O", &none, None, false),
        ] {
            assert_eq!(is_comment(line, of, width), comment, "{line:?}");
        }
    }
}
