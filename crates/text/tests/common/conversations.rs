//! What the shared chat templates write for an answer with tool calls: the reference for formats of calls.

#![allow(dead_code, reason = "each test uses some of it")]

use serde_json::{Map, Value, json};
use std::path::Path;
use trine_text::{ChatFormat, Template, Tool};

/// An answer as a template writes it.
pub struct Answer {
    pub format: ChatFormat,
    /// Whether the prompt before it opens thinking.
    pub thinking: bool,
    pub text: String,
    pub reasoning: String,
    pub content: String,
    /// Names and arguments.
    pub calls: Vec<(String, Value)>,
}

/// How a template differs from others in what it takes.
#[derive(Clone, Copy, PartialEq)]
enum Takes {
    /// Calls with arguments as an object.
    Calls,
    /// As many calls as one.
    OneCall,
    /// Arguments as a JSON text.
    Text,
    /// Neither: it writes no calls, or fails where it should.
    None,
}

/// What templates take that is not the rule.
const TAKES: &[(&str, Takes)] = &[
    // They call a method that changes a list, which the sandbox of transformers forbids.
    ("Kimi-K2-Instruct.jinja", Takes::None),
    ("Kimi-K2-Thinking.jinja", Takes::None),
    // Calls are part of the content that they take.
    ("LFM2-8B-A1B.jinja", Takes::None),
    ("LFM2.5-Instruct.jinja", Takes::None),
    ("ibm-granite-granite-3.3-2B-Instruct.jinja", Takes::None),
    ("GigaChat3-10B-A1.8B.jinja", Takes::OneCall),
    ("GigaChat3.1-10B-A1.8B.jinja", Takes::OneCall),
    ("meta-llama-Llama-3.1-8B-Instruct.jinja", Takes::OneCall),
    ("meta-llama-Llama-3.2-3B-Instruct.jinja", Takes::OneCall),
    ("meta-llama-Llama-3.3-70B-Instruct.jinja", Takes::OneCall),
    ("openai-gpt-oss-120b.jinja", Takes::OneCall),
    ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja", Takes::Text),
    ("meetkai-functionary-medium-v3.2.jinja", Takes::Text),
];

/// What ends an answer in a prompt.
const ENDS: &[&str] = &[
    "<|im_end|>",
    "</s>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>\n",
    "<|call|>",
    "<|calls|>",
    "<|END_OF_TURN_TOKEN|>",
    "\n<|START_OF_TURN_TOKEN|>",
    "<seed:eos>",
    "[e~[",
    "<SPECIAL_12>",
    "\n\n<sep>",
    "<｜end▁of▁sentence｜>",
    "<turn|>",
    "<|tool_response>",
    "<|end_of_text|>",
    "<|assistant_end|>",
];

pub fn tools() -> Value {
    let weather = json!({ "type": "object", "required": ["city"], "properties": {
        "city": { "type": "string", "description": "The city." },
        "days": { "type": "integer", "description": "How many." },
        "tags": { "type": "array", "items": { "type": "string" }, "description": "What for." },
        "unit": { "anyOf": [{ "enum": ["C", "F"] }, { "type": "null" }], "description": "Of the temperature." },
    }});
    let now = json!({ "type": "object", "properties": { "utc": { "type": "boolean", "description": "Which." } }, "required": [] });
    json!([
        { "type": "function", "function": { "name": "get_weather", "description": "The weather.", "parameters": weather } },
        { "type": "function", "function": { "name": "now", "description": "The time.", "parameters": now } },
    ])
}

pub fn functions() -> Vec<Tool> {
    let of = |tool: &Value| Tool {
        name: tool["function"]["name"].as_str().unwrap().to_owned(),
        parameters: tool["function"]["parameters"].clone(),
        strict: true,
    };
    tools().as_array().unwrap().iter().map(of).collect()
}

/// The files of the shared templates.
pub fn files(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = files.filter(|file| file.ends_with(".jinja")).collect();
    files.sort();
    files
}

/// Calls with all kinds of values.
pub fn usual() -> Vec<Vec<(String, Value)>> {
    let weather = json!({ "city": "Pa\"ris\n<x> \\", "days": 3, "tags": ["a", "it's"] });
    [
        vec![("get_weather", weather), ("now", json!({ "utc": true })), ("now", json!({}))],
        vec![("get_weather", json!({ "city": "Zürich ", "unit": "C" }))],
        vec![("get_weather", json!({ "city": "", "unit": null }))],
    ]
    .map(|calls| calls.into_iter().map(|(name, arguments)| (name.to_owned(), arguments)).collect())
    .to_vec()
}

