//! What a profile of a conversion says.

use super::{SLOWEST, millis, share};
use crate::{table, units};
use std::collections::BTreeMap;
use std::time::Duration;
use trine_backend::profile::ProfileReport;
use trine_lab::quantize::TensorTime;

/// The slowest tensors, the speed of each pair of formats, and the time of the phases.
pub fn summary(report: &ProfileReport, tensors: &[TensorTime]) -> String {
    [slowest(report, tensors), formats(tensors), phases(report)].join("\n\n")
}

/// Millions of weights a second.
fn speed(weights: u64, time: Duration) -> String {
    if time.is_zero() { "-".to_owned() } else { units::measured(weights as f64 / time.as_secs_f64() / 1e6) }
}

fn threads(times: &[Duration; 3]) -> [String; 3] {
    times.map(millis)
}

fn slowest(report: &ProfileReport, tensors: &[TensorTime]) -> String {
    let head = ["slowest tensors, ms", "from", "to", "all", "share", "read", "write"];
    let threads_head = ["threads: decode", "encode", "check", "M weights/s"];
    let mut rows = vec![head.into_iter().chain(threads_head).map(str::to_owned).collect::<Vec<_>>()];
    let mut order: Vec<&TensorTime> = tensors.iter().collect();
    order.sort_by_key(|tensor| std::cmp::Reverse(tensor.time));
    rows.extend(order.into_iter().take(SLOWEST).map(|tensor| {
        let TensorTime { name, from, to, weights, time, read, write, threads: times, .. } = tensor;
        let cells = [
            table::visible(name),
            (*from).to_owned(),
            (*to).to_owned(),
            millis(*time),
            share(*time, report.time()),
            millis(*read),
            millis(*write),
        ];
        cells.into_iter().chain(threads(times)).chain([speed(*weights, *time)]).collect()
    }));
    let rows: Vec<[String; 11]> = rows.into_iter().map(|row| row.try_into().expect("eleven columns")).collect();
    table::columns(&rows, 3)
}

/// What tensors of the same formats took together.
#[derive(Default)]
struct Sum {
    tensors: u64,
    weights: u64,
    time: Duration,
    threads: [Duration; 3],
}

fn formats(tensors: &[TensorTime]) -> String {
    let mut sums: BTreeMap<(&str, &str), Sum> = BTreeMap::new();
    for tensor in tensors {
        let sum = sums.entry((tensor.from, tensor.to)).or_default();
        (sum.tensors, sum.weights, sum.time) = (sum.tensors + 1, sum.weights + tensor.weights, sum.time + tensor.time);
        sum.threads.iter_mut().zip(tensor.threads).for_each(|(sum, time)| *sum += time);
    }
    let head = ["formats, ms", "to", "tensors", "M weights", "all", "threads: decode", "encode", "check"];
    let mut rows = vec![head.into_iter().chain(["M weights/s", "a thread"]).map(str::to_owned).collect::<Vec<_>>()];
    let mut order: Vec<_> = sums.into_iter().collect();
    order.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.time));
    rows.extend(order.into_iter().map(|((from, to), sum)| {
        let weights = units::measured(sum.weights as f64 / 1e6);
        let cells = [from.to_owned(), to.to_owned(), units::count(sum.tensors), weights, millis(sum.time)];
        let speeds = [speed(sum.weights, sum.time), speed(sum.weights, sum.threads.iter().sum())];
        cells.into_iter().chain(threads(&sum.threads)).chain(speeds).collect()
    }));
    let rows: Vec<[String; 10]> = rows.into_iter().map(|row| row.try_into().expect("ten columns")).collect();
    table::columns(&rows, 2)
}

/// The time of the one that reads and writes, which waits for the threads while they encode.
fn phases(report: &ProfileReport) -> String {
    let writes: Duration = report.operations.iter().map(|operation| operation.time).sum();
    let row = |name: &str, time: Duration| [name.to_owned(), millis(time), share(time, report.time())];
    let mut rows = vec![["time".to_owned(), "ms".to_owned(), "share".to_owned()]];
    rows.push(row("read", report.phase("read").time));
    rows.push(row("encode", report.phase("encode").time.saturating_sub(writes)));
    rows.push(row("write", writes));
    rows.push(row("rest", report.phase("rest").time));
    rows.push(row("all", report.time()));
    let process = report.memory.resident.map_or("unknown".to_owned(), units::bytes);
    format!("{}\n\nprocess  {process}", table::columns(&rows, 1))
}
