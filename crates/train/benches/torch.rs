//! A table of training speed compared with eager PyTorch, step by step in turn, on the same number of threads.
//!
//! `cargo bench -p trine-train --bench torch -- --python python3 [--steps 7] [--threads 2] [--sizes 1.7m,10m,100m] [--precision f32]`. Without
//! `--python` only our own speed is measured. The peer is `golden/train_speed.py`.

use fastrand::Rng;
use serde_json::Value;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;
use trine_backend::cpu::Act;
use trine_backend::{Backend, Batch, CacheId, CacheType, Cpu, CpuOptions};
use trine_kernels::{Factors, limits, tables};
use trine_model::arch::{bitnet::BITNET, llama::LLAMA};
use trine_model::{Model, ModelOptions, Sizes};
use trine_tensor::format::{BF16, F32};
use trine_tensor::{File, Metadata};
use trine_train::adjoint::{Adjoint, Rounding};
use trine_train::optimizer::{Hyperparameters, adamw};
use trine_train::{MasterWeight, Parameter, Tape, init};

/// The sizes of `golden/train_speed.py`: name, vocabulary, width, layers, heads, key and value heads, feed-forward, batch, sequence.
const SIZES: &[(&str, [usize; 8])] = &[
    ("1.7m", [4096, 128, 6, 4, 2, 384, 8, 256]),
    ("10m", [4096, 384, 6, 6, 2, 896, 8, 256]),
    ("100m", [8192, 768, 12, 12, 4, 2688, 4, 256]),
];

struct Peer {
    _process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    fn start(python: &str, size: &str, ternary: bool, threads: usize, steps: usize) -> Result<Peer, Box<dyn Error>> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/train_speed.py");
        let mut command = Command::new(python);
        command.args([
            script,
            size,
            "--step-by-step",
            "--threads",
            &threads.to_string(),
            "--steps",
            &steps.to_string(),
        ]);
        command.args(ternary.then_some("--ternary")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let (input, output) = (process.stdin.take().expect("piped"), process.stdout.take().expect("piped"));
        let mut peer = Peer { _process: process, input, output: BufReader::new(output) };
        peer.line()?;
        Ok(peer)
    }

    fn line(&mut self) -> Result<Value, Box<dyn Error>> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Seconds of one step.
    fn step(&mut self) -> Result<f64, Box<dyn Error>> {
        self.input.write_all(b"\n")?;
        self.input.flush()?;
        self.line()?["seconds"].as_f64().ok_or_else(|| "the peer reports no seconds".into())
    }
}

/// A model in training.
struct Ours {
    cache: CacheId,
    tape: Tape<Cpu>,
    model: Model<Tape<Cpu>>,
    states: Vec<[Act; 2]>,
    batch: Batch,
    targets: Vec<u32>,
    step: u64,
}

impl Ours {
    fn new(
        sizes: &Sizes,
        ternary: bool,
        bf16: bool,
        threads: usize,
        [batch, sequence]: [usize; 2],
    ) -> Result<Ours, Box<dyn Error>> {
        let path = std::env::temp_dir().join(format!("trine-bench-{}.gguf", std::process::id()));
        init::write(&path, sizes, &Metadata::new(), 0, &mut |_, _| ControlFlow::Continue(()))?;
        let device =
            Cpu::new(CpuOptions { threads, huge_pages: true.into(), tight_buffers: true, ..CpuOptions::default() })?;
        let outer = Rounding::Float(if bf16 { &BF16 } else { &F32 });
        let mut tape = Tape::new(device, if ternary { Rounding::Ternary } else { outer }, outer);
        tape.set_factors(if bf16 { Factors::Bf16 } else { Factors::F32 });
        let model =
            Model::load(&mut tape, &File::open(&path)?, ModelOptions::default(), &mut |_| ControlFlow::Continue(()))?;
        std::fs::remove_file(&path)?;
        let mut rng = Rng::with_seed(1);
        let mut tokens = |n: usize| (0..n).map(|_| rng.u32(..sizes.vocab_size as u32)).collect::<Vec<_>>();
        let (mut rows, blocks) = (Batch::new(), sequence.div_ceil(16));
        for row in 0..batch {
            let own: Vec<u32> = (row * blocks..(row + 1) * blocks).map(|block| block as u32).collect();
            rows.push(&tokens(sequence), 0, &own, sequence);
        }
        let cache = tape.create_cache(model.spec().kv_shape(batch * blocks, CacheType::F32))?;
        let Tape { device, params, .. } = &mut tape;
        let masters = params.iter().filter_map(Parameter::master);
        let states = masters.map(|master| [(); 2].map(|()| device.zeros_like(&master.values))).collect();
        Ok(Ours { targets: tokens(batch * sequence), tape, model, cache, states, batch: rows, step: 0 })
    }

