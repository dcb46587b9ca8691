//! `trine run` answers.

mod common;

use common::{Ran, changed, golden, llama, run, trine, trine_with};
use serde_json::Value;
use trine_tensor::View;
use trine_tensor::format::Q8_0;

const PROMPT: &str = "The miller counted";

/// A short greedy answer with more options.
fn greedy(model: &str, more: &[&str]) -> Ran {
    let ran = trine_with(
        &[&["run", model, PROMPT, "--raw", "--temperature", "0", "--max-tokens", "12", "--json"], more].concat(),
    );
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran
}

#[test]
fn golden_models_continue_as_transformers_does() {
    for name in ["llama", "qwen2", "qwen3", "bitnet", "bitnet-b1.58", "llama-yarn", "llama-sharded", "llama-bitlinear"]
    {
        let text = std::fs::read_to_string(golden(name).join("golden.json")).unwrap();
        let facts: Value = serde_json::from_str(&text).unwrap();
        let folder = golden(name);
        for model in [folder.clone(), folder.join("model.gguf")].iter().filter(|path| path.exists()) {
            for prompt in facts["prompts"].as_array().unwrap() {
                let (model, text) = (model.display().to_string(), prompt["text"].as_str().unwrap());
                let options = ["--raw", "--temperature", "0", "--json", "--ignore-eos", "--max-tokens", "16"];
                let ran = trine_with(&[&["run", &model, text], &options[..]].concat());
                assert_eq!(ran.json()["ids"], prompt["greedy"], "{model}: {}", ran.err);
            }
        }
    }
}

#[test]
fn json_is_one_line_with_every_field() {
    let ran = greedy(&llama(), &["--logprobs", "2", "--seed", "7"]);
    assert_eq!(ran.out.lines().count(), 1);
    let json = ran.json();
    let mut keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort();
    let expected = [
        "ended_by",
        "finish_reason",
        "ids",
        "logprobs",
        "memory",
        "model",
        "prompt_logprobs",
        "seed",
        "text",
        "timings",
        "usage",
    ];
    assert_eq!(keys, expected);
    assert_eq!(json["prompt_logprobs"], Value::Null);
    assert_eq!((&json["seed"], &json["finish_reason"]), (&7.into(), &"length".into()));
    assert_eq!(json["ids"].as_array().unwrap().len(), 12);
    let usage = &json["usage"];
    assert_eq!(usage["completion_tokens"], 12);
    assert_eq!(usage["total_tokens"].as_u64(), usage["prompt_tokens"].as_u64().map(|n| n + 12));
    assert_eq!(usage["cached_tokens"], 0);
    for (token, id) in json["logprobs"].as_array().unwrap().iter().zip(json["ids"].as_array().unwrap()) {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!((&token["id"], &top[0]["id"], top.len()), (id, id, 2), "greedy takes the most likely");
        assert!(top[0]["logprob"].as_f64() >= top[1]["logprob"].as_f64() && token["logprob"] == top[0]["logprob"]);
    }
    let timings = json["timings"].as_object().unwrap();
    assert!(timings.values().all(|value| value.as_f64().is_some_and(|value| value > 0.0)), "{timings:?}");
    assert_eq!(greedy(&llama(), &[]).json()["logprobs"], Value::Null);
}

