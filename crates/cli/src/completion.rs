//! What a shell offers for a word of the command line. The scripts of `trine completions` ask this program, with the shell in `COMPLETE`.

use clap::{Arg, Command};
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter, complete,
};
use clap_complete::env::Shells;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use trine::EMBEDDED;
use trine_backend::KV_FORMATS;
use trine_lab::quantize::MIXES;
use trine_lab::synthetic::SHAPES;
use trine_model::DEVICES;
use trine_tensor::FORMATS;

/// The variable that names the shell which asks.
const VARIABLE: &str = "COMPLETE";

/// Values that are no files, for an argument of any command.
type Names = fn() -> Vec<String>;

/// Arguments whose values the command line does not list itself.
const VALUES: &[(&str, Names)] = &[
    ("format", formats),
    ("embedding_type", one_format),
    ("output_type", one_format),
    ("isa", isas),
    ("device", devices),
    ("shape", shapes),
];

/// Mixtures and formats.
fn formats() -> Vec<String> {
    let mut names: Vec<String> = MIXES.iter().map(|mix| mix.name.to_lowercase()).collect();
    names.extend(one_format());
    names.sort();
    names.dedup();
    names
}

fn one_format() -> Vec<String> {
    FORMATS.iter().filter(|format| format.stores_models()).map(|format| format.name.to_lowercase()).collect()
}

fn isas() -> Vec<String> {
    DEVICES.iter().filter(|device| device.name == "cpu").flat_map(|cpu| (cpu.probe)()).map(str::to_owned).collect()
}

fn devices() -> Vec<String> {
    let variants = |device: &trine_model::Device| {
        let name = device.name;
        (device.probe)().into_iter().map(move |variant| format!("{name}:{variant}"))
    };
    ["auto".to_owned(), "cpu".to_owned()].into_iter().chain(DEVICES.iter().flat_map(variants)).collect()
}

fn shapes() -> Vec<String> {
    SHAPES.iter().map(|shape| shape.name.to_string()).collect()
}

/// Files, folders, the built-in model and downloaded ones.
fn models(word: &OsStr) -> Vec<CompletionCandidate> {
    let mut found = PathCompleter::any().complete(word);
    if word.to_str().is_some_and(|word| EMBEDDED.starts_with(word)) {
        found.push(CompletionCandidate::new(EMBEDDED));
    }
    let downloaded = crate::hub::cache().map(|cache| cache.list()).unwrap_or_default();
    let mut names: Vec<String> = downloaded.into_iter().map(|model| model.repo.to_string()).collect();
    names.dedup();
    let is_begun = |name: &String| !word.is_empty() && word.to_str().is_some_and(|word| name.starts_with(word));
    found.extend(names.into_iter().filter(is_begun).map(CompletionCandidate::new));
    found
}

/// A type for keys and values, or after a slash the one for values.
fn cache_types(word: &OsStr) -> Vec<CompletionCandidate> {
    let word = word.to_string_lossy();
    let keys = word.find('/').map_or("", |slash| &word[..=slash]);
    let names = KV_FORMATS.iter().map(|format| format!("{keys}{}", format.name.to_lowercase()));
    names.filter(|name| name.starts_with(&*word)).map(CompletionCandidate::new).collect()
}

/// The command line, with what to offer for its arguments.
fn with_values(command: Command) -> Command {
    let values = |arg: Arg| match arg.get_id().as_str() {
        "model" | "input" => arg.add(ArgValueCompleter::new(models)),
        "cache_type" => arg.add(ArgValueCompleter::new(cache_types)),
        id => match VALUES.iter().find(|(name, _)| *name == id) {
            Some((_, names)) => {
                let names = *names;
                arg.add(ArgValueCandidates::new(move || names().into_iter().map(CompletionCandidate::new).collect()))
            }
            None => arg,
        },
    };
    command.mut_args(values).mut_subcommands(with_values)
}

/// Answers a shell that asks what to offer; `None` if none does.
pub fn answer() -> Option<std::io::Result<()>> {
    let shell = std::env::var_os(VARIABLE).filter(|shell| !shell.is_empty())?;
    let shells = Shells::builtins();
    let completer = shells.completer(shell.to_str()?)?;
    // The words of the command line follow `--`.
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let mut offered = Vec::new();
    let folder = std::env::current_dir().ok();
    let answer = match completer.name() {
        "bash" => offer_to_bash(words, folder.as_deref(), &mut offered),
        _ => completer.write_complete(&mut command(), words, folder.as_deref(), &mut offered),
    };
    Some(answer.and_then(|()| std::io::stdout().write_all(&offered)))
}

/// Bash splits words at `:` and `=`, and replaces what follows the last of these: `embedded:st` are three words, of which it replaces `st`.
fn offer_to_bash(pieces: Vec<OsString>, folder: Option<&Path>, out: &mut Vec<u8>) -> std::io::Result<()> {
    let text = |name: &str| std::env::var(name).ok();
    let current = text("_CLAP_COMPLETE_INDEX").and_then(|index| index.parse().ok()).unwrap_or(pieces.len());
    let separator = text("_CLAP_IFS").unwrap_or_else(|| "\n".to_owned());
    let (mut words, mut kept, mut after_break) = (Vec::<OsString>::new(), OsString::new(), false);
    for piece in pieces.into_iter().take(current.saturating_add(1)) {
        let is_break = piece == ":" || piece == "=";
        match words.last_mut().filter(|_| is_break || after_break) {
            Some(word) => {
                if is_break {
                    word.push(&piece);
                    kept.clone_from(word);
                } else {
                    word.push(piece);
                }
            }
            None => {
                kept.clear();
                words.push(piece);
            }
        }
        after_break = is_break;
    }
    let index = words.len().saturating_sub(1);
    for candidate in complete(&mut command(), words, index, folder)? {
        let value = candidate.get_value().to_string_lossy();
        let rest = value.strip_prefix(&*kept.to_string_lossy()).unwrap_or(&value);
        let before = if out.is_empty() { "" } else { &separator };
        write!(out, "{before}{rest}")?;
    }
    Ok(())
}

fn command() -> Command {
    let mut command = with_values(crate::config::with_flags(<crate::Cli as clap::CommandFactory>::command()));
    command.build();
    command
}

/// The script that makes a shell ask.
pub fn script(shell: &str) -> std::io::Result<Vec<u8>> {
    let shells = Shells::builtins();
    let completer =
        shells.completer(shell).ok_or_else(|| std::io::Error::other(format!("{shell}: expected a shell")))?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "trine", "trine", "trine", &mut script)?;
    // What bash replaces is empty after a break, which is the word itself.
    let script = String::from_utf8(script).map_err(std::io::Error::other)?;
    let word = r#"words[COMP_CWORD]="$2""#;
    Ok(script.replace(word, &format!("[[ ${{words[COMP_CWORD]}} == [:=] ]] || {word}")).into_bytes())
}
