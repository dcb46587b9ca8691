use crate::fields::shown;
use crate::{Fields, Problem};
use serde_json::{Value, json};
use trine_grammar::ToolChoice;
use trine_text::Tool;

/// The functions that a model may call.
#[derive(Debug, Default)]
pub struct Tools {
    /// As the template takes them; `None` without any.
    pub json: Option<Value>,
    pub tools: Vec<Tool>,
    pub choice: ToolChoice,
    pub parallel: bool,
}

/// Takes `tools`, `tool_choice` and `parallel_tool_calls`.
///
/// # Errors
/// With the place of what is wrong.
pub fn tools(fields: &mut Fields) -> Result<Tools, Problem> {
    let list = fields.list("tools")?.unwrap_or_default();
    let mut tools: Vec<Tool> = Vec::with_capacity(list.len());
    for (i, value) in list.iter().enumerate() {
        let place = format!("tools[{i}]");
        if value["type"] != "function" {
            let found = shown(&value["type"]);
            let problem = format!("expected type \"function\", found {found}: there are no built-in tools");
            return Err(Problem::field(&place, problem));
        }
        let function = &value["function"];
        let Some(name) = function["name"].as_str().filter(|name| is_name(name)) else {
            let expected = "expected a function whose name has letters, digits, _, . and -";
            return Err(Problem::field(&place, format_args!("{expected}, found {}", shown(&function["name"]))));
        };
        if tools.iter().any(|tool| tool.name == name) {
            return Err(Problem::field(&place, format_args!("an earlier tool is called {name:?}, too")));
        }
        let parameters = function["parameters"].clone();
        if !parameters.is_object() && !parameters.is_null() {
            return Err(Problem::field(
                &place,
                format_args!("parameters: expected a JSON Schema, found {}", shown(&parameters)),
            ));
        }
        tools.push(Tool { name: name.to_owned(), parameters, strict: function["strict"] == true });
    }
    let parallel = fields.boolean("parallel_tool_calls")?.unwrap_or(true);
    let choice = choice(fields.take("tool_choice"), &tools)?;
    if choice == ToolChoice::None || tools.is_empty() {
        return Ok(Tools { choice: ToolChoice::None, ..Tools::default() });
    }
    Ok(Tools { json: Some(Value::Array(list)), tools, choice, parallel })
}

fn choice(choice: Option<Value>, tools: &[Tool]) -> Result<ToolChoice, Problem> {
    let wrong = |problem: String| Err(Problem::field("tool_choice", problem));
    let Some(choice) = choice else { return Ok(ToolChoice::Auto) };
    let name = choice["function"]["name"].as_str().filter(|_| choice["type"] == "function");
    match (choice.as_str(), name) {
        (Some("auto"), _) => Ok(ToolChoice::Auto),
        (Some("none"), _) => Ok(ToolChoice::None),
        (Some("required"), _) if tools.is_empty() => wrong("expected tools to choose from".to_owned()),
        (Some("required"), _) => Ok(ToolChoice::Required),
        (_, Some(name)) if tools.iter().any(|tool| tool.name == name) => Ok(ToolChoice::Named(name.to_owned())),
        (_, Some(name)) => wrong(format!("no tool is called {name:?}")),
        _ => Err(wrong_choice(&choice, &json!({"type": "function", "function": {"name": "..."}}))),
    }
}

/// The problem of a `tool_choice` that has none of the forms of a protocol, which writes the choice of a function as `form`.
pub fn wrong_choice(choice: &Value, form: &Value) -> Problem {
    let expected = format_args!("expected \"auto\", \"none\", \"required\" or {form}, found {}", shown(choice));
    Problem::field("tool_choice", expected)
}

/// Names as OpenAI has them, and those of servers whose names have points.
fn is_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte);
    !name.is_empty() && name.len() <= 128 && name.bytes().all(known)
}
