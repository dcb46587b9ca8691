//! The tape: a backend that runs on another one and records its operations, so that gradients can be computed.
//!
//! It records the coarse operations of the decoder, and of their operands only those that gradients need. With activation checkpointing
//! (arXiv:1604.06174) it keeps only the input of each layer, and computes the layer again in the backward pass: the same bits.

mod backward;
mod op;
mod parameter;

pub use op::Var;
pub use parameter::{Master, Parameter, TapeWeight};

use crate::adjoint::{Adjoint, Rounding};
use op::{Op, SavedVar};
use std::ops::Range;
use std::rc::Rc;
use trine_backend::{Activation, ActivationPrecision, Backend, Batch, Error, KvShape, Role, Rope, Routing, Stage};
use trine_kernels::{Attend, Factors};
use trine_tensor::View;
use trine_tensor::format::F32;

/// A device that records what it computes.
///
/// ```
/// use std::ops::ControlFlow;
/// use trine_backend::{Backend, Batch, Cpu, CpuOptions};
/// use trine_model::Model;
/// use trine_tensor::{File, Metadata, format::F32};
/// use trine_train::adjoint::{Adjoint, Rounding};
/// use trine_train::config::ModelConfig;
/// use trine_train::{Tape, init};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = ModelConfig {
///     architecture: "llama".into(),
///     n_layers: 1,
///     hidden_size: 32,
///     n_heads: 2,
///     intermediate_size: 64,
///     ..ModelConfig::default()
/// };
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model.gguf");
/// init::write(&path, &init::sizes(&config, 50, 16)?, &Metadata::new(), 0, &mut |_, _| ControlFlow::Continue(()))?;
///
/// let float = Rounding::Float(&F32);
/// let mut tape = Tape::new(Cpu::new(CpuOptions::default())?, float, float);
/// tape.freeze(|name| name.contains("norm"));
/// let model = Model::load(&mut tape, &File::open(&path)?, &mut |_| ControlFlow::Continue(()))?;
/// tape.reserve_kv(model.kv_shape(1, 16))?;
/// let mut batch = Batch::new();
/// batch.push(&[3, 1, 4, 1], 0, &[0], 4);
///
/// let logits = model.forward(&mut tape, &batch);
/// let mut losses = Vec::new();
/// let dlogits = tape.device.cross_entropy(logits.value(), &[1, 4, 1, 5], 1.0 / 4.0, &mut losses);
/// tape.backward(logits, dlogits);
/// for param in &tape.params {
///     match param.master() {
///         Some(master) => assert!(tape.device.sum_of_squares(&master.grad) > 0.0),
///         None => assert!(param.name.contains("norm")),
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Tape<B: Adjoint> {
    pub device: B,
    /// All weights, in the order in which the model loads them.
    pub params: Vec<Parameter<B>>,
    /// Whether the weight of a tensor of this name is frozen.
    frozen: Box<dyn Fn(&str) -> bool>,
    /// Of matrices inside layers.
    inner: Rounding,
    /// Of embeddings and output heads.
    outer: Rounding,
    /// What matrix products of the backward pass round their factors to.
    factors: Factors,
    activation_checkpointing: bool,
    recording: bool,
    ops: Vec<Op<B::Act>>,
    /// The operations of layers that are to be recomputed.
    checkpointed: Vec<Range<usize>>,
    /// The first operation of the current layer, if it is to be recomputed.
    layer_start: Option<usize>,
    batch: Rc<Batch>,
}

impl<B: Adjoint> Tape<B> {
    /// A tape over a device. `inner` is the rounding of matrices inside layers, `outer` that of embeddings and output heads; norms and biases
    /// are float32.
    pub fn new(device: B, inner: Rounding, outer: Rounding) -> Tape<B> {
        Tape {
            device,
            params: Vec::new(),
            frozen: Box::new(|_| false),
            inner,
            outer,
            factors: Factors::F32,
            activation_checkpointing: false,
            recording: true,
            ops: Vec::new(),
            checkpointed: Vec::new(),
            layer_start: None,
            batch: Rc::default(),
        }
    }

