//! How long masks take: `cargo run --release -p trine-grammar --example masks -- tokenizer.model`, or a `tokenizer.json`.
//!
//! Each constraint is followed along the tokens of a text, and the mask before each token is timed.

use std::time::{Duration, Instant};
use trine_engine::sample::History;
use trine_grammar::{Chat, Constraint, Grammar, Thinking, ToolChoice, Vocabulary};
use trine_text::{ChatFormat, EncodeOptions, Tokenizer, Tool};

const SCHEMA: &str = r#"{
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 1, "maxLength": 60},
        "text": {"type": "string"},
        "tags": {"type": "array", "items": {"enum": ["animals", "weather", "family"]}, "maxItems": 5},
        "date": {"type": "string", "format": "date-time"},
        "pages": {"type": "integer", "minimum": 1, "maximum": 2000},
        "author": {"type": "object", "additionalProperties": {"type": ["string", "number", "null"]}}
    },
    "required": ["title", "text", "tags", "date", "pages", "author"]
}"#;
const JSON: &str = r#"{"title": "The Sun and the North Wind", "text": "The North Wind and the Sun argued which of them was the stronger, \"when\" a
traveller came along wrapped in a warm cloak.", "tags": ["weather", "family"], "date": "2026-11-29T08:17:00Z", "pages": 12, "author":
{"name": "Aesop, \u00e9", "born": -620.5, "of": null}}"#;
const TEXT: &str =
    "They agreed that the one who first succeeded in making the traveller take his cloak off should be considered
stronger. Then the North Wind blew as hard as he could: <b>1 < 2</b>, \"f(x) = {x}\".\n";
const ARITHMETIC: &str = "root ::= expr\nexpr ::= term ([-+*/] term)*\nterm ::= [a-z0-9]+ | \"(\" expr \")\"\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("expected a tokenizer.model or tokenizer.json")?;
    let bytes = std::fs::read(&path)?;
    let tokenizer = match path.ends_with(".json") {
        true => Tokenizer::from_json(&bytes, None)?,
        false => Tokenizer::from_model(&bytes, None)?,
    };
    let start = Instant::now();
    let vocabulary = Vocabulary::new(&tokenizer)?;
    println!("{} tokens, their trie in {:.0?}", tokenizer.len(), start.elapsed());
    let json = JSON.replace('\n', " ");
    let chat = |template: &str, thinking: bool| {
        let parameters = serde_json::from_str(SCHEMA)?;
        let chat = Chat {
            format: ChatFormat::of(template),
            tools: vec![Tool { name: "tell".to_owned(), parameters, strict: false }],
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            thinking: if thinking { Thinking::Begun } else { Thinking::Auto },
            content: None,
        };
        Ok::<_, serde_json::Error>(Constraint::Chat(Box::new(chat)))
    };
    let hermes = "<tool_call> <tools> <think></think>";
    let call = format!("<tool_call>\n{{\"name\": \"tell\", \"arguments\": {json}}}\n</tool_call>");
    let text = TEXT.repeat(3);
    let words = "[A-Za-z,.;:\"{}\\\\\\[\\]0-9é -]*".to_owned();
    for (name, constraint, text) in [
        ("JSON Schema", Constraint::JsonSchema(SCHEMA.to_owned()), &json),
        ("any JSON", Constraint::JsonSchema("{}".to_owned()), &json),
        ("regex", Constraint::Regex(words), &json),
        ("thinking", chat(hermes, true)?, &text),
        ("text before calls", chat(hermes, false)?, &text),
        ("a call", chat(hermes, false)?, &call),
        ("GBNF", Constraint::Gbnf(ARITHMETIC.to_owned()), &"(a+b2)*(c-(d/12))+3".repeat(8)),
    ] {
        let start = Instant::now();
        let grammar = Grammar::new(&vocabulary, &constraint)?;
        let compiled = start.elapsed();
        let ids = tokenizer.encode(text, EncodeOptions::default());
        let mut times: Vec<Duration> = Vec::new();
        // Requests, each with the lexer's states of its own.
        for _ in 0..20 {
            let mut filter = grammar.filter();
            for len in 0..ids.len() {
                let start = Instant::now();
                filter.prepare(History { tokens: &ids[..len], prompt: 0 });
                times.push(start.elapsed());
                filter.accept(ids[len]);
            }
        }
        times.sort();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        let (half, most) = (at(0.5), at(1.0));
        println!(
            "{name}: compiled in {compiled:.1?}; {} masks, median {half:.0?}, p99 {:.0?}, longest {most:.0?}",
            times.len(),
            at(0.99)
        );
    }
    Ok(())
}
