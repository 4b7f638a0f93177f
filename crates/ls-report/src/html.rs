//! Markup that nothing shown in it can break: texts and values of attributes are escaped on their
//! way in, and there is no other way in but for constants.

use std::fmt::Display;

/// Elements without content and end tag.
const VOID: [&str; 3] = ["meta", "link", "br"];

/// A piece of markup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Markup(String);

impl Markup {
    /// Constant markup, such as a style sheet.
    pub(crate) fn constant(markup: &'static str) -> Self {
        Self(markup.into())
    }

    /// A text.
    pub(crate) fn text(text: impl Display) -> Self {
        Self(escaped(&text.to_string()))
    }

    /// As it is written to a file.
    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

impl From<Element> for Markup {
    fn from(element: Element) -> Self {
        let Element {
            name,
            attributes,
            inner,
        } = element;
        Self(if VOID.contains(&name) {
            format!("<{name}{attributes}>")
        } else {
            format!("<{name}{attributes}>{inner}</{name}>")
        })
    }
}

impl FromIterator<Markup> for Markup {
    fn from_iter<I: IntoIterator<Item = Markup>>(pieces: I) -> Self {
        Self(pieces.into_iter().map(Markup::into_string).collect())
    }
}

/// An element that is being made.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    name: &'static str,
    attributes: String,
    inner: String,
}

/// An element without attributes and content.
pub(crate) fn el(name: &'static str) -> Element {
    Element {
        name,
        attributes: String::new(),
        inner: String::new(),
    }
}

impl Element {
    /// The same with an attribute.
    pub(crate) fn attr(mut self, name: &'static str, value: impl Display) -> Self {
        let value = escaped(&value.to_string());
        self.attributes.push_str(&format!(" {name}=\"{value}\""));
        self
    }

    /// The same with a class.
    pub(crate) fn class(self, class: &'static str) -> Self {
        self.attr("class", class)
    }

    /// The same with a text behind its content.
    pub(crate) fn text(mut self, text: impl Display) -> Self {
        self.inner.push_str(&escaped(&text.to_string()));
        self
    }

    /// The same with a text of somebody's data, whose direction of writing ends with it.
    pub(crate) fn data(self, text: impl Display) -> Self {
        self.child(el("bdi").text(text))
    }

    /// The same with markup behind its content.
    pub(crate) fn child(mut self, child: impl Into<Markup>) -> Self {
        self.inner.push_str(&child.into().0);
        self
    }

    /// The same with several pieces behind its content.
    pub(crate) fn children<M: Into<Markup>>(self, children: impl IntoIterator<Item = M>) -> Self {
        children.into_iter().fold(self, Self::child)
    }
}

/// Text as markup. Control characters, which HTML does not allow, become U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_becomes_markup() {
        let element = el("td")
            .attr("title", "\"' onmouseover=\"x")
            .data("<script>alert('&')</script>\u{0}\u{202e}")
            .child(el("br"))
            .text("a\nb");
        assert_eq!(
            Markup::from(element).into_string(),
            "<td title=\"&quot;&#39; onmouseover=&quot;x\"><bdi>&lt;script&gt;alert(&#39;&amp;&#39;)\
             &lt;/script&gt;\u{fffd}\u{202e}</bdi><br>a\nb</td>"
        );
    }
}
