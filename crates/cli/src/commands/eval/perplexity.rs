use crate::exit::{Exit, UsageError};
use crate::input::SeparatorArg;
use crate::load::LoadArgs;
use crate::record::RecordArgs;
use crate::table::{Facts, visible};
use crate::{input, interrupt, progress, units};
use anyhow::Result;
use clap::{Args, value_parser};
use indicatif::ProgressBar;
use serde_json::json;
use std::f64::consts::LN_2;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use trine_lab::perplexity::{self, Estimate, PerplexityOptions, PerplexityProgress, Text, Unit, Windows};
use trine_train::data::DocumentFormat;

/// Default context length, unless the model's is shorter.
const CONTEXT: usize = 4096;
const BAR: &str = "{bar:30} {pos}/{len} tokens {per_sec} {eta}  {msg}";

/// Measure how well a model predicts a text
///
/// The surprise of a token is -ln p, given the tokens before it. Perplexity is e to the mean surprise per token; bits per byte are
/// the total surprise, in bits, divided by the bytes of the scored text, and bits per character divided by its characters (Unicode
/// code points). Only these two can be compared between models with different tokenizers.
///
/// BOS is never scored. The end of a document is scored by the total probability of the tokens that end generation, since models
/// use different ones; it has no bytes, but its bits count. A file without the separator is one document without an end, and its
/// white space is kept; around other documents, white space is removed. In a model without BOS the first token of a document is
/// not scored, and its bytes are not counted. Names of control tokens in the text are plain text.
///
/// A document longer than --context is read in windows, each after BOS if the model uses it. A window begins --stride tokens after
/// the previous one, and scores the tokens that are not scored yet: every token counts once, and after the first window each has at
/// least context - stride tokens before it.
///
/// Intervals are 95 % confidence intervals from Student's t distribution over documents, or over the windows of a single document,
/// which are assumed to be independent; tokens within one are not.
///
/// Ctrl-C prints the results so far and exits with status 130.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine eval perplexity model.gguf story.txt\n  \
    trine eval perplexity model.gguf stories.jsonl --max-documents 500 --json\n  \
    trine eval perplexity model.gguf wiki.test.raw --second-half --context 512\n  \
    zcat text.gz | trine eval perplexity model.gguf -")]
pub struct EvalPerplexity {
    /// Model: a GGUF or safetensors file, or its folder
    model: PathBuf,
    /// Text file, .jsonl file with a text in each line, or `-` for text from stdin
    text: PathBuf,
    #[command(flatten)]
    separator: SeparatorArg,
    /// Field of a JSONL line that holds the text [default: text]
    ///
    /// With this option, every file is read as JSONL.
    #[arg(long, value_name = "NAME", conflicts_with = "separator")]
    field: Option<String>,
    /// Number of tokens between the beginnings of windows [default: half the context]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// Score as llama.cpp's llama-perplexity
    ///
    /// The file is one document without an end; windows do not overlap; BOS replaces the first token of each if the model uses it;
    /// the second half of a window is scored; an incomplete last window is omitted.
    #[arg(long, conflicts_with_all = ["stride", "separator", "field", "no_end"])]
    second_half: bool,
    /// Do not score the ends of documents
    #[arg(long)]
    no_end: bool,
    /// Maximum number of documents
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    max_documents: Option<u32>,
    /// Maximum number of tokens; the last document may be cut
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    max_tokens: Option<u64>,
    /// Print one line of JSON; unknown values are null
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    record: RecordArgs,
    /// Print no progress and no warnings
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    load: LoadArgs,
}

