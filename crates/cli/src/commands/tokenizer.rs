use crate::exit::{Exit, UsageError};
use crate::output::OutputFile;
use crate::{interrupt, output, progress, units};
use anyhow::Result;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use trine_model::vocab_metadata;
use trine_tensor::{Replacement, gguf};
use trine_text::{BpeOptions, EncodeOptions, OwnedVocab, Tokenizer, TokenizerJson};
use trine_train::Error;
use trine_train::data::Documents;

/// Train a tokenizer
#[derive(Args)]
pub struct TokenizerCommand {
    #[command(subcommand)]
    action: TokenizerAction,
}

#[derive(Subcommand)]
enum TokenizerAction {
    Train(TrainTokenizer),
}

/// Train a byte-level BPE tokenizer on text
///
/// The output is a GGUF file with a vocabulary only, or, if its name ends with .json, a tokenizer.json with a
/// tokenizer_config.json in the same folder. The same text and options give the same file.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine tokenizer train tokenizer.gguf stories.txt --vocab-size 4096\n  \
    trine tokenizer train tokenizer.gguf a.jsonl b.jsonl --field story\n  \
    trine tokenizer train folder/tokenizer.json stories.txt --vocab-size 2048")]
struct TrainTokenizer {
    /// Output file
    output: PathBuf,
    /// Text files with separators between documents, or .jsonl files with one in each line
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Vocabulary size, including the control tokens and the 256 bytes
    #[arg(short, long, value_name = "N", default_value_t = BpeOptions::default().vocab_size)]
    vocab_size: usize,
    /// Minimum frequency of a pair to be merged
    #[arg(long, value_name = "N", default_value_t = BpeOptions::default().min_frequency)]
    min_frequency: u64,
    /// Control token; may be repeated. The first begins and ends a text
    #[arg(long, value_name = "NAME", default_values_t = BpeOptions::default().control)]
    control: Vec<String>,
    /// Separator between the documents of text files
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, default_value = "<|endoftext|>")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    separator: String,
    /// Field of a JSONL line that holds the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    field: String,
    /// Replace an existing file
    #[arg(short, long)]
    force: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

impl TokenizerCommand {
    pub fn run(self) -> Result<Exit> {
        let TokenizerAction::Train(train) = self.action;
        train.run()
    }
}

impl TrainTokenizer {
    fn run(self) -> Result<Exit> {
        output::check_new(&self.output, self.force, "--force replaces it")?;
        let files = self.files_of_json()?;
        if files.is_none() {
            Replacement::check(&self.output)?;
        }
        let stop = interrupt::flag()?;
        let started = Instant::now();
        let options = BpeOptions {
            vocab_size: self.vocab_size,
            min_frequency: self.min_frequency,
            control: self.control.clone(),
        };
        let trained = self.read("reading", &stop, |texts| options.train(texts))?;
        let TokenizerJson { tokenizer, config } = &trained;
        let seconds = started.elapsed().as_secs_f64();
        let (json, config) = (tokenizer.as_bytes(), config.as_bytes());
        let tokenizer = Tokenizer::from_json(json, Some(config))?;
        let (mut documents, mut bytes, mut tokens) = (0u64, 0u64, 0u64);
        self.read("counting", &stop, |texts| {
            for text in texts {
                let text = text?;
                documents += 1;
                bytes += text.len() as u64;
                tokens += tokenizer.encode(&text, EncodeOptions::default()).len() as u64;
            }
            Ok(())
        })?;
        if let Some(files) = files {
            for (file, bytes) in files.into_iter().zip([config, json]) {
                file.write(|out| out.write_all(bytes))?;
            }
        } else {
            let mut metadata = vocab_metadata(&OwnedVocab::from_json(json, Some(config))?.vocab());
            metadata.insert("general.architecture", "gpt2");
            gguf::write(&self.output, &metadata, &[])?;
        }
        let bytes_per_token = bytes as f64 / tokens as f64;
        let mut out = std::io::stdout().lock();
        if self.json {
            let report = json!({
                "output": self.output, "vocab_size": tokenizer.len(), "documents": documents, "bytes": bytes, "tokens": tokens,
                "bytes_per_token": bytes_per_token, "seconds": seconds,
            });
            writeln!(out, "{report}")?;
        } else {
            writeln!(
                out,
                "{}: {}, trained in {seconds:.1} s on {} of {}, {}, {bytes_per_token:.2} bytes per token",
                self.output.display(),
                units::plural(tokenizer.len() as u64, "token"),
                units::plural(documents, "document"),
                units::bytes(bytes),
                units::plural(tokens, "token"),
            )?;
        }
        if tokenizer.len() < self.vocab_size {
            note!(
                "warning: the text has merges for only {} tokens; more text or a smaller --min-frequency gives more",
                tokenizer.len()
            );
        }
        Ok(Exit::Done)
    }

    /// The files of an output that ends with .json: tokenizer_config.json and itself.
    fn files_of_json(&self) -> Result<Option<[OutputFile; 2]>> {
        if self.output.extension().is_none_or(|extension| extension != "json") {
            return Ok(None);
        }
        let beside = self.output.with_file_name("tokenizer_config.json");
        if beside == self.output {
            let message = "expected another output than tokenizer_config.json, which is written as well".to_owned();
            return Err(UsageError { message, hint: "for example tokenizer.json" }.into());
        }
        let open = |path: &Path| OutputFile::new(path, Path::new(""));
        Ok(Some([open(&beside)?, open(&self.output)?]))
    }

    /// Passes all documents to `body`, with a progress bar, until Ctrl-C.
    fn read<T>(
        &self,
        verb: &'static str,
        stop: &AtomicBool,
        body: impl FnOnce(DocumentReader) -> Result<T, Error>,
    ) -> Result<T> {
        let documents = Documents::open(&self.files, &self.separator, &self.field)?;
        let bar = progress::bytes(verb, documents.size());
        let result = body(DocumentReader { documents, stop, bar: &bar });
        bar.finish_and_clear();
        Ok(result?)
    }
}

/// Documents, until Ctrl-C.
struct DocumentReader<'a> {
    documents: Documents,
    stop: &'a AtomicBool,
    bar: &'a ProgressBar,
}

impl Iterator for DocumentReader<'_> {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.stop.load(Relaxed) {
            return Some(Err(Error::Cancelled));
        }
        let text = self.documents.next();
        self.bar.set_position(self.documents.position());
        text
    }
}
