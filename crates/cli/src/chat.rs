//! The chat in a terminal.

use crate::answer::{self, Answer};
use crate::exit::{self, Exit};
use anyhow::{Context, Result};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use trine::Llm;
use trine::backend::profile::Recorder;
use trine::engine::Sampling;
use trine::text::Message;

const HELP: &str = "\
/clear        forget what was said
/save FILE    write the chat to a file, as JSON
/stats        what the last answer took
/system TEXT  what the model is told before everything
/exit         end (as Ctrl-D does)
Ctrl-C stops an answer.";

/// A chat, and what it needs.
pub struct Chat {
    pub llm: Llm,
    pub sampling: Sampling,
    pub system: Option<String>,
    /// Text is continued as it is, without a template.
    pub raw: bool,
    /// Each line begins a text of its own, and a raw answer shows it from its beginning.
    pub stories: bool,
    pub quiet: bool,
    /// Set by Ctrl-C.
    pub stop: Arc<AtomicBool>,
    /// Records answers, and not the time between them.
    pub recorder: Recorder,
}

impl Chat {
    /// Reads and answers until the end of input.
    pub fn run(mut self) -> Result<Exit> {
        if !self.quiet {
            if self.stories {
                note!("each line that you write begins a story, such as: One day, a little fox");
            }
            note!("/help lists the commands");
        }
        let mut editor = DefaultEditor::new()?;
        let history = history();
        if let Some(path) = &history {
            // There is none the first time.
            let _ = editor.load_history(path);
        }
        let (mut messages, mut last) = (Vec::new(), None);
        loop {
            let line = match editor.readline("> ") {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(error.into()),
            };
            if line.trim().is_empty() {
                continue;
            }
            let _ = editor.add_history_entry(&line);
            let (command, argument) = line.split_once(' ').unwrap_or((&line, ""));
            match (command.trim(), argument.trim()) {
                ("/exit" | "/quit", _) => break,
                ("/help", _) => note!("{HELP}"),
                ("/clear", _) => messages.clear(),
                ("/system", "") => self.system = None,
                ("/system", text) => self.system = Some(text.to_owned()),
                ("/stats", _) => note!("{}", last.as_ref().map_or("no answer yet".to_owned(), Answer::summary)),
                ("/save", "") => note!("error: /save needs the name of a file"),
                ("/save", path) => match save(path, &self.all(&messages)) {
                    Ok(()) => note!("saved to {path}"),
                    Err(error) => note!("error: {error:#}"),
                },
                (command, _) if command.starts_with('/') => note!("error: no command {command}: /help lists them"),
                _ => {
                    messages.push(Message::new("user", line));
                    match self.answer(&messages) {
                        Ok(answer) => {
                            messages.push(Message::new("assistant", answer.text.as_str()));
                            last = Some(answer);
                        }
                        Err(error) => {
                            messages.pop();
                            exit::report(&error);
                        }
                    }
                }
            }
        }
        if let Some(path) = history {
            // A chat is no worse for a history that cannot be written.
            let _ = path.parent().map(std::fs::create_dir_all);
            let _ = editor.save_history(&path);
        }
        Ok(Exit::Done)
    }

    /// The system's message, if any, and the others.
    fn all(&self, messages: &[Message]) -> Vec<Message> {
        let system = self.system.as_ref().map(|text| Message::new("system", text.as_str()));
        system.into_iter().chain(messages.iter().cloned()).collect()
    }

    fn answer(&mut self, messages: &[Message]) -> Result<Answer> {
        self.stop.store(false, Relaxed);
        let messages = if self.stories { &messages[messages.len() - 1..] } else { messages };
        let prompt = if self.raw {
            messages.iter().filter_map(|message| message.content.as_str()).collect()
        } else {
            self.llm.render(&self.all(messages))?
        };
        let ends: Vec<u32> = self.llm.tokenizer().eog_tokens().collect();
        self.recorder.start();
        let stream = self.llm.stream(&prompt, &self.sampling)?.stop_when(self.stop.clone());
        if self.stories && self.raw {
            answer::print(&prompt)?;
        }
        let answer = Answer::of(stream, |id| ends.contains(&id), answer::print);
        self.recorder.stop();
        let answer = answer?;
        answer::print("\n")?;
        match answer.finish {
            "cancelled" => note!("(stopped)"),
            "length" => note!("(cut: the limit of tokens is reached)"),
            _ => {}
        }
        Ok(answer)
    }
}

fn save(path: &str, messages: &[Message]) -> Result<()> {
    let json = serde_json::to_string_pretty(messages)?;
    std::fs::write(path, json + "\n").with_context(|| path.to_owned())
}

/// `trine/history` in the folder for state, where the system has one.
fn history() -> Option<PathBuf> {
    Some(dirs::state_dir().or_else(dirs::data_local_dir)?.join("trine").join("history"))
}
