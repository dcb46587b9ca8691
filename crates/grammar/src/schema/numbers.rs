//! Numbers: of constants, bounds, factors and formats. The compiler writes digits, and counts in float64.

use super::document::{At, Draft};
use super::refused;
use crate::Error;
use serde_json::{Number, Value, json};

/// 2^53: integers below are exact as float64.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// 2^63: integers below are of int64.
const INT64: f64 = 9_223_372_036_854_775_808.0;

/// A number of `const` or `enum`: the float64 that readers of JSON see. Integers are written without a point.
pub fn constant(at: &At, number: &Number) -> Result<Value, Error> {
    let float = number.as_f64().filter(|float| float.is_finite());
    // Others beyond 2^53 may be rounded, and the least integer has no opposite.
    let exact = |float: f64| match number.as_i64() {
        Some(n) => is_exact(n, float) && n != i64::MIN,
        None => float.abs() < EXACT || has_exact_digits(number, float),
    };
    let beyond =
        "a number of 2^63 or more is not supported but where the fewest digits of its float64 are all, such as 1e20";
    match float.filter(|&float| exact(float)) {
        None if float.is_some_and(|float| float.abs() >= INT64) => Err(refused(&at.path, beyond)),
        None => Err(at.expected("numbers that are exact as float64")),
        Some(float) if float.fract() == 0.0 && float.abs() < EXACT => Ok(json!(float as i64)),
        Some(_) => Ok(Value::Number(number.clone())),
    }
}

/// Whether the digits that the compiler writes for an integer beyond 2^53 are the schema's: the shortest ones, and zeros.
fn has_exact_digits(number: &Number, float: f64) -> bool {
    let written = format!("{float}");
    written == format!("{float:.0}") && number.as_u64().is_none_or(|n| written == n.to_string())
}

/// Whether a constant has a number beyond int64, in which the compiler counts what has the type `integer`.
pub fn is_beyond_int64(constant: &Value) -> bool {
    match constant {
        Value::Array(list) => list.iter().any(is_beyond_int64),
        Value::Object(map) => map.values().any(is_beyond_int64),
        value => value.as_f64().is_some_and(|float| float.abs() >= INT64),
    }
}

fn is_exact(n: i64, float: f64) -> bool {
    float as i128 == i128::from(n)
}

/// A bound of numbers, by its name in the newest draft. Draft 4 has switches for exclusive ones.
pub fn bound(schema: &At, name: &'static str, at: &At) -> Result<Option<(&'static str, Value)>, Error> {
    let exclusive = |name: &str| schema.value.get(name) == Some(&Value::Bool(true));
    if schema.draft == Draft::D4 && name.starts_with("exclusive") {
        return at.value.is_boolean().then_some(None).ok_or_else(|| at.expected("true or false"));
    }
    if !at.value.is_number() {
        return Err(at.expected("a number"));
    }
    let name = match name {
        "minimum" if schema.draft == Draft::D4 && exclusive("exclusiveMinimum") => "exclusiveMinimum",
        "maximum" if schema.draft == Draft::D4 && exclusive("exclusiveMaximum") => "exclusiveMaximum",
        name => name,
    };
    Ok(Some((name, at.value.clone())))
}

pub fn multiple_of(at: &At) -> Result<Value, Error> {
    at.value.as_f64().filter(|&factor| factor > 0.0).ok_or_else(|| at.expected("a positive number"))?;
    Ok(at.value.clone())
}

/// The least common multiple of `factors` and a factor, both without the zeros at their ends and the places of their points. The compiler makes
/// a state for each remainder, and of factors that meet, for each pair.
pub fn common_multiple(factors: u64, at: &At) -> Result<u64, Error> {
    // These take a second and 100 MB to compile.
    const MOST: u64 = 100_000;
    let digits: String = at.value.to_string().split(['e', 'E']).next().unwrap_or_default().replace(['.', '+'], "");
    let factor = digits.trim_matches('0').parse().ok().filter(|&factor: &u64| factor <= MOST);
    let multiple = factor.map(|factor| factors / gcd(factors, factor) * factor);
    multiple.filter(|&multiple| multiple <= MOST).ok_or_else(|| {
        let problem = format!(
            "with the schema's other factors it has a least common multiple above {MOST}, zeros at its end not counted"
        );
        refused(&at.path, problem)
    })
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A bound whose digits the compiler writes exactly. One that only keeps numbers from growing may be nearer to zero than the schema has it.
pub fn drawn(at: &At, name: &str, bound: &Value) -> Result<Value, Error> {
    /// Numbers have fewer digits, or are below one that does.
    const MOST: f64 = 9e18;
    let float = bound.as_f64().unwrap_or(f64::INFINITY);
    if float.abs() < EXACT {
        return Ok(bound.clone());
    }
    let has_digits = |float: f64| format!("{float}") == format!("{}", float as i64);
    let inclusive = bound.as_i64().filter(|_| !name.starts_with("exclusive"));
    if name.ends_with("inimum") != (float < 0.0) {
        let exact = inclusive.is_some_and(|n| is_exact(n, float));
        let supported = exact && has_digits(float) && float.abs() < 1e18;
        let problem = "a bound beyond 2^53 is not supported but for integers that are exact as float64, below 1e18";
        return if supported { Ok(bound.clone()) } else { Err(refused(&at.path, problem)) };
    }
    let mut drawn = float.abs().min(MOST);
    let rounded_in = inclusive.is_some_and(|n| drawn as u64 <= n.unsigned_abs());
    if !rounded_in && float.abs() <= MOST {
        drawn = drawn.next_down();
    }
    while !has_digits(drawn) {
        drawn = drawn.next_down();
    }
    Ok(json!(if float < 0.0 { -(drawn as i64) } else { drawn as i64 }))
}

/// Whether `type` has numbers and no strings, so that `format` is one of numbers.
pub fn are_typed(schema: &At) -> bool {
    let number = |value: &Value| value == "number" || value == "integer";
    match schema.value.get("type") {
        Some(Value::Array(list)) => list.iter().any(number) && list.iter().all(|name| name != "string"),
        name => name.is_some_and(number),
    }
}

/// The bounds of a `format` of numbers, as OpenAPI has them. Others say nothing.
pub fn format(at: &At) -> Result<[Option<(&'static str, Value)>; 2], Error> {
    let bounds = |least: i64, most: i64| Ok([Some(("minimum", json!(least))), Some(("maximum", json!(most)))]);
    match at.value.as_str().ok_or_else(|| at.expected("a string"))? {
        "int32" => bounds(i64::from(i32::MIN), i64::from(i32::MAX)),
        "int64" => bounds(i64::MIN, i64::MAX),
        _ => Ok([None, None]),
    }
}
