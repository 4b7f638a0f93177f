//! Tag schemes as tables: which neighbouring tags begin, continue and end a span.
//!
//! The tables are those of seqeval 1.2.2 (`seqeval/scheme.py`), odd entries included, so that
//! strict scores agree with it. Which sequences a scheme allows, and how it writes spans, stands in
//! [`crate::convert`].

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// How spans are written as tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum TagScheme {
    /// `B-` only where a span follows another of its type; CoNLL 2003 as first published.
    Iob1,
    /// `B-` begins every span. Also called BIO.
    #[default]
    Iob2,
    /// `E-` only where another span of its type follows.
    Ioe1,
    /// `E-` ends every span.
    Ioe2,
    /// `B-`, `I-`, `E-`, and `S-` for a span of one word. Also called BIOES.
    Iobes,
    /// `B-`, `I-`, `L-` for the last word, and `U-` for a span of one word.
    Bilou,
}

/// Case is of no account; `bio` is `iob2`, `ioe` is `ioe2`, `bioes` is `iobes`.
impl FromStr for TagScheme {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        let name = name.to_ascii_lowercase();
        let is_it = |scheme: &Self| scheme.name() == name || scheme.alias() == Some(&*name);
        let found = Self::ALL.into_iter().find(is_it);
        found.ok_or(DataError::UnknownScheme { name })
    }
}

impl TryFrom<String> for TagScheme {
    type Error = DataError;

    fn try_from(name: String) -> Result<Self, DataError> {
        name.parse()
    }
}

impl TagScheme {
    /// Every scheme.
    pub const ALL: [Self; 6] = [
        Self::Iob1,
        Self::Iob2,
        Self::Ioe1,
        Self::Ioe2,
        Self::Iobes,
        Self::Bilou,
    ];

    /// The other name that it goes by.
    pub fn alias(self) -> Option<&'static str> {
        match self {
            Self::Iob2 => Some("bio"),
            Self::Ioe2 => Some("ioe"),
            Self::Iobes => Some("bioes"),
            Self::Iob1 | Self::Ioe1 | Self::Bilou => None,
        }
    }

    /// The name used in configs and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iob1 => "iob1",
            Self::Iob2 => "iob2",
            Self::Ioe1 => "ioe1",
            Self::Ioe2 => "ioe2",
            Self::Iobes => "iobes",
            Self::Bilou => "bilou",
        }
    }

    pub(crate) fn table(self) -> &'static Table {
        match self {
            Self::Iob1 => &IOB1,
            Self::Iob2 => &IOB2,
            Self::Ioe1 => &IOE1,
            Self::Ioe2 => &IOE2,
            Self::Iobes => &IOBES,
            Self::Bilou => &BILOU,
        }
    }
}

/// Whether the types of two neighbouring tags must agree.
#[derive(Clone, Copy)]
pub(crate) enum Types {
    Same,
    Differ,
    Any,
}

/// Prefix before, prefix here (`*` is any), and how their types relate.
type Pattern = (char, char, Types);

/// What the rows of a scheme say about two neighbouring tags.
pub(crate) struct Table {
    pub(crate) prefixes: &'static str,
    start: &'static [Pattern],
    inside: &'static [Pattern],
    end: &'static [Pattern],
}

/// A prefix and the type after it; `O` has the type `_`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tag<'a> {
    pub(crate) prefix: char,
    pub(crate) entity_type: &'a str,
}

impl Table {
    pub(crate) fn starts(&self, before: Tag, here: Tag) -> bool {
        matches(self.start, before, here)
    }

    pub(crate) fn continues(&self, before: Tag, here: Tag) -> bool {
        matches(self.inside, before, here)
    }

    pub(crate) fn ends(&self, before: Tag, here: Tag) -> bool {
        matches(self.end, before, here)
    }
}

