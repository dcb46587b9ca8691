//! The backward passes of single operations compared with PyTorch's, on every instruction set.

mod common;

use common::{Golden, near};
use trine_backend::cpu::{Act, Weight};
use trine_backend::{Activation, Backend, Batch, CacheType, Cpu, CpuOptions, KvShape, Ops, Role, Rope, RopeLayout};
use trine_kernels::{AttentionOptions, tables};
use trine_tensor::View;
use trine_tensor::format::F32;
use trine_train::adjoint::{Adjoint, Rounding};
use trine_train::optimizer::{Hyperparameters, muon};

/// Documents of the rows of attention and rope.
const SPANS: [usize; 2] = [13, 6];

/// Runs a comparison with the golden numbers of this name on every instruction set.
fn on_every_table(golden: &str, compare: impl Fn(&Golden, &mut Cpu)) {
    let golden = Golden::open(golden);
    for table in tables() {
        for threads in [1, 2] {
            let mut device = Cpu::new(CpuOptions { table, threads, ..CpuOptions::default() }).unwrap();
            compare(&golden, &mut device);
        }
    }
}

/// An operand of an operation, in rows of this width.
fn load(golden: &Golden, device: &mut Cpu, name: &str, cols: usize) -> Act {
    device.to_device(&golden.numbers(name), cols)
}

fn batch() -> Batch {
    let mut batch = Batch::new();
    for (block, len) in SPANS.into_iter().enumerate() {
        batch.push(&vec![0; len], 0, &[block as u32], len);
    }
    batch
}

fn vector(golden: &Golden, device: &mut Cpu, name: &str) -> Weight {
    let values = golden.numbers(name);
    let view = View::new(name, &F32, vec![values.len()], F32.encode(&values)).unwrap();
    device.upload(view, Role::Norm).unwrap()
}

#[test]
fn attention_with_and_without_window_and_softcap() {
    let (heads, kv_heads, head_dim) = (4, 2, 16);
    on_every_table("ops", |golden, device| {
        let mut read = |name: &str, heads: usize| load(golden, device, &format!("attention.{name}"), heads * head_dim);
        let (q, dy) = (read("q", heads), read("dy", heads));
        let (k, v) = (read("k", kv_heads), read("v", kv_heads));
        let shape = KvShape {
            n_layers: 1,
            n_kv_heads: kv_heads,
            head_dim,
            windowed: Default::default(),
            blocks: 2.into(),
            block_len: 16,
            cache_type: CacheType::F32,
        };
        let cache = device.create_cache(shape).unwrap();
        let pass = device.begin(cache, &batch());
        for (variant, window, softcap) in [
            ("full", None, None),
            ("window", Some(5), None),
            ("softcap", None, Some(2.0)),
            ("both", Some(5), Some(2.0)),
        ] {
            let attend = AttentionOptions { scale: 0.25, window, softcap, causal: true };
            let out = device.attention(0, &q, &k, &v, attend, None, &pass);
            let [dq, dk, dv] = device.attention_backward([&q, &k, &v], &out, &dy, &attend, &pass);
            for (name, found) in [("y", &out), ("dq", &dq), ("dk", &dk), ("dv", &dv)] {
                let name = format!("attention.{variant}.{name}");
                near(&name, found.data(), &golden.numbers(&name));
            }
        }
    });
}

#[test]
fn rope_of_both_pairings() {
    on_every_table("ops", |golden, device| {
        for (name, pairs) in [("adjacent", RopeLayout::Adjacent), ("halves", RopeLayout::Halves)] {
            let frequencies = (0..8).map(|i| 10000f64.powf(-f64::from(i) / 8.0)).collect();
            let rope = Rope { frequencies, magnitude: 1.0, temperature: None, pairs, head_dim: 16 };
            let shape = KvShape {
                n_layers: 0,
                n_kv_heads: 1,
                head_dim: 16,
                windowed: Default::default(),
                blocks: 2.into(),
                block_len: 16,
                cache_type: CacheType::F32,
            };
            let kv = device.create_cache(shape).unwrap();
            let pass = device.begin(kv, &batch());
            let cache = device.rope_cache(&rope, &pass);
            let (x, dy) = (load(golden, device, "rope.x", 48), load(golden, device, "rope.dy", 48));
            near(name, device.rope(&rope, &cache, &x).data(), &golden.numbers(&format!("rope.{name}.y")));
            let inverse = device.rope_cache_backward(&rope, &cache);
            near(name, device.rope(&rope, &inverse, &dy).data(), &golden.numbers(&format!("rope.{name}.dx")));
        }
    });
}

