//! Jinja's tests, with the signatures of its documentation.

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::args::{Args, required};
use super::attributes::{as_range, is_dict};
use super::classes::{is_lower, is_upper};
use super::functions::Cycler;
use super::iterators::{is_hashable, is_list};
use super::operators::{compare, contains, equal, remainder};
use super::{filters, repr};

pub(super) type Test = fn(&mut State, &Args) -> Result<bool, Error>;

/// Every test; a new one is a function and a row.
const TESTS: &[(&str, Test)] = &[
    ("!=", |state, args| two(args, |a, b| equal(state, a, b).map(|equal| !equal))),
    ("<", |state, args| two(args, |a, b| compare(state, "<", a, b))),
    ("<=", |state, args| two(args, |a, b| compare(state, "<=", a, b))),
    ("==", |state, args| two(args, |a, b| equal(state, a, b))),
    (">", |state, args| two(args, |a, b| compare(state, ">", a, b))),
    (">=", |state, args| two(args, |a, b| compare(state, ">=", a, b))),
    ("boolean", |_, args| one(args, |value| value.kind() == ValueKind::Bool)),
    ("callable", |_, args| one(args, is_callable)),
    ("defined", |_, args| one(args, |value| !value.is_undefined())),
    ("divisibleby", |state, args| two(args, |a, b| rest_is(state, a, b, 0))),
    ("eq", |state, args| two(args, |a, b| equal(state, a, b))),
    ("equalto", |state, args| two(args, |a, b| equal(state, a, b))),
    ("escaped", |_, args| one(args, Value::is_safe)),
    ("even", |state, args| rest_is(state, &args.bind([required("value")])?[0], &2.into(), 0)),
    ("false", |_, args| one(args, |value| value.kind() == ValueKind::Bool && !value.is_true())),
    ("filter", |_, args| named(args, |name| filters::find(name).is_some())),
    ("float", |_, args| one(args, |value| value.kind() == ValueKind::Number && !value.is_integer())),
    ("ge", |state, args| two(args, |a, b| compare(state, ">=", a, b))),
    ("greaterthan", |state, args| two(args, |a, b| compare(state, ">", a, b))),
    ("gt", |state, args| two(args, |a, b| compare(state, ">", a, b))),
    ("in", |state, args| two(args, |a, b| contains(state, a, b))),
    ("integer", |_, args| one(args, Value::is_integer)),
    ("iterable", |_, args| one(args, is_iterable)),
    ("le", |state, args| two(args, |a, b| compare(state, "<=", a, b))),
    ("lessthan", |state, args| two(args, |a, b| compare(state, "<", a, b))),
    ("lower", |_, args| one(args, |value| is_lower(&repr::str(value)))),
    ("lt", |state, args| two(args, |a, b| compare(state, "<", a, b))),
    ("mapping", |_, args| one(args, is_dict)),
    ("ne", |state, args| two(args, |a, b| equal(state, a, b).map(|equal| !equal))),
    ("none", |_, args| one(args, Value::is_none)),
    ("number", |_, args| one(args, |value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool))),
    ("odd", |state, args| rest_is(state, &args.bind([required("value")])?[0], &2.into(), 1)),
    ("sameas", |_, args| two(args, |a, b| Ok(same(a, b)))),
    ("sequence", |_, args| one(args, is_sequence)),
    ("string", |_, args| one(args, |value| value.as_str().is_some())),
    ("test", |_, args| named(args, |name| find(name).is_some())),
    ("true", |_, args| one(args, |value| value.kind() == ValueKind::Bool && value.is_true())),
    ("undefined", |_, args| one(args, Value::is_undefined)),
    ("upper", |_, args| one(args, |value| is_upper(&repr::str(value)))),
];

/// The test of this name.
pub(super) fn find(name: &str) -> Option<Test> {
    TESTS.iter().find(|(known, _)| *known == name).map(|&(_, test)| test)
}

fn one(args: &Args, test: impl FnOnce(&Value) -> bool) -> Result<bool, Error> {
    let [value] = args.bind([required("value")])?;
    Ok(test(&value))
}

fn two(args: &Args, test: impl FnOnce(&Value, &Value) -> Result<bool, Error>) -> Result<bool, Error> {
    let [value, other] = args.bind([required("value"), required("other")])?;
    test(&value, &other)
}

/// Whether a value is one of some names.
fn named(args: &Args, test: impl FnOnce(&str) -> bool) -> Result<bool, Error> {
    let [value] = args.bind([required("value")])?;
    if !is_hashable(&value) {
        return Err(args.fail(format!("expected a name, found {}", value.kind())));
    }
    Ok(value.as_str().is_some_and(test))
}

fn rest_is(state: &mut State, value: &Value, by: &Value, rest: i64) -> Result<bool, Error> {
    let found = remainder(state, value.clone(), by.clone())?;
    equal(state, &found, &rest.into())
}

fn is_callable(value: &Value) -> bool {
    let looks = matches!(value.kind(), ValueKind::Undefined | ValueKind::Plain);
    looks && value.downcast_object_ref::<Cycler>().is_none()
}

fn is_iterable(value: &Value) -> bool {
    let iterates = is_dict(value) || !matches!(value.kind(), ValueKind::None | ValueKind::Map);
    iterates && value.try_iter().is_ok()
}

fn is_sequence(value: &Value) -> bool {
    let kinds = [ValueKind::String, ValueKind::Bytes, ValueKind::Undefined];
    is_list(value) || is_dict(value) || as_range(value).is_some() || kinds.contains(&value.kind())
}

/// Python's `a is b`, where small integers and strings are kept once.
fn same(a: &Value, b: &Value) -> bool {
    let small = |value: &Value| value.as_i64().is_some_and(|n| (-5..=256).contains(&n));
    match (a.kind(), b.kind()) {
        (ValueKind::None, ValueKind::None) => true,
        (ValueKind::Bool, ValueKind::Bool) | (ValueKind::String, ValueKind::String) => a == b,
        (ValueKind::Number, ValueKind::Number) => a.is_integer() && b.is_integer() && a == b && small(a),
        (ValueKind::Seq, ValueKind::Seq) => {
            let list = |value: &Value| value.downcast_object::<Vec<Value>>();
            matches!((list(a), list(b)), (Some(a), Some(b)) if std::sync::Arc::ptr_eq(&a, &b))
        }
        _ => a.as_object().is_some() && a == b,
    }
}
