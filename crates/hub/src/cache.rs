//! The cache folder of Python's `huggingface_hub`.
//!
//! `models--OWNER--NAME/` has `blobs/`, files by their etags, `snapshots/COMMIT/`, links to them by their names, and `refs/`, the commits
//! of branches and tags. Locks of blobs are in `.locks/models--OWNER--NAME/`.

use crate::error::{Error, Result, at};
use crate::name::{Reference, Repo, check_file, check_revision};
use crate::select::{NoModel, Selection, select};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Depth of folders in a snapshot.
const DEPTH: usize = 8;

#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// A snapshot of a repository.
#[derive(Clone, Debug)]
pub struct CachedModel {
    pub repo: Repo,
    pub commit: String,
    /// The branches and tags that are at this commit.
    pub revisions: Vec<String>,
    pub path: PathBuf,
    pub files: Vec<CachedFile>,
    pub last_used: Option<SystemTime>,
    /// Bytes of downloads in this repository that are not complete.
    pub incomplete: u64,
}

#[derive(Clone, Debug)]
pub struct CachedFile {
    pub path: String,
    pub size: u64,
    pub blob: PathBuf,
}

impl CachedModel {
    /// Bytes of its files, each counted once.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| (&file.blob, file.size)).collect::<BTreeMap<_, _>>().values().sum()
    }
}

/// What was removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub files: usize,
    pub blobs: usize,
    pub bytes: u64,
}

