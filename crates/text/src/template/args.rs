//! The arguments of filters, tests, functions, methods and macros, bound to their parameters as in Python.

use minijinja::value::{Kwargs, Rest, from_args};
use minijinja::{Error, Value};

use super::values::{integers, wrong};

/// A parameter of a signature.
pub(super) struct Param {
    name: &'static str,
    /// The value without an argument.
    default: Option<Value>,
    /// Whether an argument may have its name.
    named: bool,
}

/// A parameter that needs an argument.
pub(super) fn required(name: &'static str) -> Param {
    Param { name, default: None, named: true }
}

/// A parameter with a default.
pub(super) fn optional(name: &'static str, default: impl Into<Value>) -> Param {
    Param { name, default: Some(default.into()), named: true }
}

/// A parameter whose argument has no name.
pub(super) fn positional(name: &'static str) -> Param {
    Param { name, default: None, named: false }
}

/// A parameter with a default, whose argument has no name.
pub(super) fn optional_positional(name: &'static str, default: impl Into<Value>) -> Param {
    Param { name, default: Some(default.into()), named: false }
}

/// The arguments of a call, and the name of what is called.
pub(super) struct Args<'a> {
    pub(super) of: &'a str,
    pub(super) positional: Vec<Value>,
    pub(super) named: Kwargs,
}

impl<'a> Args<'a> {
    pub(super) fn new(of: &'a str, args: &[Value]) -> Result<Args<'a>, Error> {
        let (Rest(positional), named) = from_args::<(Rest<Value>, Kwargs)>(args)?;
        Ok(Args { of, positional, named })
    }

    /// The names of arguments by name.
    pub(super) fn names(&self) -> Vec<String> {
        self.named.args().map(str::to_owned).collect()
    }

    /// The argument of this name.
    pub(super) fn get(&self, name: &str) -> Option<Value> {
        if self.named.has(name) { self.named.peek::<Value>(name).ok() } else { None }
    }

    pub(super) fn fail(&self, problem: impl std::fmt::Display) -> Error {
        wrong(format!("{}: {problem}", self.of))
    }

    /// The value of each parameter.
    pub(super) fn bind<const N: usize>(&self, signature: [Param; N]) -> Result<[Value; N], Error> {
        let found = self.positional.len();
        if found > N {
            return Err(self.fail(format!("expected at most {N} arguments, found {found}")));
        }
        if let Some(name) =
            self.names().iter().find(|name| !signature.iter().any(|param| param.named && param.name == **name))
        {
            return Err(self.fail(format!("unexpected argument `{name}`")));
        }
        let mut values = [const { Value::UNDEFINED }; N];
        for (i, (param, value)) in signature.into_iter().zip(&mut values).enumerate() {
            let name = param.name;
            *value = match (self.positional.get(i), self.get(name)) {
                (Some(_), Some(_)) => return Err(self.fail(format!("found two arguments `{name}`"))),
                (Some(value), None) => value.clone(),
                (None, Some(value)) => value,
                (None, None) => param.default.ok_or_else(|| self.fail(format!("expected an argument `{name}`")))?,
            };
        }
        Ok(values)
    }

    /// Checks that there are no arguments.
    pub(super) fn none(&self) -> Result<(), Error> {
        self.bind([]).map(drop)
    }

    pub(super) fn text<'v>(&self, value: &'v Value) -> Result<&'v str, Error> {
        value.as_str().ok_or_else(|| self.fail(format!("expected a string, found {}", value.kind())))
    }

    /// An integer, which a boolean is, too.
    pub(super) fn integer(&self, value: &Value) -> Result<i64, Error> {
        let (number, _) =
            integers(value, value).ok_or_else(|| self.fail(format!("expected an integer, found {}", value.kind())))?;
        Ok(number.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    }

    /// An integer, or none.
    pub(super) fn integer_or_none(&self, value: &Value) -> Result<Option<i64>, Error> {
        if value.is_none() { Ok(None) } else { self.integer(value).map(Some) }
    }
}
