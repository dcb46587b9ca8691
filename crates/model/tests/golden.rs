//! Every golden model gives the logits that transformers gave (golden/models.py), and the same bits however it is run.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use trine_backend::{ActivationPrecision, BLOCK_LEN, Backend, Batch, CacheType, Cpu, CpuOptions, KV_FORMATS};
use trine_kernels::tables;
use trine_model::runner::{Output, Want};
use trine_model::{Language, ModelOptions, OnDevice, Runner};
use trine_tensor::{File, View};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models")
}

/// A golden model, as every kind of file that it is written as.
struct Golden {
    name: String,
    files: Vec<PathBuf>,
    prompts: Vec<(String, Vec<u32>, Vec<u32>)>,
    logits: Vec<f32>,
    vocab: usize,
}

fn goldens() -> Vec<Golden> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let golden = |path: PathBuf| {
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path.join("golden.json")).unwrap()).unwrap();
        let ids = |value: &serde_json::Value| {
            value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
        };
        let prompts = json["prompts"].as_array().unwrap().iter();
        let prompts =
            prompts.map(|p| (p["text"].as_str().unwrap().to_owned(), ids(&p["ids"]), ids(&p["greedy"]))).collect();
        let bytes = std::fs::read(path.join("logits.f32")).unwrap();
        let logits = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let gguf = path.join("model.gguf");
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let files = if gguf.exists() { vec![path, gguf] } else { vec![path] };
        Golden { name, files, prompts, logits, vocab: json["vocab"].as_u64().unwrap() as usize }
    };
    let goldens: Vec<Golden> = names.into_iter().map(golden).collect();
    assert!(goldens.len() >= 40, "golden models are missing");
    goldens
}

/// A model for the prompts, which are shorter than this.
fn load(cpu: Cpu, file: &File) -> trine_model::Result<OnDevice<Cpu>> {
    let mut runner = OnDevice::load(cpu, file, ModelOptions::default(), &mut |_| ControlFlow::Continue(()))?;
    runner.limit_context(128);
    Ok(runner)
}

fn cpu(table: usize, threads: usize) -> Cpu {
    Cpu::new(CpuOptions { threads, table: tables().nth(table).unwrap(), ..CpuOptions::default() }).unwrap()
}

/// The device that computes what the model defines: activations that meet blocks of weights are not rounded, while those that meet trits are.
fn exact(threads: usize, file: &File) -> Cpu {
    let mut be = cpu(0, threads);
    let packed = |tensor: &View| {
        let unpacked = [".qweight", "_blocks"].iter().any(|end| tensor.name.ends_with(end));
        tensor.format.block > 1 && !tensor.format.ternary || unpacked
    };
    if file.tensors().any(packed) {
        be.set_activation_precision(ActivationPrecision::F32);
    }
    be
}

/// Opens a folder's safetensors, or a GGUF file.
fn open(path: &Path) -> File {
    File::open(path).unwrap_or_else(|error| panic!("{error}"))
}

/// Logits of all tokens of several sequences, with a cache of this type, run in pieces of `chunk` tokens of each in turn.
fn run(runner: &mut dyn Runner, cache_type: CacheType, sequences: &[&[u32]], chunk: usize) -> Vec<Vec<f32>> {
    let longest = sequences.iter().map(|ids| ids.len()).max().unwrap();
    let each = longest.div_ceil(BLOCK_LEN) as u32;
    let cache = runner.create_cache((each as usize * sequences.len()).into(), cache_type).unwrap();
    let (vocab, mut output) = (runner.spec().vocab_size, Output::default());
    let mut logits = vec![Vec::new(); sequences.len()];
    let mut batch = Batch::new();
    for start in (0..longest).step_by(chunk) {
        batch.clear();
        let mut took = Vec::new();
        for (i, ids) in sequences.iter().enumerate() {
            let end = ids.len().min(start + chunk);
            if start < end {
                // Blocks are dealt out in turn, so that those of a sequence are not neighbours.
                let blocks: Vec<u32> = (0..each).map(|block| block * sequences.len() as u32 + i as u32).collect();
                batch.push(&ids[start..end], start, &blocks, end - start);
                took.push((i, end - start));
            }
        }
        runner.forward(cache, &batch, Want::Logits, &mut output).unwrap();
        let mut rest = &output.values[..];
        for (i, tokens) in took {
            let (mine, others) = rest.split_at(tokens * vocab);
            logits[i].extend_from_slice(mine);
            rest = others;
        }
    }
    runner.release_cache(cache);
    logits
}

fn hash(logits: &[Vec<f32>]) -> u64 {
    logits
        .iter()
        .flatten()
        .flat_map(|x| x.to_bits().to_le_bytes())
        .fold(0xcbf29ce484222325, |hash, byte| (hash ^ byte as u64).wrapping_mul(0x100000001b3))
}

