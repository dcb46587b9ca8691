use crate::Problem;
use serde_json::{Map, Value};
use trine_engine::params;

/// The fields of a request, which are taken one by one: what is left at the end is not known.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    values: Map<String, Value>,
    /// Names of fields, and those that the body has in their place.
    own_names: Vec<(&'static str, &'static str)>,
}

impl Fields {
    /// Those of a body. A null counts as no field.
    ///
    /// # Errors
    /// When the body is not an object, or a list is too long.
    pub fn new(body: Value) -> Result<Fields, Problem> {
        match body {
            Value::Object(fields) => {
                fields.iter().try_for_each(|(name, value)| check_len(name, value))?;
                Ok(fields.into())
            }
            other => {
                Err(Problem::new(crate::ProblemKind::Invalid, format!("expected an object, found {}", kind(&other))))
            }
        }
    }

    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.values.remove(name)
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.values.insert(name.to_owned(), whole(value.into()));
    }

    /// Adds a field that another one of the body says.
    ///
    /// # Errors
    /// When the body has it, too.
    pub fn put_new(&mut self, name: &'static str, value: impl Into<Value>, other: &'static str) -> Result<(), Problem> {
        if self.has(name) {
            return Err(Problem::field(name, format_args!("{other} says the same")));
        }
        self.put_as(name, value, other);
        Ok(())
    }

    /// Adds a field that the body has by a name of its own.
    pub fn put_as(&mut self, name: &'static str, value: impl Into<Value>, own: &'static str) {
        self.put(name, value);
        self.own_names.push((name, own));
    }

    /// The name of a field in the body.
    pub fn own_name(&self, name: &'static str) -> &'static str {
        self.own_names.iter().find(|(known, _)| *known == name).map_or(name, |(_, own)| *own)
    }

    /// Names of fields, and those that the body has in their place.
    pub fn own_names(&self) -> &[(&'static str, &'static str)] {
        &self.own_names
    }

    /// Takes a field under its other name, unless that says something else.
    pub fn rename(&mut self, other: &'static str, name: &'static str) -> Result<(), Problem> {
        match self.values.remove(other) {
            Some(value) if self.get(name) == Some(&value) => Ok(()),
            Some(_) if self.has(name) => Err(Problem::field(other, format_args!("{name} says the same"))),
            Some(value) => {
                self.put_as(name, value, other);
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>, Problem> {
        self.typed(name, "true or false", |value| value.as_bool().ok_or(value))
    }

    pub fn string(&mut self, name: &str) -> Result<Option<String>, Problem> {
        self.typed(name, "a string", |value| match value {
            Value::String(text) => Ok(text),
            other => Err(other),
        })
    }

    pub fn number(&mut self, name: &str) -> Result<Option<f64>, Problem> {
        self.typed(name, "a number", |value| value.as_f64().ok_or(value))
    }

    pub fn integer(&mut self, name: &str) -> Result<Option<i64>, Problem> {
        self.typed(name, "a whole number", |value| value.as_i64().ok_or(value))
    }

    pub fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, Problem> {
        self.typed(name, "an object", |value| match value {
            Value::Object(fields) => Ok(fields),
            other => Err(other),
        })
    }

    pub fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Problem> {
        self.get(name).map_or(Ok(()), |value| check_len(name, value))?;
        self.typed(name, "a list", |value| match value {
            Value::Array(list) => Ok(list),
            other => Err(other),
        })
    }

    fn typed<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl Fn(Value) -> Result<T, Value>,
    ) -> Result<Option<T>, Problem> {
        let Some(value) = self.values.remove(name) else { return Ok(None) };
        let wrong = |found| Problem::field(name, format_args!("expected {expected}, found {}", kind(&found)));
        read(value).map(Some).map_err(wrong)
    }

    /// Takes a field that is one of these words.
    pub fn word(&mut self, name: &str, known: &[&str]) -> Result<Option<String>, Problem> {
        let Some(value) = self.values.remove(name) else { return Ok(None) };
        match value.as_str().filter(|word| known.contains(word)) {
            Some(word) => Ok(Some(word.to_owned())),
            None => {
                let expected = known.join(", ");
                Err(Problem::field(name, format_args!("expected one of {expected}, found {}", shown(&value))))
            }
        }
    }

    /// Takes a field that may say nothing but this.
    pub fn only(&mut self, name: &str, neutral: &Value, why: &str) -> Result<(), Problem> {
        match self.values.remove(name) {
            Some(found) if found != *neutral => {
                Err(Problem::field(name, format_args!("expected {neutral}, found {}: {why}", shown(&found))))
            }
            _ => Ok(()),
        }
    }

    /// Refuses fields that are known, and not supported.
    pub fn refuse(&self, names: &[(&str, &str)]) -> Result<(), Problem> {
        match names.iter().find(|(name, _)| self.has(name)) {
            Some((name, why)) => Err(Problem::field(name, why)),
            None => Ok(()),
        }
    }

    /// Takes a field away if it is so; whether it was.
    pub fn take_if(&mut self, name: &str, is: impl Fn(&Value) -> bool) -> bool {
        let so = self.values.get(name).is_some_and(is);
        so && self.values.remove(name).is_some()
    }

    /// Takes fields away that change no answer.
    ///
    /// # Errors
    /// When one is not what it should be.
    pub fn pass(&mut self, known: crate::form::Fields) -> Result<(), Problem> {
        known.iter().try_for_each(|(name, form)| match self.take(name) {
            Some(value) => form.check(&value, name),
            None => Ok(()),
        })
    }

    /// What is left.
    pub fn rest(self) -> Map<String, Value> {
        self.values
    }

    /// Refuses what is left.
    pub fn finish(self) -> Result<(), Problem> {
        match self.values.keys().next() {
            Some(name) => Err(unknown(name)),
            None => Ok(()),
        }
    }
}

impl From<Map<String, Value>> for Fields {
    fn from(mut fields: Map<String, Value>) -> Fields {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(|value| *value = whole(value.take()));
        Fields { values: fields, own_names: Vec::new() }
    }
}

/// A number, or those of lists, without the fraction of `16.0`: JSON knows no other difference between integers and reals. What is in objects
/// stays as it is.
fn whole(value: Value) -> Value {
    /// 2^53: float64 has all integers up to it.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => match number.as_f64() {
            Some(real) if real.fract() == 0.0 && real.abs() <= EXACT => Value::from(real as i64),
            _ => Value::Number(number),
        },
        Value::Array(list) => list.into_iter().map(whole).collect(),
        other => other,
    }
}

