use super::bench::ItlTarget;
use crate::exit::{Exit, UsageError};
use crate::load::{self, EngineArgs, LoadArgs};
use crate::warm::{self, WarmArgs};
use crate::{table, units};
use anyhow::{Context, Result};
use bytesize::ByteSize;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, value_parser};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use trine::{Embedder, Llm, Options};
use trine_api::{PLAIN_TEMPLATE, Problem, ProblemKind, Served};
use trine_engine::{Handle, Prompt, Sampling};
use trine_model::Spec;
use trine_server::keys::Keys;
use trine_server::{App, Embeddings, Exporter, Generator, Listen, Server, ServerOptions, Tls};
use trine_tensor::OpenOptions;
use trine_text::{ChatFormat, Template};

/// Serve a model to programs that speak OpenAI's API
///
/// Without a model, the small one built into trine is served. Requests run at once, and none changes the answer to another.
/// SIGTERM and Ctrl-C let the answers under way finish; a second one ends them.
///
/// Only this machine may connect, unless --host says otherwise.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine serve                        the built-in model at http://127.0.0.1:8080\n  \
    trine serve model.gguf --port 80\n  \
    trine serve model.gguf --parallel 16 --context 8192 --cache-type q8_0")]
pub struct Serve {
    /// Model: a GGUF or safetensors file, or its folder [default: built-in]
    model: Option<PathBuf>,
    /// Address to listen at, or the path of a UNIX socket: unix:/run/trine.sock
    #[arg(long, value_name = "HOST", env = "TRINE_HOST", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen at; 0 takes a free one
    #[arg(long, value_name = "N", env = "TRINE_PORT", default_value_t = 8080)]
    port: u16,
    /// Name of the model in requests and answers [default: that of the file]
    #[arg(long, value_name = "NAME", visible_alias = "served-model-name")]
    alias: Option<String>,
    /// Model for /v1/embeddings
    #[arg(long, value_name = "MODEL")]
    embedding_model: Option<PathBuf>,
    /// Answer only requests with a key of this file, which `trine key new` writes
    ///
    /// Others must not be able to read it. SIGHUP reads it again.
    #[arg(long, value_name = "FILE", env = "TRINE_KEYS")]
    keys: Option<PathBuf>,
    /// Answer only requests with this key
    #[arg(
        long,
        value_name = "KEY",
        env = "TRINE_API_KEY",
        hide_env_values = true,
        conflicts_with = "keys",
        hide_short_help = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    api_key: Option<String>,
    /// Certificate of the server as PEM, followed by those that vouch for it: connections are encrypted
    ///
    /// SIGHUP reads it again.
    #[arg(long, value_name = "FILE", env = "TRINE_TLS_CERT", requires = "tls_key", hide_short_help = true)]
    tls_cert: Option<PathBuf>,
    /// Private key of that certificate as PEM
    #[arg(long, value_name = "FILE", env = "TRINE_TLS_KEY", requires = "tls_cert", hide_short_help = true)]
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
    /// Let pages of this origin ask, such as https://chat.example.org; may be repeated, and * is all
    #[arg(long, value_name = "ORIGIN", hide_short_help = true, value_parser = origin)]
    cors_origin: Vec<String>,
    /// Number of requests to run at once; others wait
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = value_parser!(u32).range(1..=1024))]
    parallel: u32,
    /// Milliseconds that a step may take while an answer is generated, or off
    ///
    /// Prompts are read in pieces that keep to it.
    #[arg(long, value_name = "MS", default_value = "100", hide_short_help = true)]
    itl_target: ItlTarget,
    /// Number of requests that may wait; more are refused with status 429
    #[arg(long, value_name = "N", default_value_t = 256, hide_short_help = true)]
    max_queued: u32,
    /// Number of tokens that the prompts of waiting requests may have together [default: no limit]
    #[arg(long, value_name = "N", hide_short_help = true, value_parser = value_parser!(u32).range(1..))]
    max_queued_tokens: Option<u32>,
    /// Memory for the KV cache [default: room for all requests, or for what half of the free memory holds]
    #[arg(long, value_name = "SIZE", hide_short_help = true)]
    cache_size: Option<ByteSize>,
    /// Bytes of a request at most
    #[arg(long, value_name = "SIZE", default_value = "16MiB", hide_short_help = true)]
    max_body: ByteSize,
    /// Seconds that a request may take to come, and a client of a stream to take nothing
    #[arg(long, value_name = "S", default_value_t = 60, hide_short_help = true, value_parser = value_parser!(u32).range(1..))]
    io_timeout: u32,
    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 4096, hide_short_help = true, value_parser = value_parser!(u32).range(1..))]
    max_connections: u32,
    /// Seconds that answers under way may take when the server is told to end
    #[arg(long, value_name = "S", default_value_t = 30, hide_short_help = true)]
    drain_timeout: u32,
    /// Show the metrics under vLLM's names, too
    #[arg(long, hide_short_help = true)]
    vllm_metrics: bool,
    /// Send a span for each request to an OpenTelemetry collector at this address, such as http://127.0.0.1:4318
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_short_help = true, value_parser = http_url)]
    otlp_endpoint: Option<String>,
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

