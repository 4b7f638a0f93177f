//! Which repository and which files the name of a data set stands for.

use ls_hub::fetch::FetchRequest;
use ls_hub::{Files, HubError, MAIN, RepoKind, RepoRef};

/// A data set of any repository: `org/name` or `org/name@revision`, with all files that can be read.
pub fn request(name: &str) -> Result<FetchRequest, HubError> {
    let (repo, revision) = name.split_once('@').unwrap_or((name, MAIN));
    Ok(FetchRequest {
        kind: RepoKind::Dataset,
        at: RepoRef::new(repo, revision)?,
        files: Files::Data,
    })
}
