//! What the chat templates write for calls keeps to the grammar of a chat, and what else is written does not.

mod common;
#[path = "../../text/tests/common/conversations.rs"]
mod conversations;

use common::{Tokens, shared};
use conversations::{Answer, answers, files, functions, usual};
use serde_json::{Value, json};
use std::path::Path;
use trine_grammar::{Chat, Constraint, Grammar, ToolChoice};
use trine_text::{BpeOptions, Tokenizer};

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
    Chat {
        format: answer.format,
        tools: functions(),
        tool_choice,
        parallel_tool_calls: true,
        thinking: answer.thinking,
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
