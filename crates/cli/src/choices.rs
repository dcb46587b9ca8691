//! Several answers to one prompt.

use crate::answer::{ending, logprobs, prompt_logprobs};
use crate::exit::Exit;
use crate::memory;
use anyhow::Result;
use serde_json::{Value as Json, json};
use std::io::Write;
use std::path::Path;
use trine::Llm;
use trine_engine::{Choice, FinishReason};

/// Prints them one after the other, with an empty line between, or as one line of JSON.
pub fn show(choices: &[Choice], llm: &Llm, model: &Path, seed: u64, json: bool) -> Result<Exit> {
    let mut out = std::io::stdout();
    if json {
        let prompt = choices.iter().flat_map(|choice| &choice.prompt).cloned().collect::<Vec<_>>();
        let report = json!({
            "model": model.display().to_string(),
            "seed": seed,
            "choices": choices.iter().map(|choice| object(choice, llm)).collect::<Vec<_>>(),
            "prompt_logprobs": prompt_logprobs(llm.tokenizer(), &prompt),
            "usage": {
                "prompt_tokens": choices.iter().map(|choice| choice.usage.prompt_tokens).max(),
                "completion_tokens": choices.iter().map(|choice| choice.usage.completion_tokens).sum::<usize>(),
            },
            "memory": memory::report(llm),
        });
        writeln!(out, "{report}")?;
    } else {
        let texts: Vec<&str> = choices.iter().map(|choice| choice.text.trim_end_matches('\n')).collect();
        writeln!(out, "{}", texts.join("\n\n"))?;
    }
    let cancelled = choices.iter().any(|choice| matches!(choice.finish_reason, FinishReason::Cancelled));
    if !cancelled {
        return Ok(Exit::Done);
    }
    note!("stopped: the answers are those so far");
    Ok(Exit::Interrupted)
}

/// A choice, with the field names of OpenAI's API where they exist.
fn object(choice: &Choice, llm: &Llm) -> Json {
    let ended = matches!(choice.finish_reason, FinishReason::EndToken | FinishReason::StopToken);
    let tokens = &choice.tokens[..choice.tokens.len() - usize::from(ended)];
    json!({
        "index": choice.index,
        "text": choice.text,
        "ids": tokens.iter().map(|token| token.id).collect::<Vec<_>>(),
        "logprobs": logprobs(llm.tokenizer(), tokens),
        "cumulative_logprob": choice.cumulative_logprob(),
        "finish_reason": choice.finish_reason.name(),
        "ended_by": ending(&choice.finish_reason),
    })
}
