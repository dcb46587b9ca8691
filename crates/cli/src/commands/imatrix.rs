use crate::exit::{Exit, UsageError};
use crate::input::SeparatorArg;
use crate::load::LoadArgs;
use crate::table::visible;
use crate::{input, interrupt, output, progress, units};
use anyhow::{Context, Result, anyhow};
use clap::{Args, ValueEnum, value_parser};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use trine_backend::Observer;
use trine_lab::imatrix::{Imatrix, ImatrixFormat, ImatrixOptions, collect};
use trine_text::{EncodeOptions, Tokenizer};

/// Tokens of a chunk, as in llama.cpp.
const CONTEXT: usize = 512;
const BAR: &str = "{bar:30} {pos}/{len} chunks {eta}";

/// Measure which columns of matrices matter for quantizing
///
/// The text is run through the model, and the squares of the inputs of each column are added up: an importance matrix, as
/// llama.cpp's llama-imatrix makes it. Quantizing then keeps those columns best that have large inputs. The text should be like what
/// the model is for; a few hundred chunks are enough.
///
/// A .jsonl file has a text in the field `text` of each line, or a chat in `messages`, to which the model's chat template is applied.
/// All texts together are cut into chunks of --context tokens: 512 unless given, or what there is; BOS takes the place of the first
/// token of each if the model uses it; what does not fill a chunk is left out.
///
/// The file is GGUF, or of llama.cpp's older format if its name ends with .dat.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine imatrix f16.gguf text.txt -o imatrix.gguf --chunks 100\n  \
    trine imatrix f16.gguf chats.jsonl -o imatrix.gguf\n  \
    trine quantize f16.gguf q2.gguf --format q2_k --imatrix imatrix.gguf")]
pub struct ImatrixCommand {
    /// Model: a GGUF or safetensors file, or its folder
    model: PathBuf,
    /// Text file, .jsonl file of texts or chats, or `-` for text from stdin
    text: PathBuf,
    #[command(flatten)]
    separator: SeparatorArg,
    /// Output file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Maximum number of chunks [default: all]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    chunks: Option<u32>,
    /// Add to what this file has; may be repeated
    #[arg(long, value_name = "FILE")]
    in_file: Vec<PathBuf>,
    /// Measure the output head, too
    #[arg(long)]
    process_output: bool,
    /// Format of the output file [default: by its name]
    #[arg(long, value_name = "FORMAT")]
    output_format: Option<OutputFormat>,
    /// Replace an existing file, once the new one is complete
    #[arg(long)]
    force: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    /// Print no progress and no warnings
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    load: LoadArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum OutputFormat {
    /// GGUF, as llama.cpp writes it today
    Gguf,
    /// The older format of llama.cpp
    Dat,
}

impl ImatrixCommand {
    pub fn run(self) -> Result<Exit> {
        output::check_new(&self.output, self.force, "--force replaces it")?;
        let before = self.in_file.iter().map(|path| Imatrix::read(path)).collect::<Result<Vec<_>, _>>()?;
        if !self.is_jsonl() {
            self.load.check_no_template()?;
        }
        let stop = interrupt::flag()?;
        let observer = Observer::default();
        let file = self.load.layouts.open(&self.model)?;
        let decoder = self.load.load_observed(&self.model, self.quiet, &stop, observer.clone())?;
        if !self.quiet {
            decoder.warnings().iter().for_each(|warning| note!("warning: {}", visible(warning)));
        }
        if self.process_output && decoder.spec().tied {
            let message =
                "--process-output: the model has no head but the embedding, which needs no importance".to_owned();
            return Err(UsageError { message, hint: "omit it" }.into());
        }
        let tokenizer = decoder.tokenizer();
        let most = self.chunks.map_or(usize::MAX, |chunks| chunks as usize);
        let mut ids = self.ids(tokenizer)?;
        // A short text is one chunk.
        let fitting = CONTEXT.min(decoder.spec().context_length).min(ids.len().max(1));
        let context = self.load.context.map_or(fitting, |context| context as usize);
        ids.truncate(context.saturating_mul(most));
        let options = ImatrixOptions {
            context,
            bos: tokenizer.bos().filter(|_| tokenizer.adds_bos()),
            head: self.process_output,
            batch: self.load.batch.map_or(512, |batch| batch as usize),
            cache_type: self.load.machine.cache_type,
            dataset: self.text.display().to_string(),
        };
        let (mut runner, _) = decoder.into_parts();
        let bar = if self.quiet { ProgressBar::hidden() } else { progress::bar(BAR, 0) };
        let all = (ids.len() / context.max(1)) as u64;
        let result = collect(&mut *runner, &observer, &file, &ids, &options, &mut |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        let mut imatrix = result?;
        let done = imatrix.chunks as u64;
        for other in before {
            imatrix.add(other)?;
        }
        let dat = self.output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("dat"));
        let format = match self.output_format {
            Some(OutputFormat::Dat) => ImatrixFormat::Dat,
            None if dat => ImatrixFormat::Dat,
            _ => ImatrixFormat::Gguf,
        };
        imatrix.write(&self.output, format)?;
        self.report(&imatrix, done, context)?;
        if done == all {
            return Ok(Exit::Done);
        }
        note!("stopped: the file has {done} of {all} chunks");
        Ok(Exit::Interrupted)
    }

