//! Requests to the Hub: the commit of a revision, the list of its files, and their bytes.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use hf_hub::{HFClient, HFError, HFRepository, RepoTypeDataset, RepoTypeModel, split_id};
use ls_files::nearest;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderMap, LINK, RANGE, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use tokio::runtime::Runtime;

use super::part::{Content, Part};
use crate::address::RepoKind;
use crate::error::{HubError, Result};
use crate::models;
use crate::repo::is_commit;
use crate::settings::{ENDPOINT, Settings};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(20);

/// A file that the repository lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteFile {
    pub(super) path: String,
    /// In bytes.
    pub(super) size: u64,
    pub(super) content: Content,
}

/// Why an attempt failed, and whether another makes sense.
pub(super) struct Failure {
    pub(super) error: Box<HubError>,
    pub(super) again: Again,
}

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Not at all: the answer would be the same.
    Never,
    /// After a short pause.
    Soon,
    /// The Hub was asked too much: after the pause that it names.
    Limited(Option<Duration>),
}

impl Failure {
    fn new(error: HubError, again: Again) -> Self {
        Self {
            error: Box::new(error),
            again,
        }
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::new(error, Again::Never)
    }
}

enum Repository {
    Model(HFRepository<RepoTypeModel>),
    Dataset(HFRepository<RepoTypeDataset>),
}

/// One repository of a Hub.
pub(super) struct Hub<'a> {
    settings: &'a Settings,
    kind: RepoKind,
    repo: &'a str,
    runtime: Runtime,
    client: reqwest::Client,
    repository: Repository,
}