/// What a template writes for answers with these calls, with thinking and content or without.
pub fn answers(folder: &Path, file: &str, calls: &[Vec<(String, Value)>]) -> Vec<Answer> {
    let source = std::fs::read_to_string(folder.join(file)).unwrap();
    let format = ChatFormat::of(&source);
    let takes = TAKES.iter().find(|(name, _)| *name == file).map_or(Takes::Calls, |(_, takes)| *takes);
    if format.tools.is_err() || takes == Takes::None {
        return Vec::new();
    }
    let template = Template::new(&source, "<s>", "</s>").unwrap();
    let mut answers = Vec::new();
    for calls in calls {
        for (reasoning, content) in [("", ""), ("I think.", ""), ("", "Let me see.")] {
            let calls = match takes {
                Takes::OneCall => &calls[..1],
                // The template ends the section with the second.
                _ if file.contains("R1-Distill-Llama") => &calls[..calls.len().min(2)],
                _ => &calls[..],
            };
            answers.extend(answer(&template, file, format, takes, calls, (reasoning, content)));
        }
    }
    assert!(!answers.is_empty(), "{file}");
    answers
}

fn answer(
    template: &Template,
    file: &str,
    format: ChatFormat,
    takes: Takes,
    calls: &[(String, Value)],
    (reasoning, content): (&str, &str),
) -> Option<Answer> {
    let user = json!({ "role": "user", "content": "Q?" });
    let call = |(i, (name, arguments)): (usize, &(String, Value))| {
        let arguments = if takes == Takes::Text { arguments.to_string().into() } else { arguments.clone() };
        json!({ "type": "function", "id": format!("call1234{i}"), "function": { "name": name, "arguments": arguments } })
    };
    let calls_written: Vec<Value> = calls.iter().enumerate().map(call).collect();
    let mut message = json!({ "role": "assistant", "content": content, "tool_calls": calls_written });
    if file.contains("R1-Distill-Llama") && content.is_empty() {
        message["content"] = Value::Null;
    }
    for name in ["reasoning_content", "reasoning", "thinking"].iter().filter(|_| !reasoning.is_empty()) {
        message[name] = reasoning.into();
    }
    let mut extra = Map::new();
    extra.insert("datetime".to_owned(), "now".into());
    extra.insert("functions".to_owned(), "[]".into());
    // It fails to write tools in a prompt.
    let tools = Some(tools()).filter(|_| file != "llama-cpp-deepseek-r1.jinja");
    let render = |messages: Value, prompt: bool| {
        let text = template
            .render(&messages, tools.as_ref(), prompt, &extra)
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        text[text.rfind("Q?").unwrap() + 2..].to_owned()
    };
    let prompt = render(json!([user]), true);
    let all = render(json!([user, message]), false);
    let (mut header, mut thinking) = (prompt.as_str(), format.thinks(&prompt));
    if !all.starts_with(header) {
        let starts = [format.reasoning.map_or("", |format| format.open), format.content.prompted];
        for start in starts.iter().filter(|start| !start.is_empty()) {
            header = header.rfind(start.trim_end()).map_or(header, |at| &header[..at]);
        }
        header = header.trim_end();
        // Apriel's prompt begins thinking with a sentence that is not written again.
        let (open, close) = format.reasoning.map_or(("", ""), |format| (format.open, format.close));
        thinking = format.thinks(&prompt) && all.contains(close) && !all.contains(open.trim_end());
    }
    // Command R's prompt has its instructions between the last message and the answer.
    let text = all.strip_prefix(header).or_else(|| Some(all.split_once("<|CHATBOT_TOKEN|>")?.1));
    let text = text.unwrap_or_else(|| panic!("{file}: {header:?} is not the beginning of {all:?}"));
    let mut text = text.strip_prefix(format.content.prompted).unwrap_or(text);
    // DeepSeek's templates write thinking closed before each answer.
    for closed in ["<think></think>", "</think>"] {
        text = text.strip_prefix(closed).filter(|_| !thinking && file.contains("DeepSeek")).unwrap_or(text);
    }
    // It is between messages of one answer, too.
    text = text.strip_suffix("<|message_sep|>\n\n").unwrap_or(text);
    let end = ENDS.iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
    let mut found = &text[..end];
    if format.content.name == "harmony" {
        found = &text[..text.find("<|call|>").unwrap()];
    }
    let has = |part: &str| if !part.is_empty() && found.contains(part) { part.to_owned() } else { String::new() };
    // gpt-oss takes content beside calls for thinking.
    let content_is_thinking = format.content.name == "harmony" && reasoning.is_empty();
    let (reasoning, content) =
        if content_is_thinking { (has(content), String::new()) } else { (has(reasoning), has(content)) };
    // A message of content and calls that are written as two.
    if !found.contains(&calls[0].0) {
        return None;
    }
    Some(Answer { format, thinking, text: found.to_owned(), reasoning, content, calls: calls.to_vec() })
}
