//! `trine compare`: what files of one model cost and gain, in a table and a picture.

mod picture;

use crate::exit::{Exit, UsageError};
use crate::input::SeparatorArg;
use crate::load::LoadArgs;
use crate::output::OutputFile;
use crate::table::{columns, visible};
use crate::{chunks, interrupt, output, progress, units};
use anyhow::Result;
use clap::{Args, value_parser};
use serde::Serialize;
use serde_json::json;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use trine::Decoder;
use trine_engine::EngineOptions;
use trine_lab::bench::{Kind, Subject, Test, Trine, measure, median_interval};
use trine_lab::divergence::{Divergence, DivergenceOptions, Reference, compare};

/// Tokens that are generated to measure the speed, and how often.
const TOKENS: usize = 32;
const RUNS: usize = 3;

/// Compare files of one model by quality, size and speed
///
/// The first file is the reference. Of each other file it measures the divergence of its predictions from those of the reference, as
/// `trine eval kl` does, which cuts the text in the same way, and of all files the perplexity of the text, the bits per weight and the tokens per second of one answer.
///
/// --svg and --png write a picture: divergence over size and over speed.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine compare f16.gguf q8_0.gguf q4_k_m.gguf text.txt\n  \
    trine compare f16.gguf q*.gguf text.txt --chunks 20 --svg quality.svg\n  \
    trine compare f16.gguf q4.gguf text.txt --json | jq '.files[].mean_kl'")]
pub struct Compare {
    /// Models, the reference first, and a text file, or a .jsonl file with a text in each line
    #[arg(required = true, num_args = 2.., value_name = "FILES")]
    models: Vec<PathBuf>,
    #[command(flatten)]
    separator: SeparatorArg,
    /// Chunks of the text
    #[arg(long, value_name = "N", default_value = "10", value_parser = value_parser!(u32).range(1..))]
    chunks: u32,
    /// Write a picture of divergence over size and speed
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The same as PNG
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// Replace existing pictures
    #[arg(long)]
    force: bool,
    /// Print one line of JSON; unknown values are null
    #[arg(long)]
    json: bool,
    /// Print no progress and no warnings
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    load: LoadArgs,
}

/// What was measured of a file.
#[derive(Serialize)]
struct Row {
    file: PathBuf,
    bytes: u64,
    bits_per_weight: f64,
    tokens_per_second: Option<f64>,
    perplexity: f64,
    #[serde(flatten)]
    divergence: Divergence,
}

