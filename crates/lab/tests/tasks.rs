//! Answers are those of a plain calculation; `bench/lm_eval_tasks.py` compares them with lm-evaluation-harness.

use std::ops::ControlFlow;
use std::path::Path;
use trine_backend::{CacheType, Cpu, CpuOptions};
use trine_lab::tasks::{self, Error, Example, Task, TaskOptions, TaskResult, aggregate, paired};
use trine_model::runner::{Output, Sequences, Want};
use trine_model::{EMBEDDED, Language, ModelOptions, OnDevice, Runner, open_file};
use trine_text::{EncodeOptions, Tokenizer};

const OPTIONS: TaskOptions =
    TaskOptions { batch: 64, cache_type: CacheType::F32, context: 512, bos: true, generate: false };

fn model() -> (OnDevice<Cpu>, Tokenizer) {
    let file = open_file(EMBEDDED, &Default::default()).unwrap();
    let cpu = Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() }).unwrap();
    let runner = OnDevice::load(cpu, &file, ModelOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap();
    (runner, Language::of(&file).unwrap().tokenizer)
}

const CHOICES: &str = r#"{"query": "Once upon a", "choices": ["car.", "time there was a little girl.", "of."], "gold": 1}

{"query": "The dog was happy. He wagged his", "choices": ["tail.", "house and his house and his house."], "gold": 0}
{"query": "She was very", "choices": ["happy.", "Antarctica."], "gold": 1}
"#;
const CONTEXTS: &str = r#"{"context_options": ["The sun is hot. The moon", "Tom has a ball. He"], "continuation": "likes to play with it.", "gold": 1}
"#;
const TEXTS: &str = r#"{"context": "Once upon a", "continuation": "time"}
{"context": "Once upon a time, there was a little", "continuation": "xylophone"}
"#;

fn read(folder: &Path, text: &str) -> Result<Task, Error> {
    let path = folder.join("questions.jsonl");
    std::fs::write(&path, text).unwrap();
    Task::read(&path, usize::MAX)
}

fn run(task: &Task, options: &TaskOptions) -> TaskResult {
    let (mut runner, tokenizer) = model();
    tasks::run(&mut runner, &tokenizer, task, options, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

/// Log-likelihood of a continuation, token by token.
fn log_likelihood(runner: &mut dyn Runner, tokenizer: &Tokenizer, context: &str, continuation: &str) -> f64 {
    let encode = |text: &str| tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: true });
    let (start, ids) = (encode(context).len(), encode(&format!("{context}{continuation}")));
    let mut sequences = Sequences::new(runner, Sequences::blocks_of(ids.len()), CacheType::F32).unwrap();
    let (sequence, mut output, mut sum) = (sequences.add(ids.len()), Output::default(), 0.0);
    for (i, pair) in ids.windows(2).enumerate() {
        sequences.push(sequence, &pair[..1], 1);
        sequences.run(runner, Want::Logits, &mut output).unwrap();
        if i + 1 >= start {
            let total: f64 = output.values.iter().map(|&x| f64::from(x).exp()).sum();
            sum += f64::from(output.values[pair[1] as usize]) - total.ln();
        }
    }
    sequences.release(runner);
    sum
}

