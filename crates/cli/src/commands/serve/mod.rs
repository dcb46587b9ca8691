mod open;
mod process;

use super::bench::ItlTarget;
use crate::exit::{Exit, UsageError};
use crate::load::{self, EngineArgs, LoadArgs};
use crate::table;
use crate::warm::WarmArgs;
use anyhow::{Context, Result};
use bytesize::ByteSize;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum, value_parser};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;
use trine_server::keys::Keys;
use trine_server::{App, Exporter, Inherited, Listen, Server, ServerOptions, Tls, TrustedProxy};

/// Serve a model by the APIs of OpenAI, Anthropic and Ollama
///
/// Without a model, the small one built into trine is served, unless --embedding-model names one for embeddings alone. Requests run at
/// once, and none changes the answer to another.
/// SIGTERM and Ctrl-C let the answers under way finish; a second one ends them.
///
/// Only this machine may connect, unless --host says otherwise.
///
/// Each option has a variable of its name, such as TRINE_MAX_QUEUED, which it overrides; TRINE_MODEL is the model. A TRINE_ of another name is
/// refused.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine serve                        the built-in model at http://127.0.0.1:8080\n  \
    trine serve model.gguf --port 80\n  \
    trine serve model.gguf --parallel 16 --context 8192 --cache-type q8_0")]
