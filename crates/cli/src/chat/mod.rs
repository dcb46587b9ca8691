//! The chat in a terminal.

mod commands;
mod conversation;
mod input;
mod settings;

use crate::answer::{Pace, TimedAnswer};
use crate::constraint::NOT_WITH;
use crate::exit::{self, Exit, UsageError};
use crate::load::EngineArgs;
use crate::profile::Profiling;
use crate::sampling;
use crate::wrap::Printer;
use anyhow::{Result, anyhow};
use conversation::Conversation;
use input::Input;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use trine::Llm;
use trine_engine::{FinishReason, Prompt, Request, Sampling};
use trine_grammar::Grammar;

/// Tokens of a full context that are kept free for an answer, when the oldest messages are dropped: one of so many.
const ROOM: usize = 4;

pub struct ChatSetup {
    pub sampling: Sampling,
    /// What all answers keep to.
    pub grammar: Option<Grammar>,
    pub system: Option<String>,
    /// Variables of the chat template.
    pub template: trine::ChatOptions,
    /// Continue plain text, without a template.
    pub raw: bool,
    /// With `raw`: each line begins a new text, and is printed before its continuation.
    pub stories: bool,
    /// Forget the oldest messages when the context is full.
    pub drop_oldest: bool,
    pub quiet: bool,
    pub pace: Option<Pace>,
    /// Files of it are not written over.
    pub model: PathBuf,
    pub engine_args: EngineArgs,
}

pub struct Chat<'a> {
    llm: Llm,
    options: ChatSetup,
    /// The sampling options that `/set` returns to.
    initial: Sampling,
    conversation: Conversation,
    last: Option<Last>,
    /// How often the last message was answered again.
    retries: u64,
    /// Set by the Ctrl-C handler.
    stop: Arc<AtomicBool>,
    /// Records answers, but not the time between them.
    profile: &'a mut Profiling,
}

/// The last answer.
struct Last {
    answer: TimedAnswer,
    seed: u64,
}

