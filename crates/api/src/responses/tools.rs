//! The tools of a response, of which those in a namespace are called by two names.

use crate::Problem;
use crate::chat::wrong_choice;
use crate::fields::{check_len, only_known, shown};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Namespaces and names of functions, by the one name that the model knows them by.
pub type Names = BTreeMap<String, (String, String)>;

/// The one name of a function, a call or a choice, which may have a namespace.
pub fn name_of(value: &Value) -> Value {
    match (value["namespace"].as_str().unwrap_or_default(), value["name"].as_str()) {
        ("", _) | (_, None) => value["name"].clone(),
        // Codex's namespaces of MCP servers are `mcp__server__`.
        (namespace, Some(name)) => format!("{}__{name}", namespace.trim_end_matches('_')).into(),
    }
}

/// The functions of a list, in the words of chats, and the names of those in a namespace.
///
/// # Errors
/// With the place of what is no function.
pub fn tools(list: &[Value]) -> Result<(Value, Names), Problem> {
    let (mut tools, mut names) = (Vec::new(), Names::new());
    for (i, value) in list.iter().enumerate() {
        let place = format!("tools[{i}]");
        if value["type"] != "namespace" {
            tools.push(tool(value.clone(), &place)?);
            continue;
        }
        let (Some(namespace), Some(inner)) = (value["name"].as_str(), value["tools"].as_array()) else {
            return Err(Problem::field(&place, "expected a namespace with its name and tools"));
        };
        check_len("tools", &value["tools"])?;
        for (j, function) in inner.iter().enumerate() {
            let mut function = tool(function.clone(), &format!("{place}.tools[{j}]"))?;
            let function_name = function["function"]["name"].clone();
            let name = name_of(&json!({"namespace": namespace, "name": function_name}));
            if let (Value::String(name), Value::String(own)) = (&name, function_name) {
                names.insert(name.clone(), (namespace.to_owned(), own));
            }
            function["function"]["name"] = name;
            tools.push(function);
        }
    }
    Ok((tools.into(), names))
}

fn tool(mut function: Value, place: &str) -> Result<Value, Problem> {
    if function["type"] != "function" {
        let found = shown(&function["type"]);
        let problem = format!("expected type \"function\", found {found}: there are no built-in tools");
        return Err(Problem::field(place, problem));
    }
    if let Some(fields) = function.as_object_mut() {
        fields.remove("type");
    }
    Ok(json!({"type": "function", "function": function}))
}

/// A `tool_choice` in the words of chats.
///
/// # Errors
/// When it has none of its forms here.
pub fn choice(choice: &Value) -> Result<Value, Problem> {
    match choice["type"].as_str() {
        Some("function") if choice["name"].is_string() => {
            only_known(choice, "tool_choice", &["type", "name", "namespace"])?;
            Ok(json!({"type": "function", "function": {"name": name_of(choice)}}))
        }
        None if matches!(choice.as_str(), Some("auto" | "none" | "required")) => Ok(choice.clone()),
        _ => Err(wrong_choice(choice, &json!({"type": "function", "name": "..."}))),
    }
}
