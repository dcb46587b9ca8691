//! Grammars of llama.cpp.

mod common;

use common::{Tokens, shared};
use trine_grammar::Constraint;

/// A grammar of the shared data, texts that it accepts, and texts that it does not.
const SAMPLES: &[(&str, &[&str], &[&str])] = &[
    ("arithmetic", &["1+2=3\n", "(a1 +2)*b=7\n", "1=2\n1=3\n", "x\n=\n1\n\n"], &["1=2", "=1\n", "1+=2\n"]),
    (
        "c",
        &["int main(){return 1;}", "int f(int a){a = 1+2;}", "int f(){// x\n}", "int f(){f (a, b);}", ""],
        &["int main", "int 1(){}", "int f(){return;}"],
    ),
    (
        "chess",
        &["1. e4 e5\n2. Nf3 Nc6\n", "1. e4 e5\n2. O-O Qxd7#\n12. exd8=Q+ Ra1xa8\n"],
        &["1. e4 e5\n", "2. e4 e5\n", "1. e9 e5\n2. e4 e5\n"],
    ),
    ("english", &["A (small) test!", "a\nb"], &["", "a  b", "é"]),
    ("japanese", &["ひらがな カタカナ", "漢字、。"], &["abc", ""]),
    (
        "json",
        &[r#"{"a":1}"#, r#"{"a": [1, -2.5e7, true, null, "x\n\u00e9"], "b": {}}"#, "{}"],
        &["[1]", r#"{"a"}"#, r#"{"a":01}"#, r#"{"a":"\x"}"#],
    ),
    ("json_arr", &["[\n1]", "[\n1,\n{\"a\":1}]", "[\n]"], &["[1]", "[\n1,2]"]),
    ("list", &["- one\n", "- one\n- two, é\n"], &["- \n", "one\n", "- one"]),
];

#[test]
fn samples_of_llamacpp_accept_what_they_say() {
    let Some(folder) = shared("grammar") else { return };
    let tokens = Tokens::embedded();
    for (name, accepted, rejected) in SAMPLES {
        let text = std::fs::read_to_string(folder.join(format!("{name}.gbnf"))).unwrap();
        let constraint = Constraint::grammar(text);
        assert!(matches!(constraint, Constraint::Gbnf(_)), "{name}");
        let grammar = tokens.grammar(&constraint).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (texts, expected) in [(accepted, true), (rejected, false)] {
            for text in *texts {
                assert_eq!(tokens.accepts(&grammar, text), expected, "{name}: {text:?}");
            }
        }
    }
}

#[test]
fn ambiguous_lexemes_are_read_in_every_way() {
    let tokens = Tokens::embedded();
    // Each is recursive, so that its parts are lexemes or rules.
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("root ::= a | \"(\" root \")\"\na ::= [a-z]* \"abc\"", &["abc", "xabc", "(aabcabc)"], &["ab", "(x)", "abcx"]),
        ("root ::= [a-z]+ root? \"z\"", &["az", "zz", "abzz", "zzz"], &["z", "a"]),
        ("root ::= (\"a\" | \"abc\") (\"bd\" | root)", &["abd", "abcbd", "aabcabd"], &["ab", "abcd"]),
        ("root ::= x root x | \"-\"\nx ::= \"a\"{2,3}", &["aa-aa", "aaaaa-aaaaa", "-"], &["a-a", "aa-a"]),
        ("root ::= [0-9]* root? \".\" [0-9]{1,2}", &[".1", "12.34", "1.2.3"], &["1", ".", ".123"]),
        ("root ::= | \"a\" root \"b\"", &["", "ab", "aabb"], &["a", "abb"]),
        ("root ::= \"\\x41\\u00e9\\\"\" [^a\\]-] .", &["Aé\"bc", "Aé\"éa"], &["Aé\"aa", "Aé\"]a"]),
    ];
    for (text, accepted, rejected) in cases {
        let grammar =
            tokens.grammar(&Constraint::grammar((*text).to_owned())).unwrap_or_else(|error| panic!("{text}: {error}"));
        for (texts, expected) in [(accepted, true), (rejected, false)] {
            for sample in *texts {
                assert_eq!(tokens.accepts(&grammar, sample), expected, "{text}: {sample:?}");
            }
        }
    }
}

#[test]
fn errors_name_the_place() {
    let tokens = Tokens::embedded();
    let chain: String = (0..2000).map(|i| format!("r{i} ::= r{}\n", i + 1)).collect();
    let chain = format!("root ::= r0\n{chain}r2000 ::= \"a\"\n");
    let doubling: String = (0..64).map(|i| format!("r{i} ::= r{0} r{0}\n", i + 1)).collect();
    let doubling = format!("root ::= r0\n{doubling}r64 ::= [a-z]+ \"b\"\n");
    for (text, expected) in [
        ("root ::= a\n", "line 1, column 10: expected a rule called a, found none"),
        ("a ::= \"b\"\n", "expected a rule called root, found none"),
        ("root ::= \"a", "line 1, column 12: expected a character or \", found the end"),
        ("root ::= [z-a]", "line 1, column 10: expected characters"),
        ("root ::= (\"a\"", "line 1, column 14: expected ), found the end"),
        ("root ::= \"a\"{3,2}", "expected a repetition such as {2,5}"),
        ("root ::= \"a\" )", "line 1, column 14: expected the end of a rule, found ')'"),
        ("root ::= \"\\q\"", "expected an escape"),
        ("root ::= \"a\"\nroot ::= \"b\"", "line 2, column 1: expected one rule of a name"),
        (&format!("root ::= {}\"a\"", "(".repeat(100_000)), "expected at most 64 levels"),
        (&chain, "expected fewer rules"),
        (&doubling, "too large"),
    ] {
        let error = tokens
            .grammar(&Constraint::Gbnf(text.to_owned()))
            .err()
            .unwrap_or_else(|| panic!("{text:.60}"))
            .to_string();
        assert!(error.contains(expected), "{text:.60}: {error}");
    }
}
