//! Raw text to words, for texts that nobody has split yet: those that a tagger is given, and those
//! with spans that it learns from.

use unicode_segmentation::UnicodeSegmentation;

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

/// Splits at white space, takes punctuation off both ends of each piece, and splits scripts that
/// put no space between words at Unicode's word boundaries.
///
/// - Punctuation marks become words of their own; a run of the same mark (`...`) stays one.
/// - `@` and `#` stay at the front of a name (`@user`, `#tag`).
/// - A final `.` stays on a piece with another one inside (`U.S.`, `e.g.`).
/// - `'s` at the end of a piece is a word (`Ada` `'s`), as in the data that taggers learn from.
/// - Other punctuation inside a piece stays (`don't`, `1,000`, `well-known`).
/// - Where Unicode (UAX 29) sees a boundary between letters or digits, there is one: each ideograph
///   and each letter of Hiragana or Thai is a word, a run of Katakana is one.
///
/// Unicode's boundaries alone would break names at every hyphen and addresses at every mark
/// (`Jean-Pierre`, `well-known`, `http://t.co/x`), which CoNLL 2003 and WNUT 17 keep whole: a tagger
/// trained on those would see words that it never saw. What is learnt from texts with spans is
/// split by this same function, so that training and prediction see the same words; a span that
/// ends inside one of them is pointed out. A tagger trained on words split another way loses a
/// little here; whoever has words passes words.
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
    let own = possessive(&chars[start..end]);
    for (from, to) in inner_words(&chars[start..end - own]) {
        words.push(word(start + from, start + to));
    }
    if own > 0 {
        words.push(word(end - own, end));
    }
    words.extend(trailing.into_iter().rev());
}

/// Characters of the `'s` that a piece ends in, if something stands before it.
fn possessive(piece: &[char]) -> usize {
    match piece {
        [.., before, '\'' | '’', 's' | 'S'] if before.is_alphanumeric() => 2,
        _ => 0,
    }
}

/// Beginning and end of each word of a piece without punctuation at its ends.
fn inner_words(piece: &[char]) -> Vec<(usize, usize)> {
    let mut words = Vec::new();
    if piece.is_empty() {
        return words;
    }
    let mut start = 0;
    if !piece.iter().all(char::is_ascii) {
        let text: String = piece.iter().collect();
        let mut at = 0;
        let mut before = None;
        for segment in text.split_word_bounds() {
            let here = Segment::of(segment);
            if before.is_some_and(|before| parts(before, here)) {
                words.push((start, at));
                start = at;
            }
            at += segment.chars().count();
            before = Some(here);
        }
    }
    words.push((start, piece.len()));
    words
}

/// What stands between two of Unicode's word boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segment {
    /// A letter of a script that Unicode does not join to words.
    Alone,
    /// Letters or digits that are.
    Joined,
    /// Punctuation and symbols.
    Other,
}

impl Segment {
    fn of(segment: &str) -> Self {
        let mut letters = segment.chars().filter(|c| c.is_alphanumeric());
        match letters.next() {
            // A letter of such a script is parted even from itself.
            Some(c)
                if String::from_iter([c, c])
                    .split_word_bounds()
                    .nth(1)
                    .is_some() =>
            {
                Self::Alone
            }
            Some(_) => Self::Joined,
            None => Self::Other,
        }
    }
}

/// Whether a boundary of Unicode's counts: not around punctuation and symbols inside a piece.
fn parts(before: Segment, here: Segment) -> bool {
    use Segment::{Alone, Joined};
    matches!((before, here), (Alone, _) | (_, Alone) | (Joined, Joined))
}

/// The place of each word in a text, in characters, if each is found behind the one before.
pub fn locate_words(text: &str, words: &[String]) -> Option<Vec<(usize, usize)>> {
    let (mut rest, mut at) = (text, 0);
    words
        .iter()
        .map(|word| {
            let found = rest.find(word.as_str())?;
            let start = at + rest[..found].chars().count();
            at = start + word.chars().count();
            rest = &rest[found + word.len()..];
            Some((start, at))
        })
        .collect()
}

/// The text in which characters of words are counted, and the place of each word there: the text
/// that came with them, if they stand in it one after the other; else the words joined by spaces.
pub fn place_words(given: Option<&str>, words: &[String]) -> (String, Vec<(usize, usize)>) {
    if let Some(text) = given
        && let Some(places) = locate_words(text, words)
    {
        return (text.to_string(), places);
    }
    let mut start = 0;
    let place = |word: &String| {
        let place = (start, start + word.chars().count());
        start = place.1 + 1;
        place
    };
    (words.join(" "), words.iter().map(place).collect())
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
#[allow(clippy::unwrap_used)]
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
        check(
            "Ada's and Zoë’s well-known o's.",
            &[
                "Ada",
                "'s",
                "and",
                "Zoë",
                "’s",
                "well-known",
                "o",
                "'s",
                ".",
            ],
        );
        check("'s s's -'s", &["'", "s", "s", "'s", "-", "'", "s"]);
    }

    #[test]
    fn scripts_without_spaces_are_split_at_unicode_boundaries() {
        check(
            "東京・大阪に2020年iPhoneのデータ。",
            &[
                "東",
                "京",
                "・",
                "大",
                "阪",
                "に",
                "2020",
                "年",
                "iPhone",
                "の",
                "データ",
                "。",
            ],
        );
        check("서울에서 naïve-été", &["서울에서", "naïve-été"]);
        check("か\u{3099}く", &["か\u{3099}", "く"]);
        check("great😀👍 ok", &["great😀👍", "ok"]);
    }

    #[test]
    fn words_are_found_in_their_text_in_order() {
        let words = ["Zoë", "flew", ",", "Zoë"].map(String::from);
        let places = locate_words("  Zoë flew, Zoë", &words).unwrap();
        assert_eq!(places, [(2, 5), (6, 10), (10, 11), (12, 15)]);
        assert_eq!(locate_words("flew Zoë", &words), None);
    }

    #[test]
    fn offsets_count_characters_not_bytes() {
        check("naïve 😀 東京。", &["naïve", "😀", "東", "京", "。"]);
        check("cafe\u{301} e\u{301}", &["cafe\u{301}", "e\u{301}"]);
    }
}
