//! The operations of the CPU.

use super::{Act, Cpu, Pass, Weight, lock};
use crate::{
    ActivationPrecision, Backend, Batch, CacheId, DeviceInfo, DeviceMemory, Error, Ids, KvBlock, KvShape, Op, OpOf,
    Role, Rope, Routing, Stage, add_norm,
};
use std::ops::Range;
use trine_kernels::{
    ActivationLayout, Attention, AttentionOptions, CpuExecutor, Input, Matrix, QuantizedActivations, Routes,
    multiplies_bf16,
};
use trine_tensor::{Format, View};

impl Backend for Cpu {
    type Weight = Weight;
    type Act = Act;
    type Routes = Routes;
    type Pass = Pass;

    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            name: "cpu",
            isa: self.executor.table.name,
            threads: self.threads(),
            cpus: self.bound.clone(),
            nodes: self.nodes.clone(),
        }
    }

    fn upload(&mut self, view: View, role: Role) -> Result<Weight, Error> {
        self.load_weight(view, role)
    }

    fn to_device(&mut self, values: &[f32], columns: usize) -> Act {
        let mut out = self.act(values.len() / columns.max(1), columns);
        out.data.copy_from_slice(values);
        out
    }

    fn to_host(&mut self, x: &Act, out: &mut Vec<f32>) -> Result<(), Error> {
        out.clear();
        out.extend_from_slice(&x.data);
        Ok(())
    }

    fn columns(&self, x: &Act) -> usize {
        x.cols
    }

    fn create_cache(&mut self, shape: KvShape) -> Result<CacheId, Error> {
        self.caches.create(shape)
    }

    fn release_cache(&mut self, cache: CacheId) {
        self.caches.release(cache);
    }

    fn trim(&mut self) {
        lock(&self.store).trim();
        self.executor.trim();
        self.batches = Vec::new();
    }

    fn copy_block(&mut self, cache: CacheId, from: KvBlock, to: KvBlock) {
        self.caches.get(cache).copy_block(from, to);
    }

    fn read_block(&mut self, cache: CacheId, block: KvBlock, out: &mut Vec<u8>) -> Result<(), Error> {
        self.caches.get(cache).read_block(block, out);
        Ok(())
    }

    fn write_block(&mut self, cache: CacheId, block: KvBlock, bytes: &[u8]) {
        self.caches.get(cache).write_block(block, bytes);
    }

    fn memory(&self) -> Option<DeviceMemory> {
        let store = lock(&self.store);
        let bytes: usize = store.bytes.iter().map(QuantizedActivations::bytes).sum();
        let activations = (store.allocated + bytes + self.executor.scratch_bytes()) as u64;
        Some(DeviceMemory { weights: self.weights + self.arena.bytes() as u64, activations })
    }

    fn set_activation_precision(&mut self, precision: ActivationPrecision) {
        self.options.activations = precision;
    }

    fn enter(&mut self, _: Stage) {}

    fn begin(&mut self, cache: CacheId, batch: &Batch) -> Pass {
        let [one, many] = self.threads();
        self.executor.pool().limit(if batch.tokens().len() > 1 { many } else { one });
        let mut own = self.batches.pop().unwrap_or_default();
        own.clone_from(batch);
        Pass { cache, shape: self.caches.get(cache).shape.clone(), batch: own }
    }

    fn finish(&mut self, pass: Pass) -> Result<(), Error> {
        self.batches.push(pass.batch);
        Ok(())
    }

    fn run(&mut self, op: OpOf<Self>) -> Act {
        match op {
            Op::Embed { table, ids, pass } => self.run_embed(table, ids, &pass.batch),
            Op::Linear { w, x } => self.product(w.matrix(), w.role, x),
            Op::LinearPerHead { w, x, heads } => self.run_linear_per_head(w, x, heads),
            Op::Bias { b, x } => {
                let mut out = self.act(x.rows(), x.cols);
                self.executor.add(&x.data, &b.row, x.cols, &mut out.data);
                out
            }
            Op::RmsNorm { gain, x, eps } => {
                let mut out = self.act(x.rows(), x.cols);
                self.executor.rms_norm(&x.data, &gain.row, eps, &mut out.data);
                out
            }
            Op::LayerNorm { gain, bias, x, width, eps } => {
                let mut out = self.act(x.rows(), x.cols);
                let bias = bias.map(|bias| &bias.row[..]);
                self.executor.layer_norm(&x.data, width, &gain.row, bias, eps, &mut out.data);
                out
            }
            Op::Add { a, b } => {
                let mut out = self.act(a.rows(), a.cols);
                self.executor.add(&a.data, &b.data, a.cols, &mut out.data);
                out
            }
            Op::Scale { x, factor } => {
                let mut out = self.act(x.rows(), x.cols);
                self.executor.scale(&x.data, factor, x.cols, &mut out.data);
                out
            }
            Op::Softcap { x, cap } => {
                let mut out = self.act(x.rows(), x.cols);
                self.executor.softcap(&x.data, cap, x.cols, &mut out.data);
                out
            }
            Op::GatedActivation { kind, gate, up } => {
                let mut out = self.act(gate.rows(), gate.cols);
                let up = up.map(|up| &up.data[..]);
                self.executor.gated_activation(kind, &gate.data, up, gate.cols, &mut out.data);
                out
            }
            Op::SliceColumns { x, width, range } => self.run_slice_columns(x, width, range),
            Op::Concat { a, width, b, width_b } => self.run_concat(a, width, b, width_b),
            Op::Experts { w, x, routes, n_experts } => self.run_experts(w, x, routes, n_experts),
            Op::ExpertsBias { b, x, routes } => self.run_experts_bias(b, x, routes),
            Op::CombineExperts { x, routes } => {
                let mut out = self.act(routes.experts.len() / routes.top_k, x.cols);
                self.executor.combine_experts(&x.data, &routes.weights, x.cols, &mut out.data);
                out
            }
            Op::RopeCache { rope, pass } => self.run_rope_cache(rope, &pass.batch),
            Op::Rope { rope, cache, x } => {
                let mut out = self.act(x.rows(), x.cols);
                self.executor.rope(&x.data, x.cols, rope.head_dim, &cache.data, rope.pairs, &mut out.data);
                out
            }
            Op::Attention { layer, q, k, v, options, sinks, pass } => {
                self.run_attention(layer, [q, k, v], options, sinks, pass)
            }
            Op::GatherOutputs { x, pass } => {
                self.rows(x, pass.batch.outputs().iter().map(|&row| row as usize), 0..x.cols)
            }
        }
    }

    fn route(&mut self, scores: &Act, bias: Option<&Weight>, routing: &Routing) -> Routes {
        self.executor.route(&scores.data, scores.cols, bias.map(|bias| &bias.row[..]), routing)
    }

    fn chosen_experts(&mut self, routes: &Routes, out: &mut Vec<u32>) -> Result<(), Error> {
        out.extend_from_slice(&routes.experts);
        Ok(())
    }

    fn add_norm(&mut self, gain: &Weight, a: &Act, b: &Act, eps: f32) -> (Act, Act) {
        add_norm(self, gain, a, b, eps)
    }
}

