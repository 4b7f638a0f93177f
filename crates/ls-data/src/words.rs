//! Raw text to words, for tagging text that nobody has split yet.

/// A word of a text with its place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextWord {
    /// The word.
    pub token: String,
    /// First character, counted in Unicode characters of the text.
    pub start: usize,
    /// One past the last character.
    pub end: usize,
}

/// Splits at white space and takes punctuation off both ends of each piece.
///
/// - Punctuation marks become words of their own; a run of the same mark (`...`) stays one.
/// - `@` and `#` stay at the front of a name (`@user`, `#tag`).
/// - A final `.` stays on a piece with another one inside (`U.S.`, `e.g.`).
/// - Punctuation inside a piece stays (`don't`, `1,000`, `well-known`).
///
/// A tagger trained on words split another way loses a little here; whoever has words passes
/// words.
pub fn split_words(text: &str) -> Vec<TextWord> {
    let chars: Vec<char> = text.chars().collect();
    let mut words = Vec::new();
    let mut start = 0;
    while start < chars.len() {
        if chars[start].is_whitespace() {
            start += 1;
            continue;
        }
        let length = chars[start..]
            .iter()
            .take_while(|c| !c.is_whitespace())
            .count();
        split_piece(&chars, start, start + length, &mut words);
        start += length;
    }
    words
}

fn split_piece(chars: &[char], mut start: usize, mut end: usize, words: &mut Vec<TextWord>) {
    let word = |start: usize, end: usize| TextWord {
        token: chars[start..end].iter().collect(),
        start,
        end,
    };
    while start < end && is_punctuation(chars[start]) && !opens_name(&chars[start..end]) {
        let run = chars[start..end]
            .iter()
            .take_while(|c| **c == chars[start])
            .count();
        words.push(word(start, start + run));
        start += run;
    }
    let mut trailing = Vec::new();
    while start < end && is_punctuation(chars[end - 1]) && !ends_abbreviation(&chars[start..end]) {
        let run = chars[start..end]
            .iter()
            .rev()
            .take_while(|c| **c == chars[end - 1])
            .count();
        trailing.push(word(end - run, end));
        end -= run;
    }
    if start < end {
        words.push(word(start, end));
    }
    words.extend(trailing.into_iter().rev());
}

fn opens_name(piece: &[char]) -> bool {
    matches!(piece, ['@' | '#', next, ..] if next.is_alphanumeric() || *next == '_')
}

fn ends_abbreviation(piece: &[char]) -> bool {
    match piece {
        [inner @ .., last, '.'] => last.is_alphanumeric() && inner.contains(&'.'),
        _ => false,
    }
}

/// ASCII punctuation and the marks common elsewhere. A list, not "neither letter nor digit": that
/// would take combining marks and emoji off their words.
fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
        || matches!(
            c,
            '“' | '”'
                | '„'
                | '‘'
                | '’'
                | '‚'
                | '«'
                | '»'
                | '‹'
                | '›'
                | '…'
                | '–'
                | '—'
                | '¿'
                | '¡'
        )
        || matches!(
            c,
            '。' | '、'
                | '，'
                | '！'
                | '？'
                | '；'
                | '：'
                | '（'
                | '）'
                | '「'
                | '」'
                | '『'
                | '』'
        )
        || matches!(c, '《' | '》' | '【' | '】')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let words = split_words(text);
        let chars: Vec<char> = text.chars().collect();
        for word in &words {
            let slice: String = chars[word.start..word.end].iter().collect();
            assert_eq!(slice, word.token, "offsets give the word in {text:?}");
        }
        let tokens: Vec<&str> = words.iter().map(|w| w.token.as_str()).collect();
        assert_eq!(tokens, expected, "{text:?}");
    }

    #[test]
    fn punctuation_leaves_both_ends() {
        check("(Hello, world).", &["(", "Hello", ",", "world", ")", "."]);
        check("Wait... what?!", &["Wait", "...", "what", "?", "!"]);
        check("“Zoë”  said\tno—", &["“", "Zoë", "”", "said", "no", "—"]);
        check("--", &["--"]);
        check(" \n ", &[]);
    }

    #[test]
    fn names_numbers_and_abbreviations_stay_whole() {
        check("@user likes #rust.", &["@user", "likes", "#rust", "."]);
        check(
            "the U.S. don't pay $1,000",
            &["the", "U.S.", "don't", "pay", "$", "1,000"],
        );
        check("in the U.S.,", &["in", "the", "U.S.", ","]);
        check("he left.", &["he", "left", "."]);
    }

    #[test]
    fn offsets_count_characters_not_bytes() {
        check("naïve 😀 東京。", &["naïve", "😀", "東京", "。"]);
        check("cafe\u{301} e\u{301}", &["cafe\u{301}", "e\u{301}"]);
    }
}
