//! What loading a model depends on, and how much memory is counted.

use std::ops::ControlFlow;
use std::path::Path;
use trine::backend::{Residency, When};
use trine::model::Rewrite;
use trine::prelude::{Request, Sampling};
use trine::tensor::OpenOptions;
use trine::{Error, ErrorKind, Options, Progress};

/// The largest difference from transformers' logits when the model is loaded for `context` tokens.
fn difference(golden: &str, context: usize) -> f32 {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(golden);
    let mut options = Options::default();
    (options.device.cpu.threads, options.engine.context) = (1, Some(context));
    let mut decoder = options.load(&folder, &mut |_| ControlFlow::Continue(())).unwrap();
    let golden: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
    let expected = std::fs::read(folder.join("logits.f32")).unwrap();
    let prompts = golden["prompts"].as_array().unwrap().iter();
    let ids = prompts.map(|prompt| serde_json::from_value::<Vec<u32>>(prompt["ids"].clone()).unwrap());
    let logits: Vec<f32> = ids.flat_map(|ids| decoder.logits(&ids).unwrap()).collect();
    let expected = expected.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
    logits.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Phi 4 mini, of an original context of 1024 tokens and one of 2048.
#[test]
fn frequencies_are_those_for_the_context_that_a_model_is_loaded_for() {
    assert!(difference("phi4-mini", 128) < 1e-4 && difference("phi4-mini", 1024) < 1e-4);
    assert!(difference("phi4-mini", 1025) > 1e-2);
    // The prompts are longer than the original context.
    assert!(difference("phi-longrope", 128) < 1e-4);
}

/// Loads a model with a context, for text, logits and embeddings; the context that each then has, or why not.
fn contexts(golden: &str, context: Option<usize>) -> [Result<usize, Error>; 3] {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(golden);
    let mut options = Options::default();
    (options.device.cpu.threads, options.engine.context) = (1, context);
    let mut go_on = |_| ControlFlow::Continue(());
    [
        options.open(&folder).map(|llm| llm.context()),
        options.load(&folder, &mut go_on).map(|decoder| decoder.spec().context_length),
        options.load_embedder(&folder, &mut go_on).map(|embedder| embedder.spec().context_length),
    ]
}

#[test]
fn a_context_that_is_given_limits_whatever_is_loaded() {
    assert_eq!(contexts("llama", Some(16)).map(Result::unwrap), [16; 3]);
    assert_eq!(contexts("phi4-mini", Some(16)).map(Result::unwrap), [16; 3]);
    for asked in [0, 129] {
        for refused in contexts("llama", Some(asked)) {
            let error = refused.unwrap_err().to_string();
            assert_eq!(error, format!("a context of {asked} tokens: expected 1 to 128, the model's"));
        }
    }
    // Only an engine has a default, as it makes room for all of its context.
    assert_eq!(contexts("gpt-oss", None).map(Result::unwrap), [4096, 131072, 131072]);
    let mut options = Options::default();
    options.engine.context = Some(16);
    let mut decoder = options.load(trine::EMBEDDED, &mut |_| ControlFlow::Continue(())).unwrap();
    decoder.extend(&[1; 16]).unwrap();
    let wrong = [(decoder.extend(&[1]), 17), (decoder.logits(&[1; 18]), 18), (decoder.extend(&[]), 0)];
    for (error, tokens) in wrong.map(|(logits, tokens)| (logits.unwrap_err(), tokens)) {
        assert_eq!(error.to_string(), format!("{tokens} tokens, but the model reads 1 to 16"));
        let expected = if tokens > 16 { ErrorKind::PromptTooLong } else { ErrorKind::Invalid };
        assert_eq!(error.kind(), expected);
    }
}

/// The bytes that are uploaded are those that were counted, but for tensors that no model asks for and parts that are cut out of others.
/// Whatever they are, progress ends at its total.
#[test]
fn progress_counts_weights_as_they_are_loaded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models");
    let kinds = ["llama", "bitnet", "qwen3", "gemma3-vision", "mistral3"];
    let mut wrong = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !kinds.iter().any(|kind| name.starts_with(kind)) {
            continue;
        }
        for headless in [false, true] {
            let mut seen: Vec<Progress> = Vec::new();
            let mut note = |progress| {
                seen.push(progress);
                ControlFlow::Continue(())
            };
            match headless {
                true => drop(Options::default().load_embedder(&path, &mut note).unwrap()),
                false => drop(Options::default().load(&path, &mut note).unwrap()),
            }
            let [.., uploaded, last] = seen[..] else { panic!("{name}: {seen:?}") };
            assert_eq!(last.done, last.total, "{name}");
            assert!(seen.is_sorted_by_key(|progress| progress.done), "{name}");
            if uploaded.done.abs_diff(last.total) * 50 > last.total {
                wrong.push(format!("{name}, headless: {headless}: {uploaded:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn tasks_see_progress_and_may_give_up() {
    let mut options = Options::default();
    options.device.cpu.threads = 1;
    let mut loading = options.spawn_async(trine::EMBEDDED).unwrap();
    let mut seen = Vec::new();
    while let Some(progress) = loading.next_async().await {
        seen.push(progress);
    }
    assert!(seen.len() > 2 && seen.is_sorted_by_key(|progress| progress.done), "{seen:?}");
    assert_eq!(seen.last().unwrap().done, seen[0].total);
    let (handle, _) = loading.await.unwrap();
    let sampling = Sampling { max_tokens: Some(4), ..Sampling::greedy() };
    let mut answer = handle.submit_async(Request::new("Once", sampling)).await.unwrap();
    assert!(answer.next_async().await.is_some());
    handle.shutdown_async().await.unwrap();

    // It waits before the first weight until it is cancelled.
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    options.rewrite = Some(Rewrite::new(move |view| {
        let _ = wait.lock().unwrap().recv();
        Ok(view)
    }));
    let loading = options.open_async(trine::EMBEDDED).unwrap();
    loading.cancel();
    drop(go_on);
    let cancelled = loading.await.map(drop);
    assert!(cancelled.is_err_and(|error| error.kind() == ErrorKind::Cancelled));
    let missing = options.open_async("no such file").unwrap().await.map(drop);
    assert!(missing.unwrap_err().to_string().contains("no such file"));
}

/// What is planned one by one is what is planned in all.
#[test]
fn each_weight_and_value_has_its_place_in_the_plan() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models/llama/model.gguf");
    let file = trine::open_file(&path, &OpenOptions::default()).unwrap();
    let mut options = Options::default();
    for when in [When::Off, When::On] {
        (options.device.cpu.huge_pages, options.device.cpu.repack) = (when, when);
        let (plan, log) = (options.plan(&file).unwrap(), options.plan_log(&file).unwrap());
        let small = Options { memory_limit: Some(plan.total() - 1), ..options.clone() };
        assert!(small.plan_log(&file).unwrap_err().to_string().contains("limit"));
        assert_eq!((log.buffers + log.others) as u64, plan.activations);
        assert_eq!(log.values.iter().map(|value| value.allocated).sum::<usize>(), log.buffers);
        assert!(
            log.values.iter().all(|value| value.rows * value.cols * 4 <= value.in_use && value.in_use <= log.buffers)
        );
        let of = |residency| -> u64 {
            log.weights.iter().filter(|weight| weight.residency == residency).map(|weight| weight.bytes).sum()
        };
        assert_eq!((of(Residency::Mapped), of(Residency::Repacked)), (plan.mapped, plan.repacked));
        assert!(log.weights.iter().map(|weight| weight.bytes).sum::<u64>() <= plan.weights);
        // Values of later layers lie where those of the first were, with room for all.
        let buffers = log.values.iter().map(|value| value.buffer + 1).max().unwrap();
        assert!(buffers < log.values.len() / 3, "{buffers}");
        let names: Vec<&str> = log.weights.iter().map(|weight| &*weight.name).collect();
        assert!(names.contains(&"blk.1.ffn_down.weight") && names.contains(&"output_norm.weight"), "{names:?}");
    }
}

/// A copy of a golden folder with another `tokenizer_config.json`.
fn with_tokenizer_config(golden: &str, config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(golden)).unwrap()
    {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    folder
}

#[test]
fn a_beginning_of_sequence_without_an_embedding_is_not_used() {
    let folder = with_tokenizer_config("llama", r#"{"bos_token": "<new>"}"#);
    let mut llm = Options::default().open(folder.path()).unwrap();
    let bos = llm.tokenizer().bos().unwrap();
    assert_eq!(bos as usize, llm.spec().vocab_size);
    assert!(!llm.tokens("The miller").contains(&bos));
    let sampling = Sampling { max_tokens: Some(2), ..Sampling::greedy() };
    for prompt in ["The miller", ""] {
        assert!(llm.generate(prompt, &sampling).is_ok());
    }
}

#[test]
fn a_budget_of_thinking_looks_at_the_template_in_use() {
    let source = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<think>{% endif %}\
                  {# </think> #}";
    let limited = Sampling { thinking_budget: Some(2), max_tokens: Some(4), ..Sampling::greedy() };
    let run = |template: Option<&str>| {
        let mut options = Options::default();
        (options.device.cpu.threads, options.template) = (1, template.map(str::to_owned));
        let request = Request::new("Once <think>", limited.clone());
        options.open(trine::EMBEDDED).unwrap().submit(request).map(|_| ())
    };
    assert!(run(None).unwrap_err().to_string().contains("a model whose chat template"));
    run(Some(source)).unwrap();
}
