//! The models that a server has.

use super::Serve;
use crate::commands::embed;
use crate::warm::{self, Prefix};
use crate::{memory, near, table, units};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use trine::{Llm, Options};
use trine_api::{PLAIN_TEMPLATE, Served};
use trine_engine::{Handle, Sampling};
use trine_lab::receipt::ReceiptSummary;
use trine_model::Spec;
use trine_server::{Batcher, BatcherOptions, Embeddings, Generator};
use trine_tensor::OpenOptions;
use trine_text::{ChatFormat, Template};

impl Serve {
    pub fn is_encoder(&self, model: &Path) -> bool {
        // What is wrong with a model is told when it is loaded.
        let spec = self.load.layouts.open(model).ok().and_then(|file| Spec::of(&file).ok());
        spec.is_some_and(|spec| spec.arch.encoder)
    }

    /// The context that a model was trained with, which is not that it is served with.
    fn trained_context(&self, model: &Path) -> Option<usize> {
        let file = self.load.layouts.open(model).ok()?;
        Spec::of(&file).ok().map(|spec| spec.context_length)
    }

    /// The tensors of a model's file, and their bytes there.
    fn tensors(&self, model: &Path) -> Result<Value> {
        let file = self.load.layouts.open(model)?;
        let bytes: usize = file.tensors().map(|tensor| tensor.bytes.len()).sum();
        Ok(json!({"count": file.tensors().len(), "bytes": bytes}))
    }

    /// The name of a model in requests.
    fn name(&self, model: &Path) -> String {
        self.alias.clone().unwrap_or_else(|| Serve::own_name(model))
    }

    /// The name of a model for embeddings beside one that answers, whose is the alias.
    fn name_beside(model: &Path, other: &str) -> String {
        let name = Serve::own_name(model);
        if name == other { format!("{name}-embeddings") } else { name }
    }

    /// The name that a model has of its own: what users of llama-server and vLLM expect.
    fn own_name(model: &Path) -> String {
        if let Some(repository) = near::repository(model) {
            return repository;
        }
        let text = model.display().to_string();
        let name = model.file_stem().filter(|_| model.extension().is_some_and(|end| end == "gguf"));
        let name = name.or(model.file_name()).map_or(text, |name| name.to_string_lossy().into_owned());
        if name == "." { "model".to_owned() } else { name }
    }

    pub fn generator(
        &self,
        model: &Path,
        prefixes: Vec<(String, Prefix)>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Generator> {
        let (load, engine_args, quiet) = (self.load.clone(), self.engine_args.clone(), self.quiet);
        let (path, stop) = (model.to_owned(), stop.clone());
        let set = self.engine_options(model);
        let (sender, receiver) = std::sync::mpsc::channel();
        // The engine is made on the thread that runs it, which CPU affinity binds.
        let handle = Handle::spawn(move || {
            let mut llm = load.open_engine(&path, quiet, &stop, &engine_args, set)?;
            if warm::fill(&mut llm, &prefixes, &stop, quiet)?.is_break() {
                return Err(anyhow::Error::from(trine::Error::from(trine_model::Error::Cancelled)));
            }
            let memory = memory::planned(llm.memory());
            let (sampling, context, meta) =
                (Sampling::default().recommended(llm.generation()), llm.context(), meta(&llm));
            let (engine, template) = llm.into_parts();
            let _ = sender.send((sampling, context, meta, memory, template));
            Ok(engine)
        })?;
        let (sampling, context, mut meta, mut memory, template) = receiver.recv().context("the engine is gone")?;
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
        if let Ok(Some(receipt)) = ReceiptSummary::of(self.load.layouts.open(model)?.metadata()) {
            meta["receipt"] = serde_json::to_value(receipt)?;
        }
        memory["tensors"] = self.tensors(model)?;
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

    /// The model for embeddings, beside that which answers by this name, if there is one.
    pub fn embeddings(&self, model: &Path, beside: Option<&str>, stop: &Arc<AtomicBool>) -> Result<Embeddings> {
        let mut embedder = self.load.serve_embedder(model, self.quiet, stop)?;
        if !self.quiet {
            embed::notes(&embedder, "");
        }
        let name = beside.map_or_else(|| self.name(model), |other| Serve::name_beside(model, other));
        let (width, tokenizer) = (embedder.width(), embedder.tokenizer().clone());
        let options = BatcherOptions {
            max_queued: self.max_queued as usize,
            max_texts: 64,
            max_tokens: embedder.batch(),
            max_wait: Duration::from_millis(self.embedding_wait.into()),
        };
        let mut memory = memory::planned(embedder.memory());
        memory["tensors"] = self.tensors(model)?;
        let embed = move |texts: &[&[u32]]| embedder.embed_all(texts).map_err(|error| error.to_string());
        let batcher = Batcher::spawn(options, Box::new(embed)).context("cannot start the thread of embeddings")?;
        let tokens = Box::new(move |prompt| embed::tokens(&tokenizer, prompt));
        Ok(Embeddings { name, width, tokens, batcher, memory })
    }
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
