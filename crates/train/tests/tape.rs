//! What a tape records, and what it refuses.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use trine_backend::cpu::Act;
use trine_backend::{Backend, Batch, CacheId, CacheType, Cpu, CpuOptions, Ops};
use trine_model::{Model, ModelOptions, Spec, open_file};
use trine_tensor::OpenOptions;
use trine_tensor::format::F32;
use trine_train::adjoint::{Adjoint, Rounding};
use trine_train::{Error, Parameter, Tape, Var, unsupported_operation};

/// The folders of all golden models, encoders among them.
fn models() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden");
    let folders = ["models", "encoders"].map(|kind| std::fs::read_dir(golden.join(kind)).unwrap());
    folders.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

fn batch(cached: usize) -> Batch {
    let mut batch = Batch::new();
    batch.push(&[3, 1, 4, 1, 5], cached, &[0], 5);
    batch
}

/// A golden model on a tape, with a cache of a block.
struct OnTape {
    tape: Tape<Cpu>,
    model: Model<Tape<Cpu>>,
    cache: CacheId,
}

impl OnTape {
    /// None if it has operations without a gradient.
    fn open(folder: &Path) -> Option<OnTape> {
        let file = open_file(folder, &OpenOptions::default()).unwrap();
        if unsupported_operation(&Spec::of(&file).unwrap()).is_some() {
            return None;
        }
        let float = Rounding::Float(&F32);
        let mut tape = Tape::new(Cpu::new(CpuOptions { threads: 2, ..CpuOptions::default() }).unwrap(), float, float);
        let go_on = &mut |_| ControlFlow::Continue(());
        let model = Model::load(&mut tape, &file, ModelOptions::default(), go_on).unwrap();
        let cache = tape.create_cache(model.spec().kv_shape(1, CacheType::F32)).unwrap();
        Some(OnTape { tape, model, cache })
    }

    fn llama() -> OnTape {
        OnTape::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models/llama")).unwrap()
    }

    fn forward(&mut self) -> Var<Act> {
        self.model.forward(&mut self.tape, self.cache, &batch(0)).unwrap()
    }

    fn backward(&mut self, logits: Var<Act>) {
        self.tape.clear_gradients();
        let dlogits = self.tape.device.cross_entropy(logits.value(), &[1, 4, 1, 5, 9], 0.2, &mut Vec::new());
        self.tape.backward(logits, dlogits).unwrap();
    }

    /// The bits of all gradients.
    fn gradients(&self) -> Vec<u32> {
        let masters = self.tape.params.iter().filter_map(Parameter::master);
        masters.flat_map(|master| master.grad.data()).map(|x| x.to_bits()).collect()
    }
}

#[test]
fn models_without_unsupported_operations_have_gradients() {
    let (mut trained, mut refused) = (0, 0);
    for folder in models() {
        let Some(mut on_tape) = OnTape::open(&folder) else {
            refused += 1;
            continue;
        };
        let logits = on_tape.forward();
        on_tape.backward(logits);
        for param in &on_tape.tape.params {
            let grad = &param.master().unwrap().grad;
            assert!(on_tape.tape.device.sum_of_squares(grad) > 0.0, "{}: {}", folder.display(), param.name);
        }
        trained += 1;
    }
    assert!(trained > 20 && refused > 20, "{trained} {refused}");
}

#[test]
fn recording_goes_on_after_no_grad() {
    let mut on_tape = OnTape::llama();
    let logits = on_tape.forward();
    on_tape.backward(logits);
    let expected = on_tape.gradients();
    let refused = on_tape.tape.no_grad(|_| Err::<(), _>(trine_backend::Error::NoAffinity));
    assert!(matches!(refused, Err(trine_backend::Error::NoAffinity)));
    let panicked = catch_unwind(AssertUnwindSafe(|| on_tape.tape.no_grad(|_| resume_unwind(Box::new(())))));
    assert!(panicked.is_err());
    let logits = on_tape.forward();
    on_tape.backward(logits);
    assert!(on_tape.gradients() == expected);
}

#[test]
fn what_is_computed_without_gradients_is_a_constant() {
    let mut on_tape = OnTape::llama();
    let logits = on_tape.forward();
    on_tape.backward(logits);
    let expected = on_tape.gradients();
    let OnTape { tape, model, cache } = &mut on_tape;
    let constant = tape.no_grad(|tape| model.forward(tape, *cache, &batch(0))).unwrap();
    let logits = on_tape.forward();
    let zeros = on_tape.tape.scale(&constant, 0.0);
    let logits = on_tape.tape.add(&logits, &zeros);
    on_tape.backward(logits);
    assert!(on_tape.gradients() == expected);
}

#[test]
fn only_the_current_pass_has_a_backward_pass() {
    let mut on_tape = OnTape::llama();
    let logits = on_tape.forward();
    let done = logits.clone();
    on_tape.backward(logits);
    let expected = on_tape.gradients();
    let discarded = on_tape.forward();
    let OnTape { tape, model, cache } = &mut on_tape;
    let not_recorded = tape.no_grad(|tape| model.forward(tape, *cache, &batch(0))).unwrap();
    let constant = tape.to_device(&[1.0], 1);
    let of_another_tape = OnTape::llama().forward();
    // What another pass computed has a number of this one, too.
    let logits = on_tape.forward();
    on_tape.tape.clear_gradients();
    for other in [done, discarded, not_recorded, constant, of_another_tape] {
        let dy = on_tape.tape.device.zeros_like(other.value());
        assert!(matches!(on_tape.tape.backward(other, dy), Err(Error::NotRecorded)));
    }
    on_tape.backward(logits);
    assert!(on_tape.gradients() == expected);
}

#[test]
#[should_panic(expected = "of the current pass")]
fn operands_of_an_earlier_pass_are_refused() {
    let mut on_tape = OnTape::llama();
    let [earlier, logits] = [(); 2].map(|()| on_tape.forward());
    let _ = on_tape.tape.add(&earlier, &logits);
}

#[test]
#[should_panic(expected = "begins in its batch")]
fn a_sequence_on_a_tape_does_not_continue() {
    let OnTape { mut tape, model, cache } = OnTape::llama();
    let _ = model.forward(&mut tape, cache, &batch(3));
}
