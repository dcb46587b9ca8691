//! The program `trine`.

/// Prints lines on stderr; a label such as `error: ` is coloured.
macro_rules! note {
    ($($arg:tt)*) => { crate::say::note(format_args!($($arg)*)) };
}

/// Prints lines on stderr that are dim on a terminal.
macro_rules! aside {
    ($($arg:tt)*) => { crate::say::aside(format_args!($($arg)*)) };
}

mod advice;
mod answer;
mod chat;
mod choices;
mod chunks;
mod commands;
mod completion;
mod config;
mod constraint;
mod conversion;
mod effects;
mod environment;
mod exit;
mod help;
mod hub;
mod input;
mod interrupt;
mod load;
mod machine;
mod measure;
mod memory;
mod near;
mod output;
mod print_config;
mod priority;
mod profile;
mod progress;
mod recipe;
mod record;
#[cfg(test)]
mod reference;
mod report;
mod sampling;
mod say;
mod search;
mod secret;
mod table;
mod template;
mod terminal;
mod top;
mod units;
mod warm;
mod wrap;

use clap::{FromArgMatches, Parser};
use commands::Command;
use exit::Exit;
use std::process::ExitCode;

/// Low-bit language models on your own machine
#[derive(Parser)]
#[command(
    name = "trine",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "`trine COMMAND -h` lists common options, `trine COMMAND --help` all of them.",
    after_long_help = "The name of the built-in model is `embedded:stories`.\n\
        If the reader of its output exits (`trine ... | head`), trine exits with 0.\n\
        RUST_LOG=debug shows internal events on stderr."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    trine_tensor::memory::use_one_arena();
    // All that follows may use the features that it asks for.
    trine_kernels::require_cpu_features();
    start()
}

#[inline(never)]
fn start() -> ExitCode {
    if let Some(answered) = completion::answer() {
        return if answered.is_ok() { Exit::Done.into() } else { Exit::Work.into() };
    }
    let cli = Cli::from_arg_matches(&environment::matches(help::command())).unwrap_or_else(|error| error.exit());
    match cli.command.run() {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&error).into(),
    }
}
