//! [`Token`]: the secret that a request shows, compared in a time that tells nothing of it.

use std::fmt;
use std::path::Path;

use axum::http::{HeaderMap, header};
use ls_files::{read_text, sha256};
use subtle::ConstantTimeEq;

use crate::error::{Result, ServeError};

/// A bearer token, of which its SHA-256 alone is kept: all of these are of one length, so that
/// comparing them tells not even that of the token.
#[derive(Clone)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// What was found in `origin`, without white space around it.
    ///
    /// # Errors
    ///
    /// If it has fewer than 16 characters, or some that no header can hold.
    pub fn new(found: &str, origin: &str) -> Result<Self> {
        let token = found.trim();
        let fault = |reason: &str| {
            Err(ServeError::Token {
                origin: origin.into(),
                reason: reason.into(),
            })
        };
        if !token.chars().all(|c| c.is_ascii_graphic()) {
            return fault("expected one token of ASCII letters, digits and signs");
        }
        if token.len() < 16 {
            return fault("expected a token of at least 16 characters: a shorter one is guessed");
        }
        Ok(Self(sha256(token.as_bytes())))
    }

    /// The token in a file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or as [`Token::new`].
    pub fn from_file(path: &Path) -> Result<Self> {
        Self::new(&read_text(path)?, &path.display().to_string())
    }

    /// Whether a request shows it.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        let shown = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, shown)) = shown else {
            return false;
        };
        let shown = sha256(shown.trim().as_bytes());
        shown.as_bytes().ct_eq(self.0.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_the_token_itself_is_one() {
        let token = Token::new(" 0123456789abcdef\n", "TOKEN").unwrap();
        let shows = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            token.is_in(&headers)
        };
        assert!(shows("Bearer 0123456789abcdef") && shows("bearer  0123456789abcdef"));
        for other in [
            "Bearer 0123456789abcdeg",
            "Bearer 0123456789abcde",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bearer ",
        ] {
            assert!(!shows(other), "{other}");
        }
        assert!(!token.is_in(&HeaderMap::new()));
        assert_eq!(format!("{token:?}"), "Token(..)");
        for bad in [
            "",
            "short",
            "with spaces in between",
            "0123456789abcd\u{e9}f",
        ] {
            assert!(Token::new(bad, "TOKEN").is_err(), "{bad}");
        }
    }
}
