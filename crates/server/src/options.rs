use crate::TrustedProxy;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

/// Where to listen, and what a client may do.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    pub listen: Listen,
    /// Bytes of a body at most.
    pub max_body: usize,
    /// Bytes of a request's line and headers at which it is refused, about; at least 8 KiB.
    pub max_headers: usize,
    /// How long the headers and the body of a request may take to come.
    pub read_timeout: Duration,
    /// How long a client may take nothing of its answer, before its connection ends and its request is cancelled.
    pub write_timeout: Duration,
    /// Connections at once. For more, those that have waited for a request the longest are closed; if all are busy, they wait.
    pub max_connections: usize,
    /// How long requests may go on when the server is told to end.
    pub drain_timeout: Duration,
    /// How often a stream without tokens gets a comment or an event without text, so that nobody between takes it for dead.
    pub ping_interval: Duration,
    /// Origins whose pages may ask, beside the server's own; `*` is all.
    pub cors_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` names the client.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// How often a fixed request is answered that must have the same tokens as at first.
    pub self_test_interval: Option<Duration>,
    /// Let requests of different keys share no keys and values of equal beginnings.
    pub isolate_keys: bool,
    /// Offer the metrics under vLLM's names, too.
    pub vllm_metrics: bool,
}

impl Default for ServerOptions {
    /// Port 8080 of this machine alone.
    fn default() -> ServerOptions {
        ServerOptions {
            listen: Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 8080))),
            max_body: 16 << 20,
            max_headers: 64 << 10,
            read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            max_connections: 4096,
            drain_timeout: Duration::from_secs(30),
            ping_interval: Duration::from_secs(15),
            cors_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            self_test_interval: None,
            isolate_keys: false,
            vllm_metrics: false,
        }
    }
}

/// Where connections come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    /// A UNIX socket with this path.
    Unix(PathBuf),
}

/// A socket that listens already.
#[derive(Debug)]
pub enum Inherited {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixListener),
}
