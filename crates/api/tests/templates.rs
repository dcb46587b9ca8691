//! Chats as the templates of models take them.

mod common;

use common::{fields, message, served, templates, with};
use serde_json::{Value, json};
use std::time::Duration;
use trine_api::openai::Shared;
use trine_api::openai::apply_template;
use trine_api::{ProblemKind, Stop, anthropic, ollama, openai};
use trine_engine::{Choice, FinishReason, Timing, Token, Update, Usage};
use trine_grammar::{Constraint, Thinking};
use trine_text::{ChatFormat, DecodeStream};

/// The template of this name.
fn of(name: &str) -> Option<Shared> {
    templates().into_iter().find(|(file, _)| file == name).map(|(_, source)| served(&source))
}

fn prompt(served: &Shared, body: &Value) -> String {
    let prompt = apply_template(fields(body), served).unwrap_or_else(|problem| panic!("{problem:?}"));
    prompt["prompt"].as_str().unwrap().to_owned()
}

#[test]
fn functions_need_neither_a_description_nor_parameters() {
    let all = templates();
    let described = |(_, source): &&(String, String)| ChatFormat::of(source).tools.is_ok();
    let mut read = 0;
    for (name, source) in all.iter().filter(described) {
        let served = served(source);
        for parameters in [json!(null), json!({"type": "object", "properties": {"city": {"type": "string"}}})] {
            let function = json!({"name": "now", "parameters": parameters});
            let body = json!({
                "messages": [{"role": "user", "content": "What time is it?"}],
                "tools": [{"type": "function", "function": function}],
                // Firefunction's takes its functions from these.
                "chat_template_kwargs": {"functions": "[]", "datetime": "now"},
            });
            assert_eq!(message(openai::chat(fields(&body), &served, "1")), "", "{name}: {function}");
            // Some write none of what they have.
            let mut whole = body.clone();
            whole["tools"][0]["function"] = json!({
                "name": "now", "description": "The time",
                "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Where"}}},
            });
            let written = [&body, &whole].map(|body| prompt(&served, body).contains("now"));
            assert_eq!(written[0], written[1], "{name}");
            read += 1;
        }
    }
    assert!(read > 80 || all.is_empty(), "{read}");
}

#[test]
fn calls_come_back_to_the_templates_that_wrote_them() {
    for name in ["meetkai-functionary-medium-v3.2", "llama-cpp-deepseek-r1", "mistralai-Mistral-Nemo-Instruct-2407"] {
        let Some(served) = of(name) else { return };
        let call = json!({"name": "now", "arguments": "{\"zone\": \"UTC\"}"});
        let parameters = json!({"type": "object", "properties": {"zone": {"type": "string"}}});
        let tools =
            json!([{"type": "function", "function": {"name": "now", "description": "", "parameters": parameters}}]);
        let body = json!({"tools": tools, "messages": [
            {"role": "user", "content": "What time is it?"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "abcdefghi", "type": "function", "function": call}]},
            {"role": "tool", "tool_call_id": "abcdefghi", "content": "noon"},
        ]});
        let prompt = prompt(&served, &body);
        assert!(["\"zone\"", "UTC", "noon"].iter().all(|text| prompt.contains(text)), "{name}: {prompt}");
    }
}