    /// Seconds of one step.
    fn step(&mut self) -> Result<f64, Box<dyn Error>> {
        let begin = Instant::now();
        self.step += 1;
        let Ours { tape, model, cache, states, batch, targets, step } = self;
        tape.requantize()?;
        tape.clear_gradients();
        let logits = model.forward(tape, *cache, batch)?;
        let mut losses = Vec::new();
        let dlogits = tape.device.cross_entropy(logits.value(), targets, 1.0 / targets.len() as f32, &mut losses);
        tape.backward(logits, dlogits)?;
        let Tape { device, params, .. } = tape;
        for (param, states) in params.iter_mut().zip(states) {
            let hyper = Hyperparameters {
                step: *step,
                learning_rate: 1e-3,
                beta1: 0.9,
                beta2: 0.95,
                eps: 1e-8,
                weight_decay: if param.is_inner() { 0.1 } else { 0.0 },
                grad_factor: 1.0,
            };
            let MasterWeight { values, grad, .. } = param.master_mut().ok_or("a frozen weight")?;
            device.update(&adamw::RULE, &hyper, values, grad, states);
        }
        Ok(begin.elapsed().as_secs_f64())
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|arg| arg == name).and_then(|i| arguments.get(i + 1).cloned());
    let number = |name: &str, default: usize| value(name).map_or(Ok(default), |text| text.parse());
    let (steps, threads) = (number("--steps", 7)?, number("--threads", CpuOptions::default().threads)?);
    let bf16 = value("--precision").is_some_and(|name| name == "bf16");
    let python = value("--python");
    let wanted = value("--sizes").unwrap_or_else(|| "1.7m,10m,100m".into());
    println!(
        "{threads} threads, {steps} steps in turn, {}; medians",
        if bf16 { "bf16 here, f32 there" } else { "f32" }
    );
    // The best of several measurements, the first while no peer runs.
    let peak = || Ok::<_, Box<dyn Error>>(limits::peaks(tables().next().ok_or("no table")?, threads, &[]).f32);
    let mut best = peak()?;
    println!("{:6} {:8} {:>12} {:>9} {:>12} {:>7}", "size", "weights", "tokens/s", "of peak", "PyTorch", "ratio");
    for (name, [vocab, width, layers, heads, kv_heads, feed_forward, batch, sequence]) in SIZES {
        if !wanted.split(',').any(|size| size == *name) {
            continue;
        }
        for ternary in [false, true] {
            let sizes = Sizes {
                arch: if ternary { &BITNET } else { &LLAMA },
                n_layers: *layers,
                hidden_size: *width,
                n_heads: *heads,
                n_kv_heads: *kv_heads,
                head_dim: width / heads,
                intermediate_size: *feed_forward,
                vocab_size: *vocab,
                context_length: *sequence,
                rope_base: 10000.0,
                eps: 1e-5,
                tied: true,
            };
            let weights: usize = sizes
                .tensors()
                .iter()
                .filter(|tensor| tensor.shape.len() == 2)
                .map(|tensor| tensor.shape[0] * tensor.shape[1])
                .sum();
            let tokens = (batch * sequence) as f64;
            let attention = 2.0 * (sequence + 1) as f64 * (layers * width) as f64;
            let flops = 3.0 * (2.0 * weights as f64 + attention) * tokens;
            let mut ours = Ours::new(&sizes, ternary, bf16, threads, [*batch, *sequence])?;
            let mut peer = match &python {
                Some(python) => Some(Peer::start(python, name, ternary, threads, steps + 2)?),
                None => None,
            };
            let (mut times, mut theirs) = (Vec::new(), Vec::new());
            for step in 0..steps + 2 {
                let (time, their_time) = (ours.step()?, peer.as_mut().map(Peer::step).transpose()?);
                // The first two are for warmup.
                if step >= 2 {
                    times.push(time);
                    theirs.extend(their_time);
                }
            }
            best = best.max(peak()?);
            let time = median(times);
            print!(
                "{name:6} {:8} {:12.0} {:8.1}%",
                if ternary { "ternary" } else { "dense" },
                tokens / time,
                100.0 * flops / time / best
            );
            match theirs.is_empty() {
                true => println!(),
                false => {
                    let theirs = median(theirs);
                    println!(" {:12.0} {:6.2}x", tokens / theirs, theirs / time);
                }
            }
        }
    }
    Ok(())
}
