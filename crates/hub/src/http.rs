//! Requests: addresses, the token, redirects, and what is worth another attempt.

use crate::error::{Error, Result};
use crate::progress::{Progress, Retry};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use ureq::http::{Method, Request, Response, Uri, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Timeout};

/// Where models are if nothing else is said.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Redirects of one request.
const REDIRECTS: usize = 10;
/// Longest time that an answer may ask to wait for.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// Attempts to reach a hub that has not answered yet: it is rather misspelled or behind a proxy than away for a moment.
const CONTACTS: u32 = 3;
/// Longest time in which a connection is made.
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes of an error's body that are read.
const MESSAGE: u64 = 4096;

/// How to reach a hub, and where its models are kept.
#[derive(Clone, Debug)]
pub struct HubOptions {
    pub endpoint: String,
    /// Sent to the endpoint, and nowhere else.
    pub token: Option<String>,
    /// The folder of models, such as `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// Certificates in PEM that are trusted instead of Mozilla's.
    pub certificates: Option<Vec<u8>>,
    /// Ranges and files that are downloaded at once.
    pub connections: usize,
    /// Attempts in a row that bring nothing, before a request fails; three at most to reach a hub that has not answered yet.
    pub attempts: u32,
    /// The wait before the second attempt; each is twice as long as the one before.
    pub backoff: Duration,
    /// How long nothing may come before a connection counts as broken.
    pub stall: Duration,
}

impl HubOptions {
    pub fn new(cache: PathBuf) -> HubOptions {
        HubOptions {
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            token: None,
            cache,
            certificates: None,
            connections: 4,
            attempts: 6,
            backoff: Duration::from_secs(1),
            stall: Duration::from_secs(30),
        }
    }
}

pub struct Http {
    agent: Agent,
    endpoint: Uri,
    token: Option<String>,
    attempts: u32,
    backoff: Duration,
    pub stall: Duration,
    pub stop: AtomicBool,
    /// Whether anything has answered.
    reached: AtomicBool,
}

/// Why an attempt failed.
pub enum Failure {
    /// Another attempt may help, after this time if the hub said so.
    Passing(Error, Option<Duration>),
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Final(error)
    }
}

/// Attempts at a request.
pub struct Attempts<'a> {
    http: &'a Http,
    /// Those in a row that brought nothing.
    failed: u32,
    wait: Duration,
}

impl Attempts<'_> {
    /// Waits for the next attempt.
    ///
    /// # Errors
    /// The failure, when none is left or none would help.
    pub fn after(&mut self, failure: Failure, progress: &Progress) -> Result<()> {
        let (error, asked) = match failure {
            _ if self.http.is_stopped() => return Err(Error::Cancelled),
            Failure::Final(error) => return Err(error),
            Failure::Passing(error, asked) => (error, asked),
        };
        let is_contact = !self.http.reached.load(Relaxed) && matches!(error, Error::Unreachable { .. });
        let most = if is_contact { self.http.attempts.min(CONTACTS) } else { self.http.attempts };
        self.failed += 1;
        if self.failed >= most || asked.is_some_and(|asked| asked > LONGEST_WAIT) {
            return Err(error);
        }
        let wait = asked.unwrap_or(self.wait);
        progress.retry(Retry { problem: error.to_string(), wait, attempt: self.failed + 1, most }, is_contact);
        let until = Instant::now() + wait;
        self.wait = (self.wait * 2).min(LONGEST_WAIT / 4);
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if self.http.is_stopped() {
                return Err(Error::Cancelled);
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        Ok(())
    }

    /// Counts anew, since something came.
    pub fn renew(&mut self) {
        (self.failed, self.wait) = (0, self.http.backoff);
    }
}

/// An answer, and who gave it.
pub struct Answer {
    pub response: Response<Body>,
    pub uri: Uri,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The body as JSON, of at most `limit` bytes.
    pub fn json<T: serde::de::DeserializeOwned>(self, what: &str, limit: u64) -> Result<T, Failure> {
        let answer = |expected: &str, found: String| Error::Answer {
            what: what.to_owned(),
            expected: expected.to_owned(),
            found,
        };
        let host = host(&self.uri);
        let bytes =
            self.response.into_body().into_with_config().limit(limit).read_to_vec().map_err(|error| match error {
                ureq::Error::BodyExceedsLimit(_) => {
                    Failure::Final(answer(&format!("at most {limit} bytes"), "more".to_owned()))
                }
                error => broken(&host, &error),
            })?;
        serde_json::from_slice(&bytes).map_err(|error| Failure::Final(answer("JSON", format!("other text ({error})"))))
    }
}

/// Whom an address names, without secrets in its path or query.
pub fn host(uri: &Uri) -> String {
    let port = uri.port_u16().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}{port}", uri.host().unwrap_or("?"))
}

/// What the system says where no connection is made.
const UNREACHABLE: [ErrorKind; 4] =
    [ErrorKind::ConnectionRefused, ErrorKind::NetworkUnreachable, ErrorKind::HostUnreachable, ErrorKind::NetworkDown];

