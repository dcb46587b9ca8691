//! The feed-forward half of a layer: dense, or a mixture of experts.

use crate::loader::{Linear, Loader, Norm};
use crate::{Experts, Result, Sizes, Spec};
use trine_backend::{Backend, Ops, Role, Routing, ScoringFunction};

pub(crate) enum FeedForward<W> {
    Dense(Dense<W>),
    Experts(Box<MixtureOfExperts<W>>),
}

pub(crate) struct Dense<W> {
    /// `None` where the activation is not gated.
    gate: Option<Linear<W>>,
    up: Linear<W>,
    sub_norm: Option<Norm<W>>,
    down: Linear<W>,
}

/// Routed experts (arXiv:1701.06538), and perhaps a shared one.
pub(crate) struct MixtureOfExperts<W> {
    router: Linear<W>,
    /// Added to scores to choose experts, but not to weight them (arXiv:2408.15664).
    selection_bias: Option<W>,
    gate: Each<W>,
    up: Each<W>,
    down: Each<W>,
    shared: Option<Dense<W>>,
    /// Scores the output of the shared expert.
    shared_gate: Option<W>,
    experts: Experts,
}

/// One linear layer of each expert.
struct Each<W> {
    weight: W,
    bias: Option<W>,
    experts: usize,
}

impl<W> Each<W> {
    fn forward<B: Backend<Weight = W>>(&self, be: &mut B, x: &B::Act, routes: &B::Routes) -> B::Act {
        let y = be.experts(&self.weight, x, routes, self.experts);
        match &self.bias {
            Some(bias) => be.experts_bias(bias, &y, routes),
            None => y,
        }
    }
}

impl<W> FeedForward<W> {
    pub fn load<B: Backend<Weight = W>>(load: &mut Loader<B>, layer: usize) -> Result<FeedForward<W>> {
        match load.spec.experts.clone().filter(|_| load.spec.layer_kinds[layer].experts) {
            Some(experts) => {
                MixtureOfExperts::load(load, layer, experts).map(|mix| FeedForward::Experts(Box::new(mix)))
            }
            None => Dense::load(load, layer, "", load.spec.intermediate_size).map(FeedForward::Dense),
        }
    }

    pub fn forward<B: Backend<Weight = W>>(&self, be: &mut B, h: &B::Act, spec: &Spec) -> B::Act {
        match self {
            FeedForward::Dense(dense) => dense.forward(be, h, spec),
            FeedForward::Experts(mixture) => mixture.forward(be, h, spec),
        }
    }
}

impl<W> Dense<W> {
    /// Loads the tensors of a layer whose names end with `end`.
    fn load<B: Backend<Weight = W>>(load: &mut Loader<B>, layer: usize, end: &str, inner: usize) -> Result<Dense<W>> {
        let Sizes { arch, hidden_size, .. } = load.spec.sizes;
        let name = |part: &str| format!("blk.{layer}.{part}{end}");
        Ok(Dense {
            gate: if arch.gated { Some(load.linear(&name("ffn_gate"), inner, hidden_size)?) } else { None },
            up: load.linear(&name("ffn_up"), inner, hidden_size)?,
            sub_norm: load.norm_if(arch.sub_norms, &name("ffn_sub_norm"), &[inner])?,
            down: load.linear(&name("ffn_down"), hidden_size, inner)?,
        })
    }

    fn forward<B: Backend<Weight = W>>(&self, be: &mut B, h: &B::Act, spec: &Spec) -> B::Act {
        let mut h = match &self.gate {
            Some(gate) => {
                let gate = gate.forward(be, h);
                let up = self.up.forward(be, h);
                be.gated_activation(spec.activation, &gate, Some(&up))
            }
            None => {
                let up = self.up.forward(be, h);
                be.gated_activation(spec.activation, &up, None)
            }
        };
        if let Some(norm) = &self.sub_norm {
            h = norm.forward(be, &h, spec.eps);
        }
        self.down.forward(be, &h)
    }
}

impl<W> MixtureOfExperts<W> {
    fn load<B: Backend<Weight = W>>(
        load: &mut Loader<B>,
        layer: usize,
        experts: Experts,
    ) -> Result<MixtureOfExperts<W>> {
        let width = load.spec.hidden_size;
        let Experts { n_experts, intermediate_size: inner, .. } = experts;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let each = |load: &mut Loader<B>, part: &str, rows: usize, cols: usize| -> Result<Each<W>> {
            let view = load.weights.get(&name(&format!("{part}.weight")), &[n_experts, rows, cols])?;
            let weight = load.upload(view, load.role())?;
            Ok(Each { weight, bias: load.bias(&name(part), &[n_experts, rows])?, experts: n_experts })
        };
        // Routing is in float32 even in ternary models.
        let router = load.weights.get(&name("ffn_gate_inp.weight"), &[n_experts, width])?;
        let shared = load.weights.contains(&name("ffn_up_shexp.weight"));
        let shared_gate = name("ffn_gate_inp_shexp.weight");
        Ok(MixtureOfExperts {
            router: Linear::of(load.upload(router, Role::Linear)?, load.bias(&name("ffn_gate_inp"), &[n_experts])?),
            selection_bias: load.bias(&name("exp_probs_b"), &[n_experts])?,
            gate: each(load, "ffn_gate_exps", inner, width)?,
            up: each(load, "ffn_up_exps", inner, width)?,
            down: each(load, "ffn_down_exps", width, inner)?,
            shared: match shared {
                true => {
                    let inner = load.weights.rows(&name("ffn_up_shexp.weight"))?;
                    Some(Dense::load(load, layer, "_shexp", inner)?)
                }
                false => None,
            },
            shared_gate: match load.weights.contains(&shared_gate) {
                true => Some(load.upload(load.weights.get(&shared_gate, &[1, width])?, Role::Linear)?),
                false => None,
            },
            experts,
        })
    }

    fn forward<B: Backend<Weight = W>>(&self, be: &mut B, h: &B::Act, spec: &Spec) -> B::Act {
        let scores = self.router.forward(be, h);
        let routes = be.route(&scores, self.selection_bias.as_ref(), &self.experts.routing);
        let gate = self.gate.forward(be, h, &routes);
        let up = self.up.forward(be, h, &routes);
        let inner = be.gated_activation(spec.activation, &gate, Some(&up));
        let out = self.down.forward(be, &inner, &routes);
        let mixed = be.combine_experts(&out, &routes);
        let Some(shared) = &self.shared else { return mixed };
        let mut out = shared.forward(be, h, spec);
        if let Some(gate) = &self.shared_gate {
            // A mixture of one expert, weighted by the sigmoid of its score.
            let alone =
                Routing { top_k: 1, scoring: ScoringFunction::Sigmoid, normalize: false, scale: 1.0, groups: None };
            let score = be.linear(gate, h);
            let routes = be.route(&score, None, &alone);
            out = be.combine_experts(&out, &routes);
        }
        be.add(&mixed, &out)
    }
}
