//! The chat in a terminal.

use crate::answer::{self, TimedAnswer};
use crate::exit::{self, Exit};
use anyhow::{Context, Result};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use trine::{ChatOptions, Llm};
use trine_backend::profile::Recorder;
use trine_engine::Sampling;
use trine_text::Message;

const HELP: &str = "\
/clear        start a new conversation
/save FILE    save the conversation as JSON
/stats        show statistics of the last answer
/system TEXT  set the system message
/exit         exit, as Ctrl-D
Ctrl-C stops an answer.";

pub struct Chat {
    pub llm: Llm,
    pub sampling: Sampling,
    pub system: Option<String>,
    pub options: ChatOptions,
    /// Continue plain text, without a template.
    pub raw: bool,
    /// Each line begins a new text. With `raw`, it is printed before its continuation.
    pub stories: bool,
    pub quiet: bool,
    /// Set by the Ctrl-C handler.
    pub stop: Arc<AtomicBool>,
    /// Records answers, but not the time between them.
    pub recorder: Recorder,
}

impl Chat {
    /// Reads and answers until the end of input.
    pub fn run(mut self) -> Result<Exit> {
        if !self.quiet {
            if self.stories {
                note!("each line you write begins a story, for example: One day, a little fox");
            }
            note!("/help lists the commands");
        }
        let mut editor = DefaultEditor::new()?;
        let history = history();
        if let Some(path) = &history {
            // The first time there is no file.
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
                ("/stats", _) => note!("{}", last.as_ref().map_or("no answer yet".to_owned(), TimedAnswer::summary)),
                ("/save", "") => note!("error: /save: expected a file name, found none"),
                ("/save", path) => match save(path, &self.all(&messages)) {
                    Ok(()) => note!("saved to {path}"),
                    Err(error) => note!("error: {error:#}"),
                },
                (command, _) if command.starts_with('/') => {
                    note!("error: unknown command {command}; /help lists the commands")
                }
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
            // A history that cannot be written is not an error.
            let _ = path.parent().map(std::fs::create_dir_all);
            let _ = editor.save_history(&path);
        }
        Ok(Exit::Done)
    }

    /// The conversation, with the system message if there is one.
    fn all(&self, messages: &[Message]) -> Vec<Message> {
        let system = self.system.as_ref().map(|text| Message::new("system", text.as_str()));
        system.into_iter().chain(messages.iter().cloned()).collect()
    }

    fn answer(&mut self, messages: &[Message]) -> Result<TimedAnswer> {
        self.stop.store(false, Relaxed);
        let messages = if self.stories { &messages[messages.len() - 1..] } else { messages };
        let prompt = if self.raw {
            messages.iter().filter_map(|message| message.content.as_str()).collect()
        } else {
            self.llm.render_with(&self.all(messages), &self.options)?
        };
        let ends: Vec<u32> = self.llm.tokenizer().eog_tokens().collect();
        self.recorder.start();
        let stream = self.llm.stream(&prompt, &self.sampling)?.stop_when(self.stop.clone());
        if self.stories && self.raw {
            answer::print(&prompt)?;
        }
        let answer = TimedAnswer::of(stream, |id| ends.contains(&id), answer::print);
        self.recorder.stop();
        let answer = answer?;
        answer::print("\n")?;
        match answer.finish {
            "cancelled" => note!("(stopped)"),
            "length" => note!("(cut off: maximum number of tokens reached)"),
            _ => {}
        }
        Ok(answer)
    }
}

fn save(path: &str, messages: &[Message]) -> Result<()> {
    let json = serde_json::to_string_pretty(messages)?;
    std::fs::write(path, json + "\n").with_context(|| path.to_owned())
}

/// `trine/history` in the state folder of the user, if the system has one.
fn history() -> Option<PathBuf> {
    Some(dirs::state_dir().or_else(dirs::data_local_dir)?.join("trine").join("history"))
}
