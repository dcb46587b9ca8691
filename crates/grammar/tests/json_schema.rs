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
            all = all.iter().flat_map(|head| part.iter().map(move |tail| format!("{head}{comma}{tail}"))).take(MOST).collect();
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
            let all = orders.into_iter().flat_map(|order| join(order.into_iter().map(|i| parts[i].clone()).collect(), "{", "}"));
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

#[test]
fn the_test_suite_is_kept() {
    let Some(suite) = shared("grammar/JSON-Schema-Test-Suite/tests") else { return };
    let tokens = Tokens::embedded();
    let verbose = std::env::var_os("VERBOSE").is_some();
    let mut total = [0usize; 4];
    for draft in ["draft4", "draft6", "draft7", "draft2019-09", "draft2020-12"] {
        let (mut right, mut wrong, mut refused, mut missed) = (0, Vec::new(), 0, Vec::new());
        let mut files: Vec<_> = std::fs::read_dir(suite.join(draft)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for path in files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "json")) {
            let groups: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            for group in groups.as_array().unwrap() {
                let mut schema = group["schema"].clone();
                if let Some(map) = schema.as_object_mut().filter(|map| !map.contains_key("$schema")) {
                    let uri = match draft {
                        "draft4" => "http://json-schema.org/draft-04/schema#",
                        "draft6" => "http://json-schema.org/draft-06/schema#",
                        "draft7" => "http://json-schema.org/draft-07/schema#",
                        other => &format!("https://json-schema.org/{}/schema", other.replace("draft", "draft/")),
                    };
                    map.insert("$schema".to_owned(), uri.into());
                }
                let tests = group["tests"].as_array().unwrap();
                let start = std::time::Instant::now();
                let grammar = tokens.grammar(&Constraint::JsonSchema(schema.to_string()));
                let took = start.elapsed();
                let name = format!("{}: {}", path.file_stem().unwrap().display(), group["description"]);
                if verbose && took.as_millis() > 300 { println!("SLOW {took:?} {draft} {name}"); }
                let grammar = match grammar {
                    Ok(grammar) => Some(grammar),
                    Err(Error::Schema { problem, .. }) if problem == "no value satisfies it" => None,
                    Err(error) => {
                        refused += tests.len();
                        if verbose { println!("REFUSED {draft} {name} ({}): {error}", tests.len()); }
                        continue;
                    }
                };
                for test in tests {
                    let accepted = grammar.as_ref().is_some_and(|grammar| {
                        spellings(&test["data"]).iter().any(|text| tokens.accepts(grammar, text))
                    });
                    let valid = test["valid"].as_bool().unwrap();
                    let what = format!("{draft} {name}: {} {}", test["description"], test["data"]);
                    match (valid, accepted) {
                        (true, false) => missed.push(what),
                        (false, true) => wrong.push(what),
                        _ => right += 1,
                    }
                }
            }
        }
        if verbose { for w in &wrong { println!("WRONG {w}"); } for m in &missed { println!("MISSED {m}"); } }
        println!("{draft}: {right} right, {refused} refused, {} wrong, {} missed", wrong.len(), missed.len());
        for (sum, n) in total.iter_mut().zip([right, refused, wrong.len(), missed.len()]) { *sum += n; }
    }
    println!("total {total:?}, refused {:.1} %", 100.0 * total[1] as f64 / total.iter().sum::<usize>() as f64);
}