impl EvalPerplexity {
    pub fn run(self) -> Result<Exit> {
        // Ctrl-C ends the reading of a pipe at once.
        let (documents, separated) = self.documents()?;
        let stop = interrupt::flag()?;
        let recorder = self.record.recorder(&self.load, &self.model, Some(&self.text))?;
        let decoder = self.load.load(&self.model, self.quiet, &stop)?;
        if !self.quiet {
            decoder.warnings().iter().for_each(|warning| note!("warning: {}", visible(warning)));
        }
        let end = separated && !self.no_end;
        let max = self.max_tokens.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
        let text = Text::new(decoder.tokenizer(), &documents, end, max)?;
        let context = self.load.context.map_or_else(|| decoder.spec().context_length.min(CONTEXT), |n| n as usize);
        let windows = match self.second_half {
            true => Windows::SecondHalf { context },
            false => Windows::Sliding { context, stride: self.stride.unwrap_or((context / 2).max(1)) },
        };
        let options = PerplexityOptions {
            windows,
            batch: self.load.batch.map_or(512, |batch| batch as usize),
            threads: decoder.placement().threads_batch,
            cache_type: self.load.machine.cache_type,
        };
        let placement = decoder.placement().clone();
        let (mut runner, _) = decoder.into_parts();
        let bar = if self.quiet { ProgressBar::hidden() } else { progress::bar(BAR, 0) };
        let start = Instant::now();
        let report = perplexity::perplexity(&mut *runner, &text, &options, &mut |progress| {
            show(&bar, progress);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let seconds = start.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let report = report?;
        let stride = if let Windows::Sliding { stride, .. } = windows { Some(stride) } else { None };
        // Before the results are printed, whose reader may be gone.
        if let (Some(recorder), true) = (recorder, report.complete) {
            let mut results = serde_json::to_value(&report)?;
            results["context"] = json!(context);
            results["stride"] = json!(stride);
            recorder.record("perplexity", &self.text, results, &placement)?;
        }
        let mut out = io::stdout().lock();
        if self.json {
            let mut json = serde_json::to_value(&report)?;
            for (key, value) in [
                ("model", json!(self.model)),
                ("text", json!(self.text)),
                ("context", json!(context)),
                ("stride", json!(stride)),
                ("bos", json!(text.has_bos())),
                ("ends", json!(text.has_ends())),
                ("seconds", json!(seconds)),
                ("tokens_per_second", json!(report.sums.tokens as f64 / seconds)),
            ] {
                json[key] = value;
            }
            writeln!(out, "{json}")?;
        } else {
            print(&report, &text, windows, seconds, &mut out)?;
        }
        if report.complete {
            return Ok(Exit::Done);
        }
        note!("stopped: the results are those of the tokens so far");
        Ok(Exit::Interrupted)
    }

    /// The documents, and whether separators end them.
    fn documents(&self) -> Result<(Vec<String>, bool)> {
        let format = match &self.field {
            Some(field) => DocumentFormat::Jsonl(field.clone()),
            None if self.second_half => DocumentFormat::of(&self.text, "", "text"),
            None => self.separator.format(&self.text)?,
        };
        if self.second_half && matches!(format, DocumentFormat::Jsonl(_)) {
            let message = "--second-half: expected a text file, found JSONL".to_owned();
            return Err(UsageError { message, hint: "pass a text file, or omit --second-half" }.into());
        }
        let mut documents = input::documents(&self.text, format)?;
        let max = self.max_documents.map_or(usize::MAX, |max| max as usize);
        let texts = documents.by_ref().take(max).collect::<Result<_, _>>()?;
        self.separator.check(&documents, &self.text, self.quiet);
        Ok((texts, documents.is_separated()))
    }
}

/// Shows the results so far.
fn show(bar: &ProgressBar, PerplexityProgress { sums, total }: PerplexityProgress) {
    bar.set_length(total);
    bar.set_position(sums.tokens);
    let ratio = |of: u64| sums.nats / of.max(1) as f64;
    bar.set_message(format!("{:.3} bits/byte, perplexity {:.2}", ratio(sums.bytes) / LN_2, ratio(sums.tokens).exp()));
}

fn print(
    report: &perplexity::Perplexity,
    text: &Text,
    windows: Windows,
    seconds: f64,
    out: &mut impl Write,
) -> io::Result<()> {
    let known = |estimate: Estimate| match estimate {
        Estimate { value, low: Some(low), high: Some(high) } => format!("{value:.4}  [{low:.4}, {high:.4}]"),
        Estimate { value, .. } => format!("{value:.4}"),
    };
    let maybe = |estimate: Option<Estimate>| estimate.map_or("unknown".to_owned(), known);
    let sums = &report.sums;
    let mut facts = Facts::default();
    facts.push("perplexity", format!("{} per token", known(report.perplexity)));
    facts.push("nats per token", known(report.nats_per_token));
    facts.push("bits per byte", maybe(report.bits_per_byte));
    facts.push("bits per character", maybe(report.bits_per_character));
    let [tokens, bytes, characters] = [(sums.tokens, "token"), (sums.bytes, "byte"), (sums.characters, "character")]
        .map(|(n, what)| units::plural(n, what));
    facts.push("scored", format!("{tokens} of {bytes}, {characters}"));
    let ends = if text.has_ends() { " and their ends" } else { "" };
    let how = match windows {
        Windows::Sliding { context, stride } => format!("of up to {context} tokens, stride {stride}"),
        Windows::SecondHalf { context } => format!("of {context} tokens, second half"),
    };
    facts.push(
        "in",
        format!(
            "{}{ends}; {} {how}",
            units::plural(report.documents as u64, "document"),
            units::plural(report.windows as u64, "window")
        ),
    );
    let unit = if report.unit == Unit::Documents { "document" } else { "window" };
    let intervals = match report.perplexity.low {
        Some(_) => format!("95 %, over {unit}s"),
        None => format!("unknown, of one {unit}"),
    };
    facts.push("intervals", intervals);
    facts.push("speed", format!("{} tokens/s, {seconds:.1} s", units::measured(sums.tokens as f64 / seconds)));
    if !report.complete {
        facts.push("stopped", "the results are those of the tokens so far");
    }
    facts.print(out)
}
