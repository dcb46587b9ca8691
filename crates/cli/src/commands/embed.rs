use crate::exit::Exit;
use crate::load::LoadArgs;
use crate::{interrupt, table};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

/// Compute the embedding of each text, a vector of length 1
///
/// Some models expect a prefix, such as "search_query: ", which is part of the text.
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
        if !self.quiet {
            embedder.warnings().iter().for_each(|warning| note!("warning: {}", table::visible(warning)));
        }
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let lines: Box<dyn Iterator<Item = std::io::Result<String>>> = match self.texts.is_empty() {
            true => Box::new(std::io::stdin().lock().lines()),
            false => Box::new(self.texts.into_iter().map(Ok)),
        };
        for (i, text) in lines.enumerate() {
            if stop.load(Relaxed) {
                out.flush()?;
                return Ok(Exit::Interrupted);
            }
            let text = text.with_context(|| format!("line {} of standard input", i + 1))?;
            let ids = embedder.tokens(&text);
            let embedding = embedder.embed_tokens(&ids).with_context(|| format!("text {}", i + 1))?;
            match self.json {
                true => writeln!(out, "{}", json!({ "index": i, "tokens": ids.len(), "embedding": embedding }))?,
                false => writeln!(out, "{}", json!(embedding))?,
            }
        }
        out.flush()?;
        Ok(Exit::Done)
    }
}
