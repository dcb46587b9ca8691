//! Models from a hub to the cache.

use crate::cache::{Cache, allocated};
use crate::download::{Blob, Download};
use crate::error::{Error, Result, at};
use crate::http::{Http, HubOptions};
use crate::listing::{self, ListedFile, Metadata};
use crate::name::{Reference, check_file, check_revision};
use crate::part::Part;
use crate::progress::Progress;
use crate::select::{NoModel, select};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Files whose headers are asked for at once.
const ASKED: usize = 8;

/// A hub, and the cache that its models go to.
pub struct Hub {
    http: Http,
    cache: Cache,
    connections: usize,
}

/// What a pull downloads.
#[derive(Clone, Debug)]
pub struct Plan {
    pub reference: Reference,
    pub revision: String,
    pub commit: String,
    /// What opens the model when all is there.
    pub path: PathBuf,
    pub files: Vec<PlannedFile>,
}

#[derive(Clone, Debug)]
pub struct PlannedFile {
    pub path: String,
    pub size: u64,
    pub etag: String,
    /// Whether its hash is known, and checked.
    pub has_hash: bool,
    /// Bytes that are in the cache: all, or those of a download that was interrupted.
    pub present: u64,
    metadata: Metadata,
}

impl Plan {
    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Bytes that are not in the cache.
    pub fn missing(&self) -> u64 {
        self.files.iter().map(|file| file.size - file.present).sum()
    }
}

