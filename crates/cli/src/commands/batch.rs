use super::embed;
use crate::exit::{Exit, UsageError};
use crate::interrupt::{self, Input};
use crate::load::{EngineArgs, LoadArgs};
use crate::output::{self, OutputFile};
use crate::warm::{self, WarmArgs};
use crate::{progress, template, units};
use anyhow::{Context, Result};
use clap::{Args, value_parser};
use indicatif::ProgressBar;
use serde_json::json;
use std::cell::RefCell;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use trine::{Embedder, ErrorKind, Llm};
use trine_api::Served;
use trine_api::batch::{self, BatchCounts, BatchOptions, EmbeddingOptions, Lines};
use trine_engine::Sampling;
use trine_lab::append::open_to_append;

/// Answer the requests of a file, many at once
///
/// The files are those of OpenAI's batch API. A line of the input is {"custom_id": "a", "method": "POST", "url":
/// "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 64}}; the url may be
/// /v1/completions, with a prompt, or in all lines /v1/embeddings, with an input. Each line gets one in the output, in the same
/// order. A request that is refused, a line that is no request and a custom_id that was there before get a line that says what is
/// wrong, and the exit status is 5. What a request does not say is as the model recommends. Tools go to the chat template, and the
/// model writes its calls as text. A model without a chat template goes on with the text of the messages.
///
/// The answer to a line does not depend on --parallel or the machine. --resume continues after the last complete line, after
/// any end of the earlier run. The options must be the same as before; only the input, the model with its tokenizer, template and
/// configuration, and the seed are checked. Ctrl-C exits with status 130 and leaves only complete lines.
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
    engine_args: EngineArgs,
    #[command(flatten)]
    warm: WarmArgs,
}

impl Batch {
    pub fn run(self) -> Result<Exit> {
        let at = |path: &Path| path.display().to_string();
        if self.input == Path::new("-") {
            let message = "expected the name of a file, found `-`".to_owned();
            return Err(UsageError { message, hint: "a file can be resumed; ./- is one of this name" }.into());
        }
        let input = File::open(&self.input).with_context(|| at(&self.input))?;
        if self.resume && !self.input.is_file() {
            let message = format!("{}: --resume needs a file, which can be read again", at(&self.input));
            return Err(UsageError { message, hint: "write the requests to a file first" }.into());
        }
        let bytes = input.metadata().map_or(0, |metadata| metadata.len());
        let job = format!("{} {}", self.load.fingerprint(&self.model)?, self.seed);
        let mut lines = Lines::new(BufReader::new(Input(input)), &job);
        let for_embeddings = lines.are_for_embeddings().with_context(|| at(&self.input))?;
        let (output, answered) = self.open_output(&job)?;
        self.engine_args.check(self.quiet)?;
        let prefixes = self.warm.read()?;
        let stop = interrupt::flag()?;
        let model = match for_embeddings {
            true if !prefixes.is_empty() => {
                let message = "--warm is for answers, and the file asks for embeddings".to_owned();
                return Err(UsageError { message, hint: "omit it" }.into());
            }
            true => Model::Embedder(Box::new(self.load.load_embedder(&self.model, self.quiet, &stop)?)),
            false => {
                let (parallel, engine_args) = (self.parallel as usize, &self.engine_args);
                let mut llm = self.load.open(&self.model, parallel, self.quiet, &stop, None, engine_args)?;
                if warm::fill(&mut llm, &prefixes, &stop, self.quiet)?.is_break() {
                    return Ok(Exit::Interrupted);
                }
                Model::Llm(Box::new(llm))
            }
        };
        if !self.resume {
            cut(&output, 0).with_context(|| at(&self.output))?;
        }
        interrupt::watch(&output);
        let output = BufWriter::new(output);
        let bar = if self.quiet { ProgressBar::hidden() } else { progress::bytes("answering", bytes) };
        let start = Instant::now();
        let mut progress = |counts: BatchCounts, read| {
            bar.set_position(read);
            bar.set_message(format!("{} answered", units::plural(answered + counts.lines, "line")));
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let files = Files { lines, answered, output };
        let done = match model {
            Model::Llm(llm) => self.answer(*llm, files, &mut progress),
            Model::Embedder(embedder) => self.embed(*embedder, files, &mut progress),
        };
        bar.finish_and_clear();
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
            return Ok(if failed == 0 { Exit::Done } else { Exit::Findings });
        }
        // A pipe starts anew.
        let how = if self.output.is_file() { ": --resume continues" } else { "" };
        note!("stopped after {}{how}", units::plural(answered + lines, "line"));
        Ok(Exit::Interrupted)
    }

