//! Two pages for people: `/`, where a text is given to a model, and `/docs`, which shows the
//! OpenAPI document. They hold nothing of the service, so they want no token: what they show they
//! ask for.

use std::sync::LazyLock;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

/// Asks a model for the labels of a text.
pub(crate) static TRY: LazyLock<Page> = LazyLock::new(|| Page::new(include_str!("page/try.html")));

/// Shows the OpenAPI document.
pub(crate) static DOCS: LazyLock<Page> =
    LazyLock::new(|| Page::new(include_str!("page/docs.html")));

/// What both look like, and what both need.
const SHARED: [(&str, &str); 2] = [
    ("style", include_str!("page/look.css")),
    ("script", include_str!("page/common.js")),
];

/// A page in one file, and what a browser lets it do.
pub(crate) struct Page {
    html: String,
    policy: String,
}

impl Page {
    /// Puts what is shared before the page's own style and script, and lets run just these two.
    fn new(own: &str) -> Self {
        let mut html = own.to_owned();
        let [style, script] = SHARED.map(|(element, shared)| {
            let (begin, end) = (format!("<{element}>"), format!("</{element}>"));
            html = html.replacen(&begin, &format!("{begin}\n{shared}"), 1);
            let inside = html
                .split_once(&begin)
                .and_then(|(_, rest)| rest.split_once(&end));
            let inside = inside.map_or("", |(inside, _)| inside);
            BASE64_STANDARD.encode(Sha256::digest(inside))
        });
        // Besides: a text can never become HTML (trusted types), and the icon is an empty one.
        let policy = format!(
            "default-src 'none'; connect-src 'self'; img-src data:; style-src 'sha256-{style}'; \
             script-src 'sha256-{script}'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
        );
        Self { html, policy }
    }

    /// The page as it is sent.
    pub(crate) fn answer(&self) -> Response {
        let headers = [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CONTENT_SECURITY_POLICY, self.policy.as_str()),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            // Another version of the service has other pages.
            (CACHE_CONTROL, "no-cache"),
        ];
        (headers, self.html.clone()).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_one_small_file_that_names_no_other_server() {
        for page in [&TRY, &DOCS] {
            assert!(page.html.len() < 40_000, "{}", page.html.len());
            for part in [
                "http://",
                "https://",
                "//cdn",
                "@import",
                " style=",
                " onclick=",
            ] {
                assert!(!page.html.contains(part), "{part}");
            }
            for element in ["<style>", "</style>", "<script>", "</script>"] {
                assert_eq!(page.html.matches(element).count(), 1, "{element}");
            }
            for (_, shared) in SHARED {
                assert_eq!(page.html.matches(shared).count(), 1);
            }
        }
    }

    #[test]
    fn the_policy_allows_what_the_page_holds_and_nothing_else() {
        let page = Page::new("<style>p{}</style><script>1</script>");
        let of = |text: String| BASE64_STANDARD.encode(Sha256::digest(text));
        let [style, script] = [("p{}", SHARED[0].1), ("1", SHARED[1].1)]
            .map(|(own, shared)| of(format!("\n{shared}{own}")));
        for part in [
            format!("style-src 'sha256-{style}';"),
            format!("script-src 'sha256-{script}';"),
            "default-src 'none';".into(),
            "connect-src 'self';".into(),
            "base-uri 'none';".into(),
            "form-action 'none';".into(),
            "frame-ancestors 'none';".into(),
        ] {
            assert!(page.policy.contains(&part), "{part}: {}", page.policy);
        }
        assert!(!page.policy.contains("unsafe"));
    }
}
