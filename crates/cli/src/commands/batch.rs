use crate::exit::Exit;
use crate::load::{DiskCacheArgs, LoadArgs};
use crate::output::{self, OutputFile};
use crate::{interrupt, progress, units};
use anyhow::{Context, Result};
use clap::{Args, value_parser};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use trine::prelude::Sampling;
use trine_engine::sample::Filter;
use trine_grammar::{Constraint, Grammar, Vocabulary};
use trine_lab::batch::{self, BatchCounts, BatchOptions, Lines};
use trine_text::Tokenizer;

/// Answer the requests of a file, many at once
///
/// The files are those of OpenAI's batch API. A line of the input is {"custom_id": "a", "method": "POST", "url":
/// "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 64}}; the url may be
/// /v1/completions, with a prompt. Each line gets one in the output, in the same order. A request that is refused, a line that is
/// no request and a custom_id that was there before get a line that says what is wrong. What a request does not say is as the
/// model recommends.
///
/// The answer to a line does not depend on --parallel or the machine. --resume continues after the last complete line, after
/// any end of the earlier run. Ctrl-C exits with status 130 and leaves only complete lines.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine batch model.gguf in.jsonl out.jsonl\n  \
    trine batch model.gguf in.jsonl out.jsonl --resume")]
pub struct Batch {
    /// Model: a GGUF or safetensors file, or its folder
    model: PathBuf,
    /// Input: JSONL
    input: PathBuf,
    /// Output: JSONL
    output: PathBuf,
    /// Number of requests to answer concurrently; changes the speed, never an answer
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = value_parser!(u32).range(1..=4096))]
    parallel: u32,
    /// What the seeds of requests are made of that have none
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Continue the output after its last complete line
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    /// Print one line of JSON at the end
    #[arg(long)]
    json: bool,
    /// Print no progress, warnings or statistics
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    disk_cache: DiskCacheArgs,
}

impl Batch {
    pub fn run(self) -> Result<Exit> {
        output::check_new(&self.output, self.force || self.resume, "--resume continues it, --force replaces it")?;
        let at = |path: &Path| path.display().to_string();
        let input = File::open(&self.input).with_context(|| at(&self.input))?;
        let bytes = input.metadata().map_or(0, |metadata| metadata.len());
        let (answered, kept) = match self.resume && self.output.exists() {
            true => batch::count_answered(&self.input, &self.output)?,
            false => (0, 0),
        };
        // It must be neither a file of the model nor the input.
        for used in [&self.model, &self.input] {
            drop(OutputFile::new(&self.output, used)?);
        }
        self.disk_cache.check()?;
        let stop = interrupt::flag()?;
        let llm = self.load.open(&self.model, self.parallel as usize, self.quiet, &stop, None, &self.disk_cache)?;
        let sampling = Sampling::default().recommended(llm.generation());
        let (mut engine, template) = llm.into_parts();
        let schemas = Schemas::default();
        let tokenizer = engine.tokenizer().clone();
        let options = BatchOptions {
            model: at(&self.model),
            template: template.as_ref().map_err(ToString::to_string),
            sampling,
            seed: self.seed,
            parallel: self.parallel as usize,
            json_schema: &|schema| schemas.filter(schema, &tokenizer),
        };
        let open = OpenOptions::new().write(true).create(true).truncate(false).open(&self.output);
        let mut output = open.with_context(|| at(&self.output))?;
        output.set_len(kept).and_then(|()| output.seek(SeekFrom::Start(kept))).with_context(|| at(&self.output))?;
        let mut output = BufWriter::new(output);

        let bar = if self.quiet { ProgressBar::hidden() } else { progress::bytes("answering", bytes) };
        let (start, mut lines) = (Instant::now(), Lines::new(BufReader::new(input)));
        let done = batch::batch(&mut engine, &options, &mut lines, answered, &mut output, &mut |counts, read| {
            bar.set_position(read);
            bar.set_message(format!("{} answered", units::plural(answered + counts.lines, "line")));
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        self.disk_cache.warn(engine.close_disk_cache(), self.quiet);
        let (BatchCounts { lines, failed, prompt_tokens, completion_tokens, .. }, complete) =
            done.with_context(|| at(&self.output))?;
        let seconds = start.elapsed().as_secs_f64();
        let rate = completion_tokens as f64 / seconds;
        if self.json {
            let report = json!({
                "output": self.output, "resumed_after": answered, "lines": lines, "failed": failed, "complete": complete,
                "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
                "seconds": seconds, "tokens_per_second": rate,
            });
            writeln!(std::io::stdout(), "{report}")?;
        } else if !self.quiet {
            let wrong = if failed == 0 { String::new() } else { format!(", {} with an error", units::count(failed)) };
            note!(
                "{}: {}{wrong}; {} read, {} written, {}/s",
                at(&self.output),
                units::plural(lines, "line"),
                units::plural(prompt_tokens, "token"),
                units::plural(completion_tokens, "token"),
                units::measured(rate)
            );
        }
        if complete {
            return Ok(Exit::Done);
        }
        note!("stopped after {}: --resume continues", units::plural(answered + lines, "line"));
        Ok(Exit::Interrupted)
    }
}

/// Schemas that are kept compiled.
const KEPT: usize = 64;

/// The schemas of requests, compiled once each.
#[derive(Default)]
struct Schemas {
    vocabulary: OnceCell<Vocabulary>,
    grammars: RefCell<HashMap<String, Grammar>>,
}

impl Schemas {
    fn filter(&self, schema: &Value, tokenizer: &Tokenizer) -> Result<Box<dyn Filter>, String> {
        let schema = schema.to_string();
        if let Some(grammar) = self.grammars.borrow().get(&schema) {
            return Ok(grammar.filter());
        }
        let vocabulary = match self.vocabulary.get() {
            Some(vocabulary) => vocabulary,
            None => {
                let made = Vocabulary::new(tokenizer).map_err(|error| error.to_string())?;
                self.vocabulary.get_or_init(|| made)
            }
        };
        let grammar = Grammar::new(vocabulary, &Constraint::JsonSchema(schema.clone()));
        let grammar = grammar.map_err(|error| error.to_string())?;
        let filter = grammar.filter();
        let mut grammars = self.grammars.borrow_mut();
        if grammars.len() >= KEPT {
            grammars.clear();
        }
        grammars.insert(schema, grammar);
        Ok(filter)
    }
}
