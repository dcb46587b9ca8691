//! The items of a response's input, as messages of a chat.

use super::tools::name_of;
use crate::Problem;
use crate::chat::{Calls, REFUSAL_PART, TEXT_PART};
use crate::fields::{kind, shown};
use crate::form::Form;
use serde_json::{Value, json};

/// What every item may say of itself.
const ID: (&str, Form) = ("id", Form::Text);
const STATUS: (&str, Form) = ("status", Form::Word(&["in_progress", "completed", "incomplete"]));
const TYPE: (&str, Form) = ("type", Form::Text);

/// What items of each type say.
const ITEMS: &[(&str, Form)] = &[
    ("message", Form::Object(&[("role", Form::Text), ("content", Form::Any), ("phase", Form::Text), TYPE, ID, STATUS])),
    (
        "reasoning",
        Form::Object(&[
            ("content", Form::Any),
            ("summary", Form::Any),
            ("encrypted_content", Form::Text),
            TYPE,
            ID,
            STATUS,
        ]),
    ),
    (
        "function_call",
        Form::Object(&[
            ("call_id", Form::Text),
            ("caller", Form::Map),
            ("namespace", Form::Text),
            ("name", Form::Text),
            ("arguments", Form::Any),
            ("parsed_arguments", Form::Any),
            TYPE,
            ID,
            STATUS,
        ]),
    ),
    (
        "function_call_output",
        Form::Object(&[
            ("call_id", Form::Text),
            ("caller", Form::Map),
            ("namespace", Form::Text),
            ("name", Form::Text),
            ("output", Form::Any),
            TYPE,
            ID,
            STATUS,
        ]),
    ),
];

/// The messages of a chat.
#[derive(Default)]
pub struct Input {
    pub messages: Vec<Value>,
    /// Places in the messages, and those in the body that they came from.
    pub places: Vec<(String, String)>,
    calls: Calls,
}

impl Input {
    /// Adds a message that is from one place of the body.
    pub fn push(&mut self, message: Value, own: &str) {
        let place = format!("messages[{}]", self.messages.len());
        let content = if own.starts_with("input[") { format!("{own}.content") } else { own.to_owned() };
        self.places.extend([(format!("{place}.content"), content), (place, own.to_owned())]);
        self.messages.push(message);
    }

    /// The place in the body of what is here in the last message.
    fn place(&mut self, inner: &str, own: String) {
        let last = self.messages.len().saturating_sub(1);
        self.places.push((format!("messages[{last}].{inner}"), own));
    }

    /// The message of the assistant that an item of the body belongs to: the last one, unless that has one of these fields already, or is
    /// none of the assistant's items.
    fn assistant(&mut self, own: &str, taken: &[&str]) -> &mut Value {
        let open = self.messages.last().is_some_and(|last| last["role"] == "assistant");
        if !open || taken.iter().any(|field| self.messages.last().is_some_and(|last| last.get(field).is_some())) {
            self.push(json!({"role": "assistant"}), own);
        }
        self.messages.last_mut().expect("there is one now")
    }

    /// Adds the items of the input. Thoughts, content and calls that follow each other are one message of the assistant.
    pub fn read(&mut self, input: Value) -> Result<(), Problem> {
        let items = match input {
            Value::String(text) => {
                self.push(json!({"role": "user", "content": text}), "input");
                return Ok(());
            }
            Value::Array(items) => items,
            other => {
                let expected = format_args!("expected a string or a list of items, found {}", kind(&other));
                return Err(Problem::field("input", expected));
            }
        };
        for (i, item) in items.into_iter().enumerate() {
            self.item(&item, &format!("input[{i}]"))?;
        }
        Ok(())
    }

