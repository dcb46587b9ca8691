//! The one decoder that runs every architecture, and the only forward pass in the project.

use crate::attention::{AttentionLayer, ForwardPass};
use crate::feed_forward::FeedForward;
use crate::loader::{Linear, Loader, Norm};
use crate::weights::ModelWeights;
use crate::{Error, NormKind, NormPlacement, Result, Sizes, Spec, hf};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use trine_backend::{Backend, Batch, CacheId, Ids, Ops, Role, Stage};
use trine_tensor::{File, View};

/// A decoder whose weights are on a device.
pub struct Model<B: Backend> {
    spec: Spec,
    embedding: B::Weight,
    /// Learned positions, added to the embeddings of tokens.
    positions: Option<B::Weight>,
    /// Token types, added as well; all tokens have type 0.
    token_types: Option<B::Weight>,
    embedding_norm: Option<Norm<B::Weight>>,
    layers: Vec<Layer<B::Weight>>,
    norm: Option<Norm<B::Weight>>,
    /// `None` for an encoder, and for a model that was loaded without its head.
    head: Option<Head<B::Weight>>,
    /// See [`ModelOptions::stop`].
    stop: Option<Arc<AtomicBool>>,
}

/// What makes logits of hidden states.
enum Head<W> {
    Own(Linear<W>),
    /// The embedding.
    Tied,
}

/// Which norms there are depends on [`NormPlacement`].
struct Layer<W> {
    attn_norm: Option<Norm<W>>,
    attention: AttentionLayer<W>,
    post_attention_norm: Option<Norm<W>>,
    ffn_norm: Option<Norm<W>>,
    feed_forward: FeedForward<W>,
    post_ffw_norm: Option<Norm<W>>,
}

impl<W> Layer<W> {
    fn load<B: Backend<Weight = W>>(load: &mut Loader<B>, layer: usize) -> Result<Layer<W>> {
        let &Spec { sizes: Sizes { arch, hidden_size, .. }, parallel_residual, .. } = load.spec;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let before = matches!(arch.norm_placement, NormPlacement::Pre | NormPlacement::Sandwich);
        let after = arch.norm_placement != NormPlacement::Pre;
        let [post_attention, post_ffw] = match arch.norm_placement {
            NormPlacement::PostResidual => ["attn_output_norm", "layer_output_norm"],
            _ => ["post_attention_norm", "post_ffw_norm"],
        };
        // With a parallel residual, both halves may share one norm.
        let lacks = layer == 0 && arch.is_optional("attn_norm") && !load.weights.contains(&name("attn_norm.weight"));
        let shared =
            parallel_residual && arch.is_optional("ffn_norm") && !load.weights.contains(&name("ffn_norm.weight"));
        Ok(Layer {
            attn_norm: load.norm_if(before && !lacks, &name("attn_norm"), &[hidden_size])?,
            attention: AttentionLayer::load(load, layer)?,
            post_attention_norm: load.norm_if(after, &name(post_attention), &[hidden_size])?,
            ffn_norm: load.norm_if(before && !shared, &name("ffn_norm"), &[hidden_size])?,
            feed_forward: FeedForward::load(load, layer)?,
            post_ffw_norm: load.norm_if(after, &name(post_ffw), &[hidden_size])?,
        })
    }

    fn forward<B: Backend<Weight = W>>(&self, be: &mut B, layer: usize, x: &B::Act, pass: &ForwardPass<B>) -> B::Act {
        let (spec, eps) = (pass.spec, pass.spec.eps);
        let h = self.attn_norm.as_ref().map(|norm| norm.forward(be, x, eps));
        let a = self.attention.forward(be, layer, h.as_ref().unwrap_or(x), pass);
        if spec.arch.norm_placement == NormPlacement::PostResidual {
            let y = be.add(x, &a);
            let y = normed(be, &self.post_attention_norm, y, eps);
            let f = self.feed_forward.forward(be, &y, spec);
            let y = be.add(&y, &f);
            return normed(be, &self.post_ffw_norm, y, eps);
        }
        let a = normed(be, &self.post_attention_norm, a, eps);
        let a = scaled(be, a, spec.residual_scale);
        let (y, h) = match &self.ffn_norm {
            _ if spec.parallel_residual => {
                let own = self.ffn_norm.as_ref().map(|norm| norm.forward(be, x, eps));
                (be.add(x, &a), own.or(h))
            }
            Some(norm) if norm.kind == NormKind::Rms => {
                let (y, h) = be.add_norm(&norm.gain, x, &a, eps);
                (y, Some(h))
            }
            norm => {
                let y = be.add(x, &a);
                let h = norm.as_ref().map(|norm| norm.forward(be, &y, eps));
                (y, h)
            }
        };
        let f = self.feed_forward.forward(be, h.as_ref().unwrap_or(&y), spec);
        let f = normed(be, &self.post_ffw_norm, f, eps);
        let f = scaled(be, f, spec.residual_scale);
        be.add(&y, &f)
    }
}

