//! What a hub says of a repository and its files.

use crate::error::{Error, Result};
use crate::hash::Expected;
use crate::http::{Answer, Failure, Http, host};
use crate::name::{Repo, check_file, escaped, is_commit, near};
use crate::progress::Progress;
use serde::Deserialize;
use ureq::http::Method;

/// Bytes of an answer in JSON.
const JSON: u64 = 64 << 20;
/// Files of a repository.
const FILES: usize = 200_000;

#[derive(Deserialize)]
struct RawListing {
    sha: String,
    siblings: Vec<RawFile>,
}

#[derive(Deserialize)]
struct RawFile {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

/// A repository at one commit.
#[derive(Debug)]
pub struct Listing {
    pub commit: String,
    pub files: Vec<ListedFile>,
}

#[derive(Debug)]
pub struct ListedFile {
    pub path: String,
    size: Option<u64>,
    sha256: Option<String>,
}

/// What a file is, by its own headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The name of its content in the cache.
    pub etag: String,
    pub size: u64,
    pub expected: Option<Expected>,
}

/// Reads which files a repository has at a revision.
///
/// # Errors
/// When it is not there, not accessible, or the hub answers something else.
pub fn list(http: &Http, repo: &Repo, revision: &str, progress: &Progress) -> Result<Listing> {
    let uri = http.address(&format!("/api/models/{repo}/revision/{}?blobs=true", escaped(revision, false)))?;
    let what = format!("{repo} at {revision}");
    let read = || http.request(&Method::GET, &uri, None, |_| false, &what)?.json::<RawListing>(&what, JSON);
    let raw = match http.repeat(progress, read) {
        Err(Error::NotFound { .. }) => return Err(not_found(http, repo, revision)),
        raw => raw?,
    };
    let odd =
        |expected: &str, found: String| Error::Answer { what: what.clone(), expected: expected.to_owned(), found };
    if !is_commit(&raw.sha) {
        return Err(odd("the hash of a commit", raw.sha.chars().take(80).collect()));
    }
    if raw.siblings.len() > FILES {
        return Err(odd(&format!("at most {FILES} files"), raw.siblings.len().to_string()));
    }
    let file = |raw: RawFile| {
        let (lfs_size, sha256) = raw.lfs.map_or((None, None), |lfs| (lfs.size, lfs.sha256));
        ListedFile { path: raw.rfilename, size: lfs_size.or(raw.size), sha256 }
    };
    Ok(Listing { commit: raw.sha, files: raw.siblings.into_iter().map(file).collect() })
}

/// Whether the repository or its revision is missing, and what is like it.
fn not_found(http: &Http, repo: &Repo, revision: &str) -> Error {
    #[derive(Deserialize)]
    struct Found {
        id: String,
    }
    #[derive(Deserialize)]
    struct Ref {
        name: String,
    }
    #[derive(Deserialize)]
    struct Refs {
        #[serde(default)]
        branches: Vec<Ref>,
        #[serde(default)]
        tags: Vec<Ref>,
    }
    fn get<T: serde::de::DeserializeOwned>(http: &Http, path: &str) -> Option<T> {
        let uri = http.address(path).ok()?;
        http.request(&Method::GET, &uri, None, |_| false, "").ok()?.json("", 1 << 20).ok()
    }
    if let Some(refs) = get::<Refs>(http, &format!("/api/models/{repo}/refs")) {
        let names: Vec<String> = refs.branches.into_iter().chain(refs.tags).map(|found| found.name).collect();
        let like = near(revision, names.iter().cloned());
        return Error::NotFound {
            what: format!("revision {revision} of {repo}"),
            near: if like.is_empty() { names } else { like },
        };
    }
    let search = |text: &str| get::<Vec<Found>>(http, &format!("/api/models?search={}&limit=20", escaped(text, false)));
    let found = search(repo.name()).unwrap_or_default();
    Error::NotFound {
        what: format!("{repo} on {}", http.host()),
        near: near(repo.as_str(), found.into_iter().map(|found| found.id)),
    }
}

/// The quoted text of an etag.
fn normalized(etag: &str) -> &str {
    etag.trim().trim_start_matches("W/").trim_matches('"')
}

/// The address of a file.
///
/// # Errors
/// When there is none.
pub fn address(http: &Http, repo: &Repo, commit: &str, path: &str) -> Result<ureq::http::Uri> {
    http.address(&format!("/{repo}/resolve/{commit}/{}", escaped(path, true)))
}

/// The etag of an answer about a file, whoever keeps its bytes.
pub fn etag(answer: &Answer) -> Option<&str> {
    answer.header("x-linked-etag").or_else(|| answer.header("etag")).map(normalized)
}

/// Asks what a file is. Whoever redirects to another host has said it.
///
/// # Errors
/// When it is not there, or its headers and the listing disagree.
pub fn metadata(http: &Http, repo: &Repo, commit: &str, file: &ListedFile, progress: &Progress) -> Result<Metadata> {
    check_file(&file.path)?;
    let uri = address(http, repo, commit, &file.path)?;
    let what = format!("{} of {repo}", file.path);
    let knows = |answer: &Answer| answer.header("x-linked-etag").is_some() && answer.header("x-linked-size").is_some();
    let redirects = |answer: &Answer| (300..400).contains(&answer.status()) && knows(answer);
    let answer = http.repeat(progress, || http.request(&Method::HEAD, &uri, None, redirects, &what))?;
    let odd = |expected: String, found: String| Error::Answer { what: what.clone(), expected, found };
    let found = etag(&answer).unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if found.is_empty() || found.len() > 128 || !found.chars().all(is_name) || found.starts_with('.') {
        return Err(odd("an etag that can name a file".to_owned(), format!("{:?} from {}", found, host(&answer.uri))));
    }
    let plain = || answer.response.status().is_success().then(|| answer.header("content-length")).flatten();
    let size = answer.header("x-linked-size").or_else(plain).and_then(|text| text.trim().parse().ok()).or(file.size);
    let size = size.ok_or_else(|| odd("a length".to_owned(), "none".to_owned()))?;
    if let Some(listed) = file.size.filter(|listed| *listed != size) {
        return Err(odd(format!("{listed} bytes, as listed"), format!("{size}")));
    }
    // No hub has larger files, and offsets stay far from overflow.
    if size > 1 << 50 {
        return Err(odd("a length".to_owned(), format!("{size}")));
    }
    let expected = match &file.sha256 {
        Some(sha256) if found.len() == 64 && found != sha256 => {
            return Err(odd(format!("the SHA-256 {sha256}, as listed"), found.to_owned()));
        }
        Some(sha256) => {
            Some(Expected::of(sha256).ok_or_else(|| odd("a SHA-256".to_owned(), sha256.chars().take(80).collect()))?)
        }
        None => Expected::of(found),
    };
    Ok(Metadata { etag: found.to_owned(), size, expected })
}

/// A failure of an answer about a file.
pub fn unexpected(what: &str, expected: String, found: String) -> Failure {
    Failure::Passing(Error::Answer { what: what.to_owned(), expected, found }, None)
}
