//! `--plan`: the memory and time of a run.

use crate::exit::UsageError;
use crate::table::{Facts, columns};
use crate::{measure, units};
use anyhow::Result;
use serde_json::json;
use std::io::Write;
use trine_train::{Plan, PlanMemory};

/// The assumed share of the float32 peak that steps reach.
const SHARE: f64 = 0.4;

/// Checks that there is enough memory for weights, gradients and optimizer states.
///
/// # Errors
/// When there is not.
pub fn check(plan: &Plan) -> Result<()> {
    let PlanMemory { weights, gradients, optimizer, .. } = plan.memory;
    let needed = weights + gradients + optimizer;
    match measure::free_memory() {
        Some(free) if needed > free => {
            let [needed, free] = [needed, free].map(units::bytes);
            let message =
                format!("expected {needed} of free memory for weights, gradients and optimizer, found {free}");
            Err(UsageError { message, hint: "train a smaller model; --plan shows the memory of each part" }.into())
        }
        _ => Ok(()),
    }
}

/// Prints the memory by part and the expected time.
///
/// # Errors
/// When stdout is closed.
pub fn print(plan: &Plan, threads: usize, json: bool) -> Result<()> {
    let free = measure::free_memory();
    let peak = measure::f32_peak(threads);
    let seconds = peak.map(|peak| plan.flops_per_token * plan.tokens as f64 / (peak * SHARE));
    let memory = &plan.memory;
    let mut out = std::io::stdout().lock();
    if json {
        let report = json!({
            "parameters": plan.parameters,
            "steps": plan.steps,
            "tokens": plan.tokens,
            "flops_per_token": plan.flops_per_token,
            "memory_bytes": {
                "weights": memory.weights,
                "gradients": memory.gradients,
                "optimizer": memory.optimizer,
                "activations": memory.activations,
                "teacher": memory.teacher,
                "program": memory.program,
                "total": memory.total,
            },
            "free_memory_bytes": free,
            "threads": threads,
            "f32_peak": peak,
            "assumed_share_of_peak": SHARE,
            "expected_seconds": seconds,
        });
        writeln!(out, "{report}")?;
        return Ok(());
    }
    let unknown = || "unknown".to_owned();
    let parts = [
        ("weights", memory.weights),
        ("gradients", memory.gradients),
        ("optimizer", memory.optimizer),
        ("activations", memory.activations),
        ("teacher", memory.teacher),
        ("program", memory.program),
        ("total", memory.total),
    ];
    let mut rows = vec![["memory".to_owned(), String::new()]];
    rows.extend(parts.into_iter().filter(|(_, n)| *n > 0).map(|(part, n)| [format!("  {part}"), units::bytes(n)]));
    rows.push(["  free now".to_owned(), free.map_or_else(unknown, units::bytes)]);
    writeln!(out, "{}\n", columns(&rows, 1))?;
    let mut facts = Facts::default();
    facts.push("parameters", units::count(plan.parameters));
    facts.push("steps", format!("{}, {}", units::count(plan.steps), units::plural(plan.tokens, "token")));
    facts.push("operations", format!("{:.3e} per token", plan.flops_per_token));
    facts.push(
        "f32 peak",
        peak.map_or_else(unknown, |peak| {
            format!("{} GFLOPS, {}", units::measured(peak / 1e9), units::plural(threads as u64, "thread"))
        }),
    );
    let share = SHARE * 100.0;
    let time = |seconds| format!("{}, at {share:.0} % of the peak", units::duration(seconds));
    facts.push("expected time", seconds.map_or_else(unknown, time));
    facts.print(&mut out)?;
    if free.is_some_and(|free| memory.total > free) {
        note!(
            "warning: this needs more memory than is free\n\
             hint: set a smaller train.micro_batch or train.sequence, or train.grad_checkpoint = true"
        );
    }
    Ok(())
}
