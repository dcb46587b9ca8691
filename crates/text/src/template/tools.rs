//! Definitions of tools, as templates take them.

use serde_json::{Value, json};

/// The same tools with what OpenAI's API lets a function leave out, and some templates read nevertheless: descriptions, of it and of its
/// parameters, and a schema.
pub(super) fn completed(tools: &Value) -> Value {
    let mut tools = tools.clone();
    for tool in tools.as_array_mut().into_iter().flatten() {
        let function = if tool["function"].is_object() { &mut tool["function"] } else { tool };
        fill(function, "description", json!(""));
        fill(function, "parameters", json!({}));
        let Some(parameters) = function.get_mut("parameters") else { continue };
        fill(parameters, "type", json!("object"));
        fill(parameters, "properties", json!({}));
        fill(parameters, "required", json!([]));
        let properties = parameters.get_mut("properties").and_then(Value::as_object_mut);
        for parameter in properties.into_iter().flat_map(|properties| properties.values_mut()) {
            fill(parameter, "description", json!(""));
        }
    }
    tools
}

/// Adds a field to an object that has none, or null.
fn fill(object: &mut Value, name: &str, value: Value) {
    if let Some(fields) = object.as_object_mut()
        && fields.get(name).is_none_or(Value::is_null)
    {
        fields.insert(name.to_owned(), value);
    }
}