#[test]
fn a_template_gets_the_ids_and_roles_that_it_takes() {
    let asks = "{% for m in messages %}{% for c in m.tool_calls or [] %}{% if c.id | length != 9 %}{{ raise_exception('ids') }}\
        {% endif %}{{ c.id }}{% endfor %}{% if m.tool_call_id %}={{ m.tool_call_id }};{% endif %}{{ m.content }}{% endfor %}";
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "now", "arguments": "{}"}});
    let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": ""});
    let body = json!({"messages": [
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "", "tool_calls": [call("call_long_1"), call("abcdefghi")]},
        result("call_long_1"), result("abcdefghi"),
    ]});
    assert_eq!(prompt(&served(asks), &body), "call00000abcdefghi=call00000;=abcdefghi;");
    // None is that of another call.
    let body = json!({"messages": [
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "", "tool_calls": [call("call_long_1"), call("call00000"), call("call_long_2")]},
        result("call_long_1"), result("call00000"), result("call_long_2"),
    ]});
    let expected = "call00001call00000call00002=call00001;=call00000;=call00002;";
    assert_eq!(prompt(&served(asks), &body), expected);
    // As gemma-2's.
    let refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
        {% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}\
        {% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}";
    let body = json!({"messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hm"},
        {"role": "user", "content": "Go on"},
    ]});
    assert_eq!(prompt(&served(refuses), &body), "<user>Be brief.\nHi<assistant>Hm<user>Go on");
    // It refuses two messages of the user in a row, too.
    let (user, system) = (json!({"role": "user", "content": "Hi"}), json!({"role": "system", "content": "Be brief."}));
    for (messages, expected) in [
        (json!([user, system]), "<user>Hi\nBe brief."),
        (json!([user, system, user]), "<user>Hi\nBe brief.\nHi"),
        (json!([system, system, user]), "<user>Be brief.\nBe brief.\nHi"),
        (json!([user, {"role": "assistant", "content": "Hm"}, system]), "<user>Hi<assistant>Hm<user>Be brief."),
    ] {
        assert_eq!(prompt(&served(refuses), &json!({"messages": messages})), expected);
    }
    if let Some(gemma) = of("google-gemma-2-2b-it") {
        let prompt = prompt(&gemma, &json!({"messages": [user, system]}));
        assert!(prompt.contains("user\nHi\nBe brief.<end_of_turn>"), "{prompt}");
    }
}

