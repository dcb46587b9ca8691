use crate::exit::Exit;
use anyhow::Result;
use clap::{Args, CommandFactory};
use std::io::Write;

/// Print a completion script for a shell
#[derive(Args)]
#[command(after_help = "Example:\n  \
    trine completions bash > ~/.local/share/bash-completion/completions/trine")]
pub struct Completions {
    shell: clap_complete::Shell,
}

impl Completions {
    pub fn run(self) -> Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Cli::command(), "trine", &mut script);
        std::io::stdout().write_all(&script)?;
        Ok(Exit::Done)
    }
}
