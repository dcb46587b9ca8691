//! Ctrl-C stops an answer or the loading of a model; a second Ctrl-C exits.

use crate::exit::Exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A flag that Ctrl-C sets. Its user may clear it.
///
/// # Errors
/// When the handler cannot be installed.
pub fn flag() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    ctrlc::set_handler(move || {
        if set.swap(true, Relaxed) {
            std::process::exit(Exit::Interrupted as i32);
        }
    })?;
    Ok(flag)
}