impl<'a> Hub<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        silence: Duration,
        kind: RepoKind,
        repo: &'a str,
    ) -> Result<Self> {
        let bad_endpoint = |message: String| HubError::Endpoint {
            endpoint: settings.endpoint.clone(),
            message,
        };
        let url =
            Url::parse(&settings.endpoint).map_err(|error| bad_endpoint(error.to_string()))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(bad_endpoint("it does not begin with https://".into()));
        }
        let failed = |message: String| HubError::Network {
            what: settings.endpoint.clone(),
            message,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let mut client = reqwest::Client::builder()
            .user_agent(concat!(
                "ls-llama/",
                env!("CARGO_PKG_VERSION"),
                "; hf-hub/1.0"
            ))
            .connect_timeout(CONNECT)
            .read_timeout(silence)
            // A connection for each file that arrives: over one, as HTTP/2 has it, they would share
            // its window.
            .http1_only();
        // No proxy reaches a mirror on this machine.
        let loopback = ["localhost", "127.0.0.1", "[::1]"];
        if url.host_str().is_some_and(|host| loopback.contains(&host)) {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|error| failed(root(&error)))?;
        let hf = HFClient::builder()
            .endpoint(&settings.endpoint)
            .client(client.clone())
            .cache_dir(&settings.cache_dir)
            // Attempts are repeated here, where pauses that the Hub asks for are kept and progress
            // is known.
            .retry_max_attempts(0)
            // Without a token hf-hub looks for one in the environment; one that no header can hold
            // is not sent.
            .token(settings.token.as_deref().unwrap_or("\n"))
            .build()
            .map_err(|error| failed(root(&error)))?;
        let (owner, name) = split_id(repo);
        let repository = match kind {
            RepoKind::Model => Repository::Model(hf.model(owner, name)),
            RepoKind::Dataset => Repository::Dataset(hf.dataset(owner, name)),
        };
        Ok(Self {
            settings,
            kind,
            repo,
            runtime,
            client,
            repository,
        })
    }

    /// The commit of a branch or tag.
    pub(super) fn commit(&self, revision: &str) -> Result<String, Failure> {
        let what = format!("{}: commit of {revision}", self.repo);
        let expand = vec!["sha".to_string()];
        let sha = self.runtime.block_on(async {
            match &self.repository {
                Repository::Model(repo) => {
                    let info = repo.info().revision(revision).expand(expand).send().await;
                    info.map(|info| info.sha)
                }
                Repository::Dataset(repo) => {
                    let info = repo.info().revision(revision).expand(expand).send().await;
                    info.map(|info| info.sha)
                }
            }
        });
        match sha {
            Ok(Some(sha)) if is_commit(&sha) => Ok(sha),
            Ok(sha) => {
                let message = format!("expected a commit, found {sha:?}");
                Err(HubError::Malformed { what, message }.into())
            }
            Err(error) => Err(self.failure(what, Asked::Revision(revision), error)),
        }
    }

    /// Every file of a commit, by path.
    ///
    /// hf-hub lists them too, but loses the SHA-256 of large files: it looks for `lfs.sha256`, and
    /// the Hub's listing has `lfs.oid`.
    pub(super) fn tree(&self, commit: &str) -> Result<BTreeMap<String, RemoteFile>, Failure> {
        let what = format!("{}: list of files", self.repo);
        let malformed = |message: String| HubError::Malformed {
            what: what.clone(),
            message,
        };
        let Settings {
            endpoint, token, ..
        } = self.settings;
        let (kind, repo) = (self.kind.plural(), self.repo);
        let url = format!("{endpoint}/api/{kind}/{repo}/tree/{commit}?recursive=true");
        let mut url = Url::parse(&url).map_err(|error| malformed(error.to_string()))?;
        let mut files = BTreeMap::new();
        loop {
            let mut request = self.client.get(url.clone());
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let answer = self.runtime.block_on(async {
                let answer = request.send().await?;
                let (status, headers) = (answer.status(), answer.headers().clone());
                Ok((status, headers, answer.text().await?))
            });
            let (status, headers, body) =
                answer.map_err(|error: reqwest::Error| broken(what.clone(), &error))?;
            if !status.is_success() {
                let refusal = Refusal::new(status, &headers, &body);
                return Err(self.refused(what, Asked::Revision(commit), refusal));
            }
            for file in read_tree(&body).map_err(malformed)? {
                files.insert(file.path.clone(), file);
            }
            // Only the query of the next page is taken: behind a mirror the address may be that of
            // another server, which must not get the token.
            match next_page(&headers, &url) {
                Some(next) if next.query() != url.query() => url.set_query(next.query()),
                _ => return Ok(files),
            }
        }
    }

    /// Brings what is missing of a file, calling `arrived` with the number of bytes of each piece
    /// that was written.
    pub(super) fn receive(
        &self,
        commit: &str,
        file: &RemoteFile,
        part: &mut Part,
        arrived: impl Fn(u64) -> Result<()>,
    ) -> Result<(), Failure> {
        if part.is_complete() {
            return Ok(());
        }
        let what = || format!("{}: {}", self.repo, file.path);
        let malformed = |message: String| HubError::Malformed {
            what: what(),
            message,
        };
        self.runtime.block_on(async {
            let begun = part.begin_attempt();
            let mut answer = self.file(commit, &file.path, begun, file.size).await?;
            // A server that does not know ranges sends the file from its beginning: that much is
            // passed over.
            let first = first_byte(&answer).map_err(malformed)?;
            let Some(mut pass) = begun.checked_sub(first) else {
                let message = format!("expected byte {begun} and what follows, found {first}");
                return Err(malformed(message).into());
            };
            let expected = file.size - first;
            if let Some(length) = answer.content_length().filter(|length| *length != expected) {
                let message = format!("expected {expected} bytes, the answer has {length}");
                return Err(malformed(message).into());
            }
            let cut = |error| broken(what(), &error);
            while let Some(piece) = answer.chunk().await.map_err(cut)? {
                let passed = pass.min(piece.len() as u64);
                pass -= passed;
                let piece = &piece[passed as usize..];
                if part.len() + piece.len() as u64 > file.size {
                    let message = format!("expected {} bytes, more arrived", file.size);
                    return Err(malformed(message).into());
                }
                part.write(piece)?;
                arrived(piece.len() as u64)?;
            }
            if part.is_complete() {
                return Ok(());
            }
            let message = format!("cut after {} of {} bytes", part.len(), file.size);
            let what = what();
            let cut = HubError::Network { what, message };
            Err(Failure::new(cut, Again::Soon))
        })
    }

    /// The answer to a request for a file from a byte on.
    ///
    /// hf-hub asks for files too, but of an answer it tells neither where it begins nor how long it
    /// is: a mirror that names the size of the whole file beside a part of it looks like a server
    /// without ranges.
    async fn file(
        &self,
        commit: &str,
        path: &str,
        first: u64,
        size: u64,
    ) -> Result<Response, Failure> {
        let what = || format!("{}: {path}", self.repo);
        let Settings {
            endpoint, token, ..
        } = self.settings;
        let folder = match self.kind {
            RepoKind::Model => "",
            RepoKind::Dataset => "datasets/",
        };
        let url = format!("{endpoint}/{folder}{}/resolve/{commit}", self.repo);
        let malformed = |message: String| HubError::Malformed {
            what: what(),
            message,
        };
        let mut url = Url::parse(&url).map_err(|error| malformed(error.to_string()))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path.split('/'));
        }
        // As it is stored, so that the bytes can be counted.
        let mut request = self.client.get(url).header(ACCEPT_ENCODING, "identity");
        if first > 0 {
            request = request.header(RANGE, format!("bytes={first}-{}", size - 1));
        }
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let broken = |error| broken(what(), &error);
        let answer = request.send().await.map_err(broken)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.text().await.map_err(broken)?;
        let refusal = Refusal::new(status, &headers, &body);
        Err(self.refused(what(), Asked::File(path), refusal))
    }

    /// What an error of hf-hub means.
    fn failure(&self, what: String, asked: Asked<'_>, error: HFError) -> Failure {
        match error {
            HFError::Http { context }
            | HFError::AuthRequired { context }
            | HFError::Forbidden { context }
            | HFError::RepoNotFound {
                context: Some(context),
                ..
            }
            | HFError::RevisionNotFound {
                context: Some(context),
                ..
            }
            | HFError::EntryNotFound {
                context: Some(context),
                ..
            } => {
                let refusal = Refusal {
                    status: context.status,
                    code: context.error_code.unwrap_or_default(),
                    message: context.server_message.unwrap_or_default(),
                    retry_after: None,
                };
                self.refused(what, asked, refusal)
            }
            HFError::RateLimited {
                retry_after,
                context,
            } => {
                let refusal = Refusal {
                    status: context.status,
                    code: context.error_code.unwrap_or_default(),
                    message: context.server_message.unwrap_or_default(),
                    retry_after,
                };
                self.refused(what, asked, refusal)
            }
            HFError::Request { source, .. } => broken(what, &source),
            error => {
                let message = root(&error);
                HubError::Malformed { what, message }.into()
            }
        }
    }

    /// What a refusal of the Hub means.
    ///
    /// Source: `hf_raise_for_status` of huggingface_hub: the reason is in the header
    /// `X-Error-Code`, and a repository that does not exist is 401 to whoever sends no token, as a
    /// private one is.
    fn refused(&self, what: String, asked: Asked<'_>, refusal: Refusal) -> Failure {
        let Refusal {
            status,
            code,
            message,
            retry_after,
        } = refusal;
        let repo = self.repo.to_string();
        let has_token = self.settings.token.is_some();
        let known = models::by_repo(&repo);
        let is_gated =
            code == "GatedRepo" || (code.is_empty() && known.is_some_and(|model| model.gated));
        let error = match (status.as_u16(), code.as_str()) {
            (429, _) => {
                let message = "too many requests".into();
                let status = status.as_u16();
                let error = HubError::Status {
                    what,
                    status,
                    message,
                };
                return Failure::new(error, Again::Limited(retry_after));
            }
            (408 | 500..=599, _) => {
                let status = status.as_u16();
                let error = HubError::Status {
                    what,
                    status,
                    message,
                };
                return Failure::new(error, Again::Soon);
            }
            (401, _) if message.contains("Invalid credentials") => HubError::Token { repo },
            (401 | 403, _) if is_gated => HubError::Gated {
                page: self.page(),
                repo,
                has_token,
            },
            (403, _) => HubError::Forbidden { repo, message },
            (401, _) | (404, "RepoNotFound") => self.no_repo(),
            (404, code) => match asked {
                Asked::File(file) => HubError::NoSuchFile {
                    repo,
                    file: file.into(),
                    nearest: None,
                },
                // A mirror may not say what it does not find.
                Asked::Revision(_) if code != "RevisionNotFound" && !self.exists() => {
                    self.no_repo()
                }
                Asked::Revision(revision) => HubError::NoSuchRevision {
                    repo,
                    revision: revision.into(),
                },
            },
            (status, _) => HubError::Status {
                what,
                status,
                message,
            },
        };
        error.into()
    }

    fn no_repo(&self) -> HubError {
        let known = models::MODELS.iter().map(|model| model.repo);
        let others = known.filter(|repo| *repo != self.repo && self.kind == RepoKind::Model);
        HubError::NoSuchRepo {
            repo: self.repo.into(),
            repo_kind: self.kind,
            has_token: self.settings.token.is_some(),
            nearest: nearest(self.repo, others),
        }
    }

    /// Whether the repository exists, for a server that does not say what it does not find. Blocks,
    /// so that it must not be called while a file arrives.
    fn exists(&self) -> bool {
        let exists = self.runtime.block_on(async {
            match &self.repository {
                Repository::Model(repo) => repo.exists().send().await,
                Repository::Dataset(repo) => repo.exists().send().await,
            }
        });
        exists.unwrap_or(false)
    }

    /// The page of the repository. Licences are accepted on the Hub itself, whichever mirror hands
    /// out the files.
    fn page(&self) -> String {
        match self.kind {
            RepoKind::Model => format!("{ENDPOINT}/{}", self.repo),
            RepoKind::Dataset => format!("{ENDPOINT}/datasets/{}", self.repo),
        }
    }
}

