//! The tape: a backend that runs on another one and records its operations, so that gradients can be computed.
//!
//! It records the coarse operations of the decoder, and of their operands only those that gradients need. With activation checkpointing
//! (arXiv:1604.06174) it keeps only the input of each layer, and computes the layer again in the backward pass: the same bits.

mod backward;
mod op;
mod parameter;
mod profile;

pub use op::{Var, unsupported_operation};
pub use parameter::{MasterWeight, Parameter, TapeWeight};

use crate::adjoint::{Adjoint, Rounding};
use crate::config::{Config, Precision, WeightQuantization};
use op::{OpId, Recorded, SavedVar};
use profile::TapeProfile;
use std::ops::Range;
use std::rc::Rc;
use trine_backend::{
    Activation, ActivationPrecision, Backend, Batch, CacheId, DeviceInfo, DeviceMemory, Error, Ids, KvBlock, KvShape,
    Op, OpOf, Role, Routing, Span, Stage, add_norm,
};
use trine_kernels::Factors;
use trine_tensor::View;
use trine_tensor::format::F32;

/// A device that records what it computes: one pass at a time, forward, then [backward](Tape::backward).
///
/// # Panics
/// When an operation has no gradient, for which [`unsupported_operation`] checks a model beforehand, runs outside a pass, or has an operand of
/// an earlier pass; and when a batch continues a sequence: all layers share one cache, so that every sequence begins in its batch.
///
/// # Examples
/// ```
/// use std::ops::ControlFlow;
/// use trine_backend::{Backend, Batch, CacheType, Cpu, CpuOptions};
/// use trine_model::{Model, ModelOptions};
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
/// let go_on = &mut |_| ControlFlow::Continue(());
/// let model = Model::load(&mut tape, &File::open(&path)?, ModelOptions::default(), go_on)?;
/// let cache = tape.create_cache(model.spec().kv_shape(1, CacheType::F32))?;
/// let mut batch = Batch::new();
/// batch.push(&[3, 1, 4, 1], 0, &[0], 4);
///
/// let logits = model.forward(&mut tape, cache, &batch)?;
/// let mut losses = Vec::new();
/// let dlogits = tape.device.cross_entropy(logits.value(), &[1, 4, 1, 5], 1.0 / 4.0, &mut losses);
/// tape.backward(logits, dlogits)?;
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
    ops: Vec<Recorded<B::Act>>,
    /// The operations of layers that are to be recomputed.
    checkpointed: Vec<Range<usize>>,
    /// The first operation of the current layer, if it is to be recomputed.
    layer_start: Option<usize>,
    /// The pass that is recorded.
    pass: Option<TapePass<B::Pass>>,
    /// Of a pass that the one after it discarded, which reports it.
    failure: Option<Error>,
    /// Whoever wants to know what operations take.
    pub(crate) profile: Option<TapeProfile>,
}

/// A forward pass on the tape, which keeps it for the backward pass.
pub struct TapePass<P> {
    device: Rc<P>,
    batch: Rc<Batch>,
}

