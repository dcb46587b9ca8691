//! What a chat asks for, in OpenAI's words: other protocols are translated to them.

use super::messages::messages;
use super::turn::Turn;
use crate::ask::scheduling;
use crate::constraint::{constraint, ends};
use crate::fields::shown;
use crate::{Ask, Fields, Problem, Served, sampling};
use serde_json::{Map, Value, json};
use trine_engine::Prompt;

/// A chat that is read.
pub struct Chat {
    pub ask: Ask,
    /// One for each answer that is generated.
    pub turns: Vec<Turn>,
}

impl Chat {
    /// How many answers are wanted, if the best are chosen.
    pub fn best(&self) -> Option<usize> {
        self.ask.sampling.best_of.map(|_| self.ask.sampling.n)
    }
}

/// Reads the fields of a chat.
///
/// # Errors
/// With the field that is wrong or not known.
pub fn read(mut fields: Fields, served: &Served) -> Result<Chat, Problem> {
    let stream = fields.boolean("stream")?.unwrap_or_default();
    let tokens = prompt(&mut fields, served)?;
    fields.rename("max_completion_tokens", "max_tokens")?;
    top_logprobs(&mut fields)?;
    let constraint = constraint(&mut fields)?;
    let (scheduling, prefix_cache) = scheduling(&mut fields)?;
    let mut chosen = sampling::sampling(fields.clone(), &served.sampling)?;
    if let Some((field, _)) = &constraint {
        chosen = ends(field, &fields, chosen)?;
    }
    if stream && chosen.best_of.is_some_and(|best| best > chosen.n) {
        return Err(Problem::field("best_of", "expected none with stream: the best are known at the end"));
    }
    let turns = (0..chosen.best_of.unwrap_or(chosen.n)).map(|_| Turn::default()).collect();
    Ok(Chat {
        ask: Ask { prompts: vec![tokens], sampling: chosen, constraint, scheduling, prefix_cache, stream },
        turns,
    })
}

/// Marks the end of a message that the answer continues, while the template renders it: a noncharacter, which no text has.
const END: char = '\u{FDD2}';

/// The prompt that the messages and tools make.
fn prompt(fields: &mut Fields, served: &Served) -> Result<Vec<u32>, Problem> {
    let template = served
        .template
        .as_ref()
        .map_err(|why| Problem::field("messages", format_args!("the model cannot chat: {why}")))?;
    let list = fields.list("messages")?.ok_or_else(|| Problem::field("messages", "expected a list of messages"))?;
    let mut messages = messages(list, served)?;
    let mut variables = fields.object("chat_template_kwargs")?.unwrap_or_default();
    if let Some(effort) = fields.take("reasoning_effort") {
        reasoning_effort(&effort, &mut variables)?;
    }
    let tools = tools(fields)?;
    let is_prefill =
        messages.last().is_some_and(|message| message.role == "assistant" && !message.rest.contains_key("tool_calls"));
    let continues = fields.boolean("continue_final_message")?;
    let generates = fields.boolean("add_generation_prompt")?;
    let continues = match (continues, generates) {
        (Some(true), Some(true)) => {
            return Err(Problem::field("continue_final_message", "expected add_generation_prompt: false beside it"));
        }
        (Some(true), _) if !is_prefill => {
            return Err(Problem::field("continue_final_message", "expected the last message to be the assistant's"));
        }
        (Some(continues), _) => continues,
        // As llama-server and Anthropic's API: what ends with the assistant goes on.
        (None, generates) => is_prefill && generates != Some(true),
    };
    if continues && let Some(last) = messages.last_mut() {
        mark(&mut last.content);
    }
    let generates = generates.unwrap_or(!continues);
    let chat = template.render_chat(&served.tokenizer, &messages, tools.as_ref(), generates, &variables);
    let mut chat = chat.map_err(|why| Problem::field("messages", why))?;
    if continues {
        let Some(end) = chat.text().rfind(END) else {
            return Err(Problem::field("messages", "the template writes no message of the assistant that could go on"));
        };
        chat.truncate(end);
    }
    served.tokens(Prompt::Chat(chat), "messages")
}

/// Marks the end of a content.
fn mark(content: &mut Value) {
    match content {
        Value::String(text) => text.push(END),
        Value::Array(parts) => {
            if let Some(Value::String(text)) = parts.last_mut().and_then(|part| part.get_mut("text")) {
                text.push(END);
            }
        }
        other => *other = END.to_string().into(),
    }
}

/// What OpenAI calls effort, templates call by several names.
fn reasoning_effort(effort: &Value, variables: &mut Map<String, Value>) -> Result<(), Problem> {
    let known = ["none", "minimal", "low", "medium", "high", "xhigh"];
    let Some(effort) = effort.as_str().filter(|effort| known.contains(effort)) else {
        let problem = format!("expected {}, found {}", known.join(", "), shown(effort));
        return Err(Problem::field("reasoning_effort", problem));
    };
    let thinks = effort != "none";
    let all = [("reasoning_effort", json!(effort)), ("enable_thinking", json!(thinks)), ("thinking", json!(thinks))];
    for (name, value) in all {
        variables.entry(name).or_insert(value);
    }
    Ok(())
}

/// The functions that the model may call, for the template.
fn tools(fields: &mut Fields) -> Result<Option<Value>, Problem> {
    let tools = fields.list("tools")?.filter(|tools| !tools.is_empty());
    for (i, tool) in tools.iter().flatten().enumerate() {
        let place = format!("tools[{i}]");
        if tool["type"] != "function" {
            let problem =
                format!("expected type \"function\", found {}: there are no built-in tools", shown(&tool["type"]));
            return Err(Problem::field(&place, problem));
        }
        if !tool["function"]["name"].is_string() {
            return Err(Problem::field(&place, "expected a function with its name"));
        }
    }
    fields.only("parallel_tool_calls", &json!(true), "the model decides")?;
    match fields.take("tool_choice") {
        None => {}
        Some(choice) if choice == "auto" => {}
        Some(choice) if choice == "none" => return Ok(None),
        Some(found) => {
            let problem = format!("expected \"auto\" or \"none\", found {}", shown(&found));
            return Err(Problem::field("tool_choice", problem));
        }
    }
    Ok(tools.map(Value::Array))
}

/// In chats, `logprobs` is a switch, and `top_logprobs` has the number.
fn top_logprobs(fields: &mut Fields) -> Result<(), Problem> {
    let top = fields.take("top_logprobs");
    match (fields.boolean("logprobs")?.unwrap_or_default(), top) {
        (true, top) => fields.put("logprobs", top.unwrap_or(0.into())),
        (false, Some(top)) if top != json!(0) => {
            return Err(Problem::field("top_logprobs", "expected logprobs: true beside it"));
        }
        (false, _) => {}
    }
    Ok(())
}