impl<'a> Chat<'a> {
    pub fn new(llm: Llm, mut options: ChatSetup, stop: Arc<AtomicBool>, profile: &'a mut Profiling) -> Chat<'a> {
        let conversation = Conversation::new(options.system.take());
        let initial = options.sampling.clone();
        Chat { llm, options, initial, conversation, last: None, retries: 0, stop, profile }
    }

    /// Reads and answers until the end of input.
    pub fn run(mut self) -> Result<Exit> {
        if !self.options.quiet {
            if self.options.stories {
                aside!("each line you write begins a story, for example: One day, a little fox");
            }
            aside!("/help lists the commands");
        }
        let mut input = Input::new()?;
        while let Some(text) = input.read()? {
            let done = if text.starts_with('/') { self.command(text.trim_end()) } else { self.message(&text) };
            match done {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if exit::is_closed_pipe(&error) => return Err(error),
                Err(error) => {
                    exit::report(&error);
                }
            }
        }
        self.options.engine_args.warn(self.llm.close_disk_cache(), self.options.quiet);
        Ok(Exit::Done)
    }

    /// Carries out a command; false at the end of the chat.
    fn command(&mut self, line: &str) -> Result<bool> {
        let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let argument = argument.trim();
        let name = match commands::find(name) {
            Ok(row) => row.name,
            Err(near) => {
                let meant = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                note!("error: unknown command {}{meant}", crate::table::visible(name));
                note!("hint: /help lists the commands");
                return Ok(true);
            }
        };
        match (name, argument) {
            ("/bye", _) => return Ok(false),
            ("/help", _) => aside!("{}", commands::help()),
            ("/clear", _) => {
                self.conversation.clear();
                aside!("(a new conversation)");
            }
            ("/retry", _) => self.retry()?,
            ("/system", _) if self.options.raw => {
                note!("error: /system: expected a chat template, found none: the model continues plain text");
            }
            ("/system", "") => self.conversation.system = None,
            ("/system", text) => self.conversation.system = Some(text.to_owned()),
            ("/set", "") => aside!("{}", settings::list(&self.options.sampling, self.options.drop_oldest)),
            ("/set", text) => self.set(text)?,
            ("/stats", _) => aside!("{}", self.stats()),
            ("/save" | "/load", "" | "--force") => note!("error: {name}: expected the name of a file, found none"),
            ("/save", path) => {
                let forced = path.strip_prefix("--force ").map(str::trim_start);
                let path = home(forced.unwrap_or(path));
                self.conversation.save(&path, forced.is_some(), &self.options.model)?;
                aside!("(saved to {})", path.display());
            }
            ("/load", path) => {
                self.conversation.load(&home(path))?;
                let count = self.conversation.all().len() as u64;
                aside!("({})", crate::units::plural(count, "message"));
            }
            _ => unreachable!("a command in the list"),
        }
        Ok(true)
    }

    fn set(&mut self, text: &str) -> Result<()> {
        let (name, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let (name, value) = (name.replace('-', "_"), value.trim());
        if name != settings::DROP_OLDEST {
            if self.options.grammar.is_some() && NOT_WITH.contains(&&*name) {
                return Err(anyhow!("/set: {name} cannot be used with a constraint of the answer"));
            }
            return settings::set(&mut self.options.sampling, &name, value, &self.initial);
        }
        let parsed = if value.is_empty() { Ok(false) } else { value.parse() };
        self.options.drop_oldest =
            parsed.map_err(|_| anyhow!("/set: {name}: expected true or false, found {value}"))?;
        Ok(())
    }

    /// Answers a message of the user, which is forgotten if that fails.
    fn message(&mut self, text: &str) -> Result<bool> {
        if self.options.stories {
            self.conversation.clear();
        }
        self.conversation.push("user", text);
        self.retries = 0;
        let answered = self.answer();
        if answered.is_err() {
            self.conversation.pop();
        }
        answered.map(|()| true)
    }

    /// Answers the last message again, with other random numbers. If that fails, the answer before stays.
    fn retry(&mut self) -> Result<()> {
        let Some(before) = self.conversation.rewind() else {
            note!("error: /retry: expected a message before it, found none");
            return Ok(());
        };
        self.retries += 1;
        let answered = self.answer();
        if answered.is_err() {
            self.conversation.restore(before);
        }
        answered
    }

    /// Answers the last message.
    fn answer(&mut self) -> Result<()> {
        self.stop.store(false, Relaxed);
        let mut prompt = self.prompt()?;
        let mut ids = self.llm.tokens(prompt.clone());
        let (context, mut dropped) = (self.llm.context(), 0);
        let room = self.options.sampling.max_tokens.unwrap_or(context).min(context / ROOM);
        while self.options.drop_oldest && ids.len() + room > context && self.conversation.drop_oldest() {
            prompt = self.prompt()?;
            ids = self.llm.tokens(prompt.clone());
            dropped += 1;
        }
        if dropped > 0 {
            aside!("(the context is full: forgot the oldest {})", crate::units::plural(dropped, "turn"));
        }
        if ids.len() >= context {
            let tokens = crate::units::plural(ids.len() as u64, "token");
            let message = format!("{tokens} do not fit into the context of {context} tokens");
            let hint = match self.conversation.messages().len() {
                1 => "shorten the message, or pass a larger --context if the model allows it",
                _ => "/clear starts a new conversation; /set drop_oldest true forgets the oldest turns of this one",
            };
            return Err(UsageError { message, hint }.into());
        }
        let fixed = self.options.sampling.seed;
        let seed = fixed.map_or_else(sampling::random_seed, |seed| seed.wrapping_add(self.retries));
        let sampling = Sampling { seed: Some(seed), ..self.options.sampling.clone() };
        self.profile.recorder.start();
        let filters = self.options.grammar.iter().map(Grammar::filter).collect();
        let request = Request { filters, ..Request::new(ids, sampling) };
        let stream = self.llm.submit(request)?.stop_when(self.stop.clone());
        let mut out = Printer::new();
        if let (true, Prompt::Text(text)) = (self.options.stories, &prompt) {
            out.print(text)?;
        }
        let answer = TimedAnswer::of(stream, self.options.pace, |piece| out.print(piece));
        self.profile.recorder.stop();
        out.end_line()?;
        let answer = answer?;
        self.profile.requests.push(answer.record());
        self.conversation.push("assistant", &answer.text);
        let mut facts = Vec::new();
        match answer.finish {
            FinishReason::EndToken => {}
            FinishReason::ContextFull if self.options.drop_oldest => {
                facts.push("context full: the oldest turns will be forgotten".to_owned());
            }
            FinishReason::ContextFull => facts.push("context full: /clear starts a new conversation".to_owned()),
            _ => facts.push(answer.ending().to_owned()),
        }
        self.last = Some(Last { answer, seed });
        if !self.options.stories && !self.options.quiet {
            facts.extend(self.left());
        }
        if !facts.is_empty() {
            aside!("({})", facts.join("; "));
        }
        Ok(())
    }

    /// The prompt for an answer to the last message.
    fn prompt(&self) -> Result<Prompt> {
        let messages = self.conversation.messages();
        match self.options.raw {
            true => Ok(messages.iter().filter_map(|message| message.content.as_str()).collect::<String>().into()),
            false => Ok(self.llm.render_with(&self.conversation.all(), &self.options.template)?.into()),
        }
    }

    /// How much room the context has after the last answer.
    fn left(&self) -> Option<String> {
        let usage = self.last.as_ref()?.answer.usage;
        let context = self.llm.context();
        let left = context.saturating_sub(usage.prompt_tokens + usage.completion_tokens);
        Some(format!("{left} of {context} tokens left"))
    }

    fn stats(&self) -> String {
        let Some(Last { answer, seed }) = &self.last else { return "no answer yet".to_owned() };
        format!("{}, seed {seed}\ncontext: {}", answer.summary(), self.left().unwrap_or_default())
    }
}

/// A path in which `~` is the user's folder.
fn home(path: &str) -> PathBuf {
    let inside = path.strip_prefix("~/").and_then(|rest| Some(dirs::home_dir()?.join(rest)));
    inside.unwrap_or_else(|| Path::new(path).to_owned())
}
