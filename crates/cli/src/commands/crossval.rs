use crate::exit::{Exit, UsageError};
use crate::load::LoadArgs;
use crate::table::visible;
use crate::{interrupt, progress, table};
use anyhow::Result;
use clap::{Args, value_parser};
use indicatif::ProgressBar;
use serde_json::json;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use trine_lab::crossval::{self, CrossvalOptions, PROMPTS, PromptComparison, Reference, Source};
use trine_model::Language;
use trine_text::Tokenizer;

/// Compare tokens and probabilities with llama.cpp's
///
/// For each text: its ids in both programs; and for each token of the reference's greedy continuation, whether it is the most
/// likely one here, and the largest difference of log probabilities, over all tokens to which the reference gives at least 1 %.
/// The programs round activations differently: differences of hundredths are usual, and of tenths in models of few bits. The
/// exit status is 0 when the ids are equal and no difference exceeds the tolerance, and 5 otherwise.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine crossval model.gguf --reference llama.cpp/build/bin/llama-server\n  \
    trine crossval model.gguf --reference http://127.0.0.1:8080\n  \
    trine crossval model.gguf --reference .venv/bin/python    with xllamacpp\n  \
    trine crossval folder/ --reference llama-server --reference-model model.gguf")]
pub struct Crossval {
    /// Model: a GGUF or safetensors file, or its folder
    model: PathBuf,
    /// llama-server, the URL of a running one, xllamacpp, or a Python that has it
    #[arg(long, value_name = "PROGRAM")]
    reference: String,
    /// Model file for the reference [default: the model]
    #[arg(long, value_name = "FILE")]
    reference_model: Option<PathBuf>,
    /// Text to compare; may be repeated [default: three that are hard to tokenize]
    #[arg(short, long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// Number of tokens to continue each text with
    #[arg(short = 'n', long, value_name = "N", default_value_t = 32, value_parser = value_parser!(u32).range(1..=4096))]
    tokens: u32,
    /// Maximum difference of log probabilities, in nats [default: by bits per weight]
    ///
    /// The default is 0.1 for models of 8 bits and more, 0.2 from 4 bits on, and 0.5 below.
    #[arg(long, value_name = "NATS")]
    tolerance: Option<f64>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    /// Print no progress and no warnings
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    load: LoadArgs,
}

impl Crossval {
    pub fn run(self) -> Result<Exit> {
        let stop = interrupt::flag()?;
        let source = Source::of(&self.reference);
        let file = self.reference_model.as_ref().unwrap_or(&self.model);
        if file.is_dir() && !matches!(source, Source::Url(_)) {
            let message = format!("{}: expected a GGUF file for the reference, found a folder", file.display());
            return Err(UsageError { message, hint: "pass the GGUF file of the model with --reference-model" }.into());
        }
        let decoder = self.load.load(&self.model, self.quiet, &stop)?;
        let tolerance = tolerance(trine::bits_per_weight(&self.load.layouts.open(&self.model)?));
        if !self.quiet {
            decoder.warnings().iter().for_each(|warning| note!("warning: {}", visible(warning)));
        }
        let context = self.load.context.map_or_else(|| decoder.spec().context_length.min(4096), |n| n as usize);
        let threads = decoder.placement().threads;
        let options = CrossvalOptions {
            tokens: self.tokens as usize,
            batch: self.load.batch.map_or(512, |batch| batch as usize),
            cache_type: self.load.machine.cache_type,
        };
        let prompts: Vec<String> =
            if self.prompt.is_empty() { PROMPTS.map(str::to_owned).to_vec() } else { self.prompt.clone() };
        let reference = Reference::start(&source, file, context, threads)?;
        let (mut runner, Language { tokenizer, .. }) = decoder.into_parts();
        let bar = if self.quiet { ProgressBar::hidden() } else { progress::bar("{bar:30} {pos}/{len} texts", 0) };
        bar.set_length(prompts.len() as u64);
        let compared = crossval::compare(&mut *runner, &tokenizer, &reference, &prompts, &options, &mut |done| {
            bar.set_position(done as u64);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        let compared = compared?;
        let tolerance = self.tolerance.unwrap_or(tolerance);
        let agree = compared.iter().all(|it| it.same_ids() && it.difference().is_some_and(|most| most <= tolerance));
        let mut out = io::stdout().lock();
        if self.json {
            let object = json!({
                "model": self.model, "reference": self.reference, "agree": agree, "tolerance": tolerance,
                "texts": compared,
            });
            writeln!(out, "{object}")?;
        } else {
            compared.iter().try_for_each(|comparison| print(comparison, &tokenizer, &mut out))?;
            let verdict = if agree { "equal" } else { "different" };
            writeln!(out, "{verdict}, with a tolerance of {tolerance} nats")?;
        }
        Ok(if agree { Exit::Done } else { Exit::Findings })
    }
}

/// The difference that rounding explains: programs round activations differently, and few bits make more of it.
fn tolerance(bits_per_weight: Option<f64>) -> f64 {
    match bits_per_weight {
        Some(bits) if bits >= 8.0 => 0.1,
        Some(bits) if bits < 4.0 => 0.5,
        _ => 0.2,
    }
}

/// Prints the comparison of one text.
fn print(comparison: &PromptComparison, tokenizer: &Tokenizer, out: &mut impl Write) -> io::Result<()> {
    let PromptComparison { prompt, ids, reference_ids, steps } = comparison;
    let piece = |id: u32| format!("{id} `{}`", visible(&tokenizer.decode_with_special(&[id])));
    writeln!(out, "{}", table::visible(prompt))?;
    match ids.iter().zip(reference_ids).position(|(a, b)| a != b).or((!comparison.same_ids()).then_some(usize::MAX)) {
        None => writeln!(out, "  ids: {} equal", ids.len())?,
        Some(at) => {
            let at = at.min(ids.len()).min(reference_ids.len());
            let of = |ids: &[u32]| ids.get(at).map_or("the end".to_owned(), |&id| piece(id));
            writeln!(
                out,
                "  ids: differ from index {at} on: {} here, {} in the reference",
                of(ids),
                of(reference_ids)
            )?;
        }
    }
    writeln!(out, "  next tokens: {} of {} equal", comparison.same_tokens(), steps.len())?;
    if let Some(step) = steps.iter().find(|step| step.id != step.reference_id) {
        let (here, there) = (piece(step.id), piece(step.reference_id));
        writeln!(
            out,
            "  first difference: {here} here, {there} in the reference, {:.4} nats less likely here",
            step.margin
        )?;
    }
    match comparison.difference() {
        Some(difference) => writeln!(out, "  largest difference: {difference:.4} nats"),
        None => writeln!(out, "  largest difference: unknown"),
    }
}
