use crate::constraint::ConstraintArgs;
use crate::exit::{Exit, UsageError};
use crate::load::{EngineArgs, LoadArgs};
use crate::output::{self, OutputFile};
use crate::sampling::SamplingArgs;
use crate::{input, interrupt, progress, units};
use anyhow::Result;
use clap::{Args, value_parser};
use indicatif::ProgressBar;
use serde_json::json;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use trine::Llm;
use trine_grammar::Grammar;
use trine_lab::generate::{self, Counts, GenerateOptions, Keep, TextPrompt, TextWriter};
use trine_train::data::DocumentFormat;

const BAR: &str = "{bar:30} {pos}/{len} texts {eta}  {msg}";

/// Generate texts with a model, to train another one
///
/// A line of the JSONL file is {"text": prompt and answer, "tokens": number of generated tokens, "finish": "stop" or "length",
/// "index": N, "seed": N}; `trine run --raw --seed` with that seed and the same options writes the same text again. A text depends
/// on --seed, its index, its prompt and the sampling options, but not on --parallel or the machine. Lines are in order of index;
/// missing indices were dropped.
///
/// --resume continues after the last complete line. The options must be the same as before; only the seed is checked. Ctrl-C
/// exits with status 130 and leaves only complete texts.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine generate-data model.gguf out.jsonl --count 20000\n  \
    trine generate-data model.gguf out.jsonl --count 20000 --resume\n  \
    trine generate-data model.gguf out.txt --count 100 --prompt \"Once upon a time\"")]
pub struct GenerateData {
    /// Model: a GGUF or safetensors file, or its folder
    model: PathBuf,
    /// Output: JSONL, or plain text with separators if its name ends with .txt
    out: PathBuf,
    /// Number of texts to generate, including those that are dropped
    #[arg(long, value_name = "N")]
    count: u64,
    /// Beginning of every text [default: BOS only]
    #[arg(long, value_name = "TEXT", conflicts_with = "prompts")]
    prompt: Option<String>,
    /// File of prompts, used in rotation: text lines, or the field `text` of .jsonl lines
    ///
    /// White space around a prompt is removed.
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Number of texts to generate concurrently; changes the speed, never a text
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = value_parser!(u32).range(1..=4096))]
    parallel: u32,
    /// Continue a JSONL file after its last complete line
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    /// Keep texts cut off by --max-tokens or the context, which are dropped by default
    #[arg(long)]
    keep_cut: bool,
    /// Drop texts equal to an earlier one
    #[arg(long)]
    unique: bool,
    /// Separator after each text of a .txt file, on a line of its own [default: <|endoftext|>]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    separator: Option<String>,
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
    sampling: SamplingArgs,
    #[command(flatten)]
    constraint: ConstraintArgs,
}