pub struct Serve {
    /// Model: a GGUF or safetensors file, or its folder [default: built-in]
    #[arg(env = "TRINE_MODEL")]
    model: Option<PathBuf>,
    /// Address to listen at, or the path of a UNIX socket: unix:/run/trine.sock
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen at; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// Name of the model in requests and answers [default: that of the file]
    #[arg(long, value_name = "NAME", visible_alias = "served-model-name", value_parser = NonEmptyStringValueParser::new())]
    alias: Option<String>,
    /// Model for /v1/embeddings
    #[arg(long, value_name = "MODEL")]
    embedding_model: Option<PathBuf>,
    /// Answer only requests with a key of this file, which `trine key new` writes
    ///
    /// Others must not be able to read it. SIGHUP reads it again.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Answer only requests with this key
    #[arg(
        long,
        value_name = "KEY",
        conflicts_with = "keys",
        hide_short_help = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    api_key: Option<String>,
    /// Certificate of the server as PEM, followed by those that vouch for it: connections are encrypted
    ///
    /// SIGHUP reads it again.
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    tls_cert: Option<PathBuf>,
    /// Private key of that certificate as PEM
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    tls_key: Option<PathBuf>,
    /// Let anybody who can connect use the server, also from other machines
    #[arg(long, conflicts_with_all = ["keys", "api_key"])]
    no_auth: bool,
    /// Let requests of different keys share no keys and values of equal beginnings
    ///
    /// How long a prompt takes tells a client what others have asked before. With this, it does not, and a beginning that many
    /// clients share is read once for each.
    #[arg(long, hide_short_help = true)]
    isolate_keys: bool,
    /// Let pages of this origin ask, such as https://chat.example.org, or of several with commas between; * is all
    #[arg(long, value_name = "ORIGIN", hide_short_help = true, value_delimiter = ',', value_parser = origin)]
    cors_origin: Vec<String>,
    /// Take the addresses of clients from X-Forwarded-For of this proxy: an address, a network such as 10.0.0.0/8, or unix for the UNIX socket
    ///
    /// Several have commas between. The header of others is ignored. Clients without keys are told apart by their addresses, which RUST_LOG=info logs.
    #[arg(long, value_name = "CIDR|unix", hide_short_help = true, value_delimiter = ',')]
    trusted_proxy: Vec<TrustedProxy>,
    /// Number of requests to run at once; others wait
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = value_parser!(u32).range(1..=1024))]
    parallel: u32,
    /// Milliseconds that a step may take while an answer is generated, or off
    ///
    /// Prompts are read in pieces that keep to it.
    #[arg(long, value_name = "MS", default_value = "250", hide_short_help = true)]
    itl_target: ItlTarget,
    /// Number of requests that may wait; more are refused with status 429
    #[arg(long, value_name = "N", default_value_t = 256, hide_short_help = true)]
    max_queued: u32,
    /// Number of tokens that the prompts of waiting requests may have together [default: no limit]
    #[arg(long, value_name = "N", hide_short_help = true, value_parser = value_parser!(u32).range(1..))]
    max_queued_tokens: Option<u32>,
    /// Milliseconds that texts to embed wait for those of other requests while the model is free
    ///
    /// Requests that come while it is busy share the next pass in any case.
    #[arg(long, value_name = "MS", default_value_t = 0, hide_short_help = true, value_parser = value_parser!(u32).range(..=60_000))]
    embedding_wait: u32,
    /// Memory for the KV cache [default: room for all requests, or for what half of the free memory holds]
    #[arg(long, value_name = "SIZE", hide_short_help = true)]
    cache_size: Option<ByteSize>,
    /// Bytes of a request at most
    ///
    /// Bodies that come at once have room for eight times as many; more are refused with status 503. Those that become requests at once
    /// have no more than this together, and take up to fifty times as much memory.
    #[arg(long, value_name = "SIZE", default_value = "16MiB", hide_short_help = true, value_parser = body_size)]
    max_body: ByteSize,
    /// Seconds that a request may take to come, and that a client may take nothing of its answer
    #[arg(long, value_name = "S", default_value_t = 60, hide_short_help = true, value_parser = value_parser!(u32).range(1..))]
    io_timeout: u32,
    /// Connections at once
    ///
    /// For more, those that have waited for a request the longest are closed; if none waits for one, they wait themselves.
    #[arg(long, value_name = "N", default_value_t = 4096, hide_short_help = true, value_parser = value_parser!(u32).range(1..))]
    max_connections: u32,
    /// Seconds that answers under way may take when the server is told to end
    #[arg(long, value_name = "S", default_value_t = 30, hide_short_help = true)]
    drain_timeout: u32,
    /// Show the metrics under vLLM's names, too
    #[arg(long, hide_short_help = true)]
    vllm_metrics: bool,
    /// Answer a short fixed request every S seconds; other tokens than at start make /health and /ready fail [default: never]
    #[arg(long, value_name = "S", hide_short_help = true, value_parser = value_parser!(u32).range(1..))]
    self_test_interval: Option<u32>,
    /// Send a span for each request to an OpenTelemetry collector at this address, such as http://127.0.0.1:4318
    ///
    /// OTEL_EXPORTER_OTLP_ENDPOINT counts where TRINE_OTLP_ENDPOINT is unset.
    #[arg(long, value_name = "URL", hide_short_help = true, hide_env_values = true, value_parser = http_url)]
    otlp_endpoint: Option<String>,
    /// Warn when the process has four fifths of its memory limit, and refuse new requests while it has nine tenths
    ///
    /// The limit is --mem-limit, or that of a control group. What is mapped from files does not count: the system takes it back.
    #[arg(long, hide_short_help = true)]
    watch_memory: bool,
    /// Give memory back to the system when no request has run for this many seconds
    ///
    /// Beginnings of earlier prompts are computed again afterwards, unless --cache-dir keeps them. POST /admin/trim does the same at once.
    #[arg(long, value_name = "S", hide_short_help = true, value_parser = value_parser!(u32).range(1..))]
    trim_after: Option<u32>,
    // `environment` starts the log, before the command is there.
    /// How the log on stderr is written; json has a line for each request, too, unless RUST_LOG says otherwise
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_short_help = true)]
    log_format: LogFormat,
    /// Print no notes and warnings
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    engine_args: EngineArgs,
    #[command(flatten)]
    warm: WarmArgs,
}

