//! The tape: a backend that runs on another, remembers what it was asked, and goes back.
//!
//! It remembers coarse operations, the same that the decoder asks for, and of their operands only what their gradients need. Inside a layer that is
//! forgotten (gradient checkpointing, arXiv:1604.06174) it keeps the questions and the layer's input, and asks again on the way back: the device
//! gives the same answers, bit for bit.

use crate::adjoint::{Adjoint, Rounding};
use std::ops::Range;
use std::rc::Rc;
use trine_backend::{Activation, ActivationPrecision, Backend, Batch, Error, KvShape, Role, Rope, Routing, Stage};
use trine_kernels::{AttentionOptions, Factors};
use trine_tensor::View;
use trine_tensor::format::F32;

/// A weight that is trained.
pub struct Param<B: Backend> {
    /// Its name in the file.
    pub name: String,
    /// Its shape there.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// The weight itself, float32.
    pub master: B::Act,
    /// Its gradient so far.
    pub grad: B::Act,
    /// What the forward pass sees of it.
    weight: B::Weight,
}

impl<B: Backend> Param<B> {
    /// How many numbers it has.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is a matrix inside a layer: what is quantised, and what weight decay shrinks.
    pub fn is_inner(&self) -> bool {
        matches!(self.role, Role::Linear | Role::BitLinear)
    }
}

/// Activations on the tape.
pub struct Var<A> {
    id: usize,
    value: Rc<A>,
}

impl<A> Clone for Var<A> {
    fn clone(&self) -> Self {
        Var { id: self.id, value: self.value.clone() }
    }
}

impl<A> Var<A> {
    /// What they are on the device.
    pub fn value(&self) -> &A {
        &self.value
    }
}

/// An operand: which it is, and its value as long as that is needed.
struct Operand<A> {
    id: usize,
    value: Option<Rc<A>>,
}

impl<A> Operand<A> {
    fn of(x: &Var<A>) -> Operand<A> {
        Operand { id: x.id, value: Some(x.value.clone()) }
    }

    fn value(&self) -> &A {
        self.value.as_ref().expect("operands that are needed are kept")
    }
}

/// What was asked.
enum Op<A> {
    Angles { rope: Rope },
    Embed { table: usize, tokens: Vec<u32> },
    Linear { w: usize, x: Operand<A> },
    Bias { b: usize, x: Operand<A> },
    RmsNorm { gain: usize, x: Operand<A>, eps: f32 },
    Add { a: Operand<A>, b: Operand<A> },
    Scale { factor: f32, x: Operand<A> },
    Activation { kind: Activation, gate: Operand<A>, up: Operand<A> },
    Rope { rope: Rope, angles: Operand<A>, x: Operand<A> },
    Attention { attend: AttentionOptions, qkv: [Operand<A>; 3], out: Option<Rc<A>> },
    Select { rows: Vec<u32>, x: Operand<A>, total: usize },
}

impl<A> Op<A> {
    /// Operands whose values the gradient needs, and those that only running it again would need.
    fn operands(&mut self) -> (Vec<&mut Operand<A>>, Vec<&mut Operand<A>>) {
        match self {
            Op::Angles { .. } | Op::Embed { .. } => (vec![], vec![]),
            Op::Linear { x, .. } | Op::RmsNorm { x, .. } => (vec![x], vec![]),
            Op::Bias { x, .. } | Op::Scale { x, .. } | Op::Select { x, .. } => (vec![], vec![x]),
            Op::Add { a, b } => (vec![], vec![a, b]),
            Op::Activation { gate, up, .. } => (vec![gate, up], vec![]),
            Op::Rope { angles, x, .. } => (vec![angles], vec![x]),
            Op::Attention { qkv, .. } => (qkv.iter_mut().collect(), vec![]),
        }
    }
}

/// A device under training.
pub struct Tape<B: Adjoint> {
    /// The device.
    pub device: B,
    /// All weights, in the order in which the model loaded them.
    pub params: Vec<Param<B>>,
    /// What matrices inside layers are rounded to.
    inner: Rounding,
    /// What all other matrices are.
    outer: Rounding,
    /// What products of the way back round their factors to.
    factors: Factors,
    /// Whether layers are forgotten on the way forward.
    forgetful: bool,
    /// Whether operations are remembered at all.
    recording: bool,
    ops: Vec<Op<B::Act>>,
    /// Layers that were forgotten.
    segments: Vec<Range<usize>>,
    /// The first operation of the layer that runs now, when it is to be forgotten.
    open: Option<usize>,
    batch: Rc<Batch>,
}

