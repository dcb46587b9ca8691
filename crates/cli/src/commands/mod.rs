//! The commands, one file each.

mod bench;
mod completions;
mod crossval;
mod devices;
mod doctor;
mod embed;
mod eval;
mod generate_data;
mod info;
mod quantize;
mod run;
mod tokenize;
mod tokenizer;
mod train;

use crate::exit::Exit;
use anyhow::Result;
use clap::Subcommand;

/// Every command. A new one is a file beside these and two rows here.
#[derive(Subcommand)]
pub enum Command {
    Run(run::Run),
    Info(info::Info),
    Tokenize(tokenize::Tokenize),
    Tokenizer(tokenizer::TokenizerCommand),
    Quantize(quantize::Quantize),
    Embed(embed::Embed),
    Eval(eval::Eval),
    GenerateData(generate_data::GenerateData),
    Train(train::Train),
    Bench(bench::Bench),
    Devices(devices::Devices),
    Doctor(doctor::Doctor),
    Crossval(crossval::Crossval),
    Completions(completions::Completions),
}

impl Command {
    /// Does it.
    pub fn run(self) -> Result<Exit> {
        match self {
            Command::Run(command) => command.run(),
            Command::Info(command) => command.run(),
            Command::Tokenize(command) => command.run(),
            Command::Tokenizer(command) => command.run(),
            Command::Quantize(command) => command.run(),
            Command::Embed(command) => command.run(),
            Command::Eval(command) => command.run(),
            Command::GenerateData(command) => command.run(),
            Command::Train(command) => command.run(),
            Command::Bench(command) => command.run(),
            Command::Devices(command) => command.run(),
            Command::Doctor(command) => command.run(),
            Command::Crossval(command) => command.run(),
            Command::Completions(command) => command.run(),
        }
    }
}
