//! What the fuzzer calls with bytes that clients send, and `crates/trine/tests/mutations.rs` with those that it found worth keeping. Nothing
//! may panic, hang, or take memory that the bytes do not justify.

// Each target uses one of them.
#![allow(dead_code)]

use std::sync::{Arc, OnceLock};
use trine::engine::sample::{Candidates, Filter, History};
use trine::engine::{Choice, FinishReason, Sampling, Timing, Token, Update, Usage};
use trine::grammar::{Constraint, Error, Grammar, Limits, Vocabulary};
use trine::model::Language;
use trine::text::{DecodeStream, EncodeOptions, Template};
use trine_api::{
    Ask, Fields, PLAIN_TEMPLATE, Problem, Served, Stop, Writer, anthropic, ollama, openai, responses, tokens,
};

/// A template that describes tools as Hermes does, and thinking.
const TEMPLATE: &str = r#"{%- if tools %}{% for tool in tools %}{{ tool.function.name }} {{ tool | tojson }}{% endfor %}
{#- <tool_call> {"name": <function-name>, "arguments": <args-json-object>} </tool_call> #}{% endif %}
{%- for m in messages %}{{ m.role }}: {% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content + "" }}
{%- for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}{% endfor %}
{%- if add_generation_prompt %}assistant: {% if enable_thinking is false %}<think></think>{% endif %}{% endif %}"#;

/// The longest body whose grammar is compiled: larger ones are for [`schema`].
const SMALL: usize = 2048;

/// The most answers that are written.
const ANSWERS: usize = 8;

/// The embedded model with no template, and with one that knows all.
fn served() -> &'static [Arc<Served>; 2] {
    static SERVED: OnceLock<[Arc<Served>; 2]> = OnceLock::new();
    SERVED.get_or_init(|| {
        let file = trine::open_file(trine::EMBEDDED, &Default::default()).expect("it is in the library");
        let tokenizer = Arc::new(Language::of(&file).expect("it is whole").tokenizer);
        [PLAIN_TEMPLATE, TEMPLATE].map(|source| {
            let template = Ok(Template::new(source, "<s>", "</s>").expect("a template"));
            Arc::new(Served::new("stories", tokenizer.clone(), template, Sampling::default(), 512))
        })
    })
}

type Read = fn(Fields, &Arc<Served>, &str) -> Result<(Ask, Box<dyn Writer>), Problem>;

/// The body of a request, read by every protocol; and after a NUL byte the text of its answer, written as the protocol does. Says whether any
/// takes the body.
pub fn request(bytes: &[u8]) -> bool {
    let mut parts = bytes.splitn(2, |&byte| byte == 0);
    let (body, answer) = (parts.next().unwrap_or_default(), String::from_utf8_lossy(parts.next().unwrap_or_default()));
    let Ok(Ok(fields)) = serde_json::from_slice(body).map(Fields::new) else { return false };
    let mut taken = false;
    for served in served() {
        let reads: [Read; 6] = [
            openai::chat,
            openai::completion,
            responses::response,
            anthropic::messages,
            ollama::chat,
            ollama::generate,
        ];
        for read in reads {
            let Ok((ask, writer)) = read(fields.clone(), served, "1") else { continue };
            taken = true;
            if body.len() <= SMALL {
                let _ = ask.requests(served, &Stop::default());
            }
            write(&ask, served, writer, &answer);
        }
        let others = [anthropic::count_tokens, trine_api::openai::apply_template, tokens::detokenize];
        taken |= tokens::tokenize(fields.clone(), served).is_ok();
        taken |= others.iter().filter(|read| read(fields.clone(), served).is_ok()).count() > 0;
    }
    taken | openai::embedding(fields, 64).is_ok()
}

