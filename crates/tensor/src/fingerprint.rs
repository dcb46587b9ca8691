use crate::File;
use sha2::{Digest, Sha256};
use std::time::UNIX_EPOCH;

/// Places of a tensor that are read, and the bytes of each.
const PLACES: usize = 4;
const PLACE: usize = 64;

impl File {
    /// A SHA-256 that tells models apart in milliseconds: of the times of the files and [`File::content_fingerprint`].
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.add_times(&mut hash);
        hash.update(self.content_fingerprint());
        hash.finalize().into()
    }

    /// The same without bytes of tensors, of which no page is read: a cold disk takes half a second for those of a large model.
    pub fn description_fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.add_times(&mut hash);
        self.describe(&mut hash, 0);
        hash.finalize().into()
    }

    /// A SHA-256 that is the same for copies of a model: of the sizes of the files, the configuration, the names, formats and shapes of all
    /// tensors, and some bytes of each. The tokenizer is left out.
    ///
    /// It is no proof of what a file contains: for that, all its bytes must be read.
    pub fn content_fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.describe(&mut hash, PLACES);
        hash.finalize().into()
    }

    fn add_times(&self, hash: &mut Sha256) {
        for file in self.files() {
            let modified = file.metadata().and_then(|metadata| metadata.modified()).ok();
            let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            hash.update(since.as_nanos().to_le_bytes());
        }
    }

    /// Adds sizes, configuration and tensors, with bytes of so many places of each tensor.
    fn describe(&self, hash: &mut Sha256, places: usize) {
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(&self.size().to_le_bytes());
        for (key, value) in self.metadata().iter().filter(|(key, _)| !key.starts_with("tokenizer.")) {
            add(format!("{key} {value:?}").as_bytes());
        }
        add(self.config().map(|config| config.to_string()).unwrap_or_default().as_bytes());
        for view in self.tensors() {
            add(format!("{} {} {:?}", view.name, view.format.name, view.shape).as_bytes());
            let room = view.bytes.len().saturating_sub(PLACE);
            for place in 0..places {
                let start = room / (PLACES - 1) * place;
                add(&view.bytes[start..view.bytes.len().min(start + PLACE)]);
            }
        }
    }
}
