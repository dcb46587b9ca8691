//! The tape compared with PyTorch: losses, gradients and weights of `golden/train/`, which `golden/train.py` made.

mod common;

use common::{Golden, folder, near};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use trine_backend::cpu::Act;
use trine_backend::{Backend, Batch, CacheId, CacheType, Cpu, CpuOptions};
use trine_kernels::{Table, tables};
use trine_model::{Model, ModelOptions};
use trine_tensor::File;
use trine_tensor::format::{F32, I2_S};
use trine_train::adjoint::{Adjoint, Rounding};
use trine_train::export::{self, FileLayout, Formats};
use trine_train::optimizer::{Hyperparameters, adamw};
use trine_train::{MasterWeight, Parameter, Tape, Var};

const MODELS: &[&str] = &["llama", "qwen2", "qwen3", "bitnet", "bitnet-b1.58"];
const STEPS: u64 = 10;

fn path(name: &str) -> PathBuf {
    folder().join(format!("{name}.gguf"))
}

struct Case {
    golden: Golden,
    tape: Tape<Cpu>,
    model: Model<Tape<Cpu>>,
    batch: Batch,
    targets: Vec<u32>,
    cache: CacheId,
}

impl Case {
    fn new(name: &str, table: &'static Table, threads: usize, inner: Rounding) -> Case {
        Case::load(name, &path(name), table, threads, inner, |_| false)
    }

