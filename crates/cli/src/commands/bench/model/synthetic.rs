//! `--shape`: a model with random weights.

use crate::exit::UsageError;
use crate::{measure, progress, units};
use anyhow::{Context, Result};
use std::fmt::{self, Display, Formatter};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use trine_lab::synthetic::{self, Mixture, Shape};

pub struct Synthetic {
    pub shape: Shape,
    pub mixture: Mixture,
}

impl Synthetic {
    /// What `--shape`, `--format` and `--head` say.
    pub fn new(shape: &str, format: Option<&str>, head: Option<&str>) -> Result<Synthetic, UsageError> {
        let unknown = |flag: &str, name: &str, hint| UsageError {
            message: format!("{flag}: expected one of {}, found `{name}`", Mixture::names()),
            hint,
        };
        let hint = "for example --shape 2b4t, or --shape layers=4,hidden=2048";
        let shape: Shape =
            shape.parse().map_err(|problem| UsageError { message: format!("--shape: {problem}"), hint })?;
        let format = format.unwrap_or(shape.usual_mixture());
        let mut mixture =
            Mixture::named(format).ok_or_else(|| unknown("--format", format, "for example --format q4_k_m"))?;
        if let Some(head) = head {
            mixture = mixture.with_head(head).ok_or_else(|| unknown("--head", head, "for example --head q6_k"))?;
        }
        Ok(Synthetic { shape, mixture })
    }

    /// The file in the user's cache, which is written if it is not there.
    pub fn path(&self, stop: &AtomicBool) -> Result<PathBuf> {
        let Synthetic { shape, mixture } = self;
        let folder = dirs::cache_dir().unwrap_or_else(std::env::temp_dir).join("trine").join("bench");
        let path = folder.join(format!("{}-{}-{}.gguf", shape.name, mixture.name(), synthetic::REVISION));
        let (needed, free) = (shape.bytes(*mixture)?, measure::free_memory());
        if let Some(free) = free.filter(|&free| needed > free) {
            let (needed, free) = (units::bytes(needed), units::bytes(free));
            let message =
                format!("--shape {}: expected weights that fit into {free} of memory, found {needed}", shape.name);
            let hint = "choose fewer layers, as in --shape 70b,layers=8, or a smaller --format; --write-model writes the file all the same";
            return Err(UsageError { message, hint }.into());
        }
        if !path.exists() {
            self.write(&path, stop)?;
        }
        Ok(path)
    }

    /// Writes the model, and creates its folder if necessary.
    pub fn write(&self, path: &Path, stop: &AtomicBool) -> Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let bar = progress::bytes("writing", 0);
        let written = synthetic::write(path, &self.shape, self.mixture, 0, &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        Ok(written?)
    }
}

impl Display for Synthetic {
    fn fmt(&self, out: &mut Formatter) -> fmt::Result {
        write!(out, "{} ({}) in {}", self.shape.name, self.shape.of, self.mixture.name())
    }
}