impl<B: Adjoint> Tape<B> {
    /// A tape over a device. Matrices inside layers are seen as `inner` says, embedding and head as `outer`.
    pub fn new(device: B, inner: Rounding, outer: Rounding) -> Tape<B> {
        Tape {
            device,
            params: Vec::new(),
            inner,
            outer,
            factors: Factors::F32,
            forgetful: false,
            recording: true,
            ops: Vec::new(),
            segments: Vec::new(),
            open: None,
            batch: Rc::default(),
        }
    }

    /// What products of the way back round their factors to from now on.
    pub fn set_factors(&mut self, factors: Factors) {
        self.factors = factors;
    }

    /// Whether layers are forgotten on the way forward from now on, and run again on the way back: slower, in less memory.
    pub fn set_forgetful(&mut self, forgetful: bool) {
        self.forgetful = forgetful;
    }

    /// Whether operations are remembered from now on: not for validation.
    pub fn record(&mut self, recording: bool) {
        self.recording = recording;
    }

    /// What matrices inside layers are rounded to from the next [`Tape::settle`] on.
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

    /// Makes the forward pass see what the master weights have become.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn settle(&mut self) -> Result<(), Error> {
        for i in 0..self.params.len() {
            let rounding = self.rounding(self.params[i].role);
            let Param { name, shape, role, master, weight, .. } = &mut self.params[i];
            *weight = self.device.settle(name, shape, *role, master, rounding)?;
        }
        Ok(())
    }

    /// The numbers of weight `i` as the forward pass sees them.
    pub fn seen(&mut self, i: usize) -> Vec<f32> {
        self.device.seen(&self.params[i].weight)
    }

    /// Forgets all gradients.
    pub fn clear_gradients(&mut self) {
        for param in &mut self.params {
            self.device.clear(&mut param.grad);
        }
    }

    /// Answers a question, whose operands are all there.
    fn answer(&mut self, op: &Op<B::Act>) -> B::Act {
        let Tape { device, params, batch, .. } = self;
        match op {
            Op::Angles { rope } => device.rope_cache(rope, batch),
            Op::Embed { table, tokens } => device.embed(&params[*table].weight, tokens),
            Op::Linear { w, x } => device.linear(&params[*w].weight, x.value()),
            Op::Bias { b, x } => device.bias(&params[*b].weight, x.value()),
            Op::RmsNorm { gain, x, eps } => device.rms_norm(&params[*gain].weight, x.value(), *eps),
            Op::Add { a, b } => device.add(a.value(), b.value()),
            Op::Scale { factor, x } => device.scale(x.value(), *factor),
            Op::Activation { kind, gate, up } => device.gated_activation(*kind, gate.value(), Some(up.value())),
            Op::Rope { rope, angles, x } => {
                let x = device.copy(x.value());
                device.rope(rope, angles.value(), x)
            }
            // The cache of one layer is enough: nobody comes back to another's.
            Op::Attention { attend, qkv: [q, k, v], .. } => {
                device.attention(0, q.value(), k.value(), v.value(), attend, None, batch)
            }
            Op::Select { rows, x, .. } => device.gather_rows(x.value(), rows),
        }
    }

    fn run(&mut self, mut op: Op<B::Act>) -> Var<B::Act> {
        let value = Rc::new(self.answer(&op));
        if !self.recording {
            return Var { id: 0, value };
        }
        let (needed, others) = op.operands();
        match self.open {
            None => others.into_iter().for_each(|operand| operand.value = None),
            Some(first) => needed.into_iter().chain(others).for_each(|operand| {
                operand.value.take_if(|_| operand.id >= first);
            }),
        }
        if let (Op::Attention { out, .. }, None) = (&mut op, self.open) {
            *out = Some(value.clone());
        }
        self.ops.push(op);
        Var { id: self.ops.len() - 1, value }
    }

    /// Ends a layer that is to be forgotten.
    fn close(&mut self) {
        self.segments.extend(self.open.take().map(|first| first..self.ops.len()));
    }

    /// Runs a forgotten layer again, and keeps what its gradients need.
    fn replay(&mut self, segment: Range<usize>) {
        let first = segment.start;
        let mut ops: Vec<Op<B::Act>> = self.ops.drain(segment).collect();
        let mut values: Vec<Rc<B::Act>> = Vec::with_capacity(ops.len());
        for op in &mut ops {
            let (needed, others) = op.operands();
            for operand in needed.into_iter().chain(others) {
                if operand.id >= first {
                    operand.value = Some(values[operand.id - first].clone());
                }
            }
            let value = Rc::new(self.answer(op));
            op.operands().1.into_iter().for_each(|operand| operand.value = None);
            if let Op::Attention { out, .. } = op {
                *out = Some(value.clone());
            }
            values.push(value);
        }
        self.ops.extend(ops);
    }

    /// Adds to the gradients of all weights what follows from `dy`, the gradient of `y`, and forgets all operations.
    pub fn backward(&mut self, y: Var<B::Act>, dy: B::Act) {
        self.close();
        let mut grads: Vec<Option<B::Act>> = (0..self.ops.len()).map(|_| None).collect();
        grads[y.id] = Some(dy);
        drop(y);
        while !self.ops.is_empty() {
            if let Some(segment) = self.segments.pop_if(|segment| segment.end == self.ops.len()) {
                self.replay(segment);
            }
            let op = self.ops.pop().expect("there is one");
            let Some(dy) = grads.pop().flatten() else { continue };
            let Tape { device, params, batch, factors, .. } = self;
            let mut give = |device: &mut B, to: &Operand<B::Act>, part: B::Act| match &mut grads[to.id] {
                Some(sum) => device.accumulate(sum, &part),
                empty => *empty = Some(part),
            };
            match op {
                Op::Angles { .. } => {}
                Op::Embed { table, tokens } => device.embed_back(&tokens, &dy, &mut params[table].grad),
                Op::Linear { w, x } => {
                    let Param { weight, grad, .. } = &mut params[w];
                    let dx = grads[x.id].take();
                    grads[x.id] = Some(device.linear_back(weight, x.value(), &dy, *factors, grad, dx));
                }
                Op::Bias { b, x } => {
                    device.bias_back(&dy, &mut params[b].grad);
                    give(device, &x, dy);
                }
                Op::RmsNorm { gain, x, eps } => {
                    let Param { weight, grad, .. } = &mut params[gain];
                    let dx = device.rms_norm_back(weight, x.value(), eps, &dy, grad);
                    give(device, &x, dx);
                }
                Op::Add { a, b } => {
                    let part = device.copy(&dy);
                    give(device, &a, part);
                    give(device, &b, dy);
                }
                Op::Scale { factor, x } => {
                    let dx = device.scale(&dy, factor);
                    give(device, &x, dx);
                }
                Op::Activation { kind, gate, up } => {
                    let [dgate, dup] = device.gate_back(kind, gate.value(), up.value(), &dy);
                    give(device, &gate, dgate);
                    give(device, &up, dup);
                }
                Op::Rope { rope, angles, x } => {
                    let dx = device.rope_back(&rope, angles.value(), dy);
                    give(device, &x, dx);
                }
                Op::Attention { attend, qkv, out } => {
                    let out = out.expect("kept with the operands");
                    let parts = device.attention_back(qkv.each_ref().map(Operand::value), &out, &dy, &attend, batch);
                    for (to, part) in qkv.iter().zip(parts) {
                        give(device, to, part);
                    }
                }
                Op::Select { rows, x, total } => {
                    let dx = device.select_back(&rows, total, &dy);
                    give(device, &x, dx);
                }
            }
        }
    }

    /// Forgets the operations of a forward pass that is not gone back.
    pub fn forget(&mut self) {
        self.ops.clear();
        self.segments.clear();
        self.open = None;
    }
}

