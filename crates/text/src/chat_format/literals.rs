//! Values as Python and Gemma write them.

use serde_json::{Map, Number, Value};
use std::str::Chars;

/// Maximum number of lists and objects in each other.
const DEPTH: usize = 64;

/// A reader of values.
struct Reader<'a> {
    rest: &'a str,
    gemma: bool,
}

/// Gemma's quotes.
pub const QUOTE: &str = "<|\"|>";

/// A value of Python, such as `['a', True]`.
pub fn python(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text, gemma: false };
    let value = reader.value(DEPTH)?;
    reader.space().is_empty().then_some(value)
}

/// The arguments of a call in Python, such as `a=1, b='c'`.
pub fn python_arguments(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text, gemma: false };
    let mut map = Map::new();
    while !reader.space().is_empty() {
        let name = reader.name()?;
        reader.eat("=")?;
        map.insert(name, reader.value(DEPTH)?);
        if reader.eat(",").is_none() && !reader.space().is_empty() {
            return None;
        }
    }
    Some(Value::Object(map))
}

/// Arguments as Gemma 4 writes them: `{a:1,b:<|"|>c<|"|>}`.
pub fn gemma_arguments(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text, gemma: true };
    let value = reader.value(DEPTH)?;
    (reader.space().is_empty() && value.is_object()).then_some(value)
}

impl<'a> Reader<'a> {
    fn space(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    fn eat(&mut self, text: &str) -> Option<()> {
        self.rest = self.space().strip_prefix(text)?;
        Some(())
    }

    fn until(&mut self, ends: &[char]) -> &'a str {
        let (text, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        text
    }

    fn name(&mut self) -> Option<String> {
        self.space();
        let name = self.until(&['=', ',', '(', ')', ' ', '\n']);
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        self.space();
        if let Some(string) = self.string() {
            return Some(Value::String(string));
        }
        match self.rest.chars().next()? {
            '{' => self.object(depth),
            '[' => self.list("[", "]", depth),
            '(' => self.list("(", ")", depth),
            _ => match self.until(&[',', ']', '}', ')', ':', ' ', '\n']) {
                "true" | "True" => Some(Value::Bool(true)),
                "false" | "False" => Some(Value::Bool(false)),
                "null" | "None" => Some(Value::Null),
                number => {
                    let whole = number.parse().ok().map(|n: i64| Number::from(n));
                    whole.or_else(|| serde_json::from_str(number).ok()).map(Value::Number)
                }
            },
        }
    }

    fn list(&mut self, open: &str, close: &str, depth: usize) -> Option<Value> {
        self.eat(open)?;
        let mut list = Vec::new();
        while self.eat(close).is_none() {
            list.push(self.value(depth)?);
            if self.eat(",").is_none() {
                self.eat(close)?;
                break;
            }
        }
        Some(Value::Array(list))
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        self.eat("{")?;
        let mut map = Map::new();
        while self.eat("}").is_none() {
            self.space();
            let key = match self.string() {
                Some(key) => key,
                None if self.gemma => self.until(&[':']).to_owned(),
                None => return None,
            };
            self.eat(":")?;
            map.insert(key, self.value(depth)?);
            if self.eat(",").is_none() {
                self.eat("}")?;
                break;
            }
        }
        Some(Value::Object(map))
    }

    /// A string, if one begins here and ends.
    fn string(&mut self) -> Option<String> {
        if self.gemma {
            let (text, rest) = self.rest.strip_prefix(QUOTE)?.split_once(QUOTE)?;
            self.rest = rest;
            return Some(text.to_owned());
        }
        let quote = self.rest.chars().next().filter(|c| "'\"".contains(*c))?;
        let (mut text, mut chars) = (String::new(), self.rest[1..].chars());
        loop {
            match chars.next()? {
                c if c == quote => {
                    self.rest = chars.as_str();
                    return Some(text);
                }
                '\\' => escaped(&mut chars, &mut text)?,
                c => text.push(c),
            }
        }
    }
}

/// What follows a backslash. One that Python does not know stays.
fn escaped(chars: &mut Chars, text: &mut String) -> Option<()> {
    fn code(chars: &mut Chars, digits: usize) -> Option<u32> {
        let hex = chars.as_str().get(..digits)?;
        *chars = chars.as_str()[digits..].chars();
        u32::from_str_radix(hex, 16).ok()
    }
    let c = chars.next()?;
    match c {
        'n' => text.push('\n'),
        't' => text.push('\t'),
        'r' => text.push('\r'),
        'b' => text.push('\u{8}'),
        'f' => text.push('\u{c}'),
        '\\' | '\'' | '"' | '/' => text.push(c),
        '\n' => {}
        'x' => text.push(char::from_u32(code(chars, 2)?)?),
        'U' => text.push(char::from_u32(code(chars, 8)?)?),
        'u' => {
            let mut units = vec![code(chars, 4)? as u16];
            if (0xd800..0xdc00).contains(&units[0]) && chars.as_str().starts_with("\\u") {
                chars.nth(1);
                units.push(code(chars, 4)? as u16);
            }
            text.push_str(&String::from_utf16_lossy(&units));
        }
        c => text.extend(['\\', c]),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn literals_become_json() {
        let cases = [
            ("['a', True, None, (1, -2.5)]", Some(json!(["a", true, null, [1, -2.5]]))),
            (r#"{'a': "it's", "b": {'c': []}}"#, Some(json!({ "a": "it's", "b": { "c": [] } }))),
            (r"'\\ \' \n \x41 \u00e9 \ud83e\udd99 \q'", Some(json!("\\ ' \n A é 🦙 \\q"))),
            ("['a'", None),
            ("[1 2]", None),
            ("{1: 2}", None),
            ("'a", None),
            ("nope", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(python(text), expected, "{text}");
        }
        assert_eq!(python(&"[".repeat(1000)), None);
        let arguments = python_arguments("city='Pa, ris)', days = 3, tags=[\"a\"]");
        assert_eq!(arguments, Some(json!({ "city": "Pa, ris)", "days": 3, "tags": ["a"] })));
        assert_eq!(python_arguments(" "), Some(json!({})));
        assert_eq!(python_arguments("3"), None);
        let gemma = gemma_arguments("{city:<|\"|>Pa\"ris}\n<|\"|>,n:[1,<|\"|>b<|\"|>],o:{x:true}}");
        assert_eq!(gemma, Some(json!({ "city": "Pa\"ris}\n", "n": [1, "b"], "o": { "x": true } })));
        assert_eq!(gemma_arguments("{a:}"), None);
    }
}
