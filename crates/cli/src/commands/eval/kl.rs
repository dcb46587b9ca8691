use crate::exit::{Exit, UsageError};
use crate::input::SeparatorArg;
use crate::load::LoadArgs;
use crate::record::{self, RecordArgs};
use crate::table::{Facts, visible};
use crate::{chunks, interrupt, output, progress, units};
use anyhow::Result;
use clap::{Args, value_parser};
use indicatif::ProgressBar;
use serde_json::json;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;
use trine::Decoder;
use trine_lab::divergence::{Chunks, Divergence, DivergenceOptions, Reference, SavedLogits, compare, save_logits};
use trine_tensor::receipt::Sha256;

const BAR: &str = "{bar:30} {pos}/{len} chunks {eta}  {msg}";

/// Measure how far the predictions of a model are from those of a reference
///
/// The Kullback-Leibler divergence of the model from the reference, in nats per token; how often both have the same most likely token
/// (top1), the share of the reference's five most likely tokens that are among the model's (top5), and how often only one of them
/// predicts the token of the text (flips). Intervals are 95 % confidence intervals from Student's t distribution over chunks.
///
/// Each document of the text is cut into chunks of --context tokens: 512 unless given, or less, so that documents with three quarters
/// of the text fill them. BOS takes the place of the first token of each chunk if the model uses it; the second half is predicted; what does not
/// fill a chunk is left out. So does llama.cpp's llama-perplexity --kl-divergence, which takes a file as one document, as
/// --separator '' does; its files of probabilities take the place of the reference and of the text.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine eval kl f16.gguf q4.gguf text.txt --chunks 20\n  \
    trine eval kl f16.gguf q4.gguf text.txt --json | jq .mean_kl\n  \
    trine eval logits f16.gguf text.txt logits.bin --chunks 20\n  \
    trine eval kl logits.bin q4.gguf")]
pub struct EvalKl {
    /// Reference: a model, or a file of `trine eval logits` or of llama-perplexity
    reference: PathBuf,
    /// Model that is compared with it
    model: PathBuf,
    /// Text file, .jsonl file with a text in each line, or `-` for text from stdin; none if the reference is a file of logits
    text: Option<PathBuf>,
    #[command(flatten)]
    separator: SeparatorArg,
    /// Maximum number of chunks [default: all]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    chunks: Option<u32>,
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

/// Save the predictions of a model, for `trine eval kl`
///
/// A file of llama.cpp's form, which llama-perplexity --kl-divergence-base reads, too. It has about two bytes for each predicted token
/// and each token of the vocabulary. The text is cut as for `trine eval kl`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine eval logits f16.gguf text.txt logits.bin --chunks 20\n  \
    trine eval kl logits.bin q4.gguf")]
pub struct EvalLogits {
    /// Model
    model: PathBuf,
    /// Text file, .jsonl file with a text in each line, or `-` for text from stdin
    text: PathBuf,
    #[command(flatten)]
    separator: SeparatorArg,
    /// Output file
    output: PathBuf,
    /// Maximum number of chunks [default: all]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    chunks: Option<u32>,
    /// Replace an existing file, once the new one is complete
    #[arg(long)]
    force: bool,
    /// Print no progress and no warnings
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    load: LoadArgs,
}

fn bar(quiet: bool, chunks: &Chunks) -> ProgressBar {
    if quiet { ProgressBar::hidden() } else { progress::bar(BAR, chunks.len() as u64) }
}

fn most(chunks: Option<u32>) -> usize {
    chunks.map_or(usize::MAX, |chunks| chunks as usize)
}

fn open(load: &LoadArgs, model: &Path, quiet: bool, stop: &Arc<AtomicBool>) -> Result<Decoder> {
    let decoder = load.load(model, quiet, stop)?;
    if !quiet {
        decoder.warnings().iter().for_each(|warning| note!("warning: {}: {}", model.display(), visible(warning)));
    }
    Ok(decoder)
}

fn options(load: &LoadArgs, decoder: &Decoder) -> DivergenceOptions {
    DivergenceOptions {
        batch: load.batch.map_or(512, |batch| batch as usize),
        threads: decoder.placement().threads_batch,
        cache_type: load.machine.cache_type,
    }
}

impl EvalKl {
    pub fn run(self) -> Result<Exit> {
        let stop = interrupt::flag()?;
        let saved = SavedLogits::is(&self.reference);
        match (&self.text, saved) {
            (None, false) => {
                let message = format!("expected a text after the models, as {} is a model", self.reference.display());
                return Err(UsageError { message, hint: "for example trine eval kl A.gguf B.gguf text.txt" }.into());
            }
            (Some(text), true) => {
                let message = format!("{} has its own text, found {}", self.reference.display(), text.display());
                return Err(UsageError { message, hint: "omit the text" }.into());
            }
            _ => {}
        }
        if let (true, Some(context)) = (saved, self.load.context) {
            let message = format!("--context {context}: {} has its own", self.reference.display());
            return Err(UsageError { message, hint: "omit --context" }.into());
        }
        if saved {
            self.separator.refuse(&format!("{} has its own text", self.reference.display()))?;
        }
        let recorder = self.record.recorder(&self.load, &self.model, self.text.as_deref())?;
        let start = Instant::now();
        let decoder = open(&self.load, &self.model, self.quiet, &stop)?;
        let options = options(&self.load, &decoder);
        let placement = decoder.placement().clone();
        let report = if saved {
            let mut saved = SavedLogits::open(&self.reference)?;
            let chunks = saved.chunks(decoder.tokenizer(), most(self.chunks))?;
            self.compare(Reference::Saved(&mut saved), decoder, &chunks, &options, &stop)?
        } else {
            // Only the other model is quantized as it is loaded.
            let reference = open(&self.load.as_stored(), &self.reference, self.quiet, &stop)?;
            let text = self.text.as_deref().expect("it was checked");
            let documents = self.separator.documents(text, self.quiet)?;
            let models = [(&*self.reference, &reference), (&*self.model, &decoder)];
            let chunks = chunks::chunks(&self.load, models, &documents, most(self.chunks))?;
            let (mut runner, _) = reference.into_parts();
            self.compare(Reference::Runner(&mut *runner), decoder, &chunks, &options, &stop)?
        };
        let seconds = start.elapsed().as_secs_f64();
        // Before the results are printed, whose reader may be gone.
        if let (Some(recorder), Some(text), true) = (recorder, &self.text, report.complete) {
            let mut results = serde_json::to_value(&report)?;
            results["reference"] = json!(record::name(&self.reference));
            if self.reference.is_file() {
                let file = std::fs::File::open(&self.reference)?;
                results["reference_sha256"] = json!(Sha256::of_reader(file, || true)?);
            }
            recorder.record("kl", text, results, &placement)?;
        }
        let mut out = io::stdout().lock();
        if self.json {
            let mut json = serde_json::to_value(&report)?;
            json["reference"] = json!(self.reference);
            json["model"] = json!(self.model);
            json["text"] = json!(self.text);
            json["seconds"] = json!(seconds);
            writeln!(out, "{json}")?;
        } else {
            print(&report, seconds, &mut out)?;
        }
        if report.complete {
            return Ok(Exit::Done);
        }
        note!("stopped: the results are those of the chunks so far");
        Ok(Exit::Interrupted)
    }

