//! Perplexity is what its definition says, however it is computed.

use std::ops::ControlFlow;
use std::path::Path;
use trine_backend::{CacheType, Cpu, CpuOptions};
use trine_lab::perplexity::Error;
use trine_lab::perplexity::{Perplexity, PerplexityOptions, Text, Unit, Windows, perplexity};
use trine_model::runner::{Output, Sequences, Want};
use trine_model::{Language, ModelOptions, OnDevice, Runner};
use trine_tensor::{File, gguf};
use trine_text::{EncodeOptions, Tokenizer};

const STORY: &str = "The miller counted seven sacks of flour. It was raining, and the wheel turned: über, €5!\n\n\
    \"Who is there?\" she asked, and no one answered. \u{1F600} The end of it.";

fn golden(name: &str) -> (File, Language) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name).join("model.gguf");
    let file = File::open(path).unwrap();
    let language = Language::of(&file).unwrap();
    (file, language)
}

fn load(file: &File, threads: usize) -> OnDevice<Cpu> {
    let cpu = Cpu::new(CpuOptions { threads, ..CpuOptions::default() }).unwrap();
    OnDevice::load(cpu, file, ModelOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap()
}

fn sliding(context: usize, stride: usize) -> PerplexityOptions {
    PerplexityOptions {
        windows: Windows::Sliding { context, stride },
        batch: 512,
        threads: 1,
        cache_type: CacheType::F32,
    }
}

fn measure(file: &File, text: &Text, options: &PerplexityOptions) -> Result<Perplexity, Error> {
    perplexity(&mut load(file, options.threads), text, options, &mut |_| ControlFlow::Continue(()))
}

fn documents(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

/// The surprise of all tokens behind the first of a sequence, and of any of `ends` behind its last, from its logits alone.
fn surprises(file: &File, ids: &[u32], ends: &[u32]) -> Vec<f64> {
    let mut runner = load(file, 1);
    let mut sequences = Sequences::new(&mut runner, Sequences::blocks_of(ids.len()), CacheType::F32).unwrap();
    let (sequence, mut output) = (sequences.add(ids.len()), Output::default());
    sequences.push(sequence, ids, ids.len());
    sequences.run(&mut runner, Want::Logits, &mut output).unwrap();
    let (logits, vocab) = (output.values, runner.spec().vocab_size);
    let surprise = |(row, ids): (&[f32], &[u32])| {
        let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        -(ids.iter().map(|&id| f64::from(row[id as usize]).exp()).sum::<f64>() / total).ln()
    };
    let targets = ids[1..].chunks(1).chain([ends].into_iter().filter(|ends| !ends.is_empty()));
    logits.chunks(vocab).zip(targets).map(surprise).collect()
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    bos.into_iter().chain(tokenizer.encode(text, EncodeOptions::default())).collect()
}

fn close(found: f64, expected: f64) {
    assert!((found / expected - 1.0).abs() < 1e-12, "{found} {expected}");
}

/// A golden model that wants BOS, and the same one not wanting it.
#[test]
fn documents_shorter_than_the_context_are_scored_whole() {
    let folder = tempfile::tempdir().unwrap();
    for (name, add_bos) in [("llama", true), ("llama", false), ("bitnet", true), ("bitnet", false)] {
        let file = golden(name).0;
        let mut metadata = file.metadata().clone();
        metadata.insert("tokenizer.ggml.add_bos_token", add_bos);
        let path = folder.path().join(format!("{name}-{add_bos}"));
        gguf::write(&path, &metadata, &file.tensors().cloned().collect::<Vec<_>>()).unwrap();
        let file = File::open(path).unwrap();
        let tokenizer = &Language::of(&file).unwrap().tokenizer;
        assert_eq!(tokenizer.adds_bos(), add_bos);
        let texts: Vec<&str> = STORY.split_inclusive(&['.', '?']).collect();
        for end in [false, true] {
            let ends: Vec<u32> = tokenizer.eog_tokens().filter(|_| end).collect();
            let text = Text::new(tokenizer, &documents(&texts), end, usize::MAX).unwrap();
            let found = measure(&file, &text, &sliding(128, 64)).unwrap();
            let (mut nats, mut tokens, mut bytes, mut characters) = (0.0, 0, 0, 0);
            for text in &texts {
                let ids = ids(tokenizer, text);
                nats += surprises(&file, &ids, &ends).iter().sum::<f64>();
                tokens += ids.len() as u64 - 1 + u64::from(end);
                // Without BOS, the first token is known.
                let known = if tokenizer.adds_bos() { String::new() } else { tokenizer.decode(&ids[..1]) };
                bytes += (text.len() - known.len()) as u64;
                characters += (text.chars().count() - known.chars().count()) as u64;
            }
            let sums = &found.sums;
            assert_eq!((sums.tokens, sums.bytes, sums.characters), (tokens, bytes, characters), "{name}");
            close(sums.nats, nats);
            close(found.nats_per_token.value, nats / tokens as f64);
            close(found.perplexity.value, (nats / tokens as f64).exp());
            close(found.bits_per_byte.unwrap().value, nats / 2f64.ln() / bytes as f64);
            close(found.bits_per_character.unwrap().value, nats / 2f64.ln() / characters as f64);
            assert_eq!((found.documents, found.windows, found.unit), (texts.len(), texts.len(), Unit::Documents));
            assert!(found.complete && found.bits_per_byte.unwrap().low < Some(found.bits_per_byte.unwrap().value));
        }
    }
}

/// A long text in windows, each computed on its own here.
#[test]
fn windows_are_scored_as_they_stand() {
    for name in ["llama", "bitnet"] {
        let (file, language) = golden(name);
        let tokenizer = &language.tokenizer;
        let text = Text::new(tokenizer, &documents(&[STORY]), false, usize::MAX).unwrap();
        let all = ids(tokenizer, STORY);
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        let front = usize::from(bos.is_some());
        for (context, stride) in [(16, 5), (16, 8), (16, 16 - front), (17, 1), (33, 20)] {
            let found = measure(&file, &text, &sliding(context, stride)).unwrap();
            let (mut nats, mut done, mut start) = (0.0, 1, front);
            while done < all.len() {
                let end = all.len().min(start + context - front + 1);
                let window: Vec<u32> = bos.into_iter().chain(all[start..end].iter().copied()).collect();
                nats += surprises(&file, &window, &[])[done + front - start - 1..].iter().sum::<f64>();
                (start, done) = (start + stride, end);
            }
            close(found.sums.nats, nats);
            assert_eq!(found.sums.tokens, all.len() as u64 - 1);
            assert_eq!((found.documents, found.unit), (1, Unit::Windows));
        }
        let context = 20;
        let options = PerplexityOptions { windows: Windows::SecondHalf { context }, ..sliding(1, 1) };
        let found = measure(&file, &text, &options).unwrap();
        let (mut nats, mut tokens) = (0.0, 0);
        for chunk in all.chunks_exact(context) {
            let mut window = chunk.to_vec();
            window[0] = bos.unwrap_or(window[0]);
            let scored = &surprises(&file, &window, &[])[context / 2..];
            nats += scored.iter().sum::<f64>();
            tokens += scored.len() as u64;
        }
        close(found.sums.nats, nats);
        assert_eq!(found.sums.tokens, tokens);
    }
}

#[test]
fn the_same_bits_for_every_batch_and_number_of_threads() {
    let (file, language) = golden("bitnet");
    let texts: Vec<&str> = STORY.split_inclusive(' ').chain([STORY]).collect();
    let text = Text::new(&language.tokenizer, &documents(&texts), true, usize::MAX).unwrap();
    for windows in [Windows::Sliding { context: 40, stride: 13 }, Windows::SecondHalf { context: 10 }] {
        let first = measure(&file, &text, &PerplexityOptions { windows, ..sliding(1, 1) }).unwrap();
        for (batch, threads) in [(1, 1), (1, 2), (7, 3), (64, 2), (100_000, 8)] {
            let found =
                measure(&file, &text, &PerplexityOptions { windows, batch, threads, cache_type: CacheType::F32 })
                    .unwrap();
            assert_eq!(found, first, "batches of {batch}, {threads} threads");
        }
    }
}

#[test]
fn what_is_known_when_it_ends_early_is_told() {
    let (file, language) = golden("llama");
    let texts: Vec<&str> = STORY.split_inclusive(' ').collect();
    let text = Text::new(&language.tokenizer, &documents(&texts), true, usize::MAX).unwrap();
    let mut runner = load(&file, 1);
    let options = PerplexityOptions { batch: 8, ..sliding(64, 32) };
    let mut until = |most: u64| {
        perplexity(&mut runner, &text, &options, &mut |progress| match progress.sums.tokens < most {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })
    };
    let whole = until(u64::MAX).unwrap();
    let part = until(30).unwrap();
    assert!(whole.complete && !part.complete && (30..40).contains(&part.sums.tokens), "{part:?}");
    assert!(part.documents < whole.documents && part.windows < whole.windows);
    // The tokens of a shorter text, less the end of its last document.
    let cut = Text::new(&language.tokenizer, &documents(&texts), true, part.sums.tokens as usize).unwrap();
    assert_eq!(measure(&file, &cut, &options).unwrap().sums, part.sums);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (file, language) = golden("llama");
    let text = |texts: &[&str]| Text::new(&language.tokenizer, &documents(texts), false, usize::MAX);
    let story = text(&[STORY]).unwrap();
    for (options, says) in [
        (sliding(0, 1), "context of 0 tokens"),
        (sliding(129, 1), "context of 129 tokens: expected 2 to 128"),
        (sliding(2, 0), "stride of 0 tokens: expected 1"),
        (sliding(16, 0), "stride of 0"),
        (sliding(16, 16), "stride of 16 tokens: expected 1 to 15"),
        (PerplexityOptions { windows: Windows::SecondHalf { context: 2 }, ..sliding(1, 1) }, "expected 3 to 128"),
    ] {
        let error = measure(&file, &story, &options).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let short = PerplexityOptions { windows: Windows::SecondHalf { context: 64 }, ..sliding(1, 1) };
    let error = measure(&file, &text(&["Hello"]).unwrap(), &short).unwrap_err();
    assert!(matches!(error, Error::NothingToScore { context: 64, .. }), "{error}");
}
