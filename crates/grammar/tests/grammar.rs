//! What grammars accept, and how their filters go back.

mod common;

use common::Tokens;
use trine_engine::sample::History;
use trine_grammar::{Constraint, Error};

fn regex(text: &str) -> Constraint {
    Constraint::Regex(text.to_owned())
}

fn lark(text: &str) -> Constraint {
    Constraint::Lark(text.to_owned())
}

fn schema(text: &str) -> Constraint {
    Constraint::JsonSchema(text.to_owned())
}

fn choices(texts: &[&str]) -> Constraint {
    Constraint::Choices(texts.iter().map(|text| (*text).to_owned()).collect())
}

/// A constraint, texts that it accepts, and texts that it does not.
type Case = (Constraint, &'static [&'static str], &'static [&'static str]);

fn cases() -> Vec<Case> {
    let person = r#"{"properties": {"name": {"type": "string"}, "age": {"type": "integer"}}, "required": ["name"],
        "type": "object", "additionalProperties": false}"#;
    let tree = r##"{"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "required": ["v"],
        "properties": {"v": {"type": "integer"}, "next": {"$ref": "#/$defs/tree"}}, "additionalProperties": false}}}"##;
    vec![
        (regex("[a-z]+( [a-z]+)*[.!]"), &["a cat.", "yes!"], &["A cat.", "a cat", "", "a  cat."]),
        (regex("a/b|é+"), &["a/b", "é", "éé"], &["a", "aé", "ab"]),
        (
            choices(&["yes", "no", "no (why?)", "a/b", "x\ny"]),
            &["yes", "no", "no (why?)", "a/b", "x\ny"],
            &["y", "noo"],
        ),
        (
            schema(person),
            &[r#"{"name":"A","age":3}"#, r#"{ "name": "A" }"#, "{\n  \"name\": \"A\"\n}"],
            &[r#"{"age":3,"name":"A"}"#, r#"{"name":3}"#, r#"{"name":"A","age":3.5}"#, "{}", r#"{"name":"A"}}"#],
        ),
        (schema(tree), &[r#"{"v":1,"next":{"v":2}}"#], &[r#"{"v":1,"next":{}}"#]),
        (
            schema(r#"{"enum": ["a", 1, null, {"b": [true]}]}"#),
            &["\"a\"", "1", "null", r#"{"b":[true]}"#],
            &["\"b\"", "2"],
        ),
        (
            schema(r#"{"type": "string", "not": {"enum": ["cat", "car", ""]}}"#),
            &["\"ca\"", "\"cats\"", "\"dog\""],
            &["\"cat\"", "\"\"", "1"],
        ),
        (lark("start: \"(\" start \")\" | \"x\""), &["x", "((x))"], &["(x", "x)", ""]),
        (lark("start: item+\nitem: \"- \" /[a-z]+/ \"\\n\""), &["- a\n", "- a\n- b\n"], &["- a", "a\n"]),
        (lark("start: \"v=\" %json {\"type\": \"boolean\"}"), &["v=true"], &["v=1", "v="]),
    ]
}

#[test]
fn a_text_is_accepted_token_by_token_or_not() {
    let tokens = Tokens::embedded();
    for (constraint, accepted, rejected) in cases() {
        let grammar = tokens.grammar(&constraint).unwrap();
        for (texts, expected) in [(accepted, true), (rejected, false)] {
            for text in texts {
                assert_eq!(tokens.accepts(&grammar, text), expected, "{constraint:?}: {text:?}");
            }
        }
    }
}

#[test]
fn control_tokens_are_no_text_and_end_tokens_come_at_the_end() {
    let tokens = Tokens::embedded();
    let tokenizer = &tokens.tokenizer;
    let special: Vec<u32> = (0..tokenizer.len() as u32).filter(|&id| tokenizer.is_control(id)).collect();
    let end = special.iter().copied().find(|&id| tokenizer.is_eog(id)).unwrap();
    let name = tokenizer.name(end).unwrap();
    // Any text, with the name of the token itself in it.
    let any = tokens.grammar(&regex("(?s:.{0,60})")).unwrap();
    let mut filter = any.filter();
    let allowed = tokens.allowed(&mut *filter, &[]).unwrap();
    assert!(special.iter().all(|id| !allowed.contains(id) || tokenizer.is_eog(*id)));
    assert!(tokens.accepts(&any, name), "its name is text");
    // Only after what a grammar asks for.
    let grammar = tokens.grammar(&choices(&["yes", "yes yes"])).unwrap();
    let (mut filter, mut history) = (grammar.filter(), Vec::new());
    let mut ends = Vec::new();
    for id in tokens.encode("yes yes") {
        ends.push(tokens.allowed(&mut *filter, &history).unwrap().contains(&end));
        filter.accept(id);
        history.push(id);
    }
    let allowed = tokens.allowed(&mut *filter, &history).unwrap();
    assert!(!ends[0] && allowed.iter().all(|&id| tokenizer.is_eog(id)), "{ends:?}");
}

/// At each place of a text: proposals that go on rightly or wrongly are prepared and undone, and the masks are those of a filter that saw none.
#[test]
fn rollback_forgets_proposals() {
    let tokens = Tokens::embedded();
    for (constraint, accepted, rejected) in cases() {
        let grammar = tokens.grammar(&constraint).unwrap();
        for text in accepted {
            let ids = tokens.encode(text);
            for wrong in rejected.iter().chain(accepted) {
                let (mut plain, mut tried) = (grammar.filter(), grammar.filter());
                for at in 0..=ids.len() {
                    let proposed: Vec<u32> = ids[at..]
                        .iter()
                        .copied()
                        .take(2)
                        .chain(tokens.encode(wrong))
                        .chain(tokens.tokenizer.eog_tokens())
                        .collect();
                    let history: Vec<u32> = ids[..at].iter().chain(&proposed).copied().collect();
                    for len in at..=history.len() {
                        tried.prepare(History { tokens: &history[..len], prompt: 0 });
                        if let Some(&next) = history.get(len) {
                            tried.accept(next);
                        }
                    }
                    tried.rollback(proposed.len());
                    let [expected, found] =
                        [&mut plain, &mut tried].map(|filter| tokens.allowed(&mut **filter, &ids[..at]).unwrap());
                    assert!(expected == found && !found.is_empty(), "{constraint:?}: {text:?} at {at}");
                    if let Some(&next) = ids.get(at) {
                        plain.accept(next);
                        tried.accept(next);
                    }
                }
            }
        }
    }
}

#[test]
fn what_a_grammar_forbids_ends_the_request_and_what_follows_the_end_is_the_end() {
    let tokens = Tokens::embedded();
    let grammar = tokens.grammar(&choices(&["yes"])).unwrap();
    let (yes, end) = (tokens.encode("yes"), tokens.tokenizer.eog_tokens().next().unwrap());
    let mut filter = grammar.filter();
    filter.accept(tokens.encode("no")[0]);
    assert!(matches!(tokens.allowed(&mut *filter, &[1]), Err(trine_engine::Error::Filter(_))));
    let mut filter = grammar.filter();
    yes.iter().for_each(|&id| filter.accept(id));
    for n in 0..3 {
        let history = [&yes[..], &vec![end; n]].concat();
        assert!(tokens.allowed(&mut *filter, &history).unwrap().contains(&end));
        filter.accept(end);
    }
    filter.rollback(3);
    assert!(tokens.allowed(&mut *filter, &yes).unwrap().contains(&end));
}

#[test]
fn what_is_not_supported_is_refused_by_its_path() {
    let tokens = Tokens::embedded();
    let cases = [
        (r#"{"properties": {"a": {"uniqueItems": true}}}"#, "#/properties/a/uniqueItems"),
        (r#"{"properties": {"a/b": {"contains": {"type": "string"}}}}"#, "#/properties/a~1b/contains"),
        (r#"{"items": {"requird": ["a"]}}"#, "#/items/requird"),
        (r#"{"anyOf": [{"type": "text"}]}"#, "#/anyOf/0/type"),
        (r#"{"$ref": "https://example.com/a.json"}"#, "#/$ref"),
        (r##"{"$ref": "#/$defs/a"}"##, "#/$ref"),
        (r##"{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}"##, "#/$defs/a/$ref"),
        (r#"{"not": {"type": "integer"}}"#, "#/not/type"),
        (r#"{"items": {"pattern": "(?=a)b"}}"#, "#/items/pattern"),
        (r#"{"items": {"pattern": "("}}"#, "#/items/pattern"),
        (r#"{"items": {"format": "regex"}}"#, "#/items/format"),
        (r#"{"items": {"minLength": -1}}"#, "#/items/minLength"),
        (r#"{"items": {"multipleOf": 0}}"#, "#/items/multipleOf"),
        (r#"{"items": {"multipleOf": 1e-300}}"#, "#/items"),
        (r#"{"multipleOf": 1000003}"#, "#/multipleOf"),
        (r#"{"multipleOf": 1073741824}"#, "#/multipleOf"),
        (r#"{"allOf": [{"multipleOf": 97}, {"multipleOf": 89}, {"multipleOf": 83}]}"#, "#/allOf/2/multipleOf"),
        (r#"{"items": {"properties": {"a": {}}, "minProperties": 3}}"#, "#/items/minProperties"),
        (r#"{"items": {"patternProperties": {"a": {}, "b": {}}}}"#, "#/items"),
        (r#"{"oneOf": [{"pattern": "a"}, {"pattern": "b"}]}"#, "#/oneOf/0"),
        (r#"{"x-guidance": {"lenient": true}}"#, "#/x-guidance"),
        (r#"{"$schema": "http://json-schema.org/draft-03/schema"}"#, "#/$schema"),
        (r#"{"items": 3}"#, "#/items"),
        (r#"{"items": {"const": 1e999}}"#, ""),
        (r#"{"allOf": [{"type": "string"}, {"type": "null"}]}"#, "#"),
        ("false", "#"),
        ("[]", "#"),
        ("{", ""),
    ];
    for (text, expected) in cases {
        let error = tokens.grammar(&schema(text)).err().unwrap_or_else(|| panic!("{text} is accepted"));
        match &error {
            Error::Schema { path, problem } => assert!(path == expected && !problem.is_empty(), "{text}: {error}"),
            error => assert!(expected.is_empty() && matches!(error, Error::Invalid { .. }), "{text}: {error}"),
        }
    }
}

#[test]
fn an_object_may_have_650_optional_properties() {
    let tokens = Tokens::embedded();
    let names: Vec<String> = (0..650).map(|i| format!(r#""prop_{i}": {{"type": "string"}}"#)).collect();
    for rest in ["", r#", "additionalProperties": false"#] {
        let text = format!(r#"{{"type": "object", "properties": {{{}}}{rest}}}"#, names.join(", "));
        let grammar = tokens.grammar(&schema(&text)).unwrap();
        assert!(tokens.accepts(&grammar, r#"{"prop_0":"a","prop_649":"b"}"#), "{rest}");
        assert!(!tokens.accepts(&grammar, r#"{"prop_649":"b","prop_0":"a"}"#), "{rest}");
    }
}

#[test]
fn invalid_grammars_say_what_is_wrong() {
    let tokens = Tokens::embedded();
    let cases = [
        (regex("("), "invalid regular expression: unclosed group"),
        (regex("a{3,1}"), "invalid regular expression: "),
        (lark("begin: \"a\""), "invalid grammar: "),
        (lark("start: b"), "invalid grammar: "),
        (lark("start: \"a"), "invalid grammar: "),
        (lark("start: A\nA: A"), "invalid grammar: line 2, column 4: circular"),
        (lark("start: %json {\"uniqueItems\": true}"), "JSON Schema, #/uniqueItems: "),
        (choices(&[]), "invalid list of choices: "),
        (choices(&["a", ""]), "invalid list of choices: "),
    ];
    for (constraint, expected) in cases {
        let error = tokens.grammar(&constraint).err().unwrap_or_else(|| panic!("{constraint:?}")).to_string();
        assert!(error.starts_with(expected) && !error.contains('\n'), "{constraint:?}: {error}");
    }
}
