//! Macros as Python calls them: with defaults where no argument is given, `varargs`, `kwargs` and `caller`.

use minijinja::value::{Object, ObjectRepr, Tuple};
use minijinja::{Environment, Error, State, Value};
use std::fmt;
use std::sync::Arc;

use super::args::Args;
use super::values::wrong;

pub(super) fn install(environment: &mut Environment) {
    environment.add_filter("macro", Macro::of);
    environment.add_filter("unset", |value: Value| value.downcast_object_ref::<Unset>().is_some());
}

/// The argument of a parameter that takes its default.
#[derive(Debug)]
struct Unset;

impl Object for Unset {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// A macro of the engine that takes all arguments by position, and its signature.
#[derive(Debug)]
struct Macro {
    inner: Value,
    name: String,
    params: Vec<String>,
    /// How many parameters at the end have defaults.
    defaults: usize,
    /// Those of `caller`, `kwargs` and `varargs` that it reads, as further parameters.
    special: Vec<String>,
}

impl Macro {
    fn of(inner: Value, names: Vec<String>, defaults: usize, special: Vec<String>) -> Result<Value, Error> {
        let mut params = names.into_iter();
        let name = params.next().ok_or_else(|| wrong("a macro needs a name"))?;
        Ok(Value::from_object(Macro { inner, name, params: params.collect(), defaults, special }))
    }

    fn reads(&self, special: &str) -> bool {
        self.special.iter().any(|name| name == special)
    }
}

impl Object for Macro {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(match key.as_str()? {
            "name" => self.name.as_str().into(),
            "arguments" => {
                Tuple::from(self.params.iter().map(|name| Value::from(name.as_str())).collect::<Vec<_>>()).into()
            }
            "catch_kwargs" => self.reads("kwargs").into(),
            "catch_varargs" => self.reads("varargs").into(),
            "caller" => self.reads("caller").into(),
            _ => return None,
        })
    }

    fn call(self: &Arc<Self>, state: &mut State, args: &[Value]) -> Result<Value, Error> {
        let args = Args::new(&self.name, args)?;
        let mut values = Vec::with_capacity(self.params.len() + self.special.len());
        for (i, name) in self.params.iter().enumerate() {
            values.push(match (args.positional.get(i), args.get(name)) {
                (Some(_), Some(_)) => return Err(args.fail(format!("found two arguments `{name}`"))),
                (Some(value), None) => value.clone(),
                (None, Some(value)) => value,
                (None, None) if i + self.defaults < self.params.len() => Value::UNDEFINED,
                (None, None) => Value::from_object(Unset),
            });
        }
        let mut more = args.names();
        more.retain(|name| !(self.params.contains(name) || name == "caller" && self.reads("caller")));
        if let Some(name) = more.first().filter(|_| !self.reads("kwargs")) {
            return Err(args.fail(format!("unexpected argument `{name}`")));
        }
        let rest = args.positional.get(self.params.len()..).unwrap_or_default();
        if !rest.is_empty() && !self.reads("varargs") {
            let (most, found) = (self.params.len(), args.positional.len());
            return Err(args.fail(format!("expected at most {most} arguments, found {found}")));
        }
        values.extend(self.special.iter().map(|name| match name.as_str() {
            "caller" => args.get("caller").unwrap_or_default(),
            "kwargs" => Value::from_pairs(more.iter().map(|name| (name.as_str(), args.get(name).unwrap_or_default()))),
            _ => Tuple::from(rest.to_vec()).into(),
        }));
        self.inner.call(state, &values)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "<Macro '{}'>", self.name)
    }
}
