//! Filters over numbers.

use minijinja::{Error, State, Value};

use super::super::args::{Args, optional, required};
use super::super::numbers;
use super::super::repr;
use super::super::values::{floats, integers, number, plain};

pub(super) fn abs(_: &mut State, args: &Args) -> Result<Value, Error> {
    let [value] = args.bind([required("x")])?;
    match (integers(&value, &value), floats(&value, &value)) {
        (Some((n, _)), _) => numbers::whole(n.checked_abs()),
        (_, Some((x, _))) => Ok(x.abs().into()),
        _ => Err(args.fail(format!("expected a number, found {}", value.kind()))),
    }
}

pub(super) fn round(_: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, precision, method] =
        args.bind([required("value"), optional("precision", 0), optional("method", "common")])?;
    let (Some((x, _)), whole) = (floats(&value, &value), integers(&value, &value)) else {
        return Err(args.fail(format!("expected a number, found {}", value.kind())));
    };
    let up = match args.text(&method)? {
        "common" => {
            return match (args.integer_or_none(&precision)?, whole) {
                (None, Some((n, _))) => numbers::whole(Some(n)),
                (None, None) => whole_of(args, numbers::round(x, 0)),
                (Some(0..), Some((n, _))) => numbers::whole(Some(n)),
                (Some(digits), Some((n, _))) => numbers::whole(rounded(n, digits.unsigned_abs())),
                (Some(digits), None) => Ok(numbers::round(x, digits).into()),
            };
        }
        "ceil" => true,
        "floor" => false,
        other => return Err(args.fail(format!("expected method common, ceil or floor, found `{other}`"))),
    };
    let digits = args.integer(&precision)?.clamp(-400, 400) as i32;
    let unit = if digits < 0 { 1.0 / 10f64.powi(-digits) } else { 10f64.powi(digits) };
    let scaled = if up { (x * unit).ceil() } else { (x * unit).floor() };
    if !scaled.is_finite() {
        return Err(args.fail("expected a finite number"));
    }
    // An integer has no negative zero.
    Ok(((scaled + 0.0) / unit).into())
}

fn whole_of(args: &Args, value: f64) -> Result<Value, Error> {
    if value.is_finite() { numbers::whole(Some(value as i128)) } else { Err(args.fail("expected a finite number")) }
}

/// An integer rounded to tens, hundreds and so on; halves to even.
fn rounded(n: i128, digits: u64) -> Option<i128> {
    let Some(unit) = u32::try_from(digits).ok().and_then(|digits| 10i128.checked_pow(digits)) else { return Some(0) };
    let (low, rest) = (n.div_euclid(unit), n.rem_euclid(unit));
    let up = rest > unit - rest || rest == unit - rest && low % 2 != 0;
    (low + i128::from(up)).checked_mul(unit)
}

pub(super) fn int(_: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, default, base] = args.bind([required("value"), optional("default", 0), optional("base", 10)])?;
    if let Some(text) = value.as_str() {
        let base = args.integer(&base)?;
        if let Some(found) = u32::try_from(base).ok().and_then(|base| integer(text, base)) {
            return numbers::whole(Some(found));
        }
    }
    if let Some((n, _)) = integers(&value, &value) {
        return numbers::whole(Some(n));
    }
    let number = number(&value)?;
    match number {
        Some(number) if number.is_infinite() && value.as_str().is_none() => Err(args.fail("infinity is no integer")),
        Some(number) if number.is_finite() => whole_of(args, number.trunc()),
        _ => Ok(default),
    }
}

/// Python's `int(text, base)`, where it gives one of 128 bits.
fn integer(text: &str, base: u32) -> Option<i128> {
    let text = text.trim().to_lowercase();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(&text);
    let sign = if text.starts_with('-') { "-" } else { "" };
    let prefixed = [("0x", 16), ("0o", 8), ("0b", 2)].into_iter().find_map(|(prefix, of)| {
        let digits = digits.strip_prefix(prefix).filter(|_| base == 0 || base == of)?;
        Some((digits.strip_prefix('_').unwrap_or(digits), of))
    });
    let zeros = digits.trim_start_matches(['0', '_']).is_empty();
    let (digits, base) = match prefixed {
        Some(found) => found,
        None if base == 0 && digits.starts_with('0') && !zeros => return None,
        None if base == 0 => (digits, 10),
        None => (digits, base),
    };
    if digits.starts_with(['+', '-']) || !(2..=36).contains(&base) {
        return None;
    }
    i128::from_str_radix(&format!("{sign}{}", plain(digits)?), base).ok()
}

pub(super) fn float(_: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, default] = args.bind([required("value"), optional("default", 0.0)])?;
    Ok(number(&value)?.map_or(default, Value::from))
}

pub(super) fn filesizeformat(_: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, binary] = args.bind([required("value"), optional("binary", false)])?;
    let bytes = number(&value)?.ok_or_else(|| args.fail(format!("expected a number, found {}", repr::repr(&value))))?;
    let (base, suffix) = if binary.is_true() { (1024.0, "iB") } else { (1000.0, "B") };
    if bytes == 1.0 {
        return Ok("1 Byte".into());
    }
    if bytes < base {
        // An integer has no negative zero.
        return Ok(format!("{:.0} Bytes", bytes.trunc() + 0.0).into());
    }
    let (mut unit, mut prefix) = (base, ' ');
    for next in if base == 1000.0 { "kMGTPEZY" } else { "KMGTPEZY" }.chars() {
        (unit, prefix) = (unit * base, next);
        if bytes < unit {
            break;
        }
    }
    Ok(format!("{:.1} {prefix}{suffix}", base * bytes / unit).into())
}