impl<P> Clone for TapePass<P> {
    fn clone(&self) -> Self {
        TapePass { device: self.device.clone(), batch: self.batch.clone() }
    }
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
            pass: None,
            failure: None,
            profile: None,
        }
    }

    /// The tape that a configuration asks for.
    pub(crate) fn of(device: B, config: &Config) -> Tape<B> {
        let Config { train, quantization, .. } = config;
        let outer = Rounding::Float(train.precision.format());
        let inner = match quantization.weights {
            WeightQuantization::None => outer,
            WeightQuantization::Ternary => Rounding::Ternary,
        };
        let mut tape = Tape::new(device, inner, outer);
        tape.set_activation_checkpointing(train.grad_checkpoint);
        tape.set_factors(match train.precision {
            Precision::F32 => Factors::F32,
            Precision::Bf16 => Factors::Bf16,
            Precision::F16 => Factors::F16,
        });
        tape
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

    /// Calls `body` without recording its operations. Validation needs no gradients, and less memory without.
    pub fn no_grad<T>(&mut self, body: impl FnOnce(&mut Tape<B>) -> T) -> T {
        /// Restores `recording` when `body` returns or panics.
        struct NoGrad<'a, B: Adjoint> {
            tape: &'a mut Tape<B>,
            recording: bool,
        }
        impl<B: Adjoint> Drop for NoGrad<'_, B> {
            fn drop(&mut self) {
                self.tape.recording = self.recording;
            }
        }
        let recording = std::mem::replace(&mut self.recording, false);
        let guard = NoGrad { tape: self, recording };
        body(guard.tape)
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
            let Tape { device, params, profile, .. } = self;
            let Parameter { name, shape, role, weight } = &mut params[i];
            if let TapeWeight::Trained(MasterWeight { values, effective, .. }) = weight {
                let _span = profile.as_ref().map(|profile| profile.weight_span("quantize", i, 1));
                *effective = device.quantize(name, shape, *role, values, rounding)?;
            }
        }
        self.describe_weights();
        Ok(())
    }

    /// The values of weight `i` that the forward pass multiplies by.
    pub fn effective_weights(&mut self, i: usize) -> Vec<f32> {
        self.device.dequantize(self.params[i].effective())
    }

    /// Sets all gradients to 0.
    pub fn clear_gradients(&mut self) {
        for i in 0..self.params.len() {
            let Tape { device, params, profile, .. } = self;
            if let Some(master) = params[i].master_mut() {
                let _span = profile.as_ref().map(|profile| profile.weight_span("clear_gradient", i, 1));
                device.clear(&mut master.grad);
            }
        }
    }

    /// Ends a forward pass that needs no backward pass.
    ///
    /// # Errors
    /// When the device failed in the pass.
    pub fn discard(&mut self) -> Result<(), Error> {
        self.ops.clear();
        self.checkpointed.clear();
        self.layer_start = None;
        self.finish_pass()
    }

    /// Computes an operation whose operands are all there.
    fn compute(&mut self, op: &Recorded<B::Act>) -> B::Act {
        let Tape { device, params, pass, profile, .. } = self;
        let TapePass { device: pass, batch } = pass.as_ref().expect("a pass has begun");
        let _span = profile.as_ref().map(|profile| profile.forward(device, op, batch));
        device.run(op.op(|w| params[w].effective(), &**pass))
    }

    /// The index of an operation of the current pass; none for one of an earlier pass.
    fn index(&self, id: &OpId) -> Option<usize> {
        self.pass.as_ref().filter(|pass| Rc::ptr_eq(&pass.batch, &id.pass)).map(|_| id.index)
    }

    /// An operand of an operation of the current pass.
    fn save(&self, x: &Var<B::Act>) -> SavedVar<B::Act> {
        let id = x.id.as_ref().filter(|_| self.recording);
        let id = id.map(|id| self.index(id).expect("an operand is a constant or of the current pass"));
        SavedVar { id, value: Some(x.value.clone()) }
    }

    fn record_op(&mut self, mut op: Recorded<B::Act>) -> Var<B::Act> {
        let value = Rc::new(self.compute(&op));
        let Some(pass) = self.pass.as_ref().filter(|_| self.recording).map(|pass| pass.batch.clone()) else {
            return Var { id: None, value };
        };
        let (needed, others) = op.operands();
        match self.layer_start {
            None => others.into_iter().for_each(|operand| operand.value = None),
            Some(first) => needed.into_iter().chain(others).for_each(|operand| {
                operand.value.take_if(|_| operand.id >= Some(first));
            }),
        }
        if let (Recorded::Attention { out, .. }, None) = (&mut op, self.layer_start) {
            *out = Some(value.clone());
        }
        self.ops.push(op);
        Var { id: Some(OpId { pass, index: self.ops.len() - 1 }), value }
    }

    /// Ends the device's pass.
    fn finish_pass(&mut self) -> Result<(), Error> {
        let pass = self.pass.take().and_then(|pass| Rc::try_unwrap(pass.device).ok());
        pass.map_or(Ok(()), |pass| self.device.finish(pass))
    }

    /// Ends a layer that is to be recomputed, if there is one.
    fn end_layer(&mut self) {
        self.checkpointed.extend(self.layer_start.take().map(|first| first..self.ops.len()));
    }

    /// Computes a layer again, and keeps what its gradients need.
    fn recompute(&mut self, layer: Range<usize>) {
        let first = layer.start;
        let mut ops: Vec<Recorded<B::Act>> = self.ops.drain(layer).collect();
        let mut values: Vec<Rc<B::Act>> = Vec::with_capacity(ops.len());
        for op in &mut ops {
            let (needed, others) = op.operands();
            for operand in needed.into_iter().chain(others) {
                if let Some(i) = operand.id.and_then(|id| id.checked_sub(first)) {
                    operand.value = Some(values[i].clone());
                }
            }
            let value = Rc::new(self.compute(op));
            op.operands().1.into_iter().for_each(|operand| operand.value = None);
            if let Recorded::Attention { out, .. } = op {
                *out = Some(value.clone());
            }
            values.push(value);
        }
        self.ops.extend(ops);
    }
}

