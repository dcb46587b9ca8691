use sha2::{Digest, Sha256};

/// Whether a document is kept for validation. This depends on its text alone: it stays where it is when others come and go, and is never on
/// both sides when it is there twice.
pub(super) fn is_validation(text: &str, share: f64) -> bool {
    let hash: [u8; 32] = Sha256::digest(text).into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    // Uniform in [0, 1].
    let at = u64::from_be_bytes([a, b, c, d, e, f, g, h]) as f64 / u64::MAX as f64;
    at < share
}