/// The flags come from the engine's list of options: each is there, and all of them at once are understood.
#[test]
fn every_sampling_option_is_a_flag() {
    let help = trine_with(&["run", "--help"]).out;
    let mut args = vec!["run".to_owned(), llama(), PROMPT.to_owned(), "--json".to_owned()];
    let mut count = 0;
    for param in trine_engine::params() {
        let flag = format!("--{}", param.name.replace('_', "-"));
        assert!(help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")), "{flag}");
        if ["n", "best_of"].contains(&param.name) {
            // The report is another.
            continue;
        }
        if param.name == "thinking_budget" {
            // The model has no tags of thinking.
            let ran = trine_with(&["run", &llama(), PROMPT, &flag, "3"]);
            assert!(ran.err.contains("thinking_budget = 3: expected a model whose chat template"), "{}", ran.err);
            continue;
        }
        let value = match (param.field)(&mut Default::default()) {
            trine_engine::Field::Float(_) if param.range.0 > 0.5 => Some("1.5"),
            trine_engine::Field::Float(_) => Some("0.5"),
            trine_engine::Field::Choice(..) => Some("2"),
            trine_engine::Field::Count(_) | trine_engine::Field::Limit(_) | trine_engine::Field::Seed(_) => Some("3"),
            trine_engine::Field::Switch(on) => on.then_some("false"),
            trine_engine::Field::Ids(_) | trine_engine::Field::Sequences(_) => Some("7"),
            trine_engine::Field::Texts(_) => Some("never"),
            trine_engine::Field::Biases(_) => Some("5=-1"),
        };
        args.extend([Some(flag), value.map(str::to_owned)].into_iter().flatten());
        count += 1;
    }
    assert!(count >= 15);
    let ran = run(trine().args(&args), "");
    assert_eq!((ran.code, ran.json()["ids"].as_array().unwrap().len()), (0, 3), "{}", ran.err);
}

#[test]
fn several_answers_have_the_seeds_that_follow() {
    let of = |args: &[&str]| {
        trine_with(&[&["run", &llama(), PROMPT, "--json", "--max-tokens", "6", "--temperature", "1"], args].concat())
            .json()
    };
    let several = of(&["-n", "3", "--seed", "7", "--logprobs", "0"]);
    let choices = several["choices"].as_array().unwrap();
    let mut totals = Vec::new();
    for (i, choice) in choices.iter().enumerate() {
        let one = of(&["--seed", &(7 + i).to_string(), "--logprobs", "0"]);
        for field in ["text", "ids", "logprobs", "finish_reason", "ended_by"] {
            assert_eq!(choice[field], one[field], "{field}");
        }
        totals.push(choice["cumulative_logprob"].as_f64().unwrap());
    }
    assert_eq!(choices.len(), 3);
    let best = of(&["--best-of", "3", "--seed", "7"]);
    let best = best["choices"].as_array().unwrap();
    let most = totals.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    assert_eq!((best.len(), best[0]["cumulative_logprob"].as_f64()), (1, Some(most)));
    for args in [
        &["generate-data", &llama(), "out.jsonl", "--count", "1", "-n", "2"][..],
        &["run", &llama(), PROMPT, "-n", "0"],
    ] {
        assert_ne!(trine_with(args).code, 0, "{args:?}");
    }
}

#[test]
fn neither_threads_nor_isa_nor_batch_nor_loading_change_a_token() {
    let expected = greedy(&llama(), &["--logprobs", "1"]).json();
    let ways: &[&[&str]] = &[
        &["--threads", "1"],
        &["--threads", "3"],
        &["--isa", "scalar"],
        &["--batch", "1"],
        &["--prefill-chunk", "3"],
        &["--ubatch", "2"],
        &["--max-batch-tokens", "1"],
        &["--threads", "1", "--threads-batch", "3"],
        &["--threads", "3", "--threads-batch", "2", "--cpu-affinity", "auto"],
        &["--threads", "2", "--cpu-affinity", "compact", "--nice", "1"],
        &["--threads", "3", "--cpu-affinity", "scatter"],
        &["--no-mmap"],
        &["--prefault"],
        &["--prefault=off", "--huge-pages", "off"],
        &["--huge-pages", "on"],
        &["--huge-pages", "on", "--no-mmap"],
        &["--mlock"],
        &["--numa", "interleave"],
        &["--numa", "bind"],
        &["--context", "64"],
    ];
    for way in ways {
        let json = greedy(&llama(), &[&["--logprobs", "1"], *way].concat()).json();
        assert_eq!((&json["ids"], &json["logprobs"]), (&expected["ids"], &expected["logprobs"]), "{way:?}");
    }
    let tokenizer = golden("llama").join("tokenizer.json").display().to_string();
    assert_eq!(greedy(&llama(), &["--tokenizer", &tokenizer]).json()["ids"], expected["ids"]);
}

/// The 19th field of a thread's `stat` is its priority.
#[cfg(target_os = "linux")]
#[test]
fn all_threads_have_the_priority_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.txt").display().to_string();
    let mut command = trine();
    command.args(["generate-data", "embedded:stories", &out, "--count", "100000", "--threads", "3", "--nice", "7"]);
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let nice = |thread: &str| {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).ok()?;
        let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
        let found = stats.filter(|stat| stat.contains(&format!("({thread})"))).collect::<Vec<_>>().pop()?;
        found.rsplit_once(") ")?.1.split(' ').nth(16)?.parse::<i32>().ok()
    };
    let begin = std::time::Instant::now();
    let found = loop {
        match ["trine-1", "trine-2", "trine"].map(nice) {
            [Some(a), Some(b), Some(c)] => break Some([a, b, c]),
            _ if begin.elapsed().as_secs() > 60 => break None,
            _ => std::thread::sleep(std::time::Duration::from_millis(5)),
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(found, Some([7, 7, 7]));
}

#[test]
fn a_prompt_that_was_read_before_is_not_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("kv").display().to_string();
    let prompt =
        "Once upon a time there was a little girl who had a red ball and a blue hat and a green frog. ".repeat(3);
    let answer = |more: &[&str]| {
        let options = ["run", "embedded:stories", &prompt, "--temperature", "0", "--max-tokens", "8", "--json"];
        let ran = trine_with(&[&options[..], more].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        (ran.json()["ids"].clone(), ran.json()["usage"]["cached_tokens"].as_u64().unwrap(), ran.err)
    };
    let (expected, ..) = answer(&[]);
    for (more, cached) in [
        (&[][..], false),
        (&[], true),
        (&["--cache-type", "f16"], false),
        (&["--activations", "f32"], false),
        (&[], true),
    ] {
        let (ids, found, err) = answer(&[&["--cache-dir", &cache][..], more].concat());
        assert_eq!(found >= 48, cached, "{more:?}: {found} of the prompt, {err}");
        assert!(!more.is_empty() || ids == expected);
    }
    // Where nothing can be written, the answer is the same, and the warning tells why.
    let full = folder.path().join("full");
    std::fs::create_dir(&full).unwrap();
    (0..=255).for_each(|byte| std::fs::write(full.join(format!("{byte:02x}")), "").unwrap());
    let (ids, _, err) = answer(&["--cache-dir", &full.display().to_string()]);
    assert_eq!(ids, expected);
    assert!(err.contains("warning: not all keys and values are kept in"), "{err}");
    let ran = trine_with(&["run", "embedded:stories", "x", "--cache-dir", &cache, "--cache-dir-limit", "1KB"]);
    assert!(ran.code == 2 && ran.err.contains("expected room for"), "{} {}", ran.code, ran.err);
    let ran = trine_with(&["run", "embedded:stories", "x", "--cache-dir-limit", "1GB"]);
    assert!(ran.code == 2 && ran.err.contains("--cache-dir-limit needs --cache-dir"), "{}", ran.err);
}

#[test]
fn a_cache_type_answers_alike_on_any_number_of_threads() {
    let answer = |more: &[&str]| greedy(&llama(), &[&["--logprobs", "1"], more].concat()).json()["logprobs"].clone();
    let exact = answer(&[]);
    assert_eq!(answer(&["--cache-type", "F32"]), exact);
    for cache_type in ["f16", "bf16", "q8_0", "q4_0"] {
        let one = answer(&["--cache-type", cache_type, "--threads", "1"]);
        assert_ne!(one, exact, "{cache_type}");
        assert_eq!(answer(&["--cache-type", cache_type, "--threads", "3", "--isa", "scalar", "--batch", "2"]), one);
    }
}

#[test]
fn activations_are_rounded_unless_told_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let q8_0 = folder.path().join("q8_0.gguf").display().to_string();
    assert_eq!(trine_with(&["quantize", &llama(), &q8_0, "--format", "q8_0"]).code, 0);
    for (model, differ) in [(llama(), false), (q8_0, true)] {
        let answer = |more: &[&str]| greedy(&model, &[&["--logprobs", "1"], more].concat()).json()["logprobs"].clone();
        let exact = answer(&["--activations", "f32", "--threads", "1", "--isa", "scalar"]);
        assert_eq!(answer(&["--activations", "f32", "--threads", "2", "--batch", "2"]), exact);
        assert_eq!(answer(&[]), answer(&["--activations", "int8"]));
        assert_eq!(answer(&[]) != exact, differ, "{model}");
    }
}