    /// The weights of another file of the same architecture, of which some are frozen.
    fn load(
        name: &str,
        path: &Path,
        table: &'static Table,
        threads: usize,
        inner: Rounding,
        frozen: fn(&str) -> bool,
    ) -> Case {
        let golden = Golden::open(name);
        let device = Cpu::new(CpuOptions { table, threads, ..CpuOptions::default() }).unwrap();
        let mut tape = Tape::new(device, inner, Rounding::Float(&F32));
        tape.freeze(frozen);
        let model = Model::load(&mut tape, &File::open(path).unwrap(), ModelOptions::default(), &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap();
        let (ids, mut batch, mut start) = (golden.ids("ids"), Batch::new(), 0);
        for (block, len) in golden.ids("spans").into_iter().enumerate() {
            let end = start + len as usize;
            batch.push(&ids[start..end], 0, &[block as u32], len as usize);
            start = end;
        }
        let cache = tape.create_cache(model.spec().kv_shape(8, CacheType::F32)).unwrap();
        let targets = golden.ids("targets");
        Case { golden, tape, model, cache, batch, targets }
    }

    /// Forward and backward: the mean loss.
    fn pass(&mut self) -> f64 {
        let Case { tape, model, cache, batch, targets, .. } = self;
        tape.requantize().unwrap();
        tape.clear_gradients();
        let logits: Var<Act> = model.forward(tape, *cache, batch).unwrap();
        let mut losses = Vec::new();
        let n = targets.len() as f32;
        let dlogits = tape.device.cross_entropy(logits.value(), targets, 1.0 / n, &mut losses);
        tape.backward(logits, dlogits).unwrap();
        losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / f64::from(n)
    }

    fn check_gradients(&self, prefix: &str) {
        for param in &self.tape.params {
            let grad = param.master().unwrap().grad.data();
            self.golden.check(&format!("{prefix}.{}", param.name), grad, *param.shape.last().unwrap());
        }
    }

    fn bits(&self) -> Vec<u32> {
        let masters = self.tape.params.iter().filter_map(Parameter::master);
        masters.flat_map(|master| master.grad.data()).map(|x| x.to_bits()).collect()
    }
}

/// Those of `golden/train.py`, without decay and clipping.
fn hyper(step: u64) -> Hyperparameters {
    Hyperparameters {
        step,
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.0,
        grad_factor: 1.0,
    }
}

#[test]
fn ten_steps_are_those_of_pytorch() {
    for name in MODELS {
        let mut case = Case::new(name, tables().next().unwrap(), 2, Rounding::Float(&F32));
        let losses = case.golden.numbers("losses");
        let norms = case.golden.numbers("grad_norms");
        let Tape { device, params, .. } = &mut case.tape;
        let masters = params.iter().filter_map(Parameter::master);
        let mut states: Vec<[Act; 2]> =
            masters.map(|master| [(); 2].map(|()| device.zeros_like(&master.values))).collect();
        for step in 0..STEPS {
            let loss = case.pass();
            near(&format!("{name}: loss {step}"), &[loss as f32], &[losses[step as usize]]);
            if step == 0 || step == STEPS - 1 {
                case.check_gradients(&format!("grad.{step}"));
            }
            let Tape { device, params, .. } = &mut case.tape;
            let squares: f64 =
                params.iter().filter_map(Parameter::master).map(|master| device.sum_of_squares(&master.grad)).sum();
            near(&format!("{name}: norm {step}"), &[squares.sqrt() as f32], &[norms[step as usize]]);
            let grad_factor = (1.0 / (squares.sqrt() + 1e-6)).min(1.0) as f32;
            for (param, states) in params.iter_mut().zip(&mut states) {
                let weight_decay = if param.is_inner() { 0.1 } else { 0.0 };
                let hyper = Hyperparameters { weight_decay, grad_factor, ..hyper(step + 1) };
                let MasterWeight { values, grad, .. } = param.master_mut().unwrap();
                device.update(&adamw::RULE, &hyper, values, grad, states);
            }
        }
        for param in &case.tape.params {
            let values = param.master().unwrap().values.data();
            case.golden.check(&format!("final.{}", param.name), values, *param.shape.last().unwrap());
        }
    }
}

#[test]
fn quantization_aware_gradients_are_those_of_pytorch() {
    for name in ["bitnet", "bitnet-b1.58"] {
        let mut case = Case::new(name, tables().next().unwrap(), 2, Rounding::Ternary);
        let loss = case.pass();
        near(&format!("{name}: loss"), &[loss as f32], &case.golden.numbers("qat.loss"));
        case.check_gradients("qat.grad");
    }
}

#[test]
fn gradients_have_the_same_bits_everywhere() {
    for name in MODELS {
        for inner in [Rounding::Float(&F32), Rounding::Ternary] {
            let mut case = Case::new(name, tables().next().unwrap(), 1, inner);
            let loss = case.pass();
            let bits = case.bits();
            for table in tables() {
                for (threads, checkpointing) in [(1, false), (2, true), (3, false)] {
                    let mut other = Case::new(name, table, threads, inner);
                    other.tape.set_activation_checkpointing(checkpointing);
                    assert_eq!(other.pass().to_bits(), loss.to_bits(), "{name}, {}, {threads} threads", table.name);
                    assert!(other.bits() == bits, "{name}, {}, {threads} threads, {checkpointing}", table.name);
                }
            }
        }
    }
}

fn bits(values: &Act) -> Vec<u32> {
    values.data().iter().map(|x| x.to_bits()).collect()
}

/// Compares the loss and all gradients that both have.
fn check_same_gradients(all: &mut Case, part: &mut Case, frozen: fn(&str) -> bool) {
    assert_eq!(all.pass().to_bits(), part.pass().to_bits());
    let mut trained = 0;
    for (all, part) in all.tape.params.iter().zip(&part.tape.params) {
        assert_eq!((&all.name, part.master().is_none()), (&part.name, frozen(&part.name)));
        if let Some(master) = part.master() {
            assert!(bits(&master.grad) == bits(&all.master().unwrap().grad), "{}", part.name);
            assert!(master.grad.data().iter().any(|&x| x != 0.0), "{}", part.name);
            trained += 1;
        }
    }
    assert!(trained > 0 && trained < part.tape.params.len());
}

#[test]
fn gradients_flow_through_frozen_weights() {
    let all: [fn(&str) -> bool; 3] = [
        |name| name.contains("ffn_"),
        |name| name.contains("norm"),
        |name| name.contains("attn_") || name.contains("embd"),
    ];
    for name in ["llama", "qwen2", "qwen3"] {
        let (table, inner) = (tables().next().unwrap(), Rounding::Float(&F32));
        for frozen in all {
            for checkpointing in [false, true] {
                let mut part = Case::load(name, &path(name), table, 2, inner, frozen);
                part.tape.set_activation_checkpointing(checkpointing);
                check_same_gradients(&mut Case::new(name, table, 2, inner), &mut part, frozen);
            }
        }
    }
}

#[test]
fn frozen_weights_may_be_quantized_and_do_not_change() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base.gguf");
    let table = tables().next().unwrap();
    let matrices = |name: &str| name.contains("attn_q.") || name.contains("ffn_down.") || name.contains("ffn_up.");
    for name in ["bitnet", "bitnet-b1.58"] {
        let mut case = Case::new(name, table, 2, Rounding::Ternary);
        let metadata = File::open(path(name)).unwrap().metadata().clone();
        let layout = FileLayout { metadata, ..FileLayout::default() };
        export::write(&mut case.tape, &layout, Formats { inner: &I2_S, outer: &F32 }, &base).unwrap();
        let load = |frozen| Case::load(name, &base, table, 2, Rounding::Ternary, frozen);
        let mut part = load(matrices);
        check_same_gradients(&mut load(|_| false), &mut part, matrices);

        let effective = |case: &mut Case| -> Vec<Vec<f32>> {
            (0..case.tape.params.len()).map(|i| case.tape.effective_weights(i)).collect()
        };
        let (loss, before) = (part.pass(), effective(&mut part));
        for _ in 0..5 {
            let Tape { device, params, .. } = &mut part.tape;
            for MasterWeight { values, grad, .. } in params.iter_mut().filter_map(Parameter::master_mut) {
                let mut states = [device.zeros_like(values), device.zeros_like(values)];
                device.update(&adamw::RULE, &hyper(1), values, grad, &mut states);
            }
            part.pass();
        }
        let after = effective(&mut part);
        for (i, param) in part.tape.params.iter().enumerate() {
            assert_eq!(before[i] == after[i], matrices(&param.name), "{}", param.name);
        }
        assert!(part.pass() < loss);
    }
}
