//! Jinja's tokens: the text between tags, and the names, literals and operators in them.

use minijinja::Value;
use std::fmt::{self, Display};

use super::strings::is_space;
use crate::{Error, Result};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// Text between tags.
    Data(&'a str),
    VariableBegin,
    VariableEnd,
    BlockBegin,
    BlockEnd,
    Name(&'a str),
    /// The value of a string literal.
    Text(String),
    /// The value of a number.
    Number(Value),
    Operator(&'static str),
    End,
}

impl Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Token::Data(_) => f.write_str("text"),
            Token::VariableBegin => f.write_str("`{{`"),
            Token::VariableEnd => f.write_str("`}}`"),
            Token::BlockBegin => f.write_str("`{%`"),
            Token::BlockEnd => f.write_str("`%}`"),
            Token::Name(name) => write!(f, "`{name}`"),
            Token::Text(_) => f.write_str("a string"),
            Token::Number(number) => write!(f, "`{number}`"),
            Token::Operator(operator) => write!(f, "`{operator}`"),
            Token::End => f.write_str("the end of the template"),
        }
    }
}

/// A token and where it is in the source, in lines from 1 and bytes.
#[derive(Debug)]
pub(super) struct Lexed<'a> {
    pub(super) token: Token<'a>,
    pub(super) line: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Longer ones first.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".",
    ":", "|", ",", ";",
];

/// An error in a line of the template.
pub(super) fn at_line(line: usize, problem: impl Display) -> Error {
    Error::Template(format!("line {line}: {problem}"))
}

/// The source as Jinja reads it: with `\n` as the only line break, and without one at the end.
pub(super) fn normalized(source: &str) -> String {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    if source.ends_with('\n') {
        source.pop();
    }
    source
}

