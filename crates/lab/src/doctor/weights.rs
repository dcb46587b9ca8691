//! The weights: finite, of a size that makes sense, alive, and ternary where the model is.

use super::tensors::TensorStats;
use super::{Check, Context, Finding, Severity};
use std::collections::BTreeMap;
use trine_model::QuantMethod;
use trine_text::TokenType;

pub(super) const WEIGHTS: Check = Check { name: "weights", about: "values, scales, dead and non-ternary tensors", run };

/// Magnitudes beyond which no trained weight is known.
const LARGEST: f64 = 1e4;
/// And the root of the mean square below which a tensor does nothing.
const SMALLEST: f64 = 1e-7;
/// How far the scale of a tensor may be from that of the same tensor in other layers.
const TIMES: f64 = 100.0;
/// Layers below which scales are not compared.
const LAYERS: usize = 4;
/// Share of zeros beyond which a ternary matrix is nearly dead.
const ZEROS: f64 = 0.95;

const AGAIN: &str = "get the file again and compare its checksum; if it is as published, convert the model again";

fn run(context: &mut Context) -> Vec<Finding> {
    let tensors = &context.tensors;
    let mut findings = Vec::new();
    let mut list = |severity, title: &str, remedy: &str, is: &dyn Fn(&TensorStats) -> Option<String>| {
        let found: Vec<(&str, String)> = tensors.iter().filter_map(|t| Some((&*t.name, is(t)?))).collect();
        if let [(name, evidence), rest @ ..] = &found[..] {
            let more = if rest.is_empty() { String::new() } else { format!("; and {} more", rest.len()) };
            findings.push(Finding::new(severity, title, format!("{name}: {evidence}{more}"), remedy));
        }
    };
    list(Severity::Error, "weights are not finite", AGAIN, &|t| {
        (t.not_finite > 0)
            .then(|| format!("{} of {} weights ({}) are NaN or infinite", t.not_finite, t.count, t.format))
    });
    list(Severity::Error, "weights are all the same", AGAIN, &|t| {
        // Biases of zeros and gains of ones add and change nothing.
        let norm = t.name.to_lowercase().contains("norm");
        let dead = t.is_constant() && !is_bias(t) && if norm { t.most == 0.0 } else { t.is_matrix() };
        dead.then(|| format!("all {} weights ({}) are {}", t.count, t.format, t.most))
    });
    list(Severity::Error, "weights are absurdly large", AGAIN, &|t| {
        (f64::from(t.magnitude()) > LARGEST)
            .then(|| format!("the largest is {:e}, the root of the mean square {:e}", t.magnitude(), t.rms()))
    });
    list(Severity::Warning, "weights are absurdly small", AGAIN, &|t| {
        let tiny = t.rms() < SMALLEST && !t.is_constant() && (t.is_matrix() || t.name.contains("norm"));
        tiny.then(|| format!("the root of the mean square is {:e}", t.rms()))
    });
    let usual = usual(tensors);
    list(Severity::Warning, "the scale of weights is not that of other layers", AGAIN, &|t| {
        let usual = *usual.get(&stem(&t.name))?;
        let (rms, sane) = (t.rms(), t.rms() >= SMALLEST && f64::from(t.magnitude()) <= LARGEST && t.not_finite == 0);
        (sane && (rms > usual * TIMES || rms * TIMES < usual))
            .then(|| format!("the root of the mean square is {rms:e}, in the middle of other layers {usual:e}"))
    });
    let is_ternary = context.spec.as_ref().is_ok_and(|spec| spec.bit_linear && spec.quant_method == QuantMethod::None);
    let code = "convert the model again: a ternary code beyond the three, or scales in the wrong place, mean another byte layout";
    list(Severity::Error, "ternary codes are not ternary", code, &|t| {
        let is = trine_tensor::format::by_name(t.format).is_some_and(|format| format.ternary);
        (is && t.not_ternary > 0)
            .then(|| format!("{} of {} codes ({}) are none of -1, 0, 1", t.not_ternary, t.count, t.format))
    });
    let round = "take the released ternary weights, or `trine quantize --format tq2_0` of them: these are float weights that the model would round";
    list(Severity::Warning, "weights of a ternary model are not ternary", round, &|t| {
        let is = trine_tensor::format::by_name(t.format).is_some_and(|format| format.ternary);
        (is_ternary && is_linear(t) && !is && t.not_ternary > 0).then(|| {
            format!(
                "{} of {} weights ({}) are of another size than the rest of their row",
                t.not_ternary, t.count, t.format
            )
        })
    });
    list(Severity::Warning, "nearly all weights of a ternary matrix are zero", AGAIN, &|t| {
        let share = t.zeros as f64 / t.count as f64;
        (is_ternary && is_linear(t) && share > ZEROS && !t.is_constant())
            .then(|| format!("{:.1} % of {} weights", share * 100.0, t.count))
    });
    findings.extend(embedding(context));
    findings
}

/// Whether it is added to what others make.
fn is_bias(t: &TensorStats) -> bool {
    t.name.ends_with("bias") || t.name.ends_with(".beta")
}

/// Whether it is a linear layer inside of a layer.
fn is_linear(t: &TensorStats) -> bool {
    t.is_matrix() && (t.name.starts_with("blk.") || t.name.contains(".layers.")) && t.name.ends_with(".weight")
}

/// A tensor's name without its layer.
fn stem(name: &str) -> String {
    name.split('.')
        .map(|part| if part.bytes().all(|b| b.is_ascii_digit()) { "*" } else { part })
        .collect::<Vec<_>>()
        .join(".")
}

/// The middle of the root mean squares of each kind of tensor that enough layers have.
fn usual(tensors: &[TensorStats]) -> BTreeMap<String, f64> {
    let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    tensors
        .iter()
        .filter(|t| t.name.ends_with(".weight"))
        .for_each(|t| all.entry(stem(&t.name)).or_default().push(t.rms()));
    let middle = |(name, mut rms): (String, Vec<f64>)| {
        rms.sort_by(f64::total_cmp);
        (rms.len() >= LAYERS).then(|| (name, rms[rms.len() / 2]))
    };
    all.into_iter().filter_map(middle).collect()
}

/// Tokens of text whose embedding is nothing.
fn embedding(context: &Context) -> Option<Finding> {
    let language = context.language.as_ref().ok()?;
    let table =
        context.tensors.iter().find(|t| t.name == "token_embd.weight" || t.name == "model.embed_tokens.weight")?;
    let is_text = |&&row: &&u32| language.tokenizer.token_type(row) == Some(TokenType::Normal);
    let empty: Vec<&u32> = table.zero_rows.iter().filter(is_text).collect();
    let first = *empty.first()?;
    let share = empty.len() as f64 / language.tokenizer.len() as f64;
    (!table.is_constant()).then(|| {
        let name = language.tokenizer.name(*first).unwrap_or_default();
        let evidence = format!(
            "{} of {} tokens have an embedding of zeros, the first is {first} (`{name}`)",
            empty.len(),
            language.tokenizer.len()
        );
        let severity = if share > 0.01 { Severity::Warning } else { Severity::Note };
        Finding::new(severity, "tokens of text have no embedding", evidence, AGAIN)
    })
}
