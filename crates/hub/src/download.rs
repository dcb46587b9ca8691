//! Downloading the content of one file, segment by segment.

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::http::{Answer, Failure, Http, host};
use crate::listing::{Metadata, address, etag, unexpected};
use crate::name::Repo;
use crate::part::Part;
use crate::progress::Progress;
use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use ureq::http::{Method, Uri};

/// Bytes that are read at once.
const READ: usize = 256 << 10;
/// Bytes that an attempt must bring for all attempts to be left again.
const WORTH: u64 = 16 << 10;
/// Bytes a second below which a connection counts as stalled.
const SLOWEST: u64 = 1 << 10;

/// The content of a file that is downloaded, and its names.
pub struct Blob {
    pub paths: Vec<String>,
    pub metadata: Metadata,
    pub uri: Uri,
    part: Part,
    /// Segments that are not complete.
    open: AtomicUsize,
    /// Whether the hub sends nothing but whole files.
    is_whole: AtomicBool,
    /// Who downloads all of it where nothing else is sent.
    whole: Mutex<()>,
    /// Held until the file has its name.
    _lock: File,
}

/// All that workers share.
pub struct Download<'a> {
    pub http: &'a Http,
    pub cache: &'a Cache,
    pub repo: &'a Repo,
    pub commit: &'a str,
    pub progress: &'a Progress,
    /// Set when a worker failed.
    pub abort: AtomicBool,
}

impl Blob {
    pub fn new(download: &Download, paths: Vec<String>, metadata: Metadata, lock: File) -> Result<Blob> {
        let part = Part::open(&download.cache.part(download.repo, &metadata.etag), metadata.size)?;
        let uri = address(download.http, download.repo, download.commit, &paths[0])?;
        let open = AtomicUsize::new(part.segments());
        download.progress.expect(metadata.size, part.done());
        if metadata.expected.is_some() {
            download.progress.expect_check(metadata.size);
        }
        Ok(Blob {
            paths,
            metadata,
            uri,
            part,
            open,
            is_whole: AtomicBool::new(false),
            whole: Mutex::new(()),
            _lock: lock,
        })
    }

    pub fn segments(&self) -> usize {
        self.part.segments()
    }

    fn what(&self) -> &str {
        &self.paths[0]
    }
}

