//! A device that watches another one: what every operation took, what it moved, and where a token's time went.

mod record;
mod report;
mod trace;

pub use record::{Recorder, RecorderOptions};
pub use report::{Operation, Part, Phase, Report, Snapshot, Tensor, Time};

use crate::{
    Activation, ActivationPrecision, AttentionOptions, Backend, Batch, Error, KvShape, Role, Rope, Routing, Stage,
};
use record::{Meter, Work};
use std::ops::Range;
use std::sync::Arc;
use trine_tensor::View;

/// Runs everything on `B`, to the same bits, and tells a [`Recorder`] about it.
///
/// Bytes are those that an operation must move at least: its weights, its activations as float32 in and out, and of the KV cache every
/// position of each sequence once. Operations are the multiplications and additions of its definition, where a function such as an
/// exponential counts as one.
pub struct Profile<B> {
    inner: B,
    recorder: Recorder,
    activations: Arc<Meter>,
    /// Bytes of one position in the KV cache of one layer.
    position: usize,
}

/// A weight of a [`Profile`].
pub struct Weight<W> {
    inner: W,
    /// Its number among the recorder's tensors.
    tensor: u32,
    rows: usize,
    cols: usize,
    bytes: usize,
}

/// Activations of a [`Profile`], `[rows, cols]`.
pub struct Act<A> {
    inner: A,
    rows: usize,
    cols: usize,
    /// Lets them count as long as they live.
    _held: Held,
}

impl<A> Act<A> {
    fn len(&self) -> usize {
        self.rows * self.cols
    }
}

/// Bytes that are in use until this is dropped.
struct Held {
    bytes: usize,
    meter: Arc<Meter>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.meter.give(self.bytes);
    }
}

impl<B: Backend> Profile<B> {
    /// Watches `inner`. Weights are noted as they are uploaded; operations count while the recorder runs.
    pub fn new(inner: B, recorder: Recorder) -> Profile<B> {
        let activations = recorder.meter();
        Profile { inner, recorder, activations, position: 0 }
    }

    fn act(&self, inner: B::Act, rows: usize, cols: usize) -> Act<B::Act> {
        let bytes = floats(rows * cols);
        self.activations.take(bytes);
        Act { inner, rows, cols, _held: Held { bytes, meter: self.activations.clone() } }
    }

    fn run<T>(&mut self, work: Work, body: impl FnOnce(&mut B) -> T) -> T {
        let start = self.recorder.begin();
        let result = body(&mut self.inner);
        self.recorder.end(start, work);
        result
    }
}

/// Experts of a [`Profile`].
pub struct Routes<R> {
    inner: R,
    top_k: usize,
    /// Experts of all tokens together.
    all: usize,
}

fn floats(n: usize) -> usize {
    n * size_of::<f32>()
}

impl<B: Backend> Backend for Profile<B> {
    type Weight = Weight<B::Weight>;
    type Act = Act<B::Act>;
    type Routes = Routes<B::Routes>;

    fn upload(&mut self, view: View, role: Role) -> Result<Self::Weight, Error> {
        let (rows, cols, bytes) = (view.rows(), view.cols(), view.bytes.len());
        let tensor = Tensor { name: view.name.clone(), format: view.format.name, shape: view.shape.clone(), bytes };
        let inner = self.inner.upload(view, role)?;
        Ok(Weight { inner, tensor: self.recorder.add(tensor), rows, cols, bytes })
    }

    fn reserve_kv(&mut self, shape: KvShape) -> Result<(), Error> {
        self.inner.reserve_kv(shape)?;
        let bytes = shape.bytes().unwrap_or(usize::MAX);
        self.position = bytes / (shape.n_layers * shape.blocks * shape.block_len).max(1);
        self.recorder.set_kv(bytes);
        Ok(())
    }

    fn set_activation_precision(&mut self, activations: ActivationPrecision) {
        self.inner.set_activation_precision(activations);
    }

    fn enter(&mut self, stage: Stage) {
        self.recorder.enter(stage);
        self.inner.enter(stage);
    }

    fn to_host(&mut self, x: &Self::Act, out: &mut Vec<f32>) {
        let work = Work::new("to_host", Part::Other, 2 * x.len(), 0);
        self.run(work, |be| be.to_host(&x.inner, out));
        self.recorder.end_pass();
    }

    fn embed(&mut self, table: &Self::Weight, tokens: &[u32]) -> Self::Act {
        let (rows, cols) = (tokens.len(), table.cols);
        let work = Work::new("embed", Part::Other, rows * cols, 0);
        let work = work.with(table.tensor, rows, rows * (table.bytes / table.rows.max(1)));
        let out = self.run(work, |be| be.embed(&table.inner, tokens));
        self.act(out, rows, cols)
    }

