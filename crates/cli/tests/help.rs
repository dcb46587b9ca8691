//! `-h`, `--help` and completions.

mod common;

use common::{run, trine, trine_with};
use std::path::Path;

const COMMANDS: &[&[&str]] = &[
    &["top"],
    &["serve"],
    &["key", "new"],
    &["key", "list"],
    &["key", "revoke"],
    &["tune"],
    &["run"],
    &["embed"],
    &["tokenize"],
    &["pull"],
    &["list"],
    &["rm"],
    &["info"],
    &["convert"],
    &["quantize"],
    &["imatrix"],
    &["split"],
    &["merge"],
    &["diff"],
    &["edit"],
    &["verify"],
    &["doctor"],
    &["train"],
    &["tokenizer", "train"],
    &["batch"],
    &["generate-data"],
    &["bench"],
    &["bench", "model"],
    &["bench", "startup"],
    &["bench", "scaling"],
    &["bench", "batching"],
    &["bench", "bandwidth"],
    &["bench", "ops"],
    &["bench", "quantize"],
    &["bench", "history"],
    &["eval"],
    &["eval", "perplexity"],
    &["eval", "kl"],
    &["eval", "logits"],
    &["eval", "tasks"],
    &["eval", "w8a8"],
    &["compare"],
    &["crossval"],
    &["debug"],
    &["debug", "activations"],
    &["debug", "plan"],
    &["devices"],
    &["completions"],
];

fn help(command: &[&str], flag: &str, columns: usize) -> String {
    let ran = run(trine().args(command).arg(flag).env("COLUMNS", columns.to_string()), "");
    assert_eq!(ran.code, 0, "{command:?}: {}", ran.err);
    ran.out
}

