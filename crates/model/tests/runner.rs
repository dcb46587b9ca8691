//! What a runner gives is what the logits say, in any cache.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use trine_backend::{ActivationPrecision, Batch, CacheType, CpuOptions, KV_FORMATS, KvBlock, KvBlocks};
use trine_model::runner::{Edit, Output, ScoreInput, ScoreOptions, Scored, Sequences, Want, probe, score};
use trine_model::{DeviceName, DeviceOptions, Error, ModelOptions, Runner, load};
use trine_tensor::File;
use trine_tensor::format::{F16, F32};

fn runner(name: &str) -> Box<dyn Runner> {
    runner_of(name, ModelOptions::default())
}

fn runner_of(name: &str, model: ModelOptions) -> Box<dyn Runner> {
    let file = File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name)).unwrap();
    let cpu = CpuOptions { threads: 1, ..CpuOptions::default() };
    let device = DeviceOptions { cpu, ..DeviceOptions::default() };
    load(&file, &device, model, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Ids that follow no pattern.
fn ids(n: u32, vocab: usize) -> Vec<u32> {
    (0..n).map(|i| (i * 37 + i * i * 11) % vocab as u32).collect()
}

/// The outputs of the last `outputs` of some ids.
fn run(runner: &mut dyn Runner, ids: &[u32], outputs: usize, want: Want) -> Output {
    let mut sequences = Sequences::new(runner, Sequences::blocks_of(ids.len()), CacheType::F32).unwrap();
    let (sequence, mut output) = (sequences.add(ids.len()), Output::default());
    sequences.push(sequence, ids, outputs);
    sequences.run(runner, want, &mut output).unwrap();
    sequences.release(runner);
    output
}

#[test]
fn the_best_logits_are_the_highest_of_all_and_their_sum_is_that_of_all() {
    for name in ["llama", "gemma2", "bitnet-b1.58"] {
        let mut runner = runner(name);
        let vocab = runner.spec().vocab_size;
        let ids = ids(19, vocab);
        let logits = run(&mut *runner, &ids, 5, Want::Logits).values;
        for k in [0, 1, 7, vocab, vocab + 3] {
            let top = run(&mut *runner, &ids, 5, Want::Top { k, edits: &[] });
            assert!(top.values.is_empty());
            for (i, row) in logits.chunks(vocab).enumerate() {
                let mut all: Vec<(u32, f32)> = (0..).zip(row.iter().copied()).collect();
                all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                all.truncate(k);
                let found: Vec<(u32, f32)> = top.top(i).iter().map(|top| (top.id, top.logit)).collect();
                assert_eq!(found, all, "{name}, k {k}");
                let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
                assert!(k == 0 || (top.log_sum_exp[i] - sum.ln()).abs() < 1e-9, "{name}");
            }
        }
    }
}

#[test]
fn edits_come_before_the_best_are_taken() {
    let mut runner = runner("llama");
    let vocab = runner.spec().vocab_size;
    let ids = ids(9, vocab);
    let logits = run(&mut *runner, &ids, 3, Want::Logits).values;
    // Even ids alone; a bias; nothing at all.
    let (even, none) = (vec![0x5555_5555_5555_5555; vocab.div_ceil(64)], vec![0; vocab.div_ceil(64)]);
    let edits = [
        Edit { mask: Some(&even), add: &[] },
        Edit { mask: None, add: &[(7, 1000.0), (8, -1000.0)] },
        Edit { mask: Some(&none), add: &[] },
    ];
    let top = run(&mut *runner, &ids, 3, Want::Top { k: 4, edits: &edits });
    let best = (0..vocab).step_by(2).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
    assert!(top.top(0).len() == 4 && top.top(0)[0].id == best as u32 && top.top(0).iter().all(|top| top.id % 2 == 0));
    assert_eq!((top.top(1)[0].id, top.top(1)[0].logit), (7, logits[vocab + 7] + 1000.0));
    assert!(top.top(2).is_empty() && top.log_sum_exp[2] == f64::NEG_INFINITY);
}

#[test]
fn edits_that_do_not_fit_are_refused() {
    let mut runner = runner("llama");
    let vocab = runner.spec().vocab_size;
    let (cache, mut output) = (runner.create_cache(1.into(), CacheType::F32).unwrap(), Output::default());
    let mut batch = Batch::new();
    batch.push(&ids(9, vocab), 0, &[0], 2);
    let (mask, short) = (vec![u64::MAX; vocab.div_ceil(64)], vec![u64::MAX; vocab.div_ceil(64) - 1]);
    let last = vocab as u32 - 1;
    let fits = Edit { mask: Some(&mask), add: &[(last, 1.0)] };
    let cases: [(&[Edit], &str); 8] = [
        (&[], ""),
        (&[fits; 2], ""),
        (&[fits], "one for each of 2 output rows, or none, found 1"),
        (&[fits; 3], "one for each of 2 output rows, or none, found 3"),
        (&[fits, Edit { mask: Some(&short), ..fits }], "a mask of"),
        (&[Edit { add: &[(last, 1.0), (last + 1, 1.0)], ..fits }, fits], "1 for token"),
        (&[fits, Edit { add: &[(0, f32::NAN)], ..fits }], "NaN for token 0"),
        (&[fits, Edit { add: &[(0, f32::NEG_INFINITY)], ..fits }], "-inf for token 0"),
    ];
    for (edits, expected) in cases {
        match runner.forward(cache, &batch, Want::Top { k: 1, edits }, &mut output) {
            Ok(()) => assert_eq!((expected, output.log_sum_exp.len()), ("", 2)),
            Err(error) => {
                let text = error.to_string();
                assert!(
                    matches!(error, Error::BadEdit { .. }) && !expected.is_empty() && text.contains(expected),
                    "{text}"
                );
            }
        }
    }
}

#[test]
fn hidden_states_have_the_width_of_the_model() {
    let mut runner = runner("llama");
    let (hidden, ids) = (runner.spec().hidden_size, ids(9, 200));
    let whole = run(&mut *runner, &ids, 9, Want::Hidden).values;
    assert_eq!(whole.len(), 9 * hidden);
    assert_eq!(run(&mut *runner, &ids, 2, Want::Hidden).values, whole[7 * hidden..]);
}

/// See `golden/activations.py`.
#[test]
fn hidden_states_of_all_layers_are_those_of_transformers() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden");
    let states = File::open(golden.join("activations.safetensors")).unwrap();
    let names = states.tensors().filter_map(|view| view.name.strip_suffix(".ids"));
    let mut compared = 0;
    for name in names {
        let ids: Vec<u32> = states.view(&format!("{name}.ids")).unwrap().decode().iter().map(|&id| id as u32).collect();
        let cpu = CpuOptions { threads: 1, activations: ActivationPrecision::F32, ..CpuOptions::default() };
        let device = DeviceOptions { cpu, ..DeviceOptions::default() };
        let file = File::open(golden.join("models").join(name)).unwrap();
        let mut runner = load(&file, &device, ModelOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap();
        let found = run(&mut *runner, &ids, ids.len(), Want::Layers).values;
        let width = runner.spec().hidden_size;
        assert_eq!(found.len(), (runner.spec().n_layers + 1) * ids.len() * width, "{name}");
        for (i, found) in found.chunks(ids.len() * width).enumerate() {
            let expected = states.view(&format!("{name}.{i}")).unwrap().decode();
            let largest = expected.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            let apart = found.iter().zip(&expected).fold(0f32, |apart, (a, b)| apart.max((a - b).abs()));
            assert!(apart <= 2e-5 * largest, "{name}, state {i}: {apart} apart, of {largest}");
        }
        let last = run(&mut *runner, &ids, 3, Want::Hidden).values;
        assert_eq!(last, found[found.len() - 3 * width..], "{name}");
        compared += 1;
    }
    assert_eq!(compared, 11);
}

/// Heads of their own, and one that is the embedding.
#[test]
fn a_model_without_its_head_gives_the_same_hidden_states_and_no_logits() {
    for name in ["llama", "gptneox", "qwen2"] {
        let [mut whole, mut headless] =
            [false, true].map(|headless| runner_of(name, ModelOptions { headless, ..ModelOptions::default() }));
        assert_eq!(whole.spec().tied, name == "qwen2");
        let [all, most] = [&whole, &headless].map(|runner| runner.memory().device.unwrap().weights);
        assert_eq!(all == most, whole.spec().tied);
        let (ids, cache) = (ids(9, 200), headless.create_cache(1.into(), CacheType::F32).unwrap());
        let (mut batch, mut output) = (Batch::new(), Output::default());
        batch.push(&ids, 0, &[0], 2);
        for want in [Want::Logits, Want::Top { k: 1, edits: &[] }] {
            headless.forward(cache, &batch, Want::Hidden, &mut output).unwrap();
            assert!(output.values == run(&mut *whole, &ids, 2, Want::Hidden).values, "{name}");
            let refused = headless.forward(cache, &batch, want, &mut output);
            assert!(matches!(refused, Err(Error::NoLogits { .. })), "{name}: {refused:?}");
            assert!(output.values.is_empty(), "what another pass gave is gone");
        }
        headless.release_cache(cache);
        probe(&mut *headless, 1, Want::Hidden).unwrap();
        probe(&mut *headless, 1, Want::Logits).unwrap_err();
    }
}

#[test]
fn tokens_of_a_pass_that_fails_are_no_part_of_their_sequences() {
    let mut runner = runner_of("llama", ModelOptions { headless: true, ..ModelOptions::default() });
    let (mut sequences, mut output) = (Sequences::new(&mut *runner, 2, CacheType::F32).unwrap(), Output::default());
    let both = [sequences.add(9), sequences.add(9)];
    sequences.push(both[0], &[1, 2], 1);
    sequences.run(&mut *runner, Want::Hidden, &mut output).unwrap();
    both.iter().for_each(|&sequence| sequences.push(sequence, &[3, 4, 5], 1));
    assert_eq!(both.map(|sequence| sequences.len(sequence)), [5, 3]);
    sequences.run(&mut *runner, Want::Logits, &mut output).unwrap_err();
    assert_eq!((both.map(|sequence| sequences.len(sequence)), sequences.queued()), ([2, 0], [0, 0]));
    sequences.release(&mut *runner);
}

#[test]
fn a_pass_ends_when_it_is_told_to_stop_and_the_next_is_as_ever() {
    let stop = Arc::new(AtomicBool::new(false));
    let mut runner = runner_of("llama", ModelOptions { stop: Some(stop.clone()), ..ModelOptions::default() });
    let ids = ids(19, runner.spec().vocab_size);
    let answer = |runner: &mut dyn Runner| {
        let (mut sequences, mut output) = (Sequences::new(runner, 2, CacheType::F32).unwrap(), Output::default());
        let sequence = sequences.add(ids.len());
        sequences.push(sequence, &ids, 1);
        let result = sequences.run(runner, Want::Logits, &mut output).map(|()| output.values);
        sequences.release(runner);
        result
    };
    let expected = answer(&mut *runner).unwrap();
    stop.store(true, Relaxed);
    assert!(matches!(answer(&mut *runner), Err(Error::Stopped)));
    stop.store(false, Relaxed);
    assert!(answer(&mut *runner).unwrap() == expected);
}

/// Phi's original context, for which it has rotations of its own, is 16 tokens.
#[test]
fn a_limit_lowers_the_context_of_every_model_and_never_raises_it() {
    for name in ["llama", "phi-longrope"] {
        let mut runner = runner(name);
        let most = runner.spec().context_length;
        assert_eq!(runner.spec().longest_context_like(most), most, "{name}");
        for (limit, context) in [(most + 1, most), (12, 12), (most, 12), (7, 7)] {
            let same = runner.spec().longest_context_like(limit);
            assert!(same >= context.min(limit) && same <= runner.spec().context_length, "{name}");
            runner.limit_context(limit);
            assert_eq!(runner.spec().context_length, context, "{name}");
        }
    }
}

/// A draft beside a target, or an evaluation beside a chat.
#[test]
fn caches_do_not_touch_each_other_and_ids_are_used_again() {
    let mut runner = runner("qwen3");
    let vocab = runner.spec().vocab_size;
    let ids = ids(40, vocab);
    let expected = run(&mut *runner, &ids, 40, Want::Logits).values;
    let mut all = [&F32, &F32, &F16].map(|format| Sequences::new(&mut *runner, 3, CacheType::both(format)).unwrap());
    let mut output = Output::default();
    let mut found: [Vec<f32>; 3] = Default::default();
    all.iter_mut().for_each(|sequences| {
        sequences.add(40);
    });
    for part in ids.chunks(7) {
        for (sequences, found) in all.iter_mut().zip(&mut found) {
            sequences.push(0, part, part.len());
            sequences.run(&mut *runner, Want::Logits, &mut output).unwrap();
            found.extend_from_slice(&output.values);
        }
    }
    assert!(found[0] == expected && found[1] == expected && found[2] != expected);
    let [a, b, c] = all;
    let before = runner.memory();
    b.release(&mut *runner);
    let after = runner.memory();
    assert!(
        before.device == after.device && before.device.is_some_and(|memory| memory.weights.min(memory.activations) > 0)
    );
    assert_eq!(before.kv_caches - after.kv_caches, runner.kv_shape(3.into(), CacheType::F32).bytes().unwrap() as u64);
    let again = Sequences::new(&mut *runner, 3, CacheType::F32).unwrap();
    [a, c, again].into_iter().for_each(|sequences| sequences.release(&mut *runner));
    assert_eq!(runner.memory().kv_caches, 0);
}

#[test]
fn blocks_are_copied_swapped_and_moved_without_changing_a_bit() {
    // The second keeps windows in blocks of their own.
    for (name, &format) in ["llama", "gemma3"].into_iter().flat_map(|name| KV_FORMATS.iter().map(move |it| (name, it)))
    {
        let mut runner = runner(name);
        let ids = ids(37, runner.spec().vocab_size);
        let expected = {
            let cache = runner.create_cache(3.into(), CacheType::both(format)).unwrap();
            let (mut batch, mut output) = (Batch::new(), Output::default());
            batch.push(&ids, 0, &[0, 1, 2], 5);
            runner.forward(cache, &batch, Want::Logits, &mut output).unwrap();
            runner.release_cache(cache);
            output.values
        };
        let blocks = KvBlocks { full: 8, window: 6 };
        let [first, second] = [0, 1].map(|_| runner.create_cache(blocks, CacheType::both(format)).unwrap());
        let (mut batch, mut output) = (Batch::new(), Output::default());
        batch.push_windowed(&ids[..32], 0, [&[5, 2], &[4, 0]], 0);
        runner.forward(first, &batch, Want::Logits, &mut output).unwrap();
        let mut last = |runner: &mut dyn Runner, cache, blocks: [&[u32]; 2]| {
            batch.clear();
            batch.push_windowed(&ids[32..], 32, blocks, 5);
            runner.forward(cache, &batch, Want::Logits, &mut output).unwrap();
            output.values.clone()
        };
        let block = |full, window| KvBlock { full, window };
        // Copied within the cache.
        runner.copy_block(first, block(5, 4), block(0, 5));
        runner.copy_block(first, block(2, 0), block(7, 3));
        assert!(last(&mut *runner, first, [&[0, 7, 1], &[5, 3, 1]]) == expected, "{name} {format}");
        // Moved to another cache, over the host.
        let mut bytes = Vec::new();
        for (from, to) in [(block(5, 4), block(3, 1)), (block(2, 0), block(6, 2))] {
            runner.read_block(first, from, &mut bytes).unwrap();
            runner.write_block(second, to, &bytes);
        }
        assert!(last(&mut *runner, second, [&[3, 6, 0], &[1, 2, 5]]) == expected, "{name} {format}");
        // Before the window, which is 16 tokens long, nothing is read.
        if name == "gemma3" {
            assert!(last(&mut *runner, second, [&[3, 6, 0], &[u32::MAX, 2, 5]]) == expected, "{format}");
        }
    }
}

#[test]
fn sequences_are_filled_with_what_others_hold() {
    let mut runner = runner("llama");
    let ids = ids(32, runner.spec().vocab_size);
    let mut sequences = Sequences::new(&mut *runner, 5 * 3, CacheType::F32).unwrap();
    let [computed, same, long] = [0; 3].map(|_| sequences.add(5 * 16));
    let next = |runner: &mut dyn Runner, sequences: &mut Sequences, sequence| {
        let mut output = Output::default();
        sequences.push(sequence, &[3], 1);
        sequences.run(runner, Want::Logits, &mut output).unwrap();
        output.values
    };
    sequences.push(computed, &ids, 0);
    sequences.run(&mut *runner, Want::Logits, &mut Output::default()).unwrap();
    sequences.fill(&mut *runner, same, 29, computed);
    sequences.fill(&mut *runner, long, 70, computed);
    sequences.fill(&mut *runner, computed, 70, computed);
    assert_eq!([computed, same, long].map(|sequence| sequences.len(sequence)), [70, 29, 70]);
    let long = next(&mut *runner, &mut sequences, long);
    assert!(long == next(&mut *runner, &mut sequences, computed) && long.iter().all(|logit| logit.is_finite()));
    sequences.truncate(computed, 29);
    assert!(next(&mut *runner, &mut sequences, same) == next(&mut *runner, &mut sequences, computed));
    sequences.release(&mut *runner);
}

#[test]
fn scoring_gives_the_rows_of_each_input_whatever_the_batch() {
    let mut runner = runner("llama");
    let vocab = runner.spec().vocab_size;
    let inputs: Vec<ScoreInput> = [(20, 20), (3, 1), (33, 5), (1, 1), (7, 0)]
        .map(|(len, outputs)| ScoreInput { ids: ids(len, vocab), outputs })
        .into_iter()
        .collect();
    let alone: Vec<Vec<f32>> =
        inputs.iter().map(|input| run(&mut *runner, &input.ids, input.outputs, Want::Logits).values).collect();
    for batch in [1, 4, 16, 100] {
        let options = ScoreOptions { batch, cache_type: CacheType::F32, want: Want::Logits };
        let mut found: Vec<Vec<f32>> = vec![Vec::new(); inputs.len()];
        score::<Error>(&mut *runner, &inputs, &options, &mut |parts, output| {
            let mut rest = &output.values[..];
            for Scored { input, outputs } in parts {
                assert_eq!(found[*input].len(), outputs.start * vocab);
                found[*input].extend_from_slice(rest.split_off(..outputs.len() * vocab).unwrap());
            }
            assert!(rest.is_empty());
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        assert!(found == alone, "batches of {batch}");
    }
    assert_eq!(runner.memory().kv_caches, 0, "the cache is freed");
}

#[test]
fn devices_have_names_and_variants() {
    assert_eq!("auto".parse::<DeviceName>().unwrap(), DeviceName::Auto);
    for name in ["cpu", "cpu:scalar"] {
        assert_eq!(name.parse::<DeviceName>().unwrap().to_string(), name);
    }
    let refused = |name: &str| name.parse::<DeviceName>().unwrap_err().to_string();
    assert!(refused("gpu").starts_with("device `gpu`: expected one of auto, cpu, cpu:"), "{}", refused("gpu"));
    assert!(refused("cpu:mmx").contains("cpu:scalar"), "{}", refused("cpu:mmx"));
}
