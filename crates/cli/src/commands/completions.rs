use crate::completion;
use crate::exit::Exit;
use anyhow::Result;
use clap::Args;
use std::io::Write;

/// Print a completion script for a shell
///
/// With it, Tab offers commands, options and their values, files, and the built-in model.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine completions bash > ~/.local/share/bash-completion/completions/trine\n  \
    trine completions zsh > ~/.zfunc/_trine\n  \
    trine completions fish > ~/.config/fish/completions/trine.fish")]
pub struct Completions {
    shell: clap_complete::Shell,
}

impl Completions {
    pub fn run(self) -> Result<Exit> {
        std::io::stdout().write_all(&completion::script(&self.shell.to_string())?)?;
        Ok(Exit::Done)
    }
}