#[test]
fn bfloat16_activations_round_f16_alike_on_any_number_of_threads_and_warn_where_they_do_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (format, rounds) in [("f16", true), ("bf16", true), ("q8_0", false)] {
        let model = folder.path().join(format).display().to_string();
        assert_eq!(trine_with(&["quantize", &llama(), &model, "--format", format]).code, 0);
        let ran = |more: &[&str]| greedy(&model, &[&["--logprobs", "1"], more].concat());
        let answer = |more: &[&str]| ran(more).json()["logprobs"].clone();
        let one = answer(&["--activations", "bf16", "--threads", "1"]);
        assert_eq!(answer(&["--activations", "bf16", "--threads", "3", "--isa", "scalar", "--batch", "2"]), one);
        assert_eq!(answer(&[]) != one, rounds, "{format}");
        let err = ran(&["--activations", "bf16"]).err;
        assert_eq!(err.contains("activations bf16: the model has no F16 or BF16 weights"), !rounds, "{err}");
    }
}

#[test]
fn threads_come_from_the_flag_then_from_variables() {
    let threads = |variables: &[(&str, &str)], flags: &[&str]| {
        let mut command = trine();
        command.args(["run", &llama(), "hi", "--raw", "--max-tokens", "1"]).args(flags);
        let err = run(command.envs(variables.iter().copied()), "").err;
        err.split("threads ").nth(1).unwrap().split(',').next().unwrap().parse::<usize>().unwrap()
    };
    let all = std::thread::available_parallelism().unwrap().get();
    let (ours, rayons) = (("TRINE_THREADS", "3"), ("RAYON_NUM_THREADS", "5"));
    assert_eq!(threads(&[], &[]), all);
    assert_eq!(threads(&[("RAYON_NUM_THREADS", "0")], &[]), all);
    assert_eq!(threads(&[rayons], &[]), 5);
    assert_eq!(threads(&[rayons, ours], &[]), 3);
    assert_eq!(threads(&[rayons, ours], &["--threads", "1"]), 1);
}

#[test]
fn a_prompt_comes_from_an_argument_or_a_pipe() {
    let with = |prompt: &[&str], input: &str| {
        let mut command = trine();
        command.args(["run", &llama(), "--raw", "--temperature", "0", "--max-tokens", "5", "-q"]).args(prompt);
        run(&mut command, input)
    };
    let expected = with(&[PROMPT], "").out;
    assert!(!expected.is_empty());
    for input in [PROMPT.to_owned(), format!("{PROMPT}\n"), format!("{PROMPT}\r\n")] {
        assert_eq!(with(&[], &input).out, expected);
        assert_eq!(with(&["-"], &input).out, expected);
    }
    assert_ne!(with(&[], &format!("{PROMPT}\n\n")).out, expected, "only one end of line is taken away");
    assert_eq!(with(&[PROMPT, "--echo"], "").out, format!("{PROMPT}{expected}"));
    assert_eq!(with(&[PROMPT], "").err, "", "--quiet");
}