#[test]
fn a_call_that_was_cut_comes_back_where_the_template_takes_it() {
    let call = |arguments: &str| json!({"id": "abcdefghi", "type": "function", "function": {"name": "now", "arguments": arguments}});
    let body = |calls: Value| {
        json!({"messages": [
            {"role": "user", "content": "What time is it?"},
            {"role": "assistant", "content": null, "tool_calls": calls},
            {"role": "tool", "tool_call_id": "abcdefghi", "content": "no JSON"},
            {"role": "user", "content": "Again?"},
        ]})
    };
    let cut = body(json!([call("{\"zone\": \"U")]));
    // As it is, or as a string of JSON.
    for (name, written) in
        [("Qwen-Qwen3-0.6B", r#"{"zone": "U}"#), ("Qwen-Qwen2.5-7B-Instruct", r#""{\"zone\": \"U"}"#)]
    {
        let Some(served) = of(name) else { return };
        let prompt = prompt(&served, &cut);
        assert!(prompt.contains(written), "{name}: {prompt}");
    }
    let Some(served) = of("Qwen3-Coder") else { return };
    let refused = message(apply_template(fields(&body(json!([call("{}"), call("{\"zone\": \"U")]))), &served));
    assert!(
        refused.starts_with("messages[1].tool_calls[1].function.arguments: expected the text of a JSON object: "),
        "{refused}"
    );
    // One that takes no calls at all does not blame their arguments.
    let none = common::served(
        "{% for message in messages %}{% if message.tool_calls %}{{ raise_exception('no calls') }}{% endif %}{% endfor %}",
    );
    let refused = [&cut, &body(json!([call("{}")]))].map(|body| message(apply_template(fields(body), &none)));
    assert!(refused[0].starts_with("messages: ") && refused[0] == refused[1], "{refused:?}");
}

#[test]
fn developers_are_heard_where_the_system_is() {
    let mut read = 0;
    for (name, source) in templates() {
        let served = served(&source);
        let prompt = |role: &str| {
            let body = json!({"messages": [{"role": role, "content": "Be kind."}, {"role": "user", "content": "Hi"}]});
            apply_template(fields(&body), &served).ok()
        };
        if prompt("system").is_some() {
            assert!(prompt("developer").is_some(), "{name}");
            read += 1;
        }
    }
    assert!(read == 0 || read > 50, "{read}");
}

#[test]
fn templates_for_chats_with_tools_need_none() {
    for name in [
        "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
        "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
        "CohereForAI-c4ai-command-r-plus-tool_use",
    ] {
        let Some(served) = of(name) else { return };
        let body = |tools: Value| json!({"messages": [{"role": "user", "content": "Hi"}], "tools": tools});
        assert!(prompt(&served, &body(json!([]))).contains("Hi"), "{name}");
    }
}

#[test]
fn calls_of_ollama_have_ids() {
    let Some(served) = of("mistralai-Mistral-Nemo-Instruct-2407") else { return };
    let call = |name: &str| json!({"function": {"name": name, "arguments": {"zone": "UTC"}}});
    let tool =
        |name: &str| json!({"type": "function", "function": {"name": name, "description": "", "parameters": {}}});
    let body = json!({"tools": [tool("now"), tool("later")], "messages": [
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": "", "tool_calls": [call("now"), call("later")]},
        {"role": "tool", "tool_name": "later", "content": "one"},
        {"role": "tool", "content": "noon"},
    ]});
    let read = || ollama::chat(fields(&body), &served, "1").unwrap_or_else(|problem| panic!("{problem:?}")).0;
    let tokens = read().prompts[0].clone();
    let mut stream = DecodeStream::with_special(&served.tokenizer);
    let text: String = tokens.iter().map(|&id| stream.push(&served.tokenizer, id).to_owned()).collect();
    for expected in [
        "\"id\": \"000000000\"",
        "\"id\": \"000000001\"",
        "\"content\": one, \"call_id\": \"000000001\"",
        "\"content\": noon, \"call_id\": \"000000000\"",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    // The same conversation is the same prompt, which the prefix cache has.
    assert_eq!(read().prompts[0], tokens);
}

#[test]
fn thoughts_alone_come_back() {
    let mut parts = Vec::new();
    for (name, source) in templates() {
        let served = served(&source);
        let chat = |answer: Value| {
            json!({"add_generation_prompt": true, "messages": [
                {"role": "user", "content": "Hi"}, answer, {"role": "user", "content": "Well?"},
            ]})
        };
        let usual = chat(json!({"role": "assistant", "content": "Hello."}));
        if apply_template(fields(&usual), &served).is_err() {
            // It is for chats with tools alone.
            continue;
        }
        let body = chat(json!({"role": "assistant", "content": "", "reasoning_content": "hmhmhm"}));
        assert_eq!(message(apply_template(fields(&body), &served)), "", "{name}");
        if prompt(&served, &body).contains("[THINK]hmhmhm[/THINK]") {
            parts.push(name);
        }
    }
    assert!(parts.is_empty() || parts == ["mistralai-Ministral-3-14B-Reasoning-2512"], "{parts:?}");
    let Some(served) = of("mistralai-Ministral-3-14B-Reasoning-2512") else { return };
    assert_eq!(parts.len(), 1);
    // Nor do other answers lose them.
    let body = json!({"messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello.", "reasoning_content": "hm"},
        {"role": "user", "content": "Well?"},
    ]});
    assert!(prompt(&served, &body).contains("[THINK]hm[/THINK]Hello."));
}

#[test]
fn an_answer_that_is_not_to_think_has_no_thinking_in_its_form() {
    let form = json!({"structured_outputs": {"choice": ["yes", "no"]}});
    let function = json!({"name": "now", "parameters": {"type": "object", "properties": {}}});
    let tools = json!({"tools": [{"type": "function", "function": function}], "tool_choice": "required"});
    let thinking = |ask: trine_api::Ask| match ask.constraint {
        Some((_, Constraint::Chat(chat))) => chat.thinking,
        other => panic!("{other:?}"),
    };
    let [mut off, mut begun, mut closed] = [0, 0, 0];
    for (name, source) in templates() {
        let format = ChatFormat::of(&source);
        if format.reasoning.is_none() || format.tools.is_err() {
            continue;
        }
        let served = served(&source);
        let body = json!({"messages": [{"role": "user", "content": "x"}]});
        for (more, chosen) in [
            (json!({}), true),
            (json!({"reasoning_effort": "low"}), true),
            (json!({"reasoning_effort": "none"}), false),
            (json!({"chat_template_kwargs": {"enable_thinking": false}}), false),
        ] {
            for form in [&form, &tools] {
                let (ask, _) = openai::chat(fields(&with(&with(&body, &more), form)), &served, "1")
                    .unwrap_or_else(|problem| panic!("{name}: {problem:?}"));
                match thinking(ask) {
                    Thinking::Begun => {
                        assert!(chosen, "{name}: {more}");
                        begun += 1;
                    }
                    Thinking::Auto => assert!(chosen, "{name}: {more}"),
                    Thinking::Off => {
                        assert!(!chosen, "{name}: {more}");
                        off += 1;
                    }
                }
            }
        }
        // A template that opens thinking all the same is closed.
        let close = format.reasoning.unwrap().close;
        let [on, off] = [true, false].map(|thinks| {
            let variables = json!({"enable_thinking": thinks, "thinking": thinks});
            prompt(&served, &with(&body, &json!({"chat_template_kwargs": variables})))
        });
        assert!(!format.thinks(&off), "{name}: {off:?}");
        closed += usize::from(format.thinks(&on) && off == format!("{on}{close}"));
        let ollama = with(&body, &json!({"think": false, "format": "json"}));
        let ask = ollama::chat(fields(&ollama), &served, "1").unwrap_or_else(|problem| panic!("{name}: {problem:?}")).0;
        assert_ne!(thinking(ask), Thinking::Auto, "{name}");
        let tool = json!({"name": "now", "input_schema": {"type": "object", "properties": {}}});
        let more = json!({
            "max_tokens": 9, "thinking": {"type": "disabled"}, "tools": [tool], "tool_choice": {"type": "any"},
        });
        let ask = anthropic::messages(fields(&with(&body, &more)), &served, "1")
            .unwrap_or_else(|problem| panic!("{name}: {problem:?}"))
            .0;
        assert_ne!(thinking(ask), Thinking::Auto, "{name}");
    }
    assert!(off == 0 && begun == 0 || off > 40 && begun > 20 && closed > 3, "{off}, {begun}, {closed}");
}

#[test]
fn half_a_marker_is_no_content_of_an_answer_that_was_cut() {
    let served = common::served("{{ messages[0].content }}<think></think>");
    let body = json!({"messages": [{"role": "user", "content": "x"}]});
    let form = json!({"structured_outputs": {"regex": "<t[a-z]"}});
    let content = |body: &Value, stream: bool, texts: &[&str], finish_reason: FinishReason| {
        let mut body = body.clone();
        body["stream"] = stream.into();
        let (_, mut writer) = openai::chat(fields(&body), &served, "1").unwrap();
        let usage = Usage { prompt_tokens: 1, cached_tokens: 0, completion_tokens: texts.len() };
        let timing = Timing { submitted: Duration::ZERO, started: None, first_token: None, finished: Duration::ZERO };
        let token =
            |text: &&str| Update::Token(Token { id: 5, text: (*text).to_owned(), logprob: None, top: Vec::new() });
        let mut updates: Vec<Update> = texts.iter().map(token).collect();
        updates.push(Update::Finished { text: String::new(), finish_reason, usage, timing });
        if stream {
            let events = updates.into_iter().flat_map(|update| writer.update(0, update));
            let texts = events.map(|event| {
                let chunk: Value = serde_json::from_str(&event.data).unwrap();
                chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned()
            });
            return texts.collect::<String>();
        }
        let mut choice = Choice::new(0);
        for update in updates {
            choice.update(update);
        }
        let whole = writer.whole(vec![choice]);
        whole["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
    };
    let formed = with(&body, &form);
    for stream in [false, true] {
        for texts in [&["   ", "<", "think"][..], &["<t"], &["\n\n"]] {
            assert_eq!(content(&formed, stream, texts, FinishReason::MaxTokens), "", "{texts:?}");
        }
        let whole = ["<th"];
        assert_eq!(content(&formed, stream, &whole, FinishReason::EndToken), "<th");
        assert_eq!(content(&formed, stream, &["<think>a</think>", "\n\n", "<te"], FinishReason::EndToken), "<te");
        // Without a form it may be any text.
        assert_eq!(content(&body, stream, &whole, FinishReason::MaxTokens), "<th");
    }
}

#[test]
fn the_time_of_a_request_may_be_over_when_its_form_is_compiled() {
    let served = common::plain();
    let ask = |timeout: f64| {
        let form = json!({"structured_outputs": {"regex": "[ab]{3}"}, "timeout": timeout});
        let body = with(&json!({"messages": [{"role": "user", "content": "x"}]}), &form);
        openai::chat(fields(&body), &served, "1").unwrap().0
    };
    let problem = ask(1e-9).requests(&served, &Stop::default()).err().unwrap();
    assert_eq!((problem.kind, problem.param.as_deref()), (ProblemKind::Timeout, None), "{problem:?}");
    assert!(ask(600.0).requests(&served, &Stop::default()).is_ok());
}
