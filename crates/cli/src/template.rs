//! Options for the chat template.

use crate::input::file;
use crate::{answer, table};
use anyhow::Result;
use clap::Args;
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::path::Path;
use trine::ChatOptions;
use trine_api::PLAIN_TEMPLATE;
use trine_text::Template;

/// The largest file of tools in bytes.
const TOOLS: u64 = 16 << 20;

/// What the chat template gets.
#[derive(Args)]
pub struct TemplateArgs {
    /// Print the prompt as the model gets it, and exit
    #[arg(long, conflicts_with_all = ["json", "echo", "profile"], hide_short_help = true)]
    pub show_prompt: bool,
    /// Functions that the model may call: a JSON list, as in OpenAI's API
    ///
    /// They go to the chat template, and the model writes its calls as text.
    #[arg(long, value_name = "FILE", conflicts_with = "raw", hide_short_help = true, value_parser = file(tools))]
    tools: Option<Value>,
    /// Set a variable of the chat template, such as enable_thinking=false
    ///
    /// The value is JSON, or else a string. The option may be repeated.
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "raw", hide_short_help = true, value_parser = variable)]
    template_arg: Vec<(String, Value)>,
}

impl TemplateArgs {
    pub fn options(&self) -> ChatOptions {
        ChatOptions { tools: self.tools.clone(), variables: self.template_arg.iter().cloned().collect() }
    }

    /// Whether there is something that only a template can use.
    pub fn any(&self) -> bool {
        self.tools.is_some() || !self.template_arg.is_empty()
    }
}

/// The template for chats that come as requests, or why there are none. A model without a template goes on with their text.
pub fn or_plain(template: Result<Template, trine::Error>, quiet: bool) -> Result<Template, String> {
    let template = match template {
        Err(trine::Error::NoTemplate) => {
            if !quiet {
                note!(
                    "warning: the model has no chat template: the answer to a chat goes on with the text of its messages"
                );
            }
            return Template::new(PLAIN_TEMPLATE, "", "").map_err(|error| error.to_string());
        }
        template => template.map_err(|error| error.to_string()),
    };
    if let Err(error) = &template
        && !quiet
    {
        note!("warning: the model cannot chat: {}", table::visible(error));
    }
    template
}

/// Notes what `template` does not use.
pub fn note_unused(options: &ChatOptions, template: &Template) {
    for name in options.unused(template) {
        note!("note: the chat template does not use `{name}`");
    }
}

/// Prints a prompt without a change, but for a newline that a terminal needs.
pub fn show(prompt: &str) -> Result<()> {
    answer::print(prompt)?;
    let mut out = std::io::stdout().lock();
    if out.is_terminal() && !prompt.ends_with('\n') {
        writeln!(out)?;
    }
    Ok(())
}

fn tools(path: &Path) -> Result<Value, String> {
    let bytes = trine_tensor::read_small(path, TOOLS).map_err(|error| error.to_string())?;
    let path = path.display();
    let tools: Value = serde_json::from_slice(&bytes).map_err(|error| format!("{path}: {error}"))?;
    let found = match tools {
        Value::Array(_) => return Ok(tools),
        Value::Object(_) => "an object",
        _ => "a single value",
    };
    Err(format!("{path}: expected a JSON list of functions, found {found}"))
}

fn variable(argument: &str) -> Result<(String, Value), String> {
    let (name, value) = argument.split_once('=').ok_or("expected NAME=VALUE, such as enable_thinking=false")?;
    let mut chars = name.chars();
    if !chars.next().is_some_and(|c| c == '_' || c.is_alphabetic()) || !chars.all(|c| c == '_' || c.is_alphanumeric()) {
        return Err(format!("expected the name of a variable, found `{name}`"));
    }
    let value = match value {
        // As Python spells them.
        "True" => true.into(),
        "False" => false.into(),
        "None" => Value::Null,
        value => serde_json::from_str(value).unwrap_or_else(|_| value.into()),
    };
    Ok((name.to_owned(), value))
}