impl GenerateData {
    pub fn run(self) -> Result<Exit> {
        let sampling = self.sampling.sampling()?;
        if sampling.n > 1 || sampling.best_of.is_some() {
            let message = "expected no -n and no --best-of: --count is the number of texts".to_owned();
            return Err(UsageError { message, hint: "omit them" }.into());
        }
        for (flag, n) in [("--logprobs", sampling.logprobs), ("--prompt-logprobs", sampling.prompt_logprobs)] {
            if n.is_some() {
                let message = format!("expected no {flag}, which the file does not store");
                return Err(UsageError { message, hint: "omit it" }.into());
            }
        }
        let constraint = self.constraint.constraint()?;
        let plain = self.out.extension().is_some_and(|extension| extension == "txt");
        if plain && self.resume {
            let message = "--resume needs JSONL, whose lines have an index".to_owned();
            return Err(UsageError { message, hint: "write a .jsonl file" }.into());
        }
        let hint = match self.out.extension() {
            Some(end) if end == "jsonl" => "--resume continues it, --force replaces it",
            _ => "choose another name; --force replaces it",
        };
        // An empty file is what a run without texts leaves.
        let is_empty = self.out.metadata().is_ok_and(|file| file.len() == 0);
        output::check_new(&self.out, self.force || self.resume || is_empty, hint)?;
        let texts = self.prompts()?;
        self.engine_args.check(self.quiet)?;
        let stop = interrupt::flag()?;
        let llm = self.load.open(&self.model, self.parallel as usize, self.quiet, &stop, None, &self.engine_args)?;
        let mut sampling = self.sampling.recommended(llm.generation(), self.quiet)?;
        if constraint.is_some() {
            sampling = sampling.without_stops();
        }
        let prompts = texts.into_iter().map(|text| prompt(&llm, text)).collect::<Result<_>>()?;
        let grammar = constraint.map(|constraint| llm.grammar(&constraint)).transpose()?;
        let seed = sampling.seed.unwrap_or(0);
        let keep = Keep { cut: self.keep_cut, unique: self.unique };
        if self.separator.is_some() && !plain && !self.quiet {
            note!("note: --separator has no effect: lines of JSON need none");
        }
        let separator = plain.then_some(self.separator.as_deref().unwrap_or("<|endoftext|>"));
        if self.out.is_file() {
            // It must not be a file of the model.
            drop(OutputFile::new(&self.out, &self.model)?);
        }
        let open = || match self.resume {
            true => TextWriter::resume(&self.out, keep, seed),
            false => Ok((TextWriter::create(&self.out, separator, keep, self.force)?, 0)),
        };
        let (mut writer, first) = interrupt::waiting(open)?;
        interrupt::watch(writer.file());
        let indices = first.min(self.count)..self.count;
        let job = GenerateOptions { prompts, sampling, seed, indices, parallel: self.parallel as usize };
        let mut engine = llm.into_parts().0;
        let bar = if self.quiet { ProgressBar::hidden() } else { progress::bar(BAR, self.count).with_position(first) };
        let (start, mut done, mut picked) = (Instant::now(), job.indices.start, 0);
        let rate = |tokens: u64| tokens as f64 / start.elapsed().as_secs_f64();
        let filters = || grammar.iter().map(Grammar::filter).collect();
        generate::generate(&mut engine, &job, &filters, &mut |texts, tokens| {
            for text in &texts {
                writer.write(text)?;
                done = text.index + 1;
            }
            picked = tokens;
            bar.set_position(done);
            bar.set_message(format!("{:.0} tokens/s", rate(tokens)));
            Ok(if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        bar.finish_and_clear();
        self.engine_args.warn(engine.close_disk_cache(), self.quiet);
        let (rate, complete) = (rate(picked), done == job.indices.end);
        let Counts { texts, tokens, cut, duplicates } = writer.counts();
        if self.json {
            let report = json!({
                "output": self.out, "seed": seed, "first_index": first, "next_index": done, "complete": complete,
                "texts": texts, "tokens": tokens, "cut": cut, "duplicates": duplicates,
                "tokens_picked": picked, "seconds": start.elapsed().as_secs_f64(), "tokens_per_second": rate,
            });
            writeln!(std::io::stdout(), "{report}")?;
        } else if !self.quiet {
            let kept = |kept: bool| if kept { "kept" } else { "dropped" };
            note!(
                "{}: {} of {}; {} cut off ({}), {} ({}); {} tokens/s",
                self.out.display(),
                units::plural(texts, "text"),
                units::plural(tokens, "token"),
                units::count(cut),
                kept(self.keep_cut),
                units::plural(duplicates, "duplicate"),
                kept(!self.unique),
                units::measured(rate)
            );
        }
        if cut > 0 && texts == 0 && !self.keep_cut {
            note!("hint: no text is complete: increase --max-tokens, or pass --keep-cut");
        }
        if complete {
            return Ok(Exit::Done);
        }
        // A pipe starts anew.
        let how = if plain || !self.out.is_file() { "" } else { ": --resume continues" };
        note!("stopped after text {} of {}{how}", units::count(done), units::count(self.count));
        Ok(Exit::Interrupted)
    }

    /// At least one prompt.
    fn prompts(&self) -> Result<Vec<String>> {
        let Some(path) = &self.prompts else { return Ok(vec![self.prompt.clone().unwrap_or_default()]) };
        let prompts = input::documents(path, DocumentFormat::of(path, "\n", "text"))?;
        prompts.map(|text| Ok(text?.trim().to_owned())).collect()
    }
}

/// A prompt and its tokens.
fn prompt(llm: &Llm, text: String) -> Result<TextPrompt> {
    let ids = llm.tokens(text.as_str());
    if ids.is_empty() {
        let message = "expected a prompt, found none, for a model without BOS".to_owned();
        return Err(UsageError { message, hint: "pass a --prompt" }.into());
    }
    let (prompt, context) = (ids.len(), llm.context());
    if prompt >= context {
        // Before the output is replaced.
        return Err(trine::Error::from(trine_engine::Error::PromptTooLong { prompt, context }).into());
    }
    Ok(TextPrompt { text, ids })
}
