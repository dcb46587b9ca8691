//! What the chat templates write for calls keeps to the grammar of a chat, and what else is written does not.

mod common;
#[path = "../../text/tests/common/conversations.rs"]
mod conversations;

use common::{Tokens, shared};
use conversations::{Answer, answers, files, functions, usual};
use serde_json::{Value, json};
use std::path::Path;
use trine_grammar::{Chat, Constraint, Grammar, Thinking, ToolChoice};
use trine_text::{BpeOptions, ChatFormat, Delta, Tokenizer, Tool};

/// Markers that are control tokens in the vocabularies of their families.
const CONTROL: &[&str] = &[
    "<|endoftext|>",
    "<|tools_prefix|>",
    "<|tools_suffix|>",
    "<|inner_prefix|>",
    "<|inner_suffix|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "[THINK]",
    "[/THINK]",
    "<|python_tag|>",
    "<|START_THINKING|>",
    "<|END_THINKING|>",
    "<|START_ACTION|>",
    "<|END_ACTION|>",
    "<|START_RESPONSE|>",
    "<|END_RESPONSE|>",
    "<|message_sep|>",
    "<|role_sep|>",
    "<|function_call|>",
    "<|tool_calls_section_begin|>",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
    "<|tool_calls_section_end|>",
    "<|tool_call_start|>",
    "<minimax:tool_call>",
    "</minimax:tool_call>",
    "<seed:think>",
    "</seed:think>",
    "<seed:tool_call>",
    "</seed:tool_call>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    "｜DSML｜",
    "<|tool_call>",
    "<tool_call|>",
    "<|channel>",
    "<channel|>",
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|constrain|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<|begin|>",
    "<|think|>",
    "<|content|>",
    "<|tool_calls|>",
    "<|tool_call:begin|>",
    "<|tool_call:name|>",
    "<|tool_call:args|>",
    "<|tool_call:end|>",
    "<|tool_call|>",
];

type Calls = Vec<(String, Value)>;

/// What the shared templates write for calls, with their names.
fn all(folder: &Path, calls: &[Calls]) -> Vec<(String, Answer)> {
    let of = |file: String| {
        let answers = answers(folder, &file, calls).into_iter().filter(|answer| !is_history(&file, answer));
        answers.map(|answer| (file.clone(), answer)).collect::<Vec<_>>()
    };
    files(folder).into_iter().flat_map(of).collect()
}

