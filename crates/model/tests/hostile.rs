//! Models that lie: what opens as a file may still be no model, and that is said instead of a panic, a hang or a huge allocation.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};
use trine_backend::{Cpu, CpuOptions};
use trine_model::{Language, Model, Result};
use trine_tensor::File;

/// All that this process may have allocated at once; its files have a quarter of a megabyte.
#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, 64 << 20);

/// Everything that happens to a file before the first token.
fn load(be: &mut Cpu, path: &Path) -> Result<()> {
    let mut load = || {
        let file = File::open(path)?;
        let language = Language::of(&file)?;
        let model = Model::load(be, &file, &mut |_| ControlFlow::Continue(()))?;
        language.check(model.spec())?;
        model.probe(be, 0)
    };
    load().map_err(|error| error.at(path))
}

#[test]
fn a_mangled_model_is_refused_or_runs() {
    let mut state = 1u64;
    let mut random = move |n: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % n
    };
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.gguf");
    let mut be = Cpu::new(CpuOptions { threads: 1, ..Default::default() }).unwrap();
    let numbers: [u32; 9] = [0, 1, 2, 31, 65535, 1 << 24, 1 << 31, u32::MAX, f32::NAN.to_bits()];
    for name in ["llama", "llama-yarn", "qwen3", "bitnet-b1.58"] {
        let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name).join("model.gguf");
        let bytes = std::fs::read(&good).unwrap();
        load(&mut be, &good).unwrap_or_else(|error| panic!("{error}"));
        // The keys come first; the tokenizer's lists, and the tensors' names, shapes and offsets follow.
        let (keys, header) = (1500, 12000);
        let (mut ran, mut slowest) = (0, Duration::ZERO);
        for _ in 0..1000 {
            let mut mutant = bytes.clone();
            let end = [keys, keys, header, mutant.len()][random(4)];
            match random(3) {
                0 => mutant[random(end)] = random(256) as u8,
                1 => (0..4).for_each(|_| mutant[random(end)] ^= 1 << random(8)),
                _ => {
                    let at = random(end - 4);
                    mutant[at..at + 4].copy_from_slice(&numbers[random(numbers.len())].to_le_bytes());
                }
            }
            std::fs::write(&bad, &mutant).unwrap();
            let start = Instant::now();
            match load(&mut be, &bad) {
                Ok(()) => ran += 1,
                Err(error) => assert!(error.to_string().starts_with(&bad.display().to_string()), "{error}"),
            }
            slowest = slowest.max(start.elapsed());
        }
        println!("{name}: {ran} of 1000 mutants still ran; the slowest took {slowest:?}");
        assert!(ran > 0);
    }
}
