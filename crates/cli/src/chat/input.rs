//! Messages and commands from the terminal.

use super::commands::{self, COMMANDS};
use super::settings;
use anyhow::Result;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Editor, Helper};
use std::borrow::Cow;
use std::cell::RefCell;
use std::io::ErrorKind;
use std::path::PathBuf;

/// Begins and ends a text of several lines.
const QUOTES: &str = "\"\"\"";

/// The line editor, with its history in a file.
pub struct Input {
    editor: Editor<Assistant, FileHistory>,
    history: Option<PathBuf>,
}

impl Input {
    pub fn new() -> Result<Input> {
        let config = Config::builder().history_ignore_dups(true)?.build();
        let mut editor = Editor::with_config(config)?;
        let coloured = console::colors_enabled();
        editor.set_helper(Some(Assistant { files: FilenameCompleter::new(), line: RefCell::default(), coloured }));
        let history = history();
        if let Some(path) = &history {
            // A history that cannot be read or written is not an error. The first time there is none.
            let _ = path.parent().map(std::fs::create_dir_all);
            let _ = editor.load_history(path);
        }
        Ok(Input { editor, history })
    }

    /// What the user writes next; `None` at the end of input.
    ///
    /// # Errors
    /// When the terminal cannot be read.
    pub fn read(&mut self) -> Result<Option<String>> {
        let mut typed = String::new();
        loop {
            let line = self.editor.readline_with_initial("> ", (&typed, ""));
            typed.clear();
            if self.editor.helper().is_some_and(|helper| helper.coloured) {
                crate::answer::print(RESET)?;
            }
            match line {
                Ok(line) if line.trim().is_empty() => {}
                Ok(line) => {
                    let _ = self.editor.add_history_entry(&line);
                    if let Some(path) = &self.history {
                        let _ = self.editor.append_history(path);
                    }
                    return Ok(Some(message(&line)));
                }
                Err(ReadlineError::Eof) => return Ok(None),
                Err(ReadlineError::Interrupted) => aside!("(Ctrl-D or /bye exits)"),
                Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                    note!("note: a byte that is not UTF-8 was left out, with what was pasted after it");
                    typed = self.editor.helper().map(|helper| helper.line.take()).unwrap_or_default();
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// `trine/history` in the state folder of the user, if the system has one.
fn history() -> Option<PathBuf> {
    Some(dirs::state_dir().or_else(dirs::data_local_dir)?.join("trine").join("history"))
}

/// Whether nothing is missing: the other quotes, or the line after a backslash.
fn is_complete(text: &str) -> bool {
    match text.trim_start().strip_prefix(QUOTES) {
        Some(rest) => rest.trim_end().ends_with(QUOTES),
        None => !text.ends_with('\\'),
    }
}

/// The text without the quotes around it, or the backslashes at the ends of its lines.
fn message(text: &str) -> String {
    match text.trim().strip_prefix(QUOTES).and_then(|rest| rest.strip_suffix(QUOTES)) {
        Some(inside) => inside.strip_prefix('\n').unwrap_or(inside).trim_end_matches('\n').to_owned(),
        None => text.replace("\\\n", "\n"),
    }
}

const BOLD: &str = "\x1b[0;1m";
const DIM: &str = "\x1b[0;2m";
const RESET: &str = "\x1b[0m";

/// Completes and explains commands, and knows what is typed so far.
struct Assistant {
    files: FilenameCompleter,
    line: RefCell<String>,
    coloured: bool,
}

impl Helper for Assistant {}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, ctx: &rustyline::Context) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..pos];
        match typed.split_once(' ') {
            Some((name, _)) if commands::takes_file(name) => self.files.complete(line, pos, ctx),
            Some(("/set", start)) => {
                let names = settings::names().filter(|name| name.starts_with(start));
                Ok((pos - start.len(), names.map(|name| pair(name, " ")).collect()))
            }
            None if typed.starts_with('/') => {
                let rows = COMMANDS.iter().filter(|row| row.name.starts_with(typed));
                let end = |argument: &str| if argument.is_empty() { "" } else { " " };
                Ok((0, rows.map(|row| pair(row.name, end(row.argument))).collect()))
            }
            _ => Ok((pos, Vec::new())),
        }
    }
}

fn pair(name: &str, end: &str) -> Pair {
    Pair { display: name.to_owned(), replacement: format!("{name}{end}") }
}

/// The arguments of a command, which are shown but never typed.
struct Arguments(String);

impl Hint for Arguments {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Assistant {
    type Hint = Arguments;

    fn hint(&self, line: &str, _: usize, _: &rustyline::Context) -> Option<Arguments> {
        line.clone_into(&mut self.line.borrow_mut());
        let row = COMMANDS.iter().find(|row| row.name == line && !row.argument.is_empty())?;
        Some(Arguments(format!(" {}", row.argument)))
    }
}

impl Highlighter for Assistant {
    /// The user's text is bold: a prompt that leaves the terminal so spares styling each key.
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        if self.coloured { format!("{BOLD}{prompt}").into() } else { prompt.into() }
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        if self.coloured { format!("{DIM}{hint}{BOLD}").into() } else { hint.into() }
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        match is_complete(context.input()) {
            true => Ok(ValidationResult::Valid(None)),
            false => Ok(ValidationResult::Incomplete),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_several_lines_end_where_they_say() {
        for (text, expected) in [
            ("one", Some("one")),
            ("one\\", None),
            ("one\\\ntwo", Some("one\ntwo")),
            ("one\ntwo", Some("one\ntwo")),
            ("\"\"\"one", None),
            ("\"\"\"", None),
            ("\"\"\"one\ntwo\\\n\n", None),
            ("\"\"\"\none\ntwo\\\n\"\"\"", Some("one\ntwo\\")),
            ("\"\"\"one\"\"\"", Some("one")),
            ("say \"\"\"", Some("say \"\"\"")),
        ] {
            assert_eq!(is_complete(text).then(|| message(text)).as_deref(), expected, "{text:?}");
        }
    }
}
