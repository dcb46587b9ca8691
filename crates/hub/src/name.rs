//! Names of repositories, revisions and files. All that becomes part of a path or an address passes through here.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// The name of a repository: `OWNER/NAME`, or `NAME` of some old ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repo(String);

impl Repo {
    /// The name without its owner.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its folder in the cache.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }

    pub(crate) fn of_folder(folder: &str) -> Option<Repo> {
        folder.strip_prefix("models--")?.replacen("--", "/", 1).parse().ok()
    }
}

impl FromStr for Repo {
    type Err = Error;

    fn from_str(text: &str) -> Result<Repo> {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_part = |part: &str| {
            let inside = !part.contains("--") && !part.contains("..") && part.len() <= 96;
            !part.is_empty()
                && part.chars().all(known)
                && inside
                && !part.starts_with(['-', '.'])
                && !part.ends_with(['-', '.'])
        };
        if text.split('/').count() <= 2 && text.split('/').all(is_part) {
            return Ok(Repo(text.to_owned()));
        }
        Err(Error::Name {
            what: "repository",
            expected: "OWNER/NAME of letters, digits, `-`, `_` and `.`",
            found: text.to_owned(),
        })
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What names a model: `OWNER/REPO`, `OWNER/REPO:Q4_K_M` or `OWNER/REPO:FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub repo: Repo,
    /// A file, or the name of a format of quantization, which is part of the name of a file.
    pub selector: Option<String>,
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Reference> {
        let (repo, selector) = match text.split_once(':') {
            Some((repo, selector)) => (repo, Some(selector)),
            None => (text, None),
        };
        selector.map_or(Ok(()), check_file)?;
        Ok(Reference { repo: repo.parse()?, selector: selector.map(str::to_owned) })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.selector {
            Some(selector) => write!(f, "{}:{selector}", self.repo),
            None => self.repo.fmt(f),
        }
    }
}

/// Refuses what could be a path out of a folder on any system.
pub(crate) fn check_file(path: &str) -> Result<()> {
    let odd = |c: char| c.is_control() || "\\:*?\"<>|".contains(c);
    let is_part = |part: &str| {
        !part.is_empty() && !part.chars().all(|c| c == '.') && part.len() <= 255 && !part.ends_with([' ', '.'])
    };
    if path.len() <= 1024 && path.split('/').all(is_part) && !path.contains(odd) {
        return Ok(());
    }
    Err(Error::Name {
        what: "file",
        expected: "a relative path without `..`, backslashes and other special characters",
        found: path.to_owned(),
    })
}

/// Refuses what is no branch, tag or commit.
pub(crate) fn check_revision(revision: &str) -> Result<()> {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_./+".contains(c);
    let is_part = |part: &str| !part.is_empty() && !part.starts_with(['.', '-']);
    let fits = revision.len() <= 255 && !revision.contains("..") && !revision.ends_with(".lock");
    if fits && revision.chars().all(known) && revision.split('/').all(is_part) {
        return Ok(());
    }
    Err(Error::Name { what: "revision", expected: "a branch, a tag or a commit", found: revision.to_owned() })
}

/// Whether this is a whole hash of a commit.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// A path for an address: what is no plain character is escaped, but for slashes.
pub(crate) fn escaped(path: &str, keep_slashes: bool) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || keep_slashes && byte == b'/' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Those of `names` that are most like this one.
pub(crate) fn near(name: &str, names: impl IntoIterator<Item = String>) -> Vec<String> {
    let plain = |text: &str| text.to_lowercase();
    let rate = |other: &str| {
        let likeness = strsim::normalized_damerau_levenshtein(&plain(name), &plain(other));
        if plain(other).contains(&plain(name)) { likeness.max(0.8) } else { likeness }
    };
    let mut rated: Vec<(f64, String)> =
        names.into_iter().map(|other| (rate(&other), other)).filter(|(rate, _)| *rate >= 0.5).collect();
    rated.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    rated.truncate(4);
    rated.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_a_folder_are_refused() {
        for path in
            ["", "/x", "../x", "a/../b", "a/..", "./a", "a//b", "a/", "a\\b", "C:x", "a\nb", "...", "a. ", "x\0"]
        {
            assert!(check_file(path).is_err(), "{path:?}");
        }
        for path in ["model.gguf", "a/b-00001-of-00002.gguf", ".gitattributes", "naïve name.gguf", "a..b", "Q4_K_M"] {
            assert!(check_file(path).is_ok(), "{path:?}");
        }
        for repo in
            ["", "/", "a/b/c", "../b", "a/..", "-a/b", "a--b/c", "a/b:c", "a b/c", "a/.b", "a/b.", "ä/b", "a\\b"]
        {
            assert!(repo.parse::<Repo>().is_err(), "{repo:?}");
        }
        for revision in ["", "/main", "a..b", "../x", "a b", "-x", ".x", "a//b", "a:b", "x\n"] {
            assert!(check_revision(revision).is_err(), "{revision:?}");
        }
        assert!(check_revision("refs/pr/1").is_ok() && check_revision("v1.0+x").is_ok());
    }

    #[test]
    fn a_reference_has_a_file_or_a_format() {
        let reference: Reference = "owner/Repo-GGUF:Q4_K_M".parse().unwrap();
        assert_eq!((reference.repo.as_str(), reference.selector.as_deref()), ("owner/Repo-GGUF", Some("Q4_K_M")));
        assert_eq!(reference.to_string(), "owner/Repo-GGUF:Q4_K_M");
        assert!("owner/repo:../x".parse::<Reference>().is_err() && "owner/repo:".parse::<Reference>().is_err());
        let repo = reference.repo;
        assert_eq!(repo.folder(), "models--owner--Repo-GGUF");
        assert_eq!(Repo::of_folder(&repo.folder()), Some(repo));
        assert_eq!(Repo::of_folder("models--gpt2").unwrap().as_str(), "gpt2");
        assert_eq!(Repo::of_folder("datasets--a--b"), None);
    }

    #[test]
    fn addresses_are_escaped() {
        assert_eq!(escaped("a b/ä?#%.gguf", true), "a%20b/%C3%A4%3F%23%25.gguf");
        assert_eq!(escaped("refs/pr/1", false), "refs%2Fpr%2F1");
    }
}
