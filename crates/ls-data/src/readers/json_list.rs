//! JSON objects one after the other: one a line, or the members of one list over any number of
//! lines, alone or under a key of an object (`{"data": [...]}`).
//!
//! A list is read object by object, so that memory is bounded by the longest of them. An object
//! whose brackets match is one row, whatever is wrong inside it; where they do not, nothing behind
//! it can be told apart, and the fault is the file's.

use std::io::{BufRead, ErrorKind};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::json_form::{JsonForm, MoreNeeded, json_form};
use super::lines::{Line, Lines};
use super::row::{MAX_ROW, Place};
use super::source::{Source, peek, reading, utf8};
use crate::error::{DataError, Result};

/// The objects of a file.
pub(super) enum Objects<'a> {
    Lines(Lines<'a>),
    List(List<'a>),
}

/// Keys of examples that may hold lists of objects: no list of examples stands under them.
const PARTS: [&str; 11] = [
    "entities",
    "spans",
    "label",
    "labels",
    "annotations",
    "completions",
    "predictions",
    "tokens",
    "tags",
    "relations",
    "meta",
];

fn is_part(key: &str) -> bool {
    PARTS.contains(&key)
}

impl<'a> Objects<'a> {
    /// Looks at the first line to see how they are written. `is_example` says of a key and its
    /// value whether only an example has them.
    ///
    /// # Errors
    /// One object over several lines that holds no list of objects, or more than one.
    pub(super) fn new(
        source: Source<'a>,
        path: &Path,
        is_example: &dyn Fn(&str, Kind) -> bool,
    ) -> Result<Self> {
        let mut form = Err(MoreNeeded);
        let peeked = peek(source, |start, line| {
            if line.trim_ascii().is_empty() {
                return false;
            }
            if form.is_err() {
                form = json_form(start);
            }
            match form {
                Err(MoreNeeded) => false,
                Ok(Some(JsonForm::List | JsonForm::Pair)) => true,
                Ok(Some(JsonForm::Object) | None) => {
                    let line = first_line(start);
                    line.starts_with(b"[") || !breaks_off(line)
                }
            }
        });
        let start = peeked.start.trim_ascii_start();
        // Of other lists, one that begins with a string may be a pair that is none, in its line.
        let list = start.strip_prefix(b"[").map(<[u8]>::trim_ascii_start);
        if list.is_some_and(|list| form == Ok(Some(JsonForm::List)) || !list.starts_with(b"\"")) {
            return Ok(Self::List(List::new(peeked.source, path, None)));
        }
        let lines = |source| Ok(Self::Lines(Lines::new(source, path)));
        if !start.starts_with(b"{") {
            return lines(peeked.source);
        }
        let broken = breaks_off(first_line(start));
        let (keys, ended) = match serde_json::from_slice::<Map<String, Value>>(start) {
            Ok(object) => (keys_of(&object), true),
            Err(error) if error.is_eof() || broken => (first_keys(start), false),
            Err(_) => return lines(peeked.source),
        };
        let example = keys.iter().any(|(key, kind)| is_example(key, *kind));
        let lists = keys.iter().filter(|(_, kind)| *kind == Kind::Objects);
        let (parts, mut lists): (Vec<&String>, Vec<&String>) =
            lists.map(|(key, _)| key).partition(|key| is_part(key));
        if lists.is_empty() && ended {
            // It is all that the file holds.
            lists = parts;
        }
        if example || lists.is_empty() {
            // A line that breaks off is a bad row as any other, but not where others go on with it.
            let over_lines = broken && start.trim_ascii_end().contains(&b'\n');
            return if over_lines {
                Err(no_list(path, &keys, &[]))
            } else {
                lines(peeked.source)
            };
        }
        // An object that lacks what is asked for is a bad row if another one follows.
        let mut source = peeked.source;
        if ended {
            let first = peeked.start.len();
            let more = peek(source, |start, line| {
                start.len() > first && !line.trim_ascii().is_empty()
            });
            source = more.source;
            if more
                .start
                .get(first..)
                .is_some_and(|rest| !rest.trim_ascii().is_empty())
            {
                return lines(source);
            }
        }
        match lists[..] {
            [key] => Ok(Self::List(List::new(source, path, Some(key.clone())))),
            _ => Err(no_list(path, &keys, &lists)),
        }
    }

    /// Calls `each` on the next object.
    pub(super) fn map_row<T>(
        &mut self,
        mut each: impl FnMut(Line<'_>) -> Result<T>,
    ) -> Option<Result<T>> {
        match self {
            Self::Lines(lines) => lines.map_row(each),
            Self::List(list) => match list.next() {
                Ok(true) => Some(list.line().and_then(&mut each)),
                Ok(false) => None,
                Err(error) => Some(Err(error)),
            },
        }
    }
}

/// The first line that is not blank, without the white space around it.
fn first_line(start: &[u8]) -> &[u8] {
    let start = start.trim_ascii_start();
    let line = start.split(|byte| *byte == b'\n').next();
    line.unwrap_or_default().trim_ascii_end()
}

/// Whether a line ends where an object that is written over several lines does.
fn breaks_off(line: &[u8]) -> bool {
    matches!(line.last(), Some(b'{' | b'[' | b',' | b':'))
}

fn no_list(path: &Path, keys: &[(String, Kind)], lists: &[&String]) -> DataError {
    DataError::NoJsonList {
        path: path.to_path_buf(),
        keys: keys.iter().map(|(key, _)| key.clone()).collect(),
        lists: lists.iter().map(|key| key.to_string()).collect(),
    }
}

/// What stands under a key, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A list that begins with an object.
    Objects,
    /// Another list.
    List,
    /// An object.
    Object,
    /// Anything else.
    Scalar,
}

fn keys_of(object: &Map<String, Value>) -> Vec<(String, Kind)> {
    let kind = |value: &Value| match value {
        Value::Array(list) if list.first().is_some_and(Value::is_object) => Kind::Objects,
        Value::Array(_) => Kind::List,
        Value::Object(_) => Kind::Object,
        _ => Kind::Scalar,
    };
    let keys = object.iter();
    keys.map(|(key, value)| (key.clone(), kind(value)))
        .collect()
}

/// The keys of an object that breaks off somewhere, with the kinds of their values.
fn first_keys(text: &[u8]) -> Vec<(String, Kind)> {
    let mut keys = Vec::new();
    let mut rest = text[1..].trim_ascii_start();
    loop {
        let mut value = Value::default();
        let Some(length) = string_length(rest) else {
            return keys;
        };
        if let Ok(key) = serde_json::from_slice(&rest[..length]) {
            value = key;
        }
        let Value::String(key) = value else {
            return keys;
        };
        let Some(after) = rest[length..].trim_ascii_start().strip_prefix(b":") else {
            return keys;
        };
        let after = after.trim_ascii_start();
        let kind = match after.first() {
            Some(b'[') if after[1..].trim_ascii_start().starts_with(b"{") => Kind::Objects,
            Some(b'[') => Kind::List,
            Some(b'{') => Kind::Object,
            Some(_) => Kind::Scalar,
            None => return keys,
        };
        keys.push((key, kind));
        let mut scan = Scan::default();
        let (end, closed) = scan.over(after);
        if closed.is_continue() {
            return keys;
        }
        match after[end..].trim_ascii_start().strip_prefix(b",") {
            Some(more) => rest = more.trim_ascii_start(),
            None => return keys,
        }
    }
}

/// Bytes of the string, with its quotes, that a text begins with.
fn string_length(text: &[u8]) -> Option<usize> {
    if !text.starts_with(b"\"") {
        return None;
    }
    let (end, closed) = Scan::default().over(text);
    closed.is_break().then_some(end)
}

/// Finds the end of a value by its brackets and quotes.
#[derive(Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// How many of these bytes belong to the value, and whether it ends with them.
    fn over(&mut self, bytes: &[u8]) -> (usize, ControlFlow<()>) {
        for (at, byte) in bytes.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_string = false;
                        if self.depth == 0 {
                            return (at + 1, ControlFlow::Break(()));
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' | b',' if self.depth == 0 => return (at, ControlFlow::Break(())),
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return (at + 1, ControlFlow::Break(()));
                    }
                }
                white if self.depth == 0 && white.is_ascii_whitespace() => {
                    return (at, ControlFlow::Break(()));
                }
                _ => {}
            }
        }
        (bytes.len(), ControlFlow::Continue(()))
    }
}

