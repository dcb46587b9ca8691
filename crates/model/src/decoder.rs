//! The one decoder that runs every architecture, and the only forward pass in the project.

use crate::weights::Weights;
use crate::{Error, Result, Spec};
use std::ops::ControlFlow;
use trine_backend::{Attend, Backend, Batch, KvShape, Role, Stage};
use trine_tensor::{File, format::F32};

/// A decoder whose weights are on a device.
pub struct Model<B: Backend> {
    spec: Spec,
    embedding: B::Weight,
    layers: Vec<Layer<B::Weight>>,
    norm: B::Weight,
    /// None when the embedding is the head as well.
    head: Option<B::Weight>,
}

struct Layer<W> {
    attn_norm: W,
    q: Linear<W>,
    k: Linear<W>,
    v: Linear<W>,
    /// Norms of each query and each key head.
    head_norms: Option<[W; 2]>,
    attn_sub_norm: Option<W>,
    o: Linear<W>,
    ffn_norm: W,
    gate: Linear<W>,
    up: Linear<W>,
    ffn_sub_norm: Option<W>,
    down: Linear<W>,
}

struct Linear<W> {
    weight: W,
    bias: Option<W>,
}

impl<W> Linear<W> {
    fn forward<B: Backend<Weight = W>>(&self, be: &mut B, x: &B::Act) -> B::Act {
        let y = be.linear(&self.weight, x);
        match &self.bias {
            Some(bias) => be.bias(bias, &y),
            None => y,
        }
    }
}

/// Brings weights to a device, one at a time.
struct Loader<'a, B: Backend> {
    backend: &'a mut B,
    weights: Weights<'a>,
    role: Role,
    progress: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
    done: u64,
}

impl<B: Backend> Loader<'_, B> {
    fn upload(&mut self, view: trine_tensor::View, role: Role) -> Result<B::Weight> {
        self.done += view.bytes.len() as u64;
        let weight = self.backend.upload(view, role)?;
        match (self.progress)(self.done) {
            ControlFlow::Continue(()) => Ok(weight),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }

    fn vector(&mut self, name: &str, len: usize, role: Role) -> Result<B::Weight> {
        self.upload(self.weights.get(name, &[len])?, role)
    }

    fn norm(&mut self, name: &str, len: usize) -> Result<B::Weight> {
        self.vector(&format!("{name}.weight"), len, Role::Norm)
    }

    fn norm_if(&mut self, wanted: bool, name: &str, len: usize) -> Result<Option<B::Weight>> {
        if wanted { self.norm(name, len).map(Some) } else { Ok(None) }
    }

    fn linear(&mut self, name: &str, rows: usize, cols: usize) -> Result<Linear<B::Weight>> {
        let weight = self.upload(self.weights.linear(&format!("{name}.weight"), rows, cols)?, self.role)?;
        let bias = format!("{name}.bias");
        let bias = if self.weights.contains(&bias) { Some(self.vector(&bias, rows, Role::Bias)?) } else { None };
        Ok(Linear { weight, bias })
    }
}

