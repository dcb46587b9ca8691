//! Python's two ways to fill in a text: `text % args` and `text.format(...)`. Texts are laid out here, numbers by the engine.

use minijinja::formatting::{self, FormatStyle};
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, State, Value};

use super::attributes::is_dict;
use super::budget::{spend, spend_all};
use super::numbers::multiply;
use super::repr;
use super::strings::{escape, text_like};
use super::values::wrong;

/// `text % args`, where `map` is the only argument if that has keys.
pub(super) fn percent(state: &mut State, text: &Value, args: &[Value], map: Option<&Value>) -> Result<Value, Error> {
    let (mut filled, mut used, mut keyed) = (String::new(), 0, false);
    let mut next = || {
        used += 1;
        args.get(used - 1).ok_or_else(|| wrong("not enough arguments for the format"))
    };
    let mut rest = text.as_str().unwrap_or_default();
    while let Some((before, directive)) = rest.split_once('%') {
        filled.push_str(before);
        rest = directive;
        if let Some(after) = rest.strip_prefix('%') {
            filled.push('%');
            rest = after;
            continue;
        }
        let mut value = None;
        if let Some(named) = rest.strip_prefix('(') {
            let (key, after) = named.split_once(')').ok_or_else(|| wrong("incomplete key of a format"))?;
            let found = map
                .filter(|map| is_dict(map))
                .ok_or_else(|| wrong("the format requires a mapping"))?
                .get_item(&Value::from(key))?;
            if found.is_undefined() {
                return Err(wrong(format!("the format asks for `{key}`, which is not there")));
            }
            (value, rest, keyed) = (Some(found), after, true);
        }
        let flags = take(&mut rest, |c| "#0- +".contains(c));
        let mut size = |rest: &mut &str| match rest.strip_prefix('*') {
            Some(after) => {
                *rest = after;
                i64::try_from(next()?.clone()).map(|size| size.to_string())
            }
            None => Ok(take(rest, |c| c.is_ascii_digit()).to_owned()),
        };
        let (flags, width) = match size(&mut rest)? {
            width if width.starts_with('-') => (format!("{flags}-"), width[1..].to_owned()),
            width => (flags.to_owned(), width),
        };
        let precision = match rest.strip_prefix('.') {
            Some(after) => {
                rest = after;
                Some(size(&mut rest)?)
            }
            None => None,
        };
        take(&mut rest, |c| "hlL".contains(c));
        let letter = rest.chars().next().ok_or_else(|| wrong("incomplete format"))?;
        rest = &rest[letter.len_utf8()..];
        let value = match value {
            Some(value) => value,
            None => next()?.clone(),
        };
        spend_all(state, &value)?;
        let widest = number(state, &width)?;
        let longest = precision.as_ref().map(|precision| number(state, precision).map(|n| n.unwrap_or(0)));
        let longest = longest.transpose()?;
        let written = match letter {
            's' | 'r' => {
                let written = if letter == 'r' { repr::repr(&value) } else { repr::str(&value) };
                let escape = text.is_safe() && !(letter == 's' && value.is_safe());
                let written = if escape { self::escape(&written) } else { written };
                let layout = Alignment {
                    fill: ' ',
                    align: if flags.contains('-') { '<' } else { '>' },
                    width: widest.unwrap_or(0),
                    longest,
                };
                layout.apply(state, &written)?
            }
            _ => {
                let letter = if letter == 'u' { 'd' } else { letter };
                let precision = precision.map(|precision| format!(".{precision}")).unwrap_or_default();
                formatting::format(FormatStyle::Printf, &format!("%{flags}{width}{precision}{letter}"), &[value])?
            }
        };
        filled.push_str(&written);
    }
    filled.push_str(rest);
    if used < args.len() && !keyed && map.is_none() {
        return Err(wrong("not all arguments are in the format"));
    }
    Ok(if text.is_safe() { Value::from_safe_string(filled) } else { filled.into() })
}

/// Python's `text.format(*args, **kwargs)`.
pub(super) fn braces(state: &mut State, text: &Value, args: &[Value], named: &Kwargs) -> Result<Value, Error> {
    filled(state, text, args, &|name| if named.has(name) { named.peek(name).ok() } else { None })
}

