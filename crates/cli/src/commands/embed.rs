use crate::exit::Exit;
use crate::load::LoadArgs;
use crate::{input, interrupt, table, units};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use std::io::{BufReader, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use trine::{Embedder, EmbeddingTokenizer, ErrorKind};
use trine_engine::Prompt;

/// Compute the embedding of each text, a vector of length 1
///
/// Some models expect a prefix, such as "search_query: ". It is part of the text, unless the model's folder has it as a prompt
/// (config_sentence_transformers.json): the default one precedes each text.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine embed bge.gguf \"The cat sleeps.\" \"A dog barks.\"\n  \
    trine embed qwen3-embedding/ < lines.txt > vectors.jsonl\n  \
    trine embed model.gguf --json \"search_query: cats\"")]
pub struct Embed {
    /// Model: a GGUF or safetensors file, or its folder
    model: PathBuf,
    /// Texts [default: the lines of stdin]
    texts: Vec<String>,
    /// Name of the prompt that precedes each text [default: the model's default prompt]
    #[arg(long, value_name = "NAME")]
    prompt_name: Option<String>,
    /// Embed the texts alone, without the model's default prompt
    #[arg(long, conflicts_with = "prompt_name")]
    no_prompt: bool,
    /// Print an object for each text, with its number of tokens
    #[arg(long)]
    json: bool,
    /// Print no progress and no warnings
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    load: LoadArgs,
}

impl Embed {
    pub fn run(self) -> Result<Exit> {
        let stop = interrupt::flag()?;
        let mut embedder = self.load.load_embedder(&self.model, self.quiet, &stop)?;
        if self.no_prompt || self.prompt_name.is_some() {
            embedder.choose_prompt(self.prompt_name.as_deref())?;
        }
        if !self.quiet {
            notes(&embedder, "; --no-prompt leaves it out");
        }
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let lines: Box<dyn Iterator<Item = std::io::Result<String>>> = match self.texts.is_empty() {
            true => Box::new(input::lines(BufReader::new(interrupt::Input(std::io::stdin())))),
            false => Box::new(self.texts.into_iter().map(Ok)),
        };
        let mut lines = lines.enumerate();
        // Texts that share a pass, and how many were before them.
        let (mut texts, mut tokens, mut done) = (Vec::<Vec<u32>>::new(), 0, 0);
        loop {
            if stop.load(Relaxed) {
                return stopped(&mut out, done);
            }
            let next = lines.next().map(|(i, text)| read(&embedder, i + 1, text, self.quiet));
            let fits = matches!(&next, Some(Ok(ids)) if tokens + ids.len() <= embedder.batch());
            if !fits && !texts.is_empty() {
                let embeddings = match embedder.embed_all(&texts) {
                    Err(error) if error.kind() == ErrorKind::Cancelled => return stopped(&mut out, done),
                    embeddings => embeddings?,
                };
                for (embedding, ids) in embeddings.into_iter().zip(texts.drain(..)) {
                    match self.json {
                        true => {
                            writeln!(out, "{}", json!({ "index": done, "tokens": ids.len(), "embedding": embedding }))?
                        }
                        false => writeln!(out, "{}", json!(embedding))?,
                    }
                    done += 1;
                }
                out.flush()?;
                tokens = 0;
            }
            let Some(ids) = next.transpose()? else { break };
            tokens += ids.len();
            texts.push(ids);
        }
        out.flush()?;
        Ok(Exit::Done)
    }
}

/// Notes the prompt, with what can be done about it, and what was assumed.
pub fn notes(embedder: &Embedder, advice: &str) {
    if !embedder.prompt().is_empty() {
        let prompt = format!("{:?}", embedder.prompt());
        note!("note: each text follows the prompt {}{advice}", table::visible(&prompt));
    }
    embedder.warnings().iter().for_each(|warning| note!("warning: {}", table::visible(warning)));
}

/// The tokens of a text of a request, if they can be embedded.
pub fn tokens(tokenizer: &EmbeddingTokenizer, prompt: Prompt) -> Result<Vec<u32>, String> {
    let ids = match prompt {
        Prompt::Text(text) => tokenizer.tokens(&text),
        Prompt::Chat(chat) => tokenizer.tokens(chat.text()),
        Prompt::Tokens(ids) => ids,
    };
    tokenizer.check(&ids).map(|()| ids).map_err(|error| error.to_string())
}

/// The tokens of a text, which is counted from 1.
fn read(embedder: &Embedder, number: usize, text: std::io::Result<String>, quiet: bool) -> Result<Vec<u32>> {
    let text = text.with_context(|| format!("line {number} of standard input"))?;
    let (ids, cut) = embedder.encode(&text);
    embedder.check(&ids).with_context(|| format!("text {number}"))?;
    if cut > 0 && !quiet {
        let (most, side) = (ids.len(), if embedder.texts().cut_left { "first" } else { "last" });
        note!("warning: text {number}: the model takes {most} tokens of a text: left out the {side} {cut}");
    }
    Ok(ids)
}

/// Ends after so many texts.
fn stopped(out: &mut impl Write, texts: usize) -> Result<Exit> {
    out.flush()?;
    note!("stopped after {}", units::plural(texts as u64, "text"));
    Ok(Exit::Interrupted)
}