impl<B: Backend> Model<B> {
    /// Brings the model of `file` to a device. `progress` is told how many bytes of weights are there, and may end
    /// it.
    ///
    /// # Errors
    /// When the file's keys and tensors do not make a model that we know, the device refuses, or `progress` breaks off.
    pub fn load(backend: &mut B, file: &File, progress: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<Model<B>> {
        let mut load = || -> Result<Model<B>> {
            let spec = Spec::of(file)?;
            let role = if spec.bit_linear { Role::BitLinear } else { Role::Linear };
            let mut load = Loader { backend, weights: Weights::new(file, &spec), role, progress, done: 0 };
            let (width, q, kv) = (spec.width, spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
            let (inner, arch) = (spec.feed_forward, spec.arch);
            let embedding =
                load.upload(load.weights.get("token_embd.weight", &[spec.vocab, width])?, Role::Embedding)?;
            let mut layers = Vec::new();
            for i in 0..spec.layers {
                let name = |part: &str| format!("blk.{i}.{part}");
                layers.push(Layer {
                    attn_norm: load.norm(&name("attn_norm"), width)?,
                    q: load.linear(&name("attn_q"), q, width)?,
                    k: load.linear(&name("attn_k"), kv, width)?,
                    v: load.linear(&name("attn_v"), kv, width)?,
                    head_norms: match arch.head_norms {
                        true => Some([
                            load.norm(&name("attn_q_norm"), spec.head_dim)?,
                            load.norm(&name("attn_k_norm"), spec.head_dim)?,
                        ]),
                        false => None,
                    },
                    attn_sub_norm: load.norm_if(arch.sub_norms, &name("attn_sub_norm"), q)?,
                    o: load.linear(&name("attn_output"), width, q)?,
                    ffn_norm: load.norm(&name("ffn_norm"), width)?,
                    gate: load.linear(&name("ffn_gate"), inner, width)?,
                    up: load.linear(&name("ffn_up"), inner, width)?,
                    ffn_sub_norm: load.norm_if(arch.sub_norms, &name("ffn_sub_norm"), inner)?,
                    down: load.linear(&name("ffn_down"), width, inner)?,
                });
            }
            let norm = load.norm("output_norm", width)?;
            let head = match load.weights.has_head() {
                true => Some(load.upload(load.weights.get("output.weight", &[spec.vocab, width])?, Role::Head)?),
                false => None,
            };
            load.weights.check_all_taken()?;
            Ok(Model { embedding, layers, norm, head, spec })
        };
        load().map_err(|error| error.at(file.path()))
    }

    /// What this model is.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The shape of a KV cache for this model, of numbers as they are computed.
    pub fn kv_shape(&self, blocks: usize, block_len: usize) -> KvShape {
        let Spec { layers, kv_heads: heads, head_dim, .. } = self.spec;
        KvShape { layers, heads, head_dim, blocks, block_len, format: &F32 }
    }

    /// Tokens to logits, `[batch.outputs(), vocab]`.
    ///
    /// # Panics
    /// When a token is not below `spec().vocab`, or a block is not in the device's KV cache.
    pub fn forward(&self, be: &mut B, batch: &Batch) -> B::Act {
        let Spec { eps, ref rope, head_dim, arch, vocab, .. } = self.spec;
        assert!(batch.tokens().iter().all(|&token| (token as usize) < vocab), "a token beyond the vocabulary");
        let attend = Attend { scale: 1.0 / (head_dim as f32).sqrt(), window: None, softcap: None };
        be.enter(Stage::Forward(batch));
        let angles = be.angles(rope, batch);
        let mut x = be.embed(&self.embedding, batch.tokens());
        for (i, layer) in self.layers.iter().enumerate() {
            be.enter(Stage::Layer(i));
            let h = be.rms_norm(&layer.attn_norm, &x, eps);
            let mut q = layer.q.forward(be, &h);
            let mut k = layer.k.forward(be, &h);
            let v = layer.v.forward(be, &h);
            if let Some([q_norm, k_norm]) = &layer.head_norms {
                q = be.rms_norm(q_norm, &q, eps);
                k = be.rms_norm(k_norm, &k, eps);
            }
            let q = be.rope(rope, &angles, q);
            let k = be.rope(rope, &angles, k);
            let mut h = be.attention(i, &q, &k, &v, &attend, batch);
            if let Some(norm) = &layer.attn_sub_norm {
                h = be.rms_norm(norm, &h, eps);
            }
            let h = layer.o.forward(be, &h);
            let (y, h) = be.add_norm(&layer.ffn_norm, &x, &h, eps);
            let gate = layer.gate.forward(be, &h);
            let up = layer.up.forward(be, &h);
            let mut h = be.gate(arch.gate, &gate, &up);
            if let Some(norm) = &layer.ffn_sub_norm {
                h = be.rms_norm(norm, &h, eps);
            }
            let h = layer.down.forward(be, &h);
            x = be.add(&y, &h);
        }
        be.enter(Stage::Head);
        let x = be.select(&x, batch.outputs());
        let h = be.rms_norm(&self.norm, &x, eps);
        be.linear(self.head.as_ref().unwrap_or(&self.embedding), &h)
    }

    /// Runs one token through the model, to find out at once that it computes nonsense. Takes the device's KV cache.
    ///
    /// # Errors
    /// When a logit is NaN or infinite.
    pub fn probe(&self, be: &mut B, token: u32) -> Result<()> {
        be.reserve_kv(self.kv_shape(1, 16))?;
        let mut batch = Batch::new();
        batch.push(&[token], 0, &[0], 1);
        let logits = self.forward(be, &batch);
        let mut values = Vec::new();
        be.read(&logits, &mut values);
        match values.iter().position(|x| !x.is_finite()) {
            Some(token) => Err(Error::NotFinite { found: values[token], token, arch: self.spec.arch.gguf[0] }),
            None => Ok(()),
        }
    }
}