#[test]
fn norms() {
    on_every_table("ops", |golden, device| {
        let gain = vector(golden, device, "rms_norm.gain");
        let (x, dy) = (load(golden, device, "rms_norm.x", 40), load(golden, device, "rms_norm.dy", 40));
        let mut dgain = device.to_device(&[0.0; 40], 40);
        near("y", device.rms_norm(&gain, &x, 1e-5).data(), &golden.numbers("rms_norm.y"));
        let dx = device.rms_norm_backward(&gain, &x, 1e-5, &dy, Some(&mut dgain));
        near("dx", dx.data(), &golden.numbers("rms_norm.dx"));
        near("dgain", dgain.data(), &golden.numbers("rms_norm.dgain"));
        let frozen = device.rms_norm_backward(&gain, &x, 1e-5, &dy, None);
        assert_eq!(frozen.data(), dx.data());
    });
}

#[test]
fn gated_activations() {
    on_every_table("ops", |golden, device| {
        let [gate, up, dy] = ["gate", "up", "dy"].map(|name| load(golden, device, &format!("gate.{name}"), 40));
        for (name, kind) in [("silu", Activation::Silu), ("relu2", Activation::Relu2)] {
            let golden = |part: &str| golden.numbers(&format!("gate.{name}.{part}"));
            near(name, device.gated_activation(kind, &gate, Some(&up)).data(), &golden("y"));
            let [dgate, dup] = device.gated_activation_backward(kind, &gate, &up, &dy);
            near(name, dgate.data(), &golden("dgate"));
            near(name, dup.data(), &golden("dup"));
        }
    });
}

#[test]
fn losses() {
    on_every_table("ops", |golden, device| {
        let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
        let (logits, targets, mut losses) =
            (load(golden, device, "cross_entropy.logits", 97), golden.ids("cross_entropy.targets"), vec![]);
        let dlogits = device.cross_entropy(&logits, &targets, 1.0 / 7.0, &mut losses);
        near("cross-entropy", &[mean(&losses)], &golden.numbers("cross_entropy.y"));
        near("cross-entropy", dlogits.data(), &golden.numbers("cross_entropy.dlogits"));
        let [logits, teacher] = ["logits", "teacher"].map(|name| load(golden, device, &format!("kl.{name}"), 97));
        let mut dlogits = device.zeros_like(&logits);
        losses.clear();
        // PyTorch's loss there is without the square of the temperature.
        device.kl_divergence(&logits, &teacher, 2.0, 0.25 / 7.0, &mut dlogits, &mut losses);
        near("divergence", &[mean(&losses)], &golden.numbers("kl.y"));
        near("divergence", dlogits.data(), &golden.numbers("kl.dlogits"));
    });
}

#[test]
fn blends_go_from_float_to_ternary() {
    on_every_table("muon", |golden, device| {
        let w = load(golden, device, "square.w", 24);
        let mut effective = |rounding| {
            let weight = device.quantize("w", &[24, 24], Role::BitLinear, &w, rounding).unwrap();
            device.dequantize(&weight)
        };
        let ternary = effective(Rounding::Ternary);
        let scale = ternary.iter().fold(0f32, |most, x| most.max(x.abs()));
        assert!(ternary.iter().all(|x| [-scale, 0.0, scale].contains(x)));
        for share in [0.0, 0.25, 0.75] {
            let between: Vec<f32> = w.data().iter().zip(&ternary).map(|(w, t)| w + share * (t - w)).collect();
            near(&format!("{share} of the way"), &effective(Rounding::Blend(share)), &between);
        }
    });
}

#[test]
fn steps_of_muon() {
    on_every_table("muon", |golden, device| {
        let hyper = Hyperparameters {
            step: 1,
            learning_rate: 0.05,
            beta1: 0.9,
            beta2: 0.0,
            eps: 0.0,
            weight_decay: 0.1,
            grad_factor: 1.0,
        };
        for (shape, cols) in [("square", 24), ("wide", 40), ("tall", 16)] {
            let mut w = load(golden, device, &format!("{shape}.w"), cols);
            let before = w.data().to_vec();
            let mut momentum = [device.zeros_like(&w)];
            for i in 0..3 {
                let g = load(golden, device, &format!("{shape}.g.{i}"), cols);
                device.update(&muon::RULE, &hyper, &mut w, &g, &mut momentum);
            }
            // Both round to bfloat16, at different places.
            let changes = |w: &[f32]| w.iter().zip(&before).map(|(w, before)| w - before).collect::<Vec<f32>>();
            let (found, expected) = (changes(w.data()), changes(&golden.numbers(&format!("{shape}.final"))));
            let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
            let error =
                norm(&mut found.iter().zip(&expected).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied());
            assert!(error < 0.02, "{shape}: {error}");
        }
    });
}
