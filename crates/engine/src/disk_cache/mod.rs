//! Keys and values on disk, so that a beginning that was computed before a restart is not computed again.
//!
//! Each full block is a file, under a name that only a block of the same model, adapter, domain and tokens has. Whatever is wrong with a file,
//! it counts as one that is not there. Threads of their own read and write.

mod index;

use crate::block_pool::Identity;
use crate::{Error, SeqId};
use async_channel::{Receiver, Sender};
use index::{Entry, HEADER, Index, Name, header, make, path, private_folder};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// Where keys and values of full cache blocks are kept across restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCacheOptions {
    /// A folder for nothing else. It is made if there is none; only the owner may read it.
    pub folder: PathBuf,
    /// Bytes that the files in it may have together, those of other models included. Those used longest ago give way.
    pub max_bytes: u64,
    /// What tells models apart, such as [`File::fingerprint`](trine_tensor::File::fingerprint) and the precision of activations.
    pub model: Vec<u8>,
}

impl DiskCacheOptions {
    /// A folder of at most 10 GiB for a model.
    pub fn new(folder: impl Into<PathBuf>, model: impl Into<Vec<u8>>) -> DiskCacheOptions {
        DiskCacheOptions { folder: folder.into(), max_bytes: 10 << 30, model: model.into() }
    }
}

/// Bytes of blocks that wait to be written. What finds no room is not kept.
const QUEUE: usize = 128 << 20;
/// Bytes of blocks that waited, after which their memory is given back.
const BACKLOG: usize = 1 << 20;
/// Bytes of blocks that are read together.
const PART: usize = 32 << 20;

/// Consecutive blocks that were read for a sequence.
pub(crate) struct Part {
    pub sequence: SeqId,
    /// Which block of the sequence is the first.
    pub first: usize,
    /// Each after a header.
    files: Vec<Vec<u8>>,
    /// No more are read for it.
    pub last: bool,
}

impl Part {
    /// The blocks.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.files.iter().map(|file| &file[HEADER..])
    }
}

/// Blocks to read for a sequence.
struct Order {
    sequence: SeqId,
    first: usize,
    names: Vec<Name>,
}

/// A block to write.
struct Save {
    name: Name,
    bytes: Vec<u8>,
    used: SystemTime,
}

/// The blocks of one model on disk.
pub(crate) struct DiskCache {
    shared: Arc<Shared>,
    orders: Sender<Order>,
    parts: Receiver<Part>,
    saves: Sender<Save>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    folder: PathBuf,
    max_bytes: u64,
    /// What all names begin with: model, program and layout.
    model: [u8; 32],
    block_bytes: usize,
    index: Mutex<Index>,
}

impl DiskCache {
    /// Opens a folder. Blocks have `block_bytes` bytes, and `layout` says what else they depend on.
    ///
    /// # Errors
    /// When it cannot be made or read, or others may write to it.
    pub fn open(options: &DiskCacheOptions, layout: &str, block_bytes: usize) -> Result<DiskCache, Error> {
        let folder = options.folder.clone();
        let failed = |error: io::Error| Error::DiskCache { folder: folder.clone(), problem: error.to_string() };
        make(&folder).map_err(failed)?;
        let model = Sha256::new()
            .chain_update(Sha256::digest(&options.model))
            .chain_update(Sha256::digest(env!("CARGO_PKG_VERSION")))
            .chain_update(layout);
        let least = (HEADER + block_bytes) as u64;
        if options.max_bytes < least {
            let problem =
                format!("expected room for {least} bytes at least, those of a block, found {}", options.max_bytes);
            return Err(failed(io::Error::other(problem)));
        }
        let mut index = Index::read(&folder).map_err(failed)?;
        index.shrink(&folder, options.max_bytes);
        let shared = Arc::new(Shared {
            max_bytes: options.max_bytes,
            model: model.finalize().into(),
            block_bytes,
            index: Mutex::new(index),
            folder: folder.clone(),
        });
        let (orders, ordered) = async_channel::unbounded::<Order>();
        let (done, parts) = async_channel::bounded(1);
        let (saves, saved) = async_channel::bounded::<Save>((QUEUE / block_bytes.max(1)).max(1));
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(failed)
        };
        let (reader, writer) = (shared.clone(), shared.clone());
        let threads = vec![
            spawn("trine-cache-read", Box::new(move || reader.read(&ordered, &done)))?,
            spawn("trine-cache-write", Box::new(move || writer.write(&saved)))?,
        ];
        Ok(DiskCache { shared, orders, parts, saves, threads })
    }

    /// Orders the blocks of a sequence from the `first` on, as far as they are there; whether any are.
    pub fn order(&self, sequence: SeqId, first: usize, blocks: &[Identity]) -> bool {
        let index = self.shared.index();
        let names = blocks.iter().map(|block| self.shared.name(block));
        let names: Vec<Name> =
            names.take_while(|name| index.files.get(name).is_some_and(|entry| entry.bytes > 0)).collect();
        drop(index);
        !names.is_empty() && self.orders.try_send(Order { sequence, first, names }).is_ok()
    }

    /// Blocks that were read, if there are any; with `wait`, when there are. `None` for ever if the thread has ended.
    pub fn part(&self, wait: bool) -> Option<Part> {
        if wait { self.parts.recv_blocking().ok() } else { self.parts.try_recv().ok() }
    }

    /// Whether a block is to be saved: it is not there, and there is room for it to wait.
    pub fn wants(&self, block: &Identity) -> bool {
        let index = self.shared.index();
        !self.saves.is_full() && index.problem.is_none() && !index.files.contains_key(&self.shared.name(block))
    }

    /// Saves a block that `depth` others come before, in time.
    pub fn save(&self, block: &Identity, depth: usize, bytes: Vec<u8>) {
        let (name, used) = (self.shared.name(block), used_now(depth));
        // It counts from now on, so that it is not saved twice.
        let mut index = self.shared.index();
        if self.saves.try_send(Save { name, bytes, used }).is_ok() {
            index.files.insert(name, Entry { bytes: 0, used });
        }
    }

    /// Waits for what is still to be written; why something was not, such as a full disk.
    pub fn close(self) -> Option<String> {
        let shared = self.shared.clone();
        drop(self);
        shared.index().problem.take()
    }
}