/// Models with such operations are those that [`unsupported_operation`] finds.
fn rejected(what: &str) -> ! {
    panic!("the tape has no gradient of {what}")
}

impl<B: Adjoint> Backend for Tape<B> {
    /// An index into [`Tape::params`].
    type Weight = usize;
    type Act = Var<B::Act>;
    type Routes = B::Routes;
    type Pass = TapePass<B::Pass>;

    fn info(&self) -> DeviceInfo {
        self.device.info()
    }

    fn upload(&mut self, view: View, role: Role) -> Result<usize, Error> {
        let (name, shape) = (view.name.clone(), view.shape.clone());
        let weight = if (self.frozen)(&name) {
            TapeWeight::Frozen(self.device.upload(view, role)?)
        } else {
            let rounding = self.rounding(role);
            let values = self.device.master(&view, rounding);
            let grad = self.device.zeros_like(&values);
            let effective = self.device.quantize(&name, &shape, role, &values, rounding)?;
            TapeWeight::Trained(MasterWeight { values, grad, effective })
        };
        self.params.push(Parameter { name, shape, role, weight });
        Ok(self.params.len() - 1)
    }

    /// A constant, which gets no gradient.
    fn to_device(&mut self, values: &[f32], columns: usize) -> Var<B::Act> {
        Var { id: None, value: Rc::new(self.device.to_device(values, columns)) }
    }

    fn to_host(&mut self, x: &Var<B::Act>, out: &mut Vec<f32>) -> Result<(), Error> {
        self.device.to_host(&x.value, out)
    }

    fn columns(&self, x: &Var<B::Act>) -> usize {
        self.device.columns(&x.value)
    }

    fn create_cache(&mut self, shape: KvShape) -> Result<CacheId, Error> {
        self.device.create_cache(KvShape { n_layers: 1, ..shape })
    }

    fn release_cache(&mut self, cache: CacheId) {
        self.device.release_cache(cache);
    }

    fn trim(&mut self) {
        self.device.trim();
    }

    fn copy_block(&mut self, cache: CacheId, from: KvBlock, to: KvBlock) {
        self.device.copy_block(cache, from, to);
    }

    fn read_block(&mut self, cache: CacheId, block: KvBlock, out: &mut Vec<u8>) -> Result<(), Error> {
        self.device.read_block(cache, block, out)
    }

    fn write_block(&mut self, cache: CacheId, block: KvBlock, bytes: &[u8]) {
        self.device.write_block(cache, block, bytes);
    }

    fn memory(&self) -> Option<DeviceMemory> {
        self.device.memory()
    }

    fn set_activation_precision(&mut self, precision: ActivationPrecision) {
        self.device.set_activation_precision(precision);
    }

    fn enter(&mut self, stage: Stage) {
        self.end_layer();
        if matches!(stage, Stage::Layer(_)) && self.activation_checkpointing && self.recording {
            self.layer_start = Some(self.ops.len());
        }
        self.recorder().into_iter().for_each(|recorder| recorder.enter(stage));
        self.device.enter(stage);
    }

