use crate::exit::{Exit, Usage};
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
use trine::model::Language;
use trine::text::Tokenizer;
use trine_lab::crossval::{self, Comparison, Options, PROMPTS, Reference, Source};

/// Compare tokens and probabilities with those of llama.cpp
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine crossval model.gguf --reference llama.cpp/build/bin/llama-server\n  \
    trine crossval model.gguf --reference http://127.0.0.1:8080\n  \
    trine crossval model.gguf --reference .venv/bin/python          with xllamacpp of PyPI\n  \
    trine crossval folder/ --reference llama-server --reference-model model.gguf --activations f32 --json\n\n\
    For each text: its ids in both programs; and for each of the tokens with which the reference goes on, whether it is the \
    most likely one here, too, and how far apart the logarithms of the probabilities are, of all tokens to which the \
    reference gives at least 1 %. Both programs round activations, each in its own way: differences of hundredths are usual, \
    and of tenths in models of few bits. The exit status is 0 when the ids are the same and no difference is above the \
    tolerance, and 5 otherwise.")]
pub struct Crossval {
    /// A GGUF or safetensors file, or a folder with one
    model: PathBuf,
    /// llama.cpp's llama-server or a program beside it, the address of one that runs, or a Python that has xllamacpp
    #[arg(long, value_name = "PROGRAM|URL")]
    reference: String,
    /// What the reference opens, where that is another file [default: the model]
    #[arg(long, value_name = "FILE")]
    reference_model: Option<PathBuf>,
    /// A text to compare; may be repeated [default: three that are hard to tokenize]
    #[arg(short, long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// Tokens with which the reference goes on
    #[arg(short = 'n', long, value_name = "N", default_value_t = 32, value_parser = value_parser!(u32).range(1..=4096))]
    tokens: u32,
    /// Differences of logarithms of probabilities above this are findings, nats
    #[arg(long, value_name = "NATS", default_value_t = 0.2)]
    tolerance: f64,
    /// Print one object of JSON
    #[arg(long)]
    json: bool,
    /// No progress, no warnings
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
            let message = format!("{}: the reference opens GGUF files, not folders", file.display());
            return Err(Usage { message, hint: "--reference-model names the model's GGUF file" }.into());
        }
        let decoder = self.load.load(&self.model, self.quiet, &stop)?;
        if !self.quiet {
            decoder.warnings().iter().for_each(|warning| note!("warning: {}", visible(warning)));
        }
        let context = self.load.context.map_or_else(|| decoder.spec().context_length.min(4096), |n| n as usize);
        let threads = decoder.placement().threads;
        let options = Options {
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
        let agree =
            compared.iter().all(|it| it.same_ids() && it.difference().is_some_and(|most| most <= self.tolerance));
        let mut out = io::stdout().lock();
        if self.json {
            let object = json!({
                "model": self.model, "reference": self.reference, "agree": agree, "tolerance": self.tolerance,
                "texts": compared,
            });
            writeln!(out, "{object}")?;
        } else {
            compared.iter().try_for_each(|comparison| print(comparison, &tokenizer, &mut out))?;
            let verdict = if agree { "both agree" } else { "they differ" };
            writeln!(out, "{verdict}; tolerance {} nats", self.tolerance)?;
        }
        Ok(if agree { Exit::Done } else { Exit::Findings })
    }
}

/// What was found for one text.
fn print(comparison: &Comparison, tokenizer: &Tokenizer, out: &mut impl Write) -> io::Result<()> {
    let Comparison { prompt, ids, reference_ids, steps } = comparison;
    let piece = |id: u32| format!("{id} `{}`", visible(&tokenizer.decode_with_special(&[id])));
    writeln!(out, "{}", table::visible(prompt))?;
    match ids.iter().zip(reference_ids).position(|(a, b)| a != b).or((!comparison.same_ids()).then_some(usize::MAX)) {
        None => writeln!(out, "  ids: the same {}", ids.len())?,
        Some(at) => {
            let at = at.min(ids.len()).min(reference_ids.len());
            let of = |ids: &[u32]| ids.get(at).map_or("the end".to_owned(), |&id| piece(id));
            writeln!(out, "  ids: differ from number {at} on: here {}, there {}", of(ids), of(reference_ids))?;
        }
    }
    writeln!(out, "  next tokens: {} of {} the same", comparison.same_tokens(), steps.len())?;
    if let Some(step) = steps.iter().find(|step| step.id != step.reference_id) {
        let (here, there) = (piece(step.id), piece(step.reference_id));
        writeln!(out, "  the first other one: here {here}, there {there}, {:.4} nats less likely here", step.margin)?;
    }
    match comparison.difference() {
        Some(difference) => writeln!(out, "  largest difference: {difference:.4} nats"),
        None => writeln!(out, "  largest difference: unknown"),
    }
}
