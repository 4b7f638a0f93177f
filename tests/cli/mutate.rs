//! Files made wrong: bytes flipped, cut, repeated, numbers at the edges of what machines count,
//! keys taken away or written twice, values of other types, deep nesting, huge texts.

use serde_json::Value;

/// Numbers that programs get wrong.
const NUMBERS: [&str; 16] = [
    "0",
    "-1",
    "1",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "1e999",
    "-1e308",
    "NaN",
    "0.5",
    "1e-320",
];

/// A small generator (splitmix64), so that a seed names a whole campaign.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// How a file is written, by which it can be made wrong in ways that its parser still follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Json,
    /// A length, a JSON header and data.
    Safetensors,
    /// TOML, and rows of text.
    Text,
    Binary,
}

/// The file with something wrong in it, and what.
pub fn mutate(bytes: &[u8], form: Form, random: &mut Random) -> (Vec<u8>, String) {
    match (form, random.below(4)) {
        (Form::Json, 0..3) => {
            if let Ok(value) = serde_json::from_slice(bytes) {
                return of_json(value, random);
            }
        }
        (Form::Safetensors, 0..3) => {
            if let Some((header, data)) = header(bytes) {
                let (text, what) = of_json(header, random);
                let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
                bytes.extend(text);
                bytes.extend(data);
                return (bytes, format!("header: {what}"));
            }
        }
        (Form::Text, 0..2) => return of_text(bytes, random),
        _ => {}
    }
    of_bytes(bytes, random)
}

fn header(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let end = 8 + usize::try_from(length).ok()?;
    let header = serde_json::from_slice(bytes.get(8..end)?).ok()?;
    Some((header, &bytes[end..]))
}

