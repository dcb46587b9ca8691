//! What quantized activations and small KV caches cost is told beside what they gain.

use std::ops::ControlFlow;
use std::path::Path;
use trine_backend::{ActivationPrecision, CacheType, Cpu, CpuOptions, KV_FORMATS};
use trine_kernels::tables;
use trine_lab::bench::{Error, Kl, Rounding, kl};
use trine_lab::quantize::quantize;
use trine_lab::synthetic::{self, Mixture};
use trine_model::runner::{Output, Sequences, Want};
use trine_model::{ModelOptions, OnDevice, Runner};
use trine_tensor::File;
use trine_tensor::format::by_name;

fn load(file: &File, options: CpuOptions) -> OnDevice<Cpu> {
    let cpu = Cpu::new(options).unwrap();
    OnDevice::load(cpu, file, ModelOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap()
}

fn tiny(folder: &Path, mixture: &str) -> File {
    let path = folder.join(mixture);
    let shape = synthetic::shape("tiny").unwrap();
    synthetic::write(&path, shape, Mixture::named(mixture).unwrap(), 3, &mut |_, _| ControlFlow::Continue(())).unwrap();
    File::open(path).unwrap()
}

/// The golden BitNet model with its matrices in this format.
fn bitnet(folder: &Path, format: &str) -> File {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models/bitnet/model.gguf");
    let path = folder.join(format!("bitnet-{format}"));
    quantize(&File::open(golden).unwrap(), &path, by_name(format).unwrap(), &mut |_| ControlFlow::Continue(()))
        .unwrap();
    File::open(path).unwrap()
}

/// Float32 activations, then quantized ones.
const ACTIVATIONS: [Rounding; 2] = [
    Rounding { activations: ActivationPrecision::F32, cache_type: CacheType::F32 },
    Rounding { activations: ActivationPrecision::Quantized, cache_type: CacheType::F32 },
];

/// Behind 70 tokens, which are more than run together.
fn compared(file: &File, roundings: [Rounding; 2]) -> Kl {
    let mut runner = load(file, CpuOptions { threads: 2, ..CpuOptions::default() });
    let ids: Vec<u32> = (0..70).map(|i| i * 7 % 256).collect();
    let found = kl(&mut runner, &ids, roundings, &mut |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(runner.memory().kv_caches, 0);
    found
}

fn found(file: &File) -> Kl {
    compared(file, ACTIVATIONS)
}

/// Fewer bits cost more, and all of them none.
#[test]
fn only_rounded_keys_and_values_cost_something() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models/llama/model.gguf");
    let file = File::open(golden).unwrap();
    let cost = |cache_type: CacheType| {
        let rounding = |cache_type| Rounding { activations: ActivationPrecision::F32, cache_type };
        compared(&file, [rounding(CacheType::F32), rounding(cache_type)]).mean
    };
    let costs: Vec<f64> = KV_FORMATS.iter().map(|format| cost(CacheType::both(format))).collect();
    let of = |name| costs[KV_FORMATS.iter().position(|format| format.name == name).unwrap()];
    let order = ["F32", "F16", "BF16", "Q4_0"].map(of);
    assert!(order[0] == 0.0 && order.is_sorted_by(|a, b| a < b), "{KV_FORMATS:?}: {costs:?}");
    assert!(of("F16") < of("Q8_0") && of("Q8_0") < of("Q4_0"), "{costs:?}");
    let mixed = ["q8_0/q4_0", "q4_0/q8_0"].map(|mixed| cost(mixed.parse().unwrap()));
    assert!(mixed.iter().all(|&mixed| of("Q8_0") < mixed && mixed < of("Q4_0")), "{mixed:?}, {costs:?}");
}

#[test]
fn only_rounded_activations_cost_something() {
    let folder = tempfile::tempdir().unwrap();
    for name in Mixture::names().split(", ") {
        let Kl { mean, error, same_best, tokens } = found(&tiny(folder.path(), name));
        // Embeddings and heads of IQ6_K are of it, too, and multiplied as floats; those of other formats of its family are Q6_K.
        let exact = ["f32", "f16", "bf16", "iq6_k"].contains(&name);
        assert_eq!((tokens, mean == 0.0, error == Some(0.0)), (70, exact, exact), "{name}: {mean} ± {error:?}");
        // Trits meet activations with one scale for a whole row.
        let most = if by_name(name).is_some_and(|format| format.ternary) { 0.01 } else { 0.001 };
        assert!((0.0..most).contains(&mean), "{name}: {mean}");
        assert!((if exact { 1.0 } else { 0.8 }..=1.0).contains(&same_best), "{name}: {same_best}");
    }
}

#[test]
fn bfloat16_activations_cost_something_where_weights_are_rounded_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let rounding = |activations| Rounding { activations, cache_type: CacheType::F32 };
    for (mixture, exact) in [("f32", true), ("f16", false), ("bf16", false)] {
        let roundings = [ActivationPrecision::F32, ActivationPrecision::Bf16].map(rounding);
        let cost = compared(&tiny(folder.path(), mixture), roundings).mean;
        assert!((cost == 0.0) == exact && (0.0..0.001).contains(&cost), "{mixture}: {cost}");
    }
}

