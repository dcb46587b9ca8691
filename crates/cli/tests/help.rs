//! `-h`, `--help` and completions.

mod common;

use common::{run, trine, trine_with};

const COMMANDS: [&[&str]; 15] = [
    &["run"],
    &["embed"],
    &["tokenize"],
    &["info"],
    &["quantize"],
    &["doctor"],
    &["train"],
    &["tokenizer", "train"],
    &["generate-data"],
    &["bench"],
    &["eval"],
    &["eval", "perplexity"],
    &["crossval"],
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
    for command in COMMANDS.into_iter().chain([&[][..]]) {
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
        assert!(COMMANDS.iter().all(|command| script.contains(command[0])), "{shell}");
    }
}