#[test]
fn answers_are_the_most_likely_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (mut runner, tokenizer) = model();
    for text in [CHOICES, CONTEXTS] {
        let task = read(folder.path(), text).unwrap();
        let result = run(&task, &OPTIONS);
        assert_eq!(result, run(&task, &TaskOptions { batch: 3, ..OPTIONS }), "the batch changes nothing");
        for (example, outcome) in task.examples.iter().zip(&result.outcomes) {
            let Example::Choice { pairs, lengths, gold } = example else { panic!("{example:?}") };
            let all: Vec<f64> = pairs
                .iter()
                .map(|[context, continuation]| log_likelihood(&mut runner, &tokenizer, context, continuation))
                .collect();
            let best = |of: &dyn Fn(usize) -> f64| (0..all.len()).max_by(|&a, &b| of(a).total_cmp(&of(b))).unwrap();
            assert!((outcome.log_likelihood - all[*gold]).abs() < 1e-4, "{example:?}");
            assert_eq!(outcome.correct, best(&|i| all[i]) == *gold, "{example:?} {all:?}");
            let by_length = lengths.as_ref().map(|lengths| best(&|i| all[i] / lengths[i] as f64) == *gold);
            assert_eq!(outcome.correct_norm, by_length, "{example:?} {all:?}");
        }
    }
    let result = run(&read(folder.path(), CHOICES).unwrap(), &OPTIONS);
    assert_eq!((result.examples, result.acc, result.perplexity, result.truncated), (3, 2.0 / 3.0, None, 0));
    // The deviation of a sample of 1, 1, 0, over the root of 3.
    assert!((result.stderr.unwrap() - 1.0 / 3.0).abs() < 1e-12 && (result.chance - 4.0 / 9.0).abs() < 1e-12);
    let all = aggregate([&result].into_iter()).unwrap();
    assert!((all.above_chance - (2.0 / 3.0 - 4.0 / 9.0) / (5.0 / 9.0)).abs() < 1e-12, "{all:?}");
    assert_eq!(aggregate([].into_iter()), None);
}

#[test]
fn texts_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (mut runner, tokenizer) = model();
    let task = read(folder.path(), TEXTS).unwrap();
    let result = run(&task, &TaskOptions { generate: true, ..OPTIONS });
    assert_eq!(result.outcomes.iter().map(|outcome| outcome.correct).collect::<Vec<_>>(), [true, false]);
    let expected: f64 = [("Once upon a", " time"), ("Once upon a time, there was a little", " xylophone")]
        .map(|(context, continuation)| log_likelihood(&mut runner, &tokenizer, context, continuation))
        .iter()
        .sum();
    assert!((result.perplexity.unwrap() / (-expected / 2.0).exp() - 1.0).abs() < 1e-4);
    // The model writes more than a word.
    assert_eq!((result.exact_match, result.acc_norm, result.chance), (Some(0.0), None, 0.0));
    let short = run(&task, &TaskOptions { context: 8, ..OPTIONS });
    assert_eq!(short.truncated, 1);

    let other = TaskResult { outcomes: result.outcomes.iter().rev().copied().collect(), ..result.clone() };
    let compared = paired(&result, &other);
    assert_eq!((compared.only_first, compared.only_second, compared.p), (1, 1, 1.0));
}

#[test]
fn lines_that_are_no_examples_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |text: &str, expected: &str| {
        let message = read(folder.path(), text).unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    };
    refused("", "expected examples, found none");
    refused("\n\n", "expected examples, found none");
    refused("x", "line 1: expected an object");
    refused("{\"context\": \"a\", \"continuation\": \"b\"}\n[]", "line 2: expected an object");
    refused("{}", "a text in `continuation`, found none");
    refused(r#"{"context": 1, "continuation": "b"}"#, "a text in `context`, found 1");
    refused(r#"{"query": "a", "choices": ["b"], "gold": 0}"#, "2 to 256 texts in `choices`");
    refused(r#"{"query": "a", "choices": ["b", ""], "gold": 0}"#, "2 to 256 texts in `choices`");
    refused(r#"{"query": "a", "choices": ["b", "c"], "gold": 2}"#, "0 to 1, in `gold`, found 2");
    refused(r#"{"query": "a", "choices": ["b", "c"], "gold": -1}"#, "0 to 1, in `gold`, found -1");
    let (mut runner, tokenizer) = model();
    let task = read(folder.path(), TEXTS).unwrap();
    let options = TaskOptions { context: 1, ..OPTIONS };
    let error = tasks::run(&mut runner, &tokenizer, &task, &options, &mut |_, _| ControlFlow::Continue(()));
    assert!(matches!(error, Err(Error::TooLong { context: 1, .. })), "{error:?}");
    let error = tasks::run(&mut runner, &tokenizer, &task, &OPTIONS, &mut |_, _| ControlFlow::Break(()));
    assert!(matches!(error, Err(Error::Cancelled)), "{error:?}");
}
