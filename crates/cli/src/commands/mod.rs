//! The commands, one file each.

mod batch;
mod bench;
mod compare;
mod completions;
mod convert;
mod crossval;
mod debug;
mod devices;
mod diff;
mod doctor;
mod edit;
mod embed;
mod eval;
mod generate_data;
mod imatrix;
mod info;
mod key;
mod list;
mod merge;
mod pull;
mod quantize;
mod rm;
mod run;
mod serve;
mod split;
mod tokenize;
mod tokenizer;
mod top;
mod train;
mod tune;
mod verify;

use crate::exit::Exit;
use anyhow::Result;
use clap::Subcommand;

/// All commands. To add one, add a file in this folder, two rows here, and its name in [`GROUPS`].
#[derive(Subcommand)]
pub enum Command {
    Run(run::Run),
    Serve(serve::Serve),
    Key(key::KeyCommand),
    Top(top::Top),
    Batch(batch::Batch),
    Embed(embed::Embed),
    Tokenize(tokenize::Tokenize),
    Pull(pull::Pull),
    List(list::List),
    Rm(rm::Rm),
    Info(info::Info),
    Convert(convert::Convert),
    Quantize(quantize::Quantize),
    Split(split::Split),
    Merge(merge::Merge),
    Diff(diff::DiffCommand),
    Edit(edit::Edit),
    Imatrix(imatrix::ImatrixCommand),
    Verify(verify::Verify),
    Doctor(doctor::Doctor),
    Train(train::Train),
    Tokenizer(tokenizer::TokenizerCommand),
    GenerateData(generate_data::GenerateData),
    Bench(bench::Bench),
    Tune(tune::Tune),
    Eval(eval::Eval),
    Compare(compare::Compare),
    Crossval(crossval::Crossval),
    Debug(debug::Debug),
    Devices(devices::Devices),
    Completions(completions::Completions),
}

/// The commands by subject, as the help lists them.
pub const GROUPS: [(&str, &[&str]); 6] = [
    ("Run models", &["run", "serve", "key", "top", "batch", "embed", "tokenize"]),
    ("Download models", &["pull", "list", "rm"]),
    ("Model files", &["info", "convert", "quantize", "imatrix", "split", "merge", "diff", "edit", "verify", "doctor"]),
    ("Train models", &["train", "tokenizer", "generate-data"]),
    ("Measure", &["bench", "tune", "eval", "compare", "crossval", "debug", "devices"]),
    ("Other", &["completions", "help"]),
];

impl Command {
    pub fn run(self) -> Result<Exit> {
        match self {
            Command::Run(command) => command.run(),
            Command::Serve(command) => command.run(),
            Command::Key(command) => command.run(),
            Command::Top(command) => command.run(),
            Command::Batch(command) => command.run(),
            Command::Embed(command) => command.run(),
            Command::Tokenize(command) => command.run(),
            Command::Pull(command) => command.run(),
            Command::List(command) => command.run(),
            Command::Rm(command) => command.run(),
            Command::Info(command) => command.run(),
            Command::Convert(command) => command.run(),
            Command::Quantize(command) => command.run(),
            Command::Split(command) => command.run(),
            Command::Merge(command) => command.run(),
            Command::Diff(command) => command.run(),
            Command::Edit(command) => command.run(),
            Command::Imatrix(command) => command.run(),
            Command::Verify(command) => command.run(),
            Command::Doctor(command) => command.run(),
            Command::Train(command) => command.run(),
            Command::Tokenizer(command) => command.run(),
            Command::GenerateData(command) => command.run(),
            Command::Bench(command) => command.run(),
            Command::Tune(command) => command.run(),
            Command::Eval(command) => command.run(),
            Command::Compare(command) => command.run(),
            Command::Crossval(command) => command.run(),
            Command::Debug(command) => command.run(),
            Command::Devices(command) => command.run(),
            Command::Completions(command) => command.run(),
        }
    }
}
