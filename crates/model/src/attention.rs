//! Attention of one layer: with queries, keys and values of each head, or with latent ones.

use crate::loader::{Linear, Loader, Norm};
use crate::spec::{LayerKind, Mla};
use crate::weights::{rows, transpose};
use crate::{QkNorm, Result, Spec};
use trine_backend::{AttentionOptions, Backend, Batch, Role};
use trine_tensor::View;
use trine_tensor::format::F32;

pub(crate) enum Attention<W> {
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

/// Mla attention: what is cached is the small vector that keys and values are projections of, and the one key that turns. Queries are
/// projected to it, and what attention finds of it is projected to values (arXiv:2405.04434, 2.1.2).
pub(crate) struct MlaAttention<W> {
    /// To a small vector and its norm first, if there is one.
    q_a: Option<(Linear<W>, Norm<W>)>,
    q: Linear<W>,
    latent: Linear<W>,
    latent_norm: Norm<W>,
    turned: Linear<W>,
    /// For each head, from its plain query to the latent vector, and from that to its value.
    k_b: W,
    v_b: W,
    o: Linear<W>,
    dims: Mla,
}

/// What all layers of a forward pass share.
pub(crate) struct Pass<'a, B: Backend> {
    pub spec: &'a Spec,
    pub batch: &'a Batch,
    /// Angles of each rotation.
    pub angles: [Option<B::Act>; 2],
    /// Angles of queries, where they are not those of keys.
    pub query_rope_cache: Option<B::Act>,
}

impl<W> Attention<W> {
    pub fn load<B: Backend<Weight = W>>(load: &mut Loader<B>, layer: usize) -> Result<Attention<W>> {
        match load.spec.mla {
            Some(dims) => MlaAttention::load(load, layer, dims).map(|latent| Attention::Mla(Box::new(latent))),
            None => Heads::load(load, layer).map(|heads| Attention::Heads(Box::new(heads))),
        }
    }

    /// What layer `layer` makes of the normed `h`.
    pub fn forward<B: Backend<Weight = W>>(&self, be: &mut B, layer: usize, h: &B::Act, pass: &Pass<B>) -> B::Act {
        let Spec { attention_scale: scale, attention_softcap: softcap, causal, ref layer_kinds, .. } = *pass.spec;
        let attend = AttentionOptions { scale, window: layer_kinds[layer].window, softcap, causal };
        match self {
            Attention::Heads(heads) => heads.forward(be, layer, h, pass, &attend),
            Attention::Mla(latent) => latent.forward(be, layer, h, pass, &attend),
        }
    }
}

/// Turns queries or keys, in layers that do.
fn turn<B: Backend>(be: &mut B, kind: LayerKind, pass: &Pass<B>, x: B::Act) -> B::Act {
    match kind.rope.and_then(|rope| Some((rope, pass.angles[rope].as_ref()?))) {
        Some((rope, angles)) => be.rope(&pass.spec.ropes[rope], angles, x),
        None => x,
    }
}

/// Turns queries by angles of their own, where they have some.
fn turn_queries<B: Backend>(be: &mut B, kind: LayerKind, pass: &Pass<B>, q: B::Act) -> B::Act {
    match (kind.rope, &pass.query_rope_cache) {
        (Some(rope), Some(angles)) => be.rope(&pass.spec.ropes[rope], angles, q),
        _ => turn(be, kind, pass, q),
    }
}