    fn begin(&mut self, cache: CacheId, batch: &Batch) -> TapePass<B::Pass> {
        let is_new = |span: &Span| span.cached == 0;
        assert!(batch.spans().iter().all(is_new), "a sequence on the tape begins in its batch");
        self.failure = self.discard().err().or(self.failure.take());
        let pass = TapePass { device: Rc::new(self.device.begin(cache, batch)), batch: Rc::new(batch.clone()) };
        self.pass = Some(pass.clone());
        pass
    }

    /// Ends the forward pass. The device's pass goes on until the backward pass has used it.
    fn finish(&mut self, pass: TapePass<B::Pass>) -> Result<(), Error> {
        drop(pass);
        self.failure.take().map_or(Ok(()), Err)?;
        if self.recording { Ok(()) } else { self.finish_pass() }
    }

    fn run(&mut self, op: OpOf<Self>) -> Var<B::Act> {
        let saved = |x| self.save(x);
        let op = match op {
            Op::Embed { table, ids: Ids::Token, .. } => Recorded::Embed { table: *table },
            Op::Linear { w, x } => Recorded::Linear { w: *w, trained: self.params[*w].master().is_some(), x: saved(x) },
            Op::Bias { b, x } => Recorded::Bias { b: *b, x: saved(x) },
            Op::RmsNorm { gain, x, eps } => Recorded::RmsNorm { gain: *gain, x: saved(x), eps },
            Op::Add { a, b } => Recorded::Add { a: saved(a), b: saved(b) },
            Op::Scale { x, factor } => Recorded::Scale { factor, x: saved(x) },
            Op::GatedActivation { kind: kind @ (Activation::Silu | Activation::Relu2), gate, up: Some(up) } => {
                Recorded::GatedActivation { kind, gate: saved(gate), up: saved(up) }
            }
            Op::RopeCache { rope, .. } => Recorded::RopeCache { rope: rope.clone() },
            Op::Rope { rope, cache, x } => Recorded::Rope { rope: rope.clone(), cache: saved(cache), x: saved(x) },
            Op::Attention { q, k, v, options, sinks: None, .. } if options.causal => {
                Recorded::Attention { options, qkv: [q, k, v].map(saved), out: None }
            }
            Op::GatherOutputs { x, pass } => {
                // All rows are the rows themselves.
                if pass.batch.outputs().iter().copied().eq(0..pass.batch.tokens().len() as u32) {
                    return x.clone();
                }
                Recorded::GatherOutputs { x: saved(x) }
            }
            Op::Embed { .. } => rejected("learned positions or token types"),
            Op::GatedActivation { up: None, .. } => rejected("feed-forward layers without a gate"),
            Op::GatedActivation { .. } => rejected("activations other than silu and relu2"),
            Op::Attention { sinks: Some(_), .. } => rejected("attention sinks"),
            Op::Attention { .. } => rejected("bidirectional attention"),
            Op::LayerNorm { .. } => rejected("layer norm"),
            Op::Softcap { .. } => rejected("softcapped logits"),
            Op::SliceColumns { .. } | Op::Concat { .. } | Op::LinearPerHead { .. } => {
                rejected("multi-head latent attention")
            }
            Op::Experts { .. } | Op::ExpertsBias { .. } | Op::CombineExperts { .. } => rejected("mixture of experts"),
        };
        self.record_op(op)
    }

    fn route(&mut self, _: &Var<B::Act>, _: Option<&usize>, _: &Routing) -> B::Routes {
        rejected("mixture of experts")
    }

    fn chosen_experts(&mut self, routes: &B::Routes, out: &mut Vec<u32>) -> Result<(), Error> {
        self.device.chosen_experts(routes, out)
    }

    fn add_norm(&mut self, gain: &usize, a: &Var<B::Act>, b: &Var<B::Act>, eps: f32) -> (Var<B::Act>, Var<B::Act>) {
        add_norm(self, gain, a, b, eps)
    }
}