#[test]
fn seeds_make_answers_repeatable_and_are_told() {
    let sample = |seed: Option<&str>, flags: &[&str]| {
        let mut command = trine();
        command.args(
            [&["run", &llama(), PROMPT, "--raw", "--json", "--temperature", "5", "--max-tokens", "9"], flags].concat(),
        );
        seed.map(|seed| command.env("TRINE_SEED", seed));
        run(&mut command, "").json()
    };
    let first = sample(None, &["--seed", "42"]);
    assert_eq!(first["ids"], sample(Some("42"), &[])["ids"]);
    assert_eq!(first["ids"], sample(Some("1"), &["--seed", "42"])["ids"], "the flag wins");
    assert_ne!(first["ids"], sample(None, &["--seed", "43"])["ids"]);
    let free = sample(None, &[]);
    let seed = free["seed"].to_string();
    assert_eq!(free["ids"], sample(None, &["--seed", &seed])["ids"]);
}

#[test]
fn stop_texts_end_an_answer_before_them() {
    let text = greedy(&llama(), &[]).json()["text"].as_str().unwrap().to_owned();
    let stop: String = text.chars().skip(3).take(2).collect();
    let json = greedy(&llama(), &["--stop", "not there", "--stop", &stop]).json();
    assert_eq!((&json["text"], &json["finish_reason"]), (&text[..text.find(&stop).unwrap()].into(), &"stop".into()));
}

#[test]
fn answers_say_how_they_end() {
    let model = llama();
    let text = greedy(&model, &[]).json()["text"].as_str().unwrap().to_owned();
    let stop: String = text.chars().skip(3).take(2).collect();
    for (options, ending, reason) in [
        (&["--max-tokens", "3", "--ignore-eos"][..], "stopped at --max-tokens", "length"),
        (&["--context", "16", "--ignore-eos"], "context full", "length"),
        (&["--stop", &stop], "stop string", "stop"),
        (&["--logit-bias", "1=100"], "end token", "stop"),
    ] {
        let args = [&["run", &model, PROMPT, "--raw", "--temperature", "0"], options].concat();
        let ran = trine_with(&[&args[..], &["--json"]].concat());
        assert_eq!((&ran.json()["ended_by"], &ran.json()["finish_reason"]), (&ending.into(), &reason.into()));
        assert!(ran.err.contains(&format!("({ending})")), "{}", ran.err);
        let out = trine_with(&args).out;
        assert_eq!(out, format!("{}\n", ran.json()["text"].as_str().unwrap()), "a whole line for pipes and files");
    }
}

#[test]
fn prompts_go_through_the_chat_template_unless_raw() {
    let folder = tempfile::tempdir().unwrap();
    let template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]";
    let model =
        changed(folder.path(), "chat.gguf", |metadata, _| drop(metadata.insert("tokenizer.chat_template", template)));
    let ids = |args: &[&str]| {
        let ran =
            trine_with(&[&["run", &model], args, &["--temperature", "0", "--max-tokens", "6", "--json"]].concat());
        (ran.json()["ids"].clone(), ran.json()["usage"]["prompt_tokens"].clone())
    };
    let plain = ids(&["[user] hi\n[assistant]", "--raw"]);
    assert_eq!(ids(&["hi"]), plain, "BOS is there once");
    assert_eq!(ids(&["hi", "--system", "Be brief."]), ids(&["[system] Be brief.\n[user] hi\n[assistant]", "--raw"]));
    assert_ne!(ids(&["hi", "--raw"]), plain);
    // Another template, from a file.
    let other = folder.path().join("other.jinja");
    std::fs::write(&other, "{{ bos_token }}<{{ messages[0].content }}>").unwrap();
    let other = other.display().to_string();
    assert_eq!(ids(&["hi", "--template", &other]), ids(&["<hi>", "--raw"]));
    std::fs::write(&other, "\n{% if %}").unwrap();
    let ran = trine_with(&["run", &model, "hi", "--template", &other]);
    assert!(ran.code == 1 && ran.err.contains("chat template: line 2: "), "{}", ran.err);
}

