use crate::exit::{Exit, UsageError};
use crate::load::LayoutArgs;
use crate::{interrupt, progress, table, units};
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use trine_lab::receipt::PublicKey;
use trine_lab::verify::{Flaw, Source, Verification, rederive, verify};

/// Check that a model file is what it says
///
/// Files that `trine convert` and `trine quantize` write have a receipt: what they were made of and how, and the SHA-256 of every key
/// and tensor. Whatever was changed since is named, down to a single bit. In any file, weights must be finite, ternary codes valid,
/// and the tokenizer readable; rows that are zero or the same as others are warnings. What could not be checked is listed.
///
/// --against makes the file again from its source, by the recipe of the receipt, and compares every tensor; nothing is written.
///
/// The exit status is 5 if something is wrong, and 3 if the file does not open.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine verify model.gguf\n  \
    trine verify q4.gguf --against f16.gguf\n  \
    trine verify iq2.gguf --against f16.gguf --imatrix imatrix.gguf\n  \
    trine verify model.gguf --public-key publisher.pub\n  \
    trine verify model.gguf --json | jq '.failures[].place'")]
pub struct Verify {
    /// Model: a GGUF or safetensors file, or its folder
    model: PathBuf,
    /// What the file was made of, from which it is made again
    #[arg(long, value_name = "SOURCE")]
    against: Option<PathBuf>,
    /// Importance matrix of the recipe
    #[arg(long, value_name = "FILE", requires = "against")]
    imatrix: Option<PathBuf>,
    /// Tokenizer of the recipe, if it is not that of the source
    #[arg(long, value_name = "PATH", requires = "against")]
    tokenizer: Option<PathBuf>,
    /// Require a signature by this ed25519 key: a file such as publisher.pub, or its line `ssh-ed25519 AAAA...`
    #[arg(long, value_name = "KEY")]
    public_key: Option<String>,
    #[command(flatten)]
    layouts: LayoutArgs,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Findings of a kind that are printed; JSON has all.
const SHOWN: usize = 20;

impl Verify {
    pub fn run(self) -> Result<Exit> {
        let key = match &self.public_key {
            Some(key) => Some(PublicKey::read(key).map_err(|error| UsageError {
                message: format!("--public-key: {error}"),
                hint: "`ssh-keygen -t ed25519` makes a pair of keys",
            })?),
            None => None,
        };
        let stop = interrupt::flag()?;
        let file = self.layouts.open(&self.model)?;
        let source = self.against.as_deref().map(|path| self.layouts.open(path)).transpose()?;
        self.layouts.check_used(&[Some(&file), source.as_ref()].into_iter().flatten().collect::<Vec<_>>())?;
        let bar = progress::bytes("verifying", file.tensors().map(|view| view.bytes.len() as u64).sum());
        let found = verify(&file, key.as_ref(), &mut |done| {
            bar.set_position(done);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        let Some(mut found) = found else {
            note!("stopped: there are no results");
            return Ok(Exit::Interrupted);
        };
        if let Some(source) = &source {
            let bar = progress::bytes("making again", 0);
            let (imatrix, tokenizer) = (self.imatrix.as_deref(), self.tokenizer.as_deref());
            let made = rederive(&file, &Source { file: source, imatrix, tokenizer }, &mut found, &mut |done, total| {
                bar.set_length(total);
                bar.set_position(done);
                if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            bar.finish_and_clear();
            made?;
        }
        self.print(&found)?;
        Ok(if found.failures.is_empty() { Exit::Done } else { Exit::Findings })
    }

    fn print(&self, found: &Verification) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let verified = found.failures.is_empty();
        if self.json {
            let mut json = serde_json::to_value(found)?;
            json["path"] = json!(self.model);
            json["verified"] = json!(verified);
            writeln!(out, "{json}")?;
            return Ok(());
        }
        if let Some(receipt) = &found.receipt {
            writeln!(out, "receipt: {}", table::visible(&receipt.to_string()))?;
        }
        for (kind, flaws) in [("failed", &found.failures), ("warning", &found.warnings)] {
            for Flaw { place, problem } in flaws.iter().take(SHOWN) {
                writeln!(out, "{kind}: {}: {}", table::visible(place), table::visible(problem))?;
            }
            if let Some(more) = flaws.len().checked_sub(SHOWN + 1) {
                writeln!(out, "{kind}: and {} more: --json has all", more + 1)?;
            }
        }
        for what in &found.unchecked {
            writeln!(out, "not checked: {}", table::visible(what))?;
        }
        let (tensors, size) = (units::plural(found.tensors as u64, "tensor"), units::bytes(found.bytes));
        let again = if self.against.is_some() { ", made again from its source" } else { "" };
        let result = match (verified, found.receipt.is_some()) {
            (true, true) => format!("verified: {tensors}, {size}, and all keys are as the receipt says{again}"),
            (true, false) => format!("nothing wrong found: {tensors}, {size}"),
            (false, _) => format!("{} in {tensors}, {size}", units::plural(found.failures.len() as u64, "failure")),
        };
        writeln!(out, "{}: {result}", self.model.display())?;
        Ok(())
    }
}
