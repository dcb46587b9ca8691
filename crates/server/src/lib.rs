//! An HTTP server for a model: the APIs of OpenAI, Anthropic and Ollama, a web page, health and metrics.
//!
//! Most programs that use a language model speak OpenAI's protocol. This crate answers it with an engine of this process, which it knows by
//! its [`Handle`](trine_engine::Handle) alone: it never sees a tensor. What bodies mean is in `trine-api`; here are connections, limits,
//! streams, and what an operator wants to know.
//!
//! A [`Server`] listens; [`Server::run`] answers until it is told to end, and lets requests under way finish.
//!
//! ```
//! use trine_server::{App, Listen, Server, ServerOptions};
//!
//! let listen = Listen::Tcp("127.0.0.1:0".parse().unwrap());
//! // A `Generator` has a model's handle; without one, the server tells only how it is.
//! let app = App::new(ServerOptions { listen, ..ServerOptions::default() }, None, None);
//! tokio::runtime::Runtime::new()?.block_on(async {
//!     let server = Server::bind(app).await?;
//!     println!("serving at {}", server.url());
//!     server.run(async { /* until this ends */ }).await;
//!     Ok::<(), std::io::Error>(())
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod admin;
mod app;
mod arriving;
mod auth;
mod batcher;
mod body;
mod generate;
mod health;
pub mod keys;
mod listen;
mod listener;
mod memory;
mod metrics;
mod ollama;
mod options;
mod otlp;
mod page;
mod patience;
mod places;
mod problem;
mod process;
mod proxy;
mod quota;
mod recent;
mod routes;
mod self_test;
mod text_format;
mod tls;
mod trace;
#[cfg(unix)]
mod unix_socket;
mod vllm;

pub use app::{App, Embeddings, Generator};
pub use batcher::{Batcher, BatcherLoad, BatcherOptions, Embed};
pub use memory::Pressure;
pub use options::{Inherited, Listen, ServerOptions};
pub use otlp::{Exporter, TellOutage};
pub use proxy::TrustedProxy;
pub use tls::{Tls, TlsError};

use listener::Listener;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::watch;
use trine_engine::Prompt;

/// The tokens of a text that is to be embedded, or why it cannot be.
pub type Tokens = dyn Fn(Prompt) -> Result<Vec<u32>, String> + Send + Sync;

/// A server that listens.
pub struct Server {
    app: Arc<App>,
    listener: Listener,
}

impl Server {
    /// Begins to listen. Connections wait until the server runs.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn bind(app: App) -> io::Result<Server> {
        process::raise_open_files();
        let listener = Listener::bind(&app.options.listen).await?;
        Ok(Server { app: Arc::new(app), listener })
    }

    /// A server on a socket that listens already, as systemd hands it over.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub fn inherit(app: App, inherited: Inherited) -> io::Result<Server> {
        process::raise_open_files();
        let listener = Listener::inherit(inherited)?;
        Ok(Server { app: Arc::new(app), listener })
    }

    /// What its requests share.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// The address that clients use.
    pub fn url(&self) -> String {
        self.listener.url(self.app.tls.is_some())
    }

    /// Answers requests until `end`, then those that are under way, as long as [`ServerOptions::drain_timeout`] allows, and ends the engine.
    pub async fn run(self, end: impl Future<Output = ()>) {
        let Server { app, listener } = self;
        let (drain, draining) = watch::channel(false);
        let serving = listen::serve(listener, routes::router(app.clone()), app.clone(), draining);
        let ending = async {
            end.await;
            app.draining.store(true, Relaxed);
            // Nobody listens any more when all connections are gone.
            let _ = drain.send(true);
            std::future::pending::<()>().await;
        };
        let testing = async {
            match app.options.self_test_interval {
                Some(interval) => self_test::repeat(&app, interval).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = serving => {}
            () = ending => {}
            () = testing => {}
        }
        if let Some(generator) = &app.generator {
            let _ = generator.handle.shutdown_async().await;
        }
        if app.exporter.is_some() {
            let _ = tokio::task::spawn_blocking(move || app.exporter.as_ref().map(Exporter::end)).await;
        }
    }
}