/// The members of a list.
pub(super) struct List<'a> {
    source: Source<'a>,
    path: PathBuf,
    /// Place of the next byte.
    line: usize,
    before: usize,
    /// Key of the list in the object around it, if there is one.
    key: Option<String>,
    state: ListState,
    /// The value that was read last, with its place.
    value: Vec<u8>,
    value_line: usize,
    value_before: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum ListState {
    /// Before the list.
    Before,
    /// Inside, behind a member.
    Inside,
    /// At the end, or behind a fault.
    Over,
}

impl<'a> List<'a> {
    fn new(source: Source<'a>, path: &Path, key: Option<String>) -> Self {
        Self {
            source,
            path: path.to_path_buf(),
            line: 1,
            before: 0,
            key,
            state: ListState::Before,
            value: Vec::new(),
            value_line: 1,
            value_before: 0,
        }
    }

    /// The member that was read.
    fn line(&self) -> Result<Line<'_>> {
        Ok(Line {
            place: Place {
                path: &self.path,
                line: self.value_line,
            },
            text: utf8(&self.value, &self.path, self.value_line)?,
            before: self.value_before,
        })
    }

    /// Reads the next member; `false` at the end.
    fn next(&mut self) -> Result<bool> {
        let state = std::mem::replace(&mut self.state, ListState::Over);
        let first = match state {
            ListState::Over => return Ok(false),
            ListState::Before => {
                self.enter()?;
                true
            }
            ListState::Inside => false,
        };
        match self.peek_byte()? {
            Some(b']') => {
                self.bump();
                self.leave()?;
                return Ok(false);
            }
            Some(b',') if !first => self.bump(),
            _ if !first => return Err(self.unexpected("`,` or `]` behind a member of the list")?),
            _ => {}
        }
        match self.peek_byte()? {
            Some(b',' | b']' | b'}' | b':') | None => {
                Err(self.unexpected("an object, as a member of the list")?)
            }
            Some(_) => {
                self.read_value(true, 0)?;
                self.state = ListState::Inside;
                Ok(true)
            }
        }
    }

    /// Goes to the inside of the list.
    fn enter(&mut self) -> Result<()> {
        if self.key.is_some() {
            self.expect(b'{', "`{`")?;
            while !self.next_key()? {
                self.pass_value()?;
                self.expect(b',', "`,` behind a value")?;
            }
        }
        self.expect(b'[', "a list")
    }

    /// Reads a key and its colon; `true` if it is that of the list.
    fn next_key(&mut self) -> Result<bool> {
        if self.peek_byte()? != Some(b'"') {
            return Err(self.unexpected("a key in quotes")?);
        }
        self.read_value(true, 0)?;
        let key: Option<String> = serde_json::from_slice(&self.value).ok();
        self.expect(b':', "`:` behind a key")?;
        Ok(key.is_some() && key == self.key)
    }

    /// Sees that nothing stands behind the list that would be lost.
    fn leave(&mut self) -> Result<()> {
        if let Some(key) = self.key.clone() {
            while self.take(b',')? {
                self.next_key()?;
                let other = String::from_utf8_lossy(&self.value)
                    .trim_matches('"')
                    .to_string();
                if self.peek_byte()? == Some(b'[') {
                    self.bump();
                    if self.peek_byte()? == Some(b'{') && !is_part(&other) {
                        return Err(DataError::NoJsonList {
                            path: self.path.clone(),
                            keys: vec![key.clone(), other.clone()],
                            lists: vec![key, other],
                        });
                    }
                    self.read_value(false, 1)?;
                } else {
                    self.pass_value()?;
                }
            }
            self.expect(b'}', "`}` at the end of the object")?;
        }
        match self.peek_byte()? {
            None => Ok(()),
            Some(_) => Err(self.unexpected("nothing behind the list")?),
        }
    }

    /// Passes over a value.
    fn pass_value(&mut self) -> Result<()> {
        match self.peek_byte()? {
            Some(b',' | b']' | b'}' | b':') | None => Err(self.unexpected("a value")?),
            Some(_) => self.read_value(false, 0),
        }
    }

    /// The next byte that is no white space.
    fn peek_byte(&mut self) -> Result<Option<u8>> {
        loop {
            match self.fill()?.first().copied() {
                Some(byte) if byte.is_ascii_whitespace() => self.bump(),
                byte => return Ok(byte),
            }
        }
    }

    /// Passes over the next byte if it is this one.
    fn take(&mut self, byte: u8) -> Result<bool> {
        let found = self.peek_byte()? == Some(byte);
        if found {
            self.bump();
        }
        Ok(found)
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<()> {
        if self.take(byte)? {
            Ok(())
        } else {
            Err(self.unexpected(expected)?)
        }
    }

    /// The error of what stands here.
    fn unexpected(&mut self, expected: &'static str) -> Result<DataError> {
        let found = match self.peek_byte()? {
            None => "the end of the file".to_string(),
            Some(byte) if byte.is_ascii_graphic() => format!("`{}`", char::from(byte)),
            Some(byte) => format!("byte 0x{byte:02x}"),
        };
        Ok(DataError::JsonList {
            path: self.path.clone(),
            line: self.line,
            column: self.before + 1,
            found,
            expected,
        })
    }

    /// Reads the value that begins here, or the rest of it behind `depth` brackets, and keeps it if
    /// it is wanted.
    fn read_value(&mut self, keep: bool, depth: usize) -> Result<()> {
        self.value.clear();
        (self.value_line, self.value_before) = (self.line, self.before);
        let mut scan = Scan {
            depth,
            ..Scan::default()
        };
        loop {
            let line = self.value_line;
            let bytes = fill(&mut self.source, &self.path)?;
            if bytes.is_empty() {
                if scan.depth == 0 && !scan.in_string {
                    return Ok(());
                }
                return Err(DataError::JsonNeverEnds {
                    path: self.path.clone(),
                    line,
                });
            }
            let (used, ended) = scan.over(bytes);
            if keep {
                self.value.extend_from_slice(&bytes[..used]);
            }
            let newlines = bytes[..used].iter().filter(|byte| **byte == b'\n').count();
            self.line += newlines;
            self.before = match bytes[..used].iter().rposition(|byte| *byte == b'\n') {
                Some(at) => used - at - 1,
                None => self.before + used,
            };
            self.source.consume(used);
            if ended.is_break() {
                return Ok(());
            }
            if self.value.len() > MAX_ROW {
                return Err(DataError::RowTooLong {
                    path: self.path.clone(),
                    line,
                    limit: MAX_ROW,
                });
            }
        }
    }

    fn fill(&mut self) -> Result<&[u8]> {
        fill(&mut self.source, &self.path)
    }

    /// Passes over the byte that was looked at.
    fn bump(&mut self) {
        // It is in the buffer: `fill` was called, or there is none left and nothing happens.
        let byte = self.source.buffer().first().copied();
        match byte {
            Some(b'\n') => (self.line, self.before) = (self.line + 1, 0),
            Some(_) => self.before += 1,
            None => return,
        }
        self.source.consume(1);
    }
}

fn fill<'b>(source: &'b mut Source<'_>, path: &Path) -> Result<&'b [u8]> {
    // Two steps, because the buffer that is returned would keep the source borrowed in a loop.
    loop {
        match source.fill_buf() {
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(reading(path)(error)),
        }
    }
    Ok(source.buffer())
}