    fn item(&mut self, item: &Value, own: &str) -> Result<(), Problem> {
        let Some(fields) = item.as_object() else {
            return Err(Problem::field(own, format_args!("expected an object, found {}", kind(item))));
        };
        let name = fields.get("type").filter(|name| !name.is_null()).map_or(Some("message"), Value::as_str);
        let Some((name, form)) = ITEMS.iter().find(|(known, _)| name == Some(known)) else {
            let expected = "expected a message, function_call, function_call_output or reasoning";
            return Err(Problem::field(own, format_args!("{expected}, found {}", shown(&item["type"]))));
        };
        form.check(item, own)?;
        for list in ["content", "summary", "output"] {
            check_parts(&item[list], &format!("{own}.{list}"))?;
        }
        match *name {
            "message" if item["role"] == "assistant" => {
                self.assistant(own, &["content", "tool_calls"])["content"] = joined(&item["content"]);
                self.place("content", format!("{own}.content"));
            }
            "message" => self.push(json!({"role": item["role"], "content": item["content"]}), own),
            "reasoning" => {
                let parts = ["content", "summary"].map(|list| texts(&item[list], &format!("{own}.{list}")));
                let [content, summary] = parts;
                let text = content?.or(summary?).unwrap_or_default().join("\n");
                if !text.is_empty() {
                    self.push(json!({"role": "assistant", "reasoning_content": text}), own);
                }
            }
            "function_call" | "function_call_output" if item["call_id"].is_null() => {
                return Err(Problem::field(&format!("{own}.call_id"), "expected the id of the call"));
            }
            "function_call" => {
                if self.messages.last().is_none_or(|last| last["role"] != "assistant") {
                    self.calls.begin_message();
                }
                self.calls.add(&item["call_id"], &format!("{own}.call_id"))?;
                let function = json!({"name": name_of(item), "arguments": item["arguments"]});
                let call = json!({"id": item["call_id"], "type": "function", "function": function});
                let message = self.assistant(own, &[]);
                let calls = message["tool_calls"].as_array().map_or(0, Vec::len);
                match message["tool_calls"].as_array_mut() {
                    Some(calls) => calls.push(call),
                    None => message["tool_calls"] = json!([call]),
                }
                for inner in ["", ".function"] {
                    self.place(&format!("tool_calls[{calls}]{inner}"), own.to_owned());
                }
            }
            "function_call_output" => {
                self.calls.check_result(&item["call_id"], &format!("{own}.call_id"))?;
                let content = joined(&item["output"]);
                self.push(json!({"role": "tool", "tool_call_id": item["call_id"], "content": content}), own);
                self.place("content", format!("{own}.output"));
            }
            name => unreachable!("{name} is none of the items"),
        }
        Ok(())
    }
}

/// Refuses texts that say more than what parts of this API say.
fn check_parts(parts: &Value, place: &str) -> Result<(), Problem> {
    let parts = parts.as_array().into_iter().flatten().enumerate();
    parts.filter(|(_, part)| text(part).is_some()).try_for_each(|(i, part)| {
        let form = if part["type"] == "refusal" { REFUSAL_PART } else { TEXT_PART };
        form.check(part, &format!("{place}[{i}]"))
    })
}

/// The text of a part, if it is one.
fn text(part: &Value) -> Option<&str> {
    match part["type"].as_str()? {
        "text" | "input_text" | "output_text" | "reasoning_text" | "summary_text" => part["text"].as_str(),
        "refusal" => part["refusal"].as_str(),
        _ => None,
    }
}

/// The texts of a list of parts, of which all have to be text; `None` if there is none.
fn texts<'a>(parts: &'a Value, place: &str) -> Result<Option<Vec<&'a str>>, Problem> {
    let Value::Array(parts) = parts else {
        let wrong = || Problem::field(place, format_args!("expected a list of parts, found {}", kind(parts)));
        return if parts.is_null() { Ok(None) } else { Err(wrong()) };
    };
    if let Some(i) = parts.iter().position(|part| text(part).is_none()) {
        let expected = format_args!("expected a part with its type and text, found {}", shown(&parts[i]));
        return Err(Problem::field(&format!("{place}[{i}]"), expected));
    }
    let texts: Vec<&str> = parts.iter().filter_map(text).collect();
    Ok(Some(texts).filter(|texts| !texts.is_empty()))
}

/// The text of parts, where all are text: what is not is refused later by its place.
fn joined(content: &Value) -> Value {
    match texts(content, "") {
        Ok(Some(texts)) => texts.concat().into(),
        _ => content.clone(),
    }
}
