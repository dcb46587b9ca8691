//! Completions in the shells themselves, where they are installed.
#![cfg(unix)]

mod common;

use rexpect::session::{PtySession, spawn_command};
use std::path::Path;
use std::process::Command;

/// What is typed, and what Tab adds to it.
const TYPED: &[(&str, &str)] = &[
    ("trine quan", "tize"),
    ("trine run mil", "l.gguf"),
    ("trine info mil", "l.gguf"),
    ("trine run emb", "edded:stories"),
    ("trine run embedded:", "stories"),
    ("trine run embedded:st", "ories"),
    ("trine quantize mill.gguf out.gguf --format tq2", "_0"),
    ("trine run mill.gguf --isa sca", "lar"),
    ("trine run mill.gguf --device cpu:sca", "lar"),
    ("trine run mill.gguf --isa=sca", "lar"),
    ("trine run mill.gguf --cache-type q8", "_0"),
    ("trine run mill.gguf --cache-type q8_0/f3", "2"),
    ("trine run mill.gguf --cache-type=q8_0/f3", "2"),
    ("trine run mill.gguf --tokenizer mil", "l.gguf"),
    ("trine run mill.gguf --mem-l", "imit"),
];

/// A folder with a model, and a shell there that finds the program; `None` if the shell is not installed, which is said.
fn shell(name: &str, args: &[&str], folder: &Path) -> Option<Command> {
    if Command::new(name).arg("-c").arg("true").output().is_err() {
        eprintln!("skipped: {name} is not installed");
        return None;
    }
    std::fs::write(folder.join("mill.gguf"), "").unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_trine")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    command.args(args).current_dir(folder).env("PATH", format!("{}:{path}", program.display()));
    command.env("TERM", "dumb").env("HOME", folder).env("HISTFILE", "");
    Some(command)
}

/// The prompt of the shells: whoever sees it may type.
const PROMPT: &str = "ready> ";

/// Types each line and Tab, and looks at what is written then.
fn check(mut session: PtySession, set_up: &str) {
    // Bash shows what is typed only on a terminal that echoes. The prompt is in two pieces, since the echo of this line has it too.
    session.send_line(&format!("stty echo; {set_up}; PS1='rea''dy> '")).unwrap();
    for (typed, added) in TYPED {
        session.exp_string(PROMPT).unwrap_or_else(|error| panic!("before {typed}: {error}"));
        session.send(&format!("{typed}\t")).unwrap();
        session.flush().unwrap();
        session.exp_string(added).unwrap_or_else(|error| panic!("{typed}: expected {added}: {error}"));
        // The line is emptied. Ctrl-C could come while the shell still completes it, and then there is no new prompt.
        session.send("\u{15}\n").unwrap();
        session.flush().unwrap();
    }
    session.exp_string(PROMPT).unwrap();
    session.send_line("exit").unwrap();
    session.exp_eof().unwrap();
}

#[test]
fn bash_offers_files_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let Some(command) = shell("bash", &["--norc", "--noprofile", "-i"], folder.path()) else { return };
    let session = spawn_command(command, Some(20_000)).unwrap();
    check(session, "bind 'set enable-bracketed-paste off'; source <(trine completions bash)");
}

#[test]
fn zsh_offers_files_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let Some(command) = shell("zsh", &["-f", "-i"], folder.path()) else { return };
    let session = spawn_command(command, Some(20_000)).unwrap();
    check(session, "autoload -U compinit; compinit -u -D; source <(trine completions zsh)");
}

#[test]
fn fish_offers_files_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let script = "trine completions fish | source; for line in $argv; complete -C $line; echo ----; end";
    let Some(mut command) = shell("fish", &["--no-config", "-c", script], folder.path()) else { return };
    let output = command.args(TYPED.iter().map(|(typed, _)| typed)).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let offered: Vec<&str> = out.split("----\n").collect();
    for ((typed, added), offered) in TYPED.iter().zip(offered) {
        let word = typed.rsplit(' ').next().unwrap();
        assert!(offered.contains(&format!("{word}{added}")), "{typed}: {offered}; {err}");
    }
}
