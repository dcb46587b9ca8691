//! Ctrl-C stops an answer, the loading of a model or other work; a second Ctrl-C exits.

use crate::exit::Exit;
use crate::terminal::Settings;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use trine_tensor::Replacement;

/// A flag that Ctrl-C sets. Its user may clear it. The terminal is left as it is now.
///
/// # Errors
/// When the handler cannot be installed.
pub fn flag() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let (set, terminal) = (flag.clone(), Settings::now());
    ctrlc::set_handler(move || {
        if set.swap(true, Relaxed) {
            Replacement::remove_unfinished();
            terminal.restore();
            std::process::exit(Exit::Interrupted as i32);
        }
    })
    .map_err(|error| anyhow::anyhow!("cannot wait for Ctrl-C, which takes a thread: {error}"))?;
    Ok(flag)
}