impl Serve {
    pub fn run(self) -> Result<Exit> {
        let listen = self.listen()?;
        let keys = match (&self.keys, &self.api_key) {
            (Some(path), _) => Some(Keys::open(path)?),
            (None, Some(key)) => Some(Keys::one(key)),
            (None, None) => None,
        };
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(Tls::open(certificate, key)?),
            _ => None,
        };
        if !self.quiet {
            tls.iter().for_each(warn);
        }
        self.engine_args.check(self.quiet)?;
        // The address is checked before a model is loaded, which may take minutes.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(16)
            .enable_all()
            .thread_name("trine-server")
            .build()
            .context("cannot start the threads of the server")?;
        let (stop, ended) = signals(&runtime)?;
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
        let generator = generation.map(|model| self.generator(&model, &stop)).transpose()?;
        let embeddings = embedding.map(|model| self.embeddings(&model, &stop)).transpose()?;
        let options = ServerOptions {
            listen,
            max_body: self.max_body.as_u64() as usize,
            read_timeout: Duration::from_secs(self.io_timeout.into()),
            write_timeout: Duration::from_secs(self.io_timeout.into()),
            max_connections: self.max_connections as usize,
            drain_timeout: Duration::from_secs(self.drain_timeout.into()),
            vllm_metrics: self.vllm_metrics,
            cors_origins: self.cors_origin.clone(),
            isolate_keys: self.isolate_keys,
            ..ServerOptions::default()
        };
        let mut app = App::new(options, generator, embeddings);
        (app.keys, app.tls) = (keys, tls);
        app.exporter = self.otlp_endpoint.as_deref().map(Exporter::start).transpose()?;
        let names: Vec<&str> = app.names().collect();
        let names = names.join(" and ");
        runtime.block_on(async {
            let at = format!("cannot listen at {}", self.place());
            let server = match inherited()? {
                Some(listener) => Server::inherit(app, listener)?,
                None => Server::bind(app).await.context(at)?,
            };
            if !self.quiet {
                note!("serving {} at {}", table::visible(&names), server.url());
            }
            reload_on_hangup(server.app().clone())?;
            tell_systemd(server.app().clone());
            let end = async {
                let _ = ended.await;
                stopping();
            };
            server.run(end).await;
            Ok(Exit::Done)
        })
    }

    fn place(&self) -> String {
        match self.host.strip_prefix("unix:") {
            Some(path) => path.to_owned(),
            None => format!("{}:{}", self.host, self.port),
        }
    }

    /// Where to listen. Other machines may connect only if somebody says so.
    fn listen(&self) -> Result<Listen> {
        if let Some(path) = self.host.strip_prefix("unix:") {
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
        let open = self.keys.is_none() && self.api_key.is_none() && !self.no_auth;
        if !address.ip().is_loopback() && open {
            let message = format!("--host {host} lets other machines connect, and there are no keys");
            return Err(UsageError {
                message,
                hint: "--keys names a file of `trine key new`; --no-auth lets anybody in",
            }
            .into());
        }
        Ok(Listen::Tcp(address))
    }

    fn is_encoder(&self, model: &Path) -> bool {
        // What is wrong with a model is told when it is loaded.
        let spec = self.load.layouts.open(model).ok().and_then(|file| Spec::of(&file).ok());
        spec.is_some_and(|spec| spec.arch.encoder)
    }

    /// The context that a model was trained with, which is not that it is served with.
    fn trained_context(&self, model: &Path) -> Option<usize> {
        let file = self.load.layouts.open(model).ok()?;
        Spec::of(&file).ok().map(|spec| spec.context_length)
    }

    /// The name of a model in requests: what users of llama-server and vLLM expect.
    fn name(&self, model: &Path) -> String {
        if let Some(alias) = &self.alias {
            return alias.clone();
        }
        let text = model.display().to_string();
        let name = model.file_stem().filter(|_| model.extension().is_some_and(|end| end == "gguf"));
        let name = name.or(model.file_name()).map_or(text, |name| name.to_string_lossy().into_owned());
        if name == "." { "model".to_owned() } else { name }
    }

    fn generator(&self, model: &Path, stop: &Arc<AtomicBool>) -> Result<Generator> {
        let (load, engine_args, quiet) = (self.load.clone(), self.engine_args.clone(), self.quiet);
        let prefixes = self.warm.read()?;
        let (path, stop) = (model.to_owned(), stop.clone());
        let set = self.engine_options(model);
        let (sender, receiver) = std::sync::mpsc::channel();
        // The engine is made on the thread that runs it, which CPU affinity binds.
        let handle = Handle::spawn(move || {
            let mut llm = load.open_engine(&path, quiet, &stop, &engine_args, set)?;
            if warm::fill(&mut llm, &prefixes, &stop, quiet)?.is_break() {
                return Err(anyhow::Error::from(trine::Error::from(trine_model::Error::Cancelled)));
            }
            let memory = memory(&llm);
            let (sampling, context, meta) =
                (Sampling::default().recommended(llm.generation()), llm.context(), meta(&llm));
            let (engine, template) = llm.into_parts();
            let _ = sender.send((sampling, context, meta, memory, template));
            Ok(engine)
        })?;
        let (sampling, context, mut meta, memory, template) = receiver.recv().context("the engine is gone")?;
        let template = match template {
            Err(trine::Error::NoTemplate) => {
                meta["chat_template"] = "plain".into();
                if !quiet {
                    note!(
                        "warning: the model has no chat template: the answer to a chat goes on with the text of its messages"
                    );
                }
                Template::new(PLAIN_TEMPLATE, "", "").map_err(|error| error.to_string())
            }
            Err(error) => {
                if !quiet {
                    note!("warning: the model cannot chat: {}", table::visible(&error.to_string()));
                }
                Err(error.to_string())
            }
            Ok(template) => Ok(template),
        };
        let name = self.name(model);
        let mut served = Served::new(&name, handle.tokenizer().clone(), template, sampling, context);
        let fingerprint: String = self.load.fingerprint(model)?.chars().take(12).collect();
        served.fingerprint = Some(format!("fp_{}_{fingerprint}", env!("CARGO_PKG_VERSION")));
        meta["n_ctx"] = context.into();
        meta["n_ctx_train"] = self.trained_context(model).into();
        if let Some(Ok(source)) = served.template.as_ref().ok().map(|template| template.source(true)) {
            let format = ChatFormat::of(source);
            let can = [("tools", format.tools.is_ok()), ("thinking", format.reasoning.is_some())];
            let own = can.into_iter().filter_map(|(name, can)| can.then_some(name));
            meta["capabilities"] = ["completion"].into_iter().chain(own).collect();
        }
        let (parallel, queued) = (self.parallel as usize, self.max_queued as usize);
        Ok(Generator { served: Arc::new(served), handle, parallel, queued, meta, memory })
    }

    /// How the engine is set up. What is not said of the KV cache depends on the memory there is.
    fn engine_options(&self, model: &Path) -> impl FnOnce(&mut Options) -> Result<(), trine::Error> + Send + 'static {
        let (parallel, target) = (self.parallel as usize, self.itl_target.0);
        let (queued, tokens) = (self.max_queued as usize, self.max_queued_tokens.map(|tokens| tokens as usize));
        let (size, model, quiet) = (self.cache_size, model.to_owned(), self.quiet);
        let layouts = self.load.layouts.formats();
        move |options| {
            let engine = &mut options.engine;
            (engine.max_sequences, engine.itl_target) = (parallel, target);
            (engine.max_queued, engine.max_queued_tokens) = (Some(queued), tokens);
            engine.cache_bytes = size.map(|size| size.as_u64() as usize);
            if size.is_some() {
                return Ok(());
            }
            let open = OpenOptions { layouts, ..OpenOptions::default() };
            let file = trine::open_file(&model, &open).map_err(trine_model::Error::from)?;
            let memory = options.plan(&file)?;
            let Some(free) = trine::available_memory() else { return Ok(()) };
            // Half of what is free beside the weights; at least a context.
            let room = free.saturating_sub(memory.total() - memory.kv_cache) / 2;
            if memory.kv_cache > room {
                let one = memory.kv_cache.div_ceil(parallel as u64);
                let given = room.max(one);
                options.engine.cache_bytes = Some(given as usize);
                if !quiet {
                    note!(
                        "note: the KV cache has {} of the {} that {parallel} full contexts take: --cache-size sets it, --cache-type q8_0 \
                         holds four times as much",
                        units::bytes(given),
                        units::bytes(memory.kv_cache)
                    );
                }
            }
            Ok(())
        }
    }

    fn embeddings(&self, model: &Path, stop: &Arc<AtomicBool>) -> Result<Embeddings> {
        let embedder = self.load.load_embedder(model, self.quiet, stop)?;
        if !self.quiet {
            super::embed::notes(&embedder, "");
        }
        let (name, width) = (self.name(model), embedder.width());
        let embedder = Mutex::new(embedder);
        let embed = move |inputs: Vec<Prompt>| {
            let mut embedder = embedder.lock().unwrap_or_else(PoisonError::into_inner);
            embed(&mut embedder, inputs)
        };
        Ok(Embeddings { name, width, embed: Box::new(embed) })
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

fn http_url(text: &str) -> Result<String, String> {
    match text.starts_with("http://") {
        true => Ok(text.to_owned()),
        false => Err("expected an address that begins with http://".to_owned()),
    }
}

/// Embeds texts.
fn embed(embedder: &mut Embedder, inputs: Vec<Prompt>) -> Result<(Vec<Vec<f32>>, usize), Problem> {
    let mut texts = Vec::with_capacity(inputs.len());
    for (i, input) in inputs.into_iter().enumerate() {
        let ids = match input {
            Prompt::Text(text) => embedder.tokens(&text),
            Prompt::Chat(chat) => embedder.tokens(chat.text()),
            Prompt::Tokens(ids) => ids,
        };
        embedder.check(&ids).map_err(|error| Problem {
            param: Some("input".to_owned()),
            ..Problem::new(ProblemKind::Invalid, format!("input[{i}]: {error}"))
        })?;
        texts.push(ids);
    }
    let embedded = embedder.embed_all(&texts);
    let embedded = embedded.map_err(|error| Problem::new(ProblemKind::Server, error.to_string()))?;
    Ok((embedded, texts.iter().map(Vec::len).sum()))
}

/// The memory that was planned, by category.
fn memory(llm: &Llm) -> Value {
    let memory = llm.memory();
    json!({
        "weights": memory.weights, "kv_cache": memory.kv_cache, "activations": memory.scratch, "program": memory.program,
        "total": memory.total(),
    })
}

/// What `/v1/models` tells of a model, with llama-server's names.
fn meta(llm: &Llm) -> Value {
    let spec = llm.spec();
    json!({
        "n_vocab": spec.vocab_size,
        "n_embd": spec.hidden_size,
        "architecture": spec.arch.name(),
        "weight_bytes": llm.memory().weights,
        "capabilities": ["completion"],
    })
}

/// Tells what is wrong with a certificate that is used all the same.
fn warn(tls: &Tls) {
    tls.warnings().iter().for_each(|warning| note!("warning: {}", table::visible(warning)));
}

/// Reads keys and certificates again on SIGHUP.
#[cfg(unix)]
fn reload_on_hangup(app: Arc<App>) -> Result<()> {
    let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            if app.keys.is_some() {
                match app.reload_keys() {
                    Ok(count) => note!("note: {} read again", units::plural(count as u64, "key")),
                    Err(error) => note!("warning: the keys stay as they are: {}", table::visible(&error)),
                }
            }
            let Some(tls) = &app.tls else { continue };
            match tls.reload() {
                Ok(()) => {
                    note!("note: the certificate was read again");
                    warn(tls);
                }
                Err(error) => note!("warning: the certificate stays as it is: {}", table::visible(&error.to_string())),
            }
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn reload_on_hangup(_: Arc<App>) -> Result<()> {
    Ok(())
}

/// The socket that systemd opened for this process, if it did.
#[cfg(unix)]
fn inherited() -> Result<Option<std::net::TcpListener>> {
    Ok(listenfd::ListenFd::from_env().take_tcp_listener(0)?)
}

/// Tells systemd that requests are answered, and then, as often as its watchdog wants to know, that the engine still does.
#[cfg(unix)]
fn tell_systemd(app: Arc<App>) {
    use sd_notify::NotifyState;
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(patience / 3).await;
            let Some(generator) = &app.generator else { return };
            if matches!(tokio::time::timeout(patience / 3, generator.handle.load_async()).await, Ok(Ok(_))) {
                let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            }
        }
    });
}

#[cfg(unix)]
fn stopping() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
}

#[cfg(not(unix))]
fn inherited() -> Result<Option<std::net::TcpListener>> {
    Ok(None)
}

#[cfg(not(unix))]
fn tell_systemd(_: Arc<App>) {}

#[cfg(not(unix))]
fn stopping() {}

/// What SIGTERM or Ctrl-C does first: a flag that ends loading, and a message that ends the server. The second of them ends the program.
fn signals(runtime: &Runtime) -> Result<(Arc<AtomicBool>, oneshot::Receiver<()>)> {
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = oneshot::channel();
    let (set, _guard) = (stop.clone(), runtime.enter());
    let mut signals = Signals::new()?;
    runtime.spawn(async move {
        signals.next().await;
        set.store(true, Relaxed);
        let _ = sender.send(());
        signals.next().await;
        std::process::exit(Exit::Interrupted as i32);
    });
    Ok((stop, receiver))
}

/// The signals that end a program.
#[cfg(unix)]
struct Signals([tokio::signal::unix::Signal; 2]);

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Result<Signals> {
        Ok(Signals)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