#[test]
fn help_groups_the_commands_and_lists_the_exit_statuses() {
    let text = help(&[], "--help", 80);
    for expected in ["Run models:", "Model files:", "Train models:", "Measure:", "130  interrupted"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(COMMANDS.iter().all(|command| text.contains(&format!("\n  {} ", command[0]))), "{text}");
    assert!(trine_with(&["--version"]).out.starts_with("trine "));
}

#[test]
fn help_fits_the_terminal() {
    for command in COMMANDS.iter().copied().chain([&[][..]]) {
        for columns in [80, 100] {
            for flag in ["-h", "--help"] {
                let text = help(command, flag, columns);
                let examples = text.lines().skip_while(|line| !line.starts_with("Example")).skip(1);
                let wrapped = examples.take_while(|line| !line.is_empty()).find(|line| !line.contains("trine "));
                assert_eq!(wrapped, None, "{command:?} {flag} at {columns} columns");
                let long = text.lines().find(|line| line.chars().count() > columns);
                assert_eq!(long, None, "{command:?} {flag} at {columns} columns");
            }
        }
    }
}

#[test]
fn short_help_has_no_rare_options_and_long_help_has_all() {
    let (short, long) = (help(&["run"], "-h", 80), help(&["run"], "--help", 80));
    for common in ["--raw", "--threads", "--device", "--context", "--temperature", "--max-tokens"] {
        assert!(short.contains(common), "{common}: {short}");
    }
    for rare in ["--numa", "--repack", "--cache-type", "--typical-p", "--logit-bias", "--layout"] {
        assert!(!short.contains(rare) && long.contains(rare), "{rare}: {short}");
    }
    assert!(short.lines().count() < 60, "{short}");
}

#[test]
fn every_command_has_examples_and_completions() {
    for command in COMMANDS.iter().filter(|command| **command != ["eval"]) {
        assert!(help(command, "--help", 80).contains("Example"), "{command:?}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = trine_with(&["completions", shell]).out;
        assert!(script.contains("trine") && script.contains("COMPLETE"), "{shell}: {script}");
    }
}

/// What a shell offers for the last of some words.
fn offered(shell: &str, folder: &Path, words: &[&str]) -> String {
    let mut command = trine();
    command.env("COMPLETE", shell).env("_CLAP_COMPLETE_INDEX", words.len().to_string()).env("_CLAP_IFS", "\n");
    let ran = run(command.current_dir(folder).args(["--", "trine"]).args(words), "");
    assert_eq!((ran.code, &*ran.err), (0, ""), "{words:?}");
    ran.out
}

#[test]
fn shells_offer_commands_files_and_names() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mill.gguf"), "").unwrap();
    for shell in ["bash", "zsh", "fish"] {
        for (words, expected) in [
            (&["qua"][..], "quantize"),
            (&["run", ""], "mill.gguf"),
            (&["run", "emb"], "embedded:stories"),
            (&["info", "mi"], "mill.gguf"),
            (&["bench", ""], "embedded:stories"),
            (&["eval", "perplexity", "emb"], "embedded:stories"),
            (&["quantize", "mill.gguf", "out.gguf", "--format", "q4"], "q4_k"),
            (&["run", "mill.gguf", "--isa", ""], "scalar"),
            (&["run", "mill.gguf", "--device", "cpu:"], "cpu:scalar"),
            (&["run", "mill.gguf", "--cache-type", ""], "q8_0"),
            (&["bench", "--shape", ""], "tiny"),
            (&["run", "mill.gguf", "--tokenizer", "mi"], "mill.gguf"),
            (&["run", "mill.gguf", "--temp"], "--temperature"),
        ] {
            let offered = offered(shell, folder.path(), words);
            // zsh takes an unescaped colon for the beginning of a description.
            assert!(offered.replace("\\:", ":").contains(expected), "{shell} {words:?}: {offered}");
        }
    }
}

#[test]
fn a_mistyped_or_foreign_command_names_ours() {
    for (typed, meant) in [("rnu", "run"), ("chat", "run"), ("tokenise", "tokenize"), ("benchmark", "bench")] {
        let ran = trine_with(&[typed]);
        assert!(ran.code == 2 && ran.err.contains(&format!("'{meant}'")), "{typed}: {}", ran.err);
    }
    let ran = trine_with(&["bench", "opps"]);
    assert!(ran.code == 2 && ran.err.contains("did you mean ops?"), "{}", ran.err);
    let ran = trine_with(&["eval", "compare", "a", "b"]);
    assert!(ran.code == 2 && ran.err.contains("'trine compare'"), "{}", ran.err);
}

#[test]
fn a_foreign_option_names_ours_and_a_negative_number_is_a_value() {
    for (args, expected) in [
        (&["run", "x", "y", "--n-predict", "128"][..], "'--max-tokens'"),
        (&["run", "x", "y", "--temp", "1"], "'--temperature'"),
        (&["run", "x", "y", "--repeat-penalty", "1"], "'--repetition-penalty'"),
        (&["run", "x", "y", "-t", "4"], "'--threads'"),
        (&["batch", "x", "y", "z", "--ctx-size=4"], "'--context'"),
        (&["run", "x", "y", "-tb", "4"], "'--threads-batch'"),
        (&["run", "x", "y", "-c", "4"], "'--context'"),
        (&["run", "-m", "x", "-p", "y"], "the model is the first argument"),
        (&["serve", "x", "-p", "y"], "the prompt is the argument after the model"),
        (&["serve", "x", "-ngl", "99"], "models run on the CPU"),
        (&["run", "x", "y", "--gpu-layers", "99"], "models run on the CPU"),
        (&["run", "x", "y", "--lora", "z"], "LoRA adapters are not supported"),
        (&["tune", "x", "--dry-run"], "unexpected argument '--dry-run'"),
        (&["quantize", "x", "y", "-q"], "unexpected argument '-q'"),
        (&["bench", "x", "-p", "512"], "'--prefill'"),
        (&["convert", "--outtype", "f16", "x", "y"], "'--format'"),
        (&["quantize", "x", "y", "Q4_K_M"], "'--format Q4_K_M'"),
        (&["compare", "x", "y", "z", "--seperator", "a"], "unexpected argument '--seperator'"),
        (&["run", "x", "y", "--temprature", "1"], "a similar argument exists: '--temperature'"),
        (&["batch", "x", "y", "z", "--seed", "-1"], "invalid value '-1' for '--seed"),
        (&["run", "x", "y", "--mem-limit", "-5"], "invalid value '-5' for '--mem-limit"),
    ] {
        let ran = trine_with(args);
        assert!(ran.code == 2 && ran.err.contains(expected), "{args:?}: {}", ran.err);
        assert!(!ran.err.contains("as a value"), "{args:?}: {}", ran.err);
    }
    // `quantize` has no threads.
    let ran = trine_with(&["quantize", "x", "y", "-t", "4"]);
    assert!(ran.code == 2 && !ran.err.contains("--threads"), "{}", ran.err);
}

#[test]
fn errors_are_coloured_as_those_of_the_command_line() {
    let coloured = |args: &[&str]| {
        let output = trine().args(args).env("CLICOLOR_FORCE", "1").env_remove("NO_COLOR").output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let (ours, claps) = (coloured(&["info", "no-such.gguf"]), coloured(&["no-such"]));
    let red = |text: &str| {
        let label = text.split("error").next().unwrap().to_owned();
        assert!(label.contains("\x1b[1m") && label.contains("\x1b[31m"), "{text:?}");
    };
    red(&ours);
    red(&claps);
}