    fn linear(&mut self, w: &Self::Weight, x: &Self::Act) -> Self::Act {
        let work = Work::new("linear", Part::Products, x.rows * (w.cols + w.rows), 2 * x.rows * w.rows * w.cols);
        let work = work.with(w.tensor, x.rows, w.bytes);
        let out = self.run(work, |be| be.linear(&w.inner, &x.inner));
        self.act(out, x.rows, w.rows)
    }

    fn bias(&mut self, b: &Self::Weight, x: &Self::Act) -> Self::Act {
        let work = Work::new("bias", Part::Other, 2 * x.len(), x.len()).with(b.tensor, x.rows, b.bytes);
        let out = self.run(work, |be| be.bias(&b.inner, &x.inner));
        self.act(out, x.rows, x.cols)
    }

    fn rms_norm(&mut self, gain: &Self::Weight, x: &Self::Act, eps: f32) -> Self::Act {
        let work = Work::new("rms_norm", Part::Norms, 2 * x.len(), 4 * x.len());
        let work = work.with(gain.tensor, x.rows, gain.bytes);
        let out = self.run(work, |be| be.rms_norm(&gain.inner, &x.inner, eps));
        self.act(out, x.rows, x.cols)
    }

    fn layer_norm(
        &mut self,
        gain: &Self::Weight,
        bias: Option<&Self::Weight>,
        x: &Self::Act,
        width: usize,
        eps: f32,
    ) -> Self::Act {
        let work = Work::new("layer_norm", Part::Norms, 2 * x.len(), 7 * x.len());
        let work = work.with(gain.tensor, x.rows, gain.bytes + bias.map_or(0, |bias| bias.bytes));
        let bias = bias.map(|bias| &bias.inner);
        let out = self.run(work, |be| be.layer_norm(&gain.inner, bias, &x.inner, width, eps));
        self.act(out, x.rows, x.cols)
    }

    fn scale(&mut self, x: &Self::Act, factor: f32) -> Self::Act {
        let work = Work::new("scale", Part::Other, 2 * x.len(), x.len());
        let out = self.run(work, |be| be.scale(&x.inner, factor));
        self.act(out, x.rows, x.cols)
    }

    fn softcap(&mut self, x: &Self::Act, cap: f32) -> Self::Act {
        let work = Work::new("softcap", Part::Other, 2 * x.len(), 3 * x.len());
        let out = self.run(work, |be| be.softcap(&x.inner, cap));
        self.act(out, x.rows, x.cols)
    }

    fn slice_columns(&mut self, x: &Self::Act, width: usize, range: Range<usize>) -> Self::Act {
        let cols = x.cols / width * range.len();
        let work = Work::new("slice_columns", Part::Other, 2 * x.rows * cols, 0);
        let out = self.run(work, |be| be.slice_columns(&x.inner, width, range));
        self.act(out, x.rows, cols)
    }

    fn concat(&mut self, a: &Self::Act, width: usize, b: &Self::Act, width_b: usize) -> Self::Act {
        let cols = a.cols / width * (width + width_b);
        let work = Work::new("concat", Part::Other, 2 * a.rows * cols, 0);
        let out = self.run(work, |be| be.concat(&a.inner, width, &b.inner, width_b));
        self.act(out, a.rows, cols)
    }

    fn linear_per_head(&mut self, w: &Self::Weight, x: &Self::Act, heads: usize) -> Self::Act {
        let work =
            Work::new("linear_per_head", Part::Products, x.rows * (x.cols + w.rows), 2 * x.rows * w.rows * w.cols);
        let work = work.with(w.tensor, x.rows, w.bytes);
        let out = self.run(work, |be| be.linear_per_head(&w.inner, &x.inner, heads));
        self.act(out, x.rows, w.rows)
    }

    fn route(&mut self, scores: &Self::Act, bias: Option<&Self::Weight>, routing: &Routing) -> Self::Routes {
        let work = Work::new("route", Part::Other, scores.len() + 2 * scores.rows * routing.top_k, 3 * scores.len());
        let bias = bias.map(|bias| &bias.inner);
        let inner = self.run(work, |be| be.route(&scores.inner, bias, routing));
        Routes { inner, top_k: routing.top_k, all: scores.rows * routing.top_k }
    }

    fn experts(&mut self, w: &Self::Weight, x: &Self::Act, routes: &Self::Routes, experts: usize) -> Self::Act {
        // Only the device knows how many experts several tokens share: each is counted as often as it is used, up to all.
        let (rows, width) = (routes.all, w.rows / experts);
        let work = Work::new("experts", Part::Products, rows * (w.cols + width), 2 * rows * width * w.cols);
        let work = work.with(w.tensor, rows, w.bytes / experts * rows.min(experts));
        let out = self.run(work, |be| be.experts(&w.inner, &x.inner, &routes.inner, experts));
        self.act(out, rows, width)
    }

    fn experts_bias(&mut self, b: &Self::Weight, x: &Self::Act, routes: &Self::Routes) -> Self::Act {
        let work = Work::new("experts_bias", Part::Other, 3 * x.len(), x.len());
        let out = self.run(work, |be| be.experts_bias(&b.inner, &x.inner, &routes.inner));
        self.act(out, x.rows, x.cols)
    }