/// What a request was about.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Revision(&'a str),
    File(&'a str),
}

/// An answer other than success.
struct Refusal {
    status: StatusCode,
    code: String,
    message: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    fn new(status: StatusCode, headers: &HeaderMap, body: &str) -> Self {
        let header = |name: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.map(String::from)
        };
        let in_body = || {
            let json: serde_json::Value = serde_json::from_str(body).ok()?;
            Some(json.get("error")?.as_str()?.to_string())
        };
        let seconds = header(RETRY_AFTER.as_str()).and_then(|value| value.trim().parse().ok());
        Self {
            status,
            code: header("x-error-code").unwrap_or_default(),
            message: header("x-error-message")
                .or_else(in_body)
                .unwrap_or_default(),
            retry_after: seconds.map(Duration::from_secs),
        }
    }
}

/// What a connection that could not be made, or broke, means. Addresses of files hold signatures,
/// so that only the server is named.
fn broken(what: String, error: &reqwest::Error) -> Failure {
    let server = error.url().and_then(|url| url.host_str());
    let message = match server {
        Some(server) if error.is_connect() => format!("no connection to {server}: {}", root(error)),
        _ => root(error),
    };
    // What cannot be asked at all is as wrong the next time.
    let again = if error.is_builder() {
        Again::Never
    } else {
        Again::Soon
    };
    Failure::new(HubError::Network { what, message }, again)
}

