//! A backend around the CPU's: `cargo run --release --example backend -- "Once upon a time"`, with a model after it, if any.
//!
//! [`Around`] hands every operation to a function. This one adds up how long each kind takes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use trine::backend::{Around, Backend, Cpu, OpOf};
use trine::model::{ModelOptions, OnDevice};
use trine::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let prompt = args.next().ok_or("expected a prompt")?;
    let times = Arc::new(Mutex::new(BTreeMap::<&str, Duration>::new()));
    let mut llm = Options::default().open_on(args.next().unwrap_or(EMBEDDED.into()), |file, device| {
        let times = times.clone();
        let timed = Around::new(Cpu::new(device.cpu.clone())?, move |cpu: &mut Cpu, op: OpOf<Cpu>| {
            let (name, start) = (op.name(), Instant::now());
            let result = cpu.run(op);
            *times.lock().unwrap().entry(name).or_default() += start.elapsed();
            result
        });
        Ok(Box::new(OnDevice::load(timed, file, ModelOptions::default(), &mut |_| ControlFlow::Continue(()))?))
    })?;
    let sampling = Sampling { max_tokens: Some(64), ..Sampling::greedy() };
    println!("{prompt}{}", llm.generate(&prompt, &sampling)?.text);
    for (name, time) in times.lock().unwrap().iter() {
        println!("{name:20} {time:?}");
    }
    Ok(())
}