/// Python's `text.format_map(map)`.
pub(super) fn braces_of(state: &mut State, text: &Value, map: &Value) -> Result<Value, Error> {
    filled(state, text, &[], &|name| map.get_item(&name.into()).ok().filter(|value| !value.is_undefined()))
}

fn filled(
    state: &mut State,
    text: &Value,
    args: &[Value],
    named: &dyn Fn(&str) -> Option<Value>,
) -> Result<Value, Error> {
    let mut fields = Fields { args, named, safe: text.is_safe(), numbering: FieldNumbering::Unknown };
    Ok(text_like(text, fields.fill(state, text.as_str().unwrap_or_default(), 0)?))
}

/// How the fields of a format are numbered. Python does not allow both ways in one format.
#[derive(Clone, Copy)]
enum FieldNumbering {
    Unknown,
    /// `{}`: automatic, with the number of fields so far.
    Counted(usize),
    /// `{0}`.
    Numbered,
}

struct Fields<'a> {
    args: &'a [Value],
    named: &'a dyn Fn(&str) -> Option<Value>,
    /// Whether what is filled in is escaped.
    safe: bool,
    numbering: FieldNumbering,
}

impl Fields<'_> {
    /// Replaces the fields of a text that is nested in `depth` fields.
    fn fill(&mut self, state: &mut State, text: &str, depth: usize) -> Result<String, Error> {
        let (mut filled, mut rest) = (String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            filled.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            rest = after;
            if let Some(after) = rest.strip_prefix(brace) {
                filled.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" || depth > 1 {
                return Err(wrong(format!("a `{brace}` of a format stands alone, or too deep")));
            }
            let mut open = 1;
            let end = rest.find(|c| {
                open += i32::from(c == '{') - i32::from(c == '}');
                open == 0
            });
            let (field, after) = rest.split_at(end.ok_or_else(|| wrong("expected `}` in a format"))?);
            let value = self.field(state, field, depth)?;
            filled.push_str(&if self.safe && depth == 0 { escape(&value) } else { value });
            rest = &after[1..];
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn field(&mut self, state: &mut State, field: &str, depth: usize) -> Result<String, Error> {
        let mut inside = false;
        let end = field.find(|c| {
            inside = if inside { c != ']' } else { c == '[' };
            !inside && (c == '!' || c == ':')
        });
        let (name, rest) = field.split_at(end.unwrap_or(field.len()));
        let (conversion, spec) = match rest.strip_prefix('!') {
            Some(rest) => rest.split_once(':').map_or((rest, ""), |(conversion, spec)| (conversion, spec)),
            None => ("", rest.strip_prefix(':').unwrap_or_default()),
        };
        let value = self.value(name)?;
        spend_all(state, &value)?;
        let spec = self.fill(state, spec, depth + 1)?;
        let written = match (conversion, value.kind()) {
            ("r", _) => repr::repr(&value),
            ("s", _) | ("", ValueKind::String) => repr::str(&value),
            ("", ValueKind::Number | ValueKind::Bool) => {
                let mut numbers = spec.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
                numbers.try_for_each(|digits| number(state, digits).map(drop))?;
                if let Some(spec) = spec.strip_suffix('%').filter(|spec| spec.is_empty() || spec.starts_with('.')) {
                    let hundred = multiply(&value, &100.into())?;
                    return Ok(formatting::format(FormatStyle::StrFormat, &format!("{{:{spec}f}}"), &[hundred])? + "%");
                }
                return formatting::format(FormatStyle::StrFormat, &format!("{{:{spec}}}"), &[value]);
            }
            ("", kind) if !spec.is_empty() => return Err(wrong(format!("{kind} has no format `{spec}`"))),
            ("", _) => repr::str(&value),
            _ => return Err(wrong(format!("expected the conversion `r` or `s`, found `{conversion}`"))),
        };
        Alignment::of(state, &spec)?.apply(state, &written)
    }

    /// An argument, or what is in it: `0`, `name`, `name.key[1]`; without a name the next.
    fn value(&mut self, field: &str) -> Result<Value, Error> {
        let (name, mut path) = field.split_at(field.find(['.', '[']).unwrap_or(field.len()));
        let number = match (name.parse::<usize>(), self.numbering) {
            (Ok(number), FieldNumbering::Unknown | FieldNumbering::Numbered) => {
                self.numbering = FieldNumbering::Numbered;
                Some(number)
            }
            (Err(_), _) if !name.is_empty() => None,
            (Err(_), FieldNumbering::Unknown) => {
                self.numbering = FieldNumbering::Counted(1);
                Some(0)
            }
            (Err(_), FieldNumbering::Counted(count)) => {
                self.numbering = FieldNumbering::Counted(count + 1);
                Some(count)
            }
            _ => return Err(wrong("the fields of a format are either numbered or not")),
        };
        let missing = || wrong(format!("the format asks for argument `{field}`, which is not there"));
        let mut value = match number {
            Some(number) => self.args.get(number).cloned().ok_or_else(missing)?,
            None => (self.named)(name).ok_or_else(missing)?,
        };
        while !path.is_empty() {
            let (key, after) = match path.strip_prefix('[') {
                Some(rest) => rest.split_once(']').ok_or_else(|| wrong("expected `]` in a format"))?,
                None => {
                    let rest = path.strip_prefix('.').ok_or_else(|| wrong("expected `.` or `[` in a format"))?;
                    rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()))
                }
            };
            value = value.get_item(&key.parse::<usize>().map_or_else(|_| Value::from(key), Value::from))?;
            path = after;
        }
        Ok(value)
    }
}