impl Drop for DiskCache {
    /// Waits for what is still to be written.
    fn drop(&mut self) {
        self.orders.close();
        self.parts.close();
        self.saves.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// When a block counts as used last that is used now: a beginning counts as used later than what follows it, without which that is of no use.
fn used_now(depth: usize) -> SystemTime {
    // A block is computed in less time, so that those of one prompt are in this order.
    let before = Duration::from_secs(depth as u64);
    SystemTime::now().checked_sub(before).unwrap_or(SystemTime::UNIX_EPOCH)
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn name(&self, block: &Identity) -> Name {
        Sha256::new().chain_update(self.model).chain_update(block).finalize().into()
    }

    /// Reads what is ordered, until nobody wants it any more.
    fn read(&self, orders: &Receiver<Order>, parts: &Sender<Part>) {
        let each = (PART / self.block_bytes.max(1)).max(1);
        while let Ok(Order { sequence, first, names }) = orders.recv_blocking() {
            let mut read = 0;
            while read < names.len() {
                let chunk = &names[read..names.len().min(read + each)];
                let depths = first + read..;
                let files: Vec<Vec<u8>> =
                    chunk.iter().zip(depths).map_while(|(name, depth)| self.load(name, depth)).collect();
                let (first, found) = (first + read, files.len());
                read += found;
                let missing = found < chunk.len();
                if missing {
                    // What follows will be computed, and may be saved again.
                    names[read..].iter().for_each(|name| self.index().remove(name));
                }
                let last = missing || read == names.len();
                if parts.send_blocking(Part { sequence, first, files, last }).is_err() {
                    return;
                }
                if missing {
                    break;
                }
            }
        }
    }

    /// The file of this name, if it is there and has what it should. Another is removed.
    fn load(&self, name: &Name, depth: usize) -> Option<Vec<u8>> {
        let (path, size) = (path(&self.folder, name), HEADER + self.block_bytes);
        let file = trine_tensor::read_small(&path, size as u64).ok();
        let file = file.filter(|file| file.len() == size && file[..HEADER] == header(name, &file[HEADER..]));
        let mut index = self.index();
        match (&file, index.files.get_mut(name)) {
            (Some(_), Some(entry)) => {
                entry.used = used_now(depth);
                // What other programs see. Where it fails, they take it for older than it is.
                let _ = File::options().write(true).open(&path).and_then(|file| file.set_modified(entry.used));
            }
            (None, _) => {
                index.remove(name);
                let _ = fs::remove_file(&path);
            }
            _ => {}
        }
        file
    }

    /// Writes blocks until no more come, or one cannot be written.
    fn write(&self, saves: &Receiver<Save>) {
        let mut waited = 0;
        while let Ok(Save { name, bytes, used }) = saves.recv_blocking() {
            waited = waited.max(saves.len());
            let written = self.save(&name, &bytes, used);
            drop(bytes);
            let mut index = self.index();
            match written {
                Ok(bytes) => {
                    index.remove(&name);
                    index.insert(name, Entry { bytes, used });
                    index.shrink(&self.folder, self.max_bytes);
                }
                Err(error) => {
                    index.remove(&name);
                    index.problem.get_or_insert(error.to_string());
                }
            }
            drop(index);
            // On a busy machine many blocks wait at times, and what follows them in memory would keep theirs from being reused.
            if saves.is_empty() && waited * self.block_bytes > BACKLOG {
                trine_tensor::memory::give_back();
                waited = 0;
            }
        }
    }

    fn save(&self, name: &Name, block: &[u8], used: SystemTime) -> io::Result<u64> {
        let path = path(&self.folder, name);
        let folder = path.parent().expect("a file in a folder");
        private_folder(folder)?;
        // Its permissions are those of the owner alone.
        let mut file = tempfile::Builder::new().prefix(".trine-").suffix(".partial").tempfile_in(folder)?;
        file.write_all(&header(name, block))?;
        file.write_all(block)?;
        file.as_file().set_modified(used)?;
        file.persist(&path)?;
        Ok((HEADER + block.len()) as u64)
    }
}
