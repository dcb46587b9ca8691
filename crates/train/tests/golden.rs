//! The tape beside PyTorch: losses, gradients and weights of `golden/train/`, which `golden/train.py` made.

mod common;

use common::{Golden, folder, near};
use std::ops::ControlFlow;
use trine_backend::{Act, Backend, Batch, Cpu, CpuOptions};
use trine_kernels::{Table, tables};
use trine_model::Model;
use trine_tensor::File;
use trine_tensor::format::F32;
use trine_train::adjoint::{AdamW, Adjoint, Rounding};
use trine_train::{Param, Tape, Var};

const MODELS: &[&str] = &["llama", "qwen2", "qwen3", "bitnet", "bitnet-b1.58"];
const STEPS: u64 = 10;

struct Case {
    golden: Golden,
    tape: Tape<Cpu>,
    model: Model<Tape<Cpu>>,
    batch: Batch,
    targets: Vec<u32>,
}

impl Case {
    fn new(name: &str, table: &'static Table, threads: usize, inner: Rounding) -> Case {
        let golden = Golden::open(name);
        let device = Cpu::new(CpuOptions { table, threads, ..CpuOptions::default() }).unwrap();
        let mut tape = Tape::new(device, inner, Rounding::Float(&F32));
        let file = File::open(folder().join(format!("{name}.gguf"))).unwrap();
        let model = Model::load(&mut tape, &file, &mut |_| ControlFlow::Continue(())).unwrap();
        let (ids, mut batch, mut start) = (golden.ids("ids"), Batch::new(), 0);
        for (block, len) in golden.ids("spans").into_iter().enumerate() {
            let end = start + len as usize;
            batch.push(&ids[start..end], 0, &[block as u32], len as usize);
            start = end;
        }
        tape.reserve_kv(model.kv_shape(8, 16)).unwrap();
        let targets = golden.ids("targets");
        Case { golden, tape, model, batch, targets }
    }

    /// Forward and back: the mean loss.
    fn pass(&mut self) -> f64 {
        let Case { tape, model, batch, targets, .. } = self;
        tape.settle().unwrap();
        tape.clear_gradients();
        let logits: Var<Act> = model.forward(tape, batch);
        let mut losses = Vec::new();
        let n = targets.len() as f32;
        let dlogits = tape.device.cross_entropy(logits.value(), targets, 1.0 / n, &mut losses);
        tape.backward(logits, dlogits);
        losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / f64::from(n)
    }

    fn check_gradients(&self, prefix: &str) {
        for Param { name, shape, grad, .. } in &self.tape.params {
            self.golden.check(&format!("{prefix}.{name}"), grad.data(), *shape.last().unwrap());
        }
    }

    fn bits(&self) -> Vec<u32> {
        self.tape.params.iter().flat_map(|param| param.grad.data()).map(|x| x.to_bits()).collect()
    }
}

#[test]
fn ten_steps_are_those_of_pytorch() {
    for name in MODELS {
        let mut case = Case::new(name, tables().next().unwrap(), 2, Rounding::Float(&F32));
        let losses = case.golden.numbers("losses");
        let norms = case.golden.numbers("grad_norms");
        let zeros = |case: &mut Case, i: usize| {
            let mut zeros = case.tape.device.copy(&case.tape.params[i].grad);
            case.tape.device.clear(&mut zeros);
            zeros
        };
        let mut means: Vec<[Act; 2]> =
            (0..case.tape.params.len()).map(|i| [zeros(&mut case, i), zeros(&mut case, i)]).collect();
        for step in 0..STEPS {
            let loss = case.pass();
            near(&format!("{name}: loss {step}"), &[loss as f32], &[losses[step as usize]]);
            if step == 0 || step == STEPS - 1 {
                case.check_gradients(&format!("grad.{step}"));
            }
            let Tape { device, params, .. } = &mut case.tape;
            let squares: f64 = params.iter().map(|param| device.sum_of_squares(&param.grad)).sum();
            near(&format!("{name}: norm {step}"), &[squares.sqrt() as f32], &[norms[step as usize]]);
            let factor = (1.0 / (squares.sqrt() + 1e-6)).min(1.0) as f32;
            for (param, [m, v]) in params.iter_mut().zip(&mut means) {
                let decay = if param.is_inner() { 0.1 } else { 0.0 };
                let step = AdamW { step: step + 1, rate: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, decay, factor };
                device.adamw(&step, &mut param.master, &param.grad, m, v);
            }
        }
        for Param { name, shape, master, .. } in &case.tape.params {
            case.golden.check(&format!("final.{name}"), master.data(), *shape.last().unwrap());
        }
    }
}

#[test]
fn quantisation_aware_gradients_are_those_of_pytorch() {
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
                for (threads, forgetful) in [(1, false), (2, true), (3, false)] {
                    let mut other = Case::new(name, table, threads, inner);
                    other.tape.set_forgetful(forgetful);
                    assert_eq!(other.pass().to_bits(), loss.to_bits(), "{name}, {}, {threads} threads", table.name);
                    assert!(other.bits() == bits, "{name}, {}, {threads} threads, {forgetful}", table.name);
                }
            }
        }
    }
}
