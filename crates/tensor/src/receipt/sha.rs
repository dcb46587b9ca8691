//! SHA-256 as a value.

use std::fmt;
use std::io::{self, Read};

use sha2::Digest;

/// A SHA-256, which prints as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The hash of bytes.
    pub fn of(bytes: &[u8]) -> Sha256 {
        Sha256(sha2::Sha256::digest(bytes).into())
    }

    /// The hash of all that is read. `proceed` is asked between two pieces, and may break off; then there is none.
    ///
    /// # Errors
    /// When reading fails.
    pub fn of_reader(mut input: impl Read, mut proceed: impl FnMut() -> bool) -> io::Result<Option<Sha256>> {
        let (mut hash, mut piece) = (sha2::Sha256::new(), vec![0; 1 << 20]);
        loop {
            let count = input.read(&mut piece)?;
            if count == 0 {
                return Ok(Some(Sha256(hash.finalize().into())));
            }
            hash.update(&piece[..count]);
            if !proceed() {
                return Ok(None);
            }
        }
    }

    /// Reads 64 hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Option<Sha256> {
        unhex(text).map(Sha256)
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl serde::Serialize for Sha256 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f').then(|| (c as char).to_digit(16));
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
        *byte = (16 * digit(pair[0])?? + digit(pair[1])??) as u8;
    }
    Some(bytes)
}
