//! What a profile of training says.

use super::{millis, share, slowest};
use crate::{table, units};
use std::time::Duration;
use trine_backend::profile::{Part, ProfileReport, Time};

/// Parts of a phase with a column of their own; what remains of it is the last.
const PARTS: [Part; 4] = [Part::Products, Part::Attention, Part::Norms, Part::Other];

/// The slowest operations, the time of steps by phase, and memory.
pub fn summary(report: &ProfileReport) -> String {
    [slowest(report), phases(report), facts(report)].join("\n\n")
}

fn phases(report: &ProfileReport) -> String {
    let steps = u32::try_from(report.steps).unwrap_or(u32::MAX).max(1);
    let head = ["time, ms", "all", "per step", "share"].map(str::to_owned);
    let parts = PARTS.iter().map(|part| part.label()).chain(["rest"]).map(str::to_owned);
    let mut rows = vec![head.into_iter().chain(parts).collect::<Vec<_>>()];
    let mut row = |name: &str, Time { time, parts, .. }: &Time, in_steps: Option<Duration>| {
        let own = PARTS.map(|part| parts[part as usize]);
        let rest = time.saturating_sub(own.iter().sum());
        let per_step = in_steps.map_or("-".to_owned(), |time| millis(time / steps));
        let cells = [name.to_owned(), millis(*time), per_step, share(*time, report.time())];
        rows.push(cells.into_iter().chain(own.into_iter().chain([rest]).map(millis)).collect());
    };
    let mut all = Time::default();
    for (name, time) in &report.phases {
        row(name, time, IN_STEPS.contains(name).then_some(time.time));
        all.time += time.time;
        all.parts.iter_mut().zip(time.parts).for_each(|(sum, part)| *sum += part);
    }
    row("all", &all, Some(in_steps(report)));
    let rows: Vec<[String; 9]> = rows.into_iter().map(|row| row.try_into().expect("nine columns")).collect();
    table::columns(&rows, 1)
}

/// Speed and memory.
fn facts(report: &ProfileReport) -> String {
    let forward = report.phase("forward");
    let steps = in_steps(report);
    let rate = match steps.is_zero() {
        true => "-".to_owned(),
        false => units::measured(forward.tokens as f64 / steps.as_secs_f64()),
    };
    let bytes = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), units::bytes);
    let tokens = units::plural(forward.tokens, "token");
    let rows = [
        ["steps".to_owned(), format!("{}, {tokens}, {rate} tokens/s in them", units::count(report.steps))],
        ["activations, peak".to_owned(), bytes(Some(report.memory.activations))],
        ["process".to_owned(), bytes(report.memory.resident)],
    ];
    table::columns(&rows, 2)
}

/// The time of phases within steps.
fn in_steps(report: &ProfileReport) -> Duration {
    report.phases.iter().filter(|(name, _)| IN_STEPS.contains(name)).map(|(_, time)| time.time).sum()
}

/// Phases within steps.
const IN_STEPS: [&str; 6] = ["quantize", "data", "forward", "teacher", "backward", "optimizer"];