#[test]
fn a_template_that_is_malformed_is_an_error_for_chats_only() {
    let folder = tempfile::tempdir().unwrap();
    let broken = changed(folder.path(), "broken.gguf", |metadata, _| {
        metadata.insert("tokenizer.chat_template", "{{ bos_token }}\n{% for m in messages %}\n{{ m.content }");
    });
    let bytes = folder.path().join("bytes");
    std::fs::create_dir(&bytes).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(golden("gemma2").join(file), bytes.join(file)).unwrap();
    }
    let jinja = bytes.join("chat_template.jinja");
    std::fs::write(&jinja, b"\xff").unwrap();
    let bytes = bytes.display().to_string();
    let not_text = format!("{}: expected UTF-8 text, found an invalid byte at position 0", jinja.display());
    let good = folder.path().join("good.jinja");
    std::fs::write(&good, "{{ messages[0].content }}").unwrap();
    let few = ["--max-tokens", "1"];
    let titles = ["the chat template does not compile", "the chat template cannot be read"];
    for ((model, problem), title) in [(&broken, "line 3: "), (&bytes, &*not_text)].into_iter().zip(titles) {
        for args in [&["hi"][..], &["hi", "--show-prompt"], &["hi", "--json"]] {
            let ran = trine_with(&[&["run", model], args, &few].concat());
            assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
            for part in [&format!("error: chat template: {problem}"), "hint: --raw", "--template FILE"] {
                assert!(ran.err.contains(part), "{args:?}: {}", ran.err);
            }
        }
        for way in [&["--raw"][..], &["--template", &good.display().to_string()]] {
            let ran = trine_with(&[&["run", model, "hi"], way, &few].concat());
            assert!(ran.code == 0 && !ran.err.contains("template"), "{way:?}: {}", ran.err);
        }
        let ran = trine_with(&["tokenize", model, "hi"]);
        assert!(ran.code == 0 && !ran.err.contains("template"), "{}", ran.err);
        let info: Value = serde_json::from_str(&trine_with(&["info", model, "--json"]).out).unwrap();
        assert!(info["tokenizer"].is_object(), "{info}");
        assert!(info["warnings"].to_string().contains(&format!("chat template: {problem}")), "{info}");
        let doctor = trine_with(&["doctor", model]);
        assert!(doctor.code == 5 && doctor.out.contains(title), "{}", doctor.out);
    }
}

#[test]
fn tools_choose_the_template_that_is_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let with = |name: &str, templates: &[(&str, &str)]| {
        changed(folder.path(), name, |metadata, _| {
            for (key, source) in templates {
                metadata.insert(format!("tokenizer.{key}"), *source);
            }
        })
    };
    let (default, tool_use, rag) =
        (("chat_template", "d"), ("chat_template.tool_use", "t {{ tools | length }}"), ("chat_template.rag", "r"));
    let tools = folder.path().join("tools.json");
    std::fs::write(&tools, r#"[{"type": "function", "function": {"name": "now"}}]"#).unwrap();
    let tools = tools.display().to_string();
    let all = with("all.gguf", &[default, tool_use, rag]);
    let only_rag = with("rag.gguf", &[rag]);
    let tools = ["--tools", &tools];
    let named = ["--template-name", "rag"];
    let show = |model: &str, args: &[&str]| trine_with(&[&["run", model, "hi", "--show-prompt", "-q"], args].concat());
    for (model, args, expected) in [
        (&all, &[][..], "d"),
        (&all, &tools, "t 1"),
        (&all, &named, "r"),
        (&all, &[tools, named].concat(), "r"),
        (&only_rag, &named, "r"),
        (&only_rag, &["--raw"], "hi"),
    ] {
        let ran = show(model, args);
        assert_eq!((ran.code, ran.out.as_str()), (0, expected), "{args:?}: {}", ran.err);
    }
    for (model, args, parts) in [
        (&only_rag, &[][..], &["expected one named `default`, found rag", "--template-name"][..]),
        (&all, &["--template-name", "x"], &["\"x\"", "default", "rag", "tool_use"]),
    ] {
        for args in [&[args, &["--show-prompt"]].concat(), args] {
            let ran = trine_with(&[&["run", model, "hi", "--max-tokens", "1"], args].concat());
            assert!(ran.code != 0 && parts.iter().all(|part| ran.err.contains(part)), "{args:?}: {}", ran.err);
        }
    }
    let info = |model: &str| trine_with(&["info", model, "--template"]);
    let (all, only_rag) = (info(&all), info(&only_rag));
    assert!(all.out.contains("default, rag, tool_use") && all.out.contains("rag:\nr\n"), "{}", all.out);
    assert!((only_rag.out + &only_rag.err).contains("no chat template named `default`"));
}

