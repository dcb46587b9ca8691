//! The JSON-Schema-Test-Suite: a valid instance is accepted token by token, an invalid one is not, or the schema is refused by path.

mod common;

use common::{Tokens, shared};
use serde_json::Value;
use trine_grammar::{Constraint, Error};

/// How a value may be written: with its properties in any order, and integers without a fraction.
fn spellings(value: &Value) -> Vec<String> {
    const MOST: usize = 720;
    let join = |parts: Vec<Vec<String>>, open: &str, close: &str| {
        let mut all = vec![open.to_owned()];
        for (i, part) in parts.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            all = all
                .iter()
                .flat_map(|head| part.iter().map(move |tail| format!("{head}{comma}{tail}")))
                .take(MOST)
                .collect();
        }
        all.into_iter().map(|text| text + close).collect::<Vec<String>>()
    };
    match value {
        Value::Array(list) => join(list.iter().map(spellings).collect(), "[", "]"),
        Value::Object(map) => {
            let name = |name: &String| Value::String(name.clone()).to_string();
            let parts: Vec<Vec<String>> = (map.iter())
                .map(|(key, value)| spellings(value).into_iter().map(|text| format!("{}:{text}", name(key))).collect())
                .collect();
            let orders = if parts.len() <= 5 { permutations(parts.len()) } else { vec![(0..parts.len()).collect()] };
            let all = orders
                .into_iter()
                .flat_map(|order| join(order.into_iter().map(|i| parts[i].clone()).collect(), "{", "}"));
            all.take(MOST).collect()
        }
        Value::Number(number) => {
            let float = number.as_f64().unwrap();
            let mut all = vec![number.to_string()];
            if float.fract() == 0.0 && float.abs() < 1e300 {
                all.push(format!("{float}"));
            }
            all
        }
        value => vec![value.to_string()],
    }
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    let Some(last) = n.checked_sub(1) else { return vec![Vec::new()] };
    let insert = |order: Vec<usize>| {
        (0..=last).map(move |at| {
            let mut order = order.clone();
            order.insert(at, last);
            order
        })
    };
    permutations(last).into_iter().flat_map(insert).collect()
}

const DRAFTS: &[(&str, &str)] = &[
    ("draft4", "http://json-schema.org/draft-04/schema#"),
    ("draft6", "http://json-schema.org/draft-06/schema#"),
    ("draft7", "http://json-schema.org/draft-07/schema#"),
    ("draft2019-09", "https://json-schema.org/draft/2019-09/schema"),
    ("draft2020-12", "https://json-schema.org/draft/2020-12/schema"),
];

/// Valid instances that are not accepted, and why.
const MISSED: &[(&str, &str)] = &[("format", "is asserted, not an annotation: an answer keeps to it")];

#[test]
fn instances_of_the_test_suite_are_accepted_rejected_or_refused_by_path() {
    let Some(suite) = shared("grammar/JSON-Schema-Test-Suite/tests") else { return };
    let tokens = Tokens::embedded();
    let (mut right, mut refused, mut missed, mut wrong) = (0, 0, 0, Vec::new());
    for (draft, uri) in DRAFTS {
        let before = (right, refused, missed);
        let mut files: Vec<_> =
            std::fs::read_dir(suite.join(draft)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for path in files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "json")) {
            let file = path.file_stem().unwrap().to_str().unwrap();
            let groups: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            for group in groups.as_array().unwrap() {
                let mut schema = group["schema"].clone();
                if let Some(map) = schema.as_object_mut() {
                    map.entry("$schema").or_insert_with(|| (*uri).into());
                }
                let tests = group["tests"].as_array().unwrap();
                let grammar = match tokens.grammar(&Constraint::JsonSchema(schema.to_string())) {
                    Ok(grammar) => Some(grammar),
                    Err(Error::Schema { problem, .. }) if problem == "no value satisfies it" => None,
                    Err(Error::Schema { path, .. }) => {
                        assert!(path.starts_with('#'), "{draft} {file}: {path}");
                        refused += tests.len();
                        continue;
                    }
                    Err(error) => panic!("{draft} {file}, {}: {error}", group["description"]),
                };
                for test in tests {
                    let accepts = |text: &String| grammar.as_ref().is_some_and(|grammar| tokens.accepts(grammar, text));
                    let accepted = spellings(&test["data"]).iter().any(accepts);
                    match (test["valid"].as_bool().unwrap(), accepted) {
                        (true, false) if MISSED.iter().any(|(known, _)| *known == file) => missed += 1,
                        (valid, accepted) if valid == accepted => right += 1,
                        _ => wrong.push(format!("{draft} {file}, {}: {}", group["description"], test["description"])),
                    }
                }
            }
        }
        let (right, refused, missed) = (right - before.0, refused - before.1, missed - before.2);
        println!("{draft}: {right} accepted or rejected rightly, {refused} refused, {missed} missed");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let all = right + refused + missed;
    println!(
        "all {all}: {right} rightly, {refused} refused ({:.1} %), {missed} missed",
        100.0 * refused as f64 / all as f64
    );
    assert!(refused * 5 <= all && missed <= 10, "{refused} of {all} refused, {missed} missed");
}
