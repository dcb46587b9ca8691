//! Files and requests that were good once: what a seeded generator makes of them is refused or opens, and nothing panics, hangs, or takes
//! memory that the file does not justify.

#[path = "../../../fuzz/entry.rs"]
mod entry;
#[path = "mutations/mutator.rs"]
mod mutator;
#[path = "../../../fuzz/requests.rs"]
mod requests;

use mutator::{Mutator, Random};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use trine::tensor::File;
use trine::text::{Template, Tokenizer};

/// All that this process may have allocated at once; its files have a quarter of a megabyte.
#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, 256 << 20);

/// Longer than any mutant may take, by far: a test that hangs would otherwise only be slow.
const PATIENCE: Duration = Duration::from_secs(20);

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(path)
}

fn fuzz(target: &str) -> PathBuf {
    golden("../fuzz/corpus").join(target)
}

/// The files below a folder whose name ends so, in order; none when it is absent.
fn below(folder: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let files = |path: PathBuf| match path.is_dir() {
        true => below(&path, end),
        false => Vec::from_iter(Some(path).filter(|path| path.to_string_lossy().ends_with(end))),
    };
    paths.into_iter().flat_map(files).collect()
}

fn read(paths: impl IntoIterator<Item = PathBuf>) -> Vec<Vec<u8>> {
    paths.into_iter().map(|path| fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).collect()
}

/// What the last panic said. Those of the libraries behind tokenizers and templates are caught, and would fill pages if they were printed.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// Opens a file. When that panics or takes too long, the file is kept, and the error says where.
fn open_one(name: &str, bytes: &[u8], open: &mut dyn FnMut(&[u8]) -> bool) -> Result<(bool, Duration), String> {
    std::panic::set_hook(Box::new(|info| *PANIC.lock().unwrap() = info.to_string()));
    let start = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| open(bytes)));
    match (outcome, start.elapsed()) {
        (Ok(good), took) if took < PATIENCE => Ok((good, took)),
        (outcome, took) => {
            let path = std::env::temp_dir().join(format!("trine-{name}"));
            fs::write(&path, bytes).unwrap();
            let what = if outcome.is_ok() { format!("took {took:?}") } else { PANIC.lock().unwrap().clone() };
            Err(format!("{}: {what}", path.display()))
        }
    }
}

/// Opens `count` mutants of the seeds with `open`, which says whether one is still good.
fn survive(
    name: &str,
    seed: u64,
    count: usize,
    seeds: &[Vec<u8>],
    mut open: impl FnMut(&[u8]) -> bool,
) -> Result<(), String> {
    let mut mutator = Mutator { random: Random(seed), seeds };
    let (mut good, mut slowest, begin) = (0, Duration::ZERO, Instant::now());
    for i in 0..count {
        let (opened, took) = open_one(&format!("{name}-{seed}-{i}"), &mutator.next(), &mut open)?;
        good += usize::from(opened);
        slowest = slowest.max(took);
    }
    let all = begin.elapsed();
    println!("{name}: {good} of {count} mutants were still good; the slowest took {slowest:?}, all {all:?}");
    if good == 0 { Err(format!("{name}: no mutant was still good")) } else { Ok(()) }
}