#[test]
fn show_prompt_prints_what_the_model_gets() {
    let folder = tempfile::tempdir().unwrap();
    let template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}\
        {% for tool in tools or [] %}<{{ tool.function.name }}>{% endfor %}\
        {% if enable_thinking is defined %}{{ enable_thinking }} {{ style }}{% endif %}[assistant]";
    let model =
        changed(folder.path(), "chat.gguf", |metadata, _| drop(metadata.insert("tokenizer.chat_template", template)));
    let tools = folder.path().join("tools.json");
    std::fs::write(&tools, r#"[{"type": "function", "function": {"name": "now"}}]"#).unwrap();
    let tools = tools.display().to_string();
    let show = |args: &[&str]| trine_with(&[&["run", &model, "hi", "--show-prompt"], args].concat());
    for (args, expected) in [
        (&[][..], "<|bos|>[user] hi\n[assistant]"),
        (&["--system", "Be brief."], "<|bos|>[system] Be brief.\n[user] hi\n[assistant]"),
        (&["--raw"], "hi"),
        (&["--tools", &tools], "<|bos|>[user] hi\n<now>[assistant]"),
        (
            &["--template-arg", "enable_thinking=false", "--template-arg", "style=as is"],
            "<|bos|>[user] hi\nFalse as is[assistant]",
        ),
    ] {
        let ran = show(args);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, expected, ""), "{args:?}");
    }
    // The same prompt is answered.
    let ids = |args: &[&str]| trine_with(&[&["run", &model], args, &["--temperature", "0", "--json"]].concat()).json();
    assert_eq!(
        ids(&["hi", "--tools", &tools, "--max-tokens", "4"])["ids"],
        ids(&["[user] hi\n<now>[assistant]", "--raw", "--max-tokens", "4"])["ids"]
    );
    let ran = show(&["--template-arg", "enable_thinkin=false"]);
    assert!(ran.code == 0 && ran.err.contains("does not use `enable_thinkin`"), "{}", ran.err);
    for (args, part) in [
        (&["--tools", &model][..], "chat.gguf"),
        (&["--template-arg", "thinking"], "NAME=VALUE"),
        (&["--template-arg", "a b=1"], "`a b`"),
    ] {
        let ran = show(args);
        assert!(ran.code == 2 && ran.err.contains(part), "{args:?}: {}", ran.err);
    }
    // Without a template there is nothing that could use them.
    let ran = trine_with(&["run", &llama(), "hi", "--tools", &tools]);
    assert!(ran.code == 1 && ran.err.contains("no chat template") && ran.err.contains("hint: "), "{}", ran.err);
    assert_eq!(trine_with(&["run", &llama(), "hi", "--show-prompt"]).out, "hi");
}

/// Real models, whose goldens were made by another implementation (needs the folder `shared`).
#[test]
fn real_models_continue_as_their_goldens_say() {
    let Some(models) = common::shared().map(|shared| shared.join("models")) else { return };
    let answers = |folder: &str, file: &str| -> Vec<(Value, Value)> {
        let goldens = std::fs::read_to_string(models.join(folder).join("golden_numpy.json")).unwrap();
        let goldens: Vec<Value> = serde_json::from_str(&goldens).unwrap();
        let answer = |golden: Value| {
            let model = models.join(folder).join(file).display().to_string();
            let prompt = golden["prompt"].as_str().unwrap();
            let ran = trine_with(&["run", &model, prompt, "--raw", "--temperature", "0", "--json"]);
            (golden, ran.json())
        };
        goldens.into_iter().map(answer).collect()
    };
    for file in ["stories3M-f32.gguf", ""] {
        for (golden, answer) in answers("stories3M", file) {
            assert_eq!(answer["ids"], golden["greedy_ids"]);
            let text = format!("{}{}", golden["prompt"].as_str().unwrap(), answer["text"].as_str().unwrap());
            assert_eq!(text, golden["text"]);
        }
    }
    // Rounding parts this model from its golden after some tokens, as the tests of the decoder explain; its files stay together.
    let first = |ids: &Value| ids.as_array().unwrap()[..8].to_vec();
    let folder = answers("bitstories3M", "");
    for ((golden, answer), (_, same)) in answers("bitstories3M", "bitstories3M-f32.gguf").into_iter().zip(&folder) {
        assert_eq!(first(&answer["ids"]), first(&golden["greedy_ids"]));
        assert_eq!(answer["ids"], same["ids"]);
    }
    for (golden, answer) in answers("bitstories3M", "bitstories3M-tq2_0.gguf") {
        assert_eq!(first(&answer["ids"]), first(&golden["greedy_ids"]));
    }
}

#[test]
fn a_profile_is_a_trace_in_a_file_and_a_summary_and_changes_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json").display().to_string();
    let ran = greedy(&llama(), &["--profile", &path]);
    assert_eq!(ran.json()["ids"], greedy(&llama(), &[]).json()["ids"]);
    let trace: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let count = |cat: &str| events.iter().filter(|event| event["cat"] == cat).count();
    assert_eq!((count("step"), count("pass")), (12, 24), "a pass and a choice in each step");
    assert!(events.iter().any(|event| event["name"] == "tokenize"));
    for words in ["slowest operations", "blk.*.ffn_down.weight", "time, ms", "tensors in F16", "KV cache", "queue ms"] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    let usage = &ran.json()["usage"];
    let [request] = &trace["otherData"]["requests"].as_array().unwrap()[..] else { panic!("{trace}") };
    for key in ["prompt_tokens", "cached_tokens", "completion_tokens"] {
        assert_eq!(request[key], usage[key], "{request}");
    }
    let ms = |key: &str| request[key].as_f64().unwrap();
    assert!((ms("queue_ms") + ms("prefill_ms") - ms("ttft_ms")).abs() < 1e-3 && ms("decode_ms") > 0.0, "{request}");
    for step in events.iter().filter(|event| event["cat"] == "step") {
        assert!(step["args"]["sequences"] == 1 && step["args"]["tokens"].as_u64() > Some(0), "{step}");
    }
    let ran = trine_with(&["run", &llama(), PROMPT, "--raw", "--max-tokens", "2", "--n", "3", "--profile", &path]);
    assert_eq!(ran.err.lines().skip_while(|line| !line.starts_with("request ")).count(), 4, "{}", ran.err);
    assert_eq!(trine_with(&["run", &llama(), PROMPT, "--raw", "--max-tokens", "2", "-q", "--profile", &path]).err, "");
    let nowhere = folder.path().join("no/trace.json").display().to_string();
    let ran = trine_with(&["run", &llama(), PROMPT, "--raw", "--profile", &nowhere]);
    assert!(ran.code == 1 && ran.err.contains(&nowhere), "{} {}", ran.code, ran.err);
}

