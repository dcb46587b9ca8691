//! Strings, names and numbers of schemas: what is accepted satisfies them, and what cannot be said exactly is refused by its path.

mod common;

use common::Tokens;
use serde_json::json;
use trine_grammar::{Constraint, Error};

fn schema(text: &str) -> Constraint {
    Constraint::JsonSchema(text.to_owned())
}

/// A pattern for one character, and whether it matches one.
type Class = (&'static str, fn(char) -> bool);

const CLASSES: &[Class] = &[
    (r"^[\x00-\x1f]$", |c| c < ' '),
    (r"^[\x00-\x09\x0b-\x1f]$", |c| c < ' ' && c != '\n'),
    (r"^[^ -\U0010ffff]$", |c| c < ' '),
    (r"^([\x00-\x0f]|([\x10-\x1f]))$", |c| c < ' '),
    (r"^(?:\x00|[\x01-\x1f]|a)$", |c| c < ' ' || c == 'a'),
    (r"^(?-u:[\x00-\x1f])$", |c| c < ' '),
    (r#"^[^"]$"#, |c| c != '"'),
    (r"^[^\\]$", |c| c != '\\'),
    (r#"^[^"\\]$"#, |c| c != '"' && c != '\\'),
    (r#"^[^\n"]$"#, |c| c != '\n' && c != '"'),
    (r"^[^\u0000-\u001f]$", |c| c >= ' '),
    (r"^.$", |c| c != '\n'),
    (r"^[\s\S]$", |_| true),
    (r"^\S$", |c| !c.is_whitespace()),
    (r"^\W$", |c| !c.is_ascii_alphanumeric() && c != '_'),
    (r"^[^a]$", |c| c != 'a'),
    (r"^[a-z\t]$", |c| c.is_ascii_lowercase() || c == '\t'),
];

/// Control characters that have an escape of one letter, and all others but the rest of them, are accepted as they are written in JSON.
#[test]
fn a_class_lets_its_own_characters_through_however_they_are_written() {
    let tokens = Tokens::embedded();
    for (pattern, matches) in CLASSES {
        let text = json!({ "type": "string", "pattern": pattern }).to_string();
        let grammar = tokens.grammar(&schema(&text)).unwrap();
        for c in (0..0x80_u8).map(char::from).chain(['é', '日']) {
            let written = json!(c.to_string()).to_string();
            let is_common = !c.is_ascii_control() || "\u{8}\t\n\u{c}\r".contains(c);
            assert_eq!(tokens.accepts(&grammar, &written), matches(c) && is_common, "{pattern}: {written}");
            if !matches(c) {
                for other in [format!("\"{c}\""), format!("\"\\{c}\""), format!("\"\\u{:04x}\"", u32::from(c))] {
                    let means = serde_json::from_str::<String>(&other).ok();
                    let is_it = means.is_some_and(|text| text == c.to_string());
                    assert!(!is_it || !tokens.accepts(&grammar, &other), "{pattern}: {other}");
                }
            }
        }
    }
}

#[test]
fn patterns_keep_their_meaning() {
    let tokens = Tokens::embedded();
    let cases: &[(&str, &[&str], &[&str])] = &[
        (r#"^[^"]*$"#, &["", "a'b\n\\"], &["\"", "a\"b"]),
        (r#"[^"\\]"#, &["a", "\"a", "\\\"a"], &["", "\"", "\\\"\\"]),
        (r"^a|b$", &["ax", "xb", "a", "b"], &["xa", "bx"]),
        (r"^(\d{3}-)?\d{4}$", &["123-4567", "4567"], &["1234567", "٣٣٣٣"]),
        (r"^(?i)abc$", &["aBc"], &["abd"]),
        (r"^\w+([.-]?\w+)*@\w+/?$", &["a.b@c", "a@b/"], &["a..b@c", "@"]),
        (r"(^$)|(^x.*y$)", &["", "xy", "x z y"], &["x", " xy"]),
        (r"^(?P<stop>a)b{2,3}$", &["abb", "abbb"], &["a", "ab"]),
        (r"^[[:alpha:]\pL-]+$", &["é-ü"], &["1"]),
        ("^a\nb$", &["a\nb"], &["anb", "a b"]),
    ];
    for (pattern, accepted, rejected) in cases {
        let grammar = tokens.grammar(&schema(&json!({ "pattern": pattern, "type": "string" }).to_string())).unwrap();
        let names = json!({ "patternProperties": { *pattern: true }, "additionalProperties": false, "type": "object" });
        let names = tokens.grammar(&schema(&names.to_string())).unwrap();
        for (texts, expected) in [(accepted, true), (rejected, false)] {
            for text in *texts {
                assert_eq!(tokens.accepts(&grammar, &json!(text).to_string()), expected, "{pattern}: {text:?}");
                assert_eq!(
                    tokens.accepts(&names, &json!({ *text: 1 }).to_string()),
                    expected,
                    "{pattern}: name {text:?}"
                );
            }
        }
    }
}

#[test]
fn a_name_in_escapes_is_no_further_property() {
    let tokens = Tokens::embedded();
    for text in [
        r#"{"properties": {"a": {"type": "integer"}}}"#,
        r#"{"patternProperties": {"^a$": {"type": "integer"}}}"#,
        r#"{"patternProperties": {"^[^\"b]$": {"type": "integer"}}}"#,
        r#"{"not": {"required": ["a"]}, "type": "object"}"#,
    ] {
        let grammar = tokens.grammar(&schema(text)).unwrap();
        assert!(tokens.accepts(&grammar, r#"{"b": "x"}"#), "{text}");
        for answer in [r#"{"a": "x"}"#, r#"{"\u0061": "x"}"#, r#"{"b": 1, "\u0061": "x"}"#] {
            assert!(!tokens.accepts(&grammar, answer), "{text}: {answer}");
        }
    }
    let excluded = r#"{"type": "string", "not": {"const": "\"a"}}"#;
    let grammar = tokens.grammar(&schema(excluded)).unwrap();
    assert!(tokens.accepts(&grammar, r#""\"b""#) && tokens.accepts(&grammar, r#""a""#));
    assert!(!tokens.accepts(&grammar, r#""\"a""#));
}

#[test]
fn numbers_keep_to_their_bounds_however_far_these_are() {
    let tokens = Tokens::embedded();
    let cases: &[(&str, &[&str], &[&str])] = &[
        (
            r#"{"type": "integer", "minimum": -9223372036854775808, "maximum": 9223372036854775807}"#,
            &["0", "-1", "9000000000000000000", "-8999999999999999999", "1700000000000000000"],
            &["9223372036854775808", "-9223372036854775809", "1.5"],
        ),
        (r#"{"type": "integer", "minimum": -9223372036854775807}"#, &["5", "-5"], &["-9223372036854775808"]),
        (r#"{"type": "integer", "minimum": -1e300}"#, &["5", "-5", "123456789012345678901234567890"], &["-1e301"]),
        (r#"{"type": "integer", "maximum": 18446744073709551615}"#, &["5", "-5"], &["18446744073709551616"]),
        (r#"{"type": "integer", "maximum": 9007199254740993}"#, &["9007199254740992"], &["9007199254740994"]),
        (r#"{"type": "integer", "exclusiveMaximum": 9007199254740994}"#, &["9007199254740991"], &["9007199254740994"]),
        (r#"{"type": "integer", "exclusiveMaximum": 9007199254740996}"#, &["9007199254740992"], &["9007199254740996"]),
        (r#"{"type": "integer", "minimum": 9007199254740994}"#, &["9007199254740994"], &["9007199254740993"]),
        (
            r#"{"type": "number", "minimum": 9007199254740994, "maximum": 9223372036854775807}"#,
            &["9007199254740994", "9007199254740994.5", "8999999999999999999"],
            &["9007199254740993.9", "9223372036854775808"],
        ),
        (r#"{"type": "number", "maximum": 999999999999999999}"#, &["99999999999999999"], &["1000000000000000000"]),
        (r#"{"type": "number", "minimum": 0, "maximum": 3.4028235e38}"#, &["0.5", "12345678901234567"], &["-1"]),
        (r#"{"type": "number", "minimum": -1.7976931348623157e308}"#, &["0.5", "-12345678901234567"], &[]),
        (r#"{"not": {"minimum": 1e300}, "type": "number"}"#, &["1", "-1"], &[]),
        (r#"{"const": 9007199254740994}"#, &["9007199254740994"], &["9007199254740993", "9007199254740992"]),
        (r#"{"const": 1e22}"#, &["10000000000000000000000"], &["10000000000000000000001", "1e22"]),
        (r#"{"enum": [1, -1e16]}"#, &["1", "-10000000000000000"], &["-1", "-10000000000000001"]),
        (r#"{"const": 10000000000000000000, "type": "number"}"#, &["10000000000000000000"], &["1"]),
        (r#"{"const": 1e16, "type": "integer"}"#, &["10000000000000000"], &["1"]),
        (r#"{"const": 0.1000000000000000055511151231257827}"#, &["0.1"], &["0.10000000000000001"]),
        (r#"{"type": "integer", "format": "int64"}"#, &["1", "-1"], &["9223372036854775808"]),
        (
            r#"{"type": ["integer", "null"], "format": "int32"}"#,
            &["2147483647", "null"],
            &["2147483648", "-2147483649"],
        ),
        (r#"{"type": "integer", "format": "int32", "minimum": 1}"#, &["1"], &["0", "2147483648"]),
        (r#"{"type": "number", "format": "double"}"#, &["1.5"], &["\"a\""]),
        (r#"{"type": "number", "format": "float"}"#, &["1.5"], &["\"a\""]),
    ];
    for (text, accepted, rejected) in cases {
        let grammar = tokens.grammar(&schema(text)).unwrap_or_else(|error| panic!("{text}: {error}"));
        for (answers, expected) in [(accepted, true), (rejected, false)] {
            for answer in *answers {
                assert_eq!(tokens.accepts(&grammar, answer), expected, "{text}: {answer}");
            }
        }
    }
}

#[test]
fn what_is_not_exact_is_refused_in_plain_words() {
    let tokens = Tokens::embedded();
    let cases = [
        (r#"{"const": 12345678901234567890123}"#, "#/const"),
        (r#"{"const": 18446744073709551615}"#, "#/const"),
        (r#"{"const": 18446744073709551616}"#, "#/const"),
        (r#"{"const": 9007199254740993}"#, "#/const"),
        (r#"{"const": 1e23}"#, "#/const"),
        (r#"{"const": 10000000000000000001}"#, "#/const"),
        (r#"{"allOf": [{"const": 1e22}, {"type": ["null", "integer"]}]}"#, "#"),
        (r#"{"const": -9223372036854775808}"#, "#/const"),
        (r#"{"items": {"enum": [1, [18446744073709551615]]}}"#, "#/items/enum/1"),
        (r#"{"type": "integer", "minimum": 9007199254740993, "maximum": 9007199254740993}"#, "#/minimum"),
        (r#"{"type": "integer", "maximum": -1e300}"#, "#/maximum"),
        (r#"{"type": "integer", "exclusiveMinimum": 9007199254740994}"#, "#/exclusiveMinimum"),
        (r#"{"items": {"type": "number", "minimum": 1e20}}"#, "#/items/minimum"),
        (r#"{"not": {"maximum": 1e300}, "type": "number"}"#, "#/not/maximum"),
        (r#"{"type": "string", "format": "int64"}"#, "#/format"),
        (r#"{"const": "a\u0000"}"#, "#/const"),
        (r#"{"pattern": "^\\x1b[a-z]$"}"#, "#/pattern"),
        (r#"{"properties": {"a\u0000": {}}}"#, "#/properties/a\u{0}"),
        (r#"{"required": ["a\u0000"]}"#, "#/required"),
        (r#"{"minProperties": 2, "patternProperties": {"^x": true}}"#, "#/minProperties"),
        (r#"{"items": {"minProperties": 3, "required": ["a"]}}"#, "#/items/minProperties"),
        (r#"{"items": {"multipleOf": 1e-300}}"#, "#/items"),
        (r#"{"items": {"patternProperties": {"a": {}, "b": {}}}}"#, "#/items"),
    ];
    for (text, expected) in cases {
        let error = tokens.grammar(&schema(text)).err().unwrap_or_else(|| panic!("{text} is accepted"));
        let Error::Schema { path, problem } = &error else { panic!("{text}: {error}") };
        assert_eq!(path, expected, "{text}: {problem}");
        // These are exact as float64, and refused for another reason.
        let is_exact = ["18446744073709551616", "-9223372036854775808"].iter().any(|exact| text.contains(exact));
        assert!(!(is_exact && problem.contains("exact as float64")), "{text}: {problem}");
        let is_plain = ["panic", "Some(", "None", "overflow"].iter().all(|word| !problem.contains(word));
        assert!(is_plain, "{text}: {problem}");
    }
    let beyond = tokens.grammar(&schema(r#"{"const": 1e400}"#)).err().unwrap().to_string();
    assert!(beyond.contains("a number is beyond float64 at line 1"), "{beyond}");
    let grammar = tokens.grammar(&schema(r#"{"minProperties": 2, "required": ["a"]}"#)).unwrap();
    assert!(tokens.accepts(&grammar, r#"{"a": 1, "b": 2}"#) && !tokens.accepts(&grammar, r#"{"a": 1}"#));
}
