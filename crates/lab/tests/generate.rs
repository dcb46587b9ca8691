//! A model writes the same texts however many at once.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use trine_backend::CpuOptions;
use trine_engine::{Engine, EngineOptions, Sampling, seed_of};
use trine_lab::generate::Error;
use trine_lab::generate::{Counts, End, GenerateOptions, GeneratedText, Keep, TextPrompt, TextWriter, generate};
use trine_model::{DeviceOptions, Language, ModelOptions, load};
use trine_tensor::File;
use trine_text::EncodeOptions;

fn engine(parallel: usize, threads: usize) -> Engine {
    let file = File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models/llama/model.gguf")).unwrap();
    let cpu = CpuOptions { threads, ..CpuOptions::default() };
    let device = DeviceOptions { cpu, ..DeviceOptions::default() };
    let runner = load(&file, &device, ModelOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap();
    let options = EngineOptions { max_sequences: parallel, ..EngineOptions::default() };
    Engine::new(runner, Arc::new(Language::of(&file).unwrap().tokenizer), &options).unwrap()
}

fn job(parallel: usize, indices: std::ops::Range<u64>) -> GenerateOptions {
    let tokenizer = engine(1, 1).tokenizer().clone();
    let prompt = |text: &str| TextPrompt {
        text: text.to_owned(),
        ids: tokenizer.bos().into_iter().chain(tokenizer.encode(text, EncodeOptions::default())).collect(),
    };
    // The bias makes the model, which knows little, end its texts at many lengths.
    let end = (tokenizer.eos().unwrap(), 3.0);
    let sampling = Sampling { max_tokens: Some(20), logit_bias: [end].into(), ..Sampling::default() };
    GenerateOptions { prompts: vec![prompt(""), prompt("The miller")], sampling, seed: 7, indices, parallel }
}

fn texts(job: &GenerateOptions, threads: usize) -> Vec<GeneratedText> {
    let mut all = Vec::new();
    let mut take = |texts: Vec<GeneratedText>, _| {
        all.extend(texts);
        Ok(ControlFlow::Continue(()))
    };
    generate(&mut engine(job.parallel, threads), job, &Vec::new, &mut take).unwrap();
    all
}

#[test]
fn texts_are_the_same_however_many_are_written_at_once() {
    let first = texts(&job(1, 0..40), 1);
    assert_eq!(first.iter().map(|text| text.index).collect::<Vec<_>>(), (0..40).collect::<Vec<_>>());
    let cut = first.iter().filter(|text| text.finish == End::Length).count();
    assert!(cut > 0 && cut < 40, "{cut} of 40 are cut");
    for text in &first {
        assert_eq!(text.seed, seed_of(7, text.index));
        assert!((text.finish == End::Length) <= (text.tokens == 20) && text.tokens > 0, "{text:?}");
        assert!(text.index % 2 == 0 || text.text.starts_with("The miller"), "{text:?}");
    }
    for (parallel, threads) in [(8, 1), (8, 2), (64, 2)] {
        assert_eq!(texts(&job(parallel, 0..40), threads), first, "{parallel} at once, {threads} threads");
    }
    assert_eq!(texts(&job(8, 13..29), 1), first[13..29]);
}

/// Writes to a file until so many texts were taken.
fn write(path: &Path, keep: Keep, resume: bool, most: usize) -> Counts {
    let (mut writer, next) = match resume {
        true => TextWriter::resume(path, keep, 7).unwrap(),
        false => (TextWriter::create(path, None, keep, false).unwrap(), 0),
    };
    let mut taken = 0;
    generate(&mut engine(8, 1), &job(8, next..120), &Vec::new, &mut |texts, _| {
        for text in &texts {
            writer.write(text)?;
        }
        taken += texts.len();
        Ok(if taken < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })
    .unwrap();
    writer.counts()
}

#[test]
fn a_file_that_was_left_off_anywhere_ends_like_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    for keep in [Keep::default(), Keep { cut: true, unique: false }, Keep { cut: true, unique: true }] {
        let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
        let counts = write(&whole, keep, false, usize::MAX);
        let expected = std::fs::read(&whole).unwrap();
        assert_eq!(expected.iter().filter(|&&byte| byte == b'\n').count() as u64, counts.texts);
        let dropped = if keep.cut { 0 } else { counts.cut } + if keep.unique { counts.duplicates } else { 0 };
        assert!(counts.texts + dropped == 120 && counts.cut > 0 && counts.duplicates > 0, "{counts:?}");
        for most in [1, 30, 50] {
            write(&parts, keep, most > 1, most);
            // A line that was not written to its end.
            let mut bytes = std::fs::read(&parts).unwrap();
            bytes.extend_from_slice(b"{\"text\": \"Onc");
            std::fs::write(&parts, bytes).unwrap();
        }
        write(&parts, keep, true, usize::MAX);
        assert!(std::fs::read(&parts).unwrap() == expected);
        write(&parts, keep, true, usize::MAX);
        assert!(std::fs::read(&parts).unwrap() == expected, "nothing is added to what is whole");
        [whole, parts].iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }
}

#[test]
fn other_files_are_left_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.jsonl");
    let line = |index: u64, seed: u64| {
        let text = GeneratedText { text: String::new(), tokens: 1, finish: End::Stop, index, seed };
        serde_json::to_string(&text).unwrap() + "\n"
    };
    let lines = [line(0, seed_of(7, 0)), line(1, seed_of(7, 1))];
    for content in [
        "notes\n".to_owned(),
        lines[0].clone() + &line(1, seed_of(8, 1)),
        lines[1].clone() + &lines[0],
        lines[0].clone() + "\n",
    ] {
        std::fs::write(&path, content.clone() + "rest").unwrap();
        let error = TextWriter::resume(&path, Keep::default(), 7).err().unwrap();
        assert!(matches!(error, Error::Line { .. }) && error.to_string().contains("x.jsonl: line "), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content + "rest");
    }
    assert!(matches!(TextWriter::create(&path, None, Keep::default(), false), Err(Error::Exists { .. })));
    std::fs::write(&path, lines.concat()).unwrap();
    let (writer, next) = TextWriter::resume(&path, Keep::default(), 7).unwrap();
    assert_eq!(next, 2);
    // Nobody replaces what another writes.
    let error = TextWriter::create(&path, None, Keep::default(), true).err().unwrap();
    assert!(error.to_string().contains("that no other run writes"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), lines.concat());
    drop(writer);
    TextWriter::create(&path, None, Keep::default(), true).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
}

#[test]
fn plain_text_has_a_separator_behind_each_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.txt");
    let mut writer = TextWriter::create(&path, Some("<|>"), Keep::default(), false).unwrap();
    for (index, text) in ["One.\nTwo.", "Three."].into_iter().enumerate() {
        let text = GeneratedText { text: text.to_owned(), tokens: 3, finish: End::Stop, index: index as u64, seed: 0 };
        writer.write(&text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), "One.\nTwo.\n<|>\nThree.\n<|>\n");
    assert_eq!(writer.counts(), Counts { texts: 2, tokens: 6, cut: 0, duplicates: 0 });
}
