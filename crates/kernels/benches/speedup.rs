//! A table: how many times faster than plain Rust each instruction set multiplies, for every format. Plain Rust decodes rows to floats and
//! leaves vectors to the compiler; it may add in any order. The instruction set `scalar` is slower: it has the bits of the others, for which it
//! calls a function for each fused multiplication and addition. `-- --quick` takes a tenth of the time.

mod cases;

use cases::{Case, SIDE, formats};
use std::hint::black_box;
use std::time::{Duration, Instant};
use trine_kernels::{Table, tables};

/// The least of many times: what the CPU can do when nothing disturbs it.
fn best(mut case: Case, run_once: fn(&mut Case) -> &[f32], budget: Duration) -> Duration {
    let (begin, mut best) = (Instant::now(), Duration::MAX);
    for run in 0.. {
        let start = Instant::now();
        black_box(run_once(&mut case));
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
    println!("{SIDE} x {SIDE}, one thread; GOPS of plain Rust, and how many times that each instruction set reaches");
    print!("{:8} {:>6} {:>8}", "format", "tokens", "plain");
    tables.iter().for_each(|table| print!(" {:>8}", table.name));
    println!();
    for format in formats() {
        for tokens in [1, 16] {
            let time = |table, run| best(Case::new(format, table, tokens), run, budget).as_secs_f64();
            let slow = time(tables[0], Case::run_plain);
            print!("{:8} {tokens:6} {:8.1}", format.name, (2 * tokens * SIDE * SIDE) as f64 / slow / 1e9);
            tables.iter().for_each(|table| print!(" {:8.1}", slow / time(table, Case::run)));
            println!();
        }
    }
}