#[test]
fn quantize_writes_gguf_files_and_replaces_none_untold() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let quantize = |output: &str, more: &[&str]| trine_with(&[&["quantize", &llama(), output], more].concat());
    let first = quantize(&at("a.gguf"), &["--format", "q4_k", "--json"]);
    assert_eq!(first.code, 0, "{}", first.err);
    let formats = &first.json()["formats"];
    assert!(formats["Q5_0"].as_u64() > Some(5) && formats["F32"].as_u64() > Some(3), "{formats}");
    let again = quantize(&at("a.gguf"), &["--format", "q8_0"]);
    assert!(again.code == 2 && again.err.contains("--force replaces it"), "{}", again.err);
    let forced = quantize(&at("a.gguf"), &["--format", "q8_0", "--force"]);
    assert!(forced.code == 0 && forced.out.contains(" in Q8_0"), "{}{}", forced.out, forced.err);
    let other = quantize(&at("a.safetensors"), &["--format", "q8_0"]);
    assert!(other.code == 2 && other.err.contains("ends with .gguf"), "{}", other.err);
    for format in ["i8", "i16", "i32", "i64", "q8_k"] {
        let ran = quantize(&at("b.gguf"), &["--format", format]);
        assert!(ran.code == 2 && ran.err.contains("--format: expected one of Q4_0"), "{}", ran.err);
    }
    // A folder that is no folder, or a full disk: not the model's fault.
    let nowhere = quantize(&at("none/b.gguf"), &["--format", "q8_0"]);
    assert!(nowhere.code == 1 && nowhere.err.contains("none/b.gguf"), "{} {}", nowhere.code, nowhere.err);
}

/// The golden llama with this tensor in Q8_0, whose last block has this scale.
fn with_q8_0(folder: &std::path::Path, tensor: &str, scale: Option<u16>) -> String {
    changed(folder, "q8_0.gguf", |_, tensors| {
        let view = tensors.iter_mut().find(|view| view.name == tensor).unwrap();
        let mut bytes = Q8_0.encode(&view.decode());
        let at = bytes.len() - Q8_0.bytes;
        scale.iter().for_each(|scale| bytes[at..at + 2].copy_from_slice(&scale.to_le_bytes()));
        *view = View::new(tensor, &Q8_0, view.shape.clone(), bytes).unwrap();
    })
}

const MAPPED: [&str; 4] = ["--huge-pages", "off", "--repack", "off"];

#[test]
fn prefault_off_neither_reads_nor_checks_what_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    // The embedding of a token that is not used is no number.
    let model = with_q8_0(folder.path(), "token_embd.weight", Some(0x7e00));
    let with = |more: &[&str]| {
        trine_with(
            &[&["run", &model, PROMPT, "--raw", "--temperature", "0", "--max-tokens", "4"], &MAPPED[..], more].concat(),
        )
    };
    for more in [&[][..], &["--prefault=on"]] {
        let ran = with(more);
        assert!(ran.code == 3 && ran.err.contains("token_embd.weight"), "{}", ran.err);
    }
    assert_eq!(with(&["--prefault=off"]).code, 0);
}

#[test]
fn weights_are_called_repacked_if_some_are() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = with_q8_0(folder.path(), "blk.0.ffn_down.weight", None);
    let expected = greedy(&llama(), &["--logprobs", "1"]).json();
    for (model, flags, says) in [
        (&llama(), &["--huge-pages", "off", "--repack", "on"][..], "in the mapped file"),
        (&llama(), &["--huge-pages", "on", "--repack", "on"], "copied from the mapped file"),
        (&llama(), &["--no-mmap", "--repack", "on"], "read from the file"),
        (&blocks, &["--huge-pages", "off", "--repack", "off"], "in the mapped file"),
        (&blocks, &["--huge-pages", "off", "--repack", "on"], "in the mapped file, or copied from it and repacked"),
        (&blocks, &["--huge-pages", "on", "--repack", "on"], "copied from the mapped file and repacked"),
        (&blocks, &["--no-mmap", "--repack", "on"], "read from the file, or copied from that and repacked"),
        (&blocks, &["--no-mmap"], "read from the file"),
    ] {
        let ran = greedy(model, &[flags, &["-v", "--logprobs", "1"]].concat());
        let line = ran.err.lines().find(|line| line.starts_with("weights ")).unwrap();
        assert!(line.ends_with(&format!(", {says}")), "{flags:?}: {line}");
        if *model == llama() {
            assert_eq!(ran.json()["logprobs"], expected["logprobs"], "{flags:?}");
        }
    }
}

/// The golden llama as a folder of Hugging Face, with one more file.
fn folder_with(name: &str, content: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(golden("llama").join(file), folder.path().join(file)).unwrap();
    }
    std::fs::write(folder.path().join(name), content).unwrap();
    folder
}

