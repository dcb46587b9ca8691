//! The beginnings of prompts that are computed before the first request.

use crate::{input, units};
use anyhow::{Context, Result, anyhow};
use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use trine::{ErrorKind, Llm};
use trine_engine::{Prompt, Request};
use trine_text::Message;

#[derive(Args)]
#[command(next_help_heading = "Machine")]
pub struct WarmArgs {
    /// Compute the beginnings of prompts in this JSONL file before the first answer
    ///
    /// A line is a string, or an object with messages, and tools where there are any, which the chat template makes a text of. A
    /// prompt that begins with one does not compute it again. Answers stay the same.
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    warm: Option<PathBuf>,
}

/// The beginning of prompts.
pub enum Prefix {
    Text(String),
    Chat(Chat),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chat {
    messages: Vec<Message>,
    tools: Option<Value>,
    #[serde(default)]
    chat_template_kwargs: Map<String, Value>,
}

impl WarmArgs {
    /// What the file has, each with its place for errors.
    pub fn read(&self) -> Result<Vec<(String, Prefix)>> {
        let Some(path) = &self.warm else { return Ok(Vec::new()) };
        let at = || path.display().to_string();
        let mut prefixes = Vec::new();
        for (i, line) in input::lines(BufReader::new(File::open(path).with_context(at)?)).enumerate() {
            let place = format!("{}, line {}", at(), i + 1);
            let line = line.with_context(|| place.clone())?;
            if !line.trim().is_empty() {
                let prefix = parse(&line).with_context(|| place.clone())?;
                prefixes.push((place, prefix));
            }
        }
        Ok(prefixes)
    }
}

fn parse(line: &str) -> Result<Prefix> {
    match serde_json::from_str(line)? {
        Value::String(text) => Ok(Prefix::Text(text)),
        chat @ Value::Object(_) => Ok(Prefix::Chat(serde_json::from_value(chat)?)),
        _ => Err(anyhow!("expected a string or an object with messages")),
    }
}

/// Fills the prefix cache; whether it was not stopped.
pub fn fill(
    llm: &mut Llm,
    prefixes: &[(String, Prefix)],
    stop: &Arc<AtomicBool>,
    quiet: bool,
) -> Result<ControlFlow<()>> {
    let (mut tokens, mut cached) = (0, 0);
    for (place, prefix) in prefixes {
        let prompt: Prompt = match prefix {
            Prefix::Text(text) => text.clone().into(),
            Prefix::Chat(Chat { messages, tools, chat_template_kwargs }) => {
                let template = llm.template().with_context(|| place.clone())?;
                let tokenizer = llm.tokenizer();
                let chat = template.render_chat(tokenizer, messages, tools.as_ref(), false, chat_template_kwargs);
                chat.with_context(|| place.clone())?.into()
            }
        };
        let stream = llm.submit(Request::warm(prompt)).with_context(|| place.clone())?;
        match stream.stop_when(stop.clone()).answer() {
            Err(error) if error.kind() == ErrorKind::Cancelled => return Ok(ControlFlow::Break(())),
            answer => {
                let usage = answer.with_context(|| place.clone())?.usage;
                (tokens, cached) = (tokens + usage.prompt_tokens, cached + usage.cached_tokens);
            }
        }
        if stop.load(Relaxed) {
            return Ok(ControlFlow::Break(()));
        }
    }
    if !prefixes.is_empty() && !quiet {
        let [tokens, cached] = [tokens, cached].map(|tokens| units::plural(tokens as u64, "token"));
        aside!("{} of {tokens}, {cached} of them cached before", units::plural(prefixes.len() as u64, "prefix"));
    }
    Ok(ControlFlow::Continue(()))
}
