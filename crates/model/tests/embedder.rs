//! Embedding models give the states and the embeddings that transformers gave (golden/encoders.py).

use std::ops::ControlFlow;
use std::path::Path;
use trine_backend::{CacheType, Cpu, CpuOptions};
use trine_kernels::tables;
use trine_model::runner::{ScoreInput, ScoreOptions, Want, score};
use trine_model::{Error, Language, ModelOptions, OnDevice, PoolingHead, Runner};
use trine_tensor::File;

fn floats(path: &Path) -> Vec<f32> {
    std::fs::read(path).unwrap().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

fn worst(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, |a, b| if b.is_nan() { b } else { a.max(b) })
}

#[test]
fn every_encoder_gives_the_states_and_embeddings_of_transformers_on_every_instruction_set() {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/encoders");
    let mut folders: Vec<_> = std::fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 5, "golden encoders are missing");
    for folder in folders {
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
        let (hidden, embeddings) = (floats(&folder.join("hidden.f32")), floats(&folder.join("embedding.f32")));
        for path in [folder.clone(), folder.join("model.gguf")] {
            let file = File::open(&path).unwrap_or_else(|error| panic!("{error}"));
            let tokenizer = Language::of(&file).unwrap_or_else(|error| panic!("{error}")).tokenizer;
            let mut first = None;
            for table in tables() {
                let cpu = Cpu::new(CpuOptions { threads: 2, table, ..CpuOptions::default() }).unwrap();
                let headless = ModelOptions { headless: true, ..ModelOptions::default() };
                let mut runner = OnDevice::load(cpu, &file, headless, &mut |_| ControlFlow::Continue(()))
                    .unwrap_or_else(|error| panic!("{error}"));
                let pooling_head = PoolingHead::of(runner.spec(), &file).unwrap_or_else(|error| panic!("{error}"));
                let (mut states, mut found, mut texts) = (Vec::new(), Vec::new(), Vec::new());
                for prompt in json["prompts"].as_array().unwrap() {
                    let ids: Vec<u32> =
                        prompt["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
                    let options = trine_text::EncodeOptions { parse_special: true, add_special: true };
                    assert_eq!(tokenizer.encode(prompt["text"].as_str().unwrap(), options), ids, "{}", path.display());
                    found.extend(pooling_head.embed(&mut runner, &[&ids], 0, 512).unwrap().concat());
                    texts.push(ids.clone());
                    let options = ScoreOptions { batch: 512, cache_type: CacheType::F32, want: Want::Hidden };
                    let input = ScoreInput { outputs: ids.len(), ids };
                    score::<Error>(&mut runner, &[input], &options, &mut |_, output| {
                        states.extend_from_slice(&output.values);
                        Ok(ControlFlow::Continue(()))
                    })
                    .unwrap();
                }
                // Beside others, in passes that cut texts or hold all of them, a text has the same bits.
                for batch in [1, 7, 512] {
                    let ragged = pooling_head.embed(&mut runner, &texts, 0, batch).unwrap().concat();
                    assert!(ragged.iter().map(|x| x.to_bits()).eq(found.iter().map(|x| x.to_bits())), "batch {batch}");
                }
                let errors = [worst(&states, &hidden), worst(&found, &embeddings)];
                println!("{:40} {:8} {errors:?}", path.display(), table.name);
                assert!(errors[0] < 5e-5 && errors[1] < 5e-6, "{}: {errors:?}", path.display());
                let bits: Vec<u32> = states.iter().chain(&found).map(|x| x.to_bits()).collect();
                assert!(*first.get_or_insert(bits.clone()) == bits, "{}: {}", path.display(), table.name);
            }
        }
    }
}