/// BitNet's definition rounds the inputs of all matrices but the head, which is F32 here, whatever format they are in.
#[test]
fn rounding_that_is_the_model_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for format in ["TQ2_0", "TQ1_0", "I2_S"] {
        assert_eq!(found(&bitnet(folder.path(), format)).mean, 0.0, "{format}");
    }
    let head = found(&bitnet(folder.path(), "Q8_0")).mean;
    assert!(head > 0.0 && head < 0.001, "{head}");
}

/// Float activations are those of a file whose weights are decoded, to the bit.
#[test]
fn float_activations_need_no_second_file() {
    let folder = tempfile::tempdir().unwrap();
    let logits = |file: &File, options: CpuOptions| {
        let mut runner = load(file, options);
        let mut sequences = Sequences::new(&mut runner, 2, CacheType::F32).unwrap();
        let (sequence, mut output) = (sequences.add(29), Output::default());
        sequences.push(sequence, &(0..29).map(|i| i * 7 % 256).collect::<Vec<u32>>(), 29);
        sequences.run(&mut runner, Want::Logits, &mut output).unwrap();
        let logits = output.values;
        logits.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    for mixture in ["q4_k_m", "q8_0", "tq2_0", "i2_s"] {
        let file = tiny(folder.path(), mixture);
        let path = folder.path().join("decoded");
        quantize(&file, &path, by_name("F32").unwrap(), &mut |_| ControlFlow::Continue(())).unwrap();
        let expected = logits(&File::open(path).unwrap(), CpuOptions::default());
        for table in tables() {
            for repack in [false, true] {
                let options = CpuOptions {
                    table,
                    activations: ActivationPrecision::F32,
                    threads: 2,
                    repack: repack.into(),
                    ..CpuOptions::default()
                };
                assert!(logits(&file, options) == expected, "{mixture}, {}, repacked: {repack}", table.name);
            }
        }
        assert!(logits(&file, CpuOptions::default()) != expected, "{mixture}");
    }
}

#[test]
fn a_comparison_ends_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = tiny(folder.path(), "q8_0");
    let mut runner = load(&file, CpuOptions::default());
    let mut compare = |n: u32| {
        let ids: Vec<u32> = (0..n).map(|i| i % 512).collect();
        kl(&mut runner, &ids, ACTIVATIONS, &mut |done, _| match done {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        })
    };
    assert!(matches!(compare(65), Err(Error::Cancelled)));
    assert!(matches!(compare(4097), Err(Error::Context { context: 4096, .. })));
    assert_eq!(compare(1).unwrap().error, None);
}
