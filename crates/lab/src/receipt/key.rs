//! Ed25519 keys for signatures, as `ssh-keygen` and `openssl` write them.

use super::Error;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use trine_tensor::receipt::{Sha256, Sign, Signature};

const PRIVATE: &str = "an ed25519 private key without a passphrase, as `ssh-keygen -t ed25519 -N ''` writes it";
const PUBLIC: &str = "an ed25519 public key, such as a file id_ed25519.pub";
/// The name of the kind of key.
const SSH: &[u8] = b"ssh-ed25519";

/// A private key that signs receipts.
#[derive(Clone)]
pub struct SigningKey(Arc<Ed25519KeyPair>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public_key())
    }
}

impl SigningKey {
    /// Reads a key of OpenSSH, or of PKCS #8 as `openssl genpkey -algorithm ed25519` writes it. Keys with a passphrase are refused.
    ///
    /// # Errors
    /// When the file cannot be read, or is no such key.
    pub fn read(path: &Path) -> Result<SigningKey, Error> {
        let wrong = |found: &str| {
            let path = path.display().to_string();
            Error::Key { path, expected: PRIVATE, found: found.to_owned() }
        };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error.to_string()))?;
        let found = || wrong(if text.contains("BEGIN ") { "another key" } else { "none" });
        let pair = match pem(&text, "OPENSSH PRIVATE KEY") {
            Some(bytes) => {
                let [seed, public] = openssh(&bytes).ok_or_else(found)?;
                Ed25519KeyPair::from_seed_and_public_key(&seed, &public)
            }
            None => Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pem(&text, "PRIVATE KEY").ok_or_else(found)?),
        };
        Ok(SigningKey(Arc::new(pair.map_err(|_| found())?)))
    }

    /// The key that the signatures are checked with.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.public_key().as_ref().try_into().expect("32 bytes"))
    }

    pub(crate) fn signer(&self) -> Box<Sign> {
        let key = self.clone();
        Box::new(move |hash| Signature {
            public_key: key.public_key().0,
            bytes: key.0.sign(&message(hash)).as_ref().try_into().expect("64 bytes"),
        })
    }
}

/// A key that checks signatures. It prints as its fingerprint, which `ssh-keygen -l` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Reads a key: a line `ssh-ed25519 AAAA...`, PEM, or the path of a file with one of them.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn read(text_or_path: &str) -> Result<PublicKey, Error> {
        let wrong = |found: String| Error::Key { path: text_or_path.to_owned(), expected: PUBLIC, found };
        if let Some(key) = PublicKey::parse(text_or_path) {
            return Ok(key);
        }
        let text = std::fs::read_to_string(text_or_path).map_err(|error| wrong(error.to_string()))?;
        PublicKey::parse(&text).ok_or_else(|| wrong("none".to_owned()))
    }

    fn parse(text: &str) -> Option<PublicKey> {
        if let Some(bytes) = pem(text, "PUBLIC KEY") {
            // The header of the structure has 12 bytes, for this kind of key alone.
            let key = bytes.strip_prefix(b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00")?;
            return Some(PublicKey(key.try_into().ok()?));
        }
        let mut words = text.split_whitespace().skip_while(|word| word.as_bytes() != SSH);
        let blob = STANDARD.decode(words.nth(1)?).ok()?;
        let mut rest = &blob[..];
        (field(&mut rest)? == SSH).then_some(())?;
        Some(PublicKey(field(&mut rest)?.try_into().ok()?))
    }

    /// Whether a signature is that of this hash by this key.
    pub fn verifies(&self, hash: &Sha256, signature: &Signature) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.0);
        signature.public_key == self.0 && key.verify(&message(hash), &signature.bytes).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut blob = Vec::new();
        for part in [SSH, &self.0] {
            blob.extend((part.len() as u32).to_be_bytes());
            blob.extend(part);
        }
        write!(f, "SHA256:{}", STANDARD_NO_PAD.encode(Sha256::of(&blob).0))
    }
}

/// What is signed: a signature of a receipt is none of anything else.
fn message(hash: &Sha256) -> Vec<u8> {
    format!("trine receipt {hash}").into_bytes()
}

/// The bytes between `BEGIN` and `END`.
fn pem(text: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once("-----END")?;
    STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
}

/// The seed and the public key of a private key of OpenSSH (`PROTOCOL.key` in its sources), which must not be encrypted.
fn openssh(bytes: &[u8]) -> Option<[[u8; 32]; 2]> {
    let mut rest = bytes.strip_prefix(b"openssh-key-v1\0")?;
    let (cipher, kdf) = (field(&mut rest)?, field(&mut rest)?);
    let (_, count) = (field(&mut rest)?, rest.split_off(..4)?);
    if (cipher, kdf, count) != (b"none", b"none", &[0, 0, 0, 1]) {
        return None;
    }
    let _public = field(&mut rest)?;
    let mut secret = field(&mut rest)?;
    let _check = secret.split_off(..8)?;
    (field(&mut secret)? == SSH).then_some(())?;
    let (public, private) = (field(&mut secret)?, field(&mut secret)?);
    Some([private.get(..32)?.try_into().ok()?, public.try_into().ok()?])
}

/// Takes a length of 32 bits, and as many bytes.
fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u32::from_be_bytes(rest.split_off(..4)?.try_into().ok()?) as usize;
    rest.split_off(..len)
}
