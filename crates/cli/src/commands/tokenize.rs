use crate::exit::{Exit, UsageError};
use crate::{input, table};
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use trine_model::Language;
use trine_text::{EncodeOptions, Tokenizer};

/// Convert text to tokens, or back
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine tokenize model.gguf \"Once upon a time\"\n  \
    trine tokenize model.gguf --pieces < story.txt\n  \
    trine tokenize model.gguf --decode \"1 403 407 261 378\"\n  \
    trine tokenize tokenizer.json --count < story.txt")]
pub struct Tokenize {
    /// Model, tokenizer.json or tokenizer.model (SentencePiece or tiktoken)
    model: PathBuf,
    /// Text [default: stdin, without its last newline]
    text: Option<String>,
    /// Print a line for each token: its id and its text
    #[arg(long, conflicts_with = "count")]
    pieces: bool,
    /// Print only the number of tokens
    #[arg(long)]
    count: bool,
    /// Print the text of these ids, including control tokens
    #[arg(long, value_name = "IDS", conflicts_with_all = ["text", "pieces", "count"])]
    decode: Option<String>,
    /// Treat names of control tokens as plain text; with --decode, omit them
    #[arg(long)]
    no_special: bool,
    /// Add neither BOS nor EOS
    #[arg(long)]
    no_bos: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "count")]
    json: bool,
}

impl Tokenize {
    pub fn run(self) -> Result<Exit> {
        let language = Language::open(&self.model)?;
        for warning in &language.warnings {
            note!("warning: {}", table::visible(warning));
        }
        let tokenizer = language.tokenizer;
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        if let Some(ids) = &self.decode {
            let ids = parse_ids(ids, &tokenizer)?;
            let text = if self.no_special { tokenizer.decode(&ids) } else { tokenizer.decode_with_special(&ids) };
            if self.json {
                writeln!(out, "{}", json!({ "text": text, "ids": ids }))?;
            } else {
                writeln!(out, "{text}")?;
            }
        } else {
            let text = self.text.map_or_else(input::text, Ok)?;
            let ids =
                tokenizer.encode(&text, EncodeOptions { parse_special: !self.no_special, add_special: !self.no_bos });
            if let [first, second, ..] = ids[..]
                && first == second
                && tokenizer.bos() == Some(first)
                && tokenizer.adds_bos()
            {
                note!(
                    "warning: the text begins with BOS, and gets another one; --no-bos adds none, as `trine run` does here"
                );
            }
            let piece = |id: u32| visible(tokenizer.piece(id).unwrap_or_default());
            if self.json {
                let pieces: Vec<_> = ids.iter().map(|&id| piece(id)).collect();
                writeln!(out, "{}", json!({ "count": ids.len(), "ids": ids, "pieces": pieces }))?;
            } else if self.count {
                writeln!(out, "{}", ids.len())?;
            } else if self.pieces {
                // Spaces alone would not be seen.
                let seen = |text: String| if text.trim().is_empty() { format!("{text:?}") } else { text };
                ids.iter().try_for_each(|&id| writeln!(out, "{id:>7}  {}", seen(piece(id))))?;
            } else {
                let ids: Vec<_> = ids.iter().map(u32::to_string).collect();
                writeln!(out, "{}", ids.join(" "))?;
            }
        }
        out.flush()?;
        Ok(Exit::Done)
    }
}

/// Parses ids between spaces, commas or brackets, such as the output of `tokenize`.
fn parse_ids(text: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let words = text.split(|c: char| c.is_whitespace() || ",[]".contains(c)).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let id = word.parse().ok().filter(|&id| (id as usize) < tokenizer.len());
            let message = || format!("--decode: expected ids less than {}, found `{word}`", tokenizer.len());
            let usage = || UsageError { message: message(), hint: "for example --decode \"1 403 407\"" };
            Ok(id.ok_or_else(usage)?)
        })
        .collect()
}

/// The bytes of a token on one line.
fn visible(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(&table::visible(chunk.valid()));
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}