/// Mutants of every kind of file, `count` in all.
fn all(seed: u64, count: usize) -> Result<(), String> {
    let small = [golden("hostile/gguf"), golden("hostile/models"), golden("split")];
    let mut small = read(small.iter().flat_map(|folder| below(folder, ".gguf")));
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/gguf/parser-corpus");
    let corpus = read(below(&shared, ""));
    if corpus.is_empty() {
        eprintln!("skipped: {} is absent", shared.display());
    }
    small.extend(corpus);
    let gguf = |bytes: &[u8]| {
        let file = File::from_bytes("mutant.gguf", bytes.to_vec());
        file.map(|file| (entry::touch(&file), entry::model(&file))).is_ok()
    };
    survive("small-gguf", seed, count * 588 / 1000, &small, gguf)?;

    let good = read([golden("hostile/models/good.gguf"), golden("hostile/models/tq2-0-good.gguf")]);
    let runs = |bytes: &[u8]| File::from_bytes("mutant.gguf", bytes.to_vec()).is_ok_and(|file| entry::model(&file));
    survive("tiny-model", seed, count * 20 / 100, &good, runs)?;

    let models = read(below(&golden("models"), "model.gguf"));
    survive("model", seed, count * 3 / 100, &models, runs)?;

    let headers = read(below(&golden("hostile/safetensors"), ".safetensors"));
    let shards = below(&golden("models/llama-sharded"), ".safetensors");
    let headers = [headers, read(shards)].concat();
    let safetensors = |bytes: &[u8]| {
        entry::safetensors(bytes);
        File::from_bytes("mutant.safetensors", bytes.to_vec()).is_ok()
    };
    survive("safetensors", seed, count * 12 / 100, &headers, safetensors)?;

    let folder = tempfile::tempdir().unwrap();
    let llama = golden("models/llama");
    let place = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    for name in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        place(name, &fs::read(llama.join(name)).unwrap());
    }
    let configs = read(below(&golden("models"), "/config.json"));
    survive("config", seed, count / 100, &configs, |bytes| {
        place("config.json", bytes);
        File::open(folder.path()).is_ok_and(|file| entry::model(&file))
    })?;

    let folder = tempfile::tempdir().unwrap();
    let pieces = below(&golden("split"), "-of-00003.gguf");
    let paths: Vec<_> = pieces.iter().map(|path| folder.path().join(path.file_name().unwrap())).collect();
    let pieces = read(pieces);
    paths.iter().zip(&pieces).for_each(|(path, piece)| fs::write(path, piece).unwrap());
    let mut no = 0;
    survive("piece", seed, count / 500, &pieces, |bytes| {
        no = (no + 1) % paths.len();
        fs::write(&paths[no], bytes).unwrap();
        let opened = File::open(&paths[0]).map(|file| entry::touch(&file)).is_ok();
        fs::write(&paths[no], &pieces[no]).unwrap();
        opened
    })?;

    let tokenizers = [
        below(&golden("models"), "tokenizer.json"),
        below(&fuzz("tokenizer"), ""),
        below(&golden("tokenizers"), ".model"),
    ];
    let tokenizers = read(tokenizers.concat());
    let tokenizer = |bytes: &[u8]| {
        entry::tokenizer(bytes);
        Tokenizer::from_json(bytes, None).or_else(|_| Tokenizer::from_model(bytes, None)).is_ok()
    };
    survive("tokenizer", seed, count * 3 / 100, &tokenizers, tokenizer)?;

    let templates = read(below(&fuzz("template"), ""));
    let template = |bytes: &[u8]| {
        entry::template(bytes);
        std::str::from_utf8(bytes).is_ok_and(|source| Template::new(source, "", "").is_ok())
    };
    survive("template", seed, count / 50, &templates, template)?;

    survive("request", seed, count / 50, &read(below(&fuzz("request"), "")), requests::request)?;
    survive("schema", seed, count / 100, &read(below(&fuzz("schema"), "")), requests::schema)
}

#[test]
fn mutants_are_refused_or_open() -> Result<(), String> {
    all(1, 100_000)
}

/// Ten times as many: `cargo test --release -p trine --test mutations -- --ignored --nocapture`.
#[test]
#[ignore = "takes a minute, and finds what its tenth finds"]
fn a_million_mutants_are_refused_or_open() -> Result<(), String> {
    all(2, 1_000_000)
}

/// What is kept of the fuzzing: files that lead to code which no other leads to.
#[test]
fn the_corpora_of_the_fuzzer_are_refused_or_open() -> Result<(), String> {
    let replay = |name: &str, target: &dyn Fn(&[u8]) -> bool| {
        let files = read(below(&fuzz(name), ""));
        let mut good = 0;
        for bytes in &files {
            good += usize::from(open_one(name, bytes, &mut |bytes| target(bytes))?.0);
        }
        println!("{name}: {good} of {} are good", files.len());
        if good == 0 { Err(format!("no good file in the corpus of {name}")) } else { Ok(()) }
    };
    let unit = |target: fn(&[u8])| {
        move |bytes: &[u8]| {
            target(bytes);
            true
        }
    };
    replay("gguf", &unit(entry::gguf))?;
    replay("safetensors", &unit(entry::safetensors))?;
    replay("tokenizer", &unit(entry::tokenizer))?;
    replay("template", &unit(entry::template))?;
    replay("request", &requests::request)?;
    replay("schema", &requests::schema)
}
