//! RoPE: whether base and scaling fit the model, and whether queries and keys have the rope layout of the architecture.

use super::{Check, Context, Finding, Severity};
use std::f64::consts::PI;
use trine_backend::RopeLayout;
use trine_model::Spec;
use trine_tensor::FileFormat;

pub(super) const ROPE: Check = Check { name: "rope", about: "base, scaling and order of rotary positions", run };

const CONVERT: &str = "convert the model again from its original, with a converter that knows it";

fn run(context: &mut Context) -> Vec<Finding> {
    let Ok(spec) = &context.spec else { return Vec::new() };
    [base(context, spec), wavelength(spec), permuted(context, spec)].into_iter().flatten().collect()
}

/// Llama 3's vocabulary with the base of Llama 2, which converters write when they find none.
fn base(context: &Context, spec: &Spec) -> Option<Finding> {
    let metadata = context.file.metadata();
    let pre = metadata.str("tokenizer.ggml.pre").ok().flatten();
    let is_llama3 = matches!(pre, Some("llama-bpe" | "llama3" | "llama-v3")) && spec.arch.gguf.contains(&"llama");
    let key = format!("{}.rope.freq_base", spec.arch.name());
    let base = metadata.f32(&key).ok()?.unwrap_or(10000.0);
    (context.file.format() != FileFormat::Safetensors && is_llama3 && spec.vocab_size > 100_000 && base <= 10000.0)
        .then(|| {
            let evidence = format!(
                "{key} is {base}, but the vocabulary of {} tokens is Llama 3's, which was trained with 500000",
                spec.vocab_size
            );
            Finding::new(Severity::Warning, "the base of rotary positions is not the model's", evidence, CONVERT)
        })
}

/// A context in which even the slowest pair comes around, so that far positions look like near ones. Encoders of long texts are published with
/// contexts that reach beyond.
fn wavelength(spec: &Spec) -> Option<Finding> {
    if spec.arch.encoder {
        return None;
    }
    let slowest = spec.ropes.first()?.frequencies.iter().copied().fold(f64::INFINITY, f64::min);
    let wavelength = 2.0 * PI / slowest;
    (wavelength < spec.context_length as f64).then(|| {
        let evidence = format!(
            "the slowest pair of numbers comes around after {wavelength:.0} positions, the context is {}",
            spec.context_length
        );
        let remedy =
            "go by a smaller --context, or convert the model again: rope.freq_base or rope.scaling is missing or wrong";
        Finding::new(Severity::Warning, "rotary positions repeat within the context", evidence, remedy)
    })
}

/// Numbers that turn together are trained together and are of like size; where others are more alike, rows are in another order.
fn permuted(context: &Context, spec: &Spec) -> Option<Finding> {
    // Latent heads have no such rows.
    let rope = spec.ropes.first().filter(|_| spec.mla.is_none())?;
    let (head, half) = (spec.head_dim, rope.frequencies.len());
    let (mut adjacent, mut halves, mut count) = (0.0, 0.0, 0);
    for tensor in context.tensors.iter().filter(|tensor| tensor.rows.len() % head == 0) {
        for rows in tensor.rows.chunks_exact(head) {
            let differ = |a: usize, b: usize| (libm::log(rows[a]) - libm::log(rows[b])).abs() / 2.0;
            if rows.iter().any(|&square| square <= 0.0 || !square.is_finite()) {
                continue;
            }
            for i in 0..half {
                adjacent += differ(2 * i, 2 * i + 1);
                halves += differ(i, i + half);
                count += 1;
            }
        }
    }
    let (ours, other, names) = match rope.pairs {
        RopeLayout::Adjacent => (adjacent, halves, ["neighbours", "halves"]),
        RopeLayout::Halves => (halves, adjacent, ["halves", "neighbours"]),
    };
    (count >= PAIRS && ours > TIMES * other).then(|| {
        let evidence = format!(
            "rows of queries and keys that are rotated together ({}) differ by {:.3} in the logarithm of their size, those that would be if {} were rotated by {:.3}, over {count} pairs",
            names[0], ours / f64::from(count), names[1], other / f64::from(count)
        );
        Finding::new(Severity::Warning, "queries and keys seem to be in another order than rotary positions expect", evidence, CONVERT)
    })
}

/// RopeLayout below which nothing is concluded.
const PAIRS: i32 = 64;
/// How much more alike the other order must be.
const TIMES: f64 = 2.0;
