use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore, ServerConfig};

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or is no PEM file of this kind.
    #[error("{}: expected {expected} as PEM: {problem}", path.display())]
    File { path: PathBuf, expected: &'static str, problem: String },
    /// The key is not that of the certificate, or of a kind that is not known.
    #[error("{} and {}: {problem}", certificate.display(), key.display())]
    Pair { certificate: PathBuf, key: PathBuf, problem: String },
}

/// A certificate with its key, from files that may change.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    pair: RwLock<Pair>,
}

/// What the files were when they were last read.
struct Pair {
    config: Arc<ServerConfig>,
    warnings: Vec<String>,
}

impl Tls {
    /// Reads a chain of certificates, the server's own first, and its key.
    ///
    /// # Errors
    /// When a file cannot be read, or they do not belong together.
    pub fn open(certificate: &Path, key: &Path) -> Result<Tls, TlsError> {
        let pair = RwLock::new(read(certificate, key)?);
        Ok(Tls { certificate: certificate.to_owned(), key: key.to_owned(), pair })
    }

    /// Reads the files again, for connections to come. What cannot be read leaves the certificate as it is.
    ///
    /// # Errors
    /// Those of [`Tls::open`].
    pub fn reload(&self) -> Result<(), TlsError> {
        let pair = read(&self.certificate, &self.key)?;
        *self.pair.write().unwrap_or_else(PoisonError::into_inner) = pair;
        Ok(())
    }

    /// What an operator should know of the files: a certificate that clients refuse, a key that others can read.
    pub fn warnings(&self) -> Vec<String> {
        self.pair.read().unwrap_or_else(PoisonError::into_inner).warnings.clone()
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.pair.read().unwrap_or_else(PoisonError::into_inner).config.clone().into()
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Pair, TlsError> {
    let file = |path: &Path, expected, problem: &dyn std::fmt::Display| TlsError::File {
        path: path.to_owned(),
        expected,
        problem: problem.to_string(),
    };
    let chain = "a certificate, and those that vouch for it";
    let certificates = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| file(certificate, chain, &error))?;
    if certificates.is_empty() {
        return Err(file(certificate, chain, &"there is none"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| file(key, "a private key", &error))?;
    let pair = |error: Error| TlsError::Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        problem: match error {
            // Its text is about the certificate of a peer.
            Error::InvalidCertificate(_) => "the certificate is damaged, or older than version 3 of X.509".to_owned(),
            error => error.to_string(),
        },
    };
    let dates = certificates
        .iter()
        .filter_map(|one| wrong_date(one))
        .map(|date| format!("{}: {date}: clients refuse it", certificate.display()));
    let warnings = dates.chain(readable_by_all(key)).collect();
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(pair)?.with_no_client_auth();
    let config = Arc::new(builder.with_single_cert(certificates, private).map_err(pair)?);
    Ok(Pair { config, warnings })
}

/// Why a certificate is not valid today.
fn wrong_date(certificate: &CertificateDer) -> Option<String> {
    let certificate = ParsedCertificate::try_from(certificate).ok()?;
    // Nobody vouches for it here, but dates are checked before that.
    let checked =
        verify_server_cert_signed_by_trust_anchor(&certificate, &RootCertStore::empty(), &[], UnixTime::now(), &[]);
    let date = |time: UnixTime| trine_api::ollama::time(time.as_secs());
    match checked {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Some(format!("a certificate expired at {}", date(not_after)))
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
            Some(format!("a certificate is not valid before {}", date(not_before)))
        }
        Err(Error::InvalidCertificate(CertificateError::BadEncoding)) => {
            Some("a certificate has a date before 1970, or one that cannot be read".to_owned())
        }
        _ => None,
    }
}

/// Says that every user can read a key. A group may, such as Debian's `ssl-cert`.
fn readable_by_all(key: &Path) -> Option<String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let mode = key.metadata().ok()?.mode() & 0o777;
        (mode & 0o007 != 0)
            .then(|| format!("{}: other users can read or change the key, mode {mode:o}: chmod 600 it", key.display()))
    }
    #[cfg(not(unix))]
    {
        let _ = key;
        None
    }
}