/// What an error comes from in the end: what wraps it says only that something was being read or
/// sent.
fn root(error: &dyn Error) -> String {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    root.to_string()
}

/// Where in a file an answer begins.
fn first_byte(answer: &Response) -> Result<u64, String> {
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        return Ok(0);
    }
    let range = answer.headers().get(CONTENT_RANGE);
    let range = range.and_then(|range| range.to_str().ok()).unwrap_or("");
    let first = range.trim().strip_prefix("bytes ").and_then(|range| {
        let (first, _) = range.split_once('-')?;
        first.trim().parse().ok()
    });
    first.ok_or_else(|| format!("expected the range of a part, found {range:?}"))
}

/// The address in `Link: <address>; rel="next"`.
fn next_page(headers: &HeaderMap, page: &Url) -> Option<Url> {
    let links = headers.get(LINK)?.to_str().ok()?;
    links.split(',').find_map(|link| {
        let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = rest.contains("rel=\"next\"") || rest.contains("rel=next");
        is_next.then(|| page.join(address).ok())?
    })
}

/// The files of one page of a listing. Says what is wrong with it otherwise.
fn read_tree(body: &str) -> Result<Vec<RemoteFile>, String> {
    let entries: Vec<serde_json::Value> =
        serde_json::from_str(body).map_err(|error| error.to_string())?;
    let files = entries.iter().filter(|entry| entry["type"] == "file");
    files.map(read_entry).collect()
}

