//! Names of repositories and revisions, and which of them are valid.

use std::fmt;
use std::str::FromStr;

use ls_files::nearest;

use crate::address::MAIN;
use crate::error::{HubError, Result};
use crate::models;

/// A repository at a revision: `org/name@revision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoRef {
    /// `org/name`.
    pub repo: String,
    /// Branch, tag or commit.
    pub revision: String,
}

impl RepoRef {
    /// A repository at a revision.
    ///
    /// # Errors
    /// A name that no repository can have; a revision that git cannot have.
    pub fn new(repo: &str, revision: &str) -> Result<Self> {
        if !is_repo_id(repo) {
            return Err(HubError::NotARepo {
                given: repo.into(),
                nearest: None,
            });
        }
        if !is_revision(revision) {
            return Err(HubError::NotARevision {
                repo: repo.into(),
                given: revision.into(),
            });
        }
        let revision = if is_commit(revision) {
            revision.to_lowercase()
        } else {
            revision.into()
        };
        Ok(Self {
            repo: repo.into(),
            revision,
        })
    }

    /// Whether the revision is a commit, which never changes.
    pub(crate) fn is_pinned(&self) -> bool {
        is_commit(&self.revision)
    }

    /// The command that fetches this model.
    pub(crate) fn fetch_command(&self) -> String {
        let name = models::by_repo(&self.repo).map_or(self.repo.as_str(), |model| model.name);
        let at = if self.revision == MAIN {
            String::new()
        } else {
            format!("@{}", self.revision)
        };
        format!("cargo xtask fetch-weights {name}{at}")
    }
}

impl fmt::Display for RepoRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repo, self.revision)
    }
}

/// A model: a short name of [`MODELS`](models::MODELS) or `org/name`, either with `@revision`
/// behind it.
///
/// # Errors
/// As [`RepoRef::new`]; the nearest short name is in the message.
impl FromStr for RepoRef {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, MAIN));
        match models::find(name) {
            Some(model) => Self::new(model.repo, revision),
            None if is_repo_id(name) => Self::new(name, revision),
            None => Err(HubError::NotARepo {
                given: name.into(),
                nearest: nearest(name, models::MODELS.iter().map(|model| model.name)),
            }),
        }
    }
}

/// Whether a text names a model of the Hub: a short name or `org/name`, either with `@revision`
/// behind it. A path that begins with `.`, `/` or `~` or has more than one slash names none.
pub fn looks_like_hub_id(text: &str) -> bool {
    text.parse::<RepoRef>().is_ok()
}

/// Whether a repository can be called so: `org/name`, each of letters, digits, `-`, `_` and `.`, at
/// most 96 of them, with neither `-` nor `.` at an end, and without `--` and `..`.
///
/// Source: `validate_repo_id` of huggingface_hub. Names without an organisation, which a few old
/// repositories have, are left out: they could not be told from folders.
pub fn is_repo_id(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 96
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && !part.contains("..")
    };
    text.split_once('/')
        .is_some_and(|(org, name)| part(org) && part(name))
}

/// Whether a text is a full commit id.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether git can have such a branch or tag. A revision becomes a path in the cache, so that
/// nothing that leads out of it may pass.
fn is_revision(text: &str) -> bool {
    !text.is_empty()
        && text
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with(['.', ' ']))
        && !text.contains("..")
        && !text.starts_with('-')
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\@".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_a_revision_are_read() {
        let check = |text: &str, repo: &str, revision: &str| {
            let parsed: RepoRef = text.parse().unwrap();
            assert_eq!(
                (parsed.repo.as_str(), parsed.revision.as_str()),
                (repo, revision)
            );
        };
        check("llama-2-7b", "meta-llama/Llama-2-7b-hf", "main");
        check("LLaMA-2-7B@v1", "meta-llama/Llama-2-7b-hf", "v1");
        check("org/name", "org/name", "main");
        check("org/na.me_1-x@refs/pr/1", "org/na.me_1-x", "refs/pr/1");
    }

    #[test]
    fn paths_and_odd_names_are_no_repositories() {
        for text in [
            "",
            "model",
            "./org/name",
            "../name",
            "/abs/model",
            "~/model",
            "a/b/c",
            "org/",
            "/name",
            "org/na me",
            "org/-name",
            "org/name.",
            "org/a--b",
            "org/a..b",
            "org\\name",
            "örg/name",
        ] {
            assert!(!looks_like_hub_id(text), "{text:?}");
        }
        assert!(!is_repo_id(&format!("org/{}", "a".repeat(97))));
        assert!(is_repo_id(&format!("org/{}", "a".repeat(96))));
    }

    #[test]
    fn revisions_that_lead_out_of_the_cache_are_refused() {
        for revision in [
            "", "../x", "a/../b", "/x", "x/", "a//b", ".git", "a b", "a\n", "-x", "a\\b", "a@b",
        ] {
            assert!(RepoRef::new("org/name", revision).is_err(), "{revision:?}");
        }
        let error = "org/name@../../x".parse::<RepoRef>().unwrap_err();
        assert!(error.to_string().contains("`../../x`"), "{error}");
    }

    #[test]
    fn the_command_uses_the_short_name() {
        let command = |text: &str| text.parse::<RepoRef>().unwrap().fetch_command();
        let expected = "cargo xtask fetch-weights llama-2-7b";
        assert_eq!(command("meta-llama/Llama-2-7b-hf"), expected);
        assert_eq!(
            command("org/name@v1"),
            "cargo xtask fetch-weights org/name@v1"
        );
    }

    #[test]
    fn the_nearest_short_name_is_named() {
        let error = "lama-2-7b".parse::<RepoRef>().unwrap_err().to_string();
        assert!(error.contains("did you mean `llama-2-7b`?"), "{error}");
    }
}