/// How a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl Serve {
    pub fn run(self) -> Result<Exit> {
        let inherited = process::inherited()?;
        let listen = self.listen(inherited.as_ref())?;
        let memory_limit = self.watched_limit()?;
        let (keys, tls) = (self.open_keys()?, self.open_tls()?);
        if !self.quiet {
            tls.iter().for_each(process::warn);
        }
        self.engine_args.check(self.quiet)?;
        // A signal ends the reading of a pipe at once.
        let prefixes = self.warm.read()?;
        // The address is checked before a model is loaded, which may take minutes.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(16)
            .enable_all()
            .thread_name("trine-server")
            .build()
            .context("cannot start the threads of the server")?;
        let (stop, ended) = process::signals(&runtime)?;
        let (mut generation, mut embedding) = (self.model.clone(), self.embedding_model.clone());
        if generation.is_none() && embedding.is_none() {
            generation = Some(load::unnamed("", self.quiet)?);
        }
        // An encoder gives embeddings, and nothing else.
        if let Some(model) = generation.take_if(|model| self.is_encoder(model))
            && embedding.replace(model).is_some()
        {
            let message = "the model makes embeddings, and --embedding-model names another".to_owned();
            return Err(UsageError { message, hint: "omit one of them" }.into());
        }
        let generator = generation.map(|model| self.generator(&model, prefixes, &stop)).transpose()?;
        let beside = generator.as_ref().map(|generator| generator.served.name.clone());
        let embeddings = embedding.map(|model| self.embeddings(&model, beside.as_deref(), &stop)).transpose()?;
        for (option, is_given, hint) in [
            ("--self-test-interval", self.self_test_interval.is_some(), "omit it: the test generates a few tokens"),
            ("--trim-after", self.trim_after.is_some(), "omit it: embeddings leave nothing in a cache"),
        ] {
            if is_given && generator.is_none() {
                let message = format!("{option}: expected a model that generates, found one for embeddings alone");
                return Err(UsageError { message, hint }.into());
            }
        }
        let options = ServerOptions {
            listen,
            max_body: self.max_body.as_u64() as usize,
            read_timeout: Duration::from_secs(self.io_timeout.into()),
            write_timeout: Duration::from_secs(self.io_timeout.into()),
            max_connections: self.max_connections as usize,
            drain_timeout: Duration::from_secs(self.drain_timeout.into()),
            vllm_metrics: self.vllm_metrics,
            cors_origins: self.cors_origin.clone(),
            self_test_interval: self.self_test_interval.map(|seconds| Duration::from_secs(seconds.into())),
            trusted_proxies: self.trusted_proxy.clone(),
            isolate_keys: self.isolate_keys,
            ..ServerOptions::default()
        };
        let mut app = App::new(options, generator, embeddings);
        (app.keys, app.tls) = (keys, tls);
        let exporter = |endpoint| Exporter::start(endpoint, process::tell_outage(self.quiet));
        app.exporter = self.otlp_endpoint.as_deref().map(exporter).transpose()?;
        let names: Vec<&str> = app.names().collect();
        let names = names.join(" and ");
        let ended = runtime.block_on(async {
            let at = format!("cannot listen at {}", self.place());
            let server = match inherited {
                Some(listener) => Server::inherit(app, listener)?,
                None => Server::bind(app).await.context(at)?,
            };
            if !self.quiet {
                note!("serving {} at {}", table::visible(&names), server.url());
            }
            process::obey_signals(server.app(), self.quiet)?;
            process::tell_systemd(server.app().clone());
            if let Some(limit) = memory_limit {
                process::watch_memory(server.app().clone(), limit, self.quiet);
            }
            if let Some(after) = self.trim_after {
                process::trim_when_idle(server.app().clone(), Duration::from_secs(after.into()));
            }
            if let Some(target) = self.itl_target.0.filter(|_| !self.quiet) {
                process::watch_pace(server.app().clone(), target);
            }
            let end = async {
                let _ = ended.await;
                process::stopping();
            };
            server.run(end).await;
            Ok(Exit::Done)
        });
        // What still prepares a request that nobody waits for ends with the program.
        runtime.shutdown_background();
        ended
    }

    /// The bytes that the process may have, if that is watched.
    fn watched_limit(&self) -> Result<Option<u64>> {
        let limit = self.load.machine.memory_limit();
        if self.watch_memory && limit.is_none() {
            let message = "--watch-memory: nothing limits the memory of this process".to_owned();
            return Err(UsageError { message, hint: "--mem-limit sets a limit" }.into());
        }
        Ok(limit.filter(|_| self.watch_memory))
    }

    /// The keys that open the server.
    fn open_keys(&self) -> Result<Option<Keys>> {
        match (&self.keys, &self.api_key) {
            (Some(path), _) => Ok(Some(Keys::open(path)?)),
            (None, Some(key)) if key.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Some(Keys::one(key))),
            // The message does not tell the key.
            (None, Some(_)) => {
                let message = "--api-key: expected a key that a header can carry".to_owned();
                Err(UsageError { message, hint: "use letters, digits and signs of ASCII, without spaces" }.into())
            }
            (None, None) => {
                if !self.no_auth {
                    self.warn_of_empty(["TRINE_KEYS", "TRINE_API_KEY"], "the server asks for no key");
                }
                Ok(None)
            }
        }
    }

    fn open_tls(&self) -> Result<Option<Tls>> {
        let (names, lacks) = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => return Ok(Some(Tls::open(certificate, key)?)),
            (None, None) => {
                self.warn_of_empty(["TRINE_TLS_CERT", "TRINE_TLS_KEY"], "connections are not encrypted");
                return Ok(None);
            }
            (Some(_), None) => ("--tls-cert", "--tls-key"),
            (None, Some(_)) => ("--tls-key", "--tls-cert"),
        };
        let message = format!("{names} is given, and {lacks} is not: connections would not be encrypted");
        Err(UsageError { message, hint: "give both, or none" }.into())
    }

    /// Tells of variables that would close the server if they were not empty.
    fn warn_of_empty(&self, names: [&str; 2], so: &str) {
        let is_empty = |name: &&str| std::env::var_os(name).is_some_and(|value| value.is_empty());
        for name in names.into_iter().filter(is_empty).filter(|_| !self.quiet) {
            note!("warning: {name} is empty, which counts as unset: {so}");
        }
    }

    fn place(&self) -> String {
        match self.host.strip_prefix("unix:") {
            Some(path) => path.to_owned(),
            None => format!("{}:{}", self.host, self.port),
        }
    }

    /// Where to listen. Other machines may connect only if somebody says so.
    fn listen(&self, inherited: Option<&Inherited>) -> Result<Listen> {
        match inherited {
            Some(Inherited::Tcp(listener)) => {
                let address = listener.local_addr().context("the socket that was handed over")?;
                self.check_open(&address, &format!("the socket at {address}"))?;
                return Ok(Listen::Tcp(address));
            }
            #[cfg(unix)]
            Some(Inherited::Unix(listener)) => {
                let address = listener.local_addr().context("the socket that was handed over")?;
                return Ok(Listen::Unix(address.as_pathname().map_or_else(PathBuf::new, Into::into)));
            }
            None => {}
        }
        if let Some(path) = self.host.strip_prefix("unix:") {
            if path.is_empty() {
                let message = "--host unix: expected the path of a socket".to_owned();
                return Err(UsageError { message, hint: "such as unix:/run/trine.sock" }.into());
            }
            return Ok(Listen::Unix(path.into()));
        }
        let host = self.host.trim_matches(['[', ']']);
        let address = match host.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, self.port),
            Err(_) => {
                let mut found = (host, self.port).to_socket_addrs().with_context(|| format!("--host {host}"))?;
                found.next().with_context(|| format!("--host {host}: the name has no address"))?
            }
        };
        self.check_open(&address, &format!("--host {host}"))?;
        Ok(Listen::Tcp(address))
    }

    /// Refuses an address that other machines reach where nothing keeps them out.
    fn check_open(&self, address: &SocketAddr, place: &str) -> Result<()> {
        let open = self.keys.is_none() && self.api_key.is_none() && !self.no_auth;
        if !address.ip().to_canonical().is_loopback() && open {
            let message = format!("{place} lets other machines connect, and there are no keys");
            return Err(UsageError {
                message,
                hint: "--keys names a file of `trine key new`; --no-auth lets anybody in",
            }
            .into());
        }
        Ok(())
    }
}

/// An origin as browsers send it: a scheme and a host, without a path.
fn origin(text: &str) -> Result<String, String> {
    let host = text.split_once("://").map(|(_, host)| host);
    match text == "*" || host.is_some_and(|host| !host.is_empty() && !host.contains('/')) {
        true => Ok(text.to_owned()),
        false => Err("expected an origin such as https://chat.example.org, without a path, or *".to_owned()),
    }
}

/// A number of bytes that is not 0.
fn body_size(text: &str) -> Result<ByteSize, &'static str> {
    match crate::machine::size(text)? {
        ByteSize(0) => Err("expected at least 1 byte"),
        size => Ok(size),
    }
}

/// The address of a collector, without what requests to it would not have.
fn http_url(text: &str) -> Result<String, String> {
    let place = text.strip_prefix("http://").ok_or("expected an address that begins with http://")?;
    match place.is_empty() || place.starts_with('/') || place.contains(['@', '?', '#']) {
        false => Ok(text.to_owned()),
        true => Err("expected an address such as http://127.0.0.1:4318, without user, query and fragment".to_owned()),
    }
}
