//! Log probabilities of completions: those of a stream are those of the whole answer.

mod common;

use common::{fields, served_with, tokenizer};
use serde_json::{Value, json};
use trine_api::openai::{self, Shared};
use trine_api::{Ask, Fields, PLAIN_TEMPLATE, Problem, Writer, ollama, tokens};
use trine_engine::{Choice, FinishReason, PromptToken, Timing, Token, Update, Usage};
use trine_text::{DecodeStream, EncodeOptions};

/// What an engine tells of an answer to a prompt with these texts.
fn updates(served: &Shared, prompt: &[u32], index: usize, answer: &str) -> Vec<Update> {
    let told = |(at, &id): (usize, &u32)| {
        Update::Prompt(PromptToken { id, logprob: (at > 0).then_some(-(at as f64)), top: Vec::new() })
    };
    let mut updates: Vec<Update> = prompt.iter().enumerate().map(told).filter(|_| index == 0).collect();
    let mut stream = DecodeStream::after_prompt(&served.tokenizer);
    let ids = served.tokenizer.encode(answer, EncodeOptions::default());
    for id in ids {
        let text = stream.push(&served.tokenizer, id).to_owned();
        updates.push(Update::Token(Token { id, text, logprob: Some(-0.5), top: Vec::new() }));
    }
    let (finish_reason, usage, timing) = (FinishReason::MaxTokens, Usage::default(), Timing::default());
    let text = stream.finish().to_owned();
    updates.push(Update::Finished { text, finish_reason, usage, timing });
    updates
}

/// Text and log probabilities of each choice: whole, and joined from a stream whose updates come in this order of answers.
fn both(served: &Shared, body: &Value, answers: &[&str], order: &[usize]) -> [Vec<Value>; 2] {
    let read = || openai::completion(fields(body), served, "1").unwrap_or_else(|problem| panic!("{problem:?}"));
    let (ask, mut writer) = read();
    let n = answers.len() / ask.prompts.len();
    let all = |index: usize| updates(served, &ask.prompts[index / n], index % n, answers[index]);
    let choices = (0..answers.len()).map(|index| {
        let mut choice = Choice::new(index % n);
        all(index).into_iter().for_each(|update| _ = choice.update(update));
        choice
    });
    let of = |choice: &Value| json!({"text": choice["text"], "logprobs": choice["logprobs"]});
    let whole = writer.whole(choices.collect())["choices"].as_array().unwrap().iter().map(of).collect();

    let (_, mut writer) = read();
    let mut queues: Vec<_> = (0..answers.len()).map(|index| all(index).into_iter()).collect();
    let mut events = writer.begin();
    for &index in order {
        events.extend(queues[index].next().into_iter().flat_map(|update| writer.update(index, update)));
    }
    for (index, queue) in queues.into_iter().enumerate() {
        for update in queue {
            events.extend(writer.update(index, update));
        }
    }
    let mut joined = vec![json!({"text": "", "logprobs": {}}); answers.len()];
    for event in events {
        let event: Value = serde_json::from_str(&event.data).unwrap();
        let choice = &event["choices"][0];
        let joined = &mut joined[choice["index"].as_u64().unwrap() as usize];
        joined["text"] = format!("{}{}", joined["text"].as_str().unwrap(), choice["text"].as_str().unwrap()).into();
        for (name, values) in choice["logprobs"].as_object().into_iter().flatten() {
            let more = values.as_array().unwrap().iter().cloned();
            let list = joined["logprobs"].as_object_mut().unwrap().entry(name).or_insert_with(|| json!([]));
            list.as_array_mut().unwrap().extend(more);
        }
    }
    [whole, joined]
}

#[test]
fn a_stream_has_those_of_the_whole_answer_in_any_order() {
    let served = served_with(tokenizer(None), PLAIN_TEMPLATE);
    let body = json!({"prompt": ["Once upon", "The old dog"], "echo": true, "logprobs": 0, "n": 3});
    let answers = [" a time", " a dog", " a", " ran", " sat on", ""];
    for order in [vec![], vec![1; 9], vec![2, 1, 1, 0, 2, 0, 1], vec![5, 4, 3, 2, 1, 0, 5, 4, 3, 2, 1, 0], vec![5; 4]] {
        let [whole, stream] = both(&served, &body, &answers, &order);
        assert_eq!(stream, whole, "{order:?}");
    }
    // Without echo nothing is held back.
    let body = json!({"prompt": "Once upon", "logprobs": 0, "n": 2, "stream": true});
    let (_, mut writer) = openai::completion(fields(&body), &served, "1").unwrap();
    let token = Token { id: 9, text: "a".to_owned(), logprob: Some(-1.0), top: Vec::new() };
    assert_eq!(writer.update(1, Update::Token(token)).len(), 1);
}

