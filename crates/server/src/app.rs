use crate::body::Bodies;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::quota::Quotas;
use crate::recent::Typical;
use crate::self_test::SelfTest;
use crate::{Batcher, Exporter, ServerOptions, Tls, Tokens};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8};
use std::time::Instant;
use trine_api::{Problem, ProblemKind, Served};
use trine_engine::{Handle, Load};

/// A model, and the engine that runs it.
pub struct Generator {
    pub served: Arc<Served>,
    pub handle: Handle,
    /// Sequences that run at once.
    pub parallel: usize,
    /// Sequences that may wait.
    pub queued: usize,
    /// What `/v1/models` tells of it beside its name.
    pub meta: Value,
    /// The memory that was planned for it, in bytes by category.
    pub memory: Value,
}

/// A model that makes embeddings.
pub struct Embeddings {
    pub name: String,
    /// Numbers of an embedding.
    pub width: usize,
    pub tokens: Box<Tokens>,
    pub batcher: Batcher,
    /// The memory that was planned for it, in bytes by category.
    pub memory: Value,
}

/// What all requests share.
pub struct App {
    pub options: ServerOptions,
    pub generator: Option<Generator>,
    pub embeddings: Option<Embeddings>,
    pub metrics: Metrics,
    /// The keys that open the server; without any, everybody may ask.
    pub keys: Option<Keys>,
    pub quotas: Quotas,
    /// Room for the bodies of requests.
    pub(crate) bodies: Bodies,
    /// Where spans of requests go.
    pub exporter: Option<Exporter>,
    /// The certificate of the server; without one, connections are not encrypted.
    pub tls: Option<Tls>,
    /// Seconds since 1970 at which the server began.
    pub created: u64,
    pub begun: Instant,
    pub draining: AtomicBool,
    pub(crate) self_test: SelfTest,
    /// How near the process was to its limit of memory.
    pub(crate) pressure: AtomicU8,
    /// How long requests for answers took of late.
    pub(crate) typical: Typical,
}

impl App {
    pub fn new(options: ServerOptions, generator: Option<Generator>, embeddings: Option<Embeddings>) -> App {
        App {
            bodies: Bodies::new(options.max_body),
            options,
            generator,
            embeddings,
            metrics: Metrics::default(),
            keys: None,
            quotas: Quotas::default(),
            exporter: None,
            tls: None,
            created: trine_api::openai::now(),
            begun: Instant::now(),
            draining: AtomicBool::new(false),
            self_test: SelfTest::default(),
            pressure: AtomicU8::new(0),
            typical: Typical::default(),
        }
    }

    /// Names that requests may ask for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let generator = self.generator.iter().map(|generator| generator.served.name.as_str());
        generator.chain(self.embeddings.iter().map(|embeddings| embeddings.name.as_str()))
    }

    /// Reads the file of keys again; how many it has, or why not.
    pub fn reload_keys(&self) -> Result<usize, String> {
        let keys = self.keys.as_ref().ok_or("the server has no file of keys")?;
        let reloaded = keys.reload().map_err(|error| error.to_string());
        match &reloaded {
            Ok(keys) => tracing::info!(keys, "keys reloaded"),
            Err(error) => tracing::warn!(%error, "the keys stay as they are"),
        }
        reloaded
    }

    /// The model that answers.
    pub fn generator(&self) -> Result<&Generator, Problem> {
        let missing = || {
            let why = "the server has a model for embeddings alone: start it with one that answers, and name this one by --embedding-model";
            Problem::new(ProblemKind::Invalid, why)
        };
        self.generator.as_ref().ok_or_else(missing)
    }

    /// The model for embeddings.
    pub fn embeddings(&self) -> Result<&Embeddings, Problem> {
        let missing = || {
            Problem::new(ProblemKind::Invalid, "the server has no model for embeddings: --embedding-model names one")
        };
        self.embeddings.as_ref().ok_or_else(missing)
    }

    /// How busy the engine is, while there is one. Waits for no step.
    pub fn load(&self) -> Option<Load> {
        self.generator.as_ref()?.handle.load().ok()
    }

    /// Seconds until one that is refused now may find room: as long as those before it take at the usual pace.
    pub fn retry_after(&self, load: Option<&Load>) -> u64 {
        let parallel = self.generator.as_ref().map_or(1, |generator| generator.parallel.max(1));
        let ahead = load.map_or(parallel, |load| load.waiting + 1);
        let seconds = self.typical.get().as_secs_f64() * ahead as f64 / parallel as f64;
        (seconds.ceil() as u64).clamp(1, 600)
    }

    /// What `/v1/models` lists.
    pub fn models(&self) -> Vec<Value> {
        let model = |id: &str, meta: &Value| json!({"id": id, "object": "model", "created": self.created, "owned_by": "trine", "meta": meta});
        let generator = self.generator.iter().map(|generator| model(&generator.served.name, &generator.meta));
        let width = |embeddings: &Embeddings| json!({"n_embd": embeddings.width, "capabilities": ["embedding"]});
        let embeddings = self.embeddings.iter().map(|embeddings| model(&embeddings.name, &width(embeddings)));
        generator.chain(embeddings).collect()
    }
}
