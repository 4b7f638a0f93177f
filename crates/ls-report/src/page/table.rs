//! Tables with a caption, columns and rows that say what they are.

use crate::html::{Element, Markup, el};

/// A table that is being made.
pub(crate) struct Table {
    caption: String,
    /// Name, and whether its values are numbers.
    columns: Vec<(Markup, bool)>,
    rows: Vec<Vec<Markup>>,
}

impl Table {
    /// Without columns and rows.
    pub(crate) fn new(caption: impl Into<String>) -> Self {
        Self {
            caption: caption.into(),
            columns: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// The same with a column of texts behind the others.
    pub(crate) fn texts(mut self, name: &str) -> Self {
        self.columns.push((Markup::text(name), false));
        self
    }

    /// The same with a column of numbers.
    pub(crate) fn numbers(mut self, name: &str) -> Self {
        self.columns.push((Markup::text(name), true));
        self
    }

    /// Adds a row, whose first cell names it.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Markup>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table, in what scrolls where it is wider than the page.
    pub(crate) fn markup(self) -> Markup {
        let class = |element: Element, numbers: bool| {
            if numbers { element.class("n") } else { element }
        };
        let head = self.columns.iter().map(|(name, numbers)| {
            class(el("th").attr("scope", "col"), *numbers).child(name.clone())
        });
        let head = el("tr").children(head);
        let rows = self.rows.into_iter().map(|cells| {
            let cells = cells.into_iter().zip(&self.columns).enumerate();
            let cells = cells.map(|(at, (cell, (_, numbers)))| {
                let element = match at {
                    0 => el("th").attr("scope", "row"),
                    _ => el("td"),
                };
                class(element, *numbers).child(cell)
            });
            el("tr").children(cells)
        });
        let table = el("table")
            .child(el("caption").text(&self.caption))
            .child(el("thead").child(head))
            .child(el("tbody").children(rows));
        scrolling(&self.caption, table)
    }
}

/// What may be wider than the page, which keys scroll too.
pub(crate) fn scrolling(name: &str, inner: Element) -> Markup {
    let region = el("div").class("scroll").attr("role", "region");
    let region = region.attr("tabindex", "0").attr("aria-label", name);
    region.child(inner).into()
}

/// A cell of data.
pub(crate) fn data(text: impl std::fmt::Display) -> Markup {
    el("bdi").text(text).into()
}

/// A bar of a part of 1.
pub(crate) fn meter(part: f64) -> Markup {
    let part = if part.is_finite() {
        part.clamp(0.0, 1.0)
    } else {
        0.0
    };
    let width = format!("width:{:.1}%", part * 100.0);
    let meter = el("span").class("meter").attr("style", width);
    el("span")
        .class("track")
        .attr("aria-hidden", "true")
        .child(meter)
        .into()
}
