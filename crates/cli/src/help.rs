//! The help of the program, with its commands in groups, which clap cannot do for commands.

use crate::Cli;
use crate::commands::GROUPS;
use crate::config;
use crate::exit;
use crate::near;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory};
use std::fmt::Write;

/// The command line with a help that lists commands by group.
pub fn command() -> Command {
    let mut command = Cli::command();
    command.build();
    let styles = command.get_styles().clone();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let mut groups = String::new();
    for (title, names) in GROUPS {
        let _ = write!(groups, "\n{header}{title}:{header:#}\n");
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about).cloned().unwrap_or_default();
            let _ = writeln!(groups, "  {literal}{name:14}{literal:#} {about}");
        }
    }
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n{groups}\n{header}Options:{header:#}\n{{options}}{{after-help}}"
    );
    let statuses: String = exit::STATUSES
        .iter()
        .map(|(exit, meaning)| format!("  {literal}{:<3}{literal:#}  {meaning}\n", *exit as u8))
        .collect();
    let after = command.get_after_long_help().cloned().unwrap_or_default();
    let after = format!("{header}Exit status:{header:#}\n{statuses}\n{}", after.ansi());
    config::with_flags(Cli::command()).after_long_help(after).help_template(template).mut_subcommands(with_numbers)
}

/// The command line whose options take negative numbers, if only to say what is wrong with them.
fn with_numbers(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_long() {
        Some(_) if arg.get_action().takes_values() && !arg.is_require_equals_set() => arg.allow_negative_numbers(true),
        _ => arg,
    });
    command.mut_subcommands(with_numbers)
}

/// Names of commands elsewhere, and ours for the same.
const ELSEWHERE: [(&str, &str); 8] = [
    ("chat", "run"),
    ("generate", "run"),
    ("complete", "run"),
    ("benchmark", "bench"),
    ("perplexity", "eval"),
    ("show", "info"),
    ("inspect", "info"),
    ("finetune", "train"),
];

/// Options of llama.cpp, Ollama, transformers and vLLM, and ours for the same.
const OPTIONS_ELSEWHERE: [(&str, &str); 30] = [
    ("--n-predict", "max-tokens"),
    ("--predict", "max-tokens"),
    ("--num-predict", "max-tokens"),
    ("--max-new-tokens", "max-tokens"),
    ("--temp", "temperature"),
    ("--repeat-penalty", "repetition-penalty"),
    ("--typical", "typical-p"),
    ("-t", "threads"),
    ("-tb", "threads-batch"),
    ("-c", "context"),
    ("--ctx-size", "context"),
    ("--num-ctx", "context"),
    ("--max-model-len", "context"),
    ("-b", "batch"),
    ("-ub", "ubatch"),
    ("-np", "parallel"),
    ("-sys", "system"),
    ("--batch-size", "batch"),
    ("--ubatch-size", "ubatch"),
    ("--cache-type-k", "cache-type"),
    ("--cache-type-v", "cache-type"),
    ("--kv-cache-dtype", "cache-type"),
    ("--grammar-file", "grammar"),
    ("--json-schema-file", "json-schema"),
    ("--chat-template-file", "template"),
    ("--system-prompt", "system"),
    ("--outtype", "format"),
    ("--type", "format"),
    ("-p", "prefill"),
    ("-n", "decode"),
];

/// Options of these programs that no command has, and what is there instead.
const ABSENT: [(&[&str], &str); 4] = [
    (&["-m", "--model"], "the model is the first argument, without an option"),
    (&["-p", "--prompt"], "the prompt is the argument after the model: `trine run MODEL 'Once upon a time'`"),
    (
        &["-ngl", "--gpu-layers", "--n-gpu-layers", "--tensor-split", "--main-gpu"],
        "models run on the CPU; `trine devices` lists devices",
    ),
    (
        &["--lora", "--lora-scaled", "--adapter"],
        "LoRA adapters are not supported: merge the adapter into its model first",
    ),
];

/// Adds the option that is meant to the error about one that `command`, as the words of the command line choose it, does not have.
fn suggest_option(error: &mut clap::Error, mut command: Command) {
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidArg).cloned() else { return };
    // Of letters in a row, the error names the first.
    let typed = std::env::args().find(|word| word.starts_with(&*name) && !name.starts_with("--")).unwrap_or(name);
    command.build();
    for word in std::env::args().skip(1) {
        command = command.find_subcommand(word).cloned().unwrap_or(command);
    }
    let usage = ContextValue::StyledStr(command.render_usage());
    let mut advise = |kind, value| {
        for kind in [ContextKind::Suggested, ContextKind::SuggestedArg] {
            error.remove(kind);
        }
        error.insert(kind, value);
        error.insert(ContextKind::Usage, usage.clone());
    };
    let has = |ours: &str| {
        let is = |arg: &Arg| {
            arg.get_long() == Some(ours) || arg.get_visible_aliases().is_some_and(|names| names.contains(&ours))
        };
        command.get_arguments().any(is)
    };
    let mut meant = OPTIONS_ELSEWHERE.iter().filter(|(other, _)| *other == typed).map(|(_, ours)| *ours);
    if let Some(ours) = meant.find(|ours| has(ours)) {
        return advise(ContextKind::SuggestedArg, ContextValue::String(format!("--{ours}")));
    }
    if let Some((_, instead)) = ABSENT.iter().find(|(names, _)| names.contains(&&*typed)) {
        return advise(ContextKind::Suggested, ContextValue::StyledStrs(vec![(*instead).into()]));
    }
    // llama-quantize takes the format as its last argument.
    if command.get_name() == "quantize" && !typed.starts_with('-') {
        advise(ContextKind::SuggestedArg, ContextValue::String(format!("--format {typed}")));
    }
}

/// Removes the advice to pass an option that is not there as a value, which is hardly ever meant.
fn drop_value_tip(error: &mut clap::Error) {
    let Some(ContextValue::StyledStrs(mut tips)) = error.remove(ContextKind::Suggested) else { return };
    tips.retain(|tip| !tip.to_string().contains("as a value"));
    if !tips.is_empty() {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
}

/// Adds the command or option that is meant to the error about one that is not there.
pub fn suggest(mut error: clap::Error, command: &Command) -> clap::Error {
    if error.kind() == ErrorKind::UnknownArgument {
        drop_value_tip(&mut error);
        suggest_option(&mut error, command.clone());
    }
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    let elsewhere = ELSEWHERE.iter().find(|(other, _)| other == name).map(|(_, ours)| *ours);
    let names = GROUPS.iter().flat_map(|(_, names)| *names).copied();
    if let Some(meant) = elsewhere.or_else(|| near::best(name, names)) {
        // A command that is there is not below the one that was given.
        let meant = if meant == name { format!("trine {meant}") } else { meant.to_owned() };
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![meant]));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let mut listed: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        let mut command = Cli::command();
        command.build();
        let mut known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        listed.sort_unstable();
        known.sort_unstable();
        assert_eq!(listed, known);
    }
}