/// Makes of a matrix that is ternary already, `s` times {-1, 0, 1}, one that rounds to it: the mean of `|w|`, which is its scale then, is `s`, and not
/// the share of `s` that is not 0. Other matrices stay.
fn masters_of_ternary(weights: &mut [f32]) {
    let Some(s) = weights.iter().map(|w| w.abs()).find(|&w| w > 0.0) else { return };
    if weights.iter().all(|&w| w == 0.0 || w.abs() == s) {
        let others = weights.iter().filter(|&&w| w != 0.0).count();
        let stretch = weights.len() as f64 / others as f64;
        weights.iter_mut().for_each(|w| *w = (f64::from(*w) * stretch) as f32);
    }
}

/// Models with such operations are refused before they are run: see [`crate::setup`].
fn no_way_back(what: &str) -> ! {
    unreachable!("training refuses models with {what}")
}

impl<B: Adjoint> Backend for Tape<B> {
    /// The number of a [`Param`].
    type Weight = usize;
    type Act = Var<B::Act>;
    type Routes = B::Routes;

    fn upload(&mut self, view: View, role: Role) -> Result<usize, Error> {
        let (mut values, cols, rounding) = (view.decode(), view.cols(), self.rounding(role));
        if rounding == Rounding::Ternary {
            masters_of_ternary(&mut values);
        }
        let master = self.device.write(&values, cols);
        let grad = self.device.write(&vec![0.0; values.len()], cols);
        let weight = self.device.settle(&view.name, &view.shape, role, &master, rounding)?;
        self.params.push(Param { name: view.name, shape: view.shape, role, master, grad, weight });
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
                self.forget();
                self.batch = Rc::new(batch.clone());
            }
            Stage::Layer(_) if self.forgetful && self.recording => {
                self.close();
                self.open = Some(self.ops.len());
            }
            _ => self.close(),
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
        self.run(Op::Linear { w, x: Operand::of(x) })
    }

    fn bias(&mut self, &b: &usize, x: &Var<B::Act>) -> Var<B::Act> {
        self.run(Op::Bias { b, x: Operand::of(x) })
    }

    fn rms_norm(&mut self, &gain: &usize, x: &Var<B::Act>, eps: f32) -> Var<B::Act> {
        self.run(Op::RmsNorm { gain, x: Operand::of(x), eps })
    }

    fn add(&mut self, a: &Var<B::Act>, b: &Var<B::Act>) -> Var<B::Act> {
        self.run(Op::Add { a: Operand::of(a), b: Operand::of(b) })
    }

    fn scale(&mut self, x: &Var<B::Act>, factor: f32) -> Var<B::Act> {
        self.run(Op::Scale { factor, x: Operand::of(x) })
    }

    fn gated_activation(&mut self, kind: Activation, gate: &Var<B::Act>, up: Option<&Var<B::Act>>) -> Var<B::Act> {
        let Some(up) = up else { no_way_back("feed-forward layers without a gate") };
        self.run(Op::Activation { kind, gate: Operand::of(gate), up: Operand::of(up) })
    }

    fn rope_cache(&mut self, rope: &Rope, _: &Batch) -> Var<B::Act> {
        self.run(Op::Angles { rope: rope.clone() })
    }

    fn rope(&mut self, rope: &Rope, angles: &Var<B::Act>, x: Var<B::Act>) -> Var<B::Act> {
        self.run(Op::Rope { rope: rope.clone(), angles: Operand::of(angles), x: Operand::of(&x) })
    }

    fn attention(
        &mut self,
        _: usize,
        q: &Var<B::Act>,
        k: &Var<B::Act>,
        v: &Var<B::Act>,
        attend: &AttentionOptions,
        sinks: Option<&usize>,
        _: &Batch,
    ) -> Var<B::Act> {
        if sinks.is_some() {
            no_way_back("attention sinks");
        }
        self.run(Op::Attention { attend: *attend, qkv: [q, k, v].map(Operand::of), out: None })
    }

    fn layer_norm(&mut self, _: &usize, _: Option<&usize>, _: &Var<B::Act>, _: usize, _: f32) -> Var<B::Act> {
        no_way_back("layer norms")
    }

    fn softcap(&mut self, _: &Var<B::Act>, _: f32) -> Var<B::Act> {
        no_way_back("capped logits")
    }

    fn slice_columns(&mut self, _: &Var<B::Act>, _: usize, _: Range<usize>) -> Var<B::Act> {
        no_way_back("latent attention")
    }

    fn concat(&mut self, _: &Var<B::Act>, _: usize, _: &Var<B::Act>, _: usize) -> Var<B::Act> {
        no_way_back("latent attention")
    }

    fn linear_per_head(&mut self, _: &usize, _: &Var<B::Act>, _: usize) -> Var<B::Act> {
        no_way_back("latent attention")
    }

    fn route(&mut self, _: &Var<B::Act>, _: Option<&usize>, _: &Routing) -> B::Routes {
        no_way_back("experts")
    }

    fn experts(&mut self, _: &usize, _: &Var<B::Act>, _: &B::Routes, _: usize) -> Var<B::Act> {
        no_way_back("experts")
    }

    fn experts_bias(&mut self, _: &usize, _: &Var<B::Act>, _: &B::Routes) -> Var<B::Act> {
        no_way_back("experts")
    }

    fn combine_experts(&mut self, _: &Var<B::Act>, _: &B::Routes) -> Var<B::Act> {
        no_way_back("experts")
    }

    fn gather_rows(&mut self, x: &Var<B::Act>, rows: &[u32]) -> Var<B::Act> {
        let total = self.batch.tokens().len();
        if rows.iter().copied().eq(0..total as u32) {
            return x.clone();
        }
        self.run(Op::Select { rows: rows.to_vec(), x: Operand::of(x), total })
    }
}