    /// Opens and locks the output, and counts the answers that it keeps. Those that `--force` replaces stay until the model is loaded.
    fn open_output(&self, job: &str) -> Result<(File, u64)> {
        let at = |path: &Path| path.display().to_string();
        // An empty file is what a run without answers leaves.
        let is_empty = self.output.metadata().is_ok_and(|file| file.len() == 0);
        let hint = "--resume continues it, --force replaces it";
        output::check_new(&self.output, self.force || self.resume || is_empty, hint)?;
        let is_pipe = self.output.exists() && !self.output.is_file();
        // It must not be a file of the model. A pipe is opened once: its reader would see an end here.
        if !is_pipe {
            drop(OutputFile::new(&self.output, &self.model)?);
        }
        let file = open_to_append(&self.output).with_context(|| at(&self.output))?;
        if !self.resume || is_pipe {
            // Another run may have written it meanwhile.
            output::check_new(&self.output, self.force || file.metadata().is_ok_and(|file| file.len() == 0), hint)?;
            return Ok((file, 0));
        }
        let input = File::open(&self.input).with_context(|| at(&self.input))?;
        let (answered, kept) = batch::count_answered((&self.input, input), (&self.output, &file), job)?;
        cut(&file, kept).with_context(|| at(&self.output))?;
        Ok((file, answered))
    }

    fn answer(&self, llm: Llm, mut files: Files, progress: &mut Progress) -> std::io::Result<(BatchCounts, bool)> {
        let sampling = Sampling::default().recommended(llm.generation());
        let (model, context) = (self.model.display().to_string(), llm.context());
        let (mut engine, template) = llm.into_parts();
        let template = template::or_plain(template, self.quiet);
        let served = Arc::new(Served::new(&model, engine.tokenizer().clone(), template, sampling, context));
        let options = BatchOptions { served: &served, seed: self.seed, parallel: self.parallel as usize };
        let Files { lines, answered, output } = &mut files;
        let done = batch::batch(&mut engine, &options, lines, *answered, output, progress);
        self.engine_args.warn(engine.close_disk_cache(), self.quiet);
        done
    }

    fn embed(
        &self,
        embedder: Embedder,
        mut files: Files,
        progress: &mut Progress,
    ) -> std::io::Result<(BatchCounts, bool)> {
        if !self.quiet {
            embed::notes(&embedder, "");
        }
        let (width, batch, tokenizer) = (embedder.width(), embedder.batch(), embedder.tokenizer().clone());
        let embedder = RefCell::new(embedder);
        let options = EmbeddingOptions {
            model: self.model.display().to_string(),
            width,
            batch,
            tokens: &|prompt| embed::tokens(&tokenizer, prompt),
            embed: &|texts| match embedder.borrow_mut().embed_all(texts) {
                Err(error) if error.kind() == ErrorKind::Cancelled => Ok(None),
                embeddings => embeddings.map(Some).map_err(|error| error.to_string()),
            },
        };
        let Files { lines, answered, output } = &mut files;
        batch::embed(&options, lines, *answered, output, progress)
    }
}

/// What answers.
enum Model {
    Llm(Box<Llm>),
    Embedder(Box<Embedder>),
}

struct Files {
    lines: Lines<BufReader<Input<File>>>,
    /// Lines that an earlier run has answered.
    answered: u64,
    output: BufWriter<File>,
}

type Progress<'a> = dyn FnMut(BatchCounts, u64) -> ControlFlow<()> + 'a;

/// Cuts a file off, to add to it. What is no file has no length.
fn cut(file: &File, kept: u64) -> std::io::Result<()> {
    if file.metadata()?.is_file() { file.set_len(kept) } else { Ok(()) }
}