/// The padding and truncation of a field.
struct Alignment {
    fill: char,
    /// `<`, `>` or `^`.
    align: char,
    /// Minimum width in characters.
    width: usize,
    /// Maximum number of characters of the text.
    longest: Option<usize>,
}

impl Alignment {
    /// Parses a format specification such as `*^10.3s`.
    fn of(state: &mut State, spec: &str) -> Result<Alignment, Error> {
        const ALIGNMENTS: [char; 3] = ['<', '>', '^'];
        let mut chars = spec.chars();
        let (mut fill, mut align, mut rest) = (' ', '<', spec);
        match (chars.next(), chars.next()) {
            (Some(first), Some(second)) if ALIGNMENTS.contains(&second) => {
                (fill, align, rest) = (first, second, chars.as_str());
            }
            (Some(first), _) if ALIGNMENTS.contains(&first) => (align, rest) = (first, &spec[1..]),
            _ => {}
        }
        if let Some(after) = rest.strip_prefix('0').filter(|_| rest == spec) {
            (fill, rest) = ('0', after);
        }
        let width = number(state, take(&mut rest, |c| c.is_ascii_digit()))?.unwrap_or(0);
        let mut longest = None;
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
            longest = number(state, take(&mut rest, |c| c.is_ascii_digit()))?;
        }
        match rest {
            "" | "s" => Ok(Alignment { fill, align, width, longest }),
            _ => Err(wrong(format!("expected the format of a text, found `{spec}`"))),
        }
    }

    fn apply(&self, state: &mut State, text: &str) -> Result<String, Error> {
        let text = match self.longest.and_then(|longest| text.char_indices().nth(longest)) {
            Some((end, _)) => &text[..end],
            None => text,
        };
        let missing = self.width.saturating_sub(text.chars().count());
        spend(state, text.len() + missing)?;
        let left = match self.align {
            '<' => 0,
            '>' => missing,
            _ => missing / 2,
        };
        let fill = |n: usize| self.fill.to_string().repeat(n);
        Ok(format!("{}{text}{}", fill(left), fill(missing - left)))
    }
}

/// Takes what these characters make from the front of a text.
fn take<'a>(text: &mut &'a str, is_it: impl Fn(char) -> bool) -> &'a str {
    let (taken, rest) = text.split_at(text.find(|c| !is_it(c)).unwrap_or(text.len()));
    *text = rest;
    taken
}

/// A width or precision, which counts as what it can build.
fn number(state: &mut State, digits: &str) -> Result<Option<usize>, Error> {
    if digits.is_empty() {
        return Ok(None);
    }
    let number = digits.parse().unwrap_or(usize::MAX);
    spend(state, number)?;
    Ok(Some(number))
}
