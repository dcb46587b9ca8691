//! Files that lie: nothing panics, hangs, or takes memory that the file does not justify.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use trine_tensor::{File, gguf, safetensors};

/// All that this process may have allocated at once; its files have a few kilobytes.
#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, 64 << 20);

/// Microseconds that the slowest file took.
static SLOWEST: AtomicU64 = AtomicU64::new(0);

/// Opens a file and, when it opens, touches everything in it. Says whether it opened.
fn survive(path: &Path) -> bool {
    let start = Instant::now();
    let opened = match File::open(path) {
        Ok(file) => {
            for view in file.tensors() {
                assert_eq!(view.decode().len(), view.rows() * view.cols());
            }
            for (key, _) in file.metadata().iter() {
                let _ = (file.metadata().u32(key), file.metadata().str(key), file.metadata().i32s(key));
            }
            assert!(file.view("no such tensor").is_err());
            true
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with(&path.display().to_string()), "{message}");
            false
        }
    };
    SLOWEST.fetch_max(start.elapsed().as_micros() as u64, Ordering::Relaxed);
    opened
}

/// Cuts a good file at every byte and mutates it ten thousand times; says how many of the mutants still open.
fn mangle(good: &Path) {
    let bytes = std::fs::read(good).unwrap();
    assert!(survive(good));
    let bad = good.with_extension("mangled");
    for n in 0..bytes.len() {
        std::fs::write(&bad, &bytes[..n]).unwrap();
        assert!(!survive(&bad), "opened with {n} of {} bytes", bytes.len());
    }
    let mut state = 1u64;
    let mut random = move |n: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % n
    };
    // Most of a file is weights, of which every value is fine: two of three mutations hit the header.
    let header = bytes.len().min(2048);
    let numbers = [0, 1, 31, 1 << 31, u64::from(u32::MAX), (1 << 42) + 1, 1 << 61, 1 << 62, 1 << 63, u64::MAX];
    let mut opened = 0;
    for _ in 0..10_000 {
        let mut mutant = bytes.clone();
        let end = if random(3) == 0 { mutant.len() } else { header };
        match random(4) {
            0 => mutant[random(end)] = random(256) as u8,
            1 => (0..8).for_each(|_| mutant[random(end)] = random(256) as u8),
            2 => {
                let at = random(end - 8);
                mutant[at..at + 8].copy_from_slice(&numbers[random(numbers.len())].to_le_bytes());
            }
            _ => {
                let (from, to, n) = (random(end - 64), random(end - 64), random(64));
                mutant.copy_within(from..from + n, to);
            }
        }
        std::fs::write(&bad, &mutant).unwrap();
        opened += usize::from(survive(&bad));
    }
    println!("{opened} of 10000 mutants opened; the slowest file took {} us", SLOWEST.load(Ordering::Relaxed));
}

#[test]
fn mangled_gguf_files_are_refused_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("good.gguf");
    gguf::write(&path, &common::metadata(), &common::tensors(|v| v.format.id.is_some())).unwrap();
    mangle(&path);
}

#[test]
fn mangled_safetensors_files_are_refused_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("good.safetensors");
    safetensors::write(&path, &common::tensors(|v| v.format.block == 1)).unwrap();
    mangle(&path);
}

#[test]
fn a_corpus_of_bad_files_is_refused_or_read() {
    for (folder, files) in [("gguf/parser-corpus", 225), ("gguf/mini", 18)] {
        let Some(folder) = common::shared(folder) else { return };
        let paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let opened = paths.iter().filter(|path| survive(path)).count();
        println!("{}: {opened} of {} opened", folder.display(), paths.len());
        assert!(paths.len() >= files);
    }
}