fn normed<B: Backend>(be: &mut B, norm: &Option<Norm<B::Weight>>, x: B::Act, eps: f32) -> B::Act {
    match norm {
        Some(norm) => norm.forward(be, &x, eps),
        None => x,
    }
}

fn scaled<B: Backend>(be: &mut B, x: B::Act, factor: f32) -> B::Act {
    if factor == 1.0 { x } else { be.scale(&x, factor) }
}

/// A function that gets each weight on its way to the device, and gives the one that is loaded: itself, or another of the same shape, such as
/// itself in a format of fewer bits.
#[derive(Clone)]
pub struct Rewrite(Arc<dyn Fn(View) -> trine_tensor::Result<View> + Send + Sync>);

impl Rewrite {
    pub fn new(rewrite: impl Fn(View) -> trine_tensor::Result<View> + Send + Sync + 'static) -> Rewrite {
        Rewrite(Arc::new(rewrite))
    }

    pub(crate) fn apply(&self, view: View) -> Result<View> {
        Ok((self.0)(view)?)
    }
}

impl std::fmt::Debug for Rewrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rewrite")
    }
}

/// How to load a model.
#[derive(Clone, Debug, Default)]
pub struct ModelOptions {
    /// A specification that need not be the file's: to see whether the model makes more sense so.
    pub spec: Option<Spec>,
    /// Load no head, which the file may lack: for hidden states alone. A model without a head gives no logits.
    pub headless: bool,
    /// Name tensors to the device as GGUF does, not as the file does.
    pub gguf_names: bool,
    /// Replaces weights as they are loaded.
    pub rewrite: Option<Rewrite>,
    /// A pass that runs when this is set ends after the current layer, with [`Error::Stopped`]: for whoever waits at a terminal.
    pub stop: Option<Arc<AtomicBool>>,
}

