//! Functions as OpenAI's chats called them before there were tools: one call in an answer, without an id.

use crate::fields::shown;
use crate::{Fields, Problem};
use serde_json::{Map, Value, json};

/// A body with functions in the words of tools.
#[derive(Default)]
pub struct Former {
    /// Whether the answer calls functions in the former way.
    pub calls: bool,
    /// Places in the words of tools, and those in the body.
    pub places: Vec<(String, String)>,
}

/// Makes tools of the former fields.
///
/// # Errors
/// When the body has the fields of tools, too, or one is wrong.
pub fn former(fields: &mut Fields) -> Result<Former, Problem> {
    let mut former = Former::default();
    if let Some(mut messages) = fields.list("messages")? {
        let mut calls = Vec::new();
        for (i, message) in messages.iter_mut().enumerate() {
            message_of(message, &format!("messages[{i}]"), &mut calls, &mut former.places)?;
        }
        fields.put("messages", messages);
    }
    let functions = fields.list("functions")?;
    let Some(functions) = functions else {
        fields.refuse(&[("function_call", "expected functions beside it")])?;
        return Ok(former);
    };
    if functions.is_empty() {
        return Err(Problem::field("functions", "expected at least one"));
    }
    for i in 0..functions.len() {
        let own = format!("functions[{i}]");
        former.places.extend([(format!("tools[{i}].function"), own.clone()), (format!("tools[{i}]"), own)]);
    }
    let names = [("tools", "functions"), ("tool_choice.function", "function_call"), ("tool_choice", "function_call")];
    former.places.extend(names.map(|(name, own)| (name.to_owned(), own.to_owned())));
    let tools = functions.into_iter().map(|function| json!({"type": "function", "function": function}));
    fields.put_new("tools", tools.collect::<Vec<_>>(), "functions")?;
    let choice = match fields.take("function_call") {
        None => None,
        Some(Value::String(word)) if ["auto", "none"].contains(&word.as_str()) => Some(word.into()),
        Some(choice) if choice["name"].is_string() => Some(json!({"type": "function", "function": choice})),
        Some(found) => {
            let expected = format_args!(r#"expected "auto", "none" or {{"name":"..."}}, found {}"#, shown(&found));
            return Err(Problem::field("function_call", expected));
        }
    };
    choice.map_or(Ok(()), |choice| fields.put_new("tool_choice", choice, "function_call"))?;
    // There is one call in an answer.
    fields.put_new("parallel_tool_calls", false, "functions")?;
    Ok(Former { calls: true, ..former })
}

/// Writes a message in the words of tools. `calls` are the names of the functions that were called so far: a call has the id of its number, and
/// a result that of the last call of its name.
fn message_of(
    message: &mut Value,
    place: &str,
    calls: &mut Vec<Value>,
    places: &mut Vec<(String, String)>,
) -> Result<(), Problem> {
    let id = |number: usize| format!("call_{number}");
    let Some(fields) = message.as_object_mut() else { return Ok(()) };
    if let Some(function) = fields.remove("function_call").filter(|function| !function.is_null()) {
        let own = format!("{place}.function_call");
        if fields.get("tool_calls").is_some_and(|calls| !calls.is_null()) {
            return Err(Problem::field(&own, "expected none beside tool_calls"));
        }
        calls.push(function["name"].clone());
        let call = json!({"id": id(calls.len()), "type": "function", "function": function});
        fields.insert("tool_calls".to_owned(), json!([call]));
        let inner = ["tool_calls[0].function", "tool_calls[0]"];
        places.extend(inner.map(|inner| (format!("{place}.{inner}"), own.clone())));
    }
    if fields.get("role") == Some(&json!("function")) {
        let own = format!("{place}.name");
        let Some(name) = fields.get("name").filter(|name| name.is_string()) else {
            return Err(Problem::field(&own, "expected the name of a function"));
        };
        let Some(at) = calls.iter().rposition(|called| called == name) else {
            return Err(Problem::field(&own, format_args!("expected a function_call of {name} before its result")));
        };
        fields.insert("role".to_owned(), "tool".into());
        fields.insert("tool_call_id".to_owned(), id(at + 1).into());
    }
    Ok(())
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
