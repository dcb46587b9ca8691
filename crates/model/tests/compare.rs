//! Two backends side by side: where one is wrong, the operation is named.

use std::ops::ControlFlow;
use std::path::Path;
use trine_backend::cpu::Act;
use trine_backend::{Around, Backend, CacheType, Compare, Cpu, CpuOptions, Drift, Op, OpOf};
use trine_model::runner::{ScoreInput, ScoreOptions, Want, score};
use trine_model::{Error, ModelOptions, OnDevice};
use trine_tensor::File;

fn cpu(isa: &str) -> Cpu {
    let table = trine_backend::table(isa).unwrap();
    Cpu::new(CpuOptions { threads: 1, table, ..CpuOptions::default() }).unwrap()
}

/// What is found when a golden model runs ten tokens on the scalar CPU and on another backend, in two passes.
fn compare<B>(name: &str, device: B, tolerance: fn(&str) -> f64) -> Option<Drift>
where
    B: Backend + Send,
    B::Weight: Send,
{
    let file = File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name)).unwrap();
    let (backend, found) = Compare::new(cpu("scalar"), device, tolerance);
    let mut runner =
        OnDevice::load(backend, &file, ModelOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap();
    let options = ScoreOptions { batch: 7, cache_type: CacheType::F32, want: Want::Logits };
    let input = ScoreInput { ids: (1..11).collect(), outputs: 10 };
    score::<Error>(&mut runner, &[input], &options, &mut |_, _| Ok(ControlFlow::Continue(()))).unwrap();
    found.lock().unwrap().clone()
}

#[test]
fn instruction_sets_do_not_differ_by_a_bit() {
    for name in ["llama", "bitnet-b1.58", "qwen3", "gemma2", "deepseek2", "gpt-oss"] {
        for table in trine_backend::tables() {
            assert_eq!(compare(name, cpu(table.name), |_| 0.0), None, "{name}, {}", table.name);
        }
    }
}

/// A CPU that adds `error` to one number of the third operation of a kind.
fn broken(op: &'static str, error: f32) -> Around<Cpu, impl FnMut(&mut Cpu, OpOf<Cpu>) -> Act + Send> {
    let mut count = 0;
    Around::new(cpu("scalar"), move |cpu: &mut Cpu, operation: OpOf<Cpu>| {
        let name = operation.name();
        let result = cpu.run(operation);
        count += usize::from(name == op);
        if name != op || count != 3 {
            return result;
        }
        let (mut values, columns) = (result.data().to_vec(), result.cols());
        values[columns + 5] += error;
        cpu.to_device(&values, columns)
    })
}

#[test]
fn the_first_operation_that_drifts_is_named_with_its_layer_and_place() {
    for (op, layer) in [("linear", 0), ("rope", 1), ("gated_activation", 2), ("attention", 2)] {
        let drift = compare("llama", broken(op, 0.5), |_| 1e-6).unwrap_or_else(|| panic!("{op}: nothing found"));
        assert_eq!((drift.op, drift.at, drift.pass), (op, [1, 5], if layer < 2 { 1 } else { drift.pass }), "{drift}");
        assert!((drift.values[1] - drift.values[0] - 0.5).abs() < 1e-3 && drift.error > 1e-6, "{drift}");
        let text = drift.to_string();
        assert!(text.starts_with(&format!("`{op}` of layer ")) && text.contains("row 1, column 5"), "{text}");
    }
    let nan = compare("llama", broken("linear", f32::NAN), |_| 1e-6).unwrap();
    assert!(nan.error.is_infinite(), "{nan}");
}

#[test]
fn tolerances_are_those_of_the_operation() {
    let tolerant = |op: &str| if op == "linear" { 1.0 } else { 0.0 };
    assert_eq!(compare("llama", broken("linear", 1e-4), tolerant), None);
    assert_eq!(compare("llama", broken("rope", 1e-4), tolerant).unwrap().op, "rope");
}

#[test]
fn an_operation_that_is_cloned_computes_the_same() {
    let mut cpu = cpu("scalar");
    let x = cpu.to_device(&[1.0, -2.0, 3.0], 3);
    let op: OpOf<Cpu> = Op::Scale { x: &x, factor: 2.0 };
    let [a, b] = [op.clone(), op].map(|op| cpu.run(op).data().to_vec());
    assert_eq!((a.clone(), a), (b, vec![2.0, -4.0, 6.0]));
}
