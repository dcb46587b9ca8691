//! Quality measures, one file each.

mod kl;
mod perplexity;
mod tasks;
mod w8a8;

use crate::exit::Exit;
use anyhow::Result;
use clap::{Args, Subcommand};

/// Measure the quality of a model
#[derive(Args)]
pub struct Eval {
    #[command(subcommand)]
    measure: Measure,
}

/// All measures. To add one, add a file in this folder and two rows here.
#[derive(Subcommand)]
enum Measure {
    Perplexity(perplexity::EvalPerplexity),
    Kl(kl::EvalKl),
    Logits(kl::EvalLogits),
    Tasks(tasks::EvalTasks),
    W8a8(w8a8::EvalW8A8),
}

impl Eval {
    pub fn run(self) -> Result<Exit> {
        match self.measure {
            Measure::Perplexity(measure) => measure.run(),
            Measure::Kl(measure) => measure.run(),
            Measure::Logits(measure) => measure.run(),
            Measure::Tasks(measure) => measure.run(),
            Measure::W8a8(measure) => measure.run(),
        }
    }
}
