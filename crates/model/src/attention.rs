//! Attention of one layer: multi-head and grouped-query, or multi-head latent.

use crate::loader::{Linear, Loader, Norm};
use crate::slice::rows;
use crate::spec::{LayerKind, Mla};
use crate::{QkNorm, Result, Sizes, Spec};
use trine_backend::{AttentionOptions, Backend, Ops, Role};

pub(crate) enum AttentionLayer<W> {
    Heads(Box<Heads<W>>),
    Mla(Box<MlaAttention<W>>),
}

pub(crate) struct Heads<W> {
    q: Linear<W>,
    k: Linear<W>,
    v: Linear<W>,
    /// Norms of queries and of keys.
    norms: Option<[Norm<W>; 2]>,
    sinks: Option<W>,
    sub_norm: Option<Norm<W>>,
    o: Linear<W>,
}

/// Multi-head latent attention (arXiv:2405.04434, section 2.1.2). The cache holds the compressed KV vector and the one rotated key of a token;
/// queries are projected to that vector, and what attention reads of it is projected to values.
pub(crate) struct MlaAttention<W> {
    /// Compression of queries and its norm, if they are compressed.
    q_a: Option<(Linear<W>, Norm<W>)>,
    q: Linear<W>,
    kv_a: Linear<W>,
    kv_a_norm: Norm<W>,
    k_pe: Linear<W>,
    /// Per head, from the query without rope to the compressed vector.
    k_b: W,
    /// Per head, from the compressed vector to the value.
    v_b: W,
    o: Linear<W>,
    dims: Mla,
}

/// What the layers of a forward pass share.
pub(crate) struct ForwardPass<'a, B: Backend> {
    pub spec: &'a Spec,
    pub device: B::Pass,
    /// Cosines and sines of each rotation.
    pub rope_caches: [Option<B::Act>; 2],
    /// Those of queries, where they differ from those of keys.
    pub query_rope_cache: Option<B::Act>,
}

impl<W> AttentionLayer<W> {
    pub fn load<B: Backend<Weight = W>>(load: &mut Loader<B>, layer: usize) -> Result<AttentionLayer<W>> {
        match load.spec.mla {
            Some(dims) => MlaAttention::load(load, layer, dims).map(|mla| AttentionLayer::Mla(Box::new(mla))),
            None => Heads::load(load, layer).map(|heads| AttentionLayer::Heads(Box::new(heads))),
        }
    }

    /// `[tokens, hidden_size]` to the same shape.
    pub fn forward<B: Backend<Weight = W>>(
        &self,
        be: &mut B,
        layer: usize,
        h: &B::Act,
        pass: &ForwardPass<B>,
    ) -> B::Act {
        let Spec { attention_scale: scale, attention_softcap: softcap, causal, ref layer_kinds, .. } = *pass.spec;
        let attend = AttentionOptions { scale, window: layer_kinds[layer].window, softcap, causal };
        match self {
            AttentionLayer::Heads(heads) => heads.forward(be, layer, h, pass, attend),
            AttentionLayer::Mla(mla) => mla.forward(be, layer, h, pass, attend),
        }
    }
}

/// Rotates queries or keys, in layers with rope.
fn rope<B: Backend>(be: &mut B, kind: LayerKind, pass: &ForwardPass<B>, x: B::Act) -> B::Act {
    match kind.rope.and_then(|rope| Some((rope, pass.rope_caches[rope].as_ref()?))) {
        Some((rope, cache)) => be.rope(&pass.spec.ropes[rope], cache, &x),
        None => x,
    }
}

/// Rotates queries, by a rotation of their own if the model has one.
fn rope_queries<B: Backend>(be: &mut B, kind: LayerKind, pass: &ForwardPass<B>, q: B::Act) -> B::Act {
    match (kind.rope, &pass.query_rope_cache) {
        (Some(rope), Some(cache)) => be.rope(&pass.spec.ropes[rope], cache, &q),
        _ => rope(be, kind, pass, q),
    }
}

