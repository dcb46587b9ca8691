use serde_json::{Value, json};

/// The arguments of a call as an object: of those that were cut off, as much as is whole. A text or number that was cut is left out, as nobody
/// knows what it would have become.
pub fn arguments(text: &str) -> Value {
    serde_json::from_str(text)
        .ok()
        .or_else(|| serde_json::from_str(&closed(text)?).ok())
        .filter(Value::is_object)
        .unwrap_or_else(|| json!({}))
}

/// A text of JSON to the end of its last value that is whole, with the brackets that it lacks.
fn closed(text: &str) -> Option<String> {
    let (mut open, mut whole) = (Vec::new(), None);
    let (mut in_string, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                open.push(if byte == b'{' { '}' } else { ']' });
                whole = Some((at + 1, open.clone()));
            }
            b'}' | b']' => {
                open.pop();
                whole = Some((at + 1, open.clone()));
            }
            b',' => whole = Some((at, open.clone())),
            _ => {}
        }
    }
    let (end, open) = whole?;
    Some(text[..end].chars().chain(open.into_iter().rev()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_arguments_that_were_cut_what_is_whole_remains() {
        for (text, expected) in [
            (r#"{"city": "Oslo", "days": 3}"#, json!({"city": "Oslo", "days": 3})),
            (r#"{"city": "Oslo", "days": 3"#, json!({"city": "Oslo"})),
            (r#"{"city": "Oslo", "days""#, json!({"city": "Oslo"})),
            (r#"{"city": "Os"#, json!({})),
            (r#"{"city": "a,b{\"", "x": [1, {"y": 2, "z": 3"#, json!({"city": "a,b{\"", "x": [1, {"y": 2}]})),
            (r#"{"x": {"y": 1}"#, json!({"x": {"y": 1}})),
            (r#"{"x": tru"#, json!({})),
            ("", json!({})),
            ("[1, 2", json!({})),
        ] {
            assert_eq!(arguments(text), expected, "{text}");
        }
    }
}
