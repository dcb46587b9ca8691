use crate::fields::shown;
use crate::form::{CACHE_CONTROL, Form};
use crate::{Fields, Problem};
use serde_json::{Value, json};
use trine_grammar::ToolChoice;
use trine_text::Tool;

/// A tool, with what of it the template may write.
const TOOL: Form = Form::Object(&[
    ("type", Form::Any),
    (
        "function",
        Form::Object(&[
            ("name", Form::Any),
            ("description", Form::Text),
            ("parameters", Form::Any),
            ("output_schema", Form::Map),
            ("strict", Form::Flag),
        ]),
    ),
    CACHE_CONTROL,
]);

/// The choice of one function.
const NAMED: Form = Form::Object(&[("type", Form::Any), ("function", Form::Object(&[("name", Form::Text)]))]);

/// A choice of tools by their names, of which the model may call no others.
const ALLOWED: Form = Form::Object(&[
    ("type", Form::Any),
    (
        "allowed_tools",
        Form::Object(&[
            ("mode", Form::Word(&["auto", "required"])),
            (
                "tools",
                Form::ListOf(&Form::Object(&[
                    ("type", Form::Word(&["function"])),
                    ("function", Form::Object(&[("name", Form::Text)])),
                ])),
            ),
        ]),
    ),
]);

/// The functions that a model may call.
#[derive(Debug, Default)]
pub struct Tools {
    /// All of them, as the template takes them; `None` without any.
    pub json: Option<Value>,
    /// Those that may be called.
    pub tools: Vec<Tool>,
    pub choice: ToolChoice,
    pub parallel: bool,
}

/// Takes `tools`, `tool_choice` and `parallel_tool_calls`.
///
/// # Errors
/// With the place of what is wrong.
pub fn tools(fields: &mut Fields) -> Result<Tools, Problem> {
    let mut list = fields.list("tools")?.unwrap_or_default();
    let mut tools: Vec<Tool> = Vec::with_capacity(list.len());
    for (i, value) in list.iter_mut().enumerate() {
        let place = format!("tools[{i}]");
        check_type(value, &place)?;
        TOOL.check(value, &place)?;
        if let Some(fields) = value.as_object_mut() {
            fields.remove(CACHE_CONTROL.0);
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
        if !parameters.is_null() {
            check_parameters(&parameters, &format!("{place}.function.parameters"))?;
        }
        tools.push(Tool { name: name.to_owned(), parameters, strict: function["strict"] == true });
    }
    let parallel = fields.boolean("parallel_tool_calls")?.unwrap_or(true);
    let choice = choice(fields.take("tool_choice"), &mut tools)?;
    if choice == ToolChoice::None || tools.is_empty() {
        return Ok(Tools { choice: ToolChoice::None, ..Tools::default() });
    }
    Ok(Tools { json: Some(Value::Array(list)), tools, choice, parallel })
}

/// Refuses a tool that is no function.
///
/// # Errors
/// With the reason.
pub fn check_type(tool: &Value, place: &str) -> Result<(), Problem> {
    let why = match tool["type"].as_str() {
        Some("function") => return Ok(()),
        Some("custom") => "a call is the JSON of a function's arguments, and no free text",
        _ => "there are no built-in tools",
    };
    Err(Problem::field(place, format_args!("expected type \"function\", found {}: {why}", shown(&tool["type"]))))
}

/// Refuses a schema that is no object's, as far as can be seen: arguments are an object.
///
/// # Errors
/// With the place.
pub fn check_parameters(schema: &Value, place: &str) -> Result<(), Problem> {
    match schema.is_object() && takes_objects(schema, schema, &mut 1000) {
        true => Ok(()),
        false => {
            let expected = "expected a JSON Schema of an object";
            Err(Problem::field(place, format_args!("{expected}, found {}", shown(schema))))
        }
    }
}

/// Whether a schema within `root` takes objects. It is believed to where it has more parts than `budget`.
fn takes_objects(schema: &Value, root: &Value, budget: &mut usize) -> bool {
    let Some(left) = budget.checked_sub(1) else { return true };
    *budget = left;
    let Some(fields) = schema.as_object() else { return *schema != Value::Bool(false) };
    fields.iter().all(|(name, value)| match (name.as_str(), value) {
        ("type", Value::String(kind)) => kind == "object",
        ("type", Value::Array(kinds)) => kinds.contains(&"object".into()),
        ("const", value) => value.is_object(),
        ("enum", Value::Array(values)) => values.iter().any(Value::is_object),
        ("anyOf" | "oneOf", Value::Array(any)) => any.iter().any(|schema| takes_objects(schema, root, budget)),
        ("allOf", Value::Array(all)) => all.iter().all(|schema| takes_objects(schema, root, budget)),
        ("$ref", Value::String(path)) => {
            let target = path.strip_prefix('#').and_then(|path| root.pointer(path));
            target.is_none_or(|schema| takes_objects(schema, root, budget))
        }
        _ => true,
    })
}

/// Which of the tools are to be called. Those that may not be are taken away.
fn choice(choice: Option<Value>, tools: &mut Vec<Tool>) -> Result<ToolChoice, Problem> {
    let wrong = |problem: String| Err(Problem::field("tool_choice", problem));
    let Some(choice) = choice else { return Ok(ToolChoice::Auto) };
    if choice["type"] == "allowed_tools" {
        return allowed(&choice, tools);
    }
    let name = choice["function"]["name"].as_str().filter(|_| choice["type"] == "function");
    match (choice.as_str(), name) {
        (Some("auto"), _) => Ok(ToolChoice::Auto),
        (Some("none"), _) => Ok(ToolChoice::None),
        (Some("required"), _) if tools.is_empty() => wrong("expected tools to choose from".to_owned()),
        (Some("required"), _) => Ok(ToolChoice::Required),
        (_, Some(name)) => {
            check_name(tools, name)?;
            NAMED.check(&choice, "tool_choice")?;
            Ok(ToolChoice::Named(name.to_owned()))
        }
        _ => Err(wrong_choice(&choice, &json!({"type": "function", "function": {"name": "..."}}))),
    }
}

fn check_name(tools: &[Tool], name: &str) -> Result<(), Problem> {
    match tools.iter().any(|tool| tool.name == name) {
        true => Ok(()),
        false => Err(Problem::field("tool_choice", format_args!("no tool is called {name:?}"))),
    }
}

/// A choice of `allowed_tools`: the prompt has the others, too, and no call may name them.
fn allowed(choice: &Value, tools: &mut Vec<Tool>) -> Result<ToolChoice, Problem> {
    ALLOWED.check(choice, "tool_choice")?;
    let inner = &choice["allowed_tools"];
    let names = inner["tools"].as_array().into_iter().flatten().map(|tool| tool["function"]["name"].as_str());
    let names = names.collect::<Option<Vec<&str>>>().filter(|names| !names.is_empty());
    let Some(names) = names else {
        return Err(Problem::field("tool_choice", "allowed_tools: expected tools, each with its name"));
    };
    names.iter().try_for_each(|name| check_name(tools, name))?;
    tools.retain(|tool| names.contains(&&*tool.name));
    Ok(if inner["mode"] == "required" { ToolChoice::Required } else { ToolChoice::Auto })
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