impl<W> Heads<W> {
    fn load<B: Backend<Weight = W>>(load: &mut Loader<B>, layer: usize) -> Result<Heads<W>> {
        let Sizes { arch, hidden_size, n_heads, n_kv_heads, head_dim, .. } = load.spec.sizes;
        let (q, kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let name = |part: &str| format!("blk.{layer}.{part}");
        let shape = |heads: usize| match arch.qk_norm {
            QkNorm::None | QkNorm::Shared => vec![head_dim],
            QkNorm::PerHead => vec![heads, head_dim],
            QkNorm::Row => vec![heads * head_dim],
        };
        let lacks = arch.is_optional("attn_q_norm") && !load.weights.contains(&name("attn_q_norm.weight"));
        Ok(Heads {
            q: load.linear(&name("attn_q"), q, hidden_size)?,
            k: load.linear(&name("attn_k"), kv, hidden_size)?,
            v: load.linear(&name("attn_v"), kv, hidden_size)?,
            norms: match arch.qk_norm != QkNorm::None && !lacks {
                true => Some([
                    load.norm(&name("attn_q_norm"), &shape(n_heads))?,
                    load.norm(&name("attn_k_norm"), &shape(n_kv_heads))?,
                ]),
                false => None,
            },
            sinks: match arch.sinks {
                true => Some(load.upload(load.weights.get(&name("attn_sinks.weight"), &[n_heads])?, Role::Bias)?),
                false => None,
            },
            sub_norm: load.norm_if(arch.sub_norms, &name("attn_sub_norm"), &[q])?,
            o: load.linear(&name("attn_output"), hidden_size, q)?,
        })
    }

    fn forward<B: Backend<Weight = W>>(
        &self,
        be: &mut B,
        layer: usize,
        h: &B::Act,
        pass: &ForwardPass<B>,
        attend: AttentionOptions,
    ) -> B::Act {
        let (eps, kind) = (pass.spec.eps, pass.spec.layer_kinds[layer]);
        let mut q = self.q.forward(be, h);
        let mut k = self.k.forward(be, h);
        let v = self.v.forward(be, h);
        if let Some([q_norm, k_norm]) = &self.norms {
            q = q_norm.forward(be, &q, eps);
            k = k_norm.forward(be, &k, eps);
        }
        let q = rope_queries(be, kind, pass, q);
        let k = rope(be, kind, pass, k);
        let mut h = be.attention(layer, &q, &k, &v, attend, self.sinks.as_ref(), &pass.device);
        if let Some(norm) = &self.sub_norm {
            h = norm.forward(be, &h, eps);
        }
        self.o.forward(be, &h)
    }
}

impl<W> MlaAttention<W> {
    fn load<B: Backend<Weight = W>>(load: &mut Loader<B>, layer: usize, dims: Mla) -> Result<MlaAttention<W>> {
        let Sizes { hidden_size, n_heads, .. } = load.spec.sizes;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let Mla { q_lora_rank, kv_lora_rank: rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim, .. } = dims;
        let q = n_heads * (qk_nope_head_dim + qk_rope_head_dim);
        let all = load.weights.linear(&name("attn_kv_a_mqa.weight"), rank + qk_rope_head_dim, hidden_size)?;
        let biases = load.weights.contains(&name("attn_kv_a_mqa.bias"));
        let biases = match biases {
            true => Some(load.weights.get(&name("attn_kv_a_mqa.bias"), &[rank + qk_rope_head_dim])?),
            false => None,
        };
        let part = |load: &mut Loader<B>, range: std::ops::Range<usize>| -> Result<Linear<W>> {
            let bias = biases.as_ref().map(|bias| load.upload(rows(bias, range.clone())?, Role::Bias)).transpose()?;
            load.linear_of(rows(&all, range)?, bias)
        };
        let [k_b, v_b] = load.weights.mla_up_projections(layer, dims)?;
        Ok(MlaAttention {
            q_a: match q_lora_rank {
                Some(rank) => Some((
                    load.linear(&name("attn_q_a"), rank, hidden_size)?,
                    load.norm(&name("attn_q_a_norm"), &[rank])?,
                )),
                None => None,
            },
            q: match q_lora_rank {
                Some(rank) => load.linear(&name("attn_q_b"), q, rank)?,
                None => load.linear(&name("attn_q"), q, hidden_size)?,
            },
            kv_a: part(load, 0..rank)?,
            k_pe: part(load, rank..rank + qk_rope_head_dim)?,
            kv_a_norm: load.norm(&name("attn_kv_a_norm"), &[rank])?,
            k_b: load.upload(k_b, load.role())?,
            v_b: load.upload(v_b, load.role())?,
            o: load.linear(&name("attn_output"), hidden_size, n_heads * v_head_dim)?,
            dims,
        })
    }

    fn forward<B: Backend<Weight = W>>(
        &self,
        be: &mut B,
        layer: usize,
        h: &B::Act,
        pass: &ForwardPass<B>,
        attend: AttentionOptions,
    ) -> B::Act {
        let (kind, heads) = (pass.spec.layer_kinds[layer], pass.spec.n_heads);
        let Mla { kv_lora_rank: rank, qk_nope_head_dim: nope, qk_rope_head_dim: rope_dim, norm_eps: eps, .. } =
            self.dims;
        let q = match &self.q_a {
            Some((q_a, norm)) => {
                let q = q_a.forward(be, h);
                let q = norm.forward(be, &q, eps);
                self.q.forward(be, &q)
            }
            None => self.q.forward(be, h),
        };
        let q_pe = be.slice_columns(&q, nope + rope_dim, nope..nope + rope_dim);
        let q_pe = rope(be, kind, pass, q_pe);
        let q_nope = be.slice_columns(&q, nope + rope_dim, 0..nope);
        let q_nope = be.linear_per_head(&self.k_b, &q_nope, heads);
        let q = be.concat(&q_nope, rank, &q_pe, rope_dim);

        let kv = self.kv_a.forward(be, h);
        let kv = self.kv_a_norm.forward(be, &kv, eps);
        let k_pe = self.k_pe.forward(be, h);
        let k_pe = rope(be, kind, pass, k_pe);
        let k = be.concat(&kv, rank, &k_pe, rope_dim);

        // The compressed vectors are the values: the first `rank` elements of each cached row.
        let h = be.attention(layer, &q, &k, &k, attend, None, &pass.device);
        let h = be.slice_columns(&h, rank + rope_dim, 0..rank);
        let v = be.linear_per_head(&self.v_b, &h, heads);
        self.o.forward(be, &v)
    }
}