impl Download<'_> {
    /// Downloads a segment. Returns whether all of the file is there now.
    ///
    /// # Errors
    /// When attempts bring nothing, the disk is full, or somebody stops it.
    pub fn segment(&self, blob: &Blob, segment: usize) -> Result<bool> {
        let mut attempts = self.http.attempts();
        loop {
            let (position, end) = blob.part.missing(segment);
            if position == end {
                return Ok(blob.open.fetch_sub(1, AcqRel) == 1);
            }
            let before = blob.part.done();
            let attempt = match blob.is_whole.load(Relaxed) {
                true => self.whole(blob, segment),
                false => self.range(blob, position, end),
            };
            if let Err(failure) = attempt {
                if blob.part.done() >= before + WORTH {
                    attempts.renew();
                }
                attempts.after(failure, self.progress)?;
            }
        }
    }

    /// Asks for the bytes of a file, or some of them.
    fn ask(&self, blob: &Blob, range: Option<(u64, u64)>) -> Result<Answer, Failure> {
        let linked = RefCell::new(None);
        let note = |answer: &Answer| {
            if let Some(etag) = answer.header("x-linked-etag").and_then(|_| etag(answer)) {
                linked.replace(Some(etag.to_owned()));
            }
            false
        };
        let answer = self.http.request(&Method::GET, &blob.uri, range, note, blob.what())?;
        let found =
            linked.take().or_else(|| (answer.uri == blob.uri).then(|| etag(&answer).map(str::to_owned)).flatten());
        if let Some(found) = found.filter(|found| *found != blob.metadata.etag) {
            let expected = format!("the content {}", blob.metadata.etag);
            return Err(Error::Answer { what: blob.what().to_owned(), expected, found }.into());
        }
        if let Some(encoding) = answer.header("content-encoding").filter(|encoding| *encoding != "identity") {
            return Err(unexpected(blob.what(), "plain bytes".to_owned(), format!("the encoding {encoding:?}")));
        }
        Ok(answer)
    }

    fn range(&self, blob: &Blob, position: u64, end: u64) -> Result<(), Failure> {
        let answer = self.ask(blob, Some((position, end - 1)))?;
        if answer.status() == 200 {
            blob.is_whole.store(true, Relaxed);
            return Ok(());
        }
        let range = answer.header("content-range").unwrap_or_default();
        let len = blob.part.len;
        let fits = answer.status() == 206
            && range.trim().strip_prefix("bytes ").and_then(|range| range.split_once('/')).is_some_and(
                |(range, total)| {
                    let bounds =
                        range.split_once('-').and_then(|(a, b)| Some((a.parse::<u64>().ok()?, b.parse::<u64>().ok()?)));
                    bounds.is_some_and(|(first, last)| first == position && (first..end).contains(&last))
                        && (total == "*" || total == len.to_string())
                },
            );
        if !fits {
            let found = format!("HTTP status {} with {range:?}", answer.status());
            return Err(unexpected(blob.what(), format!("bytes {position}-{}/{len}", end - 1), found));
        }
        self.read(blob, answer, position, end)
    }

    /// Downloads a file from its beginning, since the hub knows no ranges. One worker does so, the others wait.
    fn whole(&self, blob: &Blob, segment: usize) -> Result<(), Failure> {
        let _one = blob.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let (position, end) = blob.part.missing(segment);
        if position == end {
            return Ok(());
        }
        let answer = self.ask(blob, None)?;
        let len = blob.part.len;
        let sent = answer.header("content-length").and_then(|text| text.trim().parse::<u64>().ok());
        if answer.status() != 200 || sent.is_some_and(|sent| sent != len) {
            let found = format!(
                "HTTP status {} with {}",
                answer.status(),
                sent.map_or("no length".to_owned(), |sent| format!("{sent} bytes"))
            );
            return Err(unexpected(blob.what(), format!("{len} bytes"), found));
        }
        self.read(blob, answer, 0, len)
    }

    /// Writes the bytes of an answer from a position of the file to another.
    fn read(&self, blob: &Blob, answer: Answer, mut position: u64, end: u64) -> Result<(), Failure> {
        let host = host(&answer.uri);
        let mut body = answer.response.into_body().into_reader();
        let mut buffer = vec![0; READ];
        let (mut since, mut bytes) = (Instant::now(), 0);
        let passing = |problem: String| Failure::Passing(Error::Connection { host: host.clone(), problem }, None);
        while position < end {
            if self.http.is_stopped() || self.abort.load(Relaxed) {
                return Err(Error::Cancelled.into());
            }
            let most = buffer.len().min((end - position) as usize);
            let n = body
                .read(&mut buffer[..most])
                .map_err(|error| crate::http::broken(&host, &ureq::Error::from(error)))?;
            if n == 0 {
                return Err(passing(format!("the connection ended at byte {position} of {end}")));
            }
            self.progress.receive(blob.part.write(position, &buffer[..n])?);
            position += n as u64;
            bytes += n as u64;
            if since.elapsed() > self.http.stall {
                if bytes < SLOWEST * self.http.stall.as_secs() {
                    return Err(passing("the connection stalls".to_owned()));
                }
                (since, bytes) = (Instant::now(), 0);
            }
        }
        Ok(())
    }

    /// Checks a file that is there, and gives it its names.
    ///
    /// # Errors
    /// When its hash is another one, after which it is removed, or the disk reports an error.
    pub fn finish(&self, blob: Blob) -> Result<()> {
        let Blob { paths, metadata, part, _lock, .. } = blob;
        if let Some(expected) = &metadata.expected {
            let checked = expected.check(&paths[0], &part.path, part.len, self.progress, &self.http.stop);
            if let Err(Error::Hash { .. }) = &checked {
                let _ = std::fs::remove_file(&part.path);
            }
            checked?;
        }
        part.finish(&self.cache.blob(self.repo, &metadata.etag))?;
        self.link(&paths, &metadata.etag)
    }

    pub fn link(&self, paths: &[String], etag: &str) -> Result<()> {
        paths.iter().try_for_each(|path| self.cache.link(self.repo, self.commit, path, etag))
    }
}
