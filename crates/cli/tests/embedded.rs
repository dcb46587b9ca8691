//! The built-in model: when it is the default, and that every command accepts it.

mod common;

use common::{Ran, llama, run, trine, trine_with};
use trine::EMBEDDED;

const PROMPT: &str = "Once upon a time";
/// Part of the note about the default model.
const NOTE: &str = "no model was named";
const GREEDY: [&str; 6] = ["--temperature", "0", "--max-tokens", "24", "--ignore-eos", "--json"];

/// A short greedy answer to these arguments and this standard input.
fn greedy(args: &[&str], input: &str) -> Ran {
    run(trine().args([&["run"], args, &GREEDY].concat()), input)
}

#[test]
fn it_continues_a_prompt_in_the_same_way_always() {
    let expected = greedy(&[PROMPT], "").json();
    assert!(!expected["text"].as_str().unwrap().trim().is_empty());
    assert_eq!(expected["model"], EMBEDDED);
    let ways: &[&[&str]] = &[
        &[],
        &["--threads", "1"],
        &["--threads", "3"],
        &["--isa", "scalar"],
        &["--batch", "1"],
        &["--no-mmap"],
        &["--prefault=off", "--huge-pages", "off", "--repack", "off"],
        &["--huge-pages", "on", "--repack", "on"],
        &["--mlock"],
        &["--tokenizer", EMBEDDED],
        &["--raw"],
    ];
    for way in ways {
        let ran = greedy(&[&[PROMPT], *way].concat(), "");
        assert_eq!(ran.json()["ids"], expected["ids"], "{way:?}: {}", ran.err);
    }
    let named = greedy(&[EMBEDDED, PROMPT], "");
    assert_eq!((&named.json()["ids"], named.err.contains(NOTE)), (&expected["ids"], false));
    assert!(!named.err.contains("note: "), "{}", named.err);
    let verbose = trine_with(&["run", PROMPT, "--verbose", "--max-tokens", "1"]);
    assert!(verbose.err.contains(", in the program"), "{}", verbose.err);
}

/// A single prompt, one from a pipe or none goes to the embedded model, and a note reports it.
#[test]
fn it_answers_where_no_model_is_named() {
    let expected = greedy(&[PROMPT], "").json()["ids"].clone();
    for (args, input) in [(&[PROMPT][..], ""), (&[], PROMPT), (&[], "Once upon a time\n"), (&["-"], PROMPT)] {
        let ran = greedy(args, input);
        assert_eq!((ran.code, &ran.json()["ids"]), (0, &expected), "{args:?}: {}", ran.err);
        assert!(ran.err.contains(NOTE), "{}", ran.err);
        assert_eq!(ran.err.contains("no file has this name"), args == [PROMPT], "{}", ran.err);
        assert!(!ran.err.contains("chat template"), "{}", ran.err);
    }
    let system = greedy(&[PROMPT, "--system", "Be brief."], "");
    assert!(system.err.contains("without --system"), "{}", system.err);
    assert_eq!(greedy(&[PROMPT, "--quiet"], "").err, "");
    assert_eq!(greedy(&[], "").code, 0, "a story from nothing");
}

#[test]
fn an_argument_that_stands_alone_is_a_model_if_it_looks_like_one() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(llama(), folder.path().join("a miller")).unwrap();
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    std::fs::write(folder.path().join("text"), "no model").unwrap();
    let ran = |argument: &str| {
        let mut command = trine();
        command.args(["run", argument, "--max-tokens", "1", "--ignore-eos"]).current_dir(folder.path());
        run(&mut command, "hi")
    };
    // What is there is a model, or should be.
    assert!(matches!(ran("a miller"), Ran { code: 0, err, .. } if !err.contains(NOTE)));
    let models =
        ["empty", "text", "none.gguf", "none.GGUF", "my model.safetensors", "config.json", "no/where", "embedded:none"];
    let names = ["miller", "3.5", "llama3", "qwen3:8b", "meta-llama/Llama-3.2-1B"];
    for argument in models.into_iter().chain(names) {
        let ran = ran(argument);
        let expected = format!("error: {argument}");
        assert!(ran.code == 3 && ran.err.contains(&expected) && !ran.err.contains(NOTE), "{argument}: {}", ran.err);
        let word = argument.chars().all(|c| c.is_ascii_alphanumeric() || ".:".contains(c)) && names.contains(&argument);
        assert!(!word || ran.err.contains("as a prompt: trine run embedded:stories"), "{argument}: {}", ran.err);
    }
    for argument in [
        "Hello!",
        "小さな村",
        "Once upon a time",
        "either / or",
        "He said: and/or.",
        "The end.",
        "./ a",
        "embedded: yes",
    ] {
        let ran = ran(argument);
        let notes = [NOTE, "no file has this name"].iter().all(|words| ran.err.contains(words));
        assert!(ran.code == 0 && notes, "{argument}: {}", ran.err);
    }
    // Before a prompt, any argument is a model.
    let ran = trine_with(&["run", "miller", "hi"]);
    assert!(ran.code == 3 && ran.err.contains("miller"), "{}", ran.err);
}

#[test]
fn every_command_that_takes_a_model_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (text, copy, stories) = (at("text.txt"), at("copy.gguf"), at("stories.jsonl"));
    std::fs::write(&text, "Once upon a time there was a mill.<|endoftext|>The miller had a cat.").unwrap();
    let done = |args: &[&str]| {
        let ran = trine_with(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        ran
    };
    let info: serde_json::Value = serde_json::from_str(&done(&["info", EMBEDDED, "--json"]).out).unwrap();
    assert_eq!((&info["path"], &info["supported"]), (&EMBEDDED.into(), &true.into()));
    assert!(
        info["warnings"].as_array().unwrap().len() <= 1,
        "none but that of the chat template: {}",
        info["warnings"]
    );
    let ids = done(&["tokenize", EMBEDDED, PROMPT]).out;
    assert_eq!(done(&["tokenize", EMBEDDED, "--decode", &ids, "--no-special"]).out, format!("{PROMPT}\n"));
    assert_eq!(done(&["eval", "perplexity", EMBEDDED, &text, "--json"]).json()["model"], EMBEDDED);
    done(&["generate-data", EMBEDDED, &stories, "--count", "3", "--max-tokens", "8", "--keep-cut"]);
    assert_eq!(std::fs::read_to_string(&stories).unwrap().lines().count(), 3);
    done(&["quantize", EMBEDDED, &copy, "--format", "tq2_0"]);
    assert_eq!(greedy(&[&copy, PROMPT, "--raw"], "").json()["ids"], greedy(&[PROMPT], "").json()["ids"]);
    for model in [&[][..], &[EMBEDDED]] {
        let short = ["--prefill", "16", "--decode", "4", "--batch", "1,2", "-r", "1", "--json"];
        let ran = done(&[&["bench"], model, &short].concat());
        assert_eq!((&ran.json()["model"], ran.err.contains(NOTE)), (&EMBEDDED.into(), model.is_empty()));
    }
    let config = at("config.toml");
    let lines = [
        &format!("model.from = '{EMBEDDED}'"),
        &format!("model.tokenizer = '{EMBEDDED}'"),
        "data.files = ['text.txt']",
        "data.validation = 0.0",
        "output.folder = 'run'",
        "output.validate_every = 0",
        "train = { steps = 2, batch = 1, sequence = 8 }",
        &format!("distill = {{ teacher = '{EMBEDDED}' }}"),
    ];
    std::fs::write(&config, lines.join("\n")).unwrap();
    done(&["train", &config, "--plan"]);
    done(&["train", &config, "--quiet"]);
}