/// What a product with a matrix of this format takes.
pub(super) fn layout_of(
    executor: &CpuExecutor,
    format: &Format,
    role: Role,
    precision: ActivationPrecision,
) -> ActivationLayout {
    match (executor.activation_layout(format), role) {
        (ActivationLayout::PerBlock, Role::BitLinear) => ActivationLayout::PerTokenSpread,
        (layout, Role::BitLinear) => layout,
        _ if precision == ActivationPrecision::F32 => ActivationLayout::F32,
        _ if precision == ActivationPrecision::Bf16 && multiplies_bf16(format) => ActivationLayout::Bf16,
        (layout, _) => layout,
    }
}

impl Cpu {
    /// `x · wᵀ`.
    fn product(&mut self, matrix: Matrix, role: Role, x: &Act) -> Act {
        let mut out = self.act(x.rows(), matrix.rows);
        // The head of a batch of which no outputs are wanted.
        if x.data.is_empty() {
            return out;
        }
        let form = layout_of(&self.executor, matrix.format, role, self.options.activations);
        if form != ActivationLayout::F32 {
            self.derive(x, form);
        } else if role == Role::BitLinear {
            self.round(x);
        }
        let derived = x.derived.borrow();
        let input = match form {
            ActivationLayout::F32 if role == Role::BitLinear => Input::F32(derived.rounded.as_ref().expect("rounded")),
            ActivationLayout::F32 => Input::F32(&x.data),
            _ => Input::Quantized(&derived.bytes.iter().find(|(have, _)| *have == form).expect("derived").1),
        };
        self.executor.product(matrix, input, &mut out.data);
        drop(derived);
        out
    }

    /// These rows of `x`, or as many of its columns as `columns` has.
    pub fn rows(&self, x: &Act, rows: impl ExactSizeIterator<Item = usize>, columns: Range<usize>) -> Act {
        let mut out = self.act(rows.len(), columns.len());
        for (out, row) in out.data.chunks_exact_mut(columns.len()).zip(rows) {
            out.copy_from_slice(&x.data[row * x.cols..][columns.clone()]);
        }
        out
    }

    fn run_embed(&mut self, table: &Weight, ids: Ids, batch: &Batch) -> Act {
        let tokens = batch.tokens().len();
        let mut out = self.act(tokens, table.view.cols());
        match ids {
            Ids::Token => self.executor.gather(table.matrix(), batch.tokens(), &mut out.data),
            Ids::Position => {
                let positions: Vec<u32> = (0..tokens).map(|row| batch.position(row) as u32).collect();
                self.executor.gather(table.matrix(), &positions, &mut out.data);
            }
            Ids::TokenType => self.executor.gather(table.matrix(), &vec![0; tokens], &mut out.data),
        }
        out
    }

