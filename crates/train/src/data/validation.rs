//! Which documents are held out for validation.

use sha2::{Digest, Sha256};

/// Whether a document is held out. This depends on its text alone: other documents do not matter, and duplicates are on the same side.
pub(super) fn is_validation(text: &str, share: f64) -> bool {
    let hash: [u8; 32] = Sha256::digest(text).into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    // Uniform in [0, 1].
    let at = u64::from_be_bytes([a, b, c, d, e, f, g, h]) as f64 / u64::MAX as f64;
    at < share
}