impl<W> Heads<W> {
    fn load<B: Backend<Weight = W>>(load: &mut Loader<B>, layer: usize) -> Result<Heads<W>> {
        let &Spec { arch, hidden_size, n_heads, n_kv_heads, head_dim, .. } = load.spec;
        let (q, kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let name = |part: &str| format!("blk.{layer}.{part}");
        let shape = |heads: usize| match arch.qk_norm {
            QkNorm::None | QkNorm::Shared => vec![head_dim],
            QkNorm::Own => vec![heads, head_dim],
            QkNorm::Row => vec![heads * head_dim],
        };
        let lacks = arch.may_lack("attn_q_norm") && !load.weights.contains(&name("attn_q_norm.weight"));
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
        pass: &Pass<B>,
        attend: &AttentionOptions,
    ) -> B::Act {
        let (eps, kind) = (pass.spec.eps, pass.spec.layer_kinds[layer]);
        let mut q = self.q.forward(be, h);
        let mut k = self.k.forward(be, h);
        let v = self.v.forward(be, h);
        if let Some([q_norm, k_norm]) = &self.norms {
            q = q_norm.forward(be, &q, eps);
            k = k_norm.forward(be, &k, eps);
        }
        let q = turn_queries(be, kind, pass, q);
        let k = turn(be, kind, pass, k);
        let mut h = be.attention(layer, &q, &k, &v, attend, self.sinks.as_ref(), pass.batch);
        if let Some(norm) = &self.sub_norm {
            h = norm.forward(be, &h, eps);
        }
        self.o.forward(be, &h)
    }
}

impl<W> MlaAttention<W> {
    fn load<B: Backend<Weight = W>>(load: &mut Loader<B>, layer: usize, dims: Mla) -> Result<MlaAttention<W>> {
        let &Spec { hidden_size, n_heads, .. } = load.spec;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let q = n_heads * (dims.plain + dims.turned);
        let all = load.weights.linear(&name("attn_kv_a_mqa.weight"), dims.rank + dims.turned, hidden_size)?;
        let biases = load.weights.contains(&name("attn_kv_a_mqa.bias"));
        let biases = match biases {
            true => Some(load.weights.get(&name("attn_kv_a_mqa.bias"), &[dims.rank + dims.turned])?),
            false => None,
        };
        let part = |load: &mut Loader<B>, range: std::ops::Range<usize>| -> Result<Linear<W>> {
            let weight = load.upload(rows(&all, range.clone())?, load.role())?;
            let bias = biases.as_ref().map(|bias| load.upload(rows(bias, range)?, Role::Bias)).transpose()?;
            Ok(Linear::of(weight, bias))
        };
        let [k_b, v_b] = up_projections(load, &name, n_heads, dims)?;
        Ok(MlaAttention {
            q_a: match dims.q_rank {
                Some(rank) => Some((
                    load.linear(&name("attn_q_a"), rank, hidden_size)?,
                    load.norm(&name("attn_q_a_norm"), &[rank])?,
                )),
                None => None,
            },
            q: match dims.q_rank {
                Some(rank) => load.linear(&name("attn_q_b"), q, rank)?,
                None => load.linear(&name("attn_q"), q, hidden_size)?,
            },
            latent: part(load, 0..dims.rank)?,
            turned: part(load, dims.rank..dims.rank + dims.turned)?,
            latent_norm: load.norm(&name("attn_kv_a_norm"), &[dims.rank])?,
            k_b: load.upload(k_b, load.role())?,
            v_b: load.upload(v_b, load.role())?,
            o: load.linear(&name("attn_output"), hidden_size, n_heads * dims.value)?,
            dims,
        })
    }

    fn forward<B: Backend<Weight = W>>(
        &self,
        be: &mut B,
        layer: usize,
        h: &B::Act,
        pass: &Pass<B>,
        attend: &AttentionOptions,
    ) -> B::Act {
        let (eps, kind, heads) = (pass.spec.eps, pass.spec.layer_kinds[layer], pass.spec.n_heads);
        let Mla { rank, plain, turned, .. } = self.dims;
        let q = match &self.q_a {
            Some((down, norm)) => {
                let small = down.forward(be, h);
                let small = norm.forward(be, &small, eps);
                self.q.forward(be, &small)
            }
            None => self.q.forward(be, h),
        };
        let q_turned = be.slice_columns(&q, plain + turned, plain..plain + turned);
        let q_turned = turn(be, kind, pass, q_turned);
        let q_plain = be.slice_columns(&q, plain + turned, 0..plain);
        let q_latent = be.linear_per_head(&self.k_b, &q_plain, heads);
        let q = be.concat(&q_latent, rank, &q_turned, turned);

        let latent = self.latent.forward(be, h);
        let latent = self.latent_norm.forward(be, &latent, eps);
        let k_turned = self.turned.forward(be, h);
        let k_turned = turn(be, kind, pass, k_turned);
        let k = be.concat(&latent, rank, &k_turned, turned);

        // The values are the latent vectors; what attention finds behind them is not looked at.
        let found = be.attention(layer, &q, &k, &k, attend, None, pass.batch);
        let found = be.slice_columns(&found, rank + turned, 0..rank);
        let values = be.linear_per_head(&self.v_b, &found, heads);
        self.o.forward(be, &values)
    }
}

/// `[heads, rank, plain]` and `[heads, value, rank]`, which some files have in one matrix of `[heads, plain + value]` rows.
fn up_projections<B: Backend>(
    load: &Loader<B>,
    name: &dyn Fn(&str) -> String,
    heads: usize,
    dims: Mla,
) -> Result<[View; 2]> {
    let Mla { rank, plain, value, .. } = dims;
    if load.weights.contains(&name("attn_k_b.weight")) {
        let k_b = load.weights.get(&name("attn_k_b.weight"), &[heads, rank, plain])?;
        return Ok([k_b, load.weights.get(&name("attn_v_b.weight"), &[heads, value, rank])?]);
    }
    let both = load.weights.get(&name("attn_kv_b.weight"), &[heads * (plain + value), rank])?;
    // A format of blocks along a row cannot have its rows and columns exchanged.
    let both = match both.format.block {
        1 => both,
        _ => View::new(both.name.clone(), &F32, both.shape.clone(), F32.encode(&both.decode()))?,
    };
    let row = both.bytes.len() / both.rows();
    let pick = |from: usize, count: usize| -> Vec<u8> {
        let heads = both.bytes.chunks_exact((plain + value) * row);
        heads.flat_map(|head| &head[from * row..(from + count) * row]).copied().collect()
    };
    let k_b = View::new(both.name.clone(), both.format, vec![heads, plain, rank], pick(0, plain))?;
    let v_b = View::new(both.name.clone(), both.format, vec![heads, value, rank], pick(plain, value))?;
    Ok([transpose(&k_b)?, v_b])
}
