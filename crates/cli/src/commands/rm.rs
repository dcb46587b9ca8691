use crate::exit::{Exit, UsageError};
use crate::{hub, units};
use anyhow::{Context, Result};
use clap::Args;
use std::io::{IsTerminal, Write};
use trine_hub::Reference;

/// Remove downloaded models
///
/// Without a format or file, all of the repository goes, with downloads that are not complete. Content that another snapshot has, too,
/// stays.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine rm Qwen/Qwen3-0.6B-GGUF\n  \
    trine rm Qwen/Qwen3-0.6B-GGUF:Q8_0 --yes     one of its files")]
pub struct Rm {
    /// Model: OWNER/REPO, and after a colon the name of a format or file
    #[arg(value_name = "MODEL")]
    reference: String,
    /// Remove only this branch, tag or commit
    #[arg(long, value_name = "NAME")]
    revision: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Rm {
    pub fn run(self) -> Result<Exit> {
        let reference: Reference = self.reference.parse()?;
        let cache =
            hub::cache().context("expected a home folder of the user, found none: HF_HUB_CACHE names a folder")?;
        let revision = self.revision.as_deref();
        let models = cache.removable(&reference, revision)?;
        let files: usize = models.iter().map(|model| model.files.len()).sum();
        let files = units::plural(files as u64, "file");
        if !self.yes {
            if !std::io::stdin().is_terminal() {
                let message = "expected a terminal to ask on, or --yes".to_owned();
                return Err(UsageError { message, hint: "--yes removes without a question" }.into());
            }
            let mut err = std::io::stderr();
            write!(err, "remove {reference} ({files}) from {}? [y/N] ", cache.root().display())?;
            err.flush()?;
            let mut answer = String::new();
            std::io::stdin().read_line(&mut answer)?;
            if !["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
                note!("note: nothing was removed");
                return Ok(Exit::Work);
            }
        }
        let removed = cache.remove(&reference, revision)?;
        note!("note: {files} removed, {} freed", units::bytes(removed.bytes));
        Ok(Exit::Done)
    }
}