impl Compare {
    pub fn run(mut self) -> Result<Exit> {
        let text = self.models.pop().expect("clap requires two");
        if self.force && self.svg.is_none() && self.png.is_none() {
            let message = "--force: no picture is written, and nothing is replaced".to_owned();
            return Err(UsageError { message, hint: "omit it, or add --svg or --png" }.into());
        }
        for (flag, picture, other) in [("--svg", &self.svg, "png"), ("--png", &self.png, "svg")] {
            let extension = picture.as_ref().and_then(|path| path.extension());
            if extension.is_some_and(|extension| extension.eq_ignore_ascii_case(other)) {
                let message = format!("{flag}: expected another name, found one that ends with .{other}");
                return Err(UsageError { message, hint: "--svg writes SVG, --png writes PNG" }.into());
            }
        }
        for picture in [&self.svg, &self.png].into_iter().flatten() {
            output::check_new(picture, self.force, "--force replaces it")?;
        }
        if self.models.len() < 2 {
            let message = format!("expected two models or more and a text, found {} model", self.models.len());
            return Err(UsageError { message, hint: "for example trine compare f16.gguf q4.gguf text.txt" }.into());
        }
        if self.load.quantize_on_load.is_some() {
            let message = "--quantize-on-load: expected files as they are, whose sizes are compared".to_owned();
            return Err(UsageError { message, hint: "`trine quantize` writes the other file" }.into());
        }
        let stop = interrupt::flag()?;
        let documents = self.separator.documents(&text, self.quiet)?;
        let mut rows: Vec<Row> = Vec::new();
        for file in &self.models {
            rows.push(self.measure(file, &documents, &stop)?);
        }
        for (path, is_png) in [(&self.svg, false), (&self.png, true)] {
            let Some(path) = path else { continue };
            let bytes = picture::draw(&rows, is_png)?;
            OutputFile::new(path, &text)?.write(|out| out.write_all(&bytes))?;
            if !self.quiet {
                note!("note: the picture is in {}", visible(&path.display().to_string()));
            }
        }
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", json!({ "reference": self.models[0], "text": text, "files": rows }))?;
            return Ok(Exit::Done);
        }
        let head = ["file", "size", "bits", "mean KL", "95 %", "top 1 %", "perplexity", "tokens/s"];
        let mut table = vec![head.map(str::to_owned)];
        for row in &rows {
            let kl = &row.divergence;
            let between = kl.mean_kl_low.zip(kl.mean_kl_high);
            table.push([
                visible(&row.file.display().to_string()),
                units::bytes(row.bytes),
                format!("{:.2}", row.bits_per_weight),
                format!("{:.6}", kl.mean_kl),
                between.map_or(String::new(), |(low, high)| format!("{low:.6} to {high:.6}")),
                format!("{:.2}", 100.0 * kl.top1),
                format!("{:.4}", row.perplexity),
                row.tokens_per_second.map_or("unknown".to_owned(), units::measured),
            ]);
        }
        writeln!(out, "{}", columns(&table, 1))?;
        Ok(Exit::Done)
    }

    fn open(&self, model: &Path, stop: &Arc<AtomicBool>) -> Result<Decoder> {
        let decoder = self.load.load(model, self.quiet, stop)?;
        if !self.quiet {
            decoder.warnings().iter().for_each(|warning| note!("warning: {}: {}", model.display(), visible(warning)));
        }
        Ok(decoder)
    }

    /// Divergence, size and speed of a file.
    fn measure(&self, path: &Path, documents: &[String], stop: &Arc<AtomicBool>) -> Result<Row> {
        let file = self.load.layouts.open(path)?;
        let weights: usize = file.tensors().map(|view| view.rows() * view.cols()).sum();
        let stored: u64 = file.tensors().map(|view| view.bytes.len() as u64).sum();
        let reference = self.open(&self.models[0], stop)?;
        let decoder = self.open(path, stop)?;
        let models = [(&*self.models[0], &reference), (path, &decoder)];
        let cut = chunks::chunks(&self.load, models, documents, self.chunks as usize)?;
        let options = DivergenceOptions {
            batch: self.load.batch.map_or(512, |batch| batch as usize),
            threads: decoder.placement().threads_batch,
            cache_type: self.load.machine.cache_type,
        };
        let bar = match self.quiet {
            true => indicatif::ProgressBar::hidden(),
            false => progress::bar("{msg} {bar:30} {pos}/{len} chunks {eta}", cut.len() as u64),
        };
        bar.set_message(visible(&path.display().to_string()));
        let (mut first, _) = reference.into_parts();
        let (mut runner, _) = decoder.into_parts();
        let divergence = compare(Reference::Runner(&mut *first), &mut *runner, &cut, &options, &mut |done, _| {
            bar.set_position(done as u64);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        let divergence = divergence?;
        // Threads of a model that is not used would only be in the way.
        drop(first);
        Ok(Row {
            file: path.to_owned(),
            bytes: file.size(),
            bits_per_weight: 8.0 * stored as f64 / weights.max(1) as f64,
            tokens_per_second: self.speed(&mut *runner, stop)?,
            perplexity: divergence.perplexity,
            divergence,
        })
    }

    /// Tokens per second of one answer, the median.
    fn speed(&self, runner: &mut dyn trine_model::Runner, stop: &AtomicBool) -> Result<Option<f64>> {
        let tokens = TOKENS.min(runner.spec().context_length);
        let test = Test { kind: Kind::Decode, tokens, sequences: 1, depth: 0 };
        let flow = || if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let options = EngineOptions { cache_type: self.load.machine.cache_type, ..EngineOptions::default() };
        let mut trine = Trine::new(runner, &[test], &options, &flow)?;
        trine.run(test)?;
        let samples = measure(&mut [&mut trine], &[test], RUNS, &mut || None, &mut |_, _| flow())?;
        trine.release();
        let speeds: Vec<f64> = samples[0][0].kept.iter().map(|sample| tokens as f64 / sample.seconds).collect();
        Ok(median_interval(&speeds).map(|interval| interval.median))
    }
}
