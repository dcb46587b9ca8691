//! The files of a disk cache.

use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Begins each file. Another layout of blocks gets another one.
const MAGIC: &[u8; 8] = b"TRINEKV1";
/// Bytes before the block: magic, name, SHA-256 of the block.
pub const HEADER: usize = 8 + 32 + 32;
/// Files that are counted. There is room for more of tiny models than anybody needs.
const MAX_FILES: usize = 1 << 20;

/// The name of a file.
pub type Name = [u8; 32];

/// The files in the folder.
#[derive(Default)]
pub struct Index {
    pub files: HashMap<Name, Entry>,
    bytes: u64,
    /// Why nothing is written any more.
    pub problem: Option<String>,
}

#[derive(Clone, Copy)]
pub struct Entry {
    /// 0 until it is written.
    pub bytes: u64,
    pub used: SystemTime,
}

impl Index {
    /// The files in a folder. What a killed program left is removed; what cannot be read, or is no file of such a cache, is left alone.
    ///
    /// # Errors
    /// When the folder itself cannot be read.
    pub fn read(folder: &Path) -> io::Result<Index> {
        let (mut index, now) = (Index::default(), SystemTime::now());
        for entry in folder.read_dir()?.filter_map(Result::ok) {
            let first = entry.file_name();
            let Some(first) = first.to_str().filter(|first| first.len() == 2) else { continue };
            // Other programs may write and remove files meanwhile.
            for file in entry.path().read_dir().into_iter().flatten().filter_map(Result::ok) {
                let name = file.file_name();
                let Some((name, metadata)) = name.to_str().zip(file.metadata().ok()) else { continue };
                if index.files.len() >= MAX_FILES || !metadata.is_file() || metadata.len() == 0 {
                    continue;
                }
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH).min(now);
                match parse(&format!("{first}{name}")) {
                    Some(name) => index.insert(name, Entry { bytes: metadata.len(), used }),
                    None if name.starts_with(".trine-") && name.ends_with(".partial") && is_old(used) => {
                        let _ = fs::remove_file(file.path());
                    }
                    None => {}
                }
            }
        }
        Ok(index)
    }

    pub fn insert(&mut self, name: Name, entry: Entry) {
        self.bytes += entry.bytes;
        self.files.insert(name, entry);
    }

    pub fn remove(&mut self, name: &Name) {
        if let Some(entry) = self.files.remove(name) {
            self.bytes -= entry.bytes;
        }
    }

    /// Removes files, those used longest ago first, until a tenth of the room is free.
    pub fn shrink(&mut self, folder: &Path, max_bytes: u64) {
        if self.bytes <= max_bytes {
            return;
        }
        let written = self.files.iter().filter(|(_, entry)| entry.bytes > 0);
        let mut oldest: Vec<(SystemTime, Name)> = written.map(|(name, entry)| (entry.used, *name)).collect();
        oldest.sort_unstable();
        for (_, name) in oldest {
            if self.bytes <= max_bytes / 10 * 9 {
                break;
            }
            self.remove(&name);
            let path = path(folder, &name);
            // Another program may have removed it.
            if is_ours(&path) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// What a file begins with.
pub fn header(name: &Name, block: &[u8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let (magic, rest) = header.split_at_mut(MAGIC.len());
    magic.copy_from_slice(MAGIC);
    rest[..32].copy_from_slice(name);
    rest[32..].copy_from_slice(&Sha256::digest(block));
    header
}

/// Where a file lies: one of 256 folders by its first two digits.
pub fn path(folder: &Path, name: &Name) -> PathBuf {
    let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    folder.join(&hex[..2]).join(&hex[2..])
}

/// The name that 64 hexadecimal digits spell.
fn parse(hex: &str) -> Option<Name> {
    if hex.len() != 64 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16);
    let bytes: Result<Vec<u8>, _> = (0..32).map(byte).collect();
    bytes.ok()?.try_into().ok()
}

/// Whether a file begins as those of a cache do: others are not removed.
fn is_ours(path: &Path) -> bool {
    let mut magic = [0; MAGIC.len()];
    let is_file = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    is_file && fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == MAGIC
}

/// Whether nobody writes a temporary file of this time any more.
fn is_old(used: SystemTime) -> bool {
    used.elapsed().is_ok_and(|age| age.as_secs() > 3600)
}

/// Makes the folder, for its owner alone, unless it is there.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// Makes the folder, and refuses one that everybody may write to: its files become text.
pub fn make(folder: &Path) -> io::Result<()> {
    private_folder(folder)?;
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(folder)?.permissions());
        if mode & 0o002 != 0 {
            let problem = format!("expected a folder that not everybody may write to, found mode {:o}", mode & 0o7777);
            return Err(io::Error::other(problem));
        }
    }
    Ok(())
}
