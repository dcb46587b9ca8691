//! Measures of how good a model is, one file each.

mod perplexity;

use crate::exit::Exit;
use anyhow::Result;
use clap::{Args, Subcommand};

/// Measure how good a model is
#[derive(Args)]
pub struct Eval {
    #[command(subcommand)]
    measure: Measure,
}

/// Every measure. A new one is a file beside these and two rows here.
#[derive(Subcommand)]
enum Measure {
    Perplexity(perplexity::Perplexity),
}

impl Eval {
    pub fn run(self) -> Result<Exit> {
        match self.measure {
            Measure::Perplexity(measure) => measure.run(),
        }
    }
}
