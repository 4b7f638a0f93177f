//! Whether a text is JSON with examples, as far as its beginning shows: the one place that tells it
//! from a text that happens to begin with a bracket.

/// How examples are written in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JsonForm {
    /// An object, of which each line may hold one.
    Object,
    /// A list of objects, or of spaCy's pairs.
    List,
    /// One of spaCy's pairs, `["text", {"entities": [...]}]`, of which each line may hold one.
    Pair,
}

/// What a text is that begins so: JSON of a form, or none; or `Err` where more of it must be seen.
/// Malformed JSON is JSON as far as it can be told.
pub(super) fn json_form(start: &[u8]) -> Result<Option<JsonForm>, MoreNeeded> {
    let start = start.trim_ascii_start();
    match first(start)? {
        // A name in single quotes is a fault that JSON's reader should tell.
        b'{' => Ok(match first(start[1..].trim_ascii_start())? {
            b'"' | b'\'' | b'}' => Some(JsonForm::Object),
            _ => None,
        }),
        b'[' => of_list(start[1..].trim_ascii_start()),
        _ => Ok(None),
    }
}

/// The beginning does not show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MoreNeeded;

/// What a list is whose members begin so.
fn of_list(members: &[u8]) -> Result<Option<JsonForm>, MoreNeeded> {
    match first(members)? {
        b'{' => Ok(Some(JsonForm::List)),
        b'[' => Ok(match first(members[1..].trim_ascii_start())? {
            b'"' => Some(JsonForm::List),
            _ => None,
        }),
        b'"' => pair(&members[1..]),
        // It holds nothing. Where a line follows, this one may have been a text.
        b']' if members[1..].trim_ascii().is_empty() => Err(MoreNeeded),
        _ => Ok(None),
    }
}

/// Whether this is all of a text, and a list of nothing.
pub(super) fn is_empty_list(whole: &[u8]) -> bool {
    let list = whole.trim_ascii();
    let inside = list
        .strip_prefix(b"[")
        .and_then(|rest| rest.strip_suffix(b"]"));
    inside.is_some_and(|inside| inside.trim_ascii().is_empty())
}

/// Whether the text of a pair, which begins behind its quote, is followed by an object in its line.
fn pair(mut text: &[u8]) -> Result<Option<JsonForm>, MoreNeeded> {
    loop {
        match first(text)? {
            b'\\' if text.get(1) != Some(&b'\n') => text = text.get(2..).ok_or(MoreNeeded)?,
            b'"' => break,
            // No string of JSON goes over its line.
            b'\n' => return Ok(None),
            _ => text = &text[1..],
        }
    }
    let blank = |text: &[u8]| {
        text.iter()
            .take_while(|b| matches!(b, b' ' | b'\t'))
            .count()
    };
    let behind = &text[1..];
    let behind = &behind[blank(behind)..];
    if first(behind)? != b',' {
        return Ok(None);
    }
    let member = &behind[1..];
    Ok((first(&member[blank(member)..])? == b'{').then_some(JsonForm::Pair))
}

fn first(text: &[u8]) -> Result<u8, MoreNeeded> {
    text.first().copied().ok_or(MoreNeeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_from_texts_with_brackets() {
        use JsonForm::{List, Object, Pair};
        for (text, form) in [
            (" {\"text\": 1", Ok(Some(Object))),
            ("{\n  \"a\"", Ok(Some(Object))),
            ("{}", Ok(Some(Object))),
            ("{'text': 'a'}", Ok(Some(Object))),
            ("{name} went", Ok(None)),
            ("{\tO\n", Ok(None)),
            ("[\r\n {", Ok(Some(List))),
            ("[[\"a\", {}]]", Ok(Some(List))),
            ("[[1]] says", Ok(None)),
            ("[Applause] a text\n", Ok(None)),
            ("[1, 2]", Ok(None)),
            ("[\"a \\\" b\" , {\"entities\": []}]", Ok(Some(Pair))),
            ("[\"a\", \"b\"]", Ok(None)),
            ("[\"Hello,\" she said] {", Ok(None)),
            ("[\"Hello\n\", {", Ok(None)),
            ("[\"Hello\\\n\", {", Ok(None)),
            ("[\"Hello\",\n{", Ok(None)),
            ("a text", Ok(None)),
            ("", Err(MoreNeeded)),
            ("\n \n", Err(MoreNeeded)),
            ("[\n", Err(MoreNeeded)),
            (" [ ]\n", Err(MoreNeeded)),
            ("[]\na text", Ok(None)),
            ("[]{", Ok(None)),
            ("{\n", Err(MoreNeeded)),
            ("[ [", Err(MoreNeeded)),
            ("[\"a\\", Err(MoreNeeded)),
            ("[\"a\",", Err(MoreNeeded)),
        ] {
            assert_eq!(json_form(text.as_bytes()), form, "{text:?}");
        }
        for (text, empty) in [
            ("[]", true),
            (" [\r\n]\n", true),
            ("[", false),
            ("[a]", false),
        ] {
            assert_eq!(is_empty_list(text.as_bytes()), empty, "{text:?}");
        }
    }
}
