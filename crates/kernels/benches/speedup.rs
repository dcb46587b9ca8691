//! A table: how many times faster than plain Rust each instruction set multiplies, for every format. `-- --quick` takes a tenth of the time.

mod cases;

use cases::{Case, SIDE, formats};
use std::hint::black_box;
use std::time::{Duration, Instant};
use trine_kernels::{Table, tables};

/// The least of many times: what the CPU can do when nothing disturbs it.
fn best(mut case: Case, budget: Duration) -> Duration {
    let (begin, mut best) = (Instant::now(), Duration::MAX);
    for run in 0.. {
        let start = Instant::now();
        black_box(case.run());
        best = best.min(start.elapsed());
        if run >= 3 && begin.elapsed() > budget {
            break;
        }
    }
    best
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let budget = Duration::from_millis(if quick { 20 } else { 200 });
    let tables: Vec<&Table> = tables().collect();
    let Some((scalar, fast)) = tables.split_last() else { return };
    println!("{SIDE} x {SIDE}, one thread; GOPS of {}, and how many times that the others reach", scalar.name);
    print!("{:8} {:>6} {:>8}", "format", "tokens", scalar.name);
    fast.iter().for_each(|table| print!(" {:>8}", table.name));
    println!();
    for format in formats() {
        for tokens in [1, 16] {
            let time = |table| best(Case::new(format, table, tokens), budget).as_secs_f64();
            let slow = time(scalar);
            print!("{:8} {tokens:6} {:8.1}", format.name, (2 * tokens * SIDE * SIDE) as f64 / slow / 1e9);
            fast.iter().for_each(|table| print!(" {:8.1}", slow / time(table)));
            println!();
        }
    }
}