impl<B: Backend> Model<B> {
    /// Loads the model of `file`. `progress` is told the bytes of weights that are loaded, and may break off.
    ///
    /// # Errors
    /// When the file's keys and tensors are not those of a model that we know, the device refuses a weight, or `progress` breaks off.
    pub fn load(
        backend: &mut B,
        file: &File,
        options: ModelOptions,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Model<B>> {
        let ModelOptions { spec, headless, gguf_names, rewrite, stop } = options;
        let load = || {
            let spec = spec.map_or_else(|| Spec::of(file), Ok)?;
            let mut weights = ModelWeights::new(file, &spec);
            (weights.gguf_names, weights.rewrite) = (gguf_names, rewrite);
            let model = Model::of(backend, &weights, &spec, headless, progress)?;
            weights.check_all_read(!headless)?;
            Ok(Model { stop, ..model })
        };
        load().map_err(|error: Error| hf::explain(file, error).at(file.path()))
    }

    /// The model without its weights, for a backend that does not read them: it has their shapes and formats.
    ///
    /// # Errors
    /// As [`Model::load`], as far as shapes tell.
    pub fn load_shapes(backend: &mut B, file: &File, spec: &Spec, headless: bool) -> Result<Model<B>> {
        let weights = ModelWeights::shapes(file, spec);
        let model = Model::of(backend, &weights, spec, headless, &mut |_| ControlFlow::Continue(()));
        model.map_err(|error| hf::explain(file, error).at(file.path()))
    }

    pub(crate) fn of(
        backend: &mut B,
        weights: &ModelWeights,
        spec: &Spec,
        headless: bool,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Model<B>> {
        let mut load = Loader { backend, weights, spec, progress, done: 0 };
        let (width, arch) = (spec.hidden_size, spec.arch);
        let embedding =
            load.upload(load.weights.get("token_embd.weight", &[spec.vocab_size, width])?, Role::Embedding)?;
        let table = |load: &mut Loader<B>, wanted: bool, name: &str| -> Result<Option<B::Weight>> {
            if !wanted {
                return Ok(None);
            }
            let rows = load.weights.rows(name)?;
            load.upload(load.weights.get(name, &[rows, width])?, Role::Embedding).map(Some)
        };
        if arch.learned_positions {
            let (rows, found) = (load.weights.rows("position_embd.weight")?, spec.context_length);
            if found > rows {
                let expected = format!("at most {rows}, the rows of position_embd.weight");
                return Err(Error::bad("context_length", expected, found));
            }
        }
        let positions = table(&mut load, arch.learned_positions, "position_embd.weight")?;
        let has_types = load.weights.contains("token_types.weight");
        let token_types = table(&mut load, arch.encoder && has_types, "token_types.weight")?;
        let embedding_norm = load.norm_if(arch.embedding_norm, "token_embd_norm", &[width])?;
        let layers = (0..spec.n_layers).map(|i| Layer::load(&mut load, i)).collect::<Result<Vec<_>>>()?;
        let norm = load.norm_if(arch.norm_placement != NormPlacement::PostResidual, "output_norm", &[width])?;
        let head = if headless || arch.encoder {
            None
        } else if let Some(weight) = load.weights.bitnet_head(spec.vocab_size, width)? {
            Some(Head::Own(load.linear_of(weight, None)?))
        } else if spec.tied {
            Some(Head::Tied)
        } else {
            let weight = load.upload(load.weights.get("output.weight", &[spec.vocab_size, width])?, Role::Head)?;
            let bias = if arch.is_optional("output.bias") { load.bias("output", &[spec.vocab_size])? } else { None };
            Some(Head::Own(Linear::of(weight, bias)))
        };
        Ok(Model {
            embedding,
            positions,
            token_types,
            embedding_norm,
            layers,
            norm,
            head,
            spec: spec.clone(),
            stop: None,
        })
    }

    /// What this model is.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// See [`Runner::limit_context`](crate::Runner::limit_context).
    pub fn limit_context(&mut self, context: usize) {
        self.spec.limit(context);
    }

    /// Tokens to logits, `[batch.outputs(), vocab_size]`.
    ///
    /// # Errors
    /// When the device fails, [`Error::NoLogits`] and [`Error::Stopped`].
    ///
    /// # Panics
    /// When a token is not below `spec().vocab_size`, or a block is not in the cache.
    pub fn forward(&self, be: &mut B, cache: CacheId, batch: &Batch) -> Result<B::Act> {
        let Some(head) = &self.head else { return Err(Error::NoLogits { arch: self.spec.arch.name() }) };
        let pass = self.begin(be, cache, batch);
        let logits = self.hidden(be, &pass, None).map(|h| self.logits(be, head, &h));
        be.finish(pass.device)?;
        logits
    }

    /// Tokens to hidden states after the last norm, `[batch.outputs(), hidden_size]`: what the head takes.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// As [`Model::forward`].
    pub fn hidden_states(&self, be: &mut B, cache: CacheId, batch: &Batch) -> Result<B::Act> {
        let pass = self.begin(be, cache, batch);
        let h = self.hidden(be, &pass, None);
        be.finish(pass.device)?;
        h
    }

    /// Hidden states before each layer, and after the last norm, `[outputs, hidden_size]` each.
    ///
    /// # Errors
    /// When the device fails, or the model is told to stop.
    pub fn layer_states(&self, be: &mut B, cache: CacheId, batch: &Batch) -> Result<Vec<B::Act>> {
        let pass = self.begin(be, cache, batch);
        let mut states = Vec::new();
        let h = self.hidden(be, &pass, Some(&mut states));
        be.finish(pass.device)?;
        states.push(h?);
        Ok(states)
    }

    fn begin(&self, be: &mut B, cache: CacheId, batch: &Batch) -> ForwardPass<'_, B> {
        let Spec { sizes: Sizes { vocab_size, .. }, ref ropes, ref query_rope, .. } = self.spec;
        assert!(batch.tokens().iter().all(|&token| (token as usize) < vocab_size), "a token beyond the vocabulary");
        let device = be.begin(cache, batch);
        let rope_caches = std::array::from_fn(|i| ropes.get(i).map(|rope| be.rope_cache(rope, &device)));
        let query_rope_cache = query_rope.as_ref().map(|rope| be.rope_cache(rope, &device));
        ForwardPass { spec: &self.spec, device, rope_caches, query_rope_cache }
    }

    /// The hidden states after the last norm; those before each layer go to `states`.
    fn hidden(&self, be: &mut B, pass: &ForwardPass<B>, mut states: Option<&mut Vec<B::Act>>) -> Result<B::Act> {
        let x = be.embed(&self.embedding, Ids::Token, &pass.device);
        let mut x = scaled(be, x, self.spec.embedding_scale);
        for (table, ids) in [(&self.positions, Ids::Position), (&self.token_types, Ids::TokenType)] {
            if let Some(table) = table {
                let rows = be.embed(table, ids, &pass.device);
                x = be.add(&x, &rows);
            }
        }
        x = normed(be, &self.embedding_norm, x, self.spec.eps);
        for (i, layer) in self.layers.iter().enumerate() {
            if self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Err(Error::Stopped);
            }
            if let Some(states) = &mut states {
                states.push(be.gather_outputs(&x, &pass.device));
            }
            be.enter(Stage::Layer(i));
            x = layer.forward(be, i, &x, pass);
        }
        be.enter(Stage::Head);
        let x = be.gather_outputs(&x, &pass.device);
        Ok(normed(be, &self.norm, x, self.spec.eps))
    }

    fn logits(&self, be: &mut B, head: &Head<B::Weight>, h: &B::Act) -> B::Act {
        let logits = match head {
            Head::Own(head) => head.forward(be, h),
            Head::Tied => be.linear(&self.embedding, h),
        };
        let logits = scaled(be, logits, self.spec.logit_scale);
        match self.spec.logit_softcap {
            Some(cap) => be.softcap(&logits, cap),
            None => logits,
        }
    }
}