    fn compare(
        &self,
        reference: Reference,
        decoder: Decoder,
        chunks: &Chunks,
        options: &DivergenceOptions,
        stop: &AtomicBool,
    ) -> Result<Divergence> {
        let bar = bar(self.quiet, chunks);
        let (mut runner, _) = decoder.into_parts();
        let report = compare(reference, &mut *runner, chunks, options, &mut |done, mean| {
            bar.set_position(done as u64);
            bar.set_message(format!("KL {mean:.6}"));
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        Ok(report?)
    }
}

impl EvalLogits {
    pub fn run(self) -> Result<Exit> {
        output::check_new(&self.output, self.force, "--force replaces it")?;
        let stop = interrupt::flag()?;
        let decoder = open(&self.load, &self.model, self.quiet, &stop)?;
        let documents = self.separator.documents(&self.text, self.quiet)?;
        let chunks = chunks::cut(&self.load, &decoder, &documents, most(self.chunks))?;
        let options = options(&self.load, &decoder);
        let bar = bar(self.quiet, &chunks);
        let (mut runner, _) = decoder.into_parts();
        let result = save_logits(&mut *runner, &chunks, &options, &self.output, &mut |done| {
            bar.set_position(done as u64);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        result?;
        let size = units::bytes(std::fs::metadata(&self.output)?.len());
        let (chunks, context) = (units::plural(chunks.len() as u64, "chunk"), chunks.context());
        writeln!(io::stdout().lock(), "{}: {chunks} of {context} tokens, {size}", self.output.display())?;
        Ok(Exit::Done)
    }
}

fn print(report: &Divergence, seconds: f64, out: &mut impl Write) -> io::Result<()> {
    let mut facts = Facts::default();
    let between = |low: Option<f64>, high: Option<f64>| match low.zip(high) {
        Some((low, high)) => format!("  [{low:.6}, {high:.6}]"),
        None => String::new(),
    };
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    facts.push("mean KL", format!("{:.6} nats{}", report.mean_kl, between(report.mean_kl_low, report.mean_kl_high)));
    facts.push("median KL", format!("{:.6}", report.median_kl));
    facts.push("99 % KL", format!("{:.6}", report.p99_kl));
    facts.push("99.9 % KL", format!("{:.6}", report.p999_kl));
    facts.push("maximum KL", format!("{:.6}", report.max_kl));
    facts.push("same top token", percent(report.top1));
    facts.push("same top five", percent(report.top5));
    facts.push("flips", percent(report.flips));
    let [mean, rms] = [report.mean_delta_p, report.rms_delta_p].map(percent);
    facts.push("change of p", format!("mean {mean}, root mean square {rms}"));
    let ratio = report.ln_perplexity_ratio;
    let times = match ratio.low.zip(ratio.high) {
        Some((low, high)) => format!("{:.4} times  [{:.4}, {:.4}]", ratio.value.exp(), low.exp(), high.exp()),
        None => format!("{:.4} times", ratio.value.exp()),
    };
    facts.push(
        "perplexity",
        format!("{:.4}, {times} the reference's {:.4}", report.perplexity, report.perplexity_reference),
    );
    let [tokens, chunks] =
        [(report.tokens, "token"), (report.chunks, "chunk")].map(|(n, what)| units::plural(n as u64, what));
    facts.push("compared", format!("{tokens} in {chunks} of {}, second half; {seconds:.1} s", report.context));
    if !report.complete {
        facts.push("stopped", "the results are those of the chunks so far");
    }
    facts.print(out)
}