/// Names in a folder; none if it is not there.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The files below a folder that are there.
fn files(folder: &Path) -> Vec<CachedFile> {
    fn walk(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<CachedFile>) {
        for name in names(folder) {
            let path = folder.join(&name);
            let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            // A broken link is a file that is not there.
            match path.metadata() {
                Ok(metadata) if metadata.is_file() => {
                    let link = path.read_link().ok().map(|link| folder.join(link));
                    let blob = link.and_then(|link| Some(link.parent()?.canonicalize().ok()?.join(link.file_name()?)));
                    found.push(CachedFile { path: name, size: metadata.len(), blob: blob.unwrap_or(path) });
                }
                Ok(metadata) if metadata.is_dir() && depth < DEPTH => walk(&path, &name, depth + 1, found),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, "", 0, &mut found);
    found
}

impl Cache {
    pub fn new(root: impl Into<PathBuf>) -> Cache {
        Cache { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn folder(&self, repo: &Repo) -> PathBuf {
        self.root.join(repo.folder())
    }

    pub(crate) fn blob(&self, repo: &Repo, etag: &str) -> PathBuf {
        self.folder(repo).join("blobs").join(etag)
    }

    /// Where the part of a blob is while it is downloaded. Python writes to other names.
    pub(crate) fn part(&self, repo: &Repo, etag: &str) -> PathBuf {
        self.folder(repo).join("blobs").join(format!("{etag}.trine.incomplete"))
    }

    pub(crate) fn snapshot(&self, repo: &Repo, commit: &str) -> PathBuf {
        self.folder(repo).join("snapshots").join(commit)
    }

    /// Makes the folders of a repository.
    pub(crate) fn create(&self, repo: &Repo) -> Result<()> {
        for folder in [self.folder(repo).join("blobs"), self.folder(repo).join("snapshots"), self.locks(repo)] {
            std::fs::create_dir_all(&folder).map_err(at(&folder))?;
        }
        let tag = self.root.join("CACHEDIR.TAG");
        if !tag.exists() {
            let text =
                "Signature: 8a477f597d28d172789f06886806bc55\n# This folder has models that can be downloaded again.\n";
            std::fs::write(&tag, text).map_err(at(&tag))?;
        }
        Ok(())
    }

    fn locks(&self, repo: &Repo) -> PathBuf {
        self.root.join(".locks").join(repo.folder())
    }

    /// Waits until no other program, Python's included, downloads this blob.
    pub(crate) fn lock(&self, repo: &Repo, etag: &str, is_stopped: impl Fn() -> bool) -> Result<File> {
        let path = self.locks(repo).join(format!("{etag}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if is_stopped() => return Err(Error::Cancelled),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
                // Some file systems have no locks; two programs then share a part, and the hash finds it out.
                Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
            }
        }
    }

    /// Gives a blob its name in a snapshot.
    pub(crate) fn link(&self, repo: &Repo, commit: &str, path: &str, etag: &str) -> Result<()> {
        check_file(path)?;
        let link = self.snapshot(repo, commit).join(path);
        let target = format!("{}blobs/{etag}", "../".repeat(path.split('/').count() + 1));
        if link.read_link().is_ok_and(|found| found == Path::new(&target)) && link.exists() {
            return Ok(());
        }
        let folder = link.parent().unwrap_or(&link);
        std::fs::create_dir_all(folder).map_err(at(folder))?;
        let temporary = folder.join(format!(".{etag}.{}.link", of_this_thread()));
        let _ = std::fs::remove_file(&temporary);
        #[cfg(unix)]
        let made = std::os::unix::fs::symlink(&target, &temporary);
        // Links need a privilege there; a second name of the file needs none.
        #[cfg(not(unix))]
        let made = std::fs::hard_link(self.blob(repo, etag), &temporary);
        made.and_then(|()| std::fs::rename(&temporary, &link)).map_err(at(&link))
    }

    /// Notes the commit of a branch or tag.
    pub(crate) fn set_ref(&self, repo: &Repo, revision: &str, commit: &str) -> Result<()> {
        check_revision(revision)?;
        if revision == commit {
            return Ok(());
        }
        let path = self.folder(repo).join("refs").join(revision);
        let folder = path.parent().unwrap_or(&path);
        let temporary = folder.join(format!(".{commit}.{}", of_this_thread()));
        let write = || {
            std::fs::create_dir_all(folder)?;
            File::create(&temporary)?.write_all(commit.as_bytes())?;
            std::fs::rename(&temporary, &path)
        };
        write().map_err(at(&path))
    }

    /// The commit of a revision that is in the cache.
    fn commit(&self, repo: &Repo, revision: &str) -> Option<String> {
        check_revision(revision).ok()?;
        let named = std::fs::read_to_string(self.folder(repo).join("refs").join(revision));
        let commit = named.map_or_else(|_| revision.to_owned(), |text| text.trim().to_owned());
        (check_revision(&commit).is_ok() && !commit.contains('/') && self.snapshot(repo, &commit).is_dir())
            .then_some(commit)
    }

    /// Branches, tags and the commits that they are at.
    fn refs(&self, repo: &Repo) -> Vec<(String, String)> {
        let root = self.folder(repo).join("refs");
        let read = |file: CachedFile| {
            let text = std::fs::read_to_string(root.join(&file.path)).ok()?;
            Some((file.path, text.trim().to_owned())).filter(|(name, _)| check_revision(name).is_ok())
        };
        files(&root).into_iter().filter_map(read).collect()
    }

    /// The model of this name: its file, or its folder. Of several snapshots, it is that of `main`, else the newest that has it.
    pub fn find(&self, reference: &Reference, revision: Option<&str>) -> Option<PathBuf> {
        let repo = &reference.repo;
        let main = self.commit(repo, revision.unwrap_or("main"));
        let mut commits: Vec<String> = main.into_iter().collect();
        if revision.is_none() {
            let mut others = names(&self.folder(repo).join("snapshots"));
            others
                .sort_by_key(|commit| self.snapshot(repo, commit).metadata().and_then(|folder| folder.modified()).ok());
            commits.extend(others.into_iter().rev());
        }
        commits.into_iter().find_map(|commit| {
            let folder = self.snapshot(repo, &commit);
            let paths: Vec<String> = files(&folder).into_iter().map(|file| file.path).collect();
            let Selection { files, is_folder } = select(&paths, reference.selector.as_deref()).ok()?;
            match is_folder {
                true if reference.selector.is_none() => {
                    paths.iter().any(|path| path == "config.json").then_some(folder)
                }
                _ => Some(folder.join(files.first()?)),
            }
        })
    }

    /// All models.
    pub fn list(&self) -> Vec<CachedModel> {
        let repos = names(&self.root)
            .into_iter()
            .filter_map(|name| Repo::of_folder(&name).filter(|repo| repo.folder() == name));
        repos.flat_map(|repo| self.snapshots(&repo)).collect()
    }

    fn snapshots(&self, repo: &Repo) -> Vec<CachedModel> {
        let refs = self.refs(repo);
        let blobs = self.folder(repo).join("blobs");
        let is_part = |name: &String| name.ends_with(".incomplete");
        let part = |name: String| allocated(&blobs.join(name));
        let incomplete: u64 = names(&blobs).into_iter().filter(is_part).map(part).sum();
        let snapshot = |commit: String| {
            let path = self.snapshot(repo, &commit);
            let files = files(&path);
            let used = |file: &CachedFile| file.blob.metadata().ok()?.accessed().ok();
            let last_used = files.iter().filter_map(used).max();
            let revisions = refs.iter().filter(|(_, at)| *at == commit).map(|(name, _)| name.clone()).collect();
            CachedModel { repo: repo.clone(), commit, revisions, path, files, last_used, incomplete }
        };
        let mut found: Vec<CachedModel> =
            names(&self.folder(repo).join("snapshots")).into_iter().map(snapshot).collect();
        found.retain(|model| !model.files.is_empty() || incomplete > 0);
        if found.is_empty() && incomplete > 0 {
            found.push(CachedModel { last_used: None, ..snapshot(String::new()) });
        }
        found
    }

    /// What [`Cache::remove`] would remove.
    ///
    /// # Errors
    /// When it is not there.
    pub fn removable(&self, reference: &Reference, revision: Option<&str>) -> Result<Vec<CachedModel>> {
        let repo = &reference.repo;
        let mut found = self.snapshots(repo);
        let what = format!("{reference} in {}", self.root.display());
        if let Some(revision) = revision {
            let commit = self.commit(repo, revision).ok_or_else(|| Error::NotFound {
                what: format!("revision {revision} of {what}"),
                near: found.iter().flat_map(|model| model.revisions.clone()).collect(),
            })?;
            found.retain(|model| model.commit == commit);
        }
        if let Some(selector) = &reference.selector {
            let mut missing = NoModel { expected: String::new(), found: Vec::new() };
            for model in &mut found {
                let paths: Vec<String> = model.files.iter().map(|file| file.path.clone()).collect();
                match select(&paths, Some(selector)) {
                    Ok(selection) => model.files.retain(|file| selection.files.contains(&file.path)),
                    Err(none) => {
                        model.files.clear();
                        missing = none;
                    }
                }
            }
            found.retain(|model| !model.files.is_empty());
            if found.is_empty() {
                return Err(Error::NotFound { what, near: missing.found });
            }
        }
        if found.is_empty() {
            let names: BTreeSet<String> = self.list().into_iter().map(|model| model.repo.to_string()).collect();
            return Err(Error::NotFound { what, near: crate::name::near(repo.as_str(), names) });
        }
        Ok(found)
    }

    /// Removes models, and the blobs that no other snapshot has.
    ///
    /// # Errors
    /// When it is not there, or the system refuses.
    pub fn remove(&self, reference: &Reference, revision: Option<&str>) -> Result<Removed> {
        let repo = &reference.repo;
        let models = self.removable(reference, revision)?;
        let mut removed = Removed::default();
        // Links first: whatever interrupts this leaves no name of a file that is gone.
        for file in models.iter().flat_map(|model| model.files.iter().map(|file| model.path.join(&file.path))) {
            std::fs::remove_file(&file).map_err(at(&file))?;
            removed.files += 1;
        }
        let is_whole = reference.selector.is_none() && revision.is_none();
        let snapshots = self.folder(repo).join("snapshots");
        for commit in names(&snapshots) {
            if files(&snapshots.join(&commit)).is_empty() || is_whole {
                let folder = snapshots.join(&commit);
                std::fs::remove_dir_all(&folder).map_err(at(&folder))?;
                for (name, _) in self.refs(repo).into_iter().filter(|(_, at)| *at == commit) {
                    let _ = std::fs::remove_file(self.folder(repo).join("refs").join(name));
                }
            }
        }
        let kept: BTreeSet<PathBuf> = names(&snapshots)
            .into_iter()
            .flat_map(|commit| files(&snapshots.join(commit)))
            .filter_map(|file| Some(PathBuf::from(file.blob.file_name()?)))
            .collect();
        let blobs = self.folder(repo).join("blobs");
        let ours: BTreeSet<PathBuf> = models
            .iter()
            .flat_map(|model| &model.files)
            .filter_map(|file| Some(PathBuf::from(file.blob.file_name()?)))
            .collect();
        for name in names(&blobs) {
            let path = blobs.join(&name);
            // Parts may belong to a download of something else, unless all goes.
            if !kept.contains(Path::new(&name)) && (is_whole || ours.contains(Path::new(&name))) {
                removed.bytes += allocated(&path);
                removed.blobs += 1;
                std::fs::remove_file(&path).map_err(at(&path))?;
            }
        }
        if is_whole {
            let folder = self.folder(repo);
            std::fs::remove_dir_all(&folder).map_err(at(&folder))?;
            let _ = std::fs::remove_dir_all(self.locks(repo));
        }
        Ok(removed)
    }
}

/// Bytes of a file that are on disk.
pub(crate) fn allocated(path: &Path) -> u64 {
    let Ok(metadata) = path.metadata() else { return 0 };
    #[cfg(unix)]
    let allocated = std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
    #[cfg(not(unix))]
    let allocated = metadata.len();
    allocated.min(metadata.len())
}

/// A part of a file's name that no other thread or program writes.
fn of_this_thread() -> String {
    format!("{}-{:?}", std::process::id(), std::thread::current().id()).replace(['(', ')'], "")
}