#[test]
fn the_generation_config_says_where_answers_end_and_how_to_sample() {
    let run = |config: &str, options: &[&str]| {
        let folder = folder_with("generation_config.json", config);
        let model = folder.path().display().to_string();
        trine_with(&[&["run", &model, PROMPT, "--raw", "--seed", "7", "--json"], options].concat())
    };
    let greedy = run("{}", &["--temperature", "0", "--max-tokens", "6"]);
    let ids = greedy.json()["ids"].clone();
    assert!(!greedy.err.contains("generation_config.json"), "{}", greedy.err);
    let third = &ids[2];
    for config in [format!(r#"{{"eos_token_id": {third}}}"#), format!(r#"{{"eos_token_id": [1, {third}]}}"#)] {
        let json = run(&config, &["--temperature", "0", "--max-tokens", "6"]).json();
        let end = ids.as_array().unwrap().iter().position(|id| id == third).unwrap();
        assert_eq!(json["finish_reason"], "stop", "{config}");
        assert_eq!(json["ids"].as_array().unwrap()[..], ids.as_array().unwrap()[..end], "{config}");
    }

    let config =
        r#"{"do_sample": true, "temperature": 0.6, "top_k": 20, "repetition_penalty": 1.1, "max_new_tokens": 5}"#;
    let ran = run(config, &[]);
    let note = "note: generation_config.json sets repetition-penalty 1.1, top-k 20, top-p 1, temperature 0.6, max-tokens 5; options override it";
    assert!(ran.err.contains(note), "{}", ran.err);
    assert_eq!(ran.json()["ids"].as_array().unwrap().len(), 5);
    let options = ["--repetition-penalty", "1.1", "--repeat-last-n", "9999", "--top-k", "20", "--top-p", "1"];
    let same = run("{}", &[&options[..], &["--temperature", "0.6", "--max-tokens", "5"]].concat());
    assert_eq!(ran.json()["ids"], same.json()["ids"]);
    assert_eq!(run(config, &["--max-tokens", "2"]).json()["ids"].as_array().unwrap().len(), 2);
    assert!(!run(config, &["--quiet"]).err.contains("note"));
    let fast = run(config, &["--preset", "fast", "--max-tokens", "6"]);
    assert!(fast.json()["ids"] == ids && !fast.err.contains("generation_config.json"), "{}", fast.err);
    assert_eq!(run(r#"{"do_sample": false, "temperature": 0.6}"#, &["--max-tokens", "6"]).json()["ids"], ids);

    let ran = run(r#"{"num_beams": 4, "top_q": 1}"#, &["--max-tokens", "1"]);
    assert!(ran.err.contains("warning: generation_config.json: `num_beams` = 4 is not applied"), "{}", ran.err);
    assert!(ran.err.contains("warning: generation_config.json: the key `top_q` is not known"), "{}", ran.err);
    let ran = run(r#"{"top_p": 1.5}"#, &[]);
    assert!(ran.code != 0 && ran.err.contains("top_p of generation_config.json"), "{}", ran.err);
    let ran = run(r#"{"min_new_tokens": 9, "max_new_tokens": 5}"#, &[]);
    let expected = "`min_new_tokens of generation_config.json`: expected at most max_new_tokens, 5, found 9";
    assert!(ran.code != 0 && ran.err.contains(expected), "{}", ran.err);
    let folder = tempfile::tempdir().unwrap();
    let hot = common::changed(folder.path(), "hot.gguf", |metadata, _| {
        metadata.insert("general.sampling.temp", -1f32);
    });
    let ran = trine_with(&["run", &hot, PROMPT, "--raw"]);
    assert!(ran.code != 0 && ran.err.contains("`temp of general.sampling`"), "{}", ran.err);
}

#[test]
fn a_byte_order_mark_is_no_text() {
    let ids = |text: &str| run(trine().args(["tokenize", &llama()]), text).out;
    assert_eq!(ids("\u{feff}The miller"), ids("The miller"));
    assert_ne!(ids("The \u{feff}miller"), ids("The miller"));
}

#[test]
fn a_text_that_begins_with_bos_gets_no_second_one_in_a_prompt_and_a_warning_elsewhere() {
    let folder = folder_with("tokenizer_config.json", r#"{"bos_token": "<|bos|>", "add_bos_token": true}"#);
    let model = folder.path().display().to_string();
    let prompt_tokens = |prompt: &str| {
        let ran = trine_with(&["run", &model, prompt, "--raw", "--max-tokens", "1", "--json"]);
        ran.json()["usage"]["prompt_tokens"].clone()
    };
    assert_eq!(prompt_tokens("<|bos|>The miller"), prompt_tokens("The miller"));
    for (text, options, warned) in
        [("<|bos|>The", &[][..], true), ("The", &[], false), ("<|bos|>The", &["--no-bos"], false)]
    {
        let ran = trine_with(&[&["tokenize", &model, text], options].concat());
        assert_eq!(ran.err.contains("begins with BOS"), warned, "{text} {options:?}: {}", ran.err);
    }
}
