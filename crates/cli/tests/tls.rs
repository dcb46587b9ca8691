//! `trine serve` with a certificate.
#![cfg(unix)]

mod common;

use common::server::{PATIENCE, Server};
use common::trine_with;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A certificate for `localhost` that vouches for itself, and its key, as PEM.
fn certificate(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A folder with the two files.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new(pair: &(String, String)) -> Files {
        let files = Files { folder: tempfile::tempdir().unwrap() };
        files.write(pair);
        files
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    fn write(&self, (certificate, key): &(String, String)) {
        std::fs::write(self.certificate(), certificate).unwrap();
        std::fs::write(self.key(), key).unwrap();
        self.mode(0o640);
    }

    fn mode(&self, mode: u32) {
        std::fs::set_permissions(self.key(), PermissionsExt::from_mode(mode)).unwrap();
    }

    fn args(&self) -> [String; 4] {
        let text = |path: &Path| path.display().to_string();
        ["--tls-cert".to_owned(), text(&self.certificate()), "--tls-key".to_owned(), text(&self.key())]
    }

    fn start(&self) -> Server {
        Server::start(&self.args().each_ref().map(String::as_str))
    }
}

type Connection = StreamOwned<ClientConnection, TcpStream>;

/// A connection of a client that trusts this certificate alone.
fn connect(server: &Server, (trusted, _): &(String, String)) -> Connection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let client = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let stream = TcpStream::connect(server.url.strip_prefix("https://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(client, stream)
}

/// The status of an answer, and the first bytes that follow.
fn get(connection: &mut Connection, path: &str) -> Result<String, std::io::Error> {
    connection.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes())?;
    let mut answer = vec![0; 12];
    connection.read_exact(&mut answer)?;
    let mut rest = [0; 4096];
    let n = connection.read(&mut rest)?;
    answer.extend(&rest[..n]);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn a_renewed_certificate_is_that_of_later_connections() {
    let (first, second) = (certificate(|_| ()), certificate(|_| ()));
    let files = Files::new(&first);
    let server = files.start();
    assert!(!server.seen.iter().any(|line| line.contains("warning: /")), "{:?}", server.seen);
    let mut early = connect(&server, &first);
    let answer = get(&mut early, "/health").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{\"status\":\"ok\"}"), "{answer}");
    assert!(get(&mut connect(&server, &second), "/health").is_err());
    // Who does not encrypt gets no answer.
    let mut plain = TcpStream::connect(server.url.strip_prefix("https://").unwrap()).unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));

    files.write(&second);
    server.signal("-HUP");
    server.wait_for_line("note: the certificate was read again");
    assert!(get(&mut connect(&server, &second), "/ready").unwrap().starts_with("HTTP/1.1 200"));
    assert!(get(&mut connect(&server, &first), "/ready").is_err());
    assert!(get(&mut early, "/ready").unwrap().starts_with("HTTP/1.1 200"), "a connection keeps its certificate");

    std::fs::write(files.certificate(), "").unwrap();
    server.signal("-HUP");
    let line = server.wait_for_line("error: the certificate stays as it is");
    assert!(line.contains("cert.pem: expected a certificate"), "{line}");
    assert!(get(&mut connect(&server, &second), "/ready").unwrap().starts_with("HTTP/1.1 200"));

    let old = certificate(|params| params.not_after = date_time_ymd(2020, 1, 2));
    files.write(&old);
    server.signal("-HUP");
    server.wait_for_line("cert.pem: a certificate expired at 2020-01-02T00:00:00Z: clients refuse it");
    assert!(get(&mut connect(&server, &old), "/ready").unwrap_err().to_string().contains("expired"));
}

#[test]
fn certificates_that_clients_refuse_and_keys_that_others_read_are_told() {
    let old = certificate(|params| params.not_after = date_time_ymd(2020, 1, 2));
    let early = certificate(|params| params.not_before = date_time_ymd(4000, 1, 2));
    let ancient = certificate(|params| params.not_after = date_time_ymd(1951, 1, 2));
    let good = certificate(|_| ());
    for (pair, mode, expected) in [
        (
            &ancient,
            0o600,
            "warning: PATH/cert.pem: a certificate has a date before 1970, or one that cannot be read: clients refuse it",
        ),
        (&old, 0o600, "warning: PATH/cert.pem: a certificate expired at 2020-01-02T00:00:00Z: clients refuse it"),
        (
            &early,
            0o600,
            "warning: PATH/cert.pem: a certificate is not valid before 4000-01-02T00:00:00Z: clients refuse it",
        ),
        (&good, 0o644, "warning: PATH/key.pem: other users can read or change the key, mode 644: chmod 600 it"),
    ] {
        let files = Files::new(pair);
        files.mode(mode);
        let expected = expected.replace("PATH", &files.folder.path().display().to_string());
        let server = files.start();
        assert!(server.seen.contains(&expected), "{expected}: {:?}", server.seen);
    }
}

#[test]
fn files_that_are_no_certificate_with_its_key_are_refused() {
    let (pair, other) = (certificate(|_| ()), certificate(|_| ()));
    let (certificate, key) = &pair;
    let broken = certificate.replace("-----END", "!\n-----END");
    // The number of the version is 0, for the first, in place of 2.
    let version_1 = certificate.replacen("AwIBAg", "AwIBAA", 1);
    let empty = String::new();
    for (certificate, key, expected) in [
        (&empty, key, "cert.pem: expected a certificate, and those that vouch for it as PEM: there is none"),
        (key, key, "cert.pem: expected a certificate, and those that vouch for it as PEM: there is none"),
        (&broken, key, "cert.pem: expected a certificate, and those that vouch for it as PEM"),
        (certificate, &empty, "key.pem: expected a private key as PEM"),
        (certificate, certificate, "key.pem: expected a private key as PEM"),
        (certificate, &other.1, "key.pem: keys may not be consistent"),
        (&version_1, key, "key.pem: the certificate is damaged, or older than version 3 of X.509"),
    ] {
        let files = Files::new(&(certificate.clone(), key.clone()));
        let args = files.args();
        let ran = trine_with(&[&["serve", "--port", "0"], &args.each_ref().map(String::as_str)[..]].concat());
        assert!(ran.code == 1 && ran.err.contains(expected), "{expected}: {}", ran.err);
    }
    let files = Files::new(&pair);
    std::fs::remove_file(files.key()).unwrap();
    let args = files.args();
    let ran = trine_with(&[&["serve", "--port", "0"], &args.each_ref().map(String::as_str)[..]].concat());
    assert!(ran.code == 1 && ran.err.contains("key.pem: expected a private key as PEM: "), "{}", ran.err);
}