#[test]
fn ollamas_have_the_form_of_its_api() {
    let served = served_with(tokenizer(None), PLAIN_TEMPLATE);
    let chat = json!({"messages": [{"role": "user", "content": "Hi"}], "logprobs": true, "top_logprobs": 2});
    let generate = json!({"prompt": "Hi", "logprobs": true});
    let raw = json!({"prompt": "Hi", "logprobs": true, "raw": true});
    type Read = fn(Fields, &Shared, &str) -> Result<(Ask, Box<dyn Writer>), Problem>;
    for (read, body, top) in
        [(ollama::chat as Read, chat, 2), (ollama::generate, generate, 0), (ollama::generate, raw, 0)]
    {
        let (ask, mut writer) = read(fields(&body), &served, "1").unwrap_or_else(|problem| panic!("{problem:?}"));
        assert_eq!(ask.sampling.logprobs, Some(top));
        let mut choice = Choice::new(0);
        let mut lines = Vec::new();
        let all = || updates(&served, &ask.prompts[0], 0, " a dog");
        all().into_iter().for_each(|update| _ = choice.update(update));
        all().into_iter().for_each(|update| lines.extend(writer.update(0, update)));
        let told = |line: Value| line["logprobs"].as_array().cloned().unwrap_or_default();
        let streamed = lines.iter().flat_map(|line| told(serde_json::from_str(&line.data).unwrap()));
        let streamed: Vec<Value> = streamed.collect();
        let (_, mut writer) = read(fields(&body), &served, "1").unwrap();
        assert_eq!(told(writer.whole(vec![choice])), streamed);
        let keys: Vec<&str> = streamed[0].as_object().unwrap().keys().map(String::as_str).collect();
        assert!(["token", "logprob", "bytes", "top_logprobs"].iter().all(|key| keys.contains(key)), "{keys:?}");
    }
}

#[test]
fn offsets_count_the_characters_before_a_token() {
    let prompt = "é 😀 名 naïve\t\n  x";
    for (model, template) in [(None, PLAIN_TEMPLATE), (Some("llama"), PLAIN_TEMPLATE), (Some("gemma"), PLAIN_TEMPLATE)]
    {
        let served = served_with(tokenizer(model), template);
        let body = json!({"prompt": prompt, "echo": true, "logprobs": 1, "max_tokens": 6});
        let [whole, stream] = both(&served, &body, &["a 名é b"], &[]);
        assert_eq!(stream, whole, "{model:?}");
        let (text, logprobs) = (whole[0]["text"].as_str().unwrap(), &whole[0]["logprobs"]);
        let offsets: Vec<usize> =
            logprobs["text_offset"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap() as usize).collect();
        let known = logprobs["tokens"].as_array().unwrap().iter().map(|token| token.as_str().unwrap());
        let mut checked = 0;
        for (token, &at) in known.zip(&offsets).filter(|(token, _)| !token.starts_with('<')) {
            let rest: String = text.chars().skip(at).collect();
            let broken = token.contains('\u{FFFD}');
            assert!(broken || rest.starts_with(token), "{model:?}: {token:?} at {at} of {text:?}");
            checked += usize::from(!broken);
        }
        assert!(checked > 5 && offsets.is_sorted(), "{model:?}: {offsets:?} {logprobs}");
        // Tokens of one character begin where it does.
        let face = prompt.chars().position(|c| c == '😀').unwrap();
        assert!(model.is_none() || offsets.contains(&face), "{model:?}: {offsets:?}");
    }
}

#[test]
fn pieces_of_a_text_joined_are_the_text() {
    for model in [None, Some("llama"), Some("gemma")] {
        let served = served_with(tokenizer(model), PLAIN_TEMPLATE);
        let answer =
            tokens::tokenize(fields(&json!({"content": "Hello world", "with_pieces": true})), &served).unwrap();
        let answer = serde_json::to_value(answer).unwrap();
        let pieces = answer["tokens"].as_array().unwrap().iter().map(|token| token["piece"].as_str().unwrap());
        let ids = served.tokenizer.encode("Hello world", EncodeOptions::default());
        let own: String = ids.iter().flat_map(|&id| served.tokenizer.piece(id).unwrap()).map(|&b| b as char).collect();
        assert_eq!(pieces.collect::<String>(), own, "{model:?}");
        assert!(own.ends_with("Hello world"));
    }
}