#[test]
fn every_model_gives_the_logits_of_transformers() {
    let mut wrong = Vec::new();
    for golden in goldens() {
        for path in &golden.files {
            let file = open(path);
            let mut runner = match load(exact(2, &file), &file) {
                Ok(runner) => runner,
                Err(error) => {
                    wrong.push(error.to_string());
                    continue;
                }
            };
            let prompts: Vec<&[u32]> = golden.prompts.iter().map(|(_, ids, _)| &ids[..]).collect();
            let logits = run(&mut runner, CacheType::F32, &prompts, usize::MAX >> 1).concat();
            assert_eq!(logits.len(), golden.logits.len());
            let worst = logits.iter().zip(&golden.logits).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap();
            println!("{:16} {:14} largest difference {worst:.1e}", golden.name, path.file_name().unwrap().display());
            // Float32 rounding of logits near 10, summed in another order; activations of ternary models are 8-bit integers, and the
            // goldens are made so that none is near a half.
            if worst.is_nan() || worst >= 1e-4 {
                wrong.push(format!("{}: {worst}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_model_continues_as_transformers_does() {
    for golden in goldens() {
        for path in &golden.files {
            let file = open(path);
            let mut runner = load(exact(1, &file), &file).unwrap();
            for (_, ids, greedy) in &golden.prompts {
                let mut ids = ids.clone();
                for &expected in greedy {
                    let logits = run(&mut runner, CacheType::F32, &[&ids], 7).concat();
                    let last = &logits[logits.len() - golden.vocab..];
                    let best = (0..golden.vocab).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap() as u32;
                    assert_eq!(best, expected, "{}", path.display());
                    ids.push(best);
                }
            }
        }
    }
}

#[test]
fn the_tokenizers_of_both_kinds_of_file_give_the_golden_ids() {
    for golden in goldens() {
        for path in &golden.files {
            let language = Language::of(&open(path)).unwrap_or_else(|error| panic!("{error}"));
            for (text, ids, _) in &golden.prompts {
                let options = trine_text::EncodeOptions { parse_special: true, add_special: true };
                assert_eq!(&language.tokenizer.encode(text, options), ids, "{}", path.display());
            }
        }
    }
}

/// The promise of the project: instruction set, threads, batch, chunks and cache state change no bit.
#[test]
fn logits_have_the_same_bits_however_they_are_computed() {
    same_bits(0);
}

/// The other half of the models, at the same time.
#[test]
fn logits_of_the_others_have_the_same_bits_however_they_are_computed() {
    same_bits(1);
}

/// Checks every second model, from the first or second on.
fn same_bits(half: usize) {
    for golden in goldens().into_iter().skip(half).step_by(2) {
        for path in &golden.files {
            let file = open(path);
            let prompts: Vec<&[u32]> = golden.prompts.iter().map(|(_, ids, _)| &ids[..]).collect();
            let mut first = vec![None; KV_FORMATS.len()];
            for table in 0..tables().count() {
                for threads in [1, 2] {
                    let mut runner = load(cpu(table, threads), &file).unwrap();
                    let isa = runner.device().isa;
                    for (&format, first) in KV_FORMATS.iter().zip(&mut first) {
                        let mut check = |what: &str, logits: &[Vec<f32>]| {
                            let how = format!("{}, {isa}, {threads} threads, {format} cache, {what}", path.display());
                            let hash = hash(logits);
                            assert_eq!(*first.get_or_insert(hash), hash, "{how}");
                        };
                        for (what, chunk) in
                            [("together", usize::MAX >> 1), ("one by one", 1), ("in fives", 5), ("in sixteens", 16)]
                        {
                            check(what, &run(&mut runner, CacheType::both(format), &prompts, chunk));
                        }
                        let alone = |ids: &&[u32]| run(&mut runner, CacheType::both(format), &[ids], 1000).concat();
                        let alone: Vec<Vec<f32>> = prompts.iter().map(alone).collect();
                        check("alone", &alone);
                    }
                }
            }
            let file = path.file_name().unwrap().display();
            for (format, first) in KV_FORMATS.iter().zip(first) {
                println!("{:16} {file:14} {format:4} {:016x}", golden.name, first.unwrap());
            }
        }
    }
}

/// Files from before llama.cpp cached the latent vectors: the up-projections of keys and values are one matrix, as in the folder, and keys tell
/// the sizes of heads as they are projected.
#[test]
fn older_files_of_deepseek_give_the_same_logits() {
    let scratch = tempfile::tempdir().unwrap();
    let goldens = goldens().into_iter().filter(|golden| golden.name.starts_with("deepseek"));
    for golden in goldens {
        let [folder, new] = &golden.files[..] else { panic!("{} is not there as GGUF", golden.name) };
        let (folder, new) = (open(folder), open(new));
        let mut keys = new.metadata().clone();
        for part in ["key", "value"] {
            let mla = keys.remove(&format!("deepseek2.attention.{part}_length_mla")).unwrap();
            keys.insert(format!("deepseek2.attention.{part}_length"), mla);
        }
        let heads = keys.get("deepseek2.attention.head_count").unwrap().clone();
        keys.insert("deepseek2.attention.head_count_kv", heads);
        let mut tensors: Vec<View> = new.tensors().filter(|view| !view.name.contains("attn_v_b")).cloned().collect();
        for view in tensors.iter_mut().filter(|view| view.name.contains("attn_k_b")) {
            let layer = view.name.split('.').nth(1).unwrap();
            let both = folder.view(&format!("model.layers.{layer}.self_attn.kv_b_proj.weight")).unwrap();
            let name = view.name.replace("attn_k_b", "attn_kv_b");
            *view = View::new(name, both.format, both.shape.clone(), both.bytes.clone()).unwrap();
        }
        let path = scratch.path().join(&golden.name);
        trine_tensor::gguf::write(&path, &keys, &tensors).unwrap();
        let file = open(&path);
        let mut runner = load(exact(1, &file), &file).unwrap();
        let prompts =
            golden.prompts.iter().flat_map(|(_, ids, _)| run(&mut runner, CacheType::F32, &[ids], 1000).concat());
        let worst = prompts.zip(&golden.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{}: {worst}", golden.name);
    }
}
