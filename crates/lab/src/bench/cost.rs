//! The work that a test is, from the model's sizes alone.

use super::{Kind, Test};
use trine_backend::{ActivationPrecision, KvBlocks};
use trine_engine::{BLOCK_LEN, EngineOptions};
use trine_kernels::multiplies_bf16;
use trine_model::Runner;
use trine_tensor::{File, Format};

/// What a step of a model costs at least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Bytes of everything but the embedding and the head.
    body: u64,
    /// Bytes of the head.
    head: u64,
    /// Bytes of an embedding.
    embedding: u64,
    /// Bytes of keys and values of a token in layers that attend to all.
    kv: u64,
    /// Those in layers with a window.
    window_kv: u64,
    /// Tokens that such a layer attends to.
    window: u64,
    /// Operations for a token without the head.
    body_work: Operations,
    /// Operations of the head.
    head_work: Operations,
    /// Tokens of a prompt that are computed together.
    chunk: u64,
}

/// Multiplications and additions of matrix products with weights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Operations {
    /// By quantized weights, whose products can be computed in bytes.
    int8: u64,
    /// By weights that are rounded to bfloat16.
    bf16: u64,
    /// By other weights that are plain numbers.
    f32: u64,
}

impl Operations {
    fn add(&mut self, format: &Format, weights: u64, activations: ActivationPrecision) {
        let sum = match format.block {
            1 if activations == ActivationPrecision::Bf16 && multiplies_bf16(format) => &mut self.bf16,
            1 => &mut self.f32,
            _ => &mut self.int8,
        };
        *sum += 2 * weights;
    }
}

/// What a whole test costs at least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Bytes of weights, keys and values that are read; weights once for each batch.
    pub bytes: u64,
    /// Operations with quantized weights.
    pub int8: u64,
    /// Operations with weights that are rounded to bfloat16.
    pub bf16: u64,
    /// Operations with other weights that are plain numbers.
    pub f32: u64,
}

impl Cost {
    /// The costs of the model of a GGUF file in an engine with `options`. `None` for other files, whose weights may be unpacked when they
    /// are loaded.
    pub fn of(
        file: &File,
        runner: &dyn Runner,
        options: &EngineOptions,
        activations: ActivationPrecision,
    ) -> Option<Cost> {
        let trine_tensor::FileFormat::Gguf { .. } = file.format() else { return None };
        let embedding = file.view("token_embd.weight").ok()?;
        let head = file.view("output.weight").unwrap_or_else(|_| embedding.clone());
        let count = |view: &trine_tensor::View| (view.rows() * view.cols()) as u64;
        let kv = |full, window| {
            let bytes = runner.kv_shape(KvBlocks { full, window }, options.cache_type).bytes()?;
            Some((bytes / BLOCK_LEN) as u64)
        };
        let mut cost = Cost {
            body: 0,
            head: head.bytes.len() as u64,
            embedding: embedding.format.row_bytes(embedding.cols())? as u64,
            kv: kv(1, 0)?,
            window_kv: kv(0, 1)?,
            window: runner.spec().max_window().map_or(u64::MAX, |window| window as u64),
            body_work: Operations::default(),
            head_work: Operations::default(),
            chunk: options.prefill_chunk as u64,
        };
        cost.head_work.add(head.format, count(&head), activations);
        for view in file.tensors().filter(|view| ![&embedding.name, &head.name].contains(&&view.name)) {
            cost.body += view.bytes.len() as u64;
            if view.rows() > 1 {
                cost.body_work.add(view.format, count(view), activations);
            }
        }
        Some(cost)
    }

    /// The work of a test. The head is computed for the last token of a prompt, and for every token that is decoded.
    pub fn work(&self, test: Test) -> Work {
        let (tokens, sequences, depth) = (test.tokens as u64, test.sequences as u64, test.depth as u64);
        let (batches, heads) = match test.kind {
            Kind::Prefill => (tokens.div_ceil(self.chunk) * sequences, sequences),
            Kind::Decode => (tokens, tokens * sequences),
        };
        // Tokens whose keys and values a batch reads, at most once for each: exactly so for decoding.
        let context = |window: u64| -> u64 {
            let chunk = if test.kind == Kind::Prefill { self.chunk } else { 1 };
            let seen = window.saturating_add(chunk - 1);
            (0..tokens.div_ceil(chunk)).map(|i| (depth + (i * chunk + chunk).min(tokens)).min(seen)).sum()
        };
        let head_reads = if test.kind == Kind::Prefill { sequences } else { batches };
        Work {
            bytes: batches * self.body
                + head_reads * self.head
                + tokens * sequences * self.embedding
                + sequences * (context(u64::MAX) * self.kv + context(self.window) * self.window_kv),
            int8: tokens * sequences * self.body_work.int8 + heads * self.head_work.int8,
            bf16: tokens * sequences * self.body_work.bf16 + heads * self.head_work.bf16,
            f32: tokens * sequences * self.body_work.f32 + heads * self.head_work.f32,
        }
    }
}