    /// Chooses the weights that are frozen, by the names of their tensors, among those uploaded from now on. By default, none is.
    pub fn freeze(&mut self, frozen: impl Fn(&str) -> bool + 'static) {
        self.frozen = Box::new(frozen);
    }

    /// What matrix products of the backward pass round their factors to from now on. By default, they are float32.
    pub fn set_factors(&mut self, factors: Factors) {
        self.factors = factors;
    }

    /// Whether layers are recomputed in the backward pass instead of recorded: slower, in less memory. By default, they are recorded.
    pub fn set_activation_checkpointing(&mut self, on: bool) {
        self.activation_checkpointing = on;
    }

    /// Whether operations are recorded from now on. Validation needs no gradients, and less memory without.
    pub fn record(&mut self, recording: bool) {
        self.recording = recording;
    }

    /// The rounding of matrices inside layers from the next [`Tape::requantize`] on.
    pub fn set_inner(&mut self, rounding: Rounding) {
        self.inner = rounding;
    }

    fn rounding(&self, role: Role) -> Rounding {
        match role {
            Role::Linear | Role::BitLinear => self.inner,
            Role::Embedding | Role::Head => self.outer,
            Role::Norm | Role::Bias => Rounding::Float(&F32),
        }
    }

    /// Computes the effective weights from the master weights, which have changed.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn requantize(&mut self) -> Result<(), Error> {
        for i in 0..self.params.len() {
            let rounding = self.rounding(self.params[i].role);
            let Parameter { name, shape, role, weight } = &mut self.params[i];
            if let TapeWeight::Trained(Master { values, effective, .. }) = weight {
                *effective = self.device.quantize(name, shape, *role, values, rounding)?;
            }
        }
        Ok(())
    }

    /// The values of weight `i` that the forward pass multiplies by.
    pub fn effective_weights(&mut self, i: usize) -> Vec<f32> {
        self.device.dequantize(self.params[i].effective())
    }

    /// Sets all gradients to 0.
    pub fn clear_gradients(&mut self) {
        for master in self.params.iter_mut().filter_map(Parameter::master_mut) {
            self.device.clear(&mut master.grad);
        }
    }

    /// Discards the operations of a forward pass that needs no backward pass.
    pub fn discard(&mut self) {
        self.ops.clear();
        self.checkpointed.clear();
        self.layer_start = None;
    }

    /// Computes an operation whose operands are all there.
    fn compute(&mut self, op: &Op<B::Act>) -> B::Act {
        let Tape { device, params, batch, .. } = self;
        match op {
            Op::RopeCache { rope } => device.rope_cache(rope, batch),
            Op::Embed { table, tokens } => device.embed(params[*table].effective(), tokens),
            Op::Linear { w, x, .. } => device.linear(params[*w].effective(), x.value()),
            Op::Bias { b, x } => device.bias(params[*b].effective(), x.value()),
            Op::RmsNorm { gain, x, eps } => device.rms_norm(params[*gain].effective(), x.value(), *eps),
            Op::Add { a, b } => device.add(a.value(), b.value()),
            Op::Scale { factor, x } => device.scale(x.value(), *factor),
            Op::GatedActivation { kind, gate, up } => device.gated_activation(*kind, gate.value(), Some(up.value())),
            Op::Rope { rope, cache, x } => {
                let x = device.copy(x.value());
                device.rope(rope, cache.value(), x)
            }
            // All layers share the cache of one: each pass begins its sequences anew.
            Op::Attention { attend, qkv: [q, k, v], .. } => {
                device.attention(0, q.value(), k.value(), v.value(), attend, None, batch)
            }
            Op::GatherRows { rows, x, .. } => device.gather_rows(x.value(), rows),
        }
    }

    fn run(&mut self, mut op: Op<B::Act>) -> Var<B::Act> {
        let value = Rc::new(self.compute(&op));
        if !self.recording {
            return Var { id: 0, value };
        }
        let (needed, others) = op.operands();
        match self.layer_start {
            None => others.into_iter().for_each(|operand| operand.value = None),
            Some(first) => needed.into_iter().chain(others).for_each(|operand| {
                operand.value.take_if(|_| operand.id >= first);
            }),
        }
        if let (Op::Attention { out, .. }, None) = (&mut op, self.layer_start) {
            *out = Some(value.clone());
        }
        self.ops.push(op);
        Var { id: self.ops.len() - 1, value }
    }

    /// Ends a layer that is to be recomputed, if there is one.
    fn end_layer(&mut self) {
        self.checkpointed.extend(self.layer_start.take().map(|first| first..self.ops.len()));
    }

    /// Computes a layer again, and keeps what its gradients need.
    fn recompute(&mut self, layer: Range<usize>) {
        let first = layer.start;
        let mut ops: Vec<Op<B::Act>> = self.ops.drain(layer).collect();
        let mut values: Vec<Rc<B::Act>> = Vec::with_capacity(ops.len());
        for op in &mut ops {
            let (needed, others) = op.operands();
            for operand in needed.into_iter().chain(others) {
                if operand.id >= first {
                    operand.value = Some(values[operand.id - first].clone());
                }
            }
            let value = Rc::new(self.compute(op));
            op.operands().1.into_iter().for_each(|operand| operand.value = None);
            if let Op::Attention { out, .. } = op {
                *out = Some(value.clone());
            }
            values.push(value);
        }
        self.ops.extend(ops);
    }
}

