//! What is inside of a model, one file each.

mod activations;
mod plan;

use crate::exit::Exit;
use anyhow::Result;
use clap::{Args, Subcommand};

/// Look inside of a model
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine debug activations model.gguf \"Once upon a time\" -o a.safetensors\n  \
    trine debug plan model.gguf")]
pub struct Debug {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Activations(activations::Activations),
    Plan(plan::Plan),
}

impl Debug {
    pub fn run(self) -> Result<Exit> {
        match self.what {
            What::Activations(command) => command.run(),
            What::Plan(command) => command.run(),
        }
    }
}