    fn combine_experts(&mut self, x: &Self::Act, routes: &Self::Routes) -> Self::Act {
        let rows = x.rows / routes.top_k;
        let work = Work::new("combine_experts", Part::Other, x.len() + rows * x.cols, 2 * x.len());
        let out = self.run(work, |be| be.combine_experts(&x.inner, &routes.inner));
        self.act(out, rows, x.cols)
    }

    fn add(&mut self, a: &Self::Act, b: &Self::Act) -> Self::Act {
        let work = Work::new("add", Part::Other, 3 * a.len(), a.len());
        let out = self.run(work, |be| be.add(&a.inner, &b.inner));
        self.act(out, a.rows, a.cols)
    }

    fn gated_activation(&mut self, kind: Activation, gate: &Self::Act, up: Option<&Self::Act>) -> Self::Act {
        let both = 2 + usize::from(up.is_some());
        let work = Work::new("gated_activation", Part::Other, both * gate.len(), 4 * gate.len());
        let up = up.map(|up| &up.inner);
        let out = self.run(work, |be| be.gated_activation(kind, &gate.inner, up));
        self.act(out, gate.rows, gate.cols)
    }

    fn rope_cache(&mut self, rope: &Rope, batch: &Batch) -> Self::Act {
        let (rows, cols) = (batch.tokens().len(), 2 * rope.frequencies.len());
        let work = Work::new("rope_cache", Part::Other, rows * cols, 2 * rows * cols);
        let out = self.run(work, |be| be.rope_cache(rope, batch));
        self.act(out, rows, cols)
    }

    fn rope(&mut self, rope: &Rope, angles: &Self::Act, x: Self::Act) -> Self::Act {
        let Act { inner, rows, cols, _held } = x;
        let work = Work::new("rope", Part::Other, 2 * rows * cols + angles.len(), 3 * rows * cols);
        let inner = self.run(work, |be| be.rope(rope, &angles.inner, inner));
        Act { inner, rows, cols, _held }
    }

    fn attention(
        &mut self,
        layer: usize,
        q: &Self::Act,
        k: &Self::Act,
        v: &Self::Act,
        attend: &AttentionOptions,
        sinks: Option<&Self::Weight>,
        batch: &Batch,
    ) -> Self::Act {
        // A query, its scores and the values cost two operations each for every position that its token sees.
        let (mut seen, mut held) = (0, 0);
        for span in batch.spans() {
            let len = span.cached + span.tokens;
            seen += (span.cached..len).map(|position| attend.seen(position, len).len()).sum::<usize>();
            held += len - attend.seen(span.cached, len).start;
        }
        let sinks = sinks.map(|sinks| &sinks.inner);
        let moved = 2 * q.len() + k.len() + v.len();
        let mut work = Work::new("attention", Part::Attention, moved, 4 * q.cols * seen);
        work.bytes += (q.rows + held) * self.position;
        work.rows = q.rows;
        let out = self.run(work, |be| be.attention(layer, &q.inner, &k.inner, &v.inner, attend, sinks, batch));
        self.act(out, q.rows, q.cols)
    }

    fn gather_rows(&mut self, x: &Self::Act, rows: &[u32]) -> Self::Act {
        let work = Work::new("gather_rows", Part::Other, 2 * rows.len() * x.cols, 0);
        let out = self.run(work, |be| be.gather_rows(&x.inner, rows));
        self.act(out, rows.len(), x.cols)
    }

    fn add_norm(&mut self, gain: &Self::Weight, a: &Self::Act, b: &Self::Act, eps: f32) -> (Self::Act, Self::Act) {
        let work = Work::new("add_norm", Part::Norms, 4 * a.len(), 5 * a.len());
        let work = work.with(gain.tensor, a.rows, gain.bytes);
        let (sum, normed) = self.run(work, |be| be.add_norm(&gain.inner, &a.inner, &b.inner, eps));
        (self.act(sum, a.rows, a.cols), self.act(normed, a.rows, a.cols))
    }
}

#[cfg(test)]
mod tests {
    /// A default method that is not forwarded would time what the inner device does not run.
    #[test]
    fn every_operation_is_forwarded() {
        let names = |source: &str, from: &str| -> Vec<String> {
            let body = source.split(from).nth(1).expect(from).split("\n}").next().unwrap();
            let name = |line: &str| Some(line.strip_prefix("    fn ")?.split(['(', '<']).next()?.to_owned());
            let mut names: Vec<String> = body.lines().filter_map(name).collect();
            names.sort();
            names
        };
        let asked = names(include_str!("../lib.rs"), "pub trait Backend {");
        assert!(asked.len() > 10);
        assert_eq!(names(include_str!("mod.rs"), "Backend for Profile<B> {"), asked);
    }
}