pub fn broken(host: &str, error: &ureq::Error) -> Failure {
    let problem = match error {
        ureq::Error::Timeout(_) => "the connection stalls".to_owned(),
        ureq::Error::HostNotFound => "no host of this name is found".to_owned(),
        error => error.to_string(),
    };
    let is_unreachable = match error {
        // The library gives a name that is not found no kind of its own.
        ureq::Error::Io(error) => UNREACHABLE.contains(&error.kind()) || error.to_string().contains("failed to lookup"),
        ureq::Error::Timeout(when) => matches!(when, Timeout::Connect | Timeout::Resolve),
        error => matches!(error, ureq::Error::HostNotFound | ureq::Error::ConnectionFailed),
    };
    let host = host.to_owned();
    let error_ =
        if is_unreachable { Error::Unreachable { host, problem } } else { Error::Connection { host, problem } };
    match error {
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Protocol(_) => Failure::Passing(error_, None),
        _ => Failure::Final(error_),
    }
}

fn is_same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |uri: &Uri| {
        uri.port_u16().or(match uri.scheme_str() {
            Some("https") => Some(443),
            Some("http") => Some(80),
            _ => None,
        })
    };
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    a.scheme_str() == b.scheme_str() && host(a) == host(b) && port(a) == port(b)
}

/// Where a redirect leads. Addresses with a user or another scheme lead nowhere.
fn target(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next()?;
    let authority = base.authority()?.as_str();
    let scheme = base.scheme_str()?;
    let text = if location.contains("://") && !location.starts_with('/') {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let uri: Uri = text.parse().ok()?;
    let is_downgrade = scheme == "https" && uri.scheme_str() != Some("https");
    let is_plain = matches!(uri.scheme_str(), Some("http" | "https")) && !uri.authority()?.as_str().contains('@');
    (is_plain && !is_downgrade).then_some(uri)
}

impl Http {
    /// # Errors
    /// When the endpoint is no address, or the certificates are none.
    pub fn new(options: &HubOptions) -> Result<Http> {
        let odd = || Error::Name {
            what: "endpoint",
            expected: "an address such as https://huggingface.co",
            found: shown(&options.endpoint),
        };
        let endpoint: Uri = options.endpoint.trim_end_matches('/').parse().map_err(|_| odd())?;
        let is_http = matches!(endpoint.scheme_str(), Some("http" | "https"));
        if !is_http
            || endpoint.query().is_some()
            || endpoint.authority().is_none_or(|authority| authority.as_str().contains('@'))
        {
            return Err(odd());
        }
        if options
            .token
            .as_deref()
            .is_some_and(|token| token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            let expected = "letters, digits and signs without spaces";
            return Err(Error::Name { what: "token", expected, found: "***".to_owned() });
        }
        let mut tls = TlsConfig::builder();
        if let Some(pem) = &options.certificates {
            let items = parse_pem(pem).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            });
            let certificates: Vec<Certificate> = items.collect();
            if certificates.is_empty() {
                return Err(Error::Name {
                    what: "certificates",
                    expected: "certificates in PEM",
                    found: "none".to_owned(),
                });
            }
            tls = tls.root_certs(RootCerts::from(certificates));
        }
        let config = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("trine/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .tls_config(tls.build())
            .timeout_connect(Some(options.stall.min(CONNECT)))
            .timeout_per_read(Some(options.stall))
            .timeout_per_write(Some(options.stall))
            .timeout_recv_response(Some(options.stall * 2))
            .max_idle_connections_per_host(options.connections.max(1));
        let (token, attempts, backoff) = (options.token.clone(), options.attempts.max(1), options.backoff);
        Ok(Http {
            agent: config.build().into(),
            endpoint,
            token,
            attempts,
            backoff,
            stall: options.stall,
            stop: AtomicBool::new(false),
            reached: AtomicBool::new(false),
        })
    }

    /// The host of the endpoint.
    pub fn host(&self) -> String {
        host(&self.endpoint)
    }

    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    pub fn stop(&self) {
        if !self.stop.swap(true, Relaxed) {
            self.agent.clone().shutdown();
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    pub fn attempts(&self) -> Attempts<'_> {
        Attempts { http: self, failed: 0, wait: self.backoff }
    }

    /// An address of the hub.
    ///
    /// # Errors
    /// When there is none.
    pub fn address(&self, path: &str) -> Result<Uri> {
        let text = format!("{}{path}", self.endpoint.to_string().trim_end_matches('/'));
        text.parse().map_err(|_| Error::Name { what: "address", expected: "an address", found: text })
    }

    /// One attempt at a request. Redirects are followed; the token goes to no other host. `ends_at` may end them earlier.
    ///
    /// # Errors
    /// When no answer comes, or one that is no success.
    pub fn request(
        &self,
        method: &Method,
        uri: &Uri,
        range: Option<(u64, u64)>,
        ends_at: impl Fn(&Answer) -> bool,
        what: &str,
    ) -> Result<Answer, Failure> {
        let mut uri = uri.clone();
        for _ in 0..REDIRECTS {
            if self.is_stopped() {
                return Err(Error::Cancelled.into());
            }
            let mut request = Request::builder().method(method).uri(&uri);
            if let Some(token) = self.token.as_ref().filter(|_| is_same_origin(&uri, &self.endpoint)) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            if let Some((first, last)) = range {
                request = request.header(header::RANGE, format!("bytes={first}-{last}"));
            }
            let unfit =
                |error: &dyn std::fmt::Display| Error::Connection { host: host(&uri), problem: error.to_string() };
            let request = request.body(()).map_err(|error| unfit(&error))?;
            let response = self.agent.run(request).map_err(|error| broken(&host(&uri), &error))?;
            self.reached.store(true, Relaxed);
            let answer = Answer { response, uri: uri.clone() };
            let status = answer.status();
            if (200..300).contains(&status) || ends_at(&answer) {
                return Ok(answer);
            }
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return Err(self.refused(answer, what));
            }
            let location = answer.header("location").unwrap_or_default();
            let odd = || Error::Answer {
                what: host(&uri),
                expected: "a redirect to an HTTP address that is as secure".to_owned(),
                found: location.split('?').next().unwrap_or_default().to_owned(),
            };
            uri = target(&uri, location).ok_or_else(odd)?;
        }
        Err(Error::Answer {
            what: what.to_owned(),
            expected: format!("at most {REDIRECTS} redirects"),
            found: "more".to_owned(),
        }
        .into())
    }

    fn refused(&self, answer: Answer, what: &str) -> Failure {
        let status = answer.status();
        let of_hub = is_same_origin(&answer.uri, &self.endpoint);
        let code = answer.header("x-error-code").unwrap_or_default().to_owned();
        let mut message = answer.header("x-error-message").unwrap_or_default().to_owned();
        let asked = answer.header("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        if message.is_empty() && status != 404 {
            let bytes = answer.response.into_body().into_with_config().limit(MESSAGE).read_to_vec().unwrap_or_default();
            let json: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
            message = json.and_then(|json| json.get("error")?.as_str().map(str::to_owned)).unwrap_or_default();
        }
        let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
        let what = what.to_owned();
        match status {
            // What is not there and what is not public is the same to a stranger.
            401 if of_hub && code == "RepoNotFound" => Error::NotFound { what, near: Vec::new() }.into(),
            401 | 403 if of_hub && code != "EntryNotFound" => {
                Error::Denied { what, status, has_token: self.has_token(), message }.into()
            }
            404 | 410 if of_hub => Error::NotFound { what, near: Vec::new() }.into(),
            408 | 429 | 500 | 502..=504 => Failure::Passing(Error::Status { what, status, message }, asked),
            // The address of another host was valid for some time.
            401 | 403 if !of_hub => Failure::Passing(Error::Status { what, status, message }, asked),
            _ => Error::Status { what, status, message }.into(),
        }
    }

    /// A request that is repeated as long as that may help.
    ///
    /// # Errors
    /// Those of the last attempt.
    pub fn repeat<T>(&self, progress: &Progress, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
        let mut attempts = self.attempts();
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(failure) => attempts.after(failure, progress)?,
            }
        }
    }
}