/// Scales a matrix that is ternary, `s` times {-1, 0, 1}, so that [`Rounding::Ternary`] gives `s` again: its scale is the mean of `|w|`, which counts
/// zeros. Other matrices stay as they are.
fn masters_of_ternary(weights: &mut [f32]) {
    let Some(s) = weights.iter().map(|w| w.abs()).find(|&w| w > 0.0) else { return };
    if weights.iter().all(|&w| w == 0.0 || w.abs() == s) {
        let others = weights.iter().filter(|&&w| w != 0.0).count();
        let factor = weights.len() as f64 / others as f64;
        weights.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
    }
}

/// [`Trainer`](crate::Trainer) rejects models with such operations.
fn no_gradient(what: &str) -> ! {
    unreachable!("training rejects models with {what}")
}

impl<B: Adjoint> Backend for Tape<B> {
    /// An index into [`Tape::params`].
    type Weight = usize;
    type Act = Var<B::Act>;
    type Routes = B::Routes;

    fn upload(&mut self, view: View, role: Role) -> Result<usize, Error> {
        let (name, shape) = (view.name.clone(), view.shape.clone());
        let weight = if (self.frozen)(&name) {
            TapeWeight::Frozen(self.device.upload(view, role)?)
        } else {
            let (mut values, cols, rounding) = (view.decode(), view.cols(), self.rounding(role));
            if rounding == Rounding::Ternary {
                masters_of_ternary(&mut values);
            }
            let values = self.device.from_host(&values, cols);
            let grad = self.device.zeros_like(&values);
            let effective = self.device.quantize(&name, &shape, role, &values, rounding)?;
            TapeWeight::Trained(Master { values, grad, effective })
        };
        self.params.push(Parameter { name, shape, role, weight });
        Ok(self.params.len() - 1)
    }

    fn reserve_kv(&mut self, shape: KvShape) -> Result<(), Error> {
        self.device.reserve_kv(KvShape { n_layers: 1, ..shape })
    }

    fn set_activation_precision(&mut self, activations: ActivationPrecision) {
        self.device.set_activation_precision(activations);
    }

    fn enter(&mut self, stage: Stage) {
        match stage {
            Stage::Forward(batch) => {
                self.discard();
                self.batch = Rc::new(batch.clone());
            }
            Stage::Layer(_) if self.activation_checkpointing && self.recording => {
                self.end_layer();
                self.layer_start = Some(self.ops.len());
            }
            _ => self.end_layer(),
        }
        self.device.enter(stage);
    }

    fn to_host(&mut self, x: &Var<B::Act>, out: &mut Vec<f32>) {
        self.device.to_host(&x.value, out);
    }

    fn embed(&mut self, &table: &usize, tokens: &[u32]) -> Var<B::Act> {
        self.run(Op::Embed { table, tokens: tokens.to_vec() })
    }

    fn linear(&mut self, &w: &usize, x: &Var<B::Act>) -> Var<B::Act> {
        let trained = self.params[w].master().is_some();
        self.run(Op::Linear { w, trained, x: SavedVar::of(x) })
    }

