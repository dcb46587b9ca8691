//! Python's arithmetic, with integers of 128 bits.

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::values::{floats, integers, refused, wrong};

/// An integer that a calculation gives, if it fits.
pub(super) fn whole(value: Option<i128>) -> Result<Value, Error> {
    let value = value.ok_or_else(|| wrong("an integer of more than 128 bits"))?;
    Ok(i64::try_from(value).map_or_else(|_| Value::from(value), Value::from))
}

/// Calculates with integers, or else with floats.
fn arithmetic(
    operator: &str,
    a: &Value,
    b: &Value,
    on_integers: impl FnOnce(i128, i128) -> Option<i128>,
    on_floats: impl FnOnce(f64, f64) -> f64,
) -> Result<Value, Error> {
    match (integers(a, b), floats(a, b)) {
        (Some((a, b)), _) => whole(on_integers(a, b)),
        (_, Some((a, b))) => Ok(on_floats(a, b).into()),
        _ => Err(refused(operator, a, b)),
    }
}

pub(super) fn add(a: &Value, b: &Value) -> Result<Value, Error> {
    arithmetic("+", a, b, i128::checked_add, |a, b| a + b)
}

pub(super) fn subtract(a: &Value, b: &Value) -> Result<Value, Error> {
    arithmetic("-", a, b, i128::checked_sub, |a, b| a - b)
}

pub(super) fn multiply(a: &Value, b: &Value) -> Result<Value, Error> {
    arithmetic("*", a, b, i128::checked_mul, |a, b| a * b)
}

/// Fails where Python divides by zero.
fn divisor(operator: &str, a: &Value, b: &Value) -> Result<(), Error> {
    match floats(a, b) {
        Some((a, 0.0)) => Err(wrong(format!("{a} {operator} 0: division by zero"))),
        _ => Ok(()),
    }
}

pub(super) fn divide(a: &Value, b: &Value) -> Result<Value, Error> {
    divisor("/", a, b)?;
    let (x, y) = floats(a, b).ok_or_else(|| refused("/", a, b))?;
    Ok((x / y).into())
}

/// The remainder of floats, of the sign of the divisor.
fn float_remainder(a: f64, b: f64) -> f64 {
    let rest = a % b;
    let rest = if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest };
    if rest == 0.0 { rest.copysign(b) } else { rest }
}

pub(super) fn floor_divide(a: &Value, b: &Value) -> Result<Value, Error> {
    divisor("//", a, b)?;
    let on_integers = |a: i128, b: i128| {
        let quotient = a.checked_div(b)?;
        Some(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
    };
    arithmetic("//", a, b, on_integers, |a, b| {
        let quotient = (a - float_remainder(a, b)) / b;
        let floor = quotient.floor();
        match quotient - floor {
            _ if quotient == 0.0 => 0f64.copysign(a / b),
            rest if rest > 0.5 => floor + 1.0,
            _ => floor,
        }
    })
}

pub(super) fn remainder(a: &Value, b: &Value) -> Result<Value, Error> {
    divisor("%", a, b)?;
    let on_integers = |a: i128, b: i128| {
        let rest = a.checked_rem(b)?;
        if rest != 0 && (rest < 0) != (b < 0) { rest.checked_add(b) } else { Some(rest) }
    };
    arithmetic("%", a, b, on_integers, float_remainder)
}

pub(super) fn power(a: &Value, b: &Value) -> Result<Value, Error> {
    let (x, y) = floats(a, b).ok_or_else(|| refused("**", a, b))?;
    match integers(a, b) {
        Some((0 | 1, 0..)) => Ok(i64::from(x == 1.0 || y == 0.0).into()),
        Some((-1, exponent @ 0..)) => Ok(if exponent % 2 == 0 { 1 } else { -1 }.into()),
        Some((base, exponent @ 0..)) => {
            whole(u32::try_from(exponent).ok().and_then(|exponent| base.checked_pow(exponent)))
        }
        _ if x == 0.0 && y < 0.0 => Err(wrong("0 ** a negative number: division by zero")),
        _ => match x.powf(y) {
            value if value.is_nan() && !x.is_nan() && !y.is_nan() => Err(wrong("a root of a negative number")),
            value if value.is_infinite() && x.is_finite() && y.is_finite() => Err(wrong("a result that is too large")),
            value => Ok(value.into()),
        },
    }
}

pub(super) fn negate(a: &Value) -> Result<Value, Error> {
    match (integers(a, a), floats(a, a)) {
        (Some((a, _)), _) => whole(a.checked_neg()),
        (_, Some((a, _))) => Ok((-a).into()),
        _ => Err(wrong(format!("-{}: not defined for this type", a.kind()))),
    }
}

pub(super) fn plus(a: &Value) -> Result<Value, Error> {
    match a.kind() {
        ValueKind::Bool => Ok(i64::from(a.is_true()).into()),
        ValueKind::Number => Ok(a.clone()),
        kind => Err(wrong(format!("+{kind}: not defined for this type"))),
    }
}

/// Python's `round(value, digits)` of a float.
pub(super) fn round(value: f64, digits: i64) -> f64 {
    match usize::try_from(digits) {
        // Beyond these, nothing is rounded.
        Ok(digits) if digits > 330 => value,
        Ok(digits) => format!("{value:.digits$}").parse().unwrap_or(value),
        Err(_) if digits < -308 => 0f64.copysign(value),
        Err(_) => {
            let unit = 10f64.powi(-digits as i32);
            (value / unit).round_ties_even() * unit
        }
    }
}
