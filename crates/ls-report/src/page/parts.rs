//! What pages are made of: a document of sections, and sentences and texts in them.

use crate::html::{Element, Markup, el};

/// A part of a page that its navigation names.
pub(crate) struct Section {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) body: Markup,
}

/// A sentence about something that is not there.
pub(crate) fn missing(text: &str) -> Markup {
    el("p").class("dim").text(text).into()
}

/// A page of sections.
pub(crate) fn document(title: &str, lead: Markup, sections: Vec<Section>) -> String {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
    let meta = |name, content| el("meta").attr("name", name).attr("content", content);
    let head = el("head")
        .child(el("meta").attr("charset", "utf-8"))
        .child(meta("viewport", "width=device-width, initial-scale=1"))
        .child(
            el("meta")
                .attr("http-equiv", "Content-Security-Policy")
                .attr("content", policy),
        )
        .child(meta("color-scheme", "light dark"))
        .child(el("title").text(title))
        // Browsers ask for an icon where none is said.
        .child(el("link").attr("rel", "icon").attr("href", "data:,"))
        .child(el("style").child(Markup::constant(include_str!("../style.css"))));
    let links = sections.iter().map(|section| {
        let link = el("a").attr("href", format!("#{}", section.id));
        el("li").child(link.text(section.title))
    });
    let nav = el("nav").attr("aria-label", "Sections");
    let nav = nav.child(el("ul").children(links.collect::<Vec<_>>()));
    let skip = el("a").class("skip").attr("href", "#main");
    let sections = sections.into_iter().map(|section| {
        let heading = el("h2").attr("id", section.id).text(section.title);
        let whole = el("section").attr("aria-labelledby", section.id);
        whole.child(heading).child(section.body)
    });
    let body = el("body")
        .child(skip.text("Skip to the content"))
        .child(el("header").child(el("h1").data(title)).child(lead))
        .child(nav)
        .child(el("main").attr("id", "main").children(sections))
        .child(el("footer").text(concat!(
            "Made by ls-llama ",
            env!("CARGO_PKG_VERSION"),
            " from the files of the run folder."
        )));
    let html: Markup = el("html").attr("lang", "en").child(head).child(body).into();
    format!("<!doctype html>\n{}\n", html.into_string())
}

/// The first letters of a text of any length, and how many there are in all where that is not all.
const LETTERS: usize = 600;

/// A text of the data, cut with a note where it is very long.
pub(crate) fn passage(text: &str) -> Element {
    let mut end = text.char_indices().skip(LETTERS);
    let element = el("p").attr("dir", "auto");
    match end.next() {
        None => element.data(text),
        Some((at, _)) => {
            let count = text.chars().count();
            let note = format!(" … (cut: {count} characters)");
            element
                .data(&text[..at])
                .child(el("span").class("dim").text(note))
        }
    }
}
