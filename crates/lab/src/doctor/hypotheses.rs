//! Whether the model makes more sense with other numbers than the file gives: how positions turn, how many heads there are, what norms add.

use super::{Check, Context, Finding, Severity, smoke_test};
use trine_backend::RopeLayout;
use trine_model::Spec;

pub(super) const HYPOTHESES: Check = Check { name: "hypotheses", about: "the same text, with other numbers", run };

/// Bits per byte of plain English below which a model is well.
const WELL: f64 = 1.6;
/// What another reading must save.
const BETTER: f64 = 0.8;

fn run(context: &mut Context) -> Vec<Finding> {
    let Some(read) = context.smoke_test.filter(|smoke_test| smoke_test.bits_per_byte >= WELL) else {
        return Vec::new();
    };
    let Ok(spec) = &context.spec else { return Vec::new() };
    let (others, file) = (others(spec), context.file);
    let predicted = others.into_iter().filter_map(|(reading, spec)| {
        // What does not run so is not so.
        let smoke_test = smoke_test::measure(context, file, Some(spec)).ok()??;
        Some((reading, smoke_test.bits_per_byte))
    });
    let best = predicted.min_by(|a, b| a.1.total_cmp(&b.1));
    let as_read = format!("{:.2} bits per byte of plain English", read.bits_per_byte);
    if let Some((reading, bits)) = best.filter(|(_, bits)| *bits < BETTER * read.bits_per_byte) {
        let title = format!("the model makes more sense with {reading}");
        let evidence = format!("{as_read} as the file says, {bits:.2} so");
        let remedy = "convert the model again from its original: the keys or the order of rows are not those it was trained with";
        return vec![Finding::new(Severity::Warning, title, evidence, remedy)];
    }
    if read.judge().is_some() {
        return Vec::new();
    }
    let evidence = format!("{as_read}; models of a few million weights have 1.3 and less, large ones below 1");
    let remedy = "nothing, if the model is meant for another language or for code, or was trained little; otherwise compare its keys with those \
         of its original";
    vec![Finding::new(Severity::Note, "the model predicts English badly", evidence, remedy)]
}

/// The other hypotheses, in words, with what the model would be.
fn others(spec: &Spec) -> Vec<(String, Spec)> {
    let mut others = Vec::new();
    let mut other = |reading: String, change: &dyn Fn(&mut Spec) -> Option<()>| {
        let mut spec = spec.clone();
        others.extend(change(&mut spec).map(|()| (reading, spec)));
    };
    let ordinary = spec.mla.is_none() && spec.query_rope.is_none() && spec.ropes.len() == 1;
    if ordinary {
        let other_pairs = |spec: &mut Spec| {
            let rope = spec.ropes.first_mut()?;
            rope.pairs = if rope.pairs == RopeLayout::Halves { RopeLayout::Adjacent } else { RopeLayout::Halves };
            Some(())
        };
        other("rows of queries and keys in the other order".into(), &other_pairs);
        for base in [1e4, 5e5, 1e6] {
            other(format!("rope.freq_base {base}"), &|spec| turn(spec, base));
        }
        for heads in [spec.n_heads / 2, spec.n_heads * 2] {
            other(format!("attention.head_count {heads}"), &|spec| share(spec, heads));
        }
    }
    if spec.eps > 1e-4 {
        other("an epsilon of norms of 0.00001".into(), &|spec| {
            spec.sizes.eps = 1e-5;
            Some(())
        });
    }
    others
}

/// Rotations of this base, without scaling.
fn turn(spec: &mut Spec, base: f64) -> Option<()> {
    let rope = spec.ropes.first_mut()?;
    let turning = 2 * rope.frequencies.len();
    let frequencies = (0..turning / 2).map(|i| libm::pow(base, -((2 * i) as f64) / turning as f64)).collect();
    let same = std::mem::replace(&mut rope.frequencies, frequencies) == rope.frequencies;
    rope.magnitude = 1.0;
    spec.short_ropes = None;
    (!same).then_some(())
}

/// So many heads of the same numbers; keys and values in proportion.
fn share(spec: &mut Spec, heads: usize) -> Option<()> {
    let (all, group) = (spec.n_heads * spec.head_dim, spec.n_heads / spec.n_kv_heads);
    let base = libm::pow(*spec.ropes.first()?.frequencies.get(1)?, -(spec.ropes[0].frequencies.len() as f64));
    let head_dim = all.checked_div(heads).filter(|head_dim| head_dim % 2 == 0 && head_dim * heads == all)?;
    let whole = 2 * spec.ropes[0].frequencies.len() == spec.head_dim;
    (whole && heads.is_multiple_of(group)).then_some(())?;
    (spec.sizes.n_kv_heads, spec.sizes.n_heads, spec.sizes.head_dim) = (heads / group, heads, head_dim);
    spec.attention_scale = 1.0 / (head_dim as f32).sqrt();
    let rope = spec.ropes.first_mut()?;
    rope.head_dim = head_dim;
    rope.frequencies = vec![0.0; head_dim / 2];
    turn(spec, base)
}
