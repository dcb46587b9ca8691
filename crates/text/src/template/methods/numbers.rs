use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::super::args::Args;
use super::super::numbers::{plus, whole};
use super::super::values::{floats, integers};

pub(super) const INTEGER: &[&str] = &["as_integer_ratio", "bit_count", "bit_length", "conjugate", "is_integer"];
pub(super) const FLOAT: &[&str] = &["as_integer_ratio", "conjugate", "hex", "is_integer"];

pub(super) const FIELDS: &[&str] = &["denominator", "imag", "numerator", "real"];

/// An attribute of a number that is no method.
pub(in super::super) fn number_attribute(value: &Value, name: &str) -> Option<Value> {
    let integer = integers(value, value).is_some();
    if !integer && (value.kind() != ValueKind::Number || !["real", "imag"].contains(&name)) {
        return None;
    }
    match name {
        "real" | "numerator" => plus(value).ok(),
        "imag" if !integer => Some(0.0.into()),
        "imag" => Some(0.into()),
        "denominator" => Some(1.into()),
        _ => None,
    }
}

pub(super) fn call(value: &Value, args: &Args) -> Result<Value, Error> {
    args.none()?;
    match (args.of, integers(value, value), floats(value, value)) {
        ("conjugate", ..) => plus(value),
        ("bit_length", Some((n, _)), _) => Ok((128 - n.unsigned_abs().leading_zeros()).into()),
        ("bit_count", Some((n, _)), _) => Ok(n.unsigned_abs().count_ones().into()),
        ("is_integer", Some(_), _) => Ok(true.into()),
        ("is_integer", _, Some((x, _))) => Ok((x.is_finite() && x.fract() == 0.0).into()),
        ("as_integer_ratio", Some(_), _) => Ok(Tuple::from([plus(value)?, 1.into()]).into()),
        ("as_integer_ratio", _, Some((x, _))) => {
            let (mut x, mut denominator) = (x, 1i128);
            while x.is_finite() && x.fract() != 0.0 && denominator < 1 << 120 {
                (x, denominator) = (x * 2.0, denominator * 2);
            }
            let fits = x.fract() == 0.0 && x.abs() < 2f64.powi(126);
            let numerator = fits.then_some(x as i128);
            Ok(Tuple::from([whole(numerator)?, whole(Some(denominator))?]).into())
        }
        ("hex", _, Some((x, _))) => Ok(hex(x).into()),
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

/// Python's `x.hex()`.
fn hex(x: f64) -> String {
    let sign = if x.is_sign_negative() { "-" } else { "" };
    if !x.is_finite() {
        return super::super::repr::float(x);
    }
    let (exponent, mantissa) = (x.to_bits() >> 52 & 0x7ff, x.to_bits() & ((1 << 52) - 1));
    match (exponent, mantissa) {
        (0, 0) => format!("{sign}0x0.0p+0"),
        (0, _) => format!("{sign}0x0.{mantissa:013x}p-1022"),
        _ => format!("{sign}0x1.{mantissa:013x}p{:+}", exponent as i64 - 1023),
    }
}