/// Maximum number of entries in the lists of bodies that are no sampling options.
const MAX_LEN: &[(&str, usize)] =
    &[("messages", 10_000), ("input", 10_000), ("tools", 1024), ("functions", 1024), ("logit_bias", 65_536)];

/// Refuses a list that is too long, before its entries are read.
pub fn check_len(name: &str, value: &Value) -> Result<(), Problem> {
    let len = match value {
        // Tokens of one text.
        Value::Array(ids) if name == "input" && ids.first().is_some_and(Value::is_number) => return Ok(()),
        Value::Array(list) => list.len(),
        Value::Object(fields) => fields.len(),
        _ => return Ok(()),
    };
    let own = || MAX_LEN.iter().find(|(list, _)| *list == name).map(|(_, most)| *most);
    let most = own().or_else(|| params().find(|param| param.name == name)?.max_len());
    match most.filter(|&most| len > most) {
        Some(most) => Err(Problem::field(name, format_args!("expected at most {most} entries, found {len}"))),
        None => Ok(()),
    }
}

/// The problem of a field that nobody knows, with a similar one.
pub fn unknown(name: &str) -> Problem {
    let known: Vec<&str> = params().map(|param| param.name).chain(KNOWN.iter().copied()).collect();
    if known.contains(&name) {
        return Problem::field(name, "there is no such field in this place");
    }
    let near = known.iter().map(|known| (strsim::damerau_levenshtein(known, name), *known)).min();
    let near = near.filter(|(distance, known)| *distance <= known.len().div_ceil(4));
    let near = near.map_or_else(String::new, |(_, known)| format!("; a similar one is {known}"));
    Problem::field(name, format_args!("there is no such field{near}"))
}

/// Fields that are no sampling options.
const KNOWN: &[&str] = &[
    "messages",
    "prompt",
    "input",
    "model",
    "stream",
    "stream_options",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "structured_outputs",
    "grammar",
    "json_schema",
    "logprobs",
    "top_logprobs",
    "max_completion_tokens",
    "max_output_tokens",
    "echo",
    "reasoning_effort",
    "chat_template_kwargs",
    "continue_final_message",
    "add_generation_prompt",
    "priority",
    "timeout",
];

/// What a value is, in messages.
pub fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// A value in messages, cut where it is long.
pub fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