/// Writes answers with this text.
fn write(ask: &Ask, served: &Served, mut writer: Box<dyn Writer>, text: &str) {
    let answers = ask.answers().saturating_mul(ask.prompts.len());
    if answers > ANSWERS {
        return;
    }
    let ids = served.tokenizer.encode(text, EncodeOptions::default());
    let mut decoder = DecodeStream::after_prompt(&served.tokenizer);
    let mut texts: Vec<(u32, String)> =
        ids.iter().map(|&id| (id, decoder.push(&served.tokenizer, id).to_owned())).collect();
    texts.truncate(ask.sampling.max_tokens.unwrap_or(usize::MAX));
    let logprob = ask.sampling.logprobs.map(|_| -1.0);
    // A body of Ollama's that only loads the model has no prompt.
    let prompt_tokens = ask.prompts.first().map_or(0, Vec::len);
    let usage = Usage { prompt_tokens, cached_tokens: 0, completion_tokens: texts.len() };
    let updates = |_| {
        let token =
            |(id, text): &(u32, String)| Update::Token(Token { id: *id, text: text.clone(), logprob, top: Vec::new() });
        let end = Update::Finished {
            text: String::new(),
            finish_reason: FinishReason::EndToken,
            usage,
            timing: Timing::default(),
        };
        texts.iter().map(token).chain([end]).collect::<Vec<_>>()
    };
    if ask.stream {
        let mut events = writer.begin();
        for index in 0..answers {
            events.extend(updates(index).into_iter().flat_map(|update| writer.update(index, update)));
        }
        events.extend(writer.end());
        assert!(events.iter().all(|event| !event.data.contains(['\n', '\r'])), "an event is a line");
    } else {
        let mut choices: Vec<Choice> = (0..answers).map(Choice::new).collect();
        for choice in &mut choices {
            for update in updates(choice.index) {
                choice.update(update);
            }
        }
        assert!(writer.whole(choices).is_object());
    }
}

/// A vocabulary with the text of each token.
fn vocabulary() -> &'static (Vocabulary, Vec<f32>) {
    static VOCABULARY: OnceLock<(Vocabulary, Vec<f32>)> = OnceLock::new();
    VOCABULARY.get_or_init(|| {
        let tokenizer = &served()[0].tokenizer;
        (Vocabulary::new(tokenizer).expect("its end is known"), vec![0.0; tokenizer.len()])
    })
}

/// A constraint: by its first byte a JSON Schema (`{`), a regular expression (`/`), a grammar in GBNF (`:`) or in Lark (any other); and after
/// a NUL byte, bytes that choose the tokens of an answer. Says whether it is one.
pub fn schema(bytes: &[u8]) -> bool {
    let mut parts = bytes.splitn(2, |&byte| byte == 0);
    let (text, choices) = (parts.next().unwrap_or_default(), parts.next().unwrap_or(b"\x01\x80\xff\x10"));
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let constraint = match text.split_at_checked(1) {
        Some(("{", _)) => Constraint::JsonSchema(text.to_owned()),
        Some(("/", rest)) => Constraint::Regex(rest.to_owned()),
        Some((":", rest)) => Constraint::Gbnf(rest.to_owned()),
        _ => Constraint::Lark(text.to_owned()),
    };
    // A tenth of what a server allows, so that most executions are short.
    let defaults = Limits::default();
    let limits = Limits {
        schemas: defaults.schemas / 10,
        symbols: defaults.symbols / 10,
        compile_expressions: defaults.compile_expressions / 10,
        mask_expressions: defaults.mask_expressions / 10,
        mask_items: defaults.mask_items / 10,
        row_items: defaults.row_items / 10,
        states: defaults.states / 10,
        ..defaults
    };
    let (vocabulary, logits) = vocabulary();
    match Grammar::with_limits(vocabulary, &constraint, &limits) {
        Ok(grammar) => {
            answer(&mut *grammar.filter(), logits, &choices[..choices.len().min(16)]);
            true
        }
        // What the compiler panics at is refused, and a fault all the same.
        Err(Error::Invalid { problem, .. }) if problem.starts_with("panic: ") => panic!("{problem}"),
        Err(_) => false,
    }
}

/// Steps of an answer, each to one of the tokens that are allowed. What the filter forgets and is told again is the same.
fn answer(filter: &mut dyn Filter, logits: &[f32], choices: &[u8]) {
    let (mut tokens, mut candidates) = (Vec::new(), Candidates::default());
    let mut allowed = |filter: &mut dyn Filter, tokens: &[u32]| {
        candidates.fill(logits);
        filter.apply(&mut candidates, History { tokens, prompt: 0 }).ok()?;
        Some(candidates.items().iter().map(|candidate| candidate.id).collect::<Vec<_>>())
    };
    for &choice in choices {
        let Some(ids) = allowed(filter, &tokens).filter(|ids| !ids.is_empty()) else { return };
        let id = ids[usize::from(choice) * ids.len() / 256];
        filter.accept(id);
        filter.rollback(1);
        assert_eq!(allowed(filter, &tokens).as_ref(), Some(&ids), "what was taken back changes nothing");
        filter.accept(id);
        tokens.push(id);
    }
}