fn of_bytes(bytes: &[u8], random: &mut Random) -> (Vec<u8>, String) {
    let mut new = bytes.to_vec();
    let at = random.below(bytes.len());
    let what = match random.below(8) {
        0 => {
            new.truncate(at);
            format!("cut at {at}")
        }
        1 => {
            let end = (at + 1 + random.below(64)).min(new.len());
            let part = new[at..end].to_vec();
            new.splice(at..at, part);
            format!("bytes {at}..{end} twice")
        }
        2 => {
            let end = (at + 1 + random.below(16)).min(new.len());
            new.drain(at..end);
            format!("bytes {at}..{end} taken away")
        }
        3 => {
            let other = random.below(256) as u8;
            let count = 1 + random.below(32);
            new.splice(at..at, std::iter::repeat_n(other, count));
            format!("byte {other} put {count} times at {at}")
        }
        4 => return of_text(bytes, random),
        _ => {
            let flips = 1 + random.below(8);
            for _ in 0..flips {
                let (at, bit) = (random.below(new.len()), random.below(8));
                if let Some(byte) = new.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            format!("{flips} bits flipped")
        }
    };
    (new, what)
}

/// Numbers and lines of a text.
fn of_text(bytes: &[u8], random: &mut Random) -> (Vec<u8>, String) {
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let at = random.below(lines.len());
    let line = lines.get(at).copied().unwrap_or_default();
    let replaced = |new: Vec<u8>| {
        let (before, after) = (&lines[..at], lines.get(at + 1..).unwrap_or_default());
        [before.concat(), new, after.concat()].concat()
    };
    match random.below(6) {
        0 => (replaced(Vec::new()), format!("line {} taken away", at + 1)),
        1 => (
            replaced([line, line].concat()),
            format!("line {} twice", at + 1),
        ),
        2 => {
            let long = vec![b'x'; 1 << (10 + random.below(12))];
            let what = format!("a word of {} bytes in line {}", long.len(), at + 1);
            let place = random.below(line.len() + 1);
            (
                replaced([&line[..place], &long, &line[place..]].concat()),
                what,
            )
        }
        3 => {
            let open = random.pick(&["[", "{\"a\":", "(", "\"", "[["]);
            let count = 1 << (4 + random.below(14));
            let what = format!("{open} {count} times in line {}", at + 1);
            let place = random.below(line.len() + 1);
            let deep = open.repeat(count).into_bytes();
            (
                replaced([&line[..place], &deep, &line[place..]].concat()),
                what,
            )
        }
        _ => {
            let digit = |byte: &u8| byte.is_ascii_digit() || b".-".contains(byte);
            let starts: Vec<usize> = (0..bytes.len())
                .filter(|at| digit(&bytes[*at]) && (*at == 0 || !digit(&bytes[at - 1])))
                .collect();
            let number = random.pick(&NUMBERS);
            match starts.get(random.below(starts.len())) {
                Some(start) => {
                    let end = start + bytes[*start..].iter().take_while(|b| digit(b)).count();
                    let new = [&bytes[..*start], number.as_bytes(), &bytes[end..]].concat();
                    (new, format!("{number} at {start}"))
                }
                None => (
                    replaced([line, number.as_bytes(), b"\n"].concat()),
                    format!("{number} behind line {}", at + 1),
                ),
            }
        }
    }
}

/// A value somewhere in it replaced, taken away or written twice. What no JSON value can hold is
/// put in place of a mark in the text.
fn of_json(mut value: Value, random: &mut Random) -> (Vec<u8>, String) {
    const MARK: &str = "\"@put-here@\"";
    let mut places = Vec::new();
    collect(&value, String::new(), &mut places);
    // Numbers first, of which there are few among strings.
    let numbers: Vec<&String> = places
        .iter()
        .filter(|(_, number)| *number)
        .map(|(place, _)| place)
        .collect();
    let place = match random.below(2) {
        0 if !numbers.is_empty() => numbers[random.below(numbers.len())].clone(),
        _ => places[random.below(places.len())].0.clone(),
    };
    let Some(found) = value.pointer_mut(&place) else {
        return (value.to_string().into_bytes(), "nothing".into());
    };
    let old = found.clone();
    *found = Value::String("@put-here@".into());
    let number = found_number(&old);
    let new = match random.below(if number { 4 } else { 12 }) {
        0..3 if number => random.pick(&NUMBERS).to_string(),
        0 => random.pick(&NUMBERS).to_string(),
        1 => random
            .pick(&[
                "null",
                "true",
                "[]",
                "{}",
                "\"\"",
                "[null]",
                "{\"\":0}",
                "\"\\u0000\"",
                "[[]]",
                "[-1]",
                "\"7\"",
            ])
            .to_string(),
        2 => {
            let depth = 1 << (4 + random.below(14));
            format!("{}{}", "[".repeat(depth), "]".repeat(depth))
        }
        3 => format!("\"{}\"", "x".repeat(1 << (10 + random.below(13)))),
        4 => format!("[{}0]", "0,".repeat(1 << (8 + random.below(12)))),
        // Taken away or twice: of an object's key, or of a list's element.
        5..8 => return without_or_twice(value, &place, old, random),
        8 => match &old {
            Value::String(text) => Value::String(text.chars().rev().collect()).to_string(),
            Value::Array(list) => Value::Array(list.iter().rev().cloned().collect()).to_string(),
            _ => "{\"a\":{\"b\":[1]}}".into(),
        },
        9 => format!("[{old}]"),
        10 => format!(
            "\"{}\"",
            random.pick(&[
                "(?:a{1000}){1000}",
                "(((((",
                "(a+)+$",
                "\\\\p{L}{9999}",
                "../../x",
                "\\ud83d\\ude00"
            ])
        ),
        _ => match places.get(random.below(places.len())) {
            Some((other, _)) => value
                .pointer(other)
                .filter(|other| other.to_string().len() < 1 << 16)
                .map_or("0".into(), Value::to_string),
            None => "0".into(),
        },
    };
    let what = format!("{place}: {}", new.chars().take(60).collect::<String>());
    (value.to_string().replacen(MARK, &new, 1).into_bytes(), what)
}

fn found_number(value: &Value) -> bool {
    value.is_number()
}

fn without_or_twice(
    mut value: Value,
    place: &str,
    old: Value,
    random: &mut Random,
) -> (Vec<u8>, String) {
    let (parent, key) = place.rsplit_once('/').unwrap_or(("", ""));
    let key = key.replace("~1", "/").replace("~0", "~");
    let twice = random.below(3) == 0;
    if let Some(found) = value.pointer_mut(place) {
        *found = old.clone();
    }
    match value.pointer_mut(parent) {
        Some(Value::Object(map)) if twice => {
            // No map holds a key twice, so it goes in as text.
            map.insert("@twice@".into(), old.clone());
            let entry = format!("{}:", Value::String(key.clone()));
            let text = value.to_string().replacen("\"@twice@\":", &entry, 1);
            return (text.into_bytes(), format!("{place} twice"));
        }
        Some(Value::Object(map)) => {
            map.remove(&key);
        }
        Some(Value::Array(list)) => {
            if let Ok(at) = key.parse::<usize>()
                && at < list.len()
            {
                if twice {
                    list.insert(at, old);
                } else {
                    list.remove(at);
                }
            }
        }
        _ => value = Value::Null,
    }
    let done = if twice { "twice" } else { "taken away" };
    (value.to_string().into_bytes(), format!("{place} {done}"))
}

/// Pointers to every value, and whether it is a number. Of a long list only some: a vocabulary
/// would drown all else.
fn collect(value: &Value, place: String, places: &mut Vec<(String, bool)>) {
    const MOST: usize = 24;
    match value {
        Value::Object(map) => {
            for (key, inner) in map.iter().take(MOST) {
                let key = key.replace('~', "~0").replace('/', "~1");
                collect(inner, format!("{place}/{key}"), places);
            }
        }
        Value::Array(list) => {
            for (at, inner) in list.iter().take(MOST).enumerate() {
                collect(inner, format!("{place}/{at}"), places);
            }
        }
        _ => {}
    }
    places.push((place, value.is_number()));
}
