//! What is measured, one file each.

mod bandwidth;
mod batching;
mod history;
mod model;
mod ops;
mod quantize;
mod scaling;
mod startup;
mod trend;

use crate::exit::Exit;
use anyhow::Result;
use clap::{Args, Command, Subcommand};
pub use model::ItlTarget;

/// Measure the speed of a model, and the limits of the machine
///
/// Without a command, or with `model`, it runs tests of a model; the other commands measure parts. A file that is called as one of them is given
/// as ./scaling.
///
/// Tests are named as in llama-bench: pp512 is a prompt of 512 tokens, tg64x16 generates 64 tokens for each of 16 sequences.
/// Tokens/s are those of all sequences together: the median over runs, with its 95 % confidence interval (with fewer than 6 runs, at
/// the level shown). A run repeats short tests for 0.2 s. Memory bandwidth is measured before and after each run, and a run is
/// repeated if it changed.
///
/// A limit is the bandwidth around the runs and the peak before and after them. `!` marks a share that is more than all of it.
///
/// With --baseline the exit status is 4 if a test is significantly slower by more than 5 %, on a machine that is no busier, and
/// by more than slower memory explains. It is 6 if that cannot be told of a test, and of none that it is slower.
///
/// Synthetic models have random weights, always the same. They are cached in the user's cache folder, under trine/bench, and may
/// be deleted at any time.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:\n  \
    trine bench                                  the built-in model\n  \
    trine bench model.gguf\n  \
    trine bench --shape 2b4t --format i2_s --batch 1,4,16\n  \
    trine bench model.gguf --save-baseline before.json\n  \
    trine bench model.gguf --baseline before.json\n  \
    trine bench model.gguf --load clients=8,prompt=16-64,output=32,requests=32\n  \
    trine bench model.gguf --against xllamacpp --python .venv/bin/python\n  \
    trine bench --shape 7b --format q4_0 --write-model 7b.gguf\n  \
    trine bench scaling model.gguf\n  \
    trine bench quantize --output md")]
pub struct Bench {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    model: model::Model,
}

/// All parts. To add one, add a file in this folder and two rows here.
#[derive(Subcommand)]
enum Part {
    /// Measure the speed of a model, as without a command
    Model(Box<model::Model>),
    Startup(startup::Startup),
    Scaling(scaling::Scaling),
    Batching(batching::Batching),
    Bandwidth(bandwidth::Bandwidth),
    Ops(ops::Ops),
    Quantize(quantize::Quantize),
    History(history::History),
}

/// The names of parts.
fn parts() -> Vec<String> {
    let command = Part::augment_subcommands(Command::new("bench"));
    command.get_subcommands().map(|part| part.get_name().to_owned()).collect()
}

impl Bench {
    pub fn run(self) -> Result<Exit> {
        match self.part {
            None => self.model.run(),
            Some(Part::Model(model)) => model.run(),
            Some(Part::Startup(part)) => part.run(),
            Some(Part::Scaling(part)) => part.run(),
            Some(Part::Batching(part)) => part.run(),
            Some(Part::Bandwidth(part)) => part.run(),
            Some(Part::Ops(part)) => part.run(),
            Some(Part::Quantize(part)) => part.run(),
            Some(Part::History(part)) => part.run(),
        }
    }
}
