//! Constraints that would take forever: an error that names a limit, or a grammar whose masks keep to theirs.

mod common;

use common::Tokens;
use std::time::{Duration, Instant};
use trine_grammar::{Constraint, Error, Grammars, Limits, Stop};

fn nested(open: &str, inner: &str, close: &str, n: usize) -> String {
    open.repeat(n) + inner + &close.repeat(n)
}

fn constants(n: usize) -> String {
    let all = (0..n).map(|i| format!(r#"{{"const":"k{i}"}}"#)).collect::<Vec<_>>();
    format!(r#"{{"oneOf":[{}]}}"#, all.join(","))
}

/// Hostile texts of each kind of constraint.
fn texts() -> Vec<(&'static str, Constraint)> {
    let regex = Constraint::Regex;
    let lark = Constraint::Lark;
    let schema = Constraint::JsonSchema;
    let doubled = |n: usize| (1..n).map(|i| format!("T{i}: T{0} T{0}\n", i - 1)).collect::<String>();
    let chain = |n: usize| {
        let defs: Vec<String> =
            (0..n).map(|i| format!(r##""d{i}": {{"items": {{"$ref": "#/$defs/d{}"}}}}"##, i + 1)).collect();
        format!(r##"{{"$ref": "#/$defs/d0", "$defs": {{{}, "d{n}": {{}}}}}}"##, defs.join(", "))
    };
    let any = |n: usize| format!(r#"{{"anyOf": [{{"minLength": {n}}}, {{"maxLength": {n}}}, {{"minimum": {n}}}]}}"#);
    let all = |n: usize| format!(r#"{{"allOf": [{}]}}"#, (0..n).map(any).collect::<Vec<_>>().join(", "));
    let names = |n: usize| (0..n).map(|i| format!(r#""p{i}": {{"type": "string"}}"#)).collect::<Vec<_>>().join(", ");
    vec![
        ("repetition", regex("a{1000000}".to_owned())),
        ("nested repetition", regex("((a{1000}){1000}){1000}".to_owned())),
        ("stars", regex(nested("(", "a", "*)*", 100))),
        ("groups", regex(nested("(", "a", ")", 100_000))),
        ("exponential", regex("(a|b|ab|ba|aab)*c(a|b)(a|b){30}".to_owned())),
        ("many states", regex("(.*a.{18}){3}".to_owned())),
        ("classes", regex(r"(\w|\pL|[^a])*x\w{100}".to_owned())),
        ("long", regex("abc|".repeat(1 << 15))),
        ("alternatives", regex((0..20_000).map(|i| format!("a{i}|")).collect())),
        ("groups", lark(format!("start: {}", nested("(", "\"a\"", ")", 100_000)))),
        ("nots", lark(format!("start: A\nA: {}\"a\"", "~".repeat(100_000)))),
        ("lines", lark((0..50_000).map(|i| format!("r{i}: r{}\n", i + 1)).collect())),
        (
            "chain",
            lark((0..4_000).map(|i| format!("R{i}: R{}\n", i + 1)).collect::<String>() + "start: R0\nR4000: \"a\""),
        ),
        (
            "rules",
            lark((0..4_000).map(|i| format!("r{i}: r{}\n", i + 1)).collect::<String>() + "start: r0\nr4000: \"a\""),
        ),
        ("doubling", lark(format!("start: T60\nT0: /a+b/\n{}", doubled(61)))),
        ("itself", lark("start: start".to_owned())),
        ("itself, ambiguous", lark("start: start start start | \"a\" | \"\"".to_owned())),
        ("repetition", lark("start: (\"a\" start?){1000000}".to_owned())),
        ("nesting", schema(nested("[", "", "]", 100_000))),
        ("nesting", schema(nested(r#"{"items": "#, "{}", "}", 100))),
        ("references", schema(chain(3_000))),
        ("a loop", schema(r##"{"$ref": "#"}"##.to_owned())),
        (
            "loops",
            schema(r##"{"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#"}]}}}"##.to_owned()),
        ),
        ("a loop of opposites", schema(r##"{"not": {"$ref": "#"}}"##.to_owned())),
        ("a remote", schema(r#"{"$ref": "file:///etc/passwd"}"#.to_owned())),
        ("conjunctions", schema(all(14))),
        ("conjunctions, negated", schema(format!(r#"{{"not": {}}}"#, all(14)))),
        ("opposites", schema(nested(r#"{"not": "#, r#"{"enum": ["a"]}"#, "}", 60))),
        ("if", schema(nested(r#"{"if": "#, r#"{"required": ["a"]}"#, r#", "then": {"minProperties": 1}}"#, 40))),
        ("exclusion", schema(nested(r#"{"oneOf": [{"required": ["a"]}, "#, "{}", "]}", 40))),
        ("unevaluated", schema(format!(r#"{{"unevaluatedItems": false, "allOf": [{}, {}]}}"#, all(9), all(9)))),
        ("counts", schema(r#"{"minItems": 1000000000, "maxLength": 1000000000}"#.to_owned())),
        ("lengths", schema(r#"{"type": "string", "minLength": 900000, "maxLength": 900001}"#.to_owned())),
        (
            "items",
            schema(
                r#"{"type": "array", "minItems": 900000, "items": {"type": "array", "minItems": 900000}}"#.to_owned(),
            ),
        ),
        ("pattern", schema(r#"{"type": "string", "pattern": "(a{1000}){1000}"}"#.to_owned())),
        ("names", schema(format!(r#"{{"type": "object", "properties": {{{}}}}}"#, names(8_000)))),
        (
            "enum",
            schema(format!(
                r#"{{"not": {{"enum": [{}]}}}}"#,
                (0..20_000).map(|i| format!("\"{i}\"")).collect::<Vec<_>>().join(",")
            )),
        ),
        ("constants", schema(constants(10_000))),
        ("digits", schema(r#"{"type": "number", "multipleOf": 1e-17, "maximum": 1e300}"#.to_owned())),
        ("choices", Constraint::Choices((0..40_000).map(|i| i.to_string()).collect())),
        ("nothing", regex(String::new())),
    ]
}

#[test]
fn hostile_constraints_end() {
    let tokens = Tokens::embedded();
    for (what, constraint) in texts() {
        match tokens.grammar(&constraint) {
            Ok(grammar) => {
                let mut filter = grammar.filter();
                let mut history = Vec::new();
                let end = loop {
                    match tokens.allowed(&mut *filter, &history) {
                        Ok(allowed) if history.len() < 20 && !tokens.tokenizer.is_eog(allowed[allowed.len() / 2]) => {
                            let id = allowed[allowed.len() / 2];
                            filter.accept(id);
                            history.push(id);
                        }
                        Ok(_) => break "accepted".to_owned(),
                        Err(error) => break error.to_string(),
                    }
                };
                println!("{what}: {end} after {} tokens", history.len());
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.len() < 500 && !text.contains("panic"), "{what}: {text}");
                println!("{what}: {text}");
            }
        }
    }
}

#[test]
fn many_constants_are_told_apart_without_comparing_all() {
    let tokens = Tokens::embedded();
    let begun = Instant::now();
    let grammar = tokens.grammar(&Constraint::JsonSchema(constants(9_000))).unwrap();
    // Compared in pairs, they take twenty.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(tokens.accepts(&grammar, "\"k8999\"") && !tokens.accepts(&grammar, "\"k9000\""));
    let overlapping = r#"{"oneOf": [{"const": "a"}, {"enum": ["b", "a"]}, {"const": "c"}]}"#;
    let grammar = tokens.grammar(&Constraint::JsonSchema(overlapping.to_owned())).unwrap();
    assert_eq!(["\"a\"", "\"b\"", "\"c\""].map(|text| tokens.accepts(&grammar, text)), [false, true, true]);
}

#[test]
fn an_ambiguous_grammar_ends_before_its_masks_take_long() {
    let tokens = Tokens::embedded();
    let grammar = tokens.grammar(&Constraint::Gbnf("root ::= s\ns ::= s s | [a-z ]+".to_owned())).unwrap();
    let mut filter = grammar.filter();
    let story = tokens.encode(&"once upon a time there was a dog ".repeat(20));
    let end = (0..story.len()).find_map(|i| {
        let allowed = tokens.allowed(&mut *filter, &story[..i]);
        filter.accept(story[i]);
        allowed.err()
    });
    assert!(end.unwrap().to_string().contains("too many alternatives are open"));
}

#[test]
fn each_limit_is_an_error_that_names_it() {
    let tokens = Tokens::embedded();
    let words = Constraint::Regex("([a-z]+ ){3}[0-9]+".to_owned());
    let json = Constraint::JsonSchema(r#"{"items": {"items": {"properties": {"a": {"minLength": 3}}}}}"#.to_owned());
    let lark = Constraint::Lark("start: (a a) a\na: b | \"a\"\nb: \"(\" a \")\"\n".to_owned());
    type Set = fn(&mut Limits);
    let cases: &[(&Constraint, Set, &str)] = &[
        (&json, |limits| limits.bytes = 5, "expected at most 5 bytes"),
        (&json, |limits| limits.depth = 2, "the limit `depth` is reached"),
        (&json, |limits| limits.schemas = 2, "the limit `schemas` is reached"),
        (&json, |limits| limits.symbols = 2, "expected at most 2 symbols"),
        (&json, |limits| limits.compile_expressions = 2, "expected at most 2 expressions to compile it"),
        (&lark, |limits| limits.depth = 0, "expected at most 0 levels"),
        (&lark, |limits| limits.lines = 2, "expected at most 2 lines"),
        (&words, |limits| limits.mask_expressions = 1, "the limit `mask_expressions` is reached"),
        (&words, |limits| limits.states = 3, "states"),
        (&lark, |limits| limits.mask_items = 1, "the limit `mask_items` is reached"),
        (&lark, |limits| limits.ambiguous_row_items = 1, "too many alternatives are open"),
        (&json, |limits| limits.row_items = 1, "too many alternatives are open"),
    ];
    for (constraint, set, expected) in cases {
        let mut limits = Limits::default();
        set(&mut limits);
        let error = match tokens.limited(constraint, &limits) {
            Err(error) => error.to_string(),
            Ok(grammar) => {
                let mut filter = grammar.filter();
                let mut history = Vec::new();
                loop {
                    match tokens.allowed(&mut *filter, &history) {
                        Err(trine_engine::Error::Filter(error)) => break error,
                        Ok(allowed) if history.len() < 4 => {
                            filter.accept(allowed[0]);
                            history.push(allowed[0]);
                        }
                        other => panic!("{expected}: {other:?}"),
                    }
                }
            }
        };
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn a_compilation_that_nobody_waits_for_stops() {
    let tokens = Tokens::embedded();
    let constraint =
        Constraint::JsonSchema(r#"{"type": "object", "properties": {"a": {"type": "string"}}}"#.to_owned());
    let limits = |stop: Stop| Limits { stop, ..Limits::default() };
    let stop = Stop::default();
    assert!(tokens.limited(&constraint, &limits(stop.clone())).is_ok());
    assert_eq!(tokens.limited(&constraint, &limits(stop.at(Some(Instant::now())))).err(), Some(Error::Stopped));
    for (what, constraint) in texts() {
        let begun = Instant::now();
        let soon = stop.at(Some(begun + Duration::from_millis(20)));
        let stopped = tokens.limited(&constraint, &limits(soon)).is_err_and(|error| error == Error::Stopped);
        println!("{what}: {} after {:?}", if stopped { "stopped" } else { "ended" }, begun.elapsed());
    }
    stop.tell();
    assert_eq!(tokens.limited(&constraint, &limits(stop.clone())).err(), Some(Error::Stopped));
    let grammars = Grammars::new(tokens.tokenizer.into());
    assert_eq!(grammars.compile_until(&constraint, &stop).err(), Some(Error::Stopped));
    // Nobody else is stopped.
    assert!(grammars.compile(&constraint).is_ok());
}