    fn report(&self, imatrix: &Imatrix, done: u64, context: usize) -> Result<()> {
        let unused = |count: &&f32| **count == 0.0;
        let partial: Vec<&String> = imatrix
            .entries
            .iter()
            .filter(|(_, entry)| entry.counts.len() > 1 && entry.counts.iter().any(|count| unused(&count)))
            .map(|(name, _)| name)
            .collect();
        let mut out = std::io::stdout().lock();
        if self.json {
            let report = json!({
                "output": self.output, "tensors": imatrix.entries.len(), "chunks": done, "context": context,
                "unused_experts": partial,
            });
            writeln!(out, "{report}")?;
            return Ok(());
        }
        let [tensors, chunks] =
            [(imatrix.entries.len() as u64, "tensor"), (done, "chunk")].map(|(n, what)| units::plural(n, what));
        writeln!(out, "{}: {tensors}, {chunks} of {context} tokens", self.output.display())?;
        if let (Some(first), false) = (partial.first(), self.quiet) {
            let count = units::plural(partial.len() as u64, "tensor");
            note!(
                "warning: {count} with experts that the text never used, such as `{first}`: a longer text may use them"
            );
        }
        Ok(())
    }

    /// Whether the texts are lines of JSON, which may be chats.
    fn is_jsonl(&self) -> bool {
        self.text.extension().is_some_and(|extension| extension == "jsonl")
    }

    /// The tokens of all texts or chats.
    fn ids(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let plain = EncodeOptions { add_special: true, parse_special: false };
        let format = self.separator.format(&self.text)?;
        if !self.is_jsonl() {
            let (mut ids, mut documents) = (Vec::new(), input::documents(&self.text, format)?);
            for text in documents.by_ref() {
                ids.extend(tokenizer.encode(&text?, plain));
            }
            self.separator.check(&documents, &self.text, self.quiet);
            return Ok(ids);
        }
        let file = std::fs::File::open(&self.text).with_context(|| self.text.display().to_string())?;
        let mut template = None;
        let mut ids = Vec::new();
        for (i, line) in BufReader::new(file).lines().enumerate() {
            let at = || format!("{}, line {}", self.text.display(), i + 1);
            let line = line.with_context(at)?;
            if line.trim().is_empty() {
                continue;
            }
            let value: Value = serde_json::from_str(&line).with_context(at)?;
            match (value.get("messages"), value.get("text").and_then(Value::as_str)) {
                (Some(messages), _) => {
                    let template = match &mut template {
                        Some(template) => template,
                        none => none.insert(match self.load.open_template(&self.model) {
                            Err(trine::Error::NoTemplate) => {
                                let message = format!("{}: found a chat, and the model has no chat template", at());
                                let hint = "--template FILE gives it one; lines with `text` need none";
                                return Err(UsageError { message, hint }.into());
                            }
                            opened => opened?.0,
                        }),
                    };
                    let chat =
                        template.render_chat(tokenizer, messages, value.get("tools"), false, &Default::default());
                    ids.extend(tokenizer.encode_chat(&chat.with_context(at)?));
                }
                (None, Some(text)) => ids.extend(tokenizer.encode(text, plain)),
                (None, None) => {
                    let message = format!("{}: expected an object with `text` or `messages`", at());
                    return Err(UsageError { message, hint: "each line is one text or one chat" }.into());
                }
            }
        }
        if template.is_none() {
            self.load.check_no_template()?;
        }
        if ids.is_empty() {
            return Err(anyhow!("{}: there is no text", Path::new(&self.text).display()));
        }
        Ok(ids)
    }
}
