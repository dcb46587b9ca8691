//! Functions as OpenAI's chats called them before there were tools: one call in an answer, without an id.

use crate::fields::shown;
use crate::{Fields, Problem};
use serde_json::{Map, Value, json};

/// Makes tools of the former fields; whether the answer calls functions in the former way.
///
/// # Errors
/// When the body has the fields of tools, too, or one is wrong.
pub fn former(fields: &mut Fields) -> Result<bool, Problem> {
    if let Some(messages) = fields.list("messages")? {
        let mut calls = 0;
        let messages = messages.into_iter().map(|message| message_of(message, &mut calls));
        let messages: Vec<Value> = messages.collect();
        fields.put("messages", messages);
    }
    let functions = fields.list("functions")?;
    let Some(functions) = functions else {
        fields.refuse(&[("function_call", "expected functions beside it")])?;
        return Ok(false);
    };
    let tools = functions.into_iter().map(|function| json!({"type": "function", "function": function}));
    fields.put_new("tools", tools.collect::<Vec<_>>(), "functions")?;
    let choice = match fields.take("function_call") {
        None => return once(fields),
        Some(Value::String(word)) if ["auto", "none"].contains(&word.as_str()) => word.into(),
        Some(choice) if choice["name"].is_string() => json!({"type": "function", "function": choice}),
        Some(found) => {
            let expected = format_args!(r#"expected "auto", "none" or {{"name":"..."}}, found {}"#, shown(&found));
            return Err(Problem::field("function_call", expected));
        }
    };
    fields.put_new("tool_choice", choice, "function_call")?;
    once(fields)
}

/// There is one call in an answer.
fn once(fields: &mut Fields) -> Result<bool, Problem> {
    fields.put_new("parallel_tool_calls", false, "functions")?;
    Ok(true)
}

/// A message in the words of tools: a call has the id of its number, and so has the result after it.
fn message_of(mut message: Value, calls: &mut usize) -> Value {
    let id = |number: usize| format!("call_{number}");
    let Some(fields) = message.as_object_mut() else { return message };
    if let Some(function) = fields.remove("function_call").filter(|function| !function.is_null()) {
        *calls += 1;
        let call = json!({"id": id(*calls), "type": "function", "function": function});
        fields.insert("tool_calls".to_owned(), json!([call]));
    }
    if fields.get("role") == Some(&json!("function")) {
        fields.insert("role".to_owned(), "tool".into());
        fields.insert("tool_call_id".to_owned(), id(*calls).into());
    }
    message
}

/// A message, or what a chunk adds to one, with its call in the former way.
pub fn with_former_call(mut message: Value) -> Value {
    let Some(fields) = message.as_object_mut() else { return message };
    if let Some(Value::Array(calls)) = fields.remove("tool_calls") {
        let mut call = Map::new();
        let parts = |name: &str| calls.iter().filter_map(|part| part["function"][name].as_str()).collect::<String>();
        let name = parts("name");
        if !name.is_empty() {
            call.insert("name".to_owned(), name.into());
        }
        call.insert("arguments".to_owned(), parts("arguments").into());
        fields.insert("function_call".to_owned(), call.into());
    }
    message
}

/// Why an answer ended that calls a function in the former way.
pub fn former_end(reason: &'static str) -> &'static str {
    if reason == "tool_calls" { "function_call" } else { reason }
}
