use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

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
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads a chain of certificates, the server's own first, and its key.
    ///
    /// # Errors
    /// When a file cannot be read, or they do not belong together.
    pub fn open(certificate: &Path, key: &Path) -> Result<Tls, TlsError> {
        let config = RwLock::new(read(certificate, key)?);
        Ok(Tls { certificate: certificate.to_owned(), key: key.to_owned(), config })
    }

    /// Reads the files again, for connections to come. What cannot be read leaves the certificate as it is.
    ///
    /// # Errors
    /// Those of [`Tls::open`].
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = read(&self.certificate, &self.key)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone().into()
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
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
    let pair = |error: tokio_rustls::rustls::Error| TlsError::Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        problem: error.to_string(),
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(pair)?.with_no_client_auth();
    Ok(Arc::new(builder.with_single_cert(certificates, private).map_err(pair)?))
}