    fn bias(&mut self, &b: &usize, x: &Var<B::Act>) -> Var<B::Act> {
        self.run(Op::Bias { b, x: SavedVar::of(x) })
    }

    fn rms_norm(&mut self, &gain: &usize, x: &Var<B::Act>, eps: f32) -> Var<B::Act> {
        self.run(Op::RmsNorm { gain, x: SavedVar::of(x), eps })
    }

    fn add(&mut self, a: &Var<B::Act>, b: &Var<B::Act>) -> Var<B::Act> {
        self.run(Op::Add { a: SavedVar::of(a), b: SavedVar::of(b) })
    }

    fn scale(&mut self, x: &Var<B::Act>, factor: f32) -> Var<B::Act> {
        self.run(Op::Scale { factor, x: SavedVar::of(x) })
    }

    fn gated_activation(&mut self, kind: Activation, gate: &Var<B::Act>, up: Option<&Var<B::Act>>) -> Var<B::Act> {
        let Some(up) = up else { no_gradient("feed-forward layers without a gate") };
        self.run(Op::GatedActivation { kind, gate: SavedVar::of(gate), up: SavedVar::of(up) })
    }

    fn rope_cache(&mut self, rope: &Rope, _: &Batch) -> Var<B::Act> {
        self.run(Op::RopeCache { rope: rope.clone() })
    }

    fn rope(&mut self, rope: &Rope, cache: &Var<B::Act>, x: Var<B::Act>) -> Var<B::Act> {
        self.run(Op::Rope { rope: rope.clone(), cache: SavedVar::of(cache), x: SavedVar::of(&x) })
    }

    fn attention(
        &mut self,
        _: usize,
        q: &Var<B::Act>,
        k: &Var<B::Act>,
        v: &Var<B::Act>,
        attend: &Attend,
        sinks: Option<&usize>,
        _: &Batch,
    ) -> Var<B::Act> {
        if sinks.is_some() {
            no_gradient("attention sinks");
        }
        self.run(Op::Attention { attend: *attend, qkv: [q, k, v].map(SavedVar::of), out: None })
    }

    fn layer_norm(&mut self, _: &usize, _: Option<&usize>, _: &Var<B::Act>, _: usize, _: f32) -> Var<B::Act> {
        no_gradient("layer norm")
    }

    fn softcap(&mut self, _: &Var<B::Act>, _: f32) -> Var<B::Act> {
        no_gradient("softcapped logits")
    }

    fn slice_columns(&mut self, _: &Var<B::Act>, _: usize, _: Range<usize>) -> Var<B::Act> {
        no_gradient("multi-head latent attention")
    }

    fn concat(&mut self, _: &Var<B::Act>, _: usize, _: &Var<B::Act>, _: usize) -> Var<B::Act> {
        no_gradient("multi-head latent attention")
    }

    fn linear_per_head(&mut self, _: &usize, _: &Var<B::Act>, _: usize) -> Var<B::Act> {
        no_gradient("multi-head latent attention")
    }

    fn route(&mut self, _: &Var<B::Act>, _: Option<&usize>, _: &Routing) -> B::Routes {
        no_gradient("mixture of experts")
    }

    fn experts(&mut self, _: &usize, _: &Var<B::Act>, _: &B::Routes, _: usize) -> Var<B::Act> {
        no_gradient("mixture of experts")
    }

    fn experts_bias(&mut self, _: &usize, _: &Var<B::Act>, _: &B::Routes) -> Var<B::Act> {
        no_gradient("mixture of experts")
    }

    fn combine_experts(&mut self, _: &Var<B::Act>, _: &B::Routes) -> Var<B::Act> {
        no_gradient("mixture of experts")
    }

    fn gather_rows(&mut self, x: &Var<B::Act>, rows: &[u32]) -> Var<B::Act> {
        let total = self.batch.tokens().len();
        if rows.iter().copied().eq(0..total as u32) {
            return x.clone();
        }
        self.run(Op::GatherRows { rows: rows.to_vec(), x: SavedVar::of(x), total })
    }
}
