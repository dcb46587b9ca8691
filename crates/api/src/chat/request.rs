//! What a chat asks for, in OpenAI's words: other protocols are translated to them.

use super::messages::{fold_system, messages, not_taken, shorten_ids, with_text_arguments};
use super::tools::{self, Tools};
use super::turn::{CallIds, Turn};
use crate::ask::scheduling;
use crate::constraint::{constraint, ends};
use crate::fields::shown;
use crate::{Ask, Fields, Problem, Served, sampling};
use serde_json::{Map, Value, json};
use trine_engine::Prompt;
use trine_grammar::{Constraint, Thinking};
use trine_text::{ChatFormat, Message, Rendered};

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
    fields.refuse(&[("prompt_logprobs", "expected echo: true and logprobs of /v1/completions")])?;
    let stream = fields.boolean("stream")?.unwrap_or_default();
    let tools = tools::tools(&mut fields)?;
    let prompted = prompt(&mut fields, served, &tools);
    let Prompted { chat, format, thinking, ids } = prompted.map_err(|problem| problem.named(fields.own_names()))?;
    fields.rename("max_completion_tokens", "max_tokens")?;
    top_logprobs(&mut fields)?;
    let content = constraint(&mut fields).map_err(|problem| problem.named(fields.own_names()))?;
    let (scheduling, prefix_cache) = scheduling(&mut fields)?;
    let mut chosen = sampling::sampling(fields.clone(), served)?;
    if let Some((field, _)) = &content {
        chosen = ends(field, &fields, chosen)?;
    }
    let tokens = served.tokens(Prompt::Chat(chat), fields.own_name("messages"), &chosen)?;
    if stream && chosen.best_of.is_some_and(|best| best > chosen.n) {
        return Err(Problem::field("best_of", "expected none with stream: the best are known at the end"));
    }
    let is_plain = format.reasoning.is_none() && format.content.open.is_empty() && tools.tools.is_empty();
    // The parser knows markers by their names.
    chosen.skip_special_tokens &= is_plain;
    let parser = format.parser(&tools.tools, thinking == Thinking::Begun);
    let constraint = answer_form(content, format, tools, thinking, fields.own_name("tools"));
    let formed = match &constraint {
        Some((_, Constraint::Chat(chat))) => chat.content.is_some() || chat.tool_choice.is_call(),
        _ => false,
    };
    let turn = Turn::new(parser, ids, formed || format.content.required);
    let turns = vec![turn; chosen.best_of.unwrap_or(chosen.n)];
    Ok(Chat {
        ask: Ask {
            prompts: vec![tokens],
            sampling: chosen,
            constraint,
            scheduling,
            prefix_cache,
            stream,
            progress: false,
        },
        turns,
    })
}

/// The prompt that a chat makes.
///
/// # Errors
/// With the field that is wrong or not known.
pub fn apply_template(mut fields: Fields, served: &Served) -> Result<Rendered, Problem> {
    let tools = tools::tools(&mut fields)?;
    let Prompted { chat, .. } = prompt(&mut fields, served, &tools)?;
    fields.finish()?;
    Ok(chat)
}

/// OpenAI's fields, which other protocols are translated to.
const OF_OPENAI: &[&str] = &[
    "messages",
    "prompt",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "n",
    "best_of",
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "response_format",
    "reasoning_effort",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
];

/// Refuses OpenAI's fields in the body of another protocol, but for its own of the same name: the translation alone writes them.
///
/// # Errors
/// With the first one.
pub fn refuse_foreign(fields: &Fields, own: &[&str]) -> Result<(), Problem> {
    match OF_OPENAI.iter().find(|name| fields.has(name) && !own.contains(*name)) {
        Some(name) => Err(Problem::field(name, "this API has no such field: /v1/chat/completions has")),
        None => Ok(()),
    }
}

/// [`read`] for protocols that have one answer.
///
/// # Errors
/// Those of [`read`].
pub fn read_one(fields: Fields, served: &Served) -> Result<(Ask, Turn), Problem> {
    let Chat { ask, mut turns } = read(fields, served)?;
    Ok((ask, turns.pop().expect("there is one answer")))
}