/// Vocabularies in which markers are text, or control tokens.
fn vocabularies(texts: &[String]) -> [(&'static str, Tokens); 2] {
    [("text", &CONTROL[..1]), ("control tokens", CONTROL)].map(|(name, control)| {
        let control = control.iter().map(|name| (*name).to_owned()).collect();
        let options = BpeOptions { vocab_size: 1500, control, ..BpeOptions::default() };
        let json = options.train(texts.iter().map(|text| Ok::<_, trine_text::Error>(text.clone()))).unwrap();
        let tokenizer = Tokenizer::from_json(json.tokenizer.as_bytes(), Some(json.config.as_bytes())).unwrap();
        (name, Tokens::new(tokenizer))
    })
}

/// Whether a template writes a call otherwise than models do.
fn is_history(file: &str, answer: &Answer) -> bool {
    // Content where there is a call in any case.
    !answer.format.tools.unwrap().optional && !answer.content.is_empty() ||
    // Python's lists.
    file.contains("Seed-OSS") && answer.text.contains("['a'")
        // Content after calls.
        || file.contains("gemma-4") && !answer.content.is_empty()
        // No end of the section.
        || file.contains("R1-Distill-Llama") && answer.calls.len() == 1
        // Escapes of letters.
        || file.contains("Reka") && answer.text.contains("\\u00")
}

/// The vocabularies, made of what templates write.
fn usual_vocabularies(folder: &Path) -> [(&'static str, Tokens); 2] {
    vocabularies(&all(folder, &usual()).into_iter().map(|(_, answer)| answer.text).collect::<Vec<_>>())
}

fn chat(answer: &Answer, tool_choice: ToolChoice) -> Chat {
    let must = tool_choice == ToolChoice::Auto && !answer.format.tools.unwrap().optional;
    let tool_choice = if must { ToolChoice::Required } else { tool_choice };
    Chat {
        format: answer.format,
        tools: functions(),
        tool_choice,
        parallel_tool_calls: true,
        thinking: if answer.thinking { Thinking::Begun } else { Thinking::Auto },
        content: None,
    }
}

fn compile(tokens: &Tokens, chat: Chat) -> Grammar {
    let format = chat.format;
    tokens.grammar(&Constraint::Chat(Box::new(chat))).unwrap_or_else(|error| panic!("{format:?}: {error}"))
}

/// Compiles for all answers, and fails with those for which a check does.
fn check(folder: &Path, calls: &[Calls], check: impl Fn(&Tokens, &Answer) -> Option<String>) {
    let mut wrong = Vec::new();
    let all = all(folder, calls);
    for (name, tokens) in usual_vocabularies(folder) {
        for (file, answer) in &all {
            wrong.extend(check(&tokens, answer).map(|problem| format!("{file}, {name}: {problem}\n")));
        }
    }
    assert!(wrong.is_empty() && all.len() > 30, "{} of {}:\n{}", wrong.len(), all.len(), wrong.concat());
}

#[test]
fn what_templates_write_for_calls_is_accepted() {
    let Some(folder) = shared("templates/jinja") else { return };
    check(&folder, &usual(), |tokens, answer| {
        let mut choices = vec![(ToolChoice::Auto, true)];
        if answer.content.is_empty() {
            choices.push((ToolChoice::Required, true));
            choices.push((ToolChoice::Named("get_weather".to_owned()), answer.calls.len() == 1));
            choices.push((ToolChoice::Named("now".to_owned()), false));
        }
        choices.into_iter().find_map(|(choice, expected)| {
            let grammar = compile(tokens, chat(answer, choice.clone()));
            let found = tokens.consumes(&grammar, &answer.text);
            (found.is_ok() != expected).then(|| {
                let (head, tail) = answer.text.split_at(found.err().unwrap_or(answer.text.len()));
                format!("{choice:?}, expected {expected}: {head:?} | {tail:?}")
            })
        })
    });
}

#[test]
fn what_no_call_may_be_is_not() {
    let Some(folder) = shared("templates/jinja") else { return };
    let wrong = [
        ("get_weather", json!({ "city": "a", "days": "three" })),
        ("get_weather", json!({ "days": 3 })),
        ("get_weather", json!({ "city": "a", "tags": [1] })),
        ("now", json!({ "utc": "maybe" })),
        ("nothing", json!({})),
    ];
    let wrong = wrong.map(|(name, arguments)| vec![(name.to_owned(), arguments)]);
    check(&folder, &wrong, |tokens, answer| {
        let grammar = compile(tokens, chat(answer, ToolChoice::Auto));
        tokens.consumes(&grammar, &answer.text).is_ok().then(|| answer.text.clone())
    });
    // One call where there may be no more.
    check(&folder, &usual()[..1], |tokens, answer| {
        let grammar = compile(tokens, Chat { parallel_tool_calls: false, ..chat(answer, ToolChoice::Auto) });
        (tokens.consumes(&grammar, &answer.text).is_ok() != (answer.calls.len() == 1)).then(|| answer.text.clone())
    });
}

#[test]
fn an_answer_without_calls_is_free() {
    let Some(folder) = shared("templates/jinja") else { return };
    check(&folder, &usual()[1..2], |tokens, answer| {
        if !answer.format.tools.unwrap().optional {
            return None;
        }
        let close = answer.format.reasoning.map_or("", |format| format.close);
        let content = answer.format.content;
        let mut wrong = String::new();
        for text in ["", "Hello.", "Hello.\n\n{\"a\": [1] <b>\n"] {
            let think = if answer.thinking { format!("I think.{close}{}\n", content.between) } else { String::new() };
            let open = if content.required { content.open.trim_start_matches(content.prompted) } else { "" };
            let text = format!("{think}{open}{text}");
            for (choice, expected) in
                [(ToolChoice::Auto, true), (ToolChoice::None, true), (ToolChoice::Required, false)]
            {
                let found = tokens.consumes(&compile(tokens, chat(answer, choice.clone())), &text);
                if found.is_ok() != expected {
                    wrong += &format!("{choice:?}: {text:?}: {found:?} ");
                }
            }
        }
        Some(wrong).filter(|wrong| !wrong.is_empty())
    });
}

#[test]
fn whatever_is_generated_is_parsed_as_calls_of_the_schema() {
    let Some(folder) = shared("templates/jinja") else { return };
    let mut random = 1u64;
    let mut draw = move |n: usize| {
        // SplitMix64.
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    };
    let all = all(&folder, &usual()[..1]);
    let (mut ended, mut begun) = (0, 0);
    for (name, tokens) in usual_vocabularies(&folder) {
        for (file, answer) in (0..2).flat_map(|_| &all) {
            let grammar = compile(&tokens, Chat { thinking: Thinking::Auto, ..chat(answer, ToolChoice::Required) });
            let tokenizer = &tokens.tokenizer;
            let (mut filter, mut ids) = (grammar.filter(), Vec::new());
            let is_structure = |id: u32| {
                let piece = tokenizer.piece(id).unwrap_or_default();
                tokenizer.is_control(id) || piece.iter().any(|byte| b"\"}]<>/|)':".contains(byte))
            };
            while ids.len() < 120 {
                let allowed = tokens.allowed(&mut *filter, &ids).unwrap_or_else(|error| panic!("{file}: {error}"));
                if allowed.iter().all(|&id| tokenizer.is_eog(id))
                    || allowed.iter().any(|&id| tokenizer.is_eog(id)) && draw(2) > 0
                {
                    break;
                }
                let structure: Vec<u32> =
                    allowed.iter().copied().filter(|&id| is_structure(id) && !tokenizer.is_eog(id)).collect();
                let from = if draw(5) > 0 && !structure.is_empty() { &structure } else { &allowed };
                let id = from[draw(from.len())];
                if tokenizer.is_eog(id) {
                    break;
                }
                filter.accept(id);
                ids.push(id);
            }
            let complete = tokens.allowed(&mut *filter, &ids).unwrap().iter().any(|&id| tokenizer.is_eog(id));
            let text = tokenizer.decode_with_special(&ids);
            let mut parser = answer.format.parser(&functions(), false);
            let mut deltas = parser.push(&text);
            deltas.extend(if complete { parser.finish() } else { parser.cut() });
            let mut calls: Vec<(String, String)> = Vec::new();
            for delta in deltas {
                match delta {
                    Delta::ToolCall { name, .. } => calls.push((name, String::new())),
                    Delta::Arguments { index, text } => calls[index].1 += &text,
                    Delta::Reasoning(_) => {}
                    Delta::Content(content) => panic!("{file}, {name}: {text:?}: {content:?}"),
                }
            }
            begun += usize::from(!calls.is_empty());
            if complete {
                ended += 1;
                assert!(!calls.is_empty(), "{file}, {name}: {text:?}");
                for (called, arguments) in calls {
                    let arguments: Value = serde_json::from_str(&arguments)
                        .unwrap_or_else(|error| panic!("{file}, {name}: {text:?}: {arguments:?}: {error}"));
                    let right = match &*called {
                        "get_weather" => {
                            arguments["city"].is_string()
                                && arguments.get("days").is_none_or(Value::is_i64)
                                && arguments.get("unit").is_none_or(|unit| unit == "C" || unit == "F" || unit.is_null())
                        }
                        name => name == "now" && arguments.get("utc").is_none_or(Value::is_boolean),
                    };
                    assert!(right, "{file}, {name}: {text:?}: {arguments}");
                }
            }
        }
    }
    println!("{} answers, {begun} with calls, {ended} complete", all.len() * 4);
    assert!(ended * 4 > all.len() * 4, "{ended} of {}", all.len() * 4);
}

#[test]
fn an_answer_of_a_given_form_follows_thinking() {
    let tokens = Tokens::embedded();
    let form = Constraint::JsonSchema(
        r#"{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}"#.to_owned(),
    );
    let format = ChatFormat::of("<tool_call> <tools> <think></think>");
    let of = |tools: Vec<Tool>, thinking| Chat {
        format,
        tools,
        tool_choice: ToolChoice::Auto,
        parallel_tool_calls: true,
        thinking,
        content: Some(Box::new(form.clone())),
    };
    let call = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    let json = "{\"a\": 1}";
    let (off, auto, begun) = (Thinking::Off, Thinking::Auto, Thinking::Begun);
    for (tools, thinking, text, expected) in [
        (Vec::new(), auto, json.to_owned(), true),
        (Vec::new(), auto, format!("\n\n{json}"), false),
        (Vec::new(), auto, format!("<think>{{</think>\n\n{json}"), true),
        (Vec::new(), auto, format!("Hm. {json}"), false),
        (Vec::new(), off, json.to_owned(), true),
        (Vec::new(), off, format!("<think>{{</think>\n\n{json}"), false),
        (Vec::new(), begun, format!("Hm.</think>{json}"), true),
        (Vec::new(), begun, json.to_owned(), false),
        (Vec::new(), auto, call.to_owned(), false),
        (functions(), off, call.to_owned(), true),
        (functions(), off, format!("<think>Hm.</think>\n{call}"), false),
        (functions(), begun, format!("Hm.</think>\n{call}"), true),
        (functions(), begun, format!("Hm.</think>\n{json}"), true),
        (functions(), begun, "Hm.</think>\nHello".to_owned(), false),
    ] {
        let grammar = compile(&tokens, of(tools, thinking));
        assert_eq!(tokens.consumes(&grammar, &text).is_ok(), expected, "{text}");
    }
}

#[test]
fn the_content_of_an_answer_of_a_given_form_is_exact() {
    let tokens = Tokens::embedded();
    let forms = [
        (Constraint::Choices(vec!["yes".to_owned(), "no".to_owned()]), "yes"),
        (Constraint::Regex("[ab]{3}".to_owned()), "aba"),
    ];
    let prefixes =
        ["", " ", "\n\n", "\n\n\n   ", "<think>Hm.</think>", "<think>Hm.</think>\n\n", "\n<think>\n\n</think> "];
    let mut accepted = 0;
    for (content, expected) in forms {
        for template in
            ["<think></think>", "[THINK]", "<|START_THINKING|> <|START_RESPONSE|>", "[BEGIN FINAL RESPONSE]"]
        {
            let format = ChatFormat::of(template);
            for (thinking, prefix) in
                prefixes.iter().flat_map(|prefix| [Thinking::Off, Thinking::Auto].map(|thinking| (thinking, prefix)))
            {
                let reasoning = format.reasoning.unwrap();
                let prefix = prefix.replace("<think>", reasoning.open).replace("</think>", reasoning.close);
                let chat = Chat {
                    format,
                    tools: Vec::new(),
                    tool_choice: ToolChoice::None,
                    parallel_tool_calls: true,
                    thinking,
                    content: Some(Box::new(content.clone())),
                };
                let text = format!("{prefix}{expected}");
                let thinks = prefix.contains(reasoning.close);
                let found = tokens.consumes(&compile(&tokens, chat), &text).is_ok();
                let allowed = if thinks { thinking == Thinking::Auto } else { prefix.is_empty() };
                assert_eq!(found, allowed, "{template}, {thinking:?}: {text:?}");
                if found {
                    accepted += 1;
                    let mut parser = format.parser(&[], false);
                    let mut deltas = parser.push(&text);
                    deltas.extend(parser.finish());
                    assert_eq!(deltas.last(), Some(&Delta::Content(expected.to_owned())), "{template}: {text:?}");
                }
            }
        }
    }
    assert_eq!(accepted, 2 * 4 * 5);
}

#[test]
fn arguments_are_an_object_whatever_their_schema_refers_to() {
    let tokens = Tokens::embedded();
    let unsupported = json!({ "type": "object", "properties": { "a": { "type": "string", "pattern": "(" } } });
    let targets = [
        json!(true),
        json!({}),
        json!({ "description": "x" }),
        json!({ "minLength": 1 }),
        json!({ "properties": { "a": { "type": "integer" } } }),
        json!({ "anyOf": [{ "type": "integer" }, { "type": "object" }] }),
        json!({ "type": ["object", "string"] }),
        json!({ "$ref": "#/$defs/Y" }),
        json!({ "$ref": "#/$defs/X" }),
        unsupported,
    ];
    let within = |target: Value| json!({ "$ref": "#/$defs/X", "$defs": { "X": target, "Y": { "type": "object" } } });
    let broken = ["#", "#/$defs/X", "https://example.com", "#/components/x"].map(|path| json!({ "$ref": path }));
    for parameters in targets.map(within).into_iter().chain(broken).chain([json!({ "$ref": 5 })]) {
        let grammar = compile(
            &tokens,
            Chat {
                format: ChatFormat::of("<tool_call> <tools>"),
                tools: vec![Tool { name: "f".to_owned(), parameters: parameters.clone(), strict: false }],
                tool_choice: ToolChoice::Required,
                parallel_tool_calls: true,
                thinking: Thinking::Off,
                content: None,
            },
        );
        for (arguments, expected) in [(r#"{"a": 1}"#, true), (r#""x""#, false), ("3", false), ("[]", false)] {
            let text = format!("<tool_call>\n{{\"name\": \"f\", \"arguments\": {arguments}}}\n</tool_call>");
            assert_eq!(tokens.consumes(&grammar, &text).is_ok(), expected, "{parameters}: {arguments}");
        }
    }
}

#[test]
fn what_a_chat_cannot_keep_to_is_refused() {
    let tokens = Tokens::embedded();
    let tagged = "<tool_call> <function= <parameter=";
    let of = |template: &str, parameters: Value, strict: bool, tool_choice: ToolChoice| Chat {
        format: ChatFormat::of(template),
        tools: vec![Tool { name: "f".to_owned(), parameters, strict }],
        tool_choice,
        parallel_tool_calls: true,
        thinking: Thinking::Auto,
        content: None,
    };
    let unique = json!({ "properties": { "a": { "uniqueItems": true } } });
    let remote =
        json!({ "properties": { "a": { "items": { "$ref": "https://example.com" } }, "b": { "$ref": "#/c" } } });
    let two = json!({ "properties": { "a": { "patternProperties": { "a": {}, "b": {} } } } });
    let dated = json!({ "properties": { "a": { "type": "string", "format": "date" } } });
    let huge = json!({ "properties": { "a": { "type": "integer", "minimum": 1e20 } } });
    let cases = [
        (
            of("", json!({}), true, ToolChoice::Auto),
            Some("invalid chat: tools: the chat template does not describe tools"),
        ),
        (of("<|tool_call>call:", remote.clone(), true, ToolChoice::Auto), Some("$ref of the tool f")),
        (of("<|tool_call>call:", remote.clone(), false, ToolChoice::Auto), None),
        (of("<|tool_list_start|>", remote.clone(), false, ToolChoice::Auto), None),
        (of(tagged, remote.clone(), false, ToolChoice::Auto), None),
        (of("<tool_call> <tools>", remote, false, ToolChoice::Auto), None),
        (of("Action: ```json tool_name", json!({}), true, ToolChoice::Auto), Some("expected required or a function")),
        (of("Action: ```json tool_name", json!({}), true, ToolChoice::Required), None),
        (of(tagged, json!({}), true, ToolChoice::Named("g".to_owned())), Some("tool_choice")),
        (
            of("<tool_call> <tools>", unique.clone(), true, ToolChoice::Auto),
            Some("#/properties/a/uniqueItems of the tool f: not supported"),
        ),
        (of("<tool_call> <tools>", unique.clone(), false, ToolChoice::Auto), None),
        (of("<tool_call> <tools>", json!({ "$ref": "#" }), true, ToolChoice::Auto), Some("#/$ref")),
        (
            of("<tool_call> <tools>", json!({ "$ref": "#/$defs/Z", "$defs": { "Z": null } }), true, ToolChoice::Auto),
            Some("#/$defs/Z"),
        ),
        (of("<tool_call> <tools>", two.clone(), true, ToolChoice::Auto), Some("#/properties/a of the tool f: ")),
        (of("<tool_call> <tools>", two, false, ToolChoice::Auto), None),
        (of(tagged, unique, true, ToolChoice::Auto), Some("#/properties/a")),
        (of(tagged, dated.clone(), true, ToolChoice::Auto), Some("#/properties/a/format of the tool f")),
        (of(tagged, dated.clone(), false, ToolChoice::Auto), None),
        (
            of("<tool_call> <tools>", huge.clone(), true, ToolChoice::Auto),
            Some("#/properties/a/minimum of the tool f: "),
        ),
        (of(tagged, huge, true, ToolChoice::Auto), Some("#/properties/a/minimum of the tool f: ")),
        (of("<|tool_call>call:", dated, true, ToolChoice::Auto), Some("#/properties/a/format of the tool f")),
    ];
    for (chat, expected) in cases {
        let found = tokens.grammar(&Constraint::Chat(Box::new(chat.clone()))).err().map(|error| error.to_string());
        match expected {
            Some(part) => assert!(found.as_ref().is_some_and(|found| found.contains(part)), "{chat:?}: {found:?}"),
            None => assert_eq!(found, None, "{chat:?}"),
        }
    }
    let unnamed = Chat {
        tools: vec![Tool { name: "a b".to_owned(), ..functions().remove(0) }],
        ..of(tagged, json!({}), true, ToolChoice::Auto)
    };
    assert!(tokens.grammar(&Constraint::Chat(Box::new(unnamed))).is_err());
}
