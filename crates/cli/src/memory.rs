//! The memory of a model: what was planned, and what it takes.

use crate::{table, units};
use serde_json::{Value, json};
use trine::{Llm, Memory, UsedMemory};
use trine_backend::DeviceMemory;

/// The memory that was planned, in bytes by category.
pub fn planned(memory: Memory) -> Value {
    let Memory { weights, kv_cache, activations, sampling, program, .. } = memory;
    json!({
        "weights": weights, "kv_cache": kv_cache, "activations": activations, "sampling": sampling, "program": program,
        "total": memory.total(),
    })
}

/// The memory that a model takes, in bytes by category: null where that is unknown.
fn used(memory: UsedMemory) -> Value {
    let UsedMemory { device, kv_cache, resident, peak } = memory;
    let [weights, activations] = parts(device);
    json!({
        "weights": weights, "kv_cache": kv_cache, "activations": activations, "program": rest(memory),
        "resident": resident, "peak": peak,
    })
}

/// What the program, its vocabulary and its samplers have taken: of the peak, all that is not in another category.
fn rest(memory: UsedMemory) -> Option<u64> {
    let DeviceMemory { weights, activations } = memory.device?;
    memory.peak?.checked_sub(weights + activations + memory.kv_cache)
}

fn parts(device: Option<DeviceMemory>) -> [Option<u64>; 2] {
    [device.map(|memory| memory.weights), device.map(|memory| memory.activations)]
}

/// Both, by category.
pub fn report(llm: &Llm) -> Value {
    json!({ "planned": planned(llm.memory()), "used": used(llm.used_memory()) })
}

/// Both, side by side.
pub fn comparison(llm: &Llm) -> String {
    let (planned, used) = (llm.memory(), llm.used_memory());
    let mut rows = vec![["memory", "planned", "used"].map(str::to_owned)];
    let mut row = |what: &str, planned: u64, used: Option<u64>| {
        rows.push([what.to_owned(), units::bytes(planned), used.map_or("-".to_owned(), units::bytes)]);
    };
    let [weights, activations] = parts(used.device);
    row("weights", planned.weights, weights);
    row("KV cache", planned.kv_cache, Some(used.kv_cache));
    row("activations and kernels", planned.activations, activations);
    row("program, vocabulary, sampling", planned.program + planned.sampling, rest(used));
    row("in all", planned.total(), used.peak);
    table::columns(&rows, 1)
}
