//! An operation of a program's own in place of one of the decoder's: `cargo run --release --example operation -- 0.5 "Once upon a time"`, with a
//! model after it, if any.
//!
//! Of the hidden activations of each feed-forward layer only this share is kept, those of the largest magnitude, as TEAL does (Liu et al. 2024,
//! "Training-Free Activation Sparsity in Large Language Models"). The other operations stay those of the CPU, with the same bits.

use std::ops::ControlFlow;
use trine::backend::{Around, Backend, Cpu, Op, OpOf};
use trine::model::{ModelOptions, OnDevice};
use trine::prelude::*;

/// Sets all but the `keep` numbers of the largest magnitude to zero; of equal ones all stay.
fn sparsify(row: &mut [f32], keep: usize) {
    let mut sizes: Vec<f32> = row.iter().map(|x| x.abs()).collect();
    let Some(last) = keep.checked_sub(1).filter(|last| *last < sizes.len()) else { return };
    let (_, &mut least, _) = sizes.select_nth_unstable_by(last, |a, b| b.total_cmp(a));
    row.iter_mut().filter(|x| x.abs() < least).for_each(|x| *x = 0.0);
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let share: f64 = args.next().ok_or("expected the share of activations to keep, such as 0.5")?.parse()?;
    let prompt = args.next().ok_or("expected a prompt")?;
    let mut llm = Options::default().open_on(args.next().unwrap_or(EMBEDDED.into()), |file, device| {
        let mut values = Vec::new();
        let sparse = Around::new(Cpu::new(device.cpu.clone())?, move |cpu: &mut Cpu, op: OpOf<Cpu>| {
            let hidden = matches!(op, Op::GatedActivation { .. });
            let out = cpu.run(op);
            if !hidden {
                return out;
            }
            let columns = cpu.columns(&out);
            cpu.to_host(&out, &mut values).expect("the CPU has its own activations");
            let keep = (share * columns as f64).round().max(1.0) as usize;
            values.chunks_mut(columns).for_each(|row| sparsify(row, keep));
            cpu.to_device(&values, columns)
        });
        Ok(Box::new(OnDevice::load(sparse, file, ModelOptions::default(), &mut |_| ControlFlow::Continue(()))?))
    })?;
    let sampling = Sampling { max_tokens: Some(64), ..Sampling::greedy() };
    println!("{prompt}{}", llm.generate(&prompt, &sampling)?.text);
    Ok(())
}
