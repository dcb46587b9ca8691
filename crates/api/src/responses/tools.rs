//! The tools of a response, of which those in a namespace are called by two names.

use crate::Problem;
use crate::chat::{check_type, wrong_choice};
use crate::fields::check_len;
use crate::form::Form;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const FUNCTION: Form = Form::Object(&[
    ("type", Form::Any),
    ("name", Form::Any),
    ("description", Form::Text),
    ("parameters", Form::Any),
    ("output_schema", Form::Map),
    ("strict", Form::Flag),
    ("defer_loading", Form::Only(&["false"], "the model is told of all tools at once")),
    ("allowed_callers", Form::Only(&["[\"direct\"]"], "no program calls tools here")),
]);

const NAMESPACE: Form =
    Form::Object(&[("type", Form::Any), ("name", Form::Any), ("description", Form::Text), ("tools", Form::Any)]);

/// The choice of one function.
const NAMED: Form =
    Form::Object(&[("type", Form::Word(&["function"])), ("name", Form::Text), ("namespace", Form::Text)]);

const ALLOWED: Form =
    Form::Object(&[("type", Form::Any), ("mode", Form::Word(&["auto", "required"])), ("tools", Form::ListOf(&NAMED))]);

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

/// Places in the words of chats, and those in the body.
pub type Places = Vec<(String, String)>;

/// The functions of a list, in the words of chats, the names of those in a namespace, and their places.
///
/// # Errors
/// With the place of what is no function.
pub fn tools(list: &[Value]) -> Result<(Value, Names, Places), Problem> {
    let (mut tools, mut names, mut places) = (Vec::new(), Names::new(), Places::new());
    let mut push = |tool: Value, own: &str| {
        let place = format!("tools[{}]", tools.len());
        places.extend([(format!("{place}.function"), own.to_owned()), (place, own.to_owned())]);
        tools.push(tool);
    };
    for (i, value) in list.iter().enumerate() {
        let place = format!("tools[{i}]");
        if value["type"] != "namespace" {
            push(tool(value.clone(), &place)?, &place);
            continue;
        }
        NAMESPACE.check(value, &place)?;
        let (Some(namespace), Some(inner)) = (value["name"].as_str(), value["tools"].as_array()) else {
            return Err(Problem::field(&place, "expected a namespace with its name and tools"));
        };
        check_len("tools", &value["tools"])?;
        for (j, function) in inner.iter().enumerate() {
            let place = format!("{place}.tools[{j}]");
            let mut function = tool(function.clone(), &place)?;
            let function_name = function["function"]["name"].clone();
            let name = name_of(&json!({"namespace": namespace, "name": function_name}));
            if let (Value::String(name), Value::String(own)) = (&name, function_name) {
                names.insert(name.clone(), (namespace.to_owned(), own));
            }
            function["function"]["name"] = name;
            push(function, &place);
        }
    }
    Ok((tools.into(), names, places))
}

fn tool(mut function: Value, place: &str) -> Result<Value, Problem> {
    check_type(&function, place)?;
    FUNCTION.check(&function, place)?;
    if let Some(fields) = function.as_object_mut() {
        fields.retain(|name, _| !["type", "defer_loading", "allowed_callers"].contains(&name.as_str()));
    }
    Ok(json!({"type": "function", "function": function}))
}

/// A tool as a response repeats it, with what holds where the request says nothing.
pub fn repeated(mut tool: Value) -> Value {
    if let Some(fields) = tool.as_object_mut().filter(|fields| fields.get("type") == Some(&json!("function"))) {
        for (name, default) in [("description", Value::Null), ("parameters", Value::Null), ("strict", json!(false))] {
            let value = fields.entry(name).or_insert(Value::Null);
            if value.is_null() {
                *value = default;
            }
        }
    }
    tool
}

/// A `tool_choice` in the words of chats.
///
/// # Errors
/// When it has none of its forms here.
pub fn choice(choice: &Value) -> Result<Value, Problem> {
    let function = |choice: &Value| json!({"type": "function", "function": {"name": name_of(choice)}});
    match choice["type"].as_str() {
        Some("function") if choice["name"].is_string() => {
            NAMED.check(choice, "tool_choice")?;
            Ok(function(choice))
        }
        Some("allowed_tools") => {
            ALLOWED.check(choice, "tool_choice")?;
            let tools: Vec<Value> = choice["tools"].as_array().into_iter().flatten().map(function).collect();
            Ok(json!({"type": "allowed_tools", "allowed_tools": {"mode": choice["mode"], "tools": tools}}))
        }
        None if matches!(choice.as_str(), Some("auto" | "none" | "required")) => Ok(choice.clone()),
        _ => Err(wrong_choice(choice, &json!({"type": "function", "name": "..."}))),
    }
}