/// An address without a password.
fn shown(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((_, rest)) => format!("***@{rest}"),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_addresses_that_are_as_secure() {
        let base: Uri = "https://hub.test/a/b?x=1".parse().unwrap();
        let to = |location: &str| target(&base, location).map(|uri| uri.to_string());
        assert_eq!(to("/c?d=://e").as_deref(), Some("https://hub.test/c?d=://e"));
        assert_eq!(to("c").as_deref(), Some("https://hub.test/a/c"));
        assert_eq!(to("//cdn.test/c#f").as_deref(), Some("https://cdn.test/c"));
        assert_eq!(to("https://cdn.test:8443/c").as_deref(), Some("https://cdn.test:8443/c"));
        for odd in ["http://hub.test/c", "file:///etc/passwd", "https://user:x@cdn.test/c", "ftp://x.test/", "https://"]
        {
            assert_eq!(to(odd), None, "{odd}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a: &str, b: &str| is_same_origin(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(same("https://hub.test/a", "https://HUB.test:443/b"));
        for other in ["http://hub.test", "https://hub.test:444", "https://cdn.hub.test", "https://hub.test.evil.test"] {
            assert!(!same("https://hub.test", other), "{other}");
        }
    }

    #[test]
    fn endpoints_are_addresses_without_secrets() {
        let make = |endpoint: &str| {
            let options = HubOptions { endpoint: endpoint.to_owned(), ..HubOptions::new(PathBuf::new()) };
            Http::new(&options).map(|http| http.address("/x").unwrap().to_string())
        };
        assert_eq!(make("http://127.0.0.1:80/hub/").unwrap(), "http://127.0.0.1:80/hub/x");
        for odd in ["", "hub.test", "ftp://hub.test", "https://u:secret@hub.test", "https://hub.test?x"] {
            assert!(!make(odd).unwrap_err().to_string().contains("secret"), "{odd}");
        }
    }
}
