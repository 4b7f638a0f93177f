//! [`TextLabel`]: what a text is labelled with: a class, any number of classes, or a number.

use serde::{Deserialize, Serialize};

/// What the labels of texts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelKind {
    /// One class of several.
    #[default]
    Class,
    /// Any number of classes: several, one or none.
    Classes,
    /// A number.
    Number,
}

/// What a text is labelled with.
#[derive(Debug, Clone, PartialEq)]
pub enum TextLabel {
    /// The name of its class.
    Class(String),
    /// The names of its classes, each once; there may be none.
    Classes(Vec<String>),
    /// Its number, which is finite.
    Number(f32),
}

impl TextLabel {
    /// What it is.
    pub fn kind(&self) -> LabelKind {
        match self {
            Self::Class(_) => LabelKind::Class,
            Self::Classes(_) => LabelKind::Classes,
            Self::Number(_) => LabelKind::Number,
        }
    }

    /// The names of the classes in it.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Class(name) => std::slice::from_ref(name),
            Self::Classes(names) => names,
            Self::Number(_) => &[],
        }
    }

    /// The same, to keep.
    pub fn into_names(self) -> Vec<String> {
        match self {
            Self::Class(name) => vec![name],
            Self::Classes(names) => names,
            Self::Number(_) => Vec::new(),
        }
    }
}

impl From<&str> for TextLabel {
    fn from(name: &str) -> Self {
        Self::Class(name.to_string())
    }
}

impl From<String> for TextLabel {
    fn from(name: String) -> Self {
        Self::Class(name)
    }
}
