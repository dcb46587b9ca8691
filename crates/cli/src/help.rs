//! The help of the program, with its commands in groups, which clap cannot do for commands.

use crate::Cli;
use crate::commands::GROUPS;
use crate::config;
use crate::near;
use clap::error::{ContextKind, ContextValue};
use clap::{Command, CommandFactory};
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
    config::with_flags(Cli::command()).help_template(template)
}

/// Names of commands elsewhere, and ours for the same.
const ELSEWHERE: [(&str, &str); 9] = [
    ("chat", "run"),
    ("generate", "run"),
    ("complete", "run"),
    ("convert", "quantize"),
    ("benchmark", "bench"),
    ("perplexity", "eval"),
    ("show", "info"),
    ("inspect", "info"),
    ("finetune", "train"),
];

/// Adds the command that is meant to the error about one that is not there.
pub fn suggest(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    let elsewhere = ELSEWHERE.iter().find(|(other, _)| other == name).map(|(_, ours)| *ours);
    let names = GROUPS.iter().flat_map(|(_, names)| *names).copied();
    if let Some(meant) = elsewhere.or_else(|| near::best(name, names)) {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![meant.to_owned()]));
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