fn read_entry(entry: &serde_json::Value) -> Result<RemoteFile, String> {
    let path = entry["path"].as_str().ok_or("a file without a path")?;
    // The path becomes one in the cache, and must not lead out of it.
    let is_safe = |part: &str| !["", ".", ".."].contains(&part) && !part.contains(['\\', '\0']);
    if !path.split('/').all(is_safe) || (cfg!(windows) && path.contains(':')) {
        return Err(format!("`{path}` is no path inside a repository"));
    }
    let lfs = &entry["lfs"];
    let (size, oid, digits) = if lfs.is_object() {
        (&lfs["size"], &lfs["oid"], 64)
    } else {
        (&entry["size"], &entry["oid"], 40)
    };
    let is_hash = |oid: &&str| {
        oid.len() == digits
            && oid
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let size = size.as_u64().ok_or_else(|| format!("{path}: no size"))?;
    let oid = oid.as_str().filter(is_hash);
    let oid = oid.ok_or_else(|| format!("{path}: no hash of {digits} hexadecimal digits"))?;
    let content = match digits {
        64 => Content::Sha256(oid.into()),
        _ => Content::Git(oid.into()),
    };
    Ok(RemoteFile {
        path: path.into(),
        size,
        content,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_gives_sizes_and_hashes() {
        let git = "a".repeat(40);
        let sha = "b".repeat(64);
        let body = format!(
            r#"[{{"type":"directory","oid":"{git}","path":"data"}},
            {{"type":"file","oid":"{git}","size":7,"path":"data/a.json"}},
            {{"type":"file","oid":"{git}","size":9,"path":"w","xetHash":"x","lfs":{{"oid":"{sha}","size":9,"pointerSize":134}}}}]"#
        );
        let files = read_tree(&body).unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!((files[0].path.as_str(), files[0].size), ("data/a.json", 7));
        assert_eq!(files[0].content, Content::Git(git));
        assert_eq!(files[1].content, Content::Sha256(sha));
    }

    #[test]
    fn a_listing_that_leads_out_of_the_cache_or_has_no_hash_is_refused() {
        let git = "a".repeat(40);
        for path in ["../x", "/etc/x", "a//b", "a/./b", "a\\\\..\\\\b", ""] {
            let body = format!(r#"[{{"type":"file","oid":"{git}","size":7,"path":"{path}"}}]"#);
            let error = read_tree(&body).unwrap_err();
            assert!(
                error.contains("no path inside a repository"),
                "{path}: {error}"
            );
        }
        for (entry, expected) in [
            (
                r#"{"type":"file","oid":"../../x","size":7,"path":"a"}"#,
                "a: no hash of 40",
            ),
            (r#"{"type":"file","oid":"x","path":"a"}"#, "a: no size"),
            (
                r#"{"type":"file","oid":"x","size":1,"path":"a","lfs":{"oid":"c","size":1}}"#,
                "no hash of 64",
            ),
            (r#"{"type":"file"}"#, "a file without a path"),
        ] {
            let error = read_tree(&format!("[{entry}]")).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert!(read_tree("{}").is_err());
    }

    #[test]
    fn the_next_page_is_read_from_its_header() {
        let next = |link: &str| {
            let headers = HeaderMap::from_iter([(LINK, link.parse().unwrap())]);
            next_page(&headers, &"http://h/a?p=1".parse().unwrap()).map(String::from)
        };
        let two = r#"<http://h/a?p=0>; rel="prev", <http://h/a?p=2>; rel="next""#;
        assert_eq!(next(two).unwrap(), "http://h/a?p=2");
        assert_eq!(next("</a?p=2>; rel=next").unwrap(), "http://h/a?p=2");
        assert_eq!(next(r#"<http://h/a>; rel="prev""#), None);
        assert_eq!(next("nonsense"), None);
    }
}
