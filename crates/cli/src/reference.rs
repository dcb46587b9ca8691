//! `docs/src/reference.md`: every command, option, variable and exit status, as the program knows them.

use crate::commands::GROUPS;
use crate::{environment, exit, help};
use clap::{Arg, Command};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// An option is shared if so many commands have it with the same words.
const SHARED: usize = 3;

/// Variables that no option has.
const VARIABLES: [(&str, &str); 12] = [
    ("RUST_LOG", "shows internal events on standard error: `debug`, or for parts such as `trine_server=debug`"),
    ("NO_COLOR", "no colours, if it is set"),
    ("XDG_CONFIG_HOME", "the folder of `trine/config.toml`; `~/.config` unless set"),
    ("XDG_CACHE_HOME", "the folder of what can be made again; `~/.cache` unless set"),
    ("XDG_DATA_HOME", "the folder of histories and records; `~/.local/share` unless set"),
    ("HF_ENDPOINT", "the address of the hub; `https://huggingface.co` unless set"),
    ("HF_TOKEN", "the token for models that are not public"),
    ("HF_TOKEN_PATH", "a file with the token; `token` in `HF_HOME` unless set"),
    ("HF_HUB_CACHE", "the folder of models; `hub` in `HF_HOME` unless set"),
    ("HF_HOME", "the folder of Hugging Face's programs; `huggingface` in `XDG_CACHE_HOME` unless set"),
    ("HF_HUB_OFFLINE", "`1` makes `trine pull` an error"),
    ("HTTPS_PROXY, NO_PROXY", "a proxy, and what is reached without it"),
];

#[test]
fn the_reference_is_what_the_program_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/reference.md");
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text(), "run `cargo test -p trine-cli --bins reference -- --ignored`");
}

#[test]
#[ignore = "writes docs/src/reference.md"]
fn write_the_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/reference.md");
    std::fs::write(path, text()).unwrap();
}

/// A command with its name, such as `bench startup`.
fn commands(parent: &str, command: &Command, found: &mut Vec<(String, Command)>) {
    let name = format!("{parent}{}", command.get_name());
    found.push((name.clone(), command.clone()));
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        commands(&format!("{name} "), command, found);
    }
}

fn text() -> String {
    let mut program = environment::all(help::command());
    program.build();
    let mut by_command = Vec::new();
    for (_, names) in GROUPS {
        for name in names.iter().filter(|name| **name != "help") {
            commands("", program.find_subcommand(name).expect("a command of a group"), &mut by_command);
        }
    }
    // The commands that have an option with the same words.
    let mut having: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for (name, command) in &by_command {
        for arg in options(command) {
            having.entry((flag(arg), about(arg))).or_default().push(name);
        }
    }
    let is_shared = |arg: &Arg| having[&(flag(arg), about(arg))].len() >= SHARED;

    let mut out = String::from(
        "# Reference\n\nWhat `trine --help` and `trine COMMAND --help` say in short, written by the program itself. \
         Long help has more of each option.\n",
    );
    out.push_str("\n## Exit status\n\n| status | meaning |\n|---|---|\n");
    for (exit, meaning) in exit::STATUSES {
        let _ = writeln!(out, "| {} | {meaning} |", exit as u8);
    }
    out.push_str("\n## Environment variables\n\nOptions have variables of their own, which the tables below name.\n\n");
    out.push_str("| variable | meaning |\n|---|---|\n");
    for (names, meaning) in VARIABLES {
        let names = names.split(", ").map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "| {names} | {meaning} |");
    }
    out.push_str("\n## Options of several commands\n\n| option | variable | meaning | commands |\n|---|---|---|---|\n");
    let mut written = Vec::new();
    for arg in by_command.iter().flat_map(|(_, command)| options(command)).filter(|arg| is_shared(arg)) {
        let key = (flag(arg), about(arg));
        if !written.contains(&key) {
            let _ = writeln!(out, "{} {} |", row(arg), having[&key].join(", "));
            written.push(key);
        }
    }
    for (title, names) in GROUPS {
        let of_group = |name: &str| names.iter().any(|group| name.split(' ').next() == Some(*group));
        let own = by_command.iter().filter(|(name, _)| of_group(name));
        if title == "Other" && own.clone().count() == 0 {
            continue;
        }
        let _ = writeln!(out, "\n## {title}");
        for (name, command) in own {
            let mut command = command.clone();
            let usage = command.render_usage().to_string();
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let usage = usage.trim_start_matches("Usage: ").trim();
            let _ = writeln!(out, "\n### trine {name}\n\n{about}.\n\n```text\n{usage}\n```");
            let values: Vec<&Arg> = command.get_positionals().collect();
            let rows: Vec<&Arg> = values.into_iter().chain(options(&command).filter(|arg| !is_shared(arg))).collect();
            if !rows.is_empty() {
                out.push_str("\n| option | variable | meaning |\n|---|---|---|\n");
                rows.into_iter().for_each(|arg| out.push_str(&(row(arg) + "\n")));
            }
        }
    }
    out
}

fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    let shown = |arg: &&Arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str());
    command.get_opts().chain(command.get_arguments().filter(|arg| is_switch(arg))).filter(shown)
}

fn is_switch(arg: &Arg) -> bool {
    !arg.is_positional() && !arg.get_action().takes_values()
}

/// Its flags, with the names of its values.
fn flag(arg: &Arg) -> String {
    if arg.is_positional() {
        return arg.to_string();
    }
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let aliases = arg.get_visible_aliases().unwrap_or_default().into_iter().map(|alias| format!("--{alias}"));
    let names: Vec<String> = short.into_iter().chain(long).chain(aliases).collect();
    let values = arg.get_value_names().filter(|_| arg.get_action().takes_values()).unwrap_or_default();
    let values: String = values.iter().map(|value| format!(" {value}")).collect();
    format!("{}{values}", names.join(", "))
}

/// The first line of its help, with the default that this does not name.
fn about(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let defaults: Vec<String> = arg.get_default_values().iter().map(|value| value.display().to_string()).collect();
    let said = help.contains("[default") || defaults.is_empty() || !arg.get_action().takes_values();
    if said { help } else { format!("{help} [default: {}]", defaults.join(" ")) }
}

fn row(arg: &Arg) -> String {
    let cell = |text: String| text.replace('|', "\\|").replace('\n', " ");
    let variables: Vec<String> = environment::variables(arg).iter().map(|name| format!("`{name}`")).collect();
    let about = cell(about(arg)).replace('<', "&lt;");
    format!("| `{}` | {} | {about} |", cell(flag(arg)), variables.join(", "))
}
