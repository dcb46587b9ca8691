//! The fields of requests that say what form an answer has.

use crate::fields::{kind, shown};
use crate::form::Form;
use crate::{Fields, Problem};
use serde_json::{Map, Value, json};
use trine_engine::Sampling;
use trine_grammar::Constraint;

/// vLLM's former fields, by what `structured_outputs` has in their place.
const GUIDED: &[(&str, &str)] =
    &[("guided_json", "json"), ("guided_regex", "regex"), ("guided_choice", "choice"), ("guided_grammar", "grammar")];

/// Takes the fields that constrain answers: OpenAI's `response_format`, vLLM's `structured_outputs`, and llama-server's `json_schema` and
/// `grammar`. The second is the field that says so.
///
/// # Errors
/// When several do, or one is wrong.
pub fn constraint(fields: &mut Fields) -> Result<Option<(&'static str, Constraint)>, Problem> {
    let mut found = Vec::new();
    if let Some(format) = fields.take("response_format") {
        let name = fields.own_name("response_format");
        found.extend(response_format(&format)?.map(|constraint| (name, constraint)));
    }
    if let Some(outputs) = fields.object("structured_outputs")? {
        found.push(("structured_outputs", structured_outputs(outputs)?));
    }
    for (name, key) in GUIDED {
        if let Some(value) = fields.take(name) {
            found.push((name, structured_output(name, key, &value)?));
        }
    }
    if let Some(schema) = fields.take("json_schema") {
        found.push((fields.own_name("json_schema"), json_schema("json_schema", &schema)?));
    }
    if let Some(grammar) = fields.string("grammar")?.filter(|grammar| !grammar.is_empty()) {
        found.push(("grammar", Constraint::grammar(grammar)));
    }
    match &found[..] {
        [(first, _), (second, _), ..] => {
            Err(Problem::field(second, format_args!("{first} says what form answers have")))
        }
        _ => Ok(found.pop()),
    }
}

/// Leaves it to a constraint where answers end.
///
/// # Errors
/// When the request says so, too.
pub fn ends(field: &str, fields: &Fields, sampling: Sampling) -> Result<Sampling, Problem> {
    let why = format!("with {field}, which says where answers end");
    if sampling.ignore_eos {
        return Err(Problem::field("ignore_eos", format_args!("expected false {why}")));
    }
    let empty = [json!([]), json!("")];
    for name in ["stop", "stop_token_ids"] {
        if fields.get(name).is_some_and(|stop| !empty.contains(stop)) {
            return Err(Problem::field(fields.own_name(name), format_args!("expected none {why}")));
        }
    }
    Ok(sampling.without_stops())
}

/// What `response_format` has beside its type, by that.
const FORMATS: &[(&str, Form)] = &[
    ("text", Form::Object(&[("type", Form::Any)])),
    // llama-server's form has a schema here.
    ("json_object", Form::Object(&[("type", Form::Any), ("schema", Form::Any)])),
    (
        "json_schema",
        Form::Object(&[
            ("type", Form::Any),
            (
                "json_schema",
                Form::Object(&[
                    ("name", Form::Text),
                    ("description", Form::Text),
                    ("schema", Form::Any),
                    ("strict", Form::Flag),
                ]),
            ),
        ]),
    ),
];

fn response_format(format: &Value) -> Result<Option<Constraint>, Problem> {
    let name = "response_format";
    let Some((kind, form)) = FORMATS.iter().find(|(kind, _)| format["type"] == *kind) else {
        let found = shown(&format["type"]);
        let expected = format!("type: expected text, json_object or json_schema, found {found}");
        return Err(Problem::field(name, expected));
    };
    form.check(format, name)?;
    let inner = &format["json_schema"];
    match *kind {
        "json_object" if !format["schema"].is_null() => {
            json_schema("response_format: schema", &format["schema"]).map(Some)
        }
        "json_object" => Ok(Some(any_object())),
        "json_schema" => json_schema("response_format: json_schema.schema", &inner["schema"]).map(Some),
        _ => Ok(None),
    }
}

fn any_object() -> Constraint {
    Constraint::JsonSchema(json!({"type": "object"}).to_string())
}

/// The constraint of a schema. The field may name a part of one after a colon.
fn json_schema(field: &str, schema: &Value) -> Result<Constraint, Problem> {
    if schema.is_object() || schema.is_boolean() {
        return Ok(Constraint::JsonSchema(schema.to_string()));
    }
    let message = format!("{field}: expected a JSON Schema, found {}", shown(schema));
    let param = field.split(':').next().unwrap_or(field);
    Err(Problem { message, ..Problem::field(param, "") })
}

/// What `structured_outputs` may have.
const OUTPUTS: &str = "one of json, regex, choice, grammar and json_object";

fn structured_outputs(mut outputs: Map<String, Value>) -> Result<Constraint, Problem> {
    let name = "structured_outputs";
    outputs.retain(|_, value| !value.is_null());
    let mut outputs = outputs.iter();
    match (outputs.next(), outputs.next()) {
        (Some((key, value)), None) => structured_output(&format!("{name}: {key}"), key, value),
        _ => Err(Problem::field(name, format_args!("expected {OUTPUTS}"))),
    }
}

/// A constraint of a kind. The field may name a part of one after a colon.
fn structured_output(field: &str, key: &str, value: &Value) -> Result<Constraint, Problem> {
    let param = field.split(':').next().unwrap_or(field);
    let wrong = |expected: &str, found: String| Problem {
        message: format!("{field}: expected {expected}, found {found}"),
        ..Problem::field(param, "")
    };
    let text = || value.as_str().map(str::to_owned).ok_or_else(|| wrong("a string", kind(value)));
    match key {
        "json" => match value {
            // vLLM takes the schema as a text, too.
            Value::String(text) => Ok(Constraint::JsonSchema(text.clone())),
            schema => json_schema(field, schema),
        },
        "regex" => Ok(Constraint::Regex(text()?)),
        "grammar" => Ok(Constraint::grammar(text()?)),
        "choice" => {
            let texts =
                value.as_array().and_then(|all| all.iter().map(|text| Some(text.as_str()?.to_owned())).collect());
            let texts = texts.filter(|all: &Vec<String>| !all.is_empty());
            Ok(Constraint::Choices(texts.ok_or_else(|| wrong("a list of strings", shown(value)))?))
        }
        "json_object" if *value == json!(true) => Ok(any_object()),
        other => Err(Problem::field(param, format_args!("expected {OUTPUTS}, found {other}"))),
    }
}