fn matches(patterns: &[Pattern], before: Tag, here: Tag) -> bool {
    let fits = |pattern: char, prefix: char| pattern == '*' || pattern == prefix;
    let same = before.entity_type == here.entity_type;
    patterns.iter().any(|(b, h, types)| {
        let types = match types {
            Types::Same => same,
            Types::Differ => !same,
            Types::Any => true,
        };
        types && fits(*b, before.prefix) && fits(*h, here.prefix)
    })
}

use Types::{Any, Differ, Same};

static IOB1: Table = Table {
    prefixes: "IOB",
    start: &[
        ('O', 'I', Any),
        ('I', 'I', Differ),
        ('B', 'I', Any),
        ('I', 'B', Same),
        ('B', 'B', Same),
    ],
    inside: &[('B', 'I', Same), ('I', 'I', Same)],
    end: &[
        ('I', 'I', Differ),
        ('I', 'O', Any),
        ('I', 'B', Any),
        ('B', 'O', Any),
        ('B', 'I', Differ),
        ('B', 'B', Same),
    ],
};

static IOB2: Table = Table {
    prefixes: "IOB",
    start: &[('*', 'B', Any)],
    inside: &[('B', 'I', Same), ('I', 'I', Same)],
    end: &[
        ('I', 'O', Any),
        ('I', 'I', Differ),
        ('I', 'B', Any),
        ('B', 'O', Any),
        ('B', 'I', Differ),
        ('B', 'B', Any),
    ],
};

static IOE1: Table = Table {
    prefixes: "IOE",
    start: &[
        ('O', 'I', Any),
        ('I', 'I', Differ),
        ('E', 'I', Any),
        ('E', 'E', Same),
    ],
    inside: &[('I', 'I', Same), ('I', 'E', Same)],
    end: &[
        ('I', 'I', Differ),
        ('I', 'O', Any),
        ('I', 'E', Differ),
        ('E', 'I', Same),
        ('E', 'E', Same),
    ],
};

static IOE2: Table = Table {
    prefixes: "IOE",
    start: &[
        ('O', 'I', Any),
        ('O', 'E', Any),
        ('E', 'I', Any),
        ('E', 'E', Any),
        ('I', 'I', Differ),
        ('I', 'E', Differ),
    ],
    inside: &[('I', 'E', Same), ('I', 'I', Same)],
    end: &[('E', '*', Any)],
};

static IOBES: Table = Table {
    prefixes: "IOBES",
    start: &[('*', 'B', Any), ('*', 'S', Any)],
    inside: &[
        ('B', 'I', Same),
        ('B', 'E', Same),
        ('I', 'I', Same),
        ('I', 'E', Same),
    ],
    end: &[('S', '*', Any), ('E', '*', Any)],
};

static BILOU: Table = Table {
    prefixes: "BILOU",
    start: &[('*', 'B', Any), ('*', 'U', Any)],
    inside: &[
        ('B', 'I', Same),
        ('B', 'L', Same),
        ('I', 'I', Same),
        ('I', 'L', Same),
    ],
    end: &[('U', '*', Any), ('L', '*', Any)],
};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_an_unknown_one_lists_them() {
        for scheme in TagScheme::ALL {
            assert_eq!(scheme.name().parse::<TagScheme>().unwrap(), scheme);
            let json = serde_json::to_string(&scheme).unwrap();
            assert_eq!(json, format!("\"{}\"", scheme.name()));
            assert_eq!(serde_json::from_str::<TagScheme>(&json).unwrap(), scheme);
        }
        let other = ["BIO", "ioe", "bioes"].map(|name| name.parse::<TagScheme>().unwrap());
        assert_eq!(other, [TagScheme::Iob2, TagScheme::Ioe2, TagScheme::Iobes]);
        assert_eq!(
            "iob3".parse::<TagScheme>().unwrap_err().to_string(),
            "unknown tag scheme `iob3`; expected one of iob1 iob2 (bio) ioe1 ioe2 (ioe) iobes (bioes) bilou"
        );
        assert!(serde_json::from_str::<TagScheme>("\"iob\"").is_err());
    }
}