    fn run_linear_per_head(&mut self, w: &Weight, x: &Act, heads: usize) -> Act {
        let (matrix, tokens) = (w.matrix(), x.rows());
        let rows = matrix.rows / heads;
        let mut out = self.act(tokens, matrix.rows);
        for head in 0..heads {
            let x = self.rows(x, 0..tokens, head * matrix.cols..(head + 1) * matrix.cols);
            let part = self.product(matrix.part(head * rows..(head + 1) * rows), w.role, &x);
            for (out, part) in out.data.chunks_exact_mut(matrix.rows).zip(part.data.chunks_exact(rows)) {
                out[head * rows..][..rows].copy_from_slice(part);
            }
        }
        out
    }

    fn run_slice_columns(&mut self, x: &Act, width: usize, range: Range<usize>) -> Act {
        let mut out = self.act(x.rows(), x.cols / width * range.len());
        for (out, x) in out.data.chunks_exact_mut(range.len()).zip(x.data.chunks_exact(width)) {
            out.copy_from_slice(&x[range.clone()]);
        }
        out
    }

    fn run_concat(&mut self, a: &Act, width: usize, b: &Act, width_b: usize) -> Act {
        let (runs, both) = (a.cols / width, width + width_b);
        let shared = b.cols == width_b;
        let mut out = self.act(a.rows(), runs * both);
        for (i, (out, a)) in out.data.chunks_exact_mut(both).zip(a.data.chunks_exact(width)).enumerate() {
            let (head, tail) = out.split_at_mut(width);
            head.copy_from_slice(a);
            tail.copy_from_slice(&b.data[if shared { i / runs } else { i } * width_b..][..width_b]);
        }
        out
    }

    fn run_experts(&mut self, w: &Weight, x: &Act, routes: &Routes, n_experts: usize) -> Act {
        let (matrix, all) = (w.matrix(), routes.experts.len());
        let rows = matrix.rows / n_experts;
        // A row for each token, or for each expert of it.
        let each = all / x.rows().max(1);
        let mut out = self.act(all, rows);
        for expert in 0..n_experts {
            let chosen = |&i: &usize| routes.experts[i] == expert as u32;
            let chosen: Vec<usize> = (0..all).filter(chosen).collect();
            if chosen.is_empty() {
                continue;
            }
            let x = self.rows(x, chosen.iter().map(|i| i / each), 0..x.cols);
            let y = self.product(matrix.part(expert * rows..(expert + 1) * rows), w.role, &x);
            for (&i, y) in chosen.iter().zip(y.data.chunks_exact(rows)) {
                out.data[i * rows..][..rows].copy_from_slice(y);
            }
        }
        out
    }

    fn run_experts_bias(&mut self, b: &Weight, x: &Act, routes: &Routes) -> Act {
        let mut out = self.act(x.rows(), x.cols);
        let bias = |expert: u32| &b.row[expert as usize * x.cols..][..x.cols];
        for (i, &expert) in routes.experts.iter().enumerate() {
            let row = i * x.cols..(i + 1) * x.cols;
            self.executor.add(&x.data[row.clone()], bias(expert), x.cols, &mut out.data[row]);
        }
        out
    }

    fn run_rope_cache(&mut self, rope: &Rope, batch: &Batch) -> Act {
        let pairs = rope.frequencies.len();
        let mut out = self.act(batch.tokens().len(), 2 * pairs);
        // A sine and a cosine in double precision are some forty multiplications.
        self.executor.fill(&mut out.data, 2 * pairs, 80 * pairs, &|row, out| {
            let (cosines, sines) = out.split_at_mut(pairs);
            for ((cos, sin), angle) in cosines.iter_mut().zip(sines).zip(rope.angles(batch.position(row))) {
                [*cos, *sin] = angle;
            }
        });
        out
    }

    fn run_attention(
        &mut self,
        layer: usize,
        qkv: [&Act; 3],
        options: AttentionOptions,
        sinks: Option<&Weight>,
        pass: &Pass,
    ) -> Act {
        let ([q, k, v], Pass { cache, shape, batch }) = (qkv, pass);
        let mut out = self.act(batch.tokens().len(), q.cols);
        let (spans, blocks) = (batch.spans(), batch.blocks());
        let Cpu { executor, caches, .. } = self;
        let (layout, cache) = (shape.layout(layer), &mut caches.get(*cache).layers[layer]);
        executor.store(&k.data, &v.data, layout, spans, blocks, cache);
        let n_heads = q.cols / layout.head_dim;
        let sinks = sinks.map_or(&[][..], |sinks| &sinks.row);
        let job = Attention { q: &q.data, n_heads, layout, cache, options, sinks, spans, blocks };
        executor.attention(&job, &mut out.data);
        out
    }
}