type Named = (&'static str, Constraint);

/// One grammar of the whole answer, where it has more parts than its content, and the field that asks for it. `tools_name` is that of the tools.
fn answer_form(
    content: Option<Named>,
    format: ChatFormat,
    tools: Tools,
    thinking: Thinking,
    tools_name: &'static str,
) -> Option<Named> {
    let Tools { tools, choice: tool_choice, parallel: parallel_tool_calls, .. } = tools;
    let field = match &content {
        Some((field, _)) => field,
        None if tools.is_empty() => return None,
        None => tools_name,
    };
    // Grammars in GBNF and Lark are those of whole answers.
    if tools.is_empty()
        && (format.reasoning.is_none() && !format.content.required
            || matches!(content, Some((_, Constraint::Gbnf(_) | Constraint::Lark(_)))))
    {
        return content;
    }
    let content = content.map(|(_, constraint)| Box::new(constraint));
    let chat = trine_grammar::Chat { format, tools, tool_choice, parallel_tool_calls, thinking, content };
    Some((field, Constraint::Chat(Box::new(chat))))
}

/// A prompt, and how its answer is written.
struct Prompted {
    chat: Rendered,
    format: ChatFormat,
    thinking: Thinking,
    ids: CallIds,
}

/// Variables that the messages and the model fill.
const RESERVED: &[&str] = &["messages", "tools", "add_generation_prompt", "bos_token", "eos_token"];

/// Marks the end of a message that the answer continues, while the template renders it: a noncharacter, which no text has.
const END: char = '\u{FDD2}';

/// The prompt that the messages and tools make.
fn prompt(fields: &mut Fields, served: &Served, tools: &Tools) -> Result<Prompted, Problem> {
    let template = served
        .template
        .as_ref()
        .map_err(|why| Problem::field("messages", format_args!("the model cannot chat: {why}")))?;
    let list = fields.list("messages")?.ok_or_else(|| Problem::field("messages", "expected a list of messages"))?;
    let mut messages = messages(list, served)?;
    let mut variables = fields.object("chat_template_kwargs")?.unwrap_or_default();
    if let Some(name) = RESERVED.iter().find(|name| variables.contains_key(**name)) {
        return Err(Problem::field("chat_template_kwargs", format_args!("{name} is not for a request to set")));
    }
    if let Some(effort) = fields.take("reasoning_effort") {
        reasoning_effort(&effort, &mut variables)?;
    }
    if let Some(verbosity) = fields.word("verbosity", &["low", "medium", "high"])? {
        variables.entry("verbosity").or_insert(verbosity.into());
    }
    let source = template.source(tools.json.is_some()).map_err(|why| Problem::field("messages", why))?;
    let (format, ids) = (ChatFormat::of(source), CallIds::of(source));
    if let (Some(_), Err(why)) = (&tools.json, format.tools) {
        return Err(Problem::field("tools", why));
    }
    if !served.reads_system() {
        messages = fold_system(messages);
    }
    if ids == CallIds::Nine {
        shorten_ids(&mut messages);
    }
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
    let render = |messages: &[Message]| {
        template.render_chat(&served.tokenizer, messages, tools.json.as_ref(), generates, &variables)
    };
    let chat = render(&messages).or_else(|why| match with_text_arguments(&messages) {
        Some(messages) => render(&messages).map_err(|_| why),
        None => Err(why),
    });
    let mut chat = chat.map_err(|why| not_taken(&messages, &why, render))?;
    if continues {
        let Some(end) = chat.text().rfind(END) else {
            return Err(Problem::field("messages", "the template writes no message of the assistant that could go on"));
        };
        chat.truncate(end);
    }
    let off = |name: &&str| variables.get(*name) == Some(&json!(false));
    let off = ["enable_thinking", "thinking"].iter().any(off);
    let thinking = match (format.thinks(chat.text()), off) {
        // The template begins to think all the same: as llama-server does, that ends at once. Thoughts that a request begins go on.
        (true, true) if !continues => {
            chat.push(format.reasoning.map_or("", |reasoning| reasoning.close));
            Thinking::Off
        }
        (true, _) => Thinking::Begun,
        (false, true) => Thinking::Off,
        (false, false) => Thinking::Auto,
    };
    Ok(Prompted { chat, format, thinking, ids })
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
    let known = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
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

/// In chats, `logprobs` is a switch, and `top_logprobs` has the number.
pub fn top_logprobs(fields: &mut Fields) -> Result<(), Problem> {
    let top = fields.take("top_logprobs");
    match (fields.boolean("logprobs")?.unwrap_or_default(), top) {
        (true, Some(top)) => fields.put_as("logprobs", top, "top_logprobs"),
        (true, None) => fields.put("logprobs", 0),
        (false, Some(top)) if top != json!(0) => {
            return Err(Problem::field("top_logprobs", "expected logprobs: true beside it"));
        }
        (false, _) => {}
    }
    Ok(())
}
