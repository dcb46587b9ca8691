//! The program `trine`.

/// Prints a line on stderr; when nobody reads it any more, so be it.
macro_rules! note {
    ($($arg:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{}\n", format_args!($($arg)*)));
    }};
}

mod advice;
mod answer;
mod chat;
mod commands;
mod exit;
mod input;
mod interrupt;
mod load;
mod measure;
mod output;
mod profile;
mod progress;
mod sampling;
mod table;
mod units;

use clap::Parser;
use commands::Command;
use exit::Exit;
use std::process::ExitCode;

/// Small-bit language models on your own machine.
#[derive(Parser)]
#[command(
    name = "trine",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Exit status:\n  \
        0    done\n  \
        1    the work failed\n  \
        2    the command line makes no sense\n  \
        3    the model file cannot be opened, or makes no sense\n  \
        4    slower than the baseline of `trine bench`\n  \
        5    `trine doctor` found something\n  \
        130  interrupted\n\n\
        Wherever a model is named, `embedded:stories` is the small one that is part of trine.\n\
        A reader that goes away (`trine ... | head`) ends the program quietly with 0.\n\
        RUST_LOG=debug shows what happens inside, on stderr."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let missing = trine::kernels::missing_features();
    if !missing.is_empty() {
        note!(
            "error: this program was compiled for CPUs with {}, which this one does not have\n\
             hint: take a build for every CPU, or compile it without `-C target-cpu`",
            missing.join(", ")
        );
        return Exit::Work.into();
    }
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr())
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .log_internal_errors(false)
        .init();
    match cli.command.run() {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&error).into(),
    }
}