/// Splits a [`normalized`] source into tokens, of which the last is [`Token::End`].
pub(super) fn lex(source: &str) -> Result<Vec<Lexed<'_>>> {
    let mut lexer = Lexer { source, at: 0, counted: 0, line: 1, tokens: Vec::new() };
    while lexer.at < source.len() {
        lexer.root()?;
    }
    lexer.push(Token::End, source.len());
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    /// Up to where `line` has counted.
    counted: usize,
    line: usize,
    tokens: Vec<Lexed<'a>>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// The line of the current place.
    fn line(&mut self) -> usize {
        self.line += self.source[self.counted..self.at].matches('\n').count();
        self.counted = self.at;
        self.line
    }

    /// Adds a token that goes on to `end`.
    fn push(&mut self, token: Token<'a>, end: usize) {
        let (line, start) = (self.line(), self.at);
        self.tokens.push(Lexed { token, line, start, end });
        self.at = end;
    }

    /// The sign of whitespace control at the start of a text.
    fn sign(text: &str) -> Option<char> {
        text.chars().next().filter(|&c| c == '-' || c == '+')
    }

    /// The text before a tag without what the tag strips.
    fn data(&mut self, text: &'a str, sign: Option<char>, variable: bool) {
        let start_of_line = self.at == 0 || self.source[..self.at].ends_with('\n');
        let end = self.at + text.len();
        let line = text.rfind('\n').map_or(0, |at| at + 1);
        let kept = match sign {
            Some('-') => text.trim_end_matches(is_space),
            None if !variable && (line > 0 || start_of_line) && text[line..].chars().all(is_space) => &text[..line],
            _ => text,
        };
        if !kept.is_empty() {
            self.push(Token::Data(kept), end);
        }
        self.at = end;
    }

    /// Text up to the next tag, and the tag.
    fn root(&mut self) -> Result<()> {
        let rest = self.rest();
        let tag =
            rest.match_indices('{').find(|(at, _)| ["{{", "{%", "{#"].iter().any(|tag| rest[*at..].starts_with(tag)));
        let Some((before, _)) = tag else {
            self.push(Token::Data(rest), self.source.len());
            return Ok(());
        };
        let inside = &rest[before + 2..];
        let sign = Self::sign(inside);
        let (kind, inside) = (rest.as_bytes()[before + 1], &inside[sign.map_or(0, char::len_utf8)..]);
        self.data(&rest[..before], sign, kind == b'{');
        let begin = self.source.len() - inside.len();
        match kind {
            b'#' => self.comment(begin),
            b'{' => {
                self.push(Token::VariableBegin, begin);
                self.tag(Token::VariableEnd)
            }
            _ => {
                let name = inside.trim_start_matches(is_space);
                let raw = name.strip_prefix("raw").map(|after| after.trim_start_matches(is_space));
                match raw.and_then(|after| {
                    after
                        .strip_prefix("%}")
                        .map(|body| (body, false))
                        .or(after.strip_prefix("-%}").map(|body| (body, true)))
                }) {
                    Some((body, strip)) => self.raw(if strip { body.trim_start_matches(is_space) } else { body }),
                    None => {
                        self.push(Token::BlockBegin, begin);
                        self.tag(Token::BlockEnd)
                    }
                }
            }
        }
    }

    /// Goes on behind a tag that ended before `after`, whose last sign was `sign`.
    fn after(&self, after: &'a str, sign: Option<char>) -> usize {
        let after = match sign {
            Some('-') => after.trim_start_matches(is_space),
            Some(_) => after,
            None => after.strip_prefix('\n').unwrap_or(after),
        };
        self.source.len() - after.len()
    }

    fn comment(&mut self, begin: usize) -> Result<()> {
        let line = self.line();
        let body = &self.source[begin..];
        // As in Python, an empty one may be open.
        let open = || at_line(line, "expected `#}`, found the end of the template");
        let (comment, after) = if body.is_empty() { ("+", "") } else { body.split_once("#}").ok_or_else(open)? };
        self.at = self.after(after, comment.chars().next_back().filter(|&c| c == '-' || c == '+'));
        Ok(())
    }

    /// Text up to `{% endraw %}`.
    fn raw(&mut self, body: &'a str) -> Result<()> {
        let line = self.line();
        for (end, _) in body.match_indices("{%") {
            let tag = &body[end + 2..];
            let sign = Self::sign(tag);
            let tag = tag[sign.map_or(0, char::len_utf8)..].trim_start_matches(is_space);
            let Some(tag) = tag.strip_prefix("endraw") else { continue };
            let tag = tag.trim_start_matches(is_space);
            let last = Self::sign(tag);
            if let Some(after) = tag[last.map_or(0, char::len_utf8)..].strip_prefix("%}") {
                self.at = self.source.len() - body.len();
                self.data(&body[..end], sign, false);
                self.at = self.after(after, last);
                return Ok(());
            }
        }
        if body.is_empty() {
            self.at = self.source.len();
            return Ok(());
        }
        Err(at_line(line, "expected `{% endraw %}`, found the end of the template"))
    }

    /// The tokens of a tag, up to its end.
    fn tag(&mut self, end: Token<'a>) -> Result<()> {
        let mut open: Vec<&str> = Vec::new();
        loop {
            self.at = self.source.len() - self.rest().trim_start_matches(is_space).len();
            let rest = self.rest();
            let Some(first) = rest.chars().next() else { return Ok(()) };
            if open.is_empty() {
                let block = end == Token::BlockEnd;
                let sign = Self::sign(rest).filter(|&sign| sign == '-' || block);
                let body = &rest[sign.map_or(0, char::len_utf8)..];
                if let Some(after) = body.strip_prefix(if block { "%}" } else { "}}" }) {
                    // Only blocks swallow the line break behind them.
                    let sign = if block { sign } else { sign.or(Some('+')) };
                    let after = self.after(after, sign);
                    self.push(end, after);
                    return Ok(());
                }
            }
            let start = self.at;
            let after_dot =
                matches!(self.tokens.last(), Some(Lexed { token: Token::Operator("."), end, .. }) if *end == start);
            if let Some((number, len)) = number(rest, after_dot) {
                let line = self.line();
                let number = number.ok_or_else(|| at_line(line, "expected an integer of at most 128 bits"))?;
                self.push(Token::Number(number), start + len);
            } else if first == '_' || first.is_alphanumeric() {
                let len = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
                self.push(Token::Name(&rest[..len]), start + len);
            } else if first == '\'' || first == '"' {
                let line = self.line();
                let len =
                    string(rest).ok_or_else(|| at_line(line, format!("expected `{first}` at the end of a string")))?;
                let text = unescape(&rest[1..len - 1]).map_err(|problem| at_line(line, problem))?;
                self.push(Token::Text(text), start + len);
            } else if let Some(operator) = OPERATORS.into_iter().find(|operator| rest.starts_with(operator)) {
                let line = self.line();
                match operator {
                    "(" => open.push(")"),
                    "[" => open.push("]"),
                    "{" => open.push("}"),
                    ")" | "]" | "}" => match open.pop() {
                        Some(close) if close == operator => {}
                        Some(close) => return Err(at_line(line, format!("expected `{close}`, found `{operator}`"))),
                        None => return Err(at_line(line, format!("unexpected `{operator}`"))),
                    },
                    _ => {}
                }
                self.push(Token::Operator(operator), start + operator.len());
            } else {
                let line = self.line();
                return Err(at_line(line, format!("unexpected character `{first}`")));
            }
        }
    }
}