/// What a pull did.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// What opens the model.
    pub path: PathBuf,
    pub received: u64,
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// # Errors
    /// When the endpoint is no address.
    pub fn new(options: &HubOptions) -> Result<Hub> {
        let http = Http::new(options)?;
        Ok(Hub { http, cache: Cache::new(&options.cache), connections: options.connections.max(1) })
    }

    /// Ends what runs, at once, and all that follows.
    pub fn stop(&self) {
        self.http.stop();
    }

    /// Asks what a model consists of, and what of it is missing.
    ///
    /// # Errors
    /// When there is no such model, or the hub refuses or cannot be reached.
    pub fn plan(&self, reference: &Reference, revision: &str, progress: &Progress) -> Result<Plan> {
        check_revision(revision)?;
        let repo = &reference.repo;
        let listing = listing::list(&self.http, repo, revision, progress)?;
        let paths: Vec<String> = listing.files.iter().map(|file| file.path.clone()).collect();
        let selection = select(&paths, reference.selector.as_deref())
            .map_err(|NoModel { expected, found }| Error::NoModel { repo: repo.to_string(), expected, found })?;
        selection.files.iter().try_for_each(|path| check_file(path))?;
        let listed: BTreeMap<&str, &ListedFile> = listing.files.iter().map(|file| (file.path.as_str(), file)).collect();
        let chosen: Vec<&ListedFile> =
            selection.files.iter().filter_map(|path| listed.get(path.as_str()).copied()).collect();
        let metadata = self.metadata(reference, &listing.commit, &chosen, progress)?;
        let file = |(file, metadata): (&ListedFile, Metadata)| {
            let Metadata { etag, size, expected } = metadata.clone();
            let blob = self.cache.blob(repo, &etag);
            let is_there = is_complete(&blob, size);
            let present = if is_there { size } else { Part::left(&self.cache.part(repo, &etag), size) };
            PlannedFile { path: file.path.clone(), size, etag, has_hash: expected.is_some(), present, metadata }
        };
        let files: Vec<PlannedFile> = chosen.into_iter().zip(metadata).map(file).collect();
        let folder = self.cache.snapshot(repo, &listing.commit);
        let path = match (selection.is_folder && reference.selector.is_none(), selection.files.first()) {
            (false, Some(first)) => folder.join(first),
            _ => folder,
        };
        Ok(Plan { reference: reference.clone(), revision: revision.to_owned(), commit: listing.commit, path, files })
    }

    fn metadata(
        &self,
        reference: &Reference,
        commit: &str,
        files: &[&ListedFile],
        progress: &Progress,
    ) -> Result<Vec<Metadata>> {
        let mut found = Vec::with_capacity(files.len());
        for some in files.chunks(ASKED) {
            let ask = |file: &ListedFile| listing::metadata(&self.http, &reference.repo, commit, file, progress);
            let answers: Vec<Result<Metadata>> = std::thread::scope(|scope| {
                let threads: Vec<_> = some.iter().map(|file| scope.spawn(|| ask(file))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap_or(Err(Error::Cancelled))).collect()
            });
            for answer in answers {
                found.push(answer?);
            }
        }
        Ok(found)
    }

    /// Downloads what a plan lacks. What is interrupted is continued by the next pull.
    ///
    /// # Errors
    /// When the disk has no room, attempts bring nothing, or a file is not what the hub has.
    pub fn pull(&self, plan: &Plan, progress: &Progress) -> Result<Pulled> {
        let (repo, commit) = (&plan.reference.repo, plan.commit.as_str());
        self.check_space(plan)?;
        self.cache.create(repo)?;
        let download =
            Download { http: &self.http, cache: &self.cache, repo, commit, progress, abort: AtomicBool::new(false) };
        // Two files of the same content are one; programs that take locks in the same order do not wait for each other.
        let mut contents = BTreeMap::<&str, (Vec<String>, &Metadata)>::new();
        for file in &plan.files {
            contents.entry(&file.etag).or_insert_with(|| (Vec::new(), &file.metadata)).0.push(file.path.clone());
        }
        let mut blobs = Vec::new();
        for (etag, (paths, metadata)) in contents {
            let lock = self.cache.lock(repo, etag, || self.http.is_stopped())?;
            if is_complete(&self.cache.blob(repo, etag), metadata.size) {
                download.link(&paths, etag)?;
                continue;
            }
            blobs.push(Blob::new(&download, paths, metadata.clone(), lock)?);
        }
        // Small files first: what is wrong shows early.
        blobs.sort_by_key(|blob| blob.metadata.size);
        self.run(&download, blobs)?;
        self.cache.set_ref(repo, &plan.revision, commit)?;
        Ok(Pulled { path: plan.path.clone(), received: progress.done() - progress.kept() })
    }

    /// Downloads the segments of all files on several threads.
    fn run(&self, download: &Download, blobs: Vec<Blob>) -> Result<()> {
        let mut jobs: VecDeque<(usize, usize)> = VecDeque::new();
        let mut slots = Vec::new();
        for blob in blobs {
            if blob.segments() == 0 {
                download.finish(blob)?;
                continue;
            }
            jobs.extend((0..blob.segments()).map(|segment| (slots.len(), segment)));
            slots.push(Mutex::new(Some(std::sync::Arc::new(blob))));
        }
        let (jobs, failed) = (Mutex::new(jobs), Mutex::new(None));
        let work = || -> Result<()> {
            loop {
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((slot, segment)) = job.filter(|_| !download.abort.load(Relaxed)) else { return Ok(()) };
                let slot = || slots[slot].lock().unwrap_or_else(PoisonError::into_inner);
                let Some(blob) = slot().clone() else { continue };
                let is_last = download.segment(&blob, segment)?;
                drop(blob);
                // Nobody else has it: all other segments are done.
                if let Some(blob) = is_last.then(|| slot().take()).flatten().and_then(std::sync::Arc::into_inner) {
                    download.finish(blob)?;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.connections {
                scope.spawn(|| {
                    if let Err(error) = work() {
                        download.abort.store(true, Relaxed);
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                });
            }
        });
        into_inner(failed).map_or(Ok(()), Err)
    }

    /// Compares what the disk has with what will be written.
    fn check_space(&self, plan: &Plan) -> Result<()> {
        let repo = &plan.reference.repo;
        let missing =
            plan.files.iter().filter(|file| file.present < file.size).map(|file| {
                (file.etag.as_str(), file.size.saturating_sub(allocated(&self.cache.part(repo, &file.etag))))
            });
        let needed: u64 = missing.collect::<BTreeMap<_, _>>().values().sum();
        let root = self.cache.root();
        std::fs::create_dir_all(root).map_err(at(root))?;
        match free_space(root)? {
            Some(free) if free < needed => Err(Error::Space { path: root.to_owned(), needed, free }),
            _ => Ok(()),
        }
    }
}

fn is_complete(blob: &Path, size: u64) -> bool {
    blob.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
}

#[cfg(unix)]
fn free_space(path: &Path) -> Result<Option<u64>> {
    let found = rustix::fs::statvfs(path).map_err(|error| at(path)(error.into()))?;
    Ok(Some(found.f_bavail.saturating_mul(found.f_frsize)))
}

#[cfg(not(unix))]
fn free_space(_: &Path) -> Result<Option<u64>> {
    Ok(None)
}