/// The length of digits with single underscores between them.
fn digits(text: &str, is_digit: impl Fn(u8) -> bool) -> usize {
    let bytes = text.as_bytes();
    let mut len = 0;
    while bytes.get(len).is_some_and(|&b| is_digit(b)) {
        len += 1;
        if bytes.get(len) == Some(&b'_') && bytes.get(len + 1).is_some_and(|&b| is_digit(b)) {
            len += 1;
        }
    }
    len
}

/// The number at the start of a text, if there is one, which is none if it is too large, and its length.
fn number(text: &str, after_dot: bool) -> Option<(Option<Value>, usize)> {
    let decimal = |text: &str| digits(text, |b| b.is_ascii_digit());
    let whole = decimal(text);
    if whole == 0 {
        return None;
    }
    let fraction = text[whole..].strip_prefix('.').map_or(0, decimal);
    let mut len = whole + if fraction > 0 { fraction + 1 } else { 0 };
    if let Some(exponent) = text[len..].strip_prefix(['e', 'E']) {
        let sign = exponent.len() - exponent.trim_start_matches(['+', '-']).len().max(exponent.len().saturating_sub(1));
        let exponent = decimal(&exponent[sign..]);
        len += if exponent > 0 { 1 + sign + exponent } else { 0 };
    }
    if len > whole && !after_dot {
        return Some((text[..len].replace('_', "").parse::<f64>().ok().map(Value::from), len));
    }
    let prefixed = [("0b", 2), ("0o", 8), ("0x", 16)].into_iter().find_map(|(prefix, radix)| {
        let rest = text.get(2..).filter(|_| text[..2.min(text.len())].eq_ignore_ascii_case(prefix))?;
        let skip = usize::from(rest.starts_with('_'));
        let len = digits(&rest[skip..], |b| char::from(b).is_digit(radix));
        (len > 0).then_some((2, 2 + skip + len, radix))
    });
    let (start, end, radix) = match prefixed {
        Some(found) => found,
        // Other digits do not follow a zero.
        None if text.starts_with('0') => (0, digits(text, |b| b == b'0'), 10),
        None => (0, whole, 10),
    };
    let value = i128::from_str_radix(&text[start..end].replace('_', ""), radix).ok();
    Some((value.map(|value| i64::try_from(value).map_or_else(|_| value.into(), Value::from)), end))
}

/// The length of the string literal at the start of a text, with its quotes.
fn string(text: &str) -> Option<usize> {
    let quote = text.chars().next()?;
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|&(_, c)| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map(|(at, _)| at + 1)
}

/// The text that a string literal stands for, with Python's escapes.
fn unescape(literal: &str) -> std::result::Result<String, String> {
    let mut text = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let Some(letter) = after.chars().next() else { break };
        rest = &after[letter.len_utf8()..];
        let simple = match letter {
            '\n' => continue,
            '\\' | '\'' | '"' => letter,
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '0'..='7' => {
                let len = after.bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
                rest = &after[len..];
                u32::from_str_radix(&after[..len], 8).ok().and_then(char::from_u32).unwrap_or_default()
            }
            'x' | 'u' | 'U' => {
                let len = match letter {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let digits = rest.get(..len).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
                let digits = digits.ok_or_else(|| format!("expected {len} hexadecimal digits after `\\{letter}`"))?;
                rest = &rest[len..];
                let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                code.ok_or_else(|| format!("`\\{letter}{digits}` is no character"))?
            }
            'N' => return Err("names of characters are unknown: write the character itself for `\\N{...}`".to_owned()),
            // Jinja has escaped other characters before it reads backslashes.
            letter if !letter.is_ascii() => {
                let code = letter as u32;
                text.push_str(&match code {
                    ..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                });
                continue;
            }
            letter => {
                text.push('\\');
                letter
            }
        };
        text.push(simple);
    }
    text.push_str(rest);
    Ok(text)
}
